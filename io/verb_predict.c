/* verb_predict.c — `quern predict`: the model's output for every input of a file.
 *
 * Models over features read an IDX file and give class and probabilities (or numbers for
 * regression); language models read a text, one item a line, and give each line's loss and
 * perplexity. Other heads over tokens: predict_texts.c.
 */
#include "io/cli.h"
#include "io/data.h"
#include "io/predict.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 64 };

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* ---- features -------------------------------------------------------------------------------- */

static void header(qni_prediction *p, int64_t outputs, bool classes) {
    if (!p->csv) return;
    qn_text_add(&p->out, classes ? "index,class,probability" : "index");
    for (int64_t i = 0; i < outputs; i++)
        qn_text_printf(&p->out, ",%c%" PRId64, classes ? 'p' : 'y', i);
    qn_text_add(&p->out, "\n");
}

static void write_row(qni_prediction *p, int64_t index, const qn_tensor *y, int64_t row,
                      bool classes) {
    int64_t n = y->shape[1], best = 0;
    for (int64_t i = 1; i < n; i++) {
        if (qn_tensor_get(y, row * n + i) > qn_tensor_get(y, row * n + best)) best = i;
    }
    double top = qn_tensor_get(y, row * n + best);
    qn_text_printf(&p->out, p->csv ? "%" PRId64 : "{\"index\":%" PRId64, index);
    if (classes) {
        qn_text_printf(&p->out,
                       p->csv ? ",%" PRId64 "," : ",\"class\":%" PRId64 ",\"probability\":", best);
        qn_text_json_number(&p->out, top);
    }
    qn_text_add(&p->out, p->csv ? "" : classes ? ",\"probabilities\":[" : ",\"outputs\":[");
    for (int64_t i = 0; i < n; i++) {
        if (p->csv || i > 0) qn_text_add(&p->out, ",");
        qn_text_json_number(&p->out, qn_tensor_get(y, row * n + i));
    }
    qn_text_add(&p->out, p->csv ? "\n" : "]}\n");
}

qn_infer_options qni_predict_options(const qni_prediction *p) {
    return (qn_infer_options){.device = p->model.build.device,
                              .threads = p->model.build.threads,
                              .no_graph = !qn_config_boolean(p->model.config, "train.cuda_graph")};
}

static qn_status fill_rows(const qni_prediction *p, const qn_idx *x, int64_t first, int64_t n,
                           float *dst) {
    double mean = qn_config_number(p->model.config, "data.normalize.mean");
    double std = qn_config_number(p->model.config, "data.normalize.std"),
           unit = x->type == 8 ? 255.0 : 1.0;
    for (int64_t i = 0; i < n * x->per_item; i++) {
        double v = qn_idx_get(x, first * x->per_item + i);
        if (!isfinite(v)) {
            return qn_fail(QN_ERR_DATA, "item %" PRId64 " element %" PRId64 " is %g",
                           first + i / x->per_item, i % x->per_item, qn_nan_plain(v));
        }
        dst[i] = (float)((v / unit - mean) / std);
    }
    return QN_OK;
}

static qn_status predict_features(const qn_cli *cli, qni_prediction *p) {
    const char *file = qn_cli_value(cli, "--input");
    const qn_build *b = &p->model.build;
    qn_idx x;
    qn_status s = qn_idx_parse(p->input, p->bytes, &x);
    if (s == QN_OK && x.per_item != b->features) {
        s = qn_fail(QN_ERR_DATA, "items have %" PRId64 " elements, the model reads %" PRId64,
                    x.per_item, b->features);
    }
    if (s != QN_OK) return qn_fail_prefix(s, "%s", file);
    bool classes = strcmp(qn_config_string(p->model.config, "objective"), "classify") == 0;
    qn_infer_options o = qni_predict_options(p);
    o.batch_size = ROWS;
    qn_field field = {.name = "features", .dtype = QN_F32, .ndim = 1, .shape = {x.per_item}};
    qn_predictor *predictor;
    qn_outcome outcome = classes ? QN_OUTCOME_SOFTMAX : QN_OUTCOME_NUMBERS;
    QN_TRY(qn_predictor_create(&o, &b->model, p->model.params, &field, 1, outcome, &predictor));
    const qn_tensor *y = qn_predictor_output(predictor);
    header(p, y->shape[1], classes);
    for (int64_t first = 0; first < x.items && s == QN_OK; first += ROWS) {
        int64_t n = x.items - first < ROWS ? x.items - first : ROWS;
        float *dst = qn_predictor_input(predictor, 0);
        memset(dst, 0, (size_t)(ROWS * x.per_item) * sizeof *dst);
        s = fill_rows(p, &x, first, n, dst);
        if (s != QN_OK) s = qn_fail_prefix(s, "%s", file);
        if (s == QN_OK) s = qn_predictor_run(predictor);
        for (int64_t i = 0; i < n && s == QN_OK; i++) write_row(p, first + i, y, i, classes);
    }
    qn_predictor_free(predictor);
    return s;
}

/* ---- text ------------------------------------------------------------------------------------ */

