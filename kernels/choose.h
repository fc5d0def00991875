/* The contract, part two: operations of `cache` that turn scores into budgets and kept slots. Included by kernels/ops.h, whose
 * letters and rules hold here: arrays are row-major, pointers are backend memory, NULL in an optional output costs nothing. */
#ifndef KVT_KERNELS_CHOOSE_H
#define KVT_KERNELS_CHOOSE_H

#include <stdbool.h>
#include <stdint.h>

#define KVT_PAGE_SLOTS 16 /* slots in a page of one (layer, kv head) */

/* Reduction over the H / G query heads of a group. */
enum kvt_group { KVT_GROUP_MEAN, KVT_GROUP_MAX, KVT_GROUP_SUM };
struct kvt_group_args {
    const float *in;         /* (H, ld) */
    float *out;              /* (G, ld) */
    int H, G, n, ld;
    enum kvt_group how;
};

/* 1-D pooling along a row, stride 1, odd width, padding width / 2. avg counts the padding's zeros, max
 * doesn't (methods.md 0.6: avg of [1,2,3,4,5] at 3 is [1,2,3,4,3]). The row is [from, to). */
enum kvt_pool { KVT_POOL_NONE, KVT_POOL_AVG, KVT_POOL_MAX };
struct kvt_pool_args {
    const float *in;         /* (R, ld) */
    float *out;              /* (R, ld), not `in`; outside [from, to) copied */
    int R, ld, from, to, width;
    enum kvt_pool how;
};

/* out[r][j] = in[r][j] * (divide by visible: 1 / (n - j)) * scale; rows summed into one if `sum_rows`
 * (then out is (1, ld)). With accumulate, added to out. */
struct kvt_combine_args {
    const float *in;         /* (R, ld) */
    float *out;              /* (R, ld) or (1, ld); may be `in` */
    int R, ld, n;
    float scale;
    bool visible_mean;       /* divide column j by the n - j rows that can see it */
    bool sum_rows;
    bool accumulate;
};

/* out[r][s] = mean (or sum, or maximum) of in[r][j] for seg[s] <= j < seg[s + 1]; an empty segment gives -inf. */
enum kvt_reduce { KVT_REDUCE_MEAN, KVT_REDUCE_SUM, KVT_REDUCE_MAX };
struct kvt_segment_mean_args {
    const float *in;         /* (R, ld) */
    const int32_t *seg;      /* (S + 1), ascending */
    float *out;              /* (R, S) */
    int R, ld, S;
    enum kvt_reduce how;
};

/* Why a slot stays or left. In this order of precedence for the trace. */
enum kvt_reason {
    KVT_LEFT_SCORE = 0,      /* left: its score lost */
    KVT_KEPT_SCORE = 1,      /* stays: its own score won */
    KVT_KEPT_UNIT = 2,       /* stays: its unit (chunk, shot) won */
    KVT_LEFT_UNIT = 3,       /* left with its unit */
    KVT_KEPT_WINDOW = 4,     /* stays: recent or observation window */
    KVT_KEPT_PROTECTED = 5,  /* stays: sink or protected span */
    KVT_LEFT_BUDGET = 6,     /* left: would have won, but the unit didn't fit the budget */
    KVT_KEPT_ALL = 7,        /* stays: nothing had to go */
    KVT_REASON_NONE = 255    /* not in this universe (question re-fed, not yet generated) */
};

/* Each row keeps its protected slots and the best of the others, budget[r] slots in all (protected ones
 * included; if they alone are more, they all stay). Score order descending; ties: the earlier position
 * (pos, or the slot index where pos is NULL) wins; NaN loses to everything. exact. */
struct kvt_topk_args {
    const float *score;      /* (R, ld) */
    const uint8_t *protect;  /* (R, ld) 0, or the KVT_KEPT_* reason by which the slot stays; or NULL */
    const int32_t *pos;      /* (R, ld) or NULL */
    const int32_t *budget;   /* (R) */
    const int32_t *n;        /* (R) live slots */
    int R, ld;
    int32_t *kept;           /* (R, ld) slots kept, ascending; or NULL */
    int32_t *left;           /* (R, ld) slots that leave, DESCENDING (what kvt_remove_args takes); or NULL */
    int32_t *n_kept;         /* (R) or NULL */
    int32_t *n_left;         /* (R) or NULL */
    uint8_t *reason;         /* (R, ld) enum kvt_reason, or NULL */
    float *threshold;        /* (R) lowest unprotected score that stays; +inf if none does; or NULL */
};

