/* jinja_eval.c — walking the tree: statements write, expressions give values, calls bind. */
#include "io/jinja_parts.h"

enum { MAX_DEPTH = 400 };

qn_status qni_jinja_enter_run(qni_jrun *r) {
    if (++r->depth > MAX_DEPTH) return qni_jinja_fail(r, "nested deeper than %d calls", MAX_DEPTH);
    return qni_jinja_charge(r, 1);
}

/* ---- names ----------------------------------------------------------------------------------- */

qn_status qni_jinja_lookup(qni_jrun *r, const qni_jstring *name, qni_jval *out) {
    for (const qni_jscope *s = r->scope; s; s = s->parent) {
        QN_TRY(qni_jinja_charge(r, 1 + (size_t)s->names.count / 16));
        const qni_jval *v = qni_jinja_get_text(&s->names, name->text, name->bytes);
        if (!v) continue;
        *out = *v;
        return QN_OK;
    }
    const qni_jfunction *f = qni_jinja_find_global(name->text, name->bytes);
    *out = f ? (qni_jval){.kind = QNI_J_FUNCTION, .as.function = f} : (qni_jval){.as.s = name};
    return QN_OK;
}

static qn_status push_scope(qni_jrun *r, qni_jscope *parent) {
    qni_jscope *s;
    QN_TRY(qni_jinja_alloc(r, sizeof *s, &s));
    s->parent = parent;
    r->scope = s;
    return QN_OK;
}

static qn_status assign(qni_jrun *r, const qni_jnode *target, const qni_jval *value) {
    r->at = target->offset;
    if (target->type == QNI_J_NAME) {
        return qni_jinja_put(r, &r->scope->names, &target->value, value);
    }
    if (target->type == QNI_J_ATTRIBUTE) {
        qni_jval object;
        QN_TRY(qni_jinja_lookup(r, target->a->value.as.s, &object));
        if (object.kind != QNI_J_NAMESPACE) {
            return qni_jinja_fail(r, "an attribute of %s is set, expected a namespace",
                                  qni_jinja_kind_name(&object));
        }
        if (target->value.as.s->bytes && target->value.as.s->text[0] == '_') {
            return qni_jinja_fail(r, "an attribute that begins with an underscore");
        }
        return qni_jinja_put(r, object.as.dict, &target->value, value);
    }
    const qni_jlist *list;
    int64_t n = 0;
    if (value->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, value);
    QN_TRY(qni_jinja_walk(r, value, &list));
    for (const qni_jnode *t = target->a; t; t = t->next) n++;
    if (n != list->count) {
        return qni_jinja_fail(r, "%lld values for %lld names", (long long)list->count,
                              (long long)n);
    }
    const qni_jval *item = list->items;
    for (const qni_jnode *t = target->a; t; t = t->next) QN_TRY(assign(r, t, item++));
    return QN_OK;
}

/* ---- statements ------------------------------------------------------------------------------ */

/* Runs `body` in a scope of its own and gives what it wrote. */
static qn_status capture(qni_jrun *r, const qni_jnode *body, qni_jval *out) {
    qn_text outer = r->out;
    qni_jscope *scope = r->scope;
    r->out = (qn_text){0};
    r->captures++;
    qn_status status = push_scope(r, scope);
    if (status == QN_OK) status = qni_jinja_run(r, body);
    if (status == QN_OK) status = qni_jinja_take(r, &r->out, out);
    qn_text_free(&r->out);
    r->captures--;
    r->scope = scope;
    r->out = outer;
    return status;
}

static qn_status apply_filter(qni_jrun *r, const qni_jnode *n, const qni_jval *input,
                              qni_jval *out);

/* A chain of filters over a text. */
static qn_status filtered(qni_jrun *r, const qni_jnode *filters, qni_jval *text) {
    if (!filters) return QN_OK;
    QN_TRY(qni_jinja_enter_run(r));
    if (filters->a) QN_TRY(filtered(r, filters->a, text));
    r->depth--;
    return apply_filter(r, filters, text, text);
}

