/* The parts of score that a vector level provides. They are made beside the level's attention (score_body.h is included by
 * attn_plain.c, attn_avx2.c and attn_avx512.c), whose score tile does their products too. */
#ifndef KVT_KERNELS_CPU_SCORE_H
#define KVT_KERNELS_CPU_SCORE_H

#include "kernels/dev.h"
#include "kernels/pages.h"

struct kvt_score_kernel {
    int rows;                /* rows of a panel that is handed to `products` */
    /* count values, a multiple of 16, of a page's K or V */
    void (*decode)(enum kvt_dtype type, const void *src, size_t count, float *dst);
    /* out (rows, 32): left (K, rows) against two blocks of 16 columns, (K, 16) each. One chain of fma over K. */
    void (*products)(int K, const float *left, const float *block0, const float *block1, float *out);
    void (*column_squares)(int D, const float *page, float *out);                      /* page (D, 16) -> (16) sums of squares */
    float (*dot)(const float *x, const float *y, int n);                               /* 16 lanes and a tree */
    void (*add_scaled)(int D, const float *page, const float *by, float *lanes);       /* lanes (D, 16) += page x by (16) */
    void (*dot_columns)(int D, const float *page, const float *x, float *out);         /* (16) = sum over d of page x (D) */
    void (*range)(int D, int rows, const float *x, float *min, float *max);            /* of each column of (rows, D) */
    float (*spread)(int D, const float *x, const float *min, const float *by, float *work); /* deviation of (x - min) by */
    void (*abs_sums)(int rows, const float *in, float *sum);                           /* (rows, 32): sum (32) += |in| */
    /* out (32) += sum over rows i of k_i x (linear_i + half x in_i); k: two pages from row i on */
    void (*quadratic)(int rows, const float *in, const float *linear, float half, const float *k0, const float *k1, float *out);
};
extern const struct kvt_score_kernel kvt_score_plain;
#if defined(__x86_64__)
extern const struct kvt_score_kernel kvt_score_avx2, kvt_score_avx512;
#endif

#endif
