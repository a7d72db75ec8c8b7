/* data_text.c — text files as token documents: bytes as they lie in the file, or characters encoded
 * or the tokens of a tokenizer, encoded once into an unsigned type that holds the vocabulary. */
#include "io/data_parts.h"

#include <string.h>

enum { CHARACTERS = 0x110000 };

static const char *separator_of(const qn_data_options *o) {
    return o->separator ? o->separator : "\n";
}

/* ---- errors ---------------------------------------------------------------------------------- */

static int64_t line_of(const unsigned char *text, int64_t at) {
    int64_t line = 1;
    for (int64_t i = 0; i < at; i++) line += text[i] == '\n';
    return line;
}

static qn_status not_utf8(const qni_file *f, int64_t at) {
    return qn_fail(
        QN_ERR_DATA,
        "%s:%lld: byte offset %lld: found 0x%02X, expected UTF-8; use the byte vocabulary "
        "for other text",
        f->path, (long long)line_of(f->view.bytes, at), (long long)at, f->view.bytes[at]);
}

static qn_status unknown_character(const qni_file *f, int64_t at, uint32_t c, const qn_vocab *v) {
    return qn_fail(QN_ERR_DATA,
                   "%s:%lld: byte offset %lld: found U+%04X, expected one of the vocabulary's %lld "
                   "characters",
                   f->path, (long long)line_of(f->view.bytes, at), (long long)at, c,
                   (long long)qn_vocab_size(v));
}

/* ---- building a char vocabulary -------------------------------------------------------------- */

static qn_status mark_characters(const qni_file *f, unsigned char *seen) {
    const unsigned char *p = f->view.bytes;
    for (int64_t at = 0; at < f->size;) {
        uint32_t c;
        int length = qn_utf8_next(p + at, f->size - at, &c);
        if (length == 0) return not_utf8(f, at);
        seen[c] = 1;
        at += length;
    }
    return QN_OK;
}

static qn_status mark_separator(const char *separator, unsigned char *seen) {
    int64_t bytes = (int64_t)strlen(separator);
    for (int64_t at = 0; at < bytes;) {
        uint32_t c;
        int length = qn_utf8_next((const unsigned char *)separator + at, bytes - at, &c);
        if (length == 0)
            return qn_fail(QN_ERR_CONFIG, "data: the separator is not UTF-8 at byte %lld",
                           (long long)at);
        seen[c] = 1;
        at += length;
    }
    return QN_OK;
}

static qn_status build_char(const qn_data_options *o, const qni_files *files, qn_vocab **out) {
    qn_status status = QN_OK;
    uint32_t *codepoint = NULL;
    unsigned char *seen = qn_alloc(CHARACTERS, "characters seen");
    if (!seen) return QN_ERR_OOM;
    for (int64_t i = 0; i < files->n; i++) QN_TRY_GOTO(mark_characters(&files->file[i], seen));
    if (files->n > 1) QN_TRY_GOTO(mark_separator(separator_of(o), seen));
    int64_t n = 0;
    for (int64_t c = 0; c < CHARACTERS; c++) n += seen[c];
    codepoint = qn_alloc((size_t)n * sizeof *codepoint, "characters");
    if (!codepoint) {
        status = QN_ERR_OOM;
        goto done;
    }
    n = 0;
    for (uint32_t c = 0; c < CHARACTERS; c++)
        if (seen[c]) codepoint[n++] = c;
    status = qn_vocab_create_char(codepoint, n, out);
done:
    qn_free(codepoint);
    qn_free(seen);
    return status;
}

/* ---- encoding -------------------------------------------------------------------------------- */

static int width_of(const qn_vocab *v) {
    return qn_vocab_size(v) <= 1 << 8 ? 1 : qn_vocab_size(v) <= 1 << 16 ? 2 : 4;
}

static void store(unsigned char *p, int width, uint32_t id) {
    for (int i = 0; i < width; i++) p[i] = (unsigned char)(id >> (8 * i));
}

/* Replaces the file's content by its ids. */
static qn_status encode_file(const qn_vocab *v, qni_file *f, qni_span *out) {
    const unsigned char *p = f->view.bytes;
    const int width = width_of(v);
    int64_t count = 0, room = 0;
    for (int64_t i = 0; i < f->size; i++) count += (p[i] & 0xC0) != 0x80; /* one per character */
    if (!qn_mul_i64(count, width, &room)) return qn_fail(QN_ERR_OOM, "%s: too large", f->path);
    unsigned char *ids = f->own = qn_alloc((size_t)room, f->path);
    if (!ids) return QN_ERR_OOM;
    int64_t n = 0;
    for (int64_t at = 0; at < f->size; n++) {
        uint32_t c;
        int length = qn_utf8_next(p + at, f->size - at, &c);
        if (length == 0) return not_utf8(f, at);
        int32_t id = qn_vocab_id(v, c);
        if (id < 0) return unknown_character(f, at, c, v);
        store(ids + n * width, width, (uint32_t)id);
        at += length;
    }
    qni_view_close(&f->view);
    *out = (qni_span){.data = ids, .width = width, .count = n, .file = f};
    return QN_OK;
}

