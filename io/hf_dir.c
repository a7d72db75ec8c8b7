/* hf_dir.c — models by hub name, in the cache that Hugging Face's tools fill. */
#include "io/hf_dir.h"

#include "io/file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_plain(const char *s, size_t n) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "._-";
    return n > 0 && n < 128 && s[0] != '.' && s[0] != '-' && strspn(s, allowed) >= n;
}

bool qn_hf_is_hub_name(const char *name) {
    size_t n = strcspn(name, "@"), org = strcspn(name, "/");
    if (name[n] == '@' && !is_plain(name + n + 1, strlen(name + n + 1))) return false;
    if (org > n || !name[org]) return is_plain(name, n);
    return is_plain(name, org) && is_plain(name + org + 1, n - org - 1);
}

static qn_status hub_root(char *out, size_t size) {
    const char *cache = getenv("HF_HUB_CACHE"), *home = getenv("HF_HOME"),
               *xdg = getenv("XDG_CACHE_HOME"), *user = getenv("HOME");
    if (cache && *cache) return qn_path_format(out, size, "%s", cache);
    if (home && *home) return qn_path_format(out, size, "%s/hub", home);
    if (xdg && *xdg) return qn_path_format(out, size, "%s/huggingface/hub", xdg);
    return qn_path_format(out, size, "%s/.cache/huggingface/hub", user ? user : "");
}

/* The commit a branch of the cached model points to; the revision itself if it is no branch. */
static qn_status read_ref(const char *folder, const char *revision, char *commit, size_t size) {
    char path[QN_PATH_MAX], *text;
    int64_t bytes;
    QN_TRY(qn_path_format(path, sizeof path, "%s/refs/%s", folder, revision));
    if (!qn_path_exists(path)) return qn_path_format(commit, size, "%s", revision);
    QN_TRY(qn_file_read(path, 256, &text, &bytes));
    size_t n = strcspn(text, " \r\n");
    qn_status status = is_plain(text, n)
                           ? qn_path_format(commit, size, "%.*s", (int)n, text)
                           : qn_fail(QN_ERR_FORMAT, "%s: found no commit in it", path);
    qn_free(text);
    return status;
}

qn_status qn_hf_cached(const char *name, char *out, size_t size) {
    char root[QN_PATH_MAX], folder[QN_PATH_MAX], commit[256];
    size_t n = strcspn(name, "@"), org = strcspn(name, "/");
    QN_TRY(hub_root(root, sizeof root));
    if (org < n)
        QN_TRY(qn_path_format(folder, sizeof folder, "%s/models--%.*s--%.*s", root, (int)org, name,
                              (int)(n - org - 1), name + org + 1));
    else
        QN_TRY(qn_path_format(folder, sizeof folder, "%s/models--%.*s", root, (int)n, name));
    if (!qn_path_exists(folder))
        return qn_fail(QN_ERR_DATA, "%.*s is not in the hub's cache: there is no %s", (int)n, name,
                       folder);
    QN_TRY(read_ref(folder, name[n] ? name + n + 1 : "main", commit, sizeof commit));
    QN_TRY(qn_path_format(out, size, "%s/snapshots/%s", folder, commit));
    if (qn_path_exists(out)) return QN_OK;
    return qn_fail(QN_ERR_DATA, "%s is not in the hub's cache: there is no %s", name, out);
}
