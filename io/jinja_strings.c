/* jinja_strings.c — methods of strings. Letters beyond ASCII have no case here. */
#include "io/jinja_parts.h"

#include "io/vocab.h"

static bool given(const qni_jval *v) { return !qni_jabsent(v) && v->kind != QNI_J_NONE; }

static bool upper_case(char c) { return c >= 'A' && c <= 'Z'; }
static bool lower_case(char c) { return c >= 'a' && c <= 'z'; }
static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static qn_status need_string(qni_jrun *r, const qni_jval *v, const qni_jstring **out) {
    static const qni_jstring empty = {"", 0};
    *out = &empty;
    if (v->kind == QNI_J_UNDEFINED) return qni_jinja_undefined_error(r, v);
    if (v->kind != QNI_J_STRING) {
        return qni_jinja_fail(r, "%s, expected a string", qni_jinja_kind_name(v));
    }
    *out = v->as.s;
    return QN_OK;
}

static qn_status need_count(qni_jrun *r, const qni_jval *v, int64_t absent, int64_t *out) {
    *out = absent;
    if (qni_jabsent(v)) return QN_OK;
    if (v->kind != QNI_J_INT) {
        return qni_jinja_fail(r, "%s, expected an integer", qni_jinja_kind_name(v));
    }
    *out = v->as.i;
    return QN_OK;
}

/* ---- case ------------------------------------------------------------------------------------ */

typedef enum recase { RECASE_UPPER, RECASE_LOWER, RECASE_CAPITALIZE, RECASE_TITLE } recase;

static qn_status change_case(qni_jrun *r, const qni_jval *self, recase how, qni_jval *out) {
    const qni_jstring *s = self->as.s;
    bool begins = true;
    char *to;
    QN_TRY(qni_jinja_alloc(r, s->bytes + 1, &to));
    for (size_t i = 0; i < s->bytes; i++) {
        char c = s->text[i];
        bool up = how == RECASE_UPPER || (how != RECASE_LOWER && begins);
        to[i] = up && lower_case(c) ? (char)(c - 32) : !up && upper_case(c) ? (char)(c + 32) : c;
        bool letter = lower_case(c) || upper_case(c) || (c & 0x80);
        begins = how == RECASE_TITLE && !letter;
    }
    return qni_jinja_borrow(r, to, s->bytes, out);
}

static qn_status string_upper(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return change_case(r, self, RECASE_UPPER, out);
}
static qn_status string_lower(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return change_case(r, self, RECASE_LOWER, out);
}
static qn_status string_capitalize(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                   const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return change_case(r, self, RECASE_CAPITALIZE, out);
}
static qn_status string_title(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)v;
    (void)args;
    return change_case(r, self, RECASE_TITLE, out);
}

/* ---- what a string is made of ---------------------------------------------------------------- */

static bool all(const qni_jstring *s, bool is(char)) {
    for (size_t i = 0; i < s->bytes; i++) {
        if (!is(s->text[i])) return false;
    }
    return s->bytes > 0;
}

static bool is_letter(char c) { return upper_case(c) || lower_case(c) || (c & 0x80); }
static bool is_alphanumeric(char c) { return is_letter(c) || is_digit(c); }
static bool is_blank(char c) { return !(c & 0x80) && qni_jinja_space((uint32_t)c); }

static qn_status string_isalpha(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(all(self->as.s, is_letter));
    return QN_OK;
}
static qn_status string_isalnum(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(all(self->as.s, is_alphanumeric));
    return QN_OK;
}
static qn_status string_isdigit(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(all(self->as.s, is_digit));
    return QN_OK;
}
static qn_status string_isspace(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(all(self->as.s, is_blank));
    return QN_OK;
}

/* Whether there is a letter of the one case and none of the other. */
static bool only_case(const qni_jstring *s, bool is(char), bool other(char)) {
    bool found = false;
    for (size_t i = 0; i < s->bytes; i++) {
        if (other(s->text[i])) return false;
        found = found || is(s->text[i]);
    }
    return found;
}

