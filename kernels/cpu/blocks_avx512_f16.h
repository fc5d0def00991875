/* Blocks of two outputs to f16 in registers, for the kernel in f16: a vector holds 16 values of K of both, {first | second}.
 *
 * The commonest types are decoded here in f16 itself. For Q4_0, Q4_1 and Q8_0 that rounds once, as rounding the exact value does;
 * Q4_K and Q6_K round their runs' scales (and minima) to f16 too. All others are decoded in f32 and then rounded. */
#ifndef KVT_KERNELS_CPU_BLOCKS_AVX512_F16_H
#define KVT_KERNELS_CPU_BLOCKS_AVX512_F16_H

#include "kernels/cpu/blocks_avx512.h"

#ifdef KVT_FP16

struct kvt_rows2 { const uint8_t *row[2]; }; /* of blocks */

/* One run of 32 values of two outputs: values 0..15 and 16..31 (Q6_K: in the order of kvt_f16_order). */
struct kvt_run2 { __m512h lo, hi; };

/* Values of K in the order in which lanes hold them. Q6_K's quants become words by interleaving, which works on 8 bytes at a time:
 * eighths 0, 2 and then 1, 3 of a run. The others stay in order. */
KVT_INLINE KVT_AVX512_FP16 __m512i kvt_f16_order(enum kvt_dtype type, __m512i run)
{
    return type == KVT_Q6_K ? _mm512_shuffle_i64x2(run, run, 0xd8) : run;
}

/* Runs that kvt_f16_values decodes at once. */
KVT_INLINE int kvt_f16_runs(enum kvt_dtype type)
{
    return type == KVT_Q4_K || type == KVT_Q6_K ? 2 : 1;
}

KVT_INLINE bool kvt_f16_direct(enum kvt_dtype type)
{
    return type == KVT_Q4_0 || type == KVT_Q4_1 || type == KVT_Q8_0 || type == KVT_Q4_K || type == KVT_Q6_K;
}

/* 16 bytes of each */
KVT_INLINE KVT_AVX512_FP16 __m256i kvt_bytes16(const uint8_t *a, const uint8_t *b)
{
    return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)a)), _mm_loadu_si128((const __m128i *)b), 1);
}

/* 32 bytes of each */
KVT_INLINE KVT_AVX512_FP16 __m512i kvt_bytes32(const uint8_t *a, const uint8_t *b)
{
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_loadu_si256((const __m256i *)a)), _mm256_loadu_si256((const __m256i *)b), 1);
}

/* The four bytes at a in all lanes of the lower half, those at b in the upper. */
KVT_INLINE KVT_AVX512_FP16 __m512i kvt_words2(const uint8_t *a, const uint8_t *b)
{
    uint32_t x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    __m512i v = _mm512_broadcastd_epi32(_mm_cvtsi32_si128((int)x));
    return _mm512_mask_broadcastd_epi32(v, 0xff00, _mm_cvtsi32_si128((int)y));
}

/* Word `which` (0, 1) of each lane of kvt_words2 in both words. */
KVT_INLINE KVT_AVX512_FP16 __m512h kvt_word_of(__m512i v, int which)
{
    return _mm512_castsi512_ph(_mm512_shuffle_epi8(v, _mm512_set4_epi32(which ? 0x0f0e0f0e : 0x0d0c0d0c, which ? 0x0b0a0b0a : 0x09080908,
                                                                        which ? 0x07060706 : 0x05040504, which ? 0x03020302 : 0x01000100)));
}

/* 0, 1, .. 15 in both halves, less `first` */
KVT_INLINE KVT_AVX512_FP16 __m512h kvt_iota2(int first)
{
    __m256i i = _mm256_setr_epi16(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(i), i, 1);
    return _mm512_cvtepi16_ph(_mm512_sub_epi16(both, _mm512_set1_epi16((short)first)));
}

/* Where kvt_f16_scales has what lanes need, read from memory because compilers make such constants anew, through shuffles. at16[n]:
 * number n of both outputs; at8[r]: numbers 2 r and 2 r + 1 of both. */
#define KVT_8(n) n, n, n, n, n, n, n, n
#define KVT_AT16(n) {KVT_8(n), KVT_8(n), KVT_8(16 + (n)), KVT_8(16 + (n))}
#define KVT_AT8(r) {KVT_8(2 * (r)), KVT_8(2 * (r) + 1), KVT_8(16 + 2 * (r)), KVT_8(17 + 2 * (r))}
static const _Alignas(64) uint16_t kvt_at16[16][32] = {
    KVT_AT16(0), KVT_AT16(1), KVT_AT16(2), KVT_AT16(3), KVT_AT16(4), KVT_AT16(5), KVT_AT16(6), KVT_AT16(7),
    KVT_AT16(8), KVT_AT16(9), KVT_AT16(10), KVT_AT16(11), KVT_AT16(12), KVT_AT16(13), KVT_AT16(14), KVT_AT16(15)};
