/* Attention from span to span, of one trace or of two tasks side by side. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"
#include "plots/sheet.h"

/* The sections among the spans that the trace has sums of, and their mean (n, n) over the layers and heads asked for. */
struct table { int n, *at; float *v; const struct kvt_trace_info *info; };

static int load(const struct kvt_plot *p, struct kvt_trace *t, struct table *out, struct kvt_err *err)
{
    const struct kvt_trace_info *info = kvt_trace_info(t);
    size_t M = (size_t)info->n_map_spans, H = (size_t)info->H;
    *out = (struct table){.info = info, .at = kvt_calloc(M + 1, sizeof(int))};
    if (!M) {
        free(out->at);
        out->at = NULL;
        return kvt_fail(err, KVT_EINPUT, "%s", !info->n_spans ? "this prompt has no spans; trace again with --shots, or with -f and --shot-sep"
                                                              : "this trace has no attention by span; trace again with --see scores,spans");
    }
    float *one = kvt_calloc(H * M * M, sizeof *one);
    uint8_t *layer = kvt_calloc((size_t)info->L, 1), *head = kvt_calloc(H, 1);
    int rc = out->at && one && layer && head ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu spans", M), used = 0;
    for (size_t i = 0; !rc && i < M; i++)
        if (kvt_is_section(&info->span[info->map_span[i]]))
            out->at[out->n++] = (int)i;
    if (!rc && out->n < 2)
        rc = kvt_fail(err, KVT_EINPUT, "this prompt has %d part; attention between parts needs --shots, or -f with --shot-sep", out->n);
    if (!rc)
        rc = kvt_parse_mask(p->layer ? p->layer : "all", info->L, layer, "--layer", err);
    if (!rc)
        rc = kvt_parse_mask(p->head ? p->head : "all", info->H, head, "--head", err);
    size_t n = (size_t)out->n;
    if (!rc && !(out->v = kvt_calloc(n * n, sizeof *out->v)))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %zu spans", n);
    for (int l = 0; !rc && l < info->L; l++) {
        if (!layer[l])
            continue;
        rc = kvt_trace_spans(t, l, one, err);
        for (size_t h = 0; !rc && h < H; h++) {
            used += head[h];
            for (size_t i = 0; head[h] && i < n; i++)
                for (size_t j = 0; j < n; j++)
                    out->v[i * n + j] += one[(h * M + (size_t)out->at[i]) * M + (size_t)out->at[j]];
        }
    }
    for (size_t i = 0; !rc && i < n; i++)
        for (size_t j = 0; j < n; j++) /* later spans aren't seen */
            out->v[i * n + j] = j > i ? NAN : out->v[i * n + j] / (float)used;
    free(one);
    free(layer);
    free(head);
    return rc;
}

static void name_tics(struct kvt_sheet *s, const struct table *t, const char *axis, bool brief, double room)
{
    char letter[5] = {0};
    int every = (int)ceil(t->n * (axis[0] == 'x' ? 1.6 : 1.15) * s->em / room);
    fprintf(s->f.gp, "set %stics (", axis);
    for (int i = 0; i < t->n; i++) {
        fputs(i ? ", " : "", s->f.gp);
        const struct kvt_trace_span *span = &t->info->span[t->info->map_span[t->at[i]]];
        kvt_gp_tic(&s->f, i % (every < 1 ? 1 : every) && i < t->n - 1 ? "" : brief ? kvt_plot_brief(span, letter) : span->name);
        fprintf(s->f.gp, " %d", i);
    }
    fputs(")\n", s->f.gp);
}

int kvt_plot_spans(const struct kvt_plot *p, struct kvt_err *err)
{
    struct table t[2] = {0};
    struct kvt_sheet s = {0};
    double low = INFINITY, high = 0, longest = 0;
    char more[200], bar[120], name[128];
    bool brief = p->figure.paper == KVT_PAPER_COLUMN;
    int rc = 0, n = p->n_traces > 2 ? 2 : p->n_traces;
    for (int i = 0; !rc && i < n; i++)
        rc = load(p, p->traces[i], &t[i], err);
    for (int i = 0; !rc && i < n; i++)
        for (int k = 0; k < t[i].n * t[i].n; k++) {
            if (k < t[i].n)
                longest = fmax(longest, kvt_text_points(t[i].info->span[t[i].info->map_span[t[i].at[k]]].name, 1));
            if (t[i].v[k] > 0)
                low = fmin(low, t[i].v[k]), high = fmax(high, t[i].v[k]);
        }
    if (!rc && !(high > 0))
        rc = kvt_fail(err, KVT_EINPUT, "no span attends to another here; the question may be hidden (--protocol)");
    if (!rc)
        rc = kvt_sheet_begin(&s, p, "heatmap", err);
    longest = brief ? 1.6 : longest;
    snprintf(more, sizeof more, "%sLayers: %s; heads: %s.%s", brief ? "1, 2 ...: shots, Q: question. " : "", p->layer ? p->layer : "all", p->head ? p->head : "all", n > 1 ? " Left the first of them." : "");
    snprintf(bar, sizeof bar, "share of a row on a span, %s", kvt_plot_scale_text((enum kvt_scale)p->scale));
    if (!rc)
        rc = kvt_sheet_lay_out(&s, &(struct kvt_sheet_plan){.title = n > 1 ? "Attention from span to span, two tasks" : "Attention from span to span", .note = "mean over the rows of the span that attends (down), over layers and heads",
                               .info = t[0].info, .other = n > 1 ? t[1].info : NULL, .more = more, .bar = bar, .panels = n, .cols = n, .wide = 26, .shape = 1, .left = longest + 2.4, .right = 1,
                               .above = n > 1 ? 1.9 : 0.8, .below = 0.72 * longest + 2.4, .gap_x = longest + 1.6}, err);
    for (int i = 0; !rc && i < n; i++) {
        rc = kvt_sheet_matrix(&s, i, t[i].v, t[i].n, t[i].n, "spans that attend by spans attended to", err);
        if (!i) {
            kvt_plot_scale(s.f.gp, (enum kvt_scale)p->scale, fmax(low, high / 1e4), high);
            fputs("set tics scale 0\nunset x2tics\nunset y2tics\nset ylabel 'attends'\nset xlabel 'is attended to' offset 0,0.6\n", s.f.gp);
            fputs(brief ? "set xtics offset 0,0.4\n" : "set xtics rotate by 45 right offset 0,0\n", s.f.gp);
        } else {
            fputs("set ylabel ''\n", s.f.gp);
        }
        const char *slash = strrchr(p->path[i], '/');
        snprintf(name, sizeof name, "%s", slash ? slash + 1 : p->path[i]);
        kvt_sheet_panel(&s, i, n > 1 ? name : NULL);
        name_tics(&s, &t[i], "x", brief, s.panel_w);
        name_tics(&s, &t[i], "y", brief, s.panel_h);
        fprintf(s.f.gp, "set xrange [-0.5:%g]\nset yrange [%g:-0.5]\n", t[i].n - 0.5, t[i].n - 0.5);
        kvt_sheet_image(&s, i, -0.5, 1, -0.5, 1, "(COLOUR_OF($3))");
        fputc('\n', s.f.gp);
    }
    if (s.f.dir[0])
        rc = kvt_sheet_end(&s, rc, err);
    for (int i = 0; i < 2; i++) {
        free(t[i].at);
        free(t[i].v);
    }
    return rc;
}
