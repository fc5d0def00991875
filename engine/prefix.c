/* Keys, values and sums of a shared beginning, to the host and back. Whoever prefills (session_prefill.c) decides nothing here but when. */
#include "engine/prefix.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/rope.h"
#include "engine/run.h"

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the prompts' shared beginning; --no-prefix does without"); }

static int failed(const struct kvt_session *s, int rc, struct kvt_err *err) { return rc ? kvt_fail(err, rc, "%s", kvt_dev_error(s->dev)) : 0; }

static void empty(struct kvt_prefix *p)
{
    void *own[] = { p->token, p->unit, p->freq, p->k, p->v, p->query_mean, p->query_scatter };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    for (int i = 0; i < KVT_MAX_SUMS; i++)
        free(p->sum[i]);
    *p = (struct kvt_prefix){ .n = 0 };
}

struct kvt_prefix *kvt_prefix_open(void) { return kvt_calloc(1, sizeof(struct kvt_prefix)); }

void kvt_prefix_close(struct kvt_prefix **p)
{
    if (*p)
        empty(*p);
    free(*p);
    *p = NULL;
}

int kvt_prefix_restored(const struct kvt_prefix *p) { return p->restored; }

int kvt_prefix_shared(const struct kvt_prefix *p) { return p->shared; }

/* Sums that rows of the beginning add to: those of windows begin behind it. Backend (L, H, n_prefill). */
static int sums_of(const struct kvt_session *s, float *sum[KVT_MAX_SUMS])
{
    const struct kvt_prefill_scores *raw = &s->observer.raw;
    int n = 0;
    const float *some[] = { raw->mass, raw->max, raw->later };
    for (int i = 0; i < 3; i++)
        if (some[i])
            sum[n++] = (float *)some[i];
    for (int i = 0; i < raw->n_squares; i++)
        if (!raw->square[i].window)
            sum[n++] = (float *)raw->sqmass[i];
    return n;
}

/* The longest beginning of at most `most` tokens that ends with a run and in front of every window. */
static int end_of(const struct kvt_session *s, int most)
{
    const struct kvt_prefill_scores *raw = &s->observer.raw;
    int behind = 1, run = s->forward->run;
    for (int i = 0; i < raw->n_windows; i++)
        behind = raw->window[i] > behind ? raw->window[i] : behind;
    for (int i = 0; i < raw->n_squares; i++)
        behind = raw->square[i].window > behind ? raw->square[i].window : behind;
    most = most < s->n_prefill - behind ? most : s->n_prefill - behind;
    return most > 0 && run == s->ops->run ? most / run * run : 0;
}

static int frequencies(const struct kvt_session *s, double **out)
{
    int half = s->shape->rope_rot / 2;
    if (!(*out = kvt_calloc(2 * (size_t)half + 1, sizeof **out)))
        return KVT_ENOMEM;
    for (int i = 0; i < 2; i++)
        kvt_rope_frequencies(&s->shape->rope[i], s->shape->rope_rot, s->o.n_prompt + s->o.n_new, *out + (size_t)i * (size_t)half);
    return 0;
}

static int units_in(const struct kvt_session *s, int n)
{
    int units = 0;
    while (units < s->env.n_shots && s->shot[2 * units] < n)
        units++;
    return units;
}

static bool same_needs(const struct kvt_needs *a, const struct kvt_needs *b)
{
    bool same = a->mass == b->mass && a->max == b->max && a->later == b->later && !a->ahead == !b->ahead && a->n_squares == b->n_squares;
    for (int i = 0; same && i < a->n_squares; i++)
        same = a->square[i].window == b->square[i].window && a->square[i].distance == b->square[i].distance && a->square[i].by_pos == b->square[i].by_pos;
    return same;
}

static bool fits(const struct kvt_session *s, const struct kvt_prefix *p, const double *freq)
{
    size_t half = (size_t)(s->shape->rope_rot / 2);
    struct kvt_needs needs;
    struct kvt_wants none = { .n_sink = 4 };
    kvt_opts_needs(&s->o, &none, &needs);
    int units = units_in(s, p->n);
    return p->n && p->model == s->model && p->ops == s->ops && p->compute == s->o.compute && p->kv_type == s->o.kv_type && same_needs(&p->needs, &needs) &&
           end_of(s, p->n) == p->n && !memcmp(p->token, s->token, (size_t)p->n * sizeof *p->token) && !memcmp(p->freq, freq, 2 * half * sizeof *freq) &&
           units == p->n_units && (!units || !memcmp(p->unit, s->shot, (size_t)units * 2 * sizeof *p->unit));
}

