/* safetensors files: one, or shards with their index. A read-only map of which the header was checked before anybody sees a
 * tensor; the data stays where it lies. */
#ifndef KVT_ENGINE_SAFETENSORS_H
#define KVT_ENGINE_SAFETENSORS_H

#include "engine/tensors.h"

/* A folder's model.safetensors, or the shards that model.safetensors.index.json names. Release with
 * kvt_safetensors_close, also after an error. Maps: the one file, or the shards in the order of their names. */
struct kvt_safetensors {
    struct kvt_tensors tensors;
    char **name;                /* (n_names) of the tensors, owned: the headers are gone after the opening */
    int n_names;
};
int kvt_safetensors_open(struct kvt_safetensors *s, const struct kvt_folder *f, struct kvt_err *err);
void kvt_safetensors_close(struct kvt_safetensors *s);

#endif
