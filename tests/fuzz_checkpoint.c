/* fuzz_checkpoint.c — libFuzzer harness for the checkpoint reader, behind its digests.
 *
 * Built with -DQN_FUZZ, which leaves out the check of the manifest's own SHA-256; file digests are
 * not asked for here either. An input that begins like HDF5 is read as a tensor file (faults inside
 * libhdf5 are noted, not counted: in real use a SHA-256 stands before it); any other is a manifest.
 * With QUERN_FUZZ_SEEDS=DIR valid inputs are written there first. Built and run by
 * `tests/test_fuzz.sh checkpoint`.
 */
#include "io/checkpoint_parts.h"
#include "io/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WEIGHTS = 4 };

static void require(bool true_, const char *what) {
    if (true_) return;
    fprintf(stderr, "violated: %s: %s\n", what, qn_error_message());
    abort();
}

static void must(qn_status status, const char *what) { require(status == QN_OK, what); }

/* ---- seeds ----------------------------------------------------------------------------------- */

static void copy_seed(const char *from, const char *dir, const char *name) {
    char path[QN_PATH_MAX], *text = NULL;
    int64_t bytes;
    must(qn_path_format(path, sizeof path, "%s/checkpoints/step-00000003/%s", dir, from), "path");
    must(qn_file_read(path, 1 << 20, &text, &bytes), "read");
    must(qn_path_format(path, sizeof path, "%s/%s", dir, name), "path");
    must(qn_file_replace(path, text, (size_t)bytes), "seed");
    qn_free(text);
}

/* Every member of a manifest in turn under another name, and with other values before its own. */
static void write_variants(const char *dir, const char *name) {
    static const char *const inserted[] = {"-",
                                           "0.5, \"y\": ",
                                           "\"z\", \"y\": ",
                                           "\"state.h5\", \"y\": ",
                                           "[], \"y\": ",
                                           "[0.5], \"y\": ",
                                           "[1000000], \"y\": ",
                                           "[1, 2, 3, 4, 5, 6, 7], \"y\": ",
                                           "[4611686018427387904, 4], \"y\": ",
                                           "{}, \"y\": ",
                                           "9223372036854775807, \"y\": "};
    char path[QN_PATH_MAX], variant[8192], *text = NULL;
    int64_t bytes;
    int seed = 0;
    must(qn_path_format(path, sizeof path, "%s/%s", dir, name), "path");
    must(qn_file_read(path, sizeof variant / 2, &text, &bytes), "read");
    for (const char *p = text; (p = strstr(p, "\": ")); p += 3) {
        for (size_t i = 0; i <= sizeof inserted / sizeof inserted[0]; i++) {
            bool rename_it = i == sizeof inserted / sizeof inserted[0];
            int cut = (int)(p - text) + (rename_it ? -1 : 3);
            int n = snprintf(variant, sizeof variant, "%.*s%s%s", cut, text,
                             rename_it ? "_" : inserted[i], text + cut + rename_it);
            must(qn_path_format(path, sizeof path, "%s/%s-%d", dir, name, seed++), "path");
            must(qn_file_replace(path, variant, (size_t)n), "seed");
        }
    }
    qn_free(text);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    const char *dir = getenv("QUERN_FUZZ_SEEDS");
    if (!dir) return 0;
    float w[WEIGHTS] = {1, 2, 3, 4};
    uint16_t h[WEIGHTS] = {0};
    int64_t n = 5;
    const qn_named model[] = {{"h", qn_tensor_make(h, QN_BF16, QN_SHAPE(2, 2))},
                              {"w", qn_tensor_make(w, QN_F32, QN_SHAPE(WEIGHTS))}};
    const qn_named state[] = {{"empty", qn_tensor_make(NULL, QN_F16, QN_SHAPE(3, 0))},
                              {"n", qn_tensor_make(&n, QN_I64, 0, NULL)}};
    const qn_checkpoint_info info = {.run_id = "00112233445566778899aabbccddeeff",
                                     .step = 3,
                                     .world_size = 1,
                                     .state = "step 3\n\"quoted\"",
                                     .metadata = "{}",
                                     .config_digest = "c",
                                     .build_id = "b"};
    must(qn_checkpoint_save(dir, &info, model, 2, state, 2, NULL, 0), "save");
    copy_seed("manifest.json", dir, "manifest");
    copy_seed("model.h5", dir, "model");
    write_variants(dir, "manifest");
    must(qn_checkpoint_save(dir, &info, NULL, 0, NULL, 0, NULL, 0), "save");
    copy_seed("manifest.json", dir, "manifest-empty");
    char path[QN_PATH_MAX];
    must(qn_path_format(path, sizeof path, "%s/checkpoints", dir), "path");
    must(qn_tree_remove(path), "remove");
    return 0;
}

/* ---- a manifest: refused, or good for another round ------------------------------------------ */

static void check_entries(const qni_manifest *m) {
    require(m->first[0] == 0 && m->first[0] <= m->first[1] && m->first[1] <= m->first[2], "ranges");
    for (int i = 0; i < m->first[QNI_FILES]; i++) {
        const qni_entry *e = &m->entry[i];
        require(e->file == (i >= m->first[QNI_STATE]), "entries belong to their file");
        require(qni_name_is_good(e->name), "names are good");
        require((int64_t)qn_tensor_bytes(&e->t) <= m->bytes[e->file], "tensors fit their files");
        require(i == 0 || e[-1].file != e->file || strcmp(e[-1].name, e->name) < 0, "names ascend");
    }
}

static void try_manifest(const uint8_t *data, size_t size) {
    char *text = NULL, digest[2][QN_DIGEST_SIZE];
    size_t bytes = 0;
    qn_setup *arena = NULL;
    qni_manifest m, again;
    must(qn_setup_create("fuzz", &arena), "arena");
    if (qni_manifest_parse(arena, "manifest", (const char *)data, size, &m) == QN_OK) {
        check_entries(&m);
        must(qni_digest(&m, digest[0]), "digest");
        must(qni_manifest_write(&m, &text, &bytes), "write");
        must(qni_manifest_parse(arena, "again", text, bytes, &again), "what was written is read");
        must(qni_digest(&again, digest[1]), "digest");
        require(strcmp(digest[0], digest[1]) == 0, "both mean the same");
        qn_free(text);
    }
    qn_setup_free(arena);
}

/* ---- a tensor file: refused, or the tensors that were asked for ------------------------------ */

static void try_hdf5(const uint8_t *data, size_t size) {
    float w[WEIGHTS];
    uint16_t h[WEIGHTS];
    qni_entry entry[] = {
        {.file = QNI_MODEL, .name = "h", .t = qn_tensor_make(NULL, QN_BF16, QN_SHAPE(2, 2))},
        {.file = QNI_MODEL, .name = "w", .t = qn_tensor_make(NULL, QN_F32, QN_SHAPE(WEIGHTS))}};
    qni_hdf5 *file = NULL;
    int fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0) return;
    must(qn_file_write(fd, data, size, "memory"), "copy");
    if (qni_hdf5_open(fd, "fuzz", (int64_t)size, entry, 2, &file) == QN_OK) {
        qn_status ignored = qni_hdf5_read(file, 0, h);
        ignored = qni_hdf5_read(file, 1, w);
        (void)ignored;
    }
    qni_hdf5_close(file);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char signature[] = "\211HDF\r\n\032\n";
    if (size >= 8 && memcmp(data, signature, 8) == 0) {
        try_hdf5(data, size);
    } else {
        try_manifest(data, size);
    }
    return 0;
}
