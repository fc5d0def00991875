/* What a slot is worth: the policy's choices as a chain of the backend's operations. */
#include <assert.h>

#include "engine/evict_state.h"

const float *kvt_evict_raw(const struct kvt_policy *p, const struct kvt_prefill_scores *raw, int H, int G, int layer,
                           bool *per_group)
{
    size_t at = (size_t)layer * (size_t)H * (size_t)raw->ld, at_group = (size_t)layer * (size_t)G * (size_t)raw->ld;
    const float *head = NULL, *group = NULL;
    switch (p->score) {
    case KVT_SCORE_MASS: head = raw->mass; break;
    case KVT_SCORE_LAST: head = raw->last; break;
    case KVT_SCORE_MAX: head = raw->max; break;
    case KVT_SCORE_LATER: head = raw->later; break;
    case KVT_SCORE_WMASS:
        for (int i = 0; i < raw->n_windows; i++)
            head = raw->window[i] == p->window ? raw->wmass[i] : head;
        break;
    case KVT_SCORE_SQMASS:
    case KVT_SCORE_SQWMASS:
    case KVT_SCORE_FINCH:
        for (int i = 0; i < raw->n_squares; i++)
            if (kvt_evict_same_square(&raw->square[i], p))
                head = raw->sqmass[i];
        break;
    case KVT_SCORE_KVZIP:
    case KVT_SCORE_FILE:
    case KVT_SCORE_ORACLE: group = raw->given; break;
    case KVT_SCORE_HOST: /* its own loop asks for what it needs */
    case KVT_SCORE_NONE:
    case KVT_SCORE_RANDOM:
    case KVT_SCORE_RECENCY:
    case KVT_SCORE_KNORM:
    case KVT_SCORE_KEYDIFF:
    case KVT_SCORE_LAGKV:
    case KVT_SCORE_EXPECTED: break;
    }
    *per_group = group != NULL;
    return head ? head + at : group ? group + at_group : NULL;
}

/* splitmix64's finish: every bit of x reaches every bit of the result. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

float kvt_evict_chance(uint64_t seed, int layer, int g, int pos)
{
    uint64_t x = mix(seed + 0x9e3779b97f4a7c15u);
    x = mix(x + (uint64_t)layer * 0x9e3779b97f4a7c15u + 1);
    x = mix(x + (uint64_t)g * 0x9e3779b97f4a7c15u + 2);
    x = mix(x + (uint64_t)pos * 0x9e3779b97f4a7c15u + 3);
    return (float)(x >> 40) * 0x1p-24f;
}

float kvt_evict_by_place(const struct kvt_policy *p, int model_layer, int g, int pos)
{
    return p->score == KVT_SCORE_RECENCY ? (float)pos : kvt_evict_chance(p->seed, model_layer, g, pos);
}

int kvt_evict_visible_mean(struct kvt_evictor *e, const float *sum, const int32_t *at, int n, int pos, float *out)
{
    int rc = e->env->ops->read(e->env->dev, e->host_rank, sum, (size_t)n * sizeof *sum);
    for (int i = 0; i < n; i++)
        e->host_rank[i] /= (float)(pos - at[i] + 1);
    return rc ? rc : e->env->ops->write(e->env->dev, out, e->host_rank, (size_t)n * sizeof *out);
}

/* Scores that need no attention are made here, once a layer; slots are positions at prefill's end. A unit draws one
 * lot, at its first slot: the mean of many would favour none, but long ones would never be extreme. */
static int made_here(struct kvt_evictor *e, struct kvt_evict_work *w, int layer, float **out)
{
    const struct kvt_policy *p = &e->spec.policy;
    int rc = 0;
    *out = w->grp[0];
    if (p->score == KVT_SCORE_RECENCY && layer > 0)
        return 0; /* the same in every layer, and still there */
    for (int r = 0; !rc && r < w->R; r++) {
        float *row = w->h_score + (size_t)r * (size_t)w->n;
        for (int j = 0; j < w->n; j++)
            row[j] = kvt_evict_by_place(p, kvt_evict_layer(e->env, layer), r, j);
        for (int s = 0; p->score == KVT_SCORE_RANDOM && s < w->S; s++)
            for (int j = w->h_seg[s] + 1; j < w->h_seg[s + 1]; j++)
                row[j] = row[j - 1];
        rc = e->env->ops->write(e->env->dev, w->grp[0] + (size_t)r * (size_t)w->ld, row, (size_t)w->n * sizeof *row);
    }
    return rc;
}

