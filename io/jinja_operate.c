/* jinja_operate.c — operators, comparisons, attributes, subscripts: what Python does with them. */
#include "io/jinja_parts.h"

#include "io/vocab.h"

#include <math.h>

/* ---- comparing ------------------------------------------------------------------------------- */

/* Takes steps, and holds nothing equal when there are none left: the next charge reports that. */
static bool spend(qni_jrun *r, int64_t steps) {
    r->steps = r->steps > steps ? r->steps - steps : 0;
    return r->steps > 0;
}

static bool equal(qni_jrun *r, const qni_jval *a, const qni_jval *b, int depth);

static bool equal_lists(qni_jrun *r, const qni_jlist *a, const qni_jlist *b, int depth) {
    if (a->count != b->count || !spend(r, 1)) return false;
    for (int64_t i = 0; i < a->count; i++) {
        if (!equal(r, &a->items[i], &b->items[i], depth)) return false;
    }
    return true;
}

static bool equal_dicts(qni_jrun *r, const qni_jdict *a, const qni_jdict *b, int depth) {
    if (a->count != b->count) return false;
    for (int64_t i = 0; i < a->count; i++) {
        if (!spend(r, 1 + b->count / 16)) return false;
        const qni_jval *other = qni_jinja_get(b, &a->keys[i]);
        if (!other || !equal(r, &a->values[i], other, depth)) return false;
    }
    return true;
}

static bool equal(qni_jrun *r, const qni_jval *a, const qni_jval *b, int depth) {
    if (qni_jnumeric(a) && qni_jnumeric(b)) return qni_jinja_same_number(a, b);
    if (a->kind != b->kind || depth > QNI_J_MAX_NESTING || !spend(r, 1)) return false;
    switch (a->kind) {
    case QNI_J_UNDEFINED:
    case QNI_J_NONE: return true;
    case QNI_J_STRING: return qni_jsame_text(a->as.s, b->as.s->text, b->as.s->bytes);
    case QNI_J_LIST:
    case QNI_J_TUPLE: return equal_lists(r, a->as.list, b->as.list, depth + 1);
    case QNI_J_DICT: return equal_dicts(r, a->as.dict, b->as.dict, depth + 1);
    case QNI_J_FUNCTION: return a->as.function == b->as.function;
    default: return a->as.list == b->as.list; /* one and the same object */
    }
}

bool qni_jinja_equal(qni_jrun *r, const qni_jval *a, const qni_jval *b) {
    return equal(r, a, b, 0);
}

static int order_text(const qni_jstring *a, const qni_jstring *b) { /* UTF-8 keeps the order */
    size_t n = a->bytes < b->bytes ? a->bytes : b->bytes;
    int order = n ? memcmp(a->text, b->text, n) : 0;
    return order ? order : (a->bytes > b->bytes) - (a->bytes < b->bytes);
}

qn_status qni_jinja_less(qni_jrun *r, const qni_jval *a, const qni_jval *b, bool *out) {
    QN_TRY(qni_jinja_charge(r, 1));
    if (qni_jnumeric(a) && qni_jnumeric(b)) {
        *out = a->kind == QNI_J_INT && b->kind == QNI_J_INT ? a->as.i < b->as.i
                                                            : qni_jdouble(a) < qni_jdouble(b);
        return QN_OK;
    }
    if (a->kind == QNI_J_STRING && b->kind == QNI_J_STRING) {
        *out = order_text(a->as.s, b->as.s) < 0;
        return QN_OK;
    }
    if (a->kind == b->kind && (a->kind == QNI_J_LIST || a->kind == QNI_J_TUPLE)) {
        const qni_jlist *x = a->as.list, *y = b->as.list;
        for (int64_t i = 0; i < x->count && i < y->count; i++) {
            if (qni_jinja_equal(r, &x->items[i], &y->items[i])) continue;
            QN_TRY(qni_jinja_enter_run(r));
            QN_TRY(qni_jinja_less(r, &x->items[i], &y->items[i], out));
            r->depth--;
            return QN_OK;
        }
        *out = x->count < y->count;
        return QN_OK;
    }
    if (a->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, a);
    if (b->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, b);
    return qni_jinja_fail(r, "%s and %s have no order", qni_jinja_kind_name(a),
                          qni_jinja_kind_name(b));
}

