/* Eviction between the chunks of a prefill (policy.prefill_chunk): a branch that prefills alone sees each chunk's rows attend to
 * what it still holds, adds that up by slot, and goes back to its budget of the tokens seen so far, all layers at once. The
 * choice is that of schedule=every (evict_every.c); sums of all rows go on from chunk to chunk, those of a window or of the last
 * row begin anew with each. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/evict_state.h"

void kvt_evict_chunk_layout(struct kvt_evictor *e, bool rows, struct kvt_carve *dev)
{
    size_t H = (size_t)e->env->H, G = (size_t)e->env->G, ld = (size_t)e->ld;
    e->column = e->chunked && rows ? kvt_carve(dev, H * ld, sizeof(float)) : NULL;
    e->column_grp = e->chunked && rows ? kvt_carve(dev, G * ld, sizeof(float)) : NULL;
}

int kvt_evict_chunk_check(const struct kvt_spec *spec, const struct kvt_budget *budget, int n_context, struct kvt_err *err)
{
    const struct kvt_policy *p = &spec->policy;
    int n = p->prefill_chunk;
    if (n < 1 || n >= n_context || budget->kind == KVT_BUDGET_MATCH)
        return 0; /* one chunk: nothing that the check of the whole context doesn't say */
    int tok = kvt_budget_tokens(kvt_evict_least_cell(budget, n), n), fixed = kvt_evict_protect(p, NULL, n, n, tok, NULL), least = fixed + (p->score == KVT_SCORE_RECENCY);
    if (tok >= least || tok >= n)
        return 0;
    return kvt_fail(err, KVT_EINPUT, "%s: after the first chunk of %d tokens the budget is %d, below the %d that it needs (%d protected); use a "
                    "larger prefill_chunk, keep more, or protect less", spec->method->name, n, tok, least, fixed);
}

const struct kvt_see *kvt_evict_chunk_look(struct kvt_evictor *e, int model_layer, int row0, int end, int *rc)
{
    const struct kvt_policy *p = &e->spec.policy;
    if (!e->column || kvt_evict_own_layer(e->env, model_layer) < 0)
        return NULL;
    if (row0 == 0)
        *rc = e->env->ops->zero(e->env->dev, e->column, (size_t)e->env->H * (size_t)e->ld * sizeof(float));
    struct kvt_see *see = &e->chunk_see;
    *see = (struct kvt_see){.ld = e->ld, .n_rows = end};
    switch (p->score) {
    case KVT_SCORE_MASS: see->mass = e->column; break;
    case KVT_SCORE_WMASS: see->n_windows = 1, see->window[0] = p->window, see->wmass[0] = e->column; break;
    case KVT_SCORE_LAST: see->last = e->column; break;
    default: /* SQMASS, SQWMASS */
        see->n_squares = 1, see->sqmass[0] = e->column;
        see->square[0] = (struct kvt_square){.window = p->score == KVT_SCORE_SQWMASS ? p->window : 0};
    }
    return see;
}

int kvt_evict_chunk_seen(struct kvt_evictor *e, int model_layer, int rows)
{
    const struct kvt_evict_env *env = e->env;
    const struct kvt_policy *p = &e->spec.policy;
    int layer = kvt_evict_own_layer(env, model_layer), most = 0, rc = 0;
    if (!e->column || layer < 0)
        return 0;
    bool goes_on = p->score == KVT_SCORE_MASS || p->score == KVT_SCORE_SQMASS;
    size_t ld = (size_t)e->ld, cell = (size_t)layer * (size_t)env->G;
    for (int g = 0; g < env->G; g++)
        most = e->held[cell + (size_t)g] + rows > most ? e->held[cell + (size_t)g] + rows : most;
    rc = env->ops->group(env->dev, &(struct kvt_group_args){
        .in = e->column, .out = e->column_grp, .H = env->H, .G = env->G, .n = most, .ld = e->ld, .how = p->group});
    for (int g = 0; !rc && g < env->G; g++) {
        float *state = e->state + (cell + (size_t)g) * ld, *seen = e->column_grp + (size_t)g * ld;
        size_t old = (size_t)e->held[cell + (size_t)g], now = old + (size_t)rows;
        if (!goes_on) {
            rc = env->ops->copy(env->dev, state, seen, now * sizeof *state);
            continue;
        }
        rc = env->ops->zero(env->dev, state + old, (size_t)rows * sizeof *state);
        if (!rc)
            rc = env->ops->add(env->dev, &(struct kvt_add_args){.x = state, .y = seen, .count = now, .scale = 1});
    }
    return rc;
}

int kvt_evict_chunk(struct kvt_evictor *e, int chunk, int rows, int end, struct kvt_err *err)
{
    int cells = e->env->L * e->env->G;
    for (int i = 0; i < cells; i++)
        e->held[i] += rows;
    for (int l = 0; l < e->env->L; l++)
        e->last_pos[l] = end - 1;
    if (!e->chunked)
        return 0;
    e->in_chunk = true;
    int rc = kvt_evict_every(e, end - 1, -2 - chunk, err);
    e->in_chunk = false;
    return rc;
}

