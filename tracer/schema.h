/* THE table of what a trace holds. Writer, reader, kvinfo and docs/trace-format.md (kvinfo --schema) come from it; a
 * dataset that isn't here can't be written or read.
 *
 * Everything of a prompt lies under /prompt/<id>. A dimension is a dataset of its own (a dimension scale, one value for
 * each index), so files open in xarray, h5dump and viewers with names on the axes. A dataset is made when its condition
 * holds and none of its dimensions is empty. */
#ifndef KVT_TRACER_SCHEMA_H
#define KVT_TRACER_SCHEMA_H

#include <stdbool.h>
#include <stddef.h>

/* A reader knows every file of its own major version: newer minor ones only add datasets, dimensions and attributes, and it
 * leaves out what it doesn't know. It refuses a newer major one. Raise the minor version with each addition that a release has. */
#define KVT_SCHEMA_VERSION 1
#define KVT_SCHEMA_MINOR 3
#define KVT_TRACE_MAX_RANK 4

/* Dimensions: name, unit of its values, meaning of its values. */
#define KVT_DIM_MAP(X)                                                                                                   \
    X(layer,        "1",     "layer")                                                                                    \
    X(head,         "1",     "query head")                                                                               \
    X(kv_head,      "1",     "kv head; query head h reads kv head h / (heads / kv heads)")                               \
    X(prompt_token, "token", "token of the prompt")                                                                      \
    X(query,        "token", "position that attends (row)")                                                              \
    X(key,          "token", "position attended to (column)")                                                            \
    X(context,      "token", "position of the context, from which methods may evict")                                    \
    X(token,        "token", "position in a branch: the prompt, then the branch's own tokens")                           \
    X(step,         "1",     "generated token, counted from 1; its position is the prompt's length + step - 1")          \
    X(branch,       "1",     "branch; 0 is never compressed")                                                            \
    X(window,       "token", "length of the observation window: rows summed")                                            \
    X(query_bin,    "token", "first query of the bin; query q lies in bin floor(q * bins / tokens prefilled)")                     \
    X(key_bin,      "token", "first key of the bin; key k lies in bin floor(k * bins / tokens prefilled)")                         \
    X(distance,     "token", "first distance of the bin, query less key: 0 to 8 one by one, then 9 to 15, 16 to 31, 32 to 63 ...") \
    X(offset,       "token", "distance asked for, query less key")                                                       \
    X(query_span,   "1",     "span that attends, an index of spans/")                                                    \
    X(key_span,     "1",     "span attended to, an index of spans/")                                                     \
    X(rank,         "1",     "place among the largest of a row, from 0")                                                 \
    X(late_row,     "token", "position of one of the prefill's last rows")                                               \
    X(square,       "1",     "sum of squares, or of positions, that a method ranks by")                                  \
    X(question,     "token", "position of a token of the question, fed again over the uncompressed context")             \
    X(full_layer,   "1",     "layer of which every attention row was recorded")                                          \
    X(full_head,    "1",     "query head of which every attention row was recorded")                                     \
    X(vector_layer, "1",     "layer of which queries, keys or values were recorded")                                   \
    X(channel,      "1",     "value of a query, key or value vector")                                                    \
    X(span,         "1",     "span of the prompt")                                                                       \
    X(phase,        "1",     "phase, in order of its end")                                                               \
    X(row_distance, "token", "the same bins of the rows of generated tokens, which reach further")                       \
    X(event,        "1",     "timed part of the work, in the order in which parts ended; those from timeline/count on don't exist") \
    X(call,         "1",     "call of an operation of the device, in order; those from timeline/calls/count on don't exist")  \
    X(record,       "1",     "what the device did, in order of its start; those from timeline/device/count on don't exist")   \
    X(name,         "1",     "name of an operation, a kernel, or a kind of copy, wait or overhead")

enum kvt_dim {
#define X(name, unit, meaning) KVT_DIM_##name,
    KVT_DIM_MAP(X)
#undef X
    KVT_N_DIM
};

/* Types on disk, all little-endian. Strings are of fixed length (nothing of variable length can be appended to while
 * others read), UTF-8, padded with zeros. */
enum kvt_h5_type { KVT_H5_U8, KVT_H5_I32, KVT_H5_I64, KVT_H5_U64, KVT_H5_F16, KVT_H5_F32, KVT_H5_F64, KVT_H5_STR };

/* Lengths of strings that depend on the run, in bytes; others are given as numbers. */
enum { KVT_STR_TEXT = -1, KVT_STR_TOKEN = -2, KVT_STR_OUTPUT = -3 };

enum kvt_fill { KVT_FILL_ZERO, KVT_FILL_NAN, KVT_FILL_MINUS1, KVT_FILL_NOT_YET, KVT_FILL_NO_REASON };

/* How it lies in the file:
 * INPLACE  contiguous, allocated when made: grows a step at a time, and no write ever moves anything
 * PACKED   chunked, shuffle + deflate + a checksum (fletcher32): each chunk is written once
 * HISTORY  the same, but chunks that every step may change lie without filters and are rewritten in place
 * WHOLE    chunked, without filters (PACKED with --compress): each chunk is written once
 * TILES    the same; a chunk of zeros is left out
 * BLOCKS   the same, chunks of nearly equal size; one that would hold fill values alone is left out
 * SUMMED   the same, with a checksum: numbers that deflate makes little smaller (by 15 %, at 60 MB/s) */
enum kvt_store { KVT_STORE_INPLACE, KVT_STORE_PACKED, KVT_STORE_HISTORY, KVT_STORE_TILES, KVT_STORE_BLOCKS, KVT_STORE_WHOLE, KVT_STORE_SUMMED };

/* When it is made: always, where raw scores were asked for, where decisions were, lost mass, errors of outputs, and one by one. */
enum kvt_when { KVT_WHEN_ALWAYS, KVT_WHEN_SCORES, KVT_WHEN_DECISIONS, KVT_WHEN_LOST, KVT_WHEN_OUTPUT, KVT_WHEN_VISIBLE, KVT_WHEN_SQUARE, KVT_WHEN_MAX,
                KVT_WHEN_KEYS, KVT_WHEN_LOCAL, KVT_WHEN_ROWS, KVT_WHEN_LATER, KVT_WHEN_REPLAY, KVT_WHEN_DECODE, KVT_WHEN_DECODE_KEYS, KVT_WHEN_DUMP_Q, KVT_WHEN_DUMP_K, KVT_WHEN_DUMP_V,
                KVT_WHEN_PROFILE, KVT_N_WHEN };

