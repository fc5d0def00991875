/* TEMPORARY: what isn't written yet. */
#include "kernels/cuda/cuda.h"
#include <stdlib.h>
#define MISSING __attribute__((weak))
extern "C" {
MISSING int kvt_cuda_embed(struct kvt_dev *dev, const struct kvt_embed_args *a) { abort(); }
MISSING int kvt_cuda_norm(struct kvt_dev *dev, const struct kvt_norm_args *a) { abort(); }
MISSING int kvt_cuda_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a) { abort(); }
MISSING int kvt_cuda_glu(struct kvt_dev *dev, const struct kvt_glu_args *a) { abort(); }
MISSING int kvt_cuda_add(struct kvt_dev *dev, const struct kvt_add_args *a) { abort(); }
MISSING int kvt_cuda_scale(struct kvt_dev *dev, const struct kvt_scale_args *a) { abort(); }
MISSING int kvt_cuda_logit_stats(struct kvt_dev *dev, const struct kvt_logit_stats_args *a) { abort(); }
MISSING int kvt_cuda_linear(struct kvt_dev *dev, const struct kvt_linear_args *a) { abort(); }
MISSING int kvt_cuda_group(struct kvt_dev *dev, const struct kvt_group_args *a) { abort(); }
MISSING int kvt_cuda_pool(struct kvt_dev *dev, const struct kvt_pool_args *a) { abort(); }
MISSING int kvt_cuda_combine(struct kvt_dev *dev, const struct kvt_combine_args *a) { abort(); }
MISSING int kvt_cuda_segment_mean(struct kvt_dev *dev, const struct kvt_segment_mean_args *a) { abort(); }
MISSING int kvt_cuda_weigh(struct kvt_dev *dev, const struct kvt_weigh_args *a) { abort(); }
MISSING int kvt_cuda_topk(struct kvt_dev *dev, const struct kvt_topk_args *a) { abort(); }
MISSING int kvt_cuda_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a) { abort(); }
MISSING int kvt_cuda_divide(struct kvt_dev *dev, const struct kvt_divide_args *a) { abort(); }
MISSING int kvt_cuda_pick_units(struct kvt_dev *dev, const struct kvt_pick_units_args *a) { abort(); }
MISSING int kvt_cuda_accumulate(struct kvt_dev *dev, const struct kvt_accumulate_args *a) { abort(); }
MISSING int kvt_cuda_contest(struct kvt_dev *dev, const struct kvt_contest_args *a) { abort(); }
MISSING int kvt_cuda_evict_one(struct kvt_dev *dev, const struct kvt_evict_one_args *a) { abort(); }
MISSING int kvt_cuda_lost(struct kvt_dev *dev, const struct kvt_lost_args *a) { abort(); }
}
