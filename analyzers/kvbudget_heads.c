/* kvbudget --show heads: shares of kv heads for a method that ranks tokens, from the full branch's rows. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/derive_heads.h"
#include "analyzers/kvbudget.h"
#include "base/mem.h"

struct work {
    struct kvt_heads *prompt;
    int n, n_derive, room, H;
    char name[48];             /* of the branch */
    double kept;               /* share that it keeps, mean over prompts */
};

static int add_prompt(const struct kvbudget_run *r, void *self, struct kvt_trace *t, const char *path, struct kvt_err *err)
{
    struct work *w = self;
    const struct kvt_trace_info *in = kvt_trace_info(t);
    int *branch = NULL, n = 0, rc = kvt_pick_branches(in, r->o.branches, &branch, &n, err), b = n ? branch[0] : 0;
    free(branch);
    if (!rc && (n != 1 || !b))
        rc = kvt_fail(err, KVT_EUSAGE, "--show heads is of one compressed branch, and %d are chosen; name it by --branches", n);
    if (!rc && !in->has_rows)
        rc = kvt_fail(err, KVT_EINPUT, "%s holds no rows of the steps; trace again with --see scores,rows -n %d or more", path, r->o.horizon);
    if (!rc && in->n_steps < r->o.horizon)
        rc = kvt_fail(err, KVT_EINPUT, "%s has %d steps, and the horizon is %d; trace more, or look ahead less", path, in->n_steps, r->o.horizon);
    if (!rc && strstr(in->windows, "left alone"))
        rc = kvt_fail(err, KVT_EINPUT, "%s: methods leave the layers with a sliding window alone (%s); trace with --compress-windows", path, in->windows);
    if (!rc && w->n && (w->prompt[0].L != in->L || w->prompt[0].G != in->G || w->H != in->H || strncmp(w->name, in->branch[b].name, sizeof w->name - 1)))
        rc = kvt_fail(err, KVT_EINPUT, "%s is of another model or branch than the first trace: %d layers of %d heads, '%s'", path, in->L, in->H, in->branch[b].name);
    if (!rc && w->n == w->room) {
        w->room = 2 * w->room + 8;
        void *more = realloc(w->prompt, (size_t)w->room * sizeof *w->prompt);
        w->prompt = more ? more : w->prompt;
        rc = more ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d prompts", w->room);
    }
    if (!rc)
        rc = kvt_heads_trace(&w->prompt[w->n], t, b, r->o.horizon, r->o.sinks, r->o.recent, err);
    if (rc)
        return rc;
    w->H = in->H;
    snprintf(w->name, sizeof w->name, "%s", in->branch[b].name);
    w->kept += in->branch[b].effective_keep;
    w->n++;
    return 0;
}

static int result_table(const struct kvbudget_run *r, const struct work *w, int64_t all, const int64_t *share, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "on", .kind = KVT_COL_TEXT}, {.name = "prompts", .kind = KVT_COL_INT}, {.name = "share", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "lost_alike", .title = "lost, alike", .kind = KVT_COL_SHARE, .digits = 2},
        {.name = "lost_by_head", .title = "by head", .kind = KVT_COL_SHARE, .digits = 2},
    };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int k = 0; k < 1 + (w->n > w->n_derive); k++) {
        const struct kvt_heads_set set = {w->prompt + (k ? w->n_derive : 0), k ? w->n - w->n_derive : w->n_derive};
        kvt_put_text(t, k ? "check" : w->n > w->n_derive ? "derived" : "in-sample");
        kvt_put_int(t, set.n);
        kvt_put_real(t, (double)all / KVT_PPM);
        kvt_put_real(t, kvt_heads_lost(&set, NULL, all));
        kvt_put_real(t, kvt_heads_lost(&set, share, 0));
    }
    return kvbudget_end_table(r, 0, &t, err);
}

