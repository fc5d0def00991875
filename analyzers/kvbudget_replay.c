/* kvbudget --replay: what methods would have kept, from a trace made with --for-replay, without the model (measures.md 8). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/coherence.h"
#include "analyzers/kvbudget.h"
#include "analyzers/overlap.h"
#include "analyzers/replay.h"
#include "analyzers/replay_file.h"
#include "analyzers/replay_list.h"
#include "base/mem.h"
#include "tracer/gate_file.h"
#include "tracer/score_file.h"

enum { MOST = 10000 };

/* A branch to replay, and what came of it. */
struct line {
    char name[48], budget[24];     /* "snapkv[w=16] 25%", "25%" */
    const char *method;            /* as typed, ranges written out */
    struct kvt_spec spec;
    struct kvt_replay_ask ask;
    float *given;                  /* owned */
    enum kvt_replay_mark mark;
    char why[KVT_REPLAY_WHY];
    int live;                      /* the trace's branch of the same method and budget; -1: none */
    double kept, lost, rest, coherence, jaccard, overlap, same;
};

struct replay {
    const struct kvbudget_run *run;
    const struct kvt_trace_info *info;
    struct kvt_replay *r;
    char **method, **budget;
    int n_methods, n_budgets;
    bool tokens;
    struct line *line;
    int n;
    struct kvt_held against;       /* --against */
    bool compared;
    struct kvt_shot *shot;
    int n_shots;
    struct kvt_replay_result out;  /* of the line that runs */
    int32_t *live;                 /* (L, G, n_tok) */
};

/* ---- what is asked ---- */

static uint64_t seed_of(const struct kvt_trace_info *in)
{
    for (int i = 0; i < in->n_attrs; i++)
        if (!strcmp(in->attr[i].name, "seed"))
            return strtoull(in->attr[i].value, NULL, 10);
    return 0;
}

/* The spec as kvtrace would have it on this prompt: chance from the run's seed, a window as long as the question. */
static int parse_spec(struct replay *p, struct line *l, struct kvt_err *err)
{
    int rc = kvt_spec_parse(&l->spec, l->method, strlen(l->method), err), question = kvt_replay_question(p->r);
    if (rc)
        return rc;
    if (l->spec.policy.score == KVT_SCORE_RANDOM)
        l->spec.policy.seed += seed_of(p->info);
    if (l->spec.policy.window == KVT_WINDOW_QUESTION) {
        if (question < 1)
            return kvt_fail(err, KVT_EINPUT, "%s: this trace doesn't say how long the question is; give w=N", l->method);
        l->spec.policy.window = question;
    }
    kvt_spec_canonical(&l->spec);
    return 0;
}

static int read_given(struct replay *p, struct line *l, struct kvt_err *err)
{
    const struct kvt_policy *policy = &l->spec.policy;
    bool gates = policy->alloc == KVT_ALLOC_CLASS;
    if (!gates && policy->score != KVT_SCORE_FILE)
        return 0;
    if (!*policy->path)
        return kvt_fail(err, KVT_EUSAGE, "%s: it is made of a file; give path=FILE", l->method);
    l->ask.n_given = 1;
    int rc = gates ? kvt_gate_file_read(&l->given, policy->path, p->info->L, p->info->G, err)
                   : kvt_score_file_read(&l->given, &l->ask.n_given, policy->path, p->info->L, p->info->G, p->info->n_prompt, err);
    l->ask.given = l->given;
    return rc;
}

/* The run's own branch of the same method, parameters and budget. */
static int find_live(const struct kvt_trace_info *in, const struct line *l)
{
    for (int b = 1; b < in->n_branches; b++) {
        const struct kvt_trace_branch *br = &in->branch[b];
        bool share = l->ask.budget.kind == KVT_BUDGET_KEEP, classes = l->spec.policy.alloc == KVT_ALLOC_CLASS;
        bool same = share ? fabs(br->asked_keep - (double)l->ask.budget.keep_ppm / 1e6) < 1e-9 : isnan(br->asked_keep) && !strcmp(br->asked, l->budget);
        if (!strcmp(br->canonical, l->spec.canonical) && (same || classes) && !*br->replayed)
            return b;
    }
    return -1;
}

