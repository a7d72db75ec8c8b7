/* run_load.c — opens RUN/final or a checkpoint and rebuilds its model. */
#include "io/run_load.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

qn_status qn_open_checkpoint(const char *path, qn_checkpoint_parts parts, char *warning,
                             size_t size, qn_checkpoint **out) {
    char inside[QN_PATH_MAX];
    *out = NULL;
    warning[0] = '\0';
    if (!qn_path_exists(path))
        return qn_fail(QN_ERR_USAGE, "%s: there is no such run or checkpoint", path);
    QN_TRY(qn_path_format(inside, sizeof inside, "%s/manifest.json", path));
    if (qn_path_exists(inside)) return qn_checkpoint_open(path, parts, out);
    QN_TRY(qn_path_format(inside, sizeof inside, "%s/final", path));
    if (parts == QN_CHECKPOINT_MODEL && qn_path_exists(inside))
        return qn_checkpoint_open(inside, parts, out);
    QN_TRY(qn_checkpoint_find(path, NULL, INT64_MAX, parts, warning, size, out));
    return *out ? QN_OK
                : qn_fail(QN_ERR_DATA, "%s: there is no %s in it", path,
                          parts == QN_CHECKPOINT_MODEL ? "final model and no checkpoint"
                                                       : "checkpoint");
}

static qn_status open_step(const char *run_dir, const char *which, qn_checkpoint **c) {
    char path[QN_PATH_MAX], *end;
    long long step = strtoll(which, &end, 10);
    if (end == which || *end || step < 0) {
        return qn_fail(QN_ERR_USAGE,
                       "--ckpt: expected \"final\" or the step of a checkpoint, found \"%s\"",
                       which);
    }
    if (!qn_path_exists(run_dir)) return qn_fail(QN_ERR_USAGE, "%s: there is no such run", run_dir);
    QN_TRY(qn_checkpoint_path(run_dir, step, path, sizeof path));
    return qn_checkpoint_open(path, QN_CHECKPOINT_MODEL, c);
}

/* c NULL: everything is model.pretrained's. */
static qn_status load_weights(qn_loaded *l, qn_checkpoint *c) {
    QN_TRY(qn_build_params(&l->build, &l->params));
    qn_params *p = l->params;
    QN_TRY(qn_params_layout(p, qn_build_precision(l->config), 0, 0.0, false));
    /* Inference reads weights and nothing else. */
    qn_device d = l->build.device;
    size_t bytes = (size_t)p->class_bytes[QN_CLASS_WEIGHT];
    QN_TRY(qn_arena_create_on(d, "weights", bytes, &l->weights));
    p->master.shape[0] = p->grads.shape[0] = 0;
    p->device = d;
    p->weights.data = qn_arena_base(l->weights);
    if (!c) return qn_build_pretrained(&l->build, p, false, NULL);
    qn_named *list = qn_setup_alloc(p->setup, ((size_t)p->n + 1) * sizeof *list);
    if (!list) return QN_ERR_OOM;
    qn_arena *apart = NULL;
    qn_tensor here = p->weights; /* where the host fills them */
    if (qn_device_get(d)->separate) {
        QN_TRY(qn_arena_create("weights on the host", bytes, &apart));
        here.data = qn_arena_base(apart);
    }
    int n = 0;
    for (int i = 0; i < p->n; i++)
        if (!p->item[i].external)
            list[n++] = (qn_named){p->item[i].name, qn_param_tensor(p, i, &here)};
    qn_status s = qn_checkpoint_load(c, QN_CHECKPOINT_MODEL, list, n);
    if (s == QN_OK) s = qn_device_copy(d, p->weights.data, here.data, bytes);
    qn_arena_free(apart);
    if (s != QN_OK || n == p->n) return s;
    QN_TRY(qn_build_pretrained(&l->build, p, true, NULL));
    return qn_pretrained_check(&l->build, p, l->metadata.pretrained_digest);
}

static qn_status read_config(qn_loaded *l, const char *name, const char *text,
                             const char *const *sets, int n_sets) {
    char *diagnostics = NULL;
    qn_status s =
        qn_config_load_text(name, text, strlen(text), NULL, sets, n_sets, &l->config, &diagnostics);
    qn_free(diagnostics); /* the first error is the message */
    return s;
}

