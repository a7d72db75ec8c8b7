/* tfevents.c — the TensorBoard sink: one event file for each start of a run. */
#include "io/tfevents.h"

#include "io/file.h"
#include "io/metrics_file.h"
#include "io/metrics_line.h"
#include "io/metrics_read.h"
#include "io/tfevents_record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Field numbers of the messages written (tensorboard/compat/proto and plugins/hparams). */
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5 };
enum { SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2, VALUE_TENSOR = 8, VALUE_METADATA = 9 };
enum { METADATA_PLUGIN = 1, PLUGIN_NAME = 1, PLUGIN_CONTENT = 2 };
enum { TENSOR_DTYPE = 1, TENSOR_SHAPE = 2, TENSOR_STRING = 8, DTYPE_STRING = 7 };
enum { SHAPE_DIM = 2, DIM_SIZE = 1 };
enum { HPARAMS_EXPERIMENT = 2, HPARAMS_START = 3, HPARAMS_END = 4 };
enum { EXPERIMENT_HPARAM = 4, EXPERIMENT_METRIC = 5, INFO_NAME = 1, HPARAM_TYPE = 4 };
enum { METRIC_GROUP = 1, METRIC_TAG = 2 };
enum { START_HPARAMS = 1, START_TIME = 5, END_STATUS = 1, END_TIME = 2 };
enum { STATUS_SUCCESS = 1, STATUS_FAILURE = 2 };
enum { MAP_KEY = 1, MAP_VALUE = 2, PB_NUMBER = 2, PB_STRING = 3, PB_BOOL = 4 };

typedef struct tfevents {
    qni_rows file;
    double (*wall)(void);
    qn_text record; /* reused: a steady run allocates nothing here */
    int64_t step;
} tfevents;

/* ---- events ---------------------------------------------------------------------------------- */

static void event_begin(tfevents *w) {
    qni_record_begin(&w->record);
    qni_pb_double(&w->record, EVENT_WALL_TIME, w->wall());
    if (w->step) qni_pb_int(&w->record, EVENT_STEP, w->step);
}

static void event_end(tfevents *w) {
    qni_record_end(&w->record);
    qni_rows_write(&w->file, &w->record, w->step);
}

static void write_version(tfevents *w) {
    event_begin(w);
    qni_pb_string(&w->record, EVENT_FILE_VERSION, "brain.Event:2");
    event_end(w);
}

static void write_scalars(tfevents *w, const qn_record *r) {
    qn_text *t = &w->record;
    if (!r || r->n == 0) return;
    event_begin(w);
    size_t summary = qni_pb_open(t, EVENT_SUMMARY);
    for (int i = 0; i < r->n; i++) {
        size_t value = qni_pb_open(t, SUMMARY_VALUE);
        qni_pb_string(t, VALUE_TAG, r->metric[i].key);
        qni_pb_float(t, VALUE_SIMPLE, (float)r->metric[i].value);
        qni_pb_close(t, value);
    }
    qni_pb_close(t, summary);
    event_end(w);
}

static void write_text(tfevents *w, const char *tag, const char *markdown) {
    qn_text *t = &w->record;
    event_begin(w);
    size_t summary = qni_pb_open(t, EVENT_SUMMARY), value = qni_pb_open(t, SUMMARY_VALUE);
    qni_pb_string(t, VALUE_TAG, tag);
    size_t tensor = qni_pb_open(t, VALUE_TENSOR);
    qni_pb_int(t, TENSOR_DTYPE, DTYPE_STRING);
    size_t shape = qni_pb_open(t, TENSOR_SHAPE), dim = qni_pb_open(t, SHAPE_DIM);
    qni_pb_int(t, DIM_SIZE, 1);
    qni_pb_close(t, dim);
    qni_pb_close(t, shape);
    qni_pb_string(t, TENSOR_STRING, markdown);
    qni_pb_close(t, tensor);
    size_t metadata = qni_pb_open(t, VALUE_METADATA), plugin = qni_pb_open(t, METADATA_PLUGIN);
    qni_pb_string(t, PLUGIN_NAME, "text");
    qni_pb_close(t, plugin);
    qni_pb_close(t, metadata);
    qni_pb_close(t, value);
    qni_pb_close(t, summary);
    event_end(w);
}

