/* The full branch holds every position in order, so that its row by slot is its row by position. */
#include "engine/rows.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

int kvt_rows_open(struct kvt_session *s, bool wanted, struct kvt_err *err)
{
    s->rows.wanted = wanted;
    s->rows.row = wanted ? kvt_calloc((size_t)s->shape->H * (size_t)s->max_slots, sizeof *s->rows.row) : NULL;
    return !wanted || s->rows.row ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for rows of %d keys", s->max_slots);
}

void kvt_rows_close(struct kvt_session *s)
{
    free(s->rows.row);
    s->rows = (struct kvt_rows_seen){ .wanted = false };
}

int kvt_rows_look(struct kvt_session *s, int layer, struct kvt_err *err)
{
    size_t H = (size_t)s->shape->H, ld = (size_t)s->max_slots, n = (size_t)(s->o.n_prompt + s->step);
    if (!s->rows.wanted || s->lo > 1) /* beside the oracles it decodes what it did before */
        return 0;
    int rc = s->ops->read(s->dev, s->rows.row, s->row + (size_t)s->n_blocks * H * ld, H * ld * sizeof *s->rows.row);
    if (rc)
        return kvt_fail(err, rc, "rows of layer %d: %s", layer, kvt_dev_error(s->dev));
    for (size_t h = 0; h < H; h++)
        memset(s->rows.row + h * ld + n, 0, (ld - n) * sizeof *s->rows.row);
    return kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_DECODE_ROW, .decode_row = {
        .step = s->step, .layer = layer, .n = (int)n, .ld = s->max_slots, .row = s->rows.row } }, err);
}
