/* Links, views and outside storage are refused: no writer of ours makes them but a master's links to the runs beside it. */
#include "tracer/h5_own.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Chunks smaller than this are allowed while there are few of them: each costs HDF5 a search and some memory. */
enum { SMALL_CHUNK_BYTES = 4096, MANY_CHUNKS = 1 << 16, LARGEST_CHUNK_BYTES = 256 << 20 };

enum kvt_h5_link_kind kvt_h5_link_at(hid_t at, const char *path)
{
    char part[256];
    size_t n = strlen(path);
    if (!n || n >= sizeof part)
        return KVT_H5_NOTHING;
    for (size_t i = 1; i <= n; i++) {
        H5L_info_t info;
        if (path[i] && path[i] != '/')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (H5Lexists(at, part, H5P_DEFAULT) <= 0 || H5Lget_info(at, part, &info, H5P_DEFAULT) < 0)
            return KVT_H5_NOTHING;
        if (info.type != H5L_TYPE_HARD)
            return KVT_H5_ELSEWHERE;
    }
    return KVT_H5_OWN;
}

static const char *storage_of(hid_t ds)
{
    hid_t dcpl = H5Dget_create_plist(ds), space = H5Dget_space(ds), type = H5Dget_type(ds);
    hsize_t chunk[H5S_MAX_RANK], shape[H5S_MAX_RANK];
    const char *wrong = dcpl < 0 || space < 0 || type < 0 ? "is damaged" : NULL;
    int rank = wrong ? 0 : H5Sget_simple_extent_ndims(space);
    if (!wrong && H5Pget_layout(dcpl) == H5D_VIRTUAL)
        wrong = "is a view of other files";
    else if (!wrong && H5Pget_external_count(dcpl) != 0)
        wrong = "keeps its bytes in another file";
    else if (!wrong && rank > 0 && H5Pget_layout(dcpl) == H5D_CHUNKED) {
        if (H5Pget_chunk(dcpl, rank, chunk) != rank || H5Sget_simple_extent_dims(space, shape, NULL) != rank)
            wrong = "is damaged";
        double bytes = wrong ? 0 : (double)H5Tget_size(type), many = 1;
        for (int i = 0; !wrong && i < rank; i++) {
            bytes *= (double)chunk[i];
            many *= ((double)shape[i] + (double)chunk[i] - 1) / (double)chunk[i];
        }
        if (bytes > LARGEST_CHUNK_BYTES || (bytes < SMALL_CHUNK_BYTES && many > MANY_CHUNKS))
            wrong = bytes > LARGEST_CHUNK_BYTES ? "lies in chunks of more than 256 MB" : "lies in too many small chunks";
    }
    if (type >= 0)
        H5Tclose(type);
    if (space >= 0)
        H5Sclose(space);
    if (dcpl >= 0)
        H5Pclose(dcpl);
    return wrong;
}

hid_t kvt_h5_open_own(hid_t at, const char *path, const char **wrong)
{
    enum kvt_h5_link_kind kind = kvt_h5_link_at(at, path);
    *wrong = kind == KVT_H5_NOTHING ? "isn't there" : kind == KVT_H5_ELSEWHERE ? "is a link to elsewhere, which a trace doesn't have" : NULL;
    hid_t ds = *wrong ? -1 : H5Dopen2(at, path, H5P_DEFAULT);
    if (ds >= 0 && (*wrong = storage_of(ds))) {
        H5Dclose(ds);
        ds = -1;
    }
    return ds;
}

/* ---- masters ----------------------------------------------------------------------------------------------------- */

struct beside { const char *file; bool away, absent; };

/* Asked by HDF5 for each external link on its way. */
static herr_t traverse(const char *parent, const char *group, const char *child, const char *object, unsigned *flags, hid_t fapl, void *arg)
{
    struct beside *b = arg;
    char there[PATH_MAX];
    const char *slash = strrchr(b->file, '/');
    int folder = slash ? (int)(slash - b->file) + 1 : 0;
    (void)parent;
    (void)group;
    (void)object;
    (void)fapl;
    *flags = H5F_ACC_RDONLY;
    if (!child || strchr(child, '/') || snprintf(there, sizeof there, "%.*s%s", folder, b->file, child) >= (int)sizeof there)
        return b->away = true, -1;
    return access(there, R_OK) ? (b->absent = true, -1) : 0; /* HDF5 itself would look in the current folder too */
}

hid_t kvt_h5_open_beside(hid_t at, const char *path, const char *file, const char **wrong)
{
    struct beside b = {.file = file};
    H5L_info_t info;
    *wrong = NULL;
    if (H5Lexists(at, path, H5P_DEFAULT) <= 0 || H5Lget_info(at, path, &info, H5P_DEFAULT) < 0) {
        *wrong = "isn't there";
        return -1;
    }
    if (info.type != H5L_TYPE_HARD && info.type != H5L_TYPE_EXTERNAL) {
        *wrong = "is a link to elsewhere, which a trace doesn't have";
        return -1;
    }
    hid_t gapl = H5Pcreate(H5P_GROUP_ACCESS);
    hid_t group = gapl < 0 || H5Pset_elink_cb(gapl, traverse, &b) < 0 ? -1 : H5Gopen2(at, path, gapl);
    if (gapl >= 0)
        H5Pclose(gapl);
    if (group < 0 && (b.away || b.absent))
        *wrong = b.away ? "is a link to a file outside this one's folder, which isn't followed" : "is a link to a file that isn't beside this one";
    return group;
}
