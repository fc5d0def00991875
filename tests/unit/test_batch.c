/* Batches of independent sequences. Would catch: a sequence whose tokens, slots or logits depend on who shares its calls or how many they are; one that
 * isn't what a session of it alone gives, or what its method's branch gives beside a full one; pages that aren't let go, or aren't counted; a limit of
 * memory that doesn't hold, or refuses what fits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "kvt/batch.h"
#include "mkmodel.h"

enum { N_SEQ = 5, LONGEST = 60, N_NEW = 21, L = 3, G = 2, V_MOST = 1024 };

static const char *const methods[] = { "full", "random", "streaming", "h2o", "snapkv[w=4]", "pyramidkv[w=4]", "chunkkv[w=4,chunk=4]", "shotkv", "expected", "knorm", "keydiff",
                                       "lagkv[lag=8]", "adakv[w=4]", "criticalkv[w=4]", "kvcompress[recent=8]", "randomshot", "finch[w=4]", "tova", "treekv", "kvzip",
                                       "my[score=mass,schedule=every,every=4]", "my[score=mass,prefill_chunk=16]" };
enum { N_METHODS = sizeof methods / sizeof *methods };
static const int32_t shots[] = { 4, 12, 12, 20, 20, 30 };

struct rig {
    struct kvt_model *model;
    struct kvt_branch_opts branch[N_METHODS];
    int32_t token[N_SEQ][LONGEST];
    int V;
};

static void rig_open(struct rig *r)
{
    char path[] = "/tmp/kvt-batch-XXXXXX";
    struct kvt_err err = { 0 };
    struct kvt_mkmodel_opts mo = { .seed = 5 };
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    cr_assert_eq(kvt_mkmodel(path, &mo, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_open(&r->model, path, &err), 0, "%s", err.text);
    unlink(path);
    r->V = kvt_model_shape(r->model)->V;
    cr_assert_leq(r->V, V_MOST);
    for (int i = 0; i < N_METHODS; i++) {
        r->branch[i] = (struct kvt_branch_opts){ .name = methods[i], .budget = { .kind = KVT_BUDGET_KEEP, .keep_ppm = 500000 } };
        cr_assert_eq(kvt_spec_parse(&r->branch[i].spec, methods[i], strlen(methods[i]), &err), 0, "%s", err.text);
    }
    for (int i = 0; i < N_SEQ; i++)
        for (int t = 0; t < LONGEST; t++)
            r->token[i][t] = 3 + (t * 37 + i * 101 + t * t * i) % 390;
}

/* Sequence i: prompts of different lengths, questions of different lengths. */
static struct kvt_session_opts opts_of(const struct rig *r, const char *backend, int method, int i, enum kvt_protocol protocol)
{
    return (struct kvt_session_opts){ .ops = kvt_ops_find(backend), .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F16, .protocol = protocol,
                                      .decode = KVT_DECODE_FREE, .token = r->token[i], .n_prompt = LONGEST - 3 * i, .question_start = LONGEST - 3 * i - 6 - i, .window = 8,
                                      .shot = shots, .n_shots = 3, .n_new = N_NEW, .branch = &r->branch[method], .n_branches = 1 };
}

struct got {
    int32_t token[N_NEW], pos[L][G][LONGEST + N_NEW];
    int n, held[L][G];
    float logits[V_MOST];
    uint64_t bytes;
};

static void same(const struct got *a, const struct got *b, int V, const char *what)
{
    cr_assert_eq(a->n, b->n, "%s: %d and %d tokens", what, a->n, b->n);
    cr_assert_eq(memcmp(a->token, b->token, (size_t)a->n * sizeof *a->token), 0, "%s: other tokens", what);
    cr_assert_eq(memcmp(a->logits, b->logits, (size_t)V * sizeof *a->logits), 0, "%s: other logits", what);
    for (int l = 0; l < L; l++)
        for (int g = 0; g < G; g++) {
            cr_assert_eq(a->held[l][g], b->held[l][g], "%s: layer %d, kv head %d: %d and %d slots", what, l, g, a->held[l][g], b->held[l][g]);
            cr_assert_eq(memcmp(a->pos[l][g], b->pos[l][g], (size_t)a->held[l][g] * sizeof(int32_t)), 0, "%s: layer %d, kv head %d: other slots", what, l, g);
        }
    cr_assert_eq(a->bytes, b->bytes, "%s: %llu and %llu bytes", what, (unsigned long long)a->bytes, (unsigned long long)b->bytes);
}

static void take(struct got *out, const struct kvt_branch_result *r)
{
    out->n = r->n_free;
    memcpy(out->token, r->free, (size_t)r->n_free * sizeof *r->free);
    out->bytes = r->bytes_last;
}

