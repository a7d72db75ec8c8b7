/* build.c — reads the configuration and makes the parts of a run. */
#include "io/build_parts.h"
#include "io/file.h"
#include "io/jinja.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- data ------------------------------------------------------------------------------------ */

enum { MAX_STRINGS = 256 };

typedef struct string_lists { /* storage for the lists of one qn_data_options */
    const char *item[8][MAX_STRINGS];
    int used;
    const char *too_many; /* a key with more than MAX_STRINGS */
} string_lists;

enum { KEY_SIZE = 64 };

/* The key of element i of a list, or of `member` of the object there if it is not "". */
static const char *element_key(char out[KEY_SIZE], const char *list, int64_t i,
                               const char *member) {
    snprintf(out, KEY_SIZE, "%s.%lld%s%s", list, (long long)i, *member ? "." : "", member);
    return out;
}

static qn_strings strings(const qn_config *c, const char *key, string_lists *lists) {
    const char **item = lists->item[lists->used++];
    int64_t n = qn_config_count(c, key);
    if (n > MAX_STRINGS) {
        lists->too_many = key;
        n = MAX_STRINGS;
    }
    for (int64_t i = 0; i < n; i++) {
        char name[KEY_SIZE];
        item[i] = qn_config_string(c, element_key(name, key, i, ""));
    }
    return (qn_strings){item, n};
}

static void examples_options(const qn_config *c, qn_data_options *o, string_lists *lists) {
    qn_example_format_parse(qn_config_string(c, "data.format"), &o->format);
    if (o->type == QN_DATA_LABELLED_TEXT && o->format == QN_EXAMPLES_AUTO)
        o->format = QN_EXAMPLES_LABELLED;
    o->keys = (qn_example_keys){.messages = qn_config_optional(c, "data.columns.messages"),
                                .prompt = qn_config_optional(c, "data.columns.prompt"),
                                .completion = qn_config_optional(c, "data.columns.completion"),
                                .text = qn_config_optional(c, "data.columns.text"),
                                .text_pair = qn_config_optional(c, "data.columns.text_pair"),
                                .label = qn_config_optional(c, "data.columns.label")};
    o->train_on = qn_config_is(c, "data.train_on", "all")    ? QN_TRAIN_ON_ALL
                  : qn_config_is(c, "data.train_on", "last") ? QN_TRAIN_ON_LAST
                                                             : QN_TRAIN_ON_ASSISTANT;
    o->truncate = qn_config_is(c, "data.truncate", "right")  ? QN_TRUNCATE_RIGHT
                  : qn_config_is(c, "data.truncate", "left") ? QN_TRUNCATE_LEFT
                  : qn_config_is(c, "data.truncate", "drop") ? QN_TRUNCATE_DROP
                                                             : QN_TRUNCATE_ERROR;
    o->unpacked = !qn_config_boolean(c, "data.packing");
    o->skip_broken = qn_config_is(c, "data.on_error", "skip");
    o->regress = qn_config_is(c, "objective", "regress");
    o->multi_label = qn_config_is(c, "objective", "multi_label");
    o->token_labels = qn_config_is(c, "model.head", "token_classification");
    o->classes = qn_config_int(c, "model.num_labels");
    o->label_names = strings(c, "model.id2label", lists);
}

static void text_options(const qn_config *c, qn_data_options *o, string_lists *lists) {
    o->paths[QN_SPLIT_TRAIN] = strings(c, "data.path", lists);
    o->paths[QN_SPLIT_VAL] = strings(c, "data.val_path", lists);
    o->paths[QN_SPLIT_TEST] = strings(c, "data.test_path", lists);
    o->include = strings(c, "data.include", lists);
    o->exclude = strings(c, "data.exclude", lists);
    o->block_size = qn_config_int(c, "data.block_size");
    if (o->type == QN_DATA_CONVERSATIONS || o->type == QN_DATA_LABELLED_TEXT) {
        examples_options(c, o, lists);
    } else if (o->type == QN_DATA_TEXT) {
        o->vocabulary = qn_config_is(c, "data.vocabulary", "char") ? QN_VOCAB_CHAR : QN_VOCAB_BYTE;
    } else {
        o->raw = qn_config_is(c, "data.dtype", "u16")   ? QN_RAW_U16
                 : qn_config_is(c, "data.dtype", "u32") ? QN_RAW_U32
                                                        : QN_RAW_NONE;
        o->vocab_size = qn_config_int(c, "data.vocab_size");
    }
}

