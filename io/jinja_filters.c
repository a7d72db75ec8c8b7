/* jinja_filters.c — filters that map one value, and the functions every template can call. */
#include "io/jinja_parts.h"

#include <math.h>
#include <stdlib.h>
#include <time.h>

static bool given(const qni_jval *v) { return !qni_jabsent(v); }

/* A method of the text of `self`, as `x|name` of `x.name()`. */
static qn_status as_method(qni_jrun *r, const char *name, const qni_jval *self,
                           const qni_jargs *args, qni_jval *out) {
    qni_jval text;
    QN_TRY(qni_jinja_text(r, self, &text));
    const qni_jfunction *f = qni_jinja_find_method(QNI_J_STRING, name, strlen(name));
    return qni_jinja_apply(r, f, &text, args, out);
}

static qn_status filter_upper(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)v;
    return as_method(r, "upper", self, args, out);
}
static qn_status filter_lower(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)v;
    return as_method(r, "lower", self, args, out);
}
static qn_status filter_capitalize(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                   const qni_jargs *args, qni_jval *out) {
    (void)v;
    return as_method(r, "capitalize", self, args, out);
}
static qn_status filter_trim(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    const qni_jval *chars = given(&v[0]) ? &v[0] : NULL;
    const qni_jargs by_place = {chars, (const qni_jstring *const[]){NULL}, chars != NULL};
    (void)args;
    return as_method(r, "strip", self, &by_place, out);
}

static bool word_separator(char c) { return strchr("-([{<", c) || qni_jinja_space((uint32_t)c); }

/* Words begin behind white space and opening brackets, unlike in str.title. */
static qn_status filter_title(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    qni_jval text;
    char *to;
    bool begins = true;
    (void)v;
    (void)args;
    QN_TRY(qni_jinja_text(r, self, &text));
    size_t n = text.as.s->bytes;
    QN_TRY(qni_jinja_alloc(r, n + 1, &to));
    for (size_t i = 0; i < n; i++) {
        char c = text.as.s->text[i];
        bool upper = c >= 'A' && c <= 'Z', lower = c >= 'a' && c <= 'z';
        to[i] = upper && !begins ? (char)(c | 0x20) : lower && begins ? (char)(c & ~0x20) : c;
        begins = c > 0 && word_separator(c);
    }
    return qni_jinja_borrow(r, to, n, out);
}

static qn_status filter_replace(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    qni_jval texts[3] = {{0}};
    int64_t n = 2;
    (void)args;
    QN_TRY(qni_jinja_text(r, &v[0], &texts[0]));
    QN_TRY(qni_jinja_text(r, &v[1], &texts[1]));
    if (given(&v[2]) && v[2].kind != QNI_J_NONE) texts[n++] = v[2];
    const qni_jargs by_place = {texts, (const qni_jstring *const[3]){NULL}, n};
    return as_method(r, "replace", self, &by_place, out);
}

static qn_status filter_string(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return qni_jinja_text(r, self, out);
}

static qn_status filter_safe(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    return filter_string(r, self, v, args, out); /* nothing is escaped, so everything is */
}

static qn_status filter_format(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    qni_jval format;
    (void)v;
    QN_TRY(qni_jinja_text(r, self, &format));
    for (int64_t i = 0; i < args->count; i++) {
        if (args->names[i]) return qni_jinja_fail(r, "format takes no arguments by name");
    }
    return qni_jinja_format(r, format.as.s, args->values, args->count, out);
}

