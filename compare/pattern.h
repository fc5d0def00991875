/* Regular expressions of task files, by PCRE2: Unicode, `.` stops at a line end, ^ and $ are the text's ends. */
#ifndef KVT_COMPARE_PATTERN_H
#define KVT_COMPARE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "kvt/kvt.h"

struct kvt_pattern;

/* where: file and place, for messages. EINPUT: it doesn't compile (why, and at which character). */
int kvt_pattern_open(struct kvt_pattern **out, const char *text, const char *where, struct kvt_err *err);
void kvt_pattern_close(struct kvt_pattern **p);

struct kvt_found { size_t start, end, group_start, group_end; };
/* The first match at or after `at`; its group is the first that took part and isn't empty, else the whole match. 1: found; 0: not, also
 * where the expression tries for too long on this text. */
int kvt_pattern_find(const struct kvt_pattern *p, const char *text, size_t n, size_t at, struct kvt_found *out);
/* text without its matches, malloc'ed; NULL without memory. */
char *kvt_pattern_drop(const struct kvt_pattern *p, const char *text);

#endif
