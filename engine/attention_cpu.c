/* attention_cpu.c — attention in tiles: QUERIES rows against up to KEYS keys at a time.
 *
 * Forward: an online softmax over key tiles (Milakov and Gimelshein 2018); tasks are (sample, head,
 * query block). Backward: the weights are made again from lse (Dao 2022). With enough (sample, key
 * head) pairs each is one task that makes dq, dk and dv together, five products a tile; with few,
 * queries and keys are walked as separate tasks, seven products but no shared sums. Which one is
 * decided by shape, and every sum runs in a fixed order, so the bits do not depend on threads.
 * Arithmetic is f32: bf16 operands are widened tile by tile, and f32 results are summed where they
 * belong. Keys and values that a product needs as columns are transposed first: a tile times rows
 * runs at 80 GFLOP/s a core, times columns at 113.
 */
#include "engine/attention_cpu.h"
#include "engine/gemm.h"

#include <math.h>
#include <string.h>

enum {
    QUERIES = 64,
    KEYS = 128,       /* a tile of 64 x 128 multiplies at 115 GFLOP/s a core, of 64 x 256 at 97 */
    ENOUGH_TASKS = 8, /* pairs (sample, key head) that keep the threads busy */
    TURN_ROWS = 32,   /* queries that repay transposing a tile of keys */
    ALIGN = 16        /* floats */
};

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t blocks(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* ---- scratch: floats handed out from a thread's part ----------------------------------------- */

static int64_t padded(int64_t floats) { return (floats + ALIGN - 1) / ALIGN * ALIGN; }

static float *take(float **at, int64_t floats) {
    float *p = *at;
    *at += padded(floats);
    return p;
}

/* Row stride of a score tile: whole vectors, so that the loops over a row have no remainder. */
static int64_t key_width(const qni_attention *a) { return padded(smaller(a->s, KEYS)); }

static int64_t forward_floats(const qni_attention *a) {
    int64_t w = key_width(a);
    return padded(QUERIES * w) + 2 * padded(QUERIES * a->d) + 3 * padded(w * a->d) +
           2 * padded(QUERIES);
}

static int64_t backward_floats(const qni_attention *a) {
    int64_t w = key_width(a);
    return 2 * padded(QUERIES * w) + padded(w) + 4 * padded(QUERIES * a->d) + 3 * padded(w * a->d) +
           2 * padded(a->s * a->d) + 2 * padded(QUERIES);
}

static size_t scratch_of(int64_t floats, int threads) {
    return (size_t)floats * sizeof(float) * (size_t)threads;
}

size_t qni_attention_forward_scratch(const qni_attention *a, int threads) {
    return a->call->in[QNI_ATTN_Q]->dtype == QN_F64 ? 0 : scratch_of(forward_floats(a), threads);
}

size_t qni_attention_backward_scratch(const qni_attention *a, int threads) {
    return a->call->in[QNI_ATTN_Q]->dtype == QN_F64 ? 0 : scratch_of(backward_floats(a), threads);
}

/* ---- tiles of the operands ------------------------------------------------------------------- */

typedef struct panel { /* rows of d floats */
    const float *data;
    int64_t ld;
} panel;

static int64_t offset_of(const qn_tensor *t, int64_t b, int64_t i, int64_t h) {
    return b * t->stride[0] + i * t->stride[1] + h * t->stride[2];
}

/* Rows i .. i+n of head h: in place for f32, else widened into buffer. */
static panel panel_of(const qn_tensor *t, int64_t b, int64_t i, int64_t n, int64_t h,
                      float *buffer) {
    int64_t at = offset_of(t, b, i, h), d = t->shape[3];
    bool rows = n <= 1 || t->stride[1] >= d;
    if (t->dtype == QN_F32 && rows) {
        return (panel){(const float *)t->data + at, n <= 1 ? d : t->stride[1]};
    }
    for (int64_t r = 0; r < n; r++) {
        const float *row = qn_row_load(t->data, t->dtype, at + r * t->stride[1], d, buffer + r * d);
        if (row != buffer + r * d) memcpy(buffer + r * d, row, (size_t)d * sizeof *row);
    }
    return (panel){buffer, d};
}

/* c (rows, width) at row stride w = scale a b^T for rows of d floats. With rows enough to repay it,
 * b is transposed into `turned`. */
static void row_products(int64_t rows, int64_t width, int64_t d, float scale, panel a, panel b,
                         float *turned, float *c, int64_t w) {
    bool turn = rows >= TURN_ROWS;
    if (turn) {
        qni_transpose(width, d, b.data, b.ld, turned, w);
        b = (panel){turned, w};
    }
    qni_sgemm(false, !turn, rows, width, d, scale, a.data, a.ld, b.data, b.ld, 0.0f, c, w);
}

/* Where sums over rows i .. i+n of head h of an output are made: in place, or in `buffer`, which
 * sums_close stores. They start from zero, or in place from what is added to. */
typedef struct sums {
    float *data;
    int64_t ld;
} sums;

static sums sums_open(const qn_tensor *out, bool adds, int64_t b, int64_t i, int64_t n, int64_t h,
                      int64_t d, float *buffer) {
    sums s = {buffer, d};
    bool in_place = out && out->dtype == QN_F32 && (n <= 1 || out->stride[1] >= d);
    if (in_place) {
        s = (sums){(float *)out->data + offset_of(out, b, i, h), n <= 1 ? d : out->stride[1]};
    }
    for (int64_t r = 0; !(in_place && adds) && r < n; r++) {
        memset(s.data + r * s.ld, 0, (size_t)d * sizeof(float));
    }
    return s;
}

static void sums_close(const sums *s, const qn_tensor *out, bool adds, int64_t b, int64_t i,
                       int64_t n, int64_t h, int64_t d, const float *buffer) {
    for (int64_t r = 0; out && s->data == buffer && r < n; r++) {
        qni_store_row(out->data, out->dtype, offset_of(out, b, i + r, h), d, buffer + r * d, adds);
    }
}

/* row[j] *= the dropout factor of weight (b, h, i, k0 + j). */
static void drop_row(const qni_attention *a, int64_t b, int64_t h, int64_t i, int64_t k0, int64_t n,
                     float *row) {
    uint64_t first = qni_attention_element(a, b, h, i) + (uint64_t)k0;
    float scale = (float)a->keep_scale;
    for (int64_t j = 0; j < n;) { /* one Philox call makes four draws */
        qn_u32x4 draws = qn_philox(a->key, (first + (uint64_t)j) >> 2, a->step);
        for (unsigned lane = (first + (uint64_t)j) & 3u; lane < 4 && j < n; lane++, j++) {
            row[j] *= draws.v[lane] >= a->threshold ? scale : 0.0f;
        }
    }
}

/* Scores of keys before the window or in other documents become -inf. */
static void mask_row(const qni_attention *a, int64_t b, int64_t i, int64_t k0, int64_t n,
                     float *scores) {
    int64_t hidden = smaller(qni_attention_first(a, b, i) - k0, n);
    for (int64_t j = 0; j < hidden; j++) scores[j] = -INFINITY;
    if (!a->call->in[QNI_ATTN_DOCUMENTS]) return;
    int32_t own = qni_attention_document(a, b, i);
    for (int64_t j = 0; j < n; j++) {
        if (qni_attention_document(a, b, k0 + j) != own) scores[j] = -INFINITY;
    }
}

/* Keys of the tile starting at k0 that query i sees by position. */
static int64_t visible(const qni_attention *a, int64_t b, int64_t i, int64_t k0, int64_t width) {
    int64_t n = qni_attention_limit(a, b, i) - k0;
    return n < 0 ? 0 : smaller(n, width);
}

/* Where the tiles of keys begin for queries i, ...: tiles count from key `from`. */
static int64_t first_tile(const qni_attention *a, int64_t b, int64_t i, int64_t from) {
    int64_t hidden = qni_attention_first(a, b, i) - from;
    return hidden > 0 ? from + hidden / KEYS * KEYS : from;
}

/* ---- forward --------------------------------------------------------------------------------- */

static float row_max(const float *x, int64_t n, float start) {
    float m = start;
#pragma omp simd reduction(max : m)
    for (int64_t j = 0; j < n; j++) m = x[j] > m ? x[j] : m;
    return m;
}

/* x[j] = exp(x[j] - shift); returns the sum. */
static float row_exp(float *x, int64_t n, float shift) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < n; j++) {
        x[j] = qn_expf_fast(x[j] - shift);
        sum += x[j];
    }
    return sum;
}

