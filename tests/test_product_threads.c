/* test_product_threads.c — many small products at once keep their bits.
 *
 * Quern calls a BLAS from several threads at a time. A BLAS built without locks hands two callers
 * the same work buffer now and then; this finds it within a few thousand products.
 */
#include "tests/harness.h"

#include <string.h>

enum { BATCH = 16, SIDE = 16, COUNT = BATCH * SIDE * SIDE, REPLAYS = 4000 };

static qn_value *given(qn_tape *t, const char *name, void *data, qn_dtype dt) {
    qn_tensor desc = qn_tensor_make(data, dt, QN_SHAPE(BATCH, SIDE, SIDE));
    for (int64_t i = 0; i < COUNT; i++) {
        qn_tensor_set(&desc, i, qn_rng_normal((uint64_t)name[0], 0, (uint64_t)i));
    }
    return qn_tape_given(t, name, QN_CLASS_INPUT, &desc, false);
}

static void check(qn_dtype dt) {
    static double a[COUNT], b[COUNT], first[COUNT]; /* room for the widest dtype */
    qn_tape *t;
    qn_program *p;
    qn_arena *pool;
    qn_tape_options o = {.name = "products", .threads = 2};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_value *y = qn_matmul(t, given(t, "a", a, dt), given(t, "b", b, dt), false, true);
    qn_tape_keep(t, y, "y");
    qn_assert_ok(qn_program_create(t, &p));
    qn_assert_ok(qn_arena_create("test pool", qn_program_pool_bytes(p), &pool));
    qn_assert_ok(qn_program_bind(p, QN_CPU, pool));
    qn_assert_ok(qn_program_replay(p));
    size_t bytes = qn_tensor_bytes(&y->t);
    memcpy(first, y->t.data, bytes);
    for (int i = 0; i < REPLAYS; i++) {
        qn_assert_ok(qn_program_replay(p));
        if (memcmp(first, y->t.data, bytes) != 0) {
            fail_msg(
                "%s: replay %d gives other bits: the BLAS is not safe to call from two threads",
                qn_dtype_name(dt), i);
        }
    }
    qn_program_free(p);
    qn_arena_free(pool);
}

static void test_f32(void **state) {
    (void)state;
    check(QN_F32);
}

static void test_f64(void **state) {
    (void)state;
    check(QN_F64);
}

static void test_bf16(void **state) {
    (void)state;
    check(QN_BF16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_f64),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests_name("product_threads", tests, NULL, NULL);
}
