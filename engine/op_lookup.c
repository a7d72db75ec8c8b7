/* op_lookup.c — embedding: rows of a table by id, plus rows of a position table, and its gradient.
 *
 * The gradient sorts (id, row) pairs by id, stably, and sums each id's rows in their order: no
 * atomics, one write per table row, the same bits at any thread count.
 */
#include "engine/op_shared.h"
#include "engine/gemm.h"

#include <string.h>

enum { IDS, TABLE, POSITIONS, START };                         /* embedding, in */
enum { BWD_DY, BWD_IDS, BWD_TABLE, BWD_POSITIONS, BWD_START }; /* embedding_bwd, in */
enum { DTABLE, DPOSITIONS };                                   /* embedding_bwd, out */
enum { COLUMNS = 256, ROWS = 16, PAIRS = 64 };                 /* what one task takes */

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* ---- shapes and checks ----------------------------------------------------------------------- */

/* Length of the last axis of ids: the positions one sample runs through. */
static int64_t steps_of(const qn_tensor *ids) {
    return ids->ndim > 0 ? ids->shape[ids->ndim - 1] : 1;
}

/* Sequences of positions that ids consists of. */
static int64_t samples_of(const qn_tensor *ids) {
    int64_t steps = steps_of(ids);
    return steps > 0 ? qn_tensor_count(ids) / steps : 0;
}

static qn_status check_tables(const qn_call *c, int ids, int table, int positions, int start) {
    const qn_tensor *i = c->in[ids], *t = c->in[table], *p = c->in[positions], *s = c->in[start];
    char a[96], b[96];
    if (i->dtype != QN_I32 || i->ndim >= QN_MAX_DIMS || t->ndim != 2) {
        return qn_fail(QN_ERR_SHAPE, "%s: ids is %s, table is %s; expected i32 ids and table [V,C]",
                       c->op->name, qn_tensor_describe(i, a, sizeof a),
                       qn_tensor_describe(t, b, sizeof b));
    }
    if (t->dtype != QN_F32 && t->dtype != QN_F64 && t->dtype != QN_BF16) {
        return qn_fail(QN_ERR_DTYPE, "%s: table is %s, expected f32, f64 or bf16", c->op->name,
                       qn_dtype_name(t->dtype));
    }
    if (p && (p->ndim != 2 || p->shape[1] != t->shape[1] || p->dtype != t->dtype ||
              (!s && p->shape[0] < steps_of(i)))) {
        return qn_fail(
            QN_ERR_SHAPE, "%s: positions is %s, table is %s; expected at least [%lld,%lld]",
            c->op->name, qn_tensor_describe(p, a, sizeof a), qn_tensor_describe(t, b, sizeof b),
            (long long)steps_of(i), (long long)t->shape[1]);
    }
    QN_TRY(qni_require_start(c, start, samples_of(i)));
    qni_rows rows;
    QN_TRY(qni_rows_need(c->op->name, c->op->in_name[table], t, &rows));
    return p ? qni_rows_need(c->op->name, c->op->in_name[positions], p, &rows) : QN_OK;
}

static qn_tensor looked_up(const qn_tensor *ids, const qn_tensor *table) {
    int64_t shape[QN_MAX_DIMS];
    for (int i = 0; i < ids->ndim; i++) shape[i] = ids->shape[i];
    shape[ids->ndim] = table->shape[1];
    return qn_tensor_make(NULL, table->dtype, ids->ndim + 1, shape);
}

static qn_status check_ids(const qn_call *c, int ids, int table) {
    const qn_tensor *t = c->in[ids];
    int64_t v = c->in[table]->shape[0], n = qn_tensor_count(t);
    for (int64_t i = 0; i < n; i++) {
        int64_t id = qn_tensor_get_int(t, i);
        if (id < 0 || id >= v) {
            return qn_fail(QN_ERR_DATA, "%s: id at position %lld is %lld, the table has %lld rows",
                           c->op->name, (long long)i, (long long)id, (long long)v);
        }
    }
    return QN_OK;
}

static qn_status check_starts(const qn_call *c, int ids, int positions, int start) {
    if (!c->in[positions]) return QN_OK;
    int64_t steps = steps_of(c->in[ids]), samples = samples_of(c->in[ids]);
    for (int64_t b = 0; b < samples; b++) {
        int64_t first = qni_start(c, start, b);
        if (first >= 0 && first + steps <= c->in[positions]->shape[0]) continue;
        return qn_fail(QN_ERR_DATA, "%s: positions %lld to %lld are asked for, the table has %lld",
                       c->op->name, (long long)first, (long long)(first + steps - 1),
                       (long long)c->in[positions]->shape[0]);
    }
    return QN_OK;
}

