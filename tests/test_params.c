/* test_params.c — the parameter table: layout, groups, segments, initial draws, views. */
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_ELEMENTS = 64 };

typedef struct spec {
    const char *name;
    int64_t rows, columns; /* columns 0: a vector */
    bool fused, no_decay;
} spec;

static void add(qn_params *p, const spec *s) {
    qn_param q = {.name = s->name,
                  .ndim = s->columns ? 2 : 1,
                  .shape = {s->rows, s->columns},
                  .fused = s->fused,
                  .no_decay = s->no_decay};
    qn_assert_ok(qn_params_add(p, &q));
}

static const spec specs[] = {
    {"a.q.weight", 5, 7, false, false},  {"a.k.weight", 3, 7, true, false},
    {"a.v.weight", 3, 7, true, false},   {"a.norm.weight", 7, 0, false, true},
    {"b.up.weight", 9, 7, false, false}, {"b.up.bias", 9, 0, false, true},
};
enum { N_SPECS = sizeof specs / sizeof *specs };

static qn_params *make(void) {
    qn_params *p;
    qn_assert_ok(qn_params_create(&p));
    for (int i = 0; i < N_SPECS; i++) add(p, &specs[i]);
    return p;
}

/* Every parameter inside the arrays, none over another, each aligned unless it joins a group. */
static void check_places(const qn_params *p) {
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        assert_true(q->offset >= 0 && q->offset + q->count <= p->total);
        assert_true(q->frozen ? q->offset >= p->trainable : q->offset + q->count <= p->trainable);
        bool joins = q->fused && q[-1].frozen == q->frozen;
        if (joins) {
            assert_int_equal(q->offset, q[-1].offset + q[-1].count);
        } else {
            assert_int_equal(q->offset % ALIGN_ELEMENTS, 0);
        }
        for (int k = 0; k < i; k++) {
            const qn_param *o = &p->item[k];
            assert_true(o->offset + o->count <= q->offset || q->offset + q->count <= o->offset);
        }
    }
}

static void test_layout(void **state) {
    (void)state;
    qn_params *p = make();
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_F32, 2, 0.1, false));
    check_places(p);
    int64_t sum = 5 * 7 + 3 * 7 + 3 * 7 + 7 + 9 * 7 + 9;
    assert_int_equal(p->parameters, sum);
    assert_int_equal(p->trainable_parameters, sum);
    assert_int_equal(p->trainable % ALIGN_ELEMENTS, 0);
    assert_int_equal(p->total, p->trainable);
    const qn_param *q = qn_params_find(p, "a.k.weight");
    assert_non_null(q);
    assert_int_equal(q->offset, 35);
    assert_string_equal(q->hf_name, q->name);
    assert_null(qn_params_find(p, "a.k"));
    qn_params_free(p);
}

static void test_frozen_parameters_come_last(void **state) {
    (void)state;
    qn_params *p = make();
    assert_int_equal(qn_params_group(p, "a.k.*", -1, -1, 1), 1);
    assert_int_equal(qn_params_group(p, "b.**", -1, -1, 1), 2);
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_BF16, 2, 0.1, true));
    check_places(p);
    assert_int_equal(p->trainable_parameters, 35 + 21 + 7);
    assert_int_equal(p->parameters, 35 + 21 + 21 + 7 + 63 + 9);
    assert_true(p->total > p->trainable);
    assert_int_equal(p->weights.shape[0], p->total);
    const qn_tensor *trained[] = {&p->master, &p->grads, &p->moment[0], &p->moment[1], &p->best};
    for (int i = 0; i < 5; i++) assert_int_equal(trained[i]->shape[0], p->trainable);
    for (int i = 0; i < p->n_segments; i++) {
        assert_true(p->segments[i].offset + p->segments[i].count <= p->trainable);
    }
    qn_params_free(p);
}

