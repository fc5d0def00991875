/* The opened CUDA device, what operations share, and every operation by the file that defines it. What an operation means is said in
 * kernels/ops.h. Host functions return 0 or KVT_E* with the text in dev->err, as everywhere.
 *
 * Order: everything goes to one stream, so an operation may read what an earlier one wrote. Only `read`, and what says so below, waits. */
#ifndef KVT_KERNELS_CUDA_CUDA_H
#define KVT_KERNELS_CUDA_CUDA_H

extern "C" {
#include "kernels/ops.h"
}
#include <cublas_v2.h>

#include "kernels/cuda/launch.h"

struct kvt_cuda_block;       /* memory that lives as long as the device: weights (device.cu) */
struct kvt_cuda_out;         /* copies to the host that nobody waits for (out.cu) */
struct kvt_cuda_steps;       /* what a step has noted, and graphs (graph.cu) */

struct kvt_dev {
    struct kvt_err err;      /* first: kvt_dev_error reads it from the outside */
    char what[96];           /* "cuda, NVIDIA H100 80GB HBM3, sm_90, 132 SMs" */
    int sms;                 /* multiprocessors */
    int arch;                /* 10 x major + minor */
    size_t shared_most;      /* bytes of shared memory that a block may ask for */
    cudaStream_t stream;
    cublasHandle_t blas;
    void *scratch;           /* device memory; grows to the largest request, then stays */
    size_t scratch_bytes;
    unsigned char *box, *box_dev; /* kvt_cuda_post: pinned host memory and its copy on the device */
    size_t box_bytes, box_at;
    unsigned char *in;       /* pinned host memory for small reads */
    struct kvt_cuda_out *out;
    struct kvt_cuda_steps *steps; /* NULL: every launch is made at once */
    struct kvt_cuda_block *owned;
    const struct kvt_where *where; /* for a profile (cupti_ops.cu); or NULL */
    bool linear_ready[KVT_N_COMPUTE][KVT_N_DTYPE + 1][3]; /* kernels that have been allowed their shared memory (linear.h) */
};

enum { KVT_CUDA_IN_BYTES = 1 << 20 };

/* Device scratch of at least `bytes`, 256-byte aligned, contents undefined, valid until the next call on this device. One user at a
 * time: an operation asks once. NULL: no memory, and the error text is set. */
void *kvt_cuda_scratch(struct kvt_dev *dev, size_t bytes);

/* A small host array as device memory, in the stream's order, valid for kernels launched before the next 64 posts (and until the host
 * next waits, for longer); in a step, until it ends. 16-byte aligned. NULL: failed, and the error text is set. */
const void *kvt_cuda_post(struct kvt_dev *dev, const void *host, size_t bytes);
/* What layers of a step have in common is sent once: the same bytes as the last of that kind are where those are. Outside of a step as above. */
enum kvt_post_kind { KVT_POST_OWN, KVT_POST_APPEND, KVT_POST_BRANCH, KVT_POST_POS, KVT_POST_ROW_AT, KVT_POST_TURNED, KVT_POST_KINDS };
const void *kvt_cuda_post_once(struct kvt_dev *dev, enum kvt_post_kind kind, const void *host, size_t bytes);

/* graph.cu. In a step launches are noted (launch.h). What touches the stream otherwise, or frees memory, first has them made: */
int kvt_cuda_flush(struct kvt_dev *dev);
bool kvt_cuda_in_step(const struct kvt_dev *dev); /* then what changes from step to step must not be among a kernel's arguments */
int kvt_cuda_steps_open(struct kvt_dev *dev);
void kvt_cuda_steps_close(struct kvt_dev *dev);
/* A post in a step. NULL: more than kvt_cuda_step_post_most, or failed. */
const void *kvt_cuda_step_post(struct kvt_dev *dev, enum kvt_post_kind kind, const void *host, size_t bytes);
size_t kvt_cuda_step_post_most(void);
/* out.cu. A step begins; its copies begin: all its launches have been made. */
int kvt_cuda_out_step(struct kvt_dev *dev);
int kvt_cuda_out_begin(struct kvt_dev *dev);
/* In a step: room on the device for what an operation's host outputs are made of (NULL: wait for them, as outside), and who makes them
 * when they have come. job is of malloc, freed behind it. */
void *kvt_cuda_answer_room(struct kvt_dev *dev, size_t bytes);
int kvt_cuda_answer(struct kvt_dev *dev, const void *result, void (*take)(void *job, const void *result), void *job);
int kvt_cuda_out_open(struct kvt_dev *dev);
void kvt_cuda_out_close(struct kvt_dev *dev);
/* cache.cu: pages for a step of T rows and an eviction of each, so that nobody has to ask within it. */
int kvt_cuda_cache_room(struct kvt_dev *dev, struct kvt_cache *cache, int T);

/* 0, or the error as KVT_E* with "what: CUDA's words" in dev->err. */
int kvt_cuda_failed(struct kvt_dev *dev, cudaError_t code, const char *what);
/* After launches: what cudaGetLastError says. */
int kvt_cuda_launched(struct kvt_dev *dev, const char *what);
/* Waits for the stream, then copies. */
int kvt_cuda_fetch(struct kvt_dev *dev, void *host, const void *device, size_t bytes);

static inline unsigned kvt_blocks(size_t n, size_t per) { return (unsigned)((n + per - 1) / per); }

