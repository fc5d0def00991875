/* kvinfo --time: where the time went. */
#ifndef KVT_TRACER_KVINFO_TIME_H
#define KVT_TRACER_KVINFO_TIME_H

#include "base/table.h"

/* By phase and operation: of the device where the trace has its records, else of the host's parts. */
int kvinfo_time(const char *path, const char *prompt_id, enum kvt_format format, struct kvt_err *err);

#endif
