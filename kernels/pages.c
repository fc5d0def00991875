/* The page pool and the tables of the host backends: who holds what, and when a page is copied, shared or let go. */
#include "kernels/pages.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"

enum { SLOTS = KVT_PAGE_SLOTS, SLAB_BYTES = KVT_HUGE_BYTES };

/* ---- the pool ---- */

static int no_memory(struct kvt_err *err, const struct kvt_cache *c, int64_t pages)
{
    return kvt_fail(err, KVT_ENOMEM,
                    "kv cache: no memory for %lld more pages of %zu bytes (%d held); use fewer branches, a smaller budget "
                    "or a smaller kv type", (long long)pages, c->page_bytes, (int)(c->n_page - c->n_free));
}

static bool grow(struct kvt_cache *c)
{
    int32_t more = 1 << c->slab_shift, left = c->max_page - c->n_page;
    if (left <= 0)
        return false;
    more = more < left ? more : left; /* the pool ends here */
    if (c->n_slab == c->cap_slab) {
        int cap = c->cap_slab ? 2 * c->cap_slab : 16;
        struct kvt_slab *slab = realloc(c->slab, (size_t)cap * sizeof *slab);
        if (!slab)
            return false;
        c->slab = slab;
        c->cap_slab = cap;
    }
    size_t total = (size_t)c->n_page + (size_t)more;
    int32_t *refs = realloc(c->refs, total * sizeof *refs);
    if (!refs)
        return false;
    c->refs = refs;
    int32_t *list = realloc(c->free_page, total * sizeof *list);
    if (!list)
        return false;
    c->free_page = list;
    struct kvt_slab s = {.kv = kvt_calloc_huge((size_t)more * c->page_bytes),
                         .pos = kvt_calloc((size_t)more * SLOTS, sizeof *s.pos)};
    if (!s.kv || !s.pos) {
        free(s.kv);
        free(s.pos);
        return false;
    }
    c->slab[c->n_slab++] = s;
    /* the lowest page of the slab is taken first */
    memmove(list + more, list, (size_t)c->n_free * sizeof *list);
    for (int32_t i = 0; i < more; i++) {
        refs[c->n_page + i] = 0;
        list[i] = c->n_page + more - 1 - i;
    }
    c->n_page += more;
    c->n_free += more;
    return true;
}

/* At least `pages` on the free list. */
static int reserve(struct kvt_cache *c, int64_t pages, struct kvt_err *err)
{
    while (c->n_free < pages)
        if (!grow(c))
            return no_memory(err, c, pages - c->n_free);
    return 0;
}

static int32_t take(struct kvt_cache *c)
{
    assert(c->n_free > 0);
    int32_t page = c->free_page[--c->n_free];
    assert(c->refs[page] == 0);
    c->refs[page] = 1;
    if (c->n_page - c->n_free > c->peak)
        c->peak = c->n_page - c->n_free;
    return page;
}

static void let_go(struct kvt_cache *c, int32_t page)
{
    assert(c->refs[page] > 0);
    if (--c->refs[page] == 0)
        c->free_page[c->n_free++] = page;
}

/* The page behind entry i of the cell, made its own. Needs one free page if it is shared. */
static int32_t own(struct kvt_cache *c, struct kvt_cell *cell, int i)
{
    int32_t page = cell->page[i];
    if (c->refs[page] == 1)
        return page;
    int32_t copy = take(c);
    memcpy(kvt_page_k(c, copy), kvt_page_k(c, page), c->page_bytes);
    memcpy(kvt_page_pos(c, copy), kvt_page_pos(c, page), SLOTS * sizeof(int32_t));
    let_go(c, page);
    cell->page[i] = copy;
    return copy;
}

static bool table_room(struct kvt_cell *cell, int pages)
{
    if (pages <= cell->cap)
        return true;
    int cap = cell->cap ? cell->cap : 4;
    while (cap < pages)
        cap *= 2;
    int32_t *page = realloc(cell->page, (size_t)cap * sizeof *page);
    if (!page)
        return false;
    cell->page = page;
    cell->cap = cap;
    return true;
}

static size_t cell_count(const struct kvt_cache *c)
{
    return (size_t)c->o.max_branch * (size_t)c->o.L * (size_t)c->o.G;
}

