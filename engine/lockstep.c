/* All branches in lockstep: one call of the forward pass a step, weights read once for everybody.
 *
 * Each method's branch is teacher-forced on the full branch's tokens, so that every step compares the same text. At the
 * first token that it would have said differently it forks a free-running stream, which goes on with its own words;
 * until then the two are the same stream, bit for bit, and nothing is computed twice. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "engine/later.h"
#include "engine/run.h"
#include "kvt/prompt.h"

static int op(struct kvt_session *s, int rc, struct kvt_err *err)
{
    return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(s->dev)) : 0;
}

/* ---- one call ---- */

static const struct kvt_see *look_before(void *self, int layer, int row0, int n)
{
    struct kvt_session *s = self;
    (void)layer, (void)n;
    s->decode_see.row_at = s->r_at + row0;
    return &s->decode_see;
}

static int look_after(void *self, int layer, int row0, int n, struct kvt_err *err)
{
    struct kvt_session *s = self;
    uint64_t all = s->times.where.branches;
    int done = s->full_fed ? kvt_fidelity_look(s, layer, row0, n, err) : 0;
    if (!done && s->full_fed && row0 == 0)
        done = kvt_oracle_look(s, layer, err);
    if (!done && s->rows.wanted)
        done = kvt_rows_look(s, layer, row0, n, err);
    if (done)
        return done;
    for (int t = row0; t < row0 + n; t++) {
        if (!s->r_stream[t])
            continue;
        const float *row = s->r_at[t] < 0 ? NULL : s->row + (size_t)s->r_at[t] * (size_t)s->shape->H * (size_t)s->max_slots;
        s->times.where.branches = kvt_branch_bit(kvt_cell_branch(s, s->r_branch[t]));
        int rc = kvt_evict_step(s->r_stream[t]->evictor, layer, row, s->max_slots, s->r_pos[t], s->step, err);
        if (rc)
            return rc;
    }
    s->times.where.branches = all;
    return 0;
}

int kvt_lockstep_feed(struct kvt_session *s, int T, struct kvt_err *err)
{
    struct kvt_rows rows = { .T = T, .token = s->r_token, .branch = s->r_branch, .pos = s->r_pos, .renumber = s->r_renumber, .exact = true };
    struct kvt_look look = { .self = s, .after = look_after };
    s->times.where.branches = 0;
    for (int t = 0; t < T; t++) {
        s->times.where.branches |= kvt_branch_bit(kvt_cell_branch(s, s->r_branch[t]));
        if (s->r_at[t] >= 0)
            look.before = look_before;
    }
    int rc = kvt_forward_embed(s->forward, &rows, s->x, err);
    for (int l = 0; l < s->shape->L && !rc; l++)
        rc = kvt_forward_layer(s->forward, l, &rows, s->x, &look, err);
    return rc;
}

static int head(struct kvt_session *s, int n, int first, struct kvt_err *err);

/* The same as a step: what a backend may take as a whole, with the head of its rows where `logits` says so. */
static int feed_step(struct kvt_session *s, int T, bool logits, struct kvt_err *err)
{
    int rc = s->ops->step_begin ? op(s, s->ops->step_begin(s->dev, &(struct kvt_step_args){ .cache = s->cache, .T = T }), err) : 0;
    if (rc)
        return rc;
    s->env.in_step = s->ops->read_later != NULL;
    rc = kvt_lockstep_feed(s, T, err);
    s->env.in_step = false;
    if (!rc && logits)
        rc = head(s, T, s->row0, err);
    for (int t = 0; t < T && !rc; t++)
        rc = s->r_stream[t] ? kvt_evict_later(s->r_stream[t]->evictor, err) : 0;
    int done = s->ops->step_end ? s->ops->step_end(s->dev) : 0; /* whatever happened: nothing may be left half done */
    if (!rc)
        rc = op(s, done ? done : kvt_later_settle(s->ops, s->dev), err);
    for (int t = 0; t < T && !rc; t++)
        rc = s->r_stream[t] ? kvt_evict_settled(s->r_stream[t]->evictor, err) : 0;
    return rc;
}

