/* The product of activations with a streamed weight matrix: what linear.cu prepares, and the kernel that the linear_*.cu files
 * instantiate, one for each way to compute and type of block.
 *
 * Weights stay as the file has them, and each is read once for up to 32 rows of activations: a decode step is as fast as memory. A
 * block has 16 M outputs, and its WARPS warps share K: no other block has a part of its sums, so nothing is summed by a second pass. A
 * warp copies a span of its rows' bytes into its own shared memory (cp.async, 16 bytes a lane; all its stages are on their way from
 * the beginning on; rows begin anywhere, so a row's bytes begin at its address modulo 16) and decodes runs of 32 values straight into
 * the registers of the tensor cores: an mma's order of k may be any that both factors share, so lane c of four takes the values 4 c .. + 3
 * and 16 + 4 c .. + 3 of a run, which blocks keep together. No barrier but the warp's own until the parts are joined. Up to 8 rows of
 * activations come with the weights, in the same stages, as their latency in each run would cost more than the decoding: a few as they
 * are, more in that order already (linear.cu), 16 bytes a lane and run. More rows come from L1 and L2 in that order.
 *
 * Blocks live for microseconds, and code that runs once runs as fast as instructions can be fetched: loops are kept rolled, a block's
 * whole way is some 10 KB.
 *
 * A sum's order: runs of a part in order, then parts. Where parts begin depends on the matrix alone, so a row's bits don't depend on
 * how many rows there are, nor on M and NT. Blocks that read the same weights are neighbours in x. */
#ifndef KVT_KERNELS_CUDA_LINEAR_H
#define KVT_KERNELS_CUDA_LINEAR_H

#include "kernels/cuda/blocks.h"

enum { LINEAR_WARPS = 8, LINEAR_PARTS = LINEAR_WARPS, LINEAR_THREADS = 32 * LINEAR_WARPS, LINEAR_RUN = 32,
       LINEAR_FACTORS = 9 /* of a staged row, 8 bytes each, one of them padding: rows lie in different banks */,
       LINEAR_RAW = 4 /* rows of activations at most that are taken as they came: about as many bytes as 8 in order */,
       LINEAR_LARGE = 128 << 10 /* bytes of shared memory of a multiprocessor that isn't one of the small ones */, KVT_LINEAR_MOST = 3 /* products of a launch */,
       LINEAR_STATIC = 1024 /* bytes of shared memory left for what isn't asked for at the launch */ };

struct kvt_linear_job {
    const unsigned char *w;
    size_t row_bytes;
    int type, N, K, T;
    int runs;                   /* of 32 values in a row, the last one perhaps not whole */
    int unit;                   /* parts begin at multiples of `unit` runs */
    int span, block, block_bytes; /* runs that are staged at a time; values and bytes of a block of the type */
    int pitch;                  /* bytes of a staged row (with room for a start within 16), an odd multiple of 16: rows lie in different banks */
    int stage;                  /* bytes of a warp's stage: rows of weights, then activations */
    int x_pitch;                /* bytes between staged rows of `raw` */
    bool even;                  /* staged rows begin at multiples of 8 bytes */
    const void *x;              /* activations: 16-bit as [T / 8][runs][32 lanes][8], f32 as [T][32 runs] */
    const float *raw;           /* or, few rows whose runs are whole and aligned to 16 bytes, as they came; then x is NULL */
    bool far;                   /* up to 8 rows of activations aren't staged: a small multiprocessor has no room for them */
    const float *unscale;       /* (T) f16: what a row's sums are multiplied by; or NULL */
    const float *bias;
    float *out;
    bool accumulate;
};

static __device__ __forceinline__ void linear_finish(const struct kvt_linear_job *job, int t, int n, float sum)
{
    float *out = job->out + (size_t)t * job->N + n;
    if (job->unscale)
        sum *= job->unscale[t];
    if (job->bias)
        sum += job->bias[n];
    *out = job->accumulate ? sum + *out : sum;
}

template <enum kvt_compute compute> static __device__ __forceinline__ unsigned linear_pack(float a, float b)
{
    if (compute == KVT_COMPUTE_F16) {
        __half2 h = __floats2half2_rn(a, b);
        return *reinterpret_cast<unsigned *>(&h);
    }
    __nv_bfloat162 h = __floats2bfloat162_rn(a, b);
    return *reinterpret_cast<unsigned *>(&h);
}

/* Eight values of a run: 4 c .. + 3 and 16 + 4 c .. + 3; row: the span's first byte, k: of its first value; factors: of the run, if the
 * type has such. type KVT_N_DTYPE: job->type */
