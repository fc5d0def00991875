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

/* Where one slot too many is held, as in a step, only the last of the order is needed: false where it's another case. */
static bool one_leaves(const struct kvt_topk_args *a, int r)
{
    size_t row = (size_t)r * (size_t)a->ld;
    const float *score = a->score + row;
    const uint8_t *protect = a->protect ? a->protect + row : NULL;
    const int32_t *pos = a->pos ? a->pos + row : NULL;
    int n = a->n[r], at = -1;
    if (a->kept || a->reason || a->threshold || a->budget[r] != n - 1)
        return false;
    for (int i = 0; i < n; i++) {
        if (protect && protect[i])
            continue;
        float x = score[i], w = at < 0 ? 0 : score[at];
        if (at >= 0 && x > w)
            continue;
        bool first = at < 0 || x < w || (isnan(x) && !isnan(w));
        if (first || ((x == w || (isnan(x) && isnan(w))) && (pos ? pos[i] > pos[at] : true)))
            at = i;
    }
    if (at >= 0 && a->left)
        a->left[row] = at;
    if (a->n_kept)
        a->n_kept[r] = n - (at >= 0);
    if (a->n_left)
        a->n_left[r] = at >= 0;
    return true;
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
        if (!one_leaves(a, r))
            topk_row(a, r, keys);
    return 0;
}

/* ---- budgets of rows that share a total ---- */

