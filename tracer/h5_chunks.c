/* Chunks, decoded by ourselves: HDF5 fetches them one by one, then all cores unpack. Reading a trace is unpacking, and HDF5's own way
 * is one thread, zlib, and the whole chunk again for each part that is asked of it.
 *
 * Only what the format writes is understood (shuffle, deflate, fletcher32); anything else, and anything that
 * doesn't unpack as it should, is left to HDF5, whose word about damage counts. */
#include "tracer/h5_chunks.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { BATCH = 16, LARGEST = 16 << 20 /* bytes of a chunk; the format's have 1 MiB */ };

struct chunks {
    hid_t ds;
    int rank, n_filters;
    H5Z_filter_t filter[3];      /* as they were applied */
    size_t chunk[KVT_TRACE_MAX_RANK], start[KVT_TRACE_MAX_RANK], count[KVT_TRACE_MAX_RANK];
    bool whole, empty;           /* all of it was asked for; nothing was ever written */
    size_t size, bytes;          /* of a value; of a chunk */
    uint8_t fill[8];
    uint8_t *out;
};

struct stored { struct libdeflate_decompressor *inflate; uint8_t *packed, *work[2]; size_t bytes; uint32_t skipped; size_t at[KVT_TRACE_MAX_RANK]; bool ok; };

