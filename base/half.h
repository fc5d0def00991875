/* f16 and bf16 to float and back, bit exact, round to nearest even. Plain C; kernels have their own vectors. */
#ifndef KVT_BASE_HALF_H
#define KVT_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline float kvt_f32_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline uint32_t kvt_bits_from_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float kvt_f32_from_bf16(uint16_t h) { return kvt_f32_from_bits((uint32_t)h << 16); }

static inline uint16_t kvt_bf16_from_f32(float f)
{
    uint32_t u = kvt_bits_from_f32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((u >> 16) | 64); /* NaN stays NaN, quiet */
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}

static inline float kvt_f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exp = (h >> 10) & 31u, man = h & 1023u;
    if (exp == 31)
        return kvt_f32_from_bits(sign | 0x7f800000u | man << 13);
    if (exp)
        return kvt_f32_from_bits(sign | (exp + 112) << 23 | man << 13);
    float tiny = (float)man * 0x1p-24f; /* zero and subnormals, exact */
    return kvt_f32_from_bits(sign | kvt_bits_from_f32(tiny));
}

static inline uint16_t kvt_f16_from_f32(float f)
{
    uint32_t u = kvt_bits_from_f32(f), sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00u | ((u >> 13) & 0x1ffu));
    if (u >= 0x477ff000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00u);
    if (u < 0x38800000u) { /* below 2^-14: subnormal, in units of 2^-24 */
        float scaled = kvt_f32_from_bits(u) * 0x1p24f; /* exact: a power of two */
        uint32_t n = (uint32_t)scaled;
        float rest = scaled - (float)n;
        n += rest > 0.5f || (rest == 0.5f && (n & 1));
        return (uint16_t)(sign | n);
    }
    u += 0xfffu + ((u >> 13) & 1);
    return (uint16_t)(sign | ((u - 0x38000000u) >> 13));
}

#define KVT_F16_END 65520.0f /* from here on a number rounds to f16's infinity */

/* The power of two by which a row is multiplied before it is rounded to f16: its largest magnitude then is in [1, 2). Rows
 * of zeros, of what isn't a number, and below 2^-120 in all, are left where they are or brought as near as powers of two go. */
static inline float kvt_f16_scale(float largest)
{
    uint32_t e = kvt_bits_from_f32(largest) >> 23;
    if (largest <= 0 || e >= 254)
        return 1;
    return kvt_f32_from_bits((254 - (e < 7 ? 7 : e)) << 23);
}

static inline float kvt_largest(const float *x, int n)
{
    float most = 0;
    for (int i = 0; i < n; i++) {
        float a = x[i] < 0 ? -x[i] : x[i];
        most = a > most ? a : most;
    }
    return most;
}

#endif
