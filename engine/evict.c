/* The evictor: opened for each branch, acts at prefill's end over all layers, and reports. */
#include "engine/evict_state.h"
#include "engine/times.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kvt/prompt.h"

void *kvt_carve(struct kvt_carve *c, size_t count, size_t size)
{
    void *p = c->base ? c->base + c->used : NULL;
    c->used += (count * size + 63) / 64 * 64;
    return p;
}

int kvt_evict_device_fail(const struct kvt_evictor *e, int rc, const char *what, struct kvt_err *err)
{
    return kvt_fail(err, rc, "%s: %s failed: %s", e->spec.canonical, what, kvt_dev_error(e->env->dev));
}

/* ---- before the run ---- */

static void need_square(const struct kvt_policy *p, int window, struct kvt_needs *needs)
{
    for (int i = 0; i < needs->n_squares; i++)
        if (kvt_evict_same_square(&needs->square[i], p))
            return;
    if (needs->n_squares < KVT_MAX_WINDOWS)
        needs->square[needs->n_squares++] = (struct kvt_square){window, p->distance, p->score == KVT_SCORE_FINCH};
}

bool kvt_spec_looks(const struct kvt_spec *spec)
{
    if (spec->policy.prefill_chunk) /* it sees its own chunks */
        return false;
    return spec->policy.score == KVT_SCORE_WMASS || (spec->policy.score == KVT_SCORE_HOST && spec->method->host_needs & KVT_HOST_WMASS);
}

static void need_window(const struct kvt_policy *p, struct kvt_needs *needs)
{
    for (int i = 0; i < needs->n_windows; i++)
        if (needs->window[i] == p->window)
            return;
    if (needs->n_windows < KVT_MAX_WINDOWS) /* one too many: the session says so before it runs */
        needs->window[needs->n_windows++] = p->window;
}

void kvt_spec_needs(const struct kvt_spec *spec, struct kvt_needs *needs)
{
    const struct kvt_policy *p = &spec->policy;
    if (p->prefill_chunk)
        return;
    needs->out_norms |= p->critical_ppm > 0;
    switch (p->score) {
    case KVT_SCORE_MASS: needs->mass = true; break;
    case KVT_SCORE_LAST: needs->last = true; break;
    case KVT_SCORE_WMASS: need_window(p, needs); break;
    case KVT_SCORE_HOST:
        needs->mass |= (spec->method->host_needs & KVT_HOST_MASS) != 0;
        needs->last |= (spec->method->host_needs & KVT_HOST_LAST) != 0;
        if (kvt_spec_looks(spec))
            need_window(p, needs);
        break;
    case KVT_SCORE_SQMASS: need_square(p, 0, needs); break;
    case KVT_SCORE_SQWMASS:
    case KVT_SCORE_FINCH: need_square(p, p->window, needs); break;
    case KVT_SCORE_MAX: needs->max = true; break;
    case KVT_SCORE_LATER: needs->later = true; break;
    case KVT_SCORE_KVZIP:
    case KVT_SCORE_FILE:
    case KVT_SCORE_ORACLE: needs->given = true; break;
    case KVT_SCORE_NONE:
    case KVT_SCORE_RANDOM:
    case KVT_SCORE_RECENCY:
    case KVT_SCORE_KNORM:
    case KVT_SCORE_KEYDIFF:
    case KVT_SCORE_LAGKV: break; /* from the branch's own keys and values */
    case KVT_SCORE_EXPECTED: needs->ahead = p->ahead > needs->ahead ? p->ahead : needs->ahead; break;
    }
}

static bool never_evicts(const struct kvt_spec *spec, const struct kvt_budget *budget)
{
    return spec->policy.score == KVT_SCORE_NONE || (budget->kind == KVT_BUDGET_KEEP && budget->keep_ppm >= 1000000);
}

