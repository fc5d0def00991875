/* A plugin with one defect, chosen when it is compiled. */
#include "kvt/plugin.h"

#ifdef DEFECT_TAKEN
#define NAME "snapkv"
#else
#define NAME "mine"
#endif
#ifdef DEFECT_OPTIONS
#define OPTIONS "wnidow sinks"
#else
#define OPTIONS "w sinks"
#endif

extern const struct kvt_method mine;
const struct kvt_method mine = {.name = NAME, .version = 1, .source = "a test", .summary = "refused", .options = OPTIONS,
                                .defaults = {.score = KVT_SCORE_WMASS, .window = 32, .keep_window = true}};

#if defined DEFECT_OLD
__attribute__((visibility("default"))) extern const struct kvt_plugin kvt_plugin;
const struct kvt_plugin kvt_plugin = {0, sizeof(struct kvt_method), sizeof(struct kvt_policy), &mine};
#elif defined DEFECT_RESIZED
__attribute__((visibility("default"))) extern const struct kvt_plugin kvt_plugin;
const struct kvt_plugin kvt_plugin = {KVT_PLUGIN_ABI, sizeof(struct kvt_method) - 8, sizeof(struct kvt_policy), &mine};
#elif !defined DEFECT_NONE
KVT_METHOD_PLUGIN(mine)
#endif