/* ---- embedding ------------------------------------------------------------------------------- */

typedef struct lookup {
    const qn_call *c;
    qni_rows table, positions;
    int64_t n, steps;
} lookup;

static int64_t position_of(const lookup *l, int64_t i) {
    return qni_start(l->c, START, i / l->steps) + i % l->steps;
}

static qn_status embedding_infer(qn_call *c) {
    QN_TRY(check_tables(c, IDS, TABLE, POSITIONS, START));
    qn_tensor y = looked_up(c->in[IDS], c->in[TABLE]);
    qni_describe_like(c, 0, &y);
    return QN_OK;
}

static qn_status open_lookup(const qn_call *c, lookup *l) {
    *l = (lookup){.c = c, .n = qn_tensor_count(c->in[IDS]), .steps = steps_of(c->in[IDS])};
    QN_TRY(check_ids(c, IDS, TABLE));
    QN_TRY(check_starts(c, IDS, POSITIONS, START));
    QN_TRY(qni_rows_need("embedding", "table", c->in[TABLE], &l->table));
    return c->in[POSITIONS]
               ? qni_rows_need("embedding", "positions", c->in[POSITIONS], &l->positions)
               : QN_OK;
}

static void look_up(const lookup *l, int64_t i) {
    const qn_tensor *table = l->c->in[TABLE], *positions = l->c->in[POSITIONS], *y = l->c->out[0];
    int64_t id = qn_tensor_get_int(l->c->in[IDS], i), cols = l->table.cols;
    int64_t position = positions ? position_of(l, i) : 0;
    for (int64_t j = 0; j < cols; j++) {
        double v = qni_element(table->data, table->dtype, id * l->table.stride + j);
        if (positions) {
            v += qni_element(positions->data, positions->dtype, position * l->positions.stride + j);
        }
        qn_tensor_set(y, i * cols + j, v);
    }
}

static qn_status embedding_ref(const qn_call *c) {
    lookup l;
    QN_TRY(open_lookup(c, &l));
    for (int64_t i = 0; i < l.n; i++) look_up(&l, i);
    return QN_OK;
}

static void add_position(const lookup *l, int64_t i, int64_t id) {
    const qn_tensor *table = l->c->in[TABLE], *positions = l->c->in[POSITIONS], *y = l->c->out[0];
    int64_t from = id * l->table.stride, cols = l->table.cols;
    int64_t at = position_of(l, i) * l->positions.stride;
    float a[COLUMNS], b[COLUMNS], sum[COLUMNS];
    for (int64_t j = 0; j < cols; j += COLUMNS) {
        int64_t n = smaller(COLUMNS, cols - j), to = i * cols + j;
        const float *row = qn_row_load(table->data, table->dtype, from + j, n, a);
        const float *step = qn_row_load(positions->data, positions->dtype, at + j, n, b);
        float *out = qn_row_open(y->data, y->dtype, to, sum);
        for (int64_t k = 0; k < n; k++) out[k] = row[k] + step[k];
        qn_row_close(y->data, y->dtype, to, n, out);
    }
}

static void lookup_task(void *ctx, int64_t index) {
    const lookup *l = ctx;
    const qn_tensor *table = l->c->in[TABLE];
    size_t item = qn_dtype_bytes(table->dtype), row = (size_t)l->table.cols * item;
    for (int64_t i = index * ROWS; i < smaller((index + 1) * ROWS, l->n); i++) {
        int64_t id = qn_tensor_get_int(l->c->in[IDS], i);
        if (!l->c->in[POSITIONS]) {
            memcpy((char *)l->c->out[0]->data + (size_t)i * row,
                   (const char *)table->data + (size_t)(id * l->table.stride) * item, row);
        } else if (table->dtype == QN_F64) {
            look_up(l, i);
        } else {
            add_position(l, i, id);
        }
    }
}

static qn_status embedding_cpu(const qn_call *c) {
    lookup l;
    QN_TRY(open_lookup(c, &l));
    qn_parallel_for(c->threads, blocks(l.n, ROWS), lookup_task, &l);
    return QN_OK;
}

