/* How far branches are from the full one, step by step: what they lost of its attention, and how wrong their outputs are.
 * Only where asked: the full branch's row of each step is then written out, and nothing else changes. */
#ifndef KVT_ENGINE_FIDELITY_H
#define KVT_ENGINE_FIDELITY_H

#include <stdbool.h>
#include <stdint.h>

#include "kvt/kvt.h"

struct kvt_session;

struct kvt_fidelity {
    bool lost, output;         /* what is measured */
    float *out;                /* (H, D) backend: the full branch's attention of this step and layer */
    int32_t *branch;           /* (n) cells compared in one call */
    int32_t *at;               /* (L, n) whose they are, in a layer's calls of a step */
    int *count;                /* (L) how many there are */
    const float **own;         /* (n) */
    float *h_lost, *h_rest;    /* (L, n, H) in that order: a backend may bring them at the step's end */
    float *h_local, *h_propagated; /* (L, n) */
    float *lost_mass, *lost_rest;  /* (n, L, G) of the step */
    float *local, *propagated;     /* (n, L) of the step */
    double *sum;               /* (n, 4) of the steps' means */
    int steps;                 /* steps measured */
};

int kvt_fidelity_open(struct kvt_session *s, struct kvt_err *err);
void kvt_fidelity_close(struct kvt_session *s);
/* After the attention of rows [row0, row0 + n) of this layer, before anything is evicted. */
int kvt_fidelity_look(struct kvt_session *s, int layer, int row0, int n, struct kvt_err *err);
/* The step's event, and its share of the means. */
int kvt_fidelity_step(struct kvt_session *s, int step, struct kvt_err *err);

#endif