static qn_status string_islower(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(only_case(self->as.s, lower_case, upper_case));
    return QN_OK;
}
static qn_status string_isupper(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    (void)r;
    (void)v;
    (void)args;
    *out = qni_jbool(only_case(self->as.s, upper_case, lower_case));
    return QN_OK;
}

/* ---- both ends ------------------------------------------------------------------------------- */

/* Whether the character at s is to be stripped: white space, or one of `set`. */
static bool stripped(const char *s, size_t n, const qni_jstring *set) {
    uint32_t c;
    int length = qn_utf8_next((const unsigned char *)s, (int64_t)n, &c);
    if (length == 0) return false;
    if (!set) return qni_jinja_space(c);
    return memmem(set->text, set->bytes, s, (size_t)length) != NULL;
}

static qn_status strip(qni_jrun *r, const qni_jval *self, const qni_jval *v, bool left, bool right,
                       qni_jval *out) {
    const qni_jstring *s = self->as.s, *set = NULL;
    size_t begin = 0, end = s->bytes;
    if (given(&v[0])) QN_TRY(need_string(r, &v[0], &set));
    QN_TRY(qni_jinja_charge(r, 1 + (s->bytes / 64) * (1 + (set ? set->bytes / 16 : 0))));
    while (left && begin < end && stripped(s->text + begin, end - begin, set)) {
        do begin++;
        while (begin < end && ((unsigned char)s->text[begin] & 0xC0) == 0x80);
    }
    while (right && end > begin) {
        size_t at = end - 1;
        while (at > begin && ((unsigned char)s->text[at] & 0xC0) == 0x80) at--;
        if (!stripped(s->text + at, end - at, set)) break;
        end = at;
    }
    return qni_jinja_borrow(r, s->text + begin, end - begin, out);
}

static qn_status string_strip(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)args;
    return strip(r, self, v, true, true, out);
}
static qn_status string_lstrip(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    (void)args;
    return strip(r, self, v, true, false, out);
}
static qn_status string_rstrip(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    (void)args;
    return strip(r, self, v, false, true, out);
}

static bool at_end(const qni_jstring *s, const qni_jstring *part, bool end) {
    if (part->bytes > s->bytes) return false;
    return part->bytes == 0 ||
           memcmp(s->text + (end ? s->bytes - part->bytes : 0), part->text, part->bytes) == 0;
}

static qn_status affixed(qni_jrun *r, const qni_jval *self, const qni_jval *v, bool end,
                         qni_jval *out) {
    const qni_jval *parts = &v[0];
    int64_t n = 1;
    bool holds = false;
    if (v[0].kind == QNI_J_TUPLE) {
        parts = v[0].as.list->items;
        n = v[0].as.list->count;
    }
    for (int64_t i = 0; i < n; i++) {
        const qni_jstring *part;
        QN_TRY(need_string(r, &parts[i], &part));
        holds = holds || at_end(self->as.s, part, end);
    }
    *out = qni_jbool(holds);
    return QN_OK;
}

static qn_status string_startswith(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                   const qni_jargs *args, qni_jval *out) {
    (void)args;
    return affixed(r, self, v, false, out);
}
static qn_status string_endswith(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                 const qni_jargs *args, qni_jval *out) {
    (void)args;
    return affixed(r, self, v, true, out);
}

static qn_status string_removeprefix(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                     const qni_jargs *args, qni_jval *out) {
    const qni_jstring *s = self->as.s, *part;
    (void)args;
    QN_TRY(need_string(r, &v[0], &part));
    size_t n = at_end(s, part, false) ? part->bytes : 0;
    return qni_jinja_borrow(r, s->text + n, s->bytes - n, out);
}
static qn_status string_removesuffix(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                     const qni_jargs *args, qni_jval *out) {
    const qni_jstring *s = self->as.s, *part;
    (void)args;
    QN_TRY(need_string(r, &v[0], &part));
    size_t n = at_end(s, part, true) ? part->bytes : 0;
    return qni_jinja_borrow(r, s->text, s->bytes - n, out);
}

