/* The reader's inside, shared by its two files: trace_read.c opens and describes, trace_data.c fills arrays. */
#ifndef KVT_TRACER_TRACE_DATA_H
#define KVT_TRACER_TRACE_DATA_H

#include "kvt/trace.h"
#include "tracer/h5.h"

struct kvt_trace {
    struct kvt_h5_why why;
    hid_t file, prompt;
    char *path;
    size_t extent[KVT_N_DIM];      /* 0: the trace hasn't the dimension */
    struct kvt_trace_info info;
    struct kvt_trace_branch *branch;
    struct kvt_trace_span *span;
    int32_t *token_id, *token_start, *token_end;
    const char **token_text;
    int32_t *full_layer, *full_head;
    char **owned;                  /* strings and their blocks, freed at close */
    size_t n_owned, cap_owned;
    bool growing;                  /* .part: others may be writing it */
};

/* File, prompt and dimensions alone: what kvt_trace_open does first. */
int kvt_trace_open_bare(struct kvt_trace **out, const char *path, const char *prompt_id, struct kvt_err *err);
/* Whether a whole trace may lack it: it was asked for or not, has an empty dimension, or came with a newer minor version. */
bool kvt_trace_optional(const struct kvt_trace *t, const struct kvt_dataset_info *d);

/* The dataset, checked against the schema: class and size of its type, rank, extents, and that it holds enough bytes to
 * be what it says. Negative with EFORMAT in err, or with err untouched and *missing set where it doesn't exist and
 * missing isn't NULL. *str_len: of strings. */
hid_t kvt_trace_dataset(struct kvt_trace *t, enum kvt_dataset id, int branch, size_t *str_len, bool *missing, struct kvt_err *err);
/* Reads it or a box of it ([start, start + count), NULL: all) as the schema's type. */
int kvt_trace_get(struct kvt_trace *t, enum kvt_dataset id, int branch, const size_t *start, const size_t *count, void *out,
                  struct kvt_err *err);
/* All of it in order, in boxes whose last dimension is whole: as the schema's type, or as doubles. `each` returns false to stop. */
typedef bool (*kvt_box_fn)(void *arg, const size_t *start, const size_t *count, const void *values);
int kvt_trace_boxes(struct kvt_trace *t, enum kvt_dataset id, int branch, bool doubles, kvt_box_fn each, void *arg, struct kvt_err *err);
/* Ids of the file's prompts, "cat, 7", in the order of the list that they came from where the file knows it; the first one into
 * `first`. malloc'ed; NULL: none, or no memory. */
char *kvt_trace_prompts(struct kvt_trace *t, char *first, size_t cap);
bool kvt_trace_has_dataset(const struct kvt_trace *t, enum kvt_dataset id, int branch);

#endif
