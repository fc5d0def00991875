/* kvinfo --export and --snippet. */
#ifndef KVT_TRACER_KVINFO_EXPORT_H
#define KVT_TRACER_KVINFO_EXPORT_H

#include <stdbool.h>

#include "kvt/kvt.h"

extern const char *const kvinfo_export_kinds[]; /* of enum kvt_export_as */

struct kvinfo_export { const char *name, *out; int as; bool as_given; };
int kvinfo_export(const char *path, const char *prompt_id, const struct kvinfo_export *o, struct kvt_err *err);
/* Five lines of Python that open the trace and read what one branch kept. */
int kvinfo_snippet(const char *path, const char *prompt_id, struct kvt_err *err);

#endif