/* ---- searching ------------------------------------------------------------------------------- */

/* The byte where `part` stands first at or behind `from`, or last; -1 if nowhere. */
static int64_t search(const qni_jstring *s, size_t from, const qni_jstring *part) {
    if (part->bytes == 0) return (int64_t)from;
    const char *at = memmem(s->text + from, s->bytes - from, part->text, part->bytes);
    return at ? at - s->text : -1;
}

static int64_t search_back(const qni_jstring *s, size_t end, const qni_jstring *part) {
    if (part->bytes > end) return -1;
    for (size_t at = end - part->bytes + 1; at-- > 0;) {
        if (part->bytes == 0 || memcmp(s->text + at, part->text, part->bytes) == 0) {
            return (int64_t)at;
        }
    }
    return -1;
}

static qn_status find(qni_jrun *r, const qni_jval *self, const qni_jval *v, bool back,
                      int64_t *out) {
    const qni_jstring *s = self->as.s, *part;
    QN_TRY(need_string(r, &v[0], &part));
    QN_TRY(qni_jinja_charge(r, 1 + s->bytes / 16));
    int64_t at = back ? search_back(s, s->bytes, part) : search(s, 0, part), n = 0;
    for (int64_t i = 0; i < at; i++) n += ((unsigned char)s->text[i] & 0xC0) != 0x80;
    *out = at < 0 ? -1 : n;
    return QN_OK;
}

static qn_status string_find(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    int64_t at;
    (void)args;
    QN_TRY(find(r, self, v, false, &at));
    *out = qni_jint(at);
    return QN_OK;
}
static qn_status string_rfind(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    int64_t at;
    (void)args;
    QN_TRY(find(r, self, v, true, &at));
    *out = qni_jint(at);
    return QN_OK;
}
static qn_status string_index(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    int64_t at;
    (void)args;
    QN_TRY(find(r, self, v, false, &at));
    if (at < 0) return qni_jinja_fail(r, "the string is not in the other");
    *out = qni_jint(at);
    return QN_OK;
}

static qn_status string_count(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    const qni_jstring *s = self->as.s, *part;
    int64_t n = 0;
    (void)args;
    QN_TRY(need_string(r, &v[0], &part));
    QN_TRY(qni_jinja_charge(r, 1 + s->bytes / 16));
    if (part->bytes == 0) {
        QN_TRY(qni_jinja_length(r, self, &n));
        n++;
    } else {
        for (int64_t at = 0; (at = search(s, (size_t)at, part)) >= 0; n++) {
            at += (int64_t)part->bytes;
        }
    }
    *out = qni_jint(n);
    return QN_OK;
}

static qn_status string_replace(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                const qni_jargs *args, qni_jval *out) {
    const qni_jstring *s = self->as.s, *old, *new;
    qn_text text = {0};
    int64_t most;
    size_t from = 0;
    (void)args;
    QN_TRY(need_string(r, &v[0], &old));
    QN_TRY(need_string(r, &v[1], &new));
    QN_TRY(need_count(r, &v[2], -1, &most));
    QN_TRY(qni_jinja_charge(r, 1 + s->bytes / 16));
    for (size_t at = 0; most != 0; most--) {
        int64_t found = at <= s->bytes ? search(s, at, old) : -1;
        if (found < 0 || text.length > r->memory) break;
        qn_text_add_bytes(&text, s->text + from, (size_t)found - from);
        qn_text_add_bytes(&text, new->text, new->bytes);
        from = at = (size_t)found + old->bytes;
        if (old->bytes == 0) { /* between all characters */
            do at++;
            while (at < s->bytes && ((unsigned char)s->text[at] & 0xC0) == 0x80);
        }
    }
    qn_text_add_bytes(&text, s->text + from, s->bytes - from);
    return qni_jinja_take(r, &text, out);
}

