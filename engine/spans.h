/* The span table of a text: structure from whoever composed the text, sentences and marks found in it. */
#ifndef KVT_ENGINE_SPANS_H
#define KVT_ENGINE_SPANS_H

#include "kvt/prompt.h"

struct kvt_spans {
    struct kvt_span *v;
    int n, cap;
    bool failed;
};

/* Appends a span of bytes; a failed allocation is remembered. */
void kvt_spans_add(struct kvt_spans *s, enum kvt_span_kind kind, const char *name, size_t start, size_t end);

/* The parts of one shot [start, end) of text whose answer part begins at `answer`: question, rationale, answer.
 * bare: where the bare answer begins if the template says so, else 0 and it is looked for ("####", "the answer is"). */
void kvt_spans_shot(struct kvt_spans *s, const char *text, size_t start, size_t end, size_t answer, size_t bare);
/* Where the answer of a plain shot begins: the first line after its beginning that starts with "Answer:" or "A:"; `end`
 * if none. */
size_t kvt_spans_find_answer(const char *text, size_t start, size_t end);

/* Finds sentences, numbers, operators and delimiters in text[from, to), never across the border of a span that is there. */
int kvt_spans_scan(struct kvt_spans *s, const char *text, size_t from, size_t to, struct kvt_err *err);

/* Orders the table (a span before what it holds), finds parents, and gives every span its tokens. */
void kvt_spans_finish(struct kvt_spans *s, const char *text, const struct kvt_tokens *t);

#endif
