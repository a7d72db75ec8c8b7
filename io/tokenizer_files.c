/* tokenizer_files.c — the files a tokenizer is made of: finding, reading, and keeping them.
 *
 * A tokenizer is what its files say, so a checkpoint keeps the files: {"type":"files","files":
 * [{"name":"tokenizer.json","size":N,"deflate":"BASE64"},...]}, each deflated (RFC 1950).
 */
#include "io/file.h"
#include "io/tokenizer_parts.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#define ZLIB_CONST
#include <zlib.h>

/* Read beside the main file where they are there. */
static const char *const companions[] = {"tokenizer_config.json", "special_tokens_map.json",
                                         "added_tokens.json", "chat_template.jinja"};
/* What a directory may hold, the first that is there; the second file belongs to the first. */
static const char *const forms[][2] = {
    {"tokenizer.json", NULL},     {"tokenizer.model", NULL},
    {"spiece.model", NULL},       {"sentencepiece.bpe.model", NULL},
    {"vocab.json", "merges.txt"}, {"encoder.json", "vocab.bpe"},
    {"vocab.txt", NULL}};

const qni_bytes *qni_file_find(const qni_file_set *f, const char *name) {
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->file[i].name, name) == 0) return &f->file[i];
    return NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Unpacks gzip or zlib data into *out; `most` bounds the size. */
static qn_status inflate_all(const char *name, const char *data, int64_t size, int64_t most,
                             qn_text *out) {
    char block[1 << 14];
    z_stream z = {.next_in = (const Bytef *)data, .avail_in = (uInt)size};
    if (inflateInit2(&z, 15 + 32) != Z_OK) return qn_fail(QN_ERR_OOM, "%s: zlib", name);
    int code = Z_OK;
    while (code == Z_OK && (int64_t)out->length <= most && out->status == QN_OK) {
        z.next_out = (Bytef *)block;
        z.avail_out = sizeof block;
        code = inflate(&z, Z_NO_FLUSH);
        qn_text_add_bytes(out, block, sizeof block - z.avail_out);
    }
    bool whole = code == Z_STREAM_END && z.avail_in == 0;
    inflateEnd(&z);
    QN_TRY(out->status);
    if ((int64_t)out->length > most)
        return qn_fail(QN_ERR_FORMAT, "%s: unpacks to more than %lld bytes", name, (long long)most);
    if (!whole) return qn_fail(QN_ERR_FORMAT, "%s: damaged or cut packed data", name);
    return QN_OK;
}

static qn_status keep(qn_setup *arena, const char *name, const char *data, int64_t size,
                      qni_file_set *out) {
    if (out->n == (int)(sizeof out->file / sizeof *out->file))
        return qn_fail(QN_ERR_FORMAT, "tokenizer: found more than %d files", out->n);
    char *copy = qn_setup_alloc(arena, (size_t)size + 1);
    char *own_name = qn_setup_strdup(arena, name);
    if (!copy || !own_name) return QN_ERR_OOM;
    if (size > 0) memcpy(copy, data, (size_t)size);
    out->file[out->n++] = (qni_bytes){own_name, copy, size};
    return QN_OK;
}

/* The file at `path`, unpacked; `name` is what it is called from then on. */
static qn_status read_one(qn_setup *arena, const char *path, const char *name, bool packed,
                          qni_file_set *out) {
    char *data = NULL;
    int64_t size = 0;
    qn_text unpacked = {0};
    QN_TRY(qn_file_read(path, QNI_MAX_FILE, &data, &size));
    qn_status status = QN_OK;
    if (packed) {
        status = inflate_all(path, data, size, QNI_MAX_FILE, &unpacked);
        if (status == QN_OK)
            status = keep(arena, name, unpacked.data, (int64_t)unpacked.length, out);
    } else {
        status = keep(arena, name, data, size, out);
    }
    qn_text_free(&unpacked);
    qn_free(data);
    return status;
}

