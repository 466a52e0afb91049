// Totals at any number of orders: eight power moments of s = sqrt(-ln q) in cells (moments.py), then one small finish.
//
// v1 (counted, not kept) eight shared-memory float64 adds a row: sm_80 to sm_120 have no such instruction, the compiler
//    makes a compare-and-swap loop of each (ATOMS.CAST.SPIN.64), and the 32 lanes of a warp that meet in one cell take 32
//    turns at each of eight loops. Near-unanimous votes do meet in one cell: some 40 clocks a row against 11.6 that
//    20 G rows/s leave a multiprocessor of an H200. 64-bit integer adds are such loops too; global float64 adds (RED)
//    are native, but 160 G of them a second, most to a few lines, exceed what the L2 cache does.
// v2 a block sorts 2048 rows by cell in shared memory (one native 32-bit ATOMS.ADD a row gives a row its rank), and
//    teams of eight lanes walk equal shares of the sorted rows, a lane for each power, adding in registers; a team adds
//    to the moments in global memory only where the cell changes: 8 RED for some 7 rows, and 8 for 64 rows where all are
//    in one cell. Every number of cells, groups and weights goes the same way.
//
// Counted for sm_90 from the machine code of v2, T=250: at C=10 int16 some 700 instructions to read
// and place a row, 300 to walk it, 30 to sort it: 8 clocks of a multiprocessor by issue (128 a clock), 1.7 by the float64
// pipe; 132 of them at 1.755 to 1.98 GHz give 29 to 33 G rows/s. At C=100 a warp executes 90 instructions for a row, and
// 19 for its share of placing, walking and sorting 32 of them: 27 clocks, 8.5 to 9.6 G rows/s. Measured on an H100 and an
// H200: 25 to 28 G rows/s at C=10, 3.8 to 4.7 at C=100, where warps wait for the sums over their lanes: half of the
// schedulers' slots stay empty. More blocks or two rows at once, as the compiler interleaves them, changed nothing.
//
// Rows that no cell holds (deeper tails than 10,000, soft counts under a threshold, rows that are no votes) are marked,
// and priced one by one by `sum_rows`. Sums of a cell are made in the order in which blocks come: they differ by
// roundings from run to run.
#include "votes.cuh"

#ifndef WEIGHTED
#define WEIGHTED 0
#endif
#ifndef CELLS_SHARED
#define CELLS_SHARED 1
#endif
#define ITEMS 2048u
#define BUCKETS 1024u
#define TEAM 8u
#define DEGREE 8u
#define NONE 0xffffffffu
#define PARTS (CONFIDENT ? 2u : 1u)  // items of a row: its answer, and with a threshold its most votes
#define TILE (ITEMS / PARTS)
#define FACTORS (WEIGHTED || CONFIDENT)

struct Sorter {
  double *t, *w;
  u32 *key, *count;  // count[BUCKETS + 1]: rows by bucket, then where each bucket begins
  unsigned short *rank, *order;
};

INLINE void put(const Sorter& sorter, u32 item, u32 key, double t, double w) {
  sorter.key[item] = key;
  sorter.t[item] = t;
#if FACTORS
  sorter.w[item] = w;
#endif
  if (key != NONE) sorter.rank[item] = (unsigned short)atomicAdd(&sorter.count[key % BUCKETS], 1u);
}

// Where buckets begin, from how many rows they have; BUCKETS = 4 BLOCK.
INLINE void begin_buckets(u32* count, u32* of_warp) {
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  u32 part[4], sum = 0;
#pragma unroll
  for (u32 i = 0; i < 4; i++) {
    part[i] = sum;
    sum += count[4 * threadIdx.x + i];
  }
  u32 before = sum;
#pragma unroll
  for (int step = 1; step < 32; step <<= 1) {
    const u32 other = __shfl_up_sync(ALL, before, step);
    before += lane >= (u32)step ? other : 0u;
  }
  if (lane == 31) of_warp[warp] = before;
  __syncthreads();
  before -= sum;
  for (u32 i = 0; i < warp; i++) before += of_warp[i];
#pragma unroll
  for (u32 i = 0; i < 4; i++) count[4 * threadIdx.x + i] = before + part[i];
  if (threadIdx.x == BLOCK - 1) count[BUCKETS] = before + sum;
  __syncthreads();
}

// A team adds its share of the sorted items to the moments, a lane the power `threadIdx.x % 8`.
INLINE void walk(const Sorter& sorter, double* moments) {
  const u32 items = sorter.count[BUCKETS], teams = BLOCK / TEAM, team = threadIdx.x / TEAM, power = threadIdx.x % TEAM;
  const u32 share = (items + teams - 1) / teams, end = (team + 1) * share < items ? (team + 1) * share : items;
  u32 current = NONE;
  double sum = 0.0;
  for (u32 at = team * share; at < end; at++) {
    const u32 item = sorter.order[at], key = sorter.key[item];
    const double t = sorter.t[item], t2 = t * t, t4 = t2 * t2;
    double part = ((power & 1 ? t : 1.0) * (power & 2 ? t2 : 1.0)) * (power & 4 ? t4 : 1.0);
#if FACTORS
    part *= sorter.w[item];
#endif
    if (key != current) {
      if (current != NONE) atomicAdd(moments + (u64)current * DEGREE + power, sum);
      current = key;
      sum = 0.0;
    }
    sum += part;
  }
  if (current != NONE) atomicAdd(moments + (u64)current * DEGREE + power, sum);
}

