/* ShotKV on the full branch's rows: which shots stay, which generated tokens leave in turn, and what that loses. */
#include "analyzers/derive.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int kvt_derive_open(struct kvt_derive *d, const struct kvt_derive_shape *shape, struct kvt_err *err)
{
    size_t L = (size_t)shape->L, H = (size_t)shape->H, N = (size_t)shape->N, S = (size_t)shape->S, rows = N * L, own, bytes;
    *d = (struct kvt_derive){.is = *shape, .between = shape->n_context};
    for (int s = 0; s < shape->S; s++)
        d->between -= kvt_derive_cost(shape, s);
    if (!kvt_mul_size(rows * N, H + 1, &own) || !kvt_mul_size(own, sizeof *d->raw_own, &bytes) || bytes > ((size_t)1 << 34))
        return kvt_fail(err, KVT_ENOMEM, "no memory for the rows of %d steps; take a shorter --horizon", shape->N);
    bool ok = true;
#define GET(p, count) (ok = ((p) = kvt_calloc((count), sizeof *(p))) != NULL && ok)
    GET(d->score, L * S); GET(d->lost_shot, rows * S); GET(d->lost_own, rows * N); GET(d->rows, rows);
    GET(d->raw_shot, rows * H * S); GET(d->raw_rest, rows * H); GET(d->raw_own, rows * H * N); GET(d->order, L * S);
#undef GET
    if (ok)
        return 0;
    kvt_derive_close(d);
    return kvt_fail(err, KVT_ENOMEM, "no memory for the rows of %d steps", shape->N);
}

void kvt_derive_close(struct kvt_derive *d)
{
    void *own[] = {d->score, d->lost_shot, d->lost_own, d->rows, d->raw_shot, d->raw_rest, d->raw_own, d->order};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    *d = (struct kvt_derive){0};
}

/* ---- what the rows hold ---- */

static double sum(const float *x, int from, int to)
{
    double s[4] = {0};
    int i = from;
    for (; i + 4 <= to; i += 4)
        for (int k = 0; k < 4; k++)
            s[k] += x[i + k];
    for (; i < to; i++)
        s[0] += x[i];
    return s[0] + s[1] + s[2] + s[3];
}

/* Of positions [from, to) those that count: behind the sinks, before the newest. */
static double counted(const float *x, int from, int to, int first, int end)
{
    from = from > first ? from : first, to = to < end ? to : end;
    return to > from ? sum(x, from, to) : 0;
}

void kvt_derive_row(struct kvt_derive *d, int step, int layer, const float *row, int ld)
{
    const struct kvt_derive_shape *is = &d->is;
    size_t at = (size_t)(step - 1) * (size_t)is->L + (size_t)layer, S = (size_t)is->S, N = (size_t)is->N;
    int own = is->n_prompt + step - 1, first = is->n_sink, end = own - is->n_recent;
    for (int h = 0; h < is->H; h++) {
        const float *x = row + (size_t)h * (size_t)ld;
        size_t cell = at * (size_t)is->H + (size_t)h;
        double all = end > first ? sum(x, first, end) : 0, rest = sum(x, 0, is->n_prompt);
        for (int s = 0; s < is->S; s++) {
            int start = is->shot[s].end - kvt_derive_cost(is, s); /* protected tokens never leave */
            double mass = sum(x, start, is->shot[s].end);
            d->raw_shot[cell * S + (size_t)s] = (float)mass;
            rest -= mass;
            if (all > 0)
                d->lost_shot[at * S + (size_t)s] += (float)(counted(x, start, is->shot[s].end, first, end) / all);
        }
        d->raw_rest[cell] = (float)(rest > 0 ? rest : 0);
        for (int j = 0; j < step; j++) {
            d->raw_own[cell * N + (size_t)j] = x[is->n_prompt + j];
            if (all > 0 && is->n_prompt + j < end)
                d->lost_own[at * N + (size_t)j] += (float)(x[is->n_prompt + j] / all);
        }
        d->rows[at] += all > 0;
    }
}

void kvt_derive_score(struct kvt_derive *d, int layer, const float *mass)
{
    const struct kvt_derive_shape *is = &d->is;
    float *score = d->score + (size_t)layer * (size_t)is->S;
    int *order = d->order + (size_t)layer * (size_t)is->S;
    for (int s = 0; s < is->S; s++) {
        double all = 0;
        for (int h = 0; h < is->H; h++)
            all += sum(mass + (size_t)h * (size_t)is->n_prompt, is->shot[s].start, is->shot[s].end);
        score[s] = (float)(all / (is->shot[s].end - is->shot[s].start));
        order[s] = s;
        for (int i = s; i > 0 && !(score[order[i - 1]] >= score[s]); i--) { /* of equal ones the earlier first */
            order[i] = order[i - 1];
            order[i - 1] = s;
        }
    }
}

int kvt_derive_trace(struct kvt_derive *d, struct kvt_trace *t, const uint8_t *layer, const struct kvt_derive_shape *like, struct kvt_err *err)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    size_t n = (size_t)(in->n_tok > in->n_prompt ? in->n_tok : in->n_prompt);
    float *x = kvt_calloc((size_t)in->H * n, sizeof *x);
    int rc = x ? kvt_derive_open(d, like, err) : kvt_fail(err, KVT_ENOMEM, "no memory for a row of %d heads", in->H);
    for (int l = 0, own = 0; !rc && l < in->L; l++) {
        if (!layer[l])
            continue;
        rc = kvt_trace_raw(t, "mass", 0, l, x, err);
        if (!rc)
            kvt_derive_score(d, own, x);
        for (int step = 1; !rc && step <= like->N; step++) {
            rc = kvt_trace_decode_row(t, step, l, x, err);
            if (!rc)
                kvt_derive_row(d, step, own, x, in->n_tok);
        }
        own++;
    }
    free(x);
    if (rc)
        kvt_derive_close(d);
    return rc;
}

