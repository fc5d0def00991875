/* kerncheck: runs the subjects and reports. What a subject may use is in kerncheck.h. */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include "tests/kerncheck/kerncheck.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GUARD 256           /* bytes on either side of a buffer */
#define MAX_BUF 1024        /* buffers of one case */
#define MAX_EDGE 16         /* kc_edge's of one case */
#define MAX_OP 128          /* lines of the report */
#define SHOWN_FAILURES 8    /* of one op; the rest is counted */

struct buf {
    struct kc_cand *cand;
    unsigned char *base;    /* backend memory of GUARD + shift + bytes + GUARD */
    size_t shift, bytes;
};

struct op_line {            /* one op on one candidate */
    const char *op;
    const char *label;
    size_t judged;
    int failed;
    double used;            /* largest error / allowance */
};

struct kc_state {
    struct buf buf[MAX_BUF];
    int n_buf;
    void *host[MAX_BUF];
    int n_host;
    struct { void *base; size_t bytes; } edge[MAX_EDGE];
    int n_edge;
    char label[KC_MAX_CAND][24];
    struct op_line line[MAX_OP];
    int n_line;
    bool quiet;             /* sabotage: failures are expected, so they are only counted */
    unsigned one_in;        /* --quick: one case in so many; 0 or 1: all */
};

static const struct kc_subject *const subjects[] = {&kc_elem, &kc_linear, &kc_cache, &kc_score, &kc_step, &kc_attn, &kc_lost};
enum { N_SUBJECT = sizeof subjects / sizeof *subjects };

static void *need(void *p)
{
    if (!p) {
        fprintf(stderr, "kerncheck: out of memory\n");
        exit(4);
    }
    return p;
}

bool kc_skip(struct kc *k) { return k->state->one_in > 1 && kc_u64(k) % k->state->one_in; }

static void reseed(struct kc *k)
{
    k->rng[0] = k->seed * 0x9e3779b97f4a7c15u + 1;
    k->rng[1] = k->seed ^ 0xd1b54a32d192ed03u;
    for (int i = 0; i < 16; i++)
        kc_u64(k);
}

/* ---- memory of a case ---- */

void *kc_host(struct kc *k, size_t bytes)
{
    struct kc_state *s = k->state;
    if (s->n_host == MAX_BUF)
        need(NULL);
    return s->host[s->n_host++] = need(calloc(bytes ? bytes : 1, 1));
}

void *kc_edge(struct kc *k, const void *host, size_t bytes)
{
    struct kc_state *s = k->state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (bytes + page - 1) / page * page;
    if (s->n_edge == MAX_EDGE)
        need(NULL);
    unsigned char *base = mmap(NULL, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + whole, page, PROT_NONE))
        need(NULL);
    s->edge[s->n_edge].base = base;
    s->edge[s->n_edge++].bytes = whole + page;
    return memcpy(base + whole - bytes, host, bytes);
}

void *kc_put_shifted(struct kc *k, struct kc_cand *c, const void *host, size_t bytes, size_t shift)
{
    struct kc_state *s = k->state;
    if (s->n_buf == MAX_BUF)
        need(NULL);
    size_t whole = GUARD + shift + bytes + GUARD;
    unsigned char *fill = need(malloc(whole));
    memset(fill, 0xa5, whole);
    if (host)
        memcpy(fill + GUARD + shift, host, bytes);
    else
        memset(fill + GUARD + shift, 0x5c, bytes);
    unsigned char *base = need(c->ops->alloc(c->dev, whole));
    c->ops->write(c->dev, base, fill, whole);
    free(fill);
    s->buf[s->n_buf++] = (struct buf){c, base, shift, bytes};
    return base + GUARD + shift;
}

void *kc_put(struct kc *k, struct kc_cand *c, const void *host, size_t bytes)
{
    return kc_put_shifted(k, c, host, bytes, 0);
}

void kc_get(struct kc *k, struct kc_cand *c, void *host, const void *p, size_t bytes)
{
    (void)k;
    c->ops->read(c->dev, host, p, bytes);
}

static void release(struct kc *k, const struct buf *b, const char *op)
{
    size_t before = GUARD + b->shift;
    unsigned char guard[GUARD + 64];
    bool fine = true;
    b->cand->ops->read(b->cand->dev, guard, b->base, before);
    for (size_t i = 0; i < before; i++)
        fine &= guard[i] == 0xa5;
    b->cand->ops->read(b->cand->dev, guard, b->base + before + b->bytes, GUARD);
    for (size_t i = 0; i < GUARD; i++)
        fine &= guard[i] == 0xa5;
    kc_that(k, b->cand, op, fine, "wrote outside a buffer of %zu bytes", b->bytes);
    b->cand->ops->free(b->cand->dev, b->base);
}

