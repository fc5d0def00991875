/* cache on the cpu: the pages are those of ref; what is faster is the encoding of new rows and the choice of slots.
 * The reductions of scores are a few thousand sums a layer and use the definition. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "kernels/pages.h"
#include "kernels/ref/ref.h"

enum { SLOTS = KVT_PAGE_SLOTS };

/* ---- pages ---- */

int kvt_cpu_cache_open(struct kvt_dev *dev, struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err)
{
    return kvt_ref_cache_open(dev, out, o, err);
}

void kvt_cpu_cache_close(struct kvt_dev *dev, struct kvt_cache **cache) { kvt_ref_cache_close(dev, cache); }

/* Row i to its place: K down a column of its page, V along a row. */
static void put_row(const struct kvt_cache *c, int64_t place, const float *k, const float *v)
{
    int32_t page = (int32_t)(place / SLOTS);
    size_t slot = (size_t)(place % SLOTS), D = (size_t)c->o.D;
    kvt_pages_encode(c, kvt_page_k(c, page), slot, SLOTS, c->o.D, k);
    kvt_pages_encode(c, kvt_page_v(c, page), slot * D, 1, c->o.D, v);
}

#if defined(KVT_X86)
/* The same bits: vcvtps2ph rounds to nearest even, as base/half.h does. D is a multiple of 8. */
KVT_AVX2 static void put_row_f16(const struct kvt_cache *c, int64_t place, const float *k, const float *v)
{
    int32_t page = (int32_t)(place / SLOTS);
    size_t slot = (size_t)(place % SLOTS), D = (size_t)c->o.D;
    uint16_t *pk = (uint16_t *)kvt_page_k(c, page) + slot, *pv = (uint16_t *)kvt_page_v(c, page) + slot * D;
    for (size_t d = 0; d < D; d += 8) {
        _mm_storeu_si128((__m128i *)(pv + d), _mm256_cvtps_ph(_mm256_loadu_ps(v + d), _MM_FROUND_TO_NEAREST_INT));
        uint16_t one[8];
        _mm_storeu_si128((__m128i *)one, _mm256_cvtps_ph(_mm256_loadu_ps(k + d), _MM_FROUND_TO_NEAREST_INT));
        for (size_t i = 0; i < 8; i++)
            pk[(d + i) * SLOTS] = one[i];
    }
}
#endif

int kvt_cpu_cache_append(struct kvt_dev *dev, const struct kvt_append_args *a)
{
    struct kvt_cache *c = a->cache;
    size_t D = (size_t)c->o.D;
    int rows = a->T * c->o.G;
    int64_t *place = kvt_dev_scratch(dev, (size_t)rows * sizeof *place);
    if (!place)
        return KVT_ENOMEM;
    int status = kvt_pages_append(c, a->layer, a->T, a->branch, a->pos, place, &dev->err);
    if (status)
        return status;
    void (*put)(const struct kvt_cache *, int64_t, const float *, const float *) = put_row;
#if defined(KVT_X86)
    if (c->o.type == KVT_F16 && dev->simd >= KVT_SIMD_AVX2 && D % 8 == 0)
        put = put_row_f16;
#endif
    int threads = rows < 512 ? 1 : dev->threads; /* a decode step is too small to share out */
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int i = 0; i < rows; i++)
        put(c, place[i], a->k + (size_t)i * D, a->v + (size_t)i * D);
    return 0;
}

int kvt_cpu_cache_keep(struct kvt_dev *dev, const struct kvt_keep_args *a) { return kvt_ref_cache_keep(dev, a); }
int kvt_cpu_cache_remove(struct kvt_dev *dev, const struct kvt_remove_args *a) { return kvt_ref_cache_remove(dev, a); }

int kvt_cpu_cache_fork(struct kvt_dev *dev, struct kvt_cache *cache, int src, int dst)
{
    return kvt_ref_cache_fork(dev, cache, src, dst);
}

int kvt_cpu_cache_drop(struct kvt_dev *dev, struct kvt_cache *cache, int branch) { return kvt_ref_cache_drop(dev, cache, branch); }
int kvt_cpu_cache_positions(struct kvt_dev *dev, const struct kvt_positions_args *a) { return kvt_ref_cache_positions(dev, a); }

int kvt_cpu_cache_lengths(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int32_t *host_count)
{
    return kvt_ref_cache_lengths(dev, cache, branch, host_count);
}

int kvt_cpu_cache_bytes(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out)
{
    return kvt_ref_cache_bytes(dev, cache, branch, out);
}

int kvt_cpu_cache_peek(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int layer, int g, float *k, float *v)
{
    return kvt_ref_cache_peek(dev, cache, branch, layer, g, k, v);
}

/* ---- reductions ---- */

