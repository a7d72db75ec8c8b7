/* verb_train.c — `quern train`: from a configuration to a run directory with a model and a report.
 */
#include "io/cli.h"
#include "io/console.h"
#include "io/environment.h"
#include "io/metrics.h"
#include "io/profile.h"
#include "io/report.h"
#include "io/run_dir.h"
#include "io/run_load.h"
#include "io/saver.h"
#include "io/tfevents.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- signals: a flag, looked at between steps ------------------------------------------------ */

static volatile sig_atomic_t asked_to_stop; /* the status to end with; handlers may do no more */

static void on_signal(int number) {
    if (asked_to_stop) _exit(number == SIGINT ? 130 : 75); /* the second time: at once */
    asked_to_stop = number == SIGINT ? QN_ERR_INTERRUPTED : QN_ERR_REQUEUE;
}

static int interrupted(void) { return asked_to_stop; }

static void watch_signals(void) {
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGUSR1, &a, NULL);
}

/* ---- the parts ------------------------------------------------------------------------------- */

enum { CONSOLE, SUMMARY, LOG, JSONL, TENSORBOARD, N_SINKS };

typedef struct training {
    const qn_cli *cli;
    qn_config *config;
    qn_build build;
    qn_run_dir *dir;
    const char *path; /* of the run */
    qn_saver saver;
    qn_sink sink[N_SINKS];
    int n_sinks;
    qn_trainer trainer;
    qn_record end; /* what the run ended with */
    bool resumed, ended;
} training;

static void remember_end(void *self, qn_event event, const qn_record *r, const char *text) {
    training *t = self;
    (void)text;
    if (event != QN_EVENT_END) return;
    t->end = *r;
    t->ended = true;
}

static void forget_nothing(void *self) { (void)self; }

static qn_status resolved_text(const training *t, const char *name,
                               qn_status (*write)(const qn_config *, char **)) {
    char path[QN_PATH_MAX], *text;
    QN_TRY(qn_path_format(path, sizeof path, "%s/%s", t->path, name));
    QN_TRY(write(t->config, &text));
    qn_status s = qn_file_replace(path, text, strlen(text));
    qn_free(text);
    return s;
}

static qn_status copy_config(const training *t) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    QN_TRY(qn_file_read(t->cli->arg[0], 1 << 20, &text, &bytes));
    qn_status s = qn_path_format(path, sizeof path, "%s/config.json", t->path);
    if (s == QN_OK) s = qn_file_replace(path, text, (size_t)bytes);
    qn_free(text);
    return s;
}

/* What a resumed run must agree on, in one word. */
static void identity_of(const training *t, char *out, size_t size) {
    snprintf(out, size, "%016" PRIx64, t->build.source.identity);
}

static qn_status open_directory(training *t) {
    const char *resume = qn_cli_value(t->cli, "--resume"), *out = qn_cli_value(t->cli, "--out");
    bool named = resume && *resume && strcmp(resume, "auto") != 0;
    char identity[32], found[QN_PATH_MAX];
    identity_of(t, identity, sizeof identity);
    if (resume && qn_cli_has(t->cli, "--overwrite")) {
        return qn_fail(QN_ERR_USAGE, "--resume and --overwrite contradict each other");
    }
    if (named && out && strcmp(resume, out) != 0) {
        return qn_fail(QN_ERR_USAGE, "--resume %s and --out %s name different directories", resume,
                       out);
    }
    if (named && !qn_path_exists(resume))
        return qn_fail(QN_ERR_USAGE, "--resume %s: there is no such run", resume);
    if (named) out = resume;
    const char *parent = qn_config_string(t->config, "run.dir"),
               *name = qn_config_string(t->config, "run.name");
    if (resume && !out) {
        QN_TRY(qn_run_find_newest(parent, name, identity, found, sizeof found));
        if (*found) out = found;
    }
    qn_run_dir_options o = {.out = out,
                            .parent = parent,
                            .name = name,
                            .identity = identity,
                            .mode = resume                              ? QN_RUN_RESUME
                                    : qn_cli_has(t->cli, "--overwrite") ? QN_RUN_OVERWRITE
                                                                        : QN_RUN_FRESH};
    QN_TRY(qn_run_dir_open(&o, &t->dir));
    t->path = qn_run_dir_path(t->dir);
    return QN_OK;
}

