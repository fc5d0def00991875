/* Tables for people and programs. */
#include "base/table.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/html.h"
#include "base/utf8.h"

enum { PEOPLE_WIDTH = 80, NARROWEST_TEXT = 14, MAX_COLS = 40 };

const char *const kvt_format_names[6] = {"table", "tsv", "csv", "json", "booktabs", NULL};

struct cell {
    bool none;
    union {
        char *text;
        int64_t i;
        double d;
    };
};

struct kvt_table {
    const struct kvt_col *col;
    int n_cols;
    struct cell *cell;   /* (cells) row-major */
    size_t n, cap;
    bool failed;         /* an allocation failed: rows are missing */
};

struct kvt_table *kvt_table_new(const struct kvt_col *col, int n_cols)
{
    assert(n_cols > 0 && n_cols <= MAX_COLS);
    struct kvt_table *t = calloc(1, sizeof *t);
    if (t) {
        t->col = col;
        t->n_cols = n_cols;
    }
    return t;
}

void kvt_table_free(struct kvt_table **t)
{
    if (!*t)
        return;
    for (size_t i = 0; i < (*t)->n; i++)
        if ((*t)->col[i % (size_t)(*t)->n_cols].kind == KVT_COL_TEXT && !(*t)->cell[i].none)
            free((*t)->cell[i].text);
    free((*t)->cell);
    free(*t);
    *t = NULL;
}

int kvt_table_rows(const struct kvt_table *t)
{
    return t ? (int)(t->n / (size_t)t->n_cols) : 0;
}

static enum kvt_col_kind next_kind(const struct kvt_table *t)
{
    return t->col[t->n % (size_t)t->n_cols].kind;
}

static void put(struct kvt_table *t, struct cell c)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 256;
        struct cell *cell = realloc(t->cell, cap * sizeof *cell);
        if (!cell) {
            t->failed = true;
            return;
        }
        t->cell = cell;
        t->cap = cap;
    }
    t->cell[t->n++] = c;
}

void kvt_put_none(struct kvt_table *t)
{
    if (t && !t->failed)
        put(t, (struct cell){.none = true});
}

void kvt_put_text(struct kvt_table *t, const char *text)
{
    if (!t || t->failed)
        return;
    assert(next_kind(t) == KVT_COL_TEXT);
    if (!text) {
        kvt_put_none(t);
        return;
    }
    size_t bytes = strlen(text) + 1;
    char *copy = malloc(bytes);
    if (!copy) {
        t->failed = true;
        return;
    }
    memcpy(copy, text, bytes);
    put(t, (struct cell){.text = copy});
    if (t->failed)
        free(copy);
}

void kvt_put_int(struct kvt_table *t, int64_t v)
{
    if (!t || t->failed)
        return;
    assert(next_kind(t) == KVT_COL_INT || next_kind(t) == KVT_COL_BYTES);
    put(t, (struct cell){.i = v});
}

void kvt_put_real(struct kvt_table *t, double v)
{
    if (!t || t->failed)
        return;
    assert(next_kind(t) == KVT_COL_REAL || next_kind(t) == KVT_COL_SHARE);
    put(t, (struct cell){.none = isnan(v), .d = v});
}

void kvt_put_bool(struct kvt_table *t, bool v)
{
    if (!t || t->failed)
        return;
    assert(next_kind(t) == KVT_COL_BOOL);
    put(t, (struct cell){.i = v});
}

const char *kvt_bytes_text(uint64_t bytes, char *buf, size_t cap)
{
    const char *unit[] = {"B", "kB", "MB", "GB", "TB"};
    double v = (double)bytes;
    int u = 0;
    for (; v >= 999.5 && u < 4; u++)
        v /= 1000;
    snprintf(buf, cap, u && v < 9.95 ? "%.1f %s" : "%.0f %s", v, unit[u]);
    return buf;
}

void kvt_json_text(FILE *out, const char *s)
{
    fputc('"', out);
    while (*s) {
        uint32_t c;
        int len = kvt_utf8_next(s, &c);
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", (char)c);
        else if (c == '\n')
            fputs("\\n", out);
        else if (c == '\t')
            fputs("\\t", out);
        else if (c < 0x20 || c == 0x7f)
            fprintf(out, "\\u%04x", (unsigned)c);
        else if (c == KVT_UTF8_BAD)
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(s, 1, (size_t)len, out);
        s += len;
    }
    fputc('"', out);
}

int kvt_text_width(const char *s)
{
    int w = 0;
    while (*s) {
        uint32_t c;
        s += kvt_utf8_next(s, &c);
        w += kvt_utf8_width(c);
    }
    return w;
}

/* ---- for people ---- */