static qn_status embedding_backward(qn_tape *t, qn_node *node) {
    qn_value *dy = qn_grad_of(t, node->out[0]);
    if (!dy) return qn_tape_status(t);
    qn_value *out[2] = {qn_grad_slot(t, node->in[TABLE]), qn_grad_slot(t, node->in[POSITIONS])};
    qn_value *in[5] = {dy, node->in[IDS], node->in[TABLE], node->in[POSITIONS], node->in[START]};
    return qn_tape_emit(t, &qn_op_embedding_bwd, in, out, 0, NULL, NULL);
}

/* Only the rows that are looked up travel. */
static void embedding_cost(const qn_call *c, qn_cost *cost) {
    double row = (double)qn_tensor_bytes(c->out[0]);
    cost->bytes = (double)qn_tensor_bytes(c->in[IDS]) + row * (c->in[POSITIONS] ? 3.0 : 2.0);
    cost->flops = c->in[POSITIONS] ? (double)qn_tensor_count(c->out[0]) : 0.0;
}

const qn_op qn_op_embedding = {
    .name = "embedding",
    .n_in = 4,
    .n_out = 1,
    .in_name = {"ids", "table", "positions", "start"},
    .out_name = {"y"},
    .optional_in = 1u << POSITIONS | 1u << START,
    .alias = {QN_FRESH},
    .cpu_dtypes = QN_DTYPE_BIT(QN_I32), /* of ids; the body takes every table */
    .infer = embedding_infer,
    .run = {[QN_REF] = embedding_ref, [QN_CPU] = embedding_cpu},
    .backward = embedding_backward,
    .cost = embedding_cost,
};

qn_value *qn_embedding(qn_tape *t, qn_value *ids, qn_value *table, qn_value *positions,
                       qn_value *start) {
    if (!ids || !table) return NULL;
    qn_value *in[4] = {ids, table, positions, start}, *out[1] = {NULL};
    if (qn_tape_emit(t, &qn_op_embedding, in, out, 0, NULL, NULL) != QN_OK) return NULL;
    return out[0];
}

/* ---- embedding_bwd --------------------------------------------------------------------------- */

typedef struct pair {
    int32_t id, row;
} pair;

typedef struct scatter {
    const qn_call *c;
    qni_rows dy, dtable, dpositions;
    int64_t n, start, steps, cols;
    const pair *sorted;
} scatter;

static qn_status bwd_infer(qn_call *c) {
    const qn_tensor *dy = c->in[BWD_DY];
    char a[96], b[96];
    QN_TRY(qni_require_float(c, 1u << BWD_TABLE | 1u << BWD_POSITIONS));
    QN_TRY(check_tables(c, BWD_IDS, BWD_TABLE, BWD_POSITIONS, BWD_START));
    qn_tensor y = looked_up(c->in[BWD_IDS], c->in[BWD_TABLE]);
    if (!qn_tensor_same_shape(&y, dy)) {
        return qn_fail(QN_ERR_SHAPE, "embedding_bwd: dy is %s, expected %s",
                       qn_tensor_describe(dy, a, sizeof a), qn_tensor_describe(&y, b, sizeof b));
    }
    qni_rows rows;
    QN_TRY(qni_rows_need("embedding_bwd", "dy", dy, &rows));
    int64_t n = qn_tensor_count(c->in[BWD_IDS]);
    if (n > INT32_MAX) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "embedding_bwd: %lld ids, at most 2^31 - 1 are supported", (long long)n);
    }
    c->scratch_bytes = 2 * (size_t)n * sizeof(pair);
    qni_describe_like(c, DTABLE, c->in[BWD_TABLE]);
    if (c->in[BWD_POSITIONS]) qni_describe_like(c, DPOSITIONS, c->in[BWD_POSITIONS]);
    if (c->in[BWD_START] && qn_tensor_count(c->in[BWD_START]) != 1) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "embedding_bwd: one start for all samples is supported, found %lld",
                       (long long)qn_tensor_count(c->in[BWD_START]));
    }
    if (!c->in[BWD_POSITIONS] && c->out[DPOSITIONS]) {
        return qn_fail(QN_ERR_INTERNAL,
                       "embedding_bwd: dpositions was asked for without positions");
    }
    return QN_OK;
}

