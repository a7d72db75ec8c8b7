/* data_parts.h — what the data sources share among themselves; not for use outside io/data_*.c. */
#ifndef QN_DATA_PARTS_H
#define QN_DATA_PARTS_H

#include "io/data.h"
#include "io/large_file.h"

#define XXH_STATIC_LINKING_ONLY /* digest states live on the stack and in our structs */
#include <xxhash.h>

/* ---- data_file.c: one input file as bytes ---------------------------------------------------- */

typedef struct qni_file {
    char *path;             /* as opened; errors name it */
    char *relative;         /* below the walked directory, or the base name; without .gz */
    qn_split home;          /* the split it belongs to */
    bool packed;            /* it was a .gz */
    uint64_t device, inode; /* of `path` */
    int64_t size;           /* content, after unpacking */
    uint64_t digest;        /* of the content; see qn_data_open */
    qni_view view;          /* content; closed early when `own` replaces it */
    void *own;              /* encoded content of a char vocabulary, or NULL */
} qni_file;

/* Maps `path`, through the cache if it is a .gz. Empty content is an error. */
qn_status qni_file_open(const char *path, const char *relative, const char *cache_dir,
                        qni_file *out) QN_CHECKED;
void qni_file_close(qni_file *f);

/* ---- data_gzip.c ----------------------------------------------------------------------------- */

/* The directory of the cache, made if need be; *out is the caller's. stated: qn_data_options'
 * cache_dir. QN_ERR_IO if none can be written to. */
qn_status qni_cache_directory(const char *stated, char **out) QN_CHECKED;

/* The content of a gzip file (one or several members), from the cache or unpacked into it. Each
 * entry ends in a trailer with size and digest; one that does not agree is made anew. *size is that
 * of the content, which comes first in the view. */
qn_status qni_gzip_open(const char *path, const qni_view *packed, const char *cache_dir,
                        qni_view *out, int64_t *size) QN_CHECKED;

/* ---- data_files.c: finding files ------------------------------------------------------------- */

typedef struct qni_files {
    qni_file *file;
    int64_t n, capacity;
    int64_t skipped; /* empty files of walked directories */
} qni_files;

/* Opens and appends the files of o->paths[home]. */
qn_status qni_files_open(const qn_data_options *o, qn_split home, qni_files *out) QN_CHECKED;
/* QN_ERR_DATA if one file is at home in two splits. */
qn_status qni_files_check_leak(const qni_files *f) QN_CHECKED;
void qni_files_close(qni_files *f);
bool qni_path_match(const char *glob, const char *path);

/* ---- data_stream.c: tokens in many places as one sequence ------------------------------------ */

typedef struct qni_span {
    const unsigned char *data; /* little-endian ids of `width` bytes: 1, 2 or 4 */
    int width;
    int64_t count;
    int64_t first;             /* place of data[0] in its file, for errors and the mask */
    const unsigned char *mask; /* as qn_tokens; NULL: every token counts */
    const qni_file *file;      /* NULL: a separator */
    int64_t start;             /* place of data[0] in the stream; append sets it */
} qni_span;

typedef struct qni_stream {
    qni_span *span;
    int64_t n, capacity;
    int64_t tokens;
    bool masked;
} qni_stream;

qn_status qni_stream_append(qni_stream *s, qni_span span) QN_CHECKED; /* empty spans are dropped */
qn_status qni_stream_slice(const qni_stream *from, int64_t first, int64_t count,
                           qni_stream *to) QN_CHECKED;
/* ids[0..count) = tokens first.. of the stream, checked against `vocab`. With `targets`, those
 * whose mask bit is clear become QN_IGNORE_INDEX. */
qn_status qni_stream_read(const qni_stream *s, int64_t first, int64_t count, int64_t vocab,
                          bool targets, int32_t *ids) QN_CHECKED;
void qni_stream_free(qni_stream *s);

/* Documents, one span per file in file order, to the streams of the splits. */
qn_status qni_divide(const qn_data_options *o, qni_files *files, const qni_span *document,
                     const qni_span *separator, qni_stream split[QN_SPLIT_COUNT]) QN_CHECKED;
/* Sizes of val and test out of n by the options' fractions; QN_ERR_DATA if a split would be
 * empty. */
qn_status qni_divide_count(const qn_data_options *o, int64_t n, const char *unit,
                           int64_t count[QN_SPLIT_COUNT]) QN_CHECKED;
