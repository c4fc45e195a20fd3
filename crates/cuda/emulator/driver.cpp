// The CUDA driver's functions on a machine without a GPU: a small board of 8 SMs whose memory is the
// host's and whose kernels are fibers (fibers.cpp). Stricter than a real driver where that finds faults:
// memory starts as NaN, blocks have red zones that every launch checks, copies stay within blocks.
//
// Set from outside, for tests of failures:
//   EMULATED_DRIVER=12010           version cuDriverGetVersion tells
//   EMULATED_DEVICES=0              no device
//   EMULATED_CAPABILITY=7.2         compute capability
//   EMULATED_MEMORY=bytes           memory of the board
//   EMULATED_FAIL_ALLOC_OVER=bytes  larger allocations fail, as NvMap's do
//   EMULATED_REFUSE=209             code with which cubins are refused
//   EMULATED_LOSE_AFTER=n           launches until the device is lost
//   EMULATED_LATE=1                streams do nothing until somebody waits, and one thing when asked how far they are
//   EMULATED_HIDDEN=1               passes for a real driver: it is given the program's own cubins
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

extern "C" int emulated_find(const char *name, unsigned *args_bytes);
extern "C" int emulated_launch(int index, const void *args, unsigned gx, unsigned gy, unsigned gz, unsigned threads, unsigned shared_bytes);
extern "C" const char *emulated_error();

