/* Low-cost timers that always run: each part of a pass is one read of the clock and one record, in memory that a session makes when
 * it opens. Who watches a session gets the records after each unit of work (KVT_EV_TIMES). */
#ifndef KVT_ENGINE_TIMES_H
#define KVT_ENGINE_TIMES_H

#include "kernels/profile.h"
#include "kvt/probe.h"

struct kvt_times {
    struct kvt_time *at; /* (cap) */
    int n, cap;
    struct kvt_where where; /* the session runs now */
    int64_t lost;        /* records that found no room */
};

int64_t kvt_now_ns(void); /* CLOCK_MONOTONIC */
/* Records [start_ns, now); returns now, where the next part begins. layer, branch: -1 none. t may be NULL. */
int64_t kvt_times_note(struct kvt_times *t, enum kvt_part part, int layer, int branch, int64_t start_ns);

#endif
