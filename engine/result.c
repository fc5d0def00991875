/* What a session can say afterwards. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

int kvt_session_n_context(const struct kvt_session *s) { return s->n_context; }
uint64_t kvt_session_logits_hash(const struct kvt_session *s) { return s->logits_hash; }
uint64_t kvt_session_bytes_peak(const struct kvt_session *s)
{
    struct kvt_cache_bytes bytes = { 0 };
    return s->ops->cache_bytes(s->dev, s->cache, 0, &bytes) ? 0 : bytes.peak;
}
int kvt_session_steps(const struct kvt_session *s) { return s->steps; }
const char *kvt_session_device(const struct kvt_session *s) { return s->ops->describe(s->dev); }
uint64_t kvt_session_beyond_f16(const struct kvt_session *s) { return s->ops->beyond_f16 ? s->ops->beyond_f16(s->dev) : 0; }
int64_t kvt_session_phase_ns(const struct kvt_session *s, enum kvt_phase phase) { return s->phase_ns[phase]; }

/* A mean over the steps measured; NaN where there are none. */
static double mean_of(const struct kvt_fidelity *f, bool asked, int branch, int what)
{
    return asked && f->steps ? f->sum[4 * branch + what] / f->steps : NAN;
}

/* Tokens that a branch holds now, mean over the kv heads that may be evicted from; NaN before it runs (an oracle, while the others do), or where
 * the memory to ask is lacking. */
static double held_now(const struct kvt_session *s, int cell)
{
    int G = s->shape->G;
    if (cell < 0)
        return NAN;
    int32_t *count = kvt_calloc((size_t)s->shape->L * (size_t)G, sizeof *count);
    double sum = count && !s->ops->cache_lengths(s->dev, s->cache, cell, count) ? 0 : NAN;
    for (int i = 0; !isnan(sum) && i < s->env.L * G; i++)
        sum += count[kvt_evict_layer(&s->env, i / G) * G + i % G];
    free(count);
    return sum / (s->env.L * G);
}

int kvt_session_result(const struct kvt_session *s, int branch, struct kvt_branch_result *out)
{
    if (branch < 0 || branch >= s->n)
        return KVT_EUSAGE;
    const struct kvt_branch *b = &s->branch[branch];
    const struct kvt_fidelity *f = &s->fidelity;
    int oracle = branch ? s->o.branch[branch - 1].oracle : 0;
    double lost = mean_of(f, f->lost, branch, 0);
    *out = (struct kvt_branch_result){
        .name = b->name, .forced = b->said, .free = b->free_token, .n_steps = b->n_said, .n_free = b->n_free,
        .diverged = b->diverged, .mean_kl = s->no_full ? NAN : b->n_said ? b->kl_sum / b->n_said : 0,
        .mean_nll = s->no_full || !b->n_said ? NAN : b->nll_sum / b->n_said,
        .top1_agree = s->no_full ? NAN : b->n_said ? (double)b->n_agree / b->n_said : 1,
        .regret = oracle ? lost - mean_of(f, f->lost, oracle, 0) : NAN,
        .lost_mass = lost, .lost_rest = mean_of(f, f->lost, branch, 1),
        .output_local = mean_of(f, f->output, branch, 2), .output_propagated = mean_of(f, f->output, branch, 3),
        .effective_keep = b->effective_keep, .fallback = b->fallback, .last_tok = held_now(s, b->forced.cell),
        .bytes_after = b->bytes_after, .bytes_last = b->bytes_last, .bytes_peak = b->bytes_peak,
        .bytes_mean = b->n_fed ? b->bytes_sum / b->n_fed : (double)b->bytes_after };
    return 0;
}

int kvt_session_prefill_logits(struct kvt_session *s, int row0, int n_rows, float *out, struct kvt_err *err)
{
    size_t V = (size_t)s->shape->V;
    int most = s->forward->run < 32 ? s->forward->run : 32; /* rows of logits at a time: 6 MB for 49,152 words */
    float *logits = s->ops->alloc(s->dev, (size_t)most * V * sizeof *logits);
    int rc = logits ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d rows of logits", most);
    for (int r = 0; r < n_rows && !rc; r += most) {
        int n = n_rows - r < most ? n_rows - r : most;
        rc = kvt_forward_head(s->forward, s->x_prefill + (size_t)(row0 + r) * s->shape->E, n, true, logits, err);
        if (!rc)
            rc = s->ops->read(s->dev, out + (size_t)r * V, logits, (size_t)n * V * sizeof *out);
    }
    s->ops->free(s->dev, logits);
    return rc;
}

int kvt_session_branch_logits(struct kvt_session *s, int branch, float *out, struct kvt_err *err)
{
    if (branch < 0 || branch >= s->n)
        return kvt_fail(err, KVT_EUSAGE, "branch %d of %d", branch, s->n);
    return s->ops->read(s->dev, out, s->logits + (size_t)s->branch[branch].forced.row * s->shape->V, (size_t)s->shape->V * sizeof *out);
}

static int ascending(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

int kvt_session_positions(struct kvt_session *s, int branch, int layer, int g, int32_t *pos, int cap, struct kvt_err *err)
{
    int G = s->shape->G, ld = s->max_slots, n = 0;
    size_t bytes = (size_t)G * (size_t)ld * sizeof *pos;
    if (branch < 0 || branch >= s->n || layer < 0 || layer >= s->shape->L || g < 0 || g >= G)
        return kvt_fail(err, KVT_EUSAGE, "no cell (branch %d, layer %d, kv head %d)", branch, layer, g);
    int32_t *dev = s->ops->alloc(s->dev, bytes), *host = kvt_calloc((size_t)G * (size_t)ld, sizeof *host);
    int rc = dev && host ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu bytes of positions", bytes);
    if (!rc)
        rc = s->ops->cache_positions(s->dev, &(struct kvt_positions_args){ .cache = s->cache, .branch = s->branch[branch].forced.cell,
                                                                           .layer = layer, .pos = dev, .ld = ld });
    if (!rc)
        rc = s->ops->read(s->dev, host, dev, bytes);
    while (!rc && n < ld && n < cap && host[(size_t)g * ld + n] >= 0) {
        pos[n] = host[(size_t)g * ld + n];
        n++;
    }
    qsort(pos, (size_t)n, sizeof *pos, ascending);
    s->ops->free(s->dev, dev);
    free(host);
    return rc ? rc : n;
}
