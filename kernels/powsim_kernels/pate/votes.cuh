// From votes to ln q and the most votes of a row.
//
// Up to 32 classes: a thread takes a row. A block copies its rows to shared memory in 16-byte words, as they lie, one
// word of room after every 32, so that rows of any length are read without more than chance conflicts of banks.
// More classes: a warp takes a row, lanes its classes; what remains to do with q is done for 32 rows at once, a lane
// each, since 31 idle lanes would cost more than the sums.
// Whole counts look their tails up (tally.py's table, in shared memory where it fits); others sum scaled erfcx. All
// types of votes are summed in one order, so that the type changes no bit.
#pragma once
#include "steps.cuh"

#ifndef CLASSES  // up to 32; 0: a warp takes a row
#define CLASSES 0
#endif
#ifndef PER  // classes of a lane where a warp takes a row, up to 8; 0: more, read again from the caches where needed
#define PER 0
#endif
#ifndef VOTE
#define VOTE short
#endif
#ifndef WHOLE  // votes are of an integer type, and the table reaches every gap
#define WHOLE 1
#endif
#ifndef TABLE_SHARED
#define TABLE_SHARED 1
#endif
#ifndef POOL
#define POOL(name) extern __shared__ __align__(16) unsigned char name[]
#endif
#define BLOCK 256
#define ALL 0xffffffffu
#define NARROW (CLASSES > 0)
#define ROW_BYTES ((u32)(CLASSES * sizeof(VOTE)))
#define PASS (NARROW && CLASSES * sizeof(VOTE) > 128 ? 128u : 256u)  // rows that a block reads at a time
#define SKEWED(byte) ((byte) + 4u * ((byte) >> 7))

struct Found { double q, top; };  // q, or where q has lost digits its logarithm, which is negative; NaN: no votes

INLINE Found no_votes() { return Found{NOT_A_NUMBER, NOT_A_NUMBER}; }

// ln q, at most ln(1 - 1/C).
INLINE double log_of(const Plan& plan, double q) {
  const double found = q > 0.0 ? log(q) : q;
  return found > plan.cap ? plan.cap : found;
}

// A class's part of a soft row's q, near being the runner-up's distance: linear where nothing underflows, else scaled.
INLINE double soft_term(double x, double near) {
#if LNMAX
  return (2.0 + x) / 4.0 * exp(near - x);
#else
  return near < UNDERFLOW_NEAR ? 0.5 * erfc(x) : 0.5 * exp((near - x) * (near + x)) * erfcx(x);
#endif
}

// q or its logarithm from a soft row's sum.
INLINE double soft_q(double total, double near) {
#if LNMAX
  const double found = log(total) - near;
#else
  const double found = near < UNDERFLOW_NEAR ? log(total) : log(total) - near * near;
#endif
  return found < 0.0 ? found : exp(found);
}

INLINE double distance(const Plan& plan, double gap) { return gap / (LNMAX ? plan.answer.sigma : 2.0 * plan.answer.sigma); }

INLINE bool allowed(VOTE vote, double voters) {
#if WHOLE
  return sizeof(VOTE) < 8 ? (u32)(int)vote <= (u32)voters : (u64)(i64)vote <= (u64)voters;  // negative ones are large
#else
  return (double)vote >= 0.0 && (double)vote <= voters;  // NaN compares false
#endif
}

#if NARROW
// Copies bytes [0, size) after `votes` to shared memory; returns by how many bytes their begin lies behind a word.
INLINE u32 stage(const VOTE* votes, u32 size, unsigned char* raw) {
  const u32 off = (u32)((u64)votes & 15u), end = off + size;
  const unsigned char* base = (const unsigned char*)votes - off;
  for (u32 p = 16u * threadIdx.x; p < end; p += 16u * BLOCK) {
    if (p >= off && p + 16u <= end) {
      const uint4 word = __ldg((const uint4*)(base + p));
      u32* to = (u32*)(raw + SKEWED(p));
      to[0] = word.x, to[1] = word.y, to[2] = word.z, to[3] = word.w;
    } else {
      for (u32 at = p < off ? off : p; at < p + 16u && at < end; at++) raw[SKEWED(at)] = base[at];
    }
  }
  return off;
}

INLINE VOTE vote_at(const unsigned char* raw, u32 byte) {
  const unsigned char* at = raw + SKEWED(byte);
  if (sizeof(VOTE) < 8) return *(const VOTE*)at;
  const u64 both = (u64)((const u32*)at)[1] << 32 | ((const u32*)at)[0];  // eight bytes may begin at any word
  VOTE vote;
  memcpy(&vote, &both, sizeof(VOTE));
  return vote;
}

