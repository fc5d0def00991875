/* The judge of every kernel: each op of every candidate (cpu at every SIMD level this machine has, with 1
 * thread and with several) against ref, on inputs that hurt, with outputs between guard bands.
 *
 * A subject is one file with the same name as the kernels' file. Its check() makes cases; for each case it runs
 * ref once, then every candidate:
 *
 *     float *in = kc_host(k, n * sizeof *in);           // lives until kc_end_case
 *     kc_fill(k, in, n, KC_NORMAL);
 *     ... run ref through k->ref the same way, get `want`, derive `allow` ...
 *     for (int c = 0; c < k->n_cand; c++) {
 *         struct kc_cand *cand = &k->cand[c];
 *         float *din = kc_put(k, cand, in, bytes), *dout = kc_put(k, cand, NULL, bytes);
 *         kc_rc(k, cand, "add", cand->ops->add(cand->dev, &args), "n=%d", n);
 *         kc_get(k, cand, got, dout, bytes);
 *         kc_judge(k, cand, "add", want, got, allow, n, "n=%d fill=%s", n, name);
 *     }
 *     kc_end_case(k, "add");                            // guard bands of every buffer are judged here
 *
 * A failure prints the op, the candidate, the printf-style parameters of the case and the worst element; at the
 * end each op's line says how much of its allowance was used. */
#ifndef KERNCHECK_H
#define KERNCHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/dev.h"
#include "kernels/ops.h"

#define KC_MAX_CAND 10 /* 5 levels x {1, several} threads */
#define KC_EPS 0x1p-24 /* half an ulp of f32 at 1: what one rounding may add, relative */

struct kc_cand {
    const struct kvt_ops *ops; /* kvt_ops_cpu, or the sabotaged copy of it */
    struct kvt_dev *dev;
    const char *label;         /* "avx512 x2" */
    int threads;
    void *mark;                /* backend memory: who reads it waits for all that was asked before */
};

struct kc_state; /* the harness's own */
struct kc {
    uint64_t seed;
    struct kc_cand ref;        /* kvt_ops_ref */
    struct kc_cand cand[KC_MAX_CAND]; /* ascending level, x1 before the other; in bench() only those with the asked threads */
    int n_cand;
    const char *match;         /* bench(): only lines that contain it; NULL: all. A subject may ignore it */
    uint64_t rng[2];           /* seeded anew for each subject; kc_u64 advances it */
    struct kc_state *state;
};

struct kc_subject {
    const char *name;          /* "elem", "linear", "attn", "cache", "score" */
    void (*check)(struct kc *k);
    void (*bench)(struct kc *k);
    /* Replaces one op in the table by a subtly wrong one and returns what is wrong with it; NULL when i is past
     * the last. Each of them must be caught by check(). */
    const char *(*sabotage)(struct kvt_ops *ops, int i);
};
extern const struct kc_subject kc_elem, kc_linear, kc_attn, kc_cache, kc_score, kc_step, kc_lost;
void kc_attn_bench(struct kc *k); /* attn_bench.c */
const char *kc_attn_sabotage(struct kvt_ops *ops, int i); /* attn_sabotage.c */

/* ---- random numbers and fills ---- */

uint64_t kc_u64(struct kc *k);
int kc_int(struct kc *k, int lo, int hi);        /* uniform in [lo, hi] */
float kc_uniform(struct kc *k, float lo, float hi);

enum kc_fill_kind {
    KC_UNIFORM,      /* [-1, 1] */
    KC_NORMAL,       /* mean 0, deviation 1: long tails */
    KC_EQUAL,        /* all the same value: ties, and means that must not drift */
    KC_ONE_HUGE,     /* small values and one of 1e4: cancellation, softmax of one */
    KC_VERY_NEGATIVE,/* around -1e4: exponentials that underflow */
    KC_DENORMAL,     /* around 1e-40 */
    KC_ZERO,         /* the sums of nothing */
    KC_N_FILL
};
const char *kc_fill_name(enum kc_fill_kind kind);
void kc_fill(struct kc *k, float *x, size_t n, enum kc_fill_kind kind);
/* Blocks of a dtype with sound scales (no inf or NaN) and random quants. dst: kvt_row_bytes(type, n) bytes. */
void kc_fill_blocks(struct kc *k, void *dst, enum kvt_dtype type, size_t n);

