/* check_state.c — the shadow of memory: which bytes may be used, which have been written.
 *
 * Every 8 bytes of device and shared memory have a state of 16 bits and a grain, the record of the
 * last accesses. Both are reserved address space and take memory only where it is touched.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/emu/checker.h"

enum { USABLE = 0xff00, WRITTEN = 0x00ff };
#define NEAR_BYTES ((size_t)1 << 20)
#define ROOM       ((size_t)1 << 16) /* whose shadow is whole pages */

typedef struct span {
    char *base;
    size_t bytes;
} span;

qe_stretch qe_shadow_global, qe_shadow_shared;

static struct {
    span *live;
    size_t n_live, capacity;
    bool behind; /* memory was used while nobody watched */
} allocations;

/* ---- address space --------------------------------------------------------------------------- */

static void *reserve(size_t bytes) {
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) {
        fprintf(stderr, "emulator: the checker found no address space for %zu bytes\n", bytes);
        abort();
    }
    return p;
}

static void open_stretch(qe_stretch *s, char *low, char *high) {
    size_t n = (size_t)(high - low) / QE_GRAIN;
    *s = (qe_stretch){low, high, reserve(n * sizeof(qe_grain)), reserve(n * sizeof(uint16_t))};
}

static void open_shadow(void) {
    if (qe_shadow_global.low || !qe_global_low) return;
    open_stretch(&qe_shadow_global, qe_global_low, qe_global_high);
    open_stretch(&qe_shadow_shared, qe_shared_low, qe_shared_high);
}

/* Gives memory back; the grains read as zero: nothing happened there. */
static void forget_grains(const qe_stretch *s, size_t at, size_t bytes) {
    madvise(&s->grains[at / QE_GRAIN], bytes / QE_GRAIN * sizeof(qe_grain), MADV_DONTNEED);
}

/* Each byte's bits of `keep` stay, those of `value` are set. */
static void mark(qe_stretch *s, const char *p, size_t bytes, uint32_t keep, uint32_t value) {
    size_t at = (size_t)(p - s->low), end = at + bytes;
    while (at < end) {
        uint16_t *state = &s->state[at / QE_GRAIN];
        if (at % QE_GRAIN == 0 && end - at >= QE_GRAIN) {
            size_t n = (end - at) / QE_GRAIN;
            for (size_t i = 0; i < n; i++) state[i] = (uint16_t)((state[i] & keep) | value);
            at += n * QE_GRAIN;
            continue;
        }
        size_t n = QE_GRAIN - at % QE_GRAIN;
        if (n > end - at) n = end - at;
        uint32_t some = (((1u << n) - 1) << at % QE_GRAIN) * 0x101u;
        *state = (uint16_t)((*state & (keep | ~some)) | (value & some));
        at += n;
    }
}

/* ---- device memory --------------------------------------------------------------------------- */

static bool watching(void) { return qe_cfg.watch & QE_CHECK; }

void qe_check_alloc(const void *p, size_t bytes) {
    if (allocations.n_live == allocations.capacity) {
        size_t wider = allocations.capacity ? 2 * allocations.capacity : 64;
        span *live = realloc(allocations.live, wider * sizeof *live);
        if (!live) abort();
        allocations.live = live;
        allocations.capacity = wider;
    }
    allocations.live[allocations.n_live++] = (span){(char *)(uintptr_t)p, bytes};
    if (!watching()) {
        allocations.behind = true;
        return;
    }
    open_shadow();
    mark(&qe_shadow_global, p, bytes, 0, USABLE);
}

static bool is_written(const char *p) {
    size_t at = (size_t)(p - qe_shadow_global.low);
    return qe_shadow_global.state[at / QE_GRAIN] >> at % QE_GRAIN & 1;
}

void qe_check_copy(const void *to, const void *from, size_t bytes) {
    if (!qe_is_global(to) || !qe_is_global(from) || !watching() || allocations.behind) {
        qe_check_host_write(to, bytes);
        return;
    }
    open_shadow();
    const char *a = from, *b = to;
    bool backwards = b > a; /* as memmove does */
    for (size_t k = 0; k < bytes;) {
        size_t i = backwards ? bytes - 1 - k : k, n = 1;
        bool written = is_written(a + i);
        while (k + n < bytes && is_written(a + (backwards ? i - n : i + n)) == written) n++;
        mark(&qe_shadow_global, b + (backwards ? i + 1 - n : i), n, USABLE, written ? WRITTEN : 0);
        k += n;
    }
}

/* No allocation lies in the ROOM bytes at p. */
static bool is_vacant(const char *p) {
    for (size_t i = 0; i < allocations.n_live; i++) {
        const span *s = &allocations.live[i];
        if (s->base < p + ROOM && s->base + s->bytes > p) return false;
    }
    return true;
}

void qe_check_free(const void *p, size_t bytes) {
    for (size_t i = 0; i < allocations.n_live; i++) {
        if (allocations.live[i].base != p) continue;
        allocations.live[i] = allocations.live[--allocations.n_live];
        break;
    }
    if (!qe_shadow_global.low) return;
    mark(&qe_shadow_global, p, bytes, 0, 0);
    size_t at = (size_t)((const char *)p - qe_shadow_global.low), end = at + bytes;
    for (at -= at % ROOM; at < end; at += ROOM)
        if (is_vacant(qe_shadow_global.low + at)) forget_grains(&qe_shadow_global, at, ROOM);
}

void qe_check_host_write(const void *p, size_t bytes) {
    if (!qe_is_global(p)) return;
    if (!watching()) {
        allocations.behind = true;
        return;
    }
    open_shadow();
    mark(&qe_shadow_global, p, bytes, USABLE | WRITTEN, WRITTEN);
}

bool qe_shadow_near(const char *p, char **base, size_t *bytes) {
    size_t nearest = NEAR_BYTES;
    for (size_t i = 0; i < allocations.n_live; i++) {
        const span *s = &allocations.live[i];
        size_t distance = 0;
        if (p < s->base)
            distance = (size_t)(s->base - p);
        else if (p >= s->base + s->bytes)
            distance = (size_t)(p - s->base - s->bytes) + 1;
        if (distance >= nearest) continue;
        nearest = distance;
        *base = s->base;
        *bytes = s->bytes;
    }
    return nearest < NEAR_BYTES;
}

/* ---- launches and blocks --------------------------------------------------------------------- */

void qe_shadow_begin(const qe_launch *l, bool forget_epochs) {
    if (!(l->watch & QE_CHECK)) {
        allocations.behind = true;
        return;
    }
    open_shadow();
    if (forget_epochs) {
        forget_grains(&qe_shadow_global, 0, (size_t)(qe_global_high - qe_global_low));
        forget_grains(&qe_shadow_shared, 0, (size_t)(qe_shared_high - qe_shared_low));
    }
    if (allocations.behind) /* what a launch that was not watched wrote is unknown: all of it */
        for (size_t i = 0; i < allocations.n_live; i++)
            mark(&qe_shadow_global, allocations.live[i].base, allocations.live[i].bytes, 0,
                 USABLE | WRITTEN);
    allocations.behind = false;
}

void qe_shadow_block(const qe_block *b) {
    static span before[QE_RESIDENT_BLOCKS]; /* what the last block in this place used */
    span *last = &before[(b->window - qe_shared_low) / QE_SHARED_STRIDE];
    if (last->base) mark(&qe_shadow_shared, last->base, last->bytes, 0, 0);
    *last = (span){b->window + b->shared_low, b->shared_bytes};
    mark(&qe_shadow_shared, last->base, last->bytes, 0, USABLE);
}
