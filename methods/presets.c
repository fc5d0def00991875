/* Presets: other tools' methods with their own settings, under their own names.
 *
 * A row says which of our methods a peer's is, with the numbers that the peer ships; tests/unit/test_presets.c holds each
 * against the choices under which test_golden.c proves the kept sets equal. docs/coming-from.md has the figures. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/nearest.h"
#include "kvt/method.h"

#define KVPRESS "compression_ratio=r: --remove r"
#define FACTORY "max_capacity_prompts=C: --tokens C"
#define ADAKV "base_capacity=C: --tokens C"
#define FLOATS "theirs counts int(n (1 - r)) in floats, ours exactly"
#define KV_HEAD "with kv_cache_granularity=kv_head; their default keeps a cache for each query head"
#define GQA "with gqa_support; without it they keep a cache for each query head"

static const struct kvt_preset presets[] = {
    /* kvpress 0.5.5: the defaults of each press; its default ratio removes nothing */
    {"kvpress/SnapKVPress", "snapkv[w=64,pool=avg5]", KVPRESS, NULL, NULL, NULL, FLOATS "; below the window they drop window tokens, ours refuses"},
    {"kvpress/StreamingLLMPress", "streaming[schedule=prefill,renumber=0]", KVPRESS, NULL, NULL, NULL, FLOATS "; below 4 slots they drop sinks, ours refuses"},
    {"kvpress/ObservedAttentionPress", "h2o[norm=visible,recent=0,schedule=prefill]", KVPRESS, NULL, NULL, NULL, FLOATS},
    {"kvpress/PyramidKVPress", "pyramidkv[w=64,pool=avg5,rule=kvpress]", KVPRESS, NULL, NULL, NULL, FLOATS},
    {"kvpress/ChunkKVPress", "chunkkv[w=64,chunk=20,pool=avg5,count=kvpress,heads=shared]", KVPRESS, NULL, NULL, NULL, "of SnapKVPress; " FLOATS},
    {"kvpress/TOVAPress", "tova[schedule=prefill,recent=1]", KVPRESS, NULL, NULL, NULL, FLOATS},
    {"kvpress/AdaKVPress", "adakv[w=64,pool=avg5,order=pool-first,head_rule=safeguard]", KVPRESS, NULL, NULL, NULL,
     "of SnapKVPress; they mask what they drop, ours frees it; " FLOATS},
    {"kvpress/CriticalKVPress", "criticalkv[w=64,pool=avg5]", KVPRESS, NULL, NULL, NULL, "of SnapKVPress; " FLOATS},
    {"kvpress/CriticalAdaKVPress", "criticalkv[w=64,pool=avg5,alloc=head]", KVPRESS, NULL, NULL, NULL,
     "of SnapKVPress; they mask what they drop, ours frees it; " FLOATS},
    {"kvpress/KnormPress", "knorm", KVPRESS, NULL, NULL, NULL, FLOATS},
    {"kvpress/KeyDiffPress", "keydiff", KVPRESS, NULL, NULL, NULL, FLOATS},
    {"kvpress/LagKVPress", "lagkv", KVPRESS, NULL, NULL, NULL, FLOATS},
    {"kvpress/ExpectedAttentionPress", "expected", KVPRESS, NULL, NULL, NULL, FLOATS},
    {"kvpress/KVzipPress", "kvzip", KVPRESS, NULL, NULL, NULL, "without its chat form; they mask what they drop, ours frees it; " FLOATS},
    {"kvpress/DuoAttentionPress", "duoattention[schedule=prefill]", "head_compression_ratio=r: class=1-r", NULL, NULL, "path class sinks recent",
     "path= names its pattern's file; their sinks and recent tokens come from it too: give both; they mask what they drop, ours frees it"},
    {"kvpress/DecodingPress", "my[score=knorm,schedule=every,every=512,prefill=1]", "target_size=C: --tokens C", "--tokens", "2048", "score every recent group",
     "of KnormPress; of others score=: keydiff, or last with recent=1 as SnapKVPress of one row"},
    {"kvpress/PrefillDecodingPress", "my[score=knorm,schedule=every,every=512]", "target_size=C, and as much of the prompt: --tokens C", "--tokens", "2048",
     "score every recent group", "of KnormPress and DecodingPress(KnormPress)"},
    {"kvpress/FinchPress", "finch", KVPRESS, NULL, NULL, "within w score",
     "chunk_length=c: within=c, normalize_scores=False: score=wmass; a window that doesn't fit its stretch's share stays whole here; theirs takes one delimiter for the question's begin"},
    {"kvpress/RandomPress", "random", KVPRESS, NULL, NULL, NULL, "other random numbers: the kept sets can't be equal; " FLOATS},

    /* Zefan-Cai/KVCache-Factory c97f9d7, what run_longbench.py sets */
    {"kvcache-factory/snapkv", "snapkv[w=8,pool=max7,order=group-first]", FACTORY, "--tokens", "512", NULL, KV_HEAD},
    {"kvcache-factory/pyramidkv", "pyramidkv[w=8,pool=max7,rule=official,order=group-first]", FACTORY, "--tokens", "512", NULL,
     "their mean lies above what is asked, and so does this; " KV_HEAD},
    {"kvcache-factory/h2o", "h2o[recent=8,schedule=prefill]", FACTORY, "--tokens", "512", NULL, "before 2026-06-22 their H2O was another computation; " KV_HEAD},
    {"kvcache-factory/streamingllm", "streaming[schedule=prefill,renumber=0]", FACTORY, "--tokens", "512", NULL, "once, at prefill's end, in both"},
    {"kvcache-factory/adakv", "adakv[w=8,pool=max7,head_rule=official]", FACTORY, "--tokens", "512", NULL,
     "heads are rounded one by one: the total may be missed, in both; " KV_HEAD},
    {"kvcache-factory/l2norm", "knorm[skip=2]", FACTORY, "--tokens", "512", NULL, "layers 0 and 1 keep everything, beside the budget, in both"},

    /* FasterDecoding/SnapKV e216ddc: its LongBench configuration c4096_w32_k7_maxpool, and what the code has without one */
    {"snapkv/longbench", "snapkv[w=32,pool=max7]", "max_capacity_prompts=C: --tokens C", "--tokens", "4096", NULL,
     "they keep a cache for each query head; equal where a group is one head"},
    {"snapkv/defaults", "snapkv[w=32,pool=avg5]", "max_capacity_prompt=C: --tokens C", "--tokens", "2048", NULL,
     "they keep a cache for each query head; equal where a group is one head"},

    /* FFY0/AdaKV efe4e2e, what its LongBench scripts set */
    {"adakv/ada-snapkv", "adakv[w=32,pool=max7,head_rule=official]", ADAKV, "--tokens", "1024", NULL, "heads are rounded one by one: the total may be missed, in both; " GQA},
    {"adakv/snapkv", "snapkv[w=32,pool=max7,order=group-first]", ADAKV, "--tokens", "1024", NULL, GQA},
    {"adakv/pyramid", "pyramidkv[w=32,pool=max7,rule=official,order=group-first]", ADAKV, "--tokens", "1024", NULL,
     "theirs has no uniform fallback and keeps the budget of its first prompt; " GQA},
    {"adakv/slm", "streaming[schedule=prefill,renumber=0]", ADAKV, "--tokens", "1024", NULL, "once, at prefill's end, in both"},

    /* single methods' own repositories */
    {"h2o/real-drop", "h2o", "hh_size=recent_size=S: --tokens 2S", "--tokens", "2048", NULL, "theirs breaks with grouped queries and with one head"},
    {"h2o/lm-eval", "h2o[schedule=prefill]", "heavy_ratio, recent_ratio of n tokens: --tokens int(heavy n) + int(recent n)", NULL, NULL, "recent",
     "recent= int(recent_ratio n) + 1; theirs looks at rows that come later too: equal for the last row"},
    {"h2o/flexgen", "h2o", "hh_ratio=r of n tokens: --tokens 2 int(r n) - 1", NULL, NULL, NULL, "at prefill's end they protect one token less: there one slot of a head may differ"},
    {"vllm-kvcompress/longbench", "kvcompress[w=32,recent=50]", "max_cache_tokens=C: --tokens C", NULL, NULL, NULL,
     "of slots tied at the price others may stay; compression-rate x: --tokens max(128, 16 floor((n / x - 1) / 16))"},
    {"duo-attention/duo-attention", "duoattention", "sparsity=s: class=1-s", NULL, NULL, "path class sinks recent",
     "theirs streams in the prefill too, and takes the heads at or above a quantile, after noise against ties"},
    {"streaming-llm/run_streaming", "streaming", "start_size=4, recent_size=R: --tokens 4+R", "--tokens", "2004", NULL, "their demo makes room once a turn, ours at each step"},
    {"lagkv/lagkv", "lagkv[lag=1024,sinks=16,schedule=step]", "ratio=r (kept, of each partition): --keep r", "--keep", "50%", NULL, "none known"},
    {"tova/tova", "tova", "multi_state_size=C: --tokens C", "--tokens", "512", NULL, "none known"},
};
enum { N_PRESETS = sizeof presets / sizeof *presets };

