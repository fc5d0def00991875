/* Who gets how much: from a budget to layers, and from layers to cells. Whole numbers; the totals are exact. */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/evict_state.h"

static bool by_layer(const struct kvt_policy *p) { return p->alloc == KVT_ALLOC_PYRAMID || p->alloc == KVT_ALLOC_PYRAMID_HEAD; }

/* Slots of a layer that a budget of layers or in all couldn't give to all kv heads alike. In all: the earlier layers get what
 * doesn't come out even, and layers that stay whole take their part away with them. Heads that share one set get whole rows. */
static int64_t spare_of(const struct kvt_evictor *e, const struct kvt_budget *budget, int layer)
{
    const struct kvt_policy *p = &e->spec.policy;
    int G = e->env->G, skip = p->skip < e->env->L ? p->skip : e->env->L, layers = e->env->L - skip, unit = p->heads == KVT_HEADS_SHARED ? G : 1;
    if (budget->kind != KVT_BUDGET_TOKENS || layer < skip)
        return 0;
    if (budget->of == KVT_OF_LAYER)
        return budget->spare / unit * unit;
    int64_t units = (int64_t)budget->spare * layers / e->env->L / unit;
    return (units / layers + (layer - skip < units % layers)) * unit;
}

int kvt_evict_cell_tok(const struct kvt_evictor *e, int layer, int g, int n)
{
    if (e->whole)
        return kvt_evict_class_tok(e, layer, g, n);
    int G = e->env->G;
    if (e->budget.kind == KVT_BUDGET_CELLS)
        return kvt_budget_tokens(&e->budget.cell[kvt_evict_layer(e->env, layer) * G + g], n);
    int64_t slots = e->match ? e->match[layer] : (int64_t)kvt_budget_tokens(&e->budget, n) * G + spare_of(e, &e->budget, layer);
    int64_t tok = slots / G + (e->spec.policy.heads != KVT_HEADS_SHARED && g < slots % G);
    return tok < 1 ? 1 : tok > n ? n : (int)tok;
}

void kvt_evict_layers(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    const struct kvt_policy *p = &e->spec.policy;
    int L = e->env->L, G = e->env->G, n = w->n;
    const struct kvt_budget budget = kvt_evict_own_budget(p, &e->budget);
    int tok = e->keep_all ? n : kvt_budget_tokens(&budget, n);
    if (e->whole && !e->keep_all) {
        tok = p->sinks + p->recent < n ? p->sinks + p->recent : n;
        if (e->tied)
            snprintf(w->note, sizeof w->note, "%d heads have the gate of the cut: the first %d of them keep everything", e->tied, e->tied_whole);
    }
    for (int l = 0; l < L; l++)
        w->layer_tok[l] = tok;
    if (!e->keep_all && !e->match && tok < n && by_layer(p) && e->spec.method->layer_budget) {
        struct kvt_layer_ask ask = {
            .L = L, .n = n, .total_tok = tok,
            .protect_tok = kvt_evict_protect(p, e->env, e->env->n_prompt, n, tok, NULL),
            .total_real = budget.kind == KVT_BUDGET_KEEP ? (double)budget.keep_ppm * n / 1e6 : tok,
        };
        w->fallback = e->spec.method->layer_budget(p, &ask, w->layer_tok, w->note, sizeof w->note) == 1;
        for (int l = 0; l < L; l++)
            w->layer_tok[l] = w->layer_tok[l] > n ? n : w->layer_tok[l] < 1 ? 1 : w->layer_tok[l];
    }
    for (int l = 0; l < p->skip && l < L; l++) /* beside the budget, as in the code that has it */
        w->layer_tok[l] = n;
    if (budget.kind == KVT_BUDGET_CELLS && !e->keep_all) {
        kvt_evict_cells_layers(e, w);
        return;
    }
    int64_t over = 0; /* what a full layer can't take goes to the next one */
    for (int l = 0; l < L; l++) {
        bool follows = e->match && l >= p->skip;
        int64_t slots = follows ? e->match[l] : (int64_t)w->layer_tok[l] * G + spare_of(e, &budget, l) + over, most = (int64_t)n * G;
        over = follows || slots < most ? 0 : slots - most;
        w->layer_slots[l] = (int32_t)(slots > most ? most : slots < 1 ? 1 : slots);
        if (e->match)
            w->layer_tok[l] = w->layer_slots[l] / G > 1 ? w->layer_slots[l] / G : 1;
    }
}

