/* Questions and shots out of JSON lines. */
#include "compare/item.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/template.h"
#include "engine/textbuf.h"

#define MAX_DATA_BYTES (256u << 20)

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the task's questions"); }

/* Rows of one file, stripped, with their lines. */
struct rows { char *path; cJSON **v; int *line, n, room; const struct kvt_task *task; };

static void free_rows(struct rows *r)
{
    for (int i = 0; i < r->n; i++)
        cJSON_Delete(r->v[i]);
    free(r->v);
    free(r->line);
    free(r->path);
    *r = (struct rows){ 0 };
}

static int add_row(void *arg, const cJSON *object, int line, struct kvt_err *err)
{
    struct rows *r = arg;
    if (r->n == r->room) {
        int room = r->room ? 2 * r->room : 64;
        cJSON **v = realloc(r->v, (size_t)room * sizeof *v);
        r->v = v ? v : r->v;
        int *lines = v ? realloc(r->line, (size_t)room * sizeof *lines) : NULL;
        if (!lines)
            return no_memory(err);
        r->line = lines;
        r->room = room;
    }
    cJSON *copy = cJSON_Duplicate(object, true);
    if (!copy)
        return no_memory(err);
    r->line[r->n] = line;
    r->v[r->n++] = copy;
    for (int i = 0; i < r->task->n_strips; i++) {
        cJSON *field = cJSON_GetObjectItemCaseSensitive(copy, r->task->strip[i].field);
        if (!cJSON_IsString(field))
            continue;
        char *less = kvt_pattern_drop(r->task->strip[i].drop, field->valuestring);
        bool set = less && cJSON_SetValuestring(field, less);
        free(less);
        if (!set)
            return no_memory(err);
    }
    return 0;
}

static int read_rows(struct rows *r, const struct kvt_task *t, const char *data, const char *name, struct kvt_err *err)
{
    *r = (struct rows){ .task = t };
    if (!name)
        return 0;
    if (!data)
        return kvt_fail(err, KVT_EUSAGE, "the task '%s' reads %s: name the folder that it lies in with --data DIR", t->name, name);
    size_t cap = strlen(data) + strlen(name) + 2, bytes;
    char *text = NULL;
    if (!(r->path = malloc(cap)))
        return no_memory(err);
    snprintf(r->path, cap, "%s/%s", data, name);
    int rc = kvt_read_text(&text, &bytes, r->path, "data", MAX_DATA_BYTES, err);
    if (!rc)
        rc = kvt_json_lines(r->path, text, bytes, add_row, r, err);
    free(text);
    if (!rc && !r->n)
        rc = kvt_fail(err, KVT_EINPUT, "%s: no rows in it", r->path);
    return rc;
}

