/* tokenizer_unigram.c — Unigram models (Kudo 2018): of all ways to cut a piece into tokens the one
 * with the largest sum of scores, by Viterbi over the bytes.
 *
 * best[e] is the best path that ends before byte e; a path is extended by every token that begins
 * where it ends, found by one walk through the trie, so the time is the number of bytes times the
 * length of a token. A character that is no token by itself is unknown, at the lowest score less
 * 10.
 * Where two paths are equally good the one found first stays.
 *
 * Two references, which differ in the last bit and about what is unknown:
 * - SentencePiece keeps path scores in f32 and compares in f64, before it rounds; user-defined
 *   symbols score 0.1 below their length times the highest score; every unknown character becomes
 *   its bytes, or a run of them one unknown token. Measured: the same cuts as its versions 0.1.97
 *   to 0.2.1 in all texts; 0.2.3 keeps f64 and takes another of two equal cuts, as of `.......`, in
 *   one text of 600.
 * - Hugging Face tokenizers computes in f64; a run of unknown characters is looked up as one token
 *   before it becomes bytes or one unknown token.
 */
#include "io/tokenizer_unigram.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct unigram {
    qni_model model;
    qni_trie trie;
    const double *score; /* by id */
    double unknown_score;
    int32_t unknown;   /* -1: none */
    int32_t byte[256]; /* ids of <0x00>...; used if `bytes` */
    bool bytes;
    bool sentencepiece;
} unigram;

typedef struct node { /* the best path that ends before a byte */
    double score;
    int64_t start; /* of its last token; -1: no path yet */
    int32_t id;
} node;

static void extend(const unigram *u, node *to, double score, int64_t start, int32_t id) {
    if (to->start >= 0 && !(score > to->score)) return;
    *to = (node){u->sentencepiece ? (double)(float)score : score, start, id};
}

static int64_t char_length(const char *text, int64_t at, int64_t bytes) {
    int length;
    qni_char_at(text, at, &length);
    return length < bytes - at ? length : bytes - at;
}

/* Fills best[1..bytes]. */
static qn_status find_paths(const unigram *u, const char *text, int64_t bytes, node *best) {
    for (int64_t i = 0; i <= bytes; i++) best[i] = (node){0, -1, -1};
    for (int64_t at = 0; at < bytes;) {
        int64_t length = char_length(text, at, bytes);
        bool single = false;
        uint32_t place = 0;
        for (int64_t end = at; end < bytes;) {
            place = qni_trie_step(&u->trie, place, (unsigned char)text[end++]);
            if (!place) break;
            int32_t id = u->trie.unit[place].value;
            if (id < 0) continue;
            extend(u, &best[end], u->score[id] + best[at].score, at, id);
            if (end - at == length) single = true;
        }
        if (!single) {
            if (u->unknown < 0)
                return qn_fail(QN_ERR_DATA,
                               "tokenizer: found a character its vocabulary does not have, and it "
                               "has no unknown token");
            double score = u->unknown_score + best[at].score;
            if (u->sentencepiece) score = (double)(float)score;
            extend(u, &best[at + length], score, at, u->unknown);
        }
        at += length;
    }
    return QN_OK;
}

static bool has_bytes(const unigram *u, const char *text, int64_t n) {
    if (!u->bytes) return false;
    for (int64_t i = 0; i < n; i++)
        if (u->byte[(unsigned char)text[i]] < 0) return false;
    return true;
}

/* Unknown characters text[0..n), n >= 1. */
static void put_unknown(const unigram *u, const char *text, int64_t n, qni_tokens *out) {
    int32_t whole = u->sentencepiece ? -1 : qni_trie_find(&u->trie, text, n);
    if (whole < 0 && has_bytes(u, text, n)) {
        for (int64_t i = 0; i < n; i++) qni_tokens_put(out, u->byte[(unsigned char)text[i]], 1);
        return;
    }
    qni_tokens_put(out, whole < 0 ? u->unknown : whole, n);
}

