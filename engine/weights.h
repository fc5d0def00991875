/* Tensors by name become the weights of a model; wrong shapes and tensors nobody would use are refused. */
#ifndef KVT_ENGINE_WEIGHTS_H
#define KVT_ENGINE_WEIGHTS_H

#include "engine/tensors.h"
#include "kvt/model.h"

/* Vectors (norms, biases) that had to be converted to f32. */
struct kvt_owned {
    float **vec;
    int n, cap;
};

/* Fills w and the fields of s that only tensors tell (V, tied, qkv_bias). Release with kvt_weights_free, also after an
 * error. */
int kvt_weights_bind(struct kvt_weights *w, struct kvt_owned *owned, const struct kvt_tensors *ts, struct kvt_shape *s,
                     struct kvt_err *err);
void kvt_weights_free(struct kvt_weights *w, struct kvt_owned *owned);

#endif
