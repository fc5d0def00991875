/* What a vector level provides for evict_one. */
#ifndef KVT_KERNELS_CPU_EVICT_ONE_H
#define KVT_KERNELS_CPU_EVICT_ONE_H

#include "kernels/dev.h"

/* Adds the row to the sums of cells [g, last), which hold the same positions in the same slots, and finds the slot that leaves
 * them; -1: none. at: (n to a whole page) its memory. */
typedef int kvt_leaver_fn(const struct kvt_evict_one_args *a, int g, int last, int32_t *at);
struct kvt_step_kernel {
    kvt_leaver_fn *leaver;
};
extern const struct kvt_step_kernel kvt_step_plain;
#if defined(__x86_64__)
extern const struct kvt_step_kernel kvt_step_avx2, kvt_step_avx512;
#endif

#endif
