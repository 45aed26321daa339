#include "ck_processor.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "variants.h"

ck_instruction_set ck_process_set = ck_baseline;
_Thread_local ck_instruction_set ck_thread_set;

static const char *unknown;

const char *ck_instruction_set_name(ck_instruction_set set) {
    switch (set) {
    case ck_avx512: return "avx512";
    case ck_avx2: return "avx2";
    default: return "baseline";
    }
}

bool ck_has_instruction_set(ck_instruction_set set) {
#if defined(__x86_64__)
    if (set == ck_avx512) return __builtin_cpu_supports("x86-64-v4");
    if (set == ck_avx2) return __builtin_cpu_supports("x86-64-v3");
#endif
    return set == ck_baseline;
}

/// Before `main`, while no other thread can change the environment.
__attribute__((constructor)) static void choose(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    ck_instruction_set most = ck_avx512;
    const char *limit = getenv("COLA_MAX_CPU_ISA");
    if (limit && *limit) {
        while (most > 0 && strcmp(limit, ck_instruction_set_name(most)) != 0) most--;
        if (most == 0) {
            unknown = limit;
            most = ck_avx512;
        }
    }
    while (!ck_has_instruction_set(most)) most--;
    ck_process_set = most;
}

ck_instruction_set ck_current_instruction_set(void) { return ck_chosen(); }

bool ck_use_instruction_set(ck_instruction_set set) {
    if (!ck_has_instruction_set(set)) return false;
    ck_thread_set = set;
    return true;
}

void ck_use_default_instruction_set(void) { ck_thread_set = 0; }

const char *ck_unknown_instruction_set(void) { return unknown; }
