/* What can be seen of a run, and how: the engine knows only this page, never a file.
 *
 * Before a pass the engine asks `wants`; during it, it calls `see` with events whose pointers are host memory,
 * borrowed until the call returns. A nonzero return from `see` cancels the run with that status. */
#ifndef KVT_PROBE_H
#define KVT_PROBE_H

#include <stdbool.h>
#include <stdint.h>

#define KVT_MAX_WINDOWS 8 /* observation windows of different length in one pass */

/* f16 attention is the probability times this: f16 keeps 11 bits down to 2e-9. */
#define KVT_HALF_SCALE 32768.0f

/* Distances i - j between a row and a key are counted one by one from 0 to 8, then 9 to 15, 16 to 31, 32 to 63 ... */
static inline int kvt_distance_start(int bin) { return bin < 10 ? bin : 1 << (bin - 6); }
#define KVT_FEW_KEYS 32 /* rows that see fewer keys are left out of averages over rows */
/* Bins that rows of n positions can reach. */
static inline int kvt_distance_bins(int n)
{
    int bins = 0;
    while (bins < 36 && kvt_distance_start(bins) < n)
        bins++;
    return bins;
}

/* What the trace wants beside what the methods need. */
struct kvt_wants {
    bool scores;            /* raw scores of every layer and query head: mass, windows, last row, entropy, sink */
    int n_sink;             /* positions below this count as sinks for `sink`; 4 by default */
    bool visible, square, max; /* of every key: mass over the rows that could see it, sum of squares, maximum; over all rows */
    bool keys, local;       /* of every row: effective number of keys, mass on the newest n_local of them */
    int n_local;            /* 0 counts as 32 */
    bool distance;          /* mass by distance, mean over the rows that see at least KVT_FEW_KEYS keys (measures.md 6) */
    const int32_t *offset;  /* (n_offsets) single distances beside the bins, ascending */
    int n_offsets;
    const int32_t *span;    /* (n_spans, 2) first token and end: which of them looks at which; they may lie in one another */
    const int32_t *span_of; /* (n_spans) the trace's numbers of them; NULL: 0, 1 ... */
    int n_spans;
    int top_k;              /* the largest of each row; 0 = none */
    int map_r, map_c;       /* pooled maps of every layer and head; 0 = none */
    bool full;              /* full rows of the layers and heads below */
    bool half;              /* as f16 of A times KVT_HALF_SCALE (kernels/ops.h) instead of f32 */
    bool q, k, v;           /* queries, keys, values of the layers below; queries and keys before and after rotation */
    const uint8_t *layer;   /* (L) 1 = wanted; NULL = all */
    const uint8_t *head;    /* (H) 1 = wanted; NULL = all */
    bool decisions;         /* final scores, thresholds, reasons */
    bool rows;              /* the full branch's row of every step */
    int replay;             /* more than 0: what decisions follow from, to make them again (measures.md 8): that many last rows of the
                             * prefill, sums that methods rank by, rows of the question fed again, norms of keys and of outputs */
    bool decode;            /* of the full branch's row of each generated token too: scores' entropy and sink, and of keys, local, distance,
                             * offset, span and top_k what is asked for above */
};

enum kvt_event_kind {
    KVT_EV_PREFILL_LAYER,   /* raw scores and pooled maps of one layer, after its attention */
    KVT_EV_ROWS,            /* full attention rows, a run of them */
    KVT_EV_LATE_ROWS,       /* of a head's last rows of the prefill, a run of them */
    KVT_EV_NORMS,           /* what a layer's slots weigh: at prefill's end of the context, at the end of all positions */
    KVT_EV_VECTORS,         /* queries, keys, values of a run of the prefill's rows */
    KVT_EV_BUDGET,          /* what a branch was asked to keep and what it got, after prefill-end eviction */
    KVT_EV_DECISION,        /* one branch and layer at prefill's end */
    KVT_EV_EVICT,           /* positions lost after a decode step */
    KVT_EV_STEP,            /* one lockstep step, all branches */
    KVT_EV_FIDELITY,        /* how far the step's branches are from the full one; before its KVT_EV_STEP */
    KVT_EV_DECODE_ROW,      /* the full branch's attention of a token and layer; before its KVT_EV_STEP */
    KVT_EV_DECODE,          /* what such rows come to, all layers; before its KVT_EV_STEP */
    KVT_EV_FREE,            /* a free-running branch's next token */
    KVT_EV_PHASE,           /* a phase ended: its time */
    KVT_EV_TIMES,           /* times of the parts of what was just done */
};

enum kvt_phase { KVT_PHASE_PREFILL, KVT_PHASE_EVICT, KVT_PHASE_QUESTION, KVT_PHASE_DECODE,
                 KVT_PHASE_REPEAT, /* KVzip's reconstruction */
                 KVT_PHASE_ORACLE, /* all that oracle branches cost: eviction, question, decode beside the full branch again */
                 KVT_N_PHASE };

