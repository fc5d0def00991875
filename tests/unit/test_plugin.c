/* Methods from shared objects: the example as docs/add-a-method.md compiles it, and objects that must be refused. */
#include <criterion/criterion.h>

#include "evict_rig.h"
#include "kvt/plugin.h"

#define EXAMPLE KVT_PLUGIN_DIR "/example.so"

static void refused(const char *path, const char *says)
{
    struct kvt_plugins p = {0};
    struct kvt_err err = {0};
    cr_assert_eq(kvt_plugin_open(&p, path, &err), KVT_EINPUT, "%s was opened", path);
    cr_assert(strstr(err.text, says), "%s says: %s", path, err.text);
    cr_assert(!strchr(err.text, '\n'));
    cr_assert_eq(p.list.n, 0);
    kvt_plugins_close(&p);
}

/* Would catch: a struct read with another layout than it was written with, a method that hides one of ours. */
Test(plugin, refusals)
{
    refused(KVT_PLUGIN_DIR "/no-such.so", "no-such.so");
    refused(KVT_PLUGIN_DIR "/plugin_old.so", "ABI 0, this kvtrace has 1");
    refused(KVT_PLUGIN_DIR "/plugin_resized.so", "headers of another kvtrace");
    refused(KVT_PLUGIN_DIR "/plugin_taken.so", "there is a method 'snapkv' already");
    refused(KVT_PLUGIN_DIR "/plugin_options.so", "an option 'wnidow' that doesn't exist");
    refused(KVT_PLUGIN_DIR "/plugin_none.so", "no symbol 'kvt_plugin'");
}

Test(plugin, opened_twice)
{
    struct kvt_plugins p = {0};
    struct kvt_err err = {0};
    cr_assert_eq(kvt_plugin_open(&p, EXAMPLE, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_plugin_open(&p, EXAMPLE, &err), KVT_EINPUT);
    cr_assert(strstr(err.text, "there is a method 'example' already"), "%s", err.text);
    cr_assert_eq(p.list.n, 1);
    kvt_plugins_close(&p);
}

/* The loop's scores decide: mass x ||v|| from the rig's own values.
 * Would catch: arrays handed over with the wrong stride, layer or head, and a score that is ignored. */
Test(plugin, example_keeps_what_its_loop_says)
{
    enum { L = 2, H = 4, G = 2, N = 40, W = 4, KEEP = 11 };
    struct rig r;
    struct kvt_plugins p = {0};
    struct kvt_err err = {0};
    cr_assert_eq(kvt_plugin_open(&p, EXAMPLE, &err), 0, "%s", err.text);
    rig_open(&r, kvt_ops_find("cpu"), 1, L, H, G, N, N, 0, 2, (const int[]){W}, 1);
    float *mass = calloc(L * H * N, sizeof *mass);
    uint64_t x = 7;
    for (int i = 0; i < L * H * N; i++)
        mass[i] = (float)(rig_next(&x) >> 40) * 0x1p-24f;
    rig_scores(&r, 1, mass);
    struct kvt_spec spec;
    const char *text = "example[w=4]";
    cr_assert_eq(kvt_spec_parse_among(&spec, text, strlen(text), &p.list, &err), 0, "%s", err.text);
    cr_assert_str_eq(spec.canonical, "example@1[w=4,keep_window=1,sinks=0,renumber=0]");
    struct kvt_budget budget = rig_tokens(KEEP);
    struct kvt_evictor *e = NULL;
    cr_assert_eq(kvt_evict_check(&spec, &budget, N, N, 0, &err), 0, "%s", err.text);
    cr_assert_eq(r.ops->cache_fork(r.dev, r.cache, 0, 1), 0);
    cr_assert_eq(kvt_evictor_open(&e, &r.env, 1, &spec, &budget, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_evict_prefill(e, &r.raw, &err), 0, "%s", err.text);
    for (int l = 0; l < L; l++)
        for (int g = 0; g < G; g++) {
            double worth[N];
            int32_t want[KEEP];
            int n = 0;
            float v[N * RIG_D];
            cr_assert_eq(r.ops->cache_peek(r.dev, r.cache, 0, l, g, NULL, v), 0);
            for (int j = 0; j < N; j++) {
                double square = 0;
                for (int d = 0; d < RIG_D; d++)
                    square += (double)v[j * RIG_D + d] * v[j * RIG_D + d];
                worth[j] = j >= N - W ? INFINITY
                         : ((double)mass[(l * H + 2 * g) * N + j] + mass[(l * H + 2 * g + 1) * N + j]) * sqrt(square);
            }
            for (int j = 0; j < N; j++) { /* its rank: how many are worth more */
                int better = 0;
                for (int i = 0; i < N; i++)
                    better += worth[i] > worth[j];
                if (better < KEEP)
                    want[n++] = j;
            }
            cr_assert_eq(n, KEEP);
            rig_expect(&r, 1, l, g, want, n, "example");
        }
    kvt_evictor_close(&e);
    free(mass);
    rig_close(&r);
    kvt_plugins_close(&p);
}
