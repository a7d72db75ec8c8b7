/* verb_tokenize.c — `quern tokenize`: a text as ids, or ids as a text.
 *
 * Ids stand in one line, divided by spaces; --decode reads them divided by any white space. With
 * --json encoding prints {"ids":[...],"tokens":[...],"starts":[...]} and decoding {"text":"..."}.
 */
#include "io/cli.h"
#include "io/file.h"
#include "io/json.h"
#include "io/tokenizer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_BYTES = INT32_MAX };

static qn_status read_stdin(char **data, int64_t *bytes) {
    char block[1 << 14];
    qn_text t = {0};
    qn_text_add(&t, "");
    for (ssize_t n; (n = read(STDIN_FILENO, block, sizeof block)) != 0;) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 || t.length > MOST_BYTES) {
            qn_text_free(&t);
            return n < 0 ? qn_fail_errno("standard input", "cannot be read")
                         : qn_fail(QN_ERR_DATA, "standard input: more than %d bytes", MOST_BYTES);
        }
        qn_text_add_bytes(&t, block, (size_t)n);
    }
    *bytes = (int64_t)t.length;
    return qn_text_take(&t, data);
}

/* ---- ids ------------------------------------------------------------------------------------- */

/* Spellings may hold bytes that are not UTF-8 only in a byte vocabulary: those are written as the
 * character of the same number. */
static void add_spelling(qn_text *t, const char *token, int64_t bytes) {
    char utf8[4];
    qn_text_add(t, "\"");
    if (qn_utf8_valid(token, (size_t)bytes))
        qn_text_json_chars(t, token, (size_t)bytes);
    else
        for (int64_t i = 0; i < bytes; i++)
            qn_text_add_bytes(t, utf8, (size_t)qn_utf8_write((unsigned char)token[i], utf8));
    qn_text_add(t, "\"");
}

static void add_json(qn_text *t, const qn_tokenizer *tokenizer, const qn_ids *ids) {
    qn_text_add(t, "{\"ids\":[");
    for (int64_t i = 0; i < ids->n; i++) qn_text_printf(t, "%s%d", i ? "," : "", ids->id[i]);
    qn_text_add(t, "],\"tokens\":[");
    for (int64_t i = 0; i < ids->n; i++) {
        int64_t bytes = 0;
        const char *token = qn_tokenizer_token(tokenizer, ids->id[i], &bytes);
        if (i) qn_text_add(t, ",");
        add_spelling(t, token, bytes);
    }
    qn_text_add(t, "],\"starts\":[");
    for (int64_t i = 0; i < ids->n; i++)
        qn_text_printf(t, "%s%lld", i ? "," : "", (long long)ids->start[i]);
    qn_text_add(t, "]}\n");
}

static qn_status encode(const qn_cli *cli, const qn_tokenizer *t, const char *text, int64_t bytes,
                        qn_text *out) {
    bool plain = qn_cli_has(cli, "--no-special"), json = qn_cli_has(cli, "--json");
    qn_encode_options o = {.add_special = !plain, .parse_special = !plain, .offsets = json};
    qn_ids ids = {0};
    qn_status s = qn_tokenizer_encode(t, text, bytes, &o, &ids);
    if (s == QN_OK && json) {
        add_json(out, t, &ids);
    } else if (s == QN_OK) {
        for (int64_t i = 0; i < ids.n; i++) qn_text_printf(out, "%s%d", i ? " " : "", ids.id[i]);
        qn_text_add(out, "\n");
    }
    qn_ids_free(&ids);
    return s;
}

static qn_status read_ids(const char *text, qn_ids *ids) {
    for (const char *p = text; *(p += strspn(p, " \t\r\n")); p += strcspn(p, " \t\r\n")) {
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || !strchr(" \t\r\n", *end) || errno || id < 0 || id > INT32_MAX)
            return qn_fail(QN_ERR_DATA, "ids: found \"%.32s\" at byte %lld, expected an id", p,
                           (long long)(p - text));
        QN_TRY(qn_ids_add(ids, (int32_t)id, 0));
    }
    return QN_OK;
}

static qn_status decode(const qn_cli *cli, const qn_tokenizer *t, const char *text, int64_t bytes,
                        qn_text *out) {
    qn_ids ids = {0};
    qn_text plain = {0};
    qn_status s = strlen(text) == (size_t)bytes
                      ? read_ids(text, &ids)
                      : qn_fail(QN_ERR_DATA, "ids: found a NUL byte, expected numbers");
    if (s == QN_OK)
        s = qn_tokenizer_decode(t, ids.id, ids.n, qn_cli_has(cli, "--no-special"), &plain);
    if (s == QN_OK && qn_cli_has(cli, "--json")) {
        qn_text_add(out, "{\"text\":");
        add_spelling(out, plain.data ? plain.data : "", (int64_t)plain.length);
        qn_text_add(out, "}\n");
    } else if (s == QN_OK && plain.length > 0) {
        qn_text_add_bytes(out, plain.data, plain.length);
    }
    qn_text_free(&plain);
    qn_ids_free(&ids);
    return s;
}

qn_status qn_verb_tokenize(const qn_cli *cli) {
    const char *path = qn_cli_value(cli, "--tokenizer"), *from = cli->arg[0];
    if (!path) return qn_fail(QN_ERR_USAGE, "tokenize: expected --tokenizer PATH");
    qn_tokenizer *t = NULL;
    char *data = NULL;
    int64_t bytes = 0;
    qn_text out = {0};
    qn_status status = QN_OK;
    QN_TRY_GOTO(qn_tokenizer_open(path, &t));
    if (strcmp(from, "-") == 0)
        QN_TRY_GOTO(read_stdin(&data, &bytes));
    else
        QN_TRY_GOTO(qn_file_read(from, MOST_BYTES, &data, &bytes));
    if (qn_cli_has(cli, "--decode"))
        QN_TRY_GOTO(decode(cli, t, data, bytes, &out));
    else
        QN_TRY_GOTO(encode(cli, t, data, bytes, &out));
    QN_TRY_GOTO(out.status);
    if (out.length > 0) fwrite(out.data, 1, out.length, stdout);
done:
    qn_text_free(&out);
    qn_free(data);
    qn_tokenizer_free(t);
    return status;
}