static int make_line(struct replay *p, int m, int b, struct kvt_err *err)
{
    struct line *l = &p->line[p->n];
    l->method = p->method[m];
    l->ask.spec = &l->spec;
    l->kept = l->lost = l->rest = l->coherence = l->jaccard = l->overlap = l->same = NAN;
    int rc = parse_spec(p, l, err);
    if (!rc)
        rc = p->tokens ? kvt_budget_parse_amount(&l->ask.budget, p->budget[b], false, err) : kvt_budget_parse(&l->ask.budget, p->budget[b], false, err);
    if (rc || (l->spec.policy.alloc == KVT_ALLOC_CLASS && b)) /* two classes of heads are a budget of their own */
        return rc;
    static const char *const whose[] = {"", "/layer", "/all"};
    if (p->tokens)
        snprintf(l->budget, sizeof l->budget, "%lld tok%s", (long long)l->ask.budget.amount, whose[l->ask.budget.of]);
    else
        snprintf(l->budget, sizeof l->budget, "%g%%", (double)l->ask.budget.keep_ppm / 1e4);
    if (l->spec.policy.alloc == KVT_ALLOC_CLASS)
        snprintf(l->budget, sizeof l->budget, "class %g%%", l->spec.policy.class_ppm / 1e4);
    snprintf(l->name, sizeof l->name, "%.23s %.20s", l->method, l->budget);
    for (int i = 0, same = 1; i < p->n; i++)
        if (!strcmp(p->line[i].name, l->name))
            snprintf(l->name, sizeof l->name, "%.11s#%d %.20s", l->method, ++same % 10000, l->budget);
    rc = read_given(p, l, err);
    p->n++;
    if (!rc)
        rc = kvt_replay_can(p->r, &l->ask, &l->mark, l->why, err);
    l->live = rc ? -1 : find_live(p->info, l);
    return rc;
}

static int make_lines(struct replay *p, struct kvt_err *err)
{
    const struct kvbudget_options *o = &p->run->o;
    p->tokens = o->tokens != NULL;
    if (o->keep && o->tokens)
        return kvt_fail(err, KVT_EUSAGE, "--keep or --tokens: one of them at a time");
    int rc = kvt_ranges(o->replay, "--replay", &p->method, &p->n_methods, err);
    if (!rc)
        rc = kvt_ranges(o->tokens ? o->tokens : o->keep ? o->keep : "25%", o->tokens ? "--tokens" : "--keep", &p->budget, &p->n_budgets, err);
    if (rc)
        return rc;
    if ((int64_t)p->n_methods * p->n_budgets > MOST)
        return kvt_fail(err, KVT_EUSAGE, "--replay: %d methods x %d budgets are more than %d; use larger steps", p->n_methods, p->n_budgets, MOST);
    p->line = kvt_calloc((size_t)p->n_methods * (size_t)p->n_budgets, sizeof *p->line);
    if (!p->line)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d methods x %d budgets", p->n_methods, p->n_budgets);
    for (int m = 0; m < p->n_methods && !rc; m++)
        for (int b = 0; b < p->n_budgets && !rc; b++)
            rc = make_line(p, m, b, err);
    return rc;
}

/* ---- what comes of it ---- */

/* Step after which a token isn't held any more; INT_MAX: held to the end. */
static int64_t until(int32_t at, int n_steps) { return at == -1 ? n_steps + 1 : at <= 0 ? 0 : at; }

/* Slots that both held over slots that either did, summed over prefill's end and all steps: 1 only where they never differ. */
static double same_as(const struct replay *p)
{
    const struct kvt_trace_info *in = p->info;
    size_t T = (size_t)in->n_tok, all = (size_t)in->L * (size_t)in->G * T;
    double both = 0, either = 0;
    for (size_t i = 0; i < all; i++) {
        int pos = (int)(i % T), from = pos < in->n_prompt ? 0 : pos - in->n_prompt + 1;
        int64_t a = until(p->out.evicted_at[i], in->n_steps) - from, b = until(p->live[i], in->n_steps) - from;
        if (from > in->n_steps)
            continue;
        a = a < 0 ? 0 : a, b = b < 0 ? 0 : b;
        both += (double)(a < b ? a : b), either += (double)(a > b ? a : b);
    }
    return either > 0 ? both / either : NAN;
}

