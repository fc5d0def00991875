/* A row of queries against its cell, split over keys: steps, and everything whose bits must not depend on the call's other rows.
 *
 * One block for each row (x), group of up to M heads of a kv head (y) and part of some slots (z). All of the part's K and V is asked for
 * at once, 16 bytes a thread, and lies in shared memory when it comes: a step waits for memory once, and reads what it must read
 * once for all heads of a group. A slot's row is then spread over `lp` lanes. The parts' sums are joined in order by a second kernel. A
 * part's bounds don't depend on the call, so neither do a row's bits. */
#include "kernels/cuda/attn.h"

#include <assert.h>

enum { THREADS = 256, WARPS = THREADS / 32, JOIN_THREADS = 128, MAX_D = 256, MAX_PART = 128 };

/* Slots of a part: K and V of it in at most 64 KB of shared memory, of heads up to 256 dims. */
static int part_of(const struct kvt_pages &p)
{
    int bytes = p.D * p.value_bytes;
    return bytes <= 256 ? MAX_PART : bytes <= 512 ? MAX_PART / 2 : MAX_PART / 4;
}

/* V neighbouring values of a row as floats: one load of V x sizeof(K) bytes. */
template <class K, int V> struct chunk;
template <> struct chunk<float, 4> {
    float4 x;
    __device__ float at(int i) const { return i == 0 ? x.x : i == 1 ? x.y : i == 2 ? x.z : x.w; }
};
template <> struct chunk<float, 2> {
    float2 x;
    __device__ float at(int i) const { return i ? x.y : x.x; }
};
template <int V> struct chunk<__half, V> {
    unsigned x[V / 2];
    __device__ float at(int i) const { return __half2float(__ushort_as_half((unsigned short)(i & 1 ? x[i / 2] >> 16 : x[i / 2] & 0xffff))); }
};
template <int V> struct chunk<__nv_bfloat16, V> {
    unsigned x[V / 2];
    __device__ float at(int i) const { return __uint_as_float(i & 1 ? x[i / 2] & 0xffff0000u : x[i / 2] << 16); }
};
template <class K, int V> static __device__ chunk<K, V> load(const unsigned char *p)
{
    chunk<K, V> c;
    if (sizeof c == 16)
        *(int4 *)(void *)&c = *(const int4 *)p;
    else if (sizeof c == 8)
        *(int2 *)(void *)&c = *(const int2 *)p;
    else
        *(int *)(void *)&c = *(const int *)p;
    return c;
}

static __device__ float warp_max(float x)
{
    for (int i = 16; i; i /= 2)
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, i));
    return x;
}
static __device__ float warp_sum(float x)
{
    for (int i = 16; i; i /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, i);
    return x;
}

static __device__ float value_of(float x) { return x; }
static __device__ float value_of(__half x) { return __half2float(x); }
static __device__ float value_of(__nv_bfloat16 x) { return __bfloat162float(x); }

/* Value d of a row turned by `by` positions. */
template <class K> static __device__ float turned_value(const struct kvt_rope &rope, int by, const K *x, int d)
{
    if (d >= rope.rot)
        return value_of(x[d]);
    int half = rope.rot / 2, i = rope.halves ? d % half : d / 2;
    bool first = rope.halves ? d < half : d % 2 == 0;
    const float *row = rope.table + (size_t)(by < 0 ? -by : by) * (size_t)rope.rot;
    float c = row[2 * i], s = by < 0 ? -row[2 * i + 1] : row[2 * i + 1], own = value_of(x[d]);
    float other = value_of(x[rope.halves ? (first ? d + half : d - half) : (first ? d + 1 : d - 1)]);
    return first ? own * c - other * s : own * c + other * s;
}

/* Ranks of renumbered rows: rank of each slot among those that the row sees, by position; and how many these are. One block for each
 * (row, kv head). bits: (pos + 1) of them in shared memory, then the counts of bits before each word. */
