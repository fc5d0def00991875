/* Many ranks, one list of work: `mpirun kvtrace -f prompts.jsonl`, `mpirun kvbench TASK`. Whoever is free takes the next item; rank 0 deals, and works as
 * well. Without MPI in the build (KVT_MPI) or outside mpirun there is one rank, and nothing here costs anything. */
#ifndef KVT_TRACER_KVTRACE_DEAL_H
#define KVT_TRACER_KVTRACE_DEAL_H

#include <stdbool.h>
#include <stddef.h>

#include "kvt/kvt.h"

struct kvt_deal;

/* Joins the job; before anything else happens in the process. On a machine with several GPUs a rank takes the one of its local number, unless
 * CUDA_VISIBLE_DEVICES says otherwise. EUNSUP: started by mpirun, but built without MPI (each rank would do everything). */
int kvt_deal_open(struct kvt_deal **out, struct kvt_err *err);
int kvt_deal_rank(const struct kvt_deal *d);
int kvt_deal_size(const struct kvt_deal *d);

/* Every rank calls it. Rank 0 says what is dealt, item (n) in this order, and what it does with the text that a rank sends of an item: take is called for
 * one at a time, in whatever order they come; nonzero ends the job. The others say 0 and NULL. item and arg are borrowed until the end. */
int kvt_deal_start(struct kvt_deal *d, const int *item, int n, int (*take)(void *arg, const char *text, struct kvt_err *err), void *arg, struct kvt_err *err);
/* The next item of this rank; -1: none is left. */
int kvt_deal_next(struct kvt_deal *d);
/* Sends text (may be empty) to rank 0's take; on rank 0 calls it. */
int kvt_deal_send(struct kvt_deal *d, const char *text, struct kvt_err *err);
/* Waits until every rank has ended its items. */
int kvt_deal_finish(struct kvt_deal *d, struct kvt_err *err);
/* Leaves. status nonzero: the whole job ends at once, with that exit code. */
void kvt_deal_close(struct kvt_deal **d, int exit_code);

#endif
