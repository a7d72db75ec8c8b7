/* report.c — gathers what a run left behind and lays it out as report.html. */
#include "io/report.h"

#include "io/file.h"
#include "io/metrics_line.h"
#include "io/metrics_read.h"
#include "io/metrics_text.h"
#include "io/report_page.h"
#include "io/svg.h"

#include <math.h>
#include <string.h>

enum { MAX_EVAL_CHARTS = 4, MAX_NOTES = 50, MAX_ENV_ROWS = 40, SMOOTH_LEAST = 100 };

typedef struct report {
    qni_history history;
    qn_setup *arena;
    char *config_text; /* NULL = no such file */
    qni_facts config, env;
    qn_text page;
} report;

/* ---- gathering ------------------------------------------------------------------------------- */

/* A run without the file has no such facts; a file that cannot be read is a note in the report. */
static qn_status load_facts(report *r, const char *run_dir, const char *name, char **text,
                            qni_facts *facts) {
    char path[QN_PATH_MAX], note[QN_MESSAGE_MAX + 64];
    int64_t bytes;
    QN_TRY(qn_path_format(path, sizeof path, "%s/%s", run_dir, name));
    if (!qn_path_exists(path)) return QN_OK;
    qn_status status = qn_file_read(path, 1 << 20, text, &bytes);
    if (status == QN_OK) status = qni_facts_parse(r->arena, name, *text, (size_t)bytes, facts);
    if (status == QN_OK || status == QN_ERR_OOM) return status;
    qni_print(note, sizeof note, "not shown here: %s", qn_error_message());
    *facts = (qni_facts){0};
    return qni_history_note(&r->history, r->history.last_step, note);
}

/* Index of the lowest (sign 1) or highest (sign -1) finite value, -1 if there is none. */
static int64_t extreme(const qni_series *s, int sign) {
    int64_t best = -1;
    for (int64_t i = 0; s && i < s->n; i++) {
        if (!isfinite(s->value[i])) continue;
        if (best < 0 || sign * s->value[i] < sign * s->value[best]) best = i;
    }
    return best;
}

static const char *fact_text(const qni_facts *f, const char *key, const char *absent) {
    const qni_fact *fact = qni_facts_find(f, key);
    return fact ? fact->text : absent;
}

/* ---- verdict --------------------------------------------------------------------------------- */

/* The loss of guessing, where the configuration tells the number of classes of a cross-entropy. */
static double chance_loss(const qni_facts *config) {
    const qni_fact *classes = qni_facts_find(config, "model.vocab_size");
    bool regress = strcmp(fact_text(config, "objective", ""), "regress") == 0;
    if (!classes || classes->number < 2 || regress) return (double)NAN;
    return log(classes->number);
}

static qn_curve curve_of(const qni_series *s) {
    return s ? (qn_curve){s->n, s->step, s->value} : (qn_curve){0};
}

static qn_status add_verdict(report *r) {
    static const char *const css[] = {[QN_VERDICT_NOT_ENOUGH_DATA] = "wait",
                                      [QN_VERDICT_NON_FINITE] = "bad",
                                      [QN_VERDICT_DIVERGING] = "bad",
                                      [QN_VERDICT_OVERFITTING] = "warn",
                                      [QN_VERDICT_UNDERFITTING] = "warn",
                                      [QN_VERDICT_STILL_LEARNING] = "wait",
                                      [QN_VERDICT_GOOD] = "good"};
    char text[600];
    qn_diagnosis d;
    qn_curve train = curve_of(qni_history_find(&r->history, "train/loss"));
    qn_curve eval = curve_of(qni_history_find(&r->history, "eval/loss"));
    QN_TRY(qn_diagnose(&train, &eval, chance_loss(&r->config), &d));
    qn_text *t = &r->page;
    qn_text_printf(t, "<div class=\"card verdict %s\"><h2>", css[d.verdict]);
    qni_text_html(t, qn_verdict_title(d.verdict));
    qn_text_add(t, "</h2><p>");
    qni_text_html(t, qn_verdict_advice(d.verdict));
    if (d.verdict == QN_VERDICT_GOOD && d.eval_falling) {
        qn_text_add(t, " The evaluation loss was still falling: training longer may help.");
    }
    qn_text_add(t, "</p><p>");
    qni_text_html(t, qn_diagnosis_text(&d, text, sizeof text));
    qn_text_add(t, "</p></div>\n");
    return QN_OK;
}

