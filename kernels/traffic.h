/* The least bytes that an operation must move to and from memory, from the shapes of its arguments: each input read once, each output
 * written once (one that is added to: read and written), weights and cached keys and values in the types they are stored in. What caches
 * spare or a kernel reads again isn't in it: it is the bound that a measured time is held against (docs/measures.md, kvinfo --time). */
#ifndef KVT_KERNELS_TRAFFIC_H
#define KVT_KERNELS_TRAFFIC_H

#include "kernels/ops.h"

int64_t kvt_traffic_embed(const struct kvt_embed_args *a);
int64_t kvt_traffic_norm(const struct kvt_norm_args *a);
int64_t kvt_traffic_rotate(const struct kvt_rotate_args *a);
int64_t kvt_traffic_linear(const struct kvt_linear_args *a);
int64_t kvt_traffic_linears(const struct kvt_linears_args *a); /* nothing of what only its parts hand on */
int64_t kvt_traffic_logit_stats(const struct kvt_logit_stats_args *a);
/* o: how the cache was opened. */
int64_t kvt_traffic_append(const struct kvt_append_args *a, const struct kvt_cache_opts *o);
/* live(self, branch): the most slots that a cell of the layer holds. Rows of a branch are neighbours and read its slots once for all. */
int64_t kvt_traffic_attn(const struct kvt_attn_args *a, const struct kvt_cache_opts *o, int (*live)(const void *self, int branch, int layer), const void *self);
/* Slots of cells: keys, values, or both, and one float written for each. */
int64_t kvt_traffic_slots(const struct kvt_slots *at, const struct kvt_cache_opts *o, int arrays);

#endif