// q of whole counts, the winner left out by counting ties; its logarithm where it has lost digits.
INLINE double table_q(const Plan& plan, const double* tail, const int (&counts)[CLASSES], int most) {
  double sums[4] = {0.0, 0.0, 0.0, 0.0};
  int ties = 0;
#pragma unroll
  for (int j = 0; j < CLASSES; j++) {
    const int gap = most - counts[j];
    sums[j & 3] += tail[gap];
    ties += gap == 0;
  }
  const double q = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + 0.5 * (double)(ties - 1);
  if (q > LEAST_LINEAR) return q;
  int second = -1;
#pragma unroll
  for (int j = 0; j < CLASSES; j++) second = counts[j] < most && counts[j] > second ? counts[j] : second;
  const double lead = plan.logs[most - second];
  double scaled = 0.0;
#pragma unroll
  for (int j = 0; j < CLASSES; j++)
    if (counts[j] < most) scaled += exp(plan.logs[most - counts[j]] - lead);
  return lead + log(scaled);
}

// Reads rows first .. first + n - 1, n <= PASS, by all threads of the block; thread i returns row i's, if i < n.
INLINE Found read_rows(const Plan& plan, const double* tail, const VOTE* votes, u64 first, u32 n, unsigned char* raw) {
  __syncthreads();  // the rows before have been read
  const u32 off = stage(votes + first * CLASSES, n * ROW_BYTES, raw);
  __syncthreads();
  if (threadIdx.x >= n) return no_votes();
  const u32 begin = off + threadIdx.x * ROW_BYTES;
  bool good = true;
#if !WHOLE
  double soft[CLASSES], high = 0.0;
  bool whole = true;
#pragma unroll
  for (int j = 0; j < CLASSES; j++) {
    const VOTE vote = vote_at(raw, begin + j * (u32)sizeof(VOTE));
    good &= allowed(vote, plan.voters);
    soft[j] = (double)vote;
    high = soft[j] > high ? soft[j] : high;
    whole &= soft[j] == floor(soft[j]);
  }
  if (!good) return no_votes();
  if (!whole || !(high < (double)plan.size)) {
    int ties = 0;
    double second = -1.0, total;
#pragma unroll
    for (int j = 0; j < CLASSES; j++) {
      ties += soft[j] == high;
      second = soft[j] < high && soft[j] > second ? soft[j] : second;
    }
    const double near = ties > 1 ? 0.0 : distance(plan, high - second);
    total = 0.5 * (double)(ties - 1);  // a tied class wins half of the time
#pragma unroll
    for (int j = 0; j < CLASSES; j++)
      if (soft[j] < high) total += soft_term(distance(plan, high - soft[j]), near);
    return Found{soft_q(total, near), high};
  }
#endif
  int counts[CLASSES], most = 0;
#pragma unroll
  for (int j = 0; j < CLASSES; j++) {
    const VOTE vote = vote_at(raw, begin + j * (u32)sizeof(VOTE));
    const bool fine = allowed(vote, plan.voters);
    good &= fine;
    counts[j] = fine ? (int)vote : 0;  // no index leaves the table
    most = counts[j] > most ? counts[j] : most;
  }
  if (!good) return no_votes();
  return Found{table_q(plan, tail, counts, most), (double)most};
}

#else
#define HELD (PER > 0)
#if HELD
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED _Pragma("unroll 4")
#endif

INLINE double warp_sum(double x) {
#pragma unroll
  for (int step = 16; step; step >>= 1) x += __shfl_xor_sync(ALL, x, step);
  return x;
}

INLINE double warp_max(double x) {
#pragma unroll
  for (int step = 16; step; step >>= 1) x = fmax(x, __shfl_xor_sync(ALL, x, step));
  return x;
}

// One instruction from sm_80 on.
template <class T>  // int or u32
INLINE T warp_max(T x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return __reduce_max_sync(ALL, x);
#else
#pragma unroll
  for (int step = 16; step; step >>= 1) {
    const T other = __shfl_xor_sync(ALL, x, step);
    x = other > x ? other : x;
  }
  return x;
#endif
}

INLINE int warp_count(int x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  return __reduce_add_sync(ALL, x);
#else
#pragma unroll
  for (int step = 16; step; step >>= 1) x += __shfl_xor_sync(ALL, x, step);
  return x;
#endif
}

// Whether lane holds a class in its i-th place: in every place but the last it does.
#define THERE(i) ((HELD && (i) + 1 < per) || 32 * (i) + lane < classes)

// A count as the table knows it; whatever is no count of votes becomes more than the voters.
INLINE u32 natural(VOTE vote) {
#if WHOLE
  return sizeof(VOTE) < 8 ? (u32)(int)vote : (u64)(i64)vote > 0x7fffffffull ? 0x7fffffffu : (u32)(i64)vote;
#else
  return (u32)vote;
#endif
}

