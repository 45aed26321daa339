/// What several files of loops compute with: the exponential function and the maximum, inlined into each variant.
#ifndef CK_EXPONENTIAL_H
#define CK_EXPONENTIAL_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "variants.h"

/// Partial sums: enough to fill two AVX-512 registers, always added up in the same order.
enum { lanes = 32 };

/// How many columns of a vocabulary are summed in single precision before the sum goes on in double. Beside a sum near 1,
/// terms below 2^-25 would vanish, and of 262,144 columns all but a few are that small. Vocabularies of up to 65,536 are
/// one stretch, so that their results stay those of before: of the partial sum with the largest term at most 2,048 terms
/// vanish, 6·10^-5 of the whole.
INLINE size_t stretch_of(size_t count) { return count > 65536 ? 4096 : count; }

INLINE float from_bits(int32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/// e^x to about 1.5 units in the last place: x = n·ln 2 + f, a polynomial of degree 6 for e^f (minimax on
/// |f| ≤ ln 2 / 2), and n added to the exponent. Below −87.3 it is 0 – so no subnormal results –, from
/// 88.4 on infinity, a little before it would have to be.
INLINE float exponential(float x) {
    float n = x * 1.44269504088896341f;
    n = (n + 12582912.0f) - 12582912.0f;
    n = n < -127.0f ? -127.0f : n > 128.0f ? 128.0f : n;
    float f = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * f + 1.3981999507e-3f;
    p = p * f + 8.3334519073e-3f;
    p = p * f + 4.1665795894e-2f;
    p = p * f + 1.6666665459e-1f;
    p = p * f + 5.0000001201e-1f;
    p = p * f * f + f + 1.0f;
    float result = p * from_bits(((int32_t)n + 127) << 23);
    result = x < -87.3f ? 0.0f : result;
    return x > 88.7f ? INFINITY : result;
}

INLINE float maximum(const float *row, size_t count) {
    float best[lanes];
    for (int l = 0; l < lanes; l++) best[l] = -INFINITY;
    size_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        for (int l = 0; l < lanes; l++) best[l] = row[i + l] > best[l] ? row[i + l] : best[l];
    }
    float most = -INFINITY;
    for (; i < count; i++) most = row[i] > most ? row[i] : most;
    for (int l = 0; l < lanes; l++) most = best[l] > most ? best[l] : most;
    return most;
}

#endif
