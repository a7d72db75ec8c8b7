/* tokenizer_metaspace.c — Metaspace, SentencePiece's spaces in tokenizer.json: in, spaces become
 * U+2581 (or another character), one is put in front, and the text is cut before each; out, they
 * become spaces again, and those of the first token go.
 */
#include "io/tokenizer_parts.h"

#include <string.h>

typedef enum scheme { ALWAYS, FIRST, NEVER } scheme;

typedef struct settings {
    const char *mark; /* one character */
    int64_t bytes;    /* of it */
    scheme prepend;
    bool cut;
} settings;

static qn_status read_scheme(const cJSON *json, scheme *out) {
    const char *name = "always";
    bool prefix = true;
    QN_TRY(qni_json_string(json, "prepend_scheme", true, &name));
    QN_TRY(qni_json_bool(json, "add_prefix_space", true, &prefix));
    if (strcmp(name, "always") == 0)
        *out = ALWAYS;
    else if (strcmp(name, "first") == 0)
        *out = FIRST;
    else if (strcmp(name, "never") == 0)
        *out = NEVER;
    else
        return qni_json_fail(json, "prepend_scheme: expected always, first or never");
    if (prefix) return QN_OK;
    if (qn_json_get(json, "prepend_scheme") && *out != NEVER)
        return qni_json_fail(json, "add_prefix_space and prepend_scheme do not agree");
    *out = NEVER;
    return QN_OK;
}

static qn_status read(qn_tokenizer *t, const cJSON *json, settings *out) {
    const char *mark = "\xE2\x96\x81";
    int length = 0;
    out->cut = true;
    QN_TRY(qni_json_string(json, "replacement", true, &mark));
    QN_TRY(qni_json_bool(json, "split", true, &out->cut));
    QN_TRY(read_scheme(json, &out->prepend));
    if (*mark) (void)qni_char_at(mark, 0, &length);
    if (length == 0 || mark[length])
        return qni_json_fail(json, "replacement: expected one character");
    out->mark = qn_setup_strdup(t->arena, mark);
    out->bytes = length;
    return out->mark ? QN_OK : QN_ERR_OOM;
}

/* ---- in -------------------------------------------------------------------------------------- */

typedef struct splitter {
    qni_splitter base;
    settings set;
} splitter;

static qn_status rewrite(const settings *s, const qni_piece *in, qni_string *out) {
    bool marked = in->text[0] == ' ' ||
                  (in->bytes >= s->bytes && memcmp(in->text, s->mark, (size_t)s->bytes) == 0);
    if (!marked && (s->prepend == ALWAYS || (s->prepend == FIRST && in->first)))
        qni_string_put(out, s->mark, s->bytes, in, 0);
    for (int64_t at = 0; at < in->bytes;) {
        const char *space = memchr(in->text + at, ' ', (size_t)(in->bytes - at));
        int64_t to = space ? space - in->text : in->bytes;
        qni_string_copy(out, in, at, to);
        if (space) qni_string_put(out, s->mark, s->bytes, in, to);
        at = space ? to + 1 : to;
    }
    return out->status;
}

static qn_status split(const qni_splitter *self, struct qni_walk *w, int depth,
                       const qni_piece *piece) {
    const settings *s = &((const splitter *)self)->set;
    if (piece->bytes == 0) return QN_OK;
    qni_string *text = qni_walk_string(w, depth);
    QN_TRY(rewrite(s, piece, text));
    qni_piece all = qni_piece_of(text);
    all.first = piece->first;
    for (int64_t at = 0, next; at < all.bytes; at = next) {
        next = all.bytes;
        const char *mark =
            s->cut && at + s->bytes <= all.bytes
                ? memmem(all.text + at + 1, (size_t)(all.bytes - at - 1), s->mark, (size_t)s->bytes)
                : NULL;
        if (mark) next = mark - all.text;
        qni_piece part = qni_piece_part(&all, at, next);
        QN_TRY(qni_walk_next(w, depth, &part));
    }
    return QN_OK;
}

qn_status qni_read_metaspace(qn_tokenizer *t, const cJSON *json) {
    splitter *s = QNI_STEP(t, splitter);
    if (!s) return QN_ERR_OOM;
    s->base.split = split;
    QN_TRY(read(t, json, &s->set));
    return qni_add_splitter(t, &s->base);
}

/* ---- out ------------------------------------------------------------------------------------- */

typedef struct decoder {
    qni_decoder base;
    settings set;
} decoder;

static qn_status push(const qni_decoder *self, qni_decode_state *state, struct qni_decoding *d,
                      int depth, const qni_chunk *c) {
    const settings *s = &((const decoder *)self)->set;
    if (c->begin) state->count++;
    bool drop = state->count == 1 && s->prepend != NEVER;
    qn_text out = {0};
    for (int64_t at = 0; at < c->bytes;) {
        const char *mark = memmem(c->text + at, (size_t)(c->bytes - at), s->mark, (size_t)s->bytes);
        int64_t to = mark ? mark - c->text : c->bytes;
        qn_text_add_bytes(&out, c->text + at, (size_t)(to - at));
        if (mark && !drop) qn_text_add(&out, " ");
        at = mark ? to + s->bytes : to;
    }
    qn_status status = out.status;
    if (status == QN_OK)
        status = qni_decode_next(d, depth,
                                 &(qni_chunk){out.data, (int64_t)out.length, c->begin, c->end});
    qn_text_free(&out);
    return status;
}

qn_status qni_read_metaspace_decoder(qn_tokenizer *t, const cJSON *json) {
    decoder *d = QNI_STEP(t, decoder);
    if (!d) return QN_ERR_OOM;
    d->base.push = push;
    QN_TRY(read(t, json, &d->set));
    return qni_add_decoder(t, &d->base);
}
