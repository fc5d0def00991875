/* The evictor: opened for each branch, acts at prefill's end over all layers, and reports. */
#include "engine/evict_state.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

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
        if (needs->square[i].window == window && needs->square[i].distance == p->distance)
            return;
    if (needs->n_squares < KVT_MAX_WINDOWS)
        needs->square[needs->n_squares++] = (struct kvt_square){window, p->distance};
}

void kvt_spec_needs(const struct kvt_spec *spec, struct kvt_needs *needs)
{
    const struct kvt_policy *p = &spec->policy;
    needs->wov |= p->critical_ppm > 0;
    switch (p->score) {
    case KVT_SCORE_MASS: needs->mass = true; break;
    case KVT_SCORE_LAST: needs->last = true; break;
    case KVT_SCORE_WMASS:
        for (int i = 0; i < needs->n_windows; i++)
            if (needs->window[i] == p->window)
                return;
        if (needs->n_windows < KVT_MAX_WINDOWS) /* one too many: the session says so before it runs */
            needs->window[needs->n_windows++] = p->window;
        break;
    case KVT_SCORE_SQMASS: need_square(p, 0, needs); break;
    case KVT_SCORE_SQWMASS: need_square(p, p->window, needs); break;
    case KVT_SCORE_MAX: needs->max = true; break;
    case KVT_SCORE_LATER: needs->later = true; break;
    case KVT_SCORE_KNORM: needs->knorm = true; break;
    case KVT_SCORE_KEYDIFF: needs->keydiff = true; break;
    case KVT_SCORE_LAGKV: needs->lagkv = true; break;
    case KVT_SCORE_EXPECTED: needs->expected = true; break;
    case KVT_SCORE_KVZIP:
    case KVT_SCORE_FILE:
    case KVT_SCORE_ORACLE: needs->given = true; break;
    case KVT_SCORE_NONE:
    case KVT_SCORE_RANDOM:
    case KVT_SCORE_RECENCY: break;
    }
}

static bool never_evicts(const struct kvt_spec *spec, const struct kvt_budget *budget)
{
    return spec->policy.score == KVT_SCORE_NONE || (budget->kind == KVT_BUDGET_KEEP && budget->keep_ppm >= 1000000);
}

int kvt_evict_protect(const struct kvt_policy *p, int n_prompt, int n, int budget, uint8_t *map)
{
    int recent = p->recent < 0 ? (budget + 1) / 2 : p->recent, count = 0;
    /* kvpress's ChunkKV protects nothing: its window wins by its score */
    bool window = p->keep_window && !(p->unit == KVT_UNIT_CHUNK && p->chunk_count == KVT_COUNT_KVPRESS);
    for (int j = 0; j < n; j++) {
        bool newest = (window && j >= n_prompt - p->window) || j >= n - recent;
        int why = j < p->sinks ? KVT_KEPT_PROTECTED : newest ? KVT_KEPT_WINDOW : 0;
        if (map)
            map[j] = (uint8_t)why;
        count += why != 0;
    }
    return count;
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
    bool looks = p->score == KVT_SCORE_WMASS || p->keep_window;
    if (looks && p->window >= n_prompt)
        return kvt_fail(err, KVT_EINPUT,
                        "%s: the window of %d rows doesn't leave any of the prompt's %d tokens; use w=%d or less", name,
                        p->window, n_prompt, n_prompt > 1 ? n_prompt - 1 : 1);
    if (never_evicts(spec, budget) || p->unit == KVT_UNIT_SHOT)
        return 0; /* of shots, what stays outside them depends on the prompt: none may fit, which is reported */
    int tok = kvt_budget_tokens(budget, n_context), kept = kvt_evict_protect(p, n_prompt, n_context, tok, NULL);
    int least = kept + (p->score == KVT_SCORE_RECENCY || p->unit == KVT_UNIT_CHUNK);
    if (tok >= least || tok >= n_context)
        return 0;
    double share = least < n_context ? ceil(100.0 * least / n_context) : 100;
    return kvt_fail(err, KVT_EINPUT,
                    "%s: a budget of %d of %d context tokens is below the %d that it needs (%d protected: sinks %d, "
                    "window %d); keep %.0f %% or --tokens %d, or protect less",
                    name, tok, n_context, least, kept, p->sinks, p->keep_window ? p->window : 0, share, least);
}