static qn_status encode_separator(const qn_vocab *v, const char *text, unsigned char **bytes,
                                  qni_span *out) {
    const int width = width_of(v);
    const int64_t length = (int64_t)strlen(text);
    int64_t n = 0;
    qn_status status = QN_OK;
    int32_t *ids = qn_alloc((size_t)length * sizeof *ids, "separator");
    *bytes = ids ? qn_alloc((size_t)(length * width), "separator") : NULL;
    status = *bytes ? qn_vocab_encode(v, text, length, ids, &n) : QN_ERR_OOM;
    if (*bytes && status != QN_OK) status = qn_fail_prefix(status, "data: separator of files");
    for (int64_t i = 0; status == QN_OK && i < n; i++)
        store(*bytes + i * width, width, (uint32_t)ids[i]);
    *out = (qni_span){.data = *bytes, .width = width, .count = n};
    qn_free(ids);
    return status;
}

/* ---- with a tokenizer ------------------------------------------------------------------------ */

static int width_of_tokens(const qn_tokenizer *t) {
    return qn_tokenizer_size(t) <= 1 << 16 ? 2 : 4;
}

static qn_status store_all(const qn_ids *ids, int width, unsigned char **out, qni_span *span) {
    unsigned char *bytes = *out = qn_alloc((size_t)(ids->n * width) + 1, "tokens");
    if (!bytes) return QN_ERR_OOM;
    for (int64_t i = 0; i < ids->n; i++) store(bytes + i * width, width, (uint32_t)ids->id[i]);
    *span = (qni_span){.data = bytes, .width = width, .count = ids->n};
    return QN_OK;
}

/* Replaces the file's content by its tokens. */
static qn_status tokenize_file(const qn_tokenizer *t, qni_file *f, qni_span *out) {
    const qn_encode_options o = {.add_special = true, .parse_special = true};
    qn_ids ids = {0};
    unsigned char *bytes = NULL;
    qn_status s = qn_tokenizer_encode(t, (const char *)f->view.bytes, f->size, &o, &ids);
    if (s != QN_OK) s = qn_fail_prefix(s, "%s", f->path);
    if (s == QN_OK) s = store_all(&ids, width_of_tokens(t), &bytes, out);
    qn_ids_free(&ids);
    f->own = bytes;
    out->file = f;
    qni_view_close(&f->view);
    return s;
}

static qn_status tokenize(const qn_data_options *o, qni_files *files, qni_span *document,
                          qni_span *separator, unsigned char **separator_bytes) {
    const qn_tokenizer *t = o->tokenizer;
    for (int64_t i = 0; i < files->n; i++) QN_TRY(tokenize_file(t, &files->file[i], &document[i]));
    int32_t eos = qn_tokenizer_role(t, QN_TOKEN_EOS);
    if (eos < 0 || files->n == 1) return QN_OK;
    const qn_ids one = {.id = &eos, .n = 1};
    return store_all(&one, width_of_tokens(t), separator_bytes, separator);
}

/* ---- documents ------------------------------------------------------------------------------- */

static qn_status check_plain(const qni_file *f) {
    if (!f->packed && f->size >= 3 && memcmp(f->view.bytes, "\x1F\x8B\x08", 3) == 0)
        return qn_fail(QN_ERR_DATA,
                       "%s: found gzip data, expected text; a packed file's name ends in .gz",
                       f->path);
    return QN_OK;
}

qn_status qni_text_documents(const qn_data_options *o, qni_files *files, qni_span *document,
                             qni_span *separator, unsigned char **separator_bytes,
                             qn_vocab **vocab) {
    for (int64_t i = 0; i < files->n; i++) QN_TRY(check_plain(&files->file[i]));
    if (o->tokenizer) return tokenize(o, files, document, separator, separator_bytes);
    if (o->given)
        QN_TRY(qn_vocab_copy(o->given, vocab));
    else if (o->vocabulary == QN_VOCAB_BYTE)
        QN_TRY(qn_vocab_create_byte(vocab));
    else
        QN_TRY(build_char(o, files, vocab));
    for (int64_t i = 0; i < files->n; i++) {
        qni_file *f = &files->file[i];
        if (qn_vocab_get_kind(*vocab) == QN_VOCAB_CHAR)
            QN_TRY(encode_file(*vocab, f, &document[i]));
        else
            document[i] =
                (qni_span){.data = f->view.bytes, .width = 1, .count = f->size, .file = f};
    }
    if (files->n == 1) return QN_OK; /* nothing to separate; the vocabulary may lack it */
    return encode_separator(*vocab, separator_of(o), separator_bytes, separator);
}
