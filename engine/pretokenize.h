/* Cutting text into the pieces inside which byte pairs are merged. The cut is part of a model: its name stands in the
 * file (tokenizer.ggml.pre), and another one gives other tokens. */
#ifndef KVT_ENGINE_PRETOKENIZE_H
#define KVT_ENGINE_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "kvt/kvt.h"

struct kvt_pretokenizer;

#define KVT_PRETOKENIZERS "smollm, qwen2, llama-bpe and gpt-2"

/* name needs no terminator; EUNSUP with the list of known names. where: the file, for the message. */
int kvt_pretokenizer_open(struct kvt_pretokenizer **out, const char *name, size_t name_n, const char *where, struct kvt_err *err);
void kvt_pretokenizer_close(struct kvt_pretokenizer **p);
const char *kvt_pretokenizer_name(const struct kvt_pretokenizer *p);
/* A piece that is itself a token isn't merged again (Llama 3). */
bool kvt_pretokenizer_whole_first(const struct kvt_pretokenizer *p);
/* Whether BOS is put in front where the file doesn't say. */
bool kvt_pretokenizer_bos(const struct kvt_pretokenizer *p);

/* Called for each piece, in order; nonzero stops and is returned. */
typedef int (*kvt_piece_fn)(void *arg, size_t start, size_t end, struct kvt_err *err);
/* text must be valid UTF-8. Pieces cover it without gap or overlap. */
int kvt_pretokenize(const struct kvt_pretokenizer *p, const char *text, size_t n, kvt_piece_fn piece, void *arg, struct kvt_err *err);

#endif
