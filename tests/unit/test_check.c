/* kvinfo --check: a whole trace is sound, and each kind of damage is seen and said where it is. Every corruption is made with
 * HDF5 itself, so that the file stays one that opens. */
#include <criterion/criterion.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mktrace.h"
#include "tracer/trace_check.h"

static char folder[64], good[96], bad[96];

static void setup(void)
{
    struct kvt_err err = {0};
    snprintf(folder, sizeof folder, "/tmp/kvt_check_XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(good, sizeof good, "%s/good.h5", folder);
    snprintf(bad, sizeof bad, "%s/bad.h5", folder);
    struct mktrace_opts o = {.path = good, .L = 2, .n_shots = 8, .n_new = 16, .bins = 9};
    cr_assert_eq(mktrace(&o, &err), 0, "%s", err.text);
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

static void teardown(void)
{
    unlink(good);
    unlink(bad);
    rmdir(folder);
}

TestSuite(check, .init = setup, .fini = teardown);

struct heard { char all[65536]; size_t n; };

static void hear(void *arg, const char *where, const char *what)
{
    struct heard *h = arg;
    h->n += (size_t)snprintf(h->all + h->n, sizeof h->all - h->n, "%s: %s\n", where, what);
    cr_assert_lt(h->n, sizeof h->all);
}

static int check(const char *file, struct heard *h)
{
    struct kvt_err err = {0};
    int n = 0;
    memset(h, 0, sizeof *h);
    int rc = kvt_trace_check(file, NULL, hear, h, &n, &err);
    if (!rc)
        rc = kvt_trace_check_labels(file, NULL, hear, h, &n, &err);
    if (rc)
        hear(h, "refused", err.text);
    return rc ? rc : n;
}

static void copy(void)
{
    FILE *in = fopen(good, "rb"), *out = fopen(bad, "wb");
    cr_assert(in && out);
    static char buf[1 << 16];
    for (size_t n; (n = fread(buf, 1, sizeof buf, in)) > 0;)
        cr_assert_eq(fwrite(buf, 1, n, out), n);
    fclose(in);
    cr_assert_eq(fclose(out), 0);
}

static void poke(hid_t prompt, const char *path, const hsize_t *at, double v)
{
    hid_t ds = H5Dopen2(prompt, path, H5P_DEFAULT), space = H5Dget_space(ds), one = H5Screate(H5S_SCALAR);
    cr_assert_geq(ds, 0, "%s", path);
    if (H5Sget_simple_extent_ndims(space))
        cr_assert_geq(H5Sselect_elements(space, H5S_SELECT_SET, 1, at), 0);
    cr_assert_geq(H5Dwrite(ds, H5T_NATIVE_DOUBLE, one, space, H5P_DEFAULT, &v), 0, "%s", path);
    H5Sclose(one);
    H5Sclose(space);
    H5Dclose(ds);
}

/* One value each: where, index, new value, and words that the check must say. */
static const struct { const char *path; hsize_t at[4]; double v; const char *says; } values[] = {
    {"score/mass", {1, 2, 30}, -0.5, "score/mass: [1,2,30] is -0.5"},
    {"score/mass", {1, 2, 30}, 3.5, "score/mass: [1,2,...] sums to"},
    {"score/mass", {1, 2, 30}, NAN, "score/mass: [1,2,...] has 1 values that were never written"},
    {"score/wmass", {0, 1, 2, 30}, 2, "score/wmass: [1,2,...] sums to"},
    {"score/last", {0, 0, 7}, 0.5, "score/last: [0,0,...] sums to"},
    {"score/entropy", {1, 5, 2}, 2, "score/entropy: [1,5,2] is 2; a row of 3 keys"},
    {"score/sink", {0, 0, 9}, 1.5, "score/sink: [0,0,9] is 1.5; it can only be 0 to 1"},
    {"score/sink", {0, 0, 9}, INFINITY, "score/sink: [0,0,9] is inf"},
    {"map/mean", {0, 1, 3, 5}, 0.1, "no causal pair"},
    {"map/mean", {0, 1, 5, 3}, NAN, "is NaN, but the bin has causal pairs"},
    {"map/max", {0, 1, 5, 3}, 0, "above the bin's maximum"},
    {"full/attention", {0, 1, 50, 60}, 100, "has attention to later tokens"},
    {"full/attention", {0, 1, 50, 3}, 9000, "full/attention: row 50 of recorded layer 0, head 1 doesn't sum to 1"},
    {"map/max", {1, 1, 5, 3}, 20000, "map/max: [1,1,5,3] is 0.61"},
    {"full/attention", {0, 1, 50, 2}, 45, "full/attention give"}, /* a thousandth of a row, which its sum allows */
    {"tokens/id", {5}, 5000, "tokens/id: [5] is 5000; the vocabulary ends at 1000"},
    {"tokens/byte_end", {5}, 1e6, "lie outside the text"},
    {"tokens/byte_start", {5}, 0, "before the token in front of it"},
    {"spans/end", {2}, 40, "don't lie in those of its parent"},
    {"spans/start", {1}, 9999, "lies outside the prompt"},
    {"layer", {1}, 7, "layer: [1] is 7; 1 belongs there"},
    {"key_bin", {2}, 0, "key_bin: [2] is 0: its values must ascend"},
    {"full_layer", {0}, 40, "full_layer: [0] is 40: its values must ascend and exist"},
    {"steps_done", {0}, 99, "99 steps done of 16"},
    {"steps_done", {0}, 4, "steps/token: [4,0] is"},
    {"steps/token", {2, 1}, 4000, "the vocabulary ends at 1000"},
    {"steps/logprob", {2, 1}, 0.5, "steps/logprob: [2,1] is 0.5; it can only be a finite number, at most 0"},
    {"steps/kl", {2, 1}, -0.5, "steps/kl: [2,1] is -0.5"},
    {"steps/alone_bytes", {2, 1}, 64, "branches/01: steps/alone_bytes of step 3 says 64 bytes, but evicted_at leaves"},
    {"steps/alone_bytes", {2, 1}, 1e7, "branches/01: steps/alone_bytes of step 3"},
    {"result/bytes_after", {2}, 64, "branches/02: result/bytes_after"},
    {"result/effective_keep", {2}, 0.75, "result/effective_keep: [2] is 0.75, but"},
    {"result/top1", {1}, 1.5, "result/top1: [1] is 1.5"},
    {"result/score_rows", {1}, 9, "branch 1 has 9 rows of score"},
    {"result/diverged", {1}, 70, "result/diverged: [1] is 70, after the last of 16 steps"},
    {"timeline/count", {0}, 1e6, "timeline/count: is 1000000; there is room for"},
    {"timeline/layer", {3}, 40, "timeline: [3] is part"},
    {"timeline/part", {3}, 12, "timeline/part: [3] is 12; it can only be 0 to 11"},
    {"timeline/duration_ns", {3}, -7, "timeline/duration_ns: [3] is -7"},
    {"phases/duration_ns", {0}, -5, "phases/duration_ns: [0] is -5"},
    {"branches/01/evicted_at", {1, 1, 60}, -1, "branches/01: "},
    {"branches/01/evicted_at", {1, 1, 60}, 77, "branches/01: evicted_at[1,1,60] is 77, which can't be"},
    {"branches/01/evicted_at", {1, 1, 190}, 0, "branches/01: evicted_at[1,1,190] is 0, which can't be"},
    {"branches/06/evicted_at", {0, 0, 202}, 1, "branches/06: evicted_at[0,0,202] is 1, which can't be"},
    {"branches/01/kept_tok", {1, 1}, 3, "branches/01: kept_tok[1,1] is 3, but evicted_at says"},
    {"branches/01/reason", {1, 1, 100}, 77, "branches/01/reason: [1,1,100] is 77; it can only be 0 to 7"},
    {"branches/01/threshold", {1, 1}, 99, "and was kept for it, but the threshold is 99"},
};

Test(check, sound)
{
    struct heard h;
    cr_expect_eq(check(good, &h), 0, "%s", h.all);
}

Test(check, values)
{
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct heard h;
        copy();
        hid_t file = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT), prompt = H5Gopen2(file, "prompt/0", H5P_DEFAULT);
        cr_assert_geq(prompt, 0);
        poke(prompt, values[i].path, values[i].at, values[i].v);
        H5Gclose(prompt);
        H5Fclose(file);
        cr_expect(check(bad, &h), "%s = %g wasn't seen", values[i].path, values[i].v);
        cr_expect(strstr(h.all, values[i].says), "%s = %g: not '%s' but\n%s", values[i].path, values[i].v, values[i].says, h.all);
    }
}

