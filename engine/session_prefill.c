/* A session's prefill: the shared prompt, a fork for each branch, eviction, the question once more. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/prefix.h"
#include "engine/run.h"

/* The observer's look, and where the shared beginning ends, what is kept of it. */
struct look_on { struct kvt_session *s; const struct kvt_look *look; int end; };

static const struct kvt_see *before(void *self, int layer, int row0, int n)
{
    const struct look_on *on = self;
    return on->look->before(on->look->self, layer, row0, n);
}

static int after(void *self, int layer, int row0, int n, struct kvt_err *err)
{
    const struct look_on *on = self;
    int rc = on->look->after(on->look->self, layer, row0, n, err);
    if (!rc && row0 + n == on->end && (rc = kvt_prefix_sums(on->s, layer, on->end)))
        rc = kvt_fail(err, rc, "layer %d: %s", layer, kvt_dev_error(on->s->dev));
    return rc;
}

static int vectors(void *self, int layer, int row0, int n, bool rotated, const float *const qkv[3], struct kvt_err *err)
{
    const struct look_on *on = self;
    return on->look->vectors(on->look->self, layer, row0, n, rotated, qkv, err);
}

static int run_prompt(struct kvt_session *s, struct kvt_err *err)
{
    int n = s->n_prefill, from = 0, end = 0, rc = kvt_prefix_restore(s, &from, err);
    if (!rc)
        rc = kvt_prefix_plan(s, from, &end, err);
    struct look_on on = { .s = s, .look = &s->observer.look, .end = end };
    struct kvt_look kept = { .self = &on, .attn_rows = on.look->attn_rows, .before = before, .after = after, .vectors = on.look->vectors ? vectors : NULL };
    const struct kvt_look *look = end ? &kept : on.look;
    int32_t *zero = kvt_calloc((size_t)n, sizeof *zero), *pos = kvt_calloc((size_t)n, sizeof *pos);
    if (!rc && (!zero || !pos))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", n);
    for (int t = 0; pos && t < n; t++)
        pos[t] = t;
    struct kvt_rows rows = { .T = n, .token = s->token, .branch = zero, .pos = pos, .from = from, .exact = false };
    if (!rc)
        rc = kvt_forward_embed(s->forward, &rows, s->x_prefill, err);
    for (int l = 0; l < s->shape->L && !rc; l++) {
        rc = kvt_forward_layer(s->forward, l, &rows, s->x_prefill, look, err);
        rc = rc ? rc : kvt_session_times(s, err);
        kvt_session_progress(s, KVT_PHASE_PREFILL, l + 1, s->shape->L);
    }
    if (!rc && end)
        rc = kvt_prefix_keep(s, end, err);
    int done = !rc || rc == KVT_EINTR ? kvt_observer_finish(&s->observer) : 0; /* an interrupted run keeps what it has */
    if (!rc && done)
        rc = kvt_fail(err, done, "the observer stopped the run at the last layer: %s", kvt_status_text(done));
    free(zero);
    free(pos);
    return rc;
}

static int run_shared(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_cache_bytes bytes = { 0 };
    int64_t t0 = kvt_now_ns();
    kvt_session_at(s, KVT_PHASE_PREFILL, 0);
    int rc = run_prompt(s, err);
    if (!rc)
        rc = kvt_session_phase(s, KVT_PHASE_PREFILL, t0, s->n_prefill, err);
    if (!rc)
        rc = kvt_session_branch_bytes(s, 0, &bytes, err);
    s->bytes_prefill = bytes.alone;
    return rc;
}

/* The full branch lets go of the question: it is fed again over every branch's cache, its own too. */
static int drop_question(struct kvt_session *s, struct kvt_err *err)
{
    int G = s->shape->G, keep = s->n_context, rc = 0;
    int32_t *list = kvt_calloc((size_t)G * (size_t)keep + (size_t)G, sizeof *list);
    int32_t *dev = s->ops->alloc(s->dev, ((size_t)G * (size_t)keep + (size_t)G) * sizeof *dev);
    if (!list || !dev)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d slots", keep);
    for (int g = 0; !rc && g < G; g++) {
        for (int j = 0; j < keep; j++)
            list[(size_t)g * keep + j] = j;
        list[(size_t)G * keep + g] = keep;
    }
    if (!rc)
        rc = s->ops->write(s->dev, dev, list, ((size_t)G * (size_t)keep + (size_t)G) * sizeof *dev);
    for (int l = 0; l < s->shape->L && !rc; l++) {
        rc = s->ops->cache_keep(s->dev, &(struct kvt_keep_args){ .cache = s->cache, .branch = 0, .layer = l, .slot = dev,
                                                                .count = dev + (size_t)G * keep, .ld = keep });
        if (rc)
            kvt_fail(err, rc, "%s", kvt_dev_error(s->dev));
    }
    s->ops->free(s->dev, dev);
    free(list);
    return rc;
}

