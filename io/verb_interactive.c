/* verb_interactive.c — `quern generate --interactive`: a conversation on the terminal.
 *
 * Each answer is for the whole conversation, written anew by the template; what the model has read
 * of it before stays in its cache, so only what is new is read.
 */
#include "io/verb_generate.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

typedef struct talk {
    qni_interactive *s;
    qn_conversation v;
    char *system; /* NULL = none; begins every conversation */
    bool terminal;
} talk;

static const char commands[] =
    "/reset        forget the conversation\n"
    "/system TEXT  begin anew with this system message; without TEXT, with none\n"
    "/quit         end, as the end of the input does\n"
    "/help         this list\n"
    "Ctrl-C ends an answer. A message that begins with / is written with two.\n";

/* ---- input ----------------------------------------------------------------------------------- */

/* The next line without its end; *more false at the end of the input. */
static qn_status read_line(talk *k, qn_text *line, bool *more) {
    FILE *in = k->s->in;
    int c;
    for (;;) {
        line->length = 0;
        qn_text_add(line, "");
        if (k->terminal) {
            fputs("> ", k->s->out);
            fflush(k->s->out);
            qni_hear_interrupts(false);
        }
        errno = 0;
        while ((c = getc(in)) != EOF && c != '\n') qn_text_add_bytes(line, &(char){(char)c}, 1);
        int why = errno;
        if (k->terminal) qni_hear_end();
        if (!ferror(in)) break;
        clearerr(in);
        if (why != EINTR) return qn_fail(QN_ERR_IO, "standard input: %s", strerror(why));
        fputc('\n', k->s->out);
    }
    QN_TRY(line->status);
    *more = c != EOF || line->length > 0;
    if (!*more && k->terminal) fputc('\n', k->s->out);
    if (line->length > 0 && line->data[line->length - 1] == '\r') line->data[--line->length] = '\0';
    if (strlen(line->data) != line->length)
        return qn_fail(QN_ERR_DATA, "message: found a NUL byte, expected text");
    return QN_OK;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void print_text(void *self, int64_t prompt, const char *bytes, size_t count) {
    const talk *k = self;
    (void)prompt;
    fwrite(bytes, 1, count, k->s->out);
    fflush(k->s->out);
}

static qn_status answer(talk *k, const qn_ids *prompt, qn_completion *out) {
    qni_interactive *s = k->s;
    const qn_generation_sink sink = {.self = k, .text = print_text, .interrupted = qni_interrupted};
    qni_hear_interrupts(true);
    qn_status status = qn_generate(s->g, s->tokenizer, &s->options, prompt, 1, &sink, out);
    qni_hear_end();
    fputc('\n', s->out);
    fflush(s->out);
    s->options.sampling.seed++;
    return status;
}

static qn_status prompt_of(talk *k, const char *line, qn_ids *ids) {
    if (!k->s->chat) return qni_encode_start(k->s->tokenizer, line, ids);
    int64_t capacity = qn_generator_capacity(k->s->g), answer_room = k->s->options.max_new_tokens,
            forgotten = k->v.forgotten;
    if (answer_room > capacity / 2) answer_room = capacity / 2;
    if (k->v.n == 0 && k->system) QN_TRY(qn_conversation_say(&k->v, "system", k->system));
    QN_TRY(qn_conversation_say(&k->v, "user", line));
    qn_status status = qn_conversation_prompt(&k->v, k->s->chat, capacity - answer_room, ids);
    if (k->v.forgotten > forgotten)
        fprintf(stderr, "quern: the context is full, the oldest messages are forgotten\n");
    return status;
}

static qn_status converse(talk *k, const char *line) {
    qn_ids ids = {0};
    qn_completion c = {0};
    int64_t said = k->v.n;
    qn_status status = prompt_of(k, line, &ids);
    if (status == QN_OK) status = answer(k, &ids, &c);
    if (k->s->chat && status == QN_OK && c.text.length > 0) {
        status = qn_conversation_say(&k->v, "assistant", c.text.data);
    } else {
        while (k->v.n > said) qn_conversation_take_back(&k->v);
    }
    qn_ids_free(&ids);
    qn_completion_free(&c);
    return status;
}

/* ---- commands -------------------------------------------------------------------------------- */

static bool is_command(const char *line, const char *name, const char **rest) {
    size_t n = strlen(name);
    if (strncmp(line, name, n) != 0 || (line[n] && line[n] != ' ')) return false;
    *rest = line + n + strspn(line + n, " ");
    return true;
}

static qn_status obey(talk *k, const char *line, bool *more) {
    const char *rest;
    if (!k->s->chat && !is_command(line, "/quit", &rest) && !is_command(line, "/help", &rest))
        return qn_fail(QN_ERR_USAGE, "%.40s: without a chat template there are /quit and /help",
                       line);
    if (is_command(line, "/quit", &rest)) {
        *more = false;
    } else if (is_command(line, "/help", &rest)) {
        fputs(commands, stderr);
    } else if (is_command(line, "/reset", &rest)) {
        qn_conversation_free(&k->v);
    } else if (is_command(line, "/system", &rest)) {
        char *text = *rest ? qn_strdup(rest, "a system message") : NULL;
        if (*rest && !text) return QN_ERR_OOM;
        qn_free(k->system);
        k->system = text;
        qn_conversation_free(&k->v);
    } else {
        return qn_fail(QN_ERR_USAGE, "%.40s: expected /reset, /system, /quit or /help", line);
    }
    return QN_OK;
}

static bool costs_a_line_only(qn_status s) { return s == QN_ERR_USAGE || s == QN_ERR_DATA; }

qn_status qni_talk(qni_interactive *s) {
    talk k = {.s = s, .terminal = isatty(fileno(s->in)) != 0};
    qn_text line = {0};
    qn_status status = QN_OK;
    if (s->system) {
        k.system = qn_strdup(s->system, "a system message");
        if (!k.system) return QN_ERR_OOM;
    }
    for (bool more = true; more;) {
        status = read_line(&k, &line, &more);
        if (status == QN_OK && more && line.length > 0) {
            const char *text = line.data;
            bool command = text[0] == '/' && text[1] != '/';
            status = command ? obey(&k, text, &more) : converse(&k, text + (text[0] == '/'));
        }
        if (costs_a_line_only(status)) {
            fprintf(stderr, "quern: %s\n", qn_error_message());
            status = QN_OK;
        }
        if (status != QN_OK) break;
    }
    qn_text_free(&line);
    qn_free(k.system);
    qn_conversation_free(&k.v);
    return status;
}
