/* The tracer's own writer, told what a run would have told it. Texts are the traced run's: a replay makes none. */
#include "analyzers/replay_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/choose.h"

enum { MOST = 256, TEXT = 512 };

struct kvt_replay_file {
    struct kvt_trace *from;
    const struct kvt_trace_info *info;
    struct kvt_trace_writer *to;
    struct kvt_probe probe;
    int branch;                /* whose events come now */
    int32_t *token;            /* (n_steps) of the uncompressed branch */
    uint64_t *bytes;           /* (n_steps + 1) of one branch */
};

static const char *attr(const struct kvt_trace_info *in, const char *name)
{
    for (int i = 0; i < in->n_attrs; i++)
        if (!strcmp(in->attr[i].name, name))
            return in->attr[i].value;
    return "";
}

static int see(void *self, const struct kvt_event *ev)
{
    struct kvt_replay_file *f = self;
    struct kvt_event mine = *ev;
    if (ev->kind == KVT_EV_DECISION)
        mine.decision.branch = f->branch;
    else if (ev->kind == KVT_EV_BUDGET)
        mine.budget.branch = f->branch;
    else if (ev->kind == KVT_EV_EVICT)
        mine.evict.branch = f->branch;
    const struct kvt_probe *p = kvt_trace_probe(f->to);
    return p->see(p->self, &mine);
}

const struct kvt_probe *kvt_replay_file_probe(struct kvt_replay_file *f, int b)
{
    f->branch = b;
    f->probe = (struct kvt_probe){.self = f, .see = see};
    return &f->probe;
}

static int create(struct kvt_replay_file *f, const char *path, bool force, const char *command_line, const struct kvt_plan_branch *branch, int n,
                  struct kvt_err *err)
{
    const struct kvt_trace_info *in = f->info;
    struct kvt_plan_branch *all = kvt_calloc((size_t)n + 1, sizeof *all);
    struct kvt_plan_span *span = kvt_calloc((size_t)in->n_spans + 1, sizeof *span);
    struct kvt_wants wants = {.decisions = true, .n_sink = in->n_sink, .n_local = in->n_local};
    if (!all || !span) {
        free(all);
        free(span);
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", n);
    }
    all[0] = (struct kvt_plan_branch){.name = "full", .method = "full", .canonical = "full", .asked_keep = 1, .asked_tok = in->n_context, .schedule = "prefill", .asked = "100%"};
    memcpy(all + 1, branch, (size_t)n * sizeof *all);
    for (int i = 0; i < in->n_spans; i++) {
        const struct kvt_trace_span *s = &in->span[i];
        span[i] = (struct kvt_plan_span){s->name, s->kind, s->parent, s->start, s->end, s->byte_start, s->byte_end};
    }
    struct kvt_trace_plan plan = {
        .path = path, .force = force, .prompt_id = in->prompt_id, .L = in->L, .H = in->H, .G = in->G, .D = in->D, .V = in->V, .model_name = in->model_name,
        .model_arch = in->model_arch, .model_path = attr(in, "model_path"), .model_type = attr(in, "model_type"), .config_sha256 = attr(in, "config_sha256"),
        .tokenizer_kind = attr(in, "tokenizer"), .model_bytes = strtoull(attr(in, "model_bytes"), NULL, 10), .text = in->text, .text_bytes = strlen(in->text),
        .n_prompt = in->n_prompt, .n_context = in->n_context, .token_id = in->token_id, .token_start = in->token_start, .token_end = in->token_end,
        .token_text = in->token_text, .longest_token = TEXT, .span = span, .n_spans = in->n_spans, .branch = all, .n_branches = n + 1, .n_new = in->n_steps,
        .wants = &wants, .shot_order = attr(in, "shot_order"), .protocol = in->protocol, .decode = "forced", .rope = attr(in, "rope"), .windows = in->windows,
        .compute = in->compute, .kv_type = in->kv_type, .backend = in->backend, .device = in->device, .command_line = command_line,
        .seed = strtoull(attr(in, "seed"), NULL, 10)};
    int rc = kvt_trace_create(&f->to, &plan, err);
    if (!rc && *in->model_sha256)
        rc = kvt_trace_model_sha256(f->to, in->model_sha256);
    free(all);
    free(span);
    return rc;
}