/* What slots add to the output, once for all branches that rank by it: they all begin with these slots. */
static int norms_of_context(struct kvt_session *s, struct kvt_err *err)
{
    int rc = 0, ld = s->n_prefill;
    for (int l = 0; !rc && s->out_norms && l < s->env.L; l++) {
        int m = kvt_evict_layer(&s->env, l);
        rc = kvt_evict_out_norms(&s->env, m, s->forward->layer[m].o, 0, s->out_norms + (size_t)m * (size_t)s->shape->G * (size_t)ld, ld);
    }
    return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(s->dev)) : 0;
}

/* What branch b ranks by: the shared reductions, and where its score is its own, that. */
static int scores_of(struct kvt_session *s, int b, struct kvt_prefill_scores *raw, struct kvt_err *err)
{
    const struct kvt_branch_opts *o = &s->o.branch[b - 1];
    enum kvt_score score = o->spec.policy.score;
    size_t cells = (size_t)s->shape->L * (size_t)s->shape->G, n = (size_t)s->n_context, ld = (size_t)s->n_prefill;
    *raw = s->observer.raw;
    raw->out_norms = s->out_norms;
    if (score != KVT_SCORE_ORACLE && score != KVT_SCORE_FILE && score != KVT_SCORE_KVZIP)
        return 0;
    const float *from = score == KVT_SCORE_FILE ? o->given : score == KVT_SCORE_KVZIP ? kvt_kvzip_score(s, o->spec.policy.repeat) : NULL;
    size_t from_ld = score == KVT_SCORE_FILE ? (size_t)o->n_given : n;
    for (size_t c = 0; from && c < cells; c++)
        memcpy(s->given_host + c * ld, from + c * from_ld, n * sizeof *from);
    if (!from)
        kvt_oracle_given(s, b);
    raw->given = s->given;
    int rc = s->ops->write(s->dev, s->given, s->given_host, cells * ld * sizeof *s->given);
    return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(s->dev)) : 0;
}

static int evict_branch(struct kvt_session *s, int cell, int b, struct kvt_err *err)
{
    struct kvt_stream_state *st = &s->branch[b].forced;
    const struct kvt_budget *asked = &s->o.branch[b - 1].budget;
    struct kvt_prefill_scores raw;
    size_t cells = (size_t)s->env.L * (size_t)s->env.G;
    bool stop = kvt_interrupted(s->o.interrupted);
    bool alone = kvt_branch_chunked(s, b);
    int rc = stop ? KVT_EINTR : alone ? 0 : s->ops->cache_fork(s->dev, s->cache, cell, kvt_branch_cell(s, b));
    if (!rc && s->o.alone)
        rc = s->ops->cache_drop(s->dev, s->cache, cell);
    if (rc)
        return stop ? kvt_fail(err, rc, "interrupted") : kvt_fail(err, rc, "branch %s: %s", s->branch[b].name, kvt_dev_error(s->dev));
    st->cell = kvt_branch_cell(s, b);
    kvt_session_at(s, s->lo > 1 ? KVT_PHASE_ORACLE : KVT_PHASE_EVICT, kvt_branch_bit(b));
    if (asked->kind == KVT_BUDGET_MATCH)
        kvt_evictor_match(st->evictor, s->kept + (size_t)asked->match * cells);
    rc = alone ? kvt_chunked_prefill(s, b, err) : scores_of(s, b, &raw, err);
    if (!rc && !alone)
        rc = kvt_evict_prefill(st->evictor, &raw, err);
    if (!rc)
        rc = kvt_session_times(s, err);
    memcpy(s->kept + (size_t)b * cells, kvt_evictor_held(st->evictor), cells * sizeof *s->kept);
    return rc;
}