/* ---- splitting and joining ------------------------------------------------------------------- */

static qn_status add_part(qni_jrun *r, qni_jlist *list, const qni_jstring *s, size_t begin,
                          size_t end) {
    qni_jval part;
    QN_TRY(qni_jinja_borrow(r, s->text + begin, end - begin, &part));
    return qni_jinja_append(r, list, &part);
}

static qn_status split_at(qni_jrun *r, const qni_jstring *s, const qni_jstring *by, int64_t most,
                          qni_jlist *list) {
    size_t from = 0;
    for (int64_t at; most != 0 && (at = search(s, from, by)) >= 0; most--) {
        QN_TRY(add_part(r, list, s, from, (size_t)at));
        from = (size_t)at + by->bytes;
    }
    return add_part(r, list, s, from, s->bytes);
}

static qn_status split_back(qni_jrun *r, const qni_jstring *s, const qni_jstring *by, int64_t most,
                            qni_jlist *list) {
    size_t end = s->bytes;
    for (int64_t at; most != 0 && (at = search_back(s, end, by)) >= 0; most--) {
        QN_TRY(add_part(r, list, s, (size_t)at + by->bytes, end));
        end = (size_t)at;
    }
    QN_TRY(add_part(r, list, s, 0, end));
    for (int64_t i = 0, k = list->count - 1; i < k; i++, k--) {
        qni_jval swapped = list->items[i];
        list->items[i] = list->items[k];
        list->items[k] = swapped;
    }
    return QN_OK;
}

/* Words between white space; the last one is the rest when `most` splits are made. */
static qn_status split_words(qni_jrun *r, const qni_jstring *s, int64_t most, qni_jlist *list) {
    for (size_t at = 0; at < s->bytes;) {
        uint32_t c;
        size_t begin = at;
        int n = qn_utf8_next((const unsigned char *)s->text + at, (int64_t)(s->bytes - at), &c);
        if (n > 0 && qni_jinja_space(c)) {
            at += (size_t)n;
            continue;
        }
        if (most-- == 0) {
            qni_jval rest = {.kind = QNI_J_STRING,
                             .as.s = &(qni_jstring){s->text + begin, s->bytes - begin}};
            const qni_jval white = {.of = QNI_J_ABSENT};
            QN_TRY(strip(r, &rest, &white, false, true, &rest));
            return qni_jinja_append(r, list, &rest);
        }
        while (at < s->bytes) {
            n = qn_utf8_next((const unsigned char *)s->text + at, (int64_t)(s->bytes - at), &c);
            if (n > 0 && qni_jinja_space(c)) break;
            at += n > 0 ? (size_t)n : 1;
        }
        QN_TRY(add_part(r, list, s, begin, at));
    }
    return QN_OK;
}

static qn_status split(qni_jrun *r, const qni_jval *self, const qni_jval *v, bool back,
                       qni_jval *out) {
    const qni_jstring *by = NULL;
    int64_t most;
    if (given(&v[0])) QN_TRY(need_string(r, &v[0], &by));
    if (by && by->bytes == 0) return qni_jinja_fail(r, "split by an empty string");
    QN_TRY(need_count(r, &v[1], -1, &most));
    QN_TRY(qni_jinja_charge(r, 1 + self->as.s->bytes / 16));
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, out));
    if (!by && back && most >= 0) return qni_jinja_fail(r, "rsplit at white space, counted");
    if (!by) return split_words(r, self->as.s, most, out->as.list);
    return back ? split_back(r, self->as.s, by, most, out->as.list)
                : split_at(r, self->as.s, by, most, out->as.list);
}

