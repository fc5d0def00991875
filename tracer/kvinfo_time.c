/* Times of a run in one table: what each operation took in each phase, the bytes it must move, and what share of the memory's bandwidth that is.
 * docs/measures.md defines the columns. */
#include "tracer/kvinfo_time.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kvt/probe.h"
#include "tracer/trace_profile.h"

enum { ROWS = 4096 };
static const char *const phase_names[] = {"before", "prefill", "evict", "question", "decode", "repeat", "oracle"}; /* enum kvt_phase + 1 */

struct row {
    int phase;                 /* enum kvt_phase, -1 before */
    const char *what;
    int64_t calls, records, time_ns, bytes, bytes_ns; /* bytes_ns: time of the calls whose bytes are known */
    bool aside;                /* not part of the phase's work: waits, overhead, the writer */
};
struct rows { struct row *row; int n; };

static struct row *row_of(struct rows *r, int phase, const char *what, bool aside)
{
    for (int i = 0; i < r->n; i++)
        if (r->row[i].phase == phase && !strcmp(r->row[i].what, what))
            return &r->row[i];
    if (r->n == ROWS)
        return &r->row[ROWS - 1];
    r->row[r->n] = (struct row){.phase = phase, .what = what, .bytes = -1, .aside = aside};
    return &r->row[r->n++];
}

/* Phases nest (a branch that prefills by itself does so while others are evicted): the shortest that holds the moment. */
static int phase_at(const struct kvt_trace_info *in, int64_t ns)
{
    int found = -1;
    int64_t shortest = INT64_MAX;
    for (int i = 0; i < in->n_phases; i++) {
        const struct kvt_trace_phase *p = &in->phase[i];
        if (p->start_ns < 0 || ns < p->start_ns || ns >= p->start_ns + p->dur_ns || p->dur_ns >= shortest)
            continue;
        for (int k = 1; k <= KVT_N_PHASE; k++)
            if (!strcmp(phase_names[k], p->name))
                found = k - 1, shortest = p->dur_ns;
    }
    return found;
}

static int64_t phase_ns(const struct kvt_trace_info *in, int phase)
{
    int64_t ns = 0;
    for (int i = 0; i < in->n_phases; i++)
        ns += phase >= 0 && !strcmp(in->phase[i].name, phase_names[phase + 1]) && in->phase[i].dur_ns > 0 ? in->phase[i].dur_ns : 0;
    return ns;
}

/* ---- of the device ---- */

static int by_call(const void *a, const void *b)
{
    const struct kvt_device_record *x = a, *y = b;
    return (x->call > y->call) - (x->call < y->call);
}

/* All that was done for a call is one call's time. Sorts the records. */
static void device_rows(struct rows *r, const struct kvt_profile_read *p)
{
    const struct kvt_device_record *d = p->record;
    size_t n = p->times.n_records;
    qsort(p->record, n, sizeof *d, by_call);
    for (size_t i = 0, end; i < n; i = end) {
        const struct kvt_device_call *c = d[i].call >= 0 ? &p->call[d[i].call] : NULL;
        int phase = c ? c->phase : -1;
        int64_t ns = 0, records = 0;
        for (end = i; end < n && d[end].call == d[i].call; end++) {
            if (d[end].kind == KVT_DEVICE_WAIT || d[end].kind == KVT_DEVICE_OVERHEAD) {
                struct row *to = row_of(r, phase, d[end].kind == KVT_DEVICE_WAIT ? "(host waits)" : "(overhead)", true);
                to->calls++;
                to->records++;
                to->time_ns += d[end].dur_ns;
            } else {
                ns += d[end].dur_ns;
                records++;
            }
        }
        if (!records)
            continue;
        struct row *to = row_of(r, phase, c ? kvt_profile_name(p, c->name) : "(not joined)", false);
        to->calls += c ? 1 : records;
        to->records += records;
        to->time_ns += ns;
        if (c && c->bytes >= 0) {
            to->bytes = (to->bytes < 0 ? 0 : to->bytes) + c->bytes;
            to->bytes_ns += ns;
        }
    }
}

/* ---- of the host ---- */

static bool evicts(int part) { return part == KVT_PART_SCORE || part == KVT_PART_SELECT || part == KVT_PART_COMPACT || part == KVT_PART_EVICT; }

/* Of a step's look at a layer without the evictions inside it, which are parts of their own and ended before. */
static int64_t look_ns(const struct kvt_trace_time *time, size_t at)
{
    int64_t ns = time[at].dur_ns;
    for (size_t i = at; i-- > 0 && (time[i].part == KVT_PART_WRITE || time[i].start_ns >= time[at].start_ns);)
        ns -= evicts(time[i].part) ? time[i].dur_ns : 0;
    return ns > 0 ? ns : 0;
}

static int host_rows(struct rows *r, struct kvt_trace *t, struct kvt_err *err)
{
    const struct kvt_trace_info *in = kvt_trace_info(t);
    struct kvt_trace_time *time = NULL;
    size_t n = 0;
    int rc = kvt_trace_times(t, &time, &n, err);
    for (size_t i = 0; !rc && i < n; i++) {
        if (time[i].part == KVT_PART_STEP || time[i].dur_ns < 0) /* a step is made of the other parts */
            continue;
        bool aside = time[i].part == KVT_PART_WRITE;
        struct row *to = row_of(r, phase_at(in, time[i].start_ns), aside ? "(writer's thread)" : kvt_trace_part_name(time[i].part), aside);
        to->calls++;
        to->time_ns += time[i].part == KVT_PART_LOOK ? look_ns(time, i) : time[i].dur_ns;
    }
    free(time);
    return rc;
}

