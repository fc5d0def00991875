/* ShotKV's budget along its line: what each pair of shares loses, and what a step of it buys (docs/measures.md, section 7). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/derive.h"
#include "base/mem.h"
#include "plots/chart.h"

/* kvbudget's defaults: first tokens and tokens before the row's own that don't count; steps of the prefill share. */
enum { N_SINK = 4, N_RECENT = 32, GRID_PPM = 5000 };

struct work {
    struct kvt_derive *prompt;
    struct kvt_shot **shot;
    int n, horizon;
    struct kvt_derive_pair *pair;
    int pairs, best, equal;
};

/* --keep is the budget here: a share of what the full branch holds. */
static int read_keep(const struct kvt_plot *p, int64_t *ppm, struct kvt_err *err)
{
    const char *keep = p->keep ? p->keep : "25%";
    char *end;
    double share = strtod(keep, &end);
    share = *end == '%' ? share / 100 : share;
    if (end == keep || (*end == '%' ? end[1] : *end) || !(share >= 1e-4 && share <= 1))
        return kvt_fail(err, KVT_EUSAGE, "--keep: '%.24s' is not a share like 25%%", keep);
    *ppm = llround(share * KVT_PPM);
    return 0;
}

static int check(const struct kvt_plot *p, int *horizon, struct kvt_err *err)
{
    *horizon = p->info->n_steps;
    for (int i = 0; i < p->n_traces; i++) {
        const struct kvt_trace_info *in = kvt_trace_info(p->traces[i]);
        if (!in->has_rows || !in->has_scores)
            return kvt_fail(err, KVT_EINPUT, "%s holds no rows of the steps with scores; trace again with --see scores,rows -n 64 --ignore-end", in->path);
        if (in->L != p->info->L || in->H != p->info->H || in->G != p->info->G || strcmp(in->model_name, p->info->model_name))
            return kvt_fail(err, KVT_EINPUT, "%s is of another model than the first trace: %s, not %s", in->path, in->model_name, p->info->model_name);
        *horizon = in->n_steps < *horizon ? in->n_steps : *horizon;
    }
    return *horizon > 0 ? 0 : kvt_fail(err, KVT_EINPUT, "%s has no decode steps; trace again with -n 64 --ignore-end", p->info->path);
}