/* A field as text; NULL where it is none. */
static const char *text_of(const cJSON *row, const char *field)
{
    const cJSON *v = field ? cJSON_GetObjectItemCaseSensitive(row, field) : NULL;
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static bool same_group(const cJSON *a, const cJSON *b, const char *by)
{
    const char *x = text_of(a, by), *y = text_of(b, by);
    return !by || (x && y && !strcmp(x, y));
}

static int need_group(const struct rows *r, int i, const char *by, struct kvt_err *err)
{
    return !by || text_of(r->v[i], by) ? 0 : kvt_fail(err, KVT_EINPUT, "%s:%d: no text field '%s', which says to which task the row belongs", r->path, r->line[i], by);
}

struct kvt_item *kvt_items_add(struct kvt_items *l)
{
    if (l->n == l->room) {
        int room = l->room ? 2 * l->room : 64;
        struct kvt_item *v = realloc(l->v, (size_t)room * sizeof *v);
        if (!v)
            return NULL;
        l->v = v;
        l->room = room;
    }
    memset(&l->v[l->n], 0, sizeof *l->v);
    return &l->v[l->n++];
}

/* ---- one item ---- */

struct source {
    const struct kvt_task *t;
    const struct kvt_items_opts *o;
    struct rows questions, shots, tasks;
    struct kvt_template form, system, q_line, a_line, program;
    int n_shots;
};

static int fill_form(const struct kvt_template *form, const cJSON *row, const struct rows *r, int i, char **out, struct kvt_err *err)
{
    char where[400];
    struct kvt_textbuf b = { 0 };
    snprintf(where, sizeof where, "%.380s:%d", r->path, r->line[i]);
    int rc = kvt_template_render(form, form->n, row, where, &b, NULL, err);
    if (!rc && !b.p)
        kvt_textbuf_add(&b, "", 0);
    if (!rc && b.failed)
        rc = no_memory(err);
    if (rc || !out)
        kvt_textbuf_free(&b);
    else
        *out = b.p;
    return rc;
}

/* K rows from `at` as one: {questions} and {answers} are their lines. */
static int join_rows(const struct source *s, const struct rows *r, const int *at, int K, cJSON **out, struct kvt_err *err)
{
    struct kvt_textbuf q = { 0 }, a = { 0 };
    int rc = 0;
    for (int k = 0; k < K && !rc; k++) {
        cJSON *row = cJSON_Duplicate(r->v[at[k]], true);
        char *line = NULL;
        cJSON_DeleteItemFromObjectCaseSensitive(row, "n");
        if (!row || !cJSON_AddNumberToObject(row, "n", k + 1))
            rc = no_memory(err);
        if (!rc && !(rc = fill_form(&s->q_line, row, r, at[k], &line, err))) {
            kvt_textbuf_str(&q, k ? "\n" : "");
            kvt_textbuf_str(&q, line);
            free(line);
        }
        if (!rc && !(rc = fill_form(&s->a_line, row, r, at[k], &line, err))) {
            kvt_textbuf_str(&a, k ? "\n" : "");
            kvt_textbuf_str(&a, line);
            free(line);
        }
        cJSON_Delete(row);
    }
    *out = rc ? NULL : cJSON_CreateObject();
    if (!rc && (q.failed || a.failed || !*out || !cJSON_AddStringToObject(*out, "questions", q.p) || !cJSON_AddStringToObject(*out, "answers", a.p)))
        rc = no_memory(err);
    kvt_textbuf_free(&q);
    kvt_textbuf_free(&a);
    return rc;
}

static int put_line(struct kvt_textbuf *b, const cJSON *row, struct kvt_err *err)
{
    char *line = cJSON_PrintUnformatted(row);
    if (!line)
        return no_memory(err);
    kvt_textbuf_str(b, line);
    kvt_textbuf_str(b, "\n");
    cJSON_free(line);
    return b->failed ? no_memory(err) : 0;
}

/* The first shots of the question's group; rows of the questions' own file are left out where they are asked. */
static int pick_shots(const struct source *s, const int *own, int n_own, struct kvt_item *item, struct kvt_err *err)
{
    const struct rows *r = &s->shots;
    bool same_file = s->t->shots && s->t->questions && !strcmp(s->t->shots, s->t->questions);
    int found = 0, want = s->n_shots * s->t->together, rc = 0, *at = kvt_calloc((size_t)want + 1, sizeof *at);
    struct kvt_textbuf b = { 0 };
    if (!at)
        return no_memory(err);
    for (int i = 0; i < r->n && found < want && !rc; i++) {
        bool asked = false;
        for (int k = 0; same_file && k < n_own; k++)
            asked |= own[k] == i;
        rc = need_group(r, i, s->t->by, err);
        if (!rc && !asked && same_group(r->v[i], s->questions.v[own[0]], s->t->by))
            at[found++] = i;
    }
    if (!rc && found < want)
        rc = kvt_fail(err, KVT_EINPUT, "%s: %d shots are left for '%s', %d are asked for; --n-shots takes fewer", r->path, found, item->id, want);
    for (int i = 0; i < found && !rc; i += s->t->together) {
        cJSON *joined = NULL;
        if (s->t->together > 1)
            rc = join_rows(s, r, at + i, s->t->together, &joined, err);
        const cJSON *row = joined ? joined : r->v[at[i]];
        if (!rc)
            rc = fill_form(&s->form, row, r, at[i], NULL, err); /* says now what is missing, with its line */
        if (!rc)
            rc = put_line(&b, row, err);
        cJSON_Delete(joined);
    }
    free(at);
    if (rc)
        kvt_textbuf_free(&b);
    item->shots = b.p;
    return rc;
}

static int pick_gold(const struct source *s, const int *own, int n, struct kvt_item *item, struct kvt_err *err)
{
    const struct kvt_task *t = s->t;
    const struct rows *r = &s->questions;
    if (t->kind != KVT_TASK_GENERATE && t->kind != KVT_TASK_CHOICE)
        return 0;
    if (!(item->gold = kvt_calloc((size_t)n, sizeof *item->gold)))
        return no_memory(err);
    for (int k = 0; k < n; k++) {
        const char *text = text_of(r->v[own[k]], t->gold_field);
        struct kvt_found f = { 0 };
        if (!text)
            return kvt_fail(err, KVT_EINPUT, "%s:%d: no text field '%s', which holds the right answer", r->path, r->line[own[k]], t->gold_field);
        f.group_end = strlen(text);
        if (t->gold_find && !kvt_pattern_find(t->gold_find, text, strlen(text), 0, &f))
            return kvt_fail(err, KVT_EINPUT, "%s:%d: the pattern of 'gold' isn't found in '%s'", r->path, r->line[own[k]], t->gold_field);
        if (!(item->gold[k] = strndup(text + f.group_start, f.group_end - f.group_start)))
            return no_memory(err);
        item->n_gold++;
    }
    return 0;
}

static int pick_system(const struct source *s, int own, struct kvt_item *item, struct kvt_err *err)
{
    const struct kvt_task *t = s->t;
    const struct rows *r = t->tasks ? &s->tasks : &s->questions;
    int at = own;
    if (!t->system)
        return 0;
    for (int i = 0; t->tasks && i < r->n; i++)
        if (same_group(r->v[i], s->questions.v[own], t->by)) {
            at = i;
            break;
        } else if (i + 1 == r->n)
            return kvt_fail(err, KVT_EINPUT, "%s: no row for the task '%s' of %s:%d", r->path, item->group, s->questions.path, s->questions.line[own]);
    if (!s->system.n) /* plain text */
        return (item->system = kvt_unescape(t->system)) ? 0 : no_memory(err);
    return fill_form(&s->system, r->v[at], r, at, &item->system, err);
}

static int pick_rest(const struct source *s, int own, struct kvt_item *item, struct kvt_err *err)
{
    const struct kvt_task *t = s->t;
    const struct rows *r = &s->questions;
    if (t->kind == KVT_TASK_REFUSAL) {
        const char *v = text_of(r->v[own], t->refuse_field);
        if (!v)
            return kvt_fail(err, KVT_EINPUT, "%s:%d: no text field '%s', which says whether it should be refused", r->path, r->line[own], t->refuse_field);
        item->refuse = !strcmp(v, t->refuse_value);
        snprintf(item->group, sizeof item->group, "%s", v);
    }
    if (t->kind != KVT_TASK_PROGRAM)
        return 0;
    cJSON *row = cJSON_Duplicate(r->v[own], true);
    cJSON_DeleteItemFromObjectCaseSensitive(row, "output");
    int rc = row && cJSON_AddStringToObject(row, "output", "") ? fill_form(&s->program, row, r, own, NULL, err) : no_memory(err);
    char *text = rc ? NULL : cJSON_PrintUnformatted(row);
    if (text)
        item->program = strdup(text);
    cJSON_free(text);
    cJSON_Delete(row);
    return rc || item->program ? rc : no_memory(err);
}

static int add_item(const struct source *s, struct kvt_items *out, const int *own, int n, struct kvt_err *err)
{
    const struct rows *r = &s->questions;
    const cJSON *first = r->v[own[0]];
    const char *id = text_of(first, "id") ? text_of(first, "id") : text_of(first, "task_id"), *group = text_of(first, s->t->by);
    struct kvt_item *item = kvt_items_add(out);
    struct kvt_textbuf b = { 0 };
    cJSON *joined = NULL;
    if (!item)
        return no_memory(err);
    if (id && n == 1)
        snprintf(item->id, sizeof item->id, "%s", id);
    else
        snprintf(item->id, sizeof item->id, "%.40s/%d", s->t->name, own[0]);
    snprintf(item->group, sizeof item->group, "%s", group ? group : "");
    int rc = n > 1 ? join_rows(s, r, own, n, &joined, err) : 0;
    if (!rc)
        rc = put_line(&b, joined ? joined : first, err);
    item->question = b.p;
    cJSON_Delete(joined);
    if (!rc)
        rc = pick_gold(s, own, n, item, err);
    if (!rc && s->n_shots)
        rc = pick_shots(s, own, n, item, err);
    if (!rc)
        rc = pick_system(s, own[0], item, err);
    return rc ? rc : pick_rest(s, own[0], item, err);
}

/* ---- the list ---- */

/* Items of a group so far; group NULL: of all. */
static int in_group(const struct kvt_items *l, const char *group)
{
    int n = 0;
    for (int i = 0; i < l->n; i++)
        n += !group || !strncmp(l->v[i].group, group, sizeof l->v[i].group - 1);
    return n;
}

/* Questions in the file's order, `together` neighbours of a group at a time. */
static int add_items(struct source *s, struct kvt_items *out, struct kvt_err *err)
{
    const struct rows *r = &s->questions;
    int K = s->t->together, rc = 0, n = 0, *own = kvt_calloc((size_t)K, sizeof *own);
    bool known = !s->o->only;
    if (!own)
        return no_memory(err);
    for (int i = 0; i < r->n && !rc; i++) {
        rc = need_group(r, i, s->t->by, err);
        const char *group = rc ? NULL : text_of(r->v[i], s->t->by);
        bool fresh = !i || !same_group(r->v[i], r->v[i - 1], s->t->by);
        if (fresh)
            n = 0;
        if (rc || (s->o->only && (!group || strcmp(group, s->o->only))))
            continue;
        known = true;
        if (s->o->limit && in_group(out, group) >= s->o->limit)
            continue;
        own[n++] = i;
        if (n < K)
            continue;
        rc = add_item(s, out, own, K, err);
        n = 0;
    }
    free(own);
    if (!rc && !known)
        rc = kvt_fail(err, KVT_EINPUT, "%s: no row whose '%s' is '%.60s'", r->path, s->t->by ? s->t->by : "by", s->o->only);
    return rc;
}

/* Perplexity: the text's tokens in segments that don't overlap. */
static int add_segments(struct kvt_items *out, const struct kvt_task *t, const struct kvt_items_opts *o, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    char *text = NULL, path[1200];
    size_t bytes;
    struct kvt_tokens tokens = { 0 };
    if (!o->data)
        return kvt_fail(err, KVT_EUSAGE, "the task '%s' reads %s: name the folder that it lies in with --data DIR", t->name, t->text);
    snprintf(path, sizeof path, "%.900s/%.200s", o->data, t->text);
    int rc = kvt_read_text(&text, &bytes, path, "text", MAX_DATA_BYTES, err);
    if (!rc)
        rc = kvt_tokenize(tok, text, bytes, 0, &tokens, err);
    if (!rc && tokens.n < t->segment)
        rc = kvt_fail(err, KVT_EINPUT, "%s: %d tokens, a segment has %d", path, tokens.n, t->segment);
    for (int at = 0; at + t->segment <= tokens.n && (!o->limit || out->n < o->limit) && !rc; at += t->segment) {
        struct kvt_item *item = kvt_items_add(out);
        if (!item || !(item->token = kvt_calloc((size_t)t->segment, sizeof *item->token))) {
            rc = no_memory(err);
            break;
        }
        snprintf(item->id, sizeof item->id, "%.40s/%d", t->name, at);
        memcpy(item->token, tokens.id + at, (size_t)t->segment * sizeof *item->token);
        item->n_token = t->segment;
    }
    kvt_tokens_free(&tokens);
    free(text);
    return rc;
}

static int check_ids(const struct kvt_items *l, const struct kvt_task *t, struct kvt_err *err)
{
    for (int i = 0; i < l->n; i++) /* a few thousand at most, and each pass is short: neighbours mostly differ at once */
        for (int k = i + 1; k < l->n; k++)
            if (l->v[i].id[strlen(l->v[i].id) - 1] == l->v[k].id[strlen(l->v[k].id) - 1] && !strcmp(l->v[i].id, l->v[k].id))
                return kvt_fail(err, KVT_EINPUT, "the task '%s' has two questions with the id '%s'", t->name, l->v[i].id);
    return l->n ? 0 : kvt_fail(err, KVT_EINPUT, "the task '%s' has no question left", t->name);
}

int kvt_items_load(struct kvt_items *out, const struct kvt_task *t, const struct kvt_items_opts *o, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    struct source s = { .t = t, .o = o, .n_shots = o->n_shots >= 0 ? o->n_shots : t->n_shots };
    *out = (struct kvt_items){ 0 };
    int rc = 0;
    if (s.n_shots && !t->shots && !KVT_MADE_IS_SHOTS(t->made))
        return kvt_fail(err, KVT_EUSAGE, "the task '%s' has no shots; leave out --n-shots", t->name);
    if (o->only && !t->by)
        return kvt_fail(err, KVT_EUSAGE, "the task '%s' is a single one; leave out --only", t->name);
    if (t->kind == KVT_TASK_TEXT)
        rc = add_segments(out, t, o, tok, err);
    else if (t->made)
        rc = kvt_items_make(out, t, o, tok, err);
    else {
        rc = kvt_template_parse(&s.form, t->form ? t->form : KVT_DEFAULT_TEMPLATE, err);
        if (!rc && t->system && strchr(t->system, '{'))
            rc = kvt_template_parse(&s.system, t->system, err);
        if (!rc && t->together > 1 && !(rc = kvt_template_parse(&s.q_line, t->together_question, err)))
            rc = kvt_template_parse(&s.a_line, t->together_answer, err);
        if (!rc && t->program)
            rc = kvt_template_parse(&s.program, t->program, err);
        if (rc && err) {
            struct kvt_err why = *err;
            rc = kvt_fail(err, KVT_EINPUT, "%s: %s", t->path, why.text);
        }
        if (!rc)
            rc = read_rows(&s.questions, t, o->data, t->questions, err);
        if (!rc)
            rc = read_rows(&s.shots, t, o->data, s.n_shots ? t->shots : NULL, err);
        if (!rc)
            rc = read_rows(&s.tasks, t, o->data, t->tasks, err);
        if (!rc)
            rc = add_items(&s, out, err);
        free_rows(&s.questions);
        free_rows(&s.shots);
        free_rows(&s.tasks);
        kvt_template_free(&s.form);
        kvt_template_free(&s.system);
        kvt_template_free(&s.q_line);
        kvt_template_free(&s.a_line);
        kvt_template_free(&s.program);
    }
    if (!rc)
        rc = check_ids(out, t, err);
    if (rc)
        kvt_items_free(out);
    return rc;
}

void kvt_items_free(struct kvt_items *l)
{
    for (int i = 0; i < l->n; i++) {
        struct kvt_item *item = &l->v[i];
        for (int k = 0; k < item->n_gold; k++)
            free(item->gold[k]);
        free(item->gold);
        free(item->context);
        free(item->shots);
        free(item->question);
        free(item->system);
        free(item->program);
        free(item->token);
    }
    free(l->v);
    *l = (struct kvt_items){ 0 };
}

/* The form up to where the answer begins, as the prompt's text. */
static int alone_text(const struct kvt_task *t, const struct kvt_item *i, char **out, struct kvt_err *err)
{
    struct kvt_template form = { 0 };
    struct kvt_textbuf b = { 0 };
    cJSON *row = cJSON_Parse(i->question);
    int rc = row ? kvt_template_parse(&form, t->form ? t->form : KVT_DEFAULT_TEMPLATE, err) : no_memory(err);
    if (!rc)
        rc = kvt_template_render(&form, form.cut >= 0 ? form.cut : form.n, row, i->id, &b, NULL, err);
    while (!rc && b.n && strchr(" \t", b.p[b.n - 1])) /* the space belongs to the first token of the answer */
        b.p[--b.n] = 0;
    if (rc)
        kvt_textbuf_free(&b);
    *out = b.p;
    kvt_template_free(&form);
    cJSON_Delete(row);
    return rc;
}

int kvt_item_prompt(struct kvt_prompt *out, const struct kvt_task *t, const struct kvt_item *i, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    *out = (struct kvt_prompt){ .question_start = -1 };
    if (t->kind == KVT_TASK_TEXT) {
        int n = i->n_token / 2;
        out->text = kvt_calloc(1, 1);
        out->tokens.id = kvt_calloc((size_t)n, sizeof *out->tokens.id);
        out->tokens.start = kvt_calloc((size_t)n, sizeof *out->tokens.start);
        out->tokens.end = kvt_calloc((size_t)n, sizeof *out->tokens.end);
        if (!out->text || !out->tokens.id || !out->tokens.start || !out->tokens.end) {
            kvt_prompt_free(out);
            return no_memory(err);
        }
        memcpy(out->tokens.id, i->token, (size_t)n * sizeof *i->token);
        out->tokens.n = n;
        return 0;
    }
    struct kvt_prompt_opts o = { .template_text = i->context ? "{question}" : t->form, .shot_sep = t->separator, .system = i->system, .chat = t->chat };
    char *alone = NULL;
    int rc = 0;
    if (i->context || i->shots || i->system) {
        o.text = i->context, o.shots_file = i->shots ? "shots" : NULL, o.shots_jsonl = i->shots;
        o.question_file = i->id, o.question_jsonl = i->question;
    } else { /* nothing in front of the question: it is the text, and its last tokens stand for what is asked */
        rc = alone_text(t, i, &alone, err);
        o.text = alone, o.template_text = NULL, o.shot_sep = NULL;
    }
    rc = rc ? rc : kvt_prompt_build(out, tok, &o, err);
    free(alone);
    return rc;
}
