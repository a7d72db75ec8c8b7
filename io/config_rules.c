/* config_rules.c — what no single key shows: keys that are needed, exclude each other or must
 * agree.
 *
 * Each rule looks only at values that are there and were accepted, so that one mistake is told
 * once.
 */
#include "io/config_table.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static bool set(const qn_config *c, const char *key) { return qn_config_is_set(c, key); }
static bool stated(const qn_config *c, const char *key) {
    int row = qni_key_find(key);
    return c->stated[row] && !c->bad[row];
}
static int64_t integer(const qn_config *c, const char *key) { return qn_config_int(c, key); }
static double number(const qn_config *c, const char *key) { return qn_config_number(c, key); }
static bool refused(const qn_config *c, const char *key) { return c->bad[qni_key_find(key)]; }

/* Where to point: the key if it is stated, else the other one. */
static const cJSON *place(const qn_config *c, const char *key, const char *other) {
    return qni_config_get(c, stated(c, key) ? key : other);
}

static void check_required(qn_config *c) {
    for (int i = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        bool absent = !c->slot[i] || (cJSON_IsArray(c->slot[i]) && !c->slot[i]->child);
        bool needed = k->flags & QNI_REQUIRED && !strstr(k->name, "[]") && absent && !c->bad[i] &&
                      qni_config_when(c, k->only) == QNI_YES;
        if (needed) qni_report_missing(c, i, NULL);
        int count = c->slot[i] ? cJSON_GetArraySize(c->slot[i]) : 0;
        if (c->slot[i] && k->items && count != k->items) { /* --set has taken one away */
            qni_report(c, NULL, false, k->name, NULL, "expected %d elements, found %d", k->items,
                       count);
        }
    }
    bool known = !refused(c, "train.max_steps") && !refused(c, "train.epochs");
    if (known && !set(c, "train.max_steps") && !set(c, "train.epochs")) {
        qni_report(c, NULL, false, "train.max_steps", "{\"train\": {\"max_steps\": 1000}}",
                   "missing, expected train.max_steps or train.epochs");
    }
}

/* What rope_scaling lacks, and how far it lets sequences grow (qn_rotary_reach). */
static int64_t check_rotary(qn_config *c, int64_t longest) {
    const char *type = qn_config_string(c, "model.rope_scaling.rope_type");
    bool plain = !*type || qn_config_is(c, "model.rope_scaling.rope_type", "default");
    if (plain) return longest;
    double factor = number(c, "model.rope_scaling.factor");
    if (!set(c, "model.rope_scaling.factor") && !refused(c, "model.rope_scaling.factor")) {
        qni_report(c, qni_config_get(c, "model.rope_scaling.rope_type"), true,
                   "model.rope_scaling.factor", NULL, "expected it for rope_type \"%s\"", type);
    }
    double low = number(c, "model.rope_scaling.low_freq_factor");
    double high = number(c, "model.rope_scaling.high_freq_factor");
    if (low > 0 && high > 0 && !(low < high)) {
        qni_report(c, qni_config_get(c, "model.rope_scaling.high_freq_factor"), true,
                   "model.rope_scaling.high_freq_factor", NULL,
                   "expected more than low_freq_factor = %.6g, found %.6g", low, high);
    }
    int64_t original = integer(c, "model.rope_scaling.original_max_position_embeddings");
    double reach = factor * (double)(original ? original : longest);
    bool grows =
        !qn_config_is(c, "model.rope_scaling.rope_type", "llama3") && reach > (double)longest;
    return grows ? (int64_t)reach : longest;
}

