/* test_tape.c — recording: values, views, scopes, errors, random keys, globs. */
#include "tests/harness.h"
#include "engine/tape_internal.h"

#include <stdio.h>
#include <string.h>

static qn_tape *tape(void) {
    qn_tape *t;
    qn_tape_options o = {.name = "test", .seed = 5, .threads = 1, .training = true};
    qn_assert_ok(qn_tape_create(&o, &t));
    return t;
}

static qn_value *input(qn_tape *t, const char *name, bool requires_grad, int ndim,
                       const int64_t *shape) {
    qn_tensor desc = qn_tensor_make(NULL, QN_F32, ndim, shape);
    return qn_tape_given(t, name, QN_CLASS_INPUT, &desc, requires_grad);
}

/* ---- values and nodes ------------------------------------------------------------------------ */

static void test_recording_describes_values(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *x = input(t, "x", true, QN_SHAPE(3, 4)), *c = input(t, "c", false, QN_SHAPE(4));
    qn_tape_scope_push(t, "blocks.%d", 2);
    qn_tape_scope_push(t, "attn");
    qn_value *y = qn_mul(t, x, c);
    qn_tape_scope_pop(t);
    qn_value *z = qn_mul(t, c, c);
    qn_tape_scope_pop(t);
    qn_value *top = qn_scale(t, y, 2, 0);
    qn_assert_ok(qn_tape_status(t));

    assert_string_equal(x->name, "x");
    assert_true(x->producer < 0 && x->base == x);
    assert_true(y->t.dtype == QN_F32 && y->t.ndim == 2 && y->t.shape[0] == 3 && y->t.shape[1] == 4);
    assert_null(y->t.data);
    assert_string_equal(y->name, "blocks.2.attn mul:y");
    assert_true(y->requires_grad && !z->requires_grad);
    assert_string_equal(t->nodes[0]->call.scope, "blocks.2.attn");
    assert_string_equal(t->nodes[1]->call.scope, "blocks.2");
    assert_string_equal(t->nodes[2]->call.scope, "");
    assert_true(t->nodes[y->producer]->out[0] == y && t->nodes[y->producer]->in[1] == c);
    assert_int_equal(top->cls, QN_CLASS_TEMP);
    qn_tape_free(t);
}

