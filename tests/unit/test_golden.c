/* The same tensors into authors' codes and into ours: equal kept sets (measures.md 9). The vectors were made by
 * tests/vectors/make_*.py, the only place where those codes run; one line a case says which. */
#include "golden_rig.h"

/* Replays a case whose head was read on every backend; line holds the first `at`. Returns whether it agreed. */
static bool replay(FILE *f, char *line, const struct golden *c, const struct kvt_spec *spec, struct golden_tally *tally)
{
    static const struct kvt_ops *const backends[] = {&kvt_ops_ref, &kvt_ops_cpu};
    long start = ftell(f);
    char first[64];
    snprintf(first, sizeof first, "%.63s", line);
    bool ok = true;
    for (size_t b = 0; b < sizeof backends / sizeof *backends; b++) {
        struct golden_tally dry = {0};
        struct golden_rig r;
        int step = 0, upto;
        cr_assert_eq(fseek(f, start, SEEK_SET), 0);
        snprintf(line, GOLDEN_LINE, "%s", first);
        golden_open(&r, c, spec, backends[b]);
        while (sscanf(line, "at %d", &upto) == 1) {
            cr_assert_leq(upto, c->T);
            while (step < upto)
                golden_step(&r, ++step);
            for (int l = 0; l < c->L; l++)
                for (int g = 0; g < c->G; g++) {
                    cr_assert(fgets(line, GOLDEN_LINE, f));
                    ok &= golden_compare(&r, step, l, g, line, b ? tally : &dry);
                }
            cr_assert(fgets(line, GOLDEN_LINE, f));
        }
        cr_assert_str_eq(line, "end\n", "%s: %s", c->name, line);
        golden_close(&r);
    }
    return ok;
}

/* All cases of a file. Prints for each oracle ("kvpress SnapKVPress") how far the sets agree. */
static void agree(const char *name, int want_cases)
{
    char path[512], line[GOLDEN_LINE], oracle[128] = "";
    struct golden_tally sum = {0};
    int cases = 0, failed = 0;
    snprintf(path, sizeof path, KVT_TEST_VECTORS "/%s", name);
    FILE *f = fopen(path, "r");
    cr_assert(f, "no %s", path);
    for (bool more = true; more;) {
        struct golden c;
        struct kvt_spec spec;
        struct kvt_err err = {0};
        more = golden_next(f, line, &c);
        char *colon = strchr(c.name, ':');
        size_t len = colon ? (size_t)(colon - c.name) : strlen(c.name);
        if (sum.cases && (!more || strlen(oracle) != len || strncmp(oracle, c.name, len))) {
            printf("%-44s %4d cases %5d cells %8lld kept, ours %8lld; %lld of %lld slots differ\n", oracle, sum.cases, sum.cells,
                   (long long)sum.theirs, (long long)sum.ours, (long long)sum.different, (long long)sum.slots);
            sum = (struct golden_tally){0};
        }
        if (!more)
            break;
        snprintf(oracle, sizeof oracle, "%.*s", (int)len, c.name);
        cases++;
        cr_assert_eq(kvt_spec_parse(&spec, c.spec, strlen(c.spec), &err), 0, "%s: %s", c.name, err.text);
        sum.cases++;
        failed += !replay(f, line, &c, &spec, &sum);
    }
    fclose(f);
    printf("%s: %d cases\n", name, cases);
    cr_assert_eq(failed, 0, "%d of %d cases of %s differ", failed, cases, name);
    cr_assert_eq(cases, want_cases, "%s has %d cases", name, cases);
}

/* Would catch: a window one row off, pooling that counts its edges otherwise, a mean over the wrong heads, another
 * chunk, a layer's budget one token off. */
Test(golden, kvpress) { agree("golden-kvpress.txt", 254); }

/* Would catch: pooling on the wrong side of the group's reduction, max for mean, capacity without its window; in steps,
 * state that doesn't move with its slot, the current row left out, a recent half one token off. */
Test(golden, official) { agree("golden-official.txt", 275); }

/* Papers without code, transcribed: the algorithm as printed against ours. Would catch: a sum where the paper has a mean,
 * a greedy that goes on after the budget, the share of generated tokens taken of the cache, a row that accumulates. */
Test(golden, printed) { agree("golden-printed.txt", 47); }
