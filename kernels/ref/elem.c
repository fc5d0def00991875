/* elem, the definition: one row at a time, in double, rounded once at the end. */
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>

int kvt_ref_embed(struct kvt_dev *dev, const struct kvt_embed_args *a)
{
    (void)dev;
    size_t E = (size_t)a->table.k, row_bytes = kvt_row_bytes(a->table.type, E);
    for (int t = 0; t < a->T; t++) {
        assert(a->token[t] >= 0 && a->token[t] < a->table.n);
        kvt_dequantize(a->table.type, (const char *)a->table.data + (size_t)a->token[t] * row_bytes,
                       a->out + (size_t)t * E, E);
    }
    return 0;
}

int kvt_ref_norm(struct kvt_dev *dev, const struct kvt_norm_args *a)
{
    (void)dev;
    for (int t = 0; t < a->T; t++) {
        const float *in = a->in + (size_t)t * (size_t)a->E;
        float *out = a->out + (size_t)t * (size_t)a->E;
        double sum = 0, mean = 0;
        for (int i = 0; i < a->E && a->centre; i++)
            mean += (double)in[i] / a->E;
        for (int i = 0; i < a->E; i++)
            sum += ((double)in[i] - mean) * ((double)in[i] - mean);
        double scale = 1 / sqrt(sum / a->E + (double)a->eps);
        for (int i = 0; i < a->E; i++)
            out[i] = (float)(((double)in[i] - mean) * scale * (double)a->weight[i] + (a->bias ? (double)a->bias[i] : 0));
    }
    return 0;
}

int kvt_ref_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a)
{
    (void)dev;
    int half = a->rope.rot / 2;
    double by = a->scale > 0 ? (double)a->scale : 1;
    assert(a->rope.rot % 2 == 0 && a->rope.rot <= a->D);
    for (int t = 0; half && t < a->T; t++) {
        assert(a->pos[t] >= 0 && a->pos[t] < a->rope.n_pos);
        const float *table = a->rope.table + (size_t)a->pos[t] * (size_t)half * 2;
        for (int h = 0; h < a->heads + (a->more ? a->more_heads : 0); h++) {
            float *x = h < a->heads ? a->x + ((size_t)t * (size_t)a->heads + (size_t)h) * (size_t)a->D
                                    : a->more + ((size_t)t * (size_t)a->more_heads + (size_t)(h - a->heads)) * (size_t)a->D;
            for (int i = 0; i < half; i++) {
                float *first = a->rope.halves ? x + i : x + 2 * i;
                float *second = a->rope.halves ? x + i + half : x + 2 * i + 1;
                double c = by * (double)table[2 * i], s = by * (double)table[2 * i + 1], u = (double)*first, v = (double)*second;
                *first = (float)(u * c - v * s);
                *second = (float)(v * c + u * s);
            }
        }
    }
    return 0;
}

int kvt_ref_glu(struct kvt_dev *dev, const struct kvt_glu_args *a)
{
    (void)dev;
    for (size_t i = 0; i < (size_t)a->T * (size_t)a->F; i++) {
        double g = (double)a->gate[i], u = 0.79788456080286536 * (g + 0.044715 * g * g * g);
        double act = a->act == KVT_ACT_SILU        ? g / (1 + exp(-g))
                     : a->act == KVT_ACT_GELU_TANH ? g / (1 + exp(-2 * u)) /* 0.79... = sqrt(2 / pi) */
                                                   : g * 0.5 * erfc(-g * sqrt(0.5));
        a->out[i] = (float)(act * (double)a->up[i]);
    }
    return 0;
}

int kvt_ref_add(struct kvt_dev *dev, const struct kvt_add_args *a)
{
    (void)dev;
    for (size_t i = 0; i < a->count; i++)
        a->x[i] += (float)((double)a->scale * (double)a->y[i]);
    return 0;
}

int kvt_ref_scale(struct kvt_dev *dev, const struct kvt_scale_args *a)
{
    (void)dev;
    for (size_t i = 0; i < a->count; i++) {
        double x = (double)a->scale * (double)a->x[i];
        a->x[i] = (float)(a->cap > 0 ? (double)a->cap * tanh(x / (double)a->cap) : x);
    }
    return 0;
}

/* The largest logit's id (ties: the smaller), and ln sum exp of the row. */
static int row_lse(const float *x, int V, double *lse)
{
    int best = 0;
    for (int v = 1; v < V; v++)
        if (x[v] > x[best])
            best = v;
    double sum = 0;
    for (int v = 0; v < V; v++)
        sum += exp((double)x[v] - (double)x[best]);
    *lse = (double)x[best] + log(sum);
    return best;
}

int kvt_ref_logit_stats(struct kvt_dev *dev, const struct kvt_logit_stats_args *a)
{
    (void)dev;
    for (int t = 0; t < a->T; t++) {
        const float *x = a->logits + (size_t)t * (size_t)a->V;
        double lse;
        int best = row_lse(x, a->V, &lse);
        if (a->argmax)
            a->argmax[t] = best;
        if (a->top_logprob)
            a->top_logprob[t] = (float)((double)x[best] - lse);
        int token = a->token ? a->token[t] : -1;
        if (a->logprob)
            a->logprob[t] = token < 0 ? NAN : (float)((double)x[token] - lse);
        if (a->entropy) {
            double sum = 0;
            for (int v = 0; v < a->V; v++) {
                double l = (double)x[v] - lse, p = exp(l);
                if (p > 0) /* 0 ln 0 = 0, also where a logit is -inf */
                    sum -= p * l;
            }
            a->entropy[t] = (float)sum;
        }
        int base = a->base ? a->base[t] : -1;
        if (a->kl && base < 0)
            a->kl[t] = NAN;
        if (a->kl && base >= 0) {
            const float *b = a->logits + (size_t)base * (size_t)a->V;
            double base_lse, sum = 0;
            row_lse(b, a->V, &base_lse);
            for (int v = 0; v < a->V; v++) {
                double l = (double)b[v] - base_lse, p = exp(l);
                if (p > 0)
                    sum += p * (l - ((double)x[v] - lse));
            }
            a->kl[t] = sum > 0 ? (float)sum : 0; /* rounding must not show a negative divergence */
        }
    }
    return 0;
}