/* Row t of the next call: a token of a stream. blocks counts the attention rows asked for so far. */
static void put_row(struct kvt_session *s, int t, struct kvt_stream_state *st, bool renumber, int32_t token, int pos, int *blocks)
{
    bool steps = st->evictor && (s->step ? kvt_evictor_steps(st->evictor) : kvt_evictor_slides(st->evictor));
    s->r_token[t] = token;
    s->r_branch[t] = st->cell;
    s->r_pos[t] = pos;
    s->r_renumber[t] = renumber;
    s->r_stream[t] = steps ? st : NULL;
    s->r_at[t] = steps && kvt_evictor_wants_row(st->evictor) ? (*blocks)++ : -1;
    if (s->full_row && s->step && st == &s->branch[0].forced)
        s->r_at[t] = s->n_blocks;
    if (s->rows.question && !s->step && s->lo == 1 && st == &s->branch[0].forced) /* its rows come first */
        s->r_at[t] = s->n_blocks + t;
}

/* Logits of n hidden rows at s->x into logits rows [first, first + n). */
static int head(struct kvt_session *s, int n, int first, struct kvt_err *err)
{
    int rc = 0;
    for (int i = 0; i < n && !rc; i += s->forward->run) {
        int m = n - i < s->forward->run ? n - i : s->forward->run;
        rc = kvt_forward_head(s->forward, s->x + (size_t)i * s->shape->E, m, true, s->logits + (size_t)(first + i) * s->shape->V, err);
    }
    return rc;
}

/* ---- the question ---- */

static bool slides(const struct kvt_branch *b)
{
    return b->forced.evictor && kvt_evictor_slides(b->forced.evictor);
}

/* Branches whose budget slides with the tokens seen take the question a token at a time, the others in one block: the
 * same bits either way, since a row doesn't depend on its neighbours. */
int kvt_lockstep_question(struct kvt_session *s, struct kvt_err *err)
{
    int first = s->n_context, n = s->o.n_prompt - first, blocked = 0, row = 0, rc = 0;
    size_t E = (size_t)s->shape->E;
    s->step = 0;
    for (int b = kvt_first_branch(s); b < s->hi; b = kvt_next_branch(s, b)) {
        struct kvt_branch *br = &s->branch[b];
        int none = 0;
        if (slides(br))
            continue;
        for (int i = 0; i < n; i++)
            put_row(s, row++, &br->forced, br->renumber, s->token[first + i], first + i, &none);
        br->forced.row = s->row0 + blocked++;
    }
    rc = row ? kvt_lockstep_feed(s, row, err) : 0; /* all of them may slide */
    for (int i = 0; i < blocked && !rc; i++)
        rc = op(s, s->ops->copy(s->dev, s->x + (size_t)i * E, s->x + ((size_t)(i + 1) * (size_t)n - 1) * E, E * sizeof(float)), err);
    if (!rc)
        rc = head(s, blocked, s->row0, err);
    if (blocked == !s->no_full + s->hi - s->lo)
        return rc;
    for (int i = 0; i < n && !rc; i++) {
        int blocks = 0;
        row = 0;
        for (int b = kvt_first_branch(s); b < s->hi; b = kvt_next_branch(s, b)) {
            struct kvt_branch *br = &s->branch[b];
            if (!slides(br))
                continue;
            br->forced.row = s->row0 + blocked + row;
            put_row(s, row++, &br->forced, br->renumber, s->token[first + i], first + i, &blocks);
        }
        rc = feed_step(s, row, false, err);
        kvt_session_progress(s, KVT_PHASE_QUESTION, i + 1, n);
    }
    return rc ? rc : head(s, row, s->row0 + blocked, err);
}

/* ---- decode ---- */

struct step_state {
    const struct kvt_tokenizer *tok;
    bool forced_on;       /* the full branch hasn't ended: it says something to compare with */
    int32_t full_token;   /* what it says now */
    int32_t fed_token;    /* what forced streams are fed: the same, or the token that was given */
    int n_rows;           /* rows of logits */
};

