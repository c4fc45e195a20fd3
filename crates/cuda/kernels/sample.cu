// Choosing tokens where the logits are, so that nobody waits for the host: `sample` for each wanted row,
// then `sample_all` for rows whose candidates are more than FEW.
//
// Pass over a row: 16 blocks read it once (1 MiB for 262144 tokens: as long as any read of it takes), each
// thread keeps the best of its own elements, its group. The last block of a row to end goes on alone:
//
//   greedy  the best of all groups
//   top-k   a bound that k groups' bests reach is a bound that the k best elements reach, and only groups
//           whose best reaches it can hold them: 40 of 4096 groups are read again, 2560 elements. They are
//           sorted, then top-p, min-p and the draw are prefix sums of one element a thread.
#include "sample_all.cuh"

// Bias and penalties on the block's own elements [first, end); whether this thread lost a NaN in that.
DEVICE bool adjust(const Chain &chain, float *logits, u32 first, u32 end) {
    bool lost = false;
    for (u32 i = tid(); i < chain.biases; i += BLOCK_THREADS) {
        u32 id = chain.bias[i].id;
        if (id < first || id >= end || (i > 0 && chain.bias[i - 1].id == id)) continue;
        float logit = logits[id], score = clean(logit);
        lost |= logit != logit;
        for (u32 j = i; j < chain.biases && chain.bias[j].id == id; j++) score = clean(add_rn(score, chain.bias[j].amount));
        logits[id] = score;
    }
    if (chain.window == 0) return lost;
    sync_block();
    u32 filled = chain.accepted < chain.window ? chain.accepted : chain.window;
    for (u32 i = tid(); i < filled; i += BLOCK_THREADS) {
        u32 id = chain.recent[i];
        if (id < first || id >= end) continue;
        // Number of the token at this place of the ring; only a token's last occurrence counts.
        u32 number = i + (chain.accepted - 1 - i) / chain.window * chain.window;
        Words2 tally = chain.tally[id];
        if (tally.y != number) continue;
        float logit = logits[id], score = clean(logit);
        lost |= logit != logit;
        float scaled = score > 0.0f ? score / chain.repeat : mul_rn(score, chain.repeat);
        float less = add_rn(scaled, -mul_rn(static_cast<float>(tally.x), chain.frequency));
        logits[id] = clean(add_rn(less, -chain.presence));
    }
    return lost;
}

// Element `i` of group `group`.
DEVICE u32 element_of(const SampleArgs &a, u32 group, u32 i) {
    return group / BLOCK_THREADS * a.each * BLOCK_THREADS + i * BLOCK_THREADS + group % BLOCK_THREADS;
}

// Calls `see` with every element of the picked groups that reaches `bound`; `picked` of them.
template <typename See> DEVICE void each_of_picked(const SampleArgs &a, const float *logits, u32 picked, u64 bound, See see) {
    const u32 *groups = shared<u32>(PICKED_AT);
    for (u32 i = tid(); i < picked * a.each; i += BLOCK_THREADS) {
        u32 id = element_of(a, groups[i % picked], i / picked);
        if (id >= a.vocab) continue;
        u64 element = ranked(key_of(clean(load_fresh(logits + id))), id);
        if (element >= bound) see(element);
    }
}

// Brings the k best elements to the front of LIST, in order; 1 <= k <= FEW, k < vocab. All threads.
DEVICE void best_of_row(const SampleArgs &a, const float *logits, const SampleRow *scratch, u32 k) {
    u32 groups = blocks_x() * BLOCK_THREADS;
    u64 mine[MOST_BLOCKS];
    UNROLL for (u32 i = 0; i < MOST_BLOCKS; i++) {
        u32 group = i * BLOCK_THREADS + tid();
        mine[i] = group < groups ? load_fresh(scratch->groups + group) : 0;
    }
    // The bound, bit by bit; a few groups more than k are as good.
    u64 bound = 0;
    for (u32 bit = 64; bit-- > 0;) {
        u64 next = bound | 1ull << bit;
        u32 reach = 0;
        UNROLL for (u32 i = 0; i < MOST_BLOCKS; i++) reach += mine[i] >= next;
        u64 all = sum_block(reach);
        if (all >= k) bound = next;
        if (all >= k && all <= k + k / 2) break;
    }
    u32 *words = shared<u32>(WORDS_AT), *picked = shared<u32>(PICKED_AT);
    u64 *list = shared<u64>(LIST_AT);
    if (tid() == 0) words[0] = words[1] = 0;
    sync_block();
    UNROLL for (u32 i = 0; i < MOST_BLOCKS; i++) {
        if (mine[i] >= bound && mine[i] != 0) picked[atomic_add(words, 1)] = i * BLOCK_THREADS + tid();
    }
    sync_block();
    u32 many = words[0];
    auto gather = [&](u64 element) {
        u32 at = atomic_add(words + 1, 1);
        if (at < LIST) list[at] = element;
    };
    each_of_picked(a, logits, many, bound, gather);
    sync_block();
    u32 count = words[1];
    if (count > LIST) {
        // Best elements side by side in the same groups: raise the bound until they fit.
        for (u32 bit = 64; bit-- > 0;) {
            u64 next = bound | 1ull << bit;
            if (next == bound) continue;
            u32 reach = 0;
            each_of_picked(a, logits, many, next, [&](u64) { reach++; });
            u64 all = sum_block(reach);
            if (all >= k) bound = next;
            if (all >= k && all <= LIST) break;
        }
        if (tid() == 0) words[1] = 0;
        sync_block();
        each_of_picked(a, logits, many, bound, gather);
        sync_block();
        count = words[1];
    }
    sort_list(count);
}