static int load(const struct kvt_plot *p, struct work *w, struct kvt_err *err)
{
    uint8_t *layer = kvt_calloc((size_t)p->info->L, 1);
    w->prompt = kvt_calloc((size_t)p->n_traces, sizeof *w->prompt);
    w->shot = kvt_calloc((size_t)p->n_traces, sizeof *w->shot);
    int rc = layer && w->prompt && w->shot ? check(p, &w->horizon, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d prompts", p->n_traces);
    for (int l = 0; !rc && l < p->info->L; l++)
        layer[l] = 1;
    for (int i = 0; !rc && i < p->n_traces; i++) {
        const struct kvt_trace_info *in = kvt_trace_info(p->traces[i]);
        int S = 0;
        rc = kvt_shots(in, &w->shot[i], &S, err);
        if (!rc && S < 2)
            rc = kvt_fail(err, KVT_EINPUT, "%s: prompt %s has %d shots in its context; ShotKV chooses among them, so trace one with --shots", in->path, in->prompt_id, S);
        const struct kvt_derive_shape shape = {.L = in->L, .H = in->H, .N = w->horizon, .n_prompt = in->n_prompt, .n_context = in->n_context, .n_sink = N_SINK, .n_recent = N_RECENT,
                                               .shot = w->shot[i], .S = S};
        if (!rc)
            rc = kvt_derive_trace(&w->prompt[i], p->traces[i], layer, &shape, err);
        w->n += !rc;
    }
    free(layer);
    return rc;
}

static void draw_lost(struct kvt_chart *c, const struct work *w)
{
    static const char *const name[3] = {"both", "of the context", "of generated tokens"};
    kvt_chart_panel(c, "lost");
    for (int k = 0; k < 3; k++) {
        kvt_chart_series(c, name[k]);
        for (int i = 0; i < w->pairs; i++) {
            const struct kvt_derive_loss *l = &w->pair[i].loss;
            kvt_chart_point(c, (double)w->pair[i].prefill_ppm / 1e4, 100 * (k == 0 ? kvt_derive_lost(l) : k == 1 ? l->context : l->generated), NAN, NAN, NULL);
        }
    }
}

/* From the pair before to this one, for each 1 % of the budget that moves: points of lost context saved, of lost generated tokens added. */
static void draw_gain(struct kvt_chart *c, const struct work *w, int64_t keep_ppm)
{
    const struct kvt_derive_shape *is = &w->prompt[0].is;
    double all = (double)keep_ppm * (is->n_context + (is->N + 1) / 2.0) / KVT_PPM; /* tokens of a cell, of the first prompt */
    kvt_chart_panel(c, "for each 1 % of the budget moved to the context");
    for (int k = 1; k < 3; k++) {
        kvt_chart_series(c, k == 1 ? "of the context" : "of generated tokens");
        for (int i = 1; i < w->pairs; i++) {
            const struct kvt_derive_pair *a = &w->pair[i - 1], *b = &w->pair[i];
            double moved = (double)(b->prefill_ppm - a->prefill_ppm) * is->n_context / KVT_PPM / all * 100;
            if (moved > 0)
                kvt_chart_point(c, (double)b->prefill_ppm / 1e4, 100 * (k == 1 ? a->loss.context - b->loss.context : b->loss.generated - a->loss.generated) / moved, NAN, NAN, NULL);
        }
    }
}

int kvt_plot_derive(const struct kvt_plot *p, struct kvt_err *err)
{
    struct work w = {.best = -1, .equal = -1};
    struct kvt_chart c = {0};
    char title[160], note[400], extra[400], more[300];
    int64_t keep = 0;
    int rc = read_keep(p, &keep, err);
    if (!rc)
        rc = load(p, &w, err);
    if (!rc)
        rc = kvt_derive_search(&(struct kvt_derive_set){w.prompt, w.n}, &(struct kvt_derive_ask){.keep_ppm = keep, .grid_ppm = GRID_PPM}, &w.pair, &w.pairs, &w.best, &w.equal, err);
    if (!rc) {
        const struct kvt_derive_pair *best = &w.pair[w.best], *equal = w.equal >= 0 ? &w.pair[w.equal] : best;
        snprintf(title, sizeof title, "ShotKV's shares for %g%% of what the full branch holds, %d steps ahead", (double)keep / 1e4, w.horizon);
        snprintf(note, sizeof note, "of the full branch's attention, the share on what left; and the points of it saved of the context, lost of generated tokens. Dashed: the pair that loses least (%.4g%%, %.4g%%); dotted: equal shares",
                 (double)best->prefill_ppm / 1e4, (double)best->decode_ppm / 1e4);
        snprintf(extra, sizeof extra, "set yrange [0:*]\nset arrow 1 from first %g,graph 0 to first %g,graph 1 nohead dashtype 2 linecolor '#444444'\nset arrow 2 from first %g,graph 0 to first %g,graph 1 nohead dashtype 3 linecolor '#444444'",
                 (double)best->prefill_ppm / 1e4, (double)best->prefill_ppm / 1e4, (double)equal->prefill_ppm / 1e4, (double)equal->prefill_ppm / 1e4);
        snprintf(more, sizeof more, "ShotKV with its defaults. %d prompt%s, in-sample (kvbudget --check looks at others); rows without their first %d tokens, their own token and the %d before it.%s", w.n, w.n > 1 ? "s, of which the first is named" : "", N_SINK,
                 N_RECENT, w.horizon <= N_RECENT + 1 ? " So few steps can't judge the decode share." : "");
        rc = kvt_chart_begin(&c, p, KVT_SERIES_LINE, &(struct kvt_chart_text){title, note, "share of the context, %", "%", extra, more}, err);
    }
    if (!rc) {
        draw_lost(&c, &w);
        draw_gain(&c, &w, keep);
    }
    rc = kvt_chart_end(&c, rc, err);
    for (int i = 0; w.shot && i < p->n_traces; i++) {
        if (i < w.n)
            kvt_derive_close(&w.prompt[i]);
        free(w.shot[i]);
    }
    free(w.shot);
    free(w.prompt);
    free(w.pair);
    return rc;
}
