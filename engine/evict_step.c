/* Eviction while tokens come: after each layer's attention of each step, with buffers made at open. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/evict_state.h"
#include "engine/later.h"
#include "engine/times.h"

/* Scores that rows are added up for over many steps; between two evictions of schedule=every, or in a chunk, also those of a few rows. */
static bool accumulates(const struct kvt_evictor *e)
{
    enum kvt_score score = e->spec.policy.score;
    bool few = score == KVT_SCORE_WMASS || score == KVT_SCORE_SQWMASS || score == KVT_SCORE_LAST;
    bool sums = score == KVT_SCORE_MASS || score == KVT_SCORE_SQMASS;
    return (e->chunked && (sums || few)) || (e->sliding && (sums || (few && e->spec.policy.schedule == KVT_SCHEDULE_EVERY)));
}

static void layout(struct kvt_evictor *e, struct kvt_carve *dev, struct kvt_carve *host)
{
    size_t G = (size_t)e->env->G, ld = (size_t)e->ld;
    e->state = accumulates(e) ? kvt_carve(dev, (size_t)e->env->L * G * ld, sizeof(float)) : NULL;
    e->turn = e->sliding && e->spec.policy.leaver == KVT_LEAVES_CONTEST ? kvt_carve(dev, (size_t)e->env->L * G, sizeof(int32_t)) : NULL;
    if (e->spec.policy.schedule == KVT_SCHEDULE_EVERY || e->chunked)
        kvt_evict_every_layout(e, dev, host);
    kvt_evict_chunk_layout(e, accumulates(e), dev);
    e->rank = kvt_carve(dev, G * ld, sizeof(float));
    e->pos = kvt_carve(dev, G * ld, sizeof(int32_t));
    e->left = kvt_carve(dev, G * ld, sizeof(int32_t));
    e->n_live = kvt_carve(dev, G, sizeof(int32_t));
    e->n_left = kvt_carve(dev, G, sizeof(int32_t));
    e->budget_tok = kvt_carve(dev, G, sizeof(int32_t));
    e->gone = kvt_carve(dev, (size_t)e->env->L * G, sizeof(int32_t));
    e->protect = kvt_carve(dev, G * ld, 1);
    e->host_rank = kvt_carve(host, ld, sizeof(float));
    e->host_pos = kvt_carve(host, G * ld, sizeof(int32_t));
    e->host_left = kvt_carve(host, G * ld, sizeof(int32_t));
    e->host_lost = kvt_carve(host, ld, sizeof(int32_t));
    e->host_n = kvt_carve(host, G, sizeof(int32_t));
    e->host_few = kvt_carve(host, 2 * G, sizeof(int32_t));
    e->host_protect = kvt_carve(host, ld, 1);
    e->pending = kvt_carve(host, (size_t)e->env->L, 1);
}

size_t kvt_evict_step_bytes(struct kvt_evictor *e)
{
    struct kvt_carve dev = {0}, host = {0};
    e->ld = e->env->max_slots;
    layout(e, &dev, &host);
    return dev.used + host.used;
}

int kvt_evict_step_open(struct kvt_evictor *e, struct kvt_err *err)
{
    struct kvt_carve dev = {0}, host = {0};
    e->ld = e->env->max_slots;
    layout(e, &dev, &host);
    e->host_block = kvt_calloc(host.used, 1);
    e->block = e->env->ops->alloc(e->env->dev, dev.used);
    e->host_gone = kvt_later_alloc(e->env->ops, e->env->dev, (size_t)e->env->L * (size_t)e->env->G * sizeof *e->host_gone);
    if (!e->host_block || !e->block || !e->host_gone)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the state of %d slots (%zu bytes)", e->spec.method->name,
                        e->ld, dev.used + host.used);
    dev = (struct kvt_carve){e->block, 0};
    host = (struct kvt_carve){e->host_block, 0};
    layout(e, &dev, &host);
    return 0;
}

void kvt_evict_step_close(struct kvt_evictor *e)
{
    if (e->block)
        e->env->ops->free(e->env->dev, e->block);
    if (e->host_gone)
        kvt_later_free(e->env->ops, e->env->dev, e->host_gone);
    e->host_gone = NULL;
    free(e->host_block);
    e->block = e->host_block = NULL;
}

int kvt_evict_step_copy(struct kvt_evictor *to, const struct kvt_evictor *from)
{
    size_t cells = (size_t)from->env->L * (size_t)from->env->G;
    int rc = from->state ? to->env->ops->copy(to->env->dev, to->state, from->state, cells * (size_t)from->ld * sizeof(float)) : 0;
    return rc || !from->turn ? rc : to->env->ops->copy(to->env->dev, to->turn, from->turn, cells * sizeof(int32_t));
}