int kvt_evict_protect(const struct kvt_policy *p, const struct kvt_evict_env *env, int n_prompt, int n, int budget,
                      uint8_t *map)
{
    int recent = p->recent < 0 ? (budget + 1) / 2 : p->recent, count = 0;
    if (kvt_evict_lags(p))
        recent = n - kvt_evict_lag_tail(p, n);
    /* kvpress's ChunkKV protects nothing: its window wins by its score */
    bool window = p->keep_window && !(p->unit == KVT_UNIT_CHUNK && p->chunk_count == KVT_COUNT_KVPRESS);
    for (int j = 0; j < n; j++) {
        bool newest = (window && j >= n_prompt - p->window) || j >= n - recent, spanned = false;
        for (int i = 0; p->spans && env && i < env->n_spans; i++) {
            const int32_t *span = env->span + 3 * i;
            spanned |= (p->spans & 1 << span[0]) && j >= span[1] && j < span[2];
        }
        int why = j < p->sinks || spanned ? KVT_KEPT_PROTECTED : newest ? KVT_KEPT_WINDOW : 0;
        if (map)
            map[j] = (uint8_t)why;
        count += why != 0;
    }
    return count;
}

/* Budget, window and protection against the prompt; env NULL where spans and sentences aren't known yet. */
static int check(const struct kvt_spec *spec, const struct kvt_budget *budget, const struct kvt_evict_env *env,
                 int n_prompt, int n_context, struct kvt_err *err)
{
    const struct kvt_policy *p = &spec->policy;
    const char *name = spec->method->name;
    struct kvt_budget own = kvt_evict_own_budget(p, budget);
    if ((never_evicts(spec, budget) && never_evicts(spec, &own)) || p->unit == KVT_UNIT_SHOT || p->unit == KVT_UNIT_SENTENCE ||
        budget->kind == KVT_BUDGET_MATCH || kvt_evict_lags(p) || p->alloc == KVT_ALLOC_CLASS)
        return 0; /* of shots, what stays outside them depends on the prompt: none may fit, which is reported */
    if (budget->kind == KVT_BUDGET_CELLS) {
        const struct kvt_budget *least = kvt_evict_least_cell(budget, n_context);
        return check(spec, least, env, n_prompt, n_context, err);
    }
    int tok = kvt_budget_tokens(&own, n_context), later = kvt_budget_tokens(budget, n_context);
    tok = p->schedule != KVT_SCHEDULE_PREFILL && later < tok ? later : tok;
    int kept = kvt_evict_protect(p, env, n_prompt, n_context, tok, NULL);
    int least = kept + (p->score == KVT_SCORE_RECENCY || p->unit == KVT_UNIT_CHUNK);
    if (tok >= least || tok >= n_context)
        return 0;
    double share = least < n_context ? ceil(100.0 * least / n_context) : 100;
    return kvt_fail(err, KVT_EINPUT,
                    "%s: a budget of %d of %d context tokens is below the %d that it needs (%d protected: sinks %d, "
                    "window %d%s); keep %.0f %% or --tokens %d, or protect less",
                    name, tok, n_context, least, kept, p->sinks, p->keep_window ? p->window : 0,
                    p->spans ? ", spans" : "", share, least);
}

