/* json.c — the strict parser and the writer behind json.h. */
#include "io/json.h"

#include <float.h>
#include <inttypes.h>
#include <limits.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct parser {
    qn_setup *arena;
    const qn_json_options *options;
    const qn_json_source *source;
    const char *text; /* source->text */
    size_t length, at;
    char *
        decoded; /* a decoded string is never longer than its spelling: it goes to the same place */
    locale_t plain; /* "C", for the decimal point */
    int depth, max_depth;
    qn_json_node **members; /* scratch of the duplicate search */
    size_t members_capacity;
} parser;

/* ---- errors ---------------------------------------------------------------------------------- */

void qn_json_position(const qn_json_source *s, size_t offset, int64_t *line, int64_t *column) {
    int64_t l = 1, c = 1;
    for (size_t i = 0; i < offset && i < s->length; i++) {
        unsigned char byte = (unsigned char)s->text[i];
        if (byte == '\n') {
            l++;
            c = 1;
        } else if ((byte & 0xC0) != 0x80) {
            c++;
        }
    }
    *line = l;
    *column = c;
}

static qn_status refuse(const parser *p, size_t offset, const char *format, ...) QN_PRINTF(3, 4);
static qn_status refuse(const parser *p, size_t offset, const char *format, ...) {
    qn_json_error error = {.offset = offset};
    va_list args;
    va_start(args, format);
    vsnprintf(error.text, sizeof error.text, format, args);
    va_end(args);
    if (p->options->error) *p->options->error = error;
    int64_t line, column;
    qn_json_position(p->source, offset, &line, &column);
    return qn_fail(QN_ERR_FORMAT, "%s:%" PRId64 ":%" PRId64 ": %s", p->source->name, line, column,
                   error.text);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool is_word(char c) {
    return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* "found X, expected ..." where X is what stands at p->at, cut to one word. */
static qn_status expected(const parser *p, const char *what) {
    char word[32];
    size_t n = 0;
    const char *s = p->text + p->at;
    if (p->at >= p->length) return refuse(p, p->at, "found the end of the text, expected %s", what);
    while (n < sizeof word - 5 && is_word(*s)) word[n++] = *s++;
    if (n == 0) { /* one character, all bytes of it */
        do word[n++] = *s++;
        while (((unsigned char)*s & 0xC0) == 0x80);
    }
    word[n] = '\0';
    if ((unsigned char)word[0] < 0x20 || word[0] == 0x7F) {
        return refuse(p, p->at, "found byte 0x%02x, expected %s", (unsigned char)word[0], what);
    }
    return refuse(p, p->at, "found `%s`, expected %s", word, what);
}

/* Length of the UTF-8 character at s (RFC 3629: no overlong form, no surrogate), 0 if it is
 * none. */
static size_t utf8_length(const unsigned char *s, size_t left) {
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xC2 && s[0] <= 0xDF ? 2 : (s[0] & 0xF0) == 0xE0 ? 3 : 4;
    if (s[0] < 0xC2 || s[0] > 0xF4 || n > left) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xC0) != 0x80) return 0;
    }
    bool second_wrong = (s[0] == 0xE0 && s[1] < 0xA0) || (s[0] == 0xED && s[1] > 0x9F) ||
                        (s[0] == 0xF0 && s[1] < 0x90) || (s[0] == 0xF4 && s[1] > 0x8F);
    return second_wrong ? 0 : n;
}

bool qn_utf8_valid(const char *text, size_t length) {
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0, n; i < length; i += n) {
        n = utf8_length(s + i, length - i);
        if (n == 0) return false;
    }
    return true;
}

