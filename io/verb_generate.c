/* verb_generate.c — `quern generate`: continue a text, printing each token as it is drawn. */
#include "engine/infer.h"
#include "io/cli.h"
#include "io/run_load.h"

#include <stdio.h>
#include <string.h>

typedef struct generation {
    qn_loaded model;
    qn_generator *g;
    qn_sampling sampling;
    int64_t max_new;
    int32_t *ids; /* prompt and continuation */
    int64_t n;
    qn_sampler *sampler;
} generation;

static qn_status read_options(const qn_cli *cli, generation *s, const char **prompt) {
    const qn_config *c = s->model.config;
    int64_t seed = qn_config_int(c, "generate.seed");
    s->max_new = qn_config_int(c, "generate.max_new_tokens");
    s->sampling = (qn_sampling){.temperature = qn_config_number(c, "generate.temperature"),
                                .top_k = qn_config_int(c, "generate.top_k"),
                                .top_p = qn_config_number(c, "generate.top_p")};
    QN_TRY(qn_cli_int(cli, "--max-new-tokens", 1, 1000000000, &s->max_new));
    QN_TRY(qn_cli_int(cli, "--top-k", 0, INT32_MAX, &s->sampling.top_k));
    QN_TRY(qn_cli_int(cli, "--seed", INT64_MIN, INT64_MAX, &seed));
    QN_TRY(qn_cli_number(cli, "--temperature", 0, 100, &s->sampling.temperature));
    QN_TRY(qn_cli_number(cli, "--top-p", 1e-9, 1, &s->sampling.top_p));
    s->sampling.seed = (uint64_t)seed;
    *prompt = qn_cli_has(cli, "--prompt") ? qn_cli_value(cli, "--prompt")
                                          : qn_config_string(c, "generate.prompt");
    if (!s->model.metadata.vocab) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "generate: this model was trained on numbers or token files; "
                       "only models with a vocabulary can continue a text");
    }
    return QN_OK;
}

static qn_status encode_prompt(generation *s, const char *prompt) {
    int64_t length = (int64_t)strlen(prompt);
    s->ids = qn_alloc((size_t)(length + s->max_new + 1) * sizeof *s->ids, "tokens");
    if (!s->ids) return QN_ERR_OOM;
    if (length > 0) {
        qn_status status = qn_vocab_encode(s->model.metadata.vocab, prompt, length, s->ids, &s->n);
        return status == QN_OK ? QN_OK : qn_fail_prefix(status, "--prompt");
    }
    int32_t newline =
        qn_vocab_id(s->model.metadata.vocab, '\n'); /* an empty prompt starts a line */
    s->ids[0] = newline >= 0 ? newline : 0;
    s->n = 1;
    return QN_OK;
}

static qn_status print_token(const generation *s, int32_t id) {
    char bytes[4];
    int n;
    QN_TRY(qn_vocab_decode(s->model.metadata.vocab, id, bytes, &n));
    fwrite(bytes, 1, (size_t)n, stdout);
    fflush(stdout);
    return QN_OK;
}

/* A full context slides: the later half of what was seen is read again. */
static qn_status feed_all(generation *s) {
    int64_t capacity = qn_generator_capacity(s->g),
            keep = s->n < capacity ? s->n : capacity - capacity / 2;
    const int32_t *from = s->ids + s->n - keep;
    qn_generator_rewind(s->g, 0, 0);
    return qn_generator_feed(s->g, &from, &keep);
}

static qn_status continue_text(generation *s) {
    QN_TRY(feed_all(s));
    for (int64_t i = 0; i < s->max_new; i++) {
        qn_tensor logits = qn_generator_logits(s->g, 0);
        int32_t id = qn_sampler_draw(s->sampler, &logits, 0, i, s->ids, s->n);
        const int32_t *last = &s->ids[s->n];
        s->ids[s->n++] = id;
        QN_TRY(print_token(s, id));
        if (i + 1 == s->max_new) break;
        bool full = qn_generator_position(s->g, 0) == qn_generator_capacity(s->g);
        QN_TRY(full ? feed_all(s) : qn_generator_feed(s->g, &last, &(int64_t){1}));
    }
    putchar('\n');
    return QN_OK;
}

static qn_status run(const qn_cli *cli, generation *s) {
    const char *prompt;
    QN_TRY(read_options(cli, s, &prompt));
    QN_TRY(encode_prompt(s, prompt));
    qn_infer_options o = {.device = s->model.build.device,
                          .threads = s->model.build.threads,
                          .no_graph = !qn_config_boolean(s->model.config, "train.cuda_graph")};
    QN_TRY(
        qn_generator_create(&o, &s->model.build.model, s->model.params, s->n + s->max_new, &s->g));
    QN_TRY(qn_sampler_create(&s->sampling, qn_vocab_size(s->model.metadata.vocab), &s->sampler));
    fputs(prompt, stdout);
    return continue_text(s);
}

qn_status qn_verb_generate(const qn_cli *cli) {
    generation s = {0};
    char warning[QN_MESSAGE_MAX];
    QN_TRY(qn_loaded_open(cli->arg[0], qn_cli_value(cli, "--ckpt"), NULL, 0, &s.model, warning,
                          sizeof warning));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    qn_status status = run(cli, &s);
    qn_generator_free(s.g);
    qn_free(s.ids);
    qn_sampler_free(s.sampler);
    qn_loaded_free(&s.model);
    return status;
}
