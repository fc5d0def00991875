/* The full branch's attention rows while it decodes, and what its slots weigh, told to the probe. */
#ifndef KVT_ENGINE_ROWS_H
#define KVT_ENGINE_ROWS_H

#include <stdbool.h>

#include "kvt/kvt.h"
#include "kvt/probe.h"

struct kvt_session;

struct kvt_rows_seen {
    bool wanted;               /* by the probe as they are, or to be reduced */
    bool told;                 /* as they are */
    bool norms;
    int question;              /* rows of the question that is fed again, which are wanted too */
    float *row;                /* (H, max_slots) host; NULL where nobody wants rows */
    float *norm;               /* (G, max_slots) backend */
};

int kvt_rows_open(struct kvt_session *s, const struct kvt_wants *w, struct kvt_err *err);
void kvt_rows_close(struct kvt_session *s);
/* After a layer's attention of rows [row0, row0 + n) of a call: tells those of the full branch. */
int kvt_rows_look(struct kvt_session *s, int layer, int row0, int n, struct kvt_err *err);
/* Norms of the keys that the full branch holds; first, at prefill's end: also of what the context's slots add to the layers' outputs. */
int kvt_norms_tell(struct kvt_session *s, bool first, struct kvt_err *err);

#endif
