/* test_report.c — the verdict on synthetic curves, reading metrics back, charts, and report.html.
 */
#include "io/console.h"
#include "io/file.h"
#include "io/metrics.h"
#include "io/metrics_read.h"
#include "io/report.h"
#include "io/svg.h"
#include "io/tfevents.h"

#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static char directory[] = "/tmp/quern_report_XXXXXX";
static const char *self_path;

/* ---- verdict --------------------------------------------------------------------------------- */

enum { TRAIN_POINTS = 200, EVAL_POINTS = 20, LAST_STEP = 2000 };

typedef struct curves {
    int64_t train_step[TRAIN_POINTS], eval_step[EVAL_POINTS];
    double train[TRAIN_POINTS], eval[EVAL_POINTS];
    qn_curve t, e;
} curves;

typedef double shape(double x); /* of the share x of the run that is done */

static double falls_to_2(double x) { return 2 + 2.2 * exp(-12 * x); }
static double falls_on(double x) { return 2.2 - 0.5 * x + 2.0 * exp(-10 * x); }
static double slightly_above_2(double x) { return 2.1 + 2.1 * exp(-12 * x); }
static double falls_to_1(double x) { return 1 + 3.2 * exp(-3 * x); }
static double turns_up(double x) { return falls_to_2(x) + 1.5 * fmax(0, x - 0.4); }
static double levels_at_2(double x) { return 2 + 2.2 * exp(-15 * x); }
static double stays_high(double x) { return 3.9 + 0.3 * exp(-30 * x); }
static double creeps_down(double x) { return 4.2 - 0.7 * x; }
static double breaks_at_half(double x) { return falls_to_2(x) + 8 * fmax(0, x - 0.5); }
static double climbs(double x) { return 4.2 + x; }
static double tiny_eval(double x) { return 0.07 + 2.2 * exp(-20 * x); }
static double tiny_train(double x) { return 0.005 + 2.3 * exp(-15 * x); }
static double tiny_turns_up(double x) { return tiny_eval(x) + 0.1 * fmax(0, x - 0.5); }

static const struct scenario {
    const char *name;
    shape *train, *eval;
    qn_verdict expected;
} scenarios[] = {
    {"converged and close", falls_to_2, slightly_above_2, QN_VERDICT_GOOD},
    {"both still falling", falls_on, falls_on, QN_VERDICT_GOOD},
    {"eval below train, as with dropout", slightly_above_2, falls_to_2, QN_VERDICT_GOOD},
    {"small losses, small gap", tiny_train, tiny_eval, QN_VERDICT_GOOD},
    {"eval turns up", falls_to_1, turns_up, QN_VERDICT_OVERFITTING},
    {"eval turns up at a small loss", tiny_train, tiny_turns_up, QN_VERDICT_OVERFITTING},
    {"eval levels off far above train", falls_to_1, levels_at_2, QN_VERDICT_OVERFITTING},
    {"high and flat", stays_high, stays_high, QN_VERDICT_UNDERFITTING},
    {"high and falling", creeps_down, creeps_down, QN_VERDICT_STILL_LEARNING},
    {"both rise again", breaks_at_half, breaks_at_half, QN_VERDICT_DIVERGING},
    {"both rise from the start", climbs, climbs, QN_VERDICT_DIVERGING},
};
enum { SCENARIOS = sizeof scenarios / sizeof scenarios[0] };

static void make_curves(curves *c, const struct scenario *s, double noise, uint64_t seed) {
    for (int i = 0; i < TRAIN_POINTS; i++) {
        c->train_step[i] = (int64_t)(i + 1) * LAST_STEP / TRAIN_POINTS;
        double x = (double)(i + 1) / TRAIN_POINTS;
        c->train[i] = s->train(x) * (1 + 2 * noise * qn_rng_normal(seed, 0, (uint64_t)i));
    }
    for (int i = 0; i < EVAL_POINTS; i++) {
        c->eval_step[i] = (int64_t)(i + 1) * LAST_STEP / EVAL_POINTS;
        double x = (double)(i + 1) / EVAL_POINTS;
        c->eval[i] = s->eval(x) * (1 + noise * qn_rng_normal(seed, 1, (uint64_t)i));
    }
    c->t = (qn_curve){TRAIN_POINTS, c->train_step, c->train};
    c->e = (qn_curve){EVAL_POINTS, c->eval_step, c->eval};
}

