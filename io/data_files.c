/* data_files.c — from paths, directories and globs to a list of open files in a fixed order. */
#include "io/data_parts.h"

#include <dirent.h>
#include <errno.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- globs ----------------------------------------------------------------------------------- */

bool qni_path_match(const char *glob, const char *path) {
    for (; *glob; glob++, path++) {
        if (*glob == '*') {
            bool deep = glob[1] == '*';
            glob += deep ? 2 : 1;
            if (deep && *glob == '/' && qni_path_match(glob + 1, path))
                return true; /* no directory */
            for (;; path++) {
                if (qni_path_match(glob, path)) return true;
                if (!*path || (!deep && *path == '/')) return false;
            }
        }
        if (!*path || (*glob == '?' ? *path == '/' : *glob != *path)) return false;
    }
    return !*path;
}

static bool any_match(const qn_strings *globs, const char *relative) {
    const char *slash = strrchr(relative, '/'), *base = slash ? slash + 1 : relative;
    for (int64_t i = 0; i < globs->n; i++) {
        const char *glob = globs->item[i];
        if (qni_path_match(glob, strchr(glob, '/') ? relative : base)) return true;
    }
    return false;
}

/* ---- names ----------------------------------------------------------------------------------- */

typedef struct names {
    char **item;
    int64_t n, capacity;
} names;

static void names_free(names *l) {
    for (int64_t i = 0; i < l->n; i++) qn_free(l->item[i]);
    qn_free(l->item);
    *l = (names){0};
}

