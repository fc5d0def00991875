/* Colours on a terminal. The library reads no environment: a tool passes what it found there. */
#ifndef KVT_BASE_COLOUR_H
#define KVT_BASE_COLOUR_H

#include <stdbool.h>
#include <stddef.h>

enum kvt_colour { KVT_COLOUR_NONE, KVT_COLOUR_BASIC, KVT_COLOUR_256 };

/* What may be used on a stream: is_tty of the stream, and the values of NO_COLOR and TERM (NULL: not set). */
enum kvt_colour kvt_colour_choose(bool is_tty, const char *no_color, const char *term);

/* Escape sequence for background step `at` of 0..`steps` (0: none kept, dark and quiet; steps: all kept, bright), with a
 * readable foreground. Colour-blind safe: lightness rises with every step. "" where colour is KVT_COLOUR_NONE.
 * buf of at least 32 bytes. */
const char *kvt_colour_step(enum kvt_colour colour, int at, int steps, char *buf, size_t cap);
/* Ends any of them. */
const char *kvt_colour_reset(enum kvt_colour colour);
const char *kvt_colour_bold(enum kvt_colour colour);
const char *kvt_colour_dim(enum kvt_colour colour);

#endif
