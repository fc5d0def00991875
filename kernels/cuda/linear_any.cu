/* linear in f32 and in f16: linear.h's kernel with the type asked for at run time. These are for exactness and for comparison; bf16 is
 * the fast way on this machine. */
#include "kernels/cuda/linear.h"

int kvt_cuda_linear_any(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow, enum kvt_compute compute)
{
    if (compute == KVT_COMPUTE_F32)
        return linear_launch<KVT_N_DTYPE, KVT_COMPUTE_F32>(dev, job, narrow);
    return linear_launch<KVT_N_DTYPE, KVT_COMPUTE_F16>(dev, job, narrow);
}
