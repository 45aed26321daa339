#ifndef CK_DEQUANTIZE_H
#define CK_DEQUANTIZE_H

#include <stddef.h>
#include <stdint.h>

/// Block formats of GGUF files: `blocks` blocks at `in`, of any alignment, to single precision. A block holds 32 elements
/// in the formats `q4_0` … `q8_0` and 256 in the `k` formats; its bytes are in the name's comment. No multiplication is
/// fused with an addition, so that every element has the bits that the two roundings of the formula give.
void ck_dequantize_q4_0(const uint8_t *in, float *out, size_t blocks);  // 18
void ck_dequantize_q4_1(const uint8_t *in, float *out, size_t blocks);  // 20
void ck_dequantize_q5_0(const uint8_t *in, float *out, size_t blocks);  // 22
void ck_dequantize_q5_1(const uint8_t *in, float *out, size_t blocks);  // 24
void ck_dequantize_q8_0(const uint8_t *in, float *out, size_t blocks);  // 34
void ck_dequantize_q2_k(const uint8_t *in, float *out, size_t blocks);  // 84
void ck_dequantize_q3_k(const uint8_t *in, float *out, size_t blocks);  // 110
void ck_dequantize_q4_k(const uint8_t *in, float *out, size_t blocks);  // 144
void ck_dequantize_q5_k(const uint8_t *in, float *out, size_t blocks);  // 176
void ck_dequantize_q6_k(const uint8_t *in, float *out, size_t blocks);  // 210

#endif
