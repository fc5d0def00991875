/* The pair of shares that loses least under a budget, and shares for single layers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/derive.h"
#include "base/mem.h"

enum { DECODE_STEP = 100, MATCH_STEP = 1000, LEAST_PPM = 1000 }; /* ppm */
enum { MOST_UNITS = 1 << 18 };

static int layers_of(const struct kvt_derive_set *set) { return set->prompt[0].is.L; }

int kvt_derive_measure(const struct kvt_derive_set *set, const int64_t *prefill, struct kvt_derive_pair *pair, struct kvt_err *err)
{
    int L = layers_of(set), rc = 0;
    int64_t *same = prefill ? NULL : kvt_calloc((size_t)L, sizeof *same);
    struct kvt_derive_loss *l = &pair->loss;
    *l = (struct kvt_derive_loss){0};
    if (!prefill && !same)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", L);
    for (int i = 0; same && i < L; i++)
        same[i] = pair->prefill_ppm;
    for (int i = 0; !rc && i < set->n; i++)
        rc = kvt_derive_add(&set->prompt[i], same ? same : prefill, pair->decode_ppm, l, err);
    free(same);
    if (rc)
        return rc;
    double rows = l->rows > 0 ? l->rows : NAN, prompts = l->prompts;
    l->context /= rows, l->generated /= rows;
    l->held_context /= prompts, l->held_generated /= prompts, l->peak_generated /= prompts, l->shots /= prompts;
    return 0;
}

/* Generated tokens that a budget is counted in: all of them at the last step, or their mean. */
static double generated(const struct kvt_derive_set *set, bool peak)
{
    int N = set->prompt[0].is.N;
    return peak ? N : (N + 1) / 2.0;
}

static double context(const struct kvt_derive_set *set)
{
    double n = 0;
    for (int i = 0; i < set->n; i++)
        n += set->prompt[i].is.n_context;
    return n / set->n;
}

/* Generated tokens really held under a share. */
static double held_generated(const struct kvt_derive_set *set, int64_t ppm, bool peak)
{
    int N = set->prompt[0].is.N;
    double sum = 0;
    for (int t = 1; t <= N; t++) {
        int64_t tok = ppm >= KVT_PPM ? t : t * ppm / KVT_PPM;
        tok = tok < 1 ? 1 : tok;
        if (peak)
            sum = (double)tok;
        else
            sum += (double)tok / N;
    }
    return sum;
}

static double held_context(const struct kvt_derive_set *set, int64_t ppm)
{
    double sum = 0;
    int shots;
    for (int i = 0; i < set->n; i++)
        for (int l = 0; l < layers_of(set); l++)
            sum += kvt_derive_context(&set->prompt[i], l, ppm, &shots);
    return sum / layers_of(set) / set->n;
}

static double tokens_of(const struct kvt_derive_set *set, const struct kvt_derive_ask *ask, int64_t prefill, int64_t decode)
{
    if (ask->held)
        return held_context(set, prefill) + held_generated(set, decode, ask->peak);
    return ((double)prefill * context(set) + (double)decode * generated(set, ask->peak)) / KVT_PPM;
}

/* The largest decode share, in ten-thousandths, that fits beside a prefill share; -1: none does. */
static int64_t decode_beside(const struct kvt_derive_set *set, const struct kvt_derive_ask *ask, int64_t prefill, double most)
{
    int64_t low = 0, high = KVT_PPM / DECODE_STEP; /* a share of 0 is none that ShotKV has */
    while (low < high) {
        int64_t mid = low + (high - low + 1) / 2;
        if (tokens_of(set, ask, prefill, mid * DECODE_STEP) <= most)
            low = mid;
        else
            high = mid - 1;
    }
    return low < 1 ? -1 : low * DECODE_STEP;
}

double kvt_derive_budget(const struct kvt_derive_set *set, const struct kvt_derive_ask *ask)
{
    return (double)ask->keep_ppm * (context(set) + generated(set, ask->peak)) / KVT_PPM;
}

