/* verb_tokenizer_train.c — `quern tokenizer-train`: a byte-level BPE tokenizer from text files. */
#include "io/cli.h"
#include "io/large_file.h"
#include "io/tokenizer_train.h"

#include <stdio.h>
#include <string.h>

enum { MOST_SPECIAL = 256 };

typedef struct special {
    char *copy;
    const char *token[MOST_SPECIAL];
    int64_t n;
} special;

/* "A,B,C" */
static qn_status read_special(const char *list, special *out) {
    if (!list) return QN_OK;
    out->copy = qn_strdup(list, "special tokens");
    if (!out->copy) return QN_ERR_OOM;
    for (char *p = out->copy; p;) {
        char *comma = strchr(p, ',');
        if (comma) *comma = '\0';
        if (out->n == MOST_SPECIAL)
            return qn_fail(QN_ERR_USAGE, "--special: more than %d tokens", MOST_SPECIAL);
        out->token[out->n++] = p;
        p = comma ? comma + 1 : NULL;
    }
    return QN_OK;
}

static qn_status feed(qn_bpe_trainer *t, const char *path) {
    qni_view v = {0};
    QN_TRY(qni_view_open(path, &v));
    qn_status status = QN_OK;
    if (v.size > 2 && v.bytes[0] == 0x1F && v.bytes[1] == 0x8B)
        status = qn_fail(QN_ERR_DATA, "found gzip data, expected text: unpack it first");
    if (status == QN_OK) status = qn_bpe_trainer_feed(t, (const char *)v.bytes, v.size);
    if (status == QN_OK) status = qni_view_intact(&v);
    if (status != QN_OK) status = qn_fail_prefix(status, "%s", path);
    qni_view_close(&v);
    return status;
}

qn_status qn_verb_tokenizer_train(const qn_cli *cli) {
    qn_bpe_trainer *t = NULL;
    special s = {0};
    qn_status status = QN_OK;
    const char *out = qn_cli_value(cli, "--out");
    qn_bpe_train_options o = {.min_frequency = 2,
                              .pattern = qn_cli_value(cli, "--pattern"),
                              .lines = qn_cli_has(cli, "--lines")};
    if (!out || !qn_cli_has(cli, "--vocab-size"))
        return qn_fail(QN_ERR_USAGE, "tokenizer-train: expected --vocab-size N and --out DIR");
    QN_TRY(qn_cli_int(cli, "--vocab-size", 256, INT32_MAX, &o.vocab_size));
    QN_TRY(qn_cli_int(cli, "--min-frequency", 0, INT64_MAX, &o.min_frequency));
    QN_TRY_GOTO(read_special(qn_cli_value(cli, "--special"), &s));
    o.special = s.token;
    o.n_special = s.n;
    QN_TRY_GOTO(qn_bpe_trainer_create(&o, &t));
    for (int i = 0; i < cli->n_args; i++) QN_TRY_GOTO(feed(t, cli->arg[i]));
    QN_TRY_GOTO(qn_bpe_trainer_run(t));
    QN_TRY_GOTO(qn_bpe_trainer_save(t, out));
    qn_bpe_train_size n = qn_bpe_trainer_size(t);
    printf("%s: %lld tokens, %lld merges; from %lld bytes, %lld words, %lld of them distinct\n",
           out, (long long)n.tokens, (long long)n.merges, (long long)n.bytes, (long long)n.words,
           (long long)n.distinct);
    if (n.tokens < o.vocab_size)
        fprintf(stderr,
                "quern: the texts gave %lld tokens of the %lld asked for: no further pair occurs "
                "%lld times\n",
                (long long)n.tokens, (long long)o.vocab_size,
                (long long)(o.min_frequency > 1 ? o.min_frequency : 1));
done:
    qn_bpe_trainer_free(t);
    qn_free(s.copy);
    return status;
}
