/* libFuzzer: any files make a Hugging Face folder that opens, or one clear error. The input is cut at lines "%% NAME" into the
 * files of a folder in memory; a safetensors file may begin with a line "@", for which the header's length is written. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/model.h"

#define MAX_FILES 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The next line "%% NAME\n" from p on, or end; *name and *body are set. */
static const uint8_t *next_file(const uint8_t *p, const uint8_t *end, const uint8_t **name, const uint8_t **body)
{
    for (; p < end; p++) {
        if (end - p < 4 || memcmp(p, "%% ", 3) != 0)
            continue;
        const uint8_t *line = memchr(p, '\n', (size_t)(end - p));
        if (!line)
            return end;
        *name = p + 3;
        *body = line + 1;
        return p;
    }
    return end;
}

/* Its own allocation, so that reading past the end is seen; aligned as a mapping is. */
static void *copy_of(const uint8_t *p, size_t *bytes)
{
    bool header = *bytes > 1 && p[0] == '@' && p[1] == '\n';
    const uint8_t *brace = header ? memchr(p, '\0', *bytes) : NULL; /* the header ends where a zero stands, which is left out */
    size_t n = *bytes, head = 0;
    void *copy;
    if (header) {
        head = brace ? (size_t)(brace - p) - 2 : n - 2;
        n = 8 + n - 2 - (brace != NULL);
    }
    if (posix_memalign(&copy, 64, n ? n : 1) != 0)
        abort();
    if (header) {
        uint64_t length = head;
        memcpy(copy, &length, 8);
        memcpy((char *)copy + 8, p + 2, head);
        if (brace)
            memcpy((char *)copy + 8 + head, brace + 1, n - 8 - head);
    } else {
        memcpy(copy, p, n);
    }
    *bytes = n;
    return copy;
}

/* Reads both ends of a matrix, as the shape promises it. */
static unsigned ends_of(struct kvt_mat m)
{
    size_t n = m.data ? kvt_row_bytes(m.type, (size_t)m.k) * (size_t)m.n : 0;
    const unsigned char *p = m.data;
    return n ? p[0] + p[n - 1] : 0u;
}

static void use(const struct kvt_model *m)
{
    const struct kvt_weights *w = kvt_model_weights(m);
    const struct kvt_shape *s = kvt_model_shape(m);
    unsigned total = ends_of(w->embed) + ends_of(w->output) + (w->out_norm[s->E - 1] > 0);
    for (int l = 0; l < s->L; l++) {
        const struct kvt_layer_weights *y = &w->layer[l];
        total += ends_of(y->q) + ends_of(y->k) + ends_of(y->v) + ends_of(y->o) + ends_of(y->gate) + ends_of(y->up) + ends_of(y->down);
        const float *of_E[] = {y->attn_norm, y->ffn_norm, y->post_attn_norm, y->post_ffn_norm, y->o_bias, y->down_bias};
        for (size_t i = 0; i < sizeof of_E / sizeof *of_E; i++)
            total += of_E[i] && of_E[i][s->E - 1] > 0;
        total += y->q_bias && y->q_bias[s->H * s->D - 1] > 0;
        total += y->v_bias && y->v_bias[s->G * s->D - 1] > 0;
        total += y->k_norm && y->k_norm[s->D - 1] > 0;
    }
    volatile unsigned used = total;
    (void)used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct kvt_memory_file file[MAX_FILES];
    char name[MAX_FILES][64];
    const uint8_t *end = data + size, *said = NULL, *body = NULL, *at = next_file(data, end, &said, &body);
    int n = 0;
    while (at < end && n < MAX_FILES) {
        const uint8_t *this_name = said, *this_body = body;
        size_t len = (size_t)(this_body - 1 - this_name), bytes;
        at = next_file(this_body, end, &said, &body);
        bytes = (size_t)(at - this_body);
        if (len >= sizeof name[0])
            continue;
        memcpy(name[n], this_name, len);
        name[n][len] = 0;
        file[n].name = name[n];
        file[n].base = copy_of(this_body, &bytes);
        file[n++].bytes = bytes;
    }
    static const struct kvt_memory_file nothing;
    struct kvt_model *m;
    struct kvt_err err = {0};
    int rc = kvt_model_from_folder(&m, &(struct kvt_folder){.path = "fuzzed", .file = n ? file : &nothing, .n_files = n}, &err);
    if (rc && (rc != err.code || !err.text[0]))
        abort(); /* an error without a word */
    if (!rc)
        use(m);
    kvt_model_close(&m);
    for (int i = 0; i < n; i++)
        free((void *)(uintptr_t)file[i].base);
    return 0;
}
