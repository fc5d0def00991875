/* Full and pooled maps come back bit by bit, however the rows were cut, and what is all zero, or above the diagonal, takes no room. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "kvt/trace.h"
#include "tracer/trace_write.h"

enum { L = 3, H = 4, N = 301, EDGE = 128, SCALE = 32768 };

static char folder[64], file[96];

static void setup(void)
{
    snprintf(folder, sizeof folder, "/tmp/kvt_tiles_XXXXXX");
    cr_assert(mkdtemp(folder));
    snprintf(file, sizeof file, "%s/run.h5", folder);
}

static void teardown(void)
{
    unlink(file);
    cr_expect(!rmdir(folder));
}

TestSuite(tiles, .init = setup, .fini = teardown, .timeout = 240);

/* Layer 2 sees a window of 40 keys. Magnitudes from 1 down to what f16 can't hold, on both sides of its subnormals. */
static float p_of(int l, int h, int q, int k)
{
    if (k > q || (l == 2 && q - k >= 40))
        return 0;
    unsigned x = (unsigned)(((l * H + h) * N + q) * N + k) * 2654435761u;
    return ldexpf(1 + (float)(x >> 9) * 0x1p-23f, -1 - (int)(x % 41));
}

static float stored(float p) { return kvt_f32_from_f16(kvt_f16_from_f32(p * SCALE)) / SCALE; }

static void write_maps(const int *cut, int n_cuts, bool compress, bool half, int n_rows)
{
    struct kvt_err err = {0};
    uint8_t layer[L] = {0, 1, 1}, mask[H] = {1, 0, 1, 1};
    int head[3] = {0, 2, 3};
    struct kvt_wants wants = {.full = true, .layer = layer, .head = mask};
    int32_t ids[N] = {0};
    const char *text[N];
    for (int i = 0; i < N; i++)
        text[i] = "";
    struct kvt_plan_branch full = {.name = "full", .method = "full", .canonical = "full", .asked_keep = 1, .asked_tok = N, .schedule = "prefill", .asked = "100%"};
    struct kvt_trace_plan plan = {.path = file, .force = true, .prompt_id = "0", .L = L, .H = H, .G = 1, .D = 8, .V = 5, .text = "", .n_prompt = N, .n_context = N,
                                  .token_id = ids, .token_start = ids, .token_end = ids, .token_text = text, .longest_token = 4, .branch = &full, .n_branches = 1,
                                  .wants = &wants, .protocol = "visible", .compress = compress};
    struct kvt_trace_writer *w;
    cr_assert_eq(kvt_trace_create(&w, &plan, &err), 0, "%s", err.text);
    const struct kvt_probe *probe = kvt_trace_probe(w);
    for (int l = 0; l < L; l++)
        for (int r0 = 0, c = 0; r0 < n_rows; c++) {
            int n = cut[c % n_cuts] < n_rows - r0 ? cut[c % n_cuts] : n_rows - r0;
            float *rows = malloc(sizeof *rows * (size_t)(3 * n * N));
            uint16_t *halves = malloc(sizeof *halves * (size_t)(3 * n * N));
            for (int i = 0; i < 3 * n * N; i++) {
                rows[i] = p_of(l, head[i / (n * N)], r0 + i / N % n, i % N);
                halves[i] = kvt_f16_from_f32(rows[i] * SCALE);
            }
            struct kvt_event ev = {.kind = KVT_EV_ROWS, .rows = {l, N, r0, n, 3, head, half ? NULL : rows, half ? halves : NULL}};
            cr_assert_eq(probe->see(probe->self, &ev), 0);
            free(rows);
            free(halves);
            r0 += n;
        }
    cr_assert_eq(kvt_trace_finish(&w, KVT_OK, 1, &err), 0, "%s", err.text);
}

static void find_full(void *arg, const char *path, uint64_t bytes, uint64_t logical, const char *unit, const char *meaning)
{
    (void)logical, (void)unit, (void)meaning;
    if (!strcmp(path, "full/attention"))
        *(uint64_t *)arg = bytes;
}

static uint64_t check(int n_rows)
{
    struct kvt_err err = {0};
    struct kvt_trace *t;
    uint64_t bytes = 0;
    static float v[N * N];
    cr_assert_eq(kvt_trace_open(&t, file, NULL, &err), 0, "%s", err.text);
    for (int l = 1; l < L; l++)
        for (int h = 0; h < H; h++) {
            if (h == 1)
                continue;
            cr_assert_eq(kvt_trace_full(t, l, h, v, &err), 0, "%s", err.text);
            for (int i = 0; i < N * N; i++)
                cr_assert_eq(v[i], i / N < n_rows ? stored(p_of(l, h, i / N, i % N)) : 0, "layer %d head %d query %d key %d: %g", l, h, i / N, i % N, (double)v[i]);
        }
    cr_assert_eq(kvt_trace_walk(t, find_full, &bytes, &err), 0);
    kvt_trace_close(&t);
    return bytes;
}

