/* Pooled maps: a layer's bins as attention gives them, the file's chunks as they are written.
 *
 * A chunk of map/mean and map/max holds a block of all heads' bins. Blocks without a causal pair, those above the diagonal, are
 * never written: the fill value is NaN, which is what their bins would hold. */
#ifndef KVT_TRACER_TRACE_MAPS_H
#define KVT_TRACER_TRACE_MAPS_H

#include "tracer/trace_objects.h"
#include "tracer/trace_pack.h"

struct kvt_map_blocks {
    size_t H, R, C;             /* heads and bins of a layer */
    size_t heads, rows, cols;   /* of a chunk; H == 0: there are no maps */
    bool packed;                /* through filters, which take what lies inside the map alone */
};

struct kvt_map_blocks kvt_map_blocks_of(const struct kvt_trace_shape *s, bool packed);
/* Producer: the message of a layer's maps of n tokens, its bytes, and writing it into the ring. */
size_t kvt_maps_bytes(const struct kvt_map_blocks *b, int n);
void kvt_maps_pack(const struct kvt_map_blocks *b, const struct kvt_ev_prefill_layer *e, void *to);
/* Consumer: mean and max are the datasets. */
bool kvt_maps_put(const struct kvt_map_blocks *b, const struct kvt_msg *m, hid_t mean, hid_t max, hid_t type);
/* Bytes of one dataset's blocks in a layer. */
size_t kvt_maps_layer_bytes(const struct kvt_map_blocks *b, int n);

#endif
