/* The trace writer alone against the disk: full maps from memory into a trace, and as many bytes written plainly into a file,
 * both to the end of the sync, in turns. Medians.
 * usage: writer FOLDER [tokens [layers [heads [rounds [rows of a piece]]]]] */
#define _GNU_SOURCE /* sync_file_range */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "tracer/trace_write.h"

enum { MOST_ROUNDS = 31 };

struct run {
    int n, L, H, rounds, rows;
    float *piece;              /* (H, rows, n) */
    char path[512];
    int32_t *token;
    const char **text;
};

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

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

/* Attention that falls with the distance; exactly causal. */
static void fill(const struct run *r, int row0, int n_rows)
{
    for (int h = 0; h < r->H; h++)
        for (int i = 0; i < n_rows; i++) {
            float *p = r->piece + ((size_t)h * (size_t)n_rows + (size_t)i) * (size_t)r->n;
            for (int j = 0; j < r->n; j++)
                p[j] = j <= row0 + i ? 1 / (float)(2 + row0 + i - j) : 0;
        }
}

/* Seconds that the trace takes, without those in which the pieces are made. */
static int write_trace(const struct run *r, double *seconds, off_t *bytes)
{
    struct kvt_err err = {0};
    struct kvt_trace_writer *w;
    struct kvt_wants wants = {.n_sink = 4, .full = true};
    struct kvt_plan_branch full = {.name = "full", .method = "full", .canonical = "full", .asked_keep = 1, .asked_tok = r->n, .schedule = "prefill", .asked = "100%"};
    struct kvt_trace_plan plan = {.path = r->path, .force = true, .prompt_id = "0", .L = r->L, .H = r->H, .G = 1, .D = 64, .V = 1, .text = "", .n_prompt = r->n,
                                  .n_context = r->n, .token_id = r->token, .token_start = r->token, .token_end = r->token, .token_text = r->text, .longest_token = 4,
                                  .branch = &full, .n_branches = 1, .wants = &wants};
    int *head = kvt_calloc((size_t)r->H, sizeof *head);
    for (int h = 0; head && h < r->H; h++)
        head[h] = h;
    double start = now(), made = 0;
    int rc = head ? kvt_trace_create(&w, &plan, &err) : kvt_fail(&err, KVT_ENOMEM, "no memory");
    for (int l = 0; l < r->L && !rc; l++)
        for (int r0 = 0; r0 < r->n && !rc; r0 += r->rows) {
            int n_rows = r->n - r0 < r->rows ? r->n - r0 : r->rows;
            double before = now();
            if (!l) /* other layers take the pieces as they come: the same values, other rows */
                fill(r, r0, n_rows);
            made += now() - before;
            struct kvt_event ev = {.kind = KVT_EV_ROWS, .rows = {l, r->n, r0, n_rows, r->H, head, r->piece, NULL}};
            const struct kvt_probe *p = kvt_trace_probe(w);
            rc = p->see(p->self, &ev);
        }
    free(head);
    if (!rc)
        rc = kvt_trace_finish(&w, KVT_OK, 0, &err);
    *seconds = now() - start - made;
    struct stat sb = {.st_size = 0};
    stat(r->path, &sb);
    *bytes = sb.st_size;
    unlink(r->path);
    if (rc)
        fprintf(stderr, "writer: %s\n", err.text);
    return rc;
}

/* The same bytes, a megabyte at a time. */
static int write_plain(const struct run *r, double *seconds, off_t bytes)
{
    size_t piece = (size_t)1 << 20;
    double start = now();
    int fd = open(r->path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    for (off_t at = 0; fd >= 0 && at < bytes; at += (off_t)piece) {
        size_t n = (size_t)(bytes - at) < piece ? (size_t)(bytes - at) : piece;
        if (write(fd, (const char *)r->piece, n) != (ssize_t)n) {
            perror("writer");
            return 1;
        }
#ifdef SYNC_FILE_RANGE_WRITE
        if (at % ((off_t)32 << 20) == 0) /* as the writer does, or it would be the faster one */
            sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
#endif
    }
    if (fd < 0 || fsync(fd) || close(fd)) {
        perror("writer");
        return 1;
    }
    *seconds = now() - start;
    unlink(r->path);
    return 0;
}

int main(int argc, char **argv)
{
    struct run r = {.n = argc > 2 ? atoi(argv[2]) : 2048, .L = argc > 3 ? atoi(argv[3]) : 30, .H = argc > 4 ? atoi(argv[4]) : 9,
                    .rounds = argc > 5 ? atoi(argv[5]) : 5, .rows = argc > 6 ? atoi(argv[6]) : 128};
    double trace[MOST_ROUNDS], plain[MOST_ROUNDS];
    off_t bytes = 0;
    if (argc < 2 || r.n < 1 || r.L < 1 || r.H < 1 || r.rounds < 1 || r.rounds > MOST_ROUNDS || r.rows < 1) {
        fprintf(stderr, "usage: writer FOLDER [tokens [layers [heads [rounds [rows of a piece]]]]]\n");
        return 2;
    }
    size_t values = (size_t)r.H * (size_t)r.rows * (size_t)r.n, least = (size_t)1 << 18; /* write_plain takes a megabyte of it */
    snprintf(r.path, sizeof r.path, "%s/writer-bench.h5", argv[1]);
    r.piece = kvt_calloc(values > least ? values : least, sizeof *r.piece);
    r.token = kvt_calloc((size_t)r.n, sizeof *r.token);
    r.text = kvt_calloc((size_t)r.n, sizeof *r.text);
    if (!r.piece || !r.token || !r.text) {
        fprintf(stderr, "writer: no memory\n");
        return 4;
    }
    for (int i = 0; i < r.n; i++)
        r.text[i] = "";
    for (int i = 0; i < r.rounds; i++)
        if (write_trace(&r, &trace[i], &bytes) || write_plain(&r, &plain[i], bytes))
            return 1;
    double t = median(trace, r.rounds), p = median(plain, r.rounds), mb = (double)bytes / 1e6;
    printf("%d tokens, %d layers, %d heads: %.0f MB; trace %.2f s (%.0f MB/s), plain file %.2f s (%.0f MB/s): %.0f %% of it; each to the end of the sync, medians of %d\n",
           r.n, r.L, r.H, mb, t, mb / t, p, mb / p, 100 * p / t, r.rounds);
    free(r.piece);
    free(r.token);
    free(r.text);
    return 0;
}