namespace {

enum Code {
    SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201,
    NO_BINARY_FOR_GPU = 209,
    UNSUPPORTED_PTX_VERSION = 222,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    NOT_READY = 600,
    ILLEGAL_ADDRESS = 700,
    LAUNCH_FAILED = 719,
    CAPTURE_UNSUPPORTED = 900,
    CAPTURED_EVENT = 907,
};

constexpr size_t ZONE = 256;
constexpr unsigned char ZONE_BYTE = 0xA5, POISON = 0xFF;
constexpr int SMS = 8, SHARED_PER_BLOCK = 163 << 10, SHARED_PER_SM = 164 << 10, USUAL_SHARED = 48 << 10;

struct Allocation {
    unsigned char *base;
    size_t bytes;
    bool host;
};

struct Function {
    int index;
    unsigned args_bytes;
    int shared_bytes = USUAL_SHARED;
};

using Work = std::function<int()>;
using Graph = std::vector<Work>;

struct Stream {
    std::unique_ptr<Graph> recording;
    std::deque<Work> waiting; // of a late stream
};

struct Event {
    bool happened = false, captured = false;
    std::chrono::steady_clock::time_point when;
};

std::mutex lock;
std::map<uintptr_t, Allocation> allocations; // by the address given out
std::map<int, Function> functions;           // by the kernel's index
size_t used;
std::atomic<int> lost;     // the code every call fails with from now on
std::atomic<long> launches;
thread_local int recordings; // of streams that this thread records
thread_local void *current;
int primary;                 // the context is an address, no more

size_t number(const char *name, size_t otherwise) {
    const char *text = std::getenv(name);
    return text && *text ? std::strtoull(text, nullptr, 10) : otherwise;
}

size_t memory() { return number("EMULATED_MEMORY", size_t{8} << 30); }

int capability(bool major) {
    const char *text = std::getenv("EMULATED_CAPABILITY");
    int parts[2] = {8, 7};
    if (text) std::sscanf(text, "%d.%d", &parts[0], &parts[1]);
    return parts[major ? 0 : 1];
}

int lose(int code) {
    int none = 0;
    lost.compare_exchange_strong(none, code);
    return lost;
}

// Whether a call may start: there is a context and the device is not lost.
int ready() { return lost ? lost.load() : current ? SUCCESS : INVALID_CONTEXT; }

bool intact(const unsigned char *zone) {
    for (size_t i = 0; i < ZONE; i++)
        if (zone[i] != ZONE_BYTE) return false;
    return true;
}

// `lock` is held. Says which block was left, after what.
bool zones_intact(const Allocation &allocation, const char *after) {
    bool below = intact(allocation.base), above = intact(allocation.base + ZONE + allocation.bytes);
    if (!below || !above)
        std::fprintf(stderr, "emulated GPU: written %s a block of %zu bytes, seen after %s\n",
                     below ? "behind" : "before", allocation.bytes, after);
    return below && above;
}

int check_zones(const char *after) {
    std::lock_guard<std::mutex> guard(lock);
    for (const auto &entry : allocations)
        if (!zones_intact(entry.second, after)) return lose(ILLEGAL_ADDRESS);
    return SUCCESS;
}

int allocate(size_t bytes, bool host, uintptr_t *address) {
    if (int code = ready()) return code;
    if (recordings > 0) return CAPTURE_UNSUPPORTED;
    if (bytes == 0) return INVALID_VALUE;
    std::lock_guard<std::mutex> guard(lock);
    if (bytes > number("EMULATED_FAIL_ALLOC_OVER", SIZE_MAX) || bytes > memory() || used > memory() - bytes) return OUT_OF_MEMORY;
    auto *base = static_cast<unsigned char *>(std::aligned_alloc(ZONE, (bytes + 3 * ZONE - 1) / ZONE * ZONE));
    if (!base) return OUT_OF_MEMORY;
    std::memset(base, ZONE_BYTE, ZONE);
    std::memset(base + ZONE, POISON, bytes);
    std::memset(base + ZONE + bytes, ZONE_BYTE, ZONE);
    *address = reinterpret_cast<uintptr_t>(base + ZONE);
    allocations[*address] = {base, bytes, host};
    used += bytes;
    return SUCCESS;
}

int release(uintptr_t address, bool host) {
    if (recordings > 0) return CAPTURE_UNSUPPORTED;
    std::lock_guard<std::mutex> guard(lock);
    auto found = allocations.find(address);
    if (found == allocations.end() || found->second.host != host) return INVALID_VALUE;
    Allocation allocation = found->second;
    allocations.erase(found);
    used -= allocation.bytes;
    bool good = zones_intact(allocation, "its release");
    // What still reads it reads NaN while the allocator keeps the memory.
    std::memset(allocation.base + ZONE, POISON, allocation.bytes);
    std::free(allocation.base);
    return good ? lost.load() : lose(ILLEGAL_ADDRESS);
}

// Whether a range lies in one block.
bool inside(uintptr_t address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    auto above = allocations.upper_bound(address);
    if (above == allocations.begin()) return false;
    const auto &[start, allocation] = *std::prev(above);
    size_t offset = address - start;
    return offset <= allocation.bytes && bytes <= allocation.bytes - offset;
}

// Does the work now, or keeps it for the graph or, in a late stream, for later.
int enqueue(void *handle, Work work) {
    if (int code = ready()) return code;
    auto *stream = static_cast<Stream *>(handle);
    if (stream && stream->recording) {
        stream->recording->push_back(std::move(work));
        return SUCCESS;
    }
    if (stream && number("EMULATED_LATE", 0) != 0) {
        stream->waiting.push_back(std::move(work));
        return SUCCESS;
    }
    return work();
}

// Does the first thing a late stream has to do.
int advance(Stream *stream) {
    Work work = std::move(stream->waiting.front());
    stream->waiting.pop_front();
    return work();
}

int launch(void *handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes,
           void *stream, void **parameters) {
    auto *function = static_cast<Function *>(handle);
    if (!function || !parameters || by != 1 || bz != 1 || bx > 1024) return INVALID_VALUE;
    if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535) return INVALID_VALUE;
    if (static_cast<int>(shared_bytes) > function->shared_bytes) return INVALID_VALUE;
    auto *bytes = static_cast<unsigned char *>(parameters[0]);
    std::vector<unsigned char> args(bytes, bytes + function->args_bytes);
    return enqueue(stream, [=, args = std::move(args)] {
        if (launches++ >= static_cast<long>(number("EMULATED_LOSE_AFTER", INT32_MAX))) return lose(LAUNCH_FAILED);
        if (emulated_launch(function->index, args.data(), gx, gy, gz, bx, shared_bytes) != 0) return lose(LAUNCH_FAILED);
        return check_zones("a launch");
    });
}

