/* test_cuda_bytes.c — what memory-bound kernels move: the bytes of each operand once, in whole
 * sectors, without bank conflicts. Needs the counters of the emulated device.
 *
 * Held against op->cost, which counts each operand once. What asks for more is in the table with
 * the number and the reason; a number that is no longer needed fails too.
 */
#include "engine/measure.h"
#include "tests/harness.h"

#ifdef QUERN_EMULATED
#include "kernels/emu/machine.h"

#include <string.h>

enum { ROWS = 128, WIDTH = 1024, LONG = 10240, CHUNKED = 16384, HEADS = 8, IDS = 50 };
static const double ONCE = 1.05, SECTORS = 0.95;

/* One letter per input slot:
 *   x (rows, width)       w (width)       s f32 (rows)
 *   a (1, rows, heads, width / heads)             i ids (rows)      t (IDS, width)
 *   f f32 (rows * width)  g (rows * width) in the case's dtype
 *   n f32 scalar          r i64[2], the step      h f64[2], rate    G the guard's state
 *   - absent */
typedef struct bytes_case {
    const qn_op *op;
    qn_dtype dtype;
    const char *in;
    uint32_t want_out, f32_out;
    double bound;    /* bytes asked for over op->cost; 0 = ONCE */
    uint64_t cycles; /* bank conflicts allowed in a hundred shared cycles */
    const char *why;
    int64_t rows, width; /* 0 = ROWS, WIDTH */
} bytes_case;

static const char *const WEIGHTS = "w and b, read in every row, come from cache";
static const char *const STEP =
    "the step and the first sample, read by every warp, come from cache";
static const char *const SORTED =
    "sorted ids, read by every warp, come from cache; parts of ids that cross windows";
static const char *const PARTIAL =
    "w as above; sums of chunks of rows go through scratch; statistics of narrow rows";
static const char *const LONG_ROW = "a row too long for registers is walked again, from cache";
static const bytes_case cases[] = {
    {&qn_op_add, QN_F32, "xx"},
    {&qn_op_add, QN_BF16, "xx"},
    {&qn_op_sub, QN_BF16, "xx"},
    {&qn_op_mul, QN_BF16, "xx"},
    {&qn_op_div, QN_BF16, "xx"},
    {&qn_op_scale, QN_F32, "x"},
    {&qn_op_scale, QN_BF16, "x"},
    {&qn_op_unary, QN_BF16, "x"},
    {&qn_op_unary_bwd, QN_BF16, "xx"},
    {&qn_op_fill, QN_F32, ""},
    {&qn_op_cast, QN_F32, "x"},
    {&qn_op_copy, QN_F32, "x"},
    {&qn_op_copy, QN_BF16, "x"},
    {&qn_op_concat, QN_BF16, "xx"},
    {&qn_op_activation, QN_F32, "x"},
    {&qn_op_activation, QN_BF16, "x"},
    {&qn_op_activation_bwd, QN_BF16, "xx"},
    {&qn_op_swiglu, QN_BF16, "xx"},
    {&qn_op_swiglu_bwd, QN_F32, "xxx", .want_out = 3},
    {&qn_op_swiglu_bwd, QN_BF16, "xxx", .want_out = 3},
    {&qn_op_dropout, QN_F32, "xr", .bound = 1.07, .why = STEP},
    {&qn_op_dropout, QN_BF16, "xr", .bound = 1.07, .why = STEP},
    {&qn_op_rope, QN_F32, "a"},
    {&qn_op_rope, QN_BF16, "a"},
    {&qn_op_reduce, QN_F32, "x"},
    {&qn_op_reduce, QN_BF16, "x"},
    {&qn_op_reduce_bwd, QN_F32, "sx"},
    {&qn_op_softmax, QN_F32, "x"},
    {&qn_op_softmax, QN_BF16, "x"},
    {&qn_op_softmax, QN_BF16, "x", .width = LONG, .bound = 2.0, .why = LONG_ROW},
    {&qn_op_softmax_bwd, QN_BF16, "xx"},
    {&qn_op_layernorm, QN_F32, "x-ww", .want_out = 12, .bound = 2.0, .why = WEIGHTS},
    {&qn_op_layernorm, QN_BF16, "x-ww", .want_out = 12, .bound = 2.0, .why = WEIGHTS},
    {&qn_op_layernorm, QN_BF16, "xxww", .want_out = 14, .bound = 1.51, .why = WEIGHTS},
    {&qn_op_layernorm, QN_BF16, "x-ww", .want_out = 12, .width = LONG, .bound = 3.0,
     .why = LONG_ROW},
    {&qn_op_layernorm_bwd, QN_F32, "xxwss-", .want_out = 7, .rows = CHUNKED, .width = 64,
     .bound = 1.43, .why = PARTIAL},
    {&qn_op_layernorm_bwd, QN_BF16, "xxwss-", .want_out = 7, .f32_out = 6, .rows = CHUNKED,
     .width = 64, .bound = 1.52, .why = PARTIAL},
    {&qn_op_layernorm_bwd, QN_BF16, "xxwssx", .want_out = 7, .f32_out = 6, .rows = CHUNKED,
     .width = 64, .bound = 1.39, .why = PARTIAL},
    {&qn_op_rmsnorm, QN_F32, "x-w", .want_out = 4, .bound = 1.51, .why = WEIGHTS},
    {&qn_op_rmsnorm, QN_BF16, "x-w", .want_out = 4, .bound = 1.51, .why = WEIGHTS},
    {&qn_op_rmsnorm, QN_BF16, "xxw", .want_out = 6, .bound = 1.26, .why = WEIGHTS},
    {&qn_op_rmsnorm_bwd, QN_BF16, "xxws-", .want_out = 3, .f32_out = 2, .rows = CHUNKED,
     .width = 64, .bound = 1.44, .why = PARTIAL},
    {&qn_op_cross_entropy, QN_F32, "xin", .want_out = 2, .width = 8192},
    {&qn_op_cross_entropy, QN_BF16, "xin", .want_out = 2},
    {&qn_op_cross_entropy, QN_BF16, "xin", .want_out = 2, .width = LONG},
    {&qn_op_mse, QN_F32, "xxn", .want_out = 2},
    {&qn_op_mse, QN_BF16, "xxn", .want_out = 2},
    {&qn_op_accuracy, QN_BF16, "xi"},
    {&qn_op_embedding, QN_F32, "it"},
    {&qn_op_embedding, QN_BF16, "it"},
    {&qn_op_embedding_bwd, QN_F32, "xit", .want_out = 1, .f32_out = 1, .rows = 1024, .cycles = 15,
     .bound = 1.37, .why = SORTED},
    {&qn_op_embedding_bwd, QN_BF16, "xit", .want_out = 1, .f32_out = 1, .rows = 1024, .cycles = 15,
     .bound = 1.70, .why = SORTED},
    {&qn_op_grad_norm, QN_F32, "f"},
    {&qn_op_adamw, QN_F32, "g-fffhG"},
    {&qn_op_adamw, QN_BF16, "gffffhG"},
    {&qn_op_adamw, QN_BF16, "g-fffhGr"},
    {&qn_op_sgd, QN_F32, "g-ffhG"},
    {&qn_op_sgd, QN_BF16, "gfffhG"},
};

