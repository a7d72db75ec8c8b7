/* jinja_is.c — the tests: what may stand behind `is`. */
#include "io/jinja_parts.h"

static bool is_whole(const qni_jval *v) { return v->kind == QNI_J_INT || v->kind == QNI_J_BOOL; }

static qn_status has_kind(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                          const qni_jargs *args, qni_jval *out, unsigned kinds) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool((kinds >> self->kind) & 1);
    return QN_OK;
}

static qn_status test_undefined(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_UNDEFINED);
}
static qn_status test_defined(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, ~(1U << QNI_J_UNDEFINED));
}
static qn_status test_none(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                           const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_NONE);
}
static qn_status test_boolean(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_BOOL);
}
static qn_status test_integer(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_INT);
}
static qn_status test_float(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_FLOAT);
}
static qn_status test_number(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_INT | 1U << QNI_J_FLOAT | 1U << QNI_J_BOOL);
}
static qn_status test_string(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_STRING);
}
static qn_status test_mapping(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out, 1U << QNI_J_DICT);
}
static qn_status test_sequence(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out,
                    1U << QNI_J_STRING | 1U << QNI_J_LIST | 1U << QNI_J_TUPLE | 1U << QNI_J_DICT |
                        1U << QNI_J_UNDEFINED);
}
static qn_status test_iterable(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out,
                    1U << QNI_J_STRING | 1U << QNI_J_LIST | 1U << QNI_J_TUPLE | 1U << QNI_J_VIEW |
                        1U << QNI_J_ITERATOR | 1U << QNI_J_DICT | 1U << QNI_J_UNDEFINED |
                        1U << QNI_J_LOOP);
}
static qn_status test_callable(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    return has_kind(r, self, v, args, out,
                    1U << QNI_J_FUNCTION | 1U << QNI_J_METHOD | 1U << QNI_J_MACRO |
                        1U << QNI_J_LOOP | 1U << QNI_J_UNDEFINED);
}

static qn_status test_true(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                           const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(self->kind == QNI_J_BOOL && self->as.b);
    return QN_OK;
}
static qn_status test_false(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(self->kind == QNI_J_BOOL && !self->as.b);
    return QN_OK;
}

static qn_status remainder_is(qni_jrun *r, const qni_jval *self, const qni_jval *by,
                              int64_t remainder, qni_jval *out) {
    const qni_jval expected = qni_jint(remainder);
    qni_jval rest;
    if (!is_whole(self) || !is_whole(by)) {
        return qni_jinja_fail(r, "%s, expected an integer", qni_jinja_kind_name(self));
    }
    QN_TRY(qni_jinja_binary(r, QNI_J_MODULO, self, by, &rest));
    *out = qni_jbool(qni_jinja_equal(r, &rest, &expected));
    return QN_OK;
}

static qn_status test_even(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                           const qni_jargs *args, qni_jval *out) {
    const qni_jval two = qni_jint(2);
    (void)v;
    (void)args;
    return remainder_is(r, self, &two, 0, out);
}
static qn_status test_odd(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                          const qni_jargs *args, qni_jval *out) {
    const qni_jval two = qni_jint(2);
    (void)v;
    (void)args;
    return remainder_is(r, self, &two, 1, out);
}
static qn_status test_divisibleby(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                  const qni_jargs *args, qni_jval *out) {
    (void)args;
    return remainder_is(r, self, &v[0], 0, out);
}

static qn_status compared(qni_jrun *r, qni_jop op, const qni_jval *self, const qni_jval *v,
                          qni_jval *out) {
    bool holds;
    QN_TRY(qni_jinja_compare(r, op, self, v, &holds));
    *out = qni_jbool(holds);
    return QN_OK;
}

