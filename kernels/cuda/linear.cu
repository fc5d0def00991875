/* linear: what a product needs around linear.h's kernel, and cuBLAS where it is allowed and pays.
 *
 * Activations are rounded and brought into the kernel's order once (a thread makes 16 bytes); a few rows that lie well are left to it
 * as they are. From LIBRARY rows on, calls that aren't exact decode the weights, in pieces that stay in L2, and leave the product to
 * cuBLAS, which has the fastest matrix instructions: decoding costs a write and a read of the weights, which so many rows outweigh. */
#include "kernels/cuda/linear.h"

#include <assert.h>

enum {
    THREADS = 256,
    LIBRARY = 128,           /* rows */
    PIECE_BYTES = 128 << 20, /* of decoded weights at a time: outputs enough for all multiprocessors */
    ROWS = 1024,             /* of a launch of our own kernel */
};

/* ---- activations ---- */

/* A block takes 8 rows and 8 runs, a thread the eight values that lane c of four takes of row t; 0 past the row's end. */
template <enum kvt_compute compute>
static __global__ void order_kernel(const float *in, int T, int K, int runs, const float *scale, uint4 *out)
{
    int run = (int)blockIdx.y * (THREADS / 32) + (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, t = (int)blockIdx.x * 8 + lane / 4;
    if (run >= runs)
        return;
    const float *row = in + (size_t)t * K;
    float v[8], by = compute == KVT_COMPUTE_F16 && t < T ? scale[t] : 1.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int k = run * LINEAR_RUN + 4 * (lane % 4) + i % 4 + i / 4 * 16;
        v[i] = t < T && k < K ? row[k] * by : 0.0f;
    }
    out[((size_t)blockIdx.x * runs + run) * 32 + lane] =
        make_uint4(linear_pack<compute>(v[0], v[1]), linear_pack<compute>(v[2], v[3]), linear_pack<compute>(v[4], v[5]), linear_pack<compute>(v[6], v[7]));
}

/* Rows as they are, each begun at a multiple of 16 bytes and filled up with zeros to whole runs. */
static __global__ void pad_kernel(const float *in, int K, int wide, float *out)
{
    int k = (int)(blockIdx.y * THREADS + threadIdx.x);
    if (k < wide)
        out[(size_t)blockIdx.x * wide + k] = k < K ? in[(size_t)blockIdx.x * K + k] : 0.0f;
}

/* Values rounded to bf16, for cuBLAS; four a thread, 256 apart. */
static __global__ void round_kernel(const float *in, size_t count, __nv_bfloat16 *out)
{
    size_t at = (size_t)blockIdx.x * (4 * THREADS) + threadIdx.x;
#pragma unroll
    for (int i = 0; i < 4; i++, at += THREADS)
        if (at < count)
            out[at] = __float2bfloat16_rn(in[at]);
}

/* A block finds a row's largest and from it base/half.h's kvt_f16_scale. */
static __global__ void largest_kernel(const float *in, int K, float *scale, float *unscale)
{
    __shared__ float box[THREADS / 32];
    const float *row = in + (size_t)blockIdx.x * K;
    float most = 0;
    for (int k = (int)threadIdx.x; k < K; k += THREADS)
        most = fmaxf(most, fabsf(row[k])); /* passes over NaN */
    for (int d = 16; d; d /= 2)
        most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, d));
    if (threadIdx.x % 32 == 0)
        box[threadIdx.x / 32] = most;
    __syncthreads();
    if (threadIdx.x)
        return;
    for (int w = 1; w < THREADS / 32; w++)
        most = fmaxf(most, box[w]);
    unsigned e = __float_as_uint(most) >> 23;
    unsigned to = most <= 0 || e >= 254 ? 127 : 254 - (e < 7 ? 7 : e);
    scale[blockIdx.x] = __uint_as_float(to << 23);
    unscale[blockIdx.x] = __uint_as_float((254 - to) << 23);
}

/* ---- cuBLAS ---- */

