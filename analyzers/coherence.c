/* Shot coherence, cell by cell. */
#include "analyzers/coherence.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stats.h"

/* Of all cells alike. */
struct work {
    int S, N, rounds;     /* shots, their tokens together, shifts */
    int32_t *k, *at;      /* (S) tokens; (S + 1) where each starts among the N */
    double *null;         /* (rounds) sum of C* over cells under each shift */
    double *shift;        /* (rounds) */
};

/* What one cell says. */
struct cell {
    int32_t *m;           /* (S) kept ones */
    int32_t *sum;         /* (2 N + 1) kept tokens before each place, the circle laid out twice */
    double *r;            /* (S) shares */
    double *null;         /* (rounds) C* under each shift */
    double C, whole, gone, whole_rate, fragments, random, gini, answer, kept;
    size_t of;            /* layer x heads + head */
};

enum { BATCH = 16 }; /* cells at a time; their results are added in order, so that the number of threads doesn't matter */

static void work_free(struct work *w)
{
    free(w->k);
    free(w->at);
    free(w->null);
    free(w->shift);
}

static int work_make(struct work *w, const struct kvt_shot *shot, int S, int rounds, struct kvt_err *err)
{
    *w = (struct work){.S = S, .rounds = rounds, .k = kvt_calloc((size_t)S, sizeof *w->k), .at = kvt_calloc((size_t)S + 1, sizeof *w->at),
                       .null = kvt_calloc((size_t)rounds, sizeof *w->null), .shift = kvt_calloc((size_t)rounds, sizeof *w->shift)};
    if (!w->k || !w->at || !w->null || !w->shift)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d shots", S);
    for (int i = 0; i < S; i++) {
        w->k[i] = shot[i].end - shot[i].start;
        w->at[i + 1] = w->at[i] + w->k[i];
    }
    w->N = w->at[S];
    return 0;
}

static void cells_free(struct cell *c)
{
    for (int i = 0; i < BATCH; i++) {
        free(c[i].m);
        free(c[i].sum);
        free(c[i].r);
        free(c[i].null);
    }
}

static int cells_make(const struct work *w, int n, struct cell *c, struct kvt_err *err)
{
    for (int i = 0; i < n; i++) {
        c[i].m = kvt_calloc((size_t)w->S, sizeof *c->m);
        c[i].sum = kvt_calloc(2 * (size_t)w->N + 1, sizeof *c->sum);
        c[i].r = kvt_calloc((size_t)w->S, sizeof *c->r);
        c[i].null = kvt_calloc((size_t)w->rounds, sizeof *c->null);
        if (!c[i].m || !c[i].sum || !c[i].r || !c[i].null)
            return kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens of shots", w->N);
    }
    return 0;
}

/* The mask of a cell along the shots' tokens, laid end to end twice, as running sums. */
static void lay_out(const struct work *w, struct cell *c, const uint8_t *kept, const struct kvt_shot *shot)
{
    int at = 0;
    for (int turn = 0; turn < 2; turn++)
        for (int i = 0; i < w->S; i++)
            for (int j = shot[i].start; j < shot[i].end; j++, at++)
                c->sum[at + 1] = c->sum[at] + kept[j];
}

