/* Full maps in tiles. The producer converts straight into the ring (one pass over the lower triangle); a strip that came whole
 * is written from there, chunk by chunk, without another copy. */
#include "tracer/trace_tiles.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/mem.h"

static size_t round16(size_t n) { return (n + 15) & ~(size_t)15; }
static size_t tiles_in(size_t n, size_t edge) { return (n + edge - 1) / edge; }

size_t kvt_tiles_edge(const struct kvt_trace_shape *s)
{
    struct kvt_dataset_info d;
    size_t shape[KVT_TRACE_MAX_RANK], len, chunk[KVT_TRACE_MAX_RANK];
    kvt_schema_get(KVT_DS_FULL, &d);
    if (!kvt_trace_has(s, &d, shape, &len))
        return 0;
    kvt_schema_chunk(&d, shape, sizeof(uint16_t), chunk);
    assert(chunk[0] == 1 && chunk[1] == 1 && chunk[2] == chunk[3]);
    return chunk[2];
}

static size_t strip_values(const struct kvt_trace_shape *s, size_t edge)
{
    return edge ? tiles_in(s->extent[KVT_DIM_key], edge) * edge * edge : 0;
}

size_t kvt_tiles_message(const struct kvt_trace_shape *s)
{
    size_t edge = kvt_tiles_edge(s);
    return edge ? round16(sizeof(struct kvt_msg)) + round16(tiles_in(s->extent[KVT_DIM_key], edge)) + strip_values(s, edge) * sizeof(uint16_t) : 0;
}

size_t kvt_tiles_file_bytes(const struct kvt_trace_shape *s)
{
    size_t edge = kvt_tiles_edge(s), side = edge ? tiles_in(s->extent[KVT_DIM_key], edge) : 0;
    return s->extent[KVT_DIM_full_layer] * s->extent[KVT_DIM_full_head] * (side * (side + 1) / 2) * edge * edge * sizeof(uint16_t);
}

/* ---- producer ---------------------------------------------------------------------------------------------------- */

/* f16 of p * KVT_FULL_SCALE, round to nearest even, for p >= 0; without branches, so that the compiler makes vectors of it
 * (kvt_f16_from_f32 is the same number by number). Returns the bits of all of them together. */
static uint32_t halves(uint16_t *restrict to, const float *restrict p, size_t n)
{
    uint32_t any = 0;
    for (size_t i = 0; i < n; i++) {
        float v = p[i] * KVT_FULL_SCALE;
        int32_t u = (int32_t)kvt_bits_from_f32(v);
        int32_t low = (int32_t)kvt_bits_from_f32(v + 0.5f) - 0x3f000000; /* below 2^-14: the sum's last bit is 2^-24 */
        int32_t high = (u + 0xfff + ((u >> 13) & 1) - 0x38000000) >> 13;
        int32_t h = u < 0x38800000 ? low : u < 0x477ff000 ? high : u <= 0x7f800000 ? 0x7c00 : 0x7e00;
        any |= (uint32_t)h;
        to[i] = (uint16_t)h;
    }
    return any;
}

void kvt_tiles_cut(const struct kvt_ev_rows *e, size_t edge, int i, int r, struct kvt_msg *out)
{
    int row0 = e->row0 + r, ed = (int)edge, strip_end = (row0 / ed + 1) * ed, end = e->row0 + e->n_rows;
    if (end > strip_end)
        end = strip_end;
    *out = (struct kvt_msg){.kind = KVT_MSG_TILES};
    out->tiles.layer = e->layer;
    out->tiles.head = e->head[i];
    out->tiles.n = e->n;
    out->tiles.row0 = row0;
    out->tiles.n_rows = end - row0;
    out->tiles.edge = ed;
    out->tiles.whole = row0 % ed == 0 && (end == strip_end || end == e->n);
    out->tiles.n_tiles = row0 / ed + 1;
}

/* Rows that each tile of the message holds: a whole strip is padded to what a chunk is. */
static int rows_of(const struct kvt_msg *m) { return m->tiles.whole ? m->tiles.edge : m->tiles.n_rows; }

static size_t tile_values(const struct kvt_msg *m) { return (size_t)rows_of(m) * (size_t)m->tiles.edge; }

size_t kvt_tiles_bytes(const struct kvt_msg *m)
{
    size_t n = (size_t)m->tiles.n_tiles;
    return round16(sizeof *m) + round16(n) + n * tile_values(m) * sizeof(uint16_t);
}

