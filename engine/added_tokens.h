/* Tokens that are cut out of the text before anything else: control tokens, and those that users added. */
#ifndef KVT_ENGINE_ADDED_TOKENS_H
#define KVT_ENGINE_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"

enum {                          /* the flags of tokenizer.json */
    KVT_ADDED_LSTRIP = 1,       /* white space in front belongs to it */
    KVT_ADDED_RSTRIP = 2,       /* and behind */
    KVT_ADDED_SINGLE_WORD = 4,  /* only where no word character touches it */
    KVT_ADDED_SPECIAL = 8,      /* plain text unless special tokens are asked for */
};

struct kvt_added_token {
    uint32_t at, n;             /* its text, in `text` */
    int32_t id;
    unsigned flags;
};
struct kvt_added {
    int n, cap;
    struct kvt_added_token *token; /* once sealed: sorted by text, a beginning first */
    char *text;
    size_t text_n, text_cap;
    bool starts[256];           /* some token begins with this byte */
};

int kvt_added_put(struct kvt_added *a, const char *s, size_t n, int32_t id, unsigned flags, const char *where, struct kvt_err *err);
/* Sorts; of equal texts the smaller id counts. */
void kvt_added_seal(struct kvt_added *a);
void kvt_added_free(struct kvt_added *a);

/* The longest token that begins at s, or NULL; without `special` as if special ones weren't there. */
const struct kvt_added_token *kvt_added_find(const struct kvt_added *a, const char *s, size_t n, bool special);

/* Calls for every part of the text in order: a token (id >= 0) or what lies between (id -1). Leftmost first, the longest of
 * those that begin there. Nonzero stops and is returned. */
typedef int (*kvt_part_fn)(void *arg, size_t start, size_t end, int32_t id, struct kvt_err *err);
int kvt_added_split(const struct kvt_added *a, const char *text, size_t n, bool special, kvt_part_fn part, void *arg,
                    struct kvt_err *err);

#endif