static qn_verdict judge(const curves *c, double chance) {
    qn_diagnosis d;
    assert_int_equal(qn_diagnose(&c->t, &c->e, chance, &d), QN_OK);
    return d.verdict;
}

static void assert_verdict(qn_verdict found, const struct scenario *s, double noise) {
    if (found != s->expected) {
        fail_msg("%s, noise %g: found %s, expected %s", s->name, noise, qn_verdict_title(found),
                 qn_verdict_title(s->expected));
    }
}

static void verdict_on_clean_curves(void **state) {
    (void)state;
    for (int i = 0; i < SCENARIOS; i++) {
        curves c;
        make_curves(&c, &scenarios[i], 0, 0);
        assert_verdict(judge(&c, (double)NAN), &scenarios[i], 0);
    }
}

/* Evaluations that stray by 0.5 % and train losses by 1 %, two hundred times each: a verdict may
 * flip where a rule is close, but rarely. */
static void verdict_survives_noise(void **state) {
    (void)state;
    for (int i = 0; i < SCENARIOS; i++) {
        int wrong = 0;
        for (uint64_t seed = 1; seed <= 200; seed++) {
            curves c;
            make_curves(&c, &scenarios[i], 0.005, seed);
            wrong += judge(&c, (double)NAN) != scenarios[i].expected;
        }
        if (wrong > 4) fail_msg("%s: %d of 200 noisy curves misjudged", scenarios[i].name, wrong);
    }
}

static void verdict_does_not_depend_on_the_unit(void **state) {
    (void)state;
    for (int i = 0; i < SCENARIOS; i++) {
        for (double unit = 1e-6; unit < 1e7; unit *= 1e3) {
            curves c;
            make_curves(&c, &scenarios[i], 0.005, 7);
            qn_verdict before = judge(&c, (double)NAN);
            for (int j = 0; j < TRAIN_POINTS; j++) c.train[j] *= unit;
            for (int j = 0; j < EVAL_POINTS; j++) c.eval[j] *= unit;
            assert_int_equal(judge(&c, (double)NAN), before);
        }
    }
}

static void verdict_ignores_lone_non_finite_points(void **state) {
    (void)state;
    for (int i = 0; i < SCENARIOS; i++) {
        curves c;
        make_curves(&c, &scenarios[i], 0, 0);
        for (int j = 3; j < TRAIN_POINTS - 1; j += 17)
            c.train[j] = j % 2 ? (double)NAN : (double)INFINITY;
        c.eval[4] = (double)NAN;
        c.eval[11] = (double)-INFINITY;
        assert_verdict(judge(&c, (double)NAN), &scenarios[i], 0);
    }
}

static void verdict_when_the_end_is_not_finite(void **state) {
    (void)state;
    curves c;
    make_curves(&c, &scenarios[0], 0, 0);
    c.train[TRAIN_POINTS - 1] = (double)NAN;
    assert_int_equal(judge(&c, (double)NAN), QN_VERDICT_NON_FINITE);
    make_curves(&c, &scenarios[0], 0, 0);
    c.eval[EVAL_POINTS - 1] = (double)INFINITY;
    assert_int_equal(judge(&c, (double)NAN), QN_VERDICT_NON_FINITE);
}

static void verdict_needs_enough_points(void **state) {
    (void)state;
    curves c;
    make_curves(&c, &scenarios[0], 0, 0);
    c.e.n = 4;
    assert_int_equal(judge(&c, (double)NAN), QN_VERDICT_NOT_ENOUGH_DATA);
    c.e.n = 5;
    assert_int_equal(judge(&c, (double)NAN), QN_VERDICT_GOOD);
    c.e = (qn_curve){0};
    assert_int_equal(judge(&c, (double)NAN), QN_VERDICT_NOT_ENOUGH_DATA);
    c.t = (qn_curve){0};
    assert_int_equal(judge(&c, (double)NAN), QN_VERDICT_NOT_ENOUGH_DATA);
}

/* A fine-tuned model starts near its end: only the loss of guessing tells that it is not high. */
static double from_a_trained_model(double x) { return 3.0 + 0.3 * exp(-8 * x); }

static void verdict_uses_the_loss_of_guessing(void **state) {
    (void)state;
    const struct scenario s = {"fine-tuning", from_a_trained_model, from_a_trained_model,
                               QN_VERDICT_GOOD};
    curves c;
    make_curves(&c, &s, 0, 0);
    assert_int_equal(judge(&c, (double)NAN), QN_VERDICT_UNDERFITTING);
    assert_verdict(judge(&c, log(50257)), &s, 0);
}

