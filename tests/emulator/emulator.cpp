// The scheduler: blocks over OS threads, a block's threads as fibers, barriers as the points where they switch.
#include "cuda_host.h"
#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim
#include "emulator.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <map>
#include <mutex>
#include <thread>
#include <vector>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulator {
thread_local uint3 thread_index, block_index;
thread_local dim3 block_size, grid_size;

constexpr size_t STACK = 256 << 10;
// An H100's limit for one block.
constexpr size_t SHARED_LIMIT = 227 << 10;

// ---- switching between stacks

#if defined(__x86_64__)
// Saves the registers that a call must keep and the stack's place, and loads another's.
extern "C" void emulator_switch(void** save, void* load);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch,@function
emulator_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp,(%rdi)
  movq %rsi,%rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size emulator_switch,.-emulator_switch
)");
struct Context {
    void* stack = nullptr;
    void prepare(unsigned char* bottom, size_t bytes, void (*entry)()) {
        // At the entry of a function the stack lies 8 bytes beside a multiple of 16.
        void** top = reinterpret_cast<void**>(bottom + bytes - 56);
        top[0] = nullptr;
        *--top = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; i++) *--top = nullptr;
        stack = top;
    }
    static void change(Context& from, Context& to) { emulator_switch(&from.stack, to.stack); }
};
#else
struct Context {
    ucontext_t context;
    void prepare(unsigned char* bottom, size_t bytes, void (*entry)()) {
        getcontext(&context);
        context.uc_stack.ss_sp = bottom;
        context.uc_stack.ss_size = bytes;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    static void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
};
#endif

// ---- one block at a time

enum class State : uint8_t { Ready, AtBlock, AtWarp, Done };

struct Fiber {
    Context context;
    uint3 index;
    unsigned mask;
    State state;
    unsigned warp_epoch;
};

struct Warp {
    uint64_t words[2][32];
    unsigned phase[32];
};

struct Block {
    std::vector<Fiber> fibers;
    std::vector<Warp> warps;
    Context scheduler;
    unsigned char* stacks = nullptr;
    size_t stack_count = 0;
    unsigned current = 0;
    unsigned epoch = 0;
    bool cooperative = false;
    Body body = nullptr;
    void** parameters = nullptr;
    const char* kernel = "";
    int vote_gathering[3], vote_result[3];
    std::map<const void*, size_t> shared_places;
    unsigned char* shared_base = nullptr;
    size_t shared_used = 0, dynamic_bytes = 0;

