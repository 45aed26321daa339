#include "ck_dequantize.h"

#include <string.h>

#include "variants.h"

// A fused multiply-add rounds once where the formats' definition rounds twice.
#pragma STDC FP_CONTRACT OFF

INLINE float half_at(const uint8_t *in) {
    _Float16 half;
    memcpy(&half, in, sizeof half);
    return (float)half;
}

INLINE uint32_t word_at(const uint8_t *in) {
    uint32_t word;
    memcpy(&word, in, sizeof word);
    return word;
}

VARIANTS(void, ck_dequantize_q4_0,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 18, out += 32) {
        float d = half_at(in);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((in[2 + i] & 15) - 8);
            out[16 + i] = d * (float)((in[2 + i] >> 4) - 8);
        }
    }
}

VARIANTS(void, ck_dequantize_q4_1,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 20, out += 32) {
        float d = half_at(in), least = half_at(in + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)(in[4 + i] & 15) + least;
            out[16 + i] = d * (float)(in[4 + i] >> 4) + least;
        }
    }
}

VARIANTS(void, ck_dequantize_q5_0,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 22, out += 32) {
        float d = half_at(in);
        uint32_t high = word_at(in + 2);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((int)((in[6 + i] & 15) | ((high >> i) & 1) << 4) - 16);
            out[16 + i] = d * (float)((int)((in[6 + i] >> 4) | ((high >> (16 + i)) & 1) << 4) - 16);
        }
    }
}

VARIANTS(void, ck_dequantize_q5_1,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 24, out += 32) {
        float d = half_at(in), least = half_at(in + 2);
        uint32_t high = word_at(in + 4);
        for (int i = 0; i < 16; i++) {
            out[i] = d * (float)((in[8 + i] & 15) | ((high >> i) & 1) << 4) + least;
            out[16 + i] = d * (float)((in[8 + i] >> 4) | ((high >> (16 + i)) & 1) << 4) + least;
        }
    }
}

VARIANTS(void, ck_dequantize_q8_0,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 34, out += 32) {
        float d = half_at(in);
        for (int i = 0; i < 32; i++) out[i] = d * (float)(int8_t)in[2 + i];
    }
}

VARIANTS(void, ck_dequantize_q2_k,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 84, out += 256) {
        const uint8_t *scales = in, *low = in + 16;
        float d = half_at(in + 80), dmin = half_at(in + 82);
        for (int group = 0; group < 16; group++) {
            float scale = d * (float)(scales[group] & 15), least = dmin * (float)(scales[group] >> 4);
            const uint8_t *quants = low + group / 8 * 32 + group % 2 * 16;
            int shift = group / 2 % 4 * 2;
            for (int i = 0; i < 16; i++) out[group * 16 + i] = scale * (float)(quants[i] >> shift & 3) - least;
        }
    }
}

VARIANTS(void, ck_dequantize_q3_k,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 110, out += 256) {
        const uint8_t *mask = in, *low = in + 32, *scales = in + 96;
        float d = half_at(in + 108);
        for (int group = 0; group < 16; group++) {
            int nibble = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
            int top = scales[8 + group % 4] >> (group / 4 * 2) & 3;
            float scale = d * (float)((nibble | top << 4) - 32);
            const uint8_t *quants = low + group / 8 * 32 + group % 2 * 16, *bits = mask + group % 2 * 16;
            int shift = group / 2 % 4 * 2, bit = group / 2;
            // A bit that is set means that nothing is taken off.
            for (int i = 0; i < 16; i++) {
                out[group * 16 + i] = scale * (float)((quants[i] >> shift & 3) - ((bits[i] >> bit & 1) ? 0 : 4));
            }
        }
    }
}

/// The six-bit scale and minimum of one of the eight groups of a q4_k or q5_k block.
INLINE void scale_and_least(const uint8_t *packed, int group, int *scale, int *least) {
    if (group < 4) {
        *scale = packed[group] & 63;
        *least = packed[group + 4] & 63;
    } else {
        *scale = (packed[group + 4] & 15) | (packed[group - 4] >> 2 & 0x30);
        *least = packed[group + 4] >> 4 | (packed[group] >> 2 & 0x30);
    }
}

VARIANTS(void, ck_dequantize_q4_k,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 144, out += 256) {
        float d = half_at(in), dmin = half_at(in + 2);
        for (int group = 0; group < 8; group++) {
            int s, m;
            scale_and_least(in + 4, group, &s, &m);
            float scale = d * (float)s, least = dmin * (float)m;
            const uint8_t *quants = in + 16 + group / 2 * 32;
            int shift = group % 2 * 4;
            for (int i = 0; i < 32; i++) out[group * 32 + i] = scale * (float)(quants[i] >> shift & 15) - least;
        }
    }
}

VARIANTS(void, ck_dequantize_q5_k,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 176, out += 256) {
        float d = half_at(in), dmin = half_at(in + 2);
        const uint8_t *high = in + 16;
        for (int group = 0; group < 8; group++) {
            int s, m;
            scale_and_least(in + 4, group, &s, &m);
            float scale = d * (float)s, least = dmin * (float)m;
            const uint8_t *quants = in + 48 + group / 2 * 32;
            int shift = group % 2 * 4;
            for (int i = 0; i < 32; i++) {
                int quant = (quants[i] >> shift & 15) | (high[i] >> group & 1) << 4;
                out[group * 32 + i] = scale * (float)quant - least;
            }
        }
    }
}

VARIANTS(void, ck_dequantize_q6_k,
         (const uint8_t *restrict in, float *restrict out, size_t blocks), (in, out, blocks)) {
    for (size_t b = 0; b < blocks; b++, in += 210, out += 256) {
        const uint8_t *low = in, *high = in + 128;
        const int8_t *scales = (const int8_t *)in + 192;
        float d = half_at(in + 208);
        for (int group = 0; group < 16; group++) {
            float scale = d * (float)scales[group];
            int quarter = group / 2 % 4, start = group % 2 * 16;
            const uint8_t *nibbles = low + group / 8 * 64 + quarter % 2 * 32 + start;
            const uint8_t *pairs = high + group / 8 * 32 + start;
            for (int i = 0; i < 16; i++) {
                int quant = (nibbles[i] >> (quarter / 2 * 4) & 15) | (pairs[i] >> (quarter * 2) & 3) << 4;
                out[group * 16 + i] = scale * (float)(quant - 32);
            }
        }
    }
}
