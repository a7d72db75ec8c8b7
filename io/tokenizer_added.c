/* tokenizer_added.c — added tokens: their list, and cutting them out of a text.
 *
 * The search is leftmost-longest over texts sorted by their bytes: each further byte narrows the
 * range of candidates by bisection, so it costs the same for one token and for a hundred thousand.
 */
#include "io/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

struct qni_matcher {
    const qni_added **token; /* sorted by the text that is looked for */
    qni_entry *text;         /* the same order */
    int64_t n;
    int64_t first[257]; /* by the first byte: where its candidates begin */
};

/* ---- the list -------------------------------------------------------------------------------- */

qn_status qni_add_token(qn_tokenizer *t, const qni_added *a) {
    int32_t known = qni_table_find(&t->table, a->text, a->bytes);
    if (known >= 0 && known != a->id)
        return qn_fail(QN_ERR_FORMAT, "added token \"%.64s\": found id %d, the model has it as %d",
                       a->text, a->id, known);
    if (known < 0) {
        QN_TRY(qni_table_set(&t->table, a->id, a->text, a->bytes));
        t->table.entry[a->id].added = true;
    }
    for (int64_t i = 0; known >= 0 && i < t->n_added; i++) {
        if (t->added[i].id != a->id) continue;
        const char *text = t->added[i].text;
        t->added[i] = *a;
        t->added[i].text = text;
        return QN_OK;
    }
    if (t->n_added == t->added_capacity) {
        int64_t capacity = t->added_capacity ? 2 * t->added_capacity : 64;
        qni_added *grown = qn_setup_alloc(t->arena, (size_t)capacity * sizeof *grown);
        if (!grown) return QN_ERR_OOM;
        if (t->n_added > 0) memcpy(grown, t->added, (size_t)t->n_added * sizeof *grown);
        t->added = grown;
        t->added_capacity = capacity;
    }
    qni_added *copy = &t->added[t->n_added++];
    *copy = *a;
    copy->text = t->table.entry[a->id].text;
    return QN_OK;
}

/* ---- the search ------------------------------------------------------------------------------ */

typedef struct candidate {
    const qni_added *token;
    qni_entry text;
} candidate;

static int by_text(const void *a, const void *b) {
    const qni_entry *x = &((const candidate *)a)->text, *y = &((const candidate *)b)->text;
    int32_t n = x->bytes < y->bytes ? x->bytes : y->bytes;
    int order = memcmp(x->text, y->text, (size_t)n);
    return order ? order : (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The text that is looked for: normalised for tokens that want that, and then shown like that. */
static qn_status text_of(qn_tokenizer *t, qni_added *a, qni_entry *out) {
    *out = (qni_entry){a->text, a->bytes, true};
    if (!a->normalized || t->n_normalizers == 0) return QN_OK;
    qni_string buffer[2] = {0};
    qni_piece piece = {.text = a->text, .bytes = a->bytes, .first = true};
    qn_status status = qni_normalize(t, buffer, &piece);
    char *copy = status == QN_OK ? qn_setup_alloc(t->arena, (size_t)piece.bytes + 1) : NULL;
    if (copy) {
        if (piece.bytes > 0) memcpy(copy, piece.text, (size_t)piece.bytes);
        *out = (qni_entry){copy, (int32_t)piece.bytes, true};
        a->shown = copy;
        a->shown_bytes = piece.bytes;
    } else if (status == QN_OK) {
        status = QN_ERR_OOM;
    }
    for (int i = 0; i < 2; i++) qni_string_free(&buffer[i]);
    return status;
}

static qn_status make_matcher(qn_tokenizer *t, bool normalized, struct qni_matcher **out) {
    int64_t n = 0;
    for (int64_t i = 0; i < t->n_added; i++) n += t->added[i].normalized == normalized;
    if (n == 0) return QN_OK;
    struct qni_matcher *m = qn_setup_alloc(t->arena, sizeof *m);
    candidate *list = m ? qn_setup_alloc(t->arena, (size_t)n * sizeof *list) : NULL;
    if (!list) return QN_ERR_OOM;
    for (int64_t i = 0; i < t->n_added; i++) {
        qni_added *a = &t->added[i];
        if (a->normalized != normalized) continue;
        list[m->n].token = a;
        QN_TRY(text_of(t, a, &list[m->n].text));
        m->n += list[m->n].text.bytes > 0; /* what normalises to nothing is never found */
    }
    qsort(list, (size_t)m->n, sizeof *list, by_text);
    m->token = qn_setup_alloc(t->arena, (size_t)n * sizeof *m->token);
    m->text = m->token ? qn_setup_alloc(t->arena, (size_t)n * sizeof *m->text) : NULL;
    if (!m->text) return QN_ERR_OOM;
    for (int64_t i = 0; i < m->n; i++) {
        m->token[i] = list[i].token;
        m->text[i] = list[i].text;
        m->first[(unsigned char)list[i].text.text[0] + 1] = i + 1;
    }
    for (int i = 1; i < 257; i++)
        if (m->first[i] < m->first[i - 1]) m->first[i] = m->first[i - 1];
    *out = m;
    return QN_OK;
}

qn_status qni_make_matchers(qn_tokenizer *t) {
    QN_TRY(make_matcher(t, false, &t->raw));
    return make_matcher(t, true, &t->normal);
}

/* The first of low..high whose byte at `depth` is at least c. */
static int64_t bisect(const qni_entry *text, int64_t low, int64_t high, int32_t depth, int c) {
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        const qni_entry *e = &text[middle];
        if (e->bytes <= depth || (unsigned char)e->text[depth] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest text that stands at `at`: its index, or -1. */
static int64_t longest_at(const struct qni_matcher *m, const char *text, int64_t bytes,
                          int64_t at) {
    int first = (unsigned char)text[at];
    int64_t low = m->first[first], high = m->first[first + 1], found = -1;
    for (int32_t depth = 1; low < high; depth++) {
        if (m->text[low].bytes == depth) found = low;
        if (at + depth >= bytes) break;
        int c = (unsigned char)text[at + depth];
        low = bisect(m->text, low, high, depth, c);
        high = bisect(m->text, low, high, depth, c + 1);
    }
    return found;
}

static bool has_word_beside(const char *text, int64_t bytes, int64_t begin, int64_t end) {
    int n;
    return (begin > 0 && qni_is_word(qni_char_before(text, begin, &n))) ||
           (end < bytes && qni_is_word(qni_char_at(text, end, &n)));
}

bool qni_match_next(const struct qni_matcher *m, const qni_piece *p, bool parse_special,
                    int64_t *search, int64_t from, qni_match *out) {
    if (!m) return false;
    while (*search < p->bytes) {
        int64_t at = *search, i = -1;
        for (; at < p->bytes; at++) {
            int first = (unsigned char)p->text[at];
            if (m->first[first] == m->first[first + 1]) continue;
            if ((i = longest_at(m, p->text, p->bytes, at)) >= 0) break;
        }
        if (i < 0) break;
        const qni_added *a = m->token[i];
        int64_t begin = at, end = at + m->text[i].bytes;
        int n;
        *search = end;
        if (a->special && !parse_special) continue;
        if (a->single_word && has_word_beside(p->text, p->bytes, begin, end)) continue;
        if (a->lstrip)
            while (begin > from && qni_is_space(qni_char_before(p->text, begin, &n))) begin -= n;
        if (a->rstrip)
            while (end < p->bytes && qni_is_space(qni_char_at(p->text, end, &n))) end += n;
        *out = (qni_match){.id = a->id, .begin = begin, .end = end};
        return true;
    }
    *search = p->bytes;
    return false;
}
