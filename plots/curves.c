/* Measures of branches: coherence, and what is drawn against the budget or the bytes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/coherence.h"
#include "analyzers/overlap.h"
#include "base/mem.h"
#include "base/stats.h"
#include "plots/chart.h"

enum { SHIFTS = 200, FEW_SHIFTS = 50 /* where every two methods at every budget have a null */ };

const char *const kvt_plot_measures[KVT_MEASURES + 1] = {"kl", "coherence", "overlap", "lost", "top1", NULL};

/* ---- coherence ---- */

static int coherence(const struct kvt_plot *p, int branch, struct kvt_coherence_result *out, struct kvt_err *err)
{
    struct kvt_shot *shot = NULL;
    struct kvt_held h = {0};
    struct kvt_rng rng;
    int S = 0, rc = kvt_shots(p->info, &shot, &S, err);
    kvt_rng_seed(&rng, 1);
    if (!rc && S < 2)
        rc = kvt_fail(err, KVT_EINPUT, "coherence needs two shots in the context, here are %d; trace with --shots or --shot-sep", S);
    if (!rc)
        rc = kvt_held_load(p->trace, branch, p->at, NULL, &h, err);
    if (!rc)
        rc = kvt_coherence_of(&h, p->info, shot, S, 0, h.L, 0.5, SHIFTS, &rng, out, NULL, err);
    kvt_held_free(&h);
    free(shot);
    return rc;
}

int kvt_plot_coherence(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0;
    char title[200], budget[32];
    struct kvt_chart c = {0};
    int rc = kvt_chart_pick(p, &branch, &n, true, err);
    if (!rc) {
        snprintf(title, sizeof title, "Shot coherence at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_BARS, &(struct kvt_chart_text){title, "C*: 1 = every shot whole or gone, 0 (line) = random keeping; grey: the same mask shifted along the shots, mean to 95 %",
                             NULL, "C*", "set yrange [*<0:1]\nset autoscale yfixmin\nset arrow 1 from graph 0,first 0 to graph 1,first 0 nohead linewidth 1 linecolor '#444444' front\nset xtics rotate by -25 left", NULL}, err);
    }
    kvt_chart_branches(&c, branch, n);
    if (!rc)
        kvt_chart_series(&c, "C*");
    for (int i = 0; !rc && i < n; i++) {
        struct kvt_coherence_result r;
        rc = coherence(p, branch[i], &r, err);
        if (!rc)
            kvt_chart_point(&c, i, r.adjusted, r.null_mean, r.null_high, kvt_short_name(p->info, branch, n, i));
    }
    rc = kvt_chart_end(&c, rc, err);
    free(branch);
    return rc;
}

/* ---- a measure by budget, and KL by bytes ---- */

/* Of one budget's branches: each one's mean adjusted overlap with the others, and what shifting the other along the universe
 * gives instead, mean to 95 %. branch (n) indexes y, low, high (branches of the trace). */
static int overlaps_at(const struct kvt_plot *p, const int *branch, int n, double *y, double *low, double *high, struct kvt_err *err)
{
    struct kvt_held *held = kvt_calloc((size_t)n, sizeof *held);
    double *gain = kvt_calloc((size_t)n * FEW_SHIFTS + FEW_SHIFTS, sizeof *gain), *one = gain ? gain + (size_t)n * FEW_SHIFTS : NULL;
    struct kvt_running *m = kvt_calloc((size_t)n, sizeof *m);
    struct kvt_rng rng;
    int rc = held && gain && m ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", n);
    kvt_rng_seed(&rng, 1);
    for (int i = 0; !rc && i < n; i++)
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &held[i], err);
    for (int i = 0; !rc && i < n; i++)
        for (int j = i + 1; !rc && j < n; j++) {
            struct kvt_overlap o;
            kvt_overlap_of(&held[i], &held[j], 0, held[i].L, &o);
            double v = kvt_overlap_adjusted(&o);
            if (isnan(v))
                continue;
            kvt_running_add(&m[i], v);
            kvt_running_add(&m[j], v);
            rc = kvt_overlap_shifts(&held[i], &held[j], 0, held[i].L, FEW_SHIFTS, &rng, one, err);
            for (int r = 0; !rc && r < FEW_SHIFTS; r++) {
                gain[i * FEW_SHIFTS + r] += one[r] / o.room;
                gain[j * FEW_SHIFTS + r] += one[r] / o.room;
            }
        }
    for (int i = 0; !rc && i < n; i++) {
        struct kvt_running null = {0};
        y[branch[i]] = kvt_running_mean(&m[i]);
        for (int r = 0; r < FEW_SHIFTS; r++)
            kvt_running_add(&null, gain[i * FEW_SHIFTS + r] /= m[i].n ? (double)m[i].n : NAN);
        low[branch[i]] = kvt_running_mean(&null);
        high[branch[i]] = m[i].n ? kvt_quantile(gain + (size_t)i * FEW_SHIFTS, FEW_SHIFTS, 0.95) : NAN;
    }
    for (int i = 0; held && i < n; i++)
        kvt_held_free(&held[i]);
    free(held);
    free(gain);
    free(m);
    return rc;
}

