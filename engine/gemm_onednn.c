/* gemm_onednn.c — f32 products and bf16 tiles by oneDNN, on the calling thread.
 *
 * oneDNN threads through OpenMP; it is held to the calling thread by setting its team size to one
 * around every call. A build without OpenMP has no such handle and does not use the library.
 *
 * bf16: a primitive per tile shape (at most four: inner, right, lower, corner), made once and run
 * with workspace of ours, so that any number of tasks may share it.
 */
#include "engine/gemm.h"

#if defined(QUERN_DNNL) && defined(_OPENMP)

#include <omp.h>
#include <oneapi/dnnl/dnnl.h>

enum { SHAPES = 4, ARGS = 4 };

typedef struct shape {
    int64_t m, n;
    dnnl_memory_desc_t desc[ARGS]; /* a, b, c, scratchpad */
    dnnl_primitive_t primitive;
} shape;

struct qni_bf16 {
    dnnl_engine_t engine;
    int n_shapes, n_streams;
    shape shapes[SHAPES];
    dnnl_stream_t streams[]; /* one per thread */
};

bool qni_onednn_sgemm(bool a_trans, bool b_trans, int64_t m, int64_t n, int64_t k, float alpha,
                      const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                      float *c, int64_t ldc) {
    if (m == 0 || n == 0) return true;
    if (k == 0) return false; /* the library leaves C as it is */
    int team = omp_get_max_threads();
    omp_set_num_threads(1);
    dnnl_status_t status = dnnl_sgemm(a_trans ? 'T' : 'N', b_trans ? 'T' : 'N', m, n, k, alpha, a,
                                      lda, b, ldb, beta, c, ldc);
    omp_set_num_threads(team);
    return status == dnnl_success;
}

bool qni_bf16_available(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16");
#else
    return false;
#endif
}

static qn_status check(dnnl_status_t s, const char *what) {
    if (s == dnnl_success) return QN_OK;
    return qn_fail(s == dnnl_out_of_memory ? QN_ERR_OOM : QN_ERR_DEVICE,
                   "matrix product: oneDNN failed to %s (status %d)", what, (int)s);
}

/* Tile heights and widths that occur; returns how many shapes that makes. */
static int list_shapes(const qni_gemm *g, shape *out) {
    int64_t rest_m = g->m - (g->tiles_m - 1) * g->tile_m;
    int64_t rest_n = g->n - (g->tiles_n - 1) * g->tile_n;
    int n = 0;
    for (int i = 0; i < SHAPES; i++) {
        bool lower = i & 1, right = i & 2;
        if (lower && (g->tiles_m == 1 || rest_m == g->tile_m)) continue;
        if (right && (g->tiles_n == 1 || rest_n == g->tile_n)) continue;
        out[n++] = (shape){.m = lower ? rest_m : g->tile_m, .n = right ? rest_n : g->tile_n};
    }
    return n;
}

static dnnl_status_t describe(dnnl_memory_desc_t *d, int64_t rows, int64_t cols,
                              dnnl_data_type_t dt, bool trans, int64_t ld) {
    const dnnl_dims_t dims = {rows, cols}, strides = {trans ? 1 : ld, trans ? ld : 1};
    return dnnl_memory_desc_init_by_strides(d, 2, dims, dt, strides);
}

/* Fills s->desc and makes the descriptor of the primitive. */
static qn_status describe_shape(const qni_gemm *g, dnnl_engine_t engine, shape *s,
                                dnnl_primitive_desc_t *out) {
    dnnl_primitive_attr_t attr = NULL;
    dnnl_matmul_desc_t product;
    QN_TRY(check(describe(&s->desc[0], s->m, g->k, dnnl_bf16, g->a_trans, g->lda), "describe A"));
    QN_TRY(check(describe(&s->desc[1], g->k, s->n, dnnl_bf16, g->b_trans, g->ldb), "describe B"));
    QN_TRY(check(describe(&s->desc[2], s->m, s->n, dnnl_f32, false, s->n), "describe C"));
    QN_TRY(check(dnnl_matmul_desc_init(&product, &s->desc[0], &s->desc[1], NULL, &s->desc[2]),
                 "describe a product"));
    dnnl_status_t made = dnnl_primitive_attr_create(&attr);
    if (made == dnnl_success) {
        made = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user);
    }
    if (made == dnnl_success) made = dnnl_primitive_desc_create(out, &product, attr, engine, NULL);
    dnnl_primitive_attr_destroy(attr);
    QN_TRY(check(made, "choose an implementation"));
    s->desc[3] = *dnnl_primitive_desc_query_md(*out, dnnl_query_scratchpad_md, 0);
    return QN_OK;
}

static qn_status scratch_of(const qni_gemm *g, dnnl_engine_t engine, size_t *bytes) {
    shape shapes[SHAPES];
    int n = list_shapes(g, shapes);
    *bytes = 0;
    for (int i = 0; i < n; i++) {
        dnnl_primitive_desc_t d = NULL;
        QN_TRY(describe_shape(g, engine, &shapes[i], &d));
        size_t need = dnnl_memory_desc_get_size(&shapes[i].desc[3]);
        dnnl_primitive_desc_destroy(d);
        if (need > *bytes) *bytes = need;
    }
    return QN_OK;
}

