/* elem: one row, or one value, at a time.
 *
 * embed: a thread decodes four values. norm: a row by a warp (up to 512 values) or a block; which, and the tree of its sums, depends
 * on E alone, so a row's bits don't depend on its neighbours. rotate: a thread takes a pair. glu, add, scale: a thread takes four
 * values a block apart. All of it is memory traffic: each array crosses once (norm reads its row again from L1), by 4-byte loads
 * that are coalesced over a warp, as arrays are only 4-byte aligned. */
#include "kernels/cuda/cuda.h"

#include <assert.h>

#include "kernels/cuda/blocks.h"
#include "kernels/cuda/elem.h"

enum { THREADS = 256, EACH = 4 };

/* ---- embed ---- */

template <int type>
static __global__ void embed_kernel(const unsigned char *table, size_t row_bytes, const int32_t *token, float *out, int T, int E)
{
    int fours = (E + 3) / 4;
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= (size_t)T * fours)
        return;
    int t = (int)(at / fours), k = (int)(at % fours) * 4;
    const unsigned char *row = table + (size_t)token[t] * row_bytes;
    float *to = out + (size_t)t * E + k, v[4];
    if (k + 4 <= E) {
        kvt_block_quad<type>(row, k, v);
        for (int i = 0; i < 4; i++)
            to[i] = v[i];
    } else { /* rows of single values only */
        for (int i = 0; k + i < E; i++)
            to[i] = kvt_block_one(type, row, k + i);
    }
}

int kvt_cuda_embed(struct kvt_dev *dev, const struct kvt_embed_args *a)
{
    int E = a->table.k;
    assert(E % kvt_dtypes[a->table.type].block_values == 0);
    if (a->T <= 0)
        return 0;
    const int32_t *token = (const int32_t *)kvt_cuda_post(dev, a->token, (size_t)a->T * sizeof *token);
    if (!token)
        return dev->err.code;
    size_t row_bytes = kvt_row_bytes(a->table.type, (size_t)E);
    unsigned blocks = kvt_blocks((size_t)a->T * (size_t)((E + 3) / 4), THREADS);
    const unsigned char *table = (const unsigned char *)a->table.data;
    switch (a->table.type) {
#define X(name, values, bytes) \
    case KVT_##name: GPU_LAUNCH(embed_kernel<KVT_##name>, blocks, THREADS, 0, dev->stream, table, row_bytes, token, a->out, a->T, E); break;
        KVT_DTYPE_MAP(X)
#undef X
    case KVT_N_DTYPE: assert(!"a type"); break;
    }
    return kvt_cuda_launched(dev, "embed");
}

/* ---- norm ---- */

/* The sum over the warp or, with more than one warp, over the block; every thread gets it. */
template <int threads> static __device__ float norm_sum(float x, float *box)
{
    x = elem_warp_sum(x);
    if (threads > 32) {
        __syncthreads(); /* the box's last use is over */
        if (threadIdx.x % 32 == 0)
            box[threadIdx.x / 32] = x;
        __syncthreads();
        x = elem_warp_sum(threadIdx.x % 32 < threads / 32 ? box[threadIdx.x % 32] : 0);
    }
    return x;
}

/* `threads` of a row: 32 (then a block has THREADS / 32 rows) or all of a block. */
template <int threads>
static __global__ void norm_kernel(const float *in, const float *weight, const float *bias, float *out, float eps, int T, int E, bool centre)
{
    __shared__ float box[32];
    int rows = threads == 32 ? THREADS / 32 : 1;
    int t = (int)blockIdx.x * rows + (threads == 32 ? (int)threadIdx.x / 32 : 0), lane = (int)threadIdx.x % threads;
    if (t >= T)
        return; /* whole warps */
    in += (size_t)t * E;
    out += (size_t)t * E;
    float mean = 0, sum = 0;
    if (centre) {
        for (int i = lane; i < E; i += threads)
            mean += in[i];
        mean = norm_sum<threads>(mean, box) / (float)E;
    }
#pragma unroll 4
    for (int i = lane; i < E; i += threads) {
        float x = in[i] - mean;
        sum = fmaf(x, x, sum);
    }
    float scale = 1 / sqrtf(norm_sum<threads>(sum, box) / (float)E + eps);
#pragma unroll 4
    for (int i = lane; i < E; i += threads)
        out[i] = fmaf((in[i] - mean) * scale, weight[i], bias ? bias[i] : 0.0f);
}

