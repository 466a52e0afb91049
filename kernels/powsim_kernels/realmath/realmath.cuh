// log, exp, exp2 and the normal quantile with the bits of realmath/reference.py. LOG, EXP, .. come from coefficients.py.
//
// Compile without contraction (-fmad=false): steps are fused where __fma_rn stands, and nowhere else.
#pragma once

template <int N>
__device__ __forceinline__ double horner(double x, const double (&k)[N]) {
  double value = k[N - 1];
#pragma unroll
  for (int i = N - 2; i >= 0; i--) value = __fma_rn(value, x, k[i]);
  return value;
}

// A polynomial that begins with 1; the other coefficients by even and odd powers.
__device__ __forceinline__ double from_one(double x, const double (&k)[14]) {
  const double square = x * x;
  double odd = k[12], even = k[13];
#pragma unroll
  for (int i = 10; i >= 2; i -= 2) odd = __fma_rn(odd, square, k[i]);
#pragma unroll
  for (int i = 11; i >= 1; i -= 2) even = __fma_rn(even, square, k[i]);
  return __fma_rn(x, __fma_rn(x, odd, even), 1.0);
}

__device__ __forceinline__ double real_log(double x) {
  constexpr double k[7] = LOG;
  const long long bits = __double_as_longlong(x);
  const long long n = ((bits - ROOT_HALF_BITS + (1023ll << 52)) >> 52) - 1023;
  const double f = __longlong_as_double(bits - (long long)((unsigned long long)n << 52)) - 1.0;
  const double s = f / (2.0 + f), z = s * s, w = z * z;
  const double even = w * __fma_rn(__fma_rn(k[5], w, k[3]), w, k[1]);
  const double rest = __fma_rn(z, __fma_rn(__fma_rn(__fma_rn(k[6], w, k[4]), w, k[2]), w, k[0]), even);
  const double half = 0.5 * f * f;
  return __fma_rn((double)n, LN2_HIGH, f - (half - __fma_rn(s, half + rest, (double)n * LN2_LOW)));
}

__device__ __forceinline__ double real_log1m(double p) {
  constexpr double k[4] = LOG1M;
  if (p <= SMALL) return -__fma_rn(p * p, horner(p, k), p);
  const double u = 1.0 - p;
  if (u == 0.0) return -INFINITE;
  const double lost = (1.0 - u) - p;
  return real_log(u) + __fma_rn(lost, p, lost);
}

__device__ __forceinline__ double power_of_two(double n) {
  return __longlong_as_double((long long)((unsigned long long)((long long)n + 1023) << 52));
}

__device__ __forceinline__ double real_exp(double x) {
  constexpr double k[14] = EXP;
  const double n = (x * LOG2_E + MAGIC) - MAGIC;
  const double r = __fma_rn(-n, LN2_LOW, __fma_rn(-n, LN2_HIGH, x));
  return from_one(r, k) * power_of_two(n);
}

__device__ __forceinline__ double real_exp2(double x) {
  constexpr double k[14] = EXP2;
  const double n = (x + MAGIC) - MAGIC;
  return from_one(x - n, k) * power_of_two(n);
}

__device__ __forceinline__ double normal_quantile(double p) {
  constexpr double ca[8] = CENTRE_ABOVE, cb[8] = CENTRE_BELOW, na[8] = TAIL_ABOVE, nb[8] = TAIL_BELOW;
  constexpr double fa[8] = FAR_ABOVE, fb[8] = FAR_BELOW;
  const double q = p - 0.5;
  if (fabs(q) <= CENTRE) {
    const double r = __fma_rn(-q, q, 0.180625);
    return q * horner(r, ca) / horner(r, cb);
  }
  const double r = __dsqrt_rn(-real_log(q < 0.0 ? p : 1.0 - p));
  const double near = horner(r - 1.6, na) / horner(r - 1.6, nb), far = horner(r - 5.0, fa) / horner(r - 5.0, fb);
  const double value = r <= NEAR ? near : far;
  return q < 0.0 ? -value : value;
}
