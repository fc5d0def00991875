/* Result files: appended line by line, so that a kill at any moment costs the question at hand. */
#define _DEFAULT_SOURCE /* flock */
#include "compare/result.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "engine/template.h"

#define MAX_RESULT_BYTES (1u << 30)

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the results"); }

void kvt_cell_free(struct kvt_cell *c)
{
    free(c->text);
    free(c->kept_sets);
    for (int k = 0; k < KVT_MAX_RULES; k++)
        free(c->answer[k]);
    *c = (struct kvt_cell){ 0 };
}

static void free_item(const struct kvt_result *r, struct kvt_result_item *i)
{
    for (int b = 0; i->cell && b < r->n_branches; b++)
        kvt_cell_free(&i->cell[b]);
    free(i->cell);
    free(i->id);
    free(i->group);
    free(i->prompt);
    free(i->prompt_hash);
    free(i->failed);
    free(i->gold);
}

void kvt_result_close(struct kvt_result *r)
{
    for (int i = 0; i < r->n_items; i++)
        free_item(r, &r->item[i]);
    for (int b = 0; b < r->n_branches; b++) {
        free((char *)r->branch[b].name);
        free((char *)r->branch[b].method);
        free((char *)r->branch[b].canonical);
        free((char *)r->branch[b].asked);
        free((char *)r->branch[b].family);
    }
    for (int k = 0; k < r->n_rules; k++)
        free(r->rule[k]);
    free(r->item);
    free(r->branch);
    free(r->path);
    cJSON_Delete(r->run);
    cJSON_Delete(r->times);
    if (r->fd > 0)
        close(r->fd);
    *r = (struct kvt_result){ .fd = -1 };
}

/* ---- in memory ---- */

int kvt_result_find(const struct kvt_result *r, const char *id)
{
    for (int i = 0; i < r->n_items; i++)
        if (!strcmp(r->item[i].id, id))
            return i;
    return -1;
}

static int find_branch(const struct kvt_result *r, const char *name)
{
    for (int b = 0; b < r->n_branches; b++)
        if (!strcmp(r->branch[b].name, name))
            return b;
    return -1;
}

/* "random@1[...,seed=3]" -> without the seed. */
static char *family_of(const char *canonical)
{
    char *out = strdup(canonical), *seed = out ? strstr(out, "seed=") : NULL;
    if (!seed)
        return out;
    size_t n = strcspn(seed, ",]");
    if (seed[n] == ',')
        n++;
    else if (seed > out && seed[-1] == ',')
        seed--, n++;
    memmove(seed, seed + n, strlen(seed + n) + 1);
    return out;
}

static int add_branch(struct kvt_result *r, const struct kvt_result_branch *from, struct kvt_err *err)
{
    struct kvt_result_branch *v = realloc(r->branch, (size_t)(r->n_branches + 1) * sizeof *v);
    if (!v)
        return no_memory(err);
    r->branch = v;
    struct kvt_result_branch *b = &v[r->n_branches];
    char *full = NULL;
    *b = (struct kvt_result_branch){ strdup(from->name), strdup(from->method), strdup(from->canonical), strdup(from->asked), family_of(from->canonical), from->renumbered };
    r->n_branches++;
    if (!b->name || !b->method || !b->canonical || !b->asked || !b->family || !(full = malloc(strlen(b->family) + strlen(b->asked) + 2)))
        return no_memory(err);
    strcat(strcat(strcpy(full, b->family), " "), b->asked);
    free((char *)b->family);
    b->family = full;
    for (int i = 0; i < r->n_items; i++) { /* a column more */
        struct kvt_cell *c = realloc(r->item[i].cell, (size_t)r->n_branches * sizeof *c);
        if (!c)
            return no_memory(err);
        r->item[i].cell = c;
        c[r->n_branches - 1] = (struct kvt_cell){ 0 };
    }
    return 0;
}

