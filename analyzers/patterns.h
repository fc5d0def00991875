/* Where attention goes: numbers of heads, from what a trace holds of a prefill and of decoding. Measures 6 of docs/measures.md. */
#ifndef KVT_ANALYZERS_PATTERNS_H
#define KVT_ANALYZERS_PATTERNS_H

#include <stdbool.h>
#include <stdint.h>

#include "kvt/trace.h"

/* What a head can be called; several may hold. Text in tables, the score that is compared, its threshold by default. The last three
 * come from probes (probe_file.h) alone. */
#define KVT_LABEL_MAP(X)                 \
    X(SINK, "sink", first, 0.3)          \
    X(PREVIOUS, "previous", previous, 0.4) \
    X(LOCAL, "local", local, 0.6)        \
    X(UNIFORM, "uniform", evenness, 0.9) \
    X(INDUCTION, "induction", induction, 0.4) \
    X(DUPLICATE, "duplicate", duplicate, 0.4) \
    X(RETRIEVAL, "retrieval", retrieval, 0.1)
enum kvt_label {
#define X(name, text, score, threshold) KVT_LABEL_##name,
    KVT_LABEL_MAP(X)
#undef X
    KVT_N_LABELS
};
extern const char *const kvt_label_text[KVT_N_LABELS];
extern const double kvt_label_default[KVT_N_LABELS];

/* One query head. Means over rows that see 32 keys or more; NaN where the trace doesn't hold it. */
struct kvt_head {
    double evenness;             /* entropy / ln(visible keys) */
    double keys;                 /* effective keys, e to the entropy */
    double first, sinks;         /* mass on token 0; on the first n_sink */
    double local;                /* on the newest n_local keys */
    double self, previous;       /* at distance 0, 1 */
    double hold[3], hold_rest[3]; /* share of the tokens that hold 60, 90, 99 % of its mass over the prefill; the same without the first n_sink */
    double part, part_rest;      /* participation of that mass: share of tokens that would hold it if they held it evenly */
    double own;                  /* mass of generated tokens' rows on generated tokens */
    double induction, duplicate, retrieval; /* of probes */
};
/* One for which nothing is known. */
extern const struct kvt_head kvt_head_unknown;
/* The label's score of a head. */
double kvt_head_score(const struct kvt_head *h, enum kvt_label label);

/* Heads of a layer, out (H). Needs raw scores (EINPUT says how to trace them); what else is missing is NaN. */
int kvt_heads_of(struct kvt_trace *t, int layer, struct kvt_head *out, struct kvt_err *err);
/* The same of the rows of generated tokens, all layers: out (L, H), mean over steps. EINPUT where they weren't traced. */
int kvt_heads_decoded(struct kvt_trace *t, struct kvt_head *out, struct kvt_err *err);
/* Mass of those rows on the spans of the trace's map and on generated tokens, mean over steps: out (L, H, n_map_spans + 1). */
int kvt_spans_decoded(struct kvt_trace *t, double *out, struct kvt_err *err);

/* Tokens that act as sinks: in one head or more the mean weight over the rows that see it (32 or more) is above `least`. heads: of how
 * many of the L x H. *out is malloc'ed, in order of tokens. */
struct kvt_sink { int token, heads; double most; };
int kvt_sinks_of(struct kvt_trace *t, double least, struct kvt_sink **out, int *count, struct kvt_err *err);

/* Share of n values, the largest first, that sum to `share` of their total; work (2 n) is written. NaN for a total of 0. */
double kvt_hold(const float *v, int n, double share, float *work);
/* (sum v)^2 / (n sum v^2): 1/n = one has all, 1 = all have the same. NaN for a total of 0. */
double kvt_participation(const float *v, int n);
/* How far a row singles out some of S things: weight[s] on a thing of size[s] tokens. 1 - H(q) / ln S with q the weights per token,
 * normalised: 0 = all alike, 1 = one has all. NaN for S < 2 or without weight. */
double kvt_selectivity(const double *weight, const double *size, int S);
/* Mean of a - b over its standard deviation, pairs with a NaN left out; *n how many counted. NaN below two, or where all are equal. */
double kvt_effect(const double *a, const double *b, int count, double *mean, int *n);
/* Of two groups without pairs: difference of their means over the pooled standard deviation (Cohen's d). */
double kvt_effect_apart(const double *a, int na, const double *b, int nb, double *mean);

#endif