static void verdict_states_its_numbers(void **state) {
    (void)state;
    char text[600], small[20];
    curves c;
    qn_diagnosis d;
    make_curves(&c, &scenarios[4], 0, 0);
    assert_int_equal(qn_diagnose(&c.t, &c.e, (double)NAN, &d), QN_OK);
    qn_diagnosis_text(&d, text, sizeof text);
    assert_non_null(strstr(text, "best around step 700 at 2.033 and ended at 2.825"));
    assert_non_null(strstr(qn_verdict_advice(d.verdict), "regularisation"));
    qn_diagnosis_text(&d, small, sizeof small);
    assert_int_equal(strlen(small), sizeof small - 1);
}

/* ---- charts ---------------------------------------------------------------------------------- */

static void ticks_are_round_numbers(void **state) {
    (void)state;
    const struct {
        double range, expected;
    } cases[] = {{10, 2},          {9, 2},   {5, 1},      {4.9, 1},      {11, 5},     {1, 0.2},
                 {0.9e-3, 0.2e-3}, {30, 10}, {2000, 500}, {1e-9, 2e-10}, {7e12, 2e12}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double step = qn_svg_tick(cases[i].range, 5);
        assert_true(fabs(step / cases[i].expected - 1) < 1e-9);
    }
}

static void thinning_keeps_every_extreme(void **state) {
    (void)state;
    enum { N = 10007, BINS = 100 };
    static double v[N];
    int64_t kept[2 * BINS], low = 0, high = 0;
    for (int64_t i = 0; i < N; i++) {
        v[i] = i % 1000 < 200 ? (double)NAN : qn_rng_normal(3, 0, (uint64_t)i);
        if (v[i] < v[low] || isnan(v[low])) low = i;
        if (v[i] > v[high] || isnan(v[high])) high = i;
    }
    int64_t n = qn_svg_thin(N, v, BINS, kept);
    assert_in_range(n, BINS, 2 * BINS);
    bool has_low = false, has_high = false, has_gap = false;
    for (int64_t i = 0; i < n; i++) {
        if (i > 0) assert_true(kept[i] > kept[i - 1]);
        has_low |= kept[i] == low;
        has_high |= kept[i] == high;
        has_gap |= isnan(v[kept[i]]);
    }
    assert_true(has_low && has_high && has_gap);
}

static void charts_survive_odd_series(void **state) {
    (void)state;
    const double none = (double)NAN;
    const int64_t step[] = {0, 5, 9};
    const double values[][3] = {
        {1, 1, 1}, {0, 0, 0}, {none, none, none}, {-1, none, 1e300}, {1e-300, 0, 1}};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        for (int64_t n = 0; n <= 3; n++) {
            qn_text t = {0};
            qn_svg_line line = {"<l>", "a", n, step, values[i], true, false};
            qn_svg_chart c = {"id", "A & B", "<none>", &line, 1, i % 2, NULL, 0, 0};
            qn_svg_chart_write(&t, &c);
            assert_int_equal(t.status, QN_OK);
            assert_null(strstr(t.data, "nan"));
            assert_null(strstr(t.data, "inf%"));
            assert_null(strstr(t.data, "<l>"));
            assert_non_null(strstr(t.data, "A &amp; B</title>"));
            qn_text_free(&t);
        }
    }
}

/* ---- reading back ---------------------------------------------------------------------------- */

static const char *write_file(const char *run, const char *name, const char *text) {
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", run, name);
    assert_int_equal(qn_dir_create(run), QN_OK);
    assert_int_equal(qn_file_replace(path, text, strlen(text)), QN_OK);
    return path;
}

static const char *fresh_run(const char *name) {
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    assert_int_equal(qn_tree_remove(path), QN_OK);
    return path;
}

