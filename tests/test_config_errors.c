/* test_config_errors.c — every kind of mistake, told at its place. */
#include "tests/config_helpers.h"
#include "io/text_buffer.h"

#define FAMILIES                                                                                   \
    "\"mlp\", \"gpt2\", \"llama\", \"mistral\", \"qwen2\", \"qwen3\", \"bert\", \"roberta\""

/* A decoder with one more member of its section, which is the second line. */
#define DECODER(type, member)                                                                      \
    "\"model\": {\"type\": " type ", \"hidden_size\": 8, \"num_hidden_layers\": 1, "               \
    "\"num_attention_heads\": 2,\n " member "},\n "                                                \
    "\"data\": {\"type\": \"text\", \"path\": \"x.txt\", \"block_size\": 100}, " TRAIN "}"

/* ---- errors ---------------------------------------------------------------------------------- */

/* One mistake each; `error` is the whole first line. */
static const struct {
    const char *text, *error, *hint;
} mistakes[] = {
    /* the text */
    {"{", "c.json:1:2: error: found the end of the text, expected a key in double quotes", NULL},
    {"[]", "c.json:1:1: error: expected an object with the keys of a configuration", NULL},
    {"{\"threads\": 1e999}",
     "c.json:1:13: error: number out of range, expected at most "
     "1.79769e+308",
     NULL},
    {"{\"threads\": 1} x", "c.json:1:16: error: found `x`, expected nothing after the value", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n \"threads\": 1,\n \"threads\": 2}",
     "c.json:3:2: error: threads: duplicate key", NULL},
    /* names */
    {"{" MODEL "," DATA "," TRAIN ",\n\"thread\": 1}", "c.json:2:1: error: thread: unknown key",
     "did you mean `threads`?"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"learning_rate\": 1}}",
     "c.json:2:15: error: optimizer.learning_rate: unknown key",
     "Hugging Face's `learning_rate` is `optimizer.lr` here"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"LR\": 1}}",
     "c.json:2:15: error: optimizer.LR: unknown key", "did you mean `optimizer.lr`?"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"lr\": 1}", "c.json:2:1: error: lr: unknown key",
     "did you mean `optimizer.lr`?"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer.lr\": 1}",
     "c.json:2:1: error: optimizer.lr: unknown key", "write {\"optimizer\": {\"lr\": ...}}"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"xyzzy\\u001b[31m\": 1}",
     "c.json:2:1: error: xyzzy?[31m: unknown key", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"groups[]\": []}}",
     "c.json:2:15: error: optimizer.groups[]: unknown key", "did you mean `optimizer.groups`?"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"groups\": [{\"match\": \"*\", \"x\": 1}]}}",
     "c.json:2:41: error: optimizer.groups.0.x: unknown key", NULL},
    /* types */
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"lr\": \"1e-4\"}}",
     "c.json:2:21: error: optimizer.lr: expected number > 0, found \"1e-4\" (string)",
     "numbers are written without quotes"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": 3}",
     "c.json:2:14: error: optimizer: expected object, found 3", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"threads\": {}}",
     "c.json:2:12: error: threads: expected integer >= 0 and <= 1024, found an object", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"threads\": 1.5}",
     "c.json:2:12: error: threads: expected integer >= 0 and <= 1024, found 1.5", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"log\": {\"tensorboard\": 1}}",
     "c.json:2:24: error: log.tensorboard: expected true or false, found 1", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"run\": {\"name\": \"../x\"}}",
     "c.json:2:17: error: run.name: expected string of letters, digits, `.`, `_` and `-` that "
     "begins with a letter or digit, found \"../x\"",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"device\": \"gpu\"}",
     "c.json:2:11: error: device: expected one of \"auto\", \"cpu\", \"ref\", \"cuda\", found "
     "\"gpu\"",
     "did you mean \"cpu\"?"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"device\": \"auto|cpu\"}",
     "c.json:2:11: error: device: expected one of \"auto\", \"cpu\", \"ref\", \"cuda\", found "
     "\"auto|cpu\"",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"betas\": 0.9}}",
     "c.json:2:24: error: optimizer.betas: expected array of 2: number >= 0 and < 1, found 0.9",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"groups\": [1]}}",
     "c.json:2:26: error: optimizer.groups.0: expected object, found 1", NULL},
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": [\"a\", 3]}," TRAIN "}",
     "c.json:1:135: error: data.path.1: expected path (string), found 3", NULL},
    /* ranges */
    {"{" MODEL "," DATA "," TRAIN ",\n\"run\": {\"seed\": 9223372036854775808}}",
     "c.json:2:17: error: run.seed: expected integer of 64 bits, found 9223372036854775808", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"betas\": [0.9, 1.0]}}",
     "c.json:2:30: error: optimizer.betas.1: expected number >= 0 and < 1, found 1.0", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"betas\": [0.9]}}",
     "c.json:2:24: error: optimizer.betas: expected 2 elements, found 1", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"lr\": 0}}",
     "c.json:2:21: error: optimizer.lr: expected number > 0, found 0", NULL},
    {"{" MODEL "," DATA ",\"train\": {\"max_steps\": 0}}",
     "c.json:1:161: error: train.max_steps: expected integer >= 1 and <= 1e+12, found 0", NULL},
    {"{" MODEL "," DATA ",\"train\": {\"max_steps\": 9, \"memory_limit\": \"2 Gib\"}}",
     "c.json:1:180: error: train.memory_limit: expected bytes (integer, or string such as "
     "\"2GiB\") >= 0 and <= 1e+18, found \"2 Gib\" (string)",
     NULL},
    /* variables */
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": \"${env:QUERN_NO_SUCH}/x\"}," TRAIN "}",
     "c.json:1:129: error: data.path: environment variable QUERN_NO_SUCH is not set",
     "export QUERN_NO_SUCH=..., or give the value by --set data.path=..."},
    {"{" MODEL
     ",\"data\": {\"type\": \"text\", \"path\": \"${env:QUERN_NO_SUCH:?get it at X}\"}," TRAIN "}",
     "c.json:1:129: error: data.path: environment variable QUERN_NO_SUCH is not set",
     "get it at X"},
    {"{" MODEL "," DATA "," TRAIN ",\n\"generate\": {\"prompt\": \"${HOME}\"}}",
     "c.json:2:24: error: generate.prompt: found `${`, expected ${env:NAME} or "
     "${env:NAME:?text}",
     "$${ stands for a plain ${"},
    /* between keys */
    {"{" MODEL "," DATA "}",
     "error: train.max_steps: missing, expected train.max_steps or train.epochs", NULL},
    {"{\"model\": {}," DATA "," TRAIN "}", "error: model.type: missing, expected one of " FAMILIES,
     NULL},
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": []}," TRAIN "}",
     "error: data.path: missing, expected path (string), or array of these", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"groups\": [{\"lr\": 1}]}}",
     "c.json:2:26: error: optimizer.groups: group 0 has no \"match\", expected one", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"momentum\": 0.9}}",
     "c.json:2:15: error: optimizer.momentum: has no meaning here, expected only when "
     "optimizer.type is sgd (found \"adamw\")",
     NULL},
    {"{\"model\": {\"type\": \"gpt2\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 3}," DATA "," TRAIN "}",
     "c.json:1:93: error: model.num_attention_heads: expected a divisor of model.hidden_size = "
     "8, found 3",
     NULL},
    {"{\"model\": {\"type\": \"llama\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 4, \"num_key_value_heads\": 3}," DATA "," TRAIN "}",
     "c.json:1:120: error: model.num_key_value_heads: expected a divisor of "
     "model.num_attention_heads = 4, found 3",
     NULL},
    {"{\"model\": {\"type\": \"llama\", \"hidden_size\": 9, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 3}," DATA "," TRAIN "}",
     "c.json:1:44: error: model.head_dim: expected an even number, found 3", NULL},
    /* positions and windows */
    {"{" DECODER("\"llama\"", "\"rope_scaling\": {\"rope_type\": \"longrope\"}"),
     "c.json:2:32: error: model.rope_scaling.rope_type: expected one of \"default\", \"linear\", "
     "\"dynamic\", \"llama3\", \"yarn\", found \"longrope\"",
     NULL},
    {"{" DECODER("\"llama\"", "\"rope_scaling\": {\"rope_type\": \"linear\"}"),
     "c.json:2:19: error: model.rope_scaling.factor: expected it for rope_type \"linear\"", NULL},
    {"{" DECODER("\"llama\"", "\"rope_scaling\": {\"factor\": 2}"),
     "c.json:2:19: error: model.rope_scaling.factor: has no meaning here, expected only when "
     "model.rope_scaling.rope_type is linear or dynamic or llama3 or yarn (found \"default\")",
     NULL},
    {"{" DECODER("\"llama\"", "\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
                              "\"low_freq_factor\": 4, \"high_freq_factor\": 4}"),
     "c.json:2:77: error: model.rope_scaling.high_freq_factor: expected more than low_freq_factor "
     "= 4, found 4",
     NULL},
    {"{" DECODER("\"llama\"", "\"sliding_window\": 4"),
     "c.json:2:2: error: model.sliding_window: has no meaning here, expected only when model.type "
     "is mistral or qwen2 or qwen3 (found \"llama\")",
     NULL},
    {"{" DECODER("\"qwen2\"", "\"layer_types\": [\"full_attention\", \"sliding_attention\"]"),
     "c.json:2:2: error: model.layer_types: expected one for each of 1 blocks, found 2", NULL},
    {"{" DECODER("\"mistral\"", "\"max_position_embeddings\": 64"),
     "c.json:3:58: error: data.block_size: expected at most model.max_position_embeddings = 64, "
     "found 100",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"objective\": \"classify\"}",
     "c.json:2:14: error: objective: expected \"lm\" for model.head \"lm\", found "
     "\"classify\"",
     NULL},
    {"{\"model\": {\"type\": \"bert\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 2,\n\"head\": \"lm\"}," DATA "," TRAIN "}",
     "c.json:2:9: error: model.head: model.type \"bert\" has no such head, expected \"masked_lm\" "
     "for "
     "a vocabulary",
     NULL},
    {"{\"model\": {\"type\": \"gpt2\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 2, \"head\": \"embedding\"},\n" DATA "," TRAIN "}",
     "c.json:2:18: error: data.type: \"text\" has the next token as target, which model.head "
     "\"embedding\" does not predict",
     NULL},
    {"{\"model\": {\"type\": \"roberta\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 2, \"max_position_embeddings\": 10},\n\"data\": {\"type\": "
     "\"text\", "
     "\"path\": \"x\", \"block_size\": 9}," TRAIN "}",
     "c.json:2:53: error: data.block_size: expected at most model.max_position_embeddings - "
     "model.pad_token_id - 1 = 8, found 9",
     NULL},
    {"{\"model\": {\"type\": \"mlp\"}, \"data\": {\"type\": \"idx\", \"images\": \"a\", "
     "\"labels\": \"b\"}, " TRAIN ",\n\"objective\": \"lm\"}",
     "c.json:2:14: error: objective: expected \"classify\" or \"regress\" for model.type \"mlp\", "
     "found \"lm\"",
     NULL},
    {"{\"model\": {\"type\": \"mlp\"}, \"data\": {\"type\": \"idx\", \"images\": \"a\", "
     "\"labels\": \"b\"}, "
     "\"train\": {\"epochs\": 1,\n\"label_smoothing\": 0.1}, \"objective\": \"regress\"}",
     "c.json:2:20: error: train.label_smoothing: expected 0 for objective \"regress\"", NULL},
    {"{\"extends\": 3}", "c.json:1:13: error: extends: expected path (string), found 3", NULL},
    {"{\"model\": {\"type\": \"mlp\"}," DATA "," TRAIN "}",
     "c.json:1:44: error: data.type: expected \"idx\" for model.type \"mlp\", found \"text\"",
     NULL},
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": \"x\", \"val_path\": \"y\", "
     "\"val_fraction\": 0.1}," TRAIN "}",
     "c.json:1:167: error: data.val_fraction: expected 0 or nothing beside data.val_path", NULL},
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": \"x\", \"val_fraction\": 0.5, "
     "\"test_fraction\": 0.5}," TRAIN "}",
     "c.json:1:172: error: data.test_fraction: expected val_fraction + test_fraction < 1, found "
     "1",
     NULL},
    {"{" MODEL ",\"data\": {\"type\": \"tokens\", \"path\": \"x\", \"dtype\": \"u16\"}," TRAIN "}",
     "c.json:1:136: error: data.dtype: expected data.vocab_size too: files without a header do "
     "not state it",
     NULL},
    {"{\"model\": {\"type\": \"mlp\"}, \"data\": {\"type\": \"idx\", \"images\": \"a\", "
     "\"labels\": "
     "\"b\", \"val_images\": \"c\"}," TRAIN "}",
     "c.json:1:82: error: data.val_images: expected data.val_labels too", NULL},
    {"{\"model\": {\"type\": \"mlp\"}, \"data\": {\"type\": \"idx\", \"images\": \"a\", "
     "\"labels\": "
     "\"b\", \"split\": \"by_file\"}," TRAIN "}",
     "c.json:1:91: error: data.split: expected \"chronological\" or \"random\" for data.type "
     "\"idx\"",
     NULL},
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": \"x\", \"block_size\": 9},\"train\": "
     "{\"max_steps\": 1}, \"model\": null}",
     "c.json:1:178: error: model: duplicate key", NULL},
    {"{\"model\": {\"type\": \"gpt2\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 2, \"max_position_embeddings\": 4},\"data\": {\"type\": \"text\", "
     "\"path\": \"x\", \"block_size\": 8}," TRAIN "}",
     "c.json:1:178: error: data.block_size: expected at most model.max_position_embeddings = 4, "
     "found 8",
     NULL},
    {"{\"model\": {\"type\": \"gpt2\", \"hidden_size\": 8, \"num_hidden_layers\": 1, "
     "\"num_attention_heads\": 2, \"vocab_size\": 255}," DATA "," TRAIN "}",
     "c.json:1:110: error: model.vocab_size: expected at least the 256 tokens of the data, found "
     "255",
     NULL},
    {"{" MODEL "," DATA ",\"train\": {\"max_steps\": 9, \"batch_size\": 2, \"accumulate\": 3,\n"
     "\"global_batch_size\": 7}}",
     "c.json:2:22: error: train.global_batch_size: expected batch_size * accumulate = 2 * 3 = 6, "
     "found 7",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"scheduler\": {\"warmup_steps\": 101}}",
     "c.json:2:31: error: scheduler.warmup_steps: expected at most train.max_steps = 100, found "
     "101",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"scheduler\": {\"warmup_steps\": 9, \"warmup_ratio\": 0.5}}",
     "c.json:2:34: error: scheduler.warmup_ratio: expected it to agree with warmup_steps, or only "
     "one of the two",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"scheduler\": {\"type\": \"cosine\", \"warmup_steps\": 9, "
     "\"decay_steps\": 8}}",
     "c.json:2:67: error: scheduler.decay_steps: expected at least warmup_steps = 9, found 8",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"scheduler\": {\"type\": \"linear\", \"min_lr\": 1}}",
     "c.json:2:43: error: scheduler.min_lr: expected at most optimizer.lr = 0.0003, found 1", NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"optimizer\": {\"type\": \"sgd\", \"nesterov\": true}}",
     "c.json:2:42: error: optimizer.nesterov: expected optimizer.momentum > 0 and "
     "optimizer.dampening = 0 beside it",
     NULL},
    {"{" MODEL "," DATA ",\"train\": {\"max_steps\": 9, \"recompute\": [\"a\", \"auto\"]}}",
     "c.json:1:183: error: train.recompute: expected \"auto\" alone or globs", NULL},
    {"{" MODEL "," DATA ",\"train\": {\"max_steps\": 9, \"on_nonfinite\": \"rollback\"},\n"
     "\"checkpoint\": {\"every\": 0}}",
     "c.json:1:180: error: train.on_nonfinite: \"rollback\" needs checkpoints, expected "
     "checkpoint.every > 0",
     NULL},
    {"{" MODEL "," DATA "," TRAIN ",\n\"early_stopping\": {\"patience\": 3}}",
     "c.json:2:20: error: early_stopping: expected eval.every > 0: it judges evaluations",
     "for example {\"eval\": {\"every\": 100}}"},
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": \"x\", \"val_fraction\": 0}," TRAIN ",\n"
     "\"early_stopping\": {\"patience\": 3}, \"eval\": {\"every\": 5}}",
     "c.json:2:20: error: early_stopping: expected validation data: data.val_fraction or files "
     "of its own",
     NULL},
    {"{" MODEL ",\"data\": {\"type\": \"text\", \"path\": \"x\", \"val_fraction\": 0}," TRAIN ",\n"
     "\"eval\": {\"every\": 5}}",
     "c.json:2:19: error: eval.every: expected validation data: data.val_fraction or files of its "
     "own",
     NULL},
};