static void check_model(qn_config *c) {
    int64_t width = integer(c, "model.hidden_size");
    int64_t heads = integer(c, "model.num_attention_heads");
    int64_t kv = integer(c, "model.num_key_value_heads"), dim = integer(c, "model.head_dim");
    if (width && heads && !stated(c, "model.head_dim") && width % heads != 0) {
        qni_report(c, qni_config_get(c, "model.num_attention_heads"), false,
                   "model.num_attention_heads", NULL,
                   "expected a divisor of model.hidden_size = %" PRId64 ", found %" PRId64, width,
                   heads);
    }
    if (kv && heads && heads % kv != 0) {
        qni_report(c, qni_config_get(c, "model.num_key_value_heads"), false,
                   "model.num_key_value_heads", NULL,
                   "expected a divisor of model.num_attention_heads = %" PRId64 ", found %" PRId64,
                   heads, kv);
    }
    if (dim % 2 != 0) {
        qni_report(c, place(c, "model.head_dim", "model.hidden_size"), false, "model.head_dim",
                   NULL, "expected an even number, found %" PRId64, dim);
    }
    int64_t block = integer(c, "data.block_size");
    int64_t longest = integer(c, "model.max_position_embeddings");
    longest = check_rotary(c, longest);
    int64_t types = qn_config_count(c, "model.layer_types");
    int64_t layers = integer(c, "model.num_hidden_layers");
    if (set(c, "model.layer_types") && layers && types != layers) {
        qni_report(c, qni_config_get(c, "model.layer_types"), true, "model.layer_types", NULL,
                   "expected one for each of %" PRId64 " blocks, found %" PRId64, layers, types);
    }
    int64_t most = longest - qni_position_offset(c);
    if (block && longest && block > most) {
        qni_report(c, place(c, "data.block_size", "model.max_position_embeddings"), false,
                   "data.block_size", NULL,
                   "expected at most model.max_position_embeddings%s = %" PRId64 ", found %" PRId64,
                   most < longest ? " - model.pad_token_id - 1" : "", most, block);
    }
    int64_t rows = integer(c, "model.vocab_size"), needed = integer(c, "data.vocab_size");
    bool bytes = qn_config_is(c, "data.vocabulary", "byte") && !set(c, "data.tokenizer");
    if (bytes && !qn_config_is(c, "model.type", "mlp")) needed = 256;
    if (rows && rows < needed) {
        qni_report(c, qni_config_get(c, "model.vocab_size"), false, "model.vocab_size", NULL,
                   "expected at least the %" PRId64 " tokens of the data, found %" PRId64, needed,
                   rows);
    }
}

static void check_adapter(qn_config *c) {
    if (qn_config_is(c, "adapter.type", "lora") && qn_config_is(c, "precision", "bf16_sr")) {
        qni_report(c, qni_config_get(c, "precision"), false, "precision", NULL,
                   "expected bf16 beside adapter.type \"lora\", found \"bf16_sr\": frozen weights "
                   "have no f32 master to save, and an adapter's are small");
    }
}

static void check_task(qn_config *c) {
    if (stated(c, "data.vocabulary") && stated(c, "data.tokenizer")) {
        qni_report(c, qni_config_get(c, "data.tokenizer"), true, "data.tokenizer", NULL,
                   "expected either this or data.vocabulary");
    }
    if (set(c, "model.type") && set(c, "data.type")) {
        bool images = qn_config_is(c, "data.type", "idx"),
             dense = qn_config_is(c, "model.type", "mlp");
        if (images != dense) {
            qni_report(c, qni_config_get(c, "data.type"), false, "data.type", NULL,
                       "expected %s for model.type \"%s\", found \"%s\"",
                       dense ? "\"idx\"" : "texts or tokens", qn_config_string(c, "model.type"),
                       qn_config_string(c, "data.type"));
        }
    }
    bool lm = qn_config_is(c, "objective", "lm"), dense = qn_config_is(c, "model.type", "mlp");
    bool vocabulary =
        qn_config_is(c, "model.head", "lm") || qn_config_is(c, "model.head", "masked_lm");
    bool vector =
        qn_config_is(c, "model.head", "embedding") && !qn_config_is(c, "objective", "regress");
    bool known = dense || set(c, "model.head");
    if (known && set(c, "objective") && (lm != vocabulary || vector)) {
        qni_report(c, qni_config_get(c, "objective"), false, "objective", NULL,
                   "expected %s for %s \"%s\", found \"%s\"",
                   vocabulary ? "\"lm\""
                   : vector   ? "\"regress\""
                   : dense    ? "\"classify\" or \"regress\""
                              : "\"classify\", \"multi_label\" or \"regress\"",
                   dense ? "model.type" : "model.head",
                   qn_config_string(c, dense ? "model.type" : "model.head"),
                   qn_config_string(c, "objective"));
    }
    bool encoder =
        qn_config_is(c, "model.type", "bert") || qn_config_is(c, "model.type", "roberta");
    if ((encoder && qn_config_is(c, "model.head", "lm")) ||
        (set(c, "model.type") && !encoder && qn_config_is(c, "model.head", "masked_lm"))) {
        qni_report(c, qni_config_get(c, "model.head"), false, "model.head", NULL,
                   "model.type \"%s\" has no such head, expected \"%s\" for a vocabulary",
                   qn_config_string(c, "model.type"), encoder ? "masked_lm" : "lm");
    }
    bool next = qn_config_is(c, "data.type", "text") || qn_config_is(c, "data.type", "tokens");
    if (next && set(c, "model.head") && !vocabulary) {
        qni_report(c, qni_config_get(c, "data.type"), false, "data.type", NULL,
                   "\"%s\" has the next token as target, which model.head \"%s\" does not predict",
                   qn_config_string(c, "data.type"), qn_config_string(c, "model.head"));
    }
    bool conversations = qn_config_is(c, "data.type", "conversations"),
         labelled = qn_config_is(c, "data.type", "labelled_text");
    bool of_tokens = qn_config_is(c, "model.head", "token_classification");
    bool head_of_labels = of_tokens || qn_config_is(c, "model.head", "sequence_classification");
    if (set(c, "model.head") && ((conversations && !qn_config_is(c, "model.head", "lm")) ||
                                 (labelled && !head_of_labels))) {
        qni_report(c, qni_config_get(c, "data.type"), false, "data.type", NULL,
                   "\"%s\" needs model.head \"%s\", found \"%s\"", qn_config_string(c, "data.type"),
                   labelled ? "sequence_classification" : "lm", qn_config_string(c, "model.head"));
    }
    if (of_tokens && set(c, "objective") && !lm && !qn_config_is(c, "objective", "classify")) {
        qni_report(c, qni_config_get(c, "objective"), false, "objective", NULL,
                   "expected \"classify\" for model.head \"token_classification\", found \"%s\"",
                   qn_config_string(c, "objective"));
    }
    int64_t labels = integer(c, "model.num_labels"), names = qn_config_count(c, "model.id2label");
    if (labels && names && labels != names) {
        qni_report(c, qni_config_get(c, "model.id2label"), false, "model.id2label", NULL,
                   "expected model.num_labels = %" PRId64 " names, found %" PRId64, labels, names);
    }
    if (qn_config_is(c, "objective", "regress") && number(c, "train.label_smoothing") > 0) {
        qni_report(c, qni_config_get(c, "train.label_smoothing"), false, "train.label_smoothing",
                   NULL, "expected 0 for objective \"regress\"");
    }
}