int kvt_evict_step_begin(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw,
                         int layer, bool all)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    if (!e->state || (e->spec.policy.score != KVT_SCORE_MASS && e->spec.policy.score != KVT_SCORE_SQMASS))
        return 0;
    /* plain sums, whatever the ranking divides by; head[1] of an unpooled method is free */
    bool per_group;
    const float *mass = kvt_evict_raw(&e->spec.policy, raw, e->env->H, e->env->G, kvt_evict_layer(e->env, layer), &per_group);
    struct kvt_group_args a = {.in = mass, .out = w->head[1], .H = e->env->H, .G = e->env->G, .n = w->n, .ld = w->ld,
                               .how = e->spec.policy.group};
    int rc = ops->group(dev, &a);
    for (int g = 0; !rc && g < e->env->G; g++) {
        float *state = e->state + ((size_t)layer * (size_t)e->env->G + (size_t)g) * (size_t)e->ld;
        const float *sum = w->head[1] + (size_t)g * (size_t)w->ld;
        int r = w->R == 1 ? 0 : g, n = w->h_n_kept[layer * w->R + r];
        if (all) {
            rc = ops->copy(dev, state, sum, (size_t)w->n * sizeof *state);
            continue;
        }
        rc = ops->read(dev, w->h_score, sum, (size_t)w->n * sizeof *state);
        if (!rc)
            rc = ops->read(dev, w->h_kept, w->kept + kvt_evict_at(w, layer, r), (size_t)n * sizeof *w->h_kept);
        for (int i = 0; !rc && i < n; i++)
            e->host_rank[i] = w->h_score[w->h_kept[i]];
        if (!rc)
            rc = ops->write(dev, state, e->host_rank, (size_t)n * sizeof *state);
    }
    return rc;
}

static int longest(const int32_t *n, int G)
{
    int most = 0;
    for (int g = 0; g < G; g++)
        most = n[g] > most ? n[g] : most;
    return most;
}

/* Adds the current row, or its square, to the state. */
static int accumulate(struct kvt_evictor *e, int layer, const float *row, const int32_t *n, int step)
{
    size_t at = (size_t)layer * (size_t)e->env->G;
    bool anew, counts = kvt_evict_row_counts(e, step, &anew);
    enum kvt_score score = e->spec.policy.score;
    if (!counts)
        return 0;
    memset(e->host_left, 0, (size_t)e->env->G * sizeof *e->host_left); /* no slot has a sum yet */
    return e->env->ops->accumulate(e->env->dev, &(struct kvt_accumulate_args){
        .row = row, .state = e->state + at * (size_t)e->ld, .held = anew ? e->host_left : e->held + at, .n = n, .H = e->env->H, .G = e->env->G,
        .row_ld = e->ld, .ld = e->ld, .how = e->spec.policy.group, .square = score == KVT_SCORE_SQMASS || score == KVT_SCORE_SQWMASS});
}

int kvt_evict_future(struct kvt_evictor *e, int layer, const int32_t *n, int R, float *out)
{
    const struct kvt_evict_env *env = e->env;
    const float *worth = env->future(env->future_self, e->branch, kvt_evict_layer(env, layer));
    size_t ld = (size_t)e->ld;
    int rc = 0;
    for (int r = 0; !rc && r < R; r++) {
        const int32_t *at = e->host_pos + (size_t)r * ld;
        for (int i = 0; i < n[r]; i++) {
            e->host_rank[i] = 0;
            for (int g = r; g < (R < env->G ? env->G : r + 1); g++)
                e->host_rank[i] += worth[(size_t)g * (size_t)env->max_slots + (size_t)at[i]];
        }
        rc = env->ops->write(env->dev, out + (size_t)r * ld, e->host_rank, (size_t)n[r] * sizeof(float));
    }
    return rc;
}

