/* test_emu_threads.c — the emulated machine: threads, barriers, collectives, clusters, under every
 * schedule; and what it finds where they are used wrongly.
 */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <cuda_runtime_api.h>

#include "kernels/emu/machine.h"

int threads_launch(const char *name, dim3 grid, dim3 block, unsigned cluster, size_t shared,
                   const uint32_t *in, uint32_t *out, int n);

enum { N = 4096 };
static uint32_t input[N], output[N];
static uint32_t *d_in, *d_out;

static const char *const schedules[] = {
    "schedule=fifo",
    "schedule=random,seed=1",
    "schedule=random,seed=2,bases=random",
    "schedule=random,seed=3,lanes=free",
    "schedule=pct,seed=1",
    "schedule=pct,seed=2,bases=random",
    "schedule=pct,seed=3,lanes=free",
};
enum { SCHEDULES = sizeof schedules / sizeof schedules[0] };

static void configure(const char *text) {
    assert_true(qe_configure("defaults,quiet=1"));
    assert_true(qe_configure(text));
}

static int set_up(void **state) {
    (void)state;
    for (uint32_t i = 0; i < N; i++) input[i] = i * 2654435761u >> 7;
    configure("");
    if (cudaMalloc((void **)&d_in, sizeof input) || cudaMalloc((void **)&d_out, sizeof output)) {
        return -1;
    }
    return 0;
}

static int launch(const char *name, dim3 grid, dim3 block, unsigned cluster, size_t shared, int n) {
    assert_int_equal(cudaMemcpy(d_in, input, sizeof input, cudaMemcpyHostToDevice), 0);
    assert_int_equal(cudaMemset(d_out, 0, sizeof output), 0);
    int e = threads_launch(name, grid, block, cluster, shared, d_in, d_out, n);
    if (e == 0) assert_int_equal(cudaMemcpy(output, d_out, sizeof output, cudaMemcpyDefault), 0);
    return e;
}

static int launch_line(const char *name, unsigned blocks, unsigned threads, size_t shared, int n) {
    return launch(name, (dim3){blocks, 1, 1}, (dim3){threads, 1, 1}, 1, shared, n);
}

static void show_findings(void) {
    for (int i = 0; i < qe_findings(); i++) print_error("%s\n", qe_finding_text(i));
}

/* Everything so far was right. */
static void assert_clean(const char *schedule) {
    if (qe_findings()) {
        print_error("under %s:\n", schedule);
        show_findings();
    }
    assert_int_equal(qe_findings(), 0);
}

/* ---- right ----------------------------------------------------------------------------------- */

static void test_coordinates(void **state) {
    (void)state;
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch("coordinates", (dim3){2, 3, 2}, (dim3){5, 3, 4}, 1, 0, 720), 0);
        for (uint32_t i = 0; i < 720; i++) {
            uint32_t z = i % 60 / 15, block_z = i / 60 / 6;
            assert_int_equal(output[i], input[i] + 100 * z + 10000 * block_z);
        }
        assert_clean(schedules[s]);
    }
}

static void test_barrier(void **state) {
    (void)state;
    static const unsigned sizes[] = {1, 31, 32, 33, 256, 1024};
    for (int s = 0; s < SCHEDULES; s++) {
        for (int k = 0; k < 6; k++) {
            unsigned t = sizes[k];
            configure(schedules[s]);
            assert_int_equal(launch_line("rotate", 1, t, 4 * t, 7), 0);
            for (unsigned i = 0; i < t; i++) assert_int_equal(output[i], input[(i + 7) % t] + 7);
            assert_clean(schedules[s]);
        }
    }
}

static void test_unwritten_shared_memory_is_nan(void **state) {
    (void)state;
    configure("");
    assert_int_equal(launch_line("rotate", 1, 256, 1024, 3), 0); /* leaves its own values there */
    assert_int_equal(launch_line("unwritten", 1, 256, 1024, 0), 0);
    for (int i = 0; i < 256; i++) assert_int_equal(output[i], UINT32_MAX);
}

static void test_shuffles(void **state) {
    (void)state;
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch_line("shuffles", 1, 32, 0, 0), 0);
        for (uint32_t i = 0; i < 32; i++) {
            const uint32_t from[9] = {5, (i & ~7u) + ((i + 3) & 7), i < 3 ? i : i - 3,
                                      i % 16 < 2 ? i : i - 2, i + 7 > 31 ? i : i + 7,
                                      i % 4 == 3 ? i : i + 1, i ^ 9,
                                      /* beyond the end of its segment: its own */
                                      (i ^ 5) > (i | 3) ? i : i ^ 5, i % 2 ? 3 : 4};
            for (int k = 0; k < 9; k++) assert_int_equal(output[16 * i + k], input[from[k]]);
        }
        assert_clean(schedules[s]);
    }
}

