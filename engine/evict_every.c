/* Eviction every N tokens, and after each chunk of a prefill: all layers at once, after the last layer's attention of the step, so that cells can share a budget
 * (kvpress's DecodingPress, KV-Compress's repeated compression). Slots stay in order of position. */
#include <assert.h>
#include <string.h>

#include "engine/evict_state.h"

void kvt_evict_every_layout(struct kvt_evictor *e, struct kvt_carve *dev, struct kvt_carve *host)
{
    size_t cells = (size_t)e->env->L * (size_t)e->env->G, all = cells * (size_t)e->ld;
    struct kvt_evict_round *w = &e->round;
    bool pools = e->spec.policy.pool != KVT_POOL_NONE && e->spec.policy.pool_width > 1;
    w->score = kvt_carve(dev, all, sizeof(float));
    w->pooled = pools ? kvt_carve(dev, all, sizeof(float)) : NULL;
    w->sum = e->spec.policy.heads == KVT_HEADS_SHARED ? kvt_carve(dev, (size_t)e->ld, sizeof(float)) : NULL;
    w->pos = kvt_carve(dev, all, sizeof(int32_t));
    w->kept = kvt_carve(dev, all, sizeof(int32_t));
    w->protect = kvt_carve(dev, all, 1);
    w->n = kvt_carve(dev, cells, sizeof(int32_t));
    w->n_kept = kvt_carve(dev, cells, sizeof(int32_t));
    w->budget = kvt_carve(dev, cells, sizeof(int32_t));
    w->total = kvt_carve(dev, cells, sizeof(int32_t));
    w->h_n_kept = kvt_carve(host, cells, sizeof(int32_t));
    w->h_budget = kvt_carve(host, cells, sizeof(int32_t));
    w->h_kept = kvt_carve(host, (size_t)e->ld, sizeof(int32_t));
    w->h_state = kvt_carve(host, (size_t)e->ld, sizeof(float));
}

bool kvt_evict_due(const struct kvt_evictor *e, int layer, int step)
{
    return layer == e->env->L - 1 && step > 0 && step % e->spec.policy.every == 0;
}

bool kvt_evict_row_counts(const struct kvt_evictor *e, int step, bool *anew)
{
    const struct kvt_policy *p = &e->spec.policy;
    *anew = p->score == KVT_SCORE_LAST;
    if (p->schedule != KVT_SCHEDULE_EVERY || (p->score != KVT_SCORE_WMASS && p->score != KVT_SCORE_SQWMASS))
        return true;
    int to_go = (p->every - step % p->every) % p->every; /* steps until the next eviction */
    *anew = to_go == p->window - 1 || step % p->every == 1 || p->every == 1;
    return step > 0 && to_go < p->window;
}

int kvt_evict_every_recent(const struct kvt_policy *p, int tok, bool in_chunk)
{
    int recent = p->recent < 0 ? (tok + 1) / 2 : p->recent;
    return in_chunk && p->keep_window && p->window > recent ? p->window : recent;
}

/* Scores of a layer's slots where no row is added up: (G, ld) from keys, positions, what the oracle knows of them, or chance. */
static int score_layer(struct kvt_evictor *e, int layer, const int32_t *n, float *out)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int G = e->env->G, most = 0, rc = 0;
    for (int g = 0; g < G; g++)
        most = n[g] > most ? n[g] : most;
    struct kvt_slots at = {.cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .n = most};
    if (p->score == KVT_SCORE_KNORM)
        return kvt_evict_key_norms(e, at.layer, most, out, e->ld);
    if (p->score == KVT_SCORE_KEYDIFF)
        return ops->keydiff(dev, &(struct kvt_keydiff_args){.at = at, .out = out, .ld = e->ld});
    if (p->score == KVT_SCORE_ORACLE)
        return kvt_evict_future(e, layer, n, G, out);
    for (int g = 0; !rc && g < G; g++) {
        const int32_t *pos = e->host_pos + (size_t)g * (size_t)e->ld;
        for (int i = 0; i < n[g]; i++)
            e->host_rank[i] = kvt_evict_by_place(p, at.layer, p->heads == KVT_HEADS_SHARED ? 0 : g, pos[i]);
        rc = ops->write(dev, out + (size_t)g * (size_t)e->ld, e->host_rank, (size_t)n[g] * sizeof(float));
    }
    return rc;
}