static void from_session(const struct rig *r, struct kvt_session_opts o, struct got *out)
{
    struct kvt_session *s = NULL;
    struct kvt_branch_result res;
    struct kvt_err err = { 0 };
    int rc = kvt_session_open(&s, r->model, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (!rc)
        rc = kvt_session_decode(s, &err);
    cr_assert_eq(rc, 0, "%s: %s", o.branch->name, err.text);
    kvt_session_result(s, 1, &res);
    take(out, &res);
    cr_assert_eq(kvt_session_branch_logits(s, 1, out->logits, &err), 0);
    for (int l = 0; l < L; l++)
        for (int g = 0; g < G; g++)
            out->held[l][g] = kvt_session_positions(s, 1, l, g, out->pos[l][g], LONGEST + N_NEW, &err);
    kvt_session_close(&s);
}

static void from_batch(struct kvt_batch *b, const struct kvt_session_opts *o, int n, struct got *out)
{
    struct kvt_branch_result res;
    struct kvt_batch_result all;
    struct kvt_err err = { 0 };
    uint64_t sum = 0;
    int tokens = 0, rc = kvt_batch_begin(b, o, n, 0, &err);
    if (!rc)
        rc = kvt_batch_prefill(b, &err);
    if (!rc)
        rc = kvt_batch_decode(b, &err);
    cr_assert_eq(rc, 0, "%s: %s", o->branch->name, err.text);
    for (int i = 0; i < n; i++) {
        kvt_batch_sequence(b, i, &res);
        take(&out[i], &res);
        cr_assert_eq(kvt_batch_logits(b, i, out[i].logits, &err), 0);
        for (int l = 0; l < L; l++)
            for (int g = 0; g < G; g++)
                out[i].held[l][g] = kvt_batch_positions(b, i, l, g, out[i].pos[l][g], LONGEST + N_NEW, &err);
        sum += res.bytes_last;
        tokens += res.n_free;
    }
    cr_assert_eq(kvt_batch_result(b, &all, &err), 0);
    cr_assert_eq(all.kv_last, sum, "%s: %llu bytes held, sequences have %llu", o->branch->name, (unsigned long long)all.kv_last, (unsigned long long)sum);
    cr_assert_eq(all.tokens, tokens);
    cr_assert_geq(all.kv_peak, all.kv_last);
    kvt_batch_end(b);
}

/* Methods first, first + each, ... */
static void all_alike(const char *backend, int first, int each, enum kvt_protocol protocol)
{
    static struct rig r;
    static struct got alone, batch[N_SEQ], one;
    rig_open(&r);
    for (int m = first; m < N_METHODS; m += each) {
        struct kvt_session_opts o[N_SEQ], beside, other;
        struct kvt_batch *b = NULL;
        struct kvt_err err = { 0 };
        char what[120];
        for (int i = 0; i < N_SEQ; i++)
            o[i] = opts_of(&r, backend, m, i, protocol);
        cr_assert_eq(kvt_batch_open(&b, r.model, o, N_SEQ, N_SEQ, &err), 0, "%s: %s", methods[m], err.text);
        from_batch(b, o, N_SEQ, batch);
        for (int i = 0; i < N_SEQ; i++) {
            snprintf(what, sizeof what, "%s: sequence %d in a batch, and beside a full branch", methods[m], i);
            beside = o[i];
            from_session(&r, beside, &alone);
            same(&batch[i], &alone, r.V, what);
        }
        from_batch(b, o + 2, 1, &one);
        snprintf(what, sizeof what, "%s: in a batch of five and of one", methods[m]);
        same(&batch[2], &one, r.V, what);
        other = o[1];
        other.alone = true;
        other.no_full = other.branch->spec.policy.prefill_chunk > 0;
        from_session(&r, other, &alone);
        snprintf(what, sizeof what, "%s: in a batch, and a session alone", methods[m]);
        same(&batch[1], &alone, r.V, what);
        kvt_batch_close(&b);
    }
    kvt_model_close(&r.model);
}

Test(batch, visible) { all_alike("cpu", 0, 1, KVT_PROTOCOL_VISIBLE); }
Test(batch, hidden) { all_alike("cpu", 0, 3, KVT_PROTOCOL_HIDDEN); }
Test(batch, literature) { all_alike("cpu", 1, 3, KVT_PROTOCOL_LITERATURE); }
Test(batch, by_definition) { all_alike("ref", 2, 5, KVT_PROTOCOL_VISIBLE); }
/* Slow there, so little: two short prompts, scored and evicted from in steps, together and one by one. */
Test(batch, on_cuda_kernels)
{
    static struct rig r;
    static struct got both[2], one;
    struct kvt_session_opts o[2];
    struct kvt_batch *b = NULL;
    struct kvt_err err = { 0 };
    if (!kvt_ops_find("simt"))
        cr_skip_test("no simt backend in this build");
    rig_open(&r);
    for (int i = 0; i < 2; i++) {
        o[i] = opts_of(&r, "simt", 3, i, KVT_PROTOCOL_VISIBLE);
        o[i].n_prompt = 20 - 2 * i, o[i].question_start = 18 - 2 * i, o[i].n_shots = 0, o[i].n_new = 2;
    }
    cr_assert_eq(kvt_batch_open(&b, r.model, o, 2, 2, &err), 0, "%s", err.text);
    from_batch(b, o, 2, both);
    for (int i = 0; i < 2; i++) {
        from_batch(b, o + i, 1, &one);
        same(&both[i], &one, r.V, "on simt, in a batch of two and of one");
    }
    kvt_batch_close(&b);
    kvt_model_close(&r.model);
}

/* Every sequence with a method of its own, some ending earlier. */
Test(batch, of_different_methods)
{
    static struct rig r;
    static struct got alone, batch[N_SEQ];
    static const int of[N_SEQ] = { 3, 0, 4, 2, 17 };
    struct kvt_session_opts o[N_SEQ];
    struct kvt_batch *b = NULL;
    struct kvt_err err = { 0 };
    rig_open(&r);
    for (int i = 0; i < N_SEQ; i++) {
        o[i] = opts_of(&r, "cpu", of[i], i, KVT_PROTOCOL_VISIBLE);
        o[i].n_new = N_NEW - 4 * i;
    }
    cr_assert_eq(kvt_batch_open(&b, r.model, o, N_SEQ, N_SEQ, &err), 0, "%s", err.text);
    from_batch(b, o, N_SEQ, batch);
    for (int i = 0; i < N_SEQ; i++) {
        from_session(&r, o[i], &alone);
        same(&batch[i], &alone, r.V, methods[of[i]]);
    }
    kvt_batch_close(&b);
    kvt_model_close(&r.model);
}

static int tried(struct kvt_batch *b, const struct kvt_session_opts *o, int n, uint64_t bytes, struct kvt_batch_result *out)
{
    struct kvt_err err = { 0 };
    int rc = kvt_batch_begin(b, o, n, bytes, &err);
    if (!rc)
        rc = kvt_batch_prefill(b, &err);
    if (!rc)
        rc = kvt_batch_decode(b, &err);
    cr_assert(!rc || kvt_batch_result(b, out, &err) == 0);
    cr_assert(!rc || strstr(err.text, "kv cache"), "%s", err.text);
    if (!rc)
        cr_assert_eq(kvt_batch_result(b, out, &err), 0);
    kvt_batch_end(b);
    return rc;
}

/* Worked by hand for the full cache, 48 + 21 tokens in 5 pages a cell: 5 x 16 slots x 2 x 16 values x 2 bytes x 3 layers x 2 kv heads = 30,720 bytes
 * a sequence, so 100,000 bytes hold three of them and 4 are refused; the limit may be met to the byte and no further. */
Test(batch, limit_of_memory)
{
    static struct rig r;
    struct kvt_session_opts o[N_SEQ];
    struct kvt_batch *b = NULL;
    struct kvt_batch_result all = { 0 };
    struct kvt_err err = { 0 };
    rig_open(&r);
    for (int m = 0; m < 5; m++) {
        for (int i = 0; i < N_SEQ; i++) {
            o[i] = opts_of(&r, "cpu", m, i, KVT_PROTOCOL_VISIBLE);
            o[i].n_prompt = 48, o[i].question_start = 40;
        }
        cr_assert_eq(kvt_batch_open(&b, r.model, o, N_SEQ, N_SEQ, &err), 0, "%s", err.text);
        cr_assert_eq(tried(b, o, N_SEQ, 0, &all), 0);
        uint64_t peak = all.kv_peak;
        if (!m) {
            cr_assert_eq(peak, 5 * 30720u);
            cr_assert_eq(tried(b, o, 3, 100000, &all), 0);
            cr_assert_eq(tried(b, o, 4, 100000, &all), KVT_ENOMEM);
        }
        cr_assert_eq(tried(b, o, N_SEQ, peak - 1, &all), KVT_ENOMEM, "%s", methods[m]);
        cr_assert_eq(tried(b, o, N_SEQ, peak, &all), 0, "%s", methods[m]);
        cr_assert_eq(all.kv_peak, peak);
        kvt_batch_close(&b);
    }
    kvt_model_close(&r.model);
}

Test(batch, what_cannot_be)
{
    static struct rig r;
    struct kvt_session_opts o[2];
    struct kvt_batch *b = NULL;
    struct kvt_err err = { 0 };
    rig_open(&r);
    o[0] = o[1] = opts_of(&r, "cpu", 0, 1, KVT_PROTOCOL_VISIBLE);
    o[0].decode = KVT_DECODE_BOTH;
    cr_assert_eq(kvt_batch_open(&b, r.model, o, 1, 1, &err), KVT_EUSAGE);
    cr_assert_null(b);
    o[0] = o[1];
    cr_assert_eq(kvt_batch_open(&b, r.model, o, 1, 1, &err), 0, "%s", err.text);
    o[1].kv_type = KVT_F32;
    cr_assert_eq(kvt_batch_begin(b, o, 2, 0, &err), KVT_EUSAGE);
    o[1] = opts_of(&r, "cpu", 0, 0, KVT_PROTOCOL_VISIBLE);
    cr_assert_eq(kvt_batch_begin(b, o, 2, 0, &err), KVT_EUSAGE);
    cr_assert(strstr(err.text, "opened for"));
    kvt_batch_close(&b);
    kvt_model_close(&r.model);
}
