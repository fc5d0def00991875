/* linear, the definition: a row of weights is decoded, then products are summed in double. */
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>

#include "base/half.h"

/* scale: a power of two that the row was multiplied by before it's rounded to f16 */
static float rounded(float x, enum kvt_compute compute, float scale)
{
    switch (compute) {
    case KVT_COMPUTE_BF16: return kvt_f32_from_bf16(kvt_bf16_from_f32(x));
    case KVT_COMPUTE_F16: return fabsf(x * scale) < KVT_F16_END ? kvt_f32_from_f16(kvt_f16_from_f32(x * scale)) / scale : x;
    default: return x;
    }
}

int kvt_ref_linear(struct kvt_dev *dev, const struct kvt_linear_args *a)
{
    int N = a->w.n, K = a->w.k;
    assert(N > 0 && K > 0 && a->T >= 0 && K % kvt_dtypes[a->w.type].block_values == 0);
    float *row = kvt_dev_scratch(dev, (size_t)K * sizeof *row);
    if (!row)
        return KVT_ENOMEM;
    size_t row_bytes = kvt_row_bytes(a->w.type, (size_t)K);
    for (int n = 0; n < N; n++) {
        kvt_dequantize(a->w.type, (const char *)a->w.data + (size_t)n * row_bytes, row, (size_t)K);
        for (int i = 0; i < K; i++)
            row[i] = rounded(row[i], a->compute, 1);
        for (int t = 0; t < a->T; t++) {
            const float *in = a->in + (size_t)t * (size_t)K;
            float *out = a->out + (size_t)t * (size_t)N + n;
            float scale = a->compute == KVT_COMPUTE_F16 ? kvt_f16_scale(kvt_largest(in, K)) : 1;
            double sum = 0;
            for (int i = 0; i < K; i++)
                sum += (double)row[i] * (double)rounded(in[i], a->compute, scale);
            if (a->bias)
                sum += (double)a->bias[n];
            if (a->accumulate)
                sum += (double)*out;
            *out = (float)sum;
        }
    }
    return 0;
}
