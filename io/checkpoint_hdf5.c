/* checkpoint_hdf5.c — the tensors of one HDF5 file: written in one form, read only in that form.
 *
 * /tensors/<dotted path>, one dataset each, chunked with Fletcher-32, metadata in the checksummed
 * latest format, no times. bf16 and f16 are custom little-endian float types, which h5py and h5dump
 * read as numbers. A scalar is stored with shape {1}, an empty tensor only in the manifest. On
 * reading, links that are not hard, other layouts, filters, types or shapes are refused before
 * their data is touched.
 */
#include "io/checkpoint_parts.h"

#include "io/file.h"

#include <errno.h>
#include <hdf5.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 20 }; /* HDF5's chunk cache holds one; larger chunks would bypass it */

typedef struct session { /* one open file */
    qni_device device;
    const char *path;
    hid_t driver, access, file, group;
} session;

struct qni_hdf5 {
    session s;
    const qni_entry *entry;
};

/* ---- errors and types ------------------------------------------------------------------------ */

typedef struct reason {
    char text[200];
} reason;

static herr_t first_reason(unsigned n, const H5E_error2_t *e, void *out) {
    (void)n;
    reason *r = out;
    if (e->desc) snprintf(r->text, sizeof r->text, "%s", e->desc);
    return 1; /* stop at the innermost */
}

/* The device's own failure if there was one, else what HDF5 says; before HDF5 is called again. */
static qn_status hdf5_fail(const session *s, const char *action, const char *name) {
    reason r = {"no reason given"};
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_reason, &r);
    if (s->device.error) {
        errno = s->device.error;
        return qn_fail_errno(s->path, s->device.writing ? "write" : "read");
    }
    return qn_fail(s->device.writing ? QN_ERR_IO : QN_ERR_FORMAT, "%s: HDF5 cannot %s %s: %s",
                   s->path, action, name, r.text);
}

/* The type of a dtype in the file; in memory it is the same, so nothing is ever converted. */
static hid_t make_type(qn_dtype dtype) {
    hid_t type;
    switch (dtype) {
    case QN_F32: return H5Tcopy(H5T_IEEE_F32LE);
    case QN_F64: return H5Tcopy(H5T_IEEE_F64LE);
    case QN_I32: return H5Tcopy(H5T_STD_I32LE);
    case QN_I64: return H5Tcopy(H5T_STD_I64LE);
    case QN_U8: return H5Tcopy(H5T_STD_U8LE);
    case QN_BF16:
    case QN_F16:
        type = H5Tcopy(H5T_IEEE_F32LE);
        if (type < 0) return type;
        bool brain = dtype == QN_BF16;
        if (H5Tset_fields(type, 15, brain ? 7 : 10, brain ? 8 : 5, 0, brain ? 7 : 10) < 0 ||
            H5Tset_precision(type, 16) < 0 || H5Tset_size(type, 2) < 0 ||
            H5Tset_ebias(type, brain ? 127 : 15) < 0) {
            (void)H5Tclose(type);
            return -1;
        }
        return type;
    case QN_DTYPE_COUNT: break;
    }
    return -1;
}

/* Shape in the file; the number of axes is at least 1. */
static int file_shape(const qn_tensor *t, hsize_t shape[QN_MAX_DIMS]) {
    shape[0] = 1;
    for (int d = 0; d < t->ndim; d++) shape[d] = (hsize_t)t->shape[d];
    return t->ndim ? t->ndim : 1;
}

static bool is_empty(const qni_entry *e) { return qn_tensor_count(&e->t) == 0; }

/* ---- session --------------------------------------------------------------------------------- */

/* Neither the root nor /tensors keeps times: equal states make equal files. */
static qn_status create_file(session *s) {
    hid_t file_options = H5Pcreate(H5P_FILE_CREATE), group_options = H5Pcreate(H5P_GROUP_CREATE);
    if (file_options >= 0 && group_options >= 0 &&
        H5Pset_obj_track_times(file_options, false) >= 0 &&
        H5Pset_obj_track_times(group_options, false) >= 0) {
        s->file = H5Fcreate(s->path, H5F_ACC_TRUNC, file_options, s->access);
    }
    if (s->file >= 0) {
        s->group = H5Gcreate2(s->file, "tensors", H5P_DEFAULT, group_options, H5P_DEFAULT);
    }
    qn_status status = s->group < 0 ? hdf5_fail(s, "create", "the file") : QN_OK;
    if (file_options >= 0) (void)H5Pclose(file_options);
    if (group_options >= 0) (void)H5Pclose(group_options);
    return status;
}

