/* fuzz_safetensors.c — libFuzzer harness: the safetensors reader over arbitrary bytes.
 *
 * Whatever is accepted must cover the bytes after its header, is converted element by element,
 * found by name and inspected. Built and run by
 * `tests/test_fuzz.sh safetensors`.
 */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size);

static void require(bool true_) {
    if (!true_) abort();
}

static void walk(const qn_safetensor *t, const unsigned char *bytes, size_t size) {
    char text[160];
    double out[8];
    require(t->data >= bytes && t->data + t->bytes <= bytes + size && t->count >= 0);
    for (int64_t first = 0; first < t->count; first += 8) {
        int64_t n = t->count - first < 8 ? t->count - first : 8;
        qn_status s = qn_safetensor_read(t, first, n, QN_F64, out);
        require(s == QN_OK || s == QN_ERR_DTYPE);
        if (s != QN_OK) break;
        require(qn_safetensor_read(t, first, n, QN_BF16, out) == QN_OK);
    }
    require(qn_safetensor_read(t, t->count, 1, QN_F32, out) != QN_OK);
    require(*qn_safetensor_describe(t, text, sizeof text));
}

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size) {
    qn_safetensors *s;
    if (qn_safetensors_parse("input", bytes, (int64_t)size, &s) != QN_OK) return 0;
    int64_t covered = 0;
    for (int64_t i = 0; i < qn_safetensors_count(s); i++) {
        const qn_safetensor *t = qn_safetensors_get(s, i);
        walk(t, bytes, size);
        require(qn_safetensors_find(s, t->name) == t);
        require(i == 0 || strcmp(qn_safetensors_get(s, i - 1)->name, t->name) < 0);
        covered += t->bytes;
    }
    require(covered <= (int64_t)size - 8);
    char *text;
    require(qn_safetensors_inspect(s, size % 2, &text) == QN_OK);
    qn_free(text);
    (void)qn_safetensors_metadata(s, "format");
    qn_safetensors_close(s);
    return 0;
}