static void kept_under(const struct work *w, struct cell *c, int shift)
{
    for (int i = 0; i < w->S; i++)
        c->m[i] = c->sum[w->at[i + 1] + shift] - c->sum[w->at[i] + shift];
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

static void measure_cell(const struct work *w, struct cell *c, const uint8_t *kept, const uint8_t *guarded, const struct kvt_trace_info *info,
                         const struct kvt_shot *shot, double part_share, double c0)
{
    int whole = 0, gone = 0, with_answer = 0, lost = 0;
    double runs = 0, random = 0;
    lay_out(w, c, kept, shot);
    kept_under(w, c, 0);
    for (int i = 0; i < w->S; i++) {
        c->r[i] = (double)c->m[i] / w->k[i];
        whole += c->m[i] == w->k[i];
        if (is_gone(kept, guarded, &shot[i])) {
            gone++;
        } else {
            runs += fragments_in(kept, &shot[i]);
            random += kvt_fragments_random(w->k[i], c->m[i]);
        }
        if (shot[i].question >= 0 && shot[i].answer >= 0) {
            with_answer++;
            lost += part_kept(kept, &info->span[shot[i].question]) >= part_share &&
                    part_kept(kept, &info->span[shot[i].answer]) < part_share;
        }
    }
    int touched = w->S - gone;
    c->whole = (double)whole / w->S;
    c->gone = (double)gone / w->S;
    c->whole_rate = touched ? (double)whole / touched : NAN;
    c->fragments = touched ? runs / touched : NAN;
    c->random = touched ? random / touched : NAN;
    c->gini = kvt_gini(c->r, w->S);
    c->answer = with_answer ? (double)lost / with_answer : NAN;
    c->kept = (double)c->sum[w->N] / w->N;
    c->C = kvt_coherence(w->k, c->m, w->S);
    for (int r = 0; r < w->rounds && !isnan(c->C) && !isnan(c0) && c0 < 1; r++) {
        kept_under(w, c, 1 + (int)(w->shift[r] * (w->N - 1)));
        c->null[r] = kvt_coherence_adjusted(kvt_coherence(w->k, c->m, w->S), c0);
    }
}

static void add_cell(struct work *w, const struct cell *c, struct sums *s, double *share, struct kvt_coherence_result *out)
{
    for (int i = 0; share && i < w->S; i++)
        share[i] += c->r[i];
    kvt_running_add(&s->whole, c->whole);
    kvt_running_add(&s->gone, c->gone);
    kvt_running_add(&s->whole_rate, c->whole_rate);
    kvt_running_add(&s->fragments, c->fragments);
    kvt_running_add(&s->random, c->random);
    kvt_running_add(&s->gini, c->gini);
    kvt_running_add(&s->answer, c->answer);
    kvt_running_add(&s->kept, c->kept);
    kvt_running_add(&s->C, c->C);
    out->cells++;
    out->undefined += isnan(c->C);
    for (int r = 0; r < w->rounds && !isnan(c->C) && !isnan(out->c0) && out->c0 < 1; r++)
        w->null[r] += c->null[r];
}

int kvt_coherence_of(const struct kvt_held *h, const struct kvt_trace_info *info, const struct kvt_shot *shot, int S, int from,
                     int to, double part_share, int rounds, struct kvt_rng *rng, struct kvt_coherence_result *out,
                     double *share, struct kvt_err *err)
{
    struct work w;
    struct sums s = {0};
    struct cell cell[BATCH] = {{0}};
    *out = (struct kvt_coherence_result){.null_mean = NAN, .null_high = NAN, .null_p = NAN};
    int all = 0;
    for (int l = from; l < to; l++)
        all += h->shared[l] ? 1 : h->G;
    int rc = work_make(&w, shot, S, rounds, err);
    if (!rc)
        rc = cells_make(&w, all < BATCH ? all : BATCH, cell, err);
    if (rc) {
        work_free(&w);
        cells_free(cell);
        return rc;
    }
    out->c0 = kvt_coherence_random(w.k, S);
    for (int r = 0; r < rounds; r++)
        w.shift[r] = kvt_rng_unit(rng);
    for (int i = 0; share && i < S; i++)
        share[i] = 0;
    for (int l = from, g = 0, n = 0; l < to;) {
        cell[n++].of = (size_t)l * (size_t)h->G + (size_t)g;
        if (++g == (h->shared[l] ? 1 : h->G))
            g = 0, l++;
        if (n < BATCH && l < to)
            continue;
#pragma omp parallel for schedule(dynamic, 1) if (n > 1 && w.N > 1 << 12)
        for (int i = 0; i < n; i++) {
            size_t at = cell[i].of * (size_t)h->n;
            measure_cell(&w, &cell[i], h->kept + at, h->guarded + at, info, shot, part_share, out->c0);
        }
        for (int i = 0; i < n; i++)
            add_cell(&w, &cell[i], &s, share, out);
        n = 0;
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
    cells_free(cell);
    return 0;
}
