/* The forward pass over rows of any mix of branches: what a layer needs, made once. */
#ifndef KVT_ENGINE_FORWARD_H
#define KVT_ENGINE_FORWARD_H

#include "kernels/ops.h"
#include "kvt/model.h"

/* One call's rows: row t is token[t] of branch[t] at text position pos[t]; rows of a branch ascend. Host. */
struct kvt_rows {
    int T;
    const int32_t *token, *branch, *pos;
    const uint8_t *renumber;   /* (T) or NULL */
    int from;                  /* rows in front of it have been run already: their keys and values are there. Whole runs; 0 */
    bool exact;                /* bits of a row don't depend on its neighbours (all but the shared prefill) */
};

/* Who looks at attention, and acts after it. Both may be NULL. */
struct kvt_look {
    void *self;
    int attn_rows;             /* at most so many rows in one attention call; 0 = no limit */
    /* What attention of this layer must return for rows [row0, row0 + n); NULL = nothing. */
    const struct kvt_see *(*before)(void *self, int layer, int row0, int n);
    int (*after)(void *self, int layer, int row0, int n, struct kvt_err *err);
    /* Queries (n, H, D), keys and values (n, G, D) of rows [row0, row0 + n): before the rotation, and once more after it. Or NULL. */
    int (*vectors)(void *self, int layer, int row0, int n, bool rotated, const float *const qkv[3], struct kvt_err *err);
};

struct kvt_layer_dev {         /* weights of a layer in backend memory */
    struct kvt_mat q, k, v, o, gate, up, down;
    float *attn_norm, *ffn_norm, *attn_norm_bias, *ffn_norm_bias, *post_attn_norm, *post_ffn_norm, *q_norm, *k_norm;
    float *q_bias, *k_bias, *v_bias, *o_bias, *gate_bias, *up_bias, *down_bias;
};

enum { KVT_NO_ROPE = 2 };

struct kvt_forward {
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    const struct kvt_shape *shape;
    struct kvt_cache *cache;   /* borrowed */
    enum kvt_compute compute;
    struct kvt_rope rope[3];   /* by kvt_shape.rope, and none: KVT_NO_ROPE */
    float rope_scale[3];       /* of cos and sin */
    struct kvt_mat embed, output;
    float *out_norm, *out_norm_bias;
    struct kvt_layer_dev *layer; /* (L) */
    int run;                   /* rows of the work buffers */
    float *h;                  /* (run, max(E, H D)) */
    float *q, *k, *v;          /* (run, H D), (run, G D), (run, G D) */
    float *att;                /* (run, H D) */
    float *gate, *up;          /* (run, F) */
    int32_t *pos;              /* (run) */
    int32_t *sent;           /* host, (run) what f->pos holds, n_sent of them */
    int n_sent;
    float *rope_table[2];      /* (n_tok + 1, rot / 2, 2) */
    volatile const int *interrupted; /* or NULL */
    struct kvt_times *times;   /* or NULL */
};

/* shape and weights: the model's, or a test's copy of them. run: rows of one call at most ops->run, fewer for small
 * sessions; n_tok: tokens of the run, prompt and generated together, from which rope factors follow; ahead: positions behind them
 * that have factors too. */
int kvt_forward_open(struct kvt_forward *f, const struct kvt_shape *shape, const struct kvt_weights *weights, const struct kvt_ops *ops,
                     struct kvt_dev *dev, struct kvt_cache *cache, enum kvt_compute compute, int run, int n_tok, int ahead, struct kvt_err *err);
void kvt_forward_close(struct kvt_forward *f);
size_t kvt_forward_work_bytes(const struct kvt_shape *shape, int run, int n_tok);
/* How this layer's queries and keys are rotated; rot is 0 where they aren't. */
const struct kvt_rope *kvt_forward_rope(const struct kvt_forward *f, int layer);

/* x (T, E) = embeddings of the rows' tokens. */
int kvt_forward_embed(struct kvt_forward *f, const struct kvt_rows *rows, float *x, struct kvt_err *err);
/* One layer over all rows, in runs; x (T, E) is updated in place. */
int kvt_forward_layer(struct kvt_forward *f, int layer, const struct kvt_rows *rows, float *x,
                      const struct kvt_look *look, struct kvt_err *err);
/* logits (n, V) of rows x (n, E): final norm and head. x is left as it is. n <= run. */
int kvt_forward_head(struct kvt_forward *f, const float *x, int n, bool exact, float *logits, struct kvt_err *err);

#endif
