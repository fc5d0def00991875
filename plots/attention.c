/* Where the prefill's attention goes: by layer, and how unevenly over tokens. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sort.h"
#include "base/stats.h"
#include "kvt/probe.h" /* KVT_FEW_KEYS */
#include "plots/chart.h"

enum { LORENZ_POINTS = 100 };

/* Mean over a layer's heads and rows, rows with fewer than 32 visible keys left out (docs/measures.md, section 6). */
int kvt_plot_layers(const struct kvt_plot *p, struct kvt_err *err)
{
    static const struct { const char *what, *name; } series[] = {{"entropy", "entropy / ln(visible keys)"}, {"sink", "mass on sinks"}};
    size_t n = (size_t)p->info->n_prompt, H = (size_t)p->info->H;
    struct kvt_chart c = {0};
    float *raw = kvt_calloc(H * n, sizeof *raw);
    int rc = raw ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu rows", H * n);
    if (!rc && !p->info->has_scores)
        rc = kvt_fail(err, KVT_EINPUT, "this trace has no raw scores; trace again with --see scores (and without --no-scores)");
    char extra[80];
    snprintf(extra, sizeof extra, "set yrange [0:1]\nset xrange [0:%d]", p->info->L > 1 ? p->info->L - 1 : 1);
    if (!rc)
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){"Where attention goes, by layer", "means over heads and rows of the prefill with 32 visible keys or more", "layer", "share", extra, NULL}, err);
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
        rc = kvt_fail(err, KVT_EINPUT, "this trace has no raw scores; trace again with --see scores (and without --no-scores)");
    if (!rc && n <= 2 * (size_t)p->info->n_sink)
        rc = kvt_fail(err, KVT_EINPUT, "a prompt of %zu tokens is too short for a Lorenz curve", n);
    for (int l = 0; !rc && l < p->info->L; l++) {
        rc = kvt_trace_raw(p->trace, "mass", 0, l, mass, err);
        for (size_t h = 0; !rc && h < H; h++)
            for (int without = 0; without < 2; without++) {
                size_t skip = without ? (size_t)p->info->n_sink : 0, m = n - skip, at = 0;
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
                             "share of tokens, least attended first, %", "share of attention, %", "set arrow 1 from graph 0,graph 0 to graph 1,graph 1 nohead dashtype 3 linecolor '#888888'\nset xrange [0:100]\nset yrange [0:100]", NULL}, err);
    for (int s = 0; !rc && s < 2; s++) {
        char name[64];
        snprintf(name, sizeof name, "without the first %d tokens", p->info->n_sink);
        kvt_chart_series(&c, s ? name : "all tokens");
        for (int k = 0; k <= LORENZ_POINTS; k++)
            kvt_chart_point(&c, 100.0 * k / LORENZ_POINTS, 100 * sum[s][k] / (double)((size_t)p->info->L * H), NAN, NAN, NULL);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(mass);
    free(one);
    free(sorted);
    return rc;
}

