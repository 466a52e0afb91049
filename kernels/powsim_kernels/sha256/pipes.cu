// Throughput of the pipes that SHA-256 uses: eight independent chains of one instruction, or of a mix, in each thread.
// One block of 1024 threads per multiprocessor; cycles by the multiprocessor's own clock, so that its rate cancels out.
// A multiprocessor does CHAINS * REPEAT * loops * 1024 operations in cycles[block].
typedef unsigned int u32;
#define CHAINS 8
#define REPEAT 64

#ifdef __CUDA_ARCH__
#define LOP3(x) asm volatile("lop3.b32 %0, %0, %1, %2, 0x96;" : "+r"(x) : "r"(c), "r"(k));
#define SHF(x) asm volatile("shf.r.wrap.b32 %0, %0, %0, 7;" : "+r"(x));
#define IMAD(x) asm volatile("mad.lo.u32 %0, %0, %1, %2;" : "+r"(x) : "r"(one), "r"(k));
#define IMAD_HI(x) asm volatile("mul.hi.u32 %0, %0, %1;" : "+r"(x) : "r"(m));
#define IADD3(x) asm volatile("{.reg .u32 t; add.u32 t, %0, %1; add.u32 %0, t, %2;}" : "+r"(x) : "r"(c), "r"(k));
#else
#define LOP3(x) x ^= c ^ k;
#define SHF(x) x = __funnelshift_r(x, x, 7);
#define IMAD(x) x = x * one + k;
#define IMAD_HI(x) x = __umulhi(x, m);
#define IADD3(x) x += c + k;
#endif

#define PROBE(NAME, STEP)                                                                                      \
  extern "C" __global__ void __launch_bounds__(1024) NAME(u32* out, long long* cycles, u32 k, u32 one, int loops) { \
    u32 a[CHAINS];                                                                                             \
    const u32 c = k ^ 0x9e3779b9u, m = one << 22;                                                              \
    (void)c; (void)m;                                                                                          \
    _Pragma("unroll") for (int i = 0; i < CHAINS; i++) a[i] = threadIdx.x * 2654435761u + i * 40503u + k;      \
    __syncthreads();                                                                                           \
    const long long before = clock64();                                                                        \
    _Pragma("unroll 1") for (int l = 0; l < loops; l++) {                                                      \
      _Pragma("unroll") for (int r = 0; r < REPEAT; r++) {                                                     \
        _Pragma("unroll") for (int i = 0; i < CHAINS; i++) { STEP }                                            \
      }                                                                                                        \
    }                                                                                                          \
    __syncthreads();                                                                                           \
    const long long after = clock64();                                                                         \
    u32 sum = 0;                                                                                               \
    _Pragma("unroll") for (int i = 0; i < CHAINS; i++) sum ^= a[i];                                            \
    out[blockIdx.x * blockDim.x + threadIdx.x] = sum;                                                          \
    if (threadIdx.x == 0) cycles[blockIdx.x] = after - before;                                                 \
  }

PROBE(lop3, LOP3(a[i]))
PROBE(shf, SHF(a[i]))
PROBE(iadd3, IADD3(a[i]))
PROBE(imad, IMAD(a[i]))
PROBE(imad_hi, IMAD_HI(a[i]))
PROBE(lop3_imad, if (i & 1) { IMAD(a[i]) } else { LOP3(a[i]) })
PROBE(shf_imad, if (i & 1) { IMAD(a[i]) } else { SHF(a[i]) })
PROBE(shf_lop3, if (i & 1) { LOP3(a[i]) } else { SHF(a[i]) })
PROBE(shf_imad_hi, if ((i & 3) == 3) { IMAD_HI(a[i]) } else { SHF(a[i]) })
PROBE(sha_mix, if (i == 1 || i == 4 || i == 6) { IMAD(a[i]) } else if (i == 2 || i == 7) { LOP3(a[i]) } else { SHF(a[i]) })

// Clocks and nanoseconds of the first multiprocessor over about ns nanoseconds.
extern "C" __global__ void clock_rate(long long* out, long long ns) {
  const long long clocks = clock64();
#ifdef __CUDA_ARCH__
  unsigned long long begin, now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begin));
  do {
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  } while ((long long)(now - begin) < ns);
#else
  const long long begin = 0, now = ns;
#endif
  if (threadIdx.x == 0) {
    out[0] = clock64() - clocks;
    out[1] = (long long)(now - begin);
  }
}
