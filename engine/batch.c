/* Batches of independent sequences: each is a session (its text, its evictor, its branch) on a device, weights and a cache that all share; their
 * steps are gathered into one call. */
#include "kvt/batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/rope.h"
#include "engine/run.h"
#include "kernels/plugin.h"
#include "kvt/prompt.h"

struct kvt_batch {
    const struct kvt_model *model;
    const struct kvt_shape *shape;
    const struct kvt_ops *ops;
    struct kvt_forward forward;
    struct kvt_times times;        /* of evictions */
    struct kvt_session_opts first; /* what all batches have in common with */
    int n_tok;                     /* positions with rope factors */
    /* the running batch */
    struct kvt_shared shared;
    struct kvt_session_opts *o;    /* (n) */
    struct kvt_session **seq;      /* (n) NULL until it is prefilled */
    int n, n_rows, step;           /* sequences; rows of logits; decode step, 0 while questions are fed */
    int32_t *r_token, *r_branch, *r_pos, *r_at, *r_seq, *argmax; /* (n) of one call */
    uint8_t *r_renumber;           /* (n) */
    float *x, *logits, *row;       /* (n, E), (n, V), (blocks, H, max_slots) */
    struct kvt_see see;
    struct kvt_batch_result result;
};

static int op(const struct kvt_batch *b, int rc, struct kvt_err *err) { return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(b->shared.dev)) : 0; }

/* ---- open and close ---- */

/* Positions beyond the text that a sequence needs factors of. */
static int ahead_of(const struct kvt_model *m, const struct kvt_session_opts *o, int *ahead, struct kvt_err *err)
{
    const struct kvt_policy *p = &o->branch[0].spec.policy;
    struct kvt_wants none = { 0 };
    struct kvt_needs needs;
    int rows = 0, rc = 0;
    size_t bytes;
    kvt_opts_needs(o, &none, &needs);
    if (p->score == KVT_SCORE_KVZIP)
        rc = kvt_kvzip_bytes(m, kvt_opts_run(o), kvt_opts_context(o), p->repeat, &rows, &bytes, err);
    int repeated = kvt_opts_context(o) + rows - (o->n_prompt + o->n_new);
    *ahead = needs.ahead > repeated ? needs.ahead : repeated;
    return rc;
}

/* A sequence's options as a session has them. */
static struct kvt_session_opts alone(const struct kvt_session_opts *o)
{
    struct kvt_session_opts one = *o;
    one.alone = true;
    one.no_full = o->n_branches == 1 && o->branch[0].spec.policy.prefill_chunk > 0; /* it prefills by itself */
    one.progress = NULL;
    return one;
}

int kvt_batch_open(struct kvt_batch **out, const struct kvt_model *m, const struct kvt_session_opts *o, int n, int most, struct kvt_err *err)
{
    *out = NULL;
    int run = most < o->ops->run ? most : o->ops->run, ahead = 0, rc = 0;
    struct kvt_batch *b = kvt_calloc(1, sizeof *b);
    if (!b)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a batch");
    b->model = m, b->shape = kvt_model_shape(m), b->ops = o->ops, b->first = *o;
    for (int i = 0; i < n && !rc; i++) {
        struct kvt_session_opts one = alone(&o[i]);
        int more = 0, rows = kvt_opts_run(&one);
        rc = kvt_opts_check(&one, b->shape, err);
        if (!rc)
            rc = ahead_of(m, &one, &more, err);
        b->n_tok = one.n_prompt + one.n_new > b->n_tok ? one.n_prompt + one.n_new : b->n_tok;
        run = rows > run ? rows : run;
        ahead = more > ahead ? more : ahead;
    }
    b->times.cap = 64;
    if (!rc && !(b->times.at = kvt_calloc((size_t)b->times.cap, sizeof *b->times.at)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for a batch");
    if (!rc)
        rc = b->ops->open(&b->shared.dev, &(struct kvt_dev_opts){ .threads = o->threads }, err);
    if (!rc)
        rc = kvt_forward_open(&b->forward, b->shape, kvt_model_weights(m), b->ops, b->shared.dev, NULL, o->compute, run, b->n_tok, ahead, err);
    if (rc)
        kvt_batch_close(&b);
    *out = b;
    return rc;
}

void kvt_batch_end(struct kvt_batch *b)
{
    if (!b)
        return;
    for (int i = 0; b->seq && i < b->n; i++)
        kvt_session_close(&b->seq[i]);
    void *host[] = { b->seq, b->o, b->r_token, b->r_branch, b->r_pos, b->r_at, b->r_seq, b->r_renumber, b->argmax };
    for (size_t i = 0; i < sizeof host / sizeof *host; i++)
        free(host[i]);
    float *own[] = { b->x, b->logits, b->row };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i])
            b->ops->free(b->shared.dev, own[i]);
    if (b->shared.cache)
        b->ops->cache_close(b->shared.dev, &b->shared.cache);
    b->seq = NULL, b->o = NULL, b->r_renumber = NULL, b->x = b->logits = b->row = NULL;
    b->r_token = b->r_branch = b->r_pos = b->r_at = b->r_seq = b->argmax = NULL;
    b->n = b->n_rows = 0;
}

