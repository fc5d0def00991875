/* Composing a prompt: pieces of text are put together and every piece leaves its span; tokens come last. */
#include "kvt/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/chat.h"
#include "engine/spans.h"
#include "engine/template.h"
#include "engine/textbuf.h"
#include "engine/tokenizer.h"
#include "engine/unicode.h"

#define MAX_TEXT_BYTES (256u << 20)

struct composer {
    const struct kvt_prompt_opts *o;
    struct kvt_template form;
    char *sep;                 /* between shots */
    size_t *start;             /* (form.n + 1) offsets of a shot's parts */
    struct kvt_textbuf text;
    struct kvt_spans spans;
    int n_shots;
    cJSON **shot;              /* (n_read) objects of the file of shots, until they are written; (n_read) their lines */
    int *line, n_read;
    cJSON *question;           /* the fields of the question that is asked, or NULL */
    const char *question_where;
    size_t prompt_start;       /* byte where the PROMPT span begins; SIZE_MAX: there is none */
    struct kvt_chat chat;      /* name NULL: plain text */
};

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for the prompt"); }

void kvt_prompt_free(struct kvt_prompt *p)
{
    free(p->text);
    free(p->span);
    kvt_tokens_free(&p->tokens);
    *p = (struct kvt_prompt){.question_start = -1};
}

static int check_opts(const struct kvt_prompt_opts *o, struct kvt_err *err)
{
    int sources = !!o->text_file + !!o->text + !!o->shots_file;
    if (sources > 1)
        return kvt_fail(err, KVT_EUSAGE, "give a prompt file, a prompt text or a file of shots, not several of them");
    if (o->question && o->question_file)
        return kvt_fail(err, KVT_EUSAGE, "give a question or a file with one, not both");
    if (!sources && !o->question && !o->question_file)
        return kvt_fail(err, KVT_EUSAGE, "nothing to read: give a prompt (-f FILE), shots (--shots FILE) or a question");
    if (o->n_shots < 0 || (o->n_shots > 0 && !o->shots_file))
        return kvt_fail(err, KVT_EUSAGE, "a number of shots needs a file of shots");
    if (o->shot_order && strcmp(o->shot_order, "file") && !o->shots_file)
        return kvt_fail(err, KVT_EUSAGE, "an order of shots needs a file of shots");
    if (o->thinking != KVT_THINKING_MODEL && !o->chat)
        return kvt_fail(err, KVT_EUSAGE, "thinking is part of the model's chat form; give --chat too");
    if (o->shot_sep && !*o->shot_sep)
        return kvt_fail(err, KVT_EUSAGE, "the separator of shots is empty");
    return 0;
}

/* ---- shots from JSON ---- */

/* Where the label of a field begins: behind the first line end of the literal text in front of it ("\nAnswer: "), or
 * at that text if it has none, or at the field. */
static size_t label_start(const struct composer *c, int field)
{
    if (field == 0 || c->form.part[field - 1].field)
        return c->start[field];
    size_t at = c->start[field - 1], end = c->start[field];
    const char *nl = memchr(c->text.p + at, '\n', end - at);
    if (!nl)
        return at;
    size_t i = (size_t)(nl - c->text.p);
    while (i < end && (c->text.p[i] == '\n' || c->text.p[i] == '\r'))
        i++;
    return i;
}

/* number: its place in the file, from 1, whatever the order */
static void add_shot_span(struct composer *c, int number, size_t start, size_t end)
{
    char name[24];
    c->n_shots++;
    snprintf(name, sizeof name, "shot %d", number);
    kvt_spans_add(&c->spans, KVT_SPAN_SHOT, name, start, end);
}

/* Line ends at the end of a field ("...\n") would make the separator longer from shot to shot. */
static void trim_end(struct kvt_textbuf *b, size_t from, const char *chars)
{
    while (b->n > from && strchr(chars, b->p[b->n - 1]))
        b->p[--b->n] = 0;
}