/* id, path, type, string length, dimensions, chunk ("*": whole dimension), store, when, fill, unit, meaning.
 * Paths that start with "branches/" exist once for each branch: branches/<nn>/... */
#define KVT_DATASET_MAP(X)                                                                                               \
    X(STATUS, "status", STR, 16, "", "", INPLACE, ALWAYS, ZERO, "",                                                      \
      "in_progress, complete, interrupted or failed")                                                                    \
    X(STEPS_DONE, "steps_done", I32, 0, "", "", INPLACE, ALWAYS, ZERO, "token", "generated tokens recorded so far")      \
    X(DROPPED, "dropped", I64, 0, "", "", INPLACE, ALWAYS, ZERO, "1",                                                    \
      "maps and runs of rows that were lost because the writer's ring was full (only with the policy `drop`)")           \
    X(KV_PEAK, "kv_peak_bytes", I64, 0, "", "", INPLACE, ALWAYS, MINUS1, "byte",                                         \
      "the most KV bytes that all branches together ever held, as the page allocator counted them")                     \
    X(BEYOND_F16, "beyond_f16", I64, 0, "", "", INPLACE, ALWAYS, MINUS1, "1",                                            \
      "sums of products that were too large for `compute` f16 and so were taken in f64")                                 \
    X(LOGITS_HASH, "logits_hash", U64, 0, "", "", INPLACE, ALWAYS, ZERO, "1",                                            \
      "FNV-1a of the uncompressed branch's last logits: equal runs give equal hashes")                                   \
    X(MODEL_SHA256, "model_sha256", STR, 64, "", "", INPLACE, ALWAYS, ZERO, "",                                          \
      "SHA-256 of the files with the weights, one after the other in the order of their names; empty until it is known") \
    X(TEXT, "text", STR, KVT_STR_TEXT, "", "", INPLACE, ALWAYS, ZERO, "", "the prompt, byte for byte")                   \
    X(TOK_ID, "tokens/id", I32, 0, "prompt_token", "*", PACKED, ALWAYS, MINUS1, "1", "token id")                         \
    X(TOK_TEXT, "tokens/text", STR, KVT_STR_TOKEN, "prompt_token", "*", PACKED, ALWAYS, ZERO, "", "the token, readable") \
    X(TOK_START, "tokens/byte_start", I32, 0, "prompt_token", "*", PACKED, ALWAYS, MINUS1, "byte",                       \
      "first byte of the token in `text`")                                                                               \
    X(TOK_END, "tokens/byte_end", I32, 0, "prompt_token", "*", PACKED, ALWAYS, MINUS1, "byte",                           \
      "first byte after the token")                                                                                      \
    X(SPAN_NAME, "spans/name", STR, 24, "span", "*", PACKED, ALWAYS, ZERO, "", "as in \"shot 3\"")                       \
    X(SPAN_KIND, "spans/kind", STR, 16, "span", "*", PACKED, ALWAYS, ZERO, "",                                           \
      "system, shot, question, rationale, answer, prompt, sentence, number, operator, delimiter ...")                    \
    X(SPAN_PARENT, "spans/parent", I32, 0, "span", "*", PACKED, ALWAYS, MINUS1, "1", "enclosing span, -1: none")         \
    X(SPAN_START, "spans/start", I32, 0, "span", "*", PACKED, ALWAYS, MINUS1, "token", "first token")                    \
    X(SPAN_END, "spans/end", I32, 0, "span", "*", PACKED, ALWAYS, MINUS1, "token", "first token after the span")         \
    X(SPAN_BYTE_START, "spans/byte_start", I32, 0, "span", "*", PACKED, ALWAYS, MINUS1, "byte", "first byte in `text`")  \
    X(SPAN_BYTE_END, "spans/byte_end", I32, 0, "span", "*", PACKED, ALWAYS, MINUS1, "byte", "first byte after the span") \
    X(MASS, "score/mass", F32, 0, "layer,head,key", "1,*,*", SUMMED, SCORES, NAN, "1",                                   \
      "attention received, summed over all rows of the prefill")                                                         \
    X(WMASS, "score/wmass", F32, 0, "window,layer,head,key", "1,1,*,*", SUMMED, SCORES, NAN, "1",                        \
      "attention received, summed over the last `window` rows")                                                          \
    X(LAST, "score/last", F32, 0, "layer,head,key", "1,*,*", SUMMED, SCORES, NAN, "1", "attention in the last row")      \
    X(ENTROPY, "score/entropy", F32, 0, "layer,head,query", "1,*,*", SUMMED, SCORES, NAN, "nat", "entropy of each row")  \
    X(SINK, "score/sink", F32, 0, "layer,head,query", "1,*,*", SUMMED, SCORES, NAN, "1",                                 \
      "share of each row that lies on the first n_sink tokens")                                                          \
    X(VISIBLE, "score/visible", F32, 0, "layer,head,key", "1,*,*", SUMMED, VISIBLE, NAN, "1",                            \
      "attention received, mean over the rows of the prefill that could see the key")                                    \
    X(SQUARE, "score/square", F32, 0, "layer,head,key", "1,*,*", SUMMED, SQUARE, NAN, "1",                               \
      "squares of attention received, summed over all rows of the prefill")                                              \
    X(MAX, "score/max", F32, 0, "layer,head,key", "1,*,*", SUMMED, MAX, NAN, "1", "largest attention received in any row") \
    X(KEYS, "score/keys", F32, 0, "layer,head,query", "1,*,*", SUMMED, KEYS, NAN, "1",                                   \
      "effective number of keys of each row: e to its entropy")                                                          \
    X(LOCAL_MASS, "score/local", F32, 0, "layer,head,query", "1,*,*", SUMMED, LOCAL, NAN, "1",                           \
      "share of each row that lies on its n_local newest keys, its own included")                                        \
    X(DISTANCE, "score/distance", F32, 0, "layer,head,distance", "", INPLACE, ALWAYS, NAN, "1",                          \
      "share of a row on keys at each distance, mean over the rows that see at least 32 keys; sums to 1")                \
    X(OFFSET, "score/offset", F32, 0, "layer,head,offset", "", INPLACE, ALWAYS, NAN, "1",                                \
      "attention at one distance, mean over the rows that see at least 32 keys and reach so far")                        \
    X(SPANS, "score/spans", F32, 0, "layer,head,query_span,key_span", "", INPLACE, ALWAYS, NAN, "1",                     \
      "share of a row on the keys of a span, mean over the rows of another; NaN: none of them was prefilled")            \
    X(TOP, "score/top", F32, 0, "layer,head,query,rank", "1,1,*,*", SUMMED, ALWAYS, NAN, "1",                            \
      "largest attention of each row, descending; 0 where the row sees fewer keys")                                      \
    X(TOP_AT, "score/top_at", I32, 0, "layer,head,query,rank", "1,1,*,*", SUMMED, ALWAYS, MINUS1, "token",               \
      "their keys; of equal ones the earlier first; -1 where the row sees fewer")                                        \
    X(MAP_MEAN, "map/mean", F16, 0, "layer,head,query_bin,key_bin", "1,*,64,64", BLOCKS, ALWAYS, NAN, "1",                  \
      "attention, mean over the causal pairs of a bin; value = stored * scale_factor; NaN where it has none")                                           \
    X(MAP_MAX, "map/max", F16, 0, "layer,head,query_bin,key_bin", "1,*,64,64", BLOCKS, ALWAYS, NAN, "1",                    \
      "attention, largest of a bin; value = stored * scale_factor; NaN where it has no causal pair")                                                    \
    X(FULL, "full/attention", F16, 0, "full_layer,full_head,query,key", "1,1,128,128", TILES, ALWAYS, ZERO, "1",          \
      "attention of every pair; value = stored * scale_factor (f16 alone is too coarse below 6e-5); a row sums to 1, one of zeros was not recorded") \
    X(FULL_ROWS, "full/rows", I32, 0, "full_layer,full_head", "", INPLACE, ALWAYS, ZERO, "1", "rows of the map that were recorded") \
    X(DUMP_Q, "dump/q", F32, 0, "vector_layer,head,query,channel", "1,1,128,*", WHOLE, DUMP_Q, NAN, "1",                  \
      "queries of the prefill as projected, biased and normed, before rotation; channels in Hugging Face's order")                                         \
    X(DUMP_Q_ROTATED, "dump/q_rotated", F32, 0, "vector_layer,head,query,channel", "1,1,128,*", WHOLE, DUMP_Q, NAN, "1",  \
      "queries as attention took them; equal to dump/q in layers without rotation")                                      \
    X(DUMP_K, "dump/k", F32, 0, "vector_layer,kv_head,key,channel", "1,1,128,*", WHOLE, DUMP_K, NAN, "1",                 \
      "keys of the prefill, before rotation; channels in Hugging Face's order")                                                                            \
    X(DUMP_K_ROTATED, "dump/k_rotated", F32, 0, "vector_layer,kv_head,key,channel", "1,1,128,*", WHOLE, DUMP_K, NAN, "1", \
      "keys as they went to the cache, which rounds them to kv_type")                                                    \
    X(DUMP_V, "dump/v", F32, 0, "vector_layer,kv_head,key,channel", "1,1,128,*", WHOLE, DUMP_V, NAN, "1",                 \
      "values of the prefill, before the cache rounds them to kv_type")                                                  \
    X(STEP_TOKEN, "steps/token", I32, 0, "step,branch", "", INPLACE, ALWAYS, MINUS1, "1",                                 \
      "token appended to the branch: the uncompressed branch's own, where teacher-forced")                               \
    X(STEP_TEXT, "steps/text", STR, KVT_STR_TOKEN, "step,branch", "", INPLACE, ALWAYS, ZERO, "",                          \
      "`token`, readable")                                                               \
    X(STEP_ARGMAX, "steps/argmax", I32, 0, "step,branch", "", INPLACE, ALWAYS, MINUS1, "1",                               \
      "token that the branch itself would have said")                                                                    \
    X(STEP_LOGPROB, "steps/logprob", F32, 0, "step,branch", "", INPLACE, ALWAYS, NAN, "nat", "ln p(`token`)")             \
    X(STEP_KL, "steps/kl", F32, 0, "step,branch", "", INPLACE, ALWAYS, NAN, "nat",                                        \
      "KL(uncompressed, branch) over the whole vocabulary, on the same tokens")                                        \
    X(STEP_ENTROPY, "steps/entropy", F32, 0, "step,branch", "", INPLACE, ALWAYS, NAN, "nat",                              \
      "entropy of the branch's next-token distribution")                                                                 \
    X(STEP_ALONE, "steps/alone_bytes", I64, 0, "step,branch", "", INPLACE, ALWAYS, MINUS1, "byte",                        \
      "KV bytes that the branch would hold by itself, after this step")                                                  \
    X(STEP_OWN, "steps/own_bytes", I64, 0, "step,branch", "", INPLACE, ALWAYS, MINUS1, "byte",                            \
      "KV bytes that no other branch shares, after this step")                                                           \
    X(STEP_HELD, "steps/held_bytes", I64, 0, "step", "", INPLACE, ALWAYS, MINUS1, "byte",                                 \
      "KV bytes of the whole run, shared ones once, after this step")                                                    \
    X(STEP_NS, "steps/step_ns", I64, 0, "step", "", INPLACE, ALWAYS, MINUS1, "ns", "time of the step, all branches")      \
    X(LOST_MASS, "fidelity/lost_mass", F32, 0, "step,branch,layer,kv_head", "", INPLACE, LOST, NAN, "1",                  \
      "share of the uncompressed branch's attention row that lies on slots the branch lost; row of the step's token, mean " \
      "over the query group")                                                                                            \
    X(LOST_REST, "fidelity/lost_rest", F32, 0, "step,branch,layer,kv_head", "", INPLACE, LOST, NAN, "1",                  \
      "the same of rows without the first n_sink tokens, renormalised")                                                  \
    X(LOCAL, "fidelity/output_local", F32, 0, "step,branch,layer", "", INPLACE, OUTPUT, NAN, "1",                         \
      "relative L2 error of the layer's attention when the uncompressed branch's own q, K and V are restricted to the "  \
      "slots the branch holds")                                                                                          \
    X(PROPAGATED, "fidelity/output_propagated", F32, 0, "step,branch,layer", "", INPLACE, OUTPUT, NAN, "1",               \
      "relative L2 error of the attention that the branch really computed, against the uncompressed branch's")           \
    X(DECODE_ROWS, "decode/attention", F32, 0, "step,layer,head,token", "1,1,*,*", WHOLE, ROWS, ZERO, "1",               \
      "attention of the uncompressed branch, row of the step's token, by position; it sees itself and all tokens before " \
      "it (in a window layer the newest); 0 elsewhere, and in steps that didn't come")                                   \
    X(QUESTION_ROWS, "replay/question", F32, 0, "question,layer,head,token", "1,1,*,*", WHOLE, REPLAY, ZERO, "1",         \
      "the same of the question's rows, where it is fed again over the uncompressed context")                            \
    X(LATE_ROWS, "replay/rows", F32, 0, "layer,head,late_row,key", "1,1,*,*", WHOLE, REPLAY, ZERO, "1",                  \
      "attention of the prefill's last rows")                                                                            \
    X(LATE_LEVEL, "replay/row_sums", U8, 0, "late_row", "", INPLACE, REPLAY, NO_REASON, "1",                             \
      "in what order the backend adds rows up into score/mass and score/wmass: 0 to the partial sum of the row before, 1 " \
      "it begins one, 2 it begins a strip of them; partial sums are added up to their strip's from 0, strips one by one; 255: not told") \
    X(LATER, "replay/later", F32, 0, "layer,head,key", "1,*,*", PACKED, LATER, NAN, "1",                                 \
      "attention received from the rows after the end of the key's shot; 0 outside shots")                               \
    X(SQMASS, "replay/squares", F32, 0, "square,layer,head,key", "1,1,*,*", PACKED, REPLAY, NAN, "1",                    \
      "squares of attention received, or attention times the row's position, summed over some rows")                     \
    X(SQ_WINDOW, "replay/square_window", I32, 0, "square", "", INPLACE, REPLAY, MINUS1, "token", "the last rows that count; 0: all") \
    X(SQ_DISTANCE, "replay/square_distance", I32, 0, "square", "", INPLACE, REPLAY, MINUS1, "token",                     \
      "rows fewer than this many after the key don't count")                                                             \
    X(SQ_BY_POS, "replay/square_by_pos", U8, 0, "square", "", INPLACE, REPLAY, NO_REASON, "1", "1: attention times the row's position") \
    X(KEY_NORM, "replay/key_norm", F32, 0, "layer,kv_head,token", "", INPLACE, REPLAY, NAN, "1", "Euclidean norm of the cached key") \
    X(OUT_NORM, "replay/out_norm", F32, 0, "layer,kv_head,context", "", INPLACE, REPLAY, NAN, "1",                       \
      "||W_O v||_1 of the cached value, mean over the query heads of its kv head; 0 in layers that are left alone")      \
    X(ACTS, "replay/acts", U8, 0, "layer", "", INPLACE, REPLAY, ZERO, "1", "1: methods act on the layer; 0: it is left alone") \
    X(ROW_ENTROPY, "decode/entropy", F32, 0, "step,layer,head", "", INPLACE, DECODE, NAN, "nat",                          \
      "entropy of the uncompressed branch's row of the step's token; likewise all of decode/")                           \
    X(ROW_KEYS, "decode/keys", F32, 0, "step,layer,head", "", INPLACE, DECODE_KEYS, NAN, "1",                             \
      "effective number of keys of the row: e to its entropy")                                                           \
    X(ROW_FIRST, "decode/first", F32, 0, "step,layer,head", "", INPLACE, DECODE, NAN, "1", "the row's attention to the first token") \
    X(ROW_SINK, "decode/sink", F32, 0, "step,layer,head", "", INPLACE, DECODE, NAN, "1",                                  \
      "share of the row that lies on the first n_sink tokens")                                                           \
    X(ROW_LOCAL, "decode/local", F32, 0, "step,layer,head", "", INPLACE, DECODE, NAN, "1",                                \
      "share of the row that lies on its n_local newest keys, its own included")                                         \
    X(ROW_OWN, "decode/own", F32, 0, "step,layer,head", "", INPLACE, DECODE, NAN, "1",                                    \
      "share of the row that lies on generated tokens, its own included")                                                \
    X(ROW_DISTANCE, "decode/distance", F32, 0, "step,layer,head,row_distance", "", INPLACE, DECODE, NAN, "1",        \
      "share of the row on keys at each distance; sums to 1")                                                            \
    X(ROW_OFFSET, "decode/offset", F32, 0, "step,layer,head,offset", "", INPLACE, DECODE, NAN, "1",                  \
      "the row's attention at one distance; NaN where it doesn't reach so far")                                          \
    X(ROW_SPANS, "decode/spans", F32, 0, "step,layer,head,key_span", "", INPLACE, DECODE, NAN, "1",                  \
      "share of the row on the keys of a span")                                                                          \
    X(ROW_TOP, "decode/top", F32, 0, "step,layer,head,rank", "", INPLACE, DECODE, NAN, "1",                          \
      "largest attention of the row, descending; 0 where it sees fewer keys")                                            \
    X(ROW_TOP_AT, "decode/top_at", I32, 0, "step,layer,head,rank", "", INPLACE, DECODE, MINUS1, "token",             \
      "their keys; of equal ones the earlier first; -1 where the row sees fewer")                                        \
    X(FREE_TOKEN, "free/token", I32, 0, "step,branch", "", INPLACE, ALWAYS, MINUS1, "1",                                 \
      "free-running token; -1 up to the first step that differs from the uncompressed branch, and where none was made")  \
    X(FREE_TEXT, "free/text", STR, KVT_STR_TOKEN, "step,branch", "", INPLACE, ALWAYS, ZERO, "",                          \
      "the free-running token, readable")                                                                                \
    X(FREE_LOGPROB, "free/logprob", F32, 0, "step,branch", "", INPLACE, ALWAYS, NAN, "nat", "its ln p")                  \
    X(PHASE_NAME, "phases/name", STR, 16, "phase", "", INPLACE, ALWAYS, ZERO, "", "prefill, evict, question, decode, repeat (KVzip) or oracle")  \
    X(PHASE_START, "phases/start_ns", I64, 0, "phase", "", INPLACE, ALWAYS, MINUS1, "ns", "start, monotonic clock")      \
    X(PHASE_DUR, "phases/duration_ns", I64, 0, "phase", "", INPLACE, ALWAYS, MINUS1, "ns", "duration")                   \
    X(PHASE_TOK, "phases/tokens", I32, 0, "phase", "", INPLACE, ALWAYS, MINUS1, "token", "tokens processed")             \
    X(TIME_COUNT, "timeline/count", I64, 0, "", "", INPLACE, ALWAYS, ZERO, "1", "timed parts that were recorded")         \
    X(TIME_LOST, "timeline/lost", I64, 0, "", "", INPLACE, ALWAYS, ZERO, "1", "timed parts that found no room")           \
    X(TIME_PART, "timeline/part", U8, 0, "event", "4096", PACKED, ALWAYS, NO_REASON, "1",                                 \
      "what was timed: 0 a layer's norm, q, k, v, rotation and cache; 1 its attention; 2 what is done with that (events, per-step " \
      "eviction); 3 its output projection; 4 its feed-forward; 5 logits; 6 scoring, 7 selecting, 8 compacting of a branch, at " \
      "prefill's end or in a step; 9 a lockstep step; 10 a message going into the file, on a thread of its own; 11 scoring, selecting and compacting in one")         \
    X(TIME_LAYER, "timeline/layer", I32, 0, "event", "4096", PACKED, ALWAYS, MINUS1, "1", "its layer; -1: all or none")   \
    X(TIME_BRANCH, "timeline/branch", I32, 0, "event", "4096", PACKED, ALWAYS, MINUS1, "1", "its branch; -1: all together") \
    X(TIME_STEP, "timeline/step", I32, 0, "event", "4096", PACKED, ALWAYS, MINUS1, "1", "its decode step; 0: before the first") \
    X(TIME_START, "timeline/start_ns", I64, 0, "event", "4096", PACKED, ALWAYS, MINUS1, "ns", "start, monotonic clock")   \
    X(TIME_DUR, "timeline/duration_ns", I64, 0, "event", "4096", PACKED, ALWAYS, MINUS1, "ns", "duration")                \
    X(CALL_COUNT, "timeline/calls/count", I64, 0, "", "", INPLACE, PROFILE, ZERO, "1", "calls of operations that were recorded")  \
    X(CALL_LOST, "timeline/calls/lost", I64, 0, "", "", INPLACE, PROFILE, ZERO, "1", "calls that found no room: what the device did for them has no call") \
    X(CALL_OP, "timeline/calls/operation", I32, 0, "call", "8192", PACKED, PROFILE, MINUS1, "1",                          \
      "index of timeline/names: the operation, as kernels/ops.h calls it")                                               \
    X(CALL_PHASE, "timeline/calls/phase", U8, 0, "call", "8192", PACKED, PROFILE, NO_REASON, "1",                         \
      "0 prefill, 1 evict, 2 question, 3 decode, 4 repeat (KVzip), 5 oracle; 255: before the first")                     \
    X(CALL_LAYER, "timeline/calls/layer", I32, 0, "call", "8192", PACKED, PROFILE, MINUS1, "1", "its layer; -1: none")    \
    X(CALL_STEP, "timeline/calls/step", I32, 0, "call", "8192", PACKED, PROFILE, MINUS1, "1", "its decode step; 0: before the first") \
    X(CALL_BRANCHES, "timeline/calls/branches", U64, 0, "call", "8192", PACKED, PROFILE, ZERO, "",                        \
      "bit b: for branch b (63: for that one or a later one); 0: for all")                                               \
    X(CALL_BYTES, "timeline/calls/bytes", I64, 0, "call", "8192", PACKED, PROFILE, MINUS1, "byte",                        \
      "the least it must move, by the shapes of its arguments (docs/measures.md); -1: not modelled")                     \
    X(CALL_START, "timeline/calls/start_ns", I64, 0, "call", "8192", PACKED, PROFILE, MINUS1, "ns", "start of the call on the host, monotonic clock") \
    X(CALL_DUR, "timeline/calls/duration_ns", I64, 0, "call", "8192", PACKED, PROFILE, MINUS1, "ns", "its duration there: the device may work on") \
    X(DEV_COUNT, "timeline/device/count", I64, 0, "", "", INPLACE, PROFILE, ZERO, "1", "records of the device")           \
    X(DEV_LOST, "timeline/device/lost", I64, 0, "", "", INPLACE, PROFILE, ZERO, "1", "records that found no room")        \
    X(DEV_DROPPED, "timeline/device/dropped", I64, 0, "", "", INPLACE, PROFILE, ZERO, "1", "records that CUPTI lost")     \
    X(DEV_DAMAGED, "timeline/device/damaged", I64, 0, "", "", INPLACE, PROFILE, ZERO, "1", "buffers of CUPTI that ended before their time") \
    X(DEV_CUPTI, "timeline/device/cupti", I64, 0, "", "", INPLACE, PROFILE, ZERO, "", "version of CUPTI (cuptiGetVersion); 0: the profile didn't run to its end") \
    X(DEV_BANDWIDTH, "timeline/device/bandwidth", F64, 0, "", "", INPLACE, PROFILE, ZERO, "byte/s",                       \
      "of the device's memory by its clock and width; 0: not known")                                                     \
    X(DEV_REAL0, "timeline/device/real_start_ns", I64, 0, "", "", INPLACE, PROFILE, ZERO, "ns", "CLOCK_REALTIME when the profile began") \
    X(DEV_MONO0, "timeline/device/monotonic_start_ns", I64, 0, "", "", INPLACE, PROFILE, ZERO, "ns", "CLOCK_MONOTONIC then") \
    X(DEV_REAL1, "timeline/device/real_end_ns", I64, 0, "", "", INPLACE, PROFILE, ZERO, "ns", "CLOCK_REALTIME when it ended") \
    X(DEV_MONO1, "timeline/device/monotonic_end_ns", I64, 0, "", "", INPLACE, PROFILE, ZERO, "ns",                        \
      "CLOCK_MONOTONIC then; CUPTI's times, which follow CLOCK_REALTIME, were taken to this clock by the two pairs")     \
    X(DEV_KIND, "timeline/device/kind", U8, 0, "record", "8192", PACKED, PROFILE, NO_REASON, "1",                         \
      "0 kernel, 1 copy, 2 set, 3 a wait of the host, 4 overhead of the driver or of CUPTI")                             \
    X(DEV_NAME, "timeline/device/name", I32, 0, "record", "8192", PACKED, PROFILE, MINUS1, "1", "index of timeline/names") \
    X(DEV_CALL, "timeline/device/call", I32, 0, "record", "8192", PACKED, PROFILE, MINUS1, "1",                           \
      "call that it was done for; -1: none is known")                                                                    \
    X(DEV_STREAM, "timeline/device/stream", I32, 0, "record", "8192", PACKED, PROFILE, MINUS1, "1", "CUPTI's number of its stream") \
    X(DEV_BYTES, "timeline/device/bytes", I64, 0, "record", "8192", PACKED, PROFILE, MINUS1, "byte", "copied or set; -1: a kernel, a wait") \
    X(DEV_START, "timeline/device/start_ns", I64, 0, "record", "8192", PACKED, PROFILE, MINUS1, "ns", "start, monotonic clock; -1: no time was taken") \
    X(DEV_DUR, "timeline/device/duration_ns", I64, 0, "record", "8192", PACKED, PROFILE, MINUS1, "ns", "duration")        \
    X(DEV_NAMES, "timeline/names", STR, 96, "name", "64", PACKED, PROFILE, ZERO, "", "names that calls and records refer to") \
    X(RES_KEEP, "result/effective_keep", F64, 0, "branch", "", INPLACE, ALWAYS, NAN, "1",                                \
      "share of the context really kept, over all layers and kv heads, after prefill")                                   \
    X(RES_KEPT, "result/kept_slots", I64, 0, "branch", "", INPLACE, ALWAYS, MINUS1, "1",                                 \
      "slots of the context kept, summed over layers and kv heads")                                                      \
    X(RES_SLOTS, "result/context_slots", I64, 0, "branch", "", INPLACE, ALWAYS, MINUS1, "1",                             \
      "slots of the context, summed over layers and kv heads")                                                           \
    X(RES_FALLBACK, "result/fallback", U8, 0, "branch", "", INPLACE, ALWAYS, ZERO, "1",                                  \
      "1: the method's own allocation was impossible and its fallback was used")                                         \
    X(RES_NOTE, "result/note", STR, 192, "branch", "", INPLACE, ALWAYS, ZERO, "", "why, in words")                       \
    X(RES_HOST, "result/host_ns", I64, 0, "branch", "", INPLACE, ALWAYS, ZERO, "ns",                                     \
      "waited at prefill's end for a score that is a C loop on the host; 0: the backend made it")                        \
    X(RES_ROWS, "result/score_rows", I32, 0, "branch", "", INPLACE, ALWAYS, ZERO, "1",                                   \
      "different rows in a layer of `score`: kv heads, or 1 where all heads share one set; 0: it ranks nothing")         \
    X(RES_AFTER, "result/bytes_after", I64, 0, "branch", "", INPLACE, ALWAYS, MINUS1, "byte",                            \
      "KV bytes that the branch would hold by itself, after prefill-end eviction")                                       \
    X(RES_PEAK, "result/bytes_peak", I64, 0, "branch", "", INPLACE, ALWAYS, MINUS1, "byte",                              \
      "the most KV bytes that the branch held by itself: the whole prefill, or with prefill_chunk a chunk before its eviction; or a step") \
    X(RES_DIVERGED, "result/diverged", I32, 0, "branch", "", INPLACE, ALWAYS, MINUS1, "1",                               \
      "first free-running step whose token differs from the uncompressed branch's; 0: none, -1: not known")              \
    X(RES_KL, "result/mean_kl", F64, 0, "branch", "", INPLACE, ALWAYS, NAN, "nat", "mean of steps/kl")                    \
    X(RES_TOP1, "result/top1", F64, 0, "branch", "", INPLACE, ALWAYS, NAN, "1",                                          \
      "share of teacher-forced steps at which the branch's choice is the uncompressed branch's")                         \
    X(RES_LOST, "result/lost_mass", F64, 0, "branch", "", INPLACE, LOST, NAN, "1",                                        \
      "mean of fidelity/lost_mass over steps, layers and kv heads")                                                      \
    X(RES_LOST_REST, "result/lost_rest", F64, 0, "branch", "", INPLACE, LOST, NAN, "1", "mean of fidelity/lost_rest")     \
    X(RES_REGRET, "result/regret", F64, 0, "branch", "", INPLACE, LOST, NAN, "1",                                         \
      "result/lost_mass less that of the oracle of the same unit, allocation, schedule and budget; NaN: there is none")  \
    X(RES_LOCAL, "result/output_local", F64, 0, "branch", "", INPLACE, OUTPUT, NAN, "1",                                  \
      "mean of fidelity/output_local over steps and layers")                                                             \
    X(RES_PROPAGATED, "result/output_propagated", F64, 0, "branch", "", INPLACE, OUTPUT, NAN, "1",                        \
      "mean of fidelity/output_propagated")                                                                              \
    X(RES_TEXT, "result/text", STR, KVT_STR_OUTPUT, "branch", "1", PACKED, ALWAYS, ZERO, "", "text generated freely")    \
    X(EVICTED, "branches/evicted_at", I32, 0, "layer,kv_head,token", "*,*,64", HISTORY, ALWAYS, NOT_YET, "1",              \
      "when the token was lost: -1 still held; 0 at prefill's end, or while the question was fed; k after the branch's " \
      "k-th token; -2-c after prefill chunk c; -2147483648 never generated")                                                                            \
    X(SCORE, "branches/score", F32, 0, "layer,kv_head,context", "1,*,*", PACKED, DECISIONS, NAN, "1",                      \
      "final score as ranked, after pooling and reduction over query heads; NaN where nothing is ranked")                \
    X(THRESHOLD, "branches/threshold", F32, 0, "layer,kv_head", "", INPLACE, DECISIONS, NAN, "1",                        \
      "lowest score kept for its score; inf: none was")                                                                  \
    X(REASON, "branches/reason", U8, 0, "layer,kv_head,context", "1,*,*", PACKED, DECISIONS, NO_REASON, "1",               \
      "why a slot stayed or left: 0 left by score, 1 kept by score, 2 kept with its unit, 3 left with its unit, "        \
      "4 kept as recent or observation window, 5 kept as protected, 6 left as its unit did not fit, 7 kept as nothing "  \
      "had to go, 255 not decided")                                                                                      \
    X(BUDGET, "branches/budget_tok", I32, 0, "layer,kv_head", "", INPLACE, ALWAYS, MINUS1, "token",                      \
      "tokens asked of the cell, after rounding and allocation")                                                         \
    X(KEPT, "branches/kept_tok", I32, 0, "layer,kv_head", "", INPLACE, ALWAYS, MINUS1, "token", "tokens really kept")

