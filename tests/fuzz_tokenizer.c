/* fuzz_tokenizer.c — libFuzzer harness: the readers of tokenizer files over arbitrary bytes, and
 * the tokenizers they accept over arbitrary text.
 *
 * An input is a letter and three parts divided by NUL: j for tokenizer.json, tokenizer_config.json
 * (absent if empty) and a text; m for vocab.json, merges.txt and a text; r for a rank file; l for
 * what a checkpoint keeps. Built and run by `tests/test_fuzz.sh tokenizer`.
 */
#include "io/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size);

typedef struct part {
    const char *data;
    int64_t size;
} part;

/* The bytes up to the next NUL; *at moves behind it. */
static part next_part(const char *data, int64_t size, int64_t *at) {
    const char *from = data + *at, *end = memchr(from, '\0', (size_t)(size - *at));
    int64_t n = end ? end - from : size - *at;
    *at += end ? n + 1 : n;
    return (part){from, n};
}

/* What an accepted tokenizer promises, on one text. */
static void use(const qn_tokenizer *t, part text) {
    qn_ids ids = {0}, placed = {0};
    qn_text whole = {0}, stream = {0};
    qn_token_stream *s = NULL;
    qn_encode_options o = {.parse_special = text.size % 2 == 0};
    if (qn_tokenizer_encode(t, text.data, text.size, &o, &ids) == QN_OK) {
        o.offsets = true;
        if (qn_tokenizer_encode(t, text.data, text.size, &o, &placed) != QN_OK) abort();
        if (placed.n != ids.n) abort();
        for (int64_t i = 0; i < ids.n; i++) {
            if (ids.id[i] < 0 || ids.id[i] >= qn_tokenizer_size(t)) abort();
            if (placed.id[i] != ids.id[i]) abort();
            if (placed.start[i] < 0 || placed.start[i] > text.size) abort();
        }
        if (qn_tokenizer_decode(t, ids.id, ids.n, false, &whole) != QN_OK) abort();
        if (qn_token_stream_create(t, false, &s) != QN_OK) abort();
        for (int64_t i = 0; i < ids.n; i++)
            if (qn_token_stream_push(s, ids.id[i], &stream) != QN_OK) abort();
        if (qn_token_stream_finish(s, &stream) != QN_OK) abort();
        if (whole.length != stream.length ||
            (whole.length && memcmp(whole.data, stream.data, whole.length) != 0))
            abort();
    }
    qn_token_stream_free(s);
    qn_text_free(&whole);
    qn_text_free(&stream);
    qn_ids_free(&ids);
    qn_ids_free(&placed);
}

static char *copy(part p) { /* terminated, as files are when they are read */
    char *c = calloc(1, (size_t)p.size + 1);
    if (!c) abort();
    memcpy(c, p.data, (size_t)p.size);
    return c;
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size) {
    if (size < 1) return 0;
    int64_t at = 0, n = (int64_t)size - 1;
    const char *data = (const char *)bytes + 1;
    part a = next_part(data, n, &at), b = next_part(data, n, &at), text = next_part(data, n, &at);
    char *first = copy(a), *second = copy(b);
    qn_tokenizer *t = NULL;
    qn_status status = QN_ERR_FORMAT;
    qni_file_set f = {.n = b.size > 0 ? 2 : 1};
    const char kind = (char)bytes[0];
    const char *names[2] = {kind == 'r' ? "tokenizer.model" : "tokenizer.json",
                            "tokenizer_config.json"};
    if (kind == 'm') {
        names[0] = "vocab.json";
        names[1] = "merges.txt";
        f.n = 2;
    }
    f.file[0] = (qni_bytes){names[0], first, a.size};
    f.file[1] = (qni_bytes){names[1], second, b.size};
    if (kind == 'l')
        status = qn_tokenizer_load(first, &t);
    else
        status = qni_open_files(&f, &t);
    if (status == QN_OK) use(t, text);
    qn_tokenizer_free(t);
    free(first);
    free(second);
    return 0;
}
