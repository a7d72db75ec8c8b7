/* random.c — keys, uniform and normal draws, keyed permutation. Counter based: no state to save. */
#include "engine/engine.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

uint64_t qn_rng_key(uint64_t seed, const char *scope, const char *site) {
    uint64_t s = XXH3_64bits_withSeed(scope, strlen(scope), seed);
    return XXH3_64bits_withSeed(site, strlen(site), s);
}

double qn_rng_uniform(uint64_t key, uint64_t step, uint64_t element) {
    return qn_random_u32(key, step, element) * 0x1p-32;
}

double qn_rng_normal(uint64_t key, uint64_t step, uint64_t element) {
    /* Box-Muller; a pair of lanes gives a pair of normals. (u+1)/2^32 keeps the logarithm
     * finite. */
    qn_u32x4 r = qn_philox(key, element >> 2, step);
    unsigned lane = element & 2u;
    double u = ((double)r.v[lane] + 1.0) * 0x1p-32, angle = r.v[lane + 1] * (0x1p-31 * M_PI);
    double radius = sqrt(-2.0 * log(u));
    return element & 1u ? radius * sin(angle) : radius * cos(angle);
}

/* Balanced Feistel network on the smallest even-bit domain that holds n; walks the cycle until the
 * image falls inside [0, n): at most four steps expected, because the domain is < 4n. */
uint64_t qn_rng_permute(uint64_t key, uint64_t n, uint64_t i) {
    unsigned half = 1;
    while (half < 32 && (1ull << (2 * half)) < n) half++;
    const uint64_t mask = (1ull << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 6; round++) {
            uint64_t f = qn_philox(key, right, round).v[0];
            uint64_t next = left ^ (f & mask);
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}
