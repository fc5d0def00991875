/* What must hold for every method, at any shape and budget: random shapes, seeds and scores (many of them equal). */
#include "any_rig.h"

static const char *const specs[] = {
    "full",
    "oracle",
    "oracle[heads=shared,sinks=2]",
    "kvzip[alloc=uniform]",
    "file[x.h5]",
    "random[seed=3]",
    "random[heads=shared,sinks=2]",
    "finch[w=8,within=20]",
    "finch[w=8,score=wmass,within=7,sinks=2]",
    "duoattention[sinks=2,recent=9]",
    "duoattention[sinks=0,recent=20,class=0.3,schedule=prefill]",
    "streaming",
    "streaming[schedule=prefill,sinks=0]",
    "h2o",
    "h2o[norm=visible,group=max]",
    "h2o[heads=shared,sinks=2]",
    "h2o[heads=shared,norm=visible]",
    "h2o[schedule=prefill,recent=0]",
    "tova",
    "tova[heads=each,recent=2,sinks=1]",
    "treekv",
    "treekv[chunk=4,norm=sum,recent=3,sinks=0]",
    "my[score=mass,schedule=step,leaves=contest]",
    "my[score=random,schedule=step,protect=recent4]",
    "my[score=mass,schedule=every,every=3]",
    "my[score=mass,norm=visible,schedule=every,every=1,protect=sink1+recenthalf]",
    "my[score=wmass,w=8,pool=max3,schedule=every,every=4,protect=recent2]",
    "my[score=last,alloc=head,schedule=every,every=2]",
    "my[score=knorm,heads=shared,schedule=every,every=3,protect=sink2]",
    "my[score=wmass,w=8,pool=max3,heads=shared,schedule=every,every=4]",
    "my[score=mass,alloc=global,unit=page,schedule=every,every=5,protect=recent3]",
    "my[score=mass,alloc=head,head_rule=official,schedule=every,every=3]",
    "snapkv[w=8]",
    "snapkv[w=8,pool=avg5,order=group-first,sinks=3]",
    "snapkv[w=8,pool=none,keep_window=0,heads=shared]",
    "pyramidkv[w=8]",
    "pyramidkv[w=8,rule=official]",
    "pyramidkv[w=8,rule=kvpress]",
    "chunkkv[w=8,chunk=5]",
    "chunkkv[w=8,chunk=7,count=kvpress,heads=shared,pool=avg5]",
    "chunkkv[w=8,chunk=64]",
    "shotkv",
    "shotkv[scope=all_layers,overflow=skip,decode=30%,decode_recent=2]",
    "shotkv[rows=window,w=8,force=1]",
    "shotkv[norm=visible,heads=each]",
    "shotkv[prefill=100%]",
    "shotkv[prefill=60%,decode=10%,decode_floor=4]",
    "shotkv[rows=last,scope=all_layers,heads=each]",
    "my[score=wmass,w=8,pool=max3,alloc=pyramid,protect=sink2+recent3]",
    "my[score=mass,unit=shot,reduce=max,protect=sink2+recent3]",
    "my[score=last,unit=chunk,chunk=6,reduce=sum,protect=recent5]",
    "knorm",
    "knorm[skip=1,sinks=3,heads=shared]",
    "keydiff[recent=4]",
    "lagkv[lag=8]",
    "expected[ahead=1]",
    "expected[ahead=3,vnorm=0,sinks=2,recent=3]",
    "lagkv[lag=5,sinks=2,schedule=step]",
    "my[score=sqmass,group=sum,protect=recent3,schedule=step]",
    "my[score=sqmass,v=5,group=sum,alloc=global,unit=page]",
    "my[score=sqwmass,w=7,v=2,pool=max3]",
    "my[score=max,protect=sink2]",
    "my[score=later,unit=shot]",
    "chunkkv[w=8,chunk=5,reuse=2]",
    "adakv[w=8]",
    "adakv[w=8,head_rule=official,alpha=0.5]",
    "adakv[w=8,head_rule=safeguard,pool=avg5]",
    "adakv[w=8,alloc=pyramid+head,alpha=0]",
    "my[score=wmass,w=8,within=20,protect=window]",
    "my[score=mass,within=33,protect=sink3,heads=shared]",
    "kvcompress[recent=8]",
    "kvcompress[score=sqmass,v=10,pool=none,alloc=head,recent=8]",
    "criticalkv[w=8]",
    "criticalkv[w=8,critical=20%,heads=shared]",
    "criticalkv[w=8,alloc=head]",
    "randomshot",
    "randomshot[seed=7,scope=all_layers,overflow=skip,force=1]",
    "shotkv[overflow=knapsack]",
    "shotkv[unit=sentence,heads=each]",
    "my[score=wmass,w=8,pool=max3,alloc=global,protect=sink2+window]",
    "my[score=mass,unit=page,alloc=global,protect=sink4+recent8]",
    "my[score=mass,unit=page]",
    "my[score=mass,unit=page,alloc=head,protect=question]",
    "my[score=wmass,w=8,pool=max7,unit=shot,alloc=global,protect=sink4+recent8]",
    "my[score=mass,unit=chunk,chunk=6,alloc=head,overflow=skip]",
    "my[score=last,skip=1,alloc=global,protect=answers]",
};
enum { N_SPECS = sizeof specs / sizeof *specs };