/* ---- what is wrong with objects rather than values --------------------------------------------------------------- */

static void remake(hid_t p, const char *path, hid_t type, int rank, const hsize_t *shape)
{
    cr_assert_geq(H5Ldelete(p, path, H5P_DEFAULT), 0);
    hid_t space = rank ? H5Screate_simple(rank, shape, NULL) : H5Screate(H5S_SCALAR);
    hid_t ds = H5Dcreate2(p, path, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert_geq(ds, 0);
    H5Dclose(ds);
    H5Sclose(space);
}

static void gone(hid_t p) { H5Ldelete(p, "score/sink", H5P_DEFAULT), H5Ldelete(p, "steps/kl", H5P_DEFAULT); }
static void other_type(hid_t p) { remake(p, "steps/step_ns", H5T_STD_I32LE, 1, (hsize_t[]){16}); }
static void unsigned_type(hid_t p) { remake(p, "steps/step_ns", H5T_STD_U64LE, 1, (hsize_t[]){16}); }
static void big_endian(hid_t p) { remake(p, "steps/step_ns", H5T_STD_I64BE, 1, (hsize_t[]){16}); }
static void other_rank(hid_t p) { remake(p, "steps/step_ns", H5T_STD_I64LE, 2, (hsize_t[]){16, 7}); }
static void other_shape(hid_t p) { remake(p, "steps/step_ns", H5T_STD_I64LE, 1, (hsize_t[]){15}); }
static void no_axes(hid_t p) { remake(p, "steps/step_ns", H5T_STD_I64LE, 1, (hsize_t[]){16}); }

static void no_unit(hid_t p)
{
    hid_t ds = H5Dopen2(p, "steps/kl", H5P_DEFAULT), type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
    H5Adelete(ds, "units");
    H5Tset_size(type, 3);
    hid_t a = H5Acreate2(ds, "units", type, space, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert_geq(H5Awrite(a, type, "bit"), 0);
    H5Aclose(a);
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(ds);
}

static void no_attribute(hid_t p) { cr_assert_geq(H5Adelete_by_name(p, "branches/02", "canonical", H5P_DEFAULT), 0); }
static void no_branch(hid_t p) { cr_assert_geq(H5Ldelete(p, "branches/03", H5P_DEFAULT), 0); }
static void no_dimension(hid_t p) { cr_assert_geq(H5Ldelete(p, "kv_head", H5P_DEFAULT), 0); }

static void other_status(hid_t p)
{
    hid_t ds = H5Dopen2(p, "status", H5P_DEFAULT), type = H5Dget_type(ds);
    char word[16] = "done";
    cr_assert_geq(H5Dwrite(ds, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, word), 0);
    H5Tclose(type);
    H5Dclose(ds);
}

static const struct { void (*spoil)(hid_t prompt); const char *says; } objects[] = {
    {gone, "steps/kl: isn't there"},
    {other_type, "steps/step_ns: has another type than the format says"},
    {unsigned_type, "steps/step_ns: isn't i64, little-endian"},
    {big_endian, "steps/step_ns: isn't i64, little-endian"},
    {other_rank, "steps/step_ns: has another number of dimensions"},
    {other_shape, "steps/step_ns: doesn't have the size of its dimensions"},
    {no_axes, "steps/step_ns: its axes don't refer to the dimensions step"},
    {no_axes, "steps/step_ns: its attribute units isn't \"ns\""},
    {no_unit, "steps/kl: its attribute units isn't \"nat\""},
    {no_attribute, "branches/02: has no attribute canonical"},
    {no_branch, "branches/03: isn't there"},
    {no_dimension, "lacks one of the dimensions"},
    {other_status, "status: is 'done'"},
};

Test(check, objects)
{
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++) {
        struct heard h;
        copy();
        hid_t file = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT), prompt = H5Gopen2(file, "prompt/0", H5P_DEFAULT);
        objects[i].spoil(prompt);
        H5Gclose(prompt);
        H5Fclose(file);
        cr_expect(check(bad, &h), "damage %zu wasn't seen", i);
        cr_expect(strstr(h.all, objects[i].says), "damage %zu: not '%s' but\n%s", i, objects[i].says, h.all);
    }
}

