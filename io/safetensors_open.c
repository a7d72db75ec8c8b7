/* safetensors_open.c — a file, a directory or an index with its shards, opened as one set. */
#include "io/file.h"
#include "io/safetensors_parts.h"

#include <stdlib.h>
#include <string.h>

enum { INDEX_MAX = 64 << 20 };

static bool ends_in(const char *path, const char *ending) {
    size_t n = strlen(path), m = strlen(ending);
    return n >= m && strcmp(path + n - m, ending) == 0;
}

static qn_status refuse_pickle(const char *path) {
    return qn_fail(QN_ERR_UNSUPPORTED,
                   "%s is a Python pickle: reading one runs whatever code is in it, so it is "
                   "refused; save the model as safetensors (transformers: "
                   "save_pretrained(DIR, safe_serialization=True))",
                   path);
}

static bool named_like_pickle(const char *path) {
    static const char *const ending[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"};
    for (size_t i = 0; i < sizeof ending / sizeof *ending; i++)
        if (ends_in(path, ending[i])) return true;
    return false;
}

/* torch.save's zip archive, or a bare pickle of protocol 2 to 5; taken as the length of a header,
 * the same bytes would be more than the format allows. */
static bool looks_like_pickle(const qni_view *v) {
    const unsigned char *b = v->bytes;
    if (v->size < 8 || !(b[4] | b[5] | b[6] | b[7])) return false;
    return memcmp(b, "PK\3\4", 4) == 0 || (b[0] == 0x80 && b[1] >= 2 && b[1] <= 5);
}

/* ---- the set --------------------------------------------------------------------------------- */

static qn_status create(qn_safetensors **out) {
    qn_safetensors *s = qn_alloc(sizeof *s, "safetensors");
    if (!s) return QN_ERR_OOM;
    qn_status status = qn_setup_create("safetensors", &s->setup);
    if (status == QN_OK) {
        *out = s;
        return QN_OK;
    }
    qn_free(s);
    return status;
}

void qn_safetensors_close(qn_safetensors *s) {
    if (!s) return;
    for (int64_t i = 0; i < s->n_files; i++) qni_view_close(&s->file[i].view);
    qn_free(s->file);
    qn_free(s->item);
    qn_setup_free(s->setup);
    qn_free(s);
}

static qn_status add_file(qn_safetensors *s, const char *path, qni_safetensors_file **out) {
    if (s->n_files == s->file_capacity) {
        int64_t capacity = 2 * s->file_capacity + 1;
        qni_safetensors_file *file =
            qn_realloc(s->file, (size_t)s->n_files * sizeof *file, (size_t)capacity * sizeof *file,
                       "safetensors files");
        if (!file) return QN_ERR_OOM;
        s->file = file;
        s->file_capacity = capacity;
    }
    qni_safetensors_file *f = &s->file[s->n_files];
    *f = (qni_safetensors_file){.path = qn_setup_strdup(s->setup, path)};
    if (!f->path) return QN_ERR_OOM;
    s->n_files++;
    *out = f;
    return QN_OK;
}

static qn_status open_file(qn_safetensors *s, const char *path) {
    qni_safetensors_file *f;
    if (named_like_pickle(path)) return refuse_pickle(path);
    QN_TRY(add_file(s, path, &f));
    QN_TRY(qni_view_open(path, &f->view));
    if (looks_like_pickle(&f->view)) return refuse_pickle(path);
    return qni_safetensors_header(s, f, f->view.bytes, f->view.size);
}

static int by_name(const void *a, const void *b) {
    const qn_safetensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Sorts; a tensor of two files is an error. */
static qn_status complete(qn_safetensors *s) {
    if (s->n) qsort(s->item, (size_t)s->n, sizeof *s->item, by_name);
    for (int64_t i = 1; i < s->n; i++) {
        const qn_safetensor *a = &s->item[i - 1], *b = &s->item[i];
        if (strcmp(a->name, b->name) == 0)
            return qn_fail(QN_ERR_FORMAT, "tensor \"%.200s\" is in %s and in %s", a->name, a->file,
                           b->file);
    }
    return QN_OK;
}

qn_status qn_safetensors_parse(const char *name, const void *bytes, int64_t size,
                               qn_safetensors **out) {
    qn_safetensors *s;
    qni_safetensors_file *f;
    QN_TRY(create(&s));
    qn_status status = add_file(s, name, &f);
    if (status == QN_OK) status = qni_safetensors_header(s, f, bytes, size);
    if (status == QN_OK) status = complete(s);
    if (status == QN_OK)
        *out = s;
    else
        qn_safetensors_close(s);
    return status;
}

/* ---- an index -------------------------------------------------------------------------------- */

static qn_status read_index(qn_safetensors *s, const char *path, const cJSON **map) {
    char *text;
    int64_t bytes;
    QN_TRY(qn_file_read(path, INDEX_MAX, &text, &bytes));
    const qn_json_options o = {.name = path, .max_bytes = INDEX_MAX};
    cJSON *root = NULL;
    qn_status status = qn_json_parse(s->setup, text, (size_t)bytes, &o, &root);
    qn_free(text);
    QN_TRY(status);
    *map = qn_json_get(root, "weight_map");
    if (!cJSON_IsObject(*map) || !(*map)->child)
        return qn_fail(QN_ERR_FORMAT, "%s: \"weight_map\" is no object with tensors", path);
    return QN_OK;
}

/* The shard a member of the map names, opened if it is the first to name it; its path. */
static qn_status open_shard(qn_safetensors *s, const char *index, const cJSON *member,
                            const char **shard) {
    char path[QN_PATH_MAX];
    const char *name = cJSON_IsString(member) ? member->valuestring : "";
    if (!ends_in(name, ".safetensors") || strchr(name, '/') || name[0] == '.')
        return qn_fail(QN_ERR_FORMAT,
                       "%s: tensor \"%.200s\": found \"%.200s\", expected the name of a "
                       ".safetensors file beside the index",
                       index, member->string, name);
    const char *slash = strrchr(index, '/');
    int length = slash ? (int)(slash - index) + 1 : 0;
    QN_TRY(qn_path_format(path, sizeof path, "%.*s%s", length, index, name));
    for (int64_t i = s->n_files - 1; i >= 0; i--) {
        *shard = s->file[i].path;
        if (strcmp(*shard, path) == 0) return QN_OK;
    }
    if (!qn_path_exists(path))
        return qn_fail(QN_ERR_DATA, "%s: %s is missing, which the index names", index, path);
    QN_TRY(open_file(s, path));
    *shard = s->file[s->n_files - 1].path;
    return QN_OK;
}

/* Both ways: what the map names is in the file it names, and no file holds anything else. */
static qn_status check_map(const qn_safetensors *s, const char *index, const cJSON *map) {
    const cJSON *c;
    int64_t named = 0;
    cJSON_ArrayForEach(c, map) {
        const qn_safetensor *t = qn_safetensors_find(s, c->string);
        const char *slash = t ? strrchr(t->file, '/') : NULL;
        if (!t || strcmp(slash ? slash + 1 : t->file, c->valuestring) != 0)
            return qn_fail(QN_ERR_FORMAT, "%s: tensor \"%.200s\" is not in %s", index, c->string,
                           c->valuestring);
        named++;
    }
    for (int64_t i = 0; named < s->n && i < s->n; i++) {
        if (!qn_json_get(map, s->item[i].name))
            return qn_fail(QN_ERR_FORMAT, "%s: tensor \"%.200s\" is not in the index %s",
                           s->item[i].file, s->item[i].name, index);
    }
    return QN_OK;
}

static qn_status open_index(qn_safetensors *s, const char *path) {
    const cJSON *map, *c;
    const char *shard;
    QN_TRY(read_index(s, path, &map));
    cJSON_ArrayForEach(c, map) QN_TRY(open_shard(s, path, c, &shard));
    QN_TRY(complete(s));
    return check_map(s, path, map);
}

/* ---- what a path means ----------------------------------------------------------------------- */

static const char *const weights[] = {"model.safetensors", "model.safetensors.index.json"};
static const char *const pickles[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                      "consolidated.00.pth"};

/* The first of n names that is in the directory; *found is "" if none is. */
static qn_status find_in(const char *dir, const char *const *name, int n, char *found,
                         size_t size) {
    for (int i = 0; i < n; i++) {
        QN_TRY(qn_path_format(found, size, "%s/%s", dir, name[i]));
        if (qn_path_exists(found)) return QN_OK;
    }
    found[0] = '\0';
    return QN_OK;
}

static qn_status open_path(qn_safetensors *s, const char *path) {
    char inside[QN_PATH_MAX];
    QN_TRY(qn_path_format(inside, sizeof inside, "%s/.", path));
    if (!qn_path_exists(inside)) { /* no directory */
        if (ends_in(path, ".index.json")) return open_index(s, path);
        QN_TRY(open_file(s, path));
        return complete(s);
    }
    QN_TRY(find_in(path, weights, 2, inside, sizeof inside));
    if (ends_in(inside, ".json")) return open_index(s, inside);
    if (*inside) {
        QN_TRY(open_file(s, inside));
        return complete(s);
    }
    QN_TRY(find_in(path, pickles, 3, inside, sizeof inside));
    if (*inside) return refuse_pickle(inside);
    return qn_fail(QN_ERR_DATA, "%s: found neither %s nor %s in it", path, weights[0], weights[1]);
}

bool qn_safetensors_meant(const char *path) {
    char inside[QN_PATH_MAX];
    if (qn_path_format(inside, sizeof inside, "%s/manifest.json", path) != QN_OK) return false;
    if (qn_path_exists(inside)) return false;
    if (qn_path_format(inside, sizeof inside, "%s/.", path) != QN_OK) return false;
    if (!qn_path_exists(inside)) return qn_path_exists(path); /* a file */
    if (find_in(path, weights, 2, inside, sizeof inside) != QN_OK) return false;
    if (*inside) return true;
    return find_in(path, pickles, 3, inside, sizeof inside) == QN_OK && *inside;
}

qn_status qn_safetensors_open(const char *path, qn_safetensors **out) {
    qn_safetensors *s;
    QN_TRY(create(&s));
    qn_status status = open_path(s, path);
    if (status == QN_OK)
        *out = s;
    else
        qn_safetensors_close(s);
    return status;
}

/* ---- looking things up ----------------------------------------------------------------------- */

int64_t qn_safetensors_count(const qn_safetensors *s) { return s->n; }

const qn_safetensor *qn_safetensors_get(const qn_safetensors *s, int64_t i) { return &s->item[i]; }

const qn_safetensor *qn_safetensors_find(const qn_safetensors *s, const char *name) {
    const qn_safetensor key = {.name = name};
    return s->n ? bsearch(&key, s->item, (size_t)s->n, sizeof key, by_name) : NULL;
}

const char *qn_safetensors_metadata(const qn_safetensors *s, const char *key) {
    for (int64_t i = 0; i < s->n_files; i++) {
        const cJSON *value = qn_json_get(s->file[i].metadata, key);
        if (value) return value->valuestring;
    }
    return NULL;
}

qn_status qn_safetensors_intact(const qn_safetensors *s) {
    for (int64_t i = 0; i < s->n_files; i++) QN_TRY(qni_view_intact(&s->file[i].view));
    return QN_OK;
}
