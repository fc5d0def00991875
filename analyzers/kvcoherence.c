/* kvcoherence: does a method keep shots whole, and more so than the shape of its own mask would by accident?
 *
 * Definitions: docs/measures.md, section 5. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/analyzer.h"
#include "analyzers/coherence.h"
#include "base/args.h"
#include "base/mem.h"
#include "base/table.h"

struct options {
    const char *branches, *keep, *layers, *prompt;
    int at, shifts, format;
    double part;
    uint64_t seed;
    bool per_layer, shots, summary;
};

struct run {
    struct options o;
    struct kvt_trace *trace;
    const struct kvt_trace_info *info;
    uint8_t *layer;
    int *branch, n_branches;
    struct kvt_shot *shot;
    int S;
    double *share;   /* (S) of the branch at hand */
};

#define MEASURE_COLUMNS                                                                                       \
    {.name = "adjusted", .title = "C*", .kind = KVT_COL_REAL, .digits = 3},                                   \
    {.name = "shift_mean", .title = "shifted", .kind = KVT_COL_REAL, .digits = 3},                            \
    {.name = "shift_95", .title = "95%", .kind = KVT_COL_REAL, .digits = 3},                                  \
    {.name = "p", .kind = KVT_COL_REAL, .digits = 3, .programs_only = true},                                  \
    {.name = "coherence", .title = "C", .kind = KVT_COL_REAL, .digits = 3, .programs_only = true},            \
    {.name = "random", .title = "c0", .kind = KVT_COL_REAL, .digits = 4, .programs_only = true},              \
    {.name = "whole_rate", .title = "whole", .kind = KVT_COL_SHARE, .digits = 1},                             \
    {.name = "shots_whole", .kind = KVT_COL_SHARE, .digits = 1, .programs_only = true},                       \
    {.name = "shots_gone", .kind = KVT_COL_SHARE, .digits = 1, .programs_only = true},                        \
    {.name = "fragments", .title = "frag", .kind = KVT_COL_REAL, .digits = 1},                                \
    {.name = "fragments_random", .title = "rand.", .kind = KVT_COL_REAL, .digits = 1},                        \
    {.name = "gini", .title = "Gini", .kind = KVT_COL_REAL, .digits = 2},                                     \
    {.name = "answers_lost", .title = "ans-", .kind = KVT_COL_SHARE, .digits = 1},                        \
    {.name = "shots_kept", .title = "kept", .kind = KVT_COL_SHARE, .digits = 1},                              \
    {.name = "cells", .kind = KVT_COL_INT, .programs_only = true},                                            \
    {.name = "undefined", .kind = KVT_COL_INT, .programs_only = true}

static void put_measures(struct kvt_table *t, const struct kvt_coherence_result *c)
{
    kvt_put_real(t, c->adjusted);
    kvt_put_real(t, c->null_mean);
    kvt_put_real(t, c->null_high);
    kvt_put_real(t, c->null_p);
    kvt_put_real(t, c->C);
    kvt_put_real(t, c->c0);
    kvt_put_real(t, c->whole_rate);
    kvt_put_real(t, c->whole);
    kvt_put_real(t, c->gone);
    kvt_put_real(t, c->fragments);
    kvt_put_real(t, c->fragments_random);
    kvt_put_real(t, c->gini);
    kvt_put_real(t, c->answer_lost);
    kvt_put_real(t, c->kept);
    kvt_put_int(t, c->cells);
    kvt_put_int(t, c->undefined);
}

/* Layers [from, to) of the chosen ones. The same shifts for every branch and layer. */
static int measure(const struct run *r, const struct kvt_held *h, int from, int to, struct kvt_coherence_result *out,
                   struct kvt_err *err)
{
    struct kvt_rng rng;
    kvt_rng_seed(&rng, r->o.seed);
    return kvt_coherence_of(h, r->info, r->shot, r->S, from, to, r->o.part, r->o.shifts, &rng, out, r->share, err);
}

static int branch_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "branch", .kind = KVT_COL_TEXT}, MEASURE_COLUMNS};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_held h;
        struct kvt_coherence_result c;
        rc = kvt_held_load(r->trace, r->branch[i], r->o.at, r->layer, &h, err);
        if (!rc)
            rc = measure(r, &h, 0, h.L, &c, err);
        kvt_held_free(&h);
        if (!rc) {
            kvt_put_text(t, r->info->branch[r->branch[i]].name);
            put_measures(t, &c);
        }
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(&t);
    return rc;
}

