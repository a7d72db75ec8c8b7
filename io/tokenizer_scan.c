/* tokenizer_scan.c — the split patterns of GPT-2, cl100k (Llama-3), Qwen2 and o200k by hand.
 *
 * Each scanner gives the end of the match that a backtracking engine finds at a place; the patterns
 * leave no character unmatched. tests/test_tokenizer_scan.c holds them against PCRE2. What the
 * parts of the patterns come down to:
 *
 *   \s*[\r\n]+   a run of white space up to its last line end
 *   \s+(?!\S)    a run of white space less its last character, or all of it at the end of the text
 *   \s+          then a single character
 */
#include "io/tokenizer_parts.h"

#include <string.h>
#include <utf8proc.h>

enum { /* classes of a character */
       SPACE = 1,
       LINE = 2, /* \r \n; they are SPACE too */
       LETTER = 4,
       NUMBER = 8,
       UPPER = 16, /* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}] */
       LOWER = 32, /* [\p{Ll}\p{Lm}\p{Lo}\p{M}] */
       SOMETHING = SPACE | LETTER | NUMBER
};

typedef struct cursor {
    const char *text;
    int64_t bytes;
} cursor;

static unsigned class_of_category(int k) {
    static const unsigned char of[] = {[UTF8PROC_CATEGORY_LU] = LETTER | UPPER,
                                       [UTF8PROC_CATEGORY_LL] = LETTER | LOWER,
                                       [UTF8PROC_CATEGORY_LT] = LETTER | UPPER,
                                       [UTF8PROC_CATEGORY_LM] = LETTER | UPPER | LOWER,
                                       [UTF8PROC_CATEGORY_LO] = LETTER | UPPER | LOWER,
                                       [UTF8PROC_CATEGORY_MN] = UPPER | LOWER,
                                       [UTF8PROC_CATEGORY_MC] = UPPER | LOWER,
                                       [UTF8PROC_CATEGORY_ME] = UPPER | LOWER,
                                       [UTF8PROC_CATEGORY_ND] = NUMBER,
                                       [UTF8PROC_CATEGORY_NL] = NUMBER,
                                       [UTF8PROC_CATEGORY_NO] = NUMBER,
                                       [UTF8PROC_CATEGORY_CO] = 0};
    return of[k];
}

/* The class of the character at `at`, whose bytes *length gets. */
static inline unsigned class_at(const cursor *c, int64_t at, int *length) {
    unsigned char byte = (unsigned char)c->text[at];
    if (byte < 0x80) {
        *length = 1;
        if ((byte | 32) >= 'a' && (byte | 32) <= 'z')
            return byte & 32 ? LETTER | LOWER : LETTER | UPPER;
        if (byte >= '0' && byte <= '9') return NUMBER;
        if (byte == '\n' || byte == '\r') return SPACE | LINE;
        return byte == ' ' || (byte >= 9 && byte <= 13) ? SPACE : 0;
    }
    uint32_t character = qni_char_at(c->text, at, length);
    if (qni_is_space(character)) return SPACE;
    return class_of_category(utf8proc_category((utf8proc_int32_t)character));
}

/* The end of the run of characters that have one of the classes; `none` asks for those without. */
static int64_t run(const cursor *c, int64_t at, unsigned any) {
    int length;
    while (at < c->bytes && class_at(c, at, &length) & any) at += length;
    return at;
}

static int64_t run_without(const cursor *c, int64_t at, unsigned none) {
    int length;
    while (at < c->bytes && !(class_at(c, at, &length) & none)) at += length;
    return at;
}

static bool has(const cursor *c, int64_t at, unsigned any) {
    int length;
    return at < c->bytes && class_at(c, at, &length) & any;
}

static bool lacks(const cursor *c, int64_t at, unsigned none) {
    int length;
    return at < c->bytes && !(class_at(c, at, &length) & none);
}

/* White space at `at`: \s+(?!\S)|\s+, before it \s*[\r\n]+ where `lines` end a piece. */
static int64_t spaces(const cursor *c, int64_t at, bool lines) {
    int64_t last = at, line = -1, to = at;
    int length;
    for (unsigned class; to < c->bytes && (class = class_at(c, to, &length)) & SPACE;
         to += length) {
        last = to;
        if (class & LINE) line = to + length;
    }
    if (lines && line >= 0) return line;
    return to < c->bytes && last > at ? last : to;
}

/* The bytes of 's 't 're 've 'm 'll 'd at `at`, or 0; U+017F is an s where case does not matter. */
static int contraction(const cursor *c, int64_t at, bool any_case) {
    if (at + 1 >= c->bytes || c->text[at] != '\'') return 0;
    unsigned char fold = any_case ? 32 : 0;
    unsigned char a = (unsigned char)c->text[at + 1];
    unsigned char b = at + 2 < c->bytes ? (unsigned char)c->text[at + 2] : 0;
    if (any_case && a == 0xC5 && b == 0xBF) return 3;
    if (a < 0x80) a |= fold;
    if (b < 0x80) b |= fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return 2;
    return ((a == 'r' || a == 'v') && b == 'e') || (a == 'l' && b == 'l') ? 3 : 0;
}

