/* Chunks that we unpack ourselves against HDF5's own reading, box by box: ranks 1 to 4, every set of filters that the format has, chunks at
 * the edge, never written, and written without filters. Would catch a wrong place, a wrong plane, a fill value left out. */
#include <criterion/criterion.h>
#include <hdf5.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/rng.h"
#include "tracer/h5_chunks.h"

enum { VALUES = 1 << 14 };

static const struct { int rank; hsize_t shape[4], chunk[4]; } forms[] = {
    {1, {1000}, {64}}, {2, {30, 70}, {7, 70}}, {3, {5, 4, 333}, {5, 4, 64}}, {3, {6, 5, 90}, {1, 5, 90}}, {4, {3, 2, 17, 40}, {1, 1, 8, 16}}};

static hid_t make(hid_t file, const char *name, size_t form, hid_t type, unsigned filters)
{
    hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(forms[form].rank, forms[form].shape, NULL);
    int minus1 = -1;
    H5Pset_chunk(dcpl, forms[form].rank, forms[form].chunk);
    H5Pset_fill_value(dcpl, H5T_NATIVE_INT, &minus1);
    if (filters & 1)
        H5Pset_shuffle(dcpl);
    if (filters & 2)
        H5Pset_deflate(dcpl, 1);
    if (filters & 4)
        H5Pset_fletcher32(dcpl);
    hid_t ds = H5Dcreate2(file, name, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    H5Pclose(dcpl);
    H5Sclose(space);
    return ds;
}

/* The first chunk without filters, then random values into random boxes behind it, so that some chunks are written and some aren't. */
static void fill(hid_t ds, size_t form, struct kvt_rng *rng)
{
    static int v[VALUES];
    size_t bytes = 4;
    hsize_t at[4] = {0};
    int behind = 0;
    while (forms[form].shape[behind] <= forms[form].chunk[behind])
        behind++;
    for (int d = 0; d < forms[form].rank; d++)
        bytes *= forms[form].chunk[d];
    for (int i = 0; i < VALUES; i++)
        v[i] = (int)kvt_rng_below(rng, 50);
    hid_t type = H5Dget_type(ds);
    if (H5Tget_size(type) == 4)
        cr_assert_geq(H5Dwrite_chunk(ds, H5P_DEFAULT, 7, at, bytes, v), 0);
    H5Tclose(type);
    for (int turn = 0; turn < 4; turn++) {
        size_t start[4], count[4];
        for (int d = 0; d < forms[form].rank; d++) {
            hsize_t from = d == behind ? forms[form].chunk[d] : 0;
            start[d] = (size_t)from + kvt_rng_below(rng, (uint32_t)(forms[form].shape[d] - from));
            count[d] = 1 + kvt_rng_below(rng, (uint32_t)(forms[form].shape[d] - start[d]));
        }
        cr_assert(kvt_h5_write(ds, H5T_NATIVE_INT, start, count, forms[form].rank, v));
    }
}

static void same(hid_t ds, size_t form, hid_t type, struct kvt_rng *rng)
{
    static int64_t mine[VALUES], theirs[VALUES];
    size_t start[4] = {0}, count[4], n = 1;
    for (int d = 0; d < forms[form].rank; d++) {
        start[d] = kvt_rng_below(rng, (uint32_t)forms[form].shape[d]);
        count[d] = 1 + kvt_rng_below(rng, (uint32_t)(forms[form].shape[d] - start[d]));
        n *= count[d];
    }
    hsize_t at[4], many[4];
    for (int d = 0; d < 4; d++)
        at[d] = start[d], many[d] = d < forms[form].rank ? count[d] : 1;
    hid_t file = H5Dget_space(ds), mem = H5Screate_simple(forms[form].rank, many, NULL);
    H5Sselect_hyperslab(file, H5S_SELECT_SET, at, NULL, many, NULL);
    cr_assert_geq(H5Dread(ds, type, mem, file, H5P_DEFAULT, theirs), 0, "form %zu from %zu", form, start[0]);
    cr_assert(kvt_h5_read_chunks(ds, type, start, count, forms[form].rank, mine), "form %zu", form);
    cr_assert_arr_eq(mine, theirs, n * H5Tget_size(type), "form %zu", form);
    H5Sclose(file);
    H5Sclose(mem);
}

Test(chunks, as_hdf5_reads_them)
{
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 5);
    hid_t file = H5Fcreate("test-chunks.h5", H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
    const hid_t types[] = {H5T_STD_I32LE, H5T_STD_U8LE, H5T_STD_I64LE, H5T_STD_U16LE};
    for (size_t form = 0; form < sizeof forms / sizeof *forms; form++)
        for (unsigned filters = 1; filters < 8; filters++)
            for (size_t k = 0; k < 4; k++) {
                char name[32];
                snprintf(name, sizeof name, "%zu-%u-%zu", form, filters, k);
                hid_t ds = make(file, name, form, types[k], filters);
                fill(ds, form, &rng);
                for (int box = 0; box < 12; box++)
                    same(ds, form, types[k], &rng);
                H5Dclose(ds);
            }
    H5Fclose(file);
    unlink("test-chunks.h5");
}

/* What isn't as the format makes it is HDF5's. */
Test(chunks, left_to_hdf5)
{
    int v[1000];
    static const char garbage[40] = "no such stream";
    hid_t file = H5Fcreate("test-chunks-bad.h5", H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), ds = make(file, "a", 0, H5T_STD_I32LE, 7);
    cr_assert(kvt_h5_read_chunks(ds, H5T_NATIVE_INT32, NULL, NULL, 1, v));
    cr_assert(v[0] == -1 && v[999] == -1, "fill values");
    cr_assert_not(kvt_h5_read_chunks(ds, H5T_NATIVE_DOUBLE, (size_t[]){0}, (size_t[]){9}, 1, v), "another type");
    cr_assert_not(kvt_h5_read_chunks(ds, H5T_NATIVE_INT32, (size_t[]){990}, (size_t[]){11}, 1, v), "beyond the end");
    for (uint32_t skipped = 0; skipped < 8; skipped++) { /* every filter must see that this isn't its own */
        cr_assert_geq(H5Dwrite_chunk(ds, H5P_DEFAULT, skipped, (hsize_t[]){0}, sizeof garbage, garbage), 0);
        cr_assert_not(kvt_h5_read_chunks(ds, H5T_NATIVE_INT32, NULL, NULL, 1, v), "skipped %u", skipped);
    }
    H5Dclose(ds);
    H5Fclose(file);
    unlink("test-chunks-bad.h5");
}
