/* kvbudget: what each branch's budget really was, in tokens and bytes, and which budgets ShotKV should have.
 *
 * Definitions: docs/measures.md, section 7. */
#include "analyzers/kvbudget.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const char *const shows[] = {"audit", "rounding", "derive", "curve", "layers", "heads", "confirm", NULL};
_Static_assert(sizeof shows / sizeof *shows == KVBUDGET_N_SHOW + 1, "a name for each --show");

int kvbudget_end_table(const struct kvbudget_run *r, int rc, struct kvt_table **t, struct kvt_err *err)
{
    if (!rc)
        rc = kvt_table_write(*t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(t);
    return rc;
}

int kvbudget_each_prompt(const struct kvbudget_run *r, const char *path, kvbudget_prompt_fn each, void *self, struct kvt_err *err)
{
    struct kvt_trace *t = NULL;
    int rc = kvt_trace_open(&t, path, r->o.prompt, err);
    if (rc)
        return rc;
    kvt_warn_partial(kvt_trace_info(t), "kvbudget", path, stderr);
    char *ids = strdup(r->o.prompt ? r->o.prompt : kvt_trace_info(t)->prompts);
    if (!ids)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the prompts of %s", path);
    for (char *id = ids, *next; !rc && id; id = next) { /* "cat, 7"; the first is open */
        next = strstr(id, ", ");
        if (next) {
            *next = '\0';
            next += 2;
        }
        if (!t)
            rc = kvt_trace_open(&t, path, id, err);
        rc = rc ? rc : each(r, self, t, path, err);
        kvt_trace_close(&t);
    }
    kvt_trace_close(&t);
    free(ids);
    return rc;
}

/* The branches asked for; by default all of them, the full one too. */
static int choose_branches(struct kvbudget_run *r, struct kvt_err *err)
{
    int rc = kvt_pick_branches(r->info, r->o.branches, &r->branch, &r->n_branches, err);
    if (rc || r->o.branches)
        return rc;
    if (r->o.keep)
        return kvt_pick_budget(r->info, r->o.keep, r->branch, &r->n_branches, err);
    r->n_branches = 0; /* room for all of them, and one */
    for (int b = r->info->no_full; b < r->info->n_branches; b++)
        r->branch[r->n_branches++] = b;
    return 0;
}

static int open_run(struct kvbudget_run *r, struct kvt_err *err)
{
    int rc = kvt_trace_open(&r->trace, r->path[0], r->o.prompt, err);
    if (rc)
        return rc;
    r->info = kvt_trace_info(r->trace);
    kvt_warn_partial(r->info, "kvbudget", r->path[0], stderr);
    r->layer = kvt_calloc((size_t)r->info->L, 1);
    if (!r->layer)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", r->info->L);
    rc = kvt_parse_mask(r->o.layers ? r->o.layers : "all", r->info->L, r->layer, "--layers", err);
    return rc || r->o.replay ? rc : choose_branches(r, err);
}

static void close_run(struct kvbudget_run *r)
{
    free((char *)r->o.command_line);
    free(r->layer);
    free(r->branch);
    kvt_trace_close(&r->trace);
}

/* For the trace that is written; NULL without memory, which leaves it empty there. */
static char *command_line(int argc, char **argv)
{
    size_t bytes = 1;
    for (int i = 0; i < argc; i++)
        bytes += strlen(argv[i]) + 1;
    char *line = kvt_calloc(bytes, 1);
    for (int i = 0; line && i < argc; i++)
        sprintf(line + strlen(line), "%s%s", i ? " " : "", argv[i]);
    return line;
}

int main(int argc, char **argv)
{
    struct kvbudget_run r = {0};
    struct kvbudget_options *o = &r.o;
    const struct kvt_opt opt[] = {
        {.name = "show", .type = KVT_OPT_CHOICE, .to = &o->show, .value = "WHAT", .def = "audit", .choices = shows,
         .help = "audit: what each branch was asked for, kept and took; rounding: why that isn't the same; derive: ShotKV's shares of context and generated "
                 "tokens from the full branch's rows; curve: what each pair of them loses; layers: shots by layer; heads: a branch's share for each kv head; confirm: two branches of a live run"},
        {.name = "branches", .letter = 'b', .type = KVT_OPT_STRING, .to = &o->branches, .value = "A,B,...",
         .help = "only these: names of kvinfo, or methods (default: all)"},
        {.name = "keep", .letter = 'k', .type = KVT_OPT_STRING, .to = &o->keep, .value = "25%",
         .help = "only branches asked to keep this much; derive: the budget, a share of what the full branch holds [25%]"},
        {.name = "steps", .type = KVT_OPT_INT, .to = &o->every, .value = "N", .min = 1, .max = 1e9,
         .help = "audit: a row for the prefill's end and every N generated tokens"},
        {.name = "per-layer", .type = KVT_OPT_FLAG, .to = &o->per_layer, .help = "audit: a row for each layer; derive: shares of single layers too"},
        {.name = "per-head", .type = KVT_OPT_FLAG, .to = &o->per_head, .help = "audit, heads: a row for each kv head of each layer"},
        {.help = "derive, curve, layers, heads"},
        {.name = "horizon", .type = KVT_OPT_INT, .to = &o->horizon, .value = "N", .min = 1, .max = 4096,
         .help = "generated tokens that the budgets are for; needed, there is no default"},
        {.name = "check", .type = KVT_OPT_STRING, .to = &o->check, .value = "A.h5,B.h5", .help = "traces to check on; default: half of the prompts given"},
        {.name = "split", .type = KVT_OPT_INT, .to = &o->split, .value = "N", .min = 1, .max = 100000, .help = "derive on the first N prompts, check on the others"},
        {.name = "peak", .type = KVT_OPT_FLAG, .to = &o->peak, .help = "the budget is of the last step, which holds most, not of the mean over steps"},
        {.name = "held", .type = KVT_OPT_FLAG, .to = &o->held, .help = "the budget is of what whole shots really hold, not of the shares"},
        {.name = "sinks", .type = KVT_OPT_INT, .to = &o->sinks, .value = "N", .def = "4", .max = 1e6, .help = "first tokens that don't count in the objective"},
        {.name = "recent", .type = KVT_OPT_INT, .to = &o->recent, .value = "N", .def = "32", .max = 1e6, .help = "tokens before a row's own that don't"},
        {.name = "keep-sinks", .type = KVT_OPT_INT, .to = &o->keep_sinks, .value = "N", .def = "0", .max = 1e6, .help = "first tokens that ShotKV protects, its sinks=N"},
        {.help = "audit and derive"},
        {.name = "layers", .type = KVT_OPT_STRING, .to = &o->layers, .value = "0,3,8-11", .help = "only these layers"},
        {.name = "write-budget", .letter = 'o', .type = KVT_OPT_STRING, .to = &o->out, .value = "FILE",
         .help = "write shares for kvtrace --budget-file: audit: what each layer and kv head kept; derive: ShotKV's of each layer; heads: those shares"},
        {.name = "as", .type = KVT_OPT_STRING, .to = &o->as, .value = "NAME",
         .help = "name the written budgets so (one branch), as 'snapkv 25%'; default: the branch's name"},
        {.help = "replay, from a trace made with kvtrace --for-replay"},
        {.name = "replay", .letter = 'r', .type = KVT_OPT_STRING, .to = &o->replay, .value = "METHODS",
         .help = "what these would have kept, each line exact, approx or refused; 'snapkv[w=16..64],h2o': a..b doubles, a..b:s goes by steps"},
        {.name = "tokens", .type = KVT_OPT_STRING, .to = &o->tokens, .value = "LIST",
         .help = "their budgets in tokens of each kv head; in shares by --keep (25%): 5%..95% is every 5 points"},
        {.name = "against", .type = KVT_OPT_STRING, .to = &o->against, .value = "BRANCH", .help = "overlap of each with this branch of the trace"},
        {.name = "write-trace", .type = KVT_OPT_STRING, .to = &o->write_trace, .value = "FILE",
         .help = "write the replayed branches as a trace, for kvoverlap, kvcoherence and kvplot"},
        {.name = "force", .type = KVT_OPT_FLAG, .to = &o->force, .help = "replace an existing FILE"},
        {.help = "all"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o->prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "format", .type = KVT_OPT_CHOICE, .to = &o->format, .value = "F", .def = "table",
         .choices = kvt_format_names, .help = "for people, or for programs"},
    };
    const struct kvt_cli cli = {
        .tool = "kvbudget", .operands = "run.h5 [more.h5...]", .min_operands = 1, .max_operands = -1,
        .about = "What each branch's budget really was, in tokens and bytes; and which budgets ShotKV should have.",
        .example = "kvbudget run.h5 --keep 25%", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc && o->per_layer + o->per_head + (o->every > 0) > 1)
        rc = kvt_fail(&err, KVT_EUSAGE, "one of --per-layer, --per-head, --steps at a time");
    bool derives = o->show >= KVBUDGET_DERIVE && o->show <= KVBUDGET_HEADS;
    if (!rc && o->show != KVBUDGET_AUDIT && ((o->per_head && o->show != KVBUDGET_HEADS) || o->every || (o->per_layer && o->show != KVBUDGET_DERIVE)))
        rc = kvt_fail(&err, KVT_EUSAGE, "--steps belongs to --show audit, --per-layer to that and derive, --per-head to that and heads");
    if (!rc && derives && !o->horizon)
        rc = kvt_fail(&err, KVT_EUSAGE, "--horizon: for how many generated tokens? Shares that are best for 64 aren't for 512");
    if (!rc && !derives && (o->horizon || o->check || o->split || o->peak || o->held))
        rc = kvt_fail(&err, KVT_EUSAGE, "--horizon, --check, --split, --peak and --held belong to --show derive, curve, layers and heads");
    if (!rc && o->show == KVBUDGET_HEADS && (o->peak || o->held || o->keep))
        rc = kvt_fail(&err, KVT_EUSAGE, "--show heads keeps what its branch kept; leave out --keep, --peak and --held");
    if (!rc && args.n > 1 && !derives && o->show != KVBUDGET_CONFIRM)
        rc = kvt_fail(&err, KVT_EUSAGE, "one trace at a time, but for --show derive, curve, layers, heads and confirm");
    if (!rc && o->out && (o->show == KVBUDGET_ROUNDING || o->show == KVBUDGET_CONFIRM))
        rc = kvt_fail(&err, KVT_EUSAGE, "--write-budget belongs to --show audit, derive and heads");
    if (!rc && o->as && !o->out)
        rc = kvt_fail(&err, KVT_EUSAGE, "--as names what --write-budget writes; give both");
    if (!rc && !o->replay && (o->tokens || o->against || o->write_trace || o->force))
        rc = kvt_fail(&err, KVT_EUSAGE, "--tokens, --against, --write-trace and --force belong to --replay METHODS");
    if (!rc && o->replay && (o->branches || o->out || args.n > 1 || o->show != KVBUDGET_AUDIT || o->per_layer + o->per_head + (o->every > 0)))
        rc = kvt_fail(&err, KVT_EUSAGE, "--replay shows branches that the trace hasn't; leave out what belongs to those it has");
    if (!rc) {
        o->command_line = command_line(argc, argv);
        r.path = args.operand, r.n_paths = args.n;
        rc = o->show == KVBUDGET_HEADS ? kvbudget_heads(&r, &err) : derives ? kvbudget_derive(&r, &err) : o->show == KVBUDGET_CONFIRM ? kvbudget_confirm(&r, &err) : open_run(&r, &err);
    }
    if (!rc && o->replay)
        rc = kvbudget_replay(&r, &err);
    else if (!rc && r.trace)
        rc = o->show == KVBUDGET_ROUNDING ? kvbudget_rounding(&r, &err) : kvbudget_audit(&r, &err);
    if (!rc && r.trace && o->out)
        rc = kvbudget_write_kept(&r, &err);
    close_run(&r);
    return kvt_args_end(&cli, rc, &err);
}
