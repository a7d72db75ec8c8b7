/* verb_merge.c — `quern merge`: a model with its adapter folded in, checked before it is written.
 *
 * The model computes the logits of some tokens with the adapter, the adapter is folded into the
 * weights as they will be stored, and the logits of the merged model must be the same up to
 * rounding: 1e-4 of the largest logit where weights are f32, 2e-2 where they are narrower.
 */
#include "io/cli.h"
#include "io/hf_export.h"
#include "io/peft.h"
#include "io/run_load.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TOKENS = 32 };

/* ---- logits ---------------------------------------------------------------------------------- */

static qn_status record(const qn_build *b, const qn_params *p, qn_tape *t, const qn_tensor *tokens,
                        qn_value **out) {
    qn_graph g;
    qn_output o = {0};
    QN_TRY(qn_graph_create(t, p, false, &g));
    qn_value *field = qn_tape_given(t, "tokens", QN_CLASS_INPUT, tokens, false);
    qn_forward in = {.field = &field, .n_fields = 1};
    QN_TRY(b->model.forward(b->model.self, &g, &in, &o));
    qn_value *y =
        o.logits ? o.logits : qn_linear(t, o.hidden, o.head_weight, o.head_bias, QN_ACT_NONE, NULL);
    *out = qn_tape_keep(t, y, "logits");
    return qn_tape_status(t);
}

/* The logits of a row of tokens as doubles; *logits is freed with qn_free. */
static qn_status logits_of(const qn_build *b, const qn_params *p, double **logits, int64_t *n) {
    int32_t ids[TOKENS];
    int64_t longest = b->model.max_positions, count = TOKENS;
    if (longest > 0 && longest < count) count = longest;
    for (int64_t i = 0; i < count; i++) {
        uint32_t draw = qn_random_u32(1, 0, (uint64_t)i);
        ids[i] = (int32_t)(draw % (uint32_t)b->model_config.vocab_size);
    }
    const qn_tensor tokens = qn_tensor_make(ids, QN_I32, QN_SHAPE(1, count));
    qn_tape_options o = {.name = "logits", .threads = b->threads, .device = QN_CPU};
    qn_tape *t;
    qn_program *program = NULL;
    qn_arena *pool = NULL;
    qn_value *y = NULL;
    QN_TRY(qn_tape_create(&o, &t));
    qn_status status = record(b, p, t, &tokens, &y);
    if (status != QN_OK) {
        qn_tape_free(t);
        return status;
    }
    QN_TRY(qn_program_create(t, &program));
    QN_TRY_GOTO(qn_arena_create("logits", qn_program_pool_bytes(program), &pool));
    QN_TRY_GOTO(qn_program_bind(program, QN_CPU, pool));
    QN_TRY_GOTO(qn_program_replay(program));
    *n = qn_tensor_count(&y->t);
    *logits = qn_alloc((size_t)(*n + 1) * sizeof **logits, "logits");
    if (!*logits) status = QN_ERR_OOM;
    for (int64_t i = 0; status == QN_OK && i < *n; i++) (*logits)[i] = qn_tensor_get(&y->t, i);
done:
    qn_program_free(program);
    qn_arena_free(pool);
    return status;
}

static qn_status compare(const double *before, const double *after, int64_t n, double tolerance) {
    double largest = 0, distance = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs(before[i] - after[i]);
        if (!(d <= distance)) distance = d; /* a NaN stays */
        largest = fmax(largest, fabs(before[i]));
    }
    fprintf(stderr, "quern: logits of the merged model are within %.1e of %.3g, allowed %.1e\n",
            qn_nan_plain(distance), largest, tolerance * largest);
    if (distance <= tolerance * largest) return QN_OK;
    return qn_fail(QN_ERR_DATA,
                   "the merged model computes other logits: off by %g where the largest is %g, "
                   "expected at most %g; nothing was written",
                   qn_nan_plain(distance), largest, tolerance * largest);
}

/* ---- merging --------------------------------------------------------------------------------- */

static qn_status dtype_of(const qn_cli *cli, const qn_params *p, qn_dtype *out) {
    const char *name = qn_cli_value(cli, "--dtype");
    *out = p->weights.dtype == QN_F64 ? QN_F32 : p->weights.dtype;
    if (!name) return QN_OK;
    if (qn_dtype_parse(name, out) && (*out == QN_F32 || *out == QN_BF16 || *out == QN_F16))
        return QN_OK;
    return qn_fail(QN_ERR_USAGE, "--dtype: expected f32, bf16 or f16, found \"%s\"", name);
}

static qn_status merge(const qn_cli *cli, const qn_build *b, qn_params *p) {
    int64_t megabytes = 5000, n = 0;
    double *before = NULL, *after = NULL;
    char *notes = NULL;
    qn_hf_export_options o = {.dir = qn_cli_value(cli, "--out"), .config = b->config, .params = p};
    qn_status status;
    if (p->n_adapters == 0) {
        return qn_fail(QN_ERR_USAGE, "%s has no adapter to merge; `quern export` writes its model",
                       cli->arg[0]);
    }
    QN_TRY(dtype_of(cli, p, &o.dtype));
    QN_TRY(qn_cli_int(cli, "--shard-size", 1, INT64_MAX / 1000000, &megabytes));
    o.shard_bytes = megabytes * 1000000;
    QN_TRY_GOTO(logits_of(b, p, &before, &n));
    QN_TRY_GOTO(qn_lora_merge(p, o.dtype, b->threads));
    QN_TRY_GOTO(logits_of(b, p, &after, &n));
    bool wide = o.dtype == QN_F32 && p->weights.dtype != QN_BF16;
    QN_TRY_GOTO(compare(before, after, n, wide ? 1e-4 : 2e-2));
    QN_TRY_GOTO(qn_hf_export(&o, &notes));
    fputs(notes, stderr);
    printf("%s\n", o.dir);
done:
    qn_free(before);
    qn_free(after);
    qn_free(notes);
    return status;
}

