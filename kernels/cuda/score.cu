/* score, first part: norms, KeyDiff, LagKV. Memory-bound: what counts is how often K or V is read.
 *
 * norms     a block takes 16 slots (8 lanes a slot): each asked side once.
 * keydiff   unit keys are summed by at most 128 blocks a head, each over a run of slots (K once); a block a head adds those sums; then
 *           blocks of 64 slots give the cosines (K again). The mean isn't divided by n: a cosine doesn't see its length.
 * lag       a block for each partition that has a next one: the next one's range, channel by channel; its own slots' deviations, 8 lanes
 *           a slot; softmax; K, then V, each read twice (the second time from the cache, where both partitions fit). */
#include "kernels/cuda/score.h"

#include <assert.h>

/* ---- norms ---- */

template <class T> static __global__ void norms_kernel(struct score_cells at, float *key, float *value, int ld)
{
    const int g = (int)blockIdx.y, j = (int)blockIdx.x * ROW_ROWS + (int)threadIdx.x / ROW_LANES, lane = (int)threadIdx.x % ROW_LANES;
    const int n = score_live(at, g);
    const int32_t *table = kvt_table(at.p, at.cell + (size_t)g);
    const unsigned char *k = j < n ? kvt_slot_k(at.p, table, j) : NULL;
    for (int which = 0; which < 2; which++) {
        float *out = which ? value : key;
        if (!out)
            continue;
        float x[LANE_VALUES], sum = 0;
        row_values<T>(which && k ? k + at.p.page_bytes / 2 : k, lane, at.p.D, x);
#pragma unroll
        for (int i = 0; i < LANE_VALUES; i++)
            sum = fmaf(x[i], x[i], sum);
        sum = row_sum(sum);
        if (k && !lane)
            out[(size_t)g * (size_t)ld + (size_t)j] = sqrtf(sum);
    }
}

int kvt_cuda_norms(struct kvt_dev *dev, const struct kvt_norms_args *a)
{
    struct score_cells at = score_cells_of(&a->at);
    int most = score_most(&a->at);
    assert(at.p.D <= SCORE_MAX_D);
    if (most <= 0 || (!a->key && !a->value))
        return 0;
    dim3 grid(kvt_blocks((size_t)most, ROW_ROWS), (unsigned)at.p.G);
#define NORMS(T) GPU_LAUNCH(norms_kernel<T>, grid, ROW_THREADS, 0, dev->stream, at, a->key, a->value, a->ld)
    SCORE_BY_TYPE(at.p.type, NORMS)
    return kvt_cuda_launched(dev, "norms");
}

/* ---- KeyDiff ---- */

enum { DIFF_PARTS = 128, DIFF_SLOTS = 64, MEAN_LD = SCORE_MAX_D + 4 };

/* sums (G, parts, SCORE_MAX_D): of the unit keys of `per` slots. */
template <class T> static __global__ void unit_sums_kernel(struct score_cells at, int per, float *sums)
{
    __shared__ float each[ROW_ROWS][SCORE_MAX_D + 1];
    const int g = (int)blockIdx.y, row = (int)threadIdx.x / ROW_LANES, lane = (int)threadIdx.x % ROW_LANES, D = at.p.D;
    const int live = score_live(at, g), from = (int)blockIdx.x * per, to = from + per < live ? from + per : live;
    const int32_t *table = kvt_table(at.p, at.cell + (size_t)g);
    float sum[LANE_VALUES];
#pragma unroll
    for (int i = 0; i < LANE_VALUES; i++)
        sum[i] = 0;
    for (int j0 = from; j0 < to; j0 += ROW_ROWS) {
        float x[LANE_VALUES], square = 0;
        row_values<T>(j0 + row < to ? kvt_slot_k(at.p, table, j0 + row) : NULL, lane, D, x);
#pragma unroll
        for (int i = 0; i < LANE_VALUES; i++)
            square = fmaf(x[i], x[i], square);
        square = row_sum(square);
        float by = square > 0 ? 1.0f / sqrtf(square) : 0;
#pragma unroll
        for (int i = 0; i < LANE_VALUES; i++)
            sum[i] = fmaf(x[i], by, sum[i]);
    }
#pragma unroll
    for (int i = 0; i < LANE_VALUES; i++) {
        int d = row_index<T>(lane, i);
        if (d < D)
            each[row][d] = sum[i];
    }
    __syncthreads();
    for (int d = (int)threadIdx.x; d < D; d += ROW_THREADS) {
        float all = 0;
        for (int r = 0; r < ROW_ROWS; r++)
            all += each[r][d];
        sums[((size_t)g * gridDim.x + blockIdx.x) * SCORE_MAX_D + (size_t)d] = all;
    }
}

