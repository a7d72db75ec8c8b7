/* test_rotary.c — tables of rotary frequencies: values of real models, what is refused, reach. */
#include "layers/layers.h"
#include "tests/harness.h"

#include <string.h>

/* The references are printed with ten digits. */
static const double PRINTED = 1e-9;

static void expect(const qn_rope_attrs *table, int pair, double want) {
    qn_assert_close(table->frequency[pair] / want, 1.0, PRINTED, "frequency");
}

static qn_model_config llama_3_2_1b(void) {
    return (qn_model_config){.head_dim = 64,
                             .max_position_embeddings = 131072,
                             .rotary = {.kind = QN_ROTARY_LLAMA3,
                                        .theta = 5e5,
                                        .factor = 32,
                                        .low_freq_factor = 1,
                                        .high_freq_factor = 4,
                                        .original_max_position_embeddings = 8192}};
}

static qn_model_config qwen_yarn(void) {
    return (qn_model_config){.head_dim = 128,
                             .max_position_embeddings = 32768,
                             .rotary = {.kind = QN_ROTARY_YARN,
                                        .theta = 1e6,
                                        .factor = 4,
                                        .original_max_position_embeddings = 32768}};
}

/* Llama-3.2-1B, and Qwen2.5-7B with yarn, as transformers computes them. */
static void real_models(void **state) {
    (void)state;
    qn_model_config c = llama_3_2_1b();
    qn_rope_attrs table;
    qn_assert_ok(qn_rotary_table(&c, 0, &table));
    assert_int_equal(table.pairs, 32);
    assert_true(table.scale == 1.0);
    expect(&table, 14, 3.211445995e-03);
    expect(&table, 15, 1.290547928e-03);
    expect(&table, 16, 4.295567966e-04);
    expect(&table, 17, 9.708287803e-05);
    expect(&table, 18, 1.946163818e-05);
    c = qwen_yarn();
    qn_assert_ok(qn_rotary_table(&c, 0, &table));
    qn_assert_close(table.scale, 1.138629436, PRINTED, "scale");
    expect(&table, 23, 6.978305849e-03);
    expect(&table, 24, 5.375321491e-03);
    expect(&table, 30, 1.064360981e-03);
    expect(&table, 35, 2.462584069e-04);
    expect(&table, 40, 4.445698525e-05);
}

/* yarn's factor follows from the lengths where it is absent. */
static void factor_of_lengths(void **state) {
    (void)state;
    qn_model_config c = qwen_yarn();
    qn_rope_attrs stated, derived;
    qn_assert_ok(qn_rotary_table(&c, 0, &stated));
    c.rotary.factor = 0;
    c.max_position_embeddings = 4 * 32768;
    qn_assert_ok(qn_rotary_table(&c, 0, &derived));
    assert_memory_equal(&stated, &derived, sizeof stated);
}

static void part_of_a_head(void **state) {
    (void)state;
    qn_model_config c = {.head_dim = 10, .max_position_embeddings = 64};
    c.rotary = (qn_rotary){.theta = 1e4, .partial_rotary_factor = 0.4};
    qn_rope_attrs table;
    qn_assert_ok(qn_rotary_table(&c, 0, &table));
    assert_int_equal(table.pairs, 2);
    expect(&table, 1, 0.01);
    c.rotary.partial_rotary_factor = 0.5; /* 5 elements make no pairs */
    assert_int_equal(qn_rotary_table(&c, 0, &table), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "5 of the 10 elements"));
    c.head_dim = 2 * QN_ROPE_PAIRS + 2;
    c.rotary.partial_rotary_factor = 1;
    assert_int_equal(qn_rotary_table(&c, 0, &table), QN_ERR_UNSUPPORTED);
}

static void refused(void **state) {
    (void)state;
    qn_rope_attrs table;
    qn_model_config c = llama_3_2_1b();
    c.rotary.high_freq_factor = 1;
    assert_int_equal(qn_rotary_table(&c, 0, &table), QN_ERR_CONFIG);
    c = llama_3_2_1b();
    c.rotary.factor = 0;
    assert_int_equal(qn_rotary_table(&c, 0, &table), QN_ERR_CONFIG);
    c.rotary = (qn_rotary){.theta = -1};
    assert_int_equal(qn_rotary_table(&c, 0, &table), QN_ERR_CONFIG);
}

static void reach(void **state) {
    (void)state;
    qn_model_config c = llama_3_2_1b();
    assert_int_equal(qn_rotary_reach(&c), 131072); /* extended already */
    c = qwen_yarn();
    assert_int_equal(qn_rotary_reach(&c), 131072);
    c.rotary = (qn_rotary){.kind = QN_ROTARY_LINEAR, .theta = 1e4, .factor = 2};
    assert_int_equal(qn_rotary_reach(&c), 65536);
    c.rotary = (qn_rotary){.theta = 1e4};
    assert_int_equal(qn_rotary_reach(&c), 32768);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(real_models),    cmocka_unit_test(factor_of_lengths),
        cmocka_unit_test(part_of_a_head), cmocka_unit_test(refused),
        cmocka_unit_test(reach),
    };
    return cmocka_run_group_tests_name("rotary", tests, NULL, NULL);
}
