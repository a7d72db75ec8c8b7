/* peft_read.c — opens PEFT's adapters and fills parameters from them. */
#include "io/file.h"
#include "io/json.h"
#include "io/peft.h"
#include "io/safetensors.h"

#include <math.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

enum { NAME = 512 };
static const char root[] = "base_model.model.";

struct qn_peft {
    qn_setup *arena;
    char *dir;
    qn_safetensors *file;
    const cJSON *config;
    qn_lora_config lora;
    char *notes;
};

/* ---- the configuration ----------------------------------------------------------------------- */

/* What is known: keys whose values matter here; keys that only matter while PEFT trains or that the
 * tensors repeat; keys for which there is no counterpart unless they are null, false or empty. */
static const char *const used_keys[] = {"peft_type",
                                        "r",
                                        "lora_alpha",
                                        "lora_dropout",
                                        "bias",
                                        "use_rslora",
                                        "use_dora",
                                        "rank_pattern",
                                        "alpha_pattern",
                                        "modules_to_save",
                                        "init_lora_weights",
                                        "base_model_name_or_path"};
static const char *const passed_keys[] = {
    "task_type",           "auto_mapping",   "peft_version",      "revision",
    "inference_mode",      "target_modules", "exclude_modules",   "fan_in_fan_out",
    "layers_to_transform", "layers_pattern", "megatron_config",   "megatron_core",
    "loftq_config",        "eva_config",     "qalora_group_size", "runtime_config",
    "ensure_weight_tying"};
static const char *const refused_keys[] = {"lora_bias",
                                           "layer_replication",
                                           "trainable_token_indices",
                                           "target_parameters",
                                           "use_qalora",
                                           "corda_config",
                                           "alora_invocation_tokens",
                                           "arrow_config",
                                           "use_bdlora",
                                           "lora_ga_config",
                                           "kasa_config",
                                           "velora_config",
                                           "monteclora_config"};

#define COUNT(a) (sizeof(a) / sizeof *(a))

static bool listed(const char *key, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(key, list[i]) == 0) return true;
    }
    return false;
}

static bool is_nothing(const cJSON *v) {
    return cJSON_IsNull(v) || cJSON_IsFalse(v) ||
           ((cJSON_IsArray(v) || cJSON_IsObject(v)) && !v->child);
}

static qn_status bad(const qn_peft *a, const cJSON *at, const char *what) {
    const qn_json_node *node = qn_json_node_of(at);
    int64_t line, column;
    qn_json_position(node->source, node->offset, &line, &column);
    return qn_fail(QN_ERR_FORMAT, "%s/adapter_config.json:%lld:%lld: %s: %s", a->dir,
                   (long long)line, (long long)column, at->string ? at->string : "", what);
}

static qn_status check_keys(qn_peft *a) {
    qn_text notes = {0};
    for (const cJSON *m = a->config->child; m; m = m->next) {
        if (listed(m->string, used_keys, COUNT(used_keys)) ||
            listed(m->string, passed_keys, COUNT(passed_keys)))
            continue;
        if (!listed(m->string, refused_keys, COUNT(refused_keys))) {
            qn_text_printf(&notes, "%s/adapter_config.json: `%s` is not known and not used\n",
                           a->dir, m->string);
        } else if (!is_nothing(m)) {
            qn_text_free(&notes);
            return bad(a, m, "has no counterpart here");
        }
    }
    return qn_text_take(&notes, &a->notes);
}

static qn_status number(const qn_peft *a, const char *key, double low, double absent, double *out) {
    const double high = 1e6;
    const cJSON *v = qn_json_get(a->config, key);
    *out = absent;
    if (!v || cJSON_IsNull(v)) return QN_OK;
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= low && v->valuedouble <= high))
        return bad(a, v, "expected a number in range");
    *out = v->valuedouble;
    return QN_OK;
}

static qn_status boolean(const qn_peft *a, const char *key, bool *out) {
    const cJSON *v = qn_json_get(a->config, key);
    *out = cJSON_IsTrue(v);
    return !v || cJSON_IsBool(v) || cJSON_IsNull(v) ? QN_OK : bad(a, v, "expected a boolean");
}

/* Initialisations that change the base weights are only valid beside the changed ones. */
static qn_status check_init(const qn_peft *a) {
    static const char *const changing[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};
    const cJSON *v = qn_json_get(a->config, "init_lora_weights");
    for (size_t i = 0; cJSON_IsString(v) && i < COUNT(changing); i++) {
        if (strncmp(v->valuestring, changing[i], strlen(changing[i])) == 0) {
            return bad(a, v,
                       "such an adapter belongs to base weights that were changed with it; save it "
                       "converted to plain LoRA");
        }
    }
    return QN_OK;
}