static void idx_options(const qn_config *c, qn_data_options *o) {
    static const char *const images[] = {"data.images", "data.val_images", "data.test_images"};
    static const char *const labels[] = {"data.labels", "data.val_labels", "data.test_labels"};
    for (int i = 0; i < QN_SPLIT_COUNT; i++) {
        o->images[i] = qn_config_optional(c, images[i]);
        o->labels[i] = qn_config_optional(c, labels[i]);
    }
    o->mean = qn_config_number(c, "data.normalize.mean");
    o->std = qn_config_number(c, "data.normalize.std");
    o->shift = qn_config_int(c, "data.augment.shift");
}

/* data.tokenizer, unless a checkpoint has brought its own. */
static qn_status open_tokenizer(qn_build *b, const qn_config *c) {
    const char *path = qn_config_optional(c, "data.tokenizer");
    if (b->tokenizer || !path) return QN_OK;
    qn_status s = qn_tokenizer_open(path, &b->tokenizer);
    return s == QN_OK ? QN_OK : qn_fail_prefix(s, "data.tokenizer");
}

/* The chat template that conversations are written in; none if there is none to be found. A file's
 * text stays with the run, unless a checkpoint has brought its own. */
static qn_status open_chat(qn_build *b, const qn_config *c, qn_data_options *o) {
    const char *which = qn_config_optional(c, "data.chat_template");
    if (o->type != QN_DATA_CONVERSATIONS || (!which && !b->tokenizer)) return QN_OK;
    qn_chat_template *t = NULL;
    qn_status s = QN_OK;
    if (which && !b->chat_text && !qn_chat_is_builtin(which) && qn_path_exists(which)) {
        int64_t bytes;
        s = qn_file_read(which, QN_JINJA_MAX_BYTES, &b->chat_text, &bytes);
    }
    if (s == QN_OK) s = qn_chat_template_of(which, b->chat_text, b->tokenizer, &t);
    o->chat = t;
    if (s == QN_OK || (s == QN_ERR_DATA && !which)) return QN_OK;
    return qn_fail_prefix(s, which ? "data.chat_template" : "data.tokenizer");
}

/* The vocabulary that a text source found becomes the run's tokenizer. */
static qn_status keep_vocab(qn_build *b, qn_vocab *vocab) {
    if (!vocab) return QN_OK;
    qn_tokenizer *t = NULL;
    qn_status s = qn_tokenizer_from_vocab(vocab, &t);
    qn_vocab_free(vocab);
    if (s != QN_OK) return s;
    qn_tokenizer_free(b->tokenizer);
    b->tokenizer = t;
    return QN_OK;
}

static void take_shape(qn_build *b) {
    b->classes = b->source.classes;
    b->features = b->source.field[0].ndim > 0 ? b->source.field[0].shape[0] : 1;
}

qn_status qn_build_data(qn_build *b, const qn_config *c) {
    string_lists lists = {.used = 0};
    qn_data_options o = {.seed = (uint64_t)qn_config_int(c, "run.seed"),
                         .val_fraction = qn_config_number(c, "data.val_fraction"),
                         .test_fraction = qn_config_number(c, "data.test_fraction"),
                         .cache_dir = qn_config_optional(c, "data.cache_dir")};
    o.type = qn_config_is(c, "data.type", "text")            ? QN_DATA_TEXT
             : qn_config_is(c, "data.type", "tokens")        ? QN_DATA_TOKENS
             : qn_config_is(c, "data.type", "conversations") ? QN_DATA_CONVERSATIONS
             : qn_config_is(c, "data.type", "labelled_text") ? QN_DATA_LABELLED_TEXT
                                                             : QN_DATA_IDX;
    o.division = qn_config_is(c, "data.split", "random")    ? QN_DATA_RANDOM
                 : qn_config_is(c, "data.split", "by_file") ? QN_DATA_BY_FILE
                                                            : QN_DATA_CHRONOLOGICAL;
    if (o.type == QN_DATA_IDX) {
        idx_options(c, &o);
    } else {
        text_options(c, &o, &lists);
    }
    if (lists.too_many) {
        return qn_fail(QN_ERR_CONFIG, "%s: at most %d entries", lists.too_many, MAX_STRINGS);
    }
    QN_TRY(open_tokenizer(b, c));
    if (b->tokenizer) {
        o.given = qn_tokenizer_vocab(b->tokenizer);
        o.tokenizer = o.given ? NULL : b->tokenizer;
    }
    qn_vocab *vocab = NULL;
    QN_TRY(open_chat(b, c, &o));
    qn_status opened = qn_data_open(&o, &b->source, &vocab);
    qn_chat_template_free((qn_chat_template *)(uintptr_t)o.chat);
    QN_TRY(opened);
    b->has_source = true;
    QN_TRY(keep_vocab(b, vocab));
    b->data_text = qn_strdup(qn_data_describe(&b->source), "the data's description");
    if (!b->data_text) return QN_ERR_OOM;
    QN_TRY(qni_build_masking(b, c));
    take_shape(b);
    int depth = (int)qn_config_int(c, "data.prefetch");
    return depth > 0 ? qn_prefetch_create(&b->source, depth, &b->source) : QN_OK;
}

