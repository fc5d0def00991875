/* Overlap of what two branches kept: measures 4 of docs/measures.md. */
#ifndef KVT_ANALYZERS_OVERLAP_H
#define KVT_ANALYZERS_OVERLAP_H

#include <stdbool.h>
#include <stdint.h>

#include "analyzers/analyzer.h"
#include "base/rng.h"

/* Sums over cells; add several prompts with kvt_overlap_add. */
struct kvt_overlap {
    int64_t both, either;         /* sum |A and B|, sum |A or B| inside the universe */
    int64_t all_both, all_either; /* ... over all context tokens, protected ones too */
    double chance_num, chance_den;/* expected Jaccard, cells weighted by their expected union */
    double gain, room;            /* sum (x - ab/n), sum (min(a, b) - ab/n) of the cells that count */
    double spread;                /* sum ((a + b)/2 - ab/n) of the same */
    int64_t smaller;              /* sum min(a, b) */
    int64_t cells, left_out;      /* cells seen (a shared set once), of them without a say in O: a or b in {0, n} */
    int64_t universe;             /* sum of n */
};

/* Jaccard and its chance value, NaN where no cell has a say: a side that keeps only protected tokens neither agrees nor
 * disagrees. */
double kvt_overlap_jaccard(const struct kvt_overlap *o);
double kvt_overlap_chance(const struct kvt_overlap *o);
double kvt_overlap_all_jaccard(const struct kvt_overlap *o);
/* Adjusted overlap O: 1 = nested, 0 = chance. */
double kvt_overlap_adjusted(const struct kvt_overlap *o);
/* Cohen's kappa over slots, pooled: sum 2 (x - ab/n) / sum (a + b - 2ab/n), which is O where both sides keep the same number. */
double kvt_overlap_kappa(const struct kvt_overlap *o);
/* Overlap coefficient: sum x / sum min(a, b). */
double kvt_overlap_coefficient(const struct kvt_overlap *o);
void kvt_overlap_add(struct kvt_overlap *to, const struct kvt_overlap *from);

/* Adds cell ca of a against cell cb of b; where one context is longer, its first tokens, or (from_end) its last. */
void kvt_overlap_cells(const struct kvt_held *a, size_t ca, const struct kvt_held *b, size_t cb, bool from_end, struct kvt_overlap *out);
/* Adds every cell of a against the same cell of b, of another prompt: token j against token j, once counted from the contexts' starts and once
 * from their ends. What agrees there agrees by place alone. */
void kvt_overlap_by_place(const struct kvt_held *a, const struct kvt_held *b, struct kvt_overlap *out);
/* Two layers of one branch: every head of one against every head of the other (heads have no partners), a shared set once. */
void kvt_overlap_layers(const struct kvt_held *h, int l, int m, struct kvt_overlap *out);
/* The heads of a layer among themselves, each pair once; no cells where they share one set. */
void kvt_overlap_heads(const struct kvt_held *h, int l, struct kvt_overlap *out);
/* Slots that `small` holds, protected ones too, and those of them that `large` holds as well. */
void kvt_overlap_inside(const struct kvt_held *small, const struct kvt_held *large, int64_t *slots, int64_t *inside);

/* Layers [from, to) of both, cell by cell; they have the same layers and heads. */
void kvt_overlap_of(const struct kvt_held *a, const struct kvt_held *b, int from, int to, struct kvt_overlap *out);

/* Heads of a layer that say anything new: 1 where both sides share one set. */
int kvt_overlap_heads_of(const struct kvt_held *a, const struct kvt_held *b, int l);
/* Whether a cell of n tokens, of which the sides keep a and b, has a say in O: neither keeps nothing or everything. */
bool kvt_overlap_counts(int n, int a, int b);

/* Null: B's set shifted in a circle against A's within the universe, by the same share of its length in every cell (cells
 * of one prompt aren't independent). gain[r] is what `gain` is under shift r; `room` doesn't change. Draws `rounds`. */
int kvt_overlap_shifts(const struct kvt_held *a, const struct kvt_held *b, int from, int to, int rounds, struct kvt_rng *rng,
                       double *gain, struct kvt_err *err);

#endif
