// What every PATE kernel knows of its plan, and what one row costs at one order or at a run of eight.
#pragma once
#include "bounds.cuh"

#ifndef LNMAX
#define LNMAX 0
#endif
#ifndef CONFIDENT  // 1: a threshold decides which queries are answered, priced by theorem 6; 2: priced exactly
#define CONFIDENT 0
#endif
#define RUN 8      // orders after which errors of a run are cut off

// One Gaussian step with its orders; cuda.py lays it out in this order.
struct Step {
  double sigma, least, far;  // far: mu from which every cost is below 1e-300
  const double* k;           // [L] order - 1
  const double* over;        // [L] 1 / k
  const double* ceiling;     // [L] order / sigma^2
  const double* cross;       // [L] mu from which theorem 6 is the cost
  const double* low;         // [L] the least of `cross` among this order and the next seven
  const i64* even;           // [L] how many orders from this one on, at most 8, are evenly spaced
};

struct Plan {
  Step answer, gate;
  double threshold, sigma1, cap, voters;
  const double *tail, *logs, *answered;  // by gap 0..size-1: chance, its logarithm; by most votes: Pr[answered]
  const double* edges;                   // [cells + 1] of the axis of s = sqrt(-ln q)
  const i64* first;                      // [] cell in which each step of the finder begins
  const double *nodes, *basis;           // [8], [8, 8]
  double most;                           // -ln q that the cells reach
  u64 size, cells, stride, orders, classes;
};

// A row as its costs need it.
struct State { Row answer, gate; double lnq, x, factor; };

INLINE double answered_of(const Plan& plan, double top) { return exp(log_phi((top - plan.threshold) / plan.sigma1)); }

INLINE State state_of(const Plan& plan, double lnq, double top, const u8* realised, u64 row) {
  State state;
  state.lnq = lnq;
  state.x = 0.0;
  state.factor = 1.0;
#if !LNMAX
  state.answer = shape(-lnq, plan.answer.sigma);
#endif
#if CONFIDENT
  state.x = fabs((plan.threshold - top) / plan.sigma1);
  state.factor = realised ? (double)realised[row] : answered_of(plan, top);
#endif
#if CONFIDENT == 1
  state.gate = shape(-log_phi(-state.x), plan.gate.sigma);
#endif
  return state;
}

INLINE double step_cost(const Row& row, const Step& step, u64 at) {
  return row.mu >= step.cross[at] ? theorem_6(row, step.k[at]) : step.ceiling[at];
}

INLINE double answer_cost(const Plan& plan, const State& state, u64 at) {
#if LNMAX
  return rdp_lnmax(state.lnq, plan.answer.sigma, plan.answer.k[at]);
#else
  return step_cost(state.answer, plan.answer, at);
#endif
}

INLINE double gate_cost(const Plan& plan, const State& state, u64 at) {
#if CONFIDENT == 1
  return step_cost(state.gate, plan.gate, at);
#elif CONFIDENT == 2
  return rdp_screening(state.x, plan.sigma1, plan.answer.k[at]);
#else
  return 0.0;
#endif
}

// What the row costs at one order; NaN for a row that cannot be votes.
INLINE double cost_of(const Plan& plan, const State& state, u64 at) {
  if (!(state.lnq <= 0.0)) return NOT_A_NUMBER;
  return state.factor * answer_cost(plan, state, at) + gate_cost(plan, state, at);
}

// Costs of one step at the n <= 8 orders from `at` on. Evenly spaced ones by recurrence: with E = expm1(k ln A) and
// D = q expm1(k ln B), a step d of k takes E to E + g (1 + E) and D to D + h (D + q), g = expm1(d ln A), h =
// expm1(d ln B): only positive terms, and one logarithm an order.
INLINE void step_costs(const Row& row, const Step& step, u64 at, u32 n, double (&out)[RUN]) {
#pragma unroll
  for (u32 j = 0; j < RUN; j++) out[j] = j < n ? step.ceiling[at + j] : 0.0;
  if (!(row.mu >= step.low[at])) return;
  const double k = step.k[at], d = n > 3 ? step.k[at + 1] - k : 0.0;
  const bool runs = n > 3 && step.even[at] >= (i64)n && row.less < 690.0 && row.mu * row.lb < LARGEST_EXPONENT &&
                    row.mu * row.la < LARGEST_EXPONENT && d * row.lb < LARGEST_EXPONENT;
  if (!runs) {
    for (u32 j = 0; j < n; j++) {
      const double found = step_cost(row, step, at + j);
#pragma unroll
      for (u32 i = 0; i < RUN; i++) out[i] = i == j ? found : out[i];  // an index known only later would cost local memory
    }
    return;
  }
  const double bounded = fmin(k, row.mu), rise = bounded * row.lb;  // beyond mu nothing holds, and exp could overflow
  double up = expm1(bounded * row.la), risen = exp(rise - row.less) * -expm1(-rise);
  const double g = expm1(d * row.la), h = expm1(d * row.lb), add = exp(-row.less) * h;
#pragma unroll
  for (u32 j = 0; j < RUN; j++) {
    if (j < n) {
      const double found = log1p(row.keep * up + risen) * step.over[at + j];
      if (row.mu >= step.cross[at + j]) out[j] = found;
      up += g + g * up;
      risen += add + h * risen;
    }
  }
}

INLINE void costs_of(const Plan& plan, const State& state, u64 at, u32 n, double (&out)[RUN]) {
#if LNMAX || CONFIDENT == 2
  for (u32 j = 0; j < n; j++) {
    const double found = cost_of(plan, state, at + j);
#pragma unroll
    for (u32 i = 0; i < RUN; i++) out[i] = i == j ? found : out[i];
  }
#else
  step_costs(state.answer, plan.answer, at, n, out);
#if CONFIDENT
  double more[RUN];
  step_costs(state.gate, plan.gate, at, n, more);
#pragma unroll
  for (u32 j = 0; j < RUN; j++) out[j] = state.factor * out[j] + more[j];
#endif
#pragma unroll
  for (u32 j = 0; j < RUN; j++) out[j] = state.lnq <= 0.0 ? out[j] : NOT_A_NUMBER;
#endif
}
