/* A session: opened from a model and options, and its parts (its prefill is in session_prefill.c, its size in sizes.c). */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "engine/rope.h"
#include "engine/run.h"
#include "kvt/prompt.h"

void kvt_session_progress(struct kvt_session *s, enum kvt_phase phase, int done, int of)
{
    if (s->o.progress)
        s->o.progress(s->o.progress_arg, phase, done, of);
}

int kvt_session_see(struct kvt_session *s, const struct kvt_event *ev, struct kvt_err *err)
{
    int rc = s->o.probe ? s->o.probe->see(s->o.probe->self, ev) : 0;
    return rc ? kvt_fail(err, rc, "the observer stopped the run: %s", kvt_status_text(rc)) : 0;
}

int kvt_session_times(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_times *t = &s->times;
    int n = t->n;
    t->n = 0;
    for (int i = 0; i < n; i++)
        t->at[i].branch = kvt_cell_branch(s, t->at[i].branch);
    return n ? kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_TIMES, .times = { n, t->at, t->lost } }, err) : 0;
}

int kvt_session_phase(struct kvt_session *s, enum kvt_phase phase, int64_t start_ns, int n_tok, struct kvt_err *err)
{
    float last; /* a device may still be at work: whoever reads waits for it */
    int rc = s->x ? s->ops->read(s->dev, &last, s->x, sizeof last) : 0;
    if (rc)
        return kvt_fail(err, rc, "%s", kvt_dev_error(s->dev));
    int64_t dur = kvt_now_ns() - start_ns;
    s->phase_ns[phase] += dur;
    rc = kvt_session_times(s, err);
    return rc ? rc : kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_PHASE,
        .phase = { .phase = phase, .start_ns = start_ns, .dur_ns = dur, .n_tok = n_tok } }, err);
}

int kvt_session_branch_bytes(struct kvt_session *s, int cell, struct kvt_cache_bytes *out, struct kvt_err *err)
{
    int rc = s->ops->cache_bytes(s->dev, s->cache, cell, out);
    return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(s->dev)) : 0;
}

/* ---- what follows from the options ---- */

/* Branches without the oracles, which come last; and the full one. */
static int early_of(const struct kvt_session_opts *o)
{
    int n = o->n_branches;
    while (n && o->branch[n - 1].spec.policy.score == KVT_SCORE_ORACLE)
        n--;
    return 1 + n;
}

/* One pass observes so many windows and no more. */
static int check_windows(const struct kvt_session_opts *o, struct kvt_err *err)
{
    struct kvt_needs needs = { 0 };
    for (int b = 0; b < o->n_branches; b++) {
        const struct kvt_spec *spec = &o->branch[b].spec;
        enum kvt_score score = spec->policy.score;
        bool squares = !spec->policy.prefill_chunk && (score == KVT_SCORE_SQMASS || score == KVT_SCORE_SQWMASS || score == KVT_SCORE_FINCH), found = !kvt_spec_looks(spec) && !squares;
        kvt_spec_needs(spec, &needs);
        for (int i = 0; squares && i < needs.n_squares; i++)
            found |= kvt_evict_same_square(&needs.square[i], &spec->policy);
        for (int i = 0; i < needs.n_windows; i++)
            found |= needs.window[i] == spec->policy.window;
        if (!found)
            return kvt_fail(err, KVT_EUSAGE, "%s: more than %d different windows in one run; let methods share w, or make two runs",
                            spec->canonical, KVT_MAX_WINDOWS);
    }
    return 0;
}

/* A window as long as the run takes nothing away: such a layer is like any other. */
static bool loses(const struct kvt_shape *shape, const struct kvt_session_opts *o, int l)
{
    int window = kvt_layer_window(shape, l);
    return window && window < o->n_prompt + o->n_new;
}