qn_status qni_bf16_scratch(const qni_gemm *g, size_t *bytes) {
    dnnl_engine_t engine = NULL;
    int team = omp_get_max_threads();
    omp_set_num_threads(1);
    qn_status status = check(dnnl_engine_create(&engine, dnnl_cpu, 0), "start");
    if (status == QN_OK) status = scratch_of(g, engine, bytes);
    if (engine) dnnl_engine_destroy(engine);
    omp_set_num_threads(team);
    return status;
}

static qn_status fill(qni_bf16 *p, const qni_gemm *g, int threads) {
    QN_TRY(check(dnnl_engine_create(&p->engine, dnnl_cpu, 0), "start"));
    for (; p->n_streams < threads; p->n_streams++) {
        QN_TRY(check(dnnl_stream_create(&p->streams[p->n_streams], p->engine, 0), "start"));
    }
    p->n_shapes = list_shapes(g, p->shapes);
    for (int i = 0; i < p->n_shapes; i++) {
        dnnl_primitive_desc_t d = NULL;
        QN_TRY(describe_shape(g, p->engine, &p->shapes[i], &d));
        dnnl_status_t made = dnnl_primitive_create(&p->shapes[i].primitive, d);
        dnnl_primitive_desc_destroy(d);
        QN_TRY(check(made, "make a primitive"));
    }
    return QN_OK;
}

qn_status qni_bf16_create(const qni_gemm *g, int threads, qni_bf16 **out) {
    qni_bf16 *p = qn_alloc(sizeof *p + (size_t)threads * sizeof p->streams[0], "bf16 products");
    if (!p) return QN_ERR_OOM;
    int team = omp_get_max_threads();
    omp_set_num_threads(1);
    qn_status status = fill(p, g, threads);
    omp_set_num_threads(team);
    if (status != QN_OK) {
        qni_bf16_free(p);
        return status;
    }
    *out = p;
    return QN_OK;
}

void qni_bf16_free(qni_bf16 *p) {
    if (!p) return;
    for (int i = 0; i < p->n_shapes; i++) {
        if (p->shapes[i].primitive) dnnl_primitive_destroy(p->shapes[i].primitive);
    }
    for (int i = 0; i < p->n_streams; i++) dnnl_stream_destroy(p->streams[i]);
    if (p->engine) dnnl_engine_destroy(p->engine);
    qn_free(p);
}

static dnnl_status_t execute(const qni_bf16 *p, const shape *s, void *const *data) {
    static const int name[ARGS] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST,
                                   DNNL_ARG_SCRATCHPAD};
    dnnl_stream_t stream = p->streams[qn_parallel_thread()];
    dnnl_exec_arg_t args[ARGS];
    dnnl_status_t status = dnnl_success;
    int n = 0;
    for (; n < ARGS && status == dnnl_success; n++) {
        args[n].arg = name[n];
        status = dnnl_memory_create(&args[n].memory, &s->desc[n], p->engine, data[n]);
        if (status != dnnl_success) break;
    }
    if (status == dnnl_success) status = dnnl_primitive_execute(s->primitive, stream, ARGS, args);
    if (status == dnnl_success) status = dnnl_stream_wait(stream);
    for (int i = 0; i < n; i++) dnnl_memory_destroy(args[i].memory);
    return status;
}

bool qni_bf16_tile(const qni_bf16 *p, int64_t m, int64_t n, const void *a, const void *b, float *c,
                   void *scratch) {
    const shape *s = p->shapes;
    while (s->m != m || s->n != n) s++; /* every tile of the plan is listed */
    void *const data[ARGS] = {(void *)(uintptr_t)a, (void *)(uintptr_t)b, c, scratch};
    int team = omp_get_max_threads();
    omp_set_num_threads(1);
    dnnl_status_t status = execute(p, s, data);
    omp_set_num_threads(team);
    return status == dnnl_success;
}

#else

bool qni_onednn_sgemm(bool a_trans, bool b_trans, int64_t m, int64_t n, int64_t k, float alpha,
                      const float *a, int64_t lda, const float *b, int64_t ldb, float beta,
                      float *c, int64_t ldc) {
    (void)a_trans, (void)b_trans, (void)m, (void)n, (void)k, (void)alpha, (void)a, (void)lda;
    (void)b, (void)ldb, (void)beta, (void)c, (void)ldc;
    return false;
}

bool qni_bf16_available(void) { return false; }

static qn_status absent(void) {
    return qn_fail(QN_ERR_INTERNAL, "matrix product: this build has no oneDNN");
}

qn_status qni_bf16_scratch(const qni_gemm *g, size_t *bytes) {
    (void)g, (void)bytes;
    return absent();
}

qn_status qni_bf16_create(const qni_gemm *g, int threads, qni_bf16 **out) {
    (void)g, (void)threads, (void)out;
    return absent();
}

void qni_bf16_free(qni_bf16 *p) { (void)p; }

bool qni_bf16_tile(const qni_bf16 *p, int64_t m, int64_t n, const void *a, const void *b, float *c,
                   void *scratch) {
    (void)p, (void)m, (void)n, (void)a, (void)b, (void)c, (void)scratch;
    return false;
}

#endif