static uint32_t copy(uint16_t *restrict to, const uint16_t *restrict from, size_t n)
{
    uint32_t any = 0;
    for (size_t i = 0; i < n; i++)
        any |= to[i] = from[i];
    return any;
}

void kvt_tiles_pack(struct kvt_msg *m, const float *rows, const uint16_t *half, void *to)
{
    size_t edge = (size_t)m->tiles.edge, n = (size_t)m->tiles.n, n_rows = (size_t)m->tiles.n_rows, pad = (size_t)rows_of(m);
    uint8_t *used = (uint8_t *)to + round16(sizeof *m);
    uint16_t *value = (uint16_t *)(void *)(used + round16((size_t)m->tiles.n_tiles));
    m->tiles.used = used;
    m->tiles.value = value;
    for (size_t c = 0; c < (size_t)m->tiles.n_tiles; c++, value += pad * edge) {
        size_t key = c * edge, wide = n - key < edge ? n - key : edge;
        uint32_t any = 0;
        for (size_t r = 0; r < n_rows; r++) {
            any |= rows ? halves(value + r * edge, rows + r * n + key, wide) : copy(value + r * edge, half + r * n + key, wide);
            if (wide < edge)
                memset(value + r * edge + wide, 0, (edge - wide) * sizeof *value);
        }
        memset(value + n_rows * edge, 0, (pad - n_rows) * edge * sizeof *value);
        used[c] = any != 0;
    }
    memcpy(to, m, sizeof *m);
}

/* ---- consumer ---------------------------------------------------------------------------------------------------- */

/* A strip whose rows come in several pieces. */
struct strip {
    int layer, first, rows;    /* its first query; rows that came; 0: there is none */
    int n_tiles;
    uint16_t *value;           /* (tiles, edge, edge), allocated with the first piece */
    uint8_t *used;             /* (tiles) */
};

struct kvt_tiles {
    hid_t map, done;
    bool packed;
    size_t edge, n_tiles;      /* of a map's side */
    size_t n_layers, n_heads, n; /* the dataset's extents */
    struct strip *strip;       /* (heads) */
    int32_t *rows;             /* (layers, heads) recorded */
    bool counted;              /* rows stands in the file */
    hid_t type;
    size_t written;
};

struct kvt_tiles *kvt_tiles_open(const struct kvt_trace_shape *s, hid_t map, hid_t done, bool packed)
{
    struct kvt_tiles *t = kvt_calloc(1, sizeof *t);
    if (!t)
        return NULL;
    t->map = map, t->done = done, t->packed = packed;
    t->edge = kvt_tiles_edge(s);
    t->n = s->extent[KVT_DIM_key];
    t->n_tiles = tiles_in(t->n, t->edge);
    t->n_layers = s->extent[KVT_DIM_full_layer], t->n_heads = s->extent[KVT_DIM_full_head];
    t->type = kvt_h5_mem_type(KVT_H5_F16, 0);
    t->strip = kvt_calloc(t->n_heads, sizeof *t->strip);
    t->rows = kvt_calloc(t->n_layers * t->n_heads, sizeof *t->rows);
    t->counted = true;
    if (!t->strip || !t->rows || t->type < 0)
        kvt_tiles_close(&t);
    return t;
}

void kvt_tiles_close(struct kvt_tiles **tp)
{
    struct kvt_tiles *t = *tp;
    *tp = NULL;
    if (!t)
        return;
    for (size_t h = 0; t->strip && h < t->n_heads; h++) {
        free(t->strip[h].value);
        free(t->strip[h].used);
    }
    if (t->type >= 0)
        H5Tclose(t->type);
    free(t->strip);
    free(t->rows);
    free(t);
}