static int measure(struct replay *p, struct line *l, struct kvt_err *err)
{
    const struct kvt_trace_info *in = p->info;
    struct kvt_held held = {0};
    struct kvt_overlap o = {0};
    struct kvt_coherence_result c;
    struct kvt_rng rng;
    kvt_rng_seed(&rng, 0);
    l->kept = p->out.effective_keep;
    int rc = kvt_replay_lost(p->r, p->out.evicted_at, &l->lost, &l->rest, err);
    if (!rc)
        rc = kvt_held_make(in->L, in->G, in->n_context, in->n_tok, p->out.evicted_at, p->out.reason, 0, &held, err);
    if (!rc && p->compared) {
        kvt_overlap_of(&held, &p->against, 0, in->L, &o);
        l->jaccard = kvt_overlap_jaccard(&o), l->overlap = kvt_overlap_adjusted(&o);
    }
    if (!rc && p->n_shots > 1) {
        rc = kvt_coherence_of(&held, in, p->shot, p->n_shots, 0, in->L, 0.5, 0, &rng, &c, NULL, err);
        l->coherence = rc ? NAN : c.adjusted;
    }
    if (!rc && l->live >= 0 && !(rc = kvt_trace_evicted_at(p->run->trace, l->live, p->live, err)))
        l->same = same_as(p);
    kvt_held_free(&held);
    return rc;
}

/* The branches that can be replayed, as a trace that is to be written. */
static int open_file(struct replay *p, struct kvt_replay_file **file, struct kvt_err *err)
{
    const struct kvbudget_options *o = &p->run->o;
    struct kvt_plan_branch *branch = kvt_calloc((size_t)p->n + 1, sizeof *branch);
    int n = 0;
    if (!branch)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", p->n);
    for (int i = 0; i < p->n; i++) {
        const struct line *l = &p->line[i];
        bool share = l->ask.budget.kind == KVT_BUDGET_KEEP;
        if (l->mark == KVT_REPLAY_REFUSED)
            continue;
        branch[n++] = (struct kvt_plan_branch){
            .name = l->name, .method = l->spec.method->name, .canonical = l->spec.canonical, .asked_keep = share ? (double)l->ask.budget.keep_ppm / 1e6 : NAN,
            .asked_tok = kvt_budget_tokens(&l->ask.budget, p->info->n_context), .schedule = (const char *const[]){"prefill", "step", "every"}[l->spec.policy.schedule],
            .renumber = l->spec.policy.renumber, .asked = l->budget, .replayed = kvt_replay_marks[l->mark]};
    }
    int rc = n ? kvt_replay_file_open(file, p->run->trace, o->write_trace, o->force, o->command_line, branch, n, err)
               : kvt_fail(err, KVT_EINPUT, "--write-trace: none of these can be replayed, so there is nothing to write");
    free(branch);
    return rc;
}

static int run_lines(struct replay *p, struct kvt_err *err)
{
    struct kvt_replay_file *file = NULL;
    int rc = p->run->o.write_trace ? open_file(p, &file, err) : 0, b = 0;
    for (int i = 0; i < p->n && !rc; i++) {
        struct line *l = &p->line[i];
        if (l->mark == KVT_REPLAY_REFUSED)
            continue;
        b++;
        rc = kvt_replay_run(p->r, &l->ask, file ? kvt_replay_file_probe(file, b) : NULL, &p->out, err);
        if (!rc && file)
            rc = kvt_replay_file_branch(file, b, &p->out, err);
        if (!rc)
            rc = measure(p, l, err);
    }
    int closed = kvt_replay_file_close(&file, rc, rc ? NULL : err);
    return rc ? rc : closed;
}

