/* Tables: one set of rows, printed for people or for programs.
 *
 *     const struct kvt_col col[] = {{"method", "method", NULL, KVT_COL_TEXT, 0},
 *                                   {"kv_bytes", "KV", "bytes", KVT_COL_BYTES, 0},
 *                                   {"kl", "KL", "nats", KVT_COL_REAL, 4}};
 *     struct kvt_table *t = kvt_table_new(col, 3);
 *     kvt_put_text(t, "snapkv"); kvt_put_int(t, 123456); kvt_put_real(t, NAN);   // a row is full after its last cell
 *     rc = kvt_table_write(t, stdout, KVT_FORMAT_TABLE, &err);
 *     kvt_table_free(&t);
 *
 * Missing values (NAN, NULL, kvt_put_none): "-" for people, "nan" or empty in TSV and CSV, null in JSON. A failed
 * allocation is remembered and reported by kvt_table_write. */
#ifndef KVT_BASE_TABLE_H
#define KVT_BASE_TABLE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "kvt/kvt.h"

enum kvt_format { KVT_FORMAT_TABLE, KVT_FORMAT_TSV, KVT_FORMAT_CSV, KVT_FORMAT_JSON, KVT_FORMAT_BOOKTABS };
/* For a KVT_OPT_CHOICE. */
extern const char *const kvt_format_names[6]; /* "table", "tsv", "csv", "json", "booktabs", NULL */

enum kvt_col_kind {
    KVT_COL_TEXT,
    KVT_COL_INT,
    KVT_COL_REAL,   /* `digits` after the point for people; all of them for programs */
    KVT_COL_SHARE,  /* a real that people see as a percentage: 0.25 -> 25.0% */
    KVT_COL_BYTES,  /* an integer that people see as 1.2 MB (powers of ten) */
    KVT_COL_BOOL,   /* yes or empty for people; 1 or 0 in TSV and CSV; true or false in JSON */
};

struct kvt_col {
    const char *name;   /* for programs: "kv_bytes" */
    const char *title;  /* for people: "KV"; NULL: name */
    const char *unit;   /* "bytes", "nats"; NULL: none */
    enum kvt_col_kind kind;
    int digits;
    bool programs_only; /* left out for people, whose screen is narrow */
};

struct kvt_table;
/* NULL without memory: every other function accepts that, and kvt_table_write says so. The columns are borrowed. */
struct kvt_table *kvt_table_new(const struct kvt_col *col, int n_cols);
void kvt_table_free(struct kvt_table **t);

/* The next cell of the current row, of the kind its column has (assert). Text is copied. */
void kvt_put_text(struct kvt_table *t, const char *text);
void kvt_put_int(struct kvt_table *t, int64_t v);
void kvt_put_real(struct kvt_table *t, double v);
void kvt_put_bool(struct kvt_table *t, bool v);
void kvt_put_none(struct kvt_table *t);

int kvt_table_rows(const struct kvt_table *t);
/* Booktabs: a LaTeX tabular of what people see, units in the heads. For people, columns wider than 80 in sum lose the ends of their longest texts ("snapkv@1[w=32.."); programs get all. */
int kvt_table_write(const struct kvt_table *t, FILE *out, enum kvt_format format, struct kvt_err *err);
/* The same columns as for people, as a <table> of HTML: class "n" aligns numbers, data-v is the number where the text (1.2 MB) isn't, and
 * a head's title is the column's name and unit. caption NULL: none. */
int kvt_table_html(const struct kvt_table *t, FILE *out, const char *caption, struct kvt_err *err);

/* "1.2 MB" (powers of ten) into buf. */
const char *kvt_bytes_text(uint64_t bytes, char *buf, size_t cap);
/* s as a TSV field, which has no tab or line end: they are written as \t, \n, \r, and a backslash as \\. */
void kvt_tsv_text(FILE *out, const char *s);
/* s as LaTeX text, its special characters escaped. */
void kvt_latex_text(FILE *out, const char *s);
/* s as a JSON string with quotes; invalid UTF-8 comes out as U+FFFD. */
void kvt_json_text(FILE *out, const char *s);
/* Columns that s takes on a terminal (wide East Asian characters and emoji 2, combining marks 0). */
int kvt_text_width(const char *s);

#endif
