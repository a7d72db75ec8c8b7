/* harness_training.c — the small run of harness_training.h. */
#include "tests/harness_training.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN_ROWS = 24, VAL_ROWS = 10, ROWS = TRAIN_ROWS + VAL_ROWS };
enum { FEATURES = 6, CLASSES = 3, TIME = 8, VOCAB = 13 };

/* ---- data ------------------------------------------------------------------------------------ */

static size_t row_bytes(const qn_field *f) {
    qn_tensor row = qn_tensor_make(NULL, f->dtype, f->ndim, f->shape);
    return qn_tensor_bytes(&row);
}

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    const qn_memory *m = self;
    int64_t n_train = m->source.n[QN_SPLIT_TRAIN], n = m->source.n[split];
    int last = m->source.n_fields - 1;
    int64_t items = (int64_t)row_bytes(&m->source.field[last]) / (int64_t)sizeof(int32_t);
    *labels = 0;
    for (int64_t i = 0; i < count; i++) {
        int64_t row = position + i;
        bool padding = split != QN_SPLIT_TRAIN && row >= n;
        row = split == QN_SPLIT_TRAIN ? row % n : n_train + row;
        for (int k = 0; k <= last; k++) {
            size_t bytes = row_bytes(&m->source.field[k]);
            char *to = (char *)dst[k] + (size_t)i * bytes;
            if (padding) {
                memset(to, 0, bytes);
            } else {
                memcpy(to, (const char *)m->data[k] + (size_t)row * bytes, bytes);
            }
        }
        int32_t *target = (int32_t *)dst[last] + i * items;
        for (int64_t j = 0; j < items; j++) {
            if (padding) target[j] = QN_IGNORE_INDEX;
            *labels += target[j] != QN_IGNORE_INDEX;
        }
    }
    return QN_OK;
}

static void *room(size_t n, size_t size) {
    void *p = calloc(n, size);
    if (!p) fail_msg("out of memory");
    return p;
}

/* Overlapping clouds, one per class: learnable, and never perfectly. */
static void make_clouds(qn_rig *r) {
    float *x = room(ROWS * FEATURES, sizeof *x);
    int32_t *y = room(ROWS, sizeof *y);
    for (int i = 0; i < ROWS; i++) {
        y[i] = i % CLASSES;
        for (int j = 0; j < FEATURES; j++) {
            double centre = j % CLASSES == y[i] ? 0.8 : 0.0;
            x[i * FEATURES + j] = (float)(centre + qn_rng_normal(7, 0, (uint64_t)(i * 64 + j)));
        }
    }
    r->data.data[0] = x;
    r->data.data[1] = y;
    r->data.source.field[0] = (qn_field){"features", QN_F32, 1, {FEATURES}};
    r->data.source.field[1] = (qn_field){"targets", QN_I32, 0, {0}};
    r->data.source.classes = CLASSES;
}

/* Each token is mostly the one before plus three; some targets do not count. */
static void make_language(qn_rig *r) {
    int32_t *x = room(ROWS * TIME, sizeof *x), *y = room(ROWS * TIME, sizeof *y);
    for (int i = 0; i < ROWS; i++) {
        int32_t token = (int32_t)(qn_random_u32(8, 0, (uint64_t)i) % VOCAB);
        for (int t = 0; t < TIME; t++) {
            uint32_t draw = qn_random_u32(9, (uint64_t)i, (uint64_t)t);
            x[i * TIME + t] = token;
            token = draw % 4 ? (token + 3) % VOCAB : (int32_t)(draw / 4 % VOCAB);
            y[i * TIME + t] = draw % 7 ? token : QN_IGNORE_INDEX;
        }
    }
    r->data.data[0] = x;
    r->data.data[1] = y;
    r->data.source.field[0] = (qn_field){"tokens", QN_I32, 1, {TIME}};
    r->data.source.field[1] = (qn_field){"targets", QN_I32, 1, {TIME}};
    r->data.source.classes = VOCAB;
}

/* ---- the rig --------------------------------------------------------------------------------- */

