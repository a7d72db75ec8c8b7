/* tensor_core.c — ldmatrix, stmatrix and mma.sync.
 *
 * Products of floating types are exact in f32 and are added to c one by one, k ascending, each
 * sum rounded to nearest; f16 results are rounded once more at the end; integers wrap. A device
 * adds in another order and rounds otherwise.
 */
#include <string.h>

#include "kernels/emu/operand.h"

/* ---- ldmatrix, stmatrix ---------------------------------------------------------------------- */

typedef struct matrix_lane {
    char *row; /* lanes 8 m .. 8 m + 7 name the rows of matrix m */
    uint32_t address, r[4];
} matrix_lane;

typedef struct matrix_kind {
    int n;
    bool trans, store;
    const qe_site *site;
} matrix_kind;

static void count_rows(const matrix_kind *kind, void *const *data, qe_thread *t) {
    uint32_t address[32];
    if (!(t->watch & QE_COUNT)) return;
    for (int l = 0; l < 32; l++) address[l] = ((const matrix_lane *)data[l])->address;
    qe_count_matrix(t, address, 8 * kind->n, kind->store ? QE_WRITE : QE_READ, kind->site);
}

static void move_matrices(void *context, void *const *data, qe_thread *const *lane) {
    const matrix_kind *kind = context;
    for (int l = 0; l < 32; l++)
        if (!data[l])
            qe_fatal(QE_BUG_WARP, qe_current(), kind->site, "lane %d has exited: a matrix needs 32",
                     l);
    count_rows(kind, data, lane[0]);
    for (int m = 0; m < kind->n; m++) {
        char *row[8];
        for (int i = 0; i < 8; i++) row[i] = ((matrix_lane *)data[8 * m + i])->row;
        for (int l = 0; l < 32; l++) {
            char *r = (char *)&((matrix_lane *)data[l])->r[m];
            int g = l / 4, t = l % 4;
            char *first = kind->trans ? row[2 * t] + 2 * g : row[g] + 4 * t;
            char *second = kind->trans ? row[2 * t + 1] + 2 * g : first + 2;
            memcpy(kind->store ? first : r, kind->store ? r : first, 2);
            memcpy(kind->store ? second : r + 2, kind->store ? r + 2 : second, 2);
        }
    }
}

/* Each lane answers for the row it names. */
static void matrices(qe_thread *t, uint32_t address, matrix_kind *kind, uint32_t *r,
                     const char *name) {
    matrix_lane mine = {.address = address};
    size_t bytes = sizeof *r * (size_t)kind->n;
    if (t->lane < 8u * (uint32_t)kind->n) {
        mine.row = qe_shared(t, address, 16, kind->site);
        if (address & 15u) qe_misaligned(t, mine.row, 16, kind->site);
        if (t->watch & QE_CHECK)
            qe_watched(t, mine.row, 16, (kind->store ? QE_WRITE : QE_READ) | QE_UNCOUNTED,
                       kind->site);
    }
    if (kind->store) memcpy(mine.r, r, bytes);
    qe_warp_meet(t, ~0u, name, &mine, sizeof mine, move_matrices, kind, kind->site);
    if (!kind->store) memcpy(r, mine.r, bytes);
}

void qe_ldmatrix(qe_thread *t, uint32_t address, int n, bool trans, uint32_t *r,
                 const qe_site *site) {
    matrix_kind kind = {n, trans, false, site};
    matrices(t, address, &kind, r, "ldmatrix");
}

void qe_stmatrix(qe_thread *t, uint32_t address, int n, bool trans, const uint32_t *r,
                 const qe_site *site) {
    uint32_t copy[4];
    memcpy(copy, r, sizeof *r * (size_t)n);
    matrix_kind kind = {n, trans, true, site};
    matrices(t, address, &kind, copy, "stmatrix");
}

/* ---- mma.sync -------------------------------------------------------------------------------- */

enum { M = 16, N = 8, MAX_K = 32 };

typedef float row8 __attribute__((vector_size(4 * N)));

typedef struct mma_lane {
    uint32_t a[4], b[2], c[4];
} mma_lane;

typedef struct mma_context {
    const qe_mma *kind;
    const qe_site *site;
} mma_context;

