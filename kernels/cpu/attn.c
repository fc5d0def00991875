/* attn: which of the two ways computes a call, and the kernels of the vector level. */
#include "kernels/cpu/attn.h"

#include <assert.h>

#include "kernels/cpu/cpu.h"

bool kvt_cell_ascending(const struct kvt_cache *c, const struct kvt_cell *cell)
{
    int32_t before = -1;
    for (int j = 0; j < cell->n; j += KVT_PAGE_SLOTS) {
        const int32_t *pos = kvt_page_pos(c, cell->page[j / KVT_PAGE_SLOTS]);
        int live = cell->n - j < KVT_PAGE_SLOTS ? cell->n - j : KVT_PAGE_SLOTS;
        for (int i = 0; i < live; i++) {
            if (pos[i] <= before)
                return false;
            before = pos[i];
        }
    }
    return true;
}

int kvt_cell_seen(const struct kvt_cache *c, const struct kvt_cell *cell, int32_t pos)
{
    int lo = 0, hi = cell->n;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2;
        if (kvt_page_pos(c, cell->page[mid / KVT_PAGE_SLOTS])[mid % KVT_PAGE_SLOTS] <= pos)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static const struct kvt_attn_kernel *kernel_of(const struct kvt_dev *dev)
{
#if defined(__x86_64__)
    if (dev->simd >= KVT_SIMD_AVX512)
        return &kvt_attn_avx512;
    if (dev->simd >= KVT_SIMD_AVX2)
        return &kvt_attn_avx2;
#endif
    (void)dev;
    return &kvt_attn_plain;
}

enum { TILE_FROM_ROWS = 8 }; /* fewer rows than this fill too little of a tile */

int kvt_cpu_attn(struct kvt_dev *dev, const struct kvt_attn_args *a)
{
    const struct kvt_see *see = a->see;
    const struct kvt_cache *c = a->cache;
    bool row = see && see->row && see->row_at;
    bool prefill = see && (see->mass || see->n_windows || see->n_squares || see->max || see->later || see->last || see->entropy || see->keys || see->sink ||
                           see->local || see->distance || see->offset || see->spans || see->top || see->pool_mean || see->pool_max || see->row_heads);
    assert(a->T > 0 && a->H % c->o.G == 0 && !(row && prefill));
    bool tiles = prefill || (!row && !a->exact && a->T >= TILE_FROM_ROWS);
    for (int t = 0; tiles && t < a->T; t++)
        if (a->branch[t] != a->branch[0] || (a->renumber && a->renumber[t]))
            tiles = false;
    for (int g = 0; tiles && g < c->o.G; g++)
        tiles = kvt_cell_ascending(c, kvt_cell_at(c, a->branch[0], a->layer, g));
    assert(tiles || !prefill);
    return tiles ? kvt_attn_by_tiles(dev, kernel_of(dev), a) : kvt_attn_by_parts(dev, kernel_of(dev), a);
}
