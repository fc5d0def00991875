/* kvinfo: what a trace holds, how it was made, whether it is whole, where its bytes are. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/args.h"
#include "base/table.h"
#include "kvt/trace.h"
#include "tracer/embedded.h"
#include "tracer/kvinfo_check.h"
#include "tracer/kvinfo_export.h"
#include "tracer/kvinfo_follow.h"
#include "tracer/kvinfo_model.h"
#include "tracer/kvinfo_schema.h"
#include "tracer/kvinfo_time.h"
#include "tracer/schema.h"
#include "tracer/trace_repair.h"

enum view { VIEW_ALL, VIEW_RUN, VIEW_BRANCHES, VIEW_SIZES };
static const char *const view_names[] = {"all", "run", "branches", "sizes", NULL};

struct opts {
    int format, view;
    const char *prompt, *model;
    struct kvinfo_export export;
    int length;
    bool snippet, schema, repair, follow, check, time, length_given;
};

/* One pair of name and value: a row for programs (t), a line for people (t NULL), who want all of it. */
static void pair(struct kvt_table *t, const char *name, const char *value)
{
    if (!t) {
        printf("%-16s %s\n", name, value);
        return;
    }
    kvt_put_text(t, name);
    kvt_put_text(t, value);
}

static void __attribute__((format(printf, 3, 4))) pairf(struct kvt_table *t, const char *name, const char *fmt, ...)
{
    char buf[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    pair(t, name, buf);
}

static void add_word(char *list, size_t cap, const char *word)
{
    size_t n = strlen(list);
    snprintf(list + n, cap - n, "%s%s", n ? ", " : "", word);
}

static int show_run(const struct kvt_trace_info *in, const struct opts *o, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "name", .kind = KVT_COL_TEXT}, {.name = "value", .kind = KVT_COL_TEXT}};
    bool people = o->format == KVT_FORMAT_TABLE;
    struct kvt_table *t = people ? NULL : kvt_table_new(col, 2);
    struct stat sb;
    if (!people && !t)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    char size[32];
    pair(t, "file", in->path);
    pair(t, "status", in->status);
    if (!stat(in->path, &sb))
        pair(t, "size", o->format == KVT_FORMAT_TABLE ? kvt_bytes_text((uint64_t)sb.st_size, size, sizeof size)
                                                      : (snprintf(size, sizeof size, "%lld", (long long)sb.st_size), size));
    pair(t, "prompt", in->prompt_id);
    if (strchr(in->prompts, ','))
        pair(t, "prompts", in->prompts);
    pairf(t, "shape", "%d layers, %d heads over %d kv heads of %d, vocabulary %d", in->L, in->H, in->G, in->D, in->V);
    pairf(t, "tokens", "%d of the prompt, %d of them context; %d generated of %d asked", in->n_prompt, in->n_context, in->n_steps, in->n_new);
    pairf(t, "spans", "%d", in->n_spans);
    pairf(t, "branches", "%d", in->n_branches);
    char seen[160] = "", text[24];
    const struct { bool has; const char *name; } see[] = {{in->has_scores, "mass, wmass, last, entropy, sink"}, {in->has_visible, "visible"},
        {in->has_square, "square"}, {in->has_max, "max"}, {in->has_keys, "keys"}, {in->has_local, "local"}, {in->has_decode, "generated tokens' rows"}};
    for (size_t i = 0; i < sizeof see / sizeof *see; i++)
        if (see[i].has)
            add_word(seen, sizeof seen, see[i].name);
    if (in->n_distances)
        add_word(seen, sizeof seen, "distance");
    for (int i = 0; i < 3; i++) {
        const int n[] = {in->n_offsets, in->n_map_spans, in->top_k};
        snprintf(text, sizeof text, i == 2 ? "top %d" : i ? "%d spans" : "%d offsets", n[i]);
        if (n[i])
            add_word(seen, sizeof seen, text);
    }
    pairf(t, "scores", "%s", *seen ? seen : "none");
    if (in->map_r)
        pairf(t, "maps", "pooled, %d x %d%s", in->map_r, in->map_c, in->has_full ? "; full rows of some layers and heads" : "");
    else
        pair(t, "maps", in->has_full ? "full rows of some layers and heads" : "none");
    if (in->kv_peak >= 0)
        pair(t, "KV peak", people ? kvt_bytes_text((uint64_t)in->kv_peak, size, sizeof size)
                                  : (snprintf(size, sizeof size, "%lld", (long long)in->kv_peak), size));
    if (in->beyond_f16 > 0)
        pairf(t, "beyond f16", "%lld sums of products, taken in f64", (long long)in->beyond_f16);
    pairf(t, "dropped", "%lld", (long long)in->dropped);
    pair(t, "model sha256", *in->model_sha256 ? in->model_sha256 : "the run ended before it was known");
    pairf(t, "logits hash", "%016llx", (unsigned long long)in->logits_hash);
    for (int i = 0; i < in->n_phases; i++)
        pairf(t, in->phase[i].name, "%.3f s, %d tokens", (double)in->phase[i].dur_ns * 1e-9, in->phase[i].n_tok);
    for (int i = 0; i < in->n_attrs; i++)
        pair(t, in->attr[i].name, in->attr[i].value);
    int rc = people ? KVT_OK : kvt_table_write(t, stdout, (enum kvt_format)o->format, err);
    kvt_table_free(&t);
    return rc;
}