/* ---- figures --------------------------------------------------------------------------------- */

static double last_of(const report *r, const char *key) {
    return qni_series_last(qni_history_find(&r->history, key));
}

static void write_step(qn_text *t, double v) { qni_text_printf(t, "%.0f", v); }

/* Adds a figure unless v is unknown; `write` words it. An empty detail is none. */
static void add_figure(report *r, const char *name, double v, void (*write)(qn_text *, double),
                       const char *detail) {
    qn_text text = {0};
    if (isnan(v)) return;
    write(&text, v);
    if (text.status == QN_OK) {
        qni_page_figure(&r->page, name, text.data, *detail ? detail : NULL);
    } else {
        r->page.status = text.status;
    }
    qn_text_free(&text);
}

static void add_figures(report *r) {
    const qni_series *eval = qni_history_find(&r->history, "eval/loss");
    const qni_fact *planned = qni_facts_find(&r->config, "train.max_steps");
    int64_t best = extreme(eval, 1);
    double speed = last_of(r, "summary/tokens_per_second");
    if (isnan(speed)) speed = last_of(r, "summary/samples_per_second");
    double waiting = last_of(r, "summary/data_wait_pct"), tokens = last_of(r, "summary/tokens");
    double skipped = last_of(r, "summary/skipped_steps");
    char best_step[64] = "", steps[64] = "", mean[64] = "", wait[64] = "";
    if (best >= 0)
        qni_print(best_step, sizeof best_step, "at step %lld", (long long)eval->step[best]);
    if (planned) qni_print(steps, sizeof steps, "of %.0f", planned->number);
    if (skipped > 0) {
        size_t n = strlen(steps);
        qni_print(steps + n, sizeof steps - n, "%s%.0f skipped", n ? ", " : "", skipped);
    }
    if (speed > 0) qni_print(mean, sizeof mean, "mean %.0f a second", speed);
    if (waiting >= 0) qni_print(wait, sizeof wait, "%.1f%% waiting for data", waiting);
    if (isnan(tokens)) tokens = last_of(r, "train/tokens");
    bool samples = isnan(tokens); /* a model that does not read tokens */
    if (samples) tokens = last_of(r, "train/samples");
    qn_text_add(&r->page, "<dl class=\"figures\">\n");
    if (best >= 0) {
        add_figure(r, "Best eval loss", eval->value[best], qni_line_number, best_step);
    }
    add_figure(r, "Final eval loss", qni_series_last(eval), qni_line_number, "");
    add_figure(r, "Final train loss", last_of(r, "train/loss"), qni_line_number, "");
    add_figure(r, "Steps", (double)r->history.last_step, write_step, steps);
    add_figure(r, samples ? "Samples" : "Tokens", tokens, qni_line_count, mean);
    add_figure(r, "Wall time", last_of(r, "summary/wall_s"), qni_line_duration, wait);
    qn_text_add(&r->page, "</dl>\n");
}

/* ---- charts ---------------------------------------------------------------------------------- */

/* Centred moving average over a fiftieth of the points to each side, fewer near the ends;
 * non-finite points are left out. Both ends of the window only ever move forward. NULL without
 * memory. */
