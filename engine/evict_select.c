/* Who stays: units, budgets and protection of one layer, handed to the backend's selection. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/evict_state.h"
#include "kvt/prompt.h"

static int add_unit(struct kvt_evict_work *w, int S, int end, bool candidate)
{
    if (w) {
        w->h_seg[S + 1] = end;
        w->h_candidate[S] = candidate;
    }
    return S + 1;
}

int kvt_evict_units(const struct kvt_evictor *e, struct kvt_evict_work *w, int fence)
{
    const struct kvt_policy *p = &e->spec.policy;
    int S = 0, n = e->env->n_context;
    if (p->unit == KVT_UNIT_CHUNK) {
        int end = p->chunk_count == KVT_COUNT_KVPRESS ? n : fence; /* the window is no chunk's, except in kvpress */
        if (end < p->chunk_tok)
            return 0; /* below one chunk: tokens are chosen, as in kvpress */
        if (w)
            w->h_seg[0] = 0;
        for (int at = 0; at < end; at += p->chunk_tok)
            S = add_unit(w, S, at + p->chunk_tok < end ? at + p->chunk_tok : end, true);
    }
    bool shots = p->unit == KVT_UNIT_SHOT, sentences = p->unit == KVT_UNIT_SENTENCE;
    int count = shots ? e->env->n_shots : sentences ? e->env->n_spans : 0, last = -1;
    for (int i = 0; i < count; i++) {
        const int32_t *at = shots ? e->env->shot + 2 * i : e->env->span + 3 * i + 1;
        int start = sentences && at[0] < last ? last : at[0]; /* a token that two sentences share belongs to the first */
        if (sentences && (e->env->span[3 * i] != KVT_SPAN_SENTENCE || start >= at[1]))
            continue;
        assert(start < at[1] && at[1] <= n && last <= start);
        if (last < 0 && w)
            w->h_seg[0] = start;
        if (last >= 0 && last < start)
            S = add_unit(w, S, start, false); /* text between two units */
        S = add_unit(w, S, at[1], true);
        last = at[1];
    }
    return S;
}

/* Chunks kept of S under a budget in tokens. */
static int chunks_of(const struct kvt_evictor *e, struct kvt_evict_work *w, int tok)
{
    const struct kvt_policy *p = &e->spec.policy;
    int64_t k;
    if (p->chunk_count == KVT_COUNT_KVPRESS) {
        struct kvt_budget budget = kvt_evict_own_budget(p, &e->budget);
        bool share = budget.kind == KVT_BUDGET_KEEP && p->alloc == KVT_ALLOC_UNIFORM;
        k = share ? w->S * budget.keep_ppm / 1000000 : (int64_t)w->S * tok / w->n;
        return k < 1 ? 1 : (int)k;
    }
    k = (tok - w->n_protect) / p->chunk_tok;
    if (k < 1) {
        w->fallback = true;
        snprintf(w->note, sizeof w->note,
                 "a budget of %d tokens (%d protected) is below one chunk of %d: one chunk kept", tok, w->n_protect,
                 p->chunk_tok);
        return 1;
    }
    return k < w->S ? (int)k : w->S;
}

/* Single slots, in one go or two: CriticalKV spends a share of each cell's budget by the score alone, and the rest by
 * (score + 1e-4) ||W_O v||_1 (arXiv 2502.03805; kvpress criticalkv_press.py). */