enum kvt_dataset {
#define X(id, path, type, len, dims, chunk, store, when, fill, unit, meaning) KVT_DS_##id,
    KVT_DATASET_MAP(X)
#undef X
    KVT_N_DATASET
};

/* Datasets that every newer file has but older minor versions lack: id, the minor version that brought it. (What a run need not
 * have at all, by its `when` or an empty dimension, needs no line here.) */
#define KVT_SINCE_MAP(X) X(RES_AFTER, 1) X(RES_PEAK, 1) X(KV_PEAK, 1) X(FULL_ROWS, 1) X(TIME_COUNT, 1) X(TIME_LOST, 1) X(BEYOND_F16, 3)

/* What numbers can be, beside their fill value (kvinfo --check); floats with a slack of 1e-3. id, least, largest; ANY: finite. */
#define KVT_RANGE_ANY 1.7e308
#define KVT_RANGE_MAP(X)                                                                                                  \
    X(STEPS_DONE, 0, KVT_RANGE_ANY) X(DROPPED, 0, KVT_RANGE_ANY) X(TOK_ID, 0, KVT_RANGE_ANY) X(TOK_START, 0, KVT_RANGE_ANY) \
    X(TOK_END, 0, KVT_RANGE_ANY) X(SPAN_PARENT, 0, KVT_RANGE_ANY) X(SPAN_START, 0, KVT_RANGE_ANY)                         \
    X(SPAN_END, 0, KVT_RANGE_ANY) X(SPAN_BYTE_START, 0, KVT_RANGE_ANY) X(SPAN_BYTE_END, 0, KVT_RANGE_ANY)                 \
    X(MASS, 0, KVT_RANGE_ANY) X(WMASS, 0, KVT_RANGE_ANY) X(LAST, 0, 1) X(ENTROPY, 0, KVT_RANGE_ANY) X(SINK, 0, 1)  \
    X(VISIBLE, 0, 1) X(SQUARE, 0, KVT_RANGE_ANY) X(MAX, 0, 1) X(KEYS, 1, KVT_RANGE_ANY) X(LOCAL_MASS, 0, 1) X(DISTANCE, 0, 1) X(OFFSET, 0, 1)  \
    X(SPANS, 0, 1) X(TOP, 0, 1) X(TOP_AT, 0, KVT_RANGE_ANY)          \
    X(ROW_ENTROPY, 0, KVT_RANGE_ANY) X(ROW_KEYS, 1, KVT_RANGE_ANY) X(ROW_FIRST, 0, 1) X(ROW_SINK, 0, 1) X(ROW_LOCAL, 0, 1) X(ROW_OWN, 0, 1)  \
    X(ROW_DISTANCE, 0, 1) X(ROW_OFFSET, 0, 1) X(ROW_SPANS, 0, 1) X(ROW_TOP, 0, 1) X(ROW_TOP_AT, 0, KVT_RANGE_ANY)         \
    X(MAP_MEAN, 0, 32768) X(MAP_MAX, 0, 32768) X(FULL, 0, 32768) X(DUMP_Q, -KVT_RANGE_ANY, KVT_RANGE_ANY) X(DUMP_Q_ROTATED, -KVT_RANGE_ANY, KVT_RANGE_ANY)              \
    X(DUMP_K, -KVT_RANGE_ANY, KVT_RANGE_ANY) X(DUMP_K_ROTATED, -KVT_RANGE_ANY, KVT_RANGE_ANY) X(DUMP_V, -KVT_RANGE_ANY, KVT_RANGE_ANY) X(STEP_TOKEN, 0, KVT_RANGE_ANY) X(STEP_ARGMAX, 0, KVT_RANGE_ANY) \
    X(STEP_LOGPROB, -KVT_RANGE_ANY, 0) X(STEP_KL, 0, KVT_RANGE_ANY) X(STEP_ENTROPY, 0, KVT_RANGE_ANY)                     \
    X(STEP_ALONE, 0, KVT_RANGE_ANY) X(STEP_OWN, 0, KVT_RANGE_ANY) X(STEP_HELD, 0, KVT_RANGE_ANY) X(STEP_NS, 0, KVT_RANGE_ANY) \
    X(DECODE_ROWS, 0, 1) X(QUESTION_ROWS, 0, 1) X(LATE_ROWS, 0, 1) X(LATE_LEVEL, 0, 2) X(LATER, 0, KVT_RANGE_ANY) X(SQMASS, 0, KVT_RANGE_ANY) \
    X(SQ_WINDOW, 0, KVT_RANGE_ANY) X(SQ_DISTANCE, 0, KVT_RANGE_ANY) X(SQ_BY_POS, 0, 1) X(KEY_NORM, 0, KVT_RANGE_ANY) X(OUT_NORM, 0, KVT_RANGE_ANY) X(ACTS, 0, 1) \
    X(LOST_MASS, 0, 1) X(LOST_REST, 0, 1) X(LOCAL, 0, KVT_RANGE_ANY) X(PROPAGATED, 0, KVT_RANGE_ANY)                      \
    X(FREE_TOKEN, 0, KVT_RANGE_ANY) X(FREE_LOGPROB, -KVT_RANGE_ANY, 0) X(PHASE_START, 0, KVT_RANGE_ANY)                   \
    X(PHASE_DUR, 0, KVT_RANGE_ANY) X(PHASE_TOK, 0, KVT_RANGE_ANY) X(RES_KEEP, 0, 1) X(RES_KEPT, 0, KVT_RANGE_ANY)         \
    X(RES_SLOTS, 0, KVT_RANGE_ANY) X(RES_FALLBACK, 0, 1) X(RES_HOST, 0, KVT_RANGE_ANY) X(RES_ROWS, 0, KVT_RANGE_ANY)      \
    X(RES_AFTER, 0, KVT_RANGE_ANY) X(RES_PEAK, 0, KVT_RANGE_ANY) X(RES_DIVERGED, 0, KVT_RANGE_ANY)                        \
    X(TIME_COUNT, 0, KVT_RANGE_ANY) X(TIME_LOST, 0, KVT_RANGE_ANY) X(TIME_PART, 0, 11) X(TIME_LAYER, 0, KVT_RANGE_ANY)    \
    X(TIME_BRANCH, 0, KVT_RANGE_ANY) X(TIME_STEP, 0, KVT_RANGE_ANY) X(TIME_START, 0, KVT_RANGE_ANY) X(TIME_DUR, 0, KVT_RANGE_ANY) \
    X(CALL_COUNT, 0, KVT_RANGE_ANY) X(CALL_LOST, 0, KVT_RANGE_ANY) X(CALL_OP, 0, KVT_RANGE_ANY) X(CALL_PHASE, 0, 5) X(CALL_LAYER, 0, KVT_RANGE_ANY) \
    X(CALL_STEP, 0, KVT_RANGE_ANY) X(CALL_BYTES, 0, KVT_RANGE_ANY) X(CALL_START, 0, KVT_RANGE_ANY) X(CALL_DUR, 0, KVT_RANGE_ANY) \
    X(DEV_COUNT, 0, KVT_RANGE_ANY) X(DEV_LOST, 0, KVT_RANGE_ANY) X(DEV_DROPPED, 0, KVT_RANGE_ANY) X(DEV_DAMAGED, 0, KVT_RANGE_ANY) \
    X(DEV_BANDWIDTH, 0, KVT_RANGE_ANY) X(DEV_KIND, 0, 4) X(DEV_NAME, 0, KVT_RANGE_ANY) X(DEV_CALL, 0, KVT_RANGE_ANY)      \
    X(DEV_BYTES, 0, KVT_RANGE_ANY) X(DEV_START, 0, KVT_RANGE_ANY) X(DEV_DUR, 0, KVT_RANGE_ANY) \
    X(RES_KL, 0, KVT_RANGE_ANY) X(RES_TOP1, 0, 1) X(RES_LOST, 0, 1) X(RES_LOST_REST, 0, 1) X(RES_LOCAL, 0, KVT_RANGE_ANY) \
    X(RES_PROPAGATED, 0, KVT_RANGE_ANY) X(REASON, 0, 7) X(BUDGET, 0, KVT_RANGE_ANY) X(KEPT, 0, KVT_RANGE_ANY)

