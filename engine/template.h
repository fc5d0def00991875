/* The form of a shot: "Question: {question}\nAnswer: {answer}". {name} is a field of a JSON object, {name[2]} an element of
 * a list, {{ and }} are braces, \n, \t and \\ a line end, a tab and a backslash. */
#ifndef KVT_ENGINE_TEMPLATE_H
#define KVT_ENGINE_TEMPLATE_H

#include <cjson/cJSON.h>

#include "engine/textbuf.h"

#define KVT_DEFAULT_TEMPLATE "Question: {question}\\nAnswer: {answer}"

struct kvt_template_part {
    char *text;                /* literal text, or the name of a field */
    bool field;
    int index;                 /* of a list, or -1 */
};

struct kvt_template {
    struct kvt_template_part *part;
    int n;
    int cut;                   /* the field where the answer begins; -1: the template has no answer */
    int last;                  /* the field after a rationale that holds the bare answer; -1: none */
};

int kvt_template_parse(struct kvt_template *t, const char *text, struct kvt_err *err);
void kvt_template_free(struct kvt_template *t);
bool kvt_template_asks(const struct kvt_template *t, const char *field);

/* Appends parts [0, to) filled from object. start, if not NULL: (n + 1) offsets in out of every part. where: "file:line". */
int kvt_template_render(const struct kvt_template *t, int to, const cJSON *object, const char *where, struct kvt_textbuf *out,
                        size_t *start, struct kvt_err *err);

/* \n, \t and \\ in an option's text; malloc'ed, NULL without memory. */
char *kvt_unescape(const char *s);

/* Calls each for every object of a JSON-lines text, with its line number; nonzero stops and is returned. */
typedef int (*kvt_object_fn)(void *arg, const cJSON *object, int line, struct kvt_err *err);
int kvt_json_lines(const char *path, const char *text, size_t bytes, kvt_object_fn each, void *arg, struct kvt_err *err);

#endif
