/* run_dir.c — creating, locking, sweeping and finding run directories. */
#include "io/run_dir.h"

#include "io/file.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct qn_run_dir {
    char path[QN_PATH_MAX];
    char id[QN_RUN_ID_SIZE];
    char identity[QN_RUN_IDENTITY_MAX];
    int lock;
    bool is_new;
};

/* What a run writes, run.id last: an overwrite that is interrupted can be repeated. */
static const char *const run_files[] = {
    "checkpoints", "config.json", "config.resolved.json", "env.json", "train.log", "metrics.jsonl",
    "tb",          "final",       "report.html",          "run.id",
};
enum { RUN_FILES = sizeof run_files / sizeof run_files[0] };

static bool ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static bool is_dot(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

/* ---- run.id ---------------------------------------------------------------------------------- */

static bool is_word(const char *text) {
    for (; *text; text++) {
        if (!isgraph((unsigned char)*text)) return false;
    }
    return true;
}

qn_status qn_run_id_read(const char *run_dir, char id[QN_RUN_ID_SIZE],
                         char identity[QN_RUN_IDENTITY_MAX]) {
    char path[QN_PATH_MAX], *text = NULL;
    int64_t bytes = 0;
    QN_TRY(qn_path_format(path, sizeof path, "%s/run.id", run_dir));
    QN_TRY(qn_file_read(path, QN_RUN_ID_SIZE + QN_RUN_IDENTITY_MAX, &text, &bytes));
    /* two lines: the id, then the identity (which may be empty) */
    char *end =
        bytes > QN_RUN_ID_SIZE ? memchr(text + QN_RUN_ID_SIZE, '\n', (size_t)bytes - 33) : NULL;
    bool good = end && end + 1 == text + bytes && text[32] == '\n' &&
                strspn(text, "0123456789abcdef") == 32;
    if (good) {
        text[32] = *end = '\0';
        good = is_word(text + 33) && strlen(text + 33) == (size_t)(end - text) - 33 &&
               strlen(text + 33) < QN_RUN_IDENTITY_MAX;
    }
    if (good) {
        memcpy(id, text, QN_RUN_ID_SIZE);
        memcpy(identity, text + 33, strlen(text + 33) + 1);
    }
    qn_free(text);
    if (good) return QN_OK;
    return qn_fail(QN_ERR_FORMAT,
                   "%s: found something else, expected a line of 32 hexadecimal "
                   "digits and a line with the run's identity",
                   path);
}

static qn_status begin_run(qn_run_dir *r, const char *identity) {
    uint8_t random[16];
    char path[QN_PATH_MAX], text[QN_RUN_ID_SIZE + QN_RUN_IDENTITY_MAX + 1];
    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
        return qn_fail_errno("run id", "getrandom");
    }
    for (int i = 0; i < 16; i++) snprintf(r->id + 2 * i, 3, "%02x", random[i]);
    snprintf(r->identity, sizeof r->identity, "%s", identity);
    int n = snprintf(text, sizeof text, "%s\n%s\n", r->id, r->identity);
    QN_TRY(qn_path_format(path, sizeof path, "%s/run.id", r->path));
    r->is_new = true;
    return qn_file_replace(path, text, (size_t)n);
}

/* ---- contents -------------------------------------------------------------------------------- */

/* Is there anything but what an open that died before run.id leaves? */
static qn_status is_empty(const char *path, bool *empty) {
    DIR *d = opendir(path);
    if (!d) return qn_fail_errno(path, "open");
    *empty = true;
    for (struct dirent *e; (e = readdir(d));) {
        if (!is_dot(e->d_name) && strcmp(e->d_name, "lock") != 0 &&
            strcmp(e->d_name, "run.id.tmp") != 0) {
            *empty = false;
        }
    }
    closedir(d);
    return QN_OK;
}

/* Removes entries ending in ".tmp". */
static qn_status sweep(const char *path) {
    qn_status status = QN_OK;
    DIR *d = opendir(path);
    if (!d) return errno == ENOENT ? QN_OK : qn_fail_errno(path, "open");
    for (struct dirent *e; (e = readdir(d));) {
        char entry[QN_PATH_MAX];
        if (!ends_with(e->d_name, ".tmp")) continue;
        QN_TRY_GOTO(qn_path_format(entry, sizeof entry, "%s/%s", path, e->d_name));
        QN_TRY_GOTO(qn_tree_remove(entry));
    }
done:
    closedir(d);
    return status;
}