void kvt_batch_close(struct kvt_batch **batch)
{
    struct kvt_batch *b = batch ? *batch : NULL;
    if (!b)
        return;
    kvt_batch_end(b);
    if (b->shared.dev) {
        kvt_forward_close(&b->forward);
        b->ops->close(&b->shared.dev);
    }
    free(b->times.at);
    free(b);
    *batch = NULL;
}

const char *kvt_batch_device(const struct kvt_batch *b) { return b->ops->describe(b->shared.dev); }

/* ---- one batch ---- */

/* Some models rotate by factors that follow from the length of the run (dynamic NTK, longrope): there, sequences of another length than the
 * batch's longest would get the longest's. */
static int check_rope(const struct kvt_batch *b, int i, struct kvt_err *err)
{
    const struct kvt_shape *s = b->shape;
    int half = s->rope_rot / 2, n_tok = b->o[i].n_prompt + b->o[i].n_new;
    double *freq = n_tok == b->n_tok || !half ? NULL : kvt_calloc(2 * (size_t)half, sizeof *freq);
    bool same = true;
    if (n_tok == b->n_tok || !half)
        return 0;
    if (!freq)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d angles", half);
    for (int k = 0; k < 2; k++) {
        kvt_rope_frequencies(&s->rope[k], s->rope_rot, n_tok, freq);
        kvt_rope_frequencies(&s->rope[k], s->rope_rot, b->n_tok, freq + half);
        same &= !memcmp(freq, freq + half, (size_t)half * sizeof *freq);
    }
    free(freq);
    return same ? 0 : kvt_fail(err, KVT_EINPUT, "sequence %d has %d tokens in all, the batch's longest %d: this model's rotary angles follow from the length; "
                               "give all the same", i, n_tok, b->n_tok);
}

static int check_sequences(struct kvt_batch *b, const struct kvt_session_opts *o, struct kvt_err *err)
{
    b->shared.max_slots = 0;
    for (int i = 0; i < b->n; i++) {
        if (o[i].ops != b->ops || o[i].compute != b->first.compute || o[i].kv_type != b->first.kv_type)
            return kvt_fail(err, KVT_EUSAGE, "sequence %d: backend, arithmetic and kv type are one for the whole batch", i);
        b->o[i] = alone(&o[i]);
        int rc = kvt_opts_check(&b->o[i], b->shape, err), n_tok = o[i].n_prompt + o[i].n_new;
        if (!rc && n_tok > b->n_tok)
            rc = kvt_fail(err, KVT_EUSAGE, "sequence %d has %d tokens in all, more than the %d that the batch was opened for", i, n_tok, b->n_tok);
        rc = rc ? rc : check_rope(b, i, err);
        if (rc)
            return rc;
        b->shared.max_slots = n_tok > b->shared.max_slots ? n_tok : b->shared.max_slots;
    }
    return 0;
}