static int select_slots(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int cells = e->env->L * w->R, rc = 0;
    struct kvt_topk_args a = {.score = w->score, .protect = w->protect, .budget = w->budget, .n = w->n_live, .R = cells,
                              .ld = w->ld, .kept = w->kept, .n_kept = w->n_kept, .reason = w->reason,
                              .threshold = w->threshold};
    if (p->leaver == KVT_LEAVES_CONTEST) {
        for (int l = 0; !rc && l < e->env->L; l++)
            rc = kvt_evict_contest(e, w, l, NULL);
        a.score = w->second;
        if (!rc)
            rc = ops->topk(dev, &a);
        return rc ? rc : kvt_evict_no_threshold(e, w);
    }
    if (!w->second)
        return ops->topk(dev, &a);
    rc = ops->read(dev, w->h_budget, w->budget, (size_t)cells * sizeof *w->h_budget);
    for (int i = 0; i < cells; i++) {
        int64_t first = (int64_t)w->h_budget[i] * p->critical_ppm / 1000000;
        w->h_budget[i] = first < 1 ? 1 : (int32_t)first;
    }
    if (!rc)
        rc = ops->write(dev, w->first_budget, w->h_budget, (size_t)cells * sizeof *w->h_budget);
    struct kvt_topk_args first = {.score = w->score, .protect = w->protect, .budget = w->first_budget, .n = w->n_live,
                                  .R = cells, .ld = w->ld, .n_kept = w->n_kept, .reason = w->first_reason};
    if (!rc)
        rc = ops->topk(dev, &first);
    a.score = w->second;
    a.protect = w->first_reason; /* what the first stage keeps, with its reason; what it doesn't is 0 there */
    return rc ? rc : ops->topk(dev, &a);
}

/* Each stretch of `within` slots keeps its own share of the budget, at least one slot (FINCH: kvpress finch_press.py). */
static int select_within(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    int L = e->env->L, R = w->R, rc = 0;
    bool lags = kvt_evict_lags(p);
    struct kvt_budget budget = lags ? e->budget : kvt_evict_own_budget(p, &e->budget);
    for (int l = 0; !rc && l < L; l++) {
        size_t at = kvt_evict_at(w, l, 0), cell = (size_t)l * (size_t)R;
        bool share = budget.kind == KVT_BUDGET_KEEP && (lags || (w->layer_tok[l] < w->n && p->alloc == KVT_ALLOC_UNIFORM));
        struct kvt_topk_within_args a = {
            .score = w->score + at, .protect = w->protect + at, .n = w->n_live + cell, .R = R, .ld = w->ld,
            .from = lags ? p->sinks : 0, .within = lags ? p->lag : p->within, .num = share ? budget.keep_ppm : w->layer_tok[l], .den = share ? 1000000 : w->n,
            .kept = w->kept + at, .n_kept = w->n_kept + cell, .reason = w->reason + at};
        rc = ops->topk_within(e->env->dev, &a);
        int end = lags ? kvt_evict_lag_tail(p, w->n) : w->n, sum = a.from + w->n - end; /* the budget that this is */
        for (int from = a.from; from < end; from += a.within) {
            int64_t keep = (end - from < a.within ? end - from : a.within) * a.num / a.den;
            sum += keep < 1 ? 1 : (int)keep;
        }
        for (int r = 0; r < R; r++)
            w->h_budget[cell + (size_t)r] = sum;
    }
    if (!rc)
        rc = ops->write(e->env->dev, w->budget, w->h_budget, (size_t)(L * R) * sizeof *w->h_budget);
    return rc ? rc : kvt_evict_no_threshold(e, w);
}

