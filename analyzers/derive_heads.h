/* A share for each kv head, from the full branch's decode rows (docs/measures.md, section 7): a method's own ranking of tokens stays,
 * and where another token more saves most of what the next N tokens look at, a head gets it. */
#ifndef KVT_ANALYZERS_DERIVE_HEADS_H
#define KVT_ANALYZERS_DERIVE_HEADS_H

#include "analyzers/analyzer.h"

/* One prompt under one method. */
struct kvt_heads {
    int L, G, n;               /* n: tokens of the context */
    int least;                 /* tokens that stay in each cell whatever its share */
    double *saved;             /* (L, G, n + 1) objective that the best k tokens of a cell hold, summed over rows and query heads */
    double rows;               /* rows counted, of all cells: one for each step, layer and query head */
};
struct kvt_heads_set { const struct kvt_heads *prompt; int n; };

/* From a branch of a trace: its final scores, its protected tokens, the rows of `steps` steps; n_sink, n_recent as in derive.h. EINPUT
 * where the branch doesn't rank single tokens of each head at prefill's end. */
int kvt_heads_trace(struct kvt_heads *out, struct kvt_trace *t, int branch, int steps, int n_sink, int n_recent, struct kvt_err *err);
void kvt_heads_close(struct kvt_heads *h);
/* From mass (n), score (n) and guarded (n) of a cell; for tests and kvt_heads_trace. saved (n + 1). */
int kvt_heads_cell(int n, const double *mass, const float *score, const uint8_t *guarded, double *saved, struct kvt_err *err);

/* What is lost under shares (L, G) in millionths, mean over rows; NULL: share `all` in each cell. */
double kvt_heads_lost(const struct kvt_heads_set *set, const int64_t *share, int64_t all);
/* Shares (L, G), in steps of half a percent, with the mean of `all` or less, that lose least. Of equal ones those that hold less. */
int kvt_heads_share(const struct kvt_heads_set *set, int64_t all, int64_t *out, struct kvt_err *err);

#endif