int kvt_pages_open(struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err)
{
    assert(o->L > 0 && o->G > 0 && o->D > 0 && o->max_branch > 0 && o->max_slots > 0);
    assert(o->type == KVT_F32 || o->type == KVT_F16 || o->type == KVT_BF16);
    *out = NULL;
    struct kvt_cache *c = calloc(1, sizeof *c);
    if (!c)
        return kvt_fail(err, KVT_ENOMEM, "kv cache: no memory for %zu bytes", sizeof *c);
    c->o = *o;
    c->value_bytes = kvt_dtypes[o->type].block_bytes;
    c->page_bytes = (size_t)2 * SLOTS * (size_t)o->D * (size_t)c->value_bytes;
    uint64_t most = o->max_bytes / c->page_bytes;
    c->max_page = o->max_bytes && most < INT32_MAX ? (int32_t)most : INT32_MAX;
    while (c->slab_shift < 10 && (c->page_bytes << (c->slab_shift + 1)) <= SLAB_BYTES)
        c->slab_shift++;
    c->cell = kvt_calloc(cell_count(c), sizeof *c->cell);
    if (!c->cell) {
        int status = kvt_fail(err, KVT_ENOMEM, "kv cache: no memory for the tables of %d branches", o->max_branch);
        kvt_pages_close(&c);
        return status;
    }
    *out = c;
    return 0;
}

void kvt_pages_close(struct kvt_cache **cache)
{
    if (!cache || !*cache)
        return;
    struct kvt_cache *c = *cache;
    for (size_t i = 0; c->cell && i < cell_count(c); i++)
        free(c->cell[i].page);
    for (int i = 0; i < c->n_slab; i++) {
        free(c->slab[i].kv);
        free(c->slab[i].pos);
    }
    free(c->cell);
    free(c->slab);
    free(c->refs);
    free(c->free_page);
    free(c);
    *cache = NULL;
}

/* ---- append ---- */

int kvt_pages_append(struct kvt_cache *c, int layer, int T, const int32_t *branch, const int32_t *pos, int64_t *place,
                     struct kvt_err *err)
{
    assert(layer >= 0 && layer < c->o.L);
    int G = c->o.G, status = 0;
    /* How many pages: counted before anything changes. A shared last page counts as one more for each of its holders,
     * one too many when all of them append: the last one finds itself alone. */
    int64_t pages = 0;
    for (int t = 0; t < T; t++) {
        assert(branch[t] >= 0 && branch[t] < c->o.max_branch && pos[t] >= 0);
        for (int g = 0; g < G; g++) {
            struct kvt_cell *cell = kvt_cell_at(c, branch[t], layer, g);
            int n = cell->n + cell->want++;
            assert(n < c->o.max_slots);
            if (n % SLOTS == 0)
                pages++;
            else if (n == cell->n && c->refs[cell->page[n / SLOTS]] > 1)
                pages++;
            if (!table_room(cell, n / SLOTS + 1))
                status = kvt_fail(err, KVT_ENOMEM, "kv cache: no memory for a table of %d pages", n / SLOTS + 1);
        }
    }
    for (int t = 0; t < T; t++)
        for (int g = 0; g < G; g++)
            kvt_cell_at(c, branch[t], layer, g)->want = 0;
    if (!status)
        status = reserve(c, pages, err);
    if (status)
        return status;
    for (int t = 0; t < T; t++)
        for (int g = 0; g < G; g++) {
            struct kvt_cell *cell = kvt_cell_at(c, branch[t], layer, g);
            int i = cell->n / SLOTS, slot = cell->n % SLOTS;
            int32_t page = slot ? own(c, cell, i) : (cell->page[i] = take(c));
            kvt_page_pos(c, page)[slot] = pos[t];
            place[(size_t)t * (size_t)G + (size_t)g] = (int64_t)page * SLOTS + slot;
            cell->n++;
        }
    return 0;
}

/* ---- keep: gather the survivors ----
 *
 *   old  [ 0..15 | 16..31 | 32..47 | 48..50 ]      kept: 0..15, 18, 33, 34, 48..50
 *   new  [ 0..15 | 18 33 34 48 49 50 ]             page 0 is shared, page 1 is fresh, the other three are let go
 *
 * In place: kept slots ascend, so new page i reads only old pages >= i and entry i can be replaced at once. */

/* Is new page i (its slots listed in s, m of them) all of one old page? Then that page's index, else -1. */
static int whole_page(const struct kvt_cell *cell, const int32_t *s, int m)
{
    int old = s[0] / SLOTS, live = cell->n - old * SLOTS;
    if (live > SLOTS)
        live = SLOTS;
    /* ascending and within one page of `live` slots: first at 0, m == live, and the last at live - 1 */
    return s[0] % SLOTS == 0 && m == live && s[m - 1] == s[0] + live - 1 ? old : -1;
}

