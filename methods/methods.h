/* What each method's file offers to the registry. */
#ifndef KVT_METHODS_METHODS_H
#define KVT_METHODS_METHODS_H

#include "kvt/method.h"

extern const struct kvt_method kvt_method_full, kvt_method_random, kvt_method_streaming, kvt_method_h2o,
    kvt_method_snapkv, kvt_method_pyramidkv, kvt_method_chunkkv, kvt_method_shotkv, kvt_method_adakv, kvt_method_criticalkv, kvt_method_kvcompress,
    kvt_method_randomshot, kvt_method_tova, kvt_method_treekv, kvt_method_my;
extern const struct kvt_method kvt_method_oracle, kvt_method_kvzip, kvt_method_file;

/* Whether choices go together: EUSAGE with what to change. `name` is the method's, for the message. */
int kvt_policy_check(const struct kvt_policy *p, const char *name, struct kvt_err *err);
/* What an option needs beside it to mean anything, where the other choices have none of it: "unit=chunk"; NULL: it means something. */
const char *kvt_policy_idle(const struct kvt_policy *p, const char *option);
extern const struct kvt_method kvt_method_duoattention, kvt_method_finch;
extern const struct kvt_method kvt_method_knorm, kvt_method_keydiff, kvt_method_lagkv, kvt_method_expected;

/* PyramidKV's layer_budget, for every row that may say alloc=pyramid. */
int kvt_pyramid_layers(const struct kvt_policy *p, const struct kvt_layer_ask *ask, int32_t *layer_tok, char *note,
                       size_t note_len);

/* The first word of a method's option list that no option has, into word; false if there is none. */
bool kvt_options_foreign(const struct kvt_method *m, char *word, size_t cap);

#endif
