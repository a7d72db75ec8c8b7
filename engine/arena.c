/* arena.c — memory: set-up allocations with failure injection, bump arenas, device arenas. */
#include "engine/engine.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- set-up allocations ---------------------------------------------------------------------- */

static _Atomic int64_t alloc_count;
static _Atomic int64_t fail_at = -1; /* -1: QUERN_FAIL_ALLOC not read yet; 0: never */
static _Atomic bool fail_onward;

static void read_injection(void) {
    const char *text = getenv("QUERN_FAIL_ALLOC");
    char *end = NULL;
    long long n = text ? strtoll(text, &end, 10) : 0;
    atomic_store(&fail_onward, end && *end == '+');
    atomic_store(&fail_at, n > 0 ? n : 0);
}

static bool injected_failure(void) {
    if (atomic_load(&fail_at) < 0) read_injection();
    int64_t n = atomic_fetch_add(&alloc_count, 1) + 1, at = atomic_load(&fail_at);
    return at > 0 && (n == at || (atomic_load(&fail_onward) && n > at));
}

static void *out_of_memory(size_t bytes, const char *what) {
    (void)qn_fail(QN_ERR_OOM, "out of memory: %zu bytes for %s", bytes, what);
    return NULL;
}

void *qn_alloc(size_t bytes, const char *what) {
    void *p = injected_failure() ? NULL : calloc(1, bytes ? bytes : 1);
    return p ? p : out_of_memory(bytes, what);
}

void *qn_realloc(void *old, size_t old_bytes, size_t new_bytes, const char *what) {
    char *p = injected_failure() ? NULL : realloc(old, new_bytes ? new_bytes : 1);
    if (!p) return out_of_memory(new_bytes, what);
    if (new_bytes > old_bytes) memset(p + old_bytes, 0, new_bytes - old_bytes);
    return p;
}

void qn_free(void *p) { free(p); }

char *qn_strdup(const char *s, const char *what) {
    size_t n = strlen(s) + 1;
    char *p = qn_alloc(n, what);
    if (p) memcpy(p, s, n);
    return p;
}

char *qn_sprintf(const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *p = n >= 0 ? qn_alloc((size_t)n + 1, "a text") : NULL;
    if (p) vsnprintf(p, (size_t)n + 1, format, again);
    va_end(again);
    return p;
}

int64_t qn_alloc_count(void) { return atomic_load(&alloc_count); }

/* ---- set-up arena ---------------------------------------------------------------------------- */

typedef struct chunk {
    struct chunk *next;
    size_t used, size;
} chunk;

struct qn_setup {
    const char *name;
    chunk *head;
    size_t bytes;
};

enum { CHUNK_BYTES = 64 * 1024, CHUNK_HEAD = (sizeof(chunk) + 15) & ~(size_t)15 };

qn_status qn_setup_create(const char *name, qn_setup **out) {
    qn_setup *s = qn_alloc(sizeof *s, name);
    if (!s) return QN_ERR_OOM;
    s->name = name;
    *out = s;
    return QN_OK;
}

void *qn_setup_alloc(qn_setup *s, size_t bytes) {
    if (bytes > SIZE_MAX / 2) return out_of_memory(bytes, s->name);
    bytes = (bytes + 15) & ~(size_t)15;
    if (!s->head || s->head->size - s->head->used < bytes) {
        size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;
        chunk *c = qn_alloc(CHUNK_HEAD + size, s->name);
        if (!c) return NULL;
        c->size = size;
        c->next = s->head;
        s->head = c;
    }
    void *p = (char *)s->head + CHUNK_HEAD + s->head->used;
    s->head->used += bytes;
    s->bytes += bytes;
    return p;
}

char *qn_setup_strdup(qn_setup *s, const char *text) {
    size_t n = strlen(text) + 1;
    char *p = qn_setup_alloc(s, n);
    if (p) memcpy(p, text, n);
    return p;
}

size_t qn_setup_bytes(const qn_setup *s) { return s->bytes; }

void qn_setup_free(qn_setup *s) {
    if (!s) return;
    for (chunk *c = s->head, *next; c; c = next) {
        next = c->next;
        qn_free(c);
    }
    qn_free(s);
}

/* ---- device arenas --------------------------------------------------------------------------- */

struct qn_arena {
    const qn_device_row *row;
    bool staging;
    void *base;
    size_t bytes;
};

static qn_status create(qn_device d, bool staging, const char *name, size_t bytes, qn_arena **out) {
    qn_status s = qn_device_open(d);
    if (s != QN_OK) return s;
    qn_arena *a = qn_alloc(sizeof *a, name);
    if (!a) return QN_ERR_OOM;
    *a = (qn_arena){.row = qn_device_get(d), .staging = staging, .bytes = bytes};
    size_t some = bytes ? bytes : 1;
    if (injected_failure()) {
        s = qn_fail(QN_ERR_OOM, "out of memory: %.1f MiB", (double)bytes / 1048576.0);
    } else {
        s = staging ? a->row->alloc_host(some, &a->base) : a->row->alloc(some, &a->base);
    }
    if (s != QN_OK) {
        qn_free(a);
        return qn_fail_prefix(s, "the %s arena", name);
    }
    *out = a;
    return QN_OK;
}

qn_status qn_arena_create(const char *name, size_t bytes, qn_arena **out) {
    return create(QN_CPU, false, name, bytes, out);
}

qn_status qn_arena_create_on(qn_device d, const char *name, size_t bytes, qn_arena **out) {
    return create(d, false, name, bytes, out);
}

qn_status qn_arena_create_staging(qn_device d, const char *name, size_t bytes, qn_arena **out) {
    return create(d, true, name, bytes, out);
}

void *qn_arena_base(const qn_arena *a) { return a->base; }
size_t qn_arena_bytes(const qn_arena *a) { return a->bytes; }

/* A device that cannot do it says so where the host next waits for it. */
void qn_arena_poison(qn_arena *a) { (void)a->row->fill(a->base, 0xFF, a->bytes, NULL); }

void qn_arena_free(qn_arena *a) {
    if (!a) return;
    size_t some = a->bytes ? a->bytes : 1;
    if (a->staging) {
        a->row->release_host(a->base, some);
    } else {
        a->row->release(a->base, some);
    }
    qn_free(a);
}

/* ---- checked arithmetic ---------------------------------------------------------------------- */

bool qn_mul_i64(int64_t a, int64_t b, int64_t *out) {
    return a >= 0 && b >= 0 && !__builtin_mul_overflow(a, b, out);
}

bool qn_add_i64(int64_t a, int64_t b, int64_t *out) {
    return a >= 0 && b >= 0 && !__builtin_add_overflow(a, b, out);
}
