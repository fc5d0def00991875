/* A beginning that two prompts share, prefilled once: what every method keeps, writes and holds is what it is without, bit by bit. Would catch: a sum over
 * rows that isn't carried over or is counted twice, a row at another place, keys kept in another type, a beginning taken for another prompt's, model's or
 * arithmetic's, one that reaches into a window. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvt/prompt.h"
#include "kvt/session.h"
#include "mkmodel.h"

enum { RUN = 512, SHARED = 600, N_A = 700, N_B = 660, N_NEW = 6, MOST = 64 };

struct rig {
    struct kvt_model *model;
    int32_t a[N_A], b[N_B];
    struct kvt_branch_opts branch[MOST];
    int n;
    struct kvt_session_opts o;
};

/* The last but one begins in the part that is kept and ends behind it. */
static const int32_t shots[] = { 0, 47, 47, 90, 90, 140, 140, 180, 180, 229, 229, 270, 270, 319, 319, 360, 360, 410, 410, 455, 455, 500, 500, 550, 550, 590 };

/* Sums of other kinds than the defaults': squares of all rows and by place, the largest, those behind a shot. */
static const char *const more[] = { "h2o[power=2]", "kvcompress[score=sqmass]", "kvcompress[w=100,v=40]", "finch[w=8]", "my[score=max]", "my[score=later,unit=shot]", "shotkv[rows=later]" };
enum { N_MORE = sizeof more / sizeof *more };