/* Minus the log of the probability of `target`. */
static double surprise(const qn_tensor *logits, int32_t target) {
    int64_t n = qn_tensor_count(logits);
    double top = -INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, qn_tensor_get(logits, i));
    for (int64_t i = 0; i < n; i++) sum += exp(qn_tensor_get(logits, i) - top);
    return top + log(sum) - qn_tensor_get(logits, target);
}

static qn_status feed(qn_generator *g, const int32_t *ids, int64_t n) {
    return qn_generator_feed(g, &ids, &n);
}

/* Each token after the first is predicted from all before it, as far as the context reaches. */
static qn_status score_line(qn_generator *g, const int32_t *ids, int64_t n, double *total) {
    int64_t capacity = qn_generator_capacity(g);
    *total = 0;
    qn_generator_rewind(g, 0, 0);
    for (int64_t i = 0; i + 1 < n; i++) {
        if (qn_generator_position(g, 0) == capacity) {
            qn_generator_rewind(g, 0, 0);
            QN_TRY(feed(g, ids + i - capacity / 2, capacity / 2));
        }
        QN_TRY(feed(g, ids + i, 1));
        qn_tensor logits = qn_generator_logits(g, 0);
        *total += surprise(&logits, ids[i + 1]);
    }
    return QN_OK;
}

static qn_status score_lines(qni_prediction *p, const char *file, qn_generator *g, qn_ids *ids) {
    const qn_encode_options o = {.add_special = true, .parse_special = true};
    int64_t line = 0;
    if (p->csv) qn_text_add(&p->out, "line,tokens,loss,perplexity\n");
    for (const char *at = p->input, *end = at + p->bytes; at < end;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        double total;
        line++;
        ids->n = 0;
        qn_status s = qn_tokenizer_encode(p->model.build.tokenizer, at, stop - at, &o, ids);
        if (s != QN_OK) return qn_fail_prefix(s, "%s:%" PRId64, file, line);
        int64_t n = ids->n;
        QN_TRY(score_line(g, ids->id, n, &total));
        double loss = n > 1 ? total / (double)(n - 1) : (double)NAN;
        qn_text_printf(&p->out,
                       p->csv ? "%" PRId64 ",%" PRId64 ","
                              : "{\"line\":%" PRId64 ",\"tokens\":%" PRId64 ",\"loss\":",
                       line, n);
        qn_text_json_number(&p->out, loss);
        qn_text_add(&p->out, p->csv ? "," : ",\"perplexity\":");
        qn_text_json_number(&p->out, exp(loss));
        qn_text_add(&p->out, p->csv ? "\n" : "}\n");
        at = stop + 1;
    }
    return QN_OK;
}

static qn_status predict_text(const qn_cli *cli, qni_prediction *p) {
    const qn_build *b = &p->model.build;
    qn_infer_options o = qni_predict_options(p);
    qn_generator *g = NULL;
    qn_ids ids = {0};
    qn_status s = qn_generator_create(&o, &b->model, p->model.params,
                                      b->model_config.max_position_embeddings, &g);
    if (s == QN_OK) s = score_lines(p, qn_cli_value(cli, "--input"), g, &ids);
    qn_generator_free(g);
    qn_ids_free(&ids);
    return s;
}

/* ---- the verb -------------------------------------------------------------------------------- */

static qn_status run(const qn_cli *cli, qni_prediction *p) {
    const char *input = qn_cli_value(cli, "--input"), *out = qn_cli_value(cli, "--out");
    if (!input || !out)
        return qn_fail(QN_ERR_USAGE, "quern predict: --input FILE and --out FILE are needed");
    p->csv = ends_with(out, ".csv");
    if (!p->csv && !ends_with(out, ".jsonl")) {
        return qn_fail(QN_ERR_USAGE, "--out %s: expected a name ending in .jsonl or .csv", out);
    }
    char warning[QN_MESSAGE_MAX], *text;
    QN_TRY(qn_loaded_open(cli->arg[0], qn_cli_value(cli, "--ckpt"), NULL, 0, &p->model, warning,
                          sizeof warning));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    QN_TRY(qn_file_read(input, INT64_C(1) << 33, &p->input, &p->bytes));
    bool words = p->model.build.tokenizer != NULL;
    if (p->model.build.model.layers == 0) {
        QN_TRY(predict_features(cli, p));
    } else if (words && p->model.build.model_config.head == QN_HEAD_LM) {
        QN_TRY(predict_text(cli, p));
    } else if (words) {
        QN_TRY(qni_predict_texts(p, input));
    } else {
        return qn_fail(
            QN_ERR_UNSUPPORTED,
            "predict: a model trained on token files has no vocabulary to read text with");
    }
    QN_TRY(qn_text_take(&p->out, &text));
    qn_status s = qn_file_replace(out, text, strlen(text));
    qn_free(text);
    return s;
}

qn_status qn_verb_predict(const qn_cli *cli) {
    qni_prediction p = {0};
    qn_status s = run(cli, &p);
    qn_text_free(&p.out);
    qn_free(p.input);
    qn_loaded_free(&p.model);
    return s;
}
