/* libFuzzer: prompts.jsonl, many prompts of one run. */
#include <string.h>

#include "as_file.h"
#include "kvt/prompt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kvt_prompt_list l = {0};
    struct kvt_err err;
    if (kvt_prompt_list_read(&l, as_file(data, size), &err) == 0)
        for (int i = 0; i < l.n; i++) { /* ids are names of files, each another */
            if (!*l.item[i].id || strchr(l.item[i].id, '/') || (!l.item[i].text && !l.item[i].question))
                abort();
            for (int k = 0; k < i && i < 50; k++)
                if (!strcmp(l.item[i].id, l.item[k].id))
                    abort();
        }
    kvt_prompt_list_free(&l);
    return 0;
}
