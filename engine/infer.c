/* infer.c — inference programs: predict over batches; prefill and decode against a cache. */
#include "engine/infer.h"

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
    size_t place[QN_MAX_FIELDS]; /* of each field's rows among the input's bytes */
    qn_tensor output;            /* the kept value where the host reads it */
};

static qn_status record_predict(qn_predictor *p, qn_tape *t, const qn_model *model,
                                const qn_params *params, const qn_field *fields,
                                const qn_tensor *input, int n_fields, qn_outcome outcome) {
    qn_graph g;
    qn_value *field[QN_MAX_FIELDS];
    QN_TRY(qn_graph_create(t, params, false, &g));
    for (int i = 0; i < n_fields; i++)
        field[i] = qn_tape_given(t, fields[i].name, QN_CLASS_INPUT, &input[i], false);
    const qn_forward in = {.field = field, .n_fields = n_fields};
    qn_output out = {0};
    QN_TRY(model->forward(model->self, &g, &in, &out));
    if (!out.logits)
        return qn_fail(QN_ERR_UNSUPPORTED, "predict: this model gives hidden states, not outputs");
    qn_value *y = outcome == QN_OUTCOME_SOFTMAX   ? qn_softmax(t, out.logits)
                  : outcome == QN_OUTCOME_SIGMOID ? qn_activate(t, out.logits, QN_ACT_SIGMOID)
                                                  : out.logits;
    p->kept = qn_tape_keep(t, y, "output");
    return qn_tape_status(t);
}

/* The tensors of a batch, each at its place; data is NULL. Returns the bytes of all. */
static size_t place_fields(qn_predictor *p, const qn_field *field, int n_fields, int64_t rows,
                           qn_tensor *out) {
    size_t at = 0;
    for (int k = 0; k < n_fields; k++) {
        int64_t shape[QN_MAX_DIMS] = {rows};
        for (int i = 0; i < field[k].ndim; i++) shape[i + 1] = field[k].shape[i];
        out[k] = qn_tensor_make(NULL, field[k].dtype, field[k].ndim + 1, shape);
        p->place[k] = at;
        at += (qn_tensor_bytes(&out[k]) + 63) / 64 * 64;
    }
    return at;
}

qn_status qn_predictor_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, const qn_field *field, int n_fields,
                              qn_outcome outcome, qn_predictor **out) {
    qn_predictor *p = qn_alloc(sizeof *p, "a predictor");
    if (!p) return QN_ERR_OOM;
    qn_status status;
    qn_tensor input[QN_MAX_FIELDS];
    size_t bytes = place_fields(p, field, n_fields, o->batch_size, input);
    QN_TRY_GOTO(qn_arena_create_on(o->device, "inference input", bytes, &p->input));
    char *base = qn_arena_base(p->input);
    for (int i = 0; i < n_fields; i++) input[i].data = base + p->place[i];
    QN_TRY_GOTO(mirror_create(o->device, base, bytes, &p->in));
    qn_tape_options options = inference_tape("predict", o);
    qn_tape *t;
    QN_TRY_GOTO(qn_tape_create(&options, &t));
    status = record_predict(p, t, model, params, field, input, n_fields, outcome);
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

void *qn_predictor_input(qn_predictor *p, int field) { return p->in.here + p->place[field]; }

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
    int64_t rows, capacity, chunk; /* chunk: tokens of a row in one prefill replay */
    int64_t *position;             /* per row */
    int64_t *fed;                  /* per row, of the present feed */
    int32_t *seen;                 /* (rows, capacity): the tokens before each row's position */
    qn_arena *memory;              /* cache and step values */
    qn_arena *pool[N_PROGRAMS];
    qn_program *program[N_PROGRAMS];
    qn_value *kept[N_PROGRAMS];
    mirror out[N_PROGRAMS];
    qn_tensor logits; /* (rows, vocabulary): of each row's last token, on the host */
    mirror in;        /* tokens of a chunk (rows, chunk), start (rows), pick (rows) */
    char *cache;
};

static int32_t *words(const char *in) { return (int32_t *)(uintptr_t)in; }

