/* kvreport of a result of kvbench: its tables, accuracy against mean bytes, and every output behind a link from its cell. The texts take what room the page has;
 * where it isn't enough, the first questions' are there. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvreport.h"
#include "base/html.h"
#include "base/mem.h"
#include "compare/time_view.h"
#include "compare/view.h"

enum { MOST_PROMPT = 1500, MOST_SERIES = 8 };

static const struct kvreport_section sections[] = { { "summary", "Summary" }, { "branches", "Branches" }, { "pairs", "Pairs" }, { "plot", "Plot" },
                                                    { "questions", "Questions" }, { "texts", "Texts" }, { "origin", "Origin" } };

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the page"); }

/* Lines that view.c writes, each a paragraph. */
static int put_lines(FILE *f, const struct kvt_view *v, void (*write)(const struct kvt_view *v, FILE *out), struct kvt_err *err)
{
    char *text = NULL, *rest;
    size_t bytes = 0;
    FILE *m = open_memstream(&text, &bytes);
    if (m)
        write(v, m);
    if (!m || fclose(m)) {
        free(text);
        return no_memory(err);
    }
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        kvreport_say(f, "<p>%s</p>\n", line);
    free(text);
    return 0;
}

static int put_table(FILE *f, struct kvt_table **t, int rc, const char *caption, struct kvt_err *err)
{
    fputs("<div class=\"wide\">", f);
    if (!rc)
        rc = kvt_table_html(*t, f, caption, err);
    fputs("</div>\n", f);
    kvt_table_free(t);
    return rc;
}

/* ---- accuracy against bytes ---- */

struct scale { double low, high, from, to; };

static double at(const struct scale *s, double v) { return s->from + (v - s->low) / (s->high - s->low) * (s->to - s->from); }

/* 1, 2 or 5 times a power of ten, of which some five make the range. */
static double tick_of(double range)
{
    double step = pow(10, floor(log10(range / 5))), times = range / 5 / step;
    return step * (times > 5 ? 10 : times > 2 ? 5 : times > 1 ? 2 : 1);
}

static void put_axes(FILE *f, const struct scale *x, const struct scale *y, bool text)
{
    double step = tick_of(x->high - x->low), rise = tick_of(y->high - y->low);
    char bytes[32];
    fprintf(f, "<g fill=\"currentColor\" stroke=\"none\" font-size=\"13\">\n");
    for (double v = ceil(x->low / step) * step; v <= x->high; v += step)
        fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n", at(x, v), y->from + 20, kvt_bytes_text((uint64_t)(v + 0.5), bytes, sizeof bytes));
    for (double v = ceil(y->low / rise) * rise; v <= y->high + 1e-9; v += rise)
        fprintf(f, text ? "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.2f</text>\n" : "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.0f %%</text>\n", x->from - 8, at(y, v) + 4,
                text ? v : 100 * v);
    fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">KV, mean over steps and questions</text>\n</g>\n", (x->from + x->to) / 2, y->from + 42);
    fprintf(f, "<path class=\"axis\" d=\"M%.1f %.1fV%.1fH%.1f\"/>\n", x->from, y->to, y->from, x->to);
}

/* Shape s around a point: eight that are told apart without colour. */
static void put_mark(FILE *f, int s, double x, double y)
{
    static const char *const shape[MOST_SERIES] = { "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0", "m-5 -5h10v10h-10z", "m0 -6l6 11h-12z", "m0 6l6 -11h-12z", "m0 -6l6 6l-6 6l-6 -6z", "m-5 -5l10 10m0 -10l-10 10",
                                                  "m-6 0h12m-6 -6v12", "m-5 -2h3v-3h4v3h3v4h-3v3h-4v-3h-3z" };
    fprintf(f, "<path d=\"M%.1f %.1f%s\"/>", x, y, shape[s % MOST_SERIES]);
}

/* Rows of the same method, whatever its budget or whom it follows: its canonical name up to its options. */
static bool same_series(const struct kvt_view *v, int a, int b)
{
    return !strcmp(v->r->branch[v->row[a].branch[0]].family, v->r->branch[v->row[b].branch[0]].family) ||
           (!strcmp(v->r->branch[v->row[a].branch[0]].method, v->r->branch[v->row[b].branch[0]].method) &&
            !strncmp(v->row[a].name, v->row[b].name, strcspn(v->row[a].name, " ") + 1));
}