template <int type>
static __device__ __forceinline__ void linear_values(const struct kvt_linear_job *job, const unsigned char *row, int k, int run, int c, float2 factors, float *v)
{
    int at = run * LINEAR_RUN + 4 * c;
    bool single = type == KVT_N_DTYPE ? job->block == 1 : kvt_type_single(type);
    if (single && k + (run + 1) * LINEAR_RUN > job->K) { /* the row ends in this run */
        for (int i = 0; i < 8; i++) {
            int j = at + i % 4 + i / 4 * 16;
            v[i] = k + j < job->K ? kvt_block_one(type == KVT_N_DTYPE ? job->type : type, row, j) : 0.0f;
        }
    } else if (type == KVT_N_DTYPE) {
        kvt_block_values(job->type, row, at, v);
        kvt_block_values(job->type, row, at + 16, v + 4);
    } else if (kvt_type_scaled(type)) { /* a span is a block */
        kvt_block_scaled<type, true>(row, run, 4 * c, factors, v);
        kvt_block_scaled<type, true>(row, run, 16 + 4 * c, factors, v + 4);
    } else if (kvt_type_block(type) <= LINEAR_RUN) { /* so the compiler sees that both are of one block */
        const unsigned char *p = row + run * (LINEAR_RUN * kvt_type_bytes(type) / (kvt_type_block(type) + (type == KVT_N_DTYPE)));
        kvt_block_quad<type, true>(p, 4 * c, v);
        kvt_block_quad<type, true>(p, 16 + 4 * c, v + 4);
    } else {
        kvt_block_quad<type, true>(row, at, v);
        kvt_block_quad<type, true>(row, at + 16, v + 4);
    }
}

/* A run's eight values as an mma takes them: step 0's two pairs, then step 1's. */
template <int type, enum kvt_compute compute>
static __device__ __forceinline__ void linear_pairs(const struct kvt_linear_job *job, const unsigned char *row, int k, int run, int c, float2 factors, unsigned *a)
{
    if (type == KVT_BF16 && compute == KVT_COMPUTE_BF16 && k + (run + 1) * LINEAR_RUN <= job->K) { /* as they are */
        const unsigned char *p = row + run * (2 * LINEAR_RUN) + 8 * c;
        if (job->even) {
            uint2 low = *reinterpret_cast<const uint2 *>(p), high = *reinterpret_cast<const uint2 *>(p + 32);
            a[0] = low.x;
            a[1] = low.y;
            a[2] = high.x;
            a[3] = high.y;
        } else {
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[i] = block_u32<2>(p + i / 2 * 32 + i % 2 * 4);
        }
        return;
    }
    float v[8];
    linear_values<type>(job, row, k, run, c, factors, v);
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = linear_pack<compute>(v[2 * i], v[2 * i + 1]);
}

/* Copies a span of a warp's rows from byte `from` up to `end`; lanes 0..15 take the first half of them, 16..31 the second. */
template <int rows>
static __device__ __forceinline__ void linear_stage(const struct kvt_linear_job *job, unsigned char *stage, int row0, unsigned from, unsigned end)
{
    int piece = (int)(threadIdx.x & 15) * 16, first = (int)(threadIdx.x >> 4 & 1) * (rows / 2), left = job->N - 1 - row0 - first;
    const unsigned char *src = job->w + (size_t)(left < 0 ? job->N - 1 : row0 + first) * job->row_bytes + from;
    int size = (int)(end - from) - piece;
    stage += first * job->pitch + piece;
#pragma unroll 4
    for (int r = 0; r < rows / 2; r++, stage += job->pitch) {
        int skew = (int)((uintptr_t)src & 15);
        if (size + skew > 0)
            gpu_cp_async16_line(stage, src - skew + piece);
        src += r < left ? job->row_bytes : 0; /* past the last row, the last one */
    }
}

/* Copies the activations of `many` runs from run `at` on, for a warp that takes 8 rows of them: rows as they came, or in order. */
static __device__ __forceinline__ void linear_stage_x(const struct kvt_linear_job *job, unsigned char *stage, int at, int many)
{
    int lane = (int)threadIdx.x % 32;
    if (job->raw) {
#pragma unroll 1
        for (int t = 0; t < job->T; t++)
#pragma unroll 1
            for (int i = lane; i < 8 * many; i += 32)
                gpu_cp_async16(stage + t * job->x_pitch + 16 * i, job->raw + (size_t)t * job->K + at * LINEAR_RUN + 4 * i);
    } else {
        const uint4 *x = static_cast<const uint4 *>(job->x) + ((size_t)blockIdx.x * job->runs + at) * 32;
#pragma unroll 1
        for (int i = lane; i < 32 * many; i += 32)
            gpu_cp_async16(stage + 16 * i, x + i);
    }
}

