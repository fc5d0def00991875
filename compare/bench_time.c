/* kvbench --time: one method alone, in batches of independent sequences. All methods and batches take turns, repetition by repetition, so that a
 * machine that slows down slows all of them; each run is a line of the result, and what has a line isn't run again. */
#include "compare/bench_time.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/rng.h"
#include "compare/energy.h"
#include "compare/time_view.h"

enum { SHOTS = 8, SENTENCE_TOK = 16 };

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the timings"); }

/* ---- what is run ---- */

static void put_span(struct kvt_prompt *p, enum kvt_span_kind kind, int start, int end)
{
    struct kvt_span *s = &p->span[p->n_spans++];
    *s = (struct kvt_span){ .kind = kind, .parent = -1, .start = start, .end = end };
}

/* A text of the right length for every method: tokens by chance, eight shots of one length, sentences of 16 tokens, and the last --window tokens for a
 * question. What the tokens are doesn't tell on time. */
static int make_prompt(struct kvt_bench *b, struct kvt_err *err)
{
    struct kvt_prompt *p = &b->run.item[0].prompt;
    int n = b->o.n_prompt, window = b->run.o.window, context = n > window ? n - window : 1, shot = context / SHOTS;
    *p = (struct kvt_prompt){ .text = strdup(""), .question_start = context };
    p->tokens = (struct kvt_tokens){ .n = n, .id = kvt_calloc((size_t)n, sizeof(int32_t)) };
    p->span = kvt_calloc((size_t)(SHOTS + n / SENTENCE_TOK + 1), sizeof *p->span);
    if (!p->text || !p->tokens.id || !p->span)
        return no_memory(err);
    for (int i = 0; i < SHOTS && shot > 0; i++)
        put_span(p, KVT_SPAN_SHOT, i * shot, (i + 1) * shot);
    for (int at = 0; at + SENTENCE_TOK <= context; at += SENTENCE_TOK)
        put_span(p, KVT_SPAN_SENTENCE, at, at + SENTENCE_TOK);
    return 0;
}

static int read_batches(struct kvt_timing *t, struct kvt_err *err)
{
    char **item = NULL;
    int rc = kvt_split(t->b->o.batches, &item, &t->n_batches, "--batch", err);
    if (!rc && !(t->batch = kvt_calloc((size_t)t->n_batches, sizeof *t->batch)))
        rc = no_memory(err);
    for (int i = 0; i < t->n_batches && !rc; i++) {
        rc = kvt_parse_int(item[i], 1, 100000, &t->batch[i], "--batch", err);
        for (int k = 0; k < i && !rc; k++)
            if (t->batch[k] == t->batch[i])
                rc = kvt_fail(err, KVT_EUSAGE, "--batch: %d is asked for twice", t->batch[i]);
    }
    free(item);
    return rc;
}

static int read_memory(struct kvt_timing *t, struct kvt_err *err)
{
    struct kvt_budget amount;
    if (!t->b->o.memory)
        return 0;
    if (strchr(t->b->o.memory, '/') || kvt_budget_parse_amount(&amount, t->b->o.memory, true, NULL))
        return kvt_fail(err, KVT_EUSAGE, "--memory '%.40s' isn't an amount; write 2GB or 500MiB", t->b->o.memory);
    t->memory = (uint64_t)amount.amount;
    return 0;
}

static int make_kinds(struct kvt_timing *t, struct kvt_err *err)
{
    struct kvtrace_run *run = &t->b->run;
    int rc = kvt_spec_parse(&t->full.spec, "full", 4, err);
    t->full.name = "full", t->full.budget = (struct kvt_budget){ .kind = KVT_BUDGET_KEEP, .keep_ppm = 1000000 };
    t->n_kinds = run->n_branches + 1;
    if (!rc && !(t->kind = kvt_calloc((size_t)t->n_kinds, sizeof *t->kind)))
        rc = no_memory(err);
    for (int i = 0; i < t->n_kinds && !rc; i++) {
        t->kind[i] = run->session;
        t->kind[i].branch = i ? &run->branch[i - 1] : &t->full;
        t->kind[i].n_branches = 1, t->kind[i].n_new = t->b->o.n_new;
        t->kind[i].decode = KVT_DECODE_FREE, t->kind[i].stop_at_end = false, t->kind[i].interrupted = t->b->interrupted;
        if (i && run->branch[i - 1].budget.kind == KVT_BUDGET_MATCH)
            rc = kvt_fail(err, KVT_EUSAGE, "--match: with --time each method runs alone, and there is none to follow; give a budget");
    }
    return rc;
}

