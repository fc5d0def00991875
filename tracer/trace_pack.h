/* Messages of the ring: an event, or something the tool adds, packed so that it owns all its arrays. */
#ifndef KVT_TRACER_TRACE_PACK_H
#define KVT_TRACER_TRACE_PACK_H

#include <stddef.h>

#include "kvt/probe.h"

enum kvt_msg_kind { KVT_MSG_EVENT, KVT_MSG_TOKEN, KVT_MSG_RESULT, KVT_MSG_AFTER, KVT_MSG_PEAK, KVT_MSG_FIDELITY, KVT_MSG_MODEL, KVT_MSG_BEYOND, KVT_MSG_TILES, KVT_MSG_MAPS };

struct kvt_msg {
    enum kvt_msg_kind kind;
    union {
        struct kvt_event ev;
        struct { int branch, step; bool free; int32_t id; const char *text; } token;
        struct { int branch, diverged; double mean_kl, top1; const char *text; } result;
        struct { int branch; double mean[5]; } fidelity;
        struct { const char *sha256; } model;
        struct { int64_t sums; } beyond;
        struct { int branch; int64_t bytes; } after, peak; /* KV bytes after prefill-end eviction; the most it held */
        /* Rows of one head's full map (trace_tiles.h): tile c holds keys [c, c + 1) * edge; used[c] 0: it is all zero. Packed
         * elsewhere: kvt_tiles_pack. */
        struct { int layer, head, n, row0, n_rows, edge, n_tiles; bool whole; const uint8_t *used; const uint16_t *value; } tiles;
        struct { int layer, n; const uint16_t *value; } maps; /* blocks of pooled maps (trace_maps.h), packed there */
    };
};

struct kvt_pack_shape { int L, H, G; };

size_t kvt_pack_bytes(const struct kvt_msg *m, const struct kvt_pack_shape *s);
void kvt_pack(const struct kvt_msg *m, const struct kvt_pack_shape *s, void *to);
/* The message at `from`, its pointers into `from`. */
void kvt_unpack(const void *from, const struct kvt_pack_shape *s, struct kvt_msg *out);

#endif
