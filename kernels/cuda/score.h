/* What score.cu, score_out.cu and score_query.cu share: how 8 lanes read a row of the cache, and one tiled product against many rows.
 *
 * A row of K or V is D values of the cache's type. Eight neighbouring lanes take it: lane i the 16-byte pieces i, i + 8, ...: 128 bytes
 * in a row for each load, four rows for a warp. Where D values aren't whole pieces (no model of ours) values are read one by one. */
#ifndef KVT_KERNELS_CUDA_SCORE_H
#define KVT_KERNELS_CUDA_SCORE_H

#include "kernels/cuda/cache.h"

enum {
    SCORE_MAX_D = 256,
    ROW_LANES = 8,             /* of a row */
    ROW_THREADS = 128,
    ROW_ROWS = ROW_THREADS / ROW_LANES, /* rows that a block has under way: a page's */
    LANE_VALUES = SCORE_MAX_D / ROW_LANES /* the most values of a row that a lane holds */
};

/* Slots [0, min(limit, live)) of the cells of one (branch, layer). */
struct score_cells {
    struct kvt_pages p;
    size_t cell;               /* of kv head 0 */
    int limit;
};
KVT_DEVICE int score_live(const struct score_cells &at, int g)
{
    int n = at.p.n[at.cell + (size_t)g];
    return n < at.limit ? n : at.limit;
}
static inline struct score_cells score_cells_of(const struct kvt_slots *at)
{
    const struct kvt_pages &p = at->cache->at;
    return {p, ((size_t)at->branch * (size_t)p.L + (size_t)at->layer) * (size_t)p.G, at->n};
}
/* No cell has more slots to be read than these. */
static inline int score_most(const struct kvt_slots *at)
{
    int most = kvt_most(at->cache, at->branch, at->layer);
    return most < at->n ? most : at->n;
}

/* ---- 16 bytes of a row ---- */

template <class T> struct piece; /* values: how many; decode: to floats */
template <> struct piece<float> {
    enum { values = 4 };
    static __device__ __forceinline__ void decode(const uint4 &v, float *x)
    {
        x[0] = __uint_as_float(v.x), x[1] = __uint_as_float(v.y), x[2] = __uint_as_float(v.z), x[3] = __uint_as_float(v.w);
    }
    static __device__ __forceinline__ float one(const unsigned char *row, int d) { return ((const float *)row)[d]; }
};
template <> struct piece<__nv_bfloat16> {
    enum { values = 8 };
    static __device__ __forceinline__ void two(unsigned v, float *x) { x[0] = __uint_as_float(v << 16), x[1] = __uint_as_float(v & 0xffff0000u); }
    static __device__ __forceinline__ void decode(const uint4 &v, float *x) { two(v.x, x), two(v.y, x + 2), two(v.z, x + 4), two(v.w, x + 6); }
    static __device__ __forceinline__ float one(const unsigned char *row, int d) { return __bfloat162float(((const __nv_bfloat16 *)row)[d]); }
};
template <> struct piece<__half> {
    enum { values = 8 };
    static __device__ __forceinline__ void two(unsigned v, float *x)
    {
        __half2_raw raw;
        raw.x = (unsigned short)v, raw.y = (unsigned short)(v >> 16);
        float2 f = __half22float2(__half2(raw));
        x[0] = f.x, x[1] = f.y;
    }
    static __device__ __forceinline__ void decode(const uint4 &v, float *x) { two(v.x, x), two(v.y, x + 2), two(v.z, x + 4), two(v.w, x + 6); }
    static __device__ __forceinline__ float one(const unsigned char *row, int d) { return __half2float(((const __half *)row)[d]); }
};

/* Piece i of a row, zeros past D. */
template <class T> static __device__ __forceinline__ void row_piece(const unsigned char *row, int i, int D, float *x)
{
    enum { N = piece<T>::values };
    if (D % N == 0) {
        if (i * N < D) {
            piece<T>::decode(((const uint4 *)row)[i], x);
            return;
        }
#pragma unroll
        for (int k = 0; k < N; k++)
            x[k] = 0;
        return;
    }
#pragma unroll
    for (int k = 0; k < N; k++)
        x[k] = i * N + k < D ? piece<T>::one(row, i * N + k) : 0;
}

