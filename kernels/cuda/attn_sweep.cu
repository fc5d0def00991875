/* The second sweep of a prefill: the scores of each tile once more, now as probabilities, and all that is asked of them in one go.
 *
 * One block of four warps for each 64 rows (x) and head (y). What belongs to rows alone (entropy, mass on sinks and on neighbours) is
 * summed in the registers where the products come out. For the rest a tile's probabilities lie in shared memory (64 x KEYS, f32): two
 * warps walk down its columns, a column a thread; all four sum the columns of each bin of the map, or of each segment, a row and bin
 * a thread; what goes by distance, and the largest, is walked along by two warps, a row a thread. K is read once more; V isn't. */
#include "kernels/cuda/attn_see.h"

#include <assert.h>
#include <string.h>

enum { ROWS = KVT_TILE_ROWS, THREADS = KVT_TILE_THREADS, MOST_BINS = 256 /* of the map, whose starts lie in shared memory */, STATIC = 8192 /* bytes of shared memory that aren't asked for at the launch, at most */ };

/* Between rows of probabilities: odd, so that neither a column a thread nor a row a thread meet in a bank, and writes in the products' shape
 * meet by twos at most. */
static constexpr __host__ __device__ int p_pitch(int keys) { return keys + 5; }

static size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

/* Columns in groups (bins of the map, segments), from tile to tile: group i has columns [start[i], start[i + 1]). */
struct groups {
    const int32_t *start;
    int count, at;           /* at: the group of the next tile's first column */
    int sum, most;           /* places in a row's line: sums, and maxima (-1: none) */
    float (*carry)[2 * ROWS]; /* in shared memory, two by turns: sums and maxima of the group that goes on from the tile before */
    int open, side;          /* that group (-1: none), and where its values are */
};

/* A tile's columns [j0, end) by group, for all rows; a group's value goes to the row's line when its last column was there, or at
 * `last`. line: of the block's first row */
template <int KEYS>
static __device__ void walk_groups(struct groups &g, const float *p, int j0, int end, bool last, float *line, size_t line_step, int rows)
{
    while (g.at + 1 < g.count && g.start[g.at + 1] <= j0)
        g.at++;
    int up = g.at;
    while (up + 1 < g.count && g.start[up + 1] < end)
        up++;
    /* the group that was open ended with the tile before, or goes on here */
    if (g.open >= 0 && g.open < g.at && (int)threadIdx.x < rows) {
        line[threadIdx.x * line_step + g.sum + g.open] = g.carry[g.side][threadIdx.x];
        if (g.most >= 0)
            line[threadIdx.x * line_step + g.most + g.open] = g.carry[g.side][ROWS + threadIdx.x];
    }
#pragma unroll 1
    for (int i = threadIdx.x; i < ROWS * (up - g.at + 1); i += THREADS) {
        int r = i % ROWS, group = g.at + i / ROWS, low = g.start[group] - j0, high = g.start[group + 1] - j0;
        low = low > 0 ? low : 0;
        high = group + 1 == g.count || high > end - j0 ? end - j0 : high;
        float sum = 0, most = 0;
        if (group == g.open) {
            sum = g.carry[g.side][r];
            most = g.carry[g.side][ROWS + r];
        }
#pragma unroll 4
        for (int c = low; c < high; c++) {
            sum += p[r * p_pitch(KEYS) + c];
            most = fmaxf(most, p[r * p_pitch(KEYS) + c]);
        }
        if (r < rows && (group < up || last)) {
            line[r * line_step + g.sum + group] = sum;
            if (g.most >= 0)
                line[r * line_step + g.most + group] = most;
        }
        if (group == up) {
            g.carry[g.side ^ 1][r] = sum;
            g.carry[g.side ^ 1][ROWS + r] = most;
        }
    }
    g.side ^= 1;
    g.open = up;
    g.at = up;
}

/* A thread's row, from tile to tile. */
struct walker {
    float least;             /* of the k largest so far */
};

/* The sum over the block's rows of one column's probabilities x, of those whose position is at least `from`: runs of 16 rows from 0, then
 * these (kvt_cuda_row_sums says so). all: `from` is below all of them. */