int kvt_evict_check(const struct kvt_spec *spec, const struct kvt_budget *budget, int n_prompt, int n_context,
                    int n_shots, struct kvt_err *err)
{
    const struct kvt_policy *p = &spec->policy;
    const char *name = spec->method->name;
    assert(n_context <= n_prompt);
    if (n_context < 1)
        return kvt_fail(err, KVT_EINPUT,
                        "%s: the prompt has no context that could be compressed; put text before the question", name);
    if (p->unit == KVT_UNIT_SHOT && n_shots < 1)
        return kvt_fail(err, KVT_EINPUT, "%s keeps whole shots, and this prompt has none before its question; "
                        "mark them with --shots or --shot-sep", name);
    if (p->score == KVT_SCORE_LATER && n_shots < 1)
        return kvt_fail(err, KVT_EINPUT, "%s counts the rows after each shot, and this prompt has none before its question; "
                        "mark them with --shots or --shot-sep", name);
    if (p->score == KVT_SCORE_EXPECTED && (n_prompt <= 4 || n_context <= p->sinks))
        return kvt_fail(err, KVT_EINPUT, "%s learns from the queries behind the first 4 tokens, and ranks what lies behind %d sinks; this prompt "
                        "is too short", name, p->sinks);
    if (kvt_evict_lags(p) && budget->kind != KVT_BUDGET_KEEP)
        return kvt_fail(err, KVT_EUSAGE, "%s: in steps each partition is cut to a share; give --keep or --remove", name);
    if (budget->kind == KVT_BUDGET_MATCH && p->prefill_share > 0)
        return kvt_fail(err, KVT_EUSAGE, "%s: prefill= is a share of its own, and this branch is to keep as many as another; leave it out, or "
                        "don't let it follow", name);
    bool looks = kvt_spec_looks(spec) || p->score == KVT_SCORE_SQWMASS || p->score == KVT_SCORE_FINCH || p->keep_window;
    if (looks && p->window >= n_prompt)
        return kvt_fail(err, KVT_EINPUT,
                        "%s: the window of %d rows doesn't leave any of the prompt's %d tokens; use w=%d or less", name,
                        p->window, n_prompt, n_prompt > 1 ? n_prompt - 1 : 1);
    int rc = kvt_evict_cells_check(spec, budget, err);
    rc = rc ? rc : check(spec, budget, NULL, n_prompt, n_context, err);
    return rc || never_evicts(spec, budget) ? rc : kvt_evict_chunk_check(spec, budget, n_context, err);
}

/* What can only be told when the text is known: sentences, protected spans. */
static int check_text(const struct kvt_spec *spec, const struct kvt_budget *budget, const struct kvt_evict_env *env,
                      struct kvt_err *err)
{
    int sentences = 0;
    for (int i = 0; i < env->n_spans; i++)
        sentences += env->span[3 * i] == KVT_SPAN_SENTENCE;
    if (spec->policy.unit == KVT_UNIT_SENTENCE && !sentences)
        return kvt_fail(err, KVT_EINPUT, "%s keeps whole sentences, and none was found in the context; use unit=chunk",
                        spec->method->name);
    return spec->policy.spans ? check(spec, budget, env, env->n_prompt, env->n_context, err) : 0;
}

/* ---- open and close ---- */

/* When it acts, from what was asked. */
static void plan(struct kvt_evictor *e, const struct kvt_evict_env *env, int branch, const struct kvt_spec *spec, const struct kvt_budget *budget)
{
    const struct kvt_policy *p = &spec->policy;
    struct kvt_budget own = kvt_evict_own_budget(p, budget);
    bool never = never_evicts(spec, budget);
    *e = (struct kvt_evictor){.env = env, .branch = branch, .spec = *spec, .budget = *budget};
    e->sliding = !never && p->schedule != KVT_SCHEDULE_PREFILL;
    e->chunked = !never && p->prefill_chunk > 0;
    if (p->decode_share_set && p->score != KVT_SCORE_NONE) {
        /* a budget in tokens has no share of its own: the one it is of the context */
        e->decode_ppm = p->decode_share >= 0 ? llround(p->decode_share * 1e6)
                      : budget->kind == KVT_BUDGET_KEEP ? budget->keep_ppm
                      : (int64_t)kvt_budget_mean_tokens(budget, env->n_context) * 1000000 / env->n_context;
        e->decode_share = e->decode_ppm < 1000000 || (budget->kind == KVT_BUDGET_MATCH && p->decode_share < 0);
    }
    e->keep_all = never && never_evicts(spec, &own);
}