/* ---- the table ---- */

static int order(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->phase != y->phase)
        return x->phase < y->phase ? -1 : 1;
    if (x->aside != y->aside)
        return x->aside ? 1 : -1;
    return x->time_ns != y->time_ns ? (x->time_ns < y->time_ns) - (x->time_ns > y->time_ns) : strcmp(x->what, y->what);
}

static void put_row(struct kvt_table *t, const struct row *r, int64_t phase, double bandwidth, bool host)
{
    kvt_put_text(t, phase_names[r->phase + 1]);
    kvt_put_text(t, r->what);
    kvt_put_int(t, r->calls);
    if (host)
        kvt_put_none(t);
    else
        kvt_put_int(t, r->records);
    kvt_put_real(t, (double)r->time_ns * 1e-6);
    kvt_put_real(t, phase > 0 ? (double)r->time_ns / (double)phase : NAN);
    if (r->bytes < 0)
        kvt_put_none(t);
    else
        kvt_put_int(t, r->bytes);
    double rate = r->bytes >= 0 && r->bytes_ns > 0 ? (double)r->bytes / (double)r->bytes_ns : NAN; /* bytes a ns are GB/s */
    kvt_put_real(t, rate);
    kvt_put_real(t, bandwidth > 0 ? rate * 1e9 / bandwidth : NAN);
}

/* In front of a phase's rows: all of them. */
static struct row sum_of(const struct row *r, int n)
{
    struct row all = {.phase = r->phase, .what = "all", .bytes = -1};
    for (int i = 0; i < n && r[i].phase == r->phase; i++) {
        if (r[i].aside)
            continue;
        all.calls += r[i].calls;
        all.records += r[i].records;
        all.time_ns += r[i].time_ns;
        if (r[i].bytes >= 0)
            all.bytes = (all.bytes < 0 ? 0 : all.bytes) + r[i].bytes, all.bytes_ns += r[i].bytes_ns;
    }
    return all;
}

static int show(const struct rows *r, const struct kvt_trace_info *in, const struct kvt_device_times *d, enum kvt_format format, struct kvt_err *err)
{
    static const struct kvt_col col[] = {
        {.name = "phase", .kind = KVT_COL_TEXT},
        {.name = "operation", .kind = KVT_COL_TEXT},
        {.name = "calls", .kind = KVT_COL_INT},
        {.name = "records", .kind = KVT_COL_INT, .programs_only = true},
        {.name = "time_ms", .title = "time", .unit = "ms", .kind = KVT_COL_REAL, .digits = 3},
        {.name = "share", .title = "of phase", .kind = KVT_COL_SHARE, .digits = 1},
        {.name = "bytes", .title = "least", .unit = "bytes", .kind = KVT_COL_BYTES},
        {.name = "rate", .title = "rate", .unit = "GB/s", .kind = KVT_COL_REAL, .digits = 1},
        {.name = "roofline", .kind = KVT_COL_SHARE, .digits = 1}};
    struct kvt_table *t = kvt_table_new(col, sizeof col / sizeof *col);
    for (int i = 0; i < r->n; i++) {
        int64_t phase = phase_ns(in, r->row[i].phase);
        if (!i || r->row[i].phase != r->row[i - 1].phase) {
            struct row all = sum_of(&r->row[i], r->n - i);
            if (all.calls)
                put_row(t, &all, phase, d->bandwidth, !d->version);
        }
        put_row(t, &r->row[i], phase, d->bandwidth, !d->version);
    }
    int rc = kvt_table_write(t, stdout, format, err);
    kvt_table_free(&t);
    return rc;
}

static void words(const struct kvt_device_times *d)
{
    if (!d->version)
        fprintf(stderr, "kvinfo: times of the host: on a GPU they end when work was handed over (kvtrace --profile records the GPU's)\n");
    else if (d->bandwidth > 0)
        fprintf(stderr, "kvinfo: times of the device, whose memory does %.0f GB/s; bytes are the least by the operations' shapes\n", d->bandwidth * 1e-9);
    else
        fprintf(stderr, "kvinfo: times of the device; the bandwidth of its memory isn't known\n");
    if (d->dropped || d->damaged || d->records_lost || d->calls_lost)
        fprintf(stderr, "kvinfo: some are missing: CUPTI dropped %lld records and damaged %lld buffers; %lld records and %lld calls found no room\n",
                (long long)d->dropped, (long long)d->damaged, (long long)d->records_lost, (long long)d->calls_lost);
}

int kvinfo_time(const char *path, const char *prompt_id, enum kvt_format format, struct kvt_err *err)
{
    struct kvt_trace *t = NULL;
    struct kvt_profile_read p = {0};
    struct rows rows = {0};
    int rc = kvt_trace_open(&t, path, prompt_id, err);
    if (rc)
        return rc;
    rows.row = kvt_calloc(ROWS, sizeof *rows.row);
    rc = rows.row ? kvt_profile_read(t, &p, err) : kvt_fail(err, KVT_ENOMEM, "no memory for the table");
    if (!rc && p.times.version)
        device_rows(&rows, &p);
    else if (!rc)
        rc = host_rows(&rows, t, err);
    if (!rc) {
        qsort(rows.row, (size_t)rows.n, sizeof *rows.row, order);
        words(&p.times);
        rc = show(&rows, kvt_trace_info(t), &p.times, format, err);
    }
    kvt_profile_free(&p);
    free(rows.row);
    kvt_trace_close(&t);
    return rc;
}
