/* Where the time of a run went: its phases, and how busy each part of the work was over them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kvt/probe.h"
#include "plots/chart.h"

enum { BINS = 400 };

static int64_t first_of(const struct kvt_trace_info *info)
{
    int64_t first = INT64_MAX;
    for (int i = 0; i < info->n_phases; i++)
        first = info->phase[i].start_ns < first ? info->phase[i].start_ns : first;
    return first;
}

static int64_t last_of(const struct kvt_trace_info *info)
{
    int64_t last = INT64_MIN;
    for (int i = 0; i < info->n_phases; i++)
        last = info->phase[i].start_ns + info->phase[i].dur_ns > last ? info->phase[i].start_ns + info->phase[i].dur_ns : last;
    return last;
}

/* busy (BINS): seconds of each bin that a part took. */
static void add_event(const struct kvt_trace_time *e, int64_t from, double bin_ns, double *busy)
{
    double start = (double)(e->start_ns - from) / bin_ns, end = start + (double)e->dur_ns / bin_ns;
    if (!(end >= 0) || !(start < BINS))
        return;
    start = fmax(start, 0), end = fmin(end, BINS);
    for (int b = (int)start; b < BINS && b < end; b++)
        busy[b] += (fmin(end, b + 1) - fmax(start, b)) * bin_ns / 1e9;
}

/* Rows of the chart: start, length, row, height; name on the first of a row. */
static void box(struct kvt_chart *c, double start, double length, int row, double height, const char *name) { kvt_chart_point(c, start, length, row, height, name); }

static void put_parts(struct kvt_chart *c, const struct kvt_trace_time *e, size_t n, int64_t from, int64_t to, int row)
{
    double busy[BINS], bin_ns = (double)(to - from) / BINS, bin = bin_ns / 1e9;
    for (int part = 0; part < KVT_N_PART; part++) {
        double total = 0;
        char name[80];
        memset(busy, 0, sizeof busy);
        for (size_t i = 0; i < n; i++)
            if (e[i].part == part && part != KVT_PART_STEP) { /* a step is made of the others */
                add_event(&e[i], from, bin_ns, busy);
                total += (double)e[i].dur_ns / 1e9;
            }
        if (total <= 0)
            continue;
        snprintf(name, sizeof name, "%s %.2f s", kvt_trace_part_name(part), total);
        for (int b = 0, first = 1; b < BINS; b++)
            if (busy[b] > 0) {
                box(c, b * bin, bin, row, fmin(busy[b] / bin, 1), first ? name : "");
                first = 0;
            }
        row++;
    }
}

int kvt_plot_timeline(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_chart c = {0};
    struct kvt_trace_time *e = NULL;
    size_t n = 0;
    char more[160] = "";
    int *branch = NULL, branches = 0, rc = info->n_phases ? kvt_pick_branches(info, NULL, &branch, &branches, err) : kvt_fail(err, KVT_EINPUT, "this trace holds no phases: it ended before its prefill did");
    int64_t from = rc ? 0 : first_of(info), to = rc ? 0 : last_of(info);
    if (!rc)
        rc = kvt_trace_times(p->trace, &e, &n, err);
    if (!rc && n)
        snprintf(more, sizeof more, "Parts of the work below the phases: a box is %.3g s wide, its height the share that went to the part. Writing is a thread of its own.", (double)(to - from) / BINS / 1e9);
    if (!rc)
        rc = kvt_chart_begin(&c, p, KVT_SERIES_SPANS, &(struct kvt_chart_text){"Where the time went", "wall clock of the run; in decode all branches go in lockstep", "seconds", NULL,
                             "set grid xtics noytics", more}, err);
    kvt_chart_branches(&c, branch, branches);
    if (!rc)
        kvt_chart_series(&c, "phases");
    for (int i = 0; !rc && i < info->n_phases; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s %.2f s", info->phase[i].name, (double)info->phase[i].dur_ns / 1e9);
        box(&c, (double)(info->phase[i].start_ns - from) / 1e9, (double)info->phase[i].dur_ns / 1e9, i, 1, name);
    }
    if (!rc && n) {
        kvt_chart_series(&c, "parts");
        put_parts(&c, e, n, from, to, info->n_phases);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(e);
    free(branch);
    return rc;
}
