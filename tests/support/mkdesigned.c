/* The designed model's weights. */
#include "mkdesigned.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "mkmodel.h"

enum { L = MKDESIGNED_L, H = MKDESIGNED_H, G = MKDESIGNED_G, D = MKDESIGNED_D, E = MKDESIGNED_E, V = 259, CODE = 32, N_SET = 6, BOS = 1,
       /* width: a constant, the token's code, its set, the code of the token before (from layer 0 on) */
       AT_ONE = 0, AT_CODE = 1, AT_SET = 33, AT_BEFORE = 39,
       /* head: three planes that turn with the position, then dimensions that don't: one for all, code, set */
       PLANES = 7, IN_ALL = 14, IN_CODE = 16, IN_SET = 48 };
#define STRONG 40.0 /* score of what is meant where all else has 0: the rest of n tokens gets n e^-40 */
#define TURN 28.0   /* of each plane: the neighbour of what is meant has 28 (1 - cos 1 + 1 - cos 0.6 + ...) = 20.6 less, all others still less */
#define SAME 2.5    /* of each of the 32 places of a code: 80 for equal tokens, at most 40 for others */
#define NONE 60.0   /* of the first token in the induction head: what a row looks at whose token never came before */

/* Word t of the Reed-Muller code (2, 5): its nine bits choose among the products of two of five variables. Two words differ in 8 places
 * or more, so codes as +1 and -1 have a product of 32 with themselves and of 16 at most with another. */
static float code(int t, int place)
{
    int bit = 0, parity = 0;
    for (int a = 0; a < 5; a++)
        for (int b = a + 1; b < 5; b++, bit++)
            parity ^= bit < 9 && (t >> bit & 1) && (place >> a & 1) && (place >> b & 1);
    return parity ? -1 : 1;
}

/* Letters a-f, g-l, m-r, s-x are the words of shots 1 to 4; bytes have ids from 3 on. */
static int set_of(int t)
{
    int letter = t - 3 - 'a';
    return t == BOS ? 5 : letter >= 0 && letter < 24 ? letter / 6 : 4;
}

/* Radians a token: the first planes know a neighbour from afar, the others stand still. */
static double turn(int plane) { return plane < PLANES ? pow(0.6, plane) : 1e-9; }

/* Scores are divided by sqrt(D); weights are given in scores. */
static void put(float *w, int row, int k, int col, double score) { w[row * k + col] = (float)(score * sqrt(D)); }

static void fill_q(int l, float *w)
{
    for (int h = 0; h < H; h++) {
        float *q = w + h * D * E;
        bool same = l == 0 ? h == 3 : h == 1, first = l == 0 ? h == 0 : h == 3, self = l == 1 && h >= 2, before = l == 0 && h == 1;
        for (int b = 0; b < CODE && same; b++)
            put(q, IN_CODE + b, E, AT_CODE + b, SAME);
        if (first)
            put(q, IN_SET + 5, E, AT_ONE, self ? PLANES * TURN : STRONG);
        /* what is meant has a score of 0, all else less: f32 is finest there */
        put(q, IN_ALL, E, AT_ONE, same ? -SAME * CODE : self || before ? -PLANES * TURN : first || (l == 1 && h == 0) ? -STRONG : 0);
        if (l == 1 && h == 1)
            put(q, IN_SET + 5, E, AT_ONE, NONE);
        if (l == 1 && h == 0)
            put(q, IN_SET + 1, E, AT_ONE, STRONG);
        for (int p = 0; p < PLANES && (self || before); p++) { /* q.k = TURN cos(turn (i - j - 1)), or of i - j */
            put(q, 2 * p, E, AT_ONE, TURN * cos(before ? turn(p) : 0));
            put(q, 2 * p + 1, E, AT_ONE, -TURN * sin(before ? turn(p) : 0));
        }
    }
}

