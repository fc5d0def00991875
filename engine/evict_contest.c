/* TreeKV's contest at prefill's end: the context as if its tokens, or blocks of them, had come one after the other. */
#include <math.h>
#include <string.h>

#include "engine/evict_state.h"

/* Blocks that may be evicted are those with a slot that isn't protected. Fills (S) flags; returns how many others. */
static int safe_units(const struct kvt_evict_work *w, uint8_t *safe)
{
    int count = 0;
    for (int s = 0; s < w->S; s++) {
        safe[s] = KVT_KEPT_PROTECTED;
        for (int j = w->h_seg[s]; j < w->h_seg[s + 1]; j++)
            if (!w->h_protect[j])
                safe[s] = 0;
        count += safe[s] != 0;
    }
    return count;
}

int kvt_evict_contest(struct kvt_evictor *e, struct kvt_evict_work *w, int layer, int *max_units)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    size_t R = (size_t)w->R, cell = (size_t)layer * R, S = (size_t)w->S;
    int rc = ops->zero(dev, w->turn, R * sizeof *w->turn);
    struct kvt_contest_args a = {.score = w->score + cell * (size_t)w->ld, .protect = w->protect + cell * (size_t)w->ld,
                                 .budget = w->budget + cell, .n = w->n_live + cell, .turn = w->turn, .R = w->R, .ld = w->ld,
                                 .stay = w->second + cell * (size_t)w->ld};
    if (S) {
        int32_t n = w->S, units = safe_units(w, w->h_safe) + *max_units;
        *max_units = units < n ? units : n;
        for (size_t r = 0; !rc && r < R; r++) {
            rc = ops->write(dev, w->safe + r * S, w->h_safe, S);
            if (!rc)
                rc = ops->write(dev, w->first_budget + cell + r, &units, sizeof units);
            if (!rc)
                rc = ops->write(dev, w->n_kept + cell + r, &n, sizeof n); /* overwritten when slots are picked */
        }
        a.score = w->unit + cell * S, a.stay = w->second + cell * S, a.ld = w->S;
        a.protect = w->safe, a.budget = w->first_budget + cell, a.n = w->n_kept + cell;
    }
    return rc ? rc : ops->contest(dev, &a);
}

int kvt_evict_no_threshold(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    int cells = e->env->L * w->R;
    for (int i = 0; i < cells; i++)
        w->h_threshold[i] = NAN;
    return e->env->ops->write(e->env->dev, w->threshold, w->h_threshold, (size_t)cells * sizeof(float));
}
