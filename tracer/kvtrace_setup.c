/* kvtrace: from options to a run: model, prompt, branches, what the trace wants. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tracer/gate_file.h"
#include "tracer/kvtrace.h"
#include "tracer/score_file.h"

/* One list of budgets, appended to run->budget. */
static int add_budgets(struct kvtrace_run *run, const char *list, const char *what, struct kvt_err *err)
{
    char **item = NULL;
    int count = 0, rc = kvt_split(list, &item, &count, what, err);
    if (rc)
        return rc;
    struct kvt_budget *all = realloc(run->budget, (size_t)(run->n_budgets + count) * sizeof *all);
    if (!all) {
        free(item);
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d budgets", count);
    }
    run->budget = all;
    for (int i = 0; i < count && !rc; i++) {
        struct kvt_budget *b = &all[run->n_budgets];
        if (!strcmp(what, "--tokens") || !strcmp(what, "--bytes"))
            rc = kvt_budget_parse_amount(b, item[i], !strcmp(what, "--bytes"), err);
        else
            rc = kvt_budget_parse(b, item[i], !strcmp(what, "--remove"), err);
        run->n_budgets++;
    }
    free(item);
    return rc;
}

enum { NAME = 32 };

/* A method by its name, or name#2; a preset by its own. */
static void method_name(char name[NAME], const struct kvtrace_run *run, int i)
{
    int same = 0;
    for (int j = 0; j < i; j++)
        same += run->spec[i].preset ? run->spec[j].preset == run->spec[i].preset && strcmp(run->spec[j].canonical, run->spec[i].canonical)
                                    : !run->spec[j].preset && run->spec[j].method == run->spec[i].method;
    if (run->spec[i].preset && same)
        snprintf(name, NAME, "%.26s#%d", run->spec[i].preset->name, (same + 1) % 1000);
    else if (run->spec[i].preset)
        snprintf(name, NAME, "%s", run->spec[i].preset->name);
    else if (same)
        snprintf(name, NAME, "%.16s#%d", run->spec[i].method->name, (same + 1) % 100000);
    else
        snprintf(name, NAME, "%s", run->spec[i].method->name);
}

/* Where no budget is given, 25 %, and for a preset that has one its own. */
static int default_budgets(struct kvtrace_run *run, struct kvt_err *err)
{
    int rc = 0;
    run->own = kvt_calloc((size_t)run->n_specs + 1, sizeof *run->own);
    if (!run->own)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d budgets", run->n_specs);
    for (int i = 0; i < run->n_specs && !rc; i++) {
        const struct kvt_preset *p = run->spec[i].preset;
        bool has = p && p->option;
        rc = add_budgets(run, has ? p->value : "25%", has ? p->option : "--keep", err);
        if (!rc)
            run->own[i] = run->budget[--run->n_budgets];
    }
    return rc ? rc : add_budgets(run, "25%", "--keep", err);
}

/* The budgets of method i: what was given, or its own one; n_budgets is 1 then. */
static const struct kvt_budget *budgets_of(const struct kvtrace_run *run, int i) { return run->own ? &run->own[i] : run->budget; }

int kvtrace_open_plugins(struct kvtrace_run *run, struct kvt_err *err)
{
    if (!run->o.plugins)
        return 0;
    char **path = NULL;
    int count = 0, rc = kvt_split(run->o.plugins, &path, &count, "--method-plugin", err);
    for (int i = 0; i < count && !rc; i++)
        rc = kvt_plugin_open(&run->plugins, path[i], err);
    free(path);
    return rc;
}

const char *kvtrace_budget_text(const struct kvt_budget *b, char text[24])
{
    static const char *const whose[] = { "", "/layer", "/all" }, *const bytes_of[] = { "/head", "/layer", "" };
    if (b->kind == KVT_BUDGET_BYTES)
        snprintf(text, 24, "%lld B%s", (long long)b->amount, bytes_of[b->of]);
    else if (b->kind == KVT_BUDGET_TOKENS)
        snprintf(text, 24, "%lld tok%s", (long long)b->amount, whose[b->of]);
    else
        snprintf(text, 24, "%g%%", (double)b->keep_ppm / 10000);
    return text;
}

