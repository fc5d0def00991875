/* logit_stats: one pass over the rows.
 *
 * A block takes SPAN values of a row, which its threads keep in registers: their largest, and relative to it sums in double of the
 * f32 exponentials, of these times the logit, and (with a base) of the base's exponentials times the difference of the logits. A
 * second kernel, a warp for a row, joins the spans relative to the row's largest; the host takes logarithms. Both trees depend on V
 * alone. Equal rows have equal parts and no difference of logits, so their divergence is exactly 0. Traffic: each row once, and once
 * more for each row that is compared with it. */
#include "kernels/cuda/cuda.h"

#include <assert.h>
#include <math.h>

enum { THREADS = 256, EACH = 16, SPAN = THREADS * EACH };

/* Of a span, or of a row: with e = exp(x - most). */
struct part {
    double sum;    /* of e */
    double x;      /* of e (x - most) */
    double other;  /* of e, of the base and relative to the base's most, times base - row */
    double base;   /* the base's most; of a row: the logit of the token that is asked for */
    float most;
    int32_t at;    /* the smallest id of it */
};

static __device__ __forceinline__ void better(float x, int i, float *most, int *at)
{
    if (x > *most || (x == *most && i < *at)) {
        *most = x;
        *at = i;
    }
}

static __device__ __forceinline__ void warp_best(float *most, int *at)
{
    for (int d = 16; d; d /= 2) {
        float x = __shfl_xor_sync(0xffffffffu, *most, d);
        int i = __shfl_xor_sync(0xffffffffu, *at, d);
        better(x, i, most, at);
    }
}

static __device__ __forceinline__ double warp_sum(double x)
{
    for (int d = 16; d; d /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, d);
    return x;
}

/* The block's largest and where it is; every thread gets both. */
static __device__ void block_best(float *most, int *at, float *box, int *box_at)
{
    warp_best(most, at);
    if (threadIdx.x % 32 == 0) {
        box[threadIdx.x / 32] = *most;
        box_at[threadIdx.x / 32] = *at;
    }
    __syncthreads();
    for (int w = 0; w < THREADS / 32; w++)
        better(box[w], box_at[w], most, at);
    __syncthreads();
}

static __global__ void __launch_bounds__(THREADS) span_kernel(const float *logits, const int32_t *base, int V, struct part *out)
{
    __shared__ float box[THREADS / 32];
    __shared__ int box_at[THREADS / 32];
    __shared__ double sums[3][THREADS / 32];
    int t = (int)blockIdx.y, spans = (int)gridDim.x, from = (int)blockIdx.x * SPAN + (int)threadIdx.x, b = base ? base[t] : -1;
    const float *row = logits + (size_t)t * V;
    float x[EACH], most = -INFINITY, base_most = -INFINITY;
    int at = from < V ? from : V - 1, base_at = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        int v = from + j * THREADS;
        x[j] = v < V ? row[v] : -INFINITY;
        better(x[j], v, &most, &at);
    }
    block_best(&most, &at, box, box_at);
    double sum = 0, weighted = 0, other = 0;
#pragma unroll
    for (int j = 0; j < EACH; j++) {
        float e = expf(x[j] - most);
        if (x[j] > -INFINITY) { /* 0 ln 0 = 0; a span without any mass has no sums */
            sum += (double)e;
            weighted += (double)e * ((double)x[j] - (double)most);
        }
    }
    if (b >= 0) { /* the same for the whole block */
        const float *from_row = logits + (size_t)b * V;
        float y[EACH];
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            int v = from + j * THREADS;
            y[j] = v < V ? from_row[v] : -INFINITY;
            better(y[j], v, &base_most, &base_at);
        }
        block_best(&base_most, &base_at, box, box_at);
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            float e = expf(y[j] - base_most);
            if (y[j] > -INFINITY && e > 0)
                other += (double)e * ((double)y[j] - (double)x[j]);
        }
    }
    sum = warp_sum(sum);
    weighted = warp_sum(weighted);
    other = warp_sum(other);
    if (threadIdx.x % 32 == 0) {
        sums[0][threadIdx.x / 32] = sum;
        sums[1][threadIdx.x / 32] = weighted;
        sums[2][threadIdx.x / 32] = other;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        struct part p = {0, 0, 0, (double)base_most, most, at};
        for (int w = 0; w < THREADS / 32; w++) {
            p.sum += sums[0][w];
            p.x += sums[1][w];
            p.other += sums[2][w];
        }
        out[(size_t)t * spans + blockIdx.x] = p;
    }
}

