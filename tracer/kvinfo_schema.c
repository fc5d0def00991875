/* docs/trace-format.md. */
#include "tracer/kvinfo_schema.h"

#include <string.h>

#include "tracer/schema.h"

static const char intro[] =
    "# The format of a trace\n"
    "\n"
    "Version %d.%d. This page is printed by `kvinfo --schema` from the table that writer and reader are built on\n"
    "(`tracer/schema.h`); change the table, not the page.\n"
    "\n"
    "A trace is an HDF5 file that any HDF5 program opens. Everything of a prompt lies under `/prompt/<id>`; a file made by\n"
    "kvtrace holds one prompt, or links to files with one each (`kvtrace -f prompts.jsonl`; keep them in one folder). Each dimension is a dataset of its own (a dimension scale) that the axes of the others refer\n"
    "to, so the axes have names and values in `h5dump`, h5py (`d.dims[0].label`), xarray (`engine=\"h5netcdf\"`) and viewers.\n"
    "\n"
    "    import h5py\n"
    "    p = h5py.File(\"run.h5\")[\"prompt/0\"]\n"
    "    lost = p[\"branches/01/evicted_at\"][:]          # [layer, kv_head, token]\n"
    "    held = lambda k: (lost == -1) | (lost > k)      # kept after k generated tokens (k = 0: after the prefill)\n"
    "    print(p[\"branches/01\"].attrs[\"name\"].decode(), held(0)[:, :, :len(p[\"context\"])].mean())\n"
    "\n"
    "(`held` as above counts tokens up to position `len(p[\"prompt_token\"]) + k`; later ones don't exist yet.)\n"
    "\n"
    "## Versions\n"
    "\n"
    "`schema_version` is the major version: a reader refuses a newer one and names both numbers. A newer `schema_minor` (absent: 0)\n"
    "only adds datasets, dimensions and attributes; a reader leaves out what it doesn't know, and does without what an older file\n"
    "hasn't. `kvinfo --check run.h5` holds a file against this page: types, shapes, ranges, units, axes, and what must hold between\n"
    "values (a row of attention sums to 1; `evicted_at` agrees with lengths, bytes and reasons; scores with thresholds).\n"
    "\n"
    "## Life of a file\n"
    "\n"
    "`kvtrace -o run.h5` writes `run.h5.part`: all objects first, then values, under HDF5's single-writer/multiple-reader mode\n"
    "with a flush for each layer of the prefill, each branch's eviction and each step. At the end it is synced and renamed to\n"
    "`run.h5`. `status` says `in_progress`, `complete`, `interrupted` (Ctrl-C) or `failed`; what changes during a run is a\n"
    "dataset, what is known before it is an attribute. A kill at any moment leaves a `.part` that the tools open; programs\n"
    "that refuse it (\"file is already open for write\") open it after `kvinfo --repair run.h5.part`; `kvtrace --resume` does\n"
    "what is left of the run. `kvinfo --follow run.h5` shows a run while it is written. On network file systems\n"
    "without locks, set `HDF5_USE_FILE_LOCKING=FALSE`.\n"
    "\n"
    "Values that were never written read as the fill value: NaN, -1, an empty text, or what the meaning says. Texts are\n"
    "UTF-8 of fixed length, padded with zeros and cut at a whole character. Intervals are half-open.\n"
    "Token texts are for people; the ids are the truth.\n"
    "\n"
    "*In place* is contiguous, all else lies in chunks: *packed* and *history* with shuffle, deflate and a checksum, *summed* with a\n"
    "checksum (deflate would save 15 %% of it, and take longer than all else that is traced), *tiles*, *blocks* and *whole* plainly, as\n"
    "they are large. Tiles of zeros and blocks above the diagonal aren't there. `--compress` packs these four as well.\n";

static const char *fill_of(const struct kvt_dataset_info *d)
{
    static const char *const name[] = {"", "NaN", "-1", "-2147483648", "255"};
    return name[d->fill];
}

static void type_of(const struct kvt_dataset_info *d, char *buf, size_t cap)
{
    if (d->type != KVT_H5_STR)
        snprintf(buf, cap, "%s", kvt_h5_type_names[d->type]);
    else if (d->len > 0)
        snprintf(buf, cap, "text %d", d->len);
    else
        snprintf(buf, cap, "text");
}

static void path_of(const struct kvt_dataset_info *d, char *buf, size_t cap)
{
    snprintf(buf, cap, d->per_branch ? "branches/NN/%s" : "%s", d->per_branch ? d->path + strlen("branches/") : d->path);
}

static void dims_of(const struct kvt_dataset_info *d, char *buf, size_t cap)
{
    size_t n = 0;
    buf[0] = '\0';
    for (int i = 0; i < d->rank && n < cap; i++)
        n += (size_t)snprintf(buf + n, cap - n, "%s%s", i ? ", " : "", kvt_dims[d->dim[i]].name);
}

/* One line for each range, with all that has it. */
static void print_ranges(FILE *out)
{
    bool done[KVT_N_DATASET] = {false};
    for (int i = 0; i < KVT_N_DATASET; i++) {
        struct kvt_dataset_info d, other;
        char path[96];
        kvt_schema_get((enum kvt_dataset)i, &d);
        if (done[i] || !d.ranged)
            continue;
        if (d.high < KVT_RANGE_ANY && d.low > -KVT_RANGE_ANY)
            fprintf(out, "| %g to %g |", d.low, d.high);
        else if (d.high < KVT_RANGE_ANY)
            fprintf(out, "| finite, at most %g |", d.high);
        else
            fprintf(out, "| finite, at least %g |", d.low);
        for (int j = i; j < KVT_N_DATASET; j++) {
            kvt_schema_get((enum kvt_dataset)j, &other);
            if (!other.ranged || other.low != d.low || other.high != d.high)
                continue;
            done[j] = true;
            path_of(&other, path, sizeof path);
            fprintf(out, " `%s`", path);
        }
        fprintf(out, " |\n");
    }
}

