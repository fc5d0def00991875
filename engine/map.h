/* The files of a model: mapped read-only, or memory that a caller keeps (tests and fuzzers). */
#ifndef KVT_ENGINE_MAP_H
#define KVT_ENGINE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvt/kvt.h"

struct kvt_map {
    char *path;                 /* for messages, owned */
    const uint8_t *base;        /* (bytes) */
    size_t bytes;
    bool mapped;                /* base came from mmap */
};

/* A folder that files are taken from by their names. */
struct kvt_memory_file {
    const char *name;
    const void *base;           /* 64-byte aligned, kept by the caller */
    size_t bytes;
};
struct kvt_folder {
    const char *path;           /* "" for the current one */
    const struct kvt_memory_file *file; /* NULL: the folder is on disk */
    int n_files;
};

/* Maps a regular file; what: "model file", for messages. An empty file is a map of 0 bytes. */
int kvt_folder_map(struct kvt_map *out, const struct kvt_folder *f, const char *name, const char *what, struct kvt_err *err);
bool kvt_folder_has(const struct kvt_folder *f, const char *name);
/* The path of a file in it; malloc'ed, NULL: no memory. */
char *kvt_folder_join(const struct kvt_folder *f, const char *name);
int kvt_map_memory(struct kvt_map *out, const char *path, const void *base, size_t bytes, struct kvt_err *err);
void kvt_map_close(struct kvt_map *m);

#endif