static qn_status remove_run(const char *path) {
    for (int i = 0; i < RUN_FILES; i++) {
        char entry[QN_PATH_MAX];
        QN_TRY(qn_path_format(entry, sizeof entry, "%s/%s", path, run_files[i]));
        QN_TRY(qn_tree_remove(entry));
    }
    return QN_OK;
}

/* ---- lock ------------------------------------------------------------------------------------ */

/* flock, because it ends with the process however that ends; the file's text only says who has it.
 * The file is never unlinked: a second process could hold a lock on the unlinked one. */
static qn_status take_lock(qn_run_dir *r) {
    char path[QN_PATH_MAX], text[320] = "", host[256] = "";
    QN_TRY(qn_path_format(path, sizeof path, "%s/lock", r->path));
    r->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (r->lock < 0) return qn_fail_errno(path, "open");
    if (flock(r->lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) return qn_fail_errno(path, "lock");
        ssize_t n = pread(r->lock, text, sizeof text - 1, 0);
        text[n > 0 ? n : 0] = '\0';
        text[strcspn(text, "\n")] = '\0';
        return qn_fail(QN_ERR_USAGE, "%s: in use by another process (%s)", r->path,
                       text[0] ? text : "it has not written its pid yet");
    }
    if (gethostname(host, sizeof host - 1) != 0) snprintf(host, sizeof host, "unknown host");
    int n = snprintf(text, sizeof text, "pid %ld on %s\n", (long)getpid(), host);
    if (ftruncate(r->lock, 0) != 0) return qn_fail_errno(path, "truncate");
    return qn_file_write(r->lock, text, (size_t)n, path);
}

/* ---- open ------------------------------------------------------------------------------------ */

static qn_status check_name(const char *name) {
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = name ? strlen(name) : 0;
    if (n && n <= 100 && name[0] != '.' && strspn(name, allowed) == n) return QN_OK;
    return qn_fail(
        QN_ERR_CONFIG,
        "run name: found \"%.120s\", expected 1 to 100 letters, digits, '.', '_' or '-', "
        "not beginning with '.'",
        name ? name : "");
}

/* A new directory named after the time; a second run of the same second gets "-2", and so on. */
static qn_status create_named(const qn_run_dir_options *o, char *path, size_t size) {
    time_t now = time(NULL);
    struct tm t;
    char stamp[32];
    QN_TRY(check_name(o->name));
    QN_TRY(qn_dir_create(o->parent));
    if (!gmtime_r(&now, &t) || !strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &t)) {
        return qn_fail(QN_ERR_INTERNAL, "run directory: the clock cannot be read");
    }
    for (int i = 1;; i++) {
        char suffix[16] = "";
        if (i > 1) snprintf(suffix, sizeof suffix, "-%d", i);
        QN_TRY(qn_path_format(path, size, "%s/%s-%s%s", o->parent, o->name, stamp, suffix));
        if (mkdir(path, 0777) == 0) return qn_dir_sync(o->parent);
        if (errno != EEXIST) return qn_fail_errno(path, "create directory");
    }
}

/* Somebody else's directory is left as it is, without even a lock in it. */
static qn_status refuse_foreign(const char *path) {
    char id_path[QN_PATH_MAX];
    bool empty = false;
    QN_TRY(qn_path_format(id_path, sizeof id_path, "%s/run.id", path));
    QN_TRY(is_empty(path, &empty));
    if (empty || qn_path_exists(id_path)) return QN_OK;
    return qn_fail(QN_ERR_USAGE, "%s: not empty and not a run directory (no run.id)", path);
}

/* With the lock held: decides by mode and contents whether a run begins or goes on. */
static qn_status enter(qn_run_dir *r, const qn_run_dir_options *o) {
    char checkpoints[QN_PATH_MAX];
    bool empty = false;
    QN_TRY(qn_path_format(checkpoints, sizeof checkpoints, "%s/checkpoints", r->path));
    QN_TRY(is_empty(r->path, &empty));
    if (!empty && o->mode == QN_RUN_FRESH) {
        return qn_fail(QN_ERR_USAGE,
                       "%s: a run is there already; --resume auto goes on with it, "
                       "--overwrite removes it",
                       r->path);
    }
    if (empty) return begin_run(r, o->identity);
    QN_TRY(sweep(r->path));
    QN_TRY(sweep(checkpoints));
    if (o->mode == QN_RUN_RESUME) return qn_run_id_read(r->path, r->id, r->identity);
    QN_TRY(remove_run(r->path));
    return begin_run(r, o->identity);
}