static void history_reads_rows(void **state) {
    (void)state;
    const char *path = write_file(fresh_run("rows"), "metrics.jsonl",
                                  "{\"step\":1,\"epoch\":0.5,\"train/loss\":2.5}\n"
                                  "{\"step\":2,\"train/loss\":\"nan\"}\n"
                                  "not json\n{\"step\":-1}\n{\"train/loss\":1}\n[1]\n"
                                  "{\"step\":2,\"eval/loss\":\"-inf\"}\n"
                                  "{\"step\":3,\"train/loss\":1.5}\n"
                                  "{\"step\":3,\"note\":\"first\"}\n"
                                  "{\"step\":3,\"end\":\"killed\"}\n"
                                  "{\"step\":2,\"train/loss\":1.25}\n"
                                  "{\"step\":3,\"train/loss\":\"inf\",\"torn");
    qni_history h;
    assert_int_equal(qni_history_load(path, &h), QN_OK);
    const qni_series *s = qni_history_find(&h, "train/loss");
    assert_int_equal(s->n, 2); /* step 2 came again: what followed it was trained anew */
    assert_int_equal(s->step[1], 2);
    assert_true(s->value[1] == 1.25);
    assert_int_equal(qni_history_find(&h, "eval/loss")->n, 0);
    assert_int_equal(h.n_notes, 0);
    assert_null(h.end);
    assert_int_equal(h.rows, 7);
    assert_int_equal(h.bad_rows, 5);
    assert_null(qni_history_find(&h, "absent"));
    assert_true(isnan(qni_series_last(NULL)));
    qni_history_free(&h);
}

static void history_forgets_the_end_of_a_resumed_run(void **state) {
    (void)state;
    const char *path =
        write_file(fresh_run("resumed"), "metrics.jsonl",
                   "{\"step\":5,\"end\":\"max_steps reached\",\"summary/wall_s\":7}\n"
                   "{\"step\":6,\"train/loss\":1.5}\n");
    qni_history h;
    assert_int_equal(qni_history_load(path, &h), QN_OK);
    assert_null(h.end);
    assert_true(isnan(qni_series_last(qni_history_find(&h, "summary/wall_s"))));
    qni_history_free(&h);
}

static void facts_are_flat(void **state) {
    (void)state;
    const char json[] = "{\"a\":{\"b\":[1,2.5],\"c\":[{\"d\":\"x\"},{\"d\":true}]},\"e\":null,"
                        "\"f\":9007199254740993,\"g\":{}}";
    qn_setup *arena;
    qni_facts f;
    assert_int_equal(qn_setup_create("facts", &arena), QN_OK);
    assert_int_equal(qni_facts_parse(arena, "test", json, sizeof json - 1, &f), QN_OK);
    assert_int_equal(f.n, 4);
    assert_string_equal(qni_facts_find(&f, "a.b")->text, "[1, 2.5]");
    assert_string_equal(qni_facts_find(&f, "a.c.0.d")->text, "x");
    assert_int_equal(qni_facts_find(&f, "a.c.1.d")->kind, QNI_FACT_BOOL);
    assert_string_equal(qni_facts_find(&f, "f")->text, "9007199254740993");
    assert_null(qni_facts_find(&f, "e"));
    assert_int_equal(qni_facts_parse(arena, "test", "[1]", 3, &f), QN_ERR_FORMAT);
    qn_setup_free(arena);
}

/* ---- report.html ----------------------------------------------------------------------------- */

