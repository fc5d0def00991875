/* kvbench: accuracy, KV bytes and KL of every method at every budget, on the same questions, from the same prefills.
 *
 * Definitions: docs/measures.md, section 10; task files: docs/tasks.md. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare/bench.h"
#include "compare/time_view.h"

static volatile int interrupted; /* the one place where a signal can leave its word */

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    __atomic_store_n(&interrupted, 1, __ATOMIC_RELAXED);
}

static int of_files(struct kvt_bench *b, const struct kvt_args *args, struct kvt_err *err)
{
    bool show = !strcmp(args->operand[0], "show");
    int rc = args->n < 2 ? kvt_fail(err, KVT_EUSAGE, "%s: of which result? name its file", args->operand[0]) : 0;
    if (!rc && show && args->n > 2)
        rc = kvt_fail(err, KVT_EUSAGE, "show: one result at a time");
    for (int i = 1; i < args->n && !rc; i++) {
        rc = kvt_result_read(&b->result, args->operand[i], err);
        if (!rc && i > 1 && b->o.format == KVT_FORMAT_TABLE)
            putchar('\n');
        if (!rc)
            rc = kvt_time_is(&b->result) ? kvt_bench_time_tables(&b->o, &b->result, err)
               : show ? kvt_bench_show(&b->result, &b->o, err) : kvt_bench_tables(&b->o, &b->result, err);
        if (i + 1 < args->n || rc)
            kvt_result_close(&b->result);
    }
    return rc;
}

static int of_time(struct kvt_bench *b, const struct kvt_args *args, struct kvt_err *err)
{
    int rc = args->n ? kvt_fail(err, KVT_EUSAGE, "--time asks no task; leave '%.40s' out", args->operand[0]) : b->o.out || b->o.dry_run ? 0 :
        kvt_fail(err, KVT_EUSAGE, "where do the results go? give -o FILE.jsonl");
    if (!rc)
        rc = kvt_bench_time(b, err);
    return rc || b->o.dry_run ? rc : kvt_bench_time_tables(&b->o, &b->result, err);
}

static int of_task(struct kvt_bench *b, const struct kvt_args *args, struct kvt_err *err)
{
    if (args->n != 1)
        return kvt_fail(err, KVT_EUSAGE, args->n ? "one task at a time, each with its own -o FILE" : "which task? --list-tasks shows them");
    if (!b->o.out && !b->o.dry_run)
        return kvt_fail(err, KVT_EUSAGE, "where do the results go? give -o FILE.jsonl");
    int rc = kvt_task_open(&b->task, args->operand[0], b->o.task_dir, err);
    if (!rc)
        rc = kvt_bench_run(b, err);
    return rc || b->o.dry_run || kvt_deal_rank(b->deal) ? rc : kvt_bench_tables(&b->o, &b->result, err);
}

static char *joined(int argc, char **argv)
{
    size_t bytes = 1;
    for (int i = 0; i < argc; i++)
        bytes += strlen(argv[i]) + 1;
    char *line = malloc(bytes);
    if (!line)
        return NULL;
    *line = 0;
    for (int i = 0; i < argc; i++)
        strcat(strcat(line, i ? " " : ""), argv[i]);
    return line;
}

int main(int argc, char **argv)
{
    /* as kvtrace does, for the same reason: gcc's OpenMP reads it when it is loaded */
    if (!getenv("GOMP_SPINCOUNT") && !getenv("OMP_WAIT_POLICY") && !setenv("GOMP_SPINCOUNT", "2000", 1))
        execv("/proc/self/exe", argv);
    static const struct kvt_cli cli = { .tool = "kvbench" };
    struct kvt_bench *b = calloc(1, sizeof *b);
    struct kvt_err err = { 0 };
    struct kvt_args args;
    char *line = joined(argc, argv);
    if (!b || !line)
        return kvt_args_end(&cli, kvt_fail(&err, KVT_ENOMEM, "no memory"), &err);
    int rc = kvt_bench_parse(argc, argv, b, &args, &err);
    b->run.command_line = line;
    b->interrupted = &interrupted;
    b->result.fd = -1;
    sigaction(SIGINT, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
    sigaction(SIGTERM, &(struct sigaction){ .sa_handler = on_interrupt }, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    if (!rc)
        rc = kvt_deal_open(&b->deal, &err);
    if (!rc)
        rc = b->o.list_tasks ? kvt_bench_list(&b->o, &err) : b->o.time ? of_time(b, &args, &err)
           : args.n && (!strcmp(args.operand[0], "table") || !strcmp(args.operand[0], "show")) ? of_files(b, &args, &err) : of_task(b, &args, &err);
    int code = rc > 0 ? 0 : rc ? kvt_args_end(&cli, rc, &err) : 0;
    kvt_result_close(&b->result);
    kvt_prefix_close(&b->prefix);
    kvt_items_free(&b->items);
    kvtrace_teardown(&b->run);
    kvt_task_close(&b->task);
    kvt_deal_close(&b->deal, code);
    free(b->at);
    free(b->name);
    free(b);
    free(line);
    return code;
}
