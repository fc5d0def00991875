/* kvoverlap: which tokens do several methods agree to keep, and is that more than chance?
 *
 * A table of pairs (Jaccard, its chance value, adjusted overlap O, a circular-shift null), overall or by layer, then the
 * prompt itself with the number of methods that keep each token. Definitions: docs/measures.md, section 4. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "analyzers/analyzer.h"
#include "analyzers/overlap.h"
#include "analyzers/tokenview.h"
#include "base/args.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/stats.h"
#include "base/table.h"

enum { FEWEST_PROMPTS = 10, BOOTSTRAP_ROUNDS = 2000, MAX_VIEWED = 24 };

struct options {
    const char *branches, *keep, *layers, *prompt;
    int at, shifts, width, format;
    uint64_t seed;
    bool per_layer, tokens, letters;
};

struct pair {
    int a, b;                  /* branches of the first trace */
    struct kvt_overlap sum;    /* over all prompts */
    double *gain, *room;       /* (prompts) */
    double *null;              /* (shifts) gain under each shift, summed over prompts */
};

struct run {
    struct options o;
    struct kvt_trace *first;   /* stays open: names, spans, the prompt to show */
    const struct kvt_trace_info *info;
    uint8_t *layer;            /* (L) */
    int n_layers;
    int *branch, n_branches;
    struct pair *pair;
    int n_pairs, n_prompts;
};

/* ---- measuring ---- */

static int make_pairs(struct run *r, struct kvt_err *err)
{
    int n = r->n_branches;
    r->pair = kvt_calloc((size_t)n * (size_t)(n > 0 ? n : 1), sizeof *r->pair);
    if (!r->pair)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the pairs of %d branches", n);
    for (int i = 0; i < n; i++)
        for (int j = i + 1; j < n; j++) {
            /* Different budgets can't agree better than the smaller one allows: only on request. */
            if (!r->o.branches && !kvt_same_budget(&r->info->branch[r->branch[i]], &r->info->branch[r->branch[j]]))
                continue;
            struct pair *p = &r->pair[r->n_pairs++];
            *p = (struct pair){.a = r->branch[i], .b = r->branch[j],
                               .gain = kvt_calloc((size_t)r->n_prompts, sizeof *p->gain),
                               .room = kvt_calloc((size_t)r->n_prompts, sizeof *p->room),
                               .null = kvt_calloc((size_t)r->o.shifts + 1, sizeof *p->null)};
            if (!p->gain || !p->room || !p->null)
                return kvt_fail(err, KVT_ENOMEM, "no memory for %d shifts", r->o.shifts);
        }
    if (!r->n_pairs && !r->o.tokens)
        return kvt_fail(err, KVT_EINPUT, "no two branches to compare at one budget; name some with --branches, or "
                                         "trace with two methods");
    return 0;
}

static int branch_named(const struct kvt_trace_info *info, const char *name)
{
    for (int b = 0; b < info->n_branches; b++)
        if (!strcmp(info->branch[b].name, name))
            return b;
    return -1;
}

static int load_all(struct run *r, struct kvt_trace *t, const char *path, struct kvt_held *held, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    if (info->L != r->info->L || info->G != r->info->G)
        return kvt_fail(err, KVT_EINPUT, "%s: %d layers x %d heads, the first trace has %d x %d; compare runs of one model",
                        path, info->L, info->G, r->info->L, r->info->G);
    int rc = kvt_check_step(info, r->o.at, err);
    for (int i = 0; !rc && i < r->n_branches; i++) {
        const char *name = r->info->branch[r->branch[i]].name;
        int b = branch_named(info, name);
        if (b < 0)
            rc = kvt_fail(err, KVT_EINPUT, "%s: no branch '%s', which the first trace has", path, name);
        else
            rc = kvt_held_load(t, b, r->o.at, r->layer, &held[r->branch[i]], err);
    }
    return rc;
}