static qn_status check_encoding(const parser *p) {
    const unsigned char *s = (const unsigned char *)p->text;
    if (p->length >= 3 && memcmp(s, "\xEF\xBB\xBF", 3) == 0) {
        return refuse(p, 0, "found a byte order mark, expected UTF-8 without one");
    }
    for (size_t i = 0, n; i < p->length; i += n) {
        n = utf8_length(s + i, p->length - i);
        if (n == 0) return refuse(p, i, "found byte 0x%02x, expected valid UTF-8", s[i]);
        if (s[i] == 0) return refuse(p, i, "found a NUL byte, expected text");
    }
    return QN_OK;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static qn_status skip_space(parser *p) {
    for (;;) {
        char c = p->text[p->at]; /* the text ends with a NUL */
        if (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
            p->at++;
        } else if (c == '/' && p->options->comments && p->text[p->at + 1] == '/') {
            p->at += strcspn(p->text + p->at, "\n");
        } else if (c == '/' && p->options->comments && p->text[p->at + 1] == '*') {
            const char *end = strstr(p->text + p->at + 2, "*/");
            if (!end) return refuse(p, p->at, "comment without end, expected `*/`");
            p->at = (size_t)(end - p->text) + 2;
        } else if (c == '/' && (p->text[p->at + 1] == '/' || p->text[p->at + 1] == '*')) {
            return refuse(p, p->at, "found a comment; this kind of file has none");
        } else {
            return QN_OK;
        }
    }
}

/* Four hexadecimal digits at `at`; -1 if they are not. */
static int32_t hex4(const char *s) {
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        v = v * 16 + digit;
    }
    return v;
}

static char *put_utf8(char *to, uint32_t c) {
    if (c < 0x80) {
        *to++ = (char)c;
    } else if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
        *to++ = (char)(0x80 | (c & 0x3F));
    } else if (c < 0x10000) {
        *to++ = (char)(0xE0 | c >> 12);
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    } else {
        *to++ = (char)(0xF0 | c >> 18);
        *to++ = (char)(0x80 | (c >> 12 & 0x3F));
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
        *to++ = (char)(0x80 | (c & 0x3F));
    }
    return to;
}

/* One escape; p->at is on the backslash. */
static qn_status escape(parser *p, char **to) {
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    size_t start = p->at;
    char c = p->text[start + 1];
    const char *letter = c ? strchr(letters, c) : NULL;
    if (letter) {
        *(*to)++ = meanings[letter - letters];
        p->at += 2;
        return QN_OK;
    }
    if (c != 'u') {
        return refuse(p, start,
                      "unknown escape in a string, expected \\\" \\\\ \\/ \\b \\f \\n \\r "
                      "\\t or \\uXXXX");
    }
    int32_t code = hex4(p->text + start + 2);
    if (code < 0) return refuse(p, start, "expected four hexadecimal digits after \\u");
    if (code == 0) return refuse(p, start, "\\u0000 is not allowed in a string");
    p->at += 6;
    if (code >= 0xD800 && code <= 0xDFFF) {
        int32_t low = code < 0xDC00 && p->text[p->at] == '\\' && p->text[p->at + 1] == 'u'
                          ? hex4(p->text + p->at + 2)
                          : -1;
        if (low < 0xDC00 || low > 0xDFFF) {
            return refuse(p, start, "half of a surrogate pair, expected both halves");
        }
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        p->at += 6;
    }
    *to = put_utf8(*to, (uint32_t)code);
    return QN_OK;
}

static qn_status string(parser *p, char **out) {
    size_t start = p->at++;
    char *to = p->decoded + start;
    *out = to;
    for (;;) {
        unsigned char c = (unsigned char)p->text[p->at];
        if (p->at >= p->length) return refuse(p, start, "string without end, expected `\"`");
        if (c == '"') break;
        if (c == '\n') return refuse(p, start, "string runs past the end of the line");
        if (c < 0x20) return refuse(p, p->at, "raw control character 0x%02x in a string", c);
        if (c == '\\') {
            QN_TRY(escape(p, &to));
        } else {
            *to++ = (char)c;
            p->at++;
        }
    }
    *to = '\0';
    p->at++;
    return QN_OK;
}

