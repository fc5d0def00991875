/* SHA-256 of files, by OpenSSL's libcrypto. */
#include "base/hash.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int kvt_sha256_file(const char *path, char hex[65], struct kvt_err *err)
{
    enum { CHUNK = 1 << 20 };
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    FILE *f = fopen(path, "rb");
    if (!f)
        return kvt_fail(err, KVT_EIO, "%s: %s", path, strerror(errno));
    unsigned char *buf = malloc(CHUNK);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool memory = buf && ctx;
    int ok = memory && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL);
    errno = 0;
    for (size_t n; ok && (n = fread(buf, 1, CHUNK, f)) > 0;)
        ok = EVP_DigestUpdate(ctx, buf, n);
    int unread = errno;
    ok = ok && !ferror(f) && EVP_DigestFinal_ex(ctx, digest, &bytes);
    EVP_MD_CTX_free(ctx);
    free(buf);
    fclose(f);
    if (!memory || (!ok && unread == ENOMEM)) /* stdio's own buffer */
        return kvt_fail(err, KVT_ENOMEM, "no memory for the SHA-256 of %s", path);
    if (!ok)
        return kvt_fail(err, KVT_EIO, "%s: could not be read to its end for its SHA-256", path);
    for (unsigned i = 0; i < bytes && i < 32; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    return 0;
}
