/* Task files: reading, and refusing what isn't understood. */
#include "compare/task.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/nearest.h"
#include "engine/json.h"
#include "engine/textbuf.h"

#define MAX_TASK_BYTES (1u << 20)

const char *const kvt_task_kinds[6] = { "generate", "choice", "refusal", "program", "text", NULL };
const char *const kvt_made_names[11] = { "not", "needle", "keys", "variables", "words", "recall", "mapping", "rule", "arithmetic", "safety", NULL };

enum type { TEXT, TEXTS, NUMBERS, INT, REAL, BOOL, CHOICE };

/* A field of an object: where its value goes. */
struct field { const char *name; enum type type; void *to; double min, max; const char *const *choices; };

static int wrong(const char *where, const struct field *f, const char *what, struct kvt_err *err)
{
    return kvt_fail(err, KVT_EINPUT, "%s: '%s' must be %s", where, f->name, what);
}

static int no_memory(const char *where, struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "%s: no memory for the task", where); }

static int take_texts(const char *where, const struct field *f, const cJSON *v, struct kvt_err *err)
{
    struct kvt_texts *to = f->to;
    int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : -1;
    if (n < 0 || n > 1000)
        return wrong(where, f, "a list of texts", err);
    if (!(to->v = kvt_calloc((size_t)n, sizeof *to->v)))
        return no_memory(where, err);
    for (const cJSON *c = v->child; c; c = c->next) {
        if (!cJSON_IsString(c) || !*c->valuestring)
            return wrong(where, f, "a list of texts, none of them empty", err);
        if (!(to->v[to->n++] = strdup(c->valuestring)))
            return no_memory(where, err);
    }
    return 0;
}

static int take_numbers(const char *where, const struct field *f, const cJSON *v, struct kvt_err *err)
{
    struct kvt_numbers *to = f->to;
    int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : -1;
    if (n < 1 || n > 1000)
        return wrong(where, f, "a list of whole numbers", err);
    if (!(to->v = kvt_calloc((size_t)n, sizeof *to->v)))
        return no_memory(where, err);
    for (const cJSON *c = v->child; c; c = c->next) {
        if (!cJSON_IsNumber(c) || c->valuedouble < f->min || c->valuedouble > f->max || c->valuedouble != floor(c->valuedouble))
            return kvt_fail(err, KVT_EINPUT, "%s: '%s' must be a list of whole numbers from %.0f to %.0f", where, f->name, f->min, f->max);
        to->v[to->n++] = (int)c->valuedouble;
    }
    return 0;
}

static int take(const char *where, const struct field *f, const cJSON *v, struct kvt_err *err)
{
    switch (f->type) {
    case TEXT:
        if (!cJSON_IsString(v))
            return wrong(where, f, "text", err);
        return (*(char **)f->to = strdup(v->valuestring)) ? 0 : no_memory(where, err);
    case TEXTS: return take_texts(where, f, v, err);
    case NUMBERS: return take_numbers(where, f, v, err);
    case INT:
    case REAL:
        if (!cJSON_IsNumber(v) || !(v->valuedouble >= f->min && v->valuedouble <= f->max) || (f->type == INT && v->valuedouble != floor(v->valuedouble)))
            return kvt_fail(err, KVT_EINPUT, "%s: '%s' must be a %snumber from %g to %g", where, f->name, f->type == INT ? "whole " : "", f->min, f->max);
        if (f->type == INT)
            *(int *)f->to = (int)v->valuedouble;
        else
            *(double *)f->to = v->valuedouble;
        return 0;
    case BOOL:
        if (!cJSON_IsBool(v))
            return wrong(where, f, "true or false", err);
        *(bool *)f->to = cJSON_IsTrue(v);
        return 0;
    case CHOICE:
        for (int i = 0; cJSON_IsString(v) && f->choices[i]; i++)
            if (!strcmp(v->valuestring, f->choices[i])) {
                *(int *)f->to = i;
                return 0;
            }
        char list[200] = "";
        for (int i = 0; f->choices[i]; i++)
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", f->choices[i]);
        return kvt_fail(err, KVT_EINPUT, "%s: '%s' must be one of %s", where, f->name, list);
    }
    return 0;
}

