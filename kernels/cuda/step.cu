/* accumulate and contest: sums and TreeKV's contests while tokens come.
 *
 * accumulate: a thread for each (kv head, slot); it reads the group's rows of attention and its sum, neighbours neighbours.
 *
 * contest: a block for each row. A step has one slot too many: the two that compare are the slot at a rank of position, found by a
 * search (select.h) without sorting, and the next one. With more of them, contests come one after the other, but the place moves on by one
 * each time, so a sweep over the places compares neighbours two by two: of the list X (those held, then those that come) contest i of a
 * sweep from place t compares X[t + 2 i] with X[t + 2 i + 1], and all contests of a sweep are done at once. */
#include "kernels/cuda/select.h"

enum { THREADS = 256, HEADS = 128, BATCH_BYTES = 256 << 20 };

/* ---- accumulate ---- */

struct head_counts {         /* travels with the launch */
    int32_t held[HEADS], n[HEADS];
};

static __global__ void __launch_bounds__(THREADS) accumulate_kernel(struct kvt_accumulate_args a, struct head_counts c, int first)
{
    int head = (int)blockIdx.y, g = first + head, j = (int)(blockIdx.x * THREADS + threadIdx.x), m = a.H / a.G;
    if (j >= c.n[head])
        return;
    double got = group_received(a.row + (size_t)(g * m) * (size_t)a.row_ld + (size_t)j, a.row_ld, m, a.how, a.square);
    float *state = a.state + (size_t)g * (size_t)a.ld + (size_t)j;
    *state = (float)((j < c.held[head] ? (double)*state : 0) + got);
}

int kvt_cuda_accumulate(struct kvt_dev *dev, const struct kvt_accumulate_args *a)
{
    for (int first = 0; first < a->G; first += HEADS) {
        struct head_counts c = {};
        int heads = a->G - first < HEADS ? a->G - first : HEADS, most = 0;
        for (int g = 0; g < heads; g++) {
            c.held[g] = a->held[first + g];
            c.n[g] = a->n[first + g];
            most = c.n[g] > most ? c.n[g] : most;
        }
        if (most)
            GPU_LAUNCH(accumulate_kernel, dim3(kvt_blocks((size_t)most, THREADS), (unsigned)heads), THREADS, 0, dev->stream, *a, c, first);
    }
    return kvt_cuda_launched(dev, "accumulate");
}

/* ---- contest ---- */

/* Whether x is worth more than y: NaN is worth less than anything, and nothing to itself. */
static __device__ __forceinline__ bool higher(float x, float y) { return x == x && (y != y || x > y); }

struct contest_mem {         /* a row's share of the scratch */
    u64 *key;                /* (a power of two not below ld), only with pos */
    int32_t *coming;         /* (ld) unprotected slots in order of position */
    int32_t *list;           /* (2, ld) those held, before a sweep and after it */
    int ld;
    uint8_t *gone;           /* (ld) */
};

static __host__ __device__ size_t contest_bytes(int ld, int keys)
{
    return ((size_t)keys * sizeof(u64) + (size_t)ld * (3 * sizeof(int32_t) + 1) + 255) / 256 * 256;
}

/* Slots in order of position. */
static __device__ void in_order(const struct contest_mem *c, const int32_t *pos, int m, struct block_mem *mem)
{
    int wrong = 0, keys = 1;
    for (int i = (int)threadIdx.x; i + 1 < m; i += (int)blockDim.x)
        wrong |= pos[c->coming[i]] > pos[c->coming[i + 1]];
    if (!__syncthreads_or(wrong))
        return;
    while (keys < m)
        keys *= 2;
    for (int i = (int)threadIdx.x; i < keys; i += (int)blockDim.x)
        c->key[i] = i < m ? (u64)pos_key(pos[c->coming[i]]) << 32 | (unsigned)c->coming[i] : ~(u64)0;
    block_sort(c->key, keys);
    for (int i = (int)threadIdx.x; i < m; i += (int)blockDim.x)
        c->coming[i] = (int32_t)(unsigned)c->key[i];
    __syncthreads();
}

/* m > room >= 1. Returns the turn after the last contest. */
static __device__ int sweeps(const struct contest_mem *c, const float *score, int m, int room, int turn)
{
    const int32_t *held = c->coming;
    for (int next = room, side = 0; next < m; side = !side) {
        int contests = m - next < room - turn ? m - next : room - turn;
        const int32_t *come = c->coming + next;
        int32_t *to = c->list + side * c->ld;
        auto x = [=](int i) { return i < room ? held[i] : come[i - room]; };
        for (int i = (int)threadIdx.x; i < room; i += (int)blockDim.x) {
            int32_t slot = i < turn ? held[i] : x(i + contests);
            if (turn <= i && i < turn + contests) {
                int32_t one = x(2 * i - turn), other = x(2 * i - turn + 1);
                bool second = higher(score[one], score[other]); /* the second leaves */
                c->gone[second ? other : one] = 1;
                slot = second ? one : other;
            }
            to[i] = slot;
        }
        __syncthreads();
        held = to;
        next += contests;
        turn = (turn + contests) % room;
    }
    return turn;
}

