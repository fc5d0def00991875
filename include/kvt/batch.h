/* Batches: independent sequences, each with a prompt, a cache and an eviction of its own, prefilled one after another and decoded in lockstep, so
 * that weights are read once a step for all. What comes of a sequence doesn't depend on its neighbours, bit for bit: it is what a session of one
 * branch that is `alone` gives.
 *
 *     kvt_batch_open(&b, model, &opts, 1, 32, &err);           // the device and the weights, for one batch after another
 *     kvt_batch_begin(b, each, 32, 0, &err);                   // each: (32) options like opts, with tokens of their own
 *     kvt_batch_prefill(b, &err); kvt_batch_decode(b, &err);
 *     kvt_batch_result(b, &r, &err); kvt_batch_end(b); kvt_batch_close(&b); */
#ifndef KVT_BATCH_H
#define KVT_BATCH_H

#include "kvt/session.h"

struct kvt_batch;

/* Room for batches of up to `most` sequences like the n in o: a session's options with one branch (of a method; "full" is one) and decode FREE. All
 * have the same ops, threads, compute and kv_type. */
int kvt_batch_open(struct kvt_batch **out, const struct kvt_model *m, const struct kvt_session_opts *o, int n, int most, struct kvt_err *err);
void kvt_batch_close(struct kvt_batch **b);

/* Begins a batch of the sequences o (n), whose arrays are borrowed until kvt_batch_end; progress (which counts sequences in the
 * prefill) and interrupted are those that the batch was opened with. kv_bytes: K and V of all together may take no more, a page that doesn't fit is ENOMEM; 0: no limit. */
int kvt_batch_begin(struct kvt_batch *b, const struct kvt_session_opts *o, int n, uint64_t kv_bytes, struct kvt_err *err);
int kvt_batch_prefill(struct kvt_batch *b, struct kvt_err *err); /* each prompt, its eviction, its question again */
int kvt_batch_decode(struct kvt_batch *b, struct kvt_err *err);  /* n_new steps of all */
void kvt_batch_end(struct kvt_batch *b);                          /* accepts one that has failed, or never began */

struct kvt_batch_result {
    int64_t prefill_ns, evict_ns, question_ns, decode_ns; /* sums over the sequences; evict: scoring, choosing, compacting, KVzip's repetition */
    int64_t step_evict_ns;     /* of decode_ns: eviction in the steps, as the host sees it (a GPU works on meanwhile) */
    int steps, tokens;         /* decode steps; tokens decoded in them, of all sequences */
    uint64_t kv_first, kv_last; /* K and V bytes that all hold before the first and after the last token is fed */
    uint64_t kv_peak;          /* the most that they ever held, a prompt before its eviction included */
};
int kvt_batch_result(struct kvt_batch *b, struct kvt_batch_result *out, struct kvt_err *err);
/* Of sequence i, as kvt_session_result, kvt_session_branch_logits and kvt_session_positions say it. */
int kvt_batch_sequence(const struct kvt_batch *b, int i, struct kvt_branch_result *out);
int kvt_batch_logits(struct kvt_batch *b, int i, float *out, struct kvt_err *err);
int kvt_batch_positions(struct kvt_batch *b, int i, int layer, int g, int32_t *pos, int cap, struct kvt_err *err);
const char *kvt_batch_device(const struct kvt_batch *b);

/* What `memory` bytes leave for the K and V of n sequences like o, after the weights, what their steps and one prefill work in, and the pages' own
 * tables: kv_bytes of kvt_batch_begin. 0: nothing is left. */
struct kvt_batch_room { uint64_t weights, work, kv; };
int kvt_batch_room(const struct kvt_model *m, const struct kvt_session_opts *o, int n, uint64_t memory, struct kvt_batch_room *out, struct kvt_err *err);

#endif
