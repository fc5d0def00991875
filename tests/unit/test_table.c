/* Tables. Would catch: a broken TSV or JSON when a text holds tabs, quotes or half a character; NaN printed as a number;
 * columns that don't line up under wide characters; a table that needs more than 80 columns when texts could be cut. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/colour.h"
#include "base/progress.h"
#include "base/table.h"
#include "base/utf8.h"

static const struct kvt_col col[] = {
    {.name = "name", .title = "method", .kind = KVT_COL_TEXT},
    {.name = "kv_bytes", .title = "KV", .unit = "bytes", .kind = KVT_COL_BYTES},
    {.name = "kl", .title = "KL", .unit = "nats", .kind = KVT_COL_REAL, .digits = 3},
    {.name = "share", .kind = KVT_COL_SHARE, .digits = 1},
    {.name = "steps", .kind = KVT_COL_INT, .programs_only = true},
    {.name = "ok", .kind = KVT_COL_BOOL},
};

static char *written(const char *name, enum kvt_format format)
{
    struct kvt_table *t = kvt_table_new(col, 6);
    kvt_put_text(t, name);
    kvt_put_int(t, 1234567);
    kvt_put_real(t, 0.12345);
    kvt_put_real(t, 0.25);
    kvt_put_int(t, 64);
    kvt_put_bool(t, true);
    kvt_put_text(t, NULL);
    kvt_put_int(t, 0);
    kvt_put_real(t, NAN);
    kvt_put_real(t, -1e-9);
    kvt_put_none(t);
    kvt_put_bool(t, false);
    cr_assert_eq(kvt_table_rows(t), 2);
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    cr_assert_eq(kvt_table_write(t, f, format, NULL), 0);
    fclose(f);
    kvt_table_free(&t);
    cr_assert_null(t);
    return text;
}

#define WRITES(name, format, expected)                    \
    do {                                                  \
        char *text_ = written(name, format);              \
        cr_assert_str_eq(text_, expected);                \
        free(text_);                                      \
    } while (0)

Test(table, for_people)
{
    WRITES("snapkv", KVT_FORMAT_TABLE, "method      KV     KL  share  ok\n"
                                       "snapkv  1.2 MB  0.123  25.0%  yes\n"
                                       "-          0 B      -   0.0%  \n");
}

Test(table, tsv)
{
    WRITES("a\tb\n\\", KVT_FORMAT_TSV, "# name\tkv_bytes (bytes)\tkl (nats)\tshare\tsteps\tok\n"
                                       "a\\tb\\n\\\\\t1234567\t0.12345\t0.25\t64\t1\n"
                                       "\t0\tnan\t-1e-09\tnan\t0\n");
}

Test(table, csv)
{
    WRITES("say \"a,b\"", KVT_FORMAT_CSV, "name,kv_bytes (bytes),kl (nats),share,steps,ok\n"
                                          "\"say \"\"a,b\"\"\",1234567,0.12345,0.25,64,1\n"
                                          ",0,nan,-1e-09,nan,0\n");
}

Test(table, json)
{
    WRITES("q\"\\\n\x01\xc3\xa9\xff", KVT_FORMAT_JSON,
           "[\n {\"name\": \"q\\\"\\\\\\n\\u0001\xc3\xa9\xef\xbf\xbd\", \"kv_bytes\": 1234567, \"kl\": 0.12345, \"share\": 0.25, "
           "\"steps\": 64, \"ok\": true},\n"
           " {\"name\": null, \"kv_bytes\": 0, \"kl\": null, \"share\": -1e-09, \"steps\": null, \"ok\": false}\n]\n");
}

Test(table, booktabs)
{
    WRITES("a_b & 5% ~\\", KVT_FORMAT_BOOKTABS, "\\begin{tabular}{lrrrl}\n\\toprule\nmethod & KV (MB) & KL (nats) & share (\\%) & ok \\\\\n\\midrule\n"
                                               "a\\_b \\& 5\\% \\textasciitilde{}\\textbackslash{} & 1.2 & 0.123 & 25.0 & yes \\\\\n"
                                               "-- & 0.0 & -- & 0.0 &  \\\\\n\\bottomrule\n\\end{tabular}\n");
}

Test(table, booktabs_has_real_minus_signs)
{
    static const struct kvt_col one[] = {{.name = "d", .kind = KVT_COL_REAL, .digits = 2}};
    struct kvt_table *t = kvt_table_new(one, 1);
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    kvt_put_real(t, -0.25);
    cr_assert_eq(kvt_table_write(t, f, KVT_FORMAT_BOOKTABS, NULL), 0);
    fclose(f);
    cr_assert(strstr(text, "\n$-$0.25 \\\\\n"), "%s", text);
    free(text);
    kvt_table_free(&t);
}

Test(table, long_texts_give_way)
{
    char name[200];
    memset(name, 'x', 199);
    name[199] = 0;
    char *text = written(name, KVT_FORMAT_TABLE), *second = strchr(text, '\n') + 1;
    cr_assert_leq(strcspn(second, "\n"), 80);
    cr_assert(strstr(second, "xx..  1.2 MB"));
    free(text);
}

Test(table, no_memory_is_an_error)
{
    struct kvt_err err = {0};
    kvt_put_int(NULL, 1);
    cr_assert_eq(kvt_table_write(NULL, stdout, KVT_FORMAT_TABLE, &err), KVT_ENOMEM);
}

Test(text, widths)
{
    cr_assert_eq(kvt_text_width("abc"), 3);
    cr_assert_eq(kvt_text_width("e\xcc\x81"), 1);                 /* e and a combining acute */
    cr_assert_eq(kvt_text_width("\xe4\xbd\xa0\xf0\x9f\x98\x80"), 4); /* a CJK character and an emoji */
}

