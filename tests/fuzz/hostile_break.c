/* Breaking a trace: an object or attribute is picked, and one of the things happens to it that HDF5 can express. */
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rng.h"
#include "hostile.h"

enum { MOST_PATHS = 4096, LONGEST = 160 };

struct breaker {
    hid_t file;
    const char *other;
    struct kvt_rng rng;
    char (*path)[LONGEST];     /* datasets and groups below / */
    int n;
};

static uint32_t below(struct breaker *b, uint32_t n) { return kvt_rng_below(&b->rng, n); }
static const char *any(struct breaker *b) { return b->path[below(b, (uint32_t)b->n)]; }

static herr_t collect(hid_t at, const char *name, const H5O_info_t *info, void *arg)
{
    struct breaker *b = arg;
    (void)at;
    (void)info;
    if (strcmp(name, ".") && b->n < MOST_PATHS && strlen(name) < LONGEST)
        strcpy(b->path[b->n++], name);
    return 0;
}

/* ---- replacements ------------------------------------------------------------------------------------------------ */

static hid_t odd_type(struct breaker *b)
{
    hid_t t = -1, base = -1;
    const hid_t plain[] = {H5T_STD_I8LE, H5T_STD_U8LE, H5T_STD_I16BE, H5T_STD_I32LE, H5T_STD_I32BE, H5T_STD_U32LE, H5T_STD_I64LE, H5T_STD_U64BE,
                           H5T_IEEE_F32LE, H5T_IEEE_F32BE, H5T_IEEE_F64LE, H5T_STD_B32LE, H5T_STD_REF_OBJ, H5T_STD_REF_DSETREG};
    uint32_t k = below(b, 24);
    if (k < sizeof plain / sizeof *plain)
        return H5Tcopy(plain[k]);
    switch (k) {
    case 14: t = H5Tcopy(H5T_C_S1); H5Tset_size(t, 1 + below(b, 5000)); return t;
    case 15: t = H5Tcopy(H5T_C_S1); H5Tset_size(t, H5T_VARIABLE); return t;
    case 16: return H5Tvlen_create(H5T_STD_I32LE);
    case 17: t = H5Tcreate(H5T_COMPOUND, 16); H5Tinsert(t, "a", 0, H5T_STD_I64LE); H5Tinsert(t, "b", 8, H5T_IEEE_F64LE); return t;
    case 18: t = H5Tenum_create(H5T_STD_I32LE); { int32_t v = 1; H5Tenum_insert(t, "one", &v); } return t;
    case 19: return H5Tarray_create2(H5T_STD_I32LE, 2, (hsize_t[]){3, 1 + below(b, 1000)});
    case 20: return H5Tcreate(H5T_OPAQUE, 1 + below(b, 100));
    case 21: /* a float of its own: bits in other places, another bias */
        t = H5Tcopy(H5T_IEEE_F32LE);
        H5Tset_fields(t, 31, 20 + below(b, 4), 8, 0, 20);
        H5Tset_ebias(t, below(b, 500));
        return t;
    case 22: t = H5Tcopy(H5T_STD_I32LE); H5Tset_precision(t, 7); H5Tset_offset(t, 5); return t;
    default: base = H5Tcopy(H5T_C_S1); H5Tset_size(base, (size_t)1 << (10 + below(b, 20))); return base;
    }
}

/* Dimensions near what they were, or far from anything. */
static hid_t odd_space(struct breaker *b, hid_t was)
{
    hsize_t n[8] = {1, 1, 1, 1, 1, 1, 1, 1}, most[8];
    int rank = was >= 0 ? H5Sget_simple_extent_ndims(was) : 1;
    if (rank > 0 && rank <= 6)
        H5Sget_simple_extent_dims(was, n, NULL);
    rank = rank < 0 || rank > 6 ? 1 : rank;
    static const hsize_t far[] = {0, 1, 2, 255, 65536, 1u << 24, (1u << 24) + 1, 1ull << 31, 1ull << 32, 1ull << 40, 1ull << 62};
    switch (below(b, 6)) {
    case 0: return H5Screate(H5S_NULL);
    case 1: return H5Screate(H5S_SCALAR);
    case 2: rank = rank + 1; break;
    case 3: rank = rank > 1 ? rank - 1 : rank + 2; break;
    case 4:
        if (rank)
            n[below(b, (uint32_t)rank)] += below(b, 2) ? 1 : (hsize_t)-1;
        break;
    default:
        for (int i = 0; i < rank; i++)
            if (!i || below(b, 2))
                n[i] = far[below(b, sizeof far / sizeof *far)];
    }
    for (int i = 0; i < 8; i++)
        most[i] = H5S_UNLIMITED;
    return rank ? H5Screate_simple(rank, n, below(b, 4) ? NULL : most) : H5Screate(H5S_SCALAR);
}

