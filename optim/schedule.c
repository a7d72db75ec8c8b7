/* schedule.c — learning-rate schedules: pure functions of the step, so nothing has to be saved. */
#include "optim/optim.h"

#include <math.h>
#include <string.h>

static double progress(const qn_schedule_config *c, int64_t step) {
    if (step >= c->end) return 1.0;
    return (double)(step - c->warmup_steps) / (double)(c->end - c->warmup_steps);
}

static double warmup(const qn_schedule_config *c, int64_t step) {
    return (double)(step + 1) / (double)c->warmup_steps;
}

static double constant(const void *self, int64_t step) {
    const qn_schedule_config *c = self;
    return step < c->warmup_steps ? warmup(c, step) : 1.0;
}

static double linear(const void *self, int64_t step) {
    const qn_schedule_config *c = self;
    if (step < c->warmup_steps) return warmup(c, step);
    return c->min_ratio + (1.0 - c->min_ratio) * (1.0 - progress(c, step));
}

static double cosine(const void *self, int64_t step) {
    const qn_schedule_config *c = self;
    if (step < c->warmup_steps) return warmup(c, step);
    return c->min_ratio + 0.5 * (1.0 - c->min_ratio) * (1.0 + cos(M_PI * progress(c, step)));
}

qn_status qn_schedule_create(const qn_schedule_config *c, qn_schedule *out) {
    static const struct {
        const char *type;
        double (*factor)(const void *, int64_t);
    } kinds[] = {{"constant", constant}, {"linear", linear}, {"cosine", cosine}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (strcmp(c->type, kinds[i].type) == 0) {
            *out = (qn_schedule){.self = c, .factor = kinds[i].factor};
            return QN_OK;
        }
    }
    return qn_fail(QN_ERR_CONFIG,
                   "scheduler.type \"%s\" is unknown; expected constant, linear or cosine",
                   c->type);
}
