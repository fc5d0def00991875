/* kvattn: where does attention go, layer by layer and head by head, and how does that differ between two traces?
 *
 * Definitions: docs/measures.md, section 6. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/analyzer.h"
#include "analyzers/patterns.h"
#include "base/args.h"
#include "base/mem.h"
#include "base/progress.h"
#include "base/stats.h"
#include "base/table.h"

enum show { LAYERS, HEADS, LABELS, GATES, SINKS, DISTANCES, SPANS, SHOTS, N_SHOW };
static const char *const shows[N_SHOW + 1] = {"layers", "heads", "labels", "gates", "sinks", "distances", "spans", "shots", NULL};

struct options {
    const char *layers, *prompt;
    int show, format;
    double label[KVT_N_LABELS], sink;
    bool compare, force;
};

struct run {
    struct options o;
    struct kvt_trace *trace;
    const struct kvt_trace_info *info;
    const char *path;
    uint8_t *layer;              /* (L) 1 = asked for */
    struct kvt_head *head;       /* (L, H) of the layers asked for */
};

static int end_table(const struct run *r, int rc, struct kvt_table **t, struct kvt_err *err)
{
    if (!rc)
        rc = kvt_table_write(*t, stdout, (enum kvt_format)r->o.format, err);
    kvt_table_free(t);
    return rc;
}

static bool for_people(const struct run *r) { return r->o.format == KVT_FORMAT_TABLE; }

static bool has_label(const struct run *r, const struct kvt_head *h, enum kvt_label k) { return kvt_head_score(h, k) > r->o.label[k]; }

static int load_heads(struct run *r, struct kvt_err *err)
{
    struct kvt_progress bar;
    r->head = kvt_calloc((size_t)r->info->L * (size_t)r->info->H, sizeof *r->head);
    int rc = r->head ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d heads", r->info->L * r->info->H);
    kvt_progress_start(&bar, stderr, "heads", "layers", r->info->L);
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (r->layer[l])
            rc = kvt_heads_of(r->trace, l, r->head + (size_t)l * (size_t)r->info->H, err);
        kvt_progress_at(&bar, l + 1);
    }
    kvt_progress_end(&bar);
    return rc;
}

/* ---- heads ---- */

/* name, what people read, the field, share or number */
#define MEASURE_MAP(X)                                                                                   \
    X("evenness", "even", evenness, KVT_COL_REAL, 2) X("effective_keys", "keys", keys, KVT_COL_REAL, 1)  \
    X("sink_first", "token 0", first, KVT_COL_SHARE, 1) X("sinks", "sinks", sinks, KVT_COL_SHARE, 1)     \
    X("local", "local", local, KVT_COL_SHARE, 1) X("self", "self", self, KVT_COL_SHARE, 1)               \
    X("previous", "prev.", previous, KVT_COL_SHARE, 1) X("hold_90", "90% on", hold[1], KVT_COL_SHARE, 1) \
    X("hold_90_rest", "no sinks", hold_rest[1], KVT_COL_SHARE, 1)
#define MORE_MAP(X)                                                                                      \
    X("hold_60", NULL, hold[0], KVT_COL_SHARE, 1) X("hold_99", NULL, hold[2], KVT_COL_SHARE, 1)          \
    X("hold_60_rest", NULL, hold_rest[0], KVT_COL_SHARE, 1) X("hold_99_rest", NULL, hold_rest[2], KVT_COL_SHARE, 1)
#define COLUMN(n, t, f, k, d) {.name = n, .title = t, .kind = k, .digits = d},
#define COLUMN_MORE(n, t, f, k, d) {.name = n, .kind = k, .digits = d, .programs_only = true},

static void put_head(struct kvt_table *t, const struct kvt_head *h)
{
#define X(n, t_, f, k, d) kvt_put_real(t, h->f);
    MEASURE_MAP(X) MORE_MAP(X)
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
    MEASURE_MAP(X) MORE_MAP(X)
#undef X
    return out;
}

static void label_names(const struct run *r, const struct kvt_head *h, char *buf, size_t cap)
{
    *buf = '\0';
    for (int k = 0; k < KVT_N_LABELS; k++)
        if (has_label(r, h, (enum kvt_label)k)) {
            size_t len = strlen(buf);
            snprintf(buf + len, cap - len, "%s%s", len ? "," : "", kvt_label_text[k]);
        }
}

static int layer_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, MEASURE_MAP(COLUMN) MORE_MAP(COLUMN_MORE)};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int l = 0; l < r->info->L; l++)
        if (r->layer[l]) {
            struct kvt_head mean = mean_head(r->head + (size_t)l * (size_t)r->info->H, r->info->H);
            kvt_put_int(t, l);
            put_head(t, &mean);
        }
    return end_table(r, 0, &t, err);
}