/* Every element opened is closed in order. Knows the void elements the report uses. */
static void assert_balanced(const char *html) {
    char open[64][16];
    int depth = 0;
    for (const char *p = html; (p = strchr(p, '<')); p++) {
        if (p[1] == '!') continue;
        char name[16] = "";
        bool closing = p[1] == '/';
        sscanf(p + 1 + closing, "%15[a-z0-9]", name);
        const char *end = strchr(p, '>');
        assert_non_null(end);
        assert_true(*name);
        if (closing) {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (end[-1] != '/' && strcmp(name, "meta") != 0) {
            assert_true(depth < 64);
            memcpy(open[depth++], name, sizeof name);
        }
    }
    assert_int_equal(depth, 0);
}

/* Writes a run's files through the sinks themselves. */
static qn_status write_run(const char *run, const struct scenario *s) {
    char path[512], tb[512];
    qn_sink sinks[4] = {{0}};
    int n = 0;
    qn_status status;
    qn_log_options log = {.total_steps = LAST_STEP};
    qn_console_options console = {.fd = -1, .log = log};
    static const char config[] =
        "{\"run\":{\"name\":\"<b>caf\xC3\xA9</b>\"},\"model\":{\"type\":\"gpt2\"},"
        "\"train\":{\"max_steps\":2000},\"optimizer\":{\"betas\":[0.9,0.99]}}";
    QN_TRY(qn_dir_create(run));
    snprintf(path, sizeof path, "%s/config.resolved.json", run);
    QN_TRY(qn_file_replace(path, config, sizeof config - 1));
    snprintf(path, sizeof path, "%s/env.json", run);
    QN_TRY(qn_file_replace(path, "{\"cpu\":\"A&B\"}", 13));
    QN_TRY_GOTO(qn_sink_console(&console, &sinks[n++]));
    snprintf(path, sizeof path, "%s/train.log", run);
    QN_TRY_GOTO(qn_sink_log(path, &log, &sinks[0], &sinks[n++]));
    snprintf(path, sizeof path, "%s/metrics.jsonl", run);
    QN_TRY_GOTO(qn_sink_jsonl(path, &sinks[0], &sinks[n++]));
    snprintf(tb, sizeof tb, "%s/tb", run);
    qn_tfevents_options events = {.directory = tb, .config_json = config, .notices = &sinks[0]};
    QN_TRY_GOTO(qn_sink_tfevents(&events, &sinks[n++]));
    curves c;
    make_curves(&c, s, 0.002, 5);
    for (int i = 0; i < TRAIN_POINTS; i++) {
        qn_record r = {.step = c.train_step[i], .epoch = (double)i / TRAIN_POINTS};
        qn_record_add(&r, "train/loss", c.train[i]);
        qn_record_add(&r, "train/learning_rate", 1e-3);
        qn_record_add(&r, "train/grad_norm", i == 70 ? 1000 : 1.0 + c.train[i]);
        qn_record_add(&r, "perf/tokens_per_second", 38000.0 + i);
        for (int k = 0; k < n; k++) sinks[k].emit(sinks[k].self, QN_EVENT_TRAIN, &r, NULL);
        if (i % 10 != 9) continue;
        qn_record e = {.step = c.train_step[i]};
        qn_record_add(&e, "eval/loss", c.eval[i / 10]);
        qn_record_add(&e, "eval/accuracy", 1 / c.eval[i / 10]);
        for (int k = 0; k < n; k++) sinks[k].emit(sinks[k].self, QN_EVENT_EVAL, &e, NULL);
    }
    qn_record end = {.step = LAST_STEP};
    qn_record_add(&end, "summary/wall_s", 61.5);
    for (int k = 0; k < n; k++) {
        sinks[k].emit(sinks[k].self, QN_EVENT_NOTE, &end, "<script>alert('x')</script>");
        sinks[k].emit(sinks[k].self, QN_EVENT_END, &end, "max_steps & more");
    }
done:
    for (int k = 0; k < n; k++) {
        if (sinks[k].free) sinks[k].free(sinks[k].self);
    }
    return status == QN_OK ? qn_report_write(run) : status;
}

static char *read_report(const char *run) {
    char path[512], *html;
    int64_t n;
    snprintf(path, sizeof path, "%s/report.html", run);
    assert_int_equal(qn_file_read(path, 1 << 24, &html, &n), QN_OK);
    assert_int_equal(strlen(html), n);
    return html;
}

static void report_is_one_sound_page(void **state) {
    (void)state;
    const char *run = fresh_run("page");
    assert_int_equal(write_run(run, &scenarios[4]), QN_OK);
    char *html = read_report(run);
    assert_balanced(html);
    static const char *const never[] = {"http",  "src=", "url(", "@import", "<script",
                                        "<link", "<b>",  "nan",  "A&B",     "\r"};
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++) {
        if (strstr(html, never[i])) fail_msg("the report holds %s", never[i]);
    }
    static const char *const always[] = {"<title>&lt;b&gt;caf\xC3\xA9&lt;/b&gt;</title>",
                                         "prefers-color-scheme:dark",
                                         "name=\"viewport\"",
                                         "Overfitting",
                                         "best 2.0",
                                         "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;",
                                         "max_steps &amp; more",
                                         "A&amp;B",
                                         "1:02",
                                         "of 2000",
                                         "id=\"loss\"",
                                         "id=\"rate\"",
                                         "id=\"norm\"",
                                         "id=\"speed\"",
                                         "id=\"eval0\"",
                                         "outliers cut off at the top: 1",
                                         "role=\"img\"",
                                         "</desc>",
                                         "train/grad_norm",
                                         "Resolved configuration",
                                         "222 rows of metrics.jsonl"};
    for (size_t i = 0; i < sizeof always / sizeof always[0]; i++) {
        if (!strstr(html, always[i])) fail_msg("the report lacks %s", always[i]);
    }
    qn_free(html);
}

