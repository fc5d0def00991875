/* Shot coherence, cell by cell. */
#include "analyzers/coherence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stats.h"

struct work {
    int S, N;             /* shots, their tokens together */
    int32_t *k, *m, *at;  /* (S) tokens, kept ones; (S + 1) where each starts among the N */
    int32_t *sum;         /* (2 N + 1) kept tokens before each place, the circle laid out twice */
    double *r;            /* (S) shares */
    double *null;         /* (rounds) sum of C* over cells under each shift */
    double *shift;        /* (rounds) */
};

static void work_free(struct work *w)
{
    free(w->k);
    free(w->m);
    free(w->at);
    free(w->sum);
    free(w->r);
    free(w->null);
    free(w->shift);
}

static int work_make(struct work *w, const struct kvt_shot *shot, int S, int rounds, struct kvt_err *err)
{
    *w = (struct work){.S = S, .k = kvt_calloc((size_t)S, sizeof *w->k), .m = kvt_calloc((size_t)S, sizeof *w->m),
                       .at = kvt_calloc((size_t)S + 1, sizeof *w->at), .r = kvt_calloc((size_t)S, sizeof *w->r),
                       .null = kvt_calloc((size_t)rounds, sizeof *w->null),
                       .shift = kvt_calloc((size_t)rounds, sizeof *w->shift)};
    if (!w->k || !w->m || !w->at || !w->r || !w->null || !w->shift)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d shots", S);
    for (int i = 0; i < S; i++) {
        w->k[i] = shot[i].end - shot[i].start;
        w->at[i + 1] = w->at[i] + w->k[i];
    }
    w->N = w->at[S];
    w->sum = kvt_calloc(2 * (size_t)w->N + 1, sizeof *w->sum);
    return w->sum ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens of shots", w->N);
}

/* The mask of a cell along the shots' tokens, laid end to end twice, as running sums. */
static void lay_out(struct work *w, const uint8_t *kept, const struct kvt_shot *shot)
{
    int at = 0;
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < w->S; i++)
            for (int j = shot[i].start; j < shot[i].end; j++, at++)
                w->sum[at + 1] = w->sum[at] + kept[j];
}

static void kept_under(struct work *w, int shift)
{
    for (int i = 0; i < w->S; i++)
        w->m[i] = w->sum[w->at[i + 1] + shift] - w->sum[w->at[i] + shift];
}

static int fragments_in(const uint8_t *kept, const struct kvt_shot *s)
{
    int runs = 0;
    for (int j = s->start; j < s->end; j++)
        runs += kept[j] && (j == s->start || !kept[j - 1]);
    return runs;
}

static double part_kept(const uint8_t *kept, const struct kvt_trace_span *s)
{
    int m = 0;
    for (int j = s->start; j < s->end; j++)
        m += kept[j];
    return (double)m / (s->end - s->start);
}

struct sums {
    struct kvt_running C, whole, gone, whole_rate, fragments, random, gini, answer, kept;
};

/* A shot that only a rule holds on to (a sink in the first, the window in the last) was still let go by the method. */
static bool is_gone(const uint8_t *kept, const uint8_t *guarded, const struct kvt_shot *s)
{
    for (int j = s->start; j < s->end; j++)
        if (kept[j] && !guarded[j])
            return false;
    for (int j = s->start; j < s->end; j++)
        if (!kept[j])
            return true;
    return false; /* all of it protected: whole */
}

