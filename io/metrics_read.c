/* metrics_read.c — metrics.jsonl into series, JSON files into flat facts. */
#include "io/metrics_read.h"

#include "io/file.h"
#include "io/json.h"
#include "io/metrics_text.h"

#include <math.h>
#include <string.h>

/* ---- facts ----------------------------------------------------------------------------------- */

typedef struct collector {
    qn_setup *arena;
    qni_facts *facts;
    int capacity;
    char path[512];
} collector;

static qn_status add_fact(collector *c, const char *text, qni_fact_kind kind, double number) {
    qni_facts *f = c->facts;
    if (f->n == c->capacity) {
        int capacity = c->capacity ? 2 * c->capacity : 64;
        qni_fact *grown = qn_setup_alloc(c->arena, (size_t)capacity * sizeof *grown);
        if (!grown) return QN_ERR_OOM;
        if (f->n) memcpy(grown, f->fact, (size_t)f->n * sizeof *grown);
        f->fact = grown;
        c->capacity = capacity;
    }
    char *key = qn_setup_strdup(c->arena, c->path), *copy = qn_setup_strdup(c->arena, text);
    if (!key || !copy) return QN_ERR_OOM;
    f->fact[f->n++] = (qni_fact){key, copy, kind, number};
    return QN_OK;
}

static bool is_leaf(const cJSON *item) {
    if (cJSON_IsObject(item)) return false;
    for (const cJSON *e = cJSON_IsArray(item) ? item->child : NULL; e; e = e->next) {
        if (cJSON_IsObject(e) || cJSON_IsArray(e)) return false;
    }
    return true;
}

static qn_status add_leaf(collector *c, const cJSON *item) {
    if (cJSON_IsNull(item)) return QN_OK;
    if (cJSON_IsString(item)) return add_fact(c, item->valuestring, QNI_FACT_TEXT, 0);
    qn_text text = {0};
    qn_json_write(&text, item, -1);
    char *json = NULL;
    QN_TRY(qn_text_take(&text, &json));
    qni_fact_kind kind = cJSON_IsNumber(item) ? QNI_FACT_NUMBER
                         : cJSON_IsBool(item) ? QNI_FACT_BOOL
                                              : QNI_FACT_TEXT;
    double number = cJSON_IsNumber(item) ? item->valuedouble : cJSON_IsTrue(item);
    qn_status status = add_fact(c, json, kind, number);
    qn_free(json);
    return status;
}

/* Depth is bounded by the parser's. A key too long for the path is shown cut. */
static qn_status walk(collector *c, const cJSON *item) {
    if (is_leaf(item)) return add_leaf(c, item);
    size_t length = strlen(c->path);
    int index = 0;
    for (const cJSON *e = item->child; e; e = e->next, index++) {
        const char *dot = length ? "." : "";
        if (cJSON_IsObject(item)) {
            qni_print(c->path + length, sizeof c->path - length, "%s%s", dot, e->string);
        } else {
            qni_print(c->path + length, sizeof c->path - length, "%s%d", dot, index);
        }
        QN_TRY(walk(c, e));
        c->path[length] = '\0';
    }
    return QN_OK;
}

qn_status qni_facts_parse(qn_setup *arena, const char *name, const char *json, size_t length,
                          qni_facts *out) {
    cJSON *root;
    *out = (qni_facts){0};
    QN_TRY(qn_json_parse(arena, json, length, &(qn_json_options){.name = name}, &root));
    if (!cJSON_IsObject(root)) return qn_fail(QN_ERR_FORMAT, "%s: expected a JSON object", name);
    collector c = {.arena = arena, .facts = out};
    return walk(&c, root);
}

const qni_fact *qni_facts_find(const qni_facts *f, const char *key) {
    for (int i = 0; i < f->n; i++) {
        if (strcmp(f->fact[i].key, key) == 0) return &f->fact[i];
    }
    return NULL;
}

/* ---- history --------------------------------------------------------------------------------- */

static qni_series *find_series(const qni_history *h, const char *key) {
    for (int i = 0; i < h->n_series; i++) {
        if (strcmp(h->series[i].key, key) == 0) return &h->series[i];
    }
    return NULL;
}

const qni_series *qni_history_find(const qni_history *h, const char *key) {
    return find_series(h, key);
}

double qni_series_last(const qni_series *s) {
    return s && s->n > 0 ? s->value[s->n - 1] : (double)NAN;
}

/* Doubles an array of `size`-byte entries when it is full. */
static qn_status grow(void **array, int64_t n, int64_t *capacity, size_t size) {
    if (n < *capacity) return QN_OK;
    int64_t more = *capacity ? 2 * *capacity : 64;
    void *grown =
        qn_realloc(*array, (size_t)*capacity * size, (size_t)more * size, "a metrics series");
    if (!grown) return QN_ERR_OOM;
    *array = grown;
    *capacity = more;
    return QN_OK;
}

static qn_status series_of(qni_history *h, const char *key, qni_series **out) {
    *out = find_series(h, key);
    if (*out) return QN_OK;
    int64_t capacity = h->series_capacity;
    void *array = h->series;
    QN_TRY(grow(&array, h->n_series, &capacity, sizeof *h->series));
    h->series = array;
    h->series_capacity = (int)capacity;
    const char *kept = qn_setup_strdup(h->arena, key);
    if (!kept) return QN_ERR_OOM;
    *out = &h->series[h->n_series++];
    **out = (qni_series){.key = kept};
    return QN_OK;
}