/* ---- what a pair holds and loses ---- */

int kvt_derive_context(const struct kvt_derive *d, int layer, int64_t ppm, int *shots)
{
    int64_t n = d->is.n_context, tok = n * ppm / KVT_PPM;
    int held = d->between, k = 0;
    tok = tok < 1 ? 1 : tok;
    for (const int *order = d->order + (size_t)layer * (size_t)d->is.S; k < d->is.S; k++) {
        int cost = kvt_derive_cost(&d->is, order[k]);
        if (held + cost > tok)
            break;
        held += cost;
    }
    *shots = k;
    return held;
}

/* Generated tokens that stay after step t. */
static int allowance(int64_t ppm, int t)
{
    int64_t tok = t * ppm / KVT_PPM;
    return ppm >= KVT_PPM ? t : tok < 1 ? 1 : (int)tok;
}

/* After step t: the token with the least attention of the row leaves, the newest excepted, until as many are left as may stay. The row
 * is the full branch's over what is left, each head's made to sum to 1. alive: the places of those that are there, ascending. */
static int evict(const struct kvt_derive *d, int layer, int t, const double *context, int stay, int *alive, int n, double *worth)
{
    size_t H = (size_t)d->is.H, N = (size_t)d->is.N, at = ((size_t)(t - 1) * (size_t)d->is.L + (size_t)layer) * H;
    for (int i = 0; i < n; i++)
        worth[i] = 0;
    for (size_t h = 0; h < H; h++) {
        const float *own = d->raw_own + (at + h) * N;
        double all = context[h];
        for (int i = 0; i < n; i++)
            all += own[alive[i]];
        for (int i = 0; i < n && all > 0; i++)
            worth[i] += own[alive[i]] / all;
    }
    while (n > stay) {
        int worst = 0;
        for (int i = 1; i < n - 1; i++) /* of equal ones the later leaves */
            if (worth[i] <= worth[worst])
                worst = i;
        n--;
        memmove(alive + worst, alive + worst + 1, (size_t)(n - worst) * sizeof *alive);
        memmove(worth + worst, worth + worst + 1, (size_t)(n - worst) * sizeof *worth);
    }
    return n;
}

/* One layer. Adds to *sum all but the means over layers. */
static void layer_loss(const struct kvt_derive *d, int layer, int64_t prefill_ppm, int64_t decode_ppm, struct kvt_derive_loss *sum,
                       double *context, double *worth, int *alive)
{
    int S = d->is.S, N = d->is.N, H = d->is.H, kept, n = 0;
    const int *order = d->order + (size_t)layer * (size_t)S;
    sum->held_context += kvt_derive_context(d, layer, prefill_ppm, &kept);
    sum->shots += kept;
    for (int t = 1; t <= N; t++) {
        size_t at = (size_t)(t - 1) * (size_t)d->is.L + (size_t)layer;
        for (int k = kept; k < S; k++)
            sum->context += d->lost_shot[at * (size_t)S + (size_t)order[k]];
        const float *own = d->lost_own + at * (size_t)N;
        for (int j = 0, i = 0; j < t - 1; j++) {
            if (i < n && alive[i] == j)
                i++;
            else
                sum->generated += own[j];
        }
        sum->rows += d->rows[at];
        alive[n++] = t - 1;
        int stay = allowance(decode_ppm, t);
        for (int h = 0; n > stay && h < H; h++) {
            const float *shot = d->raw_shot + (at * (size_t)H + (size_t)h) * (size_t)S;
            context[h] = d->raw_rest[at * (size_t)H + (size_t)h];
            for (int k = 0; k < kept; k++)
                context[h] += shot[order[k]];
        }
        if (n > stay)
            n = evict(d, layer, t, context, stay, alive, n, worth);
        sum->held_generated += (double)n / N;
    }
}

int kvt_derive_add(const struct kvt_derive *d, const int64_t *prefill_ppm, int64_t decode_ppm, struct kvt_derive_loss *sum, struct kvt_err *err)
{
    int L = d->is.L, N = d->is.N;
    double *work = kvt_calloc((size_t)d->is.H + (size_t)N + 1, sizeof *work);
    int *alive = kvt_calloc((size_t)N + 1, sizeof *alive);
    int rc = work && alive ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d steps", N);
    struct kvt_derive_loss one = {0};
    for (int l = 0; !rc && l < L; l++)
        layer_loss(d, l, prefill_ppm[l], decode_ppm, &one, work, work + d->is.H, alive);
    free(work);
    free(alive);
    if (rc)
        return rc;
    /* a row counts as much in a long prompt as in a short one */
    sum->context += one.context, sum->generated += one.generated, sum->rows += one.rows;
    sum->held_context += one.held_context / L, sum->held_generated += one.held_generated / L, sum->shots += one.shots / L;
    sum->peak_generated += allowance(decode_ppm, N);
    sum->prompts++;
    return 0;
}
