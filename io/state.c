/* state.c — what of a run goes into a checkpoint: tensors by name, progress and metadata as JSON.
 */
#include "io/saver.h"

#include "io/json.h"
#include "io/text_buffer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- tensors --------------------------------------------------------------------------------- */

static qn_status add(qn_named *list, int *n, qn_setup *arena, const char *kind, const char *name,
                     qn_tensor t) {
    char full[QN_CHECKPOINT_NAME_MAX + 32];
    snprintf(full, sizeof full, "%s%s%s", kind, *kind ? ":" : "", name);
    const char *copy = qn_setup_strdup(arena, full);
    if (!copy) return QN_ERR_OOM;
    list[(*n)++] = (qn_named){copy, t};
    return QN_OK;
}

qn_status qn_state_tensors_list(const qn_session *s, qn_setup *arena, qn_state_tensors *out) {
    const qn_params *p = s->params;
    *out = (qn_state_tensors){.model = qn_setup_alloc(arena, ((size_t)p->n + 1) * sizeof(qn_named)),
                              .state =
                                  qn_setup_alloc(arena, ((size_t)p->n * 4 + 2) * sizeof(qn_named))};
    if (!out->model || !out->state) return QN_ERR_OOM;
    const struct {
        const char *kind;
        const qn_tensor *flat;
    } kinds[] = {{"master", &p->master},
                 {s->optimizer->moment_name[0], &p->moment[0]},
                 {s->optimizer->moment_name[1], &p->moment[1]},
                 {"best", &p->best}};
    for (int i = 0; i < p->n; i++) {
        const char *name = p->item[i].name;
        if (p->item[i].external) continue;
        QN_TRY(add(out->model, &out->n_model, arena, "", name, qn_param_tensor(p, i, &p->weights)));
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds && !p->item[i].frozen; k++) {
            if (kinds[k].flat->shape[0] == 0) continue;
            QN_TRY(add(out->state, &out->n_state, arena, kinds[k].kind, name,
                       qn_param_tensor(p, i, kinds[k].flat)));
        }
    }
    QN_TRY(add(out->state, &out->n_state, arena, "buffer", "guard", s->guard));
    return add(out->state, &out->n_state, arena, "buffer", "hyper", s->hyper);
}

qn_status qn_state_tensors_here(const qn_session *s, const qn_state_tensors *t, qn_setup *arena,
                                qn_arena **memory, qn_state_tensors *out) {
    *out = *t;
    if (!qn_device_get(s->o.device)->separate) return QN_OK;
    size_t bytes = qn_writer_snapshot_bytes(t->model, t->n_model, t->state, t->n_state);
    out->model = qn_setup_alloc(arena, ((size_t)t->n_model + 1) * sizeof(qn_named));
    out->state = qn_setup_alloc(arena, ((size_t)t->n_state + 1) * sizeof(qn_named));
    if (!out->model || !out->state) return QN_ERR_OOM;
    if (!*memory) QN_TRY(qn_arena_create("tensors on the host", bytes, memory));
    void *place = qn_arena_base(*memory);
    place = qn_writer_copies(t->model, t->n_model, place, out->model);
    (void)qn_writer_copies(t->state, t->n_state, place, out->state);
    return QN_OK;
}

static qn_status copy_list(const qn_device_row *row, const qn_named *to, const qn_named *from,
                           int n) {
    for (int i = 0; i < n; i++)
        QN_TRY(row->copy(to[i].t.data, from[i].t.data, qn_tensor_bytes(&to[i].t), NULL));
    return QN_OK;
}

qn_status qn_state_tensors_copy(const qn_session *s, const qn_state_tensors *to,
                                const qn_state_tensors *from) {
    const qn_device_row *row = qn_device_get(s->o.device);
    QN_TRY(copy_list(row, to->model, from->model, to->n_model));
    QN_TRY(copy_list(row, to->state, from->state, to->n_state));
    return row->synchronize(NULL);
}

/* ---- progress -------------------------------------------------------------------------------- */

typedef struct field {
    const char *name;
    size_t offset;
} field;

