/* verb_generate.c — `quern generate`: continue a text as it is drawn, or every prompt of a file. */
#include "io/cli.h"
#include "io/file.h"
#include "io/generation.h"
#include "io/records.h"
#include "io/run_load.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

typedef struct command {
    const qn_cli *cli;
    qn_loaded model;
    qn_generation_options o;
    int64_t n;
    qn_ids *prompt;
    char **text; /* of the prompts */
    qn_completion *completion;
    bool json; /* one object a prompt instead of running text */
    FILE *out;
} command;

/* ---- options --------------------------------------------------------------------------------- */

static qn_status read_stops(command *s) {
    const qn_config *c = s->model.config;
    char key[64];
    int64_t n = qn_config_count(c, "generate.stop");
    for (int64_t i = 0; i < n; i++) {
        snprintf(key, sizeof key, "generate.stop.%lld", (long long)i);
        const char *stop = qn_config_string(c, key);
        if (!*stop) return qn_fail(QN_ERR_CONFIG, "%s: found \"\", expected a text", key);
        if (s->o.n_stop == QN_MAX_STOPS)
            return qn_fail(QN_ERR_CONFIG, "generate.stop: at most %d texts", QN_MAX_STOPS);
        s->o.stop[s->o.n_stop++] = stop;
    }
    int32_t eos = qn_tokenizer_role(s->model.build.tokenizer, QN_TOKEN_EOS);
    if (eos >= 0) s->o.eos[s->o.n_eos++] = eos;
    return QN_OK;
}

static qn_status read_options(command *s) {
    const qn_config *c = s->model.config;
    const qn_cli *cli = s->cli;
    int64_t seed = qn_config_int(c, "generate.seed");
    qn_sampling *p = &s->o.sampling;
    s->o.max_new_tokens = qn_config_int(c, "generate.max_new_tokens");
    s->o.slide = true;
    *p = (qn_sampling){.temperature = qn_config_number(c, "generate.temperature"),
                       .top_k = qn_config_int(c, "generate.top_k"),
                       .top_p = qn_config_number(c, "generate.top_p"),
                       .min_p = qn_config_number(c, "generate.min_p"),
                       .repetition_penalty = qn_config_number(c, "generate.repetition_penalty")};
    QN_TRY(qn_cli_int(cli, "--max-new-tokens", 1, 1000000000, &s->o.max_new_tokens));
    QN_TRY(qn_cli_int(cli, "--top-k", 0, INT32_MAX, &p->top_k));
    QN_TRY(qn_cli_int(cli, "--seed", INT64_MIN, INT64_MAX, &seed));
    QN_TRY(qn_cli_number(cli, "--temperature", 0, 100, &p->temperature));
    QN_TRY(qn_cli_number(cli, "--top-p", 1e-9, 1, &p->top_p));
    QN_TRY(qn_cli_number(cli, "--min-p", 0, 1, &p->min_p));
    QN_TRY(qn_cli_number(cli, "--repetition-penalty", 1e-9, 100, &p->repetition_penalty));
    p->seed = (uint64_t)seed;
    s->json = qn_cli_has(cli, "--json") || qn_cli_has(cli, "--prompts");
    return read_stops(s);
}

/* ---- prompts --------------------------------------------------------------------------------- */

static qn_status add_prompt(command *s, const char *text) {
    size_t old = (size_t)s->n, n = old + 1;
    qn_ids *prompt = qn_realloc(s->prompt, old * sizeof *prompt, n * sizeof *prompt, "prompts");
    if (!prompt) return QN_ERR_OOM;
    s->prompt = prompt;
    char **texts = qn_realloc(s->text, old * sizeof *texts, n * sizeof *texts, "prompts");
    if (!texts) return QN_ERR_OOM;
    s->text = texts;
    s->prompt[old] = (qn_ids){0};
    s->text[old] = qn_strdup(text, "a prompt");
    s->n++;
    if (!s->text[old]) return QN_ERR_OOM;
    const qn_tokenizer *t = s->model.build.tokenizer;
    const qn_encode_options o = {.add_special = true, .parse_special = true};
    QN_TRY(qn_tokenizer_encode(t, text, (int64_t)strlen(text), &o, &s->prompt[old]));
    if (s->prompt[old].n > 0) return QN_OK;
    /* Nothing to go on from: the beginning of a text, or of a line. */
    int32_t first = qn_tokenizer_role(t, QN_TOKEN_BOS);
    if (first < 0) first = qn_tokenizer_role(t, QN_TOKEN_EOS);
    if (first < 0) first = qn_tokenizer_id(t, "\n", 1);
    return qn_ids_add(&s->prompt[old], first < 0 ? 0 : first, 0);
}