int kvt_cuda_norm(struct kvt_dev *dev, const struct kvt_norm_args *a)
{
    if (a->T <= 0 || a->E <= 0)
        return 0;
    unsigned T = (unsigned)a->T;
    const int threads = elem_norm_threads(a->E);
    if (threads == 32)
        GPU_LAUNCH(norm_kernel<32>, kvt_blocks(T, THREADS / 32), THREADS, 0, dev->stream, a->in, a->weight, a->bias, a->out, a->eps, a->T, a->E, a->centre);
    else if (threads == 256)
        GPU_LAUNCH(norm_kernel<256>, T, 256, 0, dev->stream, a->in, a->weight, a->bias, a->out, a->eps, a->T, a->E, a->centre);
    else
        GPU_LAUNCH(norm_kernel<1024>, T, 1024, 0, dev->stream, a->in, a->weight, a->bias, a->out, a->eps, a->T, a->E, a->centre);
    return kvt_cuda_launched(dev, "norm");
}

/* ---- rotate ---- */

static __global__ void rotate_kernel(float *x, float *more, const int32_t *pos, const float *table, int T, int heads, int more_heads, int D, int half, bool halves, float by)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x, all = (size_t)(heads + more_heads);
    if (at >= (size_t)T * all * half)
        return;
    int i = (int)(at % half), h = (int)(at / half % all);
    size_t t = at / half / all;
    const float *angle = table + ((size_t)pos[t] * half + i) * 2;
    float *head = h < heads ? x + (t * heads + h) * D : more + (t * more_heads + (h - heads)) * D;
    float *first = head + (halves ? i : 2 * i), *second = first + (halves ? half : 1);
    float c = by * angle[0], s = by * angle[1], u = *first, v = *second;
    *first = u * c - v * s;
    *second = v * c + u * s;
}

int kvt_cuda_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a)
{
    int half = a->rope.rot / 2, more = a->more ? a->more_heads : 0;
    assert(a->rope.rot % 2 == 0 && a->rope.rot <= a->D);
    size_t pairs = a->T > 0 ? (size_t)a->T * (size_t)(a->heads + more) * (size_t)half : 0;
    if (!pairs)
        return 0;
    GPU_LAUNCH(rotate_kernel, kvt_blocks(pairs, THREADS), THREADS, 0, dev->stream, a->x, a->more, a->pos, a->rope.table, a->T, a->heads, more, a->D, half,
               a->rope.halves, a->scale > 0 ? a->scale : 1.0f);
    return kvt_cuda_launched(dev, "rotate");
}

/* ---- one value at a time ---- */

template <int act> static __global__ void glu_kernel(const float *gate, const float *up, float *out, size_t count)
{
    size_t at = (size_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
#pragma unroll
    for (int j = 0; j < EACH; j++, at += THREADS)
        if (at < count)
            out[at] = elem_act<act>(gate[at]) * up[at];
}

int kvt_cuda_glu(struct kvt_dev *dev, const struct kvt_glu_args *a)
{
    size_t count = a->T > 0 ? (size_t)a->T * (size_t)a->F : 0;
    unsigned blocks = kvt_blocks(count, THREADS * EACH);
    if (!count)
        return 0;
    if (a->act == KVT_ACT_SILU)
        GPU_LAUNCH(glu_kernel<KVT_ACT_SILU>, blocks, THREADS, 0, dev->stream, a->gate, a->up, a->out, count);
    else if (a->act == KVT_ACT_GELU_TANH)
        GPU_LAUNCH(glu_kernel<KVT_ACT_GELU_TANH>, blocks, THREADS, 0, dev->stream, a->gate, a->up, a->out, count);
    else
        GPU_LAUNCH(glu_kernel<KVT_ACT_GELU>, blocks, THREADS, 0, dev->stream, a->gate, a->up, a->out, count);
    return kvt_cuda_launched(dev, "glu");
}

static __global__ void add_kernel(float *x, const float *y, size_t count, float scale)
{
    size_t at = (size_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
#pragma unroll
    for (int j = 0; j < EACH; j++, at += THREADS)
        if (at < count)
            x[at] = __fadd_rn(x[at], __fmul_rn(scale, y[at])); /* never an fma: the product is rounded */
}

int kvt_cuda_add(struct kvt_dev *dev, const struct kvt_add_args *a)
{
    if (!a->count)
        return 0;
    GPU_LAUNCH(add_kernel, kvt_blocks(a->count, THREADS * EACH), THREADS, 0, dev->stream, a->x, a->y, a->count, a->scale);
    return kvt_cuda_launched(dev, "add");
}

static __global__ void scale_kernel(float *x, size_t count, float scale, float cap)
{
    size_t at = (size_t)blockIdx.x * (THREADS * EACH) + threadIdx.x;
#pragma unroll
    for (int j = 0; j < EACH; j++, at += THREADS)
        if (at < count) {
            float v = scale * x[at];
            x[at] = cap > 0 ? cap * tanhf(v / cap) : v;
        }
}

int kvt_cuda_scale(struct kvt_dev *dev, const struct kvt_scale_args *a)
{
    if (!a->count)
        return 0;
    GPU_LAUNCH(scale_kernel, kvt_blocks(a->count, THREADS * EACH), THREADS, 0, dev->stream, a->x, a->count, a->scale, a->cap);
    return kvt_cuda_launched(dev, "scale");
}
