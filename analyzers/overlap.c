/* Overlap of two kept sets, cell by cell. */
#include "analyzers/overlap.h"

#include <assert.h>
#include <math.h>

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

double kvt_overlap_kappa(const struct kvt_overlap *o) { return o->spread > 0 ? o->gain / o->spread : NAN; }

double kvt_overlap_coefficient(const struct kvt_overlap *o)
{
    return o->smaller ? (double)o->both / (double)o->smaller : NAN;
}

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
    to->spread += from->spread;
    to->smaller += from->smaller;
    to->cells += from->cells;
    to->left_out += from->left_out;
    to->universe += from->universe;
}

bool kvt_overlap_counts(int n, int a, int b) { return a > 0 && b > 0 && a < n && b < n; }

int kvt_overlap_heads_of(const struct kvt_held *a, const struct kvt_held *b, int l)
{
    return a->shared[l] && b->shared[l] ? 1 : a->G;
}

void kvt_overlap_cells(const struct kvt_held *a, size_t ca, const struct kvt_held *b, size_t cb, bool from_end, struct kvt_overlap *o)
{
    int len = a->n < b->n ? a->n : b->n;
    size_t at = ca * (size_t)a->n + (from_end ? (size_t)(a->n - len) : 0), bt = cb * (size_t)b->n + (from_end ? (size_t)(b->n - len) : 0);
    const uint8_t *ka = a->kept + at, *kb = b->kept + bt, *ga = a->guarded + at, *gb = b->guarded + bt;
    int n = 0, na = 0, nb = 0, x = 0, all_x = 0, all_either = 0;
    for (int j = 0; j < len; j++) {
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
    o->smaller += na < nb ? na : nb;
    o->all_both += all_x;
    o->all_either += all_either;
    double mean = kvt_hyper_mean(n, na, nb);
    if (na + nb) {
        double u = na + nb - mean;
        o->chance_num += u * kvt_jaccard_expected(n, na, nb);
        o->chance_den += u;
    }
    if (kvt_overlap_counts(n, na, nb)) {
        o->gain += x - mean;
        o->room += (na < nb ? na : nb) - mean;
        o->spread += (na + nb) / 2.0 - mean;
    } else {
        o->left_out++;
    }
}

void kvt_overlap_of(const struct kvt_held *a, const struct kvt_held *b, int from, int to, struct kvt_overlap *out)
{
    assert(a->L == b->L && a->G == b->G);
    *out = (struct kvt_overlap){0};
    for (int l = from; l < to; l++)
        for (int g = 0, G = kvt_overlap_heads_of(a, b, l); g < G; g++) {
            size_t cell = (size_t)l * (size_t)a->G + (size_t)g;
            kvt_overlap_cells(a, cell, b, cell, false, out);
        }
}

void kvt_overlap_by_place(const struct kvt_held *a, const struct kvt_held *b, struct kvt_overlap *out)
{
    assert(a->L == b->L && a->G == b->G);
    for (int l = 0; l < a->L; l++)
        for (int g = 0, G = kvt_overlap_heads_of(a, b, l); g < G; g++) {
            size_t cell = (size_t)l * (size_t)a->G + (size_t)g;
            kvt_overlap_cells(a, cell, b, cell, false, out);
            kvt_overlap_cells(a, cell, b, cell, true, out);
        }
}

void kvt_overlap_layers(const struct kvt_held *h, int l, int m, struct kvt_overlap *out)
{
    size_t G = (size_t)h->G;
    *out = (struct kvt_overlap){0};
    for (size_t g = 0; g < (h->shared[l] ? 1 : G); g++)
        for (size_t k = 0; k < (h->shared[m] ? 1 : G); k++)
            kvt_overlap_cells(h, (size_t)l * G + g, h, (size_t)m * G + k, false, out);
}

void kvt_overlap_heads(const struct kvt_held *h, int l, struct kvt_overlap *out)
{
    size_t G = (size_t)h->G, first = (size_t)l * G;
    *out = (struct kvt_overlap){0};
    for (size_t g = 0; !h->shared[l] && g < G; g++)
        for (size_t k = g + 1; k < G; k++)
            kvt_overlap_cells(h, first + g, h, first + k, false, out);
}

void kvt_overlap_inside(const struct kvt_held *small, const struct kvt_held *large, int64_t *slots, int64_t *inside)
{
    assert(small->L == large->L && small->G == large->G && small->n == large->n);
    size_t all = (size_t)small->L * (size_t)small->G * (size_t)small->n;
    *slots = *inside = 0;
    for (size_t i = 0; i < all; i++) {
        *slots += small->kept[i];
        *inside += small->kept[i] & large->kept[i];
    }
}