/* A new one at the end, or the one that is there. */
static int item_of(struct kvt_result *r, const char *id, struct kvt_result_item **out, struct kvt_err *err)
{
    int at = kvt_result_find(r, id);
    if (at < 0) {
        struct kvt_result_item *v = realloc(r->item, (size_t)(r->n_items + 1) * sizeof *v);
        if (!v)
            return no_memory(err);
        r->item = v;
        at = r->n_items;
        v[at] = (struct kvt_result_item){ .id = strdup(id), .cell = kvt_calloc((size_t)r->n_branches + 1, sizeof(struct kvt_cell)) };
        r->n_items++;
        if (!v[at].id || !v[at].cell)
            return no_memory(err);
    }
    *out = &r->item[at];
    return 0;
}

/* ---- reading ---- */

struct reader { struct kvt_result *r; int line; };

static const char *text_of(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static double number_of(const cJSON *o, const char *name)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    return cJSON_IsNumber(v) ? v->valuedouble : NAN;
}

static int count_of(const cJSON *o, const char *name)
{
    double v = number_of(o, name);
    return v >= 0 && v < 1e9 ? (int)v : 0;
}

static int replace(char **to, const char *from, struct kvt_err *err)
{
    char *copy = from ? strdup(from) : NULL;
    if (from && !copy)
        return no_memory(err);
    free(*to);
    *to = copy;
    return 0;
}

static int read_cell(const struct kvt_result *r, const cJSON *o, struct kvt_cell *c, struct kvt_err *err)
{
    const cJSON *answers = cJSON_GetObjectItemCaseSensitive(o, "answers"), *right = cJSON_GetObjectItemCaseSensitive(o, "right");
    int rc = 0;
    kvt_cell_free(c);
    rc = replace(&c->text, text_of(o, "text"), err);
    for (int k = 0; k < r->n_rules && !rc; k++) {
        const cJSON *a = cJSON_GetArrayItem(answers, k), *x = cJSON_GetArrayItem(right, k);
        c->right[k] = cJSON_IsNumber(x) ? x->valuedouble : NAN;
        rc = replace(&c->answer[k], cJSON_IsString(a) ? a->valuestring : NULL, err);
    }
    snprintf(c->end, sizeof c->end, "%.7s", text_of(o, "end") ? text_of(o, "end") : "");
    c->n_new = count_of(o, "tokens");
    c->diverged = count_of(o, "diverged");
    c->kl = number_of(o, "kl"), c->top1 = number_of(o, "top1"), c->nll = number_of(o, "nll"), c->kept = number_of(o, "kept");
    c->bytes_after = number_of(o, "bytes_after"), c->bytes_last = number_of(o, "bytes_last");
    c->bytes_mean = number_of(o, "bytes_mean"), c->bytes_peak = number_of(o, "bytes_peak");
    c->fallback = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "fallback"));
    c->there = true;
    return rc;
}

static int read_item(struct kvt_result *r, const cJSON *o, int line, struct kvt_err *err)
{
    struct kvt_result_item *i = NULL;
    const cJSON *cells = cJSON_GetObjectItemCaseSensitive(o, "cells");
    int rc = item_of(r, text_of(o, "item"), &i, err);
    if (!rc)
        rc = replace(&i->group, text_of(o, "group") ? text_of(o, "group") : "", err);
    if (!rc)
        rc = replace(&i->prompt_hash, text_of(o, "prompt_hash") ? text_of(o, "prompt_hash") : "", err);
    if (!rc)
        rc = replace(&i->prompt, text_of(o, "prompt") ? text_of(o, "prompt") : "", err);
    if (!rc)
        rc = replace(&i->gold, text_of(o, "gold"), err);
    if (!rc)
        rc = replace(&i->failed, text_of(o, "failed"), err);
    if (rc)
        return rc;
    i->n_shared = count_of(o, "shared_tokens");
    i->n_prompt = count_of(o, "prompt_tokens"), i->n_context = count_of(o, "context_tokens"), i->n_gold = count_of(o, "golds");
    for (const cJSON *c = cells ? cells->child : NULL; c && !rc; c = c->next) {
        int b = text_of(c, "branch") ? find_branch(r, text_of(c, "branch")) : -1;
        if (b < 0)
            return kvt_fail(err, KVT_EFORMAT, "%s:%d: a cell of a branch that the file hasn't named before", r->path, line);
        rc = read_cell(r, c, &i->cell[b], err);
    }
    return rc;
}

