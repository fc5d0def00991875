/* kvbudget --write-budget: budgets of layers and kv heads, as kvtrace --budget-file takes them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvbudget.h"
#include "base/mem.h"

enum { PPM = 1000000, NAME = 48 /* with its end, of the file's reader */ };

int kvbudget_write_begin(FILE **out, const char *path, const struct kvt_trace_info *info, struct kvt_err *err)
{
    FILE *f = *out = fopen(path, "w");
    if (!f)
        return kvt_fail(err, KVT_EIO, "cannot write %s: %s", path, strerror(errno));
    fprintf(f, "branch\tlayer\tkv_head\tkeep\n# shares of the context, from kvbudget; model %s, prompt %s of %d context tokens\n", info->model_name,
            info->prompt_id, info->n_context);
    return 0;
}

void kvbudget_write_line(FILE *f, const char *name, int layer, int head, int64_t ppm)
{
    fprintf(f, "%s\t%d\t", name, layer);
    if (head < 0)
        fputs("*\t", f);
    else
        fprintf(f, "%d\t", head);
    fprintf(f, "%lld.%04lld%%\n", (long long)(ppm / 10000), (long long)(ppm % 10000));
}

int kvbudget_write_end(FILE **f, const char *path, int rc, struct kvt_err *err)
{
    bool bad = *f && ferror(*f), shut = *f && fclose(*f);
    *f = NULL;
    return rc || !(bad || shut) ? rc : kvt_fail(err, KVT_EIO, "cannot write %s: %s", path, strerror(errno));
}

/* The least share of n of which the floor is tok. */
static int64_t share_of(int tok, int n) { return ((int64_t)tok * PPM + n - 1) / n; }

static int write_branch(const struct kvbudget_run *r, FILE *f, int b, int32_t *asked, struct kvt_err *err)
{
    const struct kvt_trace_info *in = r->info;
    const char *name = r->o.as ? r->o.as : in->branch[b].name;
    int32_t *kept = asked + (size_t)in->L * (size_t)in->G;
    int rc = kvt_trace_cells(r->trace, b, asked, kept, err), G = in->G;
    if (!rc && (strlen(name) >= NAME || strpbrk(name, "\t\n\r") || *name == '#' || !*name))
        rc = kvt_fail(err, KVT_EUSAGE, "'%.40s' can't name budgets: 1 to %d bytes, no tab or line end, no # in front; use --as", name, NAME - 1);
    for (int l = 0; !rc && l < in->L; l++) {
        const int32_t *row = kept + (size_t)l * (size_t)G;
        bool alike = true;
        for (int g = 0; !rc && g < G; g++) {
            alike = alike && row[g] == row[0];
            if (row[g] < 1 || row[g] > in->n_context)
                rc = kvt_fail(err, KVT_EINPUT, "%s: branch '%s' has no kept tokens for layer %d, kv head %d", r->path[0], in->branch[b].name, l, g);
        }
        for (int g = 0; !rc && g < (alike ? 1 : G); g++)
            kvbudget_write_line(f, name, l, alike ? -1 : g, share_of(row[g], in->n_context));
    }
    return rc;
}

int kvbudget_write_kept(const struct kvbudget_run *r, struct kvt_err *err)
{
    size_t cells = (size_t)r->info->L * (size_t)r->info->G;
    int32_t *asked = kvt_calloc(2 * cells, sizeof *asked);
    FILE *f = NULL;
    int written = 0, rc = asked ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu cells", cells);
    for (int i = 0; i < r->n_branches; i++)
        written += r->branch[i] > 0;
    if (!rc && (!written || (r->o.as && written > 1)))
        rc = kvt_fail(err, KVT_EUSAGE, written ? "--as is the name of one branch, and %d are chosen; pick one with --branches" :
                      "--write-budget: no compressed branch is chosen", written);
    if (!rc)
        rc = kvbudget_write_begin(&f, r->o.out, r->info, err);
    for (int i = 0; !rc && i < r->n_branches; i++)
        if (r->branch[i] > 0) /* the full branch has no budget */
            rc = write_branch(r, f, r->branch[i], asked, err);
    free(asked);
    return kvbudget_write_end(&f, r->o.out, rc, err);
}