/* ---- versions ---------------------------------------------------------------------------------------------------- */

static void set_number(const char *name, int64_t v)
{
    hid_t file = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT), a = H5Aopen(file, name, H5P_DEFAULT);
    cr_assert_geq(H5Awrite(a, H5T_NATIVE_INT64, &v), 0);
    H5Aclose(a);
    H5Fclose(file);
}

/* Newer major versions are refused by number; newer minor ones are read, whatever they added; older ones lack what came later. */
Test(check, versions)
{
    struct kvt_err err = {0};
    struct kvt_trace *t;
    struct heard h;
    copy();
    set_number("schema_version", 2);
    cr_expect_eq(kvt_trace_open(&t, bad, NULL, &err), KVT_EUNSUP);
    cr_expect(strstr(err.text, "has format version 2; this program knows 1"), "%s", err.text);
    copy();
    set_number("schema_minor", 99);
    hid_t file = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT);
    hid_t g = H5Gcreate2(file, "prompt/0/something_new", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(g);
    H5Fclose(file);
    cr_expect_eq(kvt_trace_open(&t, bad, NULL, &err), 0, "%s", err.text);
    cr_expect_eq(kvt_trace_info(t)->schema_minor, 99);
    kvt_trace_close(&t);
    cr_expect_eq(check(bad, &h), 0, "%s", h.all);
    copy();
    file = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT);
    H5Ldelete(file, "prompt/0/result/bytes_after", H5P_DEFAULT);
    H5Fclose(file);
    cr_expect_eq(kvt_trace_open(&t, bad, NULL, &err), KVT_EFORMAT); /* a file of this version has it */
    file = H5Fopen(bad, H5F_ACC_RDWR, H5P_DEFAULT);
    H5Adelete(file, "schema_minor"); /* one of the first version hasn't */
    H5Fclose(file);
    cr_expect_eq(kvt_trace_open(&t, bad, NULL, &err), 0, "%s", err.text);
    cr_expect_eq(kvt_trace_info(t)->branch[1].bytes_after, -1);
    kvt_trace_close(&t);
    cr_expect_eq(check(bad, &h), 0, "%s", h.all);
}
