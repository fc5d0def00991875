/* Status names, exit codes and error text. */
#include "kvt/kvt.h"

#include <stdarg.h>
#include <stdio.h>

int kvt_fail(struct kvt_err *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    err->code = code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    for (char *c = err->text; *c; c++) /* names out of files may hold anything, and it is one line on a terminal */
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    return code;
}

int kvt_exit_code(int status)
{
    switch (status) {
    case 0: return 0;
#define X(name, exit_code, text) case KVT_##name: return exit_code;
    KVT_STATUS_MAP(X)
#undef X
    default: return 1;
    }
}

const char *kvt_status_text(int status)
{
    switch (status) {
    case 0: return "fine";
#define X(name, exit_code, text) case KVT_##name: return text;
    KVT_STATUS_MAP(X)
#undef X
    default: return "unknown status";
    }
}

const char *kvt_version(void) { return KVT_VERSION; }
const char *kvt_commit(void) { return KVT_COMMIT; }