/* Bytes of this process that are in memory, or 0 where the system doesn't say. */
static uint64_t resident(void)
{
    long size = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (f && fscanf(f, "%ld %ld", &size, &pages) != 2)
        pages = 0;
    if (f)
        fclose(f);
    return (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static int prepare(struct kvt_timing *t, struct kvt_err *err)
{
    struct kvtrace_run *run = &t->b->run;
    run->fed = true, run->n_items = 1;
    run->o.n_new = t->b->o.n_new;
    if (kvt_deal_size(t->b->deal) > 1)
        return kvt_fail(err, KVT_EUSAGE, "--time measures one machine alone; start it without mpirun");
    if (!(run->item = kvt_calloc(1, sizeof *run->item)))
        return no_memory(err);
    int rc = read_batches(t, err), most = 1;
    if (!rc)
        rc = read_memory(t, err);
    if (!rc)
        rc = kvtrace_open_plugins(run, err);
    if (!rc)
        rc = kvtrace_setup(run, err);
    t->resident = resident();
    if (!rc)
        rc = make_prompt(t->b, err);
    if (!rc)
        rc = kvtrace_begin(run, 0, err);
    if (!rc)
        rc = make_kinds(t, err);
    for (int i = 0; i < t->n_batches; i++)
        most = t->batch[i] > most ? t->batch[i] : most;
    return rc ? rc : kvt_batch_open(&t->engine, run->model, t->kind, t->n_kinds, most, err);
}

/* ---- one batch ---- */

static int run_batch(struct kvt_timing *t, const struct kvt_session_opts *o, int n, uint64_t kv_bytes, struct kvt_batch_result *out, struct kvt_err *err)
{
    int rc = kvt_batch_begin(t->engine, o, n, kv_bytes, err);
    if (!rc)
        rc = kvt_batch_prefill(t->engine, err);
    if (!rc)
        rc = kvt_batch_decode(t->engine, err);
    if (!rc)
        rc = kvt_batch_result(t->engine, out, err);
    kvt_batch_end(t->engine);
    return rc;
}

int kvt_timing_run(struct kvt_timing *t, int kind, int n, uint64_t kv_bytes, struct kvt_batch_result *out, struct kvt_err *err)
{
    size_t n_prompt = (size_t)t->b->o.n_prompt;
    uint32_t V = (uint32_t)kvt_model_shape(t->b->run.model)->V;
    struct kvt_session_opts *o = kvt_calloc((size_t)n, sizeof *o);
    int32_t *token = kvt_calloc((size_t)n * n_prompt, sizeof *token);
    int rc = o && token ? 0 : no_memory(err);
    for (int i = 0; i < n && !rc; i++) {
        struct kvt_rng rng;
        kvt_rng_seed(&rng, t->b->run.o.seed + (uint64_t)i);
        for (size_t k = 0; k < n_prompt; k++)
            token[(size_t)i * n_prompt + k] = (int32_t)kvt_rng_below(&rng, V);
        o[i] = t->kind[kind];
        o[i].token = token + (size_t)i * n_prompt;
    }
    if (!rc)
        rc = run_batch(t, o, n, kv_bytes, out, err);
    free(o);
    free(token);
    return rc;
}

/* ---- the result ---- */

static cJSON *run_line(const struct kvt_timing *t)
{
    const struct kvtrace_run *run = &t->b->run;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "kvbench", 1);
    cJSON_AddStringToObject(o, "task", "time");
    cJSON_AddStringToObject(o, "kind", "time");
    cJSON_AddStringToObject(o, "model", kvt_model_shape(run->model)->name);
    cJSON_AddNumberToObject(o, "model_bytes", (double)kvt_model_bytes(run->model));
    cJSON_AddNumberToObject(o, "prompt_tokens", t->b->o.n_prompt);
    cJSON_AddNumberToObject(o, "new_tokens", t->b->o.n_new);
    cJSON_AddStringToObject(o, "protocol", kvtrace_protocols[run->o.protocol]);
    cJSON_AddNumberToObject(o, "window", run->o.window);
    cJSON_AddStringToObject(o, "compute", kvt_compute_names[run->session.compute]);
    cJSON_AddStringToObject(o, "kv_type", kvtrace_kv_types[run->o.kv_type]);
    cJSON_AddStringToObject(o, "backend", run->session.ops->name);
    cJSON_AddNumberToObject(o, "threads", run->o.threads);
    cJSON_AddStringToObject(o, "machine", kvt_batch_device(t->engine));
    kvt_result_made(o, run->command_line);
    return o;
}

static int open_result(struct kvt_timing *t, struct kvt_err *err)
{
    struct kvt_bench *b = t->b;
    int at, rc = kvt_result_open(&b->result, b->o.out, run_line(t), err);
    for (int i = 0; i < t->n_kinds && !rc; i++) {
        const struct kvt_branch_opts *o = t->kind[i].branch;
        rc = kvt_result_branch(&b->result, &(struct kvt_result_branch){ .name = o->name, .method = o->spec.method->name, .canonical = o->spec.canonical,
            .asked = i ? b->run.asked[i - 1] : "100%", .renumbered = o->spec.policy.renumber }, &at, err);
    }
    return rc;
}

static double number_of(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(v) ? v->valuedouble : -1;
}

/* A run that failed is tried again by the next command. */
static bool done(const struct kvt_timing *t, int kind, int batch, int repeat)
{
    for (const cJSON *o = t->b->result.times ? t->b->result.times->child : NULL; o; o = o->next) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(o, "time");
        if (cJSON_IsString(name) && !strcmp(name->valuestring, t->kind[kind].branch->name) && (int)number_of(o, "batch") == batch &&
            (int)number_of(o, "repeat") == repeat && !cJSON_GetObjectItemCaseSensitive(o, "failed"))
            return true;
    }
    return false;
}

