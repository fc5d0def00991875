/* The products of a step: up to 8 rows of activations with one or several matrices of the same type and inputs, where rows of weights lie
 * at multiples of 16 bytes. The same sums in the same order as linear.h's kernel, so a row's bits are the same by either.
 *
 * As many blocks as the device holds at a time; each goes through tiles of 16 outputs, those of all matrices in one row, and its 8 warps
 * share K. A warp's spans of weights come into its own shared memory by 16 bytes a lane (cp.async), lane after lane without gaps, and what
 * a warp asks for runs ahead of what it computes across the ends of tiles, so memory never waits for a tile's sums to be joined. The
 * activations are rounded once for each block and lie in shared memory in the order of the tensor cores' registers: 16 bytes a lane and run.
 * A run of 32 values of 16 rows then costs some 65 instructions, addresses being constants.
 *
 * Weights cross once; activations once for each block, from L2. */
#include "kernels/cuda/elem.h"
#include "kernels/cuda/linear.h"

#include <assert.h>

enum { ROWS = 16, BOX = 20 /* floats of a row of 16 sums, so that rows lie in different banks */ };

struct matrix {
    const unsigned char *w;
    const float *bias;
    float *out;              /* (T, N) */
    int N, tiles;            /* tiles of it and of those before */
    bool accumulate;
};
struct step_job {
    struct matrix m[KVT_LINEAR_MOST];
    int count, tiles;
    unsigned row_bytes;
    int K, T, runs, unit;
    int x_pitch;             /* bytes of a warp's row of activations: an odd multiple of 64 */
    const float *x;          /* (T, K) */
    const float *weight, *bias; /* (K) of the norm that comes first; weight NULL: none */
    float eps;
    int norm_threads;        /* whose sums it has: 256 or 1024 */
    bool glu;                /* tiles of m[0], gate, and m[1], up, take turns */
    int act;
};

/* A span's bytes of a row, and from one staged row to the next: an odd multiple of 16, so that 8 rows lie in different banks. */
static constexpr __host__ __device__ int step_span(int type) { return kvt_type_block(type) == 1 ? 4 : 8; }
static constexpr __host__ __device__ int step_bytes(int type) { return step_span(type) * LINEAR_RUN * kvt_type_bytes(type) / (kvt_type_block(type) + (kvt_type_block(type) == 0)); }
static constexpr __host__ __device__ int step_pitch(int type) { return (step_bytes(type) / 16 | 1) * 16; }
static constexpr __host__ __device__ int step_stages(int type) { return step_bytes(type) > 200 ? 2 : 3; }

/* A word of a staged row at `at`, of which the compiler knows at % 4. */
static __device__ __forceinline__ unsigned step_word(const unsigned char *row, int at) { return at % 4 == 0 ? block_u32<4>(row + at) : block_u32<2>(row + at); }

