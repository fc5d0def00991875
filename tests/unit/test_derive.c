/* ShotKV's budgets from rows: an example worked out by hand (docs/measures.md, section 7), and what holds of any rows. Would catch:
 * a sink, a row's own token or a recent one in the objective; an evicted token that comes back; rows ranked before they are made to
 * sum to 1 over what is left; a pair over its budget, or worse than equal shares. */
#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

#include "analyzers/derive.h"
#include "analyzers/derive_heads.h"
#include "base/rng.h"

#define NEAR(a, b) cr_assert(fabs((a) - (b)) < 1e-6, "%.9g isn't %.9g", (double)(a), (double)(b))

/* 14 context tokens: 0 and 10 to 13 are text between, shot A is 1 to 4, shot B 5 to 9; the question is 14; 15 to 17 are generated. */
static const struct kvt_shot shots[] = {{.start = 1, .end = 5, .question = -1, .answer = -1}, {.start = 5, .end = 10, .question = -1, .answer = -1}};
enum { TOK = 18, STEPS = 3 };

/* Rows of layer 0; those of layer 1 differ in the first. Columns: 0, A, B, text, question, generated. */
static const float rows[STEPS][TOK] = {
    {.2f, .1f, .1f, 0, 0, .1f, .05f, .05f, 0, 0, 0, 0, 0, 0, .2f, .2f, 0, 0},
    {0, .1f, .1f, 0, 0, .1f, .1f, 0, 0, 0, 0, 0, 0, 0, .2f, .2f, .2f, 0},
    {.1f, .1f, .1f, 0, 0, .1f, 0, 0, 0, 0, 0, 0, 0, 0, .1f, .1f, .2f, .2f},
};
static const float other[TOK] = {.2f, .05f, .05f, 0, 0, .1f, .1f, .1f, 0, 0, 0, 0, 0, 0, .2f, .2f, 0, 0};

static void example(struct kvt_derive *d)
{
    const struct kvt_derive_shape shape = {.L = 2, .H = 1, .N = STEPS, .n_prompt = 15, .n_context = 14, .n_sink = 1, .n_recent = 1, .shot = shots, .S = 2};
    /* by mean mass over the prefill, layer 0 prefers shot A, layer 1 shot B */
    const float mass[2][15] = {{9, 2, 2, 2, 2, 1, 1, 1, 1, 1}, {9, 1, 1, 1, 1, 2, 2, 2, 2, 2}};
    struct kvt_err err = {0};
    cr_assert_eq(kvt_derive_open(d, &shape, &err), 0, "%s", err.text);
    for (int l = 0; l < 2; l++) {
        kvt_derive_score(d, l, mass[l]);
        for (int t = 1; t <= STEPS; t++)
            kvt_derive_row(d, t, l, l && t == 1 ? other : rows[t - 1], TOK);
    }
}

