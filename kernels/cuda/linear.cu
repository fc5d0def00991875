/* linear: what a product needs around linear.h's kernel, and cuBLAS where it is allowed and pays.
 *
 * Activations are rounded and brought into the kernel's order once (a thread makes 16 bytes); with few outputs, K is split over
 * blocks and a thread sums each output's splits in order. From LIBRARY rows on, calls that aren't exact decode the weights, in pieces
 * that stay in L2, and leave the product to cuBLAS, which has the fastest matrix instructions: decoding costs a write and a read of
 * the weights, which so many rows outweigh. */
#include "kernels/cuda/linear.h"

#include <assert.h>

enum {
    THREADS = 256,
    BLOCKS = 264,            /* wanted of a launch: two for each multiprocessor of an H100; a constant, as it decides the order of sums */
    MOST_SPLITS = 16,
    LIBRARY = 128,           /* rows */
    PIECE_BYTES = 32 << 20,  /* of decoded weights at a time */
};

/* ---- activations ---- */

/* Eight values of row t as lane c of four takes them from run `run`; 0 past the row's end. */
static __device__ __forceinline__ void take(const float *in, int T, int K, int t, int run, int c, float *v)
{
    const float *row = in + (size_t)t * K;
    for (int i = 0; i < 8; i++) {
        int k = run * LINEAR_RUN + 4 * c + i % 4 + i / 4 * 16;
        v[i] = t < T && k < K ? row[k] : 0.0f;
    }
}

template <enum kvt_compute compute>
static __global__ void order_kernel(const float *in, int T, int K, int runs, size_t count, const float *scale, uint4 *out)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= count)
        return;
    int lane = (int)(at % 32), t = (int)(at / 32 / runs) * 8 + lane / 4;
    float v[8];
    take(in, T, K, t, (int)(at / 32 % runs), lane % 4, v);
    if (compute == KVT_COMPUTE_F16) {
        float by = t < T ? scale[t] : 0.0f;
        for (int i = 0; i < 8; i++)
            v[i] *= by;
    }
    out[at] = make_uint4(linear_pack<compute>(v[0], v[1]), linear_pack<compute>(v[2], v[3]), linear_pack<compute>(v[4], v[5]), linear_pack<compute>(v[6], v[7]));
}

/* Rows as they are, each begun at a multiple of 16 bytes and filled up with zeros to whole runs. */
static __global__ void pad_kernel(const float *in, int T, int K, int runs, float *out)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x, wide = (size_t)runs * LINEAR_RUN;
    if (at < wide * T)
        out[at] = at % wide < (size_t)K ? in[at / wide * K + at % wide] : 0.0f;
}

/* Rows rounded to bf16, for cuBLAS. */
static __global__ void round_kernel(const float *in, size_t count, __nv_bfloat16 *out)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
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

/* ---- splits ---- */

static __global__ void join_kernel(const struct kvt_linear_job job)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x, count = (size_t)job.T * job.N;
    if (at >= count)
        return;
    float sum = job.part[at];
    for (int s = 1; s < job.splits; s++)
        sum += job.part[s * count + at];
    linear_finish(&job, (int)(at / job.N), (int)(at % job.N), sum);
}

/* How many blocks share K: enough for BLOCKS of them, each of whose parts has a unit at least. `rows`: tiles of activations. */
static int splits_of(int N, int units, int tiles)
{
    int blocks = (int)kvt_blocks((size_t)N, 2 * 16 * LINEAR_OUT) * tiles, most = units / LINEAR_PARTS;
    int want = (BLOCKS + blocks - 1) / blocks;
    want = want < most ? want : most;
    want = want < MOST_SPLITS ? want : MOST_SPLITS;
    return want > 1 ? want : 1;
}

/* ---- cuBLAS ---- */

/* Rows of weights as bf16 or f32; a thread decodes four values. */
template <class T>
static __global__ void decode_kernel(int type, const unsigned char *w, size_t row_bytes, int K, size_t count, T *out)
{
    size_t fours = (size_t)((K + 3) / 4), at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at >= count * fours)
        return;
    size_t n = at / fours;
    int k = (int)(at % fours) * 4;
    float v[4];
    if (k + 4 <= K)
        kvt_block_values(type, w + n * row_bytes, k, v);
    for (int i = 0; i < 4 && k + i < K; i++)
        out[n * K + k + i] = (T)(k + 4 <= K ? v[i] : kvt_block_one(type, w + n * row_bytes, k + i));
}

