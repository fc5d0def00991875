/* What the shared prefill returns beside its output: the union of what methods need and the trace wants. */
#ifndef KVT_ENGINE_OBSERVE_H
#define KVT_ENGINE_OBSERVE_H

#include "engine/evict.h"
#include "engine/forward.h"

/* What is made anew by each layer, and leaves the backend. NULL: not wanted. */
struct kvt_observer_own {
    float *entropy, *sink, *keys, *local; /* (H, n) */
    float *square, *max;             /* (H, n) where no method needs them of all layers */
    float *distance, *offset;        /* (H, bins), (H, n_offsets) */
    float *spans;                    /* (H, segments, segments) */
    float *top;                      /* (H, n, top_k) */
    int32_t *top_at;
    uint16_t *map_mean, *map_max;    /* (H, R, C) */
};

struct kvt_observer {
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    const struct kvt_probe *probe;   /* or NULL */
    int L, H, n;                     /* n prompt tokens = columns = leading dimension */
    struct kvt_wants wants;
    struct kvt_prefill_scores raw;   /* backend memory, all layers; owned */
    struct kvt_see see;              /* of the layer being run; unit and n_units (shots) are set by who opens it, before the pass */
    struct kvt_look look;            /* to hand to the forward pass */
    struct kvt_observer_own own;     /* of the layer being run, backend, as all that follows */
    struct kvt_observer_own other;   /* of the layer before, which is still leaving; where the backend has `read_later` */
    int32_t *segment;                /* (segments + 1) edges, and (n_spans, 2) the segments of each span */
    const struct kvt_shape *shape;   /* for sliding windows and the order of channels; set by who opens it; NULL: no windows */
    int trace_square;                /* which of see.square is the trace's; -1: none */
    float *pool_mean, *pool_max;     /* (H, R, C) backend */
    float *weight;                   /* (R, C) backend */
    int G, D;                        /* of queries, keys, values, where they are looked at */
    float *vectors;                  /* (rows, H + 2 G, D) host, staging for those that the probe wants, and (D); NULL: none */
    size_t n_vectors;                /* floats of it in front of the last D */
    void *rows;                      /* (heads, attn_rows, n) backend, f32 or f16 */
    int *head;                       /* heads whose full rows are wanted */
    int n_heads;
    uint64_t head_bits;              /* the same heads, bit h for head h */
    int n_late;                      /* last rows that are told by themselves; 0: none */
    float *late;                     /* (H, late_rows, n) backend: those of one call */
    int late_rows;
    uint8_t *level;                  /* (late_rows) of a call's rows: row_sums; NULL where the backend doesn't tell */
    float *host;                     /* staging for events: of kvt_later_alloc, two halves where there is `other` */
    size_t half;                     /* floats of a half */
    int layer, turn;                 /* being run, -1 before the first; its half */
    bool waiting;                    /* `late_ev` isn't told yet */
    struct kvt_event late_ev;
    const float *piece;              /* of it: what spans are made of */
    bool in_host;                    /* the backend's memory is the host's too: only what events change is copied */
};

/* needs: what all methods need. probe may be NULL. ENOMEM with the size that was asked for. */
int kvt_observer_open(struct kvt_observer *o, const struct kvt_ops *ops, struct kvt_dev *dev, const struct kvt_probe *probe,
                      int L, int H, int n, const struct kvt_needs *needs, struct kvt_err *err);
/* After open: queries, keys and values, for what the probe wants of them (runs of at most `rows`); with `stats`, statistics of
 * unrotated queries are gathered too, the first KVT_QUERY_SKIP rows left out (kvpress: outliers). */
enum { KVT_QUERY_SKIP = 4 };
int kvt_observer_vectors(struct kvt_observer *o, int G, int D, int rows, bool stats, struct kvt_err *err);
size_t kvt_observer_vectors_bytes(const struct kvt_wants *w, int H, int G, int D, int rows);
void kvt_observer_close(struct kvt_observer *o);

/* observe_event.c: tells the probe of a layer, after its last row: at once, or, where it leaves while the device works on the next one, before
 * that one is told, or by kvt_observer_finish. */
int kvt_observer_layer(struct kvt_observer *o, int layer);
int kvt_observer_finish(struct kvt_observer *o);
/* The last rows of a call, head by head. */
int kvt_observer_late(struct kvt_observer *o, int layer, int row0, int n);
/* count floats for an event, where the host can read them; NULL stays NULL. */
const float *kvt_observer_stage(struct kvt_observer *o, const float *src, size_t count, size_t *at, int *rc);
/* weight (R, C), host: 1 / causal pairs (i, j <= i) of each bin of a map of n rows; NaN where there are none. */
void kvt_observer_weight(float *weight, int n, int R, int C);
/* Something of a layer is wanted beside raw scores and maps. */
bool kvt_observer_more(const struct kvt_wants *w);

/* Bytes that open would take: reductions (all layers) and maps with staging (one layer). */
void kvt_observer_bytes(const struct kvt_wants *w, int run, int L, int H, int n, const struct kvt_needs *needs, bool in_host, size_t *scores, size_t *maps);

#endif
