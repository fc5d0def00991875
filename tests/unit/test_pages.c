/* The page pool of the host backends: who holds a page, when it is copied, shared and given back.
 * Would catch: a count that drifts (leak, double free), a write into a page that another branch still reads, a page that
 * keep copies though it could be shared, bytes that don't follow the allocator, and a failure that leaves half a change. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/pages.h"

enum { L = 2, G = 2, D = 8, B = 5, MAX = 200 };

static struct kvt_dev *dev;
static struct kvt_cache *cache;

static void setup(void)
{
    struct kvt_err err = {0};
    struct kvt_cache_opts o = {.L = L, .G = G, .D = D, .max_branch = B, .max_slots = MAX, .type = KVT_F16};
    cr_assert_eq(kvt_ops_ref.open(&dev, NULL, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_ops_ref.cache_open(dev, &cache, &o, &err), 0, "%s", err.text);
}

static void teardown(void)
{
    kvt_ops_ref.cache_close(dev, &cache);
    cr_assert_null(cache);
    kvt_ops_ref.close(&dev);
}

/* A row of K and V says which token it is: exact in f16. */
static void fill(float *k, float *v, int id)
{
    for (int i = 0; i < G * D; i++) {
        k[i] = (float)(id % 1000 + i);
        v[i] = (float)-(id % 1000 + 2 * i);
    }
}

static int append(int branch, int layer, int n, int id)
{
    float k[MAX * G * D], v[MAX * G * D];
    int32_t of[MAX], pos[MAX];
    for (int i = 0; i < n; i++) {
        fill(k + i * G * D, v + i * G * D, id + i);
        of[i] = branch;
        pos[i] = id + i;
    }
    return kvt_ops_ref.cache_append(dev, &(struct kvt_append_args){cache, layer, n, k, v, of, pos});
}

static struct kvt_cache_bytes bytes(int branch)
{
    struct kvt_cache_bytes b;
    kvt_ops_ref.cache_bytes(dev, cache, branch, &b);
    return b;
}

/* Counts, tables and free list agree. */
static void sound(void)
{
    int32_t *refs = calloc((size_t)cache->n_page + 1, sizeof *refs);
    for (int i = 0; i < B * L * G; i++)
        for (int p = 0; p < kvt_page_count(cache->cell[i].n); p++)
            refs[cache->cell[i].page[p]]++;
    for (int p = 0; p < cache->n_page; p++)
        cr_assert_eq(refs[p], cache->refs[p], "page %d is held %d times, counted %d", p, refs[p], cache->refs[p]);
    for (int i = 0; i < cache->n_free; i++) {
        cr_assert_eq(refs[cache->free_page[i]], 0, "a free page is held, or free twice");
        refs[cache->free_page[i]] = -1;
    }
    int held = 0;
    for (int p = 0; p < cache->n_page; p++)
        held += refs[p] > 0;
    cr_assert_eq(held + cache->n_free, cache->n_page, "%d held and %d free of %d pages", held, cache->n_free, cache->n_page);
    cr_assert_eq(bytes(0).held, (size_t)held * cache->page_bytes);
    free(refs);
}

TestSuite(pages, .init = setup, .fini = teardown);

Test(pages, nothing_is_reserved_up_front)
{
    cr_assert_eq(cache->n_page, 0);
    cr_assert_eq(bytes(0).held, 0);
}

Test(pages, fork_shares_and_append_copies_the_last_page_only)
{
    size_t page = cache->page_bytes;
    cr_assert_eq(append(0, 0, 40, 0), 0); /* 3 pages in each of G cells */
    cr_assert_eq(bytes(0).held, 3 * G * page);
    cr_assert_eq(kvt_ops_ref.cache_fork(dev, cache, 0, 1), 0);
    cr_assert_eq(bytes(0).held, 3 * G * page);
    cr_assert_eq(bytes(1).alone, 3 * G * page);
    cr_assert_eq(bytes(1).own, 0);
    cr_assert_eq(append(1, 0, 1, 40), 0);
    cr_assert_eq(bytes(1).own, G * page);
    cr_assert_eq(bytes(0).own, G * page, "the old last page is the first branch's alone again");
    cr_assert_eq(bytes(0).held, 4 * G * page);
    float k[MAX * D], v[MAX * D];
    kvt_ops_ref.cache_peek(dev, cache, 0, 0, 1, k, v);
    cr_assert_eq(k[39 * D], 39 + D);
    kvt_ops_ref.cache_peek(dev, cache, 1, 0, 1, k, v);
    cr_assert_eq(k[39 * D], 39 + D);
    cr_assert_eq(v[40 * D], -(40 + 2 * D));
    sound();
}

