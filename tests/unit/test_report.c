/* What kvreport's page is made of: fates of tokens, worked out by hand, and text inside HTML. Would catch: chunks of the prefill taken for
 * later than its end, a token lost in decode counted as never held, markup or control characters let through. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "analyzers/fate.h"
#include "base/hash.h"
#include "base/html.h"
#include "base/table.h"
#include "kernels/ops.h"
#include "kvt/trace.h"

Test(fate, by_hand)
{
    /* 2 layers x 2 heads, 4 context tokens and one generated. Token 0: held everywhere. 1: gone at prefill's end in layer 0, in chunks 3 and 1
     * in layer 1. 2: at prefill's end, at steps 5 and 2, held. 3: lost everywhere at prefill's end. */
    const int32_t ev[2 * 2 * 5] = {-1, 0, 0, 0, -1,    -1, 0, 5, 0, 3,
                                   -1, -5, 2, 0, -1,   -1, -3, -1, 0, KVT_NOT_YET};
    uint8_t reason[2 * 2 * 4] = {0};
    reason[0] = KVT_KEPT_PROTECTED;  /* token 0 in cell (0, 0) */
    reason[4 + 2] = KVT_KEPT_WINDOW; /* token 2 in cell (0, 1) */
    reason[3] = KVT_KEPT_WINDOW;     /* token 3, which isn't held there: a rule that held nothing */
    struct kvt_fate f;
    cr_assert_eq(kvt_fate_make(2, 2, 4, 5, ev, reason, &f, NULL), 0);
    const int32_t cells[] = {4, 0, 3, 0}, layers[] = {2, 0, 2, 0}, guarded[] = {1, 0, 1, 0}, last[] = {4, 0, 1, 0}, from[] = {KVT_NOT_YET, -3, 0, 0}, to[] = {KVT_NOT_YET, 0, 5, 0};
    for (int j = 0; j < 4; j++) {
        cr_expect_eq(f.cells[j], cells[j], "cells of token %d: %d", j, (int)f.cells[j]);
        cr_expect_eq(f.layers[j], layers[j], "layers of token %d: %d", j, (int)f.layers[j]);
        cr_expect_eq(f.guarded[j], guarded[j], "guarded of token %d: %d", j, (int)f.guarded[j]);
        cr_expect_eq(f.last[j], last[j], "last of token %d: %d", j, (int)f.last[j]);
        cr_expect_eq(f.from[j], from[j], "from of token %d: %d", j, (int)f.from[j]);
        cr_expect_eq(f.to[j], to[j], "to of token %d: %d", j, (int)f.to[j]);
    }
    kvt_fate_free(&f);
    char buf[32];
    cr_expect_str_eq(kvt_moment_text(-5, buf, sizeof buf), "chunk 3");
    cr_expect_str_eq(kvt_moment_text(0, buf, sizeof buf), "prefill's end");
    cr_expect_str_eq(kvt_moment_text(7, buf, sizeof buf), "step 7");
}

static char *escaped(const char *s)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    kvt_html_text(f, s);
    fclose(f);
    return text;
}

#define ESCAPES(s, expected)                                                   \
    do {                                                                       \
        char *t_ = escaped(s);                                                 \
        cr_expect_str_eq(t_, expected);                                        \
        free(t_);                                                              \
    } while (0)

Test(html, text_stays_text)
{
    ESCAPES("a < b && c > \"d\" 'e'", "a &lt; b &amp;&amp; c &gt; &quot;d&quot; &#39;e&#39;");
    ESCAPES("</script>", "&lt;/script&gt;");
    ESCAPES("tab\tand\nline", "tab\tand\nline");
    ESCAPES("\r\x01\x1b\x7f", "\xe2\x90\x8d\xe2\x90\x81\xe2\x90\x9b\xe2\x90\xa1");
    ESCAPES("\xff\xe2\x82", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");                    /* no UTF-8; half of a character */
    ESCAPES("\xc2\x85\xef\xbf\xbe", "\xef\xbf\xbd\xef\xbf\xbd");                        /* a C1 control, a noncharacter */
    ESCAPES("\xe2\x80\xae\xe2\x81\xa6\xf3\xa0\x81\x81", "[U+202E][U+2066][U+E0041]");   /* turns the line round; a tag */
    ESCAPES("\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac \xc3\xa9 \xe6\x97\xa5", "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x94\xac \xc3\xa9 \xe6\x97\xa5");
}

Test(html, base64_and_sha256)
{
    /* RFC 4648, section 10; FIPS 180-2, appendix B.1 */
    const char *plain[] = {"", "f", "fo", "foo", "foob", "fooba", "foobar"}, *coded[] = {"", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy"};
    for (int i = 0; i < 7; i++) {
        char *text = NULL;
        size_t bytes;
        FILE *f = open_memstream(&text, &bytes);
        kvt_base64(f, plain[i], strlen(plain[i]));
        fclose(f);
        cr_expect_str_eq(text, coded[i]);
        free(text);
    }
    uint8_t hash[32];
    cr_assert_eq(kvt_sha256("abc", 3, hash, NULL), 0);
    const uint8_t abc[4] = {0xba, 0x78, 0x16, 0xbf};
    cr_expect_arr_eq(hash, abc, 4);
}

Test(html, table)
{
    static const struct kvt_col col[] = {{.name = "name", .kind = KVT_COL_TEXT}, {.name = "kv_bytes", .title = "KV", .unit = "bytes", .kind = KVT_COL_BYTES},
                                         {.name = "hidden", .kind = KVT_COL_INT, .programs_only = true}, {.name = "share", .kind = KVT_COL_SHARE, .digits = 1}};
    struct kvt_table *t = kvt_table_new(col, 4);
    kvt_put_text(t, "<b>");
    kvt_put_int(t, 1234567);
    kvt_put_int(t, 5);
    kvt_put_real(t, 0.25);
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    cr_assert_eq(kvt_table_html(t, f, "a & b", NULL), 0);
    fclose(f);
    kvt_table_free(&t);
    cr_expect_str_eq(text, "<table>\n<caption>a &amp; b</caption>\n<thead><tr><th scope=\"col\" title=\"name\">name</th><th scope=\"col\" class=\"n\" title=\"kv_bytes, bytes\">KV</th>"
                           "<th scope=\"col\" class=\"n\" title=\"share\">share</th></tr></thead>\n<tbody>\n<tr><th scope=\"row\">&lt;b&gt;</th><td class=\"n\" data-v=\"1234567\">1.2 MB</td>"
                           "<td class=\"n\">25.0%</td></tr>\n</tbody></table>\n");
    free(text);
}
