/* op_table.c — all op rows in one list, found by name. */
#include "engine/ops.h"

#include <string.h>

const qn_op *const qn_op_table[] = {
#define QNI_X(name) &qn_op_##name,
    QN_OP_MAP(QNI_X)
#undef QNI_X
        NULL,
};

const qn_op *qn_op_find(const char *name) {
    for (const qn_op *const *op = qn_op_table; *op; op++) {
        if (strcmp((*op)->name, name) == 0) return *op;
    }
    return NULL;
}