Test(pages, one_call_may_append_to_all_holders_of_a_page)
{
    cr_assert_eq(append(0, 0, 20, 0), 0);
    for (int b = 1; b < B; b++)
        kvt_ops_ref.cache_fork(dev, cache, 0, b);
    float k[B * G * D], v[B * G * D];
    int32_t of[B], pos[B];
    for (int b = 0; b < B; b++) {
        fill(k + b * G * D, v + b * G * D, 100 + b);
        of[b] = b;
        pos[b] = 20;
    }
    cr_assert_eq(kvt_ops_ref.cache_append(dev, &(struct kvt_append_args){cache, 0, B, k, v, of, pos}), 0);
    for (int b = 0; b < B; b++) {
        float got[MAX * D];
        kvt_ops_ref.cache_peek(dev, cache, b, 0, 0, got, NULL);
        cr_assert_eq(got[19 * D], 19);
        cr_assert_eq(got[20 * D], 100 + b, "branch %d reads another branch's token", b);
        cr_assert_eq(bytes(b).own, G * cache->page_bytes);
    }
    sound();
}

Test(pages, keep_shares_whole_pages_and_gives_the_rest_back)
{
    size_t page = cache->page_bytes;
    append(0, 0, 50, 0); /* pages of 16, 16, 16 and 2 slots */
    kvt_ops_ref.cache_fork(dev, cache, 0, 1);
    int32_t slot[G * MAX], count[G];
    for (int g = 0; g < G; g++) {
        count[g] = 0;
        for (int i = 0; i < 50; i++)
            if (i < 16 || i >= 32) /* whole pages 0, 2 and the partial 3 */
                slot[g * MAX + count[g]++] = i;
    }
    cr_assert_eq(kvt_ops_ref.cache_keep(dev, &(struct kvt_keep_args){cache, 1, 0, slot, count, MAX}), 0);
    cr_assert_eq(bytes(1).own, 0, "all three are shared");
    cr_assert_eq(bytes(1).alone, 3 * G * page);
    sound();
    for (int g = 0; g < G; g++) {
        count[g] = 17;
        for (int i = 0; i < 17; i++)
            slot[g * MAX + i] = 2 * i;
    }
    cr_assert_eq(kvt_ops_ref.cache_keep(dev, &(struct kvt_keep_args){cache, 1, 0, slot, count, MAX}), 0);
    cr_assert_eq(bytes(1).own, 2 * G * page);
    cr_assert_eq(bytes(0).held, 6 * G * page);
    kvt_ops_ref.cache_drop(dev, cache, 0);
    cr_assert_eq(bytes(0).held, 2 * G * page);
    sound();
}

Test(pages, no_memory_changes_nothing)
{
    append(0, 0, 40, 0);
    kvt_ops_ref.cache_fork(dev, cache, 0, 1);
    cache->max_page = cache->n_page; /* the pool is as large as it gets */
    int32_t rest = cache->n_free; /* and all of it is taken */
    cache->n_free = 0;
    struct kvt_cache_bytes before = bytes(0);
    int32_t count[2][L * G], slot[G * MAX], zero[G] = {0, 0};
    kvt_ops_ref.cache_lengths(dev, cache, 0, count[0]);
    cr_assert_eq(append(0, 0, 1, 40), KVT_ENOMEM);
    cr_assert(strstr(kvt_dev_error(dev), "no memory"), "%s", kvt_dev_error(dev));
    cr_assert_eq(append(0, 0, 30, 40), KVT_ENOMEM);
    for (int g = 0; g < G; g++) {
        zero[g] = 20;
        for (int i = 0; i < 20; i++)
            slot[g * MAX + i] = 2 * i;
    }
    cr_assert_eq(kvt_ops_ref.cache_keep(dev, &(struct kvt_keep_args){cache, 0, 0, slot, zero, MAX}), KVT_ENOMEM);
    for (int g = 0; g < G; g++) {
        zero[g] = 1;
        slot[g * MAX] = 3;
    }
    cr_assert_eq(kvt_ops_ref.cache_remove(dev, &(struct kvt_remove_args){cache, 0, 0, slot, zero, MAX, NULL, 0}), KVT_ENOMEM);
    kvt_ops_ref.cache_lengths(dev, cache, 0, count[1]);
    cr_assert_arr_eq(count[0], count[1], sizeof count[0]);
    cr_assert_eq(bytes(0).held, before.held);
    cache->n_free = rest;
    sound();
}

/* ---- against arrays ---- */

struct model { /* token ids of a cell, in slot order */
    int n, id[MAX];
    float state[MAX];
};
static struct model model[B][L][G];

static uint64_t seed;
static int pick(int n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (int)(seed >> 33) % n;
}

