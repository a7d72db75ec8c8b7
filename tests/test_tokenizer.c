/* test_tokenizer.c — whole tokenizers against the ids of the reference implementations. */
#include "tests/tokenizer_helpers.h"

static void gpt2_json_matches_golden(void **state) {
    (void)state;
    qn_tokenizer *t = open_shared("gpt2/tokenizer.json.gz");
    assert_int_equal(qn_tokenizer_size(t), 50257);
    check_golden(t, "gpt2");
    qn_tokenizer_free(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpt2_json_matches_golden),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
