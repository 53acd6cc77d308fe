// Between the scheduler and the memory: what each knows of the other.
#pragma once
#include <cstddef>
#include <cstdint>

namespace emulator {
#if defined(ENGINE_CHECKED)
constexpr bool CHECKED = true;
#else
constexpr bool CHECKED = false;
#endif
constexpr size_t SHARED_BYTES = 256 << 10;
// OS threads that run blocks at the same time, at most.
constexpr unsigned MAX_WORKERS = 16;

// Who runs now: kernel, block and thread by their linear indices, and how many barriers the block and the thread's
// warp have passed.
struct Place {
    const char* kernel = nullptr;
    uint32_t block = 0, thread = 0, epoch = 0, warp_epoch = 0;
};
Place place();

void begin_launch();
// Shared memory of the block that this OS thread runs.
unsigned char* shared_memory(unsigned worker);
void open_shared(unsigned char* at, size_t bytes);
void close_shared(unsigned char* base);
}  // namespace emulator