static void load_a(const qe_mma *kind, void *const *data, float a[M][MAX_K]) {
    int e = 4 / qe_operand_bytes(kind->a), registers = kind->k / (2 * e);
    for (int l = 0; l < 32; l++) {
        float wide[16];
        int g = l / 4, t = l % 4;
        qe_operand_widen(kind->a, ((const mma_lane *)data[l])->a, wide, registers * e);
        for (int i = 0; i < registers; i++)
            for (int j = 0; j < e; j++)
                a[g + 8 * (i & 1)][t * e + j + 4 * e * (i >> 1)] = wide[i * e + j];
    }
}

static void load_b(const qe_mma *kind, void *const *data, row8 b[MAX_K]) {
    int e = 4 / qe_operand_bytes(kind->b), registers = kind->k / (4 * e);
    for (int l = 0; l < 32; l++) {
        float wide[8];
        int g = l / 4, t = l % 4;
        qe_operand_widen(kind->b, ((const mma_lane *)data[l])->b, wide, registers * e);
        for (int i = 0; i < registers; i++)
            for (int j = 0; j < e; j++) b[t * e + j + 4 * e * i][g] = wide[i * e + j];
    }
}

/* C and D: the register and, for f16, the half of it that holds element i of a lane. */
static float load_c(const qe_mma *kind, const mma_lane *lane, int i) {
    if (qe_operand_is_integer(kind->a)) return 0.0f; /* added last, as integers */
    if (kind->half_result) return qe_from_f16((uint16_t)(lane->c[i >> 1] >> 16 * (i & 1)));
    return qe_float_of(lane->c[i]);
}

static void store_d(const qe_mma *kind, mma_lane *lane, int i, float d) {
    if (qe_operand_is_integer(kind->a)) {
        lane->c[i] += (uint32_t)(int32_t)d; /* below 2^24 in size, so exact */
    } else if (kind->half_result) {
        uint32_t half = qe_to_f16(d);
        int shift = 16 * (i & 1);
        lane->c[i >> 1] = (lane->c[i >> 1] & ~(0xffffu << shift)) | half << shift;
    } else {
        lane->c[i] = qe_bits_of(d);
    }
}

static void multiply(void *context, void *const *data, qe_thread *const *lane) {
    const mma_context *x = context;
    const qe_mma *kind = x->kind;
    float a[M][MAX_K];
    row8 b[MAX_K], d[M];
    for (int l = 0; l < 32; l++)
        if (!data[l])
            qe_fatal(QE_BUG_WARP, qe_current(), x->site, "lane %d has exited: mma needs 32", l);
    load_a(kind, data, a);
    load_b(kind, data, b);
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            d[l / 4 + 8 * (i >> 1)][l % 4 * 2 + (i & 1)] = load_c(kind, data[l], i);
    for (int i = 0; i < M; i++)
        for (int k = 0; k < kind->k; k++) d[i] += a[i][k] * b[k];
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++)
            store_d(kind, data[l], i, d[l / 4 + 8 * (i >> 1)][l % 4 * 2 + (i & 1)]);
    qe_count_tensor(lane[0], 2ull * M * N * (unsigned)kind->k);
}

/* A and B elements of one size, and one or two registers of B. */
static bool exists(const qe_mma *kind) {
    int bytes = qe_operand_bytes(kind->a);
    bool integer = qe_operand_is_integer(kind->a);
    return kind->m == M && kind->n == N && bytes == qe_operand_bytes(kind->b) &&
           integer == qe_operand_is_integer(kind->b) && !(integer && kind->half_result) &&
           (kind->k * bytes == 16 || kind->k * bytes == 32);
}

void qe_mma_sync(qe_thread *t, const qe_mma *kind, uint32_t *d, const uint32_t *a,
                 const uint32_t *b, const uint32_t *c, const qe_site *site) {
    if (!exists(kind))
        qe_fatal(QE_BUG_TENSOR, t, site, "mma.sync m%dn%dk%d of these types is not modelled",
                 kind->m, kind->n, kind->k);
    mma_lane mine = {0};
    int registers = kind->k * qe_operand_bytes(kind->a) / 8;
    size_t results = kind->half_result ? 2 : 4;
    memcpy(mine.a, a, sizeof *a * (size_t)registers);
    memcpy(mine.b, b, sizeof *b * (size_t)(registers / 2));
    memcpy(mine.c, c, sizeof *c * results);
    mma_context context = {kind, site};
    qe_warp_meet(t, ~0u, "mma.sync", &mine, sizeof mine, multiply, &context, site);
    memcpy(d, mine.c, sizeof *d * results);
}
