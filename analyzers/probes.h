/* Which heads copy: prompts made for it, run through the model (docs/measures.md, section 6). The one part of an analyzer that runs
 * something. */
#ifndef KVT_ANALYZERS_PROBES_H
#define KVT_ANALYZERS_PROBES_H

#include "kvt/model.h"
#include "kvt/session.h"

enum { KVT_PROBE_SEEDS = 10, KVT_PROBE_TOKENS = 64 };

struct kvt_probe_run {
    const struct kvt_model *model;
    const struct kvt_ops *ops;
    int threads;
    enum kvt_compute compute;
    enum kvt_dtype kv_type;
    volatile const int *interrupted; /* or NULL */
};

/* Sums over prompts, (L, H) each. */
struct kvt_probe_sums {
    int L, H;
    double *induction, *duplicate; /* of rows' attention */
    int64_t rows;
    double *copied;                /* of shares of needles */
    int asked, found;              /* needles; those that the model itself brought back, which count */
};
int kvt_probe_sums_make(struct kvt_probe_sums *s, int L, int H, struct kvt_err *err);
void kvt_probe_sums_free(struct kvt_probe_sums *s);

/* BOS, where the model's prompts begin with one, and n tokens drawn from the seed, twice; out (1 + 2 n). Returns how many. Special
 * tokens aren't drawn. 0: the vocabulary has none else. */
int kvt_probe_draw(const struct kvt_tokenizer *tok, uint64_t seed, int n, int32_t *out);
/* Adds a prompt of which the last n tokens repeat the n before: attention of row i on i - n + 1, the token behind its first
 * occurrence, and on i - n, that occurrence, over the last n rows. */
int kvt_probe_repeat(const struct kvt_probe_run *run, const int32_t *token, int n_prompt, int n, struct kvt_probe_sums *s, struct kvt_err *err);

/* Needle i / KVT_N_DEPTHS at depth i % KVT_N_DEPTHS of a text, asked for at the end (needles.h). */
int kvt_probe_needle(const struct kvt_probe_run *run, int i, struct kvt_probe_sums *s, struct kvt_err *err);
/* The share of a needle's n tokens that a head copied: of `steps` tokens said, said[k] came out of a row whose largest attention of head
 * h was on key at[k * heads + h]. is[j] is the prompt's token j, the needle [from, from + n). out (heads). Returns the share of the needle
 * that was said at all. */
double kvt_probe_copied(const int32_t *is, int from, int n, const int32_t *said, const int32_t *at, int steps, int heads, double *out);

#endif