// ln q of a row whose q has lost digits: terms scaled by the runner-up's. Out of the way of the other rows.
template <class Count>
INLINE double wide_deep(const Plan& plan, const Count& count, int most, u32 lane) {
  const u32 classes = (u32)plan.classes;
  const int per = HELD ? PER : (int)(classes + 31) / 32;
  int second = -1;
  UNROLLED
  for (int i = 0; i < per; i++) second = THERE(i) && count(i) < most && count(i) > second ? count(i) : second;
  second = warp_max(second);
  const double lead = plan.logs[most - second];
  double scaled = 0.0;
  UNROLLED
  for (int i = 0; i < per; i++)
    if (THERE(i) && count(i) < most) scaled += exp(plan.logs[most - count(i)] - lead);
  return lead + log(warp_sum(scaled));
}

// A whole row by a warp. Every lane returns the same.
template <class Count>
INLINE double wide_q(const Plan& plan, const double* tail, const Count& count, int most, u32 lane) {
  const u32 classes = (u32)plan.classes;
  const int per = HELD ? PER : (int)(classes + 31) / 32;
  double sum = 0.0;
  int ties = 0;
  UNROLLED
  for (int i = 0; i < per; i++) {
    if (!THERE(i)) continue;
    const int now = count(i);
    sum += tail[most - now];
    ties += now == most;
  }
  const double q = warp_sum(sum) + 0.5 * (double)(warp_count(ties) - 1);
  return q > LEAST_LINEAR ? q : wide_deep(plan, count, most, lane);
}

INLINE double wide_soft(const Plan& plan, const VOTE* row, double high, u32 lane) {
  const u32 classes = (u32)plan.classes;
  u32 ties = 0;
  double second = -1.0, total = 0.0;
  for (u32 j = 0; j < classes; j += 32) {
    const double vote = j + lane < classes ? (double)row[j + lane] : -1.0;
    ties += __popc(__ballot_sync(ALL, vote == high));
    second = vote < high && vote > second ? vote : second;
  }
  second = warp_max(second);
  const double near = ties > 1 ? 0.0 : distance(plan, high - second);
  for (u32 j = lane; j < classes; j += 32)
    if ((double)row[j] < high) total += soft_term(distance(plan, high - (double)row[j]), near);
  return soft_q(warp_sum(total) + 0.5 * (double)((int)ties - 1), near);
}

INLINE Found wide_row(const Plan& plan, const double* tail, const VOTE* row, u32 lane) {
  const u32 classes = (u32)plan.classes;
  const int per = HELD ? PER : (int)(classes + 31) / 32;
#if !WHOLE
  bool good = true, whole = true;
  double high = 0.0;
  for (u32 j = lane; j < classes; j += 32) {
    const double vote = (double)row[j];
    good &= allowed(row[j], plan.voters);
    high = vote > high ? vote : high;
    whole &= vote == floor(vote);
  }
  if (__ballot_sync(ALL, !good)) return no_votes();
  high = warp_max(high);
  if (__ballot_sync(ALL, !whole) || !(high < (double)plan.size)) return Found{wide_soft(plan, row, high, lane), high};
#endif
#if HELD
  int held[PER];
#endif
  u32 most = 0;
  UNROLLED
  for (int i = 0; i < per; i++) {
    const u32 now = THERE(i) ? natural(__ldg(row + 32 * i + lane)) : 0u;
    most = now > most ? now : most;
#if HELD
    held[i] = (int)now;
#endif
  }
  most = warp_max(most);
#if WHOLE
  if (most > (u32)plan.voters) return no_votes();  // no index leaves the table
#endif
#if HELD
  const auto count = [&](int i) { return held[i]; };
#else
  const auto count = [&](int i) { return (int)natural(__ldg(row + 32 * i + lane)); };
#endif
  return Found{wide_q(plan, tail, count, (int)most, lane), (double)most};
}

// As above; rows of a warp are those of its lanes.
INLINE Found read_rows(const Plan& plan, const double* tail, const VOTE* votes, u64 first, u32 n, unsigned char* raw) {
  const u32 lane = threadIdx.x % 32, begin = threadIdx.x - lane;
  Found mine = no_votes();
  const VOTE* row = votes + (first + begin) * plan.classes;
  for (u32 r = 0; r < 32 && begin + r < n; r++, row += plan.classes) {
    const Found found = wide_row(plan, tail, row, lane);
    if (r == lane) mine = found;
  }
  return mine;
}
#endif

// The table of tails, in shared memory where the host found it to fit; `room` moves behind it.
INLINE const double* place_table(const Plan& plan, unsigned char*& room) {
#if TABLE_SHARED
  double* tail = (double*)room;
  for (u64 i = threadIdx.x; i < plan.size; i += BLOCK) tail[i] = plan.tail[i];
  room += 8 * ((plan.size + 1) & ~1ull);
  __syncthreads();
  return tail;
#else
  return plan.tail;
#endif
}