static __global__ void rank_kernel(struct kvt_attn_call a, int32_t *rank, int32_t *seen, int ld)
{
    int t = blockIdx.x, g = blockIdx.y, G = a.p.G, at = kvt_row_pos(a, t);
    if (!kvt_row_turned(a, t))
        return;
    GPU_DYN_SHARED(unsigned, bits);
    int words = at / 32 + 1;
    unsigned *before = bits + words;
    size_t cell = kvt_cell(a.p, kvt_row_branch(a, t), a.layer, g);
    const int32_t *table = kvt_table(a.p, cell);
    int n = a.p.n[cell];
    for (int i = threadIdx.x; i < words; i += blockDim.x)
        bits[i] = 0;
    __syncthreads();
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        int32_t pos = kvt_slot_pos(a.p, table, j);
        if (kvt_sees(a, at, pos))
            atomicOr(&bits[pos / 32], 1u << pos % 32);
    }
    __syncthreads();
    if (threadIdx.x < 32) { /* one warp sums the words, 32 at a time */
        unsigned sum = 0;
        for (int w = 0; w < words; w += 32) {
            unsigned own = w + (int)threadIdx.x < words ? (unsigned)__popc(bits[w + threadIdx.x]) : 0, up = own;
            for (int i = 1; i < 32; i *= 2) {
                unsigned x = __shfl_up_sync(0xffffffffu, up, (unsigned)i);
                up += (int)threadIdx.x >= i ? x : 0;
            }
            if (w + (int)threadIdx.x < words)
                before[w + threadIdx.x] = sum + up - own;
            sum += __shfl_sync(0xffffffffu, up, 31);
        }
        if (!threadIdx.x)
            seen[t * G + g] = (int32_t)sum;
    }
    __syncthreads();
    for (int j = threadIdx.x; j < n; j += blockDim.x) {
        int32_t pos = kvt_slot_pos(a.p, table, j);
        if (kvt_sees(a, at, pos))
            rank[((size_t)t * (size_t)G + (size_t)g) * (size_t)ld + j] = (int32_t)(before[pos / 32] + (unsigned)__popc(bits[pos / 32] & ((1u << pos % 32) - 1)));
    }
}

/* What the kernel below writes and reads beside the call. */
struct rows_work {
    float *part;             /* (T, H, parts, D + 2): sum of p v, the maximum, the sum of p, all of one part */
    int parts, slots;        /* most parts of any cell, and a part's slots */
    int lp;                  /* lanes that share a slot's row: a power of two */
    int chunks;              /* groups of M heads that a kv head has */
    float *row;              /* NULL or (blocks, H, row_ld): 2^(score - maximum of the part) goes here first */
    int row_ld;
    const int32_t *rank, *seen; /* of renumbered rows */
    int rank_ld;
};

/* The part's rows of K, or of V at half_page, into shared memory: on their way when this returns, unless rows aren't aligned. */
template <class K, int V> static __device__ void bring(const unsigned char *const *page, int len, int row_bytes, size_t half_page, unsigned char *to)
{
    constexpr int SIZE = V * (int)sizeof(K);
#pragma unroll 1
    for (int first = 0; first < len; first += KVT_PAGE_SLOTS, to += KVT_PAGE_SLOTS * row_bytes) { /* a page's rows lie one behind the other, here too */
        const unsigned char *from = page[first / KVT_PAGE_SLOTS] + half_page;
        int bytes = (len - first < KVT_PAGE_SLOTS ? len - first : KVT_PAGE_SLOTS) * row_bytes;
#pragma unroll 2
        for (int at = (int)threadIdx.x * SIZE; at < bytes; at += THREADS * SIZE) {
            if (SIZE == 16)
                gpu_cp_async16(to + at, from + at);
            else
                *(chunk<K, V> *)(to + at) = *(const chunk<K, V> *)(from + at);
        }
    }
    gpu_cp_async_commit();
}