static double *moving_average(const qni_series *s) {
    double *mean = qn_alloc((size_t)s->n * sizeof *mean, "a smoothed curve"), sum = 0;
    const int64_t most = s->n / 50, least = most / 4;
    for (int64_t i = 0, from = 0, to = 0, finite = 0; mean && i < s->n; i++) {
        int64_t nearest_end = i < s->n - 1 - i ? i : s->n - 1 - i;
        int64_t side = nearest_end > most ? most : nearest_end < least ? least : nearest_end;
        for (; to <= i + side && to < s->n; to++) {
            if (isfinite(s->value[to])) sum += s->value[to], finite++;
        }
        for (; from < i - side; from++) {
            if (isfinite(s->value[from])) sum -= s->value[from], finite--;
        }
        mean[i] = finite ? sum / (double)finite : (double)NAN;
    }
    return mean;
}

static void describe(const qni_series *s, const char *name, char *out, size_t size) {
    int64_t low = extreme(s, 1), high = extreme(s, -1);
    *out = '\0';
    if (low < 0) return;
    qni_print(
        out, size,
        "%.80s: %lld points from step %lld to %lld, first %.4g, last %.4g, lowest %.4g at step "
        "%lld, highest %.4g at step %lld. ",
        name, (long long)s->n, (long long)s->step[0], (long long)s->step[s->n - 1], s->value[0],
        s->value[s->n - 1], s->value[low], (long long)s->step[low], s->value[high],
        (long long)s->step[high]);
}

/* Adds a series to a chart; a long noisy one as a faint line under its moving average, which the
 * caller frees after drawing. */
static double *add_lines(report *r, qn_svg_chart *c, qn_svg_line *lines, const qni_series *s,
                         const char *label, const char *css, bool noisy) {
    double *smooth = NULL;
    if (noisy && s->n >= SMOOTH_LEAST) {
        smooth = moving_average(s);
        if (!smooth) r->page.status = QN_ERR_OOM;
    }
    bool dots = strncmp(s->key, "eval/", 5) == 0;
    lines[c->n_lines++] =
        (qn_svg_line){smooth ? NULL : label, css, s->n, s->step, s->value, dots, smooth != NULL};
    if (smooth)
        lines[c->n_lines++] = (qn_svg_line){label, css, s->n, s->step, smooth, false, false};
    return smooth;
}

static void add_loss_chart(report *r) {
    const qni_series *train = qni_history_find(&r->history, "train/loss");
    const qni_series *eval = qni_history_find(&r->history, "eval/loss");
    char text[700], more[320], mark[80];
    qn_svg_line lines[3];
    qn_svg_chart c = {.id = "loss", .title = "Loss", .description = text, .line = lines};
    if (!train && !eval) return;
    describe(train, "train", text, 320);
    describe(eval, "eval", more, sizeof more);
    memcpy(text + strlen(text), more, strlen(more) + 1);
    double *smooth = train ? add_lines(r, &c, lines, train, "train", "a", true) : NULL;
    if (eval) add_lines(r, &c, lines, eval, "eval", "b", false);
    int64_t best = extreme(eval, 1);
    if (best >= 0) {
        c.mark = mark;
        c.mark_step = eval->step[best];
        c.mark_value = eval->value[best];
        qni_print(mark, sizeof mark, "best %.4f, step %lld", c.mark_value, (long long)c.mark_step);
    }
    qn_svg_chart_write(&r->page, &c);
    qn_free(smooth);
}

static void add_chart(report *r, const char *id, const char *key, const char *title,
                      const char *css, bool smoothed) {
    const qni_series *s = qni_history_find(&r->history, key);
    if (!s || s->n == 0) return;
    char text[320];
    describe(s, key, text, sizeof text);
    qn_svg_line lines[2];
    qn_svg_chart c = {.id = id, .title = title, .description = text, .line = lines};
    c.from_zero = strncmp(key, "eval/", 5) != 0;
    double *smooth = add_lines(r, &c, lines, s, NULL, css, smoothed);
    qn_svg_chart_write(&r->page, &c);
    qn_free(smooth);
}

