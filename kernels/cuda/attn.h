/* What the kernels of attention share: the call as they see it, and the files that do its parts.
 *
 *   attn_rows.cu    a row of queries against its cell, split over keys: steps, and everything that must be exact
 *   attn_tiles.h    tiles of 64 rows x 64 keys by tensor cores: loading, scores (f32's accuracy from 16-bit products)
 *   attn_prefill.cu many rows of one branch: output, and maximum and sum of each row
 *   attn_sweep.cu   the second sweep: probabilities of each tile, and all that is asked of them
 *   attn_sums.cu    sums of what the sweep's blocks found, in a fixed order */
#ifndef KVT_KERNELS_CUDA_ATTN_H
#define KVT_KERNELS_CUDA_ATTN_H

#include "kernels/cuda/cache.h"

/* Rows of a step travel with the launch: a copy of their own would cost more than the kernel that waits for it. */
enum { KVT_FEW_ROWS = 64 };
struct kvt_few_rows {
    int32_t branch[KVT_FEW_ROWS], pos[KVT_FEW_ROWS], row_at[KVT_FEW_ROWS];
    uint8_t turned[KVT_FEW_ROWS];
};

/* A call. Scores are kept in units of log 2, so that exp2f gives probabilities: score = scale2 x q k, and with a cap
 * cap2 x tanh(q k x scale / cap). */
struct kvt_attn_call {
    struct kvt_pages p;
    int layer, T, H;
    const float *q;          /* (T, H, D) */
    float *out;              /* (T, H, D) */
    const int32_t *branch, *pos; /* (T); NULL: T <= KVT_FEW_ROWS, and they are in `few` */
    const int32_t *row_at;   /* (T) likewise, where the row of probabilities goes; unused without w.row */
    const uint8_t *turned;   /* (T) likewise, rows whose positions are renumbered */
    struct kvt_few_rows few;
    bool any_turned;         /* some row of the call may be renumbered */
    struct kvt_rope rope;
    float scale2, cap2, in_cap; /* scale log2 e; cap log2 e; scale / cap */
    int window;
};

/* Of a row of a head: the largest score, in units of log 2, and the sum of 2^(score - max). No slot seen: sum 0. */
struct kvt_row_sum {
    float max, sum;
};

KVT_DEVICE int32_t kvt_row_branch(const struct kvt_attn_call &a, int t) { return a.branch ? a.branch[t] : a.few.branch[t]; }
KVT_DEVICE int32_t kvt_row_pos(const struct kvt_attn_call &a, int t) { return a.branch ? a.pos[t] : a.few.pos[t]; }
KVT_DEVICE int32_t kvt_row_place(const struct kvt_attn_call &a, int t) { return a.branch ? a.row_at[t] : a.few.row_at[t]; }
KVT_DEVICE bool kvt_row_turned(const struct kvt_attn_call &a, int t) { return a.any_turned && (a.branch ? a.turned[t] : a.few.turned[t]); }
KVT_DEVICE bool kvt_sees(const struct kvt_attn_call &a, int32_t row_pos, int32_t pos) { return pos <= row_pos && (!a.window || pos > row_pos - a.window); }
/* tanh(x) = 1 - 2 / (e^2x + 1): off by 2e-7 in absolute terms, which is what counts here, in a few instructions (tanhf has sixty, and a
 * kernel that unrolls it over a tile is read from memory more than it computes). */
KVT_DEVICE float kvt_score2(const struct kvt_attn_call &a, float dot)
{
    return a.cap2 > 0 ? a.cap2 * (1 - __fdividef(2.0f, exp2f(dot * a.in_cap * 2.88539008f) + 1)) : dot * a.scale2;
}

/* attn_rows.cu. most: no cell of the call has more slots. sums: (T, H) or NULL. row: NULL, or (blocks, H, row_ld). */
int kvt_cuda_attn_rows(struct kvt_dev *dev, const struct kvt_attn_call *a, int most, struct kvt_row_sum *sums, float *row, int row_ld, void *scratch);
size_t kvt_cuda_attn_rows_bytes(const struct kvt_attn_call *a, int most);

/* attn_prefill.cu: all rows belong to one branch, none is turned. False where there is no kernel for the head's size on this device.
 * bounds: (G, pages) of the branch's pages, from kvt_cuda_page_bounds. sums: (T, H) or NULL */
bool kvt_cuda_attn_prefill_can(const struct kvt_dev *dev, const struct kvt_attn_call *a);
void kvt_cuda_page_bounds(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, int pages, int2 *bounds);
int kvt_cuda_attn_prefill(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, struct kvt_row_sum *sums);

/* attn_sweep.cu. Calls as for a prefill, by whatever kernel the sums came. host_pos: (T) on the host */
size_t kvt_cuda_attn_sweep_bytes(const struct kvt_attn_call *a, const struct kvt_see *see);
int kvt_cuda_attn_sweep(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, const struct kvt_row_sum *sums,
                        const struct kvt_see *see, const int32_t *host_pos, void *scratch);

#endif
