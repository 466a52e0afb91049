// The scalar bounds of bounds.py in CUDA C++: the same formulas, line by line, for one row at one order.
//
// Nothing here cancels (pate.md, section 2.3), so that neither the fusing of products and sums nor the device's exp, log
// and erfcx (1 to 5 ulp) leaves the acceptance rule. What depends on the row alone is worked out once, in `Row`.
#pragma once

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
#define INLINE static __device__ __forceinline__
#define CALLED static __device__ __noinline__  // rare, and long: kept out of the hot loops' registers
#define NOT_A_NUMBER __longlong_as_double(0x7ff8000000000000ll)

#define LEAST_LINEAR 1e-290      // sums of probabilities above this have all their digits
#define LARGEST_EXPONENT 600.0   // above, ln(1 + exp(x)) is x to the last digit
#define LOG_HALF (-0.69314718055994530942)
#define ROOT_2 1.41421356237309504880
#define UNDERFLOW_NEAR 20.0      // below, erfc is far from underflow (26.5)

INLINE double log_erfcx(double x) { return log(erfcx(x)); }
INLINE double log_erfc(double x) { return x < UNDERFLOW_NEAR ? log(erfc(x)) : -x * x + log_erfcx(x); }
INLINE double log_phi(double x) {
  return x <= 0.0 ? LOG_HALF + log_erfc(-x / ROOT_2) : log1p(-0.5 * erfc(x / ROOT_2));
}

// What theorem 6 needs of one row: less = -ln q, mu = sigma sqrt(less), ln A, ln B, 1 - q and its logarithm.
struct Row { double less, mu, la, lb, keep, log_keep; };

INLINE Row shape(double less, double sigma) {
  Row row;
  const double over = 1.0 / (sigma * sigma), mu = sigma * sqrt(less), up = (mu - 1.0) / sigma, x = (2.0 * mu - 1.0) * over;
  const double log_r = -(up * up);
  row.less = less;
  row.mu = mu;
  row.la = mu > 1.0 ? log1p(exp(log_r) * -expm1(-x) / -expm1(log_r)) : 0.0;  // below, no order uses it
  row.lb = (2.0 * mu + 1.0) * over;
  row.keep = -expm1(-less);
  row.log_keep = log(row.keep);
  return row;
}

// ln(1 + (1-q) expm1(k ln A) + q expm1(rise)) / k, whatever underflows or overflows on the way.
INLINE double grown(double k, double la, double less, double rise, double keep, double log_keep) {
  const double exponent = rise - less, other = k * la + log_keep, steepest = fmax(exponent, other);
  if (steepest > LARGEST_EXPONENT) return (steepest + log1p(exp(fmin(exponent, other) - steepest))) / k;
  return log1p(keep * expm1(k * la) + exp(exponent) * -expm1(-rise)) / k;  // q alone may underflow
}

INLINE double theorem_6(const Row& row, double k) {
  return grown(k, row.la, row.less, k * row.lb, row.keep, row.log_keep);
}

// LNMax's cost: the least of e0^2 order / 2, e0 and theorem 3 of 2017, e0 = 2 / scale.
CALLED double rdp_lnmax(double lnq, double scale, double k) {
  const double e0 = 2.0 / scale, least = fmin(e0 * e0 * (k + 1.0) / 2.0, e0);
  if (lnq > -log1p(exp(fmin(e0, 700.0)))) return least;
  const double la = log1p(exp(lnq + e0) * -expm1(-e0) / -expm1(lnq + e0)), keep = -expm1(lnq);
  return fmin(least, grown(k, la, -lnq, k * e0, keep, log(keep)));
}

// Q(x + step) / Q(x) - 1 by Gauss and Legendre's 16 nodes: a difference would cancel for short steps.
CALLED double share_between(double x, double step) {
  const double node[8] = {0.09501250983763744, 0.2816035507792589, 0.45801677765722737, 0.6178762444026438,
                          0.755404408355003,   0.8656312023878318, 0.9445750230732326,  0.9894009349916499};
  const double weight[8] = {0.1894506104550685,  0.18260341504492358, 0.16915651939500254,  0.14959598881657674,
                            0.12462897125553388, 0.09515851168249279, 0.062253523938647894, 0.027152459411754096};
  const double half = 0.5 * step;
  double total = 0.0;
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const double low = half * (1.0 - node[i]), high = half * (1.0 + node[i]);
    total += weight[i] * exp(-low * (x + 0.5 * low));
    total += weight[i] * exp(-high * (x + 0.5 * high));
  }
  return -half * total / (1.25331413731550025121 * erfcx(x / ROOT_2));  // sqrt(pi / 2)
}

// t ((1+b)^-k - 1 + kb), d = t b, exponent = -k ln(1+b): the binomial series where it is short.
CALLED double remainder_of(double k, double b, double log_t, double exponent, double d) {
  if (fabs(b) >= 0.5 || fabs(k * b) >= 2.0)
    return (exponent < 30.0 ? exp(log_t) * expm1(exponent) : exp(log_t + exponent)) + k * d;
  double term = -k * b, total = 0.0;
  for (int n = 1; fabs(term) > 1e-18 * fabs(total); n++) {
    term *= -(k + n) * b / (n + 1);
    total += term;
  }
  return exp(log_t) * total;
}

// The Renyi divergence between bits with chances Q(x) and Q(x + step); bounds.py says how.
CALLED double bit_divergence(double x, double step, double k) {
  const double other = x + step, log_t = log_phi(-x), log_c = log_phi(x);
  double b = fabs(step) < 1.0 && fmax(x, other) * fabs(step) < 8.0 ? share_between(x, step) : 1e300, v, d;
  if (fabs(b) < 0.5) {
    v = -log1p(b);
    d = exp(log_t) * b;
  } else {
    // Squares would cancel in ln Q(x) - ln Q(other): their difference is a product.
    v = other >= 0.0 ? step * (x + other) / 2.0 + log_erfcx(x / ROOT_2) - log_erfcx(other / ROOT_2) : log_t - log_phi(-other);
    b = expm1(fmin(-v, 700.0));
    d = exp(log_t - v) - exp(log_t);
  }
  const double a = d / exp(log_c), u = fabs(a) < 0.5 ? -log1p(-a) : log_c - log_phi(other);
  const double steepest = fmax(log_t + k * v, log_c + k * u);
  if (steepest > LARGEST_EXPONENT) return steepest / k;
  return log1p(remainder_of(k, b, log_t, k * v, d) + remainder_of(k, -a, log_c, k * u, -d)) / k;
}

// The exact cost of the pass/fail bit: the Renyi divergence to one vote less or more, whichever is larger.
INLINE double rdp_screening(double x, double sigma1, double k) {
  return fmax(bit_divergence(x, 1.0 / sigma1, k), bit_divergence(x, -1.0 / sigma1, k));
}
