/* What an option of a method is: options.c has the table, values.c reads and writes one value. */
#ifndef KVT_METHODS_OPTION_H
#define KVT_METHODS_OPTION_H

#include "kvt/method.h"

enum { KVT_MOST_TOK = 1 << 24, KVT_OPTION_TEXT = 320, KVT_MOST_CHOICES = 20 };

enum kvt_option_kind { KIND_INT, KIND_BOOL, KIND_SEED, KIND_CHOICE, KIND_POOL, KIND_HALF, KIND_WINDOW, KIND_SHARE, KIND_PPM,
                       KIND_PATH, KIND_PROTECT };

struct kvt_choice {
    const char *name;
    int value;
    bool unbuilt;              /* named, so that nobody takes it for a typing mistake, and refused */
};

struct kvt_option {
    const char *name;
    enum kvt_option_kind kind;
    size_t at;                 /* offset in struct kvt_policy */
    int min, max;              /* KIND_INT, KIND_HALF, KIND_WINDOW */
    struct kvt_choice choice[KVT_MOST_CHOICES];  /* KIND_CHOICE */
    const char *values;        /* for people */
    bool unbuilt;              /* anything but its default is refused */
    bool other_name;           /* of a field that another option prints where all are taken */
};

/* Sets the field of o from text; false where it is none of o's values (*even: an even pooling width, the reason). */
bool kvt_option_set(struct kvt_policy *p, const struct kvt_option *o, const char *v, bool *even);
/* Writes the field of o as text that kvt_option_set takes. */
void kvt_option_print(const struct kvt_policy *p, const struct kvt_option *o, char *out, size_t len);

#endif