/* kvpress gives the window the largest score of all heads plus one; its chunks then win by their mean. */
static int raise_window(struct kvt_evictor *e, struct kvt_evict_work *w, float *score)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    size_t n = (size_t)w->n, fence = (size_t)w->fence;
    float best = 0;
    int rc = 0;
    for (int g = 0; !rc && g < e->env->G; g++) {
        float *row = w->h_score + (size_t)g * n;
        rc = ops->read(dev, row, score + (size_t)g * (size_t)w->ld, n * sizeof *row);
        for (size_t j = 0; j < fence; j++)
            best = row[j] > best ? row[j] : best;
    }
    for (size_t j = fence; j < n; j++)
        w->h_score[j] = best + 1;
    size_t bytes = (n - fence) * sizeof(float);
    for (int g = 0; !rc && g < e->env->G && fence < n; g++)
        rc = ops->write(dev, score + (size_t)g * (size_t)w->ld + fence, w->h_score + fence, bytes);
    return rc;
}

/* Scores of one layer, (R, ld): *out is one of w's scratch rows. */
static int score_layer(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, int layer,
                       float **out)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int H = e->env->H, G = e->env->G, ld = w->ld, rc = 0;
    bool per_group = false, pools = p->pool != KVT_POOL_NONE && p->pool_width > 1;
    if (p->score == KVT_SCORE_RANDOM || p->score == KVT_SCORE_RECENCY)
        return made_here(e, w, layer, out);
    bool host = p->score == KVT_SCORE_HOST, by_cache = kvt_evict_by_cache(p);
    int model = kvt_evict_layer(e->env, layer);
    const float *in = host || by_cache ? NULL : kvt_evict_raw(p, raw, H, G, model, &per_group);
    float *score = w->grp[0];
    assert(host || by_cache || (in && raw->ld == ld));
    struct kvt_pool_args pool = {.ld = ld, .from = 0, .to = w->fence, .width = p->pool_width, .how = p->pool};
    if (host) {
        rc = kvt_evict_host_score(e, w, raw, model, score);
    } else if (by_cache) {
        rc = kvt_evict_cache_score(e, w, raw, model, score);
        per_group = true;
    } else if (per_group) { /* from outside: nothing to reduce */
        struct kvt_combine_args a = {.in = in, .out = score, .R = G, .ld = ld, .n = w->n, .scale = 1};
        rc = ops->combine(dev, &a);
    } else {
        if (p->visible_mean) {
            struct kvt_combine_args a = {.in = in, .out = w->head[0], .R = H, .ld = ld, .n = e->env->n_prompt,
                                         .scale = 1, .visible_mean = true};
            rc = ops->combine(dev, &a);
            in = w->head[0];
        }
        if (!rc && pools && !p->group_first) {
            pool.R = H, pool.in = in, pool.out = w->head[1];
            rc = ops->pool(dev, &pool);
            in = w->head[1];
        }
        struct kvt_group_args group = {.in = in, .out = score, .H = H, .G = G, .n = w->n, .ld = ld, .how = p->group};
        if (!rc)
            rc = ops->group(dev, &group);
    }
    if (!rc && pools && (p->group_first || per_group || host)) {
        pool.R = G, pool.in = score, pool.out = w->grp[1];
        rc = ops->pool(dev, &pool);
        score = w->grp[1];
    }
    if (!rc && p->unit == KVT_UNIT_CHUNK && p->chunk_count == KVT_COUNT_KVPRESS && p->keep_window)
        rc = raise_window(e, w, score);
    if (!rc && w->R == 1 && G > 1) {
        struct kvt_combine_args a = {.in = score, .out = w->sum, .R = G, .ld = ld, .n = w->n, .scale = 1,
                                     .sum_rows = true};
        rc = ops->combine(dev, &a);
        score = w->sum;
    }
    *out = score;
    return rc;
}

int kvt_evict_score_all(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    bool one_set = p->scope == KVT_SCOPE_ALL_LAYERS; /* added up in layer 0: heads share a set already, and now layers do */
    size_t bytes = (size_t)w->R * (size_t)w->ld * sizeof(float);
    int rc = 0, reuse = p->reuse > 1 ? p->reuse : 1;
    for (int l = 0; !rc && l < e->env->L; l++) {
        float *score = NULL;
        if (!one_set && l % reuse) { /* the same scores choose the same slots (ChunkKV, algorithm 2) */
            rc = ops->copy(dev, w->score + kvt_evict_at(w, l, 0), w->score + kvt_evict_at(w, l - l % reuse, 0), bytes);
            continue;
        }
        rc = score_layer(e, w, raw, l, &score);
        struct kvt_combine_args add = {.in = score, .out = w->score, .R = w->R, .ld = w->ld, .n = w->n, .scale = 1,
                                       .accumulate = l > 0};
        if (!rc && one_set)
            rc = ops->combine(dev, &add);
        else if (!rc)
            rc = ops->copy(dev, w->score + kvt_evict_at(w, l, 0), score, bytes);
    }
    for (int l = 1; !rc && one_set && l < e->env->L; l++)
        rc = ops->copy(dev, w->score + kvt_evict_at(w, l, 0), w->score, bytes);
    return rc;
}