/* Attributes: known before the run and never changed. where: FILE (/), PROMPT (/prompt/<id>), BRANCH (branches/<nn>). */
#define KVT_ATTR_LIST(X)                                                                                        \
    X(FILE, Conventions, STR, "\"kvtrace-1\"")                                                                           \
    X(FILE, schema_version, I64, "of this table; a reader refuses a newer one")                                          \
    X(FILE, schema_minor, I64, "additions since: a reader of an older one leaves out what it doesn't know; without it 0") \
    X(FILE, creator, STR, "\"kvtrace\"")                                                                                 \
    X(FILE, creator_version, STR, "version of the program")                                                              \
    X(FILE, commit, STR, "its commit")                                                                                   \
    X(FILE, file_time, STR, "when it was made, ISO 8601, UTC")                                                           \
    X(PROMPT, command_line, STR, "as typed")                                                                             \
    X(PROMPT, created, STR, "when the run began, ISO 8601, UTC")                                                         \
    X(PROMPT, model_name, STR, "")                                                                                       \
    X(PROMPT, model_arch, STR, "architecture, as llama")                                                                 \
    X(PROMPT, model_path, STR, "")                                                                                       \
    X(PROMPT, model_type, STR, "type of most weights, as Q4_1")                                                          \
    X(PROMPT, config_sha256, STR, "of a folder's config.json, generation_config.json, tokenizer.json, "                  \
      "tokenizer_config.json and chat_template.jinja, those that are there, one after the other; empty for a GGUF, "     \
      "whose own hash says it all")                                                                                      \
    X(PROMPT, model_bytes, I64, "size of the files with the weights")                                                    \
    X(PROMPT, tokenizer, STR, "kind of tokenizer")                                                                       \
    X(PROMPT, head_dim, I64, "values of a key")                                                                          \
    X(PROMPT, vocabulary, I64, "tokens the model knows")                                                                 \
    X(PROMPT, protocol, STR, "visible, hidden or literature: what a method sees and what the answer reads")              \
    X(PROMPT, decode, STR, "both, forced or free")                                                                       \
    X(PROMPT, compute, STR, "arithmetic of the products")                                                                \
    X(PROMPT, rope, STR, "rotary factors of the run: plain, or their scaling, for prompt + generated tokens")            \
    X(PROMPT, full_branch, STR, "ran, or none: with --no-full branch 00 is empty and nothing was compared with it")        \
    X(PROMPT, shot_order, STR, "order of the shots as asked: file, reverse, seed:N or places; a shot's name has its place in the file")  \
    X(PROMPT, windows, STR, "layers with a sliding window, how long it is, and what methods did there: left alone, "     \
      "compressed, or longer than the run; none where there are none")                                                   \
    X(PROMPT, kv_type, STR, "type of cached keys and values")                                                            \
    X(PROMPT, backend, STR, "")                                                                                          \
    X(PROMPT, device, STR, "")                                                                                           \
    X(PROMPT, threads, I64, "")                                                                                          \
    X(PROMPT, seed, U64, "")                                                                                             \
    X(PROMPT, n_sink, I64, "first tokens that count as sinks in score/sink")                                             \
    X(PROMPT, n_local, I64, "newest keys, the row's own included, that score/local counts")                              \
    X(PROMPT, ring_policy, STR, "block or drop: what happens to maps and rows when the writer can't follow")             \
    X(BRANCH, name, STR, "method and budget, as \"snapkv 25%\"")                                                         \
    X(BRANCH, method, STR, "")                                                                                           \
    X(BRANCH, canonical, STR, "the method with its version and all its parameters")                                      \
    X(BRANCH, asked_keep, F64, "share to keep; NaN: asked in tokens")                                                    \
    X(BRANCH, asked_tok, I64, "tokens of the context to keep")                                                           \
    X(BRANCH, schedule, STR, "prefill: evicts at prefill's end; step: after each token; every: after each so many")      \
    X(BRANCH, renumbered, I64, "1: positions are counted inside the cache")                                              \
    X(BRANCH, replayed, STR, "exact or approx: made from a trace by kvbudget --replay; empty: by a run")                  \
    X(BRANCH, asked, STR, "the budget as asked: \"25%\", \"256 tok\", \"768 tok/layer\", \"4000000 B\", \"as \" and a branch, or \"file: \" and its name there")