    void reserve(size_t threads) {
        if (threads > stack_count) {
            if (stacks) munmap(stacks, stack_count * STACK);
            stack_count = threads;
            void* p = mmap(nullptr, threads * STACK, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (p == MAP_FAILED) fail("no memory for the threads' stacks");
            stacks = static_cast<unsigned char*>(p);
            for (size_t i = 0; i < threads; i++) mprotect(stacks + i * STACK, 4096, PROT_NONE);
        }
        fibers.resize(threads);
        warps.resize((threads + 31) / 32);
    }
    ~Block() {
        if (stacks) munmap(stacks, stack_count * STACK);
    }
};

static thread_local Block* current_block = nullptr;

void fail(const char* why) {
    const Block* b = current_block;
    fprintf(stderr, "emulator: %s: %s (block %u %u %u, thread %u %u %u)\n", b ? b->kernel : "", why, block_index.x,
            block_index.y, block_index.z, thread_index.x, thread_index.y, thread_index.z);
    abort();
}

Place place() {
    const Block* b = current_block;
    if (!b) return {};
    unsigned thread = thread_index.x + block_size.x * (thread_index.y + block_size.y * thread_index.z);
    unsigned block = block_index.x + grid_size.x * (block_index.y + grid_size.y * block_index.z);
    return {b->kernel, block, thread, b->epoch, b->cooperative ? b->fibers[b->current].warp_epoch : 0};
}

static void to_scheduler() {
    Block* b = current_block;
    Context::change(b->fibers[b->current].context, b->scheduler);
}

static void fiber_entry() {
    Block* b = current_block;
    b->body(b->parameters);
    b->fibers[b->current].state = State::Done;
    to_scheduler();
    __builtin_unreachable();
}

static Block& cooperative_block(const char* what) {
    Block* b = current_block;
    if (!b->cooperative) {
        char why[160];
        snprintf(why, sizeof why, "%s in a kernel that is declared with KERNEL; use BLOCK_KERNEL", what);
        fail(why);
    }
    return *b;
}

unsigned lane() { return cooperative_block("a warp collective").current & 31; }

uint64_t* warp_words() {
    Block& b = cooperative_block("a warp collective");
    Warp& warp = b.warps[b.current / 32];
    unsigned& phase = warp.phase[b.current & 31];
    phase ^= 1;
    return warp.words[phase];
}

void sync_warp(unsigned mask) {
    Block& b = cooperative_block("__syncwarp");
    Fiber& fiber = b.fibers[b.current];
    if (!(mask >> (b.current & 31) & 1)) fail("a lane calls a collective whose mask leaves it out");
    fiber.mask = mask;
    fiber.state = State::AtWarp;
    to_scheduler();
    fiber.warp_epoch++;
}

void sync_block() {
    Block& b = cooperative_block("__syncthreads");
    b.fibers[b.current].state = State::AtBlock;
    to_scheduler();
}

int block_vote(int predicate, int what) {
    Block& b = cooperative_block("__syncthreads_count");
    b.vote_gathering[0] += predicate != 0;
    b.vote_gathering[1] &= predicate != 0;
    b.vote_gathering[2] |= predicate != 0;
    sync_block();
    return b.vote_result[what];
}

void* dynamic_shared() { return current_block->shared_base; }

void* shared_array(const void* place, size_t bytes) {
    Block& b = *current_block;
    auto [entry, fresh] = b.shared_places.try_emplace(place, 0);
    if (fresh) {
        // A gap, so that an access past an array's end meets nothing.
        entry->second = (b.shared_used + 64 + 63) / 64 * 64;
        b.shared_used = entry->second + bytes;
        if (b.shared_used > SHARED_BYTES) fail("more shared memory than a block has");
        open_shared(b.shared_base + entry->second, bytes);
    }
    return b.shared_base + entry->second;
}

static void reset_votes(Block& b) {
    b.vote_gathering[0] = 0;
    b.vote_gathering[1] = 1;
    b.vote_gathering[2] = 0;
}

// Lets the lanes go whose whole mask waits at the same collective. Lanes that the block does not have do not count.
static bool release_warp(Block& b, unsigned low, unsigned high) {
    unsigned waiting = 0, exist = high - low == 32 ? 0xffffffffu : (1u << (high - low)) - 1;
    for (unsigned i = low; i < high; i++)
        if (b.fibers[i].state == State::AtWarp) waiting |= 1u << (i - low);
    bool released = false;
    for (unsigned i = low; i < high; i++) {
        if (b.fibers[i].state != State::AtWarp) continue;
        unsigned mask = b.fibers[i].mask & exist;
        if ((mask & waiting) != mask) continue;
        bool same = true;
        for (unsigned j = low; j < high; j++)
            if (mask >> (j - low) & 1) same &= (b.fibers[j].mask & exist) == mask;
        if (!same) continue;
        for (unsigned j = low; j < high; j++)
            if (mask >> (j - low) & 1) b.fibers[j].state = State::Ready;
        waiting &= ~mask;
        released = true;
    }
    return released;
}

static void run_cooperative(Block& b, unsigned threads) {
    for (unsigned i = 0; i < threads; i++) {
        Fiber& fiber = b.fibers[i];
        fiber.state = State::Ready;
        fiber.warp_epoch = 0;
        fiber.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
        fiber.context.prepare(b.stacks + size_t(i) * STACK + 4096, STACK - 4096, fiber_entry);
    }
    for (Warp& warp : b.warps) memset(warp.phase, 0, sizeof warp.phase);
    reset_votes(b);
    for (;;) {
        bool progress = false;
        for (unsigned low = 0; low < threads; low += 32) {
            unsigned high = std::min(threads, low + 32);
            for (bool ran = true; ran;) {
                ran = false;
                for (unsigned i = low; i < high; i++) {
                    if (b.fibers[i].state != State::Ready) continue;
                    b.current = i;
                    thread_index = b.fibers[i].index;
                    Context::change(b.scheduler, b.fibers[i].context);
                    ran = true;
                }
                ran |= release_warp(b, low, high);
                progress |= ran;
            }
        }
        unsigned done = 0, waiting = 0;
        for (const Fiber& fiber : b.fibers) {
            done += fiber.state == State::Done;
            waiting += fiber.state == State::AtBlock;
        }
        if (done == threads) return;
        if (done + waiting == threads) {
            // Threads that have left do not hold the others up on the device either, but a barrier that only some
            // reach is a mistake.
            if (done) fail("a barrier that not all threads of the block reach");
            memcpy(b.vote_result, b.vote_gathering, sizeof b.vote_result);
            reset_votes(b);
            b.epoch++;
            for (Fiber& fiber : b.fibers) fiber.state = State::Ready;
            progress = true;
        }
        if (!progress)
            fail("threads wait at different barriers: a divergent __syncthreads or a mask with lanes that never come");
    }
}

static void run_independent(Block& b) {
    for (unsigned z = 0; z < block_size.z; z++)
        for (unsigned y = 0; y < block_size.y; y++)
            for (unsigned x = 0; x < block_size.x; x++) {
                thread_index = {x, y, z};
                b.body(b.parameters);
            }
}

int launch(const char* name, Body body, void** parameters, const unsigned* grid, const unsigned* block, size_t shared,
           bool cooperative) {
    uint64_t blocks = uint64_t(grid[0]) * grid[1] * grid[2];
    unsigned threads = block[0] * block[1] * block[2];
    // The device's limits: what it would refuse is refused here.
    if (threads == 0 || threads > 1024 || block[2] > 64 || blocks == 0 || grid[1] > 65535 || grid[2] > 65535 ||
        grid[0] > 0x7fffffff)
        return 1;
    if (shared > SHARED_LIMIT) return 1;
    begin_launch();
    std::atomic<uint64_t> next{0};
    const char* wanted = getenv("ENGINE_EMULATOR_THREADS");
    uint64_t workers = wanted ? strtoull(wanted, nullptr, 10) : std::thread::hardware_concurrency();
    workers = CHECKED ? 1 : std::max<uint64_t>(1, std::min({workers, blocks, uint64_t(MAX_WORKERS)}));
    const bool backwards = getenv("ENGINE_EMULATOR_BACKWARDS") != nullptr;
    auto work = [&](unsigned worker) {
        Block b;
        b.cooperative = cooperative;
        b.body = body;
        b.parameters = parameters;
        b.kernel = name;
        b.shared_base = shared_memory(worker);
        b.dynamic_bytes = shared;
        block_size = {block[0], block[1], block[2]};
        grid_size = {grid[0], grid[1], grid[2]};
        if (cooperative) b.reserve(threads);
        current_block = &b;
        for (;;) {
            uint64_t taken = next.fetch_add(1, std::memory_order_relaxed);
            if (taken >= blocks) break;
            uint64_t i = backwards ? blocks - 1 - taken : taken;
            block_index = {unsigned(i % grid[0]), unsigned(i / grid[0] % grid[1]),
                           unsigned(i / (uint64_t(grid[0]) * grid[1]))};
            b.epoch = 0;
            b.shared_places.clear();
            b.shared_used = shared;
            // NaN in f32 and f16: what was not written does not look like a number.
            memset(b.shared_base, 0xff, SHARED_BYTES);
            close_shared(b.shared_base);
            if (shared) open_shared(b.shared_base, shared);
            if (cooperative)
                run_cooperative(b, threads);
            else
                run_independent(b);
        }
        current_block = nullptr;
    };
    std::vector<std::thread> others;
    for (unsigned i = 1; i < workers; i++) others.emplace_back(work, i);
    work(0);
    for (std::thread& t : others) t.join();
    return 0;
}
}  // namespace emulator
