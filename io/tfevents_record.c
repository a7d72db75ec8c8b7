/* tfevents_record.c — CRC-32C, protobuf fields and record framing of TensorBoard event files. */
#include "io/tfevents_record.h"

#include "io/metrics_text.h"
#include "io/tfevents.h"

#include <string.h>

enum { HEAD = 12, TAIL = 4 }; /* u64 length + u32 checksum; u32 checksum */

/* ---- CRC-32C --------------------------------------------------------------------------------- */

/* Remainders of the 16 half-bytes for the reflected polynomial 0x82F63B78. */
static const uint32_t half_byte[16] = {
    0x00000000, 0x105EC76F, 0x20BD8EDE, 0x30E349B1, 0x417B1DBC, 0x5125DAD3, 0x61C69362, 0x7198540D,
    0x82F63B78, 0x92A8FC17, 0xA24BB5A6, 0xB21572C9, 0xC38D26C4, 0xD3D3E1AB, 0xE330A81A, 0xF36E6F75};

uint32_t qni_crc32c_plain(const void *bytes, size_t n) {
    uint32_t crc = ~0u;
    for (const unsigned char *p = bytes; n > 0; n--, p++) {
        crc ^= *p;
        crc = half_byte[crc & 15] ^ (crc >> 4);
        crc = half_byte[crc & 15] ^ (crc >> 4);
    }
    return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t crc, const unsigned char *p,
                                                            size_t n) {
    uint64_t wide = crc, word;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; n > 0; n--, p++) crc = __builtin_ia32_crc32qi(crc, *p);
    return crc;
}
#endif

uint32_t qn_crc32c(const void *bytes, size_t n) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~crc_sse42(~0u, bytes, n);
#endif
    return qni_crc32c_plain(bytes, n);
}

uint32_t qn_crc32c_masked(const void *bytes, size_t n) {
    uint32_t crc = qn_crc32c(bytes, n);
    return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

/* ---- little endian --------------------------------------------------------------------------- */

static void put_le(char *p, uint64_t v, int bytes) {
    for (int i = 0; i < bytes; i++) p[i] = (char)(unsigned char)(v >> (8 * i));
}

static uint64_t get_le(const char *p, int bytes) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v |= (uint64_t)(unsigned char)p[i] << (8 * i);
    return v;
}

/* ---- protobuf -------------------------------------------------------------------------------- */

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5, VARINT_MAX = 10 };

static int make_varint(char *out, uint64_t v) {
    int n = 0;
    for (; v >= 0x80; v >>= 7) out[n++] = (char)(unsigned char)(v | 0x80);
    out[n++] = (char)(unsigned char)v;
    return n;
}

static void add_varint(qn_text *t, uint64_t v) {
    char bytes[VARINT_MAX];
    qn_text_add_bytes(t, bytes, (size_t)make_varint(bytes, v));
}

static void add_key(qn_text *t, int field, int wire) {
    add_varint(t, (uint64_t)field << 3 | (uint64_t)wire);
}

void qni_pb_int(qn_text *t, int field, int64_t v) {
    add_key(t, field, WIRE_VARINT);
    add_varint(t, (uint64_t)v);
}

void qni_pb_float(qn_text *t, int field, float v) {
    uint32_t bits;
    char bytes[4];
    memcpy(&bits, &v, sizeof bits);
    put_le(bytes, bits, 4);
    add_key(t, field, WIRE_32);
    qn_text_add_bytes(t, bytes, sizeof bytes);
}

void qni_pb_double(qn_text *t, int field, double v) {
    uint64_t bits;
    char bytes[8];
    memcpy(&bits, &v, sizeof bits);
    put_le(bytes, bits, 8);
    add_key(t, field, WIRE_64);
    qn_text_add_bytes(t, bytes, sizeof bytes);
}

void qni_pb_string(qn_text *t, int field, const char *s) {
    size_t opened = qni_pb_open(t, field);
    qni_text_utf8(t, s);
    qni_pb_close(t, opened);
}

size_t qni_pb_open(qn_text *t, int field) {
    add_key(t, field, WIRE_BYTES);
    return t->length;
}

/* The length comes first but is known last: make room for it and move the message up. */
void qni_pb_close(qn_text *t, size_t opened) {
    char bytes[VARINT_MAX];
    size_t length = t->length - opened;
    size_t n = (size_t)make_varint(bytes, length);
    qn_text_pad(t, n, 0);
    if (t->status != QN_OK) return;
    memmove(t->data + opened + n, t->data + opened, length);
    memcpy(t->data + opened, bytes, n);
}

/* ---- records --------------------------------------------------------------------------------- */

void qni_record_begin(qn_text *t) {
    qni_text_clear(t);
    qn_text_pad(t, HEAD, 0);
}

void qni_record_end(qn_text *t) {
    if (t->status != QN_OK) return;
    size_t n = t->length - HEAD;
    char tail[TAIL];
    put_le(t->data, n, 8);
    put_le(t->data + 8, qn_crc32c_masked(t->data, 8), 4);
    put_le(tail, qn_crc32c_masked(t->data + HEAD, n), 4);
    qn_text_add_bytes(t, tail, sizeof tail);
}

size_t qni_record_read(const char *bytes, size_t n, const char **payload, size_t *payload_bytes) {
    if (n < HEAD + TAIL || get_le(bytes + 8, 4) != qn_crc32c_masked(bytes, 8)) return 0;
    uint64_t length = get_le(bytes, 8);
    if (length > n - HEAD - TAIL) return 0;
    const char *p = bytes + HEAD;
    if (get_le(p + length, 4) != qn_crc32c_masked(p, (size_t)length)) return 0;
    *payload = p;
    *payload_bytes = (size_t)length;
    return HEAD + (size_t)length + TAIL;
}

/* Reads a varint at *at; false if it does not end within n. */
static bool read_varint(const char *p, size_t n, size_t *at, uint64_t *v) {
    *v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (*at >= n) return false;
        uint64_t byte = (unsigned char)p[(*at)++];
        *v |= (byte & 0x7F) << shift;
        if (byte < 0x80) return true;
    }
    return false;
}

bool qni_event_step(const char *p, size_t n, int64_t *step) {
    *step = 0;
    for (size_t at = 0; at < n;) {
        uint64_t key, v;
        if (!read_varint(p, n, &at, &key)) return false;
        switch (key & 7) {
        case WIRE_VARINT:
            if (!read_varint(p, n, &at, &v)) return false;
            if (key >> 3 == 2) *step = (int64_t)v;
            continue;
        case WIRE_64: v = 8; break;
        case WIRE_32: v = 4; break;
        case WIRE_BYTES:
            if (!read_varint(p, n, &at, &v)) return false;
            break;
        default: return false;
        }
        if (v > n - at) return false;
        at += (size_t)v;
    }
    return true;
}