int kvt_session_fork(struct kvt_session *s, int cell, struct kvt_err *err)
{
    struct kvt_cache_bytes bytes;
    enum kvt_phase phase = s->lo > 1 ? KVT_PHASE_ORACLE : KVT_PHASE_EVICT;
    int rc = 0, done = 0;
    s->branch[0].forced.cell = 0;
    for (int follow = 0; follow < 2; follow++) /* who gets what another branch kept comes after it */
        for (int b = s->lo; b < s->hi && !rc; b++) {
            if ((s->o.branch[b - 1].budget.kind == KVT_BUDGET_MATCH) != (follow == 1))
                continue;
            rc = evict_branch(s, cell, b, err);
            kvt_session_progress(s, phase, ++done, s->hi - s->lo);
        }
    for (int b = 0; b < s->hi && !rc; b = kvt_next_branch(s, b)) {
        rc = kvt_session_branch_bytes(s, s->branch[b].forced.cell, &bytes, err);
        s->branch[b].bytes_after = s->branch[b].bytes_last = bytes.alone;
        if (!kvt_branch_chunked(s, b)) /* who shares the prefill held all of it */
            s->branch[b].bytes_peak = s->bytes_prefill;
    }
    return rc;
}

int kvt_session_first_logits(struct kvt_session *s, struct kvt_err *err)
{
    kvt_session_at(s, s->lo > 1 ? KVT_PHASE_ORACLE : KVT_PHASE_QUESTION, 0);
    if (s->n_context < s->o.n_prompt)
        return kvt_lockstep_question(s, err);
    /* literature: everybody's first token comes from the full prefill */
    int row = s->row0, rc = 0;
    for (int b = kvt_first_branch(s); b < s->hi; b = kvt_next_branch(s, b))
        s->branch[b].forced.row = s->row0;
    if (!s->o.no_full)
        rc = kvt_forward_head(s->forward, s->x_prefill + (size_t)(s->n_prefill - 1) * s->shape->E, 1, true,
                              s->logits + (size_t)row++ * s->shape->V, err);
    for (int b = s->lo; b < s->hi && !rc; b++)
        if (kvt_branch_chunked(s, b)) { /* but whoever prefilled alone has its own */
            rc = kvt_forward_head(s->forward, s->x_last + (size_t)b * s->shape->E, 1, true, s->logits + (size_t)row * s->shape->V, err);
            s->branch[b].forced.row = row++;
        }
    return rc;
}

int kvt_session_context(struct kvt_session *s, struct kvt_err *err)
{
    int64_t t0 = kvt_now_ns();
    int rc = 0;
    if (!s->o.no_full) {
        rc = run_shared(s, err);
        t0 = kvt_now_ns();
        kvt_session_at(s, KVT_PHASE_EVICT, 0);
        if (!rc && s->n_context < s->n_prefill)
            rc = drop_question(s, err);
        if (!rc)
            rc = norms_of_context(s, err);
        if (!rc)
            rc = kvt_norms_tell(s, true, err);
    }
    if (!rc && s->snapshot >= 0 && (rc = s->ops->cache_fork(s->dev, s->cache, 0, s->snapshot)))
        rc = kvt_fail(err, rc, "%s", kvt_dev_error(s->dev));
    if (!rc)
        rc = kvt_kvzip_run(s, err);
    int64_t shared = s->phase_ns[KVT_PHASE_PREFILL];
    if (!rc)
        rc = kvt_session_fork(s, 0, err);
    t0 += s->phase_ns[KVT_PHASE_REPEAT] + s->phase_ns[KVT_PHASE_PREFILL] - shared; /* phases of their own */
    return rc ? rc : kvt_session_phase(s, KVT_PHASE_EVICT, t0, s->n_context, err);
}

int kvt_session_question(struct kvt_session *s, struct kvt_err *err)
{
    int64_t t0 = kvt_now_ns();
    int rc = kvt_session_first_logits(s, err);
    return rc ? rc : kvt_session_phase(s, KVT_PHASE_QUESTION, t0, s->o.n_prompt - s->n_context, err);
}

int kvt_session_prefill(struct kvt_session *s, struct kvt_err *err)
{
    int rc = kvt_session_context(s, err);
    return rc ? rc : kvt_session_question(s, err);
}