/* The configuration as a Markdown code block: each line indented by four. */
static qn_status write_config_text(tfevents *w, const char *json) {
    qn_text markdown = {0};
    for (const char *line = json, *end; *line; line = end) {
        end = strchrnul(line, '\n');
        end += *end == '\n';
        qn_text_add(&markdown, "    ");
        qn_text_add_bytes(&markdown, line, (size_t)(end - line));
    }
    qn_status status = markdown.status;
    if (status == QN_OK) write_text(w, "config/text_summary", markdown.data ? markdown.data : "");
    qn_text_free(&markdown);
    return status;
}

/* ---- hyper-parameters ------------------------------------------------------------------------ */

/* A value whose metadata alone carries the content: the plugin reads nothing else. */
static void hparams_begin(tfevents *w, const char *tag, int field, size_t opened[6]) {
    qn_text *t = &w->record;
    event_begin(w);
    opened[0] = qni_pb_open(t, EVENT_SUMMARY);
    opened[1] = qni_pb_open(t, SUMMARY_VALUE);
    qni_pb_string(t, VALUE_TAG, tag);
    opened[2] = qni_pb_open(t, VALUE_METADATA);
    opened[3] = qni_pb_open(t, METADATA_PLUGIN);
    qni_pb_string(t, PLUGIN_NAME, "hparams");
    opened[4] = qni_pb_open(t, PLUGIN_CONTENT);
    opened[5] = qni_pb_open(t, field);
}

static void hparams_end(tfevents *w, const size_t opened[6]) {
    for (int i = 5; i >= 0; i--) qni_pb_close(&w->record, opened[i]);
    event_end(w);
}

static void write_experiment(tfevents *w, const qni_facts *config) {
    static const int type[] = {
        [QNI_FACT_TEXT] = 1, [QNI_FACT_BOOL] = 2, [QNI_FACT_NUMBER] = 3}; /* DataType */
    static const char *const metrics[] = {"train/loss", "eval/loss", "summary/best_value"};
    qn_text *t = &w->record;
    size_t opened[6];
    hparams_begin(w, "_hparams_/experiment", HPARAMS_EXPERIMENT, opened);
    for (int i = 0; i < config->n; i++) {
        size_t info = qni_pb_open(t, EXPERIMENT_HPARAM);
        qni_pb_string(t, INFO_NAME, config->fact[i].key);
        qni_pb_int(t, HPARAM_TYPE, type[config->fact[i].kind]);
        qni_pb_close(t, info);
    }
    for (size_t i = 0; i < sizeof metrics / sizeof metrics[0]; i++) {
        size_t info = qni_pb_open(t, EXPERIMENT_METRIC), name = qni_pb_open(t, INFO_NAME);
        qni_pb_string(t, METRIC_TAG, metrics[i]);
        qni_pb_close(t, name);
        qni_pb_close(t, info);
    }
    hparams_end(w, opened);
}

static void write_session_start(tfevents *w, const qni_facts *config) {
    qn_text *t = &w->record;
    size_t opened[6];
    hparams_begin(w, "_hparams_/session_start_info", HPARAMS_START, opened);
    for (int i = 0; i < config->n; i++) {
        const qni_fact *f = &config->fact[i];
        size_t entry = qni_pb_open(t, START_HPARAMS);
        qni_pb_string(t, MAP_KEY, f->key);
        size_t value = qni_pb_open(t, MAP_VALUE);
        switch (f->kind) {
        case QNI_FACT_TEXT: qni_pb_string(t, PB_STRING, f->text); break;
        case QNI_FACT_NUMBER: qni_pb_double(t, PB_NUMBER, f->number); break;
        case QNI_FACT_BOOL: qni_pb_int(t, PB_BOOL, f->number != 0); break;
        }
        qni_pb_close(t, value);
        qni_pb_close(t, entry);
    }
    qni_pb_double(t, START_TIME, w->wall());
    hparams_end(w, opened);
}