qn_status qni_jinja_contains(qni_jrun *r, const qni_jval *in, const qni_jval *item, bool *out) {
    if (in->kind == QNI_J_STRING) {
        if (item->kind != QNI_J_STRING) {
            return qni_jinja_fail(r, "%s in a string, expected a string",
                                  qni_jinja_kind_name(item));
        }
        QN_TRY(qni_jinja_charge(r, in->as.s->bytes / 64));
        *out = item->as.s->bytes == 0 ||
               memmem(in->as.s->text, in->as.s->bytes, item->as.s->text, item->as.s->bytes) != NULL;
        return QN_OK;
    }
    if (in->kind == QNI_J_DICT) {
        QN_TRY(qni_jinja_charge(r, (size_t)in->as.dict->count / 16));
        *out = qni_jinja_get(in->as.dict, item) != NULL;
        return QN_OK;
    }
    const qni_jlist *list;
    QN_TRY(qni_jinja_walk(r, in, &list));
    *out = false;
    for (int64_t i = 0; i < list->count && !*out; i++) {
        QN_TRY(qni_jinja_charge(r, 1));
        *out = qni_jinja_equal(r, &list->items[i], item);
    }
    return QN_OK;
}

qn_status qni_jinja_compare(qni_jrun *r, qni_jop op, const qni_jval *a, const qni_jval *b,
                            bool *out) {
    bool holds = false, nan = (a->kind == QNI_J_FLOAT && isnan(a->as.d)) ||
                              (b->kind == QNI_J_FLOAT && isnan(b->as.d));
    switch (op) {
    case QNI_J_EQ:
    case QNI_J_NE:
        QN_TRY(qni_jinja_charge(r, 1));
        holds = qni_jinja_equal(r, a, b) == (op == QNI_J_EQ);
        break;
    case QNI_J_LT: QN_TRY(qni_jinja_less(r, a, b, &holds)); break;
    case QNI_J_GT: QN_TRY(qni_jinja_less(r, b, a, &holds)); break;
    case QNI_J_LE:
        QN_TRY(qni_jinja_less(r, b, a, &holds));
        holds = !holds && !nan;
        break;
    case QNI_J_GE:
        QN_TRY(qni_jinja_less(r, a, b, &holds));
        holds = !holds && !nan;
        break;
    default: QN_TRY(qni_jinja_contains(r, b, a, &holds)); holds = holds == (op == QNI_J_IN);
    }
    *out = holds;
    return QN_OK;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static const char *const symbols[] = {"+", "-", "*", "/", "//", "%", "**"};

static qn_status cannot(const qni_jrun *r, qni_jop op, const qni_jval *a, const qni_jval *b) {
    if (a->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, a);
    if (b->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, b);
    return qni_jinja_fail(r, "'%s' between %s and %s", symbols[op], qni_jinja_kind_name(a),
                          qni_jinja_kind_name(b));
}

static int64_t whole(const qni_jval *v) { return v->kind == QNI_J_BOOL ? v->as.b : v->as.i; }

static bool int_power(int64_t a, int64_t b, int64_t *out) { /* b >= 0; false: too large */
    int64_t product = 1;
    for (; b > 0 && product != 0; b--) {
        if (__builtin_mul_overflow(product, a, &product)) return false;
        if (a == 1 || (a == -1 && b % 2)) break;
        if (a == -1) {
            product = 1;
            break;
        }
    }
    *out = product;
    return true;
}

static qn_status integers(qni_jrun *r, qni_jop op, int64_t a, int64_t b, qni_jval *out) {
    int64_t v = 0;
    bool fits = true;
    switch (op) {
    case QNI_J_ADD: fits = !__builtin_add_overflow(a, b, &v); break;
    case QNI_J_SUBTRACT: fits = !__builtin_sub_overflow(a, b, &v); break;
    case QNI_J_MULTIPLY: fits = !__builtin_mul_overflow(a, b, &v); break;
    case QNI_J_POWER: fits = int_power(a, b, &v); break;
    default: /* // and % round towards minus infinity */
        if (b == 0) return qni_jinja_fail(r, "division by zero");
        if (b == -1) {
            fits = a != INT64_MIN;
            v = op == QNI_J_MODULO ? 0 : fits ? -a : 0;
        } else if (op == QNI_J_MODULO) {
            v = a % b;
            if (v != 0 && (v < 0) != (b < 0)) v += b;
        } else {
            v = a / b - (a % b != 0 && (a < 0) != (b < 0));
        }
    }
    if (!fits) return qni_jinja_fail(r, "an integer beyond 64 bits");
    *out = qni_jint(v);
    return QN_OK;
}

static qn_status doubles(qni_jrun *r, qni_jop op, double a, double b, qni_jval *out) {
    double v;
    if (b == 0 && (op == QNI_J_DIVIDE || op == QNI_J_FLOOR_DIVIDE || op == QNI_J_MODULO)) {
        return qni_jinja_fail(r, "division by zero");
    }
    switch (op) {
    case QNI_J_ADD: v = a + b; break;
    case QNI_J_SUBTRACT: v = a - b; break;
    case QNI_J_MULTIPLY: v = a * b; break;
    case QNI_J_DIVIDE: v = a / b; break;
    case QNI_J_POWER: v = pow(a, b); break;
    default:
        v = fmod(a, b);
        if (v != 0 && (v < 0) != (b < 0)) v += b;
        if (op == QNI_J_FLOOR_DIVIDE) v = round((a - v) / b);
    }
    *out = qni_jfloat(v);
    return QN_OK;
}

static qn_status joined(qni_jrun *r, const qni_jval *a, const qni_jval *b, qni_jval *out) {
    if (a->kind == QNI_J_STRING) {
        char *text;
        size_t n = a->as.s->bytes, m = b->as.s->bytes;
        QN_TRY(qni_jinja_alloc(r, n + m + 1, &text));
        memcpy(text, a->as.s->text, n);
        memcpy(text + n, b->as.s->text, m);
        return qni_jinja_borrow(r, text, n + m, out);
    }
    const qni_jlist *parts[] = {a->as.list, b->as.list};
    qni_jval list;
    QN_TRY(qni_jinja_list(r, (qni_jkind)a->kind, parts[0]->count + parts[1]->count, &list));
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < parts[k]->count; i++) {
            QN_TRY(qni_jinja_append(r, list.as.list, &parts[k]->items[i]));
        }
    }
    *out = list;
    return QN_OK;
}