static int measure(struct kvt_timing *t, int kind, int batch, int repeat, bool *fits, struct kvt_err *err)
{
    struct kvt_batch_result r = { 0 };
    struct kvt_energy before, after;
    struct kvt_err why = { 0 };
    kvt_energy_read(&before, KVT_ENERGY_DIR);
    int rc = kvt_timing_run(t, kind, batch, 0, &r, &why);
    kvt_energy_read(&after, KVT_ENERGY_DIR);
    double joules = kvt_energy_joules(&before, &after);
    if (rc && rc != KVT_ENOMEM)
        return kvt_fail(err, rc, "%s", why.text);
    *fits = !rc;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "time", t->kind[kind].branch->name);
    cJSON_AddNumberToObject(o, "batch", batch);
    cJSON_AddNumberToObject(o, "repeat", repeat);
    if (rc)
        cJSON_AddStringToObject(o, "failed", why.text);
    else {
        cJSON_AddNumberToObject(o, "prefill_s", 1e-9 * (double)r.prefill_ns);
        cJSON_AddNumberToObject(o, "evict_s", 1e-9 * (double)r.evict_ns);
        cJSON_AddNumberToObject(o, "question_s", 1e-9 * (double)r.question_ns);
        cJSON_AddNumberToObject(o, "decode_s", 1e-9 * (double)r.decode_ns);
        cJSON_AddNumberToObject(o, "step_evict_s", 1e-9 * (double)r.step_evict_ns);
        cJSON_AddNumberToObject(o, "tokens", r.tokens);
        cJSON_AddNumberToObject(o, "kv_first", (double)r.kv_first);
        cJSON_AddNumberToObject(o, "kv_last", (double)r.kv_last);
        cJSON_AddNumberToObject(o, "kv_peak", (double)r.kv_peak);
        if (joules >= 0) /* not NaN */
            cJSON_AddNumberToObject(o, "joules", joules);
    }
    return kvt_result_note(&t->b->result, o, err);
}

static int left_of(const struct kvt_timing *t)
{
    int left = 0;
    for (int r = 1; r <= t->b->o.repeats; r++)
        for (int i = 0; i < t->n_batches; i++)
            for (int k = 0; k < t->n_kinds; k++)
                left += !done(t, k, t->batch[i], r);
    return left;
}