static void test_votes(void **state) {
    (void)state;
    uint32_t odd = 0, sum = 0, all_or = 0, all_xor = 0, least = input[0], most = input[0];
    for (uint32_t i = 0; i < 32; i++) {
        odd |= (input[i] & 1) << i;
        sum += input[i];
        all_xor ^= input[i];
        if (i < 20) all_or |= input[i];
        if (input[i] < least) least = input[i];
        if (input[i] > most) most = input[i];
    }
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch_line("votes", 1, 32, 0, 0), 0);
        for (uint32_t i = 0; i < 32; i++) {
            const uint32_t *r = output + 16 * i;
            uint32_t same = 0;
            for (uint32_t j = 0; j < 32; j++) same |= (uint32_t)(input[j] % 5 == input[i] % 5) << j;
            assert_int_equal(r[0], odd);
            assert_int_equal(r[1], 1);
            assert_int_equal(r[2], 1);
            assert_int_equal(r[3], same);
            assert_int_equal(r[4], UINT32_MAX + 1u);
            assert_int_equal(r[5], 0);
            assert_int_equal(r[6], sum);
            assert_int_equal(r[7], least);
            assert_int_equal(r[8], most);
            assert_int_equal(r[9], all_xor);
            assert_int_equal(r[10], i < 20 ? 0xFFFFF : 0);
            assert_int_equal(r[11], i < 20 ? all_or : 0);
        }
        assert_clean(schedules[s]);
    }
}

static void test_block_votes(void **state) {
    (void)state;
    uint32_t odd = 0;
    for (int i = 0; i < 96; i++) odd += input[i] & 1;
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch_line("block_votes", 1, 96, 0, 0), 0);
        for (int i = 0; i < 96; i++) {
            assert_int_equal(output[3 * i], odd);
            assert_int_equal(output[3 * i + 1], 1);
            assert_int_equal(output[3 * i + 2], 1);
        }
        assert_clean(schedules[s]);
    }
}

static void test_named_barriers(void **state) {
    (void)state;
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch_line("named", 1, 128, 0, 5), 0);
        for (int i = 0; i < 64; i++) assert_int_equal(output[i], 5 * input[(i + 1) % 64] + 10);
        assert_clean(schedules[s]);
    }
}

static void test_exited_threads_are_not_waited_for(void **state) {
    (void)state;
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch_line("early_exit", 3, 256, 0, 77), 0);
        for (int i = 0; i < 77; i++) assert_int_equal(output[i], input[76 - i]);
        assert_clean(schedules[s]);
    }
}

static void test_cluster(void **state) {
    (void)state;
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch("cluster", (dim3){8, 1, 1}, (dim3){32, 1, 1}, 4, 0, 0), 0);
        for (uint32_t b = 0; b < 8; b++) {
            uint32_t next = b / 4 * 4 + (b + 1) % 4;
            for (uint32_t i = 0; i < 32; i++) {
                assert_int_equal(output[32 * b + i], input[32 * next + 31 - i] + 1000 * (b % 4));
            }
        }
        assert_clean(schedules[s]);
    }
}

static void test_waiting_by_looking(void **state) {
    (void)state;
    for (int s = 0; s < SCHEDULES; s++) {
        configure(schedules[s]);
        assert_int_equal(launch_line("grid_barrier", 16, 64, 0, 4), 0);
        assert_int_equal(output[0], 64);
        for (int i = 0; i < 16 * 64; i++) assert_int_equal(output[1 + i], 4);
        assert_int_equal(launch_line("lanes", 1, 2, 0, 0), 0);
        assert_int_equal(output[1], 7);
        assert_int_equal(launch_line("atomics", 1, 64, 0, 0), 0);
        assert_int_equal(output[1], 9);
        assert_clean(schedules[s]);
    }
}

/* ---- wrong ----------------------------------------------------------------------------------- */

typedef struct bug {
    const char *name;
    unsigned blocks, threads, cluster;
    size_t shared;
    int n;
    qe_finding kind;
    bool fatal;
    const char *text; /* part of what it says */
} bug;

