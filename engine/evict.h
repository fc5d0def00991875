/* The only eviction: protect, score, select, break ties, compact, report.
 *
 * One evictor for each branch. The session calls `needs` before the prefill, `prefill` once after it, `step` after
 * the attention of each layer of each later step where `steps` is true. The evictor calls the probe. */
#ifndef KVT_ENGINE_EVICT_H
#define KVT_ENGINE_EVICT_H

#include "kernels/ops.h"
#include "kvt/method.h"
#include "kvt/probe.h"

struct kvt_evictor;

/* How a layer's queries are rotated and their products scaled, the factor of cos and sin included. */
struct kvt_turn {
    struct kvt_rope rope;
    float scale;
};

/* What all evictors of a session share; outlives them. */
struct kvt_evict_env {
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    struct kvt_cache *cache;
    int L, H, G, D;            /* L: layers that may be evicted from */
    int max_slots;             /* of a cell */
    /* Where some layers are left alone (their window is their own eviction): the model's number of each of the L, ascending,
     * and how many it has; NULL: all. Events speak of the model's layers, everything else in here of the L. */
    const int32_t *layer;      /* (L) host */
    int n_layers;
    const struct kvt_probe *probe; /* or NULL */
    int n_prompt;              /* tokens prefilled, question included */
    int n_context;             /* slots that may be evicted from: [0, n_context); the rest is re-fed */
    /* shots as token ranges inside the context, ascending, not overlapping: [shot[2i], shot[2i+1]); host */
    const int32_t *shot;
    int n_shots;
    /* kinds of text inside the context: kind (enum kvt_span_kind), first token, end; host, (n_spans, 3) */
    const int32_t *span;
    int n_spans;
    const struct kvt_turn *turn; /* (the model's layers) for KVT_SCORE_EXPECTED, with factors of policy.ahead positions behind the prompt */
    /* KVT_SCORE_ORACLE in a step: what positions are worth from the next step on, host (G, max_slots) */
    const float *(*future)(void *self, int branch, int layer);
    void *future_self;
    bool in_step;              /* what leaves is told when the step is over: kvt_evict_later, then kvt_evict_settled */
    struct kvt_times *times;   /* of scoring, selecting, compacting; or NULL */
};

/* The model's layer of the l-th that may be evicted from. */
static inline int kvt_evict_layer(const struct kvt_evict_env *env, int l) { return env->layer ? env->layer[l] : l; }

/* Raw reductions of the prefill, kept for all branches: backend memory, [layer] outermost. NULL = nobody asked.
 * Per query head (L, H, ld) or per kv head (L, G, ld); higher is worth more, `max` and the norms as they are. */
struct kvt_prefill_scores {
    int ld;                    /* >= n_prompt */
    const float *mass;         /* (L, H, ld) */
    int n_windows;
    int window[KVT_MAX_WINDOWS];
    const float *wmass[KVT_MAX_WINDOWS]; /* (L, H, ld) */
    const float *last;         /* (L, H, ld) */
    int n_squares;
    struct kvt_square square[KVT_MAX_WINDOWS];
    const float *sqmass[KVT_MAX_WINDOWS]; /* (L, H, ld) */
    const float *max;          /* (L, H, ld) largest attention of any row */
    const float *later;        /* (L, H, ld) mass of the rows after the end of the slot's shot */
    const float *query_mean;   /* (L, H, D) of unrotated queries, the first rows left out */
    const float *query_scatter;/* (L, H, D, D) of query_rows of them */
    int query_rows;
    const float *out_norms;    /* (L, G, ld) what a slot adds to its layer's output: kvt_evict_out_norms, once for all branches that ask */
    const float *given;        /* (L, G, ld) KVT_SCORE_KVZIP, FILE, ORACLE: this branch's own, set by who made it */
};

/* What a spec needs to see in the prefill. Windows are added once. */
struct kvt_needs {
    bool mass, last;
    int n_windows;
    int window[KVT_MAX_WINDOWS];
    int n_squares;
    struct kvt_square square[KVT_MAX_WINDOWS];
    bool max, later, given, out_norms;
    int ahead;                 /* statistics of queries, and rope factors of so many positions behind the prompt; 0: neither */
};
/* Whether these are the sums that the policy ranks by: SQMASS, SQWMASS, FINCH. */
static inline bool kvt_evict_same_square(const struct kvt_square *s, const struct kvt_policy *p)
{
    return s->window == (p->score == KVT_SCORE_SQMASS ? 0 : p->window) && s->distance == p->distance && s->by_pos == (p->score == KVT_SCORE_FINCH);
}
/* Whether it ranks by the mass of a window of its own. */
bool kvt_spec_looks(const struct kvt_spec *spec);
void kvt_spec_needs(const struct kvt_spec *spec, struct kvt_needs *needs);

