/* Kept sets in a result's line: "30x3x1180:" and base64 of the deflated bits. */
#include "compare/kept.h"

#include <libdeflate.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/html.h"
#include "base/mem.h"

enum { HEAD = 48, MOST_CELLS = 1 << 16, MOST_TOKENS = 1 << 24 };

static int no_memory(struct kvt_err *err) { return kvt_fail(err, KVT_ENOMEM, "no memory for kept sets"); }

static size_t bytes_of(int L, int G, int n) { return (size_t)L * (size_t)G * (((size_t)n + 7) / 8); }

size_t kvt_kept_most(int L, int G, int n_context) { return HEAD + (bytes_of(L, G, n_context) + 64) / 3 * 4; }

static int read_bits(struct kvt_session *s, int branch, int L, int G, int n, unsigned char *bits, struct kvt_err *err)
{
    int cap = n + (1 << 16), rc = 0; /* and what came behind the context */
    int32_t *pos = kvt_calloc((size_t)cap, sizeof *pos);
    if (!pos)
        return no_memory(err);
    for (int c = 0; c < L * G && rc >= 0; c++) {
        unsigned char *row = bits + (size_t)c * (((size_t)n + 7) / 8);
        rc = kvt_session_positions(s, branch, c / G, c % G, pos, cap, err);
        for (int i = 0; i < rc; i++)
            if (pos[i] < n)
                row[pos[i] / 8] |= (unsigned char)(1u << (pos[i] % 8));
    }
    free(pos);
    return rc < 0 ? rc : 0;
}

int kvt_kept_pack(struct kvt_session *s, int branch, int L, int G, char **out, struct kvt_err *err)
{
    int n = kvt_session_n_context(s);
    size_t bytes = bytes_of(L, G, n), size = 0;
    unsigned char *bits = kvt_calloc(bytes + 1, 1);
    struct libdeflate_compressor *c = libdeflate_alloc_compressor(6);
    size_t cap = c ? libdeflate_zlib_compress_bound(c, bytes) : 0, packed = 0;
    unsigned char *to = c ? malloc(cap) : NULL;
    FILE *f = NULL;
    *out = NULL;
    int rc = bits && to ? read_bits(s, branch, L, G, n, bits, err) : no_memory(err);
    if (!rc && !(packed = libdeflate_zlib_compress(c, bits, bytes, to, cap)))
        rc = no_memory(err);
    if (!rc && !(f = open_memstream(out, &size)))
        rc = no_memory(err);
    if (f) {
        fprintf(f, "%dx%dx%d:", L, G, n);
        kvt_base64(f, to, packed);
        bool bad = ferror(f);
        if (fclose(f) || bad)
            rc = no_memory(err);
    }
    libdeflate_free_compressor(c);
    free(bits);
    free(to);
    return rc;
}

static int digit_of(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* In place is not possible: out (strlen / 4 * 3). Bytes, or -1. */
static long unbase64(const char *text, unsigned char *out)
{
    size_t n = strlen(text);
    long used = 0;
    if (n % 4)
        return -1;
    for (size_t i = 0; i < n; i += 4) {
        unsigned v = 0;
        int pad = 0;
        for (int k = 0; k < 4; k++) {
            bool end = text[i + (size_t)k] == '=' && i + 4 == n && k >= 2;
            int d = end ? 0 : digit_of(text[i + (size_t)k]);
            pad += end;
            if (d < 0 || (pad && !end))
                return -1;
            v = v << 6 | (unsigned)d;
        }
        for (int k = 0; k < 3 - pad; k++)
            out[used++] = (unsigned char)(v >> (16 - 8 * k));
    }
    return used;
}

int kvt_kept_open(struct kvt_kept *out, const char *text, struct kvt_err *err)
{
    int at = 0;
    *out = (struct kvt_kept){ 0 };
    if (sscanf(text, "%dx%dx%d:%n", &out->L, &out->G, &out->n_context, &at) != 3 || !at || out->L < 1 || out->G < 1 || out->n_context < 1 || out->L > MOST_CELLS / out->G ||
        out->n_context > MOST_TOKENS)
        return kvt_fail(err, KVT_EFORMAT, "no kept set: it doesn't begin with layers x kv heads x tokens");
    size_t bytes = bytes_of(out->L, out->G, out->n_context), cap = strlen(text + at) / 4 * 3 + 3;
    unsigned char *packed = malloc(cap);
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    out->bits = kvt_calloc(bytes + 1, 1);
    int rc = packed && d && out->bits ? 0 : no_memory(err);
    long n = rc ? -1 : unbase64(text + at, packed);
    size_t got = 0;
    if (!rc && (n < 0 || libdeflate_zlib_decompress(d, packed, (size_t)n, out->bits, bytes, &got) != LIBDEFLATE_SUCCESS || got != bytes))
        rc = kvt_fail(err, KVT_EFORMAT, "no kept set: its %d x %d x %d bits don't come out", out->L, out->G, out->n_context);
    libdeflate_free_decompressor(d);
    free(packed);
    if (rc)
        kvt_kept_close(out);
    return rc;
}

void kvt_kept_close(struct kvt_kept *k)
{
    free(k->bits);
    *k = (struct kvt_kept){ 0 };
}
