/* Which tokens of the context a branch held when its first token was chosen, in every layer and kv head: one bit each, deflated, as text for a result's line. */
#ifndef KVT_COMPARE_KEPT_H
#define KVT_COMPARE_KEPT_H

#include "kvt/session.h"

/* malloc'ed into *out. */
int kvt_kept_pack(struct kvt_session *s, int branch, int L, int G, char **out, struct kvt_err *err);
/* The other way. EFORMAT: it is no such text. */
struct kvt_kept { int L, G, n_context; unsigned char *bits; }; /* bits (L, G, (n_context + 7) / 8), lowest bit first */
int kvt_kept_open(struct kvt_kept *out, const char *text, struct kvt_err *err);
void kvt_kept_close(struct kvt_kept *k);
static inline bool kvt_kept_has(const struct kvt_kept *k, int layer, int g, int pos)
{
    size_t row = ((size_t)k->n_context + 7) / 8;
    return k->bits[((size_t)layer * (size_t)k->G + (size_t)g) * row + (size_t)pos / 8] >> (pos % 8) & 1;
}
/* The most bytes that the text of one branch can take. */
size_t kvt_kept_most(int L, int G, int n_context);

#endif