/* Keys [n, whole) of a row are hidden from the loops that follow: their weights become 0. */
static int64_t hide_rest(float *s, int64_t n) {
    int64_t whole = padded(n);
    for (int64_t j = n; j < whole; j++) s[j] = -INFINITY;
    return whole;
}

/* One row of scores becomes weights relative to the running maximum; o's row is rescaled to it. */
static void online_row(const qni_attention *a, int64_t n, int64_t width, float *s, float *max,
                       float *sum, float *o) {
    int64_t whole = hide_rest(s, n);
    float m = row_max(s, whole, *max), shift = m == -INFINITY ? 0.0f : m;
    float shrink = qn_expf_fast(*max - shift);
    *sum = *sum * shrink + row_exp(s, whole, shift);
    *max = m;
    for (int64_t j = whole; j < width; j++) s[j] = 0.0f;
    if (shrink == 1.0f) return;
    for (int64_t d = 0; d < a->d; d++) o[d] *= shrink;
}

static void finish_query(const qni_attention *a, int64_t b, int64_t h, int64_t i, float max,
                         float sum, float *o) {
    float inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
    for (int64_t d = 0; d < a->d; d++) o[d] *= inverse;
    if (a->call->out[QNI_ATTN_OUT_LSE]) {
        float *lse = a->call->out[QNI_ATTN_OUT_LSE]->data;
        lse[(b * a->h + h) * a->t + i] = sum == 0.0f ? -INFINITY : max + logf(sum);
    }
}

