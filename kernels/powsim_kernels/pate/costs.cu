// Costs [N, L] of rows whose ln q and most votes are known, eps of each, eps as they add up, and sums row by row.
//
// `price`: a thread a row, orders in runs of eight by recurrence (one logarithm and four multiply-adds an order instead of
// four exponentials); a warp turns 32 rows by 16 orders in shared memory, so that 128 bytes are stored at a time.
#include "steps.cuh"

#ifndef COST  // type of the costs stored
#define COST double
#endif
#ifndef POOL
#define POOL(name) extern __shared__ __align__(16) unsigned char name[]
#endif
#define ALL 0xffffffffu
#define WARPS 4  // of a block
#define WIDE 16  // orders of a tile
#define STRIP 16  // rows summed before their sum is passed on

// Fills out [n, L]; realised: null for expectations.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
price(const double* lnq, const double* top, const u8* realised, u64 rows, const Plan* given, COST* out) {
  __shared__ COST tile[WARPS][32][WIDE + 1];
  const Plan& plan = *given;
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (u64 first = 32 * ((u64)blockIdx.x * WARPS + warp); first < rows; first += 32 * (u64)gridDim.x * WARPS) {
    const u64 row = first + lane < rows ? first + lane : rows - 1;
    const State state = state_of(plan, lnq[row], top[row], realised, row);
    const u32 n = rows - first < 32 ? (u32)(rows - first) : 32;
    for (u64 at = 0; at < plan.orders; at += WIDE) {
#pragma unroll 1
      for (u32 part = 0; part < WIDE; part += RUN) {
        double costs[RUN];
        if (at + part < plan.orders) {
          const u64 left = plan.orders - at - part;
          costs_of(plan, state, at + part, left < RUN ? (u32)left : RUN, costs);
#pragma unroll
          for (u32 j = 0; j < RUN; j++) tile[warp][lane][part + j] = (COST)costs[j];
        }
      }
      __syncwarp();
      for (u32 r = lane / WIDE; r < n; r += 32 / WIDE)
        if (at + lane % WIDE < plan.orders) out[(first + r) * plan.orders + at + lane % WIDE] = tile[warp][r][lane % WIDE];
      __syncwarp();
    }
  }
}

// The least of cost + extra over the orders, at least 0, and the first order that has it.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
best_orders(const double* lnq, const double* top, u64 rows, const Plan* given, const double* extra, double* eps, i64* index) {
  const Plan& plan = *given;
  const u64 row = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= rows) return;
  const State state = state_of(plan, lnq[row], top[row], nullptr, row);
  double best = 0.0;
  i64 which = 0;
  for (u64 at = 0; at < plan.orders; at += RUN) {
    double costs[RUN];
    const u32 n = plan.orders - at < RUN ? (u32)(plan.orders - at) : RUN;
    costs_of(plan, state, at, n, costs);
#pragma unroll
    for (u32 j = 0; j < RUN; j++) {
      if (j >= n) continue;
      const double now = costs[j] + extra[at + j];
      if (at + j == 0 || now < best) best = now, which = (i64)(at + j);
    }
  }
  eps[row] = best < 0.0 ? 0.0 : best;  // NaN stays
  index[row] = which;
}

// ln Pr[answered] by most votes.
extern "C" __global__ void answered(const double* top, u64 rows, const Plan* given, double* out) {
  const u64 row = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (row < rows) out[row] = log_phi((top[row] - given->threshold) / given->sigma1);
}

// What the threshold step costs by most votes, [n, L].
extern "C" __global__ void thresholds(const double* top, u64 rows, const Plan* given, double* out) {
  const Plan& plan = *given;
  const u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x, row = i / plan.orders;
  if (row >= rows) return;
  const State state = state_of(plan, -1.0, top[row], nullptr, row);
  out[i] = top[row] >= 0.0 ? gate_cost(plan, state, i % plan.orders) : NOT_A_NUMBER;
}