static int head_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT},
                                         MEASURE_MAP(COLUMN) MORE_MAP(COLUMN_MORE) {.name = "labels", .kind = KVT_COL_TEXT}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int l = 0; l < r->info->L; l++)
        for (int h = 0; r->layer[l] && h < r->info->H; h++) {
            const struct kvt_head *one = &r->head[(size_t)l * (size_t)r->info->H + (size_t)h];
            char labels[80];
            label_names(r, one, labels, sizeof labels);
            kvt_put_int(t, l);
            kvt_put_int(t, h);
            put_head(t, one);
            kvt_put_text(t, labels);
        }
    return end_table(r, 0, &t, err);
}

static int label_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "label", .kind = KVT_COL_TEXT}, {.name = "threshold", .kind = KVT_COL_REAL, .digits = 2},
                                         {.name = "heads", .kind = KVT_COL_INT}, {.name = "share", .kind = KVT_COL_SHARE, .digits = 1},
                                         {.name = "strongest", .kind = KVT_COL_TEXT}, {.name = "its_score", .title = "its score", .kind = KVT_COL_REAL, .digits = 3}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int k = 0; k < KVT_N_LABELS; k++) {
        int count = 0, all = 0, at = -1;
        double most = NAN;
        for (int i = 0; i < r->info->L * r->info->H; i++) {
            double v = r->layer[i / r->info->H] ? kvt_head_score(&r->head[i], (enum kvt_label)k) : NAN;
            all += !isnan(v);
            count += v > r->o.label[k];
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
    }
    return end_table(r, 0, &t, err);
}

/* A line for each layer, a number for each kv head: the share of attention that a head would lose if it saw the first n_sink and the newest
 * n_local tokens alone, mean over its query group. What `kvtrace --method duoattention[path=...]` reads. */
static int print_gates(const struct run *r, struct kvt_err *err)
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

/* ---- tokens and distances ---- */

static int sink_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "token", .kind = KVT_COL_INT}, {.name = "text", .kind = KVT_COL_TEXT},
                                         {.name = "heads", .title = "heads that sink there", .kind = KVT_COL_INT},
                                         {.name = "share", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "most", .kind = KVT_COL_SHARE, .digits = 1}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    struct kvt_sink *sink = NULL;
    int n = 0, rc = kvt_sinks_of(r->trace, r->o.sink, &sink, &n, err);
    for (int i = 0; !rc && i < n; i++) {
        kvt_put_int(t, sink[i].token);
        kvt_put_text(t, r->info->token_text[sink[i].token]);
        kvt_put_int(t, sink[i].heads);
        kvt_put_real(t, (double)sink[i].heads / (r->info->L * r->info->H));
        kvt_put_real(t, sink[i].most);
    }
    free(sink);
    return end_table(r, rc, &t, err);
}

/* Mean over heads by layer; programs get every head. */
static int distance_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col people[] = {{.name = "from", .title = "distance", .kind = KVT_COL_INT}, {.name = "to", .kind = KVT_COL_INT}, {.name = "mass", .kind = KVT_COL_SHARE, .digits = 2}},
                                programs[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT}, {.name = "from", .unit = "tokens", .kind = KVT_COL_INT},
                                              {.name = "mass", .kind = KVT_COL_REAL}};
    int bins = r->info->n_distances, H = r->info->H, layers = 0;
    float *v = kvt_calloc((size_t)H * (size_t)bins + 1, sizeof *v);
    double *sum = kvt_calloc((size_t)bins + 1, sizeof *sum);
    struct kvt_table *t = for_people(r) ? kvt_table_new(people, 3) : kvt_table_new(programs, 4);
    int rc = v && sum ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d distances", bins);
    if (!rc && !bins)
        rc = kvt_fail(err, KVT_EINPUT, "%s holds no distances; trace with --see distance", r->path);
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (!r->layer[l])
            continue;
        rc = kvt_trace_distance(r->trace, l, v, err);
        layers++;
        for (int h = 0; !rc && h < H; h++)
            for (int b = 0; b < bins; b++) {
                sum[b] += v[h * bins + b];
                if (for_people(r))
                    continue;
                kvt_put_int(t, l);
                kvt_put_int(t, h);
                kvt_put_int(t, r->info->distance[b]);
                kvt_put_real(t, v[h * bins + b]);
            }
    }
    for (int b = 0; !rc && for_people(r) && b < bins; b++) {
        kvt_put_int(t, r->info->distance[b]);
        kvt_put_int(t, b + 1 < bins ? r->info->distance[b + 1] - 1 : r->info->n_prompt - 1);
        kvt_put_real(t, sum[b] / (layers * H));
    }
    free(v);
    free(sum);
    return end_table(r, rc, &t, err);
}

