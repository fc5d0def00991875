/* The full branch's attention rows while it decodes, told to the probe. */
#ifndef KVT_ENGINE_ROWS_H
#define KVT_ENGINE_ROWS_H

#include <stdbool.h>

#include "kvt/kvt.h"

struct kvt_session;

struct kvt_rows_seen {
    bool wanted;
    float *row;                /* (H, max_slots) host; NULL where nobody wants rows */
};

int kvt_rows_open(struct kvt_session *s, bool wanted, struct kvt_err *err);
void kvt_rows_close(struct kvt_session *s);
/* After a layer's attention of a call that the full branch is the first row of. */
int kvt_rows_look(struct kvt_session *s, int layer, struct kvt_err *err);

#endif
