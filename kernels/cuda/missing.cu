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
MISSING int kvt_cuda_evict_one(struct kvt_dev *dev, const struct kvt_evict_one_args *a) { abort(); }
MISSING int kvt_cuda_lost(struct kvt_dev *dev, const struct kvt_lost_args *a) { abort(); }
}