template <class K, int V, int C, int M, bool TURN>
static __global__ void __launch_bounds__(THREADS, 2) rows_kernel(struct kvt_attn_call a, struct rows_work w)
{
    const int D = a.p.D, heads = a.H / a.p.G, t = blockIdx.x, g = blockIdx.y / w.chunks, h0 = blockIdx.y % w.chunks * M, slots = w.slots;
    const int from = blockIdx.z * slots, at = kvt_row_pos(a, t), warp = threadIdx.x / 32, lane = threadIdx.x % 32, row_bytes = D * (int)sizeof(K);
    const size_t cell = kvt_cell(a.p, kvt_row_branch(a, t), a.layer, g);
    const int n = a.p.n[cell], len = n - from < slots ? n - from : slots, mine = heads - h0 < M ? heads - h0 : M;
    if (len <= 0)
        return;
    const bool turn = TURN && kvt_row_turned(a, t);
    GPU_DYN_SHARED(unsigned char, key);  /* (slots, D), then as many values, 16-byte aligned; the sums of p v lie in their place at the end */
    unsigned char *value = key + slots * row_bytes;
    float *q = (float *)(value + slots * row_bytes), *s = q + M * D; /* (M, D), (M, slots) */
    __shared__ const unsigned char *page[MAX_PART / KVT_PAGE_SLOTS];
    __shared__ int32_t pos[MAX_PART];
    __shared__ float max_of[M], sum_of[M];
    const int32_t *table = kvt_table(a.p, cell) + from / KVT_PAGE_SLOTS;
    if ((int)threadIdx.x < (len + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS)
        page[threadIdx.x] = kvt_page_kv(a.p, table[threadIdx.x]);
    if ((int)threadIdx.x < len) /* a part has no more slots than a block has threads */
        pos[threadIdx.x] = kvt_slot_pos(a.p, table, threadIdx.x);
    __syncthreads();
    bring<K, V>(page, len, row_bytes, 0, key);
    bring<K, V>(page, len, row_bytes, a.p.page_bytes / 2, value);
    const float *from_q = a.q + ((size_t)t * (size_t)a.H + (size_t)(g * heads + h0)) * (size_t)D;
#pragma unroll 1
    for (int i = threadIdx.x; i < M * D; i += THREADS) {
        int h = turn ? i / D : 0;
        q[i] = i >= mine * D ? 0 : turn ? turned_value(a.rope, w.seen[t * a.p.G + g] - 1 - at, from_q + h * D, i % D) : from_q[i];
    }
    gpu_cp_async_wait<1>();
    __syncthreads();

    /* scores */
    const int lp = w.lp, sub = lane / lp, l = lane % lp, side = WARPS * (32 / lp), first = warp * (32 / lp) + sub; /* slots side by side, this lane's first */
    constexpr bool held = C * M * V <= 32 && !TURN; /* a lane's part of the queries, in registers */
    float own[held ? M : 1][held ? C * V : 1];
    if (held)
#pragma unroll
        for (int h = 0; h < M; h++)
#pragma unroll
            for (int i = 0; i < C * V; i++)
                own[held ? h : 0][held ? i : 0] = (i / V * lp + l) * V < D ? q[h * D + (i / V * lp + l) * V + i % V] : 0;
    const int32_t *rank = turn ? w.rank + ((size_t)t * (size_t)a.p.G + (size_t)g) * (size_t)w.rank_ld + from : NULL;
#pragma unroll 1
    for (int j = first; j - sub < len; j += side) { /* a warp's lanes stay together */
        float dot[M] = {0};
        if (j < len && (!turn || kvt_sees(a, at, pos[j]))) { /* what a turned row doesn't see has no rank */
            const unsigned char *row = key + j * row_bytes;
#pragma unroll
            for (int c = 0; c < C; c++) {
                int d = (c * lp + l) * V;
                if (d >= D)
                    continue;
                float x[V];
                if (turn) {
#pragma unroll 1
                    for (int i = 0; i < V; i++) { /* out of the loop below, so that the code stays short */
                        float y = turned_value(a.rope, rank[j] - pos[j], (const K *)row, d + i);
#pragma unroll
                        for (int k = 0; k < V; k++)
                            x[k] = k == i ? y : x[k];
                    }
                } else {
                    chunk<K, V> y = load<K, V>(row + d * (int)sizeof(K));
#pragma unroll
                    for (int i = 0; i < V; i++)
                        x[i] = y.at(i);
                }
#pragma unroll
                for (int h = 0; h < M; h++)
#pragma unroll
                    for (int i = 0; i < V; i++)
                        dot[h] = fmaf(held ? own[held ? h : 0][held ? c * V + i : 0] : q[h * D + d + i], x[i], dot[h]);
            }
        }
        if (M == 4 && lp >= 4) { /* a half of the lanes goes on with two heads, a quarter with one */
            const bool up = l & lp / 2, odd = l & lp / 4;
            float a0 = up ? dot[M > 2 ? 2 : 0] : dot[0], a1 = up ? dot[M > 3 ? 3 : 0] : dot[M > 1 ? 1 : 0];
            a0 += __shfl_xor_sync(0xffffffffu, up ? dot[0] : dot[M > 2 ? 2 : 0], lp / 2);
            a1 += __shfl_xor_sync(0xffffffffu, up ? dot[M > 1 ? 1 : 0] : dot[M > 3 ? 3 : 0], lp / 2);
            float sum = odd ? a1 : a0;
            sum += __shfl_xor_sync(0xffffffffu, odd ? a0 : a1, lp / 4);
#pragma unroll 1
            for (int i = lp / 8; i; i /= 2)
                sum += __shfl_xor_sync(0xffffffffu, sum, i);
            if (l % (lp / 4) == 0 && j < len)
                s[(2 * up + odd) * slots + j] = sum;
            continue;
        }
#pragma unroll 1
        for (int i = lp / 2; i; i /= 2)
#pragma unroll
            for (int h = 0; h < M; h++)
                dot[h] += __shfl_xor_sync(0xffffffffu, dot[h], i);
        if (!l && j < len)
#pragma unroll
            for (int h = 0; h < M; h++)
                s[h * slots + j] = dot[h];
    }
    __syncthreads();

    /* 2^(score - maximum), and their sum: a head a warp */
#pragma unroll 1
    for (int h = warp; h < M; h += WARPS) {
        float most = -INFINITY, sum = 0;
#pragma unroll 1
        for (int j = lane; j < len; j += 32) {
            float x = h < mine && kvt_sees(a, at, pos[j]) ? kvt_score2(a, s[h * slots + j]) : -INFINITY;
            s[h * slots + j] = x;
            most = fmaxf(most, x);
        }
        most = warp_max(most);
#pragma unroll 1
        for (int j = lane; j < len; j += 32) {
            float x = most == -INFINITY ? 0 : exp2f(s[h * slots + j] - most);
            s[h * slots + j] = x;
            sum += x;
        }
        sum = warp_sum(sum);
        if (!lane) {
            max_of[h] = most;
            sum_of[h] = sum;
        }
    }
    gpu_cp_async_wait<0>();
    __syncthreads();
    const int place = w.row ? kvt_row_place(a, t) : -1;
    if (place >= 0)
#pragma unroll 1
        for (int h = 0; h < mine; h++)
            for (int j = threadIdx.x; j < len; j += THREADS)
                w.row[((size_t)place * (size_t)a.H + (size_t)(g * heads + h0 + h)) * (size_t)w.row_ld + from + j] = s[h * slots + j];

    /* the sum of p v */
    float acc[M][C * V] = {{0}};
#pragma unroll 1
    for (int j = first; j < len; j += side) {
#pragma unroll
        for (int c = 0; c < C; c++) {
            int d = (c * lp + l) * V;
            if (d >= D)
                continue;
            chunk<K, V> x = load<K, V>(value + j * row_bytes + d * (int)sizeof(K));
#pragma unroll
            for (int h = 0; h < M; h++)
#pragma unroll
                for (int i = 0; i < V; i++)
                    acc[h][c * V + i] = fmaf(s[h * slots + j], x.at(i), acc[h][c * V + i]);
        }
    }
    __syncthreads();
    float *sums = (float *)key; /* (side, M, D), where keys and values were */
#pragma unroll
    for (int h = 0; h < M; h++)
#pragma unroll
        for (int i = 0; i < C * V; i++) {
            int d = (i / V * lp + l) * V + i % V;
            if (d < D)
                sums[(first * M + h) * D + d] = acc[h][i];
        }
    __syncthreads();
#pragma unroll 1
    for (int i = threadIdx.x; i < mine * D; i += THREADS) {
        int h = i / D, d = i % D;
        float x = 0;
#pragma unroll 4
        for (int v = 0; v < side; v++)
            x += sums[v * M * D + i];
        float *part = w.part + (((size_t)t * (size_t)a.H + (size_t)(g * heads + h0 + h)) * (size_t)w.parts + blockIdx.z) * (size_t)(D + 2);
        part[d] = x;
        if (!d) {
            part[D] = max_of[h];
            part[D + 1] = sum_of[h];
        }
    }
}

/* One block for each (row, head): its parts joined in their order, the output divided, the row of probabilities scaled. share: (parts) in
 * shared memory, of each part in the whole. */
static __global__ void join_kernel(struct kvt_attn_call a, struct rows_work w, struct kvt_row_sum *sums)
{
    GPU_DYN_SHARED(float, share);
    __shared__ float whole[2];
    int t = blockIdx.x, h = blockIdx.y, D = a.p.D, lane = threadIdx.x;
    int n = a.p.n[kvt_cell(a.p, kvt_row_branch(a, t), a.layer, h / (a.H / a.p.G))], parts = (n + w.slots - 1) / w.slots;
    size_t row = (size_t)t * (size_t)a.H + (size_t)h, step = (size_t)(D + 2);
    const float *part = w.part + row * (size_t)w.parts * step;
    if (threadIdx.x < 32) {
        float most = -INFINITY, sum = 0;
        for (int i = lane; i < parts; i += 32)
            most = fmaxf(most, part[(size_t)i * step + D]);
        most = warp_max(most);
        for (int i = lane; i < parts; i += 32) {
            float by = most > -INFINITY ? exp2f(part[(size_t)i * step + D] - most) : 0;
            share[i] = by;
            sum = fmaf(part[(size_t)i * step + D + 1], by, sum);
        }
        sum = warp_sum(sum);
        if (!lane) {
            whole[0] = most;
            whole[1] = sum;
        }
    }
    __syncthreads();
    const float sum = whole[1], inverse = sum > 0 ? 1 / sum : 0;
    for (int d = threadIdx.x; d < D; d += blockDim.x) {
        float x = 0;
#pragma unroll 8
        for (int i = 0; i < parts; i++)
            x = fmaf(part[(size_t)i * step + d], share[i], x);
        a.out[row * (size_t)D + d] = x * inverse;
    }
    if (sums && !threadIdx.x)
        sums[row] = {whole[0], sum};
    const int place = w.row ? kvt_row_place(a, t) : -1;
    if (place < 0)
        return;
    float *p = w.row + ((size_t)place * (size_t)a.H + (size_t)h) * (size_t)w.row_ld;
#pragma unroll 2
    for (int j = threadIdx.x; j < n; j += blockDim.x)
        p[j] *= share[j / w.slots] * inverse;
}

/* ---- launches ---- */

template <class K, int V, int C, int M, bool TURN>
static int launch(struct kvt_dev *dev, const struct kvt_attn_call *a, struct rows_work w)
{
    int heads = a->H / a->p.G, D = a->p.D;
    size_t kv = 2 * (size_t)w.slots * (size_t)D * sizeof(K), sums = (size_t)(WARPS * 32 / w.lp) * M * (size_t)D * sizeof(float);
    size_t bytes = (kv > sums ? kv : sums) + (size_t)M * (size_t)(D + w.slots) * sizeof(float);
    w.chunks = (heads + M - 1) / M;
    int rc = bytes > 48 << 10 ? kvt_cuda_failed(dev, cudaFuncSetAttribute(rows_kernel<K, V, C, M, TURN>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), "attention") : 0;
    if (!rc)
        GPU_LAUNCH((rows_kernel<K, V, C, M, TURN>), dim3((unsigned)a->T, (unsigned)(a->p.G * w.chunks), (unsigned)w.parts), THREADS, bytes, dev->stream, *a, w);
    return rc;
}

template <class K, int V, int C>
static int launch_heads(struct kvt_dev *dev, const struct kvt_attn_call *a, const struct rows_work &w)
{
    int heads = a->H / a->p.G;
    if (a->any_turned)
        return launch<K, V, C, 4, true>(dev, a, w);
    if (heads == 1)
        return launch<K, V, C, 1, false>(dev, a, w);
    if (heads <= 4 || C * V > 8)
        return launch<K, V, C, 4, false>(dev, a, w);
    return launch<K, V, C, C * V <= 8 ? 8 : 4, false>(dev, a, w);
}

/* V values a lane: 16 bytes where rows are aligned to that, else 4 or 8. */
template <class K, int V>
static int launch_type(struct kvt_dev *dev, const struct kvt_attn_call *a, struct rows_work &w)
{
    const int D = a->p.D;
    if (D % V == 0) {
        int lanes = D / V;
        for (w.lp = 1; w.lp < 32 && w.lp < lanes;)
            w.lp *= 2;
        if constexpr (V == 4)
            if (lanes > 32)
                return launch_heads<K, V, 2>(dev, a, w);
        return launch_heads<K, V, 1>(dev, a, w); /* MAX_D / 8 lanes at most */
    }
    w.lp = 32;
    return launch_heads<K, 2, 4>(dev, a, w);
}

static size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

size_t kvt_cuda_attn_rows_bytes(const struct kvt_attn_call *a, int most)
{
    size_t parts = (size_t)(most + part_of(a->p) - 1) / (size_t)part_of(a->p), rows = (size_t)a->T * (size_t)a->H, cells = (size_t)a->T * (size_t)a->p.G;
    return aligned(rows * parts * (size_t)(a->p.D + 2) * sizeof(float)) + (a->any_turned ? aligned(cells * sizeof(int32_t)) + cells * (size_t)most * sizeof(int32_t) : 0);
}

int kvt_cuda_attn_rows(struct kvt_dev *dev, const struct kvt_attn_call *a, int most, struct kvt_row_sum *sums, float *row, int row_ld, void *scratch)
{
    struct rows_work w = {};
    w.part = (float *)scratch;
    w.slots = part_of(a->p);
    w.parts = (most + w.slots - 1) / w.slots;
    w.row = row, w.row_ld = row_ld;
    if (a->p.D > MAX_D || a->p.D % 2)
        return kvt_fail(&dev->err, KVT_EUNSUP, "attention: no kernel for heads of %d values (even, at most %d); use --backend cpu", a->p.D, MAX_D);
    if (a->any_turned && w.parts) {
        size_t cells = (size_t)a->T * (size_t)a->p.G, bits = ((size_t)a->rope.n_pos / 32 + 2) * 2 * sizeof(unsigned);
        int32_t *seen = (int32_t *)((char *)scratch + aligned((size_t)a->T * (size_t)a->H * (size_t)w.parts * (size_t)(a->p.D + 2) * sizeof(float)));
        int32_t *rank = (int32_t *)((char *)seen + aligned(cells * sizeof *seen));
        w.seen = seen, w.rank = rank, w.rank_ld = most;
        if (bits > dev->shared_most)
            return kvt_fail(&dev->err, KVT_EUNSUP, "attention: %d positions are too many to be renumbered (bits in shared memory); use a shorter prompt", a->rope.n_pos);
        if (bits > 48 << 10)
            cudaFuncSetAttribute(rank_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bits);
        GPU_LAUNCH(rank_kernel, dim3((unsigned)a->T, (unsigned)a->p.G), 256, bits, dev->stream, *a, rank, seen, most);
    }
    int rc = !w.parts                ? 0
             : a->p.type == KVT_F32 ? launch_type<float, 4>(dev, a, w)
             : a->p.type == KVT_F16 ? launch_type<__half, 8>(dev, a, w)
                                    : launch_type<__nv_bfloat16, 8>(dev, a, w);
    if (rc)
        return rc;
    /* a multiple of 8: ptxas reads what is left of the unrolled loop four at a time, past the last (memcheck on an H100) */
    GPU_LAUNCH(join_kernel, dim3((unsigned)a->T, (unsigned)a->H), JOIN_THREADS, (size_t)(w.parts + 7) / 8 * 8 * sizeof(float), dev->stream, *a, w, sums);
    return kvt_cuda_launched(dev, "attention");
}
