/* Arguments of the operations for eviction while tokens come: a part of kernels/ops.h, which includes it. */
#ifndef KVT_KERNELS_STEP_H
#define KVT_KERNELS_STEP_H

#include "kernels/ops.h"

/* Adds a decode row to what slots have received: state[g][j] += f(row[h][j]) reduced over the heads h of group g, for the
 * slots j < n[g] of each kv head; slots from held[g] on are new and start at 0. f is the value, or its square. */
struct kvt_accumulate_args {
    const float *row;        /* (H, row_ld) */
    float *state;            /* (G, ld) */
    const int32_t *held, *n; /* host, (G) */
    int H, G, row_ld, ld;
    enum kvt_group how;
    bool square;
};

/* TreeKV's contest. The unprotected slots of a row arrive in order of position; whenever more of them are there than the
 * budget leaves room for (room = budget - protected, at least 1), the ones at places turn and turn + 1 compare (from 0, in
 * order of position; turn begins anew at 0 from room on), the lower score leaves, the earlier at a tie (NaN is lower than
 * anything), and turn goes on by one. With one slot too many this is one contest. Without room all unprotected leave. exact. */
struct kvt_contest_args {
    const float *score;      /* (R, ld) */
    const uint8_t *protect;  /* (R, ld) as in topk, or NULL */
    const int32_t *pos;      /* (R, ld), or NULL: slots are in order of position */
    const int32_t *budget, *n; /* (R) */
    int32_t *turn;           /* (R) in and out */
    int R, ld;
    int32_t *left;           /* (R, ld) slots that leave, descending; or NULL */
    int32_t *n_left;         /* (R) or NULL */
    float *stay;             /* (R, ld) 1 for slots that stay, 0 for those that leave; or NULL */
};

/* A step's eviction where no cell of (branch, layer) has more than one slot too many, in one pass over each cell: what accumulate,
 * group or combine, topk or contest, and cache_remove do one after the other. A cell of more than budget[g] slots loses the least
 * worthy of those that aren't protected, if there is one (NaN is the least; at a tie the later position leaves), or, with `turn`, the
 * loser of a contest. The sums move with their slots. exact. */
struct kvt_evict_one_args {
    struct kvt_cache *cache;
    int branch, layer, H;
    const float *row;        /* (H, row_ld) the newest row of attention; or NULL */
    float *state;            /* (G, ld) sums that it is added to, as accumulate does; or NULL */
    int row_ld, ld;
    int added;               /* the last slots of each cell, whose sums start at 0 */
    enum kvt_group how;
    bool square;
    /* A slot's worth: its sum, without sums what the row gives it, without a row its position. */
    bool visible_mean;       /* divided by the rows that saw it, pos - its position + 1 */
    bool shared;             /* cells hold the same positions in the same slots; worth is summed over them, and all lose the same slot */
    int32_t pos;             /* of the newest slot */
    int32_t sinks;           /* slots at positions < sinks, and > pos - recent[g], are protected */
    const int32_t *recent, *budget; /* host, (G); shared: (1) */
    int32_t *turn;           /* (G) in and out, as in contest; shared: (1); or NULL */
    int32_t *left;           /* (G) the position that left; -1: none did */
};

/* topk in stretches: slots [from, n) of each row are cut each `within` slots, and each stretch of m slots keeps max(1, floor(m x
 * num / den)) of its own, protected ones included, chosen as topk chooses (FINCH's chunks, LagKV's partitions); slots before
 * `from` all stay. exact. */
struct kvt_topk_within_args {
    const float *score;      /* (R, ld) */
    const uint8_t *protect;  /* (R, ld) as in topk, or NULL */
    const int32_t *n;        /* (R) live slots */
    int R, ld, from, within;
    int64_t num, den;        /* the share, at most 1 */
    int32_t *kept;           /* (R, ld) slots kept, ascending */
    int32_t *n_kept;         /* (R) */
    uint8_t *reason;         /* (R, ld) enum kvt_reason, or NULL */
};

/* What rows of decoding come to, by the definitions of struct kvt_see: each head's row of n probabilities, in the order of the text, the newest
 * token's own last. All of it is host memory; outputs are NULL where they aren't wanted. Distances and offsets are from the newest token; an
 * offset that the row doesn't reach is NaN. */
struct kvt_reduce_row_args {
    const float *row;        /* (H, ld) */
    int H, n, ld;
    int n_sink, n_local;     /* the first and the last positions that count as such */
    int n_prompt;            /* tokens of the prompt: `own` is the mass behind them */
    float *entropy, *keys, *first, *sink, *local, *own; /* (H); keys: e to the entropy; first: of position 0 */
    float *distance;         /* (H, n_distances): bins of kvt_distance_start; the last one takes all that is farther */
    float *offset;           /* (H, n_offsets) */
    float *spans;            /* (H, n_spans) mass on [span[2 i], span[2 i + 1]) */
    float *top;              /* (H, top_k) the largest, descending, of equal ones the earlier first; 0 and -1 where there are fewer */
    int32_t *top_at;         /* (H, top_k) */
    const int32_t *offset_at, *span;
    int n_distances, n_offsets, n_spans, top_k;
};

#endif