static int layers_of(const struct kvt_shape *shape, const struct kvt_session_opts *o, int32_t *layer)
{
    int n = 0;
    for (int l = 0; l < shape->L; l++)
        if (o->compress_windows || !loses(shape, o, l)) {
            if (layer)
                layer[n] = l;
            n++;
        }
    return n;
}

int kvt_session_layers(const struct kvt_model *m, const struct kvt_session_opts *o, int32_t *layer)
{
    return layers_of(kvt_model_shape(m), o, layer);
}

void kvt_session_windows_text(const struct kvt_model *m, const struct kvt_session_opts *o, char *out, size_t cap)
{
    const struct kvt_shape *s = kvt_model_shape(m);
    bool lost = false;
    int at = snprintf(out, cap, s->window ? "%d tokens in layers" : "none", s->window);
    for (int l = 0, end; s->window && l < s->L; l = end) {
        for (end = l; end < s->L && kvt_layer_window(s, end); end++)
            lost |= loses(s, o, end);
        if (end > l && (size_t)at < cap)
            at += snprintf(out + at, cap - (size_t)at, end > l + 1 ? "%c%d-%d" : "%c%d", strstr(out, "rs ") ? ',' : ' ', l, end - 1);
        end += end == l;
    }
    if (s->window && (size_t)at < cap)
        snprintf(out + at, cap - (size_t)at, "; %s", !lost ? "longer than the run" : o->compress_windows ? "compressed" : "left alone");
}

void kvt_session_rope_text(const struct kvt_model *m, const struct kvt_session_opts *o, char *out, size_t cap)
{
    kvt_rope_text(&kvt_model_shape(m)->rope[0], o->n_prompt + o->n_new, out, cap);
}

/* Somebody has to be there to be compressed. */
static int check_layers(const struct kvt_session_opts *o, const struct kvt_shape *shape, struct kvt_err *err)
{
    for (int b = 0; b < o->n_branches; b++)
        if (o->branch[b].spec.policy.score != KVT_SCORE_NONE && !layers_of(shape, o, NULL))
            return kvt_fail(err, KVT_EINPUT, "every layer of this model sees only the last %d tokens, fewer than the run's %d: nothing is left "
                            "for %s to compress; use --compress-windows", shape->window, o->n_prompt + o->n_new, o->branch[b].spec.method->name);
    return 0;
}

