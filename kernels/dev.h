/* What the two host backends (ref, cpu) share: the opened device and its scratch memory. */
#ifndef KVT_KERNELS_DEV_H
#define KVT_KERNELS_DEV_H

#include "kernels/ops.h"

/* Instruction sets that the cpu backend may use, found at open. KVT_SIMD_MASK semantics: a kernel picks the
 * highest level in dev->simd; kerncheck opens one device per level to judge each. */
enum kvt_simd { KVT_SIMD_NONE = 0, KVT_SIMD_AVX2 = 1, KVT_SIMD_AVX512 = 2, KVT_SIMD_AVX512_BF16 = 3, KVT_SIMD_AVX512_FP16 = 4 };

struct kvt_dev {
    struct kvt_err err;
    int threads;
    enum kvt_simd simd;
    char what[96];           /* "cpu, 2 threads, avx512+bf16" */
    uint64_t beyond_f16;     /* sums that were too large for f16 */
    void *scratch;           /* grows to the largest request, then stays: no allocation inside a warm step */
    size_t scratch_bytes;
};

/* At least `bytes` of 64-byte aligned scratch, contents undefined, valid until the next call on this device.
 * NULL: no memory (and the error text is set). One user at a time: an operation asks once. */
void *kvt_dev_scratch(struct kvt_dev *dev, size_t bytes);

/* The highest level this machine has. */
enum kvt_simd kvt_simd_here(void);

/* Opens the cpu backend limited to a level (kerncheck); threads as in kvt_dev_opts. */
int kvt_cpu_open_simd(struct kvt_dev **out, const struct kvt_dev_opts *opts, enum kvt_simd level, struct kvt_err *err);

/* What both host tables are made of: a device whose memory is the process's own. */
int kvt_dev_new(struct kvt_dev **out, const char *what, int threads, enum kvt_simd simd, struct kvt_err *err);
void kvt_dev_close(struct kvt_dev **dev);
const char *kvt_dev_describe(struct kvt_dev *dev);
void *kvt_host_alloc(struct kvt_dev *dev, size_t bytes);
void kvt_host_free(struct kvt_dev *dev, void *p);
int kvt_host_copy(struct kvt_dev *dev, void *dst, const void *src, size_t bytes);
int kvt_host_zero(struct kvt_dev *dev, void *dst, size_t bytes);
/* topk_within over memory that is the host's: one call of the backend's topk for each stretch. */
int kvt_host_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a,
                         int (*topk)(struct kvt_dev *dev, const struct kvt_topk_args *a));
int kvt_host_weights(struct kvt_dev *dev, struct kvt_mat *mat);

#endif
