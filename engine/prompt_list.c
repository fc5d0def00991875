/* Prompts of one file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/template.h"
#include "kvt/prompt.h"

#define MAX_FILE_BYTES ((size_t)1 << 30)

struct reader {
    struct kvt_prompt_list *list;
    const char *path;
    int cap;
};

void kvt_prompt_list_free(struct kvt_prompt_list *l)
{
    for (int i = 0; i < l->n; i++) {
        free(l->item[i].text);
        free(l->item[i].question);
        free(l->item[i].system);
    }
    free(l->item);
    *l = (struct kvt_prompt_list){0};
}

/* A field that is a text: its copy into *out, NULL where there is none. */
static int take(char **out, const cJSON *object, const char *name, const char *where, struct kvt_err *err)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!v || cJSON_IsNull(v))
        return 0;
    if (!cJSON_IsString(v))
        return kvt_fail(err, KVT_EINPUT, "%s: \"%s\" is not a text", where, name);
    if (!*v->valuestring)
        return kvt_fail(err, KVT_EINPUT, "%s: \"%s\" is empty", where, name);
    *out = strdup(v->valuestring);
    return *out ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory for the prompts");
}

/* Ids are names of groups and parts of names of files. */
static bool good_id(const char *id)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    return *id && *id != '.' && *id != '-' && !id[strspn(id, plain)];
}

static int take_id(struct kvt_prompt_item *p, const cJSON *object, int number, const char *where, struct kvt_err *err)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, "id");
    int n = 0;
    if (!v)
        n = snprintf(p->id, sizeof p->id, "%d", number);
    else if (cJSON_IsNumber(v) && v->valuedouble >= 0 && v->valuedouble < 1e15 && v->valuedouble == (double)(long long)v->valuedouble)
        n = snprintf(p->id, sizeof p->id, "%lld", (long long)v->valuedouble);
    else if (cJSON_IsString(v))
        n = snprintf(p->id, sizeof p->id, "%s", v->valuestring);
    return n > 0 && n < (int)sizeof p->id && good_id(p->id) ? 0
           : kvt_fail(err, KVT_EINPUT, "%s: \"id\" is a whole number, or 1 to %zu of the characters a-z A-Z 0-9 . _ - (the first a letter, digit or _); "
                                       "it becomes part of a file's name", where, sizeof p->id - 1);
}

static int add(void *arg, const cJSON *object, int line, struct kvt_err *err)
{
    struct reader *r = arg;
    struct kvt_prompt_list *l = r->list;
    char where[300];
    snprintf(where, sizeof where, "%.280s:%d", r->path, line);
    if (l->n == r->cap) {
        int cap = r->cap ? 2 * r->cap : 16;
        struct kvt_prompt_item *grown = realloc(l->item, (size_t)cap * sizeof *grown);
        if (!grown)
            return kvt_fail(err, KVT_ENOMEM, "no memory for the prompts");
        l->item = grown;
        r->cap = cap;
    }
    struct kvt_prompt_item *p = &l->item[l->n];
    *p = (struct kvt_prompt_item){.line = line};
    l->n++;
    int rc = take_id(p, object, l->n - 1, where, err);
    for (int i = 0; i < l->n - 1 && !rc; i++)
        if (!strcmp(l->item[i].id, p->id))
            rc = kvt_fail(err, KVT_EINPUT, "%s: the id '%s' is line %d's already", where, p->id, l->item[i].line);
    if (!rc)
        rc = take(&p->text, object, "prompt", where, err);
    if (!rc && !p->text)
        rc = take(&p->text, object, "text", where, err);
    if (!rc)
        rc = take(&p->question, object, "question", where, err);
    if (!rc)
        rc = take(&p->system, object, "system", where, err);
    if (!rc && !p->text && !p->question)
        rc = kvt_fail(err, KVT_EINPUT, "%s: neither a \"prompt\" nor a \"question\"", where);
    return rc;
}

int kvt_prompt_list_read(struct kvt_prompt_list *out, const char *path, struct kvt_err *err)
{
    char *text;
    size_t bytes;
    struct reader r = {.list = out, .path = path};
    *out = (struct kvt_prompt_list){0};
    int rc = kvt_read_text(&text, &bytes, path, "file of prompts", MAX_FILE_BYTES, err);
    if (!rc)
        rc = kvt_json_lines(path, text, bytes, add, &r, err);
    free(text);
    if (!rc && !out->n)
        rc = kvt_fail(err, KVT_EINPUT, "%s: no prompts in it", path);
    if (rc)
        kvt_prompt_list_free(out);
    return rc;
}
