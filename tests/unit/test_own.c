/* A trace that points elsewhere is refused with one line, and the file it points to isn't read: soft and external links, virtual datasets,
 * bytes stored outside, a master whose runs lie in another folder. Each would let a file that somebody sent show another one's contents. */
#include <criterion/criterion.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvt/trace.h"
#include "mktrace.h"

static const char *const key = "/prompt/0/tokens/id";

static hid_t fresh(const char *path)
{
    struct kvt_err err;
    cr_assert_eq(mktrace(&(struct mktrace_opts){.path = path, .force = true, .L = 1, .n_shots = 1, .n_new = 2, .n_branches = 2, .no_full = true}, &err), 0, "%s", err.text);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    cr_assert_geq(file, 0);
    return file;
}

static void refused(hid_t file, const char *path, const char *words)
{
    struct kvt_trace *t;
    struct kvt_err err;
    H5Fclose(file);
    cr_assert_eq(kvt_trace_open(&t, path, NULL, &err), KVT_EFORMAT);
    cr_assert(strstr(err.text, words), "%s", err.text);
    cr_assert_null(strchr(err.text, '\n'));
    unlink(path);
}

Test(own, links)
{
    const char *path = "own-link.h5";
    H5Fclose(fresh("own-other.h5"));
    hid_t file = fresh(path);
    H5Ldelete(file, key, H5P_DEFAULT);
    cr_assert_geq(H5Lcreate_external("own-other.h5", key, file, key, H5P_DEFAULT, H5P_DEFAULT), 0);
    refused(file, path, "tokens/id is a link to elsewhere");
    file = fresh(path);
    H5Ldelete(file, key, H5P_DEFAULT);
    cr_assert_geq(H5Lcreate_soft("/prompt/0/tokens/byte_start", file, key, H5P_DEFAULT, H5P_DEFAULT), 0);
    refused(file, path, "tokens/id is a link to elsewhere");
    file = fresh(path);
    H5Ldelete(file, "/prompt/0/branches", H5P_DEFAULT);
    cr_assert_geq(H5Lcreate_external("own-other.h5", "/prompt/0/branches", file, "/prompt/0/branches", H5P_DEFAULT, H5P_DEFAULT), 0);
    refused(file, path, "is a link to elsewhere");
    unlink("own-other.h5");
}

Test(own, bytes_of_others)
{
    const char *path = "own-bytes.h5";
    for (int view = 0; view < 2; view++) {
        hid_t file = fresh(path), old = H5Dopen2(file, key, H5P_DEFAULT), space = H5Dget_space(old), dcpl = H5Pcreate(H5P_DATASET_CREATE);
        H5Dclose(old);
        H5Ldelete(file, key, H5P_DEFAULT);
        if (view)
            cr_assert_geq(H5Pset_virtual(dcpl, space, "own-other.h5", key, space), 0);
        else
            cr_assert_geq(H5Pset_external(dcpl, "/etc/passwd", 0, H5F_UNLIMITED), 0);
        hid_t ds = H5Dcreate2(file, key, H5T_STD_I32LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
        cr_assert_geq(ds, 0);
        H5Dclose(ds);
        H5Pclose(dcpl);
        H5Sclose(space);
        refused(file, path, view ? "tokens/id is a view of other files" : "tokens/id keeps its bytes in another file");
    }
}

static void master(const char *path, const char *target)
{
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT), run = H5Fopen("own-runs/run.h5", H5F_ACC_RDONLY, H5P_DEFAULT);
    for (int i = 0; i < 2; i++) { /* what makes it a trace */
        const char *name = i ? "schema_version" : "Conventions";
        hid_t from = H5Aopen(run, name, H5P_DEFAULT), type = H5Aget_type(from), space = H5Aget_space(from), to = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        char value[64];
        H5Aread(from, type, value);
        H5Awrite(to, type, value);
        H5Aclose(from);
        H5Aclose(to);
        H5Tclose(type);
        H5Sclose(space);
    }
    H5Fclose(run);
    H5Gclose(H5Gcreate2(file, "prompt", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_external(target, "/prompt/0", file, "/prompt/0", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(file);
}

Test(own, masters)
{
    struct kvt_trace *t;
    struct kvt_err err;
    mkdir("own-runs", 0777);
    H5Fclose(fresh("own-runs/run.h5"));
    master("own-runs/all.h5", "run.h5");
    cr_assert_eq(kvt_trace_open(&t, "own-runs/all.h5", NULL, &err), 0, "%s", err.text);
    kvt_trace_close(&t);
    master("own-all.h5", "own-runs/run.h5");
    refused(H5Fopen("own-all.h5", H5F_ACC_RDONLY, H5P_DEFAULT), "own-all.h5", "outside this one's folder");
    H5Fclose(fresh("run.h5")); /* HDF5 would take that one, from the current folder */
    master("own-runs/all.h5", "run.h5");
    unlink("own-runs/run.h5");
    refused(H5Fopen("own-runs/all.h5", H5F_ACC_RDONLY, H5P_DEFAULT), "own-runs/all.h5", "isn't beside this one");
    unlink("run.h5");
    rmdir("own-runs");
}
