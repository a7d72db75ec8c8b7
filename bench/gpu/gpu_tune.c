/* gpu_tune.c — the measured side of kernels/matmul_tune.c: candidates, their model's time, their
 * time. */
#include "bench/gpu/gpu_tune.h"
#include "engine/measure.h"

#ifdef QUERN_CUDA

#include "kernels/matmul_tune.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct shape {
    int64_t m, n, k;
    bool a_trans, b_trans;
    qn_dtype c_dtype;
} shape;

/* The three products of GPT-2's and Llama's layers, as they are stored: y = x w^T, dx = dy w,
 * dw = dy^T x. */
static const shape large[] = {
    {16384, 2304, 768, false, true, QN_BF16},   {16384, 768, 768, false, true, QN_BF16},
    {16384, 3072, 768, false, true, QN_BF16},   {16384, 768, 3072, false, true, QN_BF16},
    {16384, 50304, 768, false, true, QN_BF16},  {16384, 768, 2304, false, false, QN_BF16},
    {16384, 768, 3072, false, false, QN_BF16},  {16384, 3072, 768, false, false, QN_BF16},
    {16384, 768, 50304, false, false, QN_BF16}, {2304, 768, 16384, true, false, QN_F32},
    {768, 768, 16384, true, false, QN_F32},     {3072, 768, 16384, true, false, QN_F32},
    {768, 3072, 16384, true, false, QN_F32},    {50304, 768, 16384, true, false, QN_F32},
    {8192, 6144, 4096, false, true, QN_BF16},   {8192, 4096, 4096, false, true, QN_BF16},
    {8192, 28672, 4096, false, true, QN_BF16},  {8192, 4096, 14336, false, true, QN_BF16},
    {8192, 4096, 28672, false, false, QN_BF16}, {8192, 14336, 4096, false, false, QN_BF16},
    {6144, 4096, 8192, true, false, QN_F32},    {4096, 4096, 8192, true, false, QN_F32},
    {28672, 4096, 8192, true, false, QN_F32},   {4096, 14336, 8192, true, false, QN_F32},
    {8192, 8192, 8192, false, true, QN_BF16},   {8192, 8192, 512, false, true, QN_BF16},
    {1000, 1000, 1000, false, true, QN_BF16},   {64, 4096, 4096, false, true, QN_BF16},
};
static const shape small[] = {{64, 64, 64, false, true, QN_BF16},
                              {72, 40, 64, false, false, QN_BF16},
                              {64, 72, 136, true, false, QN_F32}};

typedef struct memory {
    const qn_device_row *row;
    void *part[4]; /* a, b, c, scratch */
    size_t bytes[4];
    void *event[2];
} memory;

/* N(0, 0.02^2), a block repeated: never zeros, which take less power and so run faster. */
static qn_status fill(const memory *x, int part) {
    enum { BLOCK = 65521 };
    uint16_t *block = qn_alloc(BLOCK * sizeof *block, "values");
    if (!block) return QN_ERR_OOM;
    for (int i = 0; i < BLOCK; i++)
        block[i] = qn_f32_to_bf16((float)(0.02 * qn_rng_normal((uint64_t)part, 0, (uint64_t)i)));
    size_t all = x->bytes[part], done = all < BLOCK * 2 ? all : BLOCK * 2;
    qn_status s = qn_device_copy(QN_CUDA, x->part[part], block, done);
    while (s == QN_OK && done < all) {
        size_t bytes = all - done < done ? all - done : done;
        s = x->row->copy((char *)x->part[part] + done, x->part[part], bytes, NULL);
        done += bytes;
    }
    if (s == QN_OK) s = x->row->synchronize(NULL);
    qn_free(block);
    return s;
}