/* The same; and for a random division *place: the items of train, then of val, then of test, each
 * split's in rising order (qn_free). NULL for a division in order. */
qn_status qni_divide_items(const qn_data_options *o, int64_t n, const char *unit,
                           int64_t count[QN_SPLIT_COUNT], int64_t **place) QN_CHECKED;

/* ---- data.c ---------------------------------------------------------------------------------- */

/* First member of every source's self. */
typedef struct qni_head {
    char *text; /* qn_data_describe */
} qni_head;

qn_status qni_say(qni_head *h, const char *format, ...) QN_PRINTF(2, 3) QN_CHECKED;

extern const char *const qni_split_name[QN_SPLIT_COUNT]; /* "train", "val", "test" */

/* Place within the epoch's random order of a training position; *epoch is which epoch. */
int64_t qni_epoch_index(uint64_t key, int64_t n, int64_t position, int64_t *epoch);

/* Identity: canonical text goes into the digest. */
void qni_identity_begin(XXH3_state_t *state, const qn_data_options *o);
void qni_identity_text(XXH3_state_t *state, const char *format, ...) QN_PRINTF(2, 3);
void qni_identity_file(XXH3_state_t *state, const qni_file *f);

qn_status qni_window_source(const qn_data_options *o, qn_source *out, qn_vocab **vocab) QN_CHECKED;
qn_status qni_items_source(const qn_data_options *o, qn_source *out) QN_CHECKED;
qn_status qni_examples_source(const qn_data_options *o, qn_source *out) QN_CHECKED;

/* data_text.c: one document span per file, the separator's span, and the vocabulary (NULL with
 * o->tokenizer). *separator_bytes is the caller's (qn_free). Encodes files in place unless the
 * vocabulary is that of bytes. */
qn_status qni_text_documents(const qn_data_options *o, qni_files *files, qni_span *document,
                             qni_span *separator, unsigned char **separator_bytes,
                             qn_vocab **vocab) QN_CHECKED;

/* ---- data_samples.c: encoded examples, packed into rows -------------------------------------- */

typedef struct qni_samples { /* of one split; {0} is none */
    int64_t n, capacity;
    int64_t *first; /* token of each sample, and the end: n + 1 */
    int64_t room;   /* tokens there is space for */
    int32_t *id;
    unsigned char *target; /* per token: it is learned; 1 + its class where tokens have one */
    unsigned char *type;   /* per token: second text of a pair */
    double *label;         /* per sample: class, classes as bits, or number to predict */
} qni_samples;

/* target, type: NULL = all 0. */
qn_status qni_samples_add(qni_samples *s, const int32_t *id, const unsigned char *target,
                          const unsigned char *type, int64_t n, double label) QN_CHECKED;
void qni_samples_free(qni_samples *s);

typedef enum qni_sample_kind {
    QNI_SAMPLES_PACKED,      /* several in a row, best fit first: documents and positions tell them
                             apart */
    QNI_SAMPLES_SINGLE,      /* one in a row */
    QNI_SAMPLES_CLASSIFY,    /* one in a row, with a class */
    QNI_SAMPLES_TOKENS,      /* one in a row, with a class for some of its tokens */
    QNI_SAMPLES_MULTI_LABEL, /* one in a row, with any number of classes */
    QNI_SAMPLES_REGRESS      /* one in a row, with a number */
} qni_sample_kind;

typedef struct qni_samples_options {
    qni_sample_kind kind;
    int64_t block;   /* tokens of a row; no sample is longer */
    int32_t pad;     /* id that fills a row up */
    int64_t classes; /* vocabulary, classes, or 0 */
    bool pairs;      /* give token_types */
    uint64_t seed, identity;
} qni_samples_options;

/* A source over samples, which pass over to it, as `text` does (qn_data_describe; qn_free).
 * Language models: tokens, positions, documents, targets, each i32[block]; a token's target is the
 * next one of its sample if that is learned, else QN_IGNORE_INDEX; padding has document -1.
 * Otherwise: tokens, documents (0, padding -1), with `pairs` token_types, then labels: i32,
 * f32[1], or f32[classes] of zeros and ones; for classes of tokens targets, i32[block]. */
qn_status qni_samples_source(const qni_samples_options *o, qni_samples split[QN_SPLIT_COUNT],
                             char *text, qn_source *out) QN_CHECKED;

#endif