static qn_status repeated(qni_jrun *r, const qni_jval *a, int64_t times, qni_jval *out) {
    if (times < 0) times = 0;
    size_t n = a->kind == QNI_J_STRING ? a->as.s->bytes : (size_t)a->as.list->count * sizeof *a;
    if (n && (uint64_t)times > r->memory / n) {
        return qni_jinja_fail(r, "the template takes too much memory");
    }
    if (n == 0) times = 0;
    char *all;
    QN_TRY(qni_jinja_alloc(r, n * (size_t)times + 1, &all));
    const void *one = a->kind == QNI_J_STRING ? (const void *)a->as.s->text : a->as.list->items;
    for (int64_t i = 0; i < times; i++) memcpy(all + (size_t)i * n, one, n);
    if (a->kind == QNI_J_STRING) return qni_jinja_borrow(r, all, n * (size_t)times, out);
    int64_t count = a->as.list->count * times;
    QN_TRY(qni_jinja_list(r, (qni_jkind)a->kind, 0, out));
    *out->as.list = (qni_jlist){(qni_jval *)(void *)all, count, count};
    return QN_OK;
}

static bool is_sequence(const qni_jval *v) {
    return v->kind == QNI_J_STRING || v->kind == QNI_J_LIST || v->kind == QNI_J_TUPLE;
}

