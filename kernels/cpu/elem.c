/* elem: one row at a time. The loops are written once, over 16 lanes with a fixed order, and compiled for each
 * vector level by the LEVEL macro; so a row's bits depend on neither the threads nor the other rows. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/exp.h"
#include "kernels/cpu/simd.h"

enum {
    LANES = 16,
    RUN = 256,              /* logits handled at once */
    WORTH_THREADS = 1 << 15 /* values; below it waking a thread costs more than it saves */
};

/* ---- bodies ---- */

BODY float sum_floats(float *lane)
{
    for (int width = LANES / 2; width; width /= 2)
        for (int j = 0; j < width; j++)
            lane[j] += lane[j + width];
    return lane[0];
}

BODY void norm_body(const float *in, const float *weight, float *out, int E, float eps)
{
    float lane[LANES] = {0};
    int i = 0;
    for (; i + LANES <= E; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += in[i + j] * in[i + j];
    for (; i < E; i++)
        lane[i % LANES] += in[i] * in[i];
    float scale = 1.0f / sqrtf(sum_floats(lane) / (float)E + eps);
    for (int j = 0; j < E; j++)
        out[j] = in[j] * scale * weight[j];
}

/* LayerNorm. */
BODY void centre_body(const float *in, const float *weight, const float *bias, float *out, int E, float eps)
{
    float lane[LANES] = {0}, square[LANES] = {0};
    for (int i = 0; i < E; i++)
        lane[i % LANES] += in[i];
    float mean = sum_floats(lane) / (float)E;
    for (int i = 0; i < E; i++)
        square[i % LANES] += (in[i] - mean) * (in[i] - mean);
    float scale = 1.0f / sqrtf(sum_floats(square) / (float)E + eps);
    for (int j = 0; j < E; j++) {
        float x = (in[j] - mean) * scale * weight[j];
        out[j] = bias ? x + bias[j] : x;
    }
}

BODY void rotate_body(float *x, const float *table, int half, bool halves, float by)
{
    if (halves) {
        float *y = x + half;
        for (int i = 0; i < half; i++) {
            float c = table[2 * i] * by, s = table[2 * i + 1] * by, u = x[i], v = y[i];
            x[i] = u * c - v * s;
            y[i] = v * c + u * s;
        }
        return;
    }
    for (int i = 0; i < half; i++) {
        float c = table[2 * i] * by, s = table[2 * i + 1] * by, u = x[2 * i], v = x[2 * i + 1];
        x[2 * i] = u * c - v * s;
        x[2 * i + 1] = v * c + u * s;
    }
}

BODY void glu_body(const float *gate, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i];
        /* e^-|g| never overflows; silu(g) = g / (1 + e^-g), and for g < 0 the same as g e^g / (1 + e^g) */
        float e = exp_body(-fabsf(g));
        out[i] = g * (where(g < 0, e) + where(g >= 0, 1.0f)) / (1.0f + e) * up[i];
    }
}

/* g sigmoid(2 u) = g / (1 + e^-2u), with the sign of u taken out as above */
BODY void gelu_tanh_body(const float *gate, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float g = gate[i], u = 1.59576912f * (g + 0.044715f * g * g * g);
        float e = exp_body(-fabsf(u));
        out[i] = g * (where(u < 0, e) + where(u >= 0, 1.0f)) / (1.0f + e) * up[i];
    }
}

/* No family of the table uses it at a size where the library's erfc would be felt. */
BODY void gelu_body(const float *gate, const float *up, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] * 0.5f * erfcf(gate[i] * -0.707106781f) * up[i];
}

BODY void add_body(float *x, const float *y, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] += scale * y[i];
}

