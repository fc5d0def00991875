/* libFuzzer: any bytes are a model file or one clear error. An input that begins with "2" and a line end is a model in two
 * parts: the length of the first in 32 bits, the first, the second. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gguf.h"
#include "engine/model.h"
#include "kvt/prompt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Its own allocation, so that reading past the end is seen; aligned as a mapping is. */
static void *copy_of(const uint8_t *data, size_t size)
{
    void *copy;
    if (posix_memalign(&copy, 64, size ? size : 1) != 0)
        abort();
    memcpy(copy, data, size);
    return copy;
}

static void in_two(const uint8_t *data, size_t size)
{
    uint32_t n = 0;
    memcpy(&n, data, size < 4 ? size : 4);
    data += size < 4 ? size : 4;
    size -= size < 4 ? size : 4;
    n = n < size ? n : (uint32_t)size;
    struct kvt_memory_file file[] = {{"m-00001-of-00002.gguf", copy_of(data, n), n},
                                     {"m-00002-of-00002.gguf", copy_of(data + n, size - n), size - n}};
    struct kvt_gguf g;
    struct kvt_err err = {0};
    int rc = kvt_gguf_open(&g, &(struct kvt_folder){.path = "", .file = file, .n_files = 2}, file[0].name, &err);
    if (rc && (rc != err.code || !err.text[0]))
        abort();
    unsigned total = 0;
    for (int i = 0; i < g.tensors.n && !rc; i++)
        total += *(const unsigned char *)g.tensors.tensor[i].data + ((const unsigned char *)g.tensors.tensor[i].data)[g.tensors.tensor[i].bytes - 1];
    volatile unsigned used = total;
    (void)used;
    kvt_gguf_close(&g);
    free((void *)(uintptr_t)file[0].base);
    free((void *)(uintptr_t)file[1].base);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    if (size > 2 && data[0] == '2' && data[1] == '\n') {
        in_two(data + 2, size - 2);
        return 0;
    }
    void *copy = copy_of(data, size);
    struct kvt_model *m;
    struct kvt_err err = {0};
    int rc = kvt_model_from_memory(&m, "fuzzed", copy, size, &err);
    if (rc && (rc != err.code || !err.text[0]))
        abort(); /* an error without a word */
    if (!rc) {
        static const char text[] = "The 12 caf\xc3\xa9s <|im_end|>\n\n  \xf0\x9f\x91\x8d";
        const struct kvt_tokenizer *tok = kvt_model_tokenizer(m);
        struct kvt_tokens t;
        size_t total = 0, n;
        if (!kvt_tokenize(tok, text, sizeof text - 1, KVT_TOK_SPECIAL | KVT_TOK_BOS, &t, &err))
            kvt_tokens_free(&t);
        for (int32_t id = -1; id <= kvt_tokenizer_size(tok); id++) {
            const char *s = kvt_token_bytes(tok, id, &n);
            total += n ? (unsigned char)s[n - 1] : 0;
            total += kvt_token_is_end(tok, id);
        }
        const struct kvt_weights *w = kvt_model_weights(m);
        const struct kvt_shape *s = kvt_model_shape(m);
        for (int l = 0; l < s->L; l++) /* both ends of what the shape promises */
            total += (unsigned)((const unsigned char *)w->layer[l].q.data)[kvt_row_bytes(w->layer[l].q.type, (size_t)s->E) *
                                                                           (size_t)(s->H * s->D) - 1] +
                     (w->layer[l].attn_norm[s->E - 1] > 0);
        volatile size_t used = total;
        (void)used;
        kvt_model_close(&m);
    }
    free(copy);
    return 0;
}