/* A run that was interrupted has not ended: without this record its status is "unknown". */
static void write_session_end(tfevents *w, const qn_record *r) {
    double code = qn_record_get(r, "summary/exit_code", 0);
    size_t opened[6];
    if (code == qn_status_exit_code(QN_ERR_INTERRUPTED) ||
        code == qn_status_exit_code(QN_ERR_REQUEUE))
        return;
    hparams_begin(w, "_hparams_/session_end_info", HPARAMS_END, opened);
    qni_pb_int(&w->record, END_STATUS, code == 0 ? STATUS_SUCCESS : STATUS_FAILURE);
    qni_pb_double(&w->record, END_TIME, w->wall());
    hparams_end(w, opened);
}

static qn_status write_config(tfevents *w, const char *json) {
    qn_setup *arena = NULL;
    qni_facts facts;
    qn_status status;
    QN_TRY_GOTO(write_config_text(w, json));
    QN_TRY_GOTO(qn_setup_create("hyper-parameters", &arena));
    QN_TRY_GOTO(qni_facts_parse(arena, "resolved configuration", json, strlen(json), &facts));
    write_experiment(w, &facts);
    write_session_start(w, &facts);
done:
    qn_setup_free(arena);
    return status;
}

/* ---- the sink -------------------------------------------------------------------------------- */

static void tfevents_emit(void *self, qn_event event, const qn_record *r, const char *text) {
    tfevents *w = self;
    if (r) w->step = r->step;
    write_scalars(w, r);
    if (event == QN_EVENT_NOTE) write_text(w, "notes/text_summary", text ? text : "");
    if (event == QN_EVENT_END) write_session_end(w, r);
}

static void tfevents_free(void *self) {
    tfevents *w = self;
    if (!w) return;
    qni_rows_close(&w->file);
    qn_text_free(&w->record);
    qn_free(w);
}

/* Creates the file of the first number that is free. */
static qn_status create_file(const qn_tfevents_options *o, double now, char *path, size_t size) {
    char host[256] = "localhost";
    if (!o->host && gethostname(host, sizeof host - 1) == 0) host[sizeof host - 1] = '\0';
    for (int number = 0;; number++) {
        QN_TRY(qn_path_format(path, size, "%s/events.out.tfevents.%010lld.%s.%lld.%d", o->directory,
                              (long long)now, o->host ? o->host : host,
                              (long long)(o->pid ? o->pid : getpid()), number));
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0) {
            close(fd);
            return QN_OK;
        }
        if (errno != EEXIST) return qn_fail_errno(path, "creating the event file");
    }
}

qn_status qn_sink_tfevents(const qn_tfevents_options *o, qn_sink *out) {
    char path[QN_PATH_MAX];
    qn_status status;
    tfevents *w = qn_alloc(sizeof *w, "the TensorBoard sink");
    if (!w) return QN_ERR_OOM;
    w->file.fd = -1;
    w->wall = o->wall ? o->wall : qni_wall_clock;
    QN_TRY_GOTO(qn_dir_create(o->directory));
    QN_TRY_GOTO(create_file(o, w->wall(), path, sizeof path));
    QN_TRY_GOTO(qni_rows_open(path, false, o->notices, &w->file));
    write_version(w);
    if (o->config_json) QN_TRY_GOTO(write_config(w, o->config_json));
    *out = (qn_sink){.self = w, .emit = tfevents_emit, .free = tfevents_free};
done:
    if (status != QN_OK) tfevents_free(w);
    return status;
}
