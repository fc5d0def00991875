/* reduce_row: what rows of decoding come to. Backends without it take ref's, and aren't judged. */
#include <math.h>
#include <string.h>

#include "kerncheck.h"

enum { HEADS = 5, TOP = 4, MOST = 3000, EACH = 6 + 32 + 3 + 3 + TOP };

/* Where a candidate's values lie in one array: kind by kind, head by head. */
static void outputs(struct kvt_reduce_row_args *a, float *out, int32_t *at)
{
    float **one[] = {&a->entropy, &a->keys, &a->first, &a->sink, &a->local, &a->own};
    for (size_t i = 0; i < sizeof one / sizeof *one; i++, out += a->H)
        *one[i] = out;
    a->distance = out, out += a->H * a->n_distances;
    a->offset = out, out += a->H * a->n_offsets;
    a->spans = out, out += a->H * a->n_spans;
    a->top = out, a->top_at = at;
}

/* Rows that sum to 1, as attention does: spread out, on few keys with zeros and equal ones between, and with values too small for f32. */
static void make_row(struct kc *k, float *row, int n, int kind)
{
    double sum = 0;
    for (int j = 0; j < n; j++) {
        row[j] = kind == 0 ? kc_uniform(k, 0, 1) : kind == 1 ? (float)(kc_int(k, 0, 9) ? 0 : kc_int(k, 1, 3)) : expf(-kc_uniform(k, 0, 90));
        sum += (double)row[j];
    }
    for (int j = 0; j < n && sum > 0; j++)
        row[j] = (float)(row[j] / sum);
}

static void check_row(struct kc *k, int turn)
{
    static const int lengths[] = {1, 2, 15, 16, 17, 31, 32, 33, 100, 257, MOST};
    int n = turn < 11 ? lengths[turn] : kc_int(k, 1, 400), ld = n + kc_int(k, 0, 20);
    int32_t offset[3] = {1, 16, kc_int(k, 0, n + 5)}, span[6] = {0, kc_int(k, 0, n + 9), kc_int(k, 0, n), n + 9, n + 3, n + 4};
    struct kvt_reduce_row_args a = {.H = HEADS, .n = n, .ld = ld, .n_sink = kc_int(k, 0, 5), .n_local = kc_int(k, 1, 40), .n_prompt = kc_int(k, 0, n + 2),
                                    .offset_at = offset, .span = span, .n_distances = kvt_distance_bins(n + kc_int(k, 0, 99)), .n_offsets = 3, .n_spans = 3, .top_k = TOP};
    float *row = kc_host(k, (size_t)(HEADS * ld) * sizeof *row), *out[2], *allow;
    size_t count = (size_t)HEADS * (size_t)(6 + a.n_distances + a.n_offsets + a.n_spans + TOP);
    for (int i = 0; i < 2; i++)
        out[i] = kc_host(k, count * sizeof(float));
    allow = kc_host(k, count * sizeof *allow);
    int32_t at[2][HEADS * TOP];
    for (int h = 0; h < HEADS; h++)
        make_row(k, row + h * ld, n, (turn + h) % 3);
    a.row = row;
    outputs(&a, out[0], at[0]);
    kc_rc(k, &k->ref, "reduce_row", k->ref.ops->reduce_row(k->ref.dev, &a), "n=%d", n);
    /* Sums are in double on both sides: half an ulp each way. A logarithm is within 2e-7, its product rounds once, and what is too small
     * counts as nothing; e to the entropy has the entropy's error times itself. */
    for (size_t i = 0; i < count; i++)
        allow[i] = isnan(out[0][i]) ? 0 : (float)(2 * KC_EPS * fabs((double)out[0][i]));
    for (int h = 0; h < HEADS; h++) {
        double error = 4e-7 * (double)out[0][h] + 2e-7 + n * 1e-36;
        allow[h] += (float)error;
        allow[HEADS + h] += (float)(2 * error * (double)out[0][HEADS + h]);
    }
    for (int i = 0; i < k->n_cand; i++) {
        struct kc_cand *c = &k->cand[i];
        if (!c->ops->reduce_row)
            continue;
        outputs(&a, out[1], at[1]);
        kc_rc(k, c, "reduce_row", c->ops->reduce_row(c->dev, &a), "n=%d", n);
        kc_judge(k, c, "reduce_row", out[0], out[1], allow, count, "n=%d sinks=%d local=%d prompt=%d", n, a.n_sink, a.n_local, a.n_prompt);
        kc_same(k, c, "reduce_row", at[0], at[1], sizeof at[0], "places of the largest, n=%d", n);
    }
    kc_end_case(k, "reduce_row");
}

