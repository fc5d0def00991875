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

/* Scales are decoded for up to this many runs of 32 values at a time, many per conversion, and are then read back
 * as broadcasts, which cost no shuffle. */
enum { KVT_RUNS = 64, KVT_SCALES = 4 * KVT_RUNS /* floats for that many */ };

/* Floats of one run: a pair (a, b), two pairs for Q2_K. */
KVT_INLINE int kvt_scales_of_run(enum kvt_dtype type)
{
    return type == KVT_Q2_K ? 4 : 2;
}

/* The pair (a, b) of runs [j0, j0 + runs) of a row, j0 a multiple of KVT_RUNS: scale and (signed) minimum; for Q6_K
 * and Q3_K the scales of a run's two halves; for Q2_K such a pair for each half. Types without scales leave it alone,
 * types without a minimum leave b undefined. */
KVT_INLINE KVT_AVX512 void kvt_scales(enum kvt_dtype type, const uint8_t *row, int j0, int runs, float *ab)
{
    if (type == KVT_F32 || type == KVT_F16 || type == KVT_BF16)
        return;
    if (kvt_block_values(type) == 256) {
        const uint8_t *block = row + (size_t)(j0 / 8) * kvt_block_bytes(type);
        for (int i = 0; i < runs; i += 8, block += kvt_block_bytes(type)) {
            __m512 scale;
            __m512i q;
            if (type == KVT_Q6_K) {
                scale = _mm512_set1_ps(kvt_f16_at(block + 208));
                q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(block + 192)));
            } else if (type == KVT_Q3_K) { /* four times four 6-bit numbers: nibbles in u[0], u[1], above them pairs in u[2] */
                uint32_t u[3];
                memcpy(u, block + 96, sizeof u);
                __m128i low = _mm_setr_epi32((int)u[0], (int)u[1], (int)(u[0] >> 4), (int)(u[1] >> 4));
                __m128i high = _mm_srlv_epi32(_mm_set1_epi32((int)u[2]), _mm_setr_epi32(0, 2, 4, 6));
                low = _mm_and_si128(low, _mm_set1_epi8(15));
                high = _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4);
                scale = _mm512_set1_ps(kvt_f16_at(block + 108));
                q = _mm512_cvtepi8_epi32(_mm_sub_epi8(_mm_or_si128(low, high), _mm_set1_epi8(32)));
            } else if (type == KVT_IQ4_XS) { /* the upper half of each 64 bits is b, which isn't used */
                uint16_t h;
                uint32_t l;
                memcpy(&h, block + 2, sizeof h);
                memcpy(&l, block + 4, sizeof l);
                __m128i low = _mm_unpacklo_epi8(_mm_cvtsi32_si128((int)(l & 0x0f0f0f0f)), _mm_cvtsi32_si128((int)(l >> 4 & 0x0f0f0f0f)));
                __m512i high = _mm512_srlv_epi64(_mm512_set1_epi64(h), _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14));
                high = _mm512_slli_epi64(_mm512_and_si512(high, _mm512_set1_epi64(3)), 4);
                scale = _mm512_set1_ps(kvt_f16_at(block));
                q = _mm512_sub_epi32(_mm512_or_si512(_mm512_cvtepu8_epi64(low), high), _mm512_set1_epi32(32));
            } else if (type == KVT_Q2_K) {
                uint32_t dm;
                memcpy(&dm, block + 80, sizeof dm);
                __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128((int)dm));
                d = _mm_xor_ps(d, _mm_castsi128_ps(_mm_setr_epi32(0, INT32_MIN, 0, 0))); /* minima are taken off */
                scale = _mm512_castpd_ps(_mm512_broadcastsd_pd(_mm_castps_pd(d)));
                __m128i both = _mm_loadu_si128((const __m128i *)block), nibble = _mm_set1_epi8(15);
                __m128i s = _mm_and_si128(both, nibble), m = _mm_and_si128(_mm_srli_epi16(both, 4), nibble);
                q = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(s, m));
                _mm512_store_ps(ab + 4 * i, _mm512_mul_ps(_mm512_cvtepi32_ps(q), scale));
                q = _mm512_cvtepu8_epi32(_mm_unpackhi_epi8(s, m));
                _mm512_store_ps(ab + 4 * i + 16, _mm512_mul_ps(_mm512_cvtepi32_ps(q), scale));
                continue;
            } else {
                uint32_t dm, u[3]; /* 6-bit numbers: 4 scales, 4 minima, then low nibbles of 4 more of each */
                memcpy(&dm, block, sizeof dm);
                memcpy(u, block + 4, sizeof u);
                __m128 d = _mm_cvtph_ps(_mm_cvtsi32_si128((int)dm));
                d = _mm_xor_ps(d, _mm_castsi128_ps(_mm_setr_epi32(0, INT32_MIN, 0, 0))); /* minima are taken off */
                scale = _mm512_castpd_ps(_mm512_broadcastsd_pd(_mm_castps_pd(d)));
                uint32_t s_high = (u[2] & 0x0f0f0f0f) | ((u[0] >> 6) & 0x03030303) << 4;
                uint32_t m_high = ((u[2] >> 4) & 0x0f0f0f0f) | ((u[1] >> 6) & 0x03030303) << 4;
                __m128i s = _mm_setr_epi32((int)(u[0] & 0x3f3f3f3f), (int)s_high, 0, 0);
                __m128i m = _mm_setr_epi32((int)(u[1] & 0x3f3f3f3f), (int)m_high, 0, 0);
                q = _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(s, m));
            }
            _mm512_store_ps(ab + 2 * i, _mm512_mul_ps(_mm512_cvtepi32_ps(q), scale));
        }
        return;
    }
    const size_t bytes = kvt_block_bytes(type);
    const uint8_t *block = row + (size_t)j0 * bytes;
    const __m128i mask = _mm_set1_epi32(type == KVT_Q4_1 || type == KVT_Q5_1 ? -1 : 0xffff);
    uint32_t dm[4];
    int i = 0;
    if (type == KVT_MXFP4) {
        for (; i < runs; i += 4, block += 4 * bytes) { /* past the last run its byte is read again */
            for (int r = 0; r < 4; r++)
                dm[r] = block[(size_t)(i + r < runs ? r : 0) * bytes];
            __m128i a = kvt_mx_scales(_mm_setr_epi32((int)dm[0], (int)dm[1], (int)dm[2], (int)dm[3]));
            _mm256_store_ps(ab + 2 * i, _mm256_castsi256_ps(_mm256_cvtepu32_epi64(a)));
        }
        return;
    }
    for (; i + 4 <= runs; i += 4, block += 4 * bytes) {
        for (int r = 0; r < 4; r++)
            memcpy(&dm[r], block + (size_t)r * bytes, sizeof *dm);
        __m128i four = _mm_setr_epi32((int)dm[0], (int)dm[1], (int)dm[2], (int)dm[3]);
        _mm256_store_ps(ab + 2 * i, _mm256_cvtph_ps(_mm_and_si128(four, mask)));
    }
    for (; i < runs; i++, block += bytes) {
        memcpy(dm, block, sizeof *dm);
        _mm_storel_pi((__m64 *)(ab + 2 * i), _mm_cvtph_ps(_mm_and_si128(_mm_cvtsi32_si128((int)dm[0]), mask)));
    }
}

