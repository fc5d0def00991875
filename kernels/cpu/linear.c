/* linear: who computes what. Weights stay in their blocks in the mapped file; a thread decodes a panel of some
 * outputs into its scratch, multiplies it with all rows, and goes on. With few rows the blocks are decoded in
 * registers. How the sums are done is the business of a vector level, see linear.h. */
#include <assert.h>
#include <math.h>
#include <omp.h>

#include "base/half.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/linear.h"

enum {
    PANEL_OUTPUTS = 32, /* decoded at once: 32 x 576 bf16 is 37 KB, read from L2 while a tile's rows stay in L1 */
    TILE_BYTES = 20 << 10,   /* of a tile's rows that L1 (32 KB) can keep */
    BLOCK_BYTES = 384 << 10, /* of rows that L2 (1 MB, beside the panel) can keep */
    PASS_BYTES = 768 << 10,  /* of rows that all panels are multiplied with before the next such rows, so that they come from L2 */
    FEW_OUTPUTS = 48    /* of one piece of work with few rows: 4 pieces of the narrowest matrix here */
};

static const struct kvt_linear_kernel *kernel_of(enum kvt_simd level, enum kvt_compute compute)
{
#if defined(__x86_64__)
#ifdef KVT_FP16
    if (level >= KVT_SIMD_AVX512_FP16 && compute == KVT_COMPUTE_F16)
        return &kvt_linear_avx512_f16;
#endif
    if (level >= KVT_SIMD_AVX512_BF16 && compute == KVT_COMPUTE_BF16)
        return &kvt_linear_avx512_bf16;
    if (level >= KVT_SIMD_AVX512)
        return &kvt_linear_avx512;
    if (level >= KVT_SIMD_AVX2)
        return &kvt_linear_avx2;
#endif
    (void)level;
    (void)compute;
    return &kvt_linear_plain;
}

/* What a level without instructions for bf16 or f16 multiplies in f32 is rounded as they would round it. */
static void round_to(enum kvt_compute compute, float scale, float *x, int n)
{
    for (int i = 0; i < n && compute == KVT_COMPUTE_BF16; i++)
        x[i] = kvt_f32_from_bf16(kvt_bf16_from_f32(x[i]));
    for (int i = 0; i < n && compute == KVT_COMPUTE_F16; i++)
        if (fabsf(x[i] * scale) < KVT_F16_END)
            x[i] = kvt_f32_from_f16(kvt_f16_from_f32(x[i] * scale)) / scale;
}

struct job {
    const struct kvt_linear_args *a;
    const struct kvt_linear_kernel *kernel;
    uint64_t *beyond_f16;
    bool round;
    int Kp;
    size_t row_bytes;    /* of weights */
    size_t packed_bytes; /* of a row of Kp packed values */
    size_t act_bytes;    /* of a packed row of activations */
    int tile_cols;
    int pass;            /* rows of a pass */
    char *act;           /* (T, Kp) to be packed, or NULL: the input already is */
    const char *in;      /* (T, Kp) packed */
};

static void pack_row(const struct job *j, int t)
{
    void *act = j->act + (size_t)t * j->act_bytes;
    const float *in = j->a->in + (size_t)t * (size_t)j->a->w.k;
    j->kernel->pack(j->a->w.type, in, j->a->w.k, j->Kp, act);
    if (j->round)
        round_to(j->a->compute, kvt_f16_scale(kvt_largest(in, j->a->w.k)), act, j->Kp);
}

static struct kvt_tile tile_at(const struct job *j, int t, int rows, int n, int cols)
{
    const struct kvt_linear_args *a = j->a;
    return (struct kvt_tile){
        .act = j->in + (size_t)t * j->act_bytes,
        .rows = rows, .K = a->w.k, .Kp = j->Kp, .cols = cols,
        .out = a->out + (size_t)t * (size_t)a->w.n + n, .ld = (size_t)a->w.n,
        .bias = a->bias ? a->bias + n : NULL,
        .accumulate = a->accumulate,
        .type = a->w.type, .in = a->in + (size_t)t * (size_t)a->w.k, .blocks = (const uint8_t *)a->w.data + (size_t)n * j->row_bytes,
        .row_bytes = j->row_bytes, .beyond_f16 = j->beyond_f16,
    };
}

/* Blocks that a thread will decode next, asked for while it multiplies: a few lines with each tile. */
struct ahead { const char *at, *end; size_t step; };

static void ask(struct ahead *h)
{
    for (size_t left = h->step; left && h->at < h->end; left--, h->at += 64)
        __builtin_prefetch(h->at, 0, 2);
}

/* Rows [t, t + rows) times outputs [n + from, n + to) of the panel, a tile's rows with all of them in turn. */
static void tiles(const struct job *j, int t, int rows, int n, int from, int to, const char *panel, struct ahead *ahead)
{
    int most = j->kernel->tile_rows;
    for (int left = (rows + most - 1) / most; left; left--) { /* spread evenly: a last tile of one row would be slow */
        int some = (rows + left - 1) / left;
        for (int c = from; c < to; c += j->tile_cols) {
            struct kvt_tile tile = tile_at(j, t, some, n + c, to - c < j->tile_cols ? to - c : j->tile_cols);
            ask(ahead);
            j->kernel->tile(&tile, panel + (size_t)c * j->packed_bytes);
        }
        t += some;
        rows -= some;
    }
}

/* Outputs [n, n + count) of rows [t0, t1), through a decoded panel (count <= PANEL_OUTPUTS). A tile's rows
 * stay in L1 while the panel passes by; where they are too wide for that, four outputs stay there and a block of rows
 * that fits L2 passes by. */
