/* kvtrace: the prompts of a run, one or many, their files, and what is done already. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "tracer/kvtrace.h"
#include "tracer/trace_resume.h"

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* run.h5 and "7" -> run-7.h5, in the same folder. */
static char *path_of(const char *out, const char *id)
{
    size_t n = strlen(out) + strlen(id) + 2, stem = strlen(out) - (ends_with(out, ".h5") ? 3 : 0);
    char *path = kvt_calloc(n, 1);
    if (path)
        snprintf(path, n, "%.*s-%s%s", (int)stem, out, id, out + stem);
    return path;
}

static int build(struct kvtrace_run *run, struct kvtrace_item *item, const struct kvt_prompt_item *from, struct kvt_err *err)
{
    const struct kvtrace_options *o = &run->o;
    struct kvt_prompt_opts p = o->prompt;
    if (from) {
        p.text_file = NULL;
        p.text = from->text;
        p.question = from->question ? from->question : p.question;
        p.question_file = from->question ? NULL : p.question_file;
        p.system = from->system ? from->system : p.system;
    }
    snprintf(item->id, sizeof item->id, "%s", from ? from->id : "0");
    if (o->out && !(item->path = from ? path_of(o->out, from->id) : strdup(o->out)))
        return kvt_fail(err, KVT_ENOMEM, "no memory for the prompts");
    struct kvt_err why;
    int rc = kvt_prompt_build(&item->prompt, kvt_model_tokenizer(run->model), &p, from ? &why : err);
    return rc && from ? kvt_fail(err, rc, "%s:%d: %s", o->prompt.text_file, from->line, why.text) : rc;
}

/* Nothing is begun that would be refused hours later. */
static int check_free(const struct kvtrace_run *run, struct kvt_err *err)
{
    if (run->o.force || !run->o.out)
        return 0;
    for (int i = -1; i < run->n_items; i++) {
        const char *path = i < 0 ? run->o.out : run->item[i].path;
        if (!access(path, F_OK))
            return kvt_fail(err, KVT_EINPUT, "%s exists; --force replaces it, --resume goes on where a run ended early", path);
    }
    return 0;
}

static int find_done(struct kvtrace_run *run, struct kvt_err *err)
{
    int rc = 0, done = 0;
    for (int i = 0; i < run->n_items && !rc; i++) {
        struct kvtrace_item *item = &run->item[i];
        struct kvt_trace_rest rest;
        rc = kvt_trace_resume(item->path, &(struct kvt_trace_same){run->command_line, item->prompt.text, kvt_model_bytes(run->model)}, &rest, err);
        if (rc || !*rest.commit)
            continue;
        item->done = rest.done;
        done += rest.done;
        if (rest.done && strcmp(rest.commit, kvt_commit()) && !run->o.quiet)
            fprintf(stderr, "kvtrace: %s was made by commit %s, this is %s\n", item->path, rest.commit, kvt_commit());
        if (!rest.done && !run->o.quiet)
            fprintf(stderr, "kvtrace: %s ended early, after %d of %d tokens; it stays until the whole one replaces it\n", item->path, rest.steps, rest.of);
    }
    if (!rc && done && !run->o.quiet)
        fprintf(stderr, "kvtrace: %d of %d %s complete already\n", done, run->n_items, run->n_items == 1 ? "trace is" : "traces are");
    return rc;
}

int kvtrace_open_prompts(struct kvtrace_run *run, struct kvt_err *err)
{
    const struct kvtrace_options *o = &run->o;
    struct kvt_prompt_list list = {0};
    run->many = o->prompt.text_file && ends_with(o->prompt.text_file, ".jsonl");
    if (o->resume && (!o->out || o->force))
        return kvt_fail(err, KVT_EUSAGE, o->out ? "--resume keeps what is there, --force replaces it; drop one of them" : "--resume: which trace? give -o FILE");
    int rc = run->many ? kvt_prompt_list_read(&list, o->prompt.text_file, err) : 0;
    int n = run->many ? list.n : 1;
    run->item = rc ? NULL : kvt_calloc((size_t)n, sizeof *run->item);
    if (!rc && !run->item)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for %d prompts", n);
    for (; run->n_items < n && !rc; run->n_items++)
        rc = build(run, &run->item[run->n_items], run->many ? &list.item[run->n_items] : NULL, err);
    kvt_prompt_list_free(&list);
    if (!rc && run->many && !o->resume)
        rc = check_free(run, err);
    if (!rc && o->resume && !o->dry_run)
        rc = find_done(run, err);
    return rc;
}

void kvtrace_close_prompts(struct kvtrace_run *run)
{
    for (int i = 0; i < run->n_items; i++) {
        kvt_prompt_free(&run->item[i].prompt);
        free(run->item[i].path);
    }
    free(run->item);
}

/* Links to what there is, so that an interrupted run can be looked at as well. */
int kvtrace_write_master(const struct kvtrace_run *run, struct kvt_err *err)
{
    const char **id = kvt_calloc((size_t)run->n_items, sizeof *id), **file = kvt_calloc((size_t)run->n_items, sizeof *file);
    int n = 0;
    for (int i = 0; i < run->n_items && id && file; i++) {
        const char *path = run->item[i].path, *slash = strrchr(path, '/');
        if (access(path, F_OK))
            continue;
        id[n] = run->item[i].id;
        file[n++] = slash ? slash + 1 : path;
    }
    int rc = !id || !file ? kvt_fail(err, KVT_ENOMEM, "no memory for the prompts") : n ? kvt_trace_master(run->o.out, n, id, file, err) : 0;
    free(id);
    free(file);
    return rc;
}
