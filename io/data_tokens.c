/* data_tokens.c — token files: finds which of five formats a file is and checks its structure.
 *
 * All numbers are little-endian. A file must be exactly as long as its header says.
 *
 * Quern v1, frozen: a header of 128 bytes
 *     0  8 bytes  "QNTOKENS"          40  u64  tokenizer hash, 0 = unknown
 *     8  u32      version, 1          48  u64  offset of the tokens, 128
 *    12  u32      token width, 2 or 4 56  u64  offset of the document index, 0 = none
 *    16  u64      vocabulary size     64  u64  offset of the mask, 0 = none
 *    24  u64      token count         72  u64  file size
 *    32  u64      document count      80..127  zero
 *   then the tokens; the document index, a u64 per document: its first token, the first of them 0,
 *   increasing; the mask, a bit per token, least significant first, set = the token counts as a
 *   target, unused bits zero. Each section begins at the next multiple of 64, filled with zeros.
 * llm.c v1   header of 256 i32: 20240520, 1, count; u16 tokens of GPT-2 (50257)
 * llm.c v7   header of 256 i32: 20240801, 7, count; u32 tokens of Llama-3 (128256)
 * llmq v2    header of 1024 bytes: "BIN.TOK\n", i32 version 2, width 4, count, vocabulary,
 * has_masks; i32 tokens; mask bits as above. The rest of the header is filled with '*', and older
 * files have these in the place of has_masks: no mask. The vocabulary leaves added tokens out. no
 * header  u16 or u32 tokens, as nanoGPT writes; width and vocabulary are stated by the caller.
 */
#include "io/data.h"

#include <inttypes.h>
#include <string.h>

enum {
    QUERN_HEADER = 128,
    LLM_HEADER = 1024,
    LLM_GPT2_MAGIC = 20240520,
    LLM_LLAMA3_MAGIC = 20240801,
    GPT2_VOCAB = 50257,
    LLAMA3_VOCAB = 128256,
    LLMQ_FILLER = 0x2A2A2A2A
};

