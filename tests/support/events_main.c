/* check_events FILE: whether a file is what the Trace Event Format's JSON Object Format asks for. Of its events kvtrace makes X
 * (complete: name, cat, ph, ts, dur, pid, tid), M (metadata: process_name, thread_name, thread_sort_index) and C (counter). Times are
 * microseconds, not negative; complete events of one track nest or lie apart. Prints how many of each name there are. */
#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct span { double start, end; int tid; };

static int complain(int i, const char *what)
{
    printf("event %d: %s\n", i, what);
    return 1;
}

static const char *text(const cJSON *e, const char *key)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(e, key);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static bool number(const cJSON *e, const char *key, double *out)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(e, key);
    *out = cJSON_IsNumber(v) ? v->valuedouble : -1;
    return cJSON_IsNumber(v) && *out >= 0;
}

static int check_event(const cJSON *e, int i, struct span *span, int *n)
{
    static const char *const meta[] = {"process_name", "thread_name", "thread_sort_index"};
    const char *name = text(e, "name"), *ph = text(e, "ph");
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(e, "args");
    double ts, dur, pid, tid;
    if (!name || !*name || !ph || strlen(ph) != 1)
        return complain(i, "name and a phase of one letter are missing");
    if (!number(e, "pid", &pid))
        return complain(i, "no pid");
    if (!cJSON_IsObject(args))
        return complain(i, "args is no object");
    if (*ph == 'M') {
        for (size_t k = 0; k < 3; k++)
            if (!strcmp(name, meta[k]))
                return k < 2 ? text(args, "name") ? 0 : complain(i, "metadata without a name")
                             : number(args, "sort_index", &ts) ? 0 : complain(i, "metadata without sort_index");
        return complain(i, "unknown metadata");
    }
    if (!number(e, "ts", &ts))
        return complain(i, "no ts in microseconds");
    if (*ph == 'C')
        return args->child && number(args, args->child->string, &dur) ? 0 : complain(i, "a counter without a number");
    if (*ph != 'X')
        return complain(i, "a phase that kvtrace doesn't make");
    if (!text(e, "cat") || !number(e, "dur", &dur) || !number(e, "tid", &tid))
        return complain(i, "a complete event has cat, dur and tid");
    span[(*n)++] = (struct span){ts, ts + dur, (int)tid};
    return 0;
}

static int by_start(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    if (x->tid != y->tid)
        return x->tid < y->tid ? -1 : 1;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->end > y->end ? -1 : x->end < y->end;
}

/* Nanoseconds are written as thousandths: half of one is their rounding. */
static int check_nesting(struct span *span, int n)
{
    double *open = calloc((size_t)n + 1, sizeof *open);
    int depth = 0, bad = !open;
    qsort(span, (size_t)n, sizeof *span, by_start);
    for (int i = 0; open && i < n && !bad; i++) {
        if (i && span[i].tid != span[i - 1].tid)
            depth = 0;
        while (depth && open[depth - 1] <= span[i].start + 5e-4)
            depth--;
        if (depth && span[i].end > open[depth - 1] + 5e-4) {
            printf("track %d: an event from %.3f to %.3f reaches over the end %.3f of the one around it\n", span[i].tid, span[i].start, span[i].end,
                   open[depth - 1]);
            bad = 1;
        }
        open[depth++] = span[i].end;
    }
    free(open);
    return bad;
}

static char *read_all(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *buf = f ? malloc((size_t)64 << 20) : NULL;
    size_t n = buf ? fread(buf, 1, ((size_t)64 << 20) - 1, f) : 0;
    if (buf)
        buf[n] = '\0';
    if (f)
        fclose(f);
    return buf;
}

int main(int argc, char **argv)
{
    char *file = argc == 2 ? read_all(argv[1]) : NULL;
    cJSON *json = file ? cJSON_Parse(file) : NULL;
    const cJSON *events = cJSON_GetObjectItemCaseSensitive(json, "traceEvents"), *e;
    int count = cJSON_IsArray(events) ? cJSON_GetArraySize(events) : -1, n = 0, bad = count < 1, i = 0;
    struct span *span = calloc((size_t)(count < 1 ? 1 : count), sizeof *span);
    const char **name = calloc((size_t)(count < 1 ? 1 : count), sizeof *name);
    int *many = calloc((size_t)(count < 1 ? 1 : count), sizeof *many), names = 0;
    if (bad || !span || !name || !many)
        puts("no JSON object with an array traceEvents");
    cJSON_ArrayForEach(e, events) {
        bad = bad || check_event(e, i++, span, &n);
        int k = 0;
        while (!bad && k < names && strcmp(name[k], text(e, "name")))
            k++;
        if (!bad && k == names)
            name[names++] = text(e, "name");
        many[bad ? 0 : k]++;
    }
    bad = bad || check_nesting(span, n);
    for (int k = 0; k < names && !bad; k++)
        printf("%s %d\n", name[k], many[k]);
    free(span);
    free(name);
    free(many);
    cJSON_Delete(json);
    free(file);
    return bad;
}
