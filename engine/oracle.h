/* The oracle (measures.md 3): a slot is worth the attention that the full branch's generated tokens really give it. So its
 * branches run after the others, on what was summed up beside them. */
#ifndef KVT_ENGINE_ORACLE_H
#define KVT_ENGINE_ORACLE_H

#include <stdbool.h>

#include "kvt/kvt.h"

struct kvt_session;
struct kvt_policy;

struct kvt_future {            /* one way to sum the full branch's rows */
    int horizon;               /* rows of the first so many generated tokens; 0: of all */
    bool sinkless;             /* rows without their first n_sink tokens, renormalised */
    double *sum;               /* (L, G, max_slots) by position, mean over the query group */
    float *left;               /* the same from the next step on, while oracles run */
};

struct kvt_oracle {
    struct kvt_future *future; /* (n) */
    int n;
    float *row;                /* (H, max_slots) host */
};

/* The full branch's row of one layer, which holds all positions so far. */
struct kvt_future_row {
    const float *row;          /* (H, ld) host */
    int H, G, ld, n_sink, layer, slots;
};
/* Adds it (by 1) to the sums, or takes it (by -1) from what is left. */
void kvt_future_add(struct kvt_future *f, const struct kvt_future_row *row, int by);

/* After the branches are known: what to sum for those that are oracles. */
int kvt_oracle_open(struct kvt_session *s, struct kvt_err *err);
void kvt_oracle_close(struct kvt_session *s);
/* The full branch's row of this layer and step is in s->row: adds it; while the oracles run, takes it from what is left. */
int kvt_oracle_look(struct kvt_session *s, int layer, struct kvt_err *err);
/* Before the oracles run: all of it is still to come. */
void kvt_oracle_begin(struct kvt_session *s);
/* kvt_evict_env's `future`. */
const float *kvt_oracle_left(void *session, int branch, int layer);
/* What branch b ranks by at prefill's end, into s->given_host. */
void kvt_oracle_given(struct kvt_session *s, int b);

#endif