void kc_check_reduce_row(struct kc *k)
{
    for (int turn = 0; turn < 60; turn++)
        if (!kc_skip(k))
            check_row(k, turn);
}

/* ---- sabotage ---- */

static int last_left_out(struct kvt_dev *dev, const struct kvt_reduce_row_args *a) /* a row's own token isn't local */
{
    int rc = kvt_ops_cpu.reduce_row(dev, a);
    for (int h = 0; h < a->H; h++)
        a->local[h] -= a->row[h * a->ld + a->n - 1];
    return rc;
}

static int later_first(struct kvt_dev *dev, const struct kvt_reduce_row_args *a) /* of equal ones the later */
{
    int rc = kvt_ops_cpu.reduce_row(dev, a);
    for (int i = 0; i < a->H * a->top_k; i++)
        for (int j = a->n - 1; a->top_at[i] >= 0 && j > a->top_at[i]; j--)
            if (a->row[i / a->top_k * a->ld + j] == a->top[i])
                a->top_at[i] = j;
    return rc;
}

static int in_f16(struct kvt_dev *dev, const struct kvt_reduce_row_args *a) /* logarithms that are off by a thousandth */
{
    int rc = kvt_ops_cpu.reduce_row(dev, a);
    for (int h = 0; h < a->H; h++)
        a->entropy[h] *= 1.001f;
    return rc;
}

const char *kc_sabotage_reduce_row(struct kvt_ops *ops, int i)
{
    switch (i) {
    case 0: ops->reduce_row = last_left_out; return "reduce_row: the newest token isn't local";
    case 1: ops->reduce_row = later_first; return "reduce_row: of equal ones the later first";
    case 2: ops->reduce_row = in_f16; return "reduce_row: entropy off by a thousandth";
    default: return NULL;
    }
}

/* ---- speed ---- */

struct timed { struct kc_cand *c; struct kvt_reduce_row_args a; };
static void run_rows(void *arg) { struct timed *t = arg; t->c->ops->reduce_row(t->c->dev, &t->a); }

void kc_bench_reduce_row(struct kc *k)
{
    enum { H = 9, N = 2049, S = 20 };
    static float out[H * EACH + H * S];
    static int32_t at[H * TOP], span[2 * S];
    float *row = kc_host(k, H * N * sizeof *row);
    for (int h = 0; h < H; h++)
        make_row(k, row + h * N, N, 0);
    for (int i = 0; i < 2 * S; i++)
        span[i] = i * 50;
    for (int i = -1; i < k->n_cand; i++) {
        struct timed t = {.c = i < 0 ? &k->ref : &k->cand[i], .a = {.row = row, .H = H, .n = N, .ld = N, .n_sink = 4, .n_local = 32, .n_prompt = 2000, .span = span,
                                                                  .n_distances = kvt_distance_bins(N), .n_spans = S, .top_k = TOP}};
        outputs(&t.a, out, at);
        if (t.c->ops->reduce_row)
            kc_line(k, t.c, "reduce_row", "9 rows of 2049, 20 spans, the 4 largest", kc_time(t.c, run_rows, &t), 0, H * N * 4.0);
    }
    kc_end_case(k, "reduce_row");
}