int kvt_evictor_open(struct kvt_evictor **out, const struct kvt_evict_env *env, int branch, const struct kvt_spec *spec,
                     const struct kvt_budget *budget, struct kvt_err *err)
{
    *out = NULL;
    int rc = check_text(spec, budget, env, err);
    if (rc)
        return rc;
    struct kvt_evictor *e = calloc(1, sizeof *e);
    if (!e)
        return kvt_fail(err, KVT_ENOMEM, "no memory for an evictor");
    plan(e, env, branch, spec, budget);
    const struct kvt_policy *p = &e->spec.policy;
    if (env->probe && env->probe->wants) {
        struct kvt_wants w = {0};
        env->probe->wants(env->probe->self, &w);
        e->decisions = w.decisions;
    }
    e->held = kvt_calloc((size_t)env->L * (size_t)env->G, sizeof *e->held);
    e->last_pos = kvt_calloc((size_t)env->L, sizeof *e->last_pos);
    if (budget->kind == KVT_BUDGET_MATCH)
        e->match = kvt_calloc((size_t)env->L, sizeof *e->match);
    if (p->alloc == KVT_ALLOC_CLASS && (e->whole = malloc((size_t)env->L * (size_t)env->G)))
        memset(e->whole, 1, (size_t)env->L * (size_t)env->G);
    rc = e->held && e->last_pos && (e->whole || p->alloc != KVT_ALLOC_CLASS) && (e->match || budget->kind != KVT_BUDGET_MATCH) ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for an evictor of %d layers", env->L);
    if (!rc && (kvt_evictor_steps(e) || e->chunked))
        rc = kvt_evict_step_open(e, err);
    if (rc)
        kvt_evictor_close(&e);
    *out = e;
    return rc;
}

void kvt_evictor_close(struct kvt_evictor **e)
{
    if (!e || !*e)
        return;
    kvt_evict_step_close(*e);
    free((*e)->match);
    free((*e)->whole);
    free((*e)->held);
    free((*e)->last_pos);
    free(*e);
    *e = NULL;
}

int kvt_evictor_fork(struct kvt_evictor **out, const struct kvt_evictor *e, int branch, struct kvt_err *err)
{
    int rc = kvt_evictor_open(out, e->env, branch, &e->spec, &e->budget, err);
    if (rc)
        return rc;
    struct kvt_evictor *f = *out;
    f->quiet = true;
    f->decode_ppm = e->decode_ppm;
    f->tied = e->tied, f->tied_whole = e->tied_whole;
    if (e->whole)
        memcpy(f->whole, e->whole, (size_t)e->env->L * (size_t)e->env->G);
    if (e->match)
        memcpy(f->match, e->match, (size_t)e->env->L * sizeof *f->match);
    memcpy(f->held, e->held, (size_t)e->env->L * (size_t)e->env->G * sizeof *f->held);
    memcpy(f->last_pos, e->last_pos, (size_t)e->env->L * sizeof *f->last_pos);
    rc = kvt_evict_step_copy(f, e);
    if (rc) {
        kvt_evict_device_fail(e, rc, "copying a branch's state", err);
        kvt_evictor_close(out);
    }
    return rc;
}

const int32_t *kvt_evictor_held(const struct kvt_evictor *e) { return e->held; }

void kvt_evictor_match(struct kvt_evictor *e, const int32_t *held)
{
    int L = e->env->L, G = e->env->G;
    int64_t sum = 0;
    assert(e->match);
    for (int l = 0; l < L; l++) {
        e->match[l] = 0;
        for (int g = 0; g < G; g++)
            e->match[l] += held[l * G + g];
        sum += e->match[l];
    }
    if (e->spec.policy.decode_share < 0)
        e->decode_ppm = sum * 1000000 / ((int64_t)L * G * e->env->n_context);
}

bool kvt_evictor_steps(const struct kvt_evictor *e) { return e->sliding || e->decode_share; }

bool kvt_evictor_slides(const struct kvt_evictor *e) { return e->sliding; }

bool kvt_evictor_wants_row(const struct kvt_evictor *e)
{
    enum kvt_score score = e->spec.policy.score;
    bool window = score == KVT_SCORE_WMASS || score == KVT_SCORE_SQWMASS;
    return e->decode_share || (e->sliding && (score == KVT_SCORE_MASS || score == KVT_SCORE_SQMASS || score == KVT_SCORE_LAST || window));
}

/* ---- work memory of a prefill's end ---- */

