/* console.c — the live bar and the permanent lines above it. */
#include "io/console.h"

#include "io/metrics_file.h"
#include "io/metrics_line.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* What a terminal is told: back to column one and erase to the end of the line; colours. */
#define ERASE_LINE "\r\x1b[K"
#define RESET      "\x1b[0m"
#define DIM        "\x1b[2m"
#define BOLD       "\x1b[1m"
#define YELLOW     "\x1b[33m"
#define CYAN       "\x1b[36m"

typedef struct console {
    int fd;
    qn_console_mode mode; /* never QN_CONSOLE_AUTO */
    bool color, bar_shown;
    double last_draw;
    qni_pace pace;
    qn_text out, part; /* reused: a steady run allocates nothing here */
} console;

enum { DEFAULT_WIDTH = 80, MIN_CELLS = 5, MAX_CELLS = 24 };
static const double draw_interval = 0.1;

static void flush(console *c) {
    static const char lost[] = "a line is missing here: out of memory\n";
    if (c->out.status != QN_OK) {
        (void)qni_write_all(c->fd, lost, sizeof lost - 1);
    } else if (c->out.length > 0) {
        (void)qni_write_all(c->fd, c->out.data, c->out.length);
    }
    qni_text_clear(&c->out);
}

static void paint(console *c, const char *code) {
    if (c->color) qn_text_add(&c->out, code);
}

/* ---- the bar --------------------------------------------------------------------------------- */

static int terminal_width(int fd) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
    return DEFAULT_WIDTH;
}

/* Columns a part takes: its characters, none of which is wide. */
static int columns(const qn_text *t) {
    int n = 0;
    for (size_t i = 0; i < t->length; i++) n += ((unsigned char)t->data[i] & 0xC0) != 0x80;
    return n;
}

static void add_bar(console *c, int cells) {
    double done = (double)c->pace.step / (double)c->pace.o.total_steps;
    int full = (int)(done * cells);
    if (full > cells) full = cells;
    paint(c, CYAN);
    for (int i = 0; i < full; i++) qn_text_add(&c->out, "\xE2\x94\x81"); /* heavy line */
    paint(c, RESET);
    paint(c, DIM);
    for (int i = full; i < cells; i++) qn_text_add(&c->out, "\xE2\x94\x80"); /* light line */
    paint(c, RESET);
}

/* Adds the bar's line: parts from the left as long as they fit. The last column stays free, since
 * writing it makes some terminals wrap. */
static void add_progress(console *c) {
    int width = terminal_width(c->fd) - 1, used = 0;
    int cells = width / 5 < MIN_CELLS ? MIN_CELLS : width / 5 > MAX_CELLS ? MAX_CELLS : width / 5;
    qn_text_add(&c->out, ERASE_LINE);
    for (int part = 0; part < QNI_PART_COUNT; part++) {
        bool bar = part == QNI_PART_BAR && c->pace.o.total_steps > 0;
        qni_text_clear(&c->part);
        qni_line_part(&c->part, &c->pace, (qni_part)part);
        int needed = bar ? cells : columns(&c->part);
        if (needed == 0) continue;
        if (used > 0) needed += 2;
        if (used + needed > width) break;
        if (used > 0) qn_text_add(&c->out, "  ");
        if (bar) {
            add_bar(c, cells);
        } else {
            qn_text_add_bytes(&c->out, c->part.data, c->part.length);
        }
        used += needed;
    }
    c->bar_shown = true;
}

static void console_progress(void *self, const qn_record *r) {
    console *c = self;
    qni_pace_update(&c->pace, r);
    if (c->mode != QN_CONSOLE_BAR) return;
    double now = c->pace.o.clock();
    if (c->bar_shown && now - c->last_draw < draw_interval) return;
    c->last_draw = now;
    add_progress(c);
    flush(c);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static const char *event_color(qn_event event) {
    switch (event) {
    case QN_EVENT_NOTE: return YELLOW;
    case QN_EVENT_CHECKPOINT: return DIM;
    case QN_EVENT_END: return BOLD;
    case QN_EVENT_TRAIN:
    case QN_EVENT_EVAL: break;
    }
    return "";
}

/* A permanent line takes the bar's place and the bar is drawn again below it. */
static void bar_emit(console *c, qn_event event, const qn_record *r, const char *text) {
    if (event == QN_EVENT_TRAIN) { /* the bar shows it */
        console_progress(c, NULL);
        return;
    }
    bool shown = c->bar_shown;
    if (shown) qn_text_add(&c->out, ERASE_LINE);
    if (shown && event == QN_EVENT_END) { /* the bar's last state stays */
        add_progress(c);
        qn_text_add(&c->out, "\n");
        c->bar_shown = shown = false;
    }
    paint(c, event_color(event));
    qni_line_event(&c->out, &c->pace, event, r, text);
    paint(c, RESET);
    qn_text_add(&c->out, "\n");
    if (shown) add_progress(c);
    flush(c);
}

static void console_emit(void *self, qn_event event, const qn_record *r, const char *text) {
    console *c = self;
    qni_pace_update(&c->pace, r);
    if (c->mode == QN_CONSOLE_BAR) {
        bar_emit(c, event, r, text);
        return;
    }
    if (c->mode == QN_CONSOLE_NONE && event != QN_EVENT_NOTE && event != QN_EVENT_END) return;
    qni_line_plain(&c->out, &c->pace, event, r, text);
    flush(c);
}

static void console_free(void *self) {
    console *c = self;
    if (!c) return;
    if (c->bar_shown) qn_text_add(&c->out, "\n"); /* leave the shell a line of its own */
    flush(c);
    qn_text_free(&c->out);
    qn_text_free(&c->part);
    qn_free(c);
}

static qn_console_mode choose_mode(const qn_console_options *o) {
    if (o->mode != QN_CONSOLE_AUTO) return o->mode;
    const char *term = getenv("TERM");
    bool movable = isatty(o->fd) && term && *term && strcmp(term, "dumb") != 0;
    return movable ? QN_CONSOLE_BAR : QN_CONSOLE_PLAIN;
}

qn_status qn_sink_console(const qn_console_options *o, qn_sink *out) {
    console *c = qn_alloc(sizeof *c, "the console");
    if (!c) return QN_ERR_OOM;
    const char *no_color = getenv("NO_COLOR");
    c->fd = o->fd;
    c->mode = choose_mode(o);
    c->color = c->mode == QN_CONSOLE_BAR && !o->no_color && !(no_color && *no_color);
    qni_pace_init(&c->pace, &o->log);
    *out = (qn_sink){
        .self = c, .emit = console_emit, .progress = console_progress, .free = console_free};
    return QN_OK;
}