static void exact_integer(qn_json_node *n, const char *digits, size_t count, bool negative) {
    uint64_t v = 0;
    for (size_t i = 0; i < count; i++) {
        uint64_t digit = (uint64_t)(digits[i] - '0');
        if (v > (UINT64_MAX - digit) / 10) return; /* only the double remains */
        v = v * 10 + digit;
    }
    if (!negative) {
        n->exact = v > INT64_MAX ? QN_JSON_UINT64 : QN_JSON_INT64;
        memcpy(&n->integer, &v, sizeof v);
    } else if (v <= (uint64_t)INT64_MAX + 1) {
        n->exact = QN_JSON_INT64;
        n->integer = v > INT64_MAX ? INT64_MIN : -(int64_t)v;
    }
}

static qn_status number(parser *p, qn_json_node *n) {
    const char *s = p->text + p->at, *start = s;
    bool integer = true;
    if (*s == '-') s++;
    const char *digits = s;
    if (!is_digit(*s)) return expected(p, "a value");
    if (*s == '0' && is_digit(s[1])) return refuse(p, p->at, "a number must not begin with 0");
    while (is_digit(*s)) s++;
    size_t count = (size_t)(s - digits);
    if (*s == '.') {
        integer = false;
        if (!is_digit(*++s)) return refuse(p, p->at, "a decimal point needs digits after it");
        while (is_digit(*s)) s++;
    }
    if (*s == 'e' || *s == 'E') {
        integer = false;
        s++;
        if (*s == '+' || *s == '-') s++;
        if (!is_digit(*s)) return refuse(p, p->at, "an exponent needs digits");
        while (is_digit(*s)) s++;
    }
    n->item.type = cJSON_Number;
    n->item.valuedouble = strtod_l(start, NULL, p->plain);
    if (!isfinite(n->item.valuedouble)) {
        return refuse(p, p->at, "number out of range, expected at most %g", DBL_MAX);
    }
    double d = n->item.valuedouble;
    n->item.valueint = d >= INT_MAX ? INT_MAX : d <= INT_MIN ? INT_MIN : (int)d;
    if (integer) exact_integer(n, digits, count, *start == '-');
    p->at += (size_t)(s - start);
    return QN_OK;
}

static qn_status word(parser *p, qn_json_node *n) {
    static const struct {
        const char *text;
        int type;
    } words[] = {{"true", cJSON_True}, {"false", cJSON_False}, {"null", cJSON_NULL}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        size_t length = strlen(words[i].text);
        if (strncmp(p->text + p->at, words[i].text, length) != 0) continue;
        if (is_word(p->text[p->at + length])) break;
        n->item.type = words[i].type;
        n->item.valueint = words[i].type == cJSON_True;
        p->at += length;
        return QN_OK;
    }
    char c = p->text[p->at];
    if (c == '\'') return refuse(p, p->at, "found `'`, expected strings in double quotes");
    return expected(p, "a value");
}

/* ---- containers ------------------------------------------------------------------------------ */

static qn_json_node *new_node(parser *p) {
    qn_json_node *n = qn_setup_alloc(p->arena, sizeof *n);
    if (n) n->source = p->source;
    return n;
}

void qn_json_append(cJSON *parent, cJSON *child) {
    child->next = NULL;
    if (!parent->child) {
        parent->child = child->prev = child;
    } else { /* cJSON keeps the last element in the first one's prev */
        child->prev = parent->child->prev;
        child->prev->next = child;
        parent->child->prev = child;
    }
}

static int by_key(const void *a, const void *b) {
    const qn_json_node *x = *(qn_json_node *const *)a, *y = *(qn_json_node *const *)b;
    int order = strcmp(x->item.string, y->item.string);
    return order ? order : (x->key_offset > y->key_offset) - (x->key_offset < y->key_offset);
}

