/* Text inside HTML: whatever a file holds comes out as text and as nothing else. */
#ifndef KVT_BASE_HTML_H
#define KVT_BASE_HTML_H

#include <stddef.h>
#include <stdio.h>

/* The character at s, for an element's text or a quoted attribute; returns its bytes, as kvt_utf8_next. Markup and quotes are escaped.
 * Control characters come out as their pictures, bytes that are no UTF-8 as U+FFFD, and what would change the order of the text around
 * it or can't be seen (bidirectional controls, zero-width characters, tags) by name. Tabs and line ends stay. */
int kvt_html_char(FILE *out, const char *s);
void kvt_html_text(FILE *out, const char *s);

void kvt_base64(FILE *out, const void *data, size_t bytes);

#endif
