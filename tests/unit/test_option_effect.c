/* Every option beside every kind of method: what isn't refused, and isn't the default, changes what is kept, scored or asked. Would
 * catch: a choice that is accepted and passed over in silence. Shapes are random, so a change has several to show itself on. */
#include "any_rig.h"

/* One or more of each score, unit, allocation and schedule. */
static const char *const bases[] = {
    "my[score=random", "my[score=recency,protect=sink2", "my[score=mass", "my[score=wmass,w=8", "my[score=wmass,w=8,pool=max3,protect=sink2+window",
    "my[score=last", "my[score=sqmass", "my[score=sqwmass,w=7", "my[score=max", "my[score=later,unit=shot", "my[score=knorm", "my[score=keydiff",
    "my[score=lagkv,lag=8", "my[score=expected,ahead=2", "my[score=kvzip", "my[score=oracle", "my[score=mass,unit=chunk,chunk=6",
    "my[score=wmass,w=8,unit=chunk,chunk=5,count=kvpress", "my[score=mass,unit=page", "my[score=mass,unit=shot", "my[score=mass,unit=sentence",
    "my[score=mass,alloc=pyramid", "my[score=mass,alloc=head", "my[score=mass,alloc=pyramid+head", "my[score=mass,alloc=global",
    "my[score=mass,unit=page,alloc=head", "my[score=mass,unit=shot,alloc=head", "my[score=recency,alloc=class,protect=sink2+recent9,path=x",
    "my[score=mass,schedule=step", "my[score=last,schedule=step", "my[score=random,schedule=step,protect=recent3", "my[score=knorm,schedule=step",
    "my[score=mass,schedule=step,leaves=contest", "my[score=mass,schedule=every,every=3", "my[score=wmass,w=4,schedule=every,every=6",
    "my[score=knorm,schedule=every,every=2,alloc=head", "my[score=mass,heads=shared", "my[score=last,heads=shared,schedule=step",
    "my[score=mass,decode=40%", "my[score=mass,scope=all_layers", "my[score=mass,reuse=2", "my[score=mass,critical=50%", "my[score=mass,skip=1",
};
static const char *const values[] = {
    "w=5", "keep_window=1", "norm=visible", "pool=max5", "pool=avg3", "group=max", "group=sum", "order=group-first", "v=6", "lag=5", "ahead=1",
    "nosinks=1", "vnorm=1", "repeat=7", "critical=30%", "heads=shared", "unit=page", "unit=chunk", "unit=shot", "unit=sentence", "reduce=sum", "reduce=max",
    "chunk=3", "count=kvpress", "overflow=skip", "overflow=knapsack", "force=1", "scope=all_layers", "within=17", "alloc=head", "alloc=pyramid",
    "alloc=global", "beta=3", "rule=official", "rule=kvpress", "head_rule=safeguard", "head_rule=official", "alpha=70%", "class=20%", "skip=1", "reuse=2",
    "schedule=step", "schedule=every,every=2", "every=2", "leaves=contest", "prefill=35%", "decode=30%", "decode_floor=3", "decode_recent=3", "sinks=5", "recent=6",
    "recent=half", "seed=9",
};
enum { N_BASES = sizeof bases / sizeof *bases, N_VALUES = sizeof values / sizeof *values, SHAPES = 12 };

/* What can't show in a rig without a model: the oracle's rows and the repetition come from outside, here as random scores, and no key
 * is rotated. Neighbours compare alike by a sum and by a mean. */
static bool unseen(const struct kvt_policy *p, const char *value)
{
    return !strncmp(value, "ahead", 5) || !strncmp(value, "repeat", 6) || !strncmp(value, "nosinks", 7) ||
           (!strcmp(value, "group=sum") && p->leaver == KVT_LEAVES_CONTEST);
}

/* Oracles rank what is still to come: here any numbers. */
static const float *future(void *self, int branch, int layer)
{
    (void)branch;
    (void)layer;
    return self;
}

/* Everything that is told of a life, as one number; 0: refused. */
static uint64_t told(const char *text, const struct shape *s, struct kvt_budget budget)
{
    static float worth[4096];
    struct life f = {.shape = s, .ops = &kvt_ops_cpu, .threads = 1, .text = text, .budget = budget};
    struct outcome o = {0};
    uint64_t h = 0xcbf29ce484222325u;
    if (!life_open(&f))
        return 0;
    for (int i = 0; i < 4096; i++)
        worth[i] = (float)(i * 37 % 101);
    f.r.env.future = future, f.r.env.future_self = worth;
    size_t cells = (size_t)s->L * (size_t)s->G, n = (size_t)s->n_context;
    const struct {
        const void *at;
        size_t bytes;
    } part[] = {{f.r.decided, cells * n * sizeof(float)}, {f.r.threshold, cells * sizeof(float)}, {f.r.reason, cells * n}, {f.r.budget_tok, cells * sizeof(int32_t)}};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (size_t k = 0; k < part[i].bytes; k++)
            h = (h ^ ((const unsigned char *)part[i].at)[k]) * 0x100000001b3u;
    life_steps(&f, &o);
    for (size_t i = 0; i < o.n; i++)
        h = (h ^ (uint64_t)o.pos[i]) * 0x100000001b3u;
    life_close(&f);
    free(o.pos);
    return h | 1;
}

Test(option_effect, none_is_passed_over)
{
    struct shape shape[SHAPES];
    struct kvt_budget budget[SHAPES];
    int ran = 0, refused = 0, same = 0;
    for (int i = 0, k = 0; i < SHAPES; k++) { /* those that have layers, heads and groups to differ in */
        shape[i] = random_shape((uint64_t)(200 + k));
        budget[i] = rig_keep(i % 2 ? 300000 : 600000);
        i += shape[i].L > 1 && shape[i].G > 1 && shape[i].H > shape[i].G && shape[i].n_shots > 2 && shape[i].n_context > 60;
    }
    for (int b = 0; b < N_BASES; b++) {
        uint64_t was[SHAPES] = {0};
        char plain[160];
        struct kvt_spec base;
        snprintf(plain, sizeof plain, "%s]", bases[b]);
        rig_spec(&base, plain);
        for (int v = 0; v < N_VALUES; v++) {
            char text[160];
            struct kvt_spec spec;
            struct kvt_err err = {0};
            snprintf(text, sizeof text, "%s,%s]", bases[b], values[v]);
            if (kvt_spec_parse(&spec, text, strlen(text), &err)) {
                refused++;
                continue;
            }
            if (!strcmp(spec.canonical, base.canonical) || unseen(&spec.policy, values[v]))
                continue;
            bool changes = false;
            for (int i = 0; i < SHAPES && !changes; i++) {
                was[i] = was[i] ? was[i] : told(plain, &shape[i], budget[i]);
                changes = told(text, &shape[i], budget[i]) != was[i];
            }
            ran++;
            same += !changes;
            if (!changes)
                fprintf(stderr, "%s changes nothing\n", text);
        }
    }
    cr_assert(!same && ran > 300 && refused > 300, "%d of %d change nothing; %d were refused", same, ran, refused);
}
