/* What the threads of a block do together where something is chosen: sums, a scan, the k-th of many keys, the slots that stay in order,
 * a sort. All of it in integers, so that a result doesn't depend on how the threads run. Every thread of the block calls these, with
 * the same arguments where they aren't a thread's own; blocks are of 32, 64 ... 1024 threads, one-dimensional.
 *
 * The k-th of many keys is found digit by digit from the top: a histogram of the keys that begin as the ones found so far tells where
 * the rank lies. Keys are read once a digit (11 bits: three times; they come from L2 after the first), nothing is written. A thread
 * counts runs of one digit before it adds them, since scores of one magnitude share their first digit. */
#ifndef KVT_KERNELS_CUDA_SELECT_H
#define KVT_KERNELS_CUDA_SELECT_H

#include "kernels/cuda/cuda.h"

typedef unsigned long long u64;

enum { SHORT_ROW = 4096 };   /* up to here 256 threads and digits of 8 bits are enough for a row */

/* Keys ascend from the best score to the worst: both zeros are one, NaN comes last. */
static __device__ __forceinline__ unsigned score_key(float x)
{
    if (x != x)
        return 0xffffffffu;
    unsigned u = x == 0 ? 0 : __float_as_uint(x);
    return u & 0x80000000u ? u : ~u & 0x7fffffffu;
}

static __device__ __forceinline__ float key_score(unsigned key) { return __uint_as_float(key & 0x80000000u ? key : ~key & 0x7fffffffu); }

/* A position as a key: ascending. */
static __device__ __forceinline__ unsigned pos_key(int32_t pos) { return (unsigned)pos ^ 0x80000000u; }

static __device__ __forceinline__ bool is_safe(const uint8_t *protect, int i) { return protect && protect[i]; }

/* What a decode row gives a slot: f of it (the value, or its square) reduced over the m heads of a group, the first of which is at `row`. */
static __device__ __forceinline__ double group_received(const float *row, int row_ld, int m, enum kvt_group how, bool square)
{
    double sum = 0, most = -INFINITY;
    for (int h = 0; h < m; h++) {
        double x = row[(size_t)h * (size_t)row_ld];
        x = square ? x * x : x;
        sum += x;
        most = x > most ? x : most;
    }
    return how == KVT_GROUP_MAX ? most : how == KVT_GROUP_MEAN ? sum / m : sum;
}

struct block_mem {           /* shared memory of the functions below; used again by each */
    unsigned warp[33];
    unsigned found[3];
    u64 wide[32];
};

/* The sum of x over the threads before this one; *total: over all. */
static __device__ unsigned block_scan(unsigned x, struct block_mem *m, unsigned *total)
{
    unsigned lane = threadIdx.x % 32, w = threadIdx.x / 32, sum = x;
    for (unsigned d = 1; d < 32; d *= 2) {
        unsigned before = __shfl_up_sync(0xffffffffu, sum, d);
        sum += lane >= d ? before : 0;
    }
    if (lane == 31)
        m->warp[w] = sum;
    __syncthreads();
    if (w == 0) {
        unsigned own = lane < blockDim.x / 32 ? m->warp[lane] : 0, all = own;
        for (unsigned d = 1; d < 32; d *= 2) {
            unsigned before = __shfl_up_sync(0xffffffffu, all, d);
            all += lane >= d ? before : 0;
        }
        __syncwarp();
        m->warp[lane] = all - own;
        if (lane == 31)
            m->warp[32] = all;
    }
    __syncthreads();
    unsigned out = m->warp[w] + sum - x;
    *total = m->warp[32];
    __syncthreads();
    return out;
}

/* The sum, or the largest, of x over all threads, given to all. */
template <bool LARGEST> static __device__ u64 block_reduce(u64 x, struct block_mem *m)
{
    unsigned lane = threadIdx.x % 32, w = threadIdx.x / 32;
    for (unsigned d = 16; d > 0; d /= 2) {
        u64 y = __shfl_xor_sync(0xffffffffu, x, d);
        x = LARGEST ? (y > x ? y : x) : x + y;
    }
    if (lane == 0)
        m->wide[w] = x;
    __syncthreads();
    x = lane < blockDim.x / 32 ? m->wide[lane] : 0;
    for (unsigned d = 16; d > 0; d /= 2) {
        u64 y = __shfl_xor_sync(0xffffffffu, x, d);
        x = LARGEST ? (y > x ? y : x) : x + y;
    }
    __syncthreads();
    return x;
}
static __device__ __forceinline__ long long block_sum(long long x, struct block_mem *m) { return (long long)block_reduce<false>((u64)x, m); }
static __device__ __forceinline__ u64 block_largest(u64 x, struct block_mem *m) { return block_reduce<true>(x, m); }

