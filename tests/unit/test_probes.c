/* Probes of heads. Would catch: rows of the first copy counted, a diagonal off by one, heads or layers exchanged, a needle counted as
 * copied though its token came from elsewhere, a file of another model taken. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "analyzers/probe_file.h"
#include "analyzers/probes.h"

/* Against transformers on the same ids (vectors/make_probes.py), the embedded model's folder, f32 on both sides: sums of 64 products of
 * some 1e-6 error each. */
Test(probes, scores_are_those_of_transformers)
{
    struct kvt_err err = {0};
    struct kvt_model *model = NULL;
    struct kvt_probe_sums s;
    FILE *f = fopen(KVT_TEST_VECTORS "/probes.txt", "r");
    int32_t id[2 * KVT_PROBE_TOKENS + 1];
    int n, prompts = 0;
    cr_assert(f, "no vectors");
    cr_assert_eq(kvt_model_open(&model, KVT_TEST_VECTORS "/../../models/embedded", &err), 0, "%s", err.text);
    const struct kvt_shape *shape = kvt_model_shape(model);
    struct kvt_probe_run run = {.model = model, .ops = kvt_ops_find("cpu"), .threads = 1, .compute = KVT_COMPUTE_F32, .kv_type = KVT_F32};
    for (; fscanf(f, " ids %d", &n) == 1; prompts++) {
        double largest = 0;
        cr_assert(n == 2 * KVT_PROBE_TOKENS + prompts);
        for (int i = 0; i < n; i++)
            cr_assert_eq(fscanf(f, "%d", &id[i]), 1);
        cr_assert_eq(kvt_probe_sums_make(&s, shape->L, shape->H, &err), 0);
        cr_assert_eq(kvt_probe_repeat(&run, id, n, KVT_PROBE_TOKENS, &s, &err), 0, "%s", err.text);
        for (int h = 0; h < shape->L * shape->H; h++) {
            double induction, duplicate;
            cr_assert_eq(fscanf(f, "%lf %lf", &induction, &duplicate), 2);
            cr_assert_float_eq(s.induction[h] / (double)s.rows, induction, 1e-5, "head %d: %g, not %g", h, s.induction[h] / (double)s.rows, induction);
            cr_assert_float_eq(s.duplicate[h] / (double)s.rows, duplicate, 1e-5, "head %d: %g, not %g", h, s.duplicate[h] / (double)s.rows, duplicate);
            largest = fmax(largest, fmax(induction, duplicate));
        }
        cr_assert(largest > 1e-3, "nothing to tell heads by");
        kvt_probe_sums_free(&s);
    }
    cr_assert_eq(prompts, 2);
    fclose(f);
    kvt_model_close(&model);
}

/* The needle are tokens 2, 3, 4 (ids 7, 8, 7). Said: 7 8 7 9. Head 0 looks at 2, 3, 4, 0: all copied. Head 1 at 4, 3, 2, 3: the ids fit,
 * so all three places were copied from. Head 2 at 3, 3, 0, 2: only the second. */
Test(probes, what_a_head_copies)
{
    static const int32_t is[] = {5, 6, 7, 8, 7, 5}, said[] = {7, 8, 7, 9};
    static const int32_t at[] = {2, 4, 3, 3, 3, 3, 4, 2, 0, 0, 3, 2};
    double out[3];
    cr_assert_float_eq(kvt_probe_copied(is, 2, 3, said, at, 4, 3, out), 1, 1e-12);
    cr_assert_float_eq(out[0], 1, 1e-12);
    cr_assert_float_eq(out[1], 1, 1e-12);
    cr_assert_float_eq(out[2], 1. / 3, 1e-12);
    cr_assert_float_eq(kvt_probe_copied(is, 2, 3, said + 1, at, 1, 3, out), 1. / 3, 1e-12); /* only 8 was said */
    cr_assert(out[0] == 0 && out[1] == 0);
    cr_assert_float_eq(out[2], 1. / 3, 1e-12);
}

Test(probes, files)
{
    char path[] = "/tmp/kvt-probes-XXXXXX";
    struct kvt_err err = {0};
    struct kvt_head head[4], back[4];
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
    for (int i = 0; i < 4; i++) {
        head[i] = back[i] = kvt_head_unknown;
        head[i].induction = i / 8., head[i].duplicate = 1 - i / 3., head[i].retrieval = i ? 0.5 : NAN;
    }
    cr_assert_eq(kvt_probe_file_write(path, false, "x", "abc", 2, 2, head, &err), KVT_EINPUT, "there is a file");
    cr_assert_eq(kvt_probe_file_write(path, true, "x", "abc", 2, 2, head, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_probe_file_read(path, "abc", 2, 2, back, &err), 0, "%s", err.text);
    for (int i = 0; i < 4; i++)
        cr_assert(back[i].induction == head[i].induction && fabs(back[i].duplicate - head[i].duplicate) < 1e-8 && isnan(back[i].retrieval) == !i && isnan(back[i].first));
    cr_assert_eq(kvt_probe_file_read(path, "", 2, 2, back, &err), 0);
    cr_assert_eq(kvt_probe_file_read(path, "abd", 2, 2, back, &err), KVT_EINPUT);
    cr_assert_eq(kvt_probe_file_read(path, "abc", 2, 1, back, &err), KVT_EINPUT);
    cr_assert_eq(kvt_probe_file_read(path, "abc", 2, 3, back, &err), KVT_EINPUT);
    static const char *const bad[] = {"", "layer\n", "# kvattn probes 1\n0\t0\t1.5\t0\t0\n", "# kvattn probes 1\n0\t0\t0\t0\n", "# kvattn probes 1\n0\t0\t0\t0\t0\n0\t0\t0\t0\t0\n", "# kvattn probes 1\n0\t0\t0\t0\t0 x\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        FILE *f = fopen(path, "w");
        fputs(bad[i], f);
        fclose(f);
        cr_assert_eq(kvt_probe_file_read(path, "", 1, 2, back, &err), KVT_EINPUT, "%zu", i);
    }
    unlink(path);
    cr_assert_eq(kvt_probe_file_read(path, "", 1, 2, back, &err), KVT_EINPUT);
}