Test(derive, the_example_by_hand)
{
    struct kvt_derive d;
    struct kvt_err err = {0};
    example(&d);
    cr_assert_eq(d.between, 5);
    /* rho: row 1 counts tokens 1 to 13, row 2 to 14, row 3 to 15 */
    const double A[2][STEPS] = {{.5, 1 / 3.0, .4}, {.25, 1 / 3.0, .4}}, B[2][STEPS] = {{.5, 1 / 3.0, .2}, {.75, 1 / 3.0, .2}};
    for (int l = 0; l < 2; l++)
        for (int t = 0; t < STEPS; t++) {
            NEAR(d.lost_shot[(t * 2 + l) * 2], A[l][t]);
            NEAR(d.lost_shot[(t * 2 + l) * 2 + 1], B[l][t]);
            NEAR(d.lost_own[(t * 2 + l) * STEPS], t == 2 ? .2 : 0); /* only row 3 looks back past the newest */
        }
    const struct kvt_derive_set set = {&d, 1};
    /* 72 %: 10 tokens. Layer 0 holds 5 + A, B doesn't fit; layer 1 holds 5 + B, A doesn't fit. All generated tokens stay. */
    struct kvt_derive_pair p = {.prefill_ppm = 720000, .decode_ppm = 1000000};
    cr_assert_eq(kvt_derive_measure(&set, NULL, &p, &err), 0);
    NEAR(p.loss.context, (.5 + 1 / 3.0 + .2 + .25 + 1 / 3.0 + .4) / 6);
    NEAR(p.loss.generated, 0);
    NEAR(p.loss.held_context, 9.5);
    NEAR(p.loss.held_generated, 2);
    NEAR(p.loss.shots, 1);
    NEAR(p.loss.rows, 6);
    /* 76 % of both: the same shots; floor(.76 t) = 0, 1, 2, so one token stays after step 2 and it is the newest: row 3 misses token 1 */
    p = (struct kvt_derive_pair){.prefill_ppm = 760000, .decode_ppm = 760000};
    cr_assert_eq(kvt_derive_measure(&set, NULL, &p, &err), 0);
    NEAR(p.loss.context, 2.016666667 / 6);
    NEAR(p.loss.generated, 2 * .2 / 6);
    NEAR(p.loss.held_generated, (1 + 1 + 2) / 3.0);
    /* 50 %: no shot fits beside the text; all of both is lost */
    p = (struct kvt_derive_pair){.prefill_ppm = 500000, .decode_ppm = 1000000};
    cr_assert_eq(kvt_derive_measure(&set, NULL, &p, &err), 0);
    NEAR(p.loss.context, 2 * (1 + 2 / 3.0 + .6) / 6);
    NEAR(p.loss.held_context, 5);
    kvt_derive_close(&d);
}

Test(derive, the_pair_by_hand)
{
    struct kvt_derive d;
    struct kvt_err err = {0};
    struct kvt_derive_pair *pair;
    int n, best, equal;
    example(&d);
    const struct kvt_derive_set set = {&d, 1};
    /* 76 % of 14 + (3 + 1) / 2 tokens: 12.16. 71.5 % and all generated tokens are 10.01 + 2 */
    cr_assert_eq(kvt_derive_search(&set, &(struct kvt_derive_ask){.keep_ppm = 760000, .grid_ppm = 5000}, &pair, &n, &best, &equal, &err), 0, "%s", err.text);
    cr_assert(pair[best].prefill_ppm == 715000 && pair[best].decode_ppm == 1000000, "%d and %d", (int)pair[best].prefill_ppm, (int)pair[best].decode_ppm);
    NEAR(kvt_derive_lost(&pair[best].loss), 2.016666667 / 6);
    cr_assert(pair[equal].prefill_ppm == 760000 && pair[equal].decode_ppm == 760000);
    NEAR(pair[equal].tokens, 12.16);
    NEAR(kvt_derive_lost(&pair[equal].loss), 2.416666667 / 6);
    free(pair);
    /* of the last step, 76 % of 17 = 12.92: 10.01 + 3 is too much, so a generated token goes */
    cr_assert_eq(kvt_derive_search(&set, &(struct kvt_derive_ask){.keep_ppm = 760000, .grid_ppm = 5000, .peak = true}, &pair, &n, &best, &equal, &err), 0);
    NEAR(kvt_derive_lost(&pair[best].loss), 2.416666667 / 6);
    free(pair);
    /* what is held: 9.5 + 2 fits into 71 % of 16 = 11.36 no more, 9.5 + (1 + 1 + 2) / 3 does */
    cr_assert_eq(kvt_derive_search(&set, &(struct kvt_derive_ask){.keep_ppm = 710000, .grid_ppm = 5000, .held = true}, &pair, &n, &best, &equal, &err), 0);
    NEAR(pair[best].tokens, 9.5 + 4 / 3.0);
    free(pair);
    cr_assert_eq(kvt_derive_search(&set, &(struct kvt_derive_ask){.keep_ppm = 100000, .grid_ppm = 5000, .held = true}, &pair, &n, &best, &equal, &err), KVT_EINPUT);
    free(pair);
    /* by layer, with the 9 + 10 tokens of 72 %: each layer just what its one shot needs */
    int64_t share[2];
    cr_assert_eq(kvt_derive_layers(&set, 720000, share, &err), 0);
    cr_assert(share[0] == 642858 && share[1] == 714286, "%d and %d", (int)share[0], (int)share[1]);
    kvt_derive_close(&d);
}