static int print_lines(const struct replay *p, struct kvt_err *err)
{
    const struct kvt_col col[] = {
        {.name = "method", .kind = KVT_COL_TEXT},
        {.name = "asked", .kind = KVT_COL_TEXT},
        {.name = "replay", .kind = KVT_COL_TEXT},
        {.name = "effective_keep", .title = "kept", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "lost_mass", .title = "lost", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "lost_rest", .title = "no sinks", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "coherence_adjusted", .title = "C*", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 3, .programs_only = !p->compared},
        {.name = "overlap_adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3, .programs_only = !p->compared},
        {.name = "as_live", .title = "live", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "why", .kind = KVT_COL_TEXT, .programs_only = true},
        {.name = "canonical", .kind = KVT_COL_TEXT, .programs_only = true},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int i = 0; i < p->n; i++) {
        const struct line *l = &p->line[i];
        const double value[] = {l->kept, l->lost, l->rest, l->coherence, l->jaccard, l->overlap, l->same};
        kvt_put_text(t, l->method);
        kvt_put_text(t, l->budget);
        kvt_put_text(t, kvt_replay_marks[l->mark]);
        for (size_t k = 0; k < sizeof value / sizeof *value; k++)
            kvt_put_real(t, value[k]);
        kvt_put_text(t, l->why);
        kvt_put_text(t, l->spec.canonical);
    }
    int rc = kvbudget_end_table(p->run, 0, &t, err);
    for (int i = 0; i < p->n && !rc && p->run->o.format == KVT_FORMAT_TABLE; i++) { /* each reason once, with its first line */
        const struct line *l = &p->line[i];
        int same = 0;
        for (int k = 0; k < i && *l->why; k++)
            same += p->line[k].mark == l->mark && !strcmp(p->line[k].why, l->why) && p->line[k].spec.method == l->spec.method;
        if (*l->why && !same)
            fprintf(stderr, "kvbudget: %s %s: %s\n", l->name, kvt_replay_marks[l->mark], l->why);
    }
    return rc;
}

int kvbudget_replay(const struct kvbudget_run *run, struct kvt_err *err)
{
    struct replay p = {.run = run, .info = run->info};
    const struct kvt_trace_info *in = run->info;
    size_t cells = (size_t)in->L * (size_t)in->G;
    int *against = NULL, n_against = 0, rc = 0;
    if (run->o.against && !(rc = kvt_pick_branches(in, run->o.against, &against, &n_against, err))) {
        if (n_against != 1)
            rc = kvt_fail(err, KVT_EUSAGE, "--against '%.40s' names %d branches; name one, as kvinfo shows them", run->o.against, n_against);
        if (!rc)
            rc = kvt_held_load(run->trace, against[0], 0, NULL, &p.against, err);
        p.compared = !rc;
    }
    free(against);
    p.out.evicted_at = kvt_calloc(cells * (size_t)in->n_tok, sizeof *p.out.evicted_at);
    p.out.reason = kvt_calloc(cells * (size_t)in->n_context + 1, 1);
    p.live = kvt_calloc(cells * (size_t)in->n_tok, sizeof *p.live);
    if (!rc && (!p.out.evicted_at || !p.out.reason || !p.live))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the history of %d tokens", in->n_tok);
    if (!rc)
        rc = kvt_shots(in, &p.shot, &p.n_shots, err);
    if (!rc)
        rc = kvt_replay_open(&p.r, run->trace, err);
    if (!rc)
        rc = make_lines(&p, err);
    if (!rc)
        rc = run_lines(&p, err);
    if (!rc)
        rc = print_lines(&p, err);
    for (int i = 0; p.line && i < p.n; i++)
        free(p.line[i].given);
    kvt_replay_close(&p.r);
    kvt_ranges_free(&p.method, p.n_methods);
    kvt_ranges_free(&p.budget, p.n_budgets);
    if (p.compared)
        kvt_held_free(&p.against);
    void *own[] = {p.line, p.shot, p.out.evicted_at, p.out.reason, p.live};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        free(own[i]);
    return rc;
}