/* Two classes of heads are a budget of their own: one branch, whatever budgets the others have. */
static bool by_class(const struct kvt_spec *spec) { return spec->policy.alloc == KVT_ALLOC_CLASS; }
static int budget_count(const struct kvtrace_run *run, int i, int match)
{
    return by_class(&run->spec[i]) || (match >= 0 && by_class(&run->spec[match])) ? 1 : run->n_budgets;
}

/* The method that --match names: it must be one of the list, by its name or as name#2. -1: none was asked for. */
static int match_of(const struct kvtrace_run *run, int *spec, struct kvt_err *err)
{
    char name[NAME];
    *spec = -1;
    if (!run->o.match)
        return 0;
    for (int i = 0; i < run->n_specs; i++) {
        method_name(name, run, i);
        if (!strcmp(name, run->o.match) && strcmp(name, "full")) {
            *spec = i;
            return 0;
        }
    }
    return kvt_fail(err, KVT_EUSAGE, "--match '%.40s' is none of the methods that run; name one of --method or --preset (a second one of the same name is name#2)", run->o.match);
}

/* Every method at every budget; with --match the others at what that method keeps. `full` in the list is the branch that
 * is always there. */
static int make_branches(struct kvtrace_run *run, struct kvt_err *err)
{
    const struct kvtrace_options *o = &run->o;
    char method[NAME], budget[24];
    int rc = 0, match = -1;
    if (!o->methods && !o->presets)
        return o->match || o->budget_file ? kvt_fail(err, KVT_EUSAGE, "%s without --method: name the methods that follow it", o->match ? "--match" : "--budget-file") : 0;
    if (o->methods)
        rc = kvt_spec_parse_list(&run->spec, &run->n_specs, o->methods, &run->plugins.list, err);
    if (!rc && o->presets)
        rc = kvt_preset_parse_list(&run->spec, &run->n_specs, o->presets, err);
    if (!rc)
        kvtrace_oracles_last(run);
    if (!rc && o->keep_given)
        rc = add_budgets(run, o->keep, "--keep", err);
    if (!rc && o->remove_given)
        rc = add_budgets(run, o->remove, "--remove", err);
    if (!rc && o->tokens_given)
        rc = add_budgets(run, o->tokens, "--tokens", err);
    if (!rc && o->bytes_given)
        rc = add_budgets(run, o->bytes, "--bytes", err);
    if (!rc)
        rc = kvtrace_open_budgets(run, err);
    if (!rc && !run->n_budgets && !o->budget_file)
        rc = default_budgets(run, err);
    if (!rc)
        rc = match_of(run, &match, err);
    if (rc)
        return rc;
    int before = 0; /* branches in front of those to match */
    for (int i = 0; i < match; i++)
        before += strcmp(run->spec[i].method->name, "full") ? budget_count(run, i, match) : 0;
    int from_file = 0;
    for (int i = 0; i < run->n_specs; i++) {
        method_name(method, run, i);
        from_file += kvtrace_count_budgets(run, method);
        if (o->budget_file && !run->n_budgets && !by_class(&run->spec[i]) && strcmp(method, "full") && !kvtrace_count_budgets(run, method))
            return kvt_fail(err, KVT_EUSAGE, "%s has no budgets for %s; give it one by --keep, or leave it out", o->budget_file, method);
    }
    if (o->budget_file && !from_file)
        return kvt_fail(err, KVT_EUSAGE, "%s has no budgets for any of the methods that run", o->budget_file);
    size_t n = ((size_t)run->n_specs * (size_t)(run->n_budgets + 1) + (size_t)from_file) * (run->regret ? 2 : 1);
    run->branch = kvt_calloc(n, sizeof *run->branch);
    run->name = kvt_calloc(n, sizeof *run->name);
    run->asked = kvt_calloc(n, sizeof *run->asked);
    if (!run->branch || !run->name || !run->asked)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %zu branches", n);
    for (int i = 0; i < run->n_specs; i++) {
        if (!strcmp(run->spec[i].method->name, "full"))
            continue;
        if (run->spec[i].policy.score == KVT_SCORE_RANDOM) {
            run->spec[i].policy.seed += o->seed;
            kvt_spec_canonical(&run->spec[i]);
        }
        method_name(method, run, i);
        for (int j = 0; j < budget_count(run, i, match); j++) {
            int b = run->n_branches++;
            struct kvt_branch_opts *to = &run->branch[b];
            bool follows = match >= 0 && i != match && !by_class(&run->spec[i]);
            const struct kvt_spec *from = &run->spec[follows ? match : i];
            struct kvt_budget asked = by_class(from) ? (struct kvt_budget){ .kind = KVT_BUDGET_KEEP, .keep_ppm = from->policy.class_ppm }
                                                     : budgets_of(run, follows ? match : i)[j];
            if (by_class(from))
                snprintf(budget, sizeof budget, "class %g%%", from->policy.class_ppm / 1e4);
            else
                kvtrace_budget_text(&asked, budget);
            int room = (int)sizeof run->name[b] - 4 - (int)strlen(method);
            snprintf(run->name[b], sizeof run->name[b], "%.31s %s%.*s", method, follows ? "~ " : "", room, budget);
            for (int k = 0; k < b; k++)
                if (!strcmp(run->name[k], run->name[b]))
                    return kvt_fail(err, KVT_EUSAGE, "--keep: '%s' is asked for twice", run->name[b]);
            snprintf(run->asked[b], sizeof run->asked[b], "%s", budget);
            *to = (struct kvt_branch_opts){ .name = run->name[b], .spec = run->spec[i], .budget = asked };
            if (follows)
                to->budget = (struct kvt_budget){ .kind = KVT_BUDGET_MATCH, .match = 1 + before + j };
        }
        for (int k = kvtrace_count_budgets(run, method), j = 0; j < k; j++) {
            rc = kvtrace_budget_branch(run, i, method, j, run->n_branches, err);
            if (rc)
                return rc;
            run->n_branches++;
        }
    }
    for (int b = 0; b < run->n_branches; b++)
        if (run->branch[b].budget.kind == KVT_BUDGET_MATCH)
            snprintf(run->asked[b], sizeof run->asked[b], "as %s", run->name[run->branch[b].budget.match - 1]);
    return run->regret ? kvtrace_add_oracles(run, err) : 0;
}