/* Validation or test data come from their own files or from a fraction. */
static void check_held_out(qn_config *c, const char *fraction, const char *path, const char *images,
                           const char *labels) {
    const char *own = set(c, path) ? path : images;
    if (set(c, own) && stated(c, fraction) && number(c, fraction) > 0) {
        qni_report(c, qni_config_get(c, fraction), false, fraction, NULL,
                   "expected 0 or nothing beside %s", own);
    }
    if (set(c, images) != set(c, labels) && !refused(c, images) && !refused(c, labels)) {
        bool have = set(c, images);
        qni_report(c, qni_config_get(c, have ? images : labels), true, have ? images : labels, NULL,
                   "expected %s too", have ? labels : images);
    }
}

static void check_data(qn_config *c) {
    check_held_out(c, "data.val_fraction", "data.val_path", "data.val_images", "data.val_labels");
    check_held_out(c, "data.test_fraction", "data.test_path", "data.test_images",
                   "data.test_labels");
    double sum = number(c, "data.val_fraction") + number(c, "data.test_fraction");
    if (!(sum < 1)) {
        qni_report(c, place(c, "data.test_fraction", "data.val_fraction"), false,
                   "data.test_fraction", NULL,
                   "expected val_fraction + test_fraction < 1, found %.6g", sum);
    }
    if (qn_config_is(c, "data.split", "by_file") && qn_config_is(c, "data.type", "idx")) {
        qni_report(c, qni_config_get(c, "data.split"), false, "data.split", NULL,
                   "expected \"chronological\" or \"random\" for data.type \"idx\"");
    }
    if (set(c, "data.dtype") && !set(c, "data.vocab_size") && !refused(c, "data.vocab_size")) {
        qni_report(c, qni_config_get(c, "data.dtype"), true, "data.dtype", NULL,
                   "expected data.vocab_size too: files without a header do not state it");
    }
}

static void check_batch(qn_config *c) {
    int64_t batch = integer(c, "train.batch_size"), times = integer(c, "train.accumulate");
    int64_t global = integer(c, "train.global_batch_size");
    bool known = !refused(c, "train.batch_size") && !refused(c, "train.accumulate") && global;
    if (known && global != batch * times) {
        qni_report(c, qni_config_get(c, "train.global_batch_size"), false,
                   "train.global_batch_size", NULL,
                   "expected batch_size * accumulate = %" PRId64 " * %" PRId64 " = %" PRId64
                   ", found %" PRId64,
                   batch, times, batch * times, global);
    }
}

