/* Methods on the command line: what is accepted, what it becomes in canonical form, and what is said when it isn't. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/method.h"

static int parse(struct kvt_spec *s, const char *text, struct kvt_err *err)
{
    return kvt_spec_parse(s, text, strlen(text), err);
}

/* Would catch: a default changed by accident. A new default is a new version of the method. */
Test(methods, canonical_defaults)
{
    static const char *const want[] = {
        "full@1[renumber=0]",
        "random@1[seed=0,heads=each,sinks=0,renumber=0]",
        "streaming@1[sinks=4,schedule=step,renumber=1]",
        "h2o@1[power=1,norm=sum,group=mean,recent=half,sinks=0,heads=each,schedule=step,renumber=0]",
        "snapkv@1[w=32,pool=max7,group=mean,order=pool-first,heads=each,keep_window=1,sinks=0,renumber=0]",
        "pyramidkv@1[w=32,pool=max7,group=mean,order=pool-first,heads=each,keep_window=1,beta=20,rule=exact,sinks=0,"
        "renumber=0]",
        "chunkkv@1[chunk=10,w=32,count=paper,pool=none,group=mean,order=pool-first,heads=each,keep_window=1,reuse=1,"
        "sinks=0,renumber=0]",
        "shotkv@1[rows=all,w=32,norm=sum,heads=shared,unit=shot,scope=per_layer,overflow=stop,force=0,prefill=same,"
        "decode=same,decode_floor=1,decode_recent=1,sinks=0,renumber=0]",
        "adakv@1[w=32,pool=max7,group=mean,order=group-first,keep_window=1,alloc=head,head_rule=blend,alpha=0.2,beta=20,"
        "rule=exact,sinks=0,renumber=0]",
        "criticalkv@1[critical=0.5,w=32,pool=max7,group=mean,order=pool-first,heads=each,keep_window=1,alloc=uniform,"
        "head_rule=safeguard,alpha=0.2,beta=20,rule=exact,sinks=0,renumber=0]",
        "kvcompress@1[score=sqwmass,w=8,v=0,pool=max7,group=sum,order=pool-first,alloc=global,recent=64,sinks=0,"
        "schedule=prefill,every=512,renumber=0]",
        "randomshot@1[seed=0,heads=shared,scope=per_layer,overflow=stop,force=0,prefill=same,decode=same,decode_floor=1,"
        "decode_recent=1,sinks=0,renumber=0]",
        "tova@1[group=mean,heads=shared,recent=0,sinks=0,schedule=step,renumber=0]",
        "treekv@1[norm=visible,group=mean,chunk=16,recent=half,sinks=4,heads=each,schedule=step,renumber=1]",
        "oracle@1[ahead=0,nosinks=0,unit=token,reduce=mean,chunk=10,count=paper,overflow=stop,force=0,heads=each,scope="
        "per_layer,within=0,alloc=uniform,beta=20,rule=exact,head_rule=blend,alpha=0.2,skip=0,reuse=1,schedule=prefill,every=512,"
        "prefill=same,decode=none,decode_floor=0,decode_recent=0,sinks=0,recent=0,renumber=0]",
        "knorm@1[sinks=0,recent=0,heads=each,skip=0,renumber=0]",
        "keydiff@1[sinks=0,recent=0,heads=each,skip=0,renumber=0]",
        "lagkv@1[lag=128,sinks=4,recent=0,heads=each,skip=0,schedule=prefill,renumber=0]",
        "expected@1[ahead=512,vnorm=1,sinks=4,recent=0,heads=each,skip=0,renumber=0]",
        "kvzip@1[repeat=2048,alloc=global,heads=each,sinks=4,recent=0,renumber=0]",
        "file@1[path=,unit=token,reduce=mean,chunk=10,count=paper,overflow=stop,force=0,heads=each,scope=per_layer,"
        "alloc=uniform,beta=20,rule=exact,head_rule=blend,alpha=0.2,skip=0,reuse=1,sinks=0,recent=0,renumber=0]",
        "duoattention@1[path=,class=0.5,sinks=64,recent=256,schedule=step,renumber=0]",
        "finch@1[score=finch,w=question,group=mean,within=0,keep_window=1,sinks=0,renumber=1]",
        NULL, /* my: has no form without a score, see below */
    };
    int count;
    const struct kvt_method *const *all = kvt_methods(&count);
    cr_assert_eq(count, (int)(sizeof want / sizeof *want));
    for (int i = 0; i < count; i++) {
        struct kvt_spec s, again;
        struct kvt_err err = {0};
        if (!want[i])
            continue;
        cr_assert_eq(parse(&s, all[i]->name, &err), 0, "%s", err.text);
        cr_assert_str_eq(s.canonical, want[i]);
        /* the canonical form without its version is a command line that gives itself */
        char text[KVT_CANONICAL];
        const char *at = strchr(s.canonical, '@');
        snprintf(text, sizeof text, "%.*s%s", (int)(at - s.canonical), s.canonical, strchr(at, '['));
        cr_assert_eq(parse(&again, text, &err), 0, "%s", err.text);
        cr_assert_str_eq(again.canonical, s.canonical);
        cr_assert(all[i]->source && all[i]->summary);
    }
}