BODY void scale_body(float *x, size_t n, float scale, float cap)
{
    if (cap > 0) {
        float in = scale / cap;
        for (size_t i = 0; i < n; i++)
            x[i] = cap * tanh_body(x[i] * in);
        return;
    }
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

struct row_stats {
    int argmax;
    float max;
    double sum;     /* of e^(x - max) */
    double moment;  /* of e^(x - max) (x - max) */
};

/* Largest value and its first place. */
BODY int top_body(const float *x, int V, float *max)
{
    float top[LANES];
    for (int j = 0; j < LANES; j++)
        top[j] = -INFINITY;
    int v = 0;
    for (; v + LANES <= V; v += LANES)
        for (int j = 0; j < LANES; j++)
            top[j] = x[v + j] > top[j] ? x[v + j] : top[j];
    for (; v < V; v++)
        top[v % LANES] = x[v] > top[v % LANES] ? x[v] : top[v % LANES];
    *max = top[0];
    for (int j = 1; j < LANES; j++)
        *max = top[j] > *max ? top[j] : *max;
    int at = 0;
    for (; at + RUN <= V; at += RUN) { /* the first run that holds it; then the place in the run */
        int found = 0;
        for (int j = 0; j < RUN; j++)
            found |= x[at + j] == *max;
        if (found)
            break;
    }
    while (at < V && x[at] != *max)
        at++;
    return at < V ? at : 0; /* all NaN */
}

/* sum of n <= RUN values, value i to lane i % LANES */
BODY void add_lanes(double *lane, const float *value, int n)
{
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] += (double)value[i + j];
    for (; i < n; i++)
        lane[i % LANES] += (double)value[i];
}

BODY double sum_lanes(double *lane)
{
    for (int width = LANES / 2; width; width /= 2)
        for (int j = 0; j < width; j++)
            lane[j] += lane[j + width];
    return lane[0];
}

BODY void stats_body(const float *x, int V, struct row_stats *out)
{
    double sum[LANES] = {0}, moment[LANES] = {0};
    float max, e[RUN], m[RUN]; /* a run at a time, so that every loop is a plain one over an array */
    out->argmax = top_body(x, V, &max);
    out->max = max;
    for (int v = 0; v < V; v += RUN) {
        int n = V - v < RUN ? V - v : RUN;
        for (int i = 0; i < n; i++) {
            float d = x[v + i] - max;
            e[i] = exp_body(d);
            m[i] = where(e[i] > 0, e[i] * d); /* 0 x -inf is 0 here */
        }
        add_lanes(sum, e, n);
        add_lanes(moment, m, n);
    }
    out->sum = sum_lanes(sum);
    out->moment = sum_lanes(moment);
}

/* Sum of e^(b - max) (b - x): where b is out of reach of f32's exponential nothing is added. */
BODY double cross_body(const float *b, const float *x, float max, int V)
{
    double sum[LANES] = {0};
    float m[RUN];
    for (int v = 0; v < V; v += RUN) {
        int n = V - v < RUN ? V - v : RUN;
        for (int i = 0; i < n; i++) {
            float e = exp_body(b[v + i] - max);
            m[i] = where(e > 0, e * (b[v + i] - x[v + i]));
        }
        add_lanes(sum, m, n);
    }
    return sum_lanes(sum);
}

/* ---- levels ---- */

struct elem_kernel {
    void (*norm)(const float *in, const float *weight, float *out, int E, float eps);
    void (*centre)(const float *in, const float *weight, const float *bias, float *out, int E, float eps);
    void (*rotate)(float *x, const float *table, int half, bool halves, float by);
    void (*glu[3])(const float *gate, const float *up, float *out, size_t n); /* by enum kvt_act */
    void (*add)(float *x, const float *y, size_t n, float scale);
    void (*scale)(float *x, size_t n, float scale, float cap);
    void (*stats)(const float *x, int V, struct row_stats *out);
    double (*cross)(const float *b, const float *x, float max, int V);
};