static int select_units(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int L = e->env->L, R = w->R;
    struct kvt_segment_mean_args mean = {.in = w->score, .seg = w->seg, .out = w->unit, .R = L * R, .ld = w->ld,
                                         .S = w->S, .how = p->unit_reduce};
    int rc = ops->segment_mean(dev, &mean);
    struct kvt_pick_units_args a = {
        .score = w->unit, .seg = w->seg, .candidate = w->candidate, .protect = w->protect, .budget = w->budget,
        .max_units = -1, .min_units = p->force ? 1 : 0, .overflow = p->overflow, .R = L * R, .S = w->S, .n = w->n,
        .ld = w->ld, .kept = w->kept, .n_kept = w->n_kept, .reason = w->reason, .threshold = w->threshold};
    if (p->alloc == KVT_ALLOC_GLOBAL)
        a.per = L * R;
    else if (p->alloc == KVT_ALLOC_HEAD || p->alloc == KVT_ALLOC_PYRAMID_HEAD)
        a.per = R;
    if (rc || p->unit != KVT_UNIT_CHUNK || a.per)
        return rc ? rc : ops->pick_units(dev, &a);
    a.R = R;
    for (int l = 0; !rc && l < L; l++) { /* ChunkKV counts chunks, and layers may differ in how many */
        size_t cell = (size_t)l * (size_t)R, at = cell * (size_t)w->ld;
        w->n_protect = kvt_evict_protect(p, e->env, e->env->n_prompt, w->n, w->layer_tok[l], NULL);
        a.max_units = w->layer_tok[l] >= w->n ? w->S : chunks_of(e, w, w->layer_tok[l]);
        a.score = w->unit + cell * (size_t)w->S;
        if (p->leaver == KVT_LEAVES_CONTEST) {
            kvt_evict_protect(p, e->env, e->env->n_prompt, w->n, w->layer_tok[l], w->h_protect);
            rc = kvt_evict_contest(e, w, l, &a.max_units);
            a.score = w->second + cell * (size_t)w->S;
        }
        a.protect = w->protect + at;
        a.budget = w->budget + cell;
        a.kept = w->kept + at;
        a.n_kept = w->n_kept + cell;
        a.reason = w->reason + at;
        a.threshold = w->threshold + cell;
        if (!rc)
            rc = ops->pick_units(dev, &a);
    }
    return rc || p->leaver != KVT_LEAVES_CONTEST ? rc : kvt_evict_no_threshold(e, w);
}

/* The second stage's scores of a layer: by the norms of what the slots add to the layer's output. The 1e-4 is added to a mean
 * over rows; where ours is their sum, it counts as often. */
static int weigh_layer(struct kvt_evictor *e, struct kvt_evict_work *w, const float *out_norms, int layer)
{
    const struct kvt_ops *ops = e->env->ops;
    const struct kvt_policy *p = &e->spec.policy;
    int R = w->R, G = e->env->G;
    float rows = p->score == KVT_SCORE_WMASS || p->score == KVT_SCORE_SQWMASS ? (float)p->window
               : (p->score == KVT_SCORE_MASS && !p->visible_mean) || p->score == KVT_SCORE_SQMASS ? (float)e->env->n_prompt : 1;
    const float *by = out_norms + (size_t)kvt_evict_layer(e->env, layer) * (size_t)G * (size_t)w->ld;
    struct kvt_combine_args mean = {.in = by, .out = w->sum, .R = G, .ld = w->ld, .n = w->n, .scale = 1.0f / (float)G, .sum_rows = true};
    struct kvt_weigh_args a = {.in = w->score + kvt_evict_at(w, layer, 0), .by = R < G ? w->sum : by,
                               .out = w->second + kvt_evict_at(w, layer, 0), .R = R, .ld = w->ld, .n = w->n, .eps = 1e-4f * rows};
    int rc = R < G ? ops->combine(e->env->dev, &mean) : 0;
    return rc ? rc : ops->weigh(e->env->dev, &a);
}

int kvt_evict_select(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw)
{
    const struct kvt_policy *p = &e->spec.policy;
    if (w->S)
        return select_units(e, w);
    bool all = true;
    for (int l = 0; l < e->env->L; l++)
        all &= w->layer_tok[l] >= w->n;
    if (p->unit == KVT_UNIT_CHUNK && !all) {
        w->fallback = true;
        snprintf(w->note, sizeof w->note, "%d tokens are fewer than one chunk of %d: single tokens were chosen",
                 w->fence, p->chunk_tok);
    }
    int rc = 0;
    for (int l = 0; !rc && p->critical_ppm > 0 && l < e->env->L; l++)
        rc = weigh_layer(e, w, raw->out_norms, l);
    if (p->within || kvt_evict_lags(p))
        return select_within(e, w);
    return rc ? rc : select_slots(e, w);
}
