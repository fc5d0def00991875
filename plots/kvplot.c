/* kvplot: a trace as pictures, through gnuplot. */
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"
#include "plots/plot.h"

enum { MAX_TRACES = 512 };

const char *const kvt_scale_names[4] = {"log", "power", "linear", NULL};
const char *const kvt_by_names[3] = {"layers", "methods", NULL};

/* What can be drawn; operands: traces, at most (0: any number), -1: a table. name NULL: a heading. */
static const struct { const char *name, *help; int (*draw)(const struct kvt_plot *p, struct kvt_err *err); int operands; bool frames; } figures[] = {
    {NULL, "attention", NULL, 0, false},
    {"heatmap", "attention by query and key: the mean and telling heads; heads, layers, all of them (--wall)", kvt_plot_heatmap, 1, false},
    {"spans", "attention from span to span; of two traces side by side", kvt_plot_spans, 2, false},
    {"heads", "what each head is, beside the slots that methods keep in it", kvt_plot_heads, 1, false},
    {"layers", "entropy and mass on sinks, by layer", kvt_plot_layers, 1, false},
    {"lorenz", "how unevenly mass lies on tokens, with and without sinks", kvt_plot_lorenz, 1, false},
    {NULL, "what methods hold", NULL, 0, false},
    {"kept", "tokens by layers (or --by methods), at one step or over --steps; .gif: an animation", kvt_plot_kept, 1, true},
    {"depth", "share kept against the place in the context", kvt_plot_depth, 1, false},
    {"survival", "prompt tokens still held over steps, by kind of span", kvt_plot_survival, 1, false},
    {"sets", "UpSet plot: which methods keep a slot together", kvt_plot_sets, 1, false},
    {"asked", "budgets asked and held", kvt_plot_asked, 1, false},
    {"overlap", "every two methods, with the tree of who goes with whom", kvt_plot_overlap, 1, false},
    {"coherence", "shot coherence C* of each method, beside chance", kvt_plot_coherence, 1, false},
    {NULL, "what it costs", NULL, 0, false},
    {"budget", "a --measure against the share held, with its null band", kvt_plot_budget, 1, false},
    {"bytes", "KL against KV bytes", kvt_plot_bytes, 1, false},
    {"kl", "KL by generated token; of several prompts the median and its band", kvt_plot_kl, 0, false},
    {"derive", "ShotKV's two shares along a budget (--keep): what each pair loses, what a step buys", kvt_plot_derive, 0, false},
    {"lost", "lost mass by layer and budget, a panel for each method", kvt_plot_lost, 1, false},
    {"accuracy", "accuracy against mean bytes with intervals, from kvbench's table and its pairs", kvt_plot_accuracy, -1, false},
    {"timeline", "where the time of the run went", kvt_plot_timeline, 1, false},
};
enum { FIGURES = sizeof figures / sizeof *figures };

static int find_figure(const char *name, int *out, struct kvt_err *err)
{
    const char *names[FIGURES];
    int n = 0;
    char list[400] = "";
    for (int i = 0; i < FIGURES; i++) {
        if (!figures[i].name)
            continue;
        if (!strcmp(name, figures[i].name)) {
            *out = i;
            return 0;
        }
        size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", n ? ", " : "", figures[i].name);
        names[n++] = figures[i].name;
    }
    const char *near = kvt_nearest(name, names, n);
    if (near)
        return kvt_fail(err, KVT_EUSAGE, "unknown figure '%s'; did you mean %s?", name, near);
    return kvt_fail(err, KVT_EUSAGE, "unknown figure '%s'; there are %s", name, list);
}

static int open_one(struct kvt_plot *p, const char *path, const char *prompt, struct kvt_err *err)
{
    if (p->n_traces == MAX_TRACES)
        return kvt_fail(err, KVT_EUSAGE, "more than %d prompts", MAX_TRACES);
    int rc = kvt_trace_open(&p->traces[p->n_traces], path, prompt, err);
    if (!rc)
        kvt_warn_partial(kvt_trace_info(p->traces[p->n_traces++]), "kvplot", path, stderr);
    return rc;
}

