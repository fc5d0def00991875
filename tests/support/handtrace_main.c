/* handtrace drawn.txt out.h5: a trace drawn by hand as a file (handtrace.h). */
#include <stdio.h>

#include "handtrace.h"

int main(int argc, char **argv)
{
    struct kvt_err err;
    int rc = argc == 3 ? kvt_handtrace(argv[1], argv[2], &err) : kvt_fail(&err, KVT_EUSAGE, "use: handtrace drawn.txt out.h5");
    if (rc)
        fprintf(stderr, "handtrace: %s\n", err.text);
    return kvt_exit_code(rc);
}
