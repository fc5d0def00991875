/* Inside of a session: shared by session.c (prefill), lockstep.c (decode) and result.c. */
#ifndef KVT_ENGINE_RUN_H
#define KVT_ENGINE_RUN_H

#include "engine/branch.h"
#include "engine/chunked.h"
#include "engine/decode_rows.h"
#include "engine/fidelity.h"
#include "engine/forward.h"
#include "engine/kvzip.h"
#include "engine/observe.h"
#include "engine/oracle.h"
#include "engine/rows.h"
#include "engine/times.h"
#include "kvt/session.h"

/* What the sequences of a batch have in common (engine/batch.c): the device, the weights and the cache; and where this one's branch is in it. */
struct kvt_shared {
    struct kvt_dev *dev;
    struct kvt_cache *cache;
    struct kvt_forward *forward;
    int cell;                      /* of the branch; the prefill is in cell 0, which is empty between two sequences */
    int spare;                     /* first of two cells that a repetition may use */
    int max_slots;                 /* of a cell, in every sequence */
    struct kvt_times *times;
};

struct kvt_session {
    int32_t *kept;                 /* (n, L, G) slots held after prefill-end eviction, for those who are to keep as many */
    struct kvt_branch_opts *branch_opts; /* (n - 1) copy */
    struct kvt_session_opts o;     /* arrays copied; probe and callbacks borrowed */
    const struct kvt_model *model;
    const struct kvt_shape *shape;
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    struct kvt_cache *cache;
    struct kvt_forward *forward;   /* own_forward, or the batch's */
    struct kvt_forward own_forward;
    const struct kvt_shared *shared; /* NULL: device, weights and cache are the session's own */
    int cell0;                     /* branch b >= 1 is cell cell0 + b */
    bool no_full;                  /* no uncompressed branch decodes: o.no_full, o.alone */
    struct kvt_observer observer;
    struct kvt_evict_env env;
    struct kvt_probe evict_probe;  /* passes events on, and notes budgets */
    struct kvt_branch *branch;     /* (n) */
    int n;                         /* branches, the full one included */
    int n_early;                   /* those before the oracles, which need what the others' pass has seen */
    int lo, hi;                    /* branches of the running pass: 0 and [lo, hi) */
    int row0;                      /* its first row of logits */
    int snapshot;                  /* cell that holds the context as prefilled; -1: nobody needs it */
    struct kvt_oracle oracle;
    struct kvt_rows_seen rows;
    struct kvt_decode_rows decode_rows;
    struct kvt_kvzip kvzip;
    float *given, *given_host;     /* (L, G, n_prefill) backend, host: the branch's own worth of slots, where it isn't a reduction */
    uint64_t bytes_prefill;        /* KV of the shared prefill, question included */
    int n_context, n_prefill;      /* evictable tokens; tokens of the shared prefill */
    int max_rows;                  /* streams that may run at once */
    int max_slots;
    int32_t *token;                /* (n_prompt) copy */
    int32_t *layer;                /* (L) those that methods act on */
    int32_t *shot;                 /* (n_shots, 2) copy, those inside the context */
    int32_t *span;                 /* (n_spans, 3) copy, cut off where the context ends */
    struct kvt_turn *turn;         /* (L) how the layers' queries are rotated, for attention that is expected */
    float *out_norms;              /* (L, G, n_prefill) backend: what slots add to their layer's output; NULL where nobody asks */
    float *x_prefill;              /* (n_prefill, E) last hidden states of the prefill */
    float *x_chunk, *x_last;       /* (rows of a chunk, E); (n, E) the last row of who prefilled in chunks; NULL where nobody does */
    float *x;                      /* (rows of a call, E) */
    float *logits;                 /* (max_rows, V) */
    float *row;                    /* (blocks, H, max_slots) decode rows of those who ask */
    int n_blocks;
    bool full_row;                 /* the full branch's row of each step is wanted: block n_blocks of `row` */
    bool full_fed;                 /* the running call begins with it */
    int early_rows;                /* rows of logits of the first pass */
    int n_sink;                    /* positions below it are sinks */
    struct kvt_fidelity fidelity;
    int steps;                     /* lockstep steps done */
    uint64_t logits_hash;
    int64_t phase_ns[KVT_N_PHASE];
    struct kvt_times times;
    /* arrays of one call, host */
    int32_t *r_token, *r_branch, *r_pos, *r_at;
    uint8_t *r_renumber;
    int rows_cap;
    int step;                      /* of the running lockstep step, 0 while the question is fed */
    struct kvt_stream_state **r_stream; /* who owns row t and must evict after each layer, or NULL */
    struct kvt_see decode_see;
    /* arrays of one step, host, (max_rows) or (n) */
    int32_t *argmax, *base, *target;
    float *logprob, *top_logprob, *kl, *entropy;
    int32_t *ev_token, *ev_argmax;
    float *ev_logprob, *ev_kl, *ev_entropy;
    uint64_t *ev_alone, *ev_own;
};