static int note(struct kvt_result *r, cJSON *o, struct kvt_err *err)
{
    if (o && !r->times)
        r->times = cJSON_CreateArray();
    if (o && cJSON_AddItemToArray(r->times, o))
        return 0;
    cJSON_Delete(o);
    return no_memory(err);
}

static int read_line(void *arg, const cJSON *o, int line, struct kvt_err *err)
{
    struct reader *in = arg;
    struct kvt_result *r = in->r;
    if (!r->run) {
        const cJSON *version = cJSON_GetObjectItemCaseSensitive(o, "kvbench"), *rules = cJSON_GetObjectItemCaseSensitive(o, "rules");
        if (!cJSON_IsNumber(version))
            return kvt_fail(err, KVT_EFORMAT, "%s: no result of kvbench: its first line has no \"kvbench\"", r->path);
        if (version->valueint > 1)
            return kvt_fail(err, KVT_EUNSUP, "%s: a result of version %d; this kvbench reads version 1", r->path, version->valueint);
        for (const cJSON *c = rules ? rules->child : NULL; c && r->n_rules < KVT_MAX_RULES; c = c->next)
            if (!(r->rule[r->n_rules++] = strdup(cJSON_IsString(c) ? c->valuestring : "?")))
                return no_memory(err);
        return (r->run = cJSON_Duplicate(o, true)) ? 0 : no_memory(err);
    }
    if (text_of(o, "branch")) {
        const char *name = text_of(o, "branch"), *method = text_of(o, "method"), *canonical = text_of(o, "canonical"), *asked = text_of(o, "asked");
        if (!method || !canonical || !asked || find_branch(r, name) >= 0)
            return kvt_fail(err, KVT_EFORMAT, "%s:%d: a branch without method, canonical and asked, or twice", r->path, line);
        return add_branch(r, &(struct kvt_result_branch){ name, method, canonical, asked, NULL,
                                                          cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, "renumbered")) }, err);
    }
    if (text_of(o, "item"))
        return read_item(r, o, line, err);
    if (text_of(o, "time") || text_of(o, "largest"))
        return note(r, cJSON_Duplicate(o, true), err);
    return text_of(o, "note") ? 0 : kvt_fail(err, KVT_EFORMAT, "%s:%d: neither a branch nor an item", r->path, line);
}

/* Lines up to the last line end; *whole: bytes of them. */
static int read_text(struct kvt_result *r, const char *text, size_t bytes, size_t *whole, struct kvt_err *err)
{
    struct reader in = { .r = r };
    while (bytes && text[bytes - 1] != '\n')
        bytes--;
    *whole = bytes;
    int rc = kvt_json_lines(r->path, text, bytes, read_line, &in, err);
    return rc || r->run ? rc : kvt_fail(err, KVT_EFORMAT, "%s: no result of kvbench: it is empty", r->path);
}

/* The whole of an open file, as it is: a run that was killed may have left half a character at its end. */
static int read_all(int fd, const char *path, char **text, size_t *bytes, struct kvt_err *err)
{
    struct stat st;
    *bytes = 0;
    if (fstat(fd, &st))
        return kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size > MAX_RESULT_BYTES)
        return kvt_fail(err, KVT_EINPUT, "%s: %s", path, S_ISREG(st.st_mode) ? "more than 1 GiB" : "not a file");
    if (!(*text = malloc((size_t)st.st_size + 1)))
        return no_memory(err);
    while (*bytes < (size_t)st.st_size) {
        ssize_t n = pread(fd, *text + *bytes, (size_t)st.st_size - *bytes, (off_t)*bytes);
        if (n < 0 && errno != EINTR)
            return kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno));
        if (!n)
            break;
        *bytes += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

int kvt_result_read(struct kvt_result *out, const char *path, struct kvt_err *err)
{
    char *text = NULL;
    size_t bytes, whole;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    *out = (struct kvt_result){ .fd = -1, .path = strdup(path) };
    int rc = fd < 0 ? kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno)) : out->path ? read_all(fd, path, &text, &bytes, err) : no_memory(err);
    if (fd >= 0)
        close(fd);
    if (!rc)
        rc = read_text(out, text, bytes, &whole, err);
    free(text);
    if (rc)
        kvt_result_close(out);
    return rc;
}

