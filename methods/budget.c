/* Budgets as people type them: "25%", "0.25", "12.5%", exact in millionths; "256", "768/layer", "4MB/all". */
#include <ctype.h>
#include <string.h>

#include "kvt/method.h"

enum { PPM = 1000000 };
#define MOST ((int64_t)1 << 50) /* of an amount */

/* A decimal number times scale, digits below a millionth cut off; false if it isn't one or is above 10^6 x scale.
 * *end is left behind its last character. */
static bool decimal(const char *text, int64_t scale, int64_t *out, const char **end)
{
    int64_t v = 0, unit = scale;
    bool digits = false;
    for (; isdigit((unsigned char)*text); text++) {
        v = v * 10 + (*text - '0') * scale;
        digits = true;
        if (v > PPM * scale)
            return false;
    }
    if (*text == '.')
        for (text++; isdigit((unsigned char)*text); text++) {
            unit /= 10;
            v += (*text - '0') * unit;
            digits = true;
        }
    *out = v;
    *end = text;
    return digits;
}

int kvt_budget_parse(struct kvt_budget *out, const char *text, bool remove, struct kvt_err *err)
{
    const char *what = remove ? "remove" : "keep", *p = text + strspn(text, " "), *end;
    size_t len = strlen(p);
    while (len && p[len - 1] == ' ')
        len--;
    bool percent = len && p[len - 1] == '%';
    int64_t ppm = 0;
    if (!decimal(p, percent ? PPM / 100 : PPM, &ppm, &end) || end != p + len - percent)
        return kvt_fail(err, KVT_EUSAGE, "share to %s '%.40s' isn't a number; write 25%% or 0.25", what, text);
    if (ppm > PPM)
        return kvt_fail(err, KVT_EUSAGE, "share to %s '%.40s' is above 100 %%%s", what, text,
                        percent ? "" : "; a number without % is a share: write 25% or 0.25");
    if (remove)
        ppm = PPM - ppm;
    if (ppm < 1)
        return kvt_fail(err, KVT_EUSAGE, "share to %s '%.40s' keeps nothing; keep more than 0 %% and at most 100 %%",
                        what, text);
    *out = (struct kvt_budget){.kind = KVT_BUDGET_KEEP, .keep_ppm = ppm};
    return 0;
}

/* How many of a unit: tokens have none. false: no such unit. */
static bool unit_of(const char *text, size_t len, bool bytes, int64_t *unit)
{
    static const struct {
        const char *name;
        int64_t bytes;
    } known[] = {{"B", 1}, {"kB", 1000}, {"MB", 1000000}, {"GB", 1000000000},
                 {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    *unit = 1;
    for (size_t i = 0; bytes && len && i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == len && !strncmp(known[i].name, text, len)) {
            *unit = known[i].bytes;
            return true;
        }
    return !len;
}

int kvt_budget_parse_amount(struct kvt_budget *out, const char *text, bool bytes, struct kvt_err *err)
{
    static const char *const whose[] = {"head", "layer", "all"};
    const char *option = bytes ? "--bytes" : "--tokens", *p = text + strspn(text, " "), *end;
    const char *how = bytes ? "4MB, 100kB/layer or 2MiB/all" : "256, 768/layer or 46080/all";
    size_t len = strlen(p);
    while (len && p[len - 1] == ' ')
        len--;
    const char *slash = memchr(p, '/', len);
    *out = (struct kvt_budget){.kind = bytes ? KVT_BUDGET_BYTES : KVT_BUDGET_TOKENS, .of = bytes ? KVT_OF_ALL : KVT_OF_HEAD};
    if (slash) {
        size_t rest = (size_t)(p + len - slash) - 1;
        int of = 0;
        while (of < 3 && (strlen(whose[of]) != rest || strncmp(slash + 1, whose[of], rest)))
            of++;
        if (of == 3)
            return kvt_fail(err, KVT_EUSAGE, "%s '%.40s' is of head, layer or all; write %s", option, text, how);
        out->of = (enum kvt_budget_of)of;
        len = (size_t)(slash - p);
        while (len && p[len - 1] == ' ')
            len--;
    }
    int64_t whole = 0, ppm = 0, unit = 1, place = PPM;
    for (end = p; end < p + len && isdigit((unsigned char)*end) && whole <= MOST; end++)
        whole = whole * 10 + (*end - '0');
    const char *digits = end;
    if (end > p && end < p + len && *end == '.')
        for (end++; end < p + len && isdigit((unsigned char)*end); end++)
            ppm += (*end - '0') * (place /= 10);
    if (digits == p || (!bytes && end > digits) || !unit_of(end, (size_t)(p + len - end), bytes, &unit))
        return kvt_fail(err, KVT_EUSAGE, "%s '%.40s' isn't an amount; write %s", option, text, how);
    out->amount = whole <= MOST / unit ? whole * unit + ppm * unit / PPM : MOST + 1;
    if (out->amount < 1 || out->amount > (out->kind == KVT_BUDGET_TOKENS && out->of == KVT_OF_HEAD ? 1 << 30 : MOST))
        return kvt_fail(err, KVT_EUSAGE, "%s '%.40s' keeps nothing, or more than any cache; write %s", option, text, how);
    if (!bytes && out->of == KVT_OF_HEAD)
        out->tokens = (int)out->amount;
    return 0;
}
