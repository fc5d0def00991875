/* step: what eviction needs while tokens come, as defined in kernels/ops.h. */
#include <assert.h>
#include <math.h>

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

int kvt_ref_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a) { return kvt_host_topk_within(dev, a, kvt_ref_topk); }
