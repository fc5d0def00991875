/* Normalised text that remembers where it came from, and the normalisers of tokenizer.json.
 *
 * The one rule of origins: normalisers work on clusters (a character, or a base with its marks); the j-th of k bytes that a
 * cluster of n bytes became belongs to byte j n / k (rounded down) of it. So text that stays as it is keeps its bytes one to
 * one, and what was put in from nothing belongs to the place where it was put. */
#ifndef KVT_ENGINE_NORMALISE_H
#define KVT_ENGINE_NORMALISE_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"

/* A piece of text as the tokenizer sees it. */
struct kvt_view {
    const char *p;
    size_t n;
    const int32_t *from;        /* (n) offset in the user's text of every byte; NULL: base, base + 1, ... */
    int32_t base;
    int32_t end;                /* where the text behind its last byte goes on */
};
static inline int32_t kvt_view_origin(const struct kvt_view *v, size_t i) { return v->from ? v->from[i] : v->base + (int32_t)i; }
static inline struct kvt_view kvt_view_part(struct kvt_view v, size_t start, size_t end)
{
    return (struct kvt_view){v.p + start, end - start, v.from ? v.from + start : NULL, v.base + (int32_t)start,
                             end < v.n ? kvt_view_origin(&v, end) : v.end};
}

/* Text in the making; the first failed allocation is remembered. */
struct kvt_normed {
    char *p;
    int32_t *from;
    size_t n, cap;
    int32_t end;
    bool failed;
};
/* n bytes that stand for `width` bytes of the text from `origin` on. */
void kvt_normed_add(struct kvt_normed *t, const char *s, size_t n, int32_t origin, int32_t width);
void kvt_normed_copy(struct kvt_normed *t, struct kvt_view v);
void kvt_normed_free(struct kvt_normed *t);
static inline struct kvt_view kvt_normed_view(const struct kvt_normed *t)
{
    return (struct kvt_view){t->p, t->n, t->from, 0, t->end};
}

struct kvt_normaliser;

/* From the field "normalizer"; NULL in *out where it is null. EUNSUP names a kind that isn't known. */
int kvt_normaliser_open(struct kvt_normaliser **out, const cJSON *json, const char *where, struct kvt_err *err);
/* SentencePiece as GGUF files mean it: U+2581 for every space, and one in front. */
int kvt_normaliser_spaces(struct kvt_normaliser **out, bool prefix, const char *where, struct kvt_err *err);
void kvt_normaliser_close(struct kvt_normaliser **n);
/* out is emptied first. */
int kvt_normalise(const struct kvt_normaliser *n, struct kvt_view text, struct kvt_normed *out, struct kvt_err *err);

#endif
