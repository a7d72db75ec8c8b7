/* harness_training.c — the small run of harness_training.h. */
#include "tests/harness_training.h"
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { TRAIN_ROWS = 24, VAL_ROWS = 10, ROWS = TRAIN_ROWS + VAL_ROWS };
enum { FEATURES = 6, CLASSES = 3, TIME = 8, VOCAB = 13 };

/* ---- data ------------------------------------------------------------------------------- */

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

/* ---- the rig ---------------------------------------------------------------------------- */

void qn_rig_defaults(qn_rig *r, const char *type) {
    bool mlp = strcmp(type, "mlp") == 0, gpt2 = strcmp(type, "gpt2") == 0;
    *r = (qn_rig){0};
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
                                  .rope_theta = 10000,
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
    const char *objective = strcmp(r->config.type, "mlp") == 0 ? "classify" : "lm";
    QN_TRY(qn_model_create(&r->config, &r->model));
    QN_TRY(qn_objective_create(objective, &r->objective_config, &r->objective));
    QN_TRY(qn_optimizer_create(&r->optimizer_config, &r->optimizer));
    qn_params *p;
    QN_TRY(qn_params_create(&p));
    qn_status s = r->model.declare(r->model.self, p);
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
    if (!r->options.plan_only) qn_params_init(p, r->options.seed, r->options.threads);
    return QN_OK;
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

uint64_t qn_rig_digest(const qn_rig *r) {
    const qn_params *p = r->session->params;
    const qn_tensor *all[] = {&p->weights,   &p->master,         &p->moment[0],
                              &p->moment[1], &r->session->hyper, &r->session->guard};
    uint64_t digest = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->data) digest = digest * 0x9E3779B97F4A7C15u + qn_hash_tensor(all[i]);
    }
    return digest;
}