qn_status qn_build_shapes(qn_build *b, const qn_config *c) {
    int64_t classes = qn_config_int(c, "model.vocab_size");
    if (classes == 0) classes = qn_config_int(c, "data.vocab_size");
    if (classes == 0 && qn_config_is(c, "data.type", "text") &&
        qn_config_is(c, "data.vocabulary", "byte"))
        classes = 256;
    if (qn_config_is(c, "data.type", "idx") || classes == 0) {
        return qn_fail(QN_ERR_CONFIG, "the data is needed to know the %s",
                       qn_config_is(c, "data.type", "idx")
                           ? "size of its items"
                           : "vocabulary (or state model.vocab_size)");
    }
    int64_t block = qn_config_int(c, "data.block_size");
    qn_source *s = &b->source;
    *s = (qn_source){.classes = classes, .n = {[QN_SPLIT_TRAIN] = 1, [QN_SPLIT_VAL] = 1}};
    qni_build_head_fields(c, block, s);
    take_shape(b);
    return QN_OK;
}

/* ---- model ----------------------------------------------------------------------------------- */

static qn_status model_config(qn_build *b, const qn_config *c) {
    qn_model_config *m = &b->model_config;
    m->type = qn_config_string(c, "model.type");
    QN_TRY(qni_build_head(b, c));
    m->hidden_size = qn_config_int(c, "model.hidden_size");
    m->num_hidden_layers = qn_config_int(c, "model.num_hidden_layers");
    m->num_attention_heads = qn_config_int(c, "model.num_attention_heads");
    bool gated = qn_config_is_set(c, "model.rms_norm_eps"); /* Llama and its relatives */
    m->num_key_value_heads =
        gated ? qn_config_int(c, "model.num_key_value_heads") : m->num_attention_heads;
    m->head_dim = gated                    ? qn_config_int(c, "model.head_dim")
                  : m->num_attention_heads ? m->hidden_size / m->num_attention_heads
                                           : 0;
    m->intermediate_size = qn_config_int(c, "model.intermediate_size");
    m->max_position_embeddings = qn_config_int(c, "model.max_position_embeddings");
    m->tie_word_embeddings = qn_config_boolean(c, "model.tie_word_embeddings");
    m->bias = qn_config_boolean(c, "model.bias");
    m->attention_bias = qn_config_boolean(c, "model.attention_bias");
    m->norm_eps = qn_config_number(c, gated ? "model.rms_norm_eps" : "model.layer_norm_eps");
    m->mlp_bias = qn_config_boolean(c, "model.mlp_bias");
    QN_TRY(qni_build_attention(b, c));
    m->initializer_range = qn_config_number(c, "model.initializer_range");
    m->dropout = qn_config_number(c, "model.dropout");
    m->attention_dropout = qn_config_number(c, "model.attention_dropout");
    m->embedding_dropout = qn_config_number(c, "model.embedding_dropout");
    if (!qn_activation_parse(qn_config_string(c, "model.activation"), &m->activation)) {
        return qn_fail(QN_ERR_CONFIG, "model.activation \"%s\" is unknown",
                       qn_config_string(c, "model.activation"));
    }
    if (gated && m->activation != QN_ACT_SILU) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "model.activation: %s's gated feed-forward has silu only, found \"%s\"",
                       m->type, qn_config_string(c, "model.activation"));
    }
    int64_t n = qn_config_count(c, "model.hidden_sizes"),
            most = sizeof m->hidden_sizes / sizeof *m->hidden_sizes;
    if (n > most)
        return qn_fail(QN_ERR_CONFIG, "model.hidden_sizes: at most %lld layers, found %lld",
                       (long long)most, (long long)n);
    m->n_hidden = (int)n;
    for (int64_t i = 0; i < n; i++) {
        char key[KEY_SIZE];
        m->hidden_sizes[i] = qn_config_int(c, element_key(key, "model.hidden_sizes", i, ""));
    }
    m->features = b->features;
    return QN_OK;
}

