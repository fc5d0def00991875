/* Random numbers that are the same everywhere: xoshiro256** (Blackman and Vigna, 2018), seeded by splitmix64. */
#ifndef KVT_BASE_RNG_H
#define KVT_BASE_RNG_H

#include <stdint.h>

struct kvt_rng { uint64_t s[4]; };

void kvt_rng_seed(struct kvt_rng *r, uint64_t seed);
uint64_t kvt_rng_u64(struct kvt_rng *r);
/* Uniform in [0, n), without bias; n >= 1. */
uint32_t kvt_rng_below(struct kvt_rng *r, uint32_t n);
/* Uniform in [0, 1), 53 bits. */
double kvt_rng_unit(struct kvt_rng *r);

#endif