static void put_plot(FILE *f, const struct kvt_view *v)
{
    const struct kvt_view_row *full = &v->row[0];
    struct scale x = { .low = 0, .high = 0, .from = 70, .to = 700 }, y = { .low = INFINITY, .high = -INFINITY, .from = 380, .to = 20 };
    int series[KVT_VIEW_SEEDS] = { 0 }, n = 0; /* first row of each */
    for (int i = 0; i < v->n_rows; i++) {
        const struct kvt_view_row *row = &v->row[i];
        double low = isnan(row->low) ? row->value : row->low, high = isnan(row->high) ? row->value : row->high;
        x.high = fmax(x.high, row->bytes), y.low = fmin(y.low, low), y.high = fmax(y.high, high);
    }
    x.high *= 1.05;
    y.low = v->text ? y.low - 0.05 * (y.high - y.low) : 0, y.high = v->text ? y.high : fmin(1, y.high + 0.02);
    fputs("<section id=\"plot\">\n<h2>Accuracy against memory</h2>\n", f);
    if (v->n_rows < 2 || !(x.high > 0) || !(y.high > y.low)) {
        fputs("<p class=\"note\">Nothing to compare.</p>\n</section>\n", f);
        return;
    }
    fputs("<figure><svg class=\"bench\" viewBox=\"0 0 900 440\" role=\"img\" aria-label=\"accuracy against mean bytes of keys and values; the table above has the numbers\">\n", f);
    put_axes(f, &x, &y, v->text);
    fprintf(f, "<path class=\"full\" d=\"M%.1f %.1fH%.1f\"/>\n<text class=\"label\" x=\"%.1f\" y=\"%.1f\">full</text>\n", x.from, at(&y, full->value), x.to, x.to + 8, at(&y, full->value) + 4);
    for (int i = 1; i < v->n_rows; i++) {
        const struct kvt_view_row *row = &v->row[i];
        char name[64];
        int s = 0;
        while (s < n && !same_series(v, series[s], i))
            s++;
        if (s == KVT_VIEW_SEEDS || isnan(row->value))
            continue;
        if (s == n)
            series[n++] = i;
        double px = at(&x, row->bytes), py = at(&y, row->value);
        fprintf(f, "<g class=\"p%d\"><a href=\"#b%d\">", s % MOST_SERIES, i);
        kvreport_say(f, "<title>%s: %s%.4f</title>", kvt_view_name(row, true, name, sizeof name), v->text ? "nats " : "", row->value);
        if (!isnan(row->low))
            fprintf(f, "<path class=\"bar\" d=\"M%.1f %.1fV%.1f\"/>", px, at(&y, row->low), at(&y, row->high));
        put_mark(f, s, px, py);
        fputs("</a></g>\n", f);
    }
    for (int s = 0; s < n; s++) { /* the legend */
        fprintf(f, "<g class=\"p%d\">", s % MOST_SERIES);
        put_mark(f, s, 752, 40 + 20.0 * s);
        fprintf(f, "</g><text class=\"label\" x=\"766\" y=\"%.1f\">", 44 + 20.0 * s);
        kvreport_say(f, "%s</text>\n", v->r->branch[v->row[series[s]].branch[0]].method);
    }
    fputs("</svg>\n<figcaption>Bars: 95 % of each branch alone; pairs on the same questions are in the table of pairs. Dashed: the uncompressed cache.</figcaption></figure>\n</section>\n", f);
}

/* ---- questions: a mark for each row, a link to what it wrote ---- */

static double right_of(const struct kvt_view *v, const struct kvt_view_row *row, const struct kvt_result_item *item)
{
    double sum = 0;
    for (int s = 0; s < row->n; s++)
        sum += v->text ? item->cell[row->branch[s]].nll : item->cell[row->branch[s]].right[0];
    return sum / row->n;
}

/* Number of the text of a branch among the item's different ones; count: how many there are. */
static int text_number(const struct kvt_result *r, const struct kvt_result_item *item, int branch, int *count)
{
    int n = 0, own = -1;
    for (int b = 0; b < r->n_branches; b++) {
        bool seen = false;
        for (int k = 0; k < b && !seen; k++)
            seen = item->cell[k].text && item->cell[b].text && !strcmp(item->cell[k].text, item->cell[b].text);
        if (!item->cell[b].text || seen)
            continue;
        if (item->cell[branch].text && !strcmp(item->cell[b].text, item->cell[branch].text))
            own = n;
        n++;
    }
    if (count)
        *count = n;
    return own;
}

