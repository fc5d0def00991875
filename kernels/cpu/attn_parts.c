/* attn by parts: rows of any branches (decode, a question fed again), one parallel region a call.
 *
 * Each (row, kv head) is cut into parts of KVT_PART_SLOTS slots. A part leaves its own maximum, sum and weighted sum of V;
 * then each row joins its parts in order. Threads take runs of parts of about the same number of slots. */
#include "kernels/cpu/attn.h"

#include <math.h>
#include <omp.h>
#include <string.h>

struct plan {
    const struct kvt_attn_kernel *kernel;
    const struct kvt_attn_args *a;
    int heads, D, Dp;        /* query heads of a kv head */
    int n_cells, n_parts;
    int *first;              /* (T G + 1) first part of each (row, kv head) */
    int64_t *before;         /* (n_parts + 1) slots of all parts before */
    float *max, *sum;        /* (n_parts, heads) */
    float *acc;              /* (n_parts, heads, Dp) */
    int words;               /* of the bitmap of positions, a multiple of 16; 0 where nobody renumbers */
    int most;                /* slots of the longest renumbered cell, to a whole page */
    char *mine;              /* (threads) blocks of thread_bytes */
    size_t thread_bytes;
};

/* ---- the work of one thread ---- */

/* Whether the row sees any of the part's slots: what left a window costs no reading of keys. */
static bool any_seen(const struct kvt_attn_part *x)
{
    if (x->after < 0)
        return true;
    for (int j = x->slot0; j < x->slot1; j++) {
        int32_t at = kvt_page_pos(x->c, x->cell->page[j / KVT_PAGE_SLOTS])[j % KVT_PAGE_SLOTS];
        if (at <= x->pos && at > x->after)
            return true;
    }
    for (int h = 0; h < x->heads; h++) {
        memset(x->score + h * KVT_PART_SLOTS, 0, KVT_PART_SLOTS * sizeof *x->score);
        x->max[h] = -INFINITY;
        x->sum[h] = 0;
    }
    return false;
}

static void run_parts(const struct plan *p, int from, int to, int thread)
{
    const struct kvt_attn_args *a = p->a;
    const struct kvt_cache *c = a->cache;
    int G = c->o.G;
    uint64_t *bits = (uint64_t *)(p->mine + (size_t)thread * p->thread_bytes);
    int32_t *below = (int32_t *)(bits + p->words), *turn = below + p->words;
    float *score = (float *)(turn + p->most), *work = score + p->heads * KVT_PART_SLOTS;
    int cell_index = 0, turned = -1;
    for (int i = from; i < to; i++) {
        while (p->first[cell_index + 1] <= i)
            cell_index++;
        int t = cell_index / G, g = cell_index % G, part = i - p->first[cell_index];
        const struct kvt_cell *cell = kvt_cell_at(c, a->branch[t], a->layer, g);
        int slot0 = part * KVT_PART_SLOTS, slot1 = cell->n < slot0 + KVT_PART_SLOTS ? cell->n : slot0 + KVT_PART_SLOTS;
        size_t head = (size_t)t * (size_t)a->H + (size_t)(g * p->heads), at = (size_t)i * (size_t)p->heads;
        struct kvt_attn_part x = {
            .c = c, .cell = cell, .q = a->q + head * (size_t)p->D, .heads = p->heads, .slot0 = slot0, .slot1 = slot1,
            .pos = a->pos[t], .after = a->window && a->window <= a->pos[t] ? a->pos[t] - a->window : -1, .scale = a->scale,
            .cap = a->cap, .score = score, .max = p->max + at, .sum = p->sum + at,
            .acc = p->acc + at * (size_t)p->Dp, .work = work,
        };
        if (slot1 < cell->n) {
            x.next = cell;
            x.next_slot = slot1;
        } else if (i + 1 < to) { /* the first cell after that isn't empty */
            int next = cell_index + 1;
            while (p->first[next + 1] == p->first[next])
                next++;
            x.next = kvt_cell_at(c, a->branch[next / G], a->layer, next % G);
        }
        if (a->renumber && a->renumber[t]) {
            if (turned != cell_index)
                p->kernel->turns(c, cell, a->pos[t], p->words, bits, below, turn);
            turned = cell_index;
            x.turn = turn + slot0;
            x.rope = &a->rope;
        }
        if (any_seen(&x))
            p->kernel->part(&x);
        const struct kvt_see *see = a->see;
        if (see && see->row && see->row_at && see->row_at[t] >= 0)
            for (int h = 0; h < p->heads; h++) {
                size_t row = (size_t)see->row_at[t] * (size_t)a->H + (size_t)(g * p->heads + h);
                memcpy(see->row + row * (size_t)see->row_ld + slot0, score + h * KVT_PART_SLOTS,
                       (size_t)(slot1 - slot0) * sizeof *score);
            }
    }
}