/* The sums of a layer as they are ranked: copied, and divided by the rows that saw a slot where the policy says so. */
static int copy_state(struct kvt_evictor *e, int layer, const int32_t *n, int pos, float *out)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    size_t ld = (size_t)e->ld;
    int G = e->env->G, rc = 0;
    for (int g = 0; !rc && g < G; g++) {
        const float *state = e->state + ((size_t)layer * (size_t)G + (size_t)g) * ld;
        float *row = out + (size_t)g * ld;
        rc = ops->copy(dev, row, state, (size_t)n[g] * sizeof *row);
        if (!rc && e->spec.policy.visible_mean)
            rc = kvt_evict_visible_mean(e, row, e->host_pos + (size_t)g * ld, n[g], pos, row);
    }
    return rc;
}

/* Positions, protection and scores of one layer. */
static int prepare(struct kvt_evictor *e, int layer, int pos)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    struct kvt_evict_round *w = &e->round;
    size_t G = (size_t)e->env->G, ld = (size_t)e->ld, cell = (size_t)layer * G;
    const int32_t *n = e->held + cell;
    int rc = ops->cache_positions(dev, &(struct kvt_positions_args){
        .cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .pos = w->pos + cell * ld, .count = w->n + cell, .ld = e->ld});
    if (!rc)
        rc = ops->read(dev, e->host_pos, w->pos + cell * ld, G * ld * sizeof(int32_t));
    for (size_t g = 0; !rc && g < G; g++) {
        int tok = kvt_evict_cell_tok(e, layer, (int)g, pos + 1), recent = kvt_evict_every_recent(p, tok, e->in_chunk);
        for (int i = 0; i < n[g]; i++) {
            int at = e->host_pos[g * ld + (size_t)i];
            e->host_protect[i] = at < p->sinks ? KVT_KEPT_PROTECTED : at > pos - recent ? KVT_KEPT_WINDOW : 0;
        }
        rc = ops->write(dev, w->protect + (cell + g) * ld, e->host_protect, (size_t)n[g]);
        w->h_budget[cell + g] = tok;
    }
    if (rc)
        return rc;
    return e->state ? copy_state(e, layer, n, pos, w->score + cell * ld) : score_layer(e, layer, n, w->score + cell * ld);
}

/* Heads that share one set rank by one score, their sum: all of a layer hold the same slots, and so choose the same again. */
static int share_heads(struct kvt_evictor *e, float *score)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    struct kvt_evict_round *w = &e->round;
    int G = e->env->G, rc = 0;
    for (int l = 0; !rc && l < e->env->L; l++) {
        float *rows = score + (size_t)l * (size_t)G * (size_t)e->ld;
        rc = ops->combine(dev, &(struct kvt_combine_args){.in = rows, .out = w->sum, .R = G, .ld = e->ld, .n = e->held[(size_t)l * (size_t)G], .scale = 1,
                                                          .sum_rows = true});
        for (int g = 0; !rc && g < G; g++)
            rc = ops->copy(dev, rows + (size_t)g * (size_t)e->ld, w->sum, (size_t)e->held[(size_t)l * (size_t)G] * sizeof *rows);
    }
    return rc;
}

