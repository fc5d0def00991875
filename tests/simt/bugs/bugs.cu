/* Kernels with one planted bug each (BUG 1), and their correct twins (BUG 0): y from x, n floats. What a bug is stands beside it. */
#include "tests/simt/bugs/bugs.h"

#include <cstring>

#include "kernels/cuda/gpu.h"

enum { N = 256 }; /* threads */

/* ---- barriers ---- */

template <int BUG> static __global__ void missing_sync(const float *x, float *y) /* a tile turned round in shared memory */
{
    __shared__ float t[N];
    int i = threadIdx.x;
    t[i] = x[blockIdx.x * N + i];
    if (!BUG)
        __syncthreads();
    y[blockIdx.x * N + i] = t[N - 1 - i];
}

template <int BUG> static __global__ void missing_sync_loop(const float *x, float *y) /* written again before all have read */
{
    __shared__ float t[N];
    int i = threadIdx.x;
    float a = 0;
    for (int k = 0; k < 4; k++) {
        t[i] = x[(blockIdx.x * N + i + k) % 1024];
        __syncthreads();
        a += t[N - 1 - i];
        if (!BUG)
            __syncthreads();
    }
    y[blockIdx.x * N + i] = a;
}

template <int BUG> static __global__ void missing_syncwarp(const float *x, float *y)
{
    __shared__ float t[N];
    int i = threadIdx.x;
    t[i] = x[blockIdx.x * N + i];
    if (!BUG)
        __syncwarp();
    y[blockIdx.x * N + i] = t[i ^ 1];
}

template <int BUG> static __global__ void flag_race(const float *x, float *y) /* one thread's value, for threads of other warps */
{
    __shared__ float s;
    int i = threadIdx.x;
    if (i == 96)
        s = x[blockIdx.x * N];
    if (!BUG)
        __syncthreads();
    y[blockIdx.x * N + i] = s;
}

template <int BUG> static __global__ void barrier_in_if(const float *x, float *y) /* half waits, half goes to another wait */
{
    __shared__ float t[N];
    int i = threadIdx.x;
    t[i] = x[blockIdx.x * N + i];
    if (!BUG)
        __syncthreads();
    else if ((i & 31) < 16)
        __syncthreads();
    else
        __syncwarp();
    y[blockIdx.x * N + i] = t[N - 1 - i];
}

template <int BUG> static __global__ void two_barriers(const float *x, float *y) /* branches meet at different barriers */
{
    __shared__ float t[N];
    int i = threadIdx.x;
    t[i] = x[blockIdx.x * N + i];
    if (!BUG) {
        __syncthreads();
    } else if (i < N / 2) {
        __syncthreads();
    } else {
        t[i] += 0;
        __syncthreads();
    }
    y[blockIdx.x * N + i] = t[N - 1 - i];
}

/* ---- lanes ---- */

template <int BUG> static __global__ void divergent_exit(const float *x, float *y, int n) /* some left, the rest shuffles with all */
{
    int i = blockIdx.x * N + threadIdx.x;
    if (BUG && i >= n)
        return;
    float v = i < n ? x[i] : 0;
    for (int w = 16; w; w /= 2)
        v += __shfl_xor_sync(0xffffffffu, v, w);
    if (i < n)
        y[i] = v;
}

template <int BUG> static __global__ void shfl_subset(const float *x, float *y) /* half of the lanes that the mask names */
{
    int i = blockIdx.x * N + threadIdx.x, lane = threadIdx.x & 31;
    float v = x[i];
    if (BUG) {
        if (lane < 16)
            v += __shfl_xor_sync(0xffffffffu, v, 1);
    } else {
        float w = __shfl_xor_sync(0xffffffffu, v, 1);
        if (lane < 16)
            v += w;
    }
    y[i] = v;
}

/* ---- memory ---- */

template <int BUG> static __global__ void static_oob(const float *x, float *y)
{
    __shared__ float t[N];
    __shared__ float guard[4];
    int i = threadIdx.x;
    if (i < 4)
        guard[i] = 0;
    __syncthreads();
    t[i + (BUG && i == N - 1)] = x[blockIdx.x * N + i];
    __syncthreads();
    y[blockIdx.x * N + i] = t[i] + guard[i & 3];
}

template <int BUG> static __global__ void dyn_oob(const float *x, float *y) /* 256 floats asked for */
{
    GPU_DYN_SHARED(float, t);
    int i = threadIdx.x;
    t[i] = x[blockIdx.x * N + i];
    if (BUG && i == 7)
        t[N] = 1;
    __syncthreads();
    y[blockIdx.x * N + i] = t[i];
}

