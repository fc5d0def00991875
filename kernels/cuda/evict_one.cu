/* A step's eviction where one slot at most is too many: one block for each kv head, or one for all where heads share their choice. Its
 * threads add the newest row to the sums, weigh every slot, and find the one that leaves: the largest of (worth descending, position),
 * or the loser of a contest between two neighbours in order of position. The slot then moves as kvt_cuda_cache_remove moves it. Nothing is
 * sorted and nothing waits; what is read is the row, the sums and the positions, once (the contest: positions seven times, from L1). */
#include "kernels/cuda/cache.h"
#include "kernels/cuda/select.h"

#include <assert.h>
#include <string.h>

enum { THREADS = 256, MAX_G = 1024 };

/* f of the row reduced over the heads of group g, for slot j. */
static __device__ double received(const struct kvt_evict_one_args &a, int G, int g, int j)
{
    int m = a.H / G;
    return group_received(a.row + (size_t)(g * m) * (size_t)a.row_ld + j, a.row_ld, m, a.how, a.square);
}

/* slot, count, a.left: (G). weight: (G, ld) */
static __global__ void __launch_bounds__(THREADS, 2) leaver_kernel(struct kvt_pages p, struct kvt_evict_one_args a, const int32_t *given,
                                                                float *weight, int32_t *slot, int32_t *count)
{
    __shared__ unsigned hist[256];
    __shared__ struct block_mem mem;
    __shared__ int pair[2];
    const int G = p.G, g0 = a.shared ? 0 : (int)blockIdx.x, cells = a.shared ? G : 1, tid = (int)threadIdx.x;
    const size_t cell = kvt_cell(p, a.branch, a.layer, g0);
    const int32_t *table = kvt_table(p, cell);
    const int32_t *budget = given + 1, *recent = budget + (a.shared ? 1 : G); /* given: the row's position, then one of each for a choice */
    const int n = p.n[cell], row_pos = given[0];
    float *score = weight + (size_t)g0 * (size_t)a.ld;
    for (int g = g0; a.state && g < g0 + cells; g++) {
        float *state = a.state + (size_t)g * (size_t)a.ld;
        int have = p.n[kvt_cell(p, a.branch, a.layer, g)];
        for (int j = tid; j < have; j += THREADS)
            state[j] = (float)((j < have - a.added ? (double)state[j] : 0) + received(a, G, g, j));
    }
    int out = -1;
    if (n > budget[g0]) {
        auto is_free = [=](int j) {
            int32_t at = kvt_slot_pos(p, table, j);
            return at >= a.sinks && at <= row_pos - recent[g0];
        };
        long long room = 0;
        u64 worst = 0;
        for (int j = tid; j < n; j += THREADS) {
            int32_t at = kvt_slot_pos(p, table, j);
            double x = 0;
            for (int g = g0; g < g0 + cells; g++)
                x += a.state ? a.state[(size_t)g * (size_t)a.ld + j] : a.row ? received(a, G, g, j) : at;
            float y = (float)x;
            if (a.visible_mean)
                y /= (float)(row_pos - at + 1);
            score[j] = y;
            if (is_free(j)) {
                u64 key = ((u64)score_key(y) << 32 | (unsigned)at) + 1; /* 0: nobody */
                worst = key > worst ? key : worst;
                room++;
            }
        }
        int m = (int)block_sum(room, &mem);
        if (!a.turn || m < 2) {
            worst = block_largest(worst, &mem);
            if (!tid)
                pair[0] = -1;
            __syncthreads();
            for (int j = tid; worst && j < n; j += THREADS)
                if (kvt_slot_pos(p, table, j) == (int32_t)(unsigned)(worst - 1))
                    pair[0] = j;
            __syncthreads();
            out = pair[0];
        } else {
            int rooms = m - 1, turn = a.turn[g0] < rooms ? a.turn[g0] : 0;
            auto key = [=](int j, unsigned *x) {
                *x = pos_key(kvt_slot_pos(p, table, j));
                return is_free(j);
            };
            unsigned first = (unsigned)turn + 1;
            unsigned x0 = block_select<8>(n, key, [=](unsigned) { return first; }, false, hist, &mem).key;
            unsigned x1 = block_select<8>(n, key, [=](unsigned) { return first + 1; }, false, hist, &mem).key;
            for (int j = tid; j < n; j += THREADS) {
                unsigned x;
                if (!key(j, &x))
                    continue;
                if (x == x0)
                    pair[0] = j;
                if (x == x1)
                    pair[1] = j;
            }
            __syncthreads();
            float one = score[pair[0]], other = score[pair[1]];
            out = one == one && (other != other || one > other) ? pair[1] : pair[0];
            if (!tid)
                a.turn[g0] = (turn + 1) % rooms;
        }
    }
    for (int g = g0 + tid; g < g0 + cells; g += THREADS) {
        slot[g] = out;
        count[g] = out >= 0;
        a.left[g] = out >= 0 ? kvt_slot_pos(p, kvt_table(p, kvt_cell(p, a.branch, a.layer, g)), out) : -1;
    }
}

int kvt_cuda_evict_one(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    const struct kvt_cache *c = a->cache;
    size_t G = (size_t)c->o.G, few = a->shared ? 1 : G;
    struct kvt_evict_one_args fixed = *a; /* what is the same in every step */
    int32_t most = 0, host[1 + 2 * MAX_G] = {a->pos};
    assert(few <= MAX_G);
    memcpy(host + 1, a->budget, few * sizeof *host);
    memcpy(host + 1 + few, a->recent, few * sizeof *host);
    for (size_t g = 0; g < few; g++)
        most = a->budget[g] > most ? a->budget[g] : most;
    fixed.pos = 0, fixed.budget = fixed.recent = NULL;
    const int32_t *given = (const int32_t *)kvt_cuda_post(dev, host, (1 + 2 * few) * sizeof *host);
    if (!given)
        return dev->err.code;
    int32_t *slot = (int32_t *)kvt_cuda_scratch(dev, 2 * G * sizeof *slot + G * (size_t)a->ld * sizeof(float));
    if (!slot)
        return KVT_ENOMEM;
    GPU_LAUNCH(leaver_kernel, (unsigned)(a->shared ? 1 : G), THREADS, 0, dev->stream, c->at, fixed, given, (float *)(slot + 2 * G), slot, slot + G);
    int rc = kvt_cuda_launched(dev, "evict_one");
    struct kvt_remove_args gone = {};
    gone.cache = a->cache, gone.branch = a->branch, gone.layer = a->layer, gone.slot = slot, gone.count = slot + G, gone.ld = 1, gone.state = a->state, gone.state_ld = a->ld;
    if (!rc)
        rc = kvt_cuda_cache_remove(dev, &gone);
    int32_t *bound = &a->cache->n_most[(size_t)a->branch * (size_t)c->o.L + (size_t)a->layer];
    *bound = !rc && *bound > most + 1 ? most + 1 : *bound; /* one slot at most was too many, and one that may not leave has stayed */
    return rc;
}
