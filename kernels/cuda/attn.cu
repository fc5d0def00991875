/* attn: which kernels do a call. */
#include "kernels/cuda/attn.h"

#include <assert.h>

static bool prefill_asked(const struct kvt_see *s)
{
    return s && (s->mass || s->n_windows || s->n_squares || s->max || s->later || s->last || s->entropy || s->keys || s->sink || s->local || s->distance ||
                 s->offset || s->spans || s->top || s->pool_mean || s->pool_max || s->rows || s->half);
}

enum { STEP_SLOTS = 256 };

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
    a.any_turned = turned; /* a row that isn't has the same bits by either kernel */
    const bool rows_wanted = see && see->row_at, sweep = prefill_asked(see);
    if (T <= KVT_FEW_ROWS && !sweep && !kvt_cuda_in_step(dev)) {
        for (int t = 0; t < T; t++) {
            a.few.branch[t] = given->branch[t];
            a.few.pos[t] = given->pos[t];
            a.few.row_at[t] = rows_wanted ? see->row_at[t] : -1;
            a.few.turned[t] = given->renumber ? given->renumber[t] : 0;
        }
    } else {
        size_t bytes = (size_t)T * sizeof(int32_t);
        a.pos = (const int32_t *)kvt_cuda_post_once(dev, KVT_POST_POS, given->pos, bytes);
        a.row_at = a.pos && rows_wanted ? (const int32_t *)kvt_cuda_post_once(dev, KVT_POST_ROW_AT, see->row_at, bytes) : NULL;
        a.turned = a.pos && given->renumber ? (const uint8_t *)kvt_cuda_post_once(dev, KVT_POST_TURNED, given->renumber, (size_t)T) : NULL;
        a.branch = a.pos ? (const int32_t *)kvt_cuda_post_once(dev, KVT_POST_BRANCH, given->branch, bytes) : NULL;
        if (!a.branch || (rows_wanted && !a.row_at) || (given->renumber && !a.turned))
            return dev->err.code;
    }

    if (kvt_cuda_in_step(dev)) /* the same for many steps; blocks behind a cell's own slots end at once */
        most = (most + STEP_SLOTS - 1) / STEP_SLOTS * STEP_SLOTS;
    const bool tiles = !given->exact && one_branch && !turned && !rows_wanted && T > 1 && kvt_cuda_attn_prefill_can(dev, &a);
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
                   : kvt_cuda_attn_rows(dev, &a, most, sums, rows_wanted ? see->row : NULL, see ? see->row_ld : 0, rest);
    if (!rc && sweep) {
        assert(one_branch && !turned);
        rc = kvt_cuda_attn_sweep(dev, &a, b0, bounds, pages, sums, see, given->pos, rest);
    }
    return rc;
}
