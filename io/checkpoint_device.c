/* checkpoint_device.c — HDF5's low-level file interface over a descriptor of ours.
 *
 * Why not HDF5's own: when a write fails (a full disk), H5Fclose fails half way and leaves the file
 * in the library's tables; HDF5 1.10 then dies with SIGSEGV, at the latest in its exit handler.
 * Here the first failure is remembered with its errno and every later write is dropped as if it had
 * worked, so HDF5 closes the file cleanly and the caller learns the true reason from the device. It
 * also means that the descriptor that was hashed is the one that is read, and that one fsync sees
 * every write error.
 */
#include "io/checkpoint_parts.h"

#include <errno.h>
#include <hdf5.h>
#include <unistd.h>

#if H5_VERSION_GE(1, 13, 2)
#include <H5FDdevelop.h>
#endif

typedef struct file {
    H5FD_t base; /* HDF5's part comes first */
    qni_device *device;
} file;

typedef struct access_info {
    qni_device *device;
} access_info;

static qni_device *device_of(const H5FD_t *f) { return ((const file *)(const void *)f)->device; }

static H5FD_t *device_open(const char *name, unsigned flags, hid_t fapl, haddr_t maxaddr) {
    (void)name;
    (void)flags;
    (void)maxaddr;
    const access_info *a = H5Pget_driver_info(fapl);
    if (!a) return NULL;
    file *f = qn_alloc(sizeof *f, "checkpoint file");
    if (!f) {
        a->device->error = ENOMEM;
        return NULL;
    }
    f->device = a->device;
    return &f->base;
}

static herr_t device_close(H5FD_t *f) {
    qn_free(f);
    return 0;
}

static int device_compare(const H5FD_t *a, const H5FD_t *b) {
    const qni_device *x = device_of(a), *y = device_of(b);
    return (x > y) - (x < y);
}

static herr_t device_query(const H5FD_t *f, unsigned long *flags) {
    (void)f;
    *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA |
             H5FD_FEAT_AGGREGATE_SMALLDATA;
    return 0;
}

static haddr_t device_get_eoa(const H5FD_t *f, H5FD_mem_t type) {
    (void)type;
    return (haddr_t)device_of(f)->limit;
}

static herr_t device_set_eoa(H5FD_t *f, H5FD_mem_t type, haddr_t address) {
    (void)type;
    if (address > INT64_MAX) return -1;
    device_of(f)->limit = (int64_t)address;
    return 0;
}

static haddr_t device_get_eof(const H5FD_t *f, H5FD_mem_t type) {
    (void)type;
    return (haddr_t)device_of(f)->size;
}

static herr_t device_read(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t address, size_t size,
                          void *buffer) {
    (void)type;
    (void)dxpl;
    qni_device *d = device_of(f);
    char *p = buffer;
    if (address > (haddr_t)d->size || size > (haddr_t)d->size - address) return -1;
    for (off_t at = (off_t)address; size;) {
        ssize_t n = pread(d->fd, p, size, at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (!d->error) d->error = n < 0 ? errno : EIO;
            return -1;
        }
        p += n;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

static herr_t device_write(H5FD_t *f, H5FD_mem_t type, hid_t dxpl, haddr_t address, size_t size,
                           const void *buffer) {
    (void)type;
    (void)dxpl;
    qni_device *d = device_of(f);
    const char *p = buffer;
    if (!d->writing || address > INT64_MAX - size) return -1;
    if ((int64_t)(address + size) > d->size) d->size = (int64_t)(address + size);
    for (off_t at = (off_t)address; size && !d->error;) {
        ssize_t n = pwrite(d->fd, p, size, at);
        if (n < 0) {
            if (errno != EINTR) d->error = errno;
            continue;
        }
        p += n;
        at += n;
        size -= (size_t)n;
    }
    return 0;
}

static herr_t device_truncate(H5FD_t *f, hid_t dxpl, hbool_t closing) {
    (void)dxpl;
    (void)closing;
    qni_device *d = device_of(f);
    if (!d->writing || d->size == d->limit) return 0;
    if (!d->error && ftruncate(d->fd, (off_t)d->limit) != 0) d->error = errno;
    d->size = d->limit;
    return 0;
}

static const H5FD_class_t driver_class = {
#if H5_VERSION_GE(1, 13, 2)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)300, /* 256 .. 511 are for drivers under development */
#endif
    .name = "quern",
    .maxaddr = INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(access_info),
    .open = device_open,
    .close = device_close,
    .cmp = device_compare,
    .query = device_query,
    .get_eoa = device_get_eoa,
    .set_eoa = device_set_eoa,
    .get_eof = device_get_eof,
    .read = device_read,
    .write = device_write,
    .truncate = device_truncate,
    .fl_map = H5FD_FLMAP_SINGLE,
};

qn_status qni_device_access(qni_device *d, int64_t *driver_id, int64_t *access_id) {
    const access_info info = {d};
    *access_id = -1;
    *driver_id = H5FDregister(&driver_class);
    if (*driver_id >= 0) *access_id = H5Pcreate(H5P_FILE_ACCESS);
    if (*access_id < 0 || H5Pset_driver(*access_id, *driver_id, &info) < 0 ||
        H5Pset_fclose_degree(*access_id, H5F_CLOSE_STRONG) < 0 ||
        H5Pset_libver_bounds(*access_id, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST) < 0) {
        qni_device_release(*driver_id, *access_id);
        return qn_fail(QN_ERR_INTERNAL, "HDF5: the file driver cannot be set up");
    }
    return QN_OK;
}

void qni_device_release(int64_t driver_id, int64_t access_id) {
    if (access_id >= 0) (void)H5Pclose(access_id);
    if (driver_id >= 0) (void)H5FDunregister(driver_id);
}