static qn_status run_items(qni_jrun *r, const qni_jnode *n, qni_jloop *loop) {
    static const qni_jstring loop_name = {"loop", 4};
    const qni_jval name = {.kind = QNI_J_STRING, .as.s = &loop_name};
    const qni_jval loop_value = {.kind = QNI_J_LOOP, .as.loop = loop};
    qni_jscope *outer = r->scope, *inner;
    QN_TRY(push_scope(r, outer));
    inner = r->scope;
    for (loop->index = 0; loop->index < loop->items->count; loop->index++) {
        r->at = n->offset;
        inner->names.count = 0; /* each item begins with no names of its own */
        QN_TRY(qni_jinja_put(r, &r->scope->names, &name, &loop_value));
        QN_TRY(assign(r, n->a, &loop->items->items[loop->index]));
        QN_TRY(qni_jinja_run(r, n->c));
        bool leave = r->flow == QNI_J_BREAKS;
        r->flow = QNI_J_GOES_ON;
        if (leave) break;
    }
    r->scope = outer;
    return QN_OK;
}

/* The items for which the loop's condition holds. */
static qn_status choose(qni_jrun *r, const qni_jnode *n, const qni_jlist **items) {
    qni_jscope *outer = r->scope;
    qni_jval chosen, holds;
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, &chosen));
    QN_TRY(push_scope(r, outer));
    for (int64_t i = 0; i < (*items)->count; i++) {
        QN_TRY(assign(r, n->a, &(*items)->items[i]));
        QN_TRY(qni_jinja_eval(r, n->e, &holds));
        if (qni_jinja_truth(&holds)) {
            QN_TRY(qni_jinja_append(r, chosen.as.list, &(*items)->items[i]));
        }
    }
    r->scope = outer;
    *items = chosen.as.list;
    return QN_OK;
}

static qn_status run_for(qni_jrun *r, const qni_jnode *n) {
    qni_jval over;
    qni_jloop *loop;
    QN_TRY(qni_jinja_eval(r, n->b, &over));
    r->at = n->b->offset;
    QN_TRY(qni_jinja_alloc(r, sizeof *loop, &loop));
    QN_TRY(qni_jinja_walk(r, &over, &loop->items));
    if (n->e) QN_TRY(choose(r, n, &loop->items));
    loop->depth = 1;
    if (loop->items->count == 0) {
        qni_jscope *outer = r->scope;
        QN_TRY(push_scope(r, outer));
        QN_TRY(qni_jinja_run(r, n->d));
        r->scope = outer;
        return QN_OK;
    }
    return run_items(r, n, loop);
}

static qn_status run_with(qni_jrun *r, const qni_jnode *n) {
    qni_jscope *outer = r->scope, *inner;
    qni_jval value;
    QN_TRY(push_scope(r, outer));
    inner = r->scope;
    for (const qni_jnode *s = n->a; s; s = s->next) { /* values see the outer names only */
        r->scope = outer;
        QN_TRY(qni_jinja_eval(r, s->b, &value));
        r->scope = inner;
        QN_TRY(assign(r, s->a, &value));
    }
    QN_TRY(qni_jinja_run(r, n->c));
    r->scope = outer;
    return QN_OK;
}

static qn_status run_generation(qni_jrun *r, const qni_jnode *n) {
    qni_jscope *outer = r->scope;
    size_t begin = r->out.length;
    if (r->generated && r->captures) {
        return qni_jinja_fail(r, "a generation block inside a macro or another block's text");
    }
    QN_TRY(push_scope(r, outer));
    QN_TRY(qni_jinja_run(r, n->c));
    r->scope = outer;
    qn_jinja_spans *g = r->generated;
    if (!g) return QN_OK;
    if (g->count == g->capacity) {
        size_t old = (size_t)g->capacity * sizeof *g->items, more = old ? 2 * old : 256;
        qn_jinja_span *items = qn_realloc(g->items, old, more, "generation blocks");
        if (!items) return QN_ERR_OOM;
        g->items = items;
        g->capacity = (int64_t)(more / sizeof *g->items);
    }
    g->items[g->count++] = (qn_jinja_span){begin, r->out.length};
    return QN_OK;
}

static qn_status make_macro(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qni_jmacro *m;
    QN_TRY(qni_jinja_alloc(r, sizeof *m, &m));
    *m = (qni_jmacro){n, r->scope};
    *out = (qni_jval){.kind = QNI_J_MACRO, .as.macro = m};
    return QN_OK;
}

static qn_status call_node(qni_jrun *r, const qni_jnode *n, const qni_jval *caller, qni_jval *out);

