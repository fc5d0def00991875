/* Inside of kvbench --time. */
#ifndef KVT_COMPARE_BENCH_TIME_H
#define KVT_COMPARE_BENCH_TIME_H

#include "base/progress.h"
#include "compare/bench.h"
#include "kvt/batch.h"

struct kvt_timing {
    struct kvt_bench *b;
    struct kvt_branch_opts full;   /* the uncompressed cache, as a method like the others */
    struct kvt_session_opts *kind; /* (run.n_branches + 1) of each method; 0 is full */
    int n_kinds;
    int *batch, n_batches;         /* --batch */
    uint64_t memory, resident;     /* --memory; 0: not asked. Bytes of the process before any weight is read */
    struct kvt_batch *engine;
    struct kvt_progress progress;
};

/* bench_time.c: one batch of n sequences of a kind, each with a made-up prompt of its own. kv_bytes: 0 no limit. */
int kvt_timing_run(struct kvt_timing *t, int kind, int n, uint64_t kv_bytes, struct kvt_batch_result *out, struct kvt_err *err);
/* bench_time_largest.c: for each kind that hasn't been tried with this memory, the largest batch: a line of the result. */
int kvt_timing_largest(struct kvt_timing *t, struct kvt_err *err);
/* K and V of n sequences at most, from those of one: the last prompt beside what the others kept, or all of them in their steps. */
uint64_t kvt_timing_kv(const struct kvt_batch_result *one, uint64_t n);

#endif
