/* pick_units: whole units, by score while they fit, or by the largest sum.
 *
 * Four steps: what each unit costs (a warp each); which units stay (a block for each set of rows that compete, or for each row of the
 * knapsack); what that means for slots (a thread each, its unit found by bisection); the slots that stay, in order (topk.cu).
 *
 * In order of score the outcome of one unit decides about the next, but seldom within 32 of them: a warp takes 32 units of the sorted order
 * at a time, and of those that may still fit all up to the first that is too much at once. The knapsack is the usual table over the budget,
 * a thread for each of its columns: two lines of sums, and one bit for each cell to walk back along. */
#include "kernels/cuda/select.h"

enum { THREADS = 256, PICKERS = 1024, SHARED_KEYS = 4096, BATCH_BYTES = 256 << 20 };

struct units_mem {           /* scratch */
    int32_t *cost;           /* (R, S) slots that stay only with the unit */
    uint8_t *verdict;        /* (R, S) KVT_KEPT_PROTECTED (no candidate), KVT_KEPT_UNIT, KVT_LEFT_UNIT, KVT_LEFT_BUDGET */
    uint8_t *whole;          /* (R) nothing of the row leaves */
    uint8_t *stay;           /* (R, ld) */
    u64 *key;                /* (sets, keys) where shared memory is too small for them */
    int keys;                /* a power of two not below the units of a set */
    unsigned char *table;    /* knapsack: of each row of a batch */
    size_t table_bytes;
};

/* A warp for each (row, unit). */
static __global__ void __launch_bounds__(THREADS) cost_kernel(struct kvt_pick_units_args a, struct units_mem d)
{
    size_t u = ((size_t)blockIdx.x * THREADS + threadIdx.x) / 32, S = (size_t)a.S;
    if (u >= (size_t)a.R * S)
        return;
    int from = a.seg[u % S], to = a.seg[u % S + 1], lane = (int)threadIdx.x % 32, cost = to - from;
    if (a.protect) {
        const uint8_t *protect = a.protect + u / S * (size_t)a.ld;
        cost = 0;
        for (int j = from + lane; j < to; j += 32)
            cost += !protect[j];
        cost = __reduce_add_sync(0xffffffffu, cost);
    }
    if (lane == 0) {
        d.cost[u] = cost;
        d.verdict[u] = a.candidate && !a.candidate[u % S] ? KVT_KEPT_PROTECTED : KVT_LEFT_UNIT;
    }
}

/* What stays of rows r .. r + per - 1 in any case. */
static __device__ long long must_stay(const struct kvt_pick_units_args &a, const struct units_mem &d, int r, int per, struct block_mem *mem)
{
    long long used = 0;
    for (int u = (int)threadIdx.x; u < per * a.S; u += (int)blockDim.x)
        used += !a.candidate || a.candidate[u % a.S] ? d.cost[(size_t)r * (size_t)a.S + (size_t)u] : 0;
    return (long long)per * a.n - block_sum(used, mem);
}

/* What the verdicts on a row's units mean for the row; a warp. */
static __device__ void row_outcome(const struct kvt_pick_units_args &a, const struct units_mem &d, int r)
{
    size_t first = (size_t)r * (size_t)a.S;
    bool whole = true;
    unsigned last = 0; /* the key of the worst unit that stays; no key of a score is 0 */
    for (int s = (int)threadIdx.x % 32; s < a.S; s += 32) {
        uint8_t v = d.verdict[first + (size_t)s];
        bool in = v == KVT_KEPT_UNIT || v == KVT_KEPT_PROTECTED;
        whole &= in || !d.cost[first + (size_t)s];
        unsigned key = v == KVT_KEPT_UNIT ? score_key(a.score[first + (size_t)s]) : 0;
        last = key > last ? key : last;
        if (a.unit_kept)
            a.unit_kept[first + (size_t)s] = in;
    }
    whole = __all_sync(0xffffffffu, whole);
    last = __reduce_max_sync(0xffffffffu, last);
    if (threadIdx.x % 32)
        return;
    d.whole[r] = whole;
    if (a.threshold)
        a.threshold[r] = last ? key_score(last) : INFINITY;
}

