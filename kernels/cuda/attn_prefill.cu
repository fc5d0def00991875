/* Many rows of one branch: one block of four warps for each 64 rows (x, the longest first) of a head (y); each warp keeps 16 rows'
 * queries, outputs and running softmax. Tiles of K and V come by cp.async while the tile before is in work; tiles that no row of the
 * block may see are passed over by the bounds of their pages. K and V are read once for each 64 rows and head; the heads of a group
 * run side by side, so that theirs come out of L2. */
#include "kernels/cuda/attn_tiles.h"

enum { ROWS = KVT_TILE_ROWS, THREADS = KVT_TILE_THREADS, SLOTS = KVT_PAGE_SLOTS };

static __global__ void bounds_kernel(struct kvt_attn_call a, int branch, int pages, int2 *bounds)
{
    int g = blockIdx.y, i = blockIdx.x * blockDim.x + threadIdx.x;
    size_t cell = kvt_cell(a.p, branch, a.layer, g);
    int n = a.p.n[cell];
    if (i >= pages)
        return;
    int2 b = {2147483647, -1};
    for (int j = i * SLOTS; j < n && j < (i + 1) * SLOTS; j++) {
        int32_t pos = kvt_slot_pos(a.p, kvt_table(a.p, cell), j);
        b.x = pos < b.x ? pos : b.x;
        b.y = pos > b.y ? pos : b.y;
    }
    bounds[(size_t)g * (size_t)pages + i] = b;
}

void kvt_cuda_page_bounds(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, int pages, int2 *bounds)
{
    if (pages)
        GPU_LAUNCH(bounds_kernel, dim3(kvt_blocks((size_t)pages, 128), (unsigned)a->p.G), 128, 0, dev->stream, *a, branch, pages, bounds);
}

/* Keys of a tile: fewer where heads are wide, so that the tiles fit into shared memory and the scores into registers. */
template <class K, int DP> struct sizes {
    static constexpr int KEYS = DP <= (kvt_pieces<K>::NK > 1 ? 64 : kvt_pieces<K>::NQ > 2 ? 96 : 128) ? 64 : DP <= 128 ? 32 : 16, PITCH = DP + KVT_PITCH;
    static constexpr int BYTES = (kvt_pieces<K>::NQ * ROWS + 2 * 2 * kvt_pieces<K>::NK * KEYS) * PITCH * 2;
};

