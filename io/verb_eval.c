/* verb_eval.c — `quern eval`: loss and metrics of a trained run, or of the weights a configuration
 * starts from. */
#include "io/cli.h"
#include "io/run_load.h"
#include "io/text_buffer.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static qn_status print_record(const qn_record *r, const char *split, int64_t step, bool json) {
    qn_text t = {0};
    char *text;
    if (json) qn_text_printf(&t, "{\"step\":%lld,\"split\":\"%s\"", (long long)step, split);
    for (int i = 0; i < r->n; i++) {
        if (json) {
            qn_text_add(&t, ",");
            qn_text_json_string(&t, r->metric[i].key);
            qn_text_add(&t, ":");
        } else {
            qn_text_printf(&t, "%-20s ", r->metric[i].key);
        }
        qn_text_json_number(&t, r->metric[i].value);
        if (!json) qn_text_add(&t, "\n");
    }
    if (json) qn_text_add(&t, "}\n");
    QN_TRY(qn_text_take(&t, &text));
    fputs(text, stdout);
    qn_free(text);
    return QN_OK;
}

static qn_status evaluate(const qn_cli *cli, qn_build *b, int64_t step) {
    const char *name = qn_cli_value(cli, "--split");
    qn_split split = QN_SPLIT_VAL;
    if (!name) name = "val";
    if (strcmp(name, "test") == 0) {
        split = QN_SPLIT_TEST;
    } else if (strcmp(name, "val") != 0) {
        return qn_fail(QN_ERR_USAGE, "--split: expected val or test, found \"%s\"", name);
    }
    if (b->source.n[split] == 0) return qn_fail(QN_ERR_DATA, "the data has no %s split", name);
    qn_record r = {.step = step};
    QN_TRY(qn_session_evaluate(b->session, split, 0, &r));
    return print_record(&r, name, step, qn_cli_has(cli, "--json"));
}

/* The session's own memory gets the loaded weights; masters and moments are never touched. */
static qn_status take_weights(qn_build *b, const qn_params *from) {
    const qn_params *to = b->session->params;
    for (int i = 0; i < to->n; i++) {
        qn_tensor target = qn_param_tensor(to, i, &to->weights),
                  source = qn_param_tensor(from, i, &from->weights);
        QN_TRY(qn_device_copy(to->device, target.data, source.data, qn_tensor_bytes(&source)));
    }
    return QN_OK;
}

static qn_status eval_run(const qn_cli *cli) {
    qn_loaded l;
    char warning[QN_MESSAGE_MAX];
    QN_TRY(qn_loaded_open(cli->arg[0], qn_cli_value(cli, "--ckpt"), cli->set, cli->n_sets, &l,
                          warning, sizeof warning));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    qn_status s = qn_build_data(&l.build, l.config);
    if (s == QN_OK) s = qn_build_session(&l.build);
    if (s == QN_OK) s = take_weights(&l.build, l.params);
    if (s == QN_OK) s = evaluate(cli, &l.build, l.step);
    qn_loaded_free(&l);
    return s;
}

static qn_status eval_config(const qn_cli *cli) {
    qn_config *c;
    QN_TRY(qn_cli_config(cli, cli->arg[0], &c));
    qn_build b = {0};
    qn_status s = qn_build_data(&b, c);
    if (s == QN_OK) s = qn_build_model(&b, c);
    if (s == QN_OK) s = qn_build_session(&b);
    if (s == QN_OK) s = qn_cli_pretrained(&b);
    if (s == QN_OK) s = qn_build_adapter_weights(&b);
    if (s == QN_OK && b.notes) fputs(b.notes, stderr);
    if (s == QN_OK) s = evaluate(cli, &b, 0);
    qn_build_free(&b);
    qn_config_free(c);
    return s;
}

qn_status qn_verb_eval(const qn_cli *cli) {
    struct stat st;
    bool directory = stat(cli->arg[0], &st) == 0 && S_ISDIR(st.st_mode);
    return directory ? eval_run(cli) : eval_config(cli);
}
