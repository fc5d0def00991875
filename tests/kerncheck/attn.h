/* What attn's checks share: shapes, inputs and the allowance. */
#ifndef KERNCHECK_ATTN_H
#define KERNCHECK_ATTN_H

#include "tests/kerncheck/kerncheck.h"

#define KC_TINY 1e-37

struct kc_attn_shape {
    int H, G, D;
    enum kvt_dtype type;
};
enum { KC_ATTN_SHAPES = 7, KC_ATTN_KINDS = 5 };
extern const struct kc_attn_shape kc_attn_shapes[KC_ATTN_SHAPES];
extern const char *const kc_attn_kind[KC_ATTN_KINDS];

/* Numbers of one case, the same for every backend. */
struct kc_attn_numbers {
    const float *q, *k, *v;  /* (rows, H, D), (slots, G, D) twice */
    double score;            /* S */
    float cap;
    float v_max;
};

float *kc_floats(struct kc *k, size_t n);
struct kc_attn_numbers kc_attn_make(struct kc *k, const struct kc_attn_shape *s, int rows, int slots, int kind);
/* Relative error of a probability: attn.c says where it comes from. */
double kc_attn_rho(const struct kc_attn_shape *s, const struct kc_attn_numbers *x, int n, bool renumber);

void kc_check_prefill(struct kc *k); /* attn_prefill.c */

#endif
