/* fuzz_sentencepiece.c — libFuzzer harness: SentencePiece models of arbitrary bytes; what is
 * accepted encodes and decodes a text of many kinds of characters.
 *
 * Built and run by `tests/test_fuzz.sh sentencepiece`.
 */
#include "io/tokenizer_sentencepiece.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size);

static const char text[] =
    "the  way <x>\t\xEF\xBD\x81\xEF\xAC\x81 \xE3\x8E\x8F e\xCC\x81\xE2\x96\x81"
    "\xE6\x97\xA5\xE6\x9C\xAC \xF0\x9F\x98\x80 aaaaaaaaaaaa...... 123 ";

/* Tokens cover the normalised text, and their ids are tokens. */
static void check_tokens(const qn_tokenizer *t, const qni_piece *piece, const qni_tokens *tokens) {
    int64_t covered = 0;
    for (int64_t i = 0; i < tokens->n; i++) {
        if (tokens->token[i].id < 0 || tokens->token[i].id >= t->model_size) abort();
        covered += tokens->token[i].bytes;
    }
    if (covered != piece->bytes) abort();
}

static void use(const qn_tokenizer *t) {
    qni_string normal = {0};
    qni_piece piece = {.text = text, .bytes = (int64_t)sizeof text - 1, .first = true};
    qni_memory memory = {0};
    qni_tokens tokens = {0};
    qn_text out = {0};
    bool same = false;
    if (t->normalizer[0]->apply(t->normalizer[0], &piece, &normal, &same) != QN_OK) goto done;
    if (!same) piece = qni_piece_of(&normal);
    if (piece.bytes == 0) goto done;
    if (!qn_utf8_valid(piece.text, (size_t)piece.bytes)) abort();
    if (t->model->encode(t->model, &memory, piece.text, piece.bytes, &tokens) != QN_OK) goto done;
    check_tokens(t, &piece, &tokens);
    qn_token_stream *stream = NULL;
    if (qn_token_stream_create(t, false, &stream) != QN_OK) goto done;
    for (int64_t i = 0; i < tokens.n; i++)
        if (qn_token_stream_push(stream, tokens.token[i].id, &out) != QN_OK) abort();
    if (qn_token_stream_finish(stream, &out) != QN_OK) abort();
    if (out.length > 0 && !qn_utf8_valid(out.data, out.length)) abort();
    qn_token_stream_free(stream);
done:
    qn_text_free(&out);
    qni_string_free(&normal);
    qn_free(memory.data);
    qn_free(tokens.token);
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size) {
    qn_tokenizer t = {0};
    qni_bytes file = {"tokenizer.model", (const char *)bytes, (int64_t)size};
    if (qn_setup_create("fuzz", &t.arena) != QN_OK) return 0;
    if (qni_read_sentencepiece(&t, &file, false) == QN_OK) {
        t.mark = qn_setup_alloc(t.arena, (size_t)t.table.size); /* nothing is special */
        if (t.mark) use(&t);
    }
    qn_setup_free(t.arena);
    return 0;
}
