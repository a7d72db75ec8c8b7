/* jinja_lex.c — a template as tokens: text, delimiters, and what stands between them.
 *
 * White space control happens here: trim_blocks takes the line end after a block or comment,
 * lstrip_blocks the blanks before one at the start of a line, a minus sign all white space on its
 * side, a plus sign keeps what the two options would take.
 */
#include "io/jinja_parts.h"

#include "io/vocab.h"

#include <stdlib.h>

typedef struct lexer {
    qn_jinja *t;
    const char *text;
    size_t at, length;
    bool line_starts; /* what was read last ended a line */
    qni_jtoken *tokens;
    int64_t count, capacity;
    int brackets; /* open in the present tag */
    char closing[QNI_J_MAX_NESTING];
} lexer;

static qn_status add(lexer *l, uint8_t type, size_t offset, const char *text, size_t bytes) {
    if (l->count == l->capacity) {
        int64_t capacity = l->capacity ? 2 * l->capacity : 64;
        qni_jtoken *more = qn_setup_alloc(l->t->arena, (size_t)capacity * sizeof *more);
        if (!more) return QN_ERR_OOM;
        if (l->count) memcpy(more, l->tokens, (size_t)l->count * sizeof *more);
        l->tokens = more;
        l->capacity = capacity;
    }
    l->tokens[l->count++] =
        (qni_jtoken){.type = type, .offset = (uint32_t)offset, .text = {text, bytes}};
    return QN_OK;
}

static bool starts(const lexer *l, size_t at, const char *with) {
    size_t n = strlen(with);
    return l->length - at >= n && memcmp(l->text + at, with, n) == 0;
}

/* The length of the white space character at `at`, 0 if there is none. */
static size_t space_at(const lexer *l, size_t at) {
    uint32_t c;
    if (at >= l->length) return 0;
    int n = qn_utf8_next((const unsigned char *)l->text + at, (int64_t)(l->length - at), &c);
    return n && qni_jinja_space(c) ? (size_t)n : 0;
}

static void skip_space(lexer *l) {
    for (size_t n; (n = space_at(l, l->at)) > 0;) l->at += n;
}

/* Where the white space that ends at `end` and not before `begin` starts. */
static size_t space_before(const lexer *l, size_t begin, size_t end) {
    while (end > begin) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)l->text[at] & 0xC0) == 0x80) at--;
        size_t n = space_at(l, at);
        if (n == 0 || at + n != end) break;
        end = at;
    }
    return end;
}

/* The text before a tag at `end`; sign: the character behind the tag's opening. */
static qn_status add_text(lexer *l, size_t begin, size_t end, char sign, bool output) {
    size_t stop = end;
    if (sign == '-') {
        stop = space_before(l, begin, end);
    } else if (sign != '+' && !output) {
        size_t line = end;
        while (line > begin && l->text[line - 1] != '\n') line--;
        if ((line > begin || l->line_starts) && space_before(l, line, end) == line) stop = line;
    }
    return stop > begin ? add(l, QNI_JT_TEXT, begin, l->text + begin, stop - begin) : QN_OK;
}

/* At the end of a tag: what its sign and trim_blocks take. `closing` is "%}" and the like. */
static bool skip_closing(lexer *l, const char *closing, bool trims) {
    size_t at = l->at;
    char sign = at < l->length ? l->text[at] : '\0';
    if (starts(l, at, closing)) {
        l->at = at + 2;
        if (trims && l->at < l->length && l->text[l->at] == '\n') l->at++;
    } else if (sign == '-' && starts(l, at + 1, closing)) {
        l->at = at + 3;
        skip_space(l);
    } else if (sign == '+' && trims && starts(l, at + 1, closing)) {
        l->at = at + 3;
    } else {
        return false;
    }
    l->line_starts = l->text[l->at - 1] == '\n';
    return true;
}

/* ---- inside a tag ---------------------------------------------------------------------------- */

static bool digit(char c) { return c >= '0' && c <= '9'; }
static bool letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}

