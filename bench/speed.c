/* Prefill and decode speed of the engine: one branch, the full one, nothing observed.
 *
 * usage: speed -m MODEL.gguf [-t threads] [-r repetitions] [-n new tokens] [-c f32|bf16|f16 (default the fastest)] [-k f32|f16|bf16] [-b backend] [-x tests] [-o] [-g]
 *
 * Prints tab-separated: test, tokens, median tokens/s, smallest, largest. The tests are those of llama-bench, with its
 * names: pp512 and pp2048 (a prompt, then the logits of its last token), tg128 (tokens one by one, from an empty cache),
 * tg128@d2048 (the same behind 2048 tokens). Opening a session (packing of weights) isn't counted, as llama-bench
 * doesn't count its loading; one run before the others warms up. -x pp512,tg128 takes only those; pp1024, pp4096 and pp8192 run if
 * they are named there.
 * -g: each launch of a step by itself where a backend would make graphs of them.
 * -o also prints what observing costs: pp2048 with the scores and pooled maps that kvtrace records by default. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kvt/session.h"

struct setup {
    const struct kvt_model *m;
    const struct kvt_ops *ops;
    int threads, reps;
    bool no_graphs;
    enum kvt_compute compute;
    enum kvt_dtype kv;
    const char *only;          /* names, comma-separated; NULL: all */
};

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void wants_all(void *self, struct kvt_wants *w)
{
    (void)self;
    w->scores = w->decisions = true;
    w->map_r = w->map_c = 64;
}

static int see_nothing(void *self, const struct kvt_event *ev)
{
    (void)self, (void)ev;
    return 0;
}

/* Seconds of one prefill of n tokens and of n_new decode steps behind it. */
static int one(const struct setup *u, int n, int n_new, bool observed, double *prefill_s, double *decode_s, struct kvt_err *err)
{
    const struct kvt_probe probe = { NULL, wants_all, see_nothing };
    struct kvt_session *s = NULL;
    int V = kvt_model_shape(u->m)->V;
    int32_t *token = malloc((size_t)n * sizeof *token);
    if (!token)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d tokens", n);
    uint32_t x = 1;
    for (int i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        token[i] = (int32_t)((x >> 8) % (uint32_t)V);
    }
    struct kvt_session_opts o = { .ops = u->ops, .threads = u->threads, .no_graphs = u->no_graphs, .compute = u->compute, .kv_type = u->kv,
                                  .protocol = KVT_PROTOCOL_LITERATURE, .decode = KVT_DECODE_FREE, .token = token, .n_prompt = n,
                                  .question_start = -1, .window = 32, .n_new = n_new, .probe = observed ? &probe : NULL };
    int rc = kvt_session_open(&s, u->m, &o, err);
    double t = now_s();
    if (!rc)
        rc = kvt_session_prefill(s, err);
    *prefill_s = now_s() - t;
    t = now_s();
    if (!rc && decode_s)
        rc = kvt_session_decode(s, err);
    if (decode_s)
        *decode_s = now_s() - t;
    kvt_session_close(&s);
    free(token);
    return rc;
}

