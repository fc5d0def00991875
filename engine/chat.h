/* The chat form of a model. ChatML is the one that is known: <|im_start|>role, text, <|im_end|>. */
#ifndef KVT_ENGINE_CHAT_H
#define KVT_ENGINE_CHAT_H

#include "engine/textbuf.h"
#include "engine/tokenizer.h"

struct kvt_chat {
    struct kvt_textbuf system; /* the system text the model's own template puts in when none is given; may be empty */
};

/* EUNSUP if the model doesn't speak ChatML. */
int kvt_chat_open(struct kvt_chat *c, const struct kvt_tokenizer *tok, struct kvt_err *err);
void kvt_chat_close(struct kvt_chat *c);

/* The parts around a text. */
#define KVT_CHAT_SYSTEM "<|im_start|>system\n"
#define KVT_CHAT_USER "<|im_start|>user\n"
#define KVT_CHAT_END "<|im_end|>\n"
#define KVT_CHAT_ASSISTANT "<|im_start|>assistant\n"

#endif
