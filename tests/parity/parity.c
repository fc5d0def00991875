/* The engine against transformers on the same GGUF: token ids, log-probabilities at every position, greedy text and the
 * observed attention, in f32; and what the arithmetics that a default may be lose to f32.
 *
 * usage: parity [-m MODEL.gguf] [-b BACKEND] [-a ATTENTION] VECTOR.bin...      exit 77: there is no model to test with
 *
 * It would catch: a wrong rope layout or base, norm or scale, a dequantisation off by one bit, a tokenizer that splits
 * differently, a reduction over the wrong rows, a cache row read at the wrong place.
 *
 * Allowances (issue's figures): transformers in f32 is itself within about 1e-4 of its own f64 run; 2e-3 leaves room for
 * another order of summation through 30 layers and none for a mistake. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvt/prompt.h"
#include "kvt/session.h"
#include "vectors.h"

enum { BLOCK = 64 };            /* rows of logits at a time */
#define MAX_LOGPROB 2e-3        /* |difference| of natural log-probabilities */
#define MAX_ATTENTION 1e-4      /* of the largest value of the row; -a gives another for a model with large attention logits */
#define MAX_MEAN_KL 5e-4        /* nats, bf16 or f16 products against f32, over all positions of all prompts */

enum { N_FAST = 2 };
static const enum kvt_compute fast_compute[N_FAST] = { KVT_COMPUTE_BF16, KVT_COMPUTE_F16 };

enum attention { MASS, WMASS, LAST, ENTROPY, N_ATTENTION };

struct look {                   /* the probe: compares as layers come by */
    const struct logits_vector *v;
    double worst[N_ATTENTION];
    int seen;                   /* heads compared */
    const char *trouble;
};

static void wants(void *self, struct kvt_wants *w)
{
    (void)self;
    w->scores = true;
}

static double relative(const float *a, const float *b, int n)
{
    double top = 0, diff = 0;
    for (int i = 0; i < n; i++) {
        top = fmax(top, fabs((double)b[i]));
        diff = fmax(diff, isfinite(a[i]) ? fabs((double)a[i] - (double)b[i]) : INFINITY);
    }
    return top > 0 ? diff / top : diff;
}

static int see(void *self, const struct kvt_event *ev)
{
    struct look *k = self;
    const struct logits_vector *v = k->v;
    if (ev->kind != KVT_EV_PREFILL_LAYER)
        return 0;
    const struct kvt_ev_prefill_layer *p = &ev->prefill_layer;
    const float *wmass = NULL;
    for (int w = 0; w < p->n_windows; w++)
        if (p->window[w] == v->window)
            wmass = p->wmass[w];
    if (p->n != v->n || !p->mass || !wmass || !p->last || !p->entropy) {
        k->trouble = "the engine left out an observation that was asked for";
        return 0;
    }
    for (int i = 0; i < v->n_heads; i++) {
        const struct seen_head *h = &v->head[i];
        size_t at = (size_t)h->head * (size_t)v->n;
        if (h->layer != p->layer)
            continue;
        const float *ours[] = { p->mass + at, wmass + at, p->last + at, p->entropy + at };
        const float *theirs[] = { h->mass, h->wmass, h->last, h->entropy };
        for (int a = 0; a < N_ATTENTION; a++)
            k->worst[a] = fmax(k->worst[a], relative(ours[a], theirs[a], v->n));
        k->seen++;
    }
    return 0;
}

struct figures {
    int n_tok, wrong_ids, greedy_same, n_greedy, wrong_top1, rows;
    float greedy_margin;        /* the reference's margin where the first token differs */
    double max_lp, sum_lp, sum_kl[N_FAST], max_kl;
    size_t n_lp;
    double worst[N_ATTENTION];
};

static int fail(const char *what, const struct kvt_err *err)
{
    fprintf(stderr, "parity: %s: %s\n", what, err->text);
    return -1;
}

static int open_session(struct kvt_session **s, const struct kvt_model *m, const struct kvt_ops *ops, const struct logits_vector *v,
                        enum kvt_compute compute, enum kvt_dtype kv, int n_new, const struct kvt_probe *probe, struct kvt_err *err)
{
    struct kvt_session_opts o = { .ops = ops, .threads = 0, .compute = compute, .kv_type = kv, .protocol = KVT_PROTOCOL_LITERATURE,
                                  .decode = KVT_DECODE_FREE, .token = v->id, .n_prompt = v->n, .question_start = -1,
                                  .window = v->window, .n_new = n_new, .probe = probe };
    int rc = kvt_session_open(s, m, &o, err);
    return rc ? rc : kvt_session_prefill(*s, err);
}