static qn_status open_scatter(const qn_call *c, scatter *s) {
    *s = (scatter){.c = c,
                   .n = qn_tensor_count(c->in[BWD_IDS]),
                   .steps = steps_of(c->in[BWD_IDS]),
                   .cols = c->in[BWD_TABLE]->shape[1]};
    QN_TRY(check_ids(c, BWD_IDS, BWD_TABLE));
    QN_TRY(check_starts(c, BWD_IDS, BWD_POSITIONS, BWD_START));
    s->start = qni_start(c, BWD_START, 0);
    QN_TRY(qni_rows_need("embedding_bwd", "dy", c->in[BWD_DY], &s->dy));
    if (c->out[DTABLE])
        QN_TRY(qni_rows_need("embedding_bwd", "dtable", c->out[DTABLE], &s->dtable));
    if (c->out[DPOSITIONS]) {
        QN_TRY(qni_rows_need("embedding_bwd", "dpositions", c->out[DPOSITIONS], &s->dpositions));
    }
    return QN_OK;
}

static qn_status bwd_ref(const qn_call *c) {
    scatter s;
    const qn_tensor *dy = c->in[BWD_DY];
    QN_TRY(open_scatter(c, &s));
    for (int64_t v = 0; c->out[DTABLE] && v < c->out[DTABLE]->shape[0]; v++) {
        for (int64_t j = 0; j < s.cols; j++) {
            double sum = 0.0;
            for (int64_t i = 0; i < s.n; i++) {
                if (qn_tensor_get_int(c->in[BWD_IDS], i) != v) continue;
                sum += qni_element(dy->data, dy->dtype, i * s.dy.stride + j);
            }
            qni_put(c, DTABLE, v * s.cols + j, sum);
        }
    }
    for (int64_t p = 0; c->out[DPOSITIONS] && p < c->out[DPOSITIONS]->shape[0]; p++) {
        for (int64_t j = 0; j < s.cols; j++) {
            double sum = 0.0;
            for (int64_t i = 0; i < s.n; i++) {
                if (s.start + i % s.steps != p) continue;
                sum += qni_element(dy->data, dy->dtype, i * s.dy.stride + j);
            }
            qni_put(c, DPOSITIONS, p * s.cols + j, sum);
        }
    }
    return QN_OK;
}

