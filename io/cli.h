/* cli.h — the command line: one table of verbs, one parser, one place that prints errors.
 *
 * A verb is a row: its options, its help with one worked example, and a function. Verbs print
 * results on stdout; everything about how it went is on stderr. Exit codes are those of qn_status.
 */
#ifndef QN_CLI_H
#define QN_CLI_H

#include "engine/engine.h"

enum { QN_CLI_MAX_OPTIONS = 20, QN_CLI_MAX_SETS = 256, QN_CLI_MAX_ARGS = 16 };

typedef enum qn_cli_kind {
    QN_CLI_FLAG,     /* --json */
    QN_CLI_VALUE,    /* --out DIR */
    QN_CLI_OPTIONAL, /* --resume, --resume auto, --resume DIR */
    QN_CLI_SETS      /* --set key=value, repeatable */
} qn_cli_kind;

typedef struct qn_cli_option {
    const char *name; /* "--out" */
    qn_cli_kind kind;
    const char *value; /* "DIR", for the help */
    const char *doc;
} qn_cli_option;

typedef struct qn_cli {
    const struct qn_verb *verb;
    const char *program;
    int n_args; /* positional ones, the verb not included */
    const char *arg[QN_CLI_MAX_ARGS];
    const char *
        value[QN_CLI_MAX_OPTIONS]; /* by option row; NULL = not given, "" = given without a value */
    int n_sets;
    const char *set[QN_CLI_MAX_SETS];
} qn_cli;

typedef struct qn_verb {
    const char *name, *arguments, *summary;
    int min_args, max_args;
    qn_status (*run)(const qn_cli *cli);
    qn_cli_option option[QN_CLI_MAX_OPTIONS]; /* ends with a NULL name */
    const char *example;
} qn_verb;

extern const qn_verb qn_verbs[]; /* ends with a NULL name */

/* Fills *out from argv. QN_ERR_USAGE names what is wrong and the nearest name there is. */
qn_status qn_cli_parse(int argc, char **argv, qn_cli *out) QN_CHECKED;
const char *qn_cli_value(const qn_cli *cli, const char *option); /* NULL = not given */
bool qn_cli_has(const qn_cli *cli, const char *option);
qn_status qn_cli_int(const qn_cli *cli, const char *option, int64_t low, int64_t high,
                     int64_t *inout) QN_CHECKED;
qn_status qn_cli_number(const qn_cli *cli, const char *option, double low, double high,
                        double *inout) QN_CHECKED;
/* Help of one verb, or the overview for NULL; printed on stdout. */
void qn_cli_help(const qn_verb *verb);
/* The verb of that name, NULL if there is none. */
const qn_verb *qn_cli_find(const char *name);

/* ---- the verbs, one file each ---------------------------------------------------------------- */

qn_status qn_verb_train(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_eval(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_predict(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_generate(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_tokenize(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_tokenizer_train(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_prepare(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_plan(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_validate(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_schema(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_config(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_init(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_inspect(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_export(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_merge(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_report(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_bench(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_doctor(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_completion(const qn_cli *cli) QN_CHECKED;
qn_status qn_verb_help(const qn_cli *cli) QN_CHECKED;

#include "io/build.h"
/* Loads a configuration with the command line's --set; prints all diagnostics on stderr if it
 * fails. */
qn_status qn_cli_config(const qn_cli *cli, const char *path, qn_config **out) QN_CHECKED;
/* The weights of model.pretrained into b's session; prints what does not fit on stderr if it fails.
 */
qn_status qn_cli_pretrained(qn_build *b) QN_CHECKED;

#endif
