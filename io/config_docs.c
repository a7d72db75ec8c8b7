/* config_docs.c — the table of keys as a reference page and as a bash completion script. */
#include "io/config_table.h"

#include <stdio.h>
#include <string.h>

/* ---- reference page -------------------------------------------------------------------------- */

static void add_row(qn_text *t, const qni_key *k) {
    char text[512];
    qn_text_printf(t, "| `%s` | ", k->name);
    qni_key_describe(k, text, sizeof text);
    qn_text_add(t, text);
    qni_default_describe(k, text, sizeof text);
    qn_text_add(t, " | ");
    if (k->flags & QNI_REQUIRED) {
        qn_text_add(t, "required");
    } else if (k->fallback) {
        qn_text_printf(t, "`%s`", text);
    } else {
        qn_text_add(t, *text ? text : "none");
    }
    qn_text_printf(t, " | %s", k->doc);
    if (k->unit) qn_text_printf(t, " Unit: %s.", k->unit);
    if (k->only) {
        qni_condition_describe(k->only, text, sizeof text);
        qn_text_printf(t, " Only when %s.", text);
    }
    if (k->flags & QNI_IDENTITY) qn_text_add(t, " Fixed for a run.");
    if (k->since) qn_text_printf(t, " Since %s.", k->since);
    qn_text_add(t, " |\n");
}

static void add_rows(qn_text *t, int parent) {
    qn_text_add(t, "| key | value | default | meaning |\n|---|---|---|---|\n");
    for (int i = 0; i < qni_key_count; i++) {
        if (!qni_key_in(i, parent) || qni_keys[i].type == QNI_SECTION) continue;
        add_row(t, &qni_keys[i]);
        for (int j = i + 1; j < qni_key_count && qni_key_in(j, i); j++) add_row(t, &qni_keys[j]);
    }
}

static void add_aliases(qn_text *t) {
    qn_text_add(t, "\n## Names in other tools\n\nThese are not accepted; the error tells the name "
                   "here.\n\n| elsewhere | here |\n|---|---|\n");
    for (int i = 0; i < qni_alias_count; i++) {
        const qni_alias *a = &qni_aliases[i];
        qn_text_printf(t, "| `%s` (%s) | `%s` |\n", a->alias, a->tool, a->name);
    }
}

qn_status qn_config_reference(char **out) {
    qn_text t = {0};
    qn_text_add(&t,
                "# Configuration reference\n\n"
                "A configuration is one JSON object; `//` and `/* */` comments are allowed. Every "
                "key can be set on the command line with `--set section.key=value`. `null` takes a "
                "key back to its default. In strings `${env:NAME}` is replaced by an environment "
                "variable. Paths are relative to the file that holds them. Keys that are fixed for "
                "a run may not change when it is resumed.\n\n"
                "## Top level\n\n");
    add_rows(&t, -1);
    for (int i = 0; i < qni_key_count; i++) {
        if (qni_keys[i].type != QNI_SECTION) continue;
        qn_text_printf(&t, "\n## %s\n\n%s\n\n", qni_keys[i].name, qni_keys[i].doc);
        add_rows(&t, i);
    }
    add_aliases(&t);
    return qn_text_take(&t, out);
}

/* ---- bash completion ------------------------------------------------------------------------- */

/* A bash `case` with the values each key can take, as far as they can be listed. */
static void add_values(qn_text *t) {
    qn_text_add(t, "_quern_values() {\n    case $1 in\n");
    for (int i = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        if (strstr(k->name, "[]")) continue;
        if (k->type == QNI_BOOL) {
            qn_text_printf(t, "    %s) echo true false ;;\n", k->name);
        } else if (k->type == QNI_ENUM) {
            qn_text_printf(t, "    %s) echo ", k->name);
            for (const char *s = k->choices; *s; s++) qn_text_add_bytes(t, *s == '|' ? " " : s, 1);
            qn_text_add(t, " ;;\n");
        }
    }
    qn_text_add(t, "    esac\n}\n\n");
}

qn_status qn_config_completion(const char *verbs, char **out) {
    qn_text t = {0};
    qn_text_add(&t, "# bash completion for quern; to use it: source <(quern completion)\n\n"
                    "_quern_keys='");
    for (int i = 0, n = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        if (k->type == QNI_SECTION || k->flags & QNI_DIRECTIVE || strstr(k->name, "[]")) continue;
        qn_text_printf(&t, "%s%s=", n++ ? "\n" : "", k->name);
    }
    qn_text_add(&t, "'\n\n");
    add_values(&t);
    /* bash breaks words at "=", so "a.b=v" arrives as three. */
    qn_text_printf(&t,
                   "_quern() {\n"
                   "    local word=${COMP_WORDS[COMP_CWORD]} last=${COMP_WORDS[COMP_CWORD-1]}\n"
                   "    COMPREPLY=()\n"
                   "    if [[ $COMP_CWORD -eq 1 ]]; then\n"
                   "        COMPREPLY=($(compgen -W '%s' -- \"$word\"))\n"
                   "    elif [[ $last == --set ]]; then\n"
                   "        COMPREPLY=($(compgen -W \"$_quern_keys\" -- \"$word\"))\n"
                   "        compopt -o nospace\n"
                   "    elif [[ $word == = ]]; then\n"
                   "        COMPREPLY=($(compgen -W \"$(_quern_values \"$last\")\"))\n"
                   "    elif [[ $last == = ]]; then\n"
                   "        local key=${COMP_WORDS[COMP_CWORD-2]}\n"
                   "        COMPREPLY=($(compgen -W \"$(_quern_values \"$key\")\" -- \"$word\"))\n"
                   "    else\n"
                   "        COMPREPLY=($(compgen -f -- \"$word\"))\n"
                   "    fi\n"
                   "}\n"
                   "complete -o filenames -F _quern quern\n",
                   verbs);
    return qn_text_take(&t, out);
}
