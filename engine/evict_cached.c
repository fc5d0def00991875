/* What a slot is worth by its key and value: no row of attention is asked. At prefill's end the branch holds its context,
 * slot j position j, and the question's slots are gone: means, partitions and softmaxes are over the context. */
#include "engine/evict_state.h"

bool kvt_evict_by_cache(const struct kvt_policy *p)
{
    return p->score == KVT_SCORE_KNORM || p->score == KVT_SCORE_KEYDIFF || p->score == KVT_SCORE_LAGKV ||
           p->score == KVT_SCORE_EXPECTED;
}

int kvt_evict_out_norms(const struct kvt_evict_env *env, int model_layer, struct kvt_mat wo, int cell, float *out, int ld)
{
    struct kvt_out_norms_args a = {.at = {env->cache, cell, model_layer, env->n_context}, .w = wo, .H = env->H, .out = out, .ld = ld};
    return env->ops->out_norms(env->dev, &a);
}

/* Expected Attention: what the next `ahead` positions' queries would give if they were drawn like the prompt's; times the norm of
 * the value. In a hybrid of layers each has its own rotation. */
static int expected(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, const struct kvt_slots *at,
                    float *score)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    const struct kvt_turn *turn = &e->env->turn[at->layer];
    size_t hd = (size_t)e->env->H * (size_t)e->env->D;
    struct kvt_expected_args a = {.at = *at, .H = e->env->H, .sink = p->sinks, .mean = raw->query_mean + (size_t)at->layer * hd,
                                  .scatter = raw->query_scatter + (size_t)at->layer * hd * (size_t)e->env->D, .rows = raw->query_rows,
                                  .rope = turn->rope, .from = e->env->n_prompt, .ahead = p->ahead, .scale = turn->scale, .out = score,
                                  .ld = w->ld};
    int rc = ops->expected(e->env->dev, &a);
    if (rc || !p->vnorm)
        return rc;
    rc = ops->norms(e->env->dev, &(struct kvt_norms_args){.at = *at, .value = w->grp[1], .ld = w->ld});
    struct kvt_weigh_args by = {.in = score, .by = w->grp[1], .out = score, .R = e->env->G, .ld = w->ld, .n = w->n};
    return rc ? rc : ops->weigh(e->env->dev, &by);
}

int kvt_evict_key_norms(const struct kvt_evictor *e, int model_layer, int n, float *out, int ld)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_norms_args norms = {.at = {e->env->cache, e->branch, model_layer, n}, .key = out, .ld = ld};
    struct kvt_combine_args minus = {.in = out, .out = out, .R = e->env->G, .ld = ld, .n = n, .scale = -1};
    int rc = ops->norms(e->env->dev, &norms);
    return rc ? rc : ops->combine(e->env->dev, &minus);
}

int kvt_evict_cache_score(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, int layer, float *score)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    struct kvt_slots at = {.cache = e->env->cache, .branch = e->branch, .layer = layer, .n = w->n};
    switch (p->score) {
    case KVT_SCORE_KNORM: return kvt_evict_key_norms(e, layer, w->n, score, w->ld);
    case KVT_SCORE_KEYDIFF: return ops->keydiff(dev, &(struct kvt_keydiff_args){.at = at, .out = score, .ld = w->ld});
    case KVT_SCORE_LAGKV: /* ranks, so that every partition keeps the same share (kvpress; the official code cuts each by itself) */
        return ops->lag(dev, &(struct kvt_lag_args){.at = at, .sink = p->sinks, .lag = p->lag, .rank = true, .out = score, .ld = w->ld});
    case KVT_SCORE_EXPECTED: return expected(e, w, raw, &at, score);
    default: return KVT_EINPUT;
    }
}
