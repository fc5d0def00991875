/* Budgets: shares exact in millionths, tokens by integer arithmetic, PyramidKV's layers by all three rules. */
#include <criterion/criterion.h>
#include <string.h>

#include "kvt/method.h"

static int64_t ppm(const char *text, bool remove)
{
    struct kvt_budget b;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_budget_parse(&b, text, remove, &err), 0, "%s", err.text);
    cr_assert_eq(b.kind, KVT_BUDGET_KEEP);
    return b.keep_ppm;
}

/* Would catch: floats on the way (12.5 % of 8 is exactly 1; 1 - .9 is not .1). */
Test(budget, shares_are_exact)
{
    cr_assert_eq(ppm("25%", false), 250000);
    cr_assert_eq(ppm("0.25", false), 250000);
    cr_assert_eq(ppm(".25", false), 250000);
    cr_assert_eq(ppm("12.5%", false), 125000);
    cr_assert_eq(ppm("0.0001%", false), 1);
    cr_assert_eq(ppm("100%", false), 1000000);
    cr_assert_eq(ppm("1", false), 1000000);
    cr_assert_eq(ppm("33.33333%", false), 333333);
    cr_assert_eq(ppm("75%", true), 250000);
    cr_assert_eq(ppm("0%", true), 1000000);
    cr_assert_eq(ppm(" 10% ", false), 100000);
}

/* Tokens and bytes of heads, layers or in all. Would catch: a remainder lost, bytes of K without V. */
Test(budget, amounts)
{
    static const struct {
        const char *text;
        bool bytes;
        int tokens, spare; /* of 30 layers of 3 kv heads, 256 bytes a slot */
    } c[] = {
        {"256", false, 256, 0}, {"768/layer", false, 256, 0}, {"770/layer", false, 256, 2}, {"23040/all", false, 256, 0},
        {"23129/all", false, 256, 89}, {"4MB", true, 173, 55}, {"256kB/layer", true, 333, 1}, {"1KiB/head", true, 4, 0},
        {"2.5kB/head", true, 9, 0}, {" 1000 /head", true, 3, 0},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct kvt_budget b;
        struct kvt_err err = {0};
        cr_assert_eq(kvt_budget_parse_amount(&b, c[i].text, c[i].bytes, &err), 0, "%s", err.text);
        cr_assert_eq(kvt_budget_resolve(&b, 30, 3, 256, &err), 0, "%s", err.text);
        cr_assert(b.kind == KVT_BUDGET_TOKENS && b.tokens == c[i].tokens && b.spare == c[i].spare, "%s: %d and %d", c[i].text,
                  b.tokens, b.spare);
    }
    static const char *const bad[] = {"", "0", "-3", "x", "2.5", "5/head s", "5/", "5/cell", "5MB", "5e3", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kvt_budget b;
        struct kvt_err err = {0};
        cr_assert_eq(kvt_budget_parse_amount(&b, bad[i], false, &err), KVT_EUSAGE, "'%s' was accepted", bad[i]);
        cr_assert(strstr(err.text, "768/layer"), "%s", err.text);
    }
    struct kvt_budget b;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_budget_parse_amount(&b, "20kB", true, &err), 0);
    cr_assert_eq(kvt_budget_resolve(&b, 30, 3, 256, &err), KVT_EUSAGE); /* 23,040 bytes are one slot each */
    cr_assert(strstr(err.text, "23040"), "%s", err.text);
    cr_assert_eq(kvt_budget_parse_amount(&b, "5mb", true, &err), KVT_EUSAGE);
}

Test(budget, bad_shares)
{
    static const char *const keep[] = {"0", "0%", "101%", "1.01", "25",  "-5%",      "",
                                       "%", "x",  "1e-1", "25%%", "nan", "0.00001%", "99999999999999999999%"};
    struct kvt_budget b;
    struct kvt_err err;
    for (size_t i = 0; i < sizeof keep / sizeof *keep; i++)
        cr_assert_eq(kvt_budget_parse(&b, keep[i], false, &err), KVT_EUSAGE, "'%s' was accepted", keep[i]);
    cr_assert_eq(kvt_budget_parse(&b, "100%", true, &err), KVT_EUSAGE, "removing everything was accepted");
    cr_assert_eq(kvt_budget_parse(&b, "25", false, &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "25%"), "%s", err.text);
}

/* The truncation traps of methods.md 0.6: where floats give 0, 1, 19, 9 and 99, integers give the right count. */
Test(budget, tokens_of_a_share)
{
    static const struct {
        const char *remove;
        int n, want;
    } c[] = {{"90%", 10, 1},     {"80%", 10, 2}, {"80%", 100, 20}, {"90%", 100, 10},
             {"90%", 1000, 100}, {"99%", 10, 1}, {"0%", 7, 7}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct kvt_budget b = {.keep_ppm = ppm(c[i].remove, true)};
        cr_assert_eq(kvt_budget_tokens(&b, c[i].n), c[i].want, "%s of %d", c[i].remove, c[i].n);
    }
    struct kvt_budget tokens = {.kind = KVT_BUDGET_TOKENS, .tokens = 50};
    cr_assert_eq(kvt_budget_tokens(&tokens, 100), 50);
    cr_assert_eq(kvt_budget_tokens(&tokens, 20), 20);
}

