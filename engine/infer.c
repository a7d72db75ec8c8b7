/* infer.c — inference programs: predict over batches; prefill and decode against a cache. */
#include "engine/infer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static qn_tape_options inference_tape(const char *name, const qn_infer_options *o) {
    return (qn_tape_options){
        .name = name, .threads = o->threads, .device = o->device, .no_graph = o->no_graph};
}

/* The program takes the tape over whatever happens. */
static qn_status plan_and_bind(qn_tape *t, qn_status recorded, qn_device device,
                               qn_program **program, qn_arena **pool) {
    if (recorded == QN_OK) recorded = qn_tape_status(t);
    if (recorded != QN_OK) {
        qn_tape_free(t);
        return recorded;
    }
    QN_TRY(qn_program_create(t, program));
    QN_TRY(qn_arena_create_on(device, "inference pool", qn_program_pool_bytes(*program), pool));
    return qn_program_bind(*program, device, *pool);
}

/* Memory that the host writes or reads and a program of `device` sees: one block on the host's
 * devices, else two of which one is copied to the other. */
typedef struct mirror {
    qn_device device;
    size_t bytes;
    qn_arena *staging; /* NULL where the host sees `there` */
    char *here, *there;
} mirror;

/* there: memory of the device that lives longer. */
static qn_status mirror_create(qn_device d, void *there, size_t bytes, mirror *out) {
    *out = (mirror){.device = d, .bytes = bytes, .here = there, .there = there};
    if (!qn_device_get(d)->separate) return QN_OK;
    QN_TRY(qn_arena_create_staging(d, "inference staging", bytes, &out->staging));
    out->here = qn_arena_base(out->staging);
    return QN_OK;
}

static void mirror_free(mirror *m) { qn_arena_free(m->staging); }

/* Enqueued: what is here must not change before the next `show` or wait. */
static qn_status mirror_send(const mirror *m) {
    return qn_device_get(m->device)->copy(m->there, m->here, m->bytes, NULL);
}

static qn_status mirror_show(const mirror *m) {
    return qn_device_copy(m->device, m->here, m->there, m->bytes);
}

/* ---- predictor ------------------------------------------------------------------------------- */

struct qn_predictor {
    qn_program *program;
    qn_arena *input, *pool;
    qn_value *kept;
    mirror in, out;
    qn_tensor output; /* the kept value where the host reads it */
};

static qn_status record_predict(qn_predictor *p, qn_tape *t, const qn_model *model,
                                const qn_params *params, const qn_tensor *input,
                                bool probabilities) {
    qn_graph g;
    QN_TRY(qn_graph_create(t, params, false, &g));
    qn_value *field = qn_tape_given(t, "features", QN_CLASS_INPUT, input, false);
    qn_output out = {0};
    qn_forward in = {.field = &field, .n_fields = 1};
    QN_TRY(model->forward(model->self, &g, &in, &out));
    if (!out.logits)
        return qn_fail(QN_ERR_UNSUPPORTED, "predict: this model gives hidden states, not outputs");
    qn_value *y = probabilities ? qn_softmax(t, out.logits) : out.logits;
    p->kept = qn_tape_keep(t, y, "output");
    return qn_tape_status(t);
}

qn_status qn_predictor_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, const qn_field *field, bool probabilities,
                              qn_predictor **out) {
    qn_predictor *p = qn_alloc(sizeof *p, "a predictor");
    if (!p) return QN_ERR_OOM;
    qn_status status;
    int64_t shape[QN_MAX_DIMS] = {o->batch_size};
    for (int i = 0; i < field->ndim; i++) shape[i + 1] = field->shape[i];
    qn_tensor input = qn_tensor_make(NULL, field->dtype, field->ndim + 1, shape);
    size_t bytes = qn_tensor_bytes(&input);
    QN_TRY_GOTO(qn_arena_create_on(o->device, "inference input", bytes, &p->input));
    input.data = qn_arena_base(p->input);
    QN_TRY_GOTO(mirror_create(o->device, input.data, bytes, &p->in));
    qn_tape_options options = inference_tape("predict", o);
    qn_tape *t;
    QN_TRY_GOTO(qn_tape_create(&options, &t));
    status = record_predict(p, t, model, params, &input, probabilities);
    QN_TRY_GOTO(plan_and_bind(t, status, o->device, &p->program, &p->pool));
    p->output = p->kept->t;
    QN_TRY_GOTO(mirror_create(o->device, p->output.data, qn_tensor_bytes(&p->output), &p->out));
    p->output.data = p->out.here;
    *out = p;
    return QN_OK;
done:
    qn_predictor_free(p);
    return status;
}

void qn_predictor_free(qn_predictor *p) {
    if (!p) return;
    qn_program_free(p->program);
    mirror_free(&p->in);
    mirror_free(&p->out);
    qn_arena_free(p->pool);
    qn_arena_free(p->input);
    qn_free(p);
}

void *qn_predictor_input(qn_predictor *p) { return p->in.here; }

qn_status qn_predictor_run(qn_predictor *p) {
    QN_TRY(mirror_send(&p->in));
    QN_TRY(qn_program_replay(p->program));
    return mirror_show(&p->out);
}