/* Statistics of every row of logits against the full branch's. */
static int look_at_logits(struct kvt_session *s, struct step_state *st, int k, struct kvt_err *err)
{
    int full = s->branch[0].forced.row, r0 = s->row0;
    const float *row = s->logits + (size_t)full * s->shape->V;
    int rc = 0;
    if (st->forced_on) {
        rc = op(s, s->ops->logit_stats(s->dev, &(struct kvt_logit_stats_args){ .logits = row, .T = 1, .V = s->shape->V,
                                                                                .argmax = &st->full_token }), err);
    }
    st->fed_token = s->o.force ? s->o.force[k - 1] : st->full_token;
    for (int i = r0; i < r0 + st->n_rows; i++) {
        s->base[i] = st->forced_on ? full - r0 : -1;
        s->target[i] = st->forced_on ? st->fed_token : -1;
    }
    return rc ? rc : op(s, s->ops->logit_stats(s->dev, &(struct kvt_logit_stats_args){
        .logits = s->logits + (size_t)r0 * s->shape->V, .T = st->n_rows, .V = s->shape->V, .base = s->base + r0, .token = s->target + r0,
        .argmax = s->argmax + r0, .logprob = s->logprob + r0, .top_logprob = s->top_logprob + r0, .kl = s->kl + r0,
        .entropy = s->entropy + r0 }), err);
}

/* A branch that would say something else than the full one goes on by itself, on a copy of its cells. */
static int fork_free(struct kvt_session *s, int b, struct kvt_err *err)
{
    struct kvt_branch *br = &s->branch[b];
    int cell = s->n + b - 1;
    int rc = op(s, s->ops->cache_fork(s->dev, s->cache, br->forced.cell, cell), err);
    if (rc)
        return rc;
    br->free.cell = cell;
    br->free.row = br->forced.row;
    return br->forced.evictor ? kvt_evictor_fork(&br->free.evictor, br->forced.evictor, cell, err) : 0;
}

static int say(struct kvt_session *s, struct step_state *st, int b, int k, int32_t token, float logprob, bool own, struct kvt_err *err)
{
    struct kvt_branch *br = &s->branch[b];
    br->free_token[br->n_free++] = token;
    br->ended = (s->o.stop_at_end && kvt_token_is_end(st->tok, token)) || (s->o.stop && s->o.stop(s->o.stop_arg, b, br->free_token, br->n_free));
    if (!own)
        return 0;
    return kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_FREE,
        .free = { .branch = b, .step = k, .token = token, .logprob = logprob } }, err);
}

/* Whether the branch's row comes from the very text of the full one, so that the two can be compared. */
static bool same_text(const struct kvt_session *s, const struct kvt_branch *br)
{
    return s->o.decode != KVT_DECODE_FREE || !br->diverged;
}

/* Each stream's next token; forks at a first difference. */
static int choose(struct kvt_session *s, struct step_state *st, int k, struct kvt_err *err)
{
    int rc = 0;
    for (int b = 0; b < s->hi && !rc; b = kvt_next_branch(s, b)) {
        struct kvt_branch *br = &s->branch[b];
        int row = br->forced.row, own = s->argmax[row];
        bool differs = st->forced_on && own != st->full_token;
        if (st->forced_on && same_text(s, br)) {
            br->said[br->n_said++] = own;
            br->n_agree += !differs;
            br->kl_sum += s->kl[row];
            br->nll_sum -= s->logprob[row];
        }
        if (differs && !br->diverged) {
            br->diverged = k;
            if (s->o.decode == KVT_DECODE_BOTH && !br->ended)
                rc = fork_free(s, b, err);
        }
        if (rc || br->ended)
            continue;
        if (s->o.decode == KVT_DECODE_FREE)
            rc = say(s, st, b, k, own, s->top_logprob[row], br->diverged != 0, err);
        else if (br->free.cell >= 0)
            rc = say(s, st, b, k, s->argmax[br->free.row], s->top_logprob[br->free.row], true, err);
        else if (st->forced_on && !br->diverged)
            rc = say(s, st, b, k, st->fed_token, s->logprob[row], false, err);
    }
    return rc;
}