/* Takes `name` over, also on failure. */
static qn_status names_add(names *l, char *name) {
    if (!name) return QN_ERR_OOM;
    if (l->n == l->capacity) {
        int64_t more = l->capacity ? 2 * l->capacity : 16;
        char **item = qn_realloc(l->item, (size_t)l->capacity * sizeof *item,
                                 (size_t)more * sizeof *item, "file names");
        if (!item) {
            qn_free(name);
            return QN_ERR_OOM;
        }
        l->item = item;
        l->capacity = more;
    }
    l->item[l->n++] = name;
    return QN_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_sort(names *l) {
    if (l->n > 1) qsort(l->item, (size_t)l->n, sizeof *l->item, compare_names);
}

/* ---- directories ----------------------------------------------------------------------------- */

enum { MAX_DEPTH = 64 };

static qn_status walk(const qn_data_options *o, const char *root, const char *below, int depth,
                      names *found);

/* One entry of a directory: `relative` is its path below root. Links to directories are not
 * followed. */
static qn_status visit(const qn_data_options *o, const char *root, char *relative, int depth,
                       names *found) {
    struct stat st;
    qn_status status = QN_OK;
    char *path = relative ? qn_sprintf("%s/%s", root, relative) : NULL;
    bool excluded = relative && any_match(&o->exclude, relative), kept = false;
    if (!path) {
        status = QN_ERR_OOM;
    } else if (!excluded && lstat(path, &st) == 0) {
        if (S_ISDIR(st.st_mode)) {
            status = walk(o, root, relative, depth + 1, found);
        } else if (stat(path, &st) == 0 && S_ISREG(st.st_mode)) {
            kept = o->include.n == 0 || any_match(&o->include, relative);
        }
    }
    qn_free(path);
    if (kept) return names_add(found, relative);
    qn_free(relative);
    return status;
}

static qn_status walk(const qn_data_options *o, const char *root, const char *below, int depth,
                      names *found) {
    qn_status status = QN_OK;
    char *path = below[0] ? qn_sprintf("%s/%s", root, below) : qn_strdup(root, "path");
    if (!path) return QN_ERR_OOM;
    DIR *dir = depth < MAX_DEPTH ? opendir(path) : NULL;
    if (!dir) {
        status = depth < MAX_DEPTH
                     ? qn_fail(QN_ERR_IO, "%s: cannot be listed: %s", path, strerror(errno))
                     : qn_fail(QN_ERR_DATA, "%s: found more than %d nested directories", path,
                               MAX_DEPTH);
        goto done;
    }
    for (const struct dirent *e; (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        char *relative =
            below[0] ? qn_sprintf("%s/%s", below, e->d_name) : qn_strdup(e->d_name, "file name");
        QN_TRY_GOTO(visit(o, root, relative, depth, found));
    }
done:
    if (dir) closedir(dir);
    qn_free(path);
    return status;
}

/* ---- opening --------------------------------------------------------------------------------- */

static qn_status add_file(const qn_data_options *o, qn_split home, const char *path,
                          const char *relative, qni_files *out) {
    if (out->n == out->capacity) {
        int64_t more = out->capacity ? 2 * out->capacity : 8;
        qni_file *file = qn_realloc(out->file, (size_t)out->capacity * sizeof *file,
                                    (size_t)more * sizeof *file, "files");
        if (!file) return QN_ERR_OOM;
        out->file = file;
        out->capacity = more;
    }
    QN_TRY(qni_file_open(path, relative, o->cache_dir, &out->file[out->n]));
    out->file[out->n++].home = home;
    return QN_OK;
}

static qn_status add_directory(const qn_data_options *o, qn_split home, const char *root,
                               qni_files *out) {
    qn_status status = QN_OK;
    names found = {0};
    char *path = NULL;
    int64_t before = out->n;
    QN_TRY_GOTO(walk(o, root, "", 0, &found));
    names_sort(&found);
    for (int64_t i = 0; i < found.n; i++) {
        struct stat st;
        qn_free(path);
        path = qn_sprintf("%s/%s", root, found.item[i]);
        if (!path) {
            status = QN_ERR_OOM;
            goto done;
        }
        if (stat(path, &st) == 0 && st.st_size == 0)
            out->skipped++;
        else
            QN_TRY_GOTO(add_file(o, home, path, found.item[i], out));
    }
    if (out->n == before)
        status = qn_fail(QN_ERR_DATA, "%s: found no file to read in this directory%s", root,
                         o->include.n + o->exclude.n ? " that include and exclude select" : "");
done:
    qn_free(path);
    names_free(&found);
    return status;
}

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static qn_status add_path(const qn_data_options *o, qn_split home, const char *path,
                          qni_files *out) {
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return add_directory(o, home, path, out);
    return add_file(o, home, path, base_name(path), out);
}

static qn_status add_glob(const qn_data_options *o, qn_split home, const char *pattern,
                          qni_files *out) {
    qn_status status = QN_OK;
    names found = {0};
    glob_t g = {0};
    int r = glob(pattern, GLOB_NOSORT, NULL, &g);
    if (r != 0 && r != GLOB_NOMATCH) {
        status =
            qn_fail(r == GLOB_NOSPACE ? QN_ERR_OOM : QN_ERR_IO, "%s: cannot be expanded", pattern);
        goto done;
    }
    for (size_t i = 0; r == 0 && i < g.gl_pathc; i++)
        QN_TRY_GOTO(names_add(&found, qn_strdup(g.gl_pathv[i], "file name")));
    names_sort(&found);
    if (found.n == 0) status = qn_fail(QN_ERR_DATA, "%s: found no file of such a name", pattern);
    for (int64_t i = 0; status == QN_OK && i < found.n; i++)
        status = add_path(o, home, found.item[i], out);
done:
    names_free(&found);
    globfree(&g);
    return status;
}

qn_status qni_files_open(const qn_data_options *o, qn_split home, qni_files *out) {
    const qn_strings *paths = &o->paths[home];
    for (int64_t i = 0; i < paths->n; i++) {
        const char *path = paths->item[i];
        struct stat st;
        bool exists = lstat(path, &st) == 0; /* a name with a star in it is a name first */
        bool is_glob = !exists && strpbrk(path, "*?[") != NULL;
        QN_TRY(is_glob ? add_glob(o, home, path, out) : add_path(o, home, path, out));
    }
    return QN_OK;
}

static int compare_inodes(const void *a, const void *b) {
    const qni_file *x = *(const qni_file *const *)a, *y = *(const qni_file *const *)b;
    if (x->device != y->device) return x->device < y->device ? -1 : 1;
    return x->inode != y->inode ? (x->inode < y->inode ? -1 : 1) : 0;
}

qn_status qni_files_check_leak(const qni_files *f) {
    qn_status status = QN_OK;
    const qni_file **order = qn_alloc((size_t)f->n * sizeof *order, "files");
    if (!order) return QN_ERR_OOM;
    for (int64_t i = 0; i < f->n; i++) order[i] = &f->file[i];
    if (f->n > 1) qsort(order, (size_t)f->n, sizeof *order, compare_inodes);
    for (int64_t i = 1; i < f->n && status == QN_OK; i++)
        if (compare_inodes(&order[i - 1], &order[i]) == 0 && order[i - 1]->home != order[i]->home)
            status = qn_fail(QN_ERR_DATA, "%s: found the same file in two splits (again as %s)",
                             order[i - 1]->path, order[i]->path);
    qn_free(order);
    return status;
}

void qni_files_close(qni_files *f) {
    for (int64_t i = 0; i < f->n; i++) qni_file_close(&f->file[i]);
    qn_free(f->file);
    *f = (qni_files){0};
}