/* A protected token of a shot costs nothing more and is never lost. */
Test(derive, protected_tokens_of_a_shot)
{
    const struct kvt_derive_shape shape = {.L = 1, .H = 1, .N = 1, .n_prompt = 15, .n_context = 14, .n_sink = 0, .n_recent = 0, .keep_sinks = 2, .shot = shots, .S = 2};
    struct kvt_derive d;
    struct kvt_err err = {0};
    int held;
    cr_assert_eq(kvt_derive_open(&d, &shape, &err), 0);
    cr_assert_eq(d.between, 6);
    kvt_derive_score(&d, 0, rows[1]);
    kvt_derive_row(&d, 1, 0, rows[0], TOK);
    NEAR(d.lost_shot[0], .1 / .8); /* of A the tokens 2 to 4 can leave; .8: all but the row's own .2 */
    cr_assert(kvt_derive_context(&d, 0, 650000, &held) == 9 && held == 1);
    kvt_derive_close(&d);
}

/* Six steps, three quarters: after step 5, floor(3.75) = 3 of tokens 2, 3, 4, 5 stay (1 left at step 2), the newest and two of the
 * others. In raw attention token 2 has .3 and token 3 has .25; but of head 1's row only .3 lies on what is left, so its .15 on token
 * 3 is half of it: 2 leaves, and the last row's .4 on it is lost. */
Test(derive, ranked_over_what_is_left)
{
    enum { P = 4, N = 6, LD = P + N };
    static const struct kvt_shot one[] = {{.start = 1, .end = 3, .question = -1, .answer = -1}};
    const struct kvt_derive_shape shape = {.L = 1, .H = 2, .N = N, .n_prompt = P, .n_context = 3, .n_sink = 0, .n_recent = 0, .shot = one, .S = 1};
    float row[2 * LD] = {0};
    struct kvt_derive d;
    struct kvt_err err = {0};
    cr_assert_eq(kvt_derive_open(&d, &shape, &err), 0);
    const float mass[2 * P] = {0};
    kvt_derive_score(&d, 0, mass);
    for (int t = 1; t <= N; t++) {
        memset(row, 0, sizeof row);
        float *h1 = row + LD;
        row[0] = h1[0] = 1;
        if (t == 5) {
            row[0] = .2f, row[P + 1] = .3f, row[P + 2] = .1f, row[P + 3] = .4f;
            h1[0] = 0, h1[1] = .7f, h1[P + 2] = .15f, h1[P + 3] = .15f; /* token 1 is the shot, which is gone */
        }
        if (t == 6)
            row[0] = h1[0] = .6f, row[P + 1] = h1[P + 1] = .4f;
        kvt_derive_row(&d, t, 0, row, LD);
    }
    const struct kvt_derive_set set = {&d, 1};
    struct kvt_derive_pair p = {.prefill_ppm = 400000, .decode_ppm = 750000};
    cr_assert_eq(kvt_derive_measure(&set, NULL, &p, &err), 0);
    NEAR(p.loss.generated, 2 * .4 / 12);
    NEAR(p.loss.held_generated, (1 + 1 + 2 + 3 + 3 + 4) / 6.0);
    NEAR(p.loss.context, .7 / 12); /* step 5 of head 1 */
    kvt_derive_close(&d);
}

/* ---- of any rows ---- */

static float chance(struct kvt_rng *r) { return (float)kvt_rng_unit(r); }