/* Every member of the object is one of the fields; what isn't there stays as it is. */
static int take_object(const char *where, const cJSON *object, const struct field *f, int n, struct kvt_err *err)
{
    const char *names[40];
    if (!cJSON_IsObject(object))
        return kvt_fail(err, KVT_EINPUT, "%s: must be an object", where);
    for (int i = 0; i < n; i++)
        names[i] = f[i].name;
    for (const cJSON *c = object->child; c; c = c->next) {
        int at = -1;
        for (int i = 0; i < n; i++)
            at = strcmp(c->string, f[i].name) ? at : i;
        if (at < 0) {
            const char *near = kvt_nearest(c->string, names, n);
            return kvt_fail(err, KVT_EINPUT, "%s: unknown field '%.60s'%s%s%s (docs/tasks.md has them all)", where, c->string, near ? "; did you mean '" : "",
                            near ? near : "", near ? "'?" : "");
        }
        for (const cJSON *again = c->next; again; again = again->next)
            if (!strcmp(c->string, again->string))
                return kvt_fail(err, KVT_EINPUT, "%s: the field '%.60s' is there twice", where, c->string);
        int rc = f[at].to ? take(where, &f[at], c, err) : 0; /* without a place: taken apart by the caller */
        if (rc)
            return rc;
    }
    return 0;
}

static int open_rule(struct kvt_answer_rule *r, const char *where, const cJSON *v, struct kvt_err *err)
{
    char *find = NULL;
    struct kvt_texts drop = { 0 };
    int which = 0, equal = 0;
    const struct field f[] = { { "name", TEXT, &r->name, 0, 0, NULL }, { "find", TEXT, &find, 0, 0, NULL }, { "which", CHOICE, &which, 0, 0, kvt_which_names },
                               { "drop", TEXTS, &drop, 0, 0, NULL }, { "lower", BOOL, &r->lower, 0, 0, NULL }, { "equal", CHOICE, &equal, 0, 0, kvt_equal_names } };
    int rc = take_object(where, v, f, (int)(sizeof f / sizeof *f), err);
    r->which = (enum kvt_which)which;
    r->equal = (enum kvt_equal)equal;
    if (!rc && (!r->name || !*r->name))
        rc = kvt_fail(err, KVT_EINPUT, "%s: a rule needs a 'name'", where);
    if (!rc && find)
        rc = kvt_pattern_open(&r->find, find, where, err);
    if (!rc && drop.n > KVT_MAX_DROPS)
        rc = kvt_fail(err, KVT_EINPUT, "%s: 'drop' has more than %d patterns", where, KVT_MAX_DROPS);
    for (int i = 0; i < drop.n && !rc; i++, r->n_drops++)
        rc = kvt_pattern_open(&r->drop[i], drop.v[i], where, err);
    for (int i = 0; i < drop.n; i++)
        free(drop.v[i]);
    free(drop.v);
    free(find);
    return rc;
}

static int open_rules(struct kvt_task *t, const cJSON *list, struct kvt_err *err)
{
    int rc = cJSON_IsArray(list) ? 0 : kvt_fail(err, KVT_EINPUT, "%s: 'answers' must be a list of rules", t->path);
    for (const cJSON *c = list->child; c && !rc; c = c->next) {
        char where[400];
        if (t->n_rules == KVT_MAX_RULES)
            return kvt_fail(err, KVT_EINPUT, "%s: 'answers' has more than %d rules", t->path, KVT_MAX_RULES);
        snprintf(where, sizeof where, "%.300s: answers[%d]", t->path, t->n_rules);
        rc = open_rule(&t->rule[t->n_rules++], where, c, err);
    }
    return rc;
}

static int open_strips(struct kvt_task *t, const cJSON *object, struct kvt_err *err)
{
    int rc = cJSON_IsObject(object) ? 0 : kvt_fail(err, KVT_EINPUT, "%s: 'strip' must be an object of fields and patterns", t->path);
    for (const cJSON *c = object->child; c && !rc; c = c->next) {
        char where[400];
        snprintf(where, sizeof where, "%.300s: strip.%.60s", t->path, c->string);
        if (t->n_strips == KVT_MAX_STRIPS || !cJSON_IsString(c))
            return kvt_fail(err, KVT_EINPUT, "%s: at most %d fields, each with a pattern as text", where, KVT_MAX_STRIPS);
        if (!(t->strip[t->n_strips].field = strdup(c->string)))
            return no_memory(where, err);
        rc = kvt_pattern_open(&t->strip[t->n_strips++].drop, c->valuestring, where, err);
    }
    return rc;
}

/* A member that is an object of its own. */
static int open_part(const struct kvt_task *t, const cJSON *root, const char *name, const struct field *f, int n, struct kvt_err *err)
{
    char where[400];
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(root, name);
    snprintf(where, sizeof where, "%.300s: %s", t->path, name);
    return v ? take_object(where, v, f, n, err) : 0;
}

