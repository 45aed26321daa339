#ifndef CK_CHECKSUM_H
#define CK_CHECKSUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/// Whether an even number of bytes has this Fletcher-32 checksum: with the bytes as big-endian 16-bit words w₁ … wₙ, the
/// low half is Σ wᵢ and the high half Σ (n + 1 − i)·wᵢ, both modulo 65535, as HDF5 defines it.
bool ck_has_fletcher32(const uint8_t *bytes, size_t count, uint32_t checksum);

/// A 64-bit hash of words, for telling one array from another; not against anyone who tries.
uint64_t ck_hash(const uint32_t *words, size_t count);

#endif