/* The same for all budgets of branch (n). */
static int all_overlaps(const struct kvt_plot *p, const int *branch, int n, double *y, double *low, double *high, struct kvt_err *err)
{
    int *same = kvt_calloc((size_t)n + 1, sizeof *same), rc = same ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", n), most = 0;
    for (int i = 0; !rc && i < n; i++) {
        int count = 0;
        bool first = true;
        for (int k = 0; k < n; k++) {
            bool is = kvt_same_budget(&p->info->branch[branch[k]], &p->info->branch[branch[i]]);
            first = first && !(is && k < i);
            if (is)
                same[count++] = branch[k];
        }
        most = count > most ? count : most;
        if (first)
            rc = overlaps_at(p, same, count, y, low, high, err);
    }
    free(same);
    return !rc && most < 2 ? kvt_fail(err, KVT_EINPUT, "no two methods have one budget; trace again with two, as --method snapkv,h2o") : rc;
}

static int mean_lost(const struct kvt_plot *p, int branch, double *value, struct kvt_err *err)
{
    size_t all = (size_t)p->info->n_steps * (size_t)p->info->L * (size_t)p->info->G;
    float *lost = kvt_calloc(all, sizeof *lost);
    struct kvt_running m = {0};
    int rc = lost ? kvt_trace_fidelity_of(p->trace, branch, "lost_mass", lost, err) : kvt_fail(err, KVT_ENOMEM, "no memory for lost mass");
    for (size_t i = 0; !rc && i < all; i++)
        kvt_running_add(&m, lost[i]);
    *value = 100 * kvt_running_mean(&m);
    free(lost);
    return rc;
}

/* y (branches), and the range that chance would give. */
static int values_of(const struct kvt_plot *p, const int *branch, int n, double *y, double *low, double *high, struct kvt_err *err)
{
    int rc = 0;
    for (int b = 0; b < p->info->n_branches; b++)
        y[b] = low[b] = high[b] = NAN;
    if (p->measure == KVT_MEASURE_OVERLAP)
        return all_overlaps(p, branch, n, y, low, high, err);
    for (int i = 0; !rc && i < n; i++) {
        struct kvt_coherence_result r;
        int b = branch[i];
        switch (p->measure) {
        case KVT_MEASURE_COHERENCE:
            rc = coherence(p, b, &r, err);
            if (!rc)
                y[b] = r.adjusted, low[b] = r.null_mean, high[b] = r.null_high;
            break;
        case KVT_MEASURE_LOST: rc = mean_lost(p, b, &y[b], err); break;
        case KVT_MEASURE_TOP1: y[b] = 100 * p->info->branch[b].top1; break;
        default: y[b] = p->info->branch[b].mean_kl > 0 ? p->info->branch[b].mean_kl : NAN; break; /* the axis is logarithmic */
        }
    }
    return rc;
}

struct point { double x; int branch; };

static int by_x(const void *a, const void *b)
{
    const struct point *x = a, *y = b;
    return (x->x > y->x) - (x->x < y->x);
}