/* Prompts of one model make a median; those of two make nothing. */
static int check_models(const struct kvt_plot *p, struct kvt_err *err)
{
    for (int i = 1; i < p->n_traces; i++) {
        const struct kvt_trace_info *a = p->info, *b = kvt_trace_info(p->traces[i]);
        if (strcmp(a->model_name, b->model_name) || strcmp(a->model_sha256, b->model_sha256))
            return kvt_fail(err, KVT_EINPUT, "%s is of another model: %s, not %s (or of other weights); --force draws them together", b->path, b->model_name, a->model_name);
    }
    return 0;
}

/* Every operand; where a figure takes any number of traces, all prompts of a file that has several. */
static int open_all(struct kvt_plot *p, char **path, int n, const char *prompt, bool every, bool force, struct kvt_err *err)
{
    p->traces = kvt_calloc(MAX_TRACES, sizeof *p->traces);
    if (!p->traces)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the traces");
    for (int i = 0; i < n; i++) {
        int rc = open_one(p, path[i], prompt, err), ids = 0;
        char **id = NULL;
        if (!rc && every && !prompt) {
            rc = kvt_split(kvt_trace_info(p->traces[p->n_traces - 1])->prompts, &id, &ids, "prompts", err);
            for (int k = 1; !rc && k < ids; k++)
                rc = open_one(p, path[i], id[k], err);
            free(id);
        }
        if (rc)
            return rc;
    }
    p->trace = p->traces[0];
    p->info = kvt_trace_info(p->trace);
    int rc = every && !force ? check_models(p, err) : 0;
    return rc ? rc : kvt_check_step(p->info, p->at, err);
}

static void close_all(struct kvt_plot *p)
{
    for (int i = 0; i < p->n_traces; i++)
        kvt_trace_close(&p->traces[i]);
    free(p->traces);
}

static int check_operands(int which, int n, struct kvt_err *err)
{
    int most = figures[which].operands < 0 ? 2 : figures[which].operands;
    if (!most || n <= most)
        return 0;
    return kvt_fail(err, KVT_EUSAGE, "%s takes %s", figures[which].name, figures[which].operands < 0 ? "a table, or two" : most == 2 ? "one trace, or two" : "one trace");
}

