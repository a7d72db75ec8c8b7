/* sgd.c — stochastic gradient descent with momentum and Nesterov's variant (Sutskever et al. 2013).
 */
#include "optim/optim.h"

static qn_status record(const void *self, qn_tape *t, const qn_update *u) {
    const qn_optimizer_config *c = self;
    qn_update_attrs attrs = {.momentum = c->momentum,
                             .dampening = c->dampening,
                             .nesterov = c->nesterov,
                             .stochastic_rounding = u->stochastic_rounding,
                             .n_segments = u->n_segments,
                             .segments = u->segments};
    return qn_sgd(t, u->weights, u->master, u->grads, u->moment[0], u->hyper, u->guard, u->rng,
                  &attrs);
}

void qn_optimizer_sgd(const qn_optimizer_config *c, qn_optimizer *out) {
    *out = (qn_optimizer){.self = c,
                          .name = "sgd",
                          .moments = c->momentum > 0 ? 1 : 0,
                          .moment_name = {"momentum_buffer"},
                          .lr = c->lr,
                          .weight_decay = c->weight_decay,
                          .record = record};
}