static const char *cell_text(const struct kvt_col *col, const struct cell *c, char *buf, size_t cap)
{
    if (c->none)
        return "-";
    switch (col->kind) {
    case KVT_COL_TEXT: return c->text;
    case KVT_COL_INT: snprintf(buf, cap, "%" PRId64, c->i); break;
    case KVT_COL_BYTES: return c->i < 0 ? "-" : kvt_bytes_text((uint64_t)c->i, buf, cap);
    case KVT_COL_BOOL: return c->i ? "yes" : "";
    case KVT_COL_SHARE: snprintf(buf, cap, "%.*f%%", col->digits ? col->digits : 1, 100 * c->d); break;
    case KVT_COL_REAL: snprintf(buf, cap, "%.*f", col->digits, c->d); break;
    }
    /* -0.00 says nothing that 0.00 doesn't */
    if (buf[0] == '-' && strspn(buf + 1, "0.%") == strlen(buf + 1))
        memmove(buf, buf + 1, strlen(buf));
    return buf;
}

static const char *title(const struct kvt_col *c) { return c->title ? c->title : c->name; }

/* s in `width` columns, cut with ".." where it is longer; left or right aligned. `last`: no blanks behind it. */
static void put_aligned(FILE *out, const char *s, int width, bool right, bool last)
{
    int w = kvt_text_width(s), cut = w > width ? width - 2 : w;
    int pad = w > width ? 0 : width - w;
    if (right)
        fprintf(out, "%*s", pad, "");
    for (int used = 0; *s;) {
        uint32_t c;
        int len = kvt_utf8_next(s, &c), cw = kvt_utf8_width(c);
        if (used + cw > cut) {
            pad += cut - used;
            break;
        }
        if (c == '\n' || c == '\r' || c == '\t')
            fputc(' ', out);
        else if (c == KVT_UTF8_BAD || c < 0x20)
            fputc('?', out);
        else
            fwrite(s, 1, (size_t)len, out);
        used += cw;
        s += len;
    }
    if (w > width)
        fputs("..", out);
    if (!right && !last)
        fprintf(out, "%*s", pad, "");
}

static void write_people(const struct kvt_table *t, FILE *out)
{
    int width[MAX_COLS], total = 0, rows = kvt_table_rows(t);
    char buf[64];
    int last = 0;
    for (int c = 0; c < t->n_cols; c++) {
        width[c] = 0;
        if (t->col[c].programs_only)
            continue;
        last = c;
        width[c] = kvt_text_width(title(&t->col[c]));
        for (int r = 0; r < rows; r++) {
            int w = kvt_text_width(cell_text(&t->col[c], &t->cell[r * t->n_cols + c], buf, sizeof buf));
            if (w > width[c])
                width[c] = w;
        }
        total += width[c] + (total ? 2 : 0);
    }
    while (total > PEOPLE_WIDTH) { /* the longest text column gives way, one column at a time */
        int longest = -1;
        for (int c = 0; c < t->n_cols; c++)
            if (t->col[c].kind == KVT_COL_TEXT && !t->col[c].programs_only && width[c] > NARROWEST_TEXT && width[c] > kvt_text_width(title(&t->col[c])) &&
                (longest < 0 || width[c] > width[longest]))
                longest = c;
        if (longest < 0)
            break;
        width[longest]--;
        total--;
    }
    for (int r = -1; r < rows; r++) {
        for (int c = 0; c < t->n_cols; c++) {
            if (t->col[c].programs_only)
                continue;
            bool right = t->col[c].kind != KVT_COL_TEXT && t->col[c].kind != KVT_COL_BOOL;
            const char *s = r < 0 ? title(&t->col[c]) : cell_text(&t->col[c], &t->cell[r * t->n_cols + c], buf, sizeof buf);
            put_aligned(out, s, width[c], right, c == last);
            if (c != last)
                fputs("  ", out);
        }
        fputc('\n', out);
    }
}

/* ---- for programs ---- */

static void write_number(FILE *out, const struct kvt_col *col, const struct cell *c)
{
    if (col->kind == KVT_COL_REAL || col->kind == KVT_COL_SHARE)
        fprintf(out, "%.9g", c->d);
    else
        fprintf(out, "%" PRId64, c->i);
}

void kvt_tsv_text(FILE *out, const char *s)
{
    for (; *s; s++)
        switch (*s) {
        case '\t': fputs("\\t", out); break;
        case '\n': fputs("\\n", out); break;
        case '\r': fputs("\\r", out); break;
        case '\\': fputs("\\\\", out); break;
        default: fputc(*s, out);
        }
}

