/* xoshiro256** and what is drawn from it. */
#include "base/rng.h"

void kvt_rng_seed(struct kvt_rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = (seed += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        r->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotl(uint64_t x, int k) { return x << k | x >> (64 - k); }

uint64_t kvt_rng_u64(struct kvt_rng *r)
{
    uint64_t *s = r->s, out = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint32_t kvt_rng_below(struct kvt_rng *r, uint32_t n)
{
    /* Lemire (2019): the high half of a product; the few low halves that would favour some results are drawn again. */
    uint64_t m = (kvt_rng_u64(r) >> 32) * n;
    if ((uint32_t)m < n) {
        uint32_t least = (uint32_t)-n % n;
        while ((uint32_t)m < least)
            m = (kvt_rng_u64(r) >> 32) * n;
    }
    return (uint32_t)(m >> 32);
}

double kvt_rng_unit(struct kvt_rng *r) { return (double)(kvt_rng_u64(r) >> 11) * 0x1p-53; }
