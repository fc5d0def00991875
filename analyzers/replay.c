/* A branch replayed: engine/evict*.c decides, as in a run, over scores that lie in a trace and rows of the uncompressed branch. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/replay_inputs.h"
#include "base/mem.h"

const char *const kvt_replay_marks[] = {"exact", "approx", "refused"};

/* ---- what can be replayed ---- */

/* Why a score can't be had at all; NULL: it can. */
static const char *lacks(const struct kvt_replay *r, const struct kvt_spec *spec)
{
    const struct kvt_policy *p = &spec->policy;
    bool squares = p->score == KVT_SCORE_SQMASS || p->score == KVT_SCORE_SQWMASS || p->score == KVT_SCORE_FINCH;
    if (p->after != KVT_AFTER_DROP)
        return "it changes K and V";
    if (p->prefill_chunk)
        return "prefill in chunks";
    if (p->score == KVT_SCORE_KVZIP)
        return "a second pass over the context";
    if (p->score == KVT_SCORE_KEYDIFF || p->score == KVT_SCORE_EXPECTED)
        return "needs keys";
    if (p->score == KVT_SCORE_LAGKV || (p->score == KVT_SCORE_HOST && spec->method->host_needs & KVT_HOST_KV))
        return "needs keys and values";
    bool whole = !strcmp(r->info->status, "complete");
    if (p->score == KVT_SCORE_KNORM && p->schedule != KVT_SCHEDULE_PREFILL && !whole)
        return "keys' norms of the steps come at the run's end";
    if (p->score == KVT_SCORE_ORACLE && !whole)
        return "needs the steps of a whole run";
    if (kvt_spec_looks(spec) && !kvt_replay_window_recorded(r, p->window) && p->window > r->info->n_late)
        return "--replay-rows was smaller";
    if (squares && !kvt_replay_squares_recorded(r, p) && (p->score == KVT_SCORE_SQMASS || p->window > r->info->n_late))
        return p->score == KVT_SCORE_SQMASS ? "needs all rows" : "--replay-rows was smaller";
    return NULL;
}

static int64_t slot_bytes(const struct kvt_trace_info *in) { return (int64_t)in->D * 2 * (strcmp(in->kv_type, "f32") ? 2 : 4); }

/* The evictor of cell 1, as a session opens its branches'. */
static int open_branch(struct kvt_replay *r, const struct kvt_replay_ask *ask, struct kvt_evictor **e, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    const struct kvt_policy *p = &ask->spec->policy;
    struct kvt_budget budget = ask->budget;
    bool classes = p->alloc == KVT_ALLOC_CLASS;
    if (classes)
        budget = (struct kvt_budget){.kind = KVT_BUDGET_TOKENS, .tokens = kvt_class_tokens(p, in->n_context)};
    int rc = kvt_budget_resolve(&budget, r->env.L, in->G, slot_bytes(in), err);
    if (!rc)
        rc = kvt_evict_check(ask->spec, &budget, r->n_prefill, in->n_context, r->env.n_shots, err);
    if (!rc && p->score == KVT_SCORE_FILE && ask->n_given != in->n_context && ask->n_given != in->n_prompt)
        rc = kvt_fail(err, KVT_EINPUT, "%s: it has scores of %d tokens; the context has %d, the whole prompt %d", p->path, ask->n_given, in->n_context, in->n_prompt);
    if (!rc)
        rc = kvt_evictor_open(e, &r->env, 1, ask->spec, &budget, err);
    return rc || !classes ? rc : kvt_evictor_classes(*e, ask->given, err);
}

