/* The product of activations with a streamed weight matrix: what linear.cu prepares, and the kernel that the linear_*.cu files
 * instantiate, one for each way to compute and type of block.
 *
 * Weights stay as the file has them, and each is read once for up to 32 rows of activations: a decode step is as fast as memory. A
 * block has WARPS warps: OUT of them side by side over outputs, 16 M each, and PARTS along K. A warp copies a span of its rows' bytes
 * into its own shared memory (cp.async, 16 bytes a lane, a stage or two ahead; rows begin anywhere, so a row's bytes begin at its
 * address modulo 16) and decodes runs of 32 values straight into the registers of the tensor cores: an mma's order of k may be any
 * that both factors share, so lane c of four takes the values 4 c .. + 3 and 16 + 4 c .. + 3 of a run, which blocks keep together.
 * No barrier but the warp's own until the parts are joined. Activations lie in that order already (linear.cu), 16 bytes a lane
 * and step; they come from L1 and L2.
 *
 * A sum's order: runs of a part in order, then parts, then splits (blocks along K; the last of them to end sums them, as one launch is
 * cheaper than two). Where parts and splits begin depends on the matrix alone, so a row's bits don't depend on how many rows there
 * are, nor on M and NT. Blocks that read the same weights are neighbours in x. */
#ifndef KVT_KERNELS_CUDA_LINEAR_H
#define KVT_KERNELS_CUDA_LINEAR_H

#include "kernels/cuda/blocks.h"

enum { LINEAR_WARPS = 8, LINEAR_PARTS = 2, LINEAR_OUT = LINEAR_WARPS / LINEAR_PARTS, LINEAR_THREADS = 32 * LINEAR_WARPS, LINEAR_RUN = 32,
       LINEAR_FACTORS = 9 /* of a staged row, 8 bytes each, one of them padding: rows lie in different banks */,
       LINEAR_STATIC = 1024 /* bytes of shared memory left for what isn't asked for at the launch */ };

struct kvt_linear_job {
    const unsigned char *w;
    size_t row_bytes;
    int type, N, K, T;
    int runs;                   /* of 32 values in a row, the last one perhaps not whole */
    int unit, splits;           /* parts begin at multiples of `unit` runs */
    int span, block, block_bytes; /* runs that are staged at a time; values and bytes of a block of the type */
    int pitch;                  /* bytes of a staged row (with room for a start within 16), an odd multiple of 16: rows lie in different banks */
    const void *x;              /* activations: 16-bit as [T / 8][runs][32 lanes][8], f32 as [T][32 runs] */
    const float *raw;           /* or, up to 8 rows whose runs are whole and aligned to 16 bytes, as they came; then x is NULL */
    const float *unscale;       /* (T) f16: what a row's sums are multiplied by; or NULL */
    const float *bias;
    float *out;
    bool accumulate;
    float *part;                /* (splits, T, N) if splits > 1 */
    unsigned *ticket;           /* zeros, one for each tile of outputs and rows, and left as zeros: how many splits are done */
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
    } else {
        kvt_block_quad<type, true>(row, at, v);
        kvt_block_quad<type, true>(row, at + 16, v + 4);
    }
}

/* Copies a span of a warp's rows from byte `from` up to `end`; lanes 0..15 take even rows, 16..31 odd ones. */
template <int rows>
static __device__ __forceinline__ void linear_stage(const struct kvt_linear_job *job, unsigned char *stage, int row0, unsigned from, unsigned end)
{
    int piece = (int)threadIdx.x % 16 * 16;
#pragma unroll 4
    for (int r = (int)threadIdx.x % 32 / 16; r < rows; r += 2) {
        int row = row0 + r < job->N ? row0 + r : job->N - 1;
        const unsigned char *src = job->w + (size_t)row * job->row_bytes + from;
        int skew = (int)((uintptr_t)src & 15);
        if (piece < skew + (int)(end - from))
            gpu_cp_async16(stage + r * job->pitch + piece, src - skew + piece);
    }
}

