/* Option tables: parsing and help. */
#include "base/args.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAMES = 96, HELP_WIDTH = 80, HELP_COLUMN = 26 };

int kvt_parse_int(const char *text, long min, long max, int *out, const char *what, struct kvt_err *err)
{
    char *end;
    errno = 0;
    long v = strtol(text, &end, 10);
    if (end == text || *end || isspace((unsigned char)text[0]))
        return kvt_fail(err, KVT_EUSAGE, "%s: '%s' is not a whole number", what, text);
    if (errno == ERANGE || v < min || v > max || v < INT_MIN || v > INT_MAX)
        return kvt_fail(err, KVT_EUSAGE, "%s: %s is outside %ld to %ld", what, text, min, max);
    *out = (int)v;
    return 0;
}

int kvt_parse_u64(const char *text, uint64_t *out, const char *what, struct kvt_err *err)
{
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (end == text || *end || !isdigit((unsigned char)text[0]))
        return kvt_fail(err, KVT_EUSAGE, "%s: '%s' is not a whole number from 0 up", what, text);
    if (errno == ERANGE || v > UINT64_MAX)
        return kvt_fail(err, KVT_EUSAGE, "%s: %s is above 2^64 - 1", what, text);
    *out = v;
    return 0;
}

int kvt_parse_double(const char *text, double min, double max, double *out, const char *what, struct kvt_err *err)
{
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)text[0]) || !isfinite(v))
        return kvt_fail(err, KVT_EUSAGE, "%s: '%s' is not a number", what, text);
    if (v < min || v > max)
        return kvt_fail(err, KVT_EUSAGE, "%s: %s is outside %g to %g", what, text, min, max);
    *out = v;
    return 0;
}

static int mask_end(const char **p, int n, int *out)
{
    if (!isdigit((unsigned char)**p))
        return -1;
    long v = 0;
    while (isdigit((unsigned char)**p)) {
        v = v * 10 + (*(*p)++ - '0');
        if (v >= n)
            v = n; /* stays out of range, can't overflow */
    }
    *out = (int)v;
    return v < n ? 0 : 1;
}

int kvt_parse_mask(const char *text, int n, uint8_t *mask, const char *what, struct kvt_err *err)
{
    bool all = !strcmp(text, "all");
    memset(mask, all, (size_t)n);
    const char *p = text;
    while (!all) {
        int from, to, rc = mask_end(&p, n, &from);
        to = from;
        if (!rc && *p == '-') {
            p++;
            to = n - 1;
            if (*p && *p != ',')
                rc = mask_end(&p, n, &to);
        }
        if (rc > 0)
            return kvt_fail(err, KVT_EUSAGE, "%s: '%s' reaches outside 0 to %d", what, text, n - 1);
        if (rc < 0 || to < from || (*p && *p != ','))
            return kvt_fail(err, KVT_EUSAGE, "%s: '%s' is not a list like 0,3,8-11", what, text);
        memset(mask + from, 1, (size_t)(to - from + 1));
        if (!*p++)
            break;
    }
    return 0;
}

int kvt_split(const char *text, char ***out, int *count, const char *what, struct kvt_err *err)
{
    size_t bytes = strlen(text) + 1, items = 1;
    int depth = 0;
    for (const char *p = text; *p; p++) {
        depth += (*p == '[') - (*p == ']');
        if (depth < 0)
            break;
        items += *p == ',' && !depth;
    }
    if (depth)
        return kvt_fail(err, KVT_EUSAGE, "%s: a bracket has no partner in '%s'", what, text);
    char **list = malloc(items * sizeof *list + bytes);
    if (!list)
        return kvt_fail(err, KVT_ENOMEM, "%s: no memory", what);
    char *p = memcpy((char *)(list + items), text, bytes);
    for (size_t i = 0; i < items; i++) {
        while (*p == ' ')
            p++;
        list[i] = p;
        for (; *p && (depth || *p != ','); p++)
            depth += (*p == '[') - (*p == ']');
        char *end = p;
        if (*p)
            p++;
        while (end > list[i] && end[-1] == ' ')
            end--;
        *end = 0;
        if (!list[i][0]) {
            free(list);
            return kvt_fail(err, KVT_EUSAGE, "%s: an empty item in '%s'", what, text);
        }
    }
    *out = list;
    *count = (int)items;
    return 0;
}

static int set_choice(const struct kvt_opt *o, const char *text, const char *what, struct kvt_err *err)
{
    char known[200] = "";
    int n = 0;
    for (; o->choices[n]; n++) {
        if (!strcmp(o->choices[n], text)) {
            *(int *)o->to = n;
            return 0;
        }
        size_t len = strlen(known);
        snprintf(known + len, sizeof known - len, "%s%s", n ? ", " : "", o->choices[n]);
    }
    const char *near = kvt_nearest(text, o->choices, n);
    if (near)
        return kvt_fail(err, KVT_EUSAGE, "%s: unknown value '%s'; did you mean %s?", what, text, near);
    return kvt_fail(err, KVT_EUSAGE, "%s: unknown value '%s'; known: %s", what, text, known);
}

