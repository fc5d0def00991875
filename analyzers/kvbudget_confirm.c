/* kvbudget --show confirm: two branches of live runs, say ShotKV with derived shares and with equal ones: bytes, KL and lost mass, on
 * each prompt and in the mean. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvbudget.h"
#include "base/mem.h"

enum { BYTES, KL, LOST, REST, N_MEASURES };

/* Of two branches, by prompt. */
struct pairs {
    double (*value)[2][N_MEASURES];
    char (*id)[64];
    int n, room;
    char name[2][48];
};

/* Mean of a fidelity over steps, layers and heads; NaN where it wasn't measured. */
static int mean_fidelity(struct kvt_trace *t, int branch, const char *what, double *out, struct kvt_err *err)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    size_t n = (size_t)in->n_steps * (size_t)in->L * (size_t)in->G;
    float *x = kvt_calloc(n + 1, sizeof *x);
    struct kvt_err absent = {0};
    double sum = 0;
    int rc = x ? kvt_trace_fidelity_of(t, branch, what, x, &absent) : KVT_ENOMEM;
    for (size_t i = 0; !rc && i < n; i++)
        sum += (double)x[i];
    *out = rc || !n ? NAN : sum / (double)n;
    free(x);
    if (rc == KVT_EINPUT)
        return 0;
    return rc == KVT_ENOMEM ? kvt_fail(err, rc, "no memory for %zu values", n) : rc ? kvt_fail(err, rc, "%s", absent.text) : 0;
}

/* The two to compare: those that --branches names, or the only two that were compressed. */
static int choose(const struct kvbudget_run *r, const struct kvt_trace_info *in, const char *path, int two[2], struct kvt_err *err)
{
    int *branch = NULL, n = 0, rc = kvt_pick_branches(in, r->o.branches, &branch, &n, err);
    if (!rc && n != 2)
        rc = kvt_fail(err, r->o.branches ? KVT_EUSAGE : KVT_EINPUT, "%s: two branches are compared, and %d are there; name two by --branches", path, n);
    for (int i = 0; !rc && i < 2; i++)
        two[i] = branch[i];
    free(branch);
    return rc;
}

static int add_prompt(const struct kvbudget_run *r, void *self, struct kvt_trace *t, const char *path, struct kvt_err *err)
{
    struct pairs *p = self;
    const struct kvt_trace_info *in = kvt_trace_info(t);
    const char *slash = strrchr(path, '/'), *file = slash ? slash + 1 : path;
    int two[2] = {0}, rc = choose(r, in, path, two, err);
    if (!rc && in->no_full)
        rc = kvt_fail(err, KVT_EINPUT, "%s has no full branch (--no-full), so nothing to be near to", path);
    if (!rc && p->n == p->room) {
        size_t room = (size_t)p->room * 2 + 8;
        void *value = realloc(p->value, room * sizeof *p->value), *id = value ? realloc(p->id, room * sizeof *p->id) : NULL;
        p->value = value ? value : p->value;
        p->id = id ? id : p->id;
        p->room = (int)room;
        rc = value && id ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %zu prompts", room);
    }
    for (int i = 0; !rc && i < 2; i++) {
        const struct kvt_trace_branch *b = &in->branch[two[i]];
        double *v = p->value[p->n][i];
        if (p->n && strncmp(p->name[i], b->name, sizeof p->name[i] - 1))
            return kvt_fail(err, KVT_EINPUT, "%s compares '%s', the traces before it '%s'; name the branches by --branches", path, b->name, p->name[i]);
        snprintf(p->name[i], sizeof p->name[i], "%s", b->name);
        v[BYTES] = b->bytes_mean, v[KL] = b->mean_kl;
        rc = mean_fidelity(t, two[i], "lost_mass", &v[LOST], err);
        rc = rc ? rc : mean_fidelity(t, two[i], "lost_rest", &v[REST], err);
    }
    if (!rc)
        snprintf(p->id[p->n++], sizeof *p->id, "%.40s%s%.20s", r->n_paths > 1 ? file : "", r->n_paths > 1 ? " " : "", in->prompt_id);
    return rc;
}

static void put_measures(struct kvt_table *t, const double v[N_MEASURES], bool difference)
{
    if (isnan(v[BYTES]))
        kvt_put_none(t);
    else if (difference)
        kvt_put_real(t, v[BYTES]);
    else
        kvt_put_int(t, llround(v[BYTES]));
    for (int k = KL; k < N_MEASURES; k++)
        kvt_put_real(t, v[k]);
}

static int print(const struct kvbudget_run *r, const struct pairs *p, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "prompt", .kind = KVT_COL_TEXT}, {.name = "branch", .kind = KVT_COL_TEXT},
        {.name = "kv_bytes_mean", .title = "KV mean", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "mean_kl", .title = "KL", .unit = "nats", .kind = KVT_COL_REAL, .digits = 4},
        {.name = "lost_mass", .title = "lost", .kind = KVT_COL_SHARE, .digits = 2},
        {.name = "lost_rest", .title = "no sinks", .kind = KVT_COL_SHARE, .digits = 2},
    };
    static const char *const what[N_MEASURES] = {"bytes", "KL", "lost mass", "lost mass without sinks"};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    double mean[2][N_MEASURES] = {{0}};
    int wins[N_MEASURES] = {0};
    for (int i = 0; i < p->n; i++)
        for (int b = 0; b < 2; b++) {
            kvt_put_text(t, p->id[i]);
            kvt_put_text(t, p->name[b]);
            put_measures(t, p->value[i][b], false);
            for (int k = 0; k < N_MEASURES; k++)
                mean[b][k] += p->value[i][b][k] / p->n;
        }
    for (int b = 0; b < 2 && p->n > 1; b++) {
        kvt_put_text(t, "mean");
        kvt_put_text(t, p->name[b]);
        put_measures(t, mean[b], false);
    }
    for (int i = 0; i < p->n; i++)
        for (int k = 0; k < N_MEASURES; k++)
            wins[k] += p->value[i][0][k] < p->value[i][1][k];
    int rc = kvbudget_end_table(r, 0, &t, err);
    if (rc || r->o.format != KVT_FORMAT_TABLE)
        return rc;
    printf("\n'%s' holds %.2f%% %s bytes than '%s'.\n", p->name[0], fabs(100 * (mean[0][BYTES] / mean[1][BYTES] - 1)), mean[0][BYTES] > mean[1][BYTES] ? "more" : "fewer",
           p->name[1]);
    for (int k = KL; k < N_MEASURES; k++)
        if (!isnan(mean[0][k]))
            printf("Its %s is %s by %.4g%s in the mean, lower on %d of %d prompt%s.\n", what[k], mean[0][k] < mean[1][k] ? "lower" : "higher",
                   fabs(mean[0][k] - mean[1][k]), k == KL ? " nats" : "", wins[k], p->n, p->n > 1 ? "s" : "");
    if (p->n < 10)
        puts("Fewer than 10 prompts: descriptive.");
    return 0;
}

int kvbudget_confirm(const struct kvbudget_run *r, struct kvt_err *err)
{
    struct pairs p = {0};
    int rc = 0;
    for (int i = 0; !rc && i < r->n_paths; i++)
        rc = kvbudget_each_prompt(r, r->path[i], add_prompt, &p, err);
    if (!rc)
        rc = print(r, &p, err);
    free(p.value);
    free(p.id);
    return rc;
}
