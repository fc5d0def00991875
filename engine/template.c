/* Templates and the JSON objects that fill them. */
#include "engine/template.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "engine/json.h"

#define MAX_LINE_BYTES (16 << 20)
#define MAX_PARTS 256

char *kvt_unescape(const char *s)
{
    char *out = malloc(strlen(s) + 1), *o = out;
    if (!out)
        return NULL;
    for (; *s; s++) {
        char c = *s;
        if (c == '\\' && (s[1] == 'n' || s[1] == 't' || s[1] == '\\')) {
            s++;
            c = *s == 'n' ? '\n' : *s == 't' ? '\t' : '\\';
        }
        *o++ = c;
    }
    *o = 0;
    return out;
}

static bool one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(name, *list) == 0)
            return true;
    return false;
}

/* Where a template's answer begins: at the first field with a name that says so, else at its last field. */
static void find_answer(struct kvt_template *t)
{
    static const char *const reasons[] = {"rationale", "cot", "reasoning", "solution", "explanation", NULL};
    static const char *const answers[] = {"answer", "output", "response", "target", "completion", "canonical_solution", NULL};
    int fields = 0, last_field = -1;
    t->cut = t->last = -1;
    for (int i = 0; i < t->n; i++) {
        if (!t->part[i].field)
            continue;
        fields++;
        last_field = i;
        bool reason = one_of(t->part[i].text, reasons), answer = one_of(t->part[i].text, answers);
        if (t->cut < 0 && (reason || answer))
            t->cut = i;
        else if (t->cut >= 0 && answer && one_of(t->part[t->cut].text, reasons))
            t->last = i;
    }
    if (t->cut < 0 && fields > 1)
        t->cut = last_field;
}

static int add_part(struct kvt_template *t, const char *s, size_t n, bool field, int index, struct kvt_err *err)
{
    if (!n && !field)
        return 0;
    if (t->n == MAX_PARTS)
        return kvt_fail(err, KVT_EUSAGE, "the template has more than %d parts", MAX_PARTS);
    char *copy = malloc(n + 1);
    if (!copy)
        return kvt_fail(err, KVT_ENOMEM, "no memory for the template");
    memcpy(copy, s, n);
    copy[n] = 0;
    t->part[t->n++] = (struct kvt_template_part){copy, field, index};
    return 0;
}

/* s stands behind '{'; fills the field and returns what follows '}', or NULL. */
static const char *parse_field(const char *s, size_t *name_n, int *index)
{
    const char *p = s;
    *index = -1;
    if (!isalpha((unsigned char)*p) && *p != '_')
        return NULL;
    while (isalnum((unsigned char)*p) || *p == '_')
        p++;
    *name_n = (size_t)(p - s);
    if (*p == '[') {
        int v = 0, digits = 0;
        for (p++; isdigit((unsigned char)*p) && digits < 4; p++, digits++)
            v = 10 * v + (*p - '0');
        if (!digits || *p++ != ']')
            return NULL;
        *index = v;
    }
    return *p == '}' ? p + 1 : NULL;
}

static int parse(struct kvt_template *t, const char *text, struct kvt_err *err)
{
    struct kvt_textbuf literal = {0};
    int rc = 0;
    bool any = false;
    for (const char *s = text; *s && !rc;) {
        if ((s[0] == '{' && s[1] == '{') || (s[0] == '}' && s[1] == '}')) {
            kvt_textbuf_add(&literal, s, 1);
            s += 2;
        } else if (*s == '{') {
            size_t n;
            int index;
            const char *end = parse_field(s + 1, &n, &index);
            if (!end) {
                rc = kvt_fail(err, KVT_EUSAGE, "template: '{' at character %d starts no {field}; write {{ for a brace",
                              (int)(s - text) + 1);
                break;
            }
            rc = literal.n ? add_part(t, literal.p, literal.n, false, -1, err) : 0;
            if (!rc)
                rc = add_part(t, s + 1, n, true, index, err);
            literal.n = 0;
            any = true;
            s = end;
        } else {
            kvt_textbuf_add(&literal, s++, 1);
        }
    }
    if (!rc && literal.failed)
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the template");
    if (!rc && literal.n)
        rc = add_part(t, literal.p, literal.n, false, -1, err);
    if (!rc && !any)
        rc = kvt_fail(err, KVT_EUSAGE, "the template names no field; an example is '" KVT_DEFAULT_TEMPLATE "'");
    kvt_textbuf_free(&literal);
    return rc;
}

