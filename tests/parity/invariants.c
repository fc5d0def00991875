/* What must hold bit for bit, whatever the numbers are: on a tiny random model, in f32 and in the default arithmetic.
 *
 * usage: invariants MODEL.gguf [BACKEND [graphs]]
 *
 *   keep 100 %    every method's branch gives the full branch's logits, tokens and slots, under each protocol
 *   neighbours    a branch alone and among 24 gives the same logits, tokens and slots
 *   threads       1 and 2 threads: the same
 *   twice         the same command twice: the same
 *   graphs        where a backend makes graphs of its steps: with and without, the same (the third argument: this alone)
 *   fork          what a free stream says after it forked from the forced one is what the branch says running alone
 *
 * It would catch: a product whose tiles depend on the number of rows, a sum whose order depends on threads, a page
 * shared too long or freed too early, state that leaks from one branch into another. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/session.h"

enum { N_PROMPT = 300, QUESTION = 270, N_NEW = 24, MAX_BRANCH = 32, N_SHOTS = 6 };

static const int32_t shots[2 * N_SHOTS] = { 8, 50, 50, 90, 90, 133, 133, 170, 170, 222, 222, 262 };

static const float gates[1024]; /* of heads of two classes: all equal, the earlier ones keep everything */

struct setup {
    const struct kvt_model *m;
    const struct kvt_ops *ops;
    enum kvt_compute compute;
    enum kvt_dtype kv;
    enum kvt_protocol protocol;
    enum kvt_decode decode;
    int threads;
    bool no_graphs;
};

struct outcome {             /* of one branch */
    uint64_t logits, slots;  /* hashes of the bits */
    int32_t forced[N_NEW], free[N_NEW];
    int n_steps, n_free, diverged;
    uint64_t bytes_last;
};