template <int KEYS, bool all> static __device__ __forceinline__ float sum_from(const float *x, const int32_t *row_pos, int from)
{
    float sum[ROWS / 16];
#pragma unroll
    for (int i = 0; i < ROWS / 16; i++) {
        sum[i] = 0;
#pragma unroll
        for (int r = 16 * i; r < 16 * i + 16; r++)
            sum[i] += all || row_pos[r] >= from ? x[r * p_pitch(KEYS)] : 0;
    }
    return ((sum[0] + sum[1]) + sum[2]) + sum[3];
}

/* A column: each kind of sum over the block's rows, which goes to its line; rows that aren't there are 0. high: of the rows' positions. */
template <int KEYS>
static __device__ void walk_column(const struct kvt_sweep &w, const float *p, const int32_t *row_pos, int last_row, int high, int c, int j, int h, int H)
{
    const float *x = p + c;
    size_t step = (size_t)gridDim.x * (size_t)H * (size_t)w.ld;
    float *out = w.column + ((size_t)blockIdx.x * (size_t)H + (size_t)h) * (size_t)w.ld + (size_t)j;
    if (w.mass) {
        *out = sum_from<KEYS, true>(x, row_pos, 0);
        out += step;
    }
#pragma unroll 1
    for (int i = 0; i < w.n_windows; i++, out += step) {
        int from = w.n_rows - w.window[i];
        if (high >= from)
            *out = sum_from<KEYS, false>(x, row_pos, from);
    }
#pragma unroll 1
    for (int i = 0; i < w.n_squares; i++, out += step) {
        int from = w.square[i].window ? w.n_rows - w.square[i].window : 0, behind = j + w.square[i].distance;
        from = from > behind ? from : behind;
        if (high < from)
            continue;
        bool by_pos = w.square[i].by_pos;
        float sum = 0;
#pragma unroll 4
        for (int r = 0; r < ROWS; r++) {
            float y = x[r * p_pitch(KEYS)];
            sum += row_pos[r] >= from ? y * (by_pos ? (float)row_pos[r] : y) : 0;
        }
        *out = sum;
    }
    if (w.max_) {
        float most = 0;
#pragma unroll 4
        for (int r = 0; r < ROWS && high >= w.max_from; r++)
            most = fmaxf(most, row_pos[r] >= w.max_from ? x[r * p_pitch(KEYS)] : 0);
        *out = most;
        out += step;
    }
    if (w.later) {
        int from = 0, up = w.n_units;
        while (from < up) { /* the first unit that ends behind j */
            int mid = (from + up) / 2;
            if (w.unit[2 * mid + 1] > j)
                up = mid;
            else
                from = mid + 1;
        }
        if (from < w.n_units && w.unit[2 * from] <= j && high >= w.unit[2 * from + 1])
            *out = sum_from<KEYS, false>(x, row_pos, w.unit[2 * from + 1]);
    }
    if (w.last && last_row >= 0)
        w.last[(size_t)h * (size_t)w.ld + j] = x[last_row * p_pitch(KEYS)];
}

/* One more value among the k largest of a row: descending, equal ones by column. */
static __device__ void top_insert(float *top, int32_t *top_at, int k, float x, int j)
{
    int i = k - 1;
    for (; i > 0 && top[i - 1] < x; i--) {
        top[i] = top[i - 1];
        top_at[i] = top_at[i - 1];
    }
    top[i] = x;
    top_at[i] = j;
}

/* A row, over the columns of one tile. */
template <int KEYS>
static __device__ void walk_row(const struct kvt_sweep &w, struct walker &me, const float *p, int r, int t, int at, int j0, int n, int h, int H)
{
    const int live = n - j0 < KEYS ? n - j0 : KEYS; /* columns of the tile */
    size_t row = (size_t)h * (size_t)w.n_rows + (size_t)at;
    float *line = w.rowwise + ((size_t)t * (size_t)H + (size_t)h) * (size_t)w.row_ld;
    p += r * p_pitch(KEYS);
    if (w.top) {
        float *top = w.top + row * (size_t)w.top_k;
        for (int c = 0; c < live; c++)
            if (p[c] > me.least) {
                top_insert(top, w.top_at + row * (size_t)w.top_k, w.top_k, p[c], j0 + c);
                me.least = top[w.top_k - 1];
            }
    }
    if (w.bins && at >= w.far_from) {
        float sum = 0;
        int bin = -1;
        for (int c = 0; c < live && j0 + c <= at; c++) {
            int b = kvt_distance_bin(at - (j0 + c), w.bins);
            if (b != bin && bin >= 0) {
                line[w.at_distance + bin] += sum;
                sum = 0;
            }
            bin = b;
            sum += p[c];
        }
        if (bin >= 0)
            line[w.at_distance + bin] += sum;
    }
    if (at >= w.far_from)
        for (int i = 0; i < w.n_offsets; i++) {
            int c = at - w.offset_at[i] - j0;
            if (c >= 0 && c < live && w.offset_at[i] >= 0)
                line[w.at_offset + i] = p[c];
        }
}