static size_t skip_digits(const lexer *l,
                          size_t at) { /* 1_000 counts; an underscore at the end not */
    while (at < l->length && (digit(l->text[at]) || (l->text[at] == '_' && at + 1 < l->length &&
                                                     digit(l->text[at + 1])))) {
        at++;
    }
    return at;
}

static qn_status number(lexer *l) {
    char digits[64];
    size_t begin = l->at, end = skip_digits(l, begin), n = 0;
    bool is_float = false;
    if (end + 1 < l->length && l->text[end] == '.' && digit(l->text[end + 1])) {
        end = skip_digits(l, end + 1);
        is_float = true;
    }
    if (end < l->length && (l->text[end] == 'e' || l->text[end] == 'E')) {
        size_t exponent = end + 1;
        if (exponent < l->length && (l->text[exponent] == '+' || l->text[exponent] == '-')) {
            exponent++;
        }
        if (exponent < l->length && digit(l->text[exponent])) {
            end = skip_digits(l, exponent);
            is_float = true;
        }
    }
    for (size_t i = begin; i < end && n < sizeof digits - 1; i++) {
        if (l->text[i] != '_') digits[n++] = l->text[i];
    }
    digits[n] = '\0';
    bool zeros = strspn(digits, "0") == n;
    if (end - begin >= sizeof digits || (end < l->length && letter(l->text[end])) ||
        (!is_float && digits[0] == '0' && !zeros)) {
        return qni_jinja_error(l->t, begin, QN_ERR_FORMAT, "not a number in decimal digits");
    }
    QN_TRY(add(l, is_float ? QNI_JT_FLOAT : QNI_JT_INT, begin, l->text + begin, end - begin));
    qni_jval *value = &l->tokens[l->count - 1].value;
    if (is_float) {
        cJSON *parsed; /* for its reading of numbers, which no locale changes */
        if (qn_json_parse(l->t->arena, digits, n, &(qn_json_options){0}, &parsed) != QN_OK) {
            return qni_jinja_error(l->t, begin, QN_ERR_FORMAT, "not a number within the doubles");
        }
        *value = qni_jfloat(parsed->valuedouble);
    } else {
        uint64_t i = 0;
        for (size_t k = 0; k < n; k++) {
            if (i > (INT64_MAX - (uint64_t)(digits[k] - '0')) / 10) {
                return qni_jinja_error(l->t, begin, QN_ERR_FORMAT, "an integer beyond 64 bits");
            }
            i = 10 * i + (uint64_t)(digits[k] - '0');
        }
        *value = qni_jint((int64_t)i);
    }
    l->at = end;
    return QN_OK;
}

/* \xhh, \uhhhh and \Uhhhhhhhh behind the backslash at `at`; 0 if it is none of them. */
static size_t hexadecimal(const lexer *l, size_t at, uint32_t *c) {
    int digits = l->text[at] == 'x' ? 2 : l->text[at] == 'u' ? 4 : l->text[at] == 'U' ? 8 : 0;
    uint32_t value = 0;
    for (int i = 1; i <= digits; i++) {
        char h = at + (size_t)i < l->length ? l->text[at + (size_t)i] : '\0';
        int v = digit(h)               ? h - '0'
                : h >= 'a' && h <= 'f' ? h - 'a' + 10
                : h >= 'A' && h <= 'F' ? h - 'A' + 10
                                       : -1;
        if (v < 0) return 0;
        value = 16 * value + (uint32_t)v;
    }
    *c = value;
    return digits ? (size_t)digits + 1 : 0;
}

