/* jinja_select.c — filters over the items of a list: choosing, mapping, ordering, joining. */
#include "io/jinja_parts.h"

static bool given(const qni_jval *v) { return !qni_jabsent(v); }

/* ---- items and what they are compared by ----------------------------------------------------- */

/* item.a.b or item.0 for the attribute 'a.b' or 0, or the item itself without one. */
static qn_status part(qni_jrun *r, const qni_jval *item, const qni_jval *attribute, qni_jval *out) {
    qni_jval value = *item;
    if (!given(attribute) || attribute->kind == QNI_J_NONE) {
        *out = value;
        return QN_OK;
    }
    if (attribute->kind == QNI_J_INT) return qni_jinja_item(r, item, attribute, out);
    if (attribute->kind != QNI_J_STRING) {
        return qni_jinja_fail(r, "an attribute that is %s", qni_jinja_kind_name(attribute));
    }
    const char *s = attribute->as.s->text, *end = s + attribute->as.s->bytes;
    while (s) {
        const char *dot = memchr(s, '.', (size_t)(end - s));
        size_t n = (size_t)((dot ? dot : end) - s);
        qni_jval key;
        QN_TRY(qni_jinja_borrow(r, s, n, &key));
        bool number = n > 0 && n < 10;
        int64_t index = 0;
        for (size_t i = 0; i < n && number; i++) {
            number = s[i] >= '0' && s[i] <= '9';
            index = 10 * index + (s[i] - '0');
        }
        if (number) key = qni_jint(index);
        QN_TRY(qni_jinja_item(r, &value, &key, &value));
        s = dot ? dot + 1 : NULL;
    }
    *out = value;
    return QN_OK;
}

static qn_status sort_key(qni_jrun *r, const qni_jval *item, const qni_jval *attribute,
                          const qni_jval *case_sensitive, qni_jval *out) {
    const qni_jargs nothing = {0};
    QN_TRY(part(r, item, attribute, out));
    bool sensitive = given(case_sensitive) && qni_jinja_truth(case_sensitive);
    if (sensitive || out->kind != QNI_J_STRING) return QN_OK;
    qni_jval text = *out;
    return qni_jinja_apply(r, qni_jinja_find_method(QNI_J_STRING, "lower", 5), &text, &nothing,
                           out);
}

/* ---- choosing and mapping -------------------------------------------------------------------- */

/* Calls `f` with the arguments from `first` on. */
static qn_status apply_rest(qni_jrun *r, const qni_jfunction *f, const qni_jval *self,
                            const qni_jargs *args, int64_t first, qni_jval *out) {
    const qni_jargs rest = {args->values + first, args->names + first, args->count - first};
    return qni_jinja_apply(r, f, self, &rest, out);
}

static qn_status choose(qni_jrun *r, const qni_jval *self, const qni_jargs *args, bool keep,
                        bool by_attribute, qni_jval *out) {
    const qni_jval absent = {.of = QNI_J_ABSENT};
    const qni_jval *attribute = by_attribute ? &args->values[0] : &absent;
    const qni_jfunction *test = NULL;
    const qni_jlist *items;
    int64_t at = by_attribute;
    if (args->count < at || (by_attribute && args->names[0])) {
        return qni_jinja_fail(r, "expected the name of an attribute");
    }
    if (args->count > at) {
        const qni_jval *name = &args->values[at];
        if (!args->names[at] && name->kind == QNI_J_STRING) {
            test = qni_jinja_find_test(name->as.s->text, name->as.s->bytes);
        }
        if (!test) return qni_jinja_fail(r, "expected the name of a test");
    }
    if (!qni_jinja_truth(self)) return qni_jinja_list(r, QNI_J_ITERATOR, 0, out);
    QN_TRY(qni_jinja_walk(r, self, &items));
    qni_jval chosen, value, holds;
    QN_TRY(qni_jinja_list(r, QNI_J_ITERATOR, 0, &chosen));
    for (int64_t i = 0; i < items->count; i++) {
        QN_TRY(part(r, &items->items[i], attribute, &value));
        holds = value;
        if (test) QN_TRY(apply_rest(r, test, &value, args, at + 1, &holds));
        if (qni_jinja_truth(&holds) == keep) {
            QN_TRY(qni_jinja_append(r, chosen.as.list, &items->items[i]));
        }
    }
    *out = chosen;
    return QN_OK;
}

static qn_status filter_select(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    (void)v;
    return choose(r, self, args, true, false, out);
}
static qn_status filter_reject(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    (void)v;
    return choose(r, self, args, false, false, out);
}
static qn_status filter_selectattr(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                   const qni_jargs *args, qni_jval *out) {
    (void)v;
    return choose(r, self, args, true, true, out);
}
static qn_status filter_rejectattr(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                   const qni_jargs *args, qni_jval *out) {
    (void)v;
    return choose(r, self, args, false, true, out);
}

