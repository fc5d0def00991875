/* kvoverlap: which tokens do several methods agree to keep, and is that more than chance?
 *
 * A table of pairs (Jaccard, its chance value, adjusted overlap O, a circular-shift null), overall or by layer, then the
 * prompt itself with the number of methods that keep each token; with --show, the same question of layers, heads, budgets, prompts,
 * scores and what came later. Definitions: docs/measures.md, section 4. */
#include "analyzers/kvoverlap.h"

#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"

static const char *const shows[KVOVERLAP_N_SHOW + 1] = {"methods", "layers", "heads", "budgets", "prompts", "traces", "scores", "sets", "clusters", "future", "query-heads", NULL};

/* ---- what the parts share ---- */

static int branch_named(const struct kvt_trace_info *info, const char *name)
{
    for (int b = 0; b < info->n_branches; b++)
        if (!strcmp(info->branch[b].name, name))
            return b;
    return -1;
}

/* The value of an attribute of the trace, "" where it has none. */
static const char *attr(const struct kvt_trace_info *info, const char *name)
{
    for (int i = 0; i < info->n_attrs; i++)
        if (!strcmp(info->attr[i].name, name))
            return info->attr[i].value;
    return "";
}

static int check_model(const struct kvoverlap *r, const struct kvt_trace_info *info, const char *path, struct kvt_err *err)
{
    const char *words = attr(info, "tokenizer"), *first = attr(r->info, "tokenizer");
    if (info->L != r->info->L || info->G != r->info->G)
        return kvt_fail(err, KVT_EINPUT, "%s: %d layers x %d heads, the first trace has %d x %d; compare runs of one model",
                        path, info->L, info->G, r->info->L, r->info->G);
    if (r->o.force)
        return 0;
    if (strcmp(info->model_sha256, r->info->model_sha256) && *info->model_sha256 && *r->info->model_sha256)
        return kvt_fail(err, KVT_EINPUT, "%s: made with another model file (%s, sha256 %.12s...) than %s (%s, %.12s...); --force compares all the same", path,
                        info->model_name, info->model_sha256, r->path[0], r->info->model_name, r->info->model_sha256);
    if (strcmp(words, first) || info->V != r->info->V)
        return kvt_fail(err, KVT_EINPUT, "%s: another tokenizer (%s, %d tokens) than %s (%s, %d tokens); --force compares all the same", path, words, info->V,
                        r->path[0], first, r->info->V);
    return 0;
}

int kvoverlap_open(struct kvoverlap *r, int p, struct kvt_trace **out, struct kvt_err *err)
{
    *out = r->first;
    if (!p)
        return kvt_check_step(r->info, r->o.at, err);
    int rc = kvt_trace_open(out, r->path[p], r->o.prompt, err);
    if (rc)
        return rc;
    kvt_warn_partial(kvt_trace_info(*out), "kvoverlap", r->path[p], stderr);
    rc = check_model(r, kvt_trace_info(*out), r->path[p], err);
    return rc ? rc : kvt_check_step(kvt_trace_info(*out), r->o.at, err);
}

void kvoverlap_close(struct kvoverlap *r, struct kvt_trace **t)
{
    if (*t != r->first)
        kvt_trace_close(t);
}

int kvoverlap_load_branch(struct kvoverlap *r, struct kvt_trace *t, int p, int branch, struct kvt_held *held, struct kvt_err *err)
{
    const char *name = r->info->branch[branch].name;
    int b = branch_named(kvt_trace_info(t), name);
    if (b < 0)
        return kvt_fail(err, KVT_EINPUT, "%s: no branch '%s', which the first trace has", r->path[p], name);
    return kvt_held_load(t, b, r->o.at, r->layer, held, err);
}