static qn_status read_bias(qn_peft *a) {
    static const char *const words[] = {"none", "lora_only", "all"};
    const cJSON *v = qn_json_get(a->config, "bias");
    for (int i = 0; i < 3; i++) {
        bool same = v && cJSON_IsString(v) && strcmp(v->valuestring, words[i]) == 0;
        if (!same && !(i == 0 && (!v || cJSON_IsNull(v)))) continue;
        a->lora.bias = (qn_lora_bias)i;
        return QN_OK;
    }
    return bad(a, v, "expected \"none\", \"lora_only\" or \"all\"");
}

static qn_status read_modules(qn_peft *a) {
    const cJSON *v = qn_json_get(a->config, "modules_to_save");
    if (!v || cJSON_IsNull(v)) return QN_OK;
    if (!cJSON_IsArray(v)) return bad(a, v, "expected a list of names");
    const char **list =
        qn_setup_alloc(a->arena, (size_t)(cJSON_GetArraySize(v) + 1) * sizeof *list);
    if (!list) return QN_ERR_OOM;
    for (const cJSON *e = v->child; e; e = e->next) {
        if (!cJSON_IsString(e)) return bad(a, v, "expected a list of names");
        list[a->lora.n_modules_to_save++] = e->valuestring;
    }
    a->lora.modules_to_save = list;
    return QN_OK;
}

static qn_status read_config(qn_peft *a) {
    double rank;
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    cJSON *tree;
    QN_TRY(qn_path_format(path, sizeof path, "%s/adapter_config.json", a->dir));
    QN_TRY(qn_file_read(path, QN_JSON_MAX_BYTES, &text, &bytes));
    qn_status s =
        qn_json_parse(a->arena, text, (size_t)bytes, &(qn_json_options){.name = path}, &tree);
    qn_free(text);
    if (s != QN_OK) return s;
    a->config = tree;
    const cJSON *type = qn_json_get(tree, "peft_type");
    if (!cJSON_IsString(type)) {
        return qn_fail(QN_ERR_FORMAT, "%s: no peft_type, expected an adapter's configuration",
                       path);
    }
    if (strcmp(type->valuestring, "LORA") != 0) return bad(a, type, "expected \"LORA\"");
    QN_TRY(check_keys(a));
    QN_TRY(check_init(a));
    QN_TRY(number(a, "r", 1, 8, &rank));
    QN_TRY(number(a, "lora_alpha", 0, 8, &a->lora.alpha));
    QN_TRY(number(a, "lora_dropout", 0, 0, &a->lora.dropout));
    QN_TRY(boolean(a, "use_rslora", &a->lora.rslora));
    QN_TRY(boolean(a, "use_dora", &a->lora.dora));
    a->lora.rank = (int64_t)rank;
    a->lora.lr_ratio = 1;
    QN_TRY(read_bias(a));
    return read_modules(a);
}

/* ---- patterns -------------------------------------------------------------------------------- */

/* Python's expression in POSIX's words: `\d` and `(?:` are the two that differ in practice. */
static void translate(const char *python, char *out, size_t size) {
    size_t n = 0;
    for (const char *s = python; *s && n + 8 < size; s++) {
        if (s[0] == '\\' && s[1] == 'd') {
            memcpy(out + n, "[0-9]", 5);
            n += 5;
            s++;
        } else if (s[0] == '(' && s[1] == '?' && s[2] == ':') {
            out[n++] = '(';
            s += 2;
        } else {
            out[n++] = *s;
        }
    }
    out[n] = '\0';
}

/* A back reference, whose matching may take for ever. */
static bool refers_back(const char *s) {
    for (; *s; s += s[0] == '\\' && s[1] ? 2 : 1) {
        if (s[0] == '\\' && s[1] >= '1' && s[1] <= '9') return true;
    }
    return false;
}

/* The value of the first pattern that matches the module whole or from a dot on, as in PEFT. */
static qn_status pattern_value(const qn_peft *a, const char *key, const char *module, double *out) {
    const cJSON *patterns = qn_json_get(a->config, key);
    if (!patterns || cJSON_IsNull(patterns)) return QN_OK;
    if (!cJSON_IsObject(patterns)) return bad(a, patterns, "expected an object");
    for (const cJSON *e = patterns->child; e; e = e->next) {
        char inner[NAME], whole[NAME + 16];
        regex_t compiled;
        translate(e->string, inner, sizeof inner);
        snprintf(whole, sizeof whole, "^(.*\\.)?(%s)$", inner);
        if (strlen(e->string) > NAME / 2 || strchr(e->string, '{') || refers_back(e->string)) {
            return bad(a, e, "expected a short expression without counts and back references");
        }
        if (!cJSON_IsNumber(e) || !(e->valuedouble > 0)) return bad(a, e, "expected a number > 0");
        if (regcomp(&compiled, whole, REG_EXTENDED | REG_NOSUB) != 0)
            return bad(a, e, "not a regular expression");
        bool match = regexec(&compiled, module, 0, NULL, 0) == 0;
        regfree(&compiled);
        if (!match) continue;
        *out = e->valuedouble;
        return QN_OK;
    }
    return QN_OK;
}

