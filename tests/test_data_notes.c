/* test_data_notes.c — the tokens of a file of examples kept for the next start: the same samples
 * and the same notes, for the same file read in the same way only, and made anew when damaged. */
#include "io/data_notes.h"
#include "tests/harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORDS = 3000 }; /* some 300 KiB: smaller files are not kept */

typedef struct fixture {
    char dir[64], path[128], cache[128];
    const char *paths[1];
    qn_tokenizer *t; /* a token a byte */
    qn_chat_template *form;
    qn_data_options o;
    char first[8192]; /* the description of the first opening */
} fixture;

static void use_form(fixture *f, const char *text) {
    qn_chat_template_free(f->form);
    qn_assert_ok(qn_chat_template_create("test", text, strlen(text), NULL, &f->form));
    f->o.chat = f->form;
}

static const char form[] = "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}";

/* Every kind of note occurs, some more often than is told in full. */
static void write_records(const fixture *f, int marker) {
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    for (int i = 0; i < RECORDS; i++) {
        if (i % 500 == 7) fputs("{\"messages\": [}\n", file);
        int content = i % 700 == 9 ? 1 : i;
        fprintf(file, "{\"messages\": [{\"role\": \"user\", \"content\": \"question %d %d\"}, ",
                content, marker);
        if (i % 900 == 5) fputs("{\"role\": \"user\", \"content\": \"more\"}, ", file);
        if (i % 800 == 6)
            fputs("{\"role\": \"assistant\", \"content\": \"\"}, "
                  "{\"role\": \"user\", \"content\": \"\xc3\xa4?\"}, ",
                  file);
        fprintf(file, "{\"role\": \"assistant\", \"content\": \"the answer %d%s\"}]}\n", content,
                i % 1000 == 8 ? " is very long, longer than what a row has space for, by far" : "");
    }
    fclose(file);
}

static int open_fixture(void **state) {
    fixture *f = calloc(1, sizeof *f);
    qn_vocab *v;
    strcpy(f->dir, "/tmp/quern-notes-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->path, sizeof f->path, "%s/data.jsonl", f->dir);
    snprintf(f->cache, sizeof f->cache, "%s/cache", f->dir);
    f->paths[0] = f->path;
    qn_assert_ok(qn_vocab_create_byte(&v));
    qn_assert_ok(qn_tokenizer_from_vocab(v, &f->t));
    qn_vocab_free(v);
    f->o = (qn_data_options){.type = QN_DATA_CONVERSATIONS,
                             .tokenizer = f->t,
                             .paths = {{f->paths, 1}},
                             .cache_dir = f->cache,
                             .truncate = QN_TRUNCATE_RIGHT,
                             .skip_broken = true,
                             .val_fraction = 0.1,
                             .block_size = 80};
    use_form(f, form);
    write_records(f, 0);
    *state = f;
    return 0;
}

/* Calls each(f, path) for the files of the cache; how many there are. */
static int each_entry(fixture *f, void (*each)(const char *path)) {
    DIR *d = opendir(f->cache);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[512];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", f->cache, e->d_name);
        if (each) each(path);
        n++;
    }
    if (d) closedir(d);
    return n;
}

static void remove_entry(const char *path) { unlink(path); }

static int close_fixture(void **state) {
    fixture *f = *state;
    each_entry(f, remove_entry);
    rmdir(f->cache);
    unlink(f->path);
    rmdir(f->dir);
    qn_chat_template_free(f->form);
    qn_tokenizer_free(f->t);
    free(f);
    return 0;
}

static const char from_cache[] = ", tokens from the cache";

/* Opens the data; whether it came from the cache. Its description without that, and its identity,
 * must be those of *want, or are put there. */
static bool opens(fixture *f, char *text, uint64_t *identity) {
    qn_source s;
    qn_vocab *v;
    char got[8192];
    qn_assert_ok(qn_data_open(&f->o, &s, &v));
    snprintf(got, sizeof got, "%s", qn_data_describe(&s));
    char *mark = strstr(got, from_cache);
    if (mark) memmove(mark, mark + sizeof from_cache - 1, strlen(mark + sizeof from_cache - 1) + 1);
    if (*text) {
        assert_string_equal(got, text);
        assert_true(s.identity == *identity);
    }
    strcpy(text, got);
    *identity = s.identity;
    s.free(s.self);
    return mark != NULL;
}