extern "C" {

/* device.cu */
int kvt_cuda_open(struct kvt_dev **out, const struct kvt_dev_opts *opts, struct kvt_err *err);
void kvt_cuda_close(struct kvt_dev **dev);
const char *kvt_cuda_describe(struct kvt_dev *dev);
bool kvt_cuda_can_compute(struct kvt_dev *dev, enum kvt_compute compute);
void *kvt_cuda_alloc(struct kvt_dev *dev, size_t bytes);
void kvt_cuda_free(struct kvt_dev *dev, void *p);
int kvt_cuda_write(struct kvt_dev *dev, void *dst, const void *host_src, size_t bytes);
int kvt_cuda_read(struct kvt_dev *dev, void *host_dst, const void *src, size_t bytes);
int kvt_cuda_zero(struct kvt_dev *dev, void *dst, size_t bytes);
int kvt_cuda_copy(struct kvt_dev *dev, void *dst, const void *src, size_t bytes);
int kvt_cuda_weights(struct kvt_dev *dev, struct kvt_mat *mat);
/* graph.cu */
int kvt_cuda_step_begin(struct kvt_dev *dev, const struct kvt_step_args *a);
int kvt_cuda_step_end(struct kvt_dev *dev);
/* out.cu */
void *kvt_cuda_alloc_host(struct kvt_dev *dev, size_t bytes);
void kvt_cuda_free_host(struct kvt_dev *dev, void *p);
int kvt_cuda_read_later(struct kvt_dev *dev, void *host_dst, const void *src, size_t bytes);
int kvt_cuda_settle(struct kvt_dev *dev);

/* elem.cu */
int kvt_cuda_embed(struct kvt_dev *dev, const struct kvt_embed_args *a);
int kvt_cuda_norm(struct kvt_dev *dev, const struct kvt_norm_args *a);
int kvt_cuda_rotate(struct kvt_dev *dev, const struct kvt_rotate_args *a);
int kvt_cuda_glu(struct kvt_dev *dev, const struct kvt_glu_args *a);
int kvt_cuda_add(struct kvt_dev *dev, const struct kvt_add_args *a);
int kvt_cuda_scale(struct kvt_dev *dev, const struct kvt_scale_args *a);
/* logits.cu */
int kvt_cuda_logit_stats(struct kvt_dev *dev, const struct kvt_logit_stats_args *a);

/* linear.cu */
int kvt_cuda_linear(struct kvt_dev *dev, const struct kvt_linear_args *a);
int kvt_cuda_linears(struct kvt_dev *dev, const struct kvt_linears_args *a);

/* cache.cu */
int kvt_cuda_cache_open(struct kvt_dev *dev, struct kvt_cache **out, const struct kvt_cache_opts *o, struct kvt_err *err);
void kvt_cuda_cache_close(struct kvt_dev *dev, struct kvt_cache **cache);
int kvt_cuda_cache_append(struct kvt_dev *dev, const struct kvt_append_args *a);
int kvt_cuda_cache_keep(struct kvt_dev *dev, const struct kvt_keep_args *a);
int kvt_cuda_cache_remove(struct kvt_dev *dev, const struct kvt_remove_args *a);
int kvt_cuda_cache_fork(struct kvt_dev *dev, struct kvt_cache *cache, int src, int dst);
int kvt_cuda_cache_drop(struct kvt_dev *dev, struct kvt_cache *cache, int branch);
int kvt_cuda_cache_positions(struct kvt_dev *dev, const struct kvt_positions_args *a);
int kvt_cuda_cache_lengths(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int32_t *host_count);
int kvt_cuda_cache_bytes(struct kvt_dev *dev, struct kvt_cache *cache, int branch, struct kvt_cache_bytes *out);
int kvt_cuda_cache_peek(struct kvt_dev *dev, struct kvt_cache *cache, int branch, int layer, int g, float *k, float *v);

/* choose.cu */
int kvt_cuda_group(struct kvt_dev *dev, const struct kvt_group_args *a);
int kvt_cuda_pool(struct kvt_dev *dev, const struct kvt_pool_args *a);
int kvt_cuda_combine(struct kvt_dev *dev, const struct kvt_combine_args *a);
int kvt_cuda_segment_mean(struct kvt_dev *dev, const struct kvt_segment_mean_args *a);
int kvt_cuda_weigh(struct kvt_dev *dev, const struct kvt_weigh_args *a);
/* topk.cu */
int kvt_cuda_topk(struct kvt_dev *dev, const struct kvt_topk_args *a);
int kvt_cuda_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a);
/* divide.cu, units.cu */
int kvt_cuda_divide(struct kvt_dev *dev, const struct kvt_divide_args *a);
int kvt_cuda_pick_units(struct kvt_dev *dev, const struct kvt_pick_units_args *a);

/* score.cu, score_out.cu, score_query.cu */
int kvt_cuda_norms(struct kvt_dev *dev, const struct kvt_norms_args *a);
int kvt_cuda_keydiff(struct kvt_dev *dev, const struct kvt_keydiff_args *a);
int kvt_cuda_lag(struct kvt_dev *dev, const struct kvt_lag_args *a);
int kvt_cuda_out_norms(struct kvt_dev *dev, const struct kvt_out_norms_args *a);
int kvt_cuda_query_stats(struct kvt_dev *dev, const struct kvt_query_stats_args *a);
int kvt_cuda_expected(struct kvt_dev *dev, const struct kvt_expected_args *a);

/* step.cu */
int kvt_cuda_accumulate(struct kvt_dev *dev, const struct kvt_accumulate_args *a);
int kvt_cuda_contest(struct kvt_dev *dev, const struct kvt_contest_args *a);
int kvt_cuda_evict_one(struct kvt_dev *dev, const struct kvt_evict_one_args *a);

/* attn.cu */
int kvt_cuda_attn(struct kvt_dev *dev, const struct kvt_attn_args *a);
void kvt_cuda_row_sums(int T, uint8_t *level);
/* lost.cu */
int kvt_cuda_lost(struct kvt_dev *dev, const struct kvt_lost_args *a);

} /* extern "C" */

#endif
