/* SHA-256 of files, for provenance: at once, or in a thread beside other work; and of bytes at hand. */
#ifndef KVT_BASE_HASH_H
#define KVT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"

int kvt_sha256(const void *data, size_t bytes, uint8_t out[32], struct kvt_err *err);

/* Of n files as one stream: 64 hex digits and a zero into hex. EIO when one can't be read. */
int kvt_sha256_files(const char *const *path, int n, char hex[65], struct kvt_err *err);

/* The same in a thread of its own. Files are opened before start returns, so that nobody can put others in their place. */
struct kvt_hasher;
int kvt_hasher_start(struct kvt_hasher **out, const char *const *path, int n, struct kvt_err *err);
/* The digits once they are known, else NULL; doesn't wait. */
const char *kvt_hasher_ready(struct kvt_hasher *h);
/* Waits; the digits into hex. Frees *h and writes NULL back; *h may be NULL, then hex is "". hex NULL: gives up at once. */
int kvt_hasher_end(struct kvt_hasher **h, char hex[65], struct kvt_err *err);

#endif
