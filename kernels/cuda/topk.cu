/* topk and topk_within: a block for each row (or stretch of a row).
 *
 * The block finds the key of the last score that stays and, where equal scores compete, the last position (select.h); then each warp
 * writes the slots of its stretch in order. A row is read five times (three digits, a count, the writing), eight where ties
 * are broken; all but the first come from L2. The counts, the room and the search never leave the device. A step's question, who is
 * the one that leaves, is one pass: the largest of (key, position).
 *
 * Rows up to 4096 slots: 256 threads and digits of 8 bits (a histogram of 256 costs less than the row); longer ones: 1024 and 11. */
#include "kernels/cuda/select.h"

static __device__ __forceinline__ uint8_t reason_of(const uint8_t *protect, int i, bool all, bool stays)
{
    return is_safe(protect, i) ? protect[i] : all ? KVT_KEPT_ALL : stays ? KVT_KEPT_SCORE : KVT_LEFT_SCORE;
}

/* The only slot that leaves; -1: all are protected. */
static __device__ int one_leaves(const float *score, const uint8_t *protect, const int32_t *pos, int n, struct block_mem *m, int *where)
{
    u64 worst = 0;
    bool any = false;
    int at = -1;
    for (int i = (int)threadIdx.x; i < n; i += (int)blockDim.x) {
        if (is_safe(protect, i))
            continue;
        u64 x = (u64)score_key(score[i]) << 32 | (pos ? pos_key(pos[i]) : (unsigned)i);
        if (!any || x > worst) {
            worst = x;
            at = i;
        }
        any = true;
    }
    if (threadIdx.x == 0)
        *where = -1;
    u64 all = block_largest(worst, m); /* 0, what a thread without slots gives, is no score's key */
    if (any && worst == all)
        *where = at;
    __syncthreads();
    return *where;
}

template <int BITS, int THREADS> static __global__ void __launch_bounds__(THREADS, 1024 / THREADS) topk_kernel(struct kvt_topk_args a)
{
    __shared__ unsigned hist[1 << BITS];
    __shared__ struct block_mem mem;
    __shared__ int where;
    int r = (int)blockIdx.x, n = a.n[r], room = a.budget[r];
    size_t row = (size_t)r * (size_t)a.ld;
    const float *score = a.score + row;
    const uint8_t *protect = a.protect ? a.protect + row : NULL;
    const int32_t *pos = a.pos ? a.pos + row : NULL;
    if (!a.kept && !a.reason && !a.threshold && room == n - 1) {
        int out = one_leaves(score, protect, pos, n, &mem, &where);
        if (threadIdx.x)
            return;
        if (out >= 0 && a.left)
            a.left[row] = out;
        if (a.n_kept)
            a.n_kept[r] = n - (out >= 0);
        if (a.n_left)
            a.n_left[r] = out >= 0;
        return;
    }
    struct last_kept last = select_row<BITS>(score, protect, pos, n, room, !a.threshold, hist, &mem);
    auto stay = [=](int i) { return is_safe(protect, i) || stays(last, score, pos, i); };
    auto tell = [=](int i, bool in) {
        if (a.reason)
            a.reason[row + (size_t)i] = reason_of(protect, i, last.all, in);
    };
    int n_kept = block_keep(n, stay, tell, a.kept ? a.kept + row : NULL, a.left ? a.left + row : NULL, &mem);
    for (int i = n + (int)threadIdx.x; a.reason && i < a.ld; i += (int)blockDim.x)
        a.reason[row + (size_t)i] = KVT_REASON_NONE;
    if (threadIdx.x)
        return;
    if (a.n_kept)
        a.n_kept[r] = n_kept;
    if (a.n_left)
        a.n_left[r] = n - n_kept;
    if (a.threshold)
        a.threshold[r] = last.none ? INFINITY : key_score(last.key);
}

int kvt_cuda_topk(struct kvt_dev *dev, const struct kvt_topk_args *a)
{
    if (a->R <= 0)
        return 0;
    if (a->ld <= SHORT_ROW)
        GPU_LAUNCH((topk_kernel<8, 256>), (unsigned)a->R, 256, 0, dev->stream, *a);
    else
        GPU_LAUNCH((topk_kernel<11, 1024>), (unsigned)a->R, 1024, 0, dev->stream, *a);
    return kvt_cuda_launched(dev, "topk");
}

