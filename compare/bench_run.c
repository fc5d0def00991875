/* kvbench: the run: model, methods, questions, and a line of the result for each. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/progress.h"
#include "compare/bench.h"
#include "compare/sandbox.h"

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the run"); }

/* "random" -> "random[seed=1],random[seed=2]...": chance is shown by its spread. */
static int spread_seeds(const char *methods, int seeds, char **out, struct kvt_err *err)
{
    char **item = NULL;
    int n = 0, rc = kvt_split(methods, &item, &n, "--method", err);
    size_t cap = 64 + (rc ? 0 : (size_t)n * (size_t)seeds * (strlen(methods) + 24)), used = 0;
    if (rc)
        return rc;
    if (!(*out = malloc(cap))) {
        free(item);
        return no_memory(err);
    }
    for (int i = 0; i < n; i++) {
        size_t name = strcspn(item[i], "[");
        bool chance = (name == 6 && !strncmp(item[i], "random", 6)) || (name == 10 && !strncmp(item[i], "randomshot", 10));
        int times = chance && !strstr(item[i], "seed=") ? seeds : 1;
        for (int k = 1; k <= times; k++) {
            used += (size_t)snprintf(*out + used, cap - used, "%s", used ? "," : "");
            if (times == 1)
                used += (size_t)snprintf(*out + used, cap - used, "%s", item[i]);
            else if (item[i][name] && item[i][name + 1] != ']')
                used += (size_t)snprintf(*out + used, cap - used, "%.*s[seed=%d,%s", (int)name, item[i], k, item[i] + name + 1);
            else
                used += (size_t)snprintf(*out + used, cap - used, "%.*s[seed=%d]", (int)name, item[i], k);
        }
    }
    free(item);
    return 0;
}

static uint64_t fnv(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3u;
    return h;
}

/* What every line of the file belongs to. */
static cJSON *run_line(const struct kvt_bench *b)
{
    const struct kvtrace_run *run = &b->run;
    const struct kvt_task *t = b->task;
    const struct kvt_shape *s = kvt_model_shape(run->model);
    char text[40];
    cJSON *o = cJSON_CreateObject(), *rules;
    cJSON_AddNumberToObject(o, "kvbench", 1);
    cJSON_AddStringToObject(o, "task", t->name);
    snprintf(text, sizeof text, "%016llx", (unsigned long long)fnv(t->json));
    cJSON_AddStringToObject(o, "task_hash", text);
    cJSON_AddStringToObject(o, "kind", kvt_task_kinds[t->kind]);
    rules = cJSON_AddArrayToObject(o, "rules");
    for (int k = 0; k < t->n_rules; k++)
        cJSON_AddItemToArray(rules, cJSON_CreateString(t->rule[k].name));
    if (!t->n_rules)
        cJSON_AddItemToArray(rules, cJSON_CreateString("right"));
    cJSON_AddNumberToObject(o, "chance", t->chance);
    cJSON_AddNumberToObject(o, "n_shots", b->o.n_shots >= 0 ? b->o.n_shots : t->n_shots);
    cJSON_AddNumberToObject(o, "max_new", run->session.n_new);
    cJSON_AddStringToObject(o, "model", s->name);
    cJSON_AddNumberToObject(o, "model_bytes", (double)kvt_model_bytes(run->model));
    cJSON_AddStringToObject(o, "protocol", kvtrace_protocols[run->o.protocol]);
    cJSON_AddStringToObject(o, "decode", kvtrace_decodes[run->o.decode]);
    cJSON_AddStringToObject(o, "compute", kvt_compute_names[run->session.compute]);
    cJSON_AddStringToObject(o, "kv_type", kvtrace_kv_types[run->o.kv_type]);
    cJSON_AddNumberToObject(o, "window", run->o.window);
    snprintf(text, sizeof text, "%llu", (unsigned long long)run->o.seed);
    cJSON_AddStringToObject(o, "seed", text);
    cJSON_AddStringToObject(o, "backend", run->session.ops->name);
    kvt_result_made(o, run->command_line);
    return o;
}

