/* LagKV as its authors run it: whenever a partition is complete, the one before it is cut to its share, once and for good
 * (AI-Lab-China-Merchants-Bank/LagKV, lag_kv.py). Slots stay in order of position and all cells hold equally many, so
 * where the next partition begins follows from the tokens seen. */
#include <assert.h>
#include <string.h>

#include "engine/evict_state.h"

bool kvt_evict_lags(const struct kvt_policy *p) { return p->score == KVT_SCORE_LAGKV && p->schedule == KVT_SCHEDULE_STEP; }

int kvt_evict_lag_tail(const struct kvt_policy *p, int n)
{
    return n < p->sinks + 2 * p->lag ? p->sinks : n - p->lag - (n - p->sinks) % p->lag;
}

/* What each head lost, told to the probe. e->left holds the slots that stayed, host_pos the positions before. */
static int report(struct kvt_evictor *e, int layer, int n, int step, struct kvt_err *err)
{
    int G = e->env->G;
    size_t ld = (size_t)e->ld;
    int rc = e->env->ops->read(e->env->dev, e->host_n, e->n_left, (size_t)G * sizeof(int32_t));
    for (int g = 0; !rc && g < G; g++) {
        int kept = e->host_n[g];
        rc = e->env->ops->read(e->env->dev, e->host_left, e->left + (size_t)g * ld, (size_t)kept * sizeof(int32_t));
        if (rc)
            break;
        e->held[layer * G + g] = kept;
        int lost = kvt_evict_lost(e, e->host_pos + (size_t)g * ld, n, e->host_left, kept);
        int stopped = kvt_evict_report_lost(e, layer, g, step, lost, err);
        if (stopped)
            return stopped;
    }
    return rc ? kvt_evict_device_fail(e, rc, "reading what left", err) : 0;
}

int kvt_evict_lag(struct kvt_evictor *e, int layer, int pos, int step, struct kvt_err *err)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int G = e->env->G, past = pos + 1 - p->sinks;
    size_t ld = (size_t)e->ld;
    if (past < 2 * p->lag || past % p->lag)
        return 0;
    int64_t each = p->lag * e->budget.keep_ppm / 1000000;
    int base = p->sinks + (past / p->lag - 2) * (each < 1 ? 1 : (int)each), n = base + 2 * p->lag, rc = 0;
    memset(e->host_protect, KVT_KEPT_WINDOW, (size_t)n);
    memset(e->host_protect + base, 0, (size_t)p->lag);
    for (int g = 0; !rc && g < G; g++) {
        assert(e->held[layer * G + g] == n);
        rc = ops->write(dev, e->protect + (size_t)g * ld, e->host_protect, (size_t)n);
    }
    struct kvt_lag_args lag = {.at = {.cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .n = n},
                               .sink = base, .lag = p->lag, .out = e->rank, .ld = e->ld};
    struct kvt_positions_args where = {.cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .pos = e->pos, .count = e->n_live,
                                       .ld = e->ld};
    struct kvt_topk_within_args best = {.score = e->rank, .protect = e->protect, .n = e->n_live, .R = G, .ld = e->ld, .from = base,
                                        .within = p->lag, .num = e->budget.keep_ppm, .den = 1000000, .kept = e->left, .n_kept = e->n_left};
    struct kvt_keep_args keep = {.cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .slot = e->left, .count = e->n_left,
                                 .ld = e->ld};
    if (!rc)
        rc = ops->lag(dev, &lag);
    if (!rc)
        rc = ops->cache_positions(dev, &where);
    if (!rc)
        rc = ops->read(dev, e->host_pos, e->pos, (size_t)G * ld * sizeof(int32_t));
    if (!rc)
        rc = ops->topk_within(dev, &best);
    if (!rc)
        rc = ops->cache_keep(dev, &keep);
    return rc ? kvt_evict_device_fail(e, rc, "cutting a partition", err) : report(e, layer, n, step, err);
}