/* A run's activations out of a stage. */
template <enum kvt_compute compute> static __device__ __forceinline__ uint4 linear_staged_x(const struct kvt_linear_job *job, const unsigned char *stage, int run)
{
    int lane = (int)threadIdx.x % 32;
    if (compute != KVT_COMPUTE_BF16 || !job->raw)
        return *reinterpret_cast<const uint4 *>(stage + (32 * run + lane) * 16);
    if (lane / 4 >= job->T)
        return make_uint4(0, 0, 0, 0);
    const float4 *x = reinterpret_cast<const float4 *>(stage + lane / 4 * job->x_pitch) + 8 * run + lane % 4;
    float4 a = x[0], b = x[4];
    return make_uint4(linear_pack<compute>(a.x, a.y), linear_pack<compute>(a.z, a.w), linear_pack<compute>(b.x, b.y), linear_pack<compute>(b.z, b.w));
}

/* Where row r of a stage begins whose span begins at byte `from` of its rows. */
static __device__ __forceinline__ const unsigned char *linear_begin(const struct kvt_linear_job *job, const unsigned char *stage, int row0, int r, unsigned from)
{
    int row = row0 + r < job->N ? row0 + r : job->N - 1;
    return stage + r * job->pitch + (((unsigned)(uintptr_t)job->w + (unsigned)row * (unsigned)job->row_bytes + from) & 15);
}

/* Blocks on a multiprocessor: as many as shared memory has room for. */
static constexpr __host__ __device__ int linear_blocks(int type, int M) { return type == KVT_N_DTYPE ? 1 : M == 1 ? 3 : 2; }
/* Stages of a warp: two where a span is of 8 runs. */
static constexpr __host__ __device__ int linear_stages(int type, int M)
{
    return M == 1 && type != KVT_N_DTYPE && kvt_type_block(type) < 256 && LINEAR_RUN * kvt_type_bytes(type) > 24 * kvt_type_block(type) ? 3 : 2;
}