static void put_questions(FILE *f, const struct kvt_view *v, int with_texts)
{
    const struct kvt_result *r = v->r;
    char name[64];
    fputs("<section id=\"questions\">\n<h2>Questions</h2>\n<p class=\"key\">What each branch made of each question: + right, - wrong, or the share that is right (several answers, several seeds). "
          "Each leads to the text.</p>\n<div class=\"wide\"><table class=\"marks\">\n<thead><tr><th scope=\"col\">question</th>", f);
    for (int i = 0; i < v->n_rows; i++)
        kvreport_say(f, "<th scope=\"col\" id=\"b%d\">%s</th>", i, kvt_view_name(&v->row[i], true, name, sizeof name));
    fputs("</tr></thead>\n<tbody>\n", f);
    for (int q = 0; q < v->n_items; q++) {
        const struct kvt_result_item *item = &r->item[v->item[q]];
        bool texts = q < with_texts;
        kvreport_say(f, texts ? "<tr><th scope=\"row\"><a href=\"#q%d\">" : "<tr><th scope=\"row\">", q);
        kvreport_say(f, texts ? "%s</a></th>" : "%s</th>", item->id);
        for (int i = 0; i < v->n_rows; i++) {
            double x = right_of(v, &v->row[i], item);
            int t = text_number(r, item, v->row[i].branch[0], NULL);
            bool link = texts && (t >= 0 || v->row[i].n > 1);
            fputs(x == 1 || v->text ? "<td>" : x == 0 ? "<td class=\"lost\">" : "<td class=\"part\">", f);
            if (link && v->row[i].n > 1)
                fprintf(f, "<a href=\"#q%d\">", q);
            else if (link)
                fprintf(f, "<a href=\"#t%d-%d\">", q, t);
            if (!v->text && (x == 0 || x == 1))
                fputs(x == 1 ? "+" : "-", f);
            else
                fprintf(f, v->text ? "%.4f" : "%.2f", x);
            fputs(link ? "</a></td>" : "</td>", f);
        }
        fputs("</tr>\n", f);
    }
    fputs("</tbody></table></div>\n</section>\n", f);
}

/* Where prompts begin to differ from their neighbours: the shots before are the same for all. At a line's start. */
static size_t common_start(const struct kvt_view *v)
{
    size_t n = SIZE_MAX;
    for (int q = 1; q < v->n_items; q++) {
        const char *a = v->r->item[v->item[q - 1]].prompt, *b = v->r->item[v->item[q]].prompt;
        size_t k = 0;
        while (k < n && a[k] && a[k] == b[k])
            k++;
        n = k < n ? k : n;
    }
    const char *first = v->n_items ? v->r->item[v->item[0]].prompt : "";
    if (n == SIZE_MAX)
        return 0;
    while (n && first[n - 1] != '\n')
        n--;
    return n;
}

/* Of a long prompt the end, from a character on that isn't the rest of another. */
static const char *shown_part(const char *prompt, size_t skip)
{
    size_t n = strlen(prompt);
    const char *s = prompt + (skip < n ? skip : 0);
    if (strlen(s) > MOST_PROMPT)
        s = prompt + n - MOST_PROMPT;
    while ((*s & 0xC0) == 0x80)
        s++;
    return s;
}

static void put_texts_of(FILE *f, const struct kvt_view *v, int q, size_t skip)
{
    const struct kvt_result *r = v->r;
    const struct kvt_result_item *item = &r->item[v->item[q]];
    const char *prompt = shown_part(item->prompt, skip);
    int count;
    kvreport_say(f, "<h3 id=\"q%d\">%s <small>%d tokens, %d of them may be evicted</small></h3>\n<p class=\"answer\">%s%s</p>\n", q, item->id, item->n_prompt, item->n_context,
                 prompt > item->prompt ? "... " : "", prompt);
    if (item->gold)
        kvreport_say(f, "<p>Expected: <code>%s</code></p>\n", item->gold);
    text_number(r, item, 0, &count);
    fputs("<dl class=\"answers\">\n", f);
    for (int t = 0; t < count; t++) {
        const char *text = NULL;
        fprintf(f, "<div id=\"t%d-%d\"><dt>", q, t);
        for (int b = 0, first = 1; b < r->n_branches; b++)
            if (text_number(r, item, b, NULL) == t) {
                const struct kvt_cell *c = &item->cell[b];
                text = c->text;
                kvreport_say(f, first ? "%s (%s%s)" : ", %s (%s%s)", r->branch[b].name, isnan(c->right[0]) ? "" : c->right[0] == 1 ? "right" : c->right[0] == 0 ? "wrong" : "partly right",
                             !strcmp(c->end, "limit") ? ", cut" : "");
                first = 0;
            }
        kvreport_say(f, "</dt><dd class=\"answer\">%s</dd></div>\n", text);
    }
    fputs("</dl>\n", f);
}

