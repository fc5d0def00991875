/* kvplot: a trace as pictures, through gnuplot. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/utf8.h"
#include "plots/plot.h"

/* style: the .gp that it is drawn with */
static const struct { const char *name, *style; int (*draw)(const struct kvt_plot *p, struct kvt_err *err); } figures[] = {
    {"heatmap", "heatmap", kvt_plot_heatmap}, {"kept", "kept", kvt_plot_kept}, {"overlap", "overlap", kvt_plot_overlap},
    {"depth", "chart", kvt_plot_depth}, {"survival", "chart", kvt_plot_survival}, {"sets", "chart", kvt_plot_sets},
    {"coherence", "chart", kvt_plot_coherence}, {"budget", "chart", kvt_plot_budget}, {"bytes", "chart", kvt_plot_bytes},
    {"asked", "chart", kvt_plot_asked}, {"kl", "chart", kvt_plot_kl}, {"lost", "chart", kvt_plot_lost},
    {"layers", "chart", kvt_plot_layers}, {"lorenz", "chart", kvt_plot_lorenz}, {"timeline", "chart", kvt_plot_timeline},
};
enum { FIGURES = sizeof figures / sizeof *figures };

const char *kvt_plot_subject(const struct kvt_trace_info *info, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s, prompt of %d tokens, protocol %s", info->model_name, info->n_prompt, info->protocol);
    return buf;
}

bool kvt_plot_has_sections(const struct kvt_trace_info *info, int n_tok)
{
    for (int i = 0; i < info->n_spans; i++)
        if (kvt_is_section(&info->span[i]) && info->span[i].start < n_tok)
            return true;
    return false;
}

/* Names are set about 85 characters to an axis. */
static bool fits(const char *name, int tokens, int n_tok)
{
    int width = 1;
    uint32_t c;
    for (; *name; width += kvt_utf8_width(c))
        name += kvt_utf8_next(name, &c);
    return (int64_t)85 * tokens >= (int64_t)width * n_tok;
}

void kvt_plot_span_tics(FILE *gp, const struct kvt_trace_info *info, const char *axis, int n_tok, enum kvt_tics how)
{
    /* Names in the middle of their span (minor tics carry no label, so the borders are minor, drawn as grid lines). */
    int n = 0;
    for (int i = 0; i < info->n_spans; i++) {
        const struct kvt_trace_span *s = &info->span[i];
        if (!kvt_is_section(s) || s->start >= n_tok)
            continue;
        int end = s->end < n_tok ? s->end : n_tok;
        const char *name = how == KVT_TICS_BORDERS ? "" : s->name;
        char letter[5] = {0};
        bool brief = how == KVT_TICS_SHORT || (how == KVT_TICS_NAMES && !fits(name, end - s->start, n_tok));
        if (brief && !strcmp(s->kind, "shot") && !strncmp(name, "shot ", 5)) {
            name += 5;
        } else if (brief) {
            uint32_t c;
            memcpy(letter, name, (size_t)kvt_utf8_next(name, &c));
            if (c < 0x80)
                letter[0] = (char)toupper((int)c);
            name = letter;
        }
        if (n++)
            fputs(", ", gp);
        else
            fprintf(gp, "set %stics (", axis);
        if (s->start > 0)
            fprintf(gp, "'' %d 1, ", s->start);
        kvt_gp_tic(gp, name);
        fprintf(gp, " %.1f", 0.5 * (s->start + end));
    }
    if (n) /* an empty list would bring gnuplot's own numbers */
        fprintf(gp, ")\nset grid noxtics noytics nomxtics nomytics no%stics m%stics front linestyle 1, linestyle 1\n", axis, axis);
    else
        fprintf(gp, "unset %stics\n", axis);
}

