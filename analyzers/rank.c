/* Rankings of contested tokens, cell by cell. */
#include "analyzers/rank.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/sort.h"

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

struct kvt_rank_cell kvt_rank_cell(const struct kvt_held *a, const int32_t *order_a, const struct kvt_held *b, const int32_t *order_b, size_t cell,
                                   int32_t *work)
{
    size_t n = (size_t)a->n;
    const uint8_t *ga = a->guarded + cell * n, *gb = b->guarded + cell * n, *ka = a->kept + cell * n, *kb = b->kept + cell * n;
    int32_t *place = work, *first = work + n, *second = work + 2 * n; /* of a token among the contested ones */
    uint8_t *seen = (uint8_t *)(work + 3 * n);
    int count = 0, keep_a = 0, keep_b = 0;
    for (size_t j = 0; j < n; j++) {
        bool in = !ga[j] && !gb[j];
        place[j] = in ? count : -1;
        count += in;
        keep_a += in && ka[j];
        keep_b += in && kb[j];
    }
    int k = keep_a < keep_b ? keep_a : keep_b;
    if (k < 2)
        return (struct kvt_rank_cell){0, 0, false};
    for (size_t i = 0, x = 0, y = 0; i < n; i++) {
        if (place[order_a[i]] >= 0)
            first[x++] = place[order_a[i]];
        if (place[order_b[i]] >= 0)
            second[y++] = place[order_b[i]];
    }
    memset(seen, 0, (size_t)count);
    double p = 1 - 1.0 / k;
    return (struct kvt_rank_cell){kvt_rbo(first, second, count, p, seen), kvt_rbo_random(count, p), true};
}

void kvt_rank_add(struct kvt_rank_result *to, struct kvt_rank_cell cell)
{
    to->cells++;
    to->left_out += !cell.used;
    to->rbo += cell.used ? cell.rbo : 0;
    to->random += cell.used ? cell.random : 0;
}

void kvt_rank_end(struct kvt_rank_result *r)
{
    double used = (double)(r->cells - r->left_out);
    r->rbo = used > 0 ? r->rbo / used : NAN;
    r->random = used > 0 ? r->random / used : NAN;
}

int kvt_rank_of(const struct kvt_held *a, const float *score_a, int rows_a, const struct kvt_held *b, const float *score_b, int rows_b,
                struct kvt_rank_result *out, struct kvt_err *err)
{
    assert(a->L == b->L && a->G == b->G && a->n == b->n);
    size_t n = (size_t)a->n;
    int32_t *order = kvt_calloc(2 * n, sizeof *order), *work = kvt_calloc(4 * n, sizeof *work);
    int rc = order && work ? 0 : kvt_fail(err, KVT_ENOMEM, "no memory to rank %d tokens", a->n);
    *out = (struct kvt_rank_result){0};
    int heads = rows_a == 1 && rows_b == 1 ? 1 : a->G;
    for (int l = 0; !rc && l < a->L; l++)
        for (int g = 0; g < heads; g++) {
            kvt_order_falling(score_a + ((size_t)l * (size_t)rows_a + (size_t)(rows_a == 1 ? 0 : g)) * n, a->n, order, (uint32_t *)work);
            kvt_order_falling(score_b + ((size_t)l * (size_t)rows_b + (size_t)(rows_b == 1 ? 0 : g)) * n, a->n, order + n, (uint32_t *)work);
            kvt_rank_add(out, kvt_rank_cell(a, order, b, order + n, (size_t)l * (size_t)a->G + (size_t)g, work));
        }
    kvt_rank_end(out);
    free(order);
    free(work);
    return rc;
}