/* ---- tensors --------------------------------------------------------------------------------- */

/* "base_model.model.X.lora_A.weight" -> X; false for any other key. */
static bool module_of_a(const char *key, char *module) {
    static const char end[] = ".lora_A.weight";
    size_t n = strlen(key), from = sizeof root - 1, tail = sizeof end - 1;
    bool is = n > from + tail && n - from - tail < NAME && strncmp(key, root, from) == 0 &&
              strcmp(key + n - tail, end) == 0;
    if (!is) return false;
    memcpy(module, key + from, n - from - tail);
    module[n - from - tail] = '\0';
    return true;
}

static qn_status add_module(qn_peft *a, const char *module, const qn_safetensor *t,
                            const char **target, qn_lora_pattern *pattern) {
    double rank = (double)a->lora.rank, alpha = a->lora.alpha;
    QN_TRY(pattern_value(a, "rank_pattern", module, &rank));
    QN_TRY(pattern_value(a, "alpha_pattern", module, &alpha));
    if (t->ndim != 2 || (double)t->shape[0] != rank) {
        char text[96];
        return qn_fail(QN_ERR_DATA, "%s: %s is %s, adapter_config.json says rank %g", t->file,
                       t->name, qn_safetensor_describe(t, text, sizeof text), rank);
    }
    *target = qn_setup_strdup(a->arena, module);
    *pattern = (qn_lora_pattern){*target, (int64_t)rank, alpha};
    return *target ? QN_OK : QN_ERR_OOM;
}

static qn_status list_modules(qn_peft *a) {
    int64_t n = qn_safetensors_count(a->file);
    const char **targets = qn_setup_alloc(a->arena, (size_t)(n + 1) * sizeof *targets);
    qn_lora_pattern *patterns = qn_setup_alloc(a->arena, (size_t)(n + 1) * sizeof *patterns);
    if (!targets || !patterns) return QN_ERR_OOM;
    for (int64_t i = 0; i < n; i++) {
        const qn_safetensor *t = qn_safetensors_get(a->file, i);
        char module[NAME];
        if (strstr(t->name, ".lora_embedding_")) {
            return qn_fail(QN_ERR_UNSUPPORTED, "%s: %s: embeddings take no adapter here", t->file,
                           t->name);
        }
        if (!module_of_a(t->name, module)) continue;
        int k = a->lora.n_targets++;
        QN_TRY(add_module(a, module, t, &targets[k], &patterns[k]));
    }
    a->lora.targets = targets;
    a->lora.patterns = patterns;
    a->lora.n_patterns = a->lora.n_targets;
    if (a->lora.n_targets > 0) return QN_OK;
    return qn_fail(QN_ERR_DATA, "%s: no tensor %s...lora_A.weight: not an adapter", a->dir, root);
}

qn_status qn_peft_open(const char *dir, qn_peft **out) {
    char path[QN_PATH_MAX];
    qn_peft *a = qn_alloc(sizeof *a, "an adapter");
    if (!a) return QN_ERR_OOM;
    qn_status status = qn_setup_create("an adapter", &a->arena);
    if (status == QN_OK && !(a->dir = qn_setup_strdup(a->arena, dir))) status = QN_ERR_OOM;
    if (status == QN_OK) status = read_config(a);
    if (status == QN_OK) {
        status = qn_path_format(path, sizeof path, "%s/adapter_model.safetensors", dir);
    }
    char pickle[QN_PATH_MAX];
    if (status == QN_OK && !qn_path_exists(path)) {
        status = qn_path_format(pickle, sizeof pickle, "%s/adapter_model.bin", dir);
        if (status == QN_OK && qn_path_exists(pickle)) {
            status = qn_fail(QN_ERR_FORMAT,
                             "%s: a pickle, and reading one runs the code in it; have PEFT save it "
                             "with safe_serialization=True",
                             pickle);
        }
    }
    if (status == QN_OK) status = qn_safetensors_open(path, &a->file);
    if (status == QN_OK) status = list_modules(a);
    if (status != QN_OK) {
        qn_peft_close(a);
        return status;
    }
    *out = a;
    return QN_OK;
}

