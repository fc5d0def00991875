/* cache: a pool with a limit of bytes. */
#include "tests/kerncheck/kerncheck.h"

/* A pool that ends holds no more, and all but what a backend's upper bounds cost (a page a cell and two); there is room again when a branch goes. */
void kc_check_limit(struct kc *k)
{
    enum { G = 2, D = 64, ROWS = 16, PAGES = 21, PAGE = 2 * 16 * D * 2 };
    int32_t branch[2][ROWS] = {{0}}, pos[ROWS];
    if (kc_skip(k))
        return;
    for (int t = 0; t < ROWS; t++)
        branch[1][t] = 1, pos[t] = t;
    for (int i = -1; i < k->n_cand; i++) {
        struct kc_cand *c = i < 0 ? &k->ref : &k->cand[i];
        struct kvt_cache_opts o = {.L = 1, .G = G, .D = D, .max_branch = 2, .max_slots = 1000, .type = KVT_F16, .max_bytes = PAGES * PAGE + 100};
        struct kvt_cache *cache = NULL;
        struct kvt_cache_bytes bytes;
        float *kv = kc_put(k, c, kc_host(k, ROWS * G * D * sizeof(float)), ROWS * G * D * sizeof *kv);
        kc_rc(k, c, "cache", c->ops->cache_open(c->dev, &cache, &o, NULL), "open");
        for (int round = 0; round < 2; round++) {
            int n = 0, rc = 0;
            while (n < 60 && !(rc = c->ops->cache_append(c->dev, &(struct kvt_append_args){cache, 0, ROWS, kv, kv, branch[n % 2], pos})))
                n++;
            c->ops->cache_bytes(c->dev, cache, 0, &bytes);
            kc_that(k, c, "cache", rc == KVT_ENOMEM && n <= PAGES / G && n >= PAGES / G - 3 && bytes.held == (size_t)(n * G * PAGE), "limit of %d pages: %d appended, %zu bytes", PAGES, n, bytes.held);
            c->ops->cache_drop(c->dev, cache, 0);
            c->ops->cache_drop(c->dev, cache, 1);
        }
        c->ops->cache_close(c->dev, &cache);
        kc_end_cand(k, c, "cache");
    }
    kc_end_case(k, "cache");
}
