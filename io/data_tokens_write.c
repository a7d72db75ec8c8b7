/* data_tokens_write.c — writes Quern's own token format, which data_tokens.c tells. */
#include "io/data_parts.h"

#include <string.h>

enum { HEADER = 128, BLOCK = 64 << 10 };

typedef struct writer {
    qni_temp temp;
    int64_t at; /* bytes so far */
    size_t filled;
    unsigned char block[BLOCK];
} writer;

static qn_status flush(writer *w) {
    QN_TRY(qni_temp_write(&w->temp, w->block, w->filled));
    w->filled = 0;
    return QN_OK;
}

/* The low `width` bytes of v, little-endian. */
static qn_status put(writer *w, uint64_t v, int width) {
    if (w->filled + (size_t)width > BLOCK) QN_TRY(flush(w));
    for (int i = 0; i < width; i++) w->block[w->filled++] = (unsigned char)(v >> (8 * i));
    w->at += width;
    return QN_OK;
}

static qn_status fill_to(writer *w, int64_t offset) {
    while (w->at < offset) QN_TRY(put(w, 0, 1));
    return QN_OK;
}

static int64_t next_section(int64_t end) { return (end + 63) / 64 * 64; }

static qn_status check(const char *path, const qn_tokens_content *c) {
    if (c->count < 1 || c->vocab_size < 1 || c->vocab_size > INT32_MAX)
        return qn_fail(
            QN_ERR_DATA,
            "%s: found %lld tokens of a vocabulary of %lld to write, expected at least one "
            "each",
            path, (long long)c->count, (long long)c->vocab_size);
    for (int64_t i = 0; i < c->count; i++)
        if (c->ids[i] < 0 || c->ids[i] >= c->vocab_size)
            return qn_fail(QN_ERR_DATA,
                           "%s: found token %d at place %lld to write, expected 0 to %lld", path,
                           c->ids[i], (long long)i, (long long)c->vocab_size - 1);
    for (int64_t i = 0; i < c->n_documents; i++)
        if (c->documents[i] >= c->count || (i == 0 && c->documents[0] != 0) ||
            (i > 0 && c->documents[i] <= c->documents[i - 1]))
            return qn_fail(QN_ERR_DATA,
                           "%s: found document %lld at token %lld to write, expected "
                           "increasing starts from 0 on",
                           path, (long long)i, (long long)c->documents[i]);
    return QN_OK;
}

static qn_status write_header(writer *w, const qn_tokens_content *c, int width) {
    int64_t tokens_end = HEADER + c->count * width;
    int64_t documents_at = c->n_documents ? next_section(tokens_end) : 0;
    int64_t documents_end = c->n_documents ? documents_at + c->n_documents * 8 : tokens_end;
    int64_t mask_at = c->mask ? next_section(documents_end) : 0;
    int64_t end = c->mask ? mask_at + (c->count + 7) / 8 : documents_end;
    const char *magic = "QNTOKENS";
    for (int i = 0; i < 8; i++) QN_TRY(put(w, (unsigned char)magic[i], 1));
    QN_TRY(put(w, 1, 4));
    QN_TRY(put(w, (uint64_t)width, 4));
    const uint64_t field[] = {(uint64_t)c->vocab_size,
                              (uint64_t)c->count,
                              (uint64_t)c->n_documents,
                              c->tokenizer,
                              HEADER,
                              (uint64_t)documents_at,
                              (uint64_t)mask_at,
                              (uint64_t)end};
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++) QN_TRY(put(w, field[i], 8));
    return fill_to(w, HEADER);
}

static qn_status write_sections(writer *w, const qn_tokens_content *c, int width) {
    for (int64_t i = 0; i < c->count; i++) QN_TRY(put(w, (uint64_t)c->ids[i], width));
    if (c->n_documents) QN_TRY(fill_to(w, next_section(w->at)));
    for (int64_t i = 0; i < c->n_documents; i++) QN_TRY(put(w, (uint64_t)c->documents[i], 8));
    if (!c->mask) return flush(w);
    QN_TRY(fill_to(w, next_section(w->at)));
    for (int64_t i = 0; i < c->count; i += 8) {
        unsigned bits = 0;
        for (int64_t j = i; j < i + 8 && j < c->count; j++)
            bits |= (c->mask[j] != 0 ? 1u : 0u) << (j - i);
        QN_TRY(put(w, bits, 1));
    }
    return flush(w);
}

qn_status qn_tokens_write(const char *path, const qn_tokens_content *c) {
    QN_TRY(check(path, c));
    int width = c->vocab_size <= 1 << 16 ? 2 : 4;
    writer *w = qn_alloc(sizeof *w, "token writer");
    if (!w) return QN_ERR_OOM;
    qn_status status = qni_temp_open(path, &w->temp);
    if (status == QN_OK) status = write_header(w, c, width);
    if (status == QN_OK) status = write_sections(w, c, width);
    if (status == QN_OK) status = qni_temp_commit(&w->temp);
    qni_temp_close(&w->temp);
    qn_free(w);
    return status;
}