int kvoverlap_load(struct kvoverlap *r, int p, struct kvt_held *held, struct kvt_err *err)
{
    struct kvt_trace *t;
    int rc = kvoverlap_open(r, p, &t, err);
    for (int i = 0; !rc && i < r->n_branches; i++)
        rc = kvoverlap_load_branch(r, t, p, r->branch[i], &held[r->branch[i]], err);
    kvoverlap_close(r, &t);
    return rc;
}

void kvoverlap_unload(struct kvoverlap *r, struct kvt_held *held)
{
    for (int b = 0; b < r->info->n_branches; b++)
        kvt_held_free(&held[b]);
}

const char *kvoverlap_name(const struct kvoverlap *r, int b)
{
    const struct kvt_trace_branch *me = &r->info->branch[b];
    for (int i = 0; i < r->n_branches; i++) {
        const struct kvt_trace_branch *other = &r->info->branch[r->branch[i]];
        if (r->branch[i] != b && !strcmp(me->method, other->method) && kvt_same_budget(me, other))
            return me->name; /* two variants of a method at one budget */
    }
    return r->o.branches || !kvt_named_by_method(me) ? me->name : me->method;
}

int kvoverlap_layer(const struct kvoverlap *r, int l)
{
    int at = 0;
    while (!r->layer[at] || l--)
        at++;
    return at;
}

