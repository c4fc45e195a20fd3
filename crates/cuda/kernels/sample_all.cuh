// The chain over a whole vocabulary: no top-k, or a large one.
//
// Without top-p nothing needs an order: candidates are drawn by id. Each thread sums the weights of its own
// stretch of ids; the last block adds the stretches up to the one that the random number means.
//
// With top-p, or top-k above FEW, candidates are drawn by score. The distance of a score below the best falls
// into one of 1024 bins; blocks add up, for each bin, how many elements it has, their weights, and their
// weights at the temperature. To find the element at which a sum is reached, the last block finds the bin,
// gathers its elements (reading only groups whose best element is not below it), and sorts them. A bin of
// more than LIST elements, as of many equal scores, is searched bit by bit instead, a pass over the row each:
// slow, exact.
#pragma once
#include "sample.cuh"

// A row and what is known of it. Same in all threads.
struct Whole {
    const float *logits;
    SampleRow *scratch;
    float max, bar, temperature; // scores below the bar are out
    u32 vocab, each, shift;
    u32 bin, gathered; // what LIST holds: a bin's elements in order and how many; more than LIST: it holds nothing
    bool any;          // whether LIST was filled
};

DEVICE u32 bin_of(const Whole &w, float score) {
    float distance = (w.max - score) * 16.0f;
    return distance < static_cast<float>(BINS - 1) ? static_cast<u32>(distance) : BINS - 1;
}
DEVICE u64 plain_weight(const Whole &w, float score) { return fixed(exp_exact(score - w.max), w.shift); }
DEVICE u64 tempered_weight(const Whole &w, float score) {
    return score >= w.bar ? fixed(exp_exact((score - w.max) / w.temperature), w.shift) : 0;
}
DEVICE u64 weigh(const Whole &w, u32 weighing, float score) {
    return weighing == COUNT ? 1 : weighing == PLAIN ? plain_weight(w, score) : tempered_weight(w, score);
}

DEVICE bool last_of(const Whole &w) {
    bool marked;
    return is_last(w.scratch->tickets + 1, false, marked);
}

// ---- by id ----------------------------------------------------------------------------------------------

// groups[g] = weights of the elements [g each, (g + 1) each).
DEVICE void sum_groups(const Whole &w) {
    u32 group = block_x() * BLOCK_THREADS + tid();
    u64 sum = 0;
    for (u32 i = 0; i < w.each; i++) {
        u32 id = group * w.each + i;
        if (id < w.vocab) sum += tempered_weight(w, clean(w.logits[id]));
    }
    w.scratch->groups[group] = sum;
}

DEVICE u32 draw_by_id(const Whole &w, Chain &chain) {
    u64 sum = 0, total;
    u32 share = blocks_x(), group = tid() * share;
    for (u32 i = 0; i < share; i++) sum += load_fresh(w.scratch->groups + group + i);
    u64 before = scan_block(sum, total) - sum, target = part_of(random_bits(chain.random), total);
    u64 *found = shared<u64>(FOUND_AT), *list = shared<u64>(LIST_AT);
    if (before <= target && target < before + sum) {
        for (u64 next; before + (next = load_fresh(w.scratch->groups + group)) <= target; group++) before += next;
        found[0] = group, found[1] = before;
    }
    sync_block();
    u32 first = static_cast<u32>(found[0]) * w.each;
    for (u32 i = tid(); i < w.each; i += BLOCK_THREADS) {
        list[i] = first + i < w.vocab ? tempered_weight(w, clean(load_fresh(w.logits + first + i))) : 0;
    }
    sync_block();
    before = found[1];
    u32 i = 0;
    while (before + list[i] <= target) before += list[i++];
    return first + i;
}

// ---- by score -------------------------------------------------------------------------------------------

// bins[weighing][bin] += weights of this block's elements.
DEVICE void fill_bins(const Whole &w, bool counted) {
    u64 *bins = shared<u64>(BINS_AT);
    for (u32 i = tid(); i < 3 * BINS; i += BLOCK_THREADS) bins[i] = 0;
    sync_block();
    u32 first = block_x() * BLOCK_THREADS * w.each, end = first + BLOCK_THREADS * w.each;
    for (u32 id = first + tid(); id < end && id < w.vocab; id += BLOCK_THREADS) {
        float score = clean(w.logits[id]);
        u32 bin = bin_of(w, score);
        u64 plain = plain_weight(w, score), tempered = tempered_weight(w, score);
        if (counted) atomic_add(bins + bin, 1ull);
        if (plain != 0) atomic_add(bins + BINS + bin, plain);
        if (tempered != 0) atomic_add(bins + 2 * BINS + bin, tempered);
    }
    sync_block();
    for (u32 i = tid(); i < 3 * BINS; i += BLOCK_THREADS) {
        if (bins[i] != 0) atomic_add(&w.scratch->bins[0][0] + i, bins[i]);
    }
}

// Calls `see` with every element of a bin. No meeting inside.
template <typename See> DEVICE void each_of_bin(const Whole &w, u32 bin, See see) {
    for (u32 group = tid(); group < blocks_x() * BLOCK_THREADS; group += BLOCK_THREADS) {
        u64 best = load_fresh(w.scratch->groups + group);
        if (best == 0 || bin_of(w, score_of(best)) > bin) continue;
        for (u32 i = 0; i < w.each; i++) {
            u32 id = (group / BLOCK_THREADS * w.each + i) * BLOCK_THREADS + group % BLOCK_THREADS;
            if (id >= w.vocab) break;
            float score = clean(load_fresh(w.logits + id));
            if (bin_of(w, score) == bin) see(ranked(key_of(score), id));
        }
    }
}

