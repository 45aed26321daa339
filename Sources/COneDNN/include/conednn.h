/// Matrix products by oneDNN, the same for its API versions 2 and 3.
/// All matrices are row-major; a status of 0 means done, any other that C is as it was.
#ifndef CONEDNN_H
#define CONEDNN_H

#include <stdbool.h>
#include <stdint.h>

/// C = alpha · op(A) · op(B) + beta · C in single precision. op(A) is m×k, op(B) is k×n; `lda`, `ldb`, `ldc` are
/// the row strides of the stored matrices. Called inside a parallel region it runs on the calling thread alone.
int conednn_sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/// C = op(A) · op(B), or C + op(A) · op(B) if `accumulating`: bfloat16 operands (given by their 16 bits), products
/// accumulated and stored in single precision.
/// Primitives are kept per thread and shape, so a repeated shape costs no set-up. Called inside a parallel region it runs
/// on the calling thread alone.
int conednn_bf16_gemm(bool transpose_a, bool transpose_b, bool accumulating, int64_t m, int64_t n, int64_t k,
                      const uint16_t *a, int64_t lda, const uint16_t *b, int64_t ldb, float *c, int64_t ldc);

/// Whether the library multiplies bfloat16 matrices on this processor, within what ONEDNN_MAX_CPU_ISA allows it, by other
/// means than its reference loop. A product may be refused all the same: ask for its status.
bool conednn_has_bf16_gemm(void);

/// Whether the library's kernels here are those for AVX2: neither the processor nor ONEDNN_MAX_CPU_ISA leaves it others.
bool conednn_is_limited_to_avx2(void);

/// The library's version as major · 10000 + minor · 100 + patch.
int conednn_version(void);

#endif
