/* What is kept and where: by depth, over steps; asked against effective budgets. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plots/chart.h"

enum { DEPTH_BINS = 50, SURVIVAL_POINTS = 60 };

/* ---- depth ---- */

int kvt_plot_depth(const struct kvt_plot *p, struct kvt_err *err)
{
    int *branch = NULL, n = 0;
    char title[200], budget[32];
    struct kvt_chart c = {0};
    double *share = kvt_calloc((size_t)p->info->n_context, sizeof *share);
    int rc = share ? kvt_chart_pick(p, &branch, &n, true, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", p->info->n_context);
    if (!rc) {
        snprintf(title, sizeof title, "What is kept at %s, by depth", kvt_chart_budget(p, branch, budget, sizeof budget));
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){title, "mean over layers and kv heads", "place in the context, %", "tokens kept, %",
                             "set xrange [0:100]\nset yrange [0:100]", NULL}, err);
    }
    kvt_chart_branches(&c, branch, n);
    for (int i = 0; !rc && i < n; i++) {
        struct kvt_held h;
        rc = kvt_held_load(p->trace, branch[i], p->at, NULL, &h, err);
        if (rc)
            break;
        kvt_held_share(&h, share);
        kvt_held_free(&h);
        int bins = p->info->n_context < DEPTH_BINS ? p->info->n_context : DEPTH_BINS;
        kvt_chart_series(&c, kvt_short_name(p->info, branch, n, i));
        for (int b = 0; b < bins; b++) {
            int from = (int)((int64_t)b * p->info->n_context / bins), to = (int)((int64_t)(b + 1) * p->info->n_context / bins);
            double sum = 0;
            for (int j = from; j < to; j++)
                sum += share[j];
            kvt_chart_point(&c, 100 * (b + 0.5) / bins, 100 * sum / (to - from), NAN, NAN, NULL);
        }
    }
    rc = kvt_chart_end(&c, rc, err);
    free(branch);
    free(share);
    return rc;
}

/* ---- survival ---- */

/* Whether token j lies in a span of that kind. */
static uint8_t *of_kind(const struct kvt_trace_info *info, const char *kind)
{
    uint8_t *in = kvt_calloc((size_t)info->n_context, 1);
    for (int s = 0; in && s < info->n_spans; s++)
        for (int j = info->span[s].start; !strcmp(info->span[s].kind, kind) && j < info->span[s].end && j < info->n_context; j++)
            in[j] = 1;
    return in;
}

enum { KINDS = 7 };

/* y (KINDS, points): share of the tokens of each kind that is held after every `every` steps, from one pass over the history. */
static int survivors(const struct kvt_plot *p, int branch, uint8_t *const *in, int every, int points, double *y, struct kvt_err *err)
{
    size_t cells = (size_t)p->info->L * (size_t)p->info->G, n_tok = (size_t)p->info->n_tok, n = (size_t)p->info->n_context;
    int32_t *ev = kvt_calloc(cells * n_tok, sizeof *ev);
    int64_t all[KINDS] = {0};
    int rc = ev ? kvt_trace_evicted_at(p->trace, branch, ev, err) : kvt_fail(err, KVT_ENOMEM, "no memory for the history of branch %d", branch);
    memset(y, 0, (size_t)KINDS * (size_t)points * sizeof *y);
    for (size_t cell = 0; !rc && cell < cells; cell++)
        for (size_t j = 0; j < n; j++) {
            int32_t e = ev[cell * n_tok + j];
            int gone = e == -1 ? points : e <= 0 ? 0 : (e + every - 1) / every; /* the first point that lacks it */
            for (int k = 0; k < KINDS; k++)
                if (!k || in[k][j]) {
                    all[k]++;
                    if (gone < points)
                        y[k * points + gone]++;
                }
        }
    for (int k = 0; k < KINDS; k++) {
        double lost = 0;
        for (int i = 0; i < points; i++) {
            lost += y[k * points + i];
            y[k * points + i] = all[k] ? 100 * (1 - lost / (double)all[k]) : NAN;
        }
    }
    free(ev);
    return rc;
}

