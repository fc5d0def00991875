/* What must hold for every method, at any shape and budget: random shapes, seeds and scores (many of them equal). */
#include "evict_rig.h"

#include "kvt/prompt.h"

static const char *const specs[] = {
    "full",
    "oracle",
    "oracle[heads=shared,sinks=2]",
    "kvzip[alloc=uniform]",
    "file[x.h5]",
    "random[seed=3]",
    "random[heads=shared,sinks=2]",
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
enum { N_SPECS = sizeof specs / sizeof *specs, STEPS = 9, SHOTS = 6, SPANS = 24 };

struct shape {
    int L, H, G, n_prompt, n_context, n_shots;
    int32_t shot[2 * SHOTS];
    int n_spans;
    int32_t span[3 * SPANS];   /* sentences, and some answers inside them */
    uint64_t seed;
};

static struct shape random_shape(uint64_t seed)
{
    struct shape s = {.seed = seed};
    uint64_t x = seed * 0x2545f4914f6cdd1du + 7;
    rig_next(&x);
    s.L = 1 + rig_below(&x, 4);
    s.G = 1 + rig_below(&x, 3);
    s.H = s.G * (1 + rig_below(&x, 3));
    s.n_prompt = 24 + rig_below(&x, 140);
    s.n_context =
        s.n_prompt - (rig_below(&x, 2) ? rig_below(&x, 12) : 0); /* the question covers some of the window, or none */
    int at = rig_below(&x, 4);
    for (; s.n_shots < SHOTS; s.n_shots++) {
        int end = at + 1 + rig_below(&x, s.n_context / 5);
        if (end > s.n_context)
            break;
        s.shot[2 * s.n_shots] = at;
        s.shot[2 * s.n_shots + 1] = end;
        at = end + rig_below(&x, 3);
    }
    for (at = rig_below(&x, 3); s.n_spans + 1 < SPANS;) {
        int end = at + 1 + rig_below(&x, 20);
        if (end > s.n_context)
            break;
        memcpy(s.span + 3 * s.n_spans++, (int32_t[]){KVT_SPAN_SENTENCE, at, end}, 3 * sizeof *s.span);
        if (!rig_below(&x, 3)) /* few enough that a small budget holds them */
            memcpy(s.span + 3 * s.n_spans++, (int32_t[]){KVT_SPAN_ANSWER, end - 1, end}, 3 * sizeof *s.span);
        at = end;
    }
    return s;
}

/* Everything that a run gives, for comparison: positions of all cells (ascending) after each step. */
struct outcome {
    int32_t *pos;
    size_t n, cap;
    bool refused;
};

static void note_cells(struct outcome *o, struct rig *r)
{
    int32_t *at = calloc((size_t)r->env.max_slots, sizeof *at);
    for (int l = 0; l < r->env.L; l++)
        for (int g = 0; g < r->env.G; g++) {
            int n = rig_positions(r, 1, l, g, at);
            qsort(at, (size_t)n, sizeof *at, rig_ascending);
            if (o->n + (size_t)n + 1 > o->cap) {
                o->cap = 2 * (o->n + (size_t)n + 1);
                o->pos = realloc(o->pos, o->cap * sizeof *o->pos);
            }
            o->pos[o->n++] = n;
            memcpy(o->pos + o->n, at, (size_t)n * sizeof *at);
            o->n += (size_t)n;
        }
    free(at);
}

static bool same(const struct outcome *a, const struct outcome *b)
{
    return a->n == b->n && (!a->n || !memcmp(a->pos, b->pos, a->n * sizeof *a->pos));
}

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
static void check_prefill(struct rig *r, const struct kvt_spec *spec, const struct kvt_budget *budget, const char *what)
{
    int n = r->env.n_context, G = r->env.G, L = r->env.L, tok = kvt_budget_tokens(budget, n);
    const struct kvt_policy *p = &spec->policy;
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

/* A row (H, max_slots) whose values belong to positions, wherever their slots are; the last slot is the one to come. */
static void random_row(struct rig *r, const struct shape *s, int layer, int pos, uint64_t seed, float *row)
{
    int n_row = r->env.max_slots;
    int32_t *at = calloc((size_t)n_row, sizeof *at);
    for (int h = 0; h < s->H; h++) {
        int n = rig_positions(r, 1, layer, h / (s->H / s->G), at);
        at[n++] = pos;
        for (int i = 0; i < n; i++) {
            uint64_t x = seed * 0x9e3779b97f4a7c15u + (uint64_t)h * 7919 + (uint64_t)at[i] * 104729 + (uint64_t)pos * 1299709 + (uint64_t)layer + 1;
            rig_next(&x);
            rig_next(&x);
            row[h * n_row + i] = (float)(rig_next(&x) >> 52) / 4096.0f;
        }
    }
    free(at);
}

static void run(struct outcome *o, const struct shape *s, const struct kvt_ops *ops, int threads, const char *text,
                struct kvt_budget budget)
{
    static const int window[1] = {8};
    struct kvt_spec spec;
    struct kvt_err err = {0};
    struct rig r;
    char what[160];
    rig_spec(&spec, text);
    snprintf(what, sizeof what, "%s %s seed %d keep %d ppm", ops->name, text, (int)s->seed, (int)budget.keep_ppm);
    *o = (struct outcome){0};
    if (kvt_evict_check(&spec, &budget, s->n_prompt, s->n_context, s->n_shots, &err)) {
        o->refused = true;
        return;
    }
    rig_open(&r, ops, threads, s->L, s->H, s->G, s->n_prompt, s->n_context, STEPS + s->n_prompt - s->n_context, 2,
             window, 1);
    rig_random_scores(&r, s->seed);
    struct kvt_needs needs = {0}; /* the other reductions are as random as these */
    kvt_spec_needs(&spec, &needs);
    r.raw.n_squares = needs.n_squares;
    for (int i = 0; i < needs.n_squares; i++) {
        r.raw.square[i] = needs.square[i];
        r.raw.sqmass[i] = r.raw.mass;
    }
    r.raw.max = r.raw.last, r.raw.later = r.raw.mass;
    struct kvt_turn turn[8] = {{{0}, 0}}; /* no rotation, and keys of thousands scaled down */
    for (int l = 0; l < s->L; l++)
        turn[l].scale = 1e-5f;
    r.raw.query_mean = r.raw.mass, r.raw.query_scatter = r.raw.last, r.raw.query_rows = 1;
    r.env.turn = turn;
    r.env.shot = s->shot;
    r.env.n_shots = s->n_shots;
    r.env.span = s->span;
    r.env.n_spans = s->n_spans;
    struct kvt_evictor *e = NULL;
    if (kvt_evictor_open(&e, &r.env, 1, &spec, &budget, &err)) { /* protected spans, no sentences: known only here */
        o->refused = true;
        rig_close(&r);
        return;
    }
    kvt_evictor_close(&e);
    e = rig_evict(&r, 1, text, budget);
    check_prefill(&r, &spec, &budget, what);
    note_cells(o, &r);
    /* the question, then new tokens, each row random */
    int first_new = s->n_prompt, n_row = r.env.max_slots;
    float *row = calloc((size_t)s->H * (size_t)n_row, sizeof *row);
    const uint64_t x = s->seed + 99;
    long lost = 0;
    for (int pos = s->n_context; pos < first_new + STEPS; pos++)
        for (int l = 0; l < s->L; l++) {
            random_row(&r, s, l, pos, x, row);
            rig_step(&r, e, 1, l, pos, pos < first_new ? 0 : pos - first_new + 1, row, n_row);
            int32_t *at = calloc((size_t)n_row, sizeof *at);
            for (int g = 0; g < s->G && spec.policy.schedule == KVT_SCHEDULE_STEP && spec.policy.score != KVT_SCORE_LAGKV && budget.keep_ppm < 1000000; g++) {
                int held = rig_positions(&r, 1, l, g, at), tok = kvt_budget_tokens(&budget, pos + 1);
                if (spec.policy.alloc == KVT_ALLOC_CLASS) { /* a budget of its own: all, or sinks and the newest */
                    int few = spec.policy.sinks + spec.policy.recent;
                    tok = held == pos + 1 || few > pos + 1 ? pos + 1 : few;
                }
                /* after whole chunks there may be room for some more tokens */
                cr_assert(held <= tok && (held == tok || spec.policy.unit == KVT_UNIT_CHUNK), "%s: %d of %d at position %d", what,
                          held, tok, pos);
            }
            free(at);
        }
    free(row);
    if (spec.policy.schedule == KVT_SCHEDULE_EVERY && STEPS % spec.policy.every == 0 && spec.policy.unit == KVT_UNIT_TOKEN &&
        spec.policy.head_rule != KVT_HEAD_OFFICIAL) { /* whose heads are rounded one by one */
        int32_t *at = calloc((size_t)n_row, sizeof *at);
        long total = 0; /* an eviction was just due: the total is exact, whoever shares it */
        for (int l = 0; l < s->L; l++)
            for (int g = 0; g < s->G; g++)
                total += rig_positions(&r, 1, l, g, at);
        free(at);
        cr_assert_eq(total, (long)kvt_budget_tokens(&budget, first_new + STEPS) * s->L * s->G, "%s: %ld slots", what, total);
    }
    note_cells(o, &r);
    /* what left and what stays is everything; each left once */
    int32_t *at = calloc((size_t)n_row, sizeof *at);
    for (int l = 0; l < s->L; l++)
        for (int g = 0; g < s->G; g++) {
            lost = 0;
            int held = rig_positions(&r, 1, l, g, at);
            for (int i = 0; i < r.n_lost; i++) {
                lost += r.lost[i].layer == l && r.lost[i].g == g;
                for (int k = 0; k < held && r.lost[i].layer == l && r.lost[i].g == g; k++)
                    cr_assert_neq(at[k], r.lost[i].pos, "%s: reported as lost, but held", what);
            }
            cr_assert_eq(held + lost, r.kept_tok[l * s->G + g] + s->n_prompt - s->n_context + STEPS,
                         "%s: tokens unaccounted for", what);
        }
    free(at);
    kvt_evictor_close(&e);
    rig_close(&r);
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

/* Where the order of slots doesn't depend on the budget, a smaller one keeps a subset. */
Test(evict_any, smaller_budget_is_a_subset)
{
    static const char *const monotone[] = {"random[seed=5]", "streaming[schedule=prefill]",
                                           "snapkv[w=8]",    "chunkkv[w=8,chunk=4]",
                                           "shotkv",         "h2o[schedule=prefill,recent=3]"};
    for (uint64_t seed = 20; seed < 30; seed++)
        for (size_t m = 0; m < sizeof monotone / sizeof *monotone; m++) {
            static const int window[1] = {8};
            struct shape s = random_shape(seed);
            struct rig r;
            int32_t small[256], large[256];
            rig_open(&r, &kvt_ops_cpu, 1, s.L, s.H, s.G, s.n_prompt, s.n_context, 0, 3, window, 1);
            rig_random_scores(&r, seed);
            r.env.shot = s.shot;
            r.env.n_shots = s.n_shots;
            r.env.span = s.span;
            r.env.n_spans = s.n_spans;
        r.env.span = s.span;
        r.env.n_spans = s.n_spans;
            struct kvt_evictor *a = rig_evict(&r, 1, monotone[m], rig_tokens(s.n_context / 2)),
                               *b = rig_evict(&r, 2, monotone[m], rig_tokens(s.n_context * 2 / 3));
            for (int l = 0; l < s.L; l++)
                for (int g = 0; g < s.G; g++) {
                    int ns = rig_positions(&r, 1, l, g, small), nl = rig_positions(&r, 2, l, g, large);
                    for (int i = 0; i < ns; i++)
                        cr_assert(bsearch(&small[i], large, (size_t)nl, sizeof *large, rig_ascending),
                                  "%s: %d is only in the smaller set", monotone[m], small[i]);
                }
            kvt_evictor_close(&a);
            kvt_evictor_close(&b);
            rig_close(&r);
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