int kvt_opts_check(const struct kvt_session_opts *o, const struct kvt_shape *shape, struct kvt_err *err)
{
    int none = check_layers(o, shape, err);
    if (none)
        return none;
    for (int b = 0; b < o->n_branches; b++)
        if (o->branch[b].spec.policy.window == KVT_WINDOW_QUESTION)
            return kvt_fail(err, KVT_EUSAGE, "%s: its window is as long as the question; say how many rows that is: w=N", o->branch[b].spec.canonical);
    if (o->n_prompt < 2)
        return kvt_fail(err, KVT_EINPUT, "the prompt has %d token(s); at least 2 are needed", o->n_prompt);
    if (o->n_prompt + o->n_new > shape->context_tok)
        return kvt_fail(err, KVT_EINPUT, "prompt of %d tokens + %d new = %d, %d more than the model's context of %d; shorten the prompt or -n",
                        o->n_prompt, o->n_new, o->n_prompt + o->n_new, o->n_prompt + o->n_new - shape->context_tok, shape->context_tok);
    for (int t = 0; t < o->n_prompt; t++) /* a folder's vocabulary may have tokens that the model has no row for */
        if (o->token[t] < 0 || o->token[t] >= shape->V)
            return kvt_fail(err, KVT_EINPUT, "token %d of the prompt is %d, but the model's embedding has %d rows; leave that text out",
                            t, o->token[t], shape->V);
    if (o->protocol != KVT_PROTOCOL_LITERATURE && o->question_start == 0)
        return kvt_fail(err, KVT_EINPUT, "the question is the whole prompt: there is no context to compress; use --protocol literature");
    for (int b = 0; b < early_of(o) - 1; b++)
        if (o->branch[b].spec.policy.score == KVT_SCORE_ORACLE)
            return kvt_fail(err, KVT_EUSAGE, "%s: oracles come after all other branches, because they need what those have seen", o->branch[b].name);
    for (int b = 0; b < o->n_branches; b++) { /* who is followed has evicted before, by a budget of its own */
        const struct kvt_budget *budget = &o->branch[b].budget;
        int of = budget->match - 1;
        if (budget->kind == KVT_BUDGET_MATCH && (of < 0 || of >= o->n_branches || o->branch[of].budget.kind == KVT_BUDGET_MATCH ||
                                                 (of >= early_of(o) - 1 && b < early_of(o) - 1)))
            return kvt_fail(err, KVT_EUSAGE, "%s can't follow %s, which keeps nothing of its own before it; --match a method that is no oracle",
                            o->branch[b].name, of < 0 || of >= o->n_branches ? "a branch that isn't there" : o->branch[of].name);
    }
    for (int b = 0; o->no_full && b < o->n_branches; b++)
        if (!o->branch[b].spec.policy.prefill_chunk)
            return kvt_fail(err, KVT_EUSAGE, "%s needs the full prefill; without a full branch every method prefills in chunks: give it prefill_chunk=N",
                            o->branch[b].spec.canonical);
    if (o->no_full && (o->decode != KVT_DECODE_FREE || !o->n_branches))
        return kvt_fail(err, KVT_EUSAGE, o->n_branches ? "without a full branch there is no text to follow; decode free" :
                        "without a full branch nothing is left to run; name a method");
    if (o->alone && (o->decode != KVT_DECODE_FREE || o->n_branches != 1 || early_of(o) == 1 || o->probe))
        return kvt_fail(err, KVT_EUSAGE, "%s can't run alone: one method, no oracle, decode free, and nobody who watches", o->n_branches ? o->branch[0].name : "no method");
    if ((o->lost_mass || o->output_error) && o->decode == KVT_DECODE_FREE)
        return kvt_fail(err, KVT_EUSAGE, "fidelity compares branches on the full branch's text; decode forced or both");
    if (o->force && o->decode != KVT_DECODE_FORCED)
        return kvt_fail(err, KVT_EUSAGE, "tokens to follow are given: decode forced");
    for (int k = 0; o->force && k < o->n_new; k++)
        if (o->force[k] < 0 || o->force[k] >= shape->V)
            return kvt_fail(err, KVT_EINPUT, "token %d to follow is %d, but the model's embedding has %d rows", k, o->force[k], shape->V);
    return check_windows(o, err);
}

/* Tokens that methods may evict, by protocol (measures.md 1). */
int kvt_opts_context(const struct kvt_session_opts *o)
{
    if (o->protocol == KVT_PROTOCOL_LITERATURE)
        return o->n_prompt;
    if (o->question_start > 0)
        return o->question_start;
    return o->n_prompt > o->window ? o->n_prompt - o->window : 1;
}

int kvt_opts_prefill(const struct kvt_session_opts *o)
{
    return o->protocol == KVT_PROTOCOL_HIDDEN ? kvt_opts_context(o) : o->n_prompt;
}

/* Streams that may run at once beside the full branch's, of so many branches. */
int kvt_opts_streams(const struct kvt_session_opts *o, int branches)
{
    return 1 + branches * (o->decode == KVT_DECODE_BOTH ? 2 : 1);
}

/* Streams of the larger pass. */
static int streams_at_once(const struct kvt_session_opts *o)
{
    int early = early_of(o) - 1, late = o->n_branches - early;
    return kvt_opts_streams(o, early > late ? early : late);
}

