// The device language on the host, for tests: the same .cu file compiled by g++ in front of which this is included.
//
// Lanes are fibers, and warps and lanes take turns at random from a seed: a lane runs until its warp needs it, at a ballot
// or a shuffle, and there it waits for the other 31, as on a device; at a barrier a warp waits for the other warps of its
// block. A warp whose lanes wait at different places, or lose one that has returned, is an error: on a device it would
// hang or be undefined. So is a byte written beyond the shared memory that was asked for. Blocks with shared memory run
// one after the other. With LANES defined as 1 a warp is one thread, there are no fibers, and a kernel runs at full speed.
#pragma once
#define __device__
#define __global__
#define __shared__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

struct Place { unsigned x = 0; };
struct uint4 { unsigned x, y, z, w; };
enum { BALLOT = -1, BARRIER = -2 };
struct Lane {
  ucontext_t context;
  jmp_buf at;
  bool begun = false;
  std::unique_ptr<char[]> stack;
  Place thread, block;
  int line = 0;  // of the collective at which it waits; 0 while it can run
  bool ended = false;
  uint64_t given = 0, got = 0;
  int source = BALLOT;  // or BARRIER, or the lane that a shuffle asks
};

static Lane* lane_now;
static jmp_buf scheduler;
static const unsigned POOL_BYTES = 1 << 17;
alignas(16) [[maybe_unused]] static unsigned char pool_now[POOL_BYTES];
#define POOL(name) unsigned char* const name = pool_now
#define GIVEN const Given&
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
static inline long long clock64() { static long long ticks; return ticks += 1000; }
static inline unsigned long long atomicMin(unsigned long long* p, unsigned long long v) {
  const unsigned long long old = *p;
  if (v < old) *p = v;
  return old;
}
static inline unsigned long long atomicMax(unsigned long long* p, unsigned long long v) {
  const unsigned long long old = *p;
  if (v > old) *p = v;
  return old;
}
template <class T>
static inline T atomicAdd(T* p, T v) {
  const T old = *p;
  *p = old + v;
  return old;
}
template <class T>
static inline T __ldg(const T* p) { return *p; }
static inline double erfcx(double x) {
  const long double wide = x;
  if (x < 20.0) return (double)(erfcl(wide) * expl(wide * wide));
  long double term = 1.0L, total = 1.0L;
  for (int k = 1; k < 30 && fabsl(term) > 1e-21L; k++) total += term *= -(2 * k - 1) / (2.0L * wide * wide);
  return (double)(total / (wide * 1.77245385090551602729816748334L));
}

#if defined(LANES) && LANES == 1
#define __ballot_sync(mask, x) ((x) ? 1u : 0u)
#define __shfl_sync(mask, x, source) (x)
#define __syncthreads() ((void)0)
#else
static void leave() {
  if (!_setjmp(lane_now->at)) _longjmp(scheduler, 1);
}
static uint64_t collective(int line, uint64_t given, int source) {
  Lane* const lane = lane_now;
  lane->line = line;
  lane->given = given;
  lane->source = source;
  leave();
  return lane->got;
}
template <class T>
static T shuffled(int line, T x, int source) {
  uint64_t bits = 0;
  memcpy(&bits, &x, sizeof x);
  bits = collective(line, bits, source);
  memcpy(&x, &bits, sizeof x);
  return x;
}
#define LANE_NOW ((int)(threadIdx.x % 32))
#define __ballot_sync(mask, x) ((unsigned)collective(__LINE__, (x) ? 1 : 0, BALLOT))
#define __shfl_sync(mask, x, source) shuffled(__LINE__, (x), (source))
#define __shfl_xor_sync(mask, x, with) shuffled(__LINE__, (x), LANE_NOW ^ (with))
#define __shfl_up_sync(mask, x, by) shuffled(__LINE__, (x), LANE_NOW < (int)(by) ? LANE_NOW : LANE_NOW - (int)(by))
#define __syncwarp() ((void)collective(__LINE__, 0, BALLOT))
#define __syncthreads() ((void)collective(__LINE__, 0, BARRIER))
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
  _longjmp(scheduler, 1);
}