static const _Alignas(64) uint16_t kvt_at8[8][32] = {
    KVT_AT8(0), KVT_AT8(1), KVT_AT8(2), KVT_AT8(3), KVT_AT8(4), KVT_AT8(5), KVT_AT8(6), KVT_AT8(7)};
#undef KVT_8
#undef KVT_AT16
#undef KVT_AT8

KVT_INLINE KVT_AVX512_FP16 __m512h kvt_look_up(__m512i index, __m512h table)
{
    return _mm512_castsi512_ph(_mm512_permutexvar_epi16(index, _mm512_castph_si512(table)));
}

KVT_INLINE KVT_AVX512_FP16 __m512h kvt_scale_at(const uint16_t *at, __m512h scales)
{
    return kvt_look_up(_mm512_load_si512(at), scales);
}

/* The scales of a block of 256 of each output, d already in them. Q4_K: {8 scales, 8 minima} of each; Q6_K: {16 scales}. */
KVT_INLINE KVT_AVX512_FP16 __m512h kvt_f16_scales(enum kvt_dtype type, const uint8_t *a, const uint8_t *b)
{
    if (type == KVT_Q6_K) {
        __m512h d = kvt_word_of(kvt_words2(a + 206, b + 206), 1); /* their last two bytes, since what follows can't be read */
        return _mm512_mul_ph(_mm512_cvtepi16_ph(_mm512_cvtepi8_epi16(kvt_bytes16(a + 192, b + 192))), d);
    }
    __m128i sm[2];
    #pragma GCC unroll 2
    for (int i = 0; i < 2; i++) { /* 6-bit numbers, as in kvt_scales */
        uint32_t u[3];
        memcpy(u, (i ? b : a) + 4, sizeof u);
        uint32_t s_high = (u[2] & 0x0f0f0f0f) | ((u[0] >> 6) & 0x03030303) << 4;
        uint32_t m_high = ((u[2] >> 4) & 0x0f0f0f0f) | ((u[1] >> 6) & 0x03030303) << 4;
        sm[i] = _mm_setr_epi32((int)(u[0] & 0x3f3f3f3f), (int)s_high, (int)(u[1] & 0x3f3f3f3f), (int)m_high);
    }
    __m512i words = _mm512_cvtepu8_epi16(_mm256_inserti128_si256(_mm256_castsi128_si256(sm[0]), sm[1], 1));
    __m512i v = kvt_words2(a, b); /* d, dmin; minima are taken off */
    __m512i pick = _mm512_set_epi64(0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100,
                                    0x0302030203020302, 0x0302030203020302, 0x0100010001000100, 0x0100010001000100);
    v = _mm512_xor_si512(_mm512_shuffle_epi8(v, pick), _mm512_set_epi64((long long)0x8000800080008000, (long long)0x8000800080008000, 0, 0,
                                                                        (long long)0x8000800080008000, (long long)0x8000800080008000, 0, 0));
    return _mm512_mul_ph(_mm512_cvtepu16_ph(words), _mm512_castsi512_ph(v));
}

/* Runs j and, with types of two, j + 1 of two rows. For types of 256, scales are the block's, and r = j % 8 a constant; for those
 * decoded in f32, ab0 and ab1 are run j's of kvt_scales. */