/* Whether token t of the reference lies at the edge of its top list within the allowance. */
static void compare_row(const float *logits, const struct logits_vector *v, int row, struct figures *f)
{
    double top = -INFINITY, sum = 0;
    for (int i = 0; i < v->V; i++)
        top = fmax(top, logits[i]);
    for (int i = 0; i < v->V; i++)
        sum += exp(logits[i] - top);
    double log_sum = top + log(sum);
    for (int i = 0; i < v->top; i++) {
        size_t at = (size_t)row * (size_t)v->top + (size_t)i;
        double d = fabs(logits[v->top_id[at]] - log_sum - (double)v->top_lp[at]);
        f->max_lp = isfinite(d) ? fmax(f->max_lp, d) : INFINITY;
        f->sum_lp += d;
        f->n_lp++;
    }
}

/* KL(a || b) of two rows of logits, nats. */
static double kl(const float *a, const float *b, int V)
{
    double ta = -INFINITY, tb = -INFINITY, sa = 0, sb = 0, d = 0;
    for (int i = 0; i < V; i++) {
        ta = fmax(ta, a[i]);
        tb = fmax(tb, b[i]);
    }
    for (int i = 0; i < V; i++) {
        double e = exp(a[i] - ta);
        sa += e;
        sb += exp(b[i] - tb);
        d += e * ((double)a[i] - (double)b[i]);
    }
    return d / sa - (ta + log(sa)) + (tb + log(sb));
}

static int compare_logits(struct kvt_session *exact, struct kvt_session *const *fast, const struct logits_vector *v, struct figures *f,
                          struct kvt_err *err)
{
    size_t V = (size_t)v->V;
    float *a = malloc(BLOCK * V * sizeof *a), *b[N_FAST] = { malloc(BLOCK * V * sizeof **b), malloc(BLOCK * V * sizeof **b) };
    int rc = a && b[0] && b[1] ? 0 : KVT_ENOMEM;
    for (int r = 0; r < v->n && !rc; r += BLOCK) {
        int n = v->n - r < BLOCK ? v->n - r : BLOCK;
        rc = kvt_session_prefill_logits(exact, r, n, a, err);
        for (int k = 0; k < N_FAST && !rc; k++)
            rc = kvt_session_prefill_logits(fast[k], r, n, b[k], err);
        for (int i = 0; i < n && !rc; i++) {
            compare_row(a + (size_t)i * V, v, r + i, f);
            for (int k = 0; k < N_FAST; k++) {
                double d = kl(a + (size_t)i * V, b[k] + (size_t)i * V, v->V);
                f->sum_kl[k] += d;
                f->max_kl = isfinite(d) ? fmax(f->max_kl, d) : INFINITY;
            }
            f->rows++;
        }
    }
    free(a);
    free(b[0]);
    free(b[1]);
    return rc;
}

static int compare_ids(const struct kvt_model *m, const struct logits_vector *v, struct figures *f, struct kvt_err *err)
{
    struct kvt_tokens t = { 0 };
    if (!v->has_text)
        return 0;
    int rc = kvt_tokenize(kvt_model_tokenizer(m), v->text, (size_t)v->text_bytes, KVT_TOK_SPECIAL | KVT_TOK_BOS, &t, err);
    for (int i = 0; !rc && i < (t.n > v->n ? t.n : v->n); i++)
        f->wrong_ids += i >= t.n || i >= v->n || t.id[i] != v->id[i];
    kvt_tokens_free(&t);
    return rc;
}

static int run(const struct kvt_model *m, const struct kvt_ops *ops, const struct logits_vector *v, struct figures *f)
{
    struct kvt_err err = { 0 };
    struct look look = { .v = v };
    struct kvt_probe probe = { &look, wants, see };
    struct kvt_session *exact = NULL, *fast[N_FAST] = { NULL };
    struct kvt_branch_result full = { 0 };
    f->n_tok = v->n;
    int rc = compare_ids(m, v, f, &err);
    if (!rc)
        rc = open_session(&exact, m, ops, v, KVT_COMPUTE_F32, KVT_F32, v->n_greedy, &probe, &err);
    for (int k = 0; k < N_FAST && !rc; k++)
        rc = open_session(&fast[k], m, ops, v, fast_compute[k], KVT_F16, 1, NULL, &err);
    if (!rc)
        rc = compare_logits(exact, fast, v, f, &err);
    if (!rc)
        rc = kvt_session_decode(exact, &err);
    if (!rc)
        rc = kvt_session_result(exact, 0, &full);
    if (rc)
        fail("cannot run", &err);
    else if (look.trouble || look.seen != v->n_heads)
        rc = (fprintf(stderr, "parity: %s (%d of %d heads seen)\n", look.trouble ? look.trouble : "layers are missing", look.seen, v->n_heads), -1);
    memcpy(f->worst, look.worst, sizeof f->worst);
    f->n_greedy = v->n_greedy;
    while (!rc && f->greedy_same < v->n_greedy && f->greedy_same < full.n_free && full.free[f->greedy_same] == v->greedy[f->greedy_same])
        f->greedy_same++;
    if (f->greedy_same < v->n_greedy)
        f->greedy_margin = v->margin[f->greedy_same];
    kvt_session_close(&exact);
    for (int k = 0; k < N_FAST; k++)
        kvt_session_close(&fast[k]);
    return rc;
}