template <int type, enum kvt_compute compute, int M, int NT>
static __global__ void __launch_bounds__(LINEAR_THREADS, linear_blocks(type, M)) linear_kernel(const struct kvt_linear_job job)
{
    constexpr int STAGES = linear_stages(type, M), ROWS = 16 * M, TILE = 8 * NT, PITCH = ROWS + 4;
    constexpr bool f32 = compute == KVT_COMPUTE_F32, scaled = kvt_type_scaled(type), staged_x = !f32 && NT == 1;
    constexpr int whole = type != KVT_N_DTYPE && kvt_type_block(type) == 256 ? 8 : 0; /* blocks of 256 are always whole */
    GPU_DYN_SHARED(unsigned char, shared);
    int lane = (int)(threadIdx.x & 31), part = (int)threadIdx.x / 32, r = lane / 4, c = (int)(threadIdx.x & 3), row0 = (int)blockIdx.y * ROWS;
    int units = (job.runs + job.unit - 1) / job.unit;
    int run0 = units * part / LINEAR_PARTS * job.unit, end = units * (part + 1) / LINEAR_PARTS * job.unit;
    end = end < job.runs ? end : job.runs;
    unsigned byte_end = (unsigned)((end * LINEAR_RUN < job.K ? end * LINEAR_RUN : job.K) / job.block * job.block_bytes);
    unsigned span_bytes = (unsigned)(job.span * LINEAR_RUN / job.block * job.block_bytes), first = (unsigned)(run0 * LINEAR_RUN / job.block * job.block_bytes);
    unsigned char *stages = shared + (size_t)part * STAGES * job.stage;
    float2 *table = reinterpret_cast<float2 *>(shared + (size_t)LINEAR_WARPS * STAGES * job.stage) + part * ROWS * LINEAR_FACTORS;
    float acc[f32 ? 2 * M : M][f32 ? TILE : 4 * NT] = {};
    const uint4 *x16 = static_cast<const uint4 *>(job.x) + ((size_t)blockIdx.x * NT * job.runs + run0) * 32 + lane;
    int spans = (end - run0 + job.span - 1) / job.span, slot = 0;
    uint4 next[f32 || staged_x ? 1 : NT] = {};
    int live = (job.T - (int)blockIdx.x * TILE + 7) / 8; /* eights of rows that there are */
    if (!f32 && !staged_x && spans > 0) {
#pragma unroll
        for (int j = 0; j < NT; j++)
            if (j < live)
                next[j] = x16[(unsigned)(j * job.runs) * 32u];
    }
#pragma unroll 1
    for (int i = -STAGES; i < spans; i++) { /* all stages on their way, and then one whenever one has been read */
        if (i >= 0) {
            gpu_cp_async_wait<STAGES - 1>();
            __syncwarp();
            const unsigned char *stage = stages + slot * job.stage, *rows[2 * M];
            unsigned offset = first + i * span_bytes;
#pragma unroll
            for (int q = 0; q < 2 * M; q++)
                rows[q] = linear_begin(&job, stage, row0, r + 8 * q, offset);
            int at = run0 + i * job.span, many = end - at < job.span ? end - at : job.span;
            if (scaled) { /* the factors of the block's runs, each decoded once */
#pragma unroll 1
                for (int j = lane; j < ROWS * 8; j += 32) {
                    const unsigned char *block = linear_begin(&job, stage, row0, j / 8, offset);
                    table[j / 8 * LINEAR_FACTORS + j % 8] = kvt_block_scales<scaled ? type : KVT_Q4_K>(block, j % 8);
                }
                __syncwarp();
            }
#pragma unroll 1
            for (int run = 0; run < (whole ? whole : many); run++) {
                if constexpr (f32) {
                    float v[2 * M][8];
#pragma unroll
                    for (int q = 0; q < 2 * M; q++)
                        linear_values<type>(&job, rows[q], at * LINEAR_RUN, run, c, float2(), v[q]);
#pragma unroll
                    for (int t = 0; t < TILE; t++) {
                        int from = (int)blockIdx.x * TILE + t < job.T ? (int)blockIdx.x * TILE + t : job.T - 1;
                        const float4 *x = reinterpret_cast<const float4 *>(static_cast<const float *>(job.x) + ((size_t)from * job.runs + at + run) * LINEAR_RUN);
                        float4 a = x[c], b = x[4 + c];
                        float y[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
                        for (int q = 0; q < 2 * M; q++)
#pragma unroll
                            for (int j = 0; j < 8; j++)
                                acc[q][t] = fmaf(v[q][j], y[j], acc[q][t]);
                    }
                } else {
                    uint4 now[NT];
                    if (staged_x && job.far) {
                        now[0] = x16[(unsigned)(at + run - run0) * 32u];
                    } else if (staged_x) {
                        now[0] = linear_staged_x<compute>(&job, stage + ROWS * job.pitch, run);
                    } else { /* the next run's are on their way during this one */
                        int then = at + run + 1 < end ? at + run + 1 - run0 : 0;
#pragma unroll
                        for (int j = 0; j < NT; j++) {
                            now[j] = next[j];
                            if (j < live)
                                next[j] = x16[(unsigned)(j * job.runs + then) * 32u];
                        }
                    }
#pragma unroll
                    for (int m = 0; m < M; m++) {
                        unsigned w[2][4], a[2][4]; /* of rows r and r + 8; of the run's two steps of 16 */
#pragma unroll
                        for (int q = 0; q < 2; q++) {
                            float2 factors = scaled ? table[(r + 8 * (2 * m + q)) * LINEAR_FACTORS + run] : float2();
                            linear_pairs<type, compute>(&job, rows[2 * m + q], at * LINEAR_RUN, run, c, factors, w[q]);
                        }
#pragma unroll
                        for (int i = 0; i < 8; i++)
                            a[i / 4][i % 4] = w[i % 2][i / 4 * 2 + i % 4 / 2];
#pragma unroll
                        for (int j = 0; j < NT; j++) {
                            unsigned b[4] = {now[j].x, now[j].y, now[j].z, now[j].w};
#pragma unroll
                            for (int step = 0; step < 2; step++) {
                                if (compute == KVT_COMPUTE_F16)
                                    gpu_mma_f16(&acc[m][4 * j], a[step], b + 2 * step);
                                else
                                    gpu_mma_bf16(&acc[m][4 * j], a[step], b + 2 * step);
                            }
                        }
                    }
                }
            }
            __syncwarp(); /* before the stage is written again */
        }
        int ahead = i + STAGES;
        if (ahead < spans) {
            unsigned from = first + ahead * span_bytes, to = from + span_bytes < byte_end ? from + span_bytes : byte_end;
            linear_stage<ROWS>(&job, stages + slot * job.stage, row0, from, to);
            int at = run0 + ahead * job.span;
            if (staged_x && !job.far)
                linear_stage_x(&job, stages + slot * job.stage + ROWS * job.pitch, at, end - at < job.span ? end - at : job.span);
        }
        gpu_cp_async_commit();
        slot = slot + 1 < STAGES ? slot + 1 : 0;
    }
    /* parts meet in shared memory, as [part][t][output] */
    gpu_cp_async_wait<0>();
    __syncthreads();
    float *box = reinterpret_cast<float *>(shared) + part * TILE * PITCH + r;
    if constexpr (f32) {
#pragma unroll
        for (int q = 0; q < 2 * M; q++)
#pragma unroll
            for (int t = 0; t < TILE; t++) {
                float sum = acc[q][t];
                sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                if (t % 4 == c)
                    box[t * PITCH + 8 * q] = sum;
            }
    } else {
#pragma unroll
        for (int m = 0; m < M; m++)
#pragma unroll
            for (int j = 0; j < 4 * NT; j++)
                box[(j / 4 * 8 + 2 * c + j % 2) * PITCH + 16 * m + j % 4 / 2 * 8] = acc[m][j];
    }
    __syncthreads();
    const float *sums = reinterpret_cast<const float *>(shared);
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < ROWS * TILE; i += LINEAR_THREADS) {
        int n = i % ROWS, t = i / ROWS, out_n = row0 + n, out_t = (int)blockIdx.x * TILE + t;
        if (out_n >= job.N || out_t >= job.T)
            continue;
        float sum = sums[t * PITCH + n];
#pragma unroll
        for (int q = 1; q < LINEAR_PARTS; q++)
            sum += sums[(q * TILE + t) * PITCH + n];
        linear_finish(&job, out_t, out_n, sum);
    }
}

