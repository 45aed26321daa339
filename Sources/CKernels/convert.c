#include "ck_convert.h"

#include <string.h>

#include "variants.h"

VARIANTS(void, ck_bf16_to_f32, (const uint16_t *restrict in, float *restrict out, size_t count), (in, out, count)) {
    uint32_t *bits = (uint32_t *)out;
    for (size_t i = 0; i < count; i++) bits[i] = (uint32_t)in[i] << 16;
}

VARIANTS(void, ck_f32_to_bf16, (const float *restrict in, uint16_t *restrict out, size_t count), (in, out, count)) {
    const uint32_t *bits = (const uint32_t *)in;
    for (size_t i = 0; i < count; i++) {
        uint32_t u = bits[i];
        uint32_t rounded = (u + 0x7FFFu + ((u >> 16) & 1u)) >> 16;
        uint32_t quiet = (u >> 16) | 0x40u;
        out[i] = (uint16_t)((u & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
    }
}

VARIANTS(void, ck_f16_to_f32, (const uint16_t *restrict in, float *restrict out, size_t count), (in, out, count)) {
    const _Float16 *halves = (const _Float16 *)in;
    for (size_t i = 0; i < count; i++) out[i] = (float)halves[i];
}

VARIANTS(void, ck_f32_to_f16, (const float *restrict in, uint16_t *restrict out, size_t count), (in, out, count)) {
    _Float16 *halves = (_Float16 *)out;
    for (size_t i = 0; i < count; i++) halves[i] = (_Float16)in[i];
}

VARIANTS(void, ck_f64_to_f32, (const double *restrict in, float *restrict out, size_t count), (in, out, count)) {
    for (size_t i = 0; i < count; i++) out[i] = (float)in[i];
}

VARIANTS(void, ck_f32_to_f64, (const float *restrict in, double *restrict out, size_t count), (in, out, count)) {
    for (size_t i = 0; i < count; i++) out[i] = in[i];
}

/// Whether all of a block is finite, without an early exit so that it vectorises.
INLINE int block_finite(const uint32_t *bits, size_t count) {
    uint32_t bad = 0;
    for (size_t i = 0; i < count; i++) bad |= (bits[i] & 0x7F800000u) == 0x7F800000u;
    return bad == 0;
}

VARIANTS(size_t, ck_first_not_finite, (const float *in, size_t count), (in, count)) {
    const uint32_t *bits = (const uint32_t *)in;
    const size_t block = 4096;
    for (size_t start = 0; start < count; start += block) {
        size_t length = count - start < block ? count - start : block;
        if (block_finite(bits + start, length)) continue;
        for (size_t i = start; i < start + length; i++) {
            if ((bits[i] & 0x7F800000u) == 0x7F800000u) return i;
        }
    }
    return count;
}