static const field integers[] = {
    {"step", offsetof(qn_progress, step)},
    {"tokens", offsetof(qn_progress, tokens)},
    {"skipped", offsetof(qn_progress, skipped)},
    {"rollbacks", offsetof(qn_progress, rollbacks)},
    {"data_offset", offsetof(qn_progress, data_offset)},
    {"improvements", offsetof(qn_progress, improvements)},
    {"best_step", offsetof(qn_progress, best_step)},
};
enum { N_INTEGERS = sizeof integers / sizeof *integers };

static int64_t *integer(const qn_progress *p, int i) {
    return (int64_t *)((char *)(uintptr_t)p + integers[i].offset);
}

qn_status qn_progress_write(const qn_progress *p, const qn_stopper *st, char **text) {
    qn_text t = {0};
    qn_text_add(&t, "{");
    for (int i = 0; i < N_INTEGERS; i++)
        qn_text_printf(&t, "\"%s\":%" PRId64 ",", integers[i].name, *integer(p, i));
    qn_text_add(&t, "\"best_value\":");
    qn_text_json_number(&t, p->best_value);
    qn_text_printf(&t, ",\"stopped\":%s,\"early_stopping\":[", p->stopped ? "true" : "false");
    for (int i = 0; st && i < st->n_state; i++) {
        if (i) qn_text_add(&t, ",");
        qn_text_json_number(&t, st->state[i]);
    }
    qn_text_add(&t, "]}");
    return qn_text_take(&t, text);
}

static bool read_number(const cJSON *item, double *out) {
    if (cJSON_IsNumber(item)) {
        *out = item->valuedouble;
        return true;
    }
    if (!cJSON_IsString(item)) return false;
    const char *s = item->valuestring;
    if (strcmp(s, "nan") == 0)
        *out = NAN;
    else if (strcmp(s, "inf") == 0)
        *out = INFINITY;
    else if (strcmp(s, "-inf") == 0)
        *out = -INFINITY;
    else
        return false;
    return true;
}

static qn_status bad_state(const char *what) {
    return qn_fail(QN_ERR_FORMAT, "checkpoint state: %s is missing or has the wrong type", what);
}

static qn_status read_progress(const cJSON *root, qn_progress *p, qn_stopper *st) {
    for (int i = 0; i < N_INTEGERS; i++) {
        const cJSON *item = qn_json_get(root, integers[i].name);
        if (!item || !qn_json_int64(item, integer(p, i))) return bad_state(integers[i].name);
    }
    const cJSON *best = qn_json_get(root, "best_value"), *stopped = qn_json_get(root, "stopped");
    const cJSON *early = qn_json_get(root, "early_stopping"), *item;
    if (!best || !read_number(best, &p->best_value)) return bad_state("best_value");
    if (!cJSON_IsBool(stopped)) return bad_state("stopped");
    p->stopped = cJSON_IsTrue(stopped);
    if (!cJSON_IsArray(early)) return bad_state("early_stopping");
    int n = cJSON_GetArraySize(early), i = 0;
    if (!st || n == 0) return QN_OK; /* early stopping was turned on or off since */
    if (n != st->n_state) return bad_state("early_stopping");
    cJSON_ArrayForEach(item, early) {
        if (!read_number(item, &st->state[i++])) return bad_state("early_stopping");
    }
    return QN_OK;
}

qn_status qn_progress_read(const char *text, qn_progress *p, qn_stopper *st) {
    qn_setup *arena;
    QN_TRY(qn_setup_create("checkpoint state", &arena));
    cJSON *root;
    qn_status s = qn_json_parse(arena, text, strlen(text),
                                &(qn_json_options){.name = "checkpoint state"}, &root);
    if (s == QN_OK) s = read_progress(root, p, st);
    qn_setup_free(arena);
    return s;
}

/* ---- metadata -------------------------------------------------------------------------------- */