static void forward_task(void *ctx, int64_t index) {
    const qni_attention *a = ctx;
    const qn_call *c = a->call;
    int64_t n_blocks = blocks(a->t, QUERIES), heads = a->b * a->h;
    int64_t q0 = (n_blocks - 1 - index / heads) * QUERIES; /* the longest rows first */
    int64_t b = index % heads / a->h, h = index % a->h, g = h / (a->h / a->g);
    int64_t rows = smaller(QUERIES, a->t - q0), w = key_width(a);
    float *at = (float *)c->scratch + qn_parallel_thread() * forward_floats(a);
    float *scores = take(&at, QUERIES * w);
    float *wide_o = take(&at, QUERIES * a->d), *wide_q = take(&at, QUERIES * a->d);
    float *wide_k = take(&at, w * a->d), *wide_v = take(&at, w * a->d);
    float *turned = take(&at, w * a->d);
    float *max = take(&at, QUERIES), *sum = take(&at, QUERIES);
    panel q = panel_of(c->in[QNI_ATTN_Q], b, q0, rows, h, wide_q);
    const qn_tensor *out = c->out[QNI_ATTN_OUT_O];
    sums o = sums_open(out, false, b, q0, rows, h, a->d, wide_o);
    for (int64_t r = 0; r < rows; r++) {
        max[r] = -INFINITY;
        sum[r] = 0.0f;
    }
    int64_t last = qni_attention_limit(a, b, q0 + rows - 1);
    for (int64_t k0 = first_tile(a, b, q0, 0); k0 < last; k0 += KEYS) {
        int64_t width = smaller(KEYS, last - k0);
        panel k = panel_of(c->in[QNI_ATTN_K], b, k0, width, g, wide_k);
        panel v = panel_of(c->in[QNI_ATTN_V], b, k0, width, g, wide_v);
        row_products(rows, width, a->d, (float)a->scale, q, k, turned, scores, w);
        for (int64_t r = 0; r < rows; r++) {
            float *s = scores + r * w;
            int64_t n = visible(a, b, q0 + r, k0, width);
            mask_row(a, b, q0 + r, k0, n, s);
            online_row(a, n, width, s, &max[r], &sum[r], o.data + r * o.ld);
            if (a->dropout) drop_row(a, b, h, q0 + r, k0, n, s);
        }
        qni_sgemm(false, false, rows, a->d, width, 1.0f, scores, w, v.data, v.ld, 1.0f, o.data,
                  o.ld);
    }
    for (int64_t r = 0; r < rows; r++) {
        finish_query(a, b, h, q0 + r, max[r], sum[r], o.data + r * o.ld);
    }
    sums_close(&o, out, false, b, q0, rows, h, a->d, wide_o);
}