template <class K, int DP>
static __global__ void __launch_bounds__(THREADS, 2) prefill_kernel(struct kvt_attn_call a, int branch, const int2 *all_bounds, int pages, struct kvt_row_sum *sums)
{
    typedef typename kvt_pieces<K>::piece piece;
    constexpr int NQ = kvt_pieces<K>::NQ, NK = kvt_pieces<K>::NK, NP = kvt_pieces<K>::NP;
    constexpr int KEYS = sizes<K, DP>::KEYS, PITCH = sizes<K, DP>::PITCH;
    GPU_DYN_SHARED(piece, q);                    /* (NQ, ROWS, PITCH) */
    piece *tiles = q + NQ * ROWS * PITCH;        /* (2 by turns, {K, V}, NK, KEYS, PITCH) */
    __shared__ int32_t row_pos[ROWS];
    __shared__ __align__(16) int32_t key_pos[2][KEYS];
    __shared__ struct kvt_tile_group<KEYS> group;
    __shared__ float by_row[ROWS];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, D = a.p.D, h = blockIdx.y, g = h / (a.H / a.p.G);
    const int t0 = (int)(gridDim.x - 1 - blockIdx.x) * ROWS;
    const size_t cell = kvt_cell(a.p, branch, a.layer, g);
    const int n = a.p.n[cell];
    if (D < DP)
        for (int i = 0; i < 4 * NK; i++)
            kvt_pad_tile(tiles + i * KEYS * PITCH, KEYS, D, DP);
    kvt_load_queries<K, DP>(a, t0, h, DP, q, row_pos, by_row);
    __syncthreads();
    int low, high;
    kvt_row_range(row_pos, a.T - t0, &low, &high);
    const int r0 = warp * 16 + lane / 4;
    const int32_t at[2] = {row_pos[r0], row_pos[r0 + 8]};
    const float scale2 = a.cap2 > 0 ? 1 : a.scale2; /* capped scores come scaled */
    const float by[2] = {by_row[r0] * scale2, by_row[r0 + 8] * scale2};

    const struct kvt_stride stride = kvt_stride_of(D % 8 ? 1 : D / 8);
    float out[DP / 8][4], most[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
#pragma unroll
    for (int i = 0; i < DP / 8; i++)
        out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0;
    struct kvt_walk walk = {all_bounds + (size_t)g * (size_t)pages, kvt_table(a.p, cell), pages, low, high, -1, 0};
    struct kvt_tile tile = {-1, 0, 0}, next = {0, 0, 0};
#pragma unroll 1
    for (int turn = 0; next.at >= 0; turn ^= 1, tile = next) { /* next comes while tile is in work */
        gpu_cp_async_wait<0>();
        __syncthreads(); /* tile is here, and nobody reads what next is put over */
        next = kvt_next_tile<KEYS>(a, walk, &group);
        if (next.at >= 0) {
            piece *to = tiles + (turn ^ 1) * 2 * NK * KEYS * PITCH;
            const int live = n - next.at * KEYS, first = next.at % KVT_GROUP * (KEYS / SLOTS);
            const bool plain = sizeof(K) == 2 && D == DP && live >= KEYS; /* a whole tile */
            if (plain) {
                kvt_load_whole<KEYS, DP>(group.kv + first, 0, (unsigned char *)to);
                kvt_load_whole<KEYS, DP>(group.kv + first, a.p.page_bytes / 2, (unsigned char *)(to + KEYS * PITCH));
            }
#pragma unroll 1
            for (int value = 0; !plain && value < 2; value++)
                kvt_load_tile<K, KEYS>(group.kv + first, live, D, value ? a.p.page_bytes / 2 : 0, DP, stride, to + value * NK * KEYS * PITCH);
            kvt_load_positions<KEYS>(group.pos + first, key_pos[turn ^ 1]);
        }
        gpu_cp_async_commit();
        if (tile.at >= 0) {
            const int live = n - tile.at * KEYS;
            const piece *k = tiles + turn * 2 * NK * KEYS * PITCH, *v = k + NK * KEYS * PITCH;
            float s[KEYS / 8][4], top[2] = {-INFINITY, -INFINITY};
            const bool clear = kvt_all_seen<KEYS>(a, tile, live, low, high); /* nothing to be hidden, as in most tiles */
            kvt_scores<K, KEYS, (DP <= 128 ? DP / 16 : 2)>(q, k, DP, s);
            if (a.cap2 > 0)
                kvt_cap_scores<KEYS>(a, by, s);
            if (!clear) {
                unsigned shown = kvt_shown<KEYS>(a, at, key_pos[turn], live);
#pragma unroll
                for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        s[i][j] = shown >> (4 * i + j) & 1 ? s[i][j] : -INFINITY;
            }
#pragma unroll
            for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    top[j / 2] = fmaxf(top[j / 2], s[i][j]);
            float scale[2], base[2];
#pragma unroll
            for (int j = 0; j < 2; j++) {
                top[j] = fmaxf(top[j], __shfl_xor_sync(0xffffffffu, top[j], 1));
                top[j] = fmaxf(top[j], __shfl_xor_sync(0xffffffffu, top[j], 2));
                top[j] = fmaxf(top[j] * by[j], most[j]); /* by is above 0 */
                scale[j] = top[j] == -INFINITY ? 1 : gpu_exp2(most[j] - top[j]);
                most[j] = top[j];
                base[j] = top[j] == -INFINITY ? 0 : top[j]; /* nothing seen yet: 2^(-infinity) are its terms */
                sum[j] *= scale[j];
            }
            if (__any_sync(0xffffffffu, scale[0] != 1 || scale[1] != 1)) /* after the first tiles, maxima seldom move */
#pragma unroll
                for (int i = 0; i < DP / 8; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++)
                        out[i][j] *= scale[j / 2];
#pragma unroll
            for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    s[i][j] = gpu_exp2(fmaf(s[i][j], by[j / 2], -base[j / 2]));
                    sum[j / 2] += s[i][j];
                }
#pragma unroll
            for (int key = 0; key < KEYS; key += 16) {
                unsigned p[NP][4];
#pragma unroll
                for (int i = 0; i < NP; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) /* rows, rows + 8, then keys + 8 */
                        p[i][j] = kvt_pair(s[key / 8 + j / 2][j % 2 * 2], s[key / 8 + j / 2][j % 2 * 2 + 1], piece());
                constexpr int SOME = DP % 64 ? 16 : 64; /* dims whose values are held at once */
#pragma unroll
                for (int d0 = 0; d0 < DP; d0 += SOME)
#pragma unroll
                    for (int j = 0; j < NK; j++) {
                        unsigned vb[SOME / 16][4];
#pragma unroll
                        for (int d = 0; d < SOME; d += 16)
                            gpu_ldmatrix_x4_trans(vb[d / 16], v + (j * KEYS + key + lane / 8 % 2 * 8 + lane % 8) * PITCH + d0 + d + lane / 16 * 8);
#pragma unroll
                        for (int i = 0; i < NP; i++)
                            if (i + j < NP)
#pragma unroll
                                for (int d = 0; d < SOME; d += 16) {
                                    kvt_mma(out[(d0 + d) / 8], p[i], vb[d / 16], piece());
                                    kvt_mma(out[(d0 + d) / 8 + 1], p[i], vb[d / 16] + 2, piece());
                                }
                    }
            }
        }
    }
#pragma unroll
    for (int j = 0; j < 2; j++) {
        sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], 1);
        sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], 2);
        int t = t0 + r0 + 8 * j;
        if (t >= a.T)
            continue;
        float *to = a.out + ((size_t)t * (size_t)a.H + (size_t)h) * (size_t)D;
        float inverse = sum[j] > 0 ? 1 / sum[j] : 0;