/* --dry-run: what is there already, if anything. */
static int look_at_result(struct kvt_bench *b, struct kvt_err *err)
{
    int rc = b->o.out && !access(b->o.out, F_OK) ? kvt_result_read(&b->result, b->o.out, err) : 0;
    for (int i = 0; i <= b->run.n_branches; i++) {
        b->at[i] = -1;
        for (int k = 0; k < b->result.n_branches && !rc; k++)
            b->at[i] = strcmp(b->result.branch[k].name, b->name[i]) ? b->at[i] : k;
    }
    return rc;
}

/* This run's branches, and on rank 0 their numbers in the result. */
static int name_branches(struct kvt_bench *b, struct kvt_err *err)
{
    struct kvtrace_run *run = &b->run;
    b->at = kvt_calloc((size_t)run->n_branches + 1, sizeof *b->at);
    b->name = kvt_calloc((size_t)run->n_branches + 1, sizeof *b->name);
    if (!b->at || !b->name)
        return no_memory(err);
    b->name[0] = "full";
    for (int i = 0; i < run->n_branches; i++)
        b->name[i + 1] = run->branch[i].name;
    if (kvt_deal_rank(b->deal))
        return 0;
    if (b->o.dry_run)
        return look_at_result(b, err);
    int rc = kvt_result_open(&b->result, b->o.out, run_line(b), err);
    if (!rc)
        rc = kvt_result_branch(&b->result, &(struct kvt_result_branch){ .name = "full", .method = "full", .canonical = "full", .asked = "100%" }, &b->at[0], err);
    for (int i = 0; i < run->n_branches && !rc; i++) {
        const struct kvt_branch_opts *o = &run->branch[i];
        rc = kvt_result_branch(&b->result, &(struct kvt_result_branch){ .name = o->name, .method = o->spec.method->name, .canonical = o->spec.canonical,
            .asked = run->asked[i], .renumbered = o->spec.policy.renumber }, &b->at[i + 1], err);
    }
    return rc;
}

static bool item_done(const struct kvt_bench *b, int at)
{
    bool done = at >= 0 && !b->result.item[at].failed;
    for (int i = 0; done && i <= b->run.n_branches; i++)
        done = b->at[i] >= 0 && b->result.item[at].cell[b->at[i]].there;
    return done;
}

static int prepare(struct kvt_bench *b, struct kvt_err *err)
{
    struct kvtrace_run *run = &b->run;
    const struct kvt_task *t = b->task;
    run->fed = true;
    run->n_items = 1;
    if (!(run->item = kvt_calloc(1, sizeof *run->item)))
        return no_memory(err);
    run->o.n_new = b->o.max_new ? b->o.max_new : t->kind == KVT_TASK_CHOICE ? 1 : t->kind == KVT_TASK_TEXT ? t->segment / 2 : t->max_new;
    if (t->kind == KVT_TASK_TEXT)
        run->o.decode = KVT_DECODE_FORCED, run->o.ignore_end = true;
    if (run->o.decode == KVT_DECODE_FORCED && t->kind != KVT_TASK_TEXT && t->kind != KVT_TASK_CHOICE)
        return kvt_fail(err, KVT_EUSAGE, "--decode forced: every branch would write the full one's answer; both or free");
    int rc = kvtrace_open_plugins(run, err);
    if (!rc)
        rc = kvtrace_setup(run, err);
    if (!rc && t->kind == KVT_TASK_PROGRAM)
        rc = kvt_sandbox_check(&(struct kvt_sandbox){ b->o.no_sandbox, t->seconds }, err);
    if (!rc)
        rc = kvt_items_load(&b->items, t, &(struct kvt_items_opts){ b->o.data, b->o.n_shots, b->o.limit, b->o.only, run->o.seed }, kvt_model_tokenizer(run->model), err);
    if (!rc && !b->o.no_prefix && !b->o.traces && b->items.n > 1 && !(b->prefix = kvt_prefix_open()))
        rc = no_memory(err);
    if (!rc && b->o.traces && mkdir(b->o.traces, 0777) && errno != EEXIST)
        rc = kvt_fail(err, KVT_EIO, "%s: %s", b->o.traces, strerror(errno));
    return rc;
}

