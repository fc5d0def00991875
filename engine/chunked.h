/* Branches that prefill alone, in chunks, evicting after each (policy.prefill_chunk). */
#ifndef KVT_ENGINE_CHUNKED_H
#define KVT_ENGINE_CHUNKED_H

#include <stdbool.h>

#include "kvt/kvt.h"

struct kvt_session;

bool kvt_branch_chunked(const struct kvt_session *s, int b);
/* Hidden states of a chunk, and of each branch's last row. */
int kvt_chunked_open(struct kvt_session *s, struct kvt_err *err);
void kvt_chunked_close(struct kvt_session *s);
/* The context of branch b into its own, empty cells, chunk by chunk; reports EVICT (step -2 - chunk), DECISION and BUDGET. */
int kvt_chunked_prefill(struct kvt_session *s, int b, struct kvt_err *err);

#endif
