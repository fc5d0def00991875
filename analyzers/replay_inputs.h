/* Inside of a replay: what was read of the trace, and where it lies. */
#ifndef KVT_ANALYZERS_REPLAY_INPUTS_H
#define KVT_ANALYZERS_REPLAY_INPUTS_H

#include "analyzers/replay.h"
#include "engine/evict.h"
#include "engine/oracle.h"

enum { KVT_REPLAY_D = 8 }; /* of the cache: a key's first value is its norm, the others are 0 */

struct kvt_replay {
    struct kvt_trace *trace;
    const struct kvt_trace_info *info;
    const struct kvt_ops *ops;
    struct kvt_dev *dev;
    struct kvt_cache *cache;       /* cell 0: the context; 1: the branch being replayed */
    bool same_backend;
    struct kvt_evict_env env;
    struct kvt_probe probe;        /* in front of the caller's */
    int n_prefill;
    uint8_t *acts;                 /* (L) */
    int32_t *layer, *shot, *span;  /* as the session makes them: (env.L), (n_shots, 2), (n_spans, 3) */
    struct kvt_prefill_scores raw; /* all but a window's mass, squares of a window and given */
    float *window, *squares, *given; /* (L, H, n_prefill), the same, (L, G, n_prefill): of the policy being replayed */
    float *host;                   /* (L, max(H, G), n_prefill) */
    float *late;                   /* (L, H, n_late, n_prompt) host, or where that is too much (n_late, n_prompt) of one head; NULL until asked for */
    bool late_held;                /* all of them are there */
    uint8_t *level;                /* (n_late) */
    float *sums;                   /* (2, n_prefill) while they are added up */
    bool sums_known;               /* sums made of late rows are the run's, bit for bit: recorded windows were compared */
    bool squares_known, fused;     /* the same of squares; p p + q in one rounding */
    int n_rows, first_pos;         /* rows of the uncompressed branch: the question's, fed again, and the steps'; position of the first */
    float *rows;                   /* (n_rows, L, H, n_tok) host, or NULL where that is too much: then */
    float *one;                    /* (H, n_tok) the row read last */
    float *row;                    /* (H, n_tok) backend: of the branch, by slot */
    float *slot_row;               /* (H, n_tok) host */
    int32_t *pos, *h_pos;          /* (G, n_tok) backend, host */
    float *kv;                     /* (2, G, D) backend: what is appended */
    float *h_kv;                   /* (2, G, D) host */
    float *key_norm;               /* (L, G, n_tok) host */
    struct kvt_future future;      /* of the oracle being replayed */
    double *mean_lost, *mean_rest; /* (L, G, n_tok) means over steps of rows; NULL until asked for */
    /* of the replay that runs */
    struct kvt_replay_result *out;
    const struct kvt_probe *told;
};

/* The evictor's probe, self a struct kvt_replay. */
void kvt_replay_wants(void *self, struct kvt_wants *w);
int kvt_replay_see(void *self, const struct kvt_event *ev);

int kvt_replay_late(struct kvt_replay *r, struct kvt_err *err);
/* Mass of the last w rows into raw.wmass[0], as the run made it or, with sums_known, would have. */
int kvt_replay_window(struct kvt_replay *r, int w, struct kvt_err *err);
bool kvt_replay_window_recorded(const struct kvt_replay *r, int w);
int kvt_replay_squares(struct kvt_replay *r, const struct kvt_policy *p, struct kvt_err *err);
bool kvt_replay_squares_recorded(const struct kvt_replay *r, const struct kvt_policy *p);
/* The i-th row, of one layer: (H, n_tok). NULL and err where it can't be read. */
const float *kvt_replay_row(struct kvt_replay *r, int i, int layer, struct kvt_err *err);

#endif