/* ---- pooled maps ---- */

static uint16_t bin_of(int what, int l, int h, int r, int c, int R, int C)
{
    int first_key = (c * N + C - 1) / C, behind = ((r + 1) * N + R - 1) / R; /* the row's queries */
    return first_key >= behind ? 0x7e00 : (uint16_t)(0x3000 + (((what * L + l) * H + h) * R + r) * C % 0x1000 + c % 64);
}

static void find_map(void *arg, const char *path, uint64_t bytes, uint64_t logical, const char *unit, const char *meaning)
{
    (void)logical, (void)unit, (void)meaning;
    if (!strcmp(path, "map/max"))
        *(uint64_t *)arg = bytes;
}

static uint64_t pooled(int R, int C, bool compress)
{
    struct kvt_err err = {0};
    struct kvt_wants wants = {.map_r = R, .map_c = C};
    int32_t ids[N] = {0};
    const char *text[N];
    for (int i = 0; i < N; i++)
        text[i] = "";
    struct kvt_plan_branch full = {.name = "full", .method = "full", .canonical = "full", .asked_keep = 1, .asked_tok = N, .schedule = "prefill", .asked = "100%"};
    struct kvt_trace_plan plan = {.path = file, .force = true, .prompt_id = "0", .L = L, .H = H, .G = 1, .D = 8, .V = 5, .text = "", .n_prompt = N, .n_context = N,
                                  .token_id = ids, .token_start = ids, .token_end = ids, .token_text = text, .longest_token = 4, .branch = &full, .n_branches = 1,
                                  .wants = &wants, .protocol = "visible", .compress = compress};
    size_t each = (size_t)R * (size_t)C, all = H * each;
    uint16_t *map = malloc(2 * all * sizeof *map);
    float *v = malloc(each * sizeof *v);
    struct kvt_trace_writer *w;
    struct kvt_trace *t;
    uint64_t bytes = 0;
    cr_assert_eq(kvt_trace_create(&w, &plan, &err), 0, "%s", err.text);
    for (int l = 0; l < L; l++) {
        for (size_t i = 0; i < 2 * all; i++)
            map[i] = bin_of(i >= all, l, (int)(i % all / each), (int)(i % each) / C, (int)(i % each) % C, R, C);
        struct kvt_event ev = {.kind = KVT_EV_PREFILL_LAYER, .prefill_layer = {.layer = l, .n = N, .R = R, .C = C, .map_mean = map, .map_max = map + all}};
        cr_assert_eq(kvt_trace_probe(w)->see(kvt_trace_probe(w)->self, &ev), 0);
    }
    cr_assert_eq(kvt_trace_finish(&w, KVT_OK, 1, &err), 0, "%s", err.text);
    cr_assert_eq(kvt_trace_open(&t, file, NULL, &err), 0, "%s", err.text);
    for (int i = 0; i < 2 * L * H; i++) {
        cr_assert_eq(kvt_trace_map(t, i % 2 ? "max" : "mean", i / 2 / H, i / 2 % H, v, &err), 0, "%s", err.text);
        for (size_t j = 0; j < each; j++) {
            float want = kvt_f32_from_f16(bin_of(i % 2, i / 2 / H, i / 2 % H, (int)j / C, (int)j % C, R, C)) / SCALE;
            cr_assert(isnan(want) ? isnan(v[j]) : v[j] == want, "map %d, bin %zu: %g", i, j, (double)v[j]);
        }
    }
    cr_assert_eq(kvt_trace_walk(t, find_map, &bytes, &err), 0);
    kvt_trace_close(&t);
    free(map);
    free(v);
    return bytes;
}

/* Catches a block in another's place or left out, an edge that isn't cut. 128 bins are 2 x 2 blocks, of which three are there. */
Test(tiles, pooled)
{
    cr_expect_eq(pooled(128, 128, false), 3 * 64 * 64 * sizeof(uint16_t) * L * H);
    pooled(100, 130, false);
    pooled(130, 65, true);
    pooled(7, 301, false);
}

/* ---- full maps ---- */