/* Zeros to columns [from, to) of whole rows, and of the last row, which no tile reached. */
static __device__ void fill_rows(const struct kvt_sweep &w, const struct kvt_attn_call &a, int t0, int rows, int h, int last_row, int from, int to, int n)
{
    if (w.last && last_row >= 0)
        for (int j = from + (int)threadIdx.x; j < to && j < n; j += THREADS)
            w.last[(size_t)h * (size_t)w.ld + j] = 0;
    if (!(w.row_heads >> h & 1))
        return;
    size_t i = (size_t)__popcll(w.row_heads & ((1ull << h) - 1));
    for (int r = 0; r < rows; r++) {
        size_t at = (i * (size_t)a.T + (size_t)(t0 + r)) * (size_t)w.ld;
        for (int j = from + (int)threadIdx.x; j < to; j += THREADS) {
            if (w.rows)
                w.rows[at + j] = 0;
            if (w.half)
                w.half[at + j] = 0;
        }
    }
}

/* Scores become probabilities, into p too, and each row's sum of A power (entropy). clear: all are seen, else those that `shown` says. */
template <int KEYS, bool clear>
static __device__ __forceinline__ void probabilities(float (*s)[4], const float *by, const float *most, const float *inverse, unsigned shown, float *p, float *entropy)
{
#pragma unroll
    for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            float power = fmaf(s[i][j], by[j / 2], -most[j / 2]), x = gpu_exp2(power) * inverse[j / 2];
            if (!clear) {
                bool here = shown >> (4 * i + j) & 1;
                x = here ? x : 0;
                power = here ? power : 0;
            }
            p[j / 2 * 8 * p_pitch(KEYS) + i * 8 + j % 2] = x;
            entropy[j / 2] = fmaf(x, power, entropy[j / 2]);
            s[i][j] = x;
        }
}

