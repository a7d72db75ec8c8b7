/* ptx_text.c — strings, growing arrays and the table of PTX types. */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void ptx_stop(const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    vfprintf(stderr, format, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

void *ptx_alloc(size_t bytes) {
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p) ptx_stop("ptx2c: out of memory");
    return p;
}

void *ptx_grow(void *items, int n, int *capacity, size_t item_bytes) {
    if (n < *capacity) return items;
    int larger = *capacity ? 2 * *capacity : 8;
    char *p = realloc(items, (size_t)larger * item_bytes);
    if (!p) ptx_stop("ptx2c: out of memory");
    memset(p + (size_t)*capacity * item_bytes, 0, (size_t)(larger - *capacity) * item_bytes);
    *capacity = larger;
    return p;
}

static void add_list(ptx_text *x, const char *format, va_list ap) {
    va_list again;
    va_copy(again, ap);
    int need = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (x->length + (size_t)need + 1 > x->capacity) {
        x->capacity = 2 * x->capacity + (size_t)need + 64;
        x->data = realloc(x->data, x->capacity);
        if (!x->data) ptx_stop("ptx2c: out of memory");
    }
    vsnprintf(x->data + x->length, (size_t)need + 1, format, ap);
    x->length += (size_t)need;
}

void ptx_add(ptx_text *x, const char *format, ...) {
    va_list ap;
    va_start(ap, format);
    add_list(x, format, ap);
    va_end(ap);
}

char *ptx_say(const char *format, ...) {
    ptx_text x = {0};
    va_list ap;
    va_start(ap, format);
    add_list(&x, format, ap);
    va_end(ap);
    return x.data;
}

char *ptx_copy(const char *s, size_t length) {
    char *p = ptx_alloc(length + 1);
    memcpy(p, s, length);
    return p;
}

char *ptx_identifier(const char *s) {
    ptx_text x = {0};
    for (; *s; s++) {
        if (isalnum((unsigned char)*s) || *s == '_')
            ptx_add(&x, "%c", *s);
        else if (*s == '$')
            ptx_add(&x, "S_");
        else if (*s == '%')
            ptx_add(&x, "_");
        else
            ptx_add(&x, "_x%02x", (unsigned char)*s);
    }
    return x.data ? x.data : ptx_copy("", 0);
}

char *ptx_quoted(const char *s) {
    ptx_text x = {0};
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            ptx_add(&x, "\\%c", *s);
        else
            ptx_add(&x, "%c", *s);
    }
    return x.data ? x.data : ptx_copy("", 0);
}

bool ptx_begins(const char *s, const char *with) { return strncmp(s, with, strlen(with)) == 0; }

bool ptx_one_of(const char *word, const char *words, size_t n) {
    size_t length = strlen(word);
    for (const char *end = words + n; words < end;) {
        const char *bar = memchr(words, '|', (size_t)(end - words));
        size_t k = (size_t)((bar ? bar : end) - words);
        if (k == length && memcmp(words, word, k) == 0) return true;
        if (k && words[k - 1] == '*' && k <= length && memcmp(words, word, k - 1) == 0) return true;
        words += k + 1;
    }
    return false;
}

static const ptx_type types[] = {
    {"pred", 1, PTX_PRED, "bool", "bool", NULL},
    {"b8", 8, PTX_BITS, "uint8_t", "uint8_t", NULL},
    {"u8", 8, PTX_UNSIGNED, "uint8_t", "uint8_t", NULL},
    {"s8", 8, PTX_SIGNED, "int8_t", "uint8_t", NULL},
    {"b16", 16, PTX_BITS, "uint16_t", "uint16_t", NULL},
    {"u16", 16, PTX_UNSIGNED, "uint16_t", "uint16_t", NULL},
    {"s16", 16, PTX_SIGNED, "int16_t", "uint16_t", NULL},
    {"f16", 16, PTX_BITS, "uint16_t", "uint16_t", NULL},
    {"bf16", 16, PTX_BITS, "uint16_t", "uint16_t", NULL},
    {"e4m3x2", 16, PTX_BITS, "uint16_t", "uint16_t", NULL},
    {"e5m2x2", 16, PTX_BITS, "uint16_t", "uint16_t", NULL},
    {"b32", 32, PTX_BITS, "uint32_t", "uint32_t", NULL},
    {"u32", 32, PTX_UNSIGNED, "uint32_t", "uint32_t", NULL},
    {"s32", 32, PTX_SIGNED, "int32_t", "uint32_t", NULL},
    {"f32", 32, PTX_FLOAT, "float", "float", NULL},
    {"tf32", 32, PTX_BITS, "uint32_t", "uint32_t", NULL},
    {"f16x2", 32, PTX_BITS, "uint32_t", "uint32_t", "f16"},
    {"bf16x2", 32, PTX_BITS, "uint32_t", "uint32_t", "bf16"},
    {"u16x2", 32, PTX_BITS, "uint32_t", "uint32_t", "u16"},
    {"s16x2", 32, PTX_BITS, "uint32_t", "uint32_t", "s16"},
    {"b64", 64, PTX_BITS, "uint64_t", "uint64_t", NULL},
    {"u64", 64, PTX_UNSIGNED, "uint64_t", "uint64_t", NULL},
    {"s64", 64, PTX_SIGNED, "int64_t", "uint64_t", NULL},
    {"f64", 64, PTX_FLOAT, "double", "double", NULL},
    {"b128", 128, PTX_BITS, "qe_b128", "qe_b128", NULL},
};

const ptx_type *ptx_type_find(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strlen(types[i].name) == length && memcmp(types[i].name, name, length) == 0)
            return &types[i];
    return NULL;
}

const ptx_type *ptx_named(const char *name) {
    const ptx_type *t = ptx_type_find(name, strlen(name));
    if (!t) ptx_stop("ptx2c: a rule names the type `%s`, which does not exist", name);
    return t;
}
