/* kvattn: tables of layers and heads, labels, gates. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analyzers/kvattn.h"
#include "base/stats.h"

static bool has_label(const struct kvattn *r, const struct kvt_head *h, enum kvt_label k) { return kvt_head_score(h, k) > r->o.label[k]; }

#define COLUMN(n, t, f, k, d) {.name = n, .title = t, .kind = k, .digits = d},
#define COLUMN_MORE(n, t, f, k, d) {.name = n, .kind = k, .digits = d, .programs_only = true},

static void put_head(struct kvt_table *t, const struct kvt_head *h)
{
#define X(n, t_, f, k, d) kvt_put_real(t, h->f);
    KVATTN_MEASURE_MAP(X) KVATTN_MORE_MAP(X)
#undef X
}

/* Mean over heads, each measure over those that have it. */
static struct kvt_head mean_head(const struct kvt_head *h, int n)
{
    struct kvt_head out = {0};
#define X(n_, t, f, k, d)                        \
    {                                            \
        struct kvt_running m = {0};              \
        for (int i = 0; i < n; i++)              \
            kvt_running_add(&m, h[i].f);         \
        out.f = kvt_running_mean(&m);            \
    }
    KVATTN_MEASURE_MAP(X) KVATTN_MORE_MAP(X)
#undef X
    return out;
}

void kvattn_labels(const struct kvattn *r, const struct kvt_head *h, char *buf, size_t cap)
{
    *buf = '\0';
    for (int k = 0; k < KVT_N_LABELS; k++)
        if (has_label(r, h, (enum kvt_label)k)) {
            size_t len = strlen(buf);
            snprintf(buf + len, cap - len, "%s%s", len ? "," : "", kvt_label_text[k]);
        }
}

int kvattn_layer_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, KVATTN_MEASURE_MAP(COLUMN) KVATTN_MORE_MAP(COLUMN_MORE)};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int l = 0; l < r->info->L; l++)
        if (r->layer[l]) {
            struct kvt_head mean = mean_head(r->head + (size_t)l * (size_t)r->info->H, r->info->H);
            kvt_put_int(t, l);
            put_head(t, &mean);
        }
    return kvattn_end(r, 0, &t, err);
}

int kvattn_head_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT},
                                         KVATTN_MEASURE_MAP(COLUMN) KVATTN_MORE_MAP(COLUMN_MORE) {.name = "labels", .kind = KVT_COL_TEXT}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int l = 0; l < r->info->L; l++)
        for (int h = 0; r->layer[l] && h < r->info->H; h++) {
            const struct kvt_head *one = &r->head[(size_t)l * (size_t)r->info->H + (size_t)h];
            char labels[80];
            kvattn_labels(r, one, labels, sizeof labels);
            kvt_put_int(t, l);
            kvt_put_int(t, h);
            put_head(t, one);
            kvt_put_text(t, labels);
        }
    return kvattn_end(r, 0, &t, err);
}

int kvattn_label_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "label", .kind = KVT_COL_TEXT}, {.name = "threshold", .kind = KVT_COL_REAL, .digits = 2},
                                         {.name = "heads", .kind = KVT_COL_INT}, {.name = "share", .kind = KVT_COL_SHARE, .digits = 1},
                                         {.name = "strongest", .kind = KVT_COL_TEXT}, {.name = "its_score", .title = "its score", .kind = KVT_COL_REAL, .digits = 3},
                                         {.name = "heads_decode", .title = "in decode", .kind = KVT_COL_INT}, {.name = "heads_both", .title = "in both", .kind = KVT_COL_INT}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int k = 0; k < KVT_N_LABELS; k++) {
        if (k >= KVT_LABEL_INDUCTION && !r->o.probes)
            continue;
        int count = 0, all = 0, at = -1, later = 0, both = 0, rows = 0;
        double most = NAN;
        for (int i = 0; i < r->info->L * r->info->H; i++) {
            double v = r->layer[i / r->info->H] ? kvt_head_score(&r->head[i], (enum kvt_label)k) : NAN;
            all += !isnan(v);
            count += v > r->o.label[k];
            double then = r->decoded ? kvt_head_score(&r->decoded[i], (enum kvt_label)k) : NAN;
            rows += !isnan(then);
            later += then > r->o.label[k];
            both += then > r->o.label[k] && v > r->o.label[k];
            if (v > most || (isnan(most) && !isnan(v)))
                most = v, at = i;
        }
        char where[40];
        snprintf(where, sizeof where, "layer %d head %d", at / r->info->H, at % r->info->H);
        kvt_put_text(t, kvt_label_text[k]);
        kvt_put_real(t, r->o.label[k]);
        kvt_put_int(t, count);
        kvt_put_real(t, all ? (double)count / all : NAN);
        kvt_put_text(t, at < 0 ? NULL : where);
        kvt_put_real(t, most);
        for (int i = 0; i < 2; i++)
            if (rows)
                kvt_put_int(t, i ? both : later);
            else
                kvt_put_none(t);
    }
    return kvattn_end(r, 0, &t, err);
}

/* A line for each layer, a number for each kv head: the share of attention that a head would lose if it saw the first n_sink and the newest
 * n_local tokens alone, mean over its query group. What `kvtrace --method duoattention[path=...]` reads. */
int kvattn_gates(const struct kvattn *r, struct kvt_err *err)
{
    const struct kvt_trace_info *info = r->info;
    int group = info->H / info->G;
    if (!info->has_local)
        return kvt_fail(err, KVT_EINPUT, "%s: gates need the mass on the newest tokens; trace with --see scores,local", r->path);
    for (int l = 0; l < info->L; l++)
        if (!r->layer[l])
            return kvt_fail(err, KVT_EUSAGE, "--show gates is of all layers; leave --layers out");
    printf("# %s, prompt of %d tokens: attention beyond the first %d and the newest %d, by layer and kv head\n", info->model_name, info->n_prompt, info->n_sink,
           info->n_local);
    for (int l = 0; l < info->L; l++)
        for (int g = 0; g < info->G; g++) {
            struct kvt_running beyond = {0};
            for (int h = g * group; h < (g + 1) * group; h++) {
                const struct kvt_head *one = &r->head[(size_t)l * (size_t)info->H + (size_t)h];
                kvt_running_add(&beyond, fmax(0, 1 - one->sinks - one->local));
            }
            double gate = kvt_running_mean(&beyond);
            printf("%.6f%c", isnan(gate) ? 0 : gate, g + 1 < info->G ? '\t' : '\n');
        }
    return fflush(stdout) || ferror(stdout) ? kvt_fail(err, KVT_EIO, "output: writing failed") : 0;
}
