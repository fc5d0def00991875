/* Rotary angles: RoFormer (arXiv 2104.09864) and the scalings by which models were stretched past their first context.
 * All in double; transformers computes the same in float (modeling_rope_utils.py). */
#include "engine/rope.h"

#include <math.h>
#include <stdio.h>

#define TAU 6.283185307179586

/* Llama 3.1: waves longer than the first context are stretched, those that turn often in it are left alone. */
static double llama3(const struct kvt_rope_spec *s, double freq)
{
    double turns = s->original_tok * freq / TAU;
    if (turns < s->low)
        return freq / s->factor;
    if (turns > s->high)
        return freq;
    double smooth = (turns - s->low) / (s->high - s->low);
    return (1 - smooth) * freq / s->factor + smooth * freq;
}

/* The pair, as a real number, that turns `turns` times in the first context (YaRN, arXiv 2309.00071, section 3.2). */
static double yarn_pair(const struct kvt_rope_spec *s, int rot, double turns)
{
    return rot * log(s->original_tok / (turns * TAU)) / (2 * log(s->base));
}

static double yarn(const struct kvt_rope_spec *s, int rot, int i, double freq)
{
    double first = yarn_pair(s, rot, s->high), last = yarn_pair(s, rot, s->low);
    if (s->truncate) {
        first = floor(first);
        last = ceil(last);
    }
    first = fmax(first, 0);
    last = fmin(last, rot - 1);
    double ramp = (i - first) / (last == first ? 0.001 : last - first);
    ramp = fmin(fmax(ramp, 0), 1);
    return freq / s->factor * ramp + freq * (1 - ramp);
}

void kvt_rope_frequencies(const struct kvt_rope_spec *s, int rot, int n_tok, double *freq)
{
    double base = s->base;
    if (s->scaling == KVT_ROPE_DYNAMIC && rot > 2) { /* NTK-aware: the base grows with the text */
        double n = n_tok > s->original_tok ? n_tok : s->original_tok;
        base *= pow(s->factor * n / s->original_tok - (s->factor - 1), rot / (rot - 2.0));
    }
    for (int i = 0; i < rot / 2; i++) {
        double f = pow(base, -2.0 * i / rot);
        switch (s->scaling) {
        case KVT_ROPE_LINEAR: f /= s->factor; break;
        case KVT_ROPE_LLAMA3: f = llama3(s, f); break;
        case KVT_ROPE_YARN: f = yarn(s, rot, i, f); break;
        case KVT_ROPE_FACTORS: f /= (double)s->long_factor[i]; break;
        case KVT_ROPE_LONG: f /= (double)(n_tok > s->original_tok ? s->long_factor[i] : s->short_factor[i]); break;
        case KVT_ROPE_PLAIN:
        case KVT_ROPE_DYNAMIC: break;
        }
        freq[i] = f;
    }
}

void kvt_rope_table(const double *freq, int rot, int n_pos, float *table)
{
    int half = rot / 2;
    for (int p = 0; p < n_pos; p++)
        for (int i = 0; i < half; i++) {
            table[((size_t)p * (size_t)half + (size_t)i) * 2] = (float)cos(p * freq[i]);
            table[((size_t)p * (size_t)half + (size_t)i) * 2 + 1] = (float)sin(p * freq[i]);
        }
}

void kvt_rope_text(const struct kvt_rope_spec *s, int n_tok, char *out, size_t cap)
{
    switch (s->scaling) {
    case KVT_ROPE_PLAIN: snprintf(out, cap, "plain"); break;
    case KVT_ROPE_LINEAR: snprintf(out, cap, "linear x%g", s->factor); break;
    case KVT_ROPE_DYNAMIC: snprintf(out, cap, "dynamic x%g for %d tokens", s->factor, n_tok); break;
    case KVT_ROPE_LLAMA3: snprintf(out, cap, "llama3 x%g", s->factor); break;
    case KVT_ROPE_YARN: snprintf(out, cap, "yarn x%g", s->factor); break;
    case KVT_ROPE_FACTORS: snprintf(out, cap, "a factor for each frequency"); break;
    case KVT_ROPE_LONG: snprintf(out, cap, "longrope, %s factors", n_tok > s->original_tok ? "long" : "short"); break;
    }
}
