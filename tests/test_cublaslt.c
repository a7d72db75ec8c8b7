/* test_cublaslt.c — the library's products against the hand-written ones, in every order of
 * operands and with every part of a product that the library is asked for. On the emulated device
 * a library of plain loops stands in for NVIDIA's.
 */
#include "kernels/cublaslt.h"
#include "tests/harness.h"

#ifdef QUERN_CUDA

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { M = 40, N = 24, K = 72, WORKSPACE = 1 << 20 };

typedef enum part { A, B, C, OWN, BIAS, RESIDUAL, KEPT, OWN_KEPT, WORK, PARTS } part;

typedef struct device_memory {
    void *p[PARTS];
    size_t bytes[PARTS];
} device_memory;

static const qn_device_row *row(void) { return qn_device_get(QN_CUDA); }

/* All parts of `dt`, the outputs of c_dt; the two outputs begin alike. */
static void fill(device_memory *d, qn_dtype dt, qn_dtype c_dt) {
    static const int64_t count[PARTS] = {M * K, N * K, M * N, M * N, N, M * N, M * N, M * N};
    for (int i = 0; i < PARTS; i++) {
        bool out = i == C || i == OWN;
        qn_tensor t = qn_tensor_make(NULL, out ? c_dt : dt, QN_SHAPE(count[i]));
        d->bytes[i] = i == WORK ? WORKSPACE : qn_tensor_bytes(&t);
        qn_assert_ok(row()->alloc(d->bytes[i], &d->p[i]));
        if (i == WORK) continue;
        t.data = malloc(d->bytes[i]);
        if (!t.data) fail_msg("out of memory");
        for (int64_t k = 0; k < count[i]; k++)
            qn_tensor_set(&t, k, qn_rng_normal(out ? C : (uint64_t)i, 0, (uint64_t)k));
        qn_assert_ok(qn_device_copy(QN_CUDA, d->p[i], t.data, d->bytes[i]));
        free(t.data);
    }
}

static void release(device_memory *d) {
    for (int i = 0; i < PARTS; i++) row()->release(d->p[i], d->bytes[i]);
}

/* |x - y| <= tol (1 + |y|) for the elements of two parts. */
static void compare(const device_memory *d, part x, part y, qn_dtype dt, double tol,
                    const char *what) {
    void *host[2] = {malloc(d->bytes[x]), malloc(d->bytes[y])};
    if (!host[0] || !host[1]) fail_msg("out of memory");
    qn_assert_ok(qn_device_copy(QN_CUDA, host[0], d->p[x], d->bytes[x]));
    qn_assert_ok(qn_device_copy(QN_CUDA, host[1], d->p[y], d->bytes[y]));
    qn_tensor a = qn_tensor_make(host[0], dt, QN_SHAPE(M * N));
    qn_tensor b = qn_tensor_make(host[1], dt, QN_SHAPE(M * N));
    for (int64_t i = 0; i < M * N; i++)
        qn_assert_close(qn_tensor_get(&a, i), qn_tensor_get(&b, i), tol, what);
    free(host[0]);
    free(host[1]);
}

typedef struct form {
    const char *name;
    bool bias, residual, accumulate, kept;
    qn_activation activation;
} form;

static qn_product product_of(const device_memory *d, const form *f, qn_dtype dt, qn_dtype c_dt,
                             int order) {
    qn_product p = {.m = M, .n = N, .k = K, .dtype = dt, .c_dtype = c_dt, .alpha = 0.5f};
    p.a_trans = order & 1;
    p.b_trans = order & 2;
    p.lda = p.a_trans ? M : K;
    p.ldb = p.b_trans ? K : N;
    p.ldc = p.ldr = p.ldp = N;
    p.a = d->p[A];
    p.b = d->p[B];
    p.c = d->p[C];
    p.accumulate = f->accumulate;
    p.activation = f->activation;
    if (f->bias) p.bias = d->p[BIAS], p.bias_step = 1;
    if (f->residual) p.residual = d->p[RESIDUAL];
    if (f->kept) p.pre = d->p[KEPT];
    return p;
}