/* What the methods rank by that sums of rows can't be made of afterwards, in the registry's own settings. */
static void need_for_replay(const struct kvt_session_opts *o, struct kvt_needs *needs)
{
    int question = o->question_start >= 0 ? o->n_prompt - o->question_start : o->window;
    const struct kvt_square square[] = { { .window = 0 }, { .window = 8 }, { .window = question, .by_pos = true } };
    needs->mass = needs->last = needs->max = needs->out_norms = true;
    for (int i = 0; i < o->n_shots; i++)
        needs->later |= o->shot[2 * i + 1] <= kvt_opts_context(o);
    for (size_t i = 0; i < sizeof square / sizeof *square; i++) {
        bool found = square[i].window >= kvt_opts_prefill(o);
        for (int j = 0; j < needs->n_squares && !found; j++)
            found = needs->square[j].window == square[i].window && !needs->square[j].distance && needs->square[j].by_pos == square[i].by_pos;
        if (!found && needs->n_squares < KVT_MAX_WINDOWS)
            needs->square[needs->n_squares++] = square[i];
    }
}

void kvt_opts_needs(const struct kvt_session_opts *o, const struct kvt_wants *w, struct kvt_needs *needs)
{
    memset(needs, 0, sizeof *needs);
    for (int b = 0; b < o->n_branches; b++)
        kvt_spec_needs(&o->branch[b].spec, needs);
    if (w->replay)
        need_for_replay(o, needs);
    if (w->scores && !needs->n_windows && o->window > 0)
        needs->window[needs->n_windows++] = o->window;
}

int kvt_session_windows(const struct kvt_session_opts *o, const struct kvt_wants *wants, int window[KVT_MAX_WINDOWS])
{
    struct kvt_needs needs;
    kvt_opts_needs(o, wants, &needs);
    memcpy(window, needs.window, sizeof needs.window);
    return needs.n_windows;
}

int kvt_session_squares(const struct kvt_session_opts *o, const struct kvt_wants *wants, struct kvt_square square[KVT_MAX_WINDOWS])
{
    struct kvt_needs needs;
    if (!wants->replay)
        return 0;
    kvt_opts_needs(o, wants, &needs);
    memcpy(square, needs.square, sizeof needs.square);
    return needs.n_squares;
}

static struct kvt_wants wants_of(const struct kvt_session_opts *o)
{
    struct kvt_wants w = { .n_sink = 4 };
    if (o->probe)
        o->probe->wants(o->probe->self, &w);
    return w;
}

int kvt_opts_rows(const struct kvt_session_opts *o)
{
    int question = o->n_prompt - kvt_opts_context(o);
    return streams_at_once(o) * (question > 0 ? question : 1);
}

int kvt_opts_run(const struct kvt_session_opts *o)
{
    int rows = kvt_opts_rows(o), most = rows > kvt_opts_prefill(o) ? rows : kvt_opts_prefill(o);
    return most < o->ops->run ? most : o->ops->run;
}

/* K and V of one slot of one kv head. */
int64_t kvt_opts_slot_bytes(const struct kvt_shape *s, const struct kvt_session_opts *o)
{
    return (int64_t)s->D * 2 * kvt_dtypes[o->kv_type].block_bytes;
}

/* ---- open and close ---- */

static void evict_wants(void *self, struct kvt_wants *w)
{
    struct kvt_session *s = self;
    if (s->o.probe)
        s->o.probe->wants(s->o.probe->self, w);
}

static int evict_see(void *self, const struct kvt_event *ev)
{
    struct kvt_session *s = self;
    if (ev->kind == KVT_EV_BUDGET) {
        struct kvt_branch *b = &s->branch[ev->budget.branch - s->cell0];
        b->effective_keep = ev->budget.effective_keep;
        b->fallback |= ev->budget.fallback;
    }
    return s->o.probe ? s->o.probe->see(s->o.probe->self, ev) : 0;
}

