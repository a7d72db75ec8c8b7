/* emu_device.c — what the emulated devices have room for.
 *
 * Sources: CUDA C++ programming guide, technical specifications per compute capability.
 */
#include "kernels/emu/scheduler.h"

static const qe_profile profiles[] = {
    {80, "emulated sm_80", 163 << 10, 164 << 10, 2048, 32, 108, 40 << 20, 1},
    {89, "emulated sm_89", 99 << 10, 100 << 10, 1536, 24, 128, 72 << 20, 1},
    {90, "emulated sm_90", 227 << 10, 228 << 10, 2048, 32, 132, 50 << 20, 8},
};

const qe_profile *qe_device_profile(void) {
    const qe_profile *p = profiles;
    while (p->compute != qe_cfg.device) p++;
    return p;
}

static uint64_t product(qe_shape s) { return (uint64_t)s.x * s.y * s.z; }

static bool differs(const uint32_t *required, qe_shape s) {
    return required[0] && (required[0] != s.x || required[1] != s.y || required[2] != s.z);
}

const char *qe_launch_problem(const qe_kernel *k, qe_shape grid, qe_shape block, qe_shape cluster,
                              uint32_t dynamic_shared) {
    const qe_profile *p = qe_device_profile();
    if (!grid.x || !grid.y || !grid.z) return "an empty grid";
    if (grid.x > INT32_MAX || grid.y > 65535 || grid.z > 65535) {
        return "a grid beyond 2147483647 x 65535 x 65535";
    }
    if (product(grid) > UINT32_MAX) return "more blocks than the emulator counts";
    if (!block.x || !block.y || !block.z) return "an empty block";
    if (block.x > 1024 || block.y > 1024 || block.z > 64 || product(block) > QE_MAX_THREADS) {
        return "more than 1024 threads in a block (64 in z)";
    }
    if (k->max_threads && product(block) > k->max_threads) {
        return "more threads in a block than __launch_bounds__";
    }
    if (differs(k->required_threads, block)) return "not the block size the kernel requires";
    if (!cluster.x || !cluster.y || !cluster.z || product(cluster) > p->max_cluster) {
        return "a cluster size the device does not have";
    }
    if (differs(k->required_cluster, cluster)) return "not the cluster size the kernel requires";
    if (grid.x % cluster.x || grid.y % cluster.y || grid.z % cluster.z) {
        return "a grid that is no multiple of its cluster";
    }
    if ((uint64_t)k->static_shared + dynamic_shared > p->shared_per_block) {
        return "more shared memory than the device has for a block";
    }
    if (k->static_shared > QE_SHARED_DEFAULT) return "more than 48 KB of static shared memory";
    return NULL;
}

uint32_t qe_blocks_that_fit(const qe_kernel *k, uint32_t threads, uint32_t dynamic_shared) {
    const qe_profile *p = qe_device_profile();
    uint32_t warps = (threads + 31) / 32;
    uint64_t shared = (uint64_t)k->static_shared + dynamic_shared + QE_SHARED_RESERVED;
    if (!warps || threads > QE_MAX_THREADS || (k->max_threads && threads > k->max_threads))
        return 0;
    uint32_t n = p->threads_per_sm / 32 / warps;
    if (n > p->blocks_per_sm) n = p->blocks_per_sm;
    if (n > p->shared_per_sm / shared) n = (uint32_t)(p->shared_per_sm / shared);
    return n;
}