/* ---- open and close ---- */

int kvt_evictor_open(struct kvt_evictor **out, const struct kvt_evict_env *env, int branch, const struct kvt_spec *spec,
                     const struct kvt_budget *budget, struct kvt_err *err)
{
    struct kvt_evictor *e = calloc(1, sizeof *e);
    if (!e)
        return kvt_fail(err, KVT_ENOMEM, "no memory for an evictor");
    e->env = env;
    e->branch = branch;
    e->spec = *spec;
    e->budget = *budget;
    const struct kvt_policy *p = &e->spec.policy;
    bool never = never_evicts(spec, budget);
    e->sliding = !never && p->schedule == KVT_SCHEDULE_STEP;
    if (p->decode_share_set && p->score != KVT_SCORE_NONE) {
        /* a budget in tokens has no share of its own: the one it is of the context */
        e->decode_ppm = p->decode_share >= 0 ? llround(p->decode_share * 1e6)
                      : budget->kind == KVT_BUDGET_KEEP ? budget->keep_ppm
                      : (int64_t)kvt_budget_tokens(budget, env->n_context) * 1000000 / env->n_context;
        e->decode_share = e->decode_ppm < 1000000;
    }
    e->keep_all = never;
    if (env->probe && env->probe->wants) {
        struct kvt_wants w = {0};
        env->probe->wants(env->probe->self, &w);
        e->decisions = w.decisions;
    }
    e->held = kvt_calloc((size_t)env->L * (size_t)env->G, sizeof *e->held);
    e->last_pos = kvt_calloc((size_t)env->L, sizeof *e->last_pos);
    int rc = e->held && e->last_pos ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for an evictor of %d layers", env->L);
    if (!rc && kvt_evictor_steps(e))
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
    memcpy(f->held, e->held, (size_t)e->env->L * (size_t)e->env->G * sizeof *f->held);
    memcpy(f->last_pos, e->last_pos, (size_t)e->env->L * sizeof *f->last_pos);
    rc = kvt_evict_step_copy(f, e);
    if (rc) {
        kvt_evict_device_fail(e, rc, "copying a branch's state", err);
        kvt_evictor_close(out);
    }
    return rc;
}

bool kvt_evictor_steps(const struct kvt_evictor *e) { return e->sliding || e->decode_share; }

bool kvt_evictor_slides(const struct kvt_evictor *e) { return e->sliding; }

bool kvt_evictor_wants_row(const struct kvt_evictor *e)
{
    return e->decode_share || (e->sliding && e->spec.policy.score == KVT_SCORE_MASS);
}

/* ---- work memory of a prefill's end ---- */

static void layout(const struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_carve *dev, struct kvt_carve *host)
{
    size_t L = (size_t)e->env->L, H = (size_t)e->env->H, G = (size_t)e->env->G;
    size_t ld = (size_t)w->ld, n = (size_t)w->n, S = (size_t)w->S;
    for (int i = 0; i < 2; i++) {
        w->head[i] = kvt_carve(dev, H * ld, sizeof(float));
        w->grp[i] = kvt_carve(dev, G * ld, sizeof(float));
    }
    w->sum = kvt_carve(dev, ld, sizeof(float));
    w->layers = e->spec.policy.scope == KVT_SCOPE_ALL_LAYERS ? kvt_carve(dev, G * ld, sizeof(float)) : NULL;
    w->unit = kvt_carve(dev, G * S, sizeof(float));
    w->threshold = kvt_carve(dev, G, sizeof(float));
    w->kept = kvt_carve(dev, G * ld, sizeof(int32_t));
    w->n_kept = kvt_carve(dev, G, sizeof(int32_t));
    w->budget = kvt_carve(dev, G, sizeof(int32_t));
    w->n_live = kvt_carve(dev, G, sizeof(int32_t));
    w->seg = kvt_carve(dev, S + 1, sizeof(int32_t));
    w->candidate = kvt_carve(dev, S, 1);
    w->protect = kvt_carve(dev, G * ld, 1);
    w->reason = kvt_carve(dev, G * ld, 1);

    w->h_score = kvt_carve(host, G * n, sizeof(float));
    w->h_unit = kvt_carve(host, G * S, sizeof(float));
    w->h_threshold = kvt_carve(host, G, sizeof(float));
    w->h_kept = kvt_carve(host, ld, sizeof(int32_t));
    w->h_n_kept = kvt_carve(host, G, sizeof(int32_t));
    w->h_seg = kvt_carve(host, S + 1, sizeof(int32_t));
    w->h_candidate = kvt_carve(host, S, 1);
    w->h_protect = kvt_carve(host, n, 1);
    w->h_reason = kvt_carve(host, G * n, 1);
    w->layer_tok = kvt_carve(host, L, sizeof(int32_t));
    w->budget_tok = kvt_carve(host, L * G, sizeof(int32_t));
    w->kept_tok = kvt_carve(host, L * G, sizeof(int32_t));
}

