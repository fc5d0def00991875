/* Overlap of what two branches kept: measures 4 of docs/measures.md. */
#ifndef KVT_ANALYZERS_OVERLAP_H
#define KVT_ANALYZERS_OVERLAP_H

#include <stdint.h>

#include "analyzers/analyzer.h"
#include "base/rng.h"

/* Sums over cells; add several prompts with kvt_overlap_add. */
struct kvt_overlap {
    int64_t both, either;         /* sum |A and B|, sum |A or B| inside the universe */
    int64_t all_both, all_either; /* ... over all context tokens, protected ones too */
    double chance_num, chance_den;/* expected Jaccard, cells weighted by their expected union */
    double gain, room;            /* sum (x - ab/n), sum (min(a, b) - ab/n) of the cells that count */
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
void kvt_overlap_add(struct kvt_overlap *to, const struct kvt_overlap *from);

/* Layers [from, to) of both; they have the same shape. */
void kvt_overlap_of(const struct kvt_held *a, const struct kvt_held *b, int from, int to, struct kvt_overlap *out);

/* Null: B's set shifted in a circle against A's within the universe, by the same share of its length in every cell (cells
 * of one prompt aren't independent). gain[r] is what `gain` is under shift r; `room` doesn't change. Draws `rounds`. */
int kvt_overlap_shifts(const struct kvt_held *a, const struct kvt_held *b, int from, int to, int rounds, struct kvt_rng *rng,
                       double *gain, struct kvt_err *err);

#endif
