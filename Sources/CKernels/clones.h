/// Builds a function for AVX-512, AVX2 and the baseline; the loader picks one at start.
#ifndef CK_CLONES_H
#define CK_CLONES_H

#if defined(CLONES)
// A build for one instruction set says so itself.
#elif defined(__x86_64__) && defined(__linux__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif

#endif