static void work_close(const struct kvt_evictor *e, struct kvt_evict_work *w)
{
    if (w->block)
        e->env->ops->free(e->env->dev, w->block);
    free(w->host_block);
}

static int work_open(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw,
                     struct kvt_err *err)
{
    const struct kvt_policy *p = &e->spec.policy;
    const struct kvt_ops *ops = e->env->ops;
    w->n = e->env->n_context;
    w->ld = raw && raw->ld > w->n ? raw->ld : w->n;
    w->R = p->heads == KVT_HEADS_SHARED ? 1 : e->env->G;
    int before_window = e->env->n_prompt - p->window;
    w->fence = p->keep_window && before_window < w->n ? before_window : w->n;
    w->last_budget = -1;
    w->S = e->keep_all ? 0 : kvt_evict_units(e, NULL, w->fence);
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
    for (int r = 0; !e->keep_all && !rc && r < w->R; r++)
        rc = ops->write(e->env->dev, w->n_live + r, &w->n, sizeof(int32_t));
    if (rc) {
        work_close(e, w);
        return kvt_evict_device_fail(e, rc, "preparing eviction", err);
    }
    return 0;
}

/* ---- what each layer is given ---- */

static void allocate(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    const struct kvt_policy *p = &e->spec.policy;
    int L = e->env->L, n = w->n, tok = e->keep_all ? n : kvt_budget_tokens(&e->budget, n);
    for (int l = 0; l < L; l++)
        w->layer_tok[l] = tok;
    if (e->keep_all || tok >= n || p->alloc == KVT_ALLOC_UNIFORM || !e->spec.method->layer_budget)
        return;
    struct kvt_layer_ask ask = {
        .L = L, .n = n, .total_tok = tok, .protect_tok = kvt_evict_protect(p, e->env->n_prompt, n, tok, NULL),
        .total_real = e->budget.kind == KVT_BUDGET_KEEP ? (double)e->budget.keep_ppm * n / 1e6 : tok,
    };
    w->fallback = e->spec.method->layer_budget(p, &ask, w->layer_tok, w->note, sizeof w->note) == 1;
    for (int l = 0; l < L; l++)
        w->layer_tok[l] = w->layer_tok[l] > n ? n : w->layer_tok[l] < 1 ? 1 : w->layer_tok[l];
}

/* ---- reports ---- */

static int see(const struct kvt_evictor *e, const struct kvt_event *ev)
{
    return e->env->probe && !e->quiet ? e->env->probe->see(e->env->probe->self, ev) : 0;
}