// mu from which theorem 6 holds at each order and, with clip, lies below order / sigma^2: costs.py's bisection.
extern "C" __global__ void crossings(const double* orders, u64 n, const double* law, u64 clip, double* out) {
  const u64 at = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= n) return;
  const double sigma = law[0], order = orders[at], k = order - 1.0, ceiling = order / (sigma * sigma);
  const auto above = [&](double mu) {
    const double root = mu / sigma;
    Row row = shape(root * root, sigma);
    row.mu = mu;
    return theorem_6(row, k) > ceiling;
  };
  double low = fmax(law[1], nextafter(k, 2.0 * k + 1.0));
  while (low + 1.0 <= order) low = nextafter(low, 2.0 * low + 1.0);  // the condition is order < mu + 1 as rounded
  out[at] = low;
  if (!clip || !above(low)) return;
  double high = 2.0 * low + 10.0 * sigma;
  while (above(high)) high *= 2.0;
  for (;;) {
    const double middle = 0.5 * (low + high);
    if (!(low < middle && middle < high)) break;
    if (above(middle)) low = middle; else high = middle;
  }
  out[at] = high;
}

// Adds rows to sums [G, L] one by one: those marked, or all where marks is null. A warp takes 32 rows, its lanes orders.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
sum_rows(const double* lnq, const double* top, const double* weights, const u8* realised, const i64* groups,
         const u32* marks, u64 rows, const Plan* given, double* sums) {
  __shared__ State states[WARPS][32];
  const Plan& plan = *given;
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u64 first = 32 * ((u64)blockIdx.x * WARPS + warp);
  if (first >= rows) return;
  const u32 n = rows - first < 32 ? (u32)(rows - first) : 32;
  const u32 marked = (marks ? marks[first / 32] : ALL) & (n < 32 ? (1u << n) - 1u : ALL);
  if (!marked) return;
  const u64 row = first + lane;
  if (lane < n) states[warp][lane] = state_of(plan, lnq[row], top[row], realised, row);
  __syncwarp();
  for (u64 at = lane; at < plan.orders; at += 32) {
    double sum = 0.0;
    i64 group = -1;
    for (u32 r = 0; r < n; r++) {
      if (!(marked >> r & 1u)) continue;
      const i64 its = groups ? groups[first + r] : 0;
      if (its != group && group >= 0) {
        atomicAdd(sums + (u64)group * plan.orders + at, sum);
        sum = 0.0;
      }
      group = its;
      sum += (weights ? weights[first + r] : 1.0) * cost_of(plan, states[warp][r], at);
    }
    atomicAdd(sums + (u64)group * plan.orders + at, sum);
  }
}

#if !LNMAX  // LNMax has no moments
// Adds to sums [G, L] what the rows in moments [G, stride, 8] cost; a block for each group and order.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
finish(const double* moments, const Plan* given, double* sums) {
  __shared__ double parts[32 * WARPS];
  const Plan& plan = *given;
  const Step& step = plan.answer;
  const u64 group = blockIdx.x / plan.orders, at = blockIdx.x % plan.orders;
  const double* mine = moments + group * plan.stride * 8;
  double sum = 0.0;
  for (u64 cell = threadIdx.x; cell < plan.cells; cell += blockDim.x) {
    const double* m = mine + 8 * cell;
    if (m[0] == 0.0) continue;
    const double middle = 0.5 * (plan.edges[cell + 1] + plan.edges[cell]), mu = step.sigma * middle;
    if (!(mu >= step.cross[at])) {
      sum += m[0] * step.ceiling[at];
      continue;
    }
    if (mu > step.far) continue;
    const double half = 0.5 * (plan.edges[cell + 1] - plan.edges[cell]);
    for (u32 node = 0; node < 8; node++) {
      double share = 0.0;
      for (u32 power = 0; power < 8; power++) share += plan.basis[8 * node + power] * m[power];
      const double s = middle + plan.nodes[node] * half;
      sum += share * theorem_6(shape(s * s, step.sigma), step.k[at]);
    }
  }
#if CONFIDENT
  for (u64 most = threadIdx.x; most < plan.size; most += blockDim.x) {
    const double count = mine[8 * (plan.cells + most)];
    if (count != 0.0) sum += count * gate_cost(plan, state_of(plan, -1.0, (double)most, nullptr, 0), at);
  }
#endif
  parts[threadIdx.x] = sum;
  __syncthreads();
  for (u32 half = 16 * WARPS; half; half /= 2) {
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) sums[group * plan.orders + at] += parts[0];
}
#endif

