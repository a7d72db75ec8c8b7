/* tokenizer_table.c — texts and their ids: an array by id and a hash index over the texts. */
#include "io/tokenizer_parts.h"

#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

static int64_t slot_of(const qni_table *t, const char *text, int64_t bytes) {
    uint64_t mask = (uint64_t)t->slots - 1;
    uint64_t at = XXH3_64bits(text, (size_t)bytes) & mask;
    for (; t->slot[at] >= 0; at = (at + 1) & mask) {
        const qni_entry *e = &t->entry[t->slot[at]];
        if (e->bytes == bytes && memcmp(e->text, text, (size_t)bytes) == 0) break;
    }
    return (int64_t)at;
}

static qn_status make_slots(qni_table *t, int64_t slots) {
    int32_t *slot = qn_setup_alloc(t->arena, (size_t)slots * sizeof *slot);
    if (!slot) return QN_ERR_OOM;
    memset(slot, -1, (size_t)slots * sizeof *slot);
    t->slot = slot;
    t->slots = slots;
    for (int64_t i = 0; i < t->size; i++)
        if (t->entry[i].text) t->slot[slot_of(t, t->entry[i].text, t->entry[i].bytes)] = (int32_t)i;
    return QN_OK;
}

static qn_status make_entries(qni_table *t, int64_t capacity) {
    qni_entry *entry = qn_setup_alloc(t->arena, (size_t)capacity * sizeof *entry);
    if (!entry) return QN_ERR_OOM;
    if (t->size > 0) memcpy(entry, t->entry, (size_t)t->size * sizeof *entry);
    t->entry = entry;
    t->capacity = capacity;
    return QN_OK;
}

qn_status qni_table_create(qn_setup *arena, int64_t expected, qni_table *out) {
    qni_table t = {.arena = arena};
    int64_t slots = 64;
    while (slots < 2 * expected) slots *= 2;
    QN_TRY(make_entries(&t, expected > 16 ? expected : 16));
    QN_TRY(make_slots(&t, slots));
    *out = t;
    return QN_OK;
}

qn_status qni_table_set(qni_table *t, int64_t id, const char *text, int64_t bytes) {
    if (id < 0 || id >= QNI_MAX_TOKENS)
        return qn_fail(QN_ERR_FORMAT, "token \"%.64s\": found id %lld, expected 0 to %d", text,
                       (long long)id, QNI_MAX_TOKENS - 1);
    if (bytes < 1 || bytes > QNI_MAX_TOKEN_BYTES)
        return qn_fail(QN_ERR_FORMAT, "token %lld: found %lld bytes, expected 1 to %d",
                       (long long)id, (long long)bytes, QNI_MAX_TOKEN_BYTES);
    if (id < t->size && t->entry[id].text)
        return qn_fail(QN_ERR_FORMAT, "token %lld: found \"%.64s\" and \"%.64s\" for one id",
                       (long long)id, t->entry[id].text, text);
    int64_t at = slot_of(t, text, bytes);
    if (t->slot[at] >= 0)
        return qn_fail(QN_ERR_FORMAT, "token \"%.64s\": found two ids, %d and %lld", text,
                       t->slot[at], (long long)id);
    if (id >= t->capacity) {
        int64_t capacity = 2 * t->capacity > id ? 2 * t->capacity : id + 1;
        QN_TRY(make_entries(t, capacity));
    }
    char *copy = qn_setup_alloc(t->arena, (size_t)bytes + 1);
    if (!copy) return QN_ERR_OOM;
    memcpy(copy, text, (size_t)bytes);
    t->entry[id] = (qni_entry){copy, (int32_t)bytes, false};
    if (id >= t->size) t->size = id + 1;
    t->slot[at] = (int32_t)id;
    if (++t->used * 2 > t->slots) return make_slots(t, 2 * t->slots);
    return QN_OK;
}

int32_t qni_table_find(const qni_table *t, const char *text, int64_t bytes) {
    return t->slots ? t->slot[slot_of(t, text, bytes)] : -1;
}

int32_t qni_table_find_model(const qni_table *t, const char *text, int64_t bytes) {
    int32_t id = qni_table_find(t, text, bytes);
    return id >= 0 && t->entry[id].added ? -1 : id;
}
