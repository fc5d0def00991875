/* Inside of the evictor: what evict.c, evict_score.c, evict_select.c and evict_step.c share. */
#ifndef KVT_ENGINE_EVICT_STATE_H
#define KVT_ENGINE_EVICT_STATE_H

#include "engine/evict.h"

/* One block of memory cut into arrays. The first pass (base NULL) counts, the second hands out. */
struct kvt_carve {
    char *base;
    size_t used;
};
void *kvt_carve(struct kvt_carve *c, size_t count, size_t size);

/* Work memory of an eviction over all layers in a step, (L, G) outermost. */
struct kvt_evict_round {
    float *score, *pooled;     /* (L, G, ld); pooled is NULL where nothing is pooled */
    float *sum;                /* (ld) heads' scores added up, where they share one set; else NULL */
    int32_t *pos, *kept;       /* (L, G, ld) */
    uint8_t *protect;          /* (L, G, ld) */
    int32_t *n, *n_kept, *budget, *total; /* (L, G) */
    int32_t *h_n_kept, *h_budget; /* host, (L, G) */
    int32_t *h_kept;           /* host, (ld) */
    float *h_state;            /* host, (ld) */
};

struct kvt_evictor {
    const struct kvt_evict_env *env;
    int branch;
    struct kvt_spec spec;
    struct kvt_budget budget;
    bool quiet;                /* a fork: its evictions aren't reported */
    bool decisions;            /* the probe wants them */
    bool keep_all;             /* the whole context stays and no step takes part: no operation is run */
    bool sliding;              /* each step, the budget of the tokens seen so far holds */
    bool decode_share;         /* each step, generated tokens are held to a share of their own */
    int64_t decode_ppm;        /* that share, in millionths */
    int64_t *match;            /* (L) slots that each layer gets, where the budget is another branch's; else NULL */
    uint8_t *whole;            /* (L, G) KVT_ALLOC_CLASS: 1 where everything stays; else NULL */
    int tied, tied_whole;      /* heads with the gate of the cut, and those of them that keep everything */
    int64_t host_ns;           /* what a score on the host took, its copies included */
    int32_t *held;             /* (L, G) live slots after the last operation */
    int32_t *last_pos;         /* (L) newest position appended */

    /* Buffers of a step, where there are steps; ld = env->max_slots. Backend memory, cut from `block`. */
    void *block;
    int ld;
    float *state;              /* (L, G, ld) accumulated mass by slot; NULL where the method has none */
    int32_t *turn;             /* (L, G) TreeKV: where the next contest is; NULL where the worst leaves */
    struct kvt_evict_round round; /* schedule=every, chunks of a prefill */
    /* a prefill in chunks (evict_chunk.c) */
    bool chunked;              /* it evicts after each chunk */
    bool in_chunk;             /* the running eviction is a chunk's */
    struct kvt_see chunk_see;
    float *column, *column_grp; /* (H, ld), (G, ld) what a chunk's rows give the slots of a layer; NULL where no row counts */
    float *rank;               /* (G, ld) */
    int32_t *pos;              /* (G, ld) */
    int32_t *left;             /* (G, ld) */
    int32_t *n_live, *n_left, *budget_tok; /* (G) */
    int32_t *gone;             /* (L, G) evict_one: the position that left in this step; -1: none */
    uint8_t *protect;          /* (G, ld) */
    /* the same on the host */
    void *host_block;
    float *host_rank;          /* (ld) */
    int32_t *host_pos;         /* (G, ld) */
    int32_t *host_left;        /* (G, ld) */
    int32_t *host_lost;        /* (ld) */
    int32_t *host_n;           /* (G) */
    int32_t *host_few;         /* (2, G) evict_one: budgets, newest tokens that stay */
    uint8_t *host_protect;     /* (ld) */
    uint8_t *pending;          /* (L) layers whose `gone` isn't told yet, of pending_step */
    bool any_pending;
    int pending_step;
    int32_t *host_gone;        /* (L, G) of kvt_later_alloc */
};