static int add_shot(struct composer *c, int i, struct kvt_err *err)
{
    const cJSON *object = c->shot[i];
    char where[300];
    snprintf(where, sizeof where, "%.280s:%d", c->o->shots_file, c->line[i]);
    if (c->n_shots)
        kvt_textbuf_str(&c->text, c->sep);
    size_t from = c->text.n;
    int rc = kvt_template_render(&c->form, c->form.n, object, where, &c->text, c->start, err);
    if (rc)
        return rc;
    trim_end(&c->text, from, " \n\r\t");
    if (c->text.n == from)
        return kvt_fail(err, KVT_EINPUT, "%s: an empty shot", where);
    size_t end = c->text.n;
    add_shot_span(c, i + 1, from, end);
    if (c->form.cut >= 0)
        kvt_spans_shot(&c->spans, c->text.p, from, end, label_start(c, c->form.cut),
                       c->form.last >= 0 ? label_start(c, c->form.last) : 0);
    return 0;
}

static int read_shot(void *arg, const cJSON *object, int line, struct kvt_err *err)
{
    struct composer *c = arg;
    if (c->o->n_shots && c->n_read == c->o->n_shots)
        return 0;
    if (!(c->n_read & (c->n_read - 1))) { /* room doubles */
        size_t room = c->n_read ? 2 * (size_t)c->n_read : 1;
        cJSON **shot = realloc(c->shot, room * sizeof *shot);
        c->shot = shot ? shot : c->shot;
        int *lines = shot ? realloc(c->line, room * sizeof *lines) : NULL;
        if (!lines)
            return no_memory(err);
        c->line = lines;
    }
    c->line[c->n_read] = line;
    c->shot[c->n_read] = cJSON_Duplicate(object, true);
    return c->shot[c->n_read] ? (c->n_read++, 0) : no_memory(err);
}

/* The objects of a file, or of the text that the caller has of it. */
static int each_line(struct composer *c, const char *path, const char *given, const char *what, kvt_object_fn each, struct kvt_err *err)
{
    char *text = NULL;
    size_t bytes = given ? strlen(given) : 0;
    int rc = given ? 0 : kvt_read_text(&text, &bytes, path, what, MAX_TEXT_BYTES, err);
    if (!rc)
        rc = kvt_json_lines(path, given ? given : text, bytes, each, c, err);
    free(text);
    return rc;
}

