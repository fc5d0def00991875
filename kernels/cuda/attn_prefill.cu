#include "kernels/cuda/attn.h"
bool kvt_cuda_attn_prefill_can(const struct kvt_dev *dev, const struct kvt_attn_call *a) { return false; }
int kvt_cuda_attn_prefill(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, int most, struct kvt_row_sum *sums) { return 0; }
size_t kvt_cuda_attn_sweep_bytes(const struct kvt_attn_call *a, const struct kvt_see *see) { return 0; }
int kvt_cuda_attn_sweep(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, int most, const struct kvt_row_sum *sums, const struct kvt_see *see,
                        const int32_t *host_pos, void *scratch) { return 0; }
