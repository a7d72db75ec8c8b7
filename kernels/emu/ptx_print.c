/* ptx_print.c — printf, assert and the clock of device code. */
#include "kernels/emu/ptx_ops.h"

#include <stdio.h>

uint64_t qe_clock(void) {
    enum { STEP = 32 };
    static uint64_t now;
    return now += STEP;
}

/* The next argument: 4 bytes, or 8 aligned to 8. */
static uint64_t argument(const char *base, size_t *at, size_t bytes) {
    *at = (*at + bytes - 1) / bytes * bytes;
    const char *p = base + *at;
    *at += bytes;
    return bytes == 8 ? qe_get64(p) : qe_get32(p);
}

/* One conversion of the format, `spec` from % to its letter. */
static void print_one(const char *spec, size_t length, const char *base, size_t *at) {
    char format[32], letter = spec[length - 1];
    size_t n = 0;
    bool wide = memchr(spec, 'l', length) || memchr(spec, 'j', length) || memchr(spec, 'z', length);
    int star[2], stars = 0;
    if (length + 3 > sizeof format) return;
    for (size_t i = 0; i + 1 < length; i++) {
        if (spec[i] == '*' && stars < 2) star[stars++] = (int)argument(base, at, 4);
        if (!strchr("hljzt", spec[i])) format[n++] = spec[i];
    }
    bool real = strchr("aAeEfFgG", letter) != NULL, integer = strchr("diouxX", letter) != NULL;
    if (integer) format[n++] = 'l', format[n++] = 'l';
    format[n++] = letter;
    format[n] = '\0';
    size_t bytes = wide || real || letter == 's' || letter == 'p' ? 8 : 4;
    uint64_t bits = argument(base, at, bytes);
    if (bytes == 4 && (letter == 'd' || letter == 'i')) bits = (uint64_t)(int64_t)(int32_t)bits;
    const char *text = (const char *)(uintptr_t)bits;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    char out[512];
    int *s = star;
    if (letter == 's')
        snprintf(out, sizeof out, format, text);
    else if (letter == 'p')
        snprintf(out, sizeof out, format, (void *)(uintptr_t)bits);
    else if (letter == 'c')
        snprintf(out, sizeof out, format, (int)bits);
    else if (real && stars == 2)
        snprintf(out, sizeof out, format, s[0], s[1], qe_f64(bits));
    else if (real && stars == 1)
        snprintf(out, sizeof out, format, s[0], qe_f64(bits));
    else if (real)
        snprintf(out, sizeof out, format, qe_f64(bits));
    else if (integer && stars == 1)
        snprintf(out, sizeof out, format, s[0], (long long)bits);
    else if (integer)
        snprintf(out, sizeof out, format, (long long)bits);
    else
        out[0] = '\0';
#pragma GCC diagnostic pop
    fputs(out, stdout);
}

void qe_vprintf(qe_thread *t, char *result, const char *format, const char *arguments,
                const qe_site *site) {
    const char *f = (const char *)(uintptr_t)qe_get64(format);
    const char *base = (const char *)(uintptr_t)qe_get64(arguments);
    size_t at = 0;
    (void)t;
    (void)site;
    while (*f) {
        size_t plain = strcspn(f, "%");
        fwrite(f, 1, plain, stdout);
        f += plain;
        if (!*f) break;
        size_t length = 1 + strcspn(f + 1, "diouxXaAeEfFgGcsp%") + 1;
        if (f[length - 1] == '%')
            fputc('%', stdout);
        else
            print_one(f, length, base, &at);
        f += length;
    }
    qe_put32(result, (uint32_t)at);
}

void qe_assert_fail(qe_thread *t, const char *message, const char *file, const char *line,
                    const char *function, const char *char_bytes, const qe_site *site) {
    char why[512];
    (void)char_bytes;
    snprintf(why, sizeof why, "%s:%u: %s: assertion `%s` failed",
             (const char *)(uintptr_t)qe_get64(file), qe_get32(line),
             (const char *)(uintptr_t)qe_get64(function),
             (const char *)(uintptr_t)qe_get64(message));
    qe_trap(t, why, site);
}