KVT_INLINE KVT_AVX512_FP16 void kvt_f16_values(enum kvt_dtype type, struct kvt_rows2 w, int j, const int r, int valid, __m512h scales, const float *ab0,
                                               const float *ab1, struct kvt_run2 *run)
{
    const size_t bytes = kvt_block_bytes(type), at = (size_t)(kvt_block_values(type) == 256 ? j / 8 : j) * bytes;
    const uint8_t *a = w.row[0] + at, *b = w.row[1] + at;
    const __m512i low = _mm512_set1_epi16(15), half = _mm512_load_si512(kvt_at16[0]);
    if (type == KVT_Q4_0 || type == KVT_Q4_1) {
        __m512i dm = kvt_words2(a, b);
        __m512h table = type == KVT_Q4_1 ? _mm512_fmadd_ph(kvt_iota2(0), kvt_word_of(dm, 0), kvt_word_of(dm, 1))
                                         : _mm512_mul_ph(kvt_iota2(8), kvt_word_of(dm, 0));
        __m512i q = _mm512_cvtepu8_epi16(kvt_bytes16(a + bytes - 16, b + bytes - 16));
        run->lo = kvt_look_up(_mm512_ternarylogic_epi32(q, low, half, 0xea), table); /* and, then or */
        run->hi = kvt_look_up(_mm512_or_si512(_mm512_srli_epi16(q, 4), half), table);
    } else if (type == KVT_Q8_0) {
        __m512h d = kvt_word_of(kvt_words2(a, b), 0);
        run->lo = _mm512_mul_ph(_mm512_cvtepi16_ph(_mm512_cvtepi8_epi16(kvt_bytes16(a + 2, b + 2))), d);
        run->hi = _mm512_mul_ph(_mm512_cvtepi16_ph(_mm512_cvtepi8_epi16(kvt_bytes16(a + 18, b + 18))), d);
    } else if (type == KVT_Q4_K) {
        __m512h ta = _mm512_fmadd_ph(kvt_iota2(0), kvt_scale_at(kvt_at16[r], scales), kvt_scale_at(kvt_at16[r + 8], scales));
        __m512h tb = _mm512_fmadd_ph(kvt_iota2(0), kvt_scale_at(kvt_at16[r + 1], scales), kvt_scale_at(kvt_at16[r + 9], scales));
        __m512i q0 = _mm512_cvtepu8_epi16(kvt_bytes16(a + 16 + r * 16, b + 16 + r * 16));
        __m512i q1 = _mm512_cvtepu8_epi16(kvt_bytes16(a + 32 + r * 16, b + 32 + r * 16));
        run[0].lo = kvt_look_up(_mm512_ternarylogic_epi32(q0, low, half, 0xea), ta);
        run[0].hi = kvt_look_up(_mm512_ternarylogic_epi32(q1, low, half, 0xea), ta);
        run[1].lo = kvt_look_up(_mm512_or_si512(_mm512_srli_epi16(q0, 4), half), tb);
        run[1].hi = kvt_look_up(_mm512_or_si512(_mm512_srli_epi16(q1, 4), half), tb);
    } else if (type == KVT_Q6_K) {
        /* 128 values: 64 bytes of nibbles (runs 0, 1 low, 2, 3 high), 32 bytes with two bits of each run */
        const __m512i nibble = _mm512_set1_epi8(15), two = _mm512_set1_epi8(0x30), f1024 = _mm512_set1_epi8(0x64);
        const __m512h f1056 = _mm512_castsi512_ph(_mm512_set1_epi16(0x6420)); /* 1024 + 32 */
        const int in = r % 4;
        __m512i h = kvt_bytes32(a + 128 + r / 4 * 32, b + 128 + r / 4 * 32);
        for (int i = 0; i < 2; i++) {
            __m512i l = kvt_bytes32(a + r / 4 * 64 + i * 32, b + r / 4 * 64 + i * 32);
            __m512i up = in ? (i ? _mm512_srli_epi16(h, 2) : h) : _mm512_slli_epi16(h, i ? 2 : 4);
            __m512i q = _mm512_and_si512(in ? _mm512_srli_epi16(l, 4) : l, nibble);
            q = _mm512_ternarylogic_epi32(up, two, q, 0xea);
            __m512h s = kvt_scale_at(kvt_at8[r + i], scales);
            __m512i lo = _mm512_unpacklo_epi8(q, f1024), hi = _mm512_unpackhi_epi8(q, f1024); /* 1024 + q, since 1024 ends in ten zeros */
            run[i].lo = _mm512_mul_ph(_mm512_sub_ph(_mm512_castsi512_ph(lo), f1056), s);
            run[i].hi = _mm512_mul_ph(_mm512_sub_ph(_mm512_castsi512_ph(hi), f1056), s);
        }
    } else {
        struct kvt_v32 x = kvt_values32(type, w.row[0], j, valid, ab0), y = kvt_values32(type, w.row[1], j, valid, ab1);
        enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
        run->lo = _mm512_castsi512_ph(_mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(x.lo, NEAREST)), _mm512_cvtps_ph(y.lo, NEAREST), 1));
        run->hi = _mm512_castsi512_ph(_mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtps_ph(x.hi, NEAREST)), _mm512_cvtps_ph(y.hi, NEAREST), 1));
    }
}

#endif
#endif
