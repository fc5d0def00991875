/* What compression costs: divergence by generated token, lost mass by layer and budget. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stats.h"
#include "plots/chart.h"

enum { WINDOW = 9 /* tokens of a sliding median */, MAX_BUDGETS = 64 };

/* ---- KL ---- */

/* The branch of that name in another trace, -1: none. */
static int same_branch(const struct kvt_trace_info *info, const char *name)
{
    for (int b = 0; b < info->n_branches; b++)
        if (!strcmp(info->branch[b].name, name))
            return b;
    return -1;
}

/* kl (n_traces, steps) of one branch, NaN where a trace has no such step. */
static int load_kl(const struct kvt_plot *p, const char *name, float *kl, int steps, int *found, struct kvt_err *err)
{
    int rc = 0;
    *found = 0;
    for (int t = 0; !rc && t < p->n_traces; t++) {
        const struct kvt_trace_info *info = kvt_trace_info(p->traces[t]);
        int b = same_branch(info, name);
        float *to = kl + (size_t)t * (size_t)steps;
        for (int s = 0; s < steps; s++)
            to[s] = NAN;
        if (b < 0)
            continue;
        (*found)++;
        rc = kvt_trace_series(p->traces[t], b, "kl", to, err);
    }
    return rc;
}

/* Prompts at each step; one prompt: its steps around each. */
static void draw_kl(struct kvt_chart *c, const float *kl, int n, int steps, double *work)
{
    for (int s = 0; s < steps; s++) {
        int count = 0, from = n > 1 || steps < 2 * WINDOW ? s : s - WINDOW / 2, to = n > 1 || steps < 2 * WINDOW ? s + 1 : s + WINDOW / 2 + 1;
        for (int t = 0; t < n; t++)
            for (int k = from < 0 ? 0 : from; k < to && k < steps; k++)
                if (isfinite(kl[(size_t)t * (size_t)steps + (size_t)k]))
                    work[count++] = kl[(size_t)t * (size_t)steps + (size_t)k];
        double median = kvt_quantile(work, count, 0.5), low = kvt_quantile(work, count, 0.25), high = kvt_quantile(work, count, 0.75);
        kvt_chart_point(c, s + 1, median > 0 ? median : NAN, low > 0 ? low : NAN, high, NULL); /* the axis is logarithmic */
    }
}