/* ||W_O v||_1 of the context's slots that a cell of the cache holds, of one of the model's layers: out (G, ld). wo: (E, H D). */
int kvt_evict_out_norms(const struct kvt_evict_env *env, int model_layer, struct kvt_mat wo, int cell, float *out, int ld);

/* EINPUT where the spec can't work on this prompt (shotkv without shots, a window longer than the prompt, a budget
 * below what is protected), with what to change; before anything runs. */
int kvt_evict_check(const struct kvt_spec *spec, const struct kvt_budget *budget, int n_prompt, int n_context,
                    int n_shots, struct kvt_err *err);

/* Bytes that an evictor holds as long as it lives, and those of its prefill's end, which are given back. Of env nothing but counts
 * is looked at; units that follow the text count as one. */
void kvt_evictor_bytes(const struct kvt_evict_env *env, const struct kvt_spec *spec, const struct kvt_budget *budget, size_t *held, size_t *work);
int kvt_evictor_open(struct kvt_evictor **out, const struct kvt_evict_env *env, int branch, const struct kvt_spec *spec,
                     const struct kvt_budget *budget, struct kvt_err *err);
void kvt_evictor_close(struct kvt_evictor **e);
/* A copy for another branch (whose cells were forked from this one's), state included. Its evictions go unreported. */
int kvt_evictor_fork(struct kvt_evictor **out, const struct kvt_evictor *e, int branch, struct kvt_err *err);

/* Prefill's end, all layers: reports DECISION for each layer and BUDGET. The branch holds slots 0 .. n_context - 1 of
 * the shared prefill in every cell when called (the question was dropped by the session). */
int kvt_evict_prefill(struct kvt_evictor *e, const struct kvt_prefill_scores *raw, struct kvt_err *err);

/* A prefill in chunks, instead of kvt_evict_prefill, where the policy has prefill_chunk. For each chunk: what attention of a
 * layer must return for rows from row0 of the chunk that ends at `end` (NULL: nothing; *rc: a failure), after the layer's last
 * rows `seen`, after the last layer the eviction, reported as EVICT with step = -2 - chunk. Then the end: DECISION and BUDGET. */
const struct kvt_see *kvt_evict_chunk_look(struct kvt_evictor *e, int model_layer, int row0, int end, int *rc);
int kvt_evict_chunk_seen(struct kvt_evictor *e, int model_layer, int rows);
int kvt_evict_chunk(struct kvt_evictor *e, int chunk, int rows, int end, struct kvt_err *err);
int kvt_evict_chunk_end(struct kvt_evictor *e, struct kvt_err *err);

/* Slots that each cell holds after the last operation, (L, G); host, owned by the evictor. */
/* KVT_ALLOC_CLASS, before the prefill's end: gates of the model's kv heads, (layers, G). Without it all keep everything. */
int kvt_evictor_classes(struct kvt_evictor *e, const float *gate, struct kvt_err *err);
const int32_t *kvt_evictor_held(const struct kvt_evictor *e);
/* Where the budget is what another branch kept: that branch's (L, G), before kvt_evict_prefill. Each layer gets as many
 * slots in all; a method that acts in each step holds each layer to them. */
void kvt_evictor_match(struct kvt_evictor *e, const int32_t *held);

/* Whether `step` must be called, and whether it needs the attention row. */
bool kvt_evictor_steps(const struct kvt_evictor *e);
/* Whether it acts on the question's tokens too. Where it doesn't, they may come in one block and without calls: the
 * next call's pos tells how many came. */
bool kvt_evictor_slides(const struct kvt_evictor *e);
bool kvt_evictor_wants_row(const struct kvt_evictor *e);
/* After a layer's attention (the model's number; where it is left alone nothing happens) of the step that appended position pos: row (H, row_ld) is that query's probabilities
 * in slot order (backend memory, or NULL); row_ld is env->max_slots. Where it slides, each position is one call a
 * layer. step >= 1 counts generated tokens; 0 while the question is fed. */
int kvt_evict_step(struct kvt_evictor *e, int model_layer, const float *row, int row_ld, int pos, int step,
                   struct kvt_err *err);
/* A step's end, where env->in_step was: the positions that left begin to come; when they have, they are told. */
int kvt_evict_later(struct kvt_evictor *e, struct kvt_err *err);
int kvt_evict_settled(struct kvt_evictor *e, struct kvt_err *err);

#endif
