/* cache, by definition: pages go through kernels/pages.c; scores are reduced and slots are chosen by plain loops. */
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/pages.h"

enum { SLOTS = KVT_PAGE_SLOTS };

/* ---- pages ---- */

int kvt_ref_cache_open(struct kvt_dev *dev, struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err)
{
    (void)dev;
    return kvt_pages_open(out, o, err);
}

void kvt_ref_cache_close(struct kvt_dev *dev, struct kvt_cache **cache)
{
    (void)dev;
    kvt_pages_close(cache);
}

int kvt_ref_cache_append(struct kvt_dev *dev, const struct kvt_append_args *a)
{
    struct kvt_cache *c = a->cache;
    size_t D = (size_t)c->o.D, rows = (size_t)a->T * (size_t)c->o.G;
    int64_t *place = kvt_dev_scratch(dev, rows * sizeof *place);
    if (!place)
        return KVT_ENOMEM;
    int status = kvt_pages_append(c, a->layer, a->T, a->branch, a->pos, place, &dev->err);
    if (status)
        return status;
    for (size_t i = 0; i < rows; i++) {
        int32_t page = (int32_t)(place[i] / SLOTS);
        size_t slot = (size_t)(place[i] % SLOTS);
        kvt_pages_encode(c, kvt_page_k(c, page), slot, SLOTS, c->o.D, a->k + i * D);
        kvt_pages_encode(c, kvt_page_v(c, page), slot * D, 1, c->o.D, a->v + i * D);
    }
    return 0;
}

int kvt_ref_cache_keep(struct kvt_dev *dev, const struct kvt_keep_args *a) { return kvt_pages_keep(a, &dev->err); }

int kvt_ref_cache_remove(struct kvt_dev *dev, const struct kvt_remove_args *a) { return kvt_pages_remove(a, &dev->err); }

int kvt_ref_cache_fork(struct kvt_dev *dev, struct kvt_cache *cache, int src, int dst)
{
    return kvt_pages_fork(cache, src, dst, &dev->err);
}

int kvt_ref_cache_drop(struct kvt_dev *dev, struct kvt_cache *cache, int branch)
{
    (void)dev;
    kvt_pages_drop(cache, branch);
    return 0;
}

int kvt_ref_cache_positions(struct kvt_dev *dev, const struct kvt_positions_args *a)
{
    (void)dev;
    kvt_pages_positions(a);
    return 0;
}

int kvt_ref_cache_lengths(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int32_t *host_count)
{
    (void)dev;
    kvt_pages_lengths(cache, branch, host_count);
    return 0;
}

int kvt_ref_cache_bytes(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out)
{
    (void)dev;
    kvt_pages_bytes(cache, branch, out);
    return 0;
}

int kvt_ref_cache_peek(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int layer, int g, float *k, float *v)
{
    (void)dev;
    const struct kvt_cell *cell = kvt_cell_at(cache, branch, layer, g);
    size_t D = (size_t)cache->o.D;
    for (int i = 0; i < cell->n; i++) {
        int32_t page = cell->page[i / SLOTS];
        size_t slot = (size_t)(i % SLOTS);
        if (k)
            kvt_pages_decode(cache, kvt_page_k(cache, page), slot, SLOTS, cache->o.D, k + (size_t)i * D);
        if (v)
            kvt_pages_decode(cache, kvt_page_v(cache, page), slot * D, 1, cache->o.D, v + (size_t)i * D);
    }
    return 0;
}

/* ---- reductions of scores ---- */

int kvt_ref_group(struct kvt_dev *dev, const struct kvt_group_args *a)
{
    (void)dev;
    assert(a->H % a->G == 0 && a->n <= a->ld);
    int per = a->H / a->G;
    for (int g = 0; g < a->G; g++)
        for (int j = 0; j < a->n; j++) {
            const float *in = a->in + (size_t)(g * per) * (size_t)a->ld + j;
            double sum = 0;
            float max = in[0];
            for (int h = 0; h < per; h++) {
                float x = in[(size_t)h * (size_t)a->ld];
                sum += x;
                max = x > max ? x : max;
            }
            a->out[(size_t)g * (size_t)a->ld + (size_t)j] =
                a->how == KVT_GROUP_MAX ? max : (float)(a->how == KVT_GROUP_MEAN ? sum / per : sum);
        }
    return 0;
}

int kvt_ref_pool(struct kvt_dev *dev, const struct kvt_pool_args *a)
{
    (void)dev;
    assert(a->how == KVT_POOL_NONE || (a->width > 0 && a->width % 2 == 1));
    assert(0 <= a->from && a->from <= a->to && a->to <= a->ld && a->in != a->out);
    int half = a->width / 2;
    for (int r = 0; r < a->R; r++) {
        const float *in = a->in + (size_t)r * (size_t)a->ld;
        float *out = a->out + (size_t)r * (size_t)a->ld;
        memcpy(out, in, (size_t)a->ld * sizeof *out);
        for (int j = a->from; a->how != KVT_POOL_NONE && j < a->to; j++) {
            double sum = 0;
            float max = in[j];
            for (int i = j - half; i <= j + half; i++) {
                if (i < a->from || i >= a->to)
                    continue; /* the padding: 0 in the sum, absent from the maximum */
                sum += in[i];
                max = in[i] > max ? in[i] : max;
            }
            out[j] = a->how == KVT_POOL_MAX ? max : (float)(sum / a->width);
        }
    }
    return 0;
}

