#ifndef CK_PROCESSOR_H
#define CK_PROCESSOR_H

#include <stdbool.h>

/// Instruction sets that the loops of this library are built for; each has the ones before it. Processors other than x86
/// have the baseline only, which is then what the compiler takes for granted there.
typedef enum {
    /// x86-64: SSE2.
    ck_baseline = 1,
    /// x86-64-v3: AVX2, FMA, F16C.
    ck_avx2,
    /// x86-64-v4: AVX-512 F, BW, CD, DQ and VL.
    ck_avx512,
} ck_instruction_set;

/// The one whose loops the calling thread gets: the widest that the processor has and that the environment variable
/// COLA_MAX_CPU_ISA – "baseline", "avx2" or "avx512", read once, at start – allows.
ck_instruction_set ck_current_instruction_set(void);

/// "baseline", "avx2" or "avx512".
const char *ck_instruction_set_name(ck_instruction_set set);

/// Whether the processor has it and this library was built for it, whatever the variable says.
bool ck_has_instruction_set(ck_instruction_set set);

/// From now on the calling thread – no other, so not the ones of `ck_parallel_for` – gets this set's loops, whatever the
/// variable says; false, and nothing changed, where `ck_has_instruction_set` is false. For tests, which so call every
/// variant that the processor has.
bool ck_use_instruction_set(ck_instruction_set set);

/// Ends what `ck_use_instruction_set` began.
void ck_use_default_instruction_set(void);

/// The value of COLA_MAX_CPU_ISA if it is none of the names, and so was not obeyed; else NULL.
const char *ck_unknown_instruction_set(void);

#endif
