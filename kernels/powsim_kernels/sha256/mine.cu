// The SHA-256 miner: the lowest nonces of many puzzles at once.
//
// v1 one puzzle per grid row, grid-stride over its nonces, any thread that hits ends the search: not kept, a batch of
//    easy puzzles leaves most threads idle and the range above the winner is searched in vain.
// v2 persistent warps draw tickets; a ticket is a tile of up to 2^13 consecutive nonces of one puzzle; the lowest nonce
//    by atomicMin. Counted for sm_90, word 9: 16.2 SM clocks per hash, all on the ALU pipe.
// v3 additions and plain shifts moved to the multiply pipe (sha256.cuh): counted 12.0 clocks, 11.2 at word 12.
// Measured on an H100 and an H200, alike: v2 16.5 and 15.4 clocks; v3 14.8 and 13.7; with additions alone moved 14.7 and
// 13.6, which is 17.8 and 19.3 GH/s. Both pipes do overlap (127 of 128 shifts and multiply-adds a clock), but the high half
// of a product does not: three shifts and one of them take four slots, so that shifts as products gain nothing.
//
// The host's part, how rows become tickets, stands in tiles.py.
#include "sha256.cuh"

#ifndef LANES  // the host build for volume runs a warp as a single lane
#define LANES 32
#endif
#ifndef MINB  // resident blocks per multiprocessor that the registers must allow
#define MINB 4
#endif
#define BLOCK 128
#ifndef PAUSE  // steps of a warp between two looks at what the others found: 64 take about 0.2 ms
#define PAUSE 64
#endif
#define ALL 0xffffffffu

// A puzzle's range of nonces: begin .. begin + count - 1, count > 0.
struct Row {
  u64 begin, count;
  u64 limit;      // the first 64 bits of a solving digest are at most this
  u32 puzzle;     // its row in midstate and tail
  u8 tile_bits;   // its tiles hold the nonces that agree in all but this many low bits; at most `width`
  u8 width;       // how many low bits of the nonce stand in block word NW, from its top: 8, 16, 24 or 32
  u8 unused[2];
};

// Tickets ticket .. next segment's ticket - 1: the tiles `level`, `level` + 1, .. of the first `rows` rows, in turn.
struct Segment { u64 ticket, level, rows; };

// The puzzle's hash value and last block with this nonce in it.
INLINE void assemble(const Row& row, const u32* midstate, const u32* tail, u64 nonce, u32 (&hash)[8], u32 (&w)[16]) {
#pragma unroll
  for (int i = 0; i < 8; i++) hash[i] = midstate[8 * (u64)row.puzzle + i];
#pragma unroll
  for (int i = 0; i < 16; i++) w[i] = tail[16 * (u64)row.puzzle + i];
  const u64 upper = nonce >> row.width;
  w[NW] |= (u32)nonce << (32 - row.width);
  w[NW - 1] |= (u32)upper;
#if NW > 1
  w[NW - 2] |= (u32)(upper >> 32);
#endif
}

// Whether `nonce`, whose first digest word equals the limit's, solves: settled by the second word, once in 2^32.
static __device__ __noinline__ bool confirm(const Row* row, const u32* midstate, const u32* tail, u64 nonce) {
  u32 hash[8], w[16];
  assemble(*row, midstate, tail, nonce, hash, w);
  absorb(hash, w);
  return ((u64)hash[0] << 32 | hash[1]) <= row->limit;
}

// The segment that holds a ticket: the lanes look at as many of the sorted starts at a time, which leaves one part of 33.
INLINE u32 segment_of(u64 ticket, const Segment* segments, u32 size, u32 lane) {
  u32 first = 0;
  while (size > 1) {
    const u32 step = (size + LANES) / (LANES + 1), mine = (lane + 1) * step;
    const u32 below = __ballot_sync(ALL, mine < size && segments[first + mine].ticket <= ticket);
    const u32 skip = (u32)__popc(below) * step;
    first += skip;
    size = step < size - skip ? step : size - skip;
  }
  return first;
}

// best[r], count at first, becomes the lowest i < count for which nonce begin + i solves row r. Every tile with a lower
// nonce than best is searched up to best before the kernel ends, so the result does not depend on who comes first.
extern "C" __global__ void __launch_bounds__(BLOCK, MINB)
mine_tiles(u64* next, u64 tickets, const Segment* segments, u32 n_segments, const Row* rows, u64* best,
           const u32* midstate, const u32* tail, u32 one) {
  const u32 lane = threadIdx.x % LANES;
  for (;;) {
    u64 ticket = 0;
    if (lane == 0) ticket = atomicAdd(next, 1ull);
    ticket = __shfl_sync(ALL, ticket, 0);
    if (ticket >= tickets) return;
    const Segment segment = segments[segment_of(ticket, segments, n_segments, lane)];
    const u64 within = ticket - segment.ticket, turn = within / segment.rows, r = within - turn * segment.rows;
    const Row row = rows[r];
    const u64 size = 1ull << row.tile_bits, end = row.begin + (row.count - 1);
    const u64 tile = ((row.begin >> row.tile_bits) + segment.level + turn) << row.tile_bits;
    const u64 base = tile > row.begin ? tile : row.begin;
    const u64 last = tile + (size - 1) < end ? tile + (size - 1) : end;
    const u64 offset = base - row.begin;
    const u32 length = (u32)(last - base) + 1, steps = (length + LANES - 1) / LANES;
    const u32 limit = (u32)(row.limit >> 32);
    volatile u64* known = best + r;
    u32 i = 0;
    while (i < steps && !__ballot_sync(ALL, *known <= offset + i * LANES)) {
      u32 hash[8], w[16];
      assemble(row, midstate, tail, base, hash, w);
      const Fixed fixed = fix(hash, w);
      // Only the top `width` bits of the word count; the padding below them stays as it is.
      u32 n = w[NW] + ((i * LANES + lane) << (32 - row.width)), word = 0, hits = 0;
      const u32 stride = (u32)LANES << (32 - row.width);
      do {
        const u32 pause = i + PAUSE < steps ? i + PAUSE : steps;
#pragma unroll 1
        for (; i < pause; i++, n += stride) {
          word = first_word(fixed, n, one);
          hits = __ballot_sync(ALL, word <= limit);
          if (hits) break;
        }
      } while (!hits && i < steps && !__ballot_sync(ALL, *known <= offset + i * LANES));
      if (!hits) break;
      // The last lanes of a clipped tile lie beyond it and tried something else.
      const u32 mine = i * LANES + lane;
      bool solves = mine < length && word <= limit;
      if (solves && word == limit) solves = confirm(rows + r, midstate, tail, base + mine);
      hits = __ballot_sync(ALL, solves);
      if (hits) {
        if (lane == (u32)__ffs((int)hits) - 1) atomicMin(best + r, offset + mine);
        break;
      }
      i++;
    }
  }
}