static void random_prompt(struct kvt_derive *d, struct kvt_rng *r, int L, int H, int N, struct kvt_shot *shot)
{
    int S = 2 + (int)(6 * chance(r)), at = (int)(4 * chance(r));
    for (int s = 0; s < S; s++) {
        shot[s] = (struct kvt_shot){.start = at, .end = at + 3 + (int)(20 * chance(r)), .question = -1, .answer = -1};
        at = shot[s].end + (int)(3 * chance(r));
    }
    struct kvt_derive_shape shape = {.L = L, .H = H, .N = N, .n_context = at + 1, .n_prompt = at + 6, .n_sink = 2, .n_recent = 3, .keep_sinks = (int)(3 * chance(r)),
                                     .shot = shot, .S = S};
    struct kvt_err err = {0};
    int ld = shape.n_prompt + N;
    float *x = calloc((size_t)H * (size_t)ld, sizeof *x);
    cr_assert_eq(kvt_derive_open(d, &shape, &err), 0);
    for (int l = 0; l < L; l++) {
        for (int i = 0; i < H * shape.n_prompt; i++)
            x[i] = chance(r);
        kvt_derive_score(d, l, x);
        for (int t = 1; t <= N; t++) {
            memset(x, 0, (size_t)H * (size_t)ld * sizeof *x);
            for (int h = 0; h < H; h++) {
                float sum = 0;
                for (int j = 0; j < shape.n_prompt + t; j++)
                    sum += x[h * ld + j] = powf(chance(r), 4);
                for (int j = 0; j < shape.n_prompt + t; j++)
                    x[h * ld + j] /= sum;
            }
            kvt_derive_row(d, t, l, x, ld);
        }
    }
    free(x);
}

Test(derive, of_any_rows)
{
    enum { PROMPTS = 3 };
    int worse = 0;
    for (int seed = 1; seed <= 12; seed++) {
        struct kvt_rng r;
        struct kvt_derive d[PROMPTS];
        struct kvt_shot shot[PROMPTS][8];
        struct kvt_err err = {0};
        kvt_rng_seed(&r, (uint64_t)seed);
        int L = 1 + seed % 3, N = 4 + seed, n, best, equal;
        double context = 0;
        for (int i = 0; i < PROMPTS; i++) {
            random_prompt(&d[i], &r, L, 2, N, shot[i]);
            context += d[i].is.n_context / (double)PROMPTS;
        }
        const struct kvt_derive_set set = {d, PROMPTS};
        for (int how = 0; how < 4; how++) {
            struct kvt_derive_ask ask = {.keep_ppm = 200000 + (int64_t)(600000 * chance(&r)), .grid_ppm = 20000, .peak = how & 1, .held = how & 2};
            struct kvt_derive_pair *pair;
            double most = (double)ask.keep_ppm / 1e6 * (context + (ask.peak ? N : (N + 1) / 2.0));
            if (kvt_derive_search(&set, &ask, &pair, &n, &best, &equal, &err)) {
                cr_assert(ask.held, "%s", err.text);
                free(pair);
                continue;
            }
            double lost = kvt_derive_lost(&pair[best].loss);
            for (int i = 0; i < n; i++) {
                const struct kvt_derive_loss *l = &pair[i].loss;
                cr_assert(kvt_derive_lost(l) >= lost && l->context >= -1e-9 && l->generated >= -1e-9 && kvt_derive_lost(l) <= 1 + 1e-6);
                cr_assert(pair[i].tokens <= most * (1 + 1e-9), "%g tokens of %g", pair[i].tokens, most);
                double shares = ((double)pair[i].prefill_ppm * context + (double)pair[i].decode_ppm * (ask.peak ? N : (N + 1) / 2.0)) / 1e6;
                NEAR(pair[i].tokens, ask.held ? l->held_context + (ask.peak ? l->peak_generated : l->held_generated) : shares);
            }
            cr_assert(ask.held || equal >= 0, "equal shares fit their own budget");
            worse += equal >= 0 && kvt_derive_lost(&pair[equal].loss) > lost + 1e-9;
            /* single layers: no more tokens, no more lost of the context */
            int64_t share[3];
            struct kvt_derive_pair own = pair[best];
            cr_assert_eq(kvt_derive_layers(&set, pair[best].prefill_ppm, share, &err), 0);
            cr_assert_eq(kvt_derive_measure(&set, share, &own, &err), 0);
            cr_assert(own.loss.context <= pair[best].loss.context + 1e-6 && own.loss.held_context <= pair[best].loss.held_context + 1e-9,
                      "by layer: %g lost with %g tokens, alike: %g with %g", own.loss.context, own.loss.held_context, pair[best].loss.context, pair[best].loss.held_context);
            /* equal shares with as much, or more */
            struct kvt_derive_pair matched;
            double held = pair[best].loss.held_context + pair[best].loss.held_generated;
            cr_assert_eq(kvt_derive_matched(&set, held, &matched, &err), 0);
            cr_assert(matched.loss.held_context + matched.loss.held_generated >= held - 1e-9);
            free(pair);
        }
        for (int i = 0; i < PROMPTS; i++)
            kvt_derive_close(&d[i]);
    }
    cr_assert_gt(worse, 10, "equal shares were worse in %d searches", worse);
}