/* The eight values that lane c takes of a run: 4 c .. + 3 and 16 + 4 c .. + 3, as an mma takes them. at: the run's first byte of the row */
template <int type> static __device__ __forceinline__ void step_pairs(const unsigned char *row, int run, int c, float2 factors, unsigned *a)
{
    float v[8];
    if (type == KVT_BF16) {
        uint2 low = *reinterpret_cast<const uint2 *>(row + run * 64 + 8 * c), high = *reinterpret_cast<const uint2 *>(row + run * 64 + 32 + 8 * c);
        a[0] = low.x;
        a[1] = low.y;
        a[2] = high.x;
        a[3] = high.y;
        return;
    }
    if (type == KVT_Q8_0) {
        const unsigned char *p = row + 4 * c;
        float d = block_f16(row + run * 34);
        block_scaled<true, 128>(step_word(p, run * 34 + 2) ^ 0x80808080u, d, v);
        block_scaled<true, 128>(step_word(p, run * 34 + 18) ^ 0x80808080u, d, v + 4);
    } else if (type == KVT_Q4_0) {
        unsigned q = step_word(row + 4 * c, run * 18 + 2);
        float d = block_f16(row + run * 18);
        block_scaled<true, 8>(q & 0x0f0f0f0fu, d, v);
        block_scaled<true, 8>(q >> 4 & 0x0f0f0f0fu, d, v + 4);
    } else if (kvt_type_scaled(type)) {
        kvt_block_scaled<type, true>(row, run, 4 * c, factors, v);
        kvt_block_scaled<type, true>(row, run, 16 + 4 * c, factors, v + 4);
    } else {
        kvt_block_quad<type, true>(row, run * LINEAR_RUN + 4 * c, v);
        kvt_block_quad<type, true>(row, run * LINEAR_RUN + 16 + 4 * c, v + 4);
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = linear_pack<KVT_COMPUTE_BF16>(v[2 * i], v[2 * i + 1]);
}

/* Whose rows a tile's are, and the first tile of it; no index that is known at run time only, which would put the job into local memory. */
static __device__ __forceinline__ struct matrix step_matrix(const struct step_job &job, int tile, int *before)
{
    struct matrix m = job.m[0];
    *before = 0;
    if (job.glu) {
        *before = tile - tile / 2;
        return tile % 2 ? job.m[1] : m;
    }
#pragma unroll
    for (int i = 1; i < KVT_LINEAR_MOST; i++)
        if (i < job.count && tile >= job.m[i - 1].tiles) {
            m = job.m[i];
            *before = job.m[i - 1].tiles;
        }
    return m;
}
static __device__ __forceinline__ const unsigned char *step_rows(const struct step_job &job, int tile)
{
    int before;
    struct matrix m = step_matrix(job, tile, &before);
    return m.w + (size_t)(tile - before) * (size_t)(ROWS * job.row_bytes);
}
static __device__ __forceinline__ int step_next(const struct step_job &job, int tile)
{
    return !job.glu ? tile + (int)gridDim.x : tile % 2 ? tile - 1 + 2 * (int)gridDim.x : tile + 1;
}

/* What row t is multiplied by: norm_kernel's sums (elem.cu), of 4 of its threads by one where it has 1024. */
static __device__ float step_scale(const struct step_job &job, int t, float *box)
{
    const float *x = job.x + (size_t)t * (size_t)job.K;
    const int lane = (int)threadIdx.x % 32, each = job.norm_threads / LINEAR_THREADS;
    __syncthreads(); /* the box's last use is over */
#pragma unroll 1
    for (int i = 0; i < each; i++) {
        float sum = 0;
#pragma unroll 4
        for (int k = (int)threadIdx.x + i * LINEAR_THREADS; k < job.K; k += job.norm_threads)
            sum = fmaf(x[k], x[k], sum);
        sum = elem_warp_sum(sum);
        if (!lane)
            box[(int)threadIdx.x / 32 + i * LINEAR_WARPS] = sum;
    }
    __syncthreads();
    float sum = elem_warp_sum(lane < job.norm_threads / 32 ? box[lane] : 0);
    return 1 / sqrtf(sum / (float)job.K + job.eps);
}

/* Where a lane's i-th 16 bytes of a span go. */
template <int PER, int PITCH> static __device__ __forceinline__ int step_place(int load)
{
    return PITCH == PER * 16 ? load * 16 : load / PER * PITCH + load % PER * 16;
}

template <int type>
static __global__ void __launch_bounds__(LINEAR_THREADS, 2) step_kernel(const struct step_job job)
{
    constexpr int SPAN = step_span(type), BYTES = step_bytes(type), PITCH = step_pitch(type), STAGES = step_stages(type), PER = BYTES / 16;
    constexpr int STAGE = ROWS * PITCH, LOADS = (ROWS * PER + 31) / 32;
    constexpr bool scaled = kvt_type_scaled(type);
    GPU_DYN_SHARED(unsigned char, shared);
    __shared__ float norm_box[32];
    const int lane = (int)threadIdx.x % 32, part = (int)threadIdx.x / 32, r = lane / 4, c = lane % 4, T = job.T;
    unsigned char *stages = shared + part * (STAGES * STAGE), *mine = shared + LINEAR_WARPS * STAGES * STAGE + part * T * job.x_pitch;
    float *box = reinterpret_cast<float *>(shared + LINEAR_WARPS * (STAGES * STAGE + T * job.x_pitch)); /* (2 by turns, parts, T, BOX) */
    float2 *table = reinterpret_cast<float2 *>(box + 2 * LINEAR_PARTS * T * BOX) + part * ROWS * LINEAR_FACTORS;
    const int units = (job.runs + job.unit - 1) / job.unit;
    const int run0 = units * part / LINEAR_PARTS * job.unit, end = units * (part + 1) / LINEAR_PARTS * job.unit;
    const int spans = ((end < job.runs ? end : job.runs) - run0) / SPAN; /* whole ones */
    const unsigned first = (unsigned)(run0 / SPAN * BYTES);

    unsigned from[LOADS]; /* where a lane's bytes of a span lie; the last of them only in some lanes */
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        int load = 32 * i + lane;
        from[i] = (unsigned)(load / PER) * job.row_bytes + (unsigned)(load % PER * 16);
    }
    /* the span that is asked for next */
    int ask_tile = job.glu ? 2 * (int)blockIdx.x : (int)blockIdx.x, ask = 0, slot = 0;
    const unsigned char *ask_at = step_rows(job, ask_tile) + first;
#define ASK(to)                                                                                                                                   \
    do {                                                                                                                                          \
        if (ask_tile < job.tiles) {                                                                                                               \
            _Pragma("unroll") for (int i_ = 0; i_ < LOADS; i_++) if (32 * i_ + 31 < ROWS * PER || 32 * i_ + lane < ROWS * PER)                     \
                gpu_cp_async16_line((to) + step_place<PER, PITCH>(32 * i_ + lane), ask_at + from[i_]);                                                 \
            ask_at += BYTES;                                                                                                                      \
            if (++ask == spans) {                                                                                                                 \
                ask = 0;                                                                                                                          \
                ask_tile = step_next(job, ask_tile);                                                                                              \
                if (ask_tile < job.tiles)                                                                                                         \
                    ask_at = step_rows(job, ask_tile) + first;                                                                                    \
            }                                                                                                                                     \
        }                                                                                                                                         \
        gpu_cp_async_commit();                                                                                                                    \
    } while (0)
#pragma unroll
    for (int i = 0; i < STAGES; i++) {
        if (spans)
            ASK(stages + i * STAGE);
    }

    /* the part's activations: four values are the first or second half of what lane i % 4 takes of a run */
#pragma unroll 1
    for (int t = 0; t < T; t++) {
        const float *raw = job.x + (size_t)t * (size_t)job.K + (size_t)(run0 * LINEAR_RUN);
        const float4 *x = reinterpret_cast<const float4 *>(raw);
        const bool aligned = (uintptr_t)raw % 16 == 0;
        const float scale = job.weight ? step_scale(job, t, norm_box) : 1;
#pragma unroll 4
        for (int i = lane; i < spans * SPAN * 8; i += 32) {
            float4 v = aligned ? x[i] : make_float4(raw[4 * i], raw[4 * i + 1], raw[4 * i + 2], raw[4 * i + 3]);
            if (job.weight) {
                const float *w = job.weight + run0 * LINEAR_RUN + 4 * i, *b = job.bias ? job.bias + run0 * LINEAR_RUN + 4 * i : NULL;
                v.x = fmaf(v.x * scale, w[0], b ? b[0] : 0.0f);
                v.y = fmaf(v.y * scale, w[1], b ? b[1] : 0.0f);
                v.z = fmaf(v.z * scale, w[2], b ? b[2] : 0.0f);
                v.w = fmaf(v.w * scale, w[3], b ? b[3] : 0.0f);
            }
            *reinterpret_cast<uint2 *>(mine + t * job.x_pitch + i / 8 * 64 + i % 4 * 16 + i % 8 / 4 * 8) =
                make_uint2(linear_pack<KVT_COMPUTE_BF16>(v.x, v.y), linear_pack<KVT_COMPUTE_BF16>(v.z, v.w));
        }
    }
    __syncwarp();

    int turn = 0;
    float gate = 0;
#pragma unroll 1
    for (int tile = job.glu ? 2 * (int)blockIdx.x : (int)blockIdx.x; tile < job.tiles; tile = step_next(job, tile), turn ^= 1) {
        /* whose sums these are, and what they are added to */
        int before, t = (int)threadIdx.x / ROWS;
        const struct matrix m = step_matrix(job, tile, &before);
        const int n = (tile - before) * ROWS + (int)threadIdx.x % ROWS;
        float *out = m.out + (size_t)t * (size_t)m.N + (size_t)n, bias = 0, old = 0;
        if (t < T) {
            bias = m.bias ? m.bias[n] : 0;
            old = m.accumulate ? *out : 0;
        }
        float acc[4] = {0, 0, 0, 0};
        const unsigned char *x = mine + r * job.x_pitch + c * 16;
#pragma unroll 1
        for (int s = 0; s < spans; s++) {
            gpu_cp_async_wait<STAGES - 1>();
            __syncwarp();
            unsigned char *stage = stages + slot * STAGE;
            const unsigned char *row = stage + r * PITCH;
            if (scaled) { /* the factors of the block's runs, each decoded once */
#pragma unroll
                for (int j = lane; j < ROWS * 8; j += 32)
                    table[j / 8 * LINEAR_FACTORS + j % 8] = kvt_block_scales<scaled ? type : KVT_Q4_K>(stage + j / 8 * PITCH, j % 8);
                __syncwarp();
            }
#pragma unroll 1
            for (int half = 0; half < SPAN; half += 4) {
                const unsigned char *p = kvt_type_block(type) <= LINEAR_RUN ? row + half * (BYTES / SPAN) : row;
#pragma unroll
                for (int k = 0; k < 4; k++) {
                    const int run = kvt_type_block(type) <= LINEAR_RUN ? k : half + k;
                    uint4 b = r < T ? *reinterpret_cast<const uint4 *>(x + k * 64) : make_uint4(0, 0, 0, 0);
                    unsigned w[2][4], a[2][4]; /* of rows r and r + 8; of the run's two steps of 16 */
#pragma unroll
                    for (int q = 0; q < 2; q++)
                        step_pairs<type>(p + q * 8 * PITCH, run, c, scaled ? table[(r + 8 * q) * LINEAR_FACTORS + run] : float2(), w[q]);
#pragma unroll
                    for (int e = 0; e < 8; e++)
                        a[e / 4][e % 4] = w[e % 2][e / 4 * 2 + e % 4 / 2];
                    unsigned bs[4] = {b.x, b.y, b.z, b.w};
                    gpu_mma_bf16(acc, a[0], bs);
                    gpu_mma_bf16(acc, a[1], bs + 2);
                }
                x += 4 * 64;
            }
            __syncwarp(); /* before the stage is written again */
            ASK(stage);
            slot = slot + 1 < STAGES ? slot + 1 : 0;
        }
        /* parts meet as [part][t][output]; a box is written again two tiles on, behind the next tile's barrier */
        float *to = box + (turn * LINEAR_PARTS + part) * T * BOX;
#pragma unroll
        for (int j = 0; j < 4; j++)
            if (2 * c + j % 2 < T)
                to[(2 * c + j % 2) * BOX + r + j / 2 * 8] = acc[j];
        __syncthreads();
        if (t < T) {
            const float *sums = box + (turn * LINEAR_PARTS * T + t) * BOX + (int)threadIdx.x % ROWS;
            float sum = sums[0];
#pragma unroll
            for (int q = 1; q < LINEAR_PARTS; q++)
                sum += sums[q * T * BOX];
            if (m.bias)
                sum += bias;
            if (m.accumulate)
                sum += old;
            if (!job.glu)
                *out = sum;
            else if (tile % 2 == 0)
                gate = sum;
            else
                *out = (job.act == KVT_ACT_SILU        ? elem_act<KVT_ACT_SILU>(gate)
                        : job.act == KVT_ACT_GELU_TANH ? elem_act<KVT_ACT_GELU_TANH>(gate)
                                                       : elem_act<KVT_ACT_GELU>(gate)) * sum;
        }
    }
    gpu_cp_async_wait<0>();
#undef ASK
}