/* ---- in order of score ---- */

static __device__ __forceinline__ int warp_scan(int x) /* inclusive */
{
    for (unsigned step = 1; step < 32; step *= 2) {
        int before = __shfl_up_sync(0xffffffffu, x, step);
        x += threadIdx.x % 32 >= step ? before : 0;
    }
    return x;
}

/* 32 units in order, one a lane, beginning with the at-th of the set: which stay. used: what is taken before them. *over: at the first
 * that doesn't fit, STOP ends. */
static __device__ bool fits(const struct kvt_pick_units_args &a, int at, bool in, int cost, long long used, long long budget, bool *over)
{
    int lane = (int)threadIdx.x % 32;
    bool forced = in && at + lane < a.min_units, stays = forced, open = in && !forced;
    if (a.max_units >= 0) {
        *over = at + 32 >= a.max_units;
        return in && at + lane < a.max_units;
    }
    used += __reduce_add_sync(0xffffffffu, forced ? cost : 0);
    for (;;) {
        open = open && (a.overflow == KVT_OVERFLOW_STOP || cost <= budget - used); /* what doesn't fit now never will */
        if (!__any_sync(0xffffffffu, open))
            return stays;
        int sum = warp_scan(open ? cost : 0);
        unsigned much = __ballot_sync(0xffffffffu, open && used + sum > budget);
        int first = much ? __ffs((int)much) - 1 : 32;
        bool take = open && lane < first;
        stays = stays || take;
        open = open && !take;
        used += __reduce_add_sync(0xffffffffu, take ? cost : 0);
        if (much && a.overflow == KVT_OVERFLOW_STOP) {
            *over = true;
            return stays;
        }
    }
}

/* A block for each set of `per` rows. */
static __global__ void __launch_bounds__(PICKERS, 1) greedy_kernel(struct kvt_pick_units_args a, struct units_mem d, int per)
{
    __shared__ struct block_mem mem;
    GPU_DYN_SHARED(u64, shared_key);
    int r0 = (int)blockIdx.x * per, S = a.S, units = 0;
    u64 *key = d.key ? d.key + (size_t)blockIdx.x * (size_t)d.keys : shared_key;
    size_t first = (size_t)r0 * (size_t)S;
    for (int k = (int)threadIdx.x; k < d.keys; k += (int)blockDim.x) {
        u64 x = ~(u64)0; /* after all: no place is so large */
        if (k < per * S && (!a.candidate || a.candidate[k % S])) {
            x = (u64)score_key(a.score[first + (size_t)k]) << 32 | ((unsigned)(k % S) * (unsigned)per + (unsigned)(k / S));
            units++;
        }
        key[k] = x;
    }
    units = (int)block_sum(units, &mem);
    long long used = must_stay(a, d, r0, per, &mem), budget = 0;
    for (int i = 0; i < per; i++)
        budget += a.budget ? a.budget[r0 + i] : 0;
    block_sort(key, d.keys);
    bool over = false;
    for (int at = 0; threadIdx.x < 32 && at < units && !over; at += 32) {
        int lane = (int)threadIdx.x;
        bool in = at + lane < units;
        unsigned where = in ? (unsigned)key[at + lane] : 0;
        size_t u = first + (size_t)(where % (unsigned)per) * (size_t)S + where / (unsigned)per;
        int cost = in ? d.cost[u] : 0;
        bool stays = fits(a, at, in, cost, used, budget, &over);
        int before = warp_scan(stays ? cost : 0);
        unsigned left = __ballot_sync(0xffffffffu, in && !stays);
        bool turn = !over || lane <= __ffs((int)left) - 1; /* of those that leave, STOP looks at one */
        if (stays)
            d.verdict[u] = KVT_KEPT_UNIT;
        else if (in && turn && a.max_units < 0 && used + before < budget)
            d.verdict[u] = KVT_LEFT_BUDGET;
        used += __shfl_sync(0xffffffffu, before, 31);
    }
    __syncthreads();
    for (int i = (int)threadIdx.x / 32; i < per; i += (int)blockDim.x / 32)
        row_outcome(a, d, r0 + i);
}

