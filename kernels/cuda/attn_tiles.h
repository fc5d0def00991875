/* Tiles of 64 rows x KEYS keys on tensor cores, with f32's accuracy.
 *
 * Tensor cores multiply 16-bit numbers exactly and sum in f32. A float is taken apart into 16-bit pieces whose sum it is (to 2^-22 in
 * two pieces of f16, to 2^-24 in three of bf16), and the products of pieces that matter are summed: two for an f16 cache, three for
 * bf16, six for f32, whose own values are taken apart as well. Probabilities get two pieces (2^-22, 2^-18), for f32 three.
 *
 * In shared memory a row of a tile has 8 values more than it needs: rows then begin in different banks, and ldmatrix meets no conflict. */
#ifndef KVT_KERNELS_CUDA_ATTN_TILES_H
#define KVT_KERNELS_CUDA_ATTN_TILES_H

#include "kernels/cuda/attn.h"

enum { KVT_TILE_ROWS = 64, KVT_TILE_THREADS = 128, KVT_PITCH = 8 };

/* NQ pieces of queries, NK of keys and values, NP of probabilities. */
template <class K> struct kvt_pieces;
template <> struct kvt_pieces<__half> {
    typedef __half piece;
    static constexpr int NQ = 2, NK = 1, NP = 2;
};
template <> struct kvt_pieces<__nv_bfloat16> {
    typedef __nv_bfloat16 piece;
    static constexpr int NQ = 3, NK = 1, NP = 2;
};
template <> struct kvt_pieces<float> {
    typedef __nv_bfloat16 piece;
    static constexpr int NQ = 3, NK = 3, NP = 3;
};

static __device__ __forceinline__ float kvt_piece_of(float x, __half *out) { *out = __float2half_rn(x); return x - __half2float(*out); }
static __device__ __forceinline__ float kvt_piece_of(float x, __nv_bfloat16 *out) { *out = __float2bfloat16_rn(x); return x - __bfloat162float(*out); }
static __device__ __forceinline__ void kvt_mma(float *c, const unsigned *a, const unsigned *b, __half) { gpu_mma_f16(c, a, b); }
static __device__ __forceinline__ void kvt_mma(float *c, const unsigned *a, const unsigned *b, __nv_bfloat16) { gpu_mma_bf16(c, a, b); }

/* The n-th pieces of two neighbours, as a register of an operand. */
static __device__ __forceinline__ unsigned kvt_pair(float &x, float &y, __half)
{
    __half2 h = __floats2half2_rn(x, y);
    x -= __low2float(h);
    y -= __high2float(h);
    return *reinterpret_cast<unsigned *>(&h);
}
static __device__ __forceinline__ unsigned kvt_pair(float &x, float &y, __nv_bfloat16)
{
    __nv_bfloat162 h = __floats2bfloat162_rn(x, y);
    unsigned bits = *reinterpret_cast<unsigned *>(&h);
    x -= __uint_as_float(bits << 16);
    y -= __uint_as_float(bits & 0xffff0000u);
    return bits;
}

/* A tile of KEYS slots: which, and the lowest and highest position of its pages' live slots. */
struct kvt_tile {
    int at;                  /* -1: none */
    int low, high;
};

/* Whether all rows at positions in [low, high] see all `live` slots of a whole tile. */
template <int KEYS> static __device__ __forceinline__ bool kvt_all_seen(const struct kvt_attn_call &a, const struct kvt_tile &tile, int live, int low, int high)
{
    return live >= KEYS && tile.high <= low && (!a.window || tile.low > high - a.window);
}

/* What of a tile this lane's rows see, in the mma's shape: bit 4 i + j of s[i][j]. */
template <int KEYS> static __device__ __forceinline__ unsigned kvt_shown(const struct kvt_attn_call &a, const int32_t *at, const int32_t *key_pos, int live)
{
    unsigned shown = 0;
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int c = i * 8 + (int)threadIdx.x % 4 * 2 + j % 2, pos = c < live ? key_pos[c] : 2147483647, row = at[j / 2];
            shown |= (unsigned)((pos <= row) & (!a.window | (pos > row - a.window))) << (4 * i + j);
        }
    return shown;
}

