/* tokenizer_unicode.c — Unicode's normal forms (UAX 15) over utf8proc's tables.
 *
 * utf8proc normalises whole texts and does not tell where a character came from, so the three steps
 * are done here on characters that carry their place: decompose, put marks into canonical order,
 * compose. A composed character has the place of its first one.
 */
#include "io/tokenizer_normalize.h"

#include <stdlib.h>
#include <utf8proc.h>

typedef struct item {
    utf8proc_int32_t c;
    int32_t class; /* canonical combining class */
    int64_t at;    /* byte of the piece it came from */
    int64_t order;
} item;

enum { FEW = 64, LONGEST = 32 }; /* LONGEST: characters one character decomposes to, at most 18 */

typedef struct items {
    item few[FEW], *list;
    int64_t n, capacity;
} items;

static qn_status add(items *s, utf8proc_int32_t c, int64_t at) {
    if (s->n == s->capacity) {
        bool heap = s->list != s->few;
        item *list = qn_realloc(heap ? s->list : NULL, heap ? (size_t)s->n * sizeof *list : 0,
                                (size_t)s->n * 2 * sizeof *list, "normalised text");
        if (!list) return QN_ERR_OOM;
        for (int64_t i = 0; i < s->n && !heap; i++) list[i] = s->few[i];
        s->list = list;
        s->capacity = 2 * s->n;
    }
    s->list[s->n] = (item){c, utf8proc_get_property(c)->combining_class, at, s->n};
    s->n++;
    return QN_OK;
}

static qn_status decompose(const qni_piece *in, bool compatible, items *s) {
    int length;
    for (int64_t at = 0; at < in->bytes; at += length) {
        utf8proc_int32_t to[LONGEST];
        utf8proc_int32_t c = (utf8proc_int32_t)qni_char_at(in->text, at, &length);
        int state = UTF8PROC_BOUNDCLASS_START;
        utf8proc_option_t options = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE;
        if (compatible) options |= UTF8PROC_COMPAT;
        utf8proc_ssize_t n = utf8proc_decompose_char(c, to, LONGEST, options, &state);
        if (n < 0 || n > LONGEST)
            return qn_fail(QN_ERR_INTERNAL, "utf8proc: %s", utf8proc_errmsg(n));
        for (utf8proc_ssize_t i = 0; i < n; i++) QN_TRY(add(s, to[i], at));
    }
    return QN_OK;
}

static int compare_items(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* Sorts each run of marks by class; equal ones keep their order. */
static void put_in_order(items *s) {
    for (int64_t i = 0; i < s->n; i++) {
        int64_t end = i;
        bool sorted = true;
        for (; end < s->n && s->list[end].class; end++)
            if (end > i && s->list[end].class < s->list[end - 1].class) sorted = false;
        if (!sorted) qsort(s->list + i, (size_t)(end - i), sizeof *s->list, compare_items);
        if (end > i) i = end - 1;
    }
}

static bool compose_two(item *first, const item *second) {
    utf8proc_int32_t two[2] = {first->c, second->c};
    if (utf8proc_normalize_utf32(two, 2, UTF8PROC_COMPOSE | UTF8PROC_STABLE) != 1) return false;
    first->c = two[0];
    return true;
}

static void compose(items *s) {
    int64_t n = 0, starter = -1;
    for (int64_t i = 0; i < s->n; i++) {
        const item *x = &s->list[i];
        /* A mark is blocked by one of the same or a higher class, and by another starter. */
        int32_t between = starter >= 0 && n > starter + 1 ? s->list[n - 1].class : -1;
        bool open = starter >= 0 && between < x->class && between != 0;
        if (open && compose_two(&s->list[starter], x)) continue;
        if (x->class == 0) starter = n;
        s->list[n++] = *x;
    }
    s->n = n;
}

bool qni_is_ascii(const qni_piece *in) {
    unsigned char all = 0;
    for (int64_t i = 0; i < in->bytes; i++) all |= (unsigned char)in->text[i];
    return all < 0x80;
}

qn_status qni_put_form(qni_form form, const qni_piece *in, qni_string *out) {
    qn_status status = QN_OK;
    items s = {.capacity = FEW};
    s.list = s.few;
    QN_TRY_GOTO(decompose(in, form == QNI_NFKD || form == QNI_NFKC, &s));
    put_in_order(&s);
    if (form == QNI_NFC || form == QNI_NFKC) compose(&s);
    for (int64_t i = 0; i < s.n; i++) {
        char text[4];
        qni_string_put(out, text, qn_utf8_write((uint32_t)s.list[i].c, text), in, s.list[i].at);
    }
    status = out->status;
done:
    if (s.list != s.few) qn_free(s.list);
    return status;
}
