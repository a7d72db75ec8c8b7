/* tokenizer_words.c — cutting a text before each word, where U+2581 stands for the space between.
 *
 * Models without a splitter merge a whole text. If none of their tokens has a U+2581 after another
 * character, nothing is ever joined across such a place: cut there, the ids are the same, and the
 * pieces are short and come again.
 */
#include "io/tokenizer_bpe.h"

#include <string.h>

int64_t qni_word_end(const char *text, int64_t at, int64_t bytes) {
    const int64_t n = QNI_SPACE_MARK_BYTES;
    for (int64_t from = at; from < bytes;) {
        const char *mark = memmem(text + from, (size_t)(bytes - from), QNI_SPACE_MARK, (size_t)n);
        if (!mark) break;
        from = mark - text;
        bool after_mark = from >= at + n && memcmp(mark - n, QNI_SPACE_MARK, (size_t)n) == 0;
        if (from > at && !after_mark) return from;
        from += n;
    }
    return bytes;
}

static qn_status split_words(const qni_splitter *self, struct qni_walk *w, int depth,
                             const qni_piece *piece) {
    (void)self;
    for (int64_t at = 0, next; at < piece->bytes; at = next) {
        next = qni_word_end(piece->text, at, piece->bytes);
        qni_piece part = qni_piece_part(piece, at, next);
        QN_TRY(qni_walk_next(w, depth, &part));
    }
    return QN_OK;
}

static const qni_splitter word_splitter = {split_words};

qn_status qni_add_word_splitter(qn_tokenizer *t) { return qni_add_splitter(t, &word_splitter); }

bool qni_has_words(const qni_table *t) {
    if (qni_table_find_model(t, QNI_SPACE_MARK, QNI_SPACE_MARK_BYTES) < 0) return false;
    for (int64_t i = 0; i < t->size; i++) {
        const qni_entry *e = &t->entry[i];
        if (e->text && !e->added && qni_word_end(e->text, 0, e->bytes) < e->bytes) return false;
    }
    return true;
}
