/* fuzz_tokens.c — libFuzzer harness: the token file reader over arbitrary bytes, with each way a
 * configuration may describe the file.
 *
 * Built and run by `tests/test_fuzz.sh tokens`.
 */
#include "io/data.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size);

/* Touches everything an accepted file offers; aborts where the reader's promise is broken. */
static void walk(const qn_tokens *t, const unsigned char *bytes, size_t size) {
    int64_t largest = 0, counted = 0, before = -1;
    for (int64_t i = 0; i < t->count; i++) {
        int64_t id = qn_tokens_get(t, i);
        largest = id > largest ? id : largest;
        counted += qn_tokens_counts(t, i);
    }
    for (int64_t i = 0; i < t->n_documents; i++) {
        int64_t start = qn_tokens_document(t, i);
        if (start <= before || start >= t->count) abort();
        before = start;
    }
    if (t->count < 1 || counted > t->count || largest < 0) abort();
    if (t->vocab_size < 1 || t->vocab_size > INT32_MAX) abort();
    if (t->data < bytes || t->data + t->count * t->width > bytes + size) abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size) {
    static const int64_t vocab[] = {0, 77, 60000};
    for (int raw = QN_RAW_NONE; raw <= QN_RAW_U32; raw++)
        for (int i = 0; i < 3; i++) {
            qn_tokens t;
            qn_status s = qn_tokens_parse(bytes, (int64_t)size, (qn_raw_tokens)raw, vocab[i], &t);
            if (s == QN_OK) walk(&t, bytes, size);
        }
    return 0;
}
