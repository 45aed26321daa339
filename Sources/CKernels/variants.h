/// Builds a function for AVX-512, AVX2 and the baseline, and picks one at each call, by the processor and by what
/// `ck_processor.h` says. Not `target_clones`: those the loader picks, before anyone can ask for another one.
#ifndef CK_VARIANTS_H
#define CK_VARIANTS_H

#include "ck_processor.h"

#define INLINE static inline __attribute__((always_inline))

/// Before a loop whose results may be written over its operands: each iteration reads and writes one index only.
#ifdef __clang__
#define SAME_INDEX _Pragma("clang loop vectorize(assume_safety)")
#else
#define SAME_INDEX
#endif

/// The instruction set of the process; the baseline until `processor.c` has asked.
extern __attribute__((visibility("hidden"))) ck_instruction_set ck_process_set;
/// The one that a test chose for this thread; 0 if none did.
extern __attribute__((visibility("hidden"))) _Thread_local ck_instruction_set ck_thread_set;

INLINE ck_instruction_set ck_chosen(void) { return ck_thread_set ? ck_thread_set : ck_process_set; }

/// VARIANTS(void, f, (const float *x, size_t n), (x, n)) { … } defines f, whose body is compiled once for each
/// instruction set. What the body calls should be INLINE, or has variants of its own.
#if defined(__x86_64__)
/// Tuned like the others: what the name alone implies prefers half of the registers' width.
#define AVX512 __attribute__((target("arch=x86-64-v4,tune=x86-64")))
#define AVX2 __attribute__((target("arch=x86-64-v3")))
#define VARIANTS(type, name, parameters, arguments)                                      \
    INLINE type name##_body parameters;                                                  \
    AVX512 static type name##_avx512 parameters { return name##_body arguments; }        \
    AVX2 static type name##_avx2 parameters { return name##_body arguments; }            \
    static type name##_baseline parameters { return name##_body arguments; }             \
    type name parameters {                                                               \
        switch (ck_chosen()) {                                                           \
        case ck_avx512: return name##_avx512 arguments;                                  \
        case ck_avx2: return name##_avx2 arguments;                                      \
        default: return name##_baseline arguments;                                       \
        }                                                                                \
    }                                                                                    \
    INLINE type name##_body parameters
#else
#define VARIANTS(type, name, parameters, arguments) type name parameters
#endif

#endif
