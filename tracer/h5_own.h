/* Is what a file offers its own? A trace that somebody sent must not make a reader open other files. */
#ifndef KVT_TRACER_H5_OWN_H
#define KVT_TRACER_H5_OWN_H

#include "tracer/h5.h"

/* What lies at a path below `at`: nothing; an object of this file under its own name; a link to somewhere (soft, external). */
enum kvt_h5_link_kind { KVT_H5_NOTHING, KVT_H5_OWN, KVT_H5_ELSEWHERE };
enum kvt_h5_link_kind kvt_h5_link_at(hid_t at, const char *path);
/* The dataset at a path of which all links are this file's own, and all bytes too: neither virtual nor stored outside, in chunks that are
 * no absurd number. Negative if not, *wrong says why: "isn't there", "is a link to elsewhere" ... (NULL: HDF5 knows why). */
hid_t kvt_h5_open_own(hid_t at, const char *path, const char **wrong);
/* The group at a path that may be an external link, as a master's prompts are: to a file in the folder of `file`, by its bare name. */
hid_t kvt_h5_open_beside(hid_t at, const char *path, const char *file, const char **wrong);

#endif
