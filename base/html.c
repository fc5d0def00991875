/* Escaping. */
#include "base/html.h"

#include <stdbool.h>
#include <stdint.h>

#include "base/utf8.h"

/* Joiners (U+200C, U+200D) and variation selectors stay: emoji and many scripts are written with them. */
static bool is_hidden(uint32_t c)
{
    static const struct { uint32_t from, to; } hidden[] = {
        {0xad, 0xad}, {0x61c, 0x61c}, {0x180e, 0x180e}, {0x200b, 0x200b}, {0x200e, 0x200f}, {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff},
        {0xfff9, 0xfffb}, {0xe0000, 0xe007f},
    };
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        if (c >= hidden[i].from && c <= hidden[i].to)
            return true;
    return false;
}

int kvt_html_char(FILE *out, const char *s)
{
    uint32_t c;
    int len = kvt_utf8_next(s, &c);
    switch (c) {
    case '&': fputs("&amp;", out); return len;
    case '<': fputs("&lt;", out); return len;
    case '>': fputs("&gt;", out); return len;
    case '"': fputs("&quot;", out); return len;
    case '\'': fputs("&#39;", out); return len;
    case '\n':
    case '\t': fputc((int)c, out); return len;
    }
    if (c < 0x20)
        fprintf(out, "\xe2\x90%c", (char)(0x80 + c)); /* U+2400 and on */
    else if (c == 0x7f)
        fputs("\xe2\x90\xa1", out);
    else if (c == KVT_UTF8_BAD || (c >= 0x80 && c < 0xa0) || (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe)
        fputs("\xef\xbf\xbd", out); /* also C1 controls and noncharacters, which no HTML may hold */
    else if (is_hidden(c))
        fprintf(out, "[U+%04X]", (unsigned)c);
    else
        fwrite(s, 1, (size_t)len, out);
    return len;
}

void kvt_html_text(FILE *out, const char *s)
{
    while (*s)
        s += kvt_html_char(out, s);
}

void kvt_base64(FILE *out, const void *data, size_t bytes)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *p = data;
    for (size_t i = 0; i < bytes; i += 3) {
        size_t have = bytes - i < 3 ? bytes - i : 3;
        uint32_t v = (uint32_t)p[i] << 16 | (have > 1 ? (uint32_t)p[i + 1] << 8 : 0) | (have > 2 ? p[i + 2] : 0);
        fputc(digit[v >> 18], out);
        fputc(digit[v >> 12 & 63], out);
        fputc(have > 1 ? digit[v >> 6 & 63] : '=', out);
        fputc(have > 2 ? digit[v & 63] : '=', out);
    }
}