int kvt_template_parse(struct kvt_template *t, const char *text, struct kvt_err *err)
{
    *t = (struct kvt_template){0};
    char *plain = kvt_unescape(text);
    t->part = kvt_calloc(MAX_PARTS, sizeof *t->part);
    int rc = plain && t->part ? parse(t, plain, err) : kvt_fail(err, KVT_ENOMEM, "no memory for the template");
    free(plain);
    if (rc)
        kvt_template_free(t);
    else
        find_answer(t);
    return rc;
}

void kvt_template_free(struct kvt_template *t)
{
    for (int i = 0; i < t->n; i++)
        free(t->part[i].text);
    free(t->part);
    *t = (struct kvt_template){0};
}

bool kvt_template_asks(const struct kvt_template *t, const char *field)
{
    for (int i = 0; i < t->n; i++)
        if (t->part[i].field && strcmp(t->part[i].text, field) == 0)
            return true;
    return false;
}

static int missing(const cJSON *object, const char *field, const char *where, struct kvt_err *err)
{
    char names[160];
    size_t n = 0;
    names[0] = 0;
    for (const cJSON *c = object->child; c && n < sizeof names; c = c->next)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%.40s", n ? ", " : "", c->string ? c->string : "");
    return kvt_fail(err, KVT_EINPUT, "%s: no field '%s', which the template asks for (it has: %s)", where, field, names);
}

static int render_field(const struct kvt_template_part *part, const cJSON *object, const char *where, struct kvt_textbuf *out,
                        struct kvt_err *err)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(object, part->text);
    if (!v)
        return missing(object, part->text, where, err);
    if (part->index >= 0) {
        int n = cJSON_IsArray(v) ? cJSON_GetArraySize(v) : 0;
        if (part->index >= n)
            return kvt_fail(err, KVT_EINPUT, "%s: field '%s' has no element %d", where, part->text, part->index);
        v = cJSON_GetArrayItem(v, part->index);
    }
    if (cJSON_IsString(v)) {
        kvt_textbuf_str(out, v->valuestring);
    } else if (cJSON_IsNumber(v) || cJSON_IsBool(v)) {
        char *s = cJSON_PrintUnformatted(v);
        if (!s)
            return kvt_fail(err, KVT_ENOMEM, "%s: no memory", where);
        kvt_textbuf_str(out, s);
        cJSON_free(s);
    } else {
        return kvt_fail(err, KVT_EINPUT, "%s: field '%s' is neither text nor a number%s", where, part->text,
                        cJSON_IsArray(v) ? "; write {name[0]} for the first element of a list" : "");
    }
    return 0;
}

int kvt_template_render(const struct kvt_template *t, int to, const cJSON *object, const char *where, struct kvt_textbuf *out,
                        size_t *start, struct kvt_err *err)
{
    for (int i = 0; i < to; i++) {
        if (start)
            start[i] = out->n;
        int rc = 0;
        if (t->part[i].field)
            rc = render_field(&t->part[i], object, where, out, err);
        else
            kvt_textbuf_str(out, t->part[i].text);
        if (rc)
            return rc;
    }
    if (start)
        start[to] = out->n;
    return out->failed ? kvt_fail(err, KVT_ENOMEM, "%s: no memory for the prompt", where) : 0;
}

int kvt_json_lines(const char *path, const char *text, size_t bytes, kvt_object_fn each, void *arg, struct kvt_err *err)
{
    int line = 0, rc = 0;
    for (size_t at = 0; at < bytes && !rc;) {
        const char *s = text + at, *eol = memchr(s, '\n', bytes - at);
        size_t n = eol ? (size_t)(eol - s) : bytes - at;
        at += n + 1;
        line++;
        while (n && (s[n - 1] == '\r' || s[n - 1] == ' ' || s[n - 1] == '\t'))
            n--;
        if (!n)
            continue;
        if (n > MAX_LINE_BYTES)
            return kvt_fail(err, KVT_EINPUT, "%s:%d: a line of more than %d MiB", path, line, MAX_LINE_BYTES >> 20);
        if (kvt_json_zero_escape(s, n))
            return kvt_fail(err, KVT_EINPUT, "%s:%d: a text with a zero character (\\u0000)", path, line);
        const char *end = NULL;
        cJSON *v = cJSON_ParseWithLengthOpts(s, n, &end, 0);
        if (!v || end != s + n)
            rc = kvt_fail(err, KVT_EINPUT, "%s:%d: not valid JSON at character %d; every line must be one object", path, line,
                          (int)(end ? end - s : 0) + 1);
        else if (!cJSON_IsObject(v))
            rc = kvt_fail(err, KVT_EINPUT, "%s:%d: not a JSON object; every line must be one object", path, line);
        else
            rc = each(arg, v, line, err);
        cJSON_Delete(v);
    }
    return rc;
}
