/* The exponential and the hyperbolic tangent of one lane, for plain loops that a compiler turns into vectors. */
#ifndef KVT_KERNELS_CPU_EXP_H
#define KVT_KERNELS_CPU_EXP_H

#include <math.h>

#include "base/half.h"

#define BODY static inline __attribute__((always_inline))

/* x where `holds`, else 0: as bits, because a compiler that fears traps makes a branch of ?: and no vector. */
BODY float where(bool holds, float x) { return kvt_f32_from_bits(kvt_bits_from_f32(x) & (0u - (uint32_t)holds)); }

/* e^x for x <= 88, relative error below 2e-7; exactly 0 below -87. Cephes' polynomial on |r| <= ln 2 / 2. */
BODY float exp_body(float x)
{
    bool reachable = !(x < -87.0f); /* NaN stays NaN */
    float low = where(reachable, x);
    float shifted = low * 1.44269504f + 12582912.0f; /* 1.5 x 2^23: the sum's last bits are the rounded integer */
    float n = shifted - 12582912.0f;
    float r = low - n * 0.693359375f + n * 2.12194440e-4f; /* first product exact: 9 bits by 8 */
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    float scale = kvt_f32_from_bits((kvt_bits_from_f32(shifted) + 127u) << 23); /* 2^n; the shift drops the 1.5 x 2^23 */
    return where(reachable, p * scale);
}

/* tanh x, relative error below 4e-7: Cephes' polynomial where |x| < 0.625, as 1 - e^-2|x| would cancel there. */
BODY float tanh_body(float x)
{
    float z = x * x, e = exp_body(-2 * fabsf(x)), far = (1.0f - e) / (1.0f + e);
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    bool near = z < 0.390625f;
    return where(near, p * z * x + x) + where(!near, copysignf(far, x));
}

#endif