static void check(const qn_cublaslt *l, const form *f, qn_dtype dt, qn_dtype c_dt, int order) {
    device_memory d = {0};
    qn_cublaslt_product q;
    fill(&d, dt, c_dt);
    qn_product p = product_of(&d, f, dt, c_dt, order);
    qn_assert_ok(qn_cublaslt_prepare(l, &p, WORKSPACE, &q));
    assert_true(q.workspace_bytes <= WORKSPACE);
    qn_assert_ok(qn_cublaslt_run(l, &q, &p, d.p[WORK], NULL));
    qn_cublaslt_release(l, &q);
    p.c = d.p[OWN];
    if (f->kept) p.pre = d.p[OWN_KEPT];
    qn_assert_ok(qn_cuda_product(&p, NULL));
    qn_assert_ok(row()->synchronize(NULL));
    /* Sums of 72 in other orders, then one rounding, which may fall to the other side. */
    compare(&d, C, OWN, c_dt, c_dt == QN_BF16 ? 0x1p-8 : 0x1p-18, f->name);
    if (f->kept) compare(&d, KEPT, OWN_KEPT, dt, 0x1p-8, "pre-activation");
    release(&d);
}

/* The library, or a skip with the reason. */
static void open_library(qn_cublaslt *l) {
#ifdef QUERN_CUBLASLT
    setenv("QUERN_CUBLASLT", QUERN_CUBLASLT, 1);
#endif
    if (!qn_cuda_usable()) skip();
    if (qn_cublaslt_open(l) == QN_OK) return;
    print_message("%s\n", qn_error_message());
    qn_cublaslt_close(l);
    skip();
}

static void products_agree(void **state) {
    (void)state;
    static const form forms[] = {
        {.name = "plain"},
        {.name = "bias", .bias = true},
        {.name = "accumulate", .accumulate = true},
        {.name = "residual", .residual = true, .bias = true},
        {.name = "relu", .bias = true, .activation = QN_ACT_RELU},
        {.name = "gelu", .activation = QN_ACT_GELU_TANH},
        {.name = "gelu, kept", .bias = true, .kept = true, .activation = QN_ACT_GELU_TANH},
    };
    static const struct {
        qn_dtype dt, c_dt;
    } types[] = {{QN_F32, QN_F32}, {QN_BF16, QN_BF16}, {QN_BF16, QN_F32}};
    qn_cublaslt l;
    open_library(&l);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        for (int k = 0; k < 3; k++) {
            bool mixed = types[k].dt != types[k].c_dt;
            if (mixed && (forms[i].residual || forms[i].kept)) continue; /* it refuses those */
            for (int order = 0; order < 4; order++)
                check(&l, &forms[i], types[k].dt, types[k].c_dt, order);
        }
    }
    qn_cublaslt_close(&l);
}

static void what_is_not_asked_for_is_refused(void **state) {
    (void)state;
    static const form forms[] = {
        {.name = "beside accumulation", .residual = true, .accumulate = true},
        {.name = "something is added", .accumulate = true, .activation = QN_ACT_RELU},
        {.name = "activation", .activation = QN_ACT_GELU},
        {.name = "pre-activation", .kept = true, .activation = QN_ACT_RELU},
    };
    qn_cublaslt l;
    device_memory d = {0};
    open_library(&l);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        qn_cublaslt_product q;
        d.p[RESIDUAL] = d.p[KEPT] = &d;
        qn_product p = product_of(&d, &forms[i], QN_F32, QN_F32, 0);
        assert_int_equal(qn_cublaslt_prepare(&l, &p, 0, &q), QN_ERR_UNSUPPORTED);
        assert_non_null(strstr(qn_error_message(), forms[i].name));
    }
    qn_cublaslt_close(&l);
}

static void a_missing_library_is_named(void **state) {
    (void)state;
    qn_cublaslt l;
    setenv("QUERN_CUBLASLT", "/nowhere/libcublasLt.so", 1);
    assert_int_equal(qn_cublaslt_open(&l), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "cuBLASLt"));
    qn_cublaslt_close(&l);
    unsetenv("QUERN_CUBLASLT");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_agree),
        cmocka_unit_test(what_is_not_asked_for_is_refused),
        cmocka_unit_test(a_missing_library_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void products_agree(void **state) {
    (void)state;
    print_message("this build has no CUDA\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(products_agree)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