/* decisions.md: bytes per parameter of each mode, here with two moments and no snapshot. */
static void test_bytes_of_each_precision(void **state) {
    (void)state;
    static const struct {
        qn_precision precision;
        int weight, master, gradient, moment;
        qn_dtype best;
    } modes[] = {{QN_PRECISION_F32, 4, 0, 4, 8, QN_F32},
                 {QN_PRECISION_F64, 8, 0, 8, 16, QN_F64},
                 {QN_PRECISION_BF16, 2, 4, 4, 8, QN_F32},
                 {QN_PRECISION_BF16_SR, 2, 0, 4, 8, QN_BF16}};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        qn_params *p = make();
        qn_assert_ok(qn_params_layout(p, modes[i].precision, 2, 0.1, false));
        int64_t n = p->total;
        assert_int_equal(p->class_bytes[QN_CLASS_WEIGHT], n * modes[i].weight);
        assert_int_equal(p->class_bytes[QN_CLASS_MASTER], n * modes[i].master);
        assert_int_equal(p->class_bytes[QN_CLASS_GRADIENT], n * modes[i].gradient);
        assert_int_equal(p->class_bytes[QN_CLASS_MOMENT], n * modes[i].moment);
        assert_int_equal(p->class_bytes[QN_CLASS_BEST], 0);
        int64_t each = modes[i].weight + modes[i].master + modes[i].gradient + modes[i].moment;
        assert_int_equal(qn_params_bytes(p), n * each);
        qn_params_free(p);

        p = make();
        qn_assert_ok(qn_params_layout(p, modes[i].precision, 1, 0.1, true));
        assert_int_equal(p->best.dtype, modes[i].best);
        assert_int_equal(p->class_bytes[QN_CLASS_MOMENT], n * modes[i].moment / 2);
        assert_int_equal(p->class_bytes[QN_CLASS_BEST], n * (int64_t)qn_dtype_bytes(modes[i].best));
        qn_params_free(p);
    }
}

static void test_binding_gives_disjoint_aligned_arrays(void **state) {
    (void)state;
    qn_params *p = make();
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_BF16, 2, 0.1, true));
    qn_arena *a;
    qn_assert_ok(qn_arena_create("test", (size_t)qn_params_bytes(p), &a));
    qn_params_bind(p, QN_CPU, qn_arena_base(a));
    const qn_tensor *all[] = {&p->weights,   &p->master,    &p->grads,
                              &p->moment[0], &p->moment[1], &p->best};
    const char *at = qn_arena_base(a), *end = at + qn_params_bytes(p);
    for (int i = 0; i < 6; i++) {
        assert_int_equal((uintptr_t)all[i]->data % 64, 0);
        assert_true((const char *)all[i]->data >= at);
        at = (const char *)all[i]->data + qn_tensor_bytes(all[i]);
        assert_true(at <= end);
    }
    qn_tensor k = qn_param_tensor(p, 1, &p->weights);
    assert_int_equal(k.shape[0], 3);
    assert_ptr_equal(k.data, (char *)p->weights.data + p->item[1].offset * 2);
    qn_params_free(p);
    qn_arena_free(a);
}

static void test_first_group_that_matches_wins(void **state) {
    (void)state;
    qn_params *p = make();
    assert_int_equal(qn_params_group(p, "a.*.weight", 0.5, 0.3, -1), 4);
    assert_int_equal(qn_params_group(p, "**.weight", 0.25, -1, -1), 5);
    assert_int_equal(qn_params_group(p, "nothing.*", 9, 9, 1), 0);
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_F32, 0, 0.1, false));
    static const struct {
        const char *name;
        double lr, decay;
    } want[] = {{"a.q.weight", 0.5, 0.3},
                {"a.norm.weight", 0.5, 0.3}, /* a group may ask for it */
                {"b.up.weight", 0.25, 0.1},
                {"b.up.bias", 1.0, 0.0}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        const qn_param *q = qn_params_find(p, want[i].name);
        assert_true(q->lr_scale == want[i].lr && q->weight_decay == want[i].decay);
        assert_false(q->frozen);
    }
    qn_params_free(p);
}