/* Bytes of a staged row of `bytes` that begins at a multiple of `step` bytes. */
static inline int linear_pitch(int bytes, int step) { return ((bytes + 16 - step + 15) / 16 | 1) * 16; }

/* Shared memory of a launch: stages and factors, later the parts' sums. */
static inline size_t linear_shared(const struct kvt_linear_job *job, int type, int M, int NT)
{
    size_t stages = (size_t)LINEAR_WARPS * (size_t)linear_stages(type, M) * (size_t)job->stage;
    if (kvt_type_scaled(type))
        stages += (size_t)LINEAR_WARPS * 16 * (size_t)M * LINEAR_FACTORS * sizeof(float2);
    size_t box = (size_t)LINEAR_PARTS * 8 * (size_t)NT * (size_t)(16 * M + 4) * sizeof(float);
    return stages > box ? stages : box;
}
/* Sets a stage's bytes: a warp's rows and, where they are staged, activations. */
static inline void linear_stage_of(struct kvt_linear_job *job, enum kvt_compute compute, bool narrow)
{
    job->stage = (narrow ? 16 : 32) * job->pitch;
    if (narrow && compute != KVT_COMPUTE_F32 && !job->far)
        job->stage += job->raw ? job->T * job->x_pitch : job->span * 512;
}

template <int type, enum kvt_compute compute, int M, int NT>
static int linear_launch_as(struct kvt_dev *dev, const struct kvt_linear_job *job)
{
    size_t shared = linear_shared(job, type, M, NT);
    bool *ready = &dev->linear_ready[compute][type][M - 1];
    if (!*ready) { /* it is once allowed the most there is */
        cudaError_t code = cudaFuncSetAttribute(linear_kernel<type, compute, M, NT>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(dev->shared_most - LINEAR_STATIC));
        if (code != cudaSuccess)
            return kvt_cuda_failed(dev, code, "linear");
        *ready = true;
    }
    dim3 grid(kvt_blocks((size_t)job->T, 8 * NT), kvt_blocks((size_t)job->N, 16 * M));
    GPU_LAUNCH((linear_kernel<type, compute, M, NT>), grid, LINEAR_THREADS, shared, dev->stream, *job);
    return kvt_cuda_launched(dev, "linear");
}

/* Launches: 8 rows of activations a block (narrow) or 32 (16 in f32). */
template <int type, enum kvt_compute compute> static int linear_launch(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow)
{
    return narrow ? linear_launch_as<type, compute, 1, 1>(dev, job) : linear_launch_as<type, compute, 2, compute == KVT_COMPUTE_F32 ? 2 : 4>(dev, job);
}

/* The files' parts of it; job->type says which kernel. */
int kvt_cuda_linear_bf16(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow);
int kvt_cuda_linear_bf16_256(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow); /* blocks of 256 */
/* linear_step.cu: all of it in one launch, matrices of the same type and K; unit: runs. KVT_EUNSUP, without words: not by this way. */
int kvt_cuda_linear_step(struct kvt_dev *dev, const struct kvt_linears_args *all, int unit);
int kvt_cuda_linear_any(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow, enum kvt_compute compute);

#endif
