/* A result of kvbench --time as tables. Definitions: docs/measures.md, section 11. */
#ifndef KVT_COMPARE_TIME_VIEW_H
#define KVT_COMPARE_TIME_VIEW_H

#include "base/table.h"
#include "compare/result.h"

enum kvt_time_table { KVT_TIME_ROWS, KVT_TIME_PAIRS, KVT_TIME_LARGEST, KVT_TIME_TABLES };

bool kvt_time_is(const struct kvt_result *r);
/* What was run, and in which units; a line each. */
void kvt_time_head(const struct kvt_result *r, FILE *out);
/* May have no rows: nothing to compare with, or no memory was asked for. */
int kvt_time_table(const struct kvt_result *r, enum kvt_time_table what, struct kvt_table **out, struct kvt_err *err);

#endif
