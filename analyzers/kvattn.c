/* kvattn: where does attention go, layer by layer and head by head; how does that change from prefill to decode, and between two traces?
 *
 * Definitions: docs/measures.md, section 6. */
#include "analyzers/kvattn.h"

#include <stdlib.h>
#include <string.h>

#include "analyzers/needles.h"
#include "analyzers/probe_file.h"
#include "base/args.h"
#include "base/mem.h"
#include "base/progress.h"
#include "tracer/spin.h"

static const char *const shows[KVATTN_N_SHOW + 1] = {
#define X(id, name, prefill, decode) name,
    KVATTN_SHOW_MAP(X)
#undef X
    NULL};

int kvattn_end(const struct kvattn *r, int rc, struct kvt_table **t, struct kvt_err *err)
{
    if (!rc)
        rc = kvt_table_write(*t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(t);
    return rc;
}

static int load_heads(struct kvattn *r, struct kvt_err *err)
{
    struct kvt_progress bar;
    size_t H = (size_t)r->info->H, heads = (size_t)r->info->L * H;
    r->head = kvt_calloc(heads, sizeof *r->head);
    int rc = r->head ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu heads", heads);
    for (size_t i = 0; !rc && i < heads; i++)
        r->head[i] = kvt_head_unknown;
    kvt_progress_start(&bar, stderr, "heads", "layers", r->info->L);
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (r->layer[l])
            rc = kvt_heads_of(r->trace, l, r->head + (size_t)l * H, err);
        kvt_progress_at(&bar, l + 1);
    }
    kvt_progress_end(&bar);
    return rc;
}

