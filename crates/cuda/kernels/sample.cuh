// What the kernels that choose tokens share: their arguments, scores as integers in order, e^x, and scans
// and sorts of a block. The chain is that of the sampler on the processor, stage by stage:
//
//   bias, penalties -> top-k -> top-p -> min-p -> temperature -> one of what is left
//
// and gives the same token for the same logits and random numbers: scores and weights are the same floats,
// operation for operation. Sums of weights are integers here, so that no order of adding matters: a weight
// e^x <= 1 becomes round(e^x * 2^shift) with n * 2^shift <= 2^62. The processor adds floats in f64; both are
// within 2^-43 of the exact sum, and only a random number that near to a border could tell them apart.
#pragma once
#include "prelude.cuh"

constexpr u32 BLOCK_THREADS = 256;
constexpr u32 MOST_BLOCKS = 16;   // that share a row
constexpr u32 MOST_GROUPS = MOST_BLOCKS * BLOCK_THREADS;
constexpr u32 FEW = 256;          // top-k up to this takes one launch
constexpr u32 LIST = 2048;        // candidates sorted at once
constexpr u32 BINS = 1024;        // of scores below the best, 16 a unit
enum Weighing : u32 { COUNT = 0, PLAIN = 1, TEMPERED = 2 };

// Flags of a chosen token.
constexpr u32 NOTHING_LEFT = 1; // no score above -inf: the token means nothing
constexpr u32 NOT_A_NUMBER = 2; // some logit was NaN

struct Bias {
    u32 id;
    float amount;
};

// The sampler of one sequence, in device memory. 128 bytes.
struct Chain {
    u64 random[4];     // xoshiro256++
    u64 nucleus;       // top-p * 2^64; 0: off
    u32 *recent;       // [window]: ring of tokens for the penalties
    Words2 *tally;     // [vocab]: x = how often in the ring, y = number of its last occurrence
    const Bias *bias;  // [biases], equal ids side by side in the order they apply
    float temperature; // 0: the best always
    float ln_min_p;    // -inf: off
    float repeat, presence, frequency;
    u32 top_k;         // 0: all
    u32 window;        // 0: no penalties
    u32 biases;
    u32 accepted;      // tokens the penalties were told of
    u32 chosen;        // tokens chosen
    u32 unused[6];
};

// What blocks that share a row tell each other. Tickets and bins are zero between launches.
struct SampleRow {
    u64 groups[MOST_GROUPS];   // best of each thread's elements; or their sums of weights
    u64 partial[MOST_BLOCKS];  // best of each block's
    u64 best;                  // for `sample_all`; 0: chosen already
    u32 tickets[2];
    u32 flags, unused;
    u64 bins[3][BINS];
};

struct SampleArgs {
    float *logits;          // [rows][vocab]; bias and penalties are applied in place
    Chain *chains;          // [slots]
    SampleRow *scratch;     // [rows]
    const u32 *select;      // [rows]: each wanted row's number in the step
    const u32 *slot;        // of the step
    const u32 *position;    // of the step
    u32 *next_token;        // [rows] and so on: the step behind this one, or null
    u32 *next_position;
    u32 *next_slot;
    u32 *next_select;
    u64 *outbox;            // [slots][outbox_length]: number << 32 | flags << 24 | token
    u32 vocab;
    u32 each;               // elements a thread, so a block has 256 * each
    u32 outbox_length;
    u32 shift;              // of weights, for `vocab` candidates
};

// ---- shared memory, in bytes ----------------------------------------------------------------------------

constexpr u32 SUMS_AT = 0;        // u64 [8]
constexpr u32 WORDS_AT = 64;      // u32 [8]
constexpr u32 FOUND_AT = 96;      // u64 [3]
constexpr u32 LIST_AT = 128;      // u64 [LIST]
constexpr u32 PICKED_AT = LIST_AT + LIST * 8;         // u32 [512]
constexpr u32 SAMPLE_SHARED = PICKED_AT + 512 * 4;
constexpr u32 BINS_AT = PICKED_AT;                    // u64 [3][BINS]
constexpr u32 SAMPLE_ALL_SHARED = BINS_AT + 3 * BINS * 8;

