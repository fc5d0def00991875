/* Reads the budgets of kvtrace --budget-file. Nothing in the file is believed. */
#include "tracer/budget_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"
#include "base/mem.h"

enum { FIELDS = 4, LINE = 512, MOST_LINES = 1 << 20, MOST_AT = 1 << 20 };

/* "3" or "*" */
static int read_index(const char *text, int *out, const char *what, const char *path, int number, struct kvt_err *err)
{
    *out = -1;
    if (!strcmp(text, "*") || !kvt_parse_int(text, 0, MOST_AT, out, what, NULL))
        return 0;
    return kvt_fail(err, KVT_EFORMAT, "%s: line %d: '%.24s' is no %s; a number from 0, or * for all", path, number, text, what);
}

/* "25%" and "0.25" are shares, "256" is tokens. */
static int read_keep(const char *text, struct kvt_budget *out, const char *path, int number, struct kvt_err *err)
{
    bool share = strpbrk(text, ".%") != NULL;
    if (share ? !kvt_budget_parse(out, text, false, NULL) : !strchr(text, '/') && !kvt_budget_parse_amount(out, text, false, NULL))
        return 0;
    return kvt_fail(err, KVT_EFORMAT, "%s: line %d: '%.24s' is no budget of a head; a share as 25%% or 0.25, or a number of tokens as 256", path, number,
                    text);
}

static int read_line(char *line, struct kvt_budget_line *out, const char *path, int number, struct kvt_err *err)
{
    char *field[FIELDS + 1] = {0};
    int n = 0;
    for (char *p = line; p && n <= FIELDS; n++) {
        field[n] = p;
        p = strchr(p, '\t');
        if (p)
            *p++ = '\0';
    }
    if (n != FIELDS)
        return kvt_fail(err, KVT_EFORMAT, "%s: line %d has %s%d fields between tabs; branch, layer, kv head and budget stand there", path, number,
                        n > FIELDS ? "more than " : "", n > FIELDS ? FIELDS : n);
    size_t len = strlen(field[0]);
    bool plain = len > 0 && len < sizeof out->name;
    for (size_t i = 0; plain && i < len; i++)
        plain = (unsigned char)field[0][i] >= ' ' && field[0][i] != 0x7f;
    if (!plain)
        return kvt_fail(err, KVT_EFORMAT, "%s: line %d: the branch has no name, or none of 1 to %d printable bytes", path, number, KVT_BUDGET_NAME - 1);
    memcpy(out->name, field[0], len + 1);
    out->number = number;
    int rc = read_index(field[1], &out->layer, "layer", path, number, err);
    rc = rc ? rc : read_index(field[2], &out->head, "kv head", path, number, err);
    return rc ? rc : read_keep(field[3], &out->keep, path, number, err);
}

static int add_line(struct kvt_budget_file *f, char *line, int number, int *room, struct kvt_err *err)
{
    if (f->n == *room) {
        *room = *room ? 2 * *room : 256;
        struct kvt_budget_line *more = f->n >= MOST_LINES ? NULL : realloc(f->line, (size_t)*room * sizeof *more);
        if (!more)
            return kvt_fail(err, f->n >= MOST_LINES ? KVT_EFORMAT : KVT_ENOMEM, "%s: line %d: more budgets than there is room for", f->path, number);
        f->line = more;
    }
    memset(&f->line[f->n], 0, sizeof *f->line);
    return read_line(line, &f->line[f->n++], f->path, number, err);
}

int kvt_budget_file_read(struct kvt_budget_file *out, const char *path, struct kvt_err *err)
{
    int rc = 0, number = 0, room = 0;
    size_t cap = 0;
    char *line = NULL;
    *out = (struct kvt_budget_file){.path = path};
    FILE *f = fopen(path, "r");
    if (!f)
        return kvt_fail(err, KVT_EINPUT, "%s: cannot open the budgets: %s", path, strerror(errno));
    for (ssize_t got; !rc && (got = getline(&line, &cap, f)) >= 0;) {
        size_t len = (size_t)got;
        number++;
        while (len && (line[len - 1] == '\n' || line[len - 1] == '\r'))
            line[--len] = '\0';
        if (len > LINE || strlen(line) != len)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: line %d is no line of budgets: %s", path, number, len > LINE ? "it is longer than 512 bytes" : "it has a byte of 0");
        else if (len && *line != '#' && !(number == 1 && !strncmp(line, "branch\t", 7)))
            rc = add_line(out, line, number, &room, err);
    }
    if (!rc && ferror(f))
        rc = kvt_fail(err, KVT_EINPUT, "%s: reading the budgets failed: %s", path, strerror(errno));
    free(line);
    fclose(f);
    if (!rc && !out->n)
        rc = kvt_fail(err, KVT_EFORMAT, "%s has no budgets; a line is branch, layer, kv head and budget between tabs", path);
    if (rc)
        kvt_budget_file_free(out);
    return rc;
}

void kvt_budget_file_free(struct kvt_budget_file *f)
{
    free(f->line);
    *f = (struct kvt_budget_file){0};
}

int kvt_budget_file_cells(const struct kvt_budget_file *f, const char *name, int L, int G, struct kvt_budget *cell, struct kvt_err *err)
{
    int *from = kvt_calloc((size_t)L * (size_t)G, sizeof *from); /* the line that gave each its budget */
    int rc = from ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the budgets of %d heads", L * G);
    for (int i = 0; !rc && i < f->n; i++) {
        const struct kvt_budget_line *a = &f->line[i];
        if (strcmp(a->name, name))
            continue;
        if (a->layer >= L || a->head >= G)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: line %d: there is no layer %d, kv head %d; the model has %d layers of %d", f->path, a->number,
                          a->layer < 0 ? 0 : a->layer, a->head < 0 ? 0 : a->head, L, G);
        for (int c = 0; !rc && c < L * G; c++) {
            if ((a->layer >= 0 && a->layer != c / G) || (a->head >= 0 && a->head != c % G))
                continue;
            if (from[c])
                rc = kvt_fail(err, KVT_EFORMAT, "%s: line %d: layer %d, kv head %d has a budget already, from line %d", f->path, a->number, c / G, c % G,
                              from[c]);
            from[c] = a->number;
            cell[c] = a->keep;
        }
    }
    for (int c = 0; !rc && c < L * G; c++)
        if (!from[c])
            rc = kvt_fail(err, KVT_EFORMAT, "%s: '%s' has no budget for layer %d, kv head %d; write a line for each, or * for all", f->path, name, c / G,
                          c % G);
    free(from);
    return rc;
}