static void agree(void)
{
    for (int b = 0; b < B; b++) {
        int32_t n[L * G], pos[G * MAX];
        kvt_ops_ref.cache_lengths(dev, cache, b, n);
        size_t pages = 0;
        for (int l = 0; l < L; l++) {
            kvt_ops_ref.cache_positions(dev, &(struct kvt_positions_args){cache, b, l, pos, NULL, MAX});
            for (int g = 0; g < G; g++) {
                const struct model *m = &model[b][l][g];
                float k[MAX * D], v[MAX * D], wk[G * D], wv[G * D];
                cr_assert_eq(n[l * G + g], m->n);
                kvt_ops_ref.cache_peek(dev, cache, b, l, g, k, v);
                for (int i = 0; i < m->n; i++) {
                    cr_assert_eq(pos[g * MAX + i], m->id[i], "slot %d holds position %d, not %d", i, pos[g * MAX + i], m->id[i]);
                    fill(wk, wv, m->id[i]);
                    cr_assert_arr_eq(k + i * D, wk + g * D, D * sizeof *k);
                    cr_assert_arr_eq(v + i * D, wv + g * D, D * sizeof *v);
                }
                for (int i = m->n; i < MAX; i++)
                    cr_assert_eq(pos[g * MAX + i], -1);
                pages += (size_t)kvt_page_count(m->n);
            }
        }
        cr_assert_eq(bytes(b).alone, pages * cache->page_bytes);
    }
    sound();
}

Test(pages, agrees_with_arrays_through_anything)
{
    for (int run = 0; run < 20; run++) {
        seed = 0x9e3779b97f4a7c15u * (uint64_t)(run + 1);
        memset(model, 0, sizeof model);
        int id = 0;
        for (int step = 0; step < 120; step++) {
            int b = pick(B), l = pick(L), what = pick(9), most = 0;
            int32_t slot[G * MAX], count[G];
            for (int g = 0; g < G; g++)
                most = model[b][l][g].n > most ? model[b][l][g].n : most;
            if (what < 4) {
                int n = 1 + pick(what ? 3 : 40);
                if (most + n > MAX)
                    continue;
                cr_assert_eq(append(b, l, n, id), 0);
                for (int g = 0; g < G; g++)
                    for (int i = 0; i < n; i++)
                        model[b][l][g].id[model[b][l][g].n++] = id + i;
                id += n;
            } else if (what < 6) {
                int share = pick(5) * 25, run_of = pick(2) ? 16 : 1;
                for (int g = 0; g < G; g++) {
                    struct model *m = &model[b][l][g];
                    bool in = true;
                    count[g] = 0;
                    for (int i = 0; i < m->n; i++) {
                        if (i % run_of == 0)
                            in = pick(100) < share;
                        if (in) {
                            m->id[count[g]] = m->id[i];
                            slot[g * MAX + count[g]++] = i;
                        }
                    }
                    m->n = count[g];
                }
                cr_assert_eq(kvt_ops_ref.cache_keep(dev, &(struct kvt_keep_args){cache, b, l, slot, count, MAX}), 0);
            } else if (what < 8) {
                float state[G * MAX];
                for (int g = 0; g < G; g++) {
                    struct model *m = &model[b][l][g];
                    int at = m->n;
                    for (int i = 0; i < MAX; i++)
                        state[g * MAX + i] = m->state[i] = (float)i;
                    for (count[g] = 0; count[g] < 4 && (at -= 1 + pick(9)) >= 0; count[g]++) {
                        slot[g * MAX + count[g]] = at;
                        m->n--;
                        m->id[at] = m->id[m->n];
                        m->state[at] = m->state[m->n];
                    }
                }
                cr_assert_eq(kvt_ops_ref.cache_remove(dev, &(struct kvt_remove_args){cache, b, l, slot, count, MAX, state, MAX}), 0);
                for (int g = 0; g < G; g++)
                    cr_assert_arr_eq(state + g * MAX, model[b][l][g].state, (size_t)model[b][l][g].n * sizeof *state);
            } else {
                int to = (b + 1 + pick(B - 1)) % B;
                kvt_ops_ref.cache_drop(dev, cache, to);
                cr_assert_eq(kvt_ops_ref.cache_fork(dev, cache, b, to), 0);
                memcpy(model[to], model[b], sizeof model[b]);
            }
            if (step % 10 == 9)
                agree();
        }
        for (int b = 0; b < B; b++)
            kvt_ops_ref.cache_drop(dev, cache, b);
        cr_assert_eq(bytes(0).held, 0);
        cr_assert_eq(cache->n_free, cache->n_page, "a page is lost");
        sound();
    }
}
