/* predict_texts.c — `quern predict` for texts: a class, probabilities or numbers for each text, or
 * for each of its tokens. */
#include "io/data_encode.h"
#include "io/predict.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 16, TOKENS = 0, DOCUMENTS, TYPES, FIELDS };

typedef struct texts {
    qni_prediction *p;
    const char *file;
    qn_data_options o; /* how texts are encoded */
    qn_records *records;
    qn_predictor *predictor;
    qni_encoded row[ROWS];
    int64_t line[ROWS], n; /* rows that wait */
    qn_outcome outcome;
    bool classes; /* one class of several: the likeliest is named */
    bool names;   /* labels have names */
} texts;

/* ---- reading --------------------------------------------------------------------------------- */

/* The text under a key; NULL without it. */
static qn_status text_of(const texts *t, const cJSON *record, const char *key, const char *usual,
                         const char **out) {
    const cJSON *node = qn_json_get(record, key ? key : usual);
    *out = NULL;
    if (!node || cJSON_IsNull(node)) return QN_OK;
    if (!cJSON_IsString(node))
        return qn_records_fail(t->records, node, "%s: expected a string", key ? key : usual);
    *out = node->valuestring;
    return QN_OK;
}

static qn_status encode(texts *t, const cJSON *record, int64_t line, qni_encoded *e) {
    const qn_config *c = t->p->model.config;
    const char *column = qn_config_optional(c, "data.columns.text");
    qn_example x = {.label = ""};
    QN_TRY(text_of(t, record, column, "text", &x.text));
    QN_TRY(text_of(t, record, qn_config_optional(c, "data.columns.text_pair"), "text_pair",
                   &x.text_pair));
    if (!x.text)
        return qn_records_fail(t->records, record, "no key \"%s\"", column ? column : "text");
    qn_status s = qni_encode_example(&t->o, &x, e);
    return s == QN_OK ? s : qn_fail_prefix(s, "%s:%" PRId64, t->file, line);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void csv_string(qn_text *out, const char *s) {
    qn_text_add(out, "\"");
    for (; *s; s++) qn_text_printf(out, *s == '"' ? "\"\"" : "%c", *s);
    qn_text_add(out, "\"");
}

static void header(texts *t, bool tokens, int64_t outputs) {
    qn_text *out = &t->p->out;
    if (!t->p->csv) return;
    qn_text_add(out, tokens ? "line,token" : "line");
    if (t->classes) qn_text_printf(out, ",class%s,probability", t->names ? ",label" : "");
    for (int64_t i = 0; i < outputs; i++)
        qn_text_printf(out, ",%c%" PRId64, t->outcome == QN_OUTCOME_NUMBERS ? 'y' : 'p', i);
    qn_text_add(out, "\n");
}

static void write_class(texts *t, int64_t class, double probability) {
    qn_text *out = &t->p->out;
    bool csv = t->p->csv;
    qn_text_printf(out, csv ? ",%" PRId64 : ",\"class\":%" PRId64, class);
    if (t->names) {
        char key[64];
        snprintf(key, sizeof key, "model.id2label.%" PRId64, class);
        const char *name = qn_config_string(t->p->model.config, key);
        qn_text_add(out, csv ? "," : ",\"label\":");
        if (csv) csv_string(out, name);
        if (!csv) qn_text_json_string(out, name);
    }
    qn_text_add(out, csv ? "," : ",\"probability\":");
    qn_text_json_number(out, probability);
}

/* `n` numbers of the output from element `first` on. */
static void write_numbers(texts *t, int64_t first, int64_t n) {
    const qn_tensor *y = qn_predictor_output(t->predictor);
    qn_text *out = &t->p->out;
    bool csv = t->p->csv;
    if (t->classes) {
        int64_t best = 0;
        for (int64_t i = 1; i < n; i++) {
            if (qn_tensor_get(y, first + i) > qn_tensor_get(y, first + best)) best = i;
        }
        write_class(t, best, qn_tensor_get(y, first + best));
    }
    bool plain = t->outcome == QN_OUTCOME_NUMBERS;
    if (!csv) qn_text_add(out, plain ? ",\"outputs\":[" : ",\"probabilities\":[");
    for (int64_t i = 0; i < n; i++) {
        if (csv || i > 0) qn_text_add(out, ",");
        qn_text_json_number(out, qn_tensor_get(y, first + i));
    }
    if (!csv) qn_text_add(out, "]");
}

static void write_tokens(texts *t, int64_t row, int64_t tokens, int64_t n) {
    qn_text *out = &t->p->out;
    const qn_ids *ids = &t->row[row].ids;
    if (!t->p->csv) qn_text_printf(out, "{\"line\":%" PRId64 ",\"tokens\":[", t->line[row]);
    for (int64_t k = 0; k < ids->n; k++) {
        int64_t bytes = 0;
        const char *spelling = qn_tokenizer_token(t->o.tokenizer, ids->id[k], &bytes);
        if (t->p->csv) {
            qn_text_printf(out, "%" PRId64 ",%" PRId64, t->line[row], k);
        } else {
            qn_text_printf(out, "%s{\"token\":\"", k ? "," : "");
            if (spelling) qn_text_json_chars(out, spelling, (size_t)bytes);
            qn_text_add(out, "\"");
        }
        write_numbers(t, (row * tokens + k) * n, n);
        qn_text_add(out, t->p->csv ? "\n" : "}");
    }
    if (!t->p->csv) qn_text_add(out, "]}\n");
}

/* ---- batches --------------------------------------------------------------------------------- */

/* Predicts the rows that wait. */
static qn_status flush(texts *t) {
    int32_t *field[FIELDS];
    int64_t block = t->o.block_size;
    if (t->n == 0) return QN_OK;
    for (int f = 0; f < FIELDS; f++) {
        field[f] = qn_predictor_input(t->predictor, f);
        for (int64_t i = 0; i < ROWS * block; i++) field[f][i] = f == DOCUMENTS ? -1 : 0;
    }
    for (int64_t r = 0; r < t->n; r++) {
        const qni_encoded *e = &t->row[r];
        for (int64_t k = 0; k < e->ids.n; k++) {
            field[TOKENS][r * block + k] = e->ids.id[k];
            field[DOCUMENTS][r * block + k] = 0;
            field[TYPES][r * block + k] = e->type[k];
        }
    }
    QN_TRY(qn_predictor_run(t->predictor));
    const qn_tensor *y = qn_predictor_output(t->predictor);
    int64_t n = y->shape[y->ndim - 1];
    for (int64_t r = 0; r < t->n; r++) {
        if (y->ndim == 3) {
            write_tokens(t, r, block, n);
            continue;
        }
        qn_text_printf(&t->p->out, t->p->csv ? "%" PRId64 : "{\"line\":%" PRId64, t->line[r]);
        write_numbers(t, r * n, n);
        qn_text_add(&t->p->out, t->p->csv ? "\n" : "}\n");
    }
    t->n = 0;
    return QN_OK;
}

static qn_status predict_all(texts *t) {
    const qn_tensor *y = qn_predictor_output(t->predictor);
    header(t, y->ndim == 3, y->shape[y->ndim - 1]);
    for (;;) {
        const cJSON *record;
        int64_t line;
        QN_TRY(qn_records_next(t->records, &record, &line));
        if (!record) return flush(t);
        QN_TRY(encode(t, record, line, &t->row[t->n]));
        t->line[t->n++] = line;
        if (t->n == ROWS) QN_TRY(flush(t));
    }
}

/* ---- set-up ---------------------------------------------------------------------------------- */

/* Records where the name says so, else one text a line. */
static qn_record_format format_of(const char *file) {
    static const char *const endings[] = {".json", ".jsonl", ".csv", ".tsv"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(file), m = strlen(endings[i]);
        if (n >= m && strcmp(file + n - m, endings[i]) == 0) return QN_RECORDS_AUTO;
    }
    return QN_RECORDS_LINES;
}

static qn_status set_up(texts *t) {
    const qni_prediction *p = t->p;
    const qn_config *c = p->model.config;
    const char *objective = qn_config_string(c, "objective"),
               *policy = qn_config_string(c, "data.truncate");
    t->o = (qn_data_options){.type = QN_DATA_LABELLED_TEXT,
                             .tokenizer = p->model.build.tokenizer,
                             .block_size = qn_config_int(c, "data.block_size"),
                             .truncate = strcmp(policy, "right") == 0  ? QN_TRUNCATE_RIGHT
                                         : strcmp(policy, "left") == 0 ? QN_TRUNCATE_LEFT
                                                                       : QN_TRUNCATE_ERROR};
    t->classes = strcmp(objective, "classify") == 0;
    t->names = qn_config_count(c, "model.id2label") > 0;
    t->outcome = t->classes                              ? QN_OUTCOME_SOFTMAX
                 : strcmp(objective, "multi_label") == 0 ? QN_OUTCOME_SIGMOID
                                                         : QN_OUTCOME_NUMBERS;
    static const char *const names[FIELDS] = {"tokens", "documents", "token_types"};
    qn_field field[FIELDS];
    for (int f = 0; f < FIELDS; f++) {
        field[f] =
            (qn_field){.name = names[f], .dtype = QN_I32, .ndim = 1, .shape = {t->o.block_size}};
    }
    qn_infer_options o = qni_predict_options(p);
    o.batch_size = ROWS;
    QN_TRY(qn_predictor_create(&o, &p->model.build.model, p->model.params, field, FIELDS,
                               t->outcome, &t->predictor));
    return qn_records_open(t->file, p->input, p->bytes, format_of(t->file), &t->records);
}

qn_status qni_predict_texts(qni_prediction *p, const char *file) {
    texts t = {.p = p, .file = file};
    qn_status s = set_up(&t);
    if (s == QN_OK) s = predict_all(&t);
    for (int r = 0; r < ROWS; r++) qni_encoded_free(&t.row[r]);
    qn_records_free(t.records);
    qn_predictor_free(t.predictor);
    return s;
}