static qn_status filter_default(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    bool replaced = self->kind == QNI_J_UNDEFINED ||
                    (given(&v[1]) && qni_jinja_truth(&v[1]) && !qni_jinja_truth(self));
    (void)args;
    if (!replaced) {
        *out = *self;
        return QN_OK;
    }
    *out = v[0];
    return given(&v[0]) ? QN_OK : qni_jinja_borrow(r, "", 0, out);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The number that a text spells, with white space around it allowed. */
static bool read_number(const qni_jstring *s, bool whole, qni_jval *out) {
    char text[64], *end;
    size_t begin = 0, n = s->bytes;
    while (begin < n && qni_jinja_space((unsigned char)s->text[begin])) begin++;
    while (n > begin && qni_jinja_space((unsigned char)s->text[n - 1])) n--;
    if (n == begin || n - begin >= sizeof text) return false;
    memcpy(text, s->text + begin, n - begin);
    text[n - begin] = '\0';
    if (strspn(text, whole ? "+-0123456789" : "+-0123456789.eE") != n - begin) return false;
    if (whole) {
        *out = qni_jint(strtoll(text, &end, 10));
        return *end == '\0' && out->as.i != INT64_MAX && out->as.i != INT64_MIN;
    }
    *out = qni_jfloat(strtod(text, &end));
    return *end == '\0';
}

static qn_status filter_int(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    qni_jval number = {.kind = QNI_J_NONE};
    (void)args;
    if (self->kind == QNI_J_STRING) {
        if (!read_number(self->as.s, true, &number)) read_number(self->as.s, false, &number);
    } else if (qni_jnumeric(self)) {
        number = *self;
    }
    if (number.kind == QNI_J_FLOAT && isfinite(number.as.d)) {
        if (!(fabs(number.as.d) < 9e18)) return qni_jinja_fail(r, "an integer beyond 64 bits");
        number = qni_jint((int64_t)number.as.d);
    }
    if (number.kind == QNI_J_BOOL) number = qni_jint(number.as.b);
    *out = number.kind == QNI_J_INT ? number : given(&v[0]) ? v[0] : qni_jint(0);
    return QN_OK;
}

static qn_status filter_float(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    qni_jval number = {.kind = QNI_J_NONE};
    (void)r;
    (void)args;
    if (self->kind == QNI_J_STRING) {
        if (!read_number(self->as.s, false, &number)) number = qni_jnone();
    } else if (qni_jnumeric(self)) {
        number = qni_jfloat(qni_jdouble(self));
    }
    *out = number.kind == QNI_J_FLOAT ? number : given(&v[0]) ? v[0] : qni_jfloat(0);
    return QN_OK;
}

static qn_status filter_abs(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    const qni_jval minus_one = qni_jint(-1);
    (void)v;
    (void)args;
    if (!qni_jnumeric(self)) return qni_jinja_fail(r, "abs of %s", qni_jinja_kind_name(self));
    if (self->kind == QNI_J_FLOAT) {
        *out = qni_jfloat(fabs(self->as.d));
        return QN_OK;
    }
    int64_t i = self->kind == QNI_J_BOOL ? self->as.b : self->as.i;
    const qni_jval value = qni_jint(i), factor = i < 0 ? minus_one : qni_jint(1);
    return qni_jinja_binary(r, QNI_J_MULTIPLY, &value, &factor, out);
}

static qn_status filter_round(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    int64_t places = given(&v[0]) && v[0].kind == QNI_J_INT ? v[0].as.i : 0;
    (void)args;
    if (!qni_jnumeric(self)) return qni_jinja_fail(r, "round of %s", qni_jinja_kind_name(self));
    if (given(&v[1]) || places != 0) return qni_jinja_fail(r, "round to anything but an integer");
    double d = qni_jdouble(self);
    *out = self->kind == QNI_J_FLOAT ? qni_jfloat(nearbyint(d)) : *self;
    return QN_OK;
}

/* ---- lists ----------------------------------------------------------------------------------- */

static qn_status filter_length(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    int64_t n;
    (void)v;
    (void)args;
    QN_TRY(qni_jinja_length(r, self, &n));
    *out = qni_jint(n);
    return QN_OK;
}

static qn_status filter_list(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    (void)v;
    (void)args;
    QN_TRY(qni_jinja_walk(r, self, &items));
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, out));
    *out->as.list = (qni_jlist){items->items, items->count, items->count};
    return QN_OK;
}

static qn_status filter_first(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    (void)v;
    (void)args;
    QN_TRY(qni_jinja_walk(r, self, &items));
    *out = items->count ? items->items[0] : (qni_jval){0};
    return QN_OK;
}

static qn_status filter_last(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    (void)v;
    (void)args;
    if (self->kind == QNI_J_ITERATOR) return qni_jinja_fail(r, "the last item of an iterator");
    QN_TRY(qni_jinja_walk(r, self, &items));
    *out = items->count ? items->items[items->count - 1] : (qni_jval){0};
    return QN_OK;
}

static qn_status filter_reverse(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    const qni_jval none = qni_jnone(), back = qni_jint(-1);
    const qni_jlist *items;
    (void)v;
    (void)args;
    if (self->kind == QNI_J_STRING) return qni_jinja_slice(r, self, &none, &none, &back, out);
    QN_TRY(qni_jinja_walk(r, self, &items));
    qni_jval list = {.kind = QNI_J_LIST, .as.list = &(qni_jlist){items->items, items->count, 0}};
    QN_TRY(qni_jinja_slice(r, &list, &none, &none, &back, out));
    out->kind = QNI_J_ITERATOR;
    return QN_OK;
}

static qn_status filter_items(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)v;
    if (self->kind == QNI_J_UNDEFINED) return qni_jinja_list(r, QNI_J_ITERATOR, 0, out);
    if (self->kind != QNI_J_DICT) {
        return qni_jinja_fail(r, "items of %s, expected a dict", qni_jinja_kind_name(self));
    }
    const qni_jfunction *f = qni_jinja_find_method(QNI_J_DICT, "items", 5);
    QN_TRY(qni_jinja_apply(r, f, self, args, out));
    out->kind = QNI_J_ITERATOR;
    return QN_OK;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static qn_status style_text(qni_jrun *r, const qni_jval *v, const qni_jstring **out) {
    if (v->kind != QNI_J_STRING) {
        return qni_jinja_fail(r, "%s, expected a string", qni_jinja_kind_name(v));
    }
    *out = v->as.s;
    return QN_OK;
}