static qn_status find_duplicates(parser *p, cJSON *object, size_t count) {
    if (count < 2) return QN_OK;
    if (count > p->members_capacity) {
        size_t bytes = count * sizeof *p->members;
        qn_json_node **grown = qn_realloc(p->members, 0, bytes, "JSON keys");
        if (!grown) return QN_ERR_OOM;
        p->members = grown;
        p->members_capacity = count;
    }
    size_t i = 0;
    for (cJSON *c = object->child; c; c = c->next) p->members[i++] = (qn_json_node *)c;
    qsort(p->members, count, sizeof *p->members, by_key);
    const qn_json_node *first = NULL;
    for (i = 1; i < count; i++) {
        qn_json_node *n = p->members[i];
        if (strcmp(n->item.string, p->members[i - 1]->item.string) != 0) continue;
        n->duplicate = true;
        if (!first || n->key_offset < first->key_offset) first = n;
    }
    if (!first || p->options->mark_duplicates) return QN_OK;
    return refuse(p, first->key_offset, "duplicate key \"%.64s\"", first->item.string);
}

static qn_status value(parser *p, qn_json_node *n);

/* The elements of an array or the members of an object, brackets included. */
static qn_status container(parser *p, qn_json_node *n, bool object) {
    const char close = object ? '}' : ']';
    size_t start = p->at++, count = 0;
    n->item.type = object ? cJSON_Object : cJSON_Array;
    if (++p->depth > p->max_depth) {
        return refuse(p, start, "nested deeper than %d levels", p->max_depth);
    }
    QN_TRY(skip_space(p));
    if (p->text[p->at] != close) {
        for (;;) {
            if (p->text[p->at] == close) {
                return refuse(p, p->at, "found `%c` after a comma, expected another %s", close,
                              object ? "member" : "value");
            }
            qn_json_node *child = new_node(p);
            if (!child) return QN_ERR_OOM;
            child->key_offset = (uint32_t)p->at;
            if (object) {
                if (p->text[p->at] != '"') return expected(p, "a key in double quotes");
                QN_TRY(string(p, &child->item.string));
                QN_TRY(skip_space(p));
                if (p->text[p->at] != ':') return expected(p, "`:` after the key");
                p->at++;
                QN_TRY(skip_space(p));
            }
            QN_TRY(value(p, child));
            qn_json_append(&n->item, &child->item);
            count++;
            QN_TRY(skip_space(p));
            if (p->text[p->at] == close) break;
            if (p->text[p->at] != ',') return expected(p, object ? "`,` or `}`" : "`,` or `]`");
            p->at++;
            QN_TRY(skip_space(p));
        }
    }
    p->at++;
    p->depth--;
    return object ? find_duplicates(p, &n->item, count) : QN_OK;
}

static qn_status value(parser *p, qn_json_node *n) {
    n->offset = (uint32_t)p->at;
    char c = p->text[p->at];
    if (c == '{' || c == '[') {
        QN_TRY(container(p, n, c == '{'));
    } else if (c == '"') {
        n->item.type = cJSON_String;
        QN_TRY(string(p, &n->item.valuestring));
    } else if (c == '-' || is_digit(c)) {
        QN_TRY(number(p, n));
    } else {
        QN_TRY(word(p, n));
    }
    n->length = (uint32_t)(p->at - n->offset);
    return QN_OK;
}

static qn_status document(parser *p, qn_json_node *root) {
    QN_TRY(check_encoding(p));
    QN_TRY(skip_space(p));
    root->key_offset = (uint32_t)p->at;
    QN_TRY(value(p, root));
    QN_TRY(skip_space(p));
    return p->at < p->length ? expected(p, "nothing after the value") : QN_OK;
}

