/* linear in bf16: linear.h's kernel for types of blocks of 256. */
#include "kernels/cuda/linear.h"

#include <assert.h>

int kvt_cuda_linear_bf16_256(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow)
{
    switch (job->type) {
#define X(name) \
    case KVT_##name: return linear_launch<KVT_##name, KVT_COMPUTE_BF16>(dev, job, narrow);
        X(Q4_K) X(Q5_K) X(Q6_K) X(Q2_K) X(Q3_K) X(IQ4_XS)
#undef X
    default: assert(!"a type of these"); return KVT_EDEVICE;
    }
}
