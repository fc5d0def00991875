/* evict_one: what leaves is found at a vector level (evict_one_body.h), a cell after the other; then the holes are filled. */
#include "kernels/cpu/evict_one.h"

#include <assert.h>

#include "kernels/cpu/cpu.h"
#include "kernels/pages.h"

static kvt_leaver_fn *level_of(const struct kvt_dev *dev)
{
#if defined(__x86_64__)
    if (dev->simd >= KVT_SIMD_AVX512)
        return kvt_step_avx512.leaver;
    if (dev->simd >= KVT_SIMD_AVX2)
        return kvt_step_avx2.leaver;
#endif
    (void)dev;
    return kvt_step_plain.leaver;
}

int kvt_cpu_evict_one(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    enum { SLOTS = KVT_PAGE_SLOTS };
    const struct kvt_cache *c = a->cache;
    int G = c->o.G, R = a->shared ? 1 : G;
    kvt_leaver_fn *leaver = level_of(dev);
    size_t ld = ((size_t)c->o.max_slots + SLOTS - 1) & ~(size_t)(SLOTS - 1);
    int32_t *at = kvt_dev_scratch(dev, (ld + 2 * (size_t)G) * sizeof *at);
    if (!at)
        return KVT_ENOMEM;
    int32_t *slot = at + ld, *count = slot + G;
    assert(!a->state || a->row);
    for (int g = 0; g < G; g++) {
        slot[g] = g < R ? leaver(a, g, a->shared ? G : g + 1, at) : slot[0];
        count[g] = slot[g] >= 0;
        const struct kvt_cell *cell = kvt_cell_at(c, a->branch, a->layer, g);
        a->left[g] = count[g] ? kvt_page_pos(c, cell->page[slot[g] / SLOTS])[slot[g] % SLOTS] : -1;
    }
    return kvt_pages_remove(&(struct kvt_remove_args){.cache = a->cache, .branch = a->branch, .layer = a->layer, .slot = slot, .count = count,
                                                      .ld = 1, .state = a->state, .state_ld = a->ld}, &dev->err);
}