/* Reads a layer's decision into w's host arrays: scores as ranked, NaN where nothing was. */
static int read_decision(struct kvt_evictor *e, struct kvt_evict_work *w, const float *score, bool all)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    size_t n = (size_t)w->n, ld = (size_t)w->ld, G = (size_t)e->env->G, R = (size_t)w->R;
    int rc = 0;
    for (size_t r = 0; !rc && r < R; r++) {
        float *out = w->h_score + r * n;
        if (!score) {
            for (size_t j = 0; j < n; j++)
                out[j] = NAN;
        } else if (w->S) {
            rc = ops->read(dev, w->h_unit + r * (size_t)w->S, w->unit + r * (size_t)w->S, (size_t)w->S * sizeof(float));
            for (size_t j = 0; j < n; j++)
                out[j] = NAN;
            for (int s = 0; s < w->S; s++)
                for (int j = w->h_seg[s]; w->h_candidate[s] && j < w->h_seg[s + 1]; j++)
                    out[j] = w->h_protect[j] ? NAN : w->h_unit[r * (size_t)w->S + (size_t)s];
        } else {
            rc = ops->read(dev, out, score + r * ld, n * sizeof(float));
            for (size_t j = 0; j < n; j++)
                out[j] = w->h_protect[j] ? NAN : out[j];
        }
        w->h_threshold[r] = INFINITY;
        if (all)
            memset(w->h_reason + r * n, KVT_KEPT_ALL, n);
        else if (!rc)
            rc = ops->read(dev, w->h_reason + r * n, w->reason + r * ld, n);
    }
    if (!rc && !all)
        rc = ops->read(dev, w->h_threshold, w->threshold, R * sizeof(float));
    for (size_t g = R; g < G; g++)
        memcpy(w->h_reason + g * n, w->h_reason, n);
    return rc;
}

static int report_decision(struct kvt_evictor *e, struct kvt_evict_work *w, const float *score, int layer, bool all,
                           struct kvt_err *err)
{
    if (!e->decisions || e->quiet)
        return 0;
    int rc = read_decision(e, w, score, all);
    if (rc)
        return kvt_evict_device_fail(e, rc, "reading a decision", err);
    struct kvt_event ev = {.kind = KVT_EV_DECISION,
                           .decision = {.branch = e->branch, .layer = layer, .n = w->n, .R = w->R, .score = w->h_score,
                                        .threshold = w->h_threshold, .reason = w->h_reason}};
    rc = see(e, &ev);
    return rc ? kvt_fail(err, rc, "the run was stopped by what records it") : 0;
}

static int report_budget(struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_err *err)
{
    int64_t cells = (int64_t)e->env->L * e->env->G, kept = 0;
    for (int64_t i = 0; i < cells; i++)
        kept += w->kept_tok[i];
    struct kvt_event ev = {
        .kind = KVT_EV_BUDGET,
        .budget = {.branch = e->branch,
                   .asked_keep = e->budget.kind == KVT_BUDGET_KEEP ? (double)e->budget.keep_ppm / 1e6 : NAN,
                   .effective_keep = (double)kept / (double)(cells * w->n),
                   .kept_slots = kept,
                   .context_slots = cells * w->n,
                   .budget_tok = w->budget_tok,
                   .kept_tok = w->kept_tok,
                   .fallback = w->fallback,
                   .note = w->note}};
    int rc = see(e, &ev);
    return rc ? kvt_fail(err, rc, "the run was stopped by what records it") : 0;
}

/* ---- prefill's end ---- */

/* One layer: score, select, compact, note what is held. *score is what was ranked, for the report. */
static int evict_layer(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, int layer,
                       float *shared, float **score, bool *all)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    size_t G = (size_t)e->env->G, ld = (size_t)w->ld;
    *score = shared;
    int rc = shared ? 0 : kvt_evict_score(e, w, raw, layer, score);
    *all = w->layer_tok[layer] >= w->n;
    struct kvt_segment_mean_args units = {.in = *score, .seg = w->seg, .out = w->unit, .R = w->R, .ld = w->ld,
                                          .S = w->S, .how = e->spec.policy.unit_reduce};
    struct kvt_keep_args keep = {.cache = e->env->cache, .branch = e->branch, .layer = layer, .slot = w->kept,
                                 .count = w->n_kept, .ld = w->ld};
    if (!rc && w->S && *all) /* the report shows what units were worth */
        rc = ops->segment_mean(dev, &units);
    if (!rc && !*all) {
        rc = kvt_evict_select(e, w, *score, layer);
        for (size_t g = (size_t)w->R; !rc && g < G; g++) { /* heads that share a set */
            rc = ops->copy(dev, w->kept + g * ld, w->kept, (size_t)w->n * sizeof(int32_t));
            if (!rc)
                rc = ops->copy(dev, w->n_kept + g, w->n_kept, sizeof(int32_t));
        }
        if (!rc)
            rc = ops->cache_keep(dev, &keep);
        if (!rc)
            rc = ops->read(dev, w->h_n_kept, w->n_kept, G * sizeof(int32_t));
    }
    for (size_t g = 0; !rc && g < G; g++)
        w->kept_tok[(size_t)layer * G + g] = *all ? w->n : w->h_n_kept[g];
    return rc;
}