static int copy_inputs(struct kvt_session *s)
{
    const struct kvt_session_opts *o = &s->o;
    s->token = kvt_calloc((size_t)o->n_prompt, sizeof *s->token);
    s->shot = kvt_calloc((size_t)o->n_shots * 2, sizeof *s->shot);
    s->span = kvt_calloc((size_t)o->n_spans * 3, sizeof *s->span);
    s->turn = kvt_calloc((size_t)s->shape->L, sizeof *s->turn);
    s->layer = kvt_calloc((size_t)s->shape->L, sizeof *s->layer);
    s->branch_opts = kvt_calloc((size_t)o->n_branches, sizeof *s->branch_opts);
    s->kept = kvt_calloc((size_t)s->n * (size_t)s->shape->L * (size_t)s->shape->G, sizeof *s->kept);
    if (!s->layer || !s->kept || !s->branch_opts || !s->token || !s->shot || !s->span || !s->turn)
        return KVT_ENOMEM;
    memcpy(s->token, o->token, (size_t)o->n_prompt * sizeof *s->token);
    if (o->n_branches)
        memcpy(s->branch_opts, o->branch, (size_t)o->n_branches * sizeof *s->branch_opts);
    s->o.branch = s->branch_opts;
    s->o.token = s->token;
    for (int i = 0; i < o->n_shots; i++)
        if (o->shot[2 * i + 1] <= s->n_context)
            memcpy(s->shot + 2 * s->env.n_shots++, o->shot + 2 * i, 2 * sizeof *s->shot);
    for (int i = 0; i < o->n_spans; i++) {
        const int32_t *from = o->span + 3 * i;
        bool cut = from[2] > s->n_context; /* of a sentence nothing is left then: it's no unit any more */
        if (from[1] < s->n_context && from[1] < from[2] && !(cut && from[0] == KVT_SPAN_SENTENCE))
            memcpy(s->span + 3 * s->env.n_spans++, (int32_t[]){ from[0], from[1], cut ? s->n_context : from[2] }, 3 * sizeof *s->span);
    }
    return 0;
}

static int host_arrays(struct kvt_session *s)
{
    bool ok = true;
    int rows = s->rows_cap, m = s->max_rows, n = s->n;
#define GET(p, count) (ok = ((p) = kvt_calloc((size_t)(count), sizeof *(p))) != NULL && ok)
    GET(s->r_token, rows); GET(s->r_branch, rows); GET(s->r_pos, rows); GET(s->r_at, rows);
    GET(s->r_renumber, rows); GET(s->r_stream, rows);
    GET(s->argmax, m); GET(s->base, m); GET(s->target, m);
    GET(s->logprob, m); GET(s->top_logprob, m); GET(s->kl, m); GET(s->entropy, m);
    GET(s->ev_token, n); GET(s->ev_argmax, n); GET(s->ev_logprob, n); GET(s->ev_kl, n); GET(s->ev_entropy, n);
    GET(s->ev_alone, n); GET(s->ev_own, n);
#undef GET
    return ok ? 0 : KVT_ENOMEM;
}

