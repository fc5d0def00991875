/* SHA-256 of files, for provenance. */
#ifndef KVT_BASE_HASH_H
#define KVT_BASE_HASH_H

#include "kvt/kvt.h"

/* 64 hex digits and a zero into hex. EIO when the file can't be read. */
int kvt_sha256_file(const char *path, char hex[65], struct kvt_err *err);

#endif
