/* tokenizer_train.c — a trainer: its options, the words of its texts, the files it writes. */
#include "io/file.h"
#include "io/tokenizer_train_parts.h"

#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

void *qni_train_grow(void *old, int64_t *capacity, int64_t need, size_t size) {
    int64_t to = *capacity ? *capacity : 256;
    while (to < need) to *= 2;
    void *p =
        qn_realloc(old, (size_t)*capacity * size, (size_t)to * size, "training of a tokenizer");
    if (p) *capacity = to;
    return p;
}

/* ---- words ----------------------------------------------------------------------------------- */

static int64_t slot_of(const qni_words *w, uint64_t hash, const char *text, int64_t bytes) {
    uint64_t mask = (uint64_t)w->slots - 1, at = hash & mask;
    for (; w->slot[at] >= 0; at = (at + 1) & mask) {
        const qni_word *x = &w->word[w->slot[at]];
        if (x->hash == hash && x->bytes == bytes &&
            memcmp(w->text + x->start, text, (size_t)bytes) == 0)
            break;
    }
    return (int64_t)at;
}

static qn_status make_slots(qni_words *w, int64_t slots) {
    int32_t *slot = qn_alloc((size_t)slots * sizeof *slot, "words");
    if (!slot) return QN_ERR_OOM;
    memset(slot, -1, (size_t)slots * sizeof *slot);
    for (int64_t i = 0; i < w->n; i++) {
        uint64_t at = w->word[i].hash & ((uint64_t)slots - 1);
        while (slot[at] >= 0) at = (at + 1) & ((uint64_t)slots - 1);
        slot[at] = (int32_t)i;
    }
    qn_free(w->slot);
    w->slot = slot;
    w->slots = slots;
    return QN_OK;
}

qn_status qni_words_add(qni_words *w, const char *text, int64_t bytes) {
    uint64_t hash = XXH3_64bits(text, (size_t)bytes);
    if (2 * (w->n + 1) > w->slots) QN_TRY(make_slots(w, w->slots ? 2 * w->slots : 1 << 12));
    int64_t at = slot_of(w, hash, text, bytes);
    w->total++;
    if (w->slot[at] >= 0) {
        w->word[w->slot[at]].count++;
        return QN_OK;
    }
    if (bytes > INT32_MAX || w->n == INT32_MAX)
        return qn_fail(QN_ERR_DATA, "tokenizer training: found a word of %lld bytes, or too many",
                       (long long)bytes);
    if (w->n == w->capacity) {
        qni_word *word = qni_train_grow(w->word, &w->capacity, w->n + 1, sizeof *word);
        if (!word) return QN_ERR_OOM;
        w->word = word;
    }
    if (w->bytes + bytes > w->text_capacity) {
        char *grown = qni_train_grow(w->text, &w->text_capacity, w->bytes + bytes, 1);
        if (!grown) return QN_ERR_OOM;
        w->text = grown;
    }
    memcpy(w->text + w->bytes, text, (size_t)bytes);
    w->word[w->n] = (qni_word){hash, w->bytes, bytes, 1};
    w->slot[at] = (int32_t)w->n++;
    w->bytes += bytes;
    return QN_OK;
}

void qni_words_free(qni_words *w) {
    qn_free(w->word);
    qn_free(w->text);
    qn_free(w->slot);
    *w = (qni_words){0};
}

/* ---- the trainer ----------------------------------------------------------------------------- */

static qn_status check(const qn_bpe_train_options *o) {
    if (o->vocab_size < 256 + o->n_special || o->vocab_size > QNI_MAX_TOKENS)
        return qn_fail(QN_ERR_USAGE,
                       "vocabulary size: found %lld, expected %lld (256 bytes and the special "
                       "tokens) to %d",
                       (long long)o->vocab_size, (long long)(256 + o->n_special), QNI_MAX_TOKENS);
    if (o->min_frequency < 0)
        return qn_fail(QN_ERR_USAGE, "minimum frequency: found %lld, expected 0 or more",
                       (long long)o->min_frequency);
    for (int64_t i = 0; i < o->n_special; i++)
        if (!*o->special[i] || !qn_utf8_valid(o->special[i], strlen(o->special[i])))
            return qn_fail(QN_ERR_USAGE, "special token %lld: expected UTF-8 that is not empty",
                           (long long)i);
    return QN_OK;
}