static const bug bugs[] = {
    {"divergent", 1, 64, 1, 0, 0, QE_BUG_DIVERGENT_BARRIER, false, "different barriers 0"},
    {"counts", 1, 96, 1, 0, 0, QE_BUG_BARRIER, true, "barrier 1 is used for "},
    {"nobody_waits", 1, 64, 1, 0, 0, QE_BUG_BARRIER, false, "32 of 64 threads arrived"},
    {"missing_lane", 1, 64, 1, 0, 0, QE_BUG_DEADLOCK, true, "wait for warp collective shfl.bfly"},
    {"masks", 1, 32, 1, 0, 0, QE_BUG_WARP, true, "different masks"},
    {"kinds", 1, 32, 1, 0, 0, QE_BUG_WARP, true, "vote.ballot"},
    {"not_named", 1, 32, 1, 0, 0, QE_BUG_WARP, true, "does not name it"},
    {"reads_absent", 1, 32, 1, 0, 0, QE_BUG_WARP, false, "reads lane 20"},
    {"spin", 2, 64, 1, 0, 0, QE_BUG_LIVELOCK, true, "nothing has moved"},
    {"past_shared", 1, 32, 1, 256, 64, QE_BUG_OOB_SHARED, true, "4 bytes at shared address"},
    {"wild", 1, 32, 1, 0, 2, QE_BUG_OOB_GLOBAL, true, "at 0x8, where no memory is"},
    {"trap", 2, 32, 1, 0, 0, QE_BUG_TRAP, true, "trap"},
    {"cluster_twice", 2, 32, 2, 0, 0, QE_BUG_BARRIER, true, "arrive twice"},
};

static void assert_found(const bug *b, const char *schedule) {
    bool said = false;
    for (int i = 0; i < qe_findings(); i++) said = said || strstr(qe_finding_text(i), b->text);
    if (qe_findings_of(b->kind) == 0 || !said) {
        print_error("%s under %s\n", b->name, schedule);
        show_findings();
    }
    assert_int_not_equal(qe_findings_of(b->kind), 0);
    assert_true(said);
}

static void test_mistakes_are_found(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof bugs / sizeof bugs[0]; i++) {
        for (int s = 0; s < SCHEDULES; s++) {
            const bug *b = &bugs[i];
            configure(schedules[s]);
            int e = launch(b->name, (dim3){b->blocks, 1, 1}, (dim3){b->threads, 1, 1}, b->cluster,
                           b->shared, b->n);
            assert_int_equal(e, b->fatal ? cudaErrorLaunchFailure : cudaSuccess);
            assert_found(b, schedules[s]);
            qe_findings_clear();
            if (!b->fatal) continue;
            /* the device is lost until it is reset, and as good as new then */
            assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
            assert_int_equal(cudaDeviceReset(), cudaSuccess);
            assert_int_equal(set_up(NULL), 0);
        }
    }
    configure("");
    assert_int_equal(launch_line("rotate", 1, 1024, 4096, 7), 0);
    for (int i = 0; i < 1024; i++) assert_int_equal(output[i], input[(i + 7) % 1024] + 7);
    assert_clean("the end");
}

static void test_a_finding_says_where(void **state) {
    (void)state;
    configure("");
    assert_int_equal(launch_line("past_shared", 1, 32, 256, 64), cudaErrorLaunchFailure);
    const char *text = qe_finding_text(0);
    assert_non_null(strstr(text, "k_past_shared"));
    assert_non_null(strstr(text, "block (0,0,0) thread (0,0,0)"));
    assert_non_null(strstr(text, "tests/emu/threads.cu:"));
    assert_non_null(strstr(text, "st.shared.u32"));
    qe_findings_clear();
    assert_int_equal(cudaDeviceReset(), cudaSuccess);
    assert_int_equal(set_up(NULL), 0);
}

static void test_same_seed_same_run(void **state) {
    (void)state;
    uint32_t first[2];
    for (int run = 0; run < 2; run++) {
        configure("schedule=random,seed=5");
        assert_int_equal(launch_line("grid_barrier", 4, 64, 0, 2), 0);
        first[run] = qe_random(1u << 30); /* as many numbers were drawn */
    }
    assert_int_equal(first[0], first[1]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coordinates),
        cmocka_unit_test(test_barrier),
        cmocka_unit_test(test_unwritten_shared_memory_is_nan),
        cmocka_unit_test(test_shuffles),
        cmocka_unit_test(test_votes),
        cmocka_unit_test(test_block_votes),
        cmocka_unit_test(test_named_barriers),
        cmocka_unit_test(test_exited_threads_are_not_waited_for),
        cmocka_unit_test(test_cluster),
        cmocka_unit_test(test_waiting_by_looking),
        cmocka_unit_test(test_mistakes_are_found),
        cmocka_unit_test(test_a_finding_says_where),
        cmocka_unit_test(test_same_seed_same_run),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