const struct kvt_preset *kvt_presets(int *count)
{
    *count = N_PRESETS;
    return presets;
}

const struct kvt_preset *kvt_preset_find(const char *name)
{
    for (int i = 0; i < N_PRESETS; i++)
        if (!strcmp(presets[i].name, name))
            return &presets[i];
    return NULL;
}

static int unknown(const char *name, struct kvt_err *err)
{
    const char *known[N_PRESETS], *part[N_PRESETS];
    for (int i = 0; i < N_PRESETS; i++) {
        known[i] = presets[i].name;
        part[i] = strchr(presets[i].name, '/') + 1;
    }
    const char *near = kvt_nearest(name, known, N_PRESETS), *tail = near ? NULL : kvt_nearest(name, part, N_PRESETS);
    for (int i = 0; tail && !near && i < N_PRESETS; i++) /* without its tool's name */
        if (part[i] == tail)
            near = known[i];
    return kvt_fail(err, KVT_EUSAGE, "unknown preset '%.48s'%s%s%s; kvtrace --list-presets shows all", name, near ? ": did you mean '" : "", near ? near : "",
                    near ? "'?" : "");
}

/* A preset's method with what its tool asks, in brackets behind the name, put in. */
static int parse_preset(struct kvt_spec *out, char *text, struct kvt_err *err)
{
    char spec[KVT_CANONICAL];
    char *given = strchr(text, '[');
    if (given)
        *given++ = 0;
    const struct kvt_preset *p = kvt_preset_find(text);
    if (!p)
        return unknown(text, err);
    size_t own = strlen(p->spec);
    bool has = p->spec[own - 1] == ']';
    for (const char *o = given; o && *o && *o != ']'; o += strcspn(o, ",]"), o += *o == ',') {
        const char *name = o + strspn(o, " ");
        size_t len = strcspn(name, "= ,]");
        bool asked = false;
        for (const char *a = p->asks; a && *a; a += strcspn(a, " "), a += strspn(a, " "))
            asked |= strcspn(a, " ") == len && !strncmp(a, name, len);
        if (!asked)
            return kvt_fail(err, KVT_EUSAGE, "%s has its tool's own numbers, and '%.*s' isn't among what that asks of its user (%s); "
                            "use --method '%s' and change that", p->name, (int)(len < 40 ? len : 40), name, p->asks ? p->asks : "nothing", p->spec);
    }
    int n = given ? snprintf(spec, sizeof spec, "%.*s%c%s", (int)(own - has), p->spec, has ? ',' : '[', given) : snprintf(spec, sizeof spec, "%s", p->spec);
    if (n >= (int)sizeof spec)
        return kvt_fail(err, KVT_EUSAGE, "%s: what stands in its brackets is longer than any option", p->name);
    int rc = kvt_spec_parse(out, spec, (size_t)n, err);
    out->preset = p;
    return rc;
}

int kvt_preset_parse_list(struct kvt_spec **spec, int *count, const char *text, struct kvt_err *err)
{
    char **item = NULL;
    int n = 0, rc = kvt_split(text, &item, &n, "--preset", err);
    if (rc)
        return rc;
    struct kvt_spec *all = realloc(*spec, (size_t)(*count + n) * sizeof *all);
    if (all)
        *spec = all;
    else
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d presets", n);
    for (int i = 0; i < n && !rc; i++) {
        rc = parse_preset(&all[*count], item[i], err);
        *count += !rc;
    }
    free(item);
    return rc;
}
