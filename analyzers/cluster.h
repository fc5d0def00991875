/* Who goes with whom: average linkage over a table of likeness. */
#ifndef KVT_ANALYZERS_CLUSTER_H
#define KVT_ANALYZERS_CLUSTER_H

#include "kvt/kvt.h"

/* A step: groups left and right (below n: a thing by itself; n + i: what step i made) join at this mean likeness of their pairs. */
struct kvt_join { int left, right; double at; };

/* like (n, n) is symmetric; NaN, not comparable, counts as 0 (chance). out (n - 1), best first; equal ones join in order of numbers.
 * order (n) or NULL: the things as the leaves of the tree. */
int kvt_cluster(const double *like, int n, struct kvt_join *out, int *order, struct kvt_err *err);

#endif