/* As many questions' texts as `room` bytes take; returns how many. */
static int make_texts(const struct kvt_view *v, size_t room, char **out, struct kvt_err *err)
{
    size_t bytes = 0, skip = common_start(v);
    FILE *f = open_memstream(out, &bytes);
    int q = 0;
    long whole = 0;
    if (!f)
        return no_memory(err);
    for (; q < v->n_items && strcmp(kvt_view_run(v, "kind"), "refusal"); q++) {
        put_texts_of(f, v, q, skip);
        if (fflush(f) || bytes > room)
            break;
        whole = (long)bytes;
    }
    if (fseek(f, whole, SEEK_SET) || fputc(0, f) == EOF || fclose(f))
        return no_memory(err);
    (*out)[whole] = 0;
    return q;
}

static void put_origin(FILE *f, const struct kvt_view *v)
{
    const cJSON *run = v->r->run;
    fputs("<section id=\"origin\">\n<h2>Origin</h2>\n<dl class=\"facts\">\n", f);
    for (const cJSON *c = run->child; c; c = c->next)
        if (cJSON_IsString(c))
            kvreport_say(f, "<div><dt>%s</dt><dd>%s</dd></div>\n", c->string, c->valuestring);
    fputs("</dl>\n<div class=\"wide\"><table><thead><tr><th>branch</th><th>asked</th><th>method with every option</th></tr></thead>\n<tbody>\n", f);
    for (int b = 0; b < v->r->n_branches; b++)
        kvreport_say(f, "<tr><th scope=\"row\">%s</th><td>%s</td><td><code>%s</code></td></tr>\n", v->r->branch[b].name, v->r->branch[b].asked, v->r->branch[b].canonical);
    fputs("</tbody></table></div>\n</section>\n", f);
}

static void time_head(const struct kvt_view *v, FILE *out) { kvt_time_head(v->r, out); }

static int put_body(FILE *f, struct kvt_view *v, const char *texts, int with_texts, struct kvt_err *err)
{
    struct kvt_table *t = NULL;
    fputs("<section id=\"summary\">\n<h2>Summary</h2>\n", f);
    int rc = put_lines(f, v, kvt_view_head, err);
    if (!rc)
        rc = put_lines(f, v, kvt_view_remarks, err);
    fputs("</section>\n<section id=\"branches\">\n<h2>Branches</h2>\n", f);
    if (!rc)
        rc = put_table(f, &t, kvt_view_rows(v, true, &t, err), "Share of right answers with its 95 % interval, agreement with the full branch, outputs cut off, tokens, bytes", err);
    fputs("</section>\n<section id=\"pairs\">\n<h2>Pairs</h2>\n", f);
    if (!rc && v->n_pairs)
        rc = put_table(f, &t, kvt_view_pairs(v, true, &t, err), "On the same questions; lost and won: questions that only the other, only this one has right; p: exact McNemar, Holm", err);
    fputs("</section>\n", f);
    put_plot(f, v);
    put_questions(f, v, with_texts);
    fputs("<section id=\"texts\">\n<h2>Texts</h2>\n", f);
    if (!strcmp(kvt_view_run(v, "kind"), "refusal"))
        fputs("<p class=\"note\">Of this task only the class of an output is kept.</p>\n", f);
    else if (with_texts < v->n_items)
        kvreport_say(f, "<p class=\"note\">The page has room for the texts of %d questions; kvbench show has those of the other %d.</p>\n", with_texts, v->n_items - with_texts);
    fputs(texts ? texts : "", f);
    fputs("</section>\n", f);
    put_origin(f, v);
    return rc;
}