static void write_csv_text(FILE *out, const char *s)
{
    if (!s[strcspn(s, ",\"\n\r")]) {
        fputs(s, out);
        return;
    }
    fputc('"', out);
    for (; *s; s++) {
        if (*s == '"')
            fputc('"', out);
        fputc(*s, out);
    }
    fputc('"', out);
}

static void write_separated(const struct kvt_table *t, FILE *out, bool csv)
{
    for (int c = 0; c < t->n_cols; c++) {
        const struct kvt_col *col = &t->col[c];
        fprintf(out, "%s%s%s%s%s", c ? (csv ? "," : "\t") : csv ? "" : "# ", col->name, col->unit ? " (" : "",
                col->unit ? col->unit : "", col->unit ? ")" : "");
    }
    fputc('\n', out);
    for (size_t i = 0; i < t->n; i++) {
        int c = (int)(i % (size_t)t->n_cols);
        const struct cell *cell = &t->cell[i];
        if (c)
            fputc(csv ? ',' : '\t', out);
        if (t->col[c].kind != KVT_COL_TEXT) {
            if (cell->none)
                fputs("nan", out);
            else
                write_number(out, &t->col[c], cell);
        } else if (!cell->none) {
            (csv ? write_csv_text : kvt_tsv_text)(out, cell->text);
        }
        if (c == t->n_cols - 1)
            fputc('\n', out);
    }
}

static void write_json(const struct kvt_table *t, FILE *out)
{
    fputc('[', out);
    for (size_t i = 0; i < t->n; i++) {
        int c = (int)(i % (size_t)t->n_cols);
        const struct kvt_col *col = &t->col[c];
        const struct cell *cell = &t->cell[i];
        fputs(c ? ", " : i ? ",\n {" : "\n {", out);
        kvt_json_text(out, col->name);
        fputs(": ", out);
        if (cell->none || ((col->kind == KVT_COL_REAL || col->kind == KVT_COL_SHARE) && !isfinite(cell->d)))
            fputs("null", out);
        else if (col->kind == KVT_COL_TEXT)
            kvt_json_text(out, cell->text);
        else if (col->kind == KVT_COL_BOOL)
            fputs(cell->i ? "true" : "false", out);
        else
            write_number(out, col, cell);
        if (c == t->n_cols - 1)
            fputc('}', out);
    }
    fputs("\n]\n", out);
}

/* ---- for LaTeX ---- */

void kvt_latex_text(FILE *out, const char *s)
{
    static const struct { char c; const char *tex; } special[] = {
        {'\\', "\\textbackslash{}"}, {'~', "\\textasciitilde{}"}, {'^', "\\textasciicircum{}"}, {'<', "\\textless{}"},
        {'>', "\\textgreater{}"}, {'|', "\\textbar{}"}, {'"', "''"},
    };
    while (*s) {
        uint32_t c;
        int len = kvt_utf8_next(s, &c);
        const char *tex = NULL;
        for (size_t i = 0; i < sizeof special / sizeof *special; i++)
            if (c == (unsigned char)special[i].c)
                tex = special[i].tex;
        if (tex)
            fputs(tex, out);
        else if (c == KVT_UTF8_BAD)
            fputc('?', out);
        else if (c < 0x20 || c == 0x7f)
            fputc(' ', out);
        else if (c < 0x80 && strchr("#$%&_{}", (int)c))
            fprintf(out, "\\%c", (char)c);
        else
            fwrite(s, 1, (size_t)len, out);
        s += len;
    }
}

/* A column of bytes has one unit, that of its largest value: numbers of a column are to be compared. */
static int bytes_unit(const struct kvt_table *t, int c)
{
    int64_t most = 0;
    int u = 0;
    for (int r = 0; r < kvt_table_rows(t); r++) {
        const struct cell *cell = &t->cell[r * t->n_cols + c];
        if (!cell->none && cell->i > most)
            most = cell->i;
    }
    for (double v = (double)most; v >= 999.5 && u < 4; u++)
        v /= 1000;
    return u;
}

static void latex_cell(FILE *out, const struct kvt_col *col, const struct cell *c, int unit)
{
    char buf[64];
    const char *text = buf;
    if (c->none || (col->kind == KVT_COL_BYTES && c->i < 0)) {
        fputs("--", out);
        return;
    }
    if (col->kind == KVT_COL_SHARE)
        snprintf(buf, sizeof buf, "%.*f", col->digits ? col->digits : 1, 100 * c->d);
    else if (col->kind == KVT_COL_BYTES)
        snprintf(buf, sizeof buf, "%.*f", unit ? 1 : 0, (double)c->i / pow(1000, unit));
    else
        text = cell_text(col, c, buf, sizeof buf);
    if (text == buf && *text == '-' && strspn(text + 1, "0.") != strlen(text + 1))
        fputs("$-$", out); /* a hyphen is no minus sign */
    kvt_latex_text(out, text == buf && *text == '-' ? text + 1 : text);
}

