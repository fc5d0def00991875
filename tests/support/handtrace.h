/* A trace drawn by hand: a text file that a person can read with a pencil beside it, written as a trace by the tracer's own writer.
 *
 * Lines of words; # at the start of a line begins a comment; _ in a name stands for a blank.
 *   shape L H G              layers, query heads, kv heads
 *   tokens WORD ...          the prompt; may be continued by another such line
 *   context N                its first N tokens may be evicted
 *   steps N                  generated tokens
 *   span NAME KIND PARENT START END       PARENT: number of an earlier span, or -
 *   head L H WEIGHT PLACE [WEIGHT PLACE ...]   attention of each row: weights (fractions as 3/8) on the places first, previous, self,
 *                            uniform (over all keys it sees), or token N. What a row doesn't see goes to itself
 *   branch NAME METHOD KEEP SCHEDULE      KEEP: a share, as 1/2; the lines below belong to it
 *   kept L G MAP             a letter for each context token: # held, . lost at prefill's end, P protected, W window, 1-9 lost after that step;
 *                            | parts the map for the eye. G * : every kv head of the layer
 *   score L G V ...          of each context token, as ranked
 *   kl V ...                 at each step; likewise  bytes V ...  (KV bytes of the branch alone)
 *   lost STEP L G MASS REST  the full branch's mass on lost slots, and without sinks
 *   diverged STEP            first free-running step that differs; 0 never */
#ifndef KVT_TESTS_HANDTRACE_H
#define KVT_TESTS_HANDTRACE_H

#include "kvt/kvt.h"

int kvt_handtrace(const char *text_path, const char *trace_path, struct kvt_err *err);

#endif
