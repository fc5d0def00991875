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
    int32_t *held;             /* (L, G) live slots after the last operation */
    int32_t *last_pos;         /* (L) newest position appended */

    /* Buffers of a step, where there are steps; ld = env->max_slots. Backend memory, cut from `block`. */
    void *block;
    int ld;
    float *state;              /* (L, G, ld) accumulated mass by slot; NULL where the method has none */
    float *rank;               /* (G, ld) */
    int32_t *pos;              /* (G, ld) */
    int32_t *left;             /* (G, ld) */
    int32_t *n_live, *n_left, *budget_tok; /* (G) */
    uint8_t *protect;          /* (G, ld) */
    /* the same on the host */
    void *host_block;
    float *host_rank;          /* (ld) */
    int32_t *host_pos;         /* (G, ld) */
    int32_t *host_left;        /* (G, ld) */
    int32_t *host_lost;        /* (ld) */
    int32_t *host_n;           /* (3 G) */
    uint8_t *host_protect;     /* (ld) */
};

/* Work memory of one kvt_evict_prefill call. R rows compete: G, or 1 where heads share a set. */
struct kvt_evict_work {
    int n;                     /* slots of the context */
    int ld, R;
    int S;                     /* units, 0 where tokens are chosen */
    int fence;                 /* slots below it are ranked with their neighbours: pooling and chunks end here */
    int n_protect;             /* protected slots of a cell */
    /* backend */
    void *block;
    float *head[2];            /* (H, ld) */
    float *grp[2];             /* (G, ld) */
    float *sum;                /* (1, ld) over heads */
    float *layers;             /* (R, ld) over layers, where the scope says so */
    float *unit;               /* (R, S) */
    float *threshold;          /* (G) */
    int32_t *kept;             /* (G, ld) */
    int32_t *n_kept, *budget, *n_live; /* (G) */
    int32_t *seg;              /* (S + 1) */
    uint8_t *candidate;        /* (S) */
    uint8_t *protect, *reason; /* (G, ld) */
    /* host */
    void *host_block;
    float *h_score;            /* (G, n) */
    float *h_unit;             /* (R, S) */
    float *h_threshold;        /* (G) */
    int32_t *h_kept;           /* (ld) */
    int32_t *h_n_kept;         /* (G) */
    int32_t *h_seg;            /* (S + 1) */
    uint8_t *h_candidate;      /* (S) */
    uint8_t *h_protect;        /* (ld) */
    uint8_t *h_reason;         /* (G, n) */
    int32_t *layer_tok;        /* (L) asked */
    int32_t *budget_tok, *kept_tok; /* (L, G) for the report */
    int last_budget;           /* budget now in `budget` and in the protect map's recent part; -1: none */
    bool fallback;
    char note[160];
};

/* The raw reduction that a policy ranks by, of one layer: (H, ld); NULL where it needs none. */
const float *kvt_evict_raw(const struct kvt_policy *p, const struct kvt_prefill_scores *raw, int H, int layer);
/* Token scores of a layer, as ranked: *out (R, ld) backend memory, one of w's. */
int kvt_evict_score(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw, int layer,
                    float **out);
/* Protected slots of the context under a budget, as enum kvt_reason, into map (n) or nowhere; returns how
 * many. */
int kvt_evict_protect(const struct kvt_policy *p, int n_prompt, int n, int budget, uint8_t *map);

/* Units of the context into w->h_seg and w->h_candidate; returns how many. With w NULL only counts. */
int kvt_evict_units(const struct kvt_evictor *e, struct kvt_evict_work *w, int fence);
/* Selects the kept slots of a layer from token scores (R, ld): fills w->kept, n_kept, reason, threshold and, for
 * units, w->unit. */
int kvt_evict_select(struct kvt_evictor *e, struct kvt_evict_work *w, const float *score, int layer);

int kvt_evict_step_open(struct kvt_evictor *e, struct kvt_err *err);
void kvt_evict_step_close(struct kvt_evictor *e);
int kvt_evict_step_copy(struct kvt_evictor *to, const struct kvt_evictor *from);
/* The state of a layer at prefill's end: the mass of the slots that stayed. Needs w->kept and n_kept of this layer, or
 * all: true where nothing left. */
int kvt_evict_step_begin(struct kvt_evictor *e, struct kvt_evict_work *w, const struct kvt_prefill_scores *raw,
                         int layer, bool all);

/* Status of an operation as an error of the run. */
int kvt_evict_device_fail(const struct kvt_evictor *e, int rc, const char *what, struct kvt_err *err);

#endif
