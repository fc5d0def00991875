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

/* 64 bytes of 0 or 1, or the last few, as bits. */
static uint64_t bits_of(const uint8_t *p, int n)
{
    uint64_t w = 0, eight;
    for (int i = 0; i + 8 <= n; i += 8) {
        memcpy(&eight, p + i, sizeof eight);
        w |= (eight * 0x0102040810204080u >> 56) << i; /* byte k lands in bit k of the highest byte */
    }
    for (int i = n & ~7; i < n; i++)
        w |= (uint64_t)p[i] << i;
    return w;
}

/* Bits one behind the other. */
struct tail { uint64_t *w; int n; };

static void append(struct tail *t, uint64_t bits, int count) /* those above count are zero */
{
    int at = t->n & 63;
    t->w[t->n >> 6] |= bits << at;
    if (at + count > 64)
        t->w[(t->n >> 6) + 1] |= bits >> (64 - at);
    t->n += count;
}

static void pack(const struct kvt_held *a, const struct kvt_held *b, size_t cell, size_t words, struct bits *o)
{
    size_t first = cell * (size_t)a->n;
    struct tail u = {o->u, 0}, v = {o->v, 0};
    memset(o->u, 0, (3 * words + 2) * sizeof *o->u);
    o->na = o->nb = 0;
    for (int j = 0; j < a->n; j += 64) {
        int n = a->n - j < 64 ? a->n - j : 64;
        size_t at = first + (size_t)j;
        uint64_t in = ~(bits_of(a->guarded + at, n) | bits_of(b->guarded + at, n)), ka = bits_of(a->kept + at, n), kb = bits_of(b->kept + at, n);
        in = n < 64 ? in & (((uint64_t)1 << n) - 1) : in;
        while (in) { /* run by run: protected tokens lie together */
            int skip = __builtin_ctzll(in);
            uint64_t rest = in >> skip;
            int run = ~rest ? __builtin_ctzll(~rest) : 64;
            uint64_t mask = run < 64 ? ((uint64_t)1 << run) - 1 : ~(uint64_t)0;
            append(&u, ka >> skip & mask, run);
            append(&v, kb >> skip & mask, run);
            in &= ~(mask << skip);
        }
    }
    o->n = u.n;
    for (size_t i = 0; i < words; i++) {
        o->na += __builtin_popcountll(o->u[i]);
        o->nb += __builtin_popcountll(o->v[i]);
    }
    for (int j = 0; j < o->n; j += 64)
        append(&v, o->v[j >> 6] & (o->n - j < 64 ? ((uint64_t)1 << (o->n - j)) - 1 : ~(uint64_t)0), o->n - j < 64 ? o->n - j : 64);
}

/* |A and B moved by s|, 0 <= s < n. Bits are counted without the instruction, which not every x86-64 has: up to 31 words are summed
 * byte by byte before the bytes are, so that compilers do two or more words at once. */
static int common(const struct bits *c, int s)
{
    const uint64_t in2 = 0x5555555555555555u, in4 = 0x3333333333333333u, in8 = 0x0f0f0f0f0f0f0f0fu, in16 = 0x00ff00ff00ff00ffu;
    int x = 0, r = s & 63, words = (c->n + 63) / 64;
    const uint64_t *u = c->u, *v = c->v + (s >> 6);
    for (int i = 0; i < words;) {
        int end = i + 31 < words ? i + 31 : words;
        uint64_t sum = 0;
        for (; i < end; i++) {
            uint64_t w = u[i] & (v[i] >> r | (v[i + 1] << 1) << (63 - r));
            w -= w >> 1 & in2;
            w = (w & in4) + (w >> 2 & in4);
            sum += (w + (w >> 4)) & in8;
        }
        x += (int)(((sum & in16) + (sum >> 8 & in16)) * 0x0001000100010001u >> 48);
    }
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