void kvt_schema_print(FILE *out)
{
    static const char *const when[] = {"", "with scores", "with decisions", "with --fidelity lost", "with --fidelity output", "with --see visible", "with --see square", "with --see max",
                                       "with --see keys", "with --see local", "with --see rows", "with --for-replay, where there are shots", "with --for-replay", "with --see decode",
                                       "with --see keys,decode", "with --dump q", "with --dump k", "with --dump v", "with --profile"};
    _Static_assert(sizeof when / sizeof *when == KVT_N_WHEN, "one for each");
    static const char *const store[] = {"in place", "packed", "history", "tiles", "blocks", "whole", "summed"};
    fprintf(out, intro, KVT_SCHEMA_VERSION, KVT_SCHEMA_MINOR);
    fprintf(out, "\n## Dimensions\n\nDatasets `/prompt/<id>/<name>`, i32. A dimension of length 0 doesn't exist, and neither do the "
                 "datasets that have it.\n\n| name | unit | value |\n|---|---|---|\n");
    for (int i = 0; i < KVT_N_DIM; i++)
        fprintf(out, "| `%s` | %s | %s |\n", kvt_dims[i].name, kvt_dims[i].unit, kvt_dims[i].meaning);
    fprintf(out, "\n## Datasets\n\nBelow `/prompt/<id>`; `NN` is the branch (`00` is never compressed). Each has the attributes "
                 "`units` and `long_name`.\n\n| path | type | [dimensions] | unit | fill | stored | meaning |\n|---|---|---|---|---|---|---|\n");
    for (int id = 0; id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        char type[24], path[96], dims[96];
        kvt_schema_get((enum kvt_dataset)id, &d);
        type_of(&d, type, sizeof type);
        path_of(&d, path, sizeof path);
        dims_of(&d, dims, sizeof dims);
        fprintf(out, "| `%s` | %s | %s%s%s | %s | %s | %s%s%s | %s |\n", path, type, d.rank ? "[" : "", dims, d.rank ? "]" : "", d.unit,
                fill_of(&d), store[d.store], *when[d.when] ? ", " : "", when[d.when], d.meaning);
    }
    fprintf(out, "\nStored: *in place*: contiguous, allocated at the start. *packed*: chunked, shuffle + deflate + fletcher32 (a checksum for "
                 "each chunk). *history*: the same, but chunks that a step may still change lie without filters and are rewritten in place. "
                 "*tiles*: chunked without filters (with `--compress`: packed); chunks of zeros, such as those above the diagonal, are left out. *whole*: chunked without filters (with `--compress`: packed). *with scores*, *with decisions*: only "
                 "where the run asked for them.\n");
    fprintf(out, "\n## Ranges\n\nWhat numbers can be beside their fill value, for floats with a slack of 1e-3. Those without a line can be anything.\n\n"
                 "| range | of |\n|---|---|\n");
    print_ranges(out);
    fprintf(out, "\n## Attributes\n\nOf the file (`/`), of the prompt (`/prompt/<id>`) and of each branch (`/prompt/<id>/branches/NN`).\n\n"
                 "| of | name | type | meaning |\n|---|---|---|---|\n");
    for (int i = 0; i < kvt_n_attrs; i++) {
        const struct kvt_attr_info *a = &kvt_attrs[i];
        const char *of = !strcmp(a->where, "FILE") ? "file" : !strcmp(a->where, "PROMPT") ? "prompt" : "branch";
        const char *type = !strcmp(a->type, "STR") ? "text" : !strcmp(a->type, "F64") ? "f64" : !strcmp(a->type, "U64") ? "u64" : "i64";
        fprintf(out, "| %s | `%s` | %s | %s |\n", of, a->name, type, a->meaning);
    }
    fprintf(out, "\n`full/attention`, `map/mean` and `map/max` also have `scale_factor` (CF): value = stored x scale_factor.\n");
}

void kvt_schema_table(FILE *out)
{
    static const char *const store[] = {"inplace", "packed", "history", "tiles", "blocks", "whole", "summed"};
    fprintf(out, "version\t%d\t%d\n", KVT_SCHEMA_VERSION, KVT_SCHEMA_MINOR);
    for (int i = 0; i < KVT_N_DIM; i++)
        fprintf(out, "d\t%s\t%s\t%s\n", kvt_dims[i].name, kvt_dims[i].unit, kvt_dims[i].meaning);
    for (int id = 0; id < KVT_N_DATASET; id++) {
        struct kvt_dataset_info d;
        kvt_schema_get((enum kvt_dataset)id, &d);
        fprintf(out, "v\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", d.path, kvt_h5_type_names[d.type], d.len, d.dims, d.unit, fill_of(&d),
                store[d.store], d.when ? "asked" : "always", d.meaning);
    }
    for (int i = 0; i < kvt_n_attrs; i++)
        fprintf(out, "a\t%s\t%s\t%s\n", kvt_attrs[i].where, kvt_attrs[i].name, kvt_attrs[i].type);
}
