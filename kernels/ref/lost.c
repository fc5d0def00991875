/* lost, by definition: what a branch doesn't hold of another's row of attention, and what that does to the output. */
#include "kernels/ref/ref.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/pages.h"

enum { SLOTS = KVT_PAGE_SLOTS };

/* held[j] = 1 where the cell holds position j < n. */
static void mark(const struct kvt_cache *c, const struct kvt_cell *cell, int n, uint8_t *held)
{
    memset(held, 0, (size_t)n);
    for (int i = 0; i < cell->n; i++) {
        int32_t pos = kvt_page_pos(c, cell->page[i / SLOTS])[i % SLOTS];
        assert(pos < n && "a branch holds what the row's own branch doesn't");
        held[pos] = 1;
    }
}

static float ratio(double difference2, double norm2)
{
    return difference2 == 0 ? 0 : norm2 == 0 ? NAN : (float)sqrt(difference2 / norm2);
}

int kvt_ref_lost(struct kvt_dev *dev, const struct kvt_lost_args *a)
{
    const struct kvt_cache *c = a->cache;
    int G = c->o.G, D = c->o.D, heads = a->H / G, most = 1;
    for (int g = 0; g < G; g++) {
        int n = kvt_cell_at(c, a->from, a->layer, g)->n;
        most = n > most ? n : most;
    }
    assert(most <= a->ld && a->H % G == 0);
    double *sum = kvt_dev_scratch(dev, (size_t)D * (sizeof *sum + sizeof(float)) + (size_t)most);
    if (!sum)
        return KVT_ENOMEM;
    float *v = (float *)(sum + D);
    uint8_t *held = (uint8_t *)(v + D);
    double norm2 = 0;
    for (int i = 0; a->out && i < a->H * D; i++)
        norm2 += (double)a->out[i] * a->out[i];
    for (int b = 0; b < a->B; b++) {
        double local2 = 0, own2 = 0;
        for (int h = 0; h < a->H; h++) {
            const struct kvt_cell *full = kvt_cell_at(c, a->from, a->layer, h / heads);
            const float *p = a->row + (size_t)h * (size_t)a->ld;
            double lost = 0, lost_rest = 0, rest = 0, kept = 0;
            bool missing = false;
            mark(c, kvt_cell_at(c, a->branch[b], a->layer, h / heads), full->n, held);
            for (int j = 0; j < full->n; j++) {
                lost += held[j] ? 0 : p[j];
                kept += held[j] ? p[j] : 0;
                rest += j >= a->n_sink ? p[j] : 0;
                lost_rest += j >= a->n_sink && !held[j] ? p[j] : 0;
                missing |= !held[j];
            }
            size_t at = (size_t)b * (size_t)a->H + (size_t)h;
            if (a->lost)
                a->lost[at] = (float)lost;
            if (a->lost_rest)
                a->lost_rest[at] = rest > 0 ? (float)(lost_rest / rest) : 0;
            if (!a->local || !missing)
                continue;
            memset(sum, 0, (size_t)D * sizeof *sum);
            for (int j = 0; j < full->n; j++) {
                if (!held[j])
                    continue;
                kvt_pages_decode(c, kvt_page_v(c, full->page[j / SLOTS]), (size_t)(j % SLOTS) * (size_t)D, 1, D, v);
                for (int d = 0; d < D; d++)
                    sum[d] += (double)p[j] * v[d];
            }
            for (int d = 0; d < D; d++) {
                double off = (kept > 0 ? sum[d] / kept : 0) - a->out[(size_t)h * (size_t)D + (size_t)d];
                local2 += off * off;
            }
        }
        if (a->local)
            a->local[b] = ratio(local2, norm2);
        for (int i = 0; a->propagated && i < a->H * D; i++) {
            double off = (double)a->own[b][i] - a->out[i];
            own2 += off * off;
        }
        if (a->propagated)
            a->propagated[b] = ratio(own2, norm2);
    }
    return 0;
}
