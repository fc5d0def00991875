/* Blocks of each data type to 32 values in registers. `type` is a constant where these are inlined, so each kernel
 * holds one case. Values are bit for bit those of kvt_dequantize (its factors are exact, so fma rounds once, as
 * its addition does).
 *
 * Four- and five-bit types are looked up: a block has only 16 (or 32) different values, which are computed once
 * as a vector, and a permutation by the quants gives the values. A permutation of 16 lanes reads only the low four
 * bits of its index, so nibbles need no mask. */
#ifndef KVT_KERNELS_CPU_BLOCKS_AVX512_H
#define KVT_KERNELS_CPU_BLOCKS_AVX512_H

#include <string.h>

#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

#ifdef KVT_X86

struct kvt_v32 { __m512 lo, hi; }; /* values 0..15 and 16..31 */

/* As in kvt_dtypes, but a constant where type is one. */
KVT_INLINE size_t kvt_block_bytes(enum kvt_dtype type)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: return bytes;
    KVT_DTYPE_MAP(X)
#undef X
    default: return 0;
    }
}

KVT_INLINE size_t kvt_block_values(enum kvt_dtype type)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: return values;
    KVT_DTYPE_MAP(X)
#undef X
    default: return 1;
    }
}

/* Four rows of weights that follow each other are read side by side, 32 values of each in step j: too many short
 * streams for the hardware to guess. So what is read some steps later is asked for in the order of memory. */
KVT_INLINE void kvt_prefetch_ahead(enum kvt_dtype type, const uint8_t *rows, int j)
{
    enum { AHEAD = 4096 }; /* about memory's delay times its speed for one core, and some */
    const size_t step = 4 * 32 * kvt_block_bytes(type) / kvt_block_values(type);
    for (size_t i = 0; i < step; i += 64)
        _mm_prefetch((const char *)rows + AHEAD + (size_t)j * step + i, _MM_HINT_T0);
}