static int measure_all(struct kvt_timing *t, int *ran, struct kvt_err *err)
{
    bool *small = kvt_calloc((size_t)t->n_batches * (size_t)t->n_kinds, sizeof *small); /* no memory for it: one try is enough */
    struct kvt_batch_result warm;
    int rc = small ? kvt_timing_run(t, 0, 1, 0, &warm, err) : no_memory(err); /* weights are read, tables made */
    for (int r = 1; r <= t->b->o.repeats && !rc; r++)
        for (int i = 0; i < t->n_batches && !rc; i++)
            for (int k = 0; k < t->n_kinds && !rc; k++) {
                bool *no = &small[i * t->n_kinds + k], fits = true;
                if (*no || done(t, k, t->batch[i], r))
                    continue;
                rc = measure(t, k, t->batch[i], r, &fits, err);
                *no = !fits;
                *ran += !rc;
                if (!t->b->o.quiet)
                    kvt_progress_at(&t->progress, *ran);
            }
    free(small);
    return rc;
}

/* --dry-run: each method once with one sequence; a batch takes no longer than its sequences one by one. */
static int dry_run(struct kvt_timing *t, struct kvt_err *err)
{
    struct kvt_batch_result one;
    struct kvt_batch_room room;
    double seconds = 0;
    int rc = kvt_timing_run(t, 0, 1, 0, &one, err), all = 0, most = 0; /* reads the weights */
    char text[40];
    for (int i = 0; i < t->n_batches; i++)
        all += t->batch[i], most = t->batch[i] > most ? t->batch[i] : most;
    printf("runs      %d: %d methods and the full cache x %d batches x %d repetitions\n", t->n_kinds * t->n_batches * t->b->o.repeats, t->n_kinds - 1, t->n_batches, t->b->o.repeats);
    for (int k = 0; k < t->n_kinds && !rc; k++) {
        rc = kvt_timing_run(t, k, 1, 0, &one, err);
        if (!rc)
            rc = kvt_batch_room(t->b->run.model, &t->kind[k], most, 0, &room, err);
        if (rc)
            break;
        seconds += 1e-9 * (double)(one.prefill_ns + one.evict_ns + one.question_ns + one.decode_ns) * all * t->b->o.repeats;
        printf("%-9s batch %d: weights %.1f MB, work %.1f MB, KV %.1f MB\n", t->kind[k].branch->name, most, (double)room.weights / 1e6, (double)room.work / 1e6, (double)kvt_timing_kv(&one, (uint64_t)most) / 1e6);
    }
    if (!rc)
        printf("time      at most %s%s\n", kvt_time_text(seconds, text, sizeof text), t->memory ? ", and the largest batches" : "");
    return rc;
}

int kvt_bench_time(struct kvt_bench *b, struct kvt_err *err)
{
    struct kvt_timing t = { .b = b };
    int rc = prepare(&t, err), left = 0, ran = 0;
    if (!rc && b->o.dry_run)
        rc = dry_run(&t, err);
    else if (!rc)
        rc = open_result(&t, err);
    if (!rc && !b->o.dry_run)
        left = left_of(&t);
    bool tell = !rc && !b->o.dry_run && !b->o.quiet;
    if (tell) {
        fprintf(stderr, "kvbench: %d runs%s, %d methods beside the full cache\n", left, left < b->o.repeats * t.n_batches * t.n_kinds ? " left" : "", t.n_kinds - 1);
        kvt_progress_start(&t.progress, stderr, "time", "runs", left);
    }
    if (!rc && left)
        rc = measure_all(&t, &ran, err);
    if (tell)
        kvt_progress_end(&t.progress);
    if (!rc && t.memory && !b->o.dry_run)
        rc = kvt_timing_largest(&t, err);
    if (rc == KVT_EINTR)
        kvt_fail(err, rc, "interrupted; %d of %d runs are in %s, and the same command goes on", ran, left, b->o.out);
    kvt_batch_close(&t.engine);
    free(t.kind);
    free(t.batch);
    return rc;
}

int kvt_bench_time_tables(const struct kvt_bench_options *o, const struct kvt_result *r, struct kvt_err *err)
{
    bool people = o->format == KVT_FORMAT_TABLE;
    int rc = 0;
    if (people)
        kvt_time_head(r, stdout);
    for (int what = 0; what < KVT_TIME_TABLES && !rc; what++) {
        struct kvt_table *t = NULL;
        if (!people && what != o->show)
            continue;
        rc = kvt_time_table(r, (enum kvt_time_table)what, &t, err);
        if (!rc && people && kvt_table_rows(t))
            putchar('\n');
        if (!rc && (!people || kvt_table_rows(t)))
            rc = kvt_table_write(t, stdout, (enum kvt_format)o->format, err);
        kvt_table_free(&t);
    }
    return rc;
}