// ---- scores ---------------------------------------------------------------------------------------------

DEVICE float minus_infinity() { return bits_to_float(0xFF800000); }
// NaN becomes -inf, +inf the largest number.
DEVICE float clean(float score) {
    float most = bits_to_float(0x7F7FFFFF);
    float number = score > minus_infinity() ? score : minus_infinity();
    return number < most ? number : most;
}
// Integers in the order of floats; -0 and 0 are equal.
DEVICE u32 key_of(float score) {
    u32 bits = float_to_bits(score + 0.0f);
    return bits ^ (static_cast<u32>(static_cast<i32>(bits) >> 31) | 0x80000000u);
}
constexpr u32 KEY_OF_MINUS_INFINITY = 0x007FFFFF;
// Score and id in one: higher is better, of equals the lower id. Never 0.
DEVICE u64 ranked(u32 key, u32 id) { return static_cast<u64>(key) << 32 | (0xFFFFFFFFu - id); }
DEVICE u32 id_of(u64 ranked) { return 0xFFFFFFFFu - static_cast<u32>(ranked); }
DEVICE float score_of(u64 ranked) {
    u32 key = static_cast<u32>(ranked >> 32);
    return bits_to_float(key >> 31 ? key ^ 0x80000000u : ~key);
}

// e^x for x <= 0, zero below -87: the sampler's own, see crates/engine/src/sample/exp.rs.
DEVICE float exp_exact(float x) {
    float inside = x > -87.0f ? x : -87.0f;
    float shifted = add_rn(mul_rn(inside, 1.44269504f), 12582912.0f);
    float n = shifted - 12582912.0f;
    float r = add_rn(add_rn(inside, -mul_rn(n, 0.6933594f)), -mul_rn(n, -2.1219444e-4f));
    float r3 = add_rn(mul_rn(add_rn(mul_rn(add_rn(mul_rn(r, 1.0f / 720.0f), 1.0f / 120.0f), r), 1.0f / 24.0f), r), 1.0f / 6.0f);
    float series = add_rn(mul_rn(add_rn(mul_rn(add_rn(mul_rn(r3, r), 0.5f), r), 1.0f), r), 1.0f);
    float power = bits_to_float((float_to_bits(shifted) << 23) + (127u << 23));
    return x > -87.0f ? mul_rn(series, power) : 0.0f;
}

// A weight of [0, 1] times 2^shift, rounded.
DEVICE u64 fixed(float weight, u32 shift) {
    u32 bits = float_to_bits(weight);
    i32 left = static_cast<i32>(bits >> 23) - 150 + static_cast<i32>(shift);
    u64 mantissa = (bits & 0x7FFFFF) | 0x800000;
    if (left >= 0) return mantissa << left;
    return left < -24 ? 0 : (mantissa + (1ull << (-left - 1))) >> -left;
}

// ---- random numbers -------------------------------------------------------------------------------------

