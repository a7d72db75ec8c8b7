/* safetensors_parts.h — what the parts of io/safetensors*.c share. */
#ifndef QN_SAFETENSORS_PARTS_H
#define QN_SAFETENSORS_PARTS_H

#include "io/json.h"
#include "io/large_file.h"
#include "io/safetensors.h"

typedef struct qni_safetensors_file {
    const char *path;
    qni_view view;         /* closed with the object; zero for a file in memory */
    const cJSON *metadata; /* object of strings, NULL if there is none */
} qni_safetensors_file;

struct qn_safetensors {
    qn_setup *setup; /* names, shapes, paths, headers */
    qni_safetensors_file *file;
    int64_t n_files, file_capacity;
    qn_safetensor *item; /* by name, once the object is complete */
    int64_t n, capacity;
};

typedef struct qni_safetensors_dtype {
    const char *name;
    int bits;
    bool known;
    qn_dtype type;
} qni_safetensors_dtype;

/* All dtypes of the format in the order of its reference, by which files are sorted. */
extern const qni_safetensors_dtype qni_safetensors_dtypes[];
extern const int qni_safetensors_dtype_count;

/* Checks a file's bytes and appends its tensors, in the order of their offsets; file[] has its path
 * already. */
qn_status qni_safetensors_header(qn_safetensors *s, qni_safetensors_file *file,
                                 const unsigned char *bytes, int64_t size) QN_CHECKED;

#endif
