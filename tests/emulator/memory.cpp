// Device memory of the emulator, and in the checked build the detector.
//
// The checked build compiles the kernels with -fsanitize=thread, which puts a call before every access to memory.
// Those calls end here and not in the sanitizer's library: for each byte of device and shared memory the last write
// and the last reads are noted with the thread that did them and the barriers that it had passed. Two accesses of
// different threads, one of them a write and not both atomic, are a race unless a barrier lies between: __syncthreads
// for threads of one block, a warp collective for lanes of one warp, and nothing at all for threads of different
// blocks of a launch. This does not depend on the order in which the emulator happens to run them. Accesses outside of
// what was allocated and reads of bytes that nobody wrote are reported, too.
#include "emulator.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace emulator {

// Device addresses: one range, so that a stray address is known as such. Nothing of it is memory before it is
// allocated.
constexpr size_t RANGE = size_t(64) << 30;
// Between allocations, more than a kernel is off by mistake.
constexpr size_t GAP = 1 << 16;
constexpr unsigned WORKERS = MAX_WORKERS;

struct Cell {
    uint32_t launch;
    // Thread + 1 of the last write and read (0: none), with its block and barriers; reads of several threads by what
    // they have in common.
    uint32_t writer, write_block, write_epoch, write_warp_epoch;
    uint32_t reader, read_block, read_warp, read_epoch, read_warp_epoch;
    bool written, write_atomic, read_atomic;
};
constexpr uint32_t WARP_READS = 0xfffffffd, BLOCK_READS = 0xfffffffe, GRID_READS = 0xffffffff;

struct Area {
    size_t bytes;
    bool live;
    std::vector<Cell> cells;
};

static std::mutex guard;
static unsigned char* range = nullptr;
static size_t range_used = 0;
static std::map<uintptr_t, Area> areas;
static std::vector<unsigned char> shared_bytes(WORKERS* SHARED_BYTES + 64);
static std::vector<Cell> shared_cells;
static std::vector<unsigned char> shared_open;
static uint32_t launches = 0;
static std::string report;
static int reported = 0;
static std::map<std::pair<std::string, void*>, int> seen;

static unsigned char* shared_start() {
    return reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(shared_bytes.data()) + 63) & ~uintptr_t(63));
}

unsigned char* shared_memory(unsigned worker) { return shared_start() + worker % WORKERS * SHARED_BYTES; }

void begin_launch() { launches++; }

#if defined(ENGINE_CHECKED)

void open_shared(unsigned char* at, size_t bytes) {
    size_t from = size_t(at - shared_start());
    memset(&shared_open[from], 1, bytes);
    memset(static_cast<void*>(&shared_cells[from]), 0, bytes * sizeof(Cell));
}

void close_shared(unsigned char*) {
    // The checked build has one worker.
    shared_open.assign(SHARED_BYTES, 0);
    shared_cells.resize(SHARED_BYTES);
}

// Calls of one kind at one place in the source are reported once; the address of the access is resolved to a line by
// the caller.
static void tell(const char* what, const Place& now, uintptr_t address, void* from, const char* detail) {
    if (reported >= 8) return;
    if (seen[{std::string(now.kernel) + what, from}]++) return;
    reported++;
    char line[512];
    snprintf(line, sizeof line, "%p %s: %s%s; block %u, thread %u, address %#zx\n", from, now.kernel, what, detail,
             now.block, now.thread, size_t(address));
    report += line;
}

static bool ordered(const Place& now, uint32_t block, uint32_t epoch, uint32_t warp_epoch, bool same_warp) {
    if (block != now.block) return false;
    if (epoch < now.epoch) return true;
    return same_warp && warp_epoch < now.warp_epoch;
}

