/* The objects of a trace: making all of them from the schema, and opening them for appending. */
#ifndef KVT_TRACER_TRACE_OBJECTS_H
#define KVT_TRACER_TRACE_OBJECTS_H

#include "tracer/h5.h"
#include "tracer/trace_write.h"

#define KVT_TRACE_PHASES 64 /* rows of the phase table; later ones aren't recorded */

enum { KVT_TRACE_NAMES = 512 }; /* of operations and kernels */

/* Extents and lengths of strings: everything that the shape of a trace depends on. */
struct kvt_trace_shape {
    size_t extent[KVT_N_DIM];
    size_t text_len, token_len, output_len; /* bytes of strings */
    bool made[KVT_N_WHEN]; /* by enum kvt_when */
};
void kvt_trace_shape_of(const struct kvt_trace_plan *plan, struct kvt_trace_shape *out);
/* Tokens of the shared prefill, which is what maps cover. */
size_t kvt_trace_map_tok(const struct kvt_trace_plan *plan);
/* Whether the trace has the dataset; shape (rank) and the length of its strings. */
bool kvt_trace_has(const struct kvt_trace_shape *s, const struct kvt_dataset_info *d, size_t *shape, size_t *str_len);

/* Makes the file at path with every object and all that is known before the run, and closes it. name: what errors call it. */
int kvt_trace_make(const char *path, const char *name, const struct kvt_trace_plan *plan, const struct kvt_trace_shape *s, struct kvt_err *err);

/* Attributes of a file's root; now: when, ISO 8601. */
bool kvt_trace_file_attrs(hid_t root, const char *now);

/* The file open for appending while others read (SWMR). ds[branch * KVT_N_DATASET + id], branch 0 for what isn't per
 * branch; negative where the trace hasn't it. */
struct kvt_trace_file {
    hid_t file;
    hid_t *ds;
    hid_t type[KVT_N_DATASET]; /* in memory */
    int n_branches;
};
int kvt_trace_append(struct kvt_trace_file *f, const char *path, const char *prompt_id, const struct kvt_trace_shape *s,
                     struct kvt_err *err);
/* Closes everything; false where the library couldn't write the rest. */
bool kvt_trace_append_close(struct kvt_trace_file *f);

#endif