/* ---- a run ----------------------------------------------------------------------------------- */

static qn_status merge_run(const qn_cli *cli, const char *threads) {
    const char *sets[] = {"device=cpu", threads};
    qn_loaded l;
    char warning[QN_MESSAGE_MAX];
    QN_TRY(qn_loaded_open(cli->arg[0], qn_cli_value(cli, "--ckpt"), sets, threads ? 2 : 1, &l,
                          warning, sizeof warning));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    qn_status s = merge(cli, &l.build, l.params);
    qn_loaded_free(&l);
    return s;
}

/* ---- PEFT's files ---------------------------------------------------------------------------- */

typedef struct model { /* a pretrained model with an adapter, its weights alone */
    qn_config *config;
    qn_build build;
    qn_params *params;
    qn_arena *weights;
    qn_peft *adapter;
} model;

static qn_status open_weights(model *m) {
    qn_params *p = m->params;
    QN_TRY(qn_params_layout(p, QN_PRECISION_F32, 0, 0.0, false));
    QN_TRY(qn_arena_create("weights", (size_t)p->class_bytes[QN_CLASS_WEIGHT], &m->weights));
    p->grads.shape[0] = 0;
    p->weights.data = qn_arena_base(m->weights);
    char *details;
    qn_status s = qn_build_pretrained(&m->build, p, false, &details);
    if (details) fputs(details, stderr);
    qn_free(details);
    return s == QN_OK ? qn_peft_load(m->adapter, p) : s;
}

static qn_status open_model(model *m, const char *base, const char *const *sets, int n_sets) {
    char *diagnostics = NULL;
    qn_status s = qn_config_load_model(base, sets, n_sets, &m->config, &diagnostics);
    if (diagnostics) fputs(diagnostics, stderr);
    qn_free(diagnostics);
    if (s != QN_OK) return s;
    m->build.classes = qn_config_int(m->config, "model.num_labels");
    if (m->build.classes == 0) m->build.classes = qn_config_int(m->config, "model.vocab_size");
    QN_TRY(qn_build_model(&m->build, m->config));
    QN_TRY(qn_params_create(&m->params));
    QN_TRY(m->build.model.declare(m->build.model.self, m->params));
    QN_TRY(qn_lora_declare(qn_peft_config(m->adapter), m->params));
    return open_weights(m);
}

static qn_status merge_adapter(const qn_cli *cli, const char *threads) {
    const char *sets[5] = {"device=cpu"}, *base = qn_cli_value(cli, "--base"), *head;
    char task[64], classes[64];
    int n = 1;
    int64_t labels;
    model m = {.config = NULL};
    QN_TRY(qn_peft_open(cli->arg[0], &m.adapter));
    fputs(qn_peft_notes(m.adapter), stderr);
    if (!base) base = qn_peft_base(m.adapter);
    if (threads) sets[n++] = threads;
    if ((head = qn_peft_head(m.adapter, &labels))) {
        snprintf(task, sizeof task, "model.head=%s", head);
        snprintf(classes, sizeof classes, "model.num_labels=%lld", (long long)labels);
        sets[n++] = task;
        if (labels > 0) sets[n++] = classes;
        if (strstr(head, "classification")) sets[n++] = "data.type=labelled_text";
    }
    qn_status s =
        *base ? open_model(&m, base, sets, n)
              : qn_fail(QN_ERR_USAGE, "merge: %s does not say which model it is for: --base DIR",
                        cli->arg[0]);
    if (s == QN_OK) s = merge(cli, &m.build, m.params);
    qn_peft_close(m.adapter);
    qn_build_free(&m.build);
    qn_params_free(m.params);
    qn_arena_free(m.weights);
    qn_config_free(m.config);
    return s;
}

qn_status qn_verb_merge(const qn_cli *cli) {
    char path[QN_PATH_MAX], threads[32];
    int64_t n = 0;
    if (!qn_cli_has(cli, "--out")) return qn_fail(QN_ERR_USAGE, "merge: --out DIR is missing");
    QN_TRY(qn_cli_int(cli, "--threads", 1, 1024, &n));
    snprintf(threads, sizeof threads, "threads=%d", (int)n);
    QN_TRY(qn_path_format(path, sizeof path, "%s/adapter_config.json", cli->arg[0]));
    bool peft = qn_path_exists(path);
    if (!peft && qn_cli_has(cli, "--base")) {
        return qn_fail(QN_ERR_USAGE,
                       "merge: --base goes with an adapter in PEFT's files; %s has no "
                       "adapter_config.json",
                       cli->arg[0]);
    }
    return peft ? merge_adapter(cli, n ? threads : NULL) : merge_run(cli, n ? threads : NULL);
}
