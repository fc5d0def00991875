/* Renumbered positions at one vector level: a part of attn_body.h, which includes it and says what the letters are.
 *
 * Keys are stored rotated at their own position. For a row whose slots count anew, key j is turned by a whole number of
 * positions on its way to the score: (rank_j - pos_j) - (rank_q - pos_q), the query being the last of what it sees. That is
 * never negative, as a slot's rank falls behind its position by one for each slot that left before it, and it changes only where
 * a slot left: neighbours in position share it. */

/* Whether a page's 16 positions follow one another. */
INLINE bool page_runs(const int32_t *at)
{
    int apart = 0;
    for (int i = 0; i < SLOTS; i++)
        apart |= at[i] - at[0] - i;
    return !apart;
}

INLINE int32_t rank_of(const uint64_t *bits, const int32_t *below, int32_t at)
{
    return below[at / 64] + __builtin_popcountll(bits[at / 64] & ((UINT64_C(1) << (at % 64)) - 1));
}

/* turn[j] of all slots of a cell for a row at `pos`, and on to a whole page; a slot that the row doesn't see has its neighbour's.
 * A slot's rank is the number of bits below its own in a bitmap of positions. bits, below: (words), words > pos / 64. */
TARGET static void turns(const struct kvt_cache *c, const struct kvt_cell *cell, int32_t pos, int words, uint64_t *bits,
                         int32_t *below, int32_t *turn)
{
    int n = cell->n, seen = 0;
    memset(bits, 0, (size_t)words * sizeof *bits);
    for (int j = 0; j < n; j += SLOTS) {
        const int32_t *at = kvt_page_pos(c, cell->page[j / SLOTS]);
        int live = n - j < SLOTS ? n - j : SLOTS;
        if (live == SLOTS && at[SLOTS - 1] <= pos && page_runs(at)) {
            int word = at[0] / 64, bit = at[0] % 64;
            bits[word] |= UINT64_C(0xffff) << bit;
            if (bit > 64 - SLOTS)
                bits[word + 1] |= UINT64_C(0xffff) >> (64 - bit);
            continue;
        }
        for (int i = 0; i < live; i++)
            if (at[i] <= pos)
                bits[at[i] / 64] |= UINT64_C(1) << (at[i] % 64);
    }
    for (int w = 0; w < words; w++) {
        below[w] = seen;
        seen += __builtin_popcountll(bits[w]);
    }
    int32_t query = seen - 1 - pos, now = 0, before = -2;
    for (int j = 0; j < n; j += SLOTS) {
        const int32_t *at = kvt_page_pos(c, cell->page[j / SLOTS]);
        int live = n - j < SLOTS ? n - j : SLOTS;
        bool runs = live == SLOTS && at[SLOTS - 1] <= pos && page_runs(at);
        for (int i = 0; i < (runs ? 1 : live); i++) {
            if (at[i] <= pos && at[i] != before + 1)
                now = rank_of(bits, below, at[i]) - at[i] - query;
            before = at[i] <= pos ? at[i] : -2;
            turn[j + i] = now;
        }
        for (int i = runs ? 1 : live; i < SLOTS; i++)
            turn[j + i] = now;
        before = runs ? at[SLOTS - 1] : before;
    }
}

/* q (heads, D) turned back by `turn` positions into out: a key turned on meets a query as the key meets the query turned back. */
INLINE void turn_query(const struct kvt_rope *rope, int turn, int heads, int D, const float *q, float *restrict out)
{
    const float *row = rope->table + (size_t)turn * (size_t)rope->rot;
    int half = rope->rot / 2;
    for (int h = 0; h < heads; h++, q += D, out += D) {
        if (rope->halves)
            for (int i = 0; i < half; i++) {
                out[i] = q[i] * row[2 * i] + q[half + i] * row[2 * i + 1];
                out[half + i] = q[half + i] * row[2 * i] - q[i] * row[2 * i + 1];
            }
        else
            for (int i = 0; i < 2 * half; i += 2) {
                out[i] = q[i] * row[i] + q[i + 1] * row[i + 1];
                out[i + 1] = q[i + 1] * row[i] - q[i] * row[i + 1];
            }
        for (int d = 2 * half; d < D; d++)
            out[d] = q[d];
    }
}