// Waiting while recording breaks the recording on a real device.
int wait_for(void *handle) {
    if (int code = ready()) return code;
    auto *stream = static_cast<Stream *>(handle);
    if (stream && stream->recording) return CAPTURE_UNSUPPORTED;
    while (stream && !stream->waiting.empty())
        if (int code = advance(stream)) return code;
    return check_zones("a wait");
}

struct Named {
    int code;
    const char *name, *text;
};
constexpr Named NAMES[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready"},
    {ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT", "operation not permitted on an event last recorded in a capturing stream"},
};

const Named *named(int code) {
    for (const Named &entry : NAMES)
        if (entry.code == code) return &entry;
    return nullptr;
}

} // namespace

extern "C" {

// Whether the program may know that no GPU is behind this library.
int emulated_driver() { return number("EMULATED_HIDDEN", 0) == 0; }

int cuDriverGetVersion(int *version) {
    *version = static_cast<int>(number("EMULATED_DRIVER", 12060));
    return SUCCESS;
}
int cuInit(unsigned) { return number("EMULATED_DEVICES", 1) == 0 ? NO_DEVICE : SUCCESS; }
int cuGetErrorName(int code, const char **name) {
    const Named *entry = named(code);
    *name = entry ? entry->name : nullptr;
    return entry ? SUCCESS : INVALID_VALUE;
}
int cuGetErrorString(int code, const char **text) {
    const Named *entry = named(code);
    *text = entry ? entry->text : nullptr;
    return entry ? SUCCESS : INVALID_VALUE;
}

int cuDeviceGetCount(int *count) {
    *count = static_cast<int>(number("EMULATED_DEVICES", 1));
    return SUCCESS;
}
int cuDeviceGet(int *device, int ordinal) {
    *device = ordinal;
    return SUCCESS;
}
int cuDeviceGetName(char *name, int length, int) {
    std::snprintf(name, static_cast<size_t>(length), "emulated board");
    return SUCCESS;
}
int cuDeviceTotalMem_v2(size_t *bytes, int) {
    *bytes = memory();
    return SUCCESS;
}
int cuDeviceGetAttribute(int *value, int attribute, int) {
    switch (attribute) {
    case 13: *value = 1020000; break;  // clock, kHz
    case 16: *value = SMS; break;
    case 18: *value = 1; break;        // integrated
    case 36: *value = 3199000; break;  // memory clock, kHz
    case 37: *value = 128; break;      // bus, bits
    case 38: *value = 2 << 20; break;  // L2
    case 75: *value = capability(true); break;
    case 76: *value = capability(false); break;
    case 81: *value = SHARED_PER_SM; break;
    case 97: *value = SHARED_PER_BLOCK; break;
    default: return INVALID_VALUE;
    }
    return SUCCESS;
}

int cuDevicePrimaryCtxRetain(void **context, int) {
    *context = &primary;
    return SUCCESS;
}
int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
int cuCtxSetCurrent(void *context) {
    current = context;
    return SUCCESS;
}
int cuCtxSynchronize() { return recordings > 0 ? CAPTURE_UNSUPPORTED : wait_for(nullptr); }

int cuModuleLoadData(void **module, const void *image) {
    if (int code = ready()) return code;
    if (size_t code = number("EMULATED_REFUSE", 0)) return static_cast<int>(code);
    if (std::memcmp(image, "EMULATED", 8) != 0) return INVALID_IMAGE;
    *module = &primary;
    return SUCCESS;
}
int cuModuleUnload(void *) { return SUCCESS; }
int cuModuleGetFunction(void **function, void *, const char *name) {
    if (int code = ready()) return code;
    unsigned args_bytes = 0;
    int index = emulated_find(name, &args_bytes);
    if (index < 0) return NOT_FOUND;
    std::lock_guard<std::mutex> guard(lock);
    *function = &functions.try_emplace(index, Function{index, args_bytes}).first->second;
    return SUCCESS;
}
int cuFuncGetAttribute(int *value, int attribute, void *function) {
    switch (attribute) {
    case 0: *value = 1024; break; // threads
    case 1: *value = 0; break;    // static shared memory
    case 3: *value = 0; break;    // local memory
    case 4: *value = 32; break;   // registers
    case 8: *value = static_cast<Function *>(function)->shared_bytes; break;
    default: return INVALID_VALUE;
    }
    return SUCCESS;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
    if (attribute == 9) return value >= -1 && value <= 100 ? SUCCESS : INVALID_VALUE; // a wish: nothing to do
    if (attribute != 8 || value < 0 || value > SHARED_PER_BLOCK) return INVALID_VALUE;
    auto &most = static_cast<Function *>(function)->shared_bytes;
    std::lock_guard<std::mutex> guard(lock);
    // Tests share the function: one that allows less takes nothing from another.
    if (value > most) most = value;
    return SUCCESS;
}
int cuFuncGetParamInfo(void *function, size_t index, size_t *offset, size_t *bytes) {
    if (index > 0) return INVALID_VALUE;
    *offset = 0;
    *bytes = static_cast<Function *>(function)->args_bytes;
    return SUCCESS;
}
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int threads, size_t shared_bytes) {
    if (threads <= 0) return INVALID_VALUE;
    int by_threads = 1536 / threads;
    int by_shared = static_cast<int>(SHARED_PER_SM / (shared_bytes + 1024));
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    return SUCCESS;
}

