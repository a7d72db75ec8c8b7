/* tokenizer_sp_file.c — reading SentencePiece's `tokenizer.model`: a protocol buffer, ModelProto of
 * sentencepiece_model.proto.
 *
 *   ModelProto      1 pieces*: {1 piece, 2 score f32, 3 type}, 2 trainer_spec, 3 normalizer_spec,
 *                   4 self_test_data (skipped), 5 denormalizer_spec
 *   TrainerSpec     3 model_type, 24 treat_whitespace_as_suffix, 35 byte_fallback, 40 unk_id,
 *                   41 bos_id, 42 eos_id, 43 pad_id, 44 unk_surface; the rest is skipped
 *   NormalizerSpec  2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces,
 *                   5 escape_whitespaces; 1 and 6 are skipped
 */
#include "io/tokenizer_sentencepiece.h"

#include <math.h>
#include <string.h>

/* ---- the wire format ------------------------------------------------------------------------- */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

typedef struct message {
    const unsigned char *start, *at, *end; /* start: of the file, for errors */
} message;

typedef struct field {
    uint32_t number;
    int wire;
    uint64_t value; /* VARINT, FIXED32, FIXED64 */
    message bytes;  /* BYTES */
} field;

static qn_status broken(const message *m, const char *what) {
    return qn_fail(QN_ERR_FORMAT, "SentencePiece model: byte %lld: %s",
                   (long long)(m->at - m->start), what);
}

static qn_status read_varint(message *m, uint64_t *out) {
    uint64_t value = 0;
    for (int shift = 0; shift < 70; shift += 7) {
        if (m->at == m->end) return broken(m, "found the end inside a number");
        unsigned char byte = *m->at++;
        if (shift == 63 && byte > 1) break;
        value |= (uint64_t)(byte & 0x7F) << shift;
        if (byte < 0x80) {
            *out = value;
            return QN_OK;
        }
    }
    return broken(m, "found a number of more than 64 bits");
}

static qn_status read_field(message *m, field *f) {
    uint64_t key, length;
    QN_TRY(read_varint(m, &key));
    *f = (field){.number = (uint32_t)(key >> 3), .wire = (int)(key & 7)};
    if (key >> 3 == 0 || key >> 3 > 0x1FFFFFFF) return broken(m, "found no field number");
    switch (f->wire) {
    case VARINT: return read_varint(m, &f->value);
    case BYTES: QN_TRY(read_varint(m, &length)); break;
    case FIXED32: length = 4; break;
    case FIXED64: length = 8; break;
    default: return broken(m, "found a field of unknown kind");
    }
    if (length > (uint64_t)(m->end - m->at)) return broken(m, "found a field beyond the end");
    f->bytes = (message){m->start, m->at, m->at + length};
    m->at += length;
    if (f->wire == BYTES) return QN_OK;
    for (int i = (int)length - 1; i >= 0; i--) f->value = f->value << 8 | f->bytes.at[i];
    return QN_OK;
}

static qn_status expect(const message *m, const field *f, int wire) {
    return f->wire == wire ? QN_OK : broken(m, "found a field of another kind than it has");
}

static qn_status get_bool(const message *m, const field *f, bool *out) {
    QN_TRY(expect(m, f, VARINT));
    *out = f->value != 0;
    return QN_OK;
}

static qn_status get_int(const message *m, const field *f, int32_t *out) {
    QN_TRY(expect(m, f, VARINT));
    *out = (int32_t)(uint32_t)f->value; /* as protocol buffers do */
    return QN_OK;
}

static qn_status get_bytes(const message *m, const field *f, qni_sp_bytes *out) {
    QN_TRY(expect(m, f, BYTES));
    *out = (qni_sp_bytes){(const char *)f->bytes.at, f->bytes.end - f->bytes.at};
    return QN_OK;
}

/* ---- messages -------------------------------------------------------------------------------- */

static qn_status read_piece(message m, qni_sp_piece *p) {
    *p = (qni_sp_piece){.type = QNI_SP_NORMAL};
    int32_t type = QNI_SP_NORMAL;
    while (m.at < m.end) {
        field f;
        QN_TRY(read_field(&m, &f));
        if (f.number == 1) {
            QN_TRY(get_bytes(&m, &f, &p->text));
        } else if (f.number == 2) {
            QN_TRY(expect(&m, &f, FIXED32));
            uint32_t bits = (uint32_t)f.value;
            memcpy(&p->score, &bits, sizeof bits);
        } else if (f.number == 3) {
            QN_TRY(get_int(&m, &f, &type));
        }
    }
    if (p->text.size == 0 || p->text.size > QNI_MAX_TOKEN_BYTES ||
        !qn_utf8_valid(p->text.data, (size_t)p->text.size) ||
        memchr(p->text.data, 0, (size_t)p->text.size))
        return broken(&m, "found a piece that is empty, too long or not UTF-8");
    if (!isfinite(p->score)) return broken(&m, "found a score that is not finite");
    if (type < QNI_SP_NORMAL || type > QNI_SP_BYTE)
        return broken(&m, "found a piece of unknown type");
    p->type = (qni_sp_type)type;
    return QN_OK;
}

static qn_status read_trainer(message m, qni_sp_file *out) {
    while (m.at < m.end) {
        field f;
        QN_TRY(read_field(&m, &f));
        switch (f.number) {
        case 3: QN_TRY(get_int(&m, &f, &out->model)); break;
        case 24: QN_TRY(get_bool(&m, &f, &out->space_suffix)); break;
        case 35: QN_TRY(get_bool(&m, &f, &out->byte_fallback)); break;
        case 41: QN_TRY(get_int(&m, &f, &out->bos)); break;
        case 42: QN_TRY(get_int(&m, &f, &out->eos)); break;
        case 43: QN_TRY(get_int(&m, &f, &out->pad)); break;
        case 44: QN_TRY(get_bytes(&m, &f, &out->unknown_surface)); break;
        default: break;
        }
    }
    return QN_OK;
}