static bool better(const struct kvt_derive_pair *a, const struct kvt_derive_pair *b)
{
    double x = kvt_derive_lost(&a->loss), y = kvt_derive_lost(&b->loss);
    double held_a = a->loss.held_context + a->loss.held_generated, held_b = b->loss.held_context + b->loss.held_generated;
    return x != y ? x < y : held_a < held_b;
}

/* The pairs on the budget's line, without their losses; returns how many. p: room for all steps of the grid and two. */
static int line(const struct kvt_derive_set *set, const struct kvt_derive_ask *ask, double most, struct kvt_derive_pair *p, int *equal)
{
    int n = 0;
    *equal = -1;
    for (int64_t at = 0, next; at <= KVT_PPM; at = next) { /* the grid, and the budget's own share */
        next = at < ask->keep_ppm && at + ask->grid_ppm > ask->keep_ppm ? ask->keep_ppm : at / ask->grid_ppm * ask->grid_ppm + ask->grid_ppm;
        bool alike = at == ask->keep_ppm && tokens_of(set, ask, at, at) <= most;
        int64_t decode = alike && !ask->held ? at : decode_beside(set, ask, at, most);
        if (!at || decode < 0) /* a share of 0 is none that ShotKV has */
            continue;
        p[n++] = (struct kvt_derive_pair){.prefill_ppm = at, .decode_ppm = decode, .tokens = tokens_of(set, ask, at, decode)};
        if (alike && ask->held) /* whole shots may leave room for a larger share of generated tokens */
            p[n++] = (struct kvt_derive_pair){.prefill_ppm = at, .decode_ppm = at, .tokens = tokens_of(set, ask, at, at)};
        if (alike)
            *equal = n - 1;
    }
    return n;
}

int kvt_derive_search(const struct kvt_derive_set *set, const struct kvt_derive_ask *ask, struct kvt_derive_pair **out, int *n, int *best,
                      int *equal, struct kvt_err *err)
{
    double most = kvt_derive_budget(set, ask) * (1 + 1e-12);
    struct kvt_derive_pair *p = *out = kvt_calloc((size_t)(KVT_PPM / ask->grid_ppm) + 3, sizeof *p);
    *n = 0, *best = *equal = -1;
    if (!p)
        return kvt_fail(err, KVT_ENOMEM, "no memory for pairs");
    *n = line(set, ask, most, p, equal);
    int rc = 0;
    #pragma omp parallel for schedule(dynamic)
    for (int i = 0; i < *n; i++) {
        int mine = kvt_derive_measure(set, NULL, &p[i], NULL);
        #pragma omp critical
        rc = mine ? mine : rc;
    }
    if (rc)
        return kvt_fail(err, rc, "no memory to try pairs");
    for (int i = 0; i < *n; i++)
        if (*best < 0 || better(&p[i], &p[*best]))
            *best = i;
    return *best >= 0 ? 0 : kvt_fail(err, KVT_EINPUT, "no pair of shares fits into %.4g %% of what the full branch holds: text outside the shots always "
                                     "stays; ask for more", (double)ask->keep_ppm / 1e4);
}

int kvt_derive_matched(const struct kvt_derive_set *set, double tokens, struct kvt_derive_pair *out, struct kvt_err *err)
{
    int64_t low = 1, high = KVT_PPM / MATCH_STEP;
    while (low < high) {
        int64_t mid = (low + high) / 2;
        if (held_context(set, mid * MATCH_STEP) + held_generated(set, mid * MATCH_STEP, false) >= tokens)
            high = mid;
        else
            low = mid + 1;
    }
    *out = (struct kvt_derive_pair){.prefill_ppm = low * MATCH_STEP, .decode_ppm = low * MATCH_STEP};
    return kvt_derive_measure(set, NULL, out, err);
}

/* ---- single layers ---- */

struct choice { int64_t ppm, held; double lost; }; /* of a layer: a share, what it holds of all prompts, what it loses */

static int by_share(const void *a, const void *b)
{
    const struct choice *x = a, *y = b;
    return (x->ppm > y->ppm) - (x->ppm < y->ppm);
}