/* The last one counts, as with everything of a cell. */
struct seek { const char *item, *branch; char **out; };

static int seek_kept(void *arg, const cJSON *o, int line, struct kvt_err *err)
{
    const struct seek *seek = arg;
    const cJSON *cells = cJSON_GetObjectItemCaseSensitive(o, "cells");
    (void)line;
    if (!text_of(o, "item") || strcmp(text_of(o, "item"), seek->item))
        return 0;
    for (const cJSON *c = cells ? cells->child : NULL; c; c = c->next)
        if (text_of(c, "branch") && !strcmp(text_of(c, "branch"), seek->branch))
            return replace(seek->out, text_of(c, "kept_sets"), err);
    return 0;
}

int kvt_result_kept(const struct kvt_result *r, const char *item, const char *branch, char **out, struct kvt_err *err)
{
    struct seek seek = { item, branch, out };
    char *text = NULL;
    size_t bytes = 0;
    int fd = open(r->path, O_RDONLY | O_CLOEXEC), rc = fd < 0 ? kvt_fail(err, KVT_EIO, "%s: %s", r->path, strerror(errno)) : read_all(fd, r->path, &text, &bytes, err);
    *out = NULL;
    if (fd >= 0)
        close(fd);
    while (!rc && bytes && text[bytes - 1] != '\n')
        bytes--;
    if (!rc)
        rc = kvt_json_lines(r->path, text, bytes, seek_kept, &seek, err);
    free(text);
    return rc;
}

/* ---- writing ---- */

static int write_line(struct kvt_result *r, cJSON *o, struct kvt_err *err)
{
    char *line = o ? cJSON_PrintUnformatted(o) : NULL;
    size_t n = line ? strlen(line) : 0, done = 0;
    int rc = line ? 0 : no_memory(err);
    if (line)
        line[n++] = '\n'; /* instead of the terminating zero */
    while (done < n && !rc) {
        ssize_t w = write(r->fd, line + done, n - done);
        if (w < 0 && errno != EINTR)
            rc = kvt_fail(err, KVT_EIO, "%s: %s; what is in it stays whole, the same command goes on when there is room", r->path, strerror(errno));
        done += w > 0 ? (size_t)w : 0;
    }
    if (!rc && fdatasync(r->fd) && errno != EINVAL) /* a pipe can't */
        rc = kvt_fail(err, KVT_EIO, "%s: %s", r->path, strerror(errno));
    cJSON_free(line);
    cJSON_Delete(o);
    return rc;
}

/* What a run must share with the file it goes on with. */
static int same_run(const struct kvt_result *r, const cJSON *run, struct kvt_err *err)
{
    for (const cJSON *c = run->child; c; c = c->next) {
        const cJSON *there = cJSON_GetObjectItemCaseSensitive(r->run, c->string);
        if (!strcmp(c->string, "commit") || !strcmp(c->string, "created") || !strcmp(c->string, "command_line") || !strcmp(c->string, "device") || cJSON_Compare(c, there, true))
            continue;
        char *was = there ? cJSON_PrintUnformatted(there) : NULL, *is = cJSON_PrintUnformatted(c);
        int rc = kvt_fail(err, KVT_EINPUT, "%s is the result of another run: %s is %.80s there, %.80s here; give -o another file", r->path, c->string,
                          was ? was : "missing", is ? is : "?");
        cJSON_free(was);
        cJSON_free(is);
        return rc;
    }
    return 0;
}

