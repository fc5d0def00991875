/* DuoAttention: retrieval heads keep everything, streaming heads sinks and the newest tokens.
 * Xiao et al., arXiv 2410.10819; mit-han-lab/duo-attention fe93c31; kvpress duo_attention_press.py.
 *
 * Gates are trained beforehand, one for each kv head: path= is the official full_attention_heads.tsv, or any file of a line for
 * each layer. Here the prefill sees everything; streaming heads are cut at its end and then in each step. The official code
 * streams in the prefill too; kvpress cuts at the prefill's end alone: schedule=prefill. */
#include "methods/methods.h"

const struct kvt_method kvt_method_duoattention = {
    .name = "duoattention",
    .version = 1,
    .source = "DuoAttention, arXiv 2410.10819; mit-han-lab/duo-attention; kvpress DuoAttentionPress",
    .summary = "heads of two classes, by gates from a file: all, or sinks and the newest tokens",
    .defaults = {.score = KVT_SCORE_RECENCY, .alloc = KVT_ALLOC_CLASS, .class_ppm = 500000, .sinks = 64, .recent = 256,
                 .reuse = 1, .schedule = KVT_SCHEDULE_STEP},
    .options = "path class sinks recent schedule renumber",
};
