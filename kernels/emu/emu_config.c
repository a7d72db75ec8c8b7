/* emu_config.c — the switches of the emulated device: QUERN_EMU, and what tests set. */
#include "kernels/emu/scheduler.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DEFAULTS                                                                                   \
    { .device = 90, .strict_proxy = true, .memory = (size_t)2 << 30, .sms = 16, .devices = 1 }

qe_config qe_cfg = DEFAULTS;
static uint64_t random_state = 1;

void qe_random_seed(uint64_t seed) { random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1; }

uint32_t qe_random(uint32_t n) {
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(((random_state >> 32) * n) >> 32);
}

typedef struct word {
    const char *text;
    int value;
} word;

/* ---- values ---------------------------------------------------------------------------------- */

static bool read_word(const char *value, const word *words, int *out) {
    for (; words->text; words++) {
        if (strcmp(words->text, value) == 0) {
            *out = words->value;
            return true;
        }
    }
    return false;
}

static bool read_number(const char *value, uint64_t *out) {
    char *end;
    errno = 0;
    *out = strtoull(value, &end, 10);
    if (errno || end == value || *value == '-') return false;
    int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (shift) end++;
    if (*end || *out > UINT64_MAX >> shift) return false;
    *out <<= shift;
    return true;
}

static bool set_number(qe_config *c, const char *key, const char *value) {
    uint64_t n;
    if (!read_number(value, &n)) return false;
    if (strcmp(key, "seed") == 0) {
        c->seed = n;
    } else if (strcmp(key, "memory") == 0) {
        c->memory = (size_t)n;
    } else if (strcmp(key, "sms") == 0 && n >= 1 && n <= 1024) {
        c->sms = (uint32_t)n;
    } else if (strcmp(key, "devices") == 0 && n <= 1) {
        c->devices = (uint32_t)n;
    } else {
        return false;
    }
    return true;
}

static bool set(qe_config *c, const char *key, const char *value) {
    static const word schedules[] = {
        {"fifo", QE_FIFO}, {"random", QE_RANDOM}, {"pct", QE_PCT}, {NULL, 0}};
    static const word times[] = {{"eager", QE_EAGER},
                                 {"late", QE_LATE},
                                 {"any", QE_ANY_TIME},
                                 {"random", QE_ANY_TIME},
                                 {NULL, 0}};
    static const word watches[] = {{"none", 0},
                                   {"check", QE_CHECK},
                                   {"count", QE_COUNT},
                                   {"both", QE_CHECK | QE_COUNT},
                                   {NULL, 0}};
    static const word devices[] = {{"8.0", 80}, {"8.9", 89}, {"9.0", 90}, {NULL, 0}};
    static const word yes[] = {{"0", 0}, {"1", 1}, {NULL, 0}};
    static const word lanes[] = {{"together", 0}, {"free", 1}, {NULL, 0}};
    static const word bases[] = {{"fixed", 0}, {"random", 1}, {NULL, 0}};
    const struct {
        const char *key;
        const word *words;
    } rows[] = {{"schedule", schedules}, {"async", times}, {"streams", times}, {"watch", watches},
                {"device", devices},     {"strict", yes},  {"lanes", lanes},   {"bases", bases},
                {"quiet", yes},          {"guard", yes}};
    int v = 0;
    size_t row = 0, n = sizeof rows / sizeof rows[0];
    while (row < n && strcmp(rows[row].key, key) != 0) row++;
    if (row == n) return set_number(c, key, value);
    if (!read_word(value, rows[row].words, &v)) return false;
    switch (row) {
    case 0: c->schedule = (qe_schedule)v; break;
    case 1: c->async = (qe_laziness)v; break;
    case 2: c->streams = (qe_laziness)v; break;
    case 3: c->watch = (uint32_t)v; break;
    case 4: c->device = v; break;
    case 5: c->strict_proxy = v; break;
    case 6: c->free_lanes = v; break;
    case 7: c->random_bases = v; break;
    case 8: c->quiet = v; break;
    default: c->guard = v; break;
    }
    return true;
}

/* ---- the whole text -------------------------------------------------------------------------- */

bool qe_configure(const char *text) {
    qe_config c = qe_cfg;
    char item[64];
    while (*text) {
        size_t n = strcspn(text, ", ");
        if (n >= sizeof item) return false;
        memcpy(item, text, n);
        item[n] = '\0';
        text += n;
        text += strspn(text, ", ");
        char *equals = strchr(item, '=');
        if (strcmp(item, "defaults") == 0) {
            c = (qe_config)DEFAULTS;
        } else if (n) {
            if (!equals) return false;
            *equals = '\0';
            if (!set(&c, item, equals + 1)) return false;
        }
    }
    qe_cfg = c;
    qe_random_seed(c.seed);
    return true;
}

__attribute__((constructor)) static void read_environment(void) {
    const char *text = getenv("QUERN_EMU");
    qe_random_seed(0);
    qe_coverage_keep();
    if (text && !qe_configure(text)) {
        fprintf(stderr, "QUERN_EMU: unknown key or value in \"%s\"\n", text);
        _exit(2);
    }
}
