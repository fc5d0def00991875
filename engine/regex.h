/* Regular expressions of tokenizer files. They are written for Oniguruma (the engine of the `tokenizers` library) and run
 * by PCRE2: what the two spell differently is translated, what has no translation is refused by name. */
#ifndef KVT_ENGINE_REGEX_H
#define KVT_ENGINE_REGEX_H

#include <stddef.h>

#include "kvt/kvt.h"

struct kvt_regex;               /* shared between threads */
struct kvt_match;               /* the memory of a search: one for each thread */

/* where: the file, for messages. EUNSUP: a construct we don't translate; EFORMAT: it doesn't compile. */
int kvt_regex_open(struct kvt_regex **out, const char *pattern, size_t n, const char *where, struct kvt_err *err);
void kvt_regex_close(struct kvt_regex **r);

int kvt_match_open(struct kvt_match **out, struct kvt_err *err);
void kvt_match_close(struct kvt_match **m);

/* The first match in text (n bytes of valid UTF-8, all that the expression can see) that begins at or after `at`; empty
 * matches are passed over. 1: *start and *end are its bytes; 0: none; negative: an error (EINPUT where the expression
 * tries for longer than a linear one needs). */
int kvt_regex_find(const struct kvt_regex *r, struct kvt_match *m, const char *text, size_t n, size_t at, size_t *start,
                   size_t *end, struct kvt_err *err);

#endif