static qn_status run_one(qni_jrun *r, const qni_jnode *n) {
    qni_jval v = {0}, text;
    r->at = n->offset;
    switch (n->type) {
    case QNI_J_TEXT: return qni_jinja_emit(r, n->value.as.s->text, n->value.as.s->bytes);
    case QNI_J_OUTPUT:
        QN_TRY(qni_jinja_eval(r, n->a, &v));
        r->at = n->a->offset;
        return qni_jinja_print(r, &v);
    case QNI_J_IF:
        QN_TRY(qni_jinja_eval(r, n->a, &v));
        return qni_jinja_run(r, qni_jinja_truth(&v) ? n->b : n->c);
    case QNI_J_FOR: return run_for(r, n);
    case QNI_J_SET: QN_TRY(qni_jinja_eval(r, n->b, &v)); return assign(r, n->a, &v);
    case QNI_J_SET_BLOCK:
    case QNI_J_FILTER_BLOCK:
        QN_TRY(capture(r, n->c, &text));
        QN_TRY(filtered(r, n->b, &text));
        return n->type == QNI_J_SET_BLOCK ? assign(r, n->a, &text) : qni_jinja_print(r, &text);
    case QNI_J_WITH: return run_with(r, n);
    case QNI_J_MACRO_DEF:
        QN_TRY(make_macro(r, n, &v));
        return qni_jinja_put(r, &r->scope->names, &n->value, &v);
    case QNI_J_CALL_BLOCK:
        QN_TRY(make_macro(r, n, &v));
        QN_TRY(call_node(r, n->b, &v, &text));
        return qni_jinja_print(r, &text);
    case QNI_J_GENERATION: return run_generation(r, n);
    case QNI_J_BREAK: r->flow = QNI_J_BREAKS; return QN_OK;
    default: r->flow = QNI_J_CONTINUES; return QN_OK;
    }
}

qn_status qni_jinja_run(qni_jrun *r, const qni_jnode *list) {
    QN_TRY(qni_jinja_enter_run(r));
    for (const qni_jnode *n = list; n && r->flow == QNI_J_GOES_ON; n = n->next) {
        QN_TRY(qni_jinja_charge(r, 1));
        QN_TRY(run_one(r, n));
    }
    r->depth--;
    return QN_OK;
}

/* ---- calls ----------------------------------------------------------------------------------- */

typedef struct arguments {   /* being collected */
    qni_jlist values, names; /* a name is a string, or none for an argument by place */
} arguments;

static qn_status add_argument(qni_jrun *r, arguments *a, const qni_jval *name,
                              const qni_jval *value) {
    QN_TRY(qni_jinja_append(r, &a->values, value));
    return qni_jinja_append(r, &a->names, name);
}

static qn_status collect_one(qni_jrun *r, const qni_jnode *n, arguments *to) {
    const qni_jval none = qni_jnone();
    const qni_jlist *list;
    qni_jval v;
    QN_TRY(qni_jinja_eval(r, n->a, &v));
    r->at = n->offset;
    if (n->op == QNI_J_BY_PLACE) return add_argument(r, to, &none, &v);
    if (n->op == QNI_J_BY_NAME) return add_argument(r, to, &n->value, &v);
    if (n->op == QNI_J_BY_LIST) {
        QN_TRY(qni_jinja_walk(r, &v, &list));
        for (int64_t i = 0; i < list->count; i++) {
            QN_TRY(add_argument(r, to, &none, &list->items[i]));
        }
        return QN_OK;
    }
    if (v.kind != QNI_J_DICT) {
        return qni_jinja_fail(r, "** of %s, expected a dict", qni_jinja_kind_name(&v));
    }
    for (int64_t i = 0; i < v.as.dict->count; i++) {
        if (v.as.dict->keys[i].kind != QNI_J_STRING) {
            return qni_jinja_fail(r, "** of a dict whose keys are not strings");
        }
        QN_TRY(add_argument(r, to, &v.as.dict->keys[i], &v.as.dict->values[i]));
    }
    return QN_OK;
}