static qn_status open_sinks(training *t) {
    const char *mode = qn_config_string(t->config, "log.progress");
    static const char *const modes[] = {"auto", "bar", "plain", "none"};
    qn_console_options console = {.fd = STDERR_FILENO,
                                  .no_color = qn_cli_has(t->cli, "--no-color"),
                                  .log = {.total_steps = t->build.max_steps}};
    for (int i = 0; i < 4; i++) {
        if (strcmp(mode, modes[i]) == 0) console.mode = (qn_console_mode)i;
    }
    double epochs = qn_config_number(t->config, "train.epochs");
    if (epochs > 0) console.log.total_epochs = (int64_t)(epochs + 0.999999);
    char path[QN_PATH_MAX];
    QN_TRY(qn_sink_console(&console, &t->sink[t->n_sinks]));
    t->n_sinks++;
    t->sink[t->n_sinks++] = (qn_sink){.self = t, .emit = remember_end, .free = forget_nothing};
    QN_TRY(qn_path_format(path, sizeof path, "%s/train.log", t->path));
    QN_TRY(qn_sink_log(path, &console.log, &t->sink[CONSOLE], &t->sink[t->n_sinks]));
    t->n_sinks++;
    QN_TRY(qn_path_format(path, sizeof path, "%s/metrics.jsonl", t->path));
    QN_TRY(qn_sink_jsonl(path, &t->sink[CONSOLE], &t->sink[t->n_sinks]));
    t->n_sinks++;
    if (!qn_config_boolean(t->config, "log.tensorboard")) return QN_OK;
    char *config;
    QN_TRY(qn_path_format(path, sizeof path, "%s/tb", t->path));
    QN_TRY(qn_config_resolved(t->config, &config));
    qn_tfevents_options tb = {
        .directory = path, .config_json = config, .notices = &t->sink[CONSOLE]};
    qn_status s = qn_sink_tfevents(&tb, &t->sink[t->n_sinks]);
    if (s == QN_OK) t->n_sinks++;
    qn_free(config);
    return s;
}

static void note(const training *t, const char *text) {
    qn_record r = {.step = t->trainer.progress.step};
    for (int i = 0; i < t->n_sinks; i++) t->sink[i].emit(t->sink[i].self, QN_EVENT_NOTE, &r, text);
}

/* Multi-line texts become one note a line. */
static void note_lines(const training *t, const char *text) {
    char line[1024];
    while (*text) {
        size_t n = strcspn(text, "\n");
        snprintf(line, sizeof line, "%.*s", (int)n, text);
        if (*line) note(t, line);
        text += n + (text[n] == '\n');
    }
}

static qn_status cut_logs(const training *t, int64_t step) {
    char path[QN_PATH_MAX];
    QN_TRY(qn_path_format(path, sizeof path, "%s/metrics.jsonl", t->path));
    QN_TRY(qn_jsonl_truncate(path, step));
    QN_TRY(qn_path_format(path, sizeof path, "%s/tb", t->path));
    QN_TRY(qn_tfevents_cut(path, step));
    return qn_checkpoint_set_aside(t->path, step);
}

/* ---- the run --------------------------------------------------------------------------------- */

static qn_status resume(training *t) {
    char warning[QN_MESSAGE_MAX] = "", *changes = NULL, text[160];
    if (!qn_cli_has(t->cli, "--resume")) return open_sinks(t);
    QN_TRY(qn_saver_resume(&t->saver, &t->build, &t->trainer.progress, &t->resumed, warning,
                           sizeof warning, &changes));
    qn_status s = cut_logs(t, t->resumed ? t->trainer.progress.step : -1);
    if (s == QN_OK) s = open_sinks(t);
    if (s == QN_OK) {
        note_lines(t, warning);
        snprintf(text, sizeof text,
                 t->resumed ? "resumed at step %lld" : "no checkpoint yet: starting from step %lld",
                 (long long)t->trainer.progress.step);
        note(t, text);
        if (changes && *changes) {
            note(t, "the configuration has changed since the checkpoint:");
            note_lines(t, changes);
        }
    }
    qn_free(changes);
    return s;
}

static void say_hello(const training *t) {
    const qn_session *s = t->build.session;
    char text[512];
    note_lines(t, t->build.data_text);
    snprintf(
        text, sizeof text,
        "%s, %lld parameters, %s, %d threads, %.1f MiB planned, %lld samples a step, %lld steps",
        t->build.model_config.type, (long long)s->params->parameters,
        qn_precision_name(s->o.precision), s->o.threads,
        (double)(s->run_bytes + s->pool_bytes) / 1048576.0,
        (long long)(s->o.batch_size * s->o.accumulate), (long long)t->build.max_steps);
    note(t, text);
    if (s->params->n_adapters > 0) {
        snprintf(text, sizeof text, "%d adapters: %lld parameters are trained, %.2f %% of all",
                 s->params->n_adapters, (long long)s->params->trainable_parameters,
                 100.0 * (double)s->params->trainable_parameters / (double)s->params->parameters);
        note(t, text);
    }
    if (t->build.notes) note_lines(t, t->build.notes);
    if (*t->build.device_text) note(t, t->build.device_text);
    char *degraded = qn_environment_notes(s->o.precision, s->o.device);
    if (degraded) note_lines(t, degraded);
    qn_free(degraded);
}

