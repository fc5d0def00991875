/* libFuzzer: kvbench's task files. What opens keeps the promises that the rest of compare/ relies on. */
#include "as_file.h"
#include "compare/task.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void promise(int ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kvt_task *t = NULL;
    struct kvt_err err;
    if (kvt_task_open(&t, as_file(data, size), NULL, &err)) {
        promise(!t && *err.text);
        return 0;
    }
    promise(t->name && t->n_rules >= 0 && t->n_rules <= KVT_MAX_RULES && t->n_strips >= 0 && t->n_strips <= KVT_MAX_STRIPS);
    promise(t->max_new > 0 && t->together > 0 && t->chance >= 0 && t->chance <= 1);
    for (int i = 0; i < t->n_rules; i++)
        promise(t->rule[i].name != NULL);
    kvt_task_close(&t);
    return 0;
}
