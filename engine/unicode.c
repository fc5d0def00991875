/* UTF-8 by the table of well-formed sequences in the Unicode standard (table 3-7); categories by utf8proc. */
#include "engine/unicode.h"

#include <string.h>
#include <utf8proc.h>

/* Length of a sequence by its first byte, and the range of its second byte; 0 for a byte that starts none. */
static int lead(unsigned char b, unsigned char *lo, unsigned char *hi)
{
    *lo = 0x80;
    *hi = 0xbf;
    if (b < 0x80)
        return 1;
    if (b < 0xc2)
        return 0;
    if (b < 0xe0)
        return 2;
    if (b < 0xf0) {
        if (b == 0xe0)
            *lo = 0xa0;
        if (b == 0xed)
            *hi = 0x9f;
        return 3;
    }
    if (b < 0xf5) {
        if (b == 0xf0)
            *lo = 0x90;
        if (b == 0xf4)
            *hi = 0x8f;
        return 4;
    }
    return 0;
}

int kvt_utf8_char(const char *s, size_t n)
{
    unsigned char lo, hi;
    int len = lead((unsigned char)s[0], &lo, &hi);
    if (!len)
        return -1;
    for (int i = 1; i < len; i++) {
        if ((size_t)i >= n)
            return 0;
        unsigned char b = (unsigned char)s[i];
        if (b < lo || b > hi)
            return -i;
        lo = 0x80;
        hi = 0xbf;
    }
    return len;
}

bool kvt_utf8_valid(const char *s, size_t n, size_t *bad)
{
    size_t i = 0;
    while (i < n) {
        uint64_t word;
        if (n - i >= 8 && (memcpy(&word, s + i, 8), !(word & 0x8080808080808080u))) {
            i += 8;
            continue;
        }
        int len = kvt_utf8_char(s + i, n - i);
        if (len <= 0) {
            *bad = i;
            return false;
        }
        i += (size_t)len;
    }
    return true;
}

int kvt_utf8_put(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 63));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 63));
        out[2] = (char)(0x80 | (c & 63));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 63));
    out[2] = (char)(0x80 | (c >> 6 & 63));
    out[3] = (char)(0x80 | (c & 63));
    return 4;
}

uint32_t kvt_utf8_get(const char *s, int *len)
{
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80) {
        *len = 1;
        return p[0];
    }
    if (p[0] < 0xe0) {
        *len = 2;
        return (uint32_t)(p[0] & 31) << 6 | (p[1] & 63);
    }
    if (p[0] < 0xf0) {
        *len = 3;
        return (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63);
    }
    *len = 4;
    return (uint32_t)(p[0] & 7) << 18 | (uint32_t)(p[1] & 63) << 12 | (uint32_t)(p[2] & 63) << 6 | (p[3] & 63);
}

/* ---- what kind of character ---- */

