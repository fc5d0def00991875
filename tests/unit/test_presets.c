/* Presets: each parses, prints a canonical form that gives itself, and chooses what the golden cases of its peer choose. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/method.h"

/* What is said about a peer in the vectors: file and the head of its cases' names. NULL: nothing could be measured. */
static const struct {
    const char *preset, *file, *cases;
} proved[] = {
    {"kvpress/SnapKVPress", "kvpress", "kvpress SnapKVPress"},
    {"kvpress/StreamingLLMPress", "kvpress", "kvpress StreamingLLMPress"},
    {"kvpress/ObservedAttentionPress", "kvpress", "kvpress ObservedAttentionPress"},
    {"kvpress/PyramidKVPress", "kvpress", "kvpress PyramidKVPress"},
    {"kvpress/ChunkKVPress", "kvpress", "kvpress ChunkKVPress"},
    {"kvpress/TOVAPress", "kvpress", "kvpress TOVAPress"},
    {"kvpress/AdaKVPress", "kvpress", "kvpress AdaKVPress"},
    {"kvpress/CriticalKVPress", "kvpress", "kvpress CriticalKVPress"},
    {"kvpress/CriticalAdaKVPress", "kvpress", "kvpress CriticalAdaKVPress"},
    {"kvpress/KnormPress", "kvpress", "kvpress KnormPress"},
    {"kvpress/KeyDiffPress", "kvpress", "kvpress KeyDiffPress"},
    {"kvpress/LagKVPress", "kvpress", "kvpress LagKVPress"},
    {"kvpress/ExpectedAttentionPress", "kvpress", "kvpress ExpectedAttentionPress"},
    {"kvpress/KVzipPress", NULL, NULL}, /* through both engines: tests/parity/kept.c */
    {"kvpress/DuoAttentionPress", NULL, NULL}, /* test_class.c, tests/vectors/check_duo.py */
    {"kvpress/DecodingPress", "kvpress", "kvpress DecodingPress, prompt whole"},
    {"kvpress/PrefillDecodingPress", "kvpress", "kvpress DecodingPress"},
    {"kvpress/FinchPress", "kvpress", "kvpress FinchPress, weighed"},
    {"kvpress/RandomPress", NULL, NULL},
    {"kvcache-factory/snapkv", "official", "KVCache-Factory snapkv"},
    {"kvcache-factory/pyramidkv", "official", "KVCache-Factory pyramidkv"},
    {"kvcache-factory/h2o", "official", "KVCache-Factory h2o"},
    {"kvcache-factory/streamingllm", "official", "KVCache-Factory streamingllm"},
    {"kvcache-factory/adakv", "official", "KVCache-Factory adakv"},
    {"kvcache-factory/l2norm", "official", "KVCache-Factory l2norm"},
    {"snapkv/longbench", "official", "SnapKV"},
    {"snapkv/defaults", "official", "SnapKV"},
    {"adakv/ada-snapkv", "official", "AdaKV"},
    {"adakv/snapkv", "official", "AdaKV snapkv"},
    {"adakv/pyramid", "official", "AdaKV pyramid"},
    {"adakv/slm", "official", "AdaKV slm"},
    {"h2o/real-drop", "official", "H2O real-drop"},
    {"h2o/lm-eval", "official", "H2O lm-eval"},
    {"h2o/flexgen", "official", "H2O flexgen"},
    {"vllm-kvcompress/longbench", "official", "vllm-kvcompress"},
    {"duo-attention/duo-attention", NULL, NULL}, /* its prefill is another */
    {"streaming-llm/run_streaming", "official", "streaming-llm"},
    {"lagkv/lagkv", "official", "LagKV"},
    {"tova/tova", "official", "TOVA"},
};

/* Sizes differ from case to case and are the peer's own numbers; a size that is there stays apart from none. What a policy
 * doesn't look at isn't compared: rows and compositions by hand have different defaults there. */
