// The device language on the host, for tests: the same .cu file compiled by g++ in front of which this is included.
//
// Lanes are fibers, and warps and lanes take turns at random from a seed: a lane runs until its warp needs it, at a ballot
// or a shuffle, and there it waits for the other 31, as on a device. A warp whose lanes wait at different places, or lose
// one that has returned, is an error: on a device it would hang or be undefined. With LANES defined as 1 a warp is one
// thread, there are no fibers, and a kernel runs at full speed.
#pragma once
#include <ucontext.h>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct Place { unsigned x = 0; };
struct Lane {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  Place thread, block;
  int line = 0;  // of the collective at which it waits; 0 while it can run
  bool ended = false;
  uint64_t given = 0, got = 0;
  int source = -1;  // of a shuffle; -1 in a ballot
};

static Lane* lane_now;
static ucontext_t scheduler;
static Place blockDim, gridDim;
#define threadIdx (lane_now->thread)
#define blockIdx (lane_now->block)

static inline unsigned __funnelshift_r(unsigned low, unsigned high, int n) {
  return (unsigned)(((uint64_t)high << 32 | low) >> (n & 31));
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
// One rounding each; g++ contracts nothing of its own accord in ISO mode.
static inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
static inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }
static inline long long __double_as_longlong(double x) {
  long long bits;
  memcpy(&bits, &x, 8);
  return bits;
}
static inline double __longlong_as_double(long long bits) {
  double x;
  memcpy(&x, &bits, 8);
  return x;
}
static inline void __syncthreads() {}
static inline long long clock64() { static long long ticks; return ticks += 1000; }
static inline unsigned long long atomicMin(unsigned long long* p, unsigned long long v) {
  const unsigned long long old = *p;
  if (v < old) *p = v;
  return old;
}
static inline unsigned long long atomicAdd(unsigned long long* p, unsigned long long v) {
  const unsigned long long old = *p;
  *p = old + v;
  return old;
}

#if defined(LANES) && LANES == 1
#define __ballot_sync(mask, x) ((x) ? 1u : 0u)
#define __shfl_sync(mask, x, source) (x)
#else
static uint64_t collective(int line, uint64_t given, int source) {
  Lane* const lane = lane_now;
  lane->line = line;
  lane->given = given;
  lane->source = source;
  swapcontext(&lane->context, &scheduler);
  return lane->got;
}
#define __ballot_sync(mask, x) ((unsigned)collective(__LINE__, (x) ? 1 : 0, -1))
#define __shfl_sync(mask, x, source) collective(__LINE__, (x), (source))
#endif

// Every argument of a kernel is an integer or a pointer: one 64-bit slot each in the calling conventions of Linux.
typedef void (*Kernel)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);
static Kernel kernel_now;
static const uint64_t* arguments_now;

static void run_lane() {
  const uint64_t* a = arguments_now;
  kernel_now(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9]);
  lane_now->ended = true;
}

static void fiber() {
  run_lane();
  for (;;) swapcontext(&lane_now->context, &scheduler);
}

// The end of a ballot or shuffle that all lanes have reached; an error text where they have not reached the same one.
static const char* meet(Lane* warp, unsigned lanes) {
  uint64_t ballot = 0;
  for (unsigned i = 0; i < lanes; i++) {
    if (warp[i].ended) return "a lane returned while others of its warp wait for it";
    if (warp[i].line != warp[0].line || warp[i].source != warp[0].source) return "lanes of one warp wait at different places";
    ballot |= warp[i].given << i;
  }
  for (unsigned i = 0; i < lanes; i++) {
    warp[i].got = warp[i].source < 0 ? ballot : warp[warp[i].source].given;
    warp[i].line = 0;
  }
  return nullptr;
}

static const char* run_blocks(unsigned first, unsigned blocks, unsigned threads, std::mt19937_64& random) {
  const size_t stack = 1 << 16;
  std::vector<Lane> lanes(blocks * threads);
  for (size_t i = 0; i < lanes.size(); i++) {
    Lane& lane = lanes[i];
    lane.thread.x = i % threads;
    lane.block.x = first + i / threads;
    lane.stack.reset(new char[stack]);
    getcontext(&lane.context);
    lane.context.uc_stack.ss_sp = lane.stack.get();
    lane.context.uc_stack.ss_size = stack;
    lane.context.uc_link = nullptr;
    makecontext(&lane.context, fiber, 0);
  }
  const unsigned width = 32;
  std::vector<std::vector<unsigned>> ready(lanes.size() / width);  // per warp, the lanes that can run
  std::vector<unsigned> live(ready.size());
  for (unsigned w = 0; w < ready.size(); w++) {
    live[w] = w;
    for (unsigned i = 0; i < width; i++) ready[w].push_back(i);
  }
  while (!live.empty()) {
    const size_t pick = random() % live.size();
    const unsigned w = live[pick];
    std::vector<unsigned>& runnable = ready[w];
    const size_t which = random() % runnable.size();
    lane_now = &lanes[w * width + runnable[which]];
    runnable[which] = runnable.back();
    runnable.pop_back();
    swapcontext(&scheduler, &lane_now->context);
    if (!runnable.empty()) continue;
    Lane* warp = &lanes[w * width];
    unsigned ended = 0;
    for (unsigned i = 0; i < width; i++) ended += warp[i].ended;
    if (ended == width) {
      live[pick] = live.back();
      live.pop_back();
      continue;
    }
    if (const char* fault = meet(warp, width)) return fault;
    for (unsigned i = 0; i < width; i++) runnable.push_back(i);
  }
  return nullptr;
}

// Runs a kernel; returns null, or what would have gone wrong on a device. Not for two threads at once.
extern "C" const char* host_launch(Kernel kernel, unsigned grid, unsigned block, uint64_t seed, const uint64_t* arguments) {
  kernel_now = kernel;
  arguments_now = arguments;
  blockDim.x = block;
  gridDim.x = grid;
#if defined(LANES) && LANES == 1
  (void)seed; (void)fiber; (void)meet; (void)run_blocks;
  static Lane lane;
  lane_now = &lane;
  for (lane.block.x = 0; lane.block.x < grid; lane.block.x++)
    for (lane.thread.x = 0; lane.thread.x < block; lane.thread.x++) run_lane();
  return nullptr;
#else
  if (block % 32) return "a block that is no multiple of a warp";
  std::mt19937_64 random(seed);
  const unsigned resident = 16;
  for (unsigned first = 0; first < grid; first += resident)
    if (const char* fault = run_blocks(first, grid - first < resident ? grid - first : resident, block, random)) return fault;
  return nullptr;
#endif
}
