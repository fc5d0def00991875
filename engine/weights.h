/* Tensors by name become the weights of a model, for both formats and all families; wrong shapes and tensors that nobody
 * would use are refused. */
#ifndef KVT_ENGINE_WEIGHTS_H
#define KVT_ENGINE_WEIGHTS_H

#include "engine/tensors.h"
#include "kvt/model.h"

enum kvt_naming { KVT_NAMES_GGUF, KVT_NAMES_HF }; /* blk.0.attn_q.weight, model.layers.0.self_attn.q_proj.weight */

/* Vectors (norms, biases) that had to be converted: to f32, to an aligned place, or to 1 + w. */
struct kvt_owned {
    float **vec;
    int n, cap;
};

/* Fills w and, for GGUF, the fields of s that only tensors tell (V, tied, qkv_bias, o_bias, mlp_bias). Release with
 * kvt_weights_free, also after an error. */
int kvt_weights_bind(struct kvt_weights *w, struct kvt_owned *owned, const struct kvt_tensors *ts, enum kvt_naming naming,
                     struct kvt_shape *s, struct kvt_err *err);
void kvt_weights_free(struct kvt_weights *w, struct kvt_owned *owned);

#endif
