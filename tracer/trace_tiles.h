/* Full attention maps: rows of f32 as a pass gives them, square tiles of f16 as the file holds them.
 *
 * A tile is a chunk of full/attention: `edge` queries by `edge` keys of one layer and head. One whose values are all zero is
 * never written: those above the diagonal, and in layers with a sliding window those before it. A strip is the row of tiles
 * that holds the same queries, up to the diagonal. */
#ifndef KVT_TRACER_TRACE_TILES_H
#define KVT_TRACER_TRACE_TILES_H

#include "tracer/trace_objects.h"
#include "tracer/trace_pack.h"

/* Producer. The edge of a run's tiles; bytes of the largest message that carries rows (one strip of one head). */
size_t kvt_tiles_edge(const struct kvt_trace_shape *s);
size_t kvt_tiles_message(const struct kvt_trace_shape *s);
/* Bytes of the maps in the file, where all heads of all layers see everything before them and nothing is compressed. */
size_t kvt_tiles_file_bytes(const struct kvt_trace_shape *s);
/* The rows of *e that go into one message: head number i of its list, from row r of it to the end of a strip or of the piece. */
void kvt_tiles_cut(const struct kvt_ev_rows *e, size_t edge, int i, int r, struct kvt_msg *out);
size_t kvt_tiles_bytes(const struct kvt_msg *m);
/* Writes the message and its values into the ring: (n_rows, n) of that head, either f32, which is converted, or f16. */
void kvt_tiles_pack(struct kvt_msg *m, const float *rows, const uint16_t *half, void *to);

/* Consumer. */
struct kvt_tiles;
/* map, done: the datasets full/attention and full/rows; packed: the first has filters. NULL without memory. */
struct kvt_tiles *kvt_tiles_open(const struct kvt_trace_shape *s, hid_t map, hid_t done, bool packed);
void kvt_tiles_close(struct kvt_tiles **t);
/* layer, head: indices on the recorded axes. */
bool kvt_tiles_put(struct kvt_tiles *t, const struct kvt_msg *m, int layer, int head);
/* Writes what is incomplete (rows were dropped, the run ended) and how many rows each map has. */
bool kvt_tiles_end(struct kvt_tiles *t);
bool kvt_tiles_count(struct kvt_tiles *t);
/* Bytes written since the last call. */
size_t kvt_tiles_written(struct kvt_tiles *t);
/* Memory of the consumer. */
size_t kvt_tiles_memory(const struct kvt_trace_shape *s);

#endif
