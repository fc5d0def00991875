/* Traces that nobody's tracer wrote: a sound one, broken through HDF5 itself, and every reader over it. */
#ifndef KVT_TESTS_HOSTILE_H
#define KVT_TESTS_HOSTILE_H

#include <stdint.h>

/* Breaks the trace at path in place, in 1 to 3 ways that follow from the seed; flips: single bytes of the raw file as well. Says on
 * stdout what it did. 0: done. other: path of a second, sound trace, for links to elsewhere. */
int hostile_break(const char *path, const char *other, uint64_t seed, int flips);
/* A whole file; 0: done. */
int hostile_copy(const char *from, const char *to);
/* Everything that reads a trace, as often as the tools do. 0: all refused or read it in order; 1 and a line on stdout if not. */
int hostile_read(const char *path, const char *scratch);

#endif