static int open_parts(struct kvt_task *t, const cJSON *root, struct kvt_err *err)
{
    char *gold = NULL;
    int made = 0;
    const struct field golds[] = { { "field", TEXT, &t->gold_field, 0, 0, NULL }, { "find", TEXT, &gold, 0, 0, NULL } };
    const struct field togethers[] = { { "count", INT, &t->together, 1, 100, NULL }, { "question", TEXT, &t->together_question, 0, 0, NULL },
                                       { "answer", TEXT, &t->together_answer, 0, 0, NULL } };
    const struct field refusals[] = { { "field", TEXT, &t->refuse_field, 0, 0, NULL }, { "value", TEXT, &t->refuse_value, 0, 0, NULL },
                                      { "starts", TEXTS, &t->refuses, 0, 0, NULL } };
    const struct field programs[] = { { "form", TEXT, &t->program, 0, 0, NULL }, { "seconds", REAL, &t->seconds, 0.1, 3600, NULL } };
    const struct field texts[] = { { "file", TEXT, &t->text, 0, 0, NULL }, { "segment", INT, &t->segment, 16, 1 << 20, NULL } };
    const struct field makes[] = { { "what", CHOICE, &made, 0, 0, kvt_made_names }, { "lengths", NUMBERS, &t->lengths, 64, 1 << 20, NULL },
                                   { "depths", NUMBERS, &t->depths, 0, 100, NULL }, { "seeds", INT, &t->seeds, 1, 1000, NULL },
                                   { "count", INT, &t->count, 1, 100, NULL }, { "fill", INT, &t->fill, 0, 20, NULL } };
    int rc = open_part(t, root, "gold", golds, 2, err);
    if (!rc)
        rc = open_part(t, root, "together", togethers, 3, err);
    if (!rc)
        rc = open_part(t, root, "refusal", refusals, 3, err);
    if (!rc)
        rc = open_part(t, root, "program", programs, 2, err);
    if (!rc)
        rc = open_part(t, root, "text", texts, 2, err);
    if (!rc)
        rc = open_part(t, root, "make", makes, 6, err);
    t->made = (enum kvt_made)made;
    if (!rc && gold) {
        char where[400];
        snprintf(where, sizeof where, "%.300s: gold", t->path);
        rc = kvt_pattern_open(&t->gold_find, gold, where, err);
    }
    free(gold);
    return rc;
}

/* What the kind needs, and nothing that it would pass over in silence. */
static int check(const struct kvt_task *t, const cJSON *root, struct kvt_err *err)
{
    static const struct { const char *field; unsigned kinds; } only[] = {
        { "answers", 1 << KVT_TASK_GENERATE }, { "choices", 1 << KVT_TASK_CHOICE }, { "refusal", 1 << KVT_TASK_REFUSAL }, { "program", 1 << KVT_TASK_PROGRAM },
        { "text", 1 << KVT_TASK_TEXT }, { "make", 1 << KVT_TASK_GENERATE }, { "together", 1 << KVT_TASK_GENERATE },
        { "stop", 1 << KVT_TASK_GENERATE | 1 << KVT_TASK_REFUSAL | 1 << KVT_TASK_PROGRAM },
        { "max_new", 1 << KVT_TASK_GENERATE | 1 << KVT_TASK_REFUSAL | 1 << KVT_TASK_PROGRAM } };
    static const char *const needs[] = { "answers", "choices", "refusal", "program", "text" };
    for (size_t i = 0; i < sizeof only / sizeof *only; i++)
        if (cJSON_GetObjectItemCaseSensitive(root, only[i].field) && !(only[i].kinds >> t->kind & 1))
            return kvt_fail(err, KVT_EINPUT, "%s: '%s' means nothing for the kind '%s'", t->path, only[i].field, kvt_task_kinds[t->kind]);
    if (!cJSON_GetObjectItemCaseSensitive(root, needs[t->kind]))
        return kvt_fail(err, KVT_EINPUT, "%s: the kind '%s' needs '%s'", t->path, kvt_task_kinds[t->kind], needs[t->kind]);
    if (!t->name || !*t->name || strpbrk(t->name, "/ \t\n"))
        return kvt_fail(err, KVT_EINPUT, "%s: 'name' must be a word", t->path);
    if (t->kind == KVT_TASK_GENERATE && !t->n_rules)
        return kvt_fail(err, KVT_EINPUT, "%s: 'answers' has no rule", t->path);
    if (t->kind == KVT_TASK_CHOICE && t->choices.n < 2)
        return kvt_fail(err, KVT_EINPUT, "%s: 'choices' needs two of them at least", t->path);
    if (t->kind == KVT_TASK_REFUSAL && (!t->refuse_field || !t->refuse_value || !t->refuses.n))
        return kvt_fail(err, KVT_EINPUT, "%s: 'refusal' needs 'field', 'value' and 'starts'", t->path);
    if (t->kind == KVT_TASK_PROGRAM && !t->program)
        return kvt_fail(err, KVT_EINPUT, "%s: 'program' needs 'form'", t->path);
    if (t->kind == KVT_TASK_TEXT && (!t->text || t->questions || t->shots))
        return kvt_fail(err, KVT_EINPUT, "%s: 'text' needs 'file', and neither questions nor shots", t->path);
    if (t->made && (t->questions || t->shots))
        return kvt_fail(err, KVT_EINPUT, "%s: 'make' needs neither questions nor shots", t->path);
    bool few = KVT_MADE_IS_SHOTS(t->made);
    if (t->made && (!t->lengths.n != few || (few && t->depths.n)))
        return kvt_fail(err, KVT_EINPUT, few ? "%s: '%s' is made of shots: 'n_shots' instead of 'lengths' and 'depths'" : "%s: '%s' is made to 'lengths', which are missing", t->path, kvt_made_names[t->made]);
    if (!t->made && t->kind != KVT_TASK_TEXT && !t->questions)
        return kvt_fail(err, KVT_EINPUT, "%s: 'questions' is missing: a JSON-lines file of the data folder", t->path);
    if (!t->shots && t->n_shots && !few)
        return kvt_fail(err, KVT_EINPUT, "%s: 'n_shots' without 'shots', the file that they come from", t->path);
    if (t->together > 1 && (!t->together_question || !t->together_answer))
        return kvt_fail(err, KVT_EINPUT, "%s: 'together' needs the lines 'question' and 'answer'", t->path);
    return 0;
}