/* What slots compete by, (R, ld) in e->rank or the state itself. Host positions are those of this layer. */
static int rank(struct kvt_evictor *e, int layer, const float *row, const int32_t *n, int pos, int R,
                const float **score)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int G = e->env->G, rc = 0;
    size_t ld = (size_t)e->ld;
    *score = e->rank;
    struct kvt_group_args group = {.in = row, .out = e->rank, .H = e->env->H, .G = G, .n = longest(n, G),
                                   .ld = e->ld, .how = p->group};
    struct kvt_combine_args sum = {.in = row, .out = e->rank, .R = e->env->H, .ld = e->ld, .n = longest(n, G),
                                   .scale = 1, .sum_rows = true};
    if (p->score == KVT_SCORE_ORACLE)
        return kvt_evict_future(e, layer, n, R, e->rank);
    if (!e->sliding || p->score == KVT_SCORE_LAST) /* the current row alone, reduced over groups or summed over heads */
        return p->heads != KVT_HEADS_SHARED ? ops->group(dev, &group) : ops->combine(dev, &sum);
    if (p->score == KVT_SCORE_KNORM) {
        rc = kvt_evict_key_norms(e, kvt_evict_layer(e->env, layer), longest(n, G), e->rank, e->ld);
        sum.in = e->rank, sum.R = G;
        return rc || R == G ? rc : ops->combine(dev, &sum);
    }
    if (e->state)
        *score = e->state + (size_t)layer * (size_t)G * ld;
    if (e->state && R < G) {
        sum.in = *score, sum.R = G;
        rc = ops->combine(dev, &sum);
        *score = e->rank;
    }
    if (e->state && !p->visible_mean)
        return rc;
    for (int r = 0; !rc && r < R; r++) { /* recency, chance, or the mean over the rows that saw a slot: made from positions */
        const int32_t *at = e->host_pos + (size_t)r * ld;
        float *out = e->rank + (size_t)r * ld;
        if (e->state) {
            rc = kvt_evict_visible_mean(e, *score + (size_t)r * ld, at, n[r], pos, out);
            continue;
        }
        for (int i = 0; i < n[r]; i++)
            e->host_rank[i] = kvt_evict_by_place(p, kvt_evict_layer(e->env, layer), r, at[i]);
        rc = ops->write(dev, out, e->host_rank, (size_t)n[r] * sizeof *out);
    }
    *score = e->rank;
    return rc;
}

/* Tokens that a cell may hold: of those seen so far, or of the generated ones. */
static int allowance(const struct kvt_evictor *e, int layer, int g, int pos, int step)
{
    if (e->sliding)
        return kvt_evict_cell_tok(e, layer, g, pos + 1);
    int64_t tok = step < 1 ? 0 : (int64_t)step * e->decode_ppm / 1000000;
    return tok < e->spec.policy.decode_floor ? e->spec.policy.decode_floor : (int)tok;
}

/* Slots of row r that may not leave, and how many may stay in all. first: position of the first generated token. */
static int protect_step(struct kvt_evictor *e, const int32_t *at, int n, int pos, int first, int budget)
{
    const struct kvt_policy *p = &e->spec.policy;
    uint8_t *map = e->host_protect;
    if (e->sliding) {
        int recent = p->recent < 0 ? (budget + 1) / 2 : p->recent;
        for (int i = 0; i < n; i++)
            map[i] = at[i] < p->sinks ? KVT_KEPT_PROTECTED : at[i] > pos - recent ? KVT_KEPT_WINDOW : 0;
        return budget;
    }
    int fixed = 0;
    for (int i = 0; i < n; i++) {
        map[i] = at[i] < first ? KVT_KEPT_PROTECTED : at[i] > pos - p->decode_recent ? KVT_KEPT_WINDOW : 0;
        fixed += at[i] < first;
    }
    return fixed + budget;
}

/* Positions that leave: read back, replicated where heads share a set, removed, reported. */
static int remove_left(struct kvt_evictor *e, int layer, int R, int step, struct kvt_err *err)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    int G = e->env->G, any = 0;
    size_t ld = (size_t)e->ld;
    int rc = ops->read(dev, e->host_n, e->n_left, (size_t)R * sizeof(int32_t));
    for (int g = 0; !rc && g < G; g++) {
        int32_t *left = e->host_left + (size_t)g * ld;
        if (g < R) {
            rc = ops->read(dev, left, e->left + (size_t)g * ld, (size_t)e->host_n[g] * sizeof *left);
        } else {
            e->host_n[g] = e->host_n[0];
            memcpy(left, e->host_left, (size_t)e->host_n[0] * sizeof *left);
            rc = ops->write(dev, e->left + (size_t)g * ld, left, (size_t)e->host_n[0] * sizeof *left);
        }
        any += e->host_n[g];
    }
    if (!rc && R < G)
        rc = ops->write(dev, e->n_left, e->host_n, (size_t)G * sizeof(int32_t));
    struct kvt_remove_args gone = {.cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .slot = e->left,
                                   .count = e->n_left, .ld = e->ld, .state_ld = e->ld};
    gone.state = e->state ? e->state + (size_t)layer * (size_t)G * ld : NULL;
    if (!rc && any)
        rc = ops->cache_remove(dev, &gone);
    if (rc)
        return kvt_evict_device_fail(e, rc, "eviction in a step", err);
    for (int g = 0; g < G; g++) {
        const int32_t *left = e->host_left + (size_t)g * ld, *at = e->host_pos + (size_t)g * ld;
        int n = e->host_n[g];
        e->held[layer * G + g] -= n;
        for (int i = 0; i < n; i++)
            e->host_lost[i] = at[left[i]];
        int stopped = kvt_evict_report_lost(e, layer, g, step, n, err);
        if (stopped)
            return stopped;
    }
    return 0;
}