static int measure_prompt(struct run *r, const struct kvt_held *held, int prompt, struct kvt_err *err)
{
    double *gain = kvt_calloc((size_t)r->o.shifts + 1, sizeof *gain);
    struct kvt_progress bar;
    int rc = gain ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d shifts", r->o.shifts);
    kvt_progress_start(&bar, stderr, "overlap", "pairs", r->n_pairs);
    for (int i = 0; !rc && i < r->n_pairs; i++) {
        struct pair *p = &r->pair[i];
        const struct kvt_held *a = &held[p->a], *b = &held[p->b];
        struct kvt_overlap one;
        struct kvt_rng rng;
        kvt_rng_seed(&rng, r->o.seed + (uint64_t)prompt); /* the same shifts for every pair */
        kvt_overlap_of(a, b, 0, a->L, &one);
        kvt_overlap_add(&p->sum, &one);
        p->gain[prompt] = one.gain;
        p->room[prompt] = one.room;
        rc = kvt_overlap_shifts(a, b, 0, a->L, r->o.shifts, &rng, gain, err);
        for (int s = 0; s < r->o.shifts; s++)
            p->null[s] += gain[s];
        kvt_progress_at(&bar, i + 1);
    }
    kvt_progress_end(&bar);
    free(gain);
    return rc;
}

/* ---- tables ---- */

static const char *side_name(const struct run *r, int b)
{
    const struct kvt_trace_branch *me = &r->info->branch[b];
    for (int i = 0; i < r->n_branches; i++) {
        const struct kvt_trace_branch *other = &r->info->branch[r->branch[i]];
        if (r->branch[i] != b && !strcmp(me->method, other->method) && kvt_same_budget(me, other))
            return me->name; /* two variants of a method at one budget */
    }
    return r->o.branches || !kvt_named_by_method(me) ? me->name : me->method;
}

static void put_pair_names(const struct run *r, struct kvt_table *t, const struct pair *p)
{
    const struct kvt_trace_branch *a = &r->info->branch[p->a], *b = &r->info->branch[p->b];
    char buf[32];
    kvt_put_text(t, kvt_same_budget(a, b) ? kvt_budget_text(a, buf, sizeof buf) : NULL);
    kvt_put_text(t, side_name(r, p->a));
    kvt_put_text(t, side_name(r, p->b));
}

static void put_measures(struct kvt_table *t, const struct kvt_overlap *o, double *null, int shifts)
{
    double O = kvt_overlap_adjusted(o), high = NAN, mean = NAN, pvalue = NAN;
    if (shifts > 0 && o->room > 0) {
        int reach = 1; /* the sets as they are count as one of the shifts */
        struct kvt_running m = {0};
        for (int s = 0; s < shifts; s++) {
            null[s] /= o->room;
            reach += null[s] >= O - 1e-12;
            kvt_running_add(&m, null[s]);
        }
        pvalue = (double)reach / (shifts + 1);
        mean = kvt_running_mean(&m);
        high = kvt_quantile(null, shifts, 0.95);
    }
    kvt_put_real(t, kvt_overlap_jaccard(o));
    kvt_put_real(t, kvt_overlap_chance(o));
    kvt_put_real(t, O);
    kvt_put_real(t, mean);
    kvt_put_real(t, high);
    kvt_put_real(t, pvalue);
    kvt_put_real(t, kvt_overlap_all_jaccard(o));
    kvt_put_int(t, o->cells);
    kvt_put_int(t, o->left_out);
    kvt_put_real(t, o->cells ? (double)o->universe / (double)o->cells : NAN);
}

#define MEASURE_COLUMNS                                                                                      \
    {.name = "jaccard", .title = "J", .kind = KVT_COL_REAL, .digits = 3},                                    \
    {.name = "chance", .title = "chance", .kind = KVT_COL_REAL, .digits = 3},                                \
    {.name = "adjusted", .title = "O", .kind = KVT_COL_REAL, .digits = 3},                                   \
    {.name = "shift_mean", .kind = KVT_COL_REAL, .digits = 3, .programs_only = true},                        \
    {.name = "shift_95", .title = "shift 95%", .kind = KVT_COL_REAL, .digits = 3},                           \
    {.name = "p", .kind = KVT_COL_REAL, .digits = 3},                                                        \
    {.name = "jaccard_all", .title = "J all", .kind = KVT_COL_REAL, .digits = 3},                            \
    {.name = "cells", .kind = KVT_COL_INT, .programs_only = true},                                           \
    {.name = "left_out", .kind = KVT_COL_INT, .programs_only = true},                                        \
    {.name = "universe", .unit = "tokens", .kind = KVT_COL_REAL, .digits = 1, .programs_only = true}

