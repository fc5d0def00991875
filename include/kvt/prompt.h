/* Text to tokens and spans: what every later number is shown beside.
 *
 * A prompt is text plus a span table over it. Spans are given in bytes; a token belongs to the span in which its first
 * byte lies (the one written rule), so token spans follow from byte spans. */
#ifndef KVT_PROMPT_H
#define KVT_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"

struct kvt_tokenizer;

/* ---- tokenizer ---- */

struct kvt_tokens {
    int n;
    int32_t *id;
    int32_t *start, *end;      /* half-open byte range of the text that each token stands for; BOS: [0, 0) */
};
void kvt_tokens_free(struct kvt_tokens *t);

enum { KVT_TOK_SPECIAL = 1,    /* "<|im_start|>" in the text becomes the special token */
       KVT_TOK_BOS = 2 };      /* prepend BOS where the model's metadata says so */
/* text must be valid UTF-8 (EINPUT with the byte offset). Ranges cover the text without gap or overlap, also where a
 * normaliser changed it (docs/models.md says how); what stands for no text of its own has an empty range. */
int kvt_tokenize(const struct kvt_tokenizer *tok, const char *text, size_t bytes, unsigned flags,
                 struct kvt_tokens *out, struct kvt_err *err);
/* The exact bytes of a token; borrowed. A byte-level token may hold part of a character. */
const char *kvt_token_bytes(const struct kvt_tokenizer *tok, int32_t id, size_t *bytes);
bool kvt_token_is_end(const struct kvt_tokenizer *tok, int32_t id);     /* EOS or end of turn */
bool kvt_token_is_special(const struct kvt_tokenizer *tok, int32_t id);
int kvt_tokenizer_size(const struct kvt_tokenizer *tok);
size_t kvt_tokenizer_longest(const struct kvt_tokenizer *tok);          /* bytes of the longest token */
const char *kvt_tokenizer_kind(const struct kvt_tokenizer *tok);        /* "gpt2/smollm", "llama", "bpe-bytes" */

/* Streaming decode: never gives half a character. Bytes that can't become valid UTF-8 come out as U+FFFD. */
struct kvt_stream { char held[4]; int n_held; };
/* Appends what can be shown of token id to out (capacity cap >= longest token x 3 + 16); returns bytes written. */
size_t kvt_stream_put(struct kvt_stream *s, const struct kvt_tokenizer *tok, int32_t id, char *out, size_t cap);
/* What is still held back at the end, as U+FFFD. */
size_t kvt_stream_end(struct kvt_stream *s, char *out, size_t cap);

/* ---- spans ---- */

/* name in files and tables */
#define KVT_SPAN_MAP(X)                                                               \
    X(SYSTEM, "system") X(SHOT, "shot") X(QUESTION, "question") X(RATIONALE, "rationale") \
    X(ANSWER, "answer") X(PROMPT, "prompt") X(SENTENCE, "sentence") X(NUMBER, "number")   \
    X(OPERATOR, "operator") X(DELIMITER, "delimiter") X(USER, "user") X(ASSISTANT, "assistant")
enum kvt_span_kind {
#define X(name, text) KVT_SPAN_##name,
    KVT_SPAN_MAP(X)
#undef X
    KVT_N_SPAN_KIND
};
const char *kvt_span_kind_name(enum kvt_span_kind kind);

struct kvt_span {
    char name[24];             /* "shot 3", "question" */
    enum kvt_span_kind kind;   /* PROMPT: the question that is asked (the last one), top level; QUESTION: a shot's */
    int parent;                /* index of the enclosing span, -1 */
    int32_t byte_start, byte_end; /* half-open */
    int32_t start, end;        /* tokens, half-open */
};

struct kvt_prompt {
    char *text;
    size_t bytes;
    struct kvt_tokens tokens;
    struct kvt_span *span;     /* top-level spans ascending, each followed by its children */
    int n_spans;
    int question_start;        /* first token of the PROMPT span to the end of the prompt; -1: none */
    const char *chat;          /* "Llama 3": the chat form applied, static; NULL: none */
    bool given_bos;            /* the text that was given begins with the BOS token that would be put in front of it, or, with chat,
                                * now has it inside the user's turn */
};
void kvt_prompt_free(struct kvt_prompt *p);

/* Thinking before the answer: as the model's template does if nothing is said, or switched where it has a switch. */
enum kvt_thinking { KVT_THINKING_MODEL, KVT_THINKING_ON, KVT_THINKING_OFF };

struct kvt_prompt_opts {
    const char *text_file;     /* plain text, "-" for stdin; or */
    const char *text;          /* plain text given; or */
    const char *shots_file;    /* JSONL, one object a line */
    const char *shots_jsonl;   /* its text, where the caller has it: the file is then a name for messages */
    int n_shots;               /* first n of the file; 0 = all */
    const char *shot_order;    /* of those: NULL or "file"; "reverse"; "seed:N", drawn from it; or places in the file, "3,1,2" */
    const char *template_text; /* "Question: {question}\nAnswer: {answer}"; NULL: that one. \n is a line end. {name} is a field */
    const char *shot_sep;      /* between shots; NULL: one blank line. In plain text: what separates shots */
    const char *question;      /* the question's text, or NULL */
    const char *question_file; /* JSONL: the first object gives the template's fields */
    const char *question_jsonl; /* its text, where the caller has it */
    const char *system;        /* system text, or NULL */
    bool chat;                 /* apply the model's chat form: one user turn, and the assistant's opened */
    int thinking;              /* enum kvt_thinking, with chat */
    bool no_bos;
};
/* EINPUT: file, line and what to change. Runs the tokenizer and fills every span; numbers, operators, delimiters and
 * sentences are found in the text. */
int kvt_prompt_build(struct kvt_prompt *out, const struct kvt_tokenizer *tok, const struct kvt_prompt_opts *o, struct kvt_err *err);

/* Several prompts: a file with a JSON object on each line. {"prompt": text}, {"question": text} or both, each as the option of
 * that name would give it, "system" likewise; "id" names it, else its number from 0 does. */
struct kvt_prompt_item { char id[65]; char *text, *question, *system; int line; };
struct kvt_prompt_list { struct kvt_prompt_item *item; int n; };
int kvt_prompt_list_read(struct kvt_prompt_list *out, const char *path, struct kvt_err *err);
void kvt_prompt_list_free(struct kvt_prompt_list *l);

/* What `chat` would do with a model. */
struct kvt_chat_info {
    const char *form;          /* "Llama 3", static */
    bool takes_system;         /* there is a place for a system text */
    bool needs_system;         /* without one the template makes one of its own, which isn't known here */
    bool can_switch, thinks;   /* thinking: can be switched; begins in any case */
    char system[256];          /* the text that is used when none is given, or its beginning; "" if none */
};
/* EUNSUP where `chat` would be refused, with the reason. */
int kvt_chat_describe(struct kvt_chat_info *out, const struct kvt_tokenizer *tok, struct kvt_err *err);

/* Token ranges of the SHOT spans that end at or before token n_context; returns how many (capacity cap pairs). */
int kvt_prompt_shots(const struct kvt_prompt *p, int n_context, int32_t *range, int cap);

#endif