void kvt_result_made(cJSON *run, const char *command_line)
{
    char text[40];
    time_t now = time(NULL);
    struct tm tm;
    cJSON_AddStringToObject(run, "commit", kvt_commit());
    gmtime_r(&now, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    cJSON_AddStringToObject(run, "created", text);
    cJSON_AddStringToObject(run, "command_line", command_line);
}

int kvt_result_open(struct kvt_result *out, const char *path, cJSON *run, struct kvt_err *err)
{
    char *text = NULL;
    size_t bytes = 0, whole = 0;
    *out = (struct kvt_result){ .fd = -1, .path = strdup(path) };
    int rc = out->path ? 0 : no_memory(err);
    if (!rc && (out->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666)) < 0)
        rc = kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno));
    if (!rc && flock(out->fd, LOCK_EX | LOCK_NB))
        rc = kvt_fail(err, KVT_EINPUT, "%s: another kvbench writes to it", path);
    if (!rc)
        rc = read_all(out->fd, path, &text, &bytes, err);
    if (!rc && bytes && memchr(text, '\n', bytes)) /* else it was killed while its first line was written */
        rc = read_text(out, text, bytes, &whole, err);
    if (!rc && !whole && bytes && strncmp(text, "{\"kvbench\"", bytes < 10 ? bytes : 10))
        rc = kvt_fail(err, KVT_EINPUT, "%s: no result of kvbench; give -o another file", path);
    if (!rc && out->run)
        rc = same_run(out, run, err);
    if (!rc && (ftruncate(out->fd, (off_t)whole) || lseek(out->fd, 0, SEEK_END) < 0))
        rc = kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno));
    free(text);
    if (!rc && !out->run) {
        const cJSON *rules = cJSON_GetObjectItemCaseSensitive(run, "rules");
        for (const cJSON *c = rules ? rules->child : NULL; c && out->n_rules < KVT_MAX_RULES && !rc; c = c->next)
            if (!(out->rule[out->n_rules++] = strdup(c->valuestring)))
                rc = no_memory(err);
        if (!rc && !(out->run = cJSON_Duplicate(run, true)))
            rc = no_memory(err);
        if (!rc)
            rc = write_line(out, cJSON_Duplicate(run, true), err);
    }
    cJSON_Delete(run);
    if (rc)
        kvt_result_close(out);
    return rc;
}

int kvt_result_branch(struct kvt_result *r, const struct kvt_result_branch *b, int *out, struct kvt_err *err)
{
    int at = find_branch(r, b->name);
    *out = at;
    if (at >= 0 && strcmp(r->branch[at].canonical, b->canonical))
        return kvt_fail(err, KVT_EINPUT, "%s: '%s' is %.150s there, %.150s here; give -o another file", r->path, b->name, r->branch[at].canonical, b->canonical);
    if (at >= 0)
        return 0;
    int rc = add_branch(r, b, err);
    *out = r->n_branches - 1;
    cJSON *o = rc ? NULL : cJSON_CreateObject();
    cJSON_AddStringToObject(o, "branch", b->name);
    cJSON_AddStringToObject(o, "method", b->method);
    cJSON_AddStringToObject(o, "canonical", b->canonical);
    cJSON_AddStringToObject(o, "asked", b->asked);
    cJSON_AddBoolToObject(o, "renumbered", b->renumbered);
    return rc ? rc : write_line(r, o, err);
}

int kvt_result_note(struct kvt_result *r, cJSON *o, struct kvt_err *err)
{
    int rc = write_line(r, cJSON_Duplicate(o, true), err);
    if (!rc)
        return note(r, o, err);
    cJSON_Delete(o);
    return rc;
}

static void put_number(cJSON *o, const char *name, double v)
{
    if (isfinite(v))
        cJSON_AddNumberToObject(o, name, v);
}