/* Scores of the mma's shape through the cap, so that by[j] (a row's power of two) is all that is still to be multiplied. */
template <int KEYS> static __device__ __forceinline__ void kvt_cap_scores(const struct kvt_attn_call &a, const float *by, float (*s)[4])
{
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            s[i][j] = __fdividef(kvt_score2(a, s[i][j] * by[j / 2]), by[j / 2]);
}

/* Queries of 64 rows of head h as NQ tiles of pieces, (NQ, 64, DP + 8); rows behind T and dims behind D are 0. f16 can't hold what is
 * above 65504: such a row is divided by a power of two, and by_row gets that power. Also the rows' positions (-1 behind T). */
template <class K, int MOST_D>
static __device__ void kvt_load_queries(const struct kvt_attn_call &a, int t0, int h, int DP, typename kvt_pieces<K>::piece *q, int32_t *row_pos, float *by_row)
{
    typedef typename kvt_pieces<K>::piece piece;
    constexpr int NQ = kvt_pieces<K>::NQ, EACH = 4, VALUES = (MOST_D + 31) / 32; /* rows whose loads are on their way together; of a row, a lane's */
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, D = a.p.D, pitch = DP + KVT_PITCH;
#pragma unroll 1
    for (int r = warp * EACH; r < KVT_TILE_ROWS; r += KVT_TILE_THREADS / 32 * EACH) {
        float x[EACH][VALUES], by[EACH];
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                x[i][j] = t0 + r + i < a.T && lane + 32 * j < D ? a.q[((size_t)(t0 + r + i) * (size_t)a.H + (size_t)h) * (size_t)D + (size_t)(lane + 32 * j)] : 0;
#pragma unroll
        for (int i = 0; i < EACH; i++) {
            by[i] = 1;
            if (NQ != 2) /* bf16 holds what a float does */
                continue;
            float most = 0;
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                most = fmaxf(most, fabsf(x[i][j]));
            if (!__any_sync(0xffffffffu, most > 32768.0f))
                continue;
            for (int d = 16; d; d /= 2)
                most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, d));
#pragma unroll 1
            while (most * by[i] > 32768.0f && by[i] > 1e-30f)
                by[i] *= 0.5f;
        }
#pragma unroll
        for (int i = 0; i < EACH; i++)
#pragma unroll
            for (int j = 0; j < VALUES; j++)
                if (lane + 32 * j < DP) {
                    float y = x[i][j] * by[i];
#pragma unroll
                    for (int n = 0; n < NQ; n++)
                        y = kvt_piece_of(y, &q[(n * KVT_TILE_ROWS + r + i) * pitch + lane + 32 * j]);
                }
        if (lane < EACH) {
            float mine = by[0];
#pragma unroll
            for (int i = 1; i < EACH; i++)
                mine = lane == i ? by[i] : mine;
            row_pos[r + lane] = t0 + r + lane < a.T ? kvt_row_pos(a, t0 + r + lane) : -1;
            by_row[r + lane] = 1 / mine;
        }
    }
}

/* The lowest and highest position of the first `rows` of a tile's rows. */
static __device__ __forceinline__ void kvt_row_range(const int32_t *row_pos, int rows, int *low, int *high)
{
    int lane = threadIdx.x % 32, x = 2147483647, y = -1;
#pragma unroll
    for (int r = lane; r < KVT_TILE_ROWS; r += 32)
        if (r < rows) {
            x = row_pos[r] < x ? row_pos[r] : x;
            y = row_pos[r] > y ? row_pos[r] : y;
        }
#pragma unroll
    for (int d = 16; d; d /= 2) {
        int other = __shfl_xor_sync(0xffffffffu, x, d), more = __shfl_xor_sync(0xffffffffu, y, d);
        x = other < x ? other : x;
        y = more > y ? more : y;
    }
    *low = x;
    *high = y;
}

/* Where the pages of 32 tiles lie and which positions they hold, in shared memory: each of these pointers is two loads behind the other, too
 * long a chain for every tile. */
