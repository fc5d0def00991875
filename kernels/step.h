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

#endif