static int overall_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "a", .kind = KVT_COL_TEXT}, {.name = "b", .kind = KVT_COL_TEXT},
        MEASURE_COLUMNS,
        {.name = "adjusted_low", .title = "O from", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "adjusted_high", .title = "to", .kind = KVT_COL_REAL, .digits = 3},
    };
    bool interval = r->n_prompts >= FEWEST_PROMPTS;
    int n_cols = (int)(sizeof col / sizeof *col) - (interval ? 0 : 2);
    struct kvt_table *t = kvt_table_new(col, n_cols);
    double work[BOOTSTRAP_ROUNDS];
    for (int i = 0; i < r->n_pairs; i++) {
        struct pair *p = &r->pair[i];
        put_pair_names(r, t, p);
        put_measures(t, &p->sum, p->null, r->o.shifts);
        if (interval) {
            struct kvt_rng rng;
            double low, high;
            kvt_rng_seed(&rng, r->o.seed);
            kvt_bootstrap_ratio(p->gain, p->room, r->n_prompts, BOOTSTRAP_ROUNDS, 0.95, &rng, work, &low, &high);
            kvt_put_real(t, low);
            kvt_put_real(t, high);
        }
    }
    int rc = kvt_table_write(t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(&t);
    return rc;
}

static int layer_table(struct run *r, const struct kvt_held *held, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "budget", .kind = KVT_COL_TEXT}, {.name = "a", .kind = KVT_COL_TEXT}, {.name = "b", .kind = KVT_COL_TEXT},
        {.name = "layer", .kind = KVT_COL_INT}, MEASURE_COLUMNS,
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    double *null = kvt_calloc((size_t)r->o.shifts + 1, sizeof *null);
    int rc = null ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d shifts", r->o.shifts);
    for (int i = 0; i < r->n_pairs; i++) {
        const struct pair *p = &r->pair[i];
        for (int l = 0, at = 0; !rc && l < r->info->L; l++) {
            if (!r->layer[l])
                continue;
            struct kvt_overlap one;
            struct kvt_rng rng;
            kvt_rng_seed(&rng, r->o.seed);
            kvt_overlap_of(&held[p->a], &held[p->b], at, at + 1, &one);
            rc = kvt_overlap_shifts(&held[p->a], &held[p->b], at, at + 1, r->o.shifts, &rng, null, err);
            at++;
            put_pair_names(r, t, p);
            kvt_put_int(t, l);
            put_measures(t, &one, null, r->o.shifts);
        }
    }
    if (!rc)
        rc = kvt_table_write(t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(&t);
    free(null);
    return rc;
}

/* ---- the prompt ---- */

struct viewed {
    int n, branch[MAX_VIEWED];
    const char *name[MAX_VIEWED];
    char letter[MAX_VIEWED];
    double *share;             /* (n, n_context) share of cells that hold the token */
    uint8_t *keeps;            /* (n, n_context) more than half of them do */
};

static int view_of(struct run *r, const struct kvt_held *held, struct viewed *v, struct kvt_err *err)
{
    int *pick = kvt_calloc((size_t)r->n_branches + 1, sizeof *pick), count = r->n_branches;
    size_t n = (size_t)r->info->n_context;
    *v = (struct viewed){0};
    if (!pick)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", count);
    memcpy(pick, r->branch, (size_t)count * sizeof *pick);
    int rc = r->o.branches && !r->o.keep ? 0 : kvt_pick_budget(r->info, r->o.keep, pick, &count, err);
    v->n = count < MAX_VIEWED ? count : MAX_VIEWED;
    v->share = kvt_calloc((size_t)v->n * n, sizeof *v->share);
    v->keeps = kvt_calloc((size_t)v->n * n, 1);
    if (!rc && (!v->share || !v->keeps))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory to show %d methods", v->n);
    for (int i = 0; !rc && i < v->n; i++) {
        double *share = v->share + (size_t)i * n;
        kvt_held_share(&held[pick[i]], share);
        for (size_t j = 0; j < n; j++)
            v->keeps[(size_t)i * n + j] = share[j] > 0.5;
        v->branch[i] = pick[i];
        v->name[i] = kvt_short_name(r->info, pick, v->n, i);
    }
    kvt_tokenview_letters(v->name, v->n, v->letter);
    free(pick);
    return rc;
}