const qn_tensor *qn_predictor_output(const qn_predictor *p) { return &p->output; }

/* ---- generator ------------------------------------------------------------------------------- */

enum { PREFILL, DECODE, N_PROGRAMS, CHUNK = 64 };

struct qn_generator {
    const qn_model *model;
    const qn_params *params;
    int64_t capacity, position, chunk; /* chunk: tokens of one prefill replay */
    qn_arena *memory;                  /* cache and step values */
    qn_arena *pool[N_PROGRAMS];
    qn_program *program[N_PROGRAMS];
    qn_value *kept[N_PROGRAMS];
    mirror out[N_PROGRAMS];
    qn_tensor logits[N_PROGRAMS]; /* the kept value where the host reads it */
    int last;                     /* program replayed last */
    mirror in;                    /* tokens of a chunk, start, pick */
    char *cache;
};

static int32_t *words(const char *in) { return (int32_t *)(uintptr_t)in; }

/* cache: per layer keys, then values; (1, capacity, heads, size). */
static qn_tensor cache_tensor(const qn_generator *g, int64_t index) {
    const int64_t *c = g->model->cache_shape;
    qn_tensor t =
        qn_tensor_make(NULL, g->params->weights.dtype, QN_SHAPE(1, g->capacity, c[0], c[1]));
    t.data = g->cache + index * (int64_t)qn_tensor_bytes(&t);
    return t;
}

static qn_status record_generate(qn_generator *g, qn_tape *t, int kind) {
    qn_graph graph;
    QN_TRY(qn_graph_create(t, g->params, false, &graph));
    int64_t width = kind == PREFILL ? g->chunk : 1;
    int32_t *in_place = words(g->in.there);
    qn_tensor tokens = qn_tensor_make(in_place, QN_I32, QN_SHAPE(1, width));
    qn_tensor start = qn_tensor_make(in_place + g->chunk, QN_I32, 0, NULL),
              pick = qn_tensor_make(in_place + g->chunk + 1, QN_I32, QN_SHAPE(1));
    qn_value *field = qn_tape_given(t, "tokens", QN_CLASS_INPUT, &tokens, false);
    qn_cache *cache = qn_alloc((size_t)g->model->layers * sizeof *cache, "cache values");
    if (!cache) return QN_ERR_OOM;
    for (int i = 0; i < g->model->layers; i++) {
        qn_tensor k = cache_tensor(g, 2 * i), v = cache_tensor(g, 2 * i + 1);
        cache[i].k = qn_tape_given(t, "cache.k", QN_CLASS_BUFFER, &k, false);
        cache[i].v = qn_tape_given(t, "cache.v", QN_CLASS_BUFFER, &v, false);
    }
    qn_forward in = {.field = &field,
                     .n_fields = 1,
                     .cache = cache,
                     .start = qn_tape_given(t, "start", QN_CLASS_INPUT, &start, false)};
    qn_output out = {0};
    qn_status status = g->model->forward(g->model->self, &graph, &in, &out);
    qn_free(cache);
    if (status != QN_OK) return status;
    if (!out.hidden)
        return qn_fail(QN_ERR_UNSUPPORTED, "generate: this model does not continue sequences");
    /* One row of the hidden states, looked up like a word: that of the last real token. */
    int64_t c = out.hidden->t.shape[out.hidden->t.ndim - 1];
    qn_value *rows = qn_reshape(t, out.hidden, 2, (int64_t[]){width, c});
    qn_value *row =
        qn_embedding(t, qn_tape_given(t, "pick", QN_CLASS_INPUT, &pick, false), rows, NULL, NULL);
    qn_value *y = qn_linear(t, row, out.head_weight, out.head_bias, QN_ACT_NONE, NULL);
    y = qn_reshape(t, y, 1, (int64_t[]){-1});
    g->kept[kind] = qn_tape_keep(t, y, "logits");
    return qn_tape_status(t);
}

static qn_status allocate(qn_generator *g, qn_device d) {
    qn_tensor one = cache_tensor(g, 0);
    int64_t cache = 2 * (int64_t)g->model->layers * (int64_t)qn_tensor_bytes(&one);
    size_t input = (size_t)(g->chunk + 2) * sizeof(int32_t);
    QN_TRY(qn_arena_create_on(d, "generation cache", (size_t)cache + input, &g->memory));
    g->cache = qn_arena_base(g->memory);
    return mirror_create(d, g->cache + cache, input, &g->in);
}

static qn_status show_logits(qn_generator *g, qn_device d, int kind) {
    qn_tensor *t = &g->logits[kind];
    *t = g->kept[kind]->t;
    QN_TRY(mirror_create(d, t->data, qn_tensor_bytes(t), &g->out[kind]));
    t->data = g->out[kind].here;
    return QN_OK;
}

