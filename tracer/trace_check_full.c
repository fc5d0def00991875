/* Full maps against themselves (a row sums to 1, no key comes later than its row) and against what was reduced from the same attention in
 * the same pass: the mass of each key, the pooled maps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tracer/trace_check_parts.h"

/* A recorded head's sums so far, beside what the trace says. */
struct full {
    struct kvt_check *c;
    struct kvt_trace *t;
    const struct kvt_trace_info *in;
    size_t rows, R, C;         /* prefilled rows; pooled maps, 0: none to compare with */
    bool complete, told;       /* every row was recorded; a problem was */
    bool scores;
    double *mass;              /* (n) */
    double *sum, *most;        /* (R, C) */
    int64_t *pairs;            /* (R, C) causal ones */
    float *layer, *map;        /* (H, n) mass of the layer at hand, (R, C) */
    int at;                    /* that layer; -1: none yet */
};

static void begin(struct full *f, size_t n)
{
    memset(f->mass, 0, n * sizeof *f->mass);
    for (size_t i = 0; i < f->R * f->C; i++)
        f->sum[i] = f->most[i] = 0, f->pairs[i] = 0;
}

static void follow(struct full *f, size_t q, const double *row)
{
    size_t r = f->R ? q * f->R / f->rows : 0;
    for (size_t k = 0; k <= q; k++)
        f->mass[k] += row[k];
    for (size_t c = 0; c < f->C; c++) {
        size_t k0 = (c * f->rows + f->C - 1) / f->C, k1 = ((c + 1) * f->rows + f->C - 1) / f->C, bin = r * f->C + c;
        for (size_t k = k0; k < k1 && k <= q; k++) {
            f->sum[bin] += row[k];
            f->most[bin] = fmax(f->most[bin], row[k]);
            f->pairs[bin]++;
        }
    }
}

/* Stored halves are within 2^-12 of what they stand for, two of them within 2^-11; sums of floats within far less. */
static bool differs(double a, double b) { return fabs(a - b) > 1e-3 * fabs(b) + 1e-6; }

static void compare(struct full *f, int l, int h)
{
    size_t n = (size_t)f->in->n_prompt;
    float *mass = f->layer + (size_t)h * n;
    if (f->scores && l != f->at) {
        f->at = l;
        f->scores = !kvt_trace_raw(f->t, "mass", 0, l, f->layer, NULL);
    }
    for (size_t k = 0; f->scores && k < f->rows && !f->told; k++)
        if (!isnan(mass[k]) && differs(f->mass[k], (double)mass[k])) {
            f->told = true;
            kvt_check_found(f->c, "score/mass", "[%d,%d,%zu] is %g, but the rows of full/attention give %g", l, h, k, (double)mass[k], f->mass[k]);
        }
    for (int mean = 0; f->R && mean < 2 && !f->told; mean++) {
        if (kvt_trace_map(f->t, mean ? "mean" : "max", l, h, f->map, NULL))
            return;
        for (size_t i = 0; i < f->R * f->C && !f->told; i++) {
            double want = mean ? f->sum[i] / (double)f->pairs[i] : f->most[i];
            if (!f->pairs[i] || isnan(f->map[i]) || !differs(want, (double)f->map[i]))
                continue;
            f->told = true;
            kvt_check_found(f->c, mean ? "map/mean" : "map/max", "[%d,%d,%zu,%zu] is %g, but the rows of full/attention give %g", l, h, i / f->C, i % f->C,
                            (double)f->map[i], want);
        }
    }
}

/* f16 keeps 11 bits of each value, so a row's sum is within 2^-11 of 1, and what underflows is below 1e-9 a value. */
static bool each_row(void *arg, const size_t *start, const size_t *count, const void *values)
{
    struct full *f = arg;
    size_t n = f->c->t->extent[KVT_DIM_key], rows = count[0] * count[1] * count[2];
    double *row = kvt_calloc(n, sizeof *row);
    f->c->memory = f->c->memory || !row;
    for (size_t i = 0; row && i < rows && !f->told; i++) {
        const double *v = (const double *)values + i * n;
        size_t q = start[2] + i % count[2], l = start[0] + i / (count[1] * count[2]), h = start[1] + i / count[2] % count[1];
        double sum = 0, above = 0;
        for (size_t k = 0; k < n; k++) {
            row[k] = isnan(v[k]) ? 0 : v[k] / (double)KVT_FULL_SCALE;
            sum += row[k];
            above += k > q ? row[k] : 0;
        }
        bool none = !(sum > 0); /* zeros */
        if (q >= f->rows || (none && !f->complete))
            continue;
        if (none || fabs(sum - 1) > 2e-3 || above > 0) {
            f->told = true;
            kvt_check_found(f->c, "full/attention", "row %zu of recorded layer %zu, head %zu %s (sum %.5g)", q, l, h,
                            none ? "was never written" : above > 0 ? "has attention to later tokens" : "doesn't sum to 1", sum);
        }
        if (!q)
            begin(f, n);
        if (f->complete)
            follow(f, q, row);
        if (f->complete && q == f->rows - 1 && !f->told && f->c->t->full_layer[l] < f->in->L && f->c->t->full_head[h] < f->in->H)
            compare(f, f->c->t->full_layer[l], f->c->t->full_head[h]);
    }
    free(row);
    return !f->told && !f->c->memory;
}

void kvt_check_full(struct kvt_check *c, struct kvt_trace *whole)
{
    const struct kvt_trace_info *in = kvt_trace_info(whole);
    size_t n = (size_t)in->n_prompt, H = (size_t)in->H;
    bool maps = c->good[KVT_DS_MAP_MEAN] && c->good[KVT_DS_MAP_MAX] && !in->dropped && in->map_r && in->map_c;
    struct full f = {.c = c, .t = whole, .in = in, .rows = (size_t)in->map_tok, .R = maps ? (size_t)in->map_r : 0, .C = maps ? (size_t)in->map_c : 0,
                     .complete = !strcmp(in->status, "complete") && !in->dropped && in->map_tok > 0,
                     .scores = c->good[KVT_DS_MASS] && in->has_scores, .at = -1};
    size_t bins = f.R * f.C + 1;
    if (!c->good[KVT_DS_FULL] || !in->has_full)
        return;
    f.mass = kvt_calloc(n, sizeof *f.mass);
    f.sum = kvt_calloc(bins, sizeof *f.sum);
    f.most = kvt_calloc(bins, sizeof *f.most);
    f.pairs = kvt_calloc(bins, sizeof *f.pairs);
    f.layer = kvt_calloc(H * n, sizeof *f.layer);
    f.map = kvt_calloc(bins, sizeof *f.map);
    if (f.mass && f.sum && f.most && f.pairs && f.layer && f.map)
        kvt_check_each(c, KVT_DS_FULL, 0, each_row, &f);
    else
        c->memory = true;
    free(f.mass);
    free(f.sum);
    free(f.most);
    free(f.pairs);
    free(f.layer);
    free(f.map);
}