/* Special tokens, then the bytes in the order of the characters that stand for them. */
static qn_status enter_tokens(qn_bpe_trainer *t, const qn_bpe_train_options *o) {
    qni_table *table = &t->shell.table;
    QN_TRY(qni_table_create(t->shell.arena, o->vocab_size, table));
    for (int64_t i = 0; i < o->n_special; i++)
        if (qni_table_set(table, i, o->special[i], (int64_t)strlen(o->special[i])) != QN_OK)
            return qn_fail_prefix(QN_ERR_USAGE, "special tokens");
    for (uint32_t c = 0; c < 0x100 + 68; c++) {
        char text[4];
        int n = qn_utf8_write(c, text);
        if (qni_character_byte(c) < 0 || qni_table_find(table, text, n) >= 0) continue;
        QN_TRY(qni_table_set(table, table->size, text, n));
    }
    return QN_OK;
}

static qn_status set_pattern(qn_bpe_trainer *t, const char *pattern) {
    t->scan = qni_scan_known(pattern ? pattern : QNI_GPT2_PATTERN);
    if (!pattern) return QN_OK;
    t->pattern = qn_setup_strdup(t->shell.arena, pattern);
    if (!t->pattern) return QN_ERR_OOM;
    return t->scan ? QN_OK : qni_regex_compile(&t->shell, pattern, &t->regex);
}

qn_status qn_bpe_trainer_create(const qn_bpe_train_options *o, qn_bpe_trainer **out) {
    QN_TRY(check(o));
    qn_bpe_trainer *t = qn_alloc(sizeof *t, "tokenizer trainer");
    if (!t) return QN_ERR_OOM;
    t->vocab_size = o->vocab_size;
    t->min_frequency = o->min_frequency;
    t->n_special = o->n_special;
    t->lines = o->lines;
    qn_status status = qn_setup_create("tokenizer trainer", &t->shell.arena);
    if (status == QN_OK) status = enter_tokens(t, o);
    if (status == QN_OK) status = set_pattern(t, o->pattern);
    if (status != QN_OK) {
        qn_bpe_trainer_free(t);
        return status;
    }
    *out = t;
    return QN_OK;
}

void qn_bpe_trainer_free(qn_bpe_trainer *t) {
    if (!t) return;
    for (int i = 0; i < t->shell.n_regexes; i++) qni_regex_release(t->shell.regex[i]);
    qni_words_free(&t->words);
    qn_free(t->merges.list);
    qn_setup_free(t->shell.arena);
    qn_free(t);
}

/* ---- texts ----------------------------------------------------------------------------------- */

/* The words of one text; what lies between the matches of a pattern are words too. */
static qn_status add_words(qn_bpe_trainer *t, const char *text, int64_t bytes) {
    for (int64_t at = 0, end; t->scan && at < bytes; at = end) {
        end = t->scan(text, at, bytes);
        QN_TRY(qni_words_add(&t->words, text + at, end - at));
    }
    for (int64_t at = 0, begin, end; t->regex && at < bytes; at = end) {
        QN_TRY(qni_regex_find(t->regex, text, bytes, at, &begin, &end));
        if (begin < 0) begin = end = bytes;
        if (begin > at) QN_TRY(qni_words_add(&t->words, text + at, begin - at));
        if (end > begin) QN_TRY(qni_words_add(&t->words, text + begin, end - begin));
        if (end > begin || end >= bytes) continue;
        int length; /* an empty match: the character behind it is a word of its own */
        (void)qni_char_at(text, end, &length);
        QN_TRY(qni_words_add(&t->words, text + end, length));
        end += length;
    }
    return QN_OK;
}

/* The byte where text stops being UTF-8. */
static int64_t first_bad_byte(const char *text, int64_t bytes) {
    int64_t at = 0;
    uint32_t c;
    for (int n; at < bytes; at += n)
        if (!(n = qn_utf8_next((const unsigned char *)text + at, bytes - at, &c))) break;
    return at;
}

qn_status qn_bpe_trainer_feed(qn_bpe_trainer *t, const char *text, int64_t bytes) {
    if (!qn_utf8_valid(text, (size_t)bytes))
        return qn_fail(QN_ERR_DATA, "byte %lld: expected UTF-8",
                       (long long)first_bad_byte(text, bytes));
    t->bytes += bytes;
    if (!t->lines) return add_words(t, text, bytes);
    for (int64_t at = 0, end; at < bytes; at = end) {
        const char *newline = memchr(text + at, '\n', (size_t)(bytes - at));
        end = newline ? newline - text + 1 : bytes;
        QN_TRY(add_words(t, text + at, end - at));
    }
    return QN_OK;
}

