/* device_internal.h — the rows of the host's devices, for the device table. */
#ifndef QN_DEVICE_INTERNAL_H
#define QN_DEVICE_INTERNAL_H

#include "engine/engine.h"

extern const qn_device_row qni_host_device; /* device_host.c; REF and CPU */

#endif