static void test_groups_match_hugging_face_names(void **state) {
    (void)state;
    qn_rig r;
    qn_params *p;
    qn_rig_defaults(&r, "gpt2");
    qn_assert_ok(qn_rig_declare(&r, &p));
    assert_int_equal(qn_params_group(p, "transformer.h.*.mlp.**", -1, -1, 1), 8);
    assert_true(qn_params_find(p, "blocks.1.mlp.down.bias")->frozen);
    assert_false(qn_params_find(p, "blocks.1.attn.out.bias")->frozen);
    qn_params_free(p);
    qn_rig_free(&r);
}

/* The segments: every trainable element has the rule of its parameter, and is in one segment. */
static void test_segments_cover_the_trainable_elements(void **state) {
    (void)state;
    qn_params *p = make();
    qn_params_group(p, "a.k.*", 0.5, -1, -1);
    qn_params_group(p, "a.v.*", -1, -1, 1);
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_F32, 2, 0.1, false));
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        for (int64_t e = q->offset; e < q->offset + q->count; e++) {
            int found = 0;
            for (int k = 0; k < p->n_segments; k++) {
                const qn_segment *s = &p->segments[k];
                if (e < s->offset || e >= s->offset + s->count) continue;
                found++;
                assert_true(s->lr_scale == q->lr_scale && s->weight_decay == q->weight_decay);
            }
            assert_int_equal(found, q->frozen ? 0 : 1);
        }
    }
    qn_params_free(p);
}

static void test_wrong_declarations_are_refused(void **state) {
    (void)state;
    qn_params *p = make();
    qn_param twice = {.name = "b.up.bias", .ndim = 1, .shape = {9}};
    assert_int_equal(qn_params_add(p, &twice), QN_ERR_INTERNAL);
    assert_non_null(strstr(qn_error_message(), "b.up.bias"));
    qn_param huge = {.name = "huge", .ndim = 3, .shape = {1 << 30, 1 << 30, 1 << 30}};
    assert_int_equal(qn_params_add(p, &huge), QN_ERR_CONFIG);
    assert_int_equal(p->n, N_SPECS);
    qn_params_free(p);
}

/* ---- initial draws --------------------------------------------------------------------------- */

enum { DRAWS = 200000 };

typedef struct drawn { /* one large parameter of a kind, drawn */
    qn_params *p;
    qn_arena *a;
} drawn;

static drawn draw(qn_init_kind kind, double scale, qn_precision precision, uint64_t seed,
                  int threads) {
    drawn d;
    qn_assert_ok(qn_params_create(&d.p));
    qn_param q = {.name = "w", .ndim = 1, .shape = {DRAWS}, .init = kind, .init_scale = scale};
    qn_assert_ok(qn_params_add(d.p, &q));
    qn_assert_ok(qn_params_layout(d.p, precision, 0, 0, false));
    qn_assert_ok(qn_arena_create("test", (size_t)qn_params_bytes(d.p), &d.a));
    qn_params_bind(d.p, QN_CPU, qn_arena_base(d.a));
    qn_assert_ok(qn_params_init(d.p, seed, threads));
    return d;
}

static void drawn_free(drawn *d) {
    qn_params_free(d->p);
    qn_arena_free(d->a);
}

static uint64_t digest(qn_init_kind kind, qn_precision precision, uint64_t seed, int threads) {
    drawn d = draw(kind, 0.02, precision, seed, threads);
    uint64_t h = qn_hash_tensor(&d.p->weights);
    drawn_free(&d);
    return h;
}

/* Bounds at five standard errors of each statistic for DRAWS independent draws. */
static void test_statistics(void **state) {
    (void)state;
    static const struct {
        qn_init_kind kind;
        double scale, deviation, fourth; /* of the distribution; fourth: kurtosis */
    } kinds[] = {{QN_INIT_NORMAL, 0.02, 0.02, 3.0},
                 {QN_INIT_UNIFORM, 0.5, 0.28867513459481287, 1.8}};
    for (int k = 0; k < 2; k++) {
        drawn d = draw(kinds[k].kind, kinds[k].scale, QN_PRECISION_F32, 11, 1);
        const float *w = d.p->weights.data;
        double sum = 0, square = 0, lag = 0, largest = 0;
        for (int i = 0; i < DRAWS; i++) {
            double v = (double)w[i] / kinds[k].deviation;
            sum += v;
            square += v * v;
            lag += i ? v * (double)w[i - 1] / kinds[k].deviation : 0;
            largest = fmax(largest, fabs((double)w[i]));
        }
        double error = 1 / sqrt((double)DRAWS);
        assert_true(fabs(sum / DRAWS) <= 5 * error);
        assert_true(fabs(square / DRAWS - 1) <= 5 * error * sqrt(kinds[k].fourth - 1));
        assert_true(fabs(lag / DRAWS) <= 5 * error);
        assert_true(kinds[k].kind == QN_INIT_NORMAL ? largest > 4 * 0.02 && largest < 7 * 0.02
                                                    : largest <= 0.5 && largest > 0.4999);
        drawn_free(&d);
    }
}