static void layout(const struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_carve *dev, struct kvt_carve *host)
{
    size_t L = (size_t)e->env->L, H = (size_t)e->env->H, G = (size_t)e->env->G, R = (size_t)w->R;
    size_t ld = (size_t)w->ld, n = (size_t)w->n, S = (size_t)w->S;
    bool stages = e->spec.policy.critical_ppm > 0, contest = e->spec.policy.leaver == KVT_LEAVES_CONTEST;
    for (int i = 0; i < 2; i++) {
        w->head[i] = kvt_carve(dev, H * ld, sizeof(float));
        w->grp[i] = kvt_carve(dev, G * ld, sizeof(float));
    }
    w->sum = kvt_carve(dev, ld, sizeof(float));
    w->score = kvt_carve(dev, L * R * ld, sizeof(float));
    w->second = stages || contest ? kvt_carve(dev, L * R * ld, sizeof(float)) : NULL;
    w->turn = kvt_carve(dev, contest ? R : 0, sizeof(int32_t));
    w->safe = kvt_carve(dev, contest ? R * S : 0, 1);
    w->unit = kvt_carve(dev, L * R * S, sizeof(float));
    w->threshold = kvt_carve(dev, L * R, sizeof(float));
    w->kept = kvt_carve(dev, L * R * ld, sizeof(int32_t));
    w->n_kept = kvt_carve(dev, L * R, sizeof(int32_t));
    w->budget = kvt_carve(dev, L * R, sizeof(int32_t));
    w->n_live = kvt_carve(dev, L * R, sizeof(int32_t));
    w->first_budget = kvt_carve(dev, L * R, sizeof(int32_t));
    w->total = kvt_carve(dev, L, sizeof(int32_t));
    w->slot = R < G ? kvt_carve(dev, G * ld, sizeof(int32_t)) : NULL;
    w->n_slot = R < G ? kvt_carve(dev, G, sizeof(int32_t)) : NULL;
    w->seg = kvt_carve(dev, S + 1, sizeof(int32_t));
    w->candidate = kvt_carve(dev, S, 1);
    w->protect = kvt_carve(dev, L * R * ld, 1);
    w->reason = kvt_carve(dev, L * R * ld, 1);
    w->first_reason = stages ? kvt_carve(dev, L * R * ld, 1) : NULL;

    w->h_score = kvt_carve(host, G * n, sizeof(float));
    w->h_unit = kvt_carve(host, R * S, sizeof(float));
    w->h_threshold = kvt_carve(host, L * R, sizeof(float));
    w->h_kept = kvt_carve(host, ld, sizeof(int32_t));
    w->h_n_kept = kvt_carve(host, L * R, sizeof(int32_t));
    w->h_budget = kvt_carve(host, L * R, sizeof(int32_t));
    w->h_seg = kvt_carve(host, S + 1, sizeof(int32_t));
    w->h_candidate = kvt_carve(host, S, 1);
    w->h_safe = kvt_carve(host, S, 1);
    w->h_protect = kvt_carve(host, R * ld, 1);
    w->h_reason = kvt_carve(host, G * n, 1);
    w->layer_tok = kvt_carve(host, L, sizeof(int32_t));
    w->layer_slots = kvt_carve(host, L, sizeof(int32_t));
    w->budget_tok = kvt_carve(host, L * G, sizeof(int32_t));
    w->kept_tok = kvt_carve(host, L * G, sizeof(int32_t));
    w->shown_tok = kvt_carve(host, e->env->layer ? 2 * (size_t)e->env->n_layers * G : 0, sizeof(int32_t));
}

static void work_close(const struct kvt_evictor *e, struct kvt_evict_work *w)
{
    if (w->block)
        e->env->ops->free(e->env->dev, w->block);
    free(w->host_block);
}

/* How much there is to choose from. */
static void measure(const struct kvt_evictor *e, struct kvt_evict_work *w, int raw_ld)
{
    const struct kvt_policy *p = &e->spec.policy;
    w->n = e->env->n_context;
    w->ld = raw_ld > w->n ? raw_ld : w->n;
    w->R = p->heads == KVT_HEADS_SHARED ? 1 : e->env->G;
    int before_window = e->env->n_prompt - p->window;
    w->fence = p->keep_window && before_window < w->n ? before_window : w->n;
    w->S = e->keep_all ? 0 : kvt_evict_units(e, NULL, w->fence);
}