void kc_end_cand(struct kc *k, struct kc_cand *c, const char *op)
{
    struct kc_state *s = k->state;
    int left = 0;
    for (int i = 0; i < s->n_buf; i++) {
        struct buf b = s->buf[i];
        if (b.cand == c)
            release(k, &b, op);
        else
            s->buf[left++] = b;
    }
    s->n_buf = left;
}

void kc_end_case(struct kc *k, const char *op)
{
    struct kc_state *s = k->state;
    for (int i = 0; i < s->n_buf; i++)
        release(k, &s->buf[i], op);
    s->n_buf = 0;
    while (s->n_host)
        free(s->host[--s->n_host]);
    for (; s->n_edge; s->n_edge--)
        munmap(s->edge[s->n_edge - 1].base, s->edge[s->n_edge - 1].bytes);
}

/* ---- verdicts ---- */

static struct op_line *line_of(struct kc *k, const struct kc_cand *c, const char *op)
{
    struct kc_state *s = k->state;
    for (int i = 0; i < s->n_line; i++)
        if (s->line[i].label == c->label && !strcmp(s->line[i].op, op))
            return &s->line[i];
    if (s->n_line == MAX_OP)
        need(NULL);
    s->line[s->n_line] = (struct op_line){.op = op, .label = c->label};
    return &s->line[s->n_line++];
}

__attribute__((format(printf, 4, 0)))
static void failed(struct kc *k, struct op_line *line, const char *what, const char *fmt, va_list ap)
{
    line->failed++;
    if (k->state->quiet || line->failed > SHOWN_FAILURES)
        return;
    printf("FAILED %s [%s] ", line->op, line->label);
    vprintf(fmt, ap);
    printf(": %s (seed %" PRIu64 ")\n", what, k->seed);
}

bool kc_judge(struct kc *k, const struct kc_cand *c, const char *op, const float *want, const float *got,
              const float *allow, size_t n, const char *fmt, ...)
{
    struct op_line *line = line_of(k, c, op);
    size_t worst = 0, bad = 0;
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double used;
        if (isnan(want[i]) || isnan(got[i]))
            used = isnan(want[i]) && isnan(got[i]) ? 0 : INFINITY;
        else if (want[i] == got[i])
            used = 0;
        else
            used = fabs((double)got[i] - (double)want[i]) / (double)allow[i]; /* allow 0: infinite */
        bad += !(used <= 1);
        if (!(used <= most)) {
            most = used;
            worst = i;
        }
    }
    line->judged += n;
    if (!(most <= line->used))
        line->used = most;
    if (!bad)
        return true;
    char what[192];
    snprintf(what, sizeof what, "%zu of %zu differ; worst at %zu: want %.9g, got %.9g, allowed %.3g", bad, n, worst,
             (double)want[worst], (double)got[worst], (double)allow[worst]);
    va_list ap;
    va_start(ap, fmt);
    failed(k, line, what, fmt, ap);
    va_end(ap);
    return false;
}

bool kc_same(struct kc *k, const struct kc_cand *c, const char *op, const void *want, const void *got, size_t bytes,
             const char *fmt, ...)
{
    struct op_line *line = line_of(k, c, op);
    const unsigned char *w = want, *g = got;
    size_t at = 0;
    while (at < bytes && w[at] == g[at])
        at++;
    line->judged += bytes / 4;
    if (at == bytes)
        return true;
    char what[96];
    snprintf(what, sizeof what, "bits differ from byte %zu of %zu", at, bytes);
    va_list ap;
    va_start(ap, fmt);
    failed(k, line, what, fmt, ap);
    va_end(ap);
    return false;
}

bool kc_rc(struct kc *k, const struct kc_cand *c, const char *op, int rc, const char *fmt, ...)
{
    struct op_line *line = line_of(k, c, op);
    if (!rc)
        return true;
    char what[160];
    snprintf(what, sizeof what, "returned %d: %.120s", rc, kvt_dev_error(c->dev));
    va_list ap;
    va_start(ap, fmt);
    failed(k, line, what, fmt, ap);
    va_end(ap);
    return false;
}

bool kc_that(struct kc *k, const struct kc_cand *c, const char *op, bool holds, const char *fmt, ...)
{
    struct op_line *line = line_of(k, c, op);
    if (holds)
        return true;
    va_list ap;
    va_start(ap, fmt);
    failed(k, line, "does not hold", fmt, ap);
    va_end(ap);
    return false;
}

/* ---- timing ---- */

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void run_to_end(struct kc_cand *c, void (*run)(void *arg), void *arg)
{
    char byte;
    run(arg);
    c->ops->read(c->dev, &byte, c->mark, 1);
}

