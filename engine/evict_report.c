/* What the evictor tells the probe: at prefill's end a decision for each layer and the budget of the branch; then what leaves. */
#include <math.h>
#include <string.h>

#include "engine/evict_state.h"

int kvt_evict_see(const struct kvt_evictor *e, const struct kvt_event *ev, struct kvt_err *err)
{
    int rc = e->env->probe && !e->quiet ? e->env->probe->see(e->env->probe->self, ev) : 0;
    return rc ? kvt_fail(err, rc, "the run was stopped by what records it") : 0;
}

int kvt_evict_lost(struct kvt_evictor *e, const int32_t *pos, int n, const int32_t *kept, int n_kept)
{
    int lost = 0;
    for (int i = 0, k = 0; i < n; i++) {
        if (k < n_kept && kept[k] == i)
            k++;
        else
            e->host_lost[lost++] = pos[i];
    }
    return lost;
}

int kvt_evict_report_lost(struct kvt_evictor *e, int layer, int g, int step, int n, struct kvt_err *err)
{
    struct kvt_event ev = {.kind = KVT_EV_EVICT, .evict = {.branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .g = g, .step = step, .n = n,
                                                           .pos = e->host_lost}};
    return n ? kvt_evict_see(e, &ev, err) : 0;
}

/* Reads a layer's decision into w's host arrays: scores as ranked, NaN where nothing was. */
static int read_decision(struct kvt_evictor *e, struct kvt_evict_work *w, int layer, bool scored, bool all)
{
    const struct kvt_ops *ops = e->env->ops;
    struct kvt_dev *dev = e->env->dev;
    size_t n = (size_t)w->n, G = (size_t)e->env->G, R = (size_t)w->R, S = (size_t)w->S;
    int rc = 0;
    if (scored)
        rc = ops->read(dev, w->h_protect, w->protect + kvt_evict_at(w, layer, 0), R * (size_t)w->ld);
    for (size_t r = 0; !rc && r < R; r++) {
        float *out = w->h_score + r * n;
        const uint8_t *protect = w->h_protect + r * (size_t)w->ld;
        if (!scored || S)
            for (size_t j = 0; j < n; j++)
                out[j] = NAN;
        if (scored && S) {
            rc = ops->read(dev, w->h_unit + r * S, w->unit + ((size_t)layer * R + r) * S, S * sizeof(float));
            for (size_t s = 0; s < S; s++)
                for (int j = w->h_seg[s]; w->h_candidate[s] && j < w->h_seg[s + 1]; j++)
                    out[j] = protect[j] ? NAN : w->h_unit[r * S + s];
        } else if (scored) {
            rc = ops->read(dev, out, (w->second ? w->second : w->score) + kvt_evict_at(w, layer, (int)r), n * sizeof(float));
            for (size_t j = 0; j < n; j++)
                out[j] = protect[j] ? NAN : out[j];
            if (!rc && !all && w->first_reason && w->second) { /* what the first stage took didn't compete in the second */
                rc = ops->read(dev, w->h_reason + r * n, w->first_reason + kvt_evict_at(w, layer, (int)r), n);
                for (size_t j = 0; j < n; j++)
                    out[j] = w->h_reason[r * n + j] ? NAN : out[j];
            }
        }
        w->h_threshold[r] = INFINITY;
        if (all)
            memset(w->h_reason + r * n, KVT_KEPT_ALL, n);
        else if (!rc)
            rc = ops->read(dev, w->h_reason + r * n, w->reason + kvt_evict_at(w, layer, (int)r), n);
    }
    if (!rc && !all)
        rc = ops->read(dev, w->h_threshold, w->threshold + (size_t)layer * R, R * sizeof(float));
    for (size_t g = R; g < G; g++)
        memcpy(w->h_reason + g * n, w->h_reason, n);
    return rc;
}

int kvt_evict_report_decision(struct kvt_evictor *e, struct kvt_evict_work *w, int layer, bool scored, bool all,
                              struct kvt_err *err)
{
    if (!e->decisions || e->quiet)
        return 0;
    int rc = read_decision(e, w, layer, scored, all);
    if (rc)
        return kvt_evict_device_fail(e, rc, "reading a decision", err);
    struct kvt_event ev = {.kind = KVT_EV_DECISION,
                           .decision = {.branch = e->branch, .layer = kvt_evict_layer(e->env, layer), .n = w->n, .R = w->R, .score = w->h_score,
                                        .threshold = w->h_threshold, .reason = w->h_reason}};
    return kvt_evict_see(e, &ev, err);
}

/* The layers that are left alone keep everything: told like the others, so that each layer is there. */
static int report_others(struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_err *err)
{
    const struct kvt_evict_env *env = e->env;
    size_t G = (size_t)env->G, all = (size_t)env->n_layers * G;
    int rc = 0;
    for (int m = 0, l = 0; m < env->n_layers; m++) {
        bool own = l < env->L && env->layer[l] == m;
        for (size_t g = 0; g < G; g++) {
            w->shown_tok[(size_t)m * G + g] = own ? w->budget_tok[(size_t)l * G + g] : w->n;
            w->shown_tok[all + (size_t)m * G + g] = own ? w->kept_tok[(size_t)l * G + g] : w->n;
        }
        l += own;
        if (own || rc || !e->decisions || e->quiet)
            continue;
        rc = read_decision(e, w, 0, false, true); /* reads nothing: all stays */
        struct kvt_event ev = {.kind = KVT_EV_DECISION,
                               .decision = {.branch = e->branch, .layer = m, .n = w->n, .R = w->R, .score = w->h_score,
                                            .threshold = w->h_threshold, .reason = w->h_reason}};
        if (!rc)
            rc = kvt_evict_see(e, &ev, err);
    }
    return rc;
}

int kvt_evict_report_budget(struct kvt_evictor *e, struct kvt_evict_work *w, struct kvt_err *err)
{
    int64_t cells = (int64_t)e->env->L * e->env->G, kept = 0, asked = 0;
    int failed = e->env->layer ? report_others(e, w, err) : 0;
    if (failed)
        return failed;
    for (int64_t i = 0; i < cells; i++)
        kept += w->kept_tok[i], asked += w->budget_tok[i];
    struct kvt_event ev = {
        .kind = KVT_EV_BUDGET,
        .budget = {.branch = e->branch,
                   .asked_keep = e->whole ? (double)asked / (double)(cells * w->n) : e->budget.kind == KVT_BUDGET_KEEP ? (double)e->budget.keep_ppm / 1e6 : NAN,
                   .effective_keep = (double)kept / (double)(cells * w->n),
                   .kept_slots = kept,
                   .context_slots = cells * w->n,
                   .budget_tok = e->env->layer ? w->shown_tok : w->budget_tok,
                   .kept_tok = e->env->layer ? w->shown_tok + (size_t)e->env->n_layers * (size_t)e->env->G : w->kept_tok,
                   .fallback = w->fallback,
                   .note = w->note,
                   .host_ns = e->host_ns}};
    return kvt_evict_see(e, &ev, err);
}
