/* engine.h — what a computation is: arenas, tensors, random numbers, threads, devices.
 *
 * The tape and its programs are in tape.h, the list of operations in ops.h, the training loop in
 * train.h. Rules that hold everywhere: every fallible function returns qn_status; the detail is a
 * per-thread message set once, at the failure; library code never prints, exits or aborts.
 */
#ifndef QN_ENGINE_H
#define QN_ENGINE_H

#include "kernels/device_row.h"

/* ---- arena.c: the only places Quern's objects live ------------------------------------------- */

/* Set-up allocations. They honour failure injection (QUERN_FAIL_ALLOC=n makes the n-th fail,
 * counted from 1; `n+` fails all from the n-th on) and are zeroed. NULL with QN_ERR_OOM's message
 * set on failure. */
void *qn_alloc(size_t bytes, const char *what);
void *qn_realloc(void *old, size_t old_bytes, size_t new_bytes, const char *what);
void qn_free(void *p);
char *qn_strdup(const char *s, const char *what);
char *qn_sprintf(const char *format, ...) QN_PRINTF(1, 2); /* qn_alloc'ed */
int64_t qn_alloc_count(void); /* calls so far, all threads: tests prove replay makes none */

/* A bump allocator over chunks for objects of one lifetime (a tape, a config). Freed as a whole. */
typedef struct qn_setup qn_setup;
qn_status qn_setup_create(const char *name, qn_setup **out) QN_CHECKED;
/* Zeroed, 16-byte aligned; NULL = OOM, message set. */
void *qn_setup_alloc(qn_setup *s, size_t bytes);
char *qn_setup_strdup(qn_setup *s, const char *text);
size_t qn_setup_bytes(const qn_setup *s);
void qn_setup_free(qn_setup *s); /* NULL is legal */

/* One block of memory, reserved once, carved by offset: the run arena or the pool, on a device, or
 * staging memory of the host that the device copies to and from without a detour. Zeroed. On the
 * host it is huge-page friendly (2 MiB aligned when large). */
typedef struct qn_arena qn_arena;
qn_status qn_arena_create(const char *name, size_t bytes, qn_arena **out) QN_CHECKED; /* host */
qn_status qn_arena_create_on(qn_device d, const char *name, size_t bytes,
                             qn_arena **out) QN_CHECKED;
qn_status qn_arena_create_staging(qn_device d, const char *name, size_t bytes,
                                  qn_arena **out) QN_CHECKED;
void *qn_arena_base(const qn_arena *a);
size_t qn_arena_bytes(const qn_arena *a);
/* Fills with NaN bytes (0xFF); the dev preset does it before each replay. */
void qn_arena_poison(qn_arena *a);
void qn_arena_free(qn_arena *a);

/* Overflow-checked size arithmetic; false on overflow or a negative operand. */
bool qn_mul_i64(int64_t a, int64_t b, int64_t *out);
bool qn_add_i64(int64_t a, int64_t b, int64_t *out);

/* ---- tensor.c: views ------------------------------------------------------------------------- */

size_t qn_dtype_bytes(qn_dtype dt);
const char *qn_dtype_name(qn_dtype dt); /* "f32" */
bool qn_dtype_parse(const char *name, qn_dtype *out);
bool qn_dtype_is_float(qn_dtype dt);

qn_tensor qn_tensor_make(void *data, qn_dtype dt, int ndim, const int64_t *shape); /* contiguous */
#define QN_SHAPE(...)                                                                              \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { __VA_ARGS__ }
int64_t qn_tensor_count(const qn_tensor *t);      /* elements; 1 for a scalar */
size_t qn_tensor_bytes(const qn_tensor *t);       /* of the contiguous tensor of that shape */
bool qn_tensor_is_contiguous(const qn_tensor *t); /* axes of size 1 never spoil it */
bool qn_tensor_same_shape(const qn_tensor *a, const qn_tensor *b);
const char *qn_tensor_describe(const qn_tensor *t, char *buffer, size_t size); /* "f32[2,3]" */
/* Element access for REF bodies and tests: index counts elements in row-major order of the
 * shape. */
