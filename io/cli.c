/* cli.c — parsing the command line against a verb's row, and printing help from it. */
#include "io/cli.h"
#include "io/spelling.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- nearest names --------------------------------------------------------------------------- */

static const char *nearer(const char *word, const char *candidate, const char *best) {
    size_t n = strlen(word);
    int d = qni_spelling_distance(word, n, candidate, strlen(candidate));
    if (d > qni_spelling_tolerance(n)) return best;
    return !best || d < qni_spelling_distance(word, n, best, strlen(best)) ? candidate : best;
}

/* ---- parsing --------------------------------------------------------------------------------- */

const qn_verb *qn_cli_find(const char *name) {
    for (const qn_verb *v = qn_verbs; v->name; v++) {
        if (strcmp(v->name, name) == 0) return v;
    }
    return NULL;
}

static qn_status unknown_verb(const char *word) {
    const char *near = NULL;
    for (const qn_verb *v = qn_verbs; v->name; v++) near = nearer(word, v->name, near);
    return qn_fail(QN_ERR_USAGE, "\"%s\" is not a command%s%s%s; `quern help` lists them", word,
                   near ? "; did you mean " : "", near ? near : "", near ? "" : "");
}

static int option_row(const qn_verb *v, const char *name, size_t length) {
    for (int i = 0; i < QN_CLI_MAX_OPTIONS && v->option[i].name; i++) {
        if (strlen(v->option[i].name) == length && strncmp(v->option[i].name, name, length) == 0)
            return i;
    }
    return -1;
}

static qn_status unknown_option(const qn_verb *v, const char *word) {
    const char *near = NULL;
    for (int i = 0; i < QN_CLI_MAX_OPTIONS && v->option[i].name; i++)
        near = nearer(word, v->option[i].name, near);
    return qn_fail(QN_ERR_USAGE,
                   "quern %s: unknown option %s%s%s; `quern help %s` lists its options", v->name,
                   word, near ? ", did you mean " : "", near ? near : "", v->name);
}

static qn_status add_set(qn_cli *out, const char *assignment) {
    if (out->n_sets == QN_CLI_MAX_SETS) {
        return qn_fail(QN_ERR_USAGE, "more than %d --set assignments", QN_CLI_MAX_SETS);
    }
    out->set[out->n_sets++] = assignment;
    return QN_OK;
}

/* One option at argv[*i], whose value may be the next word. */
static qn_status parse_option(qn_cli *out, int argc, char **argv, int *i) {
    const qn_verb *v = out->verb;
    const char *word = argv[*i], *equals = strchr(word, '=');
    int row = option_row(v, word, equals ? (size_t)(equals - word) : strlen(word));
    if (row < 0) return unknown_option(v, word);
    const qn_cli_option *o = &v->option[row];
    const char *value = equals ? equals + 1 : NULL;
    if (o->kind == QN_CLI_FLAG && value) {
        return qn_fail(QN_ERR_USAGE, "quern %s: %s takes no value", v->name, o->name);
    }
    bool has_next = *i + 1 < argc;
    if (!value && (o->kind == QN_CLI_VALUE || o->kind == QN_CLI_SETS)) {
        if (!has_next)
            return qn_fail(QN_ERR_USAGE, "quern %s: %s needs a value: %s", v->name, o->name,
                           o->value);
        value = argv[++*i];
    }
    if (!value && o->kind == QN_CLI_OPTIONAL && has_next && argv[*i + 1][0] != '-')
        value = argv[++*i];
    if (o->kind == QN_CLI_SETS) return add_set(out, value);
    out->value[row] = value ? value : "";
    return QN_OK;
}

static bool takes_sets(const qn_verb *v) { return option_row(v, "--set", 5) >= 0; }