static qn_status session_open(session *s, int fd, const char *path, bool writing, int64_t bytes) {
    *s = (session){.device = {.fd = fd, .writing = writing, .size = bytes},
                   .path = path,
                   .driver = -1,
                   .access = -1,
                   .file = -1,
                   .group = -1};
    /* No flush in an exit handler, no messages on stderr, no code from outside. */
    (void)H5dont_atexit();
    if (H5Eset_auto2(H5E_DEFAULT, NULL, NULL) < 0 || H5PLset_loading_state(0) < 0) {
        return qn_fail(QN_ERR_INTERNAL, "HDF5 cannot be initialised");
    }
    QN_TRY(qni_device_access(&s->device, &s->driver, &s->access));
    if (writing) return create_file(s);
    s->file = H5Fopen(path, H5F_ACC_RDONLY, s->access);
    return s->file < 0 ? hdf5_fail(s, "open", "the file") : QN_OK;
}

/* A file that was only read has nothing to lose when it closes. */
static qn_status session_close(session *s) {
    qn_status status = QN_OK;
    if (s->group >= 0) (void)H5Gclose(s->group);
    if (s->file >= 0 && H5Fclose(s->file) < 0 && s->device.writing) {
        status = hdf5_fail(s, "close", "the file");
    }
    qni_device_release(s->driver, s->access);
    if (status == QN_OK && s->device.writing && s->device.error) {
        errno = s->device.error;
        status = qn_fail_errno(s->path, "write");
    }
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* Halves the leading axes until a chunk is small enough. */
static void chunk_shape(const qn_tensor *t, int ndim, const hsize_t *shape, hsize_t *chunk) {
    hsize_t bytes = qn_dtype_bytes(t->dtype);
    for (int d = 0; d < ndim; d++) bytes *= chunk[d] = shape[d];
    for (int d = 0; d < ndim; d++) {
        while (bytes > CHUNK_BYTES && chunk[d] > 1) {
            hsize_t half = (chunk[d] + 1) / 2;
            bytes = bytes / chunk[d] * half;
            chunk[d] = half;
        }
    }
}

static qn_status write_tensor(session *s, const qni_entry *e) {
    qn_status status = QN_OK;
    hsize_t shape[QN_MAX_DIMS], chunk[QN_MAX_DIMS];
    int ndim = file_shape(&e->t, shape);
    chunk_shape(&e->t, ndim, shape, chunk);
    hid_t type = make_type(e->t.dtype), space = H5Screate_simple(ndim, shape, NULL);
    hid_t options = H5Pcreate(H5P_DATASET_CREATE), set = -1;
    if (type >= 0 && space >= 0 && options >= 0 && H5Pset_chunk(options, ndim, chunk) >= 0 &&
        H5Pset_fletcher32(options) >= 0 && H5Pset_fill_time(options, H5D_FILL_TIME_NEVER) >= 0 &&
        H5Pset_obj_track_times(options, false) >= 0) {
        set = H5Dcreate2(s->group, e->name, type, space, H5P_DEFAULT, options, H5P_DEFAULT);
    }
    if (set < 0 || H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, e->t.data) < 0) {
        status = hdf5_fail(s, "write", e->name);
    }
    if (set >= 0 && H5Dclose(set) < 0 && status == QN_OK) status = hdf5_fail(s, "close", e->name);
    if (options >= 0) (void)H5Pclose(options);
    if (space >= 0) (void)H5Sclose(space);
    if (type >= 0) (void)H5Tclose(type);
    return status;
}

qn_status qni_hdf5_write(int fd, const char *path, qni_entry *entry, int n) {
    session s;
    qn_status status = session_open(&s, fd, path, true, 0);
    for (int i = 0; i < n && status == QN_OK && !s.device.error; i++) {
        qni_entry_digest(&entry[i], entry[i].xxh3);
        if (!is_empty(&entry[i])) status = write_tensor(&s, &entry[i]);
    }
    qn_error first;
    qn_error_get(status, &first);
    qn_status closed = session_close(&s);
    return status != QN_OK ? qn_error_raise(&first) : closed;
}

/* ---- reading --------------------------------------------------------------------------------- */

static qn_status refuse(const session *s, const char *name, const char *expected) {
    return qn_fail(QN_ERR_FORMAT, "%s: %s: expected %s", s->path, name, expected);
}

/* `group` holds exactly n hard links, or none at all is said of it. */
static qn_status check_links(const session *s, hid_t group, const char *name, hsize_t n) {
    H5G_info_t info;
    if (H5Gget_info(group, &info) < 0) return hdf5_fail(s, "list", name);
    return info.nlinks == n ? QN_OK : refuse(s, name, "as many entries as the manifest lists");
}

static qn_status check_hard(const session *s, hid_t group, const char *name) {
    H5L_info_t info;
    if (H5Lget_info(group, name, &info, H5P_DEFAULT) < 0) return hdf5_fail(s, "find", name);
    return info.type == H5L_TYPE_HARD ? QN_OK : refuse(s, name, "a tensor, not a link elsewhere");
}

