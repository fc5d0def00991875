/* From what a model wrote to an answer, and whether it is right. docs/tasks.md says how a task file names the rules.
 *
 * The order is lm-evaluation-harness's: find (its regex filter: the first group that took part), take off white space, drop, compare. */
#ifndef KVT_COMPARE_ANSWER_H
#define KVT_COMPARE_ANSWER_H

#include "compare/pattern.h"

enum { KVT_MAX_DROPS = 8 };
enum kvt_which { KVT_WHICH_FIRST, KVT_WHICH_LAST };
enum kvt_equal { KVT_EQUAL_TEXT, KVT_EQUAL_NUMBER, KVT_EQUAL_CONTAINS, KVT_EQUAL_STARTS };
extern const char *const kvt_which_names[3], *const kvt_equal_names[5];

struct kvt_answer_rule {
    char *name;                 /* "strict" */
    struct kvt_pattern *find;   /* NULL: the whole output */
    enum kvt_which which;
    struct kvt_pattern *drop[KVT_MAX_DROPS];
    int n_drops;
    bool lower;                 /* compared in lower case (ASCII) */
    enum kvt_equal equal;       /* text: the same; number: the same value; contains, starts: the gold in, or at the front of, the answer */
};

/* The answer in an output, malloc'ed; NULL with rc 0: there is none. nth >= 0: the nth match instead of `which` (many answers in one output). */
int kvt_answer_find(const struct kvt_answer_rule *r, const char *output, int nth, char **out, struct kvt_err *err);
/* The gold through the same drops and case, malloc'ed. */
int kvt_answer_clean(const struct kvt_answer_rule *r, const char *gold, char **out, struct kvt_err *err);
/* Both as the two functions above give them. answer NULL: false. */
bool kvt_answer_right(const struct kvt_answer_rule *r, const char *answer, const char *gold);

/* The output up to the first of the stops, in place; true if one was found. stop (n) */
bool kvt_answer_cut(char *output, char *const *stop, int n);

#endif