static void test_constants(void **state) {
    (void)state;
    drawn one = draw(QN_INIT_ONE, 0.3, QN_PRECISION_F32, 1, 2);
    drawn zero = draw(QN_INIT_ZERO, 0.3, QN_PRECISION_F32, 1, 2);
    for (int i = 0; i < DRAWS; i++) {
        assert_true(((const float *)one.p->weights.data)[i] == 1.0f);
        assert_true(((const float *)zero.p->weights.data)[i] == 0.0f);
    }
    drawn_free(&one);
    drawn_free(&zero);
}

static void test_draws_depend_on_seed_and_name_alone(void **state) {
    (void)state;
    uint64_t h = digest(QN_INIT_NORMAL, QN_PRECISION_F32, 5, 1);
    assert_int_equal(h, digest(QN_INIT_NORMAL, QN_PRECISION_F32, 5, 2));
    assert_int_not_equal(h, digest(QN_INIT_NORMAL, QN_PRECISION_F32, 6, 1));

    qn_params *p = make(); /* other parameters around it, and another place, change nothing */
    drawn d = draw(QN_INIT_NORMAL, 0.02, QN_PRECISION_F32, 5, 1);
    qn_param w = {
        .name = "w", .ndim = 1, .shape = {DRAWS}, .init = QN_INIT_NORMAL, .init_scale = 0.02};
    qn_param v = w;
    v.name = "v";
    qn_assert_ok(qn_params_add(p, &v));
    qn_assert_ok(qn_params_add(p, &w));
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_F32, 0, 0, false));
    qn_arena *a;
    qn_assert_ok(qn_arena_create("test", (size_t)qn_params_bytes(p), &a));
    qn_params_bind(p, QN_CPU, qn_arena_base(a));
    qn_assert_ok(qn_params_init(p, 5, 2));
    qn_tensor same = qn_param_tensor(p, p->n - 1, &p->weights);
    qn_tensor other = qn_param_tensor(p, p->n - 2, &p->weights);
    qn_tensor want = qn_param_tensor(d.p, 0, &d.p->weights);
    assert_int_equal(qn_hash_tensor(&same), qn_hash_tensor(&want));
    assert_int_not_equal(qn_hash_tensor(&other), qn_hash_tensor(&want));
    drawn_free(&d);
    qn_params_free(p);
    qn_arena_free(a);
}

/* Known draws: runs made by one version start alike in the next. Normal draws go through the C
 * library's log and cos, so those are compared as numbers. */
static void test_known_draws(void **state) {
    (void)state;
    assert_int_equal(digest(QN_INIT_UNIFORM, QN_PRECISION_F32, 42, 1), 0x712f105eb67ba2cfu);
    static const double want[] = {0.151289165, -1.21285105, -1.83574462, 1.04359353};
    drawn d = draw(QN_INIT_NORMAL, 1.0, QN_PRECISION_F32, 42, 1);
    for (int i = 0; i < 4; i++) {
        qn_assert_close(qn_tensor_get(&d.p->weights, i), want[i], 1e-7, "normal");
    }
    drawn_free(&d);
}

