/* jinja_expression.c — expressions: from tokens to the tree, with jinja2's precedences.
 *
 * Loosest first: `a if b else c`; or; and; not; comparisons, in; + -; ~; * / // %; **; signs;
 * then what follows an operand: .name [item] (call) |filter, and `is test`.
 */
#include "io/jinja_parts.h"

typedef qn_status parse_function(qni_jparser *p, qni_jnode **out);

static qn_status make(qni_jparser *p, qni_jtype type, qni_jnode *a, qni_jnode **out) {
    qni_jnode *n = qni_jinja_node(p, type);
    if (!n) return QN_ERR_OOM;
    n->a = a;
    *out = n;
    return QN_OK;
}

static qn_status full_expression(qni_jparser *p, qni_jnode **out) {
    return qni_jinja_expression(p, true, out);
}

static bool is_word(const qni_jparser *p) { /* that no operand begins with */
    static const char *const words[] = {"and", "or", "not", "if", "else", "in", "is"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (qni_jinja_is_name(p, words[i])) return true;
    }
    return false;
}

/* ---- operands -------------------------------------------------------------------------------- */

static qn_status constant(qni_jparser *p, qni_jval value, qni_jnode **out) {
    QN_TRY(make(p, QNI_J_CONST, NULL, out));
    (*out)->value = value;
    p->at++;
    return QN_OK;
}

static qn_status name(qni_jparser *p, qni_jnode **out) {
    static const struct {
        const char *word;
        qni_jval value;
    } constants[] = {
        {"true", {.kind = QNI_J_BOOL, .as.b = true}},
        {"True", {.kind = QNI_J_BOOL, .as.b = true}},
        {"false", {.kind = QNI_J_BOOL, .as.b = false}},
        {"False", {.kind = QNI_J_BOOL, .as.b = false}},
        {"none", {.kind = QNI_J_NONE}},
        {"None", {.kind = QNI_J_NONE}},
    };
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (qni_jinja_is_name(p, constants[i].word)) return constant(p, constants[i].value, out);
    }
    if (is_word(p)) return qni_jinja_unexpected(p, "an operand");
    QN_TRY(make(p, QNI_J_NAME, NULL, out));
    return qni_jinja_expect_name(p, &(*out)->value);
}

static qn_status strings(qni_jparser *p, qni_jnode **out) { /* 'a' 'b' is one string */
    size_t bytes = 0, n = 0;
    while (p->at[n].type == QNI_JT_STRING) bytes += p->at[n++].text.bytes;
    const qni_jstring *s = &p->at->text;
    if (n > 1) {
        qni_jstring *joined = qn_setup_alloc(p->t->arena, sizeof *joined);
        char *text = joined ? qn_setup_alloc(p->t->arena, bytes + 1) : NULL;
        if (!text) return QN_ERR_OOM;
        *joined = (qni_jstring){text, bytes};
        for (size_t i = 0; i < n; i++) {
            memcpy(text, p->at[i].text.text, p->at[i].text.bytes);
            text += p->at[i].text.bytes;
        }
        s = joined;
    }
    QN_TRY(constant(p, (qni_jval){.kind = QNI_J_STRING, .as.s = s}, out));
    p->at += n - 1;
    return QN_OK;
}

/* Items up to `close`; a dict has a colon between each first and second of them. */
static qn_status items(qni_jparser *p, const char *close, bool dict, qni_jnode *list) {
    qni_jnode **link = &list->a;
    while (!qni_jinja_is_operator(p, close)) {
        if (list->a) QN_TRY(qni_jinja_expect_operator(p, ","));
        if (qni_jinja_is_operator(p, close)) break;
        for (int i = 0; i <= dict; i++) {
            if (i) QN_TRY(qni_jinja_expect_operator(p, ":"));
            QN_TRY(qni_jinja_expression(p, true, link));
            link = &(*link)->next;
        }
    }
    return qni_jinja_expect_operator(p, close);
}

