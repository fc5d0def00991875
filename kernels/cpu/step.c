/* step: what eviction needs while tokens come. */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

/* out[j] = f(row[h][j]) reduced over m heads, in the order of the heads. */
static void reduce(const struct kvt_accumulate_args *a, const float *row, int n, float *restrict out)
{
    int m = a->H / a->G;
    for (int h = 0; h < m; h++, row += a->row_ld) {
        if (a->how == KVT_GROUP_MAX)
            for (int j = 0; j < n; j++) {
                float x = a->square ? row[j] * row[j] : row[j];
                out[j] = h && out[j] > x ? out[j] : x;
            }
        else if (a->square)
            for (int j = 0; j < n; j++)
                out[j] = h ? out[j] + row[j] * row[j] : row[j] * row[j];
        else
            for (int j = 0; j < n; j++)
                out[j] = h ? out[j] + row[j] : row[j];
    }
    for (int j = 0; a->how == KVT_GROUP_MEAN && m > 1 && j < n; j++)
        out[j] /= (float)m;
}

int kvt_cpu_accumulate(struct kvt_dev *dev, const struct kvt_accumulate_args *a)
{
    float *sum = kvt_dev_scratch(dev, (size_t)a->ld * sizeof *sum);
    if (!sum)
        return KVT_ENOMEM;
    assert(a->H % a->G == 0);
    for (int g = 0; g < a->G; g++) {
        float *state = a->state + (size_t)g * (size_t)a->ld;
        int held = a->held[g], n = a->n[g];
        assert(held <= n && n <= a->ld && n <= a->row_ld);
        reduce(a, a->row + (size_t)g * (size_t)(a->H / a->G) * (size_t)a->row_ld, n, sum);
        for (int j = 0; j < held; j++)
            state[j] += sum[j];
        memcpy(state + held, sum + held, (size_t)(n - held) * sizeof *state);
    }
    return 0;
}

static bool higher(float x, float y) { return !isnan(x) && (isnan(y) || x > y); }

/* The `rank`-th (from 0) set bit of the map and the one after it. */
static void two_bits(const uint64_t *map, int rank, int32_t out[2])
{
    int word = 0;
    for (int count; rank >= (count = __builtin_popcountll(map[word])); word++)
        rank -= count;
    uint64_t bits = map[word];
    for (; rank > 0; rank--)
        bits &= bits - 1;
    out[0] = word * 64 + __builtin_ctzll(bits);
    bits &= bits - 1;
    while (!bits)
        bits = map[++word];
    out[1] = word * 64 + __builtin_ctzll(bits);
}

/* One slot too many, as in a step: the two that compare are found by their rank among the positions, without sorting. */
static int one_contest(const struct kvt_contest_args *a, int r, int room, uint64_t *map)
{
    size_t row = (size_t)r * (size_t)a->ld;
    const int32_t *pos = a->pos + row;
    const uint8_t *protect = a->protect ? a->protect + row : NULL;
    int n = a->n[r], turn = a->turn[r] < room ? a->turn[r] : 0, slot[2] = {-1, -1}, most = 0;
    int32_t at[2];
    for (int i = 0; i < n; i++)
        most = pos[i] > most ? pos[i] : most;
    memset(map, 0, ((size_t)most / 64 + 1) * sizeof *map);
    for (int i = 0; i < n; i++)
        if (!(protect && protect[i]))
            map[pos[i] / 64] |= (uint64_t)1 << pos[i] % 64;
    two_bits(map, turn, at);
    for (int i = 0; i < n; i++) {
        slot[0] = pos[i] == at[0] ? i : slot[0];
        slot[1] = pos[i] == at[1] ? i : slot[1];
    }
    a->turn[r] = (turn + 1) % room;
    return higher(a->score[row + (size_t)slot[0]], a->score[row + (size_t)slot[1]]) ? slot[1] : slot[0];
}

static int ascending(const void *x, const void *y)
{
    uint64_t a = *(const uint64_t *)x, b = *(const uint64_t *)y;
    return (a > b) - (a < b);
}

/* Any number too many: positions with their slots in order, then one contest after the other. gone[i] = 1: slot i left. */
static void contests(const struct kvt_contest_args *a, int r, int m, int room, uint64_t *coming, int32_t *here, uint8_t *gone)
{
    size_t row = (size_t)r * (size_t)a->ld;
    const float *score = a->score + row;
    int held = 0, at = 0;
    for (int i = 0; i < a->n[r]; i++)
        if (!(a->protect && a->protect[row + (size_t)i]))
            coming[at++] = (uint64_t)(a->pos ? a->pos[row + (size_t)i] : i) << 32 | (uint32_t)i;
    if (a->pos)
        qsort(coming, (size_t)m, sizeof *coming, ascending);
    for (int i = 0; i < m; i++) {
        here[held++] = (int32_t)(uint32_t)coming[i];
        if (held <= room)
            continue;
        int turn = a->turn[r] < room ? a->turn[r] : 0, out = 0;
        if (room >= 1) {
            out = higher(score[here[turn]], score[here[turn + 1]]) ? turn + 1 : turn;
            a->turn[r] = (turn + 1) % room;
        }
        gone[here[out]] = 1;
        memmove(here + out, here + out + 1, (size_t)(--held - out) * sizeof *here);
    }
}

int kvt_cpu_contest(struct kvt_dev *dev, const struct kvt_contest_args *a)
{
    size_t ld = (size_t)a->ld, words = ld;
    for (int r = 0; a->pos && r < a->R; r++) /* room for the map of positions */
        for (int i = 0; i < a->n[r]; i++) {
            size_t need = (size_t)a->pos[(size_t)r * ld + (size_t)i] / 64 + 1;
            words = need > words ? need : words;
        }
    uint64_t *map = kvt_dev_scratch(dev, words * sizeof *map + ld * (sizeof(int32_t) + 1));
    if (!map)
        return KVT_ENOMEM;
    int32_t *here = (int32_t *)(map + words);
    uint8_t *gone = (uint8_t *)(here + ld);
    for (int r = 0; r < a->R; r++) {
        size_t row = (size_t)r * ld;
        int n = a->n[r], m = n, n_left = 0, only = -1;
        for (int i = 0; a->protect && i < n; i++)
            m -= a->protect[row + (size_t)i] != 0;
        int room = a->budget[r] - (n - m);
        bool one = m == room + 1 && room >= 1 && a->pos;
        if (one) {
            only = one_contest(a, r, room, map);
        } else {
            memset(gone, 0, (size_t)n);
            if (m > room)
                contests(a, r, m, room, map, here, gone);
        }
        for (int i = 0; a->stay && i < n; i++)
            a->stay[row + (size_t)i] = one ? i != only : !gone[i];
        if (one) {
            if (a->left)
                a->left[row] = only;
            n_left = 1;
        }
        for (int i = n - 1; !one && i >= 0; i--)
            if (gone[i]) {
                if (a->left)
                    a->left[row + (size_t)n_left] = i;
                n_left++;
            }
        if (a->n_left)
            a->n_left[r] = n_left;
    }
    return 0;
}

int kvt_cpu_topk_within(struct kvt_dev *dev, const struct kvt_topk_within_args *a) { return kvt_host_topk_within(dev, a, kvt_cpu_topk); }