int kvt_ref_combine(struct kvt_dev *dev, const struct kvt_combine_args *a)
{
    (void)dev;
    assert(a->n <= a->ld);
    size_t ld = (size_t)a->ld;
    for (int r = 0; r < (a->sum_rows ? 1 : a->R); r++)
        for (int j = 0; j < a->n; j++) {
            double x = a->in[(size_t)r * ld + (size_t)j];
            for (int s = 1; a->sum_rows && s < a->R; s++)
                x += a->in[(size_t)s * ld + (size_t)j];
            if (a->visible_mean)
                x /= a->n - j;
            x *= a->scale;
            float *out = a->out + (size_t)r * ld + (size_t)j;
            *out = (float)(a->accumulate ? *out + x : x);
        }
    return 0;
}

int kvt_ref_segment_mean(struct kvt_dev *dev, const struct kvt_segment_mean_args *a)
{
    (void)dev;
    for (int r = 0; r < a->R; r++)
        for (int s = 0; s < a->S; s++) {
            assert(0 <= a->seg[s] && a->seg[s] <= a->seg[s + 1] && a->seg[s + 1] <= a->ld);
            double sum = 0;
            float most = -INFINITY;
            for (int j = a->seg[s]; j < a->seg[s + 1]; j++) {
                float x = a->in[(size_t)r * (size_t)a->ld + (size_t)j];
                sum += x;
                most = x > most ? x : most;
            }
            int n = a->seg[s + 1] - a->seg[s];
            a->out[(size_t)r * (size_t)a->S + (size_t)s] = !n ? -INFINITY
                                                         : a->how == KVT_REDUCE_MAX ? most
                                                         : (float)(a->how == KVT_REDUCE_SUM ? sum : sum / n);
        }
    return 0;
}

/* ---- selection ---- */

bool kvt_ref_beats(float x, int32_t i, float y, int32_t j)
{
    if (isnan(x) || isnan(y))
        return isnan(x) && isnan(y) ? i < j : isnan(y);
    return x > y || (x == y && i < j);
}

int kvt_ref_topk(struct kvt_dev *dev, const struct kvt_topk_args *a)
{
    (void)dev;
    for (int r = 0; r < a->R; r++) {
        size_t row = (size_t)r * (size_t)a->ld;
        const float *score = a->score + row;
        const uint8_t *protect = a->protect ? a->protect + row : NULL;
        const int32_t *pos = a->pos ? a->pos + row : NULL;
        int n = a->n[r], room = a->budget[r], n_kept = 0, n_left = 0, worst = -1;
        assert(n >= 0 && n <= a->ld);
        for (int i = 0; protect && i < n; i++)
            room -= protect[i] != 0;
        int others = 0;
        for (int i = 0; i < n; i++)
            others += !(protect && protect[i]);
        for (int i = 0; i < n; i++) {
            bool safe = protect && protect[i], stays = safe;
            if (!safe) {
                int better = 0;
                for (int j = 0; j < n; j++)
                    if (j != i && !(protect && protect[j]))
                        better += kvt_ref_beats(score[j], pos ? pos[j] : j, score[i], pos ? pos[i] : i);
                stays = better < room;
                if (stays && (worst < 0 || kvt_ref_beats(score[worst], pos ? pos[worst] : worst, score[i], pos ? pos[i] : i)))
                    worst = i;
            }
            if (stays && a->kept)
                a->kept[row + (size_t)n_kept] = i;
            n_kept += stays;
            if (a->reason)
                a->reason[row + (size_t)i] = (uint8_t)(safe ? protect[i] : others <= room ? KVT_KEPT_ALL :
                                                       stays ? KVT_KEPT_SCORE : KVT_LEFT_SCORE);
            /* ascending here, turned around below */
            if (!stays && a->left)
                a->left[row + (size_t)n_left] = i;
            n_left += !stays;
        }
        for (int i = 0; a->left && i < n_left / 2; i++) {
            int32_t x = a->left[row + (size_t)i];
            a->left[row + (size_t)i] = a->left[row + (size_t)(n_left - 1 - i)];
            a->left[row + (size_t)(n_left - 1 - i)] = x;
        }
        for (int i = n; a->reason && i < a->ld; i++)
            a->reason[row + (size_t)i] = KVT_REASON_NONE;
        if (a->n_kept)
            a->n_kept[r] = n_kept;
        if (a->n_left)
            a->n_left[r] = n_left;
        if (a->threshold)
            a->threshold[r] = worst < 0 ? INFINITY : score[worst];
    }
    return 0;
}
