/* Shot coherence on masks whose value is known. Would catch: C* of whole shots below 1, chunks that ignore shots taken
 * for whole shots, a null whose shifts leave the shots or change how much is kept, an answer counted as kept, a number counted as lost while half of it is there, layers that
 * agree although they rank the shots the other way round. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/coherence.h"
#include "analyzers/damage.h"
#include "base/stats.h"

#define NEAR(a, b) cr_assert_float_eq(a, b, 1e-12, "%s = %.15g, expected %.15g", #a, (double)(a), (double)(b))

enum { SHOTS = 8, LENGTH = 120, BEFORE = 20, N = BEFORE + SHOTS * LENGTH, SHIFTS = 200 };

/* 20 tokens of system text, then 8 shots of 120: 40 of question and 80 of answer. */
struct world {
    struct kvt_trace_span span[3 * SHOTS];
    struct kvt_trace_info info;
    struct kvt_shot *shot;
    int S;
};

static void make_world(struct world *w)
{
    memset(w, 0, sizeof *w);
    for (int i = 0; i < SHOTS; i++) {
        int at = BEFORE + i * LENGTH, q = at + 40;
        w->span[3 * i] = (struct kvt_trace_span){.name = "shot", .kind = "shot", .parent = -1, .start = at, .end = at + LENGTH};
        w->span[3 * i + 1] = (struct kvt_trace_span){.name = "q", .kind = "question", .parent = 3 * i, .start = at, .end = q};
        w->span[3 * i + 2] = (struct kvt_trace_span){.name = "a", .kind = "answer", .parent = 3 * i, .start = q, .end = at + LENGTH};
    }
    w->info = (struct kvt_trace_info){.n_context = N, .n_prompt = N, .n_tok = N, .n_spans = 3 * SHOTS, .span = w->span};
    cr_assert_eq(kvt_shots(&w->info, &w->shot, &w->S, NULL), 0);
    cr_assert_eq(w->S, SHOTS);
}

static struct kvt_coherence_result measure(const uint8_t *mask, double *share)
{
    struct world w;
    make_world(&w);
    int32_t *ev = calloc(N, sizeof *ev);
    for (int j = 0; j < N; j++)
        ev[j] = mask[j] ? -1 : 0;
    struct kvt_held h;
    struct kvt_coherence_result r;
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 5);
    cr_assert_eq(kvt_held_make(1, 1, N, N, ev, NULL, 0, &h, NULL), 0);
    cr_assert_eq(kvt_coherence_of(&h, &w.info, w.shot, w.S, 0, 1, 0.5, SHIFTS, &rng, &r, share, NULL), 0);
    kvt_held_free(&h);
    free(ev);
    free(w.shot);
    return r;
}

Test(coherence, whole_shots)
{
    uint8_t mask[N] = {0};
    double share[SHOTS];
    for (int i = 1; i < 4; i++)
        memset(mask + BEFORE + i * LENGTH, 1, LENGTH);
    struct kvt_coherence_result r = measure(mask, share);
    NEAR(r.C, 1);
    NEAR(r.adjusted, 1);
    NEAR(r.whole, 3.0 / 8);
    NEAR(r.gone, 5.0 / 8);
    NEAR(r.whole_rate, 1);
    NEAR(r.fragments, 1);
    NEAR(r.fragments_random, 1);
    NEAR(r.gini, 5.0 / 8);
    NEAR(r.answer_lost, 0);
    NEAR(r.kept, 3.0 / 8);
    NEAR(share[0], 0);
    NEAR(share[2], 1);
    /* only a shift by a whole number of shots is as whole: 7 of 959 */
    cr_assert(r.null_p < 0.05 && r.null_high < 1, "p = %g, 95%% %g", r.null_p, r.null_high);
}

Test(coherence, chunks_that_ignore_shots)
{
    /* Random 20-token chunks: contiguity alone raises C*, and the shifted mask is just as contiguous. */
    uint8_t mask[N] = {0};
    struct kvt_rng rng;
    int above = 0;
    enum { TRIES = 40 };
    for (int t = 0; t < TRIES; t++) {
        kvt_rng_seed(&rng, (uint64_t)t);
        for (int c = 0; c < N / 20; c++)
            memset(mask + 20 * c, kvt_rng_below(&rng, 4) == 0, 20);
        struct kvt_coherence_result r = measure(mask, NULL);
        cr_assert(r.adjusted < 0.5, "C* = %g", r.adjusted);
        cr_assert(r.fragments < 0.3 * r.fragments_random);
        above += r.null_p <= 0.05;
    }
    /* 5 % of 40 is 2; P(more than 8) for a binomial of 40 and 0.05 is below 1e-4 */
    cr_assert_leq(above, 8);
}

Test(coherence, random_tokens_are_at_zero)
{
    struct kvt_running m = {0};
    uint8_t mask[N];
    struct kvt_rng rng;
    for (int t = 0; t < 200; t++) {
        kvt_rng_seed(&rng, (uint64_t)t);
        for (int j = 0; j < N; j++)
            mask[j] = kvt_rng_below(&rng, 4) == 0;
        kvt_running_add(&m, measure(mask, NULL).adjusted);
    }
    cr_assert_float_eq(kvt_running_mean(&m), 0, 4 * kvt_running_sd(&m) / sqrt(200)); /* four standard errors */
}

Test(coherence, questions_without_answers)
{
    uint8_t mask[N] = {0};
    for (int i = 0; i < SHOTS; i++)
        memset(mask + BEFORE + i * LENGTH, 1, i < 2 ? LENGTH : 40); /* two whole, six without their answers */
    struct kvt_coherence_result r = measure(mask, NULL);
    NEAR(r.answer_lost, 0.75);
    NEAR(r.whole_rate, 0.25);
}