/* cache: per layer keys, then values; (rows, capacity, heads, size). */
static qn_tensor cache_tensor(const qn_generator *g, int64_t index) {
    const int64_t *c = g->model->cache_shape;
    qn_tensor t =
        qn_tensor_make(NULL, g->params->weights.dtype, QN_SHAPE(g->rows, g->capacity, c[0], c[1]));
    t.data = g->cache + index * (int64_t)qn_tensor_bytes(&t);
    return t;
}

static qn_status record_generate(qn_generator *g, qn_tape *t, int kind) {
    qn_graph graph;
    QN_TRY(qn_graph_create(t, g->params, false, &graph));
    int64_t width = kind == PREFILL ? g->chunk : 1, rows = g->rows;
    int32_t *in_place = words(g->in.there);
    qn_tensor tokens = qn_tensor_make(in_place, QN_I32, QN_SHAPE(rows, width));
    qn_tensor start = qn_tensor_make(in_place + rows * g->chunk, QN_I32, QN_SHAPE(rows)),
              pick = qn_tensor_make(in_place + rows * (g->chunk + 1), QN_I32, QN_SHAPE(rows));
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
    /* One hidden state a row, looked up like a word: that of its last real token. */
    int64_t c = out.hidden->t.shape[out.hidden->t.ndim - 1];
    qn_value *hidden = qn_reshape(t, out.hidden, 2, (int64_t[]){rows * width, c});
    qn_value *last =
        qn_embedding(t, qn_tape_given(t, "pick", QN_CLASS_INPUT, &pick, false), hidden, NULL, NULL);
    qn_value *y = qn_linear(t, last, out.head_weight, out.head_bias, QN_ACT_NONE, NULL);
    g->kept[kind] = qn_tape_keep(t, y, "logits");
    return qn_tape_status(t);
}

static qn_status allocate(qn_generator *g, qn_device d) {
    qn_tensor one = cache_tensor(g, 0);
    int64_t cache = 2 * (int64_t)g->model->layers * (int64_t)qn_tensor_bytes(&one);
    size_t input = (size_t)(g->rows * (g->chunk + 2)) * sizeof(int32_t);
    g->position = qn_alloc((size_t)g->rows * sizeof *g->position, "a generator");
    g->fed = qn_alloc((size_t)g->rows * sizeof *g->fed, "a generator");
    g->seen = qn_alloc((size_t)(g->rows * g->capacity) * sizeof *g->seen, "a generator");
    if (!g->position || !g->fed || !g->seen) return QN_ERR_OOM;
    memset(g->position, 0, (size_t)g->rows * sizeof *g->position);
    QN_TRY(qn_arena_create_on(d, "generation cache", (size_t)cache + input, &g->memory));
    g->cache = qn_arena_base(g->memory);
    return mirror_create(d, g->cache + cache, input, &g->in);
}

static qn_status make_logits(qn_generator *g) {
    g->logits = g->kept[DECODE]->t;
    g->logits.data = qn_alloc(qn_tensor_bytes(&g->logits), "logits");
    return g->logits.data ? QN_OK : QN_ERR_OOM;
}

qn_status qn_generator_create(const qn_infer_options *o, const qn_model *model,
                              const qn_params *params, int64_t capacity, qn_generator **out) {
    qn_generator *g = qn_alloc(sizeof *g, "a generator");
    if (!g) return QN_ERR_OOM;
    qn_status status = QN_OK;
    *g = (qn_generator){.model = model,
                        .params = params,
                        .capacity = capacity,
                        .rows = o->batch_size > 0 ? o->batch_size : 1};
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
        QN_TRY_GOTO(mirror_create(o->device, g->kept[k]->t.data, qn_tensor_bytes(&g->kept[k]->t),
                                  &g->out[k]));
    }
    QN_TRY_GOTO(make_logits(g));
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
    qn_free(g->logits.data);
    qn_free(g->position);
    qn_free(g->fed);
    qn_free(g->seen);
    qn_free(g);
}

int64_t qn_generator_rows(const qn_generator *g) { return g->rows; }
int64_t qn_generator_capacity(const qn_generator *g) { return g->capacity; }
int64_t qn_generator_position(const qn_generator *g, int64_t row) { return g->position[row]; }
void qn_generator_rewind(qn_generator *g, int64_t row, int64_t position) {
    if (position < g->position[row]) g->position[row] = position;
}

