/* The chat form of a model: what stands around the system text, the user's text, and where the answer begins.
 *
 * A model's template is a program (Jinja). We don't run it: we know the published ones by the literals in them, and a
 * template that isn't one of them is refused by name. */
#ifndef KVT_ENGINE_CHAT_H
#define KVT_ENGINE_CHAT_H

#include "engine/textbuf.h"
#include "engine/tokenizer.h"

/* White space at both ends of a text that a template takes off. */
enum kvt_chat_trim {
    KVT_CHAT_TRIM_SYSTEM = 1,
    KVT_CHAT_TRIM_USER = 2,
    KVT_CHAT_TRIM_TURN = 4,    /* of system and user text as one: only the end where there is a system text */
};

struct kvt_chat {
    const char *name;          /* "Llama 3"; static, like the others */
    const char *system_open, *system_close; /* open NULL: there is no place for a system text */
    const char *user_open, *user_close;
    const char *assistant;     /* where the answer begins */
    const char *no_thinking;   /* follows it where thinking is switched off; NULL: nothing to switch */
    bool eos;                  /* the EOS token stands in front of system_close and user_close */
    bool thinks;               /* the answer begins with thinking in any case */
    bool folded;               /* the system text stands inside the user's turn */
    bool system_always;        /* the system turn is there even when it is empty */
    bool bos;                  /* the template writes the BOS in front */
    bool own_system;           /* without a system text the template makes one that isn't known here (with today's date, say) */
    unsigned trim;             /* enum kvt_chat_trim */
    const char *mark;          /* a special token that the form needs, or NULL */
    struct kvt_textbuf system; /* what the template puts in when no system text is given; may be empty */
};

/* Which form a template is; EUNSUP with the template's beginning where it is none that is known. */
int kvt_chat_recognise(struct kvt_chat *c, struct kvt_bytes text, struct kvt_err *err);
/* The form of a model: its template's, or ChatML where it has none but ChatML's tokens. */
int kvt_chat_open(struct kvt_chat *c, const struct kvt_tokenizer *tok, struct kvt_err *err);
void kvt_chat_close(struct kvt_chat *c);

#endif