/* On rank 0: a question that some rank has answered. */
struct taker { struct kvt_bench *b; struct kvt_progress progress; int done; };

static int take(void *arg, const char *line, struct kvt_err *err)
{
    struct taker *t = arg;
    int rc = kvt_result_take(&t->b->result, line, err);
    t->done += !rc;
    if (!t->b->o.quiet)
        kvt_progress_at(&t->progress, t->done);
    return rc;
}

static int ask(struct kvt_bench *b, const struct kvt_item *item, struct kvt_err *err)
{
    int n = b->run.n_branches + 1;
    struct kvt_cell *cell = kvt_calloc((size_t)n, sizeof *cell);
    struct kvt_result_item about = { 0 };
    struct kvt_err why = { 0 };
    char *id = strdup(item->id), *group = strdup(item->group), *line = NULL;
    int rc = cell && id && group ? kvt_bench_item(b, item, cell, &about, &why) : no_memory(&why);
    about.id = id, about.group = group;
    /* One that runs out of memory or can't be asked counts for nobody and is tried again next time; but what is wrong with the first is wrong with all. */
    if (rc == KVT_ENOMEM || (rc == KVT_EINPUT && b->tried))
        about.failed = why.text;
    b->tried = true;
    if (rc && !about.failed)
        rc = kvt_fail(err, rc, "%s: %s", item->id, why.text);
    else if (!(line = kvt_result_line(&about, cell, b->name, n, b->task->n_rules ? b->task->n_rules : 1)))
        rc = no_memory(err);
    else
        rc = kvt_deal_send(b->deal, line, err);
    for (int i = 0; cell && i < n; i++)
        kvt_cell_free(&cell[i]);
    free(about.prompt_hash);
    free(about.prompt);
    free(about.gold);
    free(cell);
    free(id);
    free(group);
    free(line);
    return rc;
}

int kvt_bench_run(struct kvt_bench *b, struct kvt_err *err)
{
    struct taker taker = { .b = b };
    char *methods = NULL;
    int rc = 0, left = 0, *todo = NULL;
    if (b->run.o.methods) {
        rc = spread_seeds(b->run.o.methods, b->o.seeds, &methods, err);
        b->run.o.methods = methods;
    }
    if (!rc)
        rc = prepare(b, err);
    if (!rc)
        rc = name_branches(b, err);
    if (!rc && !(todo = kvt_calloc((size_t)b->items.n, sizeof *todo)))
        rc = no_memory(err);
    for (int i = 0; i < b->items.n && !rc && !kvt_deal_rank(b->deal); i++)
        if (!item_done(b, kvt_result_find(&b->result, b->items.v[i].id)))
            todo[left++] = i;
    if (!rc && !kvt_deal_rank(b->deal))
        rc = kvt_bench_plan(b, todo, left, err);
    if (b->o.dry_run)
        left = 0;
    bool tell = !rc && !b->o.dry_run && !b->o.quiet && !kvt_deal_rank(b->deal);
    if (tell) {
        fprintf(stderr, "kvbench: %s, %d questions%s, %d branches beside the full one\n", b->task->name, left, left < b->items.n ? " left" : "", b->run.n_branches);
        kvt_progress_start(&taker.progress, stderr, b->task->name, "questions", left);
    }
    if (!rc)
        rc = kvt_deal_start(b->deal, todo, left, take, &taker, err);
    for (int i; !rc && (i = kvt_deal_next(b->deal)) >= 0;)
        rc = ask(b, &b->items.v[i], err);
    if (!rc)
        rc = kvt_deal_finish(b->deal, err);
    if (tell)
        kvt_progress_end(&taker.progress);
    free(methods);
    free(todo);
    b->run.o.methods = NULL;
    if (rc == KVT_EINTR)
        kvt_fail(err, rc, "interrupted; %d of %d questions are in %s, and the same command goes on", taker.done, left, b->o.out);
    return rc;
}