static void gather(const struct kvt_cache *c, const struct kvt_cell *cell, const int32_t *s, int m, int32_t dst)
{
    size_t D = (size_t)c->o.D, vb = (size_t)c->value_bytes;
    unsigned char *dk = kvt_page_k(c, dst), *dv = kvt_page_v(c, dst);
    int32_t *dp = kvt_page_pos(c, dst);
    for (int i = 0; i < m; i++) {
        int32_t src = cell->page[s[i] / SLOTS];
        int from = s[i] % SLOTS;
        const unsigned char *sk = kvt_page_k(c, src);
        dp[i] = kvt_page_pos(c, src)[from];
        memcpy(dv + (size_t)i * D * vb, kvt_page_v(c, src) + (size_t)from * D * vb, D * vb);
        if (vb == 2)
            for (size_t d = 0; d < D; d++)
                ((uint16_t *)dk)[d * SLOTS + (size_t)i] = ((const uint16_t *)sk)[d * SLOTS + (size_t)from];
        else
            for (size_t d = 0; d < D; d++)
                ((uint32_t *)dk)[d * SLOTS + (size_t)i] = ((const uint32_t *)sk)[d * SLOTS + (size_t)from];
    }
}

int kvt_pages_keep(const struct kvt_keep_args *a, struct kvt_err *err)
{
    struct kvt_cache *c = a->cache;
    int64_t fresh = 0;
    for (int g = 0; g < c->o.G; g++) {
        const struct kvt_cell *cell = kvt_cell_at(c, a->branch, a->layer, g);
        const int32_t *s = a->slot + (size_t)g * (size_t)a->ld;
        int n = a->count[g];
        assert(n >= 0 && n <= cell->n && n <= a->ld);
        for (int i = 0; i < n; i++)
            assert(s[i] >= 0 && s[i] < cell->n && (i == 0 || s[i] > s[i - 1]));
        for (int i = 0; i < n; i += SLOTS)
            fresh += whole_page(cell, s + i, n - i < SLOTS ? n - i : SLOTS) < 0;
    }
    int status = reserve(c, fresh, err);
    if (status)
        return status;
    for (int g = 0; g < c->o.G; g++) {
        struct kvt_cell *cell = kvt_cell_at(c, a->branch, a->layer, g);
        const int32_t *s = a->slot + (size_t)g * (size_t)a->ld;
        int n = a->count[g], pages = kvt_page_count(cell->n), i = 0;
        for (; i * SLOTS < n; i++) {
            int m = n - i * SLOTS < SLOTS ? n - i * SLOTS : SLOTS;
            int old = whole_page(cell, s + i * SLOTS, m);
            int32_t page;
            if (old >= 0) {
                page = cell->page[old];
                c->refs[page]++;
            } else {
                page = take(c);
                gather(c, cell, s + i * SLOTS, m, page);
            }
            let_go(c, cell->page[i]);
            cell->page[i] = page;
        }
        for (; i < pages; i++)
            let_go(c, cell->page[i]);
        cell->n = n;
    }
    return 0;
}

/* ---- remove: the last slot moves into the hole ---- */

static void move_slot(const struct kvt_cache *c, int32_t dst, int to, int32_t src, int from)
{
    size_t D = (size_t)c->o.D, vb = (size_t)c->value_bytes;
    unsigned char *dk = kvt_page_k(c, dst);
    const unsigned char *sk = kvt_page_k(c, src);
    kvt_page_pos(c, dst)[to] = kvt_page_pos(c, src)[from];
    memmove(kvt_page_v(c, dst) + (size_t)to * D * vb, kvt_page_v(c, src) + (size_t)from * D * vb, D * vb);
    for (size_t d = 0; d < D; d++)
        memcpy(dk + (d * SLOTS + (size_t)to) * vb, sk + (d * SLOTS + (size_t)from) * vb, vb);
}

int kvt_pages_remove(const struct kvt_remove_args *a, struct kvt_err *err)
{
    struct kvt_cache *c = a->cache;
    int64_t copies = 0;
    for (int g = 0; g < c->o.G; g++) {
        const struct kvt_cell *cell = kvt_cell_at(c, a->branch, a->layer, g);
        const int32_t *s = a->slot + (size_t)g * (size_t)a->ld;
        assert(a->count[g] >= 0 && a->count[g] <= cell->n && a->count[g] <= a->ld);
        int before = -1;
        for (int i = 0; i < a->count[g]; i++) {
            assert(s[i] >= 0 && s[i] < cell->n && (i == 0 || s[i] < s[i - 1]));
            int page = s[i] / SLOTS;
            copies += page != before && c->refs[cell->page[page]] > 1;
            before = page;
        }
    }
    int status = reserve(c, copies, err);
    if (status)
        return status;
    for (int g = 0; g < c->o.G; g++) {
        struct kvt_cell *cell = kvt_cell_at(c, a->branch, a->layer, g);
        const int32_t *s = a->slot + (size_t)g * (size_t)a->ld;
        float *state = a->state ? a->state + (size_t)g * (size_t)a->state_ld : NULL;
        for (int i = 0; i < a->count[g]; i++) {
            int last = --cell->n;
            if (s[i] != last) {
                int32_t dst = own(c, cell, s[i] / SLOTS); /* first: `last` may lie in the same page */
                move_slot(c, dst, s[i] % SLOTS, cell->page[last / SLOTS], last % SLOTS);
                if (state)
                    state[s[i]] = state[last];
            }
            if (last % SLOTS == 0)
                let_go(c, cell->page[last / SLOTS]);
        }
    }
    return 0;
}