void qn_rig_defaults(qn_rig *r, const char *type) {
    bool mlp = strcmp(type, "mlp") == 0, gpt2 = strcmp(type, "gpt2") == 0;
    *r = (qn_rig){.objective_type = mlp ? "classify" : "lm"};
    r->config = (qn_model_config){.type = type,
                                  .vocab_size = VOCAB,
                                  .hidden_size = 16,
                                  .num_hidden_layers = 2,
                                  .num_attention_heads = 2,
                                  .num_key_value_heads = gpt2 ? 2 : 1,
                                  .head_dim = 8,
                                  .intermediate_size = 24,
                                  .max_position_embeddings = TIME,
                                  .tie_word_embeddings = gpt2,
                                  .bias = gpt2,
                                  .norm_eps = 1e-5,
                                  .rotary.theta = 10000,
                                  .initializer_range = 0.1,
                                  .activation = gpt2 ? QN_ACT_GELU_TANH : QN_ACT_GELU,
                                  .n_hidden = 2,
                                  .hidden_sizes = {8, 7},
                                  .features = FEATURES,
                                  .classes = CLASSES};
    r->optimizer_config = (qn_optimizer_config){
        .type = "adamw", .lr = 1e-2, .weight_decay = 0.1, .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
    r->options = (qn_session_options){.seed = 1,
                                      .device = QN_CPU,
                                      .precision = QN_PRECISION_F32,
                                      .threads = 1,
                                      .batch_size = 4,
                                      .eval_batch_size = 4,
                                      .accumulate = 2,
                                      .clip_norm = 1.0,
                                      .evaluate = true};
    r->data.source = (qn_source){
        .self = &r->data, .n_fields = 2, .n = {TRAIN_ROWS, VAL_ROWS, 0}, .fetch = fetch};
    if (mlp) {
        make_clouds(r);
    } else {
        make_language(r);
    }
}

qn_status qn_rig_declare(qn_rig *r, qn_params **out) {
    QN_TRY(qn_model_create(&r->config, &r->model));
    QN_TRY(qn_objective_create(r->objective_type, &r->objective_config, &r->objective));
    QN_TRY(qn_optimizer_create(&r->optimizer_config, &r->optimizer));
    qn_params *p;
    QN_TRY(qn_params_create(&p));
    qn_status s = r->model.declare(r->model.self, p);
    if (s == QN_OK && r->lora) s = qn_lora_declare(r->lora, p);
    if (s != QN_OK) {
        qn_params_free(p);
        return s;
    }
    *out = p;
    return QN_OK;
}

qn_status qn_rig_open(qn_rig *r) {
    qn_params *p;
    r->session = NULL;
    QN_TRY(qn_rig_declare(r, &p));
    QN_TRY(qn_session_create(&r->options, &r->model, &r->objective, &r->optimizer, &r->data.source,
                             p, &r->session));
    if (r->options.plan_only) return QN_OK;
    QN_TRY(qn_params_init(p, r->options.seed, r->options.threads));
    return qn_lora_init_magnitudes(p);
}

void qn_rig_close_session(qn_rig *r) {
    qn_session_free(r->session);
    r->session = NULL;
}

void qn_rig_free(qn_rig *r) {
    qn_rig_close_session(r);
    for (int i = 0; i < QN_MAX_FIELDS; i++) free(r->data.data[i]);
}

qn_status qn_rig_step(qn_rig *r, int64_t step, double lr, qn_step_report *report) {
    qn_session *s = r->session;
    int64_t labels = 0, batch = s->o.batch_size;
    for (int64_t m = 0; m < s->o.accumulate; m++) {
        void *dst[QN_MAX_FIELDS];
        int64_t count;
        for (int i = 0; i < s->source->n_fields; i++) {
            dst[i] = (char *)s->staging[i].data + (size_t)m * qn_tensor_bytes(&s->field[i]);
        }
        QN_TRY(s->source->fetch(s->source->self, QN_SPLIT_TRAIN,
                                (step * s->o.accumulate + m) * batch, batch, dst, &count));
        labels += count;
    }
    return qn_session_step(s, step, lr, labels, report);
}

uint64_t qn_rig_hash(const qn_rig *r, const qn_tensor *t) {
    qn_tensor here = *t;
    here.data = room(1, qn_tensor_bytes(t) + 1);
    qn_assert_ok(qn_device_copy(r->options.device, here.data, t->data, qn_tensor_bytes(t)));
    uint64_t hash = qn_hash_tensor(&here);
    free(here.data);
    return hash;
}

uint64_t qn_rig_digest(const qn_rig *r) {
    const qn_params *p = r->session->params;
    const qn_tensor *all[] = {&p->weights,   &p->master,         &p->moment[0],
                              &p->moment[1], &r->session->hyper, &r->session->guard};
    uint64_t digest = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->data) digest = digest * 0x9E3779B97F4A7C15u + qn_rig_hash(r, all[i]);
    }
    return digest;
}

/* ---- what a run did -------------------------------------------------------------------------- */

void qn_log_line(qn_log *l, const char *format, ...) {
    size_t used = strlen(l->text);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(l->text + used, sizeof l->text - used, format, args);
    va_end(args);
    if (n < 0 || used + (size_t)n + 2 > sizeof l->text) fail_msg("the log of the run is full");
    strcat(l->text, "\n");
}

static void log_emit(void *self, qn_event event, const qn_record *r, const char *text) {
    static const char *const names[] = {"train", "eval", "checkpoint", "note", "end"};
    qn_log *l = self;
    if (event == QN_EVENT_TRAIN && l->quiet_train) return;
    qn_log_line(l, "%s %lld%s%s", names[event], (long long)r->step, text ? ": " : "",
                text ? text : "");
}