/* The branch after b in the running pass; the last is s->hi - 1. */
static inline int kvt_next_branch(const struct kvt_session *s, int b) { return b ? b + 1 : s->lo; }
/* The first that is fed: 0, or where there is no full branch the first of the others. */
static inline int kvt_first_branch(const struct kvt_session *s) { return s->no_full ? s->lo : 0; }
static inline int kvt_branch_cell(const struct kvt_session *s, int b) { return b ? s->cell0 + b : 0; }

/* What follows from the options alone. Whether they can be run at all. */
int kvt_opts_check(const struct kvt_session_opts *o, const struct kvt_shape *shape, struct kvt_err *err);
/* Tokens that methods may evict, by protocol (measures.md 1); tokens of the shared prefill. */
int kvt_opts_context(const struct kvt_session_opts *o);
int kvt_opts_prefill(const struct kvt_session_opts *o);
/* Streams that may run at once beside the full branch's, of so many branches; rows of a call; of a run of the forward pass. */
int kvt_opts_streams(const struct kvt_session_opts *o, int branches);
int kvt_opts_rows(const struct kvt_session_opts *o);
int kvt_opts_run(const struct kvt_session_opts *o);
void kvt_opts_needs(const struct kvt_session_opts *o, const struct kvt_wants *w, struct kvt_needs *needs);
/* K and V of one slot of one kv head. */
int64_t kvt_opts_slot_bytes(const struct kvt_shape *s, const struct kvt_session_opts *o);

/* A session among others of a batch; shared outlives it. NULL: kvt_session_open. */
int kvt_session_open_in(struct kvt_session **out, const struct kvt_model *m, const struct kvt_session_opts *o, const struct kvt_shared *shared, struct kvt_err *err);
/* Prefill and eviction, all of kvt_session_prefill but the question and the first logits; then those. */
int kvt_session_context(struct kvt_session *s, struct kvt_err *err);
int kvt_session_question(struct kvt_session *s, struct kvt_err *err);
/* Lets go of what only the prefill needs. */
void kvt_session_shed(struct kvt_session *s);
/* What runs now, and for which branches (0: for all). */
static inline void kvt_session_at(struct kvt_session *s, enum kvt_phase phase, uint64_t branches)
{
    s->times.where.phase = (int32_t)phase;
    s->times.where.branches = branches;
}
/* The branch of a stream's cell: free-running streams have cells of their own, behind those of the branches. */
static inline int kvt_cell_branch(const struct kvt_session *s, int cell) { return cell >= s->n ? cell - s->n + 1 : cell; }
/* Tells the records of times since the last call. */
int kvt_session_times(struct kvt_session *s, struct kvt_err *err);
void kvt_session_progress(struct kvt_session *s, enum kvt_phase phase, int done, int of);
/* Adds to the phase's time and reports it. */
int kvt_session_phase(struct kvt_session *s, enum kvt_phase phase, int64_t start_ns, int n_tok, struct kvt_err *err);
int kvt_session_see(struct kvt_session *s, const struct kvt_event *ev, struct kvt_err *err);
/* Feeds the rows r_token[0..T) ... (exact), evicting after each layer where a row's stream steps; the hidden states
 * are in s->x. Row t belongs to r_stream[t] where that stream evicts step by step (then it is its only row). */
int kvt_lockstep_feed(struct kvt_session *s, int T, struct kvt_err *err);
/* Eviction at prefill's end of the pass's branches, on copies of `cell`. */
int kvt_session_fork(struct kvt_session *s, int cell, struct kvt_err *err);
/* The question, or where it belongs to the context the prefill's last row: what the first token is chosen from. */
int kvt_session_first_logits(struct kvt_session *s, struct kvt_err *err);
/* The question (tokens n_context .. n_prompt) over every branch's cache; leaves each stream's logits. */
int kvt_lockstep_question(struct kvt_session *s, struct kvt_err *err);
/* K and V bytes of a branch's cells. */
int kvt_session_branch_bytes(struct kvt_session *s, int cell, struct kvt_cache_bytes *out, struct kvt_err *err);

#endif