static int parse(struct kvt_task *t, const cJSON *root, struct kvt_err *err)
{
    int version = 0, kind = 0;
    const struct field f[] = {
        { "kvbench", INT, &version, 1, 1, NULL }, { "name", TEXT, &t->name, 0, 0, NULL }, { "about", TEXT, &t->about, 0, 0, NULL },
        { "source", TEXT, &t->source, 0, 0, NULL }, { "kind", CHOICE, &kind, 0, 0, kvt_task_kinds }, { "questions", TEXT, &t->questions, 0, 0, NULL },
        { "shots", TEXT, &t->shots, 0, 0, NULL }, { "tasks", TEXT, &t->tasks, 0, 0, NULL }, { "by", TEXT, &t->by, 0, 0, NULL },
        { "system", TEXT, &t->system, 0, 0, NULL }, { "form", TEXT, &t->form, 0, 0, NULL }, { "separator", TEXT, &t->separator, 0, 0, NULL },
        { "n_shots", INT, &t->n_shots, 0, 10000, NULL }, { "chat", BOOL, &t->chat, 0, 0, NULL }, { "strip", TEXT, NULL, 0, 0, NULL },
        { "stop", TEXTS, &t->stop, 0, 0, NULL }, { "max_new", INT, &t->max_new, 1, 100000, NULL }, { "cut_counts", BOOL, &t->cut_counts, 0, 0, NULL },
        { "answers", TEXT, NULL, 0, 0, NULL }, { "gold", TEXT, NULL, 0, 0, NULL }, { "chance", REAL, &t->chance, 0, 1, NULL },
        { "choices", TEXTS, &t->choices, 0, 0, NULL }, { "together", TEXT, NULL, 0, 0, NULL }, { "refusal", TEXT, NULL, 0, 0, NULL },
        { "program", TEXT, NULL, 0, 0, NULL }, { "text", TEXT, NULL, 0, 0, NULL }, { "make", TEXT, NULL, 0, 0, NULL } };
    int rc = take_object(t->path, root, f, (int)(sizeof f / sizeof *f), err);
    const cJSON *strip = cJSON_GetObjectItemCaseSensitive(root, "strip"), *answers = cJSON_GetObjectItemCaseSensitive(root, "answers");
    t->kind = (enum kvt_task_kind)kind;
    if (!rc && !version)
        rc = kvt_fail(err, KVT_EINPUT, "%s: no task file: '\"kvbench\": 1' is missing", t->path);
    if (!rc && strip)
        rc = open_strips(t, strip, err);
    if (!rc && answers)
        rc = open_rules(t, answers, err);
    if (!rc)
        rc = open_parts(t, root, err);
    if (!rc && !t->gold_field && !(t->gold_field = strdup("answer")))
        rc = no_memory(t->path, err);
    return rc ? rc : check(t, root, err);
}