qn_status qni_attention_forward_cpu(const qn_call *c) {
    qni_attention a;
    qni_attention_read(c, &a);
    qn_parallel_for(c->threads, a.d > 0 ? a.b * a.h * blocks(a.t, QUERIES) : 0, forward_task, &a);
    return QN_OK;
}

/* ---- backward -------------------------------------------------------------------------------- */

typedef struct backward {
    qni_attention a;
    int64_t key_step; /* keys per task of the separate walk over keys */
} backward;

/* The buffers of one task and the query block at hand. */
typedef struct work {
    const qni_attention *a;
    int64_t b, h, g, q0, rows;
    panel q, d_o;
    float *p, *ds; /* QUERIES x width: m p, and the gradient of the scores */
    float *factor; /* a row of dropout factors */
    sums dq, dk, dv;
    float *wide_dq, *wide_dk, *wide_dv;
    float *mean, *lse;                /* per query: sum(do o), lse */
    float *wide_q, *wide_do, *wide_o; /* widened operands */
    float *wide_k, *wide_v, *turned;
} work;

static work work_open(const qni_attention *a) {
    float *at = (float *)a->call->scratch + qn_parallel_thread() * backward_floats(a);
    int64_t w = key_width(a);
    work k = {.a = a};
    k.p = take(&at, QUERIES * w);
    k.ds = take(&at, QUERIES * w);
    k.factor = take(&at, w);
    k.wide_dq = take(&at, QUERIES * a->d);
    k.wide_q = take(&at, QUERIES * a->d);
    k.wide_do = take(&at, QUERIES * a->d);
    k.wide_o = take(&at, QUERIES * a->d);
    k.wide_k = take(&at, w * a->d);
    k.wide_v = take(&at, w * a->d);
    k.turned = take(&at, w * a->d);
    k.wide_dk = take(&at, a->s * a->d);
    k.wide_dv = take(&at, a->s * a->d);
    k.mean = take(&at, QUERIES);
    k.lse = take(&at, QUERIES);
    return k;
}

static void load_queries(work *k, int64_t h, int64_t q0) {
    const qni_attention *a = k->a;
    const qn_call *c = a->call;
    k->h = h;
    k->q0 = q0;
    k->rows = smaller(QUERIES, a->t - q0);
    k->q = panel_of(c->in[QNI_ATTN_Q], k->b, q0, k->rows, h, k->wide_q);
    k->d_o = panel_of(c->in[QNI_ATTN_DO], k->b, q0, k->rows, h, k->wide_do);
    panel o = panel_of(c->in[QNI_ATTN_O], k->b, q0, k->rows, h, k->wide_o);
    const float *lse = (const float *)c->in[QNI_ATTN_LSE]->data + (k->b * a->h + h) * a->t + q0;
    for (int64_t r = 0; r < k->rows; r++) {
        const float *x = k->d_o.data + r * k->d_o.ld, *y = o.data + r * o.ld;
        float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
        for (int64_t d = 0; d < a->d; d++) sum += x[d] * y[d];
        k->mean[r] = sum;
        k->lse[r] = lse[r] == -INFINITY ? INFINITY : lse[r]; /* saw nothing: weights become 0 */
    }
}