/* ---- what is told at the end ---- */

struct told {
    int32_t *budget, *kept;    /* (n_layers, G) */
    uint8_t *reason;           /* (G, n) */
    float *score, *threshold;  /* (G, n), (G): NaN, since slots were ranked among those of their own chunk's end */
};

/* Why the slots of a layer are there or not; own: one of the L, -1: left alone. */
static int reasons(struct kvt_evictor *e, int own, struct told *t)
{
    const struct kvt_evict_env *env = e->env;
    const struct kvt_policy *p = &e->spec.policy;
    size_t n = (size_t)env->n_context, G = (size_t)env->G, ld = (size_t)e->ld;
    memset(t->reason, own >= 0 && e->chunked ? KVT_LEFT_SCORE : KVT_KEPT_ALL, G * n);
    if (own < 0 || !e->chunked)
        return 0;
    struct kvt_positions_args at = {.cache = env->cache, .branch = e->branch, .layer = kvt_evict_layer(env, own), .pos = e->pos, .count = e->n_live,
                                    .ld = e->ld};
    int rc = env->ops->cache_positions(env->dev, &at);
    if (!rc)
        rc = env->ops->read(env->dev, e->host_pos, e->pos, G * ld * sizeof(int32_t));
    for (size_t g = 0; !rc && g < G; g++) {
        int recent = kvt_evict_every_recent(p, kvt_evict_cell_tok(e, own, (int)g, (int)n), true);
        for (int i = 0; i < e->held[(size_t)own * G + g]; i++) {
            int pos = e->host_pos[g * ld + (size_t)i];
            t->reason[g * n + (size_t)pos] = pos < p->sinks ? KVT_KEPT_PROTECTED : pos >= (int)n - recent ? KVT_KEPT_WINDOW : KVT_KEPT_SCORE;
        }
    }
    return rc;
}

static int tell(struct kvt_evictor *e, struct told *t, struct kvt_err *err)
{
    const struct kvt_evict_env *env = e->env;
    int M = env->layer ? env->n_layers : env->L, n = env->n_context, rc = 0;
    size_t G = (size_t)env->G;
    int64_t slots = 0;
    for (int m = 0; !rc && m < M; m++) {
        int own = kvt_evict_own_layer(env, m);
        for (size_t g = 0; g < G; g++) {
            size_t at = (size_t)m * G + g;
            t->budget[at] = own < 0 || !e->chunked ? n : e->round.h_budget[(size_t)own * G + g];
            t->kept[at] = own < 0 ? n : e->held[(size_t)own * G + g];
            slots += own < 0 ? 0 : t->kept[at];
        }
        if (!e->decisions)
            continue;
        rc = reasons(e, own, t);
        if (rc)
            return kvt_evict_device_fail(e, rc, "reading what was kept", err);
        rc = kvt_evict_see(e, &(struct kvt_event){.kind = KVT_EV_DECISION, .decision = {
            .branch = e->branch, .layer = m, .n = n, .R = env->G, .score = t->score, .threshold = t->threshold, .reason = t->reason}}, err);
    }
    int64_t all = (int64_t)env->L * env->G * n;
    return rc ? rc : kvt_evict_see(e, &(struct kvt_event){.kind = KVT_EV_BUDGET, .budget = {
            .branch = e->branch, .asked_keep = e->budget.kind == KVT_BUDGET_KEEP ? (double)e->budget.keep_ppm / 1e6 : NAN,
            .effective_keep = (double)slots / (double)all, .kept_slots = slots, .context_slots = all, .budget_tok = t->budget, .kept_tok = t->kept,
            .note = ""}}, err);
}

int kvt_evict_chunk_end(struct kvt_evictor *e, struct kvt_err *err)
{
    const struct kvt_evict_env *env = e->env;
    size_t G = (size_t)env->G, cells = (size_t)(env->layer ? env->n_layers : env->L) * G, n = (size_t)env->n_context;
    if (!env->probe || e->quiet)
        return 0;
    struct told t = {.budget = kvt_calloc(cells, sizeof *t.budget), .kept = kvt_calloc(cells, sizeof *t.kept), .reason = kvt_calloc(G * n, 1),
                     .score = kvt_calloc(G * n, sizeof *t.score), .threshold = kvt_calloc(G, sizeof *t.threshold)};
    int rc = t.budget && t.kept && t.reason && t.score && t.threshold ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to tell of %zu slots", G * n);
    for (size_t i = 0; !rc && i < G * n; i++)
        t.score[i] = NAN;
    for (size_t g = 0; !rc && g < G; g++)
        t.threshold[g] = e->chunked ? NAN : INFINITY;
    if (!rc)
        rc = tell(e, &t, err);
    void *own[] = {t.budget, t.kept, t.reason, t.score, t.threshold};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    return rc;
}