/* One tile, all of a chunk. At the map's edge a chunk reaches beyond the dataset: what passes through filters is clipped. */
static bool write_tile(struct kvt_tiles *t, int layer, int head, size_t query, size_t key, const uint16_t *v)
{
    size_t bytes = t->edge * t->edge * sizeof *v;
    t->written += bytes;
    if (!t->packed) {
        hsize_t at[4] = {(hsize_t)layer, (hsize_t)head, query, key};
        return H5Dwrite_chunk(t->map, H5P_DEFAULT, 0, at, bytes, v) >= 0;
    }
    hsize_t at[4] = {(hsize_t)layer, (hsize_t)head, query, key}, whole[2] = {t->edge, t->edge}, zero[2] = {0, 0};
    hsize_t in[2] = {t->n - query < t->edge ? t->n - query : t->edge, t->n - key < t->edge ? t->n - key : t->edge};
    hsize_t count[4] = {1, 1, in[0], in[1]};
    hid_t file = H5Dget_space(t->map), mem = H5Screate_simple(2, whole, NULL);
    bool ok = file >= 0 && mem >= 0 && H5Sselect_hyperslab(file, H5S_SELECT_SET, at, NULL, count, NULL) >= 0 &&
              H5Sselect_hyperslab(mem, H5S_SELECT_SET, zero, NULL, in, NULL) >= 0 && H5Dwrite(t->map, t->type, mem, file, H5P_DEFAULT, v) >= 0;
    if (file >= 0)
        H5Sclose(file);
    if (mem >= 0)
        H5Sclose(mem);
    return ok;
}

static bool write_strip(struct kvt_tiles *t, int layer, int head, int first, int n_tiles, int rows, const uint8_t *used, const uint16_t *v)
{
    for (int c = 0; c < n_tiles; c++)
        if (used[c] && !write_tile(t, layer, head, (size_t)first, (size_t)c * t->edge, v + (size_t)c * t->edge * t->edge))
            return false;
    t->rows[(size_t)layer * t->n_heads + (size_t)head] += rows;
    t->counted = false;
    return true;
}

static bool end_strip(struct kvt_tiles *t, int head)
{
    struct strip *s = &t->strip[head];
    bool ok = !s->rows || write_strip(t, s->layer, head, s->first, s->n_tiles, s->rows, s->used, s->value);
    s->rows = 0;
    return ok;
}

/* A piece of a strip, beside those that came before it. */
static bool gather(struct kvt_tiles *t, const struct kvt_msg *m, int layer, int head)
{
    struct strip *s = &t->strip[head];
    size_t edge = t->edge, tile = edge * edge;
    int first = m->tiles.row0 / m->tiles.edge * m->tiles.edge;
    if (s->rows && (s->layer != layer || s->first != first) && !end_strip(t, head))
        return false;
    if (!s->value) {
        s->value = malloc(t->n_tiles * tile * sizeof *s->value);
        s->used = malloc(t->n_tiles);
        if (!s->value || !s->used)
            return false;
    }
    if (!s->rows) {
        s->layer = layer, s->first = first, s->n_tiles = m->tiles.n_tiles;
        memset(s->value, 0, (size_t)s->n_tiles * tile * sizeof *s->value);
        memset(s->used, 0, (size_t)s->n_tiles);
    }
    size_t piece = (size_t)m->tiles.n_rows * edge, at = (size_t)(m->tiles.row0 - first) * edge;
    for (int c = 0; c < m->tiles.n_tiles; c++) {
        memcpy(s->value + (size_t)c * tile + at, m->tiles.value + (size_t)c * piece, piece * sizeof *s->value);
        s->used[c] |= m->tiles.used[c];
    }
    s->rows += m->tiles.n_rows;
    int end = m->tiles.row0 + m->tiles.n_rows;
    return (end % m->tiles.edge && end != m->tiles.n) || end_strip(t, head);
}

bool kvt_tiles_put(struct kvt_tiles *t, const struct kvt_msg *m, int layer, int head)
{
    assert((size_t)m->tiles.edge == t->edge && (size_t)m->tiles.n_tiles <= t->n_tiles);
    if (!m->tiles.whole)
        return gather(t, m, layer, head);
    return end_strip(t, head) && write_strip(t, layer, head, m->tiles.row0, m->tiles.n_tiles, m->tiles.n_rows, m->tiles.used, m->tiles.value);
}

bool kvt_tiles_count(struct kvt_tiles *t)
{
    if (t->counted)
        return true;
    t->counted = true;
    return t->done < 0 || kvt_h5_write(t->done, H5T_NATIVE_INT32, NULL, NULL, 2, t->rows);
}

bool kvt_tiles_end(struct kvt_tiles *t)
{
    for (size_t h = 0; h < t->n_heads; h++)
        if (!end_strip(t, (int)h))
            return false;
    return kvt_tiles_count(t);
}

size_t kvt_tiles_written(struct kvt_tiles *t)
{
    size_t n = t->written;
    t->written = 0;
    return n;
}

size_t kvt_tiles_memory(const struct kvt_trace_shape *s)
{
    return strip_values(s, kvt_tiles_edge(s)) * sizeof(uint16_t) * s->extent[KVT_DIM_full_head];
}