/* DIRECTORY/NAME or DIRECTORY/NAME.gz, if there is one. */
static qn_status read_named(qn_setup *arena, const char *directory, const char *name,
                            qni_file_set *out, bool *found) {
    char path[QN_PATH_MAX];
    for (int packed = 0; packed < 2; packed++) {
        QN_TRY(qn_path_format(path, sizeof path, "%s/%s%s", directory, name, packed ? ".gz" : ""));
        if (!qn_path_exists(path)) continue;
        *found = true;
        return read_one(arena, path, name, packed, out);
    }
    *found = false;
    return QN_OK;
}

static qn_status read_directory(qn_setup *arena, const char *directory, qni_file_set *out) {
    bool found = false;
    for (size_t i = 0; i < sizeof forms / sizeof *forms && !found; i++) {
        QN_TRY(read_named(arena, directory, forms[i][0], out, &found));
        if (!found || !forms[i][1]) continue;
        QN_TRY(read_named(arena, directory, forms[i][1], out, &found));
        if (!found)
            return qn_fail(QN_ERR_DATA, "%s: found %s, expected %s beside it", directory,
                           forms[i][0], forms[i][1]);
    }
    if (!found)
        return qn_fail(QN_ERR_DATA,
                       "%s: found no tokenizer, expected tokenizer.json, tokenizer.model, "
                       "vocab.json with merges.txt, or vocab.txt",
                       directory);
    for (size_t i = 0; i < sizeof companions / sizeof *companions; i++)
        QN_TRY(read_named(arena, directory, companions[i], out, &found));
    return QN_OK;
}

/* A file of any name; what it is will be told by its content. A vocabulary brings its merges. */
static qn_status read_path(qn_setup *arena, const char *path, qni_file_set *out) {
    char directory[QN_PATH_MAX], name[QN_PATH_MAX];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t length = strlen(base);
    bool packed = length > 3 && strcmp(base + length - 3, ".gz") == 0, found;
    QN_TRY(qn_path_format(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) : 1,
                          slash ? path : "."));
    if (!*directory) QN_TRY(qn_path_format(directory, sizeof directory, "/"));
    QN_TRY(qn_path_format(name, sizeof name, "%.*s", (int)(length - (packed ? 3 : 0)), base));
    QN_TRY(read_one(arena, path, name, packed, out));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        if (strcmp(name, forms[i][0]) != 0) continue;
        if (forms[i][1]) {
            QN_TRY(read_named(arena, directory, forms[i][1], out, &found));
            if (!found) return qn_fail(QN_ERR_DATA, "%s: expected %s beside it", path, forms[i][1]);
        }
        for (size_t j = 0; j < sizeof companions / sizeof *companions; j++)
            QN_TRY(read_named(arena, directory, companions[j], out, &found));
    }
    return QN_OK;
}

qn_status qni_files_read(qn_setup *arena, const char *path, qni_file_set *out) {
    struct stat st;
    if (stat(path, &st) != 0) return qn_fail_errno(path, "cannot be opened");
    return S_ISDIR(st.st_mode) ? read_directory(arena, path, out) : read_path(arena, path, out);
}

/* ---- keeping --------------------------------------------------------------------------------- */

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void add_base64(qn_text *t, const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i += 3) {
        uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
                     (i + 2 < n ? p[i + 2] : 0);
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63],
                        i + 1 < n ? digits[v >> 6 & 63] : '=', i + 2 < n ? digits[v & 63] : '='};
        qn_text_add_bytes(t, four, 4);
    }
}

int64_t qni_base64(const char *text, int64_t n, char *out) {
    signed char value[256];
    memset(value, -1, sizeof value);
    for (int i = 0; i < 64; i++) value[(unsigned char)digits[i]] = (signed char)i;
    int64_t length = 0;
    if (n % 4 != 0) return -1;
    for (int64_t i = 0; i < n; i += 4) {
        const unsigned char *p = (const unsigned char *)text + i;
        int pad = i + 4 == n ? (p[3] == '=') + (p[3] == '=' && p[2] == '=') : 0;
        uint32_t v = 0;
        for (int k = 0; k < 4; k++) {
            int d = k >= 4 - pad ? 0 : value[p[k]];
            if (d < 0) return -1;
            v = v << 6 | (uint32_t)d;
        }
        if ((pad == 1 && v & 0xFF) || (pad == 2 && v & 0xFFFF)) return -1; /* stray bits */
        out[length++] = (char)(v >> 16);
        if (pad < 2) out[length++] = (char)(v >> 8);
        if (pad < 1) out[length++] = (char)v;
    }
    return length;
}

