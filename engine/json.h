/* JSON files of a model's folder: parsed whole by cJSON, after what could hurt was refused. */
#ifndef KVT_ENGINE_JSON_H
#define KVT_ENGINE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>

#include "engine/map.h"

#define KVT_JSON_DEPTH 64 /* config.json and tokenizer.json stay below 12 */

/* Text of a JSON object into *out, for cJSON_Delete. path: for messages. One line where it isn't JSON, isn't an object,
 * nests deeper than KVT_JSON_DEPTH, or holds a zero character (cJSON's strings end there). */
int kvt_json_parse(cJSON **out, const char *path, const char *text, size_t bytes, struct kvt_err *err);
/* A whole file of a folder; most: bytes that such a file can have. */
int kvt_json_read(cJSON **out, const struct kvt_folder *f, const char *name, size_t most, struct kvt_err *err);
/* "\u0000" stands in the text. */
bool kvt_json_zero_escape(const char *text, size_t bytes);

#endif
