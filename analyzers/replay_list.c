/* Ranges, written out as text: what the numbers mean is for those who read the items. */
#include "analyzers/replay_list.h"

#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 10000, ITEM = 512 };

struct list {
    char **item;
    int n;
    const char *what;
};

static bool digit(char c) { return isdigit((unsigned char)c) || c == '.'; }

static int add(struct list *l, const char *text, struct kvt_err *err)
{
    if (l->n == MOST)
        return kvt_fail(err, KVT_EUSAGE, "%s: more than %d combinations; use larger steps", l->what, MOST);
    char **grown = l->n & (l->n - 1) ? l->item : realloc(l->item, 2 * (size_t)(l->n ? l->n : 1) * sizeof *grown);
    l->item = grown ? grown : l->item;
    if (!grown || !(l->item[l->n] = strdup(text)))
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d methods", l->n + 1);
    l->n++;
    return 0;
}

/* One item: its first range is written out, and each result looked at again. */
static int expand(struct list *l, const char *text, struct kvt_err *err)
{
    char out[ITEM];
    const char *dots = strstr(text, "..");
    if (!dots)
        return add(l, text, err);
    const char *from = dots, *end = dots + 2;
    bool percent = dots > text && dots[-1] == '%';
    from -= percent;
    while (from > text && digit(from[-1]))
        from--;
    double step = 0, a = strtod(from, NULL), b;
    char *after;
    b = digit(*end) ? strtod(end, &after) : NAN;
    if (!digit(*from) || isnan(b) || !(a > 0) || b < a)
        return kvt_fail(err, KVT_EUSAGE, "%s '%.60s': a range is a..b with numbers above 0, the smaller first; or a..b:step", l->what, text);
    end = after;
    if (percent && *end != '%')
        return kvt_fail(err, KVT_EUSAGE, "%s '%.60s': both ends of a range of shares have a %%, as 5%%..95%%", l->what, text);
    end += *end == '%';
    if (*end == ':') {
        step = strtod(end + 1, &after);
        if (!(step > 0))
            return kvt_fail(err, KVT_EUSAGE, "%s '%.60s': a step is a number above 0, as 16..64:8", l->what, text);
        end = after + (percent && *after == '%');
    }
    step = !step && percent ? 5 : step;
    int rc = 0;
    for (double v = a, k = 1; !rc; k++) {
        snprintf(out, sizeof out, "%.*s%.10g%s%s", (int)(from - text), text, v, percent ? "%" : "", end);
        rc = expand(l, out, err);
        if (v >= b)
            break;
        v = step ? a + k * step : 2 * v;
        if (v > b * (1 + 1e-12)) {
            if (step)
                break;
            v = b;
        }
    }
    return rc;
}

int kvt_ranges(const char *list, const char *what, char ***out, int *count, struct kvt_err *err)
{
    struct list l = {.what = what};
    char one[ITEM];
    int rc = 0, depth = 0;
    const char *start = list;
    for (const char *p = list; !rc; p++) {
        depth += (*p == '[') - (*p == ']');
        if (*p && (*p != ',' || depth > 0))
            continue;
        size_t n = (size_t)(p - start);
        while (n && isspace((unsigned char)*start))
            start++, n--;
        while (n && isspace((unsigned char)start[n - 1]))
            n--;
        if (!n || n >= sizeof one)
            rc = kvt_fail(err, KVT_EUSAGE, n ? "%s: '%.40s...' is longer than any item can be" : "%s: an item of the list is empty", what, start);
        else
            snprintf(one, sizeof one, "%.*s", (int)n, start);
        if (!rc)
            rc = expand(&l, one, err);
        start = p + 1;
        if (!*p)
            break;
    }
    *out = l.item, *count = l.n;
    if (rc)
        kvt_ranges_free(out, l.n);
    return rc;
}

void kvt_ranges_free(char ***list, int count)
{
    for (int i = 0; *list && i < count; i++)
        free((*list)[i]);
    free(*list);
    *list = NULL;
}