qn_status qni_files_pack(const qni_file_set *f, char **json) {
    qn_text t = {0};
    qn_status status = QN_OK;
    qn_text_add(&t, "{\"type\":\"files\",\"files\":[");
    for (int i = 0; i < f->n && status == QN_OK; i++) {
        const qni_bytes *b = &f->file[i];
        uLongf packed = compressBound((uLong)b->size);
        unsigned char *buffer = qn_alloc(packed, "tokenizer to keep");
        if (!buffer) {
            status = QN_ERR_OOM;
            break;
        }
        if (compress2(buffer, &packed, (const Bytef *)b->data, (uLong)b->size, 6) != Z_OK)
            status = qn_fail(QN_ERR_OOM, "%s: zlib", b->name);
        qn_text_add(&t, i ? ",{\"name\":" : "{\"name\":");
        qn_text_json_string(&t, b->name);
        qn_text_printf(&t, ",\"size\":%lld,\"deflate\":\"", (long long)b->size);
        add_base64(&t, buffer, packed);
        qn_text_add(&t, "\"}");
        qn_free(buffer);
    }
    qn_text_add(&t, "]}");
    if (status == QN_OK) return qn_text_take(&t, json);
    qn_text_free(&t);
    return status;
}

static qn_status unpack_one(qn_setup *arena, const cJSON *json, qni_file_set *out) {
    const char *name = NULL, *text = NULL;
    int64_t size = 0;
    QN_TRY(qni_json_string(json, "name", false, &name));
    QN_TRY(qni_json_int(json, "size", false, 0, QNI_MAX_FILE, &size));
    QN_TRY(qni_json_string(json, "deflate", false, &text));
    int64_t length = (int64_t)strlen(text);
    qn_text unpacked = {0};
    char *packed = qn_alloc((size_t)length, name);
    if (!packed) return QN_ERR_OOM;
    int64_t bytes = qni_base64(text, length, packed);
    qn_status status = bytes < 0 ? qni_json_fail(json, "\"deflate\": expected base64")
                                 : inflate_all(name, packed, bytes, size, &unpacked);
    if (status == QN_OK && (int64_t)unpacked.length != size)
        status = qni_json_fail(json, "found %zu bytes in %s, expected %lld", unpacked.length, name,
                               (long long)size);
    if (status == QN_OK) status = keep(arena, name, unpacked.data, size, out);
    qn_text_free(&unpacked);
    qn_free(packed);
    return status;
}

qn_status qni_files_unpack(qn_setup *arena, const char *json, qni_file_set *out, bool *is_files) {
    qn_setup *tree = NULL;
    cJSON *root = NULL;
    const char *type = NULL;
    QN_TRY(qn_setup_create("tokenizer of a checkpoint", &tree));
    qn_json_options o = {.name = "tokenizer", .max_bytes = 2 * (size_t)QNI_MAX_FILE};
    qn_status status = qn_json_parse(tree, json, strlen(json), &o, &root);
    if (status == QN_OK && !cJSON_IsObject(root))
        status = qni_json_fail(root, "expected an object");
    if (status == QN_OK) status = qni_json_string(root, "type", false, &type);
    *is_files = status == QN_OK && strcmp(type, "files") == 0;
    const cJSON *list = *is_files ? qn_json_get(root, "files") : NULL;
    if (*is_files && !cJSON_IsArray(list))
        status = qni_json_fail(root, "expected a list \"files\"");
    for (const cJSON *c = list && status == QN_OK ? list->child : NULL; c && status == QN_OK;
         c = c->next)
        status = unpack_one(arena, c, out);
    qn_setup_free(tree);
    return status;
}