Test(coherence, not_defined)
{
    uint8_t mask[N];
    memset(mask, 0, N);
    memset(mask, 1, BEFORE); /* something is kept, but nothing of the shots */
    struct kvt_coherence_result r = measure(mask, NULL);
    cr_assert(isnan(r.C) && isnan(r.adjusted) && isnan(r.null_p) && isnan(r.whole_rate) && isnan(r.gini));
    cr_assert_eq(r.undefined, 1);
    NEAR(r.gone, 1);
    memset(mask, 1, N);
    r = measure(mask, NULL);
    cr_assert(isnan(r.C));
    NEAR(r.whole_rate, 1);
    NEAR(r.gini, 0);
}

Test(coherence, shots_beyond_the_context_do_not_count)
{
    struct world w;
    make_world(&w);
    struct kvt_shot *shot;
    int S;
    w.info.n_context = N - 1;
    cr_assert_eq(kvt_shots(&w.info, &shot, &S, NULL), 0);
    cr_assert_eq(S, SHOTS - 1);
    cr_assert_eq(shot[2].answer, 8);
    free(shot);
    free(w.shot);
}

/* Two shots of ten tokens, each with a question of 4, an answer of 6, a number of 2 and a sentence of 5 in it; an operator in the first
 * and a number outside both. */
Test(damage, parts)
{
    struct kvt_trace_span span[] = {
        {.name = "shot 1", .kind = "shot", .parent = -1, .start = 0, .end = 10}, {.kind = "question", .parent = 0, .start = 0, .end = 4},
        {.kind = "answer", .parent = 0, .start = 4, .end = 10}, {.kind = "number", .parent = 0, .start = 4, .end = 6},
        {.kind = "sentence", .parent = 0, .start = 5, .end = 10}, {.kind = "operator", .parent = 0, .start = 2, .end = 3},
        {.name = "shot 2", .kind = "shot", .parent = -1, .start = 10, .end = 20}, {.kind = "question", .parent = 6, .start = 10, .end = 14},
        {.kind = "answer", .parent = 6, .start = 14, .end = 20}, {.kind = "number", .parent = 6, .start = 14, .end = 16},
        {.kind = "sentence", .parent = 6, .start = 15, .end = 20}, {.kind = "number", .parent = -1, .start = 20, .end = 22},
    };
    struct kvt_trace_info info = {.n_context = 22, .n_prompt = 22, .n_tok = 22, .n_spans = 12, .span = span};
    int32_t ev[22];
    static const uint8_t kept[22] = {1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1};
    struct kvt_shot *shot;
    struct kvt_held h;
    struct kvt_damage d;
    int S;
    for (int j = 0; j < 22; j++)
        ev[j] = kept[j] ? -1 : 0;
    cr_assert_eq(kvt_shots(&info, &shot, &S, NULL), 0);
    cr_assert_eq(kvt_held_make(1, 1, 22, 22, ev, NULL, 0, &h, NULL), 0);
    cr_assert_eq(kvt_damage_of(&h, &info, shot, S, 0.5, &d, NULL), 0);
    cr_assert_eq(d.shots, 2);
    cr_assert_eq(d.answer_lost, 1); /* of the first: 2 of 4 and 1 of 6; the second lost its question too */
    cr_assert(d.number.parts == 2 && d.number.cut == 1 && d.number.lost == 1);
    cr_assert(d.number_tokens == 4 && d.number_held == 1);
    cr_assert(d.operator_mark.parts == 1 && d.operator_mark.lost == 1 && d.operator_mark.cut == 0);
    cr_assert(d.sentence.parts == 2 && d.sentence.lost == 1 && d.sentence.cut == 1);
    cr_assert(d.tokens == 20 && d.held == 4);
    kvt_held_free(&h);
    free(shot);
}

Test(agreement, of_layers)
{
    double rank[8];
    NEAR(kvt_spearman((double[]){1, 2, 3, 4}, (double[]){10, 20, 30, 99}, 4, rank), 1);
    NEAR(kvt_spearman((double[]){1, 2, 3, 4}, (double[]){4, 3, 2, 1}, 4, rank), -1);
    /* ranks 1.5 1.5 3 4 and 1 2 3 4: 4.5 / sqrt(4.5 * 5) */
    NEAR(kvt_spearman((double[]){1, 1, 3, 4}, (double[]){1, 2, 3, 4}, 4, rank), 4.5 / sqrt(22.5));
    cr_assert(isnan(kvt_spearman((double[]){1, 1}, (double[]){1, 2}, 2, rank)));
    /* three layers, three shots of 2, 4 and 2 tokens: shares (1, 1/2, 0), (1/2, 1/4, 0), (0, 1/4, 1) */
    static const uint8_t kept[3][8] = {{1, 1, 1, 1, 0, 0, 0, 0}, {1, 0, 0, 1, 0, 0, 0, 0}, {0, 0, 0, 1, 0, 0, 1, 1}};
    struct kvt_shot shot[] = {{.start = 0, .end = 2}, {.start = 2, .end = 6}, {.start = 6, .end = 8}};
    int32_t ev[24];
    for (int i = 0; i < 24; i++)
        ev[i] = kept[i / 8][i % 8] ? -1 : 0;
    struct kvt_held h;
    struct kvt_agreement a;
    cr_assert_eq(kvt_held_make(3, 1, 8, 8, ev, NULL, 0, &h, NULL), 0);
    cr_assert_eq(kvt_agreement_of(&h, shot, 3, &a, NULL), 0);
    NEAR(a.next, 0);           /* +1 and -1 */
    NEAR(a.all, -1.0 / 3);     /* +1, -1, -1 */
    cr_assert(a.pairs == 3 && a.undefined == 0);
    kvt_held_free(&h);
}
