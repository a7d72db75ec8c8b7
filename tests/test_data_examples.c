/* test_data_examples.c — fine-tuning data from files to rows: what is learned, to the byte;
 * lengths; broken records; division; labels. And that a packed batch has the loss of the
 * unpacked one. */
#include "io/data_encode.h"
#include "tests/harness.h"
#include "tests/harness_training.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct fixture {
    char dir[64], path[128];
    const char *paths[1];
    qn_tokenizer *t; /* a token a byte, so that masks are seen to the byte */
    qn_data_options o;
} fixture;

static int open_fixture(void **state) {
    fixture *f = calloc(1, sizeof *f);
    qn_vocab *v;
    strcpy(f->dir, "/tmp/quern-examples-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/data.json", f->dir);
    f->paths[0] = f->path;
    qn_assert_ok(qn_vocab_create_byte(&v));
    qn_assert_ok(qn_tokenizer_from_vocab(v, &f->t));
    qn_vocab_free(v);
    f->o = (qn_data_options){.type = QN_DATA_CONVERSATIONS,
                             .tokenizer = f->t,
                             .paths = {{f->paths, 1}},
                             .block_size = 512};
    *state = f;
    return 0;
}

static int close_fixture(void **state) {
    fixture *f = *state;
    unlink(f->path);
    rmdir(f->dir);
    qn_chat_template_free((qn_chat_template *)(uintptr_t)f->o.chat);
    qn_tokenizer_free(f->t);
    free(f);
    return 0;
}

static void use_template(fixture *f, const char *name) {
    qn_chat_template *t;
    qn_assert_ok(qn_chat_template_open(name, NULL, &t));
    qn_chat_template_free((qn_chat_template *)(uintptr_t)f->o.chat);
    f->o.chat = t;
}