void qn_peft_close(qn_peft *a) {
    if (!a) return;
    qn_safetensors_close(a->file);
    qn_setup_free(a->arena);
    qn_free(a->notes);
    qn_free(a);
}

const char *qn_peft_notes(const qn_peft *a) { return a->notes; }
const qn_lora_config *qn_peft_config(const qn_peft *a) { return &a->lora; }

const char *qn_peft_base(const qn_peft *a) {
    const cJSON *v = qn_json_get(a->config, "base_model_name_or_path");
    return cJSON_IsString(v) ? v->valuestring : "";
}

const char *qn_peft_head(const qn_peft *a, int64_t *labels) {
    static const char *const tasks[][2] = {{"CAUSAL_LM", "lm"},
                                           {"SEQ_CLS", "sequence_classification"},
                                           {"TOKEN_CLS", "token_classification"},
                                           {"FEATURE_EXTRACTION", "embedding"}};
    static const char *const last[] = {"score", "classifier", "classifier.out_proj"};
    const cJSON *task = qn_json_get(a->config, "task_type");
    *labels = 0;
    for (size_t i = 0; i < COUNT(last); i++) {
        char key[64];
        snprintf(key, sizeof key, "%s%s.weight", root, last[i]);
        const qn_safetensor *t = qn_safetensors_find(a->file, key);
        if (t && t->ndim == 2) *labels = t->shape[0];
    }
    for (size_t i = 0; cJSON_IsString(task) && i < COUNT(tasks); i++) {
        if (strcmp(task->valuestring, tasks[i][0]) == 0) return tasks[i][1];
    }
    return NULL;
}

/* ---- filling parameters ---------------------------------------------------------------------- */

void qn_peft_key(const qn_params *p, int i, char *key, size_t size) {
    const qn_param *q = &p->item[i];
    char path[NAME];
    const char *ours = strrchr(q->name, '.'), *theirs = strrchr(q->hf_name, '.');
    if (q->role == QN_ROLE_ADAPTER) {
        snprintf(key, size, "%s", q->hf_name);
        return;
    }
    snprintf(path, sizeof path, "%.*s", ours ? (int)(ours - q->name) : 0, q->name);
    if (ours && theirs && strcmp(ours, ".bias") == 0 && qn_params_adapter(p, path)) {
        snprintf(key, size, "%s%.*s.base_layer.bias", root, (int)(theirs - q->hf_name), q->hf_name);
        return;
    }
    snprintf(key, size, "%s%s", root, q->hf_name);
}

/* Copies of modules_to_save that PEFT keeps beside the trained ones when all biases are saved. */
static bool is_copy(const char *key) {
    return strstr(key, ".original_module.") || strstr(key, ".modules_to_save.");
}

enum { MISSING, MISSHAPEN, UNEXPECTED, KINDS, SHOWN = 3 };

typedef struct differences {
    int n[KINDS];
    char shown[KINDS][SHOWN * 90]; /* the first few of each kind */
} differences;

static void note_difference(differences *d, int kind, const char *key) {
    size_t used = strlen(d->shown[kind]), size = sizeof d->shown[kind];
    if (d->n[kind]++ < SHOWN) {
        snprintf(d->shown[kind] + used, size - used, "%s%s", used ? ", " : "", key);
    }
}

static qn_status refuse(const qn_peft *a, const differences *d) {
    static const char *const words[] = {"missing", "of another shape", "unexpected"};
    char text[900] = "";
    for (int k = 0; k < KINDS; k++) {
        size_t used = strlen(text);
        if (d->n[k] == 0) continue;
        snprintf(text + used, sizeof text - used, "; %d %s: %s%s", d->n[k], words[k], d->shown[k],
                 d->n[k] > SHOWN ? ", ..." : "");
    }
    return qn_fail(QN_ERR_DATA, "%s does not fit the model and its adapters%s", a->dir, text);
}

static bool fits(const qn_param *q, const qn_safetensor *t) {
    bool same = t->ndim == q->ndim && t->known && qn_dtype_is_float(t->type);
    for (int k = 0; same && k < q->ndim; k++) {
        same = t->shape[k] == q->shape[q->hf_transposed ? q->ndim - 1 - k : k];
    }
    return same;
}