static void test_every_precision_starts_from_the_same_draw(void **state) {
    (void)state;
    drawn single = draw(QN_INIT_NORMAL, 0.02, QN_PRECISION_F32, 5, 1);
    drawn wide = draw(QN_INIT_NORMAL, 0.02, QN_PRECISION_F64, 5, 1);
    drawn half = draw(QN_INIT_NORMAL, 0.02, QN_PRECISION_BF16, 5, 1);
    const float *w = single.p->weights.data;
    const uint16_t *h = half.p->weights.data;
    for (int i = 0; i < DRAWS; i++) {
        assert_true(((const double *)wide.p->weights.data)[i] == (double)w[i]);
        assert_true(((const float *)half.p->master.data)[i] == w[i]);
        assert_int_equal(h[i], qn_f32_to_bf16(w[i]));
    }
    memset(half.p->weights.data, 0xFF, qn_tensor_bytes(&half.p->weights));
    qn_assert_ok(qn_params_sync_weights(half.p));
    for (int i = 0; i < DRAWS; i++) assert_int_equal(h[i], qn_f32_to_bf16(w[i]));
    drawn_free(&single);
    drawn_free(&wide);
    drawn_free(&half);
}

/* ---- values ---------------------------------------------------------------------------------- */

static void test_fused_views(void **state) {
    (void)state;
    qn_params *p = make();
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_F32, 0, 0, false));
    qn_tape *t;
    qn_graph g;
    qn_assert_ok(qn_tape_create(&(qn_tape_options){.name = "test"}, &t));
    qn_assert_ok(qn_graph_create(t, p, false, &g));
    qn_value *all = qn_graph_fused(&g, 3, "a.%s.weight", "q");
    assert_non_null(all);
    assert_int_equal(all->t.shape[0], 11);
    assert_int_equal(all->t.shape[1], 7);
    assert_int_equal(all->offset, 0);
    assert_null(qn_graph_fused(&g, 4, "a.q.weight")); /* the norm does not belong to it */
    qn_value *k = qn_graph_param(&g, "a.k.weight");
    assert_int_equal(k->offset, 35);
    assert_ptr_equal(k, qn_graph_param(&g, "a.k.weight"));
    assert_int_equal(qn_tape_status(t), QN_OK);
    assert_null(qn_graph_param(&g, "a.z.weight"));
    assert_int_equal(qn_tape_status(t), QN_ERR_INTERNAL);
    assert_non_null(strstr(qn_error_message(), "a.z.weight"));
    qn_tape_free(t);
    qn_params_free(p);
}

static void test_a_partly_frozen_group_is_not_one_view(void **state) {
    (void)state;
    qn_params *p = make();
    qn_params_group(p, "a.v.*", -1, -1, 1);
    qn_assert_ok(qn_params_layout(p, QN_PRECISION_F32, 0, 0, false));
    qn_tape *t;
    qn_graph g;
    qn_assert_ok(qn_tape_create(&(qn_tape_options){.name = "test", .training = true}, &t));
    qn_assert_ok(qn_graph_create(t, p, true, &g));
    assert_null(qn_graph_fused(&g, 3, "a.q.weight"));
    assert_non_null(qn_graph_fused(&g, 2, "a.q.weight"));
    assert_false(qn_graph_param(&g, "a.v.weight")->requires_grad);
    assert_true(qn_graph_param(&g, "a.k.weight")->requires_grad);
    assert_int_equal(qn_tape_status(t), QN_OK);
    qn_tape_free(t);
    qn_params_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_frozen_parameters_come_last),
        cmocka_unit_test(test_bytes_of_each_precision),
        cmocka_unit_test(test_binding_gives_disjoint_aligned_arrays),
        cmocka_unit_test(test_first_group_that_matches_wins),
        cmocka_unit_test(test_groups_match_hugging_face_names),
        cmocka_unit_test(test_segments_cover_the_trainable_elements),
        cmocka_unit_test(test_wrong_declarations_are_refused),
        cmocka_unit_test(test_statistics),
        cmocka_unit_test(test_constants),
        cmocka_unit_test(test_draws_depend_on_seed_and_name_alone),
        cmocka_unit_test(test_known_draws),
        cmocka_unit_test(test_every_precision_starts_from_the_same_draw),
        cmocka_unit_test(test_fused_views),
        cmocka_unit_test(test_a_partly_frozen_group_is_not_one_view),
    };
    return cmocka_run_group_tests_name("params", tests, NULL, NULL);
}
