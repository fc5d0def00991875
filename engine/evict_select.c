/* Who stays: units, budgets and protection of one layer, handed to the backend's selection. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/evict_state.h"

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
    } else if (p->unit == KVT_UNIT_SHOT && e->env->n_shots) {
        const int32_t *shot = e->env->shot;
        if (w)
            w->h_seg[0] = shot[0];
        for (int i = 0; i < e->env->n_shots; i++) {
            assert(shot[2 * i] < shot[2 * i + 1] && shot[2 * i + 1] <= n && (!i || shot[2 * i - 1] <= shot[2 * i]));
            if (i && shot[2 * i - 1] < shot[2 * i])
                S = add_unit(w, S, shot[2 * i], false); /* text between two shots */
            S = add_unit(w, S, shot[2 * i + 1], true);
        }
    }
    return S;
}

/* Chunks kept of S under a budget in tokens. */
static int chunks_of(const struct kvt_evictor *e, struct kvt_evict_work *w, int tok)
{
    const struct kvt_policy *p = &e->spec.policy;
    int64_t k;
    if (p->chunk_count == KVT_COUNT_KVPRESS) {
        k = e->budget.kind == KVT_BUDGET_KEEP ? w->S * e->budget.keep_ppm / 1000000 : (int64_t)w->S * tok / w->n;
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

static int put_budget(struct kvt_evictor *e, struct kvt_evict_work *w, int tok)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int rc = 0;
    if (w->last_budget == tok)
        return 0;
    w->n_protect = kvt_evict_protect(&e->spec.policy, e->env->n_prompt, w->n, tok, w->h_protect);
    for (int r = 0; !rc && r < w->R; r++) {
        rc = ops->write(dev, w->budget + r, &tok, sizeof(int32_t));
        if (!rc)
            rc = ops->write(dev, w->protect + (size_t)r * (size_t)w->ld, w->h_protect, (size_t)w->n);
    }
    w->last_budget = tok;
    return rc;
}

int kvt_evict_select(struct kvt_evictor *e, struct kvt_evict_work *w, const float *score, int layer)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int tok = w->layer_tok[layer], rc = put_budget(e, w, tok);
    if (rc)
        return rc;
    if (!w->S) {
        if (p->unit == KVT_UNIT_CHUNK) {
            w->fallback = true;
            snprintf(w->note, sizeof w->note, "%d tokens are fewer than one chunk of %d: single tokens were chosen",
                     w->fence, p->chunk_tok);
        }
        struct kvt_topk_args a = {.score = score, .protect = w->protect, .budget = w->budget, .n = w->n_live, .R = w->R,
                                  .ld = w->ld, .kept = w->kept, .n_kept = w->n_kept, .reason = w->reason,
                                  .threshold = w->threshold};
        return ops->topk(dev, &a);
    }
    struct kvt_segment_mean_args mean = {.in = score, .seg = w->seg, .out = w->unit, .R = w->R, .ld = w->ld, .S = w->S, .how = p->unit_reduce};
    rc = ops->segment_mean(dev, &mean);
    if (rc)
        return rc;
    return ops->pick_units(dev, &(struct kvt_pick_units_args){
        .score = w->unit, .seg = w->seg, .candidate = w->candidate, .protect = w->protect, .budget = w->budget,
        .max_units = p->unit == KVT_UNIT_CHUNK ? chunks_of(e, w, tok) : -1, .min_units = p->force ? 1 : 0,
        .overflow = p->overflow, .R = w->R, .S = w->S, .n = w->n, .ld = w->ld, .kept = w->kept, .n_kept = w->n_kept,
        .reason = w->reason, .threshold = w->threshold});
}
