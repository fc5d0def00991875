/* attn at one vector level: this text is included by attn_plain.c, attn_avx2.c and attn_avx512.c, which define
 *   TARGET           the level's function attribute
 *   vf, NL           the vector of NL floats (4, 8 or 16)
 *   QK_ROWS          rows of a score tile; it is 2 vectors wide
 *   PV_ROWS, PV_VECS rows and vectors of a value tile
 *   v_load v_store v_set1 v_add v_sub v_mul v_fma v_max v_f16 v_store_f16 v_bf16 v_exp v_prefetch v_prefetch_l2
 * A sum over d or over keys is one chain of fma in ascending order at every level and in every tile, so that a row's
 * bits depend on nothing but the row. */

enum { SLOTS = KVT_PAGE_SLOTS };

#if defined(__clang__)
#define UNROLL _Pragma("unroll")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define INLINE static inline __attribute__((always_inline)) TARGET

INLINE vf v_decode(enum kvt_dtype type, const void *p, size_t at)
{
    if (type == KVT_F16)
        return v_f16((const uint16_t *)p + at);
    if (type == KVT_BF16)
        return v_bf16((const uint16_t *)p + at);
    return v_load((const float *)p + at);
}

/* `count` < NL values; the other lanes are 0. Never reads past them: the next page may be another slab's. */
INLINE vf v_decode_some(enum kvt_dtype type, const void *p, size_t at, int count)
{
    union {
        float f[NL];
        uint16_t h[NL];
    } some = {.f = {0}};
    if (type == KVT_F32)
        memcpy(some.f, (const float *)p + at, (size_t)count * sizeof(float));
    else
        memcpy(some.h, (const uint16_t *)p + at, (size_t)count * sizeof(uint16_t));
    return v_decode(type, &some, 0);
}

/* Scores that are capped: x = cap tanh(scale x / cap), n a multiple of NL. */
TARGET static void cap_scores(float *x, int n, float scale, float cap)
{
    float in = scale / cap;
    for (int i = 0; i < n; i++)
        x[i] = cap * tanh_body(x[i] * in);
}

/* A fixed tree. */
INLINE float v_sum(vf v)
{
    float x[NL];
    v_store(x, v);
    for (int w = NL / 2; w; w /= 2)
        for (int i = 0; i < w; i++)
            x[i] += x[i + w];
    return x[0];
}

INLINE float v_most(vf v)
{
    float x[NL];
    v_store(x, v);
    for (int w = NL / 2; w; w /= 2)
        for (int i = 0; i < w; i++)
            x[i] = x[i] > x[i + w] ? x[i] : x[i + w];
    return x[0];
}

/* ---- parts ---- */

enum { PART_VECS = KVT_PART_SLOTS / NL, PAGE_VECS = KVT_PAGE_SLOTS / NL };

/* Dot products of `heads` queries with `vecs` vectors of keys. key[v]: K (D, 16) of the page, at the vector's first slot. */
INLINE void part_dots(enum kvt_dtype type, int heads, int vecs, int D, const float *q, const void *const *key,
                      const char *const *ahead, float *score)
{
    size_t v_bytes = (size_t)D * SLOTS * (type == KVT_F32 ? 4 : 2); /* V lies behind K */
    vf acc[4][4];
    UNROLL
    for (int h = 0; h < heads; h++)
        UNROLL
        for (int v = 0; v < vecs; v++)
            acc[h][v] = v_set1(0);
    size_t step = (size_t)SLOTS * (type == KVT_F32 ? 4 : 2);
    for (int d = 0; d < D; d++) {
        vf k[4];
        UNROLL
        for (int v = 0; v < vecs; v++)
            k[v] = v_decode(type, key[v], (size_t)d * SLOTS);
        if (type == KVT_F32 || d % 2 == 0) { /* a cache line; V is read when all of the part's K has been */
            UNROLL
            for (int v = 0; v < vecs; v++) {
                v_prefetch(ahead[v] + (size_t)d * step);
                v_prefetch_l2((const char *)key[v] + v_bytes + (size_t)d * step);
            }
        }
        UNROLL
        for (int h = 0; h < heads; h++) {
            vf x = v_set1(q[h * D + d]);
            UNROLL
            for (int v = 0; v < vecs; v++)
                acc[h][v] = v_fma(x, k[v], acc[h][v]);
        }
    }
    UNROLL
    for (int h = 0; h < heads; h++)
        UNROLL
        for (int v = 0; v < vecs; v++)
            v_store(score + (size_t)h * KVT_PART_SLOTS + (size_t)(v * NL), acc[h][v]);
}

