/* tokenizer_wordpiece.c — WordPiece: the longest token that begins a word, then the longest that
 * continues it (spelt with a prefix, `##`), and so on; a word where that fails anywhere is one
 * unknown token. BERT's `vocab.txt`, and tokenizer.json's "WordPiece".
 */
#include "io/tokenizer_wordpiece.h"

#include "io/tokenizer_trie.h"

#include <string.h>

typedef struct wordpiece {
    qni_model model;
    qni_trie trie;
    uint32_t inside; /* the node of the prefix; 0 if nothing but the beginning can be matched */
    bool plain;      /* the prefix is empty: the root is where continuations begin */
    int32_t unknown;
    int64_t max_chars;
} wordpiece;

/* The longest token below `node` at the beginning of the text; its bytes, 0 if there is none. */
static int64_t longest(const qni_trie *t, uint32_t node, const char *text, int64_t bytes,
                       int32_t *id) {
    int64_t found = 0;
    for (int64_t i = 0; i < bytes; i++) {
        node = qni_trie_step(t, node, (unsigned char)text[i]);
        if (!node) break;
        if (t->unit[node].value < 0) continue;
        *id = t->unit[node].value;
        found = i + 1;
    }
    return found;
}

static bool is_long(const wordpiece *w, const char *piece, int64_t bytes) {
    int64_t chars = 0;
    if (bytes <= w->max_chars) return false;
    for (int64_t i = 0; i < bytes; i++) chars += ((unsigned char)piece[i] & 0xC0) != 0x80;
    return chars > w->max_chars;
}

static qn_status encode(const qni_model *self, qni_memory *memory, const char *piece, int64_t bytes,
                        qni_tokens *out) {
    (void)memory;
    const wordpiece *w = (const wordpiece *)self;
    QN_TRY(qni_tokens_reserve(out, bytes));
    int64_t n = out->n, at = is_long(w, piece, bytes) ? -1 : 0;
    while (at >= 0 && at < bytes) {
        int32_t id = -1;
        int64_t length = 0;
        if (at == 0 || w->plain || w->inside)
            length = longest(&w->trie, at ? w->inside : 0, piece + at, bytes - at, &id);
        if (length) qni_tokens_put(out, id, length);
        at = length ? at + length : -1;
    }
    if (at >= 0) return QN_OK;
    out->n = n;
    qni_tokens_put(out, w->unknown, bytes);
    return QN_OK;
}

qn_status qni_wordpiece_create(qn_tokenizer *t, const char *unknown, const char *prefix,
                               int64_t max_chars) {
    qn_status status = QN_OK;
    wordpiece *w = QNI_STEP(t, wordpiece);
    int64_t n = 0;
    qni_trie_key *keys = qn_alloc((size_t)(t->table.size + 1) * sizeof *keys, "vocabulary");
    if (!w || !keys) {
        status = QN_ERR_OOM;
        goto done;
    }
    for (int64_t id = 0; id < t->table.size; id++) {
        const qni_entry *e = &t->table.entry[id];
        if (e->text) keys[n++] = (qni_trie_key){e->text, e->bytes, (int32_t)id};
    }
    QN_TRY_GOTO(qni_trie_build(t->arena, keys, n, &w->trie));
    w->unknown = qni_table_find(&t->table, unknown, (int64_t)strlen(unknown));
    if (w->unknown < 0) {
        status = qn_fail(QN_ERR_FORMAT, "vocabulary: found no unknown token \"%.64s\"", unknown);
        goto done;
    }
    w->plain = prefix[0] == '\0';
    for (const char *p = prefix; *p; p++) {
        w->inside = qni_trie_step(&w->trie, w->inside, (unsigned char)*p);
        if (!w->inside) break;
    }
    w->max_chars = max_chars;
    w->model.encode = encode;
    w->model.remember = true;
    t->model = &w->model;
    t->model_size = t->table.size;
    t->role[QN_TOKEN_UNK] = w->unknown;
done:
    qn_free(keys);
    return status;
}

/* ---- tokenizer.json -------------------------------------------------------------------------- */