qn_status qni_jinja_binary(qni_jrun *r, qni_jop op, const qni_jval *a, const qni_jval *b,
                           qni_jval *out) {
    QN_TRY(qni_jinja_charge(r, 1));
    bool whole_a = a->kind == QNI_J_INT || a->kind == QNI_J_BOOL;
    bool whole_b = b->kind == QNI_J_INT || b->kind == QNI_J_BOOL;
    if (qni_jnumeric(a) && qni_jnumeric(b)) {
        bool fraction = op == QNI_J_DIVIDE || (op == QNI_J_POWER && whole_b && whole(b) < 0);
        if (whole_a && whole_b && !fraction) return integers(r, op, whole(a), whole(b), out);
        return doubles(r, op, qni_jdouble(a), qni_jdouble(b), out);
    }
    if (op == QNI_J_ADD && a->kind == b->kind && is_sequence(a)) return joined(r, a, b, out);
    if (op == QNI_J_MULTIPLY && is_sequence(a) && whole_b) return repeated(r, a, whole(b), out);
    if (op == QNI_J_MULTIPLY && is_sequence(b) && whole_a) return repeated(r, b, whole(a), out);
    if (op == QNI_J_MODULO && a->kind == QNI_J_STRING) {
        bool many = b->kind == QNI_J_TUPLE;
        return qni_jinja_format(r, a->as.s, many ? b->as.list->items : b,
                                many ? b->as.list->count : 1, out);
    }
    return cannot(r, op, a, b);
}

static qn_status format_one(qni_jrun *r, char how, const qni_jval *v, qn_text *text) {
    qni_jval s;
    if (how == 'd' || how == 'i') {
        if (!qni_jnumeric(v) || (v->kind == QNI_J_FLOAT && !(fabs(v->as.d) < 9e18))) {
            return qni_jinja_fail(r, "%%d for %s", qni_jinja_kind_name(v));
        }
        qn_text_printf(text, "%lld",
                       (long long)(v->kind == QNI_J_FLOAT ? (int64_t)v->as.d : whole(v)));
        return QN_OK;
    }
    if (how != 's') return qni_jinja_fail(r, "a format other than %%s and %%d");
    QN_TRY(qni_jinja_text(r, v, &s));
    QN_TRY(qni_jinja_charge(r, s.as.s->bytes / 64));
    qn_text_add_bytes(text, s.as.s->text, s.as.s->bytes);
    return QN_OK;
}

qn_status qni_jinja_format(qni_jrun *r, const qni_jstring *format, const qni_jval *values,
                           int64_t count, qni_jval *out) {
    qn_text text = {0};
    qn_status status = QN_OK;
    int64_t used = 0;
    for (size_t i = 0; i < format->bytes; i++) {
        char c = format->text[i];
        if (c != '%') {
            qn_text_add_bytes(&text, &c, 1);
            continue;
        }
        char how = ++i < format->bytes ? format->text[i] : '\0';
        if (how == '%') {
            qn_text_add(&text, "%");
        } else if (used == count) {
            QN_TRY_GOTO(qni_jinja_fail(r, "a format with more places than values"));
        } else {
            QN_TRY_GOTO(format_one(r, how, &values[used++], &text));
        }
        if (text.length > r->memory) QN_TRY_GOTO(qni_jinja_fail(r, "a formatted text too long"));
    }
    if (used < count) status = qni_jinja_fail(r, "a format with fewer places than values");
done:
    if (status == QN_OK) return qni_jinja_take(r, &text, out);
    qn_text_free(&text);
    return status;
}

/* ---- attributes and subscripts --------------------------------------------------------------- */

static int64_t text_length(const qni_jstring *s) { /* in characters */
    int64_t n = 0;
    for (size_t i = 0; i < s->bytes; i++) n += ((unsigned char)s->text[i] & 0xC0) != 0x80;
    return n;
}