enum { L = 32 };

static int pyramid(enum kvt_rule rule, int w, int n, int tok, double real, int32_t layer_tok[L])
{
    const struct kvt_method *m = kvt_method_find("pyramidkv");
    struct kvt_policy p = m->defaults;
    char note[160];
    p.rule = rule;
    p.window = w;
    struct kvt_layer_ask ask = {.L = L, .n = n, .total_tok = tok, .total_real = real, .protect_tok = w};
    int fell = m->layer_budget(&p, &ask, layer_tok, note, sizeof note);
    cr_assert_eq(fell != 0, note[0] != 0, "a fallback has a reason: '%s'", note);
    return fell;
}

/* First layer, last layer and mean of KVCache-Factory's budget, window included: methods.md 0.6. */
Test(budget, pyramid_official)
{
    static const struct {
        int C, n, first, last;
        double mean;
    } c[] = {{64, 4096, 118, 25, 71.5},
             {128, 4096, 242, 25, 133.5},
             {512, 4096, 991, 61, 526},
             {1024, 4096, 1990, 68, 1029},
             {2048, 8192, 3986, 111, 2048.5}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        int32_t tok[L];
        double sum = 0;
        cr_assert_eq(pyramid(KVT_RULE_OFFICIAL, 8, c[i].n, c[i].C, c[i].C, tok), 0);
        for (int l = 0; l < L; l++)
            sum += tok[l];
        cr_assert(tok[0] == c[i].first && tok[L - 1] == c[i].last && sum / L == c[i].mean, "C=%d: %d %d %g", c[i].C,
                  tok[0], tok[L - 1], sum / L);
    }
    int32_t tok[L];
    cr_assert_eq(pyramid(KVT_RULE_OFFICIAL, 8, 100, 64, 64, tok), 1, "fewer than twice the budget: uniform");
    cr_assert(tok[0] == 64 && tok[L - 1] == 64);
}

Test(budget, pyramid_kvpress)
{
    static const struct {
        int n;
        double keep;
        int first, last, fell;
    } c[] = {{4096, .5, 3994, 102, 0}, {4096, .75, 4032, 2112, 0}, {8192, .25, 3994, 102, 0}, {16384, .1, 3195, 82, 0},
             {4096, .3, 1229, 1229, 1}, {4096, .25, 1024, 1024, 1}, {4096, .1, 410, 410, 1}, {8192, .1, 819, 819, 1}};
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        int32_t tok[L];
        double real = c[i].n * c[i].keep;
        cr_assert_eq(pyramid(KVT_RULE_KVPRESS, 64, c[i].n, (int)real, real, tok), c[i].fell, "n=%d keep=%g", c[i].n,
                     c[i].keep);
        cr_assert(tok[0] == c[i].first && tok[L - 1] == c[i].last, "n=%d keep=%g: %d..%d", c[i].n, c[i].keep, tok[0],
                  tok[L - 1]);
    }
}

/* Ours gives away exactly what was asked, never more than there is, never less than what is protected, and falls. */
Test(budget, pyramid_exact_total)
{
    for (int w = 0; w <= 32; w += 8)
        for (int n = w + 2; n < 900; n += 37)
            for (int C = w + 1; C <= n; C += 1 + C / 7) {
                int32_t tok[L];
                int64_t sum = 0;
                const struct kvt_method *m = kvt_method_find("pyramidkv");
                struct kvt_policy p = m->defaults;
                char note[160];
                struct kvt_layer_ask ask = {.L = L, .n = n, .total_tok = C, .total_real = C, .protect_tok = w};
                m->layer_budget(&p, &ask, tok, note, sizeof note);
                for (int l = 0; l < L; l++) {
                    sum += tok[l];
                    cr_assert(tok[l] > w && tok[l] <= n, "w=%d n=%d C=%d layer %d: %d", w, n, C, l, tok[l]);
                    cr_assert(!l || tok[l] <= tok[l - 1] + 1, "w=%d n=%d C=%d: layer %d has %d after %d", w, n, C, l,
                              tok[l], tok[l - 1]);
                }
                cr_assert_eq(sum, (int64_t)C * L, "w=%d n=%d C=%d: %ld", w, n, C, (long)sum);
            }
    int32_t tok[L];
    pyramid(KVT_RULE_EXACT, 8, 8192, 2048, 2048, tok); /* the line that KVCache-Factory rounds: 3978 + 8 .. 102 + 8 */
    cr_assert(tok[0] == 3986 && tok[L - 1] == 110, "%d..%d", tok[0], tok[L - 1]);
}
