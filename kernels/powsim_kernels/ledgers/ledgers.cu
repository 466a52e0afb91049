// Whole identities on a GPU, one per thread, as ledgers/reference.py says: every operation of it, in its order.
//
// v1 one thread an identity, its state in registers; rows go to memory once, and two small kernels add them up. Threads
// of a warp take different numbers of puzzles: neighbours wait for the longest. v2 both draws of a block of random words
// are used. v3 a block's sums, counts and histograms in the same kernel, the plan by value, registers for eight groups of
// threads on a multiprocessor. An H100 took 24 ms for 2^21 identities of 100 puzzles with v2 (this kernel 6 of them, the
// host's additions most), 10 ms with blocks added on the device, and takes 5 ms with v3; eight groups 4 % less than five,
// though their registers spill. N_.. and I_.. are places in the packed plan, from layout.py. Compile with -fmad=false.
#define LOW32 0xffffffffull

struct Words { unsigned w[4]; };

__device__ __forceinline__ Words philox(unsigned c0, unsigned c1, unsigned c2, unsigned c3, unsigned long long key) {
  unsigned k0 = (unsigned)key, k1 = (unsigned)(key >> 32);
#pragma unroll
  for (int i = 0; i < 10; i++) {
    const unsigned h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
    const unsigned h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
    c0 = h1 ^ c1 ^ k0;
    c1 = l1;
    c2 = h0 ^ c3 ^ k1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

// The number in (0, 1] of two words: a multiple of 2^-53, and exact.
__device__ __forceinline__ double uniform_of(unsigned low, unsigned high) {
  const unsigned long long bits = ((unsigned long long)high << 32 | low) >> 11;
  return (double)(bits + 1) * 0x1p-53;
}

// By value among a kernel's arguments: what all threads read is then an operand of an instruction, not a register.
struct Given {
  double numbers[NUMBERS];
  unsigned long long integers[INTEGERS];
};
#ifndef POOL  // on a device; the host build of the tests hands over addresses
#define POOL(name) extern __shared__ __align__(16) unsigned char name[]
#define GIVEN const __grid_constant__ Given
#endif

struct Plan {
  const double (&numbers)[NUMBERS];
  const unsigned long long (&integers)[INTEGERS];
  const double* table;
  __device__ __forceinline__ double uniform(unsigned stream, unsigned identity, unsigned replica) const {
    const Words words = philox(0, stream, identity, replica, integers[I_KEY]);
    return uniform_of(words.w[0], words.w[1]);
  }
  __device__ __forceinline__ double normal(unsigned stream, unsigned identity) const {
    const double centred = uniform(stream, identity, 0) - 0x1p-54, most = 1.0 - 0x1p-53;
    return normal_quantile(centred < most ? centred : most);
  }
};

struct Identity {
  unsigned identity, replica, device;
  double queries, rate_hz, shift, drift, start_s;
};

__device__ __forceinline__ Identity draw(const Plan& plan, unsigned long long number) {
  const double (&n)[NUMBERS] = plan.numbers;
  const unsigned long long (&integers)[INTEGERS] = plan.integers;
  const unsigned long long accounts = integers[I_ACCOUNTS];
  const unsigned replica = accounts ? (unsigned)(number / accounts) : 0;
  const unsigned who = (unsigned)(accounts ? number - replica * accounts : number);
  Identity drawn = {who, replica, 0, 0.0, 0.0, 0.0, 0.0, 0.0};
  const double* const devices = plan.table + integers[I_AT_DEVICES];
  const unsigned last = (unsigned)integers[I_DEVICES] - 1, shared = accounts ? 0 : who;
  if (last) {
    const double chosen = plan.uniform(S_DEVICE, shared, replica) * devices[last * DEVICE_COLUMNS];
    while (drawn.device < last && devices[drawn.device * DEVICE_COLUMNS] < chosen) drawn.device++;
  }
  const double* const device = devices + drawn.device * DEVICE_COLUMNS;
  drawn.rate_hz = device[1] * real_exp(plan.uniform(S_RATE, shared, replica) * device[2]);
  if (accounts) {
    drawn.queries = (double)(integers[I_SHARE_QUERIES] + (who < integers[I_SHARE_REST] ? 1 : 0));
  } else {
    const double grown = n[N_SIGMA] > 0.0 ? real_exp(n[N_SIGMA] * plan.normal(S_VOLUME, who)) : 1.0;
    const double size = rint(n[N_MEDIAN] * grown), least = size > 1.0 ? size : 1.0;
    drawn.queries = least < n[N_MAXIMUM] ? least : n[N_MAXIMUM];
    if (integers[I_SPREAD]) {
      drawn.shift = 1.0 + (n[N_ONE_SHIFT] + n[N_SHIFT_SD] * plan.normal(S_SHIFT, who));
      drawn.drift = n[N_DRIFT_SD] * plan.normal(S_DRIFT, who);
    }
  }
  if (n[N_STARTS_WITHIN_S] > 0.0) drawn.start_s = n[N_STARTS_WITHIN_S] * plan.uniform(S_START, who, replica);
  return drawn;
}

// What an identity's queries have cost so far.
struct Spending {
  double cost, sums[MOST_ORDERS];
  unsigned row;                        // of the curve
  Words words;                         // of the bank's draws
  unsigned drawn, left, begin, place;  // blocks drawn, queries left in this one, its recording's row 0, the next position

  __device__ __forceinline__ double by_curve(const Plan& plan, const Identity& who, double n) {
    const double* const curve = plan.table + plan.integers[I_AT_CURVE];
    const unsigned points = (unsigned)plan.integers[I_POINTS];
    while (row + 1 < points && n >= curve[(row + 1) * CURVE_COLUMNS]) row++;
    const double* const at = curve + row * CURVE_COLUMNS;
    double now = at[2] * (n - at[0]) + at[1];
    if (!plan.integers[I_SPREAD]) return now;
    now = now * (who.shift + who.drift * (n * PER_DRIFT_UNIT));
    const double least = plan.numbers[N_LEAST_COST] * n, greatest = plan.numbers[N_GREATEST_COST] * n;
    now = now > least ? now : least;
    now = now < greatest ? now : greatest;
    cost = now > cost ? now : cost;
    return cost;
  }

  __device__ __forceinline__ double by_bank(const Plan& plan, const Identity& who, unsigned before, unsigned n) {
    const unsigned long long (&integers)[INTEGERS] = plan.integers;
    const unsigned recorded = (unsigned)integers[I_RECORDED], orders = (unsigned)integers[I_ORDERS];
    const double* const bank = plan.table + integers[I_AT_BANK];
    const bool spread = integers[I_SPREAD] != 0;
    for (unsigned query = before; query < n; query++) {
      if (left == 0) {
        if (drawn % 4 == 0) words = philox(drawn / 4, S_COST, who.identity, who.replica, integers[I_KEY]);
        begin = __umulhi(words.w[0], (unsigned)integers[I_RECORDINGS]) * recorded;
        words = {{words.w[1], words.w[2], words.w[3], 0}};
        drawn++;
        left = (unsigned)integers[I_BANK_BLOCK];
      }
      const unsigned chosen = begin + place;
      left--;
      if (++place == recorded) place -= (unsigned)integers[I_PERIOD];
      double factor = 1.0;
      if (spread) {
        factor = who.shift + who.drift * ((double)(query + 1) * PER_DRIFT_UNIT);
        factor = factor > 0.0 ? factor : 0.0;
      }
      if (orders) {
#pragma unroll
        for (unsigned order = 0; order < MOST_ORDERS; order++)
          if (order < orders) sums[order] += bank[(unsigned long long)chosen * orders + order] * factor;
      } else {
        double one = bank[chosen];
        if (spread) {
          one = one * factor;
          one = one > plan.numbers[N_LEAST_COST] ? one : plan.numbers[N_LEAST_COST];
          one = one < plan.numbers[N_GREATEST_COST] ? one : plan.numbers[N_GREATEST_COST];
        }
        cost += one;
      }
    }
    if (!orders) return cost;
    const double* const extra = plan.table + integers[I_AT_SURCHARGE];
    double eps = INFINITE;
#pragma unroll
    for (unsigned order = 0; order < MOST_ORDERS; order++)
      if (order < orders && sums[order] + extra[order] < eps) eps = sums[order] + extra[order];
    return eps > 0.0 ? eps : 0.0;
  }
};

__device__ __forceinline__ double bits_for(const Plan& plan, double excess, double asked, double time_s) {
  const double (&n)[NUMBERS] = plan.numbers;
  const unsigned long long (&integers)[INTEGERS] = plan.integers;
  const double x = integers[I_TWO_SIDED] ? fabs(excess) : (excess > 0.0 ? excess : 0.0);
  double bits = n[N_BASE_BITS];
  if (integers[I_PER_QUERY])
    bits = bits + (asked == n[N_EVERY] ? n[N_EVERY_BITS] : real_log(asked > 1.0 ? asked : 1.0) * LOG2_E);
  bits = bits + n[N_SLOPE] * x;
  const double* const edges = plan.table + integers[I_AT_EDGES];
  const double* band = plan.table + integers[I_AT_BITS];
  for (unsigned edge = 0; edge < integers[I_BANDS]; edge++) band += x >= edges[edge];
  bits = bits + *band;
  if (integers[I_LOADS] > 1) {
    const double turn = floor(time_s / n[N_LOAD_STEP_S]);
    const unsigned long long whole = (unsigned long long)(turn < 0x1p52 ? turn : 0x1p52);
    bits = bits + plan.table[integers[I_AT_LOADS] + whole % integers[I_LOADS]];
  }
  bits = bits > n[N_LOW] ? bits : n[N_LOW];
  bits = bits < n[N_HIGH] ? bits : n[N_HIGH];
  return integers[I_WHOLE] ? floor(bits) : bits;
}

// What becomes of an identity.
struct Outcome {
  double rate_hz, values[SUMS];
  unsigned long long whole[6];  // identity, replica, device, queries, puzzles, hashes
};

__device__ __forceinline__ Outcome lived(const Plan& plan, unsigned long long number_of_all) {
  const double (&c)[NUMBERS] = plan.numbers;
  const unsigned long long (&integers)[INTEGERS] = plan.integers;
  const Identity who = draw(plan, number_of_all);
  const double every = c[N_EVERY], queries = who.queries, share = 1.0 / (double)integers[I_SUB_PUZZLES];
  const unsigned pieces = (unsigned)integers[I_SUB_PUZZLES];
  const bool clocked = integers[I_CLOCKED] != 0, decays = integers[I_DECAYS] != 0, side_by_side = integers[I_PARALLEL] != 0;
  const unsigned long long key = integers[I_KEY];
  Spending spending = {};
  double cost = 0.0, forgotten_cost = 0.0, forgotten_queries = 0.0, issued_s = 0.0, finish_s = 0.0, expected = 0.0;
  unsigned long long puzzles = 0, hashes = 0, steps = 0, index = 0, drawn = ~0ull;  // drawn: the block in `words`
  Words words = {};
  for (double number = 0.0, n = 0.0; n < queries; number += 1.0) {
    const double before = number * every, end = (number + 1.0) * every;
    n = end < queries ? end : queries;
    const double asked = n - before, last_cost = cost;
    cost = integers[I_BANKED] ? spending.by_bank(plan, who, (unsigned)before, (unsigned)n) : spending.by_curve(plan, who, n);
    double begins_s = 0.0;
    if (clocked) {
      const double arrival_s = before / c[N_BATCH] * c[N_REQUEST_EVERY_S];
      const double ready_s = number > 0.0 ? finish_s + c[N_THINK_S] : 0.0;
      begins_s = arrival_s > ready_s ? arrival_s : ready_s;
    }
    double base_cost = cost, base_queries = n;
    if (decays) {
      const double passed = (issued_s - begins_s) * c[N_DECAY_RATE];
      const double kept = real_exp2(passed > -1000.0 ? passed : -1000.0);
      base_cost = forgotten_cost = forgotten_cost * kept + (cost - last_cost);
      base_queries = forgotten_queries = forgotten_queries * kept + asked;
      issued_s = begins_s;
    }
    const double excess = base_cost - (c[N_EXPECTED_SLOPE] * base_queries + c[N_EXPECTED_INTERCEPT]);
    const double bits = bits_for(plan, excess, asked, who.start_s + begins_s);
    const bool due = bits > FEWEST_BITS && (integers[I_PARTIAL] || asked == every);
    const double work = due ? real_exp2(bits) : 0.0, each = work * share;
    const double chance = rint(0x1p64 / (each > 1.0 ? each : 1.0)) * 0x1p-64;
    const double slope = chance > 0.0 ? real_log1m(chance) : -INFINITE;
    unsigned long long now = 0;
    // Two draws of a block: the second may be the next puzzle's.
    for (unsigned piece = 0; piece < pieces; piece++, index++) {
      if (!due) continue;
      const unsigned odd = (unsigned)index & 1;
      if (drawn != index >> 1) {
        drawn = index >> 1;
        words = philox((unsigned)drawn, S_TRIES, who.identity, who.replica, key);
      }
      const double u = odd ? uniform_of(words.w[2], words.w[3]) : uniform_of(words.w[0], words.w[1]);
      const unsigned long long tries = (unsigned long long)floor(real_log(u) / slope) + 1;
      hashes += tries;
      now = side_by_side ? (tries > now ? tries : now) : now + tries;
    }
    steps += now;
    expected += work;
    puzzles += due;
    if (clocked) {
      const double solve_s = (double)now / who.rate_hz;
      finish_s = begins_s + ((asked * c[N_SECONDS_PER_QUERY] + solve_s) + (due ? c[N_VERIFY_S] : 0.0));
    }
  }
  const double* const device = plan.table + integers[I_AT_DEVICES] + who.device * DEVICE_COLUMNS;
  const double service_s = queries * c[N_SECONDS_PER_QUERY], solve_s = (double)steps / who.rate_hz;
  const double verify_s = (double)puzzles * c[N_VERIFY_S], devices_s = (double)hashes / who.rate_hz;
  const double energy_j = devices_s * device[3];
  const double usd = device[4] >= 0.0 ? device[4] * devices_s / 3600.0 : energy_j / 3.6e6 * c[N_USD_PER_KWH];
  return {who.rate_hz,
          {expected, (double)hashes, cost, service_s, solve_s, clocked ? finish_s : (service_s + solve_s) + verify_s,
           energy_j, usd, (solve_s + verify_s) / service_s},
          {who.identity, who.replica, who.device, (unsigned long long)queries, puzzles, hashes}};
}

// A histogram's cell: exponent and leading bits name it.
__device__ __forceinline__ unsigned cell_of(double value) {
  const long long cell = (__double_as_longlong(value) >> CELL_SHIFT) - CELL_BELOW, most = CELLS - 1;
  return (unsigned)(cell < 0 ? 0 : (cell > most ? most : cell));
}

// Identities begin..end, THREADS of them a group, which begins at a multiple of BLOCK. sums [D, COLUMNS, blocks] gets the
// sums over each block, in order; to counted [D, COUNTED] and cells, [D, CELLS] for each set bit of kept, their numbers are
// added, and behind counted stand the bits of the greatest work. Rows go to real [1 + SUMS, count] and whole [6, count]
// unless those are null. A column of shared memory is WIDE: lanes that read one row of many columns meet other banks.
extern "C" __global__ void __launch_bounds__(THREADS, 8) simulate(
    GIVEN given, const double* table, unsigned long long begin, unsigned long long end, unsigned kept, double* sums,
    unsigned long long* counted, unsigned long long* cells, double* real, unsigned long long* whole) {
  POOL(pool);
  const unsigned devices = (unsigned)given.integers[I_DEVICES], thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  double* const value = (double*)pool;                            // [SUMS + 1, WIDE]
  double* const total = value + (SUMS + 1) * WIDE;                // [TOGETHER, D, COLUMNS]
  unsigned long long* const integer = (unsigned long long*)(total + TOGETHER * devices * COLUMNS);  // [4, WIDE]
  unsigned long long* const count = integer + 4 * WIDE;           // [TOGETHER, D, COUNTED]
  const unsigned long long first = begin / BLOCK + (unsigned long long)blockIdx.x * TOGETHER, number = first * BLOCK + thread;
  for (unsigned i = thread; i < TOGETHER * devices * COLUMNS; i += THREADS) total[i] = 0.0;
  for (unsigned i = thread; i < TOGETHER * devices * COUNTED; i += THREADS) count[i] = 0;
  integer[thread] = devices;  // nobody's
  if (number >= begin && number < end) {
    const Outcome out = lived(Plan{given.numbers, given.integers, table}, number);
#pragma unroll
    for (unsigned k = 0; k < SUMS; k++) {
      value[k * WIDE + thread] = out.values[k];
      if (kept >> k & 1)
        atomicAdd(&cells[(__popc(kept & ((1u << k) - 1)) * devices + out.whole[2]) * CELLS + cell_of(out.values[k])], 1ull);
    }
    value[SUMS * WIDE + thread] = out.values[AT_SOLVE_S] * out.values[AT_SERVICE_S];
#pragma unroll
    for (unsigned k = 0; k < 4; k++) integer[k * WIDE + thread] = out.whole[2 + k];
    if (real) {
      const unsigned long long rows = end - begin, row = number - begin;
      real[row] = out.rate_hz;
#pragma unroll
      for (unsigned k = 0; k < SUMS; k++) real[(1 + k) * rows + row] = out.values[k];
#pragma unroll
      for (unsigned k = 0; k < 6; k++) whole[k * rows + row] = out.whole[k];
    }
  }
  __syncthreads();
  // A warp for the sums of each block and one for its integers; a lane adds up a column, in order.
  const unsigned block = warp % TOGETHER, begins = block * BLOCK;
  if (warp < TOGETHER) {
    const bool square = lane >= SUMS && lane < 2 * SUMS;
    const double* const from = value + (lane < SUMS ? lane : lane - SUMS) * WIDE + begins;
    double* const into = total + block * devices * COLUMNS + lane;
    for (unsigned i = 0; lane < COLUMNS && i < BLOCK; i++) {
      const unsigned device = (unsigned)integer[begins + i];
      if (device < devices) into[device * COLUMNS] += square ? from[i] * from[i] : from[i];
    }
  } else if (lane < COUNTED) {
    double most = 0.0;
    for (unsigned i = begins; i < begins + BLOCK; i++) {
      const unsigned device = (unsigned)integer[i];
      if (device == devices) continue;
      const unsigned long long hashes = integer[3 * WIDE + i];
      const bool above = 1.0 + value[AT_OVERHEAD * WIDE + i] > 2.0;
      count[(block * devices + device) * COUNTED + lane] +=
          lane == 0 ? 1 : lane < 3 ? integer[lane * WIDE + i] : lane == 3 ? above : lane == 4 ? hashes & LOW32 : hashes >> 32;
      most = value[i] > most ? value[i] : most;
    }
    if (lane == 0) atomicMax(counted + devices * COUNTED, (unsigned long long)__double_as_longlong(most));
  }
  __syncthreads();
  const unsigned long long blocks = (end - 1) / BLOCK - begin / BLOCK + 1;
  for (unsigned i = thread; i < TOGETHER * devices * COLUMNS; i += THREADS) {
    const unsigned long long at = first - begin / BLOCK + i / (devices * COLUMNS);
    if (at < blocks) sums[i % (devices * COLUMNS) * blocks + at] = total[i];
  }
  for (unsigned i = thread; i < TOGETHER * devices * COUNTED; i += THREADS)
    if (count[i]) atomicAdd(&counted[i % (devices * COUNTED)], count[i]);
}

// Adds the blocks of sums [rows, blocks] to total [rows] one after the other, a row by each warp: its lanes bring 32 at
// once. A thread that brings what it adds waits a hundred additions' time for each.
extern "C" __global__ void __launch_bounds__(THREADS) add_blocks(unsigned long long blocks, unsigned rows, const double* sums,
                                                                 double* total) {
  const unsigned row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= rows) return;
  const double* const mine = sums + row * blocks;
  double sum = total[row], next = lane < blocks ? mine[lane] : 0.0;
  for (unsigned long long at = lane; at < blocks + lane; at += 32) {
    const double now = next;
    next = at + 32 < blocks ? mine[at + 32] : 0.0;
#pragma unroll
    for (int k = 0; k < 32; k++) sum += __shfl_sync(~0u, now, k);  // beyond the end zeros, which change nothing
  }
  if (lane == 0) total[row] = sum;
}
