/* The full branch holds every position in order, so that its row by slot is its row by position. */
#include "engine/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

int kvt_rows_open(struct kvt_session *s, const struct kvt_wants *w, struct kvt_err *err)
{
    size_t H = (size_t)s->shape->H, G = (size_t)s->shape->G, ld = (size_t)s->max_slots;
    s->rows.told = w->rows, s->rows.wanted = w->rows || w->decode, s->rows.norms = w->replay > 0;
    s->rows.row = s->rows.wanted || w->replay ? kvt_calloc(H * ld, sizeof *s->rows.row) : NULL;
    s->rows.norm = w->replay ? s->ops->alloc(s->dev, G * ld * sizeof *s->rows.norm) : NULL;
    bool ok = (s->rows.row || !(s->rows.wanted || w->replay)) && (s->rows.norm || !w->replay);
    return ok ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for rows of %d keys", s->max_slots);
}

void kvt_rows_close(struct kvt_session *s)
{
    free(s->rows.row);
    if (s->rows.norm)
        s->ops->free(s->dev, s->rows.norm);
    s->rows = (struct kvt_rows_seen){ .wanted = false };
}

static int tell(struct kvt_session *s, int layer, int block, int pos, struct kvt_err *err)
{
    size_t H = (size_t)s->shape->H, ld = (size_t)s->max_slots, n = (size_t)pos + 1;
    int rc = s->ops->read(s->dev, s->rows.row, s->row + (size_t)block * H * ld, H * ld * sizeof *s->rows.row);
    if (rc)
        return kvt_fail(err, rc, "rows of layer %d: %s", layer, kvt_dev_error(s->dev));
    for (size_t h = 0; h < H; h++)
        memset(s->rows.row + h * ld + n, 0, (ld - n) * sizeof *s->rows.row);
    if (s->step)
        kvt_decode_rows_look(s, layer, s->rows.row, (int)n);
    return !s->rows.told ? 0 : kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_DECODE_ROW, .decode_row = {
        .pos = pos, .layer = layer, .n = (int)n, .ld = s->max_slots, .row = s->rows.row } }, err);
}

int kvt_rows_look(struct kvt_session *s, int layer, int row0, int n, struct kvt_err *err)
{
    int rc = 0;
    if (s->lo > 1) /* beside the oracles it decodes what it did before */
        return 0;
    if (s->step)
        return s->full_fed && row0 == 0 ? tell(s, layer, s->n_blocks, s->r_pos[0], err) : 0;
    for (int t = row0; t < row0 + n && t < s->rows.question && s->r_at[t] >= s->n_blocks && !rc; t++)
        rc = tell(s, layer, s->r_at[t], s->r_pos[t], err);
    return rc;
}

int kvt_norms_tell(struct kvt_session *s, bool first, struct kvt_err *err)
{
    const struct kvt_ops *ops = s->ops;
    size_t L = (size_t)s->shape->L, G = (size_t)s->shape->G, ld = (size_t)s->max_slots;
    if (!s->rows.norms)
        return 0;
    int32_t *held = kvt_calloc(L * G, sizeof *held);
    float *key = kvt_calloc(2 * G * ld, sizeof *key), *out = key + G * ld;
    int rc = held && key ? ops->cache_lengths(s->dev, s->cache, 0, held) : KVT_ENOMEM, n = rc ? 0 : held[0];
    if (rc)
        kvt_fail(err, rc, "norms of the slots: %s", held && key ? kvt_dev_error(s->dev) : "no memory");
    for (int l = 0; l < s->shape->L && !rc; l++) {
        struct kvt_norms_args a = { .at = { s->cache, 0, l, n }, .key = s->rows.norm, .ld = n };
        rc = ops->norms(s->dev, &a);
        if (!rc)
            rc = ops->read(s->dev, key, s->rows.norm, G * (size_t)n * sizeof *key);
        first = first && s->out_norms;
        for (size_t g = 0; g < G && first && !rc; g++)
            rc = ops->read(s->dev, out + g * (size_t)n, s->out_norms + ((size_t)l * G + g) * (size_t)s->n_prefill, (size_t)n * sizeof *out);
        if (rc)
            kvt_fail(err, rc, "norms of layer %d: %s", l, kvt_dev_error(s->dev));
        else
            rc = kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_NORMS, .norms = { .layer = l, .n = n, .key = key, .out = first ? out : NULL } }, err);
    }
    free(held);
    free(key);
    return rc;
}