/* (H, n) of the host in front of (H, ld) of the backend, whose columns from n on are zero; or back. */
static int move_sum(struct kvt_session *s, float *host, float *backend, int n, bool back, float *work)
{
    size_t H = (size_t)s->shape->H, ld = (size_t)s->n_prefill, row = (size_t)n * sizeof *host;
    int rc = back ? 0 : s->ops->read(s->dev, work, backend, H * ld * sizeof *work);
    if (back)
        memset(work, 0, H * ld * sizeof *work);
    for (size_t h = 0; h < H && !rc; h++)
        memcpy(back ? work + h * ld : host + h * (size_t)n, back ? host + h * (size_t)n : work + h * ld, row);
    return back ? s->ops->write(s->dev, backend, work, H * ld * sizeof *work) : rc;
}

/* All sums of a layer. */
static int move_sums(struct kvt_session *s, struct kvt_prefix *p, int l, int n, bool back)
{
    size_t H = (size_t)s->shape->H, D = (size_t)s->shape->D, at = (size_t)l * H;
    float *sum[KVT_MAX_SUMS], *work = kvt_calloc(H * (size_t)s->n_prefill, sizeof *work);
    int count = sums_of(s, sum), rc = work ? 0 : KVT_ENOMEM;
    for (int i = 0; i < count && !rc; i++)
        rc = move_sum(s, p->sum[i] + at * (size_t)n, sum[i] + at * (size_t)s->n_prefill, n, back, work);
    free(work);
    if (rc || !p->query_mean)
        return rc;
    float *mean = (float *)s->observer.raw.query_mean + at * D, *scatter = (float *)s->observer.raw.query_scatter + at * D * D;
    if (back) {
        rc = s->ops->write(s->dev, mean, p->query_mean + at * D, H * D * sizeof *mean);
        return rc ? rc : s->ops->write(s->dev, scatter, p->query_scatter + at * D * D, H * D * D * sizeof *scatter);
    }
    rc = s->ops->read(s->dev, p->query_mean + at * D, mean, H * D * sizeof *mean);
    return rc ? rc : s->ops->read(s->dev, p->query_scatter + at * D * D, scatter, H * D * D * sizeof *scatter);
}

/* In the runs in which they were made. */
static int append(struct kvt_session *s, const struct kvt_prefix *p, const int32_t *zero, const int32_t *pos)
{
    struct kvt_forward *f = s->forward;
    size_t row = (size_t)s->shape->G * (size_t)s->shape->D;
    int rc = 0;
    for (int l = 0; l < s->shape->L; l++)
        for (int t = 0; t < p->n && !rc; t += f->run) {
            size_t at = ((size_t)l * (size_t)p->n + (size_t)t) * row, bytes = (size_t)f->run * row * sizeof(float);
            rc = s->ops->write(s->dev, f->k, p->k + at, bytes);
            if (!rc)
                rc = s->ops->write(s->dev, f->v, p->v + at, bytes);
            if (!rc)
                rc = s->ops->cache_append(s->dev, &(struct kvt_append_args){ .cache = s->cache, .layer = l, .T = f->run, .k = f->k, .v = f->v,
                                                                             .branch = zero + t, .pos = pos + t });
        }
    return rc;
}

int kvt_prefix_restore(struct kvt_session *s, int *from, struct kvt_err *err)
{
    struct kvt_prefix *p = s->o.prefix;
    double *freq = NULL;
    *from = 0;
    if (!p)
        return 0;
    p->restored = p->shared = 0;
    if (s->o.probe || !p->n)
        return 0;
    if (frequencies(s, &freq))
        return no_memory(err);
    bool fit = fits(s, p, freq);
    free(freq);
    if (!fit)
        return 0;
    int32_t *zero = kvt_calloc((size_t)p->n, sizeof *zero), *pos = kvt_calloc((size_t)p->n, sizeof *pos);
    int rc = zero && pos ? 0 : KVT_ENOMEM;
    for (int t = 0; t < p->n && !rc; t++)
        pos[t] = t;
    if (!rc)
        rc = append(s, p, zero, pos);
    for (int l = 0; l < s->shape->L && !rc; l++)
        rc = move_sums(s, p, l, p->n, true);
    free(zero);
    free(pos);
    if (!rc)
        *from = p->restored = p->n;
    return rc == KVT_ENOMEM ? no_memory(err) : failed(s, rc, err);
}