static int make_wants(struct kvtrace_run *run, const struct kvt_shape *s, struct kvt_err *err)
{
    const struct kvtrace_options *o = &run->o;
    run->layer_mask = kvt_calloc((size_t)s->L, 1);
    run->head_mask = kvt_calloc((size_t)s->H, 1);
    if (!run->layer_mask || !run->head_mask)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", s->L);
    int rc = kvt_parse_mask(o->layers, s->L, run->layer_mask, "--layers", err);
    if (!rc)
        rc = kvt_parse_mask(o->heads, s->H, run->head_mask, "--heads", err);
    if (!rc && o->maps == KVTRACE_MAPS_FULL && s->H > 64)
        rc = kvt_fail(err, KVT_EUNSUP, "--maps full: this model has %d query heads; full maps are recorded for models of up to 64", s->H);
    run->wants = (struct kvt_wants){ .n_sink = 4, .n_local = 32, .decisions = true };
    if (!rc && !o->no_full) /* without the shared prefill there is nothing to see */
        rc = kvtrace_see(run, err);
    if (!rc)
        rc = kvtrace_dump(run, err);
    if (o->maps != KVTRACE_MAPS_NONE && !o->no_full) {
        int n = run->prompt.tokens.n; /* where the question is hidden, maps cover less: some bins may then be empty */
        run->wants.map_r = run->wants.map_c = o->map_size < n ? o->map_size : n;
    }
    if (o->maps == KVTRACE_MAPS_FULL) {
        run->wants.full = run->wants.half = true;
        run->wants.head = run->head_mask;
    }
    run->wants.layer = run->layer_mask;
    return rc;
}

static int by_start(const void *a, const void *b)
{
    const int32_t *x = a, *y = b;
    return x[1] != y[1] ? (x[1] > y[1]) - (x[1] < y[1]) : (x[0] > y[0]) - (x[0] < y[0]);
}

/* Kinds of text, for methods that protect some or keep whole sentences. */
static int make_spans(struct kvtrace_run *run, struct kvt_err *err)
{
    const struct kvt_prompt *p = &run->prompt;
    run->span = kvt_calloc((size_t)p->n_spans * 3, sizeof *run->span);
    if (!run->span)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", p->n_spans);
    for (int i = 0; i < p->n_spans; i++) {
        int32_t *at = run->span + 3 * i;
        at[0] = (int32_t)p->span[i].kind, at[1] = p->span[i].start, at[2] = p->span[i].end;
    }
    qsort(run->span, (size_t)p->n_spans, 3 * sizeof *run->span, by_start);
    return 0;
}