/* acc (heads, Dp) at dims [d, d + vecs NL) = sum over the part's slots of p v. `some`: dims of a last, partial vector. */
INLINE void part_values(enum kvt_dtype type, int heads, int vecs, int some, const struct kvt_attn_part *p, const float *e,
                        int d, float *out)
{
    const struct kvt_cache *c = p->c;
    size_t D = (size_t)c->o.D, Dp = (size_t)kvt_attn_dp(c->o.D), vb = type == KVT_F32 ? 4 : 2, row = D * vb;
    vf acc[4][PV_VECS];
    UNROLL
    for (int h = 0; h < heads; h++)
        UNROLL
        for (int v = 0; v < vecs; v++)
            acc[h][v] = v_set1(0);
    for (int s = p->slot0; s < p->slot1; s += SLOTS) {
        const unsigned char *page = kvt_page_v(c, p->cell->page[s / SLOTS]);
        const char *next = (const char *)kvt_page_v(c, p->cell->page[s + SLOTS < p->slot1 ? s / SLOTS + 1 : s / SLOTS]) + (size_t)d * vb;
        const char *later = next; /* the K of the next part, so that memory has work in this half too */
        if (p->next) {
            int at = p->next_slot + s - p->slot0;
            later = (const char *)kvt_page_k(c, p->next->page[at < p->next->n ? at / SLOTS : p->next_slot / SLOTS]) + (size_t)d * vb;
        }
        int live = p->slot1 - s < SLOTS ? p->slot1 - s : SLOTS;
        for (int i = 0; i < live; i++) {
            vf x[PV_VECS];
            UNROLL
            for (int v = 0; v < vecs; v++)
                x[v] = some ? v_decode_some(type, page, (size_t)i * D + (size_t)d, some)
                            : v_decode(type, page, (size_t)i * D + (size_t)(d + v * NL));
            UNROLL
            for (size_t line = 0; line < (size_t)(vecs * NL) * vb; line += 64) {
                v_prefetch(next + (size_t)i * row + line);
                v_prefetch_l2(later + (size_t)i * row + line);
            }
            UNROLL
            for (int h = 0; h < heads; h++) {
                vf w = v_set1(e[(size_t)h * KVT_PART_SLOTS + (size_t)(s - p->slot0 + i)]);
                UNROLL
                for (int v = 0; v < vecs; v++)
                    acc[h][v] = v_fma(w, x[v], acc[h][v]);
            }
        }
    }
    UNROLL
    for (int h = 0; h < heads; h++)
        UNROLL
        for (int v = 0; v < vecs; v++)
            v_store(out + (size_t)h * Dp + (size_t)(d + v * NL), acc[h][v]);
}

#include "kernels/cpu/attn_turn.h"

/* Scores of `heads` (a constant) query heads. */
INLINE void part_scores(enum kvt_dtype type, int heads, int vecs, const struct kvt_attn_part *p, const float *q, float *score)
{
    const struct kvt_cache *c = p->c;
    size_t vb = type == KVT_F32 ? 4 : 2;
    int used = (p->slot1 - p->slot0 + NL - 1) / NL, by = -1;
    for (int v0 = 0; v0 < used; v0 += vecs) {
        const void *key[4];
        const char *ahead[4];
        for (int v = 0; v < vecs; v++) {
            /* past the end the last vector is read again, and its scores are masked with the others */
            int now = v0 + v < used ? v0 + v : used - 1, next = now + vecs < used ? now + vecs : used - 1;
            key[v] = kvt_page_k(c, p->cell->page[(p->slot0 + now * NL) / SLOTS]) + (size_t)(now * NL % SLOTS) * vb;
            ahead[v] = (const char *)kvt_page_k(c, p->cell->page[(p->slot0 + next * NL) / SLOTS]) + (size_t)(next * NL % SLOTS) * vb;
        }
        if (p->turn)
            part_turned(type, heads, vecs, p, q, v0, key, ahead, score, &by);
        else
            part_dots(type, heads, vecs, c->o.D, q, key, ahead, score + v0 * NL);
    }
}