int cuStreamCreate(void **stream, unsigned) {
    if (int code = ready()) return code;
    *stream = new Stream;
    return SUCCESS;
}
int cuStreamDestroy_v2(void *stream) {
    delete static_cast<Stream *>(stream);
    return SUCCESS;
}
int cuStreamSynchronize(void *stream) { return wait_for(stream); }
int cuStreamQuery(void *handle) {
    auto *stream = static_cast<Stream *>(handle);
    if (stream->waiting.empty()) return wait_for(stream);
    if (int code = ready()) return code;
    int code = advance(stream);
    return code ? code : stream->waiting.empty() ? SUCCESS : NOT_READY;
}
int cuStreamWaitEvent(void *, void *, unsigned) { return ready(); }
int cuStreamBeginCapture_v2(void *handle, int) {
    if (int code = ready()) return code;
    auto *stream = static_cast<Stream *>(handle);
    if (!stream || stream->recording) return CAPTURE_UNSUPPORTED;
    stream->recording = std::make_unique<Graph>();
    recordings++;
    return SUCCESS;
}
int cuStreamEndCapture(void *handle, void **graph) {
    auto *stream = static_cast<Stream *>(handle);
    if (!stream || !stream->recording) return INVALID_VALUE;
    *graph = stream->recording.release();
    recordings--;
    return lost;
}

