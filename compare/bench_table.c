/* kvbench: the tables of a result, printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare/bench.h"
#include "compare/view.h"

static int put(struct kvt_table **t, int rc, enum kvt_format format, struct kvt_err *err)
{
    if (!rc)
        rc = kvt_table_write(*t, stdout, format, err);
    kvt_table_free(t);
    return rc;
}

static int remarks(const struct kvt_view *v, struct kvt_err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *f = open_memstream(&text, &bytes);
    if (f)
        kvt_view_remarks(v, f);
    if (!f || fclose(f))
        return kvt_fail(err, KVT_ENOMEM, "no memory for the tables");
    if (bytes)
        printf("\n%s", text);
    free(text);
    return 0;
}

static int tables(struct kvt_view *v, const struct kvt_bench_options *o, const char *group, struct kvt_err *err)
{
    bool people = o->format == KVT_FORMAT_TABLE || o->format == KVT_FORMAT_BOOKTABS, table = o->format == KVT_FORMAT_TABLE;
    struct kvt_table *t = NULL;
    int rc = kvt_view_measure(v, group, err);
    if (rc)
        return rc;
    if (table) {
        kvt_view_head(v, stdout);
        putchar('\n');
    }
    if (table || !o->show)
        rc = put(&t, kvt_view_rows(v, people, &t, err), (enum kvt_format)o->format, err);
    if (!rc && v->n_rows > 1 && (o->show || (table && !group))) {
        if (table)
            putchar('\n');
        rc = put(&t, kvt_view_pairs(v, people, &t, err), (enum kvt_format)o->format, err);
    }
    return rc || !table || group || v->n_rows < 2 ? rc : remarks(v, err);
}

int kvt_bench_tables(const struct kvt_bench_options *o, const struct kvt_result *r, struct kvt_err *err)
{
    struct kvt_view v;
    int rc = kvt_view_open(&v, r, o->contrasts, err);
    if (rc)
        return rc;
    rc = tables(&v, o, NULL, err);
    for (int i = 0; i < r->n_items && !rc && o->by_group; i++) {
        bool seen = !*r->item[i].group;
        for (int k = 0; k < i; k++)
            seen |= !strcmp(r->item[k].group, r->item[i].group);
        if (seen)
            continue;
        if (o->format == KVT_FORMAT_TABLE)
            putchar('\n');
        rc = tables(&v, o, r->item[i].group, err);
    }
    kvt_view_close(&v);
    return rc;
}
