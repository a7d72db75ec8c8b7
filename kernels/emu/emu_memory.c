/* emu_memory.c — device memory: one reserved stretch, allocations with gaps between them.
 *
 * Freed addresses rest for a while before they are used again, so that what still points there is
 * noticed; not longer, because the guard (emu_fault.c) pays for every page that was ever in use.
 */
#include "kernels/emu/scheduler.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GLOBAL_BYTES ((size_t)8 << 30)
enum { UNIT = 512, GAP = 512, FILLED_BYTES = 16 << 20, RESTING_BYTES = 32 << 20 };

typedef struct span {
    char *base;
    size_t bytes;
} span;

char *qe_global_low, *qe_global_high, *qe_shared_low, *qe_shared_high;
static span *live; /* by address */
static int64_t n_live, capacity;
static size_t used;
static char *cursor;

static char *reserve(size_t bytes) {
    char *p = mmap(NULL, bytes + QE_SHARED_STRIDE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort(); /* no address space: nothing can be emulated */
    uintptr_t at = ((uintptr_t)p + QE_SHARED_STRIDE - 1) / QE_SHARED_STRIDE * QE_SHARED_STRIDE;
    return p + (at - (uintptr_t)p);
}

void qe_memory_open(void) {
    if (qe_global_low) return;
    size_t shared = (size_t)QE_SHARED_STRIDE * QE_RESIDENT_BLOCKS;
    qe_global_low = reserve(GLOBAL_BYTES);
    qe_global_high = qe_global_low + GLOBAL_BYTES;
    qe_shared_low = reserve(shared);
    qe_shared_high = qe_shared_low + shared;
    cursor = qe_global_low + UNIT;
}

/* Index of the first allocation that begins behind p. */
static int64_t first_behind(const char *p) {
    int64_t low = 0, high = n_live;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (live[middle].base <= p)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Room for `need` bytes between `from` and the end; NULL if there is none. */
static char *find_room(char *from, size_t need) {
    int64_t i = first_behind(from);
    if (i > 0) {
        char *end = live[i - 1].base + (live[i - 1].bytes + UNIT - 1) / UNIT * UNIT + GAP;
        if (end > from) from = end;
    }
    for (;; i++) {
        char *limit = i < n_live ? live[i].base - GAP : qe_global_high - GAP;
        if (limit >= from && (size_t)(limit - from) >= need) return from;
        if (i == n_live) return NULL;
        from = live[i].base + (live[i].bytes + UNIT - 1) / UNIT * UNIT + GAP;
    }
}

void *qe_memory_alloc(size_t bytes) {
    qe_memory_open();
    size_t need = (bytes + UNIT - 1) / UNIT * UNIT;
    if (need < bytes || need > GLOBAL_BYTES || used + need > qe_cfg.memory) return NULL;
    if (need == 0) need = UNIT;
    if (n_live == capacity) {
        int64_t wider = capacity ? 2 * capacity : 64;
        span *p = realloc(live, (size_t)wider * sizeof *p);
        if (!p) return NULL;
        live = p;
        capacity = wider;
    }
    if ((size_t)(cursor - qe_global_low) > 2 * used + RESTING_BYTES) cursor = qe_global_low + UNIT;
    char *from = cursor + (qe_cfg.random_bases ? (size_t)qe_random(64) * UNIT : 0);
    char *p = find_room(from, need);
    if (!p) p = find_room(qe_global_low + UNIT, need);
    if (!p) return NULL;
    int64_t at = first_behind(p);
    memmove(&live[at + 1], &live[at], (size_t)(n_live - at) * sizeof *live);
    live[at] = (span){p, bytes};
    n_live++;
    used += need;
    cursor = p + need + GAP;
    qe_guard_reach(p + need);
    qe_guard_open();
    if (bytes <= FILLED_BYTES) memset(p, 0xFF, bytes);
    qe_guard_close();
    qe_check_alloc(p, bytes);
    return p;
}

bool qe_memory_free(void *p) {
    int64_t i = first_behind(p) - 1;
    if (i < 0 || live[i].base != p) return false;
    size_t need = (live[i].bytes + UNIT - 1) / UNIT * UNIT;
    qe_check_free(p, live[i].bytes);
    madvise((char *)(((uintptr_t)p + 4095) & ~(uintptr_t)4095),
            need > 8192 ? (need - 4096) & ~(size_t)4095 : 0, MADV_DONTNEED);
    used -= need ? need : UNIT;
    n_live--;
    memmove(&live[i], &live[i + 1], (size_t)(n_live - i) * sizeof *live);
    return true;
}

bool qe_memory_find(const void *p, char **base, size_t *bytes) {
    static int64_t last;
    const char *at = p;
    if (!(last < n_live && at >= live[last].base && at < live[last].base + live[last].bytes)) {
        last = first_behind(at) - 1;
        if (last < 0) {
            last = 0;
            return false;
        }
        if (at >= live[last].base + live[last].bytes) return false;
    }
    *base = live[last].base;
    *bytes = live[last].bytes;
    return true;
}

size_t qe_memory_used(void) { return used; }

void qe_memory_free_all(void) {
    while (n_live > 0) (void)qe_memory_free(live[n_live - 1].base);
}