DEVICE u64 rotated(u64 x, u32 by) { return x << by | x >> (64 - by); }
// The next number of the sequence; moves `s` on.
DEVICE u64 random_bits(u64 (&s)[4]) {
    u64 result = rotated(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotated(s[3], 45);
    return result;
}
// floor(unit * total) for the unit of [0, 1) with 53 bits.
DEVICE u64 part_of(u64 random, u64 total) { return mul_high(random & ~2047ull, total); }
// The least sum of weights that is at least `nucleus` of `total`.
DEVICE u64 share_of(u64 nucleus, u64 total) { return mul_high(nucleus, total) + (nucleus * total != 0); }

// ---- a block together: 256 threads, all of them ---------------------------------------------------------

// Sum over the threads up to this one, and over all.
DEVICE u64 scan_block(u64 value, u64 &total) {
    UNROLL for (u32 by = 1; by < 32; by *= 2) {
        u64 below = shfl(value, lane() - by);
        if (lane() >= by) value += below;
    }
    u64 *sums = shared<u64>(SUMS_AT);
    sync_block();
    if (lane() == 31) sums[warp()] = value;
    sync_block();
    total = 0;
    u64 before = 0;
    UNROLL for (u32 i = 0; i < 8; i++) {
        u64 sum = sums[i];
        if (i < warp()) before += sum;
        total += sum;
    }
    return before + value;
}
DEVICE u64 sum_block(u64 value) {
    u64 total;
    scan_block(value, total);
    return total;
}
DEVICE u64 max_block(u64 value) {
    UNROLL for (u32 mask = 16; mask > 0; mask /= 2) {
        u64 other = shfl_xor(value, mask);
        value = other > value ? other : value;
    }
    u64 *sums = shared<u64>(SUMS_AT);
    sync_block();
    if (lane() == 0) sums[warp()] = value;
    sync_block();
    UNROLL for (u32 i = 0; i < 8; i++) value = sums[i] > value ? sums[i] : value;
    return value;
}

// Sorts the first `count` of LIST, best first; zeros follow up to the next power of two, which it returns.
DEVICE u32 sort_list(u32 count) {
    u64 *list = shared<u64>(LIST_AT);
    u32 size = 2;
    while (size < count) size *= 2;
    for (u32 i = count + tid(); i < size; i += BLOCK_THREADS) list[i] = 0;
    for (u32 run = 2; run <= size; run *= 2) {
        for (u32 stride = run / 2; stride > 0; stride /= 2) {
            sync_block();
            for (u32 i = tid(); i < size / 2; i += BLOCK_THREADS) {
                u32 at = 2 * i - (i & (stride - 1));
                u64 x = list[at], y = list[at + stride];
                if ((x < y) == ((at & run) == 0)) list[at] = y, list[at + stride] = x;
            }
        }
    }
    sync_block();
    return size;
}

// Whether this block is the last one of its row; what the others wrote before is then visible. The upper
// half of the ticket counts blocks with `mark`.
DEVICE bool is_last(u32 *ticket, bool mark, bool &marked) {
    u32 *words = shared<u32>(WORDS_AT);
    thread_fence();
    sync_block();
    if (tid() == 0) words[0] = atomic_add(ticket, mark ? 0x10001 : 1);
    sync_block();
    u32 before = words[0];
    bool last = (before & 0xFFFF) == blocks_x() - 1;
    marked = mark || before >> 16 != 0;
    if (last) {
        thread_fence();
        if (tid() == 0) *ticket = 0;
    }
    sync_block();
    return last;
}

// ---- the end --------------------------------------------------------------------------------------------

// What becomes of the token chosen for wanted row `row`: one thread.
DEVICE void finish(const SampleArgs &a, Chain &chain, u32 row, u32 id, u32 flags) {
    u32 from = a.select[row], slot = a.slot[from], position = a.position[from];
    if (chain.window > 0) {
        u32 at = chain.accepted % chain.window;
        if (chain.accepted >= chain.window) chain.tally[chain.recent[at]].x--;
        chain.recent[at] = id;
        chain.tally[id].x++;
        chain.tally[id].y = chain.accepted;
        chain.accepted++;
    }
    u32 number = chain.chosen++;
    Chain *kept = a.chains + slot;
    UNROLL for (u32 i = 0; i < 4; i++) kept->random[i] = chain.random[i];
    kept->accepted = chain.accepted;
    kept->chosen = chain.chosen;
    if (a.next_token != nullptr) {
        a.next_token[row] = id;
        a.next_position[row] = position + 1;
        a.next_slot[row] = slot;
        a.next_select[row] = row;
    }
    publish(a.outbox + static_cast<u64>(slot) * a.outbox_length + number % a.outbox_length,
            static_cast<u64>(number + 1) << 32 | flags << 24 | id);
}
