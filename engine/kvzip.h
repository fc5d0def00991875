/* KVzip's reconstruction pass: what the model looks at while it repeats the context. */
#ifndef KVT_ENGINE_KVZIP_H
#define KVT_ENGINE_KVZIP_H

#include <stdint.h>

#include "kvt/kvt.h"
#include "kvt/prompt.h"

struct kvt_session;
struct kvt_model;

enum { KVT_KVZIP_SINKS = 4, KVT_KVZIP_TRAIL = 8 };

struct kvt_kvzip {
    struct kvt_tokens cue[2];  /* before the first chunk; before the others and the end of the chunk before */
    struct kvt_tokens turn;    /* between cue and repetition */
    int rows;                  /* of the longest pass; 0: nobody repeats */
    int cell;                  /* two cells: the whole context, and what is scored */
    int *repeat;               /* (n) lengths of chunks asked for */
    float **score;             /* (n): (L, G, n_context) host, or NULL before the pass */
    int n;
    float *x, *att, *most;     /* backend: (rows, E), (run, H D), (H, n_context + rows) */
    float *host;               /* (H, n_context + rows) */
    int32_t *token, *branch, *pos, *scored; /* (rows) */
};

/* Rows of the longest pass and bytes of its buffers, scores excepted, where `repeat` is the longest that is asked for. */
int kvt_kvzip_bytes(const struct kvt_model *m, int run, int n_context, int repeat, int *rows, size_t *bytes, struct kvt_err *err);
/* What the branches ask for, before the cache is opened: cells and positions follow from it. EINPUT where the repeated
 * context doesn't fit the model's. */
int kvt_kvzip_plan(struct kvt_session *s, struct kvt_err *err);
int kvt_kvzip_open(struct kvt_session *s, struct kvt_err *err);
void kvt_kvzip_close(struct kvt_session *s);
/* All passes that are asked for, over the context in cell 0; reports the phase. */
int kvt_kvzip_run(struct kvt_session *s, struct kvt_err *err);
/* (L, G, n_context) of a branch that repeats. */
const float *kvt_kvzip_score(const struct kvt_session *s, int repeat);

#endif
