/* fuzz_idx.c — libFuzzer harness: the IDX reader over arbitrary bytes.
 *
 * Built and run by `tests/test_fuzz.sh idx`.
 */
#include "io/data.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size) {
    qn_idx x;
    if (qn_idx_parse(bytes, (int64_t)size, &x) != QN_OK) return 0;
    int64_t elements = 1;
    for (int i = 0; i < x.ndim; i++) elements *= x.shape[i];
    double sum = 0;
    for (int64_t i = 0; i < elements; i++) sum += qn_idx_get(&x, i);
    /* What was accepted is exactly the file, and integers are finite. */
    if (elements != x.items * x.per_item || x.data + elements * x.width != bytes + size) abort();
    if (!qn_idx_is_float(&x) && !(sum - sum == 0)) abort();
    return 0;
}