static void check_cell(Cell& cell, const Place& now, bool write, bool atomic, uintptr_t address, void* from) {
    if (cell.launch != launches) {
        bool written = cell.written;
        cell = Cell{};
        cell.launch = launches;
        cell.written = written;
    }
    uint32_t me = now.thread + 1;
    if (!write && !cell.written) tell("reads memory that nobody wrote", now, address, from, "");
    char detail[128];
    if (cell.writer && !(atomic && cell.write_atomic)) {
        bool self = cell.write_block == now.block && cell.writer == me;
        bool same_warp = (cell.writer - 1) / 32 == now.thread / 32;
        if (!self && !ordered(now, cell.write_block, cell.write_epoch, cell.write_warp_epoch, same_warp)) {
            snprintf(detail, sizeof detail, " what thread %u of block %u wrote", cell.writer - 1, cell.write_block);
            tell(write ? "RACE: writes over" : "RACE: reads", now, address, from, detail);
        }
    }
    if (write && cell.reader && !(atomic && cell.read_atomic)) {
        bool self = cell.read_block == now.block && cell.reader == me;
        bool same_warp = cell.reader < BLOCK_READS && cell.read_warp == now.thread / 32;
        bool fine = self || (cell.reader != GRID_READS &&
                             ordered(now, cell.read_block, cell.read_epoch, cell.read_warp_epoch, same_warp));
        if (!fine) {
            snprintf(detail, sizeof detail, " (a thread of block %u)", cell.read_block);
            tell("RACE: writes over what another thread reads", now, address, from, detail);
        }
    }
    if (write) {
        cell.writer = me;
        cell.write_block = now.block;
        cell.write_epoch = now.epoch;
        cell.write_warp_epoch = now.warp_epoch;
        cell.write_atomic = atomic;
        cell.written = true;
    }
    if (!write || atomic) {
        uint32_t warp = now.thread / 32;
        if (!cell.reader || (cell.read_block == now.block && (cell.reader == me || cell.read_epoch < now.epoch))) {
            cell.reader = me;
            cell.read_atomic = atomic;
        } else {
            if (cell.read_block != now.block)
                cell.reader = GRID_READS;
            else if (cell.reader < BLOCK_READS)
                cell.reader = cell.read_warp == warp ? WARP_READS : BLOCK_READS;
            cell.read_atomic &= atomic;
        }
        cell.read_warp = warp;
        cell.read_block = now.block;
        cell.read_epoch = now.epoch;
        cell.read_warp_epoch = now.warp_epoch;
    }
}

static void access(const void* pointer, size_t bytes, bool write, bool atomic, void* from) {
    Place now = place();
    if (!now.kernel) return;
    uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
    unsigned char* shared = shared_start();
    if (address >= reinterpret_cast<uintptr_t>(shared) &&
        address < reinterpret_cast<uintptr_t>(shared) + WORKERS * SHARED_BYTES) {
        size_t offset = address - reinterpret_cast<uintptr_t>(shared);
        for (size_t i = offset; i < offset + bytes; i++) {
            if (i >= SHARED_BYTES || !shared_open[i]) {
                tell("accesses shared memory out of bounds", now, address, from, "");
                return;
            }
            check_cell(shared_cells[i], now, write, atomic, address, from);
        }
        return;
    }
    uintptr_t start = reinterpret_cast<uintptr_t>(range);
    if (address < start || address >= start + RANGE) {
        if (address < (1 << 16)) tell("accesses a null pointer", now, address, from, "");
        return;
    }
    auto found = areas.upper_bound(address);
    if (found == areas.begin()) {
        tell("accesses device memory out of bounds", now, address, from, "");
        return;
    }
    --found;
    Area& area = found->second;
    size_t offset = address - found->first;
    if (!area.live || offset + bytes > area.bytes) {
        char detail[128];
        snprintf(detail, sizeof detail, ": bytes %zu to %zu of a buffer of %zu%s", offset, offset + bytes, area.bytes,
                 area.live ? "" : " that was freed");
        tell("accesses device memory out of bounds", now, address, from, detail);
        return;
    }
    if (address % (bytes & (~bytes + 1)) != 0)
        tell("accesses device memory at an address that is not a multiple of the access's size", now, address, from,
             "");
    for (size_t i = 0; i < bytes; i++) check_cell(area.cells[offset + i], now, write, atomic, address, from);
}

void note_atomic(const void* address, size_t bytes);
void note_atomic(const void* address, size_t bytes) { access(address, bytes, true, true, __builtin_return_address(0)); }

#else
void open_shared(unsigned char*, size_t) {}
void close_shared(unsigned char*) {}
void note_atomic(const void*, size_t);
void note_atomic(const void*, size_t) {}
#endif

static void mark(uintptr_t address, size_t bytes) {
    if (!CHECKED) return;
    auto found = areas.upper_bound(address);
    if (found == areas.begin()) return;
    --found;
    size_t offset = address - found->first;
    for (size_t i = 0; i < bytes && offset + i < found->second.cells.size(); i++)
        found->second.cells[offset + i].written = true;
}

}  // namespace emulator

// ---- what the tests' driver calls

