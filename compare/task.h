/* A task of kvbench: a small JSON file that says where questions come from, how a prompt is written, and what counts as right.
 * docs/tasks.md is the form in words. */
#ifndef KVT_COMPARE_TASK_H
#define KVT_COMPARE_TASK_H

#include "compare/answer.h"

enum { KVT_MAX_RULES = 4, KVT_MAX_STRIPS = 4 };

/* generate: an answer found in the output; choice: the likeliest of given continuations, nothing is generated; refusal: whether the output
 * refuses; program: the output is run against a test; text: perplexity of a long text. */
enum kvt_task_kind { KVT_TASK_GENERATE, KVT_TASK_CHOICE, KVT_TASK_REFUSAL, KVT_TASK_PROGRAM, KVT_TASK_TEXT };
enum kvt_made { KVT_MADE_NOT, KVT_MADE_NEEDLE, KVT_MADE_KEYS, KVT_MADE_VARIABLES, KVT_MADE_WORDS,
                KVT_MADE_RECALL, KVT_MADE_MAPPING, KVT_MADE_RULE, KVT_MADE_ARITHMETIC, KVT_MADE_SAFETY };
#define KVT_MADE_IS_SHOTS(made) ((made) >= KVT_MADE_RECALL) /* few-shot text: shots and no length */
extern const char *const kvt_task_kinds[6], *const kvt_made_names[11];

struct kvt_texts { char **v; int n; };
struct kvt_numbers { int *v; int n; };

struct kvt_task {
    char *path;                        /* of the file, for messages */
    char *json;                        /* its text, for the record's hash */
    char *name, *about, *source;
    enum kvt_task_kind kind;
    char *questions, *shots, *tasks;   /* JSON lines, below the data folder; NULL: none */
    char *by;                          /* field that a question shares with its shots and its row of `tasks`; NULL: one task */
    char *system;                      /* template over the row of `tasks`, or plain text, in front of the shots; NULL: none */
    char *form, *separator;            /* of a shot, and what stands between shots; NULL: the default ones */
    int n_shots;
    bool chat;
    struct { char *field; struct kvt_pattern *drop; } strip[KVT_MAX_STRIPS]; /* taken out of a field before it is used */
    int n_strips;
    struct kvt_texts stop;
    int max_new;
    bool cut_counts;                   /* an output that reaches max_new may be right (short fixed answers) */
    struct kvt_answer_rule rule[KVT_MAX_RULES]; /* the first one is the accuracy */
    int n_rules;
    char *gold_field;                  /* "answer" */
    struct kvt_pattern *gold_find;     /* NULL: the whole field */
    double chance;                     /* accuracy of guessing, 0..1 */
    struct kvt_texts choices;          /* choice: " A", " B" ...; gold is one of them, blanks aside */
    int together;                      /* questions answered in one output; 1 */
    char *together_question, *together_answer; /* templates of their lines; {n} is the number */
    char *refuse_field, *refuse_value; /* refusal: a row with that value should be refused */
    struct kvt_texts refuses;          /* how an output that refuses begins, lower case */
    char *program;                     /* template over the row and {output} */
    double seconds;                    /* that a program may run */
    char *text;                        /* the long text, below the data folder */
    int segment;                       /* tokens: the first half is read, the second scored */
    enum kvt_made made;
    struct kvt_numbers lengths, depths; /* tokens; percent */
    int seeds, count, fill;            /* count: needles, links of a chain, words asked for; fill: sentences beside the matter that a shot may have */
};

/* `name` is a path, or the name of a file NAME.json in one of the folders that tasks are looked for in (dir NULL: those near the program).
 * EINPUT: file, field, what to change. */
int kvt_task_open(struct kvt_task **out, const char *name, const char *dir, struct kvt_err *err);
void kvt_task_close(struct kvt_task **t);

/* Calls each for every task file of the folders, for a list; the task is closed afterwards. */
int kvt_task_each(const char *dir, int (*each)(void *arg, const struct kvt_task *t, struct kvt_err *err), void *arg, struct kvt_err *err);

#endif