/* mean (G, MEAN_LD): the sums' sum, and behind it its length. A thread a channel. */
static __global__ void unit_mean_kernel(const float *sums, int parts, int D, float *mean)
{
    __shared__ float red[SCORE_MAX_D / 32];
    const int g = (int)blockIdx.x, d = (int)threadIdx.x;
    float all = 0;
    for (int p = 0; p < parts && d < D; p++)
        all += sums[((size_t)g * (size_t)parts + (size_t)p) * SCORE_MAX_D + (size_t)d];
    float square = block_reduce<false>(all * all, red);
    mean[g * MEAN_LD + d] = all;
    if (!d)
        mean[g * MEAN_LD + SCORE_MAX_D] = sqrtf(square);
}

template <class T> static __global__ void cosine_kernel(struct score_cells at, const float *means, float *out, int ld)
{
    __shared__ float mean[MEAN_LD];
    const int g = (int)blockIdx.y, row = (int)threadIdx.x / ROW_LANES, lane = (int)threadIdx.x % ROW_LANES, D = at.p.D;
    const int n = score_live(at, g), from = (int)blockIdx.x * DIFF_SLOTS;
    const int32_t *table = kvt_table(at.p, at.cell + (size_t)g);
    if (from >= n)
        return;
    for (int d = (int)threadIdx.x; d < MEAN_LD; d += ROW_THREADS)
        mean[d] = d <= SCORE_MAX_D ? means[g * MEAN_LD + d] : 0;
    __syncthreads();
    for (int j = from + row; j - row < n && j - row < from + DIFF_SLOTS; j += ROW_ROWS) {
        float x[LANE_VALUES], square = 0, dot = 0;
        row_values<T>(j < n ? kvt_slot_k(at.p, table, j) : NULL, lane, D, x);
#pragma unroll
        for (int i = 0; i < LANE_VALUES; i++) {
            square = fmaf(x[i], x[i], square);
            dot = fmaf(x[i], mean[row_index<T>(lane, i)], dot); /* past D both are 0 */
        }
        float len = sqrtf(row_sum(square)) * mean[SCORE_MAX_D];
        dot = row_sum(dot);
        if (j < n && !lane)
            out[(size_t)g * (size_t)ld + (size_t)j] = len > 0 ? -dot / len : 0;
    }
}

