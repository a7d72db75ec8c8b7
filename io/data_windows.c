/* data_windows.c — the language-model source over text and token files: windows of block_size
 * tokens.
 *
 * Train: epoch e starts at a phase of its own and takes the n windows that follow in a keyed random
 * order. n is the same for every phase, and the phases go from 0 to the one whose last window ends
 * with the last token (fewer than 2 * block_size), so that over the epochs every token is met, in
 * every place of a window. Val and test: consecutive windows from the first token on.
 */
#include "io/data_parts.h"

#include <string.h>

typedef struct windows {
    qni_head head;
    int64_t block, vocab;
    int64_t phases; /* train: number of legal phases */
    int64_t n[QN_SPLIT_COUNT];
    uint64_t order_key, phase_key;
    qni_stream split[QN_SPLIT_COUNT];
    qni_files files;
    qni_span separator;
    unsigned char *separator_bytes;
} windows;

/* ---- fetch ----------------------------------------------------------------------------------- */

static int64_t train_start(const windows *w, int64_t position) {
    int64_t epoch, index = qni_epoch_index(w->order_key, w->n[QN_SPLIT_TRAIN], position, &epoch);
    uint64_t draw = qn_random_u32(w->phase_key, (uint64_t)epoch, 0);
    return (int64_t)(draw * (uint64_t)w->phases >> 32) + index * w->block;
}

/* One window from `start` on; what lies past the stream's end is padding. */
static qn_status read_window(const windows *w, const qni_stream *s, int64_t start, int32_t *tokens,
                             int32_t *targets, int64_t *labels) {
    const int64_t t = w->block;
    int64_t left = s->tokens - start;
    int64_t n_tokens = left < 0 ? 0 : left < t ? left : t;
    int64_t n_targets = left < 1 ? 0 : left - 1 < t ? left - 1 : t;
    QN_TRY(qni_stream_read(s, start, n_tokens, w->vocab, false, tokens));
    memset(tokens + n_tokens, 0, (size_t)(t - n_tokens) * sizeof *tokens);
    if (s->masked || n_tokens == 0) {
        QN_TRY(qni_stream_read(s, start + 1, n_targets, w->vocab, true, targets));
    } else { /* all but one are there already */
        memcpy(targets, tokens + 1, (size_t)(n_tokens - 1) * sizeof *targets);
        QN_TRY(qni_stream_read(s, start + n_tokens, n_targets - (n_tokens - 1), w->vocab, true,
                               targets + n_tokens - 1));
    }
    for (int64_t i = n_targets; i < t; i++) targets[i] = QN_IGNORE_INDEX;
    for (int64_t i = 0; i < n_targets; i++) *labels += targets[i] != QN_IGNORE_INDEX;
    return QN_OK;
}

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    const windows *w = self;
    const qni_stream *s = &w->split[split];
    int32_t *tokens = dst[0], *targets = dst[1];
    int64_t valid = 0;
    if (w->n[split] == 0)
        return qn_fail(QN_ERR_DATA, "data: there is no %s split", qni_split_name[split]);
    for (int64_t i = 0; i < count; i++) {
        int64_t p = position + i, start = p < w->n[split] ? p * w->block : s->tokens;
        if (split == QN_SPLIT_TRAIN) start = train_start(w, p);
        QN_TRY(read_window(w, s, start, tokens + i * w->block, targets + i * w->block, &valid));
    }
    *labels = valid;
    return QN_OK;
}

static void windows_free(void *self) {
    windows *w = self;
    for (int s = 0; s < QN_SPLIT_COUNT; s++) qni_stream_free(&w->split[s]);
    qni_files_close(&w->files);
    qn_free(w->separator_bytes);
    qn_free(w->head.text);
    qn_free(w);
}

/* ---- token files as documents ---------------------------------------------------------------- */

