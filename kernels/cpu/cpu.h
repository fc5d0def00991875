/* Every operation of the cpu backend (vectors chosen at run time, OpenMP), by the file that defines it.
 * What an operation means is said in kernels/ops.h. */
#ifndef KVT_KERNELS_CPU_CPU_H
#define KVT_KERNELS_CPU_CPU_H

#include "kernels/dev.h"

/* elem.c */
int kvt_cpu_embed(struct kvt_dev *dev, const struct kvt_embed_args *a);
int kvt_cpu_norm(struct kvt_dev *dev, const struct kvt_norm_args *a);
int kvt_cpu_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a);
int kvt_cpu_glu(struct kvt_dev *dev, const struct kvt_glu_args *a);
int kvt_cpu_add(struct kvt_dev *dev, const struct kvt_add_args *a);
int kvt_cpu_scale(struct kvt_dev *dev, const struct kvt_scale_args *a);
int kvt_cpu_logit_stats(struct kvt_dev *dev, const struct kvt_logit_stats_args *a);

/* linear.c */
int kvt_cpu_linear(struct kvt_dev *dev, const struct kvt_linear_args *a);

/* cache.c */
int kvt_cpu_cache_open(struct kvt_dev *dev, struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err);
void kvt_cpu_cache_close(struct kvt_dev *dev, struct kvt_cache **cache);
int kvt_cpu_cache_append(struct kvt_dev *dev, const struct kvt_append_args *a);
int kvt_cpu_cache_keep(struct kvt_dev *dev, const struct kvt_keep_args *a);
int kvt_cpu_cache_remove(struct kvt_dev *dev, const struct kvt_remove_args *a);
int kvt_cpu_cache_fork(struct kvt_dev *dev, struct kvt_cache *cache, int src, int dst);
int kvt_cpu_cache_drop(struct kvt_dev *dev, struct kvt_cache *cache, int branch);
int kvt_cpu_cache_positions(struct kvt_dev *dev, const struct kvt_positions_args *a);
int kvt_cpu_cache_lengths(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int32_t *host_count);
int kvt_cpu_cache_bytes(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out);
int kvt_cpu_cache_peek(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int layer, int g, float *k, float *v);
int kvt_cpu_group(struct kvt_dev *dev, const struct kvt_group_args *a);
int kvt_cpu_pool(struct kvt_dev *dev, const struct kvt_pool_args *a);
int kvt_cpu_combine(struct kvt_dev *dev, const struct kvt_combine_args *a);
int kvt_cpu_segment_mean(struct kvt_dev *dev, const struct kvt_segment_mean_args *a);
int kvt_cpu_topk(struct kvt_dev *dev, const struct kvt_topk_args *a);
int kvt_cpu_pick_units(struct kvt_dev *dev, const struct kvt_pick_units_args *a);
int kvt_cpu_divide(struct kvt_dev *dev, const struct kvt_divide_args *a);
int kvt_cpu_weigh(struct kvt_dev *dev, const struct kvt_weigh_args *a);

/* score.c */
int kvt_cpu_norms(struct kvt_dev *dev, const struct kvt_norms_args *a);
int kvt_cpu_keydiff(struct kvt_dev *dev, const struct kvt_keydiff_args *a);
int kvt_cpu_lag(struct kvt_dev *dev, const struct kvt_lag_args *a);
int kvt_cpu_out_norms(struct kvt_dev *dev, const struct kvt_out_norms_args *a);
int kvt_cpu_query_stats(struct kvt_dev *dev, const struct kvt_query_stats_args *a);
int kvt_cpu_expected(struct kvt_dev *dev, const struct kvt_expected_args *a);

/* step.c */
int kvt_cpu_accumulate(struct kvt_dev *dev, const struct kvt_accumulate_args *a);
int kvt_cpu_contest(struct kvt_dev *dev, const struct kvt_contest_args *a);
int kvt_cpu_evict_one(struct kvt_dev *dev, const struct kvt_evict_one_args *a);
int kvt_cpu_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a);

/* row.c */
int kvt_cpu_reduce_row(struct kvt_dev *dev, const struct kvt_reduce_row_args *a);

/* attn.c */
int kvt_cpu_attn(struct kvt_dev *dev, const struct kvt_attn_args *a);
void kvt_cpu_row_sums(int T, uint8_t *level);

/* lost.c */
int kvt_cpu_lost(struct kvt_dev *dev, const struct kvt_lost_args *a);

#endif
