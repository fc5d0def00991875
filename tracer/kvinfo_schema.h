/* The format of traces as a page (docs/trace-format.md), from the schema. */
#ifndef KVT_TRACER_KVINFO_SCHEMA_H
#define KVT_TRACER_KVINFO_SCHEMA_H

#include <stdio.h>

void kvt_schema_print(FILE *out);

#endif
