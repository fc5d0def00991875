/* attn: which kernels do a call. */
#include "kernels/cuda/attn.h"

#include <assert.h>

static bool prefill_asked(const struct kvt_see *s)
{
    return s && (s->mass || s->n_windows || s->n_squares || s->max || s->later || s->last || s->entropy || s->keys || s->sink || s->local || s->distance ||
                 s->offset || s->spans || s->top || s->pool_mean || s->pool_max || s->rows || s->half);
}

static size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

int kvt_cuda_attn(struct kvt_dev *dev, const struct kvt_attn_args *given)
{
    const struct kvt_cache *c = given->cache;
    const struct kvt_see *see = given->see;
    const int T = given->T, H = given->H, b0 = given->branch[0];
    int most = 0, last = 0;
    bool one_branch = true, turned = false;
    assert(H % c->o.G == 0 && (!see || !see->row_heads || H <= 64));
    for (int t = 0; t < T; t++) {
        int n = kvt_most(c, given->branch[t], given->layer);
        most = n > most ? n : most;
        last = given->pos[t] > last ? given->pos[t] : last;
        one_branch = one_branch && given->branch[t] == b0;
        turned = turned || (given->renumber && given->renumber[t]);
    }
    assert(!turned || last < given->rope.n_pos);
    struct kvt_attn_call a = {};
    a.p = c->at, a.layer = given->layer, a.T = T, a.H = H, a.q = given->q, a.out = given->out, a.rope = given->rope, a.window = given->window;
    a.scale2 = given->scale * 1.44269504089f;
    a.cap2 = given->cap > 0 ? given->cap * 1.44269504089f : 0;
    a.in_cap = given->cap > 0 ? given->scale / given->cap : 0;
    a.branch = (const int32_t *)kvt_cuda_post(dev, given->branch, (size_t)T * sizeof(int32_t));
    a.pos = a.branch ? (const int32_t *)kvt_cuda_post(dev, given->pos, (size_t)T * sizeof(int32_t)) : NULL;
    if (!a.pos)
        return dev->err.code;
    /* a turned row's own kind is asked for in each row, so that a row's bits are the same in any call */
    if (given->renumber && !(a.turned = (const uint8_t *)kvt_cuda_post(dev, given->renumber, (size_t)T)))
        return dev->err.code;
    const int32_t *row_at = NULL;
    if (see && see->row_at && !(row_at = (const int32_t *)kvt_cuda_post(dev, see->row_at, (size_t)T * sizeof(int32_t))))
        return dev->err.code;

    const bool sweep = prefill_asked(see), tiles = !given->exact && one_branch && !turned && !row_at && T > 1 && kvt_cuda_attn_prefill_can(dev, &a);
    const int pages = (most + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
    size_t sums_bytes = sweep ? aligned((size_t)T * (size_t)H * sizeof(struct kvt_row_sum)) : 0;
    size_t bounds_bytes = tiles || sweep ? aligned((size_t)c->o.G * (size_t)pages * sizeof(int2)) : 0;
    size_t first = tiles ? 0 : kvt_cuda_attn_rows_bytes(&a, most), second = sweep ? kvt_cuda_attn_sweep_bytes(&a, see) : 0;
    char *scratch = (char *)kvt_cuda_scratch(dev, sums_bytes + bounds_bytes + (first > second ? first : second) + 256);
    if (!scratch)
        return KVT_ENOMEM;
    struct kvt_row_sum *sums = sweep ? (struct kvt_row_sum *)scratch : NULL;
    int2 *bounds = (int2 *)(scratch + sums_bytes);
    char *rest = scratch + sums_bytes + bounds_bytes;
    if (tiles || sweep)
        kvt_cuda_page_bounds(dev, &a, b0, pages, bounds);
    int rc = tiles ? kvt_cuda_attn_prefill(dev, &a, b0, bounds, pages, sums)
                   : kvt_cuda_attn_rows(dev, &a, most, sums, row_at, see ? see->row : NULL, see ? see->row_ld : 0, rest);
    if (!rc && sweep) {
        assert(one_branch && !turned);
        rc = kvt_cuda_attn_sweep(dev, &a, b0, bounds, pages, sums, see, given->pos, rest);
    }
    return rc;
}
