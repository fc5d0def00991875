/* Scores from outside, for the method `file`. */
#ifndef KVT_TRACER_SCORE_FILE_H
#define KVT_TRACER_SCORE_FILE_H

#include "kvt/kvt.h"

/* Dataset `scores` (L, G, T) of the HDF5 file at path into *out, malloc'ed, as f32; T is what the file says. EFORMAT with what is
 * wrong: no HDF5, no such dataset, another shape, something that is no number. */
int kvt_score_file_read(float **out, int *T, const char *path, int L, int G, int n_prompt, struct kvt_err *err);

#endif
