/* kvtrace: the trace's plan, filled from a run, and its end. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tracer/kvtrace.h"

/* Everything that the plan borrows while a trace is created. */
struct plan_parts {
    struct kvt_trace_plan plan;
    struct kvt_plan_branch *branch;
    struct kvt_plan_span *span;
    char **text;      /* (n_prompt) of tokens, owned */
    char sha[65], rope[64], windows[160];
};

static void free_parts(struct plan_parts *p)
{
    for (int i = 0; p->text && i < p->plan.n_prompt; i++)
        free(p->text[i]);
    free(p->text);
    free(p->branch);
    free(p->span);
}

static void plan_branches(struct plan_parts *p, const struct kvtrace_run *run, const struct kvt_shape *s, int n_context)
{
    p->branch[0] = (struct kvt_plan_branch){ .name = "full", .method = "full", .canonical = "full", .asked_keep = 1,
                                             .asked_tok = n_context, .schedule = "prefill", .asked = "100%" };
    for (int b = 0; b < run->n_branches; b++) {
        const struct kvt_branch_opts *o = &run->branch[b];
        /* who follows another branch is compared beside it: the same budget was asked */
        struct kvt_budget asked = o->budget.kind == KVT_BUDGET_MATCH ? run->branch[o->budget.match - 1].budget : o->budget;
        const struct kvt_policy *own = &run->branch[o->budget.kind == KVT_BUDGET_MATCH ? o->budget.match - 1 : b].spec.policy;
        if (own->alloc == KVT_ALLOC_CLASS)
            asked = (struct kvt_budget){ .kind = KVT_BUDGET_TOKENS, .tokens = kvt_class_tokens(own, n_context) };
        const char *label = asked.kind == KVT_BUDGET_CELLS ? strrchr(run->asked[b], ' ') : NULL; /* "file: shotkv 25%" is compared beside 25 % */
        struct kvt_budget named;
        double share = label && !kvt_budget_parse(&named, label, false, NULL) ? (double)named.keep_ppm / 1e6 : NAN;
        bool keep = asked.kind == KVT_BUDGET_KEEP;
        if (kvt_budget_resolve(&asked, kvt_session_layers(run->model, &run->session, NULL), s->G, (int64_t)s->D * 2 * kvt_dtypes[run->session.kv_type].block_bytes, NULL))
            asked.tokens = 0; /* the session says why */
        p->branch[b + 1] = (struct kvt_plan_branch){
            .name = o->name, .method = o->spec.method->name, .canonical = o->spec.canonical,
            .asked_keep = keep ? (double)asked.keep_ppm / 1e6 : share, .asked_tok = kvt_budget_mean_tokens(&asked, n_context),
            .schedule = (const char *const[]){ "prefill", "step", "every" }[o->spec.policy.schedule], .renumber = o->spec.policy.renumber,
            .asked = run->asked[b] };
    }
}

/* What is recorded for a replay alone: which sums, and which layers methods act on. */
static int plan_replay(struct kvt_trace_plan *plan, struct kvtrace_run *run, struct kvt_err *err)
{
    struct kvt_square square[KVT_MAX_WINDOWS];
    int32_t *layer = kvt_calloc((size_t)plan->L, sizeof *layer);
    run->acts = run->acts ? run->acts : kvt_calloc((size_t)plan->L, 1);
    if (!layer || !run->acts) {
        free(layer);
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", plan->L);
    }
    plan->n_squares = kvt_session_squares(&run->session, &run->wants, square);
    for (int i = 0; i < plan->n_squares; i++)
        plan->square_window[i] = square[i].window, plan->square_distance[i] = square[i].distance, plan->square_by_pos[i] = square[i].by_pos;
    for (int i = 0, n = kvt_session_layers(run->model, &run->session, layer); i < n; i++)
        run->acts[layer[i]] = 1;
    for (int i = 0; i < run->n_shots; i++)
        plan->later |= run->shot[2 * i + 1] <= plan->n_context;
    plan->acts = run->acts;
    free(layer);
    return 0;
}