template <int BUG> static __global__ void global_oob(const float *x, float *y, int n)
{
    int i = blockIdx.x * N + threadIdx.x;
    if (BUG || i < n)
        y[i] = x[i];
}

template <int BUG> static __global__ void uninit_shared(const float *x, float *y) /* counts that nobody zeroed */
{
    __shared__ int count[32];
    int i = threadIdx.x;
    if (!BUG && i < 32)
        count[i] = 0;
    __syncthreads();
    atomicAdd(&count[i & 31], 1);
    __syncthreads();
    y[blockIdx.x * N + i] = (float)count[i & 31] + 0 * x[i];
}

template <int BUG> static __global__ void async_nowait(const float *x, float *y)
{
    __shared__ __align__(16) float t[N];
    int i = threadIdx.x;
    if (i < N / 4)
        gpu_cp_async16(&t[4 * i], &x[blockIdx.x * N + 4 * i]);
    gpu_cp_async_commit();
    if (!BUG)
        gpu_cp_async_wait<0>();
    __syncthreads();
    y[blockIdx.x * N + i] = t[N - 1 - i];
    if (BUG)
        gpu_cp_async_wait<0>();
}

template <int BUG> static __global__ void async_misaligned(const float *x, float *y)
{
    __shared__ __align__(16) float t[N + 4];
    int i = threadIdx.x;
    if (i < N / 4)
        gpu_cp_async16(&t[4 * i + BUG], &x[blockIdx.x * N + 4 * i]);
    gpu_cp_async_commit();
    gpu_cp_async_wait<0>();
    __syncthreads();
    y[blockIdx.x * N + i] = t[i + BUG];
}

template <int BUG> static __global__ void global_race(const float *x, float *y) /* sums by several blocks, no atomic */
{
    int i = threadIdx.x;
    if (BUG)
        y[i] += x[blockIdx.x * N + i];
    else
        atomicAdd(&y[i], x[blockIdx.x * N + i]);
}

static __device__ unsigned tickets;
template <int BUG> static __global__ void last_block(const float *x, float *y) /* what the others wrote, not fenced */
{
    __shared__ bool last;
    int i = threadIdx.x;
    y[blockIdx.x * N + i] = x[blockIdx.x * N + i];
    if (!BUG)
        __threadfence();
    __syncthreads();
    if (!i) {
        last = atomicAdd(&tickets, 1u) + 1 == gridDim.x;
        if (last)
            atomicExch(&tickets, 0u);
    }
    __syncthreads();
    if (!last)
        return;
    __threadfence();
    float sum = 0;
    for (unsigned b = 0; b < gridDim.x; b++)
        sum += __ldcg(&y[b * N + i]);
    y[i] = sum;
}

/* The bug is the caller's: a wrong pointer, too much shared memory. */
template <int BUG> static __global__ void plain(const float *x, float *y)
{
    int i = blockIdx.x * N + threadIdx.x;
    y[i] = x[i];
}
static __global__ void one(float *y) { y[0] = 1; }

int run_bug(const char *name, int bug, const float *x, float *y, int n, cudaStream_t stream)
{
    const int grid = (n + N - 1) / N;
    const size_t shared = strcmp(name, "dyn_oob") ? 0 : N * sizeof(float);
#define CASE(kernel, ...)                                                     \
    if (!strcmp(name, #kernel)) {                                             \
        if (bug)                                                              \
            GPU_LAUNCH(kernel<1>, grid, N, shared, stream, __VA_ARGS__);      \
        else                                                                  \
            GPU_LAUNCH(kernel<0>, grid, N, shared, stream, __VA_ARGS__);      \
        return (int)cudaGetLastError();                                       \
    }
    CASE(missing_sync, x, y)
    CASE(missing_sync_loop, x, y)
    CASE(missing_syncwarp, x, y)
    CASE(flag_race, x, y)
    CASE(barrier_in_if, x, y)
    CASE(two_barriers, x, y)
    CASE(divergent_exit, x, y, n)
    CASE(shfl_subset, x, y)
    CASE(static_oob, x, y)
    CASE(dyn_oob, x, y)
    CASE(global_oob, x, y, n)
    CASE(uninit_shared, x, y)
    CASE(async_nowait, x, y)
    CASE(async_misaligned, x, y)
    CASE(global_race, x, y)
    CASE(last_block, x, y)
    CASE(plain, x, y)
    if (!strcmp(name, "big_shared")) {
        GPU_LAUNCH(one, 1, 1, bug ? 50000 : 4000, stream, y);
        return (int)cudaGetLastError();
    }
    return -1;
}