static int64_t steps_of_run(const qn_build *b, const qn_config *c) {
    int64_t steps = qn_config_int(c, "train.max_steps");
    double epochs = qn_config_number(c, "train.epochs");
    if (epochs <= 0 || !b->has_source) return steps;
    double samples = epochs * (double)b->source.n[QN_SPLIT_TRAIN];
    double per_step =
        (double)(qn_config_int(c, "train.batch_size") * qn_config_int(c, "train.accumulate"));
    int64_t by_epochs = (int64_t)ceil(samples / per_step);
    if (by_epochs < 1) by_epochs = 1;
    return steps > 0 && steps < by_epochs ? steps : by_epochs;
}

static qn_status optimizer_config(qn_build *b, const qn_config *c) {
    b->optimizer_config =
        (qn_optimizer_config){.type = qn_config_string(c, "optimizer.type"),
                              .lr = qn_config_number(c, "optimizer.lr"),
                              .weight_decay = qn_config_number(c, "optimizer.weight_decay"),
                              .beta1 = qn_config_number(c, "optimizer.betas.0"),
                              .beta2 = qn_config_number(c, "optimizer.betas.1"),
                              .eps = qn_config_number(c, "optimizer.eps"),
                              .momentum = qn_config_number(c, "optimizer.momentum"),
                              .dampening = qn_config_number(c, "optimizer.dampening"),
                              .nesterov = qn_config_boolean(c, "optimizer.nesterov")};
    QN_TRY(qn_optimizer_create(&b->optimizer_config, &b->optimizer));
    int64_t end = qn_config_is_set(c, "scheduler.decay_steps")
                      ? qn_config_int(c, "scheduler.decay_steps")
                      : 0;
    int64_t warmup = qn_config_int(c, "scheduler.warmup_steps");
    if (warmup == 0 && qn_config_is_set(c, "scheduler.warmup_ratio")) {
        warmup =
            (int64_t)ceil(qn_config_number(c, "scheduler.warmup_ratio") * (double)b->max_steps);
    }
    b->schedule_config = (qn_schedule_config){.type = qn_config_string(c, "scheduler.type"),
                                              .warmup_steps = warmup,
                                              .end = end > 0 ? end : b->max_steps,
                                              .min_ratio = qn_config_number(c, "scheduler.min_lr") /
                                                           b->optimizer.lr};
    return qn_schedule_create(&b->schedule_config, &b->schedule);
}

static double number_or_nan(const qn_config *c, const char *key) {
    return qn_config_is_set(c, key) ? qn_config_number(c, key) : (double)NAN;
}

static qn_status early_stopping(qn_build *b, const qn_config *c) {
    b->early_stopping = qn_config_boolean(c, "early_stopping.enabled");
    if (!b->early_stopping) return QN_OK;
    const char *unit = qn_config_string(c, "early_stopping.patience_unit");
    qn_early_stop_config e = {
        .monitor = qn_config_string(c, "early_stopping.monitor"),
        .min_delta = qn_config_number(c, "early_stopping.min_delta"),
        .relative = qn_config_is(c, "early_stopping.min_delta_mode", "rel"),
        .patience = qn_config_int(c, "early_stopping.patience"),
        .unit = strcmp(unit, "epochs") == 0  ? QN_PATIENCE_EPOCHS
                : strcmp(unit, "steps") == 0 ? QN_PATIENCE_STEPS
                                             : QN_PATIENCE_EVALS,
        .start_from = qn_config_int(c, "early_stopping.start_from"),
        .min_steps = qn_config_int(c, "early_stopping.min_steps"),
        .baseline = number_or_nan(c, "early_stopping.baseline"),
        .stop_at = number_or_nan(c, "early_stopping.stop_at"),
        .diverge_at = number_or_nan(c, "early_stopping.diverge_at"),
        .check_finite = qn_config_boolean(c, "early_stopping.check_finite"),
        .restore_best = qn_config_boolean(c, "early_stopping.restore_best"),
        .smoothing = (int)qn_config_int(c, "early_stopping.smoothing"),
    };
    QN_TRY(qn_early_stop_mode(qn_config_string(c, "early_stopping.mode"), e.monitor, &e.maximize));
    return qn_early_stop_create(&e, &b->stopper);
}

