/* status.c — status names and the per-thread error message. */
#include "kernels/kernels.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[QN_MESSAGE_MAX];

static const struct {
    const char *name;
    const char *text;
    int exit_code;
} table[QN_STATUS_COUNT] = {
#define QNI_X(name, exit_code, text) {#name, text, exit_code},
    QN_STATUS_MAP(QNI_X)
#undef QNI_X
};

static bool known(qn_status s) { return (int)s >= 0 && s < QN_STATUS_COUNT; }

const char *qn_status_name(qn_status s) { return known(s) ? table[s].name : "ERR_UNKNOWN"; }
const char *qn_status_text(qn_status s) { return known(s) ? table[s].text : "unknown status"; }
int qn_status_exit_code(qn_status s) { return known(s) ? table[s].exit_code : 1; }

qn_status qn_fail(qn_status s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return s;
}

qn_status qn_fail_prefix(qn_status s, const char *format, ...) {
    char old[QN_MESSAGE_MAX];
    memcpy(old, message, sizeof old);
    va_list args;
    va_start(args, format);
    int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n < 0 || (size_t)n + 3 > sizeof message) return s;
    size_t rest = sizeof message - (size_t)n - 3, length = strlen(old);
    memcpy(message + n, ": ", 2);
    if (length > rest) length = rest; /* a message that is too long loses its end */
    memcpy(message + n + 2, old, length);
    message[(size_t)n + 2 + length] = '\0';
    return s;
}

const char *qn_error_message(void) { return message; }

void qn_error_get(qn_status s, qn_error *e) {
    e->status = s;
    memcpy(e->message, message, sizeof message);
}

qn_status qn_error_raise(const qn_error *e) {
    memcpy(message, e->message, sizeof message);
    return e->status;
}

void qn_error_clear(void) { message[0] = '\0'; }
