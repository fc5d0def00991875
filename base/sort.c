/* Least significant digit first, three digits of 11 bits, as it is in any book (Knuth, volume 3, 5.2.5). */
#include "base/sort.h"

#include <math.h>
#include <string.h>

enum { DIGIT = 11, DIGITS = 1 << DIGIT };

/* Floats as numbers that are in the opposite order, and back: the sign bit of a negative one turns all others around. */
static uint32_t falling(float v)
{
    uint32_t b;
    memcpy(&b, &v, sizeof b);
    return b >> 31 ? b : ~b & 0x7fffffffu;
}

static float risen(uint32_t b)
{
    float v;
    b = b >> 31 ? b : ~b & 0x7fffffffu;
    memcpy(&v, &b, sizeof v);
    return v;
}

static uint32_t digit(uint32_t key, int d) { return key >> (d * DIGIT) & (DIGITS - 1); }

/* Places where each digit's values begin. */
static void starts(const uint32_t *key, int n, uint32_t start[3][DIGITS])
{
    memset(start, 0, 3 * DIGITS * sizeof **start);
    for (int i = 0; i < n; i++)
        for (int d = 0; d < 3; d++)
            start[d][digit(key[i], d)]++;
    for (int d = 0; d < 3; d++)
        for (uint32_t k = 0, at = 0; k < DIGITS; k++) {
            uint32_t here = start[d][k];
            start[d][k] = at;
            at += here;
        }
}

void kvt_sort_falling(const float *v, int n, float *out)
{
    uint32_t *from = (uint32_t *)(void *)out, *to = from + n, start[3][DIGITS];
    for (int i = 0; i < n; i++)
        from[i] = falling(v[i]);
    starts(from, n, start);
    for (int d = 0; d < 3; d++) {
        for (int i = 0; i < n; i++)
            to[start[d][digit(from[i], d)]++] = from[i];
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    for (int i = 0; i < n; i++) /* three turns: they lie in the second half */
        out[i] = risen(from[i]);
}

void kvt_order_falling(const float *v, int n, int32_t *out, uint32_t *work)
{
    uint32_t *key = work, *one = work + n, *two = work + 2 * n, start[3][DIGITS];
    for (int i = 0; i < n; i++)
        key[i] = falling(isnan(v[i]) ? -INFINITY : v[i] == 0 ? 0.0f : v[i]); /* -0 is 0 */
    starts(key, n, start);
    for (int i = 0; i < n; i++)
        one[start[0][digit(key[i], 0)]++] = (uint32_t)i;
    for (int i = 0; i < n; i++)
        two[start[1][digit(key[one[i]], 1)]++] = one[i];
    for (int i = 0; i < n; i++)
        out[start[2][digit(key[two[i]], 2)]++] = (int32_t)two[i];
}
