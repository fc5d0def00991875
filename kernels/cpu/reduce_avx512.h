/* The one tree by which AVX-512 kernels add the 16 lanes of a sum. */
#ifndef KVT_KERNELS_CPU_REDUCE_AVX512_H
#define KVT_KERNELS_CPU_REDUCE_AVX512_H

#include "kernels/cpu/simd.h"

#ifdef KVT_X86
/* Sums of the lanes of four vectors: (s0, s1, s2, s3). Each of the first two steps halves the vectors by adding two
 * interleavings; then the four 128-bit quarters are added. */
KVT_INLINE KVT_AVX512 __m128 kvt_reduce4(const __m512 *v)
{
    __m512 a = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
    __m512 b = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
    __m512d ad = _mm512_castps_pd(a), bd = _mm512_castps_pd(b);
    __m512 q = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ad, bd)), _mm512_castpd_ps(_mm512_unpackhi_pd(ad, bd)));
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(q), _mm512_extractf32x8_ps(q, 1));
    return _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
}
#endif
#endif