bool kvreport_is_result(const char *path)
{
    char start[12] = "";
    FILE *f = fopen(path, "r");
    bool is = f && fread(start, 1, sizeof start - 1, f) >= 10 && !strncmp(start, "{\"kvbench\"", 10);
    if (f)
        fclose(f);
    return is;
}

/* A result of --time: its tables. */
static int page_of_time(const struct kvt_result *r, const char *path, FILE *f, struct kvt_err *err)
{
    static const char *const caption[] = { "Medians of repetitions; low and high: the extremes", "Ratios to the full cache, repetition by repetition",
                                           "The largest batch that ran within the memory; one sequence more was refused" };
    static const char *const heading[] = { "Speed", "Against the full cache", "Largest batch" };
    const struct kvt_view v = { .r = r };
    char title[200];
    snprintf(title, sizeof title, "Speed of %.80s", kvt_view_run(&v, "model"));
    int rc = kvreport_begin_page(f, (const char *)kvreport_css, kvreport_css_bytes, title, err);
    if (rc)
        return rc;
    kvreport_say(f, "<header>\n<h1>%s</h1>\n<p>Result: <code>%s</code></p>\n</header>\n", title, path);
    fputs("<section id=\"summary\">\n<h2>Summary</h2>\n", f);
    rc = put_lines(f, &v, time_head, err);
    fputs("</section>\n", f);
    for (int what = 0; what < KVT_TIME_TABLES && !rc; what++) {
        struct kvt_table *t = NULL;
        rc = kvt_time_table(r, (enum kvt_time_table)what, &t, err);
        if (rc || !kvt_table_rows(t)) {
            kvt_table_free(&t);
            continue;
        }
        kvreport_say(f, "<section>\n<h2>%s</h2>\n", heading[what]);
        rc = put_table(f, &t, 0, caption[what], err);
        fputs("</section>\n", f);
    }
    put_origin(f, &v);
    kvreport_end_page(f);
    return rc;
}

int kvreport_of_result(const char *path, FILE *f, struct kvt_err *err)
{
    struct kvt_result r;
    struct kvt_view v = { .r = NULL };
    char *texts = NULL, *body = NULL, title[200];
    size_t bytes = 0;
    FILE *m = NULL;
    int rc = kvt_result_read(&r, path, err), n = 0;
    if (rc)
        return rc;
    if (kvt_time_is(&r)) {
        rc = page_of_time(&r, path, f, err);
        kvt_result_close(&r);
        return rc;
    }
    rc = kvt_view_open(&v, &r, NULL, err);
    if (!rc)
        rc = kvt_view_measure(&v, NULL, err);
    for (size_t room = KVREPORT_MOST_BYTES, fixed = 60000; !rc; ) { /* once without texts for what the rest takes, once with */
        if (!(m = open_memstream(&body, &bytes))) {
            rc = no_memory(err);
            break;
        }
        rc = put_body(m, &v, texts, n, err);
        if (fclose(m) && !rc)
            rc = no_memory(err);
        if (rc || texts)
            break;
        fixed += bytes + bytes / 2; /* with links */
        if (fixed > room)
            rc = kvt_fail(err, KVT_EINPUT, "%s: %d questions of %d branches take more than a page of %d MB", path, v.n_items, v.n_rows, KVREPORT_MOST_BYTES / 1000000);
        n = rc ? 0 : make_texts(&v, room - fixed, &texts, err);
        rc = n < 0 ? n : rc;
        free(body);
        body = NULL;
    }
    if (!rc) {
        snprintf(title, sizeof title, "%.80s, %.80s: %d questions", kvt_view_run(&v, "task"), kvt_view_run(&v, "model"), v.n_items);
        rc = kvreport_begin_page(f, (const char *)kvreport_css, kvreport_css_bytes, title, err);
    }
    if (!rc) {
        kvreport_say(f, "<header>\n<h1>%s</h1>\n<p>%d branches beside the full cache, protocol %s. Result: <code>%s</code></p>\n", title, v.n_rows - 1, kvt_view_run(&v, "protocol"), path);
        kvreport_nav(f, sections, (int)(sizeof sections / sizeof *sections));
        fwrite(body, 1, bytes, f);
        kvreport_end_page(f);
    }
    free(texts);
    free(body);
    kvt_view_close(&v);
    kvt_result_close(&r);
    return rc;
}
