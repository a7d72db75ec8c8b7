/* verb_generate.c — `quern generate`: continue a text as it is drawn, or every prompt of a file; or
 * answer them as a chat template has it. */
#include "io/verb_generate.h"

#include "io/cli.h"
#include "io/file.h"
#include "io/records.h"
#include "io/run_load.h"

#include <signal.h>
#include <string.h>

typedef struct command {
    const qn_cli *cli;
    qn_loaded model;
    qn_generation_options o;
    qn_chat chat; /* form NULL: texts are continued */
    int64_t n;
    qn_ids *prompt;
    char **given;      /* the prompts as they came, as JSON */
    const char *shown; /* printed before the text */
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

qn_status qni_encode_start(const qn_tokenizer *t, const char *text, qn_ids *ids) {
    const qn_encode_options o = {.add_special = true, .parse_special = true};
    QN_TRY(qn_tokenizer_encode(t, text, (int64_t)strlen(text), &o, ids));
    if (ids->n > 0) return QN_OK;
    /* Nothing to go on from: the beginning of a text, or of a line. */
    int32_t first = qn_tokenizer_role(t, QN_TOKEN_BOS);
    if (first < 0) first = qn_tokenizer_role(t, QN_TOKEN_EOS);
    if (first < 0) first = qn_tokenizer_id(t, "\n", 1);
    return qn_ids_add(ids, first < 0 ? 0 : first, 0);
}

/* Room for one more prompt; takes `given` over. */
static qn_status add_prompt(command *s, qn_text *given) {
    size_t old = (size_t)s->n, n = old + 1;
    char *text;
    QN_TRY(qn_text_take(given, &text));
    qn_ids *prompt = qn_realloc(s->prompt, old * sizeof *prompt, n * sizeof *prompt, "prompts");
    if (prompt) s->prompt = prompt;
    char **all = qn_realloc(s->given, old * sizeof *all, n * sizeof *all, "prompts");
    if (all) s->given = all;
    if (!prompt || !all) {
        qn_free(text);
        return QN_ERR_OOM;
    }
    s->prompt[old] = (qn_ids){0};
    s->given[old] = text;
    s->n++;
    return QN_OK;
}

/* A text to continue, or a question to answer. */
static qn_status add_text(command *s, const char *text) {
    qn_text given = {0};
    qn_text_json_string(&given, text);
    QN_TRY(add_prompt(s, &given));
    qn_ids *ids = &s->prompt[s->n - 1];
    if (!s->chat.form) return qni_encode_start(s->model.build.tokenizer, text, ids);
    qn_conversation v = {0};
    const char *system = qn_cli_value(s->cli, "--system");
    qn_status status = system ? qn_conversation_say(&v, "system", system) : QN_OK;
    if (status == QN_OK) status = qn_conversation_say(&v, "user", text);
    if (status == QN_OK) status = qn_conversation_prompt(&v, &s->chat, INT64_MAX, ids);
    qn_conversation_free(&v);
    return status;
}

static qn_status add_messages(command *s, const cJSON *messages, const cJSON *tools) {
    qn_text given = {0};
    qn_json_write(&given, messages, -1);
    QN_TRY(add_prompt(s, &given));
    return qn_chat_prompt(&s->chat, messages, tools, NULL, &s->prompt[s->n - 1]);
}

/* {"prompt": text} or {"text": text}; with a chat template also {"messages": [...]}. */
static qn_status add_record(command *s, const qn_records *r, const cJSON *record) {
    const cJSON *messages = qn_json_get(record, "messages"), *text = qn_json_get(record, "prompt");
    if (messages && s->chat.form) return add_messages(s, messages, qn_json_get(record, "tools"));
    if (!text) text = qn_json_get(record, "text");
    if (text && cJSON_IsString(text)) return add_text(s, text->valuestring);
    if (messages)
        return qn_records_fail(r, messages,
                               "found messages, which --chat answers; expected "
                               "\"prompt\": a string");
    return qn_records_fail(r, text, "expected \"prompt\": a string%s",
                           s->chat.form ? ", or \"messages\"" : "");
}

/* Lines of text, or records. */
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
        int64_t before = s->n;
        status = add_record(s, r, record);
        if (status != QN_OK && s->n > before) /* not told by the reader */
            status = qn_fail_prefix(status, "%s:%lld", path, (long long)line);
        if (status != QN_OK) goto done;
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
    if (!s->chat.form) s->shown = prompt;
    qn_status status = add_text(s, prompt);
    return status == QN_OK ? QN_OK : qn_fail_prefix(status, "--prompt");
}

/* ---- output ---------------------------------------------------------------------------------- */

static volatile sig_atomic_t interrupt_seen;
static void on_interrupt(int sig) {
    (void)sig;
    interrupt_seen = 1;
}

