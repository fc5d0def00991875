/* A branch that prefills alone, in chunks of policy.prefill_chunk tokens, each followed by an eviction to the budget: its KV cache
 * never holds the whole context, so its peak is lower too. Later chunks attend to what is left of the earlier ones, which is what
 * a cache of that size would compute, and not what one prefill of everything computes: beside the full branch the difference is
 * the ordinary fidelity. The products are those of the shared prefill (not exact): the same rows come together whoever else runs. */
#include "engine/chunked.h"

#include <stdlib.h>

#include "base/mem.h"
#include "engine/run.h"

bool kvt_branch_chunked(const struct kvt_session *s, int b) { return b && s->o.branch[b - 1].spec.policy.prefill_chunk > 0; }

static int longest(const struct kvt_session *s)
{
    int most = 0;
    for (int b = 1; b < s->n; b++)
        most = s->o.branch[b - 1].spec.policy.prefill_chunk > most ? s->o.branch[b - 1].spec.policy.prefill_chunk : most;
    return most < s->n_context ? most : s->n_context;
}

int kvt_chunked_open(struct kvt_session *s, struct kvt_err *err)
{
    size_t rows = (size_t)longest(s), E = (size_t)s->shape->E;
    if (!rows)
        return 0;
    s->x_chunk = s->ops->alloc(s->dev, rows * E * sizeof *s->x_chunk);
    s->x_last = s->ops->alloc(s->dev, (size_t)s->n * E * sizeof *s->x_last);
    return s->x_chunk && s->x_last ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for chunks of %zu tokens", rows);
}

void kvt_chunked_close(struct kvt_session *s)
{
    if (s->x_chunk)
        s->ops->free(s->dev, s->x_chunk);
    if (s->x_last)
        s->ops->free(s->dev, s->x_last);
    s->x_chunk = s->x_last = NULL;
}

/* ---- one chunk ---- */

struct chunk {
    struct kvt_session *s;
    struct kvt_evictor *e;
    int T, end, rc;            /* rows; position after them; of a look that failed */
};

static const struct kvt_see *before(void *self, int layer, int row0, int n)
{
    struct chunk *c = self;
    (void)n;
    return kvt_evict_chunk_look(c->e, layer, row0, c->end, &c->rc);
}

static int after(void *self, int layer, int row0, int n, struct kvt_err *err)
{
    struct chunk *c = self;
    int rc = c->rc;
    if (!rc && row0 + n == c->T)
        rc = kvt_evict_chunk_seen(c->e, layer, c->T);
    return rc ? kvt_fail(err, rc, "layer %d of a chunk: %s", layer, kvt_dev_error(c->s->dev)) : 0;
}

static int run_chunk(struct kvt_session *s, int b, struct chunk *c, const int32_t *branch, const int32_t *pos, struct kvt_err *err)
{
    struct kvt_rows rows = { .T = c->T, .token = s->token + pos[0], .branch = branch, .pos = pos, .exact = false };
    struct kvt_look look = { .self = c, .before = before, .after = after };
    struct kvt_cache_bytes bytes;
    size_t E = (size_t)s->shape->E;
    int rc = kvt_forward_embed(s->forward, &rows, s->x_chunk, err);
    for (int l = 0; l < s->shape->L && !rc; l++)
        rc = kvt_forward_layer(s->forward, l, &rows, s->x_chunk, &look, err);
    if (!rc)
        rc = kvt_session_branch_bytes(s, s->branch[b].forced.cell, &bytes, err); /* the most that it holds: before the eviction */
    if (!rc && bytes.alone > s->branch[b].bytes_peak)
        s->branch[b].bytes_peak = bytes.alone;
    if (!rc && c->end == s->n_context && (rc = s->ops->copy(s->dev, s->x_last + (size_t)b * E, s->x_chunk + (size_t)(c->T - 1) * E, E * sizeof(float))))
        rc = kvt_fail(err, rc, "%s", kvt_dev_error(s->dev));
    return rc;
}

int kvt_chunked_prefill(struct kvt_session *s, int b, struct kvt_err *err)
{
    struct kvt_evictor *e = s->branch[b].forced.evictor;
    int n = s->n_context, step = s->o.branch[b - 1].spec.policy.prefill_chunk, rc = 0;
    int64_t t0 = kvt_now_ns();
    kvt_session_at(s, KVT_PHASE_PREFILL, kvt_branch_bit(b));
    int32_t *branch = kvt_calloc((size_t)n, sizeof *branch), *pos = kvt_calloc((size_t)n, sizeof *pos);
    if (!branch || !pos)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", n);
    for (int t = 0; !rc && t < n; t++)
        branch[t] = s->branch[b].forced.cell, pos[t] = t;
    for (int from = 0, k = 0; from < n && !rc; from += step, k++) {
        struct chunk c = { .s = s, .e = e, .T = n - from < step ? n - from : step };
        c.end = from + c.T;
        rc = run_chunk(s, b, &c, branch + from, pos + from, err);
        if (!rc)
            rc = kvt_evict_chunk(e, k, c.T, c.end, err);
        rc = rc ? rc : kvt_session_times(s, err);
        kvt_session_progress(s, KVT_PHASE_PREFILL, c.end, n);
        if (n - from <= step)
            break; /* from + step may not be a number of tokens any more */
    }
    free(branch);
    free(pos);
    if (!rc)
        rc = kvt_evict_chunk_end(e, err);
    return rc ? rc : kvt_session_phase(s, KVT_PHASE_PREFILL, t0, n, err);
}
