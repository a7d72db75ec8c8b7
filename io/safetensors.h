/* safetensors.h — Hugging Face's tensor file: read through a mapping, written like its reference.
 *
 * A file is a little-endian u64 N, N bytes of JSON, then the tensors, row-major and little-endian,
 * one after the other. Every byte is hostile until checked: a header longer than 100 MB or than the
 * file, JSON of another form, a name twice, a product of a shape that overflows, bits that do not
 * fill bytes, offsets that leave a gap, overlap, contradict the shape or do not end with the file
 * are QN_ERR_FORMAT naming file and tensor. White space around the JSON is accepted. What is inside
 * a tensor is not looked at: NaN and infinities are legal.
 */
#ifndef QN_SAFETENSORS_H
#define QN_SAFETENSORS_H

#include "engine/engine.h"

typedef struct qn_safetensor {
    const char *name;
    const char *dtype; /* in the format's words: "BF16" */
    bool known;        /* `type` is what the engine calls it; false for the likes of F8_E4M3 */
    qn_dtype type;
    int64_t ndim;
    const int64_t *shape;
    int64_t count, bytes;
    const unsigned char *data; /* not aligned; in the mapping */
    const char *file;          /* path of the file it is in */
} qn_safetensor;

typedef struct qn_safetensors qn_safetensors;

/* Opens a .safetensors file; or model.safetensors.index.json with all its shards; or a directory
 * that has one of the two. In an index every tensor must be in the file it names and no file may
 * hold others; file names are plain. A pickle (pytorch_model.bin, .pt, .pth, .ckpt) is refused:
 * reading one runs the code in it. */
qn_status qn_safetensors_open(const char *path, qn_safetensors **out) QN_CHECKED;
/* Whether a path is one of these rather than a run or a checkpoint: a file, or a directory that
 * holds a model. */
bool qn_safetensors_meant(const char *path);
/* A whole file in memory, which must outlive *out; `name` stands for it in errors. */
qn_status qn_safetensors_parse(const char *name, const void *bytes, int64_t size,
                               qn_safetensors **out) QN_CHECKED;
void qn_safetensors_close(qn_safetensors *s); /* NULL is legal */

int64_t qn_safetensors_count(const qn_safetensors *s);
const qn_safetensor *qn_safetensors_get(const qn_safetensors *s, int64_t i); /* in order of names */
const qn_safetensor *qn_safetensors_find(const qn_safetensors *s, const char *name); /* or NULL */
/* Value of a key of `__metadata__`, of the first file that has it; NULL if none has. */
const char *qn_safetensors_metadata(const qn_safetensors *s, const char *key);
/* QN_ERR_DATA if a mapped file has become shorter, so that touching its data would be SIGBUS. */
qn_status qn_safetensors_intact(const qn_safetensors *s) QN_CHECKED;

/* Elements first .. first+count-1 of a tensor as `to`. Floats convert to floats, rounding to
 * nearest even; any other dtype only to itself (QN_ERR_DTYPE). */
qn_status qn_safetensor_read(const qn_safetensor *t, int64_t first, int64_t count, qn_dtype to,
                             void *out) QN_CHECKED;
/* "BF16[4,8]" */
const char *qn_safetensor_describe(const qn_safetensor *t, char *text, size_t size);

/* ---- safetensors_inspect.c ------------------------------------------------------------------- */

/* A table of the tensors with their least, largest and mean element and the number that are not
 * finite; or JSON. *text is freed with qn_free. */
qn_status qn_safetensors_inspect(const qn_safetensors *s, bool json, char **text) QN_CHECKED;

/* ---- safetensors_write.c --------------------------------------------------------------------- */

typedef struct qn_safetensors_item {
    const char *name;
    qn_tensor t; /* contiguous; data may be NULL if there is `read` */
} qn_safetensors_item;

typedef struct qn_safetensors_output {
    const qn_safetensors_item *item;
    int64_t n;
    /* Keys and values of `__metadata__` in turn, ending in NULL. NULL = {"format": "pt"}, without
     * which transformers refuses a file. */
    const char *const *metadata;
    /* Writes elements first .. first+count-1 of item i, in its dtype. NULL: they are at t.data. */
    qn_status (*read)(void *self, int64_t i, int64_t first, int64_t count, void *out);
    void *self;
} qn_safetensors_output;

/* Writes the file in the reference's order: by size of the element, then dtype, then name; header
 * padded to a multiple of 8 bytes. Through a temporary file, fsync and rename. */
qn_status qn_safetensors_write(const char *path, const qn_safetensors_output *o) QN_CHECKED;
/* DIR/model.safetensors, or, if the tensors are more than max_bytes, DIR/model-00001-of-0000N...
 * (in the order given, none larger than max_bytes unless a single tensor is) and the index. */
qn_status qn_safetensors_write_model(const char *dir, const qn_safetensors_output *o,
                                     int64_t max_bytes) QN_CHECKED;

#endif