void qni_hear_interrupts(bool restart) {
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = restart ? SA_RESTART : 0};
    sigemptyset(&action.sa_mask);
    interrupt_seen = 0;
    sigaction(SIGINT, &action, NULL);
}

void qni_hear_end(void) { signal(SIGINT, SIG_DFL); }

int qni_interrupted(void) { return interrupt_seen; }

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
    qn_text_add(&t, s->given[prompt]);
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

/* A generator for `rows` sequences of at most `longest` tokens. */
static qn_status make_generator(const command *s, int64_t rows, int64_t longest,
                                qn_generator **out) {
    const qn_infer_options o = {.device = s->model.build.device,
                                .threads = s->model.build.threads,
                                .batch_size = rows,
                                .no_graph =
                                    !qn_config_boolean(s->model.config, "train.cuda_graph")};
    return qn_generator_create(&o, &s->model.build.model, s->model.params, longest, out);
}

static qn_status generate(command *s) {
    int64_t batch = qn_config_int(s->model.config, "generate.batch_size"), longest = 1;
    for (int64_t i = 0; i < s->n; i++) {
        if (s->prompt[i].n > longest) longest = s->prompt[i].n;
    }
    QN_TRY(qn_cli_int(s->cli, "--batch", 1, 65536, &batch));
    qn_generator *g;
    QN_TRY(make_generator(s, batch < s->n ? batch : s->n, longest + s->o.max_new_tokens, &g));
    qn_generation_sink sink = {
        .self = s, .text = print_text, .done = print_object, .interrupted = qni_interrupted};
    if (!s->json && s->shown) fputs(s->shown, s->out);
    qni_hear_interrupts(true);
    qn_status status =
        qn_generate(g, s->model.build.tokenizer, &s->o, s->prompt, s->n, &sink, s->completion);
    qni_hear_end();
    if (!s->json) fputc('\n', s->out);
    qn_generator_free(g);
    return status;
}

static qn_status interactive(command *s) {
    int64_t context = 4096;
    QN_TRY(qn_cli_int(s->cli, "--context", 2, INT32_MAX, &context));
    qni_interactive talk = {.tokenizer = s->model.build.tokenizer,
                            .chat = s->chat.form ? &s->chat : NULL,
                            .system = qn_cli_value(s->cli, "--system"),
                            .options = s->o,
                            .in = stdin,
                            .out = s->out};
    if (!talk.chat) fputs("quern: no chat template: every line is continued by itself\n", stderr);
    QN_TRY(make_generator(s, 1, context, &talk.g));
    qn_status status = qni_talk(&talk);
    qn_generator_free(talk.g);
    return status;
}

/* With --chat there must be a template, with --interactive there may be. */
static qn_status open_chat(command *s) {
    const qn_cli *cli = s->cli;
    const char *which = qn_cli_value(cli, "--chat-template");
    bool asked = qn_cli_has(cli, "--chat") || which || qn_cli_has(cli, "--system");
    if (!asked && !qn_cli_has(cli, "--interactive")) return QN_OK;
    const char *text = NULL;
    if (!which && qn_config_is_set(s->model.config, "data.chat_template")) {
        which = qn_config_string(s->model.config, "data.chat_template");
        text = s->model.build.chat_text;
    }
    qn_status status = qn_chat_open(which, text, s->model.build.tokenizer, &s->chat);
    if (status == QN_ERR_DATA && !which && !asked) return QN_OK;
    if (status != QN_OK) return qn_fail_prefix(status, "chat template (--chat-template)");
    return qn_chat_stops(&s->chat, &s->o);
}

static qn_status check_options(const qn_cli *cli) {
    static const char *const lone[] = {"--prompt", "--prompts", "--json", "--batch"};
    for (size_t i = 0; qn_cli_has(cli, "--interactive") && i < sizeof lone / sizeof *lone; i++) {
        if (qn_cli_has(cli, lone[i]))
            return qn_fail(QN_ERR_USAGE, "generate: --interactive and %s exclude each other",
                           lone[i]);
    }
    return QN_OK;
}

static qn_status run(command *s) {
    char warning[QN_MESSAGE_MAX];
    const qn_cli *cli = s->cli;
    QN_TRY(check_options(cli));
    QN_TRY(qn_loaded_open(cli->arg[0], qn_cli_value(cli, "--ckpt"), cli->set, cli->n_sets,
                          &s->model, warning, sizeof warning));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    if (!s->model.build.tokenizer) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "generate: this model was trained on numbers or token files; "
                       "only models with a tokenizer can continue a text");
    }
    QN_TRY(read_options(s));
    QN_TRY(open_chat(s));
    if (qn_cli_has(cli, "--interactive")) return interactive(s);
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
        qn_free(s.given[i]);
        if (s.completion) qn_completion_free(&s.completion[i]);
    }
    qn_free(s.prompt);
    qn_free(s.given);
    qn_free(s.completion);
    qn_chat_close(&s.chat);
    qn_loaded_free(&s.model);
    return status;
}
