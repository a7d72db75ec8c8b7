/* verb_plan.c — `quern plan`: bytes and FLOPs of a run before it exists. */
#include "io/cli.h"
#include "io/saver.h"
#include "io/text_buffer.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

typedef struct row {
    const char *name;
    int64_t bytes;
    bool aside; /* host memory of a run on a GPU: not in the total */
} row;

enum { MAX_ROWS = 16 };

static int class_rows(const qn_session *s, int64_t snapshot, row *rows) {
    static const struct {
        qn_class cls;
        const char *name;
    } names[] = {{QN_CLASS_WEIGHT, "weights"},
                 {QN_CLASS_MASTER, "master weights"},
                 {QN_CLASS_GRADIENT, "gradients"},
                 {QN_CLASS_MOMENT, "optimizer moments"},
                 {QN_CLASS_BUFFER, "buffers"},
                 {QN_CLASS_BEST, "best snapshot"},
                 {QN_CLASS_INPUT, "batches and step values"}};
    int n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rows[n++] = (row){names[i].name, s->class_bytes[names[i].cls], false};
    }
    rows[n++] = (row){"pool (activations, workspace)", s->pool_bytes, false};
    if (!qn_device_get(s->o.device)->separate) {
        rows[n++] = (row){"checkpoint snapshot", snapshot, false};
        return n;
    }
    rows[n++] = (row){"on the host: staging", s->staging_bytes, true};
    rows[n++] = (row){"on the host: snapshot", snapshot, true};
    return n;
}

static void human(qn_text *t, const qn_build *b, const row *rows, int n, int64_t total) {
    const qn_session *s = b->session;
    qn_text_printf(t,
                   "%s, %" PRId64 " parameters (%" PRId64 " trainable), %s, batch %" PRId64
                   " x %" PRId64 ", %d threads\n\n",
                   b->model_config.type, s->params->parameters, s->params->trainable_parameters,
                   qn_precision_name(s->o.precision), s->o.batch_size, s->o.accumulate,
                   s->o.threads);
    for (int i = 0; i < n; i++) {
        qn_text_printf(t, "%-30s %15" PRId64 " bytes %10.1f MiB\n", rows[i].name, rows[i].bytes,
                       (double)rows[i].bytes / 1048576.0);
    }
    qn_text_printf(t, "%-30s %15" PRId64 " bytes %10.1f MiB\n\n", "total", total,
                   (double)total / 1048576.0);
    qn_text_printf(t, "%-18s %6s %13s %13s %13s %13s %10s %8s\n", "program", "calls", "pool",
                   "activations", "gradients", "workspace", "GFLOP", "GB");
    for (int k = 0; k < QN_PROGRAM_COUNT; k++) {
        const qn_program *p = s->program[k];
        if (!p) continue;
        int64_t activations, gradients, workspace;
        qn_cost cost;
        qn_program_peak(p, &activations, &gradients, &workspace);
        qn_program_cost(p, &cost);
        qn_text_printf(t,
                       "%-18s %6d %13zu %13" PRId64 " %13" PRId64 " %13" PRId64 " %10.3f %8.3f\n",
                       qn_program_name(p), qn_program_call_count(p), qn_program_pool_bytes(p),
                       activations, gradients, workspace, cost.flops * 1e-9, cost.bytes * 1e-9);
    }
    qn_text_printf(t, "\n%.3f GFLOP per step, %" PRId64 " samples per step, %" PRId64 " steps\n",
                   qn_session_flops_per_step(s) * 1e-9, s->o.batch_size * s->o.accumulate,
                   b->max_steps);
    if (s->o.recompute_auto) {
        qn_text_printf(t, "the planner recomputes %d of %d blocks\n", s->recomputed,
                       s->model->layers);
    }
    if (s->o.memory_limit > 0 && total > s->o.memory_limit) {
        qn_text_printf(t, "does NOT fit train.memory_limit: %" PRId64 " bytes too many\n",
                       total - s->o.memory_limit);
    }
}

