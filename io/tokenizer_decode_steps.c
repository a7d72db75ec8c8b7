/* tokenizer_decode_steps.c — the decoders of tokenizer.json.
 *
 * All but Fuse take and give whole strings; behind Fuse, where one string comes in chunks, Strip at
 * the beginning passes them on as they come and the others wait for the last.
 */
#include "io/tokenizer_parts.h"

#include <string.h>

/* The whole string a chunk completes, in *text; false: more chunks come, or memory is out. */
static bool gather(qni_decode_state *s, const qni_chunk *c, const char **text, int64_t *bytes) {
    if (c->begin) s->held.length = 0;
    if (c->begin && c->end) {
        *text = c->text;
        *bytes = c->bytes;
        return true;
    }
    qn_text_add_bytes(&s->held, c->text, (size_t)c->bytes);
    *text = s->held.data;
    *bytes = (int64_t)s->held.length;
    return c->end && s->held.status == QN_OK;
}

static qn_status hand_on(struct qni_decoding *d, int depth, const char *text, int64_t bytes) {
    return qni_decode_next(d, depth, &(qni_chunk){text, bytes, true, true});
}

static qn_status hand_on_text(struct qni_decoding *d, int depth, qn_text *text) {
    qn_status status = text->status;
    if (status == QN_OK) status = hand_on(d, depth, text->data, (int64_t)text->length);
    qn_text_free(text);
    return status;
}

static void put_replaced(qn_text *out, const char *text, int64_t bytes, const char *from,
                         const char *to) {
    size_t length = strlen(from);
    for (const char *p; (p = memmem(text, (size_t)bytes, from, length));) {
        qn_text_add_bytes(out, text, (size_t)(p - text));
        qn_text_add(out, to);
        bytes -= p - text + (int64_t)length;
        text = p + length;
    }
    qn_text_add_bytes(out, text, (size_t)bytes);
}

/* ---- WordPiece ------------------------------------------------------------------------------- */

typedef struct wordpiece {
    qni_decoder base;
    const char *prefix;
    bool cleanup;
} wordpiece;