int kvt_replay_can(struct kvt_replay *r, const struct kvt_replay_ask *ask, enum kvt_replay_mark *mark, char why[KVT_REPLAY_WHY], struct kvt_err *err)
{
    const struct kvt_policy *p = &ask->spec->policy;
    const char *say = lacks(r, ask->spec);
    bool squares = p->score == KVT_SCORE_SQWMASS || p->score == KVT_SCORE_FINCH;
    bool never = p->score == KVT_SCORE_NONE || (!p->decode_share_set && ask->budget.kind == KVT_BUDGET_KEEP && ask->budget.keep_ppm >= 1000000);
    bool sums = kvt_spec_looks(ask->spec) && !kvt_replay_window_recorded(r, p->window), own = squares && !kvt_replay_squares_recorded(r, p);
    int rc = !say && (sums || own) ? kvt_replay_late(r, err) : 0;
    *mark = say ? KVT_REPLAY_REFUSED : KVT_REPLAY_APPROX;
    if (say || never) {
        *mark = say ? KVT_REPLAY_REFUSED : KVT_REPLAY_EXACT;
    } else if (!r->same_backend) {
        say = "another backend than the run's";
    } else if (sums && !r->sums_known) {
        say = "sums in another order";
    } else if (own && (!r->squares_known || p->distance || p->score == KVT_SCORE_FINCH)) {
        say = "sums in another order";
    } else if (p->decode_share_set && p->decode_share != 1 && r->info->n_steps) {
        say = "each step: the full branch's rows";
    } else if (p->schedule != KVT_SCHEDULE_PREFILL && p->score == KVT_SCORE_KNORM) {
        say = "each step: the full branch's keys";
    } else if (p->schedule != KVT_SCHEDULE_PREFILL && p->score != KVT_SCORE_RECENCY && p->score != KVT_SCORE_RANDOM && p->score != KVT_SCORE_ORACLE) {
        say = "each step: the full branch's rows";
    } else {
        *mark = KVT_REPLAY_EXACT;
    }
    snprintf(why, KVT_REPLAY_WHY, "%s", say ? say : "");
    if (rc || *mark == KVT_REPLAY_REFUSED)
        return rc;
    struct kvt_err no = {0};
    struct kvt_evictor *e = NULL;
    rc = open_branch(r, ask, &e, &no); /* a budget below what is protected, no shots, a window longer than the prompt ... */
    kvt_evictor_close(&e);
    if (rc == KVT_EINPUT || rc == KVT_EUSAGE) {
        *mark = KVT_REPLAY_REFUSED;
        snprintf(why, KVT_REPLAY_WHY, "%s", no.text);
        return 0;
    }
    return rc ? kvt_fail(err, rc, "%s", no.text) : 0;
}

int kvt_replay_question(const struct kvt_replay *r)
{
    for (int i = 0; i < r->info->n_squares; i++)
        if (r->raw.square[i].by_pos)
            return r->raw.square[i].window;
    return r->info->n_question ? r->info->n_question : -1;
}

/* ---- what the evictor tells ---- */

void kvt_replay_wants(void *self, struct kvt_wants *w)
{
    (void)self;
    *w = (struct kvt_wants){.decisions = true};
}

static int32_t *history(const struct kvt_replay *r, int layer, int g)
{
    return r->out->evicted_at + ((size_t)layer * (size_t)r->info->G + (size_t)g) * (size_t)r->info->n_tok;
}

int kvt_replay_see(void *self, const struct kvt_event *ev)
{
    struct kvt_replay *r = self;
    if (ev->kind == KVT_EV_DECISION) {
        const struct kvt_ev_decision *d = &ev->decision;
        size_t G = (size_t)r->info->G, n = (size_t)d->n;
        memcpy(r->out->reason + (size_t)d->layer * G * n, d->reason, G * n);
        for (size_t i = 0; i < G * n; i++) {
            uint8_t why = d->reason[i];
            if (why == KVT_LEFT_SCORE || why == KVT_LEFT_UNIT || why == KVT_LEFT_BUDGET)
                history(r, d->layer, (int)(i / n))[i % n] = 0;
        }
    } else if (ev->kind == KVT_EV_EVICT) {
        for (int i = 0; i < ev->evict.n; i++)
            history(r, ev->evict.layer, ev->evict.g)[ev->evict.pos[i]] = ev->evict.step;
    } else if (ev->kind == KVT_EV_BUDGET) {
        r->out->effective_keep = ev->budget.effective_keep;
        r->out->fallback = ev->budget.fallback;
        snprintf(r->out->note, sizeof r->out->note, "%s", ev->budget.note);
    }
    return r->told ? r->told->see(r->told->self, ev) : 0;
}

