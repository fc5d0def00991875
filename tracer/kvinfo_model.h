/* kvinfo -m: what a model is. */
#ifndef KVT_TRACER_KVINFO_MODEL_H
#define KVT_TRACER_KVINFO_MODEL_H

#include "base/table.h"

/* path: a GGUF or a folder. length: tokens for which the cache is reckoned; 0 = the model's context. Weights aren't read. */
int kvinfo_model(const char *path, int length, enum kvt_format format, struct kvt_err *err);

#endif