static int find_figure(const char *name, int *out, struct kvt_err *err)
{
    const char *names[FIGURES];
    for (int i = 0; i < FIGURES; i++) {
        names[i] = figures[i].name;
        if (!strcmp(name, figures[i].name)) {
            *out = i;
            return 0;
        }
    }
    char list[256] = "";
    for (int i = 0; i < FIGURES; i++) {
        size_t len = strlen(list);
        snprintf(list + len, sizeof list - len, "%s%s", i ? ", " : "", names[i]);
    }
    const char *near = kvt_nearest(name, names, FIGURES);
    if (near)
        return kvt_fail(err, KVT_EUSAGE, "unknown figure '%s'; did you mean %s?", name, near);
    return kvt_fail(err, KVT_EUSAGE, "unknown figure '%s'; there are %s", name, list);
}

int main(int argc, char **argv)
{
    struct kvt_plot p = {0};
    const char *prompt = NULL;
    const struct kvt_opt opt[] = {
        {.name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &p.figure.out, .value = "FILE",
         .help = "the picture: .png, .svg or .pdf"},
        {.help = "heatmap (attention, pooled):"},
        {.name = "layer", .type = KVT_OPT_STRING, .to = &p.layer, .value = "3,7-9",
         .help = "these layers (default: the mean and a few telling heads)"},
        {.name = "head", .type = KVT_OPT_STRING, .to = &p.head, .value = "0,2",
         .help = "these heads of them, a panel each (default: their mean)"},
        {.name = "max", .type = KVT_OPT_FLAG, .to = &p.max, .help = "the largest weight of each bin instead of the mean"},
        {.name = "sinks", .type = KVT_OPT_FLAG, .to = &p.sinks, .help = "sinks count for the colour range too"},
        {.help = "figures of what methods hold and cost:"},
        {.name = "branches", .letter = 'b', .type = KVT_OPT_STRING, .to = &p.branches, .value = "A,B,...",
         .help = "these: names of kvinfo, or methods (default: all at one budget)"},
        {.name = "keep", .letter = 'k', .type = KVT_OPT_STRING, .to = &p.keep, .value = "25%",
         .help = "branches asked to keep this much (default: the middle budget)"},
        {.name = "at", .type = KVT_OPT_INT, .to = &p.at, .value = "STEP", .def = "0", .max = 1e9,
         .help = "after this generated token; 0: after eviction at prefill's end"},
        {.name = "jaccard", .type = KVT_OPT_FLAG, .to = &p.jaccard, .help = "overlap: Jaccard instead of adjusted"},
        {.name = "measure", .type = KVT_OPT_CHOICE, .to = &p.measure, .value = "M", .def = "kl", .choices = kvt_plot_measures, .help = "budget: what is drawn against it"},
        {.help = "all:"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "keep-data", .type = KVT_OPT_STRING, .to = &p.figure.keep_data, .value = "DIR",
         .help = "leave script, style and data there; an edited style stays"},
        {.name = "style-dir", .type = KVT_OPT_STRING, .to = &p.figure.style_dir, .value = "DIR",
         .help = "take heatmap.gp, kept.gp, overlap.gp and chart.gp from there"},
    };
    const struct kvt_cli cli = {
        .tool = "kvplot", .operands = "FIGURE run.h5", .min_operands = 2, .max_operands = 2,
        .about = "Draws a trace. Figures: heatmap, layers, lorenz (attention); kept, depth, survival, sets, asked (what methods hold); overlap, coherence; budget, bytes, kl, lost (what it costs); timeline.",
        .example = "kvplot kept run.h5 --keep 25% -o kept.png", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    int which = 0, rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc)
        rc = find_figure(args.operand[0], &which, &err);
    if (!rc && !p.figure.out)
        rc = kvt_fail(&err, KVT_EUSAGE, "missing -o; for example: %s", cli.example);
    if (!rc)
        rc = kvt_figure_check(p.figure.out, &err);
    p.figure.style = figures[which].style;
    if (!rc)
        rc = kvt_trace_open(&p.trace, args.operand[1], prompt, &err);
    if (!rc) {
        p.info = kvt_trace_info(p.trace);
        kvt_warn_partial(p.info, "kvplot", args.operand[1], stderr);
        rc = kvt_check_step(p.info, p.at, &err);
    }
    if (!rc)
        rc = figures[which].draw(&p, &err);
    kvt_trace_close(&p.trace);
    return kvt_args_end(&cli, rc, &err);
}
