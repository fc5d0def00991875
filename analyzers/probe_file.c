/* Files of probes: a first line that says so, comments, and a line for each head. */
#include "analyzers/probe_file.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define FIRST "# kvattn probes 1"
#define MODEL "# model sha256 "

int kvt_probe_file_write(const char *path, bool force, const char *about, const char *sha, int L, int H, const struct kvt_head *head, struct kvt_err *err)
{
    FILE *f = fopen(path, force ? "w" : "wx");
    if (!f && errno == EEXIST)
        return kvt_fail(err, KVT_EINPUT, "%s exists; --force replaces it", path);
    if (!f)
        return kvt_fail(err, KVT_EIO, "cannot write %s: %s", path, strerror(errno));
    fprintf(f, FIRST "\n# %s\n" MODEL "%s\n# layer\thead\tinduction\tduplicate\tretrieval\n", about, sha);
    for (int i = 0; i < L * H; i++)
        fprintf(f, "%d\t%d\t%.9g\t%.9g\t%.9g\n", i / H, i % H, head[i].induction, head[i].duplicate, head[i].retrieval);
    bool bad = ferror(f) != 0;
    return fclose(f) || bad ? kvt_fail(err, KVT_EIO, "cannot write %s: %s", path, strerror(errno)) : 0;
}

/* One score: a share, or nan. */
static bool score(char **at, double *out)
{
    char *end;
    *out = strtod(*at, &end);
    bool ok = end > *at && (isnan(*out) || (*out >= 0 && *out <= 1));
    *at = end;
    return ok;
}

static bool number(char **at, int most, int *out)
{
    char *end;
    long v = strtol(*at, &end, 10);
    bool ok = end > *at && v >= 0 && v < most;
    *out = ok ? (int)v : 0;
    *at = end;
    return ok;
}

static int read_lines(FILE *f, const char *path, const char *sha, int L, int H, struct kvt_head *head, uint8_t *seen, struct kvt_err *err)
{
    char line[512];
    int at = 0, found = 0;
    while (fgets(line, sizeof line, f)) {
        size_t n = strcspn(line, "\r\n");
        bool whole = line[n] || feof(f);
        line[n] = '\0';
        if (++at == 1 && strcmp(line, FIRST))
            return kvt_fail(err, KVT_EINPUT, "%s isn't a file of probes; make one with kvattn --probe -m MODEL -o %s", path, path);
        if (*sha && !strncmp(line, MODEL, strlen(MODEL)) && strcmp(line + strlen(MODEL), sha))
            return kvt_fail(err, KVT_EINPUT, "%s: probes of a model with other weights (SHA-256 %.12s...) than the trace's (%.12s...); --force takes them all the same", path, line + strlen(MODEL), sha);
        if (*line == '#' || !*line)
            continue;
        char *p = line;
        int l, h;
        double v[3];
        if (!whole || !number(&p, L, &l) || !number(&p, H, &h) || !score(&p, &v[0]) || !score(&p, &v[1]) || !score(&p, &v[2]) || *p)
            return kvt_fail(err, KVT_EINPUT, "%s:%d: a layer below %d, a head below %d and three shares or nan belong here; probes of another model?", path, at, L, H);
        int i = l * H + h;
        if (seen[i])
            return kvt_fail(err, KVT_EINPUT, "%s:%d: layer %d, head %d stands there twice", path, at, l, h);
        seen[i] = 1;
        found++;
        head[i].induction = v[0], head[i].duplicate = v[1], head[i].retrieval = v[2];
    }
    if (ferror(f))
        return kvt_fail(err, KVT_EIO, "cannot read %s: %s", path, strerror(errno));
    return found == L * H ? 0 : kvt_fail(err, KVT_EINPUT, "%s: %d heads of %d x %d; probes of another model, or cut off?", path, found, L, H);
}

int kvt_probe_file_read(const char *path, const char *sha, int L, int H, struct kvt_head *head, struct kvt_err *err)
{
    uint8_t *seen = kvt_calloc((size_t)L * (size_t)H, 1);
    FILE *f = seen ? fopen(path, "r") : NULL;
    int rc = f ? read_lines(f, path, sha, L, H, head, seen, err)
           : seen ? kvt_fail(err, KVT_EINPUT, "cannot open %s: %s", path, strerror(errno)) : kvt_fail(err, KVT_ENOMEM, "no memory for %d heads", L * H);
    if (f)
        fclose(f);
    free(seen);
    return rc;
}
