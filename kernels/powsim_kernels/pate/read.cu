// ln q and the most votes of every row; see votes.cuh for how rows are read.
#include "votes.cuh"

// told[0] becomes the least row that cannot be votes; such rows get NaN.
extern "C" __global__ void __launch_bounds__(BLOCK) read_votes(const VOTE* votes, u64 rows, const Plan* given, double* lnq,
                                                               double* top, u64* told) {
  POOL(pool);
  const Plan& plan = *given;
  unsigned char* room = pool;
  const double* tail = place_table(plan, room);
  for (u64 first = (u64)blockIdx.x * PASS; first < rows; first += (u64)gridDim.x * PASS) {
    const u32 n = rows - first < PASS ? (u32)(rows - first) : PASS;
    const Found found = read_rows(plan, tail, votes, first, n, room);
    if (threadIdx.x < n) {
      lnq[first + threadIdx.x] = log_of(plan, found.q);
      top[first + threadIdx.x] = found.top;
      if (!(found.top >= 0.0)) atomicMin(told, first + threadIdx.x);
    }
  }
}