/* A panel for each branch, a line for each kind of span that its prompt has. */
int kvt_plot_survival(const struct kvt_plot *p, struct kvt_err *err)
{
    static const char *const kinds[KINDS] = {NULL, "system", "shot", "question", "answer", "number", "operator"};
    int *branch = NULL, n = 0;
    char title[200], budget[32], more[120];
    uint8_t *in[KINDS] = {0};
    struct kvt_chart c = {0};
    int rc = kvt_chart_pick(p, &branch, &n, true, err), steps = p->info->n_steps, every = (steps + SURVIVAL_POINTS - 1) / SURVIVAL_POINTS, points = every ? steps / every + 1 : 1;
    double *y = kvt_calloc((size_t)KINDS * (size_t)points + 1, sizeof *y);
    if (!rc && !y)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d steps", steps);
    if (!rc && !steps)
        rc = kvt_fail(err, KVT_EINPUT, "this trace has no decode steps; trace again with -n");
    for (int k = 1; !rc && k < KINDS; k++)
        if (!(in[k] = of_kind(p->info, kinds[k])))
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", p->info->n_context);
    if (!rc) {
        snprintf(title, sizeof title, "Prompt tokens still held, at %s", kvt_chart_budget(p, branch, budget, sizeof budget));
        *more = 0;
        if (every > 1)
            snprintf(more, sizeof more, "Every %dth step is drawn.", every);
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){title, "by kind of span, means over layers and kv heads; 0 is the prefill's end", "generated tokens", "held, %", NULL, more}, err);
    }
    kvt_chart_branches(&c, branch, n);
    double most = 0;
    c.shared_y = n > 1;
    for (int i = 0; !rc && i < n; i++) {
        rc = survivors(p, branch[i], in, every, points, y, err);
        if (!rc && n > 1)
            kvt_chart_panel(&c, kvt_short_name(p->info, branch, n, i));
        for (int s = 0; !rc && s < KINDS; s++) {
            if (isnan(y[s * points]))
                continue;
            kvt_chart_series(&c, s ? kinds[s] : "all tokens");
            most = fmax(most, y[s * points]);
            for (int k = 0; k < points; k++)
                kvt_chart_point(&c, k * every, y[s * points + k], NAN, NAN, NULL);
        }
    }
    snprintf(c.extra, sizeof c.extra, "set xrange [0:%d]\nset yrange [0:%g]\nset xtics %g", steps, fmin(100, ceil(most / 5) * 5), kvt_plot_step(steps, 4));
    rc = kvt_chart_end(&c, rc, err);
    for (int k = 0; k < KINDS; k++)
        free(in[k]);
    free(y);
    free(branch);
    return rc;
}

/* ---- asked and effective ---- */

int kvt_plot_asked(const struct kvt_plot *p, struct kvt_err *err)
{
    const struct kvt_trace_info *info = p->info;
    struct kvt_chart c = {0};
    int *branch = NULL, n = 0, rc = kvt_chart_pick(p, &branch, &n, false, err);
    if (!rc)
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){"Budgets: asked and held", "slots held at prefill's end; the dotted line is what was asked", "asked, % of the context",
                             "held, %", "set arrow 1 from graph 0,graph 0 to graph 1,graph 1 nohead dashtype 3 linecolor '#888888'\nset xrange [0:*]\nset yrange [0:*]", NULL}, err);
    kvt_chart_branches(&c, branch, n);
    c.nested = true;
    for (int i = 0; !rc && i < n; i++) {
        const struct kvt_trace_branch *one = &info->branch[branch[i]];
        bool first = true;
        for (int k = 0; k < i; k++)
            first = first && strcmp(info->branch[branch[k]].canonical, one->canonical);
        if (!first)
            continue;
        kvt_chart_series(&c, one->method);
        for (int k = i; k < n; k++) {
            const struct kvt_trace_branch *b = &info->branch[branch[k]];
            if (!strcmp(b->canonical, one->canonical))
                kvt_chart_point(&c, isnan(b->asked_keep) ? 100.0 * b->asked_tok / info->n_context : 100 * b->asked_keep, 100 * b->effective_keep, NAN, NAN, NULL);
        }
    }
    rc = kvt_chart_end(&c, rc, err);
    free(branch);
    return rc;
}