/* Catches a row in another's place, a tile of the wrong strip, an edge that isn't cut, a rounding other than to nearest even. */
Test(tiles, whatever_the_cuts)
{
    static const int whole[] = {N}, strips[] = {EDGE}, odd[] = {1, 37, 128, 130, 5}, eight[] = {8};
    const struct { const int *cut; int n; } all[] = {{whole, 1}, {strips, 1}, {odd, 5}, {eight, 1}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        write_maps(all[i].cut, all[i].n, false, i % 2, N);
        /* 3 heads: layer 1 the 6 tiles of the lower triangle, layer 2 the 5 that its window touches */
        cr_expect_eq(check(N), 3 * (6 + 5) * EDGE * EDGE * 2, "cuts %zu", i);
    }
}

Test(tiles, packed)
{
    static const int odd[] = {1, 37, 128, 130, 5};
    write_maps(odd, 5, true, true, N);
    cr_expect_lt(check(N), 3 * (6 + 5) * EDGE * EDGE * 2);
}

/* The run ended, or rows were dropped, in the middle of a strip: what came is there. */
Test(tiles, a_strip_that_never_became_whole)
{
    static const int cut[] = {60};
    write_maps(cut, 1, false, false, 200);
    check(200);
}

enum { DL = 6, DH = 8, DN = 1024, PIECE = 128 };

/* The policy `drop`: scores arrive, what is missing of the maps is counted and isn't there. 50 MB that the writer must compress
 * are told as fast as they can be converted, to a ring of 16 MB. */
Test(tiles, drops_are_counted_and_spare_the_scores)
{
    struct kvt_err err = {0};
    struct kvt_wants wants = {.full = true, .scores = true};
    static int32_t ids[DN];
    static const char *text[DN];
    static float rows[DH * PIECE * DN], mass[DH * DN], map[DN * DN];
    int head[DH], missing = 0;
    for (int i = 0; i < DN; i++)
        text[i] = "";
    for (int h = 0; h < DH; h++)
        head[h] = h;
    for (int i = 0; i < DH * PIECE * DN; i++)
        rows[i] = (float)(((unsigned)i * 2654435761u) >> 12) * 0x1p-20f + 0x1p-20f;
    struct kvt_plan_branch full = {.name = "full", .method = "full", .canonical = "full", .asked_keep = 1, .asked_tok = DN, .schedule = "prefill", .asked = "100%"};
    struct kvt_trace_plan plan = {.path = file, .prompt_id = "0", .L = DL, .H = DH, .G = 1, .D = 8, .V = 5, .text = "", .n_prompt = DN, .n_context = DN,
                                  .token_id = ids, .token_start = ids, .token_end = ids, .token_text = text, .longest_token = 4, .branch = &full, .n_branches = 1,
                                  .wants = &wants, .protocol = "visible", .compress = true, .drop_when_full = true};
    struct kvt_trace_writer *w;
    cr_assert_eq(kvt_trace_create(&w, &plan, &err), 0, "%s", err.text);
    const struct kvt_probe *probe = kvt_trace_probe(w);
    for (int l = 0; l < DL; l++) {
        for (int r0 = 0; r0 < DN; r0 += PIECE)
            cr_assert_eq(probe->see(probe->self, &(struct kvt_event){.kind = KVT_EV_ROWS, .rows = {l, DN, r0, PIECE, DH, head, rows, NULL}}), 0);
        for (int i = 0; i < DH * DN; i++)
            mass[i] = (float)(l * DH * DN + i);
        cr_assert_eq(probe->see(probe->self, &(struct kvt_event){.kind = KVT_EV_PREFILL_LAYER, .prefill_layer = {.layer = l, .n = DN, .mass = mass}}), 0);
    }
    cr_assert_eq(kvt_trace_finish(&w, KVT_OK, 1, &err), 0, "%s", err.text);
    struct kvt_trace *t;
    cr_assert_eq(kvt_trace_open(&t, file, NULL, &err), 0, "%s", err.text);
    for (int l = 0; l < DL; l++) {
        cr_assert_eq(kvt_trace_raw(t, "mass", 0, l, mass, &err), 0);
        for (int i = 0; i < DH * DN; i++)
            cr_assert_eq(mass[i], (float)(l * DH * DN + i), "a score was dropped");
        for (int h = 0; h < DH; h++) {
            cr_assert_eq(kvt_trace_full(t, l, h, map, &err), 0);
            for (int q = 0; q < DN; q += PIECE)
                missing += map[q * DN] == 0;
        }
    }
    cr_expect(missing > 0, "the maps no longer fill the ring");
    cr_expect_eq(kvt_trace_info(t)->dropped, missing);
    kvt_trace_close(&t);
}