#pragma unroll
        for (int i = 0; i < DP / 8; i++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                if (i * 8 + lane % 4 * 2 + e < D)
                    to[i * 8 + lane % 4 * 2 + e] = out[i][2 * j + e] * inverse;
        if (sums && lane % 4 == 0)
            sums[(size_t)t * (size_t)a.H + (size_t)h] = {most[j], sum[j]};
    }
}

template <class K, int DP> static int launch(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, struct kvt_row_sum *sums)
{
    int rc = kvt_cuda_failed(dev, cudaFuncSetAttribute(prefill_kernel<K, DP>, cudaFuncAttributeMaxDynamicSharedMemorySize, sizes<K, DP>::BYTES), "attention");
    if (rc)
        return rc;
    GPU_LAUNCH((prefill_kernel<K, DP>), dim3(kvt_blocks((size_t)a->T, ROWS), (unsigned)a->H), THREADS, (sizes<K, DP>::BYTES), dev->stream, *a, branch, bounds, pages, sums);
    return kvt_cuda_launched(dev, "attention");
}

template <class K> static size_t need(int DP)
{
    switch (DP) {
    case 32: return sizes<K, 32>::BYTES;
    case 64: return sizes<K, 64>::BYTES;
    case 80: return sizes<K, 80>::BYTES;
    case 96: return sizes<K, 96>::BYTES;
    case 128: return sizes<K, 128>::BYTES;
    case 256: return sizes<K, 256>::BYTES;
    default: return SIZE_MAX;
    }
}

bool kvt_cuda_attn_prefill_can(const struct kvt_dev *dev, const struct kvt_attn_call *a)
{
    int DP = kvt_padded(a->p.D);
    size_t bytes = a->p.type == KVT_F16 ? need<__half>(DP) : a->p.type == KVT_BF16 ? need<__nv_bfloat16>(DP) : need<float>(DP);
    return bytes != SIZE_MAX && bytes + 4096 <= dev->shared_most;
}

template <class K> static int launch_type(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, struct kvt_row_sum *sums)
{
    switch (kvt_padded(a->p.D)) {
    case 32: return launch<K, 32>(dev, a, branch, bounds, pages, sums);
    case 64: return launch<K, 64>(dev, a, branch, bounds, pages, sums);
    case 80: return launch<K, 80>(dev, a, branch, bounds, pages, sums);
    case 96: return launch<K, 96>(dev, a, branch, bounds, pages, sums);
    case 128: return launch<K, 128>(dev, a, branch, bounds, pages, sums);
    default: return launch<K, 256>(dev, a, branch, bounds, pages, sums);
    }
}

int kvt_cuda_attn_prefill(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, struct kvt_row_sum *sums)
{
    return a->p.type == KVT_F16    ? launch_type<__half>(dev, a, branch, bounds, pages, sums)
           : a->p.type == KVT_BF16 ? launch_type<__nv_bfloat16>(dev, a, branch, bounds, pages, sums)
                                   : launch_type<float>(dev, a, branch, bounds, pages, sums);
}