void kvt_evictor_bytes(const struct kvt_evict_env *env, const struct kvt_spec *spec, const struct kvt_budget *budget, size_t *held, size_t *work)
{
    struct kvt_evictor e;
    struct kvt_evict_work w = {0};
    struct kvt_carve dev = {0}, host = {0};
    plan(&e, env, 0, spec, budget);
    *held = kvt_evictor_steps(&e) || e.chunked ? kvt_evict_step_bytes(&e) : 0;
    measure(&e, &w, env->n_prompt);
    layout(&e, &w, &dev, &host);
    *work = e.chunked ? 0 : host.used + (e.keep_all ? 0 : dev.used);
}

static int work_open(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw,
                     struct kvt_err *err)
{
    const struct kvt_ops *ops = e->env->ops;
    measure(e, w, raw ? raw->ld : 0);
    struct kvt_carve dev = {0}, host = {0};
    layout(e, w, &dev, &host);
    w->host_block = kvt_calloc(host.used, 1);
    w->block = e->keep_all ? NULL : ops->alloc(e->env->dev, dev.used);
    if (!w->host_block || (!e->keep_all && !w->block)) {
        work_close(e, w);
        return kvt_fail(err, KVT_ENOMEM, "no memory to score %d slots (%zu bytes)", w->n, dev.used + host.used);
    }
    dev = (struct kvt_carve){w->block, 0};
    host = (struct kvt_carve){w->host_block, 0};
    layout(e, w, &dev, &host);
    int rc = 0;
    if (w->S) {
        kvt_evict_units(e, w, w->fence);
        rc = ops->write(e->env->dev, w->seg, w->h_seg, (size_t)(w->S + 1) * sizeof *w->seg);
        if (!rc)
            rc = ops->write(e->env->dev, w->candidate, w->h_candidate, (size_t)w->S);
    }
    for (int r = 0; r < e->env->L * w->R; r++)
        w->h_budget[r] = w->n;
    if (!e->keep_all && !rc)
        rc = ops->write(e->env->dev, w->n_live, w->h_budget, (size_t)e->env->L * (size_t)w->R * sizeof(int32_t));
    if (rc) {
        work_close(e, w);
        return kvt_evict_device_fail(e, rc, "preparing eviction", err);
    }
    return 0;
}

/* ---- prefill's end ---- */

static void note_held(struct kvt_evictor *e, const struct kvt_evict_work *w, int layer)
{
    size_t G = (size_t)e->env->G, at = (size_t)layer * G;
    memcpy(e->held + at, w->kept_tok + at, G * sizeof *e->held);
    e->last_pos[layer] = w->n - 1;
}

/* Compacts the cells of a layer; heads that share a set get copies of it. */
static int compact(struct kvt_evictor *e, struct kvt_evict_work *w, int layer)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    size_t G = (size_t)e->env->G, ld = (size_t)w->ld, cell = (size_t)layer * (size_t)w->R;
    struct kvt_keep_args keep = {.cache = e->env->cache, .branch = e->branch, .layer = kvt_evict_layer(e->env, layer),
                                 .slot = w->kept + cell * ld, .count = w->n_kept + cell, .ld = w->ld};
    int rc = 0;
    if ((size_t)w->R < G) {
        for (size_t g = 0; !rc && g < G; g++) {
            rc = ops->copy(dev, w->slot + g * ld, w->kept + cell * ld, (size_t)w->n * sizeof(int32_t));
            if (!rc)
                rc = ops->copy(dev, w->n_slot + g, w->n_kept + cell, sizeof(int32_t));
        }
        keep.slot = w->slot;
        keep.count = w->n_slot;
    }
    return rc ? rc : ops->cache_keep(dev, &keep);
}

static int keep_everything(struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_err *err)
{
    int rc = 0, cells = e->env->L * e->env->G;
    for (int i = 0; i < cells; i++)
        w->kept_tok[i] = w->budget_tok[i] = w->n;
    for (int l = 0; !rc && l < e->env->L; l++) {
        note_held(e, w, l);
        rc = kvt_evict_report_decision(e, w, l, false, true, err);
    }
    return rc;
}