static int head_table(const struct kvbudget_run *r, const struct work *w, const int64_t *share, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT}, {.name = "share", .kind = KVT_COL_SHARE, .digits = 1}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int c = 0; c < w->prompt[0].L * w->prompt[0].G; c++) {
        kvt_put_int(t, c / w->prompt[0].G);
        kvt_put_int(t, c % w->prompt[0].G);
        kvt_put_real(t, (double)share[c] / KVT_PPM);
    }
    return kvbudget_end_table(r, 0, &t, err);
}

static int write_shares(const struct kvbudget_run *r, const struct work *w, const int64_t *share, struct kvt_err *err)
{
    const char *name = r->o.as ? r->o.as : w->name;
    struct kvt_trace *t = NULL;
    FILE *f = NULL;
    if (!*name || strlen(name) >= sizeof w->name || strpbrk(name, "\t\n\r") || *name == '#')
        return kvt_fail(err, KVT_EUSAGE, "'%.40s' can't name budgets: 1 to %zu bytes, no tab or line end, no # in front; use --as", name, sizeof w->name - 1);
    int rc = kvt_trace_open(&t, r->path[0], r->o.prompt, err);
    rc = rc ? rc : kvbudget_write_begin(&f, r->o.out, kvt_trace_info(t), err);
    for (int c = 0; !rc && c < w->prompt[0].L * w->prompt[0].G; c++)
        kvbudget_write_line(f, name, c / w->prompt[0].G, c % w->prompt[0].G, share[c]);
    kvt_trace_close(&t);
    return kvbudget_write_end(&f, r->o.out, rc, err);
}

int kvbudget_heads(const struct kvbudget_run *r, struct kvt_err *err)
{
    struct work w = {0};
    char **more = NULL;
    int n_more = 0, rc = r->o.branches ? 0 : kvt_fail(err, KVT_EUSAGE, "--show heads: of which branch? name it by --branches");
    if (!rc && r->o.check)
        rc = kvt_split(r->o.check, &more, &n_more, "--check", err);
    for (int i = 0; !rc && i < r->n_paths; i++)
        rc = kvbudget_each_prompt(r, r->path[i], add_prompt, &w, err);
    w.n_derive = n_more ? w.n : r->o.split ? r->o.split : (w.n + 1) / 2;
    if (!rc && r->o.split && !n_more && r->o.split >= w.n)
        rc = kvt_fail(err, KVT_EUSAGE, "--split %d: there are %d prompts, and at least one is checked on", r->o.split, w.n);
    for (int i = 0; !rc && i < n_more; i++)
        rc = kvbudget_each_prompt(r, more[i], add_prompt, &w, err);
    free(more);
    size_t cells = w.n ? (size_t)w.prompt[0].L * (size_t)w.prompt[0].G : 0;
    int64_t *share = kvt_calloc(cells + 1, sizeof *share), all = rc ? 0 : (llround(w.kept / w.n * KVT_PPM) + 2500) / 5000 * 5000;
    if (!rc && !share)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %zu shares", cells);
    const struct kvt_heads_set set = {w.prompt, w.n_derive};
    if (!rc)
        rc = kvt_heads_share(&set, all, share, err);
    bool people = r->o.format == KVT_FORMAT_TABLE;
    if (!rc && people)
        printf("'%s', %d steps ahead: a share for each kv head in half percents, of the\nsame mean as one share for all. Lost: of the mass of the full branch's rows without\n"
               "%d sinks, the row's own token and the %d before it, the share on what left.\n\n", w.name, r->o.horizon, r->o.sinks, r->o.recent);
    if (!rc)
        rc = r->o.per_head ? head_table(r, &w, share, err) : result_table(r, &w, all, share, err);
    if (!rc && r->o.out)
        rc = write_shares(r, &w, share, err);
    free(share);
    for (int i = 0; i < w.n; i++)
        kvt_heads_close(&w.prompt[i]);
    free(w.prompt);
    return rc;
}
