/* mkfolder: a GGUF model as a Hugging Face folder, for tests and measurements that want the same model in both formats. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "mkfolder.h"

static int usage(FILE *to, int rc)
{
    fprintf(to, "use: mkfolder [--type F32|F16|BF16] [--shards N] [--unaligned] MODEL.gguf FOLDER\n"
                "example: mkfolder --type BF16 tiny.gguf tiny\n");
    return rc;
}

int main(int argc, char **argv)
{
    struct kvt_mkfolder_opts o = {.type = KVT_F32};
    const char *path[2] = {NULL, NULL};
    struct kvt_err err;
    struct kvt_gguf g;
    int n = 0;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help"))
            return usage(stdout, 0);
        if (!strcmp(argv[i], "--unaligned"))
            o.unaligned = true;
        else if (!strcmp(argv[i], "--shards") && value)
            o.shards = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--type") && value && (!strcmp(value, "F32") || !strcmp(value, "F16") || !strcmp(value, "BF16")))
            o.type = argv[++i][0] == 'B' ? KVT_BF16 : value[1] == '3' ? KVT_F32 : KVT_F16;
        else if (argv[i][0] != '-' && n < 2)
            path[n++] = argv[i];
        else
            return usage(stderr, 2);
    }
    if (n < 2)
        return usage(stderr, 2);
    int rc = kvt_gguf_open(&g, &(struct kvt_folder){.path = ""}, path[0], &err);
    if (!rc) {
        mkdir(path[1], 0777);
        rc = kvt_mkfolder(path[1], &g, &o, &err);
        kvt_gguf_close(&g);
    }
    if (rc)
        fprintf(stderr, "mkfolder: %s\n", err.text);
    return kvt_exit_code(rc);
}