/* Coherence beside what the branch cost and changed: one line for each method and budget. */
static int summary_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT},
        {.name = "effective_keep", .title = "kept", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "kv_bytes_mean", .title = "KV mean", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "mean_kl", .title = "KL", .unit = "nats", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "adjusted", .title = "C*", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "shift_mean", .title = "shifted", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "diverged_step", .title = "differs at", .unit = "step", .kind = KVT_COL_INT},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        const struct kvt_trace_branch *b = &r->info->branch[r->branch[i]];
        struct kvt_held h;
        struct kvt_coherence_result c;
        rc = kvt_held_load(r->trace, r->branch[i], r->o.at, r->layer, &h, err);
        if (!rc)
            rc = measure(r, &h, 0, h.L, &c, err);
        kvt_held_free(&h);
        if (rc)
            break;
        kvt_put_text(t, b->name);
        kvt_put_real(t, b->effective_keep);
        if (isnan(b->bytes_mean))
            kvt_put_none(t);
        else
            kvt_put_int(t, (int64_t)b->bytes_mean);
        kvt_put_real(t, b->mean_kl);
        kvt_put_real(t, c.adjusted);
        kvt_put_real(t, c.null_mean);
        if (b->diverged > 0)
            kvt_put_int(t, b->diverged);
        else
            kvt_put_none(t);
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(&t);
    return rc;
}

static int layer_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "branch", .kind = KVT_COL_TEXT}, {.name = "layer", .kind = KVT_COL_INT},
                                         MEASURE_COLUMNS};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_held h;
        rc = kvt_held_load(r->trace, r->branch[i], r->o.at, r->layer, &h, err);
        for (int l = 0, at = 0; !rc && l < r->info->L; l++) {
            if (!r->layer[l])
                continue;
            struct kvt_coherence_result c;
            rc = measure(r, &h, at, at + 1, &c, err);
            at++;
            if (!rc) {
                kvt_put_text(t, r->info->branch[r->branch[i]].name);
                kvt_put_int(t, l);
                put_measures(t, &c);
            }
        }
        kvt_held_free(&h);
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(&t);
    return rc;
}

/* A row for each branch, a column for each shot; a row for each branch and shot where there are too many columns. */
static int shot_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT}, {.name = "shot", .kind = KVT_COL_TEXT},
        {.name = "start", .unit = "token", .kind = KVT_COL_INT}, {.name = "length", .title = "tokens", .unit = "tokens", .kind = KVT_COL_INT},
        {.name = "kept", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "whole", .title = "whole in", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "gone", .title = "gone in", .kind = KVT_COL_SHARE, .digits = 1},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_held h;
        rc = kvt_held_load(r->trace, r->branch[i], r->o.at, r->layer, &h, err);
        for (int s = 0; !rc && s < r->S; s++) {
            const struct kvt_shot *shot = &r->shot[s];
            int64_t cells = 0, kept = 0, whole = 0, gone = 0;
            for (int l = 0; l < h.L; l++)
                for (int g = 0; g < (h.shared[l] ? 1 : h.G); g++, cells++) {
                    const uint8_t *row = h.kept + ((size_t)l * (size_t)h.G + (size_t)g) * (size_t)h.n;
                    int m = 0;
                    for (int j = shot->start; j < shot->end; j++)
                        m += row[j];
                    kept += m;
                    whole += m == shot->end - shot->start;
                    gone += !m;
                }
            kvt_put_text(t, r->info->branch[r->branch[i]].name);
            kvt_put_text(t, r->info->span[shot->span].name);
            kvt_put_int(t, shot->start);
            kvt_put_int(t, shot->end - shot->start);
            kvt_put_real(t, (double)kept / (double)cells / (shot->end - shot->start));
            kvt_put_real(t, (double)whole / (double)cells);
            kvt_put_real(t, (double)gone / (double)cells);
        }
        kvt_held_free(&h);
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(&t);
    return rc;
}

static void say_what(const struct run *r)
{
    if (r->o.at)
        printf("After step %d", r->o.at);
    else
        printf("At prefill's end");
    printf(", protocol %s, %d shots in %d context tokens.", r->info->protocol, r->S, r->info->n_context);
    if (r->o.shots) {
        puts(" kept: mean share of the shot's\ntokens over layers and kv heads; whole in, gone in: share of those cells.\n");
        return;
    }
    if (r->o.summary) {
        puts(" kept: share of\nthe context; KV mean: bytes, mean over steps; KL to the full branch, nats, on the\n"
             "same text; C*: 1 = every shot whole or gone, 0 = random keeping; shifted: C* of\n"
             "the same mask moved along the shots; differs at: first other word, by step.\n");
        return;
    }
    puts("\nC*: 1 = every shot whole or gone, 0 = random keeping. shifted: C* of the same mask\n"
         "moved along the shots (mean, 95th percentile). whole: of the shots that the method\n"
         "kept something of, those kept in full. frag: runs of kept tokens in such a shot,\n"
         "rand.: drawn at random. ans-: shots that kept the question but not the answer.\n");
}

