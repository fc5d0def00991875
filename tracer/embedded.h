/* The model that comes with the repository (models/README.md), for tools that were given none. */
#ifndef KVT_TRACER_EMBEDDED_H
#define KVT_TRACER_EMBEDDED_H

#include <stdbool.h>

#include "kvt/kvt.h"

enum { KVT_EMBEDDED_PATH = 4096 };

/* Whether a -m means it: none was given, or its name. */
bool kvt_embedded_asked(const char *model);
/* Its path. EINPUT where it is nowhere, or isn't the file that it should be by its SHA-256. */
int kvt_embedded_find(char path[KVT_EMBEDDED_PATH], struct kvt_err *err);

#endif