#define LEVEL(level, attribute)                                                                        \
    static attribute void norm_##level(const float *in, const float *weight, float *out, int E, float eps) \
    {                                                                                                  \
        norm_body(in, weight, out, E, eps);                                                            \
    }                                                                                                  \
    static attribute void centre_##level(const float *in, const float *weight, const float *bias, float *out, int E, float eps) \
    {                                                                                                  \
        centre_body(in, weight, bias, out, E, eps);                                                    \
    }                                                                                                  \
    static attribute void rotate_##level(float *x, const float *table, int half, bool halves, float by) \
    {                                                                                                  \
        rotate_body(x, table, half, halves, by);                                                       \
    }                                                                                                  \
    static attribute void glu_##level(const float *gate, const float *up, float *out, size_t n)        \
    {                                                                                                  \
        glu_body(gate, up, out, n);                                                                    \
    }                                                                                                  \
    static attribute void gelu_tanh_##level(const float *gate, const float *up, float *out, size_t n)  \
    {                                                                                                  \
        gelu_tanh_body(gate, up, out, n);                                                              \
    }                                                                                                  \
    static attribute void gelu_##level(const float *gate, const float *up, float *out, size_t n)       \
    {                                                                                                  \
        gelu_body(gate, up, out, n);                                                                   \
    }                                                                                                  \
    static attribute void add_##level(float *x, const float *y, size_t n, float scale) { add_body(x, y, n, scale); } \
    static attribute void scale_##level(float *x, size_t n, float scale, float cap) { scale_body(x, n, scale, cap); } \
    static attribute void stats_##level(const float *x, int V, struct row_stats *out) { stats_body(x, V, out); } \
    static attribute double cross_##level(const float *b, const float *x, float max, int V)            \
    {                                                                                                  \
        return cross_body(b, x, max, V);                                                               \
    }                                                                                                  \
    static const struct elem_kernel elem_##level = {norm_##level, centre_##level, rotate_##level,      \
                                                    {glu_##level, gelu_tanh_##level, gelu_##level},    \
                                                    add_##level, scale_##level, stats_##level, cross_##level};

LEVEL(plain, )
#ifdef KVT_X86
LEVEL(avx2, KVT_AVX2)
LEVEL(avx512, KVT_AVX512)
#endif

static const struct elem_kernel *kernel_of(const struct kvt_dev *dev)
{
#ifdef KVT_X86
    if (dev->simd >= KVT_SIMD_AVX512)
        return &elem_avx512;
    if (dev->simd >= KVT_SIMD_AVX2)
        return &elem_avx2;
#endif
    (void)dev;
    return &elem_plain;
}

/* ---- operations ---- */

int kvt_cpu_embed(struct kvt_dev *dev, const struct kvt_embed_args *a)
{
    size_t E = (size_t)a->table.k, row_bytes = kvt_row_bytes(a->table.type, E);
    bool worth = (size_t)a->T * E > WORTH_THREADS;
    #pragma omp parallel for num_threads(dev->threads) schedule(static) if (worth)
    for (int t = 0; t < a->T; t++) {
        assert(a->token[t] >= 0 && a->token[t] < a->table.n);
        kvt_dequantize(a->table.type, (const char *)a->table.data + (size_t)a->token[t] * row_bytes,
                       a->out + (size_t)t * E, E);
    }
    return 0;
}

int kvt_cpu_norm(struct kvt_dev *dev, const struct kvt_norm_args *a)
{
    const struct elem_kernel *k = kernel_of(dev);
    size_t E = (size_t)a->E;
    bool worth = (size_t)a->T * E > WORTH_THREADS;
    #pragma omp parallel for num_threads(dev->threads) schedule(static) if (worth)
    for (int t = 0; t < a->T; t++)
        if (a->centre)
            k->centre(a->in + (size_t)t * E, a->weight, a->bias, a->out + (size_t)t * E, a->E, a->eps);
        else
            k->norm(a->in + (size_t)t * E, a->weight, a->out + (size_t)t * E, a->E, a->eps);
    return 0;
}

int kvt_cpu_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a)
{
    const struct elem_kernel *k = kernel_of(dev);
    int half = a->rope.rot / 2;
    float by = a->scale > 0 ? a->scale : 1;
    assert(a->rope.rot % 2 == 0 && a->rope.rot <= a->D);
    if (!half)
        return 0;
    bool worth = (size_t)a->T * (size_t)a->heads * (size_t)a->D > WORTH_THREADS;
    #pragma omp parallel for num_threads(dev->threads) schedule(static) if (worth)
    for (int t = 0; t < a->T; t++) {
        assert(a->pos[t] >= 0 && a->pos[t] < a->rope.n_pos);
        const float *table = a->rope.table + (size_t)a->pos[t] * (size_t)half * 2;
        for (int h = 0; h < a->heads; h++)
            k->rotate(a->x + ((size_t)t * (size_t)a->heads + (size_t)h) * (size_t)a->D, table, half, a->rope.halves, by);
        for (int h = 0; a->more && h < a->more_heads; h++)
            k->rotate(a->more + ((size_t)t * (size_t)a->more_heads + (size_t)h) * (size_t)a->D, table, half, a->rope.halves, by);
    }
    return 0;
}