static __global__ void bias_kernel(float *out, const float *bias, size_t count, int N)
{
    size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x;
    if (at < count)
        out[at] += bias[at % N];
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
        GPU_LAUNCH(round_kernel, kvt_blocks(count, THREADS), THREADS, 0, dev->stream, a->in, count, (__nv_bfloat16 *)scratch);
    const void *x = f32 ? (const void *)a->in : scratch;
    cudaDataType how = f32 ? CUDA_R_32F : CUDA_R_16BF;
    float one = 1, old = a->accumulate ? 1.0f : 0.0f;
    for (size_t n = 0; n < (size_t)N; n += piece) {
        size_t rows = (size_t)N - n < piece ? (size_t)N - n : piece;
        const unsigned char *w = (const unsigned char *)a->w.data + n * row_bytes;
        if (!ready) {
            unsigned blocks = kvt_blocks(rows * (size_t)((K + 3) / 4), THREADS);
            if (f32)
                GPU_LAUNCH(decode_kernel<float>, blocks, THREADS, 0, dev->stream, (int)a->w.type, w, row_bytes, K, rows, (float *)(scratch + in_bytes));
            else
                GPU_LAUNCH(decode_kernel<__nv_bfloat16>, blocks, THREADS, 0, dev->stream, (int)a->w.type, w, row_bytes, K, rows, (__nv_bfloat16 *)(scratch + in_bytes));
            w = scratch + in_bytes;
        }
        /* column-major: out' (N, T) = w'' in' */
        cublasStatus_t said = cublasGemmEx(dev->blas, CUBLAS_OP_T, CUBLAS_OP_N, (int)rows, T, K, &one, w, how, K, x, how, K, &old, a->out + n, CUDA_R_32F, N,
                                           CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
        if (said != CUBLAS_STATUS_SUCCESS)
            return kvt_fail(&dev->err, KVT_EDEVICE, "linear: cuBLAS: %s (N=%d K=%d T=%d)", cublasGetStatusString(said), N, K, T);
    }
    if (a->bias)
        GPU_LAUNCH(bias_kernel, kvt_blocks((size_t)T * (size_t)N, THREADS), THREADS, 0, dev->stream, a->out, a->bias, (size_t)T * (size_t)N, N);
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

int kvt_cuda_linear(struct kvt_dev *dev, const struct kvt_linear_args *a)
{
    int N = a->w.n, K = a->w.k, T = a->T;
    const struct kvt_dtype_info *type = &kvt_dtypes[a->w.type];
    assert(N > 0 && K > 0 && T >= 0 && K % type->block_values == 0);
    if (!T)
        return 0;
    if (T >= LIBRARY && !a->exact && a->compute != KVT_COMPUTE_F16)
        return library(dev, a);
    struct kvt_linear_job job = {};
    job.w = (const unsigned char *)a->w.data;
    job.row_bytes = kvt_row_bytes(a->w.type, (size_t)K);
    job.type = a->w.type;
    job.N = N;
    job.K = K;
    job.T = T;
    job.runs = (K + LINEAR_RUN - 1) / LINEAR_RUN;
    job.unit = type->block_values == 256 ? 8 : 2;
    job.span = span_of(type);
    job.block = type->block_values;
    job.block_bytes = type->block_bytes;
    int bytes = job.span * LINEAR_RUN / job.block * job.block_bytes;
    job.pitch = ((bytes + 15 + 15) / 16 | 1) * 16;
    job.bias = a->bias;
    job.out = a->out;
    job.accumulate = a->accumulate;

    bool f32 = a->compute == KVT_COMPUTE_F32, narrow = T <= 8;
    int tile = narrow ? 8 : f32 ? 16 : 32, tiles = (T + tile - 1) / tile;
    narrow = narrow || linear_shared(&job, 2, tile / 8) > dev->shared_most;
    job.splits = splits_of(N, (job.runs + job.unit - 1) / job.unit, a->exact ? 1 : tiles);
    size_t padded = (size_t)tiles * (size_t)tile, x_bytes = padded * (size_t)job.runs * LINEAR_RUN * (f32 ? sizeof(float) : 2);
    size_t part_bytes = job.splits > 1 ? (size_t)job.splits * (size_t)T * (size_t)N * sizeof(float) : 0;
    unsigned char *scratch = (unsigned char *)kvt_cuda_scratch(dev, x_bytes + part_bytes + 2 * padded * sizeof(float));
    if (!scratch)
        return dev->err.code;
    job.x = scratch;
    job.part = (float *)(scratch + x_bytes);
    size_t count = x_bytes / 16;
    if (f32) {
        GPU_LAUNCH(pad_kernel, kvt_blocks(x_bytes / sizeof(float), THREADS), THREADS, 0, dev->stream, a->in, T, K, job.runs, (float *)scratch);
    } else if (a->compute == KVT_COMPUTE_BF16) {
        GPU_LAUNCH(order_kernel<KVT_COMPUTE_BF16>, kvt_blocks(count, THREADS), THREADS, 0, dev->stream, a->in, T, K, job.runs, count, (const float *)NULL, (uint4 *)scratch);
    } else {
        float *scale = (float *)(scratch + x_bytes + part_bytes);
        job.unscale = scale + padded;
        GPU_LAUNCH(largest_kernel, (unsigned)T, THREADS, 0, dev->stream, a->in, K, scale, scale + padded);
        GPU_LAUNCH(order_kernel<KVT_COMPUTE_F16>, kvt_blocks(count, THREADS), THREADS, 0, dev->stream, a->in, T, K, job.runs, count, (const float *)scale, (uint4 *)scratch);
    }
    int rc = a->compute != KVT_COMPUTE_BF16 ? kvt_cuda_linear_any(dev, &job, narrow, a->compute)
             : type->block_values == 256    ? kvt_cuda_linear_bf16_256(dev, &job, narrow)
                                            : kvt_cuda_linear_bf16(dev, &job, narrow);
    if (!rc && job.splits > 1) {
        GPU_LAUNCH(join_kernel, kvt_blocks((size_t)T * (size_t)N, THREADS), THREADS, 0, dev->stream, job);
        rc = kvt_cuda_launched(dev, "linear");
    }
    return rc;
}
