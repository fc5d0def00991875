/* Rotary angles of a run: the scalings of struct kvt_rope_spec, once for all of its tokens. */
#ifndef KVT_ENGINE_ROPE_H
#define KVT_ENGINE_ROPE_H

#include "kvt/model.h"

/* freq (rot / 2): radians a position for each pair, in a run of n_tok tokens (prompt and generated together). Two of the
 * scalings look at n_tok, and keep what it says for the whole run: keys that are in the cache stay comparable. */
void kvt_rope_frequencies(const struct kvt_rope_spec *spec, int rot, int n_tok, double *freq);
/* table (n_pos, rot / 2, 2): cos and sin. */
void kvt_rope_table(const double *freq, int rot, int n_pos, float *table);
/* "llama3 x8", "longrope (long factors)", "plain": what a run of n_tok tokens uses, for people and for the trace. */
void kvt_rope_text(const struct kvt_rope_spec *spec, int n_tok, char *out, size_t cap);

#endif