static void put_bytes(struct kvt_table *t, int64_t bytes)
{
    if (bytes < 0)
        kvt_put_none(t);
    else
        kvt_put_int(t, bytes);
}

static int show_branches(const struct kvt_trace_info *in, const struct opts *o, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT},
        {.name = "method", .kind = KVT_COL_TEXT, .programs_only = true},
        {.name = "schedule", .kind = KVT_COL_TEXT, .programs_only = true},
        {.name = "asked", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "asked_tok", .unit = "tokens", .kind = KVT_COL_INT, .programs_only = true},
        {.name = "effective", .title = "kept", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "bytes_after", .title = "KV after", .kind = KVT_COL_BYTES},
        {.name = "bytes_last", .title = "KV last", .kind = KVT_COL_BYTES},
        {.name = "bytes_peak", .title = "KV peak", .kind = KVT_COL_BYTES},
        {.name = "bytes_mean", .kind = KVT_COL_REAL, .programs_only = true},
        {.name = "mean_kl", .title = "KL", .unit = "nats", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "top1", .title = "top-1", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "diverged", .unit = "step", .kind = KVT_COL_TEXT},
        {.name = "fallback", .kind = KVT_COL_BOOL, .programs_only = true},
        {.name = "canonical", .kind = KVT_COL_TEXT},
        {.name = "note", .kind = KVT_COL_TEXT, .programs_only = true},
        {.name = "text", .kind = KVT_COL_TEXT, .programs_only = true}};
    bool people = o->format == KVT_FORMAT_TABLE;
    struct kvt_table *t = kvt_table_new(col, sizeof col / sizeof *col);
    for (int i = in->no_full; i < in->n_branches; i++) {
        const struct kvt_trace_branch *b = &in->branch[i];
        char step[16];
        snprintf(step, sizeof step, "%d", b->diverged);
        kvt_put_text(t, b->name);
        kvt_put_text(t, b->method);
        kvt_put_text(t, b->schedule);
        kvt_put_real(t, b->asked_keep);
        kvt_put_int(t, b->asked_tok);
        kvt_put_real(t, b->effective_keep);
        put_bytes(t, b->bytes_after);
        put_bytes(t, b->bytes_last);
        put_bytes(t, b->bytes_peak);
        kvt_put_real(t, b->bytes_mean);
        kvt_put_real(t, b->mean_kl);
        kvt_put_real(t, b->top1);
        kvt_put_text(t, b->diverged < 0 ? NULL : people && !b->diverged ? "never" : step);
        kvt_put_bool(t, b->fallback);
        kvt_put_text(t, b->canonical);
        kvt_put_text(t, b->note);
        kvt_put_text(t, b->text);
    }
    int rc = kvt_table_write(t, stdout, (enum kvt_format)o->format, err);
    kvt_table_free(&t);
    for (int i = 0; people && i < in->n_branches; i++)
        if (*in->branch[i].note)
            printf("%s: %s%s\n", in->branch[i].name, in->branch[i].fallback ? "fallback: " : "", in->branch[i].note);
    return rc;
}