/* How far each level is moved: so many blanks, or a string. */
static qn_status indent_text(qni_jrun *r, const qni_jval *v, const qni_jstring **out) {
    const qni_jval blank = {.kind = QNI_J_STRING, .as.s = &(qni_jstring){" ", 1}};
    qni_jval text = *v;
    if (v->kind != QNI_J_STRING) QN_TRY(qni_jinja_binary(r, QNI_J_MULTIPLY, &blank, v, &text));
    return style_text(r, &text, out);
}

static qn_status filter_tojson(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    static const qni_jstring comma = {", ", 2}, bare_comma = {",", 1}, colon = {": ", 2};
    qni_jjson style = {.between_items = &comma, .after_key = &colon};
    (void)args;
    style.ascii = given(&v[0]) && qni_jinja_truth(&v[0]);
    style.sorted = given(&v[3]) && qni_jinja_truth(&v[3]);
    if (given(&v[1]) && v[1].kind != QNI_J_NONE) {
        QN_TRY(indent_text(r, &v[1], &style.indent));
        style.between_items = &bare_comma;
    }
    if (given(&v[2]) && v[2].kind != QNI_J_NONE) {
        bool pair =
            (v[2].kind == QNI_J_TUPLE || v[2].kind == QNI_J_LIST) && v[2].as.list->count == 2;
        if (!pair) return qni_jinja_fail(r, "separators must be two strings");
        QN_TRY(style_text(r, &v[2].as.list->items[0], &style.between_items));
        QN_TRY(style_text(r, &v[2].as.list->items[1], &style.after_key));
    }
    return qni_jinja_json(r, self, &style, out);
}

/* Each line but the first (if `first`, that too) moved by `width`; empty ones only if `blank`. */
static qn_status filter_indent(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    const qni_jval four = qni_jint(4);
    const qni_jstring *by = NULL;
    qni_jval text;
    qn_text to = {0};
    bool first = given(&v[1]) && qni_jinja_truth(&v[1]);
    bool blank = given(&v[2]) && qni_jinja_truth(&v[2]);
    (void)args;
    QN_TRY(qni_jinja_text(r, self, &text));
    QN_TRY(indent_text(r, given(&v[0]) ? &v[0] : &four, &by));
    const char *s = text.as.s->text;
    size_t n = text.as.s->bytes;
    for (size_t i = 0; i <= n;) {
        const char *end = i < n ? memchr(s + i, '\n', n - i) : NULL;
        size_t line = end ? (size_t)(end - s) - i : n - i;
        if (i == 0 ? first : blank || line > 0) qn_text_add_bytes(&to, by->text, by->bytes);
        qn_text_add_bytes(&to, s + i, line);
        if (end) qn_text_add(&to, "\n");
        i += line + 1;
        if (to.length > r->memory) break; /* taking it fails */
    }
    return qni_jinja_take(r, &to, out);
}

static const qni_jfunction filters[] = {
    {"abs", filter_abs, 0, {NULL}},
    {"capitalize", filter_capitalize, 0, {NULL}},
    {"count", filter_length, 0, {NULL}},
    {"d", filter_default, 0, {"default_value", "boolean"}},
    {"default", filter_default, 0, {"default_value", "boolean"}},
    {"first", filter_first, 0, {NULL}},
    {"float", filter_float, 0, {"default"}},
    {"format", filter_format, 0, {"*"}},
    {"indent", filter_indent, 0, {"width", "first", "blank"}},
    {"int", filter_int, 0, {"default"}},
    {"items", filter_items, 0, {NULL}},
    {"last", filter_last, 0, {NULL}},
    {"length", filter_length, 0, {NULL}},
    {"list", filter_list, 0, {NULL}},
    {"lower", filter_lower, 0, {NULL}},
    {"replace", filter_replace, 2, {"old", "new", "count"}},
    {"reverse", filter_reverse, 0, {NULL}},
    {"round", filter_round, 0, {"precision", "method"}},
    {"safe", filter_safe, 0, {NULL}},
    {"string", filter_string, 0, {NULL}},
    {"title", filter_title, 0, {NULL}},
    {"tojson", filter_tojson, 0, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"trim", filter_trim, 0, {"chars"}},
    {"upper", filter_upper, 0, {NULL}},
};