qn_status qni_jinja_length(qni_jrun *r, const qni_jval *v, int64_t *out) {
    switch (v->kind) {
    case QNI_J_UNDEFINED: *out = 0; return QN_OK;
    case QNI_J_STRING:
        QN_TRY(qni_jinja_charge(r, v->as.s->bytes / 64));
        *out = text_length(v->as.s);
        return QN_OK;
    case QNI_J_LIST:
    case QNI_J_TUPLE:
    case QNI_J_VIEW: *out = v->as.list->count; return QN_OK;
    case QNI_J_DICT: *out = v->as.dict->count; return QN_OK;
    default: return qni_jinja_fail(r, "%s has no length", qni_jinja_kind_name(v));
    }
}

static qni_jval missing(const qni_jval *a, const qni_jstring *name) {
    return (qni_jval){.of = (uint8_t)(1 + a->kind), .as.s = name};
}

static bool loop_attribute(const qni_jloop *l, const qni_jstring *name, qni_jval *out) {
    int64_t n = l->items->count, i = l->index;
    const struct {
        const char *name;
        qni_jval value;
    } rows[] = {
        {"index", qni_jint(i + 1)},
        {"index0", qni_jint(i)},
        {"revindex", qni_jint(n - i)},
        {"revindex0", qni_jint(n - i - 1)},
        {"first", qni_jbool(i == 0)},
        {"last", qni_jbool(i == n - 1)},
        {"length", qni_jint(n)},
        {"depth", qni_jint(l->depth)},
        {"depth0", qni_jint(l->depth - 1)},
        {"previtem", i > 0 ? l->items->items[i - 1] : (qni_jval){.as.s = name}},
        {"nextitem", i + 1 < n ? l->items->items[i + 1] : (qni_jval){.as.s = name}},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        if (!qni_jsame_text(name, rows[k].name, strlen(rows[k].name))) continue;
        *out = rows[k].value;
        return true;
    }
    return false;
}

/* A method or an attribute that an object has beside its items. */
static qn_status own_attribute(qni_jrun *r, const qni_jval *a, const qni_jstring *name,
                               qni_jval *out, bool *found) {
    *found = true;
    if (a->kind == QNI_J_LOOP && loop_attribute(a->as.loop, name, out)) return QN_OK;
    if (a->kind == QNI_J_NAMESPACE) {
        const qni_jval *v = qni_jinja_get_text(a->as.dict, name->text, name->bytes);
        if (v) *out = *v;
        *found = v != NULL;
        return QN_OK;
    }
    const qni_jfunction *f = qni_jinja_find_method((qni_jkind)a->kind, name->text, name->bytes);
    *found = f != NULL;
    if (!f) return QN_OK;
    qni_jmethod *m;
    QN_TRY(qni_jinja_alloc(r, sizeof *m, &m));
    *m = (qni_jmethod){*a, f};
    *out = (qni_jval){.kind = QNI_J_METHOD, .as.method = m};
    return QN_OK;
}

qn_status qni_jinja_attribute(qni_jrun *r, const qni_jval *a, const qni_jval *name, qni_jval *out) {
    bool found;
    const qni_jstring *s = name->as.s;
    QN_TRY(qni_jinja_charge(r, 1));
    if (a->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, a);
    qni_jval value = missing(a, s);
    QN_TRY(own_attribute(r, a, s, &value, &found));
    if (!found && a->kind == QNI_J_DICT) {
        const qni_jval *v = qni_jinja_get_text(a->as.dict, s->text, s->bytes);
        if (v) value = *v;
    }
    *out = value;
    return QN_OK;
}

/* Bytes [*begin, *end) of character `index` (from the end if negative) of a string. */
static bool character_at(const qni_jstring *s, int64_t index, size_t *begin, size_t *end) {
    int64_t n = text_length(s), at = -1;
    if (index < 0) index += n;
    if (index < 0 || index >= n) return false;
    size_t i = 0;
    for (; i < s->bytes; i++) {
        if (((unsigned char)s->text[i] & 0xC0) == 0x80) continue;
        if (++at == index) *begin = i;
        if (at > index) break;
    }
    *end = i;
    return true;
}