/* A table of the 32 values a run can have: q * a + b for q in 0..31; 16-value types use lo alone. Q2_K and Q3_K have
 * 4 and 8 values for each half of a run: lo and hi hold those of the halves, as often as they fit. */
KVT_INLINE KVT_AVX512 struct kvt_v32 kvt_table(enum kvt_dtype type, const float *ab)
{
    struct kvt_v32 t;
    if (type == KVT_IQ4_NL || type == KVT_IQ4_XS || type == KVT_MXFP4) {
        __m128i values = _mm_loadu_si128((const __m128i *)(type == KVT_MXFP4 ? kvt_mxfp4_values : kvt_iq4_values));
        t.lo = t.hi = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(values)), _mm512_set1_ps(ab[0]));
        return t;
    }
    if (type == KVT_Q2_K) {
        const __m512 q = _mm512_setr_ps(0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3);
        t.lo = _mm512_fmadd_ps(q, _mm512_set1_ps(ab[0]), _mm512_set1_ps(ab[1]));
        t.hi = _mm512_fmadd_ps(q, _mm512_set1_ps(ab[2]), _mm512_set1_ps(ab[3]));
        return t;
    }
    if (type == KVT_Q3_K) {
        const __m512 q = _mm512_setr_ps(-4, -3, -2, -1, 0, 1, 2, 3, -4, -3, -2, -1, 0, 1, 2, 3);
        t.lo = _mm512_mul_ps(q, _mm512_set1_ps(ab[0]));
        t.hi = _mm512_mul_ps(q, _mm512_set1_ps(ab[1]));
        return t;
    }
    __m512 q = kvt_iota(), d = _mm512_set1_ps(ab[0]), m = _mm512_set1_ps(ab[1]);
    int first = type == KVT_Q4_0 ? -8 : type == KVT_Q5_0 ? -16 : 0;
    t.lo = t.hi = _mm512_fmadd_ps(_mm512_add_ps(q, _mm512_set1_ps((float)first)), d, m);
    if (type == KVT_Q5_0 || type == KVT_Q5_1 || type == KVT_Q5_K)
        t.hi = _mm512_fmadd_ps(_mm512_add_ps(q, _mm512_set1_ps((float)(first + 16))), d, m);
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
    case KVT_IQ4_NL: return block + 2;
    case KVT_IQ4_XS: return block + 8 + run * 16;
    case KVT_MXFP4: return block + 1;
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
    return type == KVT_Q4_0 || type == KVT_Q4_1 || type == KVT_Q5_0 || type == KVT_Q5_1 || type == KVT_Q4_K || type == KVT_Q5_K ||
           type == KVT_IQ4_NL || type == KVT_IQ4_XS || type == KVT_MXFP4;
}