/* Protects every row of every layer under its layer's budget. */
static int protect_all(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    int rc = 0, last = -1;
    size_t R = (size_t)w->R, ld = (size_t)w->ld;
    for (int l = 0; !rc && l < e->env->L; l++) {
        if (e->budget.kind == KVT_BUDGET_CELLS) { /* half of a budget isn't the same in each head */
            last = -1;
            for (size_t r = 0; r < R; r++)
                w->n_protect = kvt_evict_protect(&e->spec.policy, e->env, e->env->n_prompt, w->n, kvt_evict_cell_tok(e, l, (int)r, w->n), w->h_protect + r * ld);
            rc = e->env->ops->write(e->env->dev, w->protect + kvt_evict_at(w, l, 0), w->h_protect, R * ld);
            continue;
        }
        if (w->layer_tok[l] != last) {
            last = w->layer_tok[l];
            w->n_protect = kvt_evict_protect(&e->spec.policy, e->env, e->env->n_prompt, w->n, last, w->h_protect);
            for (size_t r = 1; r < R; r++)
                memcpy(w->h_protect + r * ld, w->h_protect, (size_t)w->n);
        }
        rc = e->env->ops->write(e->env->dev, w->protect + kvt_evict_at(w, l, 0), w->h_protect, R * ld);
    }
    return rc;
}

enum kvt_divide kvt_evict_divide_how(const struct kvt_policy *p)
{
    if (p->unit == KVT_UNIT_PAGE)
        return KVT_DIVIDE_PAGES;
    if (p->alloc == KVT_ALLOC_GLOBAL || p->head_rule == KVT_HEAD_SAFEGUARD)
        return KVT_DIVIDE_RANK;
    return p->head_rule == KVT_HEAD_BLEND ? KVT_DIVIDE_BLEND : KVT_DIVIDE_ROUND;
}

/* Budgets of a layer's rows, or of all rows from the first layer that isn't left whole. */
static int divide(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    const struct kvt_policy *p = &e->spec.policy;
    int L = e->env->L, R = w->R, first = p->skip < L ? p->skip : L, rows = (L - first) * R;
    bool pages = p->unit == KVT_UNIT_PAGE;
    int32_t *total = w->h_budget; /* (L): R is at least 1 */
    int64_t sum = 0;
    if (!rows)
        return 0;
    for (int l = first; l < L; l++) {
        int slots = w->layer_slots[l] / (e->env->G / R), each = (w->layer_tok[l] + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
        total[l - first] = pages ? each * R : slots;
        sum += total[l - first];
    }
    assert(sum <= INT32_MAX);
    struct kvt_divide_args a = {.score = w->score + kvt_evict_at(w, first, 0), .protect = w->protect + kvt_evict_at(w, first, 0),
                                .n = w->n_live, .total = w->total, .R = rows, .ld = w->ld, .per = R,
                                .budget = w->budget + first * R};
    a.how = kvt_evict_divide_how(p);
    a.alpha_ppm = p->alloc == KVT_ALLOC_GLOBAL ? 0 : p->alpha_ppm;
    if (p->alloc == KVT_ALLOC_GLOBAL) {
        a.per = rows;
        total[0] = (int32_t)sum;
    } else if (p->alloc == KVT_ALLOC_UNIFORM || p->alloc == KVT_ALLOC_PYRAMID) {
        a.per = 1; /* pages of each cell */
        for (int r = rows - 1; r >= 0; r--)
            total[r] = total[r / R] / R;
    }
    int rc = e->env->ops->write(e->env->dev, a.per == 1 ? w->first_budget : w->total, total, (size_t)(rows / a.per) * sizeof *total);
    if (a.per == 1)
        a.total = w->first_budget;
    return rc ? rc : e->env->ops->divide(e->env->dev, &a);
}

int kvt_evict_allocate(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    const struct kvt_policy *p = &e->spec.policy;
    int rc = protect_all(e, w), cells = e->env->L * w->R;
    bool shared = p->alloc == KVT_ALLOC_HEAD || p->alloc == KVT_ALLOC_PYRAMID_HEAD || p->alloc == KVT_ALLOC_GLOBAL;
    for (int i = 0; i < cells; i++) { /* what doesn't come out even goes to the earlier heads */
        int slots = w->layer_slots[i / w->R], each = slots / e->env->G, r = i % w->R;
        w->h_budget[i] = e->whole || e->budget.kind == KVT_BUDGET_CELLS ? kvt_evict_cell_tok(e, i / w->R, r, w->n) : each + (w->R == e->env->G && r < slots % e->env->G);
    }
    if (!rc)
        rc = e->env->ops->write(e->env->dev, w->budget, w->h_budget, (size_t)cells * sizeof *w->h_budget);
    if (rc || w->S || !(shared || p->unit == KVT_UNIT_PAGE)) /* units are chosen by tokens, not counted before */
        return rc;
    return divide(e, w);
}
