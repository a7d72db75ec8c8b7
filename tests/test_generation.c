/* test_generation.c — texts continued: the same alone and in a batch, ended by a token, by a text
 * and by length, handed out in pieces that never take anything back. */
#include "io/generation.h"
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CONTEXT = 48, LETTERS = 13 };

typedef struct fixture {
    qn_rig rig;
    qn_tokenizer *t;
} fixture;

/* Letters a to l and ä, so that a character may have two bytes. */
static int open_fixture(void **state) {
    static fixture f;
    uint32_t c[LETTERS];
    for (uint32_t i = 0; i < LETTERS - 1; i++) c[i] = 'a' + i;
    c[LETTERS - 1] = 0xe4;
    qn_vocab *v;
    qn_assert_ok(qn_vocab_create_char(c, LETTERS, &v));
    qn_assert_ok(qn_tokenizer_from_vocab(v, &f.t));
    qn_vocab_free(v);
    qn_rig_defaults(&f.rig, "llama");
    f.rig.config.max_position_embeddings = CONTEXT;
    f.rig.config.initializer_range = 0.5; /* decided enough to differ from prompt to prompt */
    qn_assert_ok(qn_rig_open(&f.rig));
    *state = &f;
    return 0;
}

static int close_fixture(void **state) {
    fixture *f = *state;
    qn_tokenizer_free(f->t);
    qn_rig_free(&f->rig);
    return 0;
}

enum { PROMPTS = 7 };
static const char *const prompts[PROMPTS] = {
    "abc", "l", "kjihgfedcba", "aaaaaaaaaaaaaaaa", "bcdefgh", "\xc3\xa4", "gggb"};

typedef struct collected {
    char text[PROMPTS][256];
    bool done[PROMPTS];
} collected;

static void collect(void *self, int64_t prompt, const char *bytes, size_t count) {
    collected *c = self;
    assert_false(c->done[prompt]);
    assert_true(count > 0 && (bytes[0] & 0xC0) != 0x80); /* whole characters */
    size_t n = strlen(c->text[prompt]);
    memcpy(c->text[prompt] + n, bytes, count);
    c->text[prompt][n + count] = '\0';
}

static qn_status collect_done(void *self, int64_t prompt, const qn_completion *c) {
    collected *all = self;
    all->done[prompt] = true;
    assert_string_equal(all->text[prompt], c->text.data); /* what was handed out is the text */
    return QN_OK;
}

static void generate(fixture *f, const qn_generation_options *o, int64_t rows, int64_t n,
                     qn_completion *out) {
    qn_generator *g;
    qn_infer_options io = {.device = QN_CPU, .threads = 1, .batch_size = rows};
    qn_ids ids[PROMPTS] = {{0}};
    const qn_encode_options e = {0};
    collected c = {{{0}}, {0}};
    qn_generation_sink sink = {.self = &c, .text = collect, .done = collect_done};
    qn_assert_ok(qn_generator_create(&io, &f->rig.model, f->rig.session->params, CONTEXT, &g));
    for (int i = 0; i < n; i++)
        qn_assert_ok(
            qn_tokenizer_encode(f->t, prompts[i], (int64_t)strlen(prompts[i]), &e, &ids[i]));
    memset(out, 0, (size_t)n * sizeof *out);
    qn_assert_ok(qn_generate(g, f->t, o, ids, n, &sink, out));
    for (int i = 0; i < n; i++) {
        assert_true(c.done[i]);
        assert_int_equal(out[i].prompt_tokens, ids[i].n);
        assert_memory_equal(out[i].ids.id, ids[i].id, (size_t)ids[i].n * sizeof(int32_t));
        qn_ids_free(&ids[i]);
    }
    qn_generator_free(g);
}

static void free_all(qn_completion *c, int64_t n) {
    for (int64_t i = 0; i < n; i++) qn_completion_free(&c[i]);
}