int kvt_replay_file_open(struct kvt_replay_file **out, struct kvt_trace *from, const char *path, bool force, const char *command_line,
                         const struct kvt_plan_branch *branch, int n, struct kvt_err *err)
{
    *out = NULL;
    if (n > MOST)
        return kvt_fail(err, KVT_EUSAGE, "--write-trace: a trace of %d branches is more than tools can show; %d at most", n, MOST);
    struct kvt_replay_file *f = kvt_calloc(1, sizeof *f);
    if (!f)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a file of %d branches", n);
    f->from = from, f->info = kvt_trace_info(from);
    f->token = kvt_calloc((size_t)f->info->n_steps + 1, sizeof *f->token);
    f->bytes = kvt_calloc((size_t)f->info->n_steps + 1, sizeof *f->bytes);
    int rc = f->token && f->bytes ? kvt_trace_tokens(from, 0, "forced", f->token, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d steps", f->info->n_steps);
    if (!rc)
        rc = create(f, path, force, command_line, branch, n, err);
    size_t all = (size_t)f->info->L * (size_t)f->info->G * (size_t)f->info->n_tok;
    int32_t *held = rc ? NULL : kvt_calloc(all, sizeof *held);
    if (!rc && !held)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", f->info->n_tok);
    for (size_t i = 0; i < all && !rc; i++)
        held[i] = (int)(i % (size_t)f->info->n_tok) < f->info->n_prompt + f->info->n_steps ? -1 : KVT_NOT_YET;
    if (!rc) /* the uncompressed branch, whose steps come first */
        rc = kvt_replay_file_branch(f, 0, &(struct kvt_replay_result){.evicted_at = held}, err);
    free(held);
    *out = f;
    if (rc)
        kvt_replay_file_close(out, rc, NULL);
    return rc;
}

static uint64_t page_bytes(const struct kvt_trace_info *in)
{
    return (uint64_t)KVT_PAGE_SLOTS * (uint64_t)in->D * 2 * (strcmp(in->kv_type, "f32") ? 2 : 4);
}

/* Whether a cell's slot j is held after step k. At prefill's end it's the reason that tells: what is lost while the question is fed has the
 * same 0 in evicted_at, and bytes are counted before. */
static bool held(const struct kvt_replay_result *done, const struct kvt_trace_info *in, size_t cell, int j, int k)
{
    if (!k && done->reason) {
        uint8_t why = done->reason[cell * (size_t)in->n_context + (size_t)j];
        return why != KVT_LEFT_SCORE && why != KVT_LEFT_UNIT && why != KVT_LEFT_BUDGET;
    }
    int32_t at = done->evicted_at[cell * (size_t)in->n_tok + (size_t)j];
    return at == -1 || at > k;
}

/* K and V bytes after each step, in whole pages; 0: after prefill's end, the context's alone. */
static void count_bytes(struct kvt_replay_file *f, const struct kvt_replay_result *done)
{
    const struct kvt_trace_info *in = f->info;
    size_t cells = (size_t)in->L * (size_t)in->G;
    uint64_t page = page_bytes(in);
    for (int k = 0; k <= in->n_steps; k++) {
        f->bytes[k] = 0;
        for (size_t c = 0; c < cells; c++) {
            uint64_t n = 0;
            for (int j = 0; j < (k ? in->n_prompt + k : in->n_context); j++)
                n += held(done, in, c, j, k);
            f->bytes[k] += (n + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS * page;
        }
    }
}

int kvt_replay_file_branch(struct kvt_replay_file *f, int b, const struct kvt_replay_result *done, struct kvt_err *err)
{
    const struct kvt_trace_info *in = f->info;
    const struct kvt_probe *p = kvt_trace_probe(f->to);
    uint64_t cells = (uint64_t)in->L * (uint64_t)in->G, unknown = UINT64_MAX; /* -1 as the file has it */
    uint64_t peak = cells * (uint64_t)((in->map_tok + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS) * page_bytes(in); /* the shared prefill */
    int32_t none = -1;
    float nan = NAN;
    char text[TEXT];
    int rc = 0;
    count_bytes(f, done);
    for (int k = 1; k <= in->n_steps && !rc; k++) {
        struct kvt_event ev = {.kind = KVT_EV_STEP, .step = {.step = k, .first = b, .n_branch = 1, .token = &f->token[k - 1], .argmax = &none, .logprob = &nan,
                                                             .kl = &nan, .entropy = &nan, .alone_bytes = &f->bytes[k], .own_bytes = &unknown,
                                                             .held_bytes = unknown, .step_ns = -1}};
        rc = p->see(p->self, &ev);
        if (!rc && !kvt_trace_token_text(f->from, 0, "forced", k, text, sizeof text, NULL))
            rc = kvt_trace_token(f->to, b, k, false, f->token[k - 1], text);
    }
    for (int k = 0; k <= in->n_steps; k++)
        peak = f->bytes[k] > peak ? f->bytes[k] : peak;
    if (!rc)
        rc = kvt_trace_bytes_after(f->to, b, f->bytes[0]);
    if (!rc)
        rc = kvt_trace_bytes_peak(f->to, b, peak);
    if (!rc)
        rc = kvt_trace_result(f->to, b, "", -1, NAN, NAN);
    return rc ? kvt_fail(err, rc, "the trace of the replay can't be written: %s", kvt_status_text(rc)) : 0;
}

int kvt_replay_file_close(struct kvt_replay_file **fp, int status, struct kvt_err *err)
{
    struct kvt_replay_file *f = fp ? *fp : NULL;
    if (!f)
        return 0;
    int rc = f->to ? kvt_trace_finish(&f->to, status, f->info->logits_hash, err) : 0;
    free(f->token);
    free(f->bytes);
    free(f);
    *fp = NULL;
    return rc;
}