/* Fills what needs no session: enough for an estimate of sizes. */
static int make_plan(struct plan_parts *p, struct kvtrace_run *run, int n_context, struct kvt_err *err)
{
    const struct kvt_shape *s = kvt_model_shape(run->model);
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(run->model);
    const struct kvt_prompt *prompt = &run->prompt;
    int rc;
    memset(p, 0, sizeof *p);
    p->branch = kvt_calloc((size_t)run->n_branches + 1, sizeof *p->branch);
    p->span = kvt_calloc((size_t)prompt->n_spans, sizeof *p->span);
    p->text = kvt_calloc((size_t)prompt->tokens.n, sizeof *p->text);
    if (!p->branch || !p->span || !p->text)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the trace's plan");
    p->plan.n_prompt = prompt->tokens.n;
    for (int i = 0; i < prompt->tokens.n; i++)
        if (!(p->text[i] = kvtrace_text(tok, &prompt->tokens.id[i], 1)))
            return kvt_fail(err, KVT_ENOMEM, "no memory for the trace's plan");
    for (int i = 0; i < prompt->n_spans; i++) {
        const struct kvt_span *f = &prompt->span[i];
        p->span[i] = (struct kvt_plan_span){ .name = f->name, .kind = kvt_span_kind_name(f->kind), .parent = f->parent, .start = f->start,
                                             .end = f->end, .byte_start = f->byte_start, .byte_end = f->byte_end };
    }
    plan_branches(p, run, s, n_context);
    struct kvt_trace_plan *plan = &p->plan;
    plan->path = run->now->path, plan->force = run->o.force || run->o.resume, plan->prompt_id = run->now->id;
    plan->L = s->L, plan->H = s->H, plan->G = s->G, plan->D = s->D, plan->V = s->V;
    plan->model_name = s->name, plan->model_arch = s->arch, plan->model_path = kvt_model_path(run->model);
    plan->model_type = kvt_model_main_type(run->model), plan->model_bytes = kvt_model_bytes(run->model);
    plan->tokenizer_kind = kvt_tokenizer_kind(tok), plan->longest_token = kvt_tokenizer_longest(tok);
    plan->text = prompt->text, plan->text_bytes = prompt->bytes, plan->n_context = n_context;
    plan->token_id = prompt->tokens.id, plan->token_start = prompt->tokens.start, plan->token_end = prompt->tokens.end;
    plan->token_text = (const char *const *)p->text;
    plan->span = p->span, plan->n_spans = prompt->n_spans;
    plan->branch = p->branch, plan->n_branches = run->n_branches + 1, plan->n_new = run->o.n_new;
    plan->shot_order = run->o.prompt.shot_order;
    plan->no_full = run->session.no_full;
    plan->wants = &run->wants;
    plan->lost_mass = run->session.lost_mass, plan->output_error = run->session.output_error;
    plan->n_windows = kvt_session_windows(&run->session, &run->wants, plan->window);
    rc = run->wants.replay ? plan_replay(plan, run, err) : 0;
    plan->protocol = kvtrace_protocols[run->o.protocol], plan->decode = kvtrace_decodes[run->o.decode];
    plan->compute = kvt_compute_names[run->session.compute], plan->kv_type = kvtrace_kv_types[run->o.kv_type];
    kvt_session_rope_text(run->model, &run->session, p->rope, sizeof p->rope);
    kvt_session_windows_text(run->model, &run->session, p->windows, sizeof p->windows);
    plan->rope = p->rope, plan->windows = p->windows;
    plan->backend = run->session.ops->name, plan->command_line = run->command_line;
    plan->threads = run->o.threads, plan->seed = run->o.seed, plan->drop_when_full = run->o.ring == 1, plan->compress = run->o.compress, plan->profile = run->profiled || (run->profile && run->o.dry_run);
    plan->device = "", plan->config_sha256 = "";
    return rc;
}

void kvtrace_estimate(struct kvtrace_run *run, struct kvt_trace_sizes *sizes)
{
    struct plan_parts p;
    memset(sizes, 0, sizeof *sizes);
    int n = run->prompt.tokens.n, question = run->session.question_start >= 0 ? n - run->session.question_start : run->o.window;
    bool fed_again = run->wants.replay && run->session.protocol != KVT_PROTOCOL_LITERATURE && question < n; /* then its rows are recorded */
    if (!make_plan(&p, run, fed_again ? n - question : n, NULL))
        kvt_trace_estimate(&p.plan, sizes);
    free_parts(&p);
}

/* A folder's small files now; the weights in a thread of their own, as they take seconds for each GB, and after the prefill, which
 * has work for every core. */
static int hash_config(const struct kvtrace_run *run, char config[65], struct kvt_err *err)
{
    enum { MOST = 8 };
    const char *small[MOST];
    int n_small = 0;
    *config = 0;
    while (n_small < MOST && (small[n_small] = kvt_model_config_file(run->model, n_small)))
        n_small++;
    return n_small ? kvt_sha256_files(small, n_small, config, err) : 0;
}

static int start_hasher(struct kvtrace_run *run, struct kvt_err *err)
{
    int n = kvt_model_files(run->model), rc = 0;
    if (*run->model_sha || run->hasher) /* once for all prompts */
        return 0;
    const char **weights = kvt_calloc((size_t)n, sizeof *weights);
    if (!weights)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a list of %d files", n);
    for (int i = 0; i < n; i++)
        weights[i] = kvt_model_file(run->model, i);
    rc = kvt_hasher_start(&run->hasher, weights, n, err);
    free(weights);
    return rc;
}

size_t kvtrace_profile_room(struct kvtrace_run *run)
{
    struct plan_parts p;
    size_t room = make_plan(&p, run, run->prompt.tokens.n, NULL) ? 0 : kvt_trace_device_room(&p.plan);
    free_parts(&p);
    return room;
}