/* A thread's share of a histogram in shared memory. */
struct run_count {
    unsigned digit, count;
};
static __device__ __forceinline__ void count_digit(unsigned *hist, struct run_count *run, unsigned digit)
{
    if (digit != run->digit) {
        if (run->count)
            atomicAdd(&hist[run->digit], run->count);
        run->digit = digit;
        run->count = 0;
    }
    run->count++;
}
static __device__ __forceinline__ void count_last(unsigned *hist, const struct run_count *run)
{
    if (run->count)
        atomicAdd(&hist[run->digit], run->count);
}

/* Where rank k (from 1, at most the total) falls in a histogram of `bins`, a power of two and at least a block's threads: the
 * bin into found[0], the rank inside it into found[1], what the bin holds into found[2]. Read between two barriers of the caller. */
static __device__ void find_bin(const unsigned *hist, int bins, unsigned k, unsigned before, struct block_mem *m)
{
    int own = bins / (int)blockDim.x;
    for (int b = (int)threadIdx.x * own; b < ((int)threadIdx.x + 1) * own; b++) {
        unsigned here = hist[b];
        if (before < k && k <= before + here) {
            m->found[0] = (unsigned)b;
            m->found[1] = k - before;
            m->found[2] = here;
        }
        before += here;
    }
}
/* What this thread's bins hold. */
static __device__ unsigned own_bins(const unsigned *hist, int bins)
{
    int own = bins / (int)blockDim.x;
    unsigned sum = 0;
    for (int b = (int)threadIdx.x * own; b < ((int)threadIdx.x + 1) * own; b++)
        sum += hist[b];
    return sum;
}

struct ranked {
    unsigned key;            /* the k-th */
    unsigned need, same;     /* of `same` equal ones, so many are among the first k */
    unsigned k, total;
};

/* The k-th smallest of the keys of places 0 .. n - 1 that have one: key(i, &x) says so. k = rank(total), at most total; at 0 the search
 * ends, and with `whole` at total too (as if all keys were the same). hist: shared, (1 << BITS), at least a block's threads. */
template <int BITS, class Key, class Rank>
static __device__ struct ranked block_select(int n, const Key &key, const Rank &rank, bool whole, unsigned *hist, struct block_mem *m)
{
    struct ranked out = {0, 0, 0, 0, 0};
    for (int shift = 32; shift > 0;) {
        int top = shift, bits = shift < BITS ? shift : BITS;
        shift -= bits;
        for (int b = (int)threadIdx.x; b < 1 << BITS; b += (int)blockDim.x)
            hist[b] = 0;
        __syncthreads();
        struct run_count run = {0, 0};
        for (int at = (int)threadIdx.x; at < n; at += 4 * (int)blockDim.x) {
            unsigned x[4];
            bool has[4];
#pragma unroll
            for (int u = 0; u < 4; u++) {
                int i = at + u * (int)blockDim.x;
                x[u] = 0;
                has[u] = i < n && key(i, &x[u]);
            }
#pragma unroll
            for (int u = 0; u < 4; u++)
                if (has[u] && (top == 32 || x[u] >> top == out.key))
                    count_digit(hist, &run, x[u] >> shift & ((1u << bits) - 1));
        }
        count_last(hist, &run);
        __syncthreads();
        unsigned total, before = block_scan(own_bins(hist, 1 << BITS), m, &total);
        if (top == 32) {
            out.total = total;
            out.need = out.k = rank(total);
            out.same = total;
            if (!out.k || (whole && out.k == total)) {
                out.key = 0xffffffffu;
                return out;
            }
        }
        find_bin(hist, 1 << BITS, out.need, before, m);
        __syncthreads();
        out.key = out.key << bits | m->found[0];
        out.need = m->found[1];
        out.same = m->found[2];
    }
    __syncthreads();
    return out;
}

struct last_kept {           /* what stays of a row's unprotected slots */
    unsigned key, place;     /* (key, place) up to this */
    unsigned others;
    bool none, all;
};

/* The best of a row, room slots in all with the protected ones; a tie goes to the earlier pos, or slot where pos is NULL. whole: where
 * all stay, it needn't be known which is the last. */