/* A lane's values of a row, zeros past D, and for no row (NULL). */
template <class T> static __device__ __forceinline__ void row_values(const unsigned char *row, int lane, int D, float *x)
{
    enum { N = piece<T>::values };
#pragma unroll
    for (int c = 0; c < LANE_VALUES / N; c++) {
        if (row && (lane + c * ROW_LANES) * N < D) {
            row_piece<T>(row, lane + c * ROW_LANES, D, x + c * N);
        } else {
#pragma unroll
            for (int k = 0; k < N; k++)
                x[c * N + k] = 0;
        }
    }
}
/* Where value k of a lane's lies in the row. */
template <class T> static __device__ __forceinline__ int row_index(int lane, int k)
{
    enum { N = piece<T>::values };
    return (lane + k / N * ROW_LANES) * N + k % N;
}

/* Over the lanes of a row, in all of them. */
static __device__ __forceinline__ float row_sum(float x)
{
    for (int w = ROW_LANES / 2; w; w /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, w);
    return x;
}

/* Over a block of whole warps, in all threads, in a fixed order. red: shared, one float for each warp; free again when it returns. */
template <bool largest> static __device__ __forceinline__ float block_reduce(float x, float *red)
{
    for (int w = 16; w; w /= 2) {
        float y = __shfl_xor_sync(0xffffffffu, x, w);
        x = largest ? fmaxf(x, y) : x + y;
    }
    if (threadIdx.x % 32 == 0)
        red[threadIdx.x / 32] = x;
    __syncthreads();
    x = red[0];
    for (unsigned w = 1; w < blockDim.x / 32; w++)
        x = largest ? fmaxf(x, red[w]) : x + red[w];
    __syncthreads();
    return x;
}

/* LAUNCH(T) for the type of a cache. */
#define SCORE_BY_TYPE(type_, LAUNCH) \
    switch (type_) {                 \
    case KVT_F32: LAUNCH(float); break; \
    case KVT_F16: LAUNCH(__half); break; \
    default: LAUNCH(__nv_bfloat16); break; \
    }

/* ---- rows of a matrix against slots ---- */

/* A block: 128 slots of a kv head against rows of a float matrix, 64 at a time; 128 threads with 8 rows x 8 slots each. Pieces of 32 of
 * the D values of both go through shared memory (24 KiB), transposed, so that a step of the inner loop is four 16-byte reads for 64 fma.
 * What is summed over the rows is kept for each slot; at the end 8 threads' sums meet in a fixed order.
 *   QUAD false: values v; the sum over rows of |w . v|.
 *   QUAD true: keys k; row i < D of one head: the sum over rows of k_i (m_i + w_i . k). */
enum { TILE_SLOTS = 128, TILE_ROWS = 64, TILE_K = 32, TILE_THREADS = 128 };

struct score_rows {
    const float *w;            /* row r of head h: w + (r % rows) * ld + (r / rows + h0) * head_ld */
    size_t ld, head_ld;
    int rows, heads;           /* of a kv head: rows of each of its query heads */
    const float *m;            /* QUAD: (H, D) */
    bool product;              /* false: all w . k are 0 */
};

