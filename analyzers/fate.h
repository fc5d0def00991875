/* What became of each token of the context in a branch: in how many cells it stayed, in how many layers, and when the others let it go. */
#ifndef KVT_ANALYZERS_FATE_H
#define KVT_ANALYZERS_FATE_H

#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"

/* Moments as in evicted_at: -2-c prefill chunk c, 0 prefill's end, k the branch's k-th token. */
struct kvt_fate {
    int n;              /* tokens of the context */
    int32_t *cells;     /* (n) cells that hold it after eviction at prefill's end */
    int32_t *layers;    /* (n) layers in which one head or more does */
    int32_t *guarded;   /* (n) cells that hold it by rule (sink, protected span, recent, window) */
    int32_t *last;      /* (n) cells that hold it at the end */
    int32_t *from, *to; /* (n) when the first and the last cell that let go of it did; KVT_NOT_YET where all hold it */
};

/* From evicted_at (L, G, n_tok) and reason (L, G, n), the latter or NULL: nothing guarded. */
int kvt_fate_make(int L, int G, int n, int n_tok, const int32_t *evicted_at, const uint8_t *reason, struct kvt_fate *out, struct kvt_err *err);
void kvt_fate_free(struct kvt_fate *f);
/* "chunk 3", "prefill's end", "step 12" */
const char *kvt_moment_text(int32_t moment, char *buf, size_t cap);

#endif
