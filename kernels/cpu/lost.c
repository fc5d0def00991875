/* lost on the cpu: one unit of work is a (branch, kv head); V is decoded once for all branches.
 *
 * A unit marks what its cell holds and goes over the row once a head; sums over D are chains in order of position at every
 * vector level, and no unit adds to what another wrote, so bits depend on neither the level nor the threads. */
#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/simd.h"
#include "kernels/pages.h"

enum { SLOTS = KVT_PAGE_SLOTS };

#define BODY static inline __attribute__((always_inline))

/* sum (D) += p[j] v[j] over the count positions listed. */
BODY void weigh_body(const int32_t *at, int count, const float *p, const float *v, size_t D, float *sum)
{
    for (int i = 0; i < count; i++) {
        const float *row = v + (size_t)at[i] * D;
        float w = p[at[i]];
        for (size_t d = 0; d < D; d++)
            sum[d] += w * row[d];
    }
}

static void weigh(const int32_t *at, int count, const float *p, const float *v, size_t D, float *sum)
{
    weigh_body(at, count, p, v, D, sum);
}
#if defined(KVT_X86)
KVT_AVX2 static void weigh_avx2(const int32_t *at, int count, const float *p, const float *v, size_t D, float *sum)
{
    weigh_body(at, count, p, v, D, sum);
}
#endif

struct work {
    const struct kvt_lost_args *a;
    void (*weigh)(const int32_t *at, int count, const float *p, const float *v, size_t D, float *sum);
    int G, heads, most;      /* most: positions of the longest cell */
    size_t D;
    float *v;                /* (G, most, D) decoded, where the local error is asked */
    double *local2;          /* (B, G) squared distance of the restricted output */
    char *mine;              /* (threads) blocks of thread_bytes */
    size_t thread_bytes;
};

static void run_unit(const struct work *w, int b, int g, char *mine)
{
    const struct kvt_lost_args *a = w->a;
    const struct kvt_cache *c = a->cache;
    const struct kvt_cell *cell = kvt_cell_at(c, a->branch[b], a->layer, g);
    int n = kvt_cell_at(c, a->from, a->layer, g)->n, count = 0;
    float *sum = (float *)mine;
    int32_t *at = (int32_t *)(sum + w->D);
    uint8_t *held = (uint8_t *)(at + w->most);
    memset(held, 0, (size_t)n);
    for (int i = 0; i < cell->n; i++) {
        int32_t pos = kvt_page_pos(c, cell->page[i / SLOTS])[i % SLOTS];
        assert(pos < n && "a branch holds what the row's own branch doesn't");
        held[pos] = 1;
    }
    for (int j = 0; j < n; j++)
        if (held[j])
            at[count++] = j;
    double local2 = 0;
    for (int i = 0; i < w->heads; i++) {
        size_t h = (size_t)(g * w->heads + i), out = (size_t)b * (size_t)a->H + h;
        const float *p = a->row + h * (size_t)a->ld;
        double part[4] = {0}; /* [2 * held + (j >= n_sink)] */
        for (int j = 0; j < n; j++)
            part[2 * held[j] + (j >= a->n_sink)] += p[j];
        double rest = part[1] + part[3], kept = part[2] + part[3];
        if (a->lost)
            a->lost[out] = (float)(part[0] + part[1]);
        if (a->lost_rest)
            a->lost_rest[out] = rest > 0 ? (float)(part[1] / rest) : 0;
        if (!a->local || count == n)
            continue;
        memset(sum, 0, w->D * sizeof *sum);
        w->weigh(at, count, p, w->v + (size_t)g * (size_t)w->most * w->D, w->D, sum);
        for (size_t d = 0; d < w->D; d++) {
            double off = (kept > 0 ? sum[d] / kept : 0) - a->out[h * w->D + d];
            local2 += off * off;
        }
    }
    w->local2[b * w->G + g] = local2;
}

static float ratio(double difference2, double norm2)
{
    return difference2 == 0 ? 0 : norm2 == 0 ? NAN : (float)sqrt(difference2 / norm2);
}

int kvt_cpu_lost(struct kvt_dev *dev, const struct kvt_lost_args *a)
{
    const struct kvt_cache *c = a->cache;
    struct work w = {.a = a, .weigh = weigh, .G = c->o.G, .heads = a->H / c->o.G, .most = 1, .D = (size_t)c->o.D};
#if defined(KVT_X86)
    if (dev->simd >= KVT_SIMD_AVX2)
        w.weigh = weigh_avx2;
#endif
    for (int g = 0; g < w.G; g++) {
        int n = kvt_cell_at(c, a->from, a->layer, g)->n;
        w.most = n > w.most ? n : w.most;
    }
    assert(w.most <= a->ld && a->H % w.G == 0);
    size_t units = (size_t)a->B * (size_t)w.G, values = a->local ? (size_t)w.G * (size_t)w.most * w.D : 0;
    w.thread_bytes = (w.D * sizeof(float) + (size_t)w.most * (sizeof(int32_t) + 1) + 63) & ~(size_t)63;
    char *mem = kvt_dev_scratch(dev, units * sizeof(double) + values * sizeof(float) + (size_t)dev->threads * w.thread_bytes + 64);
    if (!mem)
        return KVT_ENOMEM;
    w.mine = mem;
    w.local2 = (double *)(mem + (size_t)dev->threads * w.thread_bytes);
    w.v = (float *)(w.local2 + units);
    size_t HD = (size_t)a->H * w.D;
    double norm2 = 0;
    for (size_t i = 0; a->out && i < HD; i++)
        norm2 += (double)a->out[i] * a->out[i];
#pragma omp parallel num_threads(dev->threads)
    {
#pragma omp for schedule(static)
        for (int i = 0; i < (a->local ? w.G * w.most : 0); i++) {
            const struct kvt_cell *full = kvt_cell_at(c, a->from, a->layer, i / w.most);
            int j = i % w.most;
            if (j < full->n)
                kvt_pages_decode(c, kvt_page_v(c, full->page[j / SLOTS]), (size_t)(j % SLOTS) * w.D, 1, c->o.D, w.v + (size_t)i * w.D);
        }
#pragma omp for schedule(dynamic, 1)
        for (int i = 0; i < (int)units; i++)
            run_unit(&w, i / w.G, i % w.G, w.mine + (size_t)omp_get_thread_num() * w.thread_bytes);
    }
    for (int b = 0; b < a->B; b++) {
        double local2 = 0, own2 = 0;
        for (int g = 0; g < w.G; g++)
            local2 += w.local2[b * w.G + g];
        if (a->local)
            a->local[b] = ratio(local2, norm2);
        for (size_t i = 0; a->propagated && i < HD; i++) {
            double off = (double)a->own[b][i] - a->out[i];
            own2 += off * off;
        }
        if (a->propagated)
            a->propagated[b] = ratio(own2, norm2);
    }
    return 0;
}
