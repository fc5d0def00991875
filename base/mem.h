/* Checked sizes and zeroed memory. A size that overflows is KVT_ENOMEM at the caller, never a wrap. */
#ifndef KVT_BASE_MEM_H
#define KVT_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

/* *out = a * b; false on overflow (then *out is untouched). */
bool kvt_mul_size(size_t a, size_t b, size_t *out);
/* *out = a + b; false on overflow. */
bool kvt_add_size(size_t a, size_t b, size_t *out);

/* count * size zeroed bytes, 64-byte aligned; NULL on overflow or no memory. Released by free(). */
void *kvt_calloc(size_t count, size_t size);

/* The same, for what is read through at every step: in huge pages where the system gives them on request (Linux) and bytes are whole
 * ones, because a walk through 4 KB pages waits for their addresses. */
enum { KVT_HUGE_BYTES = 2 << 20 };
void *kvt_calloc_huge(size_t bytes);

#endif