INLINE void part_heads(enum kvt_dtype type, int heads, int vecs, const struct kvt_attn_part *p, int h0)
{
    const struct kvt_cache *c = p->c;
    int D = c->o.D, Dp = kvt_attn_dp(D), n = p->slot1 - p->slot0, used = (n + NL - 1) / NL;
    const float *q = p->q + (size_t)h0 * (size_t)D;
    float *score = p->score + (size_t)h0 * KVT_PART_SLOTS, *acc = p->acc + (size_t)h0 * (size_t)Dp;
    part_scores(type, heads, vecs, p, q, score);
    for (int h = 0; p->cap > 0 && h < heads; h++)
        cap_scores(score + (size_t)h * KVT_PART_SLOTS, used * NL, p->scale, p->cap);
    float scale = p->cap > 0 ? 1 : p->scale;
    for (int s = 0; s < used * NL; s += SLOTS) {
        const int32_t *pos = kvt_page_pos(c, p->cell->page[(p->slot0 + s) / SLOTS]);
        int live = n - s;
        for (int h = 0; h < heads; h++) {
            float *x = score + (size_t)h * KVT_PART_SLOTS + (size_t)s;
            for (int i = 0; i < SLOTS; i++) {
                float y = x[i] * scale;
                x[i] = ((i < live) & (pos[i] <= p->pos) & (pos[i] > p->after)) ? y : -INFINITY; /* no branch: it becomes a vector */
            }
        }
    }
    bool any = false;
    for (int h = 0; h < heads; h++) {
        float *x = score + (size_t)h * KVT_PART_SLOTS;
        vf m = v_load(x);
        for (int v = 1; v < used; v++)
            m = v_max(m, v_load(x + v * NL));
        float max = v_most(m), sum = 0;
        if (max == -INFINITY) {
            memset(x, 0, (size_t)n * sizeof *x);
        } else {
            vf minus = v_set1(max), total = v_set1(0);
            for (int v = 0; v < used; v++) {
                vf e = v_exp(v_sub(v_load(x + v * NL), minus));
                total = v_add(total, e);
                v_store(x + v * NL, e);
            }
            sum = v_sum(total);
            any = true;
        }
        p->max[h0 + h] = max;
        p->sum[h0 + h] = sum;
    }
    if (!any) {
        memset(acc, 0, (size_t)(heads * Dp) * sizeof *acc);
        return;
    }
    int d = 0;
    for (; d + PV_VECS * NL <= D; d += PV_VECS * NL)
        part_values(type, heads, PV_VECS, 0, p, score, d, acc);
    for (; d + NL <= D; d += NL)
        part_values(type, heads, 1, 0, p, score, d, acc);
    if (d < D)
        part_values(type, heads, 1, D - d, p, score, d, acc);
}

INLINE void part_type(enum kvt_dtype type, const struct kvt_attn_part *p)
{
    int h = 0;
    for (; h + 4 <= p->heads; h += 4)
        part_heads(type, 4, 2, p, h);
    switch (p->heads - h) {
    case 3: part_heads(type, 3, 2, p, h); break;
    case 2: part_heads(type, 2, 2, p, h); break;
    case 1: part_heads(type, 1, 4, p, h); break;
    default: break;
    }
}

TARGET static void part(const struct kvt_attn_part *p)
{
    switch (p->c->o.type) {
    case KVT_F16: part_type(KVT_F16, p); break;
    case KVT_BF16: part_type(KVT_BF16, p); break;
    default: part_type(KVT_F32, p); break;
    }
}

/* ---- tiles ---- */

/* `count` values, a multiple of 16, decoded. */
TARGET static void decode_run(enum kvt_dtype type, const void *src, size_t count, float *dst)
{
    if (type == KVT_F16)
        for (size_t i = 0; i < count; i += NL)
            v_store(dst + i, v_decode(KVT_F16, src, i));
    else if (type == KVT_BF16)
        for (size_t i = 0; i < count; i += NL)
            v_store(dst + i, v_decode(KVT_BF16, src, i));
    else
        memcpy(dst, src, count * sizeof(float));
}

