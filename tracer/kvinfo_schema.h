/* The format of traces as a page (docs/trace-format.md), from the schema. */
#ifndef KVT_TRACER_KVINFO_SCHEMA_H
#define KVT_TRACER_KVINFO_SCHEMA_H

#include <stdio.h>

void kvt_schema_print(FILE *out);

/* The same for programs: lines of d (dimension: name, unit, meaning), v (dataset: path, type, bytes of a text, dimensions, unit,
 * fill, store, when, meaning) and a (attribute: of, name, type), fields apart by tabs. */
void kvt_schema_table(FILE *out);

#endif
