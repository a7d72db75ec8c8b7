/* test_tensor.c — dtypes, strided views, element access, bf16 and f16 conversion. */
#include "tests/harness.h"

#include <math.h>
#include <string.h>

static void dtypes(void **state) {
    (void)state;
    static const size_t bytes[QN_DTYPE_COUNT] = {4, 8, 2, 2, 4, 8, 1};
    for (int i = 0; i < QN_DTYPE_COUNT; i++) {
        qn_dtype dt;
        assert_int_equal(qn_dtype_bytes((qn_dtype)i), bytes[i]);
        assert_true(qn_dtype_parse(qn_dtype_name((qn_dtype)i), &dt));
        assert_int_equal(dt, i);
        assert_int_equal(qn_dtype_is_float((qn_dtype)i), i <= QN_F16);
    }
    qn_dtype dt;
    assert_false(qn_dtype_parse("float32", &dt));
}

static void shapes(void **state) {
    (void)state;
    char text[64], small[6];
    qn_tensor t = qn_tensor_make(NULL, QN_BF16, QN_SHAPE(2, 3, 4));
    assert_int_equal(qn_tensor_count(&t), 24);
    assert_int_equal(qn_tensor_bytes(&t), 48);
    assert_int_equal(t.stride[0], 12);
    assert_int_equal(t.stride[2], 1);
    assert_string_equal(qn_tensor_describe(&t, text, sizeof text), "bf16[2,3,4]");
    assert_string_equal(qn_tensor_describe(&t, small, sizeof small), "bf16[");
    qn_tensor scalar = qn_tensor_make(NULL, QN_F32, 0, NULL);
    assert_int_equal(qn_tensor_count(&scalar), 1);
    assert_string_equal(qn_tensor_describe(&scalar, text, sizeof text), "f32[]");
    qn_tensor empty = qn_tensor_make(NULL, QN_F32, QN_SHAPE(3, 0));
    assert_int_equal(qn_tensor_count(&empty), 0);
    assert_true(qn_tensor_is_contiguous(&empty));
    assert_false(qn_tensor_same_shape(&t, &empty));
    assert_true(qn_tensor_same_shape(&t, &t));
}

static void contiguity(void **state) {
    (void)state;
    qn_tensor t = qn_tensor_make(NULL, QN_F32, QN_SHAPE(4, 1, 5));
    t.stride[1] = 999; /* an axis of one element never spoils it */
    assert_true(qn_tensor_is_contiguous(&t));
    t.stride[0] = 6;
    assert_false(qn_tensor_is_contiguous(&t));
    t.shape[0] = 1;
    assert_true(qn_tensor_is_contiguous(&t));
    t.stride[2] = 0;
    assert_false(qn_tensor_is_contiguous(&t));
}

static void element_access_follows_strides(void **state) {
    (void)state;
    int32_t data[12];
    for (int i = 0; i < 12; i++) data[i] = i;
    qn_tensor t = {data, QN_I32, 2, {3, 2}, {1, 6}}; /* columns 0..2 of rows 0 and 1, transposed */
    static const int want[] = {0, 6, 1, 7, 2, 8};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(qn_tensor_offset(&t, i), want[i]);
        assert_true(qn_tensor_get(&t, i) == want[i]);
        assert_int_equal(qn_tensor_get_int(&t, i), want[i]);
    }
    qn_tensor_set(&t, 3, -4.0);
    assert_int_equal(data[7], -4);
}

static void integers_read_exactly(void **state) {
    (void)state;
    int64_t big = INT64_C(9007199254740993);
    uint8_t byte = 200;
    qn_tensor t = qn_tensor_make(&big, QN_I64, 0, NULL), u = qn_tensor_make(&byte, QN_U8, 0, NULL);
    assert_true(qn_tensor_get_int(&t, 0) == big);
    assert_int_equal(qn_tensor_get_int(&u, 0), 200);
}

static void bf16_rounds_to_nearest_even(void **state) {
    (void)state;
    static const struct {
        float f;
        uint16_t bits;
    } cases[] = {
        {1.0f, 0x3F80},      {-2.5f, 0xC020},       {0x1.01p0f, 0x3F80}, /* tie to even */
        {0x1.03p0f, 0x3F82}, {0x1.0101p0f, 0x3F81}, {0x1.00fffep0f, 0x3F80},   {0.0f, 0},
        {-0.0f, 0x8000},     {INFINITY, 0x7F80},    {0x1.fffffep127f, 0x7F80}, {0x1p-149f, 0},
        {0x1p-133f, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(qn_f32_to_bf16(cases[i].f), cases[i].bits);
    }
    assert_true(isnan(qn_bf16_to_f32(qn_f32_to_bf16(NAN))));
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qn_bf16_to_f32((uint16_t)h);
        if (!isnan(f)) assert_int_equal(qn_f32_to_bf16(f), h);
    }
}

/* Rounding f64 to f32 and then to bf16 would take these to the wrong neighbour. */
static void f64_rounds_once(void **state) {
    (void)state;
    uint16_t h;
    qn_tensor t = qn_tensor_make(&h, QN_BF16, 0, NULL);
    qn_tensor_set(&t, 0, 0x1.01p0 + 0x1p-40);
    assert_int_equal(h, 0x3F81);
    qn_tensor_set(&t, 0, 0x1.03p0 - 0x1p-40);
    assert_int_equal(h, 0x3F81);
    qn_tensor_set(&t, 0, -(0x1.01p0 + 0x1p-40));
    assert_int_equal(h, 0xBF81);
    qn_tensor_set(&t, 0, 0x1.01p0);
    assert_int_equal(h, 0x3F80);
    qn_tensor_set(&t, 0, (double)NAN);
    assert_true(isnan(qn_bf16_to_f32(h)));
    qn_tensor_set(&t, 0, 1e300);
    assert_int_equal(h, 0x7F80);
}

/* Every f16 goes to f32 and back; halves between neighbours round to even. */
static void f16_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qn_f16_to_f32((uint16_t)h);
        if (isnan(f)) {
            assert_true(isnan(qn_f16_to_f32(qn_f32_to_f16(f))));
            continue;
        }
        assert_int_equal(qn_f32_to_f16(f), h);
        float next = qn_f16_to_f32((uint16_t)(h + 1));
        if ((h & 0x7FFF) < 0x7BFF) {
            uint32_t even = h & 1u ? h + 1 : h;
            assert_int_equal(qn_f32_to_f16(0.5f * f + 0.5f * next), even);
        }
    }
    assert_true(qn_f16_to_f32(0x3C00) == 1.0f && qn_f16_to_f32(0x0001) == 0x1p-24f);
    assert_int_equal(qn_f32_to_f16(65519.0f), 0x7BFF);
    assert_int_equal(qn_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(qn_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(qn_f32_to_f16(0x1.000002p-25f), 1);
    assert_int_equal(qn_f32_to_f16(-1e10f), 0xFC00);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dtypes),
        cmocka_unit_test(shapes),
        cmocka_unit_test(contiguity),
        cmocka_unit_test(element_access_follows_strides),
        cmocka_unit_test(integers_read_exactly),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(f64_rounds_once),
        cmocka_unit_test(f16_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