/* Stable radix sort by id, a byte at a time, between the two halves of scratch. */
static const pair *sort_pairs(const qn_call *c, int64_t n, int64_t classes) {
    pair *from = c->scratch, *to = from + n;
    for (int64_t i = 0; i < n; i++) {
        from[i] = (pair){(int32_t)qn_tensor_get_int(c->in[BWD_IDS], i), (int32_t)i};
    }
    for (int shift = 0; shift < 32 && (classes - 1) >> shift > 0; shift += 8) {
        int64_t place[257] = {0};
        for (int64_t i = 0; i < n; i++) place[(from[i].id >> shift & 255) + 1]++;
        for (int i = 0; i < 256; i++) place[i + 1] += place[i];
        for (int64_t i = 0; i < n; i++) to[place[from[i].id >> shift & 255]++] = from[i];
        pair *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

static void add_row(const scatter *s, int64_t row, int64_t col, int64_t n, double *sum) {
    const qn_tensor *dy = s->c->in[BWD_DY];
    int64_t at = row * s->dy.stride + col;
    if (dy->dtype == QN_F64) {
        const double *x = (const double *)dy->data + at;
        for (int64_t j = 0; j < n; j++) sum[j] += x[j];
        return;
    }
    float buffer[COLUMNS];
    const float *x = qn_row_load(dy->data, dy->dtype, at, n, buffer);
    for (int64_t j = 0; j < n; j++) sum[j] += (double)x[j];
}

/* out[row, col ...] (+)= sum */
static void put_row(const scatter *s, int slot, int64_t at, int64_t n, const double *sum) {
    const qn_tensor *out = s->c->out[slot];
    bool adds = qni_adds(s->c, slot);
    if (out->dtype == QN_F64) {
        double *y = (double *)out->data + at;
        for (int64_t j = 0; j < n; j++) y[j] = adds ? y[j] + sum[j] : sum[j];
        return;
    }
    float row[COLUMNS];
    for (int64_t j = 0; j < n; j++) row[j] = (float)sum[j];
    qni_store_row(out->data, out->dtype, at, n, row, adds);
}

/* Zeros of table rows [64 index, ...): what no id names keeps them. */
static void clear_task(void *ctx, int64_t index) {
    const scatter *s = ctx;
    const qn_tensor *out = s->c->out[DTABLE];
    size_t item = qn_dtype_bytes(out->dtype);
    for (int64_t v = index * PAIRS; v < smaller((index + 1) * PAIRS, out->shape[0]); v++) {
        memset((char *)out->data + (size_t)(v * s->dtable.stride) * item, 0,
               (size_t)s->cols * item);
    }
}

/* The ids whose first pair lies in one block of the sorted pairs, for one block of columns. */
static void segment_task(void *ctx, int64_t index) {
    const scatter *s = ctx;
    int64_t n_cols = blocks(s->cols, COLUMNS), col = index % n_cols * COLUMNS;
    int64_t n = smaller(COLUMNS, s->cols - col), first = index / n_cols * PAIRS;
    for (int64_t i = first; i < smaller(first + PAIRS, s->n); i++) {
        int32_t id = s->sorted[i].id;
        if (i > 0 && s->sorted[i - 1].id == id) continue;
        double sum[COLUMNS] = {0};
        for (int64_t k = i; k < s->n && s->sorted[k].id == id; k++) {
            add_row(s, s->sorted[k].row, col, n, sum);
        }
        put_row(s, DTABLE, id * s->dtable.stride + col, n, sum);
    }
}

static void position_task(void *ctx, int64_t p) {
    const scatter *s = ctx;
    int64_t step = p - s->start;
    bool used = step >= 0 && step < s->steps;
    if (!used && qni_adds(s->c, DPOSITIONS)) return;
    for (int64_t col = 0; col < s->cols; col += COLUMNS) {
        int64_t n = smaller(COLUMNS, s->cols - col);
        double sum[COLUMNS] = {0};
        for (int64_t i = step; used && i < s->n; i += s->steps) add_row(s, i, col, n, sum);
        put_row(s, DPOSITIONS, p * s->dpositions.stride + col, n, sum);
    }
}

static qn_status bwd_cpu(const qn_call *c) {
    scatter s;
    QN_TRY(open_scatter(c, &s));
    if (c->out[DTABLE]) {
        int64_t v = c->out[DTABLE]->shape[0];
        if (!qni_adds(c, DTABLE)) qn_parallel_for(c->threads, blocks(v, PAIRS), clear_task, &s);
        s.sorted = sort_pairs(c, s.n, v);
        int64_t tasks = blocks(s.n, PAIRS) * blocks(s.cols, COLUMNS);
        qn_parallel_for(c->threads, tasks, segment_task, &s);
    }
    if (c->out[DPOSITIONS]) {
        qn_parallel_for(c->threads, c->out[DPOSITIONS]->shape[0], position_task, &s);
    }
    return QN_OK;
}

static void bwd_cost(const qn_call *c, qn_cost *cost) {
    double dy = (double)qn_tensor_bytes(c->in[BWD_DY]);
    cost->bytes = dy * (c->out[DPOSITIONS] ? 2.0 : 1.0);
    for (int i = DTABLE; i <= DPOSITIONS; i++) {
        if (!c->out[i]) continue;
        cost->bytes += qni_adds(c, i) ? 2.0 * dy : (double)qn_tensor_bytes(c->out[i]);
    }
    cost->flops = (double)qn_tensor_count(c->in[BWD_DY]);
}

/* dtable[v] = the sum of dy's rows whose id is v; dpositions[p] = the sum of those at position p.
 * table and positions are read for their shapes only. Storage may be f32 for bf16 dy. */
const qn_op qn_op_embedding_bwd = {
    .name = "embedding_bwd",
    .n_in = 5,
    .n_out = 2,
    .in_name = {"dy", "ids", "table", "positions", "start"},
    .out_name = {"dtable", "dpositions"},
    .optional_in = 1u << BWD_POSITIONS | 1u << BWD_START,
    .optional_out = 1u << DTABLE | 1u << DPOSITIONS,
    .alias = {QN_FRESH, QN_FRESH},
    .can_accumulate = 1u << DTABLE | 1u << DPOSITIONS,
    .cpu_dtypes = QN_DTYPE_BIT(QN_F32) | QN_DTYPE_BIT(QN_F64) | QN_DTYPE_BIT(QN_BF16),
    .infer = bwd_infer,
    .run = {[QN_REF] = bwd_ref, [QN_CPU] = bwd_cpu},
    .cost = bwd_cost,
};
