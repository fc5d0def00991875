/* Option tables: one table makes the parser, the defaults and the help of a tool.
 *
 *     struct { int threads; const char *out; bool force; } o = {0};
 *     const struct kvt_opt opt[] = {
 *         {.name = "threads", .type = KVT_OPT_INT, .to = &o.threads, .value = "N", .help = "threads to use",
 *          .def = "1", .min = 1, .max = 1024},
 *         {.name = "out", .letter = 'o', .type = KVT_OPT_STRING, .to = &o.out, .value = "FILE", .help = "..."},
 *         {.name = "force", .type = KVT_OPT_FLAG, .to = &o.force, .help = "replace an existing file"},
 *     };
 *     const struct kvt_cli cli = {.tool = "kvx", .operands = "run.h5", .min_operands = 1, .max_operands = 1,
 *                                 .about = "what it does", .example = "kvx run.h5", .opt = opt, .n_opts = 3};
 *     int rc = kvt_args_parse(&cli, argc, argv, &args, &err);
 *     if (rc)
 *         return kvt_args_end(&cli, rc, &err);  // help, version or the one line of an error; the exit code
 *
 * -h/--help and --version belong to every table. Accepted: --name value, --name=value, -n value, -nvalue, and -- before
 * operands that start with a dash. Names are never abbreviated, numbers are taken whole (12x is refused). */
#ifndef KVT_BASE_ARGS_H
#define KVT_BASE_ARGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/nearest.h"
#include "kvt/kvt.h"

enum kvt_opt_type {
    KVT_OPT_FLAG,    /* bool: true when given; takes no value */
    KVT_OPT_STRING,  /* const char *: borrowed from argv */
    KVT_OPT_INT,     /* int, within [min, max]; min = max = 0: any int */
    KVT_OPT_U64,     /* uint64_t: seeds */
    KVT_OPT_DOUBLE,  /* double, within [min, max]; min = max = 0: any finite number */
    KVT_OPT_CHOICE,  /* int: the index of the value in `choices` */
};

struct kvt_opt {
    const char *name;        /* "threads", without dashes; NULL: `help` is a heading between groups of options */
    char letter;             /* 'o' for -o, 0 for none */
    enum kvt_opt_type type;
    void *to;                /* where the value goes */
    bool *given;             /* set when the option was given; or NULL */
    const char *value;       /* name of the value in the help: "FILE" */
    const char *help;        /* one line; longer ones are wrapped */
    const char *def;         /* default as text: parsed into `to` first, and shown in the help; NULL: `to` as it is */
    double min, max;
    const char *const *choices; /* NULL-terminated */
};

struct kvt_help_row { const char *name, *help; }; /* name NULL: a heading */

struct kvt_cli {
    const char *tool;        /* "kvtrace" */
    const char *operands;    /* "run.h5", for the usage line; "" for none */
    int min_operands, max_operands; /* max < 0: no limit */
    const char *about;       /* what it does, one or two lines */
    const char *example;     /* one command line */
    const struct kvt_help_row *row; /* (n_rows) shown before the options: what the first operand can be; NULL: none */
    int n_rows;
    const struct kvt_opt *opt;
    int n_opts;
};

enum { KVT_ARGS_HELP = 1, KVT_ARGS_VERSION = 2 };
struct kvt_args {
    int n;                   /* operands */
    char **operand;          /* points into argv, which is reordered: operands in their order at the end */
};

/* 0: go on. KVT_ARGS_HELP or _VERSION: asked for. EUSAGE: one line in err. */
int kvt_args_parse(const struct kvt_cli *cli, int argc, char **argv, struct kvt_args *out, struct kvt_err *err);
/* The end of a tool for what kvt_args_parse (or anything later) returned: prints help or version to stdout, or
 * "tool: error" to stderr, and gives the exit code. For main alone. */
int kvt_args_end(const struct kvt_cli *cli, int rc, const struct kvt_err *err);

/* Whole-string numbers. what names the thing in the message: "--threads". EUSAGE outside [min, max]. */
int kvt_parse_int(const char *text, long min, long max, int *out, const char *what, struct kvt_err *err);
int kvt_parse_u64(const char *text, uint64_t *out, const char *what, struct kvt_err *err);
int kvt_parse_double(const char *text, double min, double max, double *out, const char *what, struct kvt_err *err);

/* "0,3,8-11" or "all" or "20-" into mask (n) of 0 and 1. EUSAGE for anything outside [0, n). */
int kvt_parse_mask(const char *text, int n, uint8_t *mask, const char *what, struct kvt_err *err);

/* Splits at commas outside brackets; blanks around items go. *out is one malloc'ed block (array and text), freed by
 * free(). EUSAGE for an empty item or an unmatched bracket. */
int kvt_split(const char *text, char ***out, int *count, const char *what, struct kvt_err *err);

#endif