static void add_charts(report *r) {
    qni_page_section(&r->page, "Curves over steps");
    qn_text_add(&r->page, "<div class=\"charts\">\n");
    add_loss_chart(r);
    int charts = 0;
    for (int i = 0; i < r->history.n_series && charts < MAX_EVAL_CHARTS; i++) {
        const char *key = r->history.series[i].key;
        if (strncmp(key, "eval/", 5) != 0 || strcmp(key, "eval/loss") == 0 ||
            strcmp(key, "eval/runtime") == 0 || strcmp(key, "eval/samples_per_second") == 0) {
            continue;
        }
        char id[16], title[80];
        qni_print(id, sizeof id, "eval%d", charts++);
        qni_print(title, sizeof title, "Evaluation: %.60s", key + 5);
        add_chart(r, id, key, title, "b", false);
    }
    add_chart(r, "rate", "train/learning_rate", "Learning rate", "a", false);
    add_chart(r, "norm", "train/grad_norm", "Gradient norm", "a", true);
    add_chart(r, "speed", "perf/tokens_per_second", "Tokens per second", "c", true);
    add_chart(r, "samples", "perf/samples_per_second", "Samples per second", "c", true);
    qn_text_add(&r->page, "</div>\n");
}

/* ---- tables ---------------------------------------------------------------------------------- */

static void add_number(qn_text *t, const qni_series *s, int64_t i, bool with_step) {
    qn_text_add(t, "<td class=\"n\">");
    if (i >= 0) {
        double v = s->value[i];
        qni_text_printf(t, v == floor(v) && fabs(v) < 1e15 ? "%.0f" : "%.6g", v);
    }
    if (i >= 0 && with_step) {
        qn_text_printf(t, " <small>step %lld</small>", (long long)s->step[i]);
    }
    qn_text_add(t, "</td>");
}

static void add_numbers(report *r) {
    qn_text *t = &r->page;
    qni_page_section(t, "Final numbers");
    qn_text_add(t, "<div class=\"card scroll\"><table><tr><th>Metric</th><th class=\"n\">Last</th>"
                   "<th class=\"n\">Lowest</th><th class=\"n\">Highest</th></tr>\n");
    for (int i = 0; i < r->history.n_series; i++) {
        const qni_series *s = &r->history.series[i];
        if (strncmp(s->key, "summary/", 8) == 0 || strcmp(s->key, "epoch") == 0 || s->n == 0)
            continue;
        qn_text_add(t, "<tr><td>");
        qni_text_html(t, s->key);
        qn_text_add(t, "</td>");
        add_number(t, s, s->n - 1, false);
        add_number(t, s, extreme(s, 1), true);
        add_number(t, s, extreme(s, -1), true);
        qn_text_add(t, "</tr>\n");
    }
    qn_text_add(t, "</table></div>\n");
}

static void add_facts(report *r) {
    static const char *const highlights[] = {"run.seed",
                                             "device",
                                             "precision",
                                             "model.type",
                                             "model.vocab_size",
                                             "model.hidden_size",
                                             "model.num_hidden_layers",
                                             "model.num_attention_heads",
                                             "model.hidden_sizes",
                                             "model.dropout",
                                             "data.type",
                                             "data.path",
                                             "data.block_size",
                                             "train.batch_size",
                                             "train.accumulate",
                                             "train.epochs",
                                             "train.clip_norm",
                                             "optimizer.type",
                                             "optimizer.lr",
                                             "optimizer.weight_decay",
                                             "scheduler.type",
                                             "scheduler.warmup_steps",
                                             "early_stopping.patience"};
    qn_text *t = &r->page;
    if (r->config.n + r->env.n == 0) return;
    qni_page_section(t, "Run");
    qn_text_add(t, "<div class=\"pair\">\n");
    if (r->config.n > 0) {
        qn_text_add(t, "<div class=\"card facts\"><h3>Configuration</h3><table>\n");
        for (size_t i = 0; i < sizeof highlights / sizeof highlights[0]; i++) {
            const char *text = fact_text(&r->config, highlights[i], NULL);
            if (text) qni_page_row(t, highlights[i], text);
        }
        qn_text_add(t, "</table></div>\n");
    }
    if (r->env.n > 0) {
        qn_text_add(t, "<div class=\"card facts\"><h3>Environment</h3><table>\n");
        for (int i = 0; i < r->env.n && i < MAX_ENV_ROWS; i++) {
            qni_page_row(t, r->env.fact[i].key, r->env.fact[i].text);
        }
        qn_text_add(t, "</table></div>\n");
    }
    qn_text_add(t, "</div>\n");
    if (r->config.n > 0) {
        qn_text_add(t, "<details><summary>Resolved configuration</summary><pre>");
        qni_text_html(t, r->config_text);
        qn_text_add(t, "</pre></details>\n");
    }
}

