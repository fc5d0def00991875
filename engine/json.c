/* Parsing JSON without a surprise. */
#include "engine/json.h"

#include <string.h>

bool kvt_json_zero_escape(const char *s, size_t n)
{
    for (size_t i = 0; i + 6 <= n; i++) {
        if (s[i] != '\\')
            continue;
        if (memcmp(s + i, "\\u0000", 6) == 0)
            return true;
        i++; /* the escaped character */
    }
    return false;
}

/* Brackets open at once outside strings, at most. cJSON's own limit is 1000, and it recurses for each. */
static int depth_of(const char *s, size_t n)
{
    int depth = 0, most = 0;
    bool string = false;
    for (size_t i = 0; i < n; i++) {
        if (string && s[i] == '\\')
            i++;
        else if (s[i] == '"')
            string = !string;
        else if (!string && (s[i] == '{' || s[i] == '['))
            most = ++depth > most ? depth : most;
        else if (!string && (s[i] == '}' || s[i] == ']'))
            depth--;
    }
    return most;
}

int kvt_json_parse(cJSON **out, const char *path, const char *text, size_t bytes, struct kvt_err *err)
{
    *out = NULL;
    if (depth_of(text, bytes) > KVT_JSON_DEPTH)
        return kvt_fail(err, KVT_EFORMAT, "%s: JSON nested more than %d deep; no file of a model is", path, KVT_JSON_DEPTH);
    if (memchr(text, 0, bytes) || kvt_json_zero_escape(text, bytes))
        return kvt_fail(err, KVT_EFORMAT, "%s: a zero character in the JSON", path);
    const char *end = text;
    cJSON *v = cJSON_ParseWithLengthOpts(text, bytes, &end, 0);
    if (!v) /* cJSON doesn't tell a lack of memory from a wrong text */
        return kvt_fail(err, KVT_EFORMAT, "%s: not valid JSON near byte %zu", path, end ? (size_t)(end - text) : 0);
    while (end < text + bytes && strchr(" \t\r\n", *end))
        end++;
    if (end < text + bytes || !cJSON_IsObject(v)) {
        cJSON_Delete(v);
        return kvt_fail(err, KVT_EFORMAT, end < text + bytes ? "%s: more text after the JSON" : "%s: not a JSON object", path);
    }
    *out = v;
    return 0;
}

int kvt_json_read(cJSON **out, const struct kvt_folder *f, const char *name, size_t most, struct kvt_err *err)
{
    struct kvt_map m;
    *out = NULL;
    int rc = kvt_folder_map(&m, f, name, "JSON file", err);
    if (rc)
        return rc;
    if (m.bytes > most)
        rc = kvt_fail(err, KVT_EFORMAT, "%s: %zu bytes; a file of this kind has at most %zu", m.path, m.bytes, most);
    else
        rc = kvt_json_parse(out, m.path, (const char *)m.base, m.bytes, err);
    kvt_map_close(&m);
    return rc;
}
