/* json.h — strict JSON into a cJSON tree whose nodes know where they stand in the text.
 *
 * cJSON's own parser is never used: it accepts duplicate keys, 007, 1e999, trailing text and
 * invalid UTF-8, loses positions, and rounds integers above 2^53. This one accepts exactly RFC 8259
 * (in UTF-8, without a byte order mark) minus `\u0000`, numbers outside the doubles, lone
 * surrogates and duplicate keys; comments only where asked for.
 *
 * The tree lives in the caller's set-up arena, so cJSON's reading functions work on it but nothing
 * of it may go to cJSON_Delete. Memory: 2 bytes per byte of text and 96 bytes per value.
 */
#ifndef QN_JSON_H
#define QN_JSON_H

#include "engine/engine.h"
#include "io/text_buffer.h"

#include <cjson/cJSON.h>

enum { QN_JSON_MAX_DEPTH = 64, QN_JSON_MAX_BYTES = 1 << 20 };

typedef struct qn_json_source {
    const char *name; /* file name, or what else errors are to call it */
    const char *text; /* NUL-terminated copy */
    size_t length;
} qn_json_source;

enum { QN_JSON_INEXACT, QN_JSON_INT64, QN_JSON_UINT64 };

typedef struct qn_json_node { /* every node of a parsed tree is one of these */
    cJSON item;
    int64_t integer; /* value of an integer: as uint64_t if exact is QN_JSON_UINT64 */
    const qn_json_source *source;
    uint32_t offset, length; /* the value's bytes in source->text */
    uint32_t key_offset;     /* the opening quote of its key; offset in an array */
    uint8_t exact;           /* QN_JSON_INEXACT, QN_JSON_INT64 or QN_JSON_UINT64 */
    bool duplicate;          /* an earlier member of this object has the same key */
} qn_json_node;

typedef struct qn_json_error { /* where and what, without the name */
    size_t offset;
    char text[256];
} qn_json_error;

typedef struct qn_json_options { /* {0} is what files other than configurations want */
    const char *name;            /* NULL = "JSON" */
    size_t max_bytes;            /* 0 = QN_JSON_MAX_BYTES */
    int max_depth;               /* 0 = QN_JSON_MAX_DEPTH */
    bool comments;               /* `//` and slash-star comments are white space */
    bool mark_duplicates; /* set node->duplicate instead of failing, so a caller can report all */
    qn_json_error *error; /* filled when the text is refused; may be NULL */
} qn_json_options;

/* Parses one value and nothing after it. QN_ERR_FORMAT with "name:line:column: what" for any text
 * that is not accepted, QN_ERR_OOM; *root is set on success only. */
qn_status qn_json_parse(qn_setup *arena, const char *text, size_t length, const qn_json_options *o,
                        cJSON **root) QN_CHECKED;

/* Whether the bytes are UTF-8 as JSON wants it: no overlong form, no surrogate. */
bool qn_utf8_valid(const char *text, size_t length);

/* The members of an object by exact name; NULL if object is no object or has no such member. */
const cJSON *qn_json_get(const cJSON *object, const char *key);
/* The value as an exact integer: written as one, or a number without fraction up to 2^53. False,
 * and *out untouched, for everything else. `item` must come from qn_json_parse. */
bool qn_json_int64(const cJSON *item, int64_t *out);
bool qn_json_uint64(const cJSON *item, uint64_t *out);

/* 1-based line and column (in characters) of a byte of the source. */
void qn_json_position(const qn_json_source *s, size_t offset, int64_t *line, int64_t *column);
static inline const qn_json_node *qn_json_node_of(const cJSON *item) {
    return (const qn_json_node *)item;
}

/* Makes `child` the last member or element; as cJSON has it, the first one's prev is the last. */
void qn_json_append(cJSON *parent, cJSON *child);

/* Writes a parsed value: integers exactly, doubles as qn_text_json_number does. indent < 0 gives
 * one line; otherwise two spaces a level, starting at that level. */
void qn_json_write(qn_text *t, const cJSON *item, int indent);

#endif