/* ---- prefill's end ---- */

static int device_fail(const struct kvt_replay *r, int rc, struct kvt_err *err) { return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(r->dev)) : 0; }

/* Adds the rows of a step to what the oracle knows, or takes them from what is left. */
static int sum_future(struct kvt_replay *r, int by, int step, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    for (int l = 0; l < in->L; l++) {
        const float *row = kvt_replay_row(r, in->n_question + step - 1, l, err);
        if (!row)
            return err && err->code ? err->code : KVT_ENOMEM;
        kvt_future_add(&r->future, &(struct kvt_future_row){.row = row, .H = in->H, .G = in->G, .ld = in->n_tok, .n_sink = in->n_sink, .layer = l,
                                                             .slots = in->n_prompt + step}, by);
    }
    return 0;
}

static int open_future(struct kvt_replay *r, const struct kvt_policy *p, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t all = (size_t)in->L * (size_t)in->G * (size_t)in->n_tok;
    if (!r->future.sum) {
        r->future.sum = kvt_calloc(all, sizeof *r->future.sum);
        r->future.left = kvt_calloc(all, sizeof *r->future.left);
    }
    if (!r->future.sum || !r->future.left)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the future mass of %d slots", in->n_tok);
    memset(r->future.sum, 0, all * sizeof *r->future.sum);
    r->future.horizon = p->ahead, r->future.sinkless = p->sinkless;
    int rc = 0;
    for (int k = 1; k <= in->n_steps && (!p->ahead || k <= p->ahead) && !rc; k++)
        rc = sum_future(r, 1, k, err);
    for (size_t i = 0; i < all; i++)
        r->future.left[i] = (float)r->future.sum[i];
    return rc;
}

/* Scores of the branch's own, (L, G, n_prefill). */
static int own_scores(struct kvt_replay *r, const struct kvt_replay_ask *ask, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    bool oracle = ask->spec->policy.score == KVT_SCORE_ORACLE;
    size_t cells = (size_t)in->L * (size_t)in->G, n = (size_t)in->n_context, ld = (size_t)r->n_prefill;
    r->raw.given = NULL;
    if (!oracle && ask->spec->policy.score != KVT_SCORE_FILE)
        return 0;
    int rc = oracle ? open_future(r, &ask->spec->policy, err) : 0;
    memset(r->host, 0, cells * ld * sizeof *r->host);
    for (size_t c = 0; c < cells && !rc; c++)
        for (size_t j = 0; j < n; j++)
            r->host[c * ld + j] = oracle ? (float)r->future.sum[c * (size_t)in->n_tok + j] : ask->given[c * (size_t)ask->n_given + j];
    r->raw.given = r->given;
    return rc ? rc : device_fail(r, r->ops->write(r->dev, r->given, r->host, cells * ld * sizeof *r->host), err);
}

/* ---- steps ---- */

static int append(struct kvt_replay *r, int layer, int pos, struct kvt_err *err)
{
    size_t G = (size_t)r->info->G;
    for (size_t g = 0; g < G; g++)
        r->h_kv[g * KVT_REPLAY_D] = r->key_norm[((size_t)layer * G + g) * (size_t)r->info->n_tok + (size_t)pos];
    int rc = r->ops->write(r->dev, r->kv, r->h_kv, G * KVT_REPLAY_D * sizeof *r->h_kv);
    if (!rc)
        rc = r->ops->cache_append(r->dev, &(struct kvt_append_args){.cache = r->cache, .layer = layer, .T = 1, .k = r->kv, .v = r->kv,
                                                                    .branch = (int32_t[]){1}, .pos = &(int32_t){pos}});
    return device_fail(r, rc, err);
}

