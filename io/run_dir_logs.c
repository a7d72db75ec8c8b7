/* run_dir_logs.c — cutting a JSON Lines log back to the step a run resumes from. */
#include "io/file.h"
#include "io/run_dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One past the end of the string that begins at p (a quote), or `end` if it does not close. */
static const char *skip_string(const char *p, const char *end) {
    for (p++; p < end && *p != '"'; p++) {
        if (*p == '\\' && p + 1 < end) p++;
    }
    return p < end ? p + 1 : end;
}

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    return p;
}

/* The integer value of the row's own "step" key; false if it has none. Nested objects and strings
 * are passed over. The row ends in a newline, so strtoll stops inside it. */
static bool row_step(const char *row, const char *end, int64_t *step) {
    int depth = 0;
    for (const char *p = row; p < end;) {
        if (*p == '"') {
            const char *text = p;
            p = skip_string(p, end);
            if (depth != 1 || p - text != 6 || memcmp(text, "\"step\"", 6) != 0) continue;
            const char *colon = skip_space(p, end);
            if (colon == end || *colon != ':') continue; /* a value, not a key */
            const char *digits = skip_space(colon + 1, end);
            char *stop = NULL;
            if (digits == end || !strchr("-0123456789", *digits)) return false;
            *step = strtoll(digits, &stop, 10);
            return stop > digits;
        }
        if (*p == '{' || *p == '[') depth++;
        if (*p == '}' || *p == ']') depth--;
        p++;
    }
    return false;
}

qn_status qn_jsonl_truncate(const char *path, int64_t step) {
    char *text = NULL;
    int64_t bytes = 0;
    if (!qn_path_exists(path)) return QN_OK;
    QN_TRY(qn_file_read(path, INT64_MAX - 1, &text, &bytes));
    char *end = text + bytes, *write = text;
    bool dropping = false;
    for (char *row = text, *next; row < end; row = next) {
        char *newline = memchr(row, '\n', (size_t)(end - row));
        if (!newline) break; /* torn by a crash */
        next = newline + 1;
        int64_t at;
        if (row_step(row, newline, &at)) dropping = at > step;
        if (dropping) continue;
        memmove(write, row, (size_t)(next - row));
        write += next - row;
    }
    qn_status status = QN_OK;
    if (write != end) status = qn_file_replace(path, text, (size_t)(write - text));
    qn_free(text);
    return status;
}
