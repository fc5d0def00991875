/* kvinfo --check. */
#ifndef KVT_TRACER_KVINFO_CHECK_H
#define KVT_TRACER_KVINFO_CHECK_H

#include "base/table.h"
#include "kvt/kvt.h"

/* Prints what is wrong with a trace, one row each; EFORMAT where something is. */
int kvinfo_check(const char *path, const char *prompt_id, enum kvt_format format, struct kvt_err *err);

#endif
