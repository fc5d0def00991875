/* kvcoherence: does a method keep shots whole, and more so than the shape of its own mask would by accident?
 *
 * Definitions: docs/measures.md, section 5. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/analyzer.h"
#include "analyzers/coherence.h"
#include "analyzers/damage.h"
#include "base/args.h"
#include "base/mem.h"
#include "base/table.h"

struct options {
    const char *branches, *keep, *layers, *prompt;
    int at, every, shifts, format;
    double part;
    uint64_t seed;
    bool per_layer, per_head, shots, summary, damage, agreement;
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

static int end_table(const struct run *r, int rc, struct kvt_table **t, struct kvt_err *err)
{
    if (!rc)
        rc = kvt_table_write(*t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(t);
    return rc;
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
    return end_table(r, rc, &t, err);
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
    return end_table(r, rc, &t, err);
}

/* A head alone, as sets of one cell. */
static struct kvt_held head_of(const struct kvt_held *h, int l, int g)
{
    static uint8_t shared = 1;
    size_t at = ((size_t)l * (size_t)h->G + (size_t)g) * (size_t)h->n;
    return (struct kvt_held){.L = 1, .G = 1, .n = h->n, .kept = h->kept + at, .guarded = h->guarded + at, .shared = &shared};
}

static int layer_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col layers[] = {{.name = "branch", .kind = KVT_COL_TEXT}, {.name = "layer", .kind = KVT_COL_INT},
                                            MEASURE_COLUMNS},
                                heads[] = {{.name = "branch", .kind = KVT_COL_TEXT}, {.name = "layer", .kind = KVT_COL_INT},
                                           {.name = "head", .kind = KVT_COL_INT}, MEASURE_COLUMNS};
    bool per_head = r->o.per_head;
    struct kvt_table *t = per_head ? kvt_table_new(heads, (int)(sizeof heads / sizeof *heads)) : kvt_table_new(layers, (int)(sizeof layers / sizeof *layers));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_held h;
        rc = kvt_held_load(r->trace, r->branch[i], r->o.at, r->layer, &h, err);
        for (int l = 0, at = 0; !rc && l < r->info->L; at += r->layer[l++])
            for (int g = 0; !rc && r->layer[l] && g < (per_head ? h.G : 1); g++) {
                struct kvt_held one = per_head ? head_of(&h, at, g) : h;
                struct kvt_coherence_result c;
                rc = measure(r, &one, per_head ? 0 : at, per_head ? 1 : at + 1, &c, err);
                if (rc)
                    break;
                kvt_put_text(t, r->info->branch[r->branch[i]].name);
                kvt_put_int(t, l);
                if (per_head)
                    kvt_put_int(t, g);
                put_measures(t, &c);
            }
        kvt_held_free(&h);
    }
    return end_table(r, rc, &t, err);
}

static int step_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "branch", .kind = KVT_COL_TEXT}, {.name = "step", .kind = KVT_COL_INT}, MEASURE_COLUMNS};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_history history;
        struct kvt_coherence_result c;
        rc = kvt_history_load(r->trace, r->branch[i], r->layer, &history, err);
        for (int step = 0; !rc && step <= r->info->n_steps; step += r->o.every) {
            if (!step || kvt_history_changes(&history, step - r->o.every, step)) {
                struct kvt_held h;
                rc = kvt_history_at(&history, step, &h, err);
                if (!rc)
                    rc = measure(r, &h, 0, h.L, &c, err);
                kvt_held_free(&h);
                if (rc)
                    break;
            }
            kvt_put_text(t, r->info->branch[r->branch[i]].name);
            kvt_put_int(t, step);
            put_measures(t, &c);
        }
        kvt_history_free(&history);
    }
    return end_table(r, rc, &t, err);
}

/* ---- damage and agreement ---- */

static double share_of(int64_t part, int64_t all) { return all ? (double)part / (double)all : NAN; }