static cJSON *cell_object(const char *branch, const struct kvt_cell *c, int n_rules)
{
    cJSON *o = cJSON_CreateObject(), *answers = cJSON_AddArrayToObject(o, "answers"), *right = cJSON_AddArrayToObject(o, "right");
    cJSON_AddStringToObject(o, "branch", branch);
    if (c->text)
        cJSON_AddStringToObject(o, "text", c->text);
    for (int k = 0; k < n_rules; k++) {
        cJSON_AddItemToArray(answers, c->answer[k] ? cJSON_CreateString(c->answer[k]) : cJSON_CreateNull());
        cJSON_AddItemToArray(right, isfinite(c->right[k]) ? cJSON_CreateNumber(c->right[k]) : cJSON_CreateNull());
    }
    cJSON_AddNumberToObject(o, "tokens", c->n_new);
    cJSON_AddStringToObject(o, "end", c->end);
    cJSON_AddNumberToObject(o, "diverged", c->diverged);
    put_number(o, "kl", c->kl);
    put_number(o, "top1", c->top1);
    put_number(o, "nll", c->nll);
    put_number(o, "kept", c->kept);
    put_number(o, "bytes_after", c->bytes_after);
    put_number(o, "bytes_last", c->bytes_last);
    put_number(o, "bytes_mean", c->bytes_mean);
    put_number(o, "bytes_peak", c->bytes_peak);
    if (c->fallback)
        cJSON_AddTrueToObject(o, "fallback");
    if (c->kept_sets)
        cJSON_AddStringToObject(o, "kept_sets", c->kept_sets);
    return o;
}

char *kvt_result_line(const struct kvt_result_item *item, const struct kvt_cell *cell, const char *const *branch, int n, int n_rules)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "item", item->id);
    cJSON_AddStringToObject(o, "group", item->group);
    cJSON_AddStringToObject(o, "prompt", item->prompt ? item->prompt : "");
    cJSON_AddStringToObject(o, "prompt_hash", item->prompt_hash ? item->prompt_hash : "");
    cJSON_AddNumberToObject(o, "prompt_tokens", item->n_prompt);
    cJSON_AddNumberToObject(o, "context_tokens", item->n_context);
    if (item->gold)
        cJSON_AddStringToObject(o, "gold", item->gold);
    if (item->n_shared)
        cJSON_AddNumberToObject(o, "shared_tokens", item->n_shared);
    cJSON_AddNumberToObject(o, "golds", item->n_gold);
    if (item->failed)
        cJSON_AddStringToObject(o, "failed", item->failed);
    cJSON *cells = cJSON_AddArrayToObject(o, "cells");
    for (int i = 0; i < n && !item->failed; i++)
        cJSON_AddItemToArray(cells, cell_object(branch[i], &cell[i], n_rules));
    char *text = cells ? cJSON_PrintUnformatted(o) : NULL, *line = text ? strdup(text) : NULL;
    cJSON_free(text);
    cJSON_Delete(o);
    return line;
}

/* The cell of the full branch in an item's line, or NULL. */
static const cJSON *full_of(const cJSON *o)
{
    const cJSON *cells = cJSON_GetObjectItemCaseSensitive(o, "cells");
    for (const cJSON *c = cells ? cells->child : NULL; c; c = c->next)
        if (text_of(c, "branch") && !strcmp(text_of(c, "branch"), "full"))
            return c;
    return NULL;
}

static int same_item(const struct kvt_result *r, const cJSON *o, struct kvt_err *err)
{
    int at = kvt_result_find(r, text_of(o, "item")), full = find_branch(r, "full");
    if (at < 0 || r->item[at].failed || text_of(o, "failed"))
        return 0;
    const struct kvt_result_item *was = &r->item[at];
    const char *hash = text_of(o, "prompt_hash"), *text = full_of(o) ? text_of(full_of(o), "text") : NULL;
    if (hash && strcmp(was->prompt_hash, hash))
        return kvt_fail(err, KVT_EINPUT, "%s: the question '%s' was another one when the file was made; give -o another file", r->path, was->id);
    if (full >= 0 && was->cell[full].there && was->cell[full].text && text && strcmp(was->cell[full].text, text))
        return kvt_fail(err, KVT_EINPUT, "%s: the full branch wrote something else for '%s' then; was the file made on another machine or by another version?", r->path, was->id);
    return 0;
}

int kvt_result_take(struct kvt_result *r, const char *line, struct kvt_err *err)
{
    cJSON *o = cJSON_Parse(line), *copy = cJSON_Duplicate(o, true);
    int rc = o && copy && text_of(o, "item") ? same_item(r, o, err) : no_memory(err);
    if (rc)
        cJSON_Delete(copy);
    else
        rc = write_line(r, copy, err);
    if (!rc)
        rc = read_item(r, o, 0, err); /* what is shown is what was written */
    cJSON_Delete(o);
    return rc;
}
