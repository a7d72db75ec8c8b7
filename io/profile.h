/* profile.h — where a step's time goes: per op, with the Chrome trace to look at it. */
#ifndef QN_PROFILE_H
#define QN_PROFILE_H

#include "engine/train.h"

/* Replays the programs of one step of a session whose training is over (weights are not touched)
 * with a clock around every call. Prints a table on stderr and writes RUN/profile.json, a Chrome
 * trace. */
qn_status qn_profile_write(qn_session *s, const char *run_dir) QN_CHECKED;

#endif
