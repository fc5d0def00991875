/* lost: what branches don't hold of another's row of attention, and what that does to outputs.
 *
 * One block for each (head, branch): it marks the positions that the branch's cell holds as bits in shared memory, goes over the row
 * once for the masses (doubles, a fixed tree), and where something is missing and the error is asked, once more over the V rows
 * that are held. V comes from L2 after the first branch. A second kernel makes the norms, a block a branch. The results are the
 * host's: one wait. */
#include "kernels/cuda/cache.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

enum { THREADS = 128, WARPS = THREADS / 32, MAX_D = 256 };

/* Of a (branch, head). */
struct loss {
    double lost, lost_rest, rest, local2; /* local2: squared distance of the restricted output; 0 where nothing is missing */
};

/* The sum of x over the block's threads, for all of them. */
static __device__ double block_sum(double x)
{
    __shared__ double warp[WARPS];
    for (int i = 16; i; i /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, i);
    __syncthreads();
    if (threadIdx.x % 32 == 0)
        warp[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < WARPS; i++)
        x += warp[i];
    return x;
}

static __global__ void __launch_bounds__(THREADS) lost_kernel(struct kvt_pages p, int layer, int from, const int32_t *branch, int H, const float *row, int ld, const float *out,
                                                              int n_sink, bool local, struct loss *result)
{
    GPU_DYN_SHARED(unsigned, held);
    __shared__ float part[WARPS][MAX_D];
    const int h = blockIdx.x, b = blockIdx.y, g = h / (H / p.G), warp = threadIdx.x / 32, lane = threadIdx.x % 32, D = p.D;
    const size_t full = kvt_cell(p, from, layer, g), mine = kvt_cell(p, branch[b], layer, g);
    const int n = p.n[full];
    const float *w = row + (size_t)h * (size_t)ld;
    for (int i = threadIdx.x; i < n / 32 + 1; i += THREADS)
        held[i] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < p.n[mine]; i += THREADS) {
        int32_t pos = kvt_slot_pos(p, kvt_table(p, mine), i);
        if (pos < n)
            atomicOr(&held[pos / 32], 1u << pos % 32);
    }
    __syncthreads();
    double lost = 0, lost_rest = 0, rest = 0, kept = 0;
    int missing = 0;
    for (int j = threadIdx.x; j < n; j += THREADS) {
        bool has = held[j / 32] >> j % 32 & 1;
        double x = w[j];
        lost += has ? 0 : x;
        kept += has ? x : 0;
        rest += j >= n_sink ? x : 0;
        lost_rest += j >= n_sink && !has ? x : 0;
        missing |= !has;
    }
    lost = block_sum(lost);
    lost_rest = block_sum(lost_rest);
    rest = block_sum(rest);
    kept = block_sum(kept);
    missing = __syncthreads_or(missing);
    double local2 = 0;
    if (local && missing) {
        float sum[MAX_D / 32] = {0};
        for (int j = warp; j < n; j += WARPS) {
            if (!(held[j / 32] >> j % 32 & 1))
                continue;
            const unsigned char *v = kvt_slot_v(p, kvt_table(p, full), j);
#pragma unroll
            for (int i = 0; i < MAX_D / 32; i++)
                if (i * 32 + lane < D)
                    sum[i] = fmaf(w[j], kvt_row_value(v, p.type, i * 32 + lane), sum[i]);
        }
#pragma unroll
        for (int i = 0; i < MAX_D / 32; i++)
            if (i * 32 + lane < D)
                part[warp][i * 32 + lane] = sum[i];
        __syncthreads();
        for (int d = threadIdx.x; d < D; d += THREADS) {
            double x = 0;
            for (int i = 0; i < WARPS; i++)
                x += part[i][d];
            double off = (kept > 0 ? x / kept : 0) - out[(size_t)h * (size_t)D + d];
            local2 += off * off;
        }
        local2 = block_sum(local2);
    }
    if (!threadIdx.x)
        result[(size_t)b * (size_t)H + (size_t)h] = {lost, lost_rest, rest, local2};
}

