/* test_op_table.c — what every op row owes: names, bodies, masks that make sense. */
#include "tests/harness.h"

#include <string.h>

static void rows_are_complete(void **state) {
    (void)state;
    int count = 0;
    for (const qn_op *const *p = qn_op_table; *p; p++, count++) {
        const qn_op *op = *p;
        assert_ptr_equal(qn_op_find(op->name), op);
        if (!op->infer || !op->run[QN_REF] || !op->cost) fail_msg("%s lacks a body", op->name);
        if (op->run[QN_CPU] && !op->cpu_dtypes) fail_msg("%s: its CPU body is unused", op->name);
        if (op->release && !op->prepare) fail_msg("%s releases nothing", op->name);
        assert_true(op->n_in <= QN_MAX_IN && op->n_out >= 1 && op->n_out <= QN_MAX_OUT);
        for (int i = 0; i < QN_MAX_IN; i++) {
            if (!op->in_name[i] != (i >= op->n_in)) fail_msg("%s: in_name[%d]", op->name, i);
        }
        for (int i = 0; i < QN_MAX_OUT; i++) {
            if (!op->out_name[i] != (i >= op->n_out)) fail_msg("%s: out_name[%d]", op->name, i);
            int slot =
                op->alias[i] == QN_FRESH || op->alias[i] == QN_UPDATES ? 0 : op->alias[i] - 1;
            if (slot >= (op->n_in ? op->n_in : 1)) fail_msg("%s: alias[%d]", op->name, i);
        }
        if (op->optional_in >> op->n_in || op->optional_out >> op->n_out ||
            op->can_accumulate >> op->n_out) {
            fail_msg("%s: a mask speaks of slots that it does not have", op->name);
        }
    }
    int listed = 0;
#define QNI_X(name) listed++;
    QN_OP_MAP(QNI_X)
#undef QNI_X
    assert_int_equal(count, listed);
}

static void names_are_unique(void **state) {
    (void)state;
    for (const qn_op *const *p = qn_op_table; *p; p++) {
        for (const qn_op *const *q = p + 1; *q; q++)
            assert_true(strcmp((*p)->name, (*q)->name) != 0);
    }
    assert_null(qn_op_find("no such op"));
    assert_null(qn_op_find(""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_are_complete),
        cmocka_unit_test(names_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