static void fill_k(int l, float *w)
{
    for (int g = 0; g < G; g++) {
        float *k = w + g * D * E;
        bool induction = l == 1 && g == 0, half = l == 1 && g == 1;
        for (int p = 0; p < PLANES; p++) {
            k[2 * p * E + AT_ONE] = 1;
            k[2 * p * E + AT_SET + 5] = half ? -1 : 0; /* the first token is known by its set alone */
        }
        k[IN_ALL * E + AT_ONE] = 1;
        for (int b = 0; b < CODE; b++) {
            k[(IN_CODE + b) * E + (induction ? AT_BEFORE : AT_CODE) + b] = 1;
            k[(IN_CODE + b) * E + AT_SET + 5] = induction ? -code(BOS, b) : 0; /* nothing came before it */
        }
        for (int s = 0; s < N_SET; s++)
            k[(IN_SET + s) * E + AT_SET + s] = 1;
    }
}

/* kv head 0 hands the code on; head 1 of layer 0 writes it as "the token before", head 1 of layer 1 as what comes next. */
static void fill_v(float *w)
{
    for (int b = 0; b < CODE; b++)
        w[(IN_CODE + b) * E + AT_CODE + b] = 1;
}
static void fill_o(int l, float *w)
{
    for (int b = 0; b < CODE; b++)
        w[((l == 0 ? AT_BEFORE : AT_CODE) + b) * (H * D) + D + IN_CODE + b] = l == 0 ? 1 : 8;
}

static void fill_embedding(float *w)
{
    for (int t = 0; t < V; t++) {
        float *x = w + t * E;
        x[AT_ONE] = 1;
        for (int b = 0; b < CODE; b++)
            x[AT_CODE + b] = code(t, b);
        x[AT_SET + set_of(t)] = 1;
    }
}

/* What divides the plain frequencies 10000^(-2p/D) to give turn(p). */
static void fill_factors(int k, float *w)
{
    for (int p = 0; p < k; p++)
        w[p] = (float)(pow(1e4, -2.0 * p / D) / turn(p));
}

/* A token's squares sum to 1 + 32 + 1, with the token before 32 more: the norm's weight undoes its division. */
static void fill_norm(int l, int k, float *w)
{
    for (int i = 0; i < k; i++)
        w[i] = (float)sqrt((l == 0 ? 34.0 : 66.0) / E + (double)1e-5f);
}

static void fill(const char *name, int n, int k, float *out)
{
    int l = 0;
    char what[40];
    (void)n;
    if (!strcmp(name, "rope_freqs.weight"))
        fill_factors(k, out);
    else if (!strcmp(name, "token_embd.weight"))
        fill_embedding(out);
    else if (!strcmp(name, "output_norm.weight"))
        fill_norm(1, k, out);
    else if (sscanf(name, "blk.%d.%39s", &l, what) != 2)
        return;
    else if (!strcmp(what, "attn_norm.weight") || !strcmp(what, "ffn_norm.weight"))
        fill_norm(l, k, out);
    else if (!strcmp(what, "attn_q.weight"))
        fill_q(l, out);
    else if (!strcmp(what, "attn_k.weight"))
        fill_k(l, out);
    else if (!strcmp(what, "attn_v.weight"))
        fill_v(out);
    else if (!strcmp(what, "attn_output.weight"))
        fill_o(l, out);
}

int kvt_mkdesigned(const char *path, struct kvt_err *err)
{
    struct kvt_mkmodel_opts o = {.L = L, .H = H, .G = G, .D = D, .E = E, .F = 32, .type = KVT_F32, .context_tok = 8192, .add_bos = true, .words = "a",
                                 .rope_freqs = true, .fill = fill};
    return kvt_mkmodel(path, &o, err);
}

/* ---- what it attends to ---- */

void kvt_designed_row(int l, int h, int i, const int32_t *id, double *out)
{
    bool half = l == 1 && h == 3, all = l == 0 && h == 2;
    int count = 0;
    for (int j = 0; j <= i; j++) {
        out[j] = all || (l == 0 ? (h == 0 && j == 0) || (h == 1 && j == (i ? i - 1 : 0)) || (h == 3 && id[j] == id[i]) :
                                  (h == 0 && set_of(id[j]) == 1) || (h == 1 && j && id[j - 1] == id[i]) || (h == 2 && j == i) || (half && (j == 0 || j == i)));
        count += out[j] > 0;
    }
    for (int j = 0; j <= i; j++)
        out[j] = count ? out[j] / count : l == 1 && h == 1 ? j == 0 : 1.0 / (i + 1);
}