static int make_shots(struct kvtrace_run *run, struct kvt_err *err)
{
    run->shot = kvt_calloc((size_t)run->prompt.n_spans * 2, sizeof *run->shot);
    if (!run->shot)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", run->prompt.n_spans);
    run->n_shots = kvt_prompt_shots(&run->prompt, run->prompt.tokens.n, run->shot, run->prompt.n_spans);
    return 0;
}

/* Windows as long as the question, of this prompt. */
static int question_windows(struct kvtrace_run *run, struct kvt_err *err)
{
    int n = run->prompt.tokens.n, start = run->prompt.question_start, rows = start >= 0 ? n - start : run->o.window < n ? run->o.window : n - 1;
    bool first = !run->by_question;
    if (first && !(run->by_question = kvt_calloc((size_t)run->n_branches + 1, 1)))
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", run->n_branches);
    for (int b = 0; b < run->n_branches; b++) {
        struct kvt_spec *spec = &run->branch[b].spec;
        if (first)
            run->by_question[b] = spec->policy.window == KVT_WINDOW_QUESTION;
        if (run->by_question[b]) {
            spec->policy.window = rows;
            kvt_spec_canonical(spec);
        }
    }
    return 0;
}

/* Scores of the method `file` and gates of classes, once for each file. */
static int read_scores(struct kvtrace_run *run, struct kvt_err *err)
{
    const struct kvt_shape *shape = kvt_model_shape(run->model);
    run->given = kvt_calloc((size_t)run->n_branches, sizeof *run->given);
    if (!run->given)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", run->n_branches);
    for (int b = 0; b < run->n_branches; b++) {
        struct kvt_branch_opts *o = &run->branch[b];
        bool gates = by_class(&o->spec);
        if (o->spec.policy.score != KVT_SCORE_FILE && !gates)
            continue;
        if (!*o->spec.policy.path && gates)
            return kvt_fail(err, KVT_EUSAGE, "%s: which heads keep everything? give path=FILE, a line for each layer with a gate for each kv head", o->spec.method->name);
        if (!*o->spec.policy.path)
            return kvt_fail(err, KVT_EUSAGE, "%s: which file? write file[scores.h5]", o->spec.method->name);
        for (int k = 0; k < b && !o->given; k++)
            if (run->branch[k].given && by_class(&run->branch[k].spec) == gates && !strcmp(run->branch[k].spec.policy.path, o->spec.policy.path))
                o->given = run->branch[k].given, o->n_given = run->branch[k].n_given;
        if (o->given)
            continue;
        int rc = gates ? kvt_gate_file_read(&run->given[b], o->spec.policy.path, shape->L, shape->G, err)
                       : kvt_score_file_read(&run->given[b], &o->n_given, o->spec.policy.path, shape->L, shape->G, run->prompt.tokens.n, err);
        if (rc)
            return rc;
        o->given = run->given[b];
        if (gates)
            o->n_given = 1;
    }
    return 0;
}

