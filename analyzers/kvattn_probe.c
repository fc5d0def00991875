/* kvattn --probe: runs a model on prompts made for it and says which heads copy. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/kvattn.h"
#include "analyzers/needles.h"
#include "analyzers/probe_file.h"
#include "analyzers/probes.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/progress.h"
#include "tracer/embedded.h"

const char *const kvattn_backends[] = {"auto", "cpu", "cuda", "ref", "simt", NULL}, *const kvattn_computes[] = {"auto", "f32", "bf16", "f16", NULL};

static int open_backend(const struct kvattn_options *o, struct kvt_probe_run *run, struct kvt_err *err)
{
    static const enum kvt_compute computes[] = {KVT_COMPUTE_F32, KVT_COMPUTE_F32, KVT_COMPUTE_BF16, KVT_COMPUTE_F16};
    struct kvt_dev *dev = NULL;
    int rc = kvt_ops_load(&run->ops, kvattn_backends[o->backend], err);
    run->threads = o->threads, run->compute = computes[o->compute], run->kv_type = o->compute == 1 ? KVT_F32 : KVT_F16;
    if (rc || o->compute)
        return rc;
    rc = run->ops->open(&dev, &(struct kvt_dev_opts){.threads = o->threads}, err);
    if (!rc)
        run->compute = kvt_fastest_compute(run->ops, dev);
    run->ops->close(&dev);
    return rc;
}

static int run_all(const struct kvt_probe_run *run, int needles, struct kvt_probe_sums *s, struct kvt_err *err)
{
    int32_t token[2 * KVT_PROBE_TOKENS + 1];
    struct kvt_progress bar;
    int rc = 0;
    kvt_progress_start(&bar, stderr, "probes", "prompts", KVT_PROBE_SEEDS + needles);
    for (int i = 0; i < KVT_PROBE_SEEDS + needles && !rc; i++) {
        if (i < KVT_PROBE_SEEDS) {
            int n = kvt_probe_draw(kvt_model_tokenizer(run->model), (uint64_t)i + 1, KVT_PROBE_TOKENS, token);
            rc = n ? kvt_probe_repeat(run, token, n, KVT_PROBE_TOKENS, s, err)
                   : kvt_fail(err, KVT_EINPUT, "%s: its vocabulary has only special tokens to draw from", kvt_model_path(run->model));
        } else {
            rc = kvt_probe_needle(run, (i - KVT_PROBE_SEEDS) % KVT_N_NEEDLES * KVT_N_DEPTHS + (i - KVT_PROBE_SEEDS) / KVT_N_NEEDLES, s, err);
        }
        kvt_progress_at(&bar, i + 1);
    }
    kvt_progress_end(&bar);
    return rc;
}

static void heads_from(const struct kvt_probe_sums *s, struct kvt_head *head)
{
    for (int i = 0; i < s->L * s->H; i++) {
        head[i] = kvt_head_unknown;
        head[i].induction = s->rows ? s->induction[i] / (double)s->rows : NAN;
        head[i].duplicate = s->rows ? s->duplicate[i] / (double)s->rows : NAN;
        head[i].retrieval = s->found ? s->copied[i] / s->found : NAN;
    }
}

/* People see the heads that have a label. */
static int print_heads(const struct kvattn *r, const struct kvt_probe_sums *s, const struct kvt_head *head, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT}, {.name = "induction", .kind = KVT_COL_REAL, .digits = 3},
                                         {.name = "duplicate", .kind = KVT_COL_REAL, .digits = 3}, {.name = "retrieval", .kind = KVT_COL_REAL, .digits = 3}, {.name = "labels", .kind = KVT_COL_TEXT}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int i = 0; i < s->L * s->H; i++) {
        char labels[80];
        kvattn_labels(r, &head[i], labels, sizeof labels);
        if (kvattn_for_people(r) && !*labels)
            continue;
        kvt_put_int(t, i / s->H);
        kvt_put_int(t, i % s->H);
        kvt_put_real(t, head[i].induction);
        kvt_put_real(t, head[i].duplicate);
        kvt_put_real(t, head[i].retrieval);
        kvt_put_text(t, labels);
    }
    return kvattn_end(r, 0, &t, err);
}

static int hash_of(const struct kvt_model *m, char hex[65], struct kvt_err *err)
{
    int n = kvt_model_files(m);
    const char **path = kvt_calloc((size_t)n, sizeof *path);
    for (int i = 0; path && i < n; i++)
        path[i] = kvt_model_file(m, i);
    int rc = path ? kvt_sha256_files(path, n, hex, err) : kvt_fail(err, KVT_ENOMEM, "no memory for a list of %d files", n);
    free(path);
    return rc;
}

static int write_file(const struct kvattn *r, const struct kvt_probe_run *run, const struct kvt_probe_sums *s, const struct kvt_head *head, struct kvt_err *err)
{
    char sha[65] = "", about[320];
    int rc = hash_of(run->model, sha, err);
    snprintf(about, sizeof about, "%.160s, %s products: %d x %d random tokens repeated, %d of %d needles said", kvt_model_shape(run->model)->name,
             kvt_compute_names[run->compute], KVT_PROBE_SEEDS, KVT_PROBE_TOKENS, s->found, s->asked);
    return rc ? rc : kvt_probe_file_write(r->o.out, r->o.force, about, sha, s->L, s->H, head, err);
}

int kvattn_probe(struct kvattn *r, struct kvt_err *err)
{
    struct kvt_probe_run run = {0};
    struct kvt_probe_sums s = {0};
    struct kvt_model *model = NULL;
    char path[KVT_EMBEDDED_PATH];
    const char *name = r->o.model;
    int rc = r->o.out && !r->o.force && !access(r->o.out, F_OK) ? kvt_fail(err, KVT_EINPUT, "%s exists; --force replaces it", r->o.out) : 0;
    if (!rc && kvt_embedded_asked(name)) {
        rc = kvt_embedded_find(path, err);
        name = path;
    }
    if (!rc)
        rc = kvt_model_open(&model, name, err);
    if (!rc)
        rc = open_backend(&r->o, &run, err);
    const struct kvt_shape *shape = rc ? NULL : kvt_model_shape(model);
    run.model = model;
    if (!rc)
        rc = kvt_probe_sums_make(&s, shape->L, shape->H, err);
    if (!rc)
        rc = run_all(&run, r->o.needles, &s, err);
    struct kvt_head *head = rc ? NULL : kvt_calloc((size_t)s.L * (size_t)s.H, sizeof *head);
    if (!rc && !head)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d heads", s.L * s.H);
    if (!rc) {
        heads_from(&s, head);
        if (r->o.out)
            rc = write_file(r, &run, &s, head, err);
    }
    if (!rc && r->o.format == KVT_FORMAT_TABLE)
        printf("%s: %d prompts of %d random tokens, each twice; %d needles, of which the\nmodel said %d%s.\n"
               "induction, duplicate: mean attention of the repeat on the token behind its first\noccurrence, on that occurrence. retrieval: share of a needle that the head copied.\n\n",
               shape->name, KVT_PROBE_SEEDS, KVT_PROBE_TOKENS, s.asked, s.found, s.found ? "" : ": no retrieval to tell");
    if (!rc)
        rc = print_heads(r, &s, head, err);
    free(head);
    kvt_probe_sums_free(&s);
    kvt_model_close(&model);
    return rc;
}