/* Compositions by hand: every dimension, and what isn't the default. Would catch: a field without a name. */
Test(methods, compositions)
{
    static const struct {
        const char *text, *canonical;
    } c[] = {
        {"my[score=mass]", "my@1[score=mass,unit=token,alloc=uniform,schedule=prefill,protect=none,renumber=0,after=drop]"},
        {"my[score=wmass,w=32,pool=max7,unit=shot,alloc=pyramid,protect=sink4+recent32]",
         "my@1[score=wmass,pool=max7,unit=shot,alloc=pyramid,schedule=prefill,protect=sink4+recent32,renumber=0,after=drop]"},
        {"my[score=mass,recent=half,sinks=2,keep_window=1,w=16]",
         "my@1[score=mass,w=16,unit=token,alloc=uniform,schedule=prefill,protect=sink2+recenthalf+window,renumber=0,after=drop]"},
        {"my[score=last,unit=chunk,chunk=5,reduce=max,decode=12.5%]",
         "my@1[score=last,unit=chunk,reduce=max,chunk=5,alloc=uniform,schedule=prefill,decode=0.125,protect=none,renumber=0,"
         "after=drop]"},
        {"my[score=wmass,w=32,pool=max7,unit=shot,alloc=global,protect=sink4+recent32]", /* the one of the issue */
         "my@1[score=wmass,pool=max7,unit=shot,alloc=global,schedule=prefill,protect=sink4+recent32,renumber=0,after=drop]"},
        {"my[score=wmass,critical=0.00001,prefill=0.0005%]", /* no exponents: they couldn't be read */
         "my@1[score=wmass,critical=0.00001,unit=token,alloc=uniform,schedule=prefill,prefill=0.000005,protect=none,renumber=0,"
         "after=drop]"},
        {"my[score=mass,protect=answers+question+system,unit=page,alloc=global]",
         "my@1[score=mass,unit=page,alloc=global,schedule=prefill,protect=question+system+answers,renumber=0,after=drop]"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct kvt_spec s, again;
        struct kvt_err err = {0};
        char text[KVT_CANONICAL];
        cr_assert_eq(parse(&s, c[i].text, &err), 0, "%s", err.text);
        cr_assert_str_eq(s.canonical, c[i].canonical);
        snprintf(text, sizeof text, "my%s", strchr(s.canonical, '['));
        cr_assert_eq(parse(&again, text, &err), 0, "%s", err.text);
        cr_assert_str_eq(again.canonical, s.canonical);
    }
}

/* The longest values must fit into the canonical form (it asserts). */
Test(methods, canonical_has_room)
{
    struct kvt_spec s;
    struct kvt_err err = {0};
    cr_assert_eq(parse(&s,
                       "pyramidkv[w=16777216,pool=max9999,order=group-first,heads=shared,beta=1000000,rule=official,"
                       "sinks=16777216]",
                       &err),
                 0);
    cr_assert_eq(
        parse(&s,
              "shotkv[rows=window,w=16777216,scope=all_layers,decode=12.3456%,decode_recent=16777216,sinks=16777216]",
              &err),
        0);
    cr_assert_eq(parse(&s,
                       "chunkkv[chunk=16777216,w=16777216,count=kvpress,pool=avg9999,order=group-first,heads=shared,"
                       "sinks=16777216]",
                       &err),
                 0);
    cr_assert(strstr(s.canonical, "pool=avg9999"));
}

/* Would catch: brackets ignored when splitting, an option that lands in another field. */
Test(methods, lists_and_options)
{
    struct kvt_spec *s = NULL;
    struct kvt_err err = {0};
    int n = 0;
    cr_assert_eq(kvt_spec_parse_list(
                     &s, &n,
                     " snapkv[w=16, pool=avg5,group=max] ,chunkkv,shotkv[scope=all_layers,decode=12.5%],h2o[recent=7]",
                     NULL, &err),
                 0, "%s", err.text);
    cr_assert_eq(n, 4);
    cr_assert(s[0].policy.window == 16 && s[0].policy.pool == KVT_POOL_AVG && s[0].policy.pool_width == 5 &&
              s[0].policy.group == KVT_GROUP_MAX);
    cr_assert(s[1].policy.unit == KVT_UNIT_CHUNK && s[1].policy.chunk_tok == 10);
    cr_assert(s[2].policy.scope == KVT_SCOPE_ALL_LAYERS && s[2].policy.decode_share == 0.125);
    cr_assert_eq(s[3].policy.recent, 7);
    free(s);
    struct kvt_spec one;
    cr_assert_eq(parse(&one, "random[seed=18446744073709551615]", &err), 0);
    cr_assert_eq(one.policy.seed, UINT64_MAX);
    cr_assert_eq(parse(&one, "snapkv[]", &err), 0);
    cr_assert_eq(parse(&one, "snapkv[pool=none]", &err), 0);
    cr_assert_eq(one.policy.pool, KVT_POOL_NONE);
    /* the default, said aloud, is no contradiction to anything */
    cr_assert_eq(parse(&one, "my[score=mass,overflow=stop,lag=128,decode_floor=1,alpha=0.2]", &err), 0, "%s", err.text);
    cr_assert_eq(parse(&one, "shotkv[rows=window]", &err), 0);
    cr_assert_eq(one.policy.score, KVT_SCORE_WMASS);
}

/* Every bad text is a usage error with a line that helps. Would catch: an accepted typing mistake, a message without a
 * way out. */
Test(methods, bad_text)
{
    static const struct {
        const char *text, *says;
    } c[] = {
        {"snapvk", "did you mean 'snapkv'?"},
        {"zzzzzzzz", "methods: full, random"},
        {"", "no name"},
        {"snapkv,", "no name"},
        {"snapkv[pol=max7]", "did you mean 'pool'?"},
        {"snapkv[chunk=3]", "its options: w, pool"},
        {"snapkv[pool=max6]", "max5 or max7"},
        {"snapkv[pool=max]", "avgN or maxN"},
        {"snapkv[pool=max0]", "avgN or maxN"},
        {"snapkv[pool=median7]", "avgN or maxN"},
        {"snapkv[w]", "no value"},
        {"snapkv[w=]", "1 or more"},
        {"snapkv[w=0]", "1 or more"},
        {"snapkv[w=-3]", "1 or more"},
        {"snapkv[w=99999999999999999999]", "1 or more"},
        {"snapkv[w=3x]", "1 or more"},
        {"snapkv[group=median]", "mean, max or sum"},
        {"snapkv[w=3", "brackets"},
        {"snapkv w=3]", "unknown method"},
        {"snapkv[w=3]x", "brackets"},
        {"snapkv[w=[3]]", "brackets"},
        {"shotkv[decode=0]", "share of generated"},
        {"shotkv[decode=120%]", "share of generated"},
        {"shotkv[rows=window,norm=visible]", "rows=all"},
        {"random[seed=-1]", "whole number"},
        {"random[seed=18446744073709551616]", "whole number"},
        {"h2o[recent=all]", "half"},
        {"full[renumber=maybe]", "0 or 1"},
        {"my", "score=..."},
        {"my[score=mass,protect=sink]", "sinkN"},
        {"my[score=mass,protect=sink4+]", "sinkN"},
        {"my[score=mass,after=merge]", "not built"},
        {"my[score=mass,protect=nouns]", "sinkN"},
        {"my[score=mass,alpha=2]", "from 0 to 1"},
        {"my[score=random,pool=max3]", "pool=none"},
        {"my[score=mass,heads=shared,alloc=head]", "heads=each"},
        {"my[score=mass,heads=shared,unit=page]", "heads=each"},
        {"my[score=mass,scope=all_layers,alloc=global]", "per_layer"},
        {"my[score=mass,reuse=2,alloc=global]", "reuse=1"},
        {"my[score=mass,overflow=knapsack]", "unit=shot"},
        {"shotkv[overflow=knapsack,unit=token]", "unit=shot"},
        {"my[score=wmass,schedule=step]", "schedule=prefill"},
        {"my[score=mass,schedule=step,unit=chunk]", "single tokens"},
        {"my[score=mass,schedule=step,alloc=head]", "alloc=uniform"},
        {"my[score=mass,schedule=step,protect=window]", "protect=sinkN"},
        {"my[score=mass,schedule=step,decode=50%]", "schedule=prefill"},
        {"h2o[schedule=every]", "no every="}, /* a method that doesn't say what a choice needs */
        {"kvcompress[score=kvzip]", "no repeat="},
        {"kvcompress[score=lagkv,pool=none]", "no lag="},
        {"kvcompress[score=none]", "score=..."},
        {"kvcompress[v=2,schedule=every]", "v=0"},
        {"my[score=mass,within=20,schedule=every]", "within="},
        {"my[score=mass,unit=shot,leaves=contest]", "unit=token or chunk"},
        /* what would be passed over in silence */
        {"my[score=mass,decode_floor=3]", "goes with decode="},
        {"shotkv[decode=none,decode_recent=3]", "goes with decode="},
        {"my[score=mass,overflow=skip]", "unit=shot or sentence"},
        {"my[score=mass,unit=chunk,force=1]", "share a budget"},
        {"shotkv[w=8]", "rows=window"},
        {"kvcompress[score=sqmass,w=32]", "protect=window"},
        {"kvcompress[alloc=pyramid]", "no line of budgets"},
        {"adakv[alloc=uniform,alpha=0.5]", "alloc=head"},
        {"my[score=mass,unit=page,alloc=head,head_rule=safeguard]", "unit=token"},
        {"my[score=knorm,group=max]", "a score of attention"},
        {"my[score=wmass,order=group-first]", "pool="},
        {"my[score=wmass,v=3]", "sqmass"},
        {"my[score=mass,lag=3]", "score=lagkv"},
        {"my[score=mass,every=16]", "schedule=every"},
        {"my[score=mass,seed=1]", "score=random"},
        {"my[score=random,unit=chunk,count=kvpress,protect=window]", "count=paper"},
        {"my[score=recency,heads=shared]", "age is the same"},
        {"my[score=mass,alloc=class,recent=9,path=x]", "score=recency"},
        {"my[score=lagkv,schedule=step,prefill=30%]", "prefill= out"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct kvt_spec *s = NULL;
        struct kvt_err err = {0};
        int n;
        cr_assert_eq(kvt_spec_parse_list(&s, &n, c[i].text, NULL, &err), KVT_EUSAGE, "'%s' was accepted", c[i].text);
        cr_assert(strstr(err.text, c[i].says), "'%s' says: %s", c[i].text, err.text);
        cr_assert(!strchr(err.text, '\n'));
    }
}