/* What kvtrace takes by itself. */
static int fastest(struct setup *u, struct kvt_err *err)
{
    struct kvt_dev *dev = NULL;
    int rc = u->ops->open(&dev, &(struct kvt_dev_opts){ .threads = u->threads }, err);
    if (!rc)
        u->compute = kvt_fastest_compute(u->ops, dev);
    u->ops->close(&dev);
    return rc;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool wanted(const char *only, const char *name)
{
    for (; only && *only; only += strcspn(only, ","), only += *only == ',')
        if (strlen(name) == strcspn(only, ",") && !strncmp(only, name, strlen(name)))
            return true;
    return !only;
}

static int test(const struct setup *u, const char *name, int n, int n_new, bool observed, struct kvt_err *err)
{
    double speed[64], prefill_s, decode_s;
    int count = n_new ? n_new : n;
    if (!wanted(u->only, name))
        return 0;
    for (int r = 0; r < u->reps; r++) {
        int rc = one(u, n, n_new ? n_new : 1, observed, &prefill_s, n_new ? &decode_s : NULL, err);
        if (rc)
            return rc;
        speed[r] = count / (n_new ? decode_s : prefill_s);
    }
    qsort(speed, (size_t)u->reps, sizeof *speed, ascending);
    double median = u->reps % 2 ? speed[u->reps / 2] : 0.5 * (speed[u->reps / 2 - 1] + speed[u->reps / 2]);
    printf("%s\t%d\t%.1f\t%.1f\t%.1f\n", name, count, median, speed[0], speed[u->reps - 1]);
    fflush(stdout);
    return 0;
}

static int usage(void)
{
    fprintf(stderr, "usage: speed -m MODEL.gguf [-t threads] [-r 1..64] [-n new tokens] [-c f32|bf16|f16] [-k f32|f16|bf16] [-b backend] [-x tests] [-o] [-g]\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct setup u = { .ops = kvt_ops_find("cpu"), .threads = 2, .reps = 3, .compute = KVT_N_COMPUTE, .kv = KVT_F16 };
    const char *path = NULL;
    struct kvt_err err = { 0 };
    struct kvt_model *m = NULL;
    int c, n_new = 128;
    bool observed = false;
    double a, b;
    while ((c = getopt(argc, argv, "m:t:r:n:c:k:b:x:og")) != -1) {
        switch (c) {
        case 'm': path = optarg; break;
        case 't': u.threads = atoi(optarg); break;
        case 'r': u.reps = atoi(optarg); break;
        case 'n': n_new = atoi(optarg); break;
        case 'c': u.compute = !strcmp(optarg, "f32") ? KVT_COMPUTE_F32 : !strcmp(optarg, "bf16") ? KVT_COMPUTE_BF16 : KVT_COMPUTE_F16; break;
        case 'k': u.kv = !strcmp(optarg, "f32") ? KVT_F32 : !strcmp(optarg, "bf16") ? KVT_BF16 : KVT_F16; break;
        case 'b': u.ops = kvt_ops_find(optarg); break;
        case 'x': u.only = optarg; break;
        case 'o': observed = true; break;
        case 'g': u.no_graphs = true; break;
        default: return usage();
        }
    }
    if (!path || !u.ops || u.reps < 1 || u.reps > 64 || n_new < 1 || optind < argc)
        return usage();
    char tg[32], tg_deep[48];
    snprintf(tg, sizeof tg, "tg%d", n_new);
    snprintf(tg_deep, sizeof tg_deep, "tg%d@d2048", n_new);
    int rc = kvt_model_open(&m, path, &err);
    u.m = m;
    if (!rc && u.compute == KVT_N_COMPUTE)
        rc = fastest(&u, &err);
    if (!rc)
        rc = one(&u, 64, 4, false, &a, &b, &err);
    static const struct { const char *name; int n; bool asked; } prompt[] = { { "pp512", 512, false }, { "pp1024", 1024, true },
        { "pp2048", 2048, false }, { "pp4096", 4096, true }, { "pp8192", 8192, true } };
    for (size_t i = 0; i < sizeof prompt / sizeof *prompt && !rc; i++)
        if (!prompt[i].asked || u.only)
            rc = test(&u, prompt[i].name, prompt[i].n, 0, false, &err);
    if (!rc)
        rc = test(&u, tg, 2, n_new, false, &err);
    if (!rc)
        rc = test(&u, tg_deep, 2048, n_new, false, &err);
    if (!rc && observed)
        rc = test(&u, "pp2048+observed", 2048, 0, true, &err);
    if (rc)
        fprintf(stderr, "speed: %s\n", err.text);
    kvt_model_close(&m);
    return kvt_exit_code(rc);
}
