/* A growing text. The first failed allocation is remembered, so a chain of appends needs one check at its end. */
#ifndef KVT_ENGINE_TEXTBUF_H
#define KVT_ENGINE_TEXTBUF_H

#include <stdbool.h>
#include <stddef.h>

#include "kvt/kvt.h"

struct kvt_textbuf {
    char *p;                   /* always terminated once something was added */
    size_t n, cap;
    bool failed;
};

void kvt_textbuf_add(struct kvt_textbuf *b, const char *s, size_t n);
void kvt_textbuf_str(struct kvt_textbuf *b, const char *s);
void kvt_textbuf_free(struct kvt_textbuf *b);

/* Bytes of s without white space (Python's str.strip) at its ends; *lead: how many are left out in front. */
size_t kvt_text_trim(const char *s, size_t n, size_t *lead);

/* A whole file ("-": standard input) into *out, which the caller frees; a zero byte follows it. Refuses more than max
 * bytes, what isn't UTF-8 (EINPUT with the byte), and zero bytes. what: "prompt", "shots", for the message. */
int kvt_read_text(char **out, size_t *bytes, const char *path, const char *what, size_t max, struct kvt_err *err);

#endif
