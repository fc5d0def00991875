/* Overlap of two kept sets, cell by cell. */
#include "analyzers/overlap.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/stats.h"

double kvt_overlap_jaccard(const struct kvt_overlap *o)
{
    return o->cells > o->left_out ? (double)o->both / (double)o->either : NAN;
}

double kvt_overlap_all_jaccard(const struct kvt_overlap *o)
{
    return o->all_either ? (double)o->all_both / (double)o->all_either : NAN;
}

double kvt_overlap_chance(const struct kvt_overlap *o)
{
    return o->cells > o->left_out ? o->chance_num / o->chance_den : NAN;
}

double kvt_overlap_adjusted(const struct kvt_overlap *o) { return o->room > 0 ? o->gain / o->room : NAN; }

void kvt_overlap_add(struct kvt_overlap *to, const struct kvt_overlap *from)
{
    to->both += from->both;
    to->either += from->either;
    to->all_both += from->all_both;
    to->all_either += from->all_either;
    to->chance_num += from->chance_num;
    to->chance_den += from->chance_den;
    to->gain += from->gain;
    to->room += from->room;
    to->cells += from->cells;
    to->left_out += from->left_out;
    to->universe += from->universe;
}

/* The two sets of a cell inside its universe, packed into u and v (n); returns n, and the sizes of the sets. */
static int pack(const struct kvt_held *a, const struct kvt_held *b, size_t cell, uint8_t *u, uint8_t *v, int *na, int *nb)
{
    size_t at = cell * (size_t)a->n;
    int n = 0;
    *na = *nb = 0;
    for (int j = 0; j < a->n; j++) {
        if (a->guarded[at + (size_t)j] || b->guarded[at + (size_t)j])
            continue;
        u[n] = a->kept[at + (size_t)j];
        v[n] = b->kept[at + (size_t)j];
        *na += u[n];
        *nb += v[n];
        n++;
    }
    return n;
}

static bool counts(int n, int a, int b) { return a > 0 && b > 0 && a < n && b < n; }

/* Heads of a layer that say anything new: one where both sides share one set. */
static int heads_of(const struct kvt_held *a, const struct kvt_held *b, int l)
{
    return a->shared[l] && b->shared[l] ? 1 : a->G;
}

static void add_cell(const struct kvt_held *a, const struct kvt_held *b, size_t cell, struct kvt_overlap *o)
{
    const uint8_t *ka = a->kept + cell * (size_t)a->n, *kb = b->kept + cell * (size_t)a->n;
    const uint8_t *ga = a->guarded + cell * (size_t)a->n, *gb = b->guarded + cell * (size_t)a->n;
    int n = 0, na = 0, nb = 0, x = 0, all_x = 0, all_either = 0;
    for (int j = 0; j < a->n; j++) {
        int in = !(ga[j] | gb[j]), both = ka[j] & kb[j];
        n += in;
        na += in & ka[j];
        nb += in & kb[j];
        x += in & both;
        all_x += both;
        all_either += ka[j] | kb[j];
    }
    o->cells++;
    o->universe += n;
    o->both += x;
    o->either += na + nb - x;
    o->all_both += all_x;
    o->all_either += all_either;
    double mean = kvt_hyper_mean(n, na, nb);
    if (na + nb) {
        double u = na + nb - mean;
        o->chance_num += u * kvt_jaccard_expected(n, na, nb);
        o->chance_den += u;
    }
    if (counts(n, na, nb)) {
        o->gain += x - mean;
        o->room += (na < nb ? na : nb) - mean;
    } else {
        o->left_out++;
    }
}

void kvt_overlap_of(const struct kvt_held *a, const struct kvt_held *b, int from, int to, struct kvt_overlap *out)
{
    assert(a->L == b->L && a->G == b->G && a->n == b->n);
    *out = (struct kvt_overlap){0};
    for (int l = from; l < to; l++)
        for (int g = 0, G = heads_of(a, b, l); g < G; g++)
            add_cell(a, b, (size_t)l * (size_t)a->G + (size_t)g, out);
}

static int common(const uint8_t *u, const uint8_t *v, int n)
{
    int x = 0;
    for (int j = 0; j < n; j++)
        x += u[j] & v[j];
    return x;
}

int kvt_overlap_shifts(const struct kvt_held *a, const struct kvt_held *b, int from, int to, int rounds, struct kvt_rng *rng,
                       double *gain, struct kvt_err *err)
{
    uint8_t *u = kvt_calloc((size_t)a->n + 1, 2), *v = u ? u + a->n + 1 : NULL;
    double *share = kvt_calloc((size_t)rounds, sizeof *share);
    if (!u || !share) {
        free(u);
        free(share);
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d shifts", rounds);
    }
    for (int r = 0; r < rounds; r++) {
        share[r] = kvt_rng_unit(rng);
        gain[r] = 0;
    }
    for (int l = from; l < to; l++)
        for (int g = 0, G = heads_of(a, b, l); g < G; g++) {
            int na, nb, n = pack(a, b, (size_t)l * (size_t)a->G + (size_t)g, u, v, &na, &nb);
            if (!counts(n, na, nb))
                continue;
            double mean = kvt_hyper_mean(n, na, nb);
            for (int r = 0; r < rounds; r++) {
                int s = 1 + (int)(share[r] * (n - 1)); /* 1 .. n - 1: no shift isn't a shift */
                gain[r] += common(u, v + s, n - s) + common(u + n - s, v, s) - mean;
            }
        }
    free(u);
    free(share);
    return 0;
}
