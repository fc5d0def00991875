/* Two classes of heads (alloc=class, DuoAttention), by hand and for any shape; and the file of gates. Would catch: the other class,
 * gates of another layer or head, a recent half one token off, a sink that leaves, ties that go by chance. */
#include "evict_rig.h"

#include <unistd.h>

#include "tracer/gate_file.h"

static struct kvt_evictor *cut(struct rig *r, int branch, const char *method, const float *gate)
{
    struct kvt_err err = {0};
    struct kvt_spec spec;
    struct kvt_budget budget = rig_keep(1);
    struct kvt_evictor *e = NULL;
    rig_spec(&spec, method);
    budget.keep_ppm = spec.policy.class_ppm;
    cr_assert_eq(kvt_evict_check(&spec, &budget, r->env.n_prompt, r->env.n_context, 0, &err), 0, "%s", err.text);
    cr_assert_eq(r->ops->cache_fork(r->dev, r->cache, 0, branch), 0);
    cr_assert_eq(kvt_evictor_open(&e, &r->env, branch, &spec, &budget, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_evictor_classes(e, gate, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_evict_prefill(e, &r->raw, &err), 0, "%s", err.text);
    return e;
}

/* Sinks and the newest of n; returns how many. whole: all. */
static int expected(int32_t *out, int n, int sinks, int recent, bool whole)
{
    int k = 0;
    for (int j = 0; j < n; j++)
        if (whole || j < sinks || j >= n - recent)
            out[k++] = j;
    return k;
}

static const struct kvt_ops *const backends[] = {&kvt_ops_ref, &kvt_ops_cpu};

/* 2 layers x 2 heads; gates .9 .1 / .3 .8: heads (0, 0) and (1, 1) keep everything. kvpress masks sink : -recent of the others. */
Test(class, by_hand)
{
    static const float gate[] = {0.9f, 0.1f, 0.3f, 0.8f};
    for (int b = 0; b < 2; b++) {
        struct rig r;
        int32_t want[40];
        struct kvt_err err = {0};
        rig_open(&r, backends[b], 1, 2, 4, 2, 20, 20, 6, 4, NULL, 0);
        struct kvt_evictor *e = cut(&r, 1, "duoattention[sinks=2,recent=5]", gate), *f = NULL;
        for (int l = 0; l < 2; l++)
            for (int g = 0; g < 2; g++)
                rig_expect(&r, 1, l, g, want, expected(want, 20, 2, 5, l == g), "prefill");
        cr_assert_eq(r.budget_tok[0], 20);
        cr_assert_eq(r.budget_tok[1], 7);
        cr_assert_float_eq(r.effective, (20 + 7 + 7 + 20) / 80.0, 1e-12);
        cr_assert_eq(r.note[0], 0);
        for (int s = 1; s <= 3; s++)
            for (int l = 0; l < 2; l++) {
                rig_step(&r, e, 1, l, 19 + s, s, NULL, 0);
                for (int g = 0; g < 2; g++)
                    rig_expect(&r, 1, l, g, want, expected(want, 20 + s, 2, 5, l == g), "step");
            }
        cr_assert_eq(r.ops->cache_fork(r.dev, r.cache, 1, 2), 0); /* a fork has the same classes */
        cr_assert_eq(kvt_evictor_fork(&f, e, 2, &err), 0);
        rig_step(&r, f, 2, 1, 23, 4, NULL, 0);
        rig_expect(&r, 2, 1, 0, want, expected(want, 24, 2, 5, false), "fork");
        rig_expect(&r, 2, 1, 1, want, expected(want, 24, 2, 5, true), "fork");
        kvt_evictor_close(&f);
        kvt_evictor_close(&e);

        e = cut(&r, 3, "duoattention[sinks=2,recent=5,schedule=prefill]", gate); /* kvpress: generated tokens stay */
        cr_assert(!kvt_evictor_steps(e));
        for (int l = 0; l < 2; l++)
            for (int g = 0; g < 2; g++)
                rig_expect(&r, 3, l, g, want, expected(want, 20, 2, 5, l == g), "kvpress");
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

/* Equal gates: the earlier head keeps everything, and the note says so; gates are clipped as in both codes. */
Test(class, ties)
{
    static const float gate[] = {0.5f, 1.5f, 0.5f, 1.0f, 0.5f, -3};
    struct rig r;
    int32_t want[40];
    rig_open(&r, &kvt_ops_cpu, 1, 3, 2, 2, 16, 16, 0, 2, NULL, 0);
    struct kvt_evictor *e = cut(&r, 1, "duoattention[sinks=1,recent=4]", gate); /* 3 of 6: both of 1, and the first of 0.5 */
    for (int i = 0; i < 6; i++)
        rig_expect(&r, 1, i / 2, i % 2, want, expected(want, 16, 1, 4, i == 0 || i == 1 || i == 3), "ties");
    cr_assert_str_eq(r.note, "3 heads have the gate of the cut: the first 1 of them keep everything");
    kvt_evictor_close(&e);
    rig_close(&r);
}

/* Any shape: as many heads stream as kvpress's round(heads x ratio), those of the smallest gates; n below sinks + recent loses nothing. */
Test(class, any_shape)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        uint64_t x = seed * 0x9e3779b97f4a7c15u;
        rig_next(&x);
        int L = 1 + rig_below(&x, 4), G = 1 + rig_below(&x, 4), n = 8 + rig_below(&x, 60), sinks = rig_below(&x, 6), recent = 1 + rig_below(&x, 30);
        int percent = rig_below(&x, 100), cells = L * G;
        float gate[16];
        char method[96];
        struct rig r;
        int32_t want[80];
        for (int i = 0; i < cells; i++)
            gate[i] = (float)(rig_next(&x) >> 40) * 0x1p-24f;
        snprintf(method, sizeof method, "duoattention[sinks=%d,recent=%d,class=%d%%]", sinks, recent, percent);
        rig_open(&r, &kvt_ops_cpu, 1 + (int)(seed % 3), L, G, G, n, n, 2, 2, NULL, 0);
        struct kvt_evictor *e = cut(&r, 1, method, gate);
        int stream = (int)nearbyint(cells * (100 - percent) / 100.0); /* Python's round */
        for (int i = 0; i < cells; i++) {
            int below = 0;
            for (int j = 0; j < cells; j++)
                below += gate[j] < gate[i];
            rig_expect(&r, 1, i / G, i % G, want, expected(want, n, sinks, recent, below >= stream), method);
        }
        kvt_evictor_close(&e);
        rig_close(&r);
    }
}

static int read_text(const char *text, int L, int G, float **out, struct kvt_err *err)
{
    char path[] = "/tmp/kvt-gates-XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    int rc = kvt_gate_file_read(out, path, L, G, err);
    unlink(path);
    return rc;
}

Test(class, file)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"0.5\t1\n0.1\n", "line 2 has 1 numbers"}, {"0.5\t1\n", "1 lines of gates"}, {"1 2\n3 4\n5 6\n", "line 3 is one too many"},
        {"1 2\n3 x\n", "line 2: 'x'"}, {"1 nan\n3 4\n", "line 1: 'nan'"}, {"1 2 3\n3 4\n", "line 1 has 3 numbers"}, {"", "0 lines"},
        {"1 2e\n3 4\n", "'2e'"}, {"1 1e99\n3 4\n", "line 1"},
    };
    struct kvt_err err = {0};
    float *gate = NULL;
    cr_assert_eq(read_text("9.5e-01\t1.2\n\n# layer 1\n0, -0.25\r\n", 2, 2, &gate, &err), 0, "%s", err.text);
    cr_assert(gate[0] == 0.95f && gate[1] == 1.2f && gate[2] == 0 && gate[3] == -0.25f);
    free(gate);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert_eq(read_text(bad[i].text, 2, 2, &gate, &err), KVT_EFORMAT, "%s", bad[i].text);
        cr_assert(strstr(err.text, bad[i].says), "%s: %s", bad[i].says, err.text);
        cr_assert_null(gate);
    }
    cr_assert_eq(kvt_gate_file_read(&gate, "/nonexistent/gates.tsv", 2, 2, &err), KVT_EINPUT);
}
