/* test_tokenizer_golden.c — small tokenizer.json files made by PyPI's tokenizers
 * (tests/golden/make_tokenizers.py) give the ids, templates and texts that it gives. */
#include "tests/tokenizer_helpers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>
#include <zlib.h>

enum { MOST = 1 << 22 };

typedef struct fixture {
    qn_setup *arena;
    const cJSON *texts, *cases;
    char directory[64], path[128];
} fixture;

static int open_fixture(void **state) {
    fixture *f = qn_alloc(sizeof *f, "fixture");
    char *text = qn_alloc(MOST, "golden tokenizers");
    gzFile file = gzopen(QUERN_SOURCE_DIR "/tests/golden/tokenizers.json.gz", "rb");
    cJSON *json = NULL;
    if (!f || !text || !file || qn_setup_create("goldens", &f->arena) != QN_OK) return 1;
    int bytes = gzread(file, text, MOST);
    gzclose(file);
    qn_json_options o = {.name = "tokenizers.json", .max_bytes = MOST};
    if (bytes <= 0 || qn_json_parse(f->arena, text, (size_t)bytes, &o, &json) != QN_OK) {
        printf("%s\n", qn_error_message());
        return 1;
    }
    qn_free(text);
    f->texts = qn_json_get(json, "texts");
    f->cases = qn_json_get(json, "cases");
    snprintf(f->directory, sizeof f->directory, "/tmp/quern-tokenizers-XXXXXX");
    if (!mkdtemp(f->directory)) return 1;
    snprintf(f->path, sizeof f->path, "%s/tokenizer.json", f->directory);
    *state = f;
    return 0;
}

static int close_fixture(void **state) {
    fixture *f = *state;
    int status = qn_tree_remove(f->directory) != QN_OK;
    qn_setup_free(f->arena);
    qn_free(f);
    return status;
}

static const char *text_of(const cJSON *object, const char *key) {
    return qn_json_get(object, key)->valuestring;
}

/* Writes the case's file and opens it. */
static qn_tokenizer *open_case(const fixture *f, const cJSON *c) {
    qn_tokenizer *t = NULL;
    const char *json = text_of(c, "file");
    qn_assert_ok(qn_file_replace(f->path, json, strlen(json)));
    qn_status s = qn_tokenizer_open(f->directory, &t);
    if (s != QN_OK) fail_msg("%s: %s", text_of(c, "name"), qn_error_message());
    return t;
}

static int wrong_ids(const fixture *f, const qn_tokenizer *t, const cJSON *c, const char *key,
                     const qn_encode_options *o) {
    int wrong = 0;
    const cJSON *want = qn_json_get(c, key)->child;
    for (const cJSON *text = f->texts->child; text; text = text->next, want = want->next)
        wrong += !encodes_to(t, text->valuestring, (int64_t)strlen(text->valuestring), o, want);
    if (wrong) printf("%s: %d texts differ (%s)\n", text_of(c, "name"), wrong, key);
    return wrong;
}

static void ids_are_the_references(void **state) {
    const fixture *f = *state;
    int n = 0, wrong = 0;
    for (const cJSON *c = f->cases->child; c; c = c->next, n++) {
        qn_tokenizer *t = open_case(f, c);
        const qn_encode_options special = {.add_special = true, .parse_special = true};
        wrong += wrong_ids(f, t, c, "ids", &(qn_encode_options){0});
        wrong += wrong_ids(f, t, c, "special", &special);
        qn_tokenizer_free(t);
    }
    assert_true(n >= 24);
    assert_int_equal(wrong, 0);
}

/* Whether the list of ids decodes to `want`, at once and one by one. */
static bool decodes_to(const qn_tokenizer *t, const cJSON *list, bool skip, const char *want) {
    qn_text whole = {0}, parts = {0};
    qn_ids ids = {0};
    qn_token_stream *s = NULL;
    for (const cJSON *c = list->child; c; c = c->next)
        qn_assert_ok(qn_ids_add(&ids, (int32_t)c->valuedouble, 0));
    qn_assert_ok(qn_tokenizer_decode(t, ids.id, ids.n, skip, &whole));
    qn_assert_ok(qn_token_stream_create(t, skip, &s));
    for (int64_t i = 0; i < ids.n; i++) {
        qn_assert_ok(qn_token_stream_push(s, ids.id[i], &parts));
        assert_true(qn_utf8_valid(parts.data ? parts.data : "", parts.length));
    }
    qn_assert_ok(qn_token_stream_finish(s, &parts));
    bool equal = strcmp(whole.data ? whole.data : "", want) == 0 &&
                 strcmp(parts.data ? parts.data : "", want) == 0;
    if (!equal)
        printf("found \"%s\", as a stream \"%s\", expected \"%s\"\n", whole.data, parts.data, want);
    qn_token_stream_free(s);
    qn_text_free(&whole);
    qn_text_free(&parts);
    qn_ids_free(&ids);
    return equal;
}