/* Where all slots of a row compete at once. */
static bool has_threshold(const struct kvt_policy *p)
{
    return p->leaver == KVT_LEAVES_WORST && !p->within && !(p->score == KVT_SCORE_LAGKV && p->schedule == KVT_SCHEDULE_STEP);
}

static bool stays(uint8_t reason)
{
    return reason == KVT_KEPT_SCORE || reason == KVT_KEPT_UNIT || reason == KVT_KEPT_WINDOW ||
           reason == KVT_KEPT_PROTECTED || reason == KVT_KEPT_ALL;
}

/* Kept sets are ascending and unique, agree with the reasons and the report, hold what is protected, and count. */
static void check_prefill(struct life *f)
{
    struct rig *r = &f->r;
    const char *what = f->what;
    int n = r->env.n_context, G = r->env.G, L = r->env.L, tok = kvt_budget_tokens(&f->budget, n);
    const struct kvt_policy *p = &f->spec.policy;
    int32_t *at = calloc((size_t)r->env.max_slots, sizeof *at);
    long total = 0;
    cr_assert_eq(r->n_decisions, L, "%s: %d decisions", what, r->n_decisions);
    for (int l = 0; l < L; l++)
        for (int g = 0; g < G; g++) {
            int held = rig_positions(r, 1, l, g, at), cell = l * G + g;
            const uint8_t *reason = r->reason + (size_t)cell * (size_t)n;
            const float *score = r->decided + (size_t)(r->decision_R == 1 ? l * G : cell) * (size_t)n;
            float threshold = r->threshold[r->decision_R == 1 ? l * G : cell];
            cr_assert_eq(held, r->kept_tok[cell], "%s: holds %d, reported %d", what, held, r->kept_tok[cell]);
            total += held;
            for (int i = 0; i < held; i++)
                cr_assert(at[i] >= 0 && at[i] < n && (!i || at[i] > at[i - 1]), "%s: slots out of order", what);
            for (int j = 0, i = 0; j < n; j++) {
                bool here = i < held && at[i] == j;
                i += here;
                cr_assert_eq(here, stays(reason[j]), "%s: position %d of layer %d head %d is %s for reason %d", what, j,
                             l, g, here ? "held" : "gone", reason[j]);
                cr_assert(here || j >= p->sinks, "%s: lost a sink", what);
                bool in_window =
                    p->keep_window && p->chunk_count == KVT_COUNT_PAPER && j >= r->env.n_prompt - p->window;
                cr_assert(here || !in_window || p->score == KVT_SCORE_NONE, "%s: lost position %d of the window", what,
                          j);
                if (reason[j] == KVT_KEPT_SCORE && !(p->critical_ppm && isnan(score[j])) && has_threshold(p))
                    cr_assert(score[j] >= threshold, "%s: %g is below the threshold %g", what, (double)score[j],
                              (double)threshold);
                if (reason[j] == KVT_LEFT_SCORE && has_threshold(p))
                    cr_assert(score[j] <= threshold, "%s: %g is above the threshold %g", what, (double)score[j],
                              (double)threshold);
                cr_assert(!here || p->heads != KVT_HEADS_SHARED ||
                              stays(r->reason[(size_t)(l * G) * (size_t)n + (size_t)j]),
                          "%s: heads differ", what);
            }
            for (int i = 0; p->spans && i < r->env.n_spans; i++)
                for (int j = r->env.span[3 * i + 1]; p->spans & 1 << r->env.span[3 * i] && j < r->env.span[3 * i + 2]; j++)
                    cr_assert(stays(reason[j]), "%s: lost position %d of a protected span", what, j);
            if (p->score == KVT_SCORE_NONE || l < p->skip)
                cr_assert_eq(held, n);
            else if (p->unit == KVT_UNIT_PAGE)
                cr_assert(held == r->budget_tok[cell] && (held == n || held % KVT_PAGE_SLOTS == 0), "%s: %d of %d", what, held, r->budget_tok[cell]);
            else if (p->score == KVT_SCORE_LAGKV && p->schedule == KVT_SCHEDULE_STEP)
                cr_assert_eq(held, r->budget_tok[cell], "%s: %d of %d", what, held, r->budget_tok[cell]);
            else if (p->within) /* stretches whose protected slots are more than their share keep these */
                cr_assert(held >= r->budget_tok[cell] && held <= r->budget_tok[cell] + p->window + p->sinks, "%s: %d of %d", what, held,
                          r->budget_tok[cell]);
            else if (p->unit == KVT_UNIT_TOKEN && p->alloc == KVT_ALLOC_UNIFORM)
                cr_assert_eq(held, tok, "%s: %d of %d", what, held, tok);
            else if (p->unit == KVT_UNIT_TOKEN)
                cr_assert_eq(held, r->budget_tok[cell], "%s: %d of %d", what, held, r->budget_tok[cell]);
            else if (p->unit == KVT_UNIT_CHUNK && p->alloc == KVT_ALLOC_UNIFORM && !r->fallback && p->chunk_count == KVT_COUNT_PAPER)
                cr_assert(held <= tok && (tok >= n || held > tok - 2 * p->chunk_tok), "%s: %d of %d", what, held, tok);
        }
    bool exact = p->alloc == KVT_ALLOC_PYRAMID || ((p->alloc == KVT_ALLOC_HEAD || p->alloc == KVT_ALLOC_PYRAMID_HEAD) && p->head_rule != KVT_HEAD_OFFICIAL) ||
                 p->alloc == KVT_ALLOC_GLOBAL;
    long whole = p->skip < L ? p->skip : L, pages = 0; /* layers that keep everything are beside the budget */
    for (int i = (int)whole * G; i < L * G; i++)
        pages += (r->kept_tok[i] + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS;
    if (exact && p->rule == KVT_RULE_EXACT && p->unit == KVT_UNIT_TOKEN)
        cr_assert_eq(total, whole * G * n + (long)tok * (L - whole) * G, "%s: %ld in all", what, total);
    if (p->unit == KVT_UNIT_PAGE && p->alloc == KVT_ALLOC_GLOBAL)
        cr_assert_eq(pages, (long)((tok + KVT_PAGE_SLOTS - 1) / KVT_PAGE_SLOTS) * L * G, "%s: %ld pages in all", what, pages);
    if (exact && p->unit == KVT_UNIT_SHOT) { /* never above what fits, unless what stays anyway is more */
        long fixed = 0;
        for (int i = 0; i < L * G; i++)
            for (int j = 0; j < n; j++)
                fixed += r->reason[(size_t)i * (size_t)n + (size_t)j] == KVT_KEPT_PROTECTED || r->reason[(size_t)i * (size_t)n + (size_t)j] == KVT_KEPT_WINDOW;
        cr_assert(total <= (long)tok * L * G || total == fixed, "%s: %ld in all", what, total);
    }
    cr_assert_float_eq(r->effective, (double)total / ((double)n * L * G), 1e-12);
    free(at);
}

/* Sinks and the newest tokens are there after each step, however often it evicted. */
static void check_protected(struct life *f, int layer, int pos)
{
    const struct kvt_policy *p = &f->spec.policy;
    int32_t *at = calloc((size_t)f->r.env.max_slots, sizeof *at);
    int tok = kvt_budget_tokens(&f->budget, pos + 1), recent = p->recent < 0 ? (tok + 1) / 2 : p->recent;
    for (int g = 0; g < f->shape->G && p->schedule == KVT_SCHEDULE_STEP; g++) {
        int held = rig_positions(&f->r, 1, layer, g, at);
        qsort(at, (size_t)held, sizeof *at, rig_ascending);
        for (int j = 0; j <= pos; j++)
            cr_assert((j >= p->sinks && j <= pos - recent) || bsearch(&j, at, (size_t)held, sizeof *at, rig_ascending),
                      "%s: position %d is lost at %d, layer %d head %d", f->what, j, pos, layer, g);
    }
    free(at);
}

/* In each step every cell is back at its budget. */
static void check_step(struct life *f, int layer, int pos, int step)
{
    (void)step;
    const struct kvt_policy *p = &f->spec.policy;
    check_protected(f, layer, pos);
    if (p->schedule != KVT_SCHEDULE_STEP || p->score == KVT_SCORE_LAGKV || f->budget.keep_ppm >= 1000000)
        return;
    int32_t *at = calloc((size_t)f->r.env.max_slots, sizeof *at);
    for (int g = 0; g < f->shape->G; g++) {
        int held = rig_positions(&f->r, 1, layer, g, at), tok = kvt_budget_tokens(&f->budget, pos + 1);
        if (p->alloc == KVT_ALLOC_CLASS) { /* a budget of its own: all, or sinks and the newest */
            int few = p->sinks + p->recent;
            tok = held == pos + 1 || few > pos + 1 ? pos + 1 : few;
        }
        /* after whole chunks there may be room for some more tokens */
        cr_assert(held <= tok && (held == tok || p->unit == KVT_UNIT_CHUNK), "%s: %d of %d at position %d", f->what, held, tok, pos);
    }
    free(at);
}

/* What left and what stays is everything; each left once. */
static void check_end(struct life *f)
{
    const struct shape *s = f->shape;
    const struct rig *r = &f->r;
    int32_t *at = calloc((size_t)r->env.max_slots, sizeof *at);
    for (int l = 0; l < s->L; l++)
        for (int g = 0; g < s->G; g++) {
            int held = rig_positions(&f->r, 1, l, g, at), lost = 0;
            for (int i = 0; i < r->n_lost; i++) {
                lost += r->lost[i].layer == l && r->lost[i].g == g;
                for (int k = 0; k < held && r->lost[i].layer == l && r->lost[i].g == g; k++)
                    cr_assert_neq(at[k], r->lost[i].pos, "%s: reported as lost, but held", f->what);
            }
            cr_assert_eq(held + lost, r->kept_tok[l * s->G + g] + s->n_prompt - s->n_context + STEPS, "%s: tokens unaccounted for", f->what);
        }
    free(at);
}

static void run(struct outcome *o, const struct shape *s, const struct kvt_ops *ops, int threads, const char *text,
                struct kvt_budget budget)
{
    struct life f = {.shape = s, .ops = ops, .threads = threads, .text = text, .budget = budget, .at_prefill = check_prefill, .at_step = check_step};
    *o = (struct outcome){.refused = !life_open(&f)};
    if (o->refused)
        return;
    life_steps(&f, o);
    check_end(&f);
    life_close(&f);
}

/* Would catch: almost anything in evict*.c, topk or cache ops; ref is the definition, cpu on 1 and 2 threads must
 * agree. */
Test(evict_any, invariants)
{
    static const int64_t keep[] = {50000, 125000, 400000, 900000};
    int refused = 0, ran = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct shape s = random_shape(seed);
        for (int m = 0; m < N_SPECS; m++)
            for (size_t k = 0; k < sizeof keep / sizeof *keep; k++) {
                struct outcome a, b, c;
                run(&a, &s, &kvt_ops_ref, 1, specs[m], rig_keep(keep[k]));
                run(&b, &s, &kvt_ops_cpu, 1, specs[m], rig_keep(keep[k]));
                run(&c, &s, &kvt_ops_cpu, 2, specs[m], rig_keep(keep[k]));
                cr_assert(same(&a, &b), "%s seed %d: cpu differs from ref", specs[m], (int)seed);
                cr_assert(same(&b, &c), "%s seed %d: 2 threads differ from 1", specs[m], (int)seed);
                refused += a.refused;
                ran += !a.refused;
                free(a.pos);
                free(b.pos);
                free(c.pos);
            }
    }
    cr_assert(ran > 3 * refused, "%d ran, %d were refused", ran, refused);
}

