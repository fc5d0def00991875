/* kvtrace: what a run would take, before it runs: memory, the trace's bytes, time. */
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "tracer/kvtrace.h"

#define LARGE_BYTES ((size_t)2000000000) /* of the trace, or of memory beside the weights: somebody must want it */

/* ---- time -------------------------------------------------------------------------------------------------------- */

enum { PIECE_TOK = 512, PIECE_STEPS = 8, WARM_TOK = 32 };

static void piece_wants(void *self, struct kvt_wants *w) { *w = ((const struct kvtrace_run *)self)->wants; }
static int piece_see(void *self, const struct kvt_event *ev) { (void)self, (void)ev; return 0; }

/* The session of the prompt's first n tokens; false where it can't be (a method needs more of them). */
static bool run_piece(struct kvtrace_run *run, int n, bool traced, double ns[KVT_N_PHASE], double *step_ns, size_t *kv)
{
    struct kvt_session_opts o = run->session;
    struct kvt_probe probe = { .self = run, .wants = piece_wants, .see = piece_see };
    struct kvt_session_sizes m;
    struct kvt_session *s = NULL;
    struct kvt_wants none = { .n_sink = 4 };
    int question = o.question_start < 0 ? 0 : o.n_prompt - o.question_start;
    if (n < o.n_prompt) {
        o.n_prompt = n;
        o.question_start = o.question_start < 0 ? -1 : n - (question < n / 4 ? question : n / 4);
        while (o.n_shots && o.shot[2 * o.n_shots - 1] > n - (question < n / 4 ? question : n / 4))
            o.n_shots--;
        while (o.n_spans && o.span[3 * o.n_spans - 1] > n)
            o.n_spans--;
    }
    o.n_new = o.n_new < PIECE_STEPS ? o.n_new : PIECE_STEPS;
    o.stop_at_end = false;
    o.progress = NULL;
    o.probe = traced ? &probe : NULL;
    bool ok = !kvt_session_sizes(run->model, &o, traced ? &run->wants : &none, &m, NULL) && !kvt_session_open(&s, run->model, &o, NULL) &&
              !kvt_session_prefill(s, NULL) && !kvt_session_decode(s, NULL);
    for (int p = 0; ok && p < KVT_N_PHASE; p++)
        ns[p] = (double)kvt_session_phase_ns(s, (enum kvt_phase)p);
    int steps = ok ? kvt_session_steps(s) : 0;
    *step_ns = steps ? (ns[KVT_PHASE_DECODE] + ns[KVT_PHASE_ORACLE]) / steps : 0;
    *kv = m.kv_prefill_bytes + m.kv_decode_bytes;
    kvt_session_close(&s);
    return ok;
}

/* Work of a prefill of n tokens, in products of matrices; attention's cost three times theirs. */
static double prefill_work(const struct kvt_shape *s, double n)
{
    double E = s->E, HD = (double)s->H * s->D, GD = (double)s->G * s->D, F = s->F;
    return n * s->L * (2 * (2 * E * HD + 2 * E * GD + 3 * E * F) + 3 * 2 * HD * n);
}

/* Bytes a second that the folder of the trace takes, to the end of a sync; 0: it can't be tried. */
static double disk_rate(const char *path)
{
    const size_t bytes = (size_t)64 << 20, piece = (size_t)1 << 20;
    size_t n = strlen(path) + sizeof ".part.new", done = 0;
    char *name = kvt_calloc(n, 1), *data = kvt_calloc(piece, 1);
    if (name)
        snprintf(name, n, "%s.part.new", path);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    int fd = name && data ? open(name, O_WRONLY | O_CREAT | O_EXCL, 0600) : -1;
    if (data)
        memset(data, 1, piece);
    while (fd >= 0 && done < bytes && write(fd, data, piece) == (ssize_t)piece)
        done += piece;
    bool ok = fd >= 0 && done == bytes && !fsync(fd);
    clock_gettime(CLOCK_MONOTONIC, &b);
    if (fd >= 0) {
        close(fd);
        unlink(name);
    }
    free(name);
    free(data);
    double seconds = (double)(b.tv_sec - a.tv_sec) + 1e-9 * (double)(b.tv_nsec - a.tv_nsec);
    return ok && seconds > 0 ? (double)bytes / seconds : 0;
}

