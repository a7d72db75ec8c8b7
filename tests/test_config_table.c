/* test_config_table.c — the table of keys and what is generated from it. */
#include "tests/config_helpers.h"
#include "io/config_table.h"

#include <math.h>

/* ---- the table ------------------------------------------------------------------------------- */

static void test_table_is_sound(void **state) {
    (void)state;
    for (int i = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        assert_int_equal(qni_key_find(k->name), i); /* unique */
        assert_true(k->doc && strlen(k->doc) > 10 && k->doc[strlen(k->doc) - 1] == '.');
        assert_int_equal(k->type == QNI_ENUM, k->choices != NULL);
        if (k->range) {
            qni_interval r = qni_range_parse(k->range);
            assert_true(strchr("[(", k->range[0]) && isfinite(r.low) && r.low < r.high);
        }
        const char *dot = strrchr(k->name, '.');
        if (dot) { /* its section stands before it */
            char section[128];
            snprintf(section, sizeof section, "%.*s", (int)(dot - k->name), k->name);
            if (strstr(section, "[]")) *strstr(section, "[]") = '\0';
            int row = qni_key_find(section);
            assert_true(row >= 0 && row < i);
            assert_true(qni_keys[row].type == QNI_SECTION || qni_keys[row].type == QNI_GROUPS);
            assert_true(qni_key_in(i, row));
        }
        if (k->only) {
            char other[64];
            snprintf(other, sizeof other, "%.*s", (int)strcspn(k->only, "="), k->only);
            assert_true(qni_key_find(other) >= 0 && qni_key_find(other) < i);
        }
    }
    for (int i = 0; i < qni_fallback_count; i++) {
        assert_true(qni_key_find(qni_fallbacks[i].name) >= 0);
        assert_null(qni_keys[qni_key_find(qni_fallbacks[i].name)].fallback);
        char other[64];
        snprintf(other, sizeof other, "%.*s", (int)strcspn(qni_fallbacks[i].when, "="),
                 qni_fallbacks[i].when);
        assert_true(qni_key_find(other) >= 0);
    }
    for (int i = 0; i < qni_alias_count; i++) {
        char hint[256];
        assert_true(qni_key_find(qni_aliases[i].name) >= 0);
        qni_key_suggest(qni_aliases[i].alias, hint, sizeof hint);
        assert_contains(hint, qni_aliases[i].name);
    }
}

/* Stating every default as it is written in the table changes nothing. */
static void test_defaults_pass_their_own_checks(void **state) {
    (void)state;
    for (int i = 0; i < qni_key_count; i++) {
        const qni_key *k = &qni_keys[i];
        char set[256];
        const char *sets[] = {set};
        if (!k->fallback || strstr(k->name, "[]") || k->only) continue;
        snprintf(set, sizeof set, "%s=%s", k->name, k->fallback);
        bool stop = strncmp(k->name, "early_stopping.", 15) == 0;
        qn_config *c = must_load(
            stop ? "{" MODEL "," DATA "," TRAIN ",\"eval\": {\"every\": 1}}" : MINIMAL, sets, 1);
        qn_config_free(c);
    }
}

static void test_schema(void **state) {
    (void)state;
    char *schema, *part;
    assert_int_equal(qn_config_schema(NULL, &schema), QN_OK);
    for (int i = 0; i < qni_key_count; i++) {
        char member[128];
        snprintf(member, sizeof member, "\"%s\": {", qni_key_leaf(&qni_keys[i]));
        assert_contains(schema, member);
    }
    assert_int_equal(qn_config_schema("optimizer.betas", &part), QN_OK);
    assert_contains(part, "\"exclusiveMaximum\": 1");
    assert_contains(part, "\"maxItems\": 2");
    qn_free(part);
    assert_int_equal(qn_config_schema("optimizer.beta", &part), QN_ERR_USAGE);
    assert_contains(qn_error_message(), "did you mean `optimizer.betas`?");
    assert_int_equal(qn_config_schema("zzzzzzzzzz", &part), QN_ERR_USAGE); /* like none */
    assert_string_equal(qn_error_message(), "schema: no key `zzzzzzzzzz`");

    FILE *f = fopen(QUERN_SOURCE_DIR "/configs/schema.json", "rb");
    assert_non_null(f);
    size_t length = strlen(schema);
    char *stored = calloc(1, length + 2);
    assert_non_null(stored);
    assert_int_equal(fread(stored, 1, length + 1, f), length);
    assert_string_equal(stored,
                        schema); /* `quern schema > configs/schema.json` brings it up to date */
    free(stored);
    fclose(f);
    qn_free(schema);
}