/* Arguments by place before those by name, also for `f(a=1, *list)`. */
static qn_status collect(qni_jrun *r, const qni_jnode *list, const qni_jval *caller,
                         qni_jargs *out) {
    static const qni_jstring caller_name = {"caller", 6};
    const qni_jval name = {.kind = QNI_J_STRING, .as.s = &caller_name};
    arguments a = {0};
    qni_jval *values;
    const qni_jstring **names;
    int64_t n = 0;
    for (const qni_jnode *i = list; i; i = i->next) QN_TRY(collect_one(r, i, &a));
    if (caller) QN_TRY(add_argument(r, &a, &name, caller));
    QN_TRY(qni_jinja_alloc(r, (size_t)a.values.count * sizeof *values + 1, &values));
    QN_TRY(qni_jinja_alloc(r, (size_t)a.values.count * sizeof(char *) + 1, &names));
    for (int named = 0; named < 2; named++) {
        for (int64_t i = 0; i < a.values.count; i++) {
            bool has_name = a.names.items[i].kind == QNI_J_STRING;
            if (has_name != named) continue;
            names[n] = has_name ? a.names.items[i].as.s : NULL;
            values[n++] = a.values.items[i];
        }
    }
    *out = (qni_jargs){values, names, n};
    return QN_OK;
}

/* The place among the parameters that argument i is for, -1 if there is none. */
static int find_parameter(const qni_jfunction *f, const qni_jargs *args, int64_t i) {
    const qni_jstring *name = args->names[i];
    for (int k = 0; k < QNI_J_MAX_PARAMETERS && f->parameters[k]; k++) {
        if (name ? qni_jsame_text(name, f->parameters[k], strlen(f->parameters[k])) : k == i) {
            return k;
        }
    }
    return -1;
}

qn_status qni_jinja_apply(qni_jrun *r, const qni_jfunction *f, const qni_jval *self,
                          const qni_jargs *args, qni_jval *out) {
    qni_jval v[QNI_J_MAX_PARAMETERS];
    for (int k = 0; k < QNI_J_MAX_PARAMETERS; k++) v[k] = (qni_jval){.of = QNI_J_ABSENT};
    bool free_form = f->parameters[0] && strcmp(f->parameters[0], "*") == 0;
    for (int64_t i = 0; i < args->count && !free_form; i++) {
        int k = find_parameter(f, args, i);
        if (k < 0 && args->names[i]) {
            int shown = args->names[i]->bytes > 40 ? 40 : (int)args->names[i]->bytes;
            return qni_jinja_fail(r, "'%s' takes no argument '%.*s'", f->name, shown,
                                  args->names[i]->text);
        }
        if (k < 0 || !qni_jabsent(&v[k])) {
            return qni_jinja_fail(r, "'%s' got too many arguments", f->name);
        }
        v[k] = args->values[i];
        if (qni_jabsent(&v[k])) v[k].of = 0;
    }
    for (int k = 0; k < f->required && !free_form; k++) {
        if (!qni_jabsent(&v[k])) continue;
        return qni_jinja_fail(r, "'%s' lacks its argument '%s'", f->name, f->parameters[k]);
    }
    QN_TRY(qni_jinja_enter_run(r));
    QN_TRY(f->body(r, self, v, args, out));
    r->depth--;
    return QN_OK;
}

static const qni_jval *named_argument(const qni_jargs *args, const qni_jstring *name) {
    for (int64_t i = 0; i < args->count; i++) {
        if (args->names[i] && qni_jsame_text(args->names[i], name->text, name->bytes)) {
            return &args->values[i];
        }
    }
    return NULL;
}

/* Binds the parameters of a macro in the present scope. */
static qn_status bind_macro(qni_jrun *r, const qni_jnode *macro, const qni_jargs *args) {
    static const qni_jstring caller_name = {"caller", 6};
    const qni_jval caller = {.kind = QNI_J_STRING, .as.s = &caller_name};
    int64_t place = 0, used = 0;
    for (const qni_jnode *p = macro->a; p; p = p->next, place++) {
        qni_jval value = {.as.s = p->value.as.s};
        const qni_jval *given = named_argument(args, p->value.as.s);
        bool by_place = place < args->count && !args->names[place];
        if (given && by_place) return qni_jinja_fail(r, "a macro got an argument twice");
        if (by_place) given = &args->values[place];
        if (given) {
            value = *given;
            used++;
        } else if (p->a) {
            QN_TRY(qni_jinja_eval(r, p->a, &value));
        }
        QN_TRY(qni_jinja_put(r, &r->scope->names, &p->value, &value));
    }
    const qni_jval *block = named_argument(args, &caller_name);
    if (block && !qni_jinja_get_text(&r->scope->names, "caller", 6)) {
        QN_TRY(qni_jinja_put(r, &r->scope->names, &caller, block));
        used++;
    }
    if (used == args->count) return QN_OK;
    return qni_jinja_fail(r, "a macro got %lld arguments it has no parameters for",
                          (long long)(args->count - used));
}