static int set_value(const struct kvt_opt *o, const char *text, const char *what, struct kvt_err *err)
{
    bool any = o->min == 0 && o->max == 0;
    switch (o->type) {
    case KVT_OPT_FLAG: *(bool *)o->to = true; return 0;
    case KVT_OPT_STRING: *(const char **)o->to = text; return 0;
    case KVT_OPT_INT:
        return kvt_parse_int(text, any ? INT_MIN : (long)o->min, any ? INT_MAX : (long)o->max, o->to, what, err);
    case KVT_OPT_U64: return kvt_parse_u64(text, o->to, what, err);
    case KVT_OPT_DOUBLE: return kvt_parse_double(text, any ? -HUGE_VAL : o->min, any ? HUGE_VAL : o->max, o->to, what, err);
    case KVT_OPT_CHOICE: return set_choice(o, text, what, err);
    }
    return kvt_fail(err, KVT_EUSAGE, "%s: not an option", what);
}

static int unknown(const struct kvt_cli *cli, const char *name, struct kvt_err *err)
{
    const char *list[MAX_NAMES] = {"help", "version"};
    int n = 2;
    for (int i = 0; i < cli->n_opts && n < MAX_NAMES; i++)
        list[n++] = cli->opt[i].name;
    const char *near = kvt_nearest(name, list, n);
    if (near)
        return kvt_fail(err, KVT_EUSAGE, "unknown option --%s; did you mean --%s?", name, near);
    return kvt_fail(err, KVT_EUSAGE, "unknown option --%s; %s -h lists them", name, cli->tool);
}

static const struct kvt_opt *by_letter(const struct kvt_cli *cli, char letter)
{
    for (int i = 0; i < cli->n_opts; i++)
        if (cli->opt[i].name && cli->opt[i].letter == letter)
            return &cli->opt[i];
    return NULL;
}

static const struct kvt_opt *by_name(const struct kvt_cli *cli, const char *name)
{
    for (int i = 0; i < cli->n_opts; i++)
        if (cli->opt[i].name && !strcmp(cli->opt[i].name, name))
            return &cli->opt[i];
    return NULL;
}

static bool is_number(const char *s)
{
    return s[0] == '-' && (isdigit((unsigned char)s[1]) || s[1] == '.');
}

/* One argument that starts with a dash; *at moves over the value it takes. */
static int one_option(const struct kvt_cli *cli, int argc, char **argv, int *at, struct kvt_err *err)
{
    const char *arg = argv[*at], *value = NULL;
    const struct kvt_opt *o;
    char what[64];
    if (arg[1] == '-') {
        char name[48];
        const char *eq = strchr(arg, '=');
        size_t len = eq ? (size_t)(eq - arg - 2) : strlen(arg + 2);
        snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name - 1), arg + 2);
        o = by_name(cli, name);
        if (!o)
            return unknown(cli, name, err);
        value = eq ? eq + 1 : NULL;
        snprintf(what, sizeof what, "--%s", name);
    } else {
        o = by_letter(cli, arg[1]);
        if (!o)
            return kvt_fail(err, KVT_EUSAGE, "unknown option -%c; %s -h lists them", arg[1], cli->tool);
        value = arg[2] ? arg + 2 : NULL;
        snprintf(what, sizeof what, "-%c", arg[1]);
    }
    if (o->type == KVT_OPT_FLAG && value)
        return kvt_fail(err, KVT_EUSAGE, "%s takes no value, found '%s'", what, value);
    if (o->type != KVT_OPT_FLAG && !value) {
        /* "-" alone is a value (stdin), so are negative numbers; another option is a forgotten value */
        const char *next = *at + 1 < argc ? argv[*at + 1] : NULL;
        if (!next)
            return kvt_fail(err, KVT_EUSAGE, "%s needs a value: %s %s", what, what, o->value ? o->value : "VALUE");
        if (next[0] == '-' && next[1] && !is_number(next))
            return kvt_fail(err, KVT_EUSAGE, "%s needs a value, and '%.60s' looks like an option; if it is meant: --%s=...", what, next, o->name);
        value = argv[++*at];
    }
    if (o->given)
        *o->given = true;
    return set_value(o, value, what, err);
}

