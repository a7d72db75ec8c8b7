/* emu_fault.c — memory that must not be touched: device memory by host code, wild pointers in
 * kernels, stacks that overflow.
 *
 * With guard=1, device memory is closed while host code runs, from the first cudaMalloc on. A
 * fault in a kernel becomes a finding that ends its launch, as on hardware; one in host code, which
 * could not go on, ends the process with the finding and the calls that led there.
 */
#include "kernels/emu/scheduler.h"

#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

enum { EXIT_FINDINGS = 86, SIGNAL_STACK = 64 << 10, FRAMES = 24, STEP = 1 << 20 };

static bool guarding, has_stack;
static struct sigaction others[2]; /* who handled SIGSEGV and SIGBUS before */
static uint32_t openings;
static char *reached; /* no allocation was ever behind it */
static const void *fault_address;
static bool fault_on_stack;

/* ---- a fault --------------------------------------------------------------------------------- */

/* The faulting kernel goes on here, on its own stack. */
static _Noreturn void end_launch(void) {
    qe_thread *t = qe_current();
    if (fault_on_stack) {
        qe_fatal(QE_BUG_LAUNCH, t, NULL, "the stack of a thread overflows (%zu bytes)",
                 qe_fiber_current()->bytes);
    }
    qe_fatal(QE_BUG_OOB_GLOBAL, t, NULL, "an access at %p, where no memory is", fault_address);
}

static void resume_in(ucontext_t *c, uintptr_t at, uintptr_t stack) {
#if defined(__x86_64__)
    c->uc_mcontext.gregs[REG_RIP] = (greg_t)at;
    c->uc_mcontext.gregs[REG_RSP] = (greg_t)(stack - 8);
#else
    c->uc_mcontext.pc = at;
    c->uc_mcontext.sp = stack;
#endif
}

static _Noreturn void end_process(const char *address) {
    char text[200];
    void *frames[FRAMES];
    char *base;
    size_t bytes;
    size_t offset = qe_memory_find(address, &base, &bytes) ? (size_t)(address - base) : 0;
    int n = snprintf(text, sizeof text,
                     "emulator: memory: host code touches device memory at %p (offset %zu of its "
                     "allocation)\n",
                     (const void *)address, offset);
    if (write(STDERR_FILENO, text, (size_t)n) > 0) {
        backtrace_symbols_fd(frames, backtrace(frames, FRAMES), STDERR_FILENO);
    }
    _exit(EXIT_FINDINGS);
}

static void on_fault(int signal, siginfo_t *info, void *context) {
    const char *address = info->si_addr;
    const qe_fiber *f = qe_fiber_current();
    if (qe_current()) {
        fault_address = address;
        fault_on_stack = address < f->stack && address >= f->stack - QE_STACK_GUARD;
        uintptr_t stack = ((uintptr_t)f->stack + f->bytes - 1024) & ~(uintptr_t)15;
        resume_in(context, (uintptr_t)end_launch, stack);
        return;
    }
    if (guarding && qe_is_global(address)) end_process(address);
    sigaction(signal, &others[signal == SIGBUS], NULL); /* it faults again */
}

static void handle(int signal, struct sigaction *other) {
    struct sigaction a = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK}, before;
    sigaction(signal, &a, &before);
    if (!(before.sa_flags & SA_SIGINFO) || before.sa_sigaction != on_fault) *other = before;
}

/* The handler has a stack of its own: a thread's may be what overflowed. */
static void make_stack(void) {
    stack_t before, stack = {.ss_size = SIGNAL_STACK};
    has_stack = sigaltstack(NULL, &before) == 0 && !(before.ss_flags & SS_DISABLE);
    if (has_stack) return;
    stack.ss_sp = malloc(SIGNAL_STACK);
    if (!stack.ss_sp || sigaltstack(&stack, NULL) != 0) abort();
    has_stack = true;
}

/* Test frameworks set handlers of their own before each test: asked for again and again. */
void qe_fault_open(void) {
    if (!has_stack) make_stack();
    handle(SIGSEGV, &others[0]);
    handle(SIGBUS, &others[1]);
}

/* ---- the guard ------------------------------------------------------------------------------- */

static void protect(char *from, const char *to, int protection) {
    if (from < to && mprotect(from, (size_t)(to - from), protection) != 0) abort();
}

void qe_guard_start(void) {
    if (guarding == qe_cfg.guard) return;
    guarding = qe_cfg.guard;
    qe_memory_open();
    bool closed = guarding && openings == 0;
    protect(qe_global_low, qe_global_high, closed ? PROT_NONE : PROT_READ | PROT_WRITE);
}

void qe_guard_reach(const char *end) {
    char *before = reached ? reached : qe_global_low;
    if (end <= before) return;
    size_t bytes = (size_t)(end - qe_global_low) / STEP * STEP + STEP;
    reached = qe_global_low + bytes;
    if (guarding && openings > 0) protect(before, reached, PROT_READ | PROT_WRITE);
}

void qe_guard_open(void) {
    if (openings++ == 0 && guarding) protect(qe_global_low, reached, PROT_READ | PROT_WRITE);
}

void qe_guard_close(void) {
    if (--openings == 0 && guarding) protect(qe_global_low, reached, PROT_NONE);
}