/* ---- spans ---- */

static const struct kvt_trace_span *map_span(const struct run *r, int i) { return &r->info->span[r->info->map_span[i]]; }

/* Span x span, mean over the heads of the layers asked for, into sum (spans, spans). */
static int span_mean(struct run *r, float *v, double *sum, struct kvt_err *err)
{
    int S = r->info->n_map_spans, H = r->info->H, layers = 0, rc = 0;
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (!r->layer[l])
            continue;
        rc = kvt_trace_spans(r->trace, l, v, err);
        layers++;
        for (int i = 0; !rc && i < H * S * S; i++)
            sum[i % (S * S)] += v[i];
    }
    for (int i = 0; i < S * S; i++)
        sum[i] /= layers * H;
    return rc;
}

static int span_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "from", .kind = KVT_COL_TEXT}, {.name = "to", .kind = KVT_COL_TEXT}, {.name = "mass", .kind = KVT_COL_SHARE, .digits = 1},
                                         {.name = "per_token", .title = "per token", .kind = KVT_COL_SHARE, .digits = 3}};
    int S = r->info->n_map_spans;
    float *v = kvt_calloc((size_t)r->info->H * (size_t)(S * S) + 1, sizeof *v);
    double *sum = kvt_calloc((size_t)(S * S) + 1, sizeof *sum);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = v && sum ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", S);
    if (!rc && !S)
        rc = kvt_fail(err, KVT_EINPUT, "%s holds no masses between spans; trace with --see spans a prompt that has some (--shots, --shot-sep)", r->path);
    if (!rc)
        rc = span_mean(r, v, sum, err);
    for (int i = 0; !rc && i < S; i++)
        for (int j = 0; j < S; j++) {
            const struct kvt_trace_span *from = map_span(r, i), *to = map_span(r, j);
            if (to->start >= from->end || isnan(sum[i * S + j]) || (for_people(r) && !kvt_is_section(from)))
                continue;
            kvt_put_text(t, from->name);
            kvt_put_text(t, to->name);
            kvt_put_real(t, sum[i * S + j]);
            kvt_put_real(t, to->end > to->start ? sum[i * S + j] / (to->end - to->start) : NAN);
        }
    free(v);
    free(sum);
    return end_table(r, rc, &t, err);
}

/* Does the question single out some shots? By layer, mean over heads; programs get every head. */
static int shot_table(struct run *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT, .programs_only = true}, {.name = "selectivity", .kind = KVT_COL_REAL, .digits = 3},
                                         {.name = "on_shots", .title = "on shots", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "best_shot", .title = "most on", .kind = KVT_COL_TEXT},
                                         {.name = "best_share", .title = "of that", .kind = KVT_COL_SHARE, .digits = 1}};
    int S = r->info->n_map_spans, H = r->info->H, row = -1, shots = 0;
    float *v = kvt_calloc((size_t)H * (size_t)(S * S) + 1, sizeof *v);
    double *weight = kvt_calloc((size_t)S + 1, sizeof *weight), *size = kvt_calloc((size_t)S + 1, sizeof *size);
    int *shot = kvt_calloc((size_t)S + 1, sizeof *shot);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = v && weight && size && shot ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d spans", S);
    for (int i = 0; !rc && i < S; i++) {
        if (!strcmp(map_span(r, i)->kind, "prompt"))
            row = i;
        if (!strcmp(map_span(r, i)->kind, "shot")) {
            size[shots] = map_span(r, i)->end - map_span(r, i)->start;
            shot[shots++] = i;
        }
    }
    if (!rc && (row < 0 || shots < 2))
        rc = kvt_fail(err, KVT_EINPUT, "%s: selectivity needs a question and two shots with --see spans; here are %d shots and %s question", r->path, shots, row < 0 ? "no" : "a");
    for (int l = 0; !rc && l < r->info->L; l++) {
        if (!r->layer[l])
            continue;
        rc = kvt_trace_spans(r->trace, l, v, err);
        struct kvt_running selective = {0};
        double *all = kvt_calloc((size_t)shots, sizeof *all);
        if (!rc && !all)
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d shots", shots);
        for (int h = 0; !rc && h <= H; h++) { /* after the heads: the layer */
            if (h == H && !for_people(r))
                break;
            double sum = 0;
            int best = 0;
            for (int s = 0; s < shots; s++) {
                weight[s] = h < H ? v[(size_t)h * (size_t)(S * S) + (size_t)(row * S + shot[s])] : all[s] / H;
                sum += weight[s];
                best = weight[s] > weight[best] ? s : best;
                if (h < H)
                    all[s] += weight[s];
            }
            double one = h < H ? kvt_selectivity(weight, size, shots) : kvt_running_mean(&selective);
            kvt_running_add(&selective, one);
            if (h < H && for_people(r))
                continue;
            kvt_put_int(t, l);
            kvt_put_int(t, h);
            kvt_put_real(t, one);
            kvt_put_real(t, sum);
            kvt_put_text(t, map_span(r, shot[best])->name);
            kvt_put_real(t, sum > 0 ? weight[best] / sum : NAN);
        }
        free(all);
    }
    free(v);
    free(weight);
    free(size);
    free(shot);
    return end_table(r, rc, &t, err);
}

