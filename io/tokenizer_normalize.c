/* tokenizer_normalize.c — the normalizers of tokenizer.json. */
#include "io/tokenizer_normalize.h"

#include "io/tokenizer_bpe.h"
#include "io/tokenizer_charsmap.h"
#include "io/tokenizer_wordpiece.h"

#include <string.h>
#include <utf8proc.h>

static bool is_mark(uint32_t c) {
    utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

/* ---- Unicode forms --------------------------------------------------------------------------- */

typedef struct form_step {
    qni_normalizer base;
    qni_form form;
} form_step;

static qn_status apply_form(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                            bool *same) {
    *same = qni_is_ascii(in);
    return *same ? QN_OK : qni_put_form(((const form_step *)self)->form, in, out);
}

qn_status qni_add_form(qn_tokenizer *t, qni_form form) {
    form_step *f = QNI_STEP(t, form_step);
    if (f) *f = (form_step){{apply_form}, form};
    return qni_add_normalizer(t, &f->base);
}

static qn_status read_nfd(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_form(t, QNI_NFD);
}

static qn_status read_nfkd(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_form(t, QNI_NFKD);
}

static qn_status read_nfc(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_form(t, QNI_NFC);
}

static qn_status read_nfkc(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_form(t, QNI_NFKC);
}

/* ---- one character at a time ----------------------------------------------------------------- */

/* What a character becomes: so many characters in to[], 0 to 3 of them. */
typedef int char_map(uint32_t c, uint32_t to[3]);

static qn_status apply_map(char_map *map, const qni_piece *in, qni_string *out) {
    int length;
    for (int64_t at = 0; at < in->bytes; at += length) {
        uint32_t c = qni_char_at(in->text, at, &length), to[3];
        int n = map(c, to);
        if (n == 1 && to[0] == c) {
            qni_string_copy(out, in, at, at + length);
            continue;
        }
        for (int i = 0; i < n; i++) {
            char text[4];
            qni_string_put(out, text, qn_utf8_write(to[i], text), in, at);
        }
    }
    return out->status;
}

/* Lower case without context; of all characters only U+0130 becomes two. */
static int lower(uint32_t c, uint32_t to[3]) {
    if (c < 0x80) {
        to[0] = c >= 'A' && c <= 'Z' ? c + 32 : c;
        return 1;
    }
    if (c == 0x130) {
        to[0] = 'i';
        to[1] = 0x307;
        return 2;
    }
    to[0] = (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    return 1;
}

static int drop_marks(uint32_t c, uint32_t to[3]) {
    to[0] = c;
    return !is_mark(c);
}

/* SentencePiece's "nmt" rules: control characters go, what is like a space becomes one. */
static int nmt(uint32_t c, uint32_t to[3]) {
    to[0] = c;
    if ((c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F ||
        c == 0x9F)
        return 0;
    if (c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
        c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD)
        to[0] = ' ';
    return 1;
}

static qn_status apply_lower(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                             bool *same) {
    (void)self;
    (void)same;
    return apply_map(lower, in, out);
}

static qn_status apply_drop_marks(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                                  bool *same) {
    (void)self;
    *same = qni_is_ascii(in);
    return *same ? QN_OK : apply_map(drop_marks, in, out);
}

static qn_status apply_nmt(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                           bool *same) {
    (void)self;
    (void)same;
    return apply_map(nmt, in, out);
}

static qn_status apply_bytes(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                             bool *same) {
    (void)self;
    (void)same;
    for (int64_t i = 0; i < in->bytes; i++) {
        char text[4];
        int n = qn_utf8_write(qni_byte_character((unsigned char)in->text[i]), text);
        qni_string_put(out, text, n, in, i);
    }
    return out->status;
}

static const qni_normalizer lower_step = {apply_lower}, drop_marks_step = {apply_drop_marks},
                            nmt_step = {apply_nmt}, bytes_step = {apply_bytes};

static qn_status read_lower(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_normalizer(t, &lower_step);
}

static qn_status read_strip_accents(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_normalizer(t, &drop_marks_step);
}

static qn_status read_nmt(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_normalizer(t, &nmt_step);
}

static qn_status read_byte_level(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_normalizer(t, &bytes_step);
}

/* ---- BERT ------------------------------------------------------------------------------------ */

typedef struct bert {
    qni_normalizer base;
    bool clean, chinese, strip_accents, lowercase;
} bert;

static bool is_other(uint32_t c) { /* control, format, private; not what is unassigned */
    return utf8proc_category((utf8proc_int32_t)c) >= UTF8PROC_CATEGORY_CC;
}

static bool is_chinese(uint32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

static int bert_clean(uint32_t c, uint32_t to[3]) {
    bool space = c == '\t' || c == '\n' || c == '\r';
    if (!space && (c == 0 || c == 0xFFFD || is_other(c))) return 0;
    to[0] = space || qni_is_space(c) ? ' ' : c;
    return 1;
}

static int space_chinese(uint32_t c, uint32_t to[3]) {
    to[0] = c;
    if (!is_chinese(c)) return 1;
    to[0] = to[2] = ' ';
    to[1] = c;
    return 3;
}

static int drop_nonspacing(uint32_t c, uint32_t to[3]) {
    to[0] = c;
    return utf8proc_category((utf8proc_int32_t)c) != UTF8PROC_CATEGORY_MN;
}

/* Text that is ASCII, in one go: all that is left to do is cleaning and lower case. */
static qn_status put_ascii(const bert *b, const qni_piece *in, qni_string *out) {
    for (int64_t i = 0, from = 0; i <= in->bytes; i++) {
        unsigned char c = i < in->bytes ? (unsigned char)in->text[i] : 0;
        bool plain = c >= 32 && c < 127 && !(b->lowercase && c >= 'A' && c <= 'Z');
        if (i < in->bytes && (plain || (!b->clean && !(c >= 'A' && c <= 'Z')))) continue;
        qni_string_copy(out, in, from, i);
        from = i + 1;
        if (i == in->bytes) break;
        bool space = c == '\t' || c == '\n' || c == '\r';
        if (c < 32 && !space) continue;
        if (c == 127) continue;
        char to = (char)(space ? ' ' : c + 32);
        qni_string_put(out, &to, 1, in, i);
    }
    return out->status;
}

/* The steps of the reference one after the other; *now is what has become of the text. */
static qn_status put_bert(const bert *b, const qni_piece *in, qni_string temporary[2],
                          qni_string *out) {
    char_map *map[4] = {b->clean ? bert_clean : NULL, b->chinese ? space_chinese : NULL,
                        b->strip_accents ? drop_nonspacing : NULL, b->lowercase ? lower : NULL};
    qni_piece now = *in;
    int next = 0;
    for (int i = 0; i < 4; i++) {
        if (!map[i]) continue;
        for (int form = map[i] == drop_nonspacing; form >= 0; form--) {
            qni_string *to = &temporary[next];
            next = !next;
            qni_string_clear(to);
            if (form)
                QN_TRY(qni_put_form(QNI_NFD, &now, to));
            else
                QN_TRY(apply_map(map[i], &now, to));
            now = qni_piece_of(to);
        }
    }
    qni_string_copy(out, &now, 0, now.bytes);
    return out->status;
}

static qn_status apply_bert(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                            bool *same) {
    (void)same;
    const bert *b = (const bert *)self;
    if (qni_is_ascii(in)) return put_ascii(b, in, out);
    qni_string temporary[2] = {{.tracked = out->tracked}, {.tracked = out->tracked}};
    qn_status status = put_bert(b, in, temporary, out);
    qni_string_free(&temporary[0]);
    qni_string_free(&temporary[1]);
    return status;
}

qn_status qni_add_bert(qn_tokenizer *t, bool clean, bool chinese, bool strip_accents,
                       bool lowercase) {
    bert *b = QNI_STEP(t, bert);
    if (b) *b = (bert){{apply_bert}, clean, chinese, strip_accents, lowercase};
    return qni_add_normalizer(t, &b->base);
}

static qn_status read_bert(qn_tokenizer *t, const cJSON *json) {
    bool clean = true, chinese = true, lowercase = true;
    QN_TRY(qni_json_bool(json, "clean_text", true, &clean));
    QN_TRY(qni_json_bool(json, "handle_chinese_chars", true, &chinese));
    QN_TRY(qni_json_bool(json, "lowercase", true, &lowercase));
    bool strip_accents = lowercase;
    QN_TRY(qni_json_bool(json, "strip_accents", true, &strip_accents));
    return qni_add_bert(t, clean, chinese, strip_accents, lowercase);
}

/* ---- strings --------------------------------------------------------------------------------- */

typedef struct strip {
    qni_normalizer base;
    bool left, right;
} strip;

static qn_status apply_strip(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                             bool *same) {
    const strip *s = (const strip *)self;
    int64_t begin = 0, end = in->bytes;
    int length;
    while (s->left && begin < end && qni_is_space(qni_char_at(in->text, begin, &length)))
        begin += length;
    while (s->right && end > begin && qni_is_space(qni_char_before(in->text, end, &length)))
        end -= length;
    *same = begin == 0 && end == in->bytes;
    if (!*same) qni_string_copy(out, in, begin, end);
    return out->status;
}

static qn_status read_strip(qn_tokenizer *t, const cJSON *json) {
    strip *s = QNI_STEP(t, strip);
    if (!s) return QN_ERR_OOM;
    s->base.apply = apply_strip;
    QN_TRY(qni_json_bool(json, "strip_left", false, &s->left));
    QN_TRY(qni_json_bool(json, "strip_right", false, &s->right));
    return qni_add_normalizer(t, &s->base);
}

typedef struct replace {
    qni_normalizer base;
    const char *pattern; /* NULL: `regex` */
    int64_t pattern_bytes;
    const qni_regex *regex;
    const char *content;
    int64_t content_bytes;
} replace;

static qn_status find(const replace *r, const qni_piece *in, int64_t at, int64_t *begin,
                      int64_t *end) {
    if (r->regex) return qni_regex_find(r->regex, in->text, in->bytes, at, begin, end);
    const char *p =
        memmem(in->text + at, (size_t)(in->bytes - at), r->pattern, (size_t)r->pattern_bytes);
    *begin = p ? p - in->text : -1;
    *end = *begin + r->pattern_bytes;
    return QN_OK;
}

static qn_status apply_replace(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                               bool *same) {
    const replace *r = (const replace *)self;
    int64_t from = 0, at = 0, begin, end;
    *same = true;
    while (at <= in->bytes) {
        QN_TRY(find(r, in, at, &begin, &end));
        if (begin < 0) break;
        *same = false;
        qni_string_copy(out, in, from, begin);
        qni_string_put(out, r->content, r->content_bytes, in, begin);
        from = at = end;
        if (end > begin) continue;
        if (end == in->bytes) break; /* an empty match: go on behind the next character */
        int length;
        (void)qni_char_at(in->text, at, &length);
        at += length;
    }
    if (!*same) qni_string_copy(out, in, from, in->bytes);
    return out->status;
}

static qn_status read_replace(qn_tokenizer *t, const cJSON *json) {
    const char *text = NULL, *regex = NULL, *content = NULL;
    replace *r = QNI_STEP(t, replace);
    qni_regex *compiled = NULL;
    if (!r) return QN_ERR_OOM;
    QN_TRY(qni_json_pattern(json, "pattern", &text, &regex));
    QN_TRY(qni_json_string(json, "content", false, &content));
    if (text && !*text) return qni_json_fail(json, "pattern: expected a string that is not empty");
    if (regex) QN_TRY(qni_regex_compile(t, regex, &compiled));
    r->base.apply = apply_replace;
    r->regex = compiled;
    r->content = qn_setup_strdup(t->arena, content);
    r->content_bytes = (int64_t)strlen(content);
    r->pattern = text ? qn_setup_strdup(t->arena, text) : NULL;
    r->pattern_bytes = text ? (int64_t)strlen(text) : 0;
    if (!r->content || (text && !r->pattern)) return QN_ERR_OOM;
    return qni_add_normalizer(t, &r->base);
}

typedef struct prepend {
    qni_normalizer base;
    const char *text;
} prepend;

static qn_status apply_prepend(const qni_normalizer *self, const qni_piece *in, qni_string *out,
                               bool *same) {
    const prepend *p = (const prepend *)self;
    *same = in->bytes == 0;
    if (*same) return QN_OK;
    qni_string_put(out, p->text, (int64_t)strlen(p->text), in, 0);
    qni_string_copy(out, in, 0, in->bytes);
    return out->status;
}

static qn_status read_prepend(qn_tokenizer *t, const cJSON *json) {
    const char *text = NULL;
    prepend *p = QNI_STEP(t, prepend);
    if (!p) return QN_ERR_OOM;
    QN_TRY(qni_json_string(json, "prepend", false, &text));
    p->base.apply = apply_prepend;
    p->text = qn_setup_strdup(t->arena, text);
    if (!p->text) return QN_ERR_OOM;
    return qni_add_normalizer(t, &p->base);
}

const qni_component qni_normalizers[] = {{"NFD", read_nfd},
                                         {"NFKD", read_nfkd},
                                         {"NFC", read_nfc},
                                         {"NFKC", read_nfkc},
                                         {"Lowercase", read_lower},
                                         {"StripAccents", read_strip_accents},
                                         {"Nmt", read_nmt},
                                         {"ByteLevel", read_byte_level},
                                         {"BertNormalizer", read_bert},
                                         {"Strip", read_strip},
                                         {"Replace", read_replace},
                                         {"Prepend", read_prepend},
                                         {"Precompiled", qni_read_precompiled},
                                         {0}};