qn_status qn_json_parse(qn_setup *arena, const char *text, size_t length, const qn_json_options *o,
                        cJSON **root) {
    const char *name = o->name ? o->name : "JSON";
    size_t max_bytes = o->max_bytes ? o->max_bytes : QN_JSON_MAX_BYTES;
    if (max_bytes > UINT32_MAX - 1) max_bytes = UINT32_MAX - 1; /* offsets are 32 bits wide */
    qn_json_source *source = qn_setup_alloc(arena, sizeof *source);
    if (!source) return QN_ERR_OOM;
    source->name = qn_setup_strdup(arena, name);
    source->text = "";
    parser p = {.arena = arena, .options = o, .source = source};
    if (!source->name) return QN_ERR_OOM;
    if (length > max_bytes) {
        return refuse(&p, 0, "%zu bytes are too many, expected at most %zu", length, max_bytes);
    }
    char *copy = qn_setup_alloc(arena, length + 1);
    p.decoded = qn_setup_alloc(arena, length + 1);
    qn_json_node *n = new_node(&p);
    if (!copy || !p.decoded || !n) return QN_ERR_OOM;
    if (length) memcpy(copy, text, length);
    source->text = p.text = copy;
    source->length = p.length = length;
    p.max_depth = o->max_depth ? o->max_depth : QN_JSON_MAX_DEPTH;
    p.plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!p.plain) return qn_fail(QN_ERR_OOM, "out of memory: the C locale");
    qn_status status = document(&p, n);
    freelocale(p.plain);
    qn_free(p.members);
    if (status == QN_OK) *root = &n->item;
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

const cJSON *qn_json_get(const cJSON *object, const char *key) {
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, key) : NULL;
}

bool qn_json_int64(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item)) return false;
    const qn_json_node *n = qn_json_node_of(item);
    double d = item->valuedouble;
    if (n->exact == QN_JSON_INT64) {
        *out = n->integer;
    } else if (n->exact == QN_JSON_INEXACT && fabs(d) <= 9007199254740992.0 && d == floor(d)) {
        *out = (int64_t)d;
    } else {
        return false;
    }
    return true;
}

bool qn_json_uint64(const cJSON *item, uint64_t *out) {
    int64_t v;
    if (cJSON_IsNumber(item) && qn_json_node_of(item)->exact == QN_JSON_UINT64) {
        memcpy(out, &qn_json_node_of(item)->integer, sizeof *out);
        return true;
    }
    if (!qn_json_int64(item, &v) || v < 0) return false;
    *out = (uint64_t)v;
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */

static void line_break(qn_text *t, int indent) {
    if (indent < 0) return;
    qn_text_add(t, "\n");
    qn_text_pad(t, (size_t)indent * 2, ' ');
}

void qn_json_write(qn_text *t, const cJSON *item, int indent) {
    int64_t i;
    uint64_t u;
    if (cJSON_IsObject(item) || cJSON_IsArray(item)) {
        bool object = cJSON_IsObject(item);
        int inner = indent < 0 ? indent : indent + 1;
        qn_text_add(t, object ? "{" : "[");
        for (const cJSON *c = item->child; c; c = c->next) {
            if (c != item->child) qn_text_add(t, indent < 0 ? ", " : ",");
            line_break(t, inner);
            if (object) {
                qn_text_json_string(t, c->string);
                qn_text_add(t, ": ");
            }
            qn_json_write(t, c, inner);
        }
        if (item->child) line_break(t, indent);
        qn_text_add(t, object ? "}" : "]");
    } else if (cJSON_IsString(item)) {
        qn_text_json_string(t, item->valuestring);
    } else if (qn_json_node_of(item)->exact == QN_JSON_INT64 && qn_json_int64(item, &i)) {
        qn_text_printf(t, i == 0 && signbit(item->valuedouble) ? "-%" PRId64 : "%" PRId64, i);
    } else if (qn_json_node_of(item)->exact == QN_JSON_UINT64 && qn_json_uint64(item, &u)) {
        qn_text_printf(t, "%" PRIu64, u);
    } else if (cJSON_IsNumber(item)) {
        qn_text_json_number(t, item->valuedouble);
    } else {
        qn_text_add(t, cJSON_IsTrue(item) ? "true" : cJSON_IsFalse(item) ? "false" : "null");
    }
}
