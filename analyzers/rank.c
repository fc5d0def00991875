/* Rankings of contested tokens, cell by cell. */
#include "analyzers/rank.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

double kvt_rbo(const int32_t *a, const int32_t *b, int n, double p, uint8_t *seen)
{
    double weight = 1, sum = 0; /* weight: p^(d - 1) */
    int both = 0;
    for (int d = 1; d <= n; d++) {
        int32_t x = a[d - 1], y = b[d - 1];
        both += x == y ? 1 : seen[x] + seen[y];
        seen[x] = seen[y] = 1;
        sum += weight * both / d;
        weight *= p;
    }
    if (n)
        memset(seen, 0, (size_t)n);
    return n ? weight + (1 - p) * sum : NAN;
}

double kvt_rbo_random(int n, double p)
{
    double weight = 1, sum = 0;
    for (int d = 1; d <= n; d++, weight *= p)
        sum += weight * d / n;
    return n ? weight + (1 - p) * sum : NAN;
}

struct item { float score; int32_t at; };

static int by_score(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1; /* not a number: last, see rank() */
    return (x->at > y->at) - (x->at < y->at);
}

static void rank(struct item *item, const float *score, const int32_t *place, int n, int32_t *out)
{
    for (int i = 0; i < n; i++) {
        float s = score[place[i]];
        item[i] = (struct item){isnan(s) ? -INFINITY : s, i};
    }
    qsort(item, (size_t)n, sizeof *item, by_score);
    for (int i = 0; i < n; i++)
        out[i] = item[i].at;
}

int kvt_rank_of(const struct kvt_held *a, const float *score_a, int rows_a, const struct kvt_held *b, const float *score_b, int rows_b,
                struct kvt_rank_result *out, struct kvt_err *err)
{
    assert(a->L == b->L && a->G == b->G && a->n == b->n);
    size_t n = (size_t)a->n;
    int32_t *place = kvt_calloc(n, sizeof *place), *first = kvt_calloc(n, sizeof *first), *second = kvt_calloc(n, sizeof *second);
    struct item *item = kvt_calloc(n, sizeof *item);
    uint8_t *seen = kvt_calloc(n, 1);
    int rc = place && first && second && item && seen ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to rank %d tokens", a->n);
    *out = (struct kvt_rank_result){0};
    int heads = rows_a == 1 && rows_b == 1 ? 1 : a->G;
    for (int l = 0; !rc && l < a->L; l++)
        for (int g = 0; g < heads; g++) {
            size_t at = ((size_t)l * (size_t)a->G + (size_t)g) * n;
            int count = 0, keep_a = 0, keep_b = 0;
            for (size_t j = 0; j < n; j++)
                if (!a->guarded[at + j] && !b->guarded[at + j]) {
                    place[count++] = (int32_t)j;
                    keep_a += a->kept[at + j];
                    keep_b += b->kept[at + j];
                }
            int k = keep_a < keep_b ? keep_a : keep_b;
            out->cells++;
            if (k < 2) {
                out->left_out++;
                continue;
            }
            rank(item, score_a + ((size_t)l * (size_t)rows_a + (size_t)(rows_a == 1 ? 0 : g)) * n, place, count, first);
            rank(item, score_b + ((size_t)l * (size_t)rows_b + (size_t)(rows_b == 1 ? 0 : g)) * n, place, count, second);
            out->rbo += kvt_rbo(first, second, count, 1 - 1.0 / k, seen);
            out->random += kvt_rbo_random(count, 1 - 1.0 / k);
        }
    double used = (double)(out->cells - out->left_out);
    out->rbo = used > 0 ? out->rbo / used : NAN;
    out->random = used > 0 ? out->random / used : NAN;
    free(place);
    free(first);
    free(second);
    free(item);
    free(seen);
    return rc;
}