/* ---- sizes ------------------------------------------------------------------------------------------------------- */

struct group { char name[64]; uint64_t stored, logical; int n; const char *meaning; };
struct groups { struct group g[KVT_N_DATASET]; int n; };

/* Branches' datasets of one name are one line. */
static void add_size(void *arg, const char *path, uint64_t stored, uint64_t logical, const char *unit, const char *meaning)
{
    struct groups *all = arg;
    char name[64];
    (void)unit;
    const char *in_branch = strncmp(path, "branches/", 9) ? NULL : strchr(path + 9, '/');
    if (in_branch)
        snprintf(name, sizeof name, "branches/*%.50s", in_branch);
    else
        snprintf(name, sizeof name, "%.63s", path);
    int i = 0;
    while (i < all->n && strcmp(all->g[i].name, name))
        i++;
    if (i == KVT_N_DATASET)
        return;
    if (i == all->n) {
        memcpy(all->g[i].name, name, sizeof name);
        all->g[i].meaning = meaning;
        all->n++;
    }
    all->g[i].stored += stored;
    all->g[i].logical += logical;
    all->g[i].n++;
}

static int larger(const void *a, const void *b)
{
    const struct group *x = a, *y = b;
    return x->stored < y->stored ? 1 : x->stored > y->stored ? -1 : strcmp(x->name, y->name);
}

static int show_sizes(struct kvt_trace *tr, const struct opts *o, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "data", .kind = KVT_COL_TEXT},
                                         {.name = "datasets", .kind = KVT_COL_INT},
                                         {.name = "stored", .unit = "bytes", .kind = KVT_COL_BYTES},
                                         {.name = "unpacked", .unit = "bytes", .kind = KVT_COL_BYTES},
                                         {.name = "meaning", .kind = KVT_COL_TEXT, .programs_only = true}};
    bool people = o->format == KVT_FORMAT_TABLE;
    struct groups *all = calloc(1, sizeof *all);
    if (!all)
        return kvt_fail(err, KVT_ENOMEM, "no memory");
    int rc = kvt_trace_walk(tr, add_size, all, err);
    struct kvt_table *t = kvt_table_new(col, 5);
    qsort(all->g, (size_t)all->n, sizeof *all->g, larger);
    uint64_t rest_stored = 0, rest_logical = 0;
    int rest = 0;
    for (int i = 0; !rc && i < all->n; i++) {
        const struct group *g = &all->g[i];
        if (people && i >= 12) { /* the small ones in one line */
            rest_stored += g->stored;
            rest_logical += g->logical;
            rest += g->n;
            continue;
        }
        kvt_put_text(t, g->name);
        kvt_put_int(t, g->n);
        kvt_put_int(t, (int64_t)g->stored);
        kvt_put_int(t, (int64_t)g->logical);
        kvt_put_text(t, g->meaning);
    }
    if (rest) {
        kvt_put_text(t, "all others");
        kvt_put_int(t, rest);
        kvt_put_int(t, (int64_t)rest_stored);
        kvt_put_int(t, (int64_t)rest_logical);
        kvt_put_none(t);
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)o->format, err);
    kvt_table_free(&t);
    free(all);
    return rc;
}

