/* The fuzz targets without a fuzzer: every file of a corpus, then so many deterministic mutations of them. For the test
 * suite, with any compiler; under the sanitizers it sees what libFuzzer would.
 * usage: replay_TARGET CORPUS_FOLDER MUTATIONS */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/rng.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));

enum { MAX_FILES = 256, MAX_BYTES = 1 << 20 };

struct input {
    uint8_t *p;
    size_t n;
};

static void load(const char *folder, const char *name, struct input *in)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "rb");
    in->p = malloc(MAX_BYTES);
    in->n = f && in->p ? fread(in->p, 1, MAX_BYTES, f) : 0;
    if (!f || !in->p || fclose(f)) {
        fprintf(stderr, "replay: cannot read %s\n", path);
        exit(1);
    }
}

static int by_name(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static int load_all(const char *folder, struct input *in)
{
    char *name[MAX_FILES];
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && n < MAX_FILES && (e = readdir(d));)
        if (e->d_name[0] != '.')
            name[n++] = strdup(e->d_name);
    if (d)
        closedir(d);
    qsort(name, (size_t)n, sizeof *name, by_name); /* the same mutations on every machine */
    for (int i = 0; i < n; i++) {
        load(folder, name[i], &in[i]);
        free(name[i]);
    }
    return n;
}

/* One of libFuzzer's moves; out has room for MAX_BYTES. */
static void mutate(struct kvt_rng *r, struct input *out, const struct input *other)
{
    static const uint64_t numbers[] = {0, 1, 127, 255, 256, 65535, 65536, INT32_MAX, UINT32_MAX, 1ull << 40, INT64_MAX, UINT64_MAX};
    static const char letters[] = "{}[]\":,0123456789.-eE\\ \n";
    size_t at = kvt_rng_below(r, (uint32_t)out->n), left = out->n - at, n = 1 + kvt_rng_below(r, 16), from;
    uint64_t v;
    switch (kvt_rng_below(r, 7)) {
    case 0: out->p[at] = (uint8_t)kvt_rng_u64(r); break;
    case 1: out->p[at] ^= (uint8_t)(1u << kvt_rng_below(r, 8)); break;
    case 2: out->p[at] = (uint8_t)letters[kvt_rng_below(r, sizeof letters - 1)]; break;
    case 3:
        v = numbers[kvt_rng_below(r, sizeof numbers / sizeof *numbers)];
        n = (size_t)1 << kvt_rng_below(r, 4);
        memcpy(out->p + at, &v, n < left ? n : left);
        break;
    case 4: /* out */
        n = n < left ? n : left;
        memmove(out->p + at, out->p + at + n, left - n);
        out->n -= n;
        break;
    case 5: /* in: a piece of another input */
        from = kvt_rng_below(r, (uint32_t)other->n);
        n = n < other->n - from ? n : other->n - from;
        if (out->n + n > MAX_BYTES)
            break;
        memmove(out->p + at + n, out->p + at, left);
        memcpy(out->p + at, other->p + from, n);
        out->n += n;
        break;
    default: /* the end comes early, now and then */
        if (!kvt_rng_below(r, 8))
            out->n = at + 1;
        break;
    }
}

int main(int argc, char **argv)
{
    static struct input in[MAX_FILES];
    struct kvt_rng r;
    if (argc != 3) {
        fprintf(stderr, "use: %s CORPUS_FOLDER MUTATIONS\n", argv[0]);
        return 2;
    }
    if (LLVMFuzzerInitialize && LLVMFuzzerInitialize(&argc, &argv))
        return 1;
    int n = load_all(argv[1], in), runs = atoi(argv[2]);
    for (int i = 0; i < n; i++)
        LLVMFuzzerTestOneInput(in[i].p, in[i].n);
    struct input work = {.p = malloc(MAX_BYTES)};
    kvt_rng_seed(&r, 7);
    for (int k = 0; n && work.p && k < runs; k++) {
        const struct input *a = &in[kvt_rng_below(&r, (uint32_t)n)], *b = &in[kvt_rng_below(&r, (uint32_t)n)];
        memcpy(work.p, a->p, a->n);
        work.n = a->n;
        for (unsigned moves = 1 + kvt_rng_below(&r, 4); moves && work.n && b->n; moves--)
            mutate(&r, &work, b);
        uint8_t *exact = malloc(work.n ? work.n : 1); /* its own size, so that reading past the end is seen */
        if (!exact)
            return 1;
        memcpy(exact, work.p, work.n);
        LLVMFuzzerTestOneInput(exact, work.n);
        free(exact);
    }
    for (int i = 0; i < n; i++)
        free(in[i].p);
    free(work.p);
    printf("%d inputs and %d mutations\n", n, runs);
    return n ? 0 : 1;
}