static qn_status token_documents(const qn_data_options *o, windows *w, qni_span *document) {
    for (int64_t i = 0; i < w->files.n; i++) {
        const qni_file *f = &w->files.file[i];
        qn_tokens t;
        qn_status status = qn_tokens_parse(f->view.bytes, f->size, o->raw, o->vocab_size, &t);
        if (status != QN_OK) return qn_fail_prefix(status, "%s", f->path);
        if (i > 0 && t.vocab_size != w->vocab)
            return qn_fail(QN_ERR_DATA,
                           "%s: found a vocabulary of %lld, expected the first file's %lld",
                           f->path, (long long)t.vocab_size, (long long)w->vocab);
        w->vocab = t.vocab_size;
        document[i] = (qni_span){
            .data = t.data, .width = t.width, .count = t.count, .mask = t.mask, .file = f};
        QN_TRY(qni_say(&w->head, "  %s: %s, %lld bytes, %lld tokens%s\n", f->relative, t.format,
                       (long long)f->size, (long long)t.count, t.mask ? ", masked" : ""));
    }
    return QN_OK;
}

static qn_status list_text_files(windows *w) {
    enum { LISTED = 8 };
    int64_t n = w->files.n, bytes = 0;
    for (int64_t i = 0; i < n; i++) bytes += w->files.file[i].size;
    QN_TRY(qni_say(&w->head, "text: %lld file%s, %lld bytes", (long long)n, n == 1 ? "" : "s",
                   (long long)bytes));
    if (w->files.skipped)
        QN_TRY(qni_say(&w->head, "; %lld empty files left out", (long long)w->files.skipped));
    QN_TRY(qni_say(&w->head, "\n"));
    for (int64_t i = 0; i < n && i < LISTED; i++)
        QN_TRY(qni_say(&w->head, "  %s: %lld bytes\n", w->files.file[i].relative,
                       (long long)w->files.file[i].size));
    return n > LISTED ? qni_say(&w->head, "  and %lld more\n", (long long)(n - LISTED)) : QN_OK;
}

/* ---- open ------------------------------------------------------------------------------------ */

static qn_status count_windows(windows *w) {
    const int64_t t = w->block, n = w->split[QN_SPLIT_TRAIN].tokens;
    if (n < t + 1)
        return qn_fail(
            QN_ERR_DATA,
            "data: found %lld tokens in the train split, expected at least block_size + 1 "
            "= %lld",
            (long long)n, (long long)t + 1);
    int64_t windows_of_any_phase = n / t - 1;
    w->n[QN_SPLIT_TRAIN] = windows_of_any_phase > 1 ? windows_of_any_phase : 1;
    w->phases = n - w->n[QN_SPLIT_TRAIN] * t; /* the last one ends with the last token */
    for (int s = QN_SPLIT_VAL; s < QN_SPLIT_COUNT; s++) {
        int64_t tokens = w->split[s].tokens;
        if (tokens == 1)
            return qn_fail(QN_ERR_DATA,
                           "data: found one token in the %s split, expected at least two",
                           qni_split_name[s]);
        w->n[s] = tokens ? (tokens - 1 + t - 1) / t : 0;
    }
    return QN_OK;
}

static qn_status describe(const qn_data_options *o, const qn_vocab *vocab, windows *w) {
    static const char *const division[] = {"in order", "random pieces", "whole files"};
    const char *unit = !vocab                                      ? "tokens"
                       : qn_vocab_get_kind(vocab) == QN_VOCAB_BYTE ? "bytes"
                                                                   : "characters";
    QN_TRY(qni_say(&w->head, "vocabulary: %lld %s\n", (long long)w->vocab, unit));
    for (int s = 0; s < QN_SPLIT_COUNT; s++) {
        if (w->n[s] == 0) continue;
        bool taken = (s == QN_SPLIT_VAL && o->val_fraction > 0) ||
                     (s == QN_SPLIT_TEST && o->test_fraction > 0);
        QN_TRY(qni_say(&w->head, "%s: %lld tokens, %lld windows of %lld%s%s%s\n", qni_split_name[s],
                       (long long)w->split[s].tokens, (long long)w->n[s], (long long)w->block,
                       s == QN_SPLIT_TRAIN ? " an epoch" : "", taken ? ", " : "",
                       taken ? division[o->division] : ""));
    }
    return QN_OK;
}