#define C(name) UTF8PROC_CATEGORY_##name
/* Assigned in Unicode 15, 15.1 and 16. */
static const struct kvt_unicode_range newer[] = {
    {0x897, 0x897, C(MN)}, {0xcf3, 0xcf3, C(MC)}, {0xece, 0xece, C(MN)}, {0x1b4e, 0x1b4f, C(PO)}, {0x1b7f, 0x1b7f, C(PO)},
    {0x1c89, 0x1c89, C(LU)}, {0x1c8a, 0x1c8a, C(LL)}, {0x2427, 0x2429, C(SO)}, {0x2ffc, 0x2fff, C(SO)},
    {0x31e4, 0x31e5, C(SO)}, {0x31ef, 0x31ef, C(SO)}, {0xa7cb, 0xa7cc, C(LU)}, {0xa7cd, 0xa7cd, C(LL)},
    {0xa7da, 0xa7da, C(LU)}, {0xa7db, 0xa7db, C(LL)}, {0xa7dc, 0xa7dc, C(LU)}, {0x105c0, 0x105f3, C(LO)},
    {0x10d40, 0x10d49, C(ND)}, {0x10d4a, 0x10d4d, C(LO)}, {0x10d4e, 0x10d4e, C(LM)}, {0x10d4f, 0x10d4f, C(LO)},
    {0x10d50, 0x10d65, C(LU)}, {0x10d69, 0x10d6d, C(MN)}, {0x10d6e, 0x10d6e, C(PD)}, {0x10d6f, 0x10d6f, C(LM)},
    {0x10d70, 0x10d85, C(LL)}, {0x10d8e, 0x10d8f, C(SM)}, {0x10ec2, 0x10ec4, C(LO)}, {0x10efc, 0x10eff, C(MN)},
    {0x1123f, 0x11240, C(LO)}, {0x11241, 0x11241, C(MN)}, {0x11380, 0x11389, C(LO)}, {0x1138b, 0x1138b, C(LO)},
    {0x1138e, 0x1138e, C(LO)}, {0x11390, 0x113b5, C(LO)}, {0x113b7, 0x113b7, C(LO)}, {0x113b8, 0x113ba, C(MC)},
    {0x113bb, 0x113c0, C(MN)}, {0x113c2, 0x113c2, C(MC)}, {0x113c5, 0x113c5, C(MC)}, {0x113c7, 0x113ca, C(MC)},
    {0x113cc, 0x113cd, C(MC)}, {0x113ce, 0x113ce, C(MN)}, {0x113cf, 0x113cf, C(MC)}, {0x113d0, 0x113d0, C(MN)},
    {0x113d1, 0x113d1, C(LO)}, {0x113d2, 0x113d2, C(MN)}, {0x113d3, 0x113d3, C(LO)}, {0x113d4, 0x113d5, C(PO)},
    {0x113d7, 0x113d8, C(PO)}, {0x113e1, 0x113e2, C(MN)}, {0x116d0, 0x116e3, C(ND)}, {0x11b00, 0x11b09, C(PO)},
    {0x11bc0, 0x11be0, C(LO)}, {0x11be1, 0x11be1, C(PO)}, {0x11bf0, 0x11bf9, C(ND)}, {0x11f00, 0x11f01, C(MN)},
    {0x11f02, 0x11f02, C(LO)}, {0x11f03, 0x11f03, C(MC)}, {0x11f04, 0x11f10, C(LO)}, {0x11f12, 0x11f33, C(LO)},
    {0x11f34, 0x11f35, C(MC)}, {0x11f36, 0x11f3a, C(MN)}, {0x11f3e, 0x11f3f, C(MC)}, {0x11f40, 0x11f40, C(MN)},
    {0x11f41, 0x11f41, C(MC)}, {0x11f42, 0x11f42, C(MN)}, {0x11f43, 0x11f4f, C(PO)}, {0x11f50, 0x11f59, C(ND)},
    {0x11f5a, 0x11f5a, C(MN)}, {0x1342f, 0x1342f, C(LO)}, {0x13439, 0x1343f, C(CF)}, {0x13440, 0x13440, C(MN)},
    {0x13441, 0x13446, C(LO)}, {0x13447, 0x13455, C(MN)}, {0x13460, 0x143fa, C(LO)}, {0x16100, 0x1611d, C(LO)},
    {0x1611e, 0x16129, C(MN)}, {0x1612a, 0x1612c, C(MC)}, {0x1612d, 0x1612f, C(MN)}, {0x16130, 0x16139, C(ND)},
    {0x16d40, 0x16d42, C(LM)}, {0x16d43, 0x16d6a, C(LO)}, {0x16d6b, 0x16d6c, C(LM)}, {0x16d6d, 0x16d6f, C(PO)},
    {0x16d70, 0x16d79, C(ND)}, {0x18cff, 0x18cff, C(LO)}, {0x1b132, 0x1b132, C(LO)}, {0x1b155, 0x1b155, C(LO)},
    {0x1cc00, 0x1ccef, C(SO)}, {0x1ccf0, 0x1ccf9, C(ND)}, {0x1cd00, 0x1ceb3, C(SO)}, {0x1d2c0, 0x1d2d3, C(NO)},
    {0x1df25, 0x1df2a, C(LL)}, {0x1e030, 0x1e06d, C(LM)}, {0x1e08f, 0x1e08f, C(MN)}, {0x1e4d0, 0x1e4ea, C(LO)},
    {0x1e4eb, 0x1e4eb, C(LM)}, {0x1e4ec, 0x1e4ef, C(MN)}, {0x1e4f0, 0x1e4f9, C(ND)}, {0x1e5d0, 0x1e5ed, C(LO)},
    {0x1e5ee, 0x1e5ef, C(MN)}, {0x1e5f0, 0x1e5f0, C(LO)}, {0x1e5f1, 0x1e5fa, C(ND)}, {0x1e5ff, 0x1e5ff, C(PO)},
    {0x1f6dc, 0x1f6dc, C(SO)}, {0x1f774, 0x1f776, C(SO)}, {0x1f77b, 0x1f77f, C(SO)}, {0x1f7d9, 0x1f7d9, C(SO)},
    {0x1f8b2, 0x1f8bb, C(SO)}, {0x1f8c0, 0x1f8c1, C(SO)}, {0x1fa75, 0x1fa77, C(SO)}, {0x1fa87, 0x1fa89, C(SO)},
    {0x1fa8f, 0x1fa8f, C(SO)}, {0x1faad, 0x1faaf, C(SO)}, {0x1fabb, 0x1fabf, C(SO)}, {0x1fac6, 0x1fac6, C(SO)},
    {0x1face, 0x1facf, C(SO)}, {0x1fada, 0x1fadc, C(SO)}, {0x1fadf, 0x1fadf, C(SO)}, {0x1fae8, 0x1fae9, C(SO)},
    {0x1faf7, 0x1faf8, C(SO)}, {0x1fbcb, 0x1fbef, C(SO)}, {0x2b739, 0x2b739, C(LO)}, {0x2ebf0, 0x2ee5d, C(LO)},
    {0x31350, 0x323af, C(LO)},
};
#undef C