qn_status qn_generator_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, int64_t capacity, qn_generator **out) {
    qn_generator *g = qn_alloc(sizeof *g, "a generator");
    if (!g) return QN_ERR_OOM;
    qn_status status = QN_OK;
    *g = (qn_generator){.model = model, .params = params, .capacity = capacity};
    if (model->max_positions > 0 && g->capacity > model->max_positions)
        g->capacity = model->max_positions;
    if (g->capacity < 1) g->capacity = 1;
    g->chunk = g->capacity < CHUNK ? g->capacity : CHUNK;
    QN_TRY_GOTO(allocate(g, o->device));
    for (int k = 0; k < N_PROGRAMS; k++) {
        qn_tape_options options = inference_tape(k == PREFILL ? "prefill" : "decode", o);
        qn_tape *t;
        QN_TRY_GOTO(qn_tape_create(&options, &t));
        status = record_generate(g, t, k);
        QN_TRY_GOTO(plan_and_bind(t, status, o->device, &g->program[k], &g->pool[k]));
        QN_TRY_GOTO(show_logits(g, o->device, k));
    }
    *out = g;
    return QN_OK;
done:
    qn_generator_free(g);
    return status;
}

void qn_generator_free(qn_generator *g) {
    if (!g) return;
    for (int k = 0; k < N_PROGRAMS; k++) {
        qn_program_free(g->program[k]);
        mirror_free(&g->out[k]);
        qn_arena_free(g->pool[k]);
    }
    mirror_free(&g->in);
    qn_arena_free(g->memory);
    qn_free(g);
}

void qn_generator_reset(qn_generator *g) { g->position = 0; }
int64_t qn_generator_position(const qn_generator *g) { return g->position; }
int64_t qn_generator_capacity(const qn_generator *g) { return g->capacity; }
const qn_tensor *qn_generator_logits(const qn_generator *g) { return &g->logits[g->last]; }

qn_status qn_generator_feed(qn_generator *g, const int32_t *ids, int64_t n) {
    if (n > g->capacity - g->position) {
        return qn_fail(QN_ERR_USAGE, "generate: %lld tokens after %lld, the context holds %lld",
                       (long long)n, (long long)g->position, (long long)g->capacity);
    }
    int32_t *tokens = words(g->in.here);
    while (n > 0) {
        /* A chunk must lie inside the cache with its padding; the rest goes token by token. */
        bool whole = n > 1 && g->position + g->chunk <= g->capacity;
        int64_t take = !whole ? 1 : n < g->chunk ? n : g->chunk;
        g->last = whole ? PREFILL : DECODE;
        memset(tokens, 0, (size_t)g->chunk * sizeof *tokens);
        memcpy(tokens, ids, (size_t)take * sizeof *ids);
        tokens[g->chunk] = (int32_t)g->position;
        tokens[g->chunk + 1] = (int32_t)take - 1;
        QN_TRY(mirror_send(&g->in));
        QN_TRY(qn_program_replay(g->program[g->last]));
        QN_TRY(mirror_show(&g->out[g->last]));
        g->position += take;
        ids += take;
        n -= take;
    }
    return QN_OK;
}

/* ---- sampling -------------------------------------------------------------------------------- */

/* Moves the `most` largest weights to the front, in falling order; ties keep the smaller token
 * first. */
static void sift(const double *w, int32_t *heap, int64_t n, int64_t i) {
    for (;;) {
        int64_t top = i, left = 2 * i + 1, right = left + 1;
        for (int64_t c = left; c <= right && c < n; c++) {
            if (w[heap[c]] > w[heap[top]] || (w[heap[c]] == w[heap[top]] && heap[c] < heap[top]))
                top = c;
        }
        if (top == i) return;
        int32_t swap = heap[i];
        heap[i] = heap[top];
        heap[top] = swap;
        i = top;
    }
}

int32_t qn_sample(const qn_tensor *logits, const qn_sampling *s, int64_t draw, int32_t *order,
                  double *weight) {
    int64_t n = qn_tensor_count(logits);
    double top = -INFINITY;
    int32_t best = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = qn_tensor_get(logits, i);
        if (v > top) {
            top = v;
            best = (int32_t)i;
        }
    }
    if (s->temperature <= 0) return best;
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        weight[i] = exp((qn_tensor_get(logits, i) - top) / s->temperature);
        order[i] = (int32_t)i;
        total += weight[i];
    }
    double target = qn_rng_uniform(qn_rng_key(s->seed, "generate", "sample"), (uint64_t)draw, 0);
    int64_t most = s->top_k > 0 && s->top_k < n ? s->top_k : n;
    /* Take tokens in falling order off a heap until k tokens or probability p are gathered. */
    for (int64_t i = n / 2 - 1; i >= 0; i--) sift(weight, order, n, i);
    double gathered = 0;
    int64_t taken = 0;
    while (taken < most && (taken == 0 || gathered < s->top_p * total)) {
        int64_t last = n - 1 - taken;
        int32_t swap = order[0];
        order[0] = order[last];
        order[last] = swap;
        gathered += weight[swap];
        taken++;
        sift(weight, order, last, 0);
    }
    target *= gathered;
    for (int64_t i = 0; i < taken; i++) {
        int32_t token = order[n - 1 - i];
        target -= weight[token];
        if (target < 0) return token;
    }
    return order[n - taken];
}