/* The last token is always fed again: logits are kept of the last one fed only. That also covers
 * the last place of a full row, which a rest overwrites. */
int64_t qn_generator_rejoin(qn_generator *g, int64_t row, const int32_t *ids, int64_t n) {
    const int32_t *seen = g->seen + row * g->capacity;
    int64_t same = 0;
    while (same < n - 1 && same < g->position[row] && seen[same] == ids[same]) same++;
    g->position[row] = same;
    return same;
}

qn_tensor qn_generator_logits(const qn_generator *g, int64_t row) {
    qn_tensor all = g->logits;
    int64_t v = all.shape[1];
    char *data = (char *)all.data + row * v * (int64_t)qn_dtype_bytes(all.dtype);
    return qn_tensor_make(data, all.dtype, QN_SHAPE(v));
}

/* A chunk's padding is written behind a row's tokens, where later ones overwrite it; it must lie
 * inside the cache. Rows that have no room for a chunk make all go token by token. */
static int64_t choose_width(const qn_generator *g, const int64_t *n) {
    bool worth = false;
    for (int64_t r = 0; r < g->rows; r++) {
        if (n[r] - g->fed[r] > 1) worth = true;
        if (g->position[r] + g->chunk > g->capacity) return 1;
    }
    return worth ? g->chunk : 1;
}

/* Feeds up to `width` tokens a row. A full row that rests has its last place overwritten: nothing
 * can be appended to it anyway. */
static qn_status feed_once(qn_generator *g, const int32_t *const *ids, const int64_t *n,
                           int64_t width) {
    int32_t *tokens = words(g->in.here), *start = tokens + g->rows * g->chunk,
            *pick = start + g->rows;
    int kind = width > 1 ? PREFILL : DECODE;
    memset(tokens, 0, (size_t)(g->rows * g->chunk) * sizeof *tokens);
    for (int64_t r = 0; r < g->rows; r++) {
        int64_t left = n[r] - g->fed[r], take = left < width ? left : width;
        int64_t at = g->position[r] < g->capacity ? g->position[r] : g->capacity - 1;
        if (take > 0) memcpy(tokens + r * width, ids[r] + g->fed[r], (size_t)take * sizeof *tokens);
        start[r] = (int32_t)at;
        pick[r] = (int32_t)(r * width + (take > 0 ? take - 1 : 0));
    }
    QN_TRY(mirror_send(&g->in));
    QN_TRY(qn_program_replay(g->program[kind]));
    QN_TRY(mirror_show(&g->out[kind]));
    size_t row_bytes = qn_tensor_bytes(&g->logits) / (size_t)g->rows;
    for (int64_t r = 0; r < g->rows; r++) {
        int64_t left = n[r] - g->fed[r], take = left < width ? left : width;
        if (take <= 0) continue;
        memcpy(g->seen + r * g->capacity + g->position[r], ids[r] + g->fed[r],
               (size_t)take * sizeof *g->seen);
        g->fed[r] += take;
        g->position[r] += take;
        memcpy((char *)g->logits.data + (size_t)r * row_bytes,
               g->out[kind].here + (size_t)r * row_bytes, row_bytes);
    }
    return QN_OK;
}

qn_status qn_generator_feed(qn_generator *g, const int32_t *const *ids, const int64_t *n) {
    for (int64_t r = 0; r < g->rows; r++) {
        if (n[r] > g->capacity - g->position[r]) {
            return qn_fail(QN_ERR_USAGE,
                           "generate: %lld tokens after %lld in row %lld, the context holds %lld",
                           (long long)n[r], (long long)g->position[r], (long long)r,
                           (long long)g->capacity);
        }
        g->fed[r] = 0;
    }
    for (;;) {
        bool more = false;
        for (int64_t r = 0; r < g->rows; r++) more = more || g->fed[r] < n[r];
        if (!more) return QN_OK;
        QN_TRY(feed_once(g, ids, n, choose_width(g, n)));
    }
}