qn_status qni_read_wordpiece(qn_tokenizer *t, const cJSON *json) {
    const char *unknown = "[UNK]", *prefix = "##";
    int64_t max_chars = 100;
    const cJSON *vocab = qn_json_get(json, "vocab");
    if (!vocab) return qni_json_fail(json, "WordPiece: expected \"vocab\"");
    QN_TRY(qni_json_string(json, "unk_token", true, &unknown));
    QN_TRY(qni_json_string(json, "continuing_subword_prefix", true, &prefix));
    QN_TRY(qni_json_int(json, "max_input_chars_per_word", true, 0, INT64_MAX, &max_chars));
    QN_TRY(qni_json_vocab(t, vocab));
    return qni_wordpiece_create(t, unknown, prefix, max_chars);
}

/* ---- vocab.txt ------------------------------------------------------------------------------- */

static qn_status read_lines(qn_tokenizer *t, const qni_bytes *file) {
    int64_t id = 0;
    if (!qn_utf8_valid(file->data, (size_t)file->size))
        return qn_fail(QN_ERR_FORMAT, "%s: expected UTF-8", file->name);
    QN_TRY(qni_table_create(t->arena, file->size / 8, &t->table));
    for (int64_t at = 0; at < file->size; id++) {
        const char *line = file->data + at;
        const char *end = memchr(line, '\n', (size_t)(file->size - at));
        int64_t length = end ? end - line : file->size - at;
        at += length + 1;
        if (length > 0 && line[length - 1] == '\r') length--;
        qn_status status = qni_table_set(&t->table, id, line, length);
        if (status != QN_OK)
            return qn_fail_prefix(status, "%s:%lld", file->name, (long long)id + 1);
    }
    return QN_OK;
}

static qn_status add_component(qn_tokenizer *t, const qni_component *list, const char *type) {
    while (list->type && strcmp(list->type, type) != 0) list++;
    if (!list->type) return qn_fail(QN_ERR_INTERNAL, "tokenizer: no component %s", type);
    return list->read(t, NULL);
}

typedef struct bert_options {
    bool lowercase, chinese, strip_accents;
} bert_options;

static qn_status read_options(const qn_tokenizer *t, bert_options *o) {
    const qni_bytes *file = qni_file_find(&t->files, "tokenizer_config.json");
    qn_setup *arena = NULL;
    cJSON *json = NULL;
    *o = (bert_options){true, true, true};
    if (!file) return QN_OK;
    QN_TRY(qn_setup_create(file->name, &arena));
    qn_json_options options = {.name = file->name, .max_bytes = QNI_MAX_FILE};
    qn_status status = qn_json_parse(arena, file->data, (size_t)file->size, &options, &json);
    if (status == QN_OK) status = qni_json_bool(json, "do_lower_case", true, &o->lowercase);
    o->strip_accents = o->lowercase;
    if (status == QN_OK) status = qni_json_bool(json, "tokenize_chinese_chars", true, &o->chinese);
    if (status == QN_OK) status = qni_json_bool(json, "strip_accents", true, &o->strip_accents);
    qn_setup_free(arena);
    return status;
}

static qn_status add_specials(qn_tokenizer *t) {
    static const char *const names[] = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
    int32_t id[5];
    for (int i = 0; i < 5; i++) {
        int32_t bytes = (int32_t)strlen(names[i]);
        id[i] = qni_table_find(&t->table, names[i], bytes);
        qni_added a = {.text = names[i], .bytes = bytes, .id = id[i], .special = true};
        if (id[i] >= 0) QN_TRY(qni_add_token(t, &a));
    }
    t->role[QN_TOKEN_PAD] = id[0];
    int32_t cls = id[2], sep = id[3];
    if (cls < 0 || sep < 0) return QN_OK;
    t->single = (qni_template){{{cls, 0}, {-1, 0}, {sep, 0}}, 3};
    t->pair = (qni_template){{{cls, 0}, {-1, 0}, {sep, 0}, {-2, 1}, {sep, 1}}, 5};
    return QN_OK;
}

qn_status qni_read_vocab_txt(qn_tokenizer *t, const qni_bytes *file) {
    bert_options o;
    QN_TRY(read_options(t, &o));
    QN_TRY(read_lines(t, file));
    QN_TRY(qni_wordpiece_create(t, "[UNK]", "##", 100));
    QN_TRY(qni_add_bert(t, true, o.chinese, o.strip_accents, o.lowercase));
    QN_TRY(add_component(t, qni_splitters, "BertPreTokenizer"));
    QN_TRY(add_component(t, qni_decoders, "WordPiece"));
    return add_specials(t);
}
