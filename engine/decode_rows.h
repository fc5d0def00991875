/* What the full branch's rows of attention come to while it decodes, by the definitions of the
 * prefill's sweep. Only where asked: each layer's row is then reduced on the host as it comes (engine/rows.c). */
#ifndef KVT_ENGINE_DECODE_ROWS_H
#define KVT_ENGINE_DECODE_ROWS_H

#include "kvt/kvt.h"
#include "kvt/probe.h"

struct kvt_session;

/* What the rows of a step come to, as in struct kvt_reduce_row_args, (L, H, ...); NULL: not wanted. */
struct kvt_row_out {
    float *entropy, *keys, *first, *sink, *local, *own, *distance, *offset, *spans, *top;
    int32_t *top_at;
};

struct kvt_decode_rows {
    struct kvt_wants wants;
    struct kvt_ev_decode ev;   /* of the step; its arrays are those of `all` */
    struct kvt_row_out all;    /* owned */
    int step;                  /* of which rows were seen last */
};

int kvt_decode_rows_open(struct kvt_session *s, const struct kvt_wants *w, struct kvt_err *err);
void kvt_decode_rows_close(struct kvt_session *s);
/* row (H, max_slots): the full branch's of this layer and step, of n keys. */
void kvt_decode_rows_look(struct kvt_session *s, int layer, const float *row, int n);
/* The step's event, where rows were seen in it. */
int kvt_decode_rows_step(struct kvt_session *s, int step, struct kvt_err *err);
/* Bytes on the host for `wants`. */
size_t kvt_decode_rows_bytes(const struct kvt_wants *w, int L, int H, int n_tok);

#endif
