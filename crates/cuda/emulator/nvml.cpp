// NVML's functions for the emulated board, one GPU on bus 0. There is a sensor only if it is asked for:
//   EMULATED_POWER=milliwatts   what the board takes all the time
//   EMULATED_ENERGY=0           energy is not counted, as on GPUs before Volta
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

enum Return { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6 };

constexpr const char *BUS = "0000:00:00.0";
int initialised; // as often as it was not shut down
int device;      // the handle is its address

unsigned long milliwatts() {
    const char *text = std::getenv("EMULATED_POWER");
    return text ? std::strtoul(text, nullptr, 10) : 0;
}

unsigned ready(const void *handle) { return !initialised ? UNINITIALIZED : handle != &device ? INVALID_ARGUMENT : milliwatts() == 0 ? NOT_SUPPORTED : SUCCESS; }

} // namespace

extern "C" {

int cuDeviceGetPCIBusId(char *to, int length, int ordinal) {
    if (ordinal != 0 || length < 13) return 1;
    std::snprintf(to, static_cast<size_t>(length), "%s", BUS);
    return 0;
}

unsigned nvmlInit_v2() {
    initialised++;
    return SUCCESS;
}
unsigned nvmlShutdown() { return initialised > 0 ? initialised--, SUCCESS : UNINITIALIZED; }

unsigned nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 1;
    return initialised ? SUCCESS : UNINITIALIZED;
}
unsigned nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = &device;
    return !initialised ? UNINITIALIZED : index == 0 ? SUCCESS : INVALID_ARGUMENT;
}
unsigned nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **handle) {
    *handle = &device;
    return !initialised ? UNINITIALIZED : std::strcmp(bus, BUS) == 0 ? SUCCESS : NOT_FOUND;
}

unsigned nvmlDeviceGetPowerUsage(void *handle, unsigned *power) {
    *power = static_cast<unsigned>(milliwatts());
    return ready(handle);
}
unsigned nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *energy) {
    const char *text = std::getenv("EMULATED_ENERGY");
    if (text && *text == '0') return NOT_SUPPORTED;
    auto now = std::chrono::steady_clock::now().time_since_epoch();
    // Milliwatts times microseconds are nanojoules.
    auto micros = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
    *energy = static_cast<unsigned long long>(micros) * milliwatts() / 1000000;
    return ready(handle);
}

} // extern "C"