/* What the escape behind a backslash at `at` means, written to `to`; its length in the template. */
static qn_status escape(const lexer *l, size_t at, char **to, size_t *length) {
    static const char letters[] = "abfnrtv\\'\"", meanings[] = "\a\b\f\n\r\t\v\\'\"";
    uint32_t c = 0;
    char e = l->text[at];
    const char *known = e ? strchr(letters, e) : NULL;
    *length = 1;
    if (known) {
        *(*to)++ = meanings[known - letters];
    } else if (e == '\n') {
        return QN_OK; /* the line goes on */
    } else if (e >= '0' && e <= '7') {
        size_t n = 0;
        for (; n < 3 && l->text[at + n] >= '0' && l->text[at + n] <= '7'; n++) {
            c = 8 * c + (uint32_t)(l->text[at + n] - '0');
        }
        *length = n;
        *to += qn_utf8_write(c, *to);
    } else if (e == 'x' || e == 'u' || e == 'U') {
        *length = hexadecimal(l, at, &c);
        if (!*length || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000)) {
            return qni_jinja_error(l->t, at - 1, QN_ERR_FORMAT,
                                   "an escape that is no Unicode character");
        }
        *to += qn_utf8_write(c, *to);
    } else if (e == 'N') {
        return qni_jinja_error(l->t, at - 1, QN_ERR_FORMAT, "characters by name are not read");
    } else {
        *(*to)++ = '\\';
        *length = 0; /* both stay as they are */
    }
    return QN_OK;
}

static qn_status string(lexer *l) {
    size_t begin = l->at, end = begin + 1;
    char quote = l->text[begin];
    while (end < l->length && l->text[end] != quote) end += l->text[end] == '\\' ? 2 : 1;
    if (end >= l->length) {
        return qni_jinja_error(l->t, begin, QN_ERR_FORMAT, "a string that does not end");
    }
    char *text = qn_setup_alloc(l->t->arena, end - begin), *to = text;
    if (!text) return QN_ERR_OOM;
    for (size_t i = begin + 1; i < end;) {
        if (l->text[i] != '\\') {
            *to++ = l->text[i++];
            continue;
        }
        size_t length;
        QN_TRY(escape(l, i + 1, &to, &length));
        i += 1 + length;
    }
    l->at = end + 1;
    return add(l, QNI_JT_STRING, begin, text, (size_t)(to - text));
}

static qn_status bracket(lexer *l, char c) {
    const char *open = strchr("([{", c);
    if (open) {
        if (l->brackets == QNI_J_MAX_NESTING) {
            return qni_jinja_error(l->t, l->at, QN_ERR_FORMAT, "more than %d open brackets",
                                   QNI_J_MAX_NESTING);
        }
        l->closing[l->brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (l->brackets == 0 || l->closing[l->brackets - 1] != c) {
        return qni_jinja_error(l->t, l->at, QN_ERR_FORMAT, "found '%c', expected %s%.1s%s", c,
                               l->brackets ? "'" : "no closing bracket",
                               l->brackets ? &l->closing[l->brackets - 1] : "",
                               l->brackets ? "'" : "");
    } else {
        l->brackets--;
    }
    return QN_OK;
}

static qn_status operator_token(lexer *l) {
    static const char *const operators[] = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*",
                                            "/",  "%",  "~",  "<",  ">",  "=",  "(", ")", "[",
                                            "]",  "{",  "}",  ",",  ".",  ":",  "|"};
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        if (!starts(l, l->at, operators[i])) continue;
        char c = operators[i][0];
        if (strchr("()[]{}", c)) QN_TRY(bracket(l, c));
        size_t n = strlen(operators[i]);
        QN_TRY(add(l, QNI_JT_OPERATOR, l->at, l->text + l->at, n));
        l->at += n;
        return QN_OK;
    }
    return qni_jinja_error(l->t, l->at, QN_ERR_FORMAT, "a character that begins nothing");
}