static int key_ascending(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* Keys of the unprotected slots of row r of a set, best first where compared; the place is slot x per + row, so that
 * the earlier slot wins a tie, then the earlier row. Returns how many. */
static int row_keys(const struct kvt_divide_args *a, int r0, int i, uint64_t *keys)
{
    size_t row = (size_t)(r0 + i) * (size_t)a->ld;
    const uint8_t *protect = a->protect ? a->protect + row : NULL;
    int others = 0;
    for (int j = 0; j < a->n[r0 + i]; j++)
        if (!(protect && protect[j]))
            keys[others++] = order_key(a->score[row + (size_t)j], (uint32_t)j * (uint32_t)a->per + (uint32_t)i);
    return others;
}

/* Pages by price: of each row every 16th worst slot, counted from its hanging page; the cheapest of all rows go. */
static void cheapest_pages(const struct kvt_divide_args *a, int r0, uint64_t *keys, uint64_t *price)
{
    int64_t held = 0, n_prices = 0, total = a->total[r0 / a->per];
    for (int i = 0; i < a->per; i++) {
        int n = a->n[r0 + i], others = row_keys(a, r0, i, keys);
        held += (n + SLOTS - 1) / SLOTS;
        qsort(keys, (size_t)others, sizeof *keys, key_ascending);
        for (int must = (n - 1) % SLOTS + 1; n && must <= others; must += SLOTS)
            price[n_prices++] = ~keys[others - must]; /* cheapest first */
    }
    int64_t go = held - total < n_prices ? held - total : n_prices;
    uint64_t last = go > 0 ? kth(price, (int)n_prices, (int)go - 1) : 0;
    for (int i = 0; i < a->per; i++)
        a->budget[r0 + i] = 0; /* pages gone, for now */
    for (int64_t p = 0; go > 0 && p < n_prices; p++)
        if (price[p] <= last)
            a->budget[r0 + (int)((uint32_t)~price[p] % (uint32_t)a->per)]++;
    for (int i = 0; i < a->per; i++) {
        int n = a->n[r0 + i], gone = a->budget[r0 + i];
        a->budget[r0 + i] = gone ? n - ((n - 1) % SLOTS + 1) - SLOTS * (gone - 1) : n;
    }
}

int kvt_cpu_divide(struct kvt_dev *dev, const struct kvt_divide_args *a)
{
    size_t per = (size_t)a->per, ld = (size_t)a->ld;
    assert(a->per > 0 && a->R % a->per == 0 && (uint64_t)ld * per < UINT64_C(1) << 32 && ld * per <= INT32_MAX);
    uint64_t *keys = kvt_dev_scratch(dev, per * ld * sizeof *keys + ld * sizeof *keys +
                                              per * (sizeof(int64_t) + 3 * sizeof(int32_t)));
    if (!keys)
        return KVT_ENOMEM;
    uint64_t *row = keys + per * ld;
    int64_t *part = (int64_t *)(row + ld);
    int32_t *win = (int32_t *)(part + per), *most = win + per, *extra = most + per;
    for (int r0 = 0; r0 < a->R; r0 += a->per) {
        if (a->how == KVT_DIVIDE_PAGES) {
            cheapest_pages(a, r0, row, keys);
            continue;
        }
        int64_t total = a->total[r0 / a->per], room = total, safe = total / a->per * a->alpha_ppm / 1000000;
        safe = a->alpha_ppm && safe < 1 ? 1 : safe;
        int rest = 0;
        for (int i = 0; i < a->per; i++) {
            uint64_t *k = keys + rest;
            int others = row_keys(a, r0, i, k), protect = a->n[r0 + i] - others;
            int own = a->how != KVT_DIVIDE_RANK || safe <= protect ? 0
                    : (int)(safe - protect < others ? safe - protect : others);
            if (own && own < others)
                kth(k, others, own - 1);
            if (own) /* a row's own best don't compete */
                memmove(k, k + own, (size_t)(others - own) * sizeof *k);
            rest += others - own;
            most[i] = others;
            win[i] = 0;
            room -= protect + own;
            a->budget[r0 + i] = protect + own;
        }
        room = room < 0 ? 0 : room;
        uint64_t last = room && room < rest ? kth(keys, rest, (int)room - 1) : UINT64_MAX;
        for (int k = 0; room && k < rest; k++)
            if (keys[k] <= last)
                win[(uint32_t)keys[k] % (uint32_t)a->per]++;
        if (a->how != KVT_DIVIDE_RANK)
            kvt_ref_blend(a, room, win, most, part, extra);
        for (int i = 0; i < a->per; i++)
            a->budget[r0 + i] += a->how == KVT_DIVIDE_RANK ? win[i] : extra[i];
    }
    return 0;
}

int kvt_cpu_weigh(struct kvt_dev *dev, const struct kvt_weigh_args *a) { return kvt_ref_weigh(dev, a); }

/* ---- units ---- */

/* The units of a set in order of score at once, where ref looks for the next one each time. */
static void pick_sorted(const struct kvt_pick_units_args *a, int r0, int per, const int32_t *cost, uint64_t *keys,
                        uint8_t *verdict)
{
    const float *score = a->score + (size_t)r0 * (size_t)a->S;
    int64_t used = 0, budget = 0;
    int n = 0, units = 0, S = a->S;
    for (int i = 0; i < per; i++) {
        used += a->n;
        budget += a->budget[r0 + i];
        for (int s = 0; s < S; s++) {
            bool may_go = !a->candidate || a->candidate[s];
            verdict[i * S + s] = may_go ? KVT_LEFT_UNIT : KVT_KEPT_PROTECTED;
            if (!may_go)
                continue;
            used -= cost[i * S + s];
            keys[n++] = order_key(score[i * S + s], (uint32_t)s * (uint32_t)per + (uint32_t)i);
        }
    }
    qsort(keys, (size_t)n, sizeof *keys, key_ascending);
    for (int k = 0; k < n; k++) {
        uint32_t place = (uint32_t)keys[k];
        int u = (int)(place % (uint32_t)per) * S + (int)(place / (uint32_t)per);
        bool fits = a->max_units >= 0 ? units < a->max_units : used + cost[u] <= budget || units < a->min_units;
        if (fits) {
            verdict[u] = KVT_KEPT_UNIT;
            used += cost[u];
            units++;
            continue;
        }
        if (a->max_units < 0 && used < budget)
            verdict[u] = KVT_LEFT_BUDGET;
        if (a->max_units >= 0 || a->overflow == KVT_OVERFLOW_STOP)
            break;
    }
}

int kvt_cpu_pick_units(struct kvt_dev *dev, const struct kvt_pick_units_args *a)
{
    int per = a->per > 1 ? a->per : 1, S = a->S;
    size_t units = (size_t)per * (size_t)S;
    if (a->overflow == KVT_OVERFLOW_KNAPSACK && a->max_units < 0)
        return kvt_ref_pick_units(dev, a);
    assert(a->R % per == 0 && (per == 1 || a->max_units < 0));
    uint64_t *keys = kvt_dev_scratch(dev, units * (sizeof *keys + sizeof(int32_t) + 1) + 1);
    if (!keys)
        return KVT_ENOMEM;
    int32_t *cost = (int32_t *)(keys + units);
    uint8_t *verdict = (uint8_t *)(cost + units);
    for (int r0 = 0; r0 < a->R; r0 += per) {
        for (int i = 0; i < per; i++) {
            const uint8_t *protect = a->protect ? a->protect + (size_t)(r0 + i) * (size_t)a->ld : NULL;
            for (int s = 0; s < S; s++) {
                int c = a->seg[s + 1] - a->seg[s];
                for (int j = a->seg[s]; protect && j < a->seg[s + 1]; j++)
                    c -= protect[j] != 0;
                cost[i * S + s] = c;
            }
        }
        pick_sorted(a, r0, per, cost, keys, verdict);
        for (int i = 0; i < per; i++)
            kvt_ref_spread_units(a, r0 + i, verdict + i * S);
    }
    return 0;
}