static qn_status add_point(qni_series *s, int64_t step, double value) {
    int64_t steps = s->capacity;
    void *array = s->step;
    QN_TRY(grow(&array, s->n, &steps, sizeof *s->step));
    s->step = array;
    int64_t values = s->capacity;
    array = s->value;
    QN_TRY(grow(&array, s->n, &values, sizeof *s->value));
    s->value = array;
    s->capacity = values;
    s->step[s->n] = step;
    s->value[s->n++] = value;
    return QN_OK;
}

qn_status qni_history_note(qni_history *h, int64_t step, const char *text) {
    int64_t capacity = h->note_capacity;
    void *array = h->note;
    QN_TRY(grow(&array, h->n_notes, &capacity, sizeof *h->note));
    h->note = array;
    h->note_capacity = (int)capacity;
    const char *kept = qn_setup_strdup(h->arena, text);
    if (!kept) return QN_ERR_OOM;
    h->note[h->n_notes++] = (qni_note){step, kept};
    return QN_OK;
}

static bool metric_value(const cJSON *item, double *out) {
    if (cJSON_IsNumber(item)) {
        *out = item->valuedouble;
        return true;
    }
    const char *s = cJSON_IsString(item) ? item->valuestring : "";
    *out = strcmp(s, "inf") == 0    ? (double)INFINITY
           : strcmp(s, "-inf") == 0 ? (double)-INFINITY
                                    : (double)NAN;
    return strcmp(s, "nan") == 0 || isinf(*out);
}

/* A step that lies before the last: what was recorded from there on was trained again. */
static void step_back(qni_history *h, int64_t step) {
    for (int i = 0; i < h->n_series; i++) {
        qni_series *s = &h->series[i];
        while (s->n > 0 && s->step[s->n - 1] >= step) s->n--;
    }
    while (h->n_notes > 0 && h->note[h->n_notes - 1].step > step) h->n_notes--;
}

/* A row after the end: the run was resumed, so neither its end nor its summary holds any more. */
static void forget_end(qni_history *h) {
    h->end = NULL;
    for (int i = 0; i < h->n_series; i++) {
        if (strncmp(h->series[i].key, "summary/", 8) == 0) h->series[i].n = 0;
    }
}

static qn_status add_row(qni_history *h, const cJSON *row) {
    int64_t step;
    if (!cJSON_IsObject(row) || !qn_json_int64(qn_json_get(row, "step"), &step) || step < 0) {
        h->bad_rows++;
        return QN_OK;
    }
    h->rows++;
    if (step < h->last_step) step_back(h, step);
    if (h->end) forget_end(h);
    h->last_step = step;
    for (const cJSON *item = row->child; item; item = item->next) {
        double value;
        if (strcmp(item->string, "step") == 0) continue;
        if (strcmp(item->string, "note") == 0 && cJSON_IsString(item)) {
            QN_TRY(qni_history_note(h, step, item->valuestring));
        } else if (strcmp(item->string, "end") == 0 && cJSON_IsString(item)) {
            if (!(h->end = qn_setup_strdup(h->arena, item->valuestring))) return QN_ERR_OOM;
        } else if (metric_value(item, &value)) {
            qni_series *s;
            QN_TRY(series_of(h, item->string, &s));
            if (s->n > 0 && s->step[s->n - 1] == step)
                s->n--; /* said twice: the later one counts */
            QN_TRY(add_point(s, step, value));
        }
    }
    return QN_OK;
}

qn_status qni_history_load(const char *path, qni_history *out) {
    const size_t scratch_limit = (size_t)1 << 20;
    char *text = NULL;
    int64_t bytes = 0;
    qn_setup *scratch = NULL;
    qn_status status;
    *out = (qni_history){0};
    QN_TRY_GOTO(qn_setup_create("metrics history", &out->arena));
    QN_TRY_GOTO(qn_file_read(path, INT64_MAX / 2, &text, &bytes));
    for (const char *line = text, *end = text + bytes; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline ? newline : end) - line);
        if (scratch && qn_setup_bytes(scratch) > scratch_limit) {
            qn_setup_free(scratch);
            scratch = NULL;
        }
        if (!scratch) QN_TRY_GOTO(qn_setup_create("a metrics row", &scratch));
        cJSON *row = NULL;
        status = qn_json_parse(scratch, line, length, &(qn_json_options){.name = path}, &row);
        if (status == QN_ERR_OOM) goto done;
        QN_TRY_GOTO(add_row(out, status == QN_OK ? row : NULL));
        line += length + 1;
    }
    status = QN_OK;
done:
    qn_setup_free(scratch);
    qn_free(text);
    return status;
}

void qni_history_free(qni_history *h) {
    for (int i = 0; i < h->n_series; i++) {
        qn_free(h->series[i].step);
        qn_free(h->series[i].value);
    }
    qn_free(h->series);
    qn_free(h->note);
    qn_setup_free(h->arena);
    *h = (qni_history){0};
}
