// SHA-256 of whole messages, one per thread: digests, and the preparation of challenges for mine.cu.
//
// v1 plain: each thread reads its own bytes one at a time. Digests are a thousandth of a search, so it stays.
#include "sha256.cuh"

INLINE u32 big_endian(const u8* bytes, u64 at, u64 length) {
  u32 word = 0;
  for (int i = 0; i < 4; i++) {
    const u64 p = at + i;
    word = word << 8 | (p < length ? bytes[p] : p == length ? 0x80u : 0u);  // 5.1.1: a one bit, then zeros
  }
  return word;
}

INLINE void load(const u8* bytes, u64 length, u64 block, u32 (&w)[16]) {
#pragma unroll
  for (int i = 0; i < 16; i++) w[i] = big_endian(bytes, 64 * block + 4 * i, length);
  if (block == (length + 8) / 64) {
    w[14] = (u32)(length >> 29);
    w[15] = (u32)(length << 3);
  }
}

// Digests of messages data[offsets[i]] .. data[offsets[i + 1] - 1], eight words each; one message per thread.
extern "C" __global__ void sha256_messages(const u8* data, const u64* offsets, u32* digests, u32 messages) {
  const u32 row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= messages) return;
  const u8* bytes = data + offsets[row];
  const u64 length = offsets[row + 1] - offsets[row], blocks = (length + 8) / 64 + 1;
  u32 state[8], w[16];
#pragma unroll
  for (int i = 0; i < 8; i++) state[i] = INITIAL[i];
  for (u64 block = 0; block < blocks; block++) {
    load(bytes, length, block, w);
    absorb(state, w);
  }
#pragma unroll
  for (int i = 0; i < 8; i++) digests[8 * (u64)row + i] = state[i];
}

// Midstate and padded last block of messages that are challenges with eight zero bytes in place of the nonce.
extern "C" __global__ void prepare(const u8* data, const u64* offsets, u32* midstate, u32* tail, u32 messages) {
  const u32 row = blockIdx.x * blockDim.x + threadIdx.x;
  if (row >= messages) return;
  const u8* bytes = data + offsets[row];
  const u64 length = offsets[row + 1] - offsets[row], whole = length / 64;
  u32 state[8], w[16];
#pragma unroll
  for (int i = 0; i < 8; i++) state[i] = INITIAL[i];
  for (u64 block = 0; block < whole; block++) {
    load(bytes, length, block, w);
    absorb(state, w);
  }
  load(bytes, length, whole, w);
#pragma unroll
  for (int i = 0; i < 8; i++) midstate[8 * (u64)row + i] = state[i];
#pragma unroll
  for (int i = 0; i < 16; i++) tail[16 * (u64)row + i] = w[i];
}
