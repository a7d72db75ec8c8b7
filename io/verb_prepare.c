/* verb_prepare.c — `quern prepare`: read and check the data of a configuration, and show samples as
 * the model will see them. */
#include "io/cli.h"
#include "io/text_buffer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct view { /* one sample at a time */
    const qn_build *b;
    bool colour;
    int tokens, targets, documents; /* fields, -1 = absent */
    void *field[QN_MAX_FIELDS];
} view;

static int find(const qn_source *s, const char *name) {
    for (int i = 0; i < s->n_fields; i++) {
        if (strcmp(s->field[i].name, name) == 0) return i;
    }
    return -1;
}

static int64_t count_of(const qn_field *f) {
    int64_t n = 1;
    for (int i = 0; i < f->ndim; i++) n *= f->shape[i];
    return n;
}

static qn_status allocate(view *v) {
    const qn_source *s = &v->b->source;
    for (int i = 0; i < s->n_fields; i++) {
        const qn_field *f = &s->field[i];
        v->field[i] = qn_alloc((size_t)count_of(f) * qn_dtype_bytes(f->dtype), "a sample");
        if (!v->field[i]) return QN_ERR_OOM;
    }
    return QN_OK;
}

/* Token i is learned if it is the target of the one before it. */
static bool is_learned(const view *v, int64_t i, int64_t sample) {
    const int32_t *target = v->field[v->targets],
                  *document = v->documents < 0 ? NULL : v->field[v->documents];
    if (i == 0 || i >= sample) return false;
    if (document && document[i] != document[i - 1]) return false;
    return target[i - 1] != QN_IGNORE_INDEX;
}

static void begin(const view *v, qn_text *t, bool learned) {
    qn_text_add(t, v->colour ? (learned ? "\033[1;32m" : "\033[0m") : learned ? "[" : "]");
}

/* The text of a sample, what is learned in brackets or, on a terminal, in green. */
static qn_status show_text(const view *v, qn_text *t) {
    const qn_field *f = &v->b->source.field[v->tokens];
    const int32_t *id = v->field[v->tokens],
                  *document = v->documents < 0 ? NULL : v->field[v->documents];
    int64_t n = f->shape[0];
    qn_token_stream *stream;
    QN_TRY(qn_token_stream_create(v->b->tokenizer, false, &stream));
    qn_status s = QN_OK;
    bool open = false;
    for (int64_t i = 0; i < n && s == QN_OK; i++) {
        if (document && document[i] < 0) break; /* padding */
        bool learned = v->targets >= 0 && is_learned(v, i, n);
        bool next = document && i > 0 && document[i] != document[i - 1];
        if (next) s = qn_token_stream_finish(stream, t);
        if (open && (!learned || next)) begin(v, t, open = false);
        if (next) qn_text_add(t, "\n--\n");
        if (!open && learned) begin(v, t, open = true);
        if (s == QN_OK) s = qn_token_stream_push(stream, id[i], t);
    }
    if (s == QN_OK) s = qn_token_stream_finish(stream, t);
    if (open) begin(v, t, false);
    qn_token_stream_free(stream);
    qn_text_add(t, "\n");
    return s;
}

static void show_label(const view *v, qn_text *t) {
    const qn_source *s = &v->b->source;
    const qn_field *f = &s->field[s->n_fields - 1];
    const void *value = v->field[s->n_fields - 1];
    if (v->targets >= 0 || count_of(f) != 1) return;
    qn_text_add(t, "label: ");
    if (f->dtype == QN_I32)
        qn_text_printf(t, "%d\n", (int)*(const int32_t *)value);
    else {
        qn_text_json_number(t, (double)*(const float *)value);
        qn_text_add(t, "\n");
    }
}

static qn_status show_sample(view *v, qn_split split, int64_t position) {
    const qn_source *s = &v->b->source;
    int64_t labels;
    qn_text t = {0};
    QN_TRY(s->fetch(s->self, split, position, 1, v->field, &labels));
    qn_text_printf(&t, "\n== sample %" PRId64 ", %" PRId64 " targets\n", position, labels);
    qn_status status = QN_OK;
    if (v->tokens >= 0 && v->b->tokenizer)
        status = show_text(v, &t);
    else
        qn_text_add(&t, "(no tokenizer: nothing to show)\n");
    show_label(v, &t);
    if (status == QN_OK) status = t.status;
    if (status == QN_OK) fputs(t.data, stdout);
    qn_text_free(&t);
    return status;
}

static qn_status show(const qn_cli *cli, const qn_build *b, int64_t n) {
    view v = {.b = b,
              .colour = isatty(STDOUT_FILENO) && !getenv("NO_COLOR"),
              .tokens = find(&b->source, "tokens"),
              .targets = find(&b->source, "targets"),
              .documents = find(&b->source, "documents")};
    qn_split split = qn_cli_has(cli, "--val") ? QN_SPLIT_VAL : QN_SPLIT_TRAIN;
    qn_status status = allocate(&v);
    if (n > b->source.n[split]) n = b->source.n[split];
    for (int64_t i = 0; i < n && status == QN_OK; i++) status = show_sample(&v, split, i);
    for (int i = 0; i < QN_MAX_FIELDS; i++) qn_free(v.field[i]);
    return status;
}

qn_status qn_verb_prepare(const qn_cli *cli) {
    qn_config *c;
    int64_t n = 0;
    QN_TRY(qn_cli_int(cli, "--show", 0, 1000000, &n));
    QN_TRY(qn_cli_config(cli, cli->arg[0], &c));
    qn_build b = {.plan_only = true};
    qn_status s = qn_build_data(&b, c);
    if (s == QN_OK) printf("%s", b.data_text);
    if (s == QN_OK) s = show(cli, &b, n);
    qn_build_free(&b);
    qn_config_free(c);
    return s;
}
