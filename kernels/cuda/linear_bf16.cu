/* linear in bf16: linear.h's kernel for types of single values and of blocks of 32. */
#include "kernels/cuda/linear.h"

#include <assert.h>

int kvt_cuda_linear_bf16(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow)
{
    switch (job->type) {
#define X(name) \
    case KVT_##name: return linear_launch<KVT_##name, KVT_COMPUTE_BF16>(dev, job, narrow);
        X(F32) X(F16) X(BF16) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(IQ4_NL) X(MXFP4)
#undef X
    default: assert(!"a type of these"); return KVT_EDEVICE;
    }
}
