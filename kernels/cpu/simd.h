/* Target attributes of the vector levels, and what several cpu kernels need in vectors.
 *
 * A function of a level carries its attribute and is called through a table that is chosen at open; OpenMP bodies
 * call such functions and never contain intrinsics themselves (an outlined body loses the attribute). */
#ifndef KVT_KERNELS_CPU_SIMD_H
#define KVT_KERNELS_CPU_SIMD_H

#if defined(__x86_64__)
#define KVT_X86 1
#include <immintrin.h>

#define KVT_AVX2 __attribute__((target("avx2,fma,f16c")))
#define KVT_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
#define KVT_AVX512_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c,bmi2")))
#if (defined(__clang__) && __clang_major__ >= 16) || (!defined(__clang__) && defined(__GNUC__) && __GNUC__ >= 12)
#define KVT_FP16 1 /* the compiler has its intrinsics in a function's target, too */
#define KVT_AVX512_FP16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512fp16,avx2,fma,f16c")))
#endif
#define KVT_INLINE static inline __attribute__((always_inline))

/* Four bytes e of MXFP4 blocks, one to a lane, to their scales 2^(e - 128), as the bits of floats. */
KVT_INLINE KVT_AVX2 __m128i kvt_mx_scales(__m128i e)
{
    __m128i normal = _mm_slli_epi32(_mm_sub_epi32(e, _mm_set1_epi32(1)), 23);
    __m128i tiny = _mm_sllv_epi32(_mm_set1_epi32(0x00200000), e);
    return _mm_blendv_epi8(tiny, normal, _mm_cmpgt_epi32(e, _mm_set1_epi32(1)));
}
#endif

#endif
