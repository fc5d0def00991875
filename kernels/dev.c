/* The opened host device: its scratch, its error text, and its memory, which is the process's own. */
#include "kernels/dev.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int kvt_dev_new(struct kvt_dev **out, const char *what, int threads, enum kvt_simd simd, struct kvt_err *err)
{
    struct kvt_dev *dev = calloc(1, sizeof *dev);
    *out = dev;
    if (!dev)
        return kvt_fail(err, KVT_ENOMEM, "device: no memory for %zu bytes", sizeof *dev);
    dev->threads = threads;
    dev->simd = simd;
    snprintf(dev->what, sizeof dev->what, "%s", what);
    return 0;
}

void kvt_dev_close(struct kvt_dev **dev)
{
    if (!dev || !*dev)
        return;
    free((*dev)->scratch);
    free(*dev);
    *dev = NULL;
}

const char *kvt_dev_describe(struct kvt_dev *dev) { return dev->what; }

const char *kvt_dev_error(const struct kvt_dev *dev) { return dev->err.text; }

void *kvt_dev_scratch(struct kvt_dev *dev, size_t bytes)
{
    if (bytes <= dev->scratch_bytes)
        return dev->scratch;
    free(dev->scratch); /* contents are nobody's between calls, so there is nothing to move */
    dev->scratch_bytes = 0;
    dev->scratch = kvt_calloc(bytes, 1);
    if (!dev->scratch) {
        kvt_fail(&dev->err, KVT_ENOMEM, "scratch: no memory for %zu bytes; use a shorter prompt or fewer branches", bytes);
        return NULL;
    }
    dev->scratch_bytes = bytes;
    return dev->scratch;
}

void *kvt_host_alloc(struct kvt_dev *dev, size_t bytes)
{
    void *p = kvt_calloc(bytes ? bytes : 1, 1);
    if (!p)
        kvt_fail(&dev->err, KVT_ENOMEM, "device memory: no memory for %zu bytes", bytes);
    return p;
}

void kvt_host_free(struct kvt_dev *dev, void *p)
{
    (void)dev;
    free(p);
}

int kvt_host_copy(struct kvt_dev *dev, void *dst, const void *src, size_t bytes)
{
    (void)dev;
    if (bytes)
        memmove(dst, src, bytes);
    return 0;
}

int kvt_host_zero(struct kvt_dev *dev, void *dst, size_t bytes)
{
    (void)dev;
    if (bytes)
        memset(dst, 0, bytes);
    return 0;
}

int kvt_host_weights(struct kvt_dev *dev, struct kvt_mat *mat)
{
    (void)dev;
    (void)mat; /* used where it lies */
    return 0;
}

int kvt_host_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a,
                         int (*topk)(struct kvt_dev *dev, const struct kvt_topk_args *a))
{
    int rc = 0;
    for (int r = 0; !rc && r < a->R; r++) {
        size_t row = (size_t)r * (size_t)a->ld;
        int n = a->n[r], kept = 0;
        for (int i = 0; i < n && i < a->from; i++) {
            a->kept[row + (size_t)kept++] = i;
            if (a->reason)
                a->reason[row + (size_t)i] = a->protect && a->protect[row + (size_t)i] ? a->protect[row + (size_t)i] : KVT_KEPT_ALL;
        }
        for (int at = a->from; !rc && at < n; at += a->within) {
            int32_t m = n - at < a->within ? n - at : a->within, count = 0;
            int32_t budget = (int32_t)(m * a->num / a->den);
            budget = budget < 1 ? 1 : budget;
            size_t first = row + (size_t)at;
            struct kvt_topk_args one = {.score = a->score + first, .protect = a->protect ? a->protect + first : NULL, .budget = &budget,
                                        .n = &m, .R = 1, .ld = m, .kept = a->kept + row + kept, .n_kept = &count,
                                        .reason = a->reason ? a->reason + first : NULL};
            rc = topk(dev, &one);
            for (int i = 0; i < count; i++)
                a->kept[row + (size_t)kept++] += at;
        }
        if (a->reason)
            memset(a->reason + row + n, KVT_REASON_NONE, (size_t)(a->ld - n));
        a->n_kept[r] = kept;
    }
    return rc;
}