/* What a reader should know before believing the rest; to stderr, so that data stays data. */
static void warn(const struct kvt_trace_info *in, const char *asked)
{
    if (strcmp(in->path, asked))
        fprintf(stderr, "kvinfo: %s doesn't exist (yet); this is %s\n", asked, in->path);
    if (!strcmp(in->status, "in_progress"))
        fprintf(stderr, "kvinfo: the run goes on, or was killed: %d of %d tokens so far (kvinfo --repair %s makes a killed one "
                        "an ordinary file)\n", in->n_steps, in->n_new, in->path);
    else if (strcmp(in->status, "complete"))
        fprintf(stderr, "kvinfo: the run %s after %d of %d tokens\n", strcmp(in->status, "failed") ? "was interrupted" : "failed",
                in->n_steps, in->n_new);
    if (in->no_full)
        fprintf(stderr, "kvinfo: no uncompressed branch ran (--no-full): nothing is compared with it, and the prompt has no scores and maps\n");
    if (in->dropped)
        fprintf(stderr, "kvinfo: %lld maps or runs of rows are missing: the writer could not follow (policy drop)\n", (long long)in->dropped);
}

static int show(const char *path, const struct opts *o, struct kvt_err *err)
{
    struct kvt_trace *t;
    int rc = kvt_trace_open(&t, path, o->prompt, err);
    if (rc)
        return rc;
    const struct kvt_trace_info *in = kvt_trace_info(t);
    warn(in, path);
    bool all = o->view == VIEW_ALL;
    if (all || o->view == VIEW_RUN)
        rc = show_run(in, o, err);
    if (!rc && (all || o->view == VIEW_BRANCHES)) {
        if (all)
            printf("\n");
        rc = show_branches(in, o, err);
    }
    if (!rc && (all || o->view == VIEW_SIZES)) {
        if (all)
            printf("\n");
        rc = show_sizes(t, o, err);
    }
    kvt_trace_close(&t);
    return rc;
}