qn_status qni_jinja_item(qni_jrun *r, const qni_jval *a, const qni_jval *key, qni_jval *out) {
    bool found = false;
    QN_TRY(qni_jinja_charge(r, 1));
    if (a->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, a);
    qni_jval value = missing(a, key->kind == QNI_J_STRING ? key->as.s : NULL);
    if (a->kind == QNI_J_DICT) {
        QN_TRY(qni_jinja_charge(r, (size_t)a->as.dict->count / 16));
        const qni_jval *v = qni_jinja_get(a->as.dict, key);
        found = v != NULL;
        if (v) value = *v;
    } else if ((key->kind == QNI_J_INT || key->kind == QNI_J_BOOL) && is_sequence(a)) {
        int64_t i = whole(key);
        size_t begin = 0, end = 0;
        if (a->kind == QNI_J_STRING) {
            QN_TRY(qni_jinja_charge(r, a->as.s->bytes / 64));
            found = character_at(a->as.s, i, &begin, &end);
            if (found) QN_TRY(qni_jinja_borrow(r, a->as.s->text + begin, end - begin, &value));
        } else {
            if (i < 0) i += a->as.list->count;
            found = i >= 0 && i < a->as.list->count;
            if (found) value = a->as.list->items[i];
        }
    }
    if (!found && key->kind == QNI_J_STRING) {
        QN_TRY(own_attribute(r, a, key->as.s, &value, &found));
    }
    *out = value;
    return QN_OK;
}

/* ---- slices ---------------------------------------------------------------------------------- */

static qn_status bound(qni_jrun *r, const qni_jval *v, int64_t absent, int64_t n, bool forward,
                       int64_t *out) {
    if (!v || v->kind == QNI_J_NONE) {
        *out = absent;
        return QN_OK;
    }
    if (v->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, v);
    if (v->kind != QNI_J_INT && v->kind != QNI_J_BOOL) {
        return qni_jinja_fail(r, "a slice by %s, expected an integer", qni_jinja_kind_name(v));
    }
    int64_t i = whole(v), least = forward ? 0 : -1, most = forward ? n : n - 1;
    if (i < 0) i = i < -n ? least : i + n;
    *out = i < least ? least : i > most ? most : i;
    return QN_OK;
}

qn_status qni_jinja_slice(qni_jrun *r, const qni_jval *a, const qni_jval *start,
                          const qni_jval *stop, const qni_jval *step, qni_jval *out) {
    if (a->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, a);
    if (!is_sequence(a)) {
        return qni_jinja_fail(r, "%s cannot be sliced", qni_jinja_kind_name(a));
    }
    const qni_jlist *list;
    qni_jval items;
    int64_t by = 1, i, end;
    QN_TRY(qni_jinja_walk(r, a, &list));
    if (step && step->kind != QNI_J_NONE) {
        if (step->kind != QNI_J_INT || step->as.i == 0) {
            return qni_jinja_fail(r, "a slice's step must be an integer other than 0");
        }
        by = step->as.i;
    }
    int64_t n = list->count;
    if (by > n) by = n + 1;
    if (by < -n) by = -n - 1;
    QN_TRY(bound(r, start, by > 0 ? 0 : n - 1, n, by > 0, &i));
    QN_TRY(bound(r, stop, by > 0 ? n : -1, n, by > 0, &end));
    QN_TRY(qni_jinja_list(r, a->kind == QNI_J_TUPLE ? QNI_J_TUPLE : QNI_J_LIST, 0, &items));
    size_t bytes = 0;
    for (; by > 0 ? i < end : i > end; i += by) {
        QN_TRY(qni_jinja_append(r, items.as.list, &list->items[i]));
        if (a->kind == QNI_J_STRING) bytes += list->items[i].as.s->bytes;
    }
    if (a->kind != QNI_J_STRING) {
        *out = items;
        return QN_OK;
    }
    char *text, *to;
    QN_TRY(qni_jinja_alloc(r, bytes + 1, &text));
    to = text;
    for (int64_t k = 0; k < items.as.list->count; k++) {
        const qni_jstring *s = items.as.list->items[k].as.s;
        memcpy(to, s->text, s->bytes);
        to += s->bytes;
    }
    return qni_jinja_borrow(r, text, bytes, out);
}