static void test_each_mistake(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        char *d = must_refuse(mistakes[i].text, NULL, 0);
        size_t length = strlen(mistakes[i].error);
        if (strncmp(d, mistakes[i].error, length) != 0 || d[length] != '\n') {
            fail_msg("got:\n%sexpected:\n%s", d, mistakes[i].error);
        }
        assert_contains(d, "\n1 error\n"); /* nothing follows from it */
        if (mistakes[i].hint) {
            char hint[256];
            snprintf(hint, sizeof hint, "       = hint: %s\n", mistakes[i].hint);
            assert_contains(d, hint);
        }
        qn_free(d);
    }
}

static void test_all_at_once(void **state) {
    (void)state;
    char *d = must_refuse("{\n  \"device\": 1,\n  \"treads\": 2,\n  \"train\": {\"epochs\": -1},\n"
                          "\t\"d\xC3\xA9vice\": \"\xE4\xB8\xAD\"\n}",
                          NULL, 0);
    assert_string_equal(
        d,
        "c.json:2:13: error: device: expected one of \"auto\", \"cpu\", \"ref\", \"cuda\", found "
        "1\n"
        "     2 |   \"device\": 1,\n"
        "       |             ^\n"
        "c.json:3:3: error: treads: unknown key\n"
        "     3 |   \"treads\": 2,\n"
        "       |   ^~~~~~~~\n"
        "       = hint: did you mean `threads`?\n"
        "c.json:4:23: error: train.epochs: expected number > 0 and <= 1e+09, found -1\n"
        "     4 |   \"train\": {\"epochs\": -1},\n"
        "       |                       ^~\n"
        "c.json:5:2: error: d\xC3\xA9vice: unknown key\n"
        "     5 |  \"d\xC3\xA9vice\": \"\xE4\xB8\xAD\"\n"
        "       |  ^~~~~~~~\n"
        "       = hint: did you mean `device`?\n"
        "error: model.type: missing, expected one of " FAMILIES "\n"
        "error: data.type: missing, expected one of \"text\", \"tokens\", \"idx\", "
        "\"conversations\", \"labelled_text\"\n"
        "6 errors\n");
    assert_string_equal(qn_error_message(),
                        "c.json:2:13: error: device: expected one of \"auto\", \"cpu\", \"ref\", "
                        "\"cuda\", found 1 (and 5 more)");
    qn_free(d);
}

static void test_many_errors_are_bounded(void **state) {
    (void)state;
    qn_text t = {0};
    qn_text_add(&t, "{");
    for (int i = 0; i < 1000; i++) qn_text_printf(&t, "%s\"k%d\": %d", i ? ", " : "", i, i);
    qn_text_add(&t, "}");
    assert_int_equal(t.status, QN_OK);
    char *d = must_refuse(t.data, NULL, 0);
    assert_int_equal(count_of(d, "error: "), 100);
    assert_contains(d, "\n1003 errors\n");
    for (const char *s = d; *s; s += strcspn(s, "\n") + 1) assert_true(strcspn(s, "\n") < 240);
    qn_free(d);
    qn_text_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_mistake),
        cmocka_unit_test(test_all_at_once),
        cmocka_unit_test(test_many_errors_are_bounded),
    };
    return cmocka_run_group_tests_name("config_errors", tests, NULL, NULL);
}