static void join_row(const struct plan *p, int cell_index)
{
    const struct kvt_attn_args *a = p->a;
    const struct kvt_see *see = a->see;
    int G = a->cache->o.G, t = cell_index / G, g = cell_index % G, from = p->first[cell_index], to = p->first[cell_index + 1];
    for (int h = 0; h < p->heads; h++) {
        float *out = a->out + ((size_t)t * (size_t)a->H + (size_t)(g * p->heads + h)) * (size_t)p->D;
        float max = -INFINITY, sum = 0;
        for (int i = from; i < to; i++)
            max = p->max[i * p->heads + h] > max ? p->max[i * p->heads + h] : max;
        memset(out, 0, (size_t)p->D * sizeof *out);
        for (int i = from; i < to; i++)
            if (p->sum[i * p->heads + h] > 0)
                sum += p->sum[i * p->heads + h] * expf(p->max[i * p->heads + h] - max);
        float *row = NULL;
        if (see && see->row && see->row_at && see->row_at[t] >= 0)
            row = see->row + ((size_t)see->row_at[t] * (size_t)a->H + (size_t)(g * p->heads + h)) * (size_t)see->row_ld;
        for (int i = from; i < to; i++) {
            if (!(p->sum[i * p->heads + h] > 0))
                continue; /* nothing seen here: its zeros stand */
            float w = expf(p->max[i * p->heads + h] - max) / sum;
            const float *acc = p->acc + ((size_t)i * (size_t)p->heads + (size_t)h) * (size_t)p->Dp;
            for (int d = 0; d < p->D; d++)
                out[d] += acc[d] * w;
            int64_t slots = p->before[i + 1] - p->before[i];
            for (int j = 0; row && j < slots; j++)
                row[(i - from) * KVT_PART_SLOTS + j] *= w;
        }
    }
}

int kvt_attn_by_parts(struct kvt_dev *dev, const struct kvt_attn_kernel *kernel, const struct kvt_attn_args *a)
{
    const struct kvt_cache *c = a->cache;
    struct plan p = {.kernel = kernel, .a = a, .heads = a->H / c->o.G, .D = c->o.D, .Dp = kvt_attn_dp(c->o.D)};
    p.n_cells = a->T * c->o.G;
    for (int t = 0; t < a->T; t++) {
        bool renumber = a->renumber && a->renumber[t];
        for (int g = 0; g < c->o.G; g++) {
            int n = kvt_cell_at(c, a->branch[t], a->layer, g)->n;
            p.n_parts += (n + KVT_PART_SLOTS - 1) / KVT_PART_SLOTS;
            if (renumber && p.most < n)
                p.most = (n + KVT_PAGE_SLOTS - 1) & ~(KVT_PAGE_SLOTS - 1);
        }
        if (renumber && p.words < a->pos[t] / 64 + 1)
            p.words = (a->pos[t] / 64 + 16) & ~15;
    }
    size_t P = (size_t)p.n_parts, heads = (size_t)p.heads;
    size_t head_bytes = ((size_t)p.n_cells + 1) * sizeof *p.first;
    head_bytes = (head_bytes + 63) & ~(size_t)63;
    size_t part_bytes = (P + 1) * sizeof *p.before + P * heads * (size_t)(2 + p.Dp) * sizeof(float);
    part_bytes = (part_bytes + 63) & ~(size_t)63;
    p.thread_bytes = (heads * KVT_PART_SLOTS + heads * (size_t)p.D + (size_t)p.most) * sizeof(float) +
                     (size_t)p.words * (sizeof(uint64_t) + sizeof(int32_t));
    p.thread_bytes = (p.thread_bytes + 63) & ~(size_t)63;
    char *mem = kvt_dev_scratch(dev, head_bytes + part_bytes + (size_t)dev->threads * p.thread_bytes);
    if (!mem)
        return KVT_ENOMEM;
    p.first = (int *)mem;
    p.before = (int64_t *)(mem + head_bytes);
    p.max = (float *)(p.before + P + 1);
    p.sum = p.max + P * heads;
    p.acc = p.sum + P * heads;
    p.mine = mem + head_bytes + part_bytes;
    int part = 0;
    p.before[0] = 0;
    for (int i = 0; i < p.n_cells; i++) {
        p.first[i] = part;
        int n = kvt_cell_at(c, a->branch[i / c->o.G], a->layer, i % c->o.G)->n;
        for (int s = 0; s < n; s += KVT_PART_SLOTS, part++)
            p.before[part + 1] = p.before[part] + (n - s < KVT_PART_SLOTS ? n - s : KVT_PART_SLOTS);
    }
    p.first[p.n_cells] = part;
    int64_t all = p.before[part];
    int threads = all * p.heads < 256 ? 1 : dev->threads;
#pragma omp parallel num_threads(threads)
    {
        int me = omp_get_thread_num(), of = omp_get_num_threads(), from = 0, to;
        while (from < p.n_parts && p.before[from] < all * me / of)
            from++;
        for (to = from; to < p.n_parts && p.before[to] < all * (me + 1) / of;)
            to++;
        run_parts(&p, from, to, me);
#pragma omp barrier
#pragma omp for schedule(static)
        for (int i = 0; i < p.n_cells; i++)
            join_row(&p, i);
    }
    return 0;
}
