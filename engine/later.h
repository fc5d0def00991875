/* Results of the backend that leave it while it works: at once where that is as good (memory that is the host's own). */
#ifndef KVT_ENGINE_LATER_H
#define KVT_ENGINE_LATER_H

#include <stdlib.h>

#include "base/mem.h"
#include "kernels/ops.h"

/* Host memory that kvt_later_read may write to. */
static inline void *kvt_later_alloc(const struct kvt_ops *ops, struct kvt_dev *dev, size_t bytes)
{
    return ops->alloc_host ? ops->alloc_host(dev, bytes) : kvt_calloc(bytes ? bytes : 1, 1);
}
static inline void kvt_later_free(const struct kvt_ops *ops, struct kvt_dev *dev, void *p)
{
    if (ops->free_host)
        ops->free_host(dev, p);
    else
        free(p);
}
/* It is there when kvt_later_settle has returned; src isn't written before. */
static inline int kvt_later_read(const struct kvt_ops *ops, struct kvt_dev *dev, void *host_dst, const void *src, size_t bytes)
{
    return ops->read_later ? ops->read_later(dev, host_dst, src, bytes) : ops->read(dev, host_dst, src, bytes);
}
static inline int kvt_later_settle(const struct kvt_ops *ops, struct kvt_dev *dev) { return ops->settle ? ops->settle(dev) : 0; }

#endif
