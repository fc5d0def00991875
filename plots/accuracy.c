/* Accuracy against mean bytes, with paired intervals, from a table of results. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plots/chart.h"

/* Columns, by their names in the head line; a unit in brackets behind a name is left out. Kvbench's table of rows has these, and what
 * people write by hand may have the second names. Without an accuracy by name it is the column before `low`. */
enum column { METHOD, BUDGET, BYTES, ACCURACY, LOW, HIGH, BRANCH, AGAINST, TASK, MODEL, QUESTIONS, N_COLUMNS };
static const char *const columns[N_COLUMNS][2] = {{"method", "method"}, {"asked", "budget"}, {"kv_bytes_mean", "bytes_mean"}, {"right", "accuracy"}, {"low", "low"}, {"high", "high"},
                                                  {"branch", "branch"}, {"against", "against"}, {"task", "task"}, {"model", "model"}, {"questions", "questions"}};
enum { LINE = 8192, MAX_FIELDS = 64, MAX_ROWS = 4096 };

struct row { char method[256], branch[80], budget[40]; double bytes, accuracy, low, high; };
struct results { struct row *row; int n; bool paired; char note[512]; };

/* A table's lines, one after the other. */
struct reader { FILE *f; const char *path; char line[LINE], *field[MAX_FIELDS]; int n, at, where[N_COLUMNS]; };

/* Fields of the line, which is cut up. */
static void split(struct reader *r, char *line)
{
    r->n = 0;
    line[strcspn(line, "\r\n")] = 0;
    for (char *at = line; at && r->n < MAX_FIELDS;) {
        r->field[r->n++] = at;
        at = strchr(at, '\t');
        if (at)
            *at++ = 0;
    }
}

static const char *text(const struct reader *r, enum column c) { return r->where[c] >= 0 && r->where[c] < r->n ? r->field[r->where[c]] : ""; }

static int number(const struct reader *r, enum column c, double *out, struct kvt_err *err)
{
    char *end = NULL;
    *out = NAN;
    if (!text(r, c)[0])
        return 0;
    *out = strtod(text(r, c), &end);
    return *end || end == text(r, c) ? kvt_fail(err, KVT_EFORMAT, "%s:%d: '%s' is not a number", r->path, r->at, text(r, c)) : 0;
}

/* The next line with fields, true; ## lines are added to note. */
static int next(struct reader *r, char *note, size_t cap, bool head, bool *more, struct kvt_err *err)
{
    for (*more = false; fgets(r->line, sizeof r->line, r->f);) {
        r->at++;
        if (!strchr(r->line, '\n') && !feof(r->f))
            return kvt_fail(err, KVT_EFORMAT, "%s:%d: a line of more than %d bytes; kvplot accuracy reads a table of results, not a trace", r->path, r->at, LINE);
        if (r->line[0] == '#' && r->line[1] == '#') {
            size_t len = strlen(note);
            r->line[strcspn(r->line, "\r\n")] = 0;
            snprintf(note + len, cap - len, "%s%s", len ? " " : "", r->line + 2 + strspn(r->line + 2, " "));
        } else if (head || (r->line[strspn(r->line, " \t\r\n")] && r->line[0] != '#')) {
            split(r, r->line + (head ? strspn(r->line, "# ") : 0));
            *more = true;
            return 0;
        }
    }
    return 0;
}

static int open_table(struct reader *r, const char *path, char *note, size_t cap, struct kvt_err *err)
{
    bool more = false;
    *r = (struct reader){.f = fopen(path, "r"), .path = path};
    if (!r->f)
        return kvt_fail(err, KVT_EIO, "cannot read %s: %s", path, strerror(errno));
    int rc = next(r, note, cap, true, &more, err);
    for (int c = 0; c < N_COLUMNS; c++) {
        r->where[c] = -1;
        for (int i = 0; i < r->n; i++)
            for (int k = 0; k < 2; k++) {
                size_t len = strcspn(r->field[i], " (");
                if (len == strlen(columns[c][k]) && !strncmp(r->field[i], columns[c][k], len))
                    r->where[c] = i;
            }
    }
    if (r->where[ACCURACY] < 0 && r->where[LOW] > 0)
        r->where[ACCURACY] = r->where[LOW] - 1;
    return rc;
}

static int need(const struct reader *r, const enum column *c, int n, struct kvt_err *err)
{
    for (int i = 0; i < n; i++)
        if (r->where[c[i]] < 0)
            return kvt_fail(err, KVT_EFORMAT, "%s: no column '%s' in the first line; kvbench --format tsv makes such a table: method, asked, kv_bytes_mean, right, low, high, tabs between them", r->path, columns[c[i]][0]);
    return 0;
}