qn_status qn_bpe_trainer_run(qn_bpe_trainer *t) {
    int32_t byte_id[256];
    for (int b = 0; b < 256; b++) {
        char text[4];
        byte_id[b] =
            qni_table_find(&t->shell.table, text, qn_utf8_write(qni_byte_character(b), text));
    }
    return qni_learn_merges(&t->words, byte_id, t->vocab_size, t->min_frequency, &t->shell.table,
                            &t->merges);
}

qn_bpe_train_size qn_bpe_trainer_size(const qn_bpe_trainer *t) {
    return (qn_bpe_train_size){t->bytes, t->words.total, t->words.n, t->shell.table.size,
                               t->merges.n};
}

/* ---- files ----------------------------------------------------------------------------------- */

static void put_spelling(qn_text *out, const qn_bpe_trainer *t, int32_t id) {
    const qni_entry *e = &t->shell.table.entry[id];
    qn_text_json_chars(out, e->text, (size_t)e->bytes);
}

static void put_vocab(qn_text *out, const qn_bpe_trainer *t) {
    qn_text_add(out, "{");
    for (int64_t i = 0; i < t->shell.table.size; i++) {
        qn_text_add(out, i ? ",\"" : "\"");
        put_spelling(out, t, (int32_t)i);
        qn_text_printf(out, "\":%lld", (long long)i);
    }
    qn_text_add(out, "}");
}

static void put_merges_txt(qn_text *out, const qn_bpe_trainer *t) {
    qn_text_add(out, "#version: 0.2\n");
    for (int64_t i = 0; i < t->merges.n; i++) {
        const qni_entry *a = &t->shell.table.entry[t->merges.list[i].a];
        const qni_entry *b = &t->shell.table.entry[t->merges.list[i].b];
        qn_text_printf(out, "%s %s\n", a->text, b->text);
    }
}

static void put_splitter(qn_text *out, const qn_bpe_trainer *t) {
    static const char bytes[] = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                                "\"trim_offsets\":true,\"use_regex\":%s}";
    if (!t->pattern) {
        qn_text_printf(out, bytes, "true");
        return;
    }
    qn_text_add(out, "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":"
                     "{\"Regex\":");
    qn_text_json_string(out, t->pattern);
    qn_text_add(out, "},\"behavior\":\"Isolated\",\"invert\":false},");
    qn_text_printf(out, bytes, "false");
    qn_text_add(out, "]}");
}

static void put_tokenizer(qn_text *out, const qn_bpe_trainer *t) {
    qn_text_add(out,
                "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":[");
    for (int64_t i = 0; i < t->n_special; i++) {
        qn_text_printf(out, "%s{\"id\":%lld,\"content\":\"", i ? "," : "", (long long)i);
        put_spelling(out, t, (int32_t)i);
        qn_text_add(out, "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
                         "\"normalized\":false,\"special\":true}");
    }
    qn_text_add(out, "],\"normalizer\":null,\"pre_tokenizer\":");
    put_splitter(out, t);
    qn_text_add(out, ",\"post_processor\":null,\"decoder\":{\"type\":\"ByteLevel\","
                     "\"add_prefix_space\":true,\"trim_offsets\":true,\"use_regex\":true},"
                     "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":null,"
                     "\"continuing_subword_prefix\":null,\"end_of_word_suffix\":null,"
                     "\"fuse_unk\":false,\"byte_fallback\":false,\"ignore_merges\":false,"
                     "\"vocab\":");
    put_vocab(out, t);
    qn_text_add(out, ",\"merges\":[");
    for (int64_t i = 0; i < t->merges.n; i++) {
        qn_text_add(out, i ? ",[\"" : "[\"");
        put_spelling(out, t, t->merges.list[i].a);
        qn_text_add(out, "\",\"");
        put_spelling(out, t, t->merges.list[i].b);
        qn_text_add(out, "\"]");
    }
    qn_text_add(out, "]}}\n");
}

static qn_status save(const qn_bpe_trainer *t, const char *directory, const char *name,
                      void (*put)(qn_text *out, const qn_bpe_trainer *t)) {
    char path[QN_PATH_MAX];
    qn_text text = {0};
    QN_TRY(qn_path_format(path, sizeof path, "%s/%s", directory, name));
    put(&text, t);
    qn_status status = text.status;
    if (status == QN_OK) status = qn_file_replace(path, text.data, text.length);
    qn_text_free(&text);
    return status;
}

qn_status qn_bpe_trainer_save(const qn_bpe_trainer *t, const char *directory) {
    QN_TRY(qn_dir_create(directory));
    QN_TRY(save(t, directory, "vocab.json", put_vocab));
    QN_TRY(save(t, directory, "merges.txt", put_merges_txt));
    return save(t, directory, "tokenizer.json", put_tokenizer);
}
