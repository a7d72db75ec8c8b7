/* tokenizer_merges.c — byte-level BPE from `vocab.json` and `merges.txt` (GPT-2's encoder.json and
 * vocab.bpe). What surrounds the model is told by the class that `tokenizer_config.json` names:
 * GPT-2's where it names none. */
#include "io/tokenizer_bpe.h"
#include "io/tokenizer_normalize.h"

#include <string.h>

/* One line "a b" after an optional first line "#version: ...". */
static qn_status read_lines(qn_tokenizer *t, qni_bpe *m, const qni_bytes *f) {
    int32_t rank = 0;
    int64_t number = 1;
    for (const char *p = f->data, *end = p + f->size, *next; p < end; p = next, number++) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline : end;
        next = newline ? newline + 1 : end;
        if ((number == 1 && strncmp(p, "#version", 8) == 0) || (stop == p && next == end)) continue;
        const char *space = memchr(p, ' ', (size_t)(stop - p));
        if (!space || memchr(space + 1, ' ', (size_t)(stop - space - 1)))
            return qn_fail(QN_ERR_FORMAT, "%s:%lld: expected two tokens and one space between",
                           f->name, (long long)number);
        qn_status s = qni_bpe_add_text(m, t, p, space - p, space + 1, stop - space - 1, rank++);
        if (s != QN_OK) return qn_fail_prefix(s, "%s:%lld", f->name, (long long)number);
    }
    return QN_OK;
}

/* The tokens of RoBERTa and the models after it. */
static qn_status add_roberta(qn_tokenizer *t) {
    static const char *const names[] = {"<s>", "<pad>", "</s>", "<unk>", "<mask>"};
    int32_t id[5];
    for (int i = 0; i < 5; i++) {
        id[i] = qni_table_find(&t->table, names[i], (int64_t)strlen(names[i]));
        if (id[i] < 0)
            return qn_fail(QN_ERR_FORMAT, "vocab.json: \"%s\" is not in it, RoBERTa has it",
                           names[i]);
        QN_TRY(qni_add_token(t, &(qni_added){.text = names[i],
                                             .bytes = (int32_t)strlen(names[i]),
                                             .id = id[i],
                                             .special = true,
                                             .lstrip = i == 4}));
    }
    t->role[QN_TOKEN_BOS] = id[0];
    t->role[QN_TOKEN_EOS] = id[2];
    t->role[QN_TOKEN_PAD] = id[1];
    t->role[QN_TOKEN_UNK] = id[3];
    t->single = (qni_template){{{id[0], 0}, {-1, 0}, {id[2], 0}}, 3};
    t->pair = (qni_template){{{id[0], 0}, {-1, 0}, {id[2], 0}, {id[2], 0}, {-2, 0}, {id[2], 0}}, 6};
    return QN_OK;
}

static qn_status add_end_of_text(qn_tokenizer *t) {
    static const char text[] = "<|endoftext|>";
    int32_t id = qni_table_find(&t->table, text, sizeof text - 1);
    if (id < 0) return QN_OK;
    t->role[QN_TOKEN_EOS] = id;
    return qni_add_token(
        t, &(qni_added){.text = text, .bytes = sizeof text - 1, .id = id, .special = true});
}

qn_status qni_read_merges(qn_tokenizer *t, const qni_bytes *vocab, const qni_bytes *merges,
                          const char *class) {
    qni_bpe *m = NULL;
    qn_setup *arena = NULL;
    cJSON *json = NULL;
    int64_t lines = 1;
    for (int64_t i = 0; i < merges->size; i++) lines += merges->data[i] == '\n';
    QN_TRY(qn_setup_create(vocab->name, &arena));
    qn_json_options o = {.name = vocab->name, .max_bytes = QNI_MAX_FILE};
    qn_status status = qn_json_parse(arena, vocab->data, (size_t)vocab->size, &o, &json);
    if (status == QN_OK) status = qni_json_vocab(t, json);
    qn_setup_free(arena);
    QN_TRY(status);
    QN_TRY(qni_bpe_create(t, lines, &m));
    QN_TRY(read_lines(t, m, merges));
    bool roberta = class && (strstr(class, "Roberta") || strstr(class, "Bart"));
    bool qwen = class && strstr(class, "Qwen2");
    if (class && !roberta && !qwen && !strstr(class, "GPT2"))
        return qn_fail(QN_ERR_FORMAT,
                       "tokenizer_config.json: found the class %s, expected GPT2, Roberta, Bart or "
                       "Qwen2 for vocab.json with merges.txt",
                       class);
    if (qwen) QN_TRY(qni_add_form(t, QNI_NFC));
    if (qwen) QN_TRY(qni_add_pattern(t, qni_scan_regex(2)));
    QN_TRY(qni_add_byte_level(t, false, !qwen));
    QN_TRY(qni_add_byte_decoder(t));
    QN_TRY(qni_bpe_use(m, t));
    return roberta ? add_roberta(t) : add_end_of_text(t);
}
