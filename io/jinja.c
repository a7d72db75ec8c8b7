/* jinja.c — compiling a template and rendering it; where its errors are in the text. */
#include "io/jinja_parts.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static qn_status error_at(const qn_jinja *t, size_t offset, qn_status s, const char *format,
                          va_list args) {
    char what[512];
    int64_t line = 1, column = 1;
    for (size_t i = 0; i < offset && i < t->length; i++) {
        if (t->text[i] == '\n') {
            line++;
            column = 1;
        } else if (((unsigned char)t->text[i] & 0xC0) != 0x80) {
            column++;
        }
    }
    vsnprintf(what, sizeof what, format, args);
    return qn_fail(s, "%s:%lld:%lld: %s", t->name, (long long)line, (long long)column, what);
}

qn_status qni_jinja_error(const qn_jinja *t, size_t offset, qn_status s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    s = error_at(t, offset, s, format, args);
    va_end(args);
    return s;
}

qn_status qni_jinja_fail(const qni_jrun *r, const char *format, ...) {
    va_list args;
    va_start(args, format);
    qn_status s = error_at(r->t, r->at, QN_ERR_DATA, format, args);
    va_end(args);
    return s;
}

/* With '\n' for every kind of line end and without the one at the end of the text. */
static char *normal_lines(qn_setup *arena, const char *text, size_t length, size_t *out_length) {
    char *to = qn_setup_alloc(arena, length + 1);
    size_t n = 0;
    if (!to) return NULL;
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n' && i > 0 && text[i - 1] == '\r') continue;
        to[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (n > 0 && to[n - 1] == '\n') n--;
    to[n] = '\0';
    *out_length = n;
    return to;
}

qn_status qn_jinja_compile(const char *name, const char *text, size_t length, qn_jinja **out) {
    qn_setup *arena = NULL;
    qn_jinja *t;
    if (length > QN_JINJA_MAX_BYTES) {
        return qn_fail(QN_ERR_FORMAT, "%s: a template of %zu bytes, expected at most %d", name,
                       length, QN_JINJA_MAX_BYTES);
    }
    if (!qn_utf8_valid(text, length) || memchr(text, '\0', length)) {
        return qn_fail(QN_ERR_FORMAT, "%s: a template must be UTF-8 without NUL", name);
    }
    QN_TRY(qn_setup_create("a template", &arena));
    qn_status status = QN_ERR_OOM;
    if (!(t = qn_setup_alloc(arena, sizeof *t))) goto done;
    t->arena = arena;
    if (!(t->name = qn_setup_strdup(arena, name))) goto done;
    if (!(t->text = normal_lines(arena, text, length, &t->length))) goto done;
    QN_TRY_GOTO(qni_jinja_parse(t));
    *out = t;
    arena = NULL;
done:
    qn_setup_free(arena);
    return status;
}

void qn_jinja_free(qn_jinja *t) {
    if (t) qn_setup_free(t->arena);
}

bool qn_jinja_has_generation(const qn_jinja *t) { return t->has_generation; }

static qn_status define(qni_jrun *r, const qn_jinja_variable *v) {
    qni_jval name, value;
    if (!v->value) return QN_OK;
    QN_TRY(qni_jinja_borrow(r, v->name, strlen(v->name), &name));
    QN_TRY(qni_jinja_from_json(r, v->value, &value));
    return qni_jinja_put(r, &r->scope->names, &name, &value);
}

qn_status qn_jinja_render(const qn_jinja *t, const qn_jinja_variable *variables, int n_variables,
                          const qn_jinja_options *options, char **text, size_t *bytes,
                          qn_jinja_spans *generated) {
    const qn_jinja_options o = options ? *options : (qn_jinja_options){0};
    qni_jscope outermost = {0}, top = {.parent = &outermost};
    qni_jrun r = {
        .t = t,
        .scope = &outermost,
        .steps = o.max_steps ? o.max_steps : 10 * 1000 * 1000,
        .memory = o.max_memory ? o.max_memory : (size_t)64 << 20,
        .output = o.max_output ? o.max_output : (size_t)16 << 20,
        .now = o.now ? o.now : (int64_t)time(NULL),
        .generated = generated,
    };
    QN_TRY(qn_setup_create("a rendering", &r.arena));
    qn_status status = QN_OK;
    for (int i = 0; i < n_variables; i++) QN_TRY_GOTO(define(&r, &variables[i]));
    r.scope = &top;
    QN_TRY_GOTO(qni_jinja_run(&r, t->body));
    *bytes = r.out.length;
    QN_TRY_GOTO(qn_text_take(&r.out, text));
done:
    qn_text_free(&r.out);
    qn_setup_free(r.arena);
    if (status != QN_OK && generated) {
        qn_free(generated->items);
        *generated = (qn_jinja_spans){0};
    }
    return status;
}
