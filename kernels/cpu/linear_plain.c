/* linear without vectors asked for: 16 lanes in plain C, which a compiler may vectorise as it likes. */
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/cpu/linear.h"

enum { LANES = 16 };

void kvt_linear_pack_plain(enum kvt_dtype type, const float *in, int K, int Kp, void *act)
{
    (void)type;
    memcpy(act, in, (size_t)K * sizeof *in);
    memset((float *)act + K, 0, (size_t)(Kp - K) * sizeof *in);
}

void kvt_linear_unpack_plain(enum kvt_dtype type, const uint8_t *blocks, int K, int Kp, void *panel)
{
    kvt_dequantize(type, blocks, panel, (size_t)K);
    memset((float *)panel + K, 0, (size_t)(Kp - K) * sizeof(float));
}

float kvt_linear_wide(const struct kvt_tile *t, int r, int c)
{
    enum { PIECE = 256 }; /* values: every type's blocks divide it */
    const float *x = t->in + (size_t)r * (size_t)t->K;
    const uint8_t *row = t->blocks + (size_t)c * t->row_bytes;
    double sum = 0;
    int lost = 0;
    for (int k = 0; k < t->K; k++)
        lost |= (kvt_bits_from_f32(x[k]) & 0x7f800000) == 0x7f800000;
    if (lost) /* a row with an infinity or NaN: no arithmetic helps */
        return NAN;
    for (int k = 0; k < t->K; k += PIECE) {
        float w[PIECE];
        int n = t->K - k < PIECE ? t->K - k : PIECE;
        kvt_dequantize(t->type, row + kvt_row_bytes(t->type, (size_t)k), w, (size_t)n);
        for (int i = 0; i < n; i++)
            sum += (double)x[k + i] * (double)w[i];
    }
    if (isfinite((float)sum)) /* else it isn't f16 that was too small */
        #pragma omp atomic
        ++*t->beyond_f16;
    return (float)sum;
}

static float dot(const float *x, const float *w, int Kp)
{
    float lane[LANES] = {0};
    for (int k = 0; k < Kp; k += LANES)
        for (int i = 0; i < LANES; i++)
            lane[i] += x[k + i] * w[k + i];
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++)
            lane[i] += lane[i + width];
    return lane[0];
}

static void tile(const struct kvt_tile *t, const void *panel)
{
    for (int r = 0; r < t->rows; r++) {
        const float *x = (const float *)t->act + (size_t)r * (size_t)t->Kp;
        for (int c = 0; c < t->cols; c++) {
            float *out = t->out + (size_t)r * t->ld + c;
            float sum = dot(x, (const float *)panel + (size_t)c * (size_t)t->Kp, t->Kp);
            if (t->bias)
                sum += t->bias[c];
            *out = t->accumulate ? *out + sum : sum;
        }
    }
}

const struct kvt_linear_kernel kvt_linear_plain = {
    .value_bytes = sizeof(float),
    .tile_rows = 4,
    .pack = kvt_linear_pack_plain,
    .unpack = kvt_linear_unpack_plain,
    .tile = tile,
};