static void write_booktabs(const struct kvt_table *t, FILE *out)
{
    int unit[MAX_COLS] = {0}, rows = kvt_table_rows(t);
    fputs("\\begin{tabular}{", out);
    for (int c = 0; c < t->n_cols; c++)
        if (!t->col[c].programs_only)
            fputc(t->col[c].kind == KVT_COL_TEXT || t->col[c].kind == KVT_COL_BOOL ? 'l' : 'r', out);
    fputs("}\n\\toprule\n", out);
    for (int r = -1; r < rows; r++) {
        const char *between = "";
        for (int c = 0; c < t->n_cols; c++) {
            const struct kvt_col *col = &t->col[c];
            if (col->programs_only)
                continue;
            fputs(between, out);
            between = " & ";
            if (r >= 0) {
                latex_cell(out, col, &t->cell[r * t->n_cols + c], unit[c]);
                continue;
            }
            static const char *const bytes[] = {"B", "kB", "MB", "GB", "TB"};
            const char *name = col->kind == KVT_COL_SHARE ? "%" : col->unit && strcmp(col->unit, "1") ? col->unit : NULL;
            if (col->kind == KVT_COL_BYTES)
                name = bytes[unit[c] = bytes_unit(t, c)];
            kvt_latex_text(out, title(col));
            if (name) {
                fputs(" (", out);
                kvt_latex_text(out, name);
                fputc(')', out);
            }
        }
        fprintf(out, " \\\\\n%s", r < 0 ? "\\midrule\n" : "");
    }
    fputs("\\bottomrule\n\\end{tabular}\n", out);
}

int kvt_table_write(const struct kvt_table *t, FILE *out, enum kvt_format format, struct kvt_err *err)
{
    if (!t || t->failed)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a table");
    assert(t->n % (size_t)t->n_cols == 0);
    switch (format) {
    case KVT_FORMAT_TABLE: write_people(t, out); break;
    case KVT_FORMAT_TSV: write_separated(t, out, false); break;
    case KVT_FORMAT_CSV: write_separated(t, out, true); break;
    case KVT_FORMAT_JSON: write_json(t, out); break;
    case KVT_FORMAT_BOOKTABS: write_booktabs(t, out); break;
    }
    if (fflush(out) || ferror(out))
        return kvt_fail(err, KVT_EIO, "output: writing failed (disk full, or the reader went away)");
    return 0;
}

static void html_cell(const struct kvt_col *col, const struct cell *c, bool first, FILE *out)
{
    char buf[64];
    bool number = col->kind != KVT_COL_TEXT && col->kind != KVT_COL_BOOL;
    fputs(first ? "<th scope=\"row\"" : "<td", out);
    if (number)
        fputs(" class=\"n\"", out);
    if (col->kind == KVT_COL_BYTES && !c->none)
        fprintf(out, " data-v=\"%" PRId64 "\"", c->i);
    fputc('>', out);
    kvt_html_text(out, cell_text(col, c, buf, sizeof buf));
    fputs(first ? "</th>" : "</td>", out);
}

int kvt_table_html(const struct kvt_table *t, FILE *out, const char *caption, struct kvt_err *err)
{
    if (!t || t->failed)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a table");
    fputs("<table>\n", out);
    if (caption) {
        fputs("<caption>", out);
        kvt_html_text(out, caption);
        fputs("</caption>\n", out);
    }
    fputs("<thead><tr>", out);
    for (int c = 0; c < t->n_cols; c++) {
        const struct kvt_col *col = &t->col[c];
        if (col->programs_only)
            continue;
        fprintf(out, "<th scope=\"col\"%s title=\"", col->kind == KVT_COL_TEXT || col->kind == KVT_COL_BOOL ? "" : " class=\"n\"");
        kvt_html_text(out, col->name);
        if (col->unit) {
            fputs(", ", out);
            kvt_html_text(out, col->unit);
        }
        fputs("\">", out);
        kvt_html_text(out, title(col));
        fputs("</th>", out);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
    for (int r = 0, rows = kvt_table_rows(t); r < rows; r++) {
        bool first = true;
        fputs("<tr>", out);
        for (int c = 0; c < t->n_cols; c++) {
            if (t->col[c].programs_only)
                continue;
            html_cell(&t->col[c], &t->cell[r * t->n_cols + c], first, out);
            first = false;
        }
        fputs("</tr>\n", out);
    }
    fputs("</tbody></table>\n", out);
    return 0;
}