/* FIXED: the heads' size, for the common ones; 0: padded to DP */
template <class K, int KEYS, int FIXED>
static __global__ void __launch_bounds__(THREADS, 3) sweep_kernel(struct kvt_attn_call a, int branch, const int2 *all_bounds, int pages, int given, const struct kvt_row_sum *sums, struct kvt_sweep w)
{
    typedef typename kvt_pieces<K>::piece piece;
    constexpr int NQ = kvt_pieces<K>::NQ, NK = kvt_pieces<K>::NK;
    const int DP = FIXED ? FIXED : given, pitch = DP + KVT_PITCH, D = FIXED ? FIXED : a.p.D, warp = threadIdx.x / 32, lane = threadIdx.x % 32, h = blockIdx.y, g = h / (a.H / a.p.G);
    GPU_DYN_SHARED(float, p);                    /* (ROWS, p_pitch), then 16-byte aligned */
    piece *q = (piece *)(p + ROWS * p_pitch(KEYS)); /* (NQ, ROWS, pitch) */
    piece *tiles = q + NQ * ROWS * pitch;        /* (2 by turns, NK, KEYS, pitch) */
    __shared__ int32_t row_pos[ROWS];
    __shared__ __align__(16) int32_t key_pos[2][KEYS];
    __shared__ struct kvt_tile_group<KEYS> group;
    __shared__ int32_t bin_start[MOST_BINS + 1];
    __shared__ float by_row[ROWS];
    const int t0 = w.T0 + (int)blockIdx.x * ROWS, rows = w.T0 + w.T - t0 < ROWS ? w.T0 + w.T - t0 : ROWS;
    const size_t cell = kvt_cell(a.p, branch, a.layer, g);
    const int n = a.p.n[cell];
    for (int i = 0; D < DP && i < 2 * NK; i++)
        kvt_pad_tile(tiles + i * KEYS * pitch, KEYS, D, DP);
    kvt_load_queries<K, (FIXED ? FIXED : KEYS == 64 ? 128 : 256)>(a, t0, h, DP, q, row_pos, by_row);
    __syncthreads();
    int low, high, last_row = -1;
    kvt_row_range(row_pos, rows, &low, &high);
    for (int r = 0; high == w.n_rows - 1 && r < rows; r++)
        last_row = row_pos[r] == high ? r : last_row;
    const int r0 = warp * 16 + lane / 4;
    int32_t at[2];
    float by[2], most[2], inverse[2], whole_sum[2];
#pragma unroll
    for (int j = 0; j < 2; j++) {
        int r = r0 + 8 * j;
        struct kvt_row_sum s = {0, 0};
        if (r < rows)
            s = sums[(size_t)(t0 + r) * (size_t)a.H + (size_t)h];
        at[j] = r < rows ? row_pos[r] : -1;
        by[j] = by_row[r] * (a.cap2 > 0 ? 1 : a.scale2); /* capped scores come scaled */
        most[j] = s.max;
        inverse[j] = s.sum > 0 ? 1 / s.sum : 0;
        whole_sum[j] = s.sum > 0 ? s.sum : 1;
    }
    const int mine = (int)threadIdx.x - THREADS / 2; /* the row that this thread walks along; negative: it walks down columns */
    struct walker me = {0};
    if (mine >= 0 && mine < rows) {
        if (w.top) {
            size_t row = ((size_t)h * (size_t)w.n_rows + (size_t)row_pos[mine]) * (size_t)w.top_k;
            for (int i = 0; i < w.top_k; i++) {
                w.top[row + i] = 0;
                w.top_at[row + i] = -1;
            }
        }
    }
    const bool whole = w.row_heads >> h & 1;
    const size_t whole_at = whole ? (size_t)__popcll(w.row_heads & ((1ull << h) - 1)) * (size_t)a.T : 0;

    const struct kvt_stride stride = kvt_stride_of(D % 8 ? 1 : D / 8);
    __shared__ float carry[4][2 * ROWS];
    const size_t line_step = (size_t)a.H * (size_t)w.row_ld;
    float *line = w.rowwise + ((size_t)(t0 - w.T0) * (size_t)a.H + (size_t)h) * (size_t)w.row_ld;
    for (int i = threadIdx.x; w.C <= MOST_BINS && w.C && i <= w.C; i += THREADS)
        bin_start[i] = w.bin[i];
    struct groups bins = {w.C <= MOST_BINS ? bin_start : w.bin, w.C, 0, w.at_sum, w.at_max, &carry[0], -1, 0}, segments = {w.segment, w.n_segments, 0, 0, -1, &carry[2], -1, 0};
    float entropy[2] = {0, 0}, sink[2] = {0, 0}, local[2] = {0, 0};
    const bool row_sums = w.keys_or_entropy || w.sink || w.local;

    struct kvt_walk walk = {all_bounds + (size_t)g * (size_t)pages, kvt_table(a.p, cell), pages, low, high, -1, 0};
    struct kvt_tile tile = {-1, 0, 0}, next = {0, 0, 0};
    int done = 0;
#pragma unroll 1
    for (int turn = 0; next.at >= 0; turn ^= 1, tile = next) { /* next comes while tile is in work */
        const int j0 = tile.at * KEYS;
        gpu_cp_async_wait<0>();
        __syncthreads(); /* tile is here, nobody reads what next is put over, nor the probabilities before */
        next = kvt_next_tile<KEYS>(a, walk, &group);
        if (next.at >= 0) {
            piece *to = tiles + (turn ^ 1) * NK * KEYS * pitch;
            const int live = n - next.at * KEYS, first = next.at % KVT_GROUP * (KEYS / KVT_PAGE_SLOTS);
            const bool plain = FIXED && live >= KEYS; /* a whole tile */
            if constexpr (FIXED != 0)
                if (plain)
                    kvt_load_whole<KEYS, FIXED>(group.kv + first, 0, (unsigned char *)to);
            if (!plain)
                kvt_load_tile<K, KEYS>(group.kv + first, live, D, 0, DP, stride, to);
            kvt_load_positions<KEYS>(group.pos + first, key_pos[turn ^ 1]);
        }
        gpu_cp_async_commit();
        if (tile.at >= 0) {
            const int live = n - j0;
            const bool clear = kvt_all_seen<KEYS>(a, tile, live, low, high); /* nothing to be hidden, as in most tiles */
            const bool sinks = w.sink && tile.low < w.n_sink, near = w.local && tile.high > low - w.n_local; /* some of them here */
            float s[KEYS / 8][4];
            kvt_scores<K, KEYS, (FIXED ? FIXED / 16 : 1)>(q, tiles + turn * NK * KEYS * pitch, DP, s);
            if (a.cap2 > 0)
                kvt_cap_scores<KEYS>(a, by, s);
            float *out = p + r0 * p_pitch(KEYS) + lane % 4 * 2;
            if (clear)
                probabilities<KEYS, true>(s, by, most, inverse, 0, out, entropy);
            else
                probabilities<KEYS, false>(s, by, most, inverse, kvt_shown<KEYS>(a, at, key_pos[turn], live), out, entropy);
            if (sinks || near)
#pragma unroll
                for (int i = 0; i < KEYS / 8; i++)
#pragma unroll
                    for (int j = 0; j < 4; j++) {
                        int c = i * 8 + lane % 4 * 2 + j % 2, pos = c < live ? key_pos[turn][c] : 0; /* s is 0 there */
                        sink[j / 2] += pos < w.n_sink ? s[i][j] : 0;
                        local[j / 2] += at[j / 2] - pos < w.n_local ? s[i][j] : 0;
                    }
            __syncthreads();
            if (done < j0)
                fill_rows(w, a, t0, rows, h, last_row, done, j0, n);
            done = j0 + KEYS;
            if (mine < 0) {
                for (int c = threadIdx.x; c < KEYS; c += THREADS / 2)
                    if (j0 + c < n)
                        walk_column<KEYS>(w, p, row_pos, last_row, high, c, j0 + c, h, a.H);
            } else if (mine < rows) {
                walk_row<KEYS>(w, me, p, mine, t0 - w.T0 + mine, row_pos[mine], j0, n, h, a.H);
            }
            for (int i = threadIdx.x; whole && i < rows * KEYS; i += THREADS) {
                int r = i / KEYS, c = i % KEYS;
                float x = p[r * p_pitch(KEYS) + c];
                size_t to = (whole_at + (size_t)(t0 + r)) * (size_t)w.ld + (size_t)(j0 + c);
                if (w.rows && j0 + c < w.ld)
                    w.rows[to] = x;
                if (w.half && j0 + c < w.ld)
                    w.half[to] = __half_as_ushort(__float2half_rn(x * KVT_HALF_SCALE));
            }
            const int end = live < KEYS ? n : j0 + KEYS;
            if (w.C)
                walk_groups<KEYS>(bins, p, j0, end, next.at < 0, line, line_step, rows);
            if (w.n_segments)
                walk_groups<KEYS>(segments, p, j0, end, next.at < 0, line, line_step, rows);
        }
    }
    fill_rows(w, a, t0, rows, h, last_row, done, w.ld, n);
    for (int j = 0; row_sums && j < 2; j++) { /* four lanes have a row's columns */
        for (int i = 1; i < 4; i *= 2) {
            entropy[j] += __shfl_xor_sync(0xffffffffu, entropy[j], i);
            sink[j] += __shfl_xor_sync(0xffffffffu, sink[j], i);
            local[j] += __shfl_xor_sync(0xffffffffu, local[j], i);
        }
        if (lane % 4 || r0 + 8 * j >= rows)
            continue;
        size_t row = (size_t)h * (size_t)w.n_rows + (size_t)at[j];
        /* A = 2^power / sum, and all A are 1: -sum A ln A = ln 2 (log2 sum - sum A power), no logarithm of each and both terms above 0 */
        entropy[j] = 0.693147181f * (log2f(whole_sum[j]) - entropy[j]);
        if (w.entropy)
            w.entropy[row] = entropy[j];
        if (w.keys)
            w.keys[row] = expf(entropy[j]);
        if (w.sink)
            w.sink[row] = sink[j];
        if (w.local)
            w.local[row] = local[j];
    }
}