static void note_held(struct kvt_evictor *e, const struct kvt_evict_work *w, int layer)
{
    size_t G = (size_t)e->env->G;
    for (size_t g = 0; g < G; g++) {
        w->budget_tok[(size_t)layer * G + g] = w->layer_tok[layer];
        e->held[(size_t)layer * G + g] = w->kept_tok[(size_t)layer * G + g];
    }
    e->last_pos[layer] = w->n - 1;
}

/* The scores of all layers added up: heads share a set already, and now layers do. */
static int sum_layers(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw,
                      float **out)
{
    int rc = 0;
    for (int l = 0; !rc && l < e->env->L; l++) {
        float *score = NULL;
        rc = kvt_evict_score(e, w, raw, l, &score);
        struct kvt_combine_args add = {.in = score, .out = w->layers, .R = w->R, .ld = w->ld, .n = w->n, .scale = 1,
                                       .accumulate = l > 0};
        if (!rc)
            rc = e->env->ops->combine(e->env->dev, &add);
    }
    *out = w->layers;
    return rc;
}

static int keep_everything(struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_err *err)
{
    int rc = 0, G = e->env->G;
    for (int l = 0; !rc && l < e->env->L; l++) {
        for (int g = 0; g < G; g++)
            w->kept_tok[l * G + g] = w->n;
        note_held(e, w, l);
        rc = report_decision(e, w, NULL, l, true, err);
    }
    return rc;
}

static int check_raw(const struct kvt_evictor *e, const struct kvt_prefill_scores *raw, struct kvt_err *err)
{
    const struct kvt_policy *p = &e->spec.policy;
    bool needs = p->score == KVT_SCORE_MASS || p->score == KVT_SCORE_WMASS || p->score == KVT_SCORE_LAST;
    if (!needs || e->keep_all || (raw && kvt_evict_raw(p, raw, e->env->H, 0)))
        return 0;
    assert(p->score == KVT_SCORE_WMASS && "the session didn't ask for what kvt_spec_needs said");
    return kvt_fail(err, KVT_EUSAGE,
                    "%s: more than %d different windows in one run; let methods share w, or make two runs",
                    e->spec.method->name, KVT_MAX_WINDOWS);
}

int kvt_evict_prefill(struct kvt_evictor *e, const struct kvt_prefill_scores *raw, struct kvt_err *err)
{
    struct kvt_evict_work w = {0};
    const struct kvt_policy *p = &e->spec.policy;
    int rc = check_raw(e, raw, err);
    if (rc)
        return rc;
    rc = work_open(e, &w, raw, err);
    if (rc)
        return rc;
    allocate(e, &w);
    float *shared = NULL;
    if (e->keep_all) {
        rc = keep_everything(e, &w, err);
    } else if (p->scope == KVT_SCOPE_ALL_LAYERS) {
        rc = sum_layers(e, &w, raw, &shared);
        if (rc)
            kvt_evict_device_fail(e, rc, "scoring", err);
    }
    for (int l = 0; !rc && !e->keep_all && l < e->env->L; l++) {
        float *score = NULL;
        bool all = false;
        rc = evict_layer(e, &w, raw, l, shared, &score, &all);
        if (!rc && e->sliding)
            rc = kvt_evict_step_begin(e, &w, raw, l, all);
        if (rc) {
            kvt_evict_device_fail(e, rc, "eviction at prefill's end", err);
            break;
        }
        note_held(e, &w, l);
        rc = report_decision(e, &w, score, l, all, err);
    }
    if (!rc)
        rc = report_budget(e, &w, err);
    work_close(e, &w);
    return rc;
}
