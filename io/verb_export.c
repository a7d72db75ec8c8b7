/* verb_export.c — `quern export`: a run's model, or the adapter it trained, for other programs. */
#include "io/cli.h"
#include "io/hf_export.h"
#include "io/peft.h"
#include "io/run_load.h"

#include <stdio.h>
#include <string.h>

static qn_status dtype_of(const qn_cli *cli, const qn_params *p, qn_dtype *out) {
    const char *name = qn_cli_value(cli, "--dtype");
    *out = p->weights.dtype == QN_F64 ? QN_F32 : p->weights.dtype;
    if (!name) return QN_OK;
    if (qn_dtype_parse(name, out) && (*out == QN_F32 || *out == QN_BF16 || *out == QN_F16))
        return QN_OK;
    return qn_fail(QN_ERR_USAGE, "--dtype: expected f32, bf16 or f16, found \"%s\"", name);
}

static qn_status export_run(const qn_cli *cli, const qn_loaded *l) {
    int64_t megabytes = 5000;
    qn_hf_export_options o = {
        .dir = qn_cli_value(cli, "--out"), .config = l->config, .params = l->params};
    char *notes;
    QN_TRY(dtype_of(cli, l->params, &o.dtype));
    QN_TRY(qn_cli_int(cli, "--shard-size", 1, INT64_MAX / 1000000, &megabytes));
    o.shard_bytes = megabytes * 1000000;
    QN_TRY(qn_hf_export(&o, &notes));
    fputs(notes, stderr);
    qn_free(notes);
    printf("%s\n", o.dir);
    return QN_OK;
}

static qn_status export_adapter(const qn_cli *cli, const qn_loaded *l) {
    if (qn_cli_has(cli, "--dtype") || qn_cli_has(cli, "--shard-size")) {
        return qn_fail(QN_ERR_USAGE,
                       "export: this run has trained an adapter, which PEFT keeps as one "
                       "file of f32; `quern merge` gives a model of its own");
    }
    QN_TRY(qn_peft_write(qn_cli_value(cli, "--out"), l->config, l->params));
    printf("%s\n", qn_cli_value(cli, "--out"));
    return QN_OK;
}

qn_status qn_verb_export(const qn_cli *cli) {
    static const char *const host[] = {"device=cpu"};
    qn_loaded l;
    char warning[QN_MESSAGE_MAX];
    if (!qn_cli_has(cli, "--out")) return qn_fail(QN_ERR_USAGE, "export: --out DIR is missing");
    QN_TRY(qn_loaded_open(cli->arg[0], qn_cli_value(cli, "--ckpt"), host, 1, &l, warning,
                          sizeof warning));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    qn_status s = l.params->n_adapters > 0 ? export_adapter(cli, &l) : export_run(cli, &l);
    qn_loaded_free(&l);
    return s;
}