int kvt_batch_begin(struct kvt_batch *b, const struct kvt_session_opts *o, int n, uint64_t kv_bytes, struct kvt_err *err)
{
    const struct kvt_shape *s = b->shape;
    bool ok = true;
    assert(n > 0);
    kvt_batch_end(b);
    b->n = n;
    b->result = (struct kvt_batch_result){ 0 };
#define GET(p) (ok = ((p) = kvt_calloc((size_t)n, sizeof *(p))) != NULL && ok)
    GET(b->o); GET(b->seq); GET(b->r_token); GET(b->r_branch); GET(b->r_pos); GET(b->r_at); GET(b->r_seq); GET(b->r_renumber); GET(b->argmax);
#undef GET
    int rc = ok ? check_sequences(b, o, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d sequences", n), longest = b->shared.max_slots;
    for (int i = 0; i < n && !rc; i++) { /* a repetition needs room behind its context */
        int ahead;
        rc = ahead_of(b->model, &b->o[i], &ahead, err);
        if (!rc && b->o[i].branch[0].spec.policy.score == KVT_SCORE_KVZIP && o[i].n_prompt + o[i].n_new + ahead > longest)
            longest = o[i].n_prompt + o[i].n_new + ahead;
    }
    if (!rc)
        rc = b->ops->cache_open(b->shared.dev, &b->shared.cache, &(struct kvt_cache_opts){ .L = s->L, .G = s->G, .D = s->D, .max_branch = n + 3,
                                .max_slots = longest, .type = o->kv_type, .max_bytes = kv_bytes }, err);
    if (!rc && !(b->logits = b->ops->alloc(b->shared.dev, (size_t)n * (size_t)s->V * sizeof *b->logits)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d rows of logits", n);
    b->forward.cache = b->shared.cache;
    b->shared.forward = &b->forward, b->shared.times = &b->times, b->shared.spare = n + 1;
    if (rc)
        kvt_batch_end(b);
    return rc;
}

static struct kvt_branch *branch_of(const struct kvt_batch *b, int i) { return &b->seq[i]->branch[1]; }

static void progress(const struct kvt_batch *b, enum kvt_phase phase, int done, int of)
{
    if (b->first.progress)
        b->first.progress(b->first.progress_arg, phase, done, of);
}

/* ---- one call: a row of each of some sequences ---- */

static const struct kvt_see *look_before(void *self, int layer, int row0, int n)
{
    struct kvt_batch *b = self;
    (void)layer, (void)n;
    b->see.row_at = b->r_at + row0;
    return &b->see;
}

static int look_after(void *self, int layer, int row0, int n, struct kvt_err *err)
{
    struct kvt_batch *b = self;
    size_t block = (size_t)b->shape->H * (size_t)b->shared.max_slots;
    for (int t = row0; t < row0 + n; t++) {
        struct kvt_evictor *e = branch_of(b, b->r_seq[t])->forced.evictor;
        if (!(b->step ? kvt_evictor_steps(e) : kvt_evictor_slides(e)))
            continue;
        b->times.n = 0;
        int rc = kvt_evict_step(e, layer, b->r_at[t] < 0 ? NULL : b->row + (size_t)b->r_at[t] * block, b->shared.max_slots, b->r_pos[t], b->step, err);
        if (rc)
            return rc;
        for (int i = 0; i < b->times.n; i++)
            b->result.step_evict_ns += b->times.at[i].dur_ns;
    }
    return 0;
}

static void put_row(struct kvt_batch *b, int t, int i, int32_t token, int pos, int *blocks)
{
    const struct kvt_branch *br = branch_of(b, i);
    const struct kvt_evictor *e = br->forced.evictor;
    bool steps = b->step ? kvt_evictor_steps(e) : kvt_evictor_slides(e);
    b->r_token[t] = token, b->r_branch[t] = br->forced.cell, b->r_pos[t] = pos, b->r_renumber[t] = br->renumber, b->r_seq[t] = i;
    b->r_at[t] = steps && kvt_evictor_wants_row(e) ? (*blocks)++ : -1;
}

static int feed(struct kvt_batch *b, int T, struct kvt_err *err)
{
    struct kvt_rows rows = { .T = T, .token = b->r_token, .branch = b->r_branch, .pos = b->r_pos, .renumber = b->r_renumber, .exact = true };
    struct kvt_look look = { .self = b, .after = look_after };
    for (int t = 0; t < T; t++)
        if (b->r_at[t] >= 0)
            look.before = look_before;
    int rc = kvt_forward_embed(&b->forward, &rows, b->x, err);
    for (int l = 0; l < b->shape->L && !rc; l++)
        rc = kvt_forward_layer(&b->forward, l, &rows, b->x, &look, err);
    return rc;
}

/* Logits of rows [from, from + n) of the call into rows from `to` on. */
static int head(struct kvt_batch *b, int from, int n, int to, struct kvt_err *err)
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i += b->forward.run) {
        int m = n - i < b->forward.run ? n - i : b->forward.run;
        rc = kvt_forward_head(&b->forward, b->x + (size_t)(from + i) * (size_t)b->shape->E, m, true, b->logits + (size_t)(to + i) * (size_t)b->shape->V, err);
    }
    return rc;
}

/* ---- prefill ---- */

/* Whether its question comes a token at a time, which is done for all such sequences together. */
static bool waits(const struct kvt_session *s) { return s->n_context < s->o.n_prompt && kvt_evictor_slides(s->branch[1].forced.evictor); }

static int prefill_one(struct kvt_batch *b, int i, struct kvt_err *err)
{
    size_t V = (size_t)b->shape->V;
    struct kvt_session *s;
    b->shared.cell = 1 + i;
    int rc = kvt_session_open_in(&b->seq[i], b->model, &b->o[i], &b->shared, err);
    if (rc)
        return rc;
    s = b->seq[i];
    rc = kvt_session_context(s, err);
    if (!rc && !waits(s)) {
        rc = kvt_session_question(s, err);
        if (!rc)
            rc = op(b, b->ops->copy(b->shared.dev, b->logits + (size_t)b->n_rows * V, s->logits + (size_t)s->branch[1].forced.row * V, V * sizeof *b->logits), err);
        s->branch[1].forced.row = b->n_rows++;
    }
    b->result.prefill_ns += s->phase_ns[KVT_PHASE_PREFILL];
    b->result.evict_ns += s->phase_ns[KVT_PHASE_EVICT] + s->phase_ns[KVT_PHASE_REPEAT];
    b->result.question_ns += s->phase_ns[KVT_PHASE_QUESTION];
    kvt_session_shed(s);
    return rc;
}

/* Questions of those that take them token by token, in lockstep. */
static int questions(struct kvt_batch *b, struct kvt_err *err)
{
    int rc = 0;
    for (int j = 0, T = 1; T && !rc; j++) {
        int blocks = 0;
        T = 0;
        for (int i = 0; i < b->n; i++) {
            const struct kvt_session *s = b->seq[i];
            if (waits(s) && s->n_context + j < s->o.n_prompt)
                put_row(b, T++, i, s->token[s->n_context + j], s->n_context + j, &blocks);
        }
        rc = T ? feed(b, T, err) : 0;
        for (int t = 0, end; t < T && !rc; t = end) { /* runs of rows that are their questions' last */
            for (end = t; end < T && b->r_pos[end] == b->o[b->r_seq[end]].n_prompt - 1; end++)
                branch_of(b, b->r_seq[end])->forced.row = b->n_rows + end - t;
            if (end > t)
                rc = head(b, t, end - t, b->n_rows, err);
            b->n_rows += end - t;
            end += end == t;
        }
    }
    return rc;
}

static int held(struct kvt_batch *b, uint64_t *now, struct kvt_err *err)
{
    struct kvt_cache_bytes bytes;
    int rc = op(b, b->ops->cache_bytes(b->shared.dev, b->shared.cache, 0, &bytes), err);
    if (!rc)
        *now = bytes.held, b->result.kv_peak = bytes.peak;
    return rc;
}

int kvt_batch_prefill(struct kvt_batch *b, struct kvt_err *err)
{
    size_t n = (size_t)b->n;
    int rc = 0, blocks = 0;
    for (int i = 0; i < b->n && !rc; i++) {
        rc = prefill_one(b, i, err);
        progress(b, KVT_PHASE_PREFILL, i + 1, b->n);
    }
    if (rc)
        return rc;
    for (int i = 0; i < b->n; i++)
        blocks += kvt_evictor_wants_row(branch_of(b, i)->forced.evictor);
    b->x = b->ops->alloc(b->shared.dev, n * (size_t)b->shape->E * sizeof *b->x);
    if (blocks)
        b->row = b->ops->alloc(b->shared.dev, (size_t)blocks * (size_t)b->shape->H * (size_t)b->shared.max_slots * sizeof *b->row);
    if (!b->x || (blocks && !b->row))
        return kvt_fail(err, KVT_ENOMEM, "no memory for the rows of %d sequences", b->n);
    b->see = (struct kvt_see){ .row = b->row, .row_ld = b->shared.max_slots };
    b->forward.times = NULL;
    b->forward.interrupted = b->first.interrupted;
    b->step = 0;
    int64_t t0 = kvt_now_ns();
    rc = questions(b, err);
    if (!rc)
        rc = held(b, &b->result.kv_first, err);
    b->result.question_ns += kvt_now_ns() - t0;
    b->result.step_evict_ns = 0;
    return rc;
}

/* ---- decode ---- */

/* Each sequence's next token. */
static int choose(struct kvt_batch *b, struct kvt_err *err)
{
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(b->model);
    int rc = op(b, b->ops->logit_stats(b->shared.dev, &(struct kvt_logit_stats_args){ .logits = b->logits, .T = b->n_rows, .V = b->shape->V, .argmax = b->argmax }), err);
    for (int i = 0; i < b->n && !rc; i++) {
        struct kvt_branch *br = branch_of(b, i);
        const struct kvt_session_opts *o = &b->o[i];
        if (br->ended || br->n_free >= o->n_new)
            continue;
        br->free_token[br->n_free++] = b->argmax[br->forced.row];
        br->ended = (o->stop_at_end && kvt_token_is_end(tok, br->free_token[br->n_free - 1])) || (o->stop && o->stop(o->stop_arg, 1, br->free_token, br->n_free));
        b->result.tokens++;
    }
    return rc;
}

static bool finished(const struct kvt_batch *b)
{
    for (int i = 0; i < b->n; i++)
        if (!branch_of(b, i)->ended && branch_of(b, i)->n_free < b->o[i].n_new)
            return false;
    return true;
}

static int step(struct kvt_batch *b, int k, struct kvt_err *err)
{
    int T = 0, blocks = 0, rc = choose(b, err);
    b->step = k;
    for (int i = 0; i < b->n && !rc; i++) {
        struct kvt_branch *br = branch_of(b, i);
        if (br->n_free < k) /* ended before */
            continue;
        put_row(b, T, i, br->free_token[k - 1], b->o[i].n_prompt + k - 1, &blocks);
        br->forced.row = T++;
    }
    if (!rc)
        rc = feed(b, T, err);
    b->n_rows = T;
    return rc ? rc : head(b, 0, T, 0, err);
}

int kvt_batch_decode(struct kvt_batch *b, struct kvt_err *err)
{
    int64_t t0 = kvt_now_ns();
    int rc = 0;
    float last;
    for (int k = 1; !rc && !finished(b); k++) {
        rc = kvt_interrupted(b->first.interrupted) ? kvt_fail(err, KVT_EINTR, "interrupted") : step(b, k, err);
        b->result.steps += !rc;
        progress(b, KVT_PHASE_DECODE, k, b->first.n_new);
    }
    if (!rc)
        rc = op(b, b->ops->read(b->shared.dev, &last, b->logits, sizeof last), err); /* waits for a device */
    b->result.decode_ns += kvt_now_ns() - t0;
    for (int i = 0; i < b->n && !rc; i++) {
        struct kvt_cache_bytes bytes;
        rc = kvt_session_branch_bytes(b->seq[i], branch_of(b, i)->forced.cell, &bytes, err);
        branch_of(b, i)->bytes_last = rc ? 0 : bytes.alone;
    }
    return rc ? rc : held(b, &b->result.kv_last, err);
}

/* ---- afterwards, and before ---- */

int kvt_batch_result(struct kvt_batch *b, struct kvt_batch_result *out, struct kvt_err *err)
{
    uint64_t now;
    int rc = held(b, &now, err);
    *out = b->result;
    return rc;
}

int kvt_batch_sequence(const struct kvt_batch *b, int i, struct kvt_branch_result *out) { return i < 0 || i >= b->n ? KVT_EUSAGE : kvt_session_result(b->seq[i], 1, out); }

int kvt_batch_logits(struct kvt_batch *b, int i, float *out, struct kvt_err *err)
{
    size_t V = (size_t)b->shape->V;
    return op(b, b->ops->read(b->shared.dev, out, b->logits + (size_t)branch_of(b, i)->forced.row * V, V * sizeof *out), err);
}

int kvt_batch_positions(struct kvt_batch *b, int i, int layer, int g, int32_t *pos, int cap, struct kvt_err *err)
{
    return kvt_session_positions(b->seq[i], 1, layer, g, pos, cap, err);
}

int kvt_batch_room(const struct kvt_model *m, const struct kvt_session_opts *o, int n, uint64_t memory, struct kvt_batch_room *out, struct kvt_err *err)
{
    const struct kvt_shape *s = kvt_model_shape(m);
    struct kvt_session_opts one = alone(o);
    struct kvt_session_sizes sizes;
    struct kvt_wants none = { .n_sink = 4 };
    struct kvt_evict_env env = { .L = kvt_session_layers(m, o, NULL), .H = s->H, .G = s->G, .D = s->D, .n_layers = s->L, .max_slots = o->n_prompt + o->n_new,
                                 .n_prompt = kvt_opts_prefill(o), .n_context = kvt_opts_context(o) };
    struct kvt_budget budget = o->branch[0].budget;
    size_t evictor, ending;
    int rc = kvt_session_sizes(m, &one, &none, &sizes, err);
    if (!rc)
        rc = kvt_budget_resolve(&budget, env.L ? env.L : s->L, s->G, kvt_opts_slot_bytes(s, o), err);
    if (rc)
        return rc;
    kvt_evictor_bytes(&env, &o->branch[0].spec, &budget, &evictor, &ending);
    /* one sequence's prefill at a time; of each an evictor, a row of logits, of hidden state and of attention */
    size_t each = evictor + ((size_t)s->V + (size_t)s->E + (size_t)s->H * (size_t)env.max_slots) * sizeof(float);
    out->weights = kvt_ops_in_host(o->ops) ? sizes.weights_bytes : (uint64_t)kvt_model_bytes(m);
    out->work = sizes.scores_bytes + sizes.work_bytes + (uint64_t)n * each;
    uint64_t taken = out->weights + out->work, left = memory > taken ? memory - taken : 0;
    double page = 2.0 * KVT_PAGE_SLOTS * s->D * kvt_dtypes[o->kv_type].block_bytes;
    double more = (KVT_PAGE_SLOTS + 3) * sizeof(int32_t); /* positions, count, place in the free list, entry of a table */
    out->kv = (uint64_t)((double)left * page / (page + more));
    return 0;
}