/* Feeds the chosen tokens; leaves the streams' next logits. */
static int advance(struct kvt_session *s, struct step_state *st, int k, struct kvt_err *err)
{
    int pos = s->o.n_prompt + k - 1, T = 0, blocks = 0;
    s->step = s->times.where.step = k;
    bool own = s->o.decode == KVT_DECODE_FREE;
    /* A branch's two streams are neighbours: they share most of their pages, which attention then finds in cache. */
    for (int b = 0; b < s->hi; b = kvt_next_branch(s, b)) {
        struct kvt_branch *br = &s->branch[b];
        if (own ? br->n_free >= k : st->forced_on) {
            put_row(s, T, &br->forced, br->renumber, own ? br->free_token[br->n_free - 1] : st->fed_token, pos, &blocks);
            br->forced.row = s->row0 + T++;
        }
        if (br->free.cell >= 0 && !br->ended) {
            put_row(s, T, &br->free, br->renumber, br->free_token[br->n_free - 1], pos, &blocks);
            br->free.row = s->row0 + T++;
        }
    }
    st->n_rows = T;
    s->full_fed = s->full_row && (own ? s->branch[0].n_free >= k : st->forced_on);
    if (!T) /* the last free-running text has just ended */
        return 0;
    int rc = feed_step(s, T, true, err);
    s->full_fed = false;
    return rc;
}

/* The step's event: what everybody would have said, what it cost. Rows are those that chose step k's token. */
static void note_choice(struct kvt_session *s, const struct step_state *st, int k)
{
    bool own = s->o.decode == KVT_DECODE_FREE;
    for (int b = 0; b < s->hi; b = kvt_next_branch(s, b)) {
        const struct kvt_branch *br = &s->branch[b];
        int row = br->forced.row;
        if (own && br->n_free < k) { /* ended before: nothing is appended, and its row is another's by now */
            s->ev_token[b] = s->ev_argmax[b] = -1;
            s->ev_logprob[b] = s->ev_kl[b] = s->ev_entropy[b] = NAN;
            continue;
        }
        bool compared = st->forced_on && (same_text(s, br) || br->diverged == k);
        s->ev_token[b] = own ? s->argmax[row] : st->fed_token;
        s->ev_argmax[b] = s->argmax[row];
        s->ev_logprob[b] = own ? s->top_logprob[row] : s->logprob[row];
        s->ev_kl[b] = compared ? s->kl[row] : NAN;
        s->ev_entropy[b] = s->entropy[row];
    }
}

static int note_step(struct kvt_session *s, int k, int64_t start_ns, struct kvt_err *err)
{
    struct kvt_cache_bytes bytes = { 0 };
    for (int b = 0; b < s->hi; b = kvt_next_branch(s, b)) {
        struct kvt_branch *br = &s->branch[b];
        int rc = kvt_session_branch_bytes(s, br->forced.cell, &bytes, err);
        if (rc)
            return rc;
        s->ev_alone[b] = br->bytes_last = bytes.alone;
        br->bytes_peak = bytes.alone > br->bytes_peak ? bytes.alone : br->bytes_peak;
        s->ev_own[b] = bytes.own;
        br->bytes_sum += (double)bytes.alone;
        br->n_fed++;
    }
    int from = s->lo > 1 || s->no_full ? s->lo : 0; /* the full branch beside the oracles was reported before */
    kvt_times_note(&s->times, KVT_PART_STEP, -1, -1, start_ns);
    int rc = kvt_session_times(s, err);
    return rc ? rc : kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_STEP, .step = {
        .step = k, .first = from, .n_branch = s->hi - from, .token = s->ev_token + from, .argmax = s->ev_argmax + from,
        .logprob = s->ev_logprob + from, .kl = s->ev_kl + from, .entropy = s->ev_entropy + from, .alone_bytes = s->ev_alone + from,
        .own_bytes = s->ev_own + from, .held_bytes = bytes.held, .step_ns = kvt_now_ns() - start_ns } }, err);
}

static int hash_logits(struct kvt_session *s, struct kvt_err *err)
{
    unsigned char buf[4096];
    uint64_t h = 0xcbf29ce484222325u;
    size_t bytes = (size_t)s->shape->V * sizeof(float);
    const char *src = (const char *)(s->logits + (size_t)s->branch[0].forced.row * s->shape->V);
    for (size_t at = 0; at < bytes; at += sizeof buf) {
        size_t n = bytes - at < sizeof buf ? bytes - at : sizeof buf;
        int rc = op(s, s->ops->read(s->dev, buf, src + at, n), err);
        if (rc)
            return rc;
        for (size_t i = 0; i < n; i++)
            h = (h ^ buf[i]) * 0x100000001b3u;
    }
    assert((!s->row0 || h == s->logits_hash) && "the full branch beside the oracles isn't what it was");
    s->logits_hash = h;
    return 0;
}