/* The first column of each bin: the least j with j C / n_rows >= bin. */
static __global__ void bins_kernel(int n_rows, int C, int32_t *start)
{
    int b = blockIdx.x * blockDim.x + threadIdx.x;
    if (b <= C)
        start[b] = (int32_t)(((int64_t)b * n_rows + C - 1) / C);
}

/* ---- launches ---- */

template <class K, int KEYS> static size_t shared_bytes(int DP)
{
    constexpr int NK = kvt_pieces<K>::NK;
    return (size_t)ROWS * p_pitch(KEYS) * sizeof(float) + (size_t)(kvt_pieces<K>::NQ * ROWS + 2 * NK * KEYS) * (size_t)(DP + KVT_PITCH) * 2;
}

template <class K, int KEYS, int FIXED>
static int launch(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, int DP, const struct kvt_row_sum *sums, const struct kvt_sweep *w)
{
    size_t bytes = shared_bytes<K, KEYS>(DP);
    int rc = kvt_cuda_failed(dev, cudaFuncSetAttribute(sweep_kernel<K, KEYS, FIXED>, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes), "attention's sweep");
    if (rc)
        return rc;
    GPU_LAUNCH((sweep_kernel<K, KEYS, FIXED>), dim3(kvt_blocks((size_t)w->T, ROWS), (unsigned)a->H), THREADS, bytes, dev->stream, *a, branch, bounds, pages, DP, sums, *w);
    return kvt_cuda_launched(dev, "attention's sweep");
}