int kvtrace_open_trace(struct kvt_trace_writer **out, struct kvtrace_run *run, struct kvt_session *s, struct kvt_err *err)
{
    struct plan_parts p;
    int rc = make_plan(&p, run, kvt_session_n_context(s), err);
    if (!rc)
        rc = hash_config(run, p.sha, err);
    p.plan.config_sha256 = p.sha;
    p.plan.device = kvt_session_device(s);
    if (!rc)
        rc = kvt_trace_create(out, &p.plan, err);
    free_parts(&p);
    return rc;
}

int kvtrace_record_prefill(struct kvt_trace_writer *w, struct kvtrace_run *run, struct kvt_session *s, struct kvt_err *err)
{
    int rc = 0;
    for (int b = run->session.no_full; w && b <= run->n_branches && !rc; b++) {
        struct kvt_branch_result r;
        rc = kvt_session_result(s, b, &r);
        if (!rc)
            rc = kvt_trace_bytes_after(w, b, r.bytes_after);
    }
    if (rc)
        return kvt_fail(err, rc, "the trace's writer has stopped: %s", kvt_status_text(rc));
    return w ? start_hasher(run, err) : 0;
}

/* Tells the trace the model's hash as soon as it is known, so that a kill after the prefill seldom loses it. */
static int tell_hash(struct kvt_trace_writer *w, struct kvtrace_run *run)
{
    const char *hex = run->hasher ? kvt_hasher_ready(run->hasher) : NULL;
    if (!hex)
        return 0;
    snprintf(run->model_sha, sizeof run->model_sha, "%s", hex);
    kvt_hasher_end(&run->hasher, NULL, NULL);
    return kvt_trace_model_sha256(w, run->model_sha);
}

int kvtrace_record_step(struct kvt_trace_writer *w, struct kvtrace_run *run, const struct kvt_ev_step *step)
{
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(run->model);
    int rc = tell_hash(w, run);
    for (int b = 0; b < step->n_branch && !rc; b++) {
        if (step->token[b] < 0)
            continue;
        char *text = kvtrace_text(tok, &step->token[b], 1);
        rc = text ? kvt_trace_token(w, step->first + b, step->step, false, step->token[b], text) : KVT_ENOMEM;
        free(text);
    }
    return rc;
}

/* The free-running text of a branch, by token and whole, and its results. */
static int record_branch(struct kvt_trace_writer *w, const struct kvtrace_run *run, struct kvt_session *s, int b)
{
    const struct kvt_tokenizer *tok = kvt_model_tokenizer(run->model);
    struct kvt_branch_result r = { 0 };
    int rc = kvt_session_result(s, b, &r);
    for (int k = 0; k < r.n_free && !rc; k++) {
        char *text = kvtrace_text(tok, &r.free[k], 1);
        rc = text ? kvt_trace_token(w, b, k + 1, true, r.free[k], text) : KVT_ENOMEM;
        free(text);
    }
    char *text = rc ? NULL : kvtrace_text(tok, r.free, r.n_free);
    if (!rc)
        rc = text ? kvt_trace_result(w, b, text, run->session.no_full ? -1 : r.diverged, r.mean_kl, r.top1_agree) : KVT_ENOMEM;
    free(text);
    if (!rc && r.bytes_after) /* an oracle's is known only now, and nobody's where the run ended while others still evicted */
        rc = kvt_trace_bytes_after(w, b, r.bytes_after);
    if (!rc && r.bytes_after)
        rc = kvt_trace_bytes_peak(w, b, r.bytes_peak);
    if (!rc)
        rc = kvt_trace_fidelity(w, b, (double[]){ r.lost_mass, r.lost_rest, r.output_local, r.output_propagated, r.regret });
    return rc;
}

int kvtrace_close_trace(struct kvt_trace_writer **w, struct kvtrace_run *run, struct kvt_session *s, int status, struct kvt_err *err)
{
    if (!*w)
        return 0;
    bool readable = status == 0 || status == KVT_EINTR;
    int rc = run->hasher ? kvt_hasher_end(&run->hasher, readable ? run->model_sha : NULL, err) : 0;
    if (!rc && *run->model_sha)
        rc = kvt_trace_model_sha256(*w, run->model_sha);
    for (int b = run->session.no_full; b <= run->n_branches && !rc && readable; b++)
        rc = record_branch(*w, run, s, b);
    if (!rc && readable)
        rc = kvt_trace_bytes_peak(*w, -1, kvt_session_bytes_peak(s));
    if (!rc && readable)
        rc = kvt_trace_beyond_f16(*w, kvt_session_beyond_f16(s));
    int end = kvt_trace_finish(w, status ? status : rc, kvt_session_logits_hash(s), err);
    return end ? end : rc;
}