extern "C" {
// Memory whose bytes read as NaN; null when the range is used up.
void* emulator_allocate(size_t bytes) {
    using namespace emulator;
    std::lock_guard<std::mutex> lock(guard);
    if (!range) {
        void* p = mmap(nullptr, RANGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) return nullptr;
        range = static_cast<unsigned char*>(p);
    }
    size_t pages = (bytes + 4095) / 4096 * 4096;
    // The buffer ends at a page's end but for its alignment: what follows is no memory.
    size_t at = range_used + GAP;
    if (at + pages + GAP > RANGE) return nullptr;
    range_used = at + pages;
    if (mprotect(range + at, pages, PROT_READ | PROT_WRITE) != 0) return nullptr;
    memset(range + at, 0xff, pages);
    unsigned char* start = range + at;
    Area area{bytes, true, {}};
    if (CHECKED) area.cells.resize(bytes);
    areas[reinterpret_cast<uintptr_t>(start)] = std::move(area);
    return start;
}

// Whether the bytes between the buffer's end and its page's end were left alone.
int emulator_free(void* pointer) {
    using namespace emulator;
    std::lock_guard<std::mutex> lock(guard);
    auto found = areas.find(reinterpret_cast<uintptr_t>(pointer));
    if (found == areas.end() || !found->second.live) return 0;
    Area& area = found->second;
    area.live = false;
    area.cells.clear();
    area.cells.shrink_to_fit();
    size_t pages = (area.bytes + 4095) / 4096 * 4096;
    int intact = 1;
    for (size_t i = area.bytes; i < pages; i++) intact &= static_cast<unsigned char*>(pointer)[i] == 0xff;
    madvise(pointer, pages, MADV_DONTNEED);
    mprotect(pointer, pages, PROT_NONE);
    return intact;
}

void emulator_upload(void* to, const void* from, size_t bytes) {
    memcpy(to, from, bytes);
    emulator::mark(reinterpret_cast<uintptr_t>(to), bytes);
}

void emulator_fill(void* to, int byte, size_t bytes) {
    memset(to, byte, bytes);
    emulator::mark(reinterpret_cast<uintptr_t>(to), bytes);
}

// What was found since the last call, one line each, or an empty string.
const char* emulator_report() {
    static std::string told;
    std::lock_guard<std::mutex> lock(emulator::guard);
    told.swap(emulator::report);
    emulator::report.clear();
    emulator::reported = 0;
    emulator::seen.clear();
    return told.c_str();
}

#if defined(ENGINE_CHECKED)
#define HOOKS(size)                                                                                           \
    void __tsan_read##size(void* p) { emulator::access(p, size, false, false, __builtin_return_address(0)); } \
    void __tsan_write##size(void* p) { emulator::access(p, size, true, false, __builtin_return_address(0)); } \
    void __tsan_unaligned_read##size(void* p) {                                                               \
        emulator::access(p, size, false, false, __builtin_return_address(0));                                 \
    }                                                                                                         \
    void __tsan_unaligned_write##size(void* p) { emulator::access(p, size, true, false, __builtin_return_address(0)); }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void* p, size_t n) { emulator::access(p, n, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* p, size_t n) { emulator::access(p, n, true, false, __builtin_return_address(0)); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
// The emulator's own atomics: note_atomic has told of them.
uint32_t __tsan_atomic32_load(const volatile uint32_t* p, int) { return *p; }
uint64_t __tsan_atomic64_load(const volatile uint64_t* p, int) { return *p; }
int __tsan_atomic32_compare_exchange_strong(volatile uint32_t* p, uint32_t* c, uint32_t v, int, int) {
    if (*p == *c) {
        *p = v;
        return 1;
    }
    *c = *p;
    return 0;
}
int __tsan_atomic32_compare_exchange_weak(volatile uint32_t* p, uint32_t* c, uint32_t v, int a, int b) {
    return __tsan_atomic32_compare_exchange_strong(p, c, v, a, b);
}
int __tsan_atomic64_compare_exchange_strong(volatile uint64_t* p, uint64_t* c, uint64_t v, int, int) {
    if (*p == *c) {
        *p = v;
        return 1;
    }
    *c = *p;
    return 0;
}
int __tsan_atomic64_compare_exchange_weak(volatile uint64_t* p, uint64_t* c, uint64_t v, int a, int b) {
    return __tsan_atomic64_compare_exchange_strong(p, c, v, a, b);
}
#endif
}