template <class K>
static int launch_type(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, const struct kvt_row_sum *sums, const struct kvt_sweep *w)
{
    int DP = kvt_padded(a->p.D);
    if (!DP || shared_bytes<K, 32>(DP) + STATIC > dev->shared_most)
        return kvt_fail(&dev->err, KVT_EUNSUP, "attention's sweep: no kernel for heads of %d values on this device; use --backend cpu", a->p.D);
    if (DP > 128 || shared_bytes<K, 64>(DP) + STATIC > dev->shared_most)
        return launch<K, 32, 0>(dev, a, branch, bounds, pages, DP, sums, w);
    if constexpr (sizeof(K) == 2) {
        if (a->p.D == 64)
            return launch<K, 64, 64>(dev, a, branch, bounds, pages, DP, sums, w);
        if (a->p.D == 128)
            return launch<K, 64, 128>(dev, a, branch, bounds, pages, DP, sums, w);
    }
    return launch<K, 64, 0>(dev, a, branch, bounds, pages, DP, sums, w);
}

/* The caller's wishes, without memory. */
static struct kvt_sweep wishes(const struct kvt_see *see)
{
    struct kvt_sweep w = {};
    w.ld = see->ld, w.n_rows = see->n_rows;
    w.mass = see->mass, w.max_ = see->max, w.later = see->later && see->n_units;
    for (int i = 0; i < see->n_windows; i++) /* those without an array are left out here and in the sums */
        if (see->wmass[i])
            w.window[w.n_windows++] = see->window[i];
    for (int i = 0; i < see->n_squares; i++)
        if (see->sqmass[i])
            w.square[w.n_squares++] = see->square[i];
    w.max_from = see->max_from, w.n_units = see->n_units;
    w.keys_or_entropy = see->entropy || see->keys;
    w.n_sink = see->n_sink, w.n_local = see->n_local, w.far_from = see->far_from;
    w.n_kinds = w.mass + w.n_windows + w.n_squares + w.max_ + w.later;
    w.n_segments = see->spans ? see->n_segments : 0;
    w.bins = see->distance ? kvt_distance_bins(see->n_rows) : 0;
    w.n_offsets = see->offset ? see->n_offsets : 0;
    bool pool = see->pool_mean || see->pool_max;
    w.R = pool ? see->R : 0, w.C = pool ? see->C : 0;
    w.at_distance = w.n_segments;
    w.at_offset = w.at_distance + w.bins;
    w.at_sum = w.at_offset + w.n_offsets;
    w.at_max = w.at_sum + w.C;
    w.row_ld = w.at_max + w.C;
    w.last = see->last, w.entropy = see->entropy, w.keys = see->keys, w.sink = see->sink, w.local = see->local;
    w.top = see->top_k ? see->top : NULL, w.top_at = see->top_at, w.top_k = see->top_k;
    w.rows = see->rows, w.half = see->half, w.row_heads = see->rows || see->half ? see->row_heads : 0;
    return w;
}

