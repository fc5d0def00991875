/* Accuracy against mean bytes, with paired intervals, from a table of results. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plots/chart.h"

/* The columns, by their names in the head line "# method<tab>budget<tab>..."; a unit in brackets behind a name is left out. */
enum column { METHOD, BUDGET, BYTES, ACCURACY, LOW, HIGH, N_COLUMNS };
static const char *const columns[N_COLUMNS] = {"method", "budget", "bytes_mean", "accuracy", "low", "high"};
enum { LINE = 4096, MAX_FIELDS = 64, MAX_ROWS = 4096 };

struct row { char method[80], budget[40]; double bytes, accuracy, low, high; };
struct results { struct row *row; int n; char note[512]; };

/* Fields of a line, which is cut up. */
static int split(char *line, char **field)
{
    int n = 0;
    line[strcspn(line, "\r\n")] = 0;
    for (char *at = line; at && n < MAX_FIELDS;) {
        field[n++] = at;
        at = strchr(at, '\t');
        if (at)
            *at++ = 0;
    }
    return n;
}

static int read_head(char *line, const char *path, int *where, struct kvt_err *err)
{
    char *field[MAX_FIELDS];
    int n = split(line + strspn(line, "# "), field);
    for (int c = 0; c < N_COLUMNS; c++) {
        where[c] = -1;
        for (int i = 0; i < n; i++) {
            size_t len = strcspn(field[i], " (");
            if (len == strlen(columns[c]) && !strncmp(field[i], columns[c], len))
                where[c] = i;
        }
        if (where[c] < 0 && c != LOW && c != HIGH && c != BUDGET)
            return kvt_fail(err, KVT_EFORMAT, "%s: no column '%s' in the first line; a table of results has method, budget, bytes_mean, accuracy, low and high, tabs between them", path, columns[c]);
    }
    return 0;
}

static int number(char **field, int n, int at, const char *path, int line, double *out, struct kvt_err *err)
{
    char *end = NULL;
    *out = NAN;
    if (at < 0 || at >= n || !field[at][0])
        return 0;
    *out = strtod(field[at], &end);
    return *end || end == field[at] ? kvt_fail(err, KVT_EFORMAT, "%s:%d: '%s' is not a number", path, line, field[at]) : 0;
}

static int read_row(struct results *r, char *text, const char *path, int line, const int *where, struct kvt_err *err)
{
    char *field[MAX_FIELDS];
    int n = split(text, field);
    struct row *row = &r->row[r->n];
    if (r->n == MAX_ROWS)
        return kvt_fail(err, KVT_EFORMAT, "%s: more than %d rows", path, MAX_ROWS);
    if (where[METHOD] >= n)
        return kvt_fail(err, KVT_EFORMAT, "%s:%d: %d fields; the first line names more", path, line, n);
    snprintf(row->method, sizeof row->method, "%s", field[where[METHOD]]);
    snprintf(row->budget, sizeof row->budget, "%s", where[BUDGET] >= 0 && where[BUDGET] < n ? field[where[BUDGET]] : "");
    double *to[N_COLUMNS] = {[BYTES] = &row->bytes, [ACCURACY] = &row->accuracy, [LOW] = &row->low, [HIGH] = &row->high};
    int rc = 0;
    for (int c = BYTES; !rc && c < N_COLUMNS; c++)
        rc = number(field, n, where[c], path, line, to[c], err);
    r->n += !rc;
    return rc;
}

/* Lines that begin with ## go into the small print, the first other line is the head. */
static int read_results(const char *path, struct results *r, struct kvt_err *err)
{
    char line[LINE];
    int where[N_COLUMNS], rc = 0, at = 0;
    bool head = false;
    FILE *f = fopen(path, "r");
    r->row = kvt_calloc(MAX_ROWS, sizeof *r->row);
    if (!f)
        return kvt_fail(err, KVT_EIO, "cannot read %s: %s", path, strerror(errno));
    if (!r->row)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the table");
    while (!rc && fgets(line, sizeof line, f)) {
        at++;
        if (!strchr(line, '\n') && !feof(f)) {
            rc = kvt_fail(err, KVT_EFORMAT, "%s:%d: a line of more than %d bytes; kvplot accuracy reads a table of results, not a trace", path, at, LINE);
        } else if (line[0] == '#' && line[1] == '#') {
            size_t len = strlen(r->note);
            line[strcspn(line, "\r\n")] = 0;
            snprintf(r->note + len, sizeof r->note - len, "%s%s", len ? " " : "", line + 2 + strspn(line + 2, " "));
        } else if (!head) {
            head = true;
            rc = read_head(line, path, where, err);
        } else if (line[strspn(line, " \t\r\n")] && line[0] != '#') {
            rc = read_row(r, line, path, at, where, err);
        }
    }
    fclose(f);
    return !rc && !r->n ? kvt_fail(err, KVT_EFORMAT, "%s holds no results", path) : rc;
}

static int by_method(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    int order = strcmp(x->method, y->method);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

int kvt_plot_accuracy(const struct kvt_plot *p, struct kvt_err *err)
{
    struct results r = {0};
    struct kvt_chart c = {0};
    char extra[400] = "set format y '%g'";
    int rc = read_results(p->path[0], &r, err);
    bool intervals = false;
    for (int i = 0; !rc && i < r.n; i++) {
        const struct row *w = &r.row[i];
        intervals = intervals || !isnan(w->low);
        if (strcmp(w->method, "full"))
            continue;
        int n = (int)strlen(extra); /* the uncompressed cache: a line, its interval a band */
        n += snprintf(extra + n, sizeof extra - (size_t)n, "\nset arrow 1 from graph 0,first %.9g to graph 1,first %.9g nohead dashtype 2 linecolor '#444444'", 100 * w->accuracy, 100 * w->accuracy);
        if (!isnan(w->low))
            snprintf(extra + n, sizeof extra - (size_t)n, "\nset object 1 rectangle from graph 0,first %.9g to graph 1,first %.9g fillcolor '#eeeeee' fillstyle solid noborder behind", 100 * w->low, 100 * w->high);
    }
    if (!rc) {
        qsort(r.row, (size_t)r.n, sizeof *r.row, by_method);
        rc = kvt_chart_begin(&c, p, KVT_SERIES_ERRORS, &(struct kvt_chart_text){"Accuracy against memory", intervals ? "paired intervals as the table gives them; dashed: the uncompressed cache; labels: budget asked"
                             : "dashed: the uncompressed cache; labels: budget asked", "KV, MB, mean over steps and prompts", "accuracy, %", extra, r.note}, err);
    }
    for (int i = 0; !rc && i < r.n; i++) {
        const struct row *w = &r.row[i];
        if (!i || strcmp(w->method, r.row[i - 1].method))
            kvt_chart_series(&c, w->method);
        kvt_chart_point(&c, w->bytes / 1e6, 100 * w->accuracy, 100 * w->low, 100 * w->high, w->budget);
    }
    rc = kvt_chart_end(&c, rc, err);
    free(r.row);
    return rc;
}