static struct kvt_policy choices(const struct kvt_policy *full)
{
    struct kvt_policy p = *full;
    int *const size[] = {&p.window, &p.pool_width, &p.lag, &p.chunk_tok, &p.alpha_ppm, &p.beta, &p.skip, &p.sinks, &p.recent, &p.ahead, &p.every};
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        *size[i] = *size[i] != 0;
    bool rows = p.score == KVT_SCORE_WMASS || p.score == KVT_SCORE_MASS || p.score == KVT_SCORE_LAST;
    bool heads = p.alloc == KVT_ALLOC_HEAD || p.alloc == KVT_ALLOC_PYRAMID_HEAD, layers = p.alloc == KVT_ALLOC_PYRAMID;
    if (p.score != KVT_SCORE_WMASS && !p.keep_window)
        p.window = 0;
    if (!rows)
        p.group = 0;
    if (p.pool == KVT_POOL_NONE)
        p.group_first = false;
    if (p.score != KVT_SCORE_LAGKV)
        p.lag = 0;
    if (p.score != KVT_SCORE_RANDOM)
        p.seed = 0;
    if (!heads)
        p.head_rule = 0, p.alpha_ppm = 0;
    if (p.alloc != KVT_ALLOC_CLASS)
        p.class_ppm = 0;
    if (p.alloc == KVT_ALLOC_UNIFORM && !p.reuse)
        p.reuse = 1;
    if (!layers)
        p.rule = 0, p.beta = 0;
    if (p.unit == KVT_UNIT_TOKEN)
        p.chunk_tok = 0, p.chunk_count = 0, p.overflow = 0, p.force = false, p.unit_reduce = 0;
    if (!p.decode_share_set)
        p.decode_share = 0, p.decode_floor = p.decode_recent = 0;
    if (p.prefill_share <= 0)
        p.prefill_share = 0;
    if (p.schedule != KVT_SCHEDULE_EVERY)
        p.every = 0;
    p.repeat = p.distance = 0; /* of scores that no preset has */
    p.sinkless = false;
    if (p.score != KVT_SCORE_EXPECTED)
        p.ahead = 0, p.vnorm = false;
    return p;
}

/* Field by field: padding is not compared. Returns the first field that differs, or NULL. */
static const char *differ(const struct kvt_policy *a, const struct kvt_policy *b)
{
#define SAME(f) if (a->f != b->f) return #f
    SAME(score); SAME(window); SAME(visible_mean); SAME(pool); SAME(pool_width); SAME(group); SAME(group_first); SAME(lag); SAME(critical_ppm);
    SAME(heads); SAME(unit); SAME(unit_reduce); SAME(chunk_tok); SAME(chunk_count); SAME(overflow); SAME(force); SAME(scope); SAME(within);
    SAME(alloc); SAME(beta); SAME(rule); SAME(head_rule); SAME(alpha_ppm); SAME(class_ppm); SAME(skip); SAME(reuse); SAME(schedule);
    SAME(every); SAME(prefill_chunk); SAME(leaver); SAME(prefill_share); SAME(decode_share_set); SAME(decode_share); SAME(sinks); SAME(recent);
    SAME(ahead); SAME(vnorm); SAME(keep_window); SAME(spans); SAME(after); SAME(seed);
#undef SAME
    return a->schedule != KVT_SCHEDULE_PREFILL && a->renumber != b->renumber ? "renumber" : NULL;
}

/* Cases of a peer whose choices are the preset's; *why: the field that was in the way last. */
static int cases_like(const struct kvt_policy *want, const char *file, const char *cases, int *of, const char **why)
{
    char path[512], line[8192];
    int same = 0, mine = 0;
    snprintf(path, sizeof path, KVT_TEST_VECTORS "/golden-%s.txt", file);
    FILE *f = fopen(path, "r");
    cr_assert(f, "no %s", path);
    *of = 0;
    while (fgets(line, sizeof line, f)) {
        size_t len = strlen(cases);
        line[strcspn(line, "\n")] = 0;
        if (!strncmp(line, "case ", 5))
            mine = !strncmp(line + 5, cases, len) && line[5 + len] == ':';
        if (!mine || strncmp(line, "method ", 7))
            continue;
        struct kvt_spec s;
        struct kvt_err err = {0};
        cr_assert_eq(kvt_spec_parse(&s, line + 7, strlen(line + 7), &err), 0, "%s: %s", line, err.text);
        struct kvt_policy has = choices(&s.policy);
        const char *field = differ(want, &has);
        same += !field;
        if (field)
            *why = field;
        ++*of;
    }
    fclose(f);
    return same;
}

/* Would catch: a preset whose order, group, rule, schedule or protection isn't the one that was measured. */
Test(presets, choose_what_was_measured)
{
    int count;
    const struct kvt_preset *all = kvt_presets(&count);
    cr_assert_eq(count, (int)(sizeof proved / sizeof *proved));
    for (int i = 0; i < count; i++) {
        struct kvt_spec s;
        struct kvt_err err = {0};
        const char *why = "nothing";
        int of;
        cr_assert_str_eq(all[i].name, proved[i].preset);
        if (!proved[i].file)
            continue;
        cr_assert_eq(kvt_spec_parse(&s, all[i].spec, strlen(all[i].spec), &err), 0, "%s: %s", all[i].name, err.text);
        struct kvt_policy want = choices(&s.policy);
        int same = cases_like(&want, proved[i].file, proved[i].cases, &of, &why);
        cr_assert_gt(of, 0, "%s: no case '%s'", all[i].name, proved[i].cases);
        cr_assert_gt(same, 0, "%s: none of %d cases '%s' has its choices; %s differs", all[i].name, of, proved[i].cases, why);
    }
}