/* ---- two traces ---- */

static int check_same_model(const struct run *a, const struct run *b, struct kvt_err *err)
{
    if (a->info->L != b->info->L || a->info->H != b->info->H)
        return kvt_fail(err, KVT_EINPUT, "%s: %d layers x %d heads, %s has %d x %d; heads are compared one by one", b->path, b->info->L, b->info->H, a->path, a->info->L, a->info->H);
    if (strcmp(a->info->model_sha256, b->info->model_sha256) && *a->info->model_sha256 && *b->info->model_sha256 && !a->o.force)
        return kvt_fail(err, KVT_EINPUT, "%s: made with another model file (%s) than %s (%s); --force compares all the same", b->path, b->info->model_name, a->path, a->info->model_name);
    return 0;
}

static int compare_table(struct run *a, struct run *b, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "measure", .kind = KVT_COL_TEXT}, {.name = "a", .kind = KVT_COL_REAL, .digits = 3}, {.name = "b", .kind = KVT_COL_REAL, .digits = 3},
                                         {.name = "difference", .title = "a - b", .kind = KVT_COL_REAL, .digits = 3}, {.name = "effect", .title = "d", .kind = KVT_COL_REAL, .digits = 2},
                                         {.name = "heads", .kind = KVT_COL_INT}};
    int all = a->info->L * a->info->H;
    double *x = kvt_calloc((size_t)all, sizeof *x), *y = kvt_calloc((size_t)all, sizeof *y);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int rc = x && y ? check_same_model(a, b, err) : kvt_fail(err, KVT_ENOMEM, "no memory for %d heads", all);
#define X(name, title, f, kind, digits)                                               \
    if (!rc) {                                                                        \
        struct kvt_running m = {0}, n = {0};                                          \
        double mean;                                                                  \
        int count;                                                                    \
        for (int i = 0; i < all; i++) {                                               \
            x[i] = a->layer[i / a->info->H] ? a->head[i].f : (double)NAN;             \
            y[i] = a->layer[i / a->info->H] ? b->head[i].f : (double)NAN;             \
            kvt_running_add(&m, x[i]);                                                \
            kvt_running_add(&n, y[i]);                                                \
        }                                                                             \
        double d = kvt_effect(x, y, all, &mean, &count);                              \
        kvt_put_text(t, name);                                                        \
        kvt_put_real(t, kvt_running_mean(&m));                                        \
        kvt_put_real(t, kvt_running_mean(&n));                                        \
        kvt_put_real(t, mean);                                                        \
        kvt_put_real(t, d);                                                           \
        kvt_put_int(t, count);                                                        \
    }
    MEASURE_MAP(X) MORE_MAP(X)
#undef X
    free(x);
    free(y);
    return end_table(a, rc, &t, err);
}

/* ---- the tool ---- */

static void say_what(const struct run *r)
{
    printf("%s, prompt of %d tokens: attention of the prefill, rows that see 32 keys or more.\n", r->info->model_name, r->info->n_prompt);
    switch (r->o.show) {
    case LAYERS:
    case HEADS:
        printf("even: entropy / ln(visible keys). keys: e to the entropy. Mass on token 0, the first\n%d tokens, the newest %d, the row's own, the one before. 90%% on: the share of tokens that\n"
               "hold 90 %% of the mass; no sinks: without the first %d.\n\n", r->info->n_sink, r->info->n_local ? r->info->n_local : 32, r->info->n_sink);
        break;
    case SHOTS:
        puts("selectivity: does a row of the question single out some shots (1) or spread over all of\nthem alike, token for token (0)? Mean over its rows and the heads of the layer.\n");
        break;
    default: putchar('\n');
    }
}