static qn_status call_macro(qni_jrun *r, const qni_jmacro *m, const qni_jargs *args,
                            qni_jval *out) {
    qni_jscope *scope = r->scope;
    uint32_t at = r->at;
    QN_TRY(push_scope(r, m->scope));
    QN_TRY(bind_macro(r, m->node, args));
    QN_TRY(capture(r, m->node->c, out));
    r->scope = scope;
    r->at = at;
    return QN_OK;
}

qn_status qni_jinja_call(qni_jrun *r, const qni_jval *callee, const qni_jargs *args,
                         qni_jval *out) {
    switch (callee->kind) {
    case QNI_J_FUNCTION: return qni_jinja_apply(r, callee->as.function, NULL, args, out);
    case QNI_J_METHOD:
        return qni_jinja_apply(r, callee->as.method->function, &callee->as.method->self, args, out);
    case QNI_J_MACRO: {
        QN_TRY(qni_jinja_enter_run(r));
        QN_TRY(call_macro(r, callee->as.macro, args, out));
        r->depth--;
        return QN_OK;
    }
    case QNI_J_UNDEFINED: return qni_jinja_undefined_error(r, callee);
    default: return qni_jinja_fail(r, "%s cannot be called", qni_jinja_kind_name(callee));
    }
}

static qn_status call_node(qni_jrun *r, const qni_jnode *n, const qni_jval *caller, qni_jval *out) {
    qni_jval callee;
    qni_jargs args;
    QN_TRY(qni_jinja_eval(r, n->a, &callee));
    QN_TRY(collect(r, n->b, caller, &args));
    r->at = n->offset;
    return qni_jinja_call(r, &callee, &args, out);
}

static qn_status apply_filter(qni_jrun *r, const qni_jnode *n, const qni_jval *input,
                              qni_jval *out) {
    qni_jargs args;
    qni_jval value = *input;
    QN_TRY(collect(r, n->b, NULL, &args));
    r->at = n->offset;
    return qni_jinja_apply(r, n->function, &value, &args, out);
}

/* ---- expressions ----------------------------------------------------------------------------- */

static qn_status make_list(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qni_jval list, item;
    QN_TRY(qni_jinja_list(r, n->type == QNI_J_MAKE_TUPLE ? QNI_J_TUPLE : QNI_J_LIST, 0, &list));
    for (const qni_jnode *i = n->a; i; i = i->next) {
        QN_TRY(qni_jinja_eval(r, i, &item));
        QN_TRY(qni_jinja_append(r, list.as.list, &item));
    }
    *out = list;
    return QN_OK;
}

static qn_status make_dict(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qni_jval dict, key, value;
    QN_TRY(qni_jinja_dict(r, QNI_J_DICT, &dict));
    for (const qni_jnode *i = n->a; i; i = i->next->next) {
        QN_TRY(qni_jinja_eval(r, i, &key));
        QN_TRY(qni_jinja_eval(r, i->next, &value));
        QN_TRY(qni_jinja_put(r, dict.as.dict, &key, &value));
    }
    *out = dict;
    return QN_OK;
}

static qn_status slice(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    const qni_jnode *nodes[] = {n->b, n->c, n->d};
    qni_jval a, v[3];
    QN_TRY(qni_jinja_eval(r, n->a, &a));
    for (int i = 0; i < 3; i++) {
        v[i] = qni_jnone();
        if (nodes[i]) QN_TRY(qni_jinja_eval(r, nodes[i], &v[i]));
    }
    r->at = n->offset;
    return qni_jinja_slice(r, &a, &v[0], &v[1], &v[2], out);
}

static qn_status compare_chain(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qni_jval left, right;
    bool holds = true;
    QN_TRY(qni_jinja_eval(r, n->a, &left));
    for (const qni_jnode *o = n->b; o && holds; o = o->next) {
        QN_TRY(qni_jinja_eval(r, o->a, &right));
        r->at = o->offset;
        QN_TRY(qni_jinja_compare(r, (qni_jop)o->op, &left, &right, &holds));
        left = right;
    }
    *out = qni_jbool(holds);
    return QN_OK;
}

