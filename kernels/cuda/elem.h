/* What elem.cu does that the products of a step do on their way too (linear_step.cu), with the same bits. */
#ifndef KVT_KERNELS_CUDA_ELEM_H
#define KVT_KERNELS_CUDA_ELEM_H

#include "kernels/cuda/cuda.h"

/* Threads that share a row of E values: thread i sums values i, i + threads, ...; then warps' trees; then a tree over warps. */
static inline int elem_norm_threads(int E) { return E <= 512 ? 32 : E <= 2048 ? 256 : 1024; }

static __device__ __forceinline__ float elem_warp_sum(float x)
{
    for (int d = 16; d; d /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}

template <int act> static __device__ __forceinline__ float elem_act(float g)
{
    if (act == KVT_ACT_SILU)
        return g / (1 + expf(-g));
    if (act == KVT_ACT_GELU_TANH)
        return g / (1 + expf(-2 * (0.79788456080286536f * (g + 0.044715f * g * g * g)))); /* 0.79... = sqrt(2 / pi) */
    return g * 0.5f * erfcf(-g * 0.70710678118654752f);
}

#endif