static uint64_t hash(uint64_t h, const void *p, size_t bytes)
{
    const unsigned char *b = p;
    for (size_t i = 0; i < bytes; i++)
        h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

static int collect(struct kvt_session *s, const struct kvt_shape *shape, int b, struct outcome *out, struct kvt_err *err)
{
    struct kvt_branch_result r;
    int32_t pos[N_PROMPT + N_NEW];
    float *logits = malloc((size_t)shape->V * sizeof *logits);
    int rc = logits ? kvt_session_branch_logits(s, b, logits, err) : KVT_ENOMEM;
    memset(out, 0, sizeof *out);
    out->logits = out->slots = 0xcbf29ce484222325u;
    if (!rc)
        out->logits = hash(out->logits, logits, (size_t)shape->V * sizeof *logits);
    free(logits);
    for (int l = 0; l < shape->L && !rc; l++)
        for (int g = 0; g < shape->G && rc >= 0; g++) {
            int n = rc = kvt_session_positions(s, b, l, g, pos, N_PROMPT + N_NEW, err);
            if (n >= 0) {
                out->slots = hash(hash(out->slots, &n, sizeof n), pos, (size_t)n * sizeof *pos);
                rc = 0;
            }
        }
    if (!rc)
        rc = kvt_session_result(s, b, &r);
    if (rc)
        return rc;
    out->n_steps = r.n_steps, out->n_free = r.n_free, out->diverged = r.diverged, out->bytes_last = r.bytes_last;
    memcpy(out->forced, r.forced, (size_t)r.n_steps * sizeof *r.forced);
    memcpy(out->free, r.free, (size_t)r.n_free * sizeof *r.free);
    return 0;
}

/* Runs branches [first, first + n) of the list; out[0] is the full one. */
static int run(const struct setup *u, const struct kvt_branch_opts *branch, int n, struct outcome *out)
{
    struct kvt_err err = { 0 };
    struct kvt_session *s = NULL;
    const struct kvt_shape *shape = kvt_model_shape(u->m);
    int32_t token[N_PROMPT];
    uint64_t x = 12345;
    for (int i = 0; i < N_PROMPT; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        token[i] = i >= 200 ? token[i - 150] : (int32_t)((x >> 33) % (uint64_t)shape->V);
    }
    struct kvt_session_opts o = { .ops = u->ops, .threads = u->threads, .no_graphs = u->no_graphs, .compute = u->compute, .kv_type = u->kv, .protocol = u->protocol,
                                  .decode = u->decode, .token = token, .n_prompt = N_PROMPT, .question_start = QUESTION, .window = 16,
                                  .shot = shots, .n_shots = N_SHOTS, .n_new = N_NEW, .branch = branch, .n_branches = n };
    int rc = kvt_session_open(&s, u->m, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (!rc)
        rc = kvt_session_decode(s, &err);
    for (int b = 0; b <= n && !rc; b++)
        rc = collect(s, shape, b, &out[b], &err);
    if (rc)
        fprintf(stderr, "invariants: %s\n", err.text);
    kvt_session_close(&s);
    return rc;
}

static const char *difference(const struct outcome *a, const struct outcome *b)
{
    if (a->n_steps != b->n_steps || memcmp(a->forced, b->forced, sizeof a->forced))
        return "forced tokens";
    if (a->n_free != b->n_free || memcmp(a->free, b->free, sizeof a->free))
        return "free tokens";
    if (a->slots != b->slots)
        return "kept slots";
    if (a->logits != b->logits)
        return "logits";
    return a->bytes_last != b->bytes_last ? "bytes" : NULL;
}

static int report(const char *check, const char *branch, const char *what)
{
    if (what)
        printf("    FAILED %s: %s: the %s differ\n", check, branch, what);
    return what != NULL;
}

static int same(const char *check, const struct kvt_branch_opts *branch, int n, const struct outcome *a, const struct outcome *b)
{
    int failed = 0;
    for (int i = 0; i <= n; i++)
        failed += report(check, i ? branch[i - 1].name : "full", difference(&a[i], &b[i]));
    return failed;
}

static int add(struct kvt_branch_opts *branch, int *n, char (*name)[96], const char *spec, int keep_percent)
{
    struct kvt_err err = { 0 };
    struct kvt_branch_opts *b = &branch[*n];
    snprintf(name[*n], sizeof name[*n], "%s %d%%", spec, keep_percent);
    b->name = name[*n];
    b->budget = (struct kvt_budget){ .kind = KVT_BUDGET_KEEP, .keep_ppm = keep_percent * 10000 };
    ++*n;
    int rc = kvt_spec_parse(&b->spec, spec, strlen(spec), &err);
    if (!rc && b->spec.policy.window == KVT_WINDOW_QUESTION) /* kvtrace knows the question */
        b->spec.policy.window = 16;
    if (!rc && b->spec.policy.alloc == KVT_ALLOC_CLASS)
        b->given = gates, b->n_given = 1;
    if (rc)
        fprintf(stderr, "invariants: %s\n", err.text);
    return rc;
}

/* Every method at 100 % beside the full branch, and a few with everything renumbered or stepwise. */
static int keep_all(struct setup u)
{
    struct kvt_branch_opts branch[MAX_BRANCH] = { 0 };
    struct outcome out[MAX_BRANCH + 1];
    char name[MAX_BRANCH][96];
    int n = 0, count, failed = 0;
    const struct kvt_method *const *methods = kvt_methods(&count);
    static const char *const more[] = { "snapkv[renumber=1]", "streaming[schedule=prefill]", "shotkv[scope=all_layers]" };
    for (int i = 0; i < count; i++)
        if (strcmp(methods[i]->name, "oracle") && strcmp(methods[i]->name, "file") && add(branch, &n, name, strcmp(methods[i]->name, "my") ? methods[i]->name : "my[score=mass,unit=chunk]", 100))
            return 1;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (add(branch, &n, name, more[i], 100))
            return 1;
    if (add(branch, &n, name, "oracle", 100)) /* they come last */
        return 1;
    for (int p = KVT_PROTOCOL_VISIBLE; p <= KVT_PROTOCOL_LITERATURE; p++) {
        u.protocol = (enum kvt_protocol)p;
        if (run(&u, branch, n, out))
            return failed + 1;
        for (int i = 1; i <= n; i++) {
            failed += report("keep 100 %", branch[i - 1].name, difference(&out[0], &out[i]));
            if (out[i].diverged)
                failed += report("keep 100 %", branch[i - 1].name, "first tokens");
        }
    }
    printf("  keep 100 %%: %d branches x 3 protocols, %d differ\n", n, failed);
    return failed;
}

static int many(struct setup u, enum kvt_protocol protocol)
{
    static const char *const specs[] = { "snapkv[w=16]", "pyramidkv[w=16]", "chunkkv[w=16]", "h2o", "streaming", "random" };
    static const int keep[] = { 15, 30, 45, 60 };
    struct kvt_branch_opts branch[MAX_BRANCH] = { 0 };
    struct outcome among[MAX_BRANCH + 1], other[MAX_BRANCH + 1], alone[2];
    char name[MAX_BRANCH][96];
    int n = 0, failed = 0, bad, diverged = 0;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        for (size_t k = 0; k < sizeof keep / sizeof *keep; k++)
            if (add(branch, &n, name, specs[i], keep[k]))
                return 1;
    u.protocol = protocol;
    u.decode = KVT_DECODE_BOTH;
    if (run(&u, branch, n, among) || run(&u, branch, n, other))
        return 1;
    failed += bad = same("twice", branch, n, among, other);
    printf("  twice: %d of %d branches differ\n", bad, n + 1);

    u.threads = u.threads == 1 ? 2 : 1;
    if (run(&u, branch, n, other))
        return failed + 1;
    failed += bad = same("threads", branch, n, among, other);
    printf("  1 and 2 threads: %d of %d branches differ\n", bad, n + 1);
    u.threads = 3 - u.threads;

    bad = 0;
    for (int i = 0; i < n; i += 3) { /* each method at some budget */
        if (run(&u, branch + i, 1, alone))
            return failed + 1;
        bad += report("neighbours", branch[i].name, difference(&among[i + 1], &alone[1]));
        bad += report("neighbours", "full", difference(&among[0], &alone[0]));
    }
    failed += bad;
    printf("  alone and among %d: %d of %d differ\n", n, bad, (n + 2) / 3);

    u.decode = KVT_DECODE_FREE;
    if (run(&u, branch, n, other))
        return failed + 1;
    bad = 0;
    for (int i = 1; i <= n; i++) {
        bool eq = among[i].n_free == other[i].n_free && !memcmp(among[i].free, other[i].free, sizeof among[i].free)
            && among[i].diverged == other[i].diverged;
        bad += report("fork", branch[i - 1].name, eq ? NULL : "free tokens");
        diverged += among[i].diverged != 0;
    }
    if (!diverged)
        bad += report("fork", "all branches", "tokens never");
    failed += bad;
    printf("  fork at the first difference and running alone: %d of %d differ (%d forked)\n", bad, n, diverged);
    return failed;
}

/* Methods that evict in every step, by each of the ways there are. */
static int graphs(struct setup u)
{
    static const char *const specs[] = { "h2o", "tova", "treekv", "random" };
    struct kvt_branch_opts branch[MAX_BRANCH] = { 0 };
    struct outcome with[MAX_BRANCH + 1], without[MAX_BRANCH + 1];
    char name[MAX_BRANCH][96];
    int n = 0, bad;
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++)
        if (add(branch, &n, name, specs[i], 25))
            return 1;
    u.decode = KVT_DECODE_BOTH;
    if (run(&u, branch, n, with))
        return 1;
    u.no_graphs = true;
    if (run(&u, branch, n, without))
        return 1;
    bad = same("graphs", branch, n, with, without);
    printf("  with and without graphs: %d of %d branches differ\n", bad, n + 1);
    return bad;
}

int main(int argc, char **argv)
{
    struct kvt_err err = { 0 };
    struct kvt_model *m = NULL;
    const struct kvt_ops *ops = kvt_ops_find(argc > 2 ? argv[2] : "cpu");
    int failed = 0;
    if (argc < 2 || !ops || (argc > 3 && strcmp(argv[3], "graphs"))) {
        fprintf(stderr, "usage: invariants MODEL.gguf [BACKEND [graphs]]\n");
        return 2;
    }
    if (kvt_model_open(&m, argv[1], &err)) {
        fprintf(stderr, "invariants: %s\n", err.text);
        return 1;
    }
    static const struct { const char *name; enum kvt_compute compute; enum kvt_dtype kv; } modes[] = {
        { "f32 products, f32 KV", KVT_COMPUTE_F32, KVT_F32 }, { "bf16 products, f16 KV", KVT_COMPUTE_BF16, KVT_F16 },
        { "f16 products, f16 KV", KVT_COMPUTE_F16, KVT_F16 } };
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        struct setup u = { .m = m, .ops = ops, .compute = modes[i].compute, .kv = modes[i].kv, .threads = 2 };
        printf("%s, backend %s\n", modes[i].name, ops->name);
        if (argc > 3) {
            failed += ops->step_begin && !i ? graphs(u) : 0;
            continue;
        }
        failed += keep_all(u);
        failed += many(u, i ? KVT_PROTOCOL_VISIBLE : KVT_PROTOCOL_LITERATURE);
    }
    printf("%d failed\n", failed);
    kvt_model_close(&m);
    return failed ? 1 : 0;
}
