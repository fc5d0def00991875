/* Reads the scores of the method `file`. Nothing in the file is believed. */
#include "tracer/score_file.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "tracer/h5_own.h"

static int read_all(hid_t ds, float *out, int L, int G, int T, const char *path, struct kvt_err *err)
{
    if (!kvt_h5_read(ds, H5T_NATIVE_FLOAT, NULL, NULL, 3, out))
        return kvt_h5_fail(err, KVT_EFORMAT, "%s: cannot read scores", path);
    for (int l = 0; l < L; l++)
        for (int g = 0; g < G; g++)
            for (int j = 0; j < T; j++)
                if (!isfinite(out[((size_t)l * (size_t)G + (size_t)g) * (size_t)T + (size_t)j]))
                    return kvt_fail(err, KVT_EFORMAT, "%s: scores[%d, %d, %d] is no finite number", path, l, g, j);
    return 0;
}

int kvt_score_file_read(float **out, int *T, const char *path, int L, int G, int n_prompt, struct kvt_err *err)
{
    struct kvt_h5_why why;
    const char *wrong;
    hsize_t n[3] = {0};
    *out = NULL;
    if (access(path, R_OK))
        return kvt_fail(err, KVT_EINPUT, "%s: cannot open the scores: no such file, or it may not be read", path);
    kvt_h5_quiet(&why);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), ds = -1, space = -1, type = -1;
    int rc = 0;
    if (file < 0)
        rc = kvt_h5_fail(err, KVT_EFORMAT, "%s: not an HDF5 file", path);
    else if (kvt_h5_link_at(file, "scores") != KVT_H5_NOTHING && (ds = kvt_h5_open_own(file, "scores", &wrong)) < 0 && wrong)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: scores %s", path, wrong);
    else if (ds < 0)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: no dataset `scores`; write (layers, kv heads, tokens) = (%d, %d, %d) there", path, L, G, n_prompt);
    if (!rc) {
        space = H5Dget_space(ds), type = H5Dget_type(ds);
        H5T_class_t c = type < 0 ? H5T_NO_CLASS : H5Tget_class(type);
        if (c != H5T_FLOAT && c != H5T_INTEGER)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: scores holds no numbers", path);
        else if (space < 0 || H5Sget_simple_extent_ndims(space) != 3 || H5Sget_simple_extent_dims(space, n, NULL) < 0)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: scores has %d dimensions, not the 3 of (layers, kv heads, tokens)", path,
                          space < 0 ? 0 : H5Sget_simple_extent_ndims(space));
        else if (n[0] != (hsize_t)L || n[1] != (hsize_t)G || !n[2] || n[2] > (hsize_t)n_prompt)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: scores is (%llu, %llu, %llu); this model and prompt need (%d, %d, up to %d)", path,
                          (unsigned long long)n[0], (unsigned long long)n[1], (unsigned long long)n[2], L, G, n_prompt);
    }
    if (!rc) {
        *T = (int)n[2];
        *out = kvt_calloc((size_t)L * (size_t)G * (size_t)*T, sizeof **out);
        rc = *out ? read_all(ds, *out, L, G, *T, path, err) : kvt_fail(err, KVT_ENOMEM, "no memory for the scores of %s", path);
    }
    if (rc) {
        free(*out);
        *out = NULL;
    }
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (ds >= 0)
        H5Dclose(ds);
    if (file >= 0)
        H5Fclose(file);
    kvt_h5_quiet(NULL);
    return rc;
}
