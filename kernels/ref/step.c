/* step: what eviction needs while tokens come, as defined in kernels/ops.h. */
#include <assert.h>
#include <math.h>

#include "kernels/pages.h"
#include "kernels/ref/ref.h"

int kvt_ref_accumulate(struct kvt_dev *dev, const struct kvt_accumulate_args *a)
{
    (void)dev;
    assert(a->H % a->G == 0);
    int m = a->H / a->G;
    for (int g = 0; g < a->G; g++) {
        assert(a->held[g] <= a->n[g] && a->n[g] <= a->ld && a->n[g] <= a->row_ld);
        for (int j = 0; j < a->n[g]; j++) {
            double sum = 0, most = -INFINITY;
            for (int h = g * m; h < (g + 1) * m; h++) {
                double x = a->row[(size_t)h * (size_t)a->row_ld + (size_t)j];
                x = a->square ? x * x : x;
                sum += x;
                most = x > most ? x : most;
            }
            double got = a->how == KVT_GROUP_MAX ? most : a->how == KVT_GROUP_MEAN ? sum / m : sum;
            float *state = a->state + (size_t)g * (size_t)a->ld + (size_t)j;
            *state = (float)((j < a->held[g] ? (double)*state : 0) + got);
        }
    }
    return 0;
}

/* Whether x is worth more than y: NaN is worth less than anything, and nothing to itself. */
static bool higher(float x, float y) { return !isnan(x) && (isnan(y) || x > y); }

int kvt_ref_contest(struct kvt_dev *dev, const struct kvt_contest_args *a)
{
    int32_t *here = kvt_dev_scratch(dev, (size_t)a->ld * 2 * sizeof *here);
    if (!here)
        return KVT_ENOMEM;
    int32_t *coming = here + a->ld;
    for (int r = 0; r < a->R; r++) {
        size_t row = (size_t)r * (size_t)a->ld;
        const float *score = a->score + row;
        const int32_t *pos = a->pos ? a->pos + row : NULL;
        int n = a->n[r], room = a->budget[r], m = 0, held = 0, n_left = 0;
        assert(n >= 0 && n <= a->ld && a->turn[r] >= 0);
        for (int i = 0; i < n; i++) { /* unprotected slots in order of position */
            if (a->protect && a->protect[row + (size_t)i]) {
                room--;
                continue;
            }
            int at = m++;
            for (; at > 0 && pos && pos[coming[at - 1]] > pos[i]; at--)
                coming[at] = coming[at - 1];
            coming[at] = i;
        }
        for (int i = 0; i < m; i++) {
            here[held++] = coming[i];
            if (held <= room)
                continue;
            int turn = room < 1 ? 0 : a->turn[r] < room ? a->turn[r] : 0, out = turn;
            if (room >= 1) {
                out = higher(score[here[turn]], score[here[turn + 1]]) ? turn + 1 : turn;
                a->turn[r] = (turn + 1) % room;
            }
            for (held--; out < held; out++)
                here[out] = here[out + 1];
        }
        for (int i = n - 1; i >= 0; i--) {
            bool stays = a->protect && a->protect[row + (size_t)i];
            for (int j = 0; j < held; j++)
                stays |= here[j] == i;
            if (a->stay)
                a->stay[row + (size_t)i] = stays;
            if (!stays && a->left)
                a->left[row + (size_t)n_left] = i;
            n_left += !stays;
        }
        if (a->n_left)
            a->n_left[r] = n_left;
    }
    return 0;
}

/* What slot j of cell g is worth; the row is among the sums already. */
static double worth(const struct kvt_evict_one_args *a, int g, int j, int32_t at)
{
    int m = a->H / a->cache->o.G;
    double sum = 0, most = -INFINITY;
    if (a->state)
        return a->state[(size_t)g * (size_t)a->ld + (size_t)j];
    if (!a->row)
        return at;
    for (int h = g * m; h < (g + 1) * m; h++) {
        double x = a->row[(size_t)h * (size_t)a->row_ld + (size_t)j];
        x = a->square ? x * x : x;
        sum += x;
        most = x > most ? x : most;
    }
    return a->how == KVT_GROUP_MAX ? most : a->how == KVT_GROUP_MEAN ? sum / m : sum;
}

