/* What the blocks of each GGUF data type mean, for kernels: kernels/dequant.c by fours. A row of weights is as it is in the file; its
 * address is only known to be a multiple of what its type's blocks are a multiple of (up to 4), so words are loaded in halves where
 * blocks aren't whole words. Works on global and on shared memory; nothing past the block that is asked for is read. */
#ifndef KVT_KERNELS_CUDA_BLOCKS_H
#define KVT_KERNELS_CUDA_BLOCKS_H

#include "kernels/cuda/cuda.h"

/* Values of a block of a type, known to the compiler. */
static constexpr __host__ __device__ int kvt_type_block(int type)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: return values;
        KVT_DTYPE_MAP(X)
#undef X
    }
    return 0;
}
static constexpr __host__ __device__ int kvt_type_bytes(int type)
{
    switch (type) {
#define X(name, values, bytes) case KVT_##name: return bytes;
        KVT_DTYPE_MAP(X)
#undef X
    }
    return 0;
}
static constexpr __host__ __device__ bool kvt_type_single(int type) { return kvt_type_block(type) == 1; }

static __device__ __forceinline__ unsigned block_u16(const unsigned char *p) { return *reinterpret_cast<const unsigned short *>(p); }
static __device__ __forceinline__ float block_f16(const unsigned char *p) { return __half2float(__ushort_as_half((unsigned short)block_u16(p))); }
/* A word at an address that is a multiple of `align`. */
template <int align> static __device__ __forceinline__ unsigned block_u32(const unsigned char *p)
{
    if (align >= 4)
        return *reinterpret_cast<const unsigned *>(p);
    if (align == 2)
        return block_u16(p) | block_u16(p + 2) << 16;
    return (unsigned)p[0] | (unsigned)p[1] << 8 | (unsigned)p[2] << 16 | (unsigned)p[3] << 24;
}
/* q - less as a float, q below 2^23: the bits of 2^23 + q, and one exact subtraction. */
static __device__ __forceinline__ float block_small(unsigned q, float less) { return __uint_as_float(0x4b000000u | q) - (8388608.0f + less); }
/* The same of the four bytes of a word. */
static __device__ __forceinline__ void block_bytes(unsigned q, float less, float *f)
{
#pragma unroll
    for (int j = 0; j < 4; j++)
        f[j] = __uint_as_float(__byte_perm(q, 0x4b000000u, 0x7440u + j)) - (8388608.0f + less);
}
/* Four bits, each to the lowest bit of a byte. */
static __device__ __forceinline__ unsigned block_spread(unsigned q) { return ((q & 15) * 0x00204081u) & 0x01010101u; }
/* d times (a byte less `mid`) of the four bytes of a word. fast: as one fma, of bits that are 2^7 + q, or 2^15 + q for a byte of more than 7
 * bits, times d; exact too, as d's at most 18 bits times those of 2^7 + mid fit in 24, but a product of 0 has no sign. */
template <bool fast, int mid> static __device__ __forceinline__ void block_scaled(unsigned q, float d, float *v)
{
    if (!fast) {
        block_bytes(q, mid, v);
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] *= d;
        return;
    }
    constexpr bool wide = mid == 128;
    float less = -d * (float)((wide ? 32768 : 128) + mid);
#pragma unroll
    for (int j = 0; j < 4; j++)
        v[j] = fmaf(d, __uint_as_float(wide ? __byte_perm(q, 0x47000000u, 0x7404u + 16 * j) : __byte_perm(q, 0x43000000u, 0x7044u + 256 * j)), less);
}
/* For each of four bytes below 16, the byte of that number of the 16 in four words. */
static __device__ __forceinline__ unsigned block_entries(unsigned a, unsigned b, unsigned c, unsigned d, unsigned q)
{
    q = (q | q >> 4) & 0x00ff00ffu;
    q |= q >> 8; /* in the lower half, four nibbles */
    unsigned low = __byte_perm(a, b, q & 0x7777u), high = __byte_perm(c, d, q & 0x7777u);
    return __byte_perm(low, high, 0x3210u | (q & 0x8888u) >> 1);
}
/* kvt_iq4_values + 128, kvt_mxfp4_values + 16 */
static __device__ __forceinline__ unsigned block_iq4(unsigned q) { return block_entries(0x3f2d1801u, 0x766a5d4fu, 0xa6998d81u, 0xf1d9c5b5u, q); }
static __device__ __forceinline__ unsigned block_mxfp4(unsigned q) { return block_entries(0x13121110u, 0x1c181614u, 0x0d0e0f10u, 0x04080a0cu, q); }