/* The row of the uncompressed branch at the slots that the branch holds, by slot, renormalised: the mass of what it lost is shared out. */
static int make_row(struct kvt_replay *r, int i, int layer, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t H = (size_t)in->H, G = (size_t)in->G, ld = (size_t)in->n_tok;
    const float *row = kvt_replay_row(r, i, layer, err);
    if (!row)
        return err && err->code ? err->code : KVT_EFORMAT;
    int rc = r->ops->cache_positions(r->dev, &(struct kvt_positions_args){.cache = r->cache, .branch = 1, .layer = layer, .pos = r->pos, .ld = in->n_tok});
    if (!rc)
        rc = r->ops->read(r->dev, r->h_pos, r->pos, G * ld * sizeof *r->h_pos);
    for (size_t h = 0; h < H && !rc; h++) {
        const int32_t *at = r->h_pos + h / (H / G) * ld;
        const float *from = row + h * ld;
        float *to = r->slot_row + h * ld;
        double sum = 0;
        size_t n = 0;
        for (; n < ld && at[n] >= 0; n++)
            sum += from[at[n]];
        for (size_t s = 0; s < n; s++)
            to[s] = sum > 0 ? (float)(from[at[s]] / sum) : 0;
        memset(to + n, 0, (ld - n) * sizeof *to);
    }
    return device_fail(r, rc ? rc : r->ops->write(r->dev, r->row, r->slot_row, H * ld * sizeof *r->slot_row), err);
}

static int replay_steps(struct kvt_replay *r, struct kvt_evictor *e, const struct kvt_policy *p, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    int rc = 0;
    for (int i = 0; i < r->n_rows && !rc; i++) {
        int pos = r->first_pos + i, step = pos < in->n_prompt ? 0 : pos - in->n_prompt + 1;
        bool acts = step ? kvt_evictor_steps(e) : kvt_evictor_slides(e);
        if (step && p->score == KVT_SCORE_ORACLE && (!p->ahead || step <= p->ahead))
            rc = sum_future(r, -1, step, err);
        for (int l = 0; l < r->env.L && !rc; l++) {
            int m = kvt_evict_layer(&r->env, l);
            rc = append(r, m, pos, err);
            if (!rc && acts && kvt_evictor_wants_row(e))
                rc = make_row(r, i, m, err);
            if (!rc && acts)
                rc = kvt_evict_step(e, m, kvt_evictor_wants_row(e) ? r->row : NULL, in->n_tok, pos, step, err);
        }
    }
    return rc;
}

/* ---- a branch ---- */

static int prepare(struct kvt_replay *r, const struct kvt_replay_ask *ask, struct kvt_err *err)
{
    const struct kvt_policy *p = &ask->spec->policy;
    int rc = kvt_spec_looks(ask->spec) ? kvt_replay_window(r, p->window, err) : 0;
    r->raw.n_squares = r->info->n_squares;
    if (!rc && (p->score == KVT_SCORE_SQMASS || p->score == KVT_SCORE_SQWMASS || p->score == KVT_SCORE_FINCH))
        rc = kvt_replay_squares(r, p, err);
    return rc ? rc : own_scores(r, ask, err);
}

int kvt_replay_run(struct kvt_replay *r, const struct kvt_replay_ask *ask, const struct kvt_probe *probe, struct kvt_replay_result *out,
                   struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    const struct kvt_policy *p = &ask->spec->policy;
    struct kvt_evictor *e = NULL;
    for (size_t i = 0, cells = (size_t)in->L * (size_t)in->G; i < cells * (size_t)in->n_tok; i++)
        out->evicted_at[i] = (int)(i % (size_t)in->n_tok) < in->n_prompt + in->n_steps ? -1 : KVT_NOT_YET;
    memset(out->reason, 255, (size_t)in->L * (size_t)in->G * (size_t)in->n_context);
    out->effective_keep = NAN, out->fallback = false, *out->note = 0;
    r->out = out, r->told = probe;
    int rc = open_branch(r, ask, &e, err);
    if (!rc)
        rc = prepare(r, ask, err);
    if (!rc)
        rc = device_fail(r, r->ops->cache_fork(r->dev, r->cache, 0, 1), err);
    if (!rc)
        rc = kvt_evict_prefill(e, &r->raw, err);
    if (!rc && kvt_evictor_steps(e))
        rc = replay_steps(r, e, p, err);
    kvt_evictor_close(&e);
    r->ops->cache_drop(r->dev, r->cache, 1);
    r->out = NULL, r->told = NULL;
    return rc;
}