qn_status qn_metadata_write(const qn_build *b, char **text) {
    char *config = NULL, *tokenizer = NULL;
    qn_text t = {0};
    qn_status status;
    QN_TRY_GOTO(qn_config_resolved(b->config, &config));
    if (b->tokenizer) QN_TRY_GOTO(qn_tokenizer_save(b->tokenizer, &tokenizer));
    qn_text_printf(
        &t, "{\"data_identity\":\"%016" PRIx64 "\",\"classes\":%" PRId64 ",\"features\":%" PRId64,
        b->source.identity, b->classes, b->features);
    if (*b->pretrained_digest)
        qn_text_printf(&t, ",\"pretrained_digest\":\"%s\"", b->pretrained_digest);
    if (b->chat_text) {
        qn_text_add(&t, ",\"chat_template\":");
        qn_text_json_string(&t, b->chat_text);
    }
    qn_text_add(&t, ",\"vocabulary\":");
    qn_text_json_string(&t, tokenizer ? tokenizer : "");
    qn_text_add(&t, ",\"config\":");
    qn_text_json_string(&t, config);
    qn_text_add(&t, "}");
    status = qn_text_take(&t, text);
done:
    qn_free(config);
    qn_free(tokenizer);
    return status;
}

static qn_status read_metadata(const cJSON *root, qn_metadata *out) {
    const cJSON *identity = qn_json_get(root, "data_identity"),
                *tokenizer = qn_json_get(root, "vocabulary");
    const cJSON *config = qn_json_get(root, "config");
    if (!cJSON_IsString(identity) || !cJSON_IsString(tokenizer) || !cJSON_IsString(config))
        return bad_state("metadata");
    const cJSON *classes = qn_json_get(root, "classes"), *features = qn_json_get(root, "features");
    if (!classes || !qn_json_int64(classes, &out->classes)) return bad_state("classes");
    if (!features || !qn_json_int64(features, &out->features)) return bad_state("features");
    out->data_identity = strtoull(identity->valuestring, NULL, 16);
    const cJSON *digest = qn_json_get(root, "pretrained_digest");
    if (digest && (!cJSON_IsString(digest) || strlen(digest->valuestring) != QN_HF_DIGEST - 1))
        return bad_state("pretrained_digest");
    if (digest) memcpy(out->pretrained_digest, digest->valuestring, QN_HF_DIGEST);
    const cJSON *chat = qn_json_get(root, "chat_template");
    if (chat && !cJSON_IsString(chat)) return bad_state("chat_template");
    if (chat && !(out->chat_text = qn_strdup(chat->valuestring, "a chat template")))
        return QN_ERR_OOM;
    if (*tokenizer->valuestring) QN_TRY(qn_tokenizer_load(tokenizer->valuestring, &out->tokenizer));
    out->config = qn_strdup(config->valuestring, "a configuration");
    return out->config ? QN_OK : QN_ERR_OOM;
}

qn_status qn_metadata_read(const char *text, qn_metadata *out) {
    *out = (qn_metadata){0};
    qn_setup *arena;
    QN_TRY(qn_setup_create("checkpoint metadata", &arena));
    cJSON *root;
    qn_json_options o = {.name = "checkpoint metadata", .max_bytes = (size_t)256 << 20};
    qn_status s = qn_json_parse(arena, text, strlen(text), &o, &root);
    if (s == QN_OK) s = read_metadata(root, out);
    qn_setup_free(arena);
    if (s != QN_OK) qn_metadata_free(out);
    return s;
}

qn_status qn_pretrained_check(const qn_build *b, const qn_params *p, const char *digest) {
    for (int i = 0; i < p->n; i++) {
        if (!p->item[i].external || strcmp(b->pretrained_digest, digest) == 0) continue;
        return qn_fail(QN_ERR_DATA,
                       "%s: found weights of digest %s, expected %s: the adapter was trained on "
                       "another model",
                       qn_config_string(b->config, "model.pretrained"), b->pretrained_digest,
                       *digest ? digest : "none");
    }
    return QN_OK;
}

void qn_metadata_free(qn_metadata *m) {
    qn_free(m->config);
    qn_free(m->chat_text);
    qn_tokenizer_free(m->tokenizer);
    *m = (qn_metadata){0};
}