/* ---- the knapsack ---- */

static size_t knapsack_words(int n) { return ((size_t)n + 1 + 31) / 32; } /* of a line of bits */
static size_t knapsack_bytes(int S, int n) /* of a row */
{
    return (knapsack_words(n) * (2 * 32 * sizeof(double) + (size_t)S * sizeof(unsigned)) + 255) / 256 * 256;
}

/* A block for each row. best(s, w): the value of units s .. S - 1 in w slots; a bit says whether s is among them. */
static __global__ void __launch_bounds__(PICKERS, 1) knapsack_kernel(struct kvt_pick_units_args a, struct units_mem d, int r0)
{
    __shared__ struct block_mem mem;
    int r = r0 + (int)blockIdx.x, S = a.S, words = (a.n + 1 + 31) / 32;
    size_t first = (size_t)r * (size_t)S;
    double *line = (double *)(d.table + (size_t)blockIdx.x * d.table_bytes);
    unsigned *takes = (unsigned *)(line + (size_t)words * 64);
    long long used = must_stay(a, d, r, 1, &mem);
    int room = (int)((a.budget[r] < a.n ? a.budget[r] : a.n) - used), wide = room < 0 ? 0 : room / 32 + 1; /* words in use */
    for (int w = (int)threadIdx.x; w < wide * 32; w += (int)blockDim.x)
        line[w] = 0;
    __syncthreads();
    for (int s = S - 1; s >= 0; s--) {
        const double *from = line + (size_t)((S - 1 - s) % 2) * (size_t)words * 32;
        double *to = line + (size_t)((S - s) % 2) * (size_t)words * 32;
        bool may = !a.candidate || a.candidate[s];
        int cost = d.cost[first + (size_t)s];
        float score = a.score[first + (size_t)s];
        double value = score > 0 ? (double)score : 0;
        for (int w = (int)threadIdx.x; w < wide * 32; w += (int)blockDim.x) {
            double without = from[w], with = may && cost <= w ? from[w - cost] + value : -1;
            to[w] = with > without ? with : without;
            unsigned take = __ballot_sync(0xffffffffu, may && cost <= w && with >= without);
            if (w % 32 == 0)
                takes[(size_t)s * (size_t)words + (size_t)(w / 32)] = take;
        }
        __syncthreads();
    }
    u64 best = 0; /* ~ of the best unit: its key, then its place */
    for (int s = (int)threadIdx.x; s < S; s += (int)blockDim.x) {
        u64 x = ~((u64)score_key(a.score[first + (size_t)s]) << 32 | (unsigned)s);
        if (!a.candidate || a.candidate[s])
            best = x > best ? x : best;
    }
    best = block_largest(best, &mem);
    __shared__ float worst;
    if (threadIdx.x == 0) {
        int w = room, units = 0;
        float least = INFINITY;
        for (int s = 0; room >= 0 && s < S; s++) {
            if (!(takes[(size_t)s * (size_t)words + (size_t)(w / 32)] >> (w % 32) & 1))
                continue;
            float score = a.score[first + (size_t)s];
            d.verdict[first + (size_t)s] = KVT_KEPT_UNIT;
            w -= d.cost[first + (size_t)s];
            units++;
            least = score < least ? score : least;
        }
        if (!units && a.min_units && best)
            d.verdict[first + (size_t)(unsigned)~best] = KVT_KEPT_UNIT;
        worst = least;
    }
    __syncthreads();
    for (int s = (int)threadIdx.x; s < S; s += (int)blockDim.x) /* better than one that stays, and too long for the best sum */
        if (d.verdict[first + (size_t)s] == KVT_LEFT_UNIT && a.score[first + (size_t)s] > worst)
            d.verdict[first + (size_t)s] = KVT_LEFT_BUDGET;
    __syncthreads();
    if (threadIdx.x < 32)
        row_outcome(a, d, r);
}

/* ---- from units to slots ---- */