/* ---- lost mass ---- */

/* A row of a layer, mean over each query group: of all keys, and of those behind the sinks, renormalised. */
static void group_row(const struct kvt_trace_info *in, const float *row, double *all, double *rest)
{
    size_t H = (size_t)in->H, G = (size_t)in->G, per = H / G, T = (size_t)in->n_tok, sink = (size_t)in->n_sink;
    memset(all, 0, G * T * sizeof *all);
    memset(rest, 0, G * T * sizeof *rest);
    for (size_t h = 0; h < H; h++) {
        double sum = 0;
        for (size_t j = sink; j < T; j++)
            sum += row[h * T + j];
        for (size_t j = 0; j < T; j++) {
            all[h / per * T + j] += row[h * T + j] / (double)per;
            rest[h / per * T + j] += j >= sink && sum > 0 ? row[h * T + j] / sum / (double)per : 0;
        }
    }
}

static bool only_at_prefill(const int32_t *at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (at[i] > 0)
            return false;
    return true;
}

/* Rows of all steps: into means (evicted_at NULL), or what each step's row has on the tokens lost before it. */
static int each_row(struct kvt_replay *r, const int32_t *evicted_at, double *lost, double *rest, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t G = (size_t)in->G, T = (size_t)in->n_tok, layer = G * T;
    double *all = kvt_calloc(2 * layer, sizeof *all), *less = all ? all + layer : NULL;
    int rc = all ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for a row");
    for (int k = 1; k <= in->n_steps && !rc; k++)
        for (int l = 0; l < in->L && !rc; l++) {
            const float *row = kvt_replay_row(r, in->n_question + k - 1, l, err);
            if (!row) {
                rc = err && err->code ? err->code : KVT_EFORMAT;
                break;
            }
            group_row(in, row, all, less);
            for (size_t i = 0; i < layer && !evicted_at; i++) {
                r->mean_lost[(size_t)l * layer + i] += all[i] / in->n_steps;
                r->mean_rest[(size_t)l * layer + i] += less[i] / in->n_steps;
            }
            for (size_t i = 0; i < layer && evicted_at; i++) {
                int32_t at = evicted_at[(size_t)l * layer + i];
                if (at != -1 && at != KVT_NOT_YET && at < k)
                    *lost += all[i], *rest += less[i];
            }
        }
    free(all);
    return rc;
}

int kvt_replay_lost(struct kvt_replay *r, const int32_t *evicted_at, double *lost, double *rest, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    size_t cells = (size_t)in->L * (size_t)in->G, n = cells * (size_t)in->n_tok;
    int rc = 0;
    *lost = *rest = in->n_steps ? 0 : NAN;
    if (!in->n_steps)
        return 0;
    if (!only_at_prefill(evicted_at, n)) {
        rc = each_row(r, evicted_at, lost, rest, err);
        *lost /= (double)cells * in->n_steps, *rest /= (double)cells * in->n_steps;
        return rc;
    }
    if (!r->mean_lost) {
        r->mean_lost = kvt_calloc(n, sizeof *r->mean_lost);
        r->mean_rest = kvt_calloc(n, sizeof *r->mean_rest);
        rc = r->mean_lost && r->mean_rest ? each_row(r, NULL, NULL, NULL, err) : kvt_fail(err, KVT_ENOMEM, "no memory for the mean row");
    }
    for (size_t i = 0; i < n && !rc; i++)
        if (evicted_at[i] != -1 && evicted_at[i] != KVT_NOT_YET)
            *lost += r->mean_lost[i], *rest += r->mean_rest[i];
    *lost /= (double)cells, *rest /= (double)cells;
    return rc;
}
