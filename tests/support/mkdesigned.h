/* A model whose heads attend by construction, so that what each of them looks at can be worked out on paper
 * (tests/golden/README.md does). Two layers of four query heads over two kv heads:
 *
 *   layer 0   0 the first token      1 the token before, the first at itself
 *             2 all tokens alike     3 all tokens equal to its own
 *   layer 1   0 all tokens g to l, which are meant to be shot 2; before there are any, all tokens alike
 *             1 all tokens that follow one equal to its own (induction); the first token where there are none
 *             2 itself               3 one half the first token, one half itself
 *
 * Every token is one letter or another byte; the first is BOS. The induction head also copies: what it looks at is what comes next.
 * (For prompts of up to 1000 tokens: beyond, "the token before" meets its own turns again.) */
#ifndef KVT_TESTS_MKDESIGNED_H
#define KVT_TESTS_MKDESIGNED_H

#include "kvt/kvt.h"

enum { MKDESIGNED_L = 2, MKDESIGNED_H = 4, MKDESIGNED_G = 2, MKDESIGNED_D = 64, MKDESIGNED_E = 96 };

int kvt_mkdesigned(const char *path, struct kvt_err *err);
/* The attention that row i is meant to have in layer l, head h: id (i + 1) tokens, out (i + 1). What the model computes differs by
 * 2e-5: scores are sums of terms up to 196, which f32 holds to 1.5e-5. */
void kvt_designed_row(int l, int h, int i, const int32_t *id, double *out);

#endif
