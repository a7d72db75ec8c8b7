/* gpu_session.c — GPT-2 trained step by step from outside: the session of quern train, without
 * files, with weights and batches that the caller hands in.
 */
#include "bench/gpu/gpu_entry.h"
#include "layers/layers.h"
#include "optim/optim.h"

#include <string.h>

struct qn_gpu_training {
    qn_model_config config;
    qn_objective_config objective_config;
    qn_optimizer_config optimizer_config;
    qn_model model;
    qn_objective objective;
    qn_optimizer optimizer;
    qn_source source;
    qn_session *session;
    int64_t step;
    bool weights_changed; /* masters are newer than the weights made of them */
};

static qn_status fetch(void *self, qn_split split, int64_t position, int64_t count,
                       void *const *dst, int64_t *labels) {
    (void)self;
    (void)split;
    (void)position;
    (void)count;
    (void)dst;
    *labels = 0;
    return qn_fail(QN_ERR_INTERNAL, "batches are handed in, not fetched");
}

static qn_status parse_precision(const char *name, qn_precision *out) {
    static const qn_precision known[] = {QN_PRECISION_F32, QN_PRECISION_BF16, QN_PRECISION_BF16_SR,
                                         QN_PRECISION_F64};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *out = known[i];
        if (strcmp(qn_precision_name(known[i]), name) == 0) return QN_OK;
    }
    return qn_fail(QN_ERR_USAGE, "precision is \"%s\", expected f32, bf16, bf16_sr or f64", name);
}

static void configure(qn_gpu_training *t, const qn_gpu_model *m) {
    t->config = (qn_model_config){.type = "gpt2",
                                  .vocab_size = m->vocab_size,
                                  .hidden_size = m->hidden_size,
                                  .num_hidden_layers = m->layers,
                                  .num_attention_heads = m->heads,
                                  .num_key_value_heads = m->heads,
                                  .head_dim = m->hidden_size / m->heads,
                                  .intermediate_size = 4 * m->hidden_size,
                                  .max_position_embeddings = m->positions,
                                  .tie_word_embeddings = true,
                                  .bias = true,
                                  .norm_eps = 1e-5,
                                  .initializer_range = 0.02,
                                  .activation = QN_ACT_GELU_TANH};
    t->optimizer_config = (qn_optimizer_config){.type = "adamw",
                                                .lr = m->lr,
                                                .weight_decay = m->weight_decay,
                                                .beta1 = m->beta1,
                                                .beta2 = m->beta2,
                                                .eps = m->eps};
    t->source = (qn_source){.n_fields = 2, .n = {1, 0, 0}, .fetch = fetch};
    t->source.classes = m->vocab_size;
    t->source.field[0] = (qn_field){"tokens", QN_I32, 1, {m->positions}};
    t->source.field[1] = (qn_field){"targets", QN_I32, 1, {m->positions}};
}

static qn_status open_session(qn_gpu_training *t, const qn_gpu_model *m) {
    char text[256];
    qn_session_options o = {.seed = (uint64_t)m->seed,
                            .threads = qn_parallel_max_threads(),
                            .batch_size = m->batch_size,
                            .eval_batch_size = m->batch_size,
                            .accumulate = m->accumulate,
                            .clip_norm = m->clip_norm};
    if (m->heads < 1 || m->hidden_size % m->heads != 0)
        return qn_fail(QN_ERR_USAGE, "hidden_size is no multiple of heads");
    QN_TRY(parse_precision(m->precision, &o.precision));
    QN_TRY(qn_device_resolve(m->device, false, &o.device, text, sizeof text));
    configure(t, m);
    QN_TRY(qn_model_create(&t->config, &t->model));
    QN_TRY(qn_objective_create("lm", &t->objective_config, &t->objective));
    QN_TRY(qn_optimizer_create(&t->optimizer_config, &t->optimizer));
    qn_params *p;
    QN_TRY(qn_params_create(&p));
    qn_status s = t->model.declare(t->model.self, p);
    if (s != QN_OK) {
        qn_params_free(p);
        return s;
    }
    QN_TRY(
        qn_session_create(&o, &t->model, &t->objective, &t->optimizer, &t->source, p, &t->session));
    return qn_params_init(p, o.seed, o.threads);
}