template <int type> static int launch(struct kvt_dev *dev, const struct step_job *job, size_t most)
{
    size_t shared = (size_t)LINEAR_WARPS * (size_t)(step_stages(type) * ROWS * step_pitch(type) + job->T * job->x_pitch) +
                    (size_t)(2 * LINEAR_PARTS * job->T * BOX) * sizeof(float) + (kvt_type_scaled(type) ? (size_t)LINEAR_WARPS * ROWS * LINEAR_FACTORS * sizeof(float2) : 0);
    const bool two = 2 * (shared + LINEAR_STATIC) <= most + LINEAR_STATIC; /* blocks on a multiprocessor */
    if (shared > most || (!two && most >= LINEAR_LARGE)) /* too wide for so many rows: linear.h's kernel */
        return KVT_EUNSUP;
    bool *ready = &dev->linear_ready[KVT_COMPUTE_BF16][type][2];
    if (!*ready) {
        cudaError_t code = cudaFuncSetAttribute(step_kernel<type>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)most);
        if (code != cudaSuccess)
            return kvt_cuda_failed(dev, code, "linear");
        *ready = true;
    }
    int blocks = (two ? 2 : 1) * dev->sms;
    const int pieces = job->glu ? job->tiles / 2 : job->tiles;
    GPU_LAUNCH(step_kernel<type>, (unsigned)(blocks < pieces ? blocks : pieces), LINEAR_THREADS, shared, dev->stream, *job);
    return kvt_cuda_launched(dev, "linear");
}