int kvoverlap_write(const struct kvoverlap *r, int rc, struct kvt_table **t, struct kvt_err *err)
{
    if (!rc)
        rc = kvt_table_write(*t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(t);
    return rc;
}

void kvoverlap_say(const struct kvoverlap *r)
{
    int64_t left_out = 0, cells = 0;
    for (int i = 0; i < r->n_pairs; i++) {
        left_out += r->pair[i].sum.left_out;
        cells += r->pair[i].sum.cells;
    }
    if (r->o.at)
        printf("After step %d", r->o.at);
    else
        printf("At prefill's end");
    printf(", protocol %s, %d of %d tokens are context; %d layers x %d kv heads.\n", r->info->protocol, r->info->n_context,
           r->info->n_prompt, r->n_layers, r->info->G);
    if (r->n_prompts < KVOVERLAP_FEWEST_PROMPTS)
        printf("%d prompt%s: descriptive, no interval.", r->n_prompts, r->n_prompts > 1 ? "s" : "");
    else
        printf("%d prompts: 95%% intervals by bootstrap over prompts.", r->n_prompts);
    printf(" J and O leave out what either method\nprotects (J all: every token). O: 0 = chance, 1 = nested; p: circular shifts.\n");
    if (left_out)
        printf("%lld of %lld cells have no say in O: without protected tokens a side keeps nothing there,\n"
               "or everything (\"-\": all cells of a pair).\n", (long long)left_out, (long long)cells);
    putchar('\n');
}

/* ---- the tool ---- */

static void close_run(struct kvoverlap *r)
{
    kvoverlap_free_pairs(r);
    free(r->branch);
    free(r->layer);
    kvt_trace_close(&r->first);
}

static int open_run(struct kvoverlap *r, const struct kvt_args *args, struct kvt_err *err)
{
    int rc = kvt_trace_open(&r->first, args->operand[0], r->o.prompt, err);
    if (rc)
        return rc;
    r->info = kvt_trace_info(r->first);
    r->path = (const char *const *)args->operand;
    r->n_prompts = args->n;
    kvt_warn_partial(r->info, "kvoverlap", args->operand[0], stderr);
    r->layer = kvt_calloc((size_t)r->info->L, 1);
    if (!r->layer)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", r->info->L);
    rc = kvt_parse_mask(r->o.layers ? r->o.layers : "all", r->info->L, r->layer, "--layers", err);
    for (int l = 0; l < r->info->L; l++)
        r->n_layers += r->layer[l];
    if (!rc)
        rc = kvt_pick_branches(r->info, r->o.branches, &r->branch, &r->n_branches, err);
    bool one_budget = r->o.show == KVOVERLAP_SETS || r->o.show == KVOVERLAP_CLUSTERS;
    if (!rc && (r->o.keep || (one_budget && !r->o.branches)))
        rc = kvt_pick_budget(r->info, r->o.keep, r->branch, &r->n_branches, err);
    if (!rc && !r->n_branches)
        rc = kvt_fail(err, KVT_EINPUT, "%s has no compressed branch; trace again with --method", args->operand[0]);
    if (!rc && (r->o.show == KVOVERLAP_METHODS || r->o.show == KVOVERLAP_SCORES || r->o.show == KVOVERLAP_CLUSTERS))
        rc = kvoverlap_make_pairs(r, err);
    return rc;
}

/* Pairs over all traces, then the tables; the sets of two traces are held at a time. */
static int between_methods(struct kvoverlap *r, struct kvt_held *held, struct kvt_held *other, struct kvt_err *err)
{
    bool people = r->o.format == KVT_FORMAT_TABLE, only_first = r->o.per_layer || r->o.tokens || r->o.show == KVOVERLAP_SCORES;
    int rc = 0;
    for (int p = only_first ? 0 : r->n_prompts - 1; !rc && p >= 0; p--) { /* the first trace last: its sets are shown */
        kvoverlap_unload(r, other);
        memcpy(other, held, (size_t)r->info->n_branches * sizeof *held);
        memset(held, 0, (size_t)r->info->n_branches * sizeof *held);
        rc = kvoverlap_load(r, p, held, err);
        if (!rc && !only_first)
            rc = kvoverlap_measure(r, held, p < r->n_prompts - 1 ? other : NULL, p, err);
    }
    if (rc)
        return rc;
    if (r->o.show == KVOVERLAP_SCORES)
        return kvoverlap_scores(r, held, err);
    if (r->o.show == KVOVERLAP_CLUSTERS)
        return kvoverlap_clusters(r, err);
    if (r->o.per_layer && !r->o.tokens) {
        rc = kvoverlap_layer_table(r, held, err);
    } else if (!r->o.tokens) {
        if (people)
            kvoverlap_say(r);
        rc = kvoverlap_pair_table(r, err);
        if (!rc && people)
            putchar('\n');
    }
    if (!rc && (r->o.tokens || (people && !r->o.per_layer)))
        rc = kvoverlap_show_prompt(r, held, err);
    return rc;
}

static int within_methods(struct kvoverlap *r, struct kvt_held *held, struct kvt_err *err)
{
    switch (r->o.show) { /* these read what they need */
    case KVOVERLAP_PROMPTS: return kvoverlap_prompts(r, err);
    case KVOVERLAP_TRACES: return kvoverlap_traces(r, err);
    case KVOVERLAP_FUTURE: return kvoverlap_future(r, err);
    }
    int rc = kvoverlap_load(r, 0, held, err);
    if (rc)
        return rc;
    switch (r->o.show) {
    case KVOVERLAP_LAYERS: return kvoverlap_layers(r, held, err);
    case KVOVERLAP_HEADS: return kvoverlap_heads(r, held, err);
    case KVOVERLAP_QUERY: return kvoverlap_query_heads(r, held, err);
    case KVOVERLAP_BUDGETS: return kvoverlap_budgets(r, held, err);
    default: return kvoverlap_sets(r, held, err);
    }
}

static int measure(struct kvoverlap *r, struct kvt_err *err)
{
    struct kvt_held *held = kvt_calloc((size_t)r->info->n_branches, sizeof *held), *other = kvt_calloc((size_t)r->info->n_branches, sizeof *other);
    int rc = held && other ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", r->info->n_branches);
    bool pairs = r->o.show == KVOVERLAP_METHODS || r->o.show == KVOVERLAP_SCORES || r->o.show == KVOVERLAP_CLUSTERS;
    if (!rc)
        rc = pairs ? between_methods(r, held, other, err) : within_methods(r, held, err);
    if (held && other) {
        kvoverlap_unload(r, held);
        kvoverlap_unload(r, other);
    }
    free(held);
    free(other);
    return rc;
}

static int check(const struct kvoverlap_options *o, int traces, struct kvt_err *err)
{
    bool many = o->show == KVOVERLAP_METHODS || o->show == KVOVERLAP_CLUSTERS || o->show == KVOVERLAP_PROMPTS || o->show == KVOVERLAP_TRACES;
    if (o->per_layer && traces > 1)
        return kvt_fail(err, KVT_EUSAGE, "--per-layer takes one trace");
    if (traces > 1 && !many)
        return kvt_fail(err, KVT_EUSAGE, "--show %s takes one trace", shows[o->show]);
    if ((o->per_layer || o->tokens || o->letters) && o->show != KVOVERLAP_METHODS)
        return kvt_fail(err, KVT_EUSAGE, "--per-layer, --tokens and --letters go with --show methods");
    return 0;
}

int main(int argc, char **argv)
{
    struct kvoverlap r = {0};
    struct kvoverlap_options *o = &r.o;
    const struct kvt_opt opt[] = {
        {.name = "branches", .letter = 'b', .type = KVT_OPT_STRING, .to = &o->branches, .value = "A,B,...",
         .help = "compare these: names of kvinfo, or methods; any budgets (default: all, at equal budgets)"},
        {.name = "keep", .letter = 'k', .type = KVT_OPT_STRING, .to = &o->keep, .value = "25%",
         .help = "only branches asked to keep this much (the prompt: default the middle budget)"},
        {.name = "at", .type = KVT_OPT_INT, .to = &o->at, .value = "STEP", .def = "0", .max = 1e9,
         .help = "after this generated token; 0: after eviction at prefill's end"},
        {.name = "layers", .type = KVT_OPT_STRING, .to = &o->layers, .value = "0,3,8-11", .help = "only these layers"},
        {.name = "show", .type = KVT_OPT_CHOICE, .to = &o->show, .value = "WHAT", .def = "methods", .choices = shows,
         .help = "methods against each other; layers, heads or budgets of each; each in other prompts or traces; ranks of scores; kept by all or by one; who goes with whom; what the full branch attended to later"},
        {.name = "per-layer", .type = KVT_OPT_FLAG, .to = &o->per_layer, .help = "a row for each layer"},
        {.name = "tokens", .type = KVT_OPT_FLAG, .to = &o->tokens, .help = "only the prompt, token by token"},
        {.name = "letters", .type = KVT_OPT_FLAG, .to = &o->letters, .help = "below the text, which methods kept each token"},
        {.name = "shifts", .type = KVT_OPT_INT, .to = &o->shifts, .value = "N", .def = "200", .max = 100000,
         .help = "circular shifts for the null; 0: none"},
        {.name = "seed", .type = KVT_OPT_U64, .to = &o->seed, .value = "N", .def = "1", .help = "seed of shifts and bootstrap"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o->prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "width", .type = KVT_OPT_INT, .to = &o->width, .value = "N", .max = 1000, .help = "columns for the prompt (default: the terminal's)"},
        {.name = "force", .type = KVT_OPT_FLAG, .to = &o->force, .help = "compare traces of different models or tokens all the same"},
        {.name = "format", .type = KVT_OPT_CHOICE, .to = &o->format, .value = "F", .def = "table",
         .choices = kvt_format_names, .help = "for people, or for programs"},
    };
    const struct kvt_cli cli = {
        .tool = "kvoverlap", .operands = "run.h5 [more.h5 ...]", .min_operands = 1, .max_operands = -1,
        .about = "How much the sets of tokens that compression methods kept agree, and on which tokens.",
        .example = "kvoverlap run.h5 --keep 25% --letters", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc)
        rc = check(o, args.n, &err);
    if (!rc)
        rc = open_run(&r, &args, &err);
    if (!rc)
        rc = measure(&r, &err);
    close_run(&r);
    return kvt_args_end(&cli, rc, &err);
}
