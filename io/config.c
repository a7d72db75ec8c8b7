/* config.c — loading a configuration layer by layer, and reading its values. */
#include "io/config_table.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- files ----------------------------------------------------------------------------------- */

typedef struct layer { /* a file being read, and the one that extends it */
    const struct layer *user;
    dev_t device;
    ino_t inode;
} layer;

/* Reads a whole regular file of at most QN_JSON_MAX_BYTES + 1 bytes (the parser refuses the last
 * one). *why is set, and *text NULL, when it cannot be read. */
static qn_status read_file(const char *path, char **text, size_t *length, layer *l,
                           const char **why) {
    *text = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat info;
    if (file < 0 || fstat(file, &info) != 0) {
        *why = strerror(errno);
        if (file >= 0) close(file);
        return QN_OK;
    }
    l->device = info.st_dev;
    l->inode = info.st_ino;
    char *buffer = NULL;
    size_t n = 0, capacity = QN_JSON_MAX_BYTES + 1;
    *why = S_ISREG(info.st_mode) ? NULL : "it is not a regular file";
    if (!*why && info.st_size < QN_JSON_MAX_BYTES) capacity = (size_t)info.st_size + 1;
    if (!*why && !(buffer = qn_alloc(capacity, path))) {
        close(file);
        return QN_ERR_OOM;
    }
    while (!*why && n < capacity) {
        ssize_t got = read(file, buffer + n, capacity - n);
        if (got == 0) break;
        if (got < 0 && errno != EINTR) *why = strerror(errno);
        if (got > 0) n += (size_t)got;
    }
    close(file);
    if (*why) {
        qn_free(buffer);
    } else {
        *text = buffer;
        *length = n;
    }
    return QN_OK;
}