static qn_status primary(qni_jparser *p, qni_jnode **out) {
    switch (p->at->type) {
    case QNI_JT_NAME: return name(p, out);
    case QNI_JT_STRING: return strings(p, out);
    case QNI_JT_INT:
    case QNI_JT_FLOAT: return constant(p, p->at->value, out);
    default: break;
    }
    if (qni_jinja_skip_operator(p, "(")) {
        if (qni_jinja_is_operator(p, ")")) {
            QN_TRY(make(p, QNI_J_MAKE_TUPLE, NULL, out));
        } else {
            QN_TRY(qni_jinja_tuple(p, true, out));
        }
        return qni_jinja_expect_operator(p, ")");
    }
    bool dict = qni_jinja_is_operator(p, "{");
    if (!dict && !qni_jinja_is_operator(p, "[")) return qni_jinja_unexpected(p, "an operand");
    QN_TRY(make(p, dict ? QNI_J_MAKE_DICT : QNI_J_MAKE_LIST, NULL, out));
    p->at++;
    return items(p, dict ? "}" : "]", dict, *out);
}

/* ---- what follows an operand ----------------------------------------------------------------- */

static qn_status argument(qni_jparser *p, qni_jnode **out) {
    qni_jnode *n;
    QN_TRY(make(p, QNI_J_ARGUMENT, NULL, &n));
    if (qni_jinja_skip_operator(p, "*")) {
        n->op = QNI_J_BY_LIST;
    } else if (qni_jinja_skip_operator(p, "**")) {
        n->op = QNI_J_BY_DICT;
    } else if (p->at->type == QNI_JT_NAME && p->at[1].type == QNI_JT_OPERATOR &&
               qni_jsame_text(&p->at[1].text, "=", 1)) {
        n->op = QNI_J_BY_NAME;
        QN_TRY(qni_jinja_expect_name(p, &n->value));
        p->at++;
    }
    *out = n;
    return qni_jinja_expression(p, true, &n->a);
}

static qn_status arguments(qni_jparser *p, qni_jnode **out) { /* behind the parenthesis */
    qni_jnode **link = out;
    int last = QNI_J_BY_PLACE;
    *out = NULL;
    while (!qni_jinja_is_operator(p, ")")) {
        if (*out) QN_TRY(qni_jinja_expect_operator(p, ","));
        if (qni_jinja_is_operator(p, ")")) break;
        QN_TRY(argument(p, link));
        int by = (*link)->op;
        if (by < last && !(by == QNI_J_BY_NAME && last == QNI_J_BY_LIST)) {
            return qni_jinja_error(p->t, (*link)->offset, QN_ERR_FORMAT,
                                   "an argument by place behind one by name");
        }
        last = by;
        link = &(*link)->next;
    }
    return qni_jinja_expect_operator(p, ")");
}

static qn_status subscript(qni_jparser *p, qni_jnode *a, qni_jnode **out) { /* behind the [ */
    qni_jnode *n, *parts[3] = {NULL};
    int colons = 0;
    QN_TRY(make(p, QNI_J_ITEM, a, &n));
    while (!qni_jinja_is_operator(p, "]")) {
        if (colons < 2 && qni_jinja_skip_operator(p, ":")) {
            colons++;
        } else if (parts[colons]) {
            return qni_jinja_unexpected(p, "']'");
        } else {
            QN_TRY(qni_jinja_expression(p, true, &parts[colons]));
        }
    }
    if (colons == 0 && !parts[0]) return qni_jinja_unexpected(p, "a subscript");
    if (colons) n->type = QNI_J_SLICE;
    n->b = parts[0];
    n->c = parts[1];
    n->d = parts[2];
    *out = n;
    return qni_jinja_expect_operator(p, "]");
}

static qn_status attribute(qni_jparser *p, qni_jnode *a, qni_jnode **out) { /* behind the dot */
    if (p->at->type == QNI_JT_INT) {                                        /* a.0 is a[0] */
        qni_jnode *index;
        QN_TRY(make(p, QNI_J_ITEM, a, out));
        QN_TRY(constant(p, p->at->value, &index));
        (*out)->b = index;
        return QN_OK;
    }
    QN_TRY(make(p, QNI_J_ATTRIBUTE, a, out));
    return qni_jinja_expect_name(p, &(*out)->value);
}