/* Scores in p and do.v in ds become m p and ds for one row; n keys are visible. */
static void gradient_row(work *k, int64_t r, int64_t k0, int64_t n, int64_t width) {
    const qni_attention *a = k->a;
    int64_t w = key_width(a);
    float *p = k->p + r * w, *ds = k->ds + r * w;
    float lse = k->lse[r], mean = k->mean[r], scale = (float)a->scale;
    mask_row(a, k->b, k->q0 + r, k0, n, p);
    int64_t whole = hide_rest(p, n);
    for (int64_t j = n; j < whole; j++) ds[j] = 0.0f; /* finite: it meets a weight of 0 */
    if (!a->dropout) {
#pragma omp simd
        for (int64_t j = 0; j < whole; j++) {
            p[j] = qn_expf_fast(p[j] - lse);
            ds[j] = p[j] * (ds[j] - mean) * scale;
        }
    } else {
        for (int64_t j = 0; j < whole; j++) k->factor[j] = 1.0f;
        drop_row(a, k->b, k->h, k->q0 + r, k0, n, k->factor);
#pragma omp simd
        for (int64_t j = 0; j < whole; j++) {
            float weight = qn_expf_fast(p[j] - lse);
            p[j] = weight * k->factor[j];
            ds[j] = weight * (k->factor[j] * ds[j] - mean) * scale;
        }
    }
    for (int64_t j = whole; j < width; j++) p[j] = ds[j] = 0.0f;
}

/* The loaded queries against keys [k0, k0 + width): adds to dq, and to dk, dv at row k0 - first. */
static void gradient_tile(work *k, int64_t k0, int64_t width, int64_t first, bool want_q,
                          bool want_kv) {
    const qni_attention *a = k->a;
    const qn_call *c = a->call;
    int64_t w = key_width(a), d = a->d;
    panel key = panel_of(c->in[QNI_ATTN_K], k->b, k0, width, k->g, k->wide_k);
    panel value = panel_of(c->in[QNI_ATTN_V], k->b, k0, width, k->g, k->wide_v);
    row_products(k->rows, width, d, (float)a->scale, k->q, key, k->turned, k->p, w);
    row_products(k->rows, width, d, 1.0f, k->d_o, value, k->turned, k->ds, w);
    for (int64_t r = 0; r < k->rows; r++) {
        gradient_row(k, r, k0, visible(a, k->b, k->q0 + r, k0, width), width);
    }
    if (want_q) {
        qni_sgemm(false, false, k->rows, d, width, 1.0f, k->ds, w, key.data, key.ld, 1.0f,
                  k->dq.data, k->dq.ld);
    }
    if (want_kv) {
        int64_t at = k0 - first;
        qni_sgemm(true, false, width, d, k->rows, 1.0f, k->ds, w, k->q.data, k->q.ld, 1.0f,
                  k->dk.data + at * k->dk.ld, k->dk.ld);
        qni_sgemm(true, false, width, d, k->rows, 1.0f, k->p, w, k->d_o.data, k->d_o.ld, 1.0f,
                  k->dv.data + at * k->dv.ld, k->dv.ld);
    }
}

static sums open_slot(const work *k, int slot, int64_t i, int64_t n, int64_t h, float *buffer) {
    const qn_call *c = k->a->call;
    return sums_open(c->out[slot], qni_adds(c, slot), k->b, i, n, h, k->a->d, buffer);
}

static void close_slot(const work *k, int slot, const sums *s, int64_t i, int64_t n, int64_t h,
                       const float *buffer) {
    const qn_call *c = k->a->call;
    sums_close(s, c->out[slot], qni_adds(c, slot), k->b, i, n, h, k->a->d, buffer);
}