/* QK_ROWS rows x 2 vectors of keys. q: (D, QK_ROWS); k0, k1: (D, 16) at the vector's first slot. */
INLINE void score_tile(int D, const float *q, const float *k0, const float *k1, float scale, float *s, size_t s_ld)
{
    vf acc[QK_ROWS][2];
    UNROLL
    for (int r = 0; r < QK_ROWS; r++)
        acc[r][0] = acc[r][1] = v_set1(0);
    for (int d = 0; d < D; d++) {
        vf a = v_load(k0 + (size_t)d * SLOTS), b = v_load(k1 + (size_t)d * SLOTS);
        UNROLL
        for (int r = 0; r < QK_ROWS; r++) {
            vf x = v_set1(q[d * QK_ROWS + r]);
            acc[r][0] = v_fma(x, a, acc[r][0]);
            acc[r][1] = v_fma(x, b, acc[r][1]);
        }
    }
    vf by = v_set1(scale);
    UNROLL
    for (int r = 0; r < QK_ROWS; r++) {
        v_store(s + (size_t)r * s_ld, v_mul(acc[r][0], by));
        v_store(s + (size_t)r * s_ld + NL, v_mul(acc[r][1], by));
    }
}

TARGET static void scores(const struct kvt_attn_tile *t)
{
    const struct kvt_cache *c = t->c;
    int D = c->o.D, tiles = (t->rows + QK_ROWS - 1) / QK_ROWS, last[KVT_TILE_ROWS] = {0};
    for (int r = 0; r < tiles * QK_ROWS; r++) {
        int tile = r / QK_ROWS;
        float *dst = t->qpack + (size_t)(tile * QK_ROWS * D + r % QK_ROWS);
        const float *src = t->q + (size_t)r * t->q_ld;
        for (int d = 0; d < D; d++)
            dst[d * QK_ROWS] = r < t->rows ? src[d] : 0;
        if (r < t->rows && t->seen[r] > last[tile])
            last[tile] = t->seen[r];
    }
    float scale = t->cap > 0 ? 1 : t->scale; /* a cap comes with its own */
    for (int key = t->lo; key < t->n; key += 2 * SLOTS) { /* two pages at a time */
        decode_run(c->o.type, kvt_page_k(c, t->cell->page[key / SLOTS]), (size_t)(D * SLOTS), t->buf);
        bool two = key + SLOTS < t->n;
        if (two)
            decode_run(c->o.type, kvt_page_k(c, t->cell->page[key / SLOTS + 1]), (size_t)(D * SLOTS), t->buf + D * SLOTS);
        int keys = two ? 2 * SLOTS : NL == 16 ? 2 * SLOTS : SLOTS;
        for (int tile = 0; tile < tiles; tile++)
            for (int k = 0; k < keys && key + k < last[tile]; k += 2 * NL) {
                const float *k0 = t->buf + (size_t)(k / SLOTS * D * SLOTS + k % SLOTS), *k1 = k0 + NL;
                if ((int)NL == KVT_PAGE_SLOTS) /* without a second page the first one again; those columns are masked */
                    k1 = two ? t->buf + D * SLOTS : k0;
                score_tile(D, t->qpack + (size_t)(tile * QK_ROWS * D), k0, k1, scale,
                           t->s + (size_t)(tile * QK_ROWS) * t->s_ld + (size_t)(key + k), t->s_ld);
            }
    }
}

TARGET static void say_row(const struct kvt_attn_tile *t, int r); /* attn_say.h */