// Fills LIST with a bin.
DEVICE void gather(Whole &w, u32 bin) {
    if (w.any && w.bin == bin) return;
    u32 *words = shared<u32>(WORDS_AT);
    u64 *list = shared<u64>(LIST_AT);
    sync_block();
    if (tid() == 0) words[0] = 0;
    sync_block();
    each_of_bin(w, bin, [&](u64 element) {
        u32 at = atomic_add(words, 1);
        if (at < LIST) list[at] = element;
    });
    sync_block();
    w.any = true, w.bin = bin, w.gathered = words[0];
    if (w.gathered <= LIST) sort_list(w.gathered);
}

// Weights of a bin's elements that reach `bound`.
DEVICE u64 sum_of_bin(Whole &w, u32 weighing, u32 bin, u64 bound) {
    gather(w, bin);
    u64 sum = 0;
    auto add = [&](u64 element) {
        if (element >= bound) sum += weigh(w, weighing, score_of(element));
    };
    if (w.gathered > LIST) each_of_bin(w, bin, add);
    else for (u32 i = tid(); i < w.gathered; i += BLOCK_THREADS) add(shared<u64>(LIST_AT)[i]);
    return sum_block(sum);
}

// The highest element down to which weights add up to `wanted`, which is at least 1 and not above all.
DEVICE u64 reach(Whole &w, u32 weighing, u64 wanted) {
    constexpr u32 SHARE = BINS / BLOCK_THREADS;
    const u64 *bins = shared<u64>(BINS_AT) + weighing * BINS;
    u64 *found = shared<u64>(FOUND_AT), sum = 0, total;
    UNROLL for (u32 i = 0; i < SHARE; i++) sum += bins[tid() * SHARE + i];
    u64 before = scan_block(sum, total) - sum;
    if (before < wanted && wanted <= before + sum) {
        u32 bin = tid() * SHARE;
        while (before + bins[bin] < wanted) before += bins[bin++];
        found[0] = bin, found[1] = before;
    }
    sync_block();
    u32 bin = static_cast<u32>(found[0]);
    wanted -= found[1];
    gather(w, bin);
    if (w.gathered > LIST) {
        // Bits that all elements share are known: equal scores share 32 of them and more.
        u64 highest = 0, lowest = 0;
        each_of_bin(w, bin, [&](u64 element) {
            highest = element > highest ? element : highest;
            lowest = ~element > lowest ? ~element : lowest;
        });
        highest = max_block(highest), lowest = ~max_block(lowest);
        u32 bits = 0;
        while (bits < 64 && highest >> bits != lowest >> bits) bits++;
        u64 bound = bits == 64 ? 0 : highest >> bits << bits;
        for (u32 bit = bits; bit-- > 0;) {
            u64 next = bound | 1ull << bit;
            if (sum_of_bin(w, weighing, bin, next) >= wanted) bound = next;
        }
        return bound;
    }
    const u64 *list = shared<u64>(LIST_AT);
    u32 share = (w.gathered + BLOCK_THREADS - 1) / BLOCK_THREADS, first = tid() * share;
    u32 end = first + share < w.gathered ? first + share : w.gathered;
    sum = 0;
    for (u32 i = first; i < end; i++) sum += weigh(w, weighing, score_of(list[i]));
    before = scan_block(sum, total) - sum;
    if (before < wanted && wanted <= before + sum) {
        u32 i = first;
        for (u64 next; before + (next = weigh(w, weighing, score_of(list[i]))) < wanted; i++) before += next;
        found[2] = list[i];
    }
    sync_block();
    return found[2];
}

// Weights of all elements that reach `bound`.
DEVICE u64 sum_down_to(Whole &w, u32 weighing, u64 bound) {
    const u64 *bins = shared<u64>(BINS_AT) + weighing * BINS;
    u32 bin = bound == 0 ? BINS : bin_of(w, score_of(bound));
    u64 sum = 0;
    for (u32 i = tid(); i < bin; i += BLOCK_THREADS) sum += bins[i];
    sum = sum_block(sum);
    return bound == 0 ? sum : sum + sum_of_bin(w, weighing, bin, bound);
}

DEVICE u32 draw_by_score(Whole &w, Chain &chain, u32 k) {
    u64 *bins = shared<u64>(BINS_AT), *kept = &w.scratch->bins[0][0];
    for (u32 i = tid(); i < 3 * BINS; i += BLOCK_THREADS) bins[i] = load_fresh(kept + i), kept[i] = 0;
    sync_block();
    u64 bound = k == 0 ? 0 : reach(w, COUNT, k);
    if (chain.nucleus != 0) {
        u64 nearer = reach(w, PLAIN, share_of(chain.nucleus, sum_down_to(w, PLAIN, bound)));
        bound = nearer > bound ? nearer : bound;
    }
    u64 total = sum_down_to(w, TEMPERED, bound);
    return id_of(reach(w, TEMPERED, part_of(random_bits(chain.random), total) + 1));
}