static qn_status encode(const qni_model *self, qni_memory *memory, const char *piece, int64_t bytes,
                        qni_tokens *out) {
    const unigram *u = (const unigram *)self;
    node *best = qni_memory_get(memory, (size_t)(bytes + 1) * sizeof *best);
    if (!best) return QN_ERR_OOM;
    QN_TRY(find_paths(u, piece, bytes, best));
    /* Turn the links around: from the start of a token to its end. */
    int64_t end = bytes, next = -1;
    while (end > 0) {
        int64_t start = best[end].start;
        best[end].start = next;
        next = end;
        end = start;
    }
    QN_TRY(qni_tokens_reserve(out, bytes));
    int64_t at = 0, unknown = 0; /* where the open run of unknown characters begins */
    for (int64_t e = next; e >= 0; e = best[e].start) {
        if (best[e].id != u->unknown || u->unknown < 0) {
            if (unknown < at) put_unknown(u, piece + unknown, at - unknown, out);
            qni_tokens_put(out, best[e].id, e - at);
            unknown = e;
        }
        at = e;
    }
    if (unknown < at) put_unknown(u, piece + unknown, at - unknown, out);
    return QN_OK;
}

qn_status qni_unigram_create(qn_tokenizer *t, const qni_unigram_options *o, const qni_model **out) {
    qn_status status = QN_OK;
    unigram *u = QNI_STEP(t, unigram);
    double *score = qn_setup_alloc(t->arena, (size_t)(o->n > 0 ? o->n : 1) * sizeof *score);
    qni_trie_key *keys = qn_alloc((size_t)(o->n > 0 ? o->n : 1) * sizeof *keys, "vocabulary");
    if (!u || !score || !keys) {
        status = QN_ERR_OOM;
        goto done;
    }
    int64_t n = 0;
    for (int64_t id = 0; id < o->n; id++) {
        score[id] = o->score[id];
        if (o->usable && !o->usable[id]) continue;
        keys[n++] = (qni_trie_key){t->table.entry[id].text, t->table.entry[id].bytes, (int32_t)id};
    }
    QN_TRY_GOTO(qni_trie_build(t->arena, keys, n, &u->trie));
    u->model.encode = encode;
    u->model.remember = true;
    u->score = score;
    u->unknown = o->unknown;
    u->unknown_score = o->unknown_score;
    u->bytes = o->byte_fallback;
    u->sentencepiece = o->sentencepiece;
    qni_byte_tokens(&t->table, u->byte);
    *out = &u->model;
done:
    qn_free(keys);
    return status;
}

int qni_byte_tokens(const qni_table *table, int32_t id[256]) {
    int found = 0;
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)b);
        id[b] = qni_table_find(table, name, 6);
        found += id[b] >= 0;
    }
    return found;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

static qn_status read_piece(qn_tokenizer *t, const cJSON *row, int64_t id, double *score) {
    const cJSON *text = cJSON_IsArray(row) ? row->child : NULL;
    const cJSON *value = text ? text->next : NULL;
    if (!cJSON_IsString(text) || !cJSON_IsNumber(value) || value->next)
        return qni_json_fail(row, "expected [\"piece\", score]");
    if (!isfinite(value->valuedouble)) return qni_json_fail(value, "expected a finite score");
    *score = value->valuedouble;
    return qni_table_set(&t->table, id, text->valuestring, (int64_t)strlen(text->valuestring));
}

qn_status qni_read_unigram(qn_tokenizer *t, const cJSON *json) {
    const cJSON *vocab = qn_json_get(json, "vocab");
    int64_t n = cJSON_IsArray(vocab) ? cJSON_GetArraySize(vocab) : 0, unknown = -1, id = 0;
    bool byte_fallback = false;
    if (n < 1)
        return qni_json_fail(vocab ? vocab : json, "vocab: expected [[\"piece\", score], ...]");
    QN_TRY(qni_json_int(json, "unk_id", true, 0, n - 1, &unknown));
    QN_TRY(qni_json_bool(json, "byte_fallback", true, &byte_fallback));
    double *score = qn_setup_alloc(t->arena, (size_t)n * sizeof *score), lowest = INFINITY;
    if (!score) return QN_ERR_OOM;
    QN_TRY(qni_table_create(t->arena, n, &t->table));
    for (const cJSON *row = vocab->child; row; row = row->next, id++) {
        QN_TRY(read_piece(t, row, id, &score[id]));
        if (score[id] < lowest) lowest = score[id];
    }
    t->model_size = n;
    t->role[QN_TOKEN_UNK] = (int32_t)unknown;
    qni_unigram_options o = {.n = n,
                             .score = score,
                             .unknown = (int32_t)unknown,
                             .unknown_score = lowest - QNI_UNKNOWN_PENALTY,
                             .byte_fallback = byte_fallback};
    return qni_unigram_create(t, &o, &t->model);
}
