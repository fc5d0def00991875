/* The registry: an array, in the order of docs/methods.md. */
#include "methods/methods.h"

#include <string.h>

static const struct kvt_method *const all[] = {
    &kvt_method_full,   &kvt_method_random,    &kvt_method_streaming, &kvt_method_h2o,
    &kvt_method_snapkv, &kvt_method_pyramidkv, &kvt_method_chunkkv,   &kvt_method_shotkv,
    &kvt_method_adakv,  &kvt_method_criticalkv, &kvt_method_kvcompress,  &kvt_method_randomshot,
    &kvt_method_tova,   &kvt_method_treekv,
    &kvt_method_oracle,
    &kvt_method_knorm,  &kvt_method_keydiff,   &kvt_method_lagkv,    &kvt_method_expected,
    &kvt_method_kvzip,  &kvt_method_file,
    &kvt_method_duoattention, &kvt_method_finch,
    &kvt_method_my, /* last: rows first, then what makes one */
};

const struct kvt_method *const *kvt_methods(int *count)
{
    *count = (int)(sizeof all / sizeof *all);
    return all;
}

const struct kvt_method *kvt_method_find(const char *name)
{
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(all[i]->name, name))
            return all[i];
    return NULL;
}
