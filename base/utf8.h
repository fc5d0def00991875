/* Reading UTF-8 one character at a time, and the columns a character takes on a terminal. */
#ifndef KVT_BASE_UTF8_H
#define KVT_BASE_UTF8_H

#include <stdint.h>

#define KVT_UTF8_BAD UINT32_MAX /* a byte that starts no valid character */

/* The character at s (not the final 0) into *c; returns its bytes, 1 for KVT_UTF8_BAD. Never reads past the final 0. */
int kvt_utf8_next(const char *s, uint32_t *c);
/* 0 for combining marks and joiners, 2 for wide East Asian characters and emoji, else 1. A working subset of
 * Unicode's tables: what stays wrong costs a column of alignment. */
int kvt_utf8_width(uint32_t c);

#endif
