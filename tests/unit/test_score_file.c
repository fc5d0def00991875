/* Scores from a file (method `file`), as any program could have written them. Would catch: numbers of another shape, rank or type taken
 * for scores, one that is no number, integers or doubles read as something else than their values. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tracer/h5.h"
#include "tracer/score_file.h"

enum { L = 3, G = 2, N = 20 };

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/kvt-scores-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
}

static void teardown(void) { unlink(path); }

TestSuite(score_file, .init = setup, .fini = teardown);

/* A file with one dataset `name` of values in memory of type `mem`, stored as `type`. */
static void make(const char *name, hid_t type, int rank, const hsize_t *shape, hid_t mem, const void *values)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    hid_t space = rank ? H5Screate_simple(rank, shape, NULL) : H5Screate(H5S_SCALAR);
    hid_t ds = H5Dcreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    cr_assert(file >= 0 && space >= 0 && ds >= 0);
    if (values)
        cr_assert(H5Dwrite(ds, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
    H5Dclose(ds);
    H5Sclose(space);
    H5Fclose(file);
}

static void refused(const char *says)
{
    struct kvt_err err = {0};
    float *out = NULL;
    int n = 0, rc = kvt_score_file_read(&out, &n, path, L, G, N, &err);
    cr_assert(rc == KVT_EFORMAT && !out, "%d, not %d: %s", rc, KVT_EFORMAT, err.text);
    cr_assert(strstr(err.text, says) && strstr(err.text, path), "'%s' doesn't say '%s'", err.text, says);
}

Test(score_file, other_shapes)
{
    static const struct { int rank; hsize_t n[4]; const char *says; } bad[] = {
        {3, {L + 1, G, N}, "scores is (4, 2, 20); this model and prompt need (3, 2, up to 20)"}, {3, {L, 3 * G, N}, "scores is (3, 6, 20)"},
        {3, {L, G, N + 1}, "scores is (3, 2, 21)"}, {3, {N, G, L}, "scores is (20, 2, 3)"}, {2, {L, N}, "has 2 dimensions"},
        {4, {1, L, G, N}, "has 4 dimensions"}, {1, {L * G * N}, "has 1 dimensions"}, {0, {0}, "has 0 dimensions"}, {3, {L, G, 0}, "scores is (3, 2, 0)"}};
    static const float value[L * 3 * G * (N + 1)];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        make("scores", H5T_IEEE_F32LE, bad[i].rank, bad[i].n, H5T_NATIVE_FLOAT, bad[i].rank == 3 && !bad[i].n[2] ? NULL : value);
        refused(bad[i].says);
    }
}

Test(score_file, other_types)
{
    hsize_t shape[] = {L, G, N};
    static const char words[L * G * N * 4];
    hid_t word = H5Tcopy(H5T_C_S1);
    H5Tset_size(word, 4);
    make("scores", word, 3, shape, word, words);
    refused("holds no numbers");
    hid_t pair = H5Tcreate(H5T_COMPOUND, 8);
    H5Tinsert(pair, "re", 0, H5T_NATIVE_FLOAT);
    H5Tinsert(pair, "im", 4, H5T_NATIVE_FLOAT);
    make("scores", pair, 3, shape, pair, NULL);
    refused("holds no numbers");
    H5Tclose(pair);
    H5Tclose(word);
    make("score", H5T_IEEE_F32LE, 3, shape, H5T_NATIVE_FLOAT, NULL);
    refused("no dataset `scores`");
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), group = H5Gcreate2(file, "scores", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Gclose(group);
    H5Fclose(file);
    refused("no dataset `scores`");
}

Test(score_file, no_numbers)
{
    hsize_t shape[] = {L, G, N};
    static const float what[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        float value[L * G * N] = {0};
        value[(1 * G + 1) * N + 7] = what[i];
        make("scores", H5T_IEEE_F32LE, 3, shape, H5T_NATIVE_FLOAT, value);
        refused("scores[1, 1, 7] is no finite number");
    }
}

/* The context's tokens alone will do; any numbers are taken at their value. */
Test(score_file, what_is_taken)
{
    hsize_t shape[] = {L, G, N - 5};
    double value[L * G * (N - 5)];
    for (int i = 0; i < L * G * (N - 5); i++)
        value[i] = i - 7;
    const hid_t types[] = {H5T_IEEE_F32LE, H5T_IEEE_F64BE, H5T_STD_I16BE, H5T_STD_I64LE};
    for (int t = 0; t < 4; t++) {
        struct kvt_err err = {0};
        float *out = NULL;
        int n = 0;
        make("scores", types[t], 3, shape, H5T_NATIVE_DOUBLE, value);
        cr_assert_eq(kvt_score_file_read(&out, &n, path, L, G, N, &err), 0, "%s", err.text);
        cr_assert_eq(n, N - 5);
        for (int i = 0; i < L * G * n; i++)
            cr_assert_eq(out[i], (float)(i - 7), "type %d, value %d: %g", t, i, (double)out[i]);
        free(out);
    }
}