Test(text, utf8_refuses)
{
    const char *bad[] = {"\x80", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\xff"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint32_t c;
        cr_assert_eq(kvt_utf8_next(bad[i], &c), 1);
        cr_assert_eq(c, KVT_UTF8_BAD);
    }
}

Test(text, sizes_and_times)
{
    char b[32];
    cr_assert_str_eq(kvt_bytes_text(999, b, sizeof b), "999 B");
    cr_assert_str_eq(kvt_bytes_text(1500, b, sizeof b), "1.5 kB");
    cr_assert_str_eq(kvt_bytes_text(98362432, b, sizeof b), "98 MB");
    cr_assert_str_eq(kvt_time_text(59.4, b, sizeof b), "59 s");
    cr_assert_str_eq(kvt_time_text(125, b, sizeof b), "2 min 05 s");
    cr_assert_str_eq(kvt_time_text(4320, b, sizeof b), "1 h 12 min");
}

Test(colour, only_where_it_is_welcome)
{
    char b[48];
    cr_assert_eq(kvt_colour_choose(false, NULL, "xterm-256color"), KVT_COLOUR_NONE);
    cr_assert_eq(kvt_colour_choose(true, "1", "xterm-256color"), KVT_COLOUR_NONE);
    cr_assert_eq(kvt_colour_choose(true, NULL, "dumb"), KVT_COLOUR_NONE);
    cr_assert_eq(kvt_colour_choose(true, "", "xterm-256color"), KVT_COLOUR_256);
    cr_assert_eq(kvt_colour_choose(true, NULL, "linux"), KVT_COLOUR_BASIC);
    cr_assert_str_eq(kvt_colour_step(KVT_COLOUR_NONE, 3, 6, b, sizeof b), "");
    cr_assert_str_empty(kvt_colour_reset(KVT_COLOUR_NONE));
}

Test(progress, silent_without_a_terminal)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = tmpfile();
    struct kvt_progress p;
    kvt_progress_start(&p, f, "work", "items", 10);
    p.start_ns -= INT64_C(5000000000);
    kvt_progress_at(&p, 5);
    kvt_progress_end(&p);
    cr_assert_eq(ftell(f), 0);
    fclose(f);
    f = open_memstream(&text, &bytes);
    kvt_progress_start(&p, f, "work", "items", 10);
    p.on = true; /* as if it were one */
    p.start_ns -= INT64_C(5000000000);
    kvt_progress_at(&p, 5);
    kvt_progress_end(&p);
    fclose(f);
    cr_assert(strstr(text, "5/10 items") && strstr(text, "5 s left"), "%s", text);
    free(text);
}