int kvt_cpu_group(struct kvt_dev *dev, const struct kvt_group_args *a) { return kvt_ref_group(dev, a); }
int kvt_cpu_pool(struct kvt_dev *dev, const struct kvt_pool_args *a) { return kvt_ref_pool(dev, a); }
int kvt_cpu_combine(struct kvt_dev *dev, const struct kvt_combine_args *a) { return kvt_ref_combine(dev, a); }
int kvt_cpu_segment_mean(struct kvt_dev *dev, const struct kvt_segment_mean_args *a) { return kvt_ref_segment_mean(dev, a); }

/* ---- selection ---- */

/* A key that sorts ascending in the order of ops.h: higher score first, NaN last, then the earlier place. */
static uint64_t order_key(float score, uint32_t place)
{
    uint32_t u;
    score += 0.0f; /* -0 to 0: they tie */
    memcpy(&u, &score, sizeof u);
    u = u & 0x80000000u ? ~u : u | 0x80000000u; /* ascending with the value */
    if (isnan(score))
        u = 0;
    return (uint64_t)~u << 32 | place;
}

/* The k-th smallest (from 0) of n different keys; x is reordered so that x[0 .. k] are the k + 1 smallest.
 * Median of three and, as the keys differ, never more than a few passes in practice; bits don't depend on the path. */
static uint64_t kth(uint64_t *x, int n, int k)
{
    int lo = 0, hi = n - 1;
    while (lo < hi) {
        uint64_t a = x[lo], b = x[lo + (hi - lo) / 2], c = x[hi];
        uint64_t pivot = a < b ? (b < c ? b : a < c ? c : a) : (a < c ? a : b < c ? c : b);
        int i = lo, j = hi;
        while (i <= j) {
            while (x[i] < pivot)
                i++;
            while (x[j] > pivot)
                j--;
            if (i <= j) {
                uint64_t t = x[i];
                x[i++] = x[j];
                x[j--] = t;
            }
        }
        if (k <= j)
            hi = j;
        else if (k >= i)
            lo = i;
        else
            break;
    }
    return x[k];
}

static void topk_row(const struct kvt_topk_args *a, int r, uint64_t *keys)
{
    size_t row = (size_t)r * (size_t)a->ld;
    const float *score = a->score + row;
    const uint8_t *protect = a->protect ? a->protect + row : NULL;
    const int32_t *pos = a->pos ? a->pos + row : NULL;
    int n = a->n[r], others = 0;
    assert(n >= 0 && n <= a->ld);
    for (int i = 0; i < n; i++)
        if (!(protect && protect[i]))
            keys[others++] = order_key(score[i], (uint32_t)(pos ? pos[i] : i));
    int room = a->budget[r] - (n - others);
    bool all = others <= room;
    int wins = all ? others : room > 0 ? room : 0;
    uint64_t worst = wins ? kth(keys, others, wins - 1) : 0; /* places differ, so keys do */
    int n_kept = 0, n_left = 0, last = -1;
    for (int i = 0; i < n; i++) {
        bool safe = protect && protect[i];
        uint64_t key = order_key(score[i], (uint32_t)(pos ? pos[i] : i));
        bool wins_score = !safe && wins && key <= worst;
        if (wins_score && key == worst)
            last = i;
        n_left += !safe && !wins_score;
        if (a->kept && (safe || wins_score))
            a->kept[row + (size_t)n_kept] = i;
        n_kept += safe || wins_score;
        if (a->reason)
            a->reason[row + (size_t)i] = (uint8_t)(safe ? protect[i] : all ? KVT_KEPT_ALL :
                                                   wins_score ? KVT_KEPT_SCORE : KVT_LEFT_SCORE);
    }
    for (int i = n - 1, at = 0; a->left && at < n_left; i--)
        if (!(protect && protect[i]) &&
            !(wins && order_key(score[i], (uint32_t)(pos ? pos[i] : i)) <= worst))
            a->left[row + (size_t)at++] = i;
    if (a->reason)
        memset(a->reason + row + n, KVT_REASON_NONE, (size_t)(a->ld - n));
    if (a->n_kept)
        a->n_kept[r] = n_kept;
    if (a->n_left)
        a->n_left[r] = n_left;
    if (a->threshold)
        a->threshold[r] = last < 0 ? INFINITY : score[last];
}

int kvt_cpu_topk(struct kvt_dev *dev, const struct kvt_topk_args *a)
{
    uint64_t *keys = kvt_dev_scratch(dev, (size_t)a->ld * sizeof *keys);
    if (!keys)
        return KVT_ENOMEM;
    for (int r = 0; r < a->R; r++)
        topk_row(a, r, keys);
    return 0;
}

int kvt_cpu_pick_units(struct kvt_dev *dev, const struct kvt_pick_units_args *a) { return kvt_ref_pick_units(dev, a); }
