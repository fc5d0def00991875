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
#define KVT_INLINE static inline __attribute__((always_inline))
#endif

#endif