qn_status qn_cli_parse(int argc, char **argv, qn_cli *out) {
    *out = (qn_cli){.program = argv[0]};
    if (argc < 2) return qn_fail(QN_ERR_USAGE, "no command was given; `quern help` lists them");
    const char *word = argv[1];
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) word = "help";
    out->verb = qn_cli_find(word);
    if (!out->verb) return unknown_verb(word);
    bool only_arguments = false;
    for (int i = 2; i < argc; i++) {
        if (!only_arguments && strcmp(argv[i], "--") == 0) {
            only_arguments = true;
        } else if (!only_arguments &&
                   (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)) {
            out->arg[0] = out->verb->name;
            out->n_args = 1;
            out->verb = qn_cli_find("help");
            return QN_OK;
        } else if (!only_arguments && argv[i][0] == '-' && argv[i][1]) {
            QN_TRY(parse_option(out, argc, argv, &i));
        } else if (out->n_args > 0 && takes_sets(out->verb) && strchr(argv[i], '=')) {
            QN_TRY(add_set(out, argv[i]));
        } else if (out->n_args == out->verb->max_args || out->n_args == QN_CLI_MAX_ARGS) {
            return qn_fail(QN_ERR_USAGE,
                           "quern %s: \"%s\" is one argument too many; usage: quern %s %s",
                           out->verb->name, argv[i], out->verb->name, out->verb->arguments);
        } else {
            out->arg[out->n_args++] = argv[i];
        }
    }
    if (out->n_args < out->verb->min_args) {
        return qn_fail(QN_ERR_USAGE, "quern %s: usage: quern %s %s", out->verb->name,
                       out->verb->name, out->verb->arguments);
    }
    return QN_OK;
}

const char *qn_cli_value(const qn_cli *cli, const char *option) {
    int row = option_row(cli->verb, option, strlen(option));
    return row < 0 ? NULL : cli->value[row];
}

bool qn_cli_has(const qn_cli *cli, const char *option) { return qn_cli_value(cli, option) != NULL; }

qn_status qn_cli_int(const qn_cli *cli, const char *option, int64_t low, int64_t high,
                     int64_t *inout) {
    const char *text = qn_cli_value(cli, option);
    if (!text) return QN_OK;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (errno || end == text || *end || v < low || v > high) {
        return qn_fail(QN_ERR_USAGE, "%s: expected an integer from %lld to %lld, found \"%s\"",
                       option, (long long)low, (long long)high, text);
    }
    *inout = v;
    return QN_OK;
}

qn_status qn_cli_number(const qn_cli *cli, const char *option, double low, double high,
                        double *inout) {
    const char *text = qn_cli_value(cli, option);
    if (!text) return QN_OK;
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= low && v <= high)) {
        return qn_fail(QN_ERR_USAGE, "%s: expected a number from %g to %g, found \"%s\"", option,
                       low, high, text);
    }
    *inout = v;
    return QN_OK;
}

/* ---- help ------------------------------------------------------------------------------------ */

void qn_cli_help(const qn_verb *v) {
    if (!v) {
        printf(
            "quern %s: trains, evaluates and runs neural networks from one JSON configuration\n\n"
            "usage: quern COMMAND ...\n\n",
            QUERN_VERSION);
        for (const qn_verb *w = qn_verbs; w->name; w++) printf("  %-11s %s\n", w->name, w->summary);
        printf("\n`quern help COMMAND` tells more and shows an example; `quern --version` the "
               "version.\n");
        return;
    }
    printf("usage: quern %s %s\n\n%s\n", v->name, v->arguments, v->summary);
    if (v->option[0].name) printf("\noptions:\n");
    for (int i = 0; i < QN_CLI_MAX_OPTIONS && v->option[i].name; i++) {
        char left[64];
        const qn_cli_option *o = &v->option[i];
        snprintf(left, sizeof left, o->kind == QN_CLI_OPTIONAL ? "%s [%s]" : "%s %s", o->name,
                 o->value ? o->value : "");
        printf("  %-24s %s\n", left, o->doc);
    }
    printf("\nexample:\n  %s\n", v->example);
}

qn_status qn_verb_help(const qn_cli *cli) {
    const qn_verb *v = cli->n_args ? qn_cli_find(cli->arg[0]) : NULL;
    if (cli->n_args && !v) return unknown_verb(cli->arg[0]);
    qn_cli_help(v);
    return QN_OK;
}

qn_status qn_cli_pretrained(qn_build *b) {
    char *details;
    qn_status s = qn_build_pretrained(b, b->session->params, false, &details);
    if (details) fputs(details, stderr);
    qn_free(details);
    return s;
}

qn_status qn_cli_config(const qn_cli *cli, const char *path, qn_config **out) {
    char *diagnostics = NULL;
    qn_status s = qn_config_load(path, cli->set, cli->n_sets, out, &diagnostics);
    if (s != QN_OK && diagnostics) {
        fputs(diagnostics, stderr);
        (void)qn_fail(s, "%s: this configuration cannot be used", path);
    }
    qn_free(diagnostics);
    return s;
}
