/* checkpoint_parts.h — what the checkpoint sources share: entries, manifest, HDF5 files. */
#ifndef QNI_CHECKPOINT_PARTS_H
#define QNI_CHECKPOINT_PARTS_H

#include "io/checkpoint.h"
#include "io/sha256.h"

enum { QNI_MODEL, QNI_STATE, QNI_FILES, QNI_XXH3_SIZE = 33 };

#define QNI_STEP_MAX INT64_C(1000000000000000) /* as checkpoint.h promises */

/* One tensor of one file. t.data is NULL in a manifest that was read. */
typedef struct qni_entry {
    int file; /* QNI_MODEL or QNI_STATE */
    const char *name;
    qn_tensor t;
    char xxh3[QNI_XXH3_SIZE];
} qni_entry;

typedef struct qni_manifest {
    qn_checkpoint_info info;
    int64_t bytes[QNI_FILES];
    char sha256[QNI_FILES][QN_SHA256_HEX];
    qni_entry *entry;         /* model's first, each file's in order of name */
    int first[QNI_FILES + 1]; /* entries of file f are first[f] .. first[f+1] - 1 */
} qni_manifest;

extern const char *const qni_file_name[QNI_FILES]; /* "model.h5", "state.h5" */

/* ---- checkpoint_entry.c ---------------------------------------------------------------------- */

/* Sorted entries of both lists in m->entry (qn_alloc'ed) and m->first. Refuses bad or repeated
 * names and tensors that are not contiguous. Digests are left empty. */
qn_status qni_entries_create(const qn_named *model, int n_model, const qn_named *state, int n_state,
                             qni_manifest *m) QN_CHECKED;
void qni_entry_digest(const qni_entry *e, char hex[QNI_XXH3_SIZE]); /* of t's bytes */
bool qni_name_is_good(const char *name);
/* The digest that qn_checkpoint_digest promises, from entries whose xxh3 is set. */
qn_status qni_digest(const qni_manifest *m, char digest[QN_DIGEST_SIZE]) QN_CHECKED;

/* ---- checkpoint_manifest.c ------------------------------------------------------------------- */

enum { QNI_MANIFEST_MAX = 64 << 20 };

qn_status qni_manifest_write(const qni_manifest *m, char **text, size_t *bytes) QN_CHECKED;
/* Everything the manifest points to lives in `arena`. `name` is what errors call it. */
qn_status qni_manifest_parse(qn_setup *arena, const char *name, const char *text, size_t bytes,
                             qni_manifest *m) QN_CHECKED;

/* ---- checkpoint_device.c: HDF5's low-level file over a descriptor of ours -------------------- */

typedef struct qni_device {
    int fd;
    bool writing;
    int64_t size;  /* bytes in the file */
    int64_t limit; /* HDF5's end of allocated space */
    int error;     /* errno of the first failure; later writes are dropped */
} qni_device;

/* Registers the driver and makes a file access list that opens files on `d`. Ids are closed by the
 * caller, the list first. */
qn_status qni_device_access(qni_device *d, int64_t *driver_id, int64_t *access_id) QN_CHECKED;
void qni_device_release(int64_t driver_id, int64_t access_id);

/* ---- checkpoint_hdf5.c ----------------------------------------------------------------------- */

/* Writes entries [0, n) into the empty file fd. Their xxh3 is set on the way. */
qn_status qni_hdf5_write(int fd, const char *path, qni_entry *entry, int n) QN_CHECKED;

typedef struct qni_hdf5 qni_hdf5;

/* Opens for reading; the file must hold exactly one dataset per entry. Keeps `entry`. */
qn_status qni_hdf5_open(int fd, const char *path, int64_t bytes, const qni_entry *entry, int n,
                        qni_hdf5 **out) QN_CHECKED;
/* Reads entry i into data (qn_tensor_bytes of it) and checks its digest. */
qn_status qni_hdf5_read(qni_hdf5 *h, int i, void *data) QN_CHECKED;
void qni_hdf5_close(qni_hdf5 *h);

/* ---- checkpoint.c, for its neighbours -------------------------------------------------------- */

/* Size and SHA-256 of the file behind fd, from its beginning. */
qn_status qni_hash_file(int fd, const char *path, int64_t *bytes,
                        char hex[QN_SHA256_HEX]) QN_CHECKED;
const qni_manifest *qni_checkpoint_manifest(const qn_checkpoint *c);
qn_status qni_checkpoint_hdf5(qn_checkpoint *c, int file, qni_hdf5 **out) QN_CHECKED;

#endif
