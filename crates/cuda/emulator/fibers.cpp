// Blocks of fibers: the scheduler of the emulated GPU. One block at a time; its threads take turns, each
// running until it meets others. A round in which nobody moves is a deadlock and is reported.
#include "../kernels/prelude.cuh"
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

// Saves what a call must keep, changes stacks, goes on where the other one stopped.
extern "C" void emulated_switch(void **from, void *to);
#if defined(__x86_64__)
asm(R"(
.globl emulated_switch
.hidden emulated_switch
emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
#elif defined(__aarch64__)
asm(R"(
.globl emulated_switch
.hidden emulated_switch
emulated_switch:
    sub sp, sp, #176
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x2, sp
    str x2, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #176
    ret
)");
#else
#error "the emulator knows x86-64 and aarch64"
#endif

namespace emulated {

thread_local Fiber *self;
thread_local Block block;

namespace {

constexpr size_t STACK = 64 << 10;
constexpr size_t CANARY = 256;

struct Kernel {
    std::string name;
    unsigned args_bytes, threads;
    void (*run)(const void *);
};

// Filled by constructors of other files, so it must exist before any of them runs.
std::vector<Kernel> &kernels() {
    static std::vector<Kernel> list;
    return list;
}

struct Meeting {
    u32 arrived = 0, generation = 0;
};
struct Warp {
    Meeting meeting;
    Slot slots[2][32];
};

thread_local std::vector<Fiber> fibers;
thread_local std::vector<Warp> warps;
thread_local std::vector<unsigned char *> stacks;
thread_local Meeting block_meeting;
thread_local Meeting named[16]; // of some warps of a block
thread_local void *home;
thread_local u64 moves; // arrivals and ends: a round without any is a deadlock
thread_local void (*running)(const void *);
thread_local const void *arguments;
thread_local std::string error;

void away() { emulated_switch(&self->stack_pointer, home); }

void meet(Meeting &meeting, u32 all) {
    u32 generation = meeting.generation;
    moves++;
    if (++meeting.arrived == all) {
        meeting.arrived = 0;
        meeting.generation++;
        return;
    }
    while (meeting.generation == generation) away();
}

void enter() {
    running(arguments);
    self->done = true;
    moves++;
    away();
    std::abort(); // a fiber that ended is not resumed
}

void prepare(Fiber &fiber, u32 index) {
    if (stacks.size() <= index) stacks.push_back(static_cast<unsigned char *>(std::malloc(STACK)));
    auto **top = reinterpret_cast<void **>(reinterpret_cast<uintptr_t>(stacks[index] + STACK) & ~uintptr_t{15});
#if defined(__x86_64__)
    *--top = nullptr; // keeps the stack aligned as after a call
    *--top = reinterpret_cast<void *>(enter);
    for (int i = 0; i < 6; i++) *--top = nullptr;
#else
    top -= 22;
    std::memset(top, 0, 176);
    top[11] = reinterpret_cast<void *>(enter); // x30
#endif
    fiber.stack_pointer = top;
    fiber.index = index;
    fiber.meetings = 0;
    fiber.done = false;
    fiber.copies->assign(1, {});
}

bool run_block(unsigned char *shared, u32 shared_bytes) {
    std::memset(shared, 0xFF, shared_bytes + CANARY);
    u32 all = block.threads;
    for (u32 i = 0; i < all; i++) prepare(fibers[i], i);
    for (Warp &warp : warps) warp.meeting = {};
    block_meeting = {};
    for (Meeting &meeting : named) meeting = {};
    u32 left = all;
    while (left > 0) {
        u64 before = moves;
        for (u32 i = 0; i < all; i++) {
            if (fibers[i].done) continue;
            self = &fibers[i];
            emulated_switch(&home, self->stack_pointer);
            left -= self->done;
        }
        if (moves == before) {
            error = "threads wait for each other: not all of a warp or block reach a meeting";
            return false;
        }
    }
    for (size_t i = 0; i < CANARY; i++) {
        if (shared[shared_bytes + i] != 0xFF) {
            error = "shared memory written beyond the launch's bytes";
            return false;
        }
    }
    return true;
}

} // namespace

Registered::Registered(const char *name, unsigned args_bytes, unsigned threads, void (*run)(const void *)) {
    kernels().push_back({name, args_bytes, threads, run});
}

void meet_block() { meet(block_meeting, block.threads); }
void meet_some(u32 id, u32 count) {
    if (id == 0 || id > 15 || count % 32 != 0) fail("a named barrier that does not exist");
    meet(named[id], count);
}

const Slot *meet_warp(const void *bytes, size_t count) {
    Warp &warp = warps[self->index / 32];
    // Two sets: nobody can be two meetings ahead of a lane that still reads.
    Slot *slots = warp.slots[self->meetings++ % 2];
    if (count > 0) std::memcpy(slots[self->index % 32].bytes, bytes, count);
    meet(warp.meeting, 32);
    return slots;
}

void fail(const char *why) {
    std::fprintf(stderr, "emulated GPU: %s (block %u,%u,%u thread %u)\n", why, block.x, block.y, block.z, self ? self->index : 0);
    std::abort();
}

float half_value(u16 h) {
    static const std::vector<float> table = [] {
        std::vector<float> values(65536);
        for (u32 bits = 0; bits < 65536; bits++) {
            u32 exponent = bits >> 10 & 31, mantissa = bits & 1023;
            float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                          : exponent == 31 ? (mantissa ? NAN : INFINITY)
                                           : std::ldexp(static_cast<float>(mantissa + 1024), static_cast<int>(exponent) - 25);
            values[bits] = bits >> 15 ? -value : value;
        }
        return values;
    }();
    return table[h];
}

u16 half_bits(float f) {
    u32 bits;
    std::memcpy(&bits, &f, 4);
    u32 sign = bits >> 16 & 0x8000;
    bits &= 0x7FFFFFFF;
    if (bits > 0x7F800000) return static_cast<u16>(sign | 0x7E00);
    if (bits >= 0x477FF000) return static_cast<u16>(sign | 0x7C00); // rounds to 65536 or more
    if (bits < 0x38800000) { // below the smallest normal half: an integer number of 2^-24
        float value;
        std::memcpy(&value, &bits, 4);
        return static_cast<u16>(sign | static_cast<u32>(std::nearbyint(std::ldexp(value, 24))));
    }
    u32 rounded = bits + 0xFFF + (bits >> 13 & 1);
    return static_cast<u16>(sign | ((rounded - 0x38000000) >> 13));
}

} // namespace emulated

extern "C" int emulated_find(const char *name, unsigned *args_bytes) {
    const auto &list = emulated::kernels();
    for (size_t i = 0; i < list.size(); i++) {
        if (list[i].name == name) {
            if (args_bytes) *args_bytes = list[i].args_bytes;
            return static_cast<int>(i);
        }
    }
    return -1;
}

extern "C" int emulated_launch(int index, const void *args, unsigned gx, unsigned gy, unsigned gz, unsigned threads, unsigned shared_bytes) {
    using namespace emulated;
    const Kernel &kernel = kernels()[static_cast<size_t>(index)];
    if (threads == 0 || threads % 32 != 0 || threads > kernel.threads || gx == 0 || gy == 0 || gz == 0) {
        error = kernel.name + " launched with an impossible grid or more threads than its bound";
        return 1;
    }
    std::vector<unsigned char> kept(kernel.args_bytes);
    std::memcpy(kept.data(), args, kernel.args_bytes);
    arguments = kept.data();
    running = kernel.run;
    while (fibers.size() < threads) fibers.push_back({nullptr, 0, 0, false, new std::vector<std::vector<Copy>>});
    warps.resize(threads / 32);
    auto *shared = static_cast<unsigned char *>(std::aligned_alloc(256, (shared_bytes + CANARY + 255) / 256 * 256));
    bool good = true;
    for (unsigned z = 0; z < gz && good; z++)
        for (unsigned y = 0; y < gy && good; y++)
            for (unsigned x = 0; x < gx && good; x++) {
                block = {x, y, z, gx, gy, gz, threads, shared, shared_bytes};
                good = run_block(shared, shared_bytes);
                if (!good) error = kernel.name + ": " + error + " (block " + std::to_string(x) + "," + std::to_string(y) + ")";
            }
    std::free(shared);
    if (!good) std::fprintf(stderr, "emulated GPU: %s\n", error.c_str());
    return good ? 0 : 1;
}

extern "C" const char *emulated_error() { return emulated::error.c_str(); }