static qn_status string_split(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                              const qni_jargs *args, qni_jval *out) {
    (void)args;
    return split(r, self, v, false, out);
}
static qn_status string_rsplit(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                               const qni_jargs *args, qni_jval *out) {
    (void)args;
    return split(r, self, v, true, out);
}

static qn_status string_splitlines(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                                   const qni_jargs *args, qni_jval *out) {
    const qni_jstring *s = self->as.s;
    bool keep = given(&v[0]) && qni_jinja_truth(&v[0]);
    size_t begin = 0;
    (void)args;
    QN_TRY(qni_jinja_list(r, QNI_J_LIST, 0, out));
    for (size_t at = 0; at < s->bytes;) {
        uint32_t c;
        int n = qn_utf8_next((const unsigned char *)s->text + at, (int64_t)(s->bytes - at), &c);
        size_t end = at;
        at += n > 0 ? (size_t)n : 1;
        bool ends = n > 0 && ((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
                              c == 0x2028 || c == 0x2029);
        if (!ends) continue;
        if (c == '\r' && at < s->bytes && s->text[at] == '\n') at++;
        QN_TRY(add_part(r, out->as.list, s, begin, keep ? at : end));
        begin = at;
    }
    return begin < s->bytes ? add_part(r, out->as.list, s, begin, s->bytes) : QN_OK;
}

static qn_status string_join(qni_jrun *r, const qni_jval *self, const qni_jval *v,
                             const qni_jargs *args, qni_jval *out) {
    const qni_jlist *items;
    const qni_jstring *s;
    (void)args;
    QN_TRY(qni_jinja_walk(r, &v[0], &items));
    for (int64_t i = 0; i < items->count; i++) QN_TRY(need_string(r, &items->items[i], &s));
    const qni_jval list = {.kind = QNI_J_LIST,
                           .as.list = &(qni_jlist){items->items, items->count, 0}};
    const qni_jargs by_place = {self, (const qni_jstring *const[]){NULL}, 1};
    return qni_jinja_apply(r, qni_jinja_find_filter("join", 4), &list, &by_place, out);
}

const qni_jfunction *qni_jinja_find_string_method(const char *name, size_t bytes) {
    static const qni_jfunction methods[] = {
        {"capitalize", string_capitalize, 0, {NULL}},
        {"count", string_count, 1, {"sub"}},
        {"endswith", string_endswith, 1, {"suffix"}},
        {"find", string_find, 1, {"sub"}},
        {"index", string_index, 1, {"sub"}},
        {"isalnum", string_isalnum, 0, {NULL}},
        {"isalpha", string_isalpha, 0, {NULL}},
        {"isdigit", string_isdigit, 0, {NULL}},
        {"islower", string_islower, 0, {NULL}},
        {"isspace", string_isspace, 0, {NULL}},
        {"isupper", string_isupper, 0, {NULL}},
        {"join", string_join, 1, {"iterable"}},
        {"lower", string_lower, 0, {NULL}},
        {"lstrip", string_lstrip, 0, {"chars"}},
        {"removeprefix", string_removeprefix, 1, {"prefix"}},
        {"removesuffix", string_removesuffix, 1, {"suffix"}},
        {"replace", string_replace, 2, {"old", "new", "count"}},
        {"rfind", string_rfind, 1, {"sub"}},
        {"rsplit", string_rsplit, 0, {"sep", "maxsplit"}},
        {"rstrip", string_rstrip, 0, {"chars"}},
        {"split", string_split, 0, {"sep", "maxsplit"}},
        {"splitlines", string_splitlines, 0, {"keepends"}},
        {"startswith", string_startswith, 1, {"prefix"}},
        {"strip", string_strip, 0, {"chars"}},
        {"title", string_title, 0, {NULL}},
        {"upper", string_upper, 0, {NULL}},
    };
    return qni_jinja_find_in(methods, sizeof methods / sizeof *methods, name, bytes);
}