/* splitmix64: the next number of a seed's row. */
static uint64_t drawn(uint64_t *x)
{
    uint64_t z = *x += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* order (n): which of the file's shots comes first, second ... from 0. */
static int shot_order(const char *how, int *order, int n, struct kvt_err *err)
{
    char *end;
    for (int i = 0; i < n; i++)
        order[i] = i;
    if (!how || !strcmp(how, "file"))
        return 0;
    if (!strcmp(how, "reverse")) {
        for (int i = 0; i < n; i++)
            order[i] = n - 1 - i;
        return 0;
    }
    if (!strncmp(how, "seed:", 5)) {
        uint64_t x = strtoull(how + 5, &end, 10);
        if (how[5] < '0' || how[5] > '9' || *end)
            return kvt_fail(err, KVT_EUSAGE, "order of shots '%.40s': a seed is a whole number; write seed:7", how);
        for (int i = n - 1; i > 0; i--) { /* Fisher and Yates; 2^64 is far above n: no order is favoured that could be seen */
            int j = (int)(drawn(&x) % (uint64_t)(i + 1)), t = order[i];
            order[i] = order[j], order[j] = t;
        }
        return 0;
    }
    const char *p = how;
    for (int i = 0; i < n; i++, p = end + (*end == ',')) {
        long place = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : 0;
        bool twice = false;
        for (int k = 0; k < i; k++)
            twice |= order[k] == place - 1;
        if (place < 1 || place > n || twice || *end != (i + 1 < n ? ',' : 0))
            return kvt_fail(err, KVT_EUSAGE, "order of shots '%.60s' isn't file, reverse, seed:N or each of the places 1 to %d once, as %s", how, n, n > 2 ? "3,1,2" : "2,1");
        order[i] = (int)place - 1;
    }
    return 0;
}

static int add_shots(struct composer *c, struct kvt_err *err)
{
    int rc = each_line(c, c->o->shots_file, c->o->shots_jsonl, "file of shots", read_shot, err);
    if (!rc && !c->n_read)
        rc = kvt_fail(err, KVT_EINPUT, "%s: no shots in it", c->o->shots_file);
    if (!rc && c->n_read < c->o->n_shots)
        rc = kvt_fail(err, KVT_EINPUT, "%s: it has %d shots, %d were asked for", c->o->shots_file, c->n_read, c->o->n_shots);
    int *order = rc ? NULL : calloc((size_t)c->n_read, sizeof *order);
    if (!rc)
        rc = order ? shot_order(c->o->shot_order, order, c->n_read, err) : no_memory(err);
    for (int i = 0; i < c->n_read && !rc; i++)
        rc = add_shot(c, order[i], err);
    free(order);
    for (int i = 0; i < c->n_read; i++)
        cJSON_Delete(c->shot[i]);
    free(c->shot);
    free(c->line);
    c->shot = NULL, c->line = NULL, c->n_read = 0;
    return rc;
}

/* ---- the question ---- */

static int take_first(void *arg, const cJSON *object, int line, struct kvt_err *err)
{
    struct composer *c = arg;
    (void)line;
    if (c->question)
        return 0;
    c->question = cJSON_Duplicate(object, 1);
    return c->question ? 0 : no_memory(err);
}

static int read_question(struct composer *c, struct kvt_err *err)
{
    const struct kvt_prompt_opts *o = c->o;
    if (o->question_file) {
        int rc = each_line(c, o->question_file, o->question_jsonl, "question", take_first, err);
        c->question_where = o->question_file;
        if (!rc && !c->question)
            rc = kvt_fail(err, KVT_EINPUT, "%s: no question in it", o->question_file);
        return rc;
    }
    if (!o->question)
        return 0;
    if (!*o->question)
        return kvt_fail(err, KVT_EINPUT, "the question is empty");
    if (!kvt_template_asks(&c->form, "question"))
        return kvt_fail(err, KVT_EUSAGE, "the template has no {question} to put the question in; name it so, or give the question "
                        "as a JSON file");
    c->question = cJSON_CreateObject();
    c->question_where = "the question";
    return c->question && cJSON_AddStringToObject(c->question, "question", o->question) ? 0 : no_memory(err);
}

static int add_question(struct composer *c, struct kvt_err *err)
{
    if (c->text.n && (c->n_shots || c->o->text || c->o->text_file))
        kvt_textbuf_str(&c->text, c->sep);
    c->prompt_start = c->text.n;
    int to = c->form.cut >= 0 ? c->form.cut : c->form.n;
    int rc = kvt_template_render(&c->form, to, c->question, c->question_where, &c->text, NULL, err);
    if (!rc && c->text.n == c->prompt_start)
        rc = kvt_fail(err, KVT_EINPUT, "%s is empty", c->question_where);
    if (!rc) /* "Answer:", not "Answer: ": the space belongs to the first token of the answer */
        trim_end(&c->text, c->prompt_start, " \t");
    return rc;
}

/* ---- plain text ---- */

static bool blank(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r\n", s[i]) || !s[i])
            return false;
    return true;
}

static const char *find(const char *s, const char *end, const char *what, size_t n)
{
    for (; s + n <= end; s++)
        if (memcmp(s, what, n) == 0)
            return s;
    return NULL;
}

/* Pieces between separators: shots, and the last one is the question unless another is asked. */
static void split_shots(struct composer *c, size_t from)
{
    const char *text = c->text.p, *end = text + c->text.n, *at = text + from;
    size_t n_sep = strlen(c->sep), last_start = SIZE_MAX, last_end = 0;
    while (at < end) {
        const char *stop = find(at, end, c->sep, n_sep), *next = stop ? stop + n_sep : end;
        if (!stop)
            stop = end;
        if (!blank(at, (size_t)(stop - at))) {
            if (last_start != SIZE_MAX) {
                add_shot_span(c, c->n_shots + 1, last_start, last_end);
                kvt_spans_shot(&c->spans, text, last_start, last_end, kvt_spans_find_answer(text, last_start, last_end), 0);
            }
            last_start = (size_t)(at - text);
            last_end = (size_t)(stop - text);
        }
        at = next;
    }
    if (last_start == SIZE_MAX)
        return;
    if (c->question) {
        add_shot_span(c, c->n_shots + 1, last_start, last_end);
        kvt_spans_shot(&c->spans, text, last_start, last_end, kvt_spans_find_answer(text, last_start, last_end), 0);
    } else {
        c->prompt_start = last_start;
    }
}

static int add_text(struct composer *c, struct kvt_err *err)
{
    const struct kvt_prompt_opts *o = c->o;
    size_t from = c->text.n;
    if (o->text_file) {
        char *text;
        size_t bytes;
        int rc = kvt_read_text(&text, &bytes, o->text_file, "prompt", MAX_TEXT_BYTES, err);
        if (rc)
            return rc;
        kvt_textbuf_add(&c->text, text, bytes);
        free(text);
    } else {
        kvt_textbuf_str(&c->text, o->text);
    }
    if (c->text.failed)
        return no_memory(err);
    if (blank(c->text.p + from, c->text.n - from))
        return kvt_fail(err, KVT_EINPUT, "%s%sthe prompt is empty", o->text_file ? o->text_file : "", o->text_file ? ": " : "");
    if (o->shot_sep)
        split_shots(c, from);
    return 0;
}

/* ---- the whole ---- */

static int add_content(struct composer *c, struct kvt_err *err)
{
    int rc = read_question(c, err);
    if (!rc && c->o->shots_file)
        rc = add_shots(c, err);
    else if (!rc && (c->o->text || c->o->text_file))
        rc = add_text(c, err);
    if (!rc && c->question)
        rc = add_question(c, err);
    return rc;
}

/* Whether the chat form has what is asked of it. */
static int check_chat(const struct kvt_chat *chat, const struct kvt_prompt_opts *o, struct kvt_err *err)
{
    bool given = o->system && *o->system;
    if (given && !chat->system_open)
        return kvt_fail(err, KVT_EUSAGE, "the model's chat form (%s) has no place for a system text; put it into the prompt", chat->name);
    if (!o->system && chat->own_system)
        return kvt_fail(err, KVT_EUSAGE, "without a system text the model's template (%s) puts in one of its own, with today's date or too long to "
                        "be known here; give one with --system", chat->name);
    bool off = o->thinking == KVT_THINKING_OFF, on = o->thinking == KVT_THINKING_ON;
    if ((off && !chat->no_thinking) || (on && !chat->no_thinking && !chat->thinks))
        return kvt_fail(err, KVT_EUSAGE, "the model's chat form (%s) can't switch thinking %s", chat->name, on ? "on" : "off");
    return 0;
}

static void add_token(struct composer *c, const struct kvt_tokenizer *tok, int32_t id)
{
    size_t n;
    const char *s = kvt_token_bytes(tok, id, &n); /* "" for -1 */
    kvt_textbuf_add(&c->text, s, n);
}

/* The system text in its form, and its span. Plain text: in front, as if it were a shot. */
static void add_system(struct composer *c, const struct kvt_tokenizer *tok, const char *system, size_t *from, size_t *to)
{
    const struct kvt_chat *chat = &c->chat;
    bool as_chat = chat->name, there = system && *system;
    size_t start = c->text.n;
    *from = *to = start;
    if (!there && !(as_chat && chat->system_always))
        return;
    kvt_textbuf_str(&c->text, as_chat ? chat->system_open : "");
    *from = c->text.n;
    size_t lead = 0, n = there ? strlen(system) : 0;
    if (chat->trim & KVT_CHAT_TRIM_SYSTEM)
        n = kvt_text_trim(system ? system : "", n, &lead);
    kvt_textbuf_add(&c->text, there ? system + lead : "", n);
    *to = c->text.n;
    add_token(c, tok, chat->eos ? tok->eos : -1);
    kvt_textbuf_str(&c->text, as_chat ? chat->system_close : "");
    if (!c->text.failed && c->text.n > start)
        kvt_spans_add(&c->spans, KVT_SPAN_SYSTEM, "system", start, c->text.n);
    kvt_textbuf_str(&c->text, as_chat ? "" : c->sep);
}

/* Takes white space off the ends of the user's text [from, end), as some templates do; what was found in it moves along. */
static void trim_user(struct composer *c, size_t from, bool front)
{
    if (c->text.failed)
        return;
    size_t lead = 0, n = kvt_text_trim(c->text.p + from, c->text.n - from, &lead);
    if (!front) {
        n += lead;
        lead = 0;
    }
    memmove(c->text.p + from, c->text.p + from + lead, n);
    c->text.n = from + n;
    c->text.p[c->text.n] = 0;
    int kept = 0;
    for (int i = 0; i < c->spans.n; i++) {
        struct kvt_span *s = &c->spans.v[i];
        size_t ends[2] = {(size_t)s->byte_start, (size_t)s->byte_end};
        for (int k = 0; k < 2; k++)
            if (ends[k] > from) {
                ends[k] = ends[k] - from > lead ? ends[k] - lead : from;
                ends[k] = ends[k] < c->text.n ? ends[k] : c->text.n;
            }
        s->byte_start = (int32_t)ends[0];
        s->byte_end = (int32_t)ends[1];
        if (s->byte_start < s->byte_end)
            c->spans.v[kept++] = *s;
    }
    c->spans.n = kept;
    if (c->prompt_start != SIZE_MAX && c->prompt_start > from)
        c->prompt_start = c->prompt_start - from > lead ? c->prompt_start - lead : from;
}

/* [bos] [system turn] user turn, the assistant's opened; or the plain text. [from, to): what was given. */
static int lay_out(struct composer *c, const struct kvt_tokenizer *tok, size_t system[2], size_t given[2], struct kvt_err *err)
{
    const struct kvt_prompt_opts *o = c->o;
    const struct kvt_chat *chat = &c->chat;
    const char *text = o->system ? o->system : chat->system.p;
    add_token(c, tok, chat->bos && !o->no_bos ? tok->bos : -1);
    if (!chat->folded)
        add_system(c, tok, text, &system[0], &system[1]);
    size_t user = c->text.n;
    kvt_textbuf_str(&c->text, chat->name ? chat->user_open : "");
    size_t turn = c->text.n;
    if (chat->folded)
        add_system(c, tok, text, &system[0], &system[1]);
    given[0] = c->text.n;
    int rc = add_content(c, err);
    if (rc || !chat->name) {
        given[1] = c->text.n;
        return rc;
    }
    if (chat->trim & (KVT_CHAT_TRIM_USER | KVT_CHAT_TRIM_TURN))
        trim_user(c, given[0], chat->trim & KVT_CHAT_TRIM_USER || given[0] == turn);
    given[1] = c->text.n;
    add_token(c, tok, chat->eos ? tok->eos : -1);
    kvt_textbuf_str(&c->text, chat->user_close);
    if (!c->text.failed)
        kvt_spans_add(&c->spans, KVT_SPAN_USER, "user", user, c->text.n);
    size_t assistant = c->text.n;
    kvt_textbuf_str(&c->text, chat->assistant);
    if (o->thinking == KVT_THINKING_OFF)
        kvt_textbuf_str(&c->text, chat->no_thinking);
    if (!c->text.failed && c->text.n > assistant)
        kvt_spans_add(&c->spans, KVT_SPAN_ASSISTANT, "assistant", assistant, c->text.n);
    return 0;
}

/* Text, structure and marks. */
static int compose(struct composer *c, const struct kvt_tokenizer *tok, bool *given_bos, struct kvt_err *err)
{
    size_t system[2] = {0, 0}, given[2] = {0, 0};
    int rc = c->o->chat ? kvt_chat_open(&c->chat, tok, err) : 0;
    if (!rc && c->o->chat)
        rc = check_chat(&c->chat, c->o, err);
    if (!rc)
        rc = lay_out(c, tok, system, given, err);
    if (!rc && (c->text.failed || c->spans.failed))
        rc = no_memory(err);
    if (rc)
        return rc;
    if (c->text.n > INT32_MAX - 1)
        return kvt_fail(err, KVT_EINPUT, "the prompt has %zu bytes, more than can be traced", c->text.n);
    size_t bad;
    if (!kvt_utf8_valid(c->text.p, c->text.n, &bad))
        return kvt_fail(err, KVT_EINPUT, "the prompt is not valid UTF-8 at byte %zu (0x%02x); convert it to UTF-8", bad,
                        (unsigned char)c->text.p[bad]);
    size_t n;
    const char *bos = kvt_token_bytes(tok, tok->bos, &n);
    bool would = c->o->chat || (tok->add_bos && !c->o->no_bos); /* else nothing would be put in front anyway */
    *given_bos = would && tok->bos >= 0 && n && given[1] - given[0] >= n && memcmp(c->text.p + given[0], bos, n) == 0;
    if (c->prompt_start != SIZE_MAX)
        kvt_spans_add(&c->spans, KVT_SPAN_PROMPT, "question", c->prompt_start, c->text.n);
    if (system[1] > system[0])
        rc = kvt_spans_scan(&c->spans, c->text.p, system[0], system[1], err);
    if (!rc)
        rc = kvt_spans_scan(&c->spans, c->text.p, given[0], given[1], err);
    return rc;
}

static int fill(struct kvt_prompt *out, struct composer *c, const struct kvt_tokenizer *tok, struct kvt_err *err)
{
    const struct kvt_prompt_opts *o = c->o;
    int rc = kvt_template_parse(&c->form, o->template_text ? o->template_text : KVT_DEFAULT_TEMPLATE, err);
    if (rc)
        return rc;
    c->sep = kvt_unescape(o->shot_sep ? o->shot_sep : "\n\n");
    c->start = calloc((size_t)c->form.n + 1, sizeof *c->start);
    if (!c->sep || !c->start)
        return no_memory(err);
    if ((rc = compose(c, tok, &out->given_bos, err)))
        return rc;
    out->chat = c->chat.name;
    unsigned flags = KVT_TOK_SPECIAL | (o->no_bos || o->chat ? 0 : KVT_TOK_BOS); /* a chat form says itself whether there is one */
    if ((rc = kvt_tokenize(tok, c->text.p, c->text.n, flags, &out->tokens, err)))
        return rc;
    kvt_spans_finish(&c->spans, c->text.p, &out->tokens);
    out->text = c->text.p;
    out->bytes = c->text.n;
    out->span = c->spans.v;
    out->n_spans = c->spans.n;
    c->text = (struct kvt_textbuf){0};
    c->spans = (struct kvt_spans){0};
    for (int i = 0; i < out->n_spans; i++)
        if (out->span[i].kind == KVT_SPAN_PROMPT)
            out->question_start = out->span[i].start;
    return 0;
}

int kvt_prompt_build(struct kvt_prompt *out, const struct kvt_tokenizer *tok, const struct kvt_prompt_opts *o, struct kvt_err *err)
{
    *out = (struct kvt_prompt){.question_start = -1};
    struct composer c = {.o = o, .prompt_start = SIZE_MAX};
    int rc = check_opts(o, err);
    if (!rc)
        rc = fill(out, &c, tok, err);
    kvt_template_free(&c.form);
    kvt_textbuf_free(&c.text);
    kvt_chat_close(&c.chat);
    cJSON_Delete(c.question);
    free(c.spans.v);
    free(c.sep);
    free(c.start);
    if (rc)
        kvt_prompt_free(out);
    return rc;
}

int kvt_prompt_shots(const struct kvt_prompt *p, int n_context, int32_t *range, int cap)
{
    int n = 0;
    for (int i = 0; i < p->n_spans && n < cap; i++) {
        const struct kvt_span *s = &p->span[i];
        if (s->kind != KVT_SPAN_SHOT || s->end > n_context || s->start >= s->end)
            continue;
        range[2 * n] = s->start;
        range[2 * n + 1] = s->end;
        n++;
    }
    return n;
}
