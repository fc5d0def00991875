/* The same attention into kvpress and into ours: equal kept sets (measures.md 9). Vectors:
 * tests/vectors/make_kvpress.py. */
#include "evict_rig.h"

enum { LINE = 4096 };

struct vector {
    char name[80], spec[120];
    struct kvt_budget budget;
    int L, H, G, n, window;    /* window 0: mass */
    float *raw;                /* (L, H, n) */
    int32_t *kept;             /* (L, G, n) */
    int *n_kept;               /* (L, G) */
};

static void rest_of(char *out, size_t cap, const char *line, const char *key)
{
    cr_assert(!strncmp(line, key, strlen(key)), "expected '%s' in: %.60s", key, line);
    snprintf(out, cap, "%s", line + strlen(key));
    out[strcspn(out, "\n")] = 0;
}

/* Reads a case whose `case` line is in line; leaves the next one there. False at `end`. */
static bool read_case(FILE *f, char *line, struct vector *v)
{
    char word[16], what[32];
    long amount;
    rest_of(v->name, sizeof v->name, line, "case ");
    cr_assert(fgets(line, LINE, f));
    rest_of(v->spec, sizeof v->spec, line, "method ");
    cr_assert(fgets(line, LINE, f) && sscanf(line, "budget %15s %ld", word, &amount) == 2);
    v->budget = !strcmp(word, "tokens") ? rig_tokens((int)amount) : rig_keep(amount);
    cr_assert(fgets(line, LINE, f) && sscanf(line, "shape %d %d %d %d", &v->L, &v->H, &v->G, &v->n) == 4);
    cr_assert(fgets(line, LINE, f) && sscanf(line, "raw %31s %d", what, &v->window) >= 1);
    if (!strcmp(what, "mass"))
        v->window = 0;
    size_t values = (size_t)v->L * (size_t)v->H * (size_t)v->n, cells = (size_t)v->L * (size_t)v->G;
    v->raw = calloc(values, sizeof *v->raw);
    v->kept = calloc(cells * (size_t)v->n, sizeof *v->kept);
    v->n_kept = calloc(cells, sizeof *v->n_kept);
    for (size_t i = 0; i < values; i++)
        cr_assert_eq(fscanf(f, "%f", &v->raw[i]), 1);
    cr_assert(fgets(line, LINE, f) && fgets(line, LINE, f) && !strcmp(line, "kept\n"), "%s: %.40s", v->name, line);
    for (size_t c = 0; c < cells; c++) {
        cr_assert(fgets(line, LINE, f));
        char *p = line, *end;
        for (long x = strtol(p, &end, 10); end != p; x = strtol(p, &end, 10)) {
            cr_assert_lt(v->n_kept[c], v->n);
            v->kept[c * (size_t)v->n + (size_t)v->n_kept[c]++] = (int32_t)x;
            p = end;
        }
    }
    cr_assert(fgets(line, LINE, f));
    return strcmp(line, "end\n") != 0;
}

/* Sets are equal but for slots whose score is the threshold's; of those, equally many. 2e-6: kvpress averages in f32
 * (mean over rows, pool, group), ours sums; a tie there may differ here in the last bits. */
static void compare(struct rig *r, const struct vector *v, int *ties)
{
    int32_t *ours = calloc((size_t)v->n, sizeof *ours);
    for (int l = 0; l < v->L; l++)
        for (int g = 0; g < v->G; g++) {
            size_t cell = (size_t)(l * v->G + g), row = r->decision_R == 1 ? (size_t)(l * v->G) : cell;
            const int32_t *theirs = v->kept + cell * (size_t)v->n;
            int n = rig_positions(r, 1, l, g, ours);
            cr_assert_eq(n, v->n_kept[cell], "%s: layer %d head %d keeps %d, kvpress %d", v->name, l, g, n,
                         v->n_kept[cell]);
            for (int j = 0, a = 0, b = 0; j < v->n; j++) {
                bool here = a < n && ours[a] == j, there = b < n && theirs[b] == j;
                a += here;
                b += there;
                float score = r->decided[row * (size_t)v->n + (size_t)j], threshold = r->threshold[row];
                if (here == there)
                    continue;
                cr_assert(fabsf(score - threshold) <= 2e-6f * fabsf(threshold),
                          "%s: position %d of layer %d head %d is %s in kvpress; score %.9g, threshold %.9g", v->name,
                          j, l, g, there ? "kept" : "dropped", (double)score, (double)threshold);
                ++*ties;
            }
        }
    free(ours);
}

/* Would catch: a window one row off, pooling that counts its edges otherwise, a mean over the wrong heads, another
 * chunk. */
Test(kvpress, kept_sets)
{
    FILE *f = fopen(KVT_TEST_VECTORS "/kvpress.txt", "r");
    cr_assert(f, "no " KVT_TEST_VECTORS "/kvpress.txt");
    static const struct kvt_ops *const backends[] = {&kvt_ops_ref, &kvt_ops_cpu};
    char *line = calloc(LINE, 1);
    int cases = 0, ties = 0;
    cr_assert(fgets(line, LINE, f) && line[0] == '#' && fgets(line, LINE, f));
    for (bool more = true; more; cases++) {
        struct vector v = {0};
        more = read_case(f, line, &v);
        for (size_t b = 0; b < sizeof backends / sizeof *backends; b++) {
            struct rig r;
            rig_open(&r, backends[b], 1, v.L, v.H, v.G, v.n, v.n, 0, 2, &v.window, v.window ? 1 : 0);
            rig_scores(&r, v.window ? 1 : 0, v.raw);
            struct kvt_evictor *e = rig_evict(&r, 1, v.spec, v.budget);
            compare(&r, &v, &ties);
            kvt_evictor_close(&e);
            rig_close(&r);
        }
        free(v.raw);
        free(v.kept);
        free(v.n_kept);
    }
    fclose(f);
    free(line);
    cr_assert_eq(cases, 18, "%d cases", cases);
}
