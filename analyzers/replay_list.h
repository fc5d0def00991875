/* Lists with ranges: what to replay. */
#ifndef KVT_ANALYZERS_REPLAY_LIST_H
#define KVT_ANALYZERS_REPLAY_LIST_H

#include "kvt/kvt.h"

/* The items of a list, split at commas outside brackets, with every range a..b in them written out: "snapkv[w=16..64]" is
 * snapkv[w=16], snapkv[w=32], snapkv[w=64]. A range doubles and ends with b; a..b:s goes by steps of s; shares, as 5%..95%, by 5 points.
 * Several ranges of an item: all combinations, the last one fastest. *out (count) and its strings are malloc'ed: kvt_ranges_free. */
int kvt_ranges(const char *list, const char *what, char ***out, int *count, struct kvt_err *err);
void kvt_ranges_free(char ***list, int count);

#endif
