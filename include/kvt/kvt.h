/* Status codes and error text: the one convention of the whole tree.
 *
 * A function that can fail returns int: 0 is success, negative is one of KVT_E*. Details for people
 * go into a caller-owned struct kvt_err (which may be NULL). bool only answers questions.
 * The library never prints, exits or reads the environment; tools do, in main. */
#ifndef KVT_KVT_H
#define KVT_KVT_H

#include <stddef.h>
#include <stdint.h>

/* name, exit code of a tool, meaning */
#define KVT_STATUS_MAP(X)                                            \
    X(EIO,      1, "input or output failed")                         \
    X(EDEVICE,  1, "the device failed")                              \
    X(EUSAGE,   2, "wrong use of an option")                         \
    X(EFORMAT,  3, "a file does not follow its format")              \
    X(EUNSUP,   3, "not supported")                                  \
    X(EINPUT,   3, "input that cannot be used")                      \
    X(ENOMEM,   4, "out of memory")                                  \
    X(EINTR,  130, "interrupted")

enum kvt_status_index {
    KVT_OK_INDEX,
#define X(name, exit_code, text) KVT_##name##_INDEX,
    KVT_STATUS_MAP(X)
#undef X
};
enum kvt_status {
    KVT_OK = 0,
#define X(name, exit_code, text) KVT_##name = -KVT_##name##_INDEX,
    KVT_STATUS_MAP(X)
#undef X
};

struct kvt_err {
    int code;        /* KVT_E*, for programs */
    char text[512];  /* one line, for people: what, where, what to change */
};

/* Fills err (if not NULL) and returns code. */
int kvt_fail(struct kvt_err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* The exit code of a tool for a status (design: 0 fine, 1 failed, 2 usage, 3 bad input, 4 memory, 130 interrupted). */
int kvt_exit_code(int status);
const char *kvt_status_text(int status);

const char *kvt_version(void);  /* "0.1.0" */
const char *kvt_commit(void);   /* commit of the build, "unknown" outside git */

#endif