static void add_cell(struct work *w, const uint8_t *kept, const uint8_t *guarded, const struct kvt_trace_info *info,
                     const struct kvt_shot *shot, double part_share, struct sums *s, double *share)
{
    int whole = 0, gone = 0, with_answer = 0, lost = 0;
    double runs = 0, random = 0;
    for (int i = 0; i < w->S; i++) {
        w->r[i] = (double)w->m[i] / w->k[i];
        whole += w->m[i] == w->k[i];
        if (is_gone(kept, guarded, &shot[i])) {
            gone++;
        } else {
            runs += fragments_in(kept, &shot[i]);
            random += kvt_fragments_random(w->k[i], w->m[i]);
        }
        if (share)
            share[i] += w->r[i];
        if (shot[i].question >= 0 && shot[i].answer >= 0) {
            with_answer++;
            lost += part_kept(kept, &info->span[shot[i].question]) >= part_share &&
                    part_kept(kept, &info->span[shot[i].answer]) < part_share;
        }
    }
    int touched = w->S - gone;
    kvt_running_add(&s->whole, (double)whole / w->S);
    kvt_running_add(&s->gone, (double)gone / w->S);
    kvt_running_add(&s->whole_rate, touched ? (double)whole / touched : NAN);
    kvt_running_add(&s->fragments, touched ? runs / touched : NAN);
    kvt_running_add(&s->random, touched ? random / touched : NAN);
    kvt_running_add(&s->gini, kvt_gini(w->r, w->S));
    kvt_running_add(&s->answer, with_answer ? (double)lost / with_answer : NAN);
    kvt_running_add(&s->kept, (double)w->sum[w->N] / w->N);
}

static void add_null(struct work *w, int rounds, double c0)
{
    for (int r = 0; r < rounds; r++) {
        kept_under(w, 1 + (int)(w->shift[r] * (w->N - 1)));
        w->null[r] += kvt_coherence_adjusted(kvt_coherence(w->k, w->m, w->S), c0);
    }
}

int kvt_coherence_of(const struct kvt_held *h, const struct kvt_trace_info *info, const struct kvt_shot *shot, int S, int from,
                     int to, double part_share, int rounds, struct kvt_rng *rng, struct kvt_coherence_result *out,
                     double *share, struct kvt_err *err)
{
    struct work w;
    struct sums s = {0};
    *out = (struct kvt_coherence_result){.null_mean = NAN, .null_high = NAN, .null_p = NAN};
    int rc = work_make(&w, shot, S, rounds, err);
    if (rc) {
        work_free(&w);
        return rc;
    }
    out->c0 = kvt_coherence_random(w.k, S);
    for (int r = 0; r < rounds; r++)
        w.shift[r] = kvt_rng_unit(rng);
    for (int i = 0; share && i < S; i++)
        share[i] = 0;
    for (int l = from; l < to; l++)
        for (int g = 0; g < (h->shared[l] ? 1 : h->G); g++) {
            size_t at = ((size_t)l * (size_t)h->G + (size_t)g) * (size_t)h->n;
            const uint8_t *kept = h->kept + at;
            lay_out(&w, kept, shot);
            kept_under(&w, 0);
            add_cell(&w, kept, h->guarded + at, info, shot, part_share, &s, share);
            double C = kvt_coherence(w.k, w.m, S);
            out->cells++;
            out->undefined += isnan(C);
            kvt_running_add(&s.C, C);
            if (!isnan(C) && !isnan(out->c0) && out->c0 < 1)
                add_null(&w, rounds, out->c0);
        }
    int64_t defined = out->cells - out->undefined;
    out->C = kvt_running_mean(&s.C);
    out->adjusted = kvt_coherence_adjusted(out->C, out->c0);
    out->whole = kvt_running_mean(&s.whole);
    out->gone = kvt_running_mean(&s.gone);
    out->whole_rate = kvt_running_mean(&s.whole_rate);
    out->fragments = kvt_running_mean(&s.fragments);
    out->fragments_random = kvt_running_mean(&s.random);
    out->gini = kvt_running_mean(&s.gini);
    out->answer_lost = kvt_running_mean(&s.answer);
    out->kept = kvt_running_mean(&s.kept);
    for (int i = 0; share && i < S; i++)
        share[i] /= (double)out->cells;
    if (defined > 0 && rounds > 0 && !isnan(out->adjusted)) {
        struct kvt_running mean = {0};
        int reach = 1; /* the mask itself is one of its shifts */
        for (int r = 0; r < rounds; r++) {
            w.null[r] /= (double)defined;
            kvt_running_add(&mean, w.null[r]);
            reach += w.null[r] >= out->adjusted - 1e-12; /* equal sums in another order */
        }
        out->null_mean = kvt_running_mean(&mean);
        out->null_p = (double)reach / (rounds + 1);
        out->null_high = kvt_quantile(w.null, rounds, 0.95);
    }
    work_free(&w);
    return 0;
}