struct kvt_ev_prefill_layer {
    int layer, n;           /* n prompt tokens */
    const float *mass;      /* (H, n) or NULL; likewise all below */
    int n_windows;
    int window[KVT_MAX_WINDOWS];
    const float *wmass[KVT_MAX_WINDOWS]; /* (H, n) */
    const float *last;      /* (H, n) */
    const float *entropy;   /* (H, n), nats, by row */
    const float *sink;      /* (H, n), by row */
    const float *visible;   /* (H, n): mass over the number of rows that could see the key */
    const float *square, *max; /* (H, n): sum of squares, maximum, over all rows */
    const float *keys, *local; /* (H, n), by row */
    int n_distances, n_offsets, n_spans, top_k;
    const float *distance;  /* (H, n_distances): mean over rows that see KVT_FEW_KEYS or more of the mass in each bin; NaN without such rows */
    const float *offset;    /* (H, n_offsets): mean of A at each distance over those of these rows that reach so far; NaN without such rows */
    const float *spans;     /* (H, n_spans, n_spans): mean over the rows of one span of the mass on another; NaN where it has no rows */
    const float *top;       /* (H, n, top_k): the largest of each row, descending; 0 where it sees fewer keys */
    const int32_t *top_at;  /* (H, n, top_k): their keys; -1 where it sees fewer */
    int R, C;
    const float *later;     /* (H, n): mass of the rows after the end of the key's shot; where decisions are to be made again */
    int n_squares;          /* likewise: sums of squares, or of positions, over some of the rows (struct kvt_square of kernels/ops.h) */
    int square_window[KVT_MAX_WINDOWS], square_distance[KVT_MAX_WINDOWS], square_by_pos[KVT_MAX_WINDOWS];
    const float *sqmass[KVT_MAX_WINDOWS]; /* (H, n) */
    const uint16_t *map_mean; /* (H, R, C) f16 times KVT_HALF_SCALE: mean over the causal pairs of the bin; NaN where it has none */
    const uint16_t *map_max;  /* (H, R, C) the same of the maximum */
};

struct kvt_ev_rows {
    int layer, n, row0, n_rows, n_heads;
    const int *head;        /* (n_heads) */
    const float *rows;      /* (n_heads, n_rows, n), or NULL: */
    const uint16_t *half;   /* the same, where the probe wants halves */
};

struct kvt_ev_vectors {     /* twice for each run: as the layer projected (and normed) them, then rotated, which is without v */
    int layer, row0, n_rows, D;
    bool rotated;
    const float *q;         /* (n_rows, H, D), or NULL where not asked; likewise below. Channels of q and k in Hugging Face's order */
    const float *k, *v;     /* (n_rows, G, D) before they are rounded to the cache's type */
};

struct kvt_ev_budget {
    int branch;
    double asked_keep;      /* share kept asked, or NaN if asked in tokens */
    double effective_keep;  /* slots of the context really kept / (context x L x G), of layers that methods act on */
    int64_t kept_slots, context_slots; /* summed over those layers and kv heads */
    const int32_t *budget_tok; /* (L, G) asked of each cell after rounding and allocation */
    const int32_t *kept_tok;   /* (L, G) got */
    bool fallback;          /* PyramidKV's uniform fallback, ChunkKV below one chunk ... */
    const char *note;       /* why, or "" */
    int64_t host_ns;        /* waited for a score made on the host; 0 where the backend makes it */
};

struct kvt_ev_decision {
    int branch, layer, n;   /* n: the universe, slots of the context */
    int R;                  /* rows of score: G (each kv head chose) or 1 (heads share one set) */
    const float *score;     /* (R, n) final score as ranked; NaN where the method ranks nothing */
    const float *threshold; /* (R) */
    const uint8_t *reason;  /* (G, n) enum kvt_reason of kernels/ops.h */
};

struct kvt_ev_evict {       /* step k: after the branch's k-th own token, k >= 1 */
    int branch, layer, g, step, n;
    const int32_t *pos;     /* (n) */
};

struct kvt_ev_step {
    int step;               /* k-th new token, k >= 1 */
    int n_branch;           /* B below: branches [first, first + B) */
    const int32_t *token;   /* (B) token appended to each branch: the full branch's where teacher-forced; -1: its text has
                             * ended (free-running only), and nothing below is news but its bytes */
    const int32_t *argmax;  /* (B) what each branch would have said */
    const float *logprob;   /* (B) ln p of `token` under the branch */
    const float *kl;        /* (B) KL(full || branch), nats; NaN where their texts differ (free-running only) */
    const float *entropy;   /* (B) nats */
    const uint64_t *alone_bytes; /* (B) KV bytes the branch would hold by itself, after this step */
    const uint64_t *own_bytes;   /* (B) held by it only */
    uint64_t held_bytes;    /* held by the run; this and the next only where first is 0 */
    int64_t step_ns;        /* the whole lockstep step */
    int first;              /* 0, or the first oracle: they have a pass of their own, later */
};

