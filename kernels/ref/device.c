/* The ref backend: the definition of every operation. One thread, no instruction set asked for. */
#include "kernels/ref/ref.h"

static int ref_open(struct kvt_dev **out, const struct kvt_dev_opts *opts, struct kvt_err *err)
{
    (void)opts;
    return kvt_dev_new(out, "ref, 1 thread", 1, KVT_SIMD_NONE, err);
}

static bool ref_can_compute(struct kvt_dev *dev, enum kvt_compute compute)
{
    (void)dev;
    (void)compute;
    return true; /* equally slow */
}

const struct kvt_ops kvt_ops_ref = {
    .name = "ref",
    .run = 512,
    .open = ref_open,
    .close = kvt_dev_close,
    .describe = kvt_dev_describe,
    .can_compute = ref_can_compute,
    .alloc = kvt_host_alloc,
    .free = kvt_host_free,
    .write = kvt_host_copy,
    .read = kvt_host_copy,
    .zero = kvt_host_zero,
    .copy = kvt_host_copy,
    .weights = kvt_host_weights,

    .embed = kvt_ref_embed,
    .norm = kvt_ref_norm,
    .rotate = kvt_ref_rotate,
    .glu = kvt_ref_glu,
    .add = kvt_ref_add,
    .scale = kvt_ref_scale,
    .logit_stats = kvt_ref_logit_stats,

    .linear = kvt_ref_linear,

    .cache_open = kvt_ref_cache_open,
    .cache_close = kvt_ref_cache_close,
    .cache_append = kvt_ref_cache_append,
    .cache_keep = kvt_ref_cache_keep,
    .cache_remove = kvt_ref_cache_remove,
    .cache_fork = kvt_ref_cache_fork,
    .cache_drop = kvt_ref_cache_drop,
    .cache_positions = kvt_ref_cache_positions,
    .cache_lengths = kvt_ref_cache_lengths,
    .cache_bytes = kvt_ref_cache_bytes,
    .cache_peek = kvt_ref_cache_peek,
    .group = kvt_ref_group,
    .pool = kvt_ref_pool,
    .combine = kvt_ref_combine,
    .segment_mean = kvt_ref_segment_mean,
    .topk = kvt_ref_topk,
    .pick_units = kvt_ref_pick_units,
    .divide = kvt_ref_divide,
    .weigh = kvt_ref_weigh,

    .norms = kvt_ref_norms,
    .keydiff = kvt_ref_keydiff,
    .lag = kvt_ref_lag,
    .out_norms = kvt_ref_out_norms,
    .query_stats = kvt_ref_query_stats,
    .expected = kvt_ref_expected,

    .accumulate = kvt_ref_accumulate,
    .contest = kvt_ref_contest,
    .evict_one = kvt_ref_evict_one,
    .topk_within = kvt_ref_topk_within,
    .reduce_row = kvt_ref_reduce_row,
    .attn = kvt_ref_attn,
    .row_sums = kvt_ref_row_sums,
    .lost = kvt_ref_lost,
};
