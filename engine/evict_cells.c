/* A budget for each kv head (kvtrace --budget-file): who can have one, and what it is for a layer. */
#include "engine/evict_state.h"

/* Why the heads' budgets can't hold whatever they are; NULL: they can. */
static const char *in_the_way(const struct kvt_policy *p)
{
    return p->alloc == KVT_ALLOC_PYRAMID || p->alloc == KVT_ALLOC_PYRAMID_HEAD ? "divides the budget among layers itself"
         : p->alloc == KVT_ALLOC_GLOBAL ? "divides the budget among all layers and heads itself"
         : p->alloc == KVT_ALLOC_CLASS ? "gives heads their budgets by class"
         : p->unit == KVT_UNIT_PAGE ? "keeps whole pages of a head"
         : p->within || kvt_evict_lags(p) ? "keeps a share of each stretch of the context"
         : p->skip ? "leaves its first layers whole (skip=)"
         : p->reuse > 1 ? "lets layers share a choice (reuse=)"
         : p->prefill_share > 0 ? "has a share of its own (prefill=)" : NULL;
}

/* Why all heads of a layer need the same; NULL: they don't. */
static const char *same_in_layer(const struct kvt_policy *p)
{
    return p->heads == KVT_HEADS_SHARED ? "keeps one set for all heads of a layer"
         : p->alloc == KVT_ALLOC_HEAD ? "divides a layer's budget among its heads itself"
         : p->unit == KVT_UNIT_CHUNK ? "counts chunks by layer" : NULL;
}

static bool differ(const struct kvt_budget *a, const struct kvt_budget *b)
{
    return a->kind != b->kind || (a->kind == KVT_BUDGET_KEEP ? a->keep_ppm != b->keep_ppm : a->tokens != b->tokens);
}

int kvt_evict_cells_check(const struct kvt_spec *spec, const struct kvt_budget *budget, struct kvt_err *err)
{
    const char *name = spec->method->name, *why = in_the_way(&spec->policy), *same = same_in_layer(&spec->policy);
    if (budget->kind != KVT_BUDGET_CELLS)
        return 0;
    if (why)
        return kvt_fail(err, KVT_EUSAGE, "%s %s, so a budget for each layer or head means nothing to it", name, why);
    for (int i = 0; same && i < budget->L * budget->G; i++)
        if (differ(&budget->cell[i], &budget->cell[i / budget->G * budget->G]))
            return kvt_fail(err, KVT_EUSAGE, "%s %s, and heads 0 and %d of layer %d have different budgets; give the layer one", name, same,
                            i % budget->G, i / budget->G);
    return 0;
}

const struct kvt_budget *kvt_evict_least_cell(const struct kvt_budget *budget, int n)
{
    const struct kvt_budget *least = budget;
    for (int i = 0; budget->kind == KVT_BUDGET_CELLS && i < budget->L * budget->G; i++)
        if (!i || kvt_budget_tokens(&budget->cell[i], n) < kvt_budget_tokens(least, n))
            least = &budget->cell[i];
    return least;
}

void kvt_evict_cells_layers(struct kvt_evictor *e, struct kvt_evict_work *w)
{
    int G = e->env->G;
    for (int l = 0; l < e->env->L; l++) {
        int64_t slots = 0;
        for (int g = 0; g < G; g++)
            slots += kvt_evict_cell_tok(e, l, g, w->n);
        w->layer_slots[l] = (int32_t)slots;
        w->layer_tok[l] = (int32_t)(slots / G); /* n only where all heads keep everything */
    }
}
