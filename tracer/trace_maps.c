/* Pooled maps in blocks. The producer cuts them on their way into the ring; the writer hands each over as the chunk it is. */
#include "tracer/trace_maps.h"

#include <string.h>

static size_t round16(size_t n) { return (n + 15) & ~(size_t)15; }

struct kvt_map_blocks kvt_map_blocks_of(const struct kvt_trace_shape *s, bool packed)
{
    struct kvt_dataset_info d;
    size_t shape[KVT_TRACE_MAX_RANK], len, chunk[KVT_TRACE_MAX_RANK];
    kvt_schema_get(KVT_DS_MAP_MEAN, &d);
    if (!kvt_trace_has(s, &d, shape, &len))
        return (struct kvt_map_blocks){0};
    kvt_schema_chunk(&d, shape, sizeof(uint16_t), chunk);
    return (struct kvt_map_blocks){.H = shape[1], .R = shape[2], .C = shape[3], .heads = chunk[1], .rows = chunk[2], .cols = chunk[3], .packed = packed};
}

/* Blocks in order: heads, queries, keys. `each` gets where one begins and how much of it lies inside the map. */
struct walk {
    const struct kvt_map_blocks *b;
    size_t n, at[3], count[3];
    bool started;
};

static size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Position of the first key of column bin c; one past the last query of the row bins below r. */
static size_t first_of(size_t bin, size_t bins, size_t n) { return (bin * n + bins - 1) / bins; }

static bool next(struct walk *w)
{
    const struct kvt_map_blocks *b = w->b;
    do {
        if (!w->started)
            w->started = true;
        else if ((w->at[2] += b->cols) >= b->C) {
            w->at[2] = 0;
            if ((w->at[1] += b->rows) >= b->R) {
                w->at[1] = 0;
                w->at[0] += b->heads;
            }
        }
        if (w->at[0] >= b->H)
            return false;
        w->count[0] = smaller(b->heads, b->H - w->at[0]);
        w->count[1] = smaller(b->rows, b->R - w->at[1]);
        w->count[2] = smaller(b->cols, b->C - w->at[2]);
    } while (first_of(w->at[2], b->C, w->n) >= first_of(w->at[1] + w->count[1], b->R, w->n));
    return true;
}

/* Values of a block as it lies in a message: all of its chunk, or what is inside. */
static size_t values(const struct walk *w)
{
    const struct kvt_map_blocks *b = w->b;
    return b->packed ? w->count[0] * w->count[1] * w->count[2] : b->heads * b->rows * b->cols;
}

size_t kvt_maps_layer_bytes(const struct kvt_map_blocks *b, int n)
{
    struct walk w = {.b = b, .n = (size_t)n};
    size_t all = 0;
    while (b->H && next(&w))
        all += values(&w) * sizeof(uint16_t);
    return all;
}

size_t kvt_maps_bytes(const struct kvt_map_blocks *b, int n) { return round16(sizeof(struct kvt_msg)) + 2 * kvt_maps_layer_bytes(b, n); }

static uint16_t *cut(const struct walk *w, const uint16_t *from, uint16_t *to)
{
    const struct kvt_map_blocks *b = w->b;
    size_t wide = b->packed ? w->count[2] : b->cols, high = b->packed ? w->count[1] : b->rows;
    for (size_t h = 0; h < w->count[0]; h++)
        for (size_t r = 0; r < w->count[1]; r++)
            memcpy(to + (h * high + r) * wide, from + ((w->at[0] + h) * b->R + w->at[1] + r) * b->C + w->at[2], w->count[2] * sizeof *to);
    return to + values(w);
}

void kvt_maps_pack(const struct kvt_map_blocks *b, const struct kvt_ev_prefill_layer *e, void *to)
{
    struct kvt_msg m = {.kind = KVT_MSG_MAPS, .maps = {.layer = e->layer, .n = e->n}};
    uint16_t *value = (uint16_t *)(void *)((char *)to + round16(sizeof m));
    m.maps.value = value;
    struct walk w = {.b = b, .n = (size_t)e->n};
    while (next(&w)) {
        bool whole = w.count[0] == b->heads && w.count[1] == b->rows && w.count[2] == b->cols;
        if (!whole && !b->packed) /* beyond the map's edge */
            memset(value, 0, 2 * values(&w) * sizeof *value);
        value = cut(&w, e->map_mean, value);
        value = cut(&w, e->map_max, value);
    }
    memcpy(to, &m, sizeof m);
}

bool kvt_maps_put(const struct kvt_map_blocks *b, const struct kvt_msg *m, hid_t mean, hid_t max, hid_t type)
{
    const uint16_t *value = m->maps.value;
    struct walk w = {.b = b, .n = (size_t)m->maps.n};
    while (next(&w)) {
        size_t bytes = values(&w) * sizeof *value;
        for (int i = 0; i < 2; i++, value += values(&w)) {
            hid_t ds = i ? max : mean;
            size_t at[4] = {(size_t)m->maps.layer, w.at[0], w.at[1], w.at[2]}, count[4] = {1, w.count[0], w.count[1], w.count[2]};
            hsize_t offset[4] = {at[0], at[1], at[2], at[3]};
            if (b->packed ? !kvt_h5_write(ds, type, at, count, 4, value) : H5Dwrite_chunk(ds, H5P_DEFAULT, 0, offset, bytes, value) < 0)
                return false;
        }
    }
    return true;
}