double kc_time(struct kc_cand *c, void (*run)(void *arg), void *arg)
{
    run_to_end(c, run, arg); /* warm: pages, scratch, threads */
    double best = INFINITY, start = now_s();
    for (int i = 0; i < 3 || now_s() - start < 0.3; i++) {
        double t = now_s();
        run_to_end(c, run, arg);
        t = now_s() - t;
        if (t < best)
            best = t;
    }
    return best;
}

void kc_line(struct kc *k, const struct kc_cand *c, const char *op, const char *what, double seconds, double flops,
             double bytes)
{
    (void)k;
    printf("%-13s %-16s %-34s %10.1f us", op, c->label, what, seconds * 1e6);
    if (flops > 0)
        printf(" %8.1f GFLOP/s", flops / seconds * 1e-9);
    if (bytes > 0)
        printf(" %7.2f GB/s", bytes / seconds * 1e-9);
    printf("\n");
    fflush(stdout);
}

/* ---- the program ---- */

static const char *const level_name[] = {"plain", "avx2", "avx512", "avx512bf16", "avx512fp16"};

/* Which devices are opened: for checks all levels with one thread and with several, for timing one thread count and
 * perhaps one level. */
struct choice {
    int threads;            /* of the several */
    bool alone;             /* only with `threads`, not with 1 beside it */
    const char *level;      /* NULL = all; "avx2" */
    const struct kvt_ops *other; /* judged instead of the cpu's levels; or NULL */
};

static int open_all(struct kc *k, const struct kvt_ops *cpu, const struct choice *choice)
{
    struct kvt_err err = {0};
    k->ref = (struct kc_cand){.ops = &kvt_ops_ref, .label = "ref", .threads = 1};
    int rc = kvt_ops_ref.open(&k->ref.dev, NULL, &err);
    k->n_cand = 0;
    if (!rc && choice->other) {
        k->cand[0] = (struct kc_cand){.ops = choice->other, .label = choice->other->name, .threads = 1};
        rc = choice->other->open(&k->cand[0].dev, NULL, &err);
        k->n_cand = !rc;
    }
    for (int level = 0; !choice->other && !rc && level <= (int)kvt_simd_here(); level++) {
        if (choice->level && strcmp(choice->level, level_name[level]))
            continue;
        for (int many = choice->alone; !rc && many < 2; many++) {
            struct kc_cand *c = &k->cand[k->n_cand];
            char *label = k->state->label[k->n_cand];
            int threads = many ? choice->threads : 1;
            snprintf(label, sizeof k->state->label[0], "%s x%d", level_name[level], threads);
            *c = (struct kc_cand){.ops = cpu, .label = label, .threads = threads};
            rc = kvt_cpu_open_simd(&c->dev, &(struct kvt_dev_opts){.threads = threads}, (enum kvt_simd)level, &err);
            k->n_cand += !rc;
        }
    }
    for (int i = 0; i < k->n_cand; i++)
        k->cand[i].mark = need(k->cand[i].ops->alloc(k->cand[i].dev, 1));
    k->ref.mark = rc ? NULL : need(k->ref.ops->alloc(k->ref.dev, 1));
    if (rc)
        fprintf(stderr, "kerncheck: %s\n", err.text);
    return rc;
}

static void close_all(struct kc *k)
{
    for (int i = 0; i < k->n_cand; i++) {
        k->cand[i].ops->free(k->cand[i].dev, k->cand[i].mark);
        k->cand[i].ops->close(&k->cand[i].dev);
    }
    k->ref.ops->free(k->ref.dev, k->ref.mark);
    k->ref.ops->close(&k->ref.dev);
}

static int report(const struct kc_state *s, bool print)
{
    int failures = 0;
    for (int i = 0; i < s->n_line; i++) {
        const struct op_line *l = &s->line[i];
        failures += l->failed;
        if (print && (l->judged || l->failed))
            printf("%-16s %-16s %10zu values  %5.1f %% of the allowance  %s\n", l->op, l->label, l->judged,
                   100 * l->used, l->failed ? "FAILED" : "ok");
    }
    return failures;
}

bool kc_caught(const struct kc *k)
{
    int failures = 0;
    for (int i = 0; i < k->state->n_line; i++)
        failures += k->state->line[i].failed;
    return k->state->quiet && failures > 0;
}

static int run_check(struct kc *k, const struct kc_subject *subject, const struct kvt_ops *cpu,
                     const struct choice *choice, bool print)
{
    k->state->n_line = 0;
    k->state->quiet = !print;
    if (open_all(k, cpu, choice))
        return -1;
    reseed(k);
    subject->check(k);
    int failures = report(k->state, print);
    close_all(k);
    return failures;
}