static int open_branches(struct kvt_session *s, struct kvt_err *err)
{
    s->branch = kvt_calloc((size_t)s->n, sizeof *s->branch);
    if (!s->branch)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", s->n);
    for (int b = 0; b < s->n; b++) {
        const struct kvt_branch_opts *bo = b ? &s->o.branch[b - 1] : NULL;
        if (kvt_branch_open(&s->branch[b], bo ? bo->name : "full", bo && bo->spec.policy.renumber, s->o.n_new))
            return kvt_fail(err, KVT_ENOMEM, "no memory for branch %d", b);
        s->branch[b].ended = !b && s->no_full;
        struct kvt_budget budget = bo ? bo->budget : (struct kvt_budget){ .keep_ppm = 1000000 };
        int rc = kvt_budget_resolve(&budget, s->env.L, s->shape->G, kvt_opts_slot_bytes(s->shape, &s->o), err);
        bool file = bo && bo->spec.policy.score == KVT_SCORE_FILE;
        if (!rc && file && (!bo->given || (bo->n_given != s->n_context && bo->n_given != s->o.n_prompt)))
            rc = kvt_fail(err, KVT_EINPUT, "%s: it has scores of %d tokens; the context has %d, the whole prompt %d", bo->spec.policy.path,
                          bo->given ? bo->n_given : 0, s->n_context, s->o.n_prompt);
        if (!rc && bo)
            rc = kvt_evict_check(&bo->spec, &budget, s->n_prefill, s->n_context, s->env.n_shots, err);
        bool classes = bo && bo->spec.policy.alloc == KVT_ALLOC_CLASS;
        if (!rc && classes && (!bo->given || bo->n_given != 1))
            rc = kvt_fail(err, KVT_EINPUT, "%s: no gates of heads; give path=FILE, a line for each layer with a number for each kv head", bo->spec.method->name);
        if (!rc && bo)
            rc = kvt_evictor_open(&s->branch[b].forced.evictor, &s->env, kvt_branch_cell(s, b), &bo->spec, &budget, err);
        if (!rc && classes)
            rc = kvt_evictor_classes(s->branch[b].forced.evictor, bo->given, err);
        if (rc)
            return rc;
        if (bo && kvt_evictor_wants_row(s->branch[b].forced.evictor))
            s->n_blocks += s->o.decode == KVT_DECODE_BOTH ? 2 : 1;
    }
    return 0;
}

static void *device_floats(struct kvt_session *s, size_t a, size_t b)
{
    size_t count, bytes;
    return kvt_mul_size(a ? a : 1, b, &count) && kvt_mul_size(count, sizeof(float), &bytes) ? s->ops->alloc(s->dev, bytes) : NULL;
}

