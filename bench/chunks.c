/* How a chunk's shape tells on readers of full maps: one head's map, one key's column over all queries, one layer's maps; as
 * f16 without filters, chunks of zeros left out, the file read from the disk each time and then again from memory.
 * usage: chunks FILE [tokens [heads]] */
#define _GNU_SOURCE /* posix_fadvise with sync beside HDF5's own descriptor */
#include <fcntl.h>
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { LAYERS = 2, ROUNDS = 5 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void forget(const char *path)
{
    int fd = open(path, O_RDONLY);
    if (fd >= 0) {
        fsync(fd);
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        close(fd);
    }
}

static int make(const char *path, hsize_t n, hsize_t heads, hsize_t q, hsize_t k)
{
    hsize_t dims[4] = {LAYERS, heads, n, n}, chunk[4] = {1, 1, q, k};
    unsigned short *v = malloc(q * k * sizeof *v);
    hid_t fapl = H5Pcreate(H5P_FILE_ACCESS), dcpl = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(4, dims, NULL);
    H5Pset_libver_bounds(fapl, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    H5Pset_alignment(fapl, 16384, 4096);
    H5Pset_chunk(dcpl, 4, chunk);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, fapl);
    hid_t ds = file < 0 || !v ? -1 : H5Dcreate2(file, "map", H5T_STD_U16LE, space, H5P_DEFAULT, dcpl, H5P_DEFAULT);
    for (hsize_t i = 0; v && i < q * k; i++)
        v[i] = (unsigned short)(i * 2654435761u >> 7);
    int bad = ds < 0;
    for (hsize_t l = 0; l < LAYERS && !bad; l++)
        for (hsize_t h = 0; h < heads; h++)
            for (hsize_t r = 0; r < n; r += q) /* as rows come */
                for (hsize_t c = 0; c < n && c < r + q; c += k) {
                    hsize_t at[4] = {l, h, r, c};
                    bad |= H5Dwrite_chunk(ds, H5P_DEFAULT, 0, at, q * k * sizeof *v, v) < 0;
                }
    free(v);
    bad |= H5Fclose(file) < 0;
    H5Dclose(ds);
    H5Sclose(space);
    H5Pclose(dcpl);
    H5Pclose(fapl);
    return bad;
}

/* Milliseconds that a box takes, the file opened for it. */
static double read_box(const char *path, const hsize_t *at, const hsize_t *count, unsigned short *to)
{
    double start = now();
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT), ds = H5Dopen2(file, "map", H5P_DEFAULT), space = H5Dget_space(ds);
    hid_t mem = H5Screate_simple(4, count, NULL);
    H5Sselect_hyperslab(space, H5S_SELECT_SET, at, NULL, count, NULL);
    int bad = H5Dread(ds, H5T_NATIVE_USHORT, mem, space, H5P_DEFAULT, to) < 0;
    H5Sclose(mem);
    H5Sclose(space);
    H5Dclose(ds);
    H5Fclose(file);
    return bad ? -1 : 1e3 * (now() - start);
}

int main(int argc, char **argv)
{
    hsize_t n = argc > 2 ? (hsize_t)atoi(argv[2]) : 2048, heads = argc > 3 ? (hsize_t)atoi(argv[3]) : 9;
    if (argc < 2 || n < 256 || !heads) {
        fprintf(stderr, "usage: chunks FILE [tokens, at least 256 [heads]]\n");
        return 2;
    }
    unsigned short *to = malloc(heads * n * n * sizeof *to);
    const hsize_t shape[][2] = {{64, 64}, {128, 128}, {256, 256}, {64, n}, {n, 64}};
    const struct { const char *what; hsize_t at[4], count[4]; } box[] = {
        {"one head's map", {1, heads / 2, 0, 0}, {1, 1, n, n}}, {"one key's column", {1, heads / 2, 0, n / 3}, {1, 1, n, 1}},
        {"one query's row", {1, heads / 2, n / 2, 0}, {1, 1, 1, n}}, {"one layer's maps", {1, 0, 0, 0}, {1, heads, n, n}}};
    printf("chunk\tfile (MB)");
    for (size_t b = 0; b < sizeof box / sizeof *box; b++)
        printf("\t%s (ms, from disk; from memory)", box[b].what);
    printf("\n");
    for (size_t s = 0; to && s < sizeof shape / sizeof *shape; s++) {
        struct stat sb = {.st_size = 0};
        if (make(argv[1], n, heads, shape[s][0], shape[s][1]) || stat(argv[1], &sb)) {
            fprintf(stderr, "chunks: cannot write %s\n", argv[1]);
            return 1;
        }
        printf("%d x %d\t%.0f", (int)shape[s][0], (int)shape[s][1], (double)sb.st_size / 1e6);
        for (size_t b = 0; b < sizeof box / sizeof *box; b++) {
            double cold[ROUNDS], warm[ROUNDS];
            for (int r = 0; r < ROUNDS; r++) {
                forget(argv[1]);
                cold[r] = read_box(argv[1], box[b].at, box[b].count, to);
                warm[r] = read_box(argv[1], box[b].at, box[b].count, to);
            }
            qsort(cold, ROUNDS, sizeof *cold, by_value);
            qsort(warm, ROUNDS, sizeof *warm, by_value);
            printf("\t%.1f; %.1f", cold[ROUNDS / 2], warm[ROUNDS / 2]);
        }
        printf("\n");
        unlink(argv[1]);
    }
    free(to);
    return 0;
}