struct kvt_ev_fidelity {    /* of the row of step k's token; 0 for the full branch; NULL where not asked */
    int step, first, n_branch;
    const float *lost_mass; /* (B, L, G) share of the full branch's row on slots that the branch lost, mean over the query group */
    const float *lost_rest; /* (B, L, G) the same of rows without sinks, renormalised */
    const float *local;     /* (B, L) relative L2 of the full branch's attention over the slots kept */
    const float *propagated;/* (B, L) relative L2 of the branch's own attention */
};

struct kvt_ev_late_rows {
    int layer, head, n, row0, n_rows; /* row0: of the late rows */
    const float *rows;      /* (n_rows, n) */
    const uint8_t *level;   /* (n_rows) where the backend's sums over rows begin anew: row_sums of kernels/ops.h; NULL: not told */
};

struct kvt_ev_norms {
    int layer, n;           /* n positions from 0 on */
    const float *key;       /* (G, n) norms of the keys as cached */
    const float *out;       /* (G, n) ||W_O v||_1; or NULL */
};

struct kvt_ev_decode_row {  /* row of the token at pos: step k's is n_prompt + k - 1; before that come the question's, where it is fed again */
    int pos, layer, n, ld;  /* n = pos + 1 keys it could see, itself the last */
    const float *row;       /* (H, ld) by position; 0 from n on, and where a sliding window doesn't reach; ld: of all the run's tokens */
};

struct kvt_ev_decode {      /* NULL where not wanted */
    int step;
    const float *entropy, *keys, *sink, *local; /* (L, H) as in the prefill */
    const float *first;     /* (L, H) weight on the first token */
    const float *own;       /* (L, H) mass on generated tokens, the row's own included */
    int n_distances, n_offsets, n_spans, top_k;
    const float *distance;  /* (L, H, n_distances) mass by distance; n_distances bins reach over prompt + n_new */
    const float *offset;    /* (L, H, n_offsets); NaN where the row doesn't reach so far */
    const float *spans;     /* (L, H, n_spans) mass on each span */
    const float *top;       /* (L, H, top_k) */
    const int32_t *top_at;  /* (L, H, top_k) */
};

struct kvt_ev_free {        /* from the first differing token on */
    int branch, step;
    int32_t token;
    float logprob;
};

struct kvt_ev_phase {
    enum kvt_phase phase;
    int64_t start_ns, dur_ns; /* CLOCK_MONOTONIC */
    int n_tok;
};

/* Parts of the work that are timed one by one, in every run. */
enum kvt_part { KVT_PART_QKV,     /* a layer's norm, q, k, v, rotation, appending to the cache */
                KVT_PART_ATTENTION,
                KVT_PART_LOOK,    /* what is done with a layer's attention: events told, per-step eviction */
                KVT_PART_OUTPUT,  /* the output projection */
                KVT_PART_FFN,
                KVT_PART_HEAD,    /* logits */
                KVT_PART_SCORE, KVT_PART_SELECT, KVT_PART_COMPACT, /* of a branch: at prefill's end, or of a layer in a step */
                KVT_PART_STEP,    /* a whole lockstep step */
                KVT_PART_WRITE,   /* a message going into the file, on the writer's thread */
                KVT_PART_EVICT,   /* of a branch and layer in a step: scored, selected and compacted in one */
                KVT_N_PART };

struct kvt_time { int64_t start_ns, dur_ns; int32_t layer, branch, step, part; }; /* CLOCK_MONOTONIC; -1: of no layer, branch */

struct kvt_ev_times {
    int n;
    const struct kvt_time *time; /* (n) */
    int64_t lost;           /* in all so far: records that found no room */
};

struct kvt_event {
    enum kvt_event_kind kind;
    union {
        struct kvt_ev_prefill_layer prefill_layer;
        struct kvt_ev_rows rows;
        struct kvt_ev_late_rows late_rows;
        struct kvt_ev_norms norms;
        struct kvt_ev_vectors vectors;
        struct kvt_ev_budget budget;
        struct kvt_ev_decision decision;
        struct kvt_ev_evict evict;
        struct kvt_ev_step step;
        struct kvt_ev_fidelity fidelity;
        struct kvt_ev_decode_row decode_row;
        struct kvt_ev_decode decode;
        struct kvt_ev_free free;
        struct kvt_ev_phase phase;
        struct kvt_ev_times times;
    };
};

struct kvt_probe {
    void *self;
    void (*wants)(void *self, struct kvt_wants *w);
    int (*see)(void *self, const struct kvt_event *ev);
};

#endif