// told[0] becomes the least row that cannot be votes; told[1] counts the marked rows. marks: a bit for each row.
extern "C" __global__ void __launch_bounds__(BLOCK, PASS < BLOCK ? 2 : 3)  // long rows fill the shared memory of two
tally(const VOTE* votes, u64 rows, const Plan* given, const double* weights, const u8* realised, const i64* groups,
      double* moments, u32* marks, u64* told) {
  POOL(pool);
  const Plan& plan = *given;
  unsigned char* room = pool;
  const double* tail = place_table(plan, room);
  const double* edges = plan.edges;
#if CELLS_SHARED
  double* here = (double*)room;
  for (u64 i = threadIdx.x; i <= plan.cells; i += BLOCK) here[i] = plan.edges[i];
  room += 8 * (plan.cells + 1);
  edges = here;
#endif
  Sorter sorter;
  sorter.t = (double*)room, room += 8 * ITEMS;
  sorter.w = (double*)room, room += FACTORS ? 8 * ITEMS : 0;
  sorter.key = (u32*)room, room += 4 * ITEMS;
  sorter.count = (u32*)room, room += 4 * (BUCKETS + 4);
  u32* of_warp = (u32*)room;
  room += 4 * 32;
  sorter.rank = (unsigned short*)room, room += 2 * ITEMS;
  sorter.order = (unsigned short*)room, room += 2 * ITEMS;
  unsigned char* raw = (unsigned char*)(((u64)room + 15) & ~15ull);
  for (u64 tile = (u64)blockIdx.x * TILE; tile < rows; tile += (u64)gridDim.x * TILE) {
    __syncthreads();  // the tile before has been walked
    for (u32 i = threadIdx.x; i < BUCKETS; i += BLOCK) sorter.count[i] = 0;
    __syncthreads();
    for (u32 pass = 0; pass < TILE; pass += PASS) {
      const u64 first = tile + pass, row = first + threadIdx.x;
      const u32 n = first >= rows ? 0 : rows - first < PASS ? (u32)(rows - first) : PASS;
      const Found found = read_rows(plan, tail, votes, first, n, raw);
      const bool there = threadIdx.x < n;
      bool left = false;
      u32 key = NONE, other = NONE;
      double t = 0.0, w = 1.0, count = 1.0;
      if (there) {
        const double less = -log_of(plan, found.q);
#if CONFIDENT
        const bool known = found.top < (double)plan.size && found.top == floor(found.top);
#else
        const bool known = true;
#endif
        left = !(less <= plan.most) || !known;  // NaN too
        if (!(found.top >= 0.0)) atomicMin(told, row);
        if (!left) {
          const double s = sqrt(less);
          const u32 at = less < EVEN * EVEN ? (u32)(s * PER_S) : (u32)(EVEN * PER_S + (less - EVEN * EVEN) * PER_SQUARE);
          u32 cell = (u32)plan.first[at];
          while (s >= edges[cell + 1]) cell++;
          t = ((s - edges[cell]) - (edges[cell + 1] - s)) / (edges[cell + 1] - edges[cell]);
          const u32 base = groups ? (u32)groups[row] * (u32)plan.stride : 0u;
          key = base + cell;
#if FACTORS
          count = w = weights ? weights[row] : 1.0;
#endif
#if CONFIDENT
          w *= realised ? (double)realised[row] : plan.answered[(u32)found.top];
          other = base + (u32)plan.cells + (u32)found.top;
#endif
        }
      }
      if (threadIdx.x < PASS) {
        put(sorter, pass + threadIdx.x, key, t, w);
        if (PARTS == 2) put(sorter, TILE + pass + threadIdx.x, other, 0.0, count);
      }
      const u32 some = __ballot_sync(ALL, left);
      if (threadIdx.x % 32 == 0 && there) {
        marks[row / 32] = some;
        if (some) atomicAdd(told + 1, (u64)__popc(some));
      }
    }
    __syncthreads();
    begin_buckets(sorter.count, of_warp);
    for (u32 i = threadIdx.x; i < ITEMS; i += BLOCK) {
      const u32 key = sorter.key[i];
      if (key != NONE) sorter.order[sorter.count[key % BUCKETS] + sorter.rank[i]] = (unsigned short)i;
    }
    __syncthreads();
    walk(sorter, moments);
  }
}