qn_status qn_run_dir_open(const qn_run_dir_options *o, qn_run_dir **out) {
    qn_status status = QN_OK;
    if (!o->identity || !is_word(o->identity) || strlen(o->identity) >= QN_RUN_IDENTITY_MAX) {
        return qn_fail(QN_ERR_INTERNAL, "run identity: expected one printable word under %d bytes",
                       QN_RUN_IDENTITY_MAX);
    }
    qn_run_dir *r = qn_alloc(sizeof *r, "run directory");
    if (!r) return QN_ERR_OOM;
    r->lock = -1;
    if (o->out) {
        QN_TRY_GOTO(qn_path_format(r->path, sizeof r->path, "%s", o->out));
        QN_TRY_GOTO(qn_dir_create(r->path));
        QN_TRY_GOTO(refuse_foreign(r->path));
    } else {
        QN_TRY_GOTO(create_named(o, r->path, sizeof r->path));
    }
    QN_TRY_GOTO(take_lock(r));
    QN_TRY_GOTO(enter(r, o));
    *out = r;
    r = NULL;
done:
    qn_run_dir_close(r);
    return status;
}

void qn_run_dir_close(qn_run_dir *r) {
    if (!r) return;
    if (r->lock >= 0) close(r->lock);
    qn_free(r);
}

const char *qn_run_dir_path(const qn_run_dir *r) { return r->path; }
const char *qn_run_dir_id(const qn_run_dir *r) { return r->id; }
const char *qn_run_dir_identity(const qn_run_dir *r) { return r->identity; }
bool qn_run_dir_is_new(const qn_run_dir *r) { return r->is_new; }

/* ---- finding --------------------------------------------------------------------------------- */

/* Is `entry` NAME-YYYYmmdd-HHMMSS[-n]? The stamp as a number and n order the runs. */
static bool parse_stamp(const char *entry, const char *name, int64_t *stamp, int64_t *n) {
    size_t len = strlen(name);
    if (strncmp(entry, name, len) != 0 || entry[len] != '-') return false;
    const char *p = entry + len + 1;
    *stamp = 0;
    for (int i = 0; i < 15; i++) {
        if (i == 8) {
            if (p[i] != '-') return false;
        } else {
            if (!isdigit((unsigned char)p[i])) return false;
            *stamp = *stamp * 10 + (p[i] - '0');
        }
    }
    *n = 1;
    if (p[15] == '\0') return true;
    size_t digits = strspn(p + 16, "0123456789");
    if (p[15] != '-' || digits == 0 || digits > 9 || p[16 + digits]) return false;
    *n = strtol(p + 16, NULL, 10);
    return true;
}

qn_status qn_run_find_newest(const char *parent, const char *name, const char *identity, char *path,
                             size_t size) {
    int64_t best = -1, best_n = -1;
    qn_status status = check_name(name);
    if (status != QN_OK) return status;
    path[0] = '\0';
    DIR *d = opendir(parent);
    if (!d) return errno == ENOENT ? QN_OK : qn_fail_errno(parent, "open");
    for (struct dirent *e; (e = readdir(d));) {
        char candidate[QN_PATH_MAX], id[QN_RUN_ID_SIZE], found[QN_RUN_IDENTITY_MAX];
        int64_t stamp, n;
        if (!parse_stamp(e->d_name, name, &stamp, &n)) continue;
        if (stamp < best || (stamp == best && n < best_n)) continue;
        QN_TRY_GOTO(qn_path_format(candidate, sizeof candidate, "%s/%s", parent, e->d_name));
        /* a directory whose run.id cannot be read is not a run that could be resumed */
        if (qn_run_id_read(candidate, id, found) != QN_OK || strcmp(found, identity) != 0) continue;
        QN_TRY_GOTO(qn_path_format(path, size, "%s", candidate));
        best = stamp;
        best_n = n;
    }
done:
    closedir(d);
    return status;
}