static qn_status identify(const qn_data_options *o, const windows *w, const qn_vocab *vocab,
                          uint64_t *out) {
    XXH3_state_t state;
    qni_identity_begin(&state, o);
    qni_identity_text(&state, "vocab %lld\n", (long long)w->vocab);
    if (vocab) {
        char *json;
        QN_TRY(qn_vocab_save(vocab, &json));
        XXH3_64bits_update(&state, json, strlen(json));
        qn_free(json);
    }
    if (o->tokenizer) qni_identity_text(&state, "%s\n", qn_tokenizer_identity(o->tokenizer));
    if (w->separator.data) {
        size_t bytes = (size_t)(w->separator.count * w->separator.width);
        XXH3_64bits_update(&state, w->separator.data, bytes);
    }
    for (int64_t i = 0; i < w->files.n; i++) qni_identity_file(&state, &w->files.file[i]);
    *out = XXH3_64bits_digest(&state);
    return QN_OK;
}

static void make_source(windows *w, qn_source *out) {
    *out = (qn_source){.self = w, .n_fields = 2, .classes = w->vocab};
    out->field[0] = (qn_field){"tokens", QN_I32, 1, {w->block}};
    out->field[1] = (qn_field){"targets", QN_I32, 1, {w->block}};
    memcpy(out->n, w->n, sizeof out->n);
    out->fetch = fetch;
    out->free = windows_free;
}

qn_status qni_window_source(const qn_data_options *o, qn_source *out, qn_vocab **vocab) {
    qn_status status = QN_OK;
    qni_span *document = NULL;
    uint64_t identity = 0;
    windows *w = qn_alloc(sizeof *w, "data source");
    if (!w) return QN_ERR_OOM;
    w->block = o->block_size;
    w->order_key = qn_rng_key(o->seed, "data", "epoch");
    w->phase_key = qn_rng_key(o->seed, "data", "phase");
    for (int s = 0; s < QN_SPLIT_COUNT; s++) QN_TRY_GOTO(qni_files_open(o, (qn_split)s, &w->files));
    QN_TRY_GOTO(qni_files_check_leak(&w->files));
    document = qn_alloc((size_t)w->files.n * sizeof *document, "documents");
    if (!document) {
        status = QN_ERR_OOM;
        goto done;
    }
    if (o->type == QN_DATA_TEXT) {
        QN_TRY_GOTO(list_text_files(w));
        QN_TRY_GOTO(
            qni_text_documents(o, &w->files, document, &w->separator, &w->separator_bytes, vocab));
        w->vocab = o->tokenizer ? qn_tokenizer_size(o->tokenizer) : qn_vocab_size(*vocab);
    } else {
        QN_TRY_GOTO(qni_say(&w->head, "tokens: %lld file%s\n", (long long)w->files.n,
                            w->files.n == 1 ? "" : "s"));
        QN_TRY_GOTO(token_documents(o, w, document));
    }
    QN_TRY_GOTO(
        qni_divide(o, &w->files, document, w->separator.data ? &w->separator : NULL, w->split));
    QN_TRY_GOTO(count_windows(w));
    QN_TRY_GOTO(describe(o, *vocab, w));
    QN_TRY_GOTO(identify(o, w, *vocab, &identity));
    make_source(w, out);
    out->identity = identity;
done:
    qn_free(document);
    if (status != QN_OK) {
        windows_free(w);
        qn_vocab_free(*vocab);
        *vocab = NULL;
    }
    return status;
}
