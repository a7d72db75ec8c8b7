/* sha256.c — SHA-256: portable compression and one on x86 SHA instructions, chosen at run time. */
#include "io/sha256.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static const uint32_t k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

typedef void compress(uint32_t h[8], const uint8_t *p, size_t blocks);

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void compress_portable(uint32_t h[8], const uint8_t *p, size_t blocks) {
    for (; blocks; blocks--, p += 64) {
        uint32_t w[64], v[8];
        for (int i = 0; i < 16; i++) {
            w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
                   (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
        }
        for (int i = 16; i < 64; i++) {
            uint32_t a = w[i - 15], b = w[i - 2];
            w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >> 3) +
                   (rotate(b, 17) ^ rotate(b, 19) ^ b >> 10);
        }
        memcpy(v, h, sizeof v);
#pragma GCC unroll 8
        for (int i = 0; i < 64;
             i++) { /* v rotates by one: place j of round i is v[(j - i) mod 8] */
            uint32_t a = v[-i & 7], e = v[(4 - i) & 7];
            uint32_t *d = &v[(3 - i) & 7], *last = &v[(7 - i) & 7];
            uint32_t t1 = *last + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +
                          ((e & v[(5 - i) & 7]) ^ (~e & v[(6 - i) & 7])) + k[i] + w[i];
            uint32_t b = v[(1 - i) & 7], c = v[(2 - i) & 7];
            *d += t1;
            *last =
                t1 + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
        }
        for (int i = 0; i < 8; i++) h[i] += v[i];
    }
}

#if defined(__x86_64__)
/* Two rounds an instruction on the state split as (a,b,e,f) and (c,d,g,h); the schedule is kept as
 * the last sixteen words in four vectors. */
__attribute__((target("sha,sse4.1,ssse3"))) static void
compress_sha_ni(uint32_t h[8], const uint8_t *p, size_t blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i abcd = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)h), 0xB1);
    __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(h + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(abcd, efgh, 8), cdgh = _mm_blend_epi16(efgh, abcd, 0xF0);
    for (; blocks; blocks--, p += 64) {
        const __m128i abef_0 = abef, cdgh_0 = cdgh;
        __m128i w[4];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i *now = &w[i & 3];
            if (i < 4) {
                *now = _mm_shuffle_epi8(
                    _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)), swap);
            } else {
                __m128i last = w[(i + 3) & 3];
                __m128i t = _mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(i + 1) & 3]),
                                          _mm_alignr_epi8(last, w[(i + 2) & 3], 4));
                *now = _mm_sha256msg2_epu32(t, last);
            }
            __m128i m =
                _mm_add_epi32(*now, _mm_load_si128((const __m128i *)(const void *)(k + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, m);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(m, 0x0E));
        }
        abef = _mm_add_epi32(abef, abef_0);
        cdgh = _mm_add_epi32(cdgh, cdgh_0);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)(void *)h, _mm_blend_epi16(feba, dchg, 0xF0));
    _mm_storeu_si128((__m128i *)(void *)(h + 4), _mm_alignr_epi8(dchg, feba, 8));
}

static bool has_sha_ni(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b >> 29 & 1) &&
           __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("ssse3");
}

static compress *choose(void) { return has_sha_ni() ? compress_sha_ni : compress_portable; }
#else
static compress *choose(void) { return compress_portable; }
#endif

void qn_sha256_init(qn_sha256 *s) {
    static const uint32_t h0[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                   0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, h0, sizeof h0);
    s->bytes = 0;
}

static void update(qn_sha256 *s, const uint8_t *p, size_t bytes, compress *f) {
    size_t held = s->bytes % 64;
    s->bytes += bytes;
    if (held) {
        size_t n = bytes < 64 - held ? bytes : 64 - held;
        memcpy(s->block + held, p, n);
        p += n;
        bytes -= n;
        if (held + n < 64) return;
        f(s->h, s->block, 1);
    }
    f(s->h, p, bytes / 64);
    if (bytes % 64) memcpy(s->block, p + bytes / 64 * 64, bytes % 64);
}

void qn_sha256_update_portable(qn_sha256 *s, const void *data, size_t bytes) {
    if (bytes) update(s, data, bytes, compress_portable);
}

/* Asking the CPU costs as much as a kilobyte of hashing, so short inputs do without. */
void qn_sha256_update(qn_sha256 *s, const void *data, size_t bytes) {
    if (bytes) update(s, data, bytes, bytes < 4096 ? compress_portable : choose());
}

void qn_sha256_final(qn_sha256 *s, uint8_t digest[QN_SHA256_BYTES]) {
    uint64_t bits = s->bytes * 8;
    uint8_t tail[72] = {0x80};
    size_t n = 1 + (119 - s->bytes % 64) % 64;
    for (int i = 0; i < 8; i++) tail[n + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    qn_sha256_update_portable(s, tail, n + 8);
    for (int i = 0; i < QN_SHA256_BYTES; i++) {
        digest[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
    }
}

void qn_sha256_final_hex(qn_sha256 *s, char hex[QN_SHA256_HEX]) {
    static const char digits[] = "0123456789abcdef";
    uint8_t d[QN_SHA256_BYTES];
    qn_sha256_final(s, d);
    for (int i = 0; i < QN_SHA256_BYTES; i++) {
        hex[2 * i] = digits[d[i] >> 4];
        hex[2 * i + 1] = digits[d[i] & 15];
    }
    hex[2 * QN_SHA256_BYTES] = '\0';
}

void qn_sha256_hex(const void *data, size_t bytes, char hex[QN_SHA256_HEX]) {
    qn_sha256 s;
    qn_sha256_init(&s);
    qn_sha256_update(&s, data, bytes);
    qn_sha256_final_hex(&s, hex);
}
