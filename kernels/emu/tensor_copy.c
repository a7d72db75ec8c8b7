/* tensor_copy.c — tensor maps and the copies that use them: boxes of up to five dimensions between
 * global and shared memory.
 *
 * A box lies densely in shared memory, innermost dimension first. The swizzle moves its 16-byte
 * pieces by bits of their shared address, inside a row, so that readers which swizzle addresses
 * alike agree. What lies outside the tensor is filled by a load (and counts among the bytes that
 * the mbarrier expects) and left out by a store. Rows narrower than the swizzle, interleaved
 * layouts, im2col, packed 4 and 6 bit types, tf32 conversion and the swizzle atoms of later devices
 * are refused.
 */
#include <stdlib.h>
#include <string.h>

#include "kernels/emu/async.h"

enum { RANKS = 5, MAX_BOX = 256, MAX_ROW = MAX_BOX * 8, CHUNK = 16 };
enum { INVALID_VALUE = 1, NOT_SUPPORTED = 801 }; /* CUresult */

static const uint64_t map_mark = 0x70616d726f736e74u;

/* What the 128 bytes of a CUtensorMap hold here. */
typedef struct tensor_map {
    uint64_t mark;
    char *base;
    uint64_t dim[RANKS], stride[RANKS]; /* stride in bytes, of dimension 0 the element's size */
    uint16_t box[RANKS];                /* elements copied: ceil(boxDim / elementStrides) */
    uint8_t step[RANKS];
    uint8_t rank, type, swizzle, fill;
} tensor_map;
_Static_assert(sizeof(tensor_map) <= 128, "a CUtensorMap has 128 bytes");

/* By CUtensorMapDataType. */
static const struct {
    uint8_t bytes;
    bool is_float;
    qe_element element; /* QE_B8: no reductions */
    uint32_t nan;
} data_types[] = {
    {1, false, QE_B8, 0},       {2, false, QE_B8, 0},          {4, false, QE_U32, 0},
    {4, false, QE_S32, 0},      {8, false, QE_U64, 0},         {8, false, QE_S64, 0},
    {2, true, QE_F16, 0x7fff},  {4, true, QE_F32, 0x7fffffff}, {8, true, QE_F64, 0x7fffffff},
    {2, true, QE_BF16, 0x7fff},
};
enum { DATA_TYPES = sizeof data_types / sizeof *data_types };

/* ---- cuTensorMapEncodeTiled ------------------------------------------------------------------ */

/* The argument rules that cuda.h states. */
static bool arguments_hold(const void *map, int data_type, uint32_t rank, const void *base,
                           const uint64_t *dims, const uint64_t *strides, const uint32_t *box,
                           const uint32_t *steps, int swizzle, int promotion, int fill) {
    if (!map || ((uintptr_t)map & 63u) || !base || ((uintptr_t)base & 15u)) return false;
    if (rank < 1 || rank > RANKS || !dims || !box || !steps || (rank > 1 && !strides)) return false;
    if (promotion < 0 || promotion > 3 || fill < 0 || fill > 1) return false;
    if (fill && !data_types[data_type].is_float) return false;
    for (uint32_t i = 0; i < rank; i++) {
        if (dims[i] == 0 || dims[i] > 1ull << 32) return false;
        if (box[i] == 0 || box[i] > MAX_BOX || steps[i] == 0 || steps[i] > 8) return false;
        if (i + 1 < rank && (strides[i] % 16 || strides[i] >= 1ull << 40)) return false;
    }
    uint32_t inner = box[0] * data_types[data_type].bytes;
    return inner % 16 == 0 && (swizzle == 0 || inner <= 16u << swizzle);
}

