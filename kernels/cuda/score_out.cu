/* score, second part: CriticalKV's ||W_O v||_1. For each kv head the (heads E) rows of W_O that read it, against all its slots: 2 E H D n
 * operations in f32 (the measure is of exact weights and values, so no tensor cores), which is what binds it; W_O is decoded to floats once
 * for the call, in slabs of at most 64 MiB, and then read by each 128 slots, V by each part of the rows. Sums over rows: by thread, by
 * block, then over the parts, each in a fixed order. */
#include "kernels/cuda/blocks.h"
#include "kernels/cuda/score.h"

#include <assert.h>

enum { OUT_SLAB_BYTES = 64 << 20 };

/* ---- decoding W_O ---- */

/* A thread four values: rows are whole blocks, so that a slab is one run of them. */
template <int type> static __global__ void decode_kernel(const unsigned char *from, float *to, size_t count)
{
    const size_t i = 4 * ((size_t)blockIdx.x * blockDim.x + threadIdx.x);
    float v[4];
    if (i + 4 <= count) {
        kvt_block_quad<type>(from, (int)i, v);
        *(float4 *)(to + i) = make_float4(v[0], v[1], v[2], v[3]);
    } else {
        for (size_t k = i; k < count; k++)
            to[k] = kvt_block_one(type, from, (int)k);
    }
}

/* Rows [row, row + rows) as floats: `to` (rows, K), or where W_O's own are such. */
static const float *out_floats(struct kvt_dev *dev, const struct kvt_mat *w, int row, int rows, float *to)
{
    const unsigned char *from = (const unsigned char *)w->data + (size_t)row * kvt_row_bytes(w->type, (size_t)w->k);
    const size_t count = (size_t)rows * (size_t)w->k;
    if (w->type == KVT_F32)
        return (const float *)from;
    switch (w->type) {
#define X(name, values, bytes) \
    case KVT_##name: GPU_LAUNCH(decode_kernel<KVT_##name>, kvt_blocks(count, 4 * 256), 256, 0, dev->stream, from, to, count); break;
        KVT_DTYPE_MAP(X)
#undef X
    default: break;
    }
    return to;
}

/* ---- sums of |W_O v| ---- */

/* sums (part, G, most): over rows [part * per, ...) of a kv head's. */
template <class T>
static __global__ void __launch_bounds__(TILE_THREADS) out_sums_kernel(struct score_cells at, struct score_rows a, int per, float *sums, int most)
{
    const int g = (int)blockIdx.z, slot0 = (int)blockIdx.x * TILE_SLOTS, n = score_live(at, g), all = a.rows * a.heads;
    const int from = (int)blockIdx.y * per, to = from + per < all ? from + per : all;
    if (slot0 >= n)
        return;
    a.w += (size_t)(g * a.heads) * a.head_ld;
    float sum = score_tile<T, false>(at, g, n, slot0, a, from, to);
    if (slot0 + (int)threadIdx.x < n)
        sums[((size_t)blockIdx.y * gridDim.z + (size_t)g) * (size_t)most + (size_t)(slot0 + (int)threadIdx.x)] = sum;
}

static __global__ void out_mean_kernel(struct score_cells at, const float *sums, int parts, int heads, int most, float *out, int ld)
{
    const int g = (int)blockIdx.y, j = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (j >= score_live(at, g))
        return;
    float all = 0;
    for (int p = 0; p < parts; p++)
        all += sums[((size_t)p * gridDim.y + (size_t)g) * (size_t)most + (size_t)j];
    out[(size_t)g * (size_t)ld + (size_t)j] = all / (float)heads;
}

int kvt_cuda_out_norms(struct kvt_dev *dev, const struct kvt_out_norms_args *a)
{
    struct score_cells at = score_cells_of(&a->at);
    const int most = score_most(&a->at), G = at.p.G, heads = a->H / G, E = a->w.n;
    assert(a->H % G == 0 && a->w.k == a->H * at.p.D && at.p.D <= SCORE_MAX_D);
    if (most <= 0)
        return 0;
    const size_t K = (size_t)a->w.k;
    int slab = (int)(OUT_SLAB_BYTES / (K * sizeof(float)));
    slab = slab > E || a->w.type == KVT_F32 ? E : slab < 1 ? 1 : slab;
    const int slabs = (E + slab - 1) / slab, tiles = (int)kvt_blocks((size_t)most, TILE_SLOTS);
    /* parts of the rows of a slab, so that two blocks come to each multiprocessor */
    const int row_tiles = (int)kvt_blocks((size_t)(heads * slab), TILE_ROWS), want = (int)kvt_blocks((size_t)(2 * dev->sms), (size_t)(tiles * G));
    const int per = (int)kvt_blocks((size_t)row_tiles, (size_t)(want < row_tiles ? want : row_tiles)) * TILE_ROWS;
    const int parts = (int)kvt_blocks((size_t)(heads * slab), (size_t)per);
    const size_t floats = a->w.type == KVT_F32 ? 0 : (size_t)slab * K, plane = (size_t)G * (size_t)most;
    float *w = (float *)kvt_cuda_scratch(dev, (floats + (size_t)(slabs * parts) * plane) * sizeof(float)), *sums = w + floats;
    if (!w)
        return KVT_ENOMEM;
    int done = 0; /* parts */
    for (int row = 0; row < E; row += slab) {
        const int rows = E - row < slab ? E - row : slab, here = (int)kvt_blocks((size_t)(heads * rows), (size_t)per);
        struct score_rows r = {out_floats(dev, &a->w, row, rows, w), K, (size_t)at.p.D, rows, heads, NULL, true};
#define OUT_SUMS(T) \
    GPU_LAUNCH(out_sums_kernel<T>, dim3((unsigned)tiles, (unsigned)here, (unsigned)G), TILE_THREADS, 0, dev->stream, at, r, per, sums + (size_t)done * plane, most)
        SCORE_BY_TYPE(at.p.type, OUT_SUMS)
        done += here;
    }
    GPU_LAUNCH(out_mean_kernel, dim3(kvt_blocks((size_t)most, 256), (unsigned)G), 256, 0, dev->stream, at, sums, done, heads, most, a->out, a->ld);
    return kvt_cuda_launched(dev, "out_norms");
}