/* Scale and minimum of run j of Q4_K and Q5_K; q: 12 bytes, whole words. */
static __device__ __forceinline__ void block_scale_min(const unsigned char *q, int j, float *scale, float *min)
{
    unsigned a = block_u32<4>(q), b = block_u32<4>(q + 4), c = block_u32<4>(q + 8);
    int at = 8 * (j & 3);
    unsigned low = j < 4 ? (a >> at) & 63 : ((c >> at) & 15) | ((a >> at) & 0xc0) >> 2;
    unsigned high = j < 4 ? (b >> at) & 63 : ((c >> at) & 0xf0) >> 4 | ((b >> at) & 0xc0) >> 2;
    *scale = block_small(low, 0);
    *min = block_small(high, 0);
}

/* The types of blocks of 256 whose runs of 32 take two factors at most from the block: they can be had once for all that share the run. */
static constexpr __host__ __device__ bool kvt_type_scaled(int type)
{
    return type == KVT_Q4_K || type == KVT_Q5_K || type == KVT_Q6_K || type == KVT_Q3_K || type == KVT_IQ4_XS;
}

/* Factors of a run: scale and minimum (Q4_K, Q5_K), scales of its halves (Q6_K, Q3_K), or its scale (IQ4_XS). */
template <int type> static __device__ __forceinline__ float2 kvt_block_scales(const unsigned char *p, int run)
{
    if (type == KVT_Q4_K || type == KVT_Q5_K) {
        float scale, min;
        block_scale_min(p + 4, run, &scale, &min);
        return make_float2(block_f16(p) * scale, block_f16(p + 2) * min);
    }
    if (type == KVT_Q6_K) {
        float d = block_f16(p + 208);
        return make_float2(d * (float)(signed char)p[192 + run * 2], d * (float)(signed char)p[193 + run * 2]);
    }
    if (type == KVT_Q3_K) {
        float d = block_f16(p + 108), scale[2];
        for (int i = 0; i < 2; i++) {
            int s = run * 2 + i;
            unsigned q = ((unsigned)(p[96 + s % 8] >> (s / 8 * 4)) & 15) | ((unsigned)(p[104 + s % 4] >> (s / 4 * 2)) & 3) << 4;
            scale[i] = d * block_small(q, 32);
        }
        return make_float2(scale[0], scale[1]);
    }
    unsigned q = ((unsigned)(p[4 + run / 2] >> (run % 2 * 4)) & 15) | ((unsigned)(p[2 + run / 4] >> (run % 4 * 2)) & 3) << 4;
    return make_float2(block_f16(p) * block_small(q, 32), 0);
}

/* Values i .. i + 3 of a run of the block at p, with its factors. */
template <int type, bool fast> static __device__ __forceinline__ void kvt_block_scaled(const unsigned char *p, int run, int i, float2 s, float *v)
{
    const unsigned nibbles = 0x0f0f0f0fu, ones = 0x01010101u;
    if (type == KVT_Q4_K || type == KVT_Q5_K) {
        float f[4];
        unsigned q = (block_u32<4>(p + (type == KVT_Q4_K ? 16 : 48) + run / 2 * 32 + i) >> (run % 2 * 4)) & nibbles;
        if (type == KVT_Q5_K)
            q |= ((block_u32<4>(p + 16 + i) >> run) & ones) << 4;
        block_bytes(q, 0, f);
        for (int j = 0; j < 4; j++)
            v[j] = fmaf(s.x, f[j], -s.y);
    } else if (type == KVT_Q6_K) {
        int half = run / 4, quarter = run % 4;
        unsigned q = (block_u32<2>(p + half * 64 + quarter % 2 * 32 + i) >> (quarter / 2 * 4)) & nibbles;
        block_scaled<fast, 32>(q | ((block_u32<2>(p + 128 + half * 32 + i) >> (quarter * 2)) & 3 * ones) << 4, i < 16 ? s.x : s.y, v);
    } else if (type == KVT_Q3_K) {
        unsigned q = (block_u32<2>(p + 32 + run / 4 * 32 + i) >> (run % 4 * 2)) & 3 * ones;
        block_scaled<fast, 4>(q | ((block_u32<2>(p + i) >> run) & ones) << 2, i < 16 ? s.x : s.y, v);
    } else {
        block_scaled<false, 128>(block_iq4((block_u32<4>(p + 8 + 16 * run + i % 16) >> (i / 16 * 4)) & nibbles), s.x, v);
    }
}

