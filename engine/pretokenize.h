/* Cutting text into the pieces inside which tokens are found. The cut is part of a model: in GGUF files it has a name
 * (tokenizer.ggml.pre), in tokenizer.json it is spelled out; another one gives other tokens. */
#ifndef KVT_ENGINE_PRETOKENIZE_H
#define KVT_ENGINE_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/normalise.h"

struct kvt_pretokenizer;

/* By its name in GGUF files, which needs no terminator; EUNSUP for a name that isn't known. where: the file, for messages. */
int kvt_pretokenizer_open(struct kvt_pretokenizer **out, const char *name, size_t name_n, const char *where, struct kvt_err *err);
/* From the field "pre_tokenizer" of tokenizer.json; null: the text is one piece. */
int kvt_pretokenizer_json(struct kvt_pretokenizer **out, const cJSON *json, const char *where, struct kvt_err *err);
void kvt_pretokenizer_close(struct kvt_pretokenizer **p);
/* A piece that is itself a token isn't merged again (Llama 3); said by the name in GGUF files. */
bool kvt_pretokenizer_whole_first(const struct kvt_pretokenizer *p);
/* Whether BOS is put in front where a GGUF file doesn't say. */
bool kvt_pretokenizer_bos(const struct kvt_pretokenizer *p);
/* Whether the pieces' bytes are what the vocabulary is made of (GPT-2's alphabet), not their characters. */
bool kvt_pretokenizer_bytes(const struct kvt_pretokenizer *p);

/* Called for each piece, in order; nonzero stops and is returned. */
typedef int (*kvt_piece_fn)(void *arg, struct kvt_view piece, struct kvt_err *err);
/* text must be valid UTF-8. A GGUF pre-tokenizer's pieces cover it without gap or overlap. */
int kvt_pretokenize(const struct kvt_pretokenizer *p, struct kvt_view text, kvt_piece_fn piece, void *arg, struct kvt_err *err);

#endif