int kvt_prefix_plan(struct kvt_session *s, int from, int *out, struct kvt_err *err)
{
    struct kvt_prefix *p = s->o.prefix;
    int end = p && !s->o.probe ? end_of(s, s->o.shared_tok) : 0, units = units_in(s, end);
    size_t L = (size_t)s->shape->L, H = (size_t)s->shape->H, D = (size_t)s->shape->D, n = (size_t)end, rows = L * n * (size_t)s->shape->G * D;
    struct kvt_wants none = { .n_sink = 4 };
    float *sum[KVT_MAX_SUMS];
    bool ok = true;
    *out = 0;
    if (p)
        p->shared = end;
    if (end <= from) /* nothing, or it is what was restored */
        return 0;
    int restored = p->restored;
    empty(p);
    p->restored = restored, p->shared = end;
    ok = (p->token = kvt_calloc(n, sizeof *p->token)) && (p->k = kvt_calloc(rows, sizeof *p->k)) && (p->v = kvt_calloc(rows, sizeof *p->v)) && !frequencies(s, &p->freq);
    for (int i = sums_of(s, sum) - 1; i >= 0 && ok; i--)
        ok = (p->sum[i] = kvt_calloc(L * H * n, sizeof *p->sum[i])) != NULL;
    if (ok && s->observer.raw.query_mean)
        ok = (p->query_mean = kvt_calloc(L * H * D, sizeof *p->query_mean)) && (p->query_scatter = kvt_calloc(L * H * D * D, sizeof *p->query_scatter));
    if (ok)
        ok = (p->unit = kvt_calloc(2 * (size_t)units + 1, sizeof *p->unit)) != NULL;
    if (!ok) {
        empty(p);
        return no_memory(err);
    }
    memcpy(p->token, s->token, n * sizeof *p->token);
    if (units)
        memcpy(p->unit, s->shot, (size_t)units * 2 * sizeof *p->unit);
    p->n_units = units;
    p->model = s->model, p->ops = s->ops, p->compute = s->o.compute, p->kv_type = s->o.kv_type;
    kvt_opts_needs(&s->o, &none, &p->needs);
    *out = end;
    return 0;
}

int kvt_prefix_sums(struct kvt_session *s, int layer, int end) { return move_sums(s, s->o.prefix, layer, end, false); }

int kvt_prefix_keep(struct kvt_session *s, int end, struct kvt_err *err)
{
    struct kvt_prefix *p = s->o.prefix;
    int L = s->shape->L, G = s->shape->G, rc = 0;
    size_t D = (size_t)s->shape->D, most = (size_t)s->n_prefill * D;
    int32_t *held = kvt_calloc((size_t)L * (size_t)G, sizeof *held);
    float *k = kvt_calloc(2 * most, sizeof *k), *v = k + most;
    if (!held || !k)
        rc = KVT_ENOMEM;
    if (!rc)
        rc = s->ops->cache_lengths(s->dev, s->cache, 0, held);
    for (int l = 0; l < L && !rc; l++)
        for (int g = 0; g < G && !rc; g++) {
            assert(held[l * G + g] == s->n_prefill); /* nothing is evicted before */
            rc = s->ops->cache_peek(s->dev, s->cache, 0, l, g, k, v);
            for (int t = 0; t < end && !rc; t++) {
                size_t at = (((size_t)l * (size_t)end + (size_t)t) * (size_t)G + (size_t)g) * D;
                memcpy(p->k + at, k + (size_t)t * D, D * sizeof *k);
                memcpy(p->v + at, v + (size_t)t * D, D * sizeof *v);
            }
        }
    free(held);
    free(k);
    if (!rc)
        p->n = end;
    return rc == KVT_ENOMEM ? no_memory(err) : failed(s, rc, err);
}