/* Every dataset and dimension also carries `units` and `long_name`; full/attention, map/mean and map/max also `scale_factor`. */

struct kvt_dim_info { const char *name, *unit, *meaning; };
struct kvt_dataset_info {
    const char *path;          /* "branches/score": in a file branches/<nn>/score */
    enum kvt_h5_type type;
    int len;                   /* of strings: bytes, or KVT_STR_* */
    enum kvt_store store;
    enum kvt_when when;
    enum kvt_fill fill;
    const char *dims, *chunk, *unit, *meaning;
    bool per_branch;
    int rank;
    enum kvt_dim dim[KVT_TRACE_MAX_RANK];
    int chunk_of[KVT_TRACE_MAX_RANK]; /* 0: the whole dimension */
    bool deflate;              /* packed in this file (--compress) */
    int since;                 /* minor version that brought it */
    bool ranged;               /* low and high are known */
    double low, high;
};
struct kvt_attr_info { const char *where, *name, *type, *meaning; };

extern const struct kvt_dim_info kvt_dims[KVT_N_DIM];
extern const struct kvt_attr_info kvt_attrs[];
extern const int kvt_n_attrs;
extern const char *const kvt_h5_type_names[];

/* One row of the table, its dimensions parsed. */
void kvt_schema_get(enum kvt_dataset id, struct kvt_dataset_info *out);
/* Path below /prompt/<id> into buf: "branches/03/score". */
const char *kvt_schema_path(const struct kvt_dataset_info *d, int branch, char *buf, size_t cap);
/* Entries of a chunk of at most 1 MiB (values of `bytes`) in shape (rank). */
void kvt_schema_chunk(const struct kvt_dataset_info *d, const size_t *shape, size_t bytes, size_t *chunk);

/* Stored f16 attention is the probability times this: f16 keeps 11 bits down to 2e-9. */
#define KVT_FULL_SCALE 32768.0f

#endif
