/* Budgets as people type them: "25%", "0.25", "12.5%", exact in millionths. */
#include <ctype.h>
#include <string.h>

#include "kvt/method.h"

enum { PPM = 1000000 };

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