int kvt_cpu_glu(struct kvt_dev *dev, const struct kvt_glu_args *a)
{
    const struct elem_kernel *k = kernel_of(dev);
    size_t F = (size_t)a->F;
    bool worth = (size_t)a->T * F > WORTH_THREADS;
    #pragma omp parallel for num_threads(dev->threads) schedule(static) if (worth)
    for (int t = 0; t < a->T; t++)
        k->glu[a->act](a->gate + (size_t)t * F, a->up + (size_t)t * F, a->out + (size_t)t * F, F);
    return 0;
}

int kvt_cpu_add(struct kvt_dev *dev, const struct kvt_add_args *a)
{
    enum { PART = 1 << 14 };
    const struct elem_kernel *k = kernel_of(dev);
    size_t parts = (a->count + PART - 1) / PART;
    bool worth = a->count > 2 * WORTH_THREADS;
    #pragma omp parallel for num_threads(dev->threads) schedule(static) if (worth)
    for (size_t i = 0; i < parts; i++)
        k->add(a->x + i * PART, a->y + i * PART, a->count - i * PART < PART ? a->count - i * PART : PART, a->scale);
    return 0;
}

int kvt_cpu_scale(struct kvt_dev *dev, const struct kvt_scale_args *a)
{
    enum { PART = 1 << 12 };
    const struct elem_kernel *k = kernel_of(dev);
    size_t parts = (a->count + PART - 1) / PART;
    bool worth = a->count > WORTH_THREADS;
    #pragma omp parallel for num_threads(dev->threads) schedule(static) if (worth)
    for (size_t i = 0; i < parts; i++)
        k->scale(a->x + i * PART, a->count - i * PART < PART ? a->count - i * PART : PART, a->scale, a->cap);
    return 0;
}

int kvt_cpu_logit_stats(struct kvt_dev *dev, const struct kvt_logit_stats_args *a)
{
    const struct elem_kernel *k = kernel_of(dev);
    size_t V = (size_t)a->V;
    struct row_stats *row = kvt_dev_scratch(dev, (size_t)a->T * sizeof *row);
    if (!row)
        return KVT_ENOMEM;
    #pragma omp parallel num_threads(dev->threads) if (a->T > 1)
    {
        #pragma omp for schedule(dynamic)
        for (int t = 0; t < a->T; t++)
            k->stats(a->logits + (size_t)t * V, a->V, &row[t]);
        #pragma omp for schedule(dynamic)
        for (int t = 0; t < a->T; t++) {
            const float *x = a->logits + (size_t)t * V;
            double log_sum = log(row[t].sum);
            int token = a->token ? a->token[t] : -1, base = a->base ? a->base[t] : -1;
            if (a->argmax)
                a->argmax[t] = row[t].argmax;
            if (a->top_logprob)
                a->top_logprob[t] = (float)-log_sum;
            if (a->logprob)
                a->logprob[t] = token < 0 ? NAN : (float)((double)x[token] - (double)row[t].max - log_sum);
            if (a->entropy)
                a->entropy[t] = (float)(log_sum - row[t].moment / row[t].sum);
            if (a->kl && base < 0)
                a->kl[t] = NAN;
            if (a->kl && base >= 0) {
                const float *b = a->logits + (size_t)base * V;
                double mean = base == t ? 0 : k->cross(b, x, row[base].max, a->V) / row[base].sum;
                double kl = mean - ((double)row[base].max - (double)row[t].max) - (log(row[base].sum) - log_sum);
                a->kl[t] = kl > 0 ? (float)kl : 0; /* rounding must not show a negative divergence */
            }
        }
    }
    return 0;
}