static void machine(qn_text *t, const qn_build *b, const row *rows, int n, int64_t total) {
    const qn_session *s = b->session;
    qn_text_printf(t, "{\"parameters\":%" PRId64 ",\"trainable\":%" PRId64 ",\"classes\":{",
                   s->params->parameters, s->params->trainable_parameters);
    for (int i = 0; i < n; i++)
        qn_text_printf(t, "%s\"%s\":%" PRId64, i ? "," : "", rows[i].name, rows[i].bytes);
    qn_text_printf(t,
                   "},\"run_bytes\":%" PRId64 ",\"pool_bytes\":%" PRId64 ",\"total_bytes\":%" PRId64
                   ",\"programs\":{",
                   s->run_bytes, s->pool_bytes, total);
    const char *comma = "";
    for (int k = 0; k < QN_PROGRAM_COUNT; k++) {
        const qn_program *p = s->program[k];
        if (!p) continue;
        qn_cost cost;
        qn_program_cost(p, &cost);
        qn_text_printf(t, "%s\"%s\":{\"calls\":%d,\"pool_bytes\":%zu,\"flops\":", comma,
                       qn_program_name(p), qn_program_call_count(p), qn_program_pool_bytes(p));
        qn_text_json_number(t, cost.flops);
        qn_text_add(t, ",\"bytes\":");
        qn_text_json_number(t, cost.bytes);
        qn_text_add(t, "}");
        comma = ",";
    }
    qn_text_add(t, "},\"flops_per_step\":");
    qn_text_json_number(t, qn_session_flops_per_step(s));
    qn_text_printf(t, ",\"recomputed_blocks\":%d}\n", s->recomputed);
}

static qn_status snapshot_bytes(const qn_build *b, int64_t *out) {
    *out = 0;
    bool separate = qn_device_get(b->device)->separate;
    if (!separate && !qn_config_boolean(b->config, "checkpoint.async")) return QN_OK;
    qn_setup *arena;
    qn_state_tensors t;
    QN_TRY(qn_setup_create("plan", &arena));
    qn_status s = qn_state_tensors_list(b->session, arena, &t);
    if (s == QN_OK)
        *out = (int64_t)qn_writer_snapshot_bytes(t.model, t.n_model, t.state, t.n_state);
    qn_setup_free(arena);
    return s;
}

/* What a run needs where it computes; `card`: on a GPU, where a snapshot lies on the host. */
static qn_status bytes_of(const qn_build *b, bool card, int64_t *out) {
    row rows[MAX_ROWS];
    int64_t snapshot;
    QN_TRY(snapshot_bytes(b, &snapshot));
    int n = class_rows(b->session, card ? 0 : snapshot, rows);
    *out = 0;
    for (int i = 0; i < n; i++) *out += rows[i].aside ? 0 : rows[i].bytes;
    return QN_OK;
}

static qn_status print(const qn_cli *cli, const qn_build *b) {
    row rows[MAX_ROWS];
    int64_t snapshot, total = 0;
    QN_TRY(snapshot_bytes(b, &snapshot));
    int n = class_rows(b->session, snapshot, rows);
    for (int i = 0; i < n; i++) total += rows[i].aside ? 0 : rows[i].bytes;
    qn_text t = {0};
    char *text;
    if (qn_cli_has(cli, "--json")) {
        machine(&t, b, rows, n, total);
    } else {
        human(&t, b, rows, n, total);
    }
    QN_TRY(qn_text_take(&t, &text));
    fputs(text, stdout);
    qn_free(text);
    return QN_OK;
}

/* Data that is not here (planning for another machine) is replaced by its shapes. */
static qn_status data_or_shapes(qn_build *b, const qn_config *c) {
    qn_status s = qn_build_data(b, c);
    if (s == QN_OK) return QN_OK;
    qn_error error;
    qn_error_get(s, &error);
    qn_build_free(b);
    if (s == QN_ERR_OOM || qn_build_shapes(b, c) != QN_OK) return qn_error_raise(&error);
    fprintf(stderr, "quern: planned from shapes, without the data: %s\n", error.message);
    return QN_OK;
}