int main(int argc, char **argv)
{
    struct kvt_plot p = {0};
    const char *prompt = NULL;
    bool force = false;
    struct kvt_help_row row[FIGURES];
    for (int i = 0; i < FIGURES; i++)
        row[i] = (struct kvt_help_row){figures[i].name, figures[i].help};
    const struct kvt_opt opt[] = {
        {.name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &p.figure.out, .value = "FILE",
         .help = "the picture: .png, .svg, .pdf, .tex (LaTeX, its graphic in a .pdf beside it) or, of kept --steps, .gif"},
        {.name = "paper", .type = KVT_OPT_CHOICE, .to = &p.figure.paper, .value = "P", .def = "screen", .choices = kvt_paper_names,
         .help = "how wide: column is 84 mm, page 174 mm, with text of 7 to 8 pt"},
        {.help = "heatmap, spans:"},
        {.name = "layer", .type = KVT_OPT_STRING, .to = &p.layer, .value = "3,7-9", .help = "these layers (default: all, or a few telling heads)"},
        {.name = "head", .type = KVT_OPT_STRING, .to = &p.head, .value = "0,2|all", .help = "these heads of them, a panel each (default: their mean)"},
        {.name = "scale", .type = KVT_OPT_CHOICE, .to = &p.scale, .value = "S", .def = "log", .choices = kvt_scale_names, .help = "of the colours"},
        {.name = "wall", .type = KVT_OPT_FLAG, .to = &p.wall, .help = "every head of the model, small, in a grid of layers and heads"},
        {.name = "full", .type = KVT_OPT_FLAG, .to = &p.full, .help = "from full maps (kvtrace --maps full) instead of pooled ones"},
        {.name = "tokens", .type = KVT_OPT_STRING, .to = &p.tokens, .value = "100-160", .help = "only these tokens, of full maps; their texts are set where they fit"},
        {.name = "max", .type = KVT_OPT_FLAG, .to = &p.max, .help = "the largest weight of each bin instead of the mean"},
        {.name = "sinks", .type = KVT_OPT_FLAG, .to = &p.sinks, .help = "sinks count for the colour range too"},
        {.help = "figures of what methods hold and cost:"},
        {.name = "branches", .letter = 'b', .type = KVT_OPT_STRING, .to = &p.branches, .value = "A,B,...",
         .help = "these: names of kvinfo, or methods (default: all at one budget)"},
        {.name = "keep", .letter = 'k', .type = KVT_OPT_STRING, .to = &p.keep, .value = "25%",
         .help = "branches asked to keep this much (default: the middle budget)"},
        {.name = "at", .type = KVT_OPT_INT, .to = &p.at, .value = "STEP", .def = "0", .max = 1e9,
         .help = "after this generated token; 0: after eviction at prefill's end"},
        {.name = "by", .type = KVT_OPT_CHOICE, .to = &p.by, .value = "ROWS", .def = "layers", .choices = kvt_by_names, .help = "kept: what rows are"},
        {.name = "steps", .type = KVT_OPT_INT, .to = &p.steps, .value = "N", .def = "0", .max = 200, .help = "kept: N panels (or frames of a .gif) from the prefill's end to the last step"},
        {.name = "delay", .type = KVT_OPT_INT, .to = &p.figure.delay_ms, .value = "MS", .def = "400", .min = 20, .max = 60000, .help = "kept: how long a frame of a .gif stays"},
        {.name = "jaccard", .type = KVT_OPT_FLAG, .to = &p.jaccard, .help = "overlap: Jaccard instead of adjusted"},
        {.name = "measure", .type = KVT_OPT_CHOICE, .to = &p.measure, .value = "M", .def = "kl", .choices = kvt_plot_measures, .help = "budget: what is drawn against it"},
        {.help = "all:"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &prompt, .value = "ID", .help = "of a trace with several (default: the first; kl, derive: all)"},
        {.name = "force", .type = KVT_OPT_FLAG, .to = &force, .help = "kl: draw traces of different models together"},
        {.name = "data", .type = KVT_OPT_STRING, .to = &p.figure.data, .value = "DIR",
         .help = "leave the script, its style and its data there (gnuplot plot.gp draws it again); an edited style stays"},
        {.name = "style-dir", .type = KVT_OPT_STRING, .to = &p.figure.style_dir, .value = "DIR", .help = "take the .gp styles from there"},
    };
    const struct kvt_cli cli = {
        .tool = "kvplot", .operands = "FIGURE run.h5", .min_operands = 2, .max_operands = -1, .about = "Draws a trace.",
        .example = "kvplot kept run.h5 --keep 25% -o kept.png", .row = row, .n_rows = FIGURES, .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    int which = 0, rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc)
        rc = find_figure(args.operand[0], &which, &err);
    if (!rc)
        rc = check_operands(which, args.n - 1, &err);
    if (!rc && !p.figure.out)
        rc = kvt_fail(&err, KVT_EUSAGE, "missing -o; for example: %s", cli.example);
    if (!rc)
        rc = kvt_figure_check(p.figure.out, figures[which].frames && p.steps, &err);
    if (!rc) {
        p.path = args.operand + 1, p.n_paths = args.n - 1;
        if (figures[which].operands >= 0)
            rc = open_all(&p, args.operand + 1, args.n - 1, prompt, !figures[which].operands, force, &err);
    }
    if (!rc)
        rc = figures[which].draw(&p, &err);
    close_all(&p);
    return kvt_args_end(&cli, rc, &err);
}
