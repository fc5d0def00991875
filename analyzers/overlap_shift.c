/* The null of the overlap: one set moved in a circle along the universe. Sets are bits, so that a shift costs a word for 64 tokens. */
#include <stdlib.h>
#include <string.h>

#include "analyzers/overlap.h"
#include "base/mem.h"
#include "base/stats.h"

/* A cell's two sets inside its universe. */
struct bits {
    uint64_t *u;               /* A (words) */
    uint64_t *v;               /* B twice, one behind the other, and a word of zeros (2 * words + 1) */
    int n, na, nb;
};

static int popcount(uint64_t x) /* without the instruction, which not every x86-64 has */
{
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int)((x * 0x0101010101010101u) >> 56);
}

static void set(uint64_t *w, int at, uint64_t bit) { w[at >> 6] |= bit << (at & 63); }

static void pack(const struct kvt_held *a, const struct kvt_held *b, size_t cell, size_t words, struct bits *o)
{
    const uint8_t *ka = a->kept + cell * (size_t)a->n, *kb = b->kept + cell * (size_t)a->n;
    const uint8_t *ga = a->guarded + cell * (size_t)a->n, *gb = b->guarded + cell * (size_t)a->n;
    memset(o->u, 0, (3 * words + 2) * sizeof *o->u);
    o->n = o->na = o->nb = 0;
    for (int j = 0; j < a->n; j++) {
        int in = !(ga[j] | gb[j]);
        set(o->u, o->n, (uint64_t)(in & ka[j]));
        set(o->v, o->n, (uint64_t)(in & kb[j]));
        o->na += in & ka[j];
        o->nb += in & kb[j];
        o->n += in;
    }
    for (int j = 0; j < o->n; j++)
        set(o->v, o->n + j, o->v[j >> 6] >> (j & 63) & 1);
}

/* |A and B moved by s|, 0 <= s < n. */
static int common(const struct bits *c, int s)
{
    int x = 0, r = s & 63, words = (c->n + 63) / 64;
    const uint64_t *v = c->v + (s >> 6);
    for (int i = 0; i < words; i++)
        x += popcount(c->u[i] & (v[i] >> r | (v[i + 1] << 1) << (63 - r)));
    return x;
}

int kvt_overlap_shifts(const struct kvt_held *a, const struct kvt_held *b, int from, int to, int rounds, struct kvt_rng *rng,
                       double *gain, struct kvt_err *err)
{
    size_t words = ((size_t)a->n + 63) / 64;
    uint64_t *memory = kvt_calloc(3 * words + 2, sizeof *memory);
    double *share = kvt_calloc((size_t)rounds + 1, sizeof *share);
    if (!memory || !share) {
        free(memory);
        free(share);
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d shifts", rounds);
    }
    for (int r = 0; r < rounds; r++) {
        share[r] = kvt_rng_unit(rng);
        gain[r] = 0;
    }
    struct bits c = {.u = memory, .v = memory + words};
    for (int l = from; l < to && rounds; l++)
        for (int g = 0, G = kvt_overlap_heads_of(a, b, l); g < G; g++) {
            pack(a, b, (size_t)l * (size_t)a->G + (size_t)g, words, &c);
            if (!kvt_overlap_counts(c.n, c.na, c.nb))
                continue;
            double mean = kvt_hyper_mean(c.n, c.na, c.nb);
            for (int r = 0; r < rounds; r++) /* 1 .. n - 1: no shift isn't a shift */
                gain[r] += common(&c, 1 + (int)(share[r] * (c.n - 1))) - mean;
        }
    free(memory);
    free(share);
    return 0;
}