int kvtrace_setup(struct kvtrace_run *run, struct kvt_err *err)
{
    static const enum kvt_dtype kv_types[] = { KVT_F16, KVT_BF16, KVT_F32 };
    const struct kvtrace_options *o = &run->o;
    if (o->keep_given + o->remove_given + o->tokens_given + o->bytes_given && !o->methods && !o->presets)
        return kvt_fail(err, KVT_EUSAGE, "a budget without --method or --preset: name the methods that it is for");
    if (o->no_full && o->for_replay)
        return kvt_fail(err, KVT_EUSAGE, "--for-replay records the uncompressed branch, and --no-full leaves it out; drop one of them");
    if (o->no_full && o->maps == KVTRACE_MAPS_FULL)
        return kvt_fail(err, KVT_EUSAGE, "--maps full are of the prefill that branches share, and --no-full leaves it out; drop one of them");
    if (o->no_full && o->dump)
        return kvt_fail(err, KVT_EUSAGE, "--dump is of the prefill that branches share, and --no-full leaves it out; drop one of them");
    if (o->profile && !o->out)
        return kvt_fail(err, KVT_EUSAGE, "--profile goes into a trace: name one with -o");
    if (o->dump && !o->out)
        return kvt_fail(err, KVT_EUSAGE, "--dump goes into a trace: name one with -o");
    int rc = kvtrace_fidelity(run, err);
    if (!rc)
        rc = make_branches(run, err);
    if (!rc && kvt_embedded_asked(o->model)) {
        rc = kvt_embedded_find(run->embedded, err);
        run->o.model = run->embedded;
    }
    if (!rc)
        rc = kvt_model_open(&run->model, o->model, err);
    if (!rc)
        rc = kvtrace_fill_budgets(run, err);
    if (!rc && !run->fed)
        rc = kvtrace_open_prompts(run, err);
    if (rc)
        return rc;
    const struct kvt_ops *ops;
    rc = kvt_ops_load(&ops, kvtrace_backends[o->backend], err);
    if (rc)
        return rc;
    struct kvt_err why;
    if (o->profile && kvt_plugin_profile(&run->profile, ops, &why) && !o->quiet)
        fprintf(stderr, "kvtrace: --profile: %s\n", why.text);
    struct kvt_dev *dev = NULL;
    enum kvt_compute compute = o->compute == KVTRACE_COMPUTE_BF16 ? KVT_COMPUTE_BF16 : o->compute == KVTRACE_COMPUTE_F16 ? KVT_COMPUTE_F16 : KVT_COMPUTE_F32;
    if (o->compute == KVTRACE_COMPUTE_AUTO) {
        rc = ops->open(&dev, &(struct kvt_dev_opts){ .threads = o->threads }, err);
        if (rc)
            return rc;
        compute = kvt_fastest_compute(ops, dev);
        ops->close(&dev);
    }
    run->session = (struct kvt_session_opts){
        .ops = ops, .threads = o->threads, .compute = compute, .kv_type = kv_types[o->kv_type],
        .protocol = (enum kvt_protocol)o->protocol, .decode = (enum kvt_decode)o->decode, .window = o->window, .n_new = o->n_new, .compress_windows = o->compress_windows, .stop_at_end = !o->ignore_end,
        .no_full = o->no_full, .lost_mass = run->lost_mass, .output_error = run->output_error, .branch = run->branch, .n_branches = run->n_branches };
    return 0;
}

/* What belongs to one prompt. */
static void end_prompt(struct kvtrace_run *run)
{
    for (int b = 0; run->given && b < run->n_branches; b++) {
        free(run->given[b]);
        run->branch[b].given = NULL;
    }
    free(run->given);
    free(run->acts);
    free(run->see_span);
    free(run->see_of);
    free(run->shot);
    free(run->span);
    free(run->layer_mask);
    free(run->head_mask);
    run->acts = NULL, run->given = NULL, run->shot = run->span = run->see_span = run->see_of = NULL, run->layer_mask = run->head_mask = NULL;
}

int kvtrace_begin(struct kvtrace_run *run, int i, struct kvt_err *err)
{
    end_prompt(run);
    run->now = &run->item[i];
    run->prompt = run->now->prompt;
    int rc = question_windows(run, err);
    if (!rc)
        rc = read_scores(run, err);
    if (!rc)
        rc = make_wants(run, kvt_model_shape(run->model), err);
    if (!rc)
        rc = make_shots(run, err);
    if (!rc)
        rc = make_spans(run, err);
    struct kvt_session_opts *s = &run->session;
    s->token = run->prompt.tokens.id, s->n_prompt = run->prompt.tokens.n, s->question_start = run->prompt.question_start;
    s->shot = run->shot, s->n_shots = run->n_shots, s->span = run->span, s->n_spans = run->prompt.n_spans;
    return rc;
}

void kvtrace_teardown(struct kvtrace_run *run)
{
    kvt_hasher_end(&run->hasher, NULL, NULL);
    free(run->by_question);
    end_prompt(run);
    kvtrace_close_prompts(run);
    kvtrace_close_budgets(run);
    kvt_table_free(&run->table);
    kvt_model_close(&run->model);
    free(run->spec);
    kvt_plugins_close(&run->plugins);
    free(run->budget);
    free(run->own);
    free(run->branch);
    free(run->name);
    free(run->asked);
}