static void test_batches_agree(void **state) {
    fixture *f = *state;
    for (int drawn = 0; drawn < 2; drawn++) {
        const qn_generation_options o = {.sampling = {.temperature = drawn, .seed = 5},
                                         .max_new_tokens = 25};
        qn_completion one[PROMPTS], all[PROMPTS], three[PROMPTS];
        generate(f, &o, 1, PROMPTS, one);
        generate(f, &o, PROMPTS, PROMPTS, all);
        generate(f, &o, 3, PROMPTS, three); /* rows take further prompts as others end */
        for (int i = 0; i < PROMPTS; i++) {
            assert_int_equal(one[i].ids.n - one[i].prompt_tokens, 25);
            assert_int_equal(one[i].finish, QN_FINISH_LENGTH);
            assert_string_equal(one[i].text.data, all[i].text.data);
            assert_string_equal(one[i].text.data, three[i].text.data);
        }
        assert_string_not_equal(one[0].text.data, one[1].text.data);
        free_all(one, PROMPTS);
        free_all(all, PROMPTS);
        free_all(three, PROMPTS);
    }
}

static void test_stops(void **state) {
    fixture *f = *state;
    qn_generation_options o = {.sampling = {.temperature = 1, .seed = 5}, .max_new_tokens = 25};
    qn_completion full[PROMPTS], cut[PROMPTS];
    generate(f, &o, 2, PROMPTS, full);
    for (int i = 0; i < PROMPTS; i++) {
        /* A stop of two characters out of the middle, and one that only begins like the text. */
        char stop[8], begins[8];
        size_t at = full[i].text.length / 2;
        while ((full[i].text.data[at] & 0xC0) == 0x80) at++;
        snprintf(stop, sizeof stop, "%.3s", full[i].text.data + at);
        snprintf(begins, sizeof begins, "%.2sz", full[i].text.data);
        o.n_stop = 2;
        o.stop[0] = begins;
        o.stop[1] = stop;
        generate(f, &o, PROMPTS, PROMPTS, cut);
        const char *first = strstr(full[i].text.data, stop);
        assert_int_equal(cut[i].finish, QN_FINISH_STOP);
        assert_int_equal(cut[i].text.length, first - full[i].text.data);
        assert_memory_equal(cut[i].text.data, full[i].text.data, cut[i].text.length);
        free_all(cut, PROMPTS);
    }
    o.n_stop = 0;
    for (int i = 0; i < PROMPTS; i++) {
        o.n_eos = 1;
        o.eos[0] = full[i].ids.id[full[i].prompt_tokens + 4];
        generate(f, &o, 3, PROMPTS, cut);
        assert_int_equal(cut[i].finish, QN_FINISH_EOS);
        int64_t n = cut[i].ids.n;
        assert_true(n <= full[i].prompt_tokens + 5);
        assert_int_equal(cut[i].ids.id[n - 1], o.eos[0]);
        assert_memory_equal(cut[i].ids.id, full[i].ids.id, (size_t)n * sizeof(int32_t));
        free_all(cut, PROMPTS);
    }
    free_all(full, PROMPTS);
}

static void test_full_context(void **state) {
    fixture *f = *state;
    qn_generation_options o = {.sampling = {.temperature = 1, .seed = 5}, .max_new_tokens = 200};
    qn_completion c[PROMPTS];
    generate(f, &o, 2, PROMPTS, c);
    for (int i = 0; i < PROMPTS; i++) { /* the last token drawn needs no place */
        assert_int_equal(c[i].ids.n, CONTEXT + 1);
        assert_int_equal(c[i].finish, QN_FINISH_LENGTH);
    }
    free_all(c, PROMPTS);
    o.slide = true;
    generate(f, &o, 2, PROMPTS, c);
    for (int i = 0; i < PROMPTS; i++)
        assert_int_equal(c[i].ids.n, c[i].prompt_tokens + o.max_new_tokens);
    free_all(c, PROMPTS);
}

static void test_refused(void **state) {
    fixture *f = *state;
    qn_generator *g;
    qn_infer_options io = {.device = QN_CPU, .threads = 1};
    qn_generation_options o = {.max_new_tokens = 1};
    qn_generation_sink sink = {0};
    qn_assert_ok(qn_generator_create(&io, &f->rig.model, f->rig.session->params, 4, &g));
    int32_t id[5] = {0};
    qn_completion c = {{0}};
    qn_ids prompt = {.id = id, .n = 0};
    assert_int_equal(qn_generate(g, f->t, &o, &prompt, 1, &sink, &c), QN_ERR_DATA);
    prompt.n = 5;
    assert_int_equal(qn_generate(g, f->t, &o, &prompt, 1, &sink, &c), QN_ERR_DATA);
    assert_string_equal(qn_error_message(), "generate: prompt 0 has 5 tokens, the context holds 4");
    qn_completion_free(&c);
    qn_generator_free(g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_agree),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_full_context),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, open_fixture, close_fixture);
}
