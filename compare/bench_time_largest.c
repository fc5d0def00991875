/* kvbench --time --memory: the largest batch of each method that fits. Reckoned from what one sequence alone holds, then run: the largest one must get
 * through within the limit, and one sequence more must be refused. */
#include "compare/bench_time.h"
#include "kernels/plugin.h"

#include <stdio.h>
#include <string.h>

uint64_t kvt_timing_kv(const struct kvt_batch_result *one, uint64_t n)
{
    uint64_t prefill = (n - 1) * one->kv_first + one->kv_peak, decode = n * (one->kv_last > one->kv_first ? one->kv_last : one->kv_first);
    return prefill > decode ? prefill : decode;
}

/* What is left for K and V of n sequences. On a host the process itself counts too. */
static int room_for(const struct kvt_timing *t, int kind, int n, struct kvt_batch_room *room, struct kvt_err *err)
{
    uint64_t own = kvt_ops_in_host(t->b->run.session.ops) ? t->resident : 0;
    return kvt_batch_room(t->b->run.model, &t->kind[kind], n, t->memory > own ? t->memory - own : 0, room, err);
}

static int reckon(const struct kvt_timing *t, int kind, const struct kvt_batch_result *one, int *n, struct kvt_batch_room *room, struct kvt_err *err)
{
    int low = 0, high = 1 << 16, rc = 0;
    while (high - low > 1 && !rc) { /* low fits, high doesn't */
        int mid = (low + high) / 2;
        rc = room_for(t, kind, mid, room, err);
        if (kvt_timing_kv(one, (uint64_t)mid) <= room->kv)
            low = mid;
        else
            high = mid;
    }
    *n = low;
    return rc ? rc : room_for(t, kind, low ? low : 1, room, err);
}

/* 1: it ran; 0: it was refused, and why; else an error. */
static int try_batch(struct kvt_timing *t, int kind, int n, struct kvt_batch_result *out, struct kvt_err *why, struct kvt_err *err)
{
    struct kvt_batch_room room;
    int rc = room_for(t, kind, n, &room, err);
    if (rc)
        return rc;
    if (!room.kv) {
        kvt_fail(why, KVT_ENOMEM, "%d sequences: the weights and what the steps work in take %.1f MB", n, (double)(room.weights + room.work) / 1e6);
        return 0;
    }
    rc = kvt_timing_run(t, kind, n, room.kv, out, why);
    return !rc ? 1 : rc == KVT_ENOMEM ? 0 : kvt_fail(err, rc, "%s", why->text);
}

/* The most that this process ever had in memory since the last call, where Linux tells. */
static double process_peak(void)
{
    char line[200];
    double kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf", &kb) == 1)
            break;
    if (f)
        fclose(f);
    f = fopen("/proc/self/clear_refs", "w"); /* 5: it begins anew */
    if (f) {
        fputs("5", f);
        fclose(f);
    }
    return kb * 1024;
}

static bool known(const struct kvt_timing *t, int kind)
{
    for (const cJSON *o = t->b->result.times ? t->b->result.times->child : NULL; o; o = o->next) {
        const cJSON *name = cJSON_GetObjectItemCaseSensitive(o, "largest"), *memory = cJSON_GetObjectItemCaseSensitive(o, "memory");
        if (cJSON_IsString(name) && !strcmp(name->valuestring, t->kind[kind].branch->name) && cJSON_IsNumber(memory) && (uint64_t)memory->valuedouble == t->memory)
            return true;
    }
    return false;
}

static int largest(struct kvt_timing *t, int kind, struct kvt_err *err)
{
    struct kvt_batch_result one = { 0 }, r = { 0 }, ran = { 0 };
    struct kvt_batch_room room = { 0 };
    struct kvt_err why = { 0 };
    int computed = 0, best = 0, rc = kvt_timing_run(t, kind, 1, 0, &one, err), got;
    double peak = -1;
    if (!rc)
        rc = reckon(t, kind, &one, &computed, &room, err);
    if (rc)
        return rc;
    /* From the reckoned one down to the first that runs, or up to the first that is refused: heads with shares of their own round to other pages in other
     * texts. */
    for (int n = computed ? computed : 1, up = -1;;) {
        process_peak();
        got = try_batch(t, kind, n, &r, &why, err);
        if (got < 0)
            return got;
        if (got)
            best = n, ran = r, peak = process_peak();
        if (up < 0)
            up = got;
        if (got != up || (!up && n == 1))
            break;
        n += up ? 1 : -1;
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "largest", t->kind[kind].branch->name);
    cJSON_AddNumberToObject(o, "memory", (double)t->memory);
    cJSON_AddNumberToObject(o, "weights", (double)room.weights);
    cJSON_AddNumberToObject(o, "work", (double)room.work);
    cJSON_AddNumberToObject(o, "kv_room", (double)room.kv);
    cJSON_AddNumberToObject(o, "kv_one", (double)one.kv_last);
    cJSON_AddNumberToObject(o, "kv_one_peak", (double)one.kv_peak);
    cJSON_AddNumberToObject(o, "computed", computed);
    cJSON_AddNumberToObject(o, "batch", best);
    cJSON_AddStringToObject(o, "refused", why.text);
    if (best) {
        cJSON_AddNumberToObject(o, "kv_peak", (double)ran.kv_peak);
        cJSON_AddNumberToObject(o, "decode_s", 1e-9 * (double)ran.decode_ns);
        cJSON_AddNumberToObject(o, "tokens", ran.tokens);
    }
    if (best && peak > 0)
        cJSON_AddNumberToObject(o, "process_peak", peak);
    return kvt_result_note(&t->b->result, o, err);
}

int kvt_timing_largest(struct kvt_timing *t, struct kvt_err *err)
{
    int rc = 0;
    bool tell = !t->b->o.quiet;
    if (tell)
        kvt_progress_start(&t->progress, stderr, "largest batch", "methods", t->n_kinds);
    for (int k = 0; k < t->n_kinds && !rc; k++) {
        if (!known(t, k))
            rc = largest(t, k, err);
        if (tell)
            kvt_progress_at(&t->progress, k + 1);
    }
    if (tell)
        kvt_progress_end(&t->progress);
    return rc;
}
