/* The questions of a task, each with its shots and what counts as right; and the prompt of each. */
#ifndef KVT_COMPARE_ITEM_H
#define KVT_COMPARE_ITEM_H

#include "base/rng.h"
#include "compare/task.h"
#include "kvt/prompt.h"

struct kvt_item {
    char id[80];                 /* unique in the list */
    char group[48];              /* value of the task's `by`, or "4096 tokens, 50%" of a made one; "": none */
    char *context;               /* plain text in front of the question (made tasks), or NULL */
    char *shots;                 /* JSON lines, stripped, or NULL */
    char *question;              /* one JSON line */
    char *system;                /* or NULL */
    char **gold;                 /* (n_gold) as in the data; none for programs, refusals and texts */
    int n_gold;
    bool refuse;                 /* refusal: it should be refused */
    char *program;               /* program: the row, one JSON object */
    int32_t *token;              /* text: (n_token), the first half is the prompt, the rest is scored */
    int n_token;
};

struct kvt_items { struct kvt_item *v; int n, room; };

struct kvt_items_opts {
    const char *data;            /* folder of the data, or NULL */
    int n_shots;                 /* -1: the task's */
    int limit;                   /* first so many of each group; 0: all */
    const char *only;            /* one value of the task's `by`, or NULL */
    uint64_t seed;               /* of made tasks */
};

/* Reads, checks and fills every form once, so that nothing stops later: EINPUT with file and line. tok: what measures made texts. */
int kvt_items_load(struct kvt_items *out, const struct kvt_task *t, const struct kvt_items_opts *o, const struct kvt_tokenizer *tok, struct kvt_err *err);
void kvt_items_free(struct kvt_items *l);

/* The prompt of an item; of a text the tokens alone. Freed by kvt_prompt_free. */
int kvt_item_prompt(struct kvt_prompt *out, const struct kvt_task *t, const struct kvt_item *i, const struct kvt_tokenizer *tok, struct kvt_err *err);

/* made.c: tasks that need no data. Adds items; ids and texts follow from the seed. */
int kvt_items_make(struct kvt_items *out, const struct kvt_task *t, const struct kvt_items_opts *o, const struct kvt_tokenizer *tok, struct kvt_err *err);
/* made_shots.c: fills one of the embedded model's tasks, with n shots. */
int kvt_item_make_shots(struct kvt_item *item, const struct kvt_task *t, struct kvt_rng *r, int n, struct kvt_err *err);
/* made.c: one more right answer. */
int kvt_item_gold(struct kvt_item *item, const char *text, struct kvt_err *err);
/* A zeroed item at the end of the list; NULL without memory. */
struct kvt_item *kvt_items_add(struct kvt_items *l);

#endif