static int damage_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT}, {.name = "kept", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "answers_lost", .title = "ans-", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "number_tokens_lost", .title = "num. tok-", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "numbers_lost", .title = "numbers-", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "numbers_cut", .title = "cut", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "operators_lost", .title = "operators-", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "sentences_lost", .title = "sent.-", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "sentences_cut", .title = "cut", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "operator_tokens_lost", .kind = KVT_COL_SHARE, .programs_only = true},
        {.name = "numbers", .kind = KVT_COL_INT, .programs_only = true}, {.name = "operators", .kind = KVT_COL_INT, .programs_only = true},
        {.name = "sentences", .kind = KVT_COL_INT, .programs_only = true},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_held h;
        struct kvt_damage d;
        rc = kvt_held_load(r->trace, r->branch[i], r->o.at, r->layer, &h, err);
        if (!rc)
            rc = kvt_damage_of(&h, r->info, r->shot, r->S, r->o.part, &d, err);
        kvt_held_free(&h);
        if (rc)
            break;
        kvt_put_text(t, r->info->branch[r->branch[i]].name);
        kvt_put_real(t, share_of(d.held, d.tokens));
        kvt_put_real(t, share_of(d.answer_lost, d.shots));
        kvt_put_real(t, 1 - share_of(d.number_held, d.number_tokens));
        kvt_put_real(t, share_of(d.number.lost, d.number.parts));
        kvt_put_real(t, share_of(d.number.cut, d.number.parts));
        kvt_put_real(t, share_of(d.operator_mark.lost, d.operator_mark.parts));
        kvt_put_real(t, share_of(d.sentence.lost, d.sentence.parts));
        kvt_put_real(t, share_of(d.sentence.cut, d.sentence.parts));
        kvt_put_real(t, 1 - share_of(d.operator_held, d.operator_tokens));
        kvt_put_int(t, d.number.parts);
        kvt_put_int(t, d.operator_mark.parts);
        kvt_put_int(t, d.sentence.parts);
    }
    return end_table(r, rc, &t, err);
}

static int agreement_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "branch", .kind = KVT_COL_TEXT}, {.name = "next", .title = "next layer", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "all", .title = "all pairs", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "pairs", .kind = KVT_COL_INT, .programs_only = true}, {.name = "undefined", .kind = KVT_COL_INT},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = 0;
    for (int i = 0; !rc && i < r->n_branches; i++) {
        struct kvt_held h;
        struct kvt_agreement a;
        rc = kvt_held_load(r->trace, r->branch[i], r->o.at, r->layer, &h, err);
        if (!rc)
            rc = kvt_agreement_of(&h, r->shot, r->S, &a, err);
        kvt_held_free(&h);
        if (rc)
            break;
        kvt_put_text(t, r->info->branch[r->branch[i]].name);
        kvt_put_real(t, a.next);
        kvt_put_real(t, a.all);
        kvt_put_int(t, a.pairs);
        kvt_put_int(t, a.undefined);
    }
    return end_table(r, rc, &t, err);
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
    return end_table(r, rc, &t, err);
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
    if (r->o.damage) {
        puts(" kept: share of\nthe shots' tokens; ans-: shots that kept the question but not the answer; then of the\n"
             "numbers, operators and sentences in shots: none of it held (-), only some of it (cut).\n");
        return;
    }
    if (r->o.agreement) {
        puts(" Spearman's rank\ncorrelation of the shots' shares between two layers: 1 = they weigh the shots alike.\n");
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
        {.name = "damage", .type = KVT_OPT_FLAG, .to = &o->damage, .help = "answers, numbers, operators and sentences that were lost or cut"},
        {.name = "agreement", .type = KVT_OPT_FLAG, .to = &o->agreement, .help = "do layers agree on which shots matter?"},
        {.name = "per-layer", .type = KVT_OPT_FLAG, .to = &o->per_layer, .help = "a row for each layer"},
        {.name = "per-head", .type = KVT_OPT_FLAG, .to = &o->per_head, .help = "a row for each kv head of each layer"},
        {.name = "steps", .type = KVT_OPT_INT, .to = &o->every, .value = "N", .min = 1, .max = 1e9,
         .help = "a row for the prefill's end and every N generated tokens"},
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
    if (!rc && o->shots + o->summary + o->damage + o->agreement + o->per_layer + o->per_head + (o->every > 0) > 1)
        rc = kvt_fail(&err, KVT_EUSAGE, "one of --shots, --summary, --damage, --agreement, --per-layer, --per-head, --steps at a time");
    if (!rc && o->every && o->at)
        rc = kvt_fail(&err, KVT_EUSAGE, "--steps begins at the prefill's end; leave --at out");
    if (!rc)
        rc = open_run(&r, args.operand[0], &err);
    if (!rc && o->format == KVT_FORMAT_TABLE)
        say_what(&r);
    if (!rc)
        rc = o->shots ? shot_table(&r, &err) : o->summary ? summary_table(&r, &err) : o->damage ? damage_table(&r, &err)
           : o->agreement ? agreement_table(&r, &err) : o->per_layer || o->per_head ? layer_table(&r, &err)
           : o->every ? step_table(&r, &err) : branch_table(&r, &err);
    free(r.share);
    free(r.shot);
    free(r.layer);
    free(r.branch);
    kvt_trace_close(&r.trace);
    return kvt_args_end(&cli, rc, &err);
}