static qn_status save_at_end(training *t) {
    const qn_session *s = t->build.session;
    qn_setup *arena;
    qn_state_tensors tensors, here = {0};
    qn_arena *memory = NULL;
    char *metadata = NULL;
    QN_TRY(qn_setup_create("export", &arena));
    qn_status status = qn_state_tensors_list(s, arena, &tensors);
    tensors.n_state = 0;
    if (status == QN_OK) status = qn_state_tensors_here(s, &tensors, arena, &memory, &here);
    if (status == QN_OK) status = qn_state_tensors_copy(s, &here, &tensors);
    if (status == QN_OK) status = qn_metadata_write(&t->build, &metadata);
    if (status == QN_OK) {
        int64_t step = t->trainer.progress.step, best = t->trainer.progress.best_step;
        bool restored = t->trainer.stopper && t->trainer.stopper->restore_best &&
                        t->trainer.progress.improvements > 0;
        qn_checkpoint_info info = {.run_id = qn_run_dir_id(t->dir),
                                   .step = restored ? best : step,
                                   .world_size = 1,
                                   .metadata = metadata,
                                   .build_id = QUERN_VERSION};
        status = qn_checkpoint_export(t->path, &info, here.model, here.n_model);
    }
    qn_free(metadata);
    qn_arena_free(memory);
    qn_setup_free(arena);
    return status;
}

static void print_trace(void *ctx, const char *text) {
    (void)ctx;
    fputs(text, stderr);
}

static qn_status prepare(training *t) {
    QN_TRY(qn_cli_config(t->cli, t->cli->arg[0], &t->config));
    QN_TRY(qn_build_data(&t->build, t->config));
    QN_TRY(qn_build_model(&t->build, t->config));
    QN_TRY(qn_build_session(&t->build));
    QN_TRY(qn_cli_pretrained(&t->build));
    if (qn_config_is_set(t->config, "model.init_from")) {
        char warning[QN_MESSAGE_MAX] = "";
        QN_TRY(qn_init_from(t->build.session, qn_config_string(t->config, "model.init_from"),
                            warning, sizeof warning));
        if (*warning) fprintf(stderr, "quern: warning: %s\n", warning);
    }
    QN_TRY(qn_build_adapter_weights(&t->build));
    const char *trace = getenv("QUERN_TRACE");
    if (trace && strcmp(trace, "1") == 0)
        QN_TRY(qn_session_trace(t->build.session, print_trace, NULL));
    QN_TRY(open_directory(t)); /* last of what can be refused: nothing is left behind */
    qn_build_trainer(&t->build, &t->trainer);
    qn_saver_options saver = {.run_dir = t->path,
                              .run_id = qn_run_dir_id(t->dir),
                              .keep = (int)qn_config_int(t->config, "checkpoint.keep"),
                              .background = qn_config_boolean(t->config, "checkpoint.async"),
                              .notices = t->sink,
                              .n_notices = &t->n_sinks};
    QN_TRY(qn_saver_create(&saver, &t->build, &t->saver));
    QN_TRY(resume(t));
    QN_TRY(copy_config(t));
    QN_TRY(resolved_text(t, "config.resolved.json", qn_config_resolved));
    return qn_environment_write(t->path, &t->build);
}

/* Prints the summary where the bar was. A failed report does not fail a finished run. */
static void conclude(const training *t) {
    char path[QN_PATH_MAX];
    qn_status s = qn_report_write(t->path);
    if (s != QN_OK) {
        fprintf(stderr, "quern: the report could not be written: %s\n", qn_error_message());
    } else {
        s = qn_path_format(path, sizeof path, "%s/report.html", t->path);
    }
    char *text = qn_summary_text(&t->end, s == QN_OK ? path : NULL);
    fputs(text ? text : "quern: no summary: out of memory\n", stderr);
    qn_free(text);
}

static qn_status run(training *t) {
    QN_TRY(prepare(t));
    t->trainer.sink = t->sink;
    t->trainer.n_sinks = t->n_sinks;
    t->trainer.saver = &t->saver;
    t->trainer.interrupted = interrupted;
    watch_signals();
    say_hello(t);
    qn_status s = qn_train(&t->trainer);
    if (s != QN_OK) return s;
    if (qn_config_boolean(t->config, "checkpoint.save_final")) QN_TRY(save_at_end(t));
    if (qn_cli_has(t->cli, "--profile")) QN_TRY(qn_profile_write(t->build.session, t->path));
    return QN_OK;
}

qn_status qn_verb_train(const qn_cli *cli) {
    training t = {.cli = cli};
    signal(SIGPIPE, SIG_IGN); /* but not a run */
    qn_status status = run(&t);
    qn_error error;
    qn_error_get(status, &error);
    qn_saver_free(&t.saver); /* first: it tells the sinks */
    while (t.n_sinks > 0) {  /* the console last: the others tell it what they drop */
        t.n_sinks--;
        t.sink[t.n_sinks].free(t.sink[t.n_sinks].self);
        t.sink[t.n_sinks] = (qn_sink){0};
    }
    if (t.ended) conclude(&t);
    qn_build_free(&t.build);
    qn_run_dir_close(t.dir);
    qn_config_free(t.config);
    return status == QN_OK ? QN_OK : qn_error_raise(&error);
}