static void write_file(fixture *f, const char *text) {
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static qn_status open_text(fixture *f, const char *text, qn_source *s) {
    qn_vocab *v;
    write_file(f, text);
    return qn_data_open(&f->o, s, &v);
}

/* Row `row` as text, what is learned in brackets; examples separated by |. */
static void show_row(const qn_source *s, int64_t block, int64_t row, char *out) {
    int32_t *field[4];
    int64_t labels, n = 0;
    for (int i = 0; i < 4; i++) field[i] = malloc((size_t)block * sizeof(int32_t));
    qn_assert_ok(s->fetch(s->self, QN_SPLIT_VAL, row, 1, (void *const *)field, &labels));
    bool open = false;
    for (int64_t i = 0; i < block && field[2][i] >= 0; i++) {
        bool first = i > 0 && field[2][i] != field[2][i - 1];
        bool learned = i > 0 && !first && field[3][i - 1] != QN_IGNORE_INDEX;
        if (learned) assert_int_equal(field[3][i - 1], field[0][i]);
        if (open && !learned) out[n++] = ']';
        if (first) out[n++] = '|';
        if (!open && learned) out[n++] = '[';
        open = learned;
        out[n++] = (char)field[0][i];
    }
    if (open) out[n++] = ']';
    out[n] = '\0';
    for (int i = 0; i < 4; i++) free(field[i]);
}

/* The records as the val split, so that they come in file order. */
static void assert_masks(fixture *f, const char *records, const char *want) {
    char got[2048], other[192];
    qn_source s;
    qn_vocab *v;
    snprintf(other, sizeof other, "%s/train.json", f->dir);
    FILE *file = fopen(other, "w");
    assert_non_null(file);
    fputs("[{\"prompt\": \"a\", \"completion\": \"b\", \"text\": \"c d\", \"question\": \"e\", "
          "\"answer\": \"f\"}]",
          file);
    fclose(file);
    write_file(f, records);
    const char *train[1] = {other};
    qn_data_options o = f->o;
    o.paths[QN_SPLIT_VAL] = o.paths[QN_SPLIT_TRAIN];
    o.paths[QN_SPLIT_TRAIN] = (qn_strings){train, 1};
    qn_assert_ok(qn_data_open(&o, &s, &v));
    show_row(&s, o.block_size, 0, got);
    assert_string_equal(got, want);
    s.free(s.self);
    unlink(other);
}

#define TWO_TURNS                                                                                  \
    "[{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", "           \
    "\"content\": \"a\"}, {\"role\": \"assistant\", \"content\": \"bb\"}, {\"role\": \"user\", "   \
    "\"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"dd\"}]}]"

static void test_masks(void **state) {
    fixture *f = *state;
    use_template(f, "chatml");
    assert_masks(f, TWO_TURNS,
                 "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
                 "<|im_start|>assistant\n[bb<|im_end|>]\n<|im_start|>user\nc<|im_end|>\n"
                 "<|im_start|>assistant\n[dd<|im_end|>]\n");
    f->o.train_on = QN_TRAIN_ON_LAST;
    assert_masks(f, TWO_TURNS,
                 "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
                 "<|im_start|>assistant\nbb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
                 "<|im_start|>assistant\n[dd<|im_end|>]\n");
    f->o.train_on = QN_TRAIN_ON_ALL; /* nothing predicts the first token */
    assert_masks(f, TWO_TURNS,
                 "<[|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n"
                 "<|im_start|>assistant\nbb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
                 "<|im_start|>assistant\ndd<|im_end|>\n]");
    f->o.train_on = QN_TRAIN_ON_ASSISTANT;
    assert_masks(f,
                 "[{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"train\": true}, "
                 "{\"role\": \"assistant\", \"content\": \"b\", \"weight\": 0}, {\"role\": "
                 "\"user\", \"content\": \"c\"}, {\"role\": \"assistant\", \"content\": \"d\"}]}]",
                 "<|im_start|>user\n[a]<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
                 "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n[d<|im_end|>]\n");
}

static void test_texts(void **state) {
    fixture *f = *state;
    assert_masks(f, "[{\"prompt\": \"1+1=\", \"completion\": \"2\"}]", "1+1=[2]");
    assert_masks(f, "[{\"text\": \"abc\"}]", "a[bc]");
    f->o.keys.prompt = "question";
    f->o.keys.completion = "answer";
    assert_masks(f, "[{\"question\": \"q\", \"answer\": \"aa\"}]", "q[aa]");
}

static void test_lengths(void **state) {
    fixture *f = *state;
    qn_source s;
    const char *text = "{\"prompt\": \"12345678\", \"completion\": \"abcdefgh\"}\n"
                       "{\"prompt\": \"12\", \"completion\": \"ab\"}\n";
    f->o.block_size = 10;
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "data.json:1: found 16 tokens, expected at most "
                                               "data.block_size = 10"));
    f->o.truncate = QN_TRUNCATE_RIGHT;
    assert_masks(f, text, "12345678[ab]"); /* both fill rows of their own */
    f->o.truncate = QN_TRUNCATE_LEFT;
    assert_masks(f, text, "78[abcdefgh]");
    f->o.truncate = QN_TRUNCATE_DROP;
    assert_masks(f, text, "12[ab]");
    qn_assert_ok(open_text(f, text, &s));
    assert_non_null(strstr(qn_data_describe(&s), "1 example: left out, longer than"));
    s.free(s.self);
    f->o.truncate = QN_TRUNCATE_RIGHT;
    f->o.block_size = 6;
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(),
                           "found nothing to learn after truncation: what is learned begins at "
                           "token 8 of 16, data.block_size is 6"));
}

static void test_nothing_to_learn(void **state) {
    fixture *f = *state;
    qn_source s;
    use_template(f, "chatml");
    assert_int_equal(open_text(f,
                               "[{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, "
                               "{\"role\": \"assistant\", \"content\": \"b\", \"weight\": 0}]}]",
                               &s),
                     QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "data.json:1: found nothing to learn in "));
    qn_chat_template_free((qn_chat_template *)(uintptr_t)f->o.chat);
    f->o.chat = NULL;
    assert_int_equal(open_text(f, TWO_TURNS, &s), QN_ERR_CONFIG);
    assert_non_null(strstr(qn_error_message(), "no chat template"));
}

static void test_broken_records(void **state) {
    fixture *f = *state;
    qn_source s;
    const char *text = "{\"text\": \"one\"}\n{\"text\": \"two\n{\"text\": 3}\n{\"text\": \"one\"}\n"
                       "{\"text\": \"four\"}\n";
    assert_int_equal(open_text(f, text, &s), QN_ERR_FORMAT);
    assert_non_null(strstr(qn_error_message(), "data.json:2:"));
    f->o.skip_broken = true;
    qn_assert_ok(open_text(f, text, &s));
    const char *d = qn_data_describe(&s);
    assert_non_null(strstr(d, "warning: 2 examples: left out\n"));
    assert_non_null(strstr(d, "data.json:3:"));
    assert_non_null(strstr(d, "warning: 1 example: the tokens of an earlier example again\n"));
    assert_non_null(strstr(d, "data.json:4\n"));
    assert_non_null(strstr(d, "train: 3 examples"));
    s.free(s.self);
}

