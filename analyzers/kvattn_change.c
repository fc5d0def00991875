/* kvattn: what changes from the prompt's rows to those of generated tokens, and from one trace to another. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/kvattn.h"
#include "base/mem.h"
#include "base/stats.h"

struct measure { const char *name; size_t at; }; /* at: of a double in struct kvt_head or struct parts */

static double value(const void *of, size_t i, size_t size, const struct measure *m)
{
    double v;
    memcpy(&v, (const char *)of + i * size + m->at, sizeof v);
    return v;
}

/* ---- parts of the prompt ---- */

/* Where a head's rows go, of the question or of generated tokens. NaN: there is no such part, or it wasn't traced. */
struct parts { double system, shots, question, selectivity; };

static const struct measure part_measures[] = {{"on_system", offsetof(struct parts, system)}, {"on_shots", offsetof(struct parts, shots)},
                                               {"on_question", offsetof(struct parts, question)}, {"selectivity", offsetof(struct parts, selectivity)}};
enum { N_PARTS = sizeof part_measures / sizeof *part_measures };

static void add(double *sum, double v) { *sum = isnan(*sum) ? v : *sum + v; }

/* mass: (n_map_spans) of one head. */
static struct parts parts_of(const struct kvattn *r, const double *mass, double *weight, double *size)
{
    struct parts p = {NAN, NAN, NAN, NAN};
    int shots = 0;
    for (int s = 0; s < r->info->n_map_spans; s++) {
        const struct kvt_trace_span *span = kvattn_span(r, s);
        if (!strcmp(span->kind, "system"))
            add(&p.system, mass[s]);
        else if (!strcmp(span->kind, "prompt"))
            add(&p.question, mass[s]);
        else if (!strcmp(span->kind, "shot")) {
            add(&p.shots, mass[s]);
            weight[shots] = mass[s];
            size[shots++] = span->end - span->start;
        }
    }
    p.selectivity = kvt_selectivity(weight, size, shots);
    return p;
}

