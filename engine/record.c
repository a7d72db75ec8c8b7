/* record.c — the values one log line carries: adding and finding them by key. */
#include "engine/train.h"

#include <string.h>

void qn_record_add(qn_record *r, const char *key, double value) {
    value = qn_nan_plain(value);
    for (int i = 0; i < r->n; i++) {
        if (strcmp(r->metric[i].key, key) == 0) {
            r->metric[i].value = value;
            return;
        }
    }
    if (r->n < QN_MAX_METRICS) r->metric[r->n++] = (qn_metric){key, value};
}

double qn_record_get(const qn_record *r, const char *key, double absent) {
    for (int i = 0; r && i < r->n; i++) {
        if (strcmp(r->metric[i].key, key) == 0) return r->metric[i].value;
    }
    return absent;
}