enum { KVT_GROUP = 32 };
template <int KEYS> struct kvt_tile_group {
    const unsigned char *kv[KVT_GROUP * KEYS / KVT_PAGE_SLOTS]; /* NULL behind the last page */
    const int32_t *pos[KVT_GROUP * KEYS / KVT_PAGE_SLOTS];
    int2 bounds[KVT_GROUP];
};
/* A block's way through the tiles that its rows, at positions in [low, high], may see. */
struct kvt_walk {
    const int2 *bounds;      /* {lowest, highest} position of the live slots of each page of the kv head */
    const int32_t *table;
    int pages, low, high;
    int group;               /* that is in shared memory; at first -1 */
    unsigned left;           /* its tiles that are still to come */
};

/* The next tile. By all threads, behind a barrier after the last use of the group. */
template <int KEYS> static __device__ __forceinline__ struct kvt_tile kvt_next_tile(const struct kvt_attn_call &a, struct kvt_walk &w, struct kvt_tile_group<KEYS> *g)
{
    enum { PER = KEYS / KVT_PAGE_SLOTS };
#pragma unroll 1
    while (!w.left) {
        if (++w.group * KVT_GROUP * PER >= w.pages)
            return {-1, 0, 0};
        int i = (int)threadIdx.x, at = w.group * KVT_GROUP * PER + i;
        if (i < KVT_GROUP * PER) { /* whole warps */
            int2 b = {2147483647, -1};
            const unsigned char *kv = NULL;
            const int32_t *pos = NULL;
            if (at < w.pages) {
                int32_t page = w.table[at];
                b = w.bounds[at];
                kv = kvt_page_kv(a.p, page);
                pos = kvt_page_pos(a.p, page);
            }
            g->kv[i] = kv;
            g->pos[i] = pos;
#pragma unroll
            for (int d = 1; d < PER; d *= 2) {
                int x = __shfl_xor_sync(0xffffffffu, b.x, d), y = __shfl_xor_sync(0xffffffffu, b.y, d);
                b.x = x < b.x ? x : b.x;
                b.y = y > b.y ? y : b.y;
            }
            if (i % PER == 0)
                g->bounds[i / PER] = b;
        }
        __syncthreads();
        int2 b = g->bounds[threadIdx.x % 32];
        w.left = __ballot_sync(0xffffffffu, b.x <= w.high && (!a.window || b.y > w.low - a.window));
        if (w.left)
            break;
        __syncthreads(); /* all have seen that there is none */
    }
    int t = __ffs((int)w.left) - 1;
    w.left &= w.left - 1;
    return {w.group * KVT_GROUP + t, g->bounds[t].x, g->bounds[t].y};
}

/* Which 16 bytes of a tile a thread loads: first here, then a step on. */
struct kvt_stride {
    int row, at, rows, step, per; /* per: loads of a row */
};
static __device__ __forceinline__ struct kvt_stride kvt_stride_of(int per) { return {(int)threadIdx.x / per, (int)threadIdx.x % per, KVT_TILE_THREADS / per, KVT_TILE_THREADS % per, per}; }

/* A whole tile of 16-bit rows whose D is known: 16 bytes a thread and load, one behind the other in each page. */
template <int KEYS, int D> static __device__ __forceinline__ void kvt_load_whole(const unsigned char *const *kv, size_t half_page, unsigned char *to)
{
    enum { PAGE = 2 * D, PER = D / 8 }; /* loads of a page, of a row */
#pragma unroll
    for (int i = 0; i < KEYS * PER / KVT_TILE_THREADS; i++) {
        int load = i * KVT_TILE_THREADS + (int)threadIdx.x, page = load / PAGE, at = load % PAGE, row = load / PER;
        gpu_cp_async16(to + (row * (D + KVT_PITCH) + load % PER * 8) * 2, kv[page] + half_page + at * 16);
    }
}

/* The first `live` rows of a tile of K (or, at `half_page`, V) into (NK, KEYS, DP + 8), the others 0. 16-bit rows that are a multiple
 * of 16 bytes are on their way when this returns (commit and wait are the caller's). Dims behind D must be 0 already. */
