/* What a model file says about its shape, read before any weight is. */
#ifndef KVT_ENGINE_SHAPE_H
#define KVT_ENGINE_SHAPE_H

#include <cjson/cJSON.h>

#include "engine/families.h"
#include "engine/gguf.h"

/* Everything but what only tensors tell (V, tied, biases that a GGUF has without saying so). */
int kvt_shape_from_gguf(struct kvt_shape *s, const struct kvt_gguf *g, struct kvt_err *err);
/* config: the object of config.json; path: the folder, for messages and, where the file has no name, as the name. V is
 * vocab_size here, which the embedding's rows must equal. */
int kvt_shape_from_config(struct kvt_shape *s, const cJSON *config, const char *path, struct kvt_err *err);

/* Both end here: dimensions that don't go together and numbers out of range are refused; what the file left open gets its
 * default. */
int kvt_shape_check(struct kvt_shape *s, const struct kvt_family *f, const char *path, struct kvt_err *err);

#endif