/* Values k .. k + 3 of a row, k a multiple of 4; of f32, f16 and bf16 all four must be there. fast: zeros may have the wrong sign. */
template <int type, bool fast = false> static __device__ __forceinline__ void kvt_block_quad(const unsigned char *row, int k, float *v)
{
    if (type == KVT_F32) {
        for (int i = 0; i < 4; i++)
            v[i] = reinterpret_cast<const float *>(row)[k + i];
        return;
    }
    if (type == KVT_F16 || type == KVT_BF16) {
        for (int i = 0; i < 4; i++)
            v[i] = type == KVT_F16 ? block_f16(row + 2 * (k + i)) : __uint_as_float(block_u16(row + 2 * (k + i)) << 16);
        return;
    }
    const unsigned nibbles = 0x0f0f0f0fu, ones = 0x01010101u;
    int i = k % 32, byte = i % 16, shift = i / 16 * 4; /* the nibble types: byte i holds values i and i + 16 */
    float f[4];
    if (type == KVT_Q4_0 || type == KVT_IQ4_NL) {
        const unsigned char *p = row + k / 32 * 18;
        float d = block_f16(p);
        unsigned q = (block_u32<2>(p + 2 + byte) >> shift) & nibbles;
        if (type == KVT_Q4_0)
            block_scaled<fast, 8>(q, d, v);
        else
            block_scaled<fast, 128>(block_iq4(q), d, v);
    } else if (type == KVT_Q4_1) {
        const unsigned char *p = row + k / 32 * 20;
        float d = block_f16(p), m = block_f16(p + 2);
        block_bytes((block_u32<4>(p + 4 + byte) >> shift) & nibbles, 0, f);
        for (int j = 0; j < 4; j++)
            v[j] = fmaf(d, f[j], m);
    } else if (type == KVT_Q5_0) {
        const unsigned char *p = row + k / 32 * 22;
        float d = block_f16(p);
        block_scaled<fast, 16>(((block_u32<2>(p + 6 + byte) >> shift) & nibbles) | block_spread(block_u32<2>(p + 2) >> i) << 4, d, v);
    } else if (type == KVT_Q5_1) {
        const unsigned char *p = row + k / 32 * 24;
        float d = block_f16(p), m = block_f16(p + 2);
        block_bytes(((block_u32<4>(p + 8 + byte) >> shift) & nibbles) | block_spread(block_u32<4>(p + 4) >> i) << 4, 0, f);
        for (int j = 0; j < 4; j++)
            v[j] = fmaf(d, f[j], m);
    } else if (type == KVT_Q8_0) {
        const unsigned char *p = row + k / 32 * 34;
        block_scaled<fast, 128>(block_u32<2>(p + 2 + i) ^ 0x80808080u, block_f16(p), v);
    } else if (type == KVT_MXFP4) {
        const unsigned char *p = row + k / 32 * 17;
        float d = __uint_as_float(p[0] < 2 ? 0x00200000u << p[0] : (unsigned)(p[0] - 1) << 23);
        block_scaled<false, 16>(block_mxfp4((block_u32<1>(p + 1 + byte) >> shift) & nibbles), d, v);
    } else if (type == KVT_Q2_K) {
        const unsigned char *p = row + k / 256 * 84;
        int at = k % 256;
        unsigned pack = p[at / 16];
        float d = block_f16(p + 80) * block_small(pack & 15, 0), m = block_f16(p + 82) * block_small(pack >> 4, 0);
        block_bytes((block_u32<4>(p + 16 + at / 128 * 32 + i) >> (at / 32 % 4 * 2)) & 3 * ones, 0, f);
        for (int j = 0; j < 4; j++)
            v[j] = fmaf(d, f[j], -m);
    } else if (kvt_type_scaled(type)) {
        const unsigned char *p = row + k / 256 * kvt_type_bytes(type);
        kvt_block_scaled<type, fast>(p, k % 256 / 32, i, kvt_block_scales<type>(p, k % 256 / 32), v);
    }
}

/* The same of a type that is known at run time only. */
static __device__ __forceinline__ void kvt_block_values(int type, const void *row, int first, float *out)
{
    switch (type) {
#define X(name, values, bytes) \
    case KVT_##name: kvt_block_quad<KVT_##name>(static_cast<const unsigned char *>(row), first, out); break;
        KVT_DTYPE_MAP(X)
#undef X
    }
}

/* One value of a row of f32, f16 or bf16: where a row ends within a four. */
static __device__ __forceinline__ float kvt_block_one(int type, const void *row, int k)
{
    const unsigned char *p = static_cast<const unsigned char *>(row);
    return type == KVT_F32 ? reinterpret_cast<const float *>(p)[k] : type == KVT_F16 ? block_f16(p + 2 * (size_t)k) : __uint_as_float(block_u16(p + 2 * (size_t)k) << 16);
}

#endif