/* Budgets of all cells, w->budget: alike, or shared by the scores. */
static int share(struct kvt_evictor *e, const float *score)
{
    const struct kvt_policy *p = &e->spec.policy;
    struct kvt_evict_round *w = &e->round;
    int L = e->env->L, G = e->env->G, cells = L * G, per = p->alloc == KVT_ALLOC_GLOBAL ? cells : p->alloc == KVT_ALLOC_HEAD ? G : 1;
    bool pages = p->unit == KVT_UNIT_PAGE;
    int rc = e->env->ops->write(e->env->dev, w->budget, w->h_budget, (size_t)cells * sizeof *w->h_budget);
    if (rc || (per == 1 && !pages))
        return rc;
    int64_t sum = 0;
    for (int i = 0, set = 0; i < cells; i++) {
        sum += pages ? (w->h_budget[i] + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS : w->h_budget[i];
        if ((i + 1) % per == 0) {
            assert(sum <= INT32_MAX);
            w->h_n_kept[set++] = (int32_t)sum;
            sum = 0;
        }
    }
    rc = e->env->ops->write(e->env->dev, w->total, w->h_n_kept, (size_t)(cells / per) * sizeof *w->h_n_kept);
    return rc ? rc : e->env->ops->divide(e->env->dev, &(struct kvt_divide_args){
        .score = score, .protect = w->protect, .n = w->n, .total = w->total, .R = cells, .ld = e->ld, .per = per,
        .how = kvt_evict_divide_how(p), .alpha_ppm = p->alloc == KVT_ALLOC_GLOBAL ? 0 : p->alpha_ppm, .budget = w->budget});
}

/* One cell after its slots were chosen: its sums close up; *lost: how many positions left, in host_lost. */
static int settle(struct kvt_evictor *e, int layer, int g, int *lost)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    struct kvt_evict_round *w = &e->round;
    size_t cell = (size_t)layer * (size_t)e->env->G + (size_t)g, at = cell * (size_t)e->ld;
    int n = e->held[cell], kept = w->h_n_kept[cell];
    int rc = ops->read(dev, w->h_kept, w->kept + at, (size_t)kept * sizeof(int32_t));
    if (!rc && e->state)
        rc = ops->read(dev, w->h_state, e->state + at, (size_t)n * sizeof(float));
    if (!rc)
        rc = ops->read(dev, e->host_pos, w->pos + at, (size_t)n * sizeof(int32_t));
    for (int k = 0; !rc && e->state && k < kept; k++)
        w->h_state[k] = w->h_state[w->h_kept[k]];
    if (!rc && e->state)
        rc = ops->write(dev, e->state + at, w->h_state, (size_t)kept * sizeof(float));
    if (rc)
        return rc;
    e->held[cell] = kept;
    *lost = kvt_evict_lost(e, e->host_pos, n, w->h_kept, kept);
    return 0;
}

int kvt_evict_every(struct kvt_evictor *e, int pos, int step, struct kvt_err *err)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    struct kvt_evict_round *w = &e->round;
    int L = e->env->L, G = e->env->G, cells = L * G, rc = 0;
    for (int l = 0; !rc && l < L; l++)
        rc = prepare(e, l, pos);
    float *score = w->pooled ? w->pooled : w->score;
    for (size_t c = 0, ld = (size_t)e->ld; !rc && w->pooled && c < (size_t)cells; c++) /* each to its own length: behind that nothing counts */
        rc = ops->pool(dev, &(struct kvt_pool_args){.in = w->score + c * ld, .out = w->pooled + c * ld, .R = 1, .ld = e->ld, .from = 0,
                                                    .to = e->held[c], .width = p->pool_width, .how = p->pool});
    if (!rc && w->sum)
        rc = share_heads(e, score);
    if (!rc)
        rc = share(e, score);
    if (!rc)
        rc = ops->topk(dev, &(struct kvt_topk_args){.score = score, .protect = w->protect, .budget = w->budget, .n = w->n, .R = cells,
                                                    .ld = e->ld, .kept = w->kept, .n_kept = w->n_kept});
    if (!rc)
        rc = ops->read(dev, w->h_n_kept, w->n_kept, (size_t)cells * sizeof *w->h_n_kept);
    for (int l = 0; !rc && l < L; l++) {
        size_t cell = (size_t)l * (size_t)G;
        rc = ops->cache_keep(dev, &(struct kvt_keep_args){.cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, l),
                                                          .slot = w->kept + cell * (size_t)e->ld, .count = w->n_kept + cell, .ld = e->ld});
        for (int g = 0, lost; !rc && g < G; g++) {
            rc = settle(e, l, g, &lost);
            int stopped = rc ? 0 : kvt_evict_report_lost(e, l, g, step, lost, err);
            if (stopped)
                return stopped;
        }
    }
    return rc ? kvt_evict_device_fail(e, rc, e->in_chunk ? "eviction after a chunk" : "eviction after N tokens", err) : 0;
}
