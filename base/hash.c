/* SHA-256 of files, by OpenSSL's libcrypto. */
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

enum { CHUNK = 1 << 20, STACK = 128 << 10 };

struct kvt_hasher {
    pthread_t thread;
    int n;
    int *fd;                    /* (n) */
    char **path;                /* (n) for messages */
    unsigned char *buf;         /* (CHUNK) */
    EVP_MD_CTX *ctx;
    atomic_bool stop, ready;
    int rc;                     /* these three once `ready` is set */
    struct kvt_err err;
    char hex[65];
};

int kvt_sha256(const void *data, size_t bytes, uint8_t out[32], struct kvt_err *err)
{
    unsigned n = 0;
    if (EVP_Digest(data, bytes, out, &n, EVP_sha256(), NULL) && n == 32)
        return 0;
    return kvt_fail(err, KVT_EIO, "no SHA-256 of %zu bytes", bytes);
}

/* One file into the digest, unless stopped. */
static int digest_file(struct kvt_hasher *h, int i)
{
    ssize_t n = 1;
    posix_fadvise(h->fd[i], 0, 0, POSIX_FADV_SEQUENTIAL);
    while (n && !atomic_load(&h->stop)) {
        do
            n = read(h->fd[i], h->buf, CHUNK);
        while (n < 0 && errno == EINTR);
        if (n < 0 || !EVP_DigestUpdate(h->ctx, h->buf, (size_t)n))
            return kvt_fail(&h->err, KVT_EIO, "%s: could not be read to its end for its SHA-256", h->path[i]);
    }
    return 0;
}

/* Allocates nothing: where memory is short, that is known before a thread runs. */
static int digest(struct kvt_hasher *h)
{
    static const char digits[] = "0123456789abcdef";
    unsigned char out[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    int rc = 0;
    for (int i = 0; i < h->n && !rc; i++)
        rc = digest_file(h, i);
    if (!rc && (!EVP_DigestFinal_ex(h->ctx, out, &bytes) || bytes != 32))
        rc = kvt_fail(&h->err, KVT_EIO, "%s: no SHA-256", h->path[0]);
    for (unsigned i = 0; !rc && i < bytes; i++)
        h->hex[2 * i] = digits[out[i] >> 4], h->hex[2 * i + 1] = digits[out[i] & 15];
    return rc;
}

static void *hasher_thread(void *arg)
{
    struct kvt_hasher *h = arg;
    h->rc = digest(h);
    atomic_store(&h->ready, true);
    return NULL;
}

static void hasher_free(struct kvt_hasher *h)
{
    for (int i = 0; h->fd && i < h->n; i++)
        if (h->fd[i] >= 0)
            close(h->fd[i]);
    for (int i = 0; h->path && i < h->n; i++)
        free(h->path[i]);
    EVP_MD_CTX_free(h->ctx);
    free(h->buf);
    free(h->fd);
    free(h->path);
    free(h);
}

static int hasher_new(struct kvt_hasher **out, const char *const *path, int n, struct kvt_err *err)
{
    int rc = 0;
    struct kvt_hasher *h = *out = kvt_calloc(1, sizeof *h);
    if (!h)
        return kvt_fail(err, KVT_ENOMEM, "no memory for a SHA-256");
    h->n = n;
    h->fd = kvt_calloc((size_t)n, sizeof *h->fd);
    h->path = kvt_calloc((size_t)n, sizeof *h->path);
    h->buf = malloc(CHUNK);
    h->ctx = EVP_MD_CTX_new();
    if (!h->fd || !h->path || !h->buf || !h->ctx || !EVP_DigestInit_ex(h->ctx, EVP_sha256(), NULL))
        rc = kvt_fail(err, KVT_ENOMEM, "no memory for the SHA-256 of %s", path[0]);
    for (int i = 0; h->fd && i < n; i++)
        h->fd[i] = -1;
    for (int i = 0; i < n && !rc; i++) {
        if (!(h->path[i] = strdup(path[i])))
            rc = kvt_fail(err, KVT_ENOMEM, "no memory for the SHA-256 of %s", path[i]);
        else if ((h->fd[i] = open(path[i], O_RDONLY | O_CLOEXEC)) < 0)
            rc = kvt_fail(err, KVT_EIO, "%s: %s", path[i], strerror(errno));
    }
    if (rc) {
        hasher_free(h);
        *out = NULL;
    }
    return rc;
}

int kvt_sha256_files(const char *const *path, int n, char hex[65], struct kvt_err *err)
{
    struct kvt_hasher *h;
    int rc = hasher_new(&h, path, n, err);
    if (rc)
        return rc;
    rc = digest(h);
    if (rc && err)
        *err = h->err;
    memcpy(hex, h->hex, sizeof h->hex);
    hasher_free(h);
    return rc;
}

int kvt_hasher_start(struct kvt_hasher **out, const char *const *path, int n, struct kvt_err *err)
{
    pthread_attr_t attr;
    int rc = hasher_new(out, path, n, err);
    if (rc)
        return rc;
    bool started = pthread_attr_init(&attr) == 0;
    if (started) {
        pthread_attr_setstacksize(&attr, STACK); /* a read and an update: eight MB of address space aren't needed */
        started = pthread_create(&(*out)->thread, &attr, hasher_thread, *out) == 0;
        pthread_attr_destroy(&attr);
    }
    if (started)
        return 0;
    hasher_free(*out);
    *out = NULL;
    return kvt_fail(err, KVT_ENOMEM, "cannot start a thread for the SHA-256 of %s", path[0]);
}

const char *kvt_hasher_ready(struct kvt_hasher *h)
{
    return h && atomic_load(&h->ready) && !h->rc ? h->hex : NULL;
}

int kvt_hasher_end(struct kvt_hasher **hp, char hex[65], struct kvt_err *err)
{
    struct kvt_hasher *h = *hp;
    *hp = NULL;
    if (hex)
        *hex = 0;
    if (!h)
        return 0;
    if (!hex)
        atomic_store(&h->stop, true);
    pthread_join(h->thread, NULL);
    int rc = hex ? h->rc : 0;
    if (rc && err)
        *err = h->err;
    if (hex && !rc)
        memcpy(hex, h->hex, sizeof h->hex);
    hasher_free(h);
    return rc;
}