static uint32_t load_u32(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t load_u64(const unsigned char *p) {
    return load_u32(p) | (uint64_t)load_u32(p + 4) << 32;
}

/* ---- access ---------------------------------------------------------------------------------- */

int64_t qn_tokens_get(const qn_tokens *t, int64_t i) {
    const unsigned char *p = t->data + i * t->width;
    return t->width == 2 ? p[0] | p[1] << 8 : (int64_t)load_u32(p);
}

bool qn_tokens_counts(const qn_tokens *t, int64_t i) {
    return !t->mask || (t->mask[i >> 3] >> (i & 7) & 1);
}

int64_t qn_tokens_document(const qn_tokens *t, int64_t i) {
    return (int64_t)load_u64(t->documents + i * 8);
}

/* ---- checks every format shares -------------------------------------------------------------- */

static qn_status check_size(const qn_tokens *t, int64_t found, int64_t expected) {
    if (found == expected) return QN_OK;
    return qn_fail(QN_ERR_FORMAT,
                   "%s token file: found %lld bytes, expected %lld for %lld tokens: it is %s",
                   t->format, (long long)found, (long long)expected, (long long)t->count,
                   found < expected ? "truncated" : "followed by something else");
}

static qn_status check_count(const qn_tokens *t) {
    if (t->count > 0) return QN_OK;
    return qn_fail(QN_ERR_FORMAT,
                   "%s token file: found a count of %lld tokens, expected at least one", t->format,
                   (long long)t->count);
}

/* Settles the size of the vocabulary between what the file says and what the caller states. */
static qn_status settle_vocab(qn_tokens *t, int64_t stated) {
    if (t->vocab_size < 1 || t->vocab_size > INT32_MAX)
        return qn_fail(QN_ERR_FORMAT,
                       "%s token file: found a vocabulary of %" PRIu64 ", expected 1 to %d",
                       t->format, (uint64_t)t->vocab_size, INT32_MAX);
    if (stated == 0 || stated == t->vocab_size) return QN_OK;
    if (!t->vocab_open || stated < t->vocab_size)
        return qn_fail(QN_ERR_DATA,
                       "%s token file: found a vocabulary of %lld, the configuration "
                       "states %lld",
                       t->format, (long long)t->vocab_size, (long long)stated);
    t->vocab_size = stated;
    return QN_OK;
}

static qn_status check_version(const qn_tokens *t, uint32_t found, uint32_t expected) {
    if (found == expected) return QN_OK;
    return qn_fail(QN_ERR_FORMAT, "%s token file: found version %u, expected %u", t->format, found,
                   expected);
}

/* ---- the formats ----------------------------------------------------------------------------- */

static int64_t next_section(int64_t end) { return (end + 63) / 64 * 64; }

static bool all_zero(const unsigned char *p, int64_t from, int64_t to) {
    while (from < to && p[from] == 0) from++;
    return from >= to;
}

static qn_status check_documents(const qn_tokens *t) {
    for (int64_t i = 0; i < t->n_documents; i++) {
        uint64_t start = load_u64(t->documents + i * 8);
        uint64_t least = i ? load_u64(t->documents + (i - 1) * 8) + 1 : 0;
        if (start < least || start >= (uint64_t)t->count || (i == 0 && start != 0))
            return qn_fail(QN_ERR_FORMAT,
                           "%s token file: found document %lld at token %" PRIu64
                           ", expected increasing starts from 0 on and below %lld",
                           t->format, (long long)i, start, (long long)t->count);
    }
    return QN_OK;
}

/* Sections follow from the counts; the offsets in the header must say the same. */
static qn_status quern_sections(const unsigned char *p, int64_t size, qn_tokens *t) {
    const uint64_t documents = load_u64(p + 32), has_mask = load_u64(p + 64) != 0;
    int64_t tokens_end = QUERN_HEADER + t->count * t->width;
    int64_t documents_at = documents ? next_section(tokens_end) : 0;
    int64_t documents_end = documents ? documents_at + (int64_t)documents * 8 : tokens_end;
    int64_t mask_at = has_mask ? next_section(documents_end) : 0;
    int64_t end = has_mask ? mask_at + (t->count + 7) / 8 : documents_end;
    if (load_u64(p + 48) != QUERN_HEADER || load_u64(p + 56) != (uint64_t)documents_at ||
        load_u64(p + 64) != (uint64_t)mask_at || load_u64(p + 72) != (uint64_t)end)
        return qn_fail(QN_ERR_FORMAT,
                       "%s token file: the header's offsets do not follow from its counts",
                       t->format);
    QN_TRY(check_size(t, size, end));
    if (!all_zero(p, 80, QUERN_HEADER) || !all_zero(p, tokens_end, documents_at) ||
        !all_zero(p, documents_end, mask_at) ||
        (has_mask && t->count % 8 && p[end - 1] >> t->count % 8))
        return qn_fail(QN_ERR_FORMAT, "%s token file: found reserved bytes that are not zero",
                       t->format);
    t->n_documents = (int64_t)documents;
    t->documents = documents ? p + documents_at : NULL;
    t->mask = has_mask ? p + mask_at : NULL;
    return check_documents(t);
}

static qn_status parse_quern(const unsigned char *p, int64_t size, qn_tokens *t) {
    t->format = "Quern v1";
    QN_TRY(check_version(t, load_u32(p + 8), 1));
    uint32_t width = load_u32(p + 12);
    if (width != 2 && width != 4)
        return qn_fail(QN_ERR_FORMAT, "%s token file: found a token width of %u, expected 2 or 4",
                       t->format, width);
    const uint64_t count = load_u64(p + 24), documents = load_u64(p + 32);
    if (count > INT64_MAX / 16 || documents > count)
        return qn_fail(QN_ERR_FORMAT,
                       "%s token file: found %" PRIu64 " tokens in %" PRIu64
                       " documents, more than there can be",
                       t->format, count, documents);
    t->width = (int)width;
    t->vocab_size = (int64_t)load_u64(p + 16);
    t->count = (int64_t)count;
    t->tokenizer = load_u64(p + 40);
    t->data = p + QUERN_HEADER;
    QN_TRY(check_count(t));
    return quern_sections(p, size, t);
}

static qn_status parse_llm(const unsigned char *p, int64_t size, qn_tokens *t) {
    bool llama = load_u32(p) == LLM_LLAMA3_MAGIC;
    t->format = llama ? "llm.c v7" : "llm.c v1";
    QN_TRY(check_version(t, load_u32(p + 4), llama ? 7 : 1));
    t->width = llama ? 4 : 2;
    t->vocab_size = llama ? LLAMA3_VOCAB : GPT2_VOCAB;
    t->vocab_open = true;
    t->count = (int32_t)load_u32(p + 8);
    t->data = p + LLM_HEADER;
    QN_TRY(check_count(t));
    return check_size(t, size, LLM_HEADER + t->count * t->width);
}

static qn_status parse_llmq(const unsigned char *p, int64_t size, qn_tokens *t) {
    t->format = "llmq v2";
    QN_TRY(check_version(t, load_u32(p + 8), 2));
    uint32_t width = load_u32(p + 12), has_mask = load_u32(p + 24);
    if (width != 4 || (has_mask > 1 && has_mask != LLMQ_FILLER))
        return qn_fail(
            QN_ERR_FORMAT,
            "%s token file: found token width %u and has_masks %u, expected 4 and 0 or 1",
            t->format, width, has_mask);
    t->width = 4;
    t->vocab_size = (int32_t)load_u32(p + 20);
    t->vocab_open = true;
    t->count = (int32_t)load_u32(p + 16);
    t->data = p + LLM_HEADER;
    QN_TRY(check_count(t));
    int64_t end = LLM_HEADER + t->count * 4;
    QN_TRY(check_size(t, size, end + (has_mask == 1 ? (t->count + 7) / 8 : 0)));
    t->mask = has_mask == 1 ? p + end : NULL;
    return QN_OK;
}

static qn_status parse_raw(const unsigned char *p, int64_t size, qn_raw_tokens raw,
                           int64_t vocab_size, qn_tokens *t) {
    t->format = raw == QN_RAW_U16 ? "headerless u16" : "headerless u32";
    t->width = raw == QN_RAW_U16 ? 2 : 4;
    if (raw == QN_RAW_NONE)
        return qn_fail(QN_ERR_FORMAT,
                       "token file: found no known header; a file without one needs its "
                       "dtype (u16 or u32) stated");
    if (vocab_size == 0)
        return qn_fail(QN_ERR_CONFIG, "%s token file: the size of the vocabulary must be stated",
                       t->format);
    if (size % t->width)
        return qn_fail(QN_ERR_FORMAT, "%s token file: found %lld bytes, expected a multiple of %d",
                       t->format, (long long)size, t->width);
    t->vocab_size = vocab_size;
    t->count = size / t->width;
    t->data = p;
    return check_count(t);
}

qn_status qn_tokens_parse(const void *bytes, int64_t size, qn_raw_tokens raw, int64_t vocab_size,
                          qn_tokens *out) {
    static const struct {
        const char *magic;
        size_t magic_bytes;
        int64_t header;
        qn_status (*parse)(const unsigned char *p, int64_t size, qn_tokens *t);
    } format[] = {
        {"QNTOKENS", 8, QUERN_HEADER, parse_quern},
        {"BIN.TOK\n", 8, LLM_HEADER, parse_llmq},
        {"\x88\xD8\x34\x01", 4, LLM_HEADER, parse_llm},
        {"\xA1\xD9\x34\x01", 4, LLM_HEADER, parse_llm},
    };
    const unsigned char *p = bytes;
    qn_tokens t = {0};
    for (size_t i = 0; i < sizeof format / sizeof format[0]; i++) {
        if (size < (int64_t)format[i].magic_bytes ||
            memcmp(p, format[i].magic, format[i].magic_bytes) != 0)
            continue;
        if (size < format[i].header)
            return qn_fail(QN_ERR_FORMAT, "token file: found %lld bytes, expected a header of %lld",
                           (long long)size, (long long)format[i].header);
        QN_TRY(format[i].parse(p, size, &t));
        if (raw != QN_RAW_NONE)
            return qn_fail(QN_ERR_DATA,
                           "token file: found a header (%s), the configuration states a "
                           "file without one",
                           t.format);
        QN_TRY(settle_vocab(&t, vocab_size));
        *out = t;
        return QN_OK;
    }
    QN_TRY(parse_raw(p, size, raw, vocab_size, &t));
    QN_TRY(settle_vocab(&t, vocab_size));
    *out = t;
    return QN_OK;
}
