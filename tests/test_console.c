/* test_console.c — the live bar on a real pseudo-terminal, and the plain lines elsewhere. */
#include "io/console.h"

#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <cmocka.h>

#define CELL_FULL  "\xE2\x94\x81"
#define CELL_EMPTY "\xE2\x94\x80"
#define ERASE      "\r\x1b[K"

static double now_monotonic = 100;

static double fake_clock(void) { return now_monotonic; }
static double fake_wall(void) { return 1700000000; }

typedef struct screen {
    int master, slave;
    qn_sink sink;
    char seen[65536];
} screen;

static void resize(screen *s, int columns) {
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    assert_int_equal(ioctl(s->slave, TIOCSWINSZ, &size), 0);
}

static void open_screen(screen *s, int columns, bool no_color) {
    memset(s, 0, sizeof *s);
    assert_int_equal(openpty(&s->master, &s->slave, NULL, NULL, NULL), 0);
    struct termios raw;
    tcgetattr(s->slave, &raw);
    cfmakeraw(&raw); /* no \n -> \r\n, so that bytes compare */
    tcsetattr(s->slave, TCSANOW, &raw);
    fcntl(s->master, F_SETFL, O_NONBLOCK);
    resize(s, columns);
    setenv("TERM", "xterm", 1);
    now_monotonic = 100;
    qn_console_options o = {s->slave, QN_CONSOLE_AUTO, no_color, {1250, 3, fake_clock, fake_wall}};
    assert_int_equal(qn_sink_console(&o, &s->sink), QN_OK);
}

/* What was written since the last look. */
static const char *look(screen *s) {
    size_t n = 0;
    for (ssize_t got; (got = read(s->master, s->seen + n, sizeof s->seen - 1 - n)) > 0;) {
        n += (size_t)got;
    }
    s->seen[n] = '\0';
    return s->seen;
}

static void close_screen(screen *s) {
    s->sink.free(s->sink.self);
    close(s->slave);
    close(s->master);
}

static qn_record step_record(int64_t step) {
    qn_record r = {.step = step, .epoch = (double)step / 417};
    qn_record_add(&r, "train/loss", 1.84231);
    qn_record_add(&r, "train/learning_rate", 1.8e-4);
    qn_record_add(&r, "train/grad_norm", 0.911);
    qn_record_add(&r, "perf/tokens_per_second", 38210);
    return r;
}

static void progress(screen *s, int64_t step, double seconds_later) {
    now_monotonic += seconds_later;
    qn_record r = step_record(step);
    s->sink.progress(s->sink.self, &r);
}

static void evaluate(screen *s, int64_t step, double loss) {
    qn_record e = {.step = step, .epoch = (double)step / 417};
    qn_record_add(&e, "eval/loss", loss);
    s->sink.emit(s->sink.self, QN_EVENT_EVAL, &e, NULL);
}

static void bar_shows_every_field(void **state) {
    (void)state;
    screen s;
    open_screen(&s, 130, true);
    progress(&s, 12, 0);
    look(&s);
    evaluate(&s, 12, 1.9011);
    look(&s);
    progress(&s, 412, 360);
    const char *seen = look(&s);
    assert_non_null(strstr(seen, ERASE "epoch 1/3  412/1250  " CELL_FULL));
    assert_non_null(strstr(seen, CELL_EMPTY "   32%  loss 1.8423  val 1.9011  lr 1.8e-04  |g| 0.91"
                                            "  38.2k tok/s  ETA 12:34"));
    assert_null(strchr(seen, '\n'));
    close_screen(&s);
}

/* Whatever the width, the line fits in it, one column free; parts vanish from the right only. */
static void narrow_terminals_drop_fields_from_the_right(void **state) {
    (void)state;
    screen s;
    open_screen(&s, 130, true);
    progress(&s, 12, 0);
    evaluate(&s, 12, 1.9011);
    const char *const words[] = {"epoch", "1250", "%", "loss", "val", "lr", "|g|", "tok/s", "ETA"};
    int shown_before = 0;
    for (int width = 1; width <= 160; width++) {
        resize(&s, width);
        look(&s);
        progress(&s, 12 + width, 1);
        const char *line = look(&s);
        assert_memory_equal(line, ERASE, strlen(ERASE));
        int columns = 0, shown = 0;
        for (const char *p = line + strlen(ERASE); *p; p++) columns += (*p & 0xC0) != 0x80;
        assert_true(columns < width || columns == 0);
        while (shown < 9 && strstr(line, words[shown])) shown++;
        for (int i = shown; i < 9; i++) assert_null(strstr(line, words[i]));
        assert_true(shown >= shown_before - 1); /* a longer number may cost one field */
        shown_before = shown;
    }
    assert_int_equal(shown_before, 9);
    close_screen(&s);
}

static void redraws_at_most_ten_times_a_second(void **state) {
    (void)state;
    screen s;
    open_screen(&s, 100, true);
    int draws = 0;
    for (int i = 0; i < 1000; i++) { /* a step each millisecond */
        progress(&s, i, 0.001);
        if (*look(&s)) draws++;
    }
    assert_in_range(draws, 9, 11);
    close_screen(&s);
}