/* 1 when every wrong op was caught, as a check that fails should return; 0 when one slipped through. */
static int run_sabotage(struct kc *k, const struct kc_subject *subject)
{
    const struct choice best = {.threads = 2, .level = level_name[kvt_simd_here()]}; /* a wrong op is wrong at every level */
    bool all = true;
    for (int i = 0;; i++) {
        struct kvt_ops wrong = kvt_ops_cpu;
        const char *what = subject->sabotage(&wrong, i);
        if (!what)
            break;
        int failures = run_check(k, subject, &wrong, &best, false);
        printf("%-60s %s\n", what, failures > 0 ? "caught" : "NOT NOTICED");
        fflush(stdout);
        all &= failures > 0;
    }
    if (all)
        printf("every mistake was caught\n");
    return all;
}

static void usage(FILE *f)
{
    fprintf(f, "kerncheck: judges every kernel against ref\n"
               "  kerncheck [--only SUBJECT] [--seed N] [--threads N]   with 1 thread and with N (2)\n"
               "  kerncheck --backend cuda|simt [--only SUBJECT] [--seed N] [--bench]   the cuda backend, or its sources on the CPU\n"
               "      --quick: a third of the cases, given twice a ninth; which ones depends on the seed; only with another backend than the cpu\n"
               "  kerncheck [--only SUBJECT] --bench [--threads N] [--level plain|avx2|avx512|avx512bf16|avx512fp16] [--match TEXT]\n"
               "  kerncheck --sabotage SUBJECT   swaps in wrong kernels; exit 1 when all of them were caught\n"
               "  kerncheck --list               names the subjects\n"
               "example: kerncheck --only linear --bench\n");
}

static const struct kc_subject *subject_of(const char *name)
{
    for (int i = 0; i < N_SUBJECT; i++)
        if (!strcmp(subjects[i]->name, name))
            return subjects[i];
    fprintf(stderr, "kerncheck: no subject '%s'; see kerncheck --list\n", name);
    return NULL;
}

static int program(struct kc *k, int argc, char **argv)
{
    const struct kc_subject *only = NULL;
    struct choice choice = {.threads = 2}; /* also where there is one core: bits must not depend on it */
    bool bench = false, sabotage = false;
    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
            usage(stdout);
            return 0;
        }
        if (!strcmp(argv[i], "--list")) {
            for (int j = 0; j < N_SUBJECT; j++)
                printf("%s\n", subjects[j]->name);
            return 0;
        }
        if (!strcmp(argv[i], "--bench")) {
            bench = true;
        } else if (!strcmp(argv[i], "--quick")) {
            k->state->one_in = k->state->one_in ? 3 * k->state->one_in : 3;
        } else if ((!strcmp(argv[i], "--only") || !strcmp(argv[i], "--sabotage")) && next) {
            sabotage = !strcmp(argv[i++], "--sabotage");
            if (!(only = subject_of(next)))
                return 2;
        } else if (!strcmp(argv[i], "--threads") && next && atoi(next) > 0 && atoi(next) <= 64) {
            choice.threads = atoi(argv[++i]);
        } else if (!strcmp(argv[i], "--level") && next) {
            choice.level = argv[++i];
        } else if (!strcmp(argv[i], "--backend") && next) {
            struct kvt_err err = {0};
            if (kvt_ops_load(&choice.other, argv[++i], &err)) {
                fprintf(stderr, "kerncheck: %s\n", err.text);
                return 2;
            }
        } else if (!strcmp(argv[i], "--match") && next) {
            k->match = argv[++i];
        } else if (!strcmp(argv[i], "--seed") && next) {
            char *end;
            k->seed = strtoull(argv[++i], &end, 10);
            if (*end || end == argv[i]) {
                fprintf(stderr, "kerncheck: --seed takes a number, not '%s'\n", argv[i]);
                return 2;
            }
        } else {
            usage(stderr);
            return 2;
        }
    }
    if (k->state->one_in && !choice.other) {
        fprintf(stderr, "kerncheck: --quick is for backends that run on an emulation; the cpu's checks are never cut\n");
        return 2;
    }
    if (sabotage)
        return run_sabotage(k, only);
    if (!bench && !choice.other && (choice.threads < 2 || choice.level)) {
        fprintf(stderr, "kerncheck: a check compares all levels, and 1 thread with 2 or more\n");
        return 2;
    }
    choice.alone = bench;
    int failures = 0;
    for (int i = 0; i < N_SUBJECT; i++) {
        if (only && subjects[i] != only)
            continue;
        if (bench) {
            if (open_all(k, &kvt_ops_cpu, &choice))
                return 4;
            reseed(k);
            subjects[i]->bench(k);
            close_all(k);
        } else {
            int n = run_check(k, subjects[i], &kvt_ops_cpu, &choice, true);
            if (n < 0)
                return 4;
            failures += n;
        }
    }
    if (failures)
        printf("%d failed\n", failures);
    return failures != 0;
}

int main(int argc, char **argv)
{
    struct kc k = {.seed = 1, .state = need(calloc(1, sizeof *k.state))};
    int rc = program(&k, argc, argv);
    free(k.state);
    return rc;
}