static bool good(const struct figures *f, double attention)
{
    bool ok = f->wrong_ids == 0 && f->max_lp <= MAX_LOGPROB && f->greedy_same == f->n_greedy;
    for (int a = 0; a < N_ATTENTION; a++)
        ok = ok && f->worst[a] <= attention;
    return ok;
}

static void row(const char *name, const struct figures *f, bool ok)
{
    printf("%-28s %6d %5s %9.2e %9.2e %3d/%-3d %8.1e %8.1e %8.1e %8.1e %9.2e %9.2e %9.2e  %s\n", name, f->n_tok,
           f->wrong_ids ? "WRONG" : "same", f->max_lp, f->sum_lp / (double)f->n_lp, f->greedy_same, f->n_greedy, f->worst[MASS],
           f->worst[WMASS], f->worst[LAST], f->worst[ENTROPY], f->sum_kl[0] / f->rows, f->sum_kl[1] / f->rows, f->max_kl, ok ? "ok" : "FAILED");
    if (f->greedy_margin > 0)
        printf("  greedy text differs at token %d, where the reference's two best logits are %.2e apart\n", f->greedy_same + 1,
               f->greedy_margin);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    const char *given = NULL, *backend = "cpu";
    char path[1024];
    int at = 1, failed = 0;
    struct kvt_err err = { 0 };
    struct kvt_model *m = NULL;
    struct figures all = { 0 };
    double attention = MAX_ATTENTION;
    for (; at + 1 < argc && argv[at][0] == '-'; at += 2) {
        if (!strcmp(argv[at], "-m"))
            given = argv[at + 1];
        else if (!strcmp(argv[at], "-b"))
            backend = argv[at + 1];
        else if (!strcmp(argv[at], "-a"))
            attention = atof(argv[at + 1]);
        else
            break;
    }
    const struct kvt_ops *ops = kvt_ops_find(backend);
    if (at >= argc || argv[at][0] == '-' || !ops) {
        fprintf(stderr, "usage: parity [-m MODEL.gguf] [-b ref|cpu] [-a ATTENTION] VECTOR.bin...\n");
        return 2;
    }
    if (!test_model(given, path, sizeof path)) {
        printf("skipped: no model (scripts/get-model.sh fetches it, or set KVT_MODEL)\n");
        return 77;
    }
    struct model_id id = { .path = path };
    if (kvt_model_open(&m, path, &err) || !file_crc(path, &id.crc, &id.bytes))
        return fail(path, &err), 1;
    printf("engine against transformers (f32), and the faster arithmetics (bf16, f16 products; f16 KV) against f32\n"
           "%-28s %6s %5s %9s %9s %7s %8s %8s %8s %8s %9s %9s %9s\n", "vector", "tokens", "ids", "max|dlp|", "mean|dlp|", "greedy", "mass",
           "wmass", "last", "entropy", "KL bf16", "KL f16", "max KL");
    for (; at < argc; at++) {
        struct logits_vector v;
        struct figures f = { 0 };
        const char *name = strrchr(argv[at], '/') ? strrchr(argv[at], '/') + 1 : argv[at];
        if (!logits_vector_read(&v, argv[at]) || !made_from(&id, name, v.model_bytes, v.model_crc) || run(m, ops, &v, &f)) {
            failed++;
        } else {
            row(name, &f, good(&f, attention));
            failed += !good(&f, attention);
            all.max_lp = fmax(all.max_lp, f.max_lp), all.sum_lp += f.sum_lp, all.n_lp += f.n_lp;
            all.sum_kl[0] += f.sum_kl[0], all.sum_kl[1] += f.sum_kl[1], all.max_kl = fmax(all.max_kl, f.max_kl), all.rows += f.rows, all.n_tok += f.n_tok;
            all.greedy_same += f.greedy_same, all.n_greedy += f.n_greedy, all.wrong_ids += f.wrong_ids;
            for (int a = 0; a < N_ATTENTION; a++)
                all.worst[a] = fmax(all.worst[a], f.worst[a]);
        }
        free(v.file);
    }
    if (all.rows)
        row("all", &all, good(&all, attention));
    for (int k = 0; k < N_FAST && all.rows; k++)
        if (!(all.sum_kl[k] <= MAX_MEAN_KL * all.rows)) {
            printf("FAILED: the mean KL of %s products\n", kvt_compute_names[fast_compute[k]]);
            failed++;
        }
    printf("%-28s %6s %5s %9.0e %9s %7s %8.0e %8.0e %8.0e %8.0e %9.0e %9.0e\n", "allowed", "", "same", MAX_LOGPROB, "", "all", attention, attention, attention,
           attention, MAX_MEAN_KL, MAX_MEAN_KL);
    kvt_model_close(&m);
    return failed ? 1 : 0;
}