/* square[b] = |own[b] - out|^2 for b < B, square[B] = |out|^2 */
static __global__ void norm_kernel(const float *out, const float *const *own, int count, double *square)
{
    int b = blockIdx.x;
    const float *x = b + 1 < (int)gridDim.x && own ? own[b] : NULL;
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        double off = b + 1 < (int)gridDim.x ? (x ? (double)x[i] - out[i] : 0) : out[i];
        sum += off * off;
    }
    sum = block_sum(sum);
    if (!threadIdx.x)
        square[b] = sum;
}

static float ratio(double difference2, double norm2) { return difference2 == 0 ? 0 : norm2 == 0 ? NAN : (float)sqrt(difference2 / norm2); }

/* Where a call's results go on the host. */
struct lost_job {
    float *lost, *lost_rest, *local, *propagated;
    int B, H;
};

/* result: (B, H) losses, then (B + 1) squares. */
static void take(void *of, const void *result)
{
    const struct lost_job *a = (const struct lost_job *)of;
    const struct loss *host = (const struct loss *)result;
    const double *host_square = (const double *)(host + (size_t)a->B * (size_t)a->H);
    for (int b = 0; b < a->B; b++) {
        double local2 = 0;
        for (int h = 0; h < a->H; h++) {
            struct loss x = host[b * a->H + h];
            if (a->lost)
                a->lost[b * a->H + h] = (float)x.lost;
            if (a->lost_rest)
                a->lost_rest[b * a->H + h] = x.rest > 0 ? (float)(x.lost_rest / x.rest) : 0;
            local2 += x.local2;
        }
        if (a->local)
            a->local[b] = ratio(local2, host_square[a->B]);
        if (a->propagated)
            a->propagated[b] = ratio(host_square[b], host_square[a->B]);
    }
}

int kvt_cuda_lost(struct kvt_dev *dev, const struct kvt_lost_args *a)
{
    const struct kvt_cache *c = a->cache;
    int H = a->H, B = a->B, n = kvt_most(c, a->from, a->layer);
    if (!B)
        return 0;
    assert(H % c->o.G == 0);
    if (c->o.D > MAX_D)
        return kvt_fail(&dev->err, KVT_EUNSUP, "lost mass: no kernel for heads of %d values (at most %d); use --backend cpu", c->o.D, MAX_D);
    size_t losses = (size_t)B * (size_t)H, bytes = losses * sizeof(struct loss) + ((size_t)B + 1) * sizeof(double), bits = ((size_t)n / 1024 + 1) * 128; /* a bit a slot, the same for many steps */
    const int32_t *branch = (const int32_t *)kvt_cuda_post(dev, a->branch, (size_t)B * sizeof *branch);
    const float *const *own = branch && a->propagated ? (const float *const *)kvt_cuda_post(dev, a->own, (size_t)B * sizeof *own) : NULL;
    if (!branch || (a->propagated && !own))
        return dev->err.code;
    struct loss *result = (struct loss *)kvt_cuda_answer_room(dev, bytes);
    const bool wait = !result;
    if (wait)
        result = (struct loss *)kvt_cuda_scratch(dev, bytes);
    struct lost_job *job = (struct lost_job *)malloc(sizeof *job + (wait ? bytes : 0));
    if (!result || !job) {
        free(job);
        return result ? kvt_fail(&dev->err, KVT_ENOMEM, "lost mass: no memory for %zu bytes", bytes) : KVT_ENOMEM;
    }
    *job = {a->lost, a->lost_rest, a->local, a->propagated, B, H};
    double *square = (double *)(result + losses);
    int rc = 0;
    if (bits > 32 << 10)
        rc = kvt_cuda_failed(dev, cudaFuncSetAttribute(lost_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bits), "lost mass");
    if (!rc) {
        GPU_LAUNCH(lost_kernel, dim3((unsigned)H, (unsigned)B), THREADS, bits, dev->stream, c->at, a->layer, a->from, branch, H, a->row, a->ld, a->out, a->n_sink, a->local != NULL, result);
        if (a->local || a->propagated)
            GPU_LAUNCH(norm_kernel, (unsigned)(B + 1), THREADS, 0, dev->stream, a->out, own, H * c->o.D, square);
        rc = kvt_cuda_launched(dev, "lost mass");
    }
    if (!rc && !wait)
        return kvt_cuda_answer(dev, result, take, job);
    if (!rc)
        rc = kvt_cuda_fetch(dev, job + 1, result, bytes);
    if (!rc)
        take(job, job + 1);
    free(job);
    return rc;
}