const qni_jfunction *qni_jinja_find_in(const qni_jfunction *rows, size_t n, const char *name,
                                       size_t bytes) {
    for (size_t i = 0; i < n; i++) {
        if (strlen(rows[i].name) == bytes && memcmp(rows[i].name, name, bytes) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

const qni_jfunction *qni_jinja_find_filter(const char *name, size_t bytes) {
    const qni_jfunction *f =
        qni_jinja_find_in(filters, sizeof filters / sizeof *filters, name, bytes);
    return f ? f : qni_jinja_find_selector(name, bytes);
}

/* ---- functions ------------------------------------------------------------------------------- */

static qn_status global_range(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    int64_t n[3] = {0, 0, 1};
    (void)self;
    for (int64_t i = 0; i < args->count; i++) {
        if (v[i].kind != QNI_J_INT && v[i].kind != QNI_J_BOOL) {
            return qni_jinja_fail(r, "range of %s", qni_jinja_kind_name(&v[i]));
        }
        n[args->count == 1 ? 1 : i] = v[i].kind == QNI_J_BOOL ? v[i].as.b : v[i].as.i;
    }
    if (n[2] == 0) return qni_jinja_fail(r, "range in steps of 0");
    double count = ceil(((double)n[1] - (double)n[0]) / (double)n[2]);
    if (count > 100000) return qni_jinja_fail(r, "a range of more than 100000 items");
    QN_TRY(qni_jinja_list(r, QNI_J_VIEW, 0, out));
    for (int64_t i = 0; i < (int64_t)count; i++) {
        const qni_jval item = qni_jint(n[0] + i * n[2]);
        QN_TRY(qni_jinja_append(r, out->as.list, &item));
    }
    return QN_OK;
}

/* dict(a=1) and namespace(a=1), which may start from a dict. */
static qn_status named_values(qni_jrun *r, qni_jkind kind, const qni_jargs *args, qni_jval *out) {
    QN_TRY(qni_jinja_dict(r, kind, out));
    for (int64_t i = 0; i < args->count; i++) {
        const qni_jval *v = &args->values[i];
        if (args->names[i]) {
            const qni_jval key = {.kind = QNI_J_STRING, .as.s = args->names[i]};
            QN_TRY(qni_jinja_put(r, out->as.dict, &key, v));
            continue;
        }
        if (i > 0 || v->kind != QNI_J_DICT) {
            return qni_jinja_fail(r, "%s, expected one dict or values by name",
                                  qni_jinja_kind_name(v));
        }
        for (int64_t k = 0; k < v->as.dict->count; k++) {
            QN_TRY(qni_jinja_put(r, out->as.dict, &v->as.dict->keys[k], &v->as.dict->values[k]));
        }
    }
    return QN_OK;
}

static qn_status global_dict(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    (void)self;
    (void)v;
    return named_values(r, QNI_J_DICT, args, out);
}

static qn_status global_namespace(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                  const qni_jargs *args, qni_jval *out) {
    (void)self;
    (void)v;
    return named_values(r, QNI_J_NAMESPACE, args, out);
}

static qn_status global_raise_exception(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                        const qni_jargs *args, qni_jval *out) {
    qni_jval text;
    (void)self;
    (void)args;
    (void)out;
    QN_TRY(qni_jinja_text(r, &v[0], &text));
    int shown = text.as.s->bytes > 400 ? 400 : (int)text.as.s->bytes;
    return qni_jinja_fail(r, "%.*s", shown, text.as.s->text);
}

static qn_status global_strftime_now(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                     const qni_jargs *args, qni_jval *out) {
    char format[128], text[256];
    time_t now = (time_t)r->now;
    struct tm parts;
    (void)self;
    (void)args;
    if (v[0].kind != QNI_J_STRING || v[0].as.s->bytes >= sizeof format ||
        memchr(v[0].as.s->text, '\0', v[0].as.s->bytes)) {
        return qni_jinja_fail(r, "strftime_now, expected a format of at most 127 bytes");
    }
    memcpy(format, v[0].as.s->text, v[0].as.s->bytes);
    format[v[0].as.s->bytes] = '\0';
    if (!localtime_r(&now, &parts)) return qni_jinja_fail(r, "strftime_now: no such time");
    return qni_jinja_string(r, text, strftime(text, sizeof text, format, &parts), out);
}

const qni_jfunction *qni_jinja_find_global(const char *name, size_t bytes) {
    static const qni_jfunction globals[] = {
        {"dict", global_dict, 0, {"*"}},
        {"namespace", global_namespace, 0, {"*"}},
        {"raise_exception", global_raise_exception, 1, {"message"}},
        {"range", global_range, 1, {"start", "stop", "step"}},
        {"strftime_now", global_strftime_now, 1, {"format"}},
    };
    return qni_jinja_find_in(globals, sizeof globals / sizeof *globals, name, bytes);
}
