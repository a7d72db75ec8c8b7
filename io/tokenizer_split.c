/* tokenizer_split.c — the splitters: patterns, strings and classes of characters with the five
 * behaviours, and byte-level splitting. */
#include "io/tokenizer_bpe.h"

#include <string.h>

/* ---- cutting at matches ---------------------------------------------------------------------- */

typedef enum behavior { REMOVED, ISOLATED, MERGED_PREVIOUS, MERGED_NEXT, CONTIGUOUS } behavior;

static const char *const behaviors[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};

/* What is looked for: exactly one of these. */
typedef struct cutter {
    qni_splitter base;
    const qni_regex *regex;
    const char *text;
    int64_t text_bytes;
    bool (*class)(uint32_t c); /* each character of it is a match */
    bool invert;               /* matches are gaps, gaps are matches */
    behavior behavior;
} cutter;

/* The next match at or after `at`; *begin = -1 if there is none. */
static qn_status find(const cutter *c, const qni_piece *p, int64_t at, int64_t *begin,
                      int64_t *end) {
    *begin = -1;
    if (c->regex) return qni_regex_find(c->regex, p->text, p->bytes, at, begin, end);
    if (c->text) {
        const char *found = at < p->bytes ? memmem(p->text + at, (size_t)(p->bytes - at), c->text,
                                                   (size_t)c->text_bytes)
                                          : NULL;
        if (found) *begin = found - p->text;
        *end = *begin + c->text_bytes;
        return QN_OK;
    }
    for (int length; at < p->bytes; at += length) {
        if (!c->class(qni_char_at(p->text, at, &length))) continue;
        *begin = at;
        *end = at + length;
        break;
    }
    return QN_OK;
}

typedef struct segment {
    int64_t begin, end;
    bool match;
} segment;

static qn_status hand_on(const cutter *c, struct qni_walk *w, int depth, const qni_piece *p,
                         const segment *s) {
    if (s->end == s->begin || (c->behavior == REMOVED && s->match)) return QN_OK;
    qni_piece part = qni_piece_part(p, s->begin, s->end);
    return qni_walk_next(w, depth, &part);
}

/* Joins a segment to the one held before it, or hands that one on and holds this. */
static qn_status take_segment(const cutter *c, struct qni_walk *w, int depth, const qni_piece *p,
                              segment *held, segment s) {
    bool join = held->end > held->begin;
    if (c->behavior == CONTIGUOUS)
        join = join && s.match == held->match;
    else if (c->behavior == MERGED_PREVIOUS)
        join = join && s.match && !held->match;
    else if (c->behavior == MERGED_NEXT)
        join = join && !s.match && held->match;
    else
        join = false;
    qn_status status = join ? QN_OK : hand_on(c, w, depth, p, held);
    *held = join ? (segment){held->begin, s.end, s.match} : s;
    return status;
}

static qn_status cut(const qni_splitter *self, struct qni_walk *w, int depth, const qni_piece *p) {
    const cutter *c = (const cutter *)self;
    segment held = {0};
    int64_t at = 0, search = 0;
    while (search <= p->bytes) {
        int64_t begin, end;
        QN_TRY(find(c, p, search, &begin, &end));
        if (begin < 0) break;
        if (begin > at)
            QN_TRY(take_segment(c, w, depth, p, &held, (segment){at, begin, c->invert}));
        if (end > begin)
            QN_TRY(take_segment(c, w, depth, p, &held, (segment){begin, end, !c->invert}));
        at = search = end;
        if (end == begin) { /* an empty match: go on behind the next character */
            int length = 1;
            if (end < p->bytes) (void)qni_char_at(p->text, end, &length);
            search = end + length;
        }
    }
    if (at < p->bytes)
        QN_TRY(take_segment(c, w, depth, p, &held, (segment){at, p->bytes, c->invert}));
    return hand_on(c, w, depth, p, &held);
}

