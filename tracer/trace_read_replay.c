/* What a trace made with --for-replay holds beside others. */
#include "tracer/trace_data.h"

#include <string.h>

#include "tracer/h5.h"

/* A box [start, start + count) of a dataset whose first dimensions are fixed at `at` (n of them). */
static int get(struct kvt_trace *t, enum kvt_dataset id, const int *at, int n, void *out, struct kvt_err *err)
{
    struct kvt_dataset_info d;
    size_t start[KVT_TRACE_MAX_RANK] = {0}, count[KVT_TRACE_MAX_RANK] = {0};
    kvt_h5_quiet(&t->why);
    kvt_schema_get(id, &d);
    if (!kvt_trace_has_dataset(t, id, 0))
        return kvt_fail(err, KVT_EINPUT, "%s holds no %s; trace with --for-replay%s", t->path, d.path, d.when == KVT_WHEN_LATER ? " and shots" : "");
    for (int i = 0; i < d.rank; i++) {
        size_t extent = t->extent[d.dim[i]];
        start[i] = i < n ? (size_t)at[i] : 0;
        count[i] = i < n ? 1 : extent;
        if (i < n && (at[i] < 0 || start[i] >= extent))
            return kvt_fail(err, KVT_EINPUT, "%s: %s has no %s %d; the last is %zu", t->path, d.path, kvt_dims[d.dim[i]].name, at[i], extent - 1);
    }
    return kvt_trace_get(t, id, 0, start, count, out, err);
}

int kvt_trace_late_rows(struct kvt_trace *t, int layer, int head, float *out, struct kvt_err *err)
{
    return get(t, KVT_DS_LATE_ROWS, (int[]){layer, head}, 2, out, err);
}

int kvt_trace_later(struct kvt_trace *t, int layer, float *out, struct kvt_err *err) { return get(t, KVT_DS_LATER, &layer, 1, out, err); }

int kvt_trace_square(struct kvt_trace *t, int i, int layer, float *out, struct kvt_err *err)
{
    return get(t, KVT_DS_SQMASS, (int[]){i, layer}, 2, out, err);
}

int kvt_trace_key_norm(struct kvt_trace *t, int layer, float *out, struct kvt_err *err) { return get(t, KVT_DS_KEY_NORM, &layer, 1, out, err); }

int kvt_trace_out_norm(struct kvt_trace *t, int layer, float *out, struct kvt_err *err) { return get(t, KVT_DS_OUT_NORM, &layer, 1, out, err); }

int kvt_trace_question_row(struct kvt_trace *t, int i, int layer, float *out, struct kvt_err *err)
{
    return get(t, KVT_DS_QUESTION_ROWS, (int[]){i, layer}, 2, out, err);
}

int kvt_trace_row_sums(struct kvt_trace *t, uint8_t *out, struct kvt_err *err) { return get(t, KVT_DS_LATE_LEVEL, NULL, 0, out, err); }

int kvt_trace_squares(struct kvt_trace *t, int32_t *window, int32_t *distance, uint8_t *by_pos, struct kvt_err *err)
{
    int rc = get(t, KVT_DS_SQ_WINDOW, NULL, 0, window, err);
    rc = rc ? rc : get(t, KVT_DS_SQ_DISTANCE, NULL, 0, distance, err);
    return rc ? rc : get(t, KVT_DS_SQ_BY_POS, NULL, 0, by_pos, err);
}

int kvt_trace_acts(struct kvt_trace *t, uint8_t *out, struct kvt_err *err) { return get(t, KVT_DS_ACTS, NULL, 0, out, err); }
