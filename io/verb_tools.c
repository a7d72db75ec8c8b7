/* verb_tools.c — the small commands: validate, schema, config, init, inspect, report, doctor,
 * completion. */
#include "io/cli.h"
#include "io/environment.h"
#include "io/report.h"
#include "io/run_load.h"
#include "io/safetensors.h"
#include "io/text_buffer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Prints and frees what a text-making function returned. */
static qn_status print(qn_status s, char **text) {
    if (s != QN_OK) return s;
    fputs(*text, stdout);
    qn_free(*text);
    return QN_OK;
}

qn_status qn_verb_validate(const qn_cli *cli) {
    qn_config *c;
    QN_TRY(qn_cli_config(cli, cli->arg[0], &c));
    qn_build b = {.plan_only = true};
    qn_status s = qn_build_data(&b, c);
    if (s == QN_OK) s = qn_build_model(&b, c);
    if (s == QN_OK) s = qn_build_session(&b);
    if (s == QN_OK) {
        printf("%s%s: valid; %lld parameters, %lld steps\n", b.data_text, cli->arg[0],
               (long long)b.session->params->parameters, (long long)b.max_steps);
    }
    qn_build_free(&b);
    qn_config_free(c);
    return s;
}

qn_status qn_verb_schema(const qn_cli *cli) {
    char *text;
    return print(qn_config_schema(qn_cli_value(cli, "--field"), &text), &text);
}

qn_status qn_verb_config(const qn_cli *cli) {
    char *text;
    if (strcmp(cli->arg[0], "reference") == 0) return print(qn_config_reference(&text), &text);
    if (strcmp(cli->arg[0], "show") != 0 || cli->n_args < 2) {
        return qn_fail(QN_ERR_USAGE, "usage: quern config show CONFIG, or quern config reference");
    }
    qn_config *c;
    QN_TRY(qn_cli_config(cli, cli->arg[1], &c));
    qn_status s = print(qn_config_show(c, &text), &text);
    qn_config_free(c);
    return s;
}

qn_status qn_verb_init(const qn_cli *cli) {
    const char *name = cli->n_args ? cli->arg[0] : qn_config_template_name(0),
               *out = qn_cli_value(cli, "--out");
    if (qn_cli_has(cli, "--list")) {
        for (int i = 0; i < qn_config_template_count(); i++) {
            printf("%-14s %s\n", qn_config_template_name(i), qn_config_template_summary(i));
        }
        return QN_OK;
    }
    char *text;
    QN_TRY(qn_config_template(name, &text));
    if (!out) return print(QN_OK, &text);
    qn_status s = qn_path_exists(out)
                      ? qn_fail(QN_ERR_USAGE, "%s exists; --out never replaces a file", out)
                      : qn_file_create(out, text, strlen(text));
    qn_free(text);
    return s;
}

static qn_status inspect_safetensors(const qn_cli *cli) {
    qn_safetensors *s;
    char *text;
    if (qn_cli_has(cli, "--digest"))
        return qn_fail(QN_ERR_USAGE, "--digest is of a run or a checkpoint");
    QN_TRY(qn_safetensors_open(cli->arg[0], &s));
    qn_status status = print(qn_safetensors_inspect(s, qn_cli_has(cli, "--json"), &text), &text);
    qn_safetensors_close(s);
    return status;
}

qn_status qn_verb_inspect(const qn_cli *cli) {
    if (qn_safetensors_meant(cli->arg[0])) return inspect_safetensors(cli);
    qn_checkpoint *c;
    char warning[QN_MESSAGE_MAX];
    QN_TRY(qn_open_checkpoint(cli->arg[0], QN_CHECKPOINT_ALL, warning, sizeof warning, &c));
    if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    char digest[QN_DIGEST_SIZE], *text;
    qn_status s;
    if (qn_cli_has(cli, "--digest")) {
        s = qn_checkpoint_digest(c, digest);
        if (s == QN_OK) printf("%s\n", digest);
    } else {
        s = print(qn_checkpoint_inspect(c, qn_cli_has(cli, "--json"), &text), &text);
    }
    qn_checkpoint_close(c);
    return s;
}

qn_status qn_verb_report(const qn_cli *cli) {
    QN_TRY(qn_report_write(cli->arg[0]));
    printf("%s/report.html\n", cli->arg[0]);
    return QN_OK;
}

qn_status qn_verb_doctor(const qn_cli *cli) {
    char *text;
    return print(qn_environment_doctor(qn_cli_has(cli, "--json"), &text), &text);
}

qn_status qn_verb_completion(const qn_cli *cli) {
    if (strcmp(cli->arg[0], "bash") != 0) {
        return qn_fail(QN_ERR_USAGE, "completion: expected bash, found \"%s\"", cli->arg[0]);
    }
    qn_text verbs = {0};
    for (const qn_verb *v = qn_verbs; v->name; v++)
        qn_text_printf(&verbs, "%s%s", verbs.length ? " " : "", v->name);
    char *list, *text;
    QN_TRY(qn_text_take(&verbs, &list));
    qn_status s = print(qn_config_completion(list, &text), &text);
    qn_free(list);
    return s;
}