/* A series for each method; x is the share held, or MB. */
static int against(const struct kvt_plot *p, const struct kvt_chart_text *text, bool bytes, struct kvt_err *err)
{
    size_t all = (size_t)p->info->n_branches;
    struct point *point = kvt_calloc(all, sizeof *point);
    double *y = kvt_calloc(3 * all, sizeof *y), *low = y ? y + all : NULL, *high = y ? low + all : NULL;
    int *branch = NULL, n = 0;
    struct kvt_chart c = {0};
    int rc = point && y ? kvt_chart_pick(p, &branch, &n, false, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", p->info->n_branches);
    if (!rc)
        rc = values_of(p, branch, n, y, low, high, err);
    if (!rc)
        rc = kvt_chart_begin(&c, p, bytes ? KVT_SERIES_ERRORS : KVT_SERIES_BAND, text, err);
    kvt_chart_branches(&c, branch, n);
    for (int i = 0; !rc && i < n; i++) {
        int count = 0, methods = 0;
        bool first = true;
        const struct kvt_trace_branch *one = &p->info->branch[branch[i]];
        for (int k = 0; k < i; k++)
            first = first && strcmp(p->info->branch[branch[k]].canonical, one->canonical);
        for (int k = 0; k < n; k++) {
            const struct kvt_trace_branch *b = &p->info->branch[branch[k]];
            if (!strcmp(b->canonical, one->canonical))
                point[count++] = (struct point){bytes ? b->bytes_mean / 1e6 : 100 * b->effective_keep, branch[k]};
            else
                methods += !strcmp(b->method, one->method);
        }
        if (!first)
            continue;
        qsort(point, (size_t)count, sizeof *point, by_x);
        kvt_chart_series(&c, methods ? one->canonical : one->method);
        for (int k = 0; k < count; k++) {
            int b = point[k].branch;
            char budget[32];
            kvt_chart_point(&c, point[k].x, y[b], low[b], high[b], bytes ? kvt_budget_text(&p->info->branch[b], budget, sizeof budget) : NULL);
        }
    }
    rc = kvt_chart_end(&c, rc, err);
    free(point);
    free(y);
    free(branch);
    return rc;
}

int kvt_plot_budget(const struct kvt_plot *p, struct kvt_err *err)
{
#define X_AXIS "slots held, % of the context"
    static const struct kvt_chart_text text[KVT_MEASURES] = {
        [KVT_MEASURE_KL] = {"Divergence from the full cache, by budget", "KL(full || branch), mean over steps, on the same text", X_AXIS, "KL, nats", "set logscale y\nset format y '%g'", NULL},
        [KVT_MEASURE_COHERENCE] = {"Shot coherence by budget", "C*: 1 = every shot whole or gone, 0 = random keeping; bands: the same masks shifted along the shots, mean to 95 %", X_AXIS, "C*", NULL, NULL},
        [KVT_MEASURE_OVERLAP] = {"Overlap with the other methods, by budget", "mean adjusted overlap O with each other method at the same budget: 1 = nested, 0 = chance; bands: one of the two shifted along the context, mean to 95 %", X_AXIS, "adjusted overlap O", NULL, NULL},
        [KVT_MEASURE_LOST] = {"Lost mass by budget", "the full branch's attention to what was evicted, mean over steps, layers and heads", X_AXIS, "lost mass, %", "set yrange [0:*]", NULL},
        [KVT_MEASURE_TOP1] = {"Same next token as the full cache, by budget", "share of steps, on the same text", X_AXIS, "top-1 agreement, %", NULL, NULL},
    };
    return against(p, &text[p->measure], false, err);
}

int kvt_plot_bytes(const struct kvt_plot *p, struct kvt_err *err)
{
    struct kvt_plot kl = *p;
    kl.measure = KVT_MEASURE_KL;
    return against(&kl, &(struct kvt_chart_text){"Divergence against memory", "KL(full || branch), mean over steps; KV bytes of the branch by itself, mean over steps; labels: budget asked", "KV, MB", "KL, nats",
                                                 "set logscale y\nset format y '%g'", NULL}, true, err);
}
