/* mkmodel: writes a tiny random model, for tests that run the tools. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mkmodel.h"

static int usage(FILE *to, int rc)
{
    fprintf(to, "use: mkmodel [--seed N] [--type F32|Q8_0|Q4_1|...] [--layers L] [--heads H] [--kv-heads G] [--head-dim D]\n"
                "               [--width E] [--ff F] [--context N] [--merges N] [--qwen2] [--untied] [--bos] [--pre NAME] FILE\n"
                "example: mkmodel --seed 7 --type Q4_1 tiny.gguf\n");
    return rc;
}

int main(int argc, char **argv)
{
    struct kvt_mkmodel_opts o = {0};
    struct kvt_err err;
    const char *path = NULL, *type = "F32";
    struct { const char *name; int *to; } numbers[] = {
        {"--layers", &o.L}, {"--heads", &o.H}, {"--kv-heads", &o.G}, {"--head-dim", &o.D}, {"--width", &o.E}, {"--ff", &o.F},
        {"--context", &o.context_tok}, {"--merges", &o.n_merges},
    };
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        int *number = NULL;
        for (size_t k = 0; k < sizeof numbers / sizeof *numbers; k++)
            if (strcmp(a, numbers[k].name) == 0)
                number = numbers[k].to;
        if (strcmp(a, "-h") == 0 || strcmp(a, "--help") == 0)
            return usage(stdout, 0);
        if (strcmp(a, "--qwen2") == 0)
            o.qwen2 = true;
        else if (strcmp(a, "--untied") == 0)
            o.untied = true;
        else if (strcmp(a, "--bos") == 0)
            o.add_bos = true;
        else if (a[0] != '-' && !path)
            path = a;
        else if (!value)
            return usage(stderr, 2);
        else if (i++, number)
            *number = atoi(value);
        else if (strcmp(a, "--seed") == 0)
            o.seed = strtoull(value, NULL, 10);
        else if (strcmp(a, "--pre") == 0)
            o.pre = value;
        else if (strcmp(a, "--type") == 0)
            type = value;
        else
            return usage(stderr, 2);
    }
    int t = 0;
    while (t < KVT_N_DTYPE && strcmp(kvt_dtypes[t].name, type) != 0)
        t++;
    if (!path || t == KVT_N_DTYPE)
        return usage(stderr, 2);
    o.type = (enum kvt_dtype)t;
    int rc = kvt_mkmodel(path, &o, &err);
    if (rc)
        fprintf(stderr, "mkmodel: %s\n", err.text);
    return kvt_exit_code(rc);
}
