/* environment.h — what a run was made with: machine, build, libraries. */
#ifndef QN_ENVIRONMENT_H
#define QN_ENVIRONMENT_H

#include "io/build.h"

/* RUN/env.json: versions, CPU, threads, host, time, working directory. */
qn_status qn_environment_write(const char *run_dir, const qn_build *b) QN_CHECKED;

/* Degraded paths this precision takes here, one line each; NULL = none. qn_free. */
char *qn_environment_notes(qn_precision p, qn_device d);

/* `quern doctor`: a page for people, or JSON. */
qn_status qn_environment_doctor(bool json, char **out) QN_CHECKED;

#endif