/* The directory of a file that exists, absolute and without symbolic links. */
static bool directory_of(const char *path, char out[PATH_MAX]) {
    char name[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 1;
    if (length >= sizeof name) return false;
    memcpy(name, slash ? path : ".", length);
    name[length] = '\0';
    return realpath(name, out) != NULL;
}

/* ---- layers ---------------------------------------------------------------------------------- */

static qn_status apply_file(qn_config *c, const char *path, const layer *user, const cJSON *at);

/* The file named by "extends" in this one. */
static qn_status apply_base(qn_config *c, cJSON *root, const char *base_dir, const layer *user) {
    cJSON *extends = cJSON_GetObjectItemCaseSensitive(root, "extends"), *path;
    if (!extends || cJSON_IsNull(extends)) return QN_OK;
    QN_TRY(qni_check_value(c, qni_key_find("extends"), "extends", extends, base_dir, &path));
    if (!path) {
        c->broken = true;
        return QN_OK;
    }
    char here[PATH_MAX]; /* errors name files as they are seen from the working directory */
    const char *name = path->valuestring;
    if (getcwd(here, sizeof here)) {
        size_t length = strlen(here);
        if (strncmp(name, here, length) == 0 && name[length] == '/') name += length + 1;
    }
    return apply_file(c, name, user, extends);
}

static qn_status apply_text(qn_config *c, const char *name, const char *text, size_t length,
                            const char *base_dir, const layer *l) {
    qn_json_error error;
    qn_json_options options = {
        .name = name, .comments = true, .mark_duplicates = true, .error = &error};
    cJSON *root;
    qn_status status = qn_json_parse(c->arena, text, length, &options, &root);
    if (status == QN_ERR_FORMAT) {
        qn_json_source s = {name, text, length > QN_JSON_MAX_BYTES ? 0 : length};
        qni_report_at(c, &s, error.offset, 1, NULL, NULL, "%s", error.text);
        c->broken = true;
        return QN_OK;
    }
    QN_TRY(status);
    if (!cJSON_IsObject(root)) {
        qni_report(c, root, false, NULL, NULL,
                   "expected an object with the keys of a "
                   "configuration");
        c->broken = true;
        return QN_OK;
    }
    QN_TRY(apply_base(c, root, base_dir, l));
    return qni_check_section(c, "", root, base_dir);
}

/* `at` is the value of "extends" that names the file, NULL for the first one. */
static qn_status apply_file(qn_config *c, const char *path, const layer *user, const cJSON *at) {
    layer l = {.user = user};
    char *text, base_dir[PATH_MAX];
    const char *why;
    size_t length = 0;
    QN_TRY(read_file(path, &text, &length, &l, &why));
    for (const layer *u = user; text && u; u = u->user) {
        if (u->inode != l.inode || u->device != l.device) continue;
        why = "files extend each other in a circle";
        break;
    }
    if (!why && !directory_of(path, base_dir)) why = strerror(errno);
    qn_status status = QN_OK;
    if (why) {
        qni_report(c, at, false, at ? "extends" : path, NULL, at ? "cannot read %s: %s" : "%s%s",
                   at ? path : "cannot read the configuration: ", why);
        c->broken = true;
    } else {
        status = apply_text(c, path, text, length, base_dir, &l);
    }
    qn_free(text);
    return status;
}

/* ---- loading --------------------------------------------------------------------------------- */

static qn_status create(const char *name, qn_config **out) {
    qn_config *c = qn_alloc(sizeof *c, "a configuration");
    if (!c) return QN_ERR_OOM;
    qn_status status;
    QN_TRY_GOTO(qn_setup_create("configuration", &c->arena));
    size_t n = (size_t)qni_key_count;
    c->slot = qn_setup_alloc(c->arena, n * sizeof *c->slot);
    c->stated = qn_setup_alloc(c->arena, n * sizeof *c->stated);
    c->bad = qn_setup_alloc(c->arena, n * sizeof *c->bad);
    const char *slash = strrchr(name, '/');
    char *stem = qn_setup_strdup(c->arena, slash ? slash + 1 : name);
    status = QN_ERR_OOM;
    if (!c->slot || !c->stated || !c->bad || !stem) goto done;
    char *dot = strrchr(stem, '.');
    if (dot && dot > stem) *dot = '\0';
    c->stem = stem;
    *out = c;
    return QN_OK;
done:
    qn_config_free(c);
    return status;
}

/* Turns the collected errors into a status and the caller's text. */
static qn_status conclude(qn_config *c, char **diagnostics) {
    if (c->errors == 0) return QN_OK;
    qn_text_printf(&c->diagnostics, "%d error%s\n", c->errors, c->errors == 1 ? "" : "s");
    char *text;
    QN_TRY(qn_text_take(&c->diagnostics, &text));
    if (diagnostics) {
        *diagnostics = text;
    } else {
        qn_free(text);
    }
    if (c->errors == 1) return qn_fail(QN_ERR_CONFIG, "%s", c->first);
    return qn_fail(QN_ERR_CONFIG, "%.900s (and %d more)", c->first, c->errors - 1);
}

/* `complete`: the text states every value of the model; nothing is read for it. */
static qn_status finish(qn_config *c, const char *const *sets, int n_sets, bool complete) {
    char here[PATH_MAX];
    if (!getcwd(here, sizeof here)) {
        return qn_fail(QN_ERR_IO, "working directory: %s", strerror(errno));
    }
    if (!qn_utf8_valid(here, strlen(here))) { /* it becomes a part of run.dir */
        return qn_fail(QN_ERR_CONFIG, "working directory: expected a name in UTF-8");
    }
    for (int i = 0; i < n_sets; i++) QN_TRY(qni_config_assign(c, sets[i], here));
    if (!complete && !c->broken) QN_TRY(qni_config_pretrained(c));
    if (c->broken) return QN_OK; /* what is missing may be in what could not be read */
    QN_TRY(qni_config_fill(c, here));
    qni_config_cross_check(c);
    return QN_OK;
}

qn_status qn_config_load(const char *path, const char *const *sets, int n_sets, qn_config **out,
                         char **diagnostics) {
    qn_config *c = NULL;
    qn_status status;
    *out = NULL;
    if (diagnostics) *diagnostics = NULL;
    QN_TRY(create(path, &c));
    QN_TRY_GOTO(apply_file(c, path, NULL, NULL));
    QN_TRY_GOTO(finish(c, sets, n_sets, false));
    QN_TRY_GOTO(conclude(c, diagnostics));
    *out = c;
    return QN_OK;
done:
    qn_config_free(c);
    return status;
}

qn_status qn_config_load_model(const char *dir, const char *const *sets, int n_sets,
                               qn_config **out, char **diagnostics) {
    qn_config *c = NULL;
    qn_status status;
    qn_text t = {0};
    char base[PATH_MAX], *text = NULL;
    *out = NULL;
    if (diagnostics) *diagnostics = NULL;
    if (!realpath(".", base))
        return qn_fail(QN_ERR_IO, "the working directory: %s", strerror(errno));
    qn_text_add(&t, "{\"data\": {\"type\": \"tokens\", \"path\": \"none\"}, "
                    "\"train\": {\"max_steps\": 1}, \"model\": {\"pretrained\": ");
    qn_text_json_string(&t, dir);
    qn_text_add(&t, "}}");
    size_t length = t.length;
    QN_TRY(qn_text_take(&t, &text));
    QN_TRY_GOTO(create(dir, &c));
    QN_TRY_GOTO(apply_text(c, dir, text, length, base, NULL));
    QN_TRY_GOTO(finish(c, sets, n_sets, false));
    QN_TRY_GOTO(conclude(c, diagnostics));
    *out = c;
    c = NULL;
done:
    qn_config_free(c);
    qn_free(text);
    return status;
}

qn_status qn_config_load_text(const char *name, const char *text, size_t length,
                              const char *base_dir, const char *const *sets, int n_sets,
                              qn_config **out, char **diagnostics) {
    qn_config *c = NULL;
    qn_status status;
    char base[PATH_MAX];
    *out = NULL;
    if (diagnostics) *diagnostics = NULL;
    if (!realpath(base_dir ? base_dir : ".", base)) {
        return qn_fail(QN_ERR_IO, "%s: %s", base_dir ? base_dir : ".", strerror(errno));
    }
    QN_TRY(create(name, &c));
    QN_TRY_GOTO(apply_text(c, name, text, length, base, NULL));
    QN_TRY_GOTO(finish(c, sets, n_sets, true));
    QN_TRY_GOTO(conclude(c, diagnostics));
    *out = c;
    return QN_OK;
done:
    qn_config_free(c);
    return status;
}

void qn_config_free(qn_config *c) {
    if (!c) return;
    qn_text_free(&c->diagnostics);
    qn_setup_free(c->arena);
    qn_free(c);
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Row with a slot whose name is the first `length` bytes of key; -1 if there is none. */
static int slot_row(const char *key, size_t length) {
    for (int i = 0; i < qni_key_count; i++) {
        if (strncmp(qni_keys[i].name, key, length) == 0 && !qni_keys[i].name[length]) return i;
    }
    return -1;
}

const cJSON *qni_config_get(const qn_config *c, const char *key) {
    size_t length = strlen(key);
    int row = slot_row(key, length);
    while (row < 0 && length > 0) { /* an element: its array is the longest prefix that is a key */
        do length--;
        while (length > 0 && key[length] != '.');
        row = slot_row(key, length);
    }
    const cJSON *node = row >= 0 ? c->slot[row] : NULL;
    while (node && key[length]) {
        const char *part = key + length + 1;
        size_t n = strcspn(part, ".");
        const cJSON *child = node->child;
        if (cJSON_IsArray(node)) {
            long index =
                strspn(part, "0123456789") == n && n > 0 && n < 9 ? strtol(part, NULL, 10) : -1;
            for (; child && index != 0; index--) child = child->next;
        } else {
            while (child && !(strncmp(child->string, part, n) == 0 && !child->string[n])) {
                child = child->next;
            }
        }
        node = child;
        length += n + 1;
    }
    return node;
}

qni_truth qni_config_when(const qn_config *c, const char *condition) {
    if (!condition) return QNI_YES;
    size_t length = strcspn(condition, "=");
    const cJSON *node = c->slot[slot_row(condition, length)];
    if (!cJSON_IsString(node)) return QNI_UNKNOWN; /* absent, or refused */
    size_t n = strlen(node->valuestring);
    for (const char *s = condition + length + 1;; s += strcspn(s, "|") + 1) {
        if (strcspn(s, "|") == n && strncmp(s, node->valuestring, n) == 0) return QNI_YES;
        if (!s[strcspn(s, "|")]) return QNI_NO;
    }
}

bool qn_config_is_set(const qn_config *c, const char *key) {
    return qni_config_get(c, key) != NULL;
}

bool qn_config_is(const qn_config *c, const char *key, const char *value) {
    return strcmp(qn_config_string(c, key), value) == 0;
}

bool qn_config_is_stated(const qn_config *c, const char *key) {
    const cJSON *node = qni_config_get(c, key);
    int row = slot_row(key, strlen(key));
    return node && (row < 0 || c->stated[row]);
}

bool qn_config_boolean(const qn_config *c, const char *key) {
    return cJSON_IsTrue(qni_config_get(c, key));
}

int64_t qn_config_int(const qn_config *c, const char *key) {
    int64_t v = 0;
    return qn_json_int64(qni_config_get(c, key), &v) ? v : 0;
}

double qn_config_number(const qn_config *c, const char *key) {
    const cJSON *node = qni_config_get(c, key);
    return cJSON_IsNumber(node) ? node->valuedouble : 0.0;
}

const char *qn_config_string(const qn_config *c, const char *key) {
    const cJSON *node = qni_config_get(c, key);
    return cJSON_IsString(node) ? node->valuestring : "";
}

const char *qn_config_optional(const qn_config *c, const char *key) {
    return qn_config_is_set(c, key) ? qn_config_string(c, key) : NULL;
}

int64_t qn_config_count(const qn_config *c, const char *key) {
    const cJSON *node = qni_config_get(c, key);
    return cJSON_IsArray(node) ? cJSON_GetArraySize(node) : 0;
}