static qn_status open_memory(memory *x, const shape *s, qn_product *p) {
    *p = (qn_product){.m = s->m,
                      .n = s->n,
                      .k = s->k,
                      .dtype = QN_BF16,
                      .c_dtype = s->c_dtype,
                      .a_trans = s->a_trans,
                      .b_trans = s->b_trans,
                      .lda = s->a_trans ? s->m : s->k,
                      .ldb = s->b_trans ? s->k : s->n,
                      .ldc = s->n,
                      .alpha = 1.0f};
    x->bytes[0] = (size_t)(s->m * s->k) * 2;
    x->bytes[1] = (size_t)(s->n * s->k) * 2;
    x->bytes[2] = (size_t)(s->m * s->n) * qn_dtype_bytes(s->c_dtype);
    x->bytes[3] = qn_product_scratch(p) + 256;
    for (int i = 0; i < 4; i++) QN_TRY(x->row->alloc(x->bytes[i], &x->part[i]));
    for (int i = 0; i < 2; i++) QN_TRY(x->row->event_create(&x->event[i]));
    for (int i = 0; i < 2; i++) QN_TRY(fill(x, i));
    p->a = x->part[0];
    p->b = x->part[1];
    p->c = x->part[2];
    p->scratch = x->part[3];
    return QN_OK;
}

static void close_memory(memory *x) {
    for (int i = 0; i < 4; i++) {
        if (x->part[i]) x->row->release(x->part[i], x->bytes[i]);
    }
    for (int i = 0; i < 2; i++) {
        if (x->event[i]) x->row->event_free(x->event[i]);
    }
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Median of some repetitions of a few launches each. */
static qn_status time_tile(const memory *x, const qn_product *p, const qn_tile *tile, bool tiny,
                           double *seconds) {
    enum { MAX = 21, LAUNCHES = 3 };
    double times[MAX];
    int repeats = tiny ? 3 : MAX, launches = tiny ? 1 : LAUNCHES;
    for (int i = -1; i < repeats; i++) { /* the first loads the kernel */
        QN_TRY(x->row->event_record(x->event[0], NULL));
        for (int k = 0; k < launches; k++) QN_TRY(qn_cuda_product_on(p, tile, NULL));
        QN_TRY(x->row->event_record(x->event[1], NULL));
        QN_TRY(x->row->event_synchronize(x->event[1]));
        if (i < 0) continue;
        QN_TRY(x->row->event_seconds(x->event[0], x->event[1], &times[i]));
    }
    qsort(times, (size_t)repeats, sizeof *times, by_size);
    *seconds = times[repeats / 2] / launches;
    return QN_OK;
}

static qn_status tune_shape(const shape *s, const qn_gpu *gpu, bool tiny, const char *device) {
    memory x = {.row = qn_device_get(QN_CUDA)};
    qn_product p;
    qn_candidate list[QN_MAX_TILES];
    qn_status status = QN_OK;
    int count;
    QN_TRY_GOTO(open_memory(&x, s, &p));
    int able = qn_product_candidates(&p, gpu, list, &count);
    for (int i = 0; i < able; i++) {
        double seconds, flops = 2.0 * (double)s->m * (double)s->n * (double)s->k;
        QN_TRY_GOTO(time_tile(&x, &p, list[i].tile, tiny, &seconds));
        printf("{\"kernel\":\"product\",\"shape\":\"%lldx%lldx%lld %c%c\",\"dtype\":\"bf16\","
               "\"c_dtype\":\"%s\",\"config\":\"%s\",\"median_us\":%.3f,\"expected_us\":%.3f,"
               "\"tflops\":%.4g,\"taken\":%s,\"device\":\"%s\"}\n",
               (long long)s->m, (long long)s->n, (long long)s->k, s->a_trans ? 'T' : 'N',
               s->b_trans ? 'T' : 'N', qn_dtype_name(s->c_dtype), list[i].tile->name, seconds * 1e6,
               list[i].seconds * 1e6, flops / seconds * 1e-12, i == 0 ? "true" : "false", device);
        fflush(stdout);
    }
done:
    close_memory(&x);
    return status;
}

qn_status qn_gpu_tune(bool tiny, const char *device) {
    const shape *list = tiny ? small : large;
    int n = tiny ? (int)(sizeof small / sizeof *small) : (int)(sizeof large / sizeof *large);
    qn_gpu gpu;
    QN_TRY(qn_cuda_gpu(&gpu));
    for (int i = 0; i < n; i++) {
        qn_status s = tune_shape(&list[i], &gpu, tiny, device);
        if (s == QN_ERR_DEVICE) return s;
        if (s != QN_OK) fprintf(stderr, "quern_gpu: %s\n", qn_error_message());
    }
    return QN_OK;
}

#else

qn_status qn_gpu_tune(bool tiny, const char *device) {
    (void)tiny;
    return qn_fail(QN_ERR_UNSUPPORTED, "tune: this build has no CUDA (%s)", device);
}

#endif
