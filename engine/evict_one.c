/* A step's eviction where one slot at most is too many, which is what nearly all steps of methods that act at each of them are: one
 * operation of the backend, and no more read back than the positions that left: in a step of a session, those of all layers at its end. */
#include "engine/evict_state.h"
#include "engine/later.h"

bool kvt_evict_one_fits(const struct kvt_evictor *e, int layer, const int32_t *n, int pos)
{
    const struct kvt_policy *p = &e->spec.policy;
    bool sums = p->score == KVT_SCORE_MASS || p->score == KVT_SCORE_SQMASS, newest = p->score == KVT_SCORE_LAST || p->score == KVT_SCORE_RECENCY;
    if (!e->sliding || p->schedule == KVT_SCHEDULE_EVERY || !(sums || newest) || sums != (e->state != NULL))
        return false;
    for (int g = 0; g < e->env->G; g++)
        if (n[g] > kvt_evict_cell_tok(e, layer, g, pos + 1) + 1)
            return false;
    return true;
}

/* left: (G) the position that left each cell, or -1. */
static int tell(struct kvt_evictor *e, int layer, const int32_t *left, int step, struct kvt_err *err)
{
    int rc = 0;
    for (int g = 0; g < e->env->G && !rc; g++) {
        if (left[g] < 0)
            continue;
        e->held[layer * e->env->G + g]--;
        e->host_lost[0] = left[g];
        rc = kvt_evict_report_lost(e, layer, g, step, 1, err);
    }
    return rc;
}

int kvt_evict_one(struct kvt_evictor *e, int layer, const float *row, int added, int pos, int step, struct kvt_err *err)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    int G = e->env->G, at = layer * G;
    bool shared = p->heads == KVT_HEADS_SHARED;
    int32_t *left = e->host_left, *budget = e->host_few, *recent = budget + G;
    for (int g = 0; g < G; g++) {
        budget[g] = kvt_evict_cell_tok(e, layer, g, pos + 1);
        recent[g] = p->recent < 0 ? (budget[g] + 1) / 2 : p->recent;
    }
    struct kvt_evict_one_args a = {
        .cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .H = e->env->H,
        .row = p->score == KVT_SCORE_RECENCY ? NULL : row, .state = e->state ? e->state + (size_t)at * (size_t)e->ld : NULL,
        .row_ld = e->ld, .ld = e->ld, .added = added, .how = shared && !e->state ? KVT_GROUP_SUM : p->group,
        .square = p->score == KVT_SCORE_SQMASS, .visible_mean = e->state && p->visible_mean, .shared = shared, .pos = pos,
        .sinks = p->sinks, .recent = recent, .budget = budget, .turn = e->turn ? e->turn + at : NULL,
        .left = e->env->in_step ? e->gone + at : e->n_left};
    int rc = ops->evict_one(e->env->dev, &a);
    if (!rc && e->env->in_step) {
        e->pending[layer] = 1, e->pending_step = step, e->any_pending = true;
        return 0;
    }
    if (!rc)
        rc = ops->read(e->env->dev, left, e->n_left, (size_t)G * sizeof *left);
    return rc ? kvt_evict_device_fail(e, rc, "eviction in a step", err) : tell(e, layer, left, step, err);
}

int kvt_evict_later(struct kvt_evictor *e, struct kvt_err *err)
{
    int rc = e->any_pending ? kvt_later_read(e->env->ops, e->env->dev, e->host_gone, e->gone, (size_t)e->env->L * (size_t)e->env->G * sizeof *e->gone) : 0;
    return rc ? kvt_evict_device_fail(e, rc, "eviction in a step", err) : 0;
}

int kvt_evict_settled(struct kvt_evictor *e, struct kvt_err *err)
{
    int rc = 0;
    for (int l = 0; l < e->env->L && e->any_pending && !rc; l++) {
        if (e->pending[l])
            rc = tell(e, l, e->host_gone + l * e->env->G, e->pending_step, err);
        e->pending[l] = 0;
    }
    e->any_pending = false;
    return rc;
}
