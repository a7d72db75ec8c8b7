/* test_checkpoint_format.c — files that no save would write, though every digest agrees. */
#include "tests/checkpoint_helpers.h"

#include "io/checkpoint_parts.h"

#include <hdf5.h>
#include <stdio.h>
#include <string.h>

/* ---- HDF5 files that are not ours, behind a manifest that says they are ---------------------- */

typedef void spoil(hid_t file, hid_t tensors);

static void spoil_nothing(hid_t file, hid_t tensors) {
    (void)file;
    (void)tensors;
}

static hid_t make_set(hid_t where, const char *name, hid_t type, hsize_t n, hid_t options) {
    hid_t space = H5Screate_simple(1, &n, NULL);
    hid_t set = H5Dcreate2(where, name, type, space, H5P_DEFAULT, options, H5P_DEFAULT);
    static const float value[8] = {1, 2, 3, 4};
    assert_true(set >= 0);
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, value) >= 0);
    H5Sclose(space);
    H5Dclose(set);
    return options;
}

static hid_t options_with(hsize_t chunk, bool fletcher, bool shuffle) {
    hid_t o = H5Pcreate(H5P_DATASET_CREATE);
    assert_true(chunk == 0 || H5Pset_chunk(o, 1, &chunk) >= 0);
    if (shuffle) assert_true(H5Pset_shuffle(o) >= 0);
    if (fletcher) assert_true(H5Pset_fletcher32(o) >= 0);
    return o;
}

static void replace_set(hid_t tensors, hid_t type, hsize_t n, hid_t options) {
    assert_true(H5Ldelete(tensors, "w", H5P_DEFAULT) >= 0);
    H5Pclose(make_set(tensors, "w", type, n, options));
}

