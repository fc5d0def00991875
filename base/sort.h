/* Sorting many floats: by digits, because a trace has tens of thousands of values in thousands of rows. */
#ifndef KVT_BASE_SORT_H
#define KVT_BASE_SORT_H

#include <stdint.h>

/* v (n), the largest first, into out (2 n: the second half is work space). */
void kvt_sort_falling(const float *v, int n, float *out);
/* Their indices in that order, equal values by index, what isn't a number counted as -inf. out (n), work (3 n). */
void kvt_order_falling(const float *v, int n, int32_t *out, uint32_t *work);

#endif
