/* jinja_methods.c — methods of lists, dicts and loops. */
#include "io/jinja_parts.h"

static qn_status list_find(qni_jrun *r, const qni_jval *self, const qni_jval *item, int64_t *first,
                           int64_t *count) {
    const qni_jlist *list = self->as.list;
    *first = -1;
    *count = 0;
    for (int64_t i = 0; i < list->count; i++) {
        QN_TRY(qni_jinja_charge(r, 1));
        if (!qni_jinja_equal(r, &list->items[i], item)) continue;
        if (*first < 0) *first = i;
        ++*count;
    }
    return QN_OK;
}

static qn_status list_count(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    int64_t first, count;
    (void)args;
    QN_TRY(list_find(r, self, &v[0], &first, &count));
    *out = qni_jint(count);
    return QN_OK;
}
static qn_status list_index(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    int64_t first, count;
    (void)args;
    QN_TRY(list_find(r, self, &v[0], &first, &count));
    if (first < 0) return qni_jinja_fail(r, "the item is not in the list");
    *out = qni_jint(first);
    return QN_OK;
}

static qn_status dict_get(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                          const qni_jargs *args, qni_jval *out) {
    (void)args;
    QN_TRY(qni_jinja_charge(r, 1 + (size_t)self->as.dict->count / 16));
    const qni_jval *found = qni_jinja_get(self->as.dict, &v[0]);
    *out = found ? *found : qni_jabsent(&v[1]) ? qni_jnone() : v[1];
    return QN_OK;
}

/* which: 0 keys, 1 values, 2 pairs of them */
static qn_status members(qni_jrun *r, const qni_jval *self, int which, qni_jval *out) {
    const qni_jdict *d = self->as.dict;
    qni_jval view, pair;
    QN_TRY(qni_jinja_list(r, QNI_J_VIEW, d->count, &view));
    for (int64_t i = 0; i < d->count; i++) {
        pair = which == 0 ? d->keys[i] : d->values[i];
        if (which == 2) {
            QN_TRY(qni_jinja_list(r, QNI_J_TUPLE, 2, &pair));
            QN_TRY(qni_jinja_append(r, pair.as.list, &d->keys[i]));
            QN_TRY(qni_jinja_append(r, pair.as.list, &d->values[i]));
        }
        QN_TRY(qni_jinja_append(r, view.as.list, &pair));
    }
    *out = view;
    return QN_OK;
}

static qn_status dict_keys(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                           const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return members(r, self, 0, out);
}
static qn_status dict_values(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return members(r, self, 1, out);
}
static qn_status dict_items(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return members(r, self, 2, out);
}

static qn_status loop_cycle(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    (void)v;
    if (args->count == 0) return qni_jinja_fail(r, "loop.cycle without values");
    *out = args->values[self->as.loop->index % args->count];
    return QN_OK;
}

/* What a template must not do to its data. */
static qn_status forbidden(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                           const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    (void)out;
    return qni_jinja_fail(r, "a template cannot change %s", qni_jinja_kind_name(self));
}

static const qni_jfunction list_methods[] = {
    {"append", forbidden, 0, {"*"}},     {"clear", forbidden, 0, {"*"}},
    {"count", list_count, 1, {"value"}}, {"extend", forbidden, 0, {"*"}},
    {"index", list_index, 1, {"value"}}, {"insert", forbidden, 0, {"*"}},
    {"pop", forbidden, 0, {"*"}},        {"remove", forbidden, 0, {"*"}},
    {"reverse", forbidden, 0, {"*"}},    {"sort", forbidden, 0, {"*"}},
};

static const qni_jfunction dict_methods[] = {
    {"clear", forbidden, 0, {"*"}},      {"get", dict_get, 1, {"key", "default"}},
    {"items", dict_items, 0, {NULL}},    {"keys", dict_keys, 0, {NULL}},
    {"pop", forbidden, 0, {"*"}},        {"popitem", forbidden, 0, {"*"}},
    {"setdefault", forbidden, 0, {"*"}}, {"update", forbidden, 0, {"*"}},
    {"values", dict_values, 0, {NULL}},
};

static const qni_jfunction loop_methods[] = {{"cycle", loop_cycle, 0, {"*"}}};

const qni_jfunction *qni_jinja_find_method(qni_jkind kind, const char *name, size_t bytes) {
    const struct {
        qni_jkind kind;
        const qni_jfunction *rows;
        size_t n;
    } tables[] = {
        {QNI_J_LIST, list_methods, sizeof list_methods / sizeof *list_methods},
        {QNI_J_DICT, dict_methods, sizeof dict_methods / sizeof *dict_methods},
        {QNI_J_LOOP, loop_methods, sizeof loop_methods / sizeof *loop_methods},
    };
    if (kind == QNI_J_STRING) return qni_jinja_find_string_method(name, bytes);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        if (tables[i].kind != kind) continue;
        return qni_jinja_find_in(tables[i].rows, tables[i].n, name, bytes);
    }
    return NULL;
}
