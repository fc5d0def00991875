/* Fidelity to the full branch (measures.md 3): lost mass and output errors of every teacher-forced branch, by step and layer.
 *
 * The row of step k is that of the token which step k appends: the branches look with the same token, each at what it
 * holds. What a branch evicts in this step it still had when it looked. */
#include "engine/fidelity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/run.h"

int kvt_fidelity_open(struct kvt_session *s, struct kvt_err *err)
{
    struct kvt_fidelity *f = &s->fidelity;
    f->lost = s->o.lost_mass, f->output = s->o.output_error;
    if (!f->lost && !f->output)
        return 0;
    size_t n = (size_t)s->n, L = (size_t)s->shape->L, H = (size_t)s->shape->H, G = (size_t)s->shape->G;
    bool ok = true;
#define GET(p, count) (ok = ((p) = kvt_calloc((count), sizeof *(p))) != NULL && ok)
    GET(f->branch, n); GET(f->at, L * n); GET(f->own, n); GET(f->count, L);
    GET(f->h_lost, L * n * H); GET(f->h_rest, L * n * H); GET(f->h_local, L * n); GET(f->h_propagated, L * n);
    GET(f->lost_mass, n * L * G); GET(f->lost_rest, n * L * G); GET(f->local, n * L); GET(f->propagated, n * L);
    GET(f->sum, n * 4);
#undef GET
    f->out = s->ops->alloc(s->dev, H * (size_t)s->shape->D * sizeof *f->out);
    return ok && f->out ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the fidelity of %d branches", s->n);
}

void kvt_fidelity_close(struct kvt_session *s)
{
    struct kvt_fidelity *f = &s->fidelity;
    void *own[] = { f->branch, f->at, f->count, (void *)f->own, f->h_lost, f->h_rest, f->h_local, f->h_propagated, f->lost_mass, f->lost_rest,
                    f->local, f->propagated, f->sum };
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    if (f->out)
        s->ops->free(s->dev, f->out);
    memset(f, 0, sizeof *f);
}

/* Means over each query group of (B, H), of branches at[B], into (n, L, G). */
static void by_group(const struct kvt_session *s, const float *heads, const int32_t *at, int B, int layer, float *out)
{
    int L = s->shape->L, H = s->shape->H, G = s->shape->G, per = H / G;
    for (int i = 0; i < B; i++)
        for (int g = 0; g < G; g++) {
            double sum = 0;
            for (int h = 0; h < per; h++)
                sum += heads[(size_t)i * (size_t)H + (size_t)(g * per + h)];
            out[((size_t)at[i] * (size_t)L + (size_t)layer) * (size_t)G + (size_t)g] = (float)(sum / per);
        }
}

int kvt_fidelity_look(struct kvt_session *s, int layer, int row0, int n, struct kvt_err *err)
{
    struct kvt_fidelity *f = &s->fidelity;
    size_t HD = (size_t)s->shape->H * (size_t)s->shape->D, first = (size_t)layer * (size_t)s->n;
    int full = s->branch[0].forced.row - s->row0, B = 0, rc = 0;
    if (!f->lost && !f->output)
        return 0;
    if (row0 == 0)
        f->count[layer] = 0;
    first += (size_t)f->count[layer];
    if (full >= row0 && full < row0 + n) /* the first row of a call, so it comes before all others */
        rc = s->ops->copy(s->dev, f->out, s->forward->att + (size_t)(full - row0) * HD, HD * sizeof *f->out);
    for (int b = s->lo; b < s->hi; b++) {
        int t = s->branch[b].forced.row - s->row0;
        if (t < row0 || t >= row0 + n)
            continue;
        f->branch[B] = s->branch[b].forced.cell, f->at[first + (size_t)B] = b;
        f->own[B++] = s->forward->att + (size_t)(t - row0) * HD;
    }
    struct kvt_lost_args a = { .cache = s->cache, .layer = layer, .H = s->shape->H, .from = s->branch[0].forced.cell,
                               .row = s->row + (size_t)s->n_blocks * (size_t)s->shape->H * (size_t)s->max_slots, .ld = s->max_slots,
                               .out = f->out, .B = B, .branch = f->branch, .own = f->own, .n_sink = s->n_sink };
    if (f->lost)
        a.lost = f->h_lost + first * (size_t)s->shape->H, a.lost_rest = f->h_rest + first * (size_t)s->shape->H;
    if (f->output)
        a.local = f->h_local + first, a.propagated = f->h_propagated + first;
    if (!rc && B)
        rc = s->ops->lost(s->dev, &a);
    if (rc)
        return kvt_fail(err, rc, "fidelity: layer %d: %s", layer, kvt_dev_error(s->dev));
    f->count[layer] += B;
    return 0;
}

/* The step's values have come: from the order of calls to that of branches. */
static void gather(struct kvt_session *s)
{
    struct kvt_fidelity *f = &s->fidelity;
    for (int l = 0; l < s->shape->L; l++) {
        size_t first = (size_t)l * (size_t)s->n, H = (size_t)s->shape->H;
        if (f->lost) {
            by_group(s, f->h_lost + first * H, f->at + first, f->count[l], l, f->lost_mass);
            by_group(s, f->h_rest + first * H, f->at + first, f->count[l], l, f->lost_rest);
        }
        for (int i = 0; i < f->count[l] && f->output; i++) {
            size_t at = (size_t)f->at[first + (size_t)i] * (size_t)s->shape->L + (size_t)l;
            f->local[at] = f->h_local[first + (size_t)i];
            f->propagated[at] = f->h_propagated[first + (size_t)i];
        }
    }
}

static double mean(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i];
    return sum / (double)n;
}

int kvt_fidelity_step(struct kvt_session *s, int step, struct kvt_err *err)
{
    struct kvt_fidelity *f = &s->fidelity;
    int from = s->lo > 1 ? s->lo : 0;
    f->steps = step > f->steps ? step : f->steps;
    gather(s);
    size_t L = (size_t)s->shape->L, cells = L * (size_t)s->shape->G;
    for (size_t b = (size_t)s->lo; b < (size_t)s->hi; b++) {
        f->sum[4 * b] += mean(f->lost_mass + b * cells, cells);
        f->sum[4 * b + 1] += mean(f->lost_rest + b * cells, cells);
        f->sum[4 * b + 2] += mean(f->local + b * L, L);
        f->sum[4 * b + 3] += mean(f->propagated + b * L, L);
    }
    return kvt_session_see(s, &(struct kvt_event){ .kind = KVT_EV_FIDELITY, .fidelity = {
        .step = step, .first = from, .n_branch = s->hi - from,
        .lost_mass = f->lost ? f->lost_mass + (size_t)from * cells : NULL, .lost_rest = f->lost ? f->lost_rest + (size_t)from * cells : NULL,
        .local = f->output ? f->local + (size_t)from * L : NULL, .propagated = f->output ? f->propagated + (size_t)from * L : NULL } }, err);
}