static qn_status test_eq(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                         const qni_jargs *args, qni_jval *out) {
    (void)args;
    return compared(r, QNI_J_EQ, self, v, out);
}
static qn_status test_ne(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                         const qni_jargs *args, qni_jval *out) {
    (void)args;
    return compared(r, QNI_J_NE, self, v, out);
}
static qn_status test_lt(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                         const qni_jargs *args, qni_jval *out) {
    (void)args;
    return compared(r, QNI_J_LT, self, v, out);
}
static qn_status test_le(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                         const qni_jargs *args, qni_jval *out) {
    (void)args;
    return compared(r, QNI_J_LE, self, v, out);
}
static qn_status test_gt(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                         const qni_jargs *args, qni_jval *out) {
    (void)args;
    return compared(r, QNI_J_GT, self, v, out);
}
static qn_status test_ge(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                         const qni_jargs *args, qni_jval *out) {
    (void)args;
    return compared(r, QNI_J_GE, self, v, out);
}
static qn_status test_in(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                         const qni_jargs *args, qni_jval *out) {
    (void)args;
    return compared(r, QNI_J_IN, self, v, out);
}

static qn_status test_sameas(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    (void)args;
    bool container = self->kind >= QNI_J_LIST;
    *out = qni_jbool(self->kind == v->kind &&
                     (container ? self->as.list == v->as.list : qni_jinja_equal(r, self, v)));
    return QN_OK;
}

static qn_status text_is(qni_jrun *r, const char *method, const qni_jval *self, qni_jval *out) {
    const qni_jargs nothing = {0};
    qni_jval text;
    QN_TRY(qni_jinja_text(r, self, &text));
    const qni_jfunction *f = qni_jinja_find_method(QNI_J_STRING, method, strlen(method));
    return qni_jinja_apply(r, f, &text, &nothing, out);
}
static qn_status test_lower(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return text_is(r, "islower", self, out);
}
static qn_status test_upper(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return text_is(r, "isupper", self, out);
}

const qni_jfunction *qni_jinja_find_test(const char *name, size_t bytes) {
    static const qni_jfunction tests[] = {
        {"boolean", test_boolean, 0, {NULL}},
        {"callable", test_callable, 0, {NULL}},
        {"defined", test_defined, 0, {NULL}},
        {"divisibleby", test_divisibleby, 1, {"num"}},
        {"eq", test_eq, 1, {"other"}},
        {"equalto", test_eq, 1, {"other"}},
        {"==", test_eq, 1, {"other"}},
        {"even", test_even, 0, {NULL}},
        {"false", test_false, 0, {NULL}},
        {"float", test_float, 0, {NULL}},
        {"ge", test_ge, 1, {"other"}},
        {">=", test_ge, 1, {"other"}},
        {"gt", test_gt, 1, {"other"}},
        {"greaterthan", test_gt, 1, {"other"}},
        {">", test_gt, 1, {"other"}},
        {"in", test_in, 1, {"seq"}},
        {"integer", test_integer, 0, {NULL}},
        {"iterable", test_iterable, 0, {NULL}},
        {"le", test_le, 1, {"other"}},
        {"<=", test_le, 1, {"other"}},
        {"lower", test_lower, 0, {NULL}},
        {"lt", test_lt, 1, {"other"}},
        {"lessthan", test_lt, 1, {"other"}},
        {"<", test_lt, 1, {"other"}},
        {"mapping", test_mapping, 0, {NULL}},
        {"ne", test_ne, 1, {"other"}},
        {"!=", test_ne, 1, {"other"}},
        {"none", test_none, 0, {NULL}},
        {"number", test_number, 0, {NULL}},
        {"odd", test_odd, 0, {NULL}},
        {"sameas", test_sameas, 1, {"other"}},
        {"sequence", test_sequence, 0, {NULL}},
        {"string", test_string, 0, {NULL}},
        {"true", test_true, 0, {NULL}},
        {"undefined", test_undefined, 0, {NULL}},
        {"upper", test_upper, 0, {NULL}},
    };
    return qni_jinja_find_in(tests, sizeof tests / sizeof *tests, name, bytes);
}