static void texts_are_the_references(void **state) {
    const fixture *f = *state;
    int wrong = 0;
    for (const cJSON *c = f->cases->child; c; c = c->next) {
        qn_tokenizer *t = open_case(f, c);
        const cJSON *ids = qn_json_get(c, "special")->child;
        const cJSON *all = qn_json_get(c, "decoded")->child;
        const cJSON *some = qn_json_get(c, "skipped")->child;
        int before = wrong;
        for (; ids; ids = ids->next, all = all->next, some = some->next) {
            wrong += !decodes_to(t, ids, false, all->valuestring);
            wrong += !decodes_to(t, ids, true, some->valuestring);
        }
        if (wrong > before) printf("%s: %d texts differ\n", text_of(c, "name"), wrong - before);
        qn_tokenizer_free(t);
    }
    assert_int_equal(wrong, 0);
}

static bool equal_lists(const qn_ids *ids, const cJSON *want) {
    int64_t i = 0;
    for (const cJSON *c = want->child; c; c = c->next, i++)
        if (i >= ids->n || ids->id[i] != (int32_t)c->valuedouble) return false;
    return i == ids->n;
}

static void pairs_have_the_references_types(void **state) {
    const fixture *f = *state;
    const char *a = cJSON_GetArrayItem(f->texts, 8)->valuestring;
    const char *b = cJSON_GetArrayItem(f->texts, 9)->valuestring;
    for (const cJSON *c = f->cases->child; c; c = c->next) {
        qn_tokenizer *t = open_case(f, c);
        const qn_encode_options o = {.add_special = true, .parse_special = true};
        qn_ids ids = {0}, types = {0};
        qn_assert_ok(qn_tokenizer_encode_pair(t, a, (int64_t)strlen(a), b, (int64_t)strlen(b), &o,
                                              &ids, &types));
        if (!equal_lists(&ids, qn_json_get(c, "pair"))) fail_msg("ids: %s", text_of(c, "name"));
        if (!equal_lists(&types, qn_json_get(c, "types")))
            fail_msg("types: %s", text_of(c, "name"));
        qn_ids_free(&ids);
        qn_ids_free(&types);
        qn_tokenizer_free(t);
    }
}

/* Asking for places changes no id; places do not go back, and lie in the text. */
static void offsets_change_nothing(void **state) {
    const fixture *f = *state;
    for (const cJSON *c = f->cases->child; c; c = c->next) {
        qn_tokenizer *t = open_case(f, c);
        for (const cJSON *text = f->texts->child; text; text = text->next) {
            int64_t bytes = (int64_t)strlen(text->valuestring);
            qn_ids plain = {0}, placed = {0};
            qn_encode_options o = {.parse_special = true};
            qn_assert_ok(qn_tokenizer_encode(t, text->valuestring, bytes, &o, &plain));
            o.offsets = true;
            qn_assert_ok(qn_tokenizer_encode(t, text->valuestring, bytes, &o, &placed));
            assert_int_equal(plain.n, placed.n);
            for (int64_t i = 0; i < plain.n; i++) {
                assert_int_equal(plain.id[i], placed.id[i]);
                assert_in_range(placed.start[i], i ? placed.start[i - 1] : 0, bytes - 1);
            }
            qn_ids_free(&plain);
            qn_ids_free(&placed);
        }
        qn_tokenizer_free(t);
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

enum { THREADS = 4, ROUNDS = 20 };

typedef struct shared {
    const fixture *f;
    const qn_tokenizer *t;
    const cJSON *want;
    atomic_int wrong;
} shared;

static void *encode_all(void *argument) {
    shared *s = argument;
    for (int round = 0; round < ROUNDS; round++) {
        const cJSON *want = s->want->child;
        for (const cJSON *x = s->f->texts->child; x; x = x->next, want = want->next) {
            qn_ids ids = {0};
            qn_status status =
                qn_tokenizer_encode(s->t, x->valuestring, (int64_t)strlen(x->valuestring),
                                    &(qn_encode_options){0}, &ids);
            if (status != QN_OK || !equal_lists(&ids, want)) atomic_fetch_add(&s->wrong, 1);
            qn_ids_free(&ids);
        }
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state) {
    const fixture *f = *state;
    const cJSON *c = f->cases->child->next;
    qn_tokenizer *t = open_case(f, c);
    shared s = {.f = f, .t = t, .want = qn_json_get(c, "ids")};
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, encode_all, &s), 0);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_join(thread[i], NULL), 0);
    assert_int_equal(atomic_load(&s.wrong), 0);
    qn_tokenizer_free(t);
}

#define GOLDEN(test) cmocka_unit_test_setup_teardown(test, open_fixture, close_fixture)

int main(void) {
    const struct CMUnitTest tests[] = {
        GOLDEN(ids_are_the_references),          GOLDEN(texts_are_the_references),
        GOLDEN(pairs_have_the_references_types), GOLDEN(offsets_change_nothing),
        GOLDEN(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