static void check_schedule(qn_config *c) {
    int64_t steps = integer(c, "train.max_steps"), warmup = integer(c, "scheduler.warmup_steps");
    int64_t decay = integer(c, "scheduler.decay_steps");
    double ratio = number(c, "scheduler.warmup_ratio");
    if (stated(c, "scheduler.warmup_steps") && ratio > 0 && steps &&
        warmup != llround(ratio * (double)steps)) {
        qni_report(c, qni_config_get(c, "scheduler.warmup_ratio"), true, "scheduler.warmup_ratio",
                   NULL, "expected it to agree with warmup_steps, or only one of the two");
    }
    if (steps && warmup > steps) {
        qni_report(c, place(c, "scheduler.warmup_steps", "train.max_steps"), false,
                   "scheduler.warmup_steps", NULL,
                   "expected at most train.max_steps = %" PRId64 ", found %" PRId64, steps, warmup);
    }
    if (decay && stated(c, "scheduler.decay_steps") && warmup > decay) {
        qni_report(c, qni_config_get(c, "scheduler.decay_steps"), false, "scheduler.decay_steps",
                   NULL, "expected at least warmup_steps = %" PRId64 ", found %" PRId64, warmup,
                   decay);
    }
    double lr = number(c, "optimizer.lr"), low = number(c, "scheduler.min_lr");
    if (set(c, "optimizer.lr") && low > lr) {
        qni_report(c, qni_config_get(c, "scheduler.min_lr"), false, "scheduler.min_lr", NULL,
                   "expected at most optimizer.lr = %.6g, found %.6g", lr, low);
    }
}

static void check_optimizer(qn_config *c) {
    bool plain = number(c, "optimizer.momentum") == 0 || number(c, "optimizer.dampening") != 0;
    if (qn_config_boolean(c, "optimizer.nesterov") && plain) {
        qni_report(c, qni_config_get(c, "optimizer.nesterov"), false, "optimizer.nesterov", NULL,
                   "expected optimizer.momentum > 0 and optimizer.dampening = 0 beside it");
    }
    for (int64_t i = 0, n = qn_config_count(c, "train.recompute"); i < n && n > 1; i++) {
        const cJSON *scope = cJSON_GetArrayItem(qni_config_get(c, "train.recompute"), (int)i);
        if (strcmp(scope->valuestring, "auto") != 0) continue;
        qni_report(c, scope, false, "train.recompute", NULL, "expected \"auto\" alone or globs");
    }
    if (qn_config_is(c, "train.on_nonfinite", "rollback") && set(c, "checkpoint.every") &&
        integer(c, "checkpoint.every") == 0) {
        qni_report(c, qni_config_get(c, "train.on_nonfinite"), false, "train.on_nonfinite", NULL,
                   "\"rollback\" needs checkpoints, expected checkpoint.every > 0");
    }
}

static void check_evaluation(qn_config *c) {
    bool held_out = number(c, "data.val_fraction") > 0 || set(c, "data.val_path") ||
                    set(c, "data.val_images") || refused(c, "data.val_fraction") ||
                    refused(c, "data.val_path") || refused(c, "data.val_images");
    const char *need = "expected validation data: data.val_fraction or files of its own";
    if (!set(c, "data.type")) return;
    if (qn_config_boolean(c, "early_stopping.enabled")) {
        const cJSON *at = NULL;
        for (int i = 0; i < qni_key_count && !at; i++) { /* point at the first key of the section */
            bool inside = strncmp(qni_keys[i].name, "early_stopping.", 15) == 0;
            if (inside && c->stated[i]) at = c->slot[i];
        }
        if (!held_out) qni_report(c, at, true, "early_stopping", NULL, "%s", need);
        if (set(c, "eval.every") && integer(c, "eval.every") == 0) {
            qni_report(c, at, true, "early_stopping", "for example {\"eval\": {\"every\": 100}}",
                       "expected eval.every > 0: it judges evaluations");
        }
    } else if (!held_out && integer(c, "eval.every") > 0) {
        qni_report(c, qni_config_get(c, "eval.every"), false, "eval.every", NULL, "%s", need);
    }
}

void qni_config_cross_check(qn_config *c) {
    check_required(c);
    check_task(c);
    check_adapter(c);
    check_model(c);
    check_data(c);
    check_batch(c);
    check_schedule(c);
    check_optimizer(c);
    check_evaluation(c);
}