TARGET static void softmax(const struct kvt_attn_tile *t)
{
    int n = (t->n + KVT_LANES - 1) & ~(KVT_LANES - 1);
    for (int r = 0; r < t->rows; r++) {
        float *x = t->s + (size_t)r * t->s_ld;
        int seen = t->seen[r], end = (seen + NL - 1) & ~(NL - 1), from = t->from ? t->from[r] : 0, start = from & ~(NL - 1);
        if (from >= seen) {
            memset(x, 0, (size_t)n * sizeof *x);
            t->inv[r] = 0;
            if (t->entropy)
                t->entropy[r] = 0;
            say_row(t, r);
            continue;
        }
        if (t->cap > 0)
            cap_scores(x + start, end - start, t->scale, t->cap);
        memset(x, 0, (size_t)start * sizeof *x);
        for (int j = start; j < from; j++)
            x[j] = -INFINITY;
        for (int j = seen; j < end; j++)
            x[j] = -INFINITY;
        vf m = v_load(x + start);
        for (int j = start + NL; j < end; j += NL)
            m = v_max(m, v_load(x + j));
        float max = v_most(m);
        vf minus = v_set1(max), sum = v_set1(0), dot = v_set1(0), least = v_set1(-104.0f);
        if (t->entropy) {
            for (int j = start; j < end; j += NL) {
                vf d = v_max(v_sub(v_load(x + j), minus), least), e = v_exp(d);
                sum = v_add(sum, e);
                dot = v_fma(e, d, dot);
                v_store(x + j, e);
            }
        } else {
            for (int j = start; j < end; j += NL) {
                vf e = v_exp(v_sub(v_load(x + j), minus));
                sum = v_add(sum, e);
                v_store(x + j, e);
            }
        }
        float total = v_sum(sum);
        t->inv[r] = 1.0f / total;
        if (t->entropy) /* -sum p ln p with p = e / total and ln e = d */
            t->entropy[r] = logf(total) - v_sum(dot) / total;
        if (end < n)
            memset(x + end, 0, (size_t)(n - end) * sizeof *x);
        say_row(t, r);
    }
}

/* o (PV_ROWS, vecs) += s (PV_ROWS, keys) v (keys, vecs). */
INLINE void value_tile(int vecs, int keys, const float *s, size_t s_ld, const float *v, size_t Dp, float *o)
{
    vf acc[PV_ROWS][PV_VECS];
    UNROLL
    for (int r = 0; r < PV_ROWS; r++)
        UNROLL
        for (int i = 0; i < vecs; i++)
            acc[r][i] = v_load(o + (size_t)r * Dp + (size_t)(i * NL));
    for (int k = 0; k < keys; k++) {
        vf x[PV_VECS];
        UNROLL
        for (int i = 0; i < vecs; i++)
            x[i] = v_load(v + (size_t)k * Dp + (size_t)(i * NL));
        UNROLL
        for (int r = 0; r < PV_ROWS; r++) {
            vf p = v_set1(s[(size_t)r * s_ld + (size_t)k]);
            UNROLL
            for (int i = 0; i < vecs; i++)
                acc[r][i] = v_fma(p, x[i], acc[r][i]);
        }
    }
    UNROLL
    for (int r = 0; r < PV_ROWS; r++)
        UNROLL
        for (int i = 0; i < vecs; i++)
            v_store(o + (size_t)r * Dp + (size_t)(i * NL), acc[r][i]);
}

TARGET static void values(const struct kvt_attn_tile *t, int key0, int key1)
{
    const struct kvt_cache *c = t->c;
    int D = c->o.D, Dp = kvt_attn_dp(D), tiles = (t->rows + PV_ROWS - 1) / PV_ROWS, keys = key1 - key0;
    for (int k = 0; k < keys; k += SLOTS) {
        const unsigned char *page = kvt_page_v(c, t->cell->page[(key0 + k) / SLOTS]);
        int live = keys - k < SLOTS ? keys - k : SLOTS;
        if (D == Dp)
            decode_run(c->o.type, page, (size_t)(live * D), t->buf + (size_t)(k * Dp));
        else
            for (int i = 0; i < live; i++) {
                float *dst = t->buf + (size_t)((k + i) * Dp);
                memset(dst, 0, (size_t)Dp * sizeof *dst);
                kvt_pages_decode(c, page, (size_t)(i * D), 1, D, dst);
            }
    }
    for (int tile = 0; tile < tiles; tile++) {
        int m = 0;
        for (int r = tile * PV_ROWS; r < t->rows && r < (tile + 1) * PV_ROWS; r++)
            m = t->seen[r] - key0 > m ? t->seen[r] - key0 : m;
        m = m < keys ? m : keys;
        if (m <= 0)
            continue;
        const float *s = t->s + (size_t)(tile * PV_ROWS) * t->s_ld + (size_t)key0;
        float *o = t->o + (size_t)(tile * PV_ROWS * Dp);
        int d = 0;
        for (; d + PV_VECS * NL <= Dp; d += PV_VECS * NL)
            value_tile(PV_VECS, m, s, t->s_ld, t->buf + d, (size_t)Dp, o + d);
        for (; d < Dp; d += NL)
            value_tile(1, m, s, t->s_ld, t->buf + d, (size_t)Dp, o + d);
    }
}