static void report_of_a_run_that_wrote_little(void **state) {
    (void)state;
    const char *run = fresh_run("little");
    assert_int_equal(qn_report_write(run), QN_ERR_IO); /* nothing there */
    write_file(run, "metrics.jsonl", "");
    assert_int_equal(qn_report_write(run), QN_OK);
    write_file(run, "metrics.jsonl", "{\"step\":1,\"train/loss\":2}\n{\"st");
    write_file(run, "config.resolved.json", "{\"run\":");
    assert_int_equal(qn_report_write(run), QN_OK);
    char *html = read_report(run);
    assert_balanced(html);
    assert_non_null(strstr(html, "Not enough data"));
    assert_non_null(strstr(html, "has not said that it ended"));
    assert_non_null(strstr(html, "1 rows could not be read"));
    assert_non_null(strstr(html, "not shown here: config.resolved.json:1:8"));
    qn_free(html);
}

static void report_is_the_same_under_a_decimal_comma(void **state) {
    (void)state;
    const char *run = fresh_run("locale");
    assert_int_equal(write_run(run, &scenarios[0]), QN_OK);
    char *before = read_report(run);
    if (!setlocale(LC_ALL, "de_DE.UTF-8")) {
        qn_free(before);
        print_message("de_DE.UTF-8 is not installed on this machine\n");
        skip();
    }
    assert_int_equal(qn_report_write(run), QN_OK);
    char *after = read_report(run);
    setlocale(LC_ALL, "C");
    assert_string_equal(before, after);
    qn_free(before);
    qn_free(after);
}

/* Runs this program anew with the k-th allocation failing: it must end with success or with a clean
 * out-of-memory error. Leaks and bad accesses show when the test is built with sanitizers. */
static void every_allocation_may_fail(void **state) {
    (void)state;
    extern char **environ;
    char run[256], number[32];
    snprintf(run, sizeof run, "%s", fresh_run("alloc"));
    int failures = 0;
    for (int k = 1;; k++) {
        char *const argv[] = {(char *)self_path, "--run", run, NULL};
        pid_t child;
        int result;
        snprintf(number, sizeof number, "%d", k);
        setenv("QUERN_FAIL_ALLOC", number, 1);
        assert_int_equal(posix_spawn(&child, self_path, NULL, NULL, argv, environ), 0);
        unsetenv("QUERN_FAIL_ALLOC");
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFEXITED(result));
        int code = WEXITSTATUS(result);
        if (code == 99) break; /* fewer than k allocations */
        if (code != 0 && code != 4) fail_msg("allocation %d: exit code %d", k, code);
        failures += code == 4;
        assert_int_equal(qn_tree_remove(run), QN_OK);
    }
    assert_true(failures >= 20);
}

/* 0: done although an allocation failed (a log row was dropped); 4: out of memory; 99: none
 * failed. */
static int run_once(const char *run) {
    qn_status status = write_run(run, &scenarios[0]);
    if (status != QN_OK) return qn_status_exit_code(status);
    return qn_alloc_count() < atoll(getenv("QUERN_FAIL_ALLOC")) ? 99 : 0;
}

static int make_directory(void **state) {
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state) {
    (void)state;
    return qn_tree_remove(directory) == QN_OK ? 0 : -1;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--run") == 0) return run_once(argv[2]);
    self_path = argv[0];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdict_on_clean_curves),
        cmocka_unit_test(verdict_survives_noise),
        cmocka_unit_test(verdict_does_not_depend_on_the_unit),
        cmocka_unit_test(verdict_ignores_lone_non_finite_points),
        cmocka_unit_test(verdict_when_the_end_is_not_finite),
        cmocka_unit_test(verdict_needs_enough_points),
        cmocka_unit_test(verdict_uses_the_loss_of_guessing),
        cmocka_unit_test(verdict_states_its_numbers),
        cmocka_unit_test(ticks_are_round_numbers),
        cmocka_unit_test(thinning_keeps_every_extreme),
        cmocka_unit_test(charts_survive_odd_series),
        cmocka_unit_test(history_reads_rows),
        cmocka_unit_test(history_forgets_the_end_of_a_resumed_run),
        cmocka_unit_test(facts_are_flat),
        cmocka_unit_test(report_is_one_sound_page),
        cmocka_unit_test(report_of_a_run_that_wrote_little),
        cmocka_unit_test(report_is_the_same_under_a_decimal_comma),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests_name("report", tests, make_directory, remove_directory);
}