static const char *const clean_pairs[][2] = {
    {" .", "."},   {" ?", "?"},     {" !", "!"},    {" ,", ","},
    {" ' ", "'"},  {" n't", "n't"}, {" 'm", "'m"},  {" do not", " don't"},
    {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};

static void clean(qn_text *t) {
    for (size_t i = 0; i < sizeof clean_pairs / sizeof *clean_pairs; i++) {
        if (!memmem(t->data, t->length, clean_pairs[i][0], strlen(clean_pairs[i][0]))) continue;
        qn_text to = {0};
        put_replaced(&to, t->data, (int64_t)t->length, clean_pairs[i][0], clean_pairs[i][1]);
        qn_text_free(t);
        *t = to;
        if (to.status != QN_OK) return;
    }
}

static qn_status push_wordpiece(const qni_decoder *self, qni_decode_state *s,
                                struct qni_decoding *d, int depth, const qni_chunk *c) {
    const wordpiece *w = (const wordpiece *)self;
    const char *text;
    int64_t bytes, prefix = (int64_t)strlen(w->prefix);
    if (!gather(s, c, &text, &bytes)) return s->held.status;
    qn_text out = {0};
    if (s->count++ > 0) {
        if (bytes >= prefix && memcmp(text, w->prefix, (size_t)prefix) == 0) {
            text += prefix;
            bytes -= prefix;
        } else {
            qn_text_add(&out, " ");
        }
    }
    qn_text_add_bytes(&out, text, (size_t)bytes);
    if (w->cleanup && out.length > 0 && out.status == QN_OK) clean(&out);
    return hand_on_text(d, depth, &out);
}

static qn_status read_wordpiece(qn_tokenizer *t, const cJSON *json) {
    const char *prefix = "##";
    wordpiece *w = QNI_STEP(t, wordpiece);
    if (!w) return QN_ERR_OOM;
    w->base.push = push_wordpiece;
    w->cleanup = true;
    QN_TRY(qni_json_string(json, "prefix", true, &prefix));
    QN_TRY(qni_json_bool(json, "cleanup", true, &w->cleanup));
    w->prefix = qn_setup_strdup(t->arena, prefix);
    return w->prefix ? qni_add_decoder(t, &w->base) : QN_ERR_OOM;
}

/* ---- Replace --------------------------------------------------------------------------------- */

typedef struct replace {
    qni_decoder base;
    const char *pattern; /* NULL: `regex` */
    const qni_regex *regex;
    const char *content;
} replace;

static qn_status replace_matches(const replace *r, const char *text, int64_t bytes, qn_text *out) {
    int64_t from = 0, at = 0, begin, end;
    while (at <= bytes) {
        QN_TRY(qni_regex_find(r->regex, text, bytes, at, &begin, &end));
        if (begin < 0) break;
        qn_text_add_bytes(out, text + from, (size_t)(begin - from));
        qn_text_add(out, r->content);
        from = at = end;
        if (end > begin) continue;
        if (end == bytes) break; /* an empty match: go on behind the next character */
        int length;
        (void)qni_char_at(text, at, &length);
        at += length;
    }
    qn_text_add_bytes(out, text + from, (size_t)(bytes - from));
    return out->status;
}

static qn_status push_replace(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                              int depth, const qni_chunk *c) {
    const replace *r = (const replace *)self;
    const char *text;
    int64_t bytes;
    if (!gather(s, c, &text, &bytes)) return s->held.status;
    if (r->pattern && !memmem(text, (size_t)bytes, r->pattern, strlen(r->pattern)))
        return hand_on(d, depth, text, bytes);
    qn_text out = {0};
    qn_status status = QN_OK;
    if (r->pattern)
        put_replaced(&out, text, bytes, r->pattern, r->content);
    else
        status = replace_matches(r, text, bytes, &out);
    if (status == QN_OK) return hand_on_text(d, depth, &out);
    qn_text_free(&out);
    return status;
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
    r->base.push = push_replace;
    r->regex = compiled;
    r->content = qn_setup_strdup(t->arena, content);
    r->pattern = text ? qn_setup_strdup(t->arena, text) : NULL;
    if (!r->content || (text && !r->pattern)) return QN_ERR_OOM;
    return qni_add_decoder(t, &r->base);
}

/* ---- ByteFallback ---------------------------------------------------------------------------- */

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The byte of `<0xHH>`, -1 for any other string. */
static int byte_of(const qni_chunk *c) {
    if (!c->begin || !c->end || c->bytes != 6 || memcmp(c->text, "<0x", 3) != 0 ||
        c->text[5] != '>' || hex(c->text[3]) < 0 || hex(c->text[4]) < 0)
        return -1;
    return hex(c->text[3]) * 16 + hex(c->text[4]);
}

/* A run of bytes is one string if it is UTF-8, else each of them becomes U+FFFD. */
static qn_status finish_fallback(const qni_decoder *self, qni_decode_state *s,
                                 struct qni_decoding *d, int depth) {
    (void)self;
    qn_text *held = &s->held;
    qn_status status = QN_OK;
    if (held->length == 0) return QN_OK;
    if (qn_utf8_valid(held->data, held->length))
        status = hand_on(d, depth, held->data, (int64_t)held->length);
    else
        for (size_t i = 0; i < held->length && status == QN_OK; i++)
            status = hand_on(d, depth, "\xEF\xBF\xBD", 3);
    held->length = 0;
    return status;
}

static qn_status push_fallback(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                               int depth, const qni_chunk *c) {
    int byte = byte_of(c);
    if (byte >= 0) {
        char one = (char)byte;
        qn_text_add_bytes(&s->held, &one, 1);
        return s->held.status;
    }
    QN_TRY(finish_fallback(self, s, d, depth));
    return qni_decode_next(d, depth, c);
}

static const qni_decoder fallback_step = {push_fallback, finish_fallback};

static qn_status read_fallback(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_decoder(t, &fallback_step);
}

/* ---- Fuse ------------------------------------------------------------------------------------ */

static qn_status push_fuse(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                           int depth, const qni_chunk *c) {
    (void)self;
    bool begin = !s->started;
    s->started = true;
    return qni_decode_next(d, depth, &(qni_chunk){c->text, c->bytes, begin, false});
}

static qn_status finish_fuse(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                             int depth) {
    (void)self;
    return qni_decode_next(d, depth, &(qni_chunk){"", 0, !s->started, true});
}

static const qni_decoder fuse_step = {push_fuse, finish_fuse};

static qn_status read_fuse(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_decoder(t, &fuse_step);
}

/* ---- Strip ----------------------------------------------------------------------------------- */

typedef struct strip {
    qni_decoder base;
    const char *content; /* one character */
    int64_t content_bytes, start, stop;
} strip;

/* Up to start - *count characters less at the beginning; `started` ends that. */
static void strip_start(const strip *p, qni_decode_state *s, const char **text, int64_t *bytes) {
    while (!s->started && *bytes > 0) {
        if (s->count >= p->start || *bytes < p->content_bytes ||
            memcmp(*text, p->content, (size_t)p->content_bytes) != 0) {
            s->started = true;
            break;
        }
        *text += p->content_bytes;
        *bytes -= p->content_bytes;
        s->count++;
    }
}

static qn_status push_strip(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                            int depth, const qni_chunk *c) {
    const strip *p = (const strip *)self;
    const char *text = c->text;
    int64_t bytes = c->bytes;
    if (p->stop > 0 && !gather(s, c, &text, &bytes)) return s->held.status;
    if (p->stop > 0 || c->begin) {
        s->started = false;
        s->count = 0;
    }
    strip_start(p, s, &text, &bytes);
    for (int64_t i = 0; i < p->stop && bytes >= p->content_bytes; i++) {
        const char *last = text + bytes - p->content_bytes;
        if (memcmp(last, p->content, (size_t)p->content_bytes) != 0) break;
        bytes -= p->content_bytes;
    }
    bool whole = p->stop > 0;
    return qni_decode_next(d, depth, &(qni_chunk){text, bytes, whole || c->begin, whole || c->end});
}

static qn_status read_strip(qn_tokenizer *t, const cJSON *json) {
    const char *content = NULL;
    strip *s = QNI_STEP(t, strip);
    int length = 0;
    if (!s) return QN_ERR_OOM;
    s->base.push = push_strip;
    QN_TRY(qni_json_string(json, "content", false, &content));
    if (*content) (void)qni_char_at(content, 0, &length);
    if (length == 0 || content[length])
        return qni_json_fail(json, "content: expected one character");
    QN_TRY(qni_json_int(json, "start", false, 0, INT32_MAX, &s->start));
    QN_TRY(qni_json_int(json, "stop", false, 0, INT32_MAX, &s->stop));
    s->content = qn_setup_strdup(t->arena, content);
    s->content_bytes = length;
    return s->content ? qni_add_decoder(t, &s->base) : QN_ERR_OOM;
}

/* ---- BPEDecoder ------------------------------------------------------------------------------ */

typedef struct suffix {
    qni_decoder base;
    const char *suffix;
} suffix;

static qn_status put_word(const suffix *x, qni_decode_state *s, struct qni_decoding *d, int depth,
                          const char *between) {
    qn_text out = {0};
    put_replaced(&out, s->held.data, (int64_t)s->held.length, x->suffix, between);
    s->held.length = 0;
    return hand_on_text(d, depth, &out);
}

/* A word's suffix becomes a space where another token follows, so each waits for the next. */
static qn_status push_suffix(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                             int depth, const qni_chunk *c) {
    if (c->begin && s->held.length > 0) QN_TRY(put_word((const suffix *)self, s, d, depth, " "));
    qn_text_add_bytes(&s->held, c->text, (size_t)c->bytes);
    return s->held.status;
}

static qn_status finish_suffix(const qni_decoder *self, qni_decode_state *s, struct qni_decoding *d,
                               int depth) {
    return s->held.length ? put_word((const suffix *)self, s, d, depth, "") : QN_OK;
}

static qn_status read_suffix(qn_tokenizer *t, const cJSON *json) {
    const char *text = "</w>";
    suffix *x = QNI_STEP(t, suffix);
    if (!x) return QN_ERR_OOM;
    x->base = (qni_decoder){push_suffix, finish_suffix};
    QN_TRY(qni_json_string(json, "suffix", true, &text));
    if (!*text) return qni_json_fail(json, "suffix: expected a string that is not empty");
    x->suffix = qn_setup_strdup(t->arena, text);
    return x->suffix ? qni_add_decoder(t, &x->base) : QN_ERR_OOM;
}

static qn_status read_byte_level(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return qni_add_byte_decoder(t);
}

const qni_component qni_decoders[] = {{"ByteLevel", read_byte_level},
                                      {"WordPiece", read_wordpiece},
                                      {"Metaspace", qni_read_metaspace_decoder},
                                      {"Replace", read_replace},
                                      {"ByteFallback", read_fallback},
                                      {"Fuse", read_fuse},
                                      {"Strip", read_strip},
                                      {"BPEDecoder", read_suffix},
                                      {0}};
