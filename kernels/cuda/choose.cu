/* group, pool, combine, segment_mean, weigh: reductions of scores before slots are chosen. All are bound by memory: a thread makes one
 * value, neighbours read neighbours (of a pooled row, the window comes from L1). Sums are in double, in the order of the definition,
 * and rounded once; only segment_mean, whose segments may be long, sums by a warp: lane by lane, then a fixed tree. */
#include "kernels/cuda/select.h"

enum { THREADS = 256 };

/* Blocks of a grid over R rows of n values; a block's row and its thread's column. */
static unsigned rows_grid(int R, int n) { return (unsigned)R * kvt_blocks((size_t)n, THREADS); }
static __device__ __forceinline__ int row_of(int n) { return (int)(blockIdx.x / ((unsigned)(n + THREADS - 1) / THREADS)); }
static __device__ __forceinline__ int column_of(int n)
{
    return (int)(blockIdx.x % ((unsigned)(n + THREADS - 1) / THREADS)) * THREADS + (int)threadIdx.x;
}

static __global__ void __launch_bounds__(THREADS) group_kernel(struct kvt_group_args a)
{
    int g = row_of(a.n), j = column_of(a.n), per = a.H / a.G;
    if (j >= a.n)
        return;
    const float *in = a.in + (size_t)(g * per) * (size_t)a.ld + j;
    double sum = 0;
    float most = in[0];
    for (int h = 0; h < per; h++) {
        float x = in[(size_t)h * (size_t)a.ld];
        sum += x;
        most = x > most ? x : most;
    }
    a.out[(size_t)g * (size_t)a.ld + (size_t)j] = a.how == KVT_GROUP_MAX ? most : (float)(a.how == KVT_GROUP_MEAN ? sum / per : sum);
}

int kvt_cuda_group(struct kvt_dev *dev, const struct kvt_group_args *a)
{
    if (a->G <= 0 || a->n <= 0)
        return 0;
    GPU_LAUNCH(group_kernel, rows_grid(a->G, a->n), THREADS, 0, dev->stream, *a);
    return kvt_cuda_launched(dev, "group");
}

static __global__ void __launch_bounds__(THREADS) pool_kernel(struct kvt_pool_args a)
{
    int r = row_of(a.ld), j = column_of(a.ld), half = a.width / 2;
    if (j >= a.ld)
        return;
    const float *in = a.in + (size_t)r * (size_t)a.ld;
    float most = in[j];
    if (a.how != KVT_POOL_NONE && a.from <= j && j < a.to) {
        int first = j - half < a.from ? a.from : j - half, last = j + half < a.to ? j + half : a.to - 1;
        if (a.how == KVT_POOL_MAX) {
            for (int i = first; i <= last; i++)
                most = in[i] > most ? in[i] : most;
        } else {
            double sum = 0;
            for (int i = first; i <= last; i++)
                sum += in[i];
            most = (float)(sum / a.width);
        }
    }
    a.out[(size_t)r * (size_t)a.ld + (size_t)j] = most;
}

int kvt_cuda_pool(struct kvt_dev *dev, const struct kvt_pool_args *a)
{
    if (a->R <= 0 || a->ld <= 0)
        return 0;
    GPU_LAUNCH(pool_kernel, rows_grid(a->R, a->ld), THREADS, 0, dev->stream, *a);
    return kvt_cuda_launched(dev, "pool");
}

static __global__ void __launch_bounds__(THREADS) combine_kernel(struct kvt_combine_args a)
{
    int r = row_of(a.n), j = column_of(a.n);
    if (j >= a.n)
        return;
    size_t ld = (size_t)a.ld;
    double x = a.in[(size_t)r * ld + (size_t)j];
    for (int s = 1; a.sum_rows && s < a.R; s++)
        x += a.in[(size_t)s * ld + (size_t)j];
    if (a.visible_mean)
        x /= a.n - j;
    x = __dmul_rn(x, (double)a.scale); /* not fused with the addition: the definition's bits */
    float *out = a.out + (size_t)r * ld + (size_t)j;
    *out = (float)(a.accumulate ? *out + x : x);
}

int kvt_cuda_combine(struct kvt_dev *dev, const struct kvt_combine_args *a)
{
    if (a->R <= 0 || a->n <= 0)
        return 0;
    GPU_LAUNCH(combine_kernel, rows_grid(a->sum_rows ? 1 : a->R, a->n), THREADS, 0, dev->stream, *a);
    return kvt_cuda_launched(dev, "combine");
}

/* A warp for each (row, segment). */
static __global__ void __launch_bounds__(THREADS) segment_kernel(struct kvt_segment_mean_args a)
{
    size_t unit = ((size_t)blockIdx.x * THREADS + threadIdx.x) / 32;
    if (unit >= (size_t)a.R * (size_t)a.S)
        return;
    size_t r = unit / (size_t)a.S, s = unit % (size_t)a.S;
    int lane = (int)threadIdx.x % 32, from = a.seg[s], to = a.seg[s + 1];
    const float *in = a.in + r * (size_t)a.ld;
    double sum = 0;
    float most = -INFINITY;
    for (int j = from + lane; j < to; j += 32) {
        float x = in[j];
        sum += x;
        most = x > most ? x : most;
    }
    for (unsigned d = 16; d > 0; d /= 2) {
        sum += __shfl_down_sync(0xffffffffu, sum, d);
        float other = __shfl_down_sync(0xffffffffu, most, d);
        most = other > most ? other : most;
    }
    if (lane == 0)
        a.out[unit] = from == to ? -INFINITY : a.how == KVT_REDUCE_MAX ? most : (float)(a.how == KVT_REDUCE_SUM ? sum : sum / (to - from));
}

int kvt_cuda_segment_mean(struct kvt_dev *dev, const struct kvt_segment_mean_args *a)
{
    if (a->R <= 0 || a->S <= 0)
        return 0;
    GPU_LAUNCH(segment_kernel, kvt_blocks((size_t)a->R * (size_t)a->S, THREADS / 32), THREADS, 0, dev->stream, *a);
    return kvt_cuda_launched(dev, "segment_mean");
}

static __global__ void __launch_bounds__(THREADS) weigh_kernel(struct kvt_weigh_args a)
{
    int r = row_of(a.n), j = column_of(a.n);
    if (j >= a.n)
        return;
    size_t at = (size_t)r * (size_t)a.ld + (size_t)j;
    a.out[at] = (a.in[at] + a.eps) * a.by[at];
}

int kvt_cuda_weigh(struct kvt_dev *dev, const struct kvt_weigh_args *a)
{
    if (a->R <= 0 || a->n <= 0)
        return 0;
    GPU_LAUNCH(weigh_kernel, rows_grid(a->R, a->n), THREADS, 0, dev->stream, *a);
    return kvt_cuda_launched(dev, "weigh");
}