static qn_status read_normalizer(message m, qni_sp_file *out) {
    while (m.at < m.end) {
        field f;
        QN_TRY(read_field(&m, &f));
        switch (f.number) {
        case 2: QN_TRY(get_bytes(&m, &f, &out->charsmap)); break;
        case 3: QN_TRY(get_bool(&m, &f, &out->dummy_prefix)); break;
        case 4: QN_TRY(get_bool(&m, &f, &out->remove_spaces)); break;
        case 5: QN_TRY(get_bool(&m, &f, &out->escape_spaces)); break;
        default: break;
        }
    }
    return QN_OK;
}

static qn_status refuse_denormalizer(message m) {
    while (m.at < m.end) {
        field f;
        QN_TRY(read_field(&m, &f));
        if (f.number == 2 && f.wire == BYTES && f.bytes.at < f.bytes.end)
            return broken(&m, "found denormalisation, which Quern does not have");
    }
    return QN_OK;
}

/* ---- what SentencePiece wants of a model ----------------------------------------------------- */

static int32_t checked_role(const qni_sp_file *f, int32_t id) {
    return id >= 0 && id < f->n && f->piece[id].type == QNI_SP_CONTROL ? id : -1;
}

static qn_status check(qni_sp_file *f) {
    int64_t bytes = 0;
    if (f->model != QNI_SP_UNIGRAM && f->model != QNI_SP_BPE)
        return qn_fail(QN_ERR_FORMAT,
                       "SentencePiece model: found model type %d, expected 1 (Unigram) or 2 (BPE)",
                       (int)f->model);
    f->unknown = -1;
    for (int64_t i = 0; i < f->n; i++) {
        qni_sp_type type = f->piece[i].type;
        bytes += type == QNI_SP_BYTE;
        if (type == QNI_SP_UNUSED && f->model == QNI_SP_BPE)
            return qn_fail(QN_ERR_FORMAT,
                           "SentencePiece model: piece %lld is unused; Quern does not split unused "
                           "pieces of a BPE model again",
                           (long long)i);
        if (type != QNI_SP_UNKNOWN) continue;
        if (f->unknown >= 0)
            return qn_fail(QN_ERR_FORMAT,
                           "SentencePiece model: found two unknown pieces, %d and %lld",
                           (int)f->unknown, (long long)i);
        f->unknown = (int32_t)i;
    }
    if (f->unknown < 0)
        return qn_fail(QN_ERR_FORMAT, "SentencePiece model: found no unknown piece among %lld",
                       (long long)f->n);
    if (bytes != (f->byte_fallback ? 256 : 0))
        return qn_fail(QN_ERR_FORMAT, "SentencePiece model: found %lld byte pieces, expected %d",
                       (long long)bytes, f->byte_fallback ? 256 : 0);
    f->bos = checked_role(f, f->bos);
    f->eos = checked_role(f, f->eos);
    f->pad = checked_role(f, f->pad);
    return QN_OK;
}

/* A first walk over the fields of the file: how many pieces there are. */
static qn_status count_pieces(message m, int64_t *n) {
    *n = 0;
    while (m.at < m.end) {
        field f;
        QN_TRY(read_field(&m, &f));
        if (f.number < 1 || f.number > 5) continue;
        QN_TRY(expect(&m, &f, BYTES));
        *n += f.number == 1;
    }
    if (*n < 1 || *n > QNI_MAX_TOKENS)
        return qn_fail(QN_ERR_FORMAT, "SentencePiece model: found %lld pieces, expected 1 to %d",
                       (long long)*n, QNI_MAX_TOKENS);
    return QN_OK;
}

qn_status qni_sp_parse(qn_setup *arena, const void *bytes, int64_t size, qni_sp_file *out) {
    static const char unknown_surface[] = " \xE2\x81\x87 "; /* the default of the format */
    message m = {bytes, bytes, (const unsigned char *)bytes + size};
    qni_sp_file s = {.model = QNI_SP_UNIGRAM,
                     .bos = 1,
                     .eos = 2,
                     .pad = -1,
                     .unknown_surface = {unknown_surface, sizeof unknown_surface - 1},
                     .dummy_prefix = true,
                     .remove_spaces = true,
                     .escape_spaces = true};
    int64_t n;
    QN_TRY(count_pieces(m, &n));
    s.piece = qn_setup_alloc(arena, (size_t)n * sizeof *s.piece);
    if (!s.piece) return QN_ERR_OOM;
    while (m.at < m.end) {
        field f;
        QN_TRY(read_field(&m, &f));
        switch (f.number) {
        case 1: QN_TRY(read_piece(f.bytes, &s.piece[s.n++])); break;
        case 2: QN_TRY(read_trainer(f.bytes, &s)); break;
        case 3: QN_TRY(read_normalizer(f.bytes, &s)); break;
        case 5: QN_TRY(refuse_denormalizer(f.bytes)); break;
        default: break;
        }
    }
    QN_TRY(check(&s));
    if (!qn_utf8_valid(s.unknown_surface.data, (size_t)s.unknown_surface.size))
        return qn_fail(QN_ERR_FORMAT, "SentencePiece model: unk_surface is not UTF-8");
    *out = s;
    return QN_OK;
}
