/* What the second sweep is asked for, as its kernels see it: struct kvt_see (kernels/ops.h) with host arrays on the device, and the
 * memory between the sweep and the sums.
 *
 * A block of the sweep has 64 rows of one head. What it finds of columns (sums over its rows) goes to `column`, one line for each
 * block and kind; what it finds of rows (sums over segments, distances, bins of the map) goes to `rowwise`, one line for each row. The
 * sums over blocks, and over rows, are made by attn_sums.cu in a fixed order. Rows come in groups, so that this memory stays bounded. */
#ifndef KVT_KERNELS_CUDA_ATTN_SEE_H
#define KVT_KERNELS_CUDA_ATTN_SEE_H

#include "kernels/cuda/attn_tiles.h"

/* Kinds of columns' values, in the order of `column`: mass, windows, squares, maximum, later; which of them are there. */
struct kvt_sweep {
    int ld, n_rows, T0, T;   /* rows [T0, T0 + T) of the call are this group's */
    int n_windows, n_squares, max_from, n_units, n_sink, n_local, far_from, n_offsets, n_segments, top_k, R, C, bins;
    bool mass, max_, later, keys_or_entropy;
    int window[KVT_MAX_WINDOWS];
    struct kvt_square square[KVT_MAX_WINDOWS];
    int n_kinds;             /* lines of `column` for a block */
    float *column;           /* (n_kinds, blocks, H, ld) */
    /* a row's line: (n_segments) masses by segment, (bins) by distance, (n_offsets), (C) sums and (C) maxima of bins of the map */
    int row_ld, at_distance, at_offset, at_sum, at_max;
    float *rowwise;          /* (T, H, row_ld) */
    float *last, *entropy, *keys, *sink, *local, *top, *rows;
    int32_t *top_at;
    uint16_t *half;
    uint64_t row_heads;
    const int32_t *unit, *offset_at, *segment; /* on the device */
    int32_t *bin;            /* (C + 1) first column of each bin of the map */
};

KVT_DEVICE int kvt_distance_bin(int distance, int bins)
{
    int bin = distance < 10 ? distance : 37 - __clz(distance); /* 10 + floor(log2(distance / 16)), kvt_distance_start */
    return bin < bins ? bin : bins - 1;
}

/* attn_sums.cu: adds a group's lines to the caller's arrays. blocks: of the group */
int kvt_cuda_attn_sums(struct kvt_dev *dev, const struct kvt_sweep *w, const struct kvt_see *see, int H, int blocks, const int32_t *pos);
/* The maps, when the last row was there. */
int kvt_cuda_attn_maps(struct kvt_dev *dev, const struct kvt_see *see, int H);

#endif