// Sums of strips of rows at each order, [strips, L].
extern "C" __global__ void strip_sums(const double* costs, u64 rows, u64 orders, double* sums) {
  const u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x, first = i / orders * STRIP, at = i % orders;
  if (first >= rows) return;
  double sum = 0.0;
  for (u64 row = first; row < first + STRIP && row < rows; row++) sum += costs[row * orders + at];
  sums[i] = sum;
}

// Turns sums of strips into what was spent before each, and adds them to spent [L]; a warp for each order.
extern "C" __global__ void strip_starts(double* sums, u64 strips, u64 orders, double* spent) {
  const u64 at = blockIdx.x;
  const u32 lane = threadIdx.x % 32;
  double before = spent[at];
  for (u64 first = 0; first < strips; first += 32) {
    const double mine = first + lane < strips ? sums[(first + lane) * orders + at] : 0.0;
    double upto = mine;
#pragma unroll
    for (int step = 1; step < 32; step <<= 1) {
      const double other = __shfl_up_sync(ALL, upto, step);
      upto += lane >= (u32)step ? other : 0.0;
    }
    double ahead = __shfl_up_sync(ALL, upto, 1);  // not upto - mine, which would cancel
    ahead = lane ? ahead : 0.0;
    if (first + lane < strips) sums[(first + lane) * orders + at] = before + ahead;
    before += __shfl_sync(ALL, upto, 31);
  }
  if (lane == 0) spent[at] = before;
}

INLINE double least(double a, double b) { return b < a || b != b ? b : a; }  // NaN wins

INLINE double warp_least(double x) {
#pragma unroll
  for (int step = 16; step; step >>= 1) x = least(x, __shfl_xor_sync(ALL, x, step));
  return x;
}

// eps after each row; sums [strips, L]: what was spent before each strip, and changed. A warp for each strip.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
strip_eps(const double* costs, u64 rows, u64 orders, double* sums, const double* extra, double* eps) {
  const u32 lane = threadIdx.x % 32;
  const u64 strip = (u64)blockIdx.x * WARPS + threadIdx.x / 32;
  double* spent = sums + strip * orders;
  for (u64 row = strip * STRIP; row < (strip + 1) * STRIP && row < rows; row++) {
    double best = 1e308;
    for (u64 at = lane; at < orders; at += 32) {
      spent[at] += costs[row * orders + at];
      best = least(best, spent[at] + extra[at]);
    }
    best = warp_least(best);
    if (lane == 0) eps[row] = best < 0.0 ? 0.0 : best;
  }
}

// eps after each row of the row's own group; spent [G, L] goes on. A warp goes through all rows and takes the groups that
// fall to it, so that no two meet: simple, not fast.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
group_eps(const double* costs, u64 rows, u64 orders, const i64* groups, double* spent, const double* extra, double* eps) {
  const u32 lane = threadIdx.x % 32;
  const u64 warp = (u64)blockIdx.x * WARPS + threadIdx.x / 32, warps = (u64)gridDim.x * WARPS;
  for (u64 row = 0; row < rows; row++) {
    if ((u64)groups[row] % warps != warp) continue;
    double* mine = spent + (u64)groups[row] * orders;
    double best = 1e308;
    for (u64 at = lane; at < orders; at += 32) {
      mine[at] += costs[row * orders + at];
      best = least(best, mine[at] + extra[at]);
    }
    best = warp_least(best);
    if (lane == 0) eps[row] = best < 0.0 ? 0.0 : best;
  }
}