/* Another dataset under its name: type, shape or storage are others. */
static void replace(struct breaker *b, const char *path)
{
    hid_t old = H5Dopen2(b->file, path, H5P_DEFAULT), type = -1, space = -1, dcpl = H5Pcreate(H5P_DATASET_CREATE);
    if (old >= 0) {
        type = H5Dget_type(old);
        space = H5Dget_space(old);
        H5Dclose(old);
    }
    uint32_t what = below(b, 7);
    if (what != 1) {
        hid_t other = what != 2 || type < 0 ? odd_type(b) : H5Tcopy(type);
        if (what == 0 || type < 0) {
            if (type >= 0)
                H5Tclose(type);
            type = other;
        } else {
            H5Tclose(other);
        }
    }
    if (what == 1 || what == 3 || space < 0) {
        hid_t other = odd_space(b, space);
        if (space >= 0)
            H5Sclose(space);
        space = other;
    }
    int rank = H5Sget_simple_extent_ndims(space);
    hsize_t n[8], chunk[8];
    if (rank > 0 && rank <= 8) {
        H5Sget_simple_extent_dims(space, n, NULL);
        for (int i = 0; i < rank; i++) {
            hsize_t want = what == 4 ? 1 : 1 + below(b, 1u << (4 + below(b, 20)));
            chunk[i] = n[i] && want > n[i] ? n[i] : want;
        }
        if (what == 1 || what == 3 || what == 4 || what == 5)
            H5Pset_chunk(dcpl, rank, chunk);
        if (what == 5)
            H5Pset_deflate(dcpl, 1);
        if (what == 5 && below(b, 2))
            H5Pset_filter(dcpl, (H5Z_filter_t)(256 + below(b, 30000)), H5Z_FLAG_OPTIONAL, 0, NULL);
        if (what == 6) { /* bytes of some other file */
            H5Pset_external(dcpl, below(b, 2) ? "/etc/passwd" : b->other, (off_t)below(b, 64), H5F_UNLIMITED);
        } else if (what == 2) { /* values of another dataset */
            hid_t all = H5Scopy(space);
            H5Pset_layout(dcpl, H5D_VIRTUAL);
            H5Pset_virtual(dcpl, space, below(b, 3) ? b->other : below(b, 2) ? "." : "/dev/zero", below(b, 2) ? path : "/nothing", all);
            H5Sclose(all);
        }
    }
    H5Ldelete(b->file, path, H5P_DEFAULT);
    hid_t made = H5Dcreate2(b->file, path, type, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    printf("%s replaced (%u)%s; ", path, what, made < 0 ? ", which HDF5 refused: gone" : "");
    if (made >= 0)
        H5Dclose(made);
    H5Pclose(dcpl);
    H5Tclose(type);
    H5Sclose(space);
}

static void relink(struct breaker *b, const char *path)
{
    const char *to = any(b);
    char up[LONGEST];
    snprintf(up, sizeof up, "%s", path);
    char *slash = strrchr(up, '/');
    if (slash)
        *slash = '\0';
    uint32_t how = below(b, 8);
    H5Ldelete(b->file, path, H5P_DEFAULT);
    switch (how) {
    case 0: H5Lcreate_soft("/nowhere/at/all", b->file, path, H5P_DEFAULT, H5P_DEFAULT); break;
    case 1: { char self[LONGEST + 1]; snprintf(self, sizeof self, "/%s", path); H5Lcreate_soft(self, b->file, path, H5P_DEFAULT, H5P_DEFAULT); break; }
    case 2: { char self[LONGEST + 1]; snprintf(self, sizeof self, "/%s", to); H5Lcreate_soft(self, b->file, path, H5P_DEFAULT, H5P_DEFAULT); break; }
    case 3: H5Lcreate_hard(b->file, slash ? up : "/", b->file, path, H5P_DEFAULT, H5P_DEFAULT); break; /* a circle */
    case 4: H5Lcreate_hard(b->file, to, b->file, path, H5P_DEFAULT, H5P_DEFAULT); break;
    case 5: { char there[LONGEST + 1]; snprintf(there, sizeof there, "/%s", path); H5Lcreate_external(b->other, there, b->file, path, H5P_DEFAULT, H5P_DEFAULT); break; }
    case 6: H5Lcreate_external(below(b, 2) ? "/etc/passwd" : "/dev/zero", "/", b->file, path, H5P_DEFAULT, H5P_DEFAULT); break;
    default: { hid_t t = H5Tcopy(H5T_STD_I32LE); H5Tcommit2(b->file, path, t, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT); H5Tclose(t); }
    }
    printf("%s is now link or object of kind %u; ", path, how);
}

/* ---- values ------------------------------------------------------------------------------------------------------ */

static void odd_values(struct breaker *b, const char *path)
{
    static const double real[] = {NAN, INFINITY, -INFINITY, -1, -0.0, 1e30, 2, 1e-300};
    static const int64_t whole[] = {-1, -2, INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX, 0, 1, 255, 65535, 1 << 24, -3, 7, 1000};
    hid_t ds = H5Dopen2(b->file, path, H5P_DEFAULT);
    if (ds < 0)
        return;
    hid_t type = H5Dget_type(ds), space = H5Dget_space(ds);
    hssize_t n = H5Sget_simple_extent_npoints(space);
    H5T_class_t of = H5Tget_class(type);
    size_t size = of == H5T_STRING ? H5Tget_size(type) : 8;
    if (n > 0 && n <= 1 << 20 && size <= 1 << 16 && (of == H5T_STRING ? H5Tis_variable_str(type) == 0 : of == H5T_FLOAT || of == H5T_INTEGER)) {
        char *v = calloc((size_t)n, size);
        hid_t mem = of == H5T_STRING ? H5Tcopy(type) : H5Tcopy(of == H5T_FLOAT ? H5T_NATIVE_DOUBLE : H5T_NATIVE_INT64);
        if (v && H5Dread(ds, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, v) >= 0) {
            uint32_t many = below(b, 3) ? 1 + below(b, 3) : (uint32_t)n, kind = below(b, 14);
            for (uint32_t i = 0; i < many; i++) {
                size_t at = many == (uint32_t)n ? i : below(b, (uint32_t)n);
                if (of == H5T_STRING)
                    memset(v + at * size, kind < 4 ? 'A' : kind < 7 ? 0xff : kind < 9 ? 0x1b : kind < 11 ? '/' : 0, size); /* no terminator, no UTF-8, escapes */
                else if (of == H5T_FLOAT)
                    memcpy(v + at * 8, &real[kind % 8], 8);
                else
                    memcpy(v + at * 8, &whole[kind], 8);
            }
            H5Dwrite(ds, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, v);
            printf("%u values of %s are of kind %u; ", many, path, kind);
        }
        H5Tclose(mem);
        free(v);
    }
    H5Sclose(space);
    H5Tclose(type);
    H5Dclose(ds);
}

/* A chunk's stored bytes. */
static void odd_chunk(struct breaker *b, const char *path)
{
    hid_t ds = H5Dopen2(b->file, path, H5P_DEFAULT), dcpl = ds < 0 ? -1 : H5Dget_create_plist(ds);
    if (dcpl >= 0 && H5Pget_layout(dcpl) == H5D_CHUNKED) {
        uint8_t junk[512];
        hsize_t at[8] = {0};
        size_t n = 1 + below(b, sizeof junk);
        for (size_t i = 0; i < n; i++)
            junk[i] = (uint8_t)below(b, 256);
        H5Dwrite_chunk(ds, H5P_DEFAULT, below(b, 8), at, n, junk);
        printf("the first chunk of %s holds %zu bytes of anything; ", path, n);
    }
    if (dcpl >= 0)
        H5Pclose(dcpl);
    if (ds >= 0)
        H5Dclose(ds);
}

static void odd_attribute(struct breaker *b, const char *path)
{
    hid_t o = H5Oopen(b->file, path, H5P_DEFAULT);
    H5O_info_t info;
    if (o < 0)
        return;
    if (H5Oget_info(o, &info) >= 0 && info.num_attrs) {
        char name[128] = "";
        H5Aget_name_by_idx(o, ".", H5_INDEX_NAME, H5_ITER_INC, below(b, (uint32_t)info.num_attrs), name, sizeof name, H5P_DEFAULT);
        uint32_t how = below(b, 5);
        hid_t space = how == 3 ? odd_space(b, -1) : H5Screate(H5S_SCALAR), type = how == 1 || how == 3 ? odd_type(b) : -1, a = -1;
        static const double far[] = {NAN, -1, 1e18, 1e300};
        H5Adelete(o, name);
        if (how == 2) { /* text without an end, of control characters, or long */
            char text[300];
            memset(text, below(b, 2) ? 'A' : 0x1b, sizeof text);
            type = H5Tcopy(H5T_C_S1);
            H5Tset_size(type, 1 + below(b, sizeof text));
            a = H5Acreate2(o, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
            H5Awrite(a, type, text);
        } else if (how == 4) {
            type = H5Tcopy(below(b, 2) ? H5T_STD_I64LE : H5T_IEEE_F64LE);
            a = H5Acreate2(o, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
            H5Awrite(a, H5T_NATIVE_DOUBLE, &far[below(b, 4)]);
        } else if (how) {
            a = H5Acreate2(o, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        }
        printf("attribute %s of %s: kind %u; ", name, path, how);
        if (a >= 0)
            H5Aclose(a);
        if (type >= 0)
            H5Tclose(type);
        H5Sclose(space);
    }
    H5Oclose(o);
}

static void flip(const char *path, struct kvt_rng *rng, int flips)
{
    int fd = open(path, O_RDWR);
    struct stat sb;
    if (fd < 0 || fstat(fd, &sb))
        return;
    for (int i = 0; i < flips; i++) {
        uint8_t byte;
        off_t at = (off_t)kvt_rng_below(rng, (uint32_t)(kvt_rng_below(rng, 2) ? sb.st_size : sb.st_size < 8192 ? sb.st_size : 8192));
        if (pread(fd, &byte, 1, at) == 1) {
            byte ^= (uint8_t)(1u << kvt_rng_below(rng, 8));
            if (pwrite(fd, &byte, 1, at) == 1)
                printf("byte %lld; ", (long long)at);
        }
    }
    if (flips && !kvt_rng_below(rng, 20) && !ftruncate(fd, (off_t)kvt_rng_below(rng, (uint32_t)sb.st_size)))
        printf("cut; ");
    close(fd);
}

int hostile_break(const char *path, const char *other, uint64_t seed, int flips)
{
    struct breaker b = {.other = other, .path = calloc(MOST_PATHS, LONGEST)};
    kvt_rng_seed(&b.rng, seed);
    if (flips) {
        flip(path, &b.rng, flips);
        free(b.path);
        return 0;
    }
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_libver_bounds(fapl, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    b.file = b.path ? H5Fopen(path, H5F_ACC_RDWR, fapl) : -1;
    H5Pclose(fapl);
    if (b.file < 0 || H5Ovisit(b.file, H5_INDEX_NAME, H5_ITER_INC, collect, &b) < 0 || !b.n)
        return 1;
    for (uint32_t i = 1 + below(&b, 3); i; i--) {
        const char *at = any(&b);
        switch (below(&b, 8)) {
        case 0: H5Ldelete(b.file, at, H5P_DEFAULT); printf("%s is gone; ", at); break;
        case 1: { const char *to = any(&b); H5Ldelete(b.file, to, H5P_DEFAULT); H5Lmove(b.file, at, b.file, to, H5P_DEFAULT, H5P_DEFAULT); printf("%s is called %s; ", at, to); break; }
        case 2: replace(&b, at); break;
        case 3: relink(&b, at); break;
        case 4: case 5: odd_values(&b, at); break;
        case 6: odd_chunk(&b, at); break;
        default: odd_attribute(&b, below(&b, 4) ? at : "/");
        }
    }
    printf("\n");
    free(b.path);
    return H5Fclose(b.file) < 0;
}