qn_status qn_build_model(qn_build *b, const qn_config *c) {
    b->config = c;
    int threads = (int)qn_config_int(c, "threads");
    b->threads = threads > 0 ? threads : qn_parallel_max_threads();
    QN_TRY(qn_device_resolve(qn_config_string(c, "device"), b->plan_only, &b->device,
                             b->device_text, sizeof b->device_text));
    b->max_steps = steps_of_run(b, c);
    QN_TRY(model_config(b, c));
    QN_TRY(qn_model_create(&b->model_config, &b->model));
    b->objective_config =
        (qn_objective_config){.label_smoothing = qn_config_number(c, "train.label_smoothing"),
                              .chunk = qn_config_int(c, "train.loss_chunk"),
                              .classes = b->model_config.classes + b->model_config.num_labels};
    QN_TRY(
        qn_objective_create(qn_config_string(c, "objective"), &b->objective_config, &b->objective));
    QN_TRY(optimizer_config(b, c));
    return early_stopping(b, c);
}

/* ---- session --------------------------------------------------------------------------------- */

/* With an adapter the base does not change: checkpoints refer to it. */
static void mark_external(const qn_config *c, qn_params *p) {
    if (!qn_config_is_set(c, "model.pretrained") || qn_config_is(c, "adapter.type", "none")) return;
    for (int i = 0; i < p->n; i++) {
        p->item[i].external = p->item[i].frozen && p->item[i].role != QN_ROLE_ADAPTER;
    }
}

qn_status qn_build_params(qn_build *b, qn_params **out) {
    const qn_config *c = b->config;
    qn_params *p;
    QN_TRY(qn_params_create(&p));
    qn_status status = b->model.declare(b->model.self, p);
    if (status == QN_OK) status = qn_build_adapter(b, p);
    for (int64_t i = 0; i < qn_config_count(c, "optimizer.groups") && status == QN_OK; i++) {
        const char *groups = "optimizer.groups";
        char match[KEY_SIZE], lr[KEY_SIZE], decay[KEY_SIZE], frozen[KEY_SIZE];
        element_key(match, groups, i, "match");
        element_key(lr, groups, i, "lr");
        element_key(decay, groups, i, "weight_decay");
        element_key(frozen, groups, i, "frozen");
        double scale = qn_config_is_set(c, lr) ? qn_config_number(c, lr) / b->optimizer.lr : -1.0;
        double wd = qn_config_is_set(c, decay) ? qn_config_number(c, decay) : -1.0;
        int freeze = qn_config_is_set(c, frozen) ? qn_config_boolean(c, frozen) : -1;
        int matched = qn_params_group(p, qn_config_string(c, match), scale, wd, freeze);
        if (matched == 0) {
            status = qn_fail(QN_ERR_CONFIG, "%s: \"%s\" matches no parameter of this model", match,
                             qn_config_string(c, match));
        }
    }
    if (status != QN_OK) {
        qn_params_free(p);
        return status;
    }
    mark_external(c, p);
    *out = p;
    return QN_OK;
}

qn_status qn_build_pretrained(qn_build *b, qn_params *p, bool external_only, char **details) {
    const qn_config *c = b->config;
    const char *path = qn_config_string(c, "model.pretrained"),
               *head = qn_config_string(c, "model.head");
    if (details) *details = NULL;
    if (!*path) return QN_OK;
    qn_hf_options o = {.new_head = *head && strcmp(head, "lm") && strcmp(head, "masked_lm"),
                       .external_only = external_only};
    qn_hf_loaded loaded;
    QN_TRY(qn_hf_load(p, path, &o, &loaded, details));
    memcpy(b->pretrained_digest, loaded.digest, sizeof loaded.digest);
    qn_free(b->notes);
    b->notes = loaded.notes;
    return QN_OK;
}