/* Would catch: a preset that was made from another version of a method, a name that a table or a list can't hold, a default
 * budget that isn't one. */
Test(presets, parse)
{
    int count;
    const struct kvt_preset *all = kvt_presets(&count);
    for (int i = 0; i < count; i++) {
        struct kvt_spec *spec = NULL, again;
        struct kvt_budget b;
        struct kvt_err err = {0};
        int n = 0;
        char text[KVT_CANONICAL];
        cr_assert_eq(kvt_preset_parse_list(&spec, &n, all[i].name, &err), 0, "%s: %s", all[i].name, err.text);
        cr_assert_eq(n, 1);
        cr_assert_eq(spec->preset, &all[i]);
        const char *at = strchr(spec->canonical, '@');
        snprintf(text, sizeof text, "%.*s%s", (int)(at - spec->canonical), spec->canonical, strchr(at, '['));
        cr_assert_eq(kvt_spec_parse(&again, text, strlen(text), &err), 0, "%s: %s", all[i].name, err.text);
        cr_assert_str_eq(again.canonical, spec->canonical);
        cr_assert_leq(strlen(all[i].name), 30);
        cr_assert_eq(strcspn(all[i].name, "[],@#~ \t\n"), strlen(all[i].name));
        cr_assert(strncmp(all[i].name, spec->method->name, strlen(spec->method->name)) || strchr(all[i].name, '/'));
        cr_assert_eq(!all[i].option, !all[i].value);
        if (all[i].option) {
            bool tokens = !strcmp(all[i].option, "--tokens");
            cr_assert(tokens || !strcmp(all[i].option, "--keep"), "%s", all[i].option);
            cr_assert_eq(tokens ? kvt_budget_parse_amount(&b, all[i].value, false, &err) : kvt_budget_parse(&b, all[i].value, false, &err), 0, "%s", err.text);
        }
        for (int j = 0; j < i; j++)
            cr_assert(strcmp(all[i].name, all[j].name));
        free(spec);
    }
}

/* Would catch: a list that replaces --method's, an unknown name without a nearest one. */
Test(presets, lists)
{
    struct kvt_spec *spec = NULL;
    struct kvt_err err = {0};
    int n = 0;
    cr_assert_eq(kvt_spec_parse_list(&spec, &n, "snapkv,h2o", NULL, &err), 0);
    cr_assert_eq(kvt_preset_parse_list(&spec, &n, "kvpress/SnapKVPress,snapkv/longbench", &err), 0, "%s", err.text);
    cr_assert_eq(n, 4);
    cr_assert(!spec[0].preset && !spec[1].preset && spec[2].preset && spec[3].preset);
    cr_assert_str_eq(spec[2].canonical, "snapkv@1[w=64,pool=avg5,group=mean,order=pool-first,heads=each,keep_window=1,sinks=0,renumber=0]");
    cr_assert_eq(kvt_preset_parse_list(&spec, &n, "kvpress/SnapKVPres", &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "kvpress/SnapKVPress"), "%s", err.text);
    cr_assert_eq(kvt_preset_parse_list(&spec, &n, "SnapKVPress", &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "kvpress/SnapKVPress"), "%s", err.text);
    cr_assert_eq(n, 4);
    /* what the tool asks of its user, and nothing else */
    cr_assert_eq(kvt_preset_parse_list(&spec, &n, "kvpress/DuoAttentionPress[path=gates.tsv, class=0.25],kvpress/DecodingPress[every=16]", &err), 0, "%s", err.text);
    cr_assert_eq(n, 6);
    cr_assert(spec[4].policy.class_ppm == 250000 && !strcmp(spec[4].policy.path, "gates.tsv") && spec[5].policy.every == 16);
    cr_assert_eq(kvt_preset_parse_list(&spec, &n, "kvpress/SnapKVPress[w=8]", &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "'w'") && strstr(err.text, "--method"), "%s", err.text);
    cr_assert_eq(kvt_preset_parse_list(&spec, &n, "kvpress/DecodingPress[every]", &err), KVT_EUSAGE);
    free(spec);
}