/* Budgets of rows that share a total, from their scores: rows come in sets of `per` neighbours, set s has total[s]. The
 * order is that of topk over all rows of a set, ties: the earlier slot, then the earlier row; topk with these
 * budgets keeps exactly the slots counted here. Protected slots count in the total; if they alone are more, they stay.
 * exact; the budgets of a set sum to its total wherever it has room for the protected and enough slots for the rest.
 * RANK:   each row's best alpha of its even share (floor(alpha x total / per), protected included, at least 1 where
 *         alpha > 0) are safe; the others of the set compete for what is left (kvpress's AdaKVPress; 0: by rank alone).
 * BLEND:  of the total without the protected, base a row: win[r] = slots of row r among the set's best; the row
 *         gets floor(alpha x base) + (1 - alpha) x win[r] (FFY0/AdaKV), whole by largest remainders (ties: the earlier
 *         row), none above what the row has.
 * ROUND:  BLEND with their rounding, each row by itself, half to even: the sum may be off by some slots.
 * PAGES:  total counts pages of KVT_PAGE_SLOTS. A row of n slots holds ceil(n / 16) of them; to free its k-th, its
 *         h + 16 (k - 1) worst slots must go, h those in its last page, and its price is the best score among these.
 *         The cheapest pages go until no more than total[s] are held (KV-Compress, arXiv 2410.00161 section 4). */
enum kvt_divide { KVT_DIVIDE_RANK, KVT_DIVIDE_BLEND, KVT_DIVIDE_ROUND, KVT_DIVIDE_PAGES };
struct kvt_divide_args {
    const float *score;      /* (R, ld) */
    const uint8_t *protect;  /* (R, ld) as in topk, or NULL */
    const int32_t *n;        /* (R) live slots */
    const int32_t *total;    /* (R / per) */
    int R, ld, per;          /* R a multiple of per; ld x per < 2^32 */
    enum kvt_divide how;
    int alpha_ppm;           /* alpha in millionths */
    int32_t *budget;         /* (R) slots, protected included */
};

/* out[r][j] = (in[r][j] + eps) * by[r][j] (CriticalKV's second stage). */
struct kvt_weigh_args {
    const float *in, *by;    /* (R, ld) */
    float *out;              /* (R, ld); may be `in` */
    int R, ld, n;
    float eps;
};

/* Whole units (chunks, shots): each row keeps the units of its best scores. Order as in topk, ties: the
 * earlier unit, then the earlier row. With per > 1, sets of `per` neighbouring rows compete for the sum of their budgets.
 * KNAPSACK: the units whose scores have the largest sum among all choices that fit, each row by itself (negative and
 * NaN scores count 0 there; ties: the earlier units). Units are [seg[s], seg[s+1]) slots; a slot outside [seg[0], seg[S]) or protected stays.
 * The token budget counts every slot that stays in any case once; a unit costs its unprotected slots.
 * KVT_LEFT_BUDGET: the unit's turn came while there was room, but not for all of it. */
enum kvt_overflow { KVT_OVERFLOW_STOP, KVT_OVERFLOW_SKIP, KVT_OVERFLOW_KNAPSACK };
struct kvt_pick_units_args {
    const float *score;      /* (R, S) */
    const int32_t *seg;      /* (S + 1) */
    const uint8_t *candidate;/* (S) 1 = may be evicted, 0 = always stays (text between shots); or NULL: all may */
    const uint8_t *protect;  /* (R, ld) as in topk, or NULL */
    const int32_t *budget;   /* (R) tokens; ignored where max_units >= 0 */
    int max_units;           /* >= 0: keep exactly this many candidate units (ChunkKV), < 0: by tokens */
    int min_units;           /* keep at least this many even over budget (ShotKV's `force`), usually 0 */
    enum kvt_overflow overflow; /* at the first unit that doesn't fit: stop, or try smaller ones */
    int R, S, n, ld;
    int per;                 /* rows that compete together; 0 as 1; with max_units or KNAPSACK: 1 */
    int32_t *kept;           /* (R, ld) slots kept, ascending */
    int32_t *n_kept;         /* (R) */
    uint8_t *unit_kept;      /* (R, S) or NULL */
    uint8_t *reason;         /* (R, ld) or NULL */
    float *threshold;        /* (R) score of the row's last unit kept, +inf if none is; or NULL */
};

#endif
