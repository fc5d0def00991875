/* ShotKV's budgets from the full branch's decode rows (docs/measures.md, section 7): what a share of the context and a share of the
 * generated tokens lose of the mass that the full branch's next N tokens gave, and the pair that loses least. */
#ifndef KVT_ANALYZERS_DERIVE_H
#define KVT_ANALYZERS_DERIVE_H

#include <stdbool.h>
#include <stdint.h>

#include "analyzers/analyzer.h"

enum { KVT_PPM = 1000000 };

/* What counts, of one prompt. */
struct kvt_derive_shape {
    int L, H, N;               /* layers, query heads, steps (the horizon) */
    int n_prompt, n_context;
    int n_sink, n_recent;      /* first tokens, and tokens just before the row's own, that don't count in the objective */
    int keep_sinks;            /* first tokens that ShotKV protects (its option sinks) */
    const struct kvt_shot *shot;
    int S;
};

/* One prompt. A row is that of the token which a step appends; it sees itself and what was before. */
struct kvt_derive {
    struct kvt_derive_shape is; /* its shots are borrowed */
    int between;               /* tokens of the context outside the shots, and protected ones: they always stay, and are paid for */
    float *score;              /* (L, S) what ShotKV ranks shots by */
    float *lost_shot;          /* (N, L, S) objective on a shot, summed over query heads */
    float *lost_own;           /* (N, L, N) on generated token j, from 0 */
    int32_t *rows;             /* (N, L) heads whose row has any mass that counts */
    float *raw_shot;           /* (N, L, H, S) attention on a shot */
    float *raw_rest;           /* (N, L, H) on what always stays: the question, the text outside the shots */
    float *raw_own;            /* (N, L, H, N) on generated token j */
    int *order;                /* (L, S) shots, the best first */
};

/* What a pair of shares loses and holds on one prompt or, added up, on several. */
struct kvt_derive_loss {
    double context, generated; /* shares of the objective's rows, mean over rows; in a sum: their sums */
    double rows;               /* rows counted */
    double held_context, held_generated; /* tokens of a cell, mean over steps and layers */
    double peak_generated;     /* tokens of a cell at the step that holds most */
    double shots;              /* whole shots held, mean over layers */
    int prompts;
};

int kvt_derive_open(struct kvt_derive *d, const struct kvt_derive_shape *shape, struct kvt_err *err);
void kvt_derive_close(struct kvt_derive *d);
/* The row of a step (from 1) and layer, (H, ld) by position. */
void kvt_derive_row(struct kvt_derive *d, int step, int layer, const float *row, int ld);
/* Attention received over the prefill, (H, n_prompt): the layer's score of each shot. */
void kvt_derive_score(struct kvt_derive *d, int layer, const float *mass);
/* Everything of a trace; layer (L) 0/1 chooses layers. The shape's L, H, n_prompt, n_context and shots are the trace's. */
int kvt_derive_trace(struct kvt_derive *d, struct kvt_trace *t, const uint8_t *layer, const struct kvt_derive_shape *like, struct kvt_err *err);

/* What a shot costs: its tokens that aren't protected. */
static inline int kvt_derive_cost(const struct kvt_derive_shape *is, int s)
{
    int from = is->shot[s].start > is->keep_sinks ? is->shot[s].start : is->keep_sinks;
    return is->shot[s].end > from ? is->shot[s].end - from : 0;
}

/* Tokens of the context that ShotKV holds in a layer under a share, and how many whole shots that is. */
int kvt_derive_context(const struct kvt_derive *d, int layer, int64_t ppm, int *shots);
/* Adds what prompt d loses under prefill shares (L) and one decode share to *sum. */
int kvt_derive_add(const struct kvt_derive *d, const int64_t *prefill_ppm, int64_t decode_ppm, struct kvt_derive_loss *sum, struct kvt_err *err);

/* ---- the search (derive_pair.c) ---- */

struct kvt_derive_set { const struct kvt_derive *prompt; int n; };

struct kvt_derive_ask {
    int64_t keep_ppm;          /* the budget: this share of what the full branch holds of context and generated tokens */
    bool peak;                 /* of the most it holds, not of its mean over steps */
    bool held;                 /* what is really held counts, not what the shares say */
    int64_t grid_ppm;          /* steps of the prefill share */
};

struct kvt_derive_pair {
    int64_t prefill_ppm, decode_ppm;
    double tokens;             /* what the constraint counts: tokens of a cell */
    struct kvt_derive_loss loss; /* means */
};

/* The loss of a pair on all prompts of a set, as means; prefill (L) or NULL: pair->prefill_ppm in each layer. */
int kvt_derive_measure(const struct kvt_derive_set *set, const int64_t *prefill, struct kvt_derive_pair *pair, struct kvt_err *err);
/* The budget: tokens of a cell. */
double kvt_derive_budget(const struct kvt_derive_set *set, const struct kvt_derive_ask *ask);
/* Every pair on the budget's line, ascending by prefill share: *out (*n) is malloc'ed. One of them has equal shares, at *equal. The
 * pair that loses least is at *best; of those alike the one that holds least. EINPUT where no pair fits. */
int kvt_derive_search(const struct kvt_derive_set *set, const struct kvt_derive_ask *ask, struct kvt_derive_pair **out, int *n, int *best,
                      int *equal, struct kvt_err *err);
/* The equal shares that hold as much as `tokens` of a cell, or a little more: in their favour. */
int kvt_derive_matched(const struct kvt_derive_set *set, double tokens, struct kvt_derive_pair *out, struct kvt_err *err);
/* Prefill shares (L) that lose least of the context while they hold no more of it, over all layers and prompts, than one share of ppm
 * does. */
int kvt_derive_layers(const struct kvt_derive_set *set, int64_t ppm, int64_t *out, struct kvt_err *err);
static inline double kvt_derive_lost(const struct kvt_derive_loss *l) { return l->context + l->generated; }

#endif