/* ---- a case's call --------------------------------------------------------------------------- */

static void put(qn_measure_input *in, qn_dtype dt, qn_measure_fill fill, double value, int ndim,
                const int64_t *shape) {
    *in = (qn_measure_input){true, dt, ndim, {0}, fill, value};
    for (int i = 0; i < ndim; i++) in->shape[i] = shape[i];
}

static void put_letter(qn_measure_input *in, char letter, qn_dtype dt, int64_t rows,
                       int64_t width) {
    const qn_measure_fill normal = QN_MEASURE_NORMAL, value = QN_MEASURE_VALUE;
    switch (letter) {
    case 'x': put(in, dt, normal, 0.5, QN_SHAPE(rows, width)); break;
    case 'a': put(in, dt, normal, 0.5, QN_SHAPE(1, rows, HEADS, width / HEADS)); break;
    case 'w': put(in, dt, value, 1.0, QN_SHAPE(width)); break;
    case 's': put(in, QN_F32, value, 1.0, QN_SHAPE(rows)); break;
    case 'i': put(in, QN_I32, QN_MEASURE_IDS, IDS, QN_SHAPE(rows)); break;
    case 't': put(in, dt, normal, 0.5, QN_SHAPE(IDS, width)); break;
    case 'f': put(in, QN_F32, value, 1e-4, QN_SHAPE(rows * width)); break;
    case 'g': put(in, dt, normal, 0.5, QN_SHAPE(rows * width)); break;
    case 'n': put(in, QN_F32, value, 0.01, 0, NULL); break;
    case 'r': put(in, QN_I64, value, 0.0, QN_SHAPE(2)); break;
    case 'h': put(in, QN_F64, value, 1e-3, QN_SHAPE(2)); break;
    case 'G': put(in, QN_F64, value, 1.0, QN_SHAPE(QN_GUARD_STATE)); break;
    case '-': break;
    default: fail_msg("no letter %c", letter);
    }
}

static bool is_one_of(const qn_op *op, const qn_op *const *list) {
    while (*list && *list != op) list++;
    return *list != NULL;
}

