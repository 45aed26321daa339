// A C face for the C++ library libsentencepiece: no exception and no C++ type comes out of it.
#ifndef CSENTENCEPIECE_H
#define CSENTENCEPIECE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// A loaded model. Encoding and decoding do not change it: threads may share one.
typedef struct csentencepiece_model csentencepiece_model;

/// Loads a serialised model. On failure returns NULL and stores a text that the caller frees with `free`.
csentencepiece_model *csentencepiece_load(const void *bytes, size_t size, char **error);
void csentencepiece_free(csentencepiece_model *model);

int32_t csentencepiece_piece_count(const csentencepiece_model *model);
/// Ids of the control pieces, negative if the model has none.
int32_t csentencepiece_bos(const csentencepiece_model *model);
int32_t csentencepiece_eos(const csentencepiece_model *model);

/// Encodes UTF-8. Stores ids and their number; the caller frees the ids with `free`. Returns 0, or -1 and a text as
/// above.
int csentencepiece_encode(const csentencepiece_model *model, const char *text, size_t size, uint32_t **ids,
                          size_t *count, char **error);

/// Decodes ids, all of which must be below the piece count. Stores bytes and their number as above.
int csentencepiece_decode(const csentencepiece_model *model, const uint32_t *ids, size_t count, char **bytes,
                          size_t *size, char **error);

#ifdef __cplusplus
}
#endif
#endif
