/* Checked sizes and zeroed memory. */
#if defined(__linux__)
#define _DEFAULT_SOURCE /* madvise, which POSIX lacks */
#include <sys/mman.h>
#endif
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

bool kvt_mul_size(size_t a, size_t b, size_t *out)
{
    if (b && a > SIZE_MAX / b)
        return false;
    *out = a * b;
    return true;
}

bool kvt_add_size(size_t a, size_t b, size_t *out)
{
    if (a > SIZE_MAX - b)
        return false;
    *out = a + b;
    return true;
}

void *kvt_calloc(size_t count, size_t size)
{
    size_t bytes, padded;
    if (!kvt_mul_size(count, size, &bytes) || !kvt_add_size(bytes, 63, &padded))
        return NULL;
    padded &= ~(size_t)63;
    if (!padded)
        padded = 64;
    void *p = aligned_alloc(64, padded);
    if (p)
        memset(p, 0, padded);
    return p;
}

void *kvt_calloc_huge(size_t bytes)
{
    if (!bytes || bytes % KVT_HUGE_BYTES)
        return kvt_calloc(bytes, 1);
    void *p = aligned_alloc(KVT_HUGE_BYTES, bytes);
#if defined(MADV_HUGEPAGE)
    if (p)
        madvise(p, bytes, MADV_HUGEPAGE); /* a hint: refused, the pages are small */
#endif
    if (p)
        memset(p, 0, bytes);
    return p;
}
