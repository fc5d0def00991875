/* The nearest of some known names: what "unknown X; did you mean Y?" needs. */
#ifndef KVT_BASE_NEAREST_H
#define KVT_BASE_NEAREST_H

/* The entry of list (n names; NULL entries are skipped) closest to name by edit distance (a swap of neighbours counts
 * one), the first among equals; NULL when none is near enough to be a likely typing mistake. */
const char *kvt_nearest(const char *name, const char *const *list, int n);

#endif
