/* The same prompt with every method, live, on two backends: what they kept and what they say at the end.
 *
 * usage: backends [-m MODEL.gguf] [-b BACKEND] [-r REFERENCE] [-n STEPS] VECTOR.bin...       exit 77: no model to test with
 *
 * All methods at 40 %, `visible`, f32, 20 steps teacher-forced on the reference backend's words. Of each branch: the slots that
 * only one of the two holds after the last step, and the 20 likeliest next tokens' log-probabilities. Backends add in another order, so
 * a score beside the threshold may fall on the other side, as in kept.c: at most 0.5 % of a branch's slots may. Log-probabilities are
 * judged, by parity.c's allowance, where the slots are the same; where a slot differs they differ by what that slot weighs.
 *
 * It would catch: a device's cache that loses or keeps the wrong row after compaction, a method's state that is not carried from step to
 * step, a backend's operation that is right alone and wrong in the order that a run calls it in. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/session.h"
#include "vectors.h"

#define MAX_DIFFERENT 0.005 /* share of the slots held */
#define MAX_LOGPROB 2e-3    /* parity.c */
enum { MAX_BRANCH = 40, TOP = 20, KEEP_PERCENT = 40, MAX_STEPS = 64 };

static const float gates[4096]; /* of heads of two classes: all equal, the earlier ones keep everything */

struct outcome {            /* of all branches, 0 is full */
    int32_t *pos;           /* (branches, L, G, cap) */
    int *count;             /* (branches, L, G) */
    float *logits;          /* (branches, V) */
    int32_t forced[MAX_STEPS];
    double seconds;
};

static void outcome_free(struct outcome *o)
{
    free(o->pos), free(o->count), free(o->logits);
    *o = (struct outcome){ 0 };
}

static int branches(struct kvt_branch_opts *branch, struct kvt_err *err)
{
    int count, n = 0, rc = 0;
    const struct kvt_method *const *methods = kvt_methods(&count);
    for (int pass = 0; pass < 2; pass++) /* oracles come last */
        for (int i = 0; i < count && n < MAX_BRANCH && !rc; i++) {
            const char *name = methods[i]->name, *spec = strcmp(name, "my") ? name : "my[score=mass,unit=chunk]";
            if (!strcmp(name, "full") || !strcmp(name, "file") || (strcmp(name, "oracle") == 0) != (pass == 1))
                continue;
            branch[n] = (struct kvt_branch_opts){ .name = name, .budget = { .kind = KVT_BUDGET_KEEP, .keep_ppm = KEEP_PERCENT * 10000 } };
            rc = kvt_spec_parse(&branch[n].spec, spec, strlen(spec), err);
            if (!rc && branch[n].spec.policy.window == KVT_WINDOW_QUESTION)
                branch[n].spec.policy.window = 16;
            if (!rc && branch[n].spec.policy.alloc == KVT_ALLOC_CLASS)
                branch[n].given = gates, branch[n].n_given = 1;
            n++;
        }
    return rc ? rc : n;
}

static int run(const struct kvt_model *m, const char *backend, const struct logits_vector *v, const struct kvt_branch_opts *branch, int n, int steps,
               const int32_t *force, struct outcome *out, struct kvt_err *err)
{
    const struct kvt_shape *shape = kvt_model_shape(m);
    int cap = v->n + steps, third = v->n / 4;
    const int32_t shot[6] = { 1, third, third, 2 * third, 2 * third, 3 * third };
    size_t cells = (size_t)shape->L * (size_t)shape->G, all = (size_t)n + 1;
    struct kvt_session *s = NULL;
    struct kvt_branch_result r;
    struct kvt_session_opts o = { .ops = kvt_ops_find(backend), .threads = 2, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32,
                                  .protocol = KVT_PROTOCOL_VISIBLE, .decode = KVT_DECODE_FORCED, .token = v->id, .n_prompt = v->n,
                                  .question_start = v->n - v->n / 8, .window = 16, .shot = shot, .n_shots = 3, .n_new = steps, .force = force,
                                  .branch = branch, .n_branches = n };
    *out = (struct outcome){ .pos = malloc(all * cells * (size_t)cap * sizeof *out->pos), .count = malloc(all * cells * sizeof *out->count),
                             .logits = malloc(all * (size_t)shape->V * sizeof *out->logits) };
    int rc = out->pos && out->count && out->logits ? 0 : KVT_ENOMEM;
    if (!rc)
        rc = kvt_session_open(&s, m, &o, err);
    if (!rc)
        rc = kvt_session_prefill(s, err);
    if (!rc)
        rc = kvt_session_decode(s, err);
    for (size_t b = 0; b < all && !rc; b++) {
        for (size_t c = 0; c < cells && rc >= 0; c++)
            rc = out->count[b * cells + c] = kvt_session_positions(s, (int)b, (int)c / shape->G, (int)c % shape->G,
                                                                   out->pos + (b * cells + c) * (size_t)cap, cap, err);
        if (rc >= 0)
            rc = kvt_session_branch_logits(s, (int)b, out->logits + b * (size_t)shape->V, err);
    }
    if (!rc)
        rc = kvt_session_result(s, 0, &r);
    if (!rc) {
        memcpy(out->forced, r.forced, (size_t)r.n_steps * sizeof *r.forced);
        out->seconds = 1e-9 * (double)(kvt_session_phase_ns(s, KVT_PHASE_PREFILL) + kvt_session_phase_ns(s, KVT_PHASE_DECODE));
    }
    kvt_session_close(&s);
    return rc;
}