static qn_status concat(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qni_jval all, item;
    size_t bytes = 0;
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, &all));
    for (const qni_jnode *i = n->a; i; i = i->next) {
        QN_TRY(qni_jinja_eval(r, i, &item));
        QN_TRY(qni_jinja_text(r, &item, &item));
        QN_TRY(qni_jinja_append(r, all.as.list, &item));
        bytes += item.as.s->bytes;
    }
    char *text, *to;
    QN_TRY(qni_jinja_alloc(r, bytes + 1, &text));
    to = text;
    for (int64_t i = 0; i < all.as.list->count; i++) {
        const qni_jstring *s = all.as.list->items[i].as.s;
        if (s->bytes) memcpy(to, s->text, s->bytes);
        to += s->bytes;
    }
    return qni_jinja_borrow(r, text, bytes, out);
}

static qn_status test(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qni_jval a;
    qni_jargs args;
    QN_TRY(qni_jinja_eval(r, n->a, &a));
    QN_TRY(collect(r, n->b, NULL, &args));
    r->at = n->offset;
    QN_TRY(qni_jinja_apply(r, n->function, &a, &args, out));
    *out = qni_jbool(qni_jinja_truth(out) != n->op);
    return QN_OK;
}

static qn_status unary(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    const qni_jval zero = qni_jint(0), minus_one = qni_jint(-1);
    qni_jval a;
    QN_TRY(qni_jinja_eval(r, n->a, &a));
    r->at = n->offset;
    if (!qni_jnumeric(&a)) {
        if (a.kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, &a);
        return qni_jinja_fail(r, "a sign before %s", qni_jinja_kind_name(&a));
    }
    if (n->op == QNI_J_ADD) return qni_jinja_binary(r, QNI_J_ADD, &zero, &a, out);
    return qni_jinja_binary(r, QNI_J_MULTIPLY, &minus_one, &a, out);
}

static qn_status operate(qni_jrun *r, const qni_jnode *n, qni_jval *out) { /* two operands */
    qni_jval a, b;
    QN_TRY(qni_jinja_eval(r, n->a, &a));
    if (n->type == QNI_J_AND || n->type == QNI_J_OR) { /* gives one of them, as Python does */
        *out = a;
        if (qni_jinja_truth(&a) == (n->type == QNI_J_OR)) return QN_OK;
        return qni_jinja_eval(r, n->b, out);
    }
    QN_TRY(qni_jinja_eval(r, n->b, &b));
    r->at = n->offset;
    if (n->type == QNI_J_ITEM) return qni_jinja_item(r, &a, &b, out);
    return qni_jinja_binary(r, (qni_jop)n->op, &a, &b, out);
}

static qn_status one_operand(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qni_jval a;
    QN_TRY(qni_jinja_eval(r, n->a, &a));
    r->at = n->offset;
    switch (n->type) {
    case QNI_J_ATTRIBUTE: return qni_jinja_attribute(r, &a, &n->value, out);
    case QNI_J_FILTER: return apply_filter(r, n, &a, out);
    case QNI_J_NOT: *out = qni_jbool(!qni_jinja_truth(&a)); return QN_OK;
    default: /* QNI_J_CONDITIONAL */
        n = qni_jinja_truth(&a) ? n->b : n->c;
        *out = (qni_jval){0};
        return n ? qni_jinja_eval(r, n, out) : QN_OK;
    }
}

qn_status qni_jinja_eval(qni_jrun *r, const qni_jnode *n, qni_jval *out) {
    qn_status status;
    r->at = n->offset;
    if (n->type == QNI_J_CONST) {
        *out = n->value;
        return QN_OK;
    }
    QN_TRY(qni_jinja_enter_run(r));
    switch (n->type) {
    case QNI_J_NAME: status = qni_jinja_lookup(r, n->value.as.s, out); break;
    case QNI_J_MAKE_LIST:
    case QNI_J_MAKE_TUPLE: status = make_list(r, n, out); break;
    case QNI_J_MAKE_DICT: status = make_dict(r, n, out); break;
    case QNI_J_SLICE: status = slice(r, n, out); break;
    case QNI_J_CALL: status = call_node(r, n, NULL, out); break;
    case QNI_J_TEST: status = test(r, n, out); break;
    case QNI_J_UNARY: status = unary(r, n, out); break;
    case QNI_J_COMPARE: status = compare_chain(r, n, out); break;
    case QNI_J_CONCAT: status = concat(r, n, out); break;
    case QNI_J_ITEM:
    case QNI_J_BINARY:
    case QNI_J_AND:
    case QNI_J_OR: status = operate(r, n, out); break;
    default: status = one_operand(r, n, out);
    }
    r->depth--;
    return status;
}
