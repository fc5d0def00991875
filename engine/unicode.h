/* UTF-8: is it, and where does it stop being. */
#ifndef KVT_ENGINE_UNICODE_H
#define KVT_ENGINE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* True for well-formed UTF-8 (no overlong forms, surrogates or values above U+10FFFF); else *bad is the offset of the
 * first byte that doesn't fit. */
bool kvt_utf8_valid(const char *s, size_t n, size_t *bad);

/* Looks at the character that starts at s (n >= 1 bytes there). Returns its length if it is whole and valid; 0 if the
 * n bytes are a valid beginning and more must come; -k if the first k bytes can never begin a valid character (k is
 * the maximal subpart, as Unicode recommends for U+FFFD). */
int kvt_utf8_char(const char *s, size_t n);

/* Writes code point c as UTF-8, returns 1 to 4. */
int kvt_utf8_put(uint32_t c, char out[4]);
/* The code point at s, which must be valid; *len its bytes. */
uint32_t kvt_utf8_get(const char *s, int *len);

#endif