int qe_tensor_map_encode(void *map, int data_type, uint32_t rank, void *base, const uint64_t *dims,
                         const uint64_t *strides, const uint32_t *box, const uint32_t *steps,
                         int interleave, int swizzle, int promotion, int fill) {
    if (qe_cfg.device < 90) return NOT_SUPPORTED;
    if (data_type < 0 || data_type > 15 || interleave < 0 || interleave > 2 || swizzle < 0 ||
        swizzle > 6)
        return INVALID_VALUE;
    if (data_type >= DATA_TYPES || interleave != 0 || swizzle > 3) return NOT_SUPPORTED;
    if (!arguments_hold(map, data_type, rank, base, dims, strides, box, steps, swizzle, promotion,
                        fill))
        return INVALID_VALUE;
    tensor_map m = {.mark = map_mark,
                    .base = base,
                    .rank = (uint8_t)rank,
                    .type = (uint8_t)data_type,
                    .swizzle = (uint8_t)swizzle,
                    .fill = (uint8_t)fill};
    for (uint32_t i = 0; i < RANKS; i++) {
        bool used = i < rank;
        m.dim[i] = used ? dims[i] : 1;
        m.stride[i] = i == 0 ? data_types[data_type].bytes : used ? strides[i - 1] : 0;
        m.step[i] = used && i > 0 ? (uint8_t)steps[i] : 1; /* of dimension 0 it is ignored */
        m.box[i] = used ? (uint16_t)((box[i] + m.step[i] - 1u) / m.step[i]) : 1;
    }
    memset(map, 0, 128);
    memcpy(map, &m, sizeof m);
    return 0;
}

/* ---- boxes ----------------------------------------------------------------------------------- */

typedef struct qe_tensor_box {
    tensor_map map;
    int64_t at[RANKS];
    uint32_t row_bytes, rows, size; /* size: bytes of an element */
    bool clipped;                   /* some of it lies outside */
} qe_tensor_box;

/* Row r of a box: its place in global memory (of byte 0, maybe outside), and which of its bytes
 * [from, to) lie inside the tensor. */
typedef struct row {
    char *global;
    uint32_t from, to;
} row;

static uint32_t count_inside(const qe_tensor_box *x, int i) {
    uint32_t n = 0;
    for (uint32_t k = 0; k < x->map.box[i]; k++) {
        int64_t c = x->at[i] + (int64_t)k * x->map.step[i];
        n += c >= 0 && c < (int64_t)x->map.dim[i];
    }
    return n;
}

static row row_at(const qe_tensor_box *x, uint32_t r) {
    const tensor_map *m = &x->map;
    int64_t place = x->at[0] * (int64_t)x->size;
    bool inside = true;
    for (int i = 1; i < m->rank; i++) {
        int64_t c = x->at[i] + (int64_t)(r % m->box[i]) * m->step[i];
        r /= m->box[i];
        inside = inside && c >= 0 && c < (int64_t)m->dim[i];
        place += c * (int64_t)m->stride[i];
    }
    int64_t from = x->at[0] < 0 ? -x->at[0] : 0, to = (int64_t)m->dim[0] - x->at[0];
    if (to > m->box[0]) to = m->box[0];
    if (!inside || from >= to) from = to = 0;
    /* Outside the tensor the place is never used: it may not even be an address. */
    return (row){(char *)((uintptr_t)m->base + (uintptr_t)place), (uint32_t)from * x->size,
                 (uint32_t)to * x->size};
}

static void read_map(qe_thread *t, const void *map, const qe_site *site) {
    if ((uintptr_t)map & 63u) qe_misaligned(t, map, 64, site);
    if (t->watch && qe_is_global(map)) qe_watched(t, map, 128, QE_READ | QE_UNCOUNTED, site);
}