/* A row of weights, 1024 values a block and four a thread, as bf16 or f32. */
template <class T> static __global__ void decode_kernel(int type, const unsigned char *w, size_t row_bytes, int K, T *out)
{
    int k = (int)(blockIdx.y * THREADS + threadIdx.x) * 4;
    const unsigned char *row = w + blockIdx.x * row_bytes;
    float v[4];
    out += (size_t)blockIdx.x * K + k;
    if (k + 4 <= K)
        kvt_block_values(type, row, k, v);
    for (int i = 0; k + 4 > K && i < 4 && k + i < K; i++)
        out[i] = (T)kvt_block_one(type, row, k + i);
    if (k + 4 > K)
        return;
    if (sizeof(T) == 2 && K % 4 == 0) {
        *reinterpret_cast<uint2 *>(out) = make_uint2(linear_pack<KVT_COMPUTE_BF16>(v[0], v[1]), linear_pack<KVT_COMPUTE_BF16>(v[2], v[3]));
        return;
    }
    for (int i = 0; i < 4; i++)
        out[i] = (T)v[i];
}

static __global__ void bias_kernel(float *out, const float *bias, int N)
{
    int n = (int)(blockIdx.y * THREADS + threadIdx.x);
    if (n < N)
        out[(size_t)blockIdx.x * N + n] += bias[n];
}

static int library(struct kvt_dev *dev, const struct kvt_linear_args *a)
{
    int N = a->w.n, K = a->w.k, T = a->T;
    bool f32 = a->compute == KVT_COMPUTE_F32, ready = a->w.type == (f32 ? KVT_F32 : KVT_BF16);
    size_t value = f32 ? sizeof(float) : sizeof(__nv_bfloat16), row = (size_t)K * value, row_bytes = kvt_row_bytes(a->w.type, (size_t)K);
    size_t piece = ready ? (size_t)N : PIECE_BYTES / row + 1;
    piece = piece < (size_t)N ? piece : (size_t)N;
    size_t in_bytes = f32 ? 0 : ((size_t)T * row + 255) / 256 * 256;
    unsigned char *scratch = (unsigned char *)kvt_cuda_scratch(dev, in_bytes + (ready ? 0 : piece * row) + 1);
    if (!scratch)
        return dev->err.code;
    size_t count = (size_t)T * (size_t)K;
    if (!f32)
        GPU_LAUNCH(round_kernel, kvt_blocks(count, 4 * THREADS), THREADS, 0, dev->stream, a->in, count, (__nv_bfloat16 *)scratch);
    const void *x = f32 ? (const void *)a->in : scratch;
    cudaDataType how = f32 ? CUDA_R_32F : CUDA_R_16BF;
    float one = 1, old = a->accumulate ? 1.0f : 0.0f;
    for (size_t n = 0; n < (size_t)N; n += piece) {
        size_t rows = (size_t)N - n < piece ? (size_t)N - n : piece;
        const unsigned char *w = (const unsigned char *)a->w.data + n * row_bytes;
        if (!ready) {
            dim3 grid((unsigned)rows, kvt_blocks((size_t)K, 4 * THREADS));
            if (f32)
                GPU_LAUNCH(decode_kernel<float>, grid, THREADS, 0, dev->stream, (int)a->w.type, w, row_bytes, K, (float *)(scratch + in_bytes));
            else
                GPU_LAUNCH(decode_kernel<__nv_bfloat16>, grid, THREADS, 0, dev->stream, (int)a->w.type, w, row_bytes, K, (__nv_bfloat16 *)(scratch + in_bytes));
            w = scratch + in_bytes;
        }
        int rc = kvt_cuda_flush(dev);
        if (rc)
            return rc;
        /* column-major: out' (N, T) = w'' in' */
        cublasStatus_t said = cublasGemmEx(dev->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)rows, T, K, &one, w, how, K, x, how, K, &old, a->out + n, CUDA_R_32F, N,
                                           CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
        if (said != CUBLAS_STATUS_SUCCESS)
            return kvt_fail(&dev->err, KVT_EDEVICE, "linear: cuBLAS: %s (N=%d K=%d T=%d)", cublasGetStatusString(said), N, K, T);
    }
    if (a->bias)
        GPU_LAUNCH(bias_kernel, dim3((unsigned)T, kvt_blocks((size_t)N, THREADS)), THREADS, 0, dev->stream, a->out, a->bias, N);
    return kvt_cuda_launched(dev, "linear");
}