/* With one slot too many: the loser of the contest at turn. one: shared. */
template <int BITS>
static __device__ int one_contest(const float *score, const uint8_t *protect, const int32_t *pos, int n, int turn, unsigned *hist, int *one,
                                  struct block_mem *mem)
{
    auto key = [=](int i, unsigned *x) {
        *x = pos ? pos_key(pos[i]) : (unsigned)i;
        return !is_safe(protect, i);
    };
    unsigned first = block_select<BITS>(n, key, [=](unsigned) { return (unsigned)turn + 1; }, false, hist, mem).key;
    u64 next = 0; /* the least key after it, from the other end; with its slot */
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        unsigned x;
        bool in = key(i, &x);
        if (in && x == first)
            *one = i;
        u64 back = (u64)~x << 32 | (unsigned)i;
        next = in && x > first && back > next ? back : next;
    }
    int other = (int)(unsigned)block_largest(next, mem); /* its barriers make *one known */
    return higher(score[*one], score[other]) ? other : *one;
}

template <int BITS, int THREADS_>
static __global__ void __launch_bounds__(THREADS_, 1024 / THREADS_) contest_kernel(struct kvt_contest_args a, int r0, int keys, unsigned char *scratch)
{
    __shared__ unsigned hist[1 << BITS];
    __shared__ struct block_mem mem;
    __shared__ int one;
    int r = r0 + (int)blockIdx.x, n = a.n[r], ld = a.ld;
    size_t row = (size_t)r * (size_t)ld;
    const float *score = a.score + row;
    const uint8_t *protect = a.protect ? a.protect + row : NULL;
    const int32_t *pos = a.pos ? a.pos + row : NULL;
    int32_t *left = a.left ? a.left + row : NULL;
    float *stay = a.stay ? a.stay + row : NULL;
    long long safe = 0;
    for (int i = (int)threadIdx.x; protect && i < n; i += (int)blockDim.x)
        safe += protect[i] != 0;
    safe = protect ? block_sum(safe, &mem) : 0;
    int m = n - (int)safe, room = a.budget[r] - (int)safe, turn = a.turn[r], n_left = 0;
    turn = turn < room ? turn : 0;
    if (m <= room || (m == room + 1 && room >= 1)) { /* none, or one */
        int out = m > room ? one_contest<BITS>(score, protect, pos, n, turn, hist, &one, &mem) : -1;
        for (int i = (int)threadIdx.x; stay && i < n; i += (int)blockDim.x)
            stay[i] = i != out;
        n_left = out >= 0;
        if (threadIdx.x == 0 && n_left) {
            a.turn[r] = (turn + 1) % room;
            if (left)
                left[0] = out;
        }
    } else {
        unsigned char *own = scratch + (size_t)blockIdx.x * contest_bytes(ld, keys);
        struct contest_mem c = {(u64 *)own, (int32_t *)(own + (size_t)keys * sizeof(u64)), NULL, ld, NULL};
        c.list = c.coming + ld;
        c.gone = (uint8_t *)(c.list + 2 * (size_t)ld);
        for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x)
            c.gone[i] = room < 1 && !is_safe(protect, i);
        if (room >= 1) {
            auto others = [=](int i) { return !is_safe(protect, i); };
            block_keep(n, others, [](int, bool) {}, c.coming, NULL, &mem);
            __syncthreads();
            if (pos)
                in_order(&c, pos, m, &mem);
            turn = sweeps(&c, score, m, room, turn);
            if (threadIdx.x == 0)
                a.turn[r] = turn;
        }
        __syncthreads();
        const uint8_t *gone = c.gone;
        auto tell = [=](int i, bool in) {
            if (stay)
                stay[i] = in;
        };
        n_left = n - block_keep(n, [=](int i) { return !gone[i]; }, tell, NULL, left, &mem);
    }
    if (threadIdx.x == 0 && a.n_left)
        a.n_left[r] = n_left;
}

int kvt_cuda_contest(struct kvt_dev *dev, const struct kvt_contest_args *a)
{
    if (a->R <= 0)
        return 0;
    int keys = a->pos ? power_of_two((size_t)a->ld) : 0;
    size_t bytes = contest_bytes(a->ld, keys);
    int batch = bytes * (size_t)a->R <= BATCH_BYTES ? a->R : bytes < BATCH_BYTES ? (int)(BATCH_BYTES / bytes) : 1;
    unsigned char *scratch = (unsigned char *)kvt_cuda_scratch(dev, bytes * (size_t)batch);
    if (!scratch)
        return KVT_ENOMEM;
    for (int r = 0; r < a->R; r += batch) {
        unsigned rows = (unsigned)(a->R - r < batch ? a->R - r : batch);
        if (a->ld <= SHORT_ROW)
            GPU_LAUNCH((contest_kernel<8, 256>), rows, 256, 0, dev->stream, *a, r, keys, scratch);
        else
            GPU_LAUNCH((contest_kernel<11, 1024>), rows, 1024, 0, dev->stream, *a, r, keys, scratch);
    }
    return kvt_cuda_launched(dev, "contest");
}