template <class T, bool QUAD>
static __device__ __forceinline__ float score_tile(const struct score_cells &at, int g, int n, int slot0, const struct score_rows &a, int row_from,
                                                   int row_to)
{
    enum { N = piece<T>::values };
    __shared__ __align__(16) float slots[TILE_K][TILE_SLOTS];
    __shared__ __align__(16) float rows[TILE_K][TILE_ROWS];
    const int D = at.p.D, t = (int)threadIdx.x, tx = t % 16, ty = t / 16;
    const int32_t *table = kvt_table(at.p, at.cell + (size_t)g);
    const int mine = slot0 + t;
    const unsigned char *row = mine >= n ? NULL : QUAD ? kvt_slot_k(at.p, table, mine) : kvt_slot_v(at.p, table, mine);
    const bool whole = D % 4 == 0 && a.ld % 4 == 0 && (size_t)a.w % 16 == 0;
    float sum[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int r0 = row_from; r0 < row_to; r0 += TILE_ROWS) {
        float y[8][8];
#pragma unroll
        for (int i = 0; i < 8; i++)
#pragma unroll
            for (int j = 0; j < 8; j++)
                y[i][j] = 0;
        const int r = r0 + t % TILE_ROWS, half = t / TILE_ROWS * (TILE_K / 2);
        const float *w = a.w + (size_t)(r % a.rows) * a.ld + (size_t)(r / a.rows) * a.head_ld;
        for (int k0 = 0; k0 < D && a.product; k0 += TILE_K) {
            __syncthreads();
#pragma unroll
            for (int c = 0; c < TILE_K / N; c++) {
                float x[N];
#pragma unroll
                for (int k = 0; k < N; k++)
                    x[k] = 0;
                if (row && k0 + c * N < D)
                    row_piece<T>(row, k0 / N + c, D, x);
#pragma unroll
                for (int k = 0; k < N; k++)
                    slots[c * N + k][t] = x[k];
            }
#pragma unroll
            for (int c = 0; c < TILE_K / 2; c += 4) {
                const int k = k0 + half + c;
                float4 x = make_float4(0, 0, 0, 0);
                if (r < row_to && k < D) {
                    if (whole)
                        x = *(const float4 *)(w + k);
                    else
                        x = make_float4(w[k], k + 1 < D ? w[k + 1] : 0, k + 2 < D ? w[k + 2] : 0, k + 3 < D ? w[k + 3] : 0);
                }
                rows[half + c][t % TILE_ROWS] = x.x, rows[half + c + 1][t % TILE_ROWS] = x.y;
                rows[half + c + 2][t % TILE_ROWS] = x.z, rows[half + c + 3][t % TILE_ROWS] = x.w;
            }
            __syncthreads();
#pragma unroll 8
            for (int k = 0; k < TILE_K; k++) {
                const float4 a0 = *(const float4 *)&rows[k][ty * 8], a1 = *(const float4 *)&rows[k][ty * 8 + 4];
                const float4 b0 = *(const float4 *)&slots[k][tx * 4], b1 = *(const float4 *)&slots[k][TILE_SLOTS / 2 + tx * 4];
                const float l[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w}, s[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
                for (int i = 0; i < 8; i++)
#pragma unroll
                    for (int j = 0; j < 8; j++)
                        y[i][j] = fmaf(l[i], s[j], y[i][j]);
            }
        }
        const int i0 = r0 + ty * 8; /* the thread's rows */
        if (!QUAD) {
#pragma unroll
            for (int j = 0; j < 8; j++)
#pragma unroll
                for (int i = 0; i < 8; i++)
                    sum[j] += fabsf(y[i][j]); /* rows past the last are 0 */
        } else {
            float m[8];
#pragma unroll
            for (int i = 0; i < 8; i++)
                m[i] = i0 + i < row_to ? a.m[i0 + i] : 0;
#pragma unroll
            for (int j = 0; j < 8; j++) {
                const int slot = slot0 + j / 4 * (TILE_SLOTS / 2) + tx * 4 + j % 4;
                if (slot < n && i0 < D) {
                    const unsigned char *key = kvt_slot_k(at.p, table, slot);
                    float x[8];
#pragma unroll
                    for (int c = 0; c < 8 / N; c++)
                        row_piece<T>(key, i0 / N + c, D, x + c * N);
#pragma unroll
                    for (int i = 0; i < 8; i++)
                        sum[j] = fmaf(x[i], m[i] + y[i][j], sum[j]);
                }
            }
        }
    }
    __syncthreads();
    float *red = &slots[0][0]; /* (8, TILE_SLOTS) */
#pragma unroll
    for (int j = 0; j < 8; j++)
        red[ty * TILE_SLOTS + j / 4 * (TILE_SLOTS / 2) + tx * 4 + j % 4] = sum[j];
    __syncthreads();
    float all = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        all += red[i * TILE_SLOTS + t];
    return all; /* of slot slot0 + t */
}

#endif