/* 100 % is the full branch: every page still shared, nothing said to leave. Would catch: a compaction that copies. */
Test(evict_any, everything_kept_touches_nothing)
{
    static const int window[1] = {8};
    for (int m = 0; m < N_SPECS; m++) {
        struct shape s = random_shape(5);
        struct rig r;
        struct kvt_cache_bytes bytes;
        if (strstr(specs[m], "decode=")) /* an own share for decode is asked for beside it */
            continue;
        rig_open(&r, &kvt_ops_cpu, 1, s.L, s.H, s.G, s.n_prompt, s.n_context, 4, 2, window, 1);
        r.env.shot = s.shot;
        r.env.n_shots = s.n_shots;
        r.env.span = s.span;
        r.env.n_spans = s.n_spans;
        struct kvt_evictor *e = rig_evict(&r, 1, specs[m], rig_keep(1000000));
        cr_assert(!kvt_evictor_steps(e) && !kvt_evictor_wants_row(e), "%s", specs[m]);
        cr_assert_eq(r.effective, 1.0);
        cr_assert_eq(r.reason[s.n_context / 2], KVT_KEPT_ALL);
        cr_assert_eq(r.ops->cache_bytes(r.dev, r.cache, 1, &bytes), 0);
        cr_assert_eq(bytes.own, 0, "%s: %zu bytes aren't shared", specs[m], bytes.own);
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* Whether a smaller budget keeps a part of what a larger one keeps, at prefill's end: docs/methods.md says who doesn't, and why. */
static bool monotone(const struct kvt_policy *p)
{
    bool half = p->recent < 0, staged = p->critical_ppm || p->within, lags = p->score == KVT_SCORE_LAGKV && p->schedule == KVT_SCHEDULE_STEP;
    if (half || staged || lags || p->leaver == KVT_LEAVES_CONTEST)
        return false;
    switch (p->unit) {
    case KVT_UNIT_TOKEN: return p->alloc == KVT_ALLOC_UNIFORM || p->alloc == KVT_ALLOC_GLOBAL || p->alloc == KVT_ALLOC_CLASS;
    case KVT_UNIT_CHUNK: return p->alloc == KVT_ALLOC_UNIFORM && p->chunk_count == KVT_COUNT_PAPER;
    case KVT_UNIT_SHOT:
    case KVT_UNIT_SENTENCE: return p->alloc == KVT_ALLOC_UNIFORM && p->overflow == KVT_OVERFLOW_STOP;
    case KVT_UNIT_PAGE: return false;
    }
    return false;
}

Test(evict_any, smaller_budget_is_a_subset)
{
    int claimed = 0, sets = 0;
    for (int m = 0; m < N_SPECS; m++)
        for (uint64_t seed = 20; seed < 28; seed++) {
            struct shape s = random_shape(seed);
            uint64_t x = seed + (uint64_t)m * 31;
            int ppm = 150000 + rig_below(&x, 500000);
            struct life small = {.shape = &s, .ops = &kvt_ops_cpu, .threads = 1, .text = specs[m], .budget = rig_keep(ppm)}, large = small;
            large.budget = rig_keep(ppm + 20000 + rig_below(&x, 300000));
            rig_spec(&small.spec, specs[m]);
            if (!monotone(&small.spec.policy))
                break;
            claimed += seed == 20;
            if (!life_open(&small))
                continue;
            cr_assert(life_open(&large), "%s: a larger budget is refused", large.what);
            int32_t few[256], many[256];
            for (int l = 0; l < s.L; l++)
                for (int g = 0; g < s.G; g++) {
                    int ns = rig_positions(&small.r, 1, l, g, few), nl = rig_positions(&large.r, 1, l, g, many);
                    for (int i = 0; i < ns; i++)
                        cr_assert(bsearch(&few[i], many, (size_t)nl, sizeof *many, rig_ascending), "%s: %d is only in the smaller set of %d", small.what,
                                  few[i], ns);
                    sets++;
                }
            life_close(&small);
            life_close(&large);
        }
    cr_assert(claimed > 25 && sets > 500, "%d methods, %d sets", claimed, sets);
}

/* ---- a fork goes on as the one it was made from ---- */

static void fork_along(struct life *f, int layer, int pos, int step)
{
    struct kvt_evictor **e = f->self;
    struct kvt_err err = {0};
    if (*e) { /* in the same slots, so the row is the same */
        rig_append(&f->r, 2, layer, pos, pos + 1);
        if (kvt_evictor_steps(*e))
            cr_assert_eq(kvt_evict_step(*e, layer, f->r.row, f->r.env.max_slots, pos, step, &err), 0, "%s", err.text);
    } else if (step == 3 && layer == f->shape->L - 1) {
        cr_assert_eq(f->ops->cache_fork(f->r.dev, f->r.cache, 1, 2), 0);
        cr_assert_eq(kvt_evictor_fork(e, f->e, 2, &err), 0, "%s", err.text);
    }
}

/* Would catch: state, turns, budgets or classes that a fork doesn't take along, and anything that two branches share. */
Test(evict_any, fork_equals_alone)
{
    for (int m = 0; m < N_SPECS; m++)
        for (uint64_t seed = 60; seed < 63; seed++) {
            struct shape s = random_shape(seed);
            struct kvt_evictor *e = NULL;
            struct outcome o = {0};
            struct life f = {.shape = &s, .ops = &kvt_ops_cpu, .threads = 1, .text = specs[m], .budget = rig_keep(400000), .at_step = fork_along, .self = &e};
            if (!life_open(&f))
                continue;
            life_steps(&f, &o);
            cr_assert_not_null(e);
            int32_t a[256], b[256];
            for (int l = 0; l < s.L; l++)
                for (int g = 0; g < s.G; g++) {
                    int na = rig_positions(&f.r, 1, l, g, a), nb = rig_positions(&f.r, 2, l, g, b);
                    cr_assert(na == nb && !memcmp(a, b, (size_t)na * sizeof *a), "%s: a fork differs in layer %d head %d", f.what, l, g);
                }
            kvt_evictor_close(&e);
            life_close(&f);
            free(o.pos);
        }
}

/* A new method must be added to the list above. */
Test(evict_any, covers_the_registry)
{
    int count;
    const struct kvt_method *const *all = kvt_methods(&count);
    for (int i = 0; i < count; i++) {
        bool found = false;
        for (int m = 0; m < N_SPECS; m++)
            found |= !strncmp(specs[m], all[i]->name, strlen(all[i]->name));
        cr_assert(found, "%s isn't tested", all[i]->name);
    }
}

/* An eviction every single token is per-step eviction, by another path: all layers at once, compacted in order, sums moved
 * with their slots. Would catch: sums that don't follow their slots, a row added twice or not, another protection. */
Test(evict_any, every_token_is_each_step)
{
    static const char *const pairs[][2] = {
        {"my[score=mass,schedule=step,protect=sink2+recent3]", "my[score=mass,schedule=every,every=1,protect=sink2+recent3]"},
        {"my[score=mass,norm=visible,schedule=step,protect=recenthalf]", "my[score=mass,norm=visible,schedule=every,every=1,protect=recenthalf]"},
        {"my[score=last,schedule=step]", "my[score=last,schedule=every,every=1]"},
        {"my[score=mass,heads=shared,schedule=step,protect=sink1]", "my[score=mass,heads=shared,schedule=every,every=1,protect=sink1]"},
        {"my[score=last,heads=shared,schedule=step]", "my[score=last,heads=shared,schedule=every,every=1]"},
        {"my[score=random,heads=shared,seed=6,schedule=step]", "my[score=random,heads=shared,seed=6,schedule=every,every=1]"},
        {"my[score=random,seed=5,schedule=step]", "my[score=random,seed=5,schedule=every,every=1]"},
        {"my[score=recency,schedule=step,protect=sink4]", "my[score=recency,schedule=every,every=1,protect=sink4]"},
    };
    for (uint64_t seed = 1; seed <= 6; seed++)
        for (size_t m = 0; m < sizeof pairs / sizeof *pairs; m++) {
            struct shape s = random_shape(seed);
            struct outcome a, b;
            s.n_context = s.n_prompt; /* a question's rows evict in steps, and only count every N tokens */
            run(&a, &s, &kvt_ops_cpu, 1, pairs[m][0], rig_keep(400000));
            run(&b, &s, &kvt_ops_cpu, 1, pairs[m][1], rig_keep(400000));
            cr_assert(a.refused == b.refused && same(&a, &b), "%s differs from steps, seed %d", pairs[m][1], (int)seed);
            free(a.pos);
            free(b.pos);
        }
}