// top-p, min-p and the draw among the first k of LIST, one a thread. All threads; the token.
DEVICE u32 draw_sorted(Chain &chain, u32 k) {
    // k <= 256 weights of at most 2^54.
    constexpr u32 SHIFT = 54;
    u64 mine = shared<u64>(LIST_AT)[tid()], first = shared<u64>(LIST_AT)[0], total;
    bool kept = tid() < k;
    float score = kept ? score_of(mine) : minus_infinity(), max = score_of(first);
    if (chain.nucleus != 0) {
        u64 weight = kept ? fixed(exp_exact(score - max), SHIFT) : 0;
        u64 before = scan_block(weight, total) - weight;
        kept = kept && before < share_of(chain.nucleus, total);
    }
    kept = kept && score >= add_rn(max, chain.ln_min_p);
    u64 weight = kept ? fixed(exp_exact((score - max) / chain.temperature), SHIFT) : 0;
    u64 upto = scan_block(weight, total), target = part_of(random_bits(chain.random), total);
    u32 *found = shared<u32>(FOUND_AT);
    if (upto > target && upto - weight <= target) *found = id_of(mine);
    sync_block();
    return *found;
}

// Grid: (blocks, wanted rows), blocks = ceil(vocab / (256 each)) <= 16; SAMPLE_SHARED bytes.
KERNEL(sample, SampleArgs, 256, 2) {
    pdl_launch();
    pdl_wait();
    u32 row = block_y();
    Chain chain = a.chains[a.slot[a.select[row]]];
    float *logits = a.logits + static_cast<u64>(row) * a.vocab;
    SampleRow *scratch = a.scratch + row;
    u32 first = block_x() * BLOCK_THREADS * a.each;
    u32 end = first + BLOCK_THREADS * a.each < a.vocab ? first + BLOCK_THREADS * a.each : a.vocab;
    bool greedy = chain.temperature == 0.0f;
    // Without bias and penalties the best is that of the logits as they are: +inf is above all numbers.
    bool raw = greedy && chain.window == 0 && chain.biases == 0;
    bool not_number = adjust(chain, logits, first, end);
    sync_block();

    u64 best = 0;
    for (u32 id = first + tid(); id < end; id += BLOCK_THREADS) {
        float score = logits[id];
        bool number = score == score;
        not_number |= !number;
        u32 key = key_of(raw ? score : clean(score));
        u64 element = ranked(raw && !number ? 0 : key, id);
        best = element > best ? element : best;
    }
    if (!greedy) scratch->groups[block_x() * BLOCK_THREADS + tid()] = best;
    u64 highest = max_block(best);
    if (tid() == 0) scratch->partial[block_x()] = highest;
    bool mark = sum_block(not_number) != 0, marked;
    if (!is_last(scratch->tickets, mark, marked)) return;

    best = 0;
    for (u32 i = 0; i < blocks_x(); i++) {
        u64 other = load_fresh(scratch->partial + i);
        best = other > best ? other : best;
    }
    bool nothing = static_cast<u32>(best >> 32) <= KEY_OF_MINUS_INFINITY;
    u32 flags = (nothing ? NOTHING_LEFT : 0) | (marked ? NOT_A_NUMBER : 0);
    u32 k = chain.top_k < a.vocab ? chain.top_k : 0, id = id_of(best);
    if (!greedy && !nothing) {
        if (k == 0 || k > FEW) {
            if (tid() == 0) scratch->best = best, scratch->flags = flags;
            return;
        }
        best_of_row(a, logits, scratch, k);
        id = draw_sorted(chain, k);
    }
    if (tid() == 0) {
        scratch->best = 0;
        finish(a, chain, row, id, flags);
    }
}

// Grid and arguments as for `sample`, behind it; SAMPLE_ALL_SHARED bytes. Does nothing for rows that are done.
KERNEL(sample_all, SampleArgs, 256, 1) {
    pdl_launch();
    pdl_wait();
    u32 row = block_y();
    u64 best = a.scratch[row].best;
    if (best == 0) return;
    Chain chain = a.chains[a.slot[a.select[row]]];
    Whole whole = {};
    whole.logits = a.logits + static_cast<u64>(row) * a.vocab;
    whole.scratch = a.scratch + row;
    whole.max = score_of(best);
    whole.bar = add_rn(whole.max, chain.ln_min_p);
    whole.temperature = chain.temperature;
    whole.vocab = a.vocab, whole.each = a.each, whole.shift = a.shift;
    u32 k = chain.top_k < a.vocab ? chain.top_k : 0, id;
    if (k == 0 && chain.nucleus == 0) {
        sum_groups(whole);
        if (!last_of(whole)) return;
        id = draw_by_id(whole, chain);
    } else {
        fill_bins(whole, k != 0);
        if (!last_of(whole)) return;
        id = draw_by_score(whole, chain, k);
    }
    if (tid() == 0) finish(a, chain, row, id, whole.scratch->flags);
}

struct RecallArgs {
    Chain *chain;
    const u32 *tokens; // [count], all below vocab
    u32 count;         // <= window
    u32 vocab;
};

// Makes the penalties of a chain remember just these tokens, the last one last. Grid: (1); no shared memory.
KERNEL(recall, RecallArgs, 256, 1) {
    pdl_launch();
    pdl_wait();
    Words2 *tally = a.chain->tally;
    u32 *recent = a.chain->recent;
    for (u32 id = tid(); id < a.vocab; id += BLOCK_THREADS) tally[id] = {0, 0};
    sync_block();
    for (u32 i = tid(); i < a.count; i += BLOCK_THREADS) {
        u32 id = a.tokens[i];
        recent[i] = id;
        atomic_add(&tally[id].x, 1);
        atomic_max(&tally[id].y, i);
    }
    if (tid() == 0) a.chain->accepted = a.count;
}
