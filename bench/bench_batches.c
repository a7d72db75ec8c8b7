/* bench_batches.c — writes the batches a configuration trains on, so that another program can train
 * on the same ones: bench_batches CONFIG STEPS OUT [key=value ...]
 *
 * OUT: int32 header {steps, samples per step, block size, vocabulary, validation windows}, then for
 * each step the tokens and the targets of its samples, then the same of the whole validation split.
 */
#include "io/build.h"

#include <stdio.h>
#include <stdlib.h>

static qn_status dump(qn_build *b, qn_split split, int64_t position, int64_t count, FILE *out) {
    int64_t n = count * b->source.field[0].shape[0], labels;
    int32_t *tokens = malloc((size_t)n * sizeof *tokens),
            *targets = malloc((size_t)n * sizeof *targets);
    void *dst[] = {tokens, targets};
    qn_status s = tokens && targets
                      ? b->source.fetch(b->source.self, split, position, count, dst, &labels)
                      : QN_ERR_OOM;
    if (s == QN_OK && (fwrite(tokens, 4, (size_t)n, out) != (size_t)n ||
                       fwrite(targets, 4, (size_t)n, out) != (size_t)n)) {
        s = qn_fail(QN_ERR_IO, "bench_batches: the output could not be written");
    }
    free(tokens);
    free(targets);
    return s;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: bench_batches CONFIG STEPS OUT [key=value ...]\n");
        return 2;
    }
    char *diagnostics = NULL;
    qn_config *c = NULL;
    qn_build b = {0};
    FILE *out = fopen(argv[3], "wb");
    qn_status s =
        qn_config_load(argv[1], (const char *const *)argv + 4, argc - 4, &c, &diagnostics);
    if (s == QN_OK) s = qn_build_data(&b, c);
    if (s == QN_OK && !out) s = qn_fail(QN_ERR_IO, "%s cannot be opened", argv[3]);
    if (s == QN_OK) {
        int64_t steps = atoll(argv[2]), samples = qn_config_int(c, "train.global_batch_size");
        int32_t head[] = {(int32_t)steps, (int32_t)samples, (int32_t)b.source.field[0].shape[0],
                          (int32_t)b.classes, (int32_t)b.source.n[QN_SPLIT_VAL]};
        fwrite(head, sizeof head, 1, out);
        for (int64_t i = 0; i < steps && s == QN_OK; i++)
            s = dump(&b, QN_SPLIT_TRAIN, i * samples, samples, out);
        if (s == QN_OK) s = dump(&b, QN_SPLIT_VAL, 0, b.source.n[QN_SPLIT_VAL], out);
    }
    if (out && fclose(out) != 0 && s == QN_OK)
        s = qn_fail(QN_ERR_IO, "%s could not be written", argv[3]);
    if (s != QN_OK) fprintf(stderr, "%s%s\n", diagnostics ? diagnostics : "", qn_error_message());
    qn_build_free(&b);
    qn_config_free(c);
    qn_free(diagnostics);
    return qn_status_exit_code(s);
}