/* A layer's shares at which a prompt gets one shot more, and the one at which it has none; returns how many. */
static int choices(const struct kvt_derive_set *set, int layer, struct choice *c)
{
    int n = 0;
    c[n++].ppm = LEAST_PPM;
    for (int i = 0; i < set->n; i++) {
        const struct kvt_derive *d = &set->prompt[i];
        const int *order = d->order + (size_t)layer * (size_t)d->is.S;
        int64_t tok = d->between, all = d->is.n_context;
        for (int k = 0; k < d->is.S; k++) {
            tok += kvt_derive_cost(&d->is, order[k]);
            c[n++].ppm = (tok * KVT_PPM + all - 1) / all;
        }
    }
    qsort(c, (size_t)n, sizeof *c, by_share);
    for (int k = 0; k < n; k++) {
        c[k].held = 0, c[k].lost = 0;
        for (int i = 0; i < set->n; i++) {
            const struct kvt_derive *d = &set->prompt[i];
            size_t S = (size_t)d->is.S, L = (size_t)d->is.L;
            int shots;
            c[k].held += kvt_derive_context(d, layer, c[k].ppm, &shots);
            for (int s = shots; s < d->is.S; s++)
                for (int t = 0; t < d->is.N; t++)
                    c[k].lost += d->lost_shot[((size_t)t * L + (size_t)layer) * S + (size_t)d->order[(size_t)layer * S + (size_t)s]];
        }
    }
    return n;
}

/* The cheapest way to spend W units on the layers; from (L, W + 1): the share of the layer that spent the last. Of equal ones the one
 * that spends less. */
static void spend(const struct kvt_derive_set *set, int64_t unit, int W, double *cost, double *before, struct choice *c, int64_t *from)
{
    for (int w = 0; w <= W; w++)
        before[w] = 0;
    for (int l = 0; l < layers_of(set); l++) {
        int n = choices(set, l, c);
        for (int w = 0; w <= W; w++)
            cost[w] = INFINITY;
        for (int k = 0; k < n; k++)
            for (int64_t w = (c[k].held + unit - 1) / unit, u = w; w <= W; w++)
                if (before[w - u] + c[k].lost < cost[w]) {
                    cost[w] = before[w - u] + c[k].lost;
                    from[(size_t)l * ((size_t)W + 1) + (size_t)w] = c[k].ppm;
                }
        memcpy(before, cost, ((size_t)W + 1) * sizeof *cost);
    }
}

int kvt_derive_layers(const struct kvt_derive_set *set, int64_t ppm, int64_t *out, struct kvt_err *err)
{
    int L = layers_of(set), shots;
    int64_t all = 0, unit, W = 0;
    size_t most = 1;
    for (int i = 0; i < set->n; i++)
        most += (size_t)set->prompt[i].is.S;
    for (int k = 0; k < 2; k++) { /* in all, then in units of which there aren't too many */
        unit = k ? all / MOST_UNITS + 1 : 1;
        for (int l = 0; l < L; l++) {
            int64_t held = 0;
            for (int i = 0; i < set->n; i++)
                held += kvt_derive_context(&set->prompt[i], l, ppm, &shots);
            *(k ? &W : &all) += (held + unit - 1) / unit;
        }
    }
    size_t width = (size_t)W + 1;
    double *work = kvt_calloc(2 * width, sizeof *work);
    int64_t *from = kvt_calloc((size_t)L * width, sizeof *from);
    struct choice *c = kvt_calloc(most, sizeof *c);
    int rc = work && from && c ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the shares of %d layers", L);
    if (!rc)
        spend(set, unit, (int)W, work, work + width, c, from);
    for (int l = L - 1; !rc && l >= 0; l--) {
        int64_t held = 0;
        out[l] = from[(size_t)l * width + (size_t)W];
        for (int i = 0; i < set->n; i++)
            held += kvt_derive_context(&set->prompt[i], l, out[l], &shots);
        W -= (held + unit - 1) / unit;
    }
    free(work);
    free(from);
    free(c);
    return rc;
}