bool kvt_unicode_newer(int i, struct kvt_unicode_range *out)
{
    if (i < 0 || (size_t)i >= sizeof newer / sizeof *newer)
        return false;
    *out = newer[i];
    return true;
}

int kvt_unicode_category(uint32_t c)
{
    int known = utf8proc_category((utf8proc_int32_t)c);
    if (known != UTF8PROC_CATEGORY_CN || c < newer[0].lo)
        return known;
    int lo = 0, hi = (int)(sizeof newer / sizeof *newer);
    while (lo < hi) {
        int mid = (lo + hi) / 2;
        if (newer[mid].hi < c)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < (int)(sizeof newer / sizeof *newer) && newer[lo].lo <= c ? newer[lo].category : known;
}

bool kvt_unicode_is(uint32_t c, unsigned categories) { return categories >> kvt_unicode_category(c) & 1; }

bool kvt_unicode_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool kvt_unicode_word(uint32_t c)
{
    const unsigned word = KVT_UNICODE_LETTER | KVT_UNICODE_MARK | 1u << UTF8PROC_CATEGORY_ND | 1u << UTF8PROC_CATEGORY_NL |
                          1u << UTF8PROC_CATEGORY_PC;
    /* alphabetic without being letters: circled and squared ones */
    return kvt_unicode_is(c, word) || (c >= 0x24b6 && c <= 0x24e9) || (c >= 0x1f130 && c <= 0x1f149) ||
           (c >= 0x1f150 && c <= 0x1f169) || (c >= 0x1f170 && c <= 0x1f189);
}

bool kvt_unicode_old_punctuation(uint32_t c)
{
    static const struct { uint32_t lo, hi; } later[] = { /* punctuation that came after */
        {0x61d, 0x61d}, {0x9fd, 0xa76}, {0xc77, 0xc84}, {0x1b4e, 0x1b4f}, {0x1b7d, 0x1b7f}, {0x2e43, 0x2e5d}, {0x10d6e, 0x10f89},
        {0x113d4, 0x1145d}, {0x11660, 0x116b9}, {0x1183b, 0x11fff}, {0x12ff1, 0x12ff2}, {0x16d6d, 0x16fe2}, {0x1e5ff, 0x1e95f},
    };
    if (c < 0x80)
        return c > ' ' && c < 0x7f && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
    if (c == 0x166d || c == 0x111c9)
        return true;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (c >= later[i].lo && c <= later[i].hi)
            return false;
    return kvt_unicode_is(c, KVT_UNICODE_PUNCT);
}