static int check_raw(const struct kvt_evictor *e, const struct kvt_prefill_scores *raw, struct kvt_err *err)
{
    const struct kvt_policy *p = &e->spec.policy;
    bool per_group, needs = p->score != KVT_SCORE_NONE && p->score != KVT_SCORE_RANDOM && p->score != KVT_SCORE_RECENCY;
    if (p->score == KVT_SCORE_HOST) /* the session has checked the windows */
        return 0;
    if (!needs || e->keep_all || kvt_evict_by_cache(p) || (raw && kvt_evict_raw(p, raw, e->env->H, e->env->G, kvt_evict_layer(e->env, 0), &per_group)))
        return 0;
    assert((p->score == KVT_SCORE_WMASS || p->score == KVT_SCORE_SQMASS || p->score == KVT_SCORE_SQWMASS) &&
           "the session didn't ask for what kvt_spec_needs said");
    return kvt_fail(err, KVT_EUSAGE,
                    "%s: more than %d different windows in one run; let methods share w, or make two runs",
                    e->spec.method->name, KVT_MAX_WINDOWS);
}

/* All layers are scored and selected before any is compacted: totals over layers need all scores. */
static int choose(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw)
{
    size_t L = (size_t)e->env->L, G = (size_t)e->env->G, R = (size_t)w->R, cells = L * R;
    int64_t at = kvt_now_ns();
    int rc = kvt_evict_score_all(e, w, raw);
    at = kvt_times_note(e->env->times, KVT_PART_SCORE, -1, e->branch, at);
    if (!rc)
        rc = kvt_evict_allocate(e, w);
    if (!rc)
        rc = kvt_evict_select(e, w, raw);
    kvt_times_note(e->env->times, KVT_PART_SELECT, -1, e->branch, at);
    if (!rc)
        rc = e->env->ops->read(e->env->dev, w->h_n_kept, w->n_kept, cells * sizeof(int32_t));
    if (!rc)
        rc = e->env->ops->read(e->env->dev, w->h_budget, w->budget, cells * sizeof(int32_t));
    for (size_t i = 0; !rc && i < L * G; i++) {
        size_t cell = i / G * R + (R == 1 ? 0 : i % G);
        w->budget_tok[i] = w->h_budget[cell];
        w->kept_tok[i] = w->h_n_kept[cell];
    }
    return rc;
}

int kvt_evict_prefill(struct kvt_evictor *e, const struct kvt_prefill_scores *raw, struct kvt_err *err)
{
    struct kvt_evict_work w = {0};
    int rc = check_raw(e, raw, err);
    if (rc)
        return rc;
    rc = work_open(e, &w, raw, err);
    if (rc)
        return rc;
    kvt_evict_layers(e, &w);
    if (e->keep_all) {
        rc = keep_everything(e, &w, err);
    } else {
        rc = choose(e, &w, raw);
        if (rc)
            kvt_evict_device_fail(e, rc, "choosing at prefill's end", err);
    }
    for (int l = 0; !rc && !e->keep_all && l < e->env->L; l++) {
        bool all = true;
        for (int g = 0; g < e->env->G; g++)
            all &= w.kept_tok[l * e->env->G + g] == w.n;
        int64_t at = kvt_now_ns();
        rc = all ? 0 : compact(e, &w, l);
        kvt_times_note(e->env->times, KVT_PART_COMPACT, kvt_evict_layer(e->env, l), e->branch, at);
        if (!rc && e->sliding)
            rc = kvt_evict_step_begin(e, &w, raw, l, all);
        if (rc) {
            kvt_evict_device_fail(e, rc, "eviction at prefill's end", err);
            break;
        }
        note_held(e, &w, l);
        rc = kvt_evict_report_decision(e, &w, l, true, w.layer_tok[l] >= w.n, err);
    }
    if (!rc)
        rc = kvt_evict_report_budget(e, &w, err);
    work_close(e, &w);
    return rc;
}