static qn_status call(qni_jparser *p, qni_jnode *a, qni_jnode **out) { /* behind the parenthesis */
    QN_TRY(make(p, QNI_J_CALL, a, out));
    (*out)->offset = a->offset;
    return arguments(p, &(*out)->b);
}

static qn_status postfix(qni_jparser *p, qni_jnode **node) {
    for (;;) {
        if (qni_jinja_skip_operator(p, ".")) {
            QN_TRY(attribute(p, *node, node));
        } else if (qni_jinja_skip_operator(p, "[")) {
            QN_TRY(subscript(p, *node, node));
        } else if (qni_jinja_skip_operator(p, "(")) {
            QN_TRY(call(p, *node, node));
        } else {
            return QN_OK;
        }
    }
}

static qn_status function_name(qni_jparser *p, const char *what,
                               const qni_jfunction *find(const char *, size_t), qni_jnode *n) {
    const qni_jtoken *at = p->at;
    QN_TRY(qni_jinja_expect_name(p, &n->value));
    n->function = find(at->text.text, at->text.bytes);
    if (n->function) return QN_OK;
    int shown = at->text.bytes > 40 ? 40 : (int)at->text.bytes;
    return qni_jinja_error(p->t, at->offset, QN_ERR_FORMAT, "there is no %s '%.*s'", what, shown,
                           at->text.text);
}

static qn_status one_filter(qni_jparser *p, qni_jnode *input, qni_jnode **out) {
    QN_TRY(make(p, QNI_J_FILTER, input, out));
    QN_TRY(function_name(p, "filter", qni_jinja_find_filter, *out));
    return qni_jinja_skip_operator(p, "(") ? arguments(p, &(*out)->b) : QN_OK;
}

qn_status qni_jinja_filters(qni_jparser *p, qni_jnode *input, qni_jnode **out) {
    do {
        QN_TRY(one_filter(p, input, &input));
    } while (qni_jinja_skip_operator(p, "|"));
    *out = input;
    return QN_OK;
}

/* Behind `is`. An operand may follow the test's name without parentheses: `is divisibleby 3`. */
static qn_status test(qni_jparser *p, qni_jnode *a, qni_jnode **out) {
    QN_TRY(make(p, QNI_J_TEST, a, out));
    qni_jnode *n = *out;
    n->op = qni_jinja_skip_name(p, "not");
    QN_TRY(function_name(p, "test", qni_jinja_find_test, n));
    if (qni_jinja_skip_operator(p, "(")) return arguments(p, &n->b);
    uint8_t type = p->at->type;
    bool operand = type == QNI_JT_STRING || type == QNI_JT_INT || type == QNI_JT_FLOAT ||
                   (type == QNI_JT_NAME && !is_word(p)) || qni_jinja_is_operator(p, "[") ||
                   qni_jinja_is_operator(p, "{");
    if (!operand) return QN_OK;
    QN_TRY(make(p, QNI_J_ARGUMENT, NULL, &n->b));
    QN_TRY(primary(p, &n->b->a));
    return postfix(p, &n->b->a);
}

static qn_status sign(qni_jparser *p, bool filtered, qni_jnode **out) {
    bool minus = qni_jinja_is_operator(p, "-");
    if (minus || qni_jinja_is_operator(p, "+")) {
        QN_TRY(make(p, QNI_J_UNARY, NULL, out));
        p->at++;
        (*out)->op = minus ? QNI_J_SUBTRACT : QNI_J_ADD;
        QN_TRY(qni_jinja_enter(p));
        QN_TRY(sign(p, false, &(*out)->a));
        p->nesting--;
    } else {
        QN_TRY(primary(p, out));
    }
    QN_TRY(postfix(p, out));
    while (filtered) {
        if (qni_jinja_skip_operator(p, "|")) {
            QN_TRY(one_filter(p, *out, out));
        } else if (qni_jinja_skip_name(p, "is")) {
            QN_TRY(test(p, *out, out));
        } else if (qni_jinja_skip_operator(p, "(")) {
            QN_TRY(call(p, *out, out));
        } else {
            break;
        }
    }
    return QN_OK;
}