/* source[i]: the tensor of parameter i, or NULL. */
static qn_status match(const qn_peft *a, const qn_params *p, const qn_safetensor **source) {
    char key[NAME];
    differences d = {0};
    int64_t found = 0;
    for (int i = 0; i < p->n; i++) {
        const qn_param *q = &p->item[i];
        qn_peft_key(p, i, key, sizeof key);
        const qn_safetensor *t = qn_safetensors_find(a->file, key);
        if (q->role == QN_ROLE_ADAPTER && !t) note_difference(&d, MISSING, key);
        if (!t || (q->role != QN_ROLE_ADAPTER && q->frozen)) continue;
        found++;
        source[i] = t;
        if (!fits(q, t)) note_difference(&d, MISSHAPEN, key);
    }
    for (int64_t k = 0, n = qn_safetensors_count(a->file); k < n && found < n; k++) {
        const qn_safetensor *t = qn_safetensors_get(a->file, k);
        bool used = is_copy(t->name);
        for (int i = 0; i < p->n && !used; i++) used = source[i] == t;
        if (!used) note_difference(&d, UNEXPECTED, t->name);
    }
    return d.n[MISSING] + d.n[MISSHAPEN] + d.n[UNEXPECTED] > 0 ? refuse(a, &d) : QN_OK;
}

static qn_status check_scales(const qn_peft *a, const qn_params *p) {
    for (int i = 0; i < p->n_adapters; i++) {
        char name[NAME], module[NAME];
        const qn_adapter *ours = &p->adapter[i];
        snprintf(name, sizeof name, "%s.lora_A.weight", ours->path);
        const qn_param *q = qn_params_find(p, name);
        if (!q || !module_of_a(q->hf_name, module)) continue;
        for (int k = 0; k < a->lora.n_patterns; k++) {
            const qn_lora_pattern *theirs = &a->lora.patterns[k];
            if (strcmp(theirs->match, module) != 0) continue;
            double rank = (double)theirs->rank;
            double scale = theirs->alpha / (a->lora.rslora ? sqrt(rank) : rank);
            if (fabs(scale - ours->scale) <= 1e-9 * fabs(scale)) continue;
            return qn_fail(QN_ERR_DATA,
                           "%s: the adapter of %s is multiplied by %g, here by %g: state the same "
                           "adapter.alpha, adapter.patterns and adapter.use_rslora",
                           a->dir, module, scale, ours->scale);
        }
    }
    return QN_OK;
}

static qn_status fill(qn_params *p, int i, const qn_safetensor *t) {
    const qn_param *q = &p->item[i];
    const qn_tensor weight = qn_param_tensor(p, i, &p->weights);
    bool mastered = p->master.data && !q->frozen;
    const qn_tensor master = qn_param_tensor(p, i, mastered ? &p->master : &p->weights);
    qn_tensor stored = qn_tensor_make(NULL, QN_F64, QN_SHAPE(q->count)), here = master;
    qn_tensor rounded = weight;
    qn_status status = QN_ERR_OOM;
    stored.data = qn_alloc(qn_tensor_bytes(&stored) + 1, q->name);
    here.data = qn_alloc(qn_tensor_bytes(&here) + 1, q->name);
    rounded.data = qn_alloc(qn_tensor_bytes(&rounded) + 1, q->name);
    if (!stored.data || !here.data || !rounded.data) goto done;
    QN_TRY_GOTO(qn_safetensor_read(t, 0, q->count, QN_F64, stored.data));
    int64_t columns = q->ndim == 2 ? q->shape[1] : 1, rows = q->shape[0];
    for (int64_t k = 0; k < q->count; k++) {
        int64_t from = q->hf_transposed ? k % columns * rows + k / columns : k;
        qn_tensor_set(&here, k, ((const double *)stored.data)[from]);
        qn_tensor_set(&rounded, k, qn_tensor_get(&here, k));
    }
    QN_TRY_GOTO(qn_device_copy(p->device, master.data, here.data, qn_tensor_bytes(&here)));
    QN_TRY_GOTO(qn_device_copy(p->device, weight.data, rounded.data, qn_tensor_bytes(&rounded)));
done:
    qn_free(stored.data);
    qn_free(here.data);
    qn_free(rounded.data);
    return status;
}

qn_status qn_peft_load(const qn_peft *a, qn_params *p) {
    const qn_safetensor **source = qn_alloc((size_t)(p->n + 1) * sizeof *source, "an adapter");
    if (!source) return QN_ERR_OOM;
    qn_status status;
    QN_TRY_GOTO(match(a, p, source));
    QN_TRY_GOTO(check_scales(a, p));
    QN_TRY_GOTO(qn_safetensors_intact(a->file));
    for (int i = 0; i < p->n; i++) {
        if (source[i]) QN_TRY_GOTO(fill(p, i, source[i]));
    }
done:
    qn_free(source);
    return status;
}