qn_precision qn_build_precision(const qn_config *c) {
    static const qn_precision all[] = {QN_PRECISION_F32, QN_PRECISION_BF16, QN_PRECISION_BF16_SR,
                                       QN_PRECISION_F64};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (qn_config_is(c, "precision", qn_precision_name(all[i]))) return all[i];
    }
    return QN_PRECISION_F32;
}

static qn_status recompute_globs(qn_build *b, bool *automatic) {
    const qn_config *c = b->config;
    int64_t n = qn_config_count(c, "train.recompute");
    b->recompute = qn_alloc(((size_t)n + 1) * sizeof *b->recompute, "recompute globs");
    if (!b->recompute) return QN_ERR_OOM;
    for (int64_t i = 0; i < n; i++) {
        char key[KEY_SIZE];
        b->recompute[i] = qn_config_string(c, element_key(key, "train.recompute", i, ""));
    }
    *automatic = n == 1 && strcmp(b->recompute[0], "auto") == 0;
    return QN_OK;
}

qn_status qn_build_session(qn_build *b) {
    const qn_config *c = b->config;
    if (qn_config_is(c, "train.reduction", "tree")) {
        return qn_fail(QN_ERR_UNSUPPORTED,
                       "train.reduction \"tree\" comes with training on several ranks; "
                       "this version adds micro-batches in sequence");
    }
    bool automatic;
    QN_TRY(recompute_globs(b, &automatic));
    qn_session_options o = {
        .seed = (uint64_t)qn_config_int(c, "run.seed"),
        .device = b->device,
        .precision = qn_build_precision(c),
        .threads = b->threads,
        .batch_size = qn_config_int(c, "train.batch_size"),
        .eval_batch_size = qn_config_int(c, "eval.batch_size"),
        .accumulate = qn_config_int(c, "train.accumulate"),
        .clip_norm = qn_config_number(c, "train.clip_norm"),
        .spike_threshold = qn_config_number(c, "train.spike_threshold"),
        .spike_window = qn_config_int(c, "train.spike_window"),
        .recompute = b->recompute,
        .recompute_auto = automatic,
        .memory_limit = qn_config_int(c, "train.memory_limit"),
        .keep_best = b->early_stopping && b->stopper.restore_best,
        .evaluate = b->source.n[QN_SPLIT_VAL] > 0 || b->source.n[QN_SPLIT_TEST] > 0,
        .plan_only = b->plan_only,
        .no_graph = !qn_config_boolean(c, "train.cuda_graph"),
    };
    qn_params *p;
    QN_TRY(qn_build_params(b, &p));
    QN_TRY(
        qn_session_create(&o, &b->model, &b->objective, &b->optimizer, &b->source, p, &b->session));
    return b->plan_only ? QN_OK : qn_params_init(b->session->params, o.seed, o.threads);
}

void qn_build_trainer(qn_build *b, qn_trainer *out) {
    const qn_config *c = b->config;
    bool validates = b->source.n[QN_SPLIT_VAL] > 0;
    int64_t every = qn_config_int(c, "eval.every");
    *out = (qn_trainer){
        .session = b->session,
        .source = &b->source,
        .schedule = &b->schedule,
        .stopper = b->early_stopping ? &b->stopper : NULL,
        .max_steps = b->max_steps,
        .log_every = qn_config_int(c, "log.every"),
        .eval_every = !validates  ? 0
                      : every > 0 ? every
                                  : b->max_steps, /* 0: at the end only */
        .eval_batches = qn_config_int(c, "eval.batches"),
        .eval_at_start = validates && qn_config_boolean(c, "eval.at_start"),
        .save_every = qn_config_int(c, "checkpoint.every"),
        .on_nonfinite = qn_config_is(c, "train.on_nonfinite", "skip")       ? QN_NONFINITE_SKIP
                        : qn_config_is(c, "train.on_nonfinite", "rollback") ? QN_NONFINITE_ROLLBACK
                                                                            : QN_NONFINITE_STOP,
        .max_skips = qn_config_int(c, "train.max_skips"),
    };
}

void qn_build_free(qn_build *b) {
    qn_session_free(b->session);
    qn_early_stop_free(&b->stopper);
    if (b->has_source && b->source.free) b->source.free(b->source.self);
    qn_tokenizer_free(b->tokenizer);
    qn_free(b->data_text);
    qn_free(b->chat_text);
    qn_free(b->notes);
    qn_free(b->recompute);
    qn_free(b->sliding_layer);
    *b = (qn_build){0};
}