static int open_parts(struct kvt_session *s, struct kvt_err *err)
{
    const struct kvt_shape *shape = s->shape;
    struct kvt_wants w = wants_of(&s->o);
    struct kvt_needs needs;
    kvt_opts_needs(&s->o, &w, &needs);
    /* a cell for each branch, one for its free-running text, one that keeps the context as prefilled */
    int cells = s->n + (s->o.decode == KVT_DECODE_BOTH ? s->n - 1 : 0);
    s->snapshot = s->n_early < s->n ? cells++ : -1;
    int rc = kvt_kvzip_plan(s, err);
    if (rc)
        return rc;
    s->kvzip.cell = s->shared ? s->shared->spare : cells;
    cells += s->kvzip.n ? 2 : 0;
    int repeated = s->kvzip.n ? s->n_context + s->kvzip.rows : 0, n_tok = s->o.n_prompt + s->o.n_new;
    struct kvt_cache_opts co = { .L = shape->L, .G = shape->G, .D = shape->D, .max_branch = cells,
                                 .max_slots = repeated > s->max_slots ? repeated : s->max_slots, .type = s->o.kv_type };
    s->times.where = (struct kvt_where){ .phase = -1, .layer = -1 };
    if (s->shared)
        s->dev = s->shared->dev, s->cache = s->shared->cache;
    else
        rc = s->ops->open(&s->dev, &(struct kvt_dev_opts){ .threads = s->o.threads, .no_graphs = s->o.no_graphs, .where = &s->times.where }, err);
    if (!rc && !s->shared)
        rc = s->ops->cache_open(s->dev, &s->cache, &co, err);
    if (!rc && !s->shared)
        rc = kvt_forward_open(s->forward, shape, kvt_model_weights(s->model), s->ops, s->dev, s->cache, s->o.compute, kvt_opts_run(&s->o),
                              n_tok, repeated - n_tok > needs.ahead ? repeated - n_tok : needs.ahead, err);
    if (!rc)
        rc = kvt_observer_open(&s->observer, s->ops, s->dev, s->o.probe, shape->L, shape->H, s->n_prefill, &needs, err);
    if (!rc)
        rc = kvt_observer_vectors(&s->observer, shape->G, shape->D, kvt_opts_run(&s->o), needs.ahead > 0, err);
    if (rc)
        return rc;
    s->observer.shape = shape;
    s->observer.see.unit = s->shot, s->observer.see.n_units = s->env.n_shots;
    s->forward->interrupted = s->o.interrupted;
    s->forward->times = s->env.times = s->shared ? s->shared->times : &s->times;
    s->evict_probe = (struct kvt_probe){ .self = s, .wants = evict_wants, .see = evict_see };
    s->env.ops = s->ops, s->env.dev = s->dev, s->env.cache = s->cache;
    s->env.L = layers_of(shape, &s->o, s->layer), s->env.H = shape->H, s->env.G = shape->G, s->env.D = shape->D;
    s->env.layer = s->env.L < shape->L ? s->layer : NULL, s->env.n_layers = shape->L;
    if (!s->env.L) /* only branches that keep everything */
        s->env.L = shape->L, s->env.layer = NULL;
    s->env.max_slots = s->max_slots, s->env.probe = &s->evict_probe;
    s->env.future = kvt_oracle_left, s->env.future_self = s;
    s->env.n_prompt = s->n_prefill, s->env.n_context = s->n_context, s->env.shot = s->shot, s->env.span = s->span;
    for (int l = 0; l < shape->L; l++) {
        const struct kvt_rope *rope = kvt_forward_rope(s->forward, l);
        s->turn[l] = (struct kvt_turn){.rope = *rope, .scale = shape->attn_scale * (rope->rot ? s->forward->rope_scale[rope - s->forward->rope] : 1)};
    }
    s->env.turn = s->turn;
    rc = open_branches(s, err);
    if (rc)
        return rc;
    int unit = shape->L * (8 + 3 * s->max_rows) + 64; /* what a step, or a layer of the prefill, can bring */
    s->times.cap = s->shared ? 0 : unit > 1 << 14 ? unit : 1 << 14;
    s->times.at = kvt_calloc((size_t)s->times.cap, sizeof *s->times.at);
    if (!s->times.at)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d times", s->times.cap);
    s->x_prefill = device_floats(s, s->o.no_full ? 1 : (size_t)s->n_prefill, (size_t)shape->E);
    s->x = device_floats(s, (size_t)s->rows_cap, (size_t)shape->E);
    s->logits = device_floats(s, (size_t)s->max_rows, (size_t)shape->V);
    s->full_row = s->o.lost_mass || s->o.output_error || s->n_early < s->n || w.rows || w.decode;
    s->n_sink = w.n_sink;
    s->rows.question = w.replay ? s->o.n_prompt - s->n_context : 0;
    int full_rows = s->rows.question > s->full_row ? s->rows.question : s->full_row;
    s->row = device_floats(s, (size_t)(s->n_blocks + full_rows) * (size_t)shape->H, (size_t)s->max_slots);
    rc = kvt_fidelity_open(s, err);
    if (!rc)
        rc = kvt_rows_open(s, &w, err);
    if (!rc)
        rc = kvt_decode_rows_open(s, &w, err);
    if (!rc)
        rc = kvt_oracle_open(s, err);
    if (!rc)
        rc = kvt_kvzip_open(s, err);
    if (!rc)
        rc = kvt_chunked_open(s, err);
    if (!rc && needs.given) {
        size_t count = (size_t)shape->L * (size_t)shape->G * (size_t)s->n_prefill;
        s->given = s->ops->alloc(s->dev, count * sizeof *s->given);
        s->given_host = kvt_calloc(count, sizeof *s->given_host);
        if (!s->given || !s->given_host)
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for the scores of %d tokens", s->n_prefill);
    }
    if (!rc && needs.out_norms && !(s->out_norms = device_floats(s, (size_t)shape->L * (size_t)shape->G, (size_t)s->n_prefill)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the norms of %d tokens", s->n_prefill);
    if (rc)
        return rc;
    if (!s->x_prefill || !s->x || !s->logits || !s->row || host_arrays(s))
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d rows of logits and hidden states", s->max_rows);
    s->decode_see = (struct kvt_see){ .row_at = s->r_at, .row = s->row, .row_ld = s->max_slots };
    return 0;
}

int kvt_session_open(struct kvt_session **out, const struct kvt_model *m, const struct kvt_session_opts *o, struct kvt_err *err)
{
    return kvt_session_open_in(out, m, o, NULL, err);
}

int kvt_session_open_in(struct kvt_session **out, const struct kvt_model *m, const struct kvt_session_opts *o, const struct kvt_shared *shared, struct kvt_err *err)
{
    *out = NULL;
    int rc = kvt_opts_check(o, kvt_model_shape(m), err);
    if (rc)
        return rc;
    struct kvt_session *s = kvt_calloc(1, sizeof *s);
    if (!s)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a session");
    s->o = *o, s->model = m, s->shape = kvt_model_shape(m), s->ops = o->ops;
    s->shared = shared, s->forward = shared ? shared->forward : &s->own_forward, s->cell0 = shared ? shared->cell - 1 : 0;
    s->no_full = o->no_full || o->alone;
    s->n = 1 + o->n_branches;
    s->n_context = kvt_opts_context(o), s->n_prefill = kvt_opts_prefill(o);
    s->n_early = s->hi = early_of(o), s->lo = 1;
    s->early_rows = kvt_opts_streams(o, s->n_early - 1);
    s->max_rows = s->early_rows + (s->n_early < s->n ? kvt_opts_streams(o, s->n - s->n_early) : 0);
    s->rows_cap = kvt_opts_rows(o);
    s->max_slots = shared ? shared->max_slots : o->n_prompt + o->n_new;
    rc = copy_inputs(s);
    if (rc)
        kvt_fail(err, rc, "no memory for %d tokens", o->n_prompt);
    else
        rc = open_parts(s, err);
    if (rc)
        kvt_session_close(&s);
    *out = s;
    return rc;
}

void kvt_session_shed(struct kvt_session *s)
{
    void *own[] = { s->x_prefill, s->x, s->logits, s->row, s->given, s->out_norms };
    kvt_kvzip_close(s);
    free(s->given_host);
    s->given_host = NULL;
    if (!s->dev)
        return;
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (own[i])
            s->ops->free(s->dev, own[i]);
    s->x_prefill = s->x = s->logits = s->row = s->given = s->out_norms = NULL;
    kvt_chunked_close(s);
    kvt_observer_close(&s->observer);
}

void kvt_session_close(struct kvt_session **session)
{
    struct kvt_session *s = session ? *session : NULL;
    if (!s)
        return;
    for (int b = 0; s->branch && b < s->n; b++)
        kvt_branch_close(&s->branch[b]);
    kvt_session_shed(s);
    if (s->dev) {
        kvt_fidelity_close(s);
        kvt_oracle_close(s);
        kvt_rows_close(s);
        kvt_decode_rows_close(s);
    }
    if (s->dev && !s->shared) {
        kvt_forward_close(s->forward);
        s->ops->cache_close(s->dev, &s->cache);
        s->ops->close(&s->dev);
    }
    void *own[] = { s->branch, s->layer, s->branch_opts, s->kept, s->token, s->shot, s->span, s->turn, s->r_token, s->r_branch, s->r_pos, s->r_at, s->r_renumber, s->r_stream,
                    s->argmax, s->base, s->target, s->logprob, s->top_logprob, s->kl, s->entropy, s->ev_token, s->ev_argmax,
                    s->ev_logprob, s->ev_kl, s->ev_entropy, s->ev_alone, s->ev_own, s->times.at, s };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    *session = NULL;
}