double qn_tensor_get(const qn_tensor *t, int64_t index);
void qn_tensor_set(const qn_tensor *t, int64_t index, double v); /* rounds to nearest even */
int64_t qn_tensor_get_int(const qn_tensor *t, int64_t index);
double qn_nan_plain(double v); /* v, a NaN without its sign, which %g would show as "-nan" */
int64_t qn_tensor_offset(const qn_tensor *t, int64_t index); /* elements from data */

/* bf16 and f16 as bits; round to nearest even, NaN stays NaN. */
static inline float qn_bf16_to_f32(uint16_t h) {
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)h << 16};
    return v.f;
}
static inline uint16_t qn_f32_to_bf16(float f) {
    union {
        float f;
        uint32_t u;
    } v = {f};
    if ((v.u & 0x7FFFFFFFu) > 0x7F800000u) return (uint16_t)((v.u >> 16) | 0x40u);
    return (uint16_t)((v.u + 0x7FFFu + ((v.u >> 16) & 1u)) >> 16);
}
float qn_f16_to_f32(uint16_t h);
uint16_t qn_f32_to_f16(float f);

/* ---- random.c: keys and draws (Philox itself is in kernels.h) -------------------------------- */

/* key = XXH3-64 of (seed, dotted scope path, site). Nothing depends on tape position, thread or
 * rank. */
uint64_t qn_rng_key(uint64_t seed, const char *scope, const char *site);
double qn_rng_uniform(uint64_t key, uint64_t step, uint64_t element); /* [0,1), 32 bits */
/* Box-Muller on lanes 2i, 2i+1. */
double qn_rng_normal(uint64_t key, uint64_t step, uint64_t element);
/* Keyed permutation of 0..n-1 (Feistel network over Philox, cycle walking): place of `i`. */
uint64_t qn_rng_permute(uint64_t key, uint64_t n, uint64_t i);

/* ---- parallel.c: threads --------------------------------------------------------------------- */

/* Calls body(ctx, i) for i in [0, n). Tasks are cut by shape alone, so results never depend on the
 * thread count: no task may read what another writes. */
typedef void qn_task(void *ctx, int64_t i);
void qn_parallel_for(int threads, int64_t n, qn_task *body, void *ctx);
int qn_parallel_max_threads(void); /* cores this process may run on */
int qn_parallel_thread(void);      /* 0..threads-1 inside a task: picks per-thread scratch only */

/* ---- device.c: devices by name --------------------------------------------------------------- */

/* "auto", "cpu", "ref", "cuda". A device asked for and missing is an error that says why; `plan`
 * asks for its arithmetic only, which needs the kernels in this build but no GPU. "auto" takes CUDA
 * where it can be used. text: a line people should see, "" if none. */
qn_status qn_device_resolve(const char *name, bool plan, qn_device *out, char *text,
                            size_t size) QN_CHECKED;
const char *qn_device_name(qn_device d);
bool qn_device_built(qn_device d); /* this build has it */
/* Its row; of a device that is not in this build, the row of the host (nothing reaches it: open
 * has failed). */
const qn_device_row *qn_device_get(qn_device d);
/* Starts the device on first use, later calls cost nothing. QN_ERR_DEVICE says what is missing. */
qn_status qn_device_open(qn_device d) QN_CHECKED;
/* A copy between host and device, or within either, that has happened when it returns. */
qn_status qn_device_copy(qn_device d, void *dst, const void *src, size_t bytes) QN_CHECKED;
bool qn_cpu_multiplies_bf16(void);    /* this build and this CPU have bf16 matrix products */
const char *qn_cpu_description(void); /* model name and the vector extensions in use */
/* The body that runs `op` for inputs of this dtype on d: CUDA's if it takes the dtype, else NULL;
 * the CPU's if it takes it, else REF. */
qn_kernel *qn_device_kernel(qn_device d, const qn_op *op, qn_dtype dt);
/* What runs one described call, and what goes before and after (NULL where nothing does). */
typedef struct qn_body {
    qn_kernel *run;
    qn_status (*prepare)(qn_call *call);
    void (*release)(qn_call *call);
} qn_body;
qn_status qn_device_body(qn_device d, const qn_call *call, qn_body *out) QN_CHECKED;
/* Bytes of scratch that d's body of a described call asks for. */
size_t qn_device_scratch(qn_device d, const qn_call *call);
double qn_clock(void); /* CLOCK_MONOTONIC seconds */

#endif
