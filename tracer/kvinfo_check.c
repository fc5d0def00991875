/* kvinfo --check: the table of what is wrong with a trace. */
#include "tracer/kvinfo_check.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tracer/trace_check.h"

enum { LABELS_S = 10 }; /* a thousand branches take less than one */

static void put_problem(void *arg, const char *where, const char *what)
{
    kvt_put_text(arg, where);
    kvt_put_text(arg, what);
}

static void print_problem(void *arg, const char *where, const char *what) /* people want all of the words */
{
    (void)arg;
    printf("%s: %s\n", where, what);
}

/* HDF5 reads texts of variable length from a heap that it doesn't protect, and can loop there for ever. */
static void give_up(int signal_number)
{
    static const char line[] = "kvinfo: a damaged heap of labels keeps HDF5 busy for ever; all else was read\n";
    (void)signal_number;
    if (write(STDERR_FILENO, line, sizeof line - 1) < 0)
        _exit(1);
    _exit(3);
}

int kvinfo_check(const char *path, const char *prompt_id, enum kvt_format format, struct kvt_err *err)
{
    static const struct kvt_col col[] = {{.name = "where", .kind = KVT_COL_TEXT}, {.name = "problem", .kind = KVT_COL_TEXT}};
    struct kvt_table *t = kvt_table_new(col, 2);
    bool people = format == KVT_FORMAT_TABLE;
    kvt_problem_fn put = people ? print_problem : put_problem;
    int n = 0, rc = kvt_trace_check(path, prompt_id, put, t, &n, err);
    if (!rc) {
        struct sigaction act = {.sa_handler = give_up};
        sigaction(SIGALRM, &act, NULL);
        alarm(LABELS_S);
        rc = kvt_trace_check_labels(path, prompt_id, put, t, &n, err);
        alarm(0);
    }
    if (!rc && !people)
        rc = kvt_table_write(t, stdout, format, err);
    else if (!rc && !n)
        printf("%s: sound\n", path);
    kvt_table_free(&t);
    return rc || !n ? rc : kvt_fail(err, KVT_EFORMAT, "%s: %d %s", path, n, n == 1 ? "problem" : "problems");
}
