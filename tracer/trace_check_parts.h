/* Inside of the check: trace_check.c looks at each dataset by itself, trace_check_values.c at what must hold between them. */
#ifndef KVT_TRACER_TRACE_CHECK_PARTS_H
#define KVT_TRACER_TRACE_CHECK_PARTS_H

#include "tracer/trace_check.h"
#include "tracer/trace_data.h"

struct kvt_check {
    struct kvt_trace *t;
    kvt_problem_fn found;
    void *arg;
    int n;
    bool memory;             /* it ran out */
    bool good[KVT_N_DATASET]; /* type, shape and range are as they should be, in every branch that was looked at */
};

void kvt_check_found(struct kvt_check *c, const char *where, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* kvt_trace_boxes of doubles. False where it can't be read, which is a problem told. Nothing where the trace hasn't it. */
bool kvt_check_each(struct kvt_check *c, enum kvt_dataset id, int branch, kvt_box_fn each, void *arg);
void kvt_check_invariants(struct kvt_check *c);
/* Full maps, against themselves and what was reduced in the same pass. whole: the same trace, opened as readers do. */
void kvt_check_full(struct kvt_check *c, struct kvt_trace *whole);

#endif
