/* UTF-8: is it, and where does it stop being; and what kind of character it is. */
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

/* General category (utf8proc's number) in Unicode 16, which the tokenizers of the field know; utf8proc 2.8 knows 15, what
 * came since is listed in unicode.c. */
int kvt_unicode_category(uint32_t c);
bool kvt_unicode_is(uint32_t c, unsigned categories); /* a set of bits 1u << category: KVT_UNICODE_LETTER ... */
/* White space as Unicode defines it (the property White_Space). */
bool kvt_unicode_space(uint32_t c);
/* A character of a word as regular expressions define it (UTS 18: alphabetic, marks, decimal digits, connectors). */
bool kvt_unicode_word(uint32_t c);
/* What the `tokenizers` library's Punctuation cuts at: ASCII's marks and symbols, and punctuation as of Unicode 7. */
bool kvt_unicode_old_punctuation(uint32_t c);

/* Characters that Debian 12's PCRE2 (Unicode 14) doesn't know: the i-th range of them, false at the end. */
struct kvt_unicode_range {
    uint32_t lo, hi;
    uint8_t category;
};
bool kvt_unicode_newer(int i, struct kvt_unicode_range *out);

#define KVT_UNICODE_LETTER 0x3eu     /* Lu Ll Lt Lm Lo are utf8proc's 1 to 5 */
#define KVT_UNICODE_MARK 0x1c0u      /* Mn Mc Me */
#define KVT_UNICODE_NUMBER 0xe00u    /* Nd Nl No */
#define KVT_UNICODE_PUNCT 0x7f000u   /* Pc Pd Ps Pe Pi Pf Po */
#define KVT_UNICODE_SYMBOL 0x780000u /* Sm Sc Sk So */

#endif
