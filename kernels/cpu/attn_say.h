/* What a tile of a prefill says beside its values, at one vector level: of a row while softmax has it in L1, and of the
 * columns of a block of keys just before the values are made from it. Included behind attn_body.h. */

#include "base/half.h"

static const float lanes_of[3 * KVT_LANES] = {[KVT_LANES] = 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
INLINE vf v_from(int k) { return v_load(lanes_of + KVT_LANES - k); }      /* 1 in lanes >= k, else 0 */
INLINE vf v_below(int k) { return v_load(lanes_of + 2 * KVT_LANES - k); } /* 1 in lanes < k, else 0 */

/* Sum of x over [from, to), spread over lanes. x begins at a whole vector and is defined up to one. Four chains, so that no
 * addition waits for the one before it. */
INLINE vf range_sum(const float *x, int from, int to)
{
    vf s[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        s[i] = v_set1(0);
    int j = from & ~(NL - 1), end = to & ~(NL - 1);
    if (j < end && j < from) {
        s[0] = v_mul(v_load(x + j), v_from(from - j));
        j += NL;
    }
    for (; j + 4 * NL <= end; j += 4 * NL)
        UNROLL
        for (int i = 0; i < 4; i++)
            s[i] = v_add(s[i], v_load(x + j + i * NL));
    for (; j < end; j += NL)
        s[1] = v_add(s[1], v_load(x + j));
    if (to > end) {
        vf last = v_mul(v_load(x + end), v_below(to - end));
        s[2] = v_add(s[2], from > end ? v_mul(last, v_from(from - end)) : last);
    }
    return v_add(v_add(s[0], s[1]), v_add(s[2], s[3]));
}

/* Distances of the row at pos: 0 to 15 one by one, further ones by bin. A bin that isn't cut by the first key is as long as
 * whole vectors are. */
INLINE void say_far(const struct kvt_attn_tile *t, const float *x, int pos, vf inv)
{
    for (int d = 0; d < KVT_LANES && pos < KVT_LANES - 1 && d <= pos; d++)
        t->near[KVT_LANES - 1 - d] += x[pos - d] * t->inv[pos - t->pos];
    for (int i = 0; i < KVT_LANES && pos >= KVT_LANES - 1; i += NL)
        v_store(t->near + i, v_fma(v_load(x + pos - (KVT_LANES - 1) + i), inv, v_load(t->near + i)));
    for (int start = KVT_LANES, bin = 0; start <= pos; start *= 2, bin++) {
        int to = pos - start + 1, from = to - start;
        vf s[4];
        UNROLL
        for (int i = 0; i < 4; i++)
            s[i] = v_set1(0);
        if (from < 0) {
            s[0] = range_sum(x, 0, to);
        } else {
            int j = from;
            for (; j + 4 * NL <= to; j += 4 * NL)
                UNROLL
                for (int i = 0; i < 4; i++)
                    s[i] = v_add(s[i], v_load(x + j + i * NL));
            for (; j < to; j += NL)
                s[0] = v_add(s[0], v_load(x + j));
        }
        vf sum = v_add(v_add(s[0], s[1]), v_add(s[2], s[3]));
        float *out = t->far + bin * KVT_LANES;
        v_store(out, v_fma(sum, inv, v_load(out)));
    }
}

/* The k largest of x (n), by one pass that keeps the best so far in order. */
INLINE void say_top(const float *x, int n, int k, float inv, float *top, int32_t *at)
{
    int have = 0;
    for (int j = 0; j < n; j += NL) {
        float least = have < k ? 0 : top[k - 1];
        if (!(v_most(v_load(x + j)) > least))
            continue;
        for (int i = j; i < j + NL && i < n; i++) {
            if (!(x[i] > (have < k ? 0 : top[k - 1])))
                continue;
            int place = have < k ? have++ : k - 1;
            for (; place > 0 && x[i] > top[place - 1]; place--) {
                top[place] = top[place - 1];
                at[place] = at[place - 1];
            }
            top[place] = x[i];
            at[place] = i;
        }
    }
    for (int i = 0; i < k; i++) {
        top[i] = i < have ? top[i] * inv : 0;
        at[i] = i < have ? at[i] : -1;
    }
}

TARGET static void say_row(const struct kvt_attn_tile *t, int r)
{
    const float *x = t->s + (size_t)r * t->s_ld;
    int pos = t->pos + r, seen = t->seen[r];
    if (t->local)
        t->local[r] = v_sum(range_sum(x, pos + 1 > t->n_local ? pos + 1 - t->n_local : 0, seen)) * t->inv[r];
    if (t->near && pos >= t->far_from)
        say_far(t, x, pos, v_set1(t->inv[r]));
    if (t->top)
        say_top(x, seen, t->top_k, t->inv[r], t->top + (size_t)r * (size_t)t->top_k, t->top_at + (size_t)r * (size_t)t->top_k);
}

TARGET static void half(const struct kvt_attn_tile *t, int r, uint16_t *out)
{
    const float *x = t->s + (size_t)r * t->s_ld;
    int seen = t->seen[r], j = 0;
    vf inv = v_set1(t->inv[r]), scale = v_set1(KVT_HALF_SCALE);
    for (; j + NL <= seen; j += NL)
        v_store_f16(out + j, v_mul(v_mul(v_load(x + j), inv), scale));
    if (j < seen) {
        uint16_t last[NL];
        v_store_f16(last, v_mul(v_mul(v_load(x + j), inv), scale));
        memcpy(out + j, last, (size_t)(seen - j) * sizeof *out);
    }
}

TARGET static void finish(float *sum, float *max, const float *weight, int n, uint16_t *map_mean, uint16_t *map_max)
{
    vf scale = v_set1(KVT_HALF_SCALE), zero = v_set1(0);
    int c = 0;
    for (; c + NL <= n; c += NL) {
        vf w = v_load(weight + c);
        v_store_f16(map_mean + c, v_mul(v_mul(v_load(sum + c), w), scale));
        v_store_f16(map_max + c, v_add(v_mul(v_load(max + c), scale), v_sub(w, w)));
        v_store(sum + c, zero);
        v_store(max + c, zero);
    }
    for (; c < n; c++) {
        map_mean[c] = kvt_f16_from_f32(sum[c] * weight[c] * KVT_HALF_SCALE);
        map_max[c] = kvt_f16_from_f32(max[c] * KVT_HALF_SCALE + (weight[c] - weight[c]));
        sum[c] = max[c] = 0;
    }
}

/* ---- columns ---- */

enum { COLUMN_VECS = (int)NL == (int)KVT_LANES ? 4 : 2 };

/* Columns [j, j + n) of one row bin, reduced over its rows to sum and max, into their column bins. */
INLINE void pool_bins(const struct kvt_attn_pool *p, int j, int n, const float *sum, const float *max, float *mean, float *most)
{
    int at = 0;
    for (int c = p->first[j / KVT_LANES]; at < n && c < p->C; c++) {
        int to = p->edge[c + 1] - j < n ? p->edge[c + 1] - j : n;
        float a = 0, b = 0;
        for (; at < to; at++) {
            a += sum[at];
            b = max[at] > b ? max[at] : b;
        }
        if (mean)
            mean[c] += a;
        if (most)
            most[c] = b > most[c] ? b : most[c];
    }
}

INLINE void column_block(const struct kvt_attn_tile *t, int vecs, bool squares, bool maxima, const struct kvt_attn_pool *pool, int r0,
                         int r1, int j, float *sum, float *square, float *max)
{
    vf s[COLUMN_VECS], m[COLUMN_VECS], q[COLUMN_VECS], bin[COLUMN_VECS], top[COLUMN_VECS];
    float bin_of[COLUMN_VECS * NL], top_of[COLUMN_VECS * NL];
#if defined(V_BINS)
    struct bins bins;
    bool together = pool && vecs == COLUMN_VECS && v_bins(pool, j, &bins);
#endif
    UNROLL
    for (int v = 0; v < vecs; v++)
        s[v] = m[v] = q[v] = v_set1(0);
    for (int r = r0, end; r < r1; r = end) {
        end = pool ? pool->until[r] : r1;
        int first = r;
        UNROLL
        for (int v = 0; v < vecs; v++)
            bin[v] = top[v] = v_set1(0);
        for (; r < end; r++) {
            const float *x = t->s + (size_t)r * t->s_ld + (size_t)j;
            vf inv = v_set1(t->inv[r]);
            UNROLL
            for (int v = 0; v < vecs; v++) {
                vf p = v_mul(v_load(x + v * NL), inv);
                s[v] = v_add(s[v], p);
                if (pool)
                    bin[v] = v_add(bin[v], p);
                if (pool || maxima)
                    top[v] = v_max(top[v], p);
                if (squares)
                    q[v] = v_fma(p, p, q[v]);
            }
        }
        if (maxima) {
            UNROLL
            for (int v = 0; v < vecs; v++)
                m[v] = v_max(m[v], top[v]);
        }
#if defined(V_BINS)
        if (pool && together) {
            v_pool(&bins, bin, top, pool->mean ? pool->mean[first] : NULL, pool->max ? pool->max[first] : NULL);
            continue;
        }
#endif
        if (pool) {
            UNROLL
            for (int v = 0; v < vecs; v++) {
                v_store(bin_of + v * NL, bin[v]);
                v_store(top_of + v * NL, top[v]);
            }
            pool_bins(pool, j, vecs * NL, bin_of, top_of, pool->mean ? pool->mean[first] : NULL, pool->max ? pool->max[first] : NULL);
        }
    }
    UNROLL
    for (int v = 0; v < vecs; v++) {
        v_store(sum + v * NL, s[v]);
        if (squares)
            v_store(square + v * NL, q[v]);
        if (maxima)
            v_store(max + v * NL, m[v]);
    }
}

INLINE void column_blocks(const struct kvt_attn_tile *t, bool squares, bool maxima, const struct kvt_attn_pool *pool, int r0, int r1,
                          int j0, int j1, float *sum, float *square, float *max)
{
    int j = j0, end = (j1 + KVT_LANES - 1) & ~(KVT_LANES - 1);
    for (; j + COLUMN_VECS * NL <= end; j += COLUMN_VECS * NL)
        column_block(t, COLUMN_VECS, squares, maxima, pool, r0, r1, j, sum + (j - j0), square + (j - j0), max + (j - j0));
    for (; j < end; j += NL)
        column_block(t, 1, squares, maxima, pool, r0, r1, j, sum + (j - j0), square + (j - j0), max + (j - j0));
}

TARGET static void columns(const struct kvt_attn_tile *t, const struct kvt_attn_pool *pool, int r0, int r1, int j0, int j1, float *sum,
                           float *square, float *max)
{
    float none[KVT_TILE_KEYS];
    float *q = square ? square : none, *m = max ? max : none;
    switch ((square ? 1 : 0) + (max ? 2 : 0) + (pool ? 4 : 0)) { /* each with its own code: what isn't asked isn't computed */
    case 0: column_blocks(t, false, false, NULL, r0, r1, j0, j1, sum, q, m); break;
    case 1: column_blocks(t, true, false, NULL, r0, r1, j0, j1, sum, q, m); break;
    case 2: column_blocks(t, false, true, NULL, r0, r1, j0, j1, sum, q, m); break;
    case 3: column_blocks(t, true, true, NULL, r0, r1, j0, j1, sum, q, m); break;
    case 4: column_blocks(t, false, false, pool, r0, r1, j0, j1, sum, q, m); break;
    case 5: column_blocks(t, true, false, pool, r0, r1, j0, j1, sum, q, m); break;
    case 6: column_blocks(t, false, true, pool, r0, r1, j0, j1, sum, q, m); break;
    default: column_blocks(t, true, true, pool, r0, r1, j0, j1, sum, q, m); break;
    }
}