/* ---- the operation ---- */

/* How a type is staged: runs at a time, in bytes about as many for each. */
static int span_of(const struct kvt_dtype_info *type)
{
    if (type->block_values == 256)
        return 8;
    int bytes = 32 / type->block_values * type->block_bytes; /* of a run */
    return bytes > 64 ? 1 : bytes > 34 ? 2 : bytes > 24 ? 4 : 8;
}

/* Parts of K begin at multiples of so many runs: of blocks, and in long rows of what linear_step.cu takes at a time. */
static int unit_of(const struct kvt_dtype_info *type, int runs)
{
    int single = type->block_values == 1;
    return type->block_values == 256 || (!single && runs >= 32) ? 8 : runs >= 32 || span_of(type) >= 4 ? 4 : 2;
}

static int rows(struct kvt_dev *dev, const struct kvt_linear_args *a)
{
    int N = a->w.n, K = a->w.k, T = a->T;
    const struct kvt_dtype_info *type = &kvt_dtypes[a->w.type];
    struct kvt_linear_job job = {};
    job.w = (const unsigned char *)a->w.data;
    job.row_bytes = kvt_row_bytes(a->w.type, (size_t)K);
    job.type = a->w.type;
    job.N = N;
    job.K = K;
    job.T = T;
    job.runs = (K + LINEAR_RUN - 1) / LINEAR_RUN;
    job.span = span_of(type);
    job.unit = unit_of(type, job.runs);
    if (T <= 8) {
        struct kvt_linears_args one = {NULL, a, 1, NULL};
        int rc = kvt_cuda_linear_step(dev, &one, job.unit);
        if (rc != KVT_EUNSUP)
            return rc;
    }
    job.block = type->block_values;
    job.block_bytes = type->block_bytes;
    job.bias = a->bias;
    job.out = a->out;
    job.accumulate = a->accumulate;
    int bytes = job.span * LINEAR_RUN / job.block * job.block_bytes, unit_bytes = job.unit * LINEAR_RUN / job.block * job.block_bytes, step = 16;
    while ((bytes | unit_bytes | job.row_bytes | (uintptr_t)job.w) % step)
        step /= 2;
    size_t most = dev->shared_most - LINEAR_STATIC;
    if (step == 16 && bytes <= 128 && most >= LINEAR_LARGE) { /* 16 lanes can take twice that; the order of sums stays */
        job.span *= 2;
        bytes *= 2;
    }
    job.pitch = linear_pitch(bytes, step);
    job.even = step >= 8;

    bool f32 = a->compute == KVT_COMPUTE_F32, narrow = T <= 8;
    int tile = narrow ? 8 : f32 ? 16 : 32, tiles = (T + tile - 1) / tile;
    if (a->compute == KVT_COMPUTE_BF16 && T <= LINEAR_RAW && K % LINEAR_RUN == 0 && (uintptr_t)a->in % 16 == 0)
        job.raw = a->in;
    job.x_pitch = job.span * LINEAR_RUN * (int)sizeof(float) + 64; /* two rows lie in different banks */
    linear_stage_of(&job, a->compute, narrow);
    if (!narrow && linear_shared(&job, a->w.type, 2, tile / 8) > most) {
        narrow = true;
        linear_stage_of(&job, a->compute, narrow);
    }
    if (narrow && linear_shared(&job, a->w.type, 1, 1) > most) {
        job.raw = NULL;
        job.far = true;
        linear_stage_of(&job, a->compute, narrow);
    }
    size_t padded = (size_t)tiles * (size_t)tile, x_bytes = job.raw ? 0 : padded * (size_t)job.runs * LINEAR_RUN * (f32 ? sizeof(float) : 2);
    unsigned char *scratch = (unsigned char *)kvt_cuda_scratch(dev, x_bytes + 2 * padded * sizeof(float));
    if (!scratch)
        return dev->err.code;
    job.x = scratch;
    float *scale = (float *)(scratch + x_bytes);
    dim3 order((unsigned)(padded / 8), kvt_blocks((size_t)job.runs, THREADS / 32));
    if (job.raw) {
        ; /* as they are */
    } else if (f32) {
        GPU_LAUNCH(pad_kernel, dim3((unsigned)T, kvt_blocks((size_t)job.runs * LINEAR_RUN, THREADS)), THREADS, 0, dev->stream, a->in, K, job.runs * LINEAR_RUN, (float *)scratch);
    } else if (a->compute == KVT_COMPUTE_BF16) {
        GPU_LAUNCH(order_kernel<KVT_COMPUTE_BF16>, order, THREADS, 0, dev->stream, a->in, T, K, job.runs, scale, (uint4 *)scratch);
    } else {
        job.unscale = scale + padded;
        GPU_LAUNCH(largest_kernel, (unsigned)T, THREADS, 0, dev->stream, a->in, K, scale, scale + padded);
        GPU_LAUNCH(order_kernel<KVT_COMPUTE_F16>, order, THREADS, 0, dev->stream, a->in, T, K, job.runs, scale, (uint4 *)scratch);
    }
    if (a->compute != KVT_COMPUTE_BF16)
        return kvt_cuda_linear_any(dev, &job, narrow, a->compute);
    return type->block_values == 256 ? kvt_cuda_linear_bf16_256(dev, &job, narrow) : kvt_cuda_linear_bf16(dev, &job, narrow);
}

