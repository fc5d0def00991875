/* The cpu backend: opening it at the machine's best instruction set, or at a lower one to judge it. */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"

#include <assert.h>
#include <omp.h>
#include <stdio.h>

static const char *const level_name[] = {"plain C", "avx2", "avx512", "avx512+bf16", "avx512+bf16+f16"};

enum kvt_simd kvt_simd_here(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) /* such a machine has F16C too */
        return KVT_SIMD_NONE;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return KVT_SIMD_AVX2;
    if (!__builtin_cpu_supports("avx512bf16"))
        return KVT_SIMD_AVX512;
#ifdef KVT_FP16
    if (__builtin_cpu_supports("avx512fp16"))
        return KVT_SIMD_AVX512_FP16;
#endif
    return KVT_SIMD_AVX512_BF16;
#else
    return KVT_SIMD_NONE;
#endif
}

int kvt_cpu_open_simd(struct kvt_dev **out, const struct kvt_dev_opts *opts, enum kvt_simd level, struct kvt_err *err)
{
    assert(level <= kvt_simd_here());
    int threads = opts && opts->threads > 0 ? opts->threads : omp_get_num_procs();
    char what[96];
    snprintf(what, sizeof what, "cpu, %d thread%s, %s", threads, threads == 1 ? "" : "s", level_name[level]);
    return kvt_dev_new(out, what, threads, level, err);
}

static int cpu_open(struct kvt_dev **out, const struct kvt_dev_opts *opts, struct kvt_err *err)
{
    return kvt_cpu_open_simd(out, opts, kvt_simd_here(), err);
}

static bool cpu_can_compute(struct kvt_dev *dev, enum kvt_compute compute)
{
    return compute == KVT_COMPUTE_F32 || dev->simd >= (compute == KVT_COMPUTE_F16 ? KVT_SIMD_AVX512_FP16 : KVT_SIMD_AVX512_BF16);
}

static uint64_t cpu_beyond_f16(struct kvt_dev *dev) { return dev->beyond_f16; }

const struct kvt_ops kvt_ops_cpu = {
    .name = "cpu",
    .run = 512,
    .open = cpu_open,
    .close = kvt_dev_close,
    .describe = kvt_dev_describe,
    .can_compute = cpu_can_compute,
    .beyond_f16 = cpu_beyond_f16,
    .alloc = kvt_host_alloc,
    .free = kvt_host_free,
    .write = kvt_host_copy,
    .read = kvt_host_copy,
    .zero = kvt_host_zero,
    .copy = kvt_host_copy,
    .weights = kvt_host_weights,

    .embed = kvt_cpu_embed,
    .norm = kvt_cpu_norm,
    .rotate = kvt_cpu_rotate,
    .glu = kvt_cpu_glu,
    .add = kvt_cpu_add,
    .scale = kvt_cpu_scale,
    .logit_stats = kvt_cpu_logit_stats,

    .linear = kvt_cpu_linear,

    .cache_open = kvt_cpu_cache_open,
    .cache_close = kvt_cpu_cache_close,
    .cache_append = kvt_cpu_cache_append,
    .cache_keep = kvt_cpu_cache_keep,
    .cache_remove = kvt_cpu_cache_remove,
    .cache_fork = kvt_cpu_cache_fork,
    .cache_drop = kvt_cpu_cache_drop,
    .cache_positions = kvt_cpu_cache_positions,
    .cache_lengths = kvt_cpu_cache_lengths,
    .cache_bytes = kvt_cpu_cache_bytes,
    .cache_peek = kvt_cpu_cache_peek,
    .group = kvt_cpu_group,
    .pool = kvt_cpu_pool,
    .combine = kvt_cpu_combine,
    .segment_mean = kvt_cpu_segment_mean,
    .topk = kvt_cpu_topk,
    .pick_units = kvt_cpu_pick_units,
    .divide = kvt_cpu_divide,
    .weigh = kvt_cpu_weigh,

    .norms = kvt_cpu_norms,
    .keydiff = kvt_cpu_keydiff,
    .lag = kvt_cpu_lag,
    .out_norms = kvt_cpu_out_norms,
    .query_stats = kvt_cpu_query_stats,
    .expected = kvt_cpu_expected,

    .accumulate = kvt_cpu_accumulate,
    .contest = kvt_cpu_contest,
    .evict_one = kvt_cpu_evict_one,
    .topk_within = kvt_cpu_topk_within,
    .reduce_row = kvt_cpu_reduce_row,
    .attn = kvt_cpu_attn,
    .row_sums = kvt_cpu_row_sums,
    .lost = kvt_cpu_lost,
};
