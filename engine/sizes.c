/* What a run will hold at its peak, before it runs: what --dry-run prints. bench/memory.sh holds it against what runs take. */
#include <string.h>
#include <unistd.h>

#include "engine/run.h"
#include "kernels/plugin.h"

static size_t page_bytes(const struct kvt_shape *s, enum kvt_dtype type, int64_t slots)
{
    int64_t pages = (slots + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
    return (size_t)pages * KVT_PAGE_SLOTS * (size_t)s->L * (size_t)s->G * (size_t)s->D * 2 * (size_t)kvt_dtypes[type].block_bytes;
}

/* Tokens of a kv head whose pages a branch goes on sharing with the prefill: those that are kept in one run, the newest; in steps
 * each new token may part it from one. */
static int shared_tok(const struct kvt_policy *p, int tok, int n_new)
{
    int newest = p->score == KVT_SCORE_RECENCY ? tok - p->sinks : p->recent < 0 ? (tok + 1) / 2 : p->recent;
    newest = p->keep_window && p->window > newest ? p->window : newest;
    newest = (newest < tok ? newest : tok) - (p->schedule == KVT_SCHEDULE_PREFILL ? 0 : n_new);
    return newest < 2 * KVT_PAGE_SLOTS ? 0 : newest / KVT_PAGE_SLOTS * KVT_PAGE_SLOTS - KVT_PAGE_SLOTS;
}

/* What evictors hold, in every stream, and the most that one takes for the prefill's end; buffers of chunks and of repetition. */
static int branch_work_bytes(const struct kvt_model *m, const struct kvt_session_opts *o, size_t *bytes, size_t *kv, struct kvt_err *err)
{
    const struct kvt_shape *s = kvt_model_shape(m);
    struct kvt_evict_env env = { .L = kvt_session_layers(m, o, NULL), .H = s->H, .G = s->G, .D = s->D, .n_layers = s->L, .max_slots = o->n_prompt + o->n_new,
                                 .n_prompt = kvt_opts_prefill(o), .n_context = kvt_opts_context(o) };
    size_t most = 0;
    int chunk = 0, repeat = 0, repeats[2] = { 0 };
    *bytes = *kv = 0;
    for (int b = 0; b < o->n_branches; b++) {
        const struct kvt_policy *p = &o->branch[b].spec.policy;
        struct kvt_budget budget = o->branch[b].budget;
        size_t held, work;
        int rc = kvt_budget_resolve(&budget, env.L ? env.L : s->L, s->G, kvt_opts_slot_bytes(s, o), err);
        if (rc)
            return rc;
        kvt_evictor_bytes(&env, &o->branch[b].spec, &budget, &held, &work);
        *bytes += held * (o->decode == KVT_DECODE_BOTH ? 2 : 1);
        most = work > most ? work : most;
        chunk = p->prefill_chunk > chunk ? p->prefill_chunk : chunk;
        if (p->score == KVT_SCORE_KVZIP) {
            repeat = p->repeat > repeat ? p->repeat : repeat;
            repeats[repeats[0] && repeats[0] != p->repeat] = p->repeat; /* two lengths are counted, more are rare */
        }
    }
    *bytes += most;
    if (chunk)
        *bytes += ((size_t)(chunk < env.n_context ? chunk : env.n_context) + (size_t)o->n_branches + 1) * s->E * sizeof(float);
    if (!repeat)
        return 0;
    int rows;
    size_t buffers;
    int rc = kvt_kvzip_bytes(m, kvt_opts_run(o), env.n_context, repeat, &rows, &buffers, err);
    *bytes += buffers + (size_t)(1 + (repeats[1] > 0)) * s->L * s->G * (size_t)env.n_context * sizeof(float);
    *kv = 2 * page_bytes(s, o->kv_type, rows);
    return rc;
}

/* Rows of the full branch that are looked at together. */
static int full_rows(const struct kvt_session_opts *o, const struct kvt_wants *w)
{
    int question = w->replay ? o->n_prompt - kvt_opts_context(o) : 0;
    return question > 1 ? question : o->lost_mass || o->output_error || w->rows || w->decode;
}

int kvt_session_sizes(const struct kvt_model *m, const struct kvt_session_opts *o, const struct kvt_wants *wants,
                      struct kvt_session_sizes *out, struct kvt_err *err)
{
    const struct kvt_shape *s = kvt_model_shape(m);
    struct kvt_needs needs;
    int rc = kvt_opts_check(o, s, err);
    if (rc)
        return rc;
    kvt_opts_needs(o, wants, &needs);
    memset(out, 0, sizeof *out);
    out->weights_bytes = kvt_model_touched_bytes(m, o->token, o->n_prompt);
    out->kv_prefill_bytes = page_bytes(s, o->kv_type, kvt_opts_prefill(o));
    int copies = kvt_opts_streams(o, o->n_branches);
    for (int b = 0; b < o->n_branches; b++) {
        struct kvt_budget budget = o->branch[b].budget;
        const struct kvt_policy *p = &o->branch[budget.kind == KVT_BUDGET_MATCH ? budget.match - 1 : b].spec.policy;
        budget = budget.kind == KVT_BUDGET_MATCH ? o->branch[budget.match - 1].budget : budget;
        if (p->alloc == KVT_ALLOC_CLASS)
            budget = (struct kvt_budget){ .kind = KVT_BUDGET_TOKENS, .tokens = kvt_class_tokens(p, kvt_opts_context(o)) };
        rc = kvt_budget_resolve(&budget, kvt_session_layers(m, o, NULL), s->G, kvt_opts_slot_bytes(s, o), err);
        if (rc)
            return rc;
        const struct kvt_policy *acts = &o->branch[b].spec.policy;
        int chunk = acts->prefill_chunk, tok = kvt_budget_mean_tokens(&budget, kvt_opts_context(o));
        size_t kept = page_bytes(s, o->kv_type, tok - (chunk ? 0 : shared_tok(acts, tok, o->n_new))) / (size_t)s->L * (size_t)kvt_session_layers(m, o, NULL);
        out->kv_decode_bytes += tok < kvt_opts_context(o) || chunk ? kept : 0;
        out->kv_decode_bytes += chunk ? page_bytes(s, o->kv_type, chunk < kvt_opts_context(o) ? chunk : kvt_opts_context(o)) : 0;
    }
    out->kv_prefill_bytes = o->no_full ? 0 : out->kv_prefill_bytes;
    out->kv_decode_bytes += (size_t)copies * page_bytes(s, o->kv_type, o->n_prompt - kvt_opts_context(o) + o->n_new);
    size_t own, repeating; /* the cells that are repeated in are gone before the branches are there */
    rc = branch_work_bytes(m, o, &own, &repeating, err);
    if (rc)
        return rc;
    out->kv_decode_bytes = repeating > out->kv_decode_bytes ? repeating : out->kv_decode_bytes;
    kvt_observer_bytes(wants, o->ops->run, s->L, s->H, kvt_opts_prefill(o), &needs, kvt_ops_in_host(o->ops), &out->scores_bytes, &out->maps_bytes);
    out->maps_bytes += kvt_observer_vectors_bytes(wants, s->H, s->G, s->D, kvt_opts_run(o));
    out->work_bytes = kvt_forward_work_bytes(s, kvt_opts_run(o), o->n_prompt + o->n_new)
        + own + ((size_t)(o->no_full ? 1 : kvt_opts_prefill(o)) * s->E + (size_t)kvt_opts_rows(o) * s->E + (size_t)copies * s->V
           + (size_t)(copies + full_rows(o, wants) + (wants->rows || wants->decode)) * s->H * (size_t)(o->n_prompt + o->n_new)) * sizeof(float);
    out->work_bytes += kvt_decode_rows_bytes(wants, s->L, s->H, o->n_prompt + o->n_new);
    /* a backend's own: rows packed for a product, and in each thread a panel of weights and a tile of scores */
    int threads = o->threads > 0 ? o->threads : (int)sysconf(_SC_NPROCESSORS_ONLN), widest = s->E > s->F ? s->E : s->F;
    widest = widest > s->H * s->D ? widest : s->H * s->D;
    /* what some methods are ranked by: queries' mean and covariance, scores from outside, norms of outputs */
    size_t cells = (size_t)s->L * s->G;
    bool expected = false;
    for (int b = 0; b < o->n_branches; b++)
        expected |= o->branch[b].spec.policy.score == KVT_SCORE_EXPECTED;
    if (expected)
        out->work_bytes += (size_t)s->L * s->H * s->D * ((size_t)s->D + 1) * sizeof(float);
    if (needs.given)
        out->work_bytes += cells * (size_t)kvt_opts_prefill(o) * 2 * sizeof(float);
    if (needs.out_norms)
        out->work_bytes += cells * (size_t)kvt_opts_prefill(o) * sizeof(float);
    out->work_bytes += (size_t)widest * (2 * (size_t)kvt_opts_run(o) + 128 * (size_t)threads) + (size_t)threads * (512 << 10);
    return 0;
}