static void test_second_start(void **state) {
    fixture *f = *state;
    uint64_t identity;
    assert_false(opens(f, f->first, &identity));
    assert_non_null(strstr(f->first, "jsonl, messages, 3006 records"));
    assert_non_null(strstr(f->first, "warning: 5 examples: the tokens of an earlier example"));
    assert_non_null(strstr(f->first, "warning: 3 examples: cut to data.block_size tokens"));
    assert_non_null(strstr(f->first, "warning: 6 examples: left out\n"));
    assert_non_null(strstr(f->first, "data.jsonl:8:15: found"));
    assert_non_null(strstr(f->first, "warning: 4 examples: an empty answer"));
    assert_non_null(strstr(f->first, "warning: 4 examples: roles out of order"));
    assert_int_equal(each_entry(f, NULL), 2);
    assert_true(opens(f, f->first, &identity));
    /* The same file under another name, and another draw of what is for validation. */
    char other[160], moved[8192] = "";
    snprintf(other, sizeof other, "%s/moved.jsonl", f->dir);
    assert_int_equal(rename(f->path, other), 0);
    f->paths[0] = other;
    f->o.seed = 5;
    assert_true(opens(f, moved, &identity));
    assert_non_null(strstr(moved, "moved.jsonl:8:15: found"));
    assert_int_equal(rename(other, f->path), 0);
}

static void flip_middle(const char *path) {
    FILE *file = fopen(path, "r+");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    fseek(file, ftell(file) / 2, SEEK_SET);
    int c = fgetc(file);
    fseek(file, -1, SEEK_CUR);
    fputc(c ^ 16, file);
    fclose(file);
}
static void flip_tokens(const char *path) {
    if (strstr(path, ".tokens")) flip_middle(path);
}
static void flip_notes(const char *path) {
    if (strstr(path, ".notes")) flip_middle(path);
}
static void cut_notes(const char *path) {
    if (strstr(path, ".notes")) assert_int_equal(truncate(path, 63), 0);
}
static void empty(const char *path) { assert_int_equal(truncate(path, 0), 0); }
static void remove_tokens(const char *path) {
    if (strstr(path, ".tokens")) unlink(path);
}

static void test_damage(void **state) {
    fixture *f = *state;
    void (*const damage[])(const char *path) = {flip_tokens, flip_notes,    cut_notes,
                                                empty,       remove_tokens, remove_entry};
    uint64_t identity;
    assert_false(opens(f, f->first, &identity));
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        assert_true(opens(f, f->first, &identity));
        each_entry(f, damage[i]);
        assert_false(opens(f, f->first, &identity));
    }
    assert_int_equal(each_entry(f, NULL), 2);
}

static void test_other_readings(void **state) {
    fixture *f = *state;
    uint64_t identity;
    char text[8192] = "";
    assert_false(opens(f, f->first, &identity));
    f->o.train_on = QN_TRAIN_ON_ALL;
    assert_false(opens(f, text, &identity));
    f->o.truncate = QN_TRUNCATE_LEFT;
    assert_false(opens(f, (strcpy(text, ""), text), &identity));
    f->o.block_size = 90;
    assert_false(opens(f, (strcpy(text, ""), text), &identity));
    f->o.keys.system = "sys";
    assert_false(opens(f, (strcpy(text, ""), text), &identity));
    use_form(f, "{% for m in messages %}({{ m.role[0] }}){{ m.content }}{% endfor %}");
    assert_false(opens(f, (strcpy(text, ""), text), &identity));
    write_records(f, 1);
    assert_false(opens(f, (strcpy(text, ""), text), &identity));
    assert_true(opens(f, text, &identity));
    assert_int_equal(each_entry(f, NULL), 14);
}

static void test_not_kept(void **state) {
    fixture *f = *state;
    uint64_t identity;
    char text[8192] = "";
    use_form(f, "{% if false %}{{ strftime_now('%d') }}{% endif %}"
                "{% for m in messages %}[{{ m.role[0] }}]{{ m.content }}{% endfor %}");
    assert_false(opens(f, text, &identity));
    assert_int_equal(each_entry(f, NULL), 0);
    use_form(f, form);
    f->o.cache_dir = f->path; /* no directory */
    assert_false(opens(f, (strcpy(text, ""), text), &identity));
    assert_non_null(strstr(text, "  tokens are not kept: cache of prepared data: "));
    assert_false(opens(f, text, &identity));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_second_start, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_damage, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_other_readings, open_fixture, close_fixture),
        cmocka_unit_test_setup_teardown(test_not_kept, open_fixture, close_fixture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