/* A known pattern: its matches leave nothing between them, so they are the pieces. */
typedef struct scanner {
    qni_splitter base;
    qni_scan *scan;
} scanner;

static qn_status scan(const qni_splitter *self, struct qni_walk *w, int depth, const qni_piece *p) {
    qni_scan *next = ((const scanner *)self)->scan;
    for (int64_t at = 0, end; at < p->bytes; at = end) {
        end = next(p->text, at, p->bytes);
        qni_piece part = qni_piece_part(p, at, end);
        QN_TRY(qni_walk_next(w, depth, &part));
    }
    return QN_OK;
}

static qn_status add_cutter(qn_tokenizer *t, const cutter *like) {
    cutter *c = QNI_STEP(t, cutter);
    if (!c) return QN_ERR_OOM;
    *c = *like;
    c->base.split = cut;
    return qni_add_splitter(t, &c->base);
}

qn_status qni_add_pattern(qn_tokenizer *t, const char *regex) {
    qni_scan *known = qni_scan_known(regex);
    if (known) {
        scanner *s = QNI_STEP(t, scanner);
        if (!s) return QN_ERR_OOM;
        *s = (scanner){{scan}, known};
        return qni_add_splitter(t, &s->base);
    }
    qni_regex *compiled = NULL;
    QN_TRY(qni_regex_compile(t, regex, &compiled));
    return add_cutter(t, &(cutter){.regex = compiled, .behavior = ISOLATED});
}

/* ---- byte level ------------------------------------------------------------------------------ */

static qn_status add_space(const qni_splitter *self, struct qni_walk *w, int depth,
                           const qni_piece *p) {
    (void)self;
    if (p->text[0] == ' ') return qni_walk_next(w, depth, p);
    qni_string *s = qni_walk_string(w, depth);
    qni_string_put(s, " ", 1, p, 0);
    qni_string_copy(s, p, 0, p->bytes);
    QN_TRY(s->status);
    qni_piece with = qni_piece_of(s);
    with.first = p->first;
    return qni_walk_next(w, depth, &with);
}

static qn_status map_bytes(const qni_splitter *self, struct qni_walk *w, int depth,
                           const qni_piece *p) {
    (void)self;
    qni_string *s = qni_walk_string(w, depth);
    for (int64_t i = 0; i < p->bytes; i++) {
        char text[4];
        int n = qn_utf8_write(qni_byte_character((unsigned char)p->text[i]), text);
        qni_string_put(s, text, n, p, i);
    }
    QN_TRY(s->status);
    qni_piece mapped = qni_piece_of(s);
    mapped.first = p->first;
    return qni_walk_next(w, depth, &mapped);
}

static const qni_splitter space_step = {add_space}, bytes_step = {map_bytes};

qn_status qni_add_byte_level(qn_tokenizer *t, bool add_prefix_space, bool use_regex) {
    if (add_prefix_space) QN_TRY(qni_add_splitter(t, &space_step));
    if (use_regex) QN_TRY(qni_add_pattern(t, QNI_GPT2_PATTERN));
    return qni_add_splitter(t, &bytes_step);
}

bool qni_drop_byte_map(qn_tokenizer *t) {
    if (t->n_splitters == 0 || t->splitter[t->n_splitters - 1] != &bytes_step) return false;
    t->n_splitters--;
    return true;
}

/* ---- from JSON ------------------------------------------------------------------------------- */

static qn_status read_behavior(const cJSON *json, behavior *out) {
    const char *name = NULL;
    QN_TRY(qni_json_string(json, "behavior", true, &name));
    for (int i = 0; name && i <= CONTIGUOUS; i++) {
        if (strcmp(behaviors[i], name) != 0) continue;
        *out = (behavior)i;
        return QN_OK;
    }
    return name ? qni_json_fail(qn_json_get(json, "behavior"), "unknown behavior \"%s\"", name)
                : QN_OK;
}