/* map(attribute='a.b', default=0): the attribute of each item. */
static qn_status map_attribute(qni_jrun *r, const qni_jlist *items, const qni_jargs *args,
                               qni_jlist *to) {
    qni_jval attribute = {.of = QNI_J_ABSENT}, other = {.of = QNI_J_ABSENT}, value;
    for (int64_t i = 0; i < args->count; i++) {
        bool is_default = qni_jsame_text(args->names[i], "default", 7);
        if (!is_default && !qni_jsame_text(args->names[i], "attribute", 9)) {
            return qni_jinja_fail(r, "map takes a filter, or attribute and default");
        }
        *(is_default ? &other : &attribute) = args->values[i];
    }
    for (int64_t i = 0; i < items->count; i++) {
        QN_TRY(part(r, &items->items[i], &attribute, &value));
        if (value.kind == QNI_J_UNDEFINED && given(&other)) value = other;
        QN_TRY(qni_jinja_append(r, to, &value));
    }
    return QN_OK;
}

static qn_status filter_map(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    const qni_jfunction *filter = NULL;
    const qni_jlist *items;
    qni_jval mapped, value;
    (void)v;
    if (args->count == 0) return qni_jinja_fail(r, "map takes a filter, or attribute and default");
    if (!args->names[0]) {
        const qni_jval *name = &args->values[0];
        if (name->kind == QNI_J_STRING) {
            filter = qni_jinja_find_filter(name->as.s->text, name->as.s->bytes);
        }
        if (!filter) return qni_jinja_fail(r, "map: expected the name of a filter");
    }
    QN_TRY(qni_jinja_list(r, QNI_J_ITERATOR, 0, &mapped));
    if (qni_jinja_truth(self)) {
        QN_TRY(qni_jinja_walk(r, self, &items));
        if (!filter) QN_TRY(map_attribute(r, items, args, mapped.as.list));
        for (int64_t i = 0; i < items->count && filter; i++) {
            QN_TRY(apply_rest(r, filter, &items->items[i], args, 1, &value));
            QN_TRY(qni_jinja_append(r, mapped.as.list, &value));
        }
    }
    *out = mapped;
    return QN_OK;
}

static qn_status filter_join(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    qni_jval between = {0}, all, value;
    size_t bytes = 0;
    (void)args;
    if (given(&v[0])) between = v[0];
    QN_TRY(qni_jinja_text(r, &between, &between));
    QN_TRY(qni_jinja_walk(r, self, &items));
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, &all));
    for (int64_t i = 0; i < items->count; i++) {
        QN_TRY(part(r, &items->items[i], &v[1], &value));
        QN_TRY(qni_jinja_text(r, &value, &value));
        QN_TRY(qni_jinja_append(r, all.as.list, &value));
        bytes += value.as.s->bytes + (i ? between.as.s->bytes : 0);
    }
    char *text, *to;
    QN_TRY(qni_jinja_alloc(r, bytes + 1, &text));
    to = text;
    for (int64_t i = 0; i < all.as.list->count; i++) {
        const qni_jstring *parts[] = {between.as.s, all.as.list->items[i].as.s};
        for (int k = i == 0; k < 2; k++) {
            if (parts[k]->bytes) memcpy(to, parts[k]->text, parts[k]->bytes);
            to += parts[k]->bytes;
        }
    }
    return qni_jinja_borrow(r, text, bytes, out);
}

/* ---- ordering -------------------------------------------------------------------------------- */

/* Merges the sorted halves [begin, middle) and [middle, end) of the places in `order`. */
static qn_status merge(qni_jrun *r, const qni_jval *keys, int64_t *order, int64_t *spare,
                       int64_t begin, int64_t middle, int64_t end, bool down) {
    int64_t i = begin, k = middle, n = begin;
    while (i < middle && k < end) {
        const qni_jval *a = &keys[order[i]], *b = &keys[order[k]];
        bool second;
        QN_TRY(down ? qni_jinja_less(r, a, b, &second) : qni_jinja_less(r, b, a, &second));
        spare[n++] = second ? order[k++] : order[i++];
    }
    while (i < middle) spare[n++] = order[i++];
    while (k < end) spare[n++] = order[k++];
    memcpy(order + begin, spare + begin, (size_t)(end - begin) * sizeof *order);
    return QN_OK;
}

/* Stable, as Python's sort; equal keys keep their order also when it goes down. */
static qn_status sorted(qni_jrun *r, const qni_jlist *items, const qni_jval *keys, bool down,
                        qni_jval *out) {
    int64_t n = items->count, *order, *spare;
    QN_TRY(qni_jinja_alloc(r, (size_t)n * sizeof *order + 1, &order));
    QN_TRY(qni_jinja_alloc(r, (size_t)n * sizeof *spare + 1, &spare));
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t begin = 0; begin + width < n; begin += 2 * width) {
            int64_t end = begin + 2 * width < n ? begin + 2 * width : n;
            QN_TRY(merge(r, keys, order, spare, begin, begin + width, end, down));
        }
    }
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, n, out));
    for (int64_t i = 0; i < n; i++) {
        QN_TRY(qni_jinja_append(r, out->as.list, &items->items[order[i]]));
    }
    return QN_OK;
}