/* Folders where tasks lie; those that a name may stand for. */
static int folder(const char *dir, int i, char *out, size_t cap)
{
    char self[512];
    if (dir)
        return i ? 0 : (snprintf(out, cap, "%s", dir), 1);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash)
        *slash = 0;
    const char *near[] = { "/../share/kvtrace/tasks", "/../tasks", "/../../tasks" };
    if (i > 3)
        return 0;
    if (i < 3)
        snprintf(out, cap, "%s%s", self, near[i]);
    else
        snprintf(out, cap, "%s/tasks", KVT_SOURCE_DIR);
    return 1;
}

int kvt_task_open(struct kvt_task **out, const char *name, const char *dir, struct kvt_err *err)
{
    char path[1200] = "", at[800];
    bool plain = !strchr(name, '/') && !strstr(name, ".json");
    for (int i = 0; plain && !*path && folder(dir, i, at, sizeof at); i++) {
        snprintf(path, sizeof path, "%s/%.200s.json", at, name);
        if (access(path, R_OK))
            *path = 0;
    }
    if (plain && !*path)
        return kvt_fail(err, KVT_EINPUT, "no task '%.60s': no such file NAME.json in %s; --list-tasks shows what there is", name, dir ? dir : "the tasks folder");
    struct kvt_task *t = kvt_calloc(1, sizeof *t);
    if (!t || !(t->path = strdup(plain ? path : name))) {
        free(t);
        return no_memory(name, err);
    }
    t->max_new = 256, t->together = 1, t->seeds = 5, t->count = 1, t->segment = 2048, t->seconds = 10;
    size_t bytes;
    cJSON *root = NULL;
    int rc = kvt_read_text(&t->json, &bytes, t->path, "task", MAX_TASK_BYTES, err);
    if (!rc)
        rc = kvt_json_parse(&root, t->path, t->json, bytes, err);
    if (!rc)
        rc = parse(t, root, err);
    cJSON_Delete(root);
    if (rc)
        kvt_task_close(&t);
    else
        *out = t;
    return rc;
}

static void free_texts(struct kvt_texts *t)
{
    for (int i = 0; i < t->n; i++)
        free(t->v[i]);
    free(t->v);
}

void kvt_task_close(struct kvt_task **task)
{
    struct kvt_task *t = *task;
    if (!t)
        return;
    for (int i = 0; i < t->n_rules; i++) {
        free(t->rule[i].name);
        kvt_pattern_close(&t->rule[i].find);
        for (int k = 0; k < t->rule[i].n_drops; k++)
            kvt_pattern_close(&t->rule[i].drop[k]);
    }
    for (int i = 0; i < t->n_strips; i++) {
        free(t->strip[i].field);
        kvt_pattern_close(&t->strip[i].drop);
    }
    char *owned[] = { t->path, t->json, t->name, t->about, t->source, t->questions, t->shots, t->tasks, t->by, t->system, t->form, t->separator, t->gold_field,
                      t->together_question, t->together_answer, t->refuse_field, t->refuse_value, t->program, t->text };
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        free(owned[i]);
    kvt_pattern_close(&t->gold_find);
    free_texts(&t->stop);
    free_texts(&t->choices);
    free_texts(&t->refuses);
    free(t->lengths.v);
    free(t->depths.v);
    free(t);
    *task = NULL;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

int kvt_task_each(const char *dir, int (*each)(void *arg, const struct kvt_task *t, struct kvt_err *err), void *arg, struct kvt_err *err)
{
    char at[800], *name[512], path[1200];
    int n = 0, rc = 0;
    DIR *d = NULL;
    for (int i = 0; !d && folder(dir, i, at, sizeof at); i++)
        d = opendir(at);
    if (!d)
        return kvt_fail(err, KVT_EINPUT, "%s: no folder of tasks", at);
    for (const struct dirent *e; n < 512 && (e = readdir(d));) {
        size_t len = strlen(e->d_name);
        if (len > 5 && !strcmp(e->d_name + len - 5, ".json") && !(name[n++] = strdup(e->d_name)))
            n--;
    }
    closedir(d);
    qsort(name, (size_t)n, sizeof *name, by_name);
    for (int i = 0; i < n; i++) {
        struct kvt_task *t = NULL;
        snprintf(path, sizeof path, "%s/%.300s", at, name[i]);
        if (!rc)
            rc = kvt_task_open(&t, path, NULL, err);
        if (!rc)
            rc = each(arg, t, err);
        kvt_task_close(&t);
        free(name[i]);
    }
    return rc;
}