/* Work memory of one kvt_evict_prefill call. R rows of a layer compete: G, or 1 where heads share a set. */
struct kvt_evict_work {
    int n;                     /* slots of the context */
    int ld, R;
    int S;                     /* units, 0 where tokens are chosen */
    int fence;                 /* slots below it are ranked with their neighbours: pooling and chunks end here */
    int n_protect;             /* protected slots of a cell of the layer that is being selected */
    /* backend */
    void *block;
    float *head[2];            /* (H, ld) */
    float *grp[2];             /* (G, ld) */
    float *sum;                /* (1, ld) over heads */
    float *score;              /* (L, R, ld) token scores, as ranked */
    float *second;             /* (L, R, ld) CriticalKV's second stage; in a contest, who stays: (L, R, S) of units; or NULL */
    int32_t *turn;             /* (R) contest, of one layer */
    uint8_t *safe;             /* (R, S) contest: units that are wholly protected */
    float *unit;               /* (L, R, S) */
    float *threshold;          /* (L, R) */
    int32_t *kept;             /* (L, R, ld) */
    int32_t *n_kept, *budget, *n_live; /* (L, R) */
    int32_t *first_budget;     /* (L, R) of the first stage */
    int32_t *total;            /* (L) what the rows of a layer share; total[0] what all do */
    int32_t *slot, *n_slot;    /* (G, ld), (G) of one layer, where heads share a set */
    int32_t *seg;              /* (S + 1) */
    uint8_t *candidate;        /* (S) */
    uint8_t *protect, *reason; /* (L, R, ld) */
    uint8_t *first_reason;     /* (L, R, ld) */
    /* host */
    void *host_block;
    float *h_score;            /* (G, n) */
    float *h_unit;             /* (R, S) */
    float *h_threshold;        /* (L, R) */
    int32_t *h_kept;           /* (ld) */
    int32_t *h_n_kept;         /* (L, R) */
    int32_t *h_budget;         /* (L, R) */
    int32_t *h_seg;            /* (S + 1) */
    uint8_t *h_candidate, *h_safe; /* (S) */
    uint8_t *h_protect;        /* (R, ld) of one layer */
    uint8_t *h_reason;         /* (G, n) */
    int32_t *layer_tok;        /* (L) asked of each cell */
    int32_t *layer_slots;      /* (L) asked of a layer's cells together */
    int32_t *budget_tok, *kept_tok; /* (L, G) for the report */
    int32_t *shown_tok;        /* (2, n_layers, G) both for all of the model's layers, where some are left alone */
    bool fallback;
    char note[160];
};

/* Row r of a layer in an array of (L, R, ld). */
static inline size_t kvt_evict_at(const struct kvt_evict_work *w, int layer, int r)
{
    return ((size_t)layer * (size_t)w->R + (size_t)r) * (size_t)w->ld;
}

/* The raw reduction that a policy ranks by, of one layer: (H, ld), or (G, ld) where *per_group; NULL where there is none. */
const float *kvt_evict_raw(const struct kvt_policy *p, const struct kvt_prefill_scores *raw, int H, int G, int layer,
                           bool *per_group);
/* The worth by chance of a position, from (seed, layer, kv head, position): in [0, 1). */
float kvt_evict_chance(uint64_t seed, int layer, int g, int pos);
/* KVT_SCORE_RECENCY, RANDOM: what a position is worth, wherever it is held. */
float kvt_evict_by_place(const struct kvt_policy *p, int model_layer, int g, int pos);
/* While tokens come: the sums of n slots divided by the rows that saw their positions `at`, the newest row being pos. */
int kvt_evict_visible_mean(struct kvt_evictor *e, const float *sum, const int32_t *at, int n, int pos, float *out);
/* Scores made from the keys and values that the branch holds (evict_cached.c): of one layer into score (G, ld). */
bool kvt_evict_by_cache(const struct kvt_policy *p);
/* KVT_SCORE_KNORM (Devoto et al., arXiv 2406.11430): minus the keys' norms of n slots of each head into out (G, ld). */
int kvt_evict_key_norms(const struct kvt_evictor *e, int model_layer, int n, float *out, int ld);
int kvt_evict_cache_score(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, int layer, float *score);
/* Token scores of all layers, as ranked, into w->score. */
int kvt_evict_score_all(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw);
/* Scores of a layer by the method's own loop into out (G, w->ld). */
int kvt_evict_host_score(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, int layer,
                         float *out);
/* Protected slots of the context under a budget, as enum kvt_reason, into map (n) or nowhere; returns how
 * many. env may be NULL: then spans aren't known. */
int kvt_evict_protect(const struct kvt_policy *p, const struct kvt_evict_env *env, int n_prompt, int n, int budget,
                      uint8_t *map);

/* Units of the context into w->h_seg and w->h_candidate; returns how many. With w NULL only counts. */
int kvt_evict_units(const struct kvt_evictor *e, struct kvt_evict_work *w, int fence);
/* The budget at prefill's end: the policy's own share of the context, where it has one. */
static inline struct kvt_budget kvt_evict_own_budget(const struct kvt_policy *p, const struct kvt_budget *budget)
{
    bool own = p->prefill_share > 0 && budget->kind != KVT_BUDGET_MATCH;
    return own ? (struct kvt_budget){.kind = KVT_BUDGET_KEEP, .keep_ppm = (int64_t)(p->prefill_share * 1e6 + 0.5)} : *budget;
}
/* What each layer is asked to keep, w->layer_tok; whole numbers from the budget, before any score is known. */
void kvt_evict_layers(struct kvt_evictor *e, struct kvt_evict_work *w);
/* From the layers' tokens and the scores to the budget of every cell, w->budget; protects on the way. */
int kvt_evict_allocate(struct kvt_evictor *e, struct kvt_evict_work *w);
/* By which rule cells share a total. */
enum kvt_divide kvt_evict_divide_how(const struct kvt_policy *p);
/* Selects the kept slots of all layers: fills w->kept, n_kept, reason, threshold and, for units, w->unit. */
int kvt_evict_select(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw);