static int first_rows(const struct kvt_session *s)
{
    int rows = 0;
    for (int b = 0; b < s->hi; b = kvt_next_branch(s, b))
        if (s->branch[b].forced.row - s->row0 >= rows)
            rows = s->branch[b].forced.row - s->row0 + 1;
    return rows;
}

/* Whether the full branch and all free-running text have ended. */
static bool finished(const struct kvt_session *s)
{
    bool all = s->branch[0].ended;
    for (int b = s->lo; all && b < s->hi; b++) {
        const struct kvt_branch *br = &s->branch[b];
        all = br->ended || (s->o.decode != KVT_DECODE_FREE && br->free.cell < 0);
    }
    return all;
}

/* The pass's branches, to the last token. */
static int decode_pass(struct kvt_session *s, enum kvt_phase phase, struct kvt_err *err)
{
    struct step_state st = { .tok = kvt_model_tokenizer(s->model), .forced_on = !s->no_full, .n_rows = first_rows(s) };
    int rc = 0;
    for (int k = 1; k <= s->o.n_new && !rc && !finished(s); k++) {
        int64_t step0 = kvt_now_ns();
        if (kvt_interrupted(s->o.interrupted)) {
            rc = kvt_fail(err, KVT_EINTR, "interrupted");
            break;
        }
        rc = look_at_logits(s, &st, k, err);
        if (!rc)
            rc = choose(s, &st, k, err);
        /* teacher-forced steps end with the full branch, free-running ones with the last branch */
        bool forced = st.forced_on, lockstep = forced || s->o.decode == KVT_DECODE_FREE;
        if (!rc && lockstep)
            note_choice(s, &st, k);
        if (!rc)
            rc = advance(s, &st, k, err);
        if (!rc && forced && (s->fidelity.lost || s->fidelity.output))
            rc = kvt_fidelity_step(s, k, err);
        if (!rc)
            rc = kvt_decode_rows_step(s, k, err);
        if (!rc && lockstep) {
            s->steps = k > s->steps ? k : s->steps;
            rc = note_step(s, k, step0, err);
        }
        if (!rc && forced && (k == s->o.n_new || s->branch[0].ended))
            rc = hash_logits(s, err); /* now: later steps of free streams write over the row */
        st.forced_on = !s->branch[0].ended;
        kvt_session_progress(s, phase, k, s->o.n_new);
    }
    return rc;
}

/* The oracles: from the same context as everybody, with what the first pass has seen, beside the full branch once more. */
static int oracle_pass(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_branch *full = &s->branch[0];
    int rc = 0;
    kvt_oracle_begin(s);
    s->lo = s->n_early, s->hi = s->n, s->row0 = s->early_rows;
    full->n_said = full->n_free = full->n_agree = full->n_fed = full->diverged = 0;
    full->kl_sum = full->nll_sum = full->bytes_sum = 0;
    full->ended = false;
    if (!rc)
        rc = op(s, s->ops->cache_drop(s->dev, s->cache, full->forced.cell), err);
    if (!rc)
        rc = op(s, s->ops->cache_fork(s->dev, s->cache, s->snapshot, full->forced.cell), err);
    if (!rc)
        rc = kvt_session_fork(s, s->snapshot, err);
    if (!rc)
        rc = kvt_session_first_logits(s, err);
    return rc ? rc : decode_pass(s, KVT_PHASE_ORACLE, err);
}

int kvt_session_decode(struct kvt_session *s, struct kvt_err *err)
{
    int64_t t0 = kvt_now_ns();
    kvt_session_at(s, KVT_PHASE_DECODE, 0);
    int rc = decode_pass(s, KVT_PHASE_DECODE, err);
    if (!rc)
        rc = kvt_norms_tell(s, false, err);
    int done = kvt_session_phase(s, KVT_PHASE_DECODE, t0, s->steps, rc ? NULL : err);
    rc = rc ? rc : done;
    if (rc || s->n_early == s->n)
        return rc;
    t0 = kvt_now_ns();
    kvt_session_at(s, KVT_PHASE_ORACLE, 0);
    rc = oracle_pass(s, err);
    done = kvt_session_phase(s, KVT_PHASE_ORACLE, t0, s->steps, rc ? NULL : err);
    return rc ? rc : done;
}
