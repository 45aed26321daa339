/// Loops over elements in C: what a compiler vectorises well, each built for AVX-512, AVX2 and the baseline and picked
/// at run time (ck_processor.h). None allocates, none throws; pointers do not overlap unless a comment says so.
#ifndef CKERNELS_H
#define CKERNELS_H

#include "ck_activations.h"
#include "ck_backward.h"
#include "ck_checksum.h"
#include "ck_convert.h"
#include "ck_dequantize.h"
#include "ck_moments.h"
#include "ck_optimizer.h"
#include "ck_parallel.h"
#include "ck_processor.h"
#include "ck_transformer.h"

#endif