int kvt_plot_kl(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0, steps = 0;
    char title[200], note[200], more[80] = "", budget[32];
    struct kvt_chart c = {0};
    for (int t = 0; t < p->n_traces; t++)
        steps = kvt_trace_info(p->traces[t])->n_steps > steps ? kvt_trace_info(p->traces[t])->n_steps : steps;
    float *kl = kvt_calloc((size_t)p->n_traces * (size_t)steps + 1, sizeof *kl);
    double *work = kvt_calloc((size_t)p->n_traces * WINDOW + 1, sizeof *work);
    bool smooth = p->n_traces == 1 && steps >= 2 * WINDOW;
    int rc = kl && work ? kvt_chart_pick(p, &branch, &n, true, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d steps", steps);
    if (!rc && !steps)
        rc = kvt_fail(err, KVT_EINPUT, "this trace has no decode steps; trace again with -n");
    if (!rc && p->info->no_full)
        rc = kvt_fail(err, KVT_EINPUT, "nothing was compared with a full cache (--no-full); trace again without it");
    if (!rc) {
        snprintf(title, sizeof title, "Divergence by generated token, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        if (p->n_traces > 1)
            snprintf(note, sizeof note, "KL(full || branch) on the same text: median of %d prompts, band from the 25th to the 75th percentile", p->n_traces);
        else
            snprintf(note, sizeof note, smooth ? "KL(full || branch) on the same text: median of %d tokens around each, band from their 25th to their 75th percentile" : "KL(full || branch), both having read the same tokens", WINDOW);
        if (p->n_traces > 1)
            snprintf(more, sizeof more, "The model and prompt named are the first of %d.", p->n_traces);
        rc = kvt_chart_begin(&c, p, p->n_traces > 1 || smooth ? KVT_SERIES_BAND : KVT_SERIES_LINE,
                             &(struct kvt_chart_text){title, note, "generated token", "KL, nats", "set logscale y\nset format y '%g'", more}, err);
    }
    kvt_chart_branches(&c, branch, n);
    for (int i = 0; !rc && i < n; i++) {
        int found;
        rc = load_kl(p, p->info->branch[branch[i]].name, kl, steps, &found, err);
        kvt_chart_series(&c, kvt_short_name(p->info, branch, n, i));
        if (!rc)
            draw_kl(&c, kl, p->n_traces, steps, work);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(work);
    free(kl);
    free(branch);
    return rc;
}

/* ---- lost mass ---- */

static int by_budget(const struct kvt_trace_branch *a, const struct kvt_trace_branch *b)
{
    double x = isnan(a->asked_keep) ? 10 + a->asked_tok : a->asked_keep, y = isnan(b->asked_keep) ? 10 + b->asked_tok : b->asked_keep;
    return (x > y) - (x < y);
}

/* Column `col` of map (L, cols): mean over steps and heads, %. */
static int lost_by_layer(const struct kvt_plot *p, int branch, float *lost, float *map, int col, int cols, struct kvt_err *err)
{
    size_t L = (size_t)p->info->L, G = (size_t)p->info->G, steps = (size_t)p->info->n_steps;
    int rc = kvt_trace_fidelity_of(p->trace, branch, "lost_mass", lost, err);
    for (size_t l = 0; !rc && l < L; l++) {
        struct kvt_running m = {0};
        for (size_t s = 0; s < steps; s++)
            for (size_t g = 0; g < G; g++)
                kvt_running_add(&m, lost[(s * L + l) * G + g]);
        map[l * (size_t)cols + (size_t)col] = (float)(100 * kvt_running_mean(&m));
    }
    return rc;
}

static void budget_tics(struct kvt_sheet *s, const struct kvt_trace_info *info, const int *column, int cols, bool labels)
{
    fputs("set xtics (", s->f.gp);
    for (int c = 0; c < cols; c++) {
        char budget[32];
        fputs(c ? ", " : "", s->f.gp);
        kvt_gp_tic(&s->f, labels ? kvt_budget_text(&info->branch[column[c]], budget, sizeof budget) : "");
        fprintf(s->f.gp, " %d", c);
    }
    fputs(") scale 0\n", s->f.gp);
}

/* All budgets unless --keep names one; a panel for each method, layers down, budgets across. */
int kvt_plot_lost(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_sheet s = {0};
    int *branch = NULL, n = 0, column[MAX_BUDGETS], cols = 0, panels = 0;
    size_t all = (size_t)info->n_steps * (size_t)info->L * (size_t)info->G;
    float *lost = kvt_calloc(all + 1, sizeof *lost), *map = NULL;
    double high = 0;
    int rc = lost ? kvt_chart_pick(p, &branch, &n, p->keep != NULL, err) : kvt_fail(err, KVT_ENOMEM, "no memory for lost mass");
    for (int i = 0; !rc && i < n; i++) { /* budgets ascending, methods in their order */
        int c = 0;
        bool first = true;
        for (int k = 0; k < i; k++)
            first = first && strcmp(info->branch[branch[k]].canonical, info->branch[branch[i]].canonical);
        panels += first;
        while (c < cols && by_budget(&info->branch[column[c]], &info->branch[branch[i]]) < 0)
            c++;
        if (cols == MAX_BUDGETS || (c < cols && kvt_same_budget(&info->branch[column[c]], &info->branch[branch[i]])))
            continue;
        memmove(column + c + 1, column + c, (size_t)(cols - c) * sizeof *column);
        column[c] = branch[i];
        cols++;
    }
    if (!rc && !(map = kvt_calloc((size_t)panels * (size_t)info->L * (size_t)cols, sizeof *map)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for lost mass");
    size_t size = (size_t)info->L * (size_t)cols;
    const char *name[256];
    for (int i = 0, panel = -1; !rc && i < n; i++) {
        bool first = true;
        for (int k = 0; k < i; k++)
            first = first && strcmp(info->branch[branch[k]].canonical, info->branch[branch[i]].canonical);
        if (!first)
            continue;
        name[++panel] = info->branch[branch[i]].method;
        for (size_t k = 0; k < size; k++)
            map[(size_t)panel * size + k] = NAN;
        for (int k = i; !rc && k < n; k++)
            for (int c = 0; !rc && c < cols; c++)
                if (!strcmp(info->branch[branch[k]].canonical, info->branch[branch[i]].canonical) && kvt_same_budget(&info->branch[column[c]], &info->branch[branch[k]]))
                    rc = lost_by_layer(p, branch[k], lost, map + (size_t)panel * size, c, cols, err);
    }
    for (size_t k = 0; !rc && k < (size_t)panels * size; k++)
        high = fmax(high, isnan(map[k]) ? 0 : map[k]);
    if (!rc)
        rc = kvt_sheet_begin(&s, p, "heatmap", err);
    if (!rc)
        rc = kvt_sheet_lay_out(&s, &(struct kvt_sheet_plan){.title = "Lost mass by layer and budget", .note = "the full branch's attention to what was evicted, mean over steps and kv heads", .info = info,
                               .branch = branch, .n_branches = n, .bar = "lost mass, %, linear scale", .panels = panels, .narrow = fmax(6, 2.7 * cols), .wide = fmax(9, 4 * cols), .high = info->L > 40 ? 24 : 16,
                               .left = 4.6, .right = 1, .above = 1.9, .below = 3.6, .gap_x = 1.6, .gap_y = 2.4}, err);
    for (int i = 0; !rc && i < panels; i++) {
        bool left = kvt_sheet_is_left(&s, i), bottom = kvt_sheet_is_bottom(&s, i);
        rc = kvt_sheet_matrix(&s, i, map + (size_t)i * size, info->L, cols, name[i], err);
        kvt_sheet_panel(&s, i, name[i]);
        fprintf(s.f.gp, "set xrange [-0.5:%g]\nset yrange [%g:-0.5]\nset ylabel '%s'\nset format y '%s'\nset xlabel '%s'\nunset x2tics\nunset y2tics\nset ytics %g\n", cols - 0.5, info->L - 0.5, left ? "layer" : "", left ? "%g" : "",
                bottom ? "budget asked" : "", kvt_plot_step(info->L, s.panel_h / (2.4 * s.em)));
        if (!i)
            kvt_plot_scale(s.f.gp, KVT_SCALE_LINEAR, 0, high > 0 ? high : 1);
        budget_tics(&s, info, column, cols, bottom);
        kvt_sheet_image(&s, i, -0.5, 1, -0.5, 1, "3");
        fputc('\n', s.f.gp);
    }
    rc = kvt_sheet_end(&s, rc, err);
    free(map);
    free(lost);
    free(branch);
    return rc;
}