static qn_status sort_keys(qni_jrun *r, const qni_jlist *items, const qni_jval *attribute,
                           const qni_jval *case_sensitive, qni_jval **out) {
    qni_jval *keys;
    QN_TRY(qni_jinja_alloc(r, (size_t)items->count * sizeof *keys + 1, &keys));
    for (int64_t i = 0; i < items->count; i++) {
        QN_TRY(sort_key(r, &items->items[i], attribute, case_sensitive, &keys[i]));
    }
    *out = keys;
    return QN_OK;
}

static qn_status filter_sort(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    qni_jval *keys;
    (void)args;
    QN_TRY(qni_jinja_walk(r, self, &items));
    QN_TRY(sort_keys(r, items, &v[2], &v[1], &keys));
    return sorted(r, items, keys, given(&v[0]) && qni_jinja_truth(&v[0]), out);
}

static qn_status filter_dictsort(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                 const qni_jargs *args, qni_jval *out) {
    const qni_jargs nothing = {0};
    qni_jval pairs, *keys;
    bool by_value =
        given(&v[1]) && v[1].kind == QNI_J_STRING && qni_jsame_text(v[1].as.s, "value", 5);
    (void)args;
    if (self->kind != QNI_J_DICT) {
        return qni_jinja_fail(r, "dictsort of %s", qni_jinja_kind_name(self));
    }
    if (given(&v[1]) && !by_value &&
        !(v[1].kind == QNI_J_STRING && qni_jsame_text(v[1].as.s, "key", 3))) {
        return qni_jinja_fail(r, "dictsort by 'key' or 'value'");
    }
    QN_TRY(
        qni_jinja_apply(r, qni_jinja_find_method(QNI_J_DICT, "items", 5), self, &nothing, &pairs));
    const qni_jval which = qni_jint(by_value);
    QN_TRY(sort_keys(r, pairs.as.list, &which, &v[0], &keys));
    return sorted(r, pairs.as.list, keys, given(&v[2]) && qni_jinja_truth(&v[2]), out);
}

static qn_status filter_unique(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    qni_jval *keys, chosen;
    (void)args;
    QN_TRY(qni_jinja_walk(r, self, &items));
    QN_TRY(sort_keys(r, items, &v[1], &v[0], &keys));
    QN_TRY(qni_jinja_list(r, QNI_J_ITERATOR, 0, &chosen));
    for (int64_t i = 0; i < items->count; i++) {
        bool seen = false;
        for (int64_t k = 0; k < i && !seen; k++) {
            QN_TRY(qni_jinja_charge(r, 1));
            seen = qni_jinja_equal(r, &keys[i], &keys[k]);
        }
        if (!seen) QN_TRY(qni_jinja_append(r, chosen.as.list, &items->items[i]));
    }
    *out = chosen;
    return QN_OK;
}

static qn_status extreme(qni_jrun *r, const qni_jval *self, const qni_jval *v, bool greatest,
                         qni_jval *out) {
    const qni_jlist *items;
    qni_jval *keys;
    int64_t best = 0;
    QN_TRY(qni_jinja_walk(r, self, &items));
    QN_TRY(sort_keys(r, items, &v[1], &v[0], &keys));
    for (int64_t i = 1; i < items->count; i++) {
        bool better;
        QN_TRY(greatest ? qni_jinja_less(r, &keys[best], &keys[i], &better)
                        : qni_jinja_less(r, &keys[i], &keys[best], &better));
        if (better) best = i;
    }
    *out = items->count ? items->items[best] : (qni_jval){0};
    return QN_OK;
}

static qn_status filter_max(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    (void)args;
    return extreme(r, self, v, true, out);
}
static qn_status filter_min(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    (void)args;
    return extreme(r, self, v, false, out);
}

static qn_status filter_sum(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                            const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    qni_jval total = given(&v[1]) ? v[1] : qni_jint(0), value;
    (void)args;
    QN_TRY(qni_jinja_walk(r, self, &items));
    for (int64_t i = 0; i < items->count; i++) {
        QN_TRY(part(r, &items->items[i], &v[0], &value));
        QN_TRY(qni_jinja_binary(r, QNI_J_ADD, &total, &value, &total));
    }
    *out = total;
    return QN_OK;
}

const qni_jfunction *qni_jinja_find_selector(const char *name, size_t bytes) {
    static const qni_jfunction selectors[] = {
        {"dictsort", filter_dictsort, 0, {"case_sensitive", "by", "reverse"}},
        {"join", filter_join, 0, {"d", "attribute"}},
        {"map", filter_map, 0, {"*"}},
        {"max", filter_max, 0, {"case_sensitive", "attribute"}},
        {"min", filter_min, 0, {"case_sensitive", "attribute"}},
        {"reject", filter_reject, 0, {"*"}},
        {"rejectattr", filter_rejectattr, 0, {"*"}},
        {"select", filter_select, 0, {"*"}},
        {"selectattr", filter_selectattr, 0, {"*"}},
        {"sort", filter_sort, 0, {"reverse", "case_sensitive", "attribute"}},
        {"sum", filter_sum, 0, {"attribute", "start"}},
        {"unique", filter_unique, 0, {"case_sensitive", "attribute"}},
    };
    return qni_jinja_find_in(selectors, sizeof selectors / sizeof *selectors, name, bytes);
}