/* HDF5's checksum of n bytes: Fletcher's over 16-bit words, high byte first. */
static uint32_t fletcher(const uint8_t *p, size_t n)
{
    uint32_t a = 0, b = 0;
    size_t words = n / 2;
    while (words) {
        size_t some = words > 360 ? 360 : words; /* so many sums fit 32 bits */
        words -= some;
        for (; some; some--, p += 2) {
            a += (uint32_t)p[0] << 8 | p[1];
            b += a;
        }
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    if (n % 2) {
        a += (uint32_t)*p << 8;
        b += a;
        a = (a & 0xffff) + (a >> 16);
        b = (b & 0xffff) + (b >> 16);
    }
    a = (a & 0xffff) + (a >> 16);
    b = (b & 0xffff) + (b >> 16);
    return b << 16 | a;
}

/* Planes of bytes back into values. */
static void unshuffle(const uint8_t *in, size_t bytes, size_t size, uint8_t *out)
{
    size_t n = bytes / size;
    if (size == 4) {
        const uint8_t *p0 = in, *p1 = in + n, *p2 = in + 2 * n, *p3 = in + 3 * n;
        for (size_t i = 0; i < n; i++) {
            uint8_t v[4] = {p0[i], p1[i], p2[i], p3[i]};
            memcpy(out + 4 * i, v, 4);
        }
    } else {
        for (size_t b = 0; b < size; b++)
            for (size_t i = 0; i < n; i++)
                out[i * size + b] = in[b * n + i];
    }
    memcpy(out + n * size, in + n * size, bytes - n * size);
}

/* The chunk's values, in one of its buffers; NULL: not as it should be. */
static const uint8_t *unpack(const struct chunks *c, struct stored *s)
{
    const uint8_t *now = s->packed;
    size_t n = s->bytes, turn = 0;
    for (int i = c->n_filters - 1; i >= 0; i--) {
        uint8_t *to = s->work[turn];
        if (s->skipped >> i & 1)
            continue;
        if (c->filter[i] == H5Z_FILTER_FLETCHER32) {
            if (n < 4)
                return NULL;
            n -= 4;
            uint32_t sum = now[n] | (uint32_t)now[n + 1] << 8 | (uint32_t)now[n + 2] << 16 | (uint32_t)now[n + 3] << 24;
            if (sum != fletcher(now, n))
                return NULL;
            continue;
        }
        if (c->filter[i] == H5Z_FILTER_DEFLATE) {
            if (libdeflate_zlib_decompress(s->inflate, now, n, to, c->bytes, NULL) != LIBDEFLATE_SUCCESS) /* exactly that many */
                return NULL;
            n = c->bytes;
        } else {
            if (c->size == 1)
                continue;
            if (n != c->bytes)
                return NULL;
            unshuffle(now, n, c->size, to);
        }
        now = to;
        turn = 1 - turn;
    }
    return n == c->bytes ? now : NULL;
}

/* The part of the box that lies in the chunk at s->at; `from` NULL: fill values. */
static void place(const struct chunks *c, const struct stored *s, const uint8_t *from)
{
    size_t first[KVT_TRACE_MAX_RANK], n[KVT_TRACE_MAX_RANK], rows = 1, i[KVT_TRACE_MAX_RANK] = {0};
    int last = c->rank - 1;
    for (int d = 0; d < c->rank; d++) { /* in the dataset */
        size_t end = s->at[d] + c->chunk[d], want = c->start[d] + c->count[d];
        first[d] = s->at[d] > c->start[d] ? s->at[d] : c->start[d];
        n[d] = (end < want ? end : want) - first[d];
        rows *= d < last ? n[d] : 1;
    }
    for (size_t r = 0; r < rows; r++) {
        size_t in = 0, to = 0;
        for (int d = 0; d < c->rank; d++) {
            size_t at = first[d] + (d < last ? i[d] : 0);
            in = in * c->chunk[d] + at - s->at[d];
            to = to * c->count[d] + at - c->start[d];
        }
        if (from)
            memcpy(c->out + to * c->size, from + in * c->size, n[last] * c->size);
        for (size_t k = 0; !from && k < n[last]; k++)
            memcpy(c->out + (to + k) * c->size, c->fill, c->size);
        for (int d = last - 1; d >= 0 && ++i[d] == n[d]; d--)
            i[d] = 0;
    }
}

/* Whether this is a dataset as the format makes them, read as what it is. */
static bool known(struct chunks *c, hid_t type)
{
    hid_t dcpl = H5Dget_create_plist(c->ds), have = H5Dget_type(c->ds), space = H5Dget_space(c->ds);
    hsize_t chunk[KVT_TRACE_MAX_RANK], shape[KVT_TRACE_MAX_RANK];
    H5D_fill_value_t fill = H5D_FILL_VALUE_ERROR;
    bool ok = dcpl >= 0 && have >= 0 && space >= 0 && H5Tequal(have, type) > 0 && H5Tget_class(have) != H5T_STRING && H5Pget_layout(dcpl) == H5D_CHUNKED &&
              H5Sget_simple_extent_ndims(space) == c->rank && H5Sget_simple_extent_dims(space, shape, NULL) == c->rank &&
              H5Pget_chunk(dcpl, c->rank, chunk) == c->rank && (c->n_filters = H5Pget_nfilters(dcpl)) >= 1 && c->n_filters <= 3 && /* without filters HDF5 reads no more than it must */
              H5Pfill_value_defined(dcpl, &fill) >= 0 && fill != H5D_FILL_VALUE_UNDEFINED && (c->size = H5Tget_size(have)) <= sizeof c->fill &&
              H5Pget_fill_value(dcpl, type, c->fill) >= 0;
    for (int i = 0; ok && i < c->n_filters; i++) {
        unsigned flags;
        size_t words = 0;
        static const H5Z_filter_t order[3] = {H5Z_FILTER_SHUFFLE, H5Z_FILTER_DEFLATE, H5Z_FILTER_FLETCHER32};
        c->filter[i] = H5Pget_filter2(dcpl, (unsigned)i, &flags, &words, NULL, 0, NULL, NULL);
        int place_of = 0;
        while (place_of < 3 && order[place_of] != c->filter[i])
            place_of++;
        ok = place_of < 3 && (!i || c->filter[i] != c->filter[i - 1]);
    }
    c->bytes = c->size;
    for (int d = 0; ok && d < c->rank; d++) {
        c->chunk[d] = (size_t)chunk[d];
        if (c->whole)
            c->count[d] = (size_t)shape[d];
        ok = kvt_mul_size(c->bytes, c->chunk[d], &c->bytes) && c->bytes <= LARGEST && c->count[d] && c->start[d] + c->count[d] <= shape[d];
    }
    if (dcpl >= 0)
        H5Pclose(dcpl);
    if (have >= 0)
        H5Tclose(have);
    if (space >= 0)
        H5Sclose(space);
    return ok;
}

/* What HDF5 has of a chunk; s->bytes 0: it was never written. */
static bool fetch(const struct chunks *c, struct stored *s)
{
    hsize_t at[KVT_TRACE_MAX_RANK], bytes = 0;
    for (int d = 0; d < c->rank; d++)
        at[d] = s->at[d];
    unsigned mask = 0;
    haddr_t addr = HADDR_UNDEF;
    if (!c->empty && H5Dget_chunk_info_by_coord(c->ds, at, &mask, &addr, &bytes) < 0)
        return false;
    if (addr == HADDR_UNDEF)
        bytes = 0;
    if (bytes > c->bytes + c->bytes / 8 + 1024)
        return false;
    s->bytes = (size_t)bytes;
    return !bytes || H5Dread_chunk(c->ds, H5P_DEFAULT, at, &s->skipped, s->packed) >= 0;
}

static bool next(const struct chunks *c, size_t *at)
{
    for (int d = c->rank - 1; d >= 0; d--) {
        at[d] += c->chunk[d];
        if (at[d] < c->start[d] + c->count[d])
            return true;
        at[d] = c->start[d] / c->chunk[d] * c->chunk[d];
    }
    return false;
}

/* Only the thread that asked speaks to HDF5: it fetches while the others unpack, and then helps them. */
static bool read_all(const struct chunks *c, struct stored *s, bool alone)
{
    size_t at[KVT_TRACE_MAX_RANK];
    bool more = true, ok = true;
    for (int d = 0; d < c->rank; d++)
        at[d] = c->start[d] / c->chunk[d] * c->chunk[d];
#pragma omp parallel if (!alone)
#pragma omp master
    while (more && ok) {
        int n = 0;
        while (more && ok && n < BATCH) {
            memcpy(s[n].at, at, sizeof at);
            ok = fetch(c, &s[n]);
            more = next(c, at);
            if (!ok)
                break;
            struct stored *one = &s[n++];
#pragma omp task firstprivate(one)
            {
                const uint8_t *values = one->bytes ? unpack(c, one) : NULL;
                one->ok = values || !one->bytes;
                if (one->ok)
                    place(c, one, values);
            }
        }
#pragma omp taskwait
        for (int i = 0; i < n; i++)
            ok = ok && s[i].ok;
    }
    return ok;
}

bool kvt_h5_read_chunks(hid_t ds, hid_t type, const size_t *start, const size_t *count, int rank, void *out)
{
    struct chunks c = {.ds = ds, .rank = rank, .out = out, .whole = !start};
    struct stored s[BATCH] = {{NULL, NULL, {NULL, NULL}, 0, 0, {0}, false}};
    if (rank < 1 || rank > KVT_TRACE_MAX_RANK)
        return false;
    if (start) {
        memcpy(c.start, start, (size_t)rank * sizeof *start);
        memcpy(c.count, count, (size_t)rank * sizeof *count);
    }
    if (!known(&c, type))
        return false;
    c.empty = !H5Dget_storage_size(ds);
    size_t boxed = 1;
    for (int d = 0; d < rank && boxed < BATCH; d++)
        boxed *= (c.start[d] + c.count[d] - 1) / c.chunk[d] - c.start[d] / c.chunk[d] + 1;
    int n = boxed < BATCH ? (int)boxed : BATCH;
    uint8_t *memory = kvt_calloc((size_t)n, 3 * (c.bytes + c.bytes / 8 + 1024));
    bool ok = memory;
    for (int i = 0; ok && i < n; i++) {
        size_t each = c.bytes + c.bytes / 8 + 1024;
        s[i].packed = memory + (size_t)i * 3 * each;
        s[i].work[0] = s[i].packed + each;
        s[i].work[1] = s[i].work[0] + each;
        ok = (s[i].inflate = libdeflate_alloc_decompressor()) != NULL;
    }
    ok = ok && read_all(&c, s, n == 1 || c.bytes < 1 << 15);
    for (int i = 0; i < n; i++)
        libdeflate_free_decompressor(s[i].inflate);
    free(memory);
    return ok;
}