static int read_rows(const char *path, struct results *to, struct kvt_err *err)
{
    struct reader r;
    bool more = true;
    int rc = open_table(&r, path, to->note, sizeof to->note, err);
    to->row = kvt_calloc(MAX_ROWS, sizeof *to->row);
    if (!rc && !to->row)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the table");
    if (!rc)
        rc = need(&r, (const enum column[]){METHOD, BYTES, ACCURACY}, 3, err);
    while (!rc && !(rc = next(&r, to->note, sizeof to->note, false, &more, err)) && more) {
        if (to->n == MAX_ROWS) {
            rc = kvt_fail(err, KVT_EFORMAT, "%s: more than %d rows", path, MAX_ROWS);
            break;
        }
        struct row *row = &to->row[to->n++];
        double *number_of[] = {&row->bytes, &row->accuracy, &row->low, &row->high};
        snprintf(row->method, sizeof row->method, "%s", text(&r, METHOD));
        snprintf(row->branch, sizeof row->branch, "%s", text(&r, BRANCH));
        snprintf(row->budget, sizeof row->budget, "%s", text(&r, BUDGET));
        for (int c = BYTES; !rc && c <= HIGH; c++)
            rc = number(&r, (enum column)c, number_of[c - BYTES], err);
        if (to->n == 1 && !to->note[0] && text(&r, MODEL)[0])
            snprintf(to->note, sizeof to->note, "%s, %s, %s questions.", text(&r, MODEL), text(&r, TASK), text(&r, QUESTIONS));
    }
    if (r.f)
        fclose(r.f);
    return !rc && !to->n ? kvt_fail(err, KVT_EFORMAT, "%s holds no results", path) : rc;
}

static bool is_full(const struct row *w) { return !strcmp(w->method, "full"); }

/* kvbench --show pairs: intervals of the difference from the full cache, on the same questions, take the place of each row's own. */
static int read_pairs(const char *path, struct results *to, struct kvt_err *err)
{
    struct reader r;
    char note[8] = "";
    bool more = true;
    const struct row *full = NULL;
    int rc = open_table(&r, path, note, sizeof note, err);
    if (!rc)
        rc = need(&r, (const enum column[]){BRANCH, AGAINST, LOW, HIGH}, 4, err);
    for (int i = 0; i < to->n; i++)
        full = is_full(&to->row[i]) ? &to->row[i] : full;
    if (!rc && !full)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: differences from the full cache, but no row of it in the first table", path);
    while (!rc && !(rc = next(&r, note, sizeof note, false, &more, err)) && more) {
        double low, high;
        if (strcmp(text(&r, AGAINST), full->branch))
            continue;
        rc = number(&r, LOW, &low, err);
        rc = rc ? rc : number(&r, HIGH, &high, err);
        for (int i = 0; !rc && i < to->n; i++)
            if (!strcmp(to->row[i].branch, text(&r, BRANCH))) {
                to->row[i].low = full->accuracy + low, to->row[i].high = full->accuracy + high;
                to->paired = true;
            }
    }
    if (r.f)
        fclose(r.f);
    return rc;
}

static int by_method(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    int order = strcmp(x->method, y->method);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* "snapkv" of "snapkv@1[w=32]", where no other snapkv is in the table. */
static void name_of(const struct results *r, int i, char *name, size_t cap)
{
    size_t len = strcspn(r->row[i].method, "@");
    snprintf(name, cap, "%s", r->row[i].method);
    for (int k = 0; k < r->n; k++)
        if (strcmp(r->row[k].method, r->row[i].method) && !strncmp(r->row[k].method, r->row[i].method, len) && r->row[k].method[len] == '@')
            return;
    name[len < cap ? len : cap - 1] = 0;
}

/* The uncompressed cache: a line, its interval a band. */
static void draw_full(const struct row *w, char *extra, size_t cap)
{
    size_t n = strlen(extra);
    n += (size_t)snprintf(extra + n, cap - n, "\nset arrow 1 from graph 0,first %.9g to graph 1,first %.9g nohead dashtype 2 linecolor '#444444'", 100 * w->accuracy, 100 * w->accuracy);
    if (!isnan(w->low))
        snprintf(extra + n, cap - n, "\nset object 1 rectangle from graph 0,first %.9g to graph 1,first %.9g fillcolor '#eeeeee' fillstyle solid noborder behind", 100 * w->low, 100 * w->high);
}

int kvt_plot_accuracy(const struct kvt_plot *p, struct kvt_err *err)
{
    struct results r = {0};
    struct kvt_chart c = {0};
    char extra[600] = "set format y '%g'", more[2400], name[256];
    int rc = read_rows(p->path[0], &r, err);
    if (!rc && p->n_paths > 1)
        rc = read_pairs(p->path[1], &r, err);
    snprintf(more, sizeof more, "%s", r.note);
    if (!rc)
        qsort(r.row, (size_t)r.n, sizeof *r.row, by_method);
    for (int i = 0; !rc && i < r.n; i++) {
        size_t len = strlen(more);
        if (is_full(&r.row[i]))
            draw_full(&r.row[i], extra, sizeof extra);
        else if (strchr(r.row[i].method, '@') && (!i || strcmp(r.row[i].method, r.row[i - 1].method)))
            snprintf(more + len, sizeof more - len, " %s;", r.row[i].method);
    }
    if (!rc)
        rc = kvt_chart_begin(&c, p, KVT_SERIES_ERRORS, &(struct kvt_chart_text){"Accuracy against memory", r.paired ? "dashed: the uncompressed cache; intervals: of the difference from it on the same questions, 95 %; labels: budget asked"
                             : "dashed: the uncompressed cache; intervals as the table gives them; labels: budget asked", "KV, MB, mean over steps and questions", "accuracy, %", extra, more}, err);
    for (int i = 0; !rc && i < r.n; i++) {
        const struct row *w = &r.row[i];
        if (!i || strcmp(w->method, r.row[i - 1].method)) {
            name_of(&r, i, name, sizeof name);
            kvt_chart_series(&c, name);
        }
        kvt_chart_point(&c, w->bytes / 1e6, 100 * w->accuracy, 100 * w->low, 100 * w->high, w->budget);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(r.row);
    return rc;
}
