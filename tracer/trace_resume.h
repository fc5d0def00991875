/* What there is of a run that didn't end, and the file that joins several prompts. */
#ifndef KVT_TRACER_TRACE_RESUME_H
#define KVT_TRACER_TRACE_RESUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"

/* What must be the same for a file to be this run's. */
struct kvt_trace_same {
    const char *command_line;  /* its first word, the program, may differ */
    const char *text;          /* the prompt */
    uint64_t model_bytes;
};

struct kvt_trace_rest {
    bool done;                 /* the file is complete: nothing is left to do */
    int steps, of;             /* else what was recorded of it */
    char commit[64];           /* of the program that made it; "" where there is no file */
};

/* Looks at path and path.part. A run's data is held where the run that goes on can't hurt it: a .part is repaired and gets the
 * name path, until the whole one takes it over. EINPUT where a file there is another command's, or is being written. */
int kvt_trace_resume(const char *path, const struct kvt_trace_same *same, struct kvt_trace_rest *out, struct kvt_err *err);

/* The master of n prompts: /prompt/<id> are links into files of the same folder. Replaces path in one step. */
int kvt_trace_master(const char *path, int n, const char *const *id, const char *const *file, struct kvt_err *err);

#endif
