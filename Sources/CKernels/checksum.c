#include "ck_checksum.h"

#include <string.h>

#include "variants.h"

enum { lanes = 32, steps = 256 };

/// Adds `count` ≤ steps rows of `lanes` words: sums of each lane, and sums of these running sums. 256 steps overflow
/// neither: 256 · 257 / 2 · 65535 < 2³².
INLINE void add_block(const uint16_t *restrict words, size_t count, uint32_t *restrict sums,
                             uint32_t *restrict running) {
    uint32_t first[lanes] = {0}, second[lanes] = {0};
    for (size_t step = 0; step < count; step++) {
        for (int lane = 0; lane < lanes; lane++) {
            first[lane] += words[step * lanes + lane];
            second[lane] += first[lane];
        }
    }
    memcpy(sums, first, sizeof first);
    memcpy(running, second, sizeof second);
}

VARIANTS(bool, ck_has_fletcher32, (const uint8_t *bytes, size_t count, uint32_t checksum), (bytes, count, checksum)) {
    uint64_t sum = 0, weighted = 0;
    size_t words = count / 2, done = 0;
    while (words - done >= lanes) {
        uint32_t sums[lanes], running[lanes];
        size_t block = (words - done) / lanes < steps ? (words - done) / lanes : steps;
        uint16_t aligned[lanes * steps];
        memcpy(aligned, bytes + 2 * done, block * lanes * 2);
        add_block(aligned, block, sums, running);
        // Word `lane` of a step stands `lane` places nearer the end than the step's first.
        uint64_t block_sum = 0, block_weighted = 0;
        for (uint64_t lane = 0; lane < lanes; lane++) {
            block_sum += sums[lane];
            block_weighted += lanes * (uint64_t)running[lane] - lane * sums[lane];
        }
        weighted = (weighted + sum * (block * lanes) + block_weighted) % 65535;
        sum = (sum + block_sum) % 65535;
        done += block * lanes;
    }
    for (; done < words; done++) {
        uint16_t word;
        memcpy(&word, bytes + 2 * done, 2);
        sum += word;
        weighted += sum;
    }
    // The words were read little-endian; modulo 65535, exchanging a word's bytes multiplies it by 256.
    return sum * 256 % 65535 == (checksum & 0xFFFF) % 65535 && weighted % 65535 * 256 % 65535 == (checksum >> 16) % 65535;
}

uint64_t ck_hash(const uint32_t *words, size_t count) {
    // Four independent states, so that multiplications overlap.
    uint64_t state[4] = {0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89};
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        for (int lane = 0; lane < 4; lane++) {
            uint64_t word;
            memcpy(&word, words + i + 2 * lane, sizeof word);
            state[lane] = (state[lane] ^ word) * 0x9E3779B97F4A7C15;
            state[lane] ^= state[lane] >> 29;
        }
    }
    uint64_t hash = count;
    for (; i < count; i++) {
        hash = (hash ^ words[i]) * 0x9E3779B97F4A7C15;
        hash ^= hash >> 29;
    }
    for (int lane = 0; lane < 4; lane++) {
        hash = (hash ^ state[lane]) * 0x9E3779B97F4A7C15;
        hash ^= hash >> 32;
    }
    return hash;
}