/* Runs the prompt's first tokens, without and with what is recorded, and says how long the whole takes. */
static void estimate_time(struct kvtrace_run *run, const struct kvt_session_sizes *whole, const struct kvt_trace_sizes *f, struct kvtrace_times *t)
{
    const struct kvt_shape *shape = kvt_model_shape(run->model);
    double plain[KVT_N_PHASE], traced[KVT_N_PHASE], step, warm_step;
    size_t kv, all = whole->kv_prefill_bytes + whole->kv_decode_bytes;
    int T = run->prompt.tokens.n, n = T < PIECE_TOK ? T : PIECE_TOK;
    *t = (struct kvtrace_times){ .known = false };
    run_piece(run, T < WARM_TOK ? T : WARM_TOK, false, plain, &warm_step, &kv); /* reads the weights; may be too short for a method */
    if (!run_piece(run, n, false, plain, &step, &kv) || !run_piece(run, n, true, traced, &step, &kv))
        return;
    double grown = (double)T / n, weights = (double)whole->weights_bytes;
    t->known = true;
    t->prefill = 1e-9 * plain[KVT_PHASE_PREFILL] * (run->session.no_full ? grown : prefill_work(shape, T) / prefill_work(shape, n));
    double more = traced[KVT_PHASE_PREFILL] - plain[KVT_PHASE_PREFILL];
    t->traced = more > 0 ? 1e-9 * more * grown * grown : 0;
    t->evict = 1e-9 * (traced[KVT_PHASE_EVICT] + traced[KVT_PHASE_REPEAT]) * grown;
    t->question = 1e-9 * traced[KVT_PHASE_QUESTION];
    t->decode = 1e-9 * step * run->o.n_new * (weights + (double)all) / (weights + (double)kv);
    double streamed = (double)(f->full + f->vectors), rate = streamed > 0 && run->now->path ? disk_rate(run->now->path) : 0;
    if (run->o.compress && rate > 60e6)
        rate = 60e6; /* of one thread's deflate */
    double wait = rate > 0 ? streamed / rate - t->prefill - t->traced : 0;
    t->write = wait > 0 ? wait : 0;
    t->all = t->prefill + t->traced + t->evict + t->question + t->decode + t->write;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

/* What this process holds now: the program and its libraries, the model's metadata, the tokenizer, the prompt. */
static size_t resident(void)
{
    long size = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r"); /* elsewhere it isn't known: 0 */
    if (f && fscanf(f, "%ld %ld", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

static int reckon(struct kvtrace_run *run, struct kvt_session_sizes *m, struct kvt_trace_sizes *f, struct kvt_err *err)
{
    int rc = kvt_session_sizes(run->model, &run->session, &run->wants, m, err);
    memset(f, 0, sizeof *f);
    if (!rc && run->now->path)
        kvtrace_estimate(run, f);
    return rc;
}

static size_t file_bytes(const struct kvt_trace_sizes *f) { return f->scores + f->maps + f->full + f->vectors + f->decisions + f->other; }
static size_t memory_bytes(const struct kvt_session_sizes *m, const struct kvt_trace_sizes *f)
{
    return m->kv_prefill_bytes + m->kv_decode_bytes + m->scores_bytes + m->maps_bytes + m->work_bytes + f->writer;
}

static void put_row(struct kvtrace_run *run, struct kvt_table *t, const char *what, const char *where, size_t bytes, double seconds)
{
    if (run->many)
        kvt_put_text(t, run->now->id);
    kvt_put_text(t, what);
    kvt_put_text(t, where);
    if (seconds < 0)
        kvt_put_int(t, (int64_t)bytes);
    else
        kvt_put_none(t);
    if (seconds < 0)
        kvt_put_none(t);
    else
        kvt_put_real(t, seconds);
}

int kvtrace_print_sizes(struct kvtrace_run *run, struct kvt_err *err)
{
    static const struct kvt_col col[] = { { "prompt", NULL, NULL, KVT_COL_TEXT, 0, true }, { "what", NULL, NULL, KVT_COL_TEXT, 0, false },
                                          { "where", NULL, NULL, KVT_COL_TEXT, 0, false }, { "size", NULL, "bytes", KVT_COL_BYTES, 0, false },
                                          { "time", NULL, "s", KVT_COL_REAL, 2, false } };
    struct kvt_session_sizes m;
    struct kvt_trace_sizes f;
    struct kvtrace_times s;
    int rc = reckon(run, &m, &f, err);
    if (rc)
        return rc;
    size_t held = resident();
    estimate_time(run, &m, &f, &s);
    run->dry_s = s.known ? s.all : (double)NAN;
    const struct { const char *what, *where; size_t bytes; } size[] = {
        { "weights, mapped", "memory", m.weights_bytes }, { "KV, shared prefill", "memory", m.kv_prefill_bytes },
        { "KV, all branches' own", "memory", m.kv_decode_bytes }, { "scores", "memory", m.scores_bytes },
        { "maps and rows", "memory", m.maps_bytes }, { "work", "memory", m.work_bytes },
        { "program, tokenizer, prompt", "memory", held }, { "the trace's writer", "memory", f.writer },
        { "all of these, the run's peak", "memory", held + m.weights_bytes + memory_bytes(&m, &f) },
        { "scores", "trace", f.scores }, { "pooled maps", "trace", f.maps }, { "full maps", "trace", f.full },
        { "queries, keys, values", "trace", f.vectors },
        { "decisions", "trace", f.decisions }, { "steps and the rest", "trace", f.other },
        { "all of these, uncompressed", "trace", file_bytes(&f) } };
    const struct { const char *what; double seconds; } time[] = {
        { "prefill", s.prefill }, { "scores and maps of it", s.traced }, { "eviction", s.evict }, { "question", s.question },
        { "decoding", s.decode }, { "waiting for the disk", s.write }, { "all of these", s.all } };
    bool people = run->o.format == KVT_FORMAT_TABLE;
    struct kvt_table *t = run->table ? run->table : run->many ? kvt_table_new(col, 5) : kvt_table_new(col + 1, 4);
    for (size_t i = 0; i < sizeof size / sizeof *size; i++)
        if (!run->fed || run->now->path || strcmp(size[i].where, "trace")) /* kvbench keeps none */
            put_row(run, t, size[i].what, size[i].where, size[i].bytes, -1);
    for (size_t i = 0; i < sizeof time / sizeof *time && s.known; i++)
        put_row(run, t, time[i].what, "time", 0, time[i].seconds);
    run->table = NULL;
    if (run->many && !people) {
        run->table = t; /* one for all, at the end */
        return 0;
    }
    if (people)
        printf("%s%sprompt%s%s %d tokens, %d shots, %d new tokens, %d branches beside full; sizes of the trace before compression%s\n", run->now > run->item ? "\n" : "",
               "", run->many ? " " : "", run->many ? run->now->id : "", run->prompt.tokens.n, run->n_shots, run->o.n_new, run->n_branches,
               s.known ? "" : "; the time isn't known: a method needs more than the first 512 tokens");
    rc = kvt_table_write(t, stdout, (enum kvt_format)run->o.format, err);
    kvt_table_free(&t);
    return rc;
}

/* ---- before a large run ------------------------------------------------------------------------------------------ */

static bool answered_yes(void)
{
    char line[16] = "";
    if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
        return false;
    fprintf(stderr, "go on? [y/N] ");
    return fgets(line, sizeof line, stdin) && (*line == 'y' || *line == 'Y');
}

int kvtrace_confirm(struct kvtrace_run *run, struct kvt_err *err)
{
    struct kvt_session_sizes m;
    struct kvt_trace_sizes f;
    size_t bytes = 0, memory = 0, full = 0;
    char file_text[32], memory_text[32], left_text[32];
    int rc = 0;
    for (int i = 0; i < run->n_items && !rc; i++) {
        if (run->item[i].done)
            continue;
        rc = kvtrace_begin(run, i, err);
        rc = kvtrace_of_prompt(run, rc ? rc : reckon(run, &m, &f, err), err);
        if (rc)
            return rc;
        bytes += file_bytes(&f);
        full += f.full + f.vectors;
        memory = memory > memory_bytes(&m, &f) ? memory : memory_bytes(&m, &f);
    }
    if (run->o.yes || (bytes <= LARGE_BYTES && memory <= LARGE_BYTES))
        return 0;
    kvt_bytes_text(bytes, file_text, sizeof file_text);
    kvt_bytes_text(memory, memory_text, sizeof memory_text);
    struct statvfs disk;
    char *folder = strdup(run->o.out ? run->o.out : ""), *slash = folder ? strrchr(folder, '/') : NULL;
    if (slash)
        slash[slash == folder] = '\0';
    bool known = bytes && folder && !statvfs(slash ? folder : ".", &disk);
    free(folder);
    uint64_t left = known ? (uint64_t)disk.f_bavail * disk.f_frsize : 0;
    kvt_bytes_text(left, left_text, sizeof left_text);
    if (known && full > left && !run->o.compress)
        return kvt_fail(err, KVT_EIO, "the full maps and dumped vectors alone are larger (the trace: %s) than what the disk has left (%s); --layers, --heads and --compress make them smaller, "
                                      "--yes tries it", file_text, left_text);
    fprintf(stderr, "kvtrace: this run needs up to %s of memory beside the weights and %s of disk%s%s\n", memory_text, file_text, known ? ", which has left " : "", known ? left_text : "");
    return answered_yes() ? 0 : kvt_fail(err, KVT_EUSAGE, "that is more than 2 GB, so it needs --yes (--dry-run says what takes it)");
}