static qn_status fill(qn_loaded *l, qn_checkpoint *c, const char *const *sets, int n_sets) {
    const qn_checkpoint_info *info = qn_checkpoint_get_info(c);
    l->step = info->step;
    QN_TRY(qn_metadata_read(info->metadata, &l->metadata));
    QN_TRY(read_config(l, "the checkpoint's configuration", l->metadata.config, sets, n_sets));
    l->build.classes = l->metadata.classes;
    l->build.features = l->metadata.features;
    l->build.tokenizer = l->metadata.tokenizer;
    l->metadata.tokenizer = NULL;
    l->build.chat_text = l->metadata.chat_text;
    l->metadata.chat_text = NULL;
    QN_TRY(qn_build_model(&l->build, l->config));
    return load_weights(l, c);
}

/* ---- a Hugging Face directory ---------------------------------------------------------------- */

static bool is_hugging_face(const char *path) {
    char inside[QN_PATH_MAX];
    qn_status s = qn_path_format(inside, sizeof inside, "%s/config.resolved.json", path);
    if (s != QN_OK || qn_path_exists(inside)) return false; /* a run */
    s = qn_path_format(inside, sizeof inside, "%s/manifest.json", path);
    if (s != QN_OK || qn_path_exists(inside)) return false; /* a checkpoint */
    s = qn_path_format(inside, sizeof inside, "%s/config.json", path);
    return s == QN_OK && qn_path_exists(inside);
}

static qn_status open_hugging_face(qn_loaded *l, const char *path, const char *const *sets,
                                   int n_sets) {
    char *diagnostics = NULL;
    qn_status s = qn_config_load_model(path, sets, n_sets, &l->config, &diagnostics);
    qn_free(diagnostics); /* the first error is the message */
    QN_TRY(s);
    s = qn_tokenizer_open(path, &l->build.tokenizer);
    if (s != QN_OK && s != QN_ERR_DATA) return s; /* without one ids can still be given */
    QN_TRY(qn_build_model(&l->build, l->config));
    return load_weights(l, NULL);
}

qn_status qn_loaded_open(const char *run_dir, const char *which, const char *const *sets,
                         int n_sets, qn_loaded *out, char *warning, size_t size) {
    *out = (qn_loaded){0};
    warning[0] = '\0';
    qn_checkpoint *c = NULL;
    if (!which && is_hugging_face(run_dir)) {
        qn_status s = open_hugging_face(out, run_dir, sets, n_sets);
        if (s != QN_OK) qn_loaded_free(out);
        return s;
    }
    if (which && strcmp(which, "final") != 0) {
        QN_TRY(open_step(run_dir, which, &c));
    } else {
        QN_TRY(qn_open_checkpoint(run_dir, QN_CHECKPOINT_MODEL, warning, size, &c));
    }
    qn_status s = fill(out, c, sets, n_sets);
    qn_checkpoint_close(c);
    if (s != QN_OK) qn_loaded_free(out);
    return s;
}

void qn_loaded_free(qn_loaded *l) {
    qn_build_free(&l->build);
    qn_params_free(l->params);
    qn_arena_free(l->weights);
    qn_metadata_free(&l->metadata);
    qn_config_free(l->config);
    *l = (qn_loaded){0};
}

/* ---- model.init_from ------------------------------------------------------------------------- */

/* An adapter is new beside the model it starts from. */
static void leave_out_adapters(const qn_params *p, qn_state_tensors *t) {
    int n = t->n_model;
    t->n_model = 0;
    for (int i = 0; i < n; i++) {
        const qn_param *q = qn_params_find(p, t->model[i].name);
        if (!q || q->role != QN_ROLE_ADAPTER) t->model[t->n_model++] = t->model[i];
    }
}

qn_status qn_init_from(qn_session *s, const char *path, char *warning, size_t size) {
    qn_setup *arena;
    qn_state_tensors tensors, here = {0};
    qn_arena *memory = NULL;
    qn_checkpoint *c = NULL;
    QN_TRY(qn_setup_create("initial weights", &arena));
    qn_status status = qn_state_tensors_list(s, arena, &tensors);
    tensors.n_state = 0;
    if (status == QN_OK) leave_out_adapters(s->params, &tensors);
    if (status == QN_OK) status = qn_state_tensors_here(s, &tensors, arena, &memory, &here);
    if (status == QN_OK) status = qn_open_checkpoint(path, QN_CHECKPOINT_MODEL, warning, size, &c);
    if (status == QN_OK)
        status = qn_checkpoint_load(c, QN_CHECKPOINT_MODEL, here.model, here.n_model);
    if (status == QN_OK) status = qn_state_tensors_copy(s, &tensors, &here);
    if (status == QN_OK) status = qn_params_sync_masters(s->params);
    qn_checkpoint_close(c);
    qn_arena_free(memory);
    qn_setup_free(arena);
    return status == QN_OK ? QN_OK : qn_fail_prefix(status, "model.init_from");
}