static qn_status check_storage(const session *s, const char *name, hid_t set, int ndim,
                               const hsize_t *shape) {
    qn_status status = QN_OK;
    hsize_t chunk[QN_MAX_DIMS] = {0};
    size_t n_values = 0;
    unsigned flags, filter_config;
    hid_t options = H5Dget_create_plist(set);
    if (options < 0) return hdf5_fail(s, "read the layout of", name);
    if (H5Pget_layout(options) != H5D_CHUNKED ||
        H5Pget_chunk(options, QN_MAX_DIMS, chunk) != ndim) {
        QN_TRY_GOTO(refuse(s, name, "chunked layout"));
    }
    for (int d = 0; d < ndim; d++) {
        if (chunk[d] > shape[d]) QN_TRY_GOTO(refuse(s, name, "chunks no larger than it"));
    }
    if (H5Pget_nfilters(options) != 1 ||
        H5Pget_filter2(options, 0, &flags, &n_values, NULL, 0, NULL, &filter_config) !=
            H5Z_FILTER_FLETCHER32) {
        QN_TRY_GOTO(refuse(s, name, "Fletcher-32 and no other filter"));
    }
    if (H5Dget_storage_size(set) > (hsize_t)s->device.size) {
        QN_TRY_GOTO(refuse(s, name, "storage that fits the file"));
    }
done:
    (void)H5Pclose(options);
    return status;
}

static qn_status check_shape(const session *s, const char *name, hid_t set, int ndim,
                             const hsize_t *shape) {
    hsize_t found[QN_MAX_DIMS];
    hid_t space = H5Dget_space(set);
    bool same = space >= 0 && H5Sget_simple_extent_ndims(space) == ndim &&
                H5Sget_simple_extent_dims(space, found, NULL) == ndim &&
                memcmp(found, shape, (size_t)ndim * sizeof *shape) == 0;
    if (space >= 0) (void)H5Sclose(space);
    return same ? QN_OK : refuse(s, name, "the shape that the manifest states");
}

static qn_status check_type(const session *s, const char *name, hid_t set, hid_t expected) {
    hid_t type = H5Dget_type(set);
    bool same = type >= 0 && expected >= 0 && H5Tequal(type, expected) > 0;
    if (type >= 0) (void)H5Tclose(type);
    return same ? QN_OK : refuse(s, name, "the dtype that the manifest states");
}

static qn_status read_dataset(session *s, const qni_entry *e, void *data) {
    qn_status status = QN_OK;
    hsize_t shape[QN_MAX_DIMS];
    int ndim = file_shape(&e->t, shape);
    hid_t set = -1, type = make_type(e->t.dtype);
    QN_TRY_GOTO(check_hard(s, s->group, e->name));
    set = H5Dopen2(s->group, e->name, H5P_DEFAULT);
    if (set < 0) QN_TRY_GOTO(hdf5_fail(s, "open", e->name));
    QN_TRY_GOTO(check_shape(s, e->name, set, ndim, shape));
    QN_TRY_GOTO(check_type(s, e->name, set, type));
    QN_TRY_GOTO(check_storage(s, e->name, set, ndim, shape));
    if (H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0) {
        status = hdf5_fail(s, "read", e->name);
    }
done:
    if (set >= 0) (void)H5Dclose(set);
    if (type >= 0) (void)H5Tclose(type);
    return status;
}

qn_status qni_hdf5_read(qni_hdf5 *h, int i, void *data) {
    qni_entry e = h->entry[i];
    char found[QNI_XXH3_SIZE];
    if (!is_empty(&e)) QN_TRY(read_dataset(&h->s, &e, data));
    e.t.data = data;
    qni_entry_digest(&e, found);
    if (strcmp(found, e.xxh3) == 0) return QN_OK;
    return qn_fail(QN_ERR_FORMAT, "%s: %s: XXH3-128 of its bytes is %s, the manifest states %s",
                   h->s.path, e.name, found, e.xxh3);
}

qn_status qni_hdf5_open(int fd, const char *path, int64_t bytes, const qni_entry *entry, int n,
                        qni_hdf5 **out) {
    qn_status status = QN_OK;
    hsize_t stored = 0;
    qni_hdf5 *h = qn_alloc(sizeof *h, "checkpoint reader");
    if (!h) return QN_ERR_OOM;
    h->entry = entry;
    for (int i = 0; i < n; i++) stored += !is_empty(&entry[i]);
    QN_TRY_GOTO(session_open(&h->s, fd, path, false, bytes));
    QN_TRY_GOTO(check_links(&h->s, h->s.file, "/", 1));
    QN_TRY_GOTO(check_hard(&h->s, h->s.file, "tensors"));
    h->s.group = H5Gopen2(h->s.file, "tensors", H5P_DEFAULT);
    if (h->s.group < 0) QN_TRY_GOTO(hdf5_fail(&h->s, "open", "/tensors"));
    QN_TRY_GOTO(check_links(&h->s, h->s.group, "/tensors", stored));
    *out = h;
    h = NULL;
done:
    qni_hdf5_close(h);
    return status;
}

void qni_hdf5_close(qni_hdf5 *h) {
    if (!h) return;
    (void)session_close(&h->s);
    qn_free(h);
}