static int open_run(struct run *r, const char *path, struct kvt_err *err)
{
    r->path = path;
    int rc = kvt_trace_open(&r->trace, path, r->o.prompt, err);
    if (rc)
        return rc;
    r->info = kvt_trace_info(r->trace);
    kvt_warn_partial(r->info, "kvattn", path, stderr);
    r->layer = kvt_calloc((size_t)r->info->L, 1);
    if (!r->layer)
        return kvt_fail(err, KVT_ENOMEM, "no memory for %d layers", r->info->L);
    rc = kvt_parse_mask(r->o.layers ? r->o.layers : "all", r->info->L, r->layer, "--layers", err);
    return rc || r->o.show > GATES ? rc : load_heads(r, err);
}

static void close_run(struct run *r)
{
    free(r->layer);
    free(r->head);
    kvt_trace_close(&r->trace);
}

static int show(struct run *r, struct kvt_err *err)
{
    if (r->o.show == GATES)
        return print_gates(r, err);
    if (for_people(r))
        say_what(r);
    switch (r->o.show) {
    case HEADS: return head_table(r, err);
    case LABELS: return label_table(r, err);
    case SINKS: return sink_table(r, err);
    case DISTANCES: return distance_table(r, err);
    case SPANS: return span_table(r, err);
    case SHOTS: return shot_table(r, err);
    default: return layer_table(r, err);
    }
}

int main(int argc, char **argv)
{
    struct run r = {0}, other = {0};
    struct options *o = &r.o;
    const struct kvt_opt opt[] = {
        {.name = "show", .type = KVT_OPT_CHOICE, .to = &o->show, .value = "WHAT", .def = "layers", .choices = shows,
         .help = "means of layers; every head; which labels hold where; gates of kv heads, for duoattention; tokens that act as sinks; mass by distance; from span to span; which shots the question looks at"},
        {.name = "compare", .type = KVT_OPT_FLAG, .to = &o->compare, .help = "two traces: each measure, head against head, with its effect size"},
        {.name = "layers", .type = KVT_OPT_STRING, .to = &o->layers, .value = "0,3,8-11", .help = "only these layers"},
        {.name = "sink", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_SINK], .value = "X", .def = "0.3", .max = 1, .help = "a head is a sink head from this mass on token 0 on"},
        {.name = "previous", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_PREVIOUS], .value = "X", .def = "0.4", .max = 1, .help = "... looks back by one, from this mass on the token before"},
        {.name = "local", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_LOCAL], .value = "X", .def = "0.6", .max = 1, .help = "... is local, from this mass on the newest tokens"},
        {.name = "uniform", .type = KVT_OPT_DOUBLE, .to = &o->label[KVT_LABEL_UNIFORM], .value = "X", .def = "0.9", .max = 1, .help = "... is uniform, from this evenness on"},
        {.name = "token-sink", .type = KVT_OPT_DOUBLE, .to = &o->sink, .value = "X", .def = "0.3", .max = 1, .help = "--show sinks: a token whose mean weight in some head is above this"},
        {.name = "prompt", .type = KVT_OPT_STRING, .to = &o->prompt, .value = "ID", .help = "of a trace with several (default: the first)"},
        {.name = "force", .type = KVT_OPT_FLAG, .to = &o->force, .help = "compare traces of different model files all the same"},
        {.name = "format", .type = KVT_OPT_CHOICE, .to = &o->format, .value = "F", .def = "table", .choices = kvt_format_names, .help = "for people, or for programs"},
    };
    const struct kvt_cli cli = {
        .tool = "kvattn", .operands = "run.h5 [other.h5]", .min_operands = 1, .max_operands = 2,
        .about = "Where attention goes: entropy, sinks, locality, sparsity, distance, spans; by layer and by head.",
        .example = "kvattn run.h5 --show heads --layers 12-14", .opt = opt, .n_opts = (int)(sizeof opt / sizeof *opt),
    };
    struct kvt_err err = {0};
    struct kvt_args args;
    int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
    if (!rc && (args.n == 2) != o->compare)
        rc = kvt_fail(&err, KVT_EUSAGE, o->compare ? "--compare takes two traces" : "two traces go with --compare");
    if (!rc && o->compare && o->show != LAYERS)
        rc = kvt_fail(&err, KVT_EUSAGE, "--compare and --show are two questions; ask one");
    if (!rc)
        rc = open_run(&r, args.operand[0], &err);
    if (!rc && o->compare) {
        other.o = r.o;
        rc = open_run(&other, args.operand[1], &err);
    }
    if (!rc)
        rc = o->compare ? compare_table(&r, &other, &err) : show(&r, &err);
    close_run(&r);
    close_run(&other);
    return kvt_args_end(&cli, rc, &err);
}