int qn_gpu_train_open(const qn_gpu_model *model, qn_gpu_training **handle) {
    qn_gpu_training *t = qn_alloc(sizeof *t, "a training");
    if (!t) return QN_ERR_OOM;
    qn_status s = open_session(t, model);
    if (s != QN_OK) {
        qn_gpu_train_close(t);
        return (int)s;
    }
    *handle = t;
    return QN_OK;
}

void qn_gpu_train_close(qn_gpu_training *t) {
    if (!t) return;
    qn_session_free(t->session);
    qn_free(t);
}

/* ---- weights --------------------------------------------------------------------------------- */

int qn_gpu_train_param(const qn_gpu_training *t, int i, const char **name, int *transposed,
                       int64_t *count) {
    const qn_params *p = t->session->params;
    if (i >= p->n) return 0;
    *name = p->item[i].hf_name;
    *transposed = p->item[i].hf_transposed;
    *count = p->item[i].count;
    return 1;
}

int qn_gpu_train_set(qn_gpu_training *t, int i, const float *values, int64_t count) {
    const qn_params *p = t->session->params;
    if (i < 0 || i >= p->n || count != p->item[i].count)
        return qn_fail(QN_ERR_USAGE, "parameter %d does not have %lld values", i, (long long)count);
    bool master = qn_tensor_count(&p->master) > 0 && p->master.data;
    qn_tensor to = qn_param_tensor(p, i, master ? &p->master : &p->weights), host = to;
    host.data = qn_alloc(qn_tensor_bytes(&to) + 1, "a parameter");
    if (!host.data) return QN_ERR_OOM;
    for (int64_t k = 0; k < count; k++) qn_tensor_set(&host, k, (double)values[k]);
    qn_status s = qn_device_copy(p->device, to.data, host.data, qn_tensor_bytes(&to));
    qn_free(host.data);
    t->weights_changed |= master;
    return (int)s;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* Puts the batch where the next step takes it from, and submits that step. */
static qn_status submit(qn_gpu_training *t, const int32_t *tokens, const int32_t *targets) {
    qn_session *s = t->session;
    if (t->weights_changed) {
        QN_TRY(qn_params_sync_weights(s->params));
        t->weights_changed = false;
    }
    size_t bytes = qn_tensor_bytes(&s->staging[0]);
    memcpy(s->staging[0].data, tokens, bytes);
    memcpy(s->staging[1].data, targets, bytes);
    int64_t labels = qn_tensor_count(&s->staging[1]);
    return qn_session_submit(s, t->step++, t->optimizer_config.lr, labels);
}

static qn_status collect(qn_gpu_training *t, qn_step_report *r) {
    QN_TRY(qn_session_collect(t->session, r));
    if (r->applied) return QN_OK;
    return qn_fail(QN_ERR_NONFINITE, "step %lld was refused: loss %g, gradient norm %g",
                   (long long)r->step, r->loss, r->grad_norm);
}

int qn_gpu_train_step(qn_gpu_training *t, const int32_t *tokens, const int32_t *targets,
                      double *loss, double *norm) {
    qn_step_report r;
    QN_TRY(submit(t, tokens, targets));
    QN_TRY(collect(t, &r));
    *loss = r.loss;
    *norm = r.grad_norm;
    return QN_OK;
}

int qn_gpu_train_steps(qn_gpu_training *t, const int32_t *tokens, const int32_t *targets,
                       int64_t steps, double *seconds) {
    qn_step_report r;
    double start = qn_clock();
    for (int64_t i = 0; i < steps; i++) {
        if (qn_session_under_way(t->session) == t->session->n_lanes) QN_TRY(collect(t, &r));
        QN_TRY(submit(t, tokens, targets));
    }
    while (qn_session_under_way(t->session) > 0) QN_TRY(collect(t, &r));
    *seconds = qn_clock() - start;
    return QN_OK;
}

void qn_gpu_train_memory(const qn_gpu_training *t, int64_t *run_bytes, int64_t *pool_bytes) {
    *run_bytes = t->session->run_bytes;
    *pool_bytes = t->session->pool_bytes;
}