static void test_reference_and_completion(void **state) {
    (void)state;
    char *text;
    assert_int_equal(qn_config_reference(&text), QN_OK);
    for (int i = 0; i < qni_key_count; i++) {
        char row[128];
        bool section = qni_keys[i].type == QNI_SECTION;
        snprintf(row, sizeof row, section ? "\n## %s\n" : "\n| `%s` |", qni_keys[i].name);
        assert_contains(text, row);
    }
    qn_free(text);
    assert_int_equal(qn_config_completion("train eval", &text), QN_OK);
    char path[128], command[512];
    write_file("completion.bash", text, path);
    qn_free(text);
    snprintf(
        command, sizeof command,
        "command -v bash >/dev/null || exit 0; bash -c '. %s; complete() { :; }; compopt() { "
        ":; }; COMP_WORDS=(quern train c.json --set optimizer.type = ad); COMP_CWORD=6; _quern; "
        "[[ ${COMPREPLY[*]} == adamw ]] || exit 1; COMP_WORDS=(quern train c.json --set "
        "optimizer.ty); COMP_CWORD=4; _quern; [[ ${COMPREPLY[*]} == optimizer.type= ]]'",
        path);
    assert_int_equal(system(command), 0);
}

static void test_templates(void **state) {
    (void)state;
    assert_true(qn_config_template_count() >= 4);
    assert_null(qn_config_template_name(-1));
    assert_null(qn_config_template_name(qn_config_template_count()));
    assert_null(qn_config_template_summary(-1));
    assert_null(qn_config_template_summary(qn_config_template_count()));
    for (int i = 0; i < qn_config_template_count(); i++) {
        char *text;
        assert_non_null(qn_config_template_summary(i));
        assert_int_equal(qn_config_template(qn_config_template_name(i), &text), QN_OK);
        /* what the config.json of a model beside it would state */
        static const char *const sets[] = {"model.type=llama", "model.hidden_size=8",
                                           "model.num_hidden_layers=1",
                                           "model.num_attention_heads=2"};
        qn_config_free(must_load(text, sets, strstr(text, "\"pretrained\"") ? 4 : 0));
        for (const char *s = text; *s; s += strcspn(s, "\n") + 1) {
            assert_true(strcspn(s, "\n") <= 100);
        }
        qn_free(text);
    }
    char *text;
    assert_int_equal(qn_config_template("nope", &text), QN_ERR_USAGE);
    assert_contains(qn_error_message(), "quickstart, mlp_idx, gpt2_text, llama_tokens");
}

static void test_shipped_configurations(void **state) {
    (void)state;
    static const char *const names[] = {"quickstart", "shakespeare_char", "mnist_mlp", "gpt2_124m",
                                        "llama_tiny"};
    setenv("QUERN_DATA", "/d", 1);
    setenv("QUERN_TOKENS", "/t.bin", 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        qn_config *c;
        char *d;
        snprintf(path, sizeof path, "%s/configs/%s.json", QUERN_SOURCE_DIR, names[i]);
        if (qn_config_load(path, NULL, 0, &c, &d) != QN_OK) fail_msg("%s", d ? d : "");
        assert_string_equal(qn_config_string(c, "run.name"), names[i]);
        qn_config_free(c);
    }
    unsetenv("QUERN_DATA");
    unsetenv("QUERN_TOKENS");
    char path[512], *d;
    qn_config *c;
    snprintf(path, sizeof path, "%s/configs/shakespeare_char.json", QUERN_SOURCE_DIR);
    assert_int_equal(qn_config_load(path, NULL, 0, &c, &d), QN_ERR_CONFIG);
    assert_contains(d, "environment variable QUERN_DATA is not set");
    assert_contains(d, "github.com/karpathy/char-rnn");
    qn_free(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_defaults_pass_their_own_checks),
        cmocka_unit_test(test_schema),
        cmocka_unit_test(test_reference_and_completion),
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_shipped_configurations),
    };
    return cmocka_run_group_tests_name("config_table", tests, make_directory, remove_directory);
}
