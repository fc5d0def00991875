/* The beginning that several prompts share, prefilled once: keys and values of its tokens, and the sums over its rows that methods rank by. It ends where
 * a run of the forward pass ends, so that the rows behind it come in the same calls as without it: the same results, bit by bit. */
#ifndef KVT_ENGINE_PREFIX_H
#define KVT_ENGINE_PREFIX_H

#include "engine/evict.h"

struct kvt_session;

enum { KVT_MAX_SUMS = KVT_MAX_WINDOWS + 3 };

struct kvt_prefix {
    int n;                         /* tokens held; 0: none */
    int restored, shared;          /* tokens of its prompt that the last session took from here; that shared_tok comes to */
    /* what it is good for */
    const struct kvt_model *model;
    const struct kvt_ops *ops;
    enum kvt_compute compute;
    enum kvt_dtype kv_type;
    struct kvt_needs needs;
    int32_t *token;                /* (n) */
    int32_t *unit;                 /* (n_units, 2) shots that begin in it */
    int n_units;
    double *freq;                  /* (2, rot / 2) rope's: some follow from the length of the run */
    /* host */
    float *k, *v;                  /* (L, n, G, D) */
    float *sum[KVT_MAX_SUMS];      /* (L, H, n) as sums_of() lists them */
    float *query_mean, *query_scatter; /* (L, H, D), (L, H, D, D); NULL where nobody asks */
};

/* In front of the prefill: whether the session's prompt begins with what is held, and then keys, values and sums as they were. Returns in *from the
 * rows that needn't be run: 0 where nothing fits. */
int kvt_prefix_restore(struct kvt_session *s, int *from, struct kvt_err *err);
/* Where the part of the prompt that is worth keeping ends, a row of the prefill that begins at `from`; and makes room for it. 0: nothing is. */
int kvt_prefix_plan(struct kvt_session *s, int from, int *end, struct kvt_err *err);
/* After the last row of a layer in front of `end`: the sums as they are then. After all layers: keys and values. */
int kvt_prefix_sums(struct kvt_session *s, int layer, int end);
int kvt_prefix_keep(struct kvt_session *s, int end, struct kvt_err *err);

#endif