static __global__ void join_kernel(const float *logits, const int32_t *token, int T, int V, int spans, const struct part *in, struct part *out)
{
    int t = (int)(blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32), lane = (int)threadIdx.x % 32;
    if (t >= T)
        return; /* a whole warp */
    in += (size_t)t * spans;
    float most = -INFINITY;
    int at = V - 1;
    double base = -INFINITY, sum = 0, weighted = 0, other = 0;
    for (int s = lane; s < spans; s += 32) {
        better(in[s].most, in[s].at, &most, &at);
        base = fmax(base, in[s].base);
    }
    warp_best(&most, &at);
    for (int d = 16; d; d /= 2)
        base = fmax(base, __shfl_xor_sync(0xffffffffu, base, d));
    for (int s = lane; s < spans; s += 32) {
        double less = (double)in[s].most - (double)most, by = exp(less);
        if (in[s].most > -INFINITY) {
            sum += in[s].sum * by;
            weighted += by * (in[s].x + in[s].sum * less);
        }
        if (in[s].base > -INFINITY)
            other += in[s].other * exp(in[s].base - base);
    }
    sum = warp_sum(sum);
    weighted = warp_sum(weighted);
    other = warp_sum(other);
    int asked = token ? token[t] : -1;
    if (lane == 0) {
        struct part p = {sum, weighted, other, asked >= 0 ? (double)logits[(size_t)t * V + asked] : 0.0, most, at};
        out[t] = p;
    }
}

static double lse(const struct part *p) { return (double)p->most + log(p->sum); }

int kvt_cuda_logit_stats(struct kvt_dev *dev, const struct kvt_logit_stats_args *a)
{
    int T = a->T, V = a->V;
    assert(V > 0 && (size_t)T * sizeof(struct part) <= KVT_CUDA_IN_BYTES);
    if (T <= 0)
        return 0;
    size_t spans = kvt_blocks((size_t)V, SPAN), bytes = (size_t)T * sizeof(struct part);
    struct part *part = (struct part *)kvt_cuda_scratch(dev, (spans + 1) * bytes), *joined = part + spans * (size_t)T;
    const int32_t *base = NULL, *token = NULL;
    if (!part)
        return dev->err.code;
    if (a->kl && a->base && !(base = (const int32_t *)kvt_cuda_post(dev, a->base, (size_t)T * sizeof *base)))
        return dev->err.code;
    if (a->logprob && a->token && !(token = (const int32_t *)kvt_cuda_post(dev, a->token, (size_t)T * sizeof *token)))
        return dev->err.code;
    GPU_LAUNCH(span_kernel, dim3((unsigned)spans, (unsigned)T), THREADS, 0, dev->stream, a->logits, base, V, part);
    GPU_LAUNCH(join_kernel, kvt_blocks((size_t)T, 4), 128, 0, dev->stream, a->logits, token, T, V, (int)spans, part, joined);
    int rc = kvt_cuda_launched(dev, "logit_stats");
    if (!rc)
        rc = kvt_cuda_flush(dev);
    if (rc)
        return rc;
    rc = kvt_cuda_failed(dev, cudaMemcpyAsync(dev->in, joined, bytes, cudaMemcpyDeviceToHost, dev->stream), "logit_stats");
    if (!rc)
        rc = kvt_cuda_failed(dev, cudaStreamSynchronize(dev->stream), "logit_stats");
    const struct part *row = (const struct part *)dev->in;
    for (int t = 0; !rc && t < T; t++) {
        double z = lse(&row[t]);
        if (a->argmax)
            a->argmax[t] = row[t].at;
        if (a->top_logprob)
            a->top_logprob[t] = (float)((double)row[t].most - z);
        if (a->logprob)
            a->logprob[t] = a->token && a->token[t] >= 0 ? (float)(row[t].base - z) : NAN;
        if (a->entropy)
            a->entropy[t] = (float)(log(row[t].sum) - row[t].x / row[t].sum);
        if (a->kl && (!a->base || a->base[t] < 0))
            a->kl[t] = NAN;
        else if (a->kl) {
            const struct part *b = &row[a->base[t]];
            double kl = row[t].other / b->sum + (z - lse(b));
            a->kl[t] = kl > 0 ? (float)kl : 0; /* rounding must not show a negative divergence */
        }
    }
    return rc;
}