qn_status qni_jinja_unary(qni_jparser *p, qni_jnode **out) { return sign(p, true, out); }

/* ---- operators ------------------------------------------------------------------------------- */

typedef struct operator_row {
    const char *text;
    uint8_t op;
} operator_row;

/* The operator at p->at, which is skipped; -1 if it is none of the rows. */
static int which(qni_jparser *p, const operator_row *rows, int n) {
    for (int i = 0; i < n; i++) {
        if (qni_jinja_skip_operator(p, rows[i].text)) return rows[i].op;
    }
    return -1;
}

static qn_status binaries(qni_jparser *p, const operator_row *rows, int n, parse_function *operand,
                          qni_jnode **out) {
    QN_TRY(operand(p, out));
    for (;;) {
        qni_jnode *node;
        const qni_jtoken *at = p->at;
        int op = which(p, rows, n);
        if (op < 0) return QN_OK;
        QN_TRY(make(p, QNI_J_BINARY, *out, &node));
        node->op = (uint8_t)op;
        node->offset = at->offset;
        QN_TRY(operand(p, &node->b));
        *out = node;
    }
}

static qn_status power(qni_jparser *p, qni_jnode **out) {
    static const operator_row rows[] = {{"**", QNI_J_POWER}};
    return binaries(p, rows, 1, qni_jinja_unary, out);
}

static qn_status product(qni_jparser *p, qni_jnode **out) {
    static const operator_row rows[] = {{"*", QNI_J_MULTIPLY},
                                        {"/", QNI_J_DIVIDE},
                                        {"//", QNI_J_FLOOR_DIVIDE},
                                        {"%", QNI_J_MODULO}};
    return binaries(p, rows, 4, power, out);
}

static qn_status concat(qni_jparser *p, qni_jnode **out) {
    QN_TRY(product(p, out));
    if (!qni_jinja_is_operator(p, "~")) return QN_OK;
    qni_jnode *node, **link = &(*out)->next;
    QN_TRY(make(p, QNI_J_CONCAT, *out, &node));
    while (qni_jinja_skip_operator(p, "~")) {
        QN_TRY(product(p, link));
        link = &(*link)->next;
    }
    *out = node;
    return QN_OK;
}

static qn_status sum(qni_jparser *p, qni_jnode **out) {
    static const operator_row rows[] = {{"+", QNI_J_ADD}, {"-", QNI_J_SUBTRACT}};
    return binaries(p, rows, 2, concat, out);
}

static int comparison_operator(qni_jparser *p) {
    static const operator_row rows[] = {{"==", QNI_J_EQ}, {"!=", QNI_J_NE}, {"<=", QNI_J_LE},
                                        {"<", QNI_J_LT},  {">=", QNI_J_GE}, {">", QNI_J_GT}};
    if (qni_jinja_skip_name(p, "in")) return QNI_J_IN;
    if (qni_jinja_is_name(p, "not") && p->at[1].type == QNI_JT_NAME &&
        qni_jsame_text(&p->at[1].text, "in", 2)) {
        p->at += 2;
        return QNI_J_NOT_IN;
    }
    return which(p, rows, 6);
}

static qn_status comparison(qni_jparser *p, qni_jnode **out) {
    QN_TRY(sum(p, out));
    qni_jnode *node = NULL, **link = NULL;
    for (;;) {
        const qni_jtoken *at = p->at;
        int op = comparison_operator(p);
        if (op < 0) return QN_OK;
        if (!node) {
            QN_TRY(make(p, QNI_J_COMPARE, *out, &node));
            link = &node->b;
        }
        QN_TRY(make(p, QNI_J_OPERAND, NULL, link));
        (*link)->op = (uint8_t)op;
        (*link)->offset = at->offset;
        QN_TRY(sum(p, &(*link)->a));
        link = &(*link)->next;
        *out = node;
    }
}