static void events_stay_above_the_bar(void **state) {
    (void)state;
    screen s;
    open_screen(&s, 60, true);
    progress(&s, 500, 0);
    look(&s);
    qn_record r = {.step = 500};
    s.sink.emit(s.sink.self, QN_EVENT_CHECKPOINT, &r, "checkpoints/step-00000500");
    const char *seen = look(&s);
    assert_non_null(strstr(seen, ERASE "saved checkpoints/step-00000500\n" ERASE "epoch 2/3"));
    qn_record t = step_record(500);
    now_monotonic += 0.01;
    s.sink.emit(s.sink.self, QN_EVENT_TRAIN, &t, NULL); /* shown by the bar, not by a line */
    assert_string_equal(look(&s), "");
    s.sink.emit(s.sink.self, QN_EVENT_END, &r, "max_steps reached");
    seen = look(&s);
    const char *last = strrchr(seen, '\r');
    assert_non_null(strstr(last, "500/1250"));
    assert_non_null(strstr(last, "\nend at step 500: max_steps reached\n"));
    close_screen(&s);
}

static void colour_is_off_when_asked(void **state) {
    (void)state;
    screen s;
    open_screen(&s, 100, false);
    progress(&s, 100, 0);
    assert_non_null(strstr(look(&s), "\x1b[36m"));
    close_screen(&s);
    setenv("NO_COLOR", "1", 1);
    open_screen(&s, 100, false);
    progress(&s, 100, 0);
    qn_record r = {.step = 100};
    s.sink.emit(s.sink.self, QN_EVENT_NOTE, &r, "careful");
    for (const char *p = look(&s); (p = strchr(p, '\x1b')); p++)
        assert_memory_equal(p, "\x1b[K", 3);
    close_screen(&s);
    unsetenv("NO_COLOR");
}

/* A pipe gets whole lines: no carriage return, no escape, and nothing for each step. */
static void pipe_gets_plain_lines(void **state) {
    (void)state;
    for (int mode = 0; mode < 2; mode++) {
        int ends[2];
        char text[2048] = "";
        assert_int_equal(pipe(ends), 0);
        now_monotonic = 100;
        qn_console_options o = {ends[1],
                                mode ? QN_CONSOLE_NONE : QN_CONSOLE_AUTO,
                                false,
                                {1250, 0, fake_clock, fake_wall}};
        qn_sink sink;
        assert_int_equal(qn_sink_console(&o, &sink), QN_OK);
        qn_record r = step_record(10);
        r.epoch = 0.5;
        sink.progress(sink.self, &r);
        sink.emit(sink.self, QN_EVENT_TRAIN, &r, NULL);
        sink.emit(sink.self, QN_EVENT_NOTE, &r, "careful");
        sink.free(sink.self);
        close(ends[1]);
        assert_true(read(ends[0], text, sizeof text - 1) > 0);
        close(ends[0]);
        const char *train =
            "2023-11-14T22:13:20Z  step 10/1250  epoch 0.50  loss 1.8423  lr 1.8e-04"
            "  |g| 0.91  38.2k tok/s\n";
        const char *note = "2023-11-14T22:13:20Z  careful\n";
        if (!mode) assert_memory_equal(text, train, strlen(train));
        assert_string_equal(mode ? text : text + strlen(train), note);
    }
}

static void dumb_terminal_gets_plain_lines(void **state) {
    (void)state;
    screen s;
    open_screen(&s, 100, true);
    s.sink.free(s.sink.self);
    setenv("TERM", "dumb", 1);
    qn_console_options o = {s.slave, QN_CONSOLE_AUTO, false, {1250, 3, fake_clock, fake_wall}};
    assert_int_equal(qn_sink_console(&o, &s.sink), QN_OK);
    progress(&s, 100, 0);
    assert_string_equal(look(&s), "");
    close_screen(&s);
}

static void closed_output_is_ignored(void **state) {
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    qn_console_options o = {.fd = ends[1]};
    qn_sink sink;
    assert_int_equal(qn_sink_console(&o, &sink), QN_OK);
    qn_record r = step_record(10);
    for (int i = 0; i < 10; i++) sink.emit(sink.self, QN_EVENT_TRAIN, &r, NULL);
    sink.free(sink.self);
    close(ends[1]);
    signal(SIGPIPE, SIG_DFL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bar_shows_every_field),
        cmocka_unit_test(narrow_terminals_drop_fields_from_the_right),
        cmocka_unit_test(redraws_at_most_ten_times_a_second),
        cmocka_unit_test(events_stay_above_the_bar),
        cmocka_unit_test(colour_is_off_when_asked),
        cmocka_unit_test(pipe_gets_plain_lines),
        cmocka_unit_test(dumb_terminal_gets_plain_lines),
        cmocka_unit_test(closed_output_is_ignored),
    };
    return cmocka_run_group_tests_name("console", tests, NULL, NULL);
}
