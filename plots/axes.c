/* What axes and the small print say about a trace: its spans, its model and prompt; and colours for values. */
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "plots/plot.h"
#include "plots/sheet.h"

const char *kvt_plot_subject(const struct kvt_trace_info *info, char *buf, size_t cap)
{
    const char *type = "";
    int shots = 0;
    char of[32] = "";
    for (int i = 0; i < info->n_attrs; i++)
        if (!strcmp(info->attr[i].name, "model_type"))
            type = info->attr[i].value;
    for (int i = 0; i < info->n_spans; i++)
        shots += !strcmp(info->span[i].kind, "shot");
    if (shots)
        snprintf(of, sizeof of, " in %d shots", shots);
    snprintf(buf, cap, "%s%s%s, prompt %s of %d tokens%s, protocol %s.", info->model_name, type[0] ? " " : "", type, info->prompt_id, info->n_prompt, of, info->protocol);
    return buf;
}

bool kvt_plot_has_sections(const struct kvt_trace_info *info, int from, int to)
{
    for (int i = 0; i < info->n_spans; i++)
        if (kvt_is_section(&info->span[i]) && info->span[i].start < to && info->span[i].end > from)
            return true;
    return false;
}

const char *kvt_plot_brief(const struct kvt_trace_span *span, char letter[5])
{
    uint32_t c;
    if (!strcmp(span->kind, "shot") && !strncmp(span->name, "shot ", 5))
        return span->name + 5;
    memset(letter, 0, 5);
    memcpy(letter, span->name, (size_t)kvt_utf8_next(span->name, &c));
    if (c < 0x80)
        letter[0] = (char)toupper((int)c);
    return letter;
}

void kvt_plot_span_tics(const struct kvt_figure *f, const struct kvt_trace_info *info, const char *axis, int from, int to, enum kvt_tics how, double room, double size)
{
    /* Names in the middle of their span (minor tics carry no label, so the borders are minor, drawn as grid lines). */
    FILE *gp = f->gp;
    double per_token = room / (to > from ? to - from : 1), free_from = -1e9;
    int n = 0;
    for (int i = 0; i < info->n_spans; i++) {
        const struct kvt_trace_span *s = &info->span[i];
        if (!kvt_is_section(s) || s->start >= to || s->end <= from)
            continue;
        int start = s->start > from ? s->start : from, end = s->end < to ? s->end : to;
        double middle = 0.5 * (start + end), at = (middle - from) * per_token, width = kvt_text_points(s->name, size);
        char letter[5] = {0};
        const char *name = how == KVT_TICS_BORDERS ? "" : s->name;
        if (how == KVT_TICS_SHORT || (how == KVT_TICS_NAMES && (width + 0.6 * size > (end - start) * per_token))) {
            name = kvt_plot_brief(s, letter);
            width = kvt_text_points(name, size);
        }
        if (at - width / 2 < free_from) /* twenty shots on a small panel: not every number has room */
            name = "";
        else
            free_from = at + width / 2 + 0.25 * size;
        if (n++)
            fputs(", ", gp);
        else
            fprintf(gp, "set %stics (", axis);
        if (s->start > from)
            fprintf(gp, "'' %d 1, ", s->start);
        kvt_gp_tic(f, name);
        fprintf(gp, " %.1f", middle);
    }
    if (n) /* an empty list would bring gnuplot's own numbers */
        fprintf(gp, ") font ',%g'\nset grid noxtics noytics nomxtics nomytics no%stics m%stics front linestyle 1, linestyle 1\n", size, axis, axis);
    else
        fprintf(gp, "unset %stics\n", axis);
}

double kvt_plot_step(double range, double count)
{
    double step = pow(10, floor(log10(range / count)));
    while (step * count < range)
        step *= step * 2 * count >= range ? 2 : step * 5 * count >= range ? 5 : 10;
    return step < 1 ? 1 : step;
}

const char *kvt_plot_scale_text(enum kvt_scale scale)
{
    return scale == KVT_SCALE_LOG ? "log scale" : scale == KVT_SCALE_POWER ? "power scale, square root" : "linear scale";
}

/* The numbers of the bar are the values, whatever the colours go by. */
void kvt_plot_scale(FILE *gp, enum kvt_scale scale, double low, double high)
{
    if (scale == KVT_SCALE_LOG) {
        fprintf(gp, "low = %.6g\nCOLOUR_OF(v) = v < low ? low : v # what is below takes the lowest colour\nset logscale cb\nset cbrange [low:%.6g]\nset format cb '%%g'\n", low, high);
        return;
    }
    if (scale == KVT_SCALE_LINEAR) {
        fprintf(gp, "COLOUR_OF(v) = v\nset cbrange [0:%.6g]\nset format cb '%%g'\n", high);
        return;
    }
    fprintf(gp, "COLOUR_OF(v) = sqrt(v)\nset cbrange [0:%.6g]\nset cbtics ('0' 0", sqrt(high));
    for (int i = 1; i <= 4; i++)
        fprintf(gp, ", '%.2g' %.6g", high * i * i / 16, sqrt(high) * i / 4);
    fputs(")\n", gp);
}
