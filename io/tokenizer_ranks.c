/* tokenizer_ranks.c — tiktoken's files: a line "BASE64 RANK" for each token, rank and id in one.
 *
 * A file names neither its split pattern nor its special tokens, so it is known by its number of
 * tokens. Adjacent parts are merged where their bytes make a token, the lowest rank first; a piece
 * that is a token as a whole is that token.
 */
#include "io/tokenizer_bpe.h"

#include <stdio.h>
#include <string.h>

typedef struct special {
    int32_t id;
    const char *text;
} special;

typedef struct encoding {
    const char *name;
    int64_t tokens;
    int pattern; /* of qni_scan_regex */
    special token[12];
    int32_t bos, eos, pad; /* -1: none; BOS is put before every text */
    int32_t reserved, end; /* ids from..end not told above: <|reserved_special_token_N|> */
} encoding;

enum { MAX_RANK_BYTES = 1024 };

static const encoding encodings[] = {
    {"r50k_base", 50256, 0, {{50256, "<|endoftext|>"}}, -1, 50256, -1, 0, 0},
    {"p50k_base", 50280, 0, {{50256, "<|endoftext|>"}}, -1, 50256, -1, 0, 0},
    {"cl100k_base",
     100256,
     1,
     {{100257, "<|endoftext|>"},
      {100258, "<|fim_prefix|>"},
      {100259, "<|fim_middle|>"},
      {100260, "<|fim_suffix|>"},
      {100276, "<|endofprompt|>"}},
     -1,
     100257,
     -1,
     0,
     0},
    {"o200k_base",
     199998,
     3,
     {{199999, "<|endoftext|>"}, {200018, "<|endofprompt|>"}},
     -1,
     199999,
     -1,
     0,
     0},
    {"llama3",
     128000,
     1,
     {{128000, "<|begin_of_text|>"},
      {128001, "<|end_of_text|>"},
      {128004, "<|finetune_right_pad_id|>"},
      {128006, "<|start_header_id|>"},
      {128007, "<|end_header_id|>"},
      {128008, "<|eom_id|>"},
      {128009, "<|eot_id|>"},
      {128010, "<|python_tag|>"}},
     128000,
     128001,
     128004,
     128000,
     128256},
};

/* ---- lines ----------------------------------------------------------------------------------- */

typedef struct rank_line {
    char bytes[MAX_RANK_BYTES];
    int64_t n, rank;
} rank_line;

/* Reads the line at *at, which moves behind it. */
static qn_status read_line(const qni_bytes *f, int64_t number, int64_t *at, rank_line *out) {
    const char *p = f->data + *at, *end = f->data + f->size;
    const char *newline = memchr(p, '\n', (size_t)(end - p));
    const char *stop = newline ? newline : end, *space = memchr(p, ' ', (size_t)(stop - p));
    *at = newline ? newline + 1 - f->data : f->size;
    int64_t digits = space ? stop - space - 1 : 0;
    if (digits >= 1 && digits <= 8 && space - p <= MAX_RANK_BYTES) {
        out->n = qni_base64(p, space - p, out->bytes);
        out->rank = 0;
        for (const char *d = space + 1; d < stop; d++)
            out->rank = *d >= '0' && *d <= '9' && out->rank >= 0 ? 10 * out->rank + (*d - '0') : -1;
        if (out->n > 0 && out->rank >= 0) return QN_OK;
    }
    return qn_fail(QN_ERR_FORMAT, "%s:%lld: expected \"BASE64 RANK\"", f->name, (long long)number);
}

bool qni_is_ranks(const qni_bytes *f) {
    int64_t at = 0;
    rank_line line;
    return f->size > 0 && read_line(f, 1, &at, &line) == QN_OK;
}

static qn_status read_ranks(qn_tokenizer *t, qni_bpe *m, const qni_bytes *f) {
    rank_line line;
    char spelled[2 * MAX_RANK_BYTES];
    int64_t number = 1;
    for (int64_t at = 0; at < f->size; number++) {
        QN_TRY(read_line(f, number, &at, &line));
        int64_t n = qni_spell_bytes(line.bytes, line.n, spelled);
        qn_status s = qni_table_set(&m->raw, line.rank, line.bytes, line.n);
        if (s == QN_OK) s = qni_table_set(&t->table, line.rank, spelled, n);
        if (s != QN_OK) return qn_fail_prefix(s, "%s:%lld", f->name, (long long)number);
        if (line.n > m->longest) m->longest = (int32_t)line.n;
    }
    for (int i = 0; i < 256; i++) {
        char byte = (char)i;
        m->byte[i] = qni_table_find(&m->raw, &byte, 1);
        if (m->byte[i] < 0)
            return qn_fail(QN_ERR_FORMAT, "%s: the byte 0x%02X has no rank", f->name, (unsigned)i);
    }
    return QN_OK;
}

/* ---- the rest -------------------------------------------------------------------------------- */

static qn_status add_special(qn_tokenizer *t, int32_t id, const char *text) {
    return qni_add_token(
        t, &(qni_added){.text = text, .bytes = (int32_t)strlen(text), .id = id, .special = true});
}

static qn_status add_specials(qn_tokenizer *t, const encoding *e) {
    for (const special *s = e->token; s->text; s++) QN_TRY(add_special(t, s->id, s->text));
    int n = 0;
    for (int32_t id = e->reserved; id < e->end; id++) {
        char text[64];
        int64_t bytes;
        if (qn_tokenizer_token(t, id, &bytes)) continue;
        snprintf(text, sizeof text, "<|reserved_special_token_%d|>", n++);
        QN_TRY(add_special(t, id, text));
    }
    t->role[QN_TOKEN_BOS] = e->bos;
    t->role[QN_TOKEN_EOS] = e->eos;
    t->role[QN_TOKEN_PAD] = e->pad;
    if (e->bos >= 0) {
        t->single = (qni_template){{{e->bos, 0}, {-1, 0}}, 2};
        t->pair = (qni_template){{{e->bos, 0}, {-1, 0}, {-2, 1}}, 3};
    }
    return QN_OK;
}

static const encoding *find_encoding(int64_t tokens) {
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++)
        if (encodings[i].tokens == tokens) return &encodings[i];
    return NULL;
}

qn_status qni_read_ranks(qn_tokenizer *t, const qni_bytes *file) {
    qni_bpe *m = NULL;
    int64_t lines = 0;
    for (int64_t i = 0; i < file->size; i++) lines += file->data[i] == '\n';
    QN_TRY(qni_bpe_create(t, 0, &m));
    QN_TRY(qni_table_create(t->arena, lines + 512, &t->table));
    QN_TRY(qni_table_create(t->arena, lines + 512, &m->raw));
    QN_TRY(read_ranks(t, m, file));
    const encoding *e = find_encoding(t->table.used);
    if (!e)
        return qn_fail(QN_ERR_FORMAT,
                       "%s: found %lld ranks, expected those of r50k_base (50256), p50k_base "
                       "(50280), cl100k_base (100256), o200k_base (199998) or llama3 (128000)",
                       file->name, (long long)t->table.used);
    QN_TRY(qni_add_pattern(t, qni_scan_regex(e->pattern)));
    QN_TRY(qni_add_byte_decoder(t));
    m->by_rank = m->bytes = m->ignore_merges = true;
    QN_TRY(qni_bpe_use(m, t));
    return add_specials(t, e);
}
