// SHA-256 (FIPS 180-4) for one message per thread, and the folded search form of one block: device C++17.
//
// The search form computes only the first digest word of a block in which one 32-bit word, at position NW, differs
// from thread to thread. Whatever does not depend on that word is computed once per tile: the rounds before it, the
// schedule words without it, the fixed terms of the others, the additions of K, of fixed state and of the hash value.
//
// NVIDIA chips since Volta issue integer work to two pipes: rotates, logic and additions to one ("ALU"), multiply-adds
// to the other ("FMA"). SHA-256 has no multiplications, so these macros move work across:
//   ADD_MASK  which additions become a multiply-add by a run-time 1 (PTX mad.lo; a literal 1 would be undone):
//             1 schedule, 2 h+K+W, 4 Ch, 8 Sigma1, 16 d+T1, 32 Maj, 64 Sigma0, 128 W+K
//   SHR_MODE  1: the plain shifts of the schedule as the high half of a product
//   ROT_MODE  n: one rotate of Sigma0 in every n-th round as low plus high half of a product; 0: none
// Their counted cost stands in mine.cu.
#pragma once
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifndef NW
#define NW 12
#endif
#ifndef ADD_MASK
#define ADD_MASK 0
#endif
#ifndef SHR_MODE
#define SHR_MODE 0
#endif
#ifndef ROT_MODE
#define ROT_MODE 0
#endif
static_assert(NW >= 1 && NW <= 13, "NW is the last block word with nonce bytes: 1..13");

#define INLINE static __device__ __forceinline__

// 4.2.2: fractional parts of the cube roots of the first 64 primes.
static __device__ constexpr u32 K[64] = {
  0x428a2f98u,0x71374491u,0xb5c0fbcfu,0xe9b5dba5u,0x3956c25bu,0x59f111f1u,0x923f82a4u,0xab1c5ed5u,
  0xd807aa98u,0x12835b01u,0x243185beu,0x550c7dc3u,0x72be5d74u,0x80deb1feu,0x9bdc06a7u,0xc19bf174u,
  0xe49b69c1u,0xefbe4786u,0x0fc19dc6u,0x240ca1ccu,0x2de92c6fu,0x4a7484aau,0x5cb0a9dcu,0x76f988dau,
  0x983e5152u,0xa831c66du,0xb00327c8u,0xbf597fc7u,0xc6e00bf3u,0xd5a79147u,0x06ca6351u,0x14292967u,
  0x27b70a85u,0x2e1b2138u,0x4d2c6dfcu,0x53380d13u,0x650a7354u,0x766a0abbu,0x81c2c92eu,0x92722c85u,
  0xa2bfe8a1u,0xa81a664bu,0xc24b8b70u,0xc76c51a3u,0xd192e819u,0xd6990624u,0xf40e3585u,0x106aa070u,
  0x19a4c116u,0x1e376c08u,0x2748774cu,0x34b0bcb5u,0x391c0cb3u,0x4ed8aa4au,0x5b9cca4fu,0x682e6ff3u,
  0x748f82eeu,0x78a5636fu,0x84c87814u,0x8cc70208u,0x90befffau,0xa4506cebu,0xbef9a3f7u,0xc67178f2u};
// 5.3.3: fractional parts of the square roots of the first eight primes.
static __device__ constexpr u32 INITIAL[8] = {
  0x6a09e667u,0xbb67ae85u,0x3c6ef372u,0xa54ff53au,0x510e527fu,0x9b05688cu,0x1f83d9abu,0x5be0cd19u};

INLINE u32 rotr(u32 x, int n) { return __funnelshift_r(x, x, n); }
INLINE u32 choose(u32 e, u32 f, u32 g) { return (e & f) ^ (~e & g); }           // (4.2)
INLINE u32 majority(u32 a, u32 b, u32 c) { return (a & b) | (c & (a | b)); }     // (4.3)
INLINE u32 Sigma0(u32 x) { return rotr(x, 2) ^ rotr(x, 13) ^ rotr(x, 22); }      // (4.4)
INLINE u32 Sigma1(u32 x) { return rotr(x, 6) ^ rotr(x, 11) ^ rotr(x, 25); }      // (4.5)

INLINE u32 shift_right(u32 x, int n) { return SHR_MODE ? __umulhi(x, 1u << (32 - n)) : x >> n; }
INLINE u32 sigma0(u32 x) { return rotr(x, 7) ^ rotr(x, 18) ^ shift_right(x, 3); }    // (4.6)
INLINE u32 sigma1(u32 x) { return rotr(x, 17) ^ rotr(x, 19) ^ shift_right(x, 10); }  // (4.7)

