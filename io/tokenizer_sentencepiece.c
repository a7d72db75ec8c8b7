/* tokenizer_sentencepiece.c — a tokenizer of a SentencePiece model: pieces into the table, one
 * normalizer, Unigram or BPE, one decoder.
 *
 * Control pieces (<s>, </s>) are special tokens. The file does not say what goes around a text: BOS
 * before it if the model has that piece, else EOS after it, as the models that come in this form
 * (Llama, Mistral; T5) want it; `tokenizer_config.json` may say otherwise.
 */
#include "io/tokenizer_sentencepiece.h"
#include "io/tokenizer_unigram.h"

#include <float.h>
#include <string.h>

bool qni_is_sentencepiece(const qni_bytes *file) { return file->size > 0 && file->data[0] == '\n'; }

static qn_status enter_pieces(qn_tokenizer *t, const qni_sp_file *f) {
    QN_TRY(qni_table_create(t->arena, f->n, &t->table));
    for (int64_t i = 0; i < f->n; i++)
        QN_TRY(qni_table_set(&t->table, i, f->piece[i].text.data, f->piece[i].text.size));
    t->model_size = f->n;
    for (int64_t i = 0; i < f->n; i++) {
        const qni_entry *e = &t->table.entry[i];
        if (f->piece[i].type != QNI_SP_CONTROL) continue;
        qni_added a = {.text = e->text, .bytes = e->bytes, .id = (int32_t)i, .special = true};
        QN_TRY(qni_add_token(t, &a));
    }
    return QN_OK;
}

static qn_status make_defined(qn_tokenizer *t, const qni_sp_file *f, qni_trie *out) {
    int64_t n = 0;
    *out = (qni_trie){0};
    for (int64_t i = 0; i < f->n; i++) n += f->piece[i].type == QNI_SP_USER_DEFINED;
    if (n == 0) return QN_OK;
    qni_trie_key *keys = qn_alloc((size_t)n * sizeof *keys, "user-defined symbols");
    if (!keys) return QN_ERR_OOM;
    n = 0;
    for (int64_t i = 0; i < f->n; i++)
        if (f->piece[i].type == QNI_SP_USER_DEFINED)
            keys[n++] = (qni_trie_key){f->piece[i].text.data, f->piece[i].text.size, (int32_t)i};
    qn_status status = qni_trie_build(t->arena, keys, n, out);
    qn_free(keys);
    return status;
}

static qn_status add_normalizer(qn_tokenizer *t, const qni_sp_file *f, const qni_trie *defined,
                                bool first_only) {
    qni_sp_normalizer *n = QNI_STEP(t, qni_sp_normalizer);
    if (!n) return QN_ERR_OOM;
    qni_sp_normalizer_init(n);
    QN_TRY(qni_charsmap_read(t->arena, f->charsmap.data, f->charsmap.size, &n->map));
    n->defined = *defined;
    n->dummy_prefix = f->dummy_prefix;
    n->remove_spaces = f->remove_spaces;
    n->escape_spaces = f->escape_spaces;
    n->space_suffix = f->space_suffix;
    n->first_only = first_only;
    return qni_add_normalizer(t, &n->base);
}

static qn_status add_decoder(qn_tokenizer *t, const qni_sp_file *f) {
    qni_sp_decoder *d = QNI_STEP(t, qni_sp_decoder);
    if (!d) return QN_ERR_OOM;
    qni_sp_decoder_init(d);
    d->table = &t->table;
    memset(d->byte, -1, sizeof d->byte);
    if (f->byte_fallback) (void)qni_byte_tokens(&t->table, d->byte);
    d->unknown = (qni_sp_bytes){t->table.entry[f->unknown].text, t->table.entry[f->unknown].bytes};
    d->unknown_surface = f->unknown_surface;
    d->dummy_prefix = f->dummy_prefix;
    d->remove_spaces = f->remove_spaces;
    return qni_add_decoder(t, &d->base);
}

static qn_status add_unigram(qn_tokenizer *t, const qni_sp_file *f) {
    double *score = qn_setup_alloc(t->arena, (size_t)f->n * sizeof *score);
    bool *usable = qn_setup_alloc(t->arena, (size_t)f->n * sizeof *usable);
    if (!score || !usable) return QN_ERR_OOM;
    float lowest = FLT_MAX, highest = FLT_MIN; /* FLT_MIN: as SentencePiece has it */
    for (int64_t i = 0; i < f->n; i++) {
        const qni_sp_piece *p = &f->piece[i];
        usable[i] = p->type == QNI_SP_NORMAL || p->type == QNI_SP_USER_DEFINED;
        score[i] = (double)p->score;
        if (p->type != QNI_SP_NORMAL) continue;
        if (p->score < lowest) lowest = p->score;
        if (p->score > highest) highest = p->score;
    }
    for (int64_t i = 0; i < f->n; i++)
        if (f->piece[i].type == QNI_SP_USER_DEFINED)
            score[i] = (double)((float)f->piece[i].text.size * highest) - 0.1;
    qni_unigram_options o = {.n = f->n,
                             .score = score,
                             .usable = usable,
                             .unknown = f->unknown,
                             .unknown_score = (double)(lowest - (float)QNI_UNKNOWN_PENALTY),
                             .byte_fallback = f->byte_fallback,
                             .sentencepiece = true};
    return qni_unigram_create(t, &o, &t->model);
}

static void set_template(qn_tokenizer *t, const qni_sp_file *f) {
    t->role[QN_TOKEN_BOS] = f->bos;
    t->role[QN_TOKEN_EOS] = f->eos;
    t->role[QN_TOKEN_PAD] = f->pad;
    t->role[QN_TOKEN_UNK] = f->unknown;
    qni_template *one = &t->single, *two = &t->pair;
    for (int text = -1; text >= -2; text--) {
        int32_t type = text == -2;
        qni_template_item part[3] = {{f->bos, type}, {text, type}, {f->eos, type}};
        int from = f->bos < 0, to = f->bos < 0 && f->eos >= 0 ? 3 : 2;
        for (int i = from; i < to; i++) {
            two->item[two->n++] = part[i];
            if (text == -1) one->item[one->n++] = part[i];
        }
    }
}

qn_status qni_read_sentencepiece(qn_tokenizer *t, const qni_bytes *file, bool first_only) {
    qni_sp_file f;
    qni_trie defined;
    QN_TRY(qni_sp_parse(t->arena, file->data, file->size, &f));
    QN_TRY(enter_pieces(t, &f));
    if (f.byte_fallback) {
        int32_t byte[256];
        int found = qni_byte_tokens(&t->table, byte);
        if (found != 256)
            return qn_fail(QN_ERR_FORMAT, "SentencePiece model: found %d of the 256 byte pieces",
                           found);
        for (int b = 0; b < 256; b++)
            if (f.piece[byte[b]].type != QNI_SP_BYTE)
                return qn_fail(QN_ERR_FORMAT, "SentencePiece model: piece <0x%02X> is no byte",
                               (unsigned)b);
    }
    QN_TRY(make_defined(t, &f, &defined));
    QN_TRY(add_normalizer(t, &f, &defined, first_only));
    if (f.model == QNI_SP_BPE)
        QN_TRY(qni_sp_bpe_create(t, &f, &defined));
    else
        QN_TRY(add_unigram(t, &f));
    QN_TRY(add_decoder(t, &f));
    set_template(t, &f);
    return QN_OK;
}
