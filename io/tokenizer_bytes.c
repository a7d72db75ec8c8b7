/* tokenizer_bytes.c — the alphabet of byte-level models: a printable character for each byte.
 *
 * 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF stand for themselves; the other 68 bytes, in order, are
 * U+0100, U+0101 and so on (space is U+0120, newline U+010A).
 */
#include "io/tokenizer_bpe.h"

static bool is_itself(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

/* 0x00-0x20 are the first 33 of the others, 0x7F-0xA0 the next 34, 0xAD the last. */
uint32_t qni_byte_character(int byte) {
    if (is_itself(byte)) return (uint32_t)byte;
    return 0x100 + (uint32_t)(byte <= 0x20 ? byte : byte == 0xAD ? 67 : byte - 0x7F + 33);
}

int qni_character_byte(uint32_t c) {
    if (c < 0x100) return is_itself((int)c) ? (int)c : -1;
    if (c >= 0x100 + 68) return -1;
    int i = (int)c - 0x100;
    return i <= 0x20 ? i : i == 67 ? 0xAD : i - 33 + 0x7F;
}

int64_t qni_spelling_bytes(const char *text, int64_t bytes, char *out) {
    int64_t n = 0;
    for (int64_t at = 0; at < bytes;) {
        int length, byte = qni_character_byte(qni_char_at(text, at, &length));
        if (byte < 0) return -1;
        out[n++] = (char)byte;
        at += length;
    }
    return n;
}

int64_t qni_spell_bytes(const char *bytes, int64_t n, char *out) {
    int64_t length = 0;
    for (int64_t i = 0; i < n; i++)
        length += qn_utf8_write(qni_byte_character((unsigned char)bytes[i]), out + length);
    return length;
}
