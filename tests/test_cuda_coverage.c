/* test_cuda_coverage.c — every PTX instruction of every shipped kernel instance ran in some test.
 *
 * Runs by hand behind the other tests of the emulated build, which leave what they ran in a folder:
 *   export QUERN_EMU_COVERAGE=$(mktemp -d)
 *   run the tests, on device=8.0 and 9.0, then this program
 */
#include "tests/harness.h"

#ifdef QUERN_EMULATED
#include "kernels/emu/machine.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Instructions that no test can make run: a part of the kernel's name ("" = any), how the
 * instruction begins, and why. */
static const struct {
    const char *kernel, *ptx, *why;
} exceptions[] = {
    {"", "trap", "ends a kernel that is wrong"},
};
enum { N_EXCEPTIONS = sizeof exceptions / sizeof *exceptions, SHOWN = 4 };

static int read_folder(const char *folder) {
    char path[4096];
    int files = 0;
    DIR *d = opendir(folder);
    if (!d) return 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (strncmp(e->d_name, "coverage.", 9) != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (!qe_coverage_read(path)) fail_msg("%s is no file of coverage", path);
        files++;
    }
    closedir(d);
    return files;
}

typedef struct tally {
    int64_t instructions, missed, excused[N_EXCEPTIONS];
    const qe_module *module; /* the present one, and what is counted of it */
    int64_t in_module, missed_in_module;
} tally;

static void end_module(tally *t) {
    if (t->module && t->missed_in_module) {
        print_message("%s sm_%u: %lld of %lld instructions never ran\n", t->module->file,
                      t->module->arch, (long long)t->missed_in_module, (long long)t->in_module);
    }
    t->in_module = t->missed_in_module = 0;
}

static void take(void *context, const qe_module *m, const qe_kernel *k, const qe_site *site,
                 uint64_t runs) {
    tally *t = context;
    const char *name = k ? k->name : "";
    if (m != t->module) end_module(t);
    t->module = m;
    t->instructions++;
    t->in_module++;
    if (runs) return;
    for (int i = 0; i < N_EXCEPTIONS; i++) {
        const char *ptx = exceptions[i].ptx;
        if (!strstr(name, exceptions[i].kernel) || strncmp(site->ptx, ptx, strlen(ptx)) != 0)
            continue;
        t->excused[i]++;
        return;
    }
    t->missed++;
    if (t->missed_in_module++ >= SHOWN) return;
    print_message("  %s sm_%u %s: %s:%u: %s\n", m->file, m->arch, name, site->cu ? site->cu : "",
                  site->cu ? site->cu_line : 0, site->ptx);
}

static void every_instruction_runs(void **state) {
    (void)state;
    const char *folder = getenv("QUERN_EMU_COVERAGE");
    if (!qn_cuda_usable()) skip(); /* asked for, too, so that the kernels are linked */
    int files = folder ? read_folder(folder) : 0;
    if (files == 0) {
        print_message("no other test has left in QUERN_EMU_COVERAGE what it ran\n");
        skip();
    }
    tally t = {0};
    qe_coverage(take, &t);
    end_module(&t);
    print_message("%lld instructions, %lld never ran; %d test programs\n",
                  (long long)t.instructions, (long long)t.missed, files);
    assert_true(t.instructions > 0);
    if (t.missed) fail_msg("%lld instructions never ran", (long long)t.missed);
    for (int i = 0; i < N_EXCEPTIONS; i++) {
        if (t.excused[i]) continue;
        fail_msg("nothing is excused by \"%s\": %s", exceptions[i].ptx, exceptions[i].why);
    }
}

#else

static void every_instruction_runs(void **state) {
    (void)state;
    print_message("instructions are counted on the emulated GPU only\n");
    skip();
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_instruction_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