static int token_table(const struct run *r, const struct viewed *v, struct kvt_err *err)
{
    struct kvt_col col[6 + MAX_VIEWED] = {
        {.name = "position", .kind = KVT_COL_INT}, {.name = "id", .kind = KVT_COL_INT},
        {.name = "text", .kind = KVT_COL_TEXT}, {.name = "span", .kind = KVT_COL_TEXT},
        {.name = "methods", .kind = KVT_COL_INT}, {.name = "kept_by", .kind = KVT_COL_TEXT},
    };
    for (int i = 0; i < v->n; i++)
        col[6 + i] = (struct kvt_col){.name = v->name[i], .kind = KVT_COL_SHARE};
    struct kvt_table *t = kvt_table_new(col, 6 + v->n);
    const struct kvt_trace_info *info = r->info;
    for (int j = 0; j < info->n_context; j++) {
        const char *span = NULL;
        for (int s = 0; s < info->n_spans; s++)
            if (info->span[s].start <= j && j < info->span[s].end && kvt_is_section(&info->span[s]))
                span = info->span[s].name;
        char who[MAX_VIEWED + 1] = "";
        int count = 0;
        for (int i = 0; i < v->n; i++)
            if (v->keeps[(size_t)i * (size_t)info->n_context + (size_t)j])
                who[count++] = v->letter[i];
        kvt_put_int(t, j);
        kvt_put_int(t, info->token_id[j]);
        kvt_put_text(t, info->token_text[j]);
        kvt_put_text(t, span);
        kvt_put_int(t, count);
        kvt_put_text(t, who);
        for (int i = 0; i < v->n; i++)
            kvt_put_real(t, v->share[(size_t)i * (size_t)info->n_context + (size_t)j]);
    }
    int rc = kvt_table_write(t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(&t);
    return rc;
}

static int terminal_width(int asked)
{
    struct winsize w;
    if (asked > 0)
        return asked;
    if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_col >= 40)
        return w.ws_col < 120 ? w.ws_col : 120;
    return 80;
}

static int show_prompt(struct run *r, const struct kvt_held *held, struct kvt_err *err)
{
    struct viewed v;
    int rc = view_of(r, held, &v, err);
    if (!rc && r->o.format != KVT_FORMAT_TABLE) {
        rc = token_table(r, &v, err);
    } else if (!rc) {
        char buf[32];
        printf("The prompt at %s%s: a method keeps a token that more than half of its %d x %d cells hold.\n",
               r->o.branches && !r->o.keep ? "the budgets named" : kvt_budget_text(&r->info->branch[v.branch[0]], buf, sizeof buf),
               r->o.at ? ", later in decoding" : "", r->n_layers, r->info->G);
        struct kvt_tokenview view = {
            .info = r->info, .n_methods = v.n, .name = v.name, .letter = v.letter, .keeps = v.keeps,
            .colour = kvt_colour_choose(isatty(STDOUT_FILENO), getenv("NO_COLOR"), getenv("TERM")),
            .width = terminal_width(r->o.width), .tracks = r->o.letters,
        };
        rc = kvt_tokenview_print(&view, stdout, err);
        if (!rc && (fflush(stdout) || ferror(stdout)))
            rc = kvt_fail(err, KVT_EIO, "output: writing failed");
    }
    free(v.share);
    free(v.keeps);
    return rc;
}

/* ---- the tool ---- */

static void say_what(const struct run *r)
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
    if (r->n_prompts < FEWEST_PROMPTS)
        printf("%d prompt%s: descriptive, no interval.", r->n_prompts, r->n_prompts > 1 ? "s" : "");
    else
        printf("%d prompts: 95%% intervals by bootstrap over prompts.", r->n_prompts);
    printf(" J and O leave out what either method\nprotects (J all: every token). O: 0 = chance, 1 = nested; p: circular shifts.\n");
    if (left_out)
        printf("%lld of %lld cells have no say in O: without protected tokens a side keeps nothing there,\n"
               "or everything (\"-\": all cells of a pair).\n", (long long)left_out, (long long)cells);
    putchar('\n');
}

static void close_run(struct run *r)
{
    for (int i = 0; i < r->n_pairs; i++) {
        free(r->pair[i].gain);
        free(r->pair[i].room);
        free(r->pair[i].null);
    }
    free(r->pair);
    free(r->branch);
    free(r->layer);
    kvt_trace_close(&r->first);
}