/* From behind an opening to behind its closing. */
static qn_status tag(lexer *l, bool output, size_t opened) {
    const char *closing = output ? "}}" : "%}";
    l->brackets = 0;
    for (;;) {
        for (size_t n; (n = space_at(l, l->at)) > 0;) l->at += n;
        if (l->at >= l->length) {
            return qni_jinja_error(l->t, opened, QN_ERR_FORMAT, "a tag that does not end");
        }
        size_t at = l->at;
        if (l->brackets == 0 && skip_closing(l, closing, !output)) {
            return add(l, output ? QNI_JT_CLOSE_OUTPUT : QNI_JT_CLOSE_BLOCK, at, closing, 2);
        }
        char c = l->text[at];
        if (digit(c)) {
            QN_TRY(number(l));
        } else if (letter(c)) {
            while (l->at < l->length && (letter(l->text[l->at]) || digit(l->text[l->at]))) l->at++;
            QN_TRY(add(l, QNI_JT_NAME, at, l->text + at, l->at - at));
        } else if (c == '"' || c == '\'') {
            QN_TRY(string(l));
        } else {
            QN_TRY(operator_token(l));
        }
    }
}

/* ---- around tags ----------------------------------------------------------------------------- */

static size_t sign_length(const lexer *l, size_t at) {
    return at < l->length && (l->text[at] == '-' || l->text[at] == '+');
}

/* Whether a tag that holds `word` alone stands at `at`; *inside: where its closing is. */
static bool word_tag(const lexer *l, size_t at, const char *word, size_t *inside) {
    if (!starts(l, at, "{%")) return false;
    lexer s = *l;
    s.at = at + 2 + sign_length(l, at + 2);
    skip_space(&s);
    if (!starts(&s, s.at, word)) return false;
    s.at += strlen(word);
    skip_space(&s);
    *inside = s.at;
    return starts(&s, s.at, "%}") || starts(&s, s.at, "-%}") || starts(&s, s.at, "+%}");
}

static qn_status raw(lexer *l, size_t opened, size_t inside) {
    l->at = inside;
    if (!skip_closing(l, "%}", false)) { /* no line end is taken behind raw */
        return qni_jinja_error(l->t, opened, QN_ERR_FORMAT, "a raw tag that does not end");
    }
    for (size_t i = l->at; i < l->length; i++) {
        if (!word_tag(l, i, "endraw", &inside)) continue;
        QN_TRY(add_text(l, l->at, i, l->text[i + 2], false));
        l->at = inside;
        (void)skip_closing(l, "%}", true); /* word_tag saw it */
        return QN_OK;
    }
    return qni_jinja_error(l->t, opened, QN_ERR_FORMAT, "raw without endraw");
}

static qn_status comment(lexer *l, size_t opened) {
    for (l->at = opened + 2; l->at < l->length; l->at++) {
        if (skip_closing(l, "#}", true)) return QN_OK;
    }
    return qni_jinja_error(l->t, opened, QN_ERR_FORMAT, "a comment that does not end");
}

static qn_status next_tag(lexer *l, size_t begin, size_t open) {
    char kind = l->text[open + 1];
    size_t inside;
    char sign = open + 2 < l->length ? l->text[open + 2] : '\0';
    QN_TRY(add_text(l, begin, open, sign, kind == '{'));
    if (kind == '#') return comment(l, open);
    if (kind == '%' && word_tag(l, open, "raw", &inside)) return raw(l, open, inside);
    QN_TRY(add(l, kind == '{' ? QNI_JT_OPEN_OUTPUT : QNI_JT_OPEN_BLOCK, open, l->text + open, 2));
    l->at = open + 2 + sign_length(l, open + 2);
    return tag(l, kind == '{', open);
}

qn_status qni_jinja_lex(qn_jinja *t, qni_jtoken **tokens, int64_t *count) {
    lexer l = {.t = t, .text = t->text, .length = t->length, .line_starts = true};
    while (l.at < l.length) {
        size_t begin = l.at, open = begin;
        while (open + 1 < l.length && !(l.text[open] == '{' && strchr("{%#", l.text[open + 1]))) {
            open++;
        }
        if (open + 1 >= l.length) {
            QN_TRY(add(&l, QNI_JT_TEXT, begin, l.text + begin, l.length - begin));
            break;
        }
        QN_TRY(next_tag(&l, begin, open));
    }
    QN_TRY(add(&l, QNI_JT_END, l.length, "", 0));
    *tokens = l.tokens;
    *count = l.count;
    return QN_OK;
}