/* Lines of text, or records with "prompt" or "text". */
static qn_status read_prompts(command *s, const char *path) {
    char *bytes;
    int64_t size, line;
    qn_records *r = NULL;
    const cJSON *record;
    QN_TRY(qn_file_read(path, INT64_C(1) << 32, &bytes, &size));
    qn_status status;
    QN_TRY_GOTO(qn_records_open(path, bytes, size, QN_RECORDS_AUTO, &r));
    for (;;) {
        QN_TRY_GOTO(qn_records_next(r, &record, &line));
        if (!record) break;
        const cJSON *text = qn_json_get(record, "prompt");
        if (!text) text = qn_json_get(record, "text");
        if (!text || !cJSON_IsString(text)) {
            status = qn_records_fail(r, text, "expected \"prompt\": a string");
            goto done;
        }
        status = add_prompt(s, text->valuestring);
        if (status != QN_OK) {
            status = qn_fail_prefix(status, "%s:%lld", path, (long long)line);
            goto done;
        }
    }
done:
    qn_records_free(r);
    qn_free(bytes);
    return status;
}

static qn_status take_prompts(command *s) {
    const qn_cli *cli = s->cli;
    if (qn_cli_has(cli, "--prompts") && qn_cli_has(cli, "--prompt"))
        return qn_fail(QN_ERR_USAGE, "generate: --prompt and --prompts exclude each other");
    if (qn_cli_has(cli, "--prompts")) return read_prompts(s, qn_cli_value(cli, "--prompts"));
    const char *prompt = qn_cli_has(cli, "--prompt")
                             ? qn_cli_value(cli, "--prompt")
                             : qn_config_string(s->model.config, "generate.prompt");
    qn_status status = add_prompt(s, prompt);
    return status == QN_OK ? QN_OK : qn_fail_prefix(status, "--prompt");
}

/* ---- output ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupt_seen;
static void on_interrupt(int sig) {
    (void)sig;
    interrupt_seen = 1;
}
static int interrupted(void) { return interrupt_seen; }

static void print_text(void *self, int64_t prompt, const char *bytes, size_t count) {
    const command *s = self;
    (void)prompt;
    if (s->json) return;
    fwrite(bytes, 1, count, s->out);
    fflush(s->out);
}

static qn_status print_object(void *self, int64_t prompt, const qn_completion *c) {
    const command *s = self;
    if (!s->json) return QN_OK;
    qn_text t = {0};
    qn_text_printf(&t, "{\"index\": %lld, \"prompt\": ", (long long)prompt);
    qn_text_json_string(&t, s->text[prompt]);
    qn_text_add(&t, ", \"text\": ");
    qn_text_json_string(&t, c->text.data);
    qn_text_printf(&t,
                   ", \"finish_reason\": \"%s\", \"prompt_tokens\": %lld, "
                   "\"completion_tokens\": %lld}\n",
                   qn_finish_name(c->finish), (long long)c->prompt_tokens,
                   (long long)(c->ids.n - c->prompt_tokens));
    if (t.status == QN_OK) fputs(t.data, s->out);
    qn_status status = t.status;
    qn_text_free(&t);
    fflush(s->out);
    return status;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static qn_status generate(command *s) {
    int64_t batch = qn_config_int(s->model.config, "generate.batch_size"), longest = 1;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->prompt[i].n > longest) longest = s->prompt[i].n;
    }
    QN_TRY(qn_cli_int(s->cli, "--batch", 1, 65536, &batch));
    qn_infer_options o = {.device = s->model.build.device,
                          .threads = s->model.build.threads,
                          .batch_size = batch < s->n ? batch : s->n,
                          .no_graph = !qn_config_boolean(s->model.config, "train.cuda_graph")};
    qn_generator *g;
    QN_TRY(qn_generator_create(&o, &s->model.build.model, s->model.params,
                               longest + s->o.max_new_tokens, &g));
    qn_generation_sink sink = {
        .self = s, .text = print_text, .done = print_object, .interrupted = interrupted};
    if (!s->json) fputs(s->text[0], s->out);
    signal(SIGINT, on_interrupt);
    qn_status status =
        qn_generate(g, s->model.build.tokenizer, &s->o, s->prompt, s->n, &sink, s->completion);
    signal(SIGINT, SIG_DFL);
    if (!s->json) fputc('\n', s->out);
    qn_generator_free(g);
    return status;
}

static qn_status run(command *s) {
    char warning[QN_MESSAGE_MAX];
    const qn_cli *cli = s->cli;
    QN_TRY(qn_loaded_open(cli->arg[0], qn_cli_value(cli, "--ckpt"), cli->set, cli->n_sets,
                          &s->model, warning, sizeof warning));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    if (!s->model.build.tokenizer) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "generate: this model was trained on numbers or token files; "
                       "only models with a tokenizer can continue a text");
    }
    QN_TRY(read_options(s));
    QN_TRY(take_prompts(s));
    if (s->n == 0) return QN_OK;
    s->completion = qn_alloc((size_t)s->n * sizeof *s->completion, "completions");
    if (!s->completion) return QN_ERR_OOM;
    for (int64_t i = 0; i < s->n; i++) s->completion[i] = (qn_completion){0};
    return generate(s);
}

qn_status qn_verb_generate(const qn_cli *cli) {
    command s = {.cli = cli, .out = stdout};
    qn_status status = run(&s);
    for (int64_t i = 0; i < s.n; i++) {
        qn_ids_free(&s.prompt[i]);
        qn_free(s.text[i]);
        if (s.completion) qn_completion_free(&s.completion[i]);
    }
    qn_free(s.prompt);
    qn_free(s.text);
    qn_free(s.completion);
    qn_loaded_free(&s.model);
    return status;
}