static qn_status read_split(qn_tokenizer *t, const cJSON *json) {
    cutter c = {.behavior = REMOVED};
    const char *text = NULL, *regex = NULL;
    QN_TRY(qni_json_pattern(json, "pattern", &text, &regex));
    QN_TRY(read_behavior(json, &c.behavior));
    QN_TRY(qni_json_bool(json, "invert", true, &c.invert));
    bool all = c.behavior == ISOLATED || (c.behavior == REMOVED && c.invert);
    if (regex && all && qni_scan_known(regex)) return qni_add_pattern(t, regex);
    if (text) {
        c.text_bytes = (int64_t)strlen(text);
        c.text = qn_setup_strdup(t->arena, text);
        if (!c.text) return QN_ERR_OOM;
        if (c.text_bytes == 0) return qni_json_fail(json, "an empty pattern");
    } else {
        qni_regex *compiled = NULL;
        QN_TRY(qni_json_prefix(json, qni_regex_compile(t, regex, &compiled)));
        c.regex = compiled;
    }
    return add_cutter(t, &c);
}

static qn_status read_byte_level(qn_tokenizer *t, const cJSON *json) {
    bool prefix = true, regex = true;
    QN_TRY(qni_json_bool(json, "add_prefix_space", true, &prefix));
    QN_TRY(qni_json_bool(json, "use_regex", true, &regex));
    return qni_add_byte_level(t, prefix, regex);
}

static qn_status read_digits(qn_tokenizer *t, const cJSON *json) {
    bool individual = false;
    QN_TRY(qni_json_bool(json, "individual_digits", true, &individual));
    return add_cutter(
        t, &(cutter){.class = qni_is_number, .behavior = individual ? ISOLATED : CONTIGUOUS});
}

static qn_status read_punctuation(qn_tokenizer *t, const cJSON *json) {
    cutter c = {.class = qni_is_punctuation, .behavior = ISOLATED};
    QN_TRY(read_behavior(json, &c.behavior));
    return add_cutter(t, &c);
}

static qn_status read_whitespace_split(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    return add_cutter(t, &(cutter){.class = qni_is_space, .behavior = REMOVED});
}

static qn_status read_bert(qn_tokenizer *t, const cJSON *json) {
    QN_TRY(read_whitespace_split(t, json));
    return add_cutter(t, &(cutter){.class = qni_is_punctuation, .behavior = ISOLATED});
}

/* The reference's Whitespace runs `\w+|[^\w\s]+` on another engine than Split: joiners are in
 * its \w, superscripts are not. */
#define WORDS "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}"

static qn_status read_whitespace(qn_tokenizer *t, const cJSON *json) {
    (void)json;
    cutter c = {.behavior = REMOVED, .invert = true};
    qni_regex *compiled = NULL;
    QN_TRY(qni_regex_compile(t, "[" WORDS "]+|[^" WORDS "\\s]+", &compiled));
    c.regex = compiled;
    return add_cutter(t, &c);
}

static qn_status read_delimiter(qn_tokenizer *t, const cJSON *json) {
    const char *text = NULL;
    QN_TRY(qni_json_string(json, "delimiter", false, &text));
    cutter c = {.text = qn_setup_strdup(t->arena, text),
                .text_bytes = (int64_t)strlen(text),
                .behavior = REMOVED};
    if (!c.text) return QN_ERR_OOM;
    if (c.text_bytes == 0) return qni_json_fail(json, "an empty delimiter");
    return add_cutter(t, &c);
}

const qni_component qni_splitters[] = {
    {"ByteLevel", read_byte_level},         {"Split", read_split},
    {"Metaspace", qni_read_metaspace},      {"Digits", read_digits},
    {"Punctuation", read_punctuation},      {"BertPreTokenizer", read_bert},
    {"Whitespace", read_whitespace},        {"WhitespaceSplit", read_whitespace_split},
    {"CharDelimiterSplit", read_delimiter}, {0}};