static void test_division(void **state) {
    fixture *f = *state;
    qn_source a, b;
    char text[4096] = "";
    for (int i = 0; i < 40; i++) sprintf(text + strlen(text), "{\"text\": \"number %d\"}\n", i);
    f->o.unpacked = true;
    f->o.val_fraction = 0.25;
    f->o.division = QN_DATA_RANDOM;
    qn_assert_ok(open_text(f, text, &a));
    assert_int_equal(a.n[QN_SPLIT_TRAIN], 30);
    assert_int_equal(a.n[QN_SPLIT_VAL], 10);
    qn_assert_ok(open_text(f, text, &b));
    assert_true(a.identity == b.identity);
    b.free(b.self);
    f->o.seed = 9; /* another draw is other data */
    qn_assert_ok(open_text(f, text, &b));
    assert_true(a.identity != b.identity);
    b.free(b.self);
    a.free(a.self);
}

/* An array of names or numbers, one of either, or none. */
static void test_several_labels(void **state) {
    fixture *f = *state;
    qn_source s;
    const char *const names[] = {"a", "b", "c"};
    f->o.type = QN_DATA_LABELLED_TEXT;
    f->o.format = QN_EXAMPLES_LABELLED;
    f->o.block_size = 8;
    f->o.multi_label = true;
    const char *text = "{\"text\": \"x\", \"label\": [\"c\", 0]}\n"
                       "{\"text\": \"y\", \"label\": []}\n"
                       "{\"text\": \"z\", \"label\": \"b\"}\n";
    f->o.label_names = (qn_strings){names, 3};
    f->o.division = QN_DATA_CHRONOLOGICAL;
    qn_assert_ok(open_text(f, text, &s));
    assert_int_equal(s.classes, 3);
    assert_int_equal(s.field[2].dtype, QN_F32);
    assert_int_equal(s.field[2].shape[0], 3);
    int32_t tokens[3 * 8], documents[3 * 8];
    float label[3 * 3];
    void *dst[3] = {tokens, documents, label};
    int64_t labels;
    int met[3] = {0};
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_TRAIN, 0, 3, dst, &labels));
    assert_int_equal(labels, 9);
    for (int i = 0; i < 3; i++) { /* in the epoch's order */
        const float *l = label + 3 * i;
        met[0] += l[0] == 1 && l[1] == 0 && l[2] == 1;
        met[1] += l[0] == 0 && l[1] == 0 && l[2] == 0;
        met[2] += l[0] == 0 && l[1] == 1 && l[2] == 0;
    }
    assert_true(met[0] == 1 && met[1] == 1 && met[2] == 1);
    s.free(s.self);
    f->o.label_names = (qn_strings){names, 2};
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "data.json:1: found label \"c\""));
    f->o.label_names = (qn_strings){0};
    text = "{\"text\": \"x\", \"label\": [52]}\n";
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "found label 52, expected 0 to 51"));
    text = "{\"text\": \"x\", \"label\": [0, null]}\n";
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
}

/* The first token of a word has its class; here a token is a byte, and the space is the word's. */
static void test_labels_of_words(void **state) {
    fixture *f = *state;
    qn_source s;
    const char *const names[] = {"O", "B"};
    f->o.type = QN_DATA_LABELLED_TEXT;
    f->o.format = QN_EXAMPLES_LABELLED;
    f->o.block_size = 12;
    f->o.token_labels = true;
    f->o.label_names = (qn_strings){names, 2};
    const char *text = "{\"text\": [\"ab\", \"c\", \"de\"], \"label\": [\"B\", \"O\", 1]}\n";
    qn_assert_ok(open_text(f, text, &s));
    assert_int_equal(s.classes, 2);
    assert_string_equal(s.field[2].name, "targets");
    int32_t tokens[12], documents[12], targets[12];
    void *dst[3] = {tokens, documents, targets};
    int64_t labels;
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_TRAIN, 0, 1, dst, &labels));
    assert_int_equal(labels, 3);
    const char bytes[] = "ab c de";
    const int32_t want[] = {1, -100, 0, -100, 1, -100, -100};
    int first = 0; /* of the text, behind what the tokenizer puts before it */
    for (int i = 0; i < 12; i++) {
        if (targets[i] != QN_IGNORE_INDEX) break;
        first++;
    }
    for (int i = 0; i < 12; i++) {
        bool inside = i >= first && i < first + (int)strlen(bytes);
        assert_int_equal(targets[i], inside ? want[i - first] : QN_IGNORE_INDEX);
    }
    s.free(s.self);
    assert_int_equal(open_text(f, "{\"text\": \"ab\", \"label\": 1}\n", &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "expected an array of words"));
}

