/* tfevents_record.h — the two layers of an event file: protobuf fields, and records around them. */
#ifndef QN_TFEVENTS_RECORD_H
#define QN_TFEVENTS_RECORD_H

#include "io/text_buffer.h"

/* ---- protobuf: fields appended to a message in a buffer -------------------------------------- */

void qni_pb_int(qn_text *t, int field, int64_t v);
void qni_pb_float(qn_text *t, int field, float v);
void qni_pb_double(qn_text *t, int field, double v);
void qni_pb_string(qn_text *t, int field, const char *s); /* made valid UTF-8 */
/* A message field: everything appended between the two calls lies inside it. */
size_t qni_pb_open(qn_text *t, int field);
void qni_pb_close(qn_text *t, size_t opened);

/* ---- records --------------------------------------------------------------------------------- */

void qni_record_begin(qn_text *t); /* empties the buffer; the payload is appended next */
void qni_record_end(qn_text *t);   /* adds length and checksums around it */

/* One record at the start of `bytes`: its whole size, and where its payload lies. 0 = none that is
 * complete and undamaged. */
size_t qni_record_read(const char *bytes, size_t n, const char **payload, size_t *payload_bytes);
/* The step of an Event message (0 if it names none). False if the message is malformed. */
bool qni_event_step(const char *payload, size_t n, int64_t *step);

uint32_t qni_crc32c_plain(const void *bytes, size_t n); /* qn_crc32c without special instructions */

#endif