int main(int argc, char **argv)
{
    struct opts o = {0};
    const struct kvt_opt opt[] = {
        {.name = "view", .type = KVT_OPT_CHOICE, .to = &o.view, .value = "WHAT", .choices = view_names,
         .help = "run: what it holds and how it was made; branches; sizes; all (for people only)"},
        {.name = "format", .type = KVT_OPT_CHOICE, .to = &o.format, .value = "FORMAT", .choices = kvt_format_names,
         .help = "table, or one view for programs (branches unless --view says another)"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o.prompt, .value = "ID", .help = "which prompt of the file; default: the first"},
        {.name = "follow", .type = KVT_OPT_FLAG, .to = &o.follow,
         .help = "show a run while it is written, a line for each layer, phase and step, until it ends"},
        {.name = "repair", .type = KVT_OPT_FLAG, .to = &o.repair,
         .help = "make the .part of a killed run an ordinary file: clears its mark of being written, says interrupted"},
        {.name = "check", .type = KVT_OPT_FLAG, .to = &o.check,
         .help = "hold the trace against its format: types, shapes, units, ranges, and what must hold between values"},
        {.name = "time", .type = KVT_OPT_FLAG, .to = &o.time,
         .help = "where the time went, by phase and operation: of the GPU with kvtrace --profile (with the share of its memory's bandwidth), else of the host"},
        {.name = "export", .type = KVT_OPT_STRING, .to = &o.export.name, .value = "NAME",
         .help = "write a dataset, as score/mass or branches/01/evicted_at, or a dimension; perfetto: the run's times, as Chrome's trace events"},
        {.name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &o.export.out, .value = "FILE", .help = "with --export: where to; default: standard output"},
        {.name = "as", .type = KVT_OPT_CHOICE, .to = &o.export.as, .given = &o.export.as_given, .value = "KIND", .choices = kvinfo_export_kinds,
         .help = "with --export: tsv, json or npy; default: what FILE ends in, else tsv"},
        {.name = "snippet", .type = KVT_OPT_FLAG, .to = &o.snippet, .help = "print five lines of Python that open this very trace"},
        {.name = "model", .letter = 'm', .type = KVT_OPT_STRING, .to = &o.model, .value = "MODEL",
         .help = "instead of a trace: what a model is, a GGUF file or a Hugging Face folder; embedded: the one that comes with kvtrace"},
        {.name = "length", .letter = 'n', .type = KVT_OPT_INT, .to = &o.length, .given = &o.length_given, .value = "N", .min = 1, .max = 1 << 30,
         .help = "with -m, tokens for which the cache's memory is reckoned; default: the model's context"},
        {.name = "schema", .type = KVT_OPT_FLAG, .to = &o.schema, .help = "print the format of traces (docs/trace-format.md)"},
    };
    const struct kvt_cli cli = {.tool = "kvinfo", .operands = "run.h5", .min_operands = 0, .max_operands = 1,
                                .about = "Shows what a trace holds, how it was made, whether it is whole, and where its bytes are; or what a model is.",
                                .example = "kvinfo run.h5", .opt = opt, .n_opts = sizeof opt / sizeof *opt};
    struct kvt_args args;
    struct kvt_err err;
    int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (rc)
        return kvt_args_end(&cli, rc, &err);
    if (o.schema) {
        if (o.format == KVT_FORMAT_TSV)
            kvt_schema_table(stdout);
        else
            kvt_schema_print(stdout);
        return 0;
    }
    if (o.model && (args.n || o.repair || o.check || o.time || o.export.name || o.snippet || o.prompt || o.view != VIEW_ALL))
        return kvt_args_end(&cli, kvt_fail(&err, KVT_EUSAGE, "-m shows a model, not a trace; leave out what belongs to a trace"), &err);
    if ((o.export.out || o.export.as_given) && !o.export.name)
        return kvt_args_end(&cli, kvt_fail(&err, KVT_EUSAGE, "%s goes with --export NAME", o.export.out ? "--out" : "--as"), &err);
    if (o.check + !!o.export.name + o.snippet + o.follow + o.time > 1)
        return kvt_args_end(&cli, kvt_fail(&err, KVT_EUSAGE, "one of --check, --export, --snippet, --follow and --time at a time"), &err);
    if (o.length_given && !o.model)
        return kvt_args_end(&cli, kvt_fail(&err, KVT_EUSAGE, "--length goes with -m MODEL"), &err);
    if (o.model) {
        char path[KVT_EMBEDDED_PATH];
        rc = kvt_embedded_asked(o.model) ? kvt_embedded_find(path, &err) : 0;
        if (rc)
            return kvt_args_end(&cli, rc, &err);
        rc = kvinfo_model(kvt_embedded_asked(o.model) ? path : o.model, o.length, (enum kvt_format)o.format, &err);
        return rc ? kvt_args_end(&cli, rc, &err) : 0;
    }
    if (!args.n)
        return kvt_args_end(&cli, kvt_fail(&err, KVT_EUSAGE, "which trace? kvinfo run.h5"), &err);
    if (o.follow && (o.repair || o.format != KVT_FORMAT_TABLE || o.view != VIEW_ALL))
        return kvt_args_end(&cli, kvt_fail(&err, KVT_EUSAGE, "--follow shows lines for people; leave out --repair, --format and --view"), &err);
    if (o.follow) {
        rc = kvinfo_follow(args.operand[0], o.prompt, &err);
        return rc ? kvt_args_end(&cli, rc, &err) : 0;
    }
    if (o.format != KVT_FORMAT_TABLE && o.view == VIEW_ALL)
        o.view = VIEW_BRANCHES;
    if (o.repair)
        rc = kvt_trace_repair(args.operand[0], &err);
    if (!rc && o.check)
        rc = kvinfo_check(args.operand[0], o.prompt, (enum kvt_format)o.format, &err);
    else if (!rc && o.time)
        rc = kvinfo_time(args.operand[0], o.prompt, (enum kvt_format)o.format, &err);
    else if (!rc && o.export.name)
        rc = kvinfo_export(args.operand[0], o.prompt, &o.export, &err);
    else if (!rc)
        rc = o.snippet ? kvinfo_snippet(args.operand[0], o.prompt, &err) : show(args.operand[0], &o, &err);
    return rc ? kvt_args_end(&cli, rc, &err) : 0;
}