int kvt_cuda_linear(struct kvt_dev *dev, const struct kvt_linear_args *a)
{
    size_t N = (size_t)a->w.n, K = (size_t)a->w.k;
    assert(a->w.n > 0 && a->w.k > 0 && a->T >= 0 && a->w.k % kvt_dtypes[a->w.type].block_values == 0);
    if (a->T >= LIBRARY && !a->exact && a->compute != KVT_COMPUTE_F16)
        return library(dev, a);
    int rc = 0;
    for (int t = 0; !rc && t < a->T; t += ROWS) {
        struct kvt_linear_args some = *a;
        some.in += (size_t)t * K;
        some.out += (size_t)t * N;
        some.T = a->T - t < ROWS ? a->T - t : ROWS;
        rc = rows(dev, &some);
    }
    return rc;
}

int kvt_cuda_linears(struct kvt_dev *dev, const struct kvt_linears_args *all)
{
    const struct kvt_linear_args *a = all->a;
    const enum kvt_dtype type = a->w.type;
    int rc = KVT_EUNSUP, unit = unit_of(&kvt_dtypes[type], (a->w.k + LINEAR_RUN - 1) / LINEAR_RUN), some = 1;
    while (some < all->n && a[some].w.type == type && a[some].w.k == a->w.k)
        some++;
    bool few = a->T > 0 && a->T <= 8;
    if (few && some == all->n)
        rc = kvt_cuda_linear_step(dev, all, unit);
    if (rc != KVT_EUNSUP)
        return rc;
    rc = all->norm ? kvt_cuda_norm(dev, all->norm) : 0;
    for (int i = 0; !rc && i < all->n; i += some) { /* neighbours of the same type */
        for (some = 1; i + some < all->n && a[i + some].w.type == a[i].w.type && a[i + some].w.k == a[i].w.k;)
            some++;
        struct kvt_linears_args part = {NULL, a + i, some, NULL};
        rc = few && some > 1 ? kvt_cuda_linear_step(dev, &part, unit_of(&kvt_dtypes[a[i].w.type], (a[i].w.k + LINEAR_RUN - 1) / LINEAR_RUN)) : KVT_EUNSUP;
        if (rc == KVT_EUNSUP) {
            rc = 0;
            for (int j = 0; !rc && j < some; j++)
                rc = kvt_cuda_linear(dev, &a[i + j]);
        }
    }
    return rc || !all->glu ? rc : kvt_cuda_glu(dev, all->glu);
}