int kvt_evict_own_layer(const struct kvt_evict_env *env, int layer)
{
    for (int l = 0; env->layer && l < env->L; l++)
        if (env->layer[l] == layer)
            return l;
    return env->layer ? -1 : layer;
}

int kvt_evict_step(struct kvt_evictor *e, int model_layer, const float *row, int row_ld, int pos, int step,
                   struct kvt_err *err)
{
    int layer = kvt_evict_own_layer(e->env, model_layer);
    if (layer < 0)
        return 0;
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    const struct kvt_policy *p = &e->spec.policy;
    int G = e->env->G, R = p->heads == KVT_HEADS_SHARED ? 1 : G, added = pos - e->last_pos[layer], rc = 0;
    size_t ld = (size_t)e->ld;
    assert(kvt_evictor_steps(e) && added >= 0);
    assert(!kvt_evictor_wants_row(e) || (row && row_ld == e->ld));
    int32_t *n = e->host_n; /* live slots now; becomes the number that leaves */
    for (int g = 0; g < G; g++)
        n[g] = e->held[layer * G + g] + added;
    int64_t at = kvt_now_ns();
    bool one = kvt_evict_one_fits(e, layer, n, pos);
    if (e->state && !one)
        rc = accumulate(e, layer, row, n, step);
    for (int g = 0; g < G; g++)
        e->held[layer * G + g] = n[g];
    e->last_pos[layer] = pos;
    if (rc)
        return kvt_evict_device_fail(e, rc, "adding up attention", err);
    if (one) {
        rc = kvt_evict_one(e, layer, row, added, pos, step, err);
        kvt_times_note(e->env->times, KVT_PART_EVICT, model_layer, e->branch, at);
        return rc;
    }
    if (kvt_evict_lags(p))
        return kvt_evict_lag(e, layer, pos, step, err);
    if (p->schedule == KVT_SCHEDULE_EVERY)
        return kvt_evict_due(e, layer, step) ? kvt_evict_every(e, pos, step, err) : 0;

    bool over = false;
    for (int g = 0; g < G; g++)
        over |= (e->sliding ? n[g] : step) > allowance(e, layer, g, pos, step);
    if (!over)
        return 0;

    struct kvt_positions_args where = {
        .cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .pos = e->pos, .count = e->n_live, .ld = e->ld};
    rc = ops->cache_positions(dev, &where);
    const float *score = NULL;
    for (int g = 0; !rc && g < G; g++)
        rc = ops->read(dev, e->host_pos + (size_t)g * ld, e->pos + (size_t)g * ld, (size_t)n[g] * sizeof(int32_t));
    for (int r = 0; !rc && r < R; r++) {
        int budget = protect_step(e, e->host_pos + (size_t)r * ld, n[r], pos, pos - step + 1, allowance(e, layer, r, pos, step));
        rc = ops->write(dev, e->protect + (size_t)r * ld, e->host_protect, (size_t)n[r]);
        if (!rc)
            rc = ops->write(dev, e->budget_tok + r, &budget, sizeof(int32_t));
    }
    if (!rc)
        rc = rank(e, layer, row, n, pos, R, &score);
    struct kvt_topk_args worst = {.score = score, .protect = e->protect, .pos = e->pos, .budget = e->budget_tok,
                                  .n = e->n_live, .R = R, .ld = e->ld, .left = e->left, .n_left = e->n_left};
    struct kvt_contest_args contest = {.score = score, .protect = e->protect, .pos = e->pos, .budget = e->budget_tok,
                                       .n = e->n_live, .turn = e->turn ? e->turn + layer * G : NULL, .R = R, .ld = e->ld,
                                       .left = e->left, .n_left = e->n_left};
    at = kvt_times_note(e->env->times, KVT_PART_SCORE, model_layer, e->branch, at);
    if (!rc)
        rc = e->turn ? ops->contest(dev, &contest) : ops->topk(dev, &worst);
    if (rc)
        return kvt_evict_device_fail(e, rc, "choosing what leaves", err);
    at = kvt_times_note(e->env->times, KVT_PART_SELECT, model_layer, e->branch, at);
    rc = remove_left(e, layer, R, step, err);
    kvt_times_note(e->env->times, KVT_PART_COMPACT, model_layer, e->branch, at);
    return rc;
}
