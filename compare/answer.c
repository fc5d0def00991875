/* Extraction and scoring of answers. */
#include "compare/answer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/textbuf.h"

const char *const kvt_which_names[3] = { "first", "last", NULL };
const char *const kvt_equal_names[5] = { "text", "number", "contains", "starts", NULL };

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for an answer"); }

/* s (n bytes) without white space at its ends, without what the rule drops, malloc'ed into *out. */
static int clean(const struct kvt_answer_rule *r, const char *s, size_t n, char **out, struct kvt_err *err)
{
    size_t lead;
    n = kvt_text_trim(s, n, &lead);
    char *text = malloc(n + 1);
    if (!text)
        return no_memory(err);
    memcpy(text, s + lead, n);
    text[n] = 0;
    for (int i = 0; i < r->n_drops; i++) {
        char *less = kvt_pattern_drop(r->drop[i], text);
        free(text);
        if (!(text = less))
            return no_memory(err);
    }
    for (char *c = text; r->lower && *c; c++)
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    *out = text;
    return 0;
}

int kvt_answer_clean(const struct kvt_answer_rule *r, const char *gold, char **out, struct kvt_err *err)
{
    return clean(r, gold, strlen(gold), out, err);
}

int kvt_answer_find(const struct kvt_answer_rule *r, const char *output, int nth, char **out, struct kvt_err *err)
{
    size_t n = strlen(output), at = 0;
    struct kvt_found f, one = { 0 };
    bool any = !r->find;
    *out = NULL;
    if (!r->find)
        return clean(r, output, n, out, err);
    for (int i = 0; kvt_pattern_find(r->find, output, n, at, &f); i++) {
        one = f;
        any = nth < 0 || i == nth;
        if (nth < 0 ? r->which == KVT_WHICH_FIRST : i == nth)
            break;
        at = f.end > f.start ? f.end : f.end + 1;
    }
    return any ? clean(r, output + one.group_start, one.group_end - one.group_start, out, err) : 0;
}

static bool same_number(const char *a, const char *b)
{
    char *a_end, *b_end;
    double x = strtod(a, &a_end), y = strtod(b, &b_end);
    return *a && *b && !*a_end && !*b_end && isfinite(x) && x == y;
}

bool kvt_answer_right(const struct kvt_answer_rule *r, const char *answer, const char *gold)
{
    if (!answer)
        return false;
    switch (r->equal) {
    case KVT_EQUAL_NUMBER: return same_number(answer, gold);
    case KVT_EQUAL_CONTAINS: return strstr(answer, gold) != NULL;
    case KVT_EQUAL_STARTS: return !strncmp(answer, gold, strlen(gold));
    case KVT_EQUAL_TEXT: break;
    }
    return !strcmp(answer, gold);
}

bool kvt_answer_cut(char *output, char *const *stop, int n)
{
    char *first = NULL;
    for (int i = 0; i < n; i++) {
        char *at = strstr(output, stop[i]);
        if (at && (!first || at < first))
            first = at;
    }
    if (first)
        *first = 0;
    return first;
}