static int open_run(struct run *r, const struct kvt_args *args, struct kvt_err *err)
{
    int rc = kvt_trace_open(&r->first, args->operand[0], r->o.prompt, err);
    if (rc)
        return rc;
    r->info = kvt_trace_info(r->first);
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
    if (!rc && r->o.keep)
        rc = kvt_pick_budget(r->info, r->o.keep, r->branch, &r->n_branches, err);
    if (!rc && !r->n_branches)
        rc = kvt_fail(err, KVT_EINPUT, "%s has no compressed branch; trace again with --method", args->operand[0]);
    return rc ? rc : make_pairs(r, err);
}

static int measure_all(struct run *r, const struct kvt_args *args, struct kvt_err *err)
{
    struct kvt_held *held = kvt_calloc((size_t)r->info->n_branches, sizeof *held);
    int rc = held ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d branches", r->info->n_branches);
    for (int p = args->n - 1; !rc && p >= 0; p--) { /* the first trace last: its sets are shown */
        struct kvt_trace *t = r->first;
        if (p)
            rc = kvt_trace_open(&t, args->operand[p], r->o.prompt, err);
        if (!rc)
            rc = load_all(r, t, args->operand[p], held, err);
        if (!rc && !r->o.per_layer && !r->o.tokens)
            rc = measure_prompt(r, held, p, err);
        if (p)
            kvt_trace_close(&t);
        for (int b = 0; p && b < r->info->n_branches; b++)
            kvt_held_free(&held[b]);
    }
    bool people = r->o.format == KVT_FORMAT_TABLE;
    if (!rc && r->o.per_layer && !r->o.tokens) {
        rc = layer_table(r, held, err);
    } else if (!rc && !r->o.tokens) {
        if (people)
            say_what(r);
        rc = overall_table(r, err);
        if (!rc && people)
            putchar('\n');
    }
    if (!rc && (r->o.tokens || (people && !r->o.per_layer)))
        rc = show_prompt(r, held, err);
    for (int b = 0; held && b < r->info->n_branches; b++)
        kvt_held_free(&held[b]);
    free(held);
    return rc;
}

int main(int argc, char **argv)
{
    struct run r = {0};
    struct options *o = &r.o;
    const struct kvt_opt opt[] = {
        {.name = "branches", .letter = 'b', .type = KVT_OPT_STRING, .to = &o->branches, .value = "A,B,...",
         .help = "compare these: names of kvinfo, or methods; any budgets (default: all, at equal budgets)"},
        {.name = "keep", .letter = 'k', .type = KVT_OPT_STRING, .to = &o->keep, .value = "25%",
         .help = "only branches asked to keep this much (the prompt: default the middle budget)"},
        {.name = "at", .type = KVT_OPT_INT, .to = &o->at, .value = "STEP", .def = "0", .max = 1e9,
         .help = "after this generated token; 0: after eviction at prefill's end"},
        {.name = "layers", .type = KVT_OPT_STRING, .to = &o->layers, .value = "0,3,8-11", .help = "only these layers"},
        {.name = "per-layer", .type = KVT_OPT_FLAG, .to = &o->per_layer, .help = "a row for each layer"},
        {.name = "tokens", .type = KVT_OPT_FLAG, .to = &o->tokens, .help = "only the prompt, token by token"},
        {.name = "letters", .type = KVT_OPT_FLAG, .to = &o->letters, .help = "below the text, which methods kept each token"},
        {.name = "shifts", .type = KVT_OPT_INT, .to = &o->shifts, .value = "N", .def = "200", .max = 100000,
         .help = "circular shifts for the null; 0: none"},
        {.name = "seed", .type = KVT_OPT_U64, .to = &o->seed, .value = "N", .def = "1", .help = "seed of shifts and bootstrap"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o->prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "width", .type = KVT_OPT_INT, .to = &o->width, .value = "N", .max = 1000, .help = "columns for the prompt (default: the terminal's)"},
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
    if (!rc && o->per_layer && args.n > 1)
        rc = kvt_fail(&err, KVT_EUSAGE, "--per-layer takes one trace");
    if (!rc)
        rc = open_run(&r, &args, &err);
    if (!rc)
        rc = measure_all(&r, &args, &err);
    close_run(&r);
    return kvt_args_end(&cli, rc, &err);
}
