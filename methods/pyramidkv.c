/* PyramidKV: SnapKV's score, and a budget that falls linearly from the first layer to the last.
 * Cai et al., arXiv 2406.02069; Zefan-Cai/KVCache-Factory, pyramidkv_utils.py. */
#include "methods/methods.h"

#include <math.h>
#include <stdio.h>

static int uniform(const struct kvt_layer_ask *ask, int tok, int32_t *layer_tok)
{
    for (int l = 0; l < ask->L; l++)
        layer_tok[l] = tok;
    return 0;
}

/* The paper's line with an exact total: from hi = 2 base - lo in the first layer to lo = base / beta in the last, base
 * the mean without the protected slots. hi is clipped to what there is and lo to one token, each keeping the mean.
 * All numbers are integers over den = beta (L - 1); the floors' rest goes to the largest remainders, the earlier
 * layer first. */
static int exact(const struct kvt_policy *p, const struct kvt_layer_ask *ask, int32_t *layer_tok, char *note,
                 size_t note_len)
{
    int64_t L = ask->L, n = ask->n - ask->protect_tok, base = ask->total_tok - ask->protect_tok, beta = p->beta;
    if (L < 2 || base < 1 || base >= n) {
        const char *why = L < 2 ? "one layer" : base < 1 ? "the budget is the protected slots" : "nothing has to go";
        snprintf(note, note_len, "uniform: %s", why);
        uniform(ask, ask->total_tok, layer_tok);
        return L >= 2 && base < 1;
    }
    int64_t lo = base > beta ? base : beta, hi = 2 * base * beta - lo; /* in units of 1 / beta */
    if (hi > n * beta) {
        hi = n * beta;
        lo = 2 * base * beta - hi;
    }
    int64_t den = beta * (L - 1), rest = base * L;
    for (int64_t l = 0; l < L; l++) {
        int64_t num = hi * (L - 1) - l * (hi - lo);
        layer_tok[l] = (int32_t)(num / den);
        rest -= num / den;
    }
    for (; rest > 0; rest--) { /* rest < L: one more token for each of the `rest` largest remainders */
        int64_t best = -1, at = 0;
        for (int64_t l = 0; l < L; l++) {
            int64_t num = hi * (L - 1) - l * (hi - lo), left = num - den * layer_tok[l];
            if (left > best) {
                best = left;
                at = l;
            }
        }
        layer_tok[at]++;
    }
    for (int64_t l = 0; l < L; l++)
        layer_tok[l] += ask->protect_tok;
    return 0;
}

/* KVCache-Factory's integers: the step is floored, so the last layers and the mean come out above the budget. */
static int official(const struct kvt_policy *p, const struct kvt_layer_ask *ask, int32_t *layer_tok, char *note,
                    size_t note_len)
{
    int n = ask->n, w = ask->protect_tok, base = ask->total_tok - w;
    if (ask->L < 2 || base < 1 || n < 2 * base) {
        snprintf(note, note_len, "uniform: %d slots are fewer than twice the budget of %d without its %d protected", n,
                 base, w);
        uniform(ask, ask->total_tok, layer_tok);
        return 1;
    }
    int lo = base / p->beta, hi = 2 * base - lo;
    if (hi >= n - w) {
        hi = n - w;
        lo = 2 * base - hi;
    }
    int step = (hi - lo) / (ask->L - 1);
    for (int l = 0; l < ask->L; l++)
        layer_tok[l] = hi - l * step + w;
    return 0;
}

/* kvpress's floats: the window is inside the line, and the last layer must hold a whole window. */
static int kvpress(const struct kvt_policy *p, const struct kvt_layer_ask *ask, int32_t *layer_tok, char *note,
                   size_t note_len)
{
    double base = ask->total_real, lo = base / p->beta, hi = 2 * base - lo;
    int most = ask->n - p->window;
    if (hi >= most) {
        hi = most;
        lo = 2 * base - hi;
    }
    if (!(ask->n >= hi && hi >= lo && lo >= p->window)) {
        snprintf(note, note_len, "uniform: the last layer's %.1f tokens would not hold the window of %d", lo,
                 p->window);
        int tok = (int)rint(base);
        uniform(ask, tok < 1 ? 1 : tok, layer_tok);
        return 1;
    }
    double step = ask->L > 1 ? (hi - lo) / (ask->L - 1) : 0;
    for (int l = 0; l < ask->L; l++)
        layer_tok[l] = (int32_t)rint(hi - l * step); /* ties to even, as Python's round */
    return 0;
}

int kvt_pyramid_layers(const struct kvt_policy *p, const struct kvt_layer_ask *ask, int32_t *layer_tok, char *note,
                       size_t note_len)
{
    note[0] = 0;
    switch (p->rule) {
    case KVT_RULE_OFFICIAL: return official(p, ask, layer_tok, note, note_len);
    case KVT_RULE_KVPRESS: return kvpress(p, ask, layer_tok, note, note_len);
    case KVT_RULE_EXACT: break;
    }
    return exact(p, ask, layer_tok, note, note_len);
}

const struct kvt_method kvt_method_pyramidkv = {
    .name = "pyramidkv",
    .version = 1,
    .source = "PyramidKV, arXiv 2406.02069 section 4; Zefan-Cai/KVCache-Factory pyramidkv_utils.py",
    .summary = "SnapKV's score, more tokens in early layers",
    .defaults = {.score = KVT_SCORE_WMASS, .window = 32, .keep_window = true, .pool = KVT_POOL_MAX, .pool_width = 7,
                 .group = KVT_GROUP_MEAN, .alloc = KVT_ALLOC_PYRAMID, .beta = 20},
    .options = "w pool group order heads keep_window beta rule sinks renumber",
    .layer_budget = kvt_pyramid_layers,
};