/* Queries [q_from, q_to) of heads [h_from, h_to) against keys [k_from, k_to) of key head g. */
static void walk(work *k, int64_t h_from, int64_t h_to, int64_t q_from, int64_t q_to,
                 int64_t k_from, int64_t k_to, bool want_q, bool want_kv) {
    const qni_attention *a = k->a;
    int64_t keys = k_to - k_from;
    if (want_kv) {
        k->dk = open_slot(k, QNI_ATTN_DK, k_from, keys, k->g, k->wide_dk);
        k->dv = open_slot(k, QNI_ATTN_DV, k_from, keys, k->g, k->wide_dv);
    }
    for (int64_t h = h_from; h < h_to; h++) {
        for (int64_t q0 = q_from; q0 < q_to; q0 += QUERIES) {
            int64_t rows = smaller(QUERIES, q_to - q0);
            int64_t last = smaller(qni_attention_limit(a, k->b, q0 + rows - 1), k_to);
            int64_t first = first_tile(a, k->b, q0, k_from);
            if (last <= first && !want_q) continue;
            load_queries(k, h, q0);
            if (want_q) k->dq = open_slot(k, QNI_ATTN_DQ, q0, k->rows, h, k->wide_dq);
            for (int64_t k0 = first; k0 < last; k0 += KEYS) {
                gradient_tile(k, k0, smaller(KEYS, last - k0), k_from, want_q, want_kv);
            }
            if (want_q) close_slot(k, QNI_ATTN_DQ, &k->dq, q0, k->rows, h, k->wide_dq);
        }
    }
    if (want_kv) {
        close_slot(k, QNI_ATTN_DK, &k->dk, k_from, keys, k->g, k->wide_dk);
        close_slot(k, QNI_ATTN_DV, &k->dv, k_from, keys, k->g, k->wide_dv);
    }
}

static void together_task(void *ctx, int64_t index) {
    const backward *w = ctx;
    const qni_attention *a = &w->a;
    work k = work_open(a);
    int64_t group = a->h / a->g;
    k.b = index / a->g;
    k.g = index % a->g;
    walk(&k, k.g * group, (k.g + 1) * group, 0, a->t, 0, a->s, true, true);
}

static void query_task(void *ctx, int64_t index) {
    const backward *w = ctx;
    const qni_attention *a = &w->a;
    work k = work_open(a);
    int64_t n_blocks = blocks(a->t, QUERIES), h = index / n_blocks % a->h;
    int64_t q0 = (n_blocks - 1 - index % n_blocks) * QUERIES;
    k.b = index / n_blocks / a->h;
    k.g = h / (a->h / a->g);
    walk(&k, h, h + 1, q0, smaller(q0 + QUERIES, a->t), 0, a->s, true, false);
}

static void key_task(void *ctx, int64_t index) {
    const backward *w = ctx;
    const qni_attention *a = &w->a;
    work k = work_open(a);
    int64_t n_blocks = blocks(a->s, w->key_step), group = a->h / a->g;
    int64_t k0 = index % n_blocks * w->key_step;
    k.g = index / n_blocks % a->g;
    k.b = index / n_blocks / a->g;
    walk(&k, k.g * group, (k.g + 1) * group, 0, a->t, k0, smaller(k0 + w->key_step, a->s), false,
         true);
}

qn_status qni_attention_backward_cpu(const qn_call *c) {
    backward w = {.key_step = QUERIES};
    qni_attention_read(c, &w.a);
    const qni_attention *a = &w.a;
    bool want_q = c->out[QNI_ATTN_DQ], want_kv = c->out[QNI_ATTN_DK] || c->out[QNI_ATTN_DV];
    if (a->d == 0 || a->h == 0) return QN_OK;
    if (want_q && want_kv && a->b * a->g >= ENOUGH_TASKS) {
        qn_parallel_for(c->threads, a->b * a->g, together_task, &w);
        return QN_OK;
    }
    if (want_q) {
        qn_parallel_for(c->threads, a->b * a->h * blocks(a->t, QUERIES), query_task, &w);
    }
    if (want_kv) {
        qn_parallel_for(c->threads, a->b * a->g * blocks(a->s, w.key_step), key_task, &w);
    }
    return QN_OK;
}
