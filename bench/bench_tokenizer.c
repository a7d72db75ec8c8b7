/* bench_tokenizer.c — a tokenizer behind a pipe, for the scripts that compare it with others and
 * time both: bench_tokenizer PATH [special]
 *
 * A request is int32 count and so many bytes of text, or int32 -count and so many int32 ids. The
 * answer is int64 nanoseconds of processor time, int32 count and the ids or the bytes; count is -1
 * for an error, whose message is on stderr. `special` reads special tokens in texts and puts those
 * of the model around.
 */
#include "io/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void answer(int64_t took, qn_status s, const void *data, int64_t n, size_t width) {
    int32_t count = s == QN_OK ? (int32_t)n : -1;
    if (s != QN_OK) fprintf(stderr, "bench_tokenizer: %s\n", qn_error_message());
    fwrite(&took, sizeof took, 1, stdout);
    fwrite(&count, sizeof count, 1, stdout);
    if (count > 0) fwrite(data, width, (size_t)count, stdout);
    fflush(stdout);
}

/* One request; false at the end of the input. */
static bool serve(const qn_tokenizer *t, bool special) {
    int32_t count;
    if (fread(&count, sizeof count, 1, stdin) != 1) return false;
    size_t n = count < 0 ? (size_t) - (int64_t)count : (size_t)count, width = count < 0 ? 4 : 1;
    void *data = malloc(n * width + 1);
    if (!data || fread(data, width, n, stdin) != n) {
        free(data);
        return false;
    }
    qn_ids ids = {0};
    qn_text text = {0};
    int64_t start = now();
    if (count < 0) {
        qn_status s = qn_tokenizer_decode(t, data, (int64_t)n, special, &text);
        answer(now() - start, s, text.data, (int64_t)text.length, 1);
    } else {
        const qn_encode_options o = {.add_special = special, .parse_special = special};
        qn_status s = qn_tokenizer_encode(t, data, (int64_t)n, &o, &ids);
        answer(now() - start, s, ids.id, ids.n, sizeof *ids.id);
    }
    qn_ids_free(&ids);
    qn_text_free(&text);
    free(data);
    return true;
}

int main(int argc, char **argv) {
    qn_tokenizer *t = NULL;
    if (argc < 2) {
        fprintf(stderr, "usage: bench_tokenizer PATH [special]\n");
        return 2;
    }
    int64_t start = now();
    qn_status s = qn_tokenizer_open(argv[1], &t);
    if (s != QN_OK) {
        fprintf(stderr, "bench_tokenizer: %s\n", qn_error_message());
        return qn_status_exit_code(s);
    }
    fprintf(stderr, "bench_tokenizer: opened in %.0f ms\n", (double)(now() - start) / 1e6);
    while (serve(t, argc > 2)) {}
    qn_tokenizer_free(t);
    return 0;
}