static int open_run(struct run *r, const char *path, struct kvt_err *err)
{
    int rc = kvt_trace_open(&r->trace, path, r->o.prompt, err);
    if (rc)
        return rc;
    r->info = kvt_trace_info(r->trace);
    kvt_warn_partial(r->info, "kvcoherence", path, stderr);
    rc = kvt_check_step(r->info, r->o.at, err);
    if (!rc)
        rc = kvt_shots(r->info, &r->shot, &r->S, err);
    if (!rc && r->S < 1)
        rc = kvt_fail(err, KVT_EINPUT, "%s: the context has no shots; trace with --shots or --shot-sep", path);
    r->layer = kvt_calloc((size_t)r->info->L, 1);
    r->share = kvt_calloc((size_t)r->S + 1, sizeof *r->share);
    if (!rc && (!r->layer || !r->share))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", r->info->L);
    if (!rc)
        rc = kvt_parse_mask(r->o.layers ? r->o.layers : "all", r->info->L, r->layer, "--layers", err);
    if (!rc)
        rc = kvt_pick_branches(r->info, r->o.branches, &r->branch, &r->n_branches, err);
    if (!rc && (r->o.keep || !r->n_branches))
        rc = kvt_pick_budget(r->info, r->o.keep, r->branch, &r->n_branches, err);
    return rc;
}

int main(int argc, char **argv)
{
    struct run r = {0};
    struct options *o = &r.o;
    const struct kvt_opt opt[] = {
        {.name = "branches", .letter = 'b', .type = KVT_OPT_STRING, .to = &o->branches, .value = "A,B,...",
         .help = "only these: names of kvinfo, or methods (default: all but full)"},
        {.name = "keep", .letter = 'k', .type = KVT_OPT_STRING, .to = &o->keep, .value = "25%",
         .help = "only branches asked to keep this much"},
        {.name = "shots", .type = KVT_OPT_FLAG, .to = &o->shots, .help = "the share of each shot that each branch kept"},
        {.name = "summary", .type = KVT_OPT_FLAG, .to = &o->summary, .help = "C* beside what each branch kept, cost and changed"},
        {.name = "per-layer", .type = KVT_OPT_FLAG, .to = &o->per_layer, .help = "a row for each layer"},
        {.name = "at", .type = KVT_OPT_INT, .to = &o->at, .value = "STEP", .def = "0", .max = 1e9,
         .help = "after this generated token; 0: after eviction at prefill's end"},
        {.name = "layers", .type = KVT_OPT_STRING, .to = &o->layers, .value = "0,3,8-11", .help = "only these layers"},
        {.name = "part-kept", .type = KVT_OPT_DOUBLE, .to = &o->part, .value = "SHARE", .def = "0.5", .max = 1,
         .help = "a question or answer counts as kept from this share of its tokens on"},
        {.name = "shifts", .type = KVT_OPT_INT, .to = &o->shifts, .value = "N", .def = "200", .max = 100000,
         .help = "circular shifts for the null; 0: none"},
        {.name = "seed", .type = KVT_OPT_U64, .to = &o->seed, .value = "N", .def = "1", .help = "seed of the shifts"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o->prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "format", .type = KVT_OPT_CHOICE, .to = &o->format, .value = "F", .def = "table",
         .choices = kvt_format_names, .help = "for people, or for programs"},
    };
    const struct kvt_cli cli = {
        .tool = "kvcoherence", .operands = "run.h5", .min_operands = 1, .max_operands = 1,
        .about = "How whole each shot is in what each compression method kept.",
        .example = "kvcoherence run.h5 --keep 25%", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc)
        rc = open_run(&r, args.operand[0], &err);
    if (!rc && o->format == KVT_FORMAT_TABLE)
        say_what(&r);
    if (!rc)
        rc = o->shots ? shot_table(&r, &err) : o->summary ? summary_table(&r, &err) : o->per_layer ? layer_table(&r, &err) : branch_table(&r, &err);
    free(r.share);
    free(r.shot);
    free(r.layer);
    free(r.branch);
    kvt_trace_close(&r.trace);
    return kvt_args_end(&cli, rc, &err);
}