template <int BITS>
static __device__ struct last_kept select_row(const float *score, const uint8_t *protect, const int32_t *pos, int n, int room, bool whole,
                                              unsigned *hist, struct block_mem *m)
{
    auto key = [=](int i, unsigned *x) {
        *x = score_key(score[i]);
        return !is_safe(protect, i);
    };
    auto rank = [=](unsigned others) {
        int left = room - (n - (int)others);
        return left < 0 ? 0u : (unsigned)left < others ? (unsigned)left : others;
    };
    struct ranked last = block_select<BITS>(n, key, rank, whole, hist, m);
    struct last_kept out = {last.key, 0xffffffffu, last.total, !last.k, (int)last.total <= room - (n - (int)last.total)};
    if (last.need < last.same) {
        auto place = [=](int i, unsigned *x) {
            *x = pos ? pos_key(pos[i]) : (unsigned)i;
            return !is_safe(protect, i) && score_key(score[i]) == last.key;
        };
        auto need = [=](unsigned) { return last.need; };
        if (last.k)
            out.place = block_select<BITS>(n, place, need, true, hist, m).key;
    }
    return out;
}

static __device__ __forceinline__ bool stays(struct last_kept last, const float *score, const int32_t *pos, int i)
{
    unsigned key = score_key(score[i]);
    return !last.none && (key < last.key || (key == last.key && (pos ? pos_key(pos[i]) : (unsigned)i) <= last.place));
}

/* Slots 0 .. n - 1 in order: those for which stay(i) holds into kept, ascending, the others into left, descending (either may be
 * NULL). Returns how many stay; tell(i, stays) is called once for each slot. A warp has a stretch of its own: it counts, learns
 * how many stay before it, and writes. */
template <class Stay, class Tell>
static __device__ int block_keep(int n, const Stay &stay, const Tell &tell, int32_t *kept, int32_t *left, struct block_mem *m)
{
    int lane = (int)threadIdx.x % 32, warps = (int)blockDim.x / 32;
    int stretch = ((n + warps - 1) / warps + 31) / 32 * 32, from = (int)threadIdx.x / 32 * stretch, to = from + stretch < n ? from + stretch : n;
    unsigned count = 0, total;
    for (int at = from; at < to; at += 32)
        count += (unsigned)__popc(__ballot_sync(0xffffffffu, at + lane < to && stay(at + lane)));
    unsigned before = __shfl_sync(0xffffffffu, block_scan(lane ? 0 : count, m, &total), 0);
    int n_left = n - (int)total;
    for (int at = from; at < to; at += 32) {
        int i = at + lane;
        bool in = i < to, stays = in && stay(i);
        unsigned votes = __ballot_sync(0xffffffffu, stays);
        int rank = (int)before + __popc(votes & ((1u << lane) - 1));
        if (stays && kept)
            kept[rank] = i;
        if (in && !stays && left)
            left[n_left - 1 - (i - rank)] = i;
        if (in)
            tell(i, stays);
        before += (unsigned)__popc(votes);
    }
    return (int)total;
}

/* Sorts n keys, n a power of two, ascending: bitonic merges, in shared or global memory. */
static __device__ void block_sort(u64 *x, int n)
{
    for (int size = 2; size <= n; size *= 2)
        for (int step = size / 2; step > 0; step /= 2) {
            __syncthreads();
            for (int t = (int)threadIdx.x; t < n / 2; t += (int)blockDim.x) {
                int i = 2 * t - (t & (step - 1)), j = i + step;
                u64 a = x[i], b = x[j];
                if ((a > b) == !(i & size)) {
                    x[i] = b;
                    x[j] = a;
                }
            }
        }
    __syncthreads();
}

/* topk.cu: the slots of each row of `stay` (R, ld) whose byte isn't 0, ascending, and how many they are; reason from the row's end on.
 * A row has n[r] slots, or `every` where n is NULL. */
void kvt_cuda_gather(struct kvt_dev *dev, const uint8_t *stay, const int32_t *n, int every, int R, int ld, int32_t *kept, int32_t *n_kept,
                     uint8_t *reason);

/* Where a part of the scratch of `bytes` begins, when *at are spoken for. */
static inline size_t set_aside(size_t *at, size_t bytes)
{
    size_t here = *at;
    *at += (bytes + 255) / 256 * 256;
    return here;
}

/* The least power of two that isn't below n. */
static inline int power_of_two(size_t n)
{
    int p = 1;
    while ((size_t)p < n)
        p *= 2;
    return p;
}

#endif