/* Rows of a group: what its lines take stays below 256 MiB, but 64 rows there are in any case. */
static int group_rows(const struct kvt_attn_call *a, const struct kvt_sweep *w)
{
    size_t block = ((size_t)w->n_kinds * (size_t)w->ld + (size_t)ROWS * (size_t)w->row_ld) * (size_t)a->H * sizeof(float) + 1;
    size_t blocks = ((size_t)256 << 20) / block;
    blocks = blocks < 1 ? 1 : blocks;
    return blocks * ROWS > (size_t)a->T ? a->T : (int)blocks * ROWS;
}

size_t kvt_cuda_attn_sweep_bytes(const struct kvt_attn_call *a, const struct kvt_see *see)
{
    struct kvt_sweep w = wishes(see);
    size_t rows = (size_t)group_rows(a, &w), blocks = (rows + ROWS - 1) / ROWS;
    return aligned((size_t)(w.C + 1) * sizeof *w.bin) + aligned((size_t)w.n_kinds * blocks * (size_t)a->H * (size_t)w.ld * sizeof(float)) +
           rows * (size_t)a->H * (size_t)w.row_ld * sizeof(float);
}

int kvt_cuda_attn_sweep(struct kvt_dev *dev, const struct kvt_attn_call *a, int branch, const int2 *bounds, int pages, const struct kvt_row_sum *sums,
                        const struct kvt_see *see, const int32_t *host_pos, void *scratch)
{
    struct kvt_sweep w = wishes(see);
    int rc = 0, group = group_rows(a, &w);
    if (w.later && !(w.unit = (const int32_t *)kvt_cuda_post(dev, see->unit, 2 * (size_t)see->n_units * sizeof(int32_t))))
        return dev->err.code;
    if (w.n_offsets && !(w.offset_at = (const int32_t *)kvt_cuda_post(dev, see->offset_at, (size_t)see->n_offsets * sizeof(int32_t))))
        return dev->err.code;
    if (w.n_segments && !(w.segment = (const int32_t *)kvt_cuda_post(dev, see->segment, (size_t)(see->n_segments + 1) * sizeof(int32_t))))
        return dev->err.code;
    if (w.C) {
        w.bin = (int32_t *)scratch;
        scratch = (char *)scratch + aligned((size_t)(w.C + 1) * sizeof *w.bin);
        GPU_LAUNCH(bins_kernel, kvt_blocks((size_t)w.C + 1, 256), 256, 0, dev->stream, w.n_rows, w.C, w.bin);
    }
    for (w.T0 = 0; !rc && w.T0 < a->T; w.T0 += group) {
        w.T = a->T - w.T0 < group ? a->T - w.T0 : group;
        int blocks = (w.T + ROWS - 1) / ROWS;
        size_t columns = (size_t)w.n_kinds * (size_t)blocks * (size_t)a->H * (size_t)w.ld * sizeof(float);
        w.column = (float *)scratch;
        w.rowwise = (float *)((char *)scratch + aligned(columns));
        /* rows' lines are written whole but for bins of the map that a row sees nothing of, which nobody reads unless a window hides some */
        const bool whole = !a->window && !w.n_segments && !w.bins && !w.n_offsets;
        rc = kvt_cuda_zero(dev, scratch, aligned(columns) + (whole ? 0 : (size_t)w.T * (size_t)a->H * (size_t)w.row_ld * sizeof(float)));
        if (!rc)
            rc = a->p.type == KVT_F16    ? launch_type<__half>(dev, a, branch, bounds, pages, sums, &w)
                 : a->p.type == KVT_BF16 ? launch_type<__nv_bfloat16>(dev, a, branch, bounds, pages, sums, &w)
                                         : launch_type<float>(dev, a, branch, bounds, pages, sums, &w);
        if (!rc)
            rc = kvt_cuda_attn_sums(dev, &w, see, a->H, blocks, a->pos);
    }
    if (!rc && see->weight && host_pos[a->T - 1] == see->n_rows - 1)
        rc = kvt_cuda_attn_maps(dev, see, a->H);
    return rc;
}