KVT_INLINE KVT_AVX512 float kvt_f16_at(const uint8_t *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

KVT_INLINE KVT_AVX512 __m512 kvt_iota(void)
{
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

/* A table of the 32 values a block can have: q * d + m for q in 0..31; 16-value types use lo alone. */
KVT_INLINE KVT_AVX512 struct kvt_v32 kvt_table(enum kvt_dtype type, const uint8_t *block, int run)
{
    __m512 q = kvt_iota(), d, m;
    bool fifth = type == KVT_Q5_0 || type == KVT_Q5_1 || type == KVT_Q5_K;
    if (type == KVT_Q4_K || type == KVT_Q5_K) {
        const uint8_t *s = block + 4;
        int scale = run < 4 ? s[run] & 63 : (s[run + 4] & 15) | (s[run - 4] >> 6) << 4;
        int min = run < 4 ? s[run + 4] & 63 : (s[run + 4] >> 4) | (s[run] >> 6) << 4;
        d = _mm512_set1_ps(kvt_f16_at(block) * (float)scale);
        m = _mm512_set1_ps(-(kvt_f16_at(block + 2) * (float)min));
    } else {
        d = _mm512_set1_ps(kvt_f16_at(block));
        m = type == KVT_Q4_1 || type == KVT_Q5_1 ? _mm512_set1_ps(kvt_f16_at(block + 2)) : _mm512_setzero_ps();
        if (type == KVT_Q4_0 || type == KVT_Q5_0)
            q = _mm512_sub_ps(q, _mm512_set1_ps(type == KVT_Q4_0 ? 8 : 16));
    }
    struct kvt_v32 t = {.lo = _mm512_fmadd_ps(q, d, m)};
    t.hi = fifth ? _mm512_fmadd_ps(_mm512_add_ps(q, _mm512_set1_ps(16)), d, m) : t.lo;
    return t;
}

/* Where a block's nibbles, and the fifth bits of this run of 32, lie. */
KVT_INLINE const uint8_t *kvt_nibbles(enum kvt_dtype type, const uint8_t *block, int run)
{
    switch (type) {
    case KVT_Q4_0: return block + 2;
    case KVT_Q4_1: return block + 4;
    case KVT_Q5_0: return block + 6;
    case KVT_Q5_1: return block + 8;
    case KVT_Q4_K: return block + 16 + run / 2 * 32;
    default: return block + 48 + run / 2 * 32; /* Q5_K */
    }
}

KVT_INLINE KVT_AVX512 __mmask32 kvt_fifth_bits(enum kvt_dtype type, const uint8_t *block, int run)
{
    if (type == KVT_Q5_K)
        return _mm256_test_epi8_mask(_mm256_loadu_si256((const __m256i *)(block + 16)), _mm256_set1_epi8((char)(1 << run)));
    uint32_t bits;
    memcpy(&bits, block + (type == KVT_Q5_0 ? 2 : 4), sizeof bits);
    return bits;
}

KVT_INLINE bool kvt_is_looked_up(enum kvt_dtype type)
{
    return type == KVT_Q4_0 || type == KVT_Q4_1 || type == KVT_Q5_0 || type == KVT_Q5_1 || type == KVT_Q4_K || type == KVT_Q5_K;
}

/* The 32 bytes of Q6_K quants of a run, minus 32, as int8. */
KVT_INLINE KVT_AVX512 __m256i kvt_q6_quants(const uint8_t *block, int run)
{
    int half = run / 4, quarter = run % 4;
    __m256i low = _mm256_loadu_si256((const __m256i *)(block + half * 64 + quarter % 2 * 32));
    __m256i high = _mm256_loadu_si256((const __m256i *)(block + 128 + half * 32));
    low = _mm256_and_si256(_mm256_srl_epi16(low, _mm_cvtsi32_si128(quarter / 2 * 4)), _mm256_set1_epi8(15));
    high = _mm256_and_si256(_mm256_srl_epi16(high, _mm_cvtsi32_si128(quarter * 2)), _mm256_set1_epi8(3));
    return _mm256_sub_epi8(_mm256_or_si256(low, _mm256_slli_epi16(high, 4)), _mm256_set1_epi8(32));
}

/* Values [32 j, 32 j + 32) of a row of blocks; those at `valid` and beyond are 0 (only types with blocks of one
 * value can have fewer than 32). */
KVT_INLINE KVT_AVX512 struct kvt_v32 kvt_values32(enum kvt_dtype type, const uint8_t *row, int j, int valid)
{
    struct kvt_v32 v;
    if (kvt_is_looked_up(type)) {
        bool k = type == KVT_Q4_K || type == KVT_Q5_K;
        int run = k ? j % 8 : 0;
        const uint8_t *block = row + (size_t)(k ? j / 8 : j) * kvt_block_bytes(type);
        struct kvt_v32 table = kvt_table(type, block, run);
        const uint8_t *q = kvt_nibbles(type, block, run);
        __m512i lo = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)q)), hi;
        if (k) {
            __m128i shift = _mm_cvtsi32_si128(run % 2 * 4);
            hi = _mm512_srl_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(q + 16))), shift);
            lo = _mm512_srl_epi32(lo, shift);
        } else {
            hi = _mm512_srli_epi32(lo, 4);
        }
        v.lo = _mm512_permutexvar_ps(lo, table.lo);
        v.hi = _mm512_permutexvar_ps(hi, table.lo);
        if (type == KVT_Q5_0 || type == KVT_Q5_1 || type == KVT_Q5_K) {
            __mmask32 fifth = kvt_fifth_bits(type, block, run);
            v.lo = _mm512_mask_permutexvar_ps(v.lo, (__mmask16)fifth, lo, table.hi);
            v.hi = _mm512_mask_permutexvar_ps(v.hi, (__mmask16)(fifth >> 16), hi, table.hi);
        }
        return v;
    }
    if (type == KVT_Q8_0 || type == KVT_Q6_K) {
        __m256i q;
        __m512 dlo, dhi;
        if (type == KVT_Q8_0) {
            const uint8_t *block = row + (size_t)j * 34;
            q = _mm256_loadu_si256((const __m256i *)(block + 2));
            dlo = dhi = _mm512_set1_ps(kvt_f16_at(block));
        } else {
            const uint8_t *block = row + (size_t)(j / 8) * 210;
            const int8_t *scale = (const int8_t *)block + 192 + j % 8 * 2;
            float d = kvt_f16_at(block + 208);
            q = kvt_q6_quants(block, j % 8);
            dlo = _mm512_set1_ps(d * (float)scale[0]);
            dhi = _mm512_set1_ps(d * (float)scale[1]);
        }
        v.lo = _mm512_mul_ps(dlo, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(q))));
        v.hi = _mm512_mul_ps(dhi, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(q, 1))));
        return v;
    }
    __mmask32 have = valid >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << valid) - 1;
    __mmask16 have_lo = (__mmask16)have, have_hi = (__mmask16)(have >> 16);
    if (type == KVT_F32) {
        const float *p = (const float *)(const void *)(row + (size_t)j * 128);
        v.lo = _mm512_maskz_loadu_ps(have_lo, p);
        v.hi = _mm512_maskz_loadu_ps(have_hi, p + 16);
        return v;
    }
    __m512i h = _mm512_maskz_loadu_epi16(have, row + (size_t)j * 64);
    __m256i hlo = _mm512_castsi512_si256(h), hhi = _mm512_extracti64x4_epi64(h, 1);
    if (type == KVT_F16) {
        v.lo = _mm512_cvtph_ps(hlo);
        v.hi = _mm512_cvtph_ps(hhi);
    } else {
        v.lo = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(hlo), 16));
        v.hi = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(hhi), 16));
    }
    return v;
}

#endif
#endif