/* Of the question's rows, or of generated tokens': *out (L, H), malloc'ed; NULL where the trace has no such rows. */
static int load_parts(struct kvattn *r, bool decoded, struct parts **out, struct kvt_err *err)
{
    int S = r->info->n_map_spans, H = r->info->H, L = r->info->L, row = -1, rc = 0;
    *out = NULL;
    for (int s = 0; s < S; s++)
        if (!strcmp(kvattn_span(r, s)->kind, "prompt"))
            row = s;
    if (!S || (decoded ? !r->info->has_decode : row < 0))
        return 0;
    float *v = kvt_calloc((size_t)H * (size_t)(S * S), sizeof *v);
    double *all = kvt_calloc((size_t)(L * H) * (size_t)(S + 1), sizeof *all), *work = kvt_calloc(3 * (size_t)S, sizeof *work);
    *out = kvt_calloc((size_t)(L * H), sizeof **out);
    if (!v || !all || !work || !*out)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d spans of %d heads", S, L * H);
    if (!rc && decoded)
        rc = kvt_spans_decoded(r->trace, all, err);
    for (int l = 0; !rc && l < L; l++) {
        if (!decoded && r->layer[l])
            rc = kvt_trace_spans(r->trace, l, v, err);
        for (int h = 0; !rc && h < H; h++) {
            struct parts *p = &(*out)[l * H + h];
            for (int s = 0; s < S; s++)
                work[s] = decoded ? all[(size_t)(l * H + h) * (size_t)(S + 1) + (size_t)s] : (double)v[(size_t)h * (size_t)(S * S) + (size_t)(row * S + s)];
            *p = r->layer[l] ? parts_of(r, work, work + S, work + 2 * S) : (struct parts){NAN, NAN, NAN, NAN};
        }
    }
    free(v);
    free(all);
    free(work);
    if (rc) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

/* ---- one table for both questions ---- */

struct side { const void *of; size_t size; int n; }; /* n structs of so many bytes */

/* A row: means, their difference and its effect, head against head, or as two groups where they have no partners. */
static int put_measure(struct kvt_table *t, const char *prefix, const struct measure *m, const struct side *a, const struct side *b, struct kvt_err *err)
{
    char name[48];
    double mean = NAN, d = NAN, *x = kvt_calloc((size_t)a->n, sizeof *x), *y = kvt_calloc((size_t)b->n, sizeof *y);
    int rc = x && y ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for %d heads", a->n), n = 0;
    struct kvt_running ma = {0}, mb = {0};
    for (int i = 0; !rc && i < a->n; i++)
        kvt_running_add(&ma, x[i] = value(a->of, (size_t)i, a->size, m));
    for (int i = 0; !rc && i < b->n; i++)
        kvt_running_add(&mb, y[i] = value(b->of, (size_t)i, b->size, m));
    if (!rc && a->n == b->n)
        d = kvt_effect(x, y, a->n, &mean, &n);
    else if (!rc)
        d = kvt_effect_apart(x, a->n, y, b->n, &mean);
    if (!rc && (ma.n || mb.n)) {
        snprintf(name, sizeof name, "%s%s", prefix, m->name);
        kvt_put_text(t, name);
        kvt_put_real(t, kvt_running_mean(&ma));
        kvt_put_real(t, kvt_running_mean(&mb));
        kvt_put_real(t, mean);
        kvt_put_real(t, d);
        kvt_put_int(t, a->n == b->n ? n : (int)(ma.n + mb.n));
    }
    free(x);
    free(y);
    return rc;
}

#define MEASURE(n, t, f, k, d) {n, offsetof(struct kvt_head, f)},
static const struct measure all_measures[] = {KVATTN_MEASURE_MAP(MEASURE) KVATTN_MORE_MAP(MEASURE)};
static const struct measure row_measures[] = {{"evenness", offsetof(struct kvt_head, evenness)}, {"effective_keys", offsetof(struct kvt_head, keys)},
                                              {"sink_first", offsetof(struct kvt_head, first)}, {"sinks", offsetof(struct kvt_head, sinks)},
                                              {"local", offsetof(struct kvt_head, local)}, {"self", offsetof(struct kvt_head, self)},
                                              {"previous", offsetof(struct kvt_head, previous)}, {"own", offsetof(struct kvt_head, own)}};
enum { N_ALL = sizeof all_measures / sizeof *all_measures, N_ROW = sizeof row_measures / sizeof *row_measures };

static struct side heads_of(const struct kvattn *r, bool decoded)
{
    return (struct side){decoded ? r->decoded : r->head, sizeof *r->head, r->info->L * r->info->H};
}

static int put_parts(struct kvt_table *t, const char *prefix, const struct kvattn *ra, const struct parts *a, const struct kvattn *rb, const struct parts *b, struct kvt_err *err)
{
    struct side x = {a, sizeof *a, ra->info->L * ra->info->H}, y = {b, sizeof *b, rb->info->L * rb->info->H};
    int rc = 0;
    for (int i = 0; a && b && !rc && i < N_PARTS; i++)
        rc = put_measure(t, prefix, &part_measures[i], &x, &y, err);
    return rc;
}

/* ---- from prefill to decode ---- */

/* Later less earlier, so that what grows is positive. */
int kvattn_change_table(struct kvattn *r, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "measure", .kind = KVT_COL_TEXT}, {.name = "decode", .kind = KVT_COL_REAL, .digits = 3}, {.name = "prefill", .kind = KVT_COL_REAL, .digits = 3},
                                         {.name = "change", .kind = KVT_COL_REAL, .digits = 3}, {.name = "effect", .title = "d", .kind = KVT_COL_REAL, .digits = 2},
                                         {.name = "heads", .kind = KVT_COL_INT}};
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    struct side was = heads_of(r, false), now = heads_of(r, true);
    struct parts *a = NULL, *b = NULL;
    int rc = load_parts(r, false, &a, err);
    if (!rc)
        rc = load_parts(r, true, &b, err);
    for (int i = 0; !rc && i < N_ROW; i++)
        rc = put_measure(t, "", &row_measures[i], &now, &was, err);
    if (!rc)
        rc = put_parts(t, "", r, b, r, a, err);
    free(a);
    free(b);
    return kvattn_end(r, rc, &t, err);
}

