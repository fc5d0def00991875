/* Bytes: what a branch really holds after its context was compressed, asked of the page allocator, for every method of the registry.
 *
 * Bound: the budget's own bytes, 2 % above them, and one partly filled page for each layer and kv head. Would catch: a method that
 * only masks, pages that a branch keeps for nothing, a budget per head that is given out twice, ragged budgets that free less. */
#include "evict_rig.h"

enum { L = 4, G = 3, H = 6, N = 1200, SHOTS = 13, MOST_HEADS = L * G };
static const int percents[] = {10, 25, 50};
static const size_t slot_bytes = RIG_D * 2 * sizeof(float), page_bytes = KVT_PAGE_SLOTS * RIG_D * 2 * sizeof(float);

static void open_rig(struct rig *r, const struct kvt_ops *ops, int32_t *shot, struct kvt_turn *turn)
{
    static const int window[] = {8, 32};
    rig_open(r, ops, 1, L, H, G, N, N, 4, 2, window, 2);
    rig_random_scores(r, 5);
    for (int i = 0; i < SHOTS; i++) {
        shot[2 * i] = 10 + 90 * i;
        shot[2 * i + 1] = 10 + 90 * i + 88;
    }
    for (int l = 0; l < L; l++)
        turn[l] = (struct kvt_turn){.scale = 1e-5f};
    r->raw.max = r->raw.last, r->raw.later = r->raw.mass;
    r->raw.query_mean = r->raw.mass, r->raw.query_scatter = r->raw.last, r->raw.query_rows = 1;
    r->env.turn = turn, r->env.shot = shot, r->env.n_shots = SHOTS;
}

/* Bytes that the branch holds by itself, and, once the prefill's own branch is gone, everything that is held. */
static size_t held_after(const char *text, int64_t ppm, const struct kvt_ops *ops, int64_t *slots, struct kvt_policy *policy)
{
    struct rig r;
    int32_t shot[2 * SHOTS];
    struct kvt_turn turn[L];
    struct kvt_cache_bytes full, alone, held;
    struct kvt_needs needs = {0};
    struct kvt_spec spec;
    open_rig(&r, ops, shot, turn);
    rig_spec(&spec, text);
    *policy = spec.policy;
    kvt_spec_needs(&spec, &needs);
    r.raw.n_squares = needs.n_squares;
    for (int i = 0; i < needs.n_squares; i++) {
        r.raw.square[i] = needs.square[i];
        r.raw.sqmass[i] = r.raw.mass;
    }
    cr_assert_eq(ops->cache_bytes(r.dev, r.cache, 0, &full), 0);
    cr_assert_eq(full.alone, (size_t)(N / KVT_PAGE_SLOTS) * L * G * page_bytes); /* N is a whole number of pages */
    struct kvt_evictor *e = rig_evict(&r, 1, text, rig_keep(ppm));
    cr_assert_eq(ops->cache_bytes(r.dev, r.cache, 1, &alone), 0);
    ops->cache_drop(r.dev, r.cache, 0);
    cr_assert_eq(ops->cache_bytes(r.dev, r.cache, 1, &held), 0);
    cr_assert_eq(held.alone, alone.alone, "%s", text);
    cr_assert_eq(held.held, alone.alone, "%s: %zu bytes held, the one branch that is left has %zu", text, held.held, alone.alone);
    *slots = 0;
    for (int i = 0; i < MOST_HEADS; i++)
        *slots += kvt_evictor_held(e)[i];
    kvt_evictor_close(&e);
    rig_close(&r);
    return alone.alone;
}

static void check(const char *text, int percent, const struct kvt_ops *ops)
{
    struct kvt_policy p;
    int64_t slots;
    size_t held = held_after(text, percent * 10000, ops, &slots, &p);
    int64_t tok = p.alloc == KVT_ALLOC_CLASS ? kvt_class_tokens(&p, N) : (int64_t)N * percent / 100;
    double bound = 1.02 * (double)(tok * L * G * (int64_t)slot_bytes) + (double)(L * G * page_bytes);
    cr_assert_leq((double)held, bound, "%s at %d %%: %zu bytes held, at most %.0f allowed", text, percent, held, bound);
    cr_assert_geq(held, (size_t)slots * slot_bytes, "%s at %d %%: fewer bytes than slots", text, percent);
    cr_assert_leq(held, (size_t)slots * slot_bytes + L * G * page_bytes, "%s at %d %%: %zu bytes for %lld slots", text, percent, held, (long long)slots);
    cr_assert_lt(slots, (int64_t)N * L * G, "%s at %d %% keeps everything", text, percent);
}

Test(bytes, every_method)
{
    int count;
    const struct kvt_method *const *all = kvt_methods(&count);
    for (int m = 0; m < count; m++)
        for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
            const char *name = all[m]->name;
            if (!strcmp(name, "full"))
                continue;
            check(!strcmp(name, "my") ? "my[score=mass]" : !strcmp(name, "file") ? "file[x.h5]" : !strcmp(name, "finch") ? "finch[w=8]" : name, percents[i], &kvt_ops_cpu);
            if (i == 1)
                check(!strcmp(name, "my") ? "my[score=mass]" : !strcmp(name, "file") ? "file[x.h5]" : !strcmp(name, "finch") ? "finch[w=8]" : name, percents[i], &kvt_ops_ref);
        }
}

/* Heads with budgets of their own hold as many slots in all as uniform ones, and at most a partly filled page a head more. */
Test(bytes, ragged_as_uniform)
{
    static const char *const ragged[] = {"my[score=mass,alloc=head]", "my[score=mass,alloc=global]", "my[score=mass,alloc=pyramid]",
                                         "my[score=mass,alloc=pyramid+head]", "my[score=mass,alloc=head,head_rule=safeguard]"};
    for (size_t i = 0; i < sizeof percents / sizeof *percents; i++) {
        struct kvt_policy p;
        int64_t even_slots, slots;
        size_t even = held_after("my[score=mass]", percents[i] * 10000, &kvt_ops_cpu, &even_slots, &p);
        for (size_t k = 0; k < sizeof ragged / sizeof *ragged; k++) {
            size_t held = held_after(ragged[k], percents[i] * 10000, &kvt_ops_cpu, &slots, &p);
            cr_assert_eq(slots, even_slots, "%s at %d %%: %lld slots for %lld", ragged[k], percents[i], (long long)slots, (long long)even_slots);
            cr_assert_leq(held, even + L * G * page_bytes, "%s at %d %%: %zu bytes, uniform %zu", ragged[k], percents[i], held, even);
        }
    }
}