/* Where row r of a stage begins whose span begins at byte `from` of its rows. */
static __device__ __forceinline__ const unsigned char *linear_begin(const struct kvt_linear_job *job, const unsigned char *stage, int row0, int r, unsigned from)
{
    int row = row0 + r < job->N ? row0 + r : job->N - 1;
    return stage + r * job->pitch + (((unsigned)(uintptr_t)job->w + (unsigned)row * (unsigned)job->row_bytes + from) & 15);
}

/* Blocks on a multiprocessor: as many as shared memory has room for. */
static constexpr __host__ __device__ int linear_blocks(int type, int M)
{
    return type == KVT_N_DTYPE ? 1 : M == 1 && (kvt_type_block(type) < 256 || type == KVT_Q4_K) ? 3 : 2;
}

template <int type, enum kvt_compute compute, int M, int NT>
static __global__ void __launch_bounds__(LINEAR_THREADS, linear_blocks(type, M)) linear_kernel(const struct kvt_linear_job job)
{
    constexpr int STAGES = M == 1 ? 3 : 2, ROWS = 16 * M, TILE = 8 * NT, OUTS = LINEAR_OUT * ROWS, PITCH = OUTS + 4;
    constexpr bool f32 = compute == KVT_COMPUTE_F32;
    GPU_DYN_SHARED(unsigned char, shared);
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32, r = lane / 4, c = lane % 4;
    int part = warp % LINEAR_PARTS, side = warp / LINEAR_PARTS, row0 = (int)blockIdx.y * OUTS + side * ROWS;
    int units = (job.runs + job.unit - 1) / job.unit, parts = job.splits * LINEAR_PARTS, p = (int)blockIdx.z * LINEAR_PARTS + part;
    int run0 = (int)((long long)units * p / parts) * job.unit, end = (int)((long long)units * (p + 1) / parts) * job.unit;
    end = end < job.runs ? end : job.runs;
    int k_end = end * LINEAR_RUN < job.K ? end * LINEAR_RUN : job.K;
    unsigned byte_end = (unsigned)(k_end / job.block * job.block_bytes);
    unsigned char *stages = shared + (size_t)warp * STAGES * ROWS * job.pitch;
    constexpr bool scaled = kvt_type_scaled(type);
    float2 *table = reinterpret_cast<float2 *>(shared + (size_t)LINEAR_WARPS * STAGES * ROWS * job.pitch) + warp * ROWS * LINEAR_FACTORS;
    float acc[f32 ? 2 * M : M][f32 ? TILE : 4 * NT] = {};
    unsigned span_bytes = (unsigned)(job.span * LINEAR_RUN / job.block * job.block_bytes), first = (unsigned)(run0 * LINEAR_RUN / job.block * job.block_bytes);
    int spans = (end - run0 + job.span - 1) / job.span;
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        unsigned from = first + i * span_bytes, to = from + span_bytes < byte_end ? from + span_bytes : byte_end;
        if (i < spans)
            linear_stage<ROWS>(&job, stages + (size_t)i * ROWS * job.pitch, row0, from, to);
        gpu_cp_async_commit();
    }
    const uint4 *x16 = static_cast<const uint4 *>(job.x) + ((size_t)blockIdx.x * NT * job.runs + run0) * 32 + lane;
    uint4 next[f32 ? 1 : NT];
    constexpr bool may_raw = NT == 1 && compute == KVT_COMPUTE_BF16;
    const float4 *raw = may_raw && job.raw && r < job.T ? reinterpret_cast<const float4 *>(job.raw + (size_t)r * job.K) + run0 * 8 + c : NULL;
    float4 raw_next[2] = {};
    if (!f32 && spans > 0) {
        if (may_raw && job.raw) {
            if (raw) {
                raw_next[0] = raw[0];
                raw_next[1] = raw[4];
            }
        } else if (M == 1) {
#pragma unroll
            for (int j = 0; j < NT; j++)
                next[j] = x16[(size_t)j * job.runs * 32];
        }
    }
    for (int i = 0; i < spans; i++) {
        gpu_cp_async_wait<STAGES - 2>();
        __syncwarp();
        int ahead = i + STAGES - 1;
        if (ahead < spans) { /* its stage was read before the barrier */
            unsigned from = first + ahead * span_bytes, to = from + span_bytes < byte_end ? from + span_bytes : byte_end;
            linear_stage<ROWS>(&job, stages + (size_t)(ahead % STAGES) * ROWS * job.pitch, row0, from, to);
        }
        gpu_cp_async_commit();
        const unsigned char *stage = stages + (size_t)(i % STAGES) * ROWS * job.pitch, *rows[2 * M];
        unsigned offset = first + i * span_bytes;
#pragma unroll
        for (int q = 0; q < 2 * M; q++)
            rows[q] = linear_begin(&job, stage, row0, r + 8 * q, offset);
        int at = run0 + i * job.span, many = end - at < job.span ? end - at : job.span;
        if (scaled) { /* the factors of the block's runs, each decoded once */
#pragma unroll 2
            for (int j = lane; j < ROWS * 8; j += 32) {
                const unsigned char *block = linear_begin(&job, stage, row0, j / 8, offset);
                table[j / 8 * LINEAR_FACTORS + j % 8] = kvt_block_scales<scaled ? type : KVT_Q4_K>(block, j % 8);
            }
            __syncwarp();
        }
        constexpr int whole = type != KVT_N_DTYPE && kvt_type_block(type) == 256 ? 8 : 0; /* blocks of 256 are always whole */
#pragma unroll(type == KVT_N_DTYPE || (M == 2 && scaled) ? 1 : 2) /* more would spill */
        for (int run = 0; run < (whole ? whole : many); run++) {
            uint4 now[f32 ? 1 : NT];
            int ahead_run = at + run + 1 - run0; /* its activations are on their way during this run */
            bool more = at + run + 1 < end;
            if (may_raw && job.raw) {
                now[0].x = linear_pack<compute>(raw_next[0].x, raw_next[0].y);
                now[0].y = linear_pack<compute>(raw_next[0].z, raw_next[0].w);
                now[0].z = linear_pack<compute>(raw_next[1].x, raw_next[1].y);
                now[0].w = linear_pack<compute>(raw_next[1].z, raw_next[1].w);
                if (raw && more) {
                    raw_next[0] = raw[8 * ahead_run];
                    raw_next[1] = raw[8 * ahead_run + 4];
                }
            } else if (!f32) {
#pragma unroll
                for (int j = 0; j < NT; j++) {
                    if (M == 2) { /* decoding so many weights takes longer than this load */
                        now[j] = x16[(unsigned)(j * job.runs + ahead_run - 1) * 32u];
                        continue;
                    }
                    now[j] = next[j];
                    if (more)
                        next[j] = x16[(unsigned)(j * job.runs + ahead_run) * 32u];
                }
            }
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
#pragma unroll
                for (int m = 0; m < M; m++) {
                    unsigned a[2][4]; /* of the run's two steps of 16 */
#pragma unroll
                    for (int q = 0; q < 2; q++) {
                        float v[8];
                        float2 factors = scaled ? table[(r + 8 * (2 * m + q)) * LINEAR_FACTORS + run] : float2();
                        linear_values<type>(&job, rows[2 * m + q], at * LINEAR_RUN, run, c, factors, v);
#pragma unroll
                        for (int step = 0; step < 2; step++) {
                            a[step][q] = linear_pack<compute>(v[4 * step], v[4 * step + 1]);
                            a[step][q + 2] = linear_pack<compute>(v[4 * step + 2], v[4 * step + 3]);
                        }
                    }
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
    /* parts meet in shared memory, as [part][t][output] */
    gpu_cp_async_wait<0>();
    __syncthreads();
    float *box = reinterpret_cast<float *>(shared) + (size_t)part * TILE * PITCH + side * ROWS + r;
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
    for (int i = (int)threadIdx.x; i < OUTS * TILE; i += LINEAR_THREADS) {
        int n = i % OUTS, t = i / OUTS, out_n = (int)blockIdx.y * OUTS + n, out_t = (int)blockIdx.x * TILE + t;
        float sum = sums[t * PITCH + n];
#pragma unroll
        for (int q = 1; q < LINEAR_PARTS; q++)
            sum += sums[(q * TILE + t) * PITCH + n];
        if (out_n >= job.N || out_t >= job.T)
            continue;
        if (job.splits > 1)
            job.part[((size_t)blockIdx.z * job.T + out_t) * job.N + out_n] = sum;
        else
            linear_finish(&job, out_t, out_n, sum);
    }
    if (job.splits == 1)
        return;
    /* the last of a tile's splits sums them all, in their order whichever it is */
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned *ticket = job.ticket + (size_t)blockIdx.y * gridDim.x + blockIdx.x;
        last = atomicAdd(ticket, 1u) + 1 == (unsigned)job.splits;
        if (last)
            atomicExch(ticket, 0u);
    }
    __syncthreads();
    if (!last)
        return;
    __threadfence();
    for (int i = (int)threadIdx.x; i < OUTS * TILE; i += LINEAR_THREADS) {
        int out_n = (int)blockIdx.y * OUTS + i % OUTS, out_t = (int)blockIdx.x * TILE + i / OUTS;
        if (out_n >= job.N || out_t >= job.T)
            continue;
        const float *part = job.part + (size_t)out_t * job.N + out_n;
        float sum = __ldcg(part);
        for (int q = 1; q < job.splits; q++)
            sum += __ldcg(part + (size_t)q * job.T * job.N);
        linear_finish(&job, out_t, out_n, sum);
    }
}

/* Bytes of a staged row of `bytes`; even: every span begins at a multiple of 16. */
static inline int linear_pitch(int bytes, bool even) { return ((bytes + (even ? 0 : 15) + 15) / 16 | 1) * 16; }

/* Shared memory of a launch. */
static inline size_t linear_shared(const struct kvt_linear_job *job, int type, int M, int NT)
{
    size_t stages = (size_t)LINEAR_WARPS * (M == 1 ? 3 : 2) * 16 * (size_t)M * (size_t)job->pitch;
    if (kvt_type_scaled(type))
        stages += (size_t)LINEAR_WARPS * 16 * (size_t)M * LINEAR_FACTORS * sizeof(float2);
    size_t box = (size_t)LINEAR_PARTS * 8 * (size_t)NT * (size_t)(LINEAR_OUT * 16 * M + 4) * sizeof(float);
    return stages > box ? stages : box;
}

template <int type, enum kvt_compute compute, int M, int NT>
static int linear_launch_as(struct kvt_dev *dev, const struct kvt_linear_job *job)
{
    size_t shared = linear_shared(job, type, M, NT);
    bool *ready = &dev->linear_ready[compute][type][M - 1];
    if (!*ready || type == KVT_N_DTYPE) { /* of one type it is once allowed the most it can need: rows that begin anywhere */
        struct kvt_linear_job most = *job;
        most.pitch = linear_pitch(job->span * LINEAR_RUN / job->block * job->block_bytes, false);
        size_t allowed = linear_shared(&most, type, M, NT);
        allowed = allowed < dev->shared_most - LINEAR_STATIC ? allowed : dev->shared_most - LINEAR_STATIC;
        cudaError_t code = cudaFuncSetAttribute(linear_kernel<type, compute, M, NT>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)allowed);
        if (code != cudaSuccess)
            return kvt_cuda_failed(dev, code, "linear");
        *ready = true;
    }
    dim3 grid(kvt_blocks((size_t)job->T, 8 * NT), kvt_blocks((size_t)job->N, LINEAR_OUT * 16 * M), (unsigned)job->splits);
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
int kvt_cuda_linear_any(struct kvt_dev *dev, const struct kvt_linear_job *job, bool narrow, enum kvt_compute compute);

#endif
