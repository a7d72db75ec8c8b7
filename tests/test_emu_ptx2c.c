/* test_emu_ptx2c.c — what the translator refuses: it names the line, the instruction and what is
 * unknown of it, for every such instruction, writes nothing and exits with 1.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static const char head[] = ".version 9.0\n.target sm_90a\n.address_size 64\n";

typedef struct folder {
    char path[64], ptx[96], c[96];
} folder;

static int set_up(void **state) {
    folder *f = calloc(1, sizeof *f);
    if (!f) return -1;
    strcpy(f->path, "/tmp/quern-ptx2c-XXXXXX");
    if (!mkdtemp(f->path)) return -1;
    snprintf(f->ptx, sizeof f->ptx, "%s/x.ptx", f->path);
    snprintf(f->c, sizeof f->c, "%s/x.c", f->path);
    *state = f;
    return 0;
}
static int tear_down(void **state) {
    folder *f = *state;
    unlink(f->ptx);
    unlink(f->c);
    rmdir(f->path);
    free(f);
    return 0;
}

/* Translates the text; returns the exit status, what was printed in said. */
static int translate(const folder *f, const char *text, char *said, size_t capacity) {
    char command[512];
    const char *slash = strrchr(QUERN_BINARY, '/');
    FILE *ptx = fopen(f->ptx, "w");
    assert_non_null(ptx);
    assert_true(fprintf(ptx, "%s%s", head, text) > 0);
    assert_int_equal(fclose(ptx), 0);
    snprintf(command, sizeof command, "%.*s/ptx2c %s %s --file kernels/x.cu --arch 90 2>&1",
             (int)(slash - QUERN_BINARY), QUERN_BINARY, f->ptx, f->c);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    size_t n = fread(said, 1, capacity - 1, p);
    said[n] = '\0';
    int status = pclose(p);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_good(void **state) {
    char said[1024];
    assert_int_equal(translate(*state, ".visible .entry k() { ret; }\n", said, sizeof said), 0);
    assert_string_equal(said, "");
    assert_int_equal(access(((folder *)*state)->c, F_OK), 0);
}

static void test_all_unknown(void **state) {
    static const char text[] = ".visible .entry k()\n" /* line 4 */
                               "{\n"
                               ".reg .b32 %r<4>;\n"
                               ".reg .pred %p;\n"
                               "frobnicate.b32 %r1, %r2;\n" /* 8 */
                               "add.s32 %r1, %r2, %r3;\n"
                               "add.weird.s32 %r1, %r2, %r3;\n"
                               "add.s77 %r1, %r2, %r3;\n"
                               "@%p\tmul.lo.s32 %r1,\n %r2;\n" /* 12 */
                               "mov.u32 %r1, %nothing;\n"
                               "setp.equ.s32 %p, %r1, %r2;\n"
                               "add.s32 %p, %r1, %r2;\n"
                               "bra nowhere;\n"
                               "call.uni malloc, (%r1);\n"
                               "cvt.rn.s32.f32 %r1, %r2;\n"
                               "ret;\n"
                               "}\n";
    static const char *const expected[] = {
        "kernels/x.cu:8: frobnicate.b32 %r1, %r2: unknown opcode `frobnicate`\n",
        "kernels/x.cu:10: add.weird.s32 %r1, %r2, %r3: unknown modifier `.weird`\n",
        "kernels/x.cu:11: add.s77 %r1, %r2, %r3: unknown modifier `.s77`\n",
        "kernels/x.cu:12: @%p mul.lo.s32 %r1, %r2: 2 operands",
        "kernels/x.cu:14: mov.u32 %r1, %nothing: the name `%nothing` is unknown\n",
        "kernels/x.cu:15: setp.equ.s32 %p, %r1, %r2: unknown comparison `.equ` of .s32\n",
        "kernels/x.cu:16: add.s32 %p, %r1, %r2: `%p` is of type .pred, expected .s32\n",
        "kernels/x.cu:17: bra nowhere: no label `nowhere`\n",
        "kernels/x.cu:18: call.uni malloc, (%r1): ",
        "kernels/x.cu:19: cvt.rn.s32.f32 %r1, %r2: no rounding to an integer\n",
        "ptx2c: ",
    };
    char said[4096];
    const char *at = said;
    assert_int_equal(translate(*state, text, said, sizeof said), 1);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const char *found = strstr(at, expected[i]);
        if (!found) fail_msg("expected %s\nin %s", expected[i], said);
        at = found;
    }
    assert_int_not_equal(access(((folder *)*state)->c, F_OK), 0);
}

/* With debug information the line is the project's, wherever the code was inlined from. */
static void test_lines(void **state) {
    static const char text[] =
        ".visible .entry k()\n{\n.reg .b32 %r<4>;\n"
        ".loc 1 20 3\nbad1.b32 %r1, %r2;\n"
        ".loc 2 99 1, function_name $L1, inlined_at 1 21 5\nbad2.b32 %r1, %r2;\n"
        ".loc 3 7 1, function_name $L1, inlined_at 1 22 5\nbad3.b32 %r1, %r2;\n"
        ".loc 2 50 1, function_name $L1, inlined_at 3 7 1\nbad4.b32 %r1, %r2;\n"
        "ret;\n}\n"
        ".file 1 \"/somewhere/kernels/x.cu\"\n"
        ".file 2 \"/usr/include/cuda_bf16.hpp\"\n"
        ".file 3 \"/somewhere/kernels/common.cuh\"\n"
        ".section .debug_str\n{\n}\n";
    char said[4096];
    assert_int_equal(translate(*state, text, said, sizeof said), 1);
    assert_non_null(strstr(said, "kernels/x.cu:20: bad1"));
    assert_non_null(strstr(said, "kernels/x.cu:21: bad2"));
    assert_non_null(strstr(said, "kernels/common.cuh:7: bad3"));
    assert_non_null(strstr(said, "kernels/common.cuh:7: bad4"));
}

static void test_what_cannot_be_read(void **state) {
    static const char *const texts[][2] = {
        {".visible .entry k() { .reg .q32 %r; ret; }\n", "unknown type `.q32`"},
        {".visible .entry k() { add.s32 [; }\n", "unexpected `;`"},
        {".visible .entry k() { ret;\n", "unexpected end of the file"},
        {".extern .global .align 4 .b32 elsewhere;\n", "`elsewhere` is defined elsewhere"},
        {".weird\n", "unexpected `.weird`"},
    };
    char said[1024];
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_int_equal(translate(*state, texts[i][0], said, sizeof said), 1);
        if (!strstr(said, texts[i][1])) fail_msg("expected %s in %s", texts[i][1], said);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_unknown, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_cannot_be_read, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