/* By layer, mean over heads; programs get every head. */
int kvattn_decode_table(struct kvattn *r, struct kvt_err *err)
{
    static const size_t at[] = {offsetof(struct kvt_head, evenness), offsetof(struct kvt_head, first), offsetof(struct kvt_head, sinks), offsetof(struct kvt_head, local),
                                offsetof(struct kvt_head, previous), offsetof(struct kvt_head, keys), offsetof(struct kvt_head, self)};
#define PAIR(n, title_, k, d, more) {.name = n, .title = title_, .kind = k, .digits = d, .programs_only = more}, {.name = n "_decode", .title = "then", .kind = k, .digits = d, .programs_only = more}
    static const struct kvt_col col[] = {
        {.name = "layer", .kind = KVT_COL_INT}, {.name = "head", .kind = KVT_COL_INT, .programs_only = true}, PAIR("evenness", "even", KVT_COL_REAL, 2, false),
        PAIR("sink_first", "token 0", KVT_COL_SHARE, 1, false), PAIR("sinks", NULL, KVT_COL_SHARE, 1, false), PAIR("local", NULL, KVT_COL_SHARE, 1, false),
        PAIR("previous", "prev.", KVT_COL_SHARE, 1, false), PAIR("effective_keys", NULL, KVT_COL_REAL, 1, true), PAIR("self", NULL, KVT_COL_SHARE, 1, true),
        {.name = "own", .kind = KVT_COL_SHARE, .digits = 1}, {.name = "labels", .kind = KVT_COL_TEXT, .programs_only = true}, {.name = "labels_decode", .kind = KVT_COL_TEXT, .programs_only = true}};
#undef PAIR
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    int H = r->info->H;
    bool people = kvattn_for_people(r);
    for (int l = 0; l < r->info->L; l++)
        for (int h = 0; r->layer[l] && h < (people ? 1 : H); h++) {
            size_t i = (size_t)(l * H + h);
            kvt_put_int(t, l);
            kvt_put_int(t, h);
            for (size_t k = 0; k < 2 * sizeof at / sizeof *at; k++) {
                const struct measure m = {NULL, at[k / 2]};
                const struct kvt_head *of = k % 2 ? r->decoded : r->head;
                struct kvt_running mean = {0};
                for (size_t j = i; j < i + (people ? (size_t)H : 1); j++)
                    kvt_running_add(&mean, value(of, j, sizeof *of, &m));
                kvt_put_real(t, kvt_running_mean(&mean));
            }
            struct kvt_running own = {0};
            for (size_t j = i; j < i + (people ? (size_t)H : 1); j++)
                kvt_running_add(&own, r->decoded[j].own);
            char labels[80], then[80];
            kvattn_labels(r, &r->head[i], labels, sizeof labels);
            kvattn_labels(r, &r->decoded[i], then, sizeof then);
            kvt_put_real(t, kvt_running_mean(&own));
            kvt_put_text(t, labels);
            kvt_put_text(t, then);
        }
    return kvattn_end(r, 0, &t, err);
}

/* ---- two traces ---- */

static int check_same_model(const struct kvattn *a, const struct kvattn *b, struct kvt_err *err)
{
    if (a->o.force)
        return 0;
    if (a->info->L != b->info->L || a->info->H != b->info->H)
        return kvt_fail(err, KVT_EINPUT, "%s: %d layers x %d heads, %s has %d x %d; --force compares them as two groups of heads", b->path, b->info->L, b->info->H, a->path,
                        a->info->L, a->info->H);
    if (strcmp(a->info->model_sha256, b->info->model_sha256) && *a->info->model_sha256 && *b->info->model_sha256)
        return kvt_fail(err, KVT_EINPUT, "%s: made with another model file (%s) than %s (%s); --force compares all the same", b->path, b->info->model_name, a->path, a->info->model_name);
    return 0;
}

int kvattn_compare_table(struct kvattn *a, struct kvattn *b, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "measure", .kind = KVT_COL_TEXT}, {.name = "a", .kind = KVT_COL_REAL, .digits = 3}, {.name = "b", .kind = KVT_COL_REAL, .digits = 3},
                                         {.name = "difference", .title = "a - b", .kind = KVT_COL_REAL, .digits = 3}, {.name = "effect", .title = "d", .kind = KVT_COL_REAL, .digits = 2},
                                         {.name = "heads", .kind = KVT_COL_INT}};
    int rc = check_same_model(a, b, err);
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    struct side x = heads_of(a, false), y = heads_of(b, false), dx = heads_of(a, true), dy = heads_of(b, true);
    for (int i = 0; !rc && i < N_ALL; i++)
        rc = put_measure(t, "", &all_measures[i], &x, &y, err);
    for (int i = 0; !rc && i < N_ROW && a->decoded && b->decoded; i++)
        rc = put_measure(t, "decode: ", &row_measures[i], &dx, &dy, err);
    for (int decoded = 0; !rc && decoded < 2; decoded++) {
        struct parts *p = NULL, *q = NULL;
        rc = load_parts(a, decoded, &p, err);
        if (!rc)
            rc = load_parts(b, decoded, &q, err);
        if (!rc)
            rc = put_parts(t, decoded ? "answer: " : "question: ", a, p, b, q, err);
        free(p);
        free(q);
    }
    if (!rc && a->o.format == KVT_FORMAT_TABLE)
        printf("a: %s, %s\nb: %s, %s\n%s\n", a->path, a->info->model_name, b->path, b->info->model_name,
               x.n == y.n ? "d: mean over heads of the difference, over its standard deviation\n"
                          : "d: difference of the means, over the pooled standard deviation of the two groups of heads\n");
    return kvattn_end(a, rc, &t, err);
}