/* ---- shares of heads (derive_heads.h) ---- */

/* Four tokens; the first is protected, the third ranks last, the fourth's score isn't one. */
Test(derive, a_cell_by_hand)
{
    struct kvt_err err = {0};
    double saved[5];
    cr_assert_eq(kvt_heads_cell(4, (double[]){.1, .2, .4, .3}, (float[]){-9, 2, 2, NAN}, (uint8_t[]){1, 0, 0, 0}, saved, &err), 0);
    const double want[] = {0, .1, .3, .7, 1}; /* token 0, 1 and 2 (alike, the earlier first), 3 */
    for (int k = 0; k < 5; k++)
        NEAR(saved[k], want[k]);
}

/* Two heads of 200 tokens, so that half a percent is one. Head 0's mass lies on its best 10 tokens, head 1's evenly on its best 90:
 * half of 100 tokens each would waste 40 of head 0's. 50 tokens in the mean: 10 and 90 lose nothing. */
Test(derive, shares_of_two_heads_by_hand)
{
    enum { N = 200 };
    double saved[2][N + 1];
    struct kvt_err err = {0};
    int64_t share[2];
    for (int k = 0; k <= N; k++)
        saved[0][k] = k < 10 ? k / 10.0 : 1, saved[1][k] = k < 90 ? k / 90.0 : 1;
    struct kvt_heads h = {.L = 1, .G = 2, .n = N, .least = 1, .saved = &saved[0][0], .rows = 2};
    const struct kvt_heads_set set = {&h, 1};
    cr_assert_eq(kvt_heads_share(&set, 250000, share, &err), 0, "%s", err.text);
    cr_assert(share[0] == 50000 && share[1] == 450000, "%d and %d", (int)share[0], (int)share[1]);
    NEAR(kvt_heads_lost(&set, share, 0), 0);
    NEAR(kvt_heads_lost(&set, NULL, 250000), (0 + 40 / 90.0) / 2);
    h.least = 20; /* protected tokens stay in each */
    cr_assert_eq(kvt_heads_share(&set, 250000, share, &err), 0);
    cr_assert(share[0] == 100000 && share[1] == 400000);
    h.least = 60;
    cr_assert_eq(kvt_heads_share(&set, 250000, share, &err), KVT_EINPUT);
}

Test(derive, shares_of_any_heads)
{
    enum { CELLS = 6, N = 120, PROMPTS = 2 };
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct kvt_rng r;
        struct kvt_err err = {0};
        struct kvt_heads h[PROMPTS];
        kvt_rng_seed(&r, seed);
        for (int i = 0; i < PROMPTS; i++) {
            h[i] = (struct kvt_heads){.L = 3, .G = 2, .n = N + i * 17, .least = 2, .saved = calloc(CELLS * (N + 18), sizeof(double)), .rows = 10};
            for (int c = 0; c < CELLS; c++)
                for (int k = 0; k < h[i].n; k++)
                    h[i].saved[c * (h[i].n + 1) + k + 1] = h[i].saved[c * (h[i].n + 1) + k] + pow(chance(&r), 1 + c);
        }
        const struct kvt_heads_set set = {h, PROMPTS};
        int64_t share[CELLS], all = 50000 + 5000 * (int64_t)(60 * chance(&r)), sum = 0;
        cr_assert_eq(kvt_heads_share(&set, all, share, &err), 0, "%s", err.text);
        for (int c = 0; c < CELLS; c++)
            sum += share[c];
        cr_assert_leq(sum, all * CELLS);
        cr_assert_leq(kvt_heads_lost(&set, share, 0), kvt_heads_lost(&set, NULL, all) + 1e-12);
        for (int i = 0; i < PROMPTS; i++)
            free(h[i].saved);
    }
}
