/* Scores made by a method's own C loop: copies go to the host, the answer comes back, and the wait is counted. */
#include <stdlib.h>

#include "base/mem.h"
#include "engine/evict_state.h"
#include "engine/run.h"

static const float *window_of(const struct kvt_prefill_scores *raw, int window)
{
    for (int i = 0; raw && i < raw->n_windows; i++)
        if (raw->window[i] == window)
            return raw->wmass[i];
    return NULL;
}

/* (H, ld) of a layer, read to the host. *to is the next free place of the block. */
static const float *fetch(struct kvt_evictor *e, const float *from, int layer, int ld, float **to, int *rc)
{
    size_t count = (size_t)e->env->H * (size_t)ld;
    float *out = *to;
    *to += count;
    if (!*rc)
        *rc = e->env->ops->read(e->env->dev, out, from + (size_t)layer * count, count * sizeof *out);
    return out;
}

int kvt_evict_host_score(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, int layer,
                         float *out)
{
    const struct kvt_ops *ops = e->env->ops;
    const struct kvt_method *m = e->spec.method;
    int64_t start = kvt_now_ns();
    size_t n = (size_t)w->n, G = (size_t)e->env->G, D = (size_t)e->env->D, ld = (size_t)w->ld;
    size_t rows = (size_t)e->env->H * ld, kv = m->host_needs & KVT_HOST_KV ? 2 * G * n * D : 0;
    float *block = kvt_calloc(3 * rows + kv + G * n, sizeof *block), *next = block;
    if (!block)
        return KVT_ENOMEM;
    int rc = 0;
    struct kvt_host_layer at = {.layer = layer, .H = e->env->H, .G = e->env->G, .D = e->env->D, .n = w->n,
                                .n_rows = e->env->n_prompt, .ld = w->ld, .policy = &e->spec.policy};
    if (m->host_needs & KVT_HOST_MASS)
        at.mass = fetch(e, raw->mass, layer, w->ld, &next, &rc);
    if (m->host_needs & KVT_HOST_WMASS)
        at.wmass = fetch(e, window_of(raw, e->spec.policy.window), layer, w->ld, &next, &rc);
    if (m->host_needs & KVT_HOST_LAST)
        at.last = fetch(e, raw->last, layer, w->ld, &next, &rc);
    float *k = next, *v = next + G * n * D, *score = next + kv;
    for (size_t g = 0; kv && !rc && g < G; g++) /* the branch holds the question too, or not: the context comes first */
        rc = ops->cache_peek(e->env->dev, e->env->cache, e->branch, layer, (int)g, k + g * n * D, v + g * n * D);
    if (kv)
        at.k = k, at.v = v;
    if (!rc)
        rc = m->host_score(&at, score);
    for (size_t g = 0; !rc && g < G; g++)
        rc = ops->write(e->env->dev, out + g * ld, score + g * n, n * sizeof *score);
    free(block);
    e->host_ns += kvt_now_ns() - start;
    return rc;
}