/* 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static int64_t scan_gpt2(const char *text, int64_t at, int64_t bytes) {
    cursor c = {text, bytes};
    int n = contraction(&c, at, false), length;
    if (n) return at + n;
    int64_t from = at + (text[at] == ' ');
    if (from < bytes) {
        unsigned class = class_at(&c, from, &length);
        if (class & (LETTER | NUMBER)) return run(&c, from + length, class & (LETTER | NUMBER));
        if (!(class & SPACE)) return run_without(&c, from + length, SOMETHING);
    }
    return spaces(&c, at, false);
}

static int64_t digits(const cursor *c, int64_t at, int most) {
    int length;
    for (int i = 0; i < most && at < c->bytes && class_at(c, at, &length) & NUMBER; i++)
        at += length;
    return at;
}

/* (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,MOST}
 * | ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static int64_t scan_words(const char *text, int64_t at, int64_t bytes, int most) {
    cursor c = {text, bytes};
    int n = contraction(&c, at, true), length;
    if (n) return at + n;
    unsigned class = class_at(&c, at, &length);
    if (class & LETTER) return run(&c, at + length, LETTER);
    if (class & NUMBER) return digits(&c, at, most);
    if (!(class & LINE) && has(&c, at + length, LETTER)) return run(&c, at + length, LETTER);
    int64_t from = at + (text[at] == ' ');
    if (lacks(&c, from, SOMETHING)) return run(&c, run_without(&c, from, SOMETHING), LINE);
    return spaces(&c, at, true);
}

static int64_t scan_cl100k(const char *text, int64_t at, int64_t bytes) {
    return scan_words(text, at, bytes, 3);
}

static int64_t scan_qwen2(const char *text, int64_t at, int64_t bytes) {
    return scan_words(text, at, bytes, 1);
}

/* UPPER*LOWER+ at `at`: its end, or -1. The classes share Lm, Lo and M, so the greedy UPPER* may
 * have to give characters back, down to the last one that is LOWER too. */
static int64_t upper_lower(const cursor *c, int64_t at) {
    int64_t shared = -1;
    int length;
    for (unsigned class; at < c->bytes && (class = class_at(c, at, &length)) & UPPER; at += length)
        if (class & LOWER) shared = at + length;
    return has(c, at, LOWER) ? run(c, at, LOWER) : shared;
}

/* UPPER+LOWER* */
static int64_t upper_then_lower(const cursor *c, int64_t at) {
    return has(c, at, UPPER) ? run(c, run(c, at, UPPER), LOWER) : -1;
}

/* [^\r\n\p{L}\p{N}]?UPPER*LOWER+(?i:'s|...)?|[^\r\n\p{L}\p{N}]?UPPER+LOWER*(?i:'s|...)?|\p{N}{1,3}
 * | ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+ */
static int64_t scan_o200k(const char *text, int64_t at, int64_t bytes) {
    cursor c = {text, bytes};
    int length;
    unsigned class = class_at(&c, at, &length);
    bool prefix = !(class & (LINE | LETTER | NUMBER));
    int64_t to = prefix ? upper_lower(&c, at + length) : -1;
    if (to < 0) to = upper_lower(&c, at);
    if (to < 0 && prefix) to = upper_then_lower(&c, at + length);
    if (to < 0) to = upper_then_lower(&c, at);
    if (to >= 0) return to + contraction(&c, to, true);
    if (class & NUMBER) return digits(&c, at, 3);
    int64_t from = at + (text[at] == ' ');
    if (lacks(&c, from, SOMETHING)) {
        to = run_without(&c, from, SOMETHING);
        while (to < bytes && (text[to] == '\r' || text[to] == '\n' || text[to] == '/')) to++;
        return to;
    }
    return spaces(&c, at, true);
}

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORDS(numbers)                                                                             \
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" numbers                                          \
                "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *regex;
    qni_scan *scan;
} known[] = {
    {QNI_GPT2_PATTERN, scan_gpt2},
    {WORDS("\\p{N}{1,3}"), scan_cl100k},
    {WORDS("\\p{N}"), scan_qwen2},
    {"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
     "+" CONTRACTION "?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}"
     "\\p{Lo}\\p{M}]*" CONTRACTION
     "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     scan_o200k},
};

qni_scan *qni_scan_known(const char *regex) {
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(known[i].regex, regex) == 0) return known[i].scan;
    return NULL;
}

const char *qni_scan_regex(int index) {
    return index >= 0 && index < (int)(sizeof known / sizeof *known) ? known[index].regex : NULL;
}