static void add_notes(report *r) {
    const qni_history *h = &r->history;
    qn_text *t = &r->page;
    if (h->n_notes == 0) return;
    int from = h->n_notes > MAX_NOTES ? h->n_notes - MAX_NOTES : 0;
    qni_page_section(t, "Notes");
    if (from) qn_text_printf(t, "<p class=\"sub\">The last %d of %d.</p>", MAX_NOTES, h->n_notes);
    qn_text_add(t, "<div class=\"card scroll\"><table>\n");
    for (int i = from; i < h->n_notes; i++) {
        qn_text_printf(t, "<tr><td class=\"n\">step %lld</td><td>", (long long)h->note[i].step);
        qni_text_html(t, h->note[i].text);
        qn_text_add(t, "</td></tr>\n");
    }
    qn_text_add(t, "</table></div>\n");
}

/* ---- the whole ------------------------------------------------------------------------------- */

static qn_status write_page(report *r, const char *run_dir) {
    qn_text *t = &r->page;
    const char *slash = strrchr(run_dir, '/');
    const char *name = fact_text(&r->config, "run.name", slash && slash[1] ? slash + 1 : run_dir);
    char footer[160];
    qni_page_begin(t, name);
    qn_text_add(t, "<h1>");
    qni_text_html(t, name);
    qn_text_add(t, "</h1><p class=\"sub\">");
    if (r->history.end) {
        qn_text_add(t, "Ended: ");
        qni_text_html(t, r->history.end);
    } else {
        qn_text_add(t, "This run has not said that it ended.");
    }
    qn_text_add(t, "</p>\n");
    QN_TRY(add_verdict(r));
    add_figures(r);
    add_charts(r);
    add_numbers(r);
    add_facts(r);
    add_notes(r);
    int n = qni_print(footer, sizeof footer, "Quern %s. %lld rows of metrics.jsonl", QUERN_VERSION,
                      (long long)r->history.rows);
    if (r->history.bad_rows) {
        qni_print(footer + n, sizeof footer - (size_t)n, "; %lld rows could not be read",
                  (long long)r->history.bad_rows);
    }
    qni_page_end(t, footer);
    return t->status;
}

qn_status qn_report_write(const char *run_dir) {
    report r = {0};
    char path[QN_PATH_MAX], *env_text = NULL;
    qn_status status;
    QN_TRY_GOTO(qn_path_format(path, sizeof path, "%s/metrics.jsonl", run_dir));
    QN_TRY_GOTO(qni_history_load(path, &r.history));
    QN_TRY_GOTO(qn_setup_create("report", &r.arena));
    QN_TRY_GOTO(load_facts(&r, run_dir, "config.resolved.json", &r.config_text, &r.config));
    QN_TRY_GOTO(load_facts(&r, run_dir, "env.json", &env_text, &r.env));
    QN_TRY_GOTO(write_page(&r, run_dir));
    QN_TRY_GOTO(qn_path_format(path, sizeof path, "%s/report.html", run_dir));
    QN_TRY_GOTO(qn_file_replace(path, r.page.data, r.page.length));
done:
    qn_text_free(&r.page);
    qn_free(r.config_text);
    qn_free(env_text);
    qn_setup_free(r.arena);
    qni_history_free(&r.history);
    return status;
}
