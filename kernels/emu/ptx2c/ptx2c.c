/* ptx2c.c — translates the PTX of a CUDA file to C for the machine of kernels/emu.
 *
 *     ptx2c IN.ptx OUT.c --file NAME.cu --arch 80|90
 *
 * NAME.cu is the file's path from the root of the project: what sites and #line name. One C
 * statement stands for each instruction. Whatever is unknown is reported, all of it, as
 * `NAME.cu:line: instruction: what`; then the exit code is 1 and OUT.c is not written.
 */
#include "kernels/emu/ptx2c/ptx2c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) ptx_stop("ptx2c: cannot open %s", path);
    ptx_text x = {0};
    char block[1 << 16];
    size_t n;
    x.data = ptx_alloc(1);
    while ((n = fread(block, 1, sizeof block - 1, f)) > 0) {
        block[n] = '\0';
        ptx_add(&x, "%s", block);
    }
    if (ferror(f)) ptx_stop("ptx2c: cannot read %s", path);
    fclose(f);
    return x.data;
}

static void write_file(const char *path, const char *text) {
    FILE *f = fopen(path, "wb");
    if (!f) ptx_stop("ptx2c: cannot create %s", path);
    bool written = fwrite(text, 1, strlen(text), f) == strlen(text);
    if (fclose(f) != 0 || !written) ptx_stop("ptx2c: cannot write %s", path);
}

int main(int argc, char **argv) {
    ptx_module m = {0};
    const char *paths[2] = {NULL, NULL};
    int n = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--file") == 0 && i + 1 < argc)
            m.shown = argv[++i];
        else if (strcmp(argv[i], "--arch") == 0 && i + 1 < argc)
            m.arch = (int)strtol(argv[++i], NULL, 10);
        else if (n < 2 && argv[i][0] != '-')
            paths[n++] = argv[i];
        else
            n = 3;
    }
    if (n != 2 || !m.shown || (m.arch != 80 && m.arch != 90)) {
        fprintf(stderr, "usage: ptx2c IN.ptx OUT.c --file NAME.cu --arch 80|90\n");
        return 2;
    }
    m.text = read_file(paths[0]);
    m.tokens = ptx_lex(m.shown, m.text);
    ptx_parse(&m);
    char *c = ptx_translate(&m);
    if (m.problems) {
        fprintf(stderr, "ptx2c: %d instructions of %s not translated\n", m.problems, m.shown);
        return 1;
    }
    write_file(paths[1], c);
    return 0;
}