#if !defined(V_PAIRS)
/* cos and sin of pairs [i, i + pairs), pairs <= 8, of NL rows of a table: a lane each. */
INLINE void v_pairs(const float *const *row, int i, int pairs, vf *cos, vf *sin)
{
    float x[2][8][NL] = {{{0}}};
    for (int lane = 0; lane < NL; lane++)
        for (int k = 0; k < pairs; k++) {
            x[0][k][lane] = row[lane][2 * (i + k)];
            x[1][k][lane] = row[lane][2 * (i + k) + 1];
        }
    for (int k = 0; k < 8; k++) {
        cos[k] = v_load(x[0][k]);
        sin[k] = v_load(x[1][k]);
    }
}
#endif

/* Scores of one vector of keys, each turned by its own turn[lane]. key: K (D, 16) of the page, at the vector's first slot. */
INLINE void turned_keys(enum kvt_dtype type, int heads, const struct kvt_attn_part *p, const float *q, const int32_t *turn,
                        const void *key, const char *ahead, float *score)
{
    const struct kvt_rope *rope = p->rope;
    int D = p->c->o.D, half = rope->rot / 2, next = rope->halves ? 1 : 2, apart = rope->halves ? half : 1;
    size_t step = (size_t)SLOTS * (type == KVT_F32 ? 4 : 2), v_bytes = (size_t)D * step; /* V lies behind K */
    const float *row[NL];
    for (int lane = 0; lane < NL; lane++)
        row[lane] = rope->table + (size_t)turn[lane] * (size_t)rope->rot;
    vf acc[4][2];
    UNROLL
    for (int h = 0; h < heads; h++)
        acc[h][0] = acc[h][1] = v_set1(0);
    for (int i = 0; i < half; i += 8) {
        int pairs = half - i < 8 ? half - i : 8;
        vf cos[8], sin[8];
        v_pairs(row, i, pairs, cos, sin);
        for (int k = 0; k < pairs; k++) {
            int a = (i + k) * next, b = a + apart;
            vf x = v_decode(type, key, (size_t)a * SLOTS), y = v_decode(type, key, (size_t)b * SLOTS);
            for (int d = a; d <= b; d += b - a)
                if (type == KVT_F32 || d % 2 == 0) { /* a cache line */
                    v_prefetch(ahead + (size_t)d * step);
                    v_prefetch_l2((const char *)key + v_bytes + (size_t)d * step);
                }
            vf on = v_sub(v_mul(x, cos[k]), v_mul(y, sin[k])), off = v_fma(y, cos[k], v_mul(x, sin[k]));
            UNROLL
            for (int h = 0; h < heads; h++) {
                acc[h][0] = v_fma(v_set1(q[h * D + a]), on, acc[h][0]);
                acc[h][1] = v_fma(v_set1(q[h * D + b]), off, acc[h][1]);
            }
        }
    }
    for (int d = 2 * half; d < D; d++) {
        vf x = v_decode(type, key, (size_t)d * SLOTS);
        UNROLL
        for (int h = 0; h < heads; h++)
            acc[h][0] = v_fma(v_set1(q[h * D + d]), x, acc[h][0]);
    }
    UNROLL
    for (int h = 0; h < heads; h++)
        v_store(score + (size_t)h * KVT_PART_SLOTS, v_add(acc[h][0], acc[h][1]));
}

/* Scores of `vecs` vectors from vector v0 on whose keys are turned: where all turn alike, as most do, the query is turned
 * instead (into p->work, by *by the last time), and the others are turned one by one. */
INLINE void part_turned(enum kvt_dtype type, int heads, int vecs, const struct kvt_attn_part *p, const float *q, int v0,
                        const void *const *key, const char *const *ahead, float *score, int *by)
{
    int D = p->c->o.D, used = (p->slot1 - p->slot0 + NL - 1) / NL, last = v0 + vecs < used ? v0 + vecs : used;
    const int32_t *turn = p->turn + v0 * NL;
    int32_t apart = 0;
    for (int j = 0; j < (last - v0) * NL; j++)
        apart |= turn[j] - turn[0];
    if (!apart) {
        if (turn[0] != *by)
            turn_query(p->rope, turn[0], heads, D, q, p->work);
        *by = turn[0];
        part_dots(type, heads, vecs, D, p->work, key, ahead, score + v0 * NL);
        return;
    }
    for (int v = 0; v0 + v < last; v++)
        turned_keys(type, heads, p, q, turn + v * NL, key[v], ahead[v], score + (v0 + v) * NL);
}
