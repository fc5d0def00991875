/* mktrace out.h5: the made-up trace as a file. Options as name=value: L H G n_shots n_new n_branches bins step_us no_full
 * drop compress force announce (a byte on file descriptor 3 after each event). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mktrace.h"

int main(int argc, char **argv)
{
    struct mktrace_opts o = {0};
    int no_full = 0, drop = 0, compress = 0, force = 0, announce = 0;
    const struct { const char *name; int *to; } opt[] = {
        {"L", &o.L}, {"H", &o.H}, {"G", &o.G}, {"n_shots", &o.n_shots}, {"n_new", &o.n_new}, {"n_branches", &o.n_branches},
        {"bins", &o.bins}, {"step_us", &o.step_us}, {"no_full", &no_full}, {"drop", &drop}, {"compress", &compress}, {"force", &force}, {"announce", &announce}};
    for (int i = 1; i < argc; i++) {
        const char *eq = strchr(argv[i], '=');
        if (!eq) {
            o.path = argv[i];
            continue;
        }
        size_t k = 0, n = sizeof opt / sizeof *opt;
        while (k < n && (strlen(opt[k].name) != (size_t)(eq - argv[i]) || strncmp(opt[k].name, argv[i], (size_t)(eq - argv[i]))))
            k++;
        if (k == n) {
            fprintf(stderr, "mktrace: unknown option %s\n", argv[i]);
            return 2;
        }
        *opt[k].to = atoi(eq + 1);
    }
    o.no_full = no_full;
    o.drop = drop;
    o.compress = compress;
    o.force = force;
    o.announce_fd = announce ? 3 : 0;
    struct kvt_err err;
    int rc = o.path ? mktrace(&o, &err) : kvt_fail(&err, KVT_EUSAGE, "use: mktrace out.h5 [name=value ...]");
    if (rc)
        fprintf(stderr, "mktrace: %s\n", err.text);
    return kvt_exit_code(rc);
}