/* The 32 bytes of Q2_K or Q3_K quants of a run; with Q2_K, noise stands above the two bits. */
KVT_INLINE KVT_AVX512 __m256i kvt_q23_quants(enum kvt_dtype type, const uint8_t *block, int run)
{
    __m256i q = _mm256_loadu_si256((const __m256i *)(block + (type == KVT_Q2_K ? 16 : 32) + run / 4 * 32));
    q = _mm256_srl_epi16(q, _mm_cvtsi32_si128(run % 4 * 2));
    if (type == KVT_Q2_K)
        return q;
    __mmask32 third = _mm256_test_epi8_mask(_mm256_loadu_si256((const __m256i *)block), _mm256_set1_epi8((char)(1 << run)));
    q = _mm256_and_si256(q, _mm256_set1_epi8(3));
    return _mm256_mask_add_epi8(q, third, q, _mm256_set1_epi8(4));
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

/* Run j of a row of blocks, values [32 j, 32 j + 32), with its scales; values at `valid` and beyond are 0 (only
 * types with blocks of one value can have fewer than 32). */
KVT_INLINE KVT_AVX512 struct kvt_v32 kvt_values32(enum kvt_dtype type, const uint8_t *row, int j, int valid, const float *ab)
{
    struct kvt_v32 v;
    if (type == KVT_Q2_K || type == KVT_Q3_K) {
        struct kvt_v32 table = kvt_table(type, ab);
        __m256i q = kvt_q23_quants(type, row + (size_t)(j / 8) * kvt_block_bytes(type), j % 8);
        v.lo = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm256_castsi256_si128(q)), table.lo);
        v.hi = _mm512_permutexvar_ps(_mm512_cvtepu8_epi32(_mm256_extracti128_si256(q, 1)), table.hi);
        return v;
    }
    if (kvt_is_looked_up(type)) {
        bool k = type == KVT_Q4_K || type == KVT_Q5_K, many = kvt_block_values(type) == 256;
        int run = many ? j % 8 : 0;
        const uint8_t *block = row + (size_t)(many ? j / 8 : j) * kvt_block_bytes(type);
        struct kvt_v32 table = kvt_table(type, ab);
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
            dlo = dhi = _mm512_set1_ps(ab[0]);
        } else {
            const uint8_t *block = row + (size_t)(j / 8) * 210;
            q = kvt_q6_quants(block, j % 8);
            dlo = _mm512_set1_ps(ab[0]);
            dhi = _mm512_set1_ps(ab[1]);
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
