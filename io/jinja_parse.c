/* jinja_parse.c — statements: from tokens to the tree. */
#include "io/jinja_parts.h"

#include <stdarg.h>
#include <stdio.h>

qni_jnode *qni_jinja_node(qni_jparser *p, qni_jtype type) {
    qni_jnode *n = qn_setup_alloc(p->t->arena, sizeof *n);
    if (!n) return NULL;
    n->type = (uint8_t)type;
    n->offset = p->at->offset;
    return n;
}

qn_status qni_jinja_unexpected(const qni_jparser *p, const char *expected) {
    const qni_jtoken *at = p->at;
    if (at->type == QNI_JT_END) {
        return qni_jinja_error(p->t, at->offset, QN_ERR_FORMAT,
                               "found the end of the template, expected %s", expected);
    }
    int n = at->text.bytes > 40 ? 40 : (int)at->text.bytes;
    return qni_jinja_error(p->t, at->offset, QN_ERR_FORMAT, "found \"%.*s\", expected %s", n,
                           at->text.text, expected);
}

bool qni_jinja_is_name(const qni_jparser *p, const char *word) {
    return p->at->type == QNI_JT_NAME && qni_jsame_text(&p->at->text, word, strlen(word));
}

bool qni_jinja_is_operator(const qni_jparser *p, const char *op) {
    return p->at->type == QNI_JT_OPERATOR && qni_jsame_text(&p->at->text, op, strlen(op));
}

bool qni_jinja_skip_name(qni_jparser *p, const char *word) {
    if (!qni_jinja_is_name(p, word)) return false;
    p->at++;
    return true;
}

bool qni_jinja_skip_operator(qni_jparser *p, const char *op) {
    if (!qni_jinja_is_operator(p, op)) return false;
    p->at++;
    return true;
}

qn_status qni_jinja_expect_operator(qni_jparser *p, const char *op) {
    if (qni_jinja_skip_operator(p, op)) return QN_OK;
    char expected[16];
    snprintf(expected, sizeof expected, "'%s'", op);
    return qni_jinja_unexpected(p, expected);
}

qn_status qni_jinja_expect_name(qni_jparser *p, qni_jval *name) {
    if (p->at->type != QNI_JT_NAME) return qni_jinja_unexpected(p, "a name");
    *name = (qni_jval){.kind = QNI_J_STRING, .as.s = &p->at->text};
    p->at++;
    return QN_OK;
}

qn_status qni_jinja_enter(qni_jparser *p) {
    if (++p->nesting <= QNI_J_MAX_NESTING) return QN_OK;
    return qni_jinja_error(p->t, p->at->offset, QN_ERR_FORMAT, "nested deeper than %d levels",
                           QNI_J_MAX_NESTING);
}

static qn_status make(qni_jparser *p, qni_jtype type, qni_jnode **out) {
    *out = qni_jinja_node(p, type);
    return *out ? QN_OK : QN_ERR_OOM;
}

static qn_status close_block(qni_jparser *p) {
    if (p->at->type != QNI_JT_CLOSE_BLOCK) return qni_jinja_unexpected(p, "the end of the tag");
    p->at++;
    return QN_OK;
}

/* ---- bodies ---------------------------------------------------------------------------------- */

static qn_status statement(qni_jparser *p, qni_jnode **out);

/* Statements up to a tag whose first word is in the list `ends`; p->at is that word afterwards. */
static qn_status body(qni_jparser *p, const char *const *ends, qni_jnode **out) {
    qni_jnode **link = out;
    *out = NULL;
    for (;;) {
        qni_jnode *n = NULL;
        const qni_jtoken *at = p->at;
        if (at->type == QNI_JT_END) {
            if (!ends) return QN_OK;
            return qni_jinja_unexpected(p, ends[0]);
        } else if (at->type == QNI_JT_TEXT) {
            QN_TRY(make(p, QNI_J_TEXT, &n));
            n->value = (qni_jval){.kind = QNI_J_STRING, .as.s = &at->text};
            p->at++;
        } else if (at->type == QNI_JT_OPEN_OUTPUT) {
            QN_TRY(make(p, QNI_J_OUTPUT, &n));
            p->at++;
            QN_TRY(qni_jinja_tuple(p, true, &n->a));
            if (p->at->type != QNI_JT_CLOSE_OUTPUT) {
                return qni_jinja_unexpected(p, "an operator or '}}'");
            }
            p->at++;
        } else {
            p->at++; /* an opening: nothing else begins here */
            for (int i = 0; ends && ends[i]; i++) {
                if (qni_jinja_is_name(p, ends[i])) return QN_OK;
            }
            QN_TRY(qni_jinja_enter(p));
            QN_TRY(statement(p, &n));
            p->nesting--;
        }
        *link = n;
        link = &n->next;
    }
}