static qn_status negation(qni_jparser *p, qni_jnode **out) {
    if (!qni_jinja_is_name(p, "not")) return comparison(p, out);
    QN_TRY(make(p, QNI_J_NOT, NULL, out));
    p->at++;
    QN_TRY(qni_jinja_enter(p));
    QN_TRY(negation(p, &(*out)->a));
    p->nesting--;
    return QN_OK;
}

static qn_status logical(qni_jparser *p, const char *word, qni_jtype type, parse_function *operand,
                         qni_jnode **out) {
    QN_TRY(operand(p, out));
    while (qni_jinja_skip_name(p, word)) {
        qni_jnode *node;
        QN_TRY(make(p, type, *out, &node));
        QN_TRY(operand(p, &node->b));
        *out = node;
    }
    return QN_OK;
}

static qn_status conjunction(qni_jparser *p, qni_jnode **out) {
    return logical(p, "and", QNI_J_AND, negation, out);
}

qn_status qni_jinja_expression(qni_jparser *p, bool conditional, qni_jnode **out) {
    QN_TRY(qni_jinja_enter(p));
    QN_TRY(logical(p, "or", QNI_J_OR, conjunction, out));
    while (conditional && qni_jinja_skip_name(p, "if")) {
        qni_jnode *node;
        QN_TRY(make(p, QNI_J_CONDITIONAL, NULL, &node));
        node->b = *out;
        QN_TRY(logical(p, "or", QNI_J_OR, conjunction, &node->a));
        if (qni_jinja_skip_name(p, "else")) QN_TRY(full_expression(p, &node->c));
        *out = node;
    }
    p->nesting--;
    return QN_OK;
}

/* ---- tuples and targets ---------------------------------------------------------------------- */

static bool ends_tuple(const qni_jparser *p) {
    uint8_t type = p->at->type;
    return type == QNI_JT_CLOSE_BLOCK || type == QNI_JT_CLOSE_OUTPUT || type == QNI_JT_END ||
           qni_jinja_is_operator(p, ")") || qni_jinja_is_operator(p, "=") ||
           qni_jinja_is_name(p, "in") || qni_jinja_is_name(p, "if") ||
           qni_jinja_is_name(p, "recursive");
}

static qn_status tuple_of(qni_jparser *p, parse_function *item, qni_jnode **out) {
    QN_TRY(item(p, out));
    if (!qni_jinja_is_operator(p, ",")) return QN_OK;
    qni_jnode *node, **link = &(*out)->next;
    QN_TRY(make(p, QNI_J_MAKE_TUPLE, *out, &node));
    while (qni_jinja_skip_operator(p, ",") && !ends_tuple(p)) {
        QN_TRY(item(p, link));
        link = &(*link)->next;
    }
    *out = node;
    return QN_OK;
}

static qn_status plain_expression(qni_jparser *p, qni_jnode **out) {
    return qni_jinja_expression(p, false, out);
}

qn_status qni_jinja_tuple(qni_jparser *p, bool conditional, qni_jnode **out) {
    return tuple_of(p, conditional ? full_expression : plain_expression, out);
}

static qn_status target(qni_jparser *p, qni_jnode **out) {
    const qni_jtoken *at = p->at;
    if (qni_jinja_skip_operator(p, "(")) {
        QN_TRY(qni_jinja_enter(p));
        QN_TRY(tuple_of(p, target, out));
        p->nesting--;
        return qni_jinja_expect_operator(p, ")");
    }
    QN_TRY(name(p, out));
    if ((*out)->type == QNI_J_NAME) return QN_OK;
    return qni_jinja_error(p->t, at->offset, QN_ERR_FORMAT, "a constant cannot be assigned to");
}

qn_status qni_jinja_target(qni_jparser *p, bool attributes, qni_jnode **out) {
    QN_TRY(tuple_of(p, target, out));
    if (attributes && (*out)->type == QNI_J_NAME && qni_jinja_skip_operator(p, ".")) {
        return attribute(p, *out, out);
    }
    return QN_OK;
}