static void test_no_grad_scopes_nest(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *x = input(t, "x", true, QN_SHAPE(3, 4));
    qn_tape_no_grad_push(t);
    qn_tape_no_grad_push(t);
    qn_tape_no_grad_pop(t);
    assert_false(qn_scale(t, x, 2, 0)->requires_grad);
    assert_false(qn_slice(t, x, 0, 0, 1)->requires_grad);
    qn_tape_no_grad_pop(t);
    assert_true(qn_scale(t, x, 2, 0)->requires_grad);
    assert_true(qn_slice(t, x, 0, 0, 1)->requires_grad);
    qn_tape_free(t);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void test_the_first_error_stays(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *a = input(t, "a", true, QN_SHAPE(2, 3)), *b = input(t, "b", true, QN_SHAPE(4));
    qn_tape_scope_push(t, "head");
    assert_null(qn_mul(t, a, b));
    qn_tape_scope_pop(t);
    assert_int_equal(qn_tape_status(t), QN_ERR_SHAPE);
    char first[QN_MESSAGE_MAX];
    snprintf(first, sizeof first, "%s", qn_error_message());
    assert_non_null(strstr(first, "head"));
    assert_non_null(strstr(first, "[2,3]"));

    assert_null(qn_mul(t, a, a)); /* nothing is recorded after an error */
    assert_null(qn_slice(t, a, 7, 0, 1));
    assert_int_equal(qn_tape_backward(t, a), QN_ERR_SHAPE);
    qn_error_clear();
    assert_int_equal(qn_tape_status(t), QN_ERR_SHAPE);
    assert_string_equal(qn_error_message(), first);

    qn_program *p = NULL; /* takes the tape, even when it fails */
    assert_int_equal(qn_program_create(t, &p), QN_ERR_SHAPE);
    assert_null(p);
}

static void test_null_passes_through(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *x = input(t, "x", true, QN_SHAPE(2, 3));
    assert_null(qn_mul(t, NULL, x));
    assert_null(qn_add(t, x, NULL));
    assert_null(qn_scale(t, NULL, 1, 0));
    assert_null(qn_reduce(t, NULL, QN_SUM, QN_ALL_AXES, false));
    assert_null(qn_linear(t, NULL, x, NULL, QN_ACT_NONE, NULL));
    assert_null(qn_transpose(t, NULL, 0, 1));
    assert_null(qn_tape_view(t, NULL, QN_SHAPE(1), (int64_t[]){1}, 0));
    assert_null(qn_tape_keep(t, NULL, "nothing"));
    qn_assert_ok(qn_tape_status(t));
    qn_tape_free(t);
}

static void test_what_cannot_be_differentiated_is_an_error(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *x = input(t, "x", true, QN_SHAPE(2, 3));
    assert_int_equal(qn_tape_backward(t, qn_mul(t, x, x)), QN_ERR_SHAPE); /* not a scalar */
    qn_tape_free(t);

    t = tape();
    assert_int_equal(qn_tape_backward(t, NULL), QN_ERR_INTERNAL);
    assert_int_equal(qn_tape_status(t), QN_ERR_INTERNAL);
    qn_tape_free(t);

    t = tape(); /* an op without a gradient on the way */
    x = input(t, "x", true, QN_SHAPE(2, 3));
    qn_value *in[] = {x, x}, *out[] = {NULL};
    qn_activation_attrs relu = {QN_ACT_RELU};
    qn_assert_ok(qn_tape_emit(t, &qn_op_activation_bwd, in, out, 0, &relu, NULL));
    qn_value *loss = qn_reduce(t, out[0], QN_SUM, QN_ALL_AXES, false);
    assert_int_equal(qn_tape_backward(t, loss), QN_ERR_UNSUPPORTED);
    assert_non_null(strstr(qn_error_message(), "activation_bwd"));
    qn_tape_free(t);
}

static void test_gradient_storage_of_another_shape_is_refused(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *x = input(t, "x", true, QN_SHAPE(2, 3));
    qn_tape_set_grad(t, x, input(t, "dx", false, QN_SHAPE(3)));
    qn_value *loss = qn_reduce(t, qn_mul(t, x, x), QN_SUM, QN_ALL_AXES, false);
    assert_int_equal(qn_tape_backward(t, loss), QN_ERR_SHAPE);
    qn_tape_free(t);
}

static void test_storage_must_exist_when_bound(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *x = input(t, "x", false, QN_SHAPE(2, 3));
    qn_tape_keep(t, qn_scale(t, x, 2, 0), "y");
    qn_program *p;
    qn_arena *pool;
    qn_assert_ok(qn_program_create(t, &p)); /* planning needs shapes alone */
    qn_assert_ok(qn_arena_create("pool", qn_program_pool_bytes(p), &pool));
    assert_int_equal(qn_program_replay(p), QN_ERR_INTERNAL); /* not bound yet */
    assert_int_equal(qn_program_bind(p, QN_REF, pool), QN_ERR_INTERNAL);
    assert_non_null(strstr(qn_error_message(), "x"));
    qn_program_free(p);
    qn_arena_free(pool);
}

/* ---- views ----------------------------------------------------------------------------------- */

static void test_views_share_storage(void **state) {
    (void)state;
    qn_tape *t = tape();
    qn_value *x = qn_scale(t, input(t, "x", true, QN_SHAPE(4, 6)), 2, 0);
    qn_value *rows = qn_slice(t, x, 0, 1, 3), *part = qn_slice(t, rows, 1, 2, 2);
    qn_value *turned = qn_transpose(t, part, 0, 1);
    int before = t->n_nodes;
    assert_true(part->base == x && part->offset == 6 + 2);
    assert_true(part->t.shape[0] == 3 && part->t.shape[1] == 2);
    assert_true(part->t.stride[0] == 6 && part->t.stride[1] == 1);
    assert_true(turned->base == x && turned->t.shape[0] == 2 && turned->t.stride[0] == 1);
    qn_value *flat = qn_reshape(t, x, QN_SHAPE(2, -1));
    assert_true(flat->base == x && flat->t.shape[1] == 12);
    assert_int_equal(t->n_nodes, before); /* views are not calls */
    assert_null(qn_reshape(t, part, QN_SHAPE(6)));
    assert_int_equal(qn_tape_status(t), QN_ERR_SHAPE);
    qn_tape_free(t);
}

static void test_views_stay_inside(void **state) {
    (void)state;
    static const struct {
        int ndim;
        int64_t shape[2], stride[2], offset;
        bool ok;
    } cases[] = {
        {2, {4, 6}, {6, 1}, 0, true},   {2, {4, 6}, {6, 1}, 1, false},  {1, {1}, {1}, 23, true},
        {1, {1}, {1}, 24, false},       {1, {1}, {1}, -1, false},       {1, {0}, {1}, 24, true},
        {2, {2, 2}, {22, 1}, 0, true},  {2, {2, 2}, {23, 1}, 0, false}, {1, {-1}, {1}, 0, false},
        {2, {3, 2}, {1, -1}, 5, false}, {0, {0}, {0}, 23, true},        {0, {0}, {0}, 24, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        qn_tape *t = tape();
        qn_value *x = input(t, "x", true, QN_SHAPE(4, 6));
        qn_value *v =
            qn_tape_view(t, x, cases[i].ndim, cases[i].shape, cases[i].stride, cases[i].offset);
        if ((v != NULL) != cases[i].ok)
            fail_msg("view %zu should %s", i, cases[i].ok ? "exist" : "fail");
        assert_int_equal(qn_tape_status(t), cases[i].ok ? QN_OK : QN_ERR_SHAPE);
        qn_tape_free(t);
    }
}

/* ---- random keys ----------------------------------------------------------------------------- */

static uint64_t dropout_key(uint64_t seed, const char *scope, const char *site, int calls_before) {
    qn_tape *t;
    qn_tape_options o = {.name = "test", .seed = seed, .threads = 1, .training = true};
    qn_assert_ok(qn_tape_create(&o, &t));
    qn_value *x = input(t, "x", false, QN_SHAPE(4, 6));
    qn_tensor desc = qn_tensor_make(NULL, QN_I64, QN_SHAPE(2));
    qn_value *rng = qn_tape_given(t, "rng", QN_CLASS_INPUT, &desc, false);
    for (int i = 0; i < calls_before; i++) x = qn_scale(t, x, 2, 0);
    qn_tape_scope_push(t, "%s", scope);
    assert_non_null(qn_dropout(t, x, 0.5, rng, site));
    uint64_t key = t->nodes[t->n_nodes - 1]->call.rng_key;
    qn_tape_free(t);
    return key;
}

static void test_random_keys_depend_on_names_alone(void **state) {
    (void)state;
    uint64_t key = dropout_key(1, "blocks.0", "attn", 0);
    assert_true(key == dropout_key(1, "blocks.0", "attn", 3)); /* not on the place on the tape */
    assert_true(key == qn_rng_key(1, "blocks.0", "attn"));
    assert_true(key != dropout_key(2, "blocks.0", "attn", 0));
    assert_true(key != dropout_key(1, "blocks.1", "attn", 0));
    assert_true(key != dropout_key(1, "blocks.0", "mlp", 0));
}

static void test_dropout_needs_training_and_a_probability(void **state) {
    (void)state;
    qn_tensor desc = qn_tensor_make(NULL, QN_I64, QN_SHAPE(2));
    for (int training = 0; training < 2; training++) {
        qn_tape *t;
        qn_tape_options o = {.name = "test", .seed = 1, .threads = 1, .training = training != 0};
        qn_assert_ok(qn_tape_create(&o, &t));
        qn_value *x = input(t, "x", true, QN_SHAPE(4, 6));
        qn_value *rng = qn_tape_given(t, "rng", QN_CLASS_INPUT, &desc, false);
        assert_true(qn_dropout(t, x, 0, rng, NULL) == x);
        assert_true((qn_dropout(t, x, 0.5, rng, NULL) == x) == !training);
        qn_tape_free(t);
    }
}

/* ---- globs ----------------------------------------------------------------------------------- */

static void test_globs(void **state) {
    (void)state;
    static const struct {
        const char *glob, *path;
        bool match;
    } cases[] = {
        {"", "", true},
        {"", "a", false},
        {"a", "", false},
        {"blocks.1", "blocks.1", true},
        {"blocks.1", "blocks.10", false},
        {"blocks.?", "blocks.7", true},
        {"blocks.?", "blocks.17", false},
        {"blocks?7", "blocks.7", false},
        {"*", "blocks", true},
        {"*", "", true},
        {"*", "blocks.1", false},
        {"**", "blocks.1", true},
        {"**", "", true},
        {"*.1", "blocks.1", true},
        {"blocks.*", "blocks.1", true},
        {"blocks.*", "blocks.1.attn", false},
        {"blocks.**", "blocks.1.attn", true},
        {"blocks.*.attn", "blocks.12.attn", true},
        {"blocks.*.attn", "blocks.12.mlp.attn", false},
        {"blocks.**.weight", "blocks.12.mlp.up.weight", true},
        {"**.bias", "blocks.1.mlp.bias", true},
        {"**.bias", "bias", false},
        {"**bias", "bias", true},
        {"*_proj.weight", "q_proj.weight", true},
        {"*a*b*c", "xaxxbxbxc", true},
        {"*a*b*c", "xaxxbxbxd", false},
        {"ln_?.*", "ln_1.weight", true},
        {"***", "a.b", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (qn_glob_match(cases[i].glob, cases[i].path) != cases[i].match) {
            fail_msg("\"%s\" should %smatch \"%s\"", cases[i].glob, cases[i].match ? "" : "not ",
                     cases[i].path);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recording_describes_values),
        cmocka_unit_test(test_no_grad_scopes_nest),
        cmocka_unit_test(test_the_first_error_stays),
        cmocka_unit_test(test_null_passes_through),
        cmocka_unit_test(test_what_cannot_be_differentiated_is_an_error),
        cmocka_unit_test(test_gradient_storage_of_another_shape_is_refused),
        cmocka_unit_test(test_storage_must_exist_when_bound),
        cmocka_unit_test(test_views_share_storage),
        cmocka_unit_test(test_views_stay_inside),
        cmocka_unit_test(test_random_keys_depend_on_names_alone),
        cmocka_unit_test(test_dropout_needs_training_and_a_probability),
        cmocka_unit_test(test_globs),
    };
    return cmocka_run_group_tests_name("tape", tests, NULL, NULL);
}