/* The slot of cell g that leaves (of all cells, where they share); -1: none. score: (n) */
static int leaver(const struct kvt_evict_one_args *a, int g, float *score)
{
    const struct kvt_cache *c = a->cache;
    const struct kvt_cell *cell = kvt_cell_at(c, a->branch, a->layer, g);
    int n = cell->n, m = 0, out = -1;
    assert(n <= a->budget[g] + 1);
    if (n <= a->budget[g])
        return -1;
#define POS(j) kvt_page_pos(c, cell->page[(j) / KVT_PAGE_SLOTS])[(j) % KVT_PAGE_SLOTS]
#define FREE(j) (POS(j) >= a->sinks && POS(j) <= a->pos - a->recent[g])
    for (int j = 0; j < n; j++) {
        double x = 0;
        for (int i = g; i < (a->shared ? c->o.G : g + 1); i++)
            x += worth(a, i, j, POS(j));
        score[j] = (float)x;
        if (a->visible_mean)
            score[j] /= (float)(a->pos - POS(j) + 1);
        m += FREE(j);
    }
    if (!a->turn || m < 2) {
        for (int j = 0; j < n; j++)
            if (FREE(j) && (out < 0 || higher(score[out], score[j]) || (!higher(score[j], score[out]) && POS(j) > POS(out))))
                out = j;
        return out;
    }
    int room = m - 1, turn = a->turn[g] < room ? a->turn[g] : 0, two[2] = {0, 0};
    for (int j = 0; j < n; j++) {
        int rank = 0;
        for (int i = 0; i < n; i++)
            rank += FREE(i) && POS(i) < POS(j);
        if (FREE(j) && (rank == turn || rank == turn + 1))
            two[rank - turn] = j;
    }
    a->turn[g] = (turn + 1) % room;
    return higher(score[two[0]], score[two[1]]) ? two[1] : two[0];
#undef POS
#undef FREE
}

int kvt_ref_evict_one(struct kvt_dev *dev, const struct kvt_evict_one_args *a)
{
    const struct kvt_cache *c = a->cache;
    int G = c->o.G;
    int32_t *held = kvt_dev_scratch(dev, ((size_t)G * 4 + (size_t)c->o.max_slots) * sizeof *held);
    if (!held)
        return KVT_ENOMEM;
    int32_t *n = held + G, *slot = n + G, *count = slot + G;
    assert(!a->state || a->row);
    for (int g = 0; g < G; g++) {
        n[g] = kvt_cell_at(c, a->branch, a->layer, g)->n;
        held[g] = n[g] - a->added;
    }
    if (a->state)
        kvt_ref_accumulate(dev, &(struct kvt_accumulate_args){.row = a->row, .state = a->state, .held = held, .n = n, .H = a->H, .G = G,
                                                              .row_ld = a->row_ld, .ld = a->ld, .how = a->how, .square = a->square});
    for (int g = 0; g < G; g++) {
        slot[g] = a->shared && g ? slot[0] : leaver(a, g, (float *)(count + G));
        count[g] = slot[g] >= 0;
        const struct kvt_cell *cell = kvt_cell_at(c, a->branch, a->layer, g);
        a->left[g] = count[g] ? kvt_page_pos(c, cell->page[slot[g] / KVT_PAGE_SLOTS])[slot[g] % KVT_PAGE_SLOTS] : -1;
    }
    return kvt_ref_cache_remove(dev, &(struct kvt_remove_args){.cache = a->cache, .branch = a->branch, .layer = a->layer, .slot = slot, .count = count,
                                                               .ld = 1, .state = a->state, .state_ld = a->ld});
}

int kvt_ref_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a) { return kvt_host_topk_within(dev, a, kvt_ref_topk); }
