/* score at one vector level: included after attn_body.h by the file of the level, with what that one defines. Loops are plain
 * ones over 16 lanes where a compiler makes vectors of them. */

enum { LANES = KVT_LANES };

/* A tree over 16 lanes. */
INLINE float sum16(float *x)
{
    for (int w = LANES / 2; w; w /= 2)
        for (int i = 0; i < w; i++)
            x[i] += x[i + w];
    return x[0];
}

TARGET static void products(int K, const float *left, const float *block0, const float *block1, float *out)
{
    for (int c = 0; c < 2 * SLOTS; c += 2 * NL) {
        const float *k0 = (c < SLOTS ? block0 : block1) + c % SLOTS, *k1 = (int)NL == SLOTS ? block1 : k0 + NL;
        score_tile(K, left, k0, k1, 1.0f, out + c, 2 * SLOTS);
    }
}

TARGET static void column_squares(int D, const float *page, float *out)
{
    float lane[LANES] = {0};
    for (int d = 0; d < D; d++, page += LANES)
        for (int i = 0; i < LANES; i++)
            lane[i] += page[i] * page[i];
    memcpy(out, lane, sizeof lane);
}

TARGET static float dot(const float *x, const float *y, int n)
{
    float lane[LANES] = {0};
    int j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int i = 0; i < LANES; i++)
            lane[i] += x[j + i] * y[j + i];
    for (int i = 0; j + i < n; i++)
        lane[i] += x[j + i] * y[j + i];
    return sum16(lane);
}

TARGET static void add_scaled(int D, const float *page, const float *by, float *lanes)
{
    float scale[LANES];
    memcpy(scale, by, sizeof scale);
    for (int d = 0; d < D; d++, page += LANES, lanes += LANES)
        for (int i = 0; i < LANES; i++)
            lanes[i] += page[i] * scale[i];
}

TARGET static void dot_columns(int D, const float *page, const float *x, float *out)
{
    float lane[LANES] = {0};
    for (int d = 0; d < D; d++, page += LANES)
        for (int i = 0; i < LANES; i++)
            lane[i] += page[i] * x[d];
    memcpy(out, lane, sizeof lane);
}

TARGET static void range(int D, int rows, const float *x, float *min, float *max)
{
    memcpy(min, x, (size_t)D * sizeof *min);
    memcpy(max, x, (size_t)D * sizeof *max);
    for (int r = 1; r < rows; r++) {
        x += D;
        for (int d = 0; d < D; d++) {
            min[d] = x[d] < min[d] ? x[d] : min[d];
            max[d] = x[d] > max[d] ? x[d] : max[d];
        }
    }
}

TARGET static float spread_of(int D, const float *x, const float *min, const float *by, float *work)
{
    float lane[LANES] = {0}, square[LANES] = {0};
    int d = 0;
    for (; d + LANES <= D; d += LANES)
        for (int i = 0; i < LANES; i++) {
            work[d + i] = (x[d + i] - min[d + i]) * by[d + i];
            lane[i] += work[d + i];
        }
    for (int i = 0; d + i < D; i++) {
        work[d + i] = (x[d + i] - min[d + i]) * by[d + i];
        lane[i] += work[d + i];
    }
    float mean = sum16(lane) / (float)D;
    for (d = 0; d + LANES <= D; d += LANES)
        for (int i = 0; i < LANES; i++)
            square[i] += (work[d + i] - mean) * (work[d + i] - mean);
    for (int i = 0; d + i < D; i++)
        square[i] += (work[d + i] - mean) * (work[d + i] - mean);
    return sqrtf(sum16(square) / (float)(D - 1));
}

TARGET static void abs_sums(int rows, const float *in, float *sum)
{
    for (int r = 0; r < rows; r++, in += 2 * SLOTS)
        for (int i = 0; i < 2 * SLOTS; i++)
            sum[i] += fabsf(in[i]);
}

TARGET static void quadratic(int rows, const float *in, const float *linear, float half, const float *k0, const float *k1,
                             float *out)
{
    for (int r = 0; r < rows; r++, in += 2 * SLOTS, k0 += SLOTS, k1 += SLOTS)
        for (int i = 0; i < SLOTS; i++) {
            out[i] += k0[i] * (linear[r] + half * in[i]);
            out[SLOTS + i] += k1[i] * (linear[r] + half * in[SLOTS + i]);
        }
}

#define SCORE_KERNEL {QK_ROWS, decode_run, products, column_squares, dot, add_scaled, dot_columns, range, spread_of, abs_sums, quadratic}
