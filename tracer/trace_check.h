/* kvinfo --check: a trace against the schema, everything that is wrong with it. */
#ifndef KVT_TRACER_TRACE_CHECK_H
#define KVT_TRACER_TRACE_CHECK_H

#include "kvt/trace.h"

/* Hears of each problem: a path below /prompt/<id> (or "file"), and what is wrong there. */
typedef void (*kvt_problem_fn)(void *arg, const char *where, const char *what);

/* Types, shapes, ranges and what must hold between values. *n: problems told. An error only where the file can't be looked at. */
int kvt_trace_check(const char *path, const char *prompt_id, kvt_problem_fn found, void *arg, int *n, struct kvt_err *err);
/* Units, meanings and the dimension scales of axes. Apart, since these lie in a heap without checksums: a damaged byte there can
 * keep HDF5 1.10 busy for ever, so the caller should be able to stop it. */
int kvt_trace_check_labels(const char *path, const char *prompt_id, kvt_problem_fn found, void *arg, int *n, struct kvt_err *err);

#endif
