/* fiber.c — stacks and the switch between them: a thread of a kernel that waits keeps its own.
 *
 * The switch saves what the calling convention keeps across a call, nothing else, and makes no
 * system call. Stacks are mapped one by one below a guard page, kept in a pool, and start at
 * differing offsets so that a thousand of them do not compete for the same cache sets.
 */
#include "kernels/emu/scheduler.h"

#include <stdlib.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
enum { STACK_BYTES = 256 << 10, COLOURS = 16, COLOUR_BYTES = 256 };

/* void qe_fiber_swap(void **save, void *to): pushes the kept registers, stores the stack pointer
 * in *save, continues on `to`. */
void qe_fiber_swap(void **save, void *to);
#if defined(__x86_64__)
enum { SAVED_WORDS = 6 };
__asm__(".text\n"
        ".globl qe_fiber_swap\n"
        ".hidden qe_fiber_swap\n"
        ".type qe_fiber_swap,@function\n"
        "qe_fiber_swap:\n"
        "  pushq %rbp\n"
        "  pushq %rbx\n"
        "  pushq %r12\n"
        "  pushq %r13\n"
        "  pushq %r14\n"
        "  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n"
        "  popq %r14\n"
        "  popq %r13\n"
        "  popq %r12\n"
        "  popq %rbx\n"
        "  popq %rbp\n"
        "  ret\n"
        ".size qe_fiber_swap,.-qe_fiber_swap\n");
#elif defined(__aarch64__)
enum { SAVED_WORDS = 20, LINK_WORD = 11 };
__asm__(".text\n"
        ".globl qe_fiber_swap\n"
        ".hidden qe_fiber_swap\n"
        ".type qe_fiber_swap,%function\n"
        "qe_fiber_swap:\n"
        "  sub sp, sp, #160\n"
        "  stp x19, x20, [sp]\n"
        "  stp x21, x22, [sp, #16]\n"
        "  stp x23, x24, [sp, #32]\n"
        "  stp x25, x26, [sp, #48]\n"
        "  stp x27, x28, [sp, #64]\n"
        "  stp x29, x30, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]\n"
        "  stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]\n"
        "  stp d14, d15, [sp, #144]\n"
        "  mov x9, sp\n"
        "  str x9, [x0]\n"
        "  mov sp, x1\n"
        "  ldp x19, x20, [sp]\n"
        "  ldp x21, x22, [sp, #16]\n"
        "  ldp x23, x24, [sp, #32]\n"
        "  ldp x25, x26, [sp, #48]\n"
        "  ldp x27, x28, [sp, #64]\n"
        "  ldp x29, x30, [sp, #80]\n"
        "  ldp d8, d9, [sp, #96]\n"
        "  ldp d10, d11, [sp, #112]\n"
        "  ldp d12, d13, [sp, #128]\n"
        "  ldp d14, d15, [sp, #144]\n"
        "  add sp, sp, #160\n"
        "  ret\n"
        ".size qe_fiber_swap,.-qe_fiber_swap\n");
#else
#error "fiber.c knows the stacks of x86-64 and aarch64"
#endif

static qe_fiber host;
static qe_fiber *current = &host;
static qe_fiber *pool, *all;
static size_t stack_bytes = STACK_BYTES;

/* ---- the address sanitizer must know which stack is in use ----------------------------------- */

static void announce(qe_fiber *to, void **fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(fake_stack, to->stack, to->bytes);
#else
    (void)to;
    (void)fake_stack;
#endif
}

static void arrived(void *fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &bytes);
    if (!host.stack) { /* the first switch ever came from the host */
        host.stack = (char *)(uintptr_t)bottom;
        host.bytes = bytes;
    }
#else
    (void)fake_stack;
#endif
}

static void entry(void) {
    arrived(NULL);
    qe_fiber_main();
}

/* ---- stacks ---------------------------------------------------------------------------------- */

static void start_afresh(qe_fiber *f, uint32_t colour) {
    char *top = f->stack + f->bytes - 64 - (size_t)(colour % COLOURS) * COLOUR_BYTES;
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f->stack, f->bytes);
#endif
    /* `top` is a multiple of 16, so the entry finds its stack as after a call. */
    void **word = (void **)(uintptr_t)top;
#if defined(__x86_64__)
    word[0] = (void *)(uintptr_t)entry;
    word[1] = NULL; /* where a return address would be */
    word -= SAVED_WORDS;
    for (int i = 0; i < SAVED_WORDS; i++) word[i] = NULL;
#else
    word -= SAVED_WORDS;
    for (int i = 0; i < SAVED_WORDS; i++) word[i] = NULL;
    word[LINK_WORD] = (void *)(uintptr_t)entry;
#endif
    f->sp = word;
}

static qe_fiber *make(void) {
    qe_fiber *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    char *p = mmap(NULL, stack_bytes + QE_STACK_GUARD, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        free(f);
        return NULL;
    }
    if (mprotect(p, QE_STACK_GUARD, PROT_NONE) != 0) {
        munmap(p, stack_bytes + QE_STACK_GUARD);
        free(f);
        return NULL;
    }
    f->stack = p + QE_STACK_GUARD;
    f->bytes = stack_bytes;
    f->next_of_all = all;
    all = f;
    return f;
}

qe_fiber *qe_fiber_take(void) {
    qe_fiber *f = pool;
    if (f)
        pool = f->next;
    else
        f = make();
    if (f) start_afresh(f, (uint32_t)((uintptr_t)f->stack >> 12));
    return f;
}

void qe_fiber_switch(qe_fiber *to) {
    qe_fiber *from = current;
    if (to == from) return;
    current = to;
    announce(to, &from->fake_stack);
    qe_fiber_swap(&from->sp, to->sp);
    arrived(from->fake_stack);
}

void qe_fiber_leave(qe_fiber *to) {
    qe_fiber *from = current;
    from->next = pool;
    pool = from;
    current = to;
    announce(to, NULL);
    qe_fiber_swap(&from->sp, to->sp);
    __builtin_unreachable();
}

qe_fiber *qe_fiber_current(void) { return current; }
qe_fiber *qe_fiber_host(void) { return &host; }

void qe_fiber_reset(size_t bytes) {
    if (bytes > stack_bytes) {
        stack_bytes = (bytes + 4095) / 4096 * 4096;
        while (all) {
            qe_fiber *f = all;
            all = f->next_of_all;
            munmap(f->stack - QE_STACK_GUARD, f->bytes + QE_STACK_GUARD);
            free(f);
        }
    }
    pool = NULL;
    for (qe_fiber *f = all; f; f = f->next_of_all) {
        f->next = pool;
        pool = f;
    }
}