/* ---- branches ---- */

int kvt_pages_fork(struct kvt_cache *c, int src, int dst, struct kvt_err *err)
{
    assert(src >= 0 && src < c->o.max_branch && dst >= 0 && dst < c->o.max_branch && src != dst);
    int cells = c->o.L * c->o.G;
    const struct kvt_cell *from = kvt_cell_at(c, src, 0, 0);
    struct kvt_cell *to = kvt_cell_at(c, dst, 0, 0);
    for (int i = 0; i < cells; i++) {
        assert(to[i].n == 0);
        if (!table_room(&to[i], kvt_page_count(from[i].n)))
            return kvt_fail(err, KVT_ENOMEM, "kv cache: no memory for the tables of branch %d", dst);
    }
    for (int i = 0; i < cells; i++) {
        int pages = kvt_page_count(from[i].n);
        for (int p = 0; p < pages; p++) {
            to[i].page[p] = from[i].page[p];
            c->refs[from[i].page[p]]++;
        }
        to[i].n = from[i].n;
    }
    return 0;
}

void kvt_pages_drop(struct kvt_cache *c, int branch)
{
    assert(branch >= 0 && branch < c->o.max_branch);
    struct kvt_cell *cell = kvt_cell_at(c, branch, 0, 0);
    for (int i = 0; i < c->o.L * c->o.G; i++) {
        for (int p = kvt_page_count(cell[i].n) - 1; p >= 0; p--)
            let_go(c, cell[i].page[p]);
        cell[i].n = 0;
    }
}

/* ---- looking ---- */

void kvt_pages_positions(const struct kvt_positions_args *a)
{
    for (int g = 0; g < a->cache->o.G; g++) {
        const struct kvt_cell *cell = kvt_cell_at(a->cache, a->branch, a->layer, g);
        int32_t *out = a->pos + (size_t)g * (size_t)a->ld;
        assert(cell->n <= a->ld);
        for (int i = 0; i < a->ld; i++)
            out[i] = i < cell->n ? kvt_page_pos(a->cache, cell->page[i / SLOTS])[i % SLOTS] : -1;
        if (a->count)
            a->count[g] = cell->n;
    }
}

void kvt_pages_lengths(const struct kvt_cache *c, int branch, int32_t *count)
{
    const struct kvt_cell *cell = kvt_cell_at(c, branch, 0, 0);
    for (int i = 0; i < c->o.L * c->o.G; i++)
        count[i] = cell[i].n;
}

void kvt_pages_bytes(const struct kvt_cache *c, int branch, struct kvt_cache_bytes *out)
{
    const struct kvt_cell *cell = kvt_cell_at(c, branch, 0, 0);
    size_t alone = 0, only = 0, entries = 0;
    for (int i = 0; i < c->o.L * c->o.G; i++)
        for (int p = 0; p < kvt_page_count(cell[i].n); p++) {
            alone++;
            only += c->refs[cell[i].page[p]] == 1;
        }
    for (size_t i = 0; i < cell_count(c); i++)
        entries += (size_t)c->cell[i].cap;
    out->held = (size_t)(c->n_page - c->n_free) * c->page_bytes;
    out->peak = (size_t)c->peak * c->page_bytes;
    out->alone = alone * c->page_bytes;
    out->own = only * c->page_bytes;
    out->tables = sizeof *c + cell_count(c) * sizeof *c->cell + (size_t)c->cap_slab * sizeof *c->slab +
                  (size_t)c->n_page * (SLOTS + 2) * sizeof(int32_t) + entries * sizeof(int32_t);
}

void kvt_pages_decode(const struct kvt_cache *c, const void *page, size_t first, size_t stride, int count, float *out)
{
    const uint16_t *h = page;
    const float *f = page;
    for (int i = 0; i < count; i++) {
        size_t at = first + (size_t)i * stride;
        out[i] = c->o.type == KVT_F32 ? f[at] : c->o.type == KVT_F16 ? kvt_f32_from_f16(h[at]) : kvt_f32_from_bf16(h[at]);
    }
}

void kvt_pages_encode(const struct kvt_cache *c, void *page, size_t first, size_t stride, int count, const float *in)
{
    uint16_t *h = page;
    float *f = page;
    for (int i = 0; i < count; i++) {
        size_t at = first + (size_t)i * stride;
        if (c->o.type == KVT_F32)
            f[at] = in[i];
        else
            h[at] = c->o.type == KVT_F16 ? kvt_f16_from_f32(in[i]) : kvt_bf16_from_f32(in[i]);
    }
}
