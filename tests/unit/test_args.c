/* Option tables. Would catch: 12x read as 12, a value taken for an option, a range not kept, a wrong suggestion. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/args.h"

static const char *const colours[] = {"red", "green", "blue", NULL};

struct got { int n, colour; double x; const char *s; bool f, s_given; uint64_t seed; };

static int parse(struct got *g, struct kvt_args *args, struct kvt_err *err, int argc, char **argv)
{
    const struct kvt_opt opt[] = {
        {.help = "Numbers:"},
        {.name = "count", .letter = 'n', .type = KVT_OPT_INT, .to = &g->n, .def = "7", .min = 1, .max = 100, .help = ""},
        {.name = "ratio", .type = KVT_OPT_DOUBLE, .to = &g->x, .help = ""},
        {.name = "colour", .type = KVT_OPT_CHOICE, .to = &g->colour, .def = "green", .choices = colours, .help = ""},
        {.name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &g->s, .given = &g->s_given, .help = ""},
        {.name = "force", .letter = 'f', .type = KVT_OPT_FLAG, .to = &g->f, .help = ""},
        {.name = "seed", .type = KVT_OPT_U64, .to = &g->seed, .help = ""},
    };
    const struct kvt_cli cli = {.tool = "kvx", .operands = "run.h5", .min_operands = 1, .max_operands = 2, .about = "",
                                .example = "kvx run.h5", .opt = opt, .n_opts = 7};
    return kvt_args_parse(&cli, argc, argv, args, err);
}

#define RUN(...)                                                                      \
    struct got g = {0};                                                               \
    struct kvt_args args;                                                             \
    struct kvt_err err = {0};                                                         \
    char *argv[] = {(char[]){"kvx"}, __VA_ARGS__};                                    \
    int rc = parse(&g, &args, &err, (int)(sizeof argv / sizeof *argv), argv)
#define A(s) ((char[]){s})
#define SAYS(words) cr_assert(strstr(err.text, words), "said: %s", err.text)

Test(args, values_defaults_operands)
{
    RUN(A("a.h5"), A("-n12"), A("--ratio=-0.5"), A("--out"), A("-"), A("-f"), A("--"), A("-b"));
    cr_assert_eq(rc, 0, "%s", err.text);
    cr_assert_eq(g.n, 12);
    cr_assert_eq(g.x, -0.5);
    cr_assert_eq(g.colour, 1);
    cr_assert_str_eq(g.s, "-");
    cr_assert(g.f && g.s_given);
    cr_assert_eq(args.n, 2);
    cr_assert_str_eq(args.operand[0], "a.h5");
    cr_assert_str_eq(args.operand[1], "-b");
}

Test(args, default_and_negative_value)
{
    RUN(A("a"), A("--ratio"), A("-3"), A("--seed"), A("18446744073709551615"));
    cr_assert_eq(rc, 0);
    cr_assert_eq(g.n, 7);
    cr_assert_eq(g.x, -3);
    cr_assert_eq(g.seed, UINT64_MAX);
    cr_assert(!g.s_given);
}

Test(args, number_with_a_tail) { RUN(A("a"), A("-n"), A("12x")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("'12x'"); }
Test(args, out_of_range) { RUN(A("a"), A("--count=101")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("1 to 100"); }
Test(args, too_large_for_a_long) { RUN(A("a"), A("--count=99999999999999999999")); cr_assert_eq(rc, KVT_EUSAGE); }
Test(args, not_finite) { RUN(A("a"), A("--ratio=nan")); cr_assert_eq(rc, KVT_EUSAGE); }
Test(args, negative_seed) { RUN(A("a"), A("--seed=-1")); cr_assert_eq(rc, KVT_EUSAGE); }
Test(args, unknown_is_named) { RUN(A("a"), A("--cuont"), A("3")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("did you mean --count"); }
Test(args, unknown_choice) { RUN(A("a"), A("--colour=gren")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("did you mean green"); }
Test(args, forgotten_value) { RUN(A("a"), A("--out"), A("--force")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("--out needs a value, and '--force' looks like an option"); SAYS("--out=..."); }
Test(args, forgotten_value_of_a_letter) { RUN(A("a"), A("-o"), A("-f")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("-o needs a value"); SAYS("--out=..."); }
Test(args, forgotten_last_value) { RUN(A("a"), A("--out")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("--out needs a value: --out VALUE"); }
Test(args, value_with_dashes) { RUN(A("a"), A("--out=--force")); cr_assert_eq(rc, 0); cr_assert_str_eq(g.s, "--force"); cr_assert(!g.f); }
Test(args, flag_with_value) { RUN(A("a"), A("--force=1")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("takes no value"); }
Test(args, missing_operand) { RUN(A("-f")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("missing run.h5"); }
Test(args, operand_too_many) { RUN(A("a"), A("b"), A("c")); cr_assert_eq(rc, KVT_EUSAGE); SAYS("'c'"); }
Test(args, help_wins) { RUN(A("--nonsense"), A("-h")); cr_assert_eq(rc, KVT_ARGS_HELP); }
Test(args, version) { RUN(A("--version")); cr_assert_eq(rc, KVT_ARGS_VERSION); }

Test(lists, masks)
{
    uint8_t m[12];
    struct kvt_err err;
    cr_assert_eq(kvt_parse_mask("0,3,8-9,11-", 12, m, "--layers", &err), 0);
    cr_assert_arr_eq(m, ((uint8_t[]){1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 1}), 12);
    cr_assert_eq(kvt_parse_mask("all", 12, m, "--layers", &err), 0);
    cr_assert_eq(m[0] + m[11], 2);
    const char *bad[] = {"", "12", "3,", ",3", "5-3", "a", "1 2", "-1", "0-99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(kvt_parse_mask(bad[i], 12, m, "--layers", &err), KVT_EUSAGE, "%s", bad[i]);
}

Test(lists, split_outside_brackets)
{
    char **item;
    int n;
    struct kvt_err err;
    cr_assert_eq(kvt_split("snapkv[w=32,pool=max7], h2o ,full", &item, &n, "--method", &err), 0);
    cr_assert_eq(n, 3);
    cr_assert_str_eq(item[0], "snapkv[w=32,pool=max7]");
    cr_assert_str_eq(item[1], "h2o");
    cr_assert_str_eq(item[2], "full");
    free(item);
    const char *bad[] = {"", "a,", "a,,b", "a[b", "a]b", " "};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_eq(kvt_split(bad[i], &item, &n, "--method", &err), KVT_EUSAGE, "'%s'", bad[i]);
}

Test(nearest, slips_but_not_other_words)
{
    const char *list[] = {"snapkv", "pyramidkv", "h2o", "chunkkv", NULL, "full"};
    cr_assert_str_eq(kvt_nearest("snapvk", list, 6), "snapkv");
    cr_assert_str_eq(kvt_nearest("SnapKV", list, 6), "snapkv");
    cr_assert_str_eq(kvt_nearest("pyramid", list, 6), "pyramidkv");
    cr_assert_str_eq(kvt_nearest("h20", list, 6), "h2o");
    cr_assert_null(kvt_nearest("zebra", list, 6));
    cr_assert_null(kvt_nearest("", list, 6));
}