static int load_decoded(struct kvattn *r, struct kvt_err *err)
{
    size_t H = (size_t)r->info->H, heads = (size_t)r->info->L * H;
    r->decoded = kvt_calloc(heads, sizeof *r->decoded);
    int rc = r->decoded ? kvt_heads_decoded(r->trace, r->decoded, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %zu heads", heads);
    for (size_t i = 0; !rc && i < heads; i++)
        if (!r->layer[i / H])
            r->decoded[i] = kvt_head_unknown;
    return rc;
}

static int open_run(struct kvattn *r, const char *path, struct kvt_err *err)
{
    static const struct { bool prefill, decode; } needs[] = {
#define X(id, name, p, d) {p, d},
        KVATTN_SHOW_MAP(X)
#undef X
    };
    r->path = path;
    int rc = kvt_trace_open(&r->trace, path, r->o.prompt, err);
    if (rc)
        return rc;
    r->info = kvt_trace_info(r->trace);
    kvt_warn_partial(r->info, "kvattn", path, stderr);
    r->layer = kvt_calloc((size_t)r->info->L, 1);
    if (!r->layer)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", r->info->L);
    rc = kvt_parse_mask(r->o.layers ? r->o.layers : "all", r->info->L, r->layer, "--layers", err);
    if (!rc && needs[r->o.show].prefill)
        rc = load_heads(r, err);
    if (!rc && needs[r->o.show].prefill && r->o.probes)
        rc = kvt_probe_file_read(r->o.probes, r->o.force ? "" : r->info->model_sha256, r->info->L, r->info->H, r->head, err);
    if (!rc && (needs[r->o.show].decode || ((r->o.compare || r->o.show == KVATTN_LABELS) && r->info->has_decode)))
        rc = load_decoded(r, err);
    return rc;
}

static void close_run(struct kvattn *r)
{
    free(r->layer);
    free(r->head);
    free(r->decoded);
    kvt_trace_close(&r->trace);
}

static void say_what(const struct kvattn *r)
{
    const struct kvt_trace_info *in = r->info;
    bool decode = r->o.show == KVATTN_DECODE || r->o.show == KVATTN_CHANGE;
    printf("%s, prompt of %d tokens: attention of the prefill, rows that see 32 keys or more", in->model_name, in->n_prompt);
    if (decode)
        printf(";\nand of %d generated tokens", in->n_steps);
    puts(".");
    switch (r->o.show) {
    case KVATTN_LAYERS:
    case KVATTN_HEADS:
        printf("even: entropy / ln(visible keys). keys: e to the entropy. Mass on token 0, the first\n%d tokens, the newest %d, the row's own, the one before. 90%% on: the share of tokens that\n"
               "hold 90 %% of the mass; no sinks: without the first %d.\n\n", in->n_sink, in->n_local ? in->n_local : 32, in->n_sink);
        break;
    case KVATTN_SHOTS:
        puts("selectivity: does a row of the question single out some shots (1) or spread over all of\nthem alike, token for token (0)? Mean over its rows and the heads of the layer.\n");
        break;
    case KVATTN_DECODE: puts("then: the same of generated tokens' rows. own: their mass on generated tokens.\n"); break;
    case KVATTN_CHANGE: puts("d: mean over heads of the change, over its standard deviation. Spans: mass of the\nquestion's rows, and of generated tokens' rows.\n"); break;
    default: putchar('\n');
    }
}

static int show(struct kvattn *r, struct kvt_err *err)
{
    if (r->o.show == KVATTN_GATES)
        return kvattn_gates(r, err);
    if (r->o.format == KVT_FORMAT_TABLE)
        say_what(r);
    switch ((enum kvattn_show)r->o.show) {
    case KVATTN_HEADS: return kvattn_head_table(r, err);
    case KVATTN_LABELS: return kvattn_label_table(r, err);
    case KVATTN_SINKS: return kvattn_sink_table(r, err);
    case KVATTN_DISTANCES: return kvattn_distance_table(r, err);
    case KVATTN_SPANS: return kvattn_span_table(r, err);
    case KVATTN_SHOTS: return kvattn_shot_table(r, err);
    case KVATTN_DECODE: return kvattn_decode_table(r, err);
    case KVATTN_CHANGE: return kvattn_change_table(r, err);
    case KVATTN_LAYERS:
    case KVATTN_GATES:
    case KVATTN_N_SHOW: break;
    }
    return kvattn_layer_table(r, err);
}

int main(int argc, char **argv)
{
    struct kvattn r = {0}, other = {0};
    struct kvattn_options *o = &r.o;
    const struct kvt_opt opt[] = {
        {.name = "show", .type = KVT_OPT_CHOICE, .to = &o->show, .value = "WHAT", .def = "layers", .choices = shows,
         .help = "means of layers; every head; which labels hold where; gates of kv heads, for duoattention; tokens that act as sinks; mass by distance; from span to span; which shots the question looks at; "
                 "generated tokens' rows beside the prompt's, by layer; and in all"},
        {.name = "compare", .type = KVT_OPT_FLAG, .to = &o->compare, .help = "two traces: each measure, head against head, with its effect size"},
        {.name = "layers", .type = KVT_OPT_STRING, .to = &o->layers, .value = "0,3,8-11", .help = "only these layers"},
        {.name = "sink", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_SINK], .value = "X", .def = "0.3", .max = 1, .help = "a head is a sink head from this mass on token 0 on"},
        {.name = "previous", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_PREVIOUS], .value = "X", .def = "0.4", .max = 1, .help = "... looks back by one, from this mass on the token before"},
        {.name = "local", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_LOCAL], .value = "X", .def = "0.6", .max = 1, .help = "... is local, from this mass on the newest tokens"},
        {.name = "uniform", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_UNIFORM], .value = "X", .def = "0.9", .max = 1, .help = "... is uniform, from this evenness on"},
        {.name = "induction", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_INDUCTION], .value = "X", .def = "0.4", .max = 1, .help = "... finds what came after the same token before (with --probes)"},
        {.name = "duplicate", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_DUPLICATE], .value = "X", .def = "0.4", .max = 1, .help = "... finds the same token before"},
        {.name = "retrieval", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_RETRIEVAL], .value = "X", .def = "0.1", .max = 1, .help = "... copies from a needle in a long text"},
        {.name = "token-sink", .type = KVT_OPT_DOUBLE, .to = &o->sink, .value = "X", .def = "0.3", .max = 1, .help = "--show sinks: a token whose mean weight in some head is above this"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o->prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "force", .type = KVT_OPT_FLAG, .to = &o->force, .help = "compare traces of different models all the same; without equal numbers of heads as two groups"},
        {.name = "probes", .type = KVT_OPT_STRING, .to = &o->probes, .value = "FILE", .help = "what --probe -o wrote of this model: its labels stand beside the others"},
        {.help = "probes: a run of their own"},
        {.name = "probe", .type = KVT_OPT_FLAG, .to = &o->probe, .help = "run the model on repeated random tokens and on needles in a text, and say which heads copy"},
        {.name = "model", .letter = 'm', .type = KVT_OPT_STRING, .to = &o->model, .value = "FILE", .def = "embedded", .help = "a GGUF file or a Hugging Face folder; embedded: the one that comes with kvtrace"},
        {.name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &o->out, .value = "FILE", .help = "keep the scores of all heads, for --probes"},
        {.name = "needles", .type = KVT_OPT_INT, .to = &o->needles, .value = "N", .def = "15", .max = KVT_N_NEEDLES * KVT_N_DEPTHS, .help = "needle prompts of some 600 tokens; 0: none, and no retrieval"},
        {.name = "compute", .type = KVT_OPT_CHOICE, .to = &o->compute, .value = "TYPE", .choices = kvattn_computes, .def = "auto", .help = "arithmetic of matrix products; f32 keeps keys and values in f32 too"},
        {.name = "backend", .type = KVT_OPT_CHOICE, .to = &o->backend, .value = "NAME", .choices = kvattn_backends, .def = "auto", .help = "as of kvtrace"},
        {.name = "threads", .letter = 't', .type = KVT_OPT_INT, .to = &o->threads, .value = "N", .def = "0", .max = 1024, .help = "0 = one for each core"},
        {.help = "output"},
        {.name = "format", .type = KVT_OPT_CHOICE, .to = &o->format, .value = "F", .def = "table", .choices = kvt_format_names, .help = "for people, or for programs"},
    };
    const struct kvt_cli cli = {
        .tool = "kvattn", .operands = "run.h5 [other.h5]", .min_operands = 0, .max_operands = 2,
        .about = "Where attention goes: entropy, sinks, locality, sparsity, distance, spans; by layer and by head, in prefill and decode.",
        .example = "kvattn run.h5 --show heads --layers 12-14", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc && o->probe)
        kvt_spin_briefly(argv);
    if (!rc && o->probe)
        rc = args.n || o->compare || o->show != KVATTN_LAYERS || o->probes ? kvt_fail(&err, KVT_EUSAGE, "--probe makes its own runs: give it a model (-m), no trace and no other question") : kvattn_probe(&r, &err);
    else if (!rc && (o->out || !args.n))
        rc = kvt_fail(&err, KVT_EUSAGE, o->out ? "-o goes with --probe; tables go to standard output" : "run.h5 is missing (or --probe with a model)");
    if (rc || o->probe)
        return kvt_args_end(&cli, rc, &err);
    if (!rc && (args.n == 2) != o->compare)
        rc = kvt_fail(&err, KVT_EUSAGE, o->compare ? "--compare takes two traces" : "two traces go with --compare");
    if (!rc && o->compare && o->show != KVATTN_LAYERS)
        rc = kvt_fail(&err, KVT_EUSAGE, "--compare and --show are two questions; ask one");
    if (!rc)
        rc = open_run(&r, args.operand[0], &err);
    if (!rc && o->compare) {
        other.o = r.o;
        rc = open_run(&other, args.operand[1], &err);
    }
    if (!rc)
        rc = o->compare ? kvattn_compare_table(&r, &other, &err) : show(&r, &err);
    close_run(&r);
    close_run(&other);
    return kvt_args_end(&cli, rc, &err);
}
