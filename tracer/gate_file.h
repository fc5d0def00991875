/* Gates of heads for alloc=class. */
#ifndef KVT_TRACER_GATE_FILE_H
#define KVT_TRACER_GATE_FILE_H

#include "kvt/kvt.h"

/* Text of L lines with G numbers each, separated by tabs, spaces or commas: DuoAttention's full_attention_heads.tsv. *out (L, G) is
 * malloc'ed. EINPUT where it can't be read, EFORMAT with the line where it is something else. */
int kvt_gate_file_read(float **out, const char *path, int L, int G, struct kvt_err *err);

#endif