// a + b, on the multiply pipe where BIT is in ADD_MASK: plain C a * one + b would be partly turned back into additions.
template <int BIT> INLINE u32 add(u32 a, u32 b, u32 one) {
  if constexpr ((ADD_MASK & BIT) == 0) return a + b;
#ifdef __CUDA_ARCH__
  u32 sum;
  asm("mad.lo.u32 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(one), "r"(b));
  return sum;
#else
  return a * one + b;
#endif
}

// x turned right by N as low + high half of x * 2^(32 - N); the factor is opaque, or the shift would come back.
template <int N> INLINE u32 rotr_by_product(u32 x, u32 one) {
  const u32 factor = one << (32 - N);
#ifdef __CUDA_ARCH__
  u32 turned;
  asm("{.reg .u32 low; mul.lo.u32 low, %1, %2; mad.hi.u32 %0, %1, %2, low;}" : "=r"(turned) : "r"(x), "r"(factor));
  return turned;
#else
  return x * factor + __umulhi(x, factor);
#endif
}

INLINE u32 Sigma0_at(int round, u32 x, u32 one) {
#if ROT_MODE
  if (round % ROT_MODE == 0) return rotr(x, 2) ^ rotr(x, 13) ^ rotr_by_product<22>(x, one);
#endif
  (void)round; (void)one;
  return Sigma0(x);
}

// The hash value after one more block (6.2.2); w is destroyed. Sixteen rounds unrolled keep w in registers.
INLINE void absorb(u32 (&state)[8], u32 (&w)[16]) {
  u32 v[8];
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = state[i];
#pragma unroll 1
  for (int base = 0; base < 64; base += 16) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
      const u32 t1 = v[7] + Sigma1(v[4]) + choose(v[4], v[5], v[6]) + K[base + i] + w[i];
      const u32 t2 = Sigma0(v[0]) + majority(v[0], v[1], v[2]);
      v[7] = v[6]; v[6] = v[5]; v[5] = v[4]; v[4] = v[3] + t1;
      v[3] = v[2]; v[2] = v[1]; v[1] = v[0]; v[0] = t1 + t2;
      // The schedule sixteen words ahead; those of the last pass are not used.
      w[i] += sigma1(w[(i + 14) & 15]) + w[(i + 9) & 15] + sigma0(w[(i + 1) & 15]);
    }
  }
#pragma unroll
  for (int i = 0; i < 8; i++) state[i] += v[i];
}

struct Varying { bool word[64]; };
// Which schedule words depend on block word NW.
static __device__ constexpr Varying varying() {
  Varying t{};
  t.word[NW] = true;
  for (int i = 16; i < 64; i++) t.word[i] = t.word[i - 2] || t.word[i - 7] || t.word[i - 15] || t.word[i - 16];
  return t;
}
static __device__ constexpr Varying VARIES = varying();
static __device__ constexpr bool all_vary(int t) {
  return VARIES.word[t - 2] && VARIES.word[t - 7] && VARIES.word[t - 15] && VARIES.word[t - 16];
}

struct Fixed {
  u32 state[8];   // a..h before round NW
  u32 first[3];   // round NW without its word: T1, d + T1, T1 + T2
  u32 word[64];   // W + K where W is fixed, else the sum of the fixed terms of W
  u32 initial;    // first word of the hash value before this block
};

INLINE Fixed fix(const u32 (&hash)[8], const u32 (&block)[16]) {
  Fixed f;
  u32 v[8];
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = hash[i];
#pragma unroll
  for (int t = 0; t < NW; t++) {
    const u32 t1 = v[7] + Sigma1(v[4]) + choose(v[4], v[5], v[6]) + K[t] + block[t];
    const u32 t2 = Sigma0(v[0]) + majority(v[0], v[1], v[2]);
    v[7] = v[6]; v[6] = v[5]; v[5] = v[4]; v[4] = v[3] + t1;
    v[3] = v[2]; v[2] = v[1]; v[1] = v[0]; v[0] = t1 + t2;
  }
#pragma unroll
  for (int i = 0; i < 8; i++) f.state[i] = v[i];
  f.first[0] = v[7] + Sigma1(v[4]) + choose(v[4], v[5], v[6]) + K[NW];
  f.first[1] = f.first[0] + v[3];
  f.first[2] = f.first[0] + Sigma0(v[0]) + majority(v[0], v[1], v[2]);
  u32 w[64];
#pragma unroll
  for (int t = 0; t < 16; t++) w[t] = t == NW ? 0u : block[t];
#pragma unroll
  for (int t = 16; t < 64; t++) {
    w[t] = 0;
    if (!VARIES.word[t - 16]) w[t] += w[t - 16];
    if (!VARIES.word[t - 15]) w[t] += sigma0(w[t - 15]);
    if (!VARIES.word[t - 7]) w[t] += w[t - 7];
    if (!VARIES.word[t - 2]) w[t] += sigma1(w[t - 2]);
  }
#pragma unroll
  for (int t = 0; t < 64; t++) f.word[t] = VARIES.word[t] ? w[t] : w[t] + K[t];
  f.initial = hash[0];
  return f;
}

// First digest word where block word NW is n.
INLINE u32 first_word(const Fixed& fixed, u32 n, u32 one) {
  u32 w[64];
  w[NW] = n;
  u32 a = fixed.first[2] + n, b = fixed.state[0], c = fixed.state[1], d = fixed.state[2];
  u32 e = fixed.first[1] + n, f = fixed.state[4], g = fixed.state[5], h = fixed.state[6];
#pragma unroll
  for (int t = NW + 1; t < 64; t++) {
    u32 t1;
    if (VARIES.word[t]) {
      bool begun = !all_vary(t);
      u32 sum = fixed.word[t];
      auto term = [&](u32 x) { sum = begun ? add<1>(x, sum, one) : x; begun = true; };
      if (VARIES.word[t - 16]) term(w[t - 16]);
      if (VARIES.word[t - 7]) term(w[t - 7]);
      if (VARIES.word[t - 15]) term(sigma0(w[t - 15]));
      if (VARIES.word[t - 2]) term(sigma1(w[t - 2]));
      w[t] = sum;
      t1 = add<2>(h, add<128>(w[t], t == 63 ? K[t] + fixed.initial : K[t], one), one);
    } else {
      t1 = add<2>(h, fixed.word[t], one);
    }
    t1 = add<4>(choose(e, f, g), t1, one);
    t1 = add<8>(Sigma1(e), t1, one);
    const u32 t2 = add<32>(majority(a, b, c), t1, one);
    h = g; g = f; f = e; e = add<16>(d, t1, one);
    d = c; c = b; b = a; a = add<64>(Sigma0_at(t, a, one), t2, one);
  }
  return a;
}