/* The session of a configuration, planned. *c and *b are the caller's to free in any case. */
static qn_status plan(const qn_cli *cli, qn_config **c, qn_build *b) {
    *c = NULL;
    *b = (qn_build){0};
    QN_TRY(qn_cli_config(cli, cli->arg[0], c));
    QN_TRY(data_or_shapes(b, *c));
    b->plan_only = true;
    QN_TRY(qn_build_model(b, *c));
    int64_t threads = b->threads;
    QN_TRY(qn_cli_int(cli, "--threads", 1, 1024, &threads));
    b->threads = (int)threads;
    return qn_build_session(b);
}

/* ---- a card of a size ------------------------------------------------------------------------ */

/* What people do when a run does not fit, the least change first. */
typedef struct remedy {
    const char *what, *sets[3];
    bool adds_adapter;
} remedy;
static const remedy remedies[] = {
    {"recompute the blocks", {"train.recompute=[\"blocks.*\"]"}, false},
    {"bf16 instead of f32", {"precision=bf16"}, false},
    {"bf16, and recompute the blocks", {"precision=bf16", "train.recompute=[\"blocks.*\"]"}, false},
    {"bf16 without master weights (bf16_sr), and recompute",
     {"precision=bf16_sr", "train.recompute=[\"blocks.*\"]"},
     false},
    {"LoRA, r = 8, on all linears, bf16",
     {"adapter={\"type\": \"lora\", \"r\": 8}", "precision=bf16"},
     true},
    {"the same, and recompute the blocks",
     {"adapter={\"type\": \"lora\", \"r\": 8}", "precision=bf16", "train.recompute=[\"blocks.*\"]"},
     true},
};

/* Bytes on a card with a remedy; false if it does not apply or cannot be planned. */
static bool try_remedy(const qn_cli *cli, const remedy *r, int64_t *bytes) {
    qn_cli with = *cli;
    qn_config *c;
    qn_build b;
    for (int i = 0; i < 3 && r->sets[i] && with.n_sets < QN_CLI_MAX_SETS; i++)
        with.set[with.n_sets++] = r->sets[i];
    qn_status s = plan(&with, &c, &b);
    if (s == QN_OK) s = bytes_of(&b, true, bytes);
    qn_build_free(&b);
    qn_config_free(c);
    return s == QN_OK;
}

static double gib(int64_t bytes) { return (double)bytes / 1073741824.0; }

/* 0.5 GiB of a card are the driver's. */
static qn_status judge(const qn_cli *cli, const qn_build *b, int64_t card) {
    int64_t need, with = 0, before = 0, room = card - (INT64_C(1) << 29);
    QN_TRY(bytes_of(b, true, &need));
    bool fits = need <= room, adapted = strcmp(qn_config_string(b->config, "adapter.type"), "none");
    if (qn_cli_has(cli, "--json")) {
        printf("{\"card_bytes\":%" PRId64 ",\"need_bytes\":%" PRId64 ",\"fits\":%s}\n", card, need,
               fits ? "true" : "false");
        return QN_OK;
    }
    printf("\non a card of %.2f GiB, of which the driver keeps about 0.5: %s\n", gib(card),
           fits ? "fits" : "does NOT fit");
    printf("  %-52s %9.2f GiB, %.2f GiB %s\n", "this run", gib(need),
           gib(fits ? room - need : need - room), fits ? "left" : "too many");
    if (fits) return QN_OK;
    for (size_t i = 0; i < sizeof remedies / sizeof *remedies; i++) {
        const remedy *r = &remedies[i];
        if ((r->adds_adapter && adapted) || !try_remedy(cli, r, &with) || with >= need ||
            with == before) /* it has that already */
            continue;
        before = with;
        printf("  %-52s %9.2f GiB, %s\n", r->what, gib(with), with <= room ? "fits" : "too many");
    }
    return QN_OK;
}

qn_status qn_verb_plan(const qn_cli *cli) {
    qn_config *c;
    qn_build b;
    int64_t card = 0;
    const char *size = qn_cli_value(cli, "--card");
    if (size && !qn_config_parse_bytes(size, &card)) {
        return qn_fail(QN_ERR_USAGE, "--card: expected a size such as \"40GiB\", found \"%s\"",
                       size);
    }
    qn_status s = plan(cli, &c, &b);
    if (s == QN_OK) s = print(cli, &b);
    if (s == QN_OK && card > 0) s = judge(cli, &b, card);
    qn_build_free(&b);
    qn_config_free(c);
    return s;
}