static void set_box(qe_operation *op, qe_thread *t, const void *map, int rank, const int32_t *at,
                    uint32_t shared) {
    const qe_site *site = op->site;
    qe_tensor_box *x = op->box = malloc(sizeof *x);
    if (!x) qe_fatal(QE_BUG_MEMORY, t, site, "the host has no memory");
    read_map(t, map, site);
    memcpy(&x->map, map, sizeof x->map);
    if (x->map.mark != map_mark)
        qe_fatal(QE_BUG_TENSOR, t, site, "tensor copy: %p is not a tensor map", map);
    if (x->map.rank != rank)
        qe_fatal(QE_BUG_TENSOR, t, site, "tensor copy: found a map of rank %d, expected %d",
                 x->map.rank, rank);
    x->size = data_types[x->map.type].bytes;
    x->row_bytes = x->map.box[0] * x->size;
    x->rows = 1;
    x->clipped = false;
    for (int i = 0; i < rank; i++) {
        x->at[i] = at[i];
        if (i) x->rows *= x->map.box[i];
        x->clipped = x->clipped || count_inside(x, i) < x->map.box[i];
    }
    uint32_t aligned = 128u << x->map.swizzle;
    if (shared & 127u)
        qe_fatal(QE_BUG_MISALIGNED, t, site,
                 "tensor copy: shared address 0x%x, expected a multiple of 128", shared);
    if (x->map.swizzle && x->row_bytes != 16u << x->map.swizzle)
        qe_fatal(QE_BUG_TENSOR, t, site,
                 "tensor copy: rows of %u bytes under a swizzle of %u are not modelled",
                 x->row_bytes, 16u << x->map.swizzle);
    if (shared & (aligned - 1u))
        qe_report(QE_BUG_MISALIGNED, t, site, NULL,
                  "tensor copy: shared address 0x%x, expected a multiple of its swizzle "
                  "pattern's %u bytes",
                  shared, aligned);
}

static uint64_t bytes_inside(const qe_tensor_box *x) {
    uint64_t n = x->size;
    for (int i = 0; i < x->map.rank; i++) n *= count_inside(x, i);
    return n;
}

/* The agent's accesses to bytes [from, to) of the row at shared window address a. */
static void access_row(qe_agent *agent, qe_block *b, const qe_tensor_box *x, uint32_t a,
                       uint32_t from, uint32_t to, uint32_t flags, const qe_site *site) {
    if (agent->id == 0) return;
    for (uint32_t i = from; i < to;) {
        uint32_t end = (i / CHUNK + 1) * CHUNK < to ? (i / CHUNK + 1) * CHUNK : to;
        uint32_t place = qe_swizzle(a + i / CHUNK * CHUNK, x->map.swizzle) + i % CHUNK;
        qe_agent_access(agent, b, b->window + place, end - i, flags | QE_BY_ASYNC, site);
        i = end;
    }
}

/* ---- loads ----------------------------------------------------------------------------------- */

static void fill_outside(const qe_tensor_box *x, const row *r, char *bytes) {
    memset(bytes, 0, x->row_bytes);
    if (x->map.fill == 0) return;
    uint32_t nan = data_types[x->map.type].nan;
    for (uint32_t i = 0; i < x->row_bytes; i += x->size) {
        if (i >= r->from && i < r->to) continue;
        if (x->size == 8) memset(bytes + i, 0xff, 4);
        uint32_t n = x->size == 2 ? 2 : 4;
        memcpy(bytes + i + x->size - n, &nan, n);
    }
}

/* Row r to a row of shared memory at window address a of b. */
static void put_row(const qe_tensor_box *x, const row *r, qe_block *b, uint32_t a) {
    char bytes[MAX_ROW];
    const char *from = bytes;
    if (r->to - r->from == x->row_bytes) {
        from = r->global;
    } else {
        fill_outside(x, r, bytes);
        memcpy(bytes + r->from, r->global + r->from, r->to - r->from);
    }
    if (x->map.swizzle == 0) {
        memcpy(b->window + a, from, x->row_bytes);
        return;
    }
    for (uint32_t i = 0; i < x->row_bytes; i += CHUNK)
        memcpy(b->window + qe_swizzle(a + i, x->map.swizzle), from + i, CHUNK);
}

static qe_stage load_step(qe_operation *op) {
    const qe_tensor_box *x = op->box;
    qe_target target[QE_TARGETS];
    int n = qe_operation_targets(op, target);
    for (uint32_t i = 0; op->agent.id && i < x->rows; i++) {
        row r = row_at(x, i);
        if (r.to > r.from)
            qe_agent_access(&op->agent, op->block, r.global + r.from, r.to - r.from,
                            QE_READ | QE_BY_ASYNC, op->site);
    }
    for (int k = 0; k < n; k++) {
        qe_block *b = target[k].block;
        uint32_t a = (uint32_t)(target[k].to - b->window);
        qe_agent_access(&op->agent, b, target[k].to, op->bytes, QE_WRITE | QE_BY_ASYNC, op->site);
        for (uint32_t i = 0; i < x->rows; i++, a += x->row_bytes) {
            row r = row_at(x, i);
            put_row(x, &r, b, a);
        }
        qe_mbarrier_complete_async(b, target[k].word, op->bytes, &op->agent, op->site);
    }
    return QE_DONE;
}