static void open_rig(struct rig *r, const char *only)
{
    char path[] = "/tmp/kvt-prefix-XXXXXX";
    struct kvt_err err = { 0 };
    int fd = mkstemp(path), count;
    cr_assert(fd >= 0);
    close(fd);
    memset(r, 0, sizeof *r);
    cr_assert_eq(kvt_mkmodel(path, &(struct kvt_mkmodel_opts){ .seed = 5 }, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_model_open(&r->model, path, &err), 0, "%s", err.text);
    unlink(path);
    for (int t = 0; t < N_A; t++)
        r->a[t] = 3 + t * t % 389;
    memcpy(r->b, r->a, SHARED * sizeof *r->b);
    for (int t = SHARED; t < N_B; t++)
        r->b[t] = 3 + (t * 7 + 1) % 389;
    const struct kvt_method *const *methods = kvt_methods(&count);
    for (int i = 0; i < count + N_MORE && r->n < MOST; i++) {
        struct kvt_branch_opts *b = &r->branch[r->n];
        const char *spec = only ? only : i < count ? methods[i]->name : more[i - count];
        cr_assert(i < count || !kvt_spec_parse(&b->spec, spec, strlen(spec), &err), "%s", err.text);
        /* but those that ask for a file, and oracles, which come last and rank by what the others did */
        if (kvt_spec_parse(&b->spec, spec, strlen(spec), &err) || b->spec.policy.score == KVT_SCORE_FILE || b->spec.policy.score == KVT_SCORE_ORACLE ||
            b->spec.policy.alloc == KVT_ALLOC_CLASS || b->spec.policy.window == KVT_WINDOW_QUESTION)
            continue;
        b->name = spec;
        b->budget = (struct kvt_budget){ .kind = KVT_BUDGET_KEEP, .keep_ppm = 200000 };
        r->n++;
        if (only)
            break;
    }
    r->o = (struct kvt_session_opts){ .ops = kvt_ops_find("cpu"), .threads = 1, .compute = KVT_COMPUTE_BF16, .kv_type = KVT_F16, .protocol = KVT_PROTOCOL_VISIBLE,
                                      .decode = KVT_DECODE_BOTH, .window = 8, .question_start = 620, .shot = shots, .n_shots = sizeof shots / sizeof *shots / 2, .n_new = N_NEW, .branch = r->branch, .n_branches = r->n };
}

static struct kvt_session *run(struct rig *r, const int32_t *token, int n, struct kvt_prefix *prefix, int shared)
{
    struct kvt_session *s = NULL;
    struct kvt_err err = { 0 };
    struct kvt_session_opts o = r->o;
    o.token = token, o.n_prompt = n, o.prefix = prefix, o.shared_tok = shared;
    int rc = kvt_session_open(&s, r->model, &o, &err);
    if (!rc)
        rc = kvt_session_prefill(s, &err);
    if (!rc)
        rc = kvt_session_decode(s, &err);
    cr_assert_eq(rc, 0, "%s", err.text);
    return s;
}

static void same(const struct rig *r, struct kvt_session *a, struct kvt_session *b)
{
    const struct kvt_shape *shape = kvt_model_shape(r->model);
    cr_assert_eq(kvt_session_logits_hash(a), kvt_session_logits_hash(b));
    for (int i = 0; i <= r->n; i++) {
        struct kvt_branch_result x, y;
        cr_assert_eq(kvt_session_result(a, i, &x) | kvt_session_result(b, i, &y), 0);
        cr_assert(x.n_free == y.n_free && !memcmp(x.free, y.free, (size_t)x.n_free * sizeof *x.free), "%s writes something else", x.name);
        cr_assert(!memcmp(&x.mean_kl, &y.mean_kl, sizeof x.mean_kl), "%s: KL %.17g, %.17g", x.name, x.mean_kl, y.mean_kl);
        cr_assert(x.bytes_after == y.bytes_after && x.bytes_peak == y.bytes_peak && !memcmp(&x.bytes_mean, &y.bytes_mean, sizeof x.bytes_mean), "%s: bytes", x.name);
        for (int l = 0; l < shape->L; l++)
            for (int g = 0; g < shape->G; g++) {
                int32_t p[N_A + N_NEW], q[N_A + N_NEW];
                int n = kvt_session_positions(a, i, l, g, p, N_A + N_NEW, NULL), m = kvt_session_positions(b, i, l, g, q, N_A + N_NEW, NULL);
                cr_assert(n == m && n > 0 && !memcmp(p, q, (size_t)n * sizeof *p), "%s keeps something else in layer %d", x.name, l);
            }
    }
}

static void twice(struct rig *r)
{
    struct kvt_prefix *prefix = kvt_prefix_open();
    struct kvt_session *first = run(r, r->a, N_A, prefix, SHARED), *plain = run(r, r->a, N_A, NULL, 0);
    cr_assert_eq(kvt_prefix_restored(prefix), 0);
    same(r, first, plain);
    kvt_session_close(&first);
    kvt_session_close(&plain);
    for (int k = 0; k < 2; k++) { /* it may be used again */
        struct kvt_session *with = run(r, k ? r->a : r->b, k ? N_A : N_B, prefix, SHARED), *without = run(r, k ? r->a : r->b, k ? N_A : N_B, NULL, 0);
        cr_assert_eq(kvt_prefix_restored(prefix), RUN);
        same(r, with, without);
        kvt_session_close(&with);
        kvt_session_close(&without);
    }
    kvt_prefix_close(&prefix);
}

Test(prefix, changes_no_bit_of_any_method)
{
    struct rig r;
    open_rig(&r, NULL);
    cr_assert(r.n > 20, "%d methods", r.n);
    twice(&r);
    kvt_model_close(&r.model);
}

Test(prefix, under_the_other_protocols)
{
    struct rig r;
    open_rig(&r, "h2o");
    r.o.protocol = KVT_PROTOCOL_HIDDEN;
    twice(&r);
    r.o.protocol = KVT_PROTOCOL_LITERATURE;
    twice(&r);
    kvt_model_close(&r.model);
}

static int restored(struct rig *r, struct kvt_prefix *prefix, const int32_t *token, int n)
{
    struct kvt_session *s = run(r, token, n, prefix, 0);
    kvt_session_close(&s);
    return kvt_prefix_restored(prefix);
}

Test(prefix, is_used_where_it_fits_alone)
{
    struct rig r;
    struct kvt_err err;
    open_rig(&r, "snapkv[w=8]");
    struct kvt_prefix *prefix = kvt_prefix_open();
    struct kvt_session *s = run(&r, r.a, N_A, prefix, SHARED);
    kvt_session_close(&s);
    cr_assert_eq(restored(&r, prefix, r.b, N_B), RUN);
    r.b[RUN - 1]++;
    cr_assert_eq(restored(&r, prefix, r.b, N_B), 0, "another token");
    r.b[RUN - 1]--, r.b[RUN]++;
    cr_assert_eq(restored(&r, prefix, r.b, N_B), RUN, "a token behind it");
    r.o.compute = KVT_COMPUTE_F32;
    cr_assert_eq(restored(&r, prefix, r.b, N_B), 0, "other products");
    r.o.compute = KVT_COMPUTE_BF16, r.o.kv_type = KVT_F32;
    cr_assert_eq(restored(&r, prefix, r.b, N_B), 0, "another type of keys");
    r.o.kv_type = KVT_F16;
    cr_assert_eq(kvt_spec_parse(&r.branch[0].spec, "h2o", 3, &err), 0);
    cr_assert_eq(restored(&r, prefix, r.b, N_B), 0, "sums that weren't kept");
    cr_assert_eq(kvt_spec_parse(&r.branch[0].spec, "snapkv[w=149]", 13, &err), 0);
    cr_assert_eq(restored(&r, prefix, r.b, N_B), 0, "a window that begins in it");
    cr_assert_eq(kvt_spec_parse(&r.branch[0].spec, "snapkv[w=148]", 13, &err), 0);
    cr_assert_eq(restored(&r, prefix, r.b, N_B), RUN, "one that begins behind it");
    kvt_prefix_close(&prefix);
    kvt_model_close(&r.model);
}
