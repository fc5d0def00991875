/* Reads the gates of the method `duoattention`. Nothing in the file is believed. */
#include "tracer/gate_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* One line's numbers into row (G). */
static int read_line(char *line, float *row, int G, const char *path, int number, struct kvt_err *err)
{
    int n = 0;
    for (char *p = line;;) {
        char *end;
        p += strspn(p, " \t,\r\n");
        if (!*p)
            break;
        float x = strtof(p, &end);
        if (end == p || !strchr(" \t,\r\n", *end) || !isfinite(x))
            return kvt_fail(err, KVT_EFORMAT, "%s: line %d: '%.*s' is no finite number; a gate for each kv head stands there", path, number,
                            (int)(strcspn(p, " \t,\r\n") < 24 ? strcspn(p, " \t,\r\n") : 24), p);
        if (n < G)
            row[n] = x;
        n++;
        p = end;
    }
    return n == G ? 0 : kvt_fail(err, KVT_EFORMAT, "%s: line %d has %d numbers; this model has %d kv heads", path, number, n, G);
}

int kvt_gate_file_read(float **out, const char *path, int L, int G, struct kvt_err *err)
{
    enum { LINE = 1 << 16 };
    FILE *f = fopen(path, "r");
    *out = NULL;
    if (!f)
        return kvt_fail(err, KVT_EINPUT, "%s: cannot open the gates: no such file, or it may not be read", path);
    float *gate = kvt_calloc((size_t)L * (size_t)G, sizeof *gate);
    char *line = malloc(LINE);
    int rc = gate && line ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the gates of %s", path), rows = 0, number = 0;
    while (!rc && fgets(line, LINE, f)) {
        number++;
        if (!line[strspn(line, " \t\r\n")] || *line == '#')
            continue;
        if (strlen(line) == LINE - 1)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: line %d is no line of gates: it is longer than %d bytes", path, number, LINE - 2);
        else if (rows == L)
            rc = kvt_fail(err, KVT_EFORMAT, "%s: line %d is one too many; this model has %d layers", path, number, L);
        else
            rc = read_line(line, gate + (size_t)rows++ * (size_t)G, G, path, number, err);
    }
    if (!rc && ferror(f))
        rc = kvt_fail(err, KVT_EINPUT, "%s: reading the gates failed", path);
    if (!rc && rows != L)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: %d lines of gates; this model has %d layers", path, rows, L);
    fclose(f);
    free(line);
    if (rc)
        free(gate);
    else
        *out = gate;
    return rc;
}