/* Slots that only one of two cells holds; positions ascend. */
static int apart(const int32_t *a, int n, const int32_t *b, int m)
{
    int i = 0, j = 0, only = 0;
    while (i < n || j < m) {
        if (i < n && j < m && a[i] == b[j])
            i++, j++;
        else if (j == m || (i < n && a[i] < b[j]))
            i++, only++;
        else
            j++, only++;
    }
    return only;
}

static double log_sum(const float *x, int V)
{
    double top = x[0], sum = 0;
    for (int i = 1; i < V; i++)
        top = fmax(top, x[i]);
    for (int i = 0; i < V; i++)
        sum += exp(x[i] - top);
    return top + log(sum);
}

/* Largest difference of the TOP likeliest tokens' log-probabilities. */
static double top_difference(const float *a, const float *b, int V)
{
    double za = log_sum(a, V), zb = log_sum(b, V), worst = 0;
    float last = INFINITY;
    for (int k = 0; k < TOP; k++) { /* a token of the same logit as its forerunner is seen once: enough */
        int best = -1;
        for (int i = 0; i < V; i++)
            if (a[i] < last && (best < 0 || a[i] > a[best]))
                best = i;
        if (best < 0)
            break;
        last = a[best];
        worst = fmax(worst, fabs(a[best] - za - (b[best] - zb)));
    }
    return worst;
}

static int compare(const struct kvt_model *m, const struct logits_vector *v, const struct kvt_branch_opts *branch, int n, int steps,
                   const struct outcome *ref, const struct outcome *got)
{
    const struct kvt_shape *shape = kvt_model_shape(m);
    size_t cells = (size_t)shape->L * (size_t)shape->G, cap = (size_t)(v->n + steps), V = (size_t)shape->V;
    int failed = 0;
    printf("  %-14s %9s %9s %9s %10s\n", "branch", "slots", "only one", "share", "max|dlp|");
    for (size_t b = 0; b <= (size_t)n; b++) {
        long held = 0, only = 0;
        for (size_t c = b * cells; c < (b + 1) * cells; c++) {
            held += ref->count[c];
            only += apart(ref->pos + c * cap, ref->count[c], got->pos + c * cap, got->count[c]);
        }
        double lp = top_difference(ref->logits + b * V, got->logits + b * V, shape->V), share = held ? (double)only / (double)held : only > 0;
        bool ok = share <= MAX_DIFFERENT && (only || lp <= MAX_LOGPROB);
        failed += !ok;
        printf("  %-14s %9ld %9ld %8.3f%% %10.2e  %s\n", b ? branch[b - 1].name : "full", held, only, 100 * share, lp, ok ? "ok" : "FAILED");
    }
    return failed;
}

int main(int argc, char **argv)
{
    const char *given = NULL, *backend = "cuda", *reference = "cpu";
    struct kvt_branch_opts branch[MAX_BRANCH] = { 0 };
    struct kvt_err err = { 0 };
    struct kvt_model *m = NULL;
    char path[1024];
    int at = 1, failed = 0, steps = 20;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        const char *value = argv[at + 1];
        if (!strcmp(argv[at], "-m"))
            given = value;
        else if (!strcmp(argv[at], "-b"))
            backend = value;
        else if (!strcmp(argv[at], "-r"))
            reference = value;
        else if (!strcmp(argv[at], "-n"))
            steps = atoi(value);
        else
            break;
    }
    if (at >= argc || argv[at][0] == '-' || steps < 1 || steps > MAX_STEPS || !kvt_ops_find(backend) || !kvt_ops_find(reference)) {
        fprintf(stderr, "usage: backends [-m MODEL.gguf] [-b cuda|simt|cpu] [-r cpu|ref] [-n STEPS] VECTOR.bin...\n");
        return 2;
    }
    if (!test_model(given, path, sizeof path)) {
        printf("skipped: no model (scripts/get-model.sh fetches it, or set KVT_MODEL)\n");
        return 77;
    }
    int n = branches(branch, &err);
    if (n < 0 || kvt_model_open(&m, path, &err)) {
        fprintf(stderr, "backends: %s\n", err.text);
        return 1;
    }
    for (; at < argc; at++) {
        struct logits_vector v;
        struct outcome ref = { 0 }, got = { 0 };
        if (!logits_vector_read(&v, argv[at])) {
            failed++;
        } else if (run(m, reference, &v, branch, n, steps, NULL, &ref, &err) || run(m, backend, &v, branch, n, steps, ref.forced, &got, &err)) {
            fprintf(stderr, "backends: %s\n", err.text);
            failed++;
        } else {
            printf("%s, %d tokens and %d steps, f32: %s (%.2f s) beside %s (%.2f s)\n", strrchr(argv[at], '/') ? strrchr(argv[at], '/') + 1 : argv[at], v.n,
                   steps, backend, got.seconds, reference, ref.seconds);
            failed += compare(m, &v, branch, n, steps, &ref, &got);
        }
        outcome_free(&ref), outcome_free(&got);
        free(v.file);
    }
    printf("allowed: %g %% of a branch's slots; %g in a log-probability where the slots are the same\n%d failed\n", 100 * MAX_DIFFERENT, MAX_LOGPROB, failed);
    kvt_model_close(&m);
    return failed ? 1 : 0;
}