static void set_attributes(qn_measure_case *m, int64_t rows, int64_t width) {
    static const qn_op *const norms[] = {&qn_op_layernorm, &qn_op_layernorm_bwd, &qn_op_rmsnorm,
                                         &qn_op_rmsnorm_bwd, NULL};
    static const qn_op *const activations[] = {&qn_op_activation, &qn_op_activation_bwd, NULL};
    static const qn_op *const losses[] = {&qn_op_cross_entropy, &qn_op_accuracy, NULL};
    static const qn_op *const updates[] = {&qn_op_adamw, &qn_op_sgd, &qn_op_grad_norm, NULL};
    if (is_one_of(m->op, norms)) m->attrs.norm.eps = 1e-5;
    if (is_one_of(m->op, activations)) m->attrs.activation.kind = QN_ACT_GELU;
    if (m->op == &qn_op_reduce)
        m->attrs.reduce = (qn_reduce_attrs){.kind = QN_SUM, .axis = QN_ALL_AXES};
    if (m->op == &qn_op_reduce_bwd) m->attrs.reduce = (qn_reduce_attrs){.kind = QN_MAX, .axis = -1};
    if (is_one_of(m->op, losses)) m->attrs.loss.ignore_index = -100;
    if (is_one_of(m->op, updates)) {
        m->update_size = rows * width;
        m->attrs.update = (qn_update_attrs){.beta1 = 0.9,
                                            .beta2 = 0.95,
                                            .eps = 1e-8,
                                            .momentum = 0.9,
                                            .stochastic_rounding = m->in[7].present};
    }
    if (m->op == &qn_op_scale) m->attrs.scale.factor = 2.0;
    if (m->op == &qn_op_unary || m->op == &qn_op_unary_bwd) m->attrs.unary.kind = QN_SQUARE;
    if (m->op == &qn_op_fill) m->attrs.fill = (qn_fill_attrs){QN_F32, 2, {rows, width}, 1.0};
    if (m->op == &qn_op_cast) m->attrs.cast.dtype = QN_BF16;
    if (m->op == &qn_op_concat) m->attrs.concat = (qn_concat_attrs){.axis = 1, .count = 2};
    if (m->op == &qn_op_rope) m->attrs.rope = qn_rope_plain(10000.0, width / HEADS);
    if (m->op == &qn_op_dropout) m->attrs.dropout.p = 0.1;
}

/* ---- what it moves --------------------------------------------------------------------------- */

static qe_traffic count(const qn_measure_case *m, qn_cost *cost) {
    qn_measure_options o = {.device = QN_CUDA, .threads = 1, .repeats = 1};
    qn_measurement out;
    qe_traffic all = {0};
    uint32_t watch = qe_cfg.watch;
    qe_cfg.watch = QE_COUNT;
    qe_traffic_clear();
    qn_status s = qn_measure(m, &o, &out);
    qe_cfg.watch = watch;
    qn_assert_ok(s);
    for (int i = 0; i < qe_traffic_count(); i++) {
        const qe_traffic *t = qe_traffic_get(i);
        all.global_read += t->global_read + t->async_read;
        all.global_written += t->global_written + t->async_written;
        all.sectors_read += t->sectors_read;
        all.sectors_written += t->sectors_written;
        all.shared_cycles += t->shared_cycles;
        all.shared_conflicts += t->shared_conflicts;
    }
    uint64_t runs = 1 + (uint64_t)out.calls * (1 + (uint64_t)out.repeats); /* first, warm, timed */
    all.global_read /= runs;
    all.global_written /= runs;
    all.sectors_read /= runs;
    all.sectors_written /= runs;
    *cost = out.cost;
    return all;
}

static int check(const bytes_case *b) {
    const int64_t rows = b->rows ? b->rows : ROWS, width = b->width ? b->width : WIDTH;
    qn_measure_case m = {.op = b->op, .dtype = b->dtype, .shape = ""};
    for (int i = 0; b->in[i]; i++) put_letter(&m.in[i], b->in[i], b->dtype, rows, width);
    m.want_out = b->want_out;
    m.f32_out = b->f32_out;
    set_attributes(&m, rows, width);
    qn_cost cost;
    qe_traffic t = count(&m, &cost);
    double moved = 32.0 * (double)(t.sectors_read + t.sectors_written);
    double ratio = moved / cost.bytes;
    double used = (double)(t.global_read + t.global_written) / moved;
    double conflicts =
        t.shared_cycles ? 100.0 * (double)t.shared_conflicts / (double)t.shared_cycles : 0.0;
    double bound = b->bound > 0.0 ? b->bound : ONCE;
    bool wrong = !(ratio <= bound) || !(ratio >= 0.99) ||
                 (b->bound > 0.0 && ratio < bound - 0.05) || !(used >= SECTORS) ||
                 !(conflicts <= (double)b->cycles);
    print_message("  %-18s %s %-8s %lldx%lld: bytes %.3f, sectors %.3f, conflicts %.0f%%%s\n",
                  b->op->name, b->dtype == QN_F32 ? "f32 " : "bf16", b->in, (long long)rows,
                  (long long)width, ratio, used, conflicts, wrong ? "   <--" : "");
    return wrong;
}

static void operands_move_once(void **state) {
    (void)state;
    if (!qn_cuda_usable()) skip();
    int wrong = 0;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) wrong += check(&cases[i]);
    if (wrong) fail_msg("%d of the calls above move too much, or other than the table says", wrong);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(operands_move_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#else

static void bytes(void **state) {
    (void)state;
    print_message("traffic is counted on the emulated GPU only\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bytes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

#endif