int kvt_args_parse(const struct kvt_cli *cli, int argc, char **argv, struct kvt_args *out, struct kvt_err *err)
{
    *out = (struct kvt_args){0};
    for (int i = 0; i < cli->n_opts; i++)
        if (cli->opt[i].name && cli->opt[i].def) {
            int rc = set_value(&cli->opt[i], cli->opt[i].def, cli->opt[i].name, err);
            if (rc)
                return rc;
        }
    /* Asking for help wins over any mistake elsewhere on the line. */
    for (int i = 1; i < argc && strcmp(argv[i], "--"); i++) {
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
            return KVT_ARGS_HELP;
        if (!strcmp(argv[i], "--version"))
            return KVT_ARGS_VERSION;
    }
    int n = 0; /* operands so far, moved to the front of argv after its name */
    bool only_operands = false;
    for (int i = 1; i < argc; i++) {
        if (!only_operands && !strcmp(argv[i], "--")) {
            only_operands = true;
        } else if (!only_operands && argv[i][0] == '-' && argv[i][1]) {
            int rc = one_option(cli, argc, argv, &i, err);
            if (rc)
                return rc;
        } else {
            argv[1 + n++] = argv[i];
        }
    }
    out->operand = argv + 1;
    out->n = n;
    if (n < cli->min_operands)
        return kvt_fail(err, KVT_EUSAGE, "missing %s; for example: %s", cli->operands, cli->example);
    if (cli->max_operands >= 0 && n > cli->max_operands)
        return kvt_fail(err, KVT_EUSAGE, "one argument too many: '%s'; for example: %s", argv[1 + cli->max_operands],
                        cli->example);
    return 0;
}

/* Words from column `at` on, wrapped to begin again at column `indent`. */
static void wrap(FILE *f, const char *text, int at, int indent)
{
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (at > indent && at + word > HELP_WIDTH) {
            fprintf(f, "\n%*s", indent, "");
            at = indent;
        }
        fprintf(f, "%.*s", word, text);
        at += word;
        text += word;
        if (*text == ' ') {
            text++;
            if (*text && at + 1 + (int)strcspn(text, " ") <= HELP_WIDTH) {
                fputc(' ', f);
                at++;
            } else if (*text) {
                fprintf(f, "\n%*s", indent, "");
                at = indent;
            }
        }
    }
    fputc('\n', f);
}

static void help_line(FILE *f, char letter, const char *name, const char *value, const char *help)
{
    char left[96];
    int n = snprintf(left, sizeof left, "  %c%c%s --%s%s%s", letter ? '-' : ' ', letter ? letter : ' ', letter ? "," : " ",
                     name, value ? " " : "", value ? value : "");
    fputs(left, f);
    if (n > HELP_COLUMN - 2) {
        fputc('\n', f);
        n = 0;
    }
    fprintf(f, "%*s", HELP_COLUMN - n, "");
    wrap(f, help, HELP_COLUMN, HELP_COLUMN);
}

static void help(const struct kvt_cli *cli, FILE *f)
{
    fprintf(f, "usage: %s [options]%s%s\n", cli->tool, cli->operands[0] ? " " : "", cli->operands);
    wrap(f, cli->about, 0, 0);
    fputc('\n', f);
    for (int i = 0; i < cli->n_rows; i++) {
        const struct kvt_help_row *r = &cli->row[i];
        int n = r->name ? fprintf(f, "  %-11s ", r->name) : 0;
        wrap(f, r->help, n, n);
        if (i == cli->n_rows - 1)
            fputc('\n', f);
    }
    for (int i = 0; i < cli->n_opts; i++) {
        const struct kvt_opt *o = &cli->opt[i];
        if (!o->name) {
            fprintf(f, "%s%s\n", i ? "\n" : "", o->help);
            continue;
        }
        char text[512];
        int n = snprintf(text, sizeof text, "%s", o->help);
        if (o->type == KVT_OPT_CHOICE) {
            for (int c = 0; o->choices[c] && n < (int)sizeof text; c++)
                n += snprintf(text + n, sizeof text - (size_t)n, "%s%s", c ? ", " : ": ", o->choices[c]);
        }
        if (o->def && o->def[0] && n < (int)sizeof text)
            snprintf(text + n, sizeof text - (size_t)n, " [%s]", o->def);
        help_line(f, o->letter, o->name, o->type == KVT_OPT_FLAG ? NULL : o->value ? o->value : "VALUE", text);
    }
    help_line(f, 'h', "help", NULL, "this text");
    help_line(f, 0, "version", NULL, "version and commit");
    fprintf(f, "\nExample: %s\n", cli->example);
}

int kvt_args_end(const struct kvt_cli *cli, int rc, const struct kvt_err *err)
{
    if (rc == KVT_ARGS_HELP)
        help(cli, stdout);
    else if (rc == KVT_ARGS_VERSION)
        printf("%s %s (%s)\n", cli->tool, kvt_version(), kvt_commit());
    if (rc > 0)
        return fflush(stdout) ? kvt_exit_code(KVT_EIO) : 0;
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", cli->tool, err->text[0] ? err->text : kvt_status_text(rc));
    return kvt_exit_code(rc);
}