int kvt_cuda_keydiff(struct kvt_dev *dev, const struct kvt_keydiff_args *a)
{
    struct score_cells at = score_cells_of(&a->at);
    int most = score_most(&a->at), G = at.p.G;
    assert(at.p.D <= SCORE_MAX_D);
    if (most <= 0)
        return 0;
    int per = (int)kvt_blocks((size_t)most, (size_t)DIFF_PARTS * ROW_ROWS) * ROW_ROWS;
    per = per < DIFF_SLOTS ? DIFF_SLOTS : per;
    unsigned parts = kvt_blocks((size_t)most, (size_t)per);
    float *mean = (float *)kvt_cuda_scratch(dev, (size_t)G * (MEAN_LD + (size_t)parts * SCORE_MAX_D) * sizeof(float));
    if (!mean)
        return KVT_ENOMEM;
    float *sums = mean + G * MEAN_LD;
#define SUMS(T) GPU_LAUNCH(unit_sums_kernel<T>, dim3(parts, (unsigned)G), ROW_THREADS, 0, dev->stream, at, per, sums)
#define COSINE(T) GPU_LAUNCH(cosine_kernel<T>, dim3(kvt_blocks((size_t)most, DIFF_SLOTS), (unsigned)G), ROW_THREADS, 0, dev->stream, at, mean, a->out, a->ld)
    SCORE_BY_TYPE(at.p.type, SUMS)
    GPU_LAUNCH(unit_mean_kernel, G, SCORE_MAX_D, 0, dev->stream, sums, (int)parts, at.p.D, mean);
    SCORE_BY_TYPE(at.p.type, COSINE)
    return kvt_cuda_launched(dev, "keydiff");
}

/* ---- LagKV ---- */

enum { LAG_THREADS = 256, LAG_ROWS = LAG_THREADS / ROW_LANES };

/* Which of n slots have a partition behind theirs: [sink, end). */
static __device__ __forceinline__ int lag_end(int n, int sink, int lag)
{
    int parts = n > sink ? (n - sink) / lag : 0;
    return parts >= 2 ? sink + (parts - 1) * lag : sink;
}

/* Range of each channel over rows [from, from + lag): threads take channels, and where threads are left, every other row. The work of
 * threads that share a channel meets in shared memory: work (2, LAG_THREADS). */
template <class T>
static __device__ __forceinline__ void lag_range(const struct kvt_pages &p, const int32_t *table, bool value, int from, int lag, float *work, float *low,
                                                 float *wide)
{
    const int D = p.D, t = (int)threadIdx.x, groups = LAG_THREADS / D > 1 ? LAG_THREADS / D : 1, d = t % D, group = t / D;
    float lo = INFINITY, hi = -INFINITY;
    if (group < groups)
        for (int j = from + group; j < from + lag; j += groups) {
            const unsigned char *row = value ? kvt_slot_v(p, table, j) : kvt_slot_k(p, table, j);
            float x = piece<T>::one(row, d);
            lo = x < lo ? x : lo;
            hi = x > hi ? x : hi;
        }
    work[t] = lo, work[LAG_THREADS + t] = hi;
    __syncthreads();
    if (t < D) {
        for (int i = 1; i < groups; i++) {
            lo = fminf(lo, work[t + i * D]);
            hi = fmaxf(hi, work[LAG_THREADS + t + i * D]);
        }
        low[t] = lo, wide[t] = hi - lo;
    }
    __syncthreads();
}