static void test_labels(void **state) {
    fixture *f = *state;
    qn_source s;
    f->o.type = QN_DATA_LABELLED_TEXT;
    f->o.format = QN_EXAMPLES_LABELLED;
    f->o.block_size = 8;
    const char *text =
        "{\"text\": \"good\", \"label\": 2}\n{\"text\": \"bad\", \"label\": \"0\"}\n";
    qn_assert_ok(open_text(f, text, &s));
    assert_int_equal(s.classes, 3);
    s.free(s.self);
    f->o.classes = 2;
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "data.json:1: found label 2, expected 0 to 1"));
    f->o.classes = 0;
    const char *const names[] = {"neg", "pos"};
    text = "{\"text\": \"good\", \"label\": \"pos\"}\n{\"text\": \"bad\", \"label\": \"neg\"}\n";
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "found label \"pos\", expected a class number"));
    f->o.label_names = (qn_strings){names, 2};
    f->o.val_fraction = 0.5;
    qn_assert_ok(open_text(f, text, &s));
    int32_t tokens[8], documents[8], label;
    void *dst[3] = {tokens, documents, &label};
    int64_t labels;
    qn_assert_ok(s.fetch(s.self, QN_SPLIT_VAL, 0, 1, dst, &labels));
    assert_int_equal(label, 0);
    assert_int_equal(tokens[0], 'b');
    assert_int_equal(documents[3], -1);
    s.free(s.self);
    f->o.regress = true;
    f->o.label_names = (qn_strings){0};
    f->o.val_fraction = 0;
    assert_int_equal(open_text(f, text, &s), QN_ERR_DATA);
    assert_non_null(strstr(qn_error_message(), "expected a finite number"));
}

/* ---- packing --------------------------------------------------------------------------------- */

static double loss_of(const char *type, qni_sample_kind kind) {
    qn_rig r;
    qni_samples split[QN_SPLIT_COUNT] = {{0}};
    qn_rig_defaults(&r, type);
    int64_t block = r.config.max_position_embeddings;
    for (int s = 0; s < 2; s++) {
        for (int64_t i = 0; i < 23; i++) {
            int32_t id[64];
            unsigned char target[64];
            int64_t n = 2 + (i * 5 + s) % (block - 1);
            for (int64_t k = 0; k < n; k++) {
                id[k] = (int32_t)((i * 7 + k * k + s) % r.config.vocab_size);
                target[k] = (k + i) % 4 != 0 || k == 1;
            }
            qn_assert_ok(qni_samples_add(&split[s], id, target, NULL, n, 0));
        }
    }
    qni_samples_options o = {.kind = kind, .block = block, .classes = r.config.vocab_size};
    qn_source s;
    qn_assert_ok(qni_samples_source(&o, split, NULL, &s));
    if (kind == QNI_SAMPLES_PACKED) assert_true(s.n[QN_SPLIT_VAL] < 17);
    r.data.source = s;
    r.options.precision = QN_PRECISION_F64;
    qn_assert_ok(qn_rig_open(&r));
    qn_record record = {0};
    qn_assert_ok(qn_session_evaluate(r.session, QN_SPLIT_VAL, 0, &record));
    qn_rig_free(&r);
    s.free(s.self);
    return qn_record_get(&record, "eval/loss", (double)NAN);
}

/* In f64 the two differ by the order of sums over at most 64 keys and 500 targets: 1e-12 is ample,
 * and a single key of a neighbour seen changes the loss in the third digit. */
static void test_packing_changes_nothing(void **state) {
    (void)state;
    const char *const types[] = {"gpt2", "llama"};
    for (int i = 0; i < 2; i++) {
        double packed = loss_of(types[i], QNI_SAMPLES_PACKED),
               single = loss_of(types[i], QNI_SAMPLES_SINGLE);
        if (!(fabs(packed - single) <= 1e-12 * fabs(single)))
            fail_msg("%s: packed %.17g, unpacked %.17g", types[i], packed, single);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_masks, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_texts, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_lengths, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_nothing_to_learn, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_broken_records, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_division, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_labels, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_labels_of_words, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_several_labels, open_fixture, close_fixture),
        cmocka_unit_test(test_packing_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