/* ` %} body {% end %}` */
static qn_status closed_body(qni_jparser *p, const char *end, qni_jnode **out) {
    const char *const ends[] = {end, NULL};
    QN_TRY(close_block(p));
    QN_TRY(body(p, ends, out));
    p->at++;
    return close_block(p);
}

/* The body of something called: a loop around it cannot be left from inside. */
static qn_status separate_body(qni_jparser *p, const char *end, qni_jnode **out) {
    int loops = p->loops;
    p->loops = 0;
    QN_TRY(closed_body(p, end, out));
    p->loops = loops;
    return QN_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

static qn_status if_statement(qni_jparser *p, qni_jnode *n) {
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    static const char *const last[] = {"endif", NULL};
    for (;;) {
        QN_TRY(qni_jinja_tuple(p, false, &n->a));
        QN_TRY(close_block(p));
        QN_TRY(body(p, ends, &n->b));
        if (!qni_jinja_skip_name(p, "elif")) break;
        QN_TRY(make(p, QNI_J_IF, &n->c));
        n = n->c;
    }
    if (qni_jinja_skip_name(p, "else")) {
        QN_TRY(close_block(p));
        QN_TRY(body(p, last, &n->c));
    }
    p->at++;
    return close_block(p);
}

static qn_status for_statement(qni_jparser *p, qni_jnode *n) {
    static const char *const ends[] = {"endfor", "else", NULL};
    static const char *const last[] = {"endfor", NULL};
    QN_TRY(qni_jinja_target(p, false, &n->a));
    if (!qni_jinja_skip_name(p, "in")) return qni_jinja_unexpected(p, "'in'");
    QN_TRY(qni_jinja_tuple(p, false, &n->b));
    if (qni_jinja_skip_name(p, "if")) QN_TRY(qni_jinja_expression(p, true, &n->e));
    if (qni_jinja_is_name(p, "recursive")) {
        return qni_jinja_error(p->t, p->at->offset, QN_ERR_FORMAT,
                               "recursive loops are not supported");
    }
    QN_TRY(close_block(p));
    p->loops++;
    QN_TRY(body(p, ends, &n->c));
    p->loops--;
    if (qni_jinja_skip_name(p, "else")) {
        QN_TRY(close_block(p));
        QN_TRY(body(p, last, &n->d));
    }
    p->at++;
    return close_block(p);
}

static qn_status set_statement(qni_jparser *p, qni_jnode *n) {
    QN_TRY(qni_jinja_target(p, true, &n->a));
    if (qni_jinja_skip_operator(p, "=")) {
        QN_TRY(qni_jinja_tuple(p, true, &n->b));
        return close_block(p);
    }
    n->type = QNI_J_SET_BLOCK;
    if (qni_jinja_skip_operator(p, "|")) QN_TRY(qni_jinja_filters(p, NULL, &n->b));
    return closed_body(p, "endset", &n->c);
}

static qn_status with_statement(qni_jparser *p, qni_jnode *n) {
    qni_jnode **link = &n->a;
    while (p->at->type != QNI_JT_CLOSE_BLOCK) {
        if (n->a) QN_TRY(qni_jinja_expect_operator(p, ","));
        qni_jnode *set;
        QN_TRY(make(p, QNI_J_SET, &set));
        QN_TRY(qni_jinja_target(p, false, &set->a));
        QN_TRY(qni_jinja_expect_operator(p, "="));
        QN_TRY(qni_jinja_expression(p, true, &set->b));
        *link = set;
        link = &set->next;
    }
    return closed_body(p, "endwith", &n->c);
}

/* (a, b=1), behind the parenthesis */
static qn_status parameters(qni_jparser *p, qni_jnode **out) {
    qni_jnode **link = out;
    while (!qni_jinja_is_operator(p, ")")) {
        if (*out) QN_TRY(qni_jinja_expect_operator(p, ","));
        qni_jnode *n;
        const qni_jtoken *begin = p->at;
        QN_TRY(make(p, QNI_J_PARAMETER, &n));
        QN_TRY(qni_jinja_expect_name(p, &n->value));
        for (const qni_jnode *m = *out; m; m = m->next) {
            if (qni_jsame_text(m->value.as.s, begin->text.text, begin->text.bytes)) {
                return qni_jinja_error(p->t, begin->offset, QN_ERR_FORMAT,
                                       "a second parameter of this name");
            }
            if (m->a && !m->next && !qni_jinja_is_operator(p, "=")) {
                return qni_jinja_unexpected(p, "a default, as the parameter before has one");
            }
        }
        if (qni_jinja_skip_operator(p, "=")) QN_TRY(qni_jinja_expression(p, true, &n->a));
        *link = n;
        link = &n->next;
    }
    return qni_jinja_expect_operator(p, ")");
}

static qn_status macro_statement(qni_jparser *p, qni_jnode *n) {
    QN_TRY(qni_jinja_expect_name(p, &n->value));
    QN_TRY(qni_jinja_expect_operator(p, "("));
    QN_TRY(parameters(p, &n->a));
    return separate_body(p, "endmacro", &n->c);
}

static qn_status call_statement(qni_jparser *p, qni_jnode *n) {
    if (qni_jinja_skip_operator(p, "(")) QN_TRY(parameters(p, &n->a));
    QN_TRY(qni_jinja_unary(p, &n->b));
    if (n->b->type != QNI_J_CALL) {
        return qni_jinja_error(p->t, n->b->offset, QN_ERR_FORMAT, "expected a call");
    }
    return separate_body(p, "endcall", &n->c);
}

static qn_status leave_statement(qni_jparser *p, qni_jnode *n) {
    if (p->loops == 0) {
        return qni_jinja_error(p->t, n->offset, QN_ERR_FORMAT, "%s outside a loop",
                               n->type == QNI_J_BREAK ? "break" : "continue");
    }
    return close_block(p);
}

static qn_status filter_statement(qni_jparser *p, qni_jnode *n) {
    QN_TRY(qni_jinja_filters(p, NULL, &n->b));
    return closed_body(p, "endfilter", &n->c);
}

static qn_status generation_statement(qni_jparser *p, qni_jnode *n) {
    p->t->has_generation = true;
    return separate_body(p, "endgeneration", &n->c);
}

static qn_status statement(qni_jparser *p, qni_jnode **out) {
    static const struct {
        const char *word;
        qni_jtype type;
        qn_status (*parse)(qni_jparser *p, qni_jnode *n);
    } rows[] = {
        {"if", QNI_J_IF, if_statement},
        {"for", QNI_J_FOR, for_statement},
        {"set", QNI_J_SET, set_statement},
        {"macro", QNI_J_MACRO_DEF, macro_statement},
        {"call", QNI_J_CALL_BLOCK, call_statement},
        {"filter", QNI_J_FILTER_BLOCK, filter_statement},
        {"with", QNI_J_WITH, with_statement},
        {"generation", QNI_J_GENERATION, generation_statement},
        {"break", QNI_J_BREAK, leave_statement},
        {"continue", QNI_J_CONTINUE, leave_statement},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!qni_jinja_is_name(p, rows[i].word)) continue;
        QN_TRY(make(p, rows[i].type, out));
        p->at++;
        return rows[i].parse(p, *out);
    }
    return qni_jinja_unexpected(p, "a statement");
}

qn_status qni_jinja_parse(qn_jinja *t) {
    qni_jtoken *tokens;
    int64_t count;
    QN_TRY(qni_jinja_lex(t, &tokens, &count));
    qni_jparser p = {.t = t, .at = tokens};
    return body(&p, NULL, &t->body);
}
