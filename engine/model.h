/* What tests and fuzzers need beside kvt/model.h: a model that lies in memory. */
#ifndef KVT_ENGINE_MODEL_H
#define KVT_ENGINE_MODEL_H

#include "engine/map.h"
#include "kvt/model.h"

/* A GGUF file. base: 64-byte aligned, kept by the caller as long as the model. name: for messages. */
int kvt_model_from_memory(struct kvt_model **out, const char *name, const void *base, size_t bytes, struct kvt_err *err);
/* A Hugging Face folder, on disk or in memory: all but the tokenizer, which is NULL. */
int kvt_model_from_folder(struct kvt_model **out, const struct kvt_folder *f, struct kvt_err *err);

#endif