/* Where neighbours compare (TreeKV): who stays of a layer's slots, or units, as 1 and 0 in w->second. max_units: in, units that
 * stay beside the wholly protected ones; out, with them. Such a choice has no threshold. */
int kvt_evict_contest(struct kvt_evictor *e, struct kvt_evict_work *w, int layer, int *max_units);
int kvt_evict_no_threshold(struct kvt_evictor *e, struct kvt_evict_work *w);

/* An event to the probe, if somebody listens to this branch. */
int kvt_evict_see(const struct kvt_evictor *e, const struct kvt_event *ev, struct kvt_err *err);
/* Positions of n slots that aren't among the kept ones (ascending) into host_lost; returns how many. */
int kvt_evict_lost(struct kvt_evictor *e, const int32_t *pos, int n, const int32_t *kept, int n_kept);
/* EVICT of a cell: the n positions in host_lost. */
int kvt_evict_report_lost(struct kvt_evictor *e, int layer, int g, int step, int n, struct kvt_err *err);
/* DECISION of a layer, if the probe wants it; `all`: nothing was chosen, `scored`: w->score is filled. */
int kvt_evict_report_decision(struct kvt_evictor *e, struct kvt_evict_work *w, int layer, bool scored, bool all,
                              struct kvt_err *err);
int kvt_evict_report_budget(struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_err *err);

/* A budget for each kv head (evict_cells.c): whether the method's choices leave it room; the smallest of n tokens (of another kind,
 * itself); what that makes of the layers. */
int kvt_evict_cells_check(const struct kvt_spec *spec, const struct kvt_budget *budget, struct kvt_err *err);
const struct kvt_budget *kvt_evict_least_cell(const struct kvt_budget *budget, int n);
void kvt_evict_cells_layers(struct kvt_evictor *e, struct kvt_evict_work *w);

/* KVT_ALLOC_CLASS: tokens that a head may hold of n (evict_class.c). */
int kvt_evict_class_tok(const struct kvt_evictor *e, int layer, int g, int n);
/* Tokens that a cell may hold of n while tokens come; those of a layer, or of all, sum to what was asked of it. */
int kvt_evict_cell_tok(const struct kvt_evictor *e, int layer, int g, int n);

/* The oracle's worth of slots is one of positions, those in host_pos: of n[r] slots of each of a layer's R rows into out (R, ld). */
int kvt_evict_future(struct kvt_evictor *e, int layer, const int32_t *n, int R, float *out);

/* schedule=every (evict_every.c): its memory; whether this is the step; whether a row of this step is added up, and whether
 * the sums begin with it; the eviction. */
void kvt_evict_every_layout(struct kvt_evictor *e, struct kvt_carve *dev, struct kvt_carve *host);
bool kvt_evict_due(const struct kvt_evictor *e, int layer, int step);
bool kvt_evict_row_counts(const struct kvt_evictor *e, int step, bool *anew);
int kvt_evict_every(struct kvt_evictor *e, int pos, int step, struct kvt_err *err);
/* Newest tokens that stay under a budget of tok; the rows of a chunk's window too, where the policy keeps it. */
int kvt_evict_every_recent(const struct kvt_policy *p, int tok, bool in_chunk);
/* Which of the L the model's layer is; -1: left alone. */
int kvt_evict_own_layer(const struct kvt_evict_env *env, int model_layer);

/* Chunks of a prefill (evict_chunk.c): their memory, rows: where attention counts; a budget that the first chunk's end can't hold. */
void kvt_evict_chunk_layout(struct kvt_evictor *e, bool rows, struct kvt_carve *dev);
int kvt_evict_chunk_check(const struct kvt_spec *spec, const struct kvt_budget *budget, int n_context, struct kvt_err *err);

/* LagKV in steps (evict_lag.c): whether it is; the first slot of n that nothing measures yet; the cut that is due, if one is. */
bool kvt_evict_lags(const struct kvt_policy *p);
int kvt_evict_lag_tail(const struct kvt_policy *p, int n);
int kvt_evict_lag(struct kvt_evictor *e, int layer, int pos, int step, struct kvt_err *err);

/* One slot too many at most (evict_one.c): whether this step of a layer is such a one, n (G) slots being held; the eviction. */
bool kvt_evict_one_fits(const struct kvt_evictor *e, int layer, const int32_t *n, int pos);
int kvt_evict_one(struct kvt_evictor *e, int layer, const float *row, int added, int pos, int step, struct kvt_err *err);

size_t kvt_evict_step_bytes(struct kvt_evictor *e);
int kvt_evict_step_open(struct kvt_evictor *e, struct kvt_err *err);
void kvt_evict_step_close(struct kvt_evictor *e);
int kvt_evict_step_copy(struct kvt_evictor *to, const struct kvt_evictor *from);
/* The state of a layer at prefill's end: the mass of the slots that stayed. Needs w->kept and h_n_kept, or all: true
 * where nothing left. */
int kvt_evict_step_begin(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw,
                         int layer, bool all);

/* Status of an operation as an error of the run. */
int kvt_evict_device_fail(const struct kvt_evictor *e, int rc, const char *what, struct kvt_err *err);

#endif
