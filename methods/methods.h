/* What each method's file offers to the registry. */
#ifndef KVT_METHODS_METHODS_H
#define KVT_METHODS_METHODS_H

#include "kvt/method.h"

extern const struct kvt_method kvt_method_full, kvt_method_random, kvt_method_streaming, kvt_method_h2o,
    kvt_method_snapkv, kvt_method_pyramidkv, kvt_method_chunkkv, kvt_method_shotkv;

#endif