// Lets a lane run until it waits or ends.
static void resume(Lane* lane) {
  lane_now = lane;
  if (_setjmp(scheduler)) return;
  if (lane->begun) _longjmp(lane->at, 1);
  lane->begun = true;
  setcontext(&lane->context);
}

// The end of a ballot or shuffle that all lanes have reached; an error text where they have not reached the same one.
static const char* meet(Lane* warp, unsigned lanes) {
  uint64_t ballot = 0;
  for (unsigned i = 0; i < lanes; i++) {
    if (warp[i].ended) return "a lane returned while others of its warp wait for it";
    if (warp[i].line != warp[0].line || (warp[i].source < 0 ? warp[i].source != warp[0].source : warp[0].source < 0))
      return "lanes of one warp wait at different places";
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
  std::vector<unsigned> live(ready.size()), parked;  // parked: at a barrier
  for (unsigned w = 0; w < ready.size(); w++) {
    live[w] = w;
    for (unsigned i = 0; i < width; i++) ready[w].push_back(i);
  }
  while (!live.empty() || !parked.empty()) {
    if (live.empty()) {
      if (parked.size() != ready.size()) return "a warp returned while others of its block wait at a barrier";
      for (unsigned w = 0; w < ready.size(); w++)
        if (lanes[w * width].line != lanes[0].line) return "warps of one block wait at different barriers";
      for (unsigned w : parked)
        if (const char* fault = meet(&lanes[w * width], width)) return fault;
      live.swap(parked);
      for (unsigned w : live)
        for (unsigned i = 0; i < width; i++) ready[w].push_back(i);
    }
    const size_t pick = random() % live.size();
    const unsigned w = live[pick];
    std::vector<unsigned>& runnable = ready[w];
    const size_t which = random() % runnable.size();
    Lane* const next = &lanes[w * width + runnable[which]];
    runnable[which] = runnable.back();
    runnable.pop_back();
    resume(next);
    if (!runnable.empty()) continue;
    Lane* warp = &lanes[w * width];
    unsigned ended = 0;
    for (unsigned i = 0; i < width; i++) ended += warp[i].ended;
    if (ended == width) {
      live[pick] = live.back();
      live.pop_back();
      continue;
    }
    if (warp[0].source == BARRIER && !warp[0].ended) {
      for (unsigned i = 0; i < width; i++)
        if (warp[i].ended || warp[i].source != BARRIER) return "lanes of one warp wait at different places";
      parked.push_back(w);
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
extern "C" const char* host_launch(Kernel kernel, unsigned grid, unsigned block, unsigned shared, uint64_t seed,
                                   const uint64_t* arguments) {
  kernel_now = kernel;
  arguments_now = arguments;
  blockDim.x = block;
  gridDim.x = grid;
#if defined(LANES) && LANES == 1
  (void)seed; (void)shared; (void)resume; (void)meet; (void)run_blocks;
  static Lane lane;
  lane_now = &lane;
  for (lane.block.x = 0; lane.block.x < grid; lane.block.x++)
    for (lane.thread.x = 0; lane.thread.x < block; lane.thread.x++) run_lane();
  return nullptr;
#else
  if (block % 32) return "a block that is no multiple of a warp";
  std::mt19937_64 random(seed);
#ifdef SHARED_MEMORY
  const unsigned resident = 1;
#else
  const unsigned resident = 16;
#endif
  for (unsigned first = 0; first < grid; first += resident) {
    memset(pool_now, 0xA5, POOL_BYTES);
    if (const char* fault = run_blocks(first, grid - first < resident ? grid - first : resident, block, random)) return fault;
    for (unsigned i = shared; i < POOL_BYTES; i++)
      if (pool_now[i] != 0xA5) return "a write beyond the shared memory of its block";
  }
  return nullptr;
#endif
}