static void spoil_contiguous(hid_t file, hid_t tensors) {
    (void)file;
    replace_set(tensors, H5T_IEEE_F32LE, 4, options_with(0, false, false));
}
static void spoil_unfiltered(hid_t file, hid_t tensors) {
    (void)file;
    replace_set(tensors, H5T_IEEE_F32LE, 4, options_with(4, false, false));
}
static void spoil_shuffled(hid_t file, hid_t tensors) {
    (void)file;
    replace_set(tensors, H5T_IEEE_F32LE, 4, options_with(4, true, true));
}
static void spoil_shape(hid_t file, hid_t tensors) {
    (void)file;
    replace_set(tensors, H5T_IEEE_F32LE, 5, options_with(4, true, false));
}
static void spoil_type(hid_t file, hid_t tensors) {
    (void)file;
    replace_set(tensors, H5T_IEEE_F32BE, 4, options_with(4, true, false));
}
static void spoil_extra(hid_t file, hid_t tensors) {
    (void)file;
    H5Pclose(make_set(tensors, "x", H5T_IEEE_F32LE, 4, options_with(4, true, false)));
}
static void spoil_root(hid_t file, hid_t tensors) {
    (void)tensors;
    H5Pclose(make_set(file, "x", H5T_IEEE_F32LE, 4, options_with(4, true, false)));
}
static void spoil_soft(hid_t file, hid_t tensors) {
    (void)file;
    assert_true(H5Ldelete(tensors, "w", H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/tensors", tensors, "w", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}
static void spoil_external(hid_t file, hid_t tensors) {
    (void)file;
    assert_true(H5Ldelete(tensors, "w", H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_external("/etc/passwd", "/", tensors, "w", H5P_DEFAULT, H5P_DEFAULT) >=
                0);
}
static void spoil_group(hid_t file, hid_t tensors) {
    (void)file;
    assert_true(H5Ldelete(tensors, "w", H5P_DEFAULT) >= 0);
    H5Gclose(H5Gcreate2(tensors, "w", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void spoil_root_link(hid_t file, hid_t tensors) {
    (void)tensors;
    assert_true(H5Ldelete(file, "tensors", H5P_DEFAULT) >= 0);
    assert_true(H5Lcreate_soft("/", file, "tensors", H5P_DEFAULT, H5P_DEFAULT) >= 0);
}
static void spoil_virtual(hid_t file, hid_t tensors) {
    (void)file;
    hsize_t n = 4;
    hid_t o = H5Pcreate(H5P_DATASET_CREATE), space = H5Screate_simple(1, &n, NULL);
    assert_true(H5Pset_virtual(o, space, "/etc/passwd", "/w", space) >= 0);
    assert_true(H5Ldelete(tensors, "w", H5P_DEFAULT) >= 0);
    hid_t set = H5Dcreate2(tensors, "w", H5T_IEEE_F32LE, space, H5P_DEFAULT, o, H5P_DEFAULT);
    assert_true(set >= 0);
    H5Dclose(set);
    H5Sclose(space);
    H5Pclose(o);
}
static void spoil_value(hid_t file, hid_t tensors) {
    (void)file;
    static const float value[4] = {1, 2, 3, 5};
    hid_t set = H5Dopen2(tensors, "w", H5P_DEFAULT);
    assert_true(H5Dwrite(set, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, value) >= 0);
    H5Dclose(set);
}

/* Rewrites the manifest so that size and SHA-256 of model.h5 are right: only what comes after is
 * left. */
static void forge_manifest(const char *dir) {
    char *text, *h5;
    int64_t n_text, n_h5;
    size_t n_forged;
    qn_setup *arena = NULL;
    qni_manifest m;
    qn_assert_ok(qn_setup_create("test", &arena));
    qn_assert_ok(qn_file_read(file_in(dir, 1, "manifest.json"), 1 << 20, &text, &n_text));
    qn_assert_ok(qni_manifest_parse(arena, "manifest", text, (size_t)n_text, &m));
    qn_free(text);
    qn_assert_ok(qn_file_read(file_in(dir, 1, "model.h5"), 1 << 20, &h5, &n_h5));
    m.bytes[QNI_MODEL] = n_h5;
    qn_sha256_hex(h5, (size_t)n_h5, m.sha256[QNI_MODEL]);
    qn_free(h5);
    qn_assert_ok(qni_manifest_write(&m, &text, &n_forged));
    qn_assert_ok(qn_file_replace(file_in(dir, 1, "manifest.json"), text, n_forged));
    qn_free(text);
    qn_setup_free(arena);
}

static void test_foreign_hdf5(void **state) {
    (void)state;
    static const struct {
        spoil *how;
        const char *message;
    } row[] = {
        {spoil_nothing, NULL},
        {spoil_contiguous, "chunked layout"},
        {spoil_unfiltered, "Fletcher-32"},
        {spoil_shuffled, "Fletcher-32 and no other"},
        {spoil_shape, "the shape"},
        {spoil_type, "the dtype"},
        {spoil_extra, "as many entries"},
        {spoil_root, "as many entries"},
        {spoil_soft, "not a link elsewhere"},
        {spoil_external, "not a link elsewhere"},
        {spoil_group, "cannot open w"},
        {spoil_root_link, "not a link elsewhere"},
        {spoil_virtual, "chunked layout"},
        {spoil_value, "XXH3-128"},
    };
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char *dir = qn_test_dir();
        float w[4] = {1, 2, 3, 4};
        qn_named t = named("w", w, QN_F32, QN_SHAPE(4));
        qn_checkpoint_info info = info_of(1);
        qn_checkpoint *c = NULL;
        qn_assert_ok(qn_checkpoint_save(dir, &info, &t, 1, NULL, 0, NULL, 0));
        hid_t latest = H5Pcreate(H5P_FILE_ACCESS);
        H5Pset_libver_bounds(latest, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
        hid_t file = H5Fopen(file_in(dir, 1, "model.h5"), H5F_ACC_RDWR, latest);
        hid_t tensors = H5Gopen2(file, "tensors", H5P_DEFAULT);
        assert_true(tensors >= 0);
        row[i].how(file, tensors);
        H5Gclose(tensors);
        assert_true(H5Fclose(file) >= 0);
        H5Pclose(latest);
        forge_manifest(dir);
        qn_assert_ok(qn_checkpoint_open(file_in(dir, 1, ""), QN_CHECKPOINT_MODEL, &c));
        qn_status status = qn_checkpoint_load(c, QN_CHECKPOINT_MODEL, &t, 1);
        if (row[i].message) {
            assert_refused(status, QN_ERR_FORMAT, row[i].message);
        } else {
            qn_assert_ok(status);
        }
        qn_checkpoint_close(c);
        assert_int_equal(H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL), 0);
        qn_test_dir_remove(dir);
    }
}

/* ---- manifest -------------------------------------------------------------------------------- */

/* Every edit that keeps the manifest's own digest right must still be refused by the parser. */
static void test_manifest_refusals(void **state) {
    (void)state;
    static const struct {
        const char *from, *to, *message;
    } row[] = {
        {"quern checkpoint", "quern checkpoin", "format"},
        {"\"version\": 1", "\"version\": 2", "found 2, this Quern reads 1"},
        {"\"version\": 1", "\"version\": \"1\"", "version"},
        {"\"version\": 1", "\"version\": 1, \"version\": 1", "version"},
        {"0123456789abcdef0123456789abcdef", "0123456789ABCDEF0123456789abcdef", "run_id"},
        {"\"step\": 1", "\"step\": -1", "step"},
        {"\"step\": 1", "\"step\": 1.5", "step"},
        {"\"step\": 1", "\"step\": 9223372036854775808", "step"},
        {"\"world_size\": 1", "\"world_size\": 0", "world_size"},
        {"\"build_id\": \"test\"", "\"build_id\": 7", "build_id"},
        {"\"config_digest\"", "\"Config_digest\"", "config_digest"},
        {"\"state\": ", "\"state\": [], \"s\": ", "state"},
        {"\"metadata\": ", "\"m\": ", "metadata"},
        {"\"name\": \"state.h5\"", "\"name\": \"model.h5\"", "name"},
        {"\"files\": [\n", "\"files\": [\n{}, ", "files"},
        {"\"files\": [\n", "\"files\": [], \"f\": [\n", "files"},
        {"\"files\": [\n", "\"files\": 1, \"f\": [\n", "files"},
        {"\"bytes\": ", "\"bytes\": -", "bytes"},
        {"\"sha256\": \"", "\"sha256\": \"0", "sha256"},
        {"\"tensors\": [\n", "\"tensors\": {}, \"t\": [\n", "tensors"},
        {"\"tensors\": [\n", "\"tensors\": [\n1, ", "tensor 0: \"file\""},
        {"\"file\": \"model.h5\"", "\"file\": \"../x.h5\"", "tensor 0: \"file\""},
        {"\"name\": \"b\"", "\"name\": \"a\"", "tensor 1: \"name\""},
        {"\"name\": \"b\"", "\"name\": \"A\"", "tensor 1: \"name\""},
        {"\"name\": \"a\"", "\"name\": \"a/b\"", "tensor 0: \"name\""},
        {"\"name\": \"a\"", "\"name\": 1", "tensor 0: \"name\""},
        {"\"file\": \"state.h5\"", "\"file\": \"model.h5\"", NULL}, /* legal as text */
        {"\"dtype\": \"f32\"", "\"dtype\": \"f33\"", "dtype"},
        {"\"dtype\": \"f32\"", "\"dtype\": 32", "dtype"},
        {"\"shape\": [2]", "\"shape\": 2", "shape"},
        {"\"shape\": [2]", "\"shape\": [-2]", "shape"},
        {"\"shape\": [2]", "\"shape\": [2.5]", "shape"},
        {"\"shape\": [2]", "\"shape\": [4611686018427387904, 4]", "possible"},
        {"\"shape\": [2]", "\"shape\": [0, 4611686018427387904, 4]", "possible"},
        {"\"shape\": [2]", "\"shape\": [1000000]", "fits its file"},
        {"\"shape\": [2]", "\"shape\": [1,1,1,1,1,1,2]", "shorter list"},
        {"\"xxh3_128\": \"", "\"xxh3_128\": \"zz", "xxh3_128"},
        {"{\n\"format\"", "[{\n\"format\"", ""},
    };
    char *dir = qn_test_dir(), *text;
    int64_t n_text;
    float w[2] = {1, 2};
    qn_named t[2] = {named("a", w, QN_F32, QN_SHAPE(2)), named("b", w, QN_F32, QN_SHAPE(2))};
    qn_named u = named("c", w, QN_F32, QN_SHAPE(2));
    qn_checkpoint_info info = info_of(1);
    qn_assert_ok(qn_checkpoint_save(dir, &info, t, 2, &u, 1, NULL, 0));
    qn_assert_ok(qn_file_read(file_in(dir, 1, "manifest.json"), 1 << 20, &text, &n_text));
    const size_t body = (size_t)n_text - strlen("\"sha256\": \"") - 64 - strlen("\"\n}\n");
    for (size_t i = 0; i < sizeof row / sizeof row[0]; i++) {
        char forged[8192], digest[QN_SHA256_HEX];
        const char *at = strstr(text, row[i].from);
        if (!at) fail_msg("row %zu: no %s", i, row[i].from);
        int n = snprintf(forged, sizeof forged, "%.*s%s%.*s", (int)(at - text), text, row[i].to,
                         (int)(text + body - at - strlen(row[i].from)), at + strlen(row[i].from));
        qn_sha256_hex(forged, (size_t)n, digest);
        n += snprintf(forged + n, sizeof forged - (size_t)n, "\"sha256\": \"%s\"\n}\n", digest);
        qn_setup *arena = NULL;
        qni_manifest m;
        qn_assert_ok(qn_setup_create("test", &arena));
        qn_status status = qni_manifest_parse(arena, "manifest.json", forged, (size_t)n, &m);
        if (row[i].message) {
            assert_refused(status, QN_ERR_FORMAT, row[i].message);
        } else {
            qn_assert_ok(status);
        }
        qn_setup_free(arena);
    }
    qn_free(text);
    qn_test_dir_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_foreign_hdf5),
        cmocka_unit_test(test_manifest_refusals),
    };
    return cmocka_run_group_tests_name("checkpoint_format", tests, NULL, NULL);
}