void qe_tensor_load(qe_thread *t, uint32_t dst, const void *map, int rank, const int32_t *at,
                    uint32_t mbarrier, uint32_t multicast, const qe_site *site) {
    qe_operation *op = qe_operation_new(t, site);
    op->step = load_step;
    set_box(op, t, map, rank, at, dst);
    qe_operation_aim(op, t, dst, op->box->row_bytes * op->box->rows, mbarrier, multicast);
    qe_count_async(t, bytes_inside(op->box), 0);
    qe_agent_start(&op->agent, t, false);
    qe_operation_submit(op, t, NULL);
    qe_give_way(t);
}

/* ---- stores ---------------------------------------------------------------------------------- */

static void capture(qe_operation *op) {
    const qe_tensor_box *x = op->box;
    uint32_t a = (uint32_t)(op->from - op->block->window);
    if (!x->clipped)
        qe_agent_access(&op->reader, op->block, op->from, op->bytes, QE_READ | QE_BY_ASYNC,
                        op->site);
    char *to = op->captured;
    for (uint32_t i = 0; i < x->rows; i++, a += x->row_bytes, to += x->row_bytes) {
        if (x->clipped) {
            row r = row_at(x, i);
            access_row(&op->reader, op->block, x, a, r.from, r.to, QE_READ, op->site);
        }
        for (uint32_t k = 0; k < x->row_bytes; k += CHUNK)
            memcpy(to + k, op->block->window + qe_swizzle(a + k, x->map.swizzle), CHUNK);
    }
}

static qe_stage store_step(qe_operation *op) {
    const qe_tensor_box *x = op->box;
    if (op->stage == QE_ISSUED) {
        capture(op);
        return QE_CAPTURED;
    }
    uint32_t flags = op->reduce == QE_COPY ? QE_WRITE : QE_WRITE | QE_ATOMIC | QE_UPDATE;
    const char *from = op->captured;
    for (uint32_t i = 0; i < x->rows; i++, from += x->row_bytes) {
        row r = row_at(x, i);
        if (r.to == r.from) continue;
        qe_agent_access(&op->agent, op->block, r.global + r.from, r.to - r.from,
                        flags | QE_BY_ASYNC, op->site);
        qe_reduce(op->reduce, op->element, r.global + r.from, from + r.from, r.to - r.from);
    }
    return QE_DONE;
}

void qe_tensor_store(qe_thread *t, const void *map, int rank, const int32_t *at, uint32_t src,
                     qe_reduce_op reduce, const qe_site *site) {
    qe_operation *op = qe_operation_new(t, site);
    op->step = store_step;
    set_box(op, t, map, rank, at, src);
    op->bytes = op->box->row_bytes * op->box->rows;
    op->reduce = reduce;
    op->element = data_types[op->box->map.type].element;
    if (!qe_reduce_exists(reduce, op->element))
        qe_fatal(QE_BUG_TENSOR, t, site, "tensor copy: no such reduction for the map's data type");
    qe_block *b;
    op->from = qe_window(t, src, op->bytes, &b, site);
    if (b != t->block)
        qe_fatal(QE_BUG_TENSOR, t, site, "tensor copy: expected a source in the block's memory");
    (void)qe_async_of_block(b); /* whose end completes it */
    op->captured = malloc(op->bytes);
    if (!op->captured) qe_fatal(QE_BUG_MEMORY, t, site, "the host has no memory");
    uint64_t inside = bytes_inside(op->box);
    qe_count_async(t, reduce == QE_COPY ? 0 : inside, inside);
    qe_agent_start(&op->agent, t, false);
    qe_agent_start(&op->reader, t, false);
    qe_operation_submit(op, t, &qe_async_of_thread(t)->bulk);
    qe_give_way(t);
}