int cuEventCreate(void **event, unsigned) {
    if (int code = ready()) return code;
    *event = new Event;
    return SUCCESS;
}
int cuEventDestroy_v2(void *event) {
    delete static_cast<Event *>(event);
    return SUCCESS;
}
int cuEventRecord(void *handle, void *stream) {
    if (int code = ready()) return code;
    auto *event = static_cast<Event *>(handle);
    event->captured = stream && static_cast<Stream *>(stream)->recording;
    event->happened = true;
    event->when = std::chrono::steady_clock::now();
    return SUCCESS;
}
int cuEventSynchronize(void *event) { return static_cast<Event *>(event)->captured ? CAPTURED_EVENT : ready(); }
int cuEventElapsedTime(float *milliseconds, void *from, void *to) {
    auto *first = static_cast<Event *>(from), *second = static_cast<Event *>(to);
    if (first->captured || second->captured) return CAPTURED_EVENT;
    if (!first->happened || !second->happened) return INVALID_HANDLE;
    *milliseconds = std::chrono::duration<float, std::milli>(second->when - first->when).count();
    return SUCCESS;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared_bytes, void *stream, void **parameters, void **) {
    return launch(function, gx, gy, gz, bx, by, bz, shared_bytes, stream, parameters);
}
struct LaunchConfig {
    unsigned grid[3], block[3], shared_bytes;
    void *stream, *attributes;
    unsigned attribute_count;
};
int cuLaunchKernelEx(const LaunchConfig *config, void *function, void **parameters, void **) {
    const unsigned *grid = config->grid, *block = config->block;
    return launch(function, grid[0], grid[1], grid[2], block[0], block[1], block[2], config->shared_bytes, config->stream, parameters);
}

int cuGraphInstantiateWithFlags(void **instance, void *graph, unsigned long long) {
    if (int code = ready()) return code;
    *instance = new Graph(*static_cast<Graph *>(graph));
    return SUCCESS;
}
int cuGraphLaunch(void *instance, void *stream) {
    if (int code = ready()) return code;
    if (stream && static_cast<Stream *>(stream)->recording) return CAPTURE_UNSUPPORTED;
    return enqueue(stream, [graph = static_cast<Graph *>(instance)] {
        for (const Work &work : *graph)
            if (int code = work()) return code;
        return static_cast<int>(SUCCESS);
    });
}
int cuGraphDestroy(void *graph) {
    delete static_cast<Graph *>(graph);
    return SUCCESS;
}
int cuGraphExecDestroy(void *instance) {
    delete static_cast<Graph *>(instance);
    return SUCCESS;
}

int cuMemGetInfo_v2(size_t *free, size_t *total) {
    if (int code = ready()) return code;
    std::lock_guard<std::mutex> guard(lock);
    *total = memory();
    *free = *total - (used < *total ? used : *total);
    return SUCCESS;
}
int cuMemAlloc_v2(uintptr_t *address, size_t bytes) { return allocate(bytes, false, address); }
int cuMemFree_v2(uintptr_t address) { return release(address, false); }
int cuMemHostAlloc(void **start, size_t bytes, unsigned) {
    uintptr_t address = 0;
    int code = allocate(bytes, true, &address);
    *start = reinterpret_cast<void *>(address);
    return code;
}
int cuMemFreeHost(void *start) { return release(reinterpret_cast<uintptr_t>(start), true); }
int cuMemHostGetDevicePointer_v2(uintptr_t *address, void *start, unsigned) {
    *address = reinterpret_cast<uintptr_t>(start);
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void *from, size_t bytes, void *stream) {
    if (!inside(to, bytes)) return INVALID_VALUE;
    return enqueue(stream, [=] {
        std::memcpy(reinterpret_cast<void *>(to), from, bytes);
        return SUCCESS;
    });
}
int cuMemcpyDtoHAsync_v2(void *to, uintptr_t from, size_t bytes, void *stream) {
    if (!inside(from, bytes)) return INVALID_VALUE;
    return enqueue(stream, [=] {
        std::memcpy(to, reinterpret_cast<const void *>(from), bytes);
        return SUCCESS;
    });
}
int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, void *stream) {
    if (!inside(to, bytes) || !inside(from, bytes)) return INVALID_VALUE;
    return enqueue(stream, [=] {
        std::memcpy(reinterpret_cast<void *>(to), reinterpret_cast<const void *>(from), bytes);
        return SUCCESS;
    });
}
int cuMemsetD8Async(uintptr_t to, unsigned char value, size_t bytes, void *stream) {
    if (!inside(to, bytes)) return INVALID_VALUE;
    return enqueue(stream, [=] {
        std::memset(reinterpret_cast<void *>(to), value, bytes);
        return SUCCESS;
    });
}

} // extern "C"