static void panel_part(const struct job *j, int t0, int t1, int n, int count, int next, char *panel)
{
    const struct kvt_mat *w = &j->a->w;
    if (!j->kernel->unpack)
        j->kernel->unpack_rows(w->type, (const uint8_t *)w->data + (size_t)n * j->row_bytes, j->row_bytes, count, w->k, j->Kp, panel);
    for (int i = 0; i < count && j->kernel->unpack; i++) {
        void *row = panel + (size_t)i * j->packed_bytes;
        j->kernel->unpack(w->type, (const uint8_t *)w->data + (size_t)(n + i) * j->row_bytes, w->k, j->Kp, row);
        if (j->round)
            round_to(j->a->compute, 1, row, j->Kp);
    }
    bool wide = (size_t)j->kernel->tile_rows * j->act_bytes > TILE_BYTES;
    int block = wide ? (int)(BLOCK_BYTES / j->act_bytes) + 1 : t1 - t0;
    struct ahead ahead = {0};
    if (next < w->n) {
        size_t calls = (size_t)((t1 - t0 + j->kernel->tile_rows - 1) / j->kernel->tile_rows) * (size_t)((count + j->tile_cols - 1) / j->tile_cols);
        size_t bytes = (size_t)(w->n - next < PANEL_OUTPUTS ? w->n - next : PANEL_OUTPUTS) * j->row_bytes;
        ahead.at = (const char *)w->data + (size_t)next * j->row_bytes;
        ahead.end = ahead.at + bytes;
        ahead.step = bytes / 64 / calls + 1;
    }
    for (int t = t0; t < t1; t += block) {
        int rows = t1 - t < block ? t1 - t : block;
        for (int c = 0; wide && c < count; c += j->tile_cols)
            tiles(j, t, rows, n, c, c + j->tile_cols < count ? c + j->tile_cols : count, panel, &ahead);
        if (!wide)
            tiles(j, t, rows, n, 0, count, panel, &ahead);
    }
}

static void few_part(const struct job *j, int n, int count)
{
    struct kvt_tile tile = tile_at(j, 0, j->a->T, n, count);
    j->kernel->few(&tile, j->a->w.type, (const uint8_t *)j->a->w.data + (size_t)n * j->row_bytes, j->row_bytes);
}

int kvt_cpu_linear(struct kvt_dev *dev, const struct kvt_linear_args *a)
{
    int N = a->w.n, K = a->w.k, T = a->T;
    assert(N > 0 && K > 0 && T >= 0 && K % kvt_dtypes[a->w.type].block_values == 0);
    if (!T)
        return 0;
    struct job j = {.a = a, .kernel = kernel_of(dev->simd, a->compute), .beyond_f16 = &dev->beyond_f16, .Kp = (K + 31) & ~31};
    j.round = a->compute != KVT_COMPUTE_F32 && j.kernel->value_bytes == sizeof(float);
    j.tile_cols = j.kernel->tile_cols ? j.kernel->tile_cols : KVT_TILE_COLS;
    j.row_bytes = kvt_row_bytes(a->w.type, (size_t)K);
    j.packed_bytes = ((size_t)j.Kp * j.kernel->value_bytes + 63) & ~(size_t)63;
    j.act_bytes = j.packed_bytes + j.kernel->tail_bytes;
    /* f32 rows that already are as a kernel wants them are used where they lie */
    bool packed = j.kernel->value_bytes == sizeof(float) && !j.round && j.Kp == K && (uintptr_t)a->in % 64 == 0;
    size_t act_bytes = packed ? 0 : (size_t)T * j.act_bytes, panel_bytes = PANEL_OUTPUTS * j.packed_bytes;
    bool few = T <= j.kernel->few_rows && !j.round && !(j.kernel->few_blocks && kvt_dtypes[a->w.type].block_values == 1);
    char *scratch = kvt_dev_scratch(dev, act_bytes + (few ? 0 : (size_t)dev->threads * panel_bytes) + 1);
    if (!scratch)
        return KVT_ENOMEM;
    j.act = packed ? NULL : scratch;
    j.in = packed ? (const char *)a->in : scratch;
    if (few) {
        for (int t = 0; j.act && t < T; t++)
            pack_row(&j, t);
        int parts = (N + FEW_OUTPUTS - 1) / FEW_OUTPUTS;
        #pragma omp parallel for num_threads(dev->threads) schedule(static)
        for (int i = 0; i < parts; i++)
            few_part(&j, i * FEW_OUTPUTS, N - i * FEW_OUTPUTS < FEW_OUTPUTS ? N - i * FEW_OUTPUTS : FEW_OUTPUTS);
        return 0;
    }
    int parts = (N + PANEL_OUTPUTS - 1) / PANEL_OUTPUTS, passes = (int)((size_t)T * j.act_bytes / PASS_BYTES) + 1;
    j.pass = (T + passes - 1) / passes;
    if (passes > 1) /* whole tiles */
        j.pass = (j.pass + j.kernel->tile_rows - 1) / j.kernel->tile_rows * j.kernel->tile_rows;
    #pragma omp parallel num_threads(dev->threads)
    {
        char *panel = scratch + act_bytes + (size_t)omp_get_thread_num() * panel_bytes;
        if (j.act) { /* the same for all threads, so the barrier in it is met by all or none */
            #pragma omp for schedule(static)
            for (int t = 0; t < T; t++)
                pack_row(&j, t);
        }
        #pragma omp for schedule(dynamic)
        for (int i = 0; i < parts * passes; i++) {
            int n = i % parts * PANEL_OUTPUTS, t = i / parts * j.pass;
            if (t < T)
                panel_part(&j, t, T - t < j.pass ? T : t + j.pass, n, N - n < PANEL_OUTPUTS ? N - n : PANEL_OUTPUTS, n + dev->threads * PANEL_OUTPUTS, panel);
        }
    }
    return 0;
}