template <class K, int KEYS>
static __device__ __forceinline__ void kvt_load_tile(const unsigned char *const *kv, int live, int D, size_t half_page, int DP, struct kvt_stride at, typename kvt_pieces<K>::piece *to)
{
    typedef typename kvt_pieces<K>::piece piece;
    constexpr int NK = kvt_pieces<K>::NK;
    const int pitch = DP + KVT_PITCH;
    if (sizeof(K) == 2 && D % 8 == 0) {
#pragma unroll 1
        while (at.row < KEYS) {
            piece *dst = to + at.row * pitch + at.at * 8;
            if (at.row < live)
                gpu_cp_async16(dst, kv[at.row / KVT_PAGE_SLOTS] + half_page + (at.row % KVT_PAGE_SLOTS * D + at.at * 8) * 2);
            else
                *(int4 *)(void *)dst = make_int4(0, 0, 0, 0);
            at.row += at.rows;
            at.at += at.step;
            if (at.at >= at.per) {
                at.at -= at.per;
                at.row++;
            }
        }
        return;
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < KEYS * D; i += KVT_TILE_THREADS) {
        int r = i / D, d = i % D;
        float x = r < live ? (float)((const K *)(kv[r / KVT_PAGE_SLOTS] + half_page))[r % KVT_PAGE_SLOTS * D + d] : 0;
        for (int j = 0; j < NK; j++)
            x = kvt_piece_of(x, &to[(j * KEYS + r) * pitch + d]);
    }
}

/* Positions of a tile's slots, on their way; those of slots that aren't there are left as they are. */
template <int KEYS> static __device__ __forceinline__ void kvt_load_positions(const int32_t *const *from, int32_t *pos)
{
    int i = (int)threadIdx.x;
    if (i < KEYS / 4 && from[i / 4])
        gpu_cp_async16(pos + i * 4, from[i / 4] + i % 4 * 4);
}

/* Zeros where no value of a row goes, once for each tile of memory: dims [D, DP). */
template <class P> static __device__ void kvt_pad_tile(P *tile, int rows, int D, int DP)
{
    int pad = DP - D;
    for (int i = threadIdx.x; i < rows * pad; i += KVT_TILE_THREADS)
        tile[i / pad * (DP + KVT_PITCH) + D + i % pad] = P(0.0f);
}

/* Dot products of this warp's 16 rows with the tile's keys: s[i][0..3] of keys 8 i + 2 (lane % 4) + {0, 1}, rows lane / 4 and + 8. UNROLL
 * steps of 16 dims at a time. */
template <class K, int KEYS, int UNROLL>
static __device__ __forceinline__ void kvt_scores(const typename kvt_pieces<K>::piece *q, const typename kvt_pieces<K>::piece *k, int DP, float (*s)[4])
{
    typedef typename kvt_pieces<K>::piece piece;
    constexpr int NQ = kvt_pieces<K>::NQ, NK = kvt_pieces<K>::NK;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, pitch = DP + KVT_PITCH;
    const piece *q_at = q + (warp * 16 + lane % 16) * pitch + lane / 16 * 8;
    const piece *k_at = k + (lane / 16 * 8 + lane % 8) * pitch + lane / 8 % 2 * 8;
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++)
        s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
#pragma unroll UNROLL
    for (int d = 0; d < DP; d += 16) {
        unsigned qa[NQ][4];
#pragma unroll
        for (int i = 0; i < NQ; i++)
            gpu_ldmatrix_x4(qa[i], q_at + i * KVT_TILE_ROWS * pitch + d);
#pragma unroll
        for (int j = 0; j < NK; j++) {
            unsigned kb[KEYS / 16][4]; /* all first: products that wait for each other's sums are then far apart */
#pragma unroll
            for (int key = 0; key < KEYS; key += 16)
                gpu_ldmatrix_x4(kb[key / 16], k_at + (j * KEYS + key) * pitch + d);
#pragma unroll
            for (int i = 0; i < NQ; i++)
                if (i + j < NQ)
#pragma unroll
                    for (int key = 0; key < KEYS; key += 16) {
                        kvt_mma(s[key / 8], qa[i], kb[key / 16], piece());
                        kvt_mma(s[key / 8 + 1], qa[i], kb[key / 16] + 2, piece());
                    }
        }
    }
}

/* The sizes of heads that have kernels: dims are padded to one of them. 0: none. */
static inline int kvt_padded(int D)
{
    static const int size[] = {32, 64, 80, 96, 128, 256};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if (D <= size[i])
            return size[i];
    return 0;
}

#endif
