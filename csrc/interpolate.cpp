// CPU kernel of kernels/interpolate.py, which states the maths. One loop over stretches that share one weight, or have a weight for each
// element.
#include "common.h"

#include <algorithm>

#define LOOP _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i)

namespace gancore {
namespace {

// weight: one number for `period` consecutive elements, of the type computed in.
struct Job {
  const void *real, *fake, *weight;
  void* out;
  int64_t period;
};

// As PyTorch's lerp, which is exact at both ends.
template <class T> GANCORE_INLINE T mixed(T real, T fake, T w) {
  const T apart = real - fake, low = fake + w * apart, high = real - apart * (T(1) - w);
  return (w < T(0) ? -w : w) < T(0.5) ? low : high;
}

template <class S> GANCORE_INLINE void span(const Job& job, int64_t begin, int64_t end) {
  using T = typename Compute<S>::type;
  const S *real = static_cast<const S*>(job.real), *fake = static_cast<const S*>(job.fake);
  const T* weight = static_cast<const T*>(job.weight);
  S* out = static_cast<S*>(job.out);
  if (job.period == 1) {
    const int64_t n = end - begin;
    real += begin, fake += begin, out += begin, weight += begin;
    LOOP store(out[i], mixed(load(real[i]), load(fake[i]), weight[i]));
    return;
  }
  for (int64_t at = begin; at < end;) {
    const int64_t sample = at / job.period, n = std::min((sample + 1) * job.period, end) - at;
    const T w = weight[sample];
    const S *x = real + at, *g = fake + at;
    S* y = out + at;
    LOOP store(y[i], mixed(load(x[i]), load(g[i]), w));
    at += n;
  }
}

// target_clones does not apply to templates.
GANCORE_CLONES void span_of(float, const Job& job, int64_t begin, int64_t end) { span<float>(job, begin, end); }
GANCORE_CLONES void span_of(double, const Job& job, int64_t begin, int64_t end) { span<double>(job, begin, end); }
GANCORE_CLONES void span_of(Bf16, const Job& job, int64_t begin, int64_t end) { span<Bf16>(job, begin, end); }
GANCORE_CLONES void span_of(Half, const Job& job, int64_t begin, int64_t end) { span<Half>(job, begin, end); }

// real, fake and out lie in memory alike; weight is contiguous.
void interpolate_native(const Tensor real, const Tensor fake, const Tensor weight, Tensor out, int64_t period) {
  const int64_t total = real.numel();
  STD_TORCH_CHECK(fake.numel() == total && out.numel() == total, "interpolate: unlike tensors");
  STD_TORCH_CHECK(fake.scalar_type() == real.scalar_type() && out.scalar_type() == real.scalar_type(), "interpolate: unlike types");
  const bool wide = real.scalar_type() == ScalarType::Double;
  STD_TORCH_CHECK(weight.scalar_type() == (wide ? ScalarType::Double : ScalarType::Float), "interpolate: weight of another type");
  STD_TORCH_CHECK(period > 0 && weight.numel() * period == total, "interpolate: ", weight.numel(), " weights for ", total, " elements");
  const Job job{real.const_data_ptr(), fake.const_data_ptr(), weight.const_data_ptr(), out.mutable_data_ptr(), period};
  by_dtype(real.scalar_type(), "interpolate", [&](auto stored) {
    torch::stable::parallel_for(0, total, 16384, [&](int64_t from, int64_t to) { span_of(stored, job, from, to); });
  });
}

}  // namespace
}  // namespace gancore

STABLE_TORCH_LIBRARY_FRAGMENT(gancore, m) {
  m.def("interpolate_native(Tensor real, Tensor fake, Tensor weight, Tensor(a!) out, int period) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(gancore, CPU, m) { m.impl("interpolate_native", TORCH_BOX(&gancore::interpolate_native)); }
