/* Measures against budget, bytes, steps and layers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/coherence.h"
#include "analyzers/overlap.h"
#include "base/mem.h"
#include "base/sort.h"
#include "base/stats.h"
#include "kvt/probe.h" /* KVT_FEW_KEYS */
#include "plots/chart.h"

enum { SHIFTS = 200, LORENZ_POINTS = 100, SINKS = 4 };

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
        snprintf(title, sizeof title, "Shot coherence C* at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_BARS, &(struct kvt_chart_text){title, "1 = every shot whole or gone, 0 = random keeping; grey: the same mask shifted along the shots, mean to 95 %",
                             NULL, "C*", "set key off\nset rmargin at screen 0.95\nset yrange [*:1]\nset xtics rotate by -25 left\nset bmargin at screen 96/height"}, err);
    }
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

static int mean_overlap(const struct kvt_plot *p, int branch, double *value, struct kvt_err *err)
{
    struct kvt_held a = {0}, b = {0};
    struct kvt_running m = {0};
    int rc = kvt_held_load(p->trace, branch, p->at, NULL, &a, err);
    for (int o = 1; !rc && o < p->info->n_branches; o++) {
        struct kvt_overlap sum;
        if (o == branch || !kvt_same_budget(&p->info->branch[o], &p->info->branch[branch]))
            continue;
        rc = kvt_held_load(p->trace, o, p->at, NULL, &b, err);
        if (!rc) {
            kvt_overlap_of(&a, &b, 0, a.L, &sum);
            kvt_running_add(&m, kvt_overlap_adjusted(&sum));
        }
        kvt_held_free(&b);
    }
    kvt_held_free(&a);
    *value = kvt_running_mean(&m);
    return rc;
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

/* y, and the range that chance would give. */
static int value_of(const struct kvt_plot *p, int branch, double *y, double *low, double *high, struct kvt_err *err)
{
    const struct kvt_trace_branch *b = &p->info->branch[branch];
    struct kvt_coherence_result r;
    int rc = 0;
    *low = *high = NAN;
    switch (p->measure) {
    case KVT_MEASURE_COHERENCE:
        rc = coherence(p, branch, &r, err);
        if (!rc)
            *y = r.adjusted, *low = r.null_mean, *high = r.null_high;
        break;
    case KVT_MEASURE_OVERLAP: rc = mean_overlap(p, branch, y, err); break;
    case KVT_MEASURE_LOST: rc = mean_lost(p, branch, y, err); break;
    case KVT_MEASURE_TOP1: *y = 100 * b->top1; break;
    default: *y = b->mean_kl; break;
    }
    return rc;
}

static int by_x(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* A series for each method; x is the share held, or MB. */
static int against(const struct kvt_plot *p, const struct kvt_chart_text *text, bool bytes, struct kvt_err *err)
{
    struct point { double x, y, low, high; int branch; } *point = kvt_calloc((size_t)p->info->n_branches, sizeof *point);
    int *branch = NULL, n = 0;
    struct kvt_chart c = {0};
    int rc = point ? kvt_chart_pick(p, &branch, &n, false, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", p->info->n_branches);
    if (!rc)
        rc = kvt_chart_begin(&c, p, bytes ? KVT_SERIES_POINTS : KVT_SERIES_BAND, text, err);
    for (int i = 0; !rc && i < n; i++) {
        int count = 0;
        bool first = true;
        for (int k = 0; k < i; k++)
            first = first && strcmp(p->info->branch[branch[k]].canonical, p->info->branch[branch[i]].canonical);
        for (int k = i; first && !rc && k < n; k++) {
            const struct kvt_trace_branch *b = &p->info->branch[branch[k]];
            if (strcmp(b->canonical, p->info->branch[branch[i]].canonical))
                continue;
            struct point *at = &point[count++];
            at->x = bytes ? b->bytes_mean / 1e6 : 100 * b->effective_keep;
            at->branch = branch[k];
            rc = value_of(p, branch[k], &at->y, &at->low, &at->high, err);
        }
        if (rc || !first)
            continue;
        qsort(point, (size_t)count, sizeof *point, by_x);
        kvt_chart_series(&c, p->info->branch[branch[i]].method);
        for (int k = 0; k < count; k++) {
            char budget[32];
            kvt_chart_point(&c, point[k].x, point[k].y, point[k].low, point[k].high, bytes ? kvt_budget_text(&p->info->branch[point[k].branch], budget, sizeof budget) : NULL);
        }
    }
    rc = kvt_chart_end(&c, rc, err);
    free(point);
    free(branch);
    return rc;
}

int kvt_plot_budget(const struct kvt_plot *p, struct kvt_err *err)
{
    static const struct kvt_chart_text text[KVT_MEASURES] = {
        [KVT_MEASURE_KL] = {"Divergence from the full cache, by budget", "KL(full || branch), mean over steps, on the same text", "slots held, % of the context", "KL, nats", "set logscale y\nset format y '%g'"},
        [KVT_MEASURE_COHERENCE] = {"Shot coherence by budget", "C*: 1 = whole or gone, 0 = random; bands: the same masks shifted along the shots, mean to 95 %", "slots held, % of the context", "C*", NULL},
        [KVT_MEASURE_OVERLAP] = {"Overlap with the other methods, by budget", "mean adjusted overlap O with every other method at the same budget", "slots held, % of the context", "O", NULL},
        [KVT_MEASURE_LOST] = {"Lost mass by budget", "the full branch's attention to what was evicted; mean over steps, layers and heads", "slots held, % of the context", "lost mass, %", "set yrange [0:*]"},
        [KVT_MEASURE_TOP1] = {"Same next token as the full cache, by budget", "share of steps, on the same text", "slots held, % of the context", "top-1 agreement, %", NULL},
    };
    return against(p, &text[p->measure], false, err);
}

int kvt_plot_bytes(const struct kvt_plot *p, struct kvt_err *err)
{
    return against(p, &(struct kvt_chart_text){"Divergence against memory", "KL(full || branch), mean over steps; KV bytes of the branch by itself, mean over steps; labels: budget asked", "KV, MB", "KL, nats",
                                               "set logscale y\nset format y '%g'"}, true, err);
}

/* ---- by step and by layer ---- */

int kvt_plot_kl(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0, steps = p->info->n_steps;
    char title[200], budget[32];
    struct kvt_chart c = {0};
    float *kl = kvt_calloc((size_t)steps + 1, sizeof *kl);
    int rc = kl ? kvt_chart_pick(p, &branch, &n, true, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d steps", steps);
    if (!rc) {
        snprintf(title, sizeof title, "Divergence by generated token, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){title, "KL(full || branch), both having read the same tokens", "generated token", "KL, nats", "set logscale y\nset format y '%g'"}, err);
    }
    for (int i = 0; !rc && i < n; i++) {
        rc = kvt_trace_series(p->trace, branch[i], "kl", kl, err);
        kvt_chart_series(&c, kvt_short_name(p->info, branch, n, i));
        for (int s = 0; !rc && s < steps; s++)
            kvt_chart_point(&c, s + 1, kl[s] > 0 ? kl[s] : NAN, NAN, NAN, NULL);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(kl);
    free(branch);
    return rc;
}

int kvt_plot_lost(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0;
    size_t L = (size_t)p->info->L, G = (size_t)p->info->G, steps = (size_t)p->info->n_steps;
    char title[200], budget[32];
    struct kvt_chart c = {0};
    float *lost = kvt_calloc(steps * L * G + 1, sizeof *lost);
    int rc = lost ? kvt_chart_pick(p, &branch, &n, true, err) : kvt_fail(err, KVT_ENOMEM, "no memory for lost mass");
    if (!rc) {
        snprintf(title, sizeof title, "Lost mass by layer, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){title, "the full branch's attention to what was evicted, mean over steps and kv heads", "layer", "lost mass, %", "set yrange [0:*]"}, err);
    }
    for (int i = 0; !rc && i < n; i++) {
        rc = kvt_trace_fidelity_of(p->trace, branch[i], "lost_mass", lost, err);
        kvt_chart_series(&c, kvt_short_name(p->info, branch, n, i));
        for (size_t l = 0; !rc && l < L; l++) {
            struct kvt_running m = {0};
            for (size_t s = 0; s < steps; s++)
                for (size_t g = 0; g < G; g++)
                    kvt_running_add(&m, lost[(s * L + l) * G + g]);
            kvt_chart_point(&c, (double)l, 100 * kvt_running_mean(&m), NAN, NAN, NULL);
        }
    }
    rc = kvt_chart_end(&c, rc, err);
    free(lost);
    free(branch);
    return rc;
}

/* Mean over a layer's heads and rows, rows with fewer than 32 visible keys left out (docs/measures.md, section 6). */
int kvt_plot_layers(const struct kvt_plot *p, struct kvt_err *err)
{
    static const struct { const char *what, *name; } series[] = {{"entropy", "entropy / ln(visible keys)"}, {"sink", "mass on sinks"}};
    size_t n = (size_t)p->info->n_prompt, H = (size_t)p->info->H;
    struct kvt_chart c = {0};
    float *raw = kvt_calloc(H * n, sizeof *raw);
    int rc = raw ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu rows", H * n);
    if (!rc && !p->info->has_scores)
        rc = kvt_fail(err, KVT_EINPUT, "the trace has no raw scores; trace without --no-scores");
    if (!rc)
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){"Where attention goes, by layer", "means over heads and rows of the prefill with 32 visible keys or more", "layer", "share", "set yrange [0:1]"}, err);
    for (int s = 0; !rc && s < 2; s++) {
        kvt_chart_series(&c, series[s].name);
        for (int l = 0; !rc && l < p->info->L; l++) {
            struct kvt_running m = {0};
            rc = kvt_trace_raw(p->trace, series[s].what, 0, l, raw, err);
            for (size_t h = 0; !rc && h < H; h++)
                for (size_t i = KVT_FEW_KEYS - 1; i < n; i++)
                    kvt_running_add(&m, s ? raw[h * n + i] : raw[h * n + i] / log((double)i + 1));
            if (!rc)
                kvt_chart_point(&c, l, kvt_running_mean(&m), NAN, NAN, NULL);
        }
    }
    rc = kvt_chart_end(&c, rc, err);
    free(raw);
    return rc;
}

/* ---- Lorenz ---- */

int kvt_plot_lorenz(const struct kvt_plot *p, struct kvt_err *err)
{
    size_t n = (size_t)p->info->n_prompt, H = (size_t)p->info->H;
    struct kvt_chart c = {0};
    float *mass = kvt_calloc(H * n, sizeof *mass), *one = kvt_calloc(n, sizeof *one), *sorted = kvt_calloc(2 * n, sizeof *sorted);
    double sum[2][LORENZ_POINTS + 1] = {{0}};
    int rc = mass && one && sorted ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu sums", H * n);
    if (!rc && !p->info->has_scores)
        rc = kvt_fail(err, KVT_EINPUT, "the trace has no raw scores; trace without --no-scores");
    if (!rc && n <= 2 * SINKS)
        rc = kvt_fail(err, KVT_EINPUT, "a prompt of %zu tokens is too short for a Lorenz curve", n);
    for (int l = 0; !rc && l < p->info->L; l++) {
        rc = kvt_trace_raw(p->trace, "mass", 0, l, mass, err);
        for (size_t h = 0; !rc && h < H; h++)
            for (int without = 0; without < 2; without++) {
                size_t skip = without ? SINKS : 0, m = n - skip, at = 0;
                double total = 0, cumulated = 0;
                for (size_t j = 0; j < m; j++) /* a column's sum over the rows that see it, per row */
                    total += one[j] = mass[h * n + skip + j] / (float)(m - j);
                kvt_sort_falling(one, (int)m, sorted);
                for (int k = 0; k <= LORENZ_POINTS; k++) {
                    for (; at < (size_t)k * m / LORENZ_POINTS; at++)
                        cumulated += sorted[m - 1 - at];
                    sum[without][k] += total > 0 ? cumulated / total : 0;
                }
            }
    }
    if (!rc)
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){"How unevenly attention lies on tokens", "Lorenz curve of each token's mean weight over the rows that see it; mean over layers and heads",
                             "share of tokens, least attended first, %", "share of attention, %", "set arrow 1 from graph 0,graph 0 to graph 1,graph 1 nohead dashtype 3 linecolor '#888888'\nset xrange [0:100]\nset yrange [0:100]"}, err);
    for (int s = 0; !rc && s < 2; s++) {
        kvt_chart_series(&c, s ? "without the first 4 tokens" : "all tokens");
        for (int k = 0; k <= LORENZ_POINTS; k++)
            kvt_chart_point(&c, 100.0 * k / LORENZ_POINTS, 100 * sum[s][k] / (double)((size_t)p->info->L * H), NAN, NAN, NULL);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(mass);
    free(one);
    free(sorted);
    return rc;
}

/* ---- time ---- */

int kvt_plot_timeline(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_chart c = {0};
    int rc = info->n_phases ? 0 : kvt_fail(err, KVT_EINPUT, "the trace holds no phases");
    if (!rc)
        rc = kvt_chart_begin(&c, p, KVT_SERIES_SPANS, &(struct kvt_chart_text){"Time, by phase", "wall clock of the run", "seconds", NULL,
                             "set yrange [*:*] reverse\nset key off\nset lmargin at screen 110/width\nset rmargin at screen 0.95\nset grid xtics noytics"}, err);
    if (!rc)
        kvt_chart_series(&c, "phases");
    for (int i = 0; !rc && i < info->n_phases; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s %.2f s", info->phase[i].name, (double)info->phase[i].dur_ns / 1e9);
        fprintf(c.data, "%.9g\t%.9g\t%d\tNaN\t\"%s\"\n", (double)(info->phase[i].start_ns - info->phase[0].start_ns) / 1e9, (double)info->phase[i].dur_ns / 1e9, i, name);
        c.empty[0] = false;
    }
    return kvt_chart_end(&c, rc, err);
}