static __global__ void __launch_bounds__(THREADS) spread_kernel(struct kvt_pick_units_args a, struct units_mem d)
{
    unsigned blocks = (unsigned)(a.ld + THREADS - 1) / THREADS;
    int r = (int)(blockIdx.x / blocks), j = (int)(blockIdx.x % blocks) * THREADS + (int)threadIdx.x;
    size_t at = (size_t)r * (size_t)a.ld + (size_t)j;
    if (j >= a.n) {
        if (a.reason && j < a.ld)
            a.reason[at] = KVT_REASON_NONE;
        return;
    }
    int low = 0, high = a.S; /* the first unit that ends after j */
    while (low < high) {
        int middle = (low + high) / 2;
        if (j < a.seg[middle + 1])
            high = middle;
        else
            low = middle + 1;
    }
    uint8_t v = low < a.S && j >= a.seg[low] ? d.verdict[(size_t)r * (size_t)a.S + (size_t)low] : KVT_KEPT_PROTECTED;
    uint8_t safe = a.protect ? a.protect[at] : 0;
    d.stay[at] = safe || v == KVT_KEPT_UNIT || v == KVT_KEPT_PROTECTED;
    if (a.reason)
        a.reason[at] = safe ? safe : d.whole[r] && v == KVT_KEPT_UNIT ? (uint8_t)KVT_KEPT_ALL : v;
}

int kvt_cuda_pick_units(struct kvt_dev *dev, const struct kvt_pick_units_args *a)
{
    if (a->R <= 0)
        return 0;
    int per = a->per > 1 ? a->per : 1, keys = power_of_two((size_t)per * (size_t)a->S), batch = 0;
    bool knapsack = a->overflow == KVT_OVERFLOW_KNAPSACK && a->max_units < 0;
    size_t R = (size_t)a->R, units = R * (size_t)a->S, at = 0, table_bytes = 0;
    size_t cost = set_aside(&at, units * sizeof(int32_t)), verdict = set_aside(&at, units), whole = set_aside(&at, R);
    size_t stay = set_aside(&at, R * (size_t)a->ld);
    size_t key = set_aside(&at, !knapsack && keys > SHARED_KEYS ? R / (size_t)per * (size_t)keys * sizeof(u64) : 0);
    if (knapsack) {
        table_bytes = knapsack_bytes(a->S, a->n);
        batch = table_bytes * R <= BATCH_BYTES ? a->R : table_bytes < BATCH_BYTES ? (int)(BATCH_BYTES / table_bytes) : 1;
    }
    size_t table = set_aside(&at, (size_t)batch * table_bytes);
    unsigned char *mem = (unsigned char *)kvt_cuda_scratch(dev, at);
    if (!mem)
        return KVT_ENOMEM;
    struct units_mem d = {(int32_t *)(mem + cost), mem + verdict, mem + whole, mem + stay, keys > SHARED_KEYS ? (u64 *)(mem + key) : NULL,
                          keys, mem + table, table_bytes};
    if (units)
        GPU_LAUNCH(cost_kernel, kvt_blocks(units, THREADS / 32), THREADS, 0, dev->stream, *a, d);
    int threads = knapsack ? PICKERS : keys <= 512 ? THREADS : PICKERS;
    for (int r = 0; knapsack && r < a->R; r += batch)
        GPU_LAUNCH(knapsack_kernel, (unsigned)(a->R - r < batch ? a->R - r : batch), threads, 0, dev->stream, *a, d, r);
    if (!knapsack)
        GPU_LAUNCH(greedy_kernel, (unsigned)(a->R / per), threads, d.key ? 0 : (size_t)keys * sizeof(u64), dev->stream, *a, d, per);
    if (a->ld > 0)
        GPU_LAUNCH(spread_kernel, (unsigned)R * kvt_blocks((size_t)a->ld, THREADS), THREADS, 0, dev->stream, *a, d);
    kvt_cuda_gather(dev, d.stay, NULL, a->n, a->R, a->ld, a->kept, a->n_kept, NULL);
    return kvt_cuda_launched(dev, "pick_units");
}
