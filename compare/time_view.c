/* The tables of a result of kvbench --time, for kvbench and kvreport. Medians over repetitions, with the least and the greatest; ratios to the full cache
 * repetition by repetition. */
#include "compare/time_view.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_REPEATS = 1000 };

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the tables"); }

static double number_of(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static const char *text_of(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsString(v) ? v->valuestring : "";
}

/* What a line says, in the table's units. */
enum what { PREFILL, EVICT, QUESTION, DECODE, STEP_EVICT, FIRST, JOULES, KV, PEAK };

static double value(const struct kvt_result *r, const cJSON *o, enum what what)
{
    double batch = number_of(o, "batch"), prefill = number_of(o, "prefill_s"), evict = number_of(o, "evict_s"), question = number_of(o, "question_s");
    switch (what) {
    case PREFILL: return batch * number_of(r->run, "prompt_tokens") / prefill;
    case EVICT: return 1e3 * evict / batch;
    case QUESTION: return 1e3 * question / batch;
    case DECODE: return number_of(o, "tokens") / number_of(o, "decode_s");
    case STEP_EVICT: return number_of(o, "step_evict_s") / number_of(o, "decode_s");
    case FIRST: return 1e3 * (prefill + evict + question) / batch;
    case JOULES: return number_of(o, "joules") / number_of(o, "tokens");
    case KV: return number_of(o, "kv_last");
    case PEAK: return number_of(o, "kv_peak");
    }
    return NAN;
}

/* The line of a repetition that went well; NULL: none. */
static const cJSON *line_of(const struct kvt_result *r, const char *name, int batch, int repeat)
{
    for (const cJSON *o = r->times ? r->times->child : NULL; o; o = o->next)
        if (!strcmp(text_of(o, "time"), name) && (int)number_of(o, "batch") == batch && (int)number_of(o, "repeat") == repeat && !*text_of(o, "failed"))
            return o;
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread { double low, mid, high; int n; };

static struct spread spread_of(double *v, int n)
{
    if (!n)
        return (struct spread){ NAN, NAN, NAN, 0 };
    qsort(v, (size_t)n, sizeof *v, by_value);
    return (struct spread){ v[0], n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2, v[n - 1], n };
}

/* Over repetitions; against: as a ratio to that method's of the same repetition. */
static struct spread over(const struct kvt_result *r, const char *name, const char *against, int batch, enum what what, double *room)
{
    int n = 0;
    for (int k = 1; k <= MAX_REPEATS; k++) {
        const cJSON *o = line_of(r, name, batch, k), *base = against ? line_of(r, against, batch, k) : NULL;
        double x = o ? value(r, o, what) : NAN;
        if (against)
            x = base ? x / value(r, base, what) : NAN;
        if (isfinite(x))
            room[n++] = x;
    }
    return spread_of(room, n);
}

/* Batches of the file, ascending. */
static int batches_of(const struct kvt_result *r, int **out, int *count, struct kvt_err *err)
{
    int n = r->times ? cJSON_GetArraySize(r->times) : 0, m = 0;
    int *v = kvt_calloc((size_t)n + 1, sizeof *v);
    if (!v)
        return no_memory(err);
    for (const cJSON *o = r->times ? r->times->child : NULL; o; o = o->next) {
        int batch = (int)number_of(o, "batch"), at = 0;
        if (!*text_of(o, "time"))
            continue;
        while (at < m && v[at] < batch)
            at++;
        if (at < m && v[at] == batch)
            continue;
        memmove(v + at + 1, v + at, (size_t)(m - at) * sizeof *v);
        v[at] = batch;
        m++;
    }
    *out = v, *count = m;
    return 0;
}

static const char *failure_of(const struct kvt_result *r, const char *name, int batch)
{
    const char *why = "";
    for (const cJSON *o = r->times ? r->times->child : NULL; o; o = o->next)
        if (!strcmp(text_of(o, "time"), name) && (int)number_of(o, "batch") == batch)
            why = text_of(o, "failed");
    return why;
}

static void put_bytes(struct kvt_table *t, double v)
{
    if (isfinite(v))
        kvt_put_int(t, (int64_t)v);
    else
        kvt_put_none(t);
}

static struct kvt_table *rows_table(const struct kvt_result *r, const int *batch, int n, double *room)
{
    static const struct kvt_col col[] = {
        { .name = "branch", .kind = KVT_COL_TEXT }, { .name = "batch", .kind = KVT_COL_INT },
        { .name = "prefill_tok_s", .title = "prefill", .unit = "tokens/s", .kind = KVT_COL_REAL, .digits = 0 },
        { .name = "evict_ms", .title = "evict", .unit = "ms", .kind = KVT_COL_REAL, .digits = 2 },
        { .name = "decode_tok_s", .title = "decode", .unit = "tokens/s", .kind = KVT_COL_REAL, .digits = 1 },
        { .name = "decode_low", .title = "low", .unit = "tokens/s", .kind = KVT_COL_REAL, .digits = 1 },
        { .name = "decode_high", .title = "high", .unit = "tokens/s", .kind = KVT_COL_REAL, .digits = 1 },
        { .name = "kv_bytes", .title = "KV", .unit = "bytes", .kind = KVT_COL_BYTES }, { .name = "kv_peak", .title = "peak", .unit = "bytes", .kind = KVT_COL_BYTES },
        { .name = "joules_per_token", .title = "J/token", .unit = "J", .kind = KVT_COL_REAL, .digits = 2 },
        { .name = "repeats", .kind = KVT_COL_INT, .programs_only = true },
        { .name = "prefill_low", .unit = "tokens/s", .kind = KVT_COL_REAL, .programs_only = true }, { .name = "prefill_high", .unit = "tokens/s", .kind = KVT_COL_REAL, .programs_only = true },
        { .name = "evict_low", .unit = "ms", .kind = KVT_COL_REAL, .programs_only = true }, { .name = "evict_high", .unit = "ms", .kind = KVT_COL_REAL, .programs_only = true },
        { .name = "question_ms", .unit = "ms", .kind = KVT_COL_REAL, .programs_only = true }, { .name = "first_token_ms", .unit = "ms", .kind = KVT_COL_REAL, .programs_only = true },
        { .name = "step_evict", .kind = KVT_COL_SHARE, .programs_only = true }, { .name = "failed", .kind = KVT_COL_TEXT, .programs_only = true },
        { .name = "method", .kind = KVT_COL_TEXT, .programs_only = true }, { .name = "asked", .kind = KVT_COL_TEXT, .programs_only = true },
        { .name = "model", .kind = KVT_COL_TEXT, .programs_only = true } };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int i = 0; i < n; i++)
        for (int b = 0; b < r->n_branches; b++) {
            const char *name = r->branch[b].name, *failed = failure_of(r, name, batch[i]);
            struct spread pre = over(r, name, NULL, batch[i], PREFILL, room), evict = over(r, name, NULL, batch[i], EVICT, room), dec = over(r, name, NULL, batch[i], DECODE, room);
            if (!dec.n && !*failed)
                continue;
            kvt_put_text(t, name);
            kvt_put_int(t, batch[i]);
            kvt_put_real(t, pre.mid);
            kvt_put_real(t, evict.mid);
            kvt_put_real(t, dec.mid);
            kvt_put_real(t, dec.low);
            kvt_put_real(t, dec.high);
            put_bytes(t, over(r, name, NULL, batch[i], KV, room).mid);
            put_bytes(t, over(r, name, NULL, batch[i], PEAK, room).high);
            kvt_put_real(t, over(r, name, NULL, batch[i], JOULES, room).mid);
            kvt_put_int(t, dec.n);
            kvt_put_real(t, pre.low);
            kvt_put_real(t, pre.high);
            kvt_put_real(t, evict.low);
            kvt_put_real(t, evict.high);
            kvt_put_real(t, over(r, name, NULL, batch[i], QUESTION, room).mid);
            kvt_put_real(t, over(r, name, NULL, batch[i], FIRST, room).mid);
            kvt_put_real(t, over(r, name, NULL, batch[i], STEP_EVICT, room).mid);
            kvt_put_text(t, *failed && !dec.n ? failed : NULL);
            kvt_put_text(t, r->branch[b].canonical);
            kvt_put_text(t, r->branch[b].asked);
            kvt_put_text(t, text_of(r->run, "model"));
        }
    return t;
}

/* Faster or slower only where every repetition says so, and there are five: by chance all five fall on one side once in sixteen times. */
static const char *verdict(const struct spread *ratio)
{
    return ratio->n < 5 ? "can't be told" : ratio->low > 1 ? "faster" : ratio->high < 1 ? "slower" : "can't be told";
}

static struct kvt_table *pairs_table(const struct kvt_result *r, const int *batch, int n, double *room)
{
    static const struct kvt_col col[] = {
        { .name = "branch", .kind = KVT_COL_TEXT }, { .name = "batch", .kind = KVT_COL_INT },
        { .name = "decode_ratio", .title = "decode x", .kind = KVT_COL_REAL, .digits = 2 }, { .name = "low", .kind = KVT_COL_REAL, .digits = 2 },
        { .name = "high", .kind = KVT_COL_REAL, .digits = 2 }, { .name = "verdict", .kind = KVT_COL_TEXT },
        { .name = "prefill_ratio", .title = "prefill x", .kind = KVT_COL_REAL, .digits = 2 }, { .name = "kv_ratio", .title = "KV x", .kind = KVT_COL_REAL, .digits = 2 },
        { .name = "against", .kind = KVT_COL_TEXT, .programs_only = true }, { .name = "repeats", .kind = KVT_COL_INT, .programs_only = true },
        { .name = "first_token_ratio", .kind = KVT_COL_REAL, .programs_only = true }, { .name = "peak_ratio", .kind = KVT_COL_REAL, .programs_only = true },
        { .name = "model", .kind = KVT_COL_TEXT, .programs_only = true } };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (int i = 0; i < n; i++)
        for (int b = 1; b < r->n_branches; b++) {
            const char *name = r->branch[b].name;
            struct spread dec = over(r, name, "full", batch[i], DECODE, room);
            if (!dec.n)
                continue;
            kvt_put_text(t, name);
            kvt_put_int(t, batch[i]);
            kvt_put_real(t, dec.mid);
            kvt_put_real(t, dec.low);
            kvt_put_real(t, dec.high);
            kvt_put_text(t, verdict(&dec));
            kvt_put_real(t, over(r, name, "full", batch[i], PREFILL, room).mid);
            kvt_put_real(t, over(r, name, "full", batch[i], KV, room).mid);
            kvt_put_text(t, "full");
            kvt_put_int(t, dec.n);
            kvt_put_real(t, over(r, name, "full", batch[i], FIRST, room).mid);
            kvt_put_real(t, over(r, name, "full", batch[i], PEAK, room).mid);
            kvt_put_text(t, text_of(r->run, "model"));
        }
    return t;
}

/* Bytes of `full` with the same memory; NULL: it wasn't tried. */
static const cJSON *full_of(const struct kvt_result *r, double memory)
{
    for (const cJSON *o = r->times ? r->times->child : NULL; o; o = o->next)
        if (!strcmp(text_of(o, "largest"), "full") && number_of(o, "memory") == memory)
            return o;
    return NULL;
}

static struct kvt_table *largest_table(const struct kvt_result *r)
{
    static const struct kvt_col col[] = {
        { .name = "branch", .kind = KVT_COL_TEXT }, { .name = "memory", .unit = "bytes", .kind = KVT_COL_BYTES }, { .name = "largest", .kind = KVT_COL_INT },
        { .name = "largest_ratio", .title = "x full", .kind = KVT_COL_REAL, .digits = 2 }, { .name = "reckoned", .kind = KVT_COL_INT },
        { .name = "decode_tok_s", .title = "decode", .unit = "tokens/s", .kind = KVT_COL_REAL, .digits = 1 },
        { .name = "kv_peak", .title = "KV peak", .unit = "bytes", .kind = KVT_COL_BYTES }, { .name = "kv_one", .title = "KV of one", .unit = "bytes", .kind = KVT_COL_BYTES },
        { .name = "kv_room", .unit = "bytes", .kind = KVT_COL_BYTES, .programs_only = true }, { .name = "weights", .unit = "bytes", .kind = KVT_COL_BYTES, .programs_only = true },
        { .name = "work", .unit = "bytes", .kind = KVT_COL_BYTES, .programs_only = true }, { .name = "process_peak", .unit = "bytes", .kind = KVT_COL_BYTES, .programs_only = true },
        { .name = "refused", .kind = KVT_COL_TEXT, .programs_only = true }, { .name = "model", .kind = KVT_COL_TEXT, .programs_only = true } };
    struct kvt_table *t = kvt_table_new(col, (int)(sizeof col / sizeof *col));
    for (const cJSON *l = r->times ? r->times->child : NULL; l; l = l->next) {
        if (!*text_of(l, "largest"))
            continue;
        const cJSON *full = full_of(r, number_of(l, "memory"));
        kvt_put_text(t, text_of(l, "largest"));
        put_bytes(t, number_of(l, "memory"));
        kvt_put_int(t, (int64_t)number_of(l, "batch"));
        kvt_put_real(t, full && number_of(full, "batch") > 0 ? number_of(l, "batch") / number_of(full, "batch") : NAN);
        kvt_put_int(t, (int64_t)number_of(l, "computed"));
        kvt_put_real(t, number_of(l, "tokens") / number_of(l, "decode_s"));
        put_bytes(t, number_of(l, "kv_peak"));
        put_bytes(t, number_of(l, "kv_one"));
        put_bytes(t, number_of(l, "kv_room"));
        put_bytes(t, number_of(l, "weights"));
        put_bytes(t, number_of(l, "work"));
        put_bytes(t, number_of(l, "process_peak"));
        kvt_put_text(t, text_of(l, "refused"));
        kvt_put_text(t, text_of(r->run, "model"));
    }
    return t;
}

bool kvt_time_is(const struct kvt_result *r) { return !strcmp(text_of(r->run, "kind"), "time"); }

void kvt_time_head(const struct kvt_result *r, FILE *out)
{
    fprintf(out, "%s on %s: %.0f + %.0f tokens, protocol %s, %s products, %s KV\n", text_of(r->run, "model"), text_of(r->run, "machine"), number_of(r->run, "prompt_tokens"),
            number_of(r->run, "new_tokens"), text_of(r->run, "protocol"), text_of(r->run, "compute"), text_of(r->run, "kv_type"));
    fputs("tokens/s of all sequences together, evict in ms for each; medians of repetitions in turns, low and high the extremes\n", out);
}

int kvt_time_table(const struct kvt_result *r, enum kvt_time_table what, struct kvt_table **out, struct kvt_err *err)
{
    double *room = kvt_calloc(MAX_REPEATS, sizeof *room);
    int *batch = NULL, n = 0, rc = room ? batches_of(r, &batch, &n, err) : no_memory(err);
    *out = rc ? NULL : what == KVT_TIME_ROWS ? rows_table(r, batch, n, room) : what == KVT_TIME_PAIRS ? pairs_table(r, batch, n, room) : largest_table(r);
    if (!rc && !*out)
        rc = no_memory(err);
    free(room);
    free(batch);
    return rc;
}
