/* adamw.c — AdamW (Loshchilov and Hutter 2019) over the flat parameter arrays. */
#include "optim/optim.h"

#include <string.h>

static qn_status record(const void *self, qn_tape *t, const qn_update *u) {
    const qn_optimizer_config *c = self;
    qn_update_attrs attrs = {.beta1 = c->beta1,
                             .beta2 = c->beta2,
                             .eps = c->eps,
                             .stochastic_rounding = u->stochastic_rounding,
                             .n_segments = u->n_segments,
                             .segments = u->segments};
    return qn_adamw(t, u->weights, u->master, u->grads, u->moment[0], u->moment[1], u->hyper,
                    u->guard, u->rng, &attrs);
}

void qn_optimizer_adamw(const qn_optimizer_config *c, qn_optimizer *out) {
    *out = (qn_optimizer){.self = c,
                          .name = "adamw",
                          .moments = 2,
                          .moment_name = {"exp_avg", "exp_avg_sq"},
                          .lr = c->lr,
                          .weight_decay = c->weight_decay,
                          .record = record};
}

qn_status qn_optimizer_create(const qn_optimizer_config *c, qn_optimizer *out) {
    if (strcmp(c->type, "adamw") == 0) {
        qn_optimizer_adamw(c, out);
    } else if (strcmp(c->type, "sgd") == 0) {
        qn_optimizer_sgd(c, out);
    } else {
        return qn_fail(QN_ERR_CONFIG, "optimizer.type \"%s\" is unknown; expected adamw or sgd",
                       c->type);
    }
    return QN_OK;
}