/* ---- memory of a case ---- */

void *kc_host(struct kc *k, size_t bytes);       /* zeroed host memory, freed by kc_end_case */
/* Backend memory between guard bands, filled from host (NULL: filled with 0x5c bytes, so what isn't written shows).
 * `shift` bytes (0..63) off 64-byte alignment; floats want a multiple of 4. */
void *kc_put(struct kc *k, struct kc_cand *c, const void *host, size_t bytes);
void *kc_put_shifted(struct kc *k, struct kc_cand *c, const void *host, size_t bytes, size_t shift);
void kc_get(struct kc *k, struct kc_cand *c, void *host, const void *p, size_t bytes);
/* Host memory with a copy of `host` whose last byte is the last one that can be read, as where the last tensor of a
 * mapped file ends with a page: a kernel that reads past it crashes. Unmapped by kc_end_case. */
void *kc_edge(struct kc *k, const void *host, size_t bytes);
/* Judges the guard bands of every buffer of the case and frees all of it. `op` names the case in the report. */
void kc_end_case(struct kc *k, const char *op);
/* With --quick two cases of three (given twice, eight of nine), drawn anew by each seed, are left out: for backends that run on an emulation. */
bool kc_skip(struct kc *k);
/* A sabotaged op has failed already: further cases would tell nothing new. */
bool kc_caught(const struct kc *k);
/* Frees the buffers of one candidate early (large cases); guards are judged too. */
void kc_end_cand(struct kc *k, struct kc_cand *c, const char *op);

/* ---- verdicts; each returns true when fine ---- */

/* |got - want| <= allow elementwise (allow in absolute terms). NaN matches NaN, an infinity itself. */
bool kc_judge(struct kc *k, const struct kc_cand *c, const char *op, const float *want, const float *got,
              const float *allow, size_t n, const char *fmt, ...) __attribute__((format(printf, 8, 9)));
/* Bytes must be equal: integers, and results that have to agree bit for bit. */
bool kc_same(struct kc *k, const struct kc_cand *c, const char *op, const void *want, const void *got, size_t bytes,
             const char *fmt, ...) __attribute__((format(printf, 7, 8)));
/* An op returned this; 0 is fine. */
bool kc_rc(struct kc *k, const struct kc_cand *c, const char *op, int rc, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
/* Anything else that must hold. */
bool kc_that(struct kc *k, const struct kc_cand *c, const char *op, bool holds, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));

/* ---- timing ---- */

/* Shortest of many runs, seconds, until the device has finished; runs for about 0.3 s and at least 3 times. */
double kc_time(struct kc_cand *c, void (*run)(void *arg), void *arg);
/* One line: op, candidate, what, time, and GFLOP/s and GB/s where they are not 0. */
void kc_line(struct kc *k, const struct kc_cand *c, const char *op, const char *what, double seconds, double flops,
             double bytes);

/* step_one.c: the second part of the subject `step` */
void kc_check_evict_one(struct kc *k);
void kc_bench_evict_one(struct kc *k);
const char *kc_sabotage_evict_one(struct kvt_ops *ops, int i);

/* step_row.c: the third part of it */
void kc_check_reduce_row(struct kc *k);
void kc_bench_reduce_row(struct kc *k);
const char *kc_sabotage_reduce_row(struct kvt_ops *ops, int i);

/* cache_pick.c: the second half of the subject `cache` */
void kc_fill_scores(struct kc *k, float *score, size_t n, int kind); /* kinds 0 .. 3; 3: NaN, infinities, both zeros */
void kc_check_limit(struct kc *k); /* cache_limit.c */
void kc_check_pick(struct kc *k);
void kc_bench_pick(struct kc *k);
const char *kc_sabotage_pick(struct kvt_ops *ops, int i);

#endif