qn_sink qn_log_sink(qn_log *l) { return (qn_sink){.self = l, .emit = log_emit}; }

int qn_log_count(const qn_log *l, const char *part) {
    int n = 0;
    char copy[sizeof l->text];
    memcpy(copy, l->text, sizeof copy);
    for (char *rest = copy, *line; (line = strsep(&rest, "\n"));) n += strstr(line, part) != NULL;
    return n;
}

/* What a checkpoint holds of a session. */
enum { SAVED = 7 };
static void saved_tensors(const qn_session *s, const qn_tensor **out) {
    const qn_params *p = s->params;
    const qn_tensor *all[SAVED] = {&p->weights, &p->master, &p->moment[0], &p->moment[1],
                                   &p->best,    &s->hyper,  &s->guard};
    memcpy(out, all, sizeof all);
}

static qn_status vault_save(void *self, const qn_session *s, const qn_progress *p,
                            const qn_stopper *st) {
    qn_vault *v = self;
    if (v->n == QN_VAULT_MAX) fail_msg("the vault is full");
    qn_vault_item *item = &v->item[v->n++];
    const qn_tensor *all[SAVED];
    size_t bytes = 0;
    item->progress = *p;
    saved_tensors(s, all);
    for (int i = 0; i < SAVED; i++) bytes += qn_tensor_bytes(all[i]);
    char *at = item->state = room(1, bytes);
    for (int i = 0; i < SAVED; i++) {
        if (all[i]->data)
            QN_TRY(qn_device_copy(s->o.device, at, all[i]->data, qn_tensor_bytes(all[i])));
        at += qn_tensor_bytes(all[i]);
    }
    if (st) {
        assert_in_range(st->n_state, 1, sizeof item->stopper / sizeof *item->stopper);
        memcpy(item->stopper, st->state, (size_t)st->n_state * sizeof *st->state);
    }
    if (v->log) qn_log_line(v->log, "save %lld", (long long)p->step);
    return QN_OK;
}

void qn_vault_load(const qn_vault *v, int i, qn_session *s, qn_progress *p, qn_stopper *st) {
    const qn_vault_item *item = &v->item[i];
    const qn_tensor *all[SAVED];
    const char *at = item->state;
    *p = item->progress;
    saved_tensors(s, all);
    for (int k = 0; k < SAVED; k++) {
        if (all[k]->data)
            qn_assert_ok(qn_device_copy(s->o.device, all[k]->data, at, qn_tensor_bytes(all[k])));
        at += qn_tensor_bytes(all[k]);
    }
    if (st) memcpy(st->state, item->stopper, (size_t)st->n_state * sizeof *st->state);
}

static qn_status vault_load_last(void *self, qn_session *s, qn_progress *p, qn_stopper *st) {
    const qn_vault *v = self;
    if (v->n == 0) return qn_fail(QN_ERR_IO, "no checkpoint to roll back to");
    qn_vault_load(v, v->n - 1, s, p, st);
    if (v->log) qn_log_line(v->log, "load %lld", (long long)p->step);
    return QN_OK;
}

static qn_status vault_finish(void *self) {
    const qn_vault *v = self;
    if (v->log) qn_log_line(v->log, "finish");
    return QN_OK;
}

qn_saver qn_vault_saver(qn_vault *v) {
    return (qn_saver){
        .self = v, .save = vault_save, .load_last = vault_load_last, .finish = vault_finish};
}

void qn_vault_free(qn_vault *v) {
    for (int i = 0; i < v->n; i++) free(v->item[i].state);
    v->n = 0;
}

/* ---- bad data -------------------------------------------------------------------------------- */

static qn_status fetch_poisoned(void *self, qn_split split, int64_t position, int64_t count,
                                void *const *dst, int64_t *labels) {
    const qn_poison *p = self;
    QN_TRY(p->inner.fetch(p->inner.self, split, position, count, dst, labels));
    size_t row = row_bytes(&p->inner.field[0]) / sizeof(float);
    for (int k = 0; k < 8 && split == QN_SPLIT_TRAIN; k++) {
        int64_t at = p->position[k] - position;
        if (p->position[k] >= 0 && at >= 0 && at < count) {
            ((float *)dst[0])[(size_t)at * row] *= p->factor;
        }
    }
    return QN_OK;
}

void qn_poison_source(qn_poison *p, qn_rig *r, float factor, int64_t position) {
    *p = (qn_poison){.inner = r->data.source, .factor = factor};
    for (int k = 0; k < 8; k++) p->position[k] = k ? -1 : position;
    r->data.source.self = p;
    r->data.source.fetch = fetch_poisoned;
}