int kvt_cuda_linear_step(struct kvt_dev *dev, const struct kvt_linears_args *all, int unit)
{
    const struct kvt_linear_args *a = all->a;
    const struct kvt_norm_args *norm = all->norm;
    const int count = all->n;
    const enum kvt_dtype type = a->w.type;
    struct step_job job = {};
    job.count = count, job.K = a->w.k, job.T = a->T, job.runs = a->w.k / LINEAR_RUN, job.unit = unit, job.x = a->in;
    job.row_bytes = (unsigned)kvt_row_bytes(type, (size_t)a->w.k);
    const int units = (job.runs + unit - 1) / unit;
    job.x_pitch = ((units + LINEAR_PARTS - 1) / LINEAR_PARTS * unit | 1) * 64; /* of the longest part */
    const int span = kvt_dtypes[type].block_values == 1 ? 4 : 8;
    if (a->compute != KVT_COMPUTE_BF16 || a->T > 8 || a->w.k % (span * LINEAR_RUN) || unit % span || job.row_bytes % 16)
        return KVT_EUNSUP;
    for (int i = 0; i < count; i++) {
        if (a[i].w.n % ROWS || (uintptr_t)a[i].w.data % 16)
            return KVT_EUNSUP;
        job.tiles += a[i].w.n / ROWS;
        struct matrix *m = &job.m[i]; /* one by one: what lies between members stays 0, as jobs are compared */
        m->w = (const unsigned char *)a[i].w.data, m->bias = a[i].bias, m->out = a[i].out;
        m->N = a[i].w.n, m->tiles = job.tiles, m->accumulate = a[i].accumulate;
    }
    if (norm) {
        job.norm_threads = elem_norm_threads(norm->E);
        if (norm->centre || job.norm_threads < LINEAR_THREADS || norm->E != job.K)
            return KVT_EUNSUP;
        job.x = norm->in, job.weight = norm->weight, job.bias = norm->bias, job.eps = norm->eps;
    }
    if (all->glu) {
        if (count != 2 || a[0].w.n != a[1].w.n || a[0].accumulate || a[1].accumulate)
            return KVT_EUNSUP;
        job.glu = true, job.act = all->glu->act, job.m[1].out = all->glu->out;
    }
    size_t most = dev->shared_most - LINEAR_STATIC;
    switch (type) {
#define X(name) \
    case KVT_##name: return launch<KVT_##name>(dev, &job, most);
        X(F16) X(BF16) X(Q4_0) X(Q5_0) X(Q8_0) X(IQ4_NL) X(Q4_K) X(Q5_K)
#undef X
    default: return KVT_EUNSUP;
    }
}
