/* Bytes that operations must move, worked out by hand: a wrong factor would make every share of the roofline wrong by it. */
#include <criterion/criterion.h>

#include "kernels/traffic.h"

static int eleven(const void *self, int branch, int layer)
{
    (void)self, (void)layer;
    return branch ? 5 : 11;
}

/* Q8_0: 32 values in 34 bytes. 64 inputs, 10 outputs: 10 rows of 68 bytes; 3 rows of 64 and of 10 floats. */
Test(traffic, linear)
{
    struct kvt_linear_args a = {.w = {.type = KVT_Q8_0, .n = 10, .k = 64}, .T = 3};
    cr_expect_eq(kvt_traffic_linear(&a), 680 + 4 * (3 * 64 + 3 * 10));
    a.accumulate = true; /* what is added to is read as well */
    cr_expect_eq(kvt_traffic_linear(&a), 680 + 4 * (3 * 64 + 2 * 3 * 10));
    float bias[10];
    a.bias = bias;
    cr_expect_eq(kvt_traffic_linear(&a), 680 + 4 * (3 * 64 + 2 * 3 * 10 + 10));
}

/* norm, gate and up, glu: 3 rows of 64 in, norm's weights, two matrices, 3 rows of 10 out; what lies between isn't counted. */
Test(traffic, linears)
{
    const struct kvt_norm_args norm = {.T = 3, .E = 64};
    const struct kvt_linear_args two[2] = {{.w = {.type = KVT_Q8_0, .n = 10, .k = 64}, .T = 3}, {.w = {.type = KVT_Q8_0, .n = 10, .k = 64}, .T = 3}};
    const struct kvt_glu_args glu = {.T = 3, .F = 10};
    cr_expect_eq(kvt_traffic_linears(&(struct kvt_linears_args){&norm, two, 2, &glu}), 2 * 680 + 4 * (3 * 64 + 64 + 3 * 10));
    cr_expect_eq(kvt_traffic_linears(&(struct kvt_linears_args){NULL, two, 2, NULL}), 2 * 680 + 4 * (3 * 64 + 2 * 3 * 10));
}

Test(traffic, rows)
{
    cr_expect_eq(kvt_traffic_embed(&(struct kvt_embed_args){.table = {.type = KVT_F16, .n = 100, .k = 8}, .T = 3}), 3 * 16 + 3 * 32);
    cr_expect_eq(kvt_traffic_norm(&(struct kvt_norm_args){.T = 2, .E = 8}), 4 * (2 * 2 * 8 + 8));
    /* 2 rows of 3 heads, 4 of their channels turned: read and written, two factors for each pair, a position for each row */
    cr_expect_eq(kvt_traffic_rotate(&(struct kvt_rotate_args){.rope = {.rot = 4}, .T = 2, .heads = 3, .D = 8}), 4 * (2 * 2 * 3 * 4 + 2 * 4) + 2 * 4);
    cr_expect_eq(kvt_traffic_logit_stats(&(struct kvt_logit_stats_args){.T = 2, .V = 50}), 400);
}

/* f16, 2 kv heads of 8 channels: 16 bytes a vector. */
Test(traffic, attention)
{
    const struct kvt_cache_opts o = {.L = 1, .G = 2, .D = 8, .type = KVT_F16};
    cr_expect_eq(kvt_traffic_append(&(struct kvt_append_args){.T = 3}, &o), 3 * 2 * (2 * 32 + 2 * 16 + 4));
    cr_expect_eq(kvt_traffic_slots(&(struct kvt_slots){.n = 5}, &o, 2), 5 * 2 * (2 * 16 + 4));
    /* two rows of branch 0 read its 11 slots once, branch 3's row 5: K and V of 16 slots, 2 heads; 3 rows of 4 query heads in and out */
    const int32_t branch[] = {0, 0, 3}, pos[] = {9, 10, 10};
    struct kvt_attn_args a = {.T = 3, .H = 4, .branch = branch, .pos = pos};
    cr_expect_eq(kvt_traffic_attn(&a, &o, eleven, NULL), 16 * 2 * 2 * 16 + 2 * 4 * 3 * 4 * 8);
    a.window = 3; /* two rows reach 4 slots, one 3 */
    cr_expect_eq(kvt_traffic_attn(&a, &o, eleven, NULL), 7 * 2 * 2 * 16 + 2 * 4 * 3 * 4 * 8);
    a.window = 0;
    const struct kvt_see see = {.ld = 20, .n_rows = 20, .mass = (float[1]){0}, .last = (float[1]){0}, .entropy = (float[1]){0}};
    a.see = &see; /* mass is added to, last and entropy are written */
    cr_expect_eq(kvt_traffic_attn(&a, &o, eleven, NULL), 16 * 2 * 2 * 16 + 2 * 4 * 3 * 4 * 8 + 4 * (2 * 4 * 20 + 4 * 20 + 4 * 3));
}