/* ---- in stretches ---- */

/* Stretch 0 of a row is [0, from), which stays; stretch s is [from + (s - 1) within, from + s within), as far as the row has slots. */
template <int BITS, int THREADS>
static __global__ void __launch_bounds__(THREADS, 1024 / THREADS) stretch_kernel(struct kvt_topk_within_args a, int stretches, uint8_t *stay)
{
    __shared__ unsigned hist[1 << BITS];
    __shared__ struct block_mem mem;
    int r = (int)(blockIdx.x / (unsigned)stretches), s = (int)(blockIdx.x % (unsigned)stretches), n = a.n[r];
    long long begin = s ? a.from + (long long)(s - 1) * a.within : 0, end = s ? begin + a.within : a.from;
    if (begin >= n)
        return;
    int first = (int)begin, count = (int)((end < n ? end : n) - begin);
    size_t at = (size_t)r * (size_t)a.ld + (size_t)first;
    const float *score = a.score + at;
    const uint8_t *protect = a.protect ? a.protect + at : NULL;
    int room = s ? (int)(count * a.num / a.den) : count;
    room = room < 1 ? 1 : room;
    struct last_kept last = select_row<BITS>(score, protect, NULL, count, room, true, hist, &mem);
    for (int i = (int)threadIdx.x; i < count; i += (int)blockDim.x) {
        bool in = is_safe(protect, i) || stays(last, score, NULL, i);
        stay[at + (size_t)i] = in;
        if (a.reason)
            a.reason[at + (size_t)i] = reason_of(protect, i, last.all, in);
    }
}

/* The slots of a row whose byte isn't 0, in order. */
static __global__ void __launch_bounds__(1024) gather_kernel(const uint8_t *stay, const int32_t *n, int every, int ld, int32_t *kept,
                                                             int32_t *n_kept, uint8_t *reason)
{
    __shared__ struct block_mem mem;
    int r = (int)blockIdx.x, here = n ? n[r] : every;
    size_t row = (size_t)r * (size_t)ld;
    auto in = [=](int i) { return stay[row + (size_t)i] != 0; };
    auto tell = [](int, bool) {};
    int count = block_keep(here, in, tell, kept + row, NULL, &mem);
    for (int i = here + (int)threadIdx.x; reason && i < ld; i += (int)blockDim.x)
        reason[row + (size_t)i] = KVT_REASON_NONE;
    if (threadIdx.x == 0)
        n_kept[r] = count;
}

void kvt_cuda_gather(struct kvt_dev *dev, const uint8_t *stay, const int32_t *n, int every, int R, int ld, int32_t *kept, int32_t *n_kept,
                     uint8_t *reason)
{
    GPU_LAUNCH(gather_kernel, (unsigned)R, ld <= SHORT_ROW ? 256 : 1024, 0, dev->stream, stay, n, every, ld, kept, n_kept, reason);
}

int kvt_cuda_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a)
{
    if (a->R <= 0)
        return 0;
    uint8_t *stay = (uint8_t *)kvt_cuda_scratch(dev, (size_t)a->R * (size_t)a->ld + 1);
    if (!stay)
        return KVT_ENOMEM;
    int stretches = 1 + (a->ld > a->from ? (int)kvt_blocks((size_t)(a->ld - a->from), (size_t)a->within) : 0);
    unsigned blocks = (unsigned)a->R * (unsigned)stretches;
    int most = a->from > a->within ? a->from : a->within;
    if (most <= SHORT_ROW)
        GPU_LAUNCH((stretch_kernel<8, 256>), blocks, most <= 256 ? 64 : 256, 0, dev->stream, *a, stretches, stay);
    else
        GPU_LAUNCH((stretch_kernel<11, 1024>), blocks, 1024, 0, dev->stream, *a, stretches, stay);
    kvt_cuda_gather(dev, stay, a->n, 0, a->R, a->ld, a->kept, a->n_kept, a->reason);
    return kvt_cuda_launched(dev, "topk_within");
}