/* work (2, G, most): a slot's deviations of K and V, then their exponentials, then its score in the first half. */
template <class T> static __global__ void lag_kernel(struct score_cells at, int sink, int lag, bool rank, float *out, int ld, float *work, int most)
{
    __shared__ float low[SCORE_MAX_D], wide[SCORE_MAX_D], both[2 * LAG_THREADS], red[LAG_THREADS / 32];
    const int g = (int)blockIdx.y, D = at.p.D, t = (int)threadIdx.x, lane = t % ROW_LANES;
    const int from = sink + (int)blockIdx.x * lag;
    const int32_t *table = kvt_table(at.p, at.cell + (size_t)g);
    if (from >= lag_end(score_live(at, g), sink, lag))
        return;
    float sum_k = 0, sum_v = 0;
    for (int value = 0; value < 2; value++) {
        float *each = work + ((size_t)value * gridDim.y + (size_t)g) * (size_t)most + (size_t)from;
        lag_range<T>(at.p, table, value, from + lag, lag, both, low, wide);
        for (int i = t / ROW_LANES; i - t / ROW_LANES < lag; i += LAG_ROWS) {
            const unsigned char *row = i >= lag ? NULL : value ? kvt_slot_v(at.p, table, from + i) : kvt_slot_k(at.p, table, from + i);
            float x[LANE_VALUES], all = 0, square = 0;
            row_values<T>(row, lane, D, x);
#pragma unroll
            for (int k = 0; k < LANE_VALUES; k++) {
                int d = row_index<T>(lane, k);
                x[k] = d < D && wide[d] > 0 ? (x[k] - low[d]) / wide[d] : 0;
                all += x[k];
            }
            float mean = row_sum(all) / (float)D;
#pragma unroll
            for (int k = 0; k < LANE_VALUES; k++) {
                float off = row_index<T>(lane, k) < D ? x[k] - mean : 0;
                square = fmaf(off, off, square);
            }
            square = row_sum(square);
            if (row && !lane)
                each[i] = sqrtf(square / (float)(D - 1));
        }
        __syncthreads();
        float largest = -INFINITY, all = 0;
        for (int i = t; i < lag; i += LAG_THREADS)
            largest = fmaxf(largest, each[i]);
        largest = block_reduce<true>(largest, red);
        for (int i = t; i < lag; i += LAG_THREADS) {
            float e = expf(each[i] - largest);
            each[i] = e;
            all += e;
        }
        all = block_reduce<false>(all, red);
        (value ? sum_v : sum_k) = all;
    }
    float *key = work + (size_t)g * (size_t)most + (size_t)from, *value = key + (size_t)gridDim.y * (size_t)most;
    float *to = out + (size_t)g * (size_t)ld + (size_t)from;
    for (int i = t; i < lag; i += LAG_THREADS) {
        key[i] = (key[i] / sum_k + value[i] / sum_v) / 2;
        if (!rank)
            to[i] = key[i];
    }
    if (!rank)
        return;
    __syncthreads();
    for (int i = t; i < lag; i += LAG_THREADS) {
        float mine = key[i];
        int below = 0;
        for (int k = 0; k < lag; k++)
            below += key[k] < mine || (key[k] == mine && k < i);
        to[i] = (float)below / (float)lag;
    }
}

/* Slots that nothing measures. */
static __global__ void lag_rest_kernel(struct score_cells at, int sink, int lag, float *out, int ld)
{
    const int g = (int)blockIdx.y, j = (int)(blockIdx.x * blockDim.x + threadIdx.x), n = score_live(at, g), end = lag_end(n, sink, lag);
    if (j < n && (j < sink || j >= end))
        out[(size_t)g * (size_t)ld + (size_t)j] = j < sink || end > sink ? 1.0f : (float)(j - sink) / (float)(n - sink);
}

int kvt_cuda_lag(struct kvt_dev *dev, const struct kvt_lag_args *a)
{
    struct score_cells at = score_cells_of(&a->at);
    int most = score_most(&a->at);
    unsigned G = (unsigned)at.p.G;
    assert(at.p.D > 1 && at.p.D <= SCORE_MAX_D && a->lag > 0 && a->sink >= 0);
    if (most <= 0)
        return 0;
    int parts = most > a->sink ? (most - a->sink) / a->lag : 0;
    if (parts >= 2) {
        float *work = (float *)kvt_cuda_scratch(dev, 2 * (size_t)G * (size_t)most * sizeof(float));
        if (!work)
            return KVT_ENOMEM;
#define LAG(T) GPU_LAUNCH(lag_kernel<T>, dim3((unsigned)parts - 1, G), LAG_THREADS, 0, dev->stream, at, a->sink, a->lag, a->rank, a->out, a->ld, work, most)
        SCORE_BY_TYPE(at.p.type, LAG)
    }
    GPU_LAUNCH(lag_rest_kernel, dim3(kvt_blocks((size_t)most, 256), G), 256, 0, dev->stream, at, a->sink, a->lag, a->out, a->ld);
    return kvt_cuda_launched(dev, "lag");
}
